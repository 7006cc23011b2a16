//! Who is offered what: the ladder reuse → build → reclaim → wait (design.md, 5; reclaim is told beside). It keeps one thing true after every event: no
//! lease that waits fits a resource with room that is not offered already, nor a vacant slot that may be built in. So each
//! event looks only at what it has changed.
//!
//! An offer (lease ↔ resource) and an order (lease ↔ slot) are taken back only by the pass that they were made to, when
//! it has ended: then the index shows what came of it.

use super::{Index, Key, ObjectKey, Pool, Queued, Waiter, Wants};
use crate::{
    api::{
        Blueprint, Lease, LeasePhase, MicroTime, Resource, ResourcePhase,
        blueprint::{From, Placement},
        slot_name,
        step::Slot,
    },
    lifecycle::{
        has_finalizer, is_deleting,
        matching::{self, Admission},
        pool::{self, Bucket, SlotState},
        queue, uid,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// More than any number of leases on one resource.
const LAST: i64 = 1 << 32;

impl Pool {
    pub(super) fn new(object: Arc<Blueprint>) -> Self {
        Self {
            object,
            slots: None,
            taken: Vec::new(),
            counts: Default::default(),
            template_hash: String::new(),
            builds_take_time: true,
            pending: BTreeSet::new(),
            idle: BTreeSet::new(),
            holders: BTreeMap::new(),
            going: BTreeSet::new(),
            rooms: BTreeMap::new(),
            shrinking: false,
            free: BTreeSet::new(),
            queue: BTreeMap::new(),
            orders: BTreeMap::new(),
            failures: 0,
            failure: None,
            next_build_at: None,
        }
    }

    pub(super) fn may_build(&self, now: MicroTime) -> bool {
        // B1: creates nothing before its own object was read with the finalizer.
        has_finalizer(&self.object.metadata)
            && pool::is_judged(&self.object)
            && pool::grants(&self.object, SlotState::Current)
            && self.next_build_at.is_none_or(|at| at <= now)
    }

    /// The limit, where the names of the slots alone do not hold it: the list is longer.
    pub(super) fn counted_limit(&self) -> Option<i64> {
        let listed = i64::try_from(self.slots.as_ref()?.len()).unwrap_or(i64::MAX);
        self.object.spec.limits.max_resources.filter(|limit| *limit < listed)
    }

    /// Counts one more of its resources, or with `-1` one less.
    pub(super) fn count(&mut self, resource: &Resource, by: i64) {
        let key = ObjectKey::of(&resource.metadata);
        let bucket = pool::bucket(resource);
        pool::count(&mut self.counts, bucket, by);
        for claim in resource.claims() {
            let held = self.holders.entry(claim.namespace.clone()).or_default();
            *held = held.saturating_add_signed(by as isize);
            if *held == 0 {
                self.holders.remove(&claim.namespace);
            }
        }
        match bucket {
            Bucket::Pending => keep(&mut self.pending, key, by > 0),
            Bucket::Idle if !is_deleting(&resource.metadata) => {
                keep(&mut self.idle, (pool::idle_since(resource), key), by > 0);
            }
            Bucket::Leased => {}
            Bucket::Idle | Bucket::Released | Bucket::Broken | Bucket::Destroyed => {
                keep(&mut self.going, key, by > 0);
            }
        }
    }

    /// How many more resources both limits allow, those counted that are ordered.
    fn allowance(&self) -> usize {
        self.places().min(self.builds())
    }

    /// How many more resources `maxResources` allows.
    pub(super) fn places(&self) -> usize {
        let used = usize::try_from(pool::live(&self.counts)).unwrap_or(0) + self.orders.len();
        let limit = self.object.spec.limits.max_resources.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        limit.saturating_sub(used)
    }

    /// How many more builds `maxConcurrentBuilds` allows at once. What is being torn down is no build.
    pub(super) fn builds(&self) -> usize {
        if !self.builds_take_time {
            return usize::MAX;
        }
        let limit = usize::try_from(self.object.spec.limits.max_concurrent_builds).unwrap_or(1);
        limit.saturating_sub(self.pending.len() + self.orders.len())
    }
}

/// Puts into a set, or takes out of it.
fn keep<T: Ord>(set: &mut BTreeSet<T>, value: T, keep: bool) {
    if keep {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}

impl Index {
    /// All queues are made anew.
    pub(super) fn rebuild_all(&mut self, now: MicroTime) {
        let keys: Vec<_> = self.blueprints.keys().cloned().collect();
        for key in &keys {
            self.list_slots(key);
        }
        let waiting: Vec<_> = self.leases.keys().cloned().collect();
        for lease in &waiting {
            self.enqueue(lease, now);
        }
        for key in &keys {
            self.offer_all(key, now);
        }
        for key in &keys {
            self.order(key, now);
        }
    }

    /// A Blueprint has come, changed or gone: its slots, those of its neighbours (`HostTaken`), and the queues of the
    /// leases that it could serve.
    pub(super) fn rebuild(&mut self, key: &ObjectKey, now: MicroTime) {
        if !self.synced {
            // The start does it for all of them.
            return;
        }
        let neighbours: Vec<_> = self.blueprints.keys().filter(|b| b.namespace == key.namespace).cloned().collect();
        for neighbour in &neighbours {
            self.list_slots(neighbour);
        }
        let type_ = self.blueprints.get(key).map(|pool| pool.object.spec.resource_type.clone());
        let concerned = |lease: &Lease, waiter: Option<&Waiter>| {
            lease.phase() == LeasePhase::Pending
                && (type_.as_deref() == Some(&lease.spec.resource_type)
                    || waiter.is_some_and(|w| w.queues.iter().any(|queued| queued.blueprint == *key)))
        };
        let waiting: Vec<_> = self
            .leases
            .iter()
            .filter(|(k, lease)| concerned(lease, self.waiters.get(*k)))
            .map(|(k, _)| k.clone())
            .collect();
        let mut elsewhere = Vec::new();
        for lease in &waiting {
            let building = |l: &Lease| self.building.contains_key(uid(&l.metadata));
            let built_for = self.leases.get(lease).is_some_and(|l| building(l));
            if self.enqueue(lease, now) || built_for {
                elsewhere.push(lease.clone());
            }
            self.dirty.push(Key::Lease(lease.clone()));
        }
        for neighbour in &neighbours {
            self.offer_all(neighbour, now);
        }
        for neighbour in &neighbours {
            self.order(neighbour, now);
        }
        // What it no longer serves may be served elsewhere.
        for lease in &elsewhere {
            self.serve(lease, now);
        }
    }

    /// The labels of a namespace have changed: its leases may be admitted where they were not.
    pub(super) fn readmit(&mut self, namespace: &str, now: MicroTime) {
        let selects = |pool: &Pool| pool.object.spec.allowed_namespaces.from == From::Selector;
        if !self.synced || !self.blueprints.values().any(selects) {
            return;
        }
        let first = ObjectKey::new(namespace, "");
        let leases: Vec<_> = self
            .leases
            .range(first..)
            .take_while(|(key, _)| &*key.namespace == namespace)
            .filter(|(_, lease)| lease.phase() == LeasePhase::Pending)
            .map(|(key, _)| key.clone())
            .collect();
        for lease in leases {
            self.requeue(&lease, now);
            self.dirty.push(Key::Lease(lease));
        }
    }

    /// Asks the driver for a Blueprint's slots. An entry whose machine an older Blueprint of the namespace lists too is
    /// shown disabled: it is offered by the older one only.
    fn list_slots(&mut self, key: &ObjectKey) {
        let Some(pool) = self.blueprints.get(key) else { return };
        let listed = |b: &Blueprint| self.drivers.of_blueprint(b).and_then(|d| d.slots(b));
        let age = |b: &Blueprint| {
            (b.metadata.creation_timestamp.as_ref().map(|t| t.0), b.metadata.name.clone().unwrap_or_default())
        };
        let mine = age(&pool.object);
        let mut taken = Vec::new();
        let slots = listed(&pool.object).map(|mut slots| {
            let older = |(other, pool): &(&ObjectKey, &Pool)| {
                other.namespace == key.namespace && age(&pool.object) < mine && !is_deleting(&pool.object.metadata)
            };
            let theirs: BTreeSet<String> = self
                .blueprints
                .iter()
                .filter(older)
                .filter_map(|(_, pool)| listed(&pool.object))
                .flatten()
                .filter_map(|slot| slot.identity)
                .collect();
            for slot in &mut slots {
                if slot.identity.as_ref().is_some_and(|identity| theirs.contains(identity)) {
                    slot.enabled = false;
                    taken.push(slot.name.clone());
                }
            }
            Arc::new(slots)
        });
        let owned = self.owned.get(uid(&pool.object.metadata)).cloned().unwrap_or_default();
        let driver = self.drivers.of_blueprint(&pool.object);
        let template_hash = driver.map(|driver| driver.template_hash(&pool.object)).unwrap_or_default();
        let builds_take_time = driver.is_none_or(|driver| !driver.free_steps(Some(&pool.object), None).build);
        if let Some(pool) = self.blueprints.get_mut(key) {
            pool.template_hash = template_hash;
            pool.builds_take_time = builds_take_time;
        }
        if let Some(pool) = self.blueprints.get_mut(key)
            && (pool.slots != slots || pool.taken != taken)
        {
            pool.slots = slots;
            pool.taken = taken;
            self.dirty.push(Key::Blueprint(key.clone()));
            self.dirty.extend(owned.into_iter().map(Key::Resource));
        }
    }

    /// A lease or what it is claimed by has changed: it waits, or waits no more.
    pub(super) fn requeue(&mut self, key: &ObjectKey, now: MicroTime) {
        if !self.synced {
            return;
        }
        let left: Vec<_> = self.waiters.get(key).into_iter().flat_map(|w| &w.queues).cloned().collect();
        self.enqueue(key, now);
        self.serve(key, now);
        for queued in left {
            self.plan(&queued.blueprint, now);
        }
        // What is built for it is built for nobody, or for somebody again.
        let uid = self.leases.get(key).map(|lease| uid(&lease.metadata).to_owned());
        for pool in uid.and_then(|uid| self.building.get(&uid)).into_iter().flatten().cloned().collect::<Vec<_>>() {
            if let Some(resource) = self.resources.get(&pool).cloned() {
                self.tend_pool_of(&resource, now);
            }
        }
    }

    /// Puts a lease into the queues of the Blueprints that may serve it, or takes it out of them. Returns whether that has
    /// changed which queues it is in.
    fn enqueue(&mut self, key: &ObjectKey, now: MicroTime) -> bool {
        let waits = self.leases.get(key).filter(|lease| self.synced && queue::waits(lease, now)).cloned();
        let before = self.waiters.remove(key);
        for queued in before.iter().flat_map(|w| &w.queues) {
            self.leave(queued);
            if waits.is_none() {
                self.moved.insert(queued.blueprint.clone(), true);
            }
        }
        let Some(lease) = waits else { return before.is_some() };
        let queues: Vec<_> = self
            .candidates(&lease)
            .into_iter()
            .filter(|(_, admission)| *admission == Admission::Admitted)
            .filter_map(|(blueprint, _)| {
                let spec = &self.blueprints.get(&blueprint)?.object.spec;
                let flavours = matching::flavours(&lease.spec, &spec.resource);
                let namespace = spec.limits.max_leases_per_namespace.map(|_| key.namespace.clone());
                let wants = Wants { namespace, selector: lease.spec.selector.clone(), flavours };
                Some(Queued { place: queue::place(&lease, &spec.lease), blueprint, wants })
            })
            .collect();
        let changed = before.as_ref().is_none_or(|w| w.queues != queues);
        let recorded = lease.status.as_ref().and_then(|s| s.queue_position);
        let mut waiter = Waiter { queues, offered: None, ordered: None, places: BTreeMap::new(), recorded, news: None };
        if let Some(before) = before {
            waiter.offered = before.offered;
            waiter.ordered = before.ordered;
            // What its status shows by now, whoever wrote it, is told.
            waiter.news = before.news.filter(|_| before.recorded == recorded);
            if !changed {
                waiter.places = before.places;
            }
        }
        let open = waiter.offered.is_none() && !self.is_claimed(&lease);
        for queued in &waiter.queues {
            if let Some(pool) = self.blueprints.get_mut(&queued.blueprint) {
                if open {
                    pool.queue.entry(queued.wants.clone()).or_default().insert(queued.place.clone(), key.clone());
                }
                if changed {
                    self.moved.insert(queued.blueprint.clone(), true);
                }
            }
        }
        self.waiters.insert(key.clone(), waiter);
        changed
    }

    fn leave(&mut self, queued: &Queued) {
        let Some(pool) = self.blueprints.get_mut(&queued.blueprint) else { return };
        if let Some(class) = pool.queue.get_mut(&queued.wants) {
            class.remove(&queued.place);
            if class.is_empty() {
                pool.queue.remove(&queued.wants);
            }
        }
    }

    /// A claim for its present attempt is there to be taken up, or to be given up by raising the attempt; or one for a later
    /// attempt, where the copy of the lease is older than that of the resource.
    pub(super) fn is_claimed(&self, lease: &Lease) -> bool {
        let id = uid(&lease.metadata);
        let claims = self.claimed.get(id).into_iter().flatten().filter_map(|key| self.resources.get(key));
        claims.flat_map(|r| r.claims()).any(|c| c.uid == id && c.attempt >= lease.attempt())
    }

    /// The Blueprints that a lease may ask, in the order in which it tries them, with what they say to its namespace.
    pub(super) fn candidates(&self, lease: &Lease) -> Vec<(ObjectKey, Admission)> {
        let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
        let labels = self.namespaces.as_ref().and_then(|namespaces| namespaces.get(namespace));
        let mut candidates: Vec<_> = self
            .blueprints
            .iter()
            .filter(|(_, pool)| matching::is_candidate(lease, &pool.object, &self.shared))
            .map(|(key, pool)| (key.clone(), &pool.object, matching::admission(&pool.object, namespace, labels)))
            .collect();
        candidates.sort_by(|(_, a, _), (_, b, _)| matching::preference(lease, a).cmp(&matching::preference(lease, b)));
        candidates.into_iter().map(|(key, _, admission)| (key, admission)).collect()
    }

    /// The ladder, for one lease: a resource with room, else a vacant slot, else what makes room, else it waits.
    pub(super) fn serve(&mut self, key: &ObjectKey, now: MicroTime) {
        self.reuse_or_build(key, now);
        self.plan_for(key, now);
    }

    fn reuse_or_build(&mut self, key: &ObjectKey, now: MicroTime) {
        let Some(lease) = self.leases.get(key).cloned() else { return };
        let Some(waiter) = self.waiters.get(key) else { return };
        if waiter.offered.is_some() || self.is_claimed(&lease) {
            return;
        }
        let queues: Vec<_> = waiter.queues.iter().map(|queued| queued.blueprint.clone()).collect();
        if let Some(resource) = queues.iter().find_map(|blueprint| self.best_free(blueprint, &lease, now)) {
            return self.make_offer(key, &resource);
        }
        for blueprint in queues {
            if !self.has_build_in_flight(key, &blueprint, now)
                && self.blueprints.get(&blueprint).is_some_and(|pool| self.may_build_for(pool, &key.namespace))
                && let Some(slot) = self.vacant_slot(&blueprint, now, |slot| matching::fits_slot(&lease.spec, slot))
            {
                return self.make_order(Some(key), &blueprint, slot.name);
            }
        }
    }

    /// Where there is a choice a lease gets a resource that outlives it, else the one that lives longest.
    fn best_free(&self, blueprint: &ObjectKey, lease: &Lease, now: MicroTime) -> Option<ObjectKey> {
        let pool = self.blueprints.get(blueprint)?;
        if pool.free.is_empty() || !self.may_hold(pool, lease.metadata.namespace.as_deref().unwrap_or_default()) {
            return None;
        }
        let end = |r: &Resource| r.status.as_ref().and_then(|s| s.expires_at);
        let needed = lease.spec.expires_at.or(lease.spec.ttl.map(|ttl| now.after(ttl)));
        let outlives = |r: &Resource| end(r).is_none_or(|end| needed.is_some_and(|needed| needed <= end));
        let fitting = pool
            .free
            .iter()
            .filter_map(|(_, key)| self.resources.get(key).map(|r| (key, r)))
            .filter(|(_, r)| matching::fits(&lease.spec, r, &pool.object.spec.resource, now));
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

    fn make_offer(&mut self, lease: &ObjectKey, resource: &ObjectKey) {
        let Some(waiter) = self.waiters.get_mut(lease) else { return };
        waiter.offered = Some(resource.clone());
        for queued in waiter.queues.clone() {
            self.leave(&queued);
        }
        self.offers.entry(resource.clone()).or_default().push(lease.clone());
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
            let score = if pool.object.spec.placement == Placement::Pack { -filled } else { filled };
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
            let Some(lease) = self.first_for_resource(key, now) else { return };
            self.make_offer(&lease, key);
        }
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
        self.plan(key, now);
    }

    fn next_order(&self, key: &ObjectKey, now: MicroTime) -> Option<(Option<ObjectKey>, String)> {
        let pool = self.blueprints.get(key)?;
        let missing = self.missing(pool);
        if (pool.queue.is_empty() && missing == 0) || !pool.may_build(now) || pool.allowance() == 0 {
            return None;
        }
        let any = self.find_vacant(key, |_| true)?;
        let may_build = |wants: &Wants| wants.namespace.as_ref().is_none_or(|ns| self.may_build_for(pool, ns));
        let wanted = pool.queue.iter().filter(|(wants, _)| may_build(wants)).filter_map(|(_, class)| {
            let mut unserved = class.iter().filter_map(|(place, lease)| {
                let object = self.leases.get(lease).filter(|l| queue::waits(l, now))?;
                (!self.has_build_in_flight(lease, key, now)).then_some((place, lease, object))
            });
            let (place, lease, object) = unserved.next()?;
            let slot = self.find_vacant(key, |slot| matching::fits_slot(&object.spec, slot))?;
            Some((place.clone(), lease.clone(), slot.name))
        });
        match wanted.min() {
            Some((_, lease, slot)) => Some((Some(lease), slot)),
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
        if let Some(pool) = self.blueprints.get_mut(blueprint)
            && pool.next_build_at.is_some_and(|at| at <= now)
        {
            pool.next_build_at = None;
            self.order(blueprint, now);
            self.replace_next(blueprint, now);
        }
    }

    pub(super) fn slot_state_of(&self, key: &ObjectKey, resource: &Resource) -> SlotState {
        self.pool_of(resource).map_or(SlotState::Current, |(_, pool)| self.slot_state(key, resource, pool))
    }
}
