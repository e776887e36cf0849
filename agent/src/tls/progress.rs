//! What a handshake carries from one callback of OpenSSL to the next.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::SystemTime,
};

use openssl::{
    error::ErrorStack,
    ex_data::Index,
    ssl::{ClientHelloResponse, Ssl, SslAlert, SslRef, SslSession},
    x509::{X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult},
};
use spinegate_common::Reason;

use super::{
    Refusal, Trust, VerifiedClient,
    hello::{Demands, Hello},
    sessions::Sessions,
    wanted::{Wanted, distribution_points},
};

/// A handshake's state, shared between its callbacks and the one who waits for it.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<State>>);

struct State {
    trust: Arc<Trust>,
    sessions: Option<Arc<Sessions>>,
    wanted: Wanted,
    demands: Demands,
    hello: Option<Hello>,
    /// The client of a full handshake, or why a rule refused it: at the hello already, or at the certificate.
    judged: Option<Result<VerifiedClient, Refusal>>,
    /// The client of an earlier session that OpenSSL was given to take up.
    resumable: Option<VerifiedClient>,
    stage: Stage,
}

/// How far it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Up to the ClientHello, at no cost.
    Hello,
    /// The pool may go on.
    Admitted,
    /// The gateway does its part of the key exchange, or has done it.
    Begun,
}

impl Progress {
    pub(super) fn new(
        trust: Arc<Trust>,
        sessions: Option<Arc<Sessions>>,
        wanted: Wanted,
        demands: Demands,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            trust,
            sessions,
            wanted,
            demands,
            hello: None,
            judged: None,
            resumable: None,
            stage: Stage::Hello,
        })))
    }

    /// Binds it to a connection.
    pub(super) fn attach(&self, ssl: &mut Ssl) -> Result<(), ErrorStack> {
        ssl.set_ex_data(index()?, self.clone());
        Ok(())
    }

    /// Lets the handshake go on into its arithmetic.
    pub(super) fn admit(&self) {
        self.lock().stage = Stage::Admitted;
    }

    /// Whether the gateway has begun its part of the key exchange.
    pub(super) fn has_begun(&self) -> bool {
        self.lock().stage == Stage::Begun
    }

    pub(super) fn hello(&self) -> Option<Hello> {
        self.lock().hello
    }

    /// Why the handshake was refused by a rule of ours, if it was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match &self.lock().judged {
            Some(Err(refusal)) => Some(refusal.clone()),
            _ => None,
        }
    }

    /// The client of a finished handshake. In a resumed one no certificate was shown, and the earlier session's counts.
    pub(super) fn client(&self, resumed: bool) -> Result<VerifiedClient, Refusal> {
        let mut state = self.lock();
        let client = if resumed {
            state.resumable.take().map(Ok)
        } else {
            state.judged.take()
        };
        client.unwrap_or_else(|| {
            Err(Refusal::new(
                Reason::CertificateMissing,
                "no certificate was judged",
            ))
        })
    }

    fn of(ssl: &SslRef) -> Option<&Self> {
        ssl.ex_data(index().ok()?)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index() -> Result<Index<Ssl, Progress>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Progress>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// OpenSSL has read a ClientHello. One that can succeed suspends the handshake here, before any arithmetic, until it is
/// admitted.
pub(super) fn on_client_hello(
    ssl: &mut SslRef,
    alert: &mut SslAlert,
) -> Result<ClientHelloResponse, ErrorStack> {
    let failed = |alert: &mut SslAlert, with| {
        *alert = with;
        Err(ErrorStack::get())
    };
    let Some(progress) = Progress::of(ssl) else {
        return failed(alert, SslAlert::INTERNAL_ERROR);
    };
    let mut state = progress.lock();
    if state.stage != Stage::Hello {
        state.stage = Stage::Begun;
        return Ok(ClientHelloResponse::SUCCESS);
    }
    match state.demands.judge(ssl) {
        Ok(hello) => {
            state.hello = Some(hello);
            Ok(ClientHelloResponse::RETRY)
        }
        Err((refusal, with)) => {
            state.judged = Some(Err(refusal));
            failed(alert, with)
        }
    }
}

/// OpenSSL has read a client's certificates. A leaf whose chain was verified before is judged by the rules that can change
/// their mind; any other chain is built and verified, and judged by them all.
pub(super) fn on_client_chain(chain: &mut X509StoreContextRef, leaf: &X509Ref) -> bool {
    if let Some(progress) = progress_of(chain).cloned() {
        let mut state = progress.lock();
        if let Some(known) = state.trust.known(leaf, SystemTime::now()) {
            known
                .distribution_points
                .iter()
                .for_each(|url| state.wanted.note(url));
            state.judged = Some(Ok(known.client.clone()));
            chain.set_error(X509VerifyResult::OK);
            return true;
        }
    }
    let sound = chain.verify_cert().unwrap_or(false);
    // Only now: OpenSSL has rules of its own after it has asked about the leaf, name constraints among them.
    if sound && let Some(progress) = progress_of(chain) {
        let state = progress.lock();
        if let Some(Ok(client)) = &state.judged {
            state.trust.keep(leaf, client);
        }
    }
    sound
}

/// OpenSSL asks at each certificate of a chain that it has built and found sound, from the root to the leaf, and at each
/// fault. The rules judge at the leaf; a fault of the chain is before them all.
pub(super) fn on_certificate(sound: bool, chain: &mut X509StoreContextRef) -> bool {
    let Some(progress) = progress_of(chain).cloned() else {
        return false;
    };
    let mut state = progress.lock();
    if !sound {
        let leaf = chain.chain().and_then(|chain| chain.iter().next());
        state.judged = Some(Err(Trust::refuse_chain(chain.error(), chain.error_depth(), leaf)));
        return false;
    }
    if chain.error_depth() > 0 {
        return true;
    }
    let certificates: Vec<&X509Ref> = chain
        .chain()
        .into_iter()
        .flatten()
        .map(std::convert::AsRef::as_ref)
        .collect();
    let judged = state.trust.judge(&certificates, SystemTime::now());
    // Only who holds a certificate of an accepted issuer can have anything fetched.
    if judged.as_ref().err().is_none_or(Refusal::is_for_want_of_a_crl)
        && let Some(leaf) = certificates.first()
    {
        distribution_points(leaf)
            .iter()
            .for_each(|url| state.wanted.note(url));
    }
    let error = judged.as_ref().err().map(Refusal::verify_error);
    state.judged = Some(judged);
    match error {
        None => true,
        Some(error) => {
            // It chooses the alert that the client gets.
            chain.set_error(error);
            false
        }
    }
}

/// A full handshake of a generation that allows resumption is over.
pub(super) fn on_new_session(ssl: &SslRef, session: SslSession) {
    let Some(progress) = Progress::of(ssl) else { return };
    let state = progress.lock();
    if let (Some(sessions), Some(Ok(client))) = (&state.sessions, &state.judged) {
        sessions.keep(session, client.clone(), SystemTime::now());
    }
}

/// A client asks for an earlier session. It gets it while every rule still lets its certificate pass; else it goes
/// through a full handshake, where it is refused with the reason.
pub(super) fn on_resumption(ssl: &SslRef, id: &[u8]) -> Option<SslSession> {
    let progress = Progress::of(ssl)?;
    let mut state = progress.lock();
    let now = SystemTime::now();
    let (session, client) = state.sessions.as_ref()?.find(id, now)?;
    state.trust.recheck(&client, now).ok()?;
    state.resumable = Some(client);
    Some(session)
}

fn progress_of(chain: &X509StoreContextRef) -> Option<&Progress> {
    Progress::of(chain.ex_data(X509StoreContext::ssl_idx().ok()?)?)
}
