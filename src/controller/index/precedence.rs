//! Who goes first where a resource fits leases further back in the queue, and not the one in front. A resource of another flavour
//! that is granted again and again would never be reclaimed, and the lease in front would wait for ever. So the resource is held
//! back, and makes room as soon as nobody holds it: at once where the lease in front has a higher priority than the one that it
//! would be granted to, and otherwise once the lease in front was passed over so many times.

use super::{Index, ObjectKey, Pool, Queued, reclaim::Room};
use crate::{
    api::{Lease, MicroTime, Resource},
    lifecycle::{
        matching,
        pool::{self, Bucket},
        queue,
    },
};

/// How many leases that are not of a lower priority may be granted a resource past one that waits for its room. Each grant of a
/// warm resource saves a build, so that this many of one flavour are served between two builds.
pub(super) const MAX_PASSED_OVER: u32 = 8;

impl Index {
    /// The first lease that is ahead of another in the queue of a resource's Blueprint, and that could be served if the resource
    /// were gone, and not before.
    fn first_ahead(&self, key: &ObjectKey, of: &ObjectKey, now: MicroTime) -> Option<&ObjectKey> {
        let resource = self.resources.get(key)?;
        let (blueprint, pool) = self.pool_of(resource)?;
        let policy = &pool.object.spec.resource;
        // Whoever waits for a listed slot that is not taken gets it; what is in a slot differs from it in its parameters only.
        let is_alike = policy.parameters.is_empty() && (pool.slots.is_none() || pool.places() > 0);
        if pool.queue.len() < 2 || (is_alike && pool.slots.is_some()) || !pool.may_build(now) {
            return None;
        }
        let place = &self.waiters.get(of)?.queues.iter().find(|queued| queued.blueprint == *blueprint)?.place;
        let would_help = |lease: &ObjectKey| {
            let Some(object) = self.leases.get(lease) else { return false };
            let room = Room { resource: key.clone(), at: None };
            !matching::fits(&object.spec, resource, policy, now)
                && !self.helpful(blueprint, pool, object, &[room], &mut 0).is_empty()
        };
        let is_open = |lease: &ObjectKey| {
            let waits = |object| queue::waits(object, now) && !queue::gives_up_at_once(object);
            self.leases.get(lease).is_some_and(|object| waits(object))
                && !self.has_build_in_flight(lease, blueprint, now)
        };
        let heads = pool.queue.iter().filter_map(|(wants, class)| {
            let mut ahead = class.range(..place);
            let (place, lease) = ahead.find(|(_, lease)| is_open(lease))?;
            let may_build = pool.flavour_put_off(&wants.flavours, now).is_none()
                && self.may_build_for(pool, &lease.namespace)
                && self.would_ask_first(lease, blueprint, now)
                && !self.has_other_room(pool, lease, key)
                && would_help(lease);
            may_build.then_some((place, lease))
        });
        heads.min().map(|(_, lease)| lease)
    }

    /// Whether this is the first of the Blueprints that a lease may be served by which could build for it.
    fn would_ask_first(&self, lease: &ObjectKey, blueprint: &ObjectKey, now: MicroTime) -> bool {
        let could_build = |queued: &&Queued| {
            self.blueprints.get(&queued.blueprint).is_some_and(|pool| {
                pool.may_build(now)
                    && pool.flavour_put_off(&queued.wants.flavours, now).is_none()
                    && self.may_build_for(pool, &lease.namespace)
            })
        };
        let queues = self.waiters.get(lease).into_iter().flat_map(|waiter| &waiter.queues);
        queues.into_iter().find(could_build).is_some_and(|first| first.blueprint == *blueprint)
    }

    /// Whether another resource makes room for a lease, or is held back for it.
    fn has_other_room(&self, pool: &Pool, lease: &ObjectKey, resource: &ObjectKey) -> bool {
        pool.rooms.get(lease).is_some_and(|room| room.resource != *resource)
            || pool.held_back.iter().any(|(held, of)| of == lease && held != resource)
    }

    /// The lease that a resource is to make room for rather than be granted to this one.
    pub(super) fn gives_way_to(&self, key: &ObjectKey, lease: &ObjectKey, now: MicroTime) -> Option<&ObjectKey> {
        let resource = self.resources.get(key)?;
        // One that has refused to go is granted once more, and asked again afterwards.
        if self.unreclaimable.contains(key) || pool::refused_reclaim(resource).is_some() || bug!(GrantsPastTheFirst) {
            return None;
        }
        let first = self.first_ahead(key, lease, now)?;
        let is_unused = self.claims_held(resource) == 0 && !self.offers.contains_key(key);
        let (first_waits, passed) = self.waiters.get(first).map(|waiter| (waiter, waiter.passed_over))?;
        let outranks = || {
            let place = |waiter: &super::Waiter| {
                let (blueprint, _) = self.pool_of(resource)?;
                waiter.queues.iter().find(|queued| queued.blueprint == *blueprint).map(|queued| queued.place.clone())
            };
            let (ahead, behind) = (place(first_waits), self.waiters.get(lease).and_then(place));
            ahead.zip(behind).is_some_and(|(ahead, behind)| ahead.outranks(&behind))
        };
        (passed >= MAX_PASSED_OVER || (is_unused && outranks())).then_some(first)
    }

    /// A resource is about to be offered to a lease: whoever waits for its room is passed over.
    pub(super) fn pass_over(&mut self, key: &ObjectKey, lease: &ObjectKey, now: MicroTime) {
        let Some(first) = self.first_ahead(key, lease, now).cloned() else { return };
        if let Some(waiter) = self.waiters.get_mut(&first) {
            waiter.passed_over = waiter.passed_over.saturating_add(1);
        }
    }

    /// Holds a resource back for a lease, or for nobody any more.
    pub(super) fn hold_back(&mut self, key: &ObjectKey, lease: Option<ObjectKey>) {
        let pool = self.resources.get(key).and_then(|resource| self.pool_of(resource)).map(|(key, _)| key.clone());
        let Some((blueprint, pool)) = pool.and_then(|key| self.blueprints.get_mut(&key).map(|pool| (key, pool))) else {
            return;
        };
        let before = match lease.clone() {
            Some(lease) => pool.held_back.insert(key.clone(), lease),
            None => pool.held_back.remove(key),
        };
        if before != lease {
            self.plan(&blueprint);
        }
    }

    /// A lease fits only what gives way to others: the first of that is held back. Returns whether something else may fit it now.
    pub(super) fn hold_back_for_another(&mut self, blueprint: &ObjectKey, lease: &Lease, now: MicroTime) -> bool {
        let asking = ObjectKey::of(&lease.metadata);
        let Some(pool) = self.blueprints.get(blueprint).filter(|pool| self.may_hold(pool, &asking.namespace)) else {
            return false;
        };
        let fits = |key: &ObjectKey| {
            let resource = self.resources.get(key);
            resource.is_some_and(|r| matching::fits(&lease.spec, r, &pool.object.spec.resource, now))
        };
        let free = pool.free.iter().map(|(_, key)| key).filter(|key| fits(key) && !pool.held_back.contains_key(*key));
        let found = free.filter_map(|key| Some((key.clone(), self.gives_way_to(key, &asking, now)?.clone()))).next();
        let Some((resource, first)) = found else { return false };
        self.hold_back(&resource, Some(first));
        true
    }

    /// A resource has no room, or nobody fits it: it stays held back only where it has been asked to go for a lease that waits.
    pub(super) fn keep_held_back(&mut self, key: &ObjectKey) {
        let Some(resource) = self.resources.get(key) else { return };
        let Some(lease) = self.pool_of(resource).and_then(|(_, pool)| pool.held_back.get(key)) else { return };
        let goes = pool::bucket(resource) == Bucket::Idle && pool::is_reclaimed(resource);
        if !(goes && self.waiters.contains_key(lease)) {
            self.hold_back(key, None);
        }
    }

    /// Whether a resource makes room for a lease that is ahead of those whom it fits.
    pub(super) fn is_held_back(&self, key: &ObjectKey, resource: &Resource) -> bool {
        self.pool_of(resource).is_some_and(|(_, pool)| pool.held_back.contains_key(key))
    }

    /// What was held back for a lease that needs it no more is offered again.
    pub(super) fn offer_held_back(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        let Some(pool) = self.blueprints.get(blueprint) else { return };
        for key in pool.held_back.keys().cloned().collect::<Vec<_>>() {
            let resource = self.resources.get(&key);
            if resource.and_then(|resource| self.pool_of(resource)).is_some_and(|(of, _)| of == blueprint) {
                self.offer(&key, now);
            } else if let Some(pool) = self.blueprints.get_mut(blueprint) {
                pool.held_back.remove(&key);
            }
        }
    }
}
