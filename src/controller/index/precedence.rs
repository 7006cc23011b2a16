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
use std::collections::BTreeMap;

/// How many leases that are not of a lower priority may be granted a resource past one that waits for its room. Each grant of a
/// warm resource saves a build, so that this many of one flavour are served between two builds.
pub(super) const MAX_PASSED_OVER: u32 = 8;

/// So many leases of one namespace, and of all together, are looked at that are ahead of another: those in front.
const MAX_AHEAD: (usize, usize) = (4, 32);

/// Of those that a lease could take so many are held back for others in one event. More are granted to it.
pub(super) const MAX_HELD_BACK: usize = 4;

impl Index {
    /// The leases that are ahead of another in the queue of a Blueprint, and that wait for its room: the first in front.
    fn ahead(&self, blueprint: &ObjectKey, of: &ObjectKey, now: MicroTime) -> Vec<&ObjectKey> {
        let Some(pool) = self.blueprints.get(blueprint) else { return Vec::new() };
        // Whoever waits for a listed slot that is not taken gets it; what is in a slot differs from it in its parameters only.
        let is_alike = pool.object.spec.resource.parameters.is_empty() && pool.slots.is_some() && pool.places() > 0;
        if pool.queue.len() < 2 || is_alike || !pool.may_build(now) {
            return Vec::new();
        }
        let Some(place) = self.waiters.get(of).and_then(|waiter| waiter.place_in(blueprint)) else { return Vec::new() };
        let is_open = |lease: &ObjectKey| {
            let waits = |object| queue::waits(object, now) && !queue::gives_up_at_once(object);
            self.leases.get(lease).is_some_and(|object| waits(object))
                && !self.has_build_in_flight(lease, blueprint, now)
        };
        let heads = pool.queue.iter().filter_map(|(wants, class)| {
            let (place, lease) = class.range(..place).find(|(_, lease)| is_open(lease))?;
            let may_build = pool.flavour_put_off(&wants.flavours, now).is_none()
                && !pool.yields(wants, &lease.namespace, now)
                && self.may_build_for(pool, &lease.namespace);
            may_build.then_some((place, lease))
        });
        let in_order: BTreeMap<_, _> = heads.collect();
        let mut of_namespace: BTreeMap<&str, usize> = BTreeMap::new();
        let counted = in_order.into_values().filter(|lease| {
            let count = of_namespace.entry(&*lease.namespace).or_default();
            *count += 1;
            *count <= MAX_AHEAD.0
        });
        counted.take(MAX_AHEAD.1).collect()
    }

    /// The first of these that could be served if a resource were gone, and not before.
    fn needs_room_of<'a>(&self, key: &ObjectKey, ahead: &[&'a ObjectKey], now: MicroTime) -> Option<&'a ObjectKey> {
        let resource = self.resources.get(key)?;
        let (blueprint, pool) = self.pool_of(resource)?;
        let would_help = |lease: &ObjectKey| {
            let Some(object) = self.leases.get(lease) else { return false };
            let room = Room { resource: key.clone(), at: None };
            !matching::fits(&object.spec, resource, &pool.object.spec.resource, now)
                && !self.helpful(blueprint, pool, object, &[room], &mut 0).is_empty()
        };
        let needs_it = |lease: &ObjectKey| {
            self.would_ask_first(lease, blueprint, now) && !self.has_other_room(pool, lease, key) && would_help(lease)
        };
        ahead.iter().copied().find(|lease| needs_it(lease))
    }

    fn first_ahead(&self, key: &ObjectKey, of: &ObjectKey, now: MicroTime) -> Option<&ObjectKey> {
        let (blueprint, _) = self.pool_of(self.resources.get(key)?)?;
        self.needs_room_of(key, &self.ahead(blueprint, of, now), now)
    }

    /// Whether no Blueprint that a lease would rather be served by could build for it now, or makes room for it.
    fn would_ask_first(&self, lease: &ObjectKey, blueprint: &ObjectKey, now: MicroTime) -> bool {
        let serves = |queued: &Queued| {
            self.blueprints.get(&queued.blueprint).is_some_and(|pool| {
                let may_build = pool.may_build(now)
                    && pool.flavour_put_off(&queued.wants.flavours, now).is_none()
                    && self.may_build_for(pool, &lease.namespace);
                may_build && (pool.places() > 0 || pool.rooms.contains_key(lease))
            })
        };
        let queues = self.waiters.get(lease).into_iter().flat_map(|waiter| &waiter.queues);
        let mut rather = queues.into_iter().take_while(|queued| queued.blueprint != *blueprint);
        !rather.any(serves)
    }

    /// Whether another resource makes room for a lease, or is held back for it. One that somebody still holds may take its time.
    fn has_other_room(&self, pool: &Pool, lease: &ObjectKey, resource: &ObjectKey) -> bool {
        let is_near = |held: &ObjectKey| self.is_unused(held) || !self.is_unused(resource);
        pool.rooms.get(lease).is_some_and(|room| room.resource != *resource)
            || pool.held_back.iter().any(|(held, of)| of == lease && held != resource && is_near(held))
    }

    /// Whether nobody holds a resource or is about to.
    fn is_unused(&self, key: &ObjectKey) -> bool {
        self.resources.get(key).is_some_and(|resource| self.claims_held(resource) == 0)
            && !self.offers.contains_key(key)
    }

    /// The lease that a resource is to make room for rather than be granted to this one.
    pub(super) fn gives_way_to(&self, key: &ObjectKey, lease: &ObjectKey, now: MicroTime) -> Option<&ObjectKey> {
        let (blueprint, _) = self.pool_of(self.resources.get(key)?)?;
        self.gives_way_to_one_of(key, &self.ahead(blueprint, lease, now), lease, now)
    }

    fn gives_way_to_one_of<'a>(
        &self,
        key: &ObjectKey,
        ahead: &[&'a ObjectKey],
        lease: &ObjectKey,
        now: MicroTime,
    ) -> Option<&'a ObjectKey> {
        let resource = self.resources.get(key)?;
        // One that has refused to go is granted once more, and asked again afterwards.
        if ahead.is_empty()
            || self.unreclaimable.contains(key)
            || pool::refused_reclaim(resource).is_some()
            || bug!(GrantsPastTheFirst)
        {
            return None;
        }
        let (blueprint, _) = self.pool_of(resource)?;
        let first = self.needs_room_of(key, ahead, now)?;
        let place = |lease: &ObjectKey| self.waiters.get(lease)?.place_in(blueprint);
        let outranks = || place(first).zip(place(lease)).is_some_and(|(ahead, behind)| ahead.outranks(behind));
        let passed_over = self.waiters.get(first)?.passed_over;
        (passed_over >= MAX_PASSED_OVER || (self.is_unused(key) && outranks())).then_some(first)
    }

    /// Whether a lease may be granted this resource, which fits it: asked of each that it could take.
    pub(super) fn may_take<'a>(
        &'a self,
        blueprint: &ObjectKey,
        lease: &'a ObjectKey,
        now: MicroTime,
    ) -> impl Fn(&ObjectKey) -> bool + 'a {
        let ahead = self.ahead(blueprint, lease, now);
        move |key| self.gives_way_to_one_of(key, &ahead, lease, now).is_none()
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
        let ahead = self.ahead(blueprint, &asking, now);
        let mut gives_way =
            free.filter_map(|key| Some((key.clone(), self.gives_way_to_one_of(key, &ahead, &asking, now)?.clone())));
        let found = gives_way.next();
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

    /// The plan has room for whom nothing needs to be held back, or none where something is: what is held back for a lease and not
    /// planned for it is granted, until it has changed.
    pub(super) fn grant_what_is_not_planned(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        self.offer_held_back(blueprint, now);
        let Some(pool) = self.blueprints.get(blueprint) else { return };
        let is_planned = |key: &ObjectKey, lease: &ObjectKey| {
            let is_idle = self.resources.get(key).is_some_and(|r| pool::bucket(r) == Bucket::Idle);
            !is_idle || pool.rooms.get(lease).is_some_and(|room| room.resource == *key)
        };
        let unplanned: Vec<_> =
            pool.held_back.iter().filter(|(key, lease)| !is_planned(key, lease)).map(|(key, _)| key.clone()).collect();
        for key in unplanned {
            self.unreclaimable.insert(key.clone());
            self.offer(&key, now);
        }
    }

    /// Whether a resource makes room for a lease that is ahead of those whom it fits.
    pub(super) fn is_held_back(&self, key: &ObjectKey, resource: &Resource) -> bool {
        self.pool_of(resource).is_some_and(|(_, pool)| pool.held_back.contains_key(key))
    }

    pub(super) fn is_held_back_by_name(&self, key: &ObjectKey) -> bool {
        self.resources.get(key).is_some_and(|resource| self.is_held_back(key, resource))
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
