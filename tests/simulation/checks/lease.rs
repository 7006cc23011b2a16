//! Leases: the rules L1 to L9.

use super::{Now, Verdict, causes, wrong};
use crate::journal::Change;
use drydock::{
    api::{CommandType, DeadlineName, Lease, LeasePhase, LeaseStatus, ResourcePhase, step::EffectKey},
    lifecycle::{commands, conditions, deadline, has_finalizer, is_deleting, uid},
};
use std::sync::Arc;

use LeasePhase::{Acquired, Active, Broken, Destroyed, Pending, Released};

/// Whether a lease is on its way back to waiting.
pub fn is_returning(lease: &Lease) -> bool {
    let conditions = lease.status.as_ref().map_or(&[][..], |s| &s.conditions);
    lease.phase() == Acquired && conditions::reason(conditions, "Ready") == "Returning"
}

/// Until when a lease is held for a look.
pub fn hold(lease: &Lease) -> Option<jiff::Timestamp> {
    let deadlines = lease.status.as_ref().map_or(&[][..], |s| &s.deadlines);
    deadlines.iter().find(|d| d.name == DeadlineName::Hold).map(|d| d.at.timestamp())
}

/// The key of what a lease has in the world, where it is bound.
pub fn key(lease: &Lease) -> Option<EffectKey> {
    let resource = lease.resource_ref()?.uid.clone();
    Some(EffectKey { resource, lease: Some((uid(&lease.metadata).to_owned(), lease.attempt())) })
}

/// Whether what a lease is bound to has steps with effects.
pub fn has_effects(lease: &Lease) -> bool {
    let built = lease.status.as_ref().and_then(|s| s.built.as_ref());
    built.is_some_and(|built| built["driver"] == "webhook")
}

fn can_become(before: LeasePhase, after: LeasePhase) -> bool {
    match before {
        Pending => true,
        Acquired => true,
        Active => matches!(after, Active | Released | Destroyed),
        Released => matches!(after, Released | Destroyed),
        Broken => matches!(after, Broken | Destroyed),
        Destroyed => false,
    }
}

impl Now {
    pub(super) fn lease_status(&mut self, old: &Arc<Lease>, new: &Arc<Lease>) -> Verdict {
        let id = uid(&new.metadata);
        let (before, after) = (old.phase(), new.phase());
        let status = new.status.as_ref().unwrap();
        if before == Destroyed {
            return wrong("the status of a Destroyed lease was written", &[id]);
        }
        if !can_become(before, after) {
            return wrong(format!("a lease went from {before:?} to {after:?}"), &[id]);
        }
        self.attempts(old, new)?;
        self.bound(old, new)?;
        self.in_the_world(old, new, status)?;
        // L8: a hold is written together with Released, and may only end, or be made longer by a command.
        if hold(new).is_some() && hold(old).is_none() && before != Active {
            return wrong("L8: a hold began that was not written with Released", &[id]);
        }
        self.hold_ended(old, new)?;
        self.within_limits(old, new)?;
        self.ledger_of_lease(old, new)?;
        self.question_of_lease(old, new)?;
        causes::of_lease(self, old, new)
    }

    /// Q3: a hold ends at its time, by a Release without hold, by deletion, or with its resource.
    fn hold_ended(&self, old: &Lease, new: &Lease) -> Verdict {
        let Some(until) = hold(old).filter(|_| old.phase() == Released) else { return Ok(()) };
        let shorter = hold(new).is_none_or(|now| now < until);
        let ledger = |lease: &Lease| lease.status.as_ref().map(|s| s.commands.clone()).unwrap_or_default();
        let asked = commands::unconsumed(&new.spec.commands, &ledger(old))
            .any(|c| c.type_ == CommandType::Release && c.hold.is_none());
        let resource = new.resource_ref().and_then(|r| self.resources.get(&r.uid));
        let lost = resource.is_none_or(|r| !matches!(r.phase(), ResourcePhase::Pending | ResourcePhase::Active));
        if shorter && until > self.lately.latest() && !asked && !lost && !is_deleting(&new.metadata) {
            return wrong("Q3: a hold ended before its time", &[uid(&new.metadata)]);
        }
        Ok(())
    }

    /// `maxHold` and `maxTTL`, by whatever the writer can have gone by; where it can have seen no Blueprint, by none.
    fn within_limits(&self, old: &Lease, new: &Lease) -> Verdict {
        let id = uid(&new.metadata);
        let resource = new.resource_ref().and_then(|r| self.resources.get(&r.uid));
        let Some(owner) = resource.map(|r| r.spec.blueprint_ref.uid.as_str()).filter(|owner| self.sees(owner)) else {
            return Ok(());
        };
        let status = new.status.as_ref().unwrap();
        let most = self.readable(owner).map(|b| b.spec.lease.max_hold.unwrap_or(deadline::MAX_HOLD)).max();
        let latest = status.released_at.zip(most).map(|(from, most)| from.after(most).timestamp());
        if hold(new) != hold(old) && hold(new).is_some_and(|until| latest.is_some_and(|latest| until > latest)) {
            return wrong("a lease is held for longer than maxHold", &[id, owner]);
        }
        let end = |lease: &Lease| lease.status.as_ref().and_then(|s| s.expires_at);
        let told = new.phase() == Active && (old.phase() != Active || end(new) != end(old));
        let latest = self.maximum(owner, status).filter(|_| told);
        if latest.is_some_and(|latest| end(new).is_none_or(|end| end > latest)) {
            return wrong("a lease is to live for longer than maxTTL", &[id, owner]);
        }
        Ok(())
    }

    fn attempts(&self, old: &Lease, new: &Lease) -> Verdict {
        let id = uid(&new.metadata);
        let returns = |lease: &Lease| lease.status.as_ref().map_or(0, |s| s.returns);
        let back = old.phase() == Acquired && new.phase() == Pending;
        if back && (new.attempt() != old.attempt() + 1 || returns(new) != returns(old) + 1) {
            return wrong("L5: a lease came back to waiting without a new attempt", &[id]);
        }
        if back && (!is_returning(old) || new.resource_ref().is_some()) {
            return wrong(
                "L5: a lease came back to waiting that was not Returning on record, or is bound still",
                &[id],
            );
        }
        if !back && (returns(new) != returns(old) || new.attempt() < old.attempt()) {
            return wrong("the attempt of a lease went back, or its returns moved", &[id]);
        }
        if new.attempt() > old.attempt() && old.phase() != Pending && !back {
            return wrong("L4: the attempt of a lease moved though it does not wait", &[id]);
        }
        Ok(())
    }

    /// A lease is never bound to two resources; and while it is bound, that claims it.
    fn bound(&self, old: &Lease, new: &Lease) -> Verdict {
        let id = uid(&new.metadata);
        let Some(reference) = new.resource_ref() else {
            let unbound = new.phase() == Pending || (old.phase() == Pending && new.phase() == Destroyed);
            return if unbound { Ok(()) } else { wrong("a lease that holds a resource names none", &[id]) };
        };
        if old.resource_ref().is_some_and(|before| before != reference) {
            return wrong("a lease changed its resource", &[id, &reference.uid]);
        }
        if new.phase() == Pending {
            return wrong("a lease that waits names a resource", &[id]);
        }
        match self.resources.get(&reference.uid) {
            Some(resource) => {
                let mine = |c: &drydock::api::Claim| c.uid == id && c.attempt == new.attempt();
                if !resource.claims().iter().any(mine) {
                    return wrong("a lease is bound to a resource that does not claim it", &[id, &reference.uid]);
                }
                Ok(())
            }
            None if self.vanished.contains(&reference.uid) || self.forgotten.contains(&reference.uid) => Ok(()),
            None => wrong("a lease is bound to a resource that is gone", &[id, &reference.uid]),
        }
    }

    fn in_the_world(&mut self, old: &Lease, new: &Lease, status: &LeaseStatus) -> Verdict {
        let id = uid(&new.metadata);
        if new.phase() == Active && old.phase() != Active && has_effects(new) {
            if old.phase() != Acquired || is_returning(old) {
                return wrong("L3: a lease is Active that was not Acquired on record", &[id]);
            }
            let Some(key) = key(new).filter(|key| self.there.contains(key)) else {
                return wrong("L3: a lease is Active, and there is nothing in the world for it", &[id]);
            };
            self.books_at_activation(id, &key, old.status.as_ref().map(|s| &s.storage), &status.storage)?;
        }
        if new.phase() != Destroyed {
            return Ok(());
        }
        let before = old.status.as_ref();
        let told = before.map_or(&[][..], |s| &s.conditions);
        let ledger = before.map(|s| s.commands.as_slice());
        super::commands::forgotten_rightly(id, [told, &status.conditions], ledger, &status.commands)?;
        if conditions::reason(&status.conditions, "TornDown") == "Forgotten" {
            self.forgotten.insert(id.to_owned());
            return Ok(());
        }
        if let Some(left) = self.of_lease(id).find(|key| !self.is_lost(key)) {
            return wrong(format!("L9: a lease is Destroyed, and {left:?} is there"), &[id, &left.resource]);
        }
        let Some(key) = key(new).filter(|_| has_effects(new)) else { return Ok(()) };
        // On its way back to the queue it is torn down, too: one that ends then need not be torn down once more.
        if !matches!(old.phase(), Released | Broken) && !is_returning(old) {
            return wrong("L8: a lease is Destroyed whose end was not on record", &[id]);
        }
        if !self.done.contains(&key) {
            return wrong("L9: a lease is Destroyed, and its teardown was not done", &[id, &key.resource]);
        }
        Ok(())
    }

    /// What a controller does with a lease beside its status: the finalizer, and the end of it.
    pub(super) fn lease_metadata(&self, old: &Lease, new: &Lease, change: Change) -> Verdict {
        let id = uid(&new.metadata);
        if !super::commands::is_pruned(&old.spec, &new.spec, &old.status) {
            return wrong("the controller wrote a lease's spec", &[id]);
        }
        let let_go = has_finalizer(&old.metadata) && !has_finalizer(&new.metadata);
        if (let_go || change == Change::Deleted) && old.phase() != Destroyed {
            return wrong("L9: a lease was let go before it was Destroyed", &[id]);
        }
        let deleted = new.metadata.deletion_timestamp.is_some() && old.metadata.deletion_timestamp.is_none();
        if deleted && old.phase() != Destroyed {
            return wrong("G2: the controller deleted a lease that is not Destroyed", &[id]);
        }
        Ok(())
    }
}
