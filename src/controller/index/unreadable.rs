//! Objects that are there and cannot be read: they count as existing, and nothing is decided from what they may hold.

use super::{Index, Key, ObjectKey};
use crate::{
    api::{Blueprint, BlueprintSpec, MicroTime, Unreadable},
    lifecycle::uid,
};
use kube::api::ObjectMeta;
use std::sync::Arc;

impl Index {
    /// A version of an object was seen that cannot be read. What was read of it before stays. Returns the object where this
    /// version is new.
    pub fn see_unreadable(&mut self, key: Key, object: Box<Unreadable>, now: MicroTime) -> Option<Arc<Unreadable>> {
        let before = self.unreadable.get(&key).map(|known| &known.metadata);
        if self.is_old(before, &object.metadata) || self.is_old(self.metadata_of(&key), &object.metadata) {
            return None;
        }
        let object = Arc::new(*object);
        self.unreadable.insert(key.clone(), object.clone());
        match &key {
            // Its pass would not take up a grant.
            Key::Lease(lease) => self.requeue(lease, now),
            Key::Resource(resource) => self.offer(resource, now),
            Key::Blueprint(blueprint) => self.freeze(blueprint, &object.metadata, now),
        }
        self.dirty.push(key);
        Some(object)
    }

    /// A Blueprint that cannot be read builds and grants nothing, and its resources see that it is being deleted.
    fn freeze(&mut self, blueprint: &ObjectKey, meta: &ObjectMeta, now: MicroTime) {
        let known = self.blueprints.get(blueprint).map(|pool| pool.object.clone());
        match known.filter(|known| uid(&known.metadata) == uid(meta)) {
            Some(known) => {
                let spec = BlueprintSpec { suspend: true, ..known.spec.clone() };
                self.take_blueprint(Blueprint { metadata: meta.clone(), spec, status: known.status.clone() }, now);
            }
            None => self.dirty.extend(self.owned.get(uid(meta)).into_iter().flatten().cloned().map(Key::Resource)),
        }
    }

    /// Whether the newest version of an object cannot be read.
    pub(super) fn is_unreadable(&self, key: &Key) -> bool {
        self.unreadable.contains_key(key)
    }

    /// The object of this key, where its newest version cannot be read.
    pub fn unreadable(&self, key: &Key) -> Option<Arc<Unreadable>> {
        self.unreadable.get(key).cloned()
    }

    /// A newer version can be read, or the object is gone.
    pub(super) fn no_longer_unreadable(&mut self, key: &Key) {
        self.unreadable.remove(key);
    }

    /// The objects of the kind of `like` that cannot be read, with their UIDs.
    pub(super) fn known_unreadable(&self, like: fn(ObjectKey) -> Key) -> impl Iterator<Item = (ObjectKey, String)> {
        let of_kind = move |key: &&Key| like(key.object().clone()) == **key;
        let with_uid = |key: &Key| Some((key.object().clone(), uid(&self.unreadable.get(key)?.metadata).to_owned()));
        self.unreadable.keys().filter(of_kind).filter_map(with_uid)
    }

    fn metadata_of(&self, key: &Key) -> Option<&ObjectMeta> {
        match key {
            Key::Lease(key) => self.leases.get(key).map(|lease| &lease.metadata),
            Key::Resource(key) => self.resources.get(key).map(|resource| &resource.metadata),
            Key::Blueprint(key) => self.blueprints.get(key).map(|pool| &pool.object.metadata),
        }
    }
}
