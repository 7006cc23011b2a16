//! How many leases of one namespace hold a Blueprint's resources (`limits.maxLeasesPerNamespace`): those that it grants, those
//! that it is about to, and for a build those for whom it builds. Counted, not locked: two controllers at once, each of which
//! knows nothing yet of what the other has just granted, may go above it by that.

use super::{Index, ObjectKey, Pool};
use crate::api::MicroTime;

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
        let claims = pool.holders.get(namespace).copied().unwrap_or(0);
        if claims == 0 && self.offers.is_empty() {
            return Some(limit);
        }
        let owned = self.owned.get(crate::lifecycle::uid(&pool.object.metadata)).into_iter().flatten();
        let held: usize = owned
            .filter_map(|key| self.resources.get(key).map(|resource| (key, resource)))
            .map(|(key, resource)| {
                let claims = resource.claims().iter().filter(|claim| claim.namespace == namespace);
                let claims = claims.filter(|claim| !self.is_ended(claim, resource)).count();
                let offers = self.offers.get(key).into_iter().flatten();
                claims + offers.filter(|lease| &*lease.namespace == namespace).count()
            })
            .sum();
        Some(limit.saturating_sub(held))
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
