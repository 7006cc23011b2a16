//! How many leases of one namespace hold a Blueprint's resources (`limits.maxLeasesPerNamespace`): those that it grants, those
//! that it is about to, and for a build those for whom it builds. Counted, not locked: two controllers at once, each of which
//! knows nothing yet of what the other has just granted, may go above it by that.

use super::{Index, ObjectKey, Pool};
use crate::api::{MicroTime, Resource};
use std::collections::BTreeMap;

/// Counts by namespace, kept as resources change, so that asking costs no look at any resource.
#[derive(Default)]
pub(super) struct Tally {
    of_resource: BTreeMap<ObjectKey, BTreeMap<String, usize>>,
    total: BTreeMap<String, usize>,
}

impl Tally {
    /// How many there are for a namespace.
    pub(super) fn of(&self, namespace: &str) -> usize {
        self.total.get(namespace).copied().unwrap_or(0)
    }

    /// Replaces what one resource counts for.
    fn set(&mut self, resource: &ObjectKey, counts: BTreeMap<String, usize>) {
        for (namespace, n) in self.of_resource.remove(resource).unwrap_or_default() {
            let left = self.of(&namespace).saturating_sub(n);
            if left == 0 {
                self.total.remove(&namespace);
            } else {
                self.total.insert(namespace, left);
            }
        }
        for (namespace, n) in &counts {
            *self.total.entry(namespace.clone()).or_default() += n;
        }
        if !counts.is_empty() {
            self.of_resource.insert(resource.clone(), counts);
        }
    }
}

impl Index {
    /// Whether a Blueprint may grant a namespace one more.
    pub(super) fn may_hold(&self, pool: &Pool, namespace: &str) -> bool {
        self.quota(pool, namespace).is_none_or(|left| left > 0)
    }

    /// Whether it may build one more for a namespace: what is being built for it counts, too.
    pub(super) fn may_build_for(&self, pool: &Pool, namespace: &str) -> bool {
        self.builds_left(pool, namespace).is_none_or(|left| left > 0)
    }

    /// How many more a Blueprint may build for a namespace; `None`: there is no limit.
    pub(super) fn builds_left(&self, pool: &Pool, namespace: &str) -> Option<usize> {
        let left = self.quota(pool, namespace)?;
        let for_it = |lease: &ObjectKey| &*lease.namespace == namespace;
        let pending = pool.pending.iter().filter_map(|key| self.resources.get(key)?.spec.requested_for.as_ref());
        let waits = |uid: &String| self.lease_uids.get(uid).filter(|lease| self.is_open(lease));
        let pending = pending.filter_map(|lease| waits(&lease.uid)).filter(|lease| for_it(lease)).count();
        let ordered = pool.orders.values().flatten().filter(|lease| for_it(lease)).count();
        Some(left.saturating_sub(pending + ordered))
    }

    fn quota(&self, pool: &Pool, namespace: &str) -> Option<usize> {
        let limit = usize::try_from(pool.object.spec.limits.max_leases_per_namespace?).unwrap_or(0);
        Some(limit.saturating_sub(pool.held.of(namespace)))
    }

    /// A resource's claims, whether they have ended, or what it is offered may have changed: it is counted anew.
    pub(super) fn count_held(&mut self, key: &ObjectKey, resource: &Resource) {
        let Some((blueprint, pool)) = self.pool_of(resource) else { return };
        if pool.object.spec.limits.max_leases_per_namespace.is_none() {
            return;
        }
        let blueprint = blueprint.clone();
        let held = self.held_of(key);
        if let Some(pool) = self.blueprints.get_mut(&blueprint) {
            pool.held.set(key, held);
        }
    }

    /// Namespace → how many of its leases hold a resource, or are offered it.
    fn held_of(&self, key: &ObjectKey) -> BTreeMap<String, usize> {
        let mut held = BTreeMap::new();
        let Some(resource) = self.resources.get(key) else { return held };
        for claim in resource.claims().iter().filter(|claim| !self.is_ended(claim, resource)) {
            *held.entry(claim.namespace.clone()).or_default() += 1;
        }
        for lease in self.offers.get(key).into_iter().flatten() {
            *held.entry(lease.namespace.to_string()).or_default() += 1;
        }
        held
    }

    /// Who holds a Blueprint's resources may have changed: whoever waited for that is served.
    pub(super) fn quota_moved(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        let Some(pool) = self.blueprints.get(blueprint) else { return };
        if pool.object.spec.limits.max_leases_per_namespace.is_none() || pool.queue.is_empty() {
            return;
        }
        self.moved.insert(blueprint.clone(), true);
        for (_, resource) in pool.free.clone() {
            self.offer(&resource, now);
        }
        self.order(blueprint, now);
    }
}
