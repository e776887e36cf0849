//! A connection on which a test says what is sent and when: half a request, a request after a pause, nothing at all.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use openssl::ssl::{SslConnector, SslStream};

use super::{Client, LIMIT, Message};
use crate::{netns, pki::EDGE_FQDN};

/// An open connection behind its handshake.
#[derive(Debug)]
pub struct Line(BufReader<SslStream<TcpStream>>);

/// An answer.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Heard {
    fn read(stream: &mut impl BufRead) -> Result<Self> {
        let mut line = || -> Result<String> {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        let first = line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no status code in {first:?}"))?;
        let mut headers = Vec::new();
        while let Some((name, value)) = line()?.split_once(':') {
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut heard = Self {
            status,
            headers,
            body: String::new(),
        };
        let length = heard
            .header("content-length")
            .context("the answer does not say how long it is")?;
        let mut body = vec![0; length.parse()?];
        stream.read_exact(&mut body)?;
        heard.body = String::from_utf8_lossy(&body).into_owned();
        Ok(heard)
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(one, _)| one.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// Whether the gateway ends the connection after it.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Client<'_> {
    /// Opens a connection, and finishes its handshake.
    ///
    /// # Errors
    /// Nobody listens, or the handshake fails.
    pub fn line(&self) -> Result<Line> {
        self.dialer()?.line()
    }

    /// What opens connections as this client, also while the lab changes.
    ///
    /// # Errors
    /// The client's certificate can't be read.
    pub fn dialer(&self) -> Result<Dialer> {
        Ok(Dialer {
            connector: self.connector()?,
            namespace: self.namespace(),
            address: self.gateway(),
        })
    }
}

/// What opens connections.
#[derive(Clone, Debug)]
pub struct Dialer {
    connector: SslConnector,
    namespace: String,
    address: SocketAddr,
}

impl Dialer {
    /// Opens a connection, and finishes its handshake.
    ///
    /// # Errors
    /// Nobody listens, or the handshake fails.
    pub fn line(&self) -> Result<Line> {
        Ok(Line(BufReader::new(self.connect()?)))
    }

    /// The same, for whoever reads otherwise.
    pub(super) fn connect(&self) -> Result<SslStream<TcpStream>> {
        let address = self.address;
        let stream = netns::enter(&self.namespace, || {
            TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connecting to {address}"))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        self.connector
            .connect(EDGE_FQDN, stream)
            .map_err(|error| anyhow!("no handshake: {error}"))
    }
}

impl Line {
    /// Sends a request, and reads its answer.
    ///
    /// # Errors
    /// The connection ends before.
    pub fn ask(&mut self, message: &Message) -> Result<Heard> {
        self.send(&message.bytes())?;
        self.reply()
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.0.get_mut().write_all(text.as_bytes())?)
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// The connection ends before, or nothing comes in time.
    pub fn reply(&mut self) -> Result<Heard> {
        Heard::read(&mut self.0)
    }

    /// Leaves little room for what comes and is not read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_little(&self) -> Result<()> {
        use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
        Ok(setsockopt(self.0.get_ref().get_ref(), RcvBuf, &4096)?)
    }

    /// Whether the gateway ends the connection within a time, without a word.
    ///
    /// # Errors
    /// It says something instead.
    pub fn ends_within(&mut self, limit: Duration) -> Result<bool> {
        self.0.get_ref().get_ref().set_read_timeout(Some(limit))?;
        let ended = match self.0.fill_buf() {
            Ok([]) => Ok(true),
            Ok(bytes) => Err(anyhow!("{} bytes came", bytes.len())),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Ok(false)
            }
            // A reset ends it as well.
            Err(_) => Ok(true),
        };
        self.0.get_ref().get_ref().set_read_timeout(Some(LIMIT))?;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_after_the_other() {
        let mut two =
            &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 403 \r\ncontent-length: 0\r\n\r\n"[..];
        assert_eq!(Heard::read(&mut two).unwrap().status, 200);
        assert_eq!(Heard::read(&mut two).unwrap().status, 403);
        assert!(Heard::read(&mut two).is_err());
    }
}
