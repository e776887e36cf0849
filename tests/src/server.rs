//! A listener in a namespace with a thread for each connection: what the tests' own servers stand on. All of it ends when
//! it is dropped.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::netns;

/// How often a server looks whether it is to stop.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to serve at an address of a namespace. `serve` gets each connection, with its number from 0, and is to look
    /// at the flag, which says that it has to end.
    pub(crate) fn open<F>(namespace: &str, address: SocketAddr, serve: F) -> Result<Self>
    where
        F: Fn(TcpStream, usize, &AtomicBool) + Send + Sync + 'static,
    {
        let listener = netns::enter(namespace, || Ok(TcpListener::bind(address)?))
            .with_context(|| format!("serving {address} in {namespace}"))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let acceptor = thread::spawn({
            let stop = Arc::clone(&stop);
            move || accept(&listener, &stop, &serve)
        });
        Ok(Self {
            stop,
            acceptor: Some(acceptor),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept<F>(listener: &TcpListener, stop: &AtomicBool, serve: &F)
where
    F: Fn(TcpStream, usize, &AtomicBool) + Sync,
{
    thread::scope(|scope| {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(false).is_ok() {
                        scope.spawn(move || serve(stream, number, stop));
                        number += 1;
                    }
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    });
}
