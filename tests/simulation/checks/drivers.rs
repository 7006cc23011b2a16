//! What drivers say beside what their steps do: to deadlines that have come, as leases come and go, of what is damaged, and
//! what they put into their books. Each takes effect once, and is on record.

use super::{Now, Verdict, wrong};
use crate::{
    habits::{ACQUIRED, RELEASED, count_of},
    journal::{End, What},
};
use drydock::{
    api::{
        Blueprint, Claim, Deadline, DeadlineName, Lease, LeasePhase, LeaseStatus, Resource, ResourcePhase, Wish,
        step::{EffectKey, HookCall, HookKind, Moves, StepKind, Storage, Verdict as Says},
    },
    driver::Work,
    lifecycle::{deadline, uid},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Who asked, or was told, about what.
type Whose<T> = BTreeMap<Arc<str>, BTreeMap<EffectKey, T>>;

/// An answer is acted on in the pass that has asked for it: so long that may take.
const PASS: Duration = Duration::from_secs(120);

/// What each controller has had from the drivers.
#[derive(Default)]
pub struct Drivers {
    /// Whether they want to be told of leases.
    pub hooks: bool,
    asked: Whose<(Duration, Option<Says>)>,
    /// What was stored in a call that goes on, and with one that is done.
    stores: Whose<Storage>,
    stored: Whose<Option<Storage>>,
    hooked: BTreeMap<Arc<str>, BTreeMap<HookCall, Option<Moves>>>,
    /// What is damaged, and what was, until when.
    pub damaged: BTreeMap<EffectKey, bool>,
    mended: BTreeMap<EffectKey, (Duration, bool)>,
}

impl Drivers {
    /// Takes note of what a driver said.
    pub(super) fn note(&mut self, by: &Arc<str>, what: &What, at: Duration) {
        match what {
            What::Stored { key, books } => {
                self.stores.entry(by.clone()).or_default().insert(key.clone(), books.clone());
            }
            What::Asked { key, says } => {
                self.asked.entry(by.clone()).or_default().insert(key.clone(), (at, says.clone()));
            }
            What::Hooked { call, moves } => {
                self.hooked.entry(by.clone()).or_default().insert(call.clone(), moves.clone());
            }
            What::Damaged { key, for_good } => drop(self.damaged.insert(key.clone(), *for_good)),
            What::Mended(key) => self.is_whole(key, at),
            _ => {}
        }
    }

    /// It is as it should be, or gone.
    pub(super) fn is_whole(&mut self, key: &EffectKey, at: Duration) {
        if let Some(for_good) = self.damaged.remove(key) {
            self.mended.insert(key.clone(), (at, for_good));
        }
    }

    /// A call has ended. Returns whether it gave more for its books than a status holds: that is its failure, for good.
    pub(super) fn ended(&mut self, by: &Arc<str>, key: &EffectKey, end: &End) -> bool {
        let books = self.stores.entry(by.clone()).or_default().remove(key);
        let too_much = books.as_ref().is_some_and(|b| b.len() > 32 || b.values().any(|v| v.chars().count() > 4096));
        if *end == End::Done {
            self.stored.entry(by.clone()).or_default().insert(key.clone(), books);
        }
        too_much
    }

    /// Whether it is damaged, or was a moment ago; and if so, whether for good.
    fn was_damaged(&self, key: &EffectKey, at: Duration) -> Option<bool> {
        let mended = || self.mended.get(key).filter(|(until, _)| *until + PASS > at).map(|(_, for_good)| *for_good);
        self.damaged.get(key).copied().or_else(mended)
    }
}

fn has_a_say(blueprint: &Blueprint) -> bool {
    blueprint.spec.driver.webhook.as_ref().is_some_and(|webhook| webhook.client_config.url.contains("asked"))
}

fn unless(blueprint: &Blueprint) -> bool {
    blueprint.spec.expiry.as_ref().is_some_and(|expiry| expiry.unless.is_some())
}

impl Now {
    /// Story 47: what is read in the teardown is what was stored last.
    pub(super) fn books_at_teardown(&self, kind: StepKind, work: &Work) -> Verdict {
        let (read, recorded, id) = match (kind, &work.lease, &work.resource) {
            (StepKind::TearDownLease, Some(lease), _) => {
                let id = uid(&lease.metadata);
                (lease.status.as_ref().map(|s| &s.storage), self.leases.get(id).and_then(|l| books_of_lease(l)), id)
            }
            (StepKind::TearDownResource, _, Some(resource)) => {
                let id = uid(&resource.metadata);
                let recorded = self.resources.get(id).and_then(|r| r.status.as_ref()).map(|s| &s.storage);
                (resource.status.as_ref().map(|s| &s.storage), recorded, id)
            }
            _ => return Ok(()),
        };
        match recorded {
            Some(recorded) if read != Some(recorded) => {
                wrong(format!("a teardown reads {read:?}, and {recorded:?} was stored last"), &[id])
            }
            _ => Ok(()),
        }
    }

    /// What a step that is done has stored is in the write that tells of it.
    pub(super) fn books_at_activation(
        &self,
        id: &str,
        key: &EffectKey,
        old: Option<&Storage>,
        new: &Storage,
    ) -> Verdict {
        let by = self.by.as_ref().and_then(|by| self.drivers.stored.get(by));
        let expected = by.and_then(|stored| stored.get(key)).and_then(Option::as_ref);
        let nothing = Storage::new();
        let expected = expected.or(old).unwrap_or(&nothing);
        if new != expected {
            return wrong(format!("the books say {new:?}, and {expected:?} was stored"), &[id]);
        }
        Ok(())
    }

    /// The hooks of the claims that came and went with a write, in the order in which they were called: what each moved.
    fn hooks_of(&self, old: &Resource, new: &Resource) -> Result<Vec<(HookKind, Option<Moves>)>, super::Wrong> {
        let id = uid(&new.metadata);
        if !self.drivers.hooks || !super::resource::has_effects(new) {
            return Ok(Vec::new());
        }
        let is_in = |claim: &Claim, of: &Resource| {
            of.claims().iter().any(|c| (&c.uid, c.attempt) == (&claim.uid, claim.attempt))
        };
        let gone = old.claims().iter().filter(|claim| !is_in(claim, new)).map(|c| (HookKind::DidRelease, c));
        let come = new.claims().iter().filter(|claim| !is_in(claim, old)).map(|c| (HookKind::DidAcquire, c));
        let told = self.by.as_ref().and_then(|by| self.drivers.hooked.get(by));
        let mut moved = Vec::new();
        for (kind, claim) in gone.chain(come) {
            let call = HookCall { kind, key: EffectKey::of_claim(id, claim) };
            match told.and_then(|told| told.get(&call)) {
                Some(moves) => moved.push((kind, moves.clone())),
                None => wrong(format!("{kind:?}: the driver was not told"), &[id, &claim.uid])?,
            }
        }
        Ok(moved)
    }

    /// Story 52: a hook takes effect once, in the write that grants, or that drops the claim. Returns the end that it sets.
    pub(super) fn hooks_took_effect(&self, old: &Resource, new: &Resource) -> Result<Option<Wish>, super::Wrong> {
        let id = uid(&new.metadata);
        let moved = self.hooks_of(old, new)?;
        let books = |r: &Resource, name| r.status.as_ref().map_or(0, |s| count_of(&s.storage, name));
        for (kind, name) in [(HookKind::DidAcquire, ACQUIRED), (HookKind::DidRelease, RELEASED)] {
            let stores = |moves: &Option<Moves>| moves.as_ref().is_some_and(|moves| moves.storage.is_some());
            let told = moved.iter().filter(|(of, moves)| *of == kind && stores(moves)).count() as u64;
            if books(new, name) != books(old, name) + told {
                let what = format!(
                    "{kind:?} was answered {told} times, and the count went from {} to {}",
                    books(old, name),
                    books(new, name)
                );
                wrong(what, &[id])?;
            }
        }
        let ends = moved.into_iter().rev().find_map(|(_, moves)| moves?.expires);
        Ok(ends.map(|Wish { at, .. }| Wish { at, never: at.is_none().then_some(true) }))
    }

    /// Story 51: nothing expires unasked where somebody has a say, or though it was declined; but `maxTTL`.
    pub(super) fn asked_before_end(&self, owner: &str, key: &EffectKey, at_maximum: bool) -> Verdict {
        let id = key.lease.as_ref().map_or(&key.resource, |(lease, _)| lease);
        if at_maximum || !self.readable(owner).all(has_a_say) {
            return Ok(());
        }
        let by = self.by.as_ref().and_then(|by| self.drivers.asked.get(by));
        match by.and_then(|asked| asked.get(key)) {
            Some((at, None | Some(Says::Expire))) if *at + PASS >= self.at => Ok(()),
            said => wrong(format!("it expired, and what the driver said to that is {said:?}"), &[id]),
        }
    }

    /// A deadline that is put off was declined; and never beyond `maxTTL`.
    pub(super) fn put_off_rightly(
        &self,
        owner: &str,
        key: &EffectKey,
        deadlines: [&[Deadline]; 2],
        maximum: Option<Option<drydock::api::MicroTime>>,
    ) -> Verdict {
        let id = key.lease.as_ref().map_or(&key.resource, |(lease, _)| lease);
        let [before, after] = deadlines.map(|of| deadline::find(of, DeadlineName::Asking));
        let Some(asking) = after.filter(|_| before.map(|b| b.at) != after.map(|a| a.at)) else { return Ok(()) };
        if maximum.flatten().is_some_and(|maximum| asking.at > maximum) {
            return wrong("maxTTL is declined", &[id]);
        }
        let by = self.by.as_ref().and_then(|by| self.drivers.asked.get(by));
        let declined = by.and_then(|asked| asked.get(key));
        let declined = declined.is_some_and(|(_, says)| matches!(says, Some(Says::Decline(_))));
        if !declined && !self.readable(owner).any(unless) {
            return wrong("a deadline was put off that nobody has declined", &[id]);
        }
        Ok(())
    }

    /// What is lost for good is damaged for good, or has been lost for long, and nobody holds it.
    pub(super) fn lost_rightly(&self, old: &Resource, new: &Resource) -> bool {
        let status = new.status.as_ref().unwrap();
        let damaged = self.drivers.was_damaged(&EffectKey::of_resource(uid(&new.metadata)), self.at);
        let recorded = old.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let ready = drydock::lifecycle::conditions::get(recorded, "Ready").filter(|c| c.reason == "ObjectLost");
        let timeouts = self
            .readable(&new.spec.blueprint_ref.uid)
            .map(|b| b.spec.resource.build_timeout.unwrap_or(deadline::BUILD_TIMEOUT));
        let long = ready.zip(timeouts.min()).is_some_and(|(ready, timeout)| {
            let since = drydock::api::MicroTime::from(ready.last_transition_time.0);
            status.released_at.is_some_and(|at| since.after(timeout) <= at)
        });
        status.claims.is_empty() && (damaged == Some(true) || (damaged.is_some() && long))
    }

    /// The latest end that `maxTTL` lets a lease have: by whatever its writer can have gone by.
    pub(super) fn maximum(&self, owner: &str, status: &LeaseStatus) -> Option<drydock::api::MicroTime> {
        let activated = status.activated_at?;
        let ends: Option<Vec<_>> = self.readable(owner).map(|b| Some(activated.after(b.spec.lease.max_ttl?))).collect();
        ends?.into_iter().max()
    }

    /// Of a lease that is, or was, active.
    pub(super) fn question_of_lease(&self, old: &Lease, new: &Lease) -> Verdict {
        let (Some(before), Some(after), Some(key)) = (&old.status, &new.status, super::lease::key(new)) else {
            return Ok(());
        };
        let Some(owner) = self.resources.get(&key.resource).map(|r| &r.spec.blueprint_ref.uid) else { return Ok(()) };
        if old.phase() != LeasePhase::Active || !super::lease::has_effects(new) {
            return Ok(());
        }
        if new.phase() == LeasePhase::Active {
            let maximum = self.maximum(owner, after);
            return self.put_off_rightly(owner, &key, [&before.deadlines, &after.deadlines], Some(maximum));
        }
        let expired = drydock::lifecycle::conditions::reason(&after.conditions, "Released") == "Expired";
        let lowest = self.readable(owner).filter_map(|b| Some(after.activated_at?.after(b.spec.lease.max_ttl?))).min();
        let at_maximum = lowest.zip(after.released_at).is_some_and(|(lowest, at)| lowest <= at);
        if expired { self.asked_before_end(owner, &key, at_maximum) } else { Ok(()) }
    }

    /// Of a resource that is, or was, active.
    pub(super) fn question_of_resource(&self, old: &Resource, new: &Resource) -> Verdict {
        let (Some(before), Some(after)) = (&old.status, &new.status) else { return Ok(()) };
        let (key, owner) = (EffectKey::of_resource(uid(&new.metadata)), &new.spec.blueprint_ref.uid);
        if old.phase() != ResourcePhase::Active || !super::resource::has_effects(new) {
            return Ok(());
        }
        if new.phase() == ResourcePhase::Active {
            return self.put_off_rightly(owner, &key, [&before.deadlines, &after.deadlines], None);
        }
        let reason = drydock::lifecycle::conditions::reason(&after.conditions, "Released");
        if matches!(reason, "Expired" | "IdleTimeout") { self.asked_before_end(owner, &key, false) } else { Ok(()) }
    }
}

fn books_of_lease(lease: &Lease) -> Option<&Storage> {
    lease.status.as_ref().map(|s| &s.storage)
}
