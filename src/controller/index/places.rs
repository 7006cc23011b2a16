//! Places in the queues, and when they are told: at most every sweep (2 s), and only what is or was at most 10, or has halved
//! or doubled since it was told. So what one release costs does not grow with the number of those who wait.

use super::{Index, Key, ObjectKey, Queued};
use crate::{
    api::MicroTime,
    lifecycle::{conditions, queue::Place},
};
use std::collections::BTreeMap;

/// How often places are counted.
pub const SWEEP: std::time::Duration = std::time::Duration::from_secs(2);

/// Places up to here are told whenever they change.
const NEAR: i64 = 10;

impl Index {
    /// The place of a lease that has just come: the best in any of its queues. Counted once; after that by the sweep.
    pub(super) fn first_place(&mut self, key: &ObjectKey) -> Option<i64> {
        let waiter = self.waiters.get(key)?;
        if waiter.queues.is_empty() {
            // It has left them all, and still waits: it has no place any more.
            return None;
        }
        if waiter.told().is_some() {
            return waiter.told();
        }
        let rank = |queued: &Queued| {
            let pool = self.blueprints.get(&queued.blueprint)?;
            let behind = |class: &BTreeMap<Place, ObjectKey>| class.range(&queued.place..).count();
            let before = pool.queue.values().map(|class| class.len() - behind(class)).sum::<usize>();
            i64::try_from(before + 1).ok()
        };
        let best = waiter.queues.iter().filter_map(rank).min();
        if let Some(waiter) = self.waiters.get_mut(key) {
            waiter.news = best;
        }
        best
    }

    /// Counts the places in the queues that have moved, and has those leases look whose place is to be told now.
    pub fn sweep(&mut self, now: MicroTime) {
        self.dirty.extend(std::mem::take(&mut self.recount).into_iter().map(Key::Blueprint));
        for (blueprint, moving) in std::mem::take(&mut self.moved) {
            self.dirty.push(Key::Blueprint(blueprint.clone()));
            if moving {
                // It is counted again when it has rested.
                self.moved.insert(blueprint.clone(), false);
            }
            for key in self.count_places(&blueprint) {
                let Some(waiter) = self.waiters.get_mut(&key) else { continue };
                let best = waiter.places.values().min().copied();
                let near_or_halved = match (best, waiter.told()) {
                    (Some(best), Some(told)) => {
                        best != told && (best <= NEAR || told <= NEAR || best * 2 <= told || best >= told * 2)
                    }
                    (best, told) => best != told,
                };
                if near_or_halved {
                    waiter.news = best;
                    self.dirty.push(Key::Lease(key));
                } else if !moving && self.reason_has_changed(&key, now) {
                    self.dirty.push(Key::Lease(key));
                }
            }
        }
    }

    /// Whether anything is to be counted at the next sweep.
    pub fn is_moving(&self) -> bool {
        !self.moved.is_empty() || !self.recount.is_empty()
    }

    fn count_places(&mut self, blueprint: &ObjectKey) -> Vec<ObjectKey> {
        let Some(pool) = self.blueprints.get(blueprint) else { return Vec::new() };
        let in_order: BTreeMap<&Place, &ObjectKey> = pool.queue.values().flatten().collect();
        let keys: Vec<ObjectKey> = in_order.into_values().cloned().collect();
        for (n, key) in keys.iter().enumerate() {
            if let (Some(waiter), Ok(n)) = (self.waiters.get_mut(key), i64::try_from(n)) {
                waiter.places.insert(blueprint.clone(), n + 1);
            }
        }
        keys
    }

    fn reason_has_changed(&self, key: &ObjectKey, now: MicroTime) -> bool {
        let Some(lease) = self.leases.get(key) else { return false };
        let Some(status) = &lease.status else { return false };
        let (rung, message) = self.why(lease, now);
        conditions::get(&status.conditions, "Acquired")
            .is_some_and(|c| c.reason != rung.as_str() || c.message != message)
    }
}
