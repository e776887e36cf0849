//! Real clients, run in a host's namespace: `curl` for requests, `openssl s_client` for handshakes, OpenSSL itself for a
//! connection that is kept, a bare socket for the rest.

mod bend;
mod handshake;
mod kept;
mod line;
mod message;
mod pointer;
mod request;
mod wire;

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

pub use handshake::{Handshake, Offer, Session};
pub use line::{Dialer, Heard, Line};
pub use message::{Message, Token};
pub use pointer::{NHS_NUMBER, OTHER_NHS_NUMBER, identifier_of, pointer, superseding};
pub use request::{Answer, Outcome};
pub use wire::{Received, Wire};

use crate::{
    lab::Lab,
    netns::{self, Family, Host},
    pki::Identity,
};

/// How long a client waits for a connection. A SYN that is dropped gets no answer, so this is what each drop costs a test.
const CONNECT_LIMIT: Duration = Duration::from_millis(900);
const LIMIT: Duration = Duration::from_secs(10);

/// A client on a host of the lab.
#[derive(Clone, Debug)]
pub struct Client<'l> {
    lab: &'l Lab,
    host: Host,
    identity: Option<Identity>,
    family: Family,
    patience: Duration,
}

impl<'l> Client<'l> {
    pub(crate) fn new(lab: &'l Lab, host: Host) -> Self {
        let identity = match host {
            Host::Ssp => lab.pki().leaf("good").ok(),
            Host::System => lab.pki().leaf("system").ok(),
            Host::Edge | Host::Stranger => None,
        };
        Self {
            lab,
            host,
            identity: identity.cloned(),
            family: Family::V4,
            patience: CONNECT_LIMIT,
        }
    }

    /// Waits longer for its handshake: for a gateway that has much to do.
    #[must_use]
    pub fn patient(self) -> Self {
        Self {
            patience: LIMIT,
            ..self
        }
    }

    /// With the certificate of this name in `lab.json`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn with(self, leaf: &str) -> Result<Self> {
        let identity = self.lab.pki().leaf(leaf)?.clone();
        Ok(Self {
            identity: Some(identity),
            ..self
        })
    }

    /// With a certificate of one's own.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self {
            identity: Some(identity),
            ..self
        }
    }

    /// Without a certificate.
    #[must_use]
    pub fn without_certificate(self) -> Self {
        Self {
            identity: None,
            ..self
        }
    }

    /// Over this IP version.
    #[must_use]
    pub fn over(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// The client's address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.host.address(self.family)
    }

    /// The client's address as text.
    #[must_use]
    pub fn address(&self) -> String {
        self.ip().to_string()
    }

    /// Opens a TCP connection to the gateway, and closes it.
    ///
    /// # Errors
    /// The namespace can't be entered, or the kernel gave an answer that is none of the three.
    pub fn knock(&self) -> Result<Knock> {
        self.knock_at(self.gateway())
    }

    /// Opens a TCP connection to a port of the edge host, and closes it.
    ///
    /// # Errors
    /// As [`Client::knock`].
    pub fn knock_at(&self, address: SocketAddr) -> Result<Knock> {
        netns::enter(&self.namespace(), || {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                Ok(_) => Ok(Knock::Opened),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Knock::Refused),
                Err(error) if error.kind() == ErrorKind::TimedOut => Ok(Knock::Silence),
                Err(error) => Err(error).with_context(|| format!("connecting to {address}")),
            }
        })
    }

    /// Opens a bare TCP connection to the gateway, for the test to hold.
    ///
    /// # Errors
    /// The connection can't be opened.
    pub fn connect(&self) -> Result<TcpStream> {
        let address = self.gateway();
        netns::enter(&self.namespace(), || {
            TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connecting to {address}"))
        })
    }

    /// Sends bytes over a bare TCP connection, and gives what comes back until the gateway closes it.
    ///
    /// # Errors
    /// The connection can't be opened.
    pub fn raw(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let address = self.gateway();
        netns::enter(&self.namespace(), || {
            let mut stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)
                .with_context(|| format!("connecting to {address}"))?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(bytes)?;
            let mut answer = Vec::new();
            // A reset ends the answer as well as a close does.
            let _ = stream.read_to_end(&mut answer);
            Ok(answer)
        })
    }

    /// Sends bytes over a bare TCP connection, and gives the first that comes back; then it goes away.
    ///
    /// # Errors
    /// The connection can't be opened, or nothing comes in time.
    pub fn begin(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(bytes)?;
        let mut answer = vec![0; 1024];
        let length = stream.read(&mut answer).context("waiting for an answer")?;
        answer.truncate(length);
        Ok(answer)
    }

    /// Sends bytes over a bare TCP connection, says that no more come if `whole`, and waits for the end, or else for an
    /// answer, but not long: the gateway may be waiting for more.
    ///
    /// # Errors
    /// The connection can't be opened.
    pub fn offer(&self, bytes: &[u8], whole: bool) -> Result<()> {
        const SHORT: Duration = Duration::from_millis(100);
        let mut stream = self.connect()?;
        // A gateway that has heard enough may have closed already.
        let _ = stream.write_all(bytes);
        if whole {
            stream.set_read_timeout(Some(LIMIT))?;
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        } else {
            stream.set_read_timeout(Some(SHORT))?;
            let _ = stream.read(&mut [0; 16]);
        }
        Ok(())
    }

    fn namespace(&self) -> String {
        self.lab.network().namespace(self.host)
    }

    fn gateway(&self) -> SocketAddr {
        self.lab.gateway(self.family)
    }
}

/// What a SYN met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    /// A listener.
    Opened,
    /// A host without a listener: its kernel answered.
    Refused,
    /// Nothing: the SYN and its repetitions are lost.
    Silence,
}

impl Knock {
    /// The outcome in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "connection opened",
            Self::Refused => "connection refused by the host",
            Self::Silence => "no answer at all",
        }
    }
}
