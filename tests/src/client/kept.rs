//! A connection that is kept while something happens, by OpenSSL itself: `curl` ends when its requests are answered.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, anyhow, ensure};
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVersion};

use super::{CONNECT_LIMIT, Client, LIMIT, Message};
use crate::{netns, pki::EDGE_FQDN};

impl Client<'_> {
    /// Sends a request without a body, does something, sends the request again over the same connection, and gives both
    /// answers' status codes; none for the second if the connection was cut off meanwhile.
    ///
    /// # Errors
    /// There is no handshake, the first request is not answered, or what was done failed.
    pub fn before_and_after(
        &self,
        message: &Message,
        act: impl FnOnce() -> Result<()> + Send,
    ) -> Result<(u16, Option<u16>)> {
        let connector = self.connector()?;
        let address = self.gateway();
        netns::enter(&self.namespace(), || {
            let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)
                .with_context(|| format!("connecting to {address}"))?;
            stream.set_read_timeout(Some(LIMIT))?;
            let stream = connector
                .connect(EDGE_FQDN, stream)
                .map_err(|error| anyhow!("no handshake: {error}"))?;
            let mut stream = BufReader::new(stream);
            let mut status = || {
                stream.get_mut().write_all(message.bytes().as_bytes())?;
                read_answer(&mut stream).with_context(|| format!("{message} was not answered"))
            };
            let before = status()?;
            act()?;
            match status() {
                Ok(after) => Ok((before, Some(after))),
                Err(error) if is_silence(&error) => Err(error),
                Err(_) => Ok((before, None)),
            }
        })
    }

    /// Begins a handshake, and goes away as soon as the gateway has answered with its part of it.
    ///
    /// # Errors
    /// The gateway can't be reached, or lets the handshake end.
    pub fn abandon(&self) -> Result<()> {
        let connector = self.connector()?;
        let address = self.gateway();
        netns::enter(&self.namespace(), || {
            let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)
                .with_context(|| format!("connecting to {address}"))?;
            stream.set_read_timeout(Some(LIMIT))?;
            let left = connector.connect(EDGE_FQDN, Leaving(stream));
            ensure!(left.is_err(), "the handshake ended");
            Ok(())
        })
    }

    pub(super) fn connector(&self) -> Result<SslConnector> {
        let mut connector = SslConnector::builder(SslMethod::tls_client())?;
        connector.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        connector.set_cipher_list("DHE-RSA-AES256-SHA256")?;
        connector.set_ca_file(&self.lab.pki().server_ca)?;
        if let Some(identity) = &self.identity {
            connector.set_certificate_chain_file(&identity.cert)?;
            connector.set_private_key_file(&identity.key, SslFiletype::PEM)?;
        }
        Ok(connector.build())
    }
}

/// A connection whose client waits for the first answer, and does not read it.
#[derive(Debug)]
struct Leaving(TcpStream);

impl Read for Leaving {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.peek(&mut [0])?;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Write for Leaving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether the gateway neither answered nor ended the connection.
fn is_silence(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
}

/// Reads an answer to its end, and gives its status code.
fn read_answer(stream: &mut impl BufRead) -> Result<u16> {
    let mut line = || -> Result<String> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let first = line()?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("no status code in {first:?}"))?;
    let mut length = None;
    loop {
        let field = line()?;
        match field.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = Some(value.trim().parse::<usize>()?);
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length.context("the answer does not say how long it is")?];
    stream.read_exact(&mut body)?;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_after_the_other() {
        let mut two =
            &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 403 \r\ncontent-length: 0\r\n\r\n"[..];
        assert_eq!(read_answer(&mut two).unwrap(), 200);
        assert_eq!(read_answer(&mut two).unwrap(), 403);
        assert!(read_answer(&mut two).is_err());
    }
}
