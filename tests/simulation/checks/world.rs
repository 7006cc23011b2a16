//! The world: what the drivers are called for, and what comes of it. Each call rests on what was on record; nothing is made
//! that nobody may have; nothing is taken away that somebody has; each key is made and removed once.

use super::{Now, Verdict, lease, wrong};
use drydock::{
    api::{
        LeasePhase, ResourcePhase,
        step::{EffectKey, StepKind},
    },
    driver::Work,
    lifecycle::{has_finalizer, uid},
};
use std::sync::Arc;

impl Now {
    /// What must be on record before a step begins: L1, L3, L8, R4c, R8, and `built`.
    pub(super) fn called(&self, kind: StepKind, work: &Work) -> Verdict {
        let key = &work.key;
        let once_more = matches!(kind, StepKind::TearDownLease | StepKind::TearDownResource);
        let is_gone = match &key.lease {
            Some((lease, _)) => !self.leases.contains_key(lease),
            None => !self.resources.contains_key(&key.resource),
        };
        if once_more && (is_gone || self.removed.contains(key) || self.done.contains(key)) {
            // D1: what is over, or gone by force, is torn down by who has begun something under its key, and may be late.
            return Ok(());
        }
        let resource = work.resource.as_deref();
        let rests = match (kind, resource, work.lease.as_deref()) {
            (StepKind::Build, Some(r), _) => {
                has_finalizer(&r.metadata)
                    && r.phase() == ResourcePhase::Pending
                    && r.status.as_ref().is_some_and(|s| s.built.is_some())
            }
            (StepKind::Activate, _, Some(l)) => {
                has_finalizer(&l.metadata)
                    && l.phase() == LeasePhase::Acquired
                    && !lease::is_returning(l)
                    && lease::key(l).as_ref() == Some(key)
            }
            (StepKind::TearDownLease, _, Some(l)) => {
                let ended = match l.phase() {
                    LeasePhase::Acquired => lease::is_returning(l),
                    LeasePhase::Released => lease::hold(l).is_none(),
                    phase => phase == LeasePhase::Broken,
                };
                ended && lease::key(l).as_ref() == Some(key)
            }
            // R4c: by its key alone, because the lease is gone.
            (StepKind::TearDownLease, Some(_), None) => {
                !key.lease.as_ref().is_some_and(|(lease, _)| self.leases.contains_key(lease))
            }
            (StepKind::TearDownResource, Some(r), _) => {
                matches!(r.phase(), ResourcePhase::Released | ResourcePhase::Broken) && r.claims().is_empty()
            }
            _ => false,
        };
        self.books_at_teardown(kind, work)?;
        if rests { Ok(()) } else { wrong(format!("{kind:?} {key:?} does not rest on what is on record"), &ids(key)) }
    }

    /// What is done stays so: whoever was told of it does not begin anew. (A teardown may be made once more, D1.)
    pub(super) fn is_not_done_already(&self, by: &Arc<str>, kind: StepKind, key: &EffectKey) -> Verdict {
        let makes = matches!(kind, StepKind::Build | StepKind::Activate);
        if makes && self.told_done.contains(&(by.clone(), kind, key.clone())) {
            return wrong(format!("{kind:?} {key:?} was done, and is begun anew: its report was lost"), &ids(key));
        }
        Ok(())
    }

    pub(super) fn made(&mut self, key: &EffectKey) -> Verdict {
        let ids = ids(key);
        if self.removed.contains(key) {
            return wrong(format!("D1: {key:?} was made after its teardown"), &ids);
        }
        match &key.lease {
            None => self.environment_made(key)?,
            Some((id, attempt)) => self.made_for_lease(key, id, *attempt)?,
        }
        self.there.insert(key.clone());
        Ok(())
    }

    fn environment_made(&self, key: &EffectKey) -> Verdict {
        let Some(resource) = self.resources.get(&key.resource) else {
            let lost = self.vanished.contains(&key.resource) || self.forgotten.contains(&key.resource);
            return if lost { Ok(()) } else { wrong("something was built for a resource that is gone", &ids(key)) };
        };
        if resource.phase() == ResourcePhase::Destroyed && !self.forgotten.contains(&key.resource) {
            return wrong("something was built for a resource that is Destroyed", &ids(key));
        }
        let owner = &resource.spec.blueprint_ref.uid;
        if !self.blueprints.contains_key(owner) && !self.vanished.contains(owner) {
            return wrong("R1, B2: something was built for a Blueprint that is gone", &[&key.resource, owner]);
        }
        let slot = self.slots.get(&key.resource);
        let twice = self
            .there
            .iter()
            .find(|other| other.lease.is_none() && self.slots.get(&other.resource) == slot && !self.is_lost(other));
        match twice {
            Some(other) => wrong("two environments in one slot", &[&key.resource, &other.resource]),
            None => Ok(()),
        }
    }

    fn made_for_lease(&self, key: &EffectKey, id: &str, attempt: i64) -> Verdict {
        let ids = ids(key);
        let slot = self.slots.get(&key.resource);
        if self.is_lost(key) {
            return self.beside_nobody(key, id);
        }
        if !self.there.contains(&EffectKey::of_resource(&key.resource)) {
            return wrong(format!("{key:?} was made on a resource that is not there"), &ids);
        }
        if let Some(other) = self.of_lease(id).find(|other| !self.is_lost(other)) {
            return wrong(format!("{key:?} was made beside {other:?} for one lease"), &ids);
        }
        if let Some(other) = self.held_by_force(key) {
            return wrong(format!("R2: {key:?} was made in the slot of {other:?}, whose lease has not ended"), &ids);
        }
        let Some(resource) = self.resources.get(&key.resource) else {
            return wrong(format!("{key:?} was made on a resource that is gone"), &ids);
        };
        if !resource.claims().iter().any(|claim| claim.uid == id && claim.attempt == attempt) {
            return wrong(format!("{key:?} was made, and the resource does not claim it"), &ids);
        }
        let beside = self.there.iter().filter(|other| {
            let known = other.lease.as_ref().is_some_and(|(lease, _)| !self.vanished.contains(lease));
            known && !self.is_lost(other) && self.slots.get(&other.resource) == slot
        });
        // Each has a claim, and for no more claims than there is room for: see `granted_to`.
        if beside.count() >= resource.claims().len() {
            return wrong(format!("{key:?} was made where there is no room"), &ids);
        }
        Ok(())
    }

    /// What is in the same slot, of a lease that lives, and whose resource went by force.
    fn held_by_force(&self, key: &EffectKey) -> Option<&EffectKey> {
        let slot = self.slots.get(&key.resource);
        self.there.iter().find(|other| {
            let lives = |(id, attempt): &(String, i64)| {
                let lease = self.leases.get(id).filter(|lease| lease.attempt() == *attempt);
                lease.is_some_and(|lease| lease.phase() != LeasePhase::Destroyed)
            };
            other.resource != key.resource
                && self.vanished.contains(&other.resource)
                && self.slots.get(&other.resource) == slot
                && other.lease.as_ref().is_some_and(lives)
        })
    }

    /// L7: where a resource went by force its slot is not given to others before its leases have ended.
    fn beside_nobody(&self, key: &EffectKey, id: &str) -> Verdict {
        let slot = self.slots.get(&key.resource);
        let of_another = |other: &&EffectKey| {
            other.lease.is_some() && other.resource != key.resource && self.slots.get(&other.resource) == slot
        };
        match self.there.iter().filter(of_another).find(|other| !self.is_lost(other)) {
            Some(other) if !self.vanished.contains(id) && !self.forgotten.contains(id) => {
                wrong(format!("L7: {key:?} was made in the slot of {other:?}"), &[id, &key.resource, &other.resource])
            }
            _ => Ok(()),
        }
    }

    /// A teardown takes nothing away that somebody has: not from a lease that is held or to be looked at, not from under
    /// leases; and what it takes away is not there twice.
    pub(super) fn removed(&mut self, key: &EffectKey) -> Verdict {
        let ids = ids(key);
        let at = self.at;
        self.drivers.is_whole(key, at);
        if !self.there.remove(key) || !self.removed.insert(key.clone()) {
            return wrong(format!("{key:?} was torn down twice"), &ids);
        }
        if let Some((id, attempt)) = &key.lease {
            let Some(lease) = self.leases.get(id).filter(|l| l.attempt() == *attempt) else { return Ok(()) };
            let here = lease.resource_ref().is_some_and(|r| r.uid == key.resource);
            let held = match lease.phase() {
                LeasePhase::Active => true,
                LeasePhase::Acquired => !lease::is_returning(lease),
                LeasePhase::Released => lease::hold(lease).is_some(),
                _ => false,
            };
            if here && held {
                return wrong(format!("{key:?} was torn down, and the lease is {:?}", lease.phase()), &ids);
            }
            return Ok(());
        }
        if let Some(left) = self.on_resource(&key.resource).find(|left| !self.is_lost(left)) {
            return wrong(format!("{key:?} was torn down beneath {left:?}"), &ids);
        }
        let resource = self.resources.get(&key.resource);
        let over = |r: &drydock::api::Resource| {
            !matches!(r.phase(), ResourcePhase::Pending | ResourcePhase::Active) && r.claims().is_empty()
        };
        if resource.is_some_and(|r| !over(r)) {
            return wrong(format!("{key:?} was torn down, and the resource is not over, or claimed"), &ids);
        }
        let holder = self.leases.values().find(|l| {
            matches!(l.phase(), LeasePhase::Acquired | LeasePhase::Active | LeasePhase::Released)
                && l.resource_ref().is_some_and(|r| r.uid == key.resource)
        });
        match holder.filter(|_| !self.vanished.contains(&key.resource)) {
            Some(lease) => {
                wrong(format!("{key:?} was torn down, and a lease holds it"), &[&key.resource, uid(&lease.metadata)])
            }
            None => Ok(()),
        }
    }
}

fn ids(key: &EffectKey) -> Vec<&str> {
    key.lease.iter().map(|(lease, _)| lease.as_str()).chain([key.resource.as_str()]).collect()
}
