//! `placement`: of several resources with room a lease gets the fullest, or the emptiest. It is looked at where nothing goes
//! wrong, and where the choice cannot have rested on anything older or newer: neither resource changed for a moment before the
//! lease came, nor for one after the grant.

use super::{Now, Verdict, wrong};
use crate::habits;
use drydock::{
    api::{Blueprint, Claim, Lease, Resource, ResourcePhase, blueprint::Placement},
    lifecycle::{commands, conditions, is_deleting, matching, uid},
};
use std::{collections::BTreeMap, time::Duration};

/// In that time whoever grants has been shown what there is, and has written what was decided before.
const MOMENT: Duration = Duration::from_secs(10);

/// When what came, and changed, and where a choice is to be looked at.
#[derive(Default)]
pub struct Placements {
    came: BTreeMap<String, Duration>,
    changed: BTreeMap<String, Duration>,
    doubts: Vec<Doubt>,
    /// How many choices have been looked at.
    pub looked_at: usize,
}

/// A lease that went to one resource where another would have been right, if that was not about to change.
struct Doubt {
    lease: String,
    on: String,
    instead: String,
    at: Duration,
}

impl Now {
    /// Notes that a lease or a resource was written.
    pub(super) fn note_change(&mut self, id: &str) {
        self.placements.came.entry(id.to_owned()).or_insert(self.at);
        self.placements.changed.insert(id.to_owned(), self.at);
    }

    /// Whether it is as it was a moment ago.
    pub(super) fn has_rested(&self, resource: &Resource) -> bool {
        self.placements.changed.get(uid(&resource.metadata)).is_some_and(|at| *at + MOMENT < self.at)
    }

    /// Whether it is there, and as it was then.
    pub(super) fn is_unchanged_since(&self, id: &str, then: Duration) -> bool {
        self.resources.contains_key(id) && self.placements.changed.get(id).is_some_and(|at| *at < then)
    }

    /// Notes a grant for which there was a better place.
    pub(super) fn note_placement(&mut self, old: &Resource, new: &Resource, claim: &Claim) {
        let alone = new.claims().len() == old.claims().len() + 1;
        let blueprint = self.blueprints.get(&new.spec.blueprint_ref.uid);
        let (Some(blueprint), Some(lease)) = (blueprint, self.leases.get(&claim.uid)) else { return };
        // What there is of hosts drains by itself where it has changed: that is told in stories.
        if !self.fair || !alone || blueprint.spec.driver.webhook.is_none() {
            return;
        }
        let came = self.placements.came.get(&claim.uid).copied().unwrap_or_default();
        let rested = |r: &Resource| self.placements.changed.get(uid(&r.metadata)).is_some_and(|at| *at + MOMENT < came);
        if !rested(old) || !self.could_be_had(old, blueprint, lease) {
            return;
        }
        let mine = old.claims().len();
        let better = |r: &&Resource| match blueprint.spec.placement {
            Placement::Pack => r.claims().len() > mine,
            Placement::Spread => r.claims().len() < mine,
            Placement::Unknown(_) => false,
        };
        let others: Vec<_> =
            self.siblings(new).filter(|r| rested(r) && self.could_be_had(r, blueprint, lease)).collect();
        let doubt = others.iter().copied().find(better).map(|other| Doubt {
            lease: claim.uid.clone(),
            on: uid(&new.metadata).to_owned(),
            instead: uid(&other.metadata).to_owned(),
            at: self.at,
        });
        self.placements.looked_at += usize::from(others.iter().any(|r| r.claims().len() != mine));
        self.placements.doubts.extend(doubt);
    }

    /// Whether nothing but its place in the order speaks against a resource. Ends are left out: they come before placement.
    fn could_be_had(&self, resource: &Resource, blueprint: &Blueprint, lease: &Lease) -> bool {
        let Some(status) = &resource.status else { return false };
        resource.phase() == ResourcePhase::Active
            && !is_deleting(&resource.metadata)
            && status.expires_at.is_none()
            && (resource.claims().len() as i64) < status.capacity.min(blueprint.spec.limits.leases_per_resource)
            && !status.served
            && conditions::reason(&status.conditions, "Ready") == "Active"
            && commands::unconsumed(&resource.spec.commands, &status.commands).next().is_none()
            && resource.spec.template_hash.as_deref() == Some(&habits::template_hash(blueprint))
            && matching::fits(&lease.spec, resource, &blueprint.spec.resource, self.wall.into())
    }

    /// Whether what would have been right is as it was, and so would have been right indeed.
    pub(super) fn everybody_is_placed(&mut self) -> Verdict {
        let due: Vec<_> = self.placements.doubts.extract_if(.., |doubt| doubt.at + MOMENT < self.at).collect();
        let still = |doubt: &&Doubt| self.placements.changed.get(&doubt.instead).is_some_and(|at| *at < doubt.at);
        match due.iter().find(still) {
            Some(doubt) => wrong(
                "a lease was not placed as its Blueprint says: another resource is fuller, or emptier",
                &[&doubt.lease, &doubt.on, &doubt.instead],
            ),
            None => Ok(()),
        }
    }
}
