//! Nobody waits for ever behind a resource of another flavour that is granted again and again past them.

use super::{Now, Verdict, queue::place, wrong};
use drydock::{
    api::{Claim, Lease, LeasePhase, Resource},
    lifecycle::{matching, queue, uid},
};

/// So often may a lease be passed over, by two controllers that each count for themselves, before it is its turn.
const MOST: usize = 20;

impl Now {
    /// A resource was granted: whoever is ahead of who got it, and needs its room, was passed over.
    pub(super) fn is_not_passed_over_for_ever(&mut self, resource: &Resource, claim: &Claim) -> Verdict {
        let Some(blueprint) = self.blueprints.get(&resource.spec.blueprint_ref.uid).filter(|_| self.fair) else {
            return Ok(());
        };
        let policy = &blueprint.spec.resource;
        let Some(lease) = self.leases.get(&claim.uid).filter(|_| !policy.parameters.is_empty()) else { return Ok(()) };
        let mine = place(lease, &blueprint.spec.lease);
        let is_full = blueprint.spec.limits.max_resources == Some(self.siblings(resource).count() as i64 + 1);
        let wall = self.wall.into();
        let is_passed_over = |other: &&std::sync::Arc<Lease>| {
            other.metadata.namespace == lease.metadata.namespace
                && other.spec.blueprints == lease.spec.blueprints
                && other.spec.resource_type == lease.spec.resource_type
                && other.phase() == LeasePhase::Pending
                && queue::waits(other, wall)
                && place(other, &blueprint.spec.lease) < mine
                && !matching::fits(&other.spec, resource, policy, wall)
        };
        let passed_over = self.leases.values().filter(|_| is_full).filter(is_passed_over);
        for id in passed_over.map(|other| uid(&other.metadata).to_owned()).collect::<Vec<_>>() {
            let times = self.passed_over.entry(id.clone()).or_default();
            *times += 1;
            if *times > MOST {
                return wrong("a lease is passed over again and again", &[&id, &claim.uid, uid(&resource.metadata)]);
            }
        }
        Ok(())
    }

    /// Whether somebody waits for the room of a resource, whoever is ahead of whom.
    pub(super) fn makes_way(&self, resource: &Resource) -> bool {
        let Some(blueprint) = self.all_blueprints.get(&resource.spec.blueprint_ref.uid) else { return false };
        let needs_its_room = |lease: &std::sync::Arc<Lease>| {
            lease.resource_ref().is_none()
                && lease.spec.resource_type == resource.spec.resource_type
                && matching::flavours(&lease.spec, &blueprint.spec.resource) != resource.spec.parameters
        };
        self.leases.values().any(needs_its_room)
    }
}
