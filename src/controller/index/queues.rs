//! Who waits where: the queues of Blueprints, and the slots that they list.

use super::{Index, Key, ObjectKey, Pool, Queued, Waiter, Wants};
use crate::{
    api::{Lease, LeasePhase, MicroTime, blueprint::From},
    lifecycle::{
        matching::{self, Admission},
        queue, uid,
    },
};
use std::{collections::BTreeMap, sync::Arc};

impl Index {
    /// All queues are made anew.
    pub(super) fn rebuild_all(&mut self, now: MicroTime) {
        let keys: Vec<_> = self.blueprints.keys().cloned().collect();
        for key in &keys {
            self.relist(key);
        }
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

    /// A Blueprint has come, changed or gone: its slots, those of its neighbours that list the same
    /// hosts (`HostTaken`), and the queues of the
    /// leases that it could serve. Whoever asks for the type that it had, before, no longer waits because of it.
    pub(super) fn rebuild(&mut self, key: &ObjectKey, before: Option<&str>, now: MicroTime) {
        if !self.synced {
            // The start does it for all of them.
            return;
        }
        let neighbours = self.relist(key);
        for neighbour in &neighbours {
            self.list_slots(neighbour);
        }
        let type_ = self.blueprints.get(key).map(|pool| pool.object.spec.resource_type.clone());
        let concerned = |lease: &Lease, waiter: Option<&Waiter>| {
            lease.phase() == LeasePhase::Pending
                && ([type_.as_deref(), before].contains(&Some(&lease.spec.resource_type))
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

    /// A lease or what it is claimed by has changed: it waits, or waits no more.
    pub(super) fn requeue(&mut self, key: &ObjectKey, now: MicroTime) {
        if !self.synced {
            return;
        }
        let left: Vec<_> = self.waiters.get(key).into_iter().flat_map(|w| &w.queues).cloned().collect();
        self.enqueue(key, now);
        self.serve(key, now);
        for queued in left {
            self.plan(&queued.blueprint);
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
    pub(super) fn enqueue(&mut self, key: &ObjectKey, now: MicroTime) -> bool {
        let is_read = !self.is_unreadable(&Key::Lease(key.clone()));
        let waits = |lease: &&Arc<Lease>| self.synced && is_read && queue::waits(lease, now);
        let waits = self.leases.get(key).filter(waits).cloned();
        let before = self.waiters.remove(key);
        for queued in before.iter().flat_map(|w| &w.queues) {
            self.leave(queued);
        }
        let Some(lease) = waits else {
            self.moved.extend(before.iter().flat_map(|w| &w.queues).map(|left| (left.blueprint.clone(), true)));
            return before.is_some();
        };
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
        let mut waiter = Waiter {
            queues,
            offered: None,
            ordered: None,
            passed_over: before.as_ref().map_or(0, |before| before.passed_over),
            places: BTreeMap::new(),
            recorded,
            news: None,
        };
        if let Some(before) = before {
            // Whoever stood behind it in a queue that it has left moves up.
            let left = before.queues.iter().filter(|left| !waiter.is_in(&left.blueprint));
            self.moved.extend(left.map(|left| (left.blueprint.clone(), true)));
            waiter.offered = before.offered;
            waiter.ordered = before.ordered;
            // What its status shows by now, whoever wrote it, is told; and nothing where it stands nowhere.
            waiter.news = before.news.filter(|_| before.recorded == recorded && !waiter.queues.is_empty());
            if !changed {
                waiter.places = before.places;
            }
        }
        let open = waiter.offered.is_none() && !self.is_claimed(&lease);
        for queued in &waiter.queues {
            if let Some(pool) = self.blueprints.get_mut(&queued.blueprint) {
                if open {
                    let class = pool.queue.entry(queued.wants.clone()).or_default();
                    pool.queued += i64::from(class.insert(queued.place.clone(), key.clone()).is_none());
                }
                if changed {
                    self.moved.insert(queued.blueprint.clone(), true);
                }
            }
        }
        self.waiters.insert(key.clone(), waiter);
        changed
    }

    pub(super) fn leave(&mut self, queued: &Queued) {
        let Some(pool) = self.blueprints.get_mut(&queued.blueprint) else { return };
        if let Some(class) = pool.queue.get_mut(&queued.wants) {
            pool.queued -= i64::from(class.remove(&queued.place).is_some());
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
}
