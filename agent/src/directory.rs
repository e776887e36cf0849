//! Keeps the registry's fetched sources up to date in the background: the Spine Directory Service over LDAP and over FHIR.
//!
//! What a source gives is judged before it is put in force, and kept on disk. A source that fails leaves its last snapshot in
//! force until that is too old.

mod desk;
mod import;
mod ldap;
mod order;
mod records;
mod sds;
mod store;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

pub use desk::DirectoryStatus;
pub use import::{ImportError, Imported, import};
pub use order::Order;

use crate::{
    clock::boot_time,
    fetch::schedule,
    registry::{self, Registry, Snapshot, Source},
};
use desk::Desk;
use ldap::Fetched;
use store::{Stamp, Store, StoreError};

/// The clocks are looked at at least so often: they can be set, and a host can sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// News that nobody has taken yet; more are only logged.
const NEWS: usize = 64;

/// The sources of the registry, and what they last gave.
pub struct Directory {
    registry: Arc<registry::InForce>,
    order: ArcSwap<Order>,
    /// Of each fetched source.
    desks: Mutex<BTreeMap<Source, Desk>>,
    changed: Notify,
    news: mpsc::Sender<String>,
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Everything is fetched, though changes would do.
    pub whole: bool,
    /// A snapshot is taken that is held back otherwise, because it has so many systems less.
    pub accept_shrink: bool,
}

impl Directory {
    /// Begins with a configuration and what is kept of its sources: puts that in force. Blocks while it reads. Gives what
    /// to record from then on.
    #[must_use]
    pub fn new(registry: Arc<registry::InForce>, order: Order) -> (Self, mpsc::Receiver<String>) {
        let (news, reports) = mpsc::channel(NEWS);
        let order = Arc::new(order);
        let directory = Self {
            registry,
            order: ArcSwap::new(Arc::clone(&order)),
            desks: Mutex::default(),
            changed: Notify::new(),
            news,
        };
        directory.configure(order);
        (directory, reports)
    }

    /// Goes on with another configuration, and puts in force what belongs to it. Blocks while it reads. Gives the one before.
    pub fn configure(&self, order: Arc<Order>) -> Arc<Order> {
        let now = SystemTime::now();
        let mut desks = self.lock();
        let mut before = std::mem::take(&mut *desks);
        for source in order.fetched() {
            let known = before.remove(&source).filter(|desk| desk.serves(&order, source));
            let mut desk = known.unwrap_or_else(|| self.open(&order, source, now));
            desk.renew(&order, source, now);
            desks.insert(source, desk);
        }
        let before = self.order.swap(order);
        self.put_in_force(&desks);
        drop(desks);
        self.changed.notify_one();
        before
    }

    /// The registry of a configuration and of what is kept of its sources, without an agent.
    #[must_use]
    pub fn kept(order: Order) -> Arc<Registry> {
        let registry = Arc::new(registry::InForce::default());
        let (_directory, _) = Self::new(Arc::clone(&registry), order);
        registry.load()
    }

    /// Fetches what is due, and ends what is too old, until `end`.
    pub async fn run(self: Arc<Self>, end: CancellationToken) {
        let mut attempts = JoinSet::new();
        loop {
            for source in self.take_due(SystemTime::now()) {
                let directory = Arc::clone(&self);
                attempts.spawn(async move {
                    // What comes of it is in the status.
                    let _ = directory.fetch(source, Wish::default()).await;
                });
            }
            self.end_overdue();
            let pause = self.pause(SystemTime::now());
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.changed.notified() => {}
                Some(_) = attempts.join_next() => {}
            }
        }
    }

    /// The sources that are fetched.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        self.order.load().fetched().collect()
    }

    /// Fetches a source now, one attempt at a time. Gives what came of it.
    ///
    /// # Errors
    /// Why nothing was put in force.
    pub async fn fetch(&self, source: Source, wish: Wish) -> Result<String, String> {
        let fetching = self.lock().get(&source).map(|desk| Arc::clone(&desk.fetching));
        let Some(fetching) = fetching else {
            return Err(format!("{source} is not one of the registry's fetched sources"));
        };
        let _fetching = fetching.lock().await;
        let order = self.order.load_full();
        let result = self.attempt(source, &order, wish).await;
        let now = SystemTime::now();
        let mut desks = self.lock();
        if let Some(desk) = desks.get_mut(&source) {
            match &result {
                Ok(_) => desk.succeeded(now + schedule::jittered(order.interval(source), fastrand::f64())),
                Err(fault) => {
                    desk.failed(fault.clone());
                    let pause =
                        schedule::after_failure(desk.failures, order.interval(source), fastrand::f64());
                    desk.due = now + pause;
                }
            }
        }
        drop(desks);
        match &result {
            Ok(said) => {
                tracing::info!(%source, "{said}");
                let _ = self.news.try_send(format!("registry: {source}: {said}"));
            }
            Err(fault) => tracing::warn!(%source, "the registry's source gave nothing: {fault}"),
        }
        self.changed.notify_one();
        result
    }

    /// How it goes with each source, in the order of precedence.
    #[must_use]
    pub fn status(&self) -> Vec<DirectoryStatus> {
        let order = self.order.load();
        let now = SystemTime::now();
        let desks = self.lock();
        let precedence = order.settings().precedence.iter();
        precedence
            .filter_map(|source| match desks.get(source) {
                Some(desk) => Some(desk.status(*source, &order, now)),
                None => order
                    .listed()
                    .map(|listed| DirectoryStatus::listed(&order, listed.systems.len())),
            })
            .collect()
    }

    async fn attempt(&self, source: Source, order: &Arc<Order>, wish: Wish) -> Result<String, String> {
        let begun = SystemTime::now();
        let stamp = self.lock().get(&source).and_then(|desk| desk.stamp.clone());
        let since = stamp.filter(|stamp| !wish.whole && !order.is_whole_due(stamp, begun));
        let since = since.and_then(|stamp| stamp.mark);
        let limit = order.timeout(source);
        let fetching = tokio::time::timeout(limit, order.fetch(source, since.as_deref()));
        let fetched = fetching.await.unwrap_or_else(|_| {
            let limit = humantime::format_duration(limit);
            Err(format!("it has not given everything within {limit}"))
        })?;
        if !Arc::ptr_eq(order, &self.order.load()) {
            return Err("the configuration has changed meanwhile".to_owned());
        }
        let known = self.lock().get(&source).and_then(Desk::known);
        let judging = {
            let order = Arc::clone(order);
            spawn_blocking(move || judge(source, &order, fetched, begun, known.as_deref(), wish))
        };
        let judged = match judging.await.map_err(|error| error.to_string())? {
            Ok(judged) => judged,
            Err(Unfit::Held(why)) => {
                if let Some(desk) = self.lock().get_mut(&source) {
                    desk.held = Some(why.clone());
                }
                return Err(why);
            }
            Err(Unfit::Faulty(why)) => return Err(why),
        };
        let mut desks = self.lock();
        if !Arc::ptr_eq(order, &self.order.load()) {
            return Err("the configuration has changed meanwhile".to_owned());
        }
        let Some(desk) = desks.get_mut(&source) else {
            return Err("it is no longer wanted".to_owned());
        };
        let said = judged.said.clone();
        let unkept = judged.unkept.clone();
        desk.take(judged.snapshot, judged.stamp, judged.aside, SystemTime::now());
        self.put_in_force(&desks);
        match unkept {
            None => Ok(said),
            Some(fault) => Err(format!("{said}, but it is not kept for the next start: {fault}")),
        }
    }

    /// A desk with what is kept of its source.
    fn open(&self, order: &Order, source: Source, now: SystemTime) -> Desk {
        let store = Store::new(&order.settings().state_dir);
        let kept = store.systems(source, &order.origin(source), order.settings().fqdns);
        let mut desk = Desk::new(order, source, now);
        match kept {
            Ok((stamp, systems, aside)) => {
                let snapshot = Arc::new(Snapshot {
                    source,
                    systems: Arc::new(systems),
                    life: Some(order.life(source, &stamp)),
                });
                desk.take(snapshot, stamp, aside, now);
            }
            Err(StoreError::Absent) => {}
            Err(error) => {
                tracing::warn!(%source, "{error}");
                desk.last_error = Some(error.to_string());
            }
        }
        desk
    }

    /// Joins what there is by precedence.
    fn put_in_force(&self, desks: &BTreeMap<Source, Desk>) {
        let order = self.order.load();
        let precedence = order.settings().precedence.iter();
        let snapshots = precedence.filter_map(|source| match source {
            Source::File => order.listed().cloned(),
            _ => desks.get(source).and_then(Desk::in_force),
        });
        self.registry
            .replace(Arc::new(Registry::new(snapshots.collect())));
    }

    /// Ends snapshots that are too old by the time since boot, whatever has become of the clock.
    fn end_overdue(&self) {
        let mut desks = self.lock();
        let mut ended = false;
        for desk in desks.values_mut() {
            ended |= desk.end_if_overdue(boot_time());
        }
        if ended {
            self.put_in_force(&desks);
        }
    }

    /// What is to be fetched now. Each of them is next due only after its interval, unless the attempt says otherwise.
    fn take_due(&self, now: SystemTime) -> Vec<Source> {
        let order = self.order.load();
        let mut desks = self.lock();
        let mut due = Vec::new();
        for (source, desk) in desks.iter_mut() {
            let interval = order.interval(*source);
            // A clock that was set back would put it off.
            let put_off = desk.due.duration_since(now).is_ok_and(|pause| pause > interval);
            if desk.due <= now || put_off {
                desk.due = now + interval;
                due.push(*source);
            }
        }
        due
    }

    fn pause(&self, now: SystemTime) -> Duration {
        let next = self.lock().values().map(|desk| desk.due).min();
        next.map_or(LONGEST_SLEEP, |next| {
            next.duration_since(now).unwrap_or_default().min(LONGEST_SLEEP)
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Source, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot that may be put in force.
struct Judged {
    snapshot: Arc<Snapshot>,
    stamp: Stamp,
    aside: records::Aside,
    said: String,
    /// Why it is not on disk.
    unkept: Option<String>,
}

/// Why one may not.
enum Unfit {
    /// It has too many systems less: the operator has to say.
    Held(String),
    Faulty(String),
}

/// Makes a snapshot of what was fetched, holds it against what was known, and keeps it.
fn judge(
    source: Source,
    order: &Order,
    fetched: Fetched,
    begun: SystemTime,
    known: Option<&registry::Systems>,
    wish: Wish,
) -> Result<Judged, Unfit> {
    let settings = order.settings();
    let store = Store::new(&settings.state_dir);
    let origin = order.origin(source);
    let (records, full, mark) = match fetched {
        Fetched::All { records, mark } => (records, begun, mark),
        Fetched::Changes { systems, mark } => {
            let (stamp, mut records) = store.records(source, &origin).map_err(|error| {
                Unfit::Faulty(format!("the changes have nothing to be applied to: {error}"))
            })?;
            for entry in &systems {
                ldap::take_changed(&mut records, entry);
            }
            (records, stamp.full, mark)
        }
    };
    let (systems, aside) = records.pack(settings.fqdns);
    if systems.is_empty() {
        let why = aside.examples.first().map_or("it knows none", String::as_str);
        return Err(Unfit::Faulty(format!(
            "it gives no system that can be taken over: {why}"
        )));
    }
    let gone = known.map_or(0, |known| known.missing_in(&[&systems]));
    let of = known.map_or(0, registry::Systems::len);
    if !wish.accept_shrink && !settings.max_shrink.allows(gone, of) {
        return Err(Unfit::Held(format!(
            "held back: {gone} of {of} systems are gone; if that is right, say \
             `spinegate registry sync {source} --accept-shrink`"
        )));
    }
    let new = known.map_or(systems.len(), |known| systems.missing_in(&[known]));
    let said = format!(
        "{} systems are in force: {new} new, {gone} gone, {} records set aside",
        systems.len(),
        aside.count
    );
    let stamp = Stamp {
        origin,
        fetched: begun,
        full,
        mark,
    };
    let unkept = store
        .write(source, &stamp, &records)
        .err()
        .map(|error| error.to_string());
    let snapshot = Snapshot {
        source,
        life: Some(order.life(source, &stamp)),
        systems: Arc::new(systems),
    };
    Ok(Judged {
        snapshot: Arc::new(snapshot),
        stamp,
        aside,
        said,
        unkept,
    })
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
