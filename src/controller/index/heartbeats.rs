//! Signs of life: since when the present `spec.heartbeat` of a lease is known. Counted by a clock that is never set, and only while
//! the watch of leases works: an outage of the API server keeps holders from giving a sign, and the controller from seeing one.

use super::{Index, Key, ObjectKey};
use crate::api::{Duration as Span, MicroTime};
use std::{collections::BTreeMap, time::Duration};

/// See the module. All instants are uptimes.
#[derive(Default)]
pub(super) struct Heartbeats {
    now: Duration,
    seen: BTreeMap<ObjectKey, Duration>,
    /// Scopes whose watch of leases does not work: one namespace, or all where that is `None`.
    broken: Vec<Option<String>>,
}

impl Heartbeats {
    /// A version of a lease was seen, with the heartbeat that was known before or another one.
    pub(super) fn see(&mut self, lease: &ObjectKey, same: bool) {
        let seen = self.seen.entry(lease.clone()).or_insert(self.now);
        if !same {
            *seen = self.now;
        }
    }

    pub(super) fn forget(&mut self, lease: &ObjectKey) {
        self.seen.remove(lease);
    }

    /// When the present heartbeat was first seen, by the wall clock as it is now; nothing while that is not counted.
    pub(super) fn seen(&self, lease: &ObjectKey, now: MicroTime) -> Option<MicroTime> {
        let seen = self.seen.get(lease)?;
        if self.broken.iter().any(|scope| is_in(lease, scope.as_deref())) {
            return None;
        }
        let since = i64::try_from(self.now.saturating_sub(*seen).as_millis()).unwrap_or(i64::MAX);
        Some(now.after(Span::from_millis(-since)))
    }
}

fn is_in(lease: &ObjectKey, scope: Option<&str>) -> bool {
    scope.is_none_or(|namespace| *lease.namespace == *namespace)
}

impl Index {
    /// How long the clock has run.
    pub fn set_uptime(&mut self, uptime: Duration) {
        self.heartbeats.now = self.heartbeats.now.max(uptime);
    }

    /// Whether any lease needs a sign of life.
    pub fn needs_heartbeats(&self) -> bool {
        !self.heartbeats.seen.is_empty()
    }

    /// The watch of the leases of a scope does not work: nothing is counted meanwhile.
    pub fn stop_heartbeats(&mut self, scope: Option<&str>) {
        let scope = scope.map(str::to_owned);
        if !self.heartbeats.broken.contains(&scope) {
            self.heartbeats.broken.push(scope);
        }
    }

    /// It works again: all begin anew.
    pub fn restart_heartbeats(&mut self, scope: Option<&str>) {
        let before = self.heartbeats.broken.len();
        self.heartbeats.broken.retain(|broken| broken.as_deref() != scope);
        if self.heartbeats.broken.len() == before {
            return;
        }
        let now = self.heartbeats.now;
        for (lease, seen) in self.heartbeats.seen.iter_mut().filter(|(lease, _)| is_in(lease, scope)) {
            *seen = now;
            self.dirty.push(Key::Lease(lease.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> MicroTime {
        MicroTime::from(jiff::Timestamp::from_second(1_000_000 + seconds).unwrap())
    }

    #[test]
    fn the_clock_of_heartbeats_is_not_the_wall_clock() {
        let lease = ObjectKey::new("a", "b");
        let mut heartbeats = Heartbeats { now: Duration::from_secs(10), ..Heartbeats::default() };
        heartbeats.see(&lease, false);
        heartbeats.now = Duration::from_secs(13);
        heartbeats.see(&lease, true);
        // Whatever the wall clock says, it was three seconds ago.
        for wall in [0, 3_600, -3_600] {
            assert_eq!(heartbeats.seen(&lease, at(wall)), Some(at(wall - 3)));
        }
        heartbeats.see(&lease, false);
        assert_eq!(heartbeats.seen(&lease, at(0)), Some(at(0)));
    }
}
