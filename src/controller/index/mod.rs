//! The one copy of every object, and what is derived from it. Watch events and the answers of writes enter by the same
//! door, ordered by resourceVersion; keys of objects that want a pass go out. Synchronous: no I/O, no waiting.

mod builds;
mod counts;
mod door;
mod gauges;
mod heartbeats;
mod listing;
mod matcher;
mod names;
mod namespaces;
mod places;
mod precedence;
mod queues;
mod readiness;
mod reclaim;
mod replacement;
mod standing;
mod teardowns;
#[cfg(test)]
mod tests;
mod unreadable;
mod view;

pub use gauges::PoolGauge;
pub use places::SWEEP;
pub use reclaim::DueReclaim;
pub use view::{Held, LeaseAround, ResourceAround};

use super::key::{Key, ObjectKey};
use crate::{
    api::{
        Blueprint, Command, Lease, LeasePhase, LedgerEntry, MicroTime, Resource, Unreadable, blueprint::ResourceCounts,
        step::Slot,
    },
    driver::Drivers,
    lifecycle::{
        commands, is_deleting,
        matching::{SharedNamespaces, WatchedNamespaces},
        pool::{self, SlotState},
        queue::Place,
        uid,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// How many UIDs of objects that are gone are remembered, so that a late answer does not bring one back.
const REMEMBERED: usize = 10_000;

/// See the module.
pub struct Index {
    drivers: Drivers,
    shared: SharedNamespaces,
    watched: WatchedNamespaces,
    leases: BTreeMap<ObjectKey, Arc<Lease>>,
    resources: BTreeMap<ObjectKey, Arc<Resource>>,
    blueprints: BTreeMap<ObjectKey, Pool>,
    /// The labels of namespaces; `None` where they may not be read.
    namespaces: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// Lease UID → the lease.
    lease_uids: BTreeMap<String, ObjectKey>,
    heartbeats: heartbeats::Heartbeats,
    failing: gauges::Failing,
    /// Resource UID → the resource.
    resource_uids: BTreeMap<String, ObjectKey>,
    /// Blueprint UID → the Blueprint.
    blueprint_uids: BTreeMap<String, ObjectKey>,
    /// Lease UID → the last version of a lease that was destroyed and is gone, while a resource claims it: R4a is final, and
    /// needs no read.
    ended: BTreeMap<String, Arc<Lease>>,
    /// Lease UID → the resources that show a claim for it.
    claimed: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Resource UID → the leases that are bound to it and not destroyed.
    bound: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Resource, by name → the leases of other namespaces that are bound to it, or to a former one of the name.
    bound_elsewhere: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Resource → whose teardown holds its slot, its own or that of a lease → what it waits for.
    teardowns: BTreeMap<ObjectKey, BTreeMap<Key, String>>,
    /// Lease UID → the resources that are being built for it.
    building: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Blueprint UID → the resources that are its own.
    owned: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Namespace and what stands there in the world → the resources that hold it.
    identities: BTreeMap<(Arc<str>, String), BTreeSet<ObjectKey>>,
    /// Resource → what it stands for in the world.
    identity_of: BTreeMap<ObjectKey, String>,
    /// Resource with room → its Blueprint, and where in the order it is filed.
    filed: BTreeMap<ObjectKey, (ObjectKey, i64)>,
    /// The leases that wait.
    waiters: BTreeMap<ObjectKey, Waiter>,
    /// Resource → the leases that are offered to its next pass.
    offers: BTreeMap<ObjectKey, Vec<ObjectKey>>,
    /// Blueprints whose queues have moved since places were last told.
    moved: BTreeMap<ObjectKey, bool>,
    /// Blueprints whose counts have changed since they were last looked at.
    recount: BTreeSet<ObjectKey>,
    /// Resources whose last pass failed: nothing is offered to them until one has not.
    withheld: BTreeSet<ObjectKey>,
    /// Resources that did not take a `Reclaim`, as they are known now.
    unreclaimable: BTreeSet<ObjectKey>,
    /// Objects whose newest version cannot be read.
    unreadable: BTreeMap<Key, Arc<Unreadable>>,
    /// What each Blueprint's driver lists.
    listed: BTreeMap<ObjectKey, listing::Listed>,
    /// Namespace and what stands there in the world → the Blueprints that list it, the oldest first.
    listing: BTreeMap<(Arc<str>, String), listing::Sharing>,
    /// Blueprints that are planned anew at the end of the present event.
    replan: BTreeSet<ObjectKey>,
    /// How many comparisons planning has cost so far.
    plan_steps: u64,
    gone: BTreeSet<String>,
    /// Those that have gone since the last [`Self::take_lost`].
    lost: Vec<String>,
    gone_in_order: VecDeque<String>,
    /// Every watch has seen its first full list; before, nothing is matched.
    synced: bool,
    dirty: Vec<Key>,
    /// Objects of which a newer version was seen since the last call of `take_news`.
    news: BTreeSet<Key>,
}

/// A Blueprint and what is derived for it.
struct Pool {
    object: Arc<Blueprint>,
    /// Where its driver lists them; an entry that is another Blueprint's is shown disabled.
    slots: Option<Arc<Vec<Slot>>>,
    /// Entries that an older Blueprint offers.
    taken: Vec<String>,
    counts: ResourceCounts,
    /// What its resources are built from, in short.
    template_hash: String,
    /// Building has effects outside: `maxConcurrentBuilds` holds for it.
    builds_take_time: bool,
    /// Resources that are being built.
    pending: BTreeSet<ObjectKey>,
    /// Resources that nobody holds, the longest idle first.
    idle: BTreeSet<(MicroTime, ObjectKey)>,
    /// How many of its resources' places the leases of each namespace hold, where that is limited.
    held: namespaces::Tally,
    /// Resources that are over, as long as they are there, and those idle ones that are being deleted.
    going: BTreeSet<ObjectKey>,
    /// Resources whose teardown fails.
    stuck: BTreeSet<ObjectKey>,
    /// Resources that nobody holds, and of which something is lost.
    lost: BTreeSet<ObjectKey>,
    /// Resources that are not its own, and are called as its own would be.
    foreign: BTreeSet<ObjectKey>,
    /// Lease that waits → the resource that makes room for it.
    rooms: BTreeMap<ObjectKey, reclaim::Room>,
    /// Resource that makes room rather than be granted to those whom it fits → the lease in front of them that it does so for.
    held_back: BTreeMap<ObjectKey, ObjectKey>,
    /// `maxResources` was lowered, and there were more when last looked at.
    shrinking: bool,
    /// Resources with room, the one to be filled first in front.
    free: BTreeSet<(i64, ObjectKey)>,
    /// Leases that may be served by it and have no grant on its way, by what they want.
    queue: BTreeMap<Wants, BTreeMap<Place, ObjectKey>>,
    /// How many those are.
    queued: i64,
    /// Slots that its next pass is to build in, and for whom; for nobody, so that `minReady` are kept ready.
    orders: BTreeMap<String, Option<ObjectKey>>,
    /// Builds that failed in a row.
    failures: u32,
    /// Why the last of them did.
    failure: Option<String>,
    /// When it did.
    failed_at: Option<MicroTime>,
    next_build_at: Option<MicroTime>,
    /// Flavours that leases ask for, and whose builds fail.
    failing: builds::Failing,
}

/// What a lease wants of a Blueprint's resources, as far as that Blueprint tells them apart: leases that want the same are
/// served in order, so only the head of each kind is looked at when a resource becomes free.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Wants {
    /// Where that counts (`limits.maxLeasesPerNamespace`).
    namespace: Option<Arc<str>>,
    selector: Option<crate::api::Selector>,
    flavours: BTreeMap<String, String>,
}

/// A lease that waits.
struct Waiter {
    /// The queues that it is in, in the order in which it tries them.
    queues: Vec<Queued>,
    /// The resource that it is offered to.
    offered: Option<ObjectKey>,
    /// The Blueprint and slot where a build is ordered for it.
    ordered: Option<(ObjectKey, String)>,
    /// How many leases behind it were offered what could have made room for it.
    passed_over: u32,
    /// Its place in each queue, as last counted.
    places: BTreeMap<ObjectKey, i64>,
    /// Its place as its status shows it: two controllers must not have two opinions.
    recorded: Option<i64>,
    /// Its best place, where that is to be told and its status does not show it yet.
    news: Option<i64>,
}

impl Waiter {
    /// What its status is to show.
    fn told(&self) -> Option<i64> {
        self.news.or(self.recorded)
    }

    fn place_in(&self, blueprint: &ObjectKey) -> Option<&Place> {
        self.queues.iter().find(|queued| queued.blueprint == *blueprint).map(|queued| &queued.place)
    }

    fn is_in(&self, blueprint: &ObjectKey) -> bool {
        self.queues.iter().any(|queued| queued.blueprint == *blueprint)
    }
}

/// A lease's entry in the queue of one Blueprint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Queued {
    blueprint: ObjectKey,
    wants: Wants,
    place: Place,
}

impl Index {
    /// An empty one.
    pub fn new(drivers: Drivers, shared: SharedNamespaces) -> Self {
        Self {
            drivers,
            shared,
            watched: WatchedNamespaces::default(),
            leases: BTreeMap::new(),
            resources: BTreeMap::new(),
            blueprints: BTreeMap::new(),
            namespaces: Some(BTreeMap::new()),
            lease_uids: BTreeMap::new(),
            heartbeats: heartbeats::Heartbeats::default(),
            failing: gauges::Failing::default(),
            resource_uids: BTreeMap::new(),
            blueprint_uids: BTreeMap::new(),
            ended: BTreeMap::new(),
            claimed: BTreeMap::new(),
            bound: BTreeMap::new(),
            bound_elsewhere: BTreeMap::new(),
            teardowns: BTreeMap::new(),
            building: BTreeMap::new(),
            owned: BTreeMap::new(),
            identities: BTreeMap::new(),
            identity_of: BTreeMap::new(),
            filed: BTreeMap::new(),
            waiters: BTreeMap::new(),
            offers: BTreeMap::new(),
            moved: BTreeMap::new(),
            recount: BTreeSet::new(),
            withheld: BTreeSet::new(),
            unreclaimable: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            listed: BTreeMap::new(),
            listing: BTreeMap::new(),
            replan: BTreeSet::new(),
            plan_steps: 0,
            gone: BTreeSet::new(),
            lost: Vec::new(),
            gone_in_order: VecDeque::new(),
            synced: false,
            dirty: Vec::new(),
            news: BTreeSet::new(),
        }
    }

    /// Of which only these namespaces are seen.
    pub fn watching(mut self, watched: WatchedNamespaces) -> Self {
        self.watched = watched;
        self
    }

    /// The UIDs of the objects that have gone since the last call.
    pub fn take_lost(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lost)
    }

    /// The keys that want a pass since the last call. It ends an event: what makes room for whom is planned once for each
    /// Blueprint that the event has changed, however often it has.
    pub fn take_dirty(&mut self, now: MicroTime) -> Vec<Key> {
        while let Some(blueprint) = self.replan.pop_first() {
            self.plan_now(&blueprint, now);
        }
        std::mem::take(&mut self.dirty)
    }

    /// The objects of which a newer version was seen since the last call.
    pub fn take_news(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.news)
    }

    /// Whether somebody waits for the next pass of an object: it was asked for something, deleted, granted or offered.
    pub fn is_asked(&self, key: &Key) -> bool {
        let unconsumed = |asked: &[Command], ledger: Option<&[LedgerEntry]>| {
            commands::unconsumed(asked, ledger.unwrap_or_default()).next().is_some()
        };
        match key {
            Key::Lease(object) => self.leases.get(object).is_some_and(|lease| {
                let is_claimed =
                    || lease.phase() == LeasePhase::Pending && self.claimed.contains_key(uid(&lease.metadata));
                is_deleting(&lease.metadata)
                    || unconsumed(&lease.spec.commands, lease.status.as_ref().map(|s| &*s.commands))
                    || is_claimed()
            }),
            Key::Resource(object) => self.resources.get(object).is_some_and(|resource| {
                is_deleting(&resource.metadata)
                    || unconsumed(&resource.spec.commands, resource.status.as_ref().map(|s| &*s.commands))
                    || self.offers.contains_key(object)
            }),
            Key::Blueprint(_) => false,
        }
    }

    /// Every watch has seen its first full list: from now on leases are matched. Every object wants a pass.
    pub fn start(&mut self, now: MicroTime) {
        self.synced = true;
        self.dirty.extend(self.leases.keys().cloned().map(Key::Lease));
        self.dirty.extend(self.resources.keys().cloned().map(Key::Resource));
        self.dirty.extend(self.blueprints.keys().cloned().map(Key::Blueprint));
        self.dirty.extend(self.unreadable.keys().cloned());
        self.rebuild_all(now);
    }

    /// The leases that are offered to a resource.
    pub fn offers_of(&self, resource: &ObjectKey) -> Vec<ObjectKey> {
        self.offers.get(resource).cloned().unwrap_or_default()
    }

    /// The object of this UID.
    pub fn key_of(&self, uid: &str) -> Option<Key> {
        let lease = || self.lease_uids.get(uid).cloned().map(Key::Lease);
        let blueprint = || self.blueprint_uids.get(uid).cloned().map(Key::Blueprint);
        let resource = || self.resource_uids.get(uid).cloned().map(Key::Resource);
        lease().or_else(resource).or_else(blueprint)
    }

    /// How many objects of each kind there are, and how many leases wait.
    pub fn sizes(&self) -> [(&'static str, usize); 4] {
        [
            ("leases", self.leases.len()),
            ("resources", self.resources.len()),
            ("blueprints", self.blueprints.len()),
            ("waiting", self.waiters.len()),
        ]
    }

    /// The pool that a resource belongs to: its Blueprint is in the cache under the UID of the reference.
    fn pool_of(&self, resource: &Resource) -> Option<(&ObjectKey, &Pool)> {
        if bug!(AdoptsNamesake) {
            let namespace = resource.metadata.namespace.as_deref()?;
            return self.blueprints.get_key_value(&ObjectKey::new(namespace, &resource.spec.blueprint_ref.name));
        }
        self.blueprint_uids
            .get(&resource.spec.blueprint_ref.uid)
            .and_then(|key| self.blueprints.get_key_value(key))
            .filter(|(key, _)| Some(&*key.namespace) == resource.metadata.namespace.as_deref())
    }

    /// The lease of this UID, where the cache has it.
    pub fn lease(&self, uid: &str) -> Option<Arc<Lease>> {
        self.lease_by_uid(uid).cloned()
    }

    /// G3: by UID, never by name.
    fn lease_by_uid(&self, uid: &str) -> Option<&Arc<Lease>> {
        self.lease_uids.get(uid).and_then(|key| self.leases.get(key)).or_else(|| self.ended.get(uid))
    }

    /// How many more leases may be granted this resource, those counted that are offered to it.
    fn room(&self, key: &ObjectKey, resource: &Resource, pool: &Pool) -> usize {
        if self.withheld.contains(key) || self.is_unreadable(&Key::Resource(key.clone())) {
            return 0;
        }
        let room = pool::room(resource, &pool.object, self.slot_state(key, resource, pool), self.claims_held(resource));
        room.saturating_sub(self.offers.get(key).map_or(0, Vec::len))
    }

    /// How many of a resource's claims have not ended.
    fn claims_held(&self, resource: &Resource) -> usize {
        resource.claims().iter().filter(|claim| !self.is_ended(claim, resource)).count()
    }

    fn is_ended(&self, claim: &crate::api::Claim, resource: &Resource) -> bool {
        let uid = crate::lifecycle::uid(&resource.metadata);
        self.lease_by_uid(&claim.uid).is_some_and(|lease| pool::has_ended(claim, lease, uid))
    }

    /// How a resource stands to its slot, and to its pool as a whole.
    fn slot_state(&self, key: &ObjectKey, resource: &Resource, pool: &Pool) -> SlotState {
        match pool::slot_state(resource, pool.slots.as_ref().map(|slots| slots.as_slice())) {
            SlotState::Current if self.is_surplus(key, pool) => SlotState::Surplus,
            SlotState::Current if self.is_replaced_next(key, resource, pool) => SlotState::Outdated,
            state => state,
        }
    }
}

/// Adds to a map of sets.
fn link<K: Ord>(map: &mut BTreeMap<K, BTreeSet<ObjectKey>>, from: K, to: &ObjectKey) {
    map.entry(from).or_default().insert(to.clone());
}

/// Takes from a map of sets, and leaves no empty set behind.
fn unlink<K: Ord>(map: &mut BTreeMap<K, BTreeSet<ObjectKey>>, from: &K, to: &ObjectKey) {
    if let Some(set) = map.get_mut(from) {
        set.remove(to);
        if set.is_empty() {
            map.remove(from);
        }
    }
}
