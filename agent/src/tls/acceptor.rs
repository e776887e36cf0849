//! The handshake: from a socket to a verified client, or to a refusal.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use openssl::{
    error::ErrorStack,
    ssl::{Error, ErrorCode, Ssl, SslContext, SslRef, SslStream},
};
use spinegate_common::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{
    Expiry, Loaded, Refusal, Trust, VerifiedClient, Wanted, expiry,
    hello::Demands,
    pool::{HandshakeLoad, Pool, Step, Unserved},
    progress::Progress,
    revocation::Reading,
    sessions::Sessions,
    stream::{Socket, TlsStream, wants},
};
use crate::config;

/// A refused client has this long to read the alert before the connection is cut.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 64 * 1024;

/// Accepts handshakes by the context and the trust in force.
pub struct Acceptor {
    current: ArcSwap<Generation>,
    pool: Pool,
    changes: watch::Sender<()>,
    wanted: Wanted,
    /// Held while what is in force changes: nothing that was learnt of revocation meanwhile may be lost.
    changing: Mutex<()>,
}

/// What was negotiated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The protocol version.
    pub version: &'static str,
    /// OpenSSL's name of the suite.
    pub cipher: String,
    /// Whether the extended master secret (RFC 7627) is in use.
    pub extended_master_secret: bool,
    /// Whether encrypt-then-MAC (RFC 7366) is in use.
    pub encrypt_then_mac: bool,
    /// Whether the client took up an earlier session.
    pub resumed: bool,
}

/// What was in force at some time.
pub struct InForce(Arc<Generation>);

/// What came of reading the CRLs again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reread {
    /// The CRLs that are in force since, one a line.
    pub news: Vec<String>,
    /// What is wrong with the files.
    pub faults: Vec<String>,
}

/// Context and trust belong together: a handshake sees both of one load.
#[derive(Clone)]
pub(super) struct Generation {
    context: SslContext,
    demands: Demands,
    trust: Arc<Trust>,
    handshake_timeout: Duration,
    sessions: Option<Arc<Sessions>>,
}

/// Why a handshake did not end well, and its connection where it can still be spoken to.
enum Failure {
    Tls(SslStream<Socket>, Error),
    Unserved(Unserved),
}

impl Generation {
    /// When each part of it ends, by kind, the earliest of each first.
    pub(super) fn expiries(&self) -> Vec<Expiry> {
        expiry::of(self.context.certificate(), &self.trust)
    }

    pub(super) const fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    pub(super) fn new(config: &config::Tls, context: SslContext, trust: Arc<Trust>) -> Self {
        Self {
            context,
            demands: Demands::of(config),
            trust,
            handshake_timeout: config.handshake_timeout,
            sessions: config.resumption.then(Arc::default),
        }
    }
}

impl Acceptor {
    /// Begins with what was loaded, and with threads for the handshakes' arithmetic. Tells `wanted` which CRLs clients need.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(config: &config::Tls, loaded: Loaded, wanted: Wanted) -> std::io::Result<Self> {
        Ok(Self {
            current: ArcSwap::from_pointee(loaded.generation),
            pool: Pool::start(config.handshake_threads, config.handshake_queue)?,
            changes: watch::Sender::new(()),
            wanted,
            changing: Mutex::new(()),
        })
    }

    /// Puts another load in force for every handshake that begins from now on, and for rechecks. Gives the one that was
    /// in force.
    pub fn swap(&self, loaded: Loaded) -> InForce {
        InForce(self.replace(loaded.generation))
    }

    /// Puts what was in force before in force again, but for what was learnt of revocation since.
    pub fn restore(&self, before: InForce) {
        self.replace(Arc::unwrap_or_clone(before.0));
    }

    fn replace(&self, mut generation: Generation) -> Arc<Generation> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let trust = Arc::unwrap_or_clone(generation.trust).after(&self.current.load().trust);
        generation.trust = Arc::new(trust);
        let before = self.current.swap(Arc::new(generation));
        self.changes.send_replace(());
        before
    }

    /// Reads the CRLs again, from where those in force are from, and puts them in force, without a new context: what was
    /// read badly stays as it was. Blocks while it reads.
    #[must_use]
    pub fn reread_crls(&self) -> Reread {
        let trust = self.trust();
        let anchors = trust.anchors();
        let Reading { revocations, faults } = trust.revocations().read_again(&anchors.authorities());
        let faults: Vec<_> = faults.into_iter().map(|fault| fault.message).collect();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        if !Arc::ptr_eq(current.trust.anchors(), anchors) {
            // A reload was faster, and has read them too.
            return Reread::default();
        }
        let trust = current.trust.with_crls(revocations, faults.clone());
        let news = trust.crl_news(&current.trust);
        self.current.store(Arc::new(Generation {
            trust: Arc::new(trust),
            ..Generation::clone(&current)
        }));
        self.changes.send_replace(());
        Reread { news, faults }
    }

    /// Where the CRLs in force are read from.
    #[must_use]
    pub fn crl_sources(&self) -> Vec<PathBuf> {
        self.trust().revocations().sources()
    }

    /// The trust in force.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.current.load().trust)
    }

    /// When each part of what is in force ends, by kind, the earliest of each first.
    #[must_use]
    pub fn expiries(&self) -> Vec<Expiry> {
        self.current.load().expiries()
    }

    /// How much the threads for handshakes have to do.
    #[must_use]
    pub fn handshakes(&self) -> HandshakeLoad {
        self.pool.load()
    }

    /// Tells of each change of what is in force.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Has every open connection judged again, after something was learnt about a certificate.
    pub fn announce(&self) {
        self.changes.send_replace(());
    }

    /// Runs a handshake. Its arithmetic is done by the pool, which is fair to each `source`.
    ///
    /// # Errors
    /// The one reason why it ended without a verified client. The client has then been sent its alert.
    pub async fn accept(
        &self,
        stream: TcpStream,
        source: IpAddr,
    ) -> Result<(TlsStream, VerifiedClient, Session), Refusal> {
        let generation = self.current.load_full();
        let progress = Progress::new(
            Arc::clone(&generation.trust),
            generation.sessions.clone(),
            self.wanted.clone(),
            generation.demands,
        );
        let stream = prepare(&generation.context, &progress, stream)
            .map_err(|error| Refusal::new(Reason::HandshakeMalformed, error.to_string()))?;
        let limit = generation.handshake_timeout;
        match timeout(limit, self.shake_hands(stream, &progress, source)).await {
            Ok(Ok(stream)) => {
                let session = session(stream.ssl(), &progress);
                let client = progress.client(session.resumed)?;
                Ok((TlsStream::new(stream), client, session))
            }
            Ok(Err(failure)) => Err(refuse(failure, &progress).await),
            Err(_) => {
                let limit = humantime::format_duration(limit);
                Err(progress.refusal().unwrap_or_else(|| {
                    Refusal::new(Reason::HandshakeTimeout, format!("not finished within {limit}"))
                }))
            }
        }
    }

    /// Reads the ClientHello here, and has the pool do everything after it.
    async fn shake_hands(
        &self,
        mut stream: SslStream<Socket>,
        progress: &Progress,
        source: IpAddr,
    ) -> Result<SslStream<Socket>, Failure> {
        loop {
            match stream.accept() {
                // OpenSSL asks the hello's callback first.
                Ok(()) => return Ok(stream),
                Err(error) if error.code() == ErrorCode::WANT_CLIENT_HELLO_CB => break,
                Err(error) => stream = wait(stream, error).await?,
            }
        }
        progress.admit();
        loop {
            let advanced = self.pool.advance(stream, source, progress.has_begun()).await;
            let Step { stream: back, result } = advanced.map_err(Failure::Unserved)?;
            match result {
                Ok(()) => return Ok(back),
                Err(error) => stream = wait(back, error).await?,
            }
        }
    }
}

/// Waits for what OpenSSL waits for, or gives up.
async fn wait(stream: SslStream<Socket>, error: Error) -> Result<SslStream<Socket>, Failure> {
    let Some(wants) = wants(&error) else {
        return Err(Failure::Tls(stream, error));
    };
    match stream.get_ref().ready(wants).await {
        Ok(()) => Ok(stream),
        Err(_) => Err(Failure::Unserved(Unserved::PeerGone)),
    }
}

/// The one reason of a failure. What the rules said is before what OpenSSL made of it.
async fn refuse(failure: Failure, progress: &Progress) -> Refusal {
    let (refusal, stream) = match failure {
        Failure::Tls(stream, error) => (Refusal::of_error(&error), Some(stream)),
        Failure::Unserved(Unserved::Shed) => {
            let detail = "its source had the most handshakes waiting";
            (Refusal::new(Reason::HandshakeQueueFull, detail), None)
        }
        Failure::Unserved(Unserved::PeerGone) => {
            let detail = "while its handshake waited";
            (Refusal::new(Reason::PeerClosed, detail), None)
        }
        Failure::Unserved(Unserved::Failed) => {
            let detail = "the handshake broke off within the gateway";
            (Refusal::new(Reason::HandshakeMalformed, detail), None)
        }
    };
    let mut refusal = progress.refusal().unwrap_or(refusal);
    if refusal.reason == Reason::PeerClosed && progress.has_begun() {
        refusal.reason = Reason::HandshakeAbandoned;
    }
    if let Some(mut stream) = stream {
        linger(stream.get_mut().stream()).await;
    }
    refusal
}

fn prepare(
    context: &SslContext,
    progress: &Progress,
    stream: TcpStream,
) -> Result<SslStream<Socket>, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    progress.attach(&mut ssl)?;
    SslStream::new(ssl, Socket::new(stream))
}

fn session(ssl: &SslRef, progress: &Progress) -> Session {
    let cipher = ssl.current_cipher().map_or("none", |cipher| cipher.name());
    // Only suites with a MAC of their own have an order of the two (RFC 7366 section 3).
    let has_mac = !cipher.contains("GCM");
    Session {
        version: ssl.version_str(),
        cipher: cipher.to_owned(),
        extended_master_secret: ssl.extms_support() == Some(true),
        encrypt_then_mac: has_mac && progress.hello().is_some_and(|hello| hello.encrypt_then_mac),
        resumed: ssl.session_reused(),
    }
}

/// Closing a socket with unread bytes resets the connection, and the reset overtakes the alert.
async fn linger(stream: &mut TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        let mut unread = stream.take(LINGER_BYTES);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    // However it ends, the connection is over.
    let _ = timeout(LINGER, reading).await;
}

#[cfg(test)]
mod tests;
