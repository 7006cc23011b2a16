//! What the teardowns wait for that hold slots: those who wait behind such a slot are told. Kept apart as objects are seen, for
//! it is asked for each lease of a queue.

use super::{Index, Key, ObjectKey, Pool};
use crate::{
    api::{Lease, LeasePhase, Resource, ResourcePhase},
    lifecycle::{matching::Shortage, teardown},
};
use std::collections::BTreeSet;

/// So many of a Blueprint's resources are looked at for one lease.
const LOOKED_AT: usize = 16;

impl Index {
    /// The namespaces, other than its own, of the leases that are bound to a resource, or to a former one of its name.
    pub fn namespaces_bound_to(&self, resource: &ObjectKey) -> BTreeSet<std::sync::Arc<str>> {
        self.bound_elsewhere.get(resource).into_iter().flatten().map(|lease| lease.namespace.clone()).collect()
    }

    /// A version of a resource was seen.
    pub(super) fn note_teardown_of_resource(&mut self, resource: &Resource) {
        let key = ObjectKey::of(&resource.metadata);
        let conditions = resource.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let is_over = matches!(resource.phase(), ResourcePhase::Released | ResourcePhase::Broken);
        let waits_for = teardown::waits_for(conditions).filter(|_| is_over && resource.claims().is_empty());
        self.note_teardown(&key, Key::Resource(key.clone()), waits_for);
    }

    /// A version of a lease was seen, or its end.
    pub(super) fn note_teardown_of_lease(&mut self, known: Option<&Lease>, now: Option<&Lease>) {
        let slot = |lease: &Lease| lease.resource_ref().map(|r| ObjectKey::new(&r.namespace, &r.name));
        let Some(key) = now.or(known).map(|lease| Key::Lease(ObjectKey::of(&lease.metadata))) else { return };
        let (before, slot_now) = (known.and_then(slot), now.and_then(slot));
        if let Some(before) = before.filter(|before| Some(before) != slot_now.as_ref()) {
            self.note_teardown(&before, key.clone(), None);
        }
        let (Some(now), Some(slot)) = (now, slot_now) else { return };
        let conditions = now.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let is_over = matches!(now.phase(), LeasePhase::Released | LeasePhase::Broken);
        self.note_teardown(&slot, key, teardown::waits_for(conditions).filter(|_| is_over));
    }

    fn note_teardown(&mut self, slot: &ObjectKey, of: Key, waits_for: Option<&str>) {
        let changed = match waits_for {
            Some(text) => {
                let before = self.teardowns.entry(slot.clone()).or_default().insert(of, text.to_owned());
                before.as_deref() != Some(text)
            }
            None => {
                let Some(known) = self.teardowns.get_mut(slot) else { return };
                let removed = known.remove(&of).is_some();
                if known.is_empty() {
                    self.teardowns.remove(slot);
                }
                removed
            }
        };
        let Some(blueprint) = self.resources.get(slot).and_then(|r| self.pool_of(r)).map(|(key, _)| key.clone()) else {
            return;
        };
        if changed && self.blueprints.get(&blueprint).is_some_and(|pool| !pool.queue.is_empty()) {
            // Why they wait has changed, though nobody has moved.
            self.moved.insert(blueprint, true);
        }
    }

    /// A slot of a Blueprint that a teardown holds, and what that waits for. What the lease of another namespace has had is not
    /// told.
    pub(super) fn held_slot<'a>(
        &'a self,
        pool: &Pool,
        asking: &ObjectKey,
        of_use: impl Fn(&ObjectKey) -> bool,
    ) -> Option<Shortage<'a>> {
        let blueprint = ObjectKey::of(&pool.object.metadata);
        let prefix = format!("{}--", blueprint.name);
        let from = ObjectKey::new(&blueprint.namespace, &prefix);
        let slots = self.teardowns.range(from..);
        let own = slots.take_while(|(slot, _)| slot.namespace == blueprint.namespace && slot.name.starts_with(&prefix));
        let (slot, teardowns) = own.take(LOOKED_AT).find(|(slot, _)| of_use(slot))?;
        let may_know = |of: &Key| match of {
            Key::Lease(lease) => lease.namespace == asking.namespace,
            Key::Resource(_) | Key::Blueprint(_) => true,
        };
        let waits_for = teardowns.iter().find(|(of, _)| may_know(of)).map(|(_, text)| text.as_str());
        Some(Shortage::TearingDown(&slot.name, waits_for))
    }
}
