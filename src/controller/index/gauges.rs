//! What the metrics show of the index: how pools stand, and what hangs in its teardown.

use super::Index;
use crate::{
    api::{Condition, LeasePhase, ResourcePhase, blueprint::ResourceCounts},
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
    /// What the metrics show.
    pub fn gauges(&self) -> Gauges {
        Gauges { sizes: self.sizes(), failing_teardowns: self.failing_teardowns(), pools: self.pools() }
    }

    /// How each pool stands.
    fn pools(&self) -> Vec<PoolGauge> {
        let gauge = |(key, pool): (_, &super::Pool)| {
            let listed = pool.slots.as_ref().and_then(|slots| i64::try_from(slots.len()).ok());
            let limit = pool.object.spec.limits.max_resources;
            PoolGauge {
                blueprint: format!("{key}"),
                resources: pool.counts,
                limit: limit.into_iter().chain(listed).min(),
                waiting: pool.waiting(),
            }
        };
        self.blueprints.iter().map(gauge).collect()
    }

    /// How many teardowns of each kind have failed, and are not done.
    fn failing_teardowns(&self) -> [(&'static str, usize); 2] {
        let failing = |conditions: Option<&Vec<Condition>>| conditions.is_some_and(|all| teardown::is_failing(all));
        let leases = self.leases.values().filter(|lease| {
            lease.phase() != LeasePhase::Destroyed && failing(lease.status.as_ref().map(|status| &status.conditions))
        });
        let resources = self.resources.values().filter(|resource| {
            let conditions = resource.status.as_ref().map(|status| &status.conditions);
            resource.phase() != ResourcePhase::Destroyed && failing(conditions)
        });
        [("leases", leases.count()), ("resources", resources.count())]
    }
}
