//! What the metrics show of the index: how pools stand, and what hangs in its teardown.

use super::{Index, ObjectKey};
use crate::{
    api::{Condition, Lease, LeasePhase, Resource, ResourcePhase, blueprint::ResourceCounts},
    controller::metrics::Gauges,
    lifecycle::teardown,
};

/// How one pool stands.
pub struct PoolGauge {
    /// Namespace and name of the Blueprint.
    pub blueprint: String,
    /// Its resources.
    pub resources: ResourceCounts,
    /// How many there may be, where there is a limit.
    pub limit: Option<i64>,
    /// How many leases wait for it.
    pub waiting: i64,
}

impl Index {
    /// What the metrics show, but for the pools.
    pub fn gauges(&self) -> Gauges {
        Gauges { sizes: self.sizes(), failing_teardowns: self.failing_teardowns(), pools: Vec::new() }
    }

    /// The Blueprints that there are.
    pub fn pool_keys(&self) -> Vec<ObjectKey> {
        self.blueprints.keys().cloned().collect()
    }

    /// How these pools stand, as far as they are there.
    pub fn pools(&self, keys: &[ObjectKey]) -> Vec<PoolGauge> {
        let gauge = |(key, pool): (&ObjectKey, &super::Pool)| {
            let listed = pool.slots.as_ref().and_then(|slots| i64::try_from(slots.len()).ok());
            let limit = pool.object.spec.limits.max_resources;
            PoolGauge {
                blueprint: format!("{key}"),
                resources: pool.counts,
                limit: limit.into_iter().chain(listed).min(),
                waiting: pool.waiting(),
            }
        };
        keys.iter().filter_map(|key| self.blueprints.get_key_value(key)).map(gauge).collect()
    }

    /// How many teardowns of each kind have failed, and are not done.
    fn failing_teardowns(&self) -> [(&'static str, usize); 2] {
        [("leases", self.failing.leases), ("resources", self.failing.resources)]
    }
}

/// Teardowns that have failed and are not done, counted as objects come and go: a scrape must not go through all of them.
#[derive(Default)]
pub(super) struct Failing {
    leases: usize,
    resources: usize,
}

fn is_failing(conditions: Option<&Vec<Condition>>) -> bool {
    conditions.is_some_and(|all| teardown::is_failing(all))
}

impl Failing {
    /// This version of a lease is in the index now.
    pub(super) fn add_lease(&mut self, lease: &Lease) {
        self.leases += usize::from(is_lease_failing(lease));
    }

    /// This version of a lease is not in the index any more.
    pub(super) fn take_lease(&mut self, lease: &Lease) {
        self.leases = self.leases.saturating_sub(usize::from(is_lease_failing(lease)));
    }

    /// This version of a resource is in the index now.
    pub(super) fn add_resource(&mut self, resource: &Resource) {
        self.resources += usize::from(is_resource_failing(resource));
    }

    /// This version of a resource is not in the index any more.
    pub(super) fn take_resource(&mut self, resource: &Resource) {
        self.resources = self.resources.saturating_sub(usize::from(is_resource_failing(resource)));
    }
}

fn is_lease_failing(lease: &Lease) -> bool {
    lease.phase() != LeasePhase::Destroyed && is_failing(lease.status.as_ref().map(|status| &status.conditions))
}

fn is_resource_failing(resource: &Resource) -> bool {
    resource.phase() != ResourcePhase::Destroyed
        && is_failing(resource.status.as_ref().map(|status| &status.conditions))
}
