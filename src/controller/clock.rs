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
        Box::new(DefaultBackoff::default())
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
