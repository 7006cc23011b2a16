//! The door: objects come in, from watches and from the answers of writes alike, and out of the index when they are gone.

use super::{Index, Key, ObjectKey, Pool, REMEMBERED, link, unlink};
use crate::{
    api::{Blueprint, Condition, Lease, LeasePhase, LeaseSpec, LeaseStatus, MicroTime, Resource, ResourcePhase},
    lifecycle::{conditions, deadline, has_finalizer, is_deleting, pool, uid},
};
use kube::api::ObjectMeta;
use std::{collections::BTreeMap, sync::Arc};

/// What the index keeps of an object's metadata: no `managedFields` (ten times the memory), no copy that kubectl makes.
fn strip(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// What is kept of a lease that is over and has lost its finalizer: what its last deadline and the claims that it may still have
/// rest on. Nothing is written to it any more, and there may be as many as were served within `ttlAfterDestroyed`.
fn shrink(lease: &mut Lease) {
    let Some(status) = lease.status.take() else { return };
    let conditions = status.conditions.into_iter().filter(|condition| condition.type_ == "TornDown");
    let conditions = conditions.map(|condition| Condition { message: String::new(), ..condition });
    lease.status = Some(LeaseStatus {
        phase: status.phase,
        conditions: conditions.collect(),
        attempt: status.attempt,
        resource_ref: status.resource_ref,
        released_at: status.released_at,
        destroyed_at: status.destroyed_at,
        ..LeaseStatus::default()
    });
    lease.spec = LeaseSpec {
        resource_type: std::mem::take(&mut lease.spec.resource_type),
        ttl_after_destroyed: lease.spec.ttl_after_destroyed,
        ..LeaseSpec::default()
    };
    lease.metadata.annotations = None;
    lease.metadata.labels = None;
    lease.metadata.owner_references = None;
}

/// resourceVersions are comparable within a kind (KEP-5504); one that cannot be read is taken as new.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

/// Another object of the same name, newer than the one that is known: the end of that one was not seen.
fn is_other(known: &ObjectMeta, seen: &ObjectMeta) -> bool {
    uid(known) != uid(seen) && version(known) < version(seen)
}

/// A lease's ticket is the version at which it was first seen, whatever was written to it before its first status: by us,
/// where we put the finalizer on, in an order of its own.
fn keep_ticket(known: Option<&Lease>, seen: &mut Lease) {
    let ticket = |lease: &Lease| lease.status.as_ref().and_then(|s| s.queue_ticket.clone());
    let known = known.filter(|known| uid(&known.metadata) == uid(&seen.metadata));
    if let Some(known) = known.filter(|_| seen.phase() == LeasePhase::Pending && ticket(seen).is_none()) {
        let first = ticket(known).or_else(|| known.metadata.resource_version.clone());
        seen.status.get_or_insert_default().queue_ticket = first;
    }
}

impl Index {
    /// Whether this version says nothing new: not newer than what is known, or of an object that is gone.
    pub(super) fn is_old(&self, known: Option<&ObjectMeta>, seen: &ObjectMeta) -> bool {
        self.gone.contains(uid(seen)) || known.is_some_and(|known| version(known) >= version(seen))
    }

    fn remember(&mut self, meta: &ObjectMeta) {
        if self.gone.insert(uid(meta).to_owned()) {
            self.gone_in_order.push_back(uid(meta).to_owned());
            self.lost.push(uid(meta).to_owned());
        }
        if self.gone_in_order.len() > REMEMBERED
            && let Some(oldest) = self.gone_in_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    /// A version of a lease was seen.
    pub fn see_lease(&mut self, mut lease: Lease, now: MicroTime) {
        let key = ObjectKey::of(&lease.metadata);
        if let Some(namesake) = self.leases.get(&key).filter(|l| is_other(&l.metadata, &lease.metadata)).cloned() {
            self.lose_lease(&namesake.metadata, now);
        }
        let known = self.leases.get(&key).cloned();
        if self.is_old(known.as_ref().map(|l| &l.metadata), &lease.metadata) {
            return;
        }
        self.no_longer_unreadable(&Key::Lease(key.clone()));
        strip(&mut lease.metadata);
        let same = known.as_deref().is_some_and(|known| known.spec.heartbeat == lease.spec.heartbeat);
        if lease.spec.heartbeat_timeout.is_some() {
            self.heartbeats.see(&key, same);
        }
        keep_ticket(known.as_deref(), &mut lease);
        if lease.phase() == LeasePhase::Destroyed && !has_finalizer(&lease.metadata) {
            shrink(&mut lease);
        }
        let lease = Arc::new(lease);
        if let Some(known) = &known {
            self.forget_lease(&key, known);
        }
        self.lease_uids.insert(uid(&lease.metadata).to_owned(), key.clone());
        if let Some(bound) = lease.resource_ref().filter(|_| lease.phase() != LeasePhase::Destroyed) {
            link(&mut self.bound, bound.uid.clone(), &key);
            if *bound.namespace != *key.namespace {
                link(&mut self.bound_elsewhere, ObjectKey::new(&bound.namespace, &bound.name), &key);
            }
        }
        self.note_teardown_of_lease(known.as_deref(), Some(&lease));
        self.failing.add_lease(&lease);
        self.leases.insert(key.clone(), lease.clone());
        self.news.insert(Key::Lease(key.clone()));
        self.dirty.push(Key::Lease(key.clone()));
        let promise = |l: &Lease| (l.phase(), l.attempt(), l.resource_ref().cloned());
        if known.as_deref().map(promise) != Some(promise(&lease)) {
            self.claimants_look(uid(&lease.metadata), now);
        }
        self.requeue(&key, now);
    }

    /// A lease is gone; `seen` is its last version.
    pub fn lose_lease(&mut self, seen: &ObjectMeta, now: MicroTime) {
        self.remember(seen);
        let key = ObjectKey::of(seen);
        if self.unreadable.get(&Key::Lease(key.clone())).is_some_and(|known| uid(&known.metadata) == uid(seen)) {
            self.no_longer_unreadable(&Key::Lease(key.clone()));
        }
        let Some(known) = self.leases.get(&key).filter(|l| uid(&l.metadata) == uid(seen)).cloned() else { return };
        self.forget_lease(&key, &known);
        self.note_teardown_of_lease(Some(&known), None);
        self.leases.remove(&key);
        self.heartbeats.forget(&key);
        if known.phase() == LeasePhase::Destroyed && self.claimed.contains_key(uid(seen)) {
            self.ended.insert(uid(seen).to_owned(), known.clone());
        }
        self.requeue(&key, now);
        self.dirty.push(Key::Lease(key));
        self.claimants_look(uid(seen), now);
    }

    fn forget_lease(&mut self, key: &ObjectKey, known: &Lease) {
        self.failing.take_lease(known);
        self.lease_uids.remove(uid(&known.metadata));
        if let Some(bound) = known.resource_ref() {
            unlink(&mut self.bound, &bound.uid, key);
            unlink(&mut self.bound_elsewhere, &ObjectKey::new(&bound.namespace, &bound.name), key);
        }
    }

    /// The resources that claim a lease look at it; one whose claim has ended may have room for the next.
    fn claimants_look(&mut self, lease: &str, now: MicroTime) {
        for key in self.claimed.get(lease).cloned().unwrap_or_default() {
            self.dirty.push(Key::Resource(key.clone()));
            if let Some(resource) = self.resources.get(&key).cloned() {
                self.count_held(&key, &resource);
            }
            self.offer(&key, now);
            if let Some(blueprint) = self.resources.get(&key).and_then(|r| self.pool_of(r)).map(|(b, _)| b.clone()) {
                self.quota_moved(&blueprint, now);
            }
        }
    }

    /// A version of a resource was seen.
    pub fn see_resource(&mut self, mut resource: Resource, now: MicroTime) {
        let key = ObjectKey::of(&resource.metadata);
        if let Some(namesake) = self.resources.get(&key).filter(|r| is_other(&r.metadata, &resource.metadata)).cloned()
        {
            self.lose_resource(&namesake.metadata, now);
        }
        let known = self.resources.get(&key).cloned();
        if self.is_old(known.as_ref().map(|r| &r.metadata), &resource.metadata) {
            return;
        }
        self.no_longer_unreadable(&Key::Resource(key.clone()));
        strip(&mut resource.metadata);
        let resource = Arc::new(resource);
        if let Some(known) = &known {
            self.forget_resource(&key, known);
        }
        self.unreclaimable.remove(&key);
        for claim in resource.claims() {
            link(&mut self.claimed, claim.uid.clone(), &key);
        }
        link(&mut self.owned, resource.spec.blueprint_ref.uid.clone(), &key);
        self.resource_uids.insert(uid(&resource.metadata).to_owned(), key.clone());
        if resource.phase() == ResourcePhase::Pending
            && let Some(lease) = &resource.spec.requested_for
        {
            link(&mut self.building, lease.uid.clone(), &key);
        }
        if let Some(identity) = self.identity(&resource) {
            link(&mut self.identities, (key.namespace.clone(), identity.clone()), &key);
            self.identity_of.insert(key.clone(), identity);
        }
        if let Some(known) = &known {
            self.forget_ended(known);
        }
        self.count(&resource, 1);
        self.failing.add_resource(&resource);
        self.resources.insert(key.clone(), resource.clone());
        self.note_teardown_of_resource(&resource);
        self.count_held(&key, &resource);
        self.note_name(&key);
        self.news.insert(Key::Resource(key.clone()));
        self.dirty.push(Key::Resource(key.clone()));
        self.note_build(known.as_deref(), &resource, now);
        // Offered before its leases look: or the one that it was built for would have another built.
        self.offer(&key, now);
        self.leases_look(known.as_deref(), Some(&resource), now);
        if !matches!(pool::bucket(&resource), pool::Bucket::Pending | pool::Bucket::Leased) {
            // It may make room, or make none any more.
            if let Some(blueprint) = self.pool_of(&resource).map(|(blueprint, _)| blueprint.clone()) {
                self.plan(&blueprint);
            }
        }
        let holders = |r: &Resource| r.claims().len();
        if known.as_deref().map(holders) != Some(holders(&resource))
            && let Some(blueprint) = self.pool_of(&resource).map(|(blueprint, _)| blueprint.clone())
        {
            self.quota_moved(&blueprint, now);
        }
        let counted = |r: &Resource| (pool::bucket(r), is_deleting(&r.metadata), pool::trouble(r));
        if known.as_deref().map(counted) != Some(counted(&resource)) {
            self.recount(&resource);
            self.tend_pool_of(&resource, now);
            if known.is_some_and(|known| pool::bucket(&known) == pool::Bucket::Pending) {
                self.look_elsewhere(&resource, now);
            }
        }
    }

    /// A resource is gone; `seen` is its last version.
    pub fn lose_resource(&mut self, seen: &ObjectMeta, now: MicroTime) {
        self.remember(seen);
        let key = ObjectKey::of(seen);
        if self.unreadable.get(&Key::Resource(key.clone())).is_some_and(|known| uid(&known.metadata) == uid(seen)) {
            self.no_longer_unreadable(&Key::Resource(key.clone()));
        }
        let Some(known) = self.resources.get(&key).filter(|r| uid(&r.metadata) == uid(seen)).cloned() else { return };
        self.forget_resource(&key, &known);
        self.teardowns.remove(&key);
        self.resources.remove(&key);
        self.count_held(&key, &known);
        self.note_name(&key);
        self.forget_ended(&known);
        self.withheld.remove(&key);
        self.unreclaimable.remove(&key);
        self.offer(&key, now);
        self.leases_look(Some(&known), None, now);
        self.recount(&known);
        self.tend_pool_of(&known, now);
        self.look_elsewhere(&known, now);
        if let Some(blueprint) = self.pool_of(&known).map(|(blueprint, _)| blueprint.clone()) {
            self.quota_moved(&blueprint, now);
        }
        self.dirty.push(Key::Resource(key.clone()));
        // Its slot is vacant, and so is what stands there in the world, for whichever Blueprint of the namespace lists it.
        let neighbours: Vec<_> = self.blueprints.keys().filter(|b| b.namespace == key.namespace).cloned().collect();
        for blueprint in neighbours {
            self.order(&blueprint, now);
        }
    }

    fn forget_resource(&mut self, key: &ObjectKey, known: &Resource) {
        for claim in known.claims() {
            unlink(&mut self.claimed, &claim.uid, key);
        }
        unlink(&mut self.owned, &known.spec.blueprint_ref.uid, key);
        self.failing.take_resource(known);
        self.resource_uids.remove(uid(&known.metadata));
        if let Some(lease) = &known.spec.requested_for {
            unlink(&mut self.building, &lease.uid, key);
        }
        if let Some(identity) = self.identity_of.remove(key) {
            unlink(&mut self.identities, &(key.namespace.clone(), identity), key);
        }
        self.count(known, -1);
    }

    /// What was kept of leases that are gone goes with the last claim for them.
    fn forget_ended(&mut self, known: &Resource) {
        for claim in known.claims() {
            if !self.claimed.contains_key(&claim.uid) {
                self.ended.remove(&claim.uid);
            }
        }
    }

    /// What stands there in the world: as built, or as its entry says.
    fn identity(&self, resource: &Resource) -> Option<String> {
        let pool = self.pool_of(resource).map(|(_, pool)| pool);
        let driver = self.drivers.of_resource(resource, pool.map(|p| &*p.object))?;
        driver.identity(resource).or_else(|| {
            let slots = pool?.slots.as_ref()?;
            slots.iter().find(|slot| Some(slot.name.as_str()) == resource.slot())?.identity.clone()
        })
    }

    fn count(&mut self, resource: &Resource, by: i64) {
        let Some(key) = self.pool_of(resource).map(|(key, _)| key.clone()) else { return };
        if let Some(pool) = self.blueprints.get_mut(&key) {
            pool.count(resource, by);
        }
    }

    /// The leases that a resource claims, claimed, or is bound to look at it, where what concerns them has changed.
    fn leases_look(&mut self, known: Option<&Resource>, seen: Option<&Resource>, now: MicroTime) {
        let Some(any) = seen.or(known) else { return };
        let lost = |r: &Resource| {
            let ready = conditions::get(&r.status.as_ref()?.conditions, "Ready");
            ready.filter(|ready| ready.reason == "ObjectLost").map(|ready| ready.message.clone())
        };
        let concern = |r: &Resource| (r.phase(), r.status.as_ref().and_then(|s| s.expires_at), lost(r));
        let changed = known.map(concern) != seen.map(concern);
        let claims = |r: Option<&Resource>| -> BTreeMap<String, i64> {
            r.map(|r| r.claims().iter().map(|c| (c.uid.clone(), c.attempt)).collect()).unwrap_or_default()
        };
        let (before, after) = (claims(known), claims(seen));
        let mut looking: Vec<ObjectKey> = Vec::new();
        for uid in before.keys().chain(after.keys()) {
            if (changed || before.get(uid) != after.get(uid))
                && let Some(key) = self.lease_uids.get(uid)
            {
                looking.push(key.clone());
            }
        }
        if changed {
            looking.extend(self.bound.get(uid(&any.metadata)).into_iter().flatten().cloned());
        }
        if let Some(lease) = any.spec.requested_for.as_ref().and_then(|l| self.lease_uids.get(&l.uid)) {
            looking.push(lease.clone());
        }
        looking.sort();
        looking.dedup();
        for key in looking {
            self.dirty.push(Key::Lease(key.clone()));
            self.requeue(&key, now);
        }
    }

    /// Its Blueprint counts anew: with the next sweep, or at once where the count decides whether it may go.
    fn recount(&mut self, resource: &Resource) {
        let Some((key, pool)) = self.pool_of(resource) else { return };
        let key = key.clone();
        if is_deleting(&pool.object.metadata) {
            self.dirty.push(Key::Blueprint(key));
        } else {
            if !pool.queue.is_empty() {
                // Why they wait may have changed, though nobody has moved.
                self.moved.insert(key.clone(), true);
            }
            self.recount.insert(key);
        }
    }

    /// A version of a Blueprint was seen.
    pub fn see_blueprint(&mut self, blueprint: Blueprint, now: MicroTime) {
        let key = ObjectKey::of(&blueprint.metadata);
        let known = self.blueprints.get(&key).map(|pool| &pool.object.metadata);
        if !self.is_old(known, &blueprint.metadata) {
            self.no_longer_unreadable(&Key::Blueprint(key));
        }
        self.take_blueprint(blueprint, now);
    }

    /// Takes a version of a Blueprint, as read, or as it is to count where it cannot be read.
    pub(super) fn take_blueprint(&mut self, mut blueprint: Blueprint, now: MicroTime) {
        let key = ObjectKey::of(&blueprint.metadata);
        let known = self.blueprints.get(&key).map(|pool| pool.object.clone());
        if let Some(namesake) = known.filter(|b| is_other(&b.metadata, &blueprint.metadata)) {
            self.lose_blueprint(&namesake.metadata, now);
        }
        let known = self.blueprints.get(&key).map(|pool| pool.object.clone());
        if self.is_old(known.as_ref().map(|b| &b.metadata), &blueprint.metadata) {
            return;
        }
        strip(&mut blueprint.metadata);
        let asks = |b: &Blueprint| (b.metadata.uid.clone(), b.metadata.deletion_timestamp.clone(), b.spec.clone());
        let changed = known.as_deref().map(asks) != Some(asks(&blueprint));
        let builds =
            |b: &Blueprint| (crate::lifecycle::has_finalizer(&b.metadata), pool::is_sound(b), pool::is_judged(b));
        let may_build = known.as_deref().is_none_or(|known| builds(known) != builds(&blueprint));
        self.news.insert(Key::Blueprint(key.clone()));
        self.dirty.push(Key::Blueprint(key.clone()));
        // Where it is Ready, what is put off is a flavour that a lease asked for, and not the Blueprint.
        let is_ready = |b: &Blueprint| {
            let conditions = b.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
            conditions::true_reason(conditions, "Ready").is_some()
        };
        let put_off = |b: Option<&Blueprint>| b.filter(|b| !is_ready(b)).and_then(|b| b.status.as_ref()?.next_build_at);
        let recorded = deadline::build_put_off(put_off(Some(&blueprint)), now);
        let ready = |b: &Blueprint| {
            let conditions = b.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
            conditions::get(conditions, "Ready").map(|c| (c.reason.clone(), c.message.clone()))
        };
        let told = known.as_deref().map(ready) != Some(ready(&blueprint));
        if let Some(pool) = self.blueprints.get_mut(&key)
            && !changed
        {
            pool.object = Arc::new(blueprint);
            // Of two controllers the later back-off counts, and each has the same opinion of it. What stands on record
            // unchanged says nothing new: a build may have succeeded since.
            if put_off(known.as_deref()) != put_off(Some(&pool.object)) {
                pool.next_build_at = pool.next_build_at.max(recorded);
            }
            if told {
                // Those who wait repeat it.
                self.moved.insert(key.clone(), true);
            }
            if may_build {
                self.offer_all(&key, now);
                self.order(&key, now);
            }
            return;
        }
        if let Some(known) = &known {
            self.blueprint_uids.remove(uid(&known.metadata));
        }
        let id = uid(&blueprint.metadata).to_owned();
        self.blueprint_uids.insert(id.clone(), key.clone());
        // What holds for its leases, and what is made for those that are being activated.
        let policy = |b: &Blueprint| {
            let spec = &b.spec;
            (spec.lease.clone(), spec.expiry.clone(), spec.driver.clone(), spec.attributes.clone())
        };
        let policy_changed = known.as_deref().is_some_and(|known| policy(known) != policy(&blueprint));
        let mut pool = Pool::new(Arc::new(blueprint));
        self.note_names(&key, &mut pool);
        // A restart does not forget that builds fail; an edit of the spec does.
        pool.next_build_at = recorded.filter(|_| known.is_none());
        let owned = self.owned.get(&id).cloned().unwrap_or_default();
        for resource in owned.iter().filter_map(|r| self.resources.get(r)) {
            pool.count(resource, 1);
        }
        let mut type_before = None;
        if let Some(before) = self.blueprints.remove(&key) {
            type_before = Some(before.object.spec.resource_type.clone());
            pool.shrinking = before.shrinking;
            pool.failures = before.failures;
            pool.failure = before.failure;
            // Its next pass carries them out, or finds that the slot is no more.
            pool.orders = before.orders;
        }
        self.blueprints.insert(key.clone(), pool);
        for (name, resource) in
            owned.iter().filter_map(|r| Some((r, self.resources.get(r)?.clone()))).collect::<Vec<_>>()
        {
            self.count_held(name, &resource);
        }
        if policy_changed {
            // What holds for its leases has changed: those who hold them look.
            let uids = owned.iter().filter_map(|r| self.resources.get(r)).map(|r| uid(&r.metadata));
            let bound = uids.filter_map(|uid| self.bound.get(uid)).flatten().cloned().map(Key::Lease);
            self.dirty.extend(bound);
        }
        self.dirty.extend(owned.into_iter().map(Key::Resource));
        self.rebuild(&key, type_before.as_deref(), now);
    }

    /// A Blueprint is gone; `seen` is its last version.
    pub fn lose_blueprint(&mut self, seen: &ObjectMeta, now: MicroTime) {
        self.remember(seen);
        let key = ObjectKey::of(seen);
        if self.unreadable.get(&Key::Blueprint(key.clone())).is_some_and(|known| uid(&known.metadata) == uid(seen)) {
            self.no_longer_unreadable(&Key::Blueprint(key.clone()));
        }
        if self.blueprints.get(&key).is_none_or(|pool| uid(&pool.object.metadata) != uid(seen)) {
            return;
        }
        self.blueprint_uids.remove(uid(seen));
        let Some(pool) = self.blueprints.remove(&key) else { return };
        for lease in pool.orders.into_values().flatten() {
            if let Some(waiter) = self.waiters.get_mut(&lease)
                && waiter.ordered.as_ref().is_some_and(|(blueprint, _)| *blueprint == key)
            {
                waiter.ordered = None;
            }
        }
        let owned = self.owned.get(uid(seen)).cloned().unwrap_or_default();
        self.dirty.extend(owned.into_iter().map(Key::Resource));
        self.dirty.push(Key::Blueprint(key.clone()));
        self.rebuild(&key, Some(&pool.object.spec.resource_type), now);
    }

    /// The labels of a namespace were seen; `None` where it is gone.
    pub fn see_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>, now: MicroTime) {
        let namespaces = self.namespaces.get_or_insert_default();
        let before = match labels.clone() {
            Some(labels) => namespaces.insert(name.to_owned(), labels),
            None => namespaces.remove(name),
        };
        if before != labels {
            self.readmit(name, now);
        }
    }

    /// The namespaces that are known.
    pub fn known_namespaces(&self) -> BTreeMap<ObjectKey, String> {
        let names = self.namespaces.iter().flat_map(BTreeMap::keys);
        names.map(|name| (ObjectKey::new("", name), String::new())).collect()
    }

    /// The leases that are known, with their UIDs.
    pub fn known_leases(&self) -> BTreeMap<ObjectKey, String> {
        let read = self.leases.iter().map(|(key, lease)| (key.clone(), uid(&lease.metadata).to_owned()));
        read.chain(self.known_unreadable(Key::Lease)).collect()
    }

    /// The resources that are known, with their UIDs.
    pub fn known_resources(&self) -> BTreeMap<ObjectKey, String> {
        let read = self.resources.iter().map(|(key, resource)| (key.clone(), uid(&resource.metadata).to_owned()));
        read.chain(self.known_unreadable(Key::Resource)).collect()
    }

    /// The Blueprints that are known, with their UIDs.
    pub fn known_blueprints(&self) -> BTreeMap<ObjectKey, String> {
        let read = self.blueprints.iter().map(|(key, pool)| (key.clone(), uid(&pool.object.metadata).to_owned()));
        read.chain(self.known_unreadable(Key::Blueprint)).collect()
    }

    /// Namespaces may not be read: Blueprints that select them by label cannot be followed.
    pub fn namespaces_are_unreadable(&mut self) {
        self.namespaces = None;
    }
}
