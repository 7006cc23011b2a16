//! Who is offered what: the ladder reuse → build → reclaim → wait (design.md, 5; reclaim is told beside). It keeps one thing true after every event: no
//! lease that waits fits a resource with room that is not offered already, nor a vacant slot that may be built in. So each
//! event looks only at what it has changed.
//!
//! An offer (lease ↔ resource) and an order (lease ↔ slot) are taken back only by the pass that they were made to, when
//! it has ended: then the index shows what came of it.

use super::{Index, Key, ObjectKey, Pool, Queued, Wants, precedence::MAX_HELD_BACK};
use crate::{
    api::{Lease, MicroTime, Resource, ResourcePhase, blueprint::Placement, slot_name, step::Slot},
    lifecycle::{
        deadline, matching,
        pool::{self, SlotState},
        queue, uid,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// More than any number of leases on one resource.
const LAST: i64 = 1 << 32;

impl Index {
    /// The ladder, for one lease: a resource with room, else a vacant slot, else what makes room, else it waits.
    pub(super) fn serve(&mut self, key: &ObjectKey, now: MicroTime) {
        self.reuse_or_build(key, now);
        self.plan_for(key);
    }

    fn reuse_or_build(&mut self, key: &ObjectKey, now: MicroTime) {
        let Some(lease) = self.leases.get(key).cloned() else { return };
        let Some(waiter) = self.waiters.get(key) else { return };
        // Its time may be up, and its own pass, which takes it out of the queues, still to come: what is ordered for it now
        // would not be made, and be ordered again, without end.
        if waiter.offered.is_some() || self.is_claimed(&lease) || !queue::waits(&lease, now) {
            return;
        }
        let queues = waiter.queues.clone();
        for held_back in 0..=MAX_HELD_BACK {
            let free = |queued: &Queued| match held_back {
                // It has stood back for enough others.
                MAX_HELD_BACK => {
                    self.best_free_of(&queued.blueprint, &lease, now, |key| !self.is_held_back_by_name(key))
                }
                _ => self.best_free(&queued.blueprint, &lease, now),
            };
            if let Some(resource) = queues.iter().find_map(free) {
                return self.make_offer(key, &resource, now);
            }
            if !queues.iter().any(|queued| self.hold_back_for_another(&queued.blueprint, &lease, now)) {
                break;
            }
        }
        for Queued { blueprint, wants, .. } in queues {
            let put_off = |pool: &Pool| pool.flavour_put_off(&wants.flavours, now).is_some();
            if self.blueprints.get(&blueprint).is_some_and(put_off) {
                continue;
            }
            if !self.has_build_in_flight(key, &blueprint, now)
                && self.may_build_at_all(&blueprint, &lease)
                && self.blueprints.get(&blueprint).is_some_and(|pool| self.may_build_for(pool, &key.namespace))
                && self.vacant_slot(&blueprint, now, |slot| matching::fits_slot(&lease.spec, slot)).is_some()
            {
                // A slot that has just become vacant is the first's, whoever looks first.
                self.order(&blueprint, now);
                if self.waiters.get(key).is_some_and(|waiter| waiter.ordered.is_some()) {
                    return;
                }
            }
        }
    }

    /// Where there is a choice a lease gets a resource that outlives it, else the one that lives longest.
    pub(super) fn best_free(&self, blueprint: &ObjectKey, lease: &Lease, now: MicroTime) -> Option<ObjectKey> {
        if self.blueprints.get(blueprint)?.free.is_empty() {
            return None;
        }
        let asking = ObjectKey::of(&lease.metadata);
        self.best_free_of(blueprint, lease, now, self.may_take(blueprint, &asking, now))
    }

    fn best_free_of(
        &self,
        blueprint: &ObjectKey,
        lease: &Lease,
        now: MicroTime,
        may_take: impl Fn(&ObjectKey) -> bool,
    ) -> Option<ObjectKey> {
        let pool = self.blueprints.get(blueprint)?;
        if pool.free.is_empty() || !self.may_hold(pool, lease.metadata.namespace.as_deref().unwrap_or_default()) {
            return None;
        }
        let end = |r: &Resource| r.status.as_ref().and_then(|s| s.expires_at);
        let needed = deadline::granted_now(lease, &pool.object.spec.lease, now);
        let outlives = |r: &Resource| end(r).is_none_or(|end| needed.is_some_and(|needed| needed <= end));
        let fitting = pool
            .free
            .iter()
            .filter_map(|(_, key)| self.resources.get(key).map(|r| (key, r)))
            .filter(|(_, r)| matching::fits(&lease.spec, r, &pool.object.spec.resource, now))
            .filter(|(key, _)| may_take(key));
        let mut longest: Option<(&ObjectKey, &Arc<Resource>)> = None;
        for (key, resource) in fitting {
            if outlives(resource) {
                return Some(key.clone());
            }
            if longest.is_none_or(|(_, l)| end(l) < end(resource)) {
                longest = Some((key, resource));
            }
        }
        longest.map(|(key, _)| key.clone())
    }

    fn make_offer(&mut self, lease: &ObjectKey, resource: &ObjectKey, now: MicroTime) {
        self.pass_over(resource, lease, now);
        let Some(waiter) = self.waiters.get_mut(lease) else { return };
        waiter.offered = Some(resource.clone());
        for queued in waiter.queues.clone() {
            self.leave(&queued);
        }
        self.offers.entry(resource.clone()).or_default().push(lease.clone());
        if let Some(object) = self.resources.get(resource).cloned() {
            self.count_held(resource, &object);
        }
        self.dirty.push(Key::Resource(resource.clone()));
        self.refile(resource);
    }

    /// Files a resource among those with room, or takes it out. Returns whether it has room.
    fn refile(&mut self, key: &ObjectKey) -> bool {
        if let Some((blueprint, score)) = self.filed.remove(key)
            && let Some(pool) = self.blueprints.get_mut(&blueprint)
        {
            pool.free.remove(&(score, key.clone()));
        }
        let filed = self.resources.get(key).and_then(|resource| {
            let (blueprint, pool) = self.pool_of(resource)?;
            // Those that are offered to it count, too: or several that come at once would find it as empty as the first.
            let filled = resource.claims().len() + self.offers.get(key).map_or(0, Vec::len);
            let filled = i64::try_from(filled).unwrap_or(0);
            let pack = (pool.object.spec.placement == Placement::Pack) != bug!(PlacesOtherwise);
            let score = if pack { -filled } else { filled };
            // What is out of date comes last.
            let score = score + if Self::is_outdated(resource, pool) { LAST } else { 0 };
            (self.room(key, resource, pool) > 0).then(|| (blueprint.clone(), score))
        });
        let Some((blueprint, score)) = filed else { return false };
        if let Some(pool) = self.blueprints.get_mut(&blueprint) {
            pool.free.insert((score, key.clone()));
        }
        self.filed.insert(key.clone(), (blueprint, score));
        true
    }

    /// A resource may have room: it is offered to the first in order whom it fits.
    pub(super) fn offer(&mut self, key: &ObjectKey, now: MicroTime) {
        if !self.synced {
            return;
        }
        while self.refile(key) {
            let lease = self.first_for_resource(key, now);
            let first = lease.as_ref().and_then(|lease| self.gives_way_to(key, lease, now)).cloned();
            let is_held_back = first.is_some();
            self.hold_back(key, first);
            let Some(lease) = lease.filter(|_| !is_held_back) else { return };
            self.make_offer(&lease, key, now);
        }
        self.keep_held_back(key);
    }

    pub(super) fn offer_all(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        let Some(pool) = self.blueprints.get(blueprint) else { return };
        for resource in self.owned.get(uid(&pool.object.metadata)).cloned().unwrap_or_default() {
            self.offer(&resource, now);
        }
    }

    pub(super) fn first_for_resource(&self, key: &ObjectKey, now: MicroTime) -> Option<ObjectKey> {
        let resource = self.resources.get(key)?;
        let (_, pool) = self.pool_of(resource)?;
        let policy = &pool.object.spec.resource;
        let waits = |lease: &ObjectKey| self.leases.get(lease).filter(|l| queue::waits(l, now));
        let head = |class: &BTreeMap<queue::Place, ObjectKey>| {
            let (place, key, lease) = class.iter().find_map(|(p, k)| Some((p.clone(), k.clone(), waits(k)?)))?;
            matching::fits(&lease.spec, resource, policy, now).then_some((place, key))
        };
        let may_hold = |wants: &Wants| wants.namespace.as_ref().is_none_or(|namespace| self.may_hold(pool, namespace));
        let heads = pool.queue.iter().filter_map(|(wants, class)| Some((wants, head(class)?)));
        heads.filter(|(wants, _)| may_hold(wants)).map(|(_, head)| head).min().map(|(_, lease)| lease)
    }

    /// A slot of a Blueprint in which something may be built now, and which will do.
    pub(super) fn vacant_slot(&self, key: &ObjectKey, now: MicroTime, will_do: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let pool = self.blueprints.get(key)?;
        if !pool.may_build(now) || pool.allowance() == 0 {
            return None;
        }
        self.find_vacant(key, will_do)
    }

    /// A slot of a Blueprint that is vacant, and will do.
    pub(super) fn find_vacant(&self, key: &ObjectKey, will_do: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let pool = self.blueprints.get(key)?;
        let name = |slot: &str| ObjectKey::new(&key.namespace, &slot_name(&key.name, slot));
        let vacant = |slot: &str| !pool.orders.contains_key(slot) && !self.resources.contains_key(&name(slot));
        if let Some(slots) = &pool.slots {
            let fit = |slot: &&Slot| slot.enabled && will_do(slot) && vacant(&slot.name) && !self.is_held(key, slot);
            return slots.iter().find(fit).cloned();
        }
        // A pool of resources that are all alike: any vacant number will do.
        self.drivers.of_blueprint(&pool.object)?;
        let mut slot = pool.numbered(String::new());
        if !will_do(&slot) {
            return None;
        }
        slot.name = (0..pool.object.spec.limits.max_resources?).map(|n| n.to_string()).find(|slot| vacant(slot))?;
        Some(slot)
    }

    /// Whether an order may still be carried out, after so many others: it was made some time ago.
    pub(super) fn may_make(&self, key: &ObjectKey, slot: &Slot, others: usize, now: MicroTime) -> bool {
        let Some(pool) = self.blueprints.get(key) else { return false };
        let live = usize::try_from(pool::live(&pool.counts)).unwrap_or(0);
        let at_once = usize::try_from(pool.object.spec.limits.max_concurrent_builds).unwrap_or(1);
        let limit = pool.object.spec.limits.max_resources.and_then(|n| usize::try_from(n).ok());
        pool.may_build(now)
            && slot.enabled
            && limit.is_none_or(|limit| live + others < limit)
            && (!pool.builds_take_time || pool.pending.len() + others < at_once)
            && !self.is_held(key, slot)
    }

    /// What stands there in the world is held by another Blueprint's resource still.
    pub(super) fn is_held(&self, key: &ObjectKey, slot: &Slot) -> bool {
        slot.identity.as_ref().is_some_and(|identity| {
            let holders = self.identities.get(&(key.namespace.clone(), identity.clone()));
            let own = self.blueprints.get(key).map(|pool| uid(&pool.object.metadata));
            holders.into_iter().flatten().filter_map(|r| self.resources.get(r)).any(|resource| {
                resource.phase() != ResourcePhase::Destroyed && Some(resource.spec.blueprint_ref.uid.as_str()) != own
            })
        })
    }

    /// Slots may be vacant: one is ordered for each waiting lease that fits and has no build in flight, in order; and then
    /// as many as are to be kept ready.
    pub(super) fn order(&mut self, key: &ObjectKey, now: MicroTime) {
        if !self.synced {
            return;
        }
        while let Some((lease, slot)) = self.next_order(key, now) {
            self.make_order(lease.as_ref(), key, slot);
        }
        self.plan(key);
    }

    /// Who takes what is there now or gives up has nothing from a build that takes time: it would only leave something behind.
    fn may_build_at_all(&self, blueprint: &ObjectKey, lease: &Lease) -> bool {
        !queue::gives_up_at_once(lease) || self.blueprints.get(blueprint).is_some_and(|pool| !pool.builds_take_time)
    }

    fn next_order(&self, key: &ObjectKey, now: MicroTime) -> Option<(Option<ObjectKey>, String)> {
        let pool = self.blueprints.get(key)?;
        let missing = self.missing(pool);
        if (pool.queue.is_empty() && missing == 0) || !pool.may_build(now) || pool.allowance() == 0 {
            return None;
        }
        let any = self.find_vacant(key, |_| true)?;
        let may_build = |wants: &Wants| wants.namespace.as_ref().is_none_or(|ns| self.may_build_for(pool, ns));
        let is_put_off = |wants: &Wants| pool.flavour_put_off(&wants.flavours, now).is_some();
        let classes = pool.queue.iter().filter(|(wants, _)| may_build(wants) && !is_put_off(wants));
        let wanted = classes.filter_map(|(wants, class)| {
            let mut unserved = class.iter().filter_map(|(place, lease)| {
                let waits = |l: &&Arc<Lease>| queue::waits(l, now) && self.may_build_at_all(key, l);
                let object = self.leases.get(lease).filter(waits)?;
                (!self.has_build_in_flight(lease, key, now)).then_some((place, lease, object))
            });
            let (place, lease, object) = unserved.next()?;
            let slot = self.find_vacant(key, |slot| matching::fits_slot(&object.spec, slot))?;
            Some((pool.yields(wants, &lease.namespace, now), place.clone(), lease.clone(), slot.name))
        });
        match wanted.min() {
            Some((_, _, lease, slot)) => Some((Some(lease), slot)),
            None => (missing > 0).then_some((None, any.name)),
        }
    }

    fn make_order(&mut self, lease: Option<&ObjectKey>, blueprint: &ObjectKey, slot: String) {
        let Some(pool) = self.blueprints.get_mut(blueprint) else { return };
        if let Some(waiter) = lease.and_then(|lease| self.waiters.get_mut(lease)) {
            waiter.ordered = Some((blueprint.clone(), slot.clone()));
        }
        pool.orders.insert(slot, lease.cloned());
        self.dirty.push(Key::Blueprint(blueprint.clone()));
    }

    /// The pass of a resource has ended: what it was offered is taken back, and offered anew where it was not taken.
    pub fn settle_offers(&mut self, resource: &ObjectKey, offered: &[ObjectKey], now: MicroTime) {
        let withheld = self.withheld.remove(resource);
        if offered.is_empty() && !withheld {
            return;
        }
        self.take_back(resource, offered, now);
        self.offer(resource, now);
        for lease in offered {
            self.serve(lease, now);
        }
        self.quota_moved_of(resource, now);
    }

    fn quota_moved_of(&mut self, resource: &ObjectKey, now: MicroTime) {
        let pool = self.resources.get(resource).and_then(|r| self.pool_of(r)).map(|(key, _)| key.clone());
        if let Some(blueprint) = pool {
            self.quota_moved(&blueprint, now);
        }
    }

    /// The pass of a resource has failed: what it was offered is offered elsewhere, until a pass has not.
    pub fn withhold(&mut self, resource: &ObjectKey, offered: &[ObjectKey], now: MicroTime) {
        self.withheld.insert(resource.clone());
        self.take_back(resource, offered, now);
        self.refile(resource);
        for lease in offered {
            self.serve(lease, now);
        }
        self.quota_moved_of(resource, now);
    }

    fn take_back(&mut self, resource: &ObjectKey, offered: &[ObjectKey], now: MicroTime) {
        if let Some(offers) = self.offers.get_mut(resource) {
            offers.retain(|lease| !offered.contains(lease));
            if offers.is_empty() {
                self.offers.remove(resource);
            }
        }
        if let Some(object) = self.resources.get(resource).cloned() {
            self.count_held(resource, &object);
        }
        for lease in offered {
            if let Some(waiter) = self.waiters.get_mut(lease)
                && waiter.offered.as_ref() == Some(resource)
            {
                waiter.offered = None;
            }
            self.enqueue(lease, now);
        }
    }

    /// The pass of a Blueprint has ended: its orders are carried out, or have failed and are made anew later.
    pub fn settle_orders(&mut self, blueprint: &ObjectKey, slots: &[String], now: MicroTime) {
        for slot in slots {
            let lease = self.blueprints.get_mut(blueprint).and_then(|pool| pool.orders.remove(slot)).flatten();
            if let Some(waiter) = lease.as_ref().and_then(|lease| self.waiters.get_mut(lease))
                && waiter.ordered.as_ref().is_some_and(|(b, s)| b == blueprint && s == slot)
            {
                waiter.ordered = None;
            }
            if let Some(lease) = lease {
                self.serve(&lease, now);
            }
        }
        self.order(blueprint, now);
        self.replace_next(blueprint, now);
    }

    /// A Blueprint's pass begins: builds that were put off may be due.
    pub fn retry_builds(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        let flavours_are_due = self.retry_flavours(blueprint, now);
        let Some(pool) = self.blueprints.get_mut(blueprint) else { return };
        let is_due = pool.next_build_at.is_some() && deadline::build_put_off(pool.next_build_at, now).is_none();
        if is_due {
            pool.next_build_at = None;
        }
        if is_due || flavours_are_due {
            self.order(blueprint, now);
            self.replace_next(blueprint, now);
        }
    }

    pub(super) fn slot_state_of(&self, key: &ObjectKey, resource: &Resource) -> SlotState {
        self.pool_of(resource).map_or(SlotState::Current, |(_, pool)| self.slot_state(key, resource, pool))
    }
}
