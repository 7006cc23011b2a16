//! Time and ids as handles, so that a simulation can own them.

use crate::api::MicroTime;
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use kube::runtime::{utils::Backoff, watcher::DefaultBackoff};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// Where the controller gets the time from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> MicroTime;

    /// How long this clock has run: it is never set, and never goes back.
    fn uptime(&self) -> Duration;

    /// Ends when so much time has passed; not by the wall clock, which may jump.
    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()>;

    /// How long a watch that fails waits between its attempts. By default spread out at random, by the system's randomness.
    fn watch_back_off(&self) -> Box<dyn Backoff> {
        Box::new(Capped(DefaultBackoff::default()))
    }
}

/// A watch that fails waits no longer than this: commands are seen so soon after an outage of the API server.
const LONGEST_WATCH_BACK_OFF: Duration = Duration::from_secs(5);

/// The default back-off of watches, which grows to 30 s, up to [`LONGEST_WATCH_BACK_OFF`].
struct Capped(DefaultBackoff);

impl Iterator for Capped {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|wait| wait.min(LONGEST_WATCH_BACK_OFF))
    }
}

impl Backoff for Capped {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// A clock that is shared.
pub type ClockHandle = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the handle that everyone else asks")]
    fn now(&self) -> MicroTime {
        Timestamp::now().into()
    }

    fn uptime(&self) -> Duration {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        BEGAN.get_or_init(Instant::now).elapsed()
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(length).boxed()
    }
}

/// How long from one instant to another; nothing where that is past.
pub fn until(now: MicroTime, then: MicroTime) -> Duration {
    then.timestamp().duration_since(now.timestamp()).try_into().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_does_not_wait_long_however_often_it_has_failed() {
        let mut back_off = SystemClock.watch_back_off();
        let waits: Vec<_> = (0..20).filter_map(|_| back_off.next()).collect();
        assert_eq!(waits.len(), 20);
        assert!(waits.iter().all(|wait| *wait <= LONGEST_WATCH_BACK_OFF) && waits[0] < waits[19], "{waits:?}");
    }
}
