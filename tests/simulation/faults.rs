//! What goes wrong, and how often. Each rate is so many in a thousand; a run draws its own from its seed, so that some runs
//! have much of one kind and nothing of another.

use crate::{journal::Kind, random::Chance};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The rates of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// A request that fails before it has taken effect.
    pub lost_before: u64,
    /// A request that fails after it has taken effect.
    pub lost_after: u64,
    /// Somebody else writes an object just before a controller does.
    pub conflict: u64,
    /// A request that has no answer, whether it takes effect or not.
    pub unanswered: u64,
    /// A request whose path is not served for a moment, as while a CRD is being replaced or an API server starts.
    pub unserved: u64,
    /// Not a rate: so many milliseconds more each way of a request takes.
    pub busy: u64,
    /// A request that takes seconds.
    pub slow: u64,
    /// A controller that is killed with a request.
    pub crash: u64,
    /// A version that a watch leaves out; it begins anew with a list, some time later.
    pub dropped: u64,
    /// An event that comes twice, or an older one that comes again.
    pub repeated: u64,
    /// Not a fault: so likely it is that an event is shown without a lag of its own, as where a watch catches up.
    pub prompt: u64,
    /// A watch that shows nothing for a while.
    pub stalled: u64,
    /// A watch that ends before its time.
    pub cut: u64,
    /// A driver's step that fails, and may be tried again.
    pub step_fails: u64,
    /// A driver's build or activation that fails for good.
    pub step_fails_for_good: u64,
    /// A driver's step that hangs until it is given up.
    pub step_hangs: u64,
    /// A driver's step that takes minutes.
    pub step_long: u64,
    /// A driver's step that wants to be asked again.
    pub step_again: u64,
    /// A driver's step that nobody waits for any more, and that takes effect all the same, some time later.
    pub step_late: u64,
    /// A driver that has something against a deadline.
    pub declines: u64,
    /// A driver that says nothing when it is asked, or told, something.
    pub silent: u64,
}

impl Rates {
    /// Drawn for a run.
    pub fn drawn(chance: &Chance) -> Self {
        let rate = |most: u64| if chance.permille(400) { 0 } else { chance.within(0..most + 1) };
        Self {
            lost_before: rate(40),
            lost_after: rate(40),
            conflict: rate(60),
            unanswered: rate(10),
            unserved: rate(15),
            busy: 0,
            slow: rate(60),
            crash: rate(6),
            dropped: rate(40),
            repeated: rate(60),
            prompt: 0,
            stalled: rate(20),
            cut: rate(20),
            step_fails: rate(250),
            step_fails_for_good: rate(60),
            step_hangs: rate(40),
            step_long: rate(150),
            step_again: rate(200),
            step_late: rate(600),
            declines: rate(600),
            silent: rate(60),
        }
    }
}

/// What a script keeps from controllers whose names begin so, until it opens it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Nothing is written to the status of the object of this name.
    Writes(&'static str, Kind, &'static str),
    /// Watches of this kind show nothing.
    Watch(&'static str, Kind),
    /// What watches of this kind would show next is too old by then: they begin anew with a list.
    Expired(&'static str, Kind),
}

/// The faults of a run, until they stop.
#[derive(Debug)]
pub struct Faults {
    rates: Rates,
    stopped: AtomicBool,
    shut: Mutex<Vec<Shut>>,
    opened: Notify,
    pub chance: Chance,
}

impl Faults {
    /// With these rates.
    pub fn new(rates: Rates, chance: Chance) -> Arc<Self> {
        let (shut, opened) = (Mutex::default(), Notify::new());
        Arc::new(Self { rates, stopped: AtomicBool::new(false), shut, opened, chance })
    }

    /// From now on everything works.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.open(|_| true);
    }

    /// Shuts something.
    pub fn shut(&self, what: Shut) {
        self.shut.lock().unwrap().push(what);
    }

    /// Opens what of it is this.
    pub fn open(&self, this: impl Fn(&Shut) -> bool) {
        self.shut.lock().unwrap().retain(|shut| !this(shut));
        self.opened.notify_waiters();
    }

    fn is_shut(&self, is: impl Fn(&Shut) -> bool) -> bool {
        self.shut.lock().unwrap().iter().any(is)
    }

    /// Whether somebody's status writes to this object are shut.
    pub fn shuts_writes(&self, by: &str, kind: Kind, name: &str) -> bool {
        self.is_shut(|shut| matches!(shut, Shut::Writes(who, k, n) if by.starts_with(who) && *k == kind && *n == name))
    }

    /// Waits until somebody's watch of this kind is open.
    pub async fn watch_is_open(&self, by: &str, kind: Kind) {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            opened.as_mut().enable();
            if !self.is_shut(|shut| matches!(shut, Shut::Watch(who, k) if by.starts_with(who) && *k == kind)) {
                return;
            }
            opened.await;
        }
    }

    /// Whether what somebody's watch of this kind would show next is too old.
    pub fn expires(&self, by: &str, kind: Kind) -> bool {
        self.is_shut(|shut| matches!(shut, Shut::Expired(who, k) if by.starts_with(who) && *k == kind))
    }

    /// What each way of a request takes more.
    pub fn busy(&self) -> Duration {
        Duration::from_millis(self.rates.busy)
    }

    /// Whether everything works.
    pub fn have_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether the fault with this rate happens now.
    pub fn happens(&self, rate: impl Fn(&Rates) -> u64) -> bool {
        let rate = rate(&self.rates);
        rate > 0 && !self.have_stopped() && self.chance.permille(rate)
    }
}
