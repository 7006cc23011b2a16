//! The rung of the ladder between building and waiting (design.md, 5): where a pool is full, and an idle resource fits nobody
//! who waits, it makes room for one that does. The longest idle first, one for each waiting lease, and none for whom room is
//! being made already; not before it has been unused for `resource.reclaimAfter`.
//!
//! What is told here is a plan. It is carried out by the Blueprint's pass, which appends `Reclaim`, and by the resource's own,
//! which consumes it.

use super::{Index, Key, ObjectKey, Pool, Queued};
use crate::{
    api::{Lease, MicroTime, Resource, Selector, step::Slot},
    lifecycle::{
        matching::{self, Reclaiming},
        pool::{self, Bucket},
        queue,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// So many selectors of one namespace, and of all together, are compared with the slots in one plan, those of the first in order. The
/// rest waits for the next plan: whoever makes a lease for each selector must not make plans dear for the others.
const SELECTORS: (usize, usize) = (32, 256);

/// A resource that makes room for a waiting lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The resource.
    pub(super) resource: ObjectKey,
    /// When it may be reclaimed; `None`: it is going, for whatever reason.
    pub(super) at: Option<MicroTime>,
}

/// What other Blueprints could do for those who wait, found out once for each plan.
#[derive(Default)]
struct Elsewhere<'a> {
    making: BTreeMap<&'a ObjectKey, Vec<Room>>,
    helps: BTreeMap<(&'a ObjectKey, Option<&'a Selector>), bool>,
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
    pub(super) fn plan_for(&mut self, lease: &ObjectKey) {
        let queues = self.waiters.get(lease).into_iter().flat_map(|waiter| &waiter.queues);
        self.replan.extend(queues.map(|queued| queued.blueprint.clone()));
    }

    /// Who waits for a Blueprint, or what its resources are doing, has changed: so may have which of them make room for whom.
    /// It is planned once, at the end of the event.
    pub(super) fn plan(&mut self, blueprint: &ObjectKey) {
        self.replan.insert(blueprint.clone());
    }

    /// See [`Self::take_dirty`].
    pub(super) fn plan_now(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        self.offer_held_back(blueprint, now);
        let mut steps = 0;
        let rooms = self.rooms(blueprint, now, &mut steps).unwrap_or_default();
        self.plan_steps += steps;
        let Some(pool) = self.blueprints.get_mut(blueprint) else { return };
        if pool.rooms == rooms {
            return self.grant_what_is_not_planned(blueprint, now);
        }
        let before = std::mem::replace(&mut pool.rooms, rooms.clone());
        self.dirty.push(Key::Blueprint(blueprint.clone()));
        let changed = before.keys().chain(rooms.keys()).filter(|lease| before.get(*lease) != rooms.get(*lease));
        // Whoever has a first status is told anew; another's pass is on its way.
        self.dirty.extend(changed.cloned().map(Key::Lease));
        self.grant_what_is_not_planned(blueprint, now);
    }

    /// Which resource makes room for whom. Leases that select alike are helped by the same resources, so slots are compared
    /// once for each selector: the cost is that of the slots and of those who wait, not of one times the other.
    fn rooms(&self, blueprint: &ObjectKey, now: MicroTime, steps: &mut u64) -> Option<BTreeMap<ObjectKey, Room>> {
        let pool = self.blueprints.get(blueprint)?;
        if !self.synced || pool.queue.is_empty() || !pool.may_build(now) {
            return None;
        }
        let mut making: Vec<_> = self.making_room(pool).collect();
        *steps += making.len() as u64;
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
        let classes = pool.queue.iter().filter(|(wants, _)| pool.flavour_put_off(&wants.flavours, now).is_none());
        let waiting = classes.flat_map(|(_, class)| {
            let unserved = class.iter().filter(|(_, lease)| unserved(lease));
            unserved.take(making.len())
        });
        let in_order: BTreeMap<_, _> = waiting.collect();
        let mut elsewhere = Elsewhere::default();
        // Selector → the resources that help whoever selects so, by their place in `making`: the first in front.
        let mut helpful: BTreeMap<Option<&Selector>, VecDeque<usize>> = BTreeMap::new();
        let mut is_used = vec![false; making.len()];
        let mut left: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rooms = BTreeMap::new();
        for key in in_order.into_values() {
            if rooms.len() == making.len() {
                break;
            }
            *steps += 1;
            let Some(lease) = self.leases.get(key) else { continue };
            if self.is_helped_elsewhere(key, blueprint, now, &mut elsewhere, steps) {
                continue;
            }
            let left = left.entry(&key.namespace).or_insert_with(|| self.builds_left(pool, &key.namespace));
            if *left == Some(0) {
                continue;
            }
            let selector = lease.spec.selector.as_ref();
            if !helpful.contains_key(&selector) {
                let of_namespace = compared.entry(&*key.namespace).or_default();
                if helpful.len() >= SELECTORS.1 || *of_namespace >= SELECTORS.0 {
                    continue;
                }
                *of_namespace += 1;
            }
            let helpful =
                helpful.entry(selector).or_insert_with(|| self.helpful(blueprint, pool, lease, &making, steps));
            while helpful.front().is_some_and(|first| is_used[*first]) {
                helpful.pop_front();
                *steps += 1;
            }
            // What is held back is for its own lease only.
            let is_for_it =
                |n: &usize| !is_used[*n] && pool.held_back.get(&making[*n].resource).is_none_or(|lease| lease == key);
            if let Some(first) = helpful.iter().position(is_for_it).and_then(|at| helpful.remove(at)) {
                is_used[first] = true;
                rooms.insert(key.clone(), making[first].clone());
                *left = left.map(|left| left - 1);
            }
        }
        Some(rooms)
    }

    /// The resources that make room, or could: what is going anyway first, then the longest idle.
    fn making_room<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = Room> + 'a {
        let after = pool.object.spec.resource.reclaim_after.unwrap_or(crate::lifecycle::deadline::RECLAIM_AFTER);
        let going = pool
            .going
            .iter()
            .chain(pool.idle.iter().map(|(_, key)| key))
            .filter(|key| self.resources.get(*key).is_some_and(|resource| pool::makes_room(resource)));
        let idle = pool.idle.iter().filter(move |(_, key)| {
            // One that is filed has room; and as it is offered to nobody, it fits nobody who waits, or is held back.
            self.filed.contains_key(key) && !self.offers.contains_key(key) && !self.unreclaimable.contains(key)
        });
        let at = move |key: &ObjectKey| {
            let resource = self.resources.get(key)?;
            let is_held_back = pool.held_back.contains_key(key);
            Some(if is_held_back { pool::idle_since(resource) } else { pool::reclaimable_at(resource, after) })
        };
        going
            .map(|key| Room { resource: key.clone(), at: None })
            .chain(idle.filter_map(move |(_, key)| Some(Room { resource: key.clone(), at: Some(at(key)?) })))
    }

    /// Those of the resources that make room in whose place a lease could have one built, if they were gone. On a pool of
    /// listed slots one helps only whom its own slot fits, unless it is the count that is full.
    pub(super) fn helpful(
        &self,
        blueprint: &ObjectKey,
        pool: &Pool,
        lease: &Lease,
        making: &[Room],
        steps: &mut u64,
    ) -> VecDeque<usize> {
        let fits = |slot: &Slot| matching::fits_slot(&lease.spec, slot);
        let full = pool.places() == 0;
        let Some(slots) = &pool.slots else {
            *steps += 1;
            let all = if full && fits(&pool.numbered(String::new())) { making.len() } else { 0 };
            return (0..all).collect();
        };
        *steps += (slots.len() + making.len()) as u64;
        match (full, self.find_vacant(blueprint, fits).is_some()) {
            (true, true) => (0..making.len()).collect(),
            // With a place left, whatever is vacant is built in its turn.
            (false, true) => VecDeque::new(),
            (_, false) => {
                let fitting: BTreeSet<&str> = slots.iter().filter(|s| fits(s)).map(|s| s.name.as_str()).collect();
                let slot_of = |room: &Room| self.resources.get(&room.resource).and_then(|r| r.slot());
                let helps = |n: &usize| slot_of(&making[*n]).is_some_and(|slot| fitting.contains(slot));
                (0..making.len()).filter(helps).collect()
            }
        }
    }

    /// A Blueprint that it would rather be served by makes room, or could.
    fn is_helped_elsewhere<'a>(
        &'a self,
        key: &ObjectKey,
        blueprint: &ObjectKey,
        now: MicroTime,
        known: &mut Elsewhere<'a>,
        steps: &mut u64,
    ) -> bool {
        let (Some(waiter), Some(lease)) = (self.waiters.get(key), self.leases.get(key)) else { return false };
        let rather = waiter.queues.iter().take_while(|queued| queued.blueprint != *blueprint);
        rather.into_iter().any(|Queued { blueprint: other, wants, .. }| {
            let may_build = |pool: &&Pool| pool.may_build(now) && pool.flavour_put_off(&wants.flavours, now).is_none();
            let Some(pool) = self.blueprints.get(other).filter(may_build) else { return false };
            *steps += 1;
            let helps = known.helps.entry((other, lease.spec.selector.as_ref())).or_insert_with(|| {
                let making = known.making.entry(other).or_insert_with(|| self.making_room(pool).collect());
                !making.is_empty() && !self.helpful(other, pool, lease, making, steps).is_empty()
            });
            *helps && self.may_build_for(pool, &key.namespace)
        })
    }

    /// What makes room for a lease in a Blueprint, as its condition tells it.
    pub(super) fn reclaiming(&self, key: &ObjectKey, pool: &Pool, now: MicroTime) -> Option<Reclaiming<'_>> {
        let room = pool.rooms.get(key)?;
        let (name, resource) = self.resources.get_key_value(&room.resource)?;
        let (name, at) = (&*name.name, room.at);
        match at {
            Some(at) if at > now => Some(Reclaiming::Later(name)),
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
            let key = ObjectKey::of(&resource.metadata);
            let idle = pool::bucket(resource) == Bucket::Idle
                && (self.is_held_back(&key, resource) || self.first_for_resource(&key, now).is_none());
            idle.then(|| DueReclaim { resource: resource.clone(), lease: lease.clone() })
        });
        (due.collect(), planned().map(|(.., at)| at).filter(|at| *at > now).min())
    }

    /// A `Reclaim` could not be appended to this version of a resource, which is left alone until it is seen to have changed.
    /// The answer may come after that: then it says nothing of what is known by now, and is tried again.
    pub fn cannot_reclaim(&mut self, tried: &Resource) {
        let key = ObjectKey::of(&tried.metadata);
        let Some(known) = self.resources.get(&key).cloned() else { return };
        let is_known = known.metadata.resource_version == tried.metadata.resource_version
            && known.metadata.uid == tried.metadata.uid;
        if is_known {
            self.unreclaimable.insert(key);
        }
        if let Some(blueprint) = self.pool_of(&known).map(|(key, _)| key.clone()) {
            self.plan(&blueprint);
            if !is_known {
                self.dirty.push(Key::Blueprint(blueprint));
            }
        }
    }
}
