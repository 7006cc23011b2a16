//! The queue in order: while nothing goes wrong nobody is overtaken by one who wants the same and came later. Grants on
//! several resources are several writes, so who is passed over has a moment to be granted another.

use super::{Now, Verdict, wrong};
use drydock::{
    api::{Claim, Lease, LeasePhase, Resource, blueprint::LeasePolicy},
    lifecycle::{queue, uid},
};
use std::time::Duration;

/// How long who is passed over may wait for another resource.
const MOMENT: Duration = Duration::from_secs(10);

/// One that was passed over, by whom, and when.
#[derive(Clone, Debug)]
pub struct Overtaken {
    lease: String,
    by: String,
    on: String,
    at: Duration,
}

/// The order of api.md, 5, said once more: priority, creation, ticket, UID.
pub fn place<'a>(lease: &'a Lease, policy: &LeasePolicy) -> (i32, Option<jiff::Timestamp>, u64, &'a str) {
    let priority = lease.spec.priority.min(policy.max_priority.unwrap_or(1000));
    let ticket =
        lease.status.as_ref().and_then(|s| s.queue_ticket.as_ref()).or(lease.metadata.resource_version.as_ref());
    let created = lease.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (-priority, created, ticket.and_then(|t| t.parse().ok()).unwrap_or(0), uid(&lease.metadata))
}

/// Who wants the same stands in one queue.
fn wants(lease: &Lease) -> impl PartialEq + '_ {
    let spec = &lease.spec;
    (&spec.resource_type, &spec.blueprints, &spec.selector, &spec.parameters)
}

impl Now {
    /// Notes who was passed over by a grant.
    pub(super) fn note_overtaken(&mut self, resource: &Resource, claim: &Claim) {
        let Some(blueprint) = self.blueprints.get(&resource.spec.blueprint_ref.uid).filter(|_| self.fair) else {
            return;
        };
        let Some(lease) = self.leases.get(&claim.uid) else { return };
        let mine = place(lease, &blueprint.spec.lease);
        let passed_over = self.leases.values().filter(|other| {
            self.waits(uid(&other.metadata))
                && other.metadata.namespace == lease.metadata.namespace
                && wants(other) == wants(lease)
                && place(other, &blueprint.spec.lease) < mine
                && self.came_before(other, lease)
        });
        let at = self.at;
        let note = |other: &std::sync::Arc<drydock::api::Lease>| Overtaken {
            lease: uid(&other.metadata).into(),
            by: claim.uid.clone(),
            on: uid(&resource.metadata).into(),
            at,
        };
        let noted: Vec<_> = passed_over.map(note).collect();
        self.overtaken.extend(noted);
    }

    /// Within a second the ticket decides, and for one that has none the version at which a controller sees it: the one in which
    /// it came, or that in which it got its finalizer. Of two such only the earlier in both has come before.
    fn came_before(&self, lease: &Lease, other: &Lease) -> bool {
        let created = |lease: &Lease| lease.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let has_ticket = |lease: &Lease| lease.status.as_ref().is_some_and(|s| s.queue_ticket.is_some());
        let born = |lease: &Lease| self.born.get(uid(&lease.metadata));
        created(lease) != created(other) || (has_ticket(lease) && has_ticket(other)) || born(lease) < born(other)
    }

    /// Whether who was passed over waits still.
    pub(super) fn nobody_is_overtaken(&mut self) -> Verdict {
        let due: Vec<_> = self.overtaken.extract_if(.., |one| one.at + MOMENT < self.at).collect();
        // Of two controllers one may be about to grant it what the other has just granted to somebody else: then it has missed
        // its turn for once, and is the first in the next.
        let times =
            |one: &Overtaken| due.iter().chain(&self.overtaken).filter(|other| other.lease == one.lease).count();
        match due.iter().find(|one| self.waits(&one.lease) && times(one) >= self.controllers) {
            Some(one) => wrong("a lease was overtaken in the queue", &[&one.lease, &one.by, &one.on]),
            None => Ok(()),
        }
    }

    fn waits(&self, id: &str) -> bool {
        let claimed = || self.resources.values().any(|r| r.claims().iter().any(|claim| claim.uid == id));
        self.leases.get(id).is_some_and(|lease| {
            lease.phase() == LeasePhase::Pending && queue::waits(lease, self.latest.into()) && !claimed()
        })
    }
}
