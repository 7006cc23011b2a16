//! How Drydock goes up the ladder: one build in flight for each lease; what is reclaimed is what nobody has used for longest;
//! and of what is out of date the oldest is replaced first. Each by what its writer knew.

use super::{Now, Verdict, wrong};
use crate::habits;
use drydock::{
    api::{Blueprint, LeasePhase, Resource, ResourcePhase},
    lifecycle::{commands, is_deleting, matching, pool, uid},
};
use std::time::Duration;

/// In that time whoever reclaims has been shown what there is, and has asked the others that are to go, too.
const MOMENT: Duration = Duration::from_secs(10);

/// One that was reclaimed while another had been idle for longer, if that was not about to change.
pub struct Doubt {
    reclaimed: String,
    instead: String,
    at: Duration,
}

fn is_webhook(blueprint: &Blueprint) -> bool {
    blueprint.spec.driver.webhook.is_some()
}

impl Now {
    /// Nothing is built for a lease for which something is being built already, that its maker knew of and that comes.
    pub(super) fn one_build_for_each(&self, new: &Resource) -> Verdict {
        let Some(lease) = &new.spec.requested_for else { return Ok(()) };
        let comes = |r: &Resource| {
            let owner = &r.spec.blueprint_ref.uid;
            let here = *owner == new.spec.blueprint_ref.uid;
            let failed = r.status.as_ref().is_some_and(|s| s.failure.is_some());
            let suspended = self.readable(owner).any(|b| b.spec.suspend);
            !suspended && (here || !failed)
        };
        let mut others = self.resources.values().filter(|r| r.metadata.uid != new.metadata.uid);
        let twice = others.find(|r| {
            r.phase() == ResourcePhase::Pending
                && r.spec.requested_for.as_ref().is_some_and(|other| other.uid == lease.uid)
                && !is_deleting(&r.metadata)
                && (self.is_known(self.born.get(uid(&r.metadata))) || (self.fair && self.has_made(r)))
                && comes(r)
        });
        match twice {
            Some(other) => {
                wrong("two are built for one lease at once", &[uid(&new.metadata), uid(&other.metadata), &lease.uid])
            }
            None => Ok(()),
        }
    }

    /// Whoever has made something knows of it, where its answers are not lost.
    fn has_made(&self, resource: &Resource) -> bool {
        self.by.is_some() && self.makers.get(uid(&resource.metadata)) == self.by.as_ref()
    }

    /// Of those that are out of date, and that nobody holds, none was made before it.
    pub(super) fn oldest_is_replaced(&self, new: &Resource) -> Verdict {
        // Whichever version the writer went by.
        let is_as_now =
            |r: &Resource, b: &Blueprint| r.spec.template_hash.as_deref() == Some(&habits::template_hash(b));
        let readable = self.readable(&new.spec.blueprint_ref.uid).filter(|b| !is_as_now(new, b));
        let is_outdated = |r: &Resource| readable.clone().all(|b| !is_as_now(r, b));
        let created = |r: &Resource| r.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let older = self.siblings(new).find(|r| {
            pool::bucket(r) == pool::Bucket::Idle
                && is_outdated(r)
                && created(r) < created(new)
                && self.is_known(self.counts_since.get(uid(&r.metadata)))
        });
        match older {
            Some(older) => wrong(
                "a resource was replaced before one that is older, and as much out of date",
                &[uid(&new.metadata), uid(&older.metadata)],
            ),
            None => Ok(()),
        }
    }

    /// Notes a `Reclaim` of what has not been idle for longest.
    pub(super) fn note_reclaim(&mut self, old: &Resource) {
        let Some(blueprint) = self.blueprints.get(&old.spec.blueprint_ref.uid) else { return };
        if !self.fair || !is_webhook(blueprint) {
            return;
        }
        let at = self.at;
        let longer = self.siblings(old).find(|r| self.could_be_reclaimed(r, blueprint) && idle(r) < idle(old));
        let doubt = longer.map(|other| Doubt {
            reclaimed: uid(&old.metadata).to_owned(),
            instead: uid(&other.metadata).to_owned(),
            at,
        });
        self.reclaims.extend(doubt);
    }

    /// Idle, as it is for a moment already, and of no use to anybody who waits.
    fn could_be_reclaimed(&self, resource: &Resource, blueprint: &Blueprint) -> bool {
        let Some(status) = &resource.status else { return false };
        let of_use = self.leases.values().any(|lease| {
            lease.phase() == LeasePhase::Pending
                && matching::fits(&lease.spec, resource, &blueprint.spec.resource, self.wall.into())
        });
        pool::bucket(resource) == pool::Bucket::Idle
            && !is_deleting(&resource.metadata)
            && !of_use
            && self.has_rested(resource)
            && commands::unconsumed(&resource.spec.commands, &status.commands).next().is_none()
    }

    /// Whether what had been idle for longer is still there, and as it was: then it would have been its turn.
    pub(super) fn the_longest_idle_goes(&mut self) -> Verdict {
        let due: Vec<_> = self.reclaims.extract_if(.., |doubt| doubt.at + MOMENT < self.at).collect();
        match due.iter().find(|doubt| self.is_unchanged_since(&doubt.instead, doubt.at)) {
            Some(doubt) => {
                wrong("a resource was reclaimed, and another is idle for longer", &[&doubt.reclaimed, &doubt.instead])
            }
            None => Ok(()),
        }
    }
}

fn idle(resource: &Resource) -> drydock::api::MicroTime {
    pool::idle_since(resource)
}
