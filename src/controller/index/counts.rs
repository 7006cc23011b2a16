//! What is derived for one Blueprint: its resources counted by what they are, and what its limits leave.

use super::{ObjectKey, Pool};
use crate::{
    api::{Blueprint, MicroTime, Resource},
    lifecycle::{
        deadline, has_finalizer, is_deleting,
        pool::{self, Bucket, SlotState, Trouble},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Pool {
    pub(super) fn new(object: Arc<Blueprint>) -> Self {
        Self {
            object,
            slots: None,
            taken: Vec::new(),
            counts: Default::default(),
            template_hash: String::new(),
            builds_take_time: true,
            pending: BTreeSet::new(),
            idle: BTreeSet::new(),
            held: Default::default(),
            going: BTreeSet::new(),
            stuck: BTreeSet::new(),
            lost: BTreeSet::new(),
            foreign: BTreeSet::new(),
            rooms: BTreeMap::new(),
            held_back: BTreeMap::new(),
            queued: 0,
            shrinking: false,
            free: BTreeSet::new(),
            queue: BTreeMap::new(),
            orders: BTreeMap::new(),
            failures: 0,
            failure: None,
            failed_at: None,
            next_build_at: None,
            failing: Default::default(),
        }
    }

    pub(super) fn may_build(&self, now: MicroTime) -> bool {
        // B1: creates nothing before its own object was read with the finalizer.
        (has_finalizer(&self.object.metadata) || bug!(MakesTooEarly))
            && pool::is_judged(&self.object)
            && pool::grants(&self.object, SlotState::Current)
            && deadline::build_put_off(self.next_build_at, now).is_none()
    }

    /// The limit, where the names of the slots alone do not hold it: the list is longer.
    pub(super) fn counted_limit(&self) -> Option<i64> {
        let listed = i64::try_from(self.slots.as_ref()?.len()).unwrap_or(i64::MAX);
        self.object.spec.limits.max_resources.filter(|limit| *limit < listed)
    }

    /// Counts one more of its resources, or with `-1` one less.
    pub(super) fn count(&mut self, resource: &Resource, by: i64) {
        let key = ObjectKey::of(&resource.metadata);
        let bucket = pool::bucket(resource);
        pool::count(&mut self.counts, bucket, by);
        match pool::trouble(resource) {
            Some(Trouble::Stuck) => keep(&mut self.stuck, key.clone(), by > 0),
            Some(Trouble::Lost) => keep(&mut self.lost, key.clone(), by > 0),
            None => {}
        }
        match bucket {
            Bucket::Pending => keep(&mut self.pending, key, by > 0),
            Bucket::Idle if !is_deleting(&resource.metadata) => {
                keep(&mut self.idle, (pool::idle_since(resource), key), by > 0);
            }
            Bucket::Leased => {}
            Bucket::Idle | Bucket::Released | Bucket::Broken | Bucket::Destroyed => {
                keep(&mut self.going, key, by > 0);
            }
        }
    }

    /// How many leases wait for it.
    pub(super) fn waiting(&self) -> i64 {
        self.queued
    }

    /// How many more resources both limits allow, those counted that are ordered.
    pub(super) fn allowance(&self) -> usize {
        self.places().min(self.builds())
    }

    /// How many more resources `maxResources` allows.
    pub(super) fn places(&self) -> usize {
        let used = usize::try_from(pool::live(&self.counts)).unwrap_or(0) + self.orders.len();
        let limit = self.object.spec.limits.max_resources.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        limit.saturating_sub(used)
    }

    /// How many more builds `maxConcurrentBuilds` allows at once. What is being torn down is no build.
    pub(super) fn builds(&self) -> usize {
        if !self.builds_take_time {
            return usize::MAX;
        }
        let limit = usize::try_from(self.object.spec.limits.max_concurrent_builds).unwrap_or(1);
        limit.saturating_sub(self.pending.len() + self.orders.len())
    }
}

/// Puts into a set, or takes out of it.
fn keep<T: Ord>(set: &mut BTreeSet<T>, value: T, keep: bool) {
    if keep {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}
