//! Resources: the rules R1 to R8, and B1.

use super::{Now, Verdict, causes, wrong};
use crate::journal::Change;
use drydock::{
    api::{Claim, CommandType, LeasePhase, Resource, ResourcePhase, ResourceSpec, blueprint::Recycle, step::EffectKey},
    lifecycle::{commands, conditions, has_finalizer, is_deleting, uid},
};
use std::sync::Arc;

use ResourcePhase::{Active, Broken, Destroyed, Pending, Released};

/// Whether a resource's steps have effects.
pub fn has_effects(resource: &Resource) -> bool {
    let built = resource.status.as_ref().and_then(|s| s.built.as_ref());
    built.is_some_and(|built| built["driver"] == "webhook")
}

fn can_become(before: ResourcePhase, after: ResourcePhase) -> bool {
    match before {
        Pending => true,
        Active => after != Pending,
        Released => matches!(after, Released | Destroyed),
        Broken => matches!(after, Broken | Destroyed),
        Destroyed => false,
    }
}

/// B3, and design.md, 6: nothing is written to a resource's spec but a `Reclaim` at the end of its queue, while nobody holds it.
fn reclaimed(old: &Resource, new: &Resource) -> Verdict {
    let id = uid(&new.metadata);
    let before = old.spec.commands.len();
    let only_appended = new.spec.commands.starts_with(&old.spec.commands)
        && new.spec.commands[before..]
            .iter()
            .all(|command| command.type_ == CommandType::Reclaim && command.id.starts_with("reclaim-"));
    let same = ResourceSpec { commands: old.spec.commands.clone(), ..new.spec.clone() } == old.spec;
    if !only_appended || !same {
        return wrong("the controller wrote a resource's spec", &[id]);
    }
    if old.phase() != Active || !old.claims().is_empty() {
        return wrong("B3: a Reclaim was appended to a resource that is not idle", &[id]);
    }
    Ok(())
}

impl Now {
    /// The name is the lock of the slot; and there are never more than the limit.
    pub(super) fn resource_created(&self, new: &Resource) -> Verdict {
        let id = uid(&new.metadata);
        let owner = &new.spec.blueprint_ref.uid;
        let Some(blueprint) = self.all_blueprints.get(owner) else {
            return wrong("B1: a resource was made for a Blueprint that never was", &[id]);
        };
        if !self.guarded.contains(owner) {
            return wrong("B1: a resource was made before its Blueprint had the finalizer", &[id, owner]);
        }
        if new.slot().is_none() || blueprint.metadata.name.as_deref() != Some(&new.spec.blueprint_ref.name) {
            return wrong("a resource's name is not that of a slot of its Blueprint", &[id]);
        }
        self.one_build_for_each(new)?;
        // A list of hosts may be longer than the limit: then it is held when they are built.
        self.made_rightly(new)
    }

    fn limit(&self, new: &Resource, counts: impl Fn(&Resource) -> bool) -> Verdict {
        let owner = &new.spec.blueprint_ref.uid;
        let others = self.resources.values().filter(|r| {
            r.spec.blueprint_ref.uid == *owner
                && r.phase() != Destroyed
                && r.metadata.uid != new.metadata.uid
                && counts(r)
        });
        let others = others.count() as i64;
        let limit = self.readable(owner).map(|b| b.spec.limits.max_resources.unwrap_or(i64::MAX)).max().unwrap_or(0);
        if others >= limit {
            let what = format!("one more than the limit of {limit}: there are {others} others");
            return wrong(what, &[uid(&new.metadata), owner]);
        }
        Ok(())
    }

    pub(super) fn resource_status(&mut self, old: &Arc<Resource>, new: &Arc<Resource>) -> Verdict {
        let id = uid(&new.metadata);
        let (before, after) = (old.phase(), new.phase());
        if before == Destroyed {
            return wrong("the status of a Destroyed resource was written", &[id]);
        }
        if !can_become(before, after) {
            return wrong(format!("a resource went from {before:?} to {after:?}"), &[id]);
        }
        for claim in old.claims() {
            if !new.claims().iter().any(|c| (&c.uid, c.attempt) == (&claim.uid, claim.attempt)) {
                self.claim_dropped(new, claim)?;
            }
        }
        let granted: Vec<Claim> = new
            .claims()
            .iter()
            .filter(|claim| !old.claims().iter().any(|c| (&c.uid, c.attempt) == (&claim.uid, claim.attempt)))
            .cloned()
            .collect();
        for claim in &granted {
            self.granted_to(old, new, claim)?;
            self.note_overtaken(new, claim);
            self.is_not_passed_over_for_ever(new, claim)?;
            self.note_placement(old, new, claim);
        }
        if after == Active && before != Active {
            self.became_active(old, new)?;
        }
        if after == Destroyed {
            self.resource_destroyed(old, new)?;
        }
        self.ledger_of_resource(old, new)?;
        self.question_of_resource(old, new)?;
        causes::of_resource(self, old, new)
    }

    /// R3, and that a slot is never claimed by more leases than it has room for.
    fn granted_to(&mut self, old: &Resource, new: &Resource, claim: &Claim) -> Verdict {
        let id = uid(&new.metadata);
        let status = new.status.as_ref().unwrap();
        if new.phase() != Active || is_deleting(&new.metadata) {
            return wrong("R3: granted by a resource that is not Active, or deleted", &[id, &claim.uid]);
        }
        if commands::unconsumed(&old.spec.commands, &status.commands).next().is_some() {
            return wrong("R3: granted beside a command that was not consumed", &[id, &claim.uid]);
        }
        let room = self.places(&new.spec.blueprint_ref.uid);
        if status.claims.len() as i64 > room {
            return wrong(format!("more claims than there is room for, {room}"), &[id, &claim.uid]);
        }
        if !self.known_leases.contains(&claim.uid) {
            return wrong("G3: a claim that no lease has by its UID", &[id, &claim.uid]);
        }
        if let Some(lease) = self.leases.get(&claim.uid) {
            self.will_do(lease, new)?;
        }
        self.within_its_share(new, claim)?;
        let granted = self.granted.entry(id.to_owned()).or_default();
        granted.insert(claim.uid.clone());
        let blueprint = self.all_blueprints.get(&new.spec.blueprint_ref.uid);
        let once = blueprint.is_some_and(|b| b.spec.lease.recycle == Recycle::Destroy);
        if once && granted.len() > 1 {
            return wrong("R5: a resource that serves once was granted twice", &[id, &claim.uid]);
        }
        Ok(())
    }

    /// R4: a claim is a promise that only the lease can end.
    fn claim_dropped(&self, new: &Resource, claim: &Claim) -> Verdict {
        let id = uid(&new.metadata);
        let key = EffectKey::of_claim(id, claim);
        match self.leases.get(&claim.uid) {
            Some(lease) => {
                let elsewhere = lease.resource_ref().is_some_and(|r| r.uid != id);
                let ended = lease.phase() == LeasePhase::Destroyed
                    || lease.attempt() > claim.attempt
                    || (elsewhere && lease.attempt() >= claim.attempt);
                if !ended {
                    return wrong("R4: a claim was dropped whose lease has not ended it", &[id, &claim.uid]);
                }
            }
            None if self.vanished.contains(&claim.uid) && !self.done.contains(&key) && has_effects(new) => {
                return wrong("R4c: a claim was dropped, and what the lease left was not torn down", &[id, &claim.uid]);
            }
            None => {}
        }
        if self.there.contains(&key) && !self.is_lost(&key) {
            return wrong("a claim was dropped, and its environment is there", &[id, &claim.uid]);
        }
        Ok(())
    }

    fn became_active(&self, old: &Resource, new: &Resource) -> Verdict {
        let id = uid(&new.metadata);
        let owner = &new.spec.blueprint_ref.uid;
        let blueprint = self.all_blueprints.get(owner);
        if blueprint.is_none_or(|b| b.spec.driver.hosts.is_none()) {
            let built = old.status.as_ref().is_some_and(|s| s.built.is_some());
            if !built || !self.there.contains(&EffectKey::of_resource(id)) {
                return wrong("a resource is Active that is not in the world, or was not on record", &[id]);
            }
            let books = |r: &Resource| r.status.as_ref().map(|s| s.storage.clone());
            // Where it is granted in the same write, the hook may have written more.
            return match books(new).filter(|_| new.claims().is_empty()) {
                Some(now) => self.books_at_activation(id, &EffectKey::of_resource(id), books(old).as_ref(), &now),
                None => Ok(()),
            };
        }
        self.limit(new, |r| r.phase() != Pending)
    }

    /// R8: Destroyed when all of it is gone.
    fn resource_destroyed(&mut self, old: &Resource, new: &Resource) -> Verdict {
        let id = uid(&new.metadata);
        let key = EffectKey::of_resource(id);
        if !new.claims().is_empty() {
            return wrong("R8: a resource is Destroyed that is claimed", &[id]);
        }
        let status = new.status.as_ref().unwrap();
        let before = old.status.as_ref();
        let told = before.map_or(&[][..], |s| &s.conditions);
        let ledger = before.map(|s| s.commands.as_slice());
        super::commands::forgotten_rightly(id, [told, &status.conditions], ledger, &status.commands)?;
        if conditions::reason(&status.conditions, "TornDown") == "Forgotten" {
            self.forgotten.insert(id.to_owned());
            return Ok(());
        }
        if let Some(left) = self.on_resource(id).find(|key| !self.is_lost(key)) {
            return wrong(format!("R8: a resource is Destroyed, and {left:?} is there"), &[id]);
        }
        if self.there.contains(&key) {
            return wrong("R8: a resource is Destroyed, and it is in the world", &[id]);
        }
        if has_effects(new) {
            if !old.claims().is_empty() || !matches!(old.phase(), Released | Broken) {
                return wrong("R8: a resource is Destroyed whose end, without claims, was not on record", &[id]);
            }
            if !self.done.contains(&key) {
                return wrong("R8: a resource is Destroyed, and its teardown was not done", &[id]);
            }
        }
        Ok(())
    }

    /// What a controller does with a resource beside its status: the finalizer, and the end of it.
    pub(super) fn resource_metadata(&self, old: &Resource, new: &Resource, change: Change) -> Verdict {
        let id = uid(&new.metadata);
        if !super::commands::is_pruned(&old.spec, &new.spec, &old.status) {
            reclaimed(old, new)?;
        }
        let let_go = has_finalizer(&old.metadata) && !has_finalizer(&new.metadata);
        let deleted = is_deleting(&new.metadata) && !is_deleting(&old.metadata);
        // R1: nothing can have been built for a Blueprint that is gone.
        let unbuilt = old.phase() == Pending
            && old.status.as_ref().is_none_or(|s| s.built.is_none())
            && !self.blueprints.contains_key(&old.spec.blueprint_ref.uid);
        if (let_go || deleted || change == Change::Deleted) && old.phase() != Destroyed && !unbuilt {
            return wrong("R8: a resource was let go, or deleted, before it was Destroyed", &[id]);
        }
        Ok(())
    }

    /// While a lease is bound its resource is there, unless that went by force.
    pub(super) fn resource_gone(&self, last: &Resource) -> Verdict {
        let id = uid(&last.metadata);
        let holds = |lease: &&Arc<drydock::api::Lease>| {
            !matches!(lease.phase(), LeasePhase::Pending | LeasePhase::Destroyed)
                && lease.resource_ref().is_some_and(|r| r.uid == id)
        };
        let forced = last.phase() != Destroyed || self.forgotten.contains(id);
        match self.leases.values().find(holds) {
            Some(lease) if !forced => wrong("a resource is gone that a lease holds", &[id, uid(&lease.metadata)]),
            _ => Ok(()),
        }
    }
}
