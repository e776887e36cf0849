//! Asks OCSP responders about clients' certificates: before a client's first request, and again before an answer ends.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::download::{Downloader, Limits};
use crate::{
    config::{HttpUrl, Ocsp, OcspMode},
    tls::{Acceptor, Question, Refusal, Standing, VerifiedClient},
};

/// No answer about a few certificates is larger.
const MAX_BYTES: usize = 64 << 10;
/// A responder that failed is left alone for so long, so that not each client waits for it.
const PAUSE: Duration = Duration::from_secs(5);
/// How often ageing answers are looked for.
const ROUND: Duration = Duration::from_secs(10);
/// Questions that are asked at the same time in the background.
const MAX_AT_ONCE: usize = 8;
/// Answers about clients that came within this time are kept fresh.
const LATELY: Duration = Duration::from_secs(900);

/// Asks responders, within a hard deadline. What an answer means for a client is decided by the rules.
pub struct OcspClient {
    acceptor: Arc<Acceptor>,
    downloader: Downloader,
    settings: ArcSwap<Ocsp>,
}

impl OcspClient {
    /// Begins with a configuration.
    #[must_use]
    pub fn new(acceptor: Arc<Acceptor>, settings: &Ocsp) -> Self {
        Self {
            acceptor,
            downloader: Downloader::new(),
            settings: ArcSwap::from_pointee(settings.clone()),
        }
    }

    /// Goes on with another configuration.
    pub fn configure(&self, settings: &Ocsp) {
        self.settings.store(Arc::new(settings.clone()));
    }

    /// Has a client whose handshake is over judged with what responders know of it. Waits for them no longer than the
    /// deadline.
    ///
    /// # Errors
    /// The rules refuse it.
    pub async fn confirm(&self, client: &VerifiedClient) -> Result<(), Refusal> {
        let settings = self.settings.load_full();
        if settings.mode == OcspMode::Off {
            return Ok(());
        }
        let asking = async {
            // One whose handshake was before this configuration has none, and the rules know what that means.
            if let [leaf, issuer] = client.questions() {
                tokio::join!(self.settle(leaf, &settings), self.settle(issuer, &settings));
            }
        };
        if timeout(settings.deadline, asking).await.is_err() {
            let waited = humantime::format_duration(settings.deadline);
            tracing::warn!(client = %client.fqdn(), "OCSP responders have not answered within {waited}");
        }
        self.acceptor.trust().recheck(client, SystemTime::now())
    }

    /// Keeps the answers fresh about clients that are connected or came lately, until `end`.
    pub async fn refresh(self: Arc<Self>, end: CancellationToken) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = rounds.tick() => {}
            }
            let now = SystemTime::now();
            // What has no answer is asked again for those who are connected.
            let is_due = |question: &Question| {
                question.standing(now) == Standing::Unknown || question.is_ageing(now, fastrand::f64())
            };
            tokio::select! {
                () = end.cancelled() => return,
                _ = self.ask_all(is_due) => {}
            }
        }
    }

    /// Asks again, about clients that are connected or came lately, whatever is known already. Gives how many questions there
    /// are, and how many of them are answered now.
    pub async fn ask_again(self: &Arc<Self>) -> (usize, usize) {
        self.ask_all(|_| true).await
    }

    async fn ask_all(self: &Arc<Self>, wanted: impl Fn(&Question) -> bool) -> (usize, usize) {
        let settings = self.settings.load_full();
        if settings.mode == OcspMode::Off {
            return (0, 0);
        }
        let mut questions = self.acceptor.trust().questions().seen(SystemTime::now() - LATELY);
        questions.retain(|question| wanted(question));
        let mut answered = 0;
        for some in questions.chunks(MAX_AT_ONCE) {
            let mut asking = JoinSet::new();
            for question in some {
                let (client, question, settings) =
                    (Arc::clone(self), Arc::clone(question), Arc::clone(&settings));
                asking.spawn(async move {
                    let _asking = question.asking().lock().await;
                    client.ask(&question, &settings).await
                });
            }
            answered += asking
                .join_all()
                .await
                .into_iter()
                .filter(|answered| *answered)
                .count();
        }
        (questions.len(), answered)
    }

    /// Asks unless an answer is known.
    async fn settle(&self, question: &Question, settings: &Ocsp) {
        // One asks for all who stand behind the question.
        let _asking = question.asking().lock().await;
        if question.standing(SystemTime::now()) == Standing::Unknown {
            self.ask(question, settings).await;
        }
    }

    /// Gives whether an answer came that counts.
    async fn ask(&self, question: &Question, settings: &Ocsp) -> bool {
        if !question.take_turn(SystemTime::now(), PAUSE) {
            return false;
        }
        let serial = question.serial();
        let Some(url) = responder(question, settings) else {
            tracing::warn!(
                serial,
                "no OCSP responder of a listed host is named for this certificate"
            );
            return false;
        };
        let limits = Limits {
            hosts: std::slice::from_ref(url.host()),
            timeout: settings.deadline,
            max_bytes: MAX_BYTES,
        };
        let answer = match self.downloader.ask_ocsp(&url, question.request(), limits).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(serial, %url, %error, "an OCSP responder gave no answer");
                return false;
            }
        };
        match question.learn(&answer, SystemTime::now()) {
            Ok(news) => {
                tracing::debug!(serial, %url, "an OCSP responder answered");
                if news {
                    tracing::warn!(serial, %url, "an OCSP responder says that a certificate is revoked");
                    self.acceptor.announce();
                }
                true
            }
            Err(error) => {
                tracing::warn!(serial, %url, %error, "an OCSP answer counts for nothing");
                false
            }
        }
    }
}

/// The configured responder, else the first in the certificate whose host is listed.
fn responder(question: &Question, settings: &Ocsp) -> Option<HttpUrl> {
    if let Some(url) = &settings.responder {
        return Some(url.clone());
    }
    let named = question.responders().iter();
    named
        .filter_map(|url| url.parse::<HttpUrl>().ok())
        .find(|url| settings.hosts.contains(url.host()))
}
