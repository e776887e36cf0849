//! A connection that is kept while something happens, by OpenSSL itself: `curl` ends when its requests are answered.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, ensure};
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVersion};

use super::{Client, LIMIT, Message};
use crate::pki::EDGE_FQDN;

impl Client<'_> {
    /// Sends a request without a body, does something, sends the request again over the same connection, and gives both
    /// answers' status codes; none for the second if the connection was cut off meanwhile.
    ///
    /// # Errors
    /// There is no handshake, the first request is not answered, or what was done failed.
    pub fn before_and_after(
        &self,
        message: &Message,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<(u16, Option<u16>)> {
        let mut line = self.line()?;
        let mut status = || {
            let heard = line.ask(message);
            Ok(heard
                .with_context(|| format!("{message} was not answered"))?
                .status)
        };
        let before = status()?;
        act()?;
        match status() {
            Ok(after) => Ok((before, Some(after))),
            Err(error) if is_silence(&error) => Err(error),
            Err(_) => Ok((before, None)),
        }
    }

    /// Begins a handshake, and goes away as soon as the gateway has answered with its part of it.
    ///
    /// # Errors
    /// The gateway can't be reached, or lets the handshake end.
    pub fn abandon(&self) -> Result<()> {
        let left = self.connector()?.connect(EDGE_FQDN, Leaving(self.bounded()?));
        ensure!(left.is_err(), "the handshake ended");
        Ok(())
    }

    /// A bare connection on which nothing is waited for without end.
    pub(super) fn bounded(&self) -> Result<TcpStream> {
        let stream = self.connect()?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
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
