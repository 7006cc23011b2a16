//! Where what resources are built from has changed, those that nobody holds are replaced, one at a time and the oldest first:
//! the next when the one before is gone, and what is built instead is there. Those that wait for their turn serve meanwhile,
//! after those that are as they should be; what is leased is never replaced. Hosts are not built, and have no turn: their
//! slots say at once which of them are outdated.

use super::{Index, Key, ObjectKey, Pool};
use crate::{
    api::{MicroTime, Resource},
    lifecycle::{
        conditions,
        pool::{self, Bucket},
        uid,
    },
};

impl Index {
    /// Built from something else than the Blueprint says now.
    pub(super) fn is_outdated(resource: &Resource, pool: &Pool) -> bool {
        pool.slots.is_none()
            && !pool.template_hash.is_empty()
            && resource.spec.template_hash.as_deref() != Some(&pool.template_hash)
    }

    /// It is this resource's turn to be replaced.
    pub(super) fn is_replaced_next(&self, key: &ObjectKey, resource: &Resource, pool: &Pool) -> bool {
        Self::is_outdated(resource, pool) && self.is_unheld(resource) && self.next_replaced(pool) == Some(key)
    }

    pub(super) fn next_replaced<'a>(&'a self, pool: &'a Pool) -> Option<&'a ObjectKey> {
        let is_busy = !pool.pending.is_empty() || !pool.orders.is_empty() || pool.next_build_at.is_some();
        if is_busy || pool.object.spec.suspend || pool.going.iter().any(|key| self.is_being_replaced(key)) {
            return None;
        }
        let owned = self.owned.get(uid(&pool.object.metadata)).into_iter().flatten();
        let outdated = owned.filter_map(|key| {
            let resource = self.resources.get(key)?;
            let created = resource.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (Self::is_outdated(resource, pool) && self.is_unheld(resource)).then_some((created, key))
        });
        if bug!(ReplacesTheYoungest) { outdated.max() } else { outdated.min() }.map(|(_, key)| key)
    }

    fn is_being_replaced(&self, key: &ObjectKey) -> bool {
        self.resources
            .get(key)
            .and_then(|r| r.status.as_ref())
            .is_some_and(|status| conditions::true_reason(&status.conditions, "Released") == Some("Outdated"))
    }

    /// Idle, or about to be: or one that is handed on from lease to lease would never have its turn.
    fn is_unheld(&self, resource: &Resource) -> bool {
        match pool::bucket(resource) {
            Bucket::Idle => true,
            Bucket::Leased => self.claims_held(resource) == 0,
            Bucket::Pending | Bucket::Released | Bucket::Broken | Bucket::Destroyed => false,
        }
    }

    /// It may be the next one's turn.
    pub(super) fn replace_next(&mut self, blueprint: &ObjectKey, now: MicroTime) {
        let Some(pool) = self.blueprints.get(blueprint).filter(|pool| pool.slots.is_none()) else { return };
        let idle = pool.idle.iter().map(|(_, key)| key);
        let outdated = idle.filter(|key| self.resources.get(*key).is_some_and(|r| Self::is_outdated(r, pool)));
        let outdated: Vec<_> = outdated.cloned().collect();
        if outdated.is_empty() {
            return;
        }
        self.dirty.extend(self.next_replaced(pool).cloned().map(Key::Resource));
        // Whose turn it is has no room any more, and whoever had it before, has.
        for resource in &outdated {
            self.offer(resource, now);
        }
    }
}
