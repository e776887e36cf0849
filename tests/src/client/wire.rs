//! Bytes of any kind over a real TLS connection, and what comes back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use openssl::ssl::SslStream;

use super::{Client, LIMIT, Message};
use crate::pki::EDGE_FQDN;

/// A TLS connection that sends what it is given.
#[derive(Debug)]
pub struct Wire {
    stream: SslStream<TcpStream>,
    received: Vec<u8>,
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The status code.
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Client<'_> {
    /// Makes a handshake with the right offer, and keeps the connection.
    ///
    /// # Errors
    /// There is no handshake.
    pub fn wire(&self) -> Result<Wire> {
        Ok(Wire {
            stream: self.dialer()?.connect()?,
            received: Vec::new(),
        })
    }
}

impl Message {
    /// The request as bytes, with the Host field of the gateway.
    #[must_use]
    pub fn bytes(&self) -> String {
        let fields: String = self
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let line = format!("{} {} HTTP/1.1", self.method(), self.target());
        let body = self.body().unwrap_or_default();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        format!("{line}\r\nHost: {EDGE_FQDN}\r\n{fields}{length}\r\n{body}")
    }
}

impl Wire {
    /// Sends bytes.
    ///
    /// # Errors
    /// The gateway has ended the connection.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Sends no more, and lets the other direction open.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn finish(&mut self) -> Result<()> {
        self.stream
            .get_ref()
            .shutdown(Shutdown::Write)
            .context("ending the connection's sending half")
    }

    /// The next answer; none if the connection ends instead.
    ///
    /// # Errors
    /// The connection is broken, or ends within an answer.
    pub fn reply(&mut self) -> Result<Option<Received>> {
        loop {
            if let Some(reply) = self.take_reply()? {
                return Ok(Some(reply));
            }
            if !self.receive()? {
                return self.last_reply();
            }
        }
    }

    /// All answers up to the end of the connection.
    ///
    /// # Errors
    /// As [`Wire::reply`].
    pub fn replies(&mut self) -> Result<Vec<Received>> {
        std::iter::from_fn(|| self.reply().transpose()).collect()
    }

    /// Whether nothing comes within this time.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn is_silent(&mut self, time: Duration) -> Result<bool> {
        self.stream.get_ref().set_read_timeout(Some(time))?;
        let silent = match self.stream.read(&mut [0]) {
            Ok(_) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
            Err(error) => Err(error).context("waiting for nothing"),
        };
        self.stream.get_ref().set_read_timeout(Some(LIMIT))?;
        silent
    }

    fn receive(&mut self) -> Result<bool> {
        let mut buffer = [0; 4096];
        let length = self.stream.read(&mut buffer).context("receiving")?;
        self.received.extend(buffer.iter().take(length));
        Ok(length > 0)
    }

    fn take_reply(&mut self) -> Result<Option<Received>> {
        let Some((head, status, length)) = self.head()? else {
            return Ok(None);
        };
        let Some(body) = self.received.get(head.len()..head.len() + length) else {
            return Ok(None);
        };
        let body = String::from_utf8(body.to_owned())?;
        self.received.drain(..head.len() + length);
        Ok(Some(Received { status, head, body }))
    }

    /// What is left at the end of the connection: nothing, or an answer to HEAD, which names the length of no body.
    fn last_reply(&mut self) -> Result<Option<Received>> {
        if self.received.is_empty() {
            return Ok(None);
        }
        let left = || {
            anyhow!(
                "the connection ended within an answer: {:?}",
                String::from_utf8_lossy(&self.received)
            )
        };
        let (head, status, _) = self.head()?.with_context(left)?;
        if head.len() != self.received.len() {
            return Err(left());
        }
        self.received.clear();
        Ok(Some(Received {
            status,
            head,
            body: String::new(),
        }))
    }

    fn head(&self) -> Result<Option<(String, u16, usize)>> {
        let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8(self.received.iter().take(end + 4).copied().collect())?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
        let status = status.with_context(|| format!("no status code in {head:?}"))?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse())
        });
        let length = match length {
            Some(length) => length?,
            None if status < 200 => 0,
            None => return Err(anyhow!("an answer does not say how long it is: {head:?}")),
        };
        Ok(Some((head, status, length)))
    }
}
