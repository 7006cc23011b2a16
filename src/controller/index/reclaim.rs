//! The rung of the ladder between building and waiting (design.md, 5): where a pool is full, and an idle resource fits nobody
//! who waits, it makes room for one that does. The longest idle first, one for each waiting lease, and none for whom room is
//! being made already; not before it has been unused for `resource.reclaimAfter`.
//!
//! What is told here is a plan. It is carried out by the Blueprint's pass, which appends `Reclaim`, and by the resource's own,
//! which consumes it.

use super::{Index, Key, ObjectKey, Pool};
use crate::{
    api::{Lease, MicroTime, Resource, slot_name},
    lifecycle::{
        matching::{self, Reclaiming},
        pool::{self, Bucket},
        queue,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// A resource that makes room for a waiting lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The resource.
    pub(super) resource: ObjectKey,
    /// When it may be reclaimed; `None`: it is going, for whatever reason.
    pub(super) at: Option<MicroTime>,
}

/// A `Reclaim` that is due.
pub struct DueReclaim {
    /// The resource that is to take it.
    pub resource: Arc<Resource>,
    /// The lease that needs its room.
    pub lease: Arc<Lease>,
}

impl Index {
    /// The plans of all Blueprints that a lease may be served by.
    pub(super) fn plan_for(&mut self, lease: &ObjectKey, now: MicroTime) {
        let queues = self.waiters.get(lease).into_iter().flat_map(|waiter| &waiter.queues);
        for blueprint in queues.map(|queued| queued.blueprint.clone()).collect::<Vec<_>>() {
            self.plan(&blueprint, now);
        }
    }

    /// Who waits for a Blueprint, or what its resources are doing, has changed: so may have which of them make room for whom.
    pub(super) fn plan(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        let rooms = self.rooms(blueprint, now).unwrap_or_default();
        let Some(pool) = self.blueprints.get_mut(blueprint) else { return };
        if pool.rooms == rooms {
            return;
        }
        let before = std::mem::replace(&mut pool.rooms, rooms.clone());
        self.dirty.push(Key::Blueprint(blueprint.clone()));
        let changed = before.keys().chain(rooms.keys()).filter(|lease| before.get(*lease) != rooms.get(*lease));
        // Whoever has a first status is told anew; another's pass is on its way.
        self.dirty.extend(changed.cloned().map(Key::Lease));
    }

    fn rooms(&self, blueprint: &ObjectKey, now: MicroTime) -> Option<BTreeMap<ObjectKey, Room>> {
        let pool = self.blueprints.get(blueprint)?;
        if !self.synced || pool.queue.is_empty() || !pool.may_build(now) {
            return None;
        }
        let mut making: Vec<_> = self.making_room(pool, now).collect();
        if bug!(ReclaimsTheFresh) {
            making.sort_by_key(|room| (room.at.is_some(), std::cmp::Reverse(room.at)));
        }
        let is_reclaimed = |key: &ObjectKey| self.resources.get(key).is_some_and(|r| pool::is_reclaimed(r));
        if !making.iter().any(|room| room.at.is_some() || is_reclaimed(&room.resource)) {
            return None;
        }
        // As many of each kind as could be helped; nobody looks at the rest of a long queue.
        let unserved = |lease: &&ObjectKey| {
            // Who gives up at once has nothing from a room that takes time to make.
            let waits = |l: &Arc<Lease>| queue::waits(l, now) && !queue::gives_up_at_once(l);
            self.leases.get(*lease).is_some_and(waits) && !self.has_build_in_flight(lease, blueprint, now)
        };
        let waiting = pool.queue.values().flat_map(|class| {
            let unserved = class.iter().filter(|(_, lease)| unserved(lease));
            unserved.take(making.len())
        });
        let in_order: BTreeMap<_, _> = waiting.collect();
        let mut rooms = BTreeMap::new();
        for key in in_order.into_values() {
            let Some(lease) = self.leases.get(key).filter(|_| !self.is_helped_elsewhere(key, blueprint, now)) else {
                continue;
            };
            let helps = |room: &Room| self.helps(&room.resource, blueprint, pool, lease);
            let of_its_namespace = |other: &&ObjectKey| other.namespace == key.namespace;
            let for_it = rooms.keys().filter(of_its_namespace).count();
            let left = self.builds_left(pool, &key.namespace);
            if left.is_none_or(|left| for_it < left)
                && let Some(first) = making.iter().position(helps)
            {
                rooms.insert(key.clone(), making.remove(first));
            }
        }
        Some(rooms)
    }

    /// The resources that make room, or could: what is going anyway first, then the longest idle.
    fn making_room<'a>(&'a self, pool: &'a Pool, now: MicroTime) -> impl Iterator<Item = Room> + 'a {
        let after = pool.object.spec.resource.reclaim_after.unwrap_or(crate::lifecycle::deadline::RECLAIM_AFTER);
        let going = pool
            .going
            .iter()
            .chain(pool.idle.iter().map(|(_, key)| key))
            .filter(|key| self.resources.get(*key).is_some_and(|resource| pool::makes_room(resource)));
        let idle = pool.idle.iter().filter(move |(_, key)| {
            // One that is filed has room, and is offered to nobody.
            self.filed.contains_key(key)
                && !self.offers.contains_key(key)
                && !self.unreclaimable.contains(key)
                && self.first_for_resource(key, now).is_none()
        });
        going
            .map(|key| Room { resource: key.clone(), at: None })
            .chain(idle.map(move |(since, key)| Room { resource: key.clone(), at: Some(since.after(after)) }))
    }

    /// Whether a lease could have one built, if this resource were gone.
    fn helps(&self, resource: &ObjectKey, blueprint: &ObjectKey, pool: &Pool, lease: &Lease) -> bool {
        let fits = |slot: &crate::api::step::Slot| matching::fits_slot(&lease.spec, slot);
        let full = pool.places() == 0;
        match &pool.slots {
            None => full && fits(&pool.numbered(String::new())),
            Some(slots) => {
                let name = |slot: &str| slot_name(&blueprint.name, slot);
                let own = slots.iter().find(|slot| *name(&slot.name) == *resource.name);
                let vacant = || self.find_vacant(blueprint, fits).is_some();
                // With a place left, whatever is vacant is built in its turn.
                if full { own.is_some_and(fits) || vacant() } else { own.is_some_and(fits) && !vacant() }
            }
        }
    }

    /// A Blueprint that it would rather be served by makes room, or could.
    fn is_helped_elsewhere(&self, key: &ObjectKey, blueprint: &ObjectKey, now: MicroTime) -> bool {
        let (Some(waiter), Some(lease)) = (self.waiters.get(key), self.leases.get(key)) else { return false };
        let rather = waiter.queues.iter().map(|queued| &queued.blueprint).take_while(|other| *other != blueprint);
        rather.into_iter().any(|other| {
            let Some(pool) = self.blueprints.get(other).filter(|pool| pool.may_build(now)) else { return false };
            self.may_build_for(pool, &key.namespace)
                && self.making_room(pool, now).any(|room| self.helps(&room.resource, other, pool, lease))
        })
    }

    /// What makes room for a lease in a Blueprint, as its condition tells it.
    pub(super) fn reclaiming(&self, key: &ObjectKey, pool: &Pool, now: MicroTime) -> Option<Reclaiming<'_>> {
        let room = pool.rooms.get(key)?;
        let (name, resource) = self.resources.get_key_value(&room.resource)?;
        let (name, at) = (&*name.name, room.at.map(|at| at.max(now)));
        match at {
            Some(at) if at > now => Some(Reclaiming::At(name, at)),
            Some(_) => Some(Reclaiming::Now(name)),
            // What goes for another reason makes room as well, but is not reclaimed.
            None => pool::is_reclaimed(resource).then_some(Reclaiming::Now(name)),
        }
    }

    /// The resources of a Blueprint that are to be reclaimed now, and when the next is.
    pub fn due_reclaims(&self, blueprint: &ObjectKey, now: MicroTime) -> (Vec<DueReclaim>, Option<MicroTime>) {
        let Some(pool) = self.blueprints.get(blueprint) else { return Default::default() };
        let planned = || pool.rooms.iter().filter_map(|(lease, room)| Some((lease, &room.resource, room.at?)));
        let due = planned().filter(|(.., at)| *at <= now).filter_map(|(lease, resource, _)| {
            let (resource, lease) = (self.resources.get(resource)?, self.leases.get(lease)?);
            let idle = pool::bucket(resource) == Bucket::Idle;
            idle.then(|| DueReclaim { resource: resource.clone(), lease: lease.clone() })
        });
        (due.collect(), planned().map(|(.., at)| at).filter(|at| *at > now).min())
    }

    /// A `Reclaim` could not be appended: this resource is left alone until it is seen to have changed.
    pub fn cannot_reclaim(&mut self, resource: &ObjectKey, now: MicroTime) {
        self.unreclaimable.insert(resource.clone());
        if let Some(blueprint) = self.resources.get(resource).and_then(|r| self.pool_of(r)).map(|(key, _)| key.clone())
        {
            self.plan(&blueprint, now);
        }
    }
}
