//! What the drivers of Blueprints list, and who lists the same machine. A driver is asked once for each version of a Blueprint,
//! and a Blueprint's neighbours are found through what they share: an edit costs what it concerns, however many there are.

use super::{Index, Key, ObjectKey};
use crate::{
    api::{Blueprint, step::Slot},
    lifecycle::{is_deleting, uid},
};
use std::{collections::BTreeSet, sync::Arc};

/// The order among Blueprints that list the same machine: the oldest has it.
pub(super) type Age = (Option<jiff::Timestamp>, String);

/// Blueprints that list the same machine, the oldest first.
pub(super) type Sharing = BTreeSet<(Age, ObjectKey)>;

/// What a Blueprint's driver lists, as it was when last seen.
pub(super) struct Listed {
    slots: Option<Vec<Slot>>,
    age: Age,
    /// It is there to stay: what is being deleted takes no machine from anybody.
    stays: bool,
}

impl Listed {
    fn identities(&self) -> impl Iterator<Item = &String> {
        self.slots.iter().flatten().filter(|_| self.stays).filter_map(|slot| slot.identity.as_ref())
    }
}

fn age(blueprint: &Blueprint) -> Age {
    let meta = &blueprint.metadata;
    (meta.creation_timestamp.as_ref().map(|t| t.0), meta.name.clone().unwrap_or_default())
}

impl Index {
    /// Asks the driver of a Blueprint that has come, changed or gone for its slots. Returns the Blueprints whose slots may be
    /// others now: its own, and those that list a machine that it lists, or has listed.
    pub(super) fn relist(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let mut concerned = BTreeSet::from([key.clone()]);
        let before = self.listed.remove(key);
        let after = self.blueprints.get(key).map(|pool| Listed {
            slots: self.drivers.of_blueprint(&pool.object).and_then(|driver| driver.slots(&pool.object)),
            age: age(&pool.object),
            stays: !is_deleting(&pool.object.metadata),
        });
        for before in before.iter() {
            for identity in before.identities() {
                let place = (key.namespace.clone(), identity.clone());
                let Some(sharing) = self.listing.get_mut(&place) else { continue };
                sharing.remove(&(before.age.clone(), key.clone()));
                concerned.extend(sharing.iter().map(|(_, other)| other.clone()));
                if sharing.is_empty() {
                    self.listing.remove(&place);
                }
            }
        }
        if let Some(after) = after {
            for identity in after.identities() {
                let sharing = self.listing.entry((key.namespace.clone(), identity.clone())).or_default();
                concerned.extend(sharing.iter().map(|(_, other)| other.clone()));
                sharing.insert((after.age.clone(), key.clone()));
            }
            self.listed.insert(key.clone(), after);
        }
        concerned
    }

    /// Brings a Blueprint's slots in line with what is listed. An entry whose machine an older Blueprint of the namespace
    /// lists too is shown disabled: it is offered by the older one only.
    pub(super) fn list_slots(&mut self, key: &ObjectKey) {
        let (Some(pool), Some(listed)) = (self.blueprints.get(key), self.listed.get(key)) else { return };
        let mut taken = Vec::new();
        let is_older = |identity: &String| {
            let oldest = self.listing.get(&(key.namespace.clone(), identity.clone())).and_then(BTreeSet::first);
            oldest.is_some_and(|(age, _)| *age < listed.age)
        };
        let slots = listed.slots.clone().map(|mut slots| {
            for slot in &mut slots {
                if slot.identity.as_ref().is_some_and(is_older) {
                    (slot.enabled, slot.taken) = (false, true);
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
            if pool.slots != slots || pool.taken != taken {
                pool.slots = slots;
                pool.taken = taken;
                self.dirty.push(Key::Blueprint(key.clone()));
                self.dirty.extend(owned.into_iter().map(Key::Resource));
            }
        }
    }
}
