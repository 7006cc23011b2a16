//! The loop: one task for each dirty key, one ordered set of deadlines, back-off for each key. It brings what kube-runtime's
//! `Controller` would, and runs a pass within microseconds of its trigger (shell-facts.md, 1).

use super::{
    clock::{self, ClockHandle},
    events::Events,
    index::Index,
    key::Key,
    line::Line,
    metrics::Metrics,
    passes,
    steps::Steps,
    writer::{RequestError, Writer},
};
use crate::{
    api::{Duration, MicroTime, step::Observed},
    driver::Drivers,
    lifecycle::{EventDraft, EventKind},
};
use futures::FutureExt as _;
use kube::Client;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;
use tracing::Instrument as _;

/// How long the timer sleeps at most: timers ignore a machine that is suspended, and clocks that are set.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(60);

/// A clock that goes back so far was set: smaller steps are those that keep it right.
const SET_BACK: Duration = Duration::from_secs(2);

/// How many objects are looked at at once: more would only wait for the writes in flight, and take memory.
const WORKERS: usize = 512;

/// A wake that has passed when its pass ends waits so long.
const SHORTEST_WAIT: std::time::Duration = std::time::Duration::from_millis(10);

/// Everything that the passes share.
pub struct Shell {
    /// Time.
    pub clock: ClockHandle,
    /// For reads that must not come from the cache.
    pub client: Client,
    /// The one copy of every object.
    pub index: Mutex<Index>,
    /// All writes.
    pub writer: Writer,
    /// The drivers that there are.
    pub drivers: Drivers,
    /// The drivers' steps under way.
    pub steps: Steps,
    /// Events to publish.
    pub events: Events,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The namespaces that are watched; none named: all of them.
    pub namespaces: Vec<String>,
    /// Blueprints whose `expiry.unless` was too slow.
    pub too_slow: passes::expiry::TooSlow,
    /// Deadlines that were declined lately.
    pub declined: passes::expiry::Declined,
    /// When each Blueprint's counts were last written.
    pub counted: Mutex<BTreeMap<super::key::ObjectKey, MicroTime>>,
    work: Mutex<Work>,
    deadlines: Mutex<Deadlines>,
    deadline_moved: Notify,
    all_done: Notify,
    running: AtomicBool,
}

/// How a key became dirty while a worker was busy with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dirty {
    InTurn,
    Urgent,
}

#[derive(Default)]
struct Work {
    /// Keys that a worker is busy with, and whether each has become dirty meanwhile: it is queued again then, since a key that
    /// becomes dirty all the time would otherwise keep its worker for ever.
    busy: BTreeMap<Key, Option<Dirty>>,
    /// Keys that wait for a worker.
    line: Line,
    /// Keys whose last passes failed: how often, and not again before when.
    failing: BTreeMap<Key, (u32, MicroTime)>,
}

impl Work {
    fn end_back_offs(&mut self, news: &BTreeSet<Key>, now: MicroTime) {
        for key in news.iter().filter(|key| !self.busy.contains_key(*key)) {
            if let Some((_, at)) = self.failing.get_mut(key) {
                *at = (*at).min(now);
            }
        }
    }
}

/// The next deadline of each key, in order.
#[derive(Default)]
struct Deadlines {
    in_order: BTreeSet<(MicroTime, Key)>,
    of_key: BTreeMap<Key, MicroTime>,
}

impl Deadlines {
    fn set(&mut self, key: &Key, at: Option<MicroTime>) {
        if let Some(before) = self.of_key.remove(key) {
            self.in_order.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.in_order.insert((at, key.clone()));
            self.of_key.insert(key.clone(), at);
        }
    }
}

impl Shell {
    /// One that does nothing yet.
    pub fn new(
        clock: ClockHandle,
        client: Client,
        drivers: Drivers,
        index: Index,
        metrics: Arc<Metrics>,
        events: Events,
        namespaces: Vec<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            writer: Writer::new(client.clone(), metrics.clone()),
            clock,
            client,
            drivers,
            index: Mutex::new(index),
            steps: Steps::default(),
            events,
            metrics,
            namespaces,
            too_slow: Mutex::default(),
            declined: Mutex::default(),
            counted: Mutex::default(),
            work: Mutex::default(),
            deadlines: Mutex::default(),
            deadline_moved: Notify::new(),
            all_done: Notify::new(),
            running: AtomicBool::new(false),
        })
    }

    /// Every watch has seen its first full list: from now on objects are reconciled.
    pub fn start(self: &Arc<Self>) {
        let now = self.clock.now();
        let dirty = {
            // In one: no pass may begin that sees an index in which nobody is offered anything yet.
            let mut index = super::lock(&self.index);
            index.start(now);
            self.running.store(true, Ordering::SeqCst);
            index.take_dirty(now)
        };
        for key in dirty {
            self.trigger(key, false);
        }
    }

    /// No pass begins any more; returns when those under way have ended.
    pub async fn stop(&self) {
        self.running.store(false, Ordering::SeqCst);
        loop {
            let done = self.all_done.notified();
            if super::lock(&self.work).busy.is_empty() {
                return;
            }
            done.await;
        }
    }

    /// Whether objects are reconciled.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// The door of the index: what it says is dirty is looked at.
    pub fn see<T>(self: &Arc<Self>, change: impl FnOnce(&mut Index, MicroTime) -> T) -> T {
        let now = self.clock.now();
        let (answer, news, dirty, lost) = {
            let mut index = super::lock(&self.index);
            index.set_uptime(self.clock.uptime());
            let answer = change(&mut index, now);
            let dirty: Vec<_> = index.take_dirty(now).into_iter().map(|key| (index.is_asked(&key), key)).collect();
            (answer, index.take_news(), dirty, index.take_lost())
        };
        self.end_back_offs(&news);
        for uid in lost {
            self.drivers.is_over(&uid);
            super::lock(&self.declined).remove(&uid);
        }
        for (is_asked, key) in dirty {
            self.trigger(key, is_asked);
        }
        answer
    }

    /// A newer version of an object ends the back-off of its passes: they failed on another. What a pass writes itself is no news,
    /// for its worker is busy with the object then.
    fn end_back_offs(&self, news: &BTreeSet<Key>) {
        if !news.is_empty() {
            super::lock(&self.work).end_back_offs(news, self.clock.now());
        }
    }

    /// Whether objects of this namespace are watched: only then may they stand in the index.
    pub fn is_watched(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|watched| watched == namespace)
    }

    /// Has the object of this UID looked at, whatever kind it is of.
    pub fn wake(self: &Arc<Self>, uid: &str) {
        let key = super::lock(&self.index).key_of(uid);
        if let Some(key) = key {
            self.trigger(key, false);
        }
    }

    /// Tells what somebody has done to an environment, as its driver has seen it.
    pub fn tell_news(&self, about: &kube::api::ObjectMeta, kind: &str, observed: Option<&Observed>) {
        let Some(observed) = observed else { return };
        let warning = |reason: &'static str| {
            move |message: &String| EventDraft {
                kind: EventKind::Warning,
                reason: reason.into(),
                message: message.clone(),
            }
        };
        let changed = observed.changed.iter().map(warning("ObjectChanged"));
        let gone = observed.gone.iter().map(warning("ObjectLost"));
        self.events.publish(kind, about, changed.chain(gone).collect());
    }

    /// So long from now.
    pub fn soon(&self, wait: std::time::Duration) -> MicroTime {
        self.clock.now().after(Duration::from_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Has an object looked at: now, or once more where a worker is at it, or when its back-off is over. Where all workers are
    /// busy, those that go first do.
    pub fn trigger(self: &Arc<Self>, key: Key, goes_first: bool) {
        if !self.is_running() {
            return;
        }
        let mut work = super::lock(&self.work);
        if let Some(dirty) = work.busy.get_mut(&key) {
            *dirty = (*dirty).max(Some(if goes_first { Dirty::Urgent } else { Dirty::InTurn }));
            return;
        }
        let now = self.clock.now();
        // No further ahead than the back-off itself: the clock may have been set back since.
        let waits = |(failures, at): &&(u32, MicroTime)| *at > now && *at <= now.after(back_off(*failures));
        if let Some((_, at)) = work.failing.get(&key).filter(waits) {
            let at = *at;
            drop(work);
            self.set_deadline(&key, Some(at));
            return;
        }
        if work.busy.len() >= WORKERS {
            return work.line.push(key, goes_first);
        }
        work.busy.insert(key.clone(), None);
        drop(work);
        tokio::spawn(self.clone().worker(key));
    }

    async fn worker(self: Arc<Self>, mut key: Key) {
        loop {
            self.metrics.passes(key.kind());
            let span = tracing::debug_span!("pass", object = %key);
            let pass = AssertUnwindSafe(passes::pass(&self, &key)).catch_unwind().instrument(span).await;
            let failed = match pass {
                Ok(Ok(wake)) => {
                    // A wake that has passed meanwhile is no reason to go round without a breath.
                    let wake = wake.filter(|_| !bug!(LostRequeue));
                    self.set_deadline(&key, wake.map(|at| at.max(self.soon(SHORTEST_WAIT))));
                    None
                }
                Ok(Err(error)) => Some((error.reason(), error.to_string())),
                Err(_) => Some(("Panicked", "a pass panicked".to_owned())),
            };
            match self.next(key, failed) {
                Some(next) => key = next,
                None => break,
            }
            tokio::task::yield_now().await;
        }
        if super::lock(&self.work).busy.is_empty() {
            self.all_done.notify_waiters();
        }
    }

    /// What a worker does when a pass has ended: the object whose turn it is, which may be the same, or nothing.
    fn next(&self, key: Key, failed: Option<(&'static str, String)>) -> Option<Key> {
        let mut work = super::lock(&self.work);
        let again = work.busy.remove(&key).flatten();
        match failed {
            Some((reason, message)) => {
                let failures = work.failing.get(&key).map_or(0, |(n, _)| *n) + 1;
                let at = self.clock.now().after(back_off(failures));
                work.failing.insert(key.clone(), (failures, at));
                self.metrics.pass_failed(key.kind(), reason);
                tracing::warn!(object = %key, reason, failures, "pass failed, tried again at {at}: {message}");
                self.set_deadline(&key, Some(at));
            }
            None => {
                work.failing.remove(&key);
                if let Some(dirty) = again {
                    work.line.push(key, dirty == Dirty::Urgent);
                }
            }
        }
        if !self.is_running() {
            return None;
        }
        let next = work.line.pop()?;
        work.busy.insert(next.clone(), None);
        Some(next)
    }

    fn set_deadline(&self, key: &Key, at: Option<MicroTime>) {
        let mut deadlines = super::lock(&self.deadlines);
        let first = deadlines.in_order.first().map(|(at, _)| *at);
        deadlines.set(key, at);
        if deadlines.in_order.first().map(|(at, _)| *at) != first {
            drop(deadlines);
            self.deadline_moved.notify_one();
        }
    }

    /// Has objects looked at when their deadlines come; runs until it is dropped. Whether a deadline has really passed is
    /// for the pass to say, by the wall clock: never early.
    pub async fn run_timer(self: Arc<Self>) {
        let mut before = self.clock.now();
        loop {
            let now = self.clock.now();
            // What was to be looked at soon would be so only when the clock has come that far again.
            let is_set_back = now.after(SET_BACK) < before;
            before = now;
            let mut due = Vec::new();
            let next = {
                let mut deadlines = super::lock(&self.deadlines);
                while let Some((at, key)) = deadlines.in_order.first().cloned() {
                    if at > now && !is_set_back {
                        break;
                    }
                    deadlines.set(&key, None);
                    due.push((at, key));
                }
                deadlines.in_order.first().map(|(at, _)| *at)
            };
            for (at, key) in due {
                self.metrics.late(clock::until(at, now));
                self.trigger(key, true);
            }
            let sleep = next.map_or(LONGEST_SLEEP, |at| clock::until(now, at).min(LONGEST_SLEEP));
            let moved = std::pin::pin!(self.deadline_moved.notified());
            futures::future::select(self.clock.sleep(sleep), moved).await;
        }
    }

    /// Counts the places in the queues now and then; runs until it is dropped.
    pub async fn run_sweeps(self: Arc<Self>) {
        loop {
            self.clock.sleep(super::index::SWEEP).await;
            if super::lock(&self.index).is_moving() {
                self.see(|index, now| index.sweep(now));
            }
        }
    }
}

/// 100 ms doubling to 1 m.
fn back_off(failures: u32) -> Duration {
    Duration::from_millis((100_i64 << failures.saturating_sub(1).min(16)).min(60_000))
}

/// Why a pass could not be carried through; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A request failed.
    #[error("{what}: {source}")]
    Request {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: RequestError,
    },
    /// The facts that were read did not let the decision go on; a defect.
    #[error("the facts that were read do not settle what to do")]
    Unsettled,
    /// There is no driver for this object.
    #[error("no driver for it in this controller")]
    NoDriver,
}

impl PassError {
    /// The word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Request { source, .. } => source.reason(),
            Self::Unsettled => "Unsettled",
            Self::NoDriver => "NoDriver",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::key::ObjectKey;

    #[test]
    fn a_newer_version_of_an_object_ends_its_back_off() {
        let now = MicroTime::from(jiff::Timestamp::UNIX_EPOCH);
        let later = now.after(Duration::from_secs(22));
        let [news, silent, busy] = ["news", "silent", "busy"].map(|name| Key::Lease(ObjectKey::new("a", name)));
        let mut work = Work::default();
        for key in [&news, &silent, &busy] {
            work.failing.insert(key.clone(), (9, later));
        }
        // What a pass itself writes says nothing new to it.
        work.busy.insert(busy.clone(), None);
        work.end_back_offs(&[news.clone(), busy.clone()].into(), now);
        assert_eq!(work.failing[&news], (9, now), "it fails as often as before");
        assert_eq!(work.failing[&silent], (9, later));
        assert_eq!(work.failing[&busy], (9, later));
    }
}
