//! The order among leases that wait (api.md, 5).

use super::{commands, created_by, is_deleting};
use crate::api::{DeadlineName, Lease, LeasePhase, MicroTime, blueprint::LeasePolicy};
use std::cmp::Reverse;

/// A lease's place in the queue of one Blueprint: priority (cut to `maxPriority`), creation, ticket, UID. The smallest is
/// the head.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: Reverse<i32>,
    created: i64,
    ticket: u64,
    uid: String,
}

impl Place {
    /// Whether it has a higher priority, where both are in one queue.
    pub fn outranks(&self, other: &Self) -> bool {
        self.priority < other.priority
    }
}

/// The place of a lease in the queue of a Blueprint with this policy.
pub fn place(lease: &Lease, policy: &LeasePolicy) -> Place {
    Place {
        priority: Reverse(lease.spec.priority.min(policy.max_priority.unwrap_or(i32::MAX))),
        created: lease.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |t| t.0.as_second())
            * if bug!(YoungestFirst) { -1 } else { 1 },
        ticket: ticket(lease),
        uid: super::uid(&lease.metadata).to_owned(),
    }
}

/// The resourceVersion at which the controller first saw the lease; one without a ticket counts with its present one.
/// resourceVersions are comparable within a kind (KEP-5504).
fn ticket(lease: &Lease) -> u64 {
    let recorded = lease.status.as_ref().and_then(|s| s.queue_ticket.as_deref());
    recorded.or(lease.metadata.resource_version.as_deref()).and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

/// Whether a lease may be offered a resource: it waits, and nothing that is known already ends it. A `queueTimeout` of 0
/// does not: it means what is free now.
pub fn waits(lease: &Lease, now: MicroTime) -> bool {
    let status = lease.status.as_ref();
    let ledger = status.map_or(&[][..], |s| &s.commands);
    lease.phase() == LeasePhase::Pending
        && !is_deleting(&lease.metadata)
        && !commands::is_ending(&lease.spec.commands, ledger)
        && !queue_end(lease, now).is_some_and(|at| at <= now && !gives_up_at_once(lease))
        && expiry(lease).is_none_or(|at| at > now)
}

/// `queueTimeout: 0s`: take what is free now, or give up.
pub fn gives_up_at_once(lease: &Lease) -> bool {
    lease.spec.queue_timeout.is_some_and(|t| t.is_zero())
}

/// When the wait ends: as recorded; else `queueTimeout` after the creation.
pub fn queue_end(lease: &Lease, now: MicroTime) -> Option<MicroTime> {
    let timeout = lease.spec.queue_timeout?;
    let recorded = lease.status.as_ref().and_then(|s| super::deadline::find(&s.deadlines, DeadlineName::Queue));
    Some(recorded.map_or_else(|| created_by(&lease.metadata, now).after(timeout), |d| d.at))
}

/// When a waiting lease ends: its last wish, else `spec.expiresAt`.
fn expiry(lease: &Lease) -> Option<MicroTime> {
    match lease.status.as_ref().and_then(|s| s.wish) {
        Some(wish) => wish.at,
        None => lease.spec.expires_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{LeaseSpec, LeaseStatus},
        lifecycle::testing::{DAY, at, command, delete},
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn lease(name: &str, priority: i32, created: i64, version: u64, ticket: Option<u64>) -> Lease {
        let mut lease = Lease::new(name, LeaseSpec { priority, ..LeaseSpec::default() });
        lease.metadata.uid = Some(name.into());
        lease.metadata.creation_timestamp = Some(Time(jiff::Timestamp::from_second(created).unwrap()));
        lease.metadata.resource_version = Some(version.to_string());
        lease.status = Some(LeaseStatus { queue_ticket: ticket.map(|t| t.to_string()), ..LeaseStatus::default() });
        lease
    }

    /// Story 30.
    #[test]
    fn priority_then_creation_then_ticket_then_uid() {
        let policy = LeasePolicy { max_priority: Some(10), ..LeasePolicy::default() };
        let mut queue = [
            lease("uid-b", 0, 5, 9, None),
            lease("uid-a", 0, 5, 9, None),
            lease("later-second", 0, 6, 7, None),
            lease("ticket-beats-version", 0, 5, 90, Some(8)),
            lease("urgent", 10, 9, 90, None),
            lease("cut-to-urgent-but-younger", 900, 10, 91, None),
            lease("last", -5, 1, 1, None),
        ];
        queue.sort_by_key(|lease| place(lease, &policy));
        let names: Vec<_> = queue.iter().filter_map(|l| l.metadata.name.as_deref()).collect();
        assert_eq!(
            names,
            ["urgent", "cut-to-urgent-but-younger", "ticket-beats-version", "uid-a", "uid-b", "later-second", "last"]
        );
    }

    /// A ticket is comparable only as a number; where there is none the present version counts, and last whoever has none.
    #[test]
    fn tickets_are_numbers() {
        let policy = LeasePolicy::default();
        let mut unversioned = lease("unversioned", 0, 5, 0, None);
        unversioned.metadata.resource_version = None;
        let mut queue =
            [unversioned, lease("b", 0, 5, 10, None), lease("a", 0, 5, 9, None), lease("c", 0, 5, 1, Some(100))];
        queue.sort_by_key(|lease| place(lease, &policy));
        let names: Vec<_> = queue.iter().filter_map(|l| l.metadata.name.as_deref()).collect();
        assert_eq!(names, ["a", "b", "c", "unversioned"]);
    }

    /// Whether a lease may be offered a resource, at 60 s: it waits, and nothing that is known already ends it.
    #[test]
    fn what_waits() {
        type Change = fn(&mut Lease);
        let (waits_still, not): (bool, bool) = (true, false);
        let changes: [(&str, &str, Change, bool); 15] = [
            ("a new one", "", |_| {}, waits_still),
            ("deleted", "", |lease| delete(&mut lease.metadata), not),
            ("bound", "", |lease| lease.status.get_or_insert_default().phase = Some(LeasePhase::Acquired.into()), not),
            ("over", "", |lease| lease.status.get_or_insert_default().phase = Some(LeasePhase::Destroyed.into()), not),
            ("a Release is queued", "", |lease| lease.spec.commands.push(command("c", "Release")), not),
            (
                "an Expires is queued",
                "",
                |lease| lease.spec.commands.push(command("c", "Expires, after: 1h")),
                waits_still,
            ),
            ("its wait goes on", "queueTimeout: 1m", |_| {}, waits_still),
            ("its wait is over", "queueTimeout: 59s", |_| {}, not),
            ("its wait was begun anew", "queueTimeout: 1s", |lease| wait_until(lease, 61), waits_still),
            ("and is over again", "queueTimeout: 1h", |lease| wait_until(lease, 60), not),
            ("what is free now", "queueTimeout: 0s", |_| {}, waits_still),
            ("its end comes", "expiresAt: '2026-11-23T10:01:00.000001Z'", |_| {}, waits_still),
            ("its end has come", "expiresAt: '2026-11-23T10:01:00Z'", |_| {}, not),
            ("its end was moved", "expiresAt: '2026-11-23T10:01:00Z'", |lease| wish(lease, Some(61)), waits_still),
            ("to the past", "", |lease| wish(lease, Some(60)), not),
        ];
        for (name, spec, change, expected) in changes {
            let mut lease = crate::lifecycle::testing::lease("l", spec);
            change(&mut lease);
            assert_eq!(waits(&lease, at(60)), expected, "{name}");
        }
        let mut never = crate::lifecycle::testing::lease("l", "expiresAt: '2026-11-23T10:01:00Z'");
        wish(&mut never, None);
        assert!(waits(&never, at(DAY)), "never, as last asked for");
    }

    fn wait_until(lease: &mut Lease, seconds: i64) {
        let entry = crate::lifecycle::deadline::entry(DeadlineName::Queue, at(seconds), "QueueTimeout", "");
        lease.status.get_or_insert_default().deadlines.push(entry);
    }

    fn wish(lease: &mut Lease, seconds: Option<i64>) {
        let wish = crate::api::Wish { at: seconds.map(at), never: seconds.is_none().then_some(true) };
        lease.status.get_or_insert_default().wish = Some(wish);
    }

    /// From the creation, whose whole seconds are rounded down: from the end of that second, or now if that is earlier.
    #[test]
    fn when_a_wait_ends() {
        let lease = |spec| crate::lifecycle::testing::lease("l", spec);
        assert_eq!(queue_end(&lease(""), at(5)), None);
        assert_eq!(queue_end(&lease("queueTimeout: 1m"), at(5)), Some(at(61)));
        assert_eq!(queue_end(&lease("queueTimeout: 1m"), at(0)), Some(at(60)));
        assert_eq!(queue_end(&lease("queueTimeout: 0s"), at(0)), Some(at(0)));
        let mut recorded = lease("queueTimeout: 1m");
        wait_until(&mut recorded, 77);
        assert_eq!(queue_end(&recorded, at(5)), Some(at(77)));
        for (spec, expected) in [("", false), ("queueTimeout: 1ms", false), ("queueTimeout: 0s", true)] {
            assert_eq!(gives_up_at_once(&lease(spec)), expected, "{spec}");
        }
    }
}
