//! Names that are taken: a Resource that is called as one of a Blueprint's would be, and is not its own (api.md, 5): a
//! predecessor's that still drains, or one that was made by hand. It is never adopted; its slot is passed over, and told.

use super::{Index, Key, ObjectKey, Pool};
use crate::{
    api::{Resource, SLOT_SEPARATOR},
    lifecycle::uid,
};

/// The Blueprint and slot that a Resource's name means: names of Blueprints do not hold the separator.
fn meant(resource: &ObjectKey) -> Option<(ObjectKey, &str)> {
    let (blueprint, slot) = resource.name.split_once(SLOT_SEPARATOR)?;
    Some((ObjectKey::new(&resource.namespace, blueprint), slot))
}

impl Pool {
    /// Its slots whose names are taken, with the Resources that have them.
    pub(super) fn names_taken(&self) -> impl Iterator<Item = (&str, &ObjectKey)> {
        let slots = self.foreign.iter().filter_map(|key| Some((key.name.split_once(SLOT_SEPARATOR)?.1, key)));
        slots.filter(|(slot, _)| match &self.slots {
            Some(slots) => slots.iter().any(|listed| listed.name == *slot),
            None => {
                let limit = self.object.spec.limits.max_resources.unwrap_or(0);
                slot.parse::<i64>().is_ok_and(|n| n < limit && n.to_string() == *slot)
            }
        })
    }

    fn is_foreign(&self, resource: &Resource) -> bool {
        resource.spec.blueprint_ref.uid != uid(&self.object.metadata)
    }
}

impl Index {
    /// A Resource is there, or there no more: the Blueprint that its name means looks whether it is its own.
    pub(super) fn note_name(&mut self, key: &ObjectKey) {
        let Some((blueprint, _)) = meant(key) else { return };
        let resource = self.resources.get(key);
        let Some(pool) = self.blueprints.get_mut(&blueprint) else { return };
        let foreign = resource.is_some_and(|resource| pool.is_foreign(resource));
        let changed = if foreign { pool.foreign.insert(key.clone()) } else { pool.foreign.remove(key) };
        if changed {
            // It tells of it, and those who wait do.
            self.dirty.push(Key::Blueprint(blueprint.clone()));
            self.moved.insert(blueprint, true);
        }
    }

    /// A Blueprint is there: which of the names that it would give are taken.
    pub(super) fn note_names(&self, key: &ObjectKey, pool: &mut Pool) {
        let first = ObjectKey::new(&key.namespace, &format!("{}{SLOT_SEPARATOR}", key.name));
        let of_its_name =
            |(other, _): &(&ObjectKey, _)| other.namespace == key.namespace && other.name.starts_with(&*first.name);
        let named = self.resources.range(first.clone()..).take_while(of_its_name);
        let foreign = named.filter(|(_, resource)| pool.is_foreign(resource)).map(|(key, _)| key.clone());
        pool.foreign = foreign.collect();
    }
}
