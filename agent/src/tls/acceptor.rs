//! The handshake: from a socket to a verified client, or to a refusal.

use std::{pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslContext, SslRef},
};
use spinegate_common::Reason;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_openssl::SslStream;

use super::{
    Loaded, Refusal, Trust, VerifiedClient,
    context::{Outcome, outcome_index},
};

/// A refused client has this long to read the alert before the connection is cut.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 64 * 1024;

/// Accepts handshakes by the context and the trust in force.
pub struct Acceptor {
    current: ArcSwap<Generation>,
}

/// What was negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The protocol version.
    pub version: &'static str,
    /// OpenSSL's name of the suite.
    pub cipher: String,
    /// Whether the extended master secret (RFC 7627) is in use.
    pub extended_master_secret: bool,
}

/// What was in force at some time.
pub struct InForce(Arc<Generation>);

/// Context and trust belong together: a handshake sees both of one load.
pub(super) struct Generation {
    pub(super) context: SslContext,
    pub(super) trust: Arc<Trust>,
    pub(super) handshake_timeout: Duration,
}

impl Acceptor {
    /// Begins with what was loaded.
    #[must_use]
    pub fn new(loaded: Loaded) -> Self {
        Self {
            current: ArcSwap::from_pointee(loaded.generation),
        }
    }

    /// Puts another load in force for every handshake that begins from now on, and for rechecks. Gives the one that was
    /// in force.
    pub fn swap(&self, loaded: Loaded) -> InForce {
        InForce(self.current.swap(Arc::new(loaded.generation)))
    }

    /// Puts what was in force before in force again.
    pub fn restore(&self, before: InForce) {
        self.current.store(before.0);
    }

    /// The trust in force.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.current.load().trust)
    }

    /// Runs a handshake.
    ///
    /// # Errors
    /// The one reason why it ended without a verified client. The client has then been sent its alert.
    pub async fn accept<S>(&self, stream: S) -> Result<(SslStream<S>, VerifiedClient, Session), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let generation = self.current.load_full();
        let (mut stream, outcome) = prepare(&generation.context, stream)
            .map_err(|error| Refusal::new(Reason::HandshakeMalformed, error.to_string()))?;
        let accepted = timeout(generation.handshake_timeout, Pin::new(&mut stream).accept()).await;
        let judged = outcome
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let refusal = match (accepted, judged) {
            (Ok(Ok(())), Some(Ok(client))) => {
                let session = session(stream.ssl());
                return Ok((stream, client, session));
            }
            (_, Some(Err(refusal))) => refusal,
            (Ok(Ok(())), None) => Refusal::new(Reason::CertificateMissing, "no certificate was judged"),
            (Ok(Err(error)), _) => Refusal::of_error(&error),
            (Err(_), _) => {
                let limit = humantime::format_duration(generation.handshake_timeout);
                Refusal::new(Reason::HandshakeTimeout, format!("not finished within {limit}"))
            }
        };
        linger(stream.get_mut()).await;
        Err(refusal)
    }
}

fn prepare<S>(context: &SslContext, stream: S) -> Result<(SslStream<S>, Outcome), ErrorStack>
where
    S: AsyncRead + AsyncWrite,
{
    let outcome = Outcome::default();
    let mut ssl = Ssl::new(context)?;
    ssl.set_ex_data(outcome_index()?, Arc::clone(&outcome));
    Ok((SslStream::new(ssl, stream)?, outcome))
}

fn session(ssl: &SslRef) -> Session {
    Session {
        version: ssl.version_str(),
        cipher: ssl
            .current_cipher()
            .map_or("none", |cipher| cipher.name())
            .to_owned(),
        extended_master_secret: ssl.extms_support() == Some(true),
    }
}

/// Closing a socket with unread bytes resets the connection, and the reset overtakes the alert.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let reading = async {
        stream.shutdown().await?;
        let mut unread = stream.take(LINGER_BYTES);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    // However it ends, the connection is over.
    let _ = timeout(LINGER, reading).await;
}
