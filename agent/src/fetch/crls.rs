//! Keeps the CRLs of listed hosts up to date in a folder, in the background.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use super::{
    Folder,
    download::{Downloader, Limits},
    schedule,
};
use crate::{
    config::{CrlFetch, HttpUrl},
    tls::{Authorities, Candidate, CandidateError},
};

/// CRLs that clients' certificates name; the one that was not named for the longest time gives way to the next.
const MAX_NAMED: usize = 256;
/// Fetched at the same time.
const MAX_AT_ONCE: usize = 4;
/// The clock is looked at again at least so often: it can be set, and a host can sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Fetches CRLs before they are due, and writes those that are sound and not older into the folder. It puts nothing in force
/// itself.
pub struct CrlFetcher {
    downloader: Downloader,
    order: ArcSwap<Order>,
    state: Mutex<State>,
    at_once: Semaphore,
    changed: Notify,
}

/// What to fetch from where, and who signs it.
struct Order {
    settings: CrlFetch,
    authorities: Authorities,
}

#[derive(Default)]
struct State {
    crls: BTreeMap<HttpUrl, Entry>,
    /// Counts what clients named.
    named: u64,
}

struct Entry {
    origin: FetchOrigin,
    /// When it was last named by a client.
    named: u64,
    due: SystemTime,
    failures: u32,
    last_success: Option<SystemTime>,
    last_error: Option<String>,
    /// Held while it is fetched.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

/// Why a CRL is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchOrigin {
    /// `tls.client.fetch.urls` names it.
    Configuration,
    /// It is a distribution point of an accepted issuer's certificate.
    Issuer,
    /// It is a distribution point of a client's certificate, or was when it was fetched first.
    Client,
}

/// How the fetching of a CRL goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchStatus {
    /// Where it is.
    pub url: String,
    /// Why it is fetched.
    pub origin: FetchOrigin,
    /// The file that it is kept in.
    pub file: String,
    /// When it was last fetched well: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    /// What went wrong last, unless it went well since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When it is fetched next: RFC 3339, UTC.
    pub next_attempt: String,
}

impl CrlFetcher {
    /// Begins with a configuration and the CAs that are trusted. Makes the folder.
    #[must_use]
    pub fn new(settings: &CrlFetch, authorities: Authorities) -> Self {
        let order = Order {
            settings: settings.clone(),
            authorities,
        };
        Self {
            downloader: Downloader::new(),
            state: Mutex::new(State {
                crls: order.crls(BTreeMap::new()),
                named: 0,
            }),
            order: ArcSwap::from_pointee(order),
            at_once: Semaphore::new(MAX_AT_ONCE),
            changed: Notify::new(),
        }
    }

    /// Goes on with another configuration and other CAs. Blocks while it looks at the folder.
    pub fn configure(&self, settings: &CrlFetch, authorities: Authorities) {
        let order = Order {
            settings: settings.clone(),
            authorities,
        };
        let mut state = self.lock();
        let before = std::mem::take(&mut state.crls);
        state.crls = order.crls(before);
        self.order.store(Arc::new(order));
        drop(state);
        self.changed.notify_one();
    }

    /// Fetches what is due and what clients need, until `end`.
    pub async fn run(self: Arc<Self>, mut wanted: mpsc::Receiver<String>, end: CancellationToken) {
        let mut attempts = JoinSet::new();
        loop {
            for url in self.take_due(SystemTime::now()) {
                let fetcher = Arc::clone(&self);
                attempts.spawn(async move { fetcher.fetch(&url).await });
            }
            let pause = self.pause(SystemTime::now());
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.changed.notified() => {}
                Some(_) = attempts.join_next() => {}
                Some(url) = wanted.recv() => self.note(&url, SystemTime::now()),
            }
        }
    }

    /// Fetches all of them now. Gives what came of each, in a line of its own.
    pub async fn fetch_all(self: &Arc<Self>) -> BTreeMap<HttpUrl, Result<String, String>> {
        let urls: Vec<_> = self.lock().crls.keys().cloned().collect();
        let mut fetching = JoinSet::new();
        for url in urls {
            let fetcher = Arc::clone(self);
            fetching.spawn(async move {
                let result = fetcher.fetch(&url).await;
                (url, result)
            });
        }
        fetching.join_all().await.into_iter().collect()
    }

    /// How it goes with each of them.
    #[must_use]
    pub fn status(&self) -> Vec<FetchStatus> {
        let folder = self.order.load().folder();
        let shown = |time| humantime::format_rfc3339_seconds(time).to_string();
        let state = self.lock();
        let status = state.crls.iter().map(|(url, entry)| FetchStatus {
            url: url.to_string(),
            origin: entry.origin,
            file: folder.file(url).display().to_string(),
            last_success: entry.last_success.map(shown),
            last_error: entry.last_error.clone(),
            failures: entry.failures,
            next_attempt: shown(entry.due),
        });
        status.collect()
    }

    /// A client's certificate names a CRL.
    fn note(&self, url: &str, now: SystemTime) {
        let order = self.order.load();
        let Ok(url) = url.parse::<HttpUrl>() else {
            tracing::debug!(url, "a client's certificate names a CRL that can't be fetched");
            return;
        };
        if !order.may_ask(&url) {
            tracing::debug!(%url, "a client's certificate names a CRL of a host that is not listed");
            return;
        }
        let mut state = self.lock();
        state.named += 1;
        let named = state.named;
        if let Some(entry) = state.crls.get_mut(&url) {
            entry.named = named;
            return;
        }
        let of_clients = || {
            state
                .crls
                .iter()
                .filter(|(_, entry)| entry.origin == FetchOrigin::Client)
        };
        if of_clients().count() >= MAX_NAMED {
            let oldest = of_clients().min_by_key(|(_, entry)| entry.named);
            if let Some(oldest) = oldest.map(|(url, _)| url.clone()) {
                tracing::warn!(%oldest, "more than {MAX_NAMED} CRLs are named by clients: this one is no longer fetched");
                state.crls.remove(&oldest);
            }
        }
        let entry = Entry {
            named,
            ..Entry::new(FetchOrigin::Client, now)
        };
        state.crls.insert(url, entry);
    }

    /// What is to be fetched now. Each of them is next due only after the longest pause, unless the attempt says otherwise.
    fn take_due(&self, now: SystemTime) -> Vec<HttpUrl> {
        let longest = self.order.load().settings.interval;
        let mut state = self.lock();
        let mut due = Vec::new();
        for (url, entry) in &mut state.crls {
            // A clock that was set back would put it off.
            let put_off = entry.due.duration_since(now).is_ok_and(|pause| pause > longest);
            if entry.due <= now || put_off {
                entry.due = now + longest;
                due.push(url.clone());
            }
        }
        due
    }

    fn pause(&self, now: SystemTime) -> Duration {
        let next = self.lock().crls.values().map(|entry| entry.due).min();
        next.map_or(LONGEST_SLEEP, |next| {
            next.duration_since(now).unwrap_or_default().min(LONGEST_SLEEP)
        })
    }

    /// Fetches one, one attempt at a time, and remembers what came of it.
    async fn fetch(&self, url: &HttpUrl) -> Result<String, String> {
        let fetching = self.lock().crls.get(url).map(|entry| Arc::clone(&entry.fetching));
        let Some(fetching) = fetching else {
            return Err("it is no longer wanted".to_owned());
        };
        let _fetching = fetching.lock().await;
        let order = self.order.load_full();
        let interval = order.settings.interval;
        let fetched = self.attempt(url, order).await;
        let now = SystemTime::now();
        let mut state = self.lock();
        let Some(entry) = state.crls.get_mut(url) else {
            return Err("it is no longer wanted".to_owned());
        };
        let roll = fastrand::f64();
        let overdue = "it is overdue already: its CA has not issued the next one";
        let result = match fetched {
            Ok((said, Some(remaining))) => {
                entry.failures = 0;
                entry.due = now + schedule::after_success(remaining, interval, roll);
                entry.last_success = Some(now);
                entry.last_error = None;
                Ok(said)
            }
            Ok((said, None)) => Err(format!("{said}, but {overdue}")),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = &result {
            entry.failures = entry.failures.saturating_add(1);
            entry.due = now + schedule::after_failure(entry.failures, interval, roll);
            entry.last_error = Some(fault.clone());
            tracing::warn!(%url, failures = entry.failures, "a CRL was not fetched: {fault}");
        }
        drop(state);
        self.changed.notify_one();
        result
    }

    async fn attempt(&self, url: &HttpUrl, order: Arc<Order>) -> Result<(String, Option<Duration>), String> {
        let content = {
            let Ok(_permit) = self.at_once.acquire().await else {
                return Err("the agent is stopping".to_owned());
            };
            let limits = Limits {
                hosts: &order.settings.hosts,
                timeout: order.settings.timeout,
                max_bytes: order.settings.max_bytes,
            };
            let downloaded = self.downloader.get(url, limits).await;
            downloaded.map_err(|error| error.to_string())?
        };
        let url = url.clone();
        // A large CRL takes its time to be read.
        let keeping = spawn_blocking(move || order.keep(&url, &content, SystemTime::now()));
        keeping.await.map_err(|error| error.to_string())?
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn folder(&self) -> Folder {
        Folder::new(&self.settings.folder)
    }

    fn may_ask(&self, url: &HttpUrl) -> bool {
        self.settings.hosts.contains(url.host())
    }

    /// What is to be fetched by it, each as far as it had come `before`.
    fn crls(&self, mut before: BTreeMap<HttpUrl, Entry>) -> BTreeMap<HttpUrl, Entry> {
        if !self.settings.is_on() {
            return BTreeMap::new();
        }
        let folder = self.folder();
        if let Err(error) = folder.make() {
            let folder = self.settings.folder.display();
            tracing::error!(%error, "{folder} can't be made, so no CRL can be fetched into it");
        }
        let of_issuers = self.authorities.distribution_points.iter();
        let of_issuers = of_issuers.filter_map(|url| url.parse().ok());
        // The later of two reasons counts.
        let wanted: BTreeMap<HttpUrl, FetchOrigin> = [
            (FetchOrigin::Client, folder.urls()),
            (FetchOrigin::Issuer, of_issuers.collect()),
            (FetchOrigin::Configuration, self.settings.urls.clone()),
        ]
        .into_iter()
        .flat_map(|(origin, urls)| urls.into_iter().map(move |url| (url, origin)))
        .filter(|(url, _)| self.may_ask(url))
        .collect();
        let now = SystemTime::now();
        let mut crls = BTreeMap::new();
        for (url, origin) in wanted {
            let entry = match before.remove(&url) {
                Some(entry) => Entry { origin, ..entry },
                None => Entry::new(origin, self.first_due(&url, now)),
            };
            crls.insert(url, entry);
        }
        // What clients named and could not be fetched yet.
        before.retain(|url, entry| entry.origin == FetchOrigin::Client && self.may_ask(url));
        crls.append(&mut before);
        crls
    }

    /// At once, unless a CRL is kept that is still valid.
    fn first_due(&self, url: &HttpUrl, now: SystemTime) -> SystemTime {
        let remaining = self.kept(url).and_then(|kept| kept.remaining(now));
        remaining.map_or(now, |remaining| {
            now + schedule::after_success(remaining, self.settings.interval, fastrand::f64())
        })
    }

    /// A file that is no sound CRL protects nothing, and counts as none.
    fn kept(&self, url: &HttpUrl) -> Option<Candidate> {
        let kept = self.folder().read(url)?;
        Candidate::read(&kept, &self.authorities.certificates).ok()
    }

    /// Writes what came into the folder if it is a sound CRL that may replace the kept one. Gives what it is, and how long it
    /// is still valid.
    fn keep(
        &self,
        url: &HttpUrl,
        content: &[u8],
        now: SystemTime,
    ) -> Result<(String, Option<Duration>), String> {
        let unsound = |error: CandidateError| match error {
            CandidateError::Other(_) => {
                let file = self.folder().file(url);
                format!("{error}; if that is right, delete {}", file.display())
            }
            _ => error.to_string(),
        };
        let candidate = Candidate::read(content, &self.authorities.certificates).map_err(unsound)?;
        let kept = self.kept(url);
        candidate.may_replace(kept.as_ref(), now).map_err(unsound)?;
        let pem = candidate.to_pem().map_err(unsound)?;
        let remaining = candidate.remaining(now);
        if kept.is_some_and(|kept| kept.to_pem().is_ok_and(|kept| kept == pem)) {
            return Ok((format!("unchanged: {candidate}"), remaining));
        }
        let folder = self.folder();
        folder
            .replace(url, &pem)
            .map_err(|error| format!("{}: {error}", folder.file(url).display()))?;
        tracing::info!(%url, crl = %candidate, "fetched a CRL");
        Ok((format!("new: {candidate}"), remaining))
    }
}

impl Entry {
    fn new(origin: FetchOrigin, due: SystemTime) -> Self {
        Self {
            origin,
            named: 0,
            due,
            failures: 0,
            last_success: None,
            last_error: None,
            fetching: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests;
