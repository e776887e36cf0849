//! A plain service on a host that sends back what it gets, and its client: real TCP and UDP without TLS in between.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::netns;

/// How long a client waits for what comes back at once or never.
const PATIENCE: Duration = Duration::from_millis(700);
const POLL: Duration = Duration::from_millis(50);
/// No UDP datagram is larger.
const LARGEST: usize = 1 << 16;

/// A running service. It ends when dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    senders: Arc<Mutex<Vec<IpAddr>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Begins to serve a port of a namespace, TCP and UDP, at all its addresses.
    ///
    /// # Errors
    /// The namespace is not there, or the port is taken.
    pub fn open(namespace: &str, port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let (listener, socket) = netns::enter(namespace, || {
            let opened = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
            Ok(opened)
        })
        .with_context(|| format!("serving port {port} in {namespace}"))?;
        listener.set_nonblocking(true)?;
        socket.set_read_timeout(Some(POLL))?;
        let (stop, senders) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let threads = vec![
            thread::spawn({
                let stop = Arc::clone(&stop);
                move || accept(&listener, &stop)
            }),
            thread::spawn({
                let (stop, senders) = (Arc::clone(&stop), Arc::clone(&senders));
                move || answer(&socket, &stop, &senders)
            }),
        ];
        Ok(Self {
            stop,
            senders,
            threads,
        })
    }

    /// How many datagrams of a source have reached it.
    #[must_use]
    pub fn datagrams(&self, source: IpAddr) -> usize {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.iter().filter(|sender| **sender == source).count()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    let mut serving = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = Arc::clone(stop);
                serving.push(thread::spawn(move || {
                    // A client that breaks off is no concern of the service.
                    let _ = serve(stream, &stop);
                }));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    for thread in serving {
        let _ = thread.join();
    }
}

fn serve(mut stream: TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(POLL))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut bytes = vec![0; LARGEST];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(length) => stream.write_all(bytes.get(..length).unwrap_or_default())?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn answer(socket: &UdpSocket, stop: &AtomicBool, senders: &Mutex<Vec<IpAddr>>) {
    let mut bytes = vec![0; LARGEST];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, source)) = socket.recv_from(&mut bytes) {
            senders
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(source.ip().to_canonical());
            let _ = socket.send_to(bytes.get(..length).unwrap_or_default(), source);
        }
    }
}

/// An open connection to a service.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// Opens one from a namespace.
    ///
    /// # Errors
    /// Nobody answers in time.
    pub fn open(namespace: &str, service: SocketAddr) -> Result<Self> {
        let stream = netns::enter(namespace, || {
            TcpStream::connect_timeout(&service, PATIENCE)
                .with_context(|| format!("connecting from {namespace} to {service}"))
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self(stream))
    }

    /// Sends bytes, of which no more are under way than buffers hold, and checks that they all come back.
    ///
    /// # Errors
    /// They don't.
    pub fn exchange(&mut self, length: usize) -> Result<()> {
        let sent: Vec<u8> = (0_u8..251).cycle().take(LARGEST).collect();
        let mut received = vec![0; LARGEST];
        let mut left = length;
        while left > 0 {
            let chunk = left.min(LARGEST);
            let (sent, received) = (
                sent.get(..chunk).unwrap_or_default(),
                received.get_mut(..chunk).unwrap_or_default(),
            );
            self.0.write_all(sent).context("sending")?;
            self.0.read_exact(received).context("what was sent comes back")?;
            ensure!(sent == received, "other bytes came back than were sent");
            left -= chunk;
        }
        Ok(())
    }
}

/// Whether anything answers a connection that is asked for from a namespace, be it a service or the host that refuses.
///
/// # Errors
/// The namespace is not there, or the connection fails in another way.
pub fn answers(namespace: &str, service: SocketAddr) -> Result<bool> {
    netns::enter(namespace, || {
        match TcpStream::connect_timeout(&service, PATIENCE) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error).with_context(|| format!("connecting from {namespace} to {service}")),
        }
    })
}

/// Sends a datagram from a namespace, and tells whether it came back whole.
///
/// # Errors
/// It can't be sent.
pub fn datagram(namespace: &str, service: SocketAddr, length: usize) -> Result<bool> {
    netns::enter(namespace, || {
        let local: IpAddr = if service.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((local, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let sent: Vec<u8> = (0_u8..251).cycle().take(length).collect();
        socket
            .send_to(&sent, service)
            .with_context(|| format!("sending {length} bytes from {namespace} to {service}"))?;
        let mut received = vec![0; LARGEST];
        match socket.recv(&mut received) {
            Ok(length) => Ok(received.get(..length) == Some(&sent)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error).context("waiting for the datagram to come back"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_back_over_tcp_and_udp() {
        // The namespace of this process, by the name that `ip netns` would give it.
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: entering a network namespace needs root");
            return;
        }
        let name = format!("sg-echo-{}", std::process::id());
        let ip = |arguments: &[&str]| crate::command::Run::new("ip").args(arguments).success().unwrap();
        ip(&["netns", "add", &name]);
        ip(&["-netns", &name, "link", "set", "dev", "lo", "up"]);
        let done = std::panic::catch_unwind(|| {
            let echo = Echo::open(&name, 7).unwrap();
            let service = "127.0.0.1:7".parse().unwrap();
            Connection::open(&name, service)
                .unwrap()
                .exchange(100_000)
                .unwrap();
            assert!(datagram(&name, service, 4_000).unwrap());
            assert!(!datagram(&name, "127.0.0.1:9".parse().unwrap(), 1).unwrap_or(false));
            assert_eq!(echo.datagrams([127, 0, 0, 1].into()), 1);
        });
        ip(&["netns", "del", &name]);
        done.unwrap();
    }
}
