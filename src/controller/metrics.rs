//! What `/metrics` tells, in the OpenMetrics form.

use super::index::PoolGauge;
use crate::api::MicroTime;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// See the module.
pub struct Metrics {
    registry: Mutex<Registry>,
    writes: Family<Write, Counter>,
    conflicts: Family<Kind, Counter>,
    passes: Family<Kind, Counter>,
    pass_errors: Family<PassError, Counter>,
    events_dropped: Counter,
    malformed: Family<Kind, Counter>,
    lateness: Histogram,
    objects: Family<Kind, Gauge>,
    watch_last_ok: Family<Watch, Gauge>,
    failing_teardowns: Family<Kind, Gauge>,
    grants: Family<Pool, Counter>,
    pool_waiting: Family<Pool, Gauge>,
    pool_limit: Family<Pool, Gauge>,
    pool_resources: Family<PoolState, Gauge>,
    /// The pools of the last scrape.
    shown: Mutex<BTreeSet<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watch {
    kind: String,
    scope: String,
}

/// One label for namespace and name: a label `namespace` would be taken for that of the controller's Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    blueprint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolState {
    blueprint: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: String,
    verb: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassError {
    kind: String,
    reason: String,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("drydock");
        let writes = Family::default();
        registry.register("writes", "Requests that change objects of drydock.dev", writes.clone());
        let conflicts = Family::default();
        registry.register("status_conflicts", "Status writes that met a newer object", conflicts.clone());
        let passes = Family::default();
        registry.register("passes", "Passes of reconcilers", passes.clone());
        let pass_errors = Family::default();
        registry.register("pass_errors", "Passes that failed and are tried again", pass_errors.clone());
        let events_dropped = Counter::default();
        registry.register("events_dropped", "Events that were not published", events_dropped.clone());
        let malformed = Family::default();
        registry.register("malformed_objects", "Objects that could not be read", malformed.clone());
        let lateness = Histogram::new([0.001, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 60.0]);
        let help = "How late deadlines are looked at";
        registry.register_with_unit("deadline_lateness", help, Unit::Seconds, lateness.clone());
        let objects = Family::default();
        registry.register("objects", "Objects in the index", objects.clone());
        let watch_last_ok = Family::<Watch, Gauge>::default();
        let help = "When a watch was last seen to work";
        registry.register_with_unit("watch_last_ok_timestamp", help, Unit::Seconds, watch_last_ok.clone());
        let failing_teardowns = Family::default();
        registry.register(
            "teardowns_failing",
            "Teardowns that have failed, and are tried again",
            failing_teardowns.clone(),
        );
        let grants = Family::default();
        registry.register("grants", "Grants of a pool's resources to leases", grants.clone());
        let pool_waiting = Family::default();
        registry.register("pool_waiting", "Leases that wait for a pool", pool_waiting.clone());
        let pool_limit = Family::default();
        registry.register("pool_limit", "How many resources a pool may have", pool_limit.clone());
        let pool_resources = Family::default();
        registry.register("pool_resources", "Resources of a pool, by what they are doing", pool_resources.clone());
        Arc::new(Self {
            registry: Mutex::new(registry),
            writes,
            conflicts,
            passes,
            pass_errors,
            events_dropped,
            malformed,
            lateness,
            objects,
            watch_last_ok,
            failing_teardowns,
            grants,
            pool_waiting,
            pool_limit,
            pool_resources,
            shown: Mutex::default(),
        })
    }

    /// A request was answered.
    pub fn wrote(&self, kind: &str, verb: &'static str, outcome: &'static str) {
        self.writes.get_or_create(&Write { kind: kind.to_owned(), verb, outcome }).inc();
        if verb == "status" && outcome == "Conflict" {
            self.conflicts.get_or_create(&Kind { kind: kind.to_owned() }).inc();
        }
    }

    /// A pass begins.
    pub fn passes(&self, kind: &str) {
        self.passes.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// A pass has failed.
    pub fn pass_failed(&self, kind: &str, reason: &str) {
        self.pass_errors.get_or_create(&PassError { kind: kind.to_owned(), reason: reason.to_owned() }).inc();
    }

    /// An Event was not published.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// An object could not be read.
    pub fn malformed(&self, kind: &str) {
        self.malformed.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// A deadline is looked at, so late.
    pub fn late(&self, by: std::time::Duration) {
        self.lateness.observe(by.as_secs_f64());
    }

    /// A watch was seen to work.
    pub fn watch_ok(&self, kind: &str, scope: &str, now: MicroTime) {
        let watch = Watch { kind: kind.to_owned(), scope: scope.to_owned() };
        self.watch_last_ok.get_or_create(&watch).set(now.timestamp().as_second());
    }

    /// A resource of this Blueprint was granted to so many leases more.
    pub fn granted(&self, blueprint: String, leases: usize) {
        self.grants.get_or_create(&Pool { blueprint }).inc_by(u64::try_from(leases).unwrap_or(u64::MAX));
    }

    /// All of it as text, with what the index shows.
    pub fn text(&self, index: &Gauges) -> String {
        for (family, counts) in [(&self.objects, &index.sizes[..]), (&self.failing_teardowns, &index.failing_teardowns)]
        {
            for (kind, count) in counts {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                family.get_or_create(&Kind { kind: (*kind).to_owned() }).set(count);
            }
        }
        self.show_pools(&index.pools);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &super::lock(&self.registry));
        text
    }
    /// A pool that is gone is shown no more.
    fn show_pools(&self, pools: &[PoolGauge]) {
        {
            let there: BTreeSet<&str> = pools.iter().map(|pool| pool.blueprint.as_str()).collect();
            let mut shown = super::lock(&self.shown);
            for gone in shown.iter().filter(|shown| !there.contains(shown.as_str())) {
                self.grants.remove(&Pool { blueprint: gone.clone() });
            }
            *shown = there.into_iter().map(str::to_owned).collect();
        }
        self.pool_waiting.clear();
        self.pool_limit.clear();
        self.pool_resources.clear();
        for PoolGauge { blueprint, resources, limit, waiting } in pools {
            let pool = Pool { blueprint: blueprint.clone() };
            // That of a pool which has granted nothing yet is zero, and not absent.
            drop(self.grants.get_or_create(&pool));
            self.pool_waiting.get_or_create(&pool).set(*waiting);
            if let Some(limit) = limit {
                self.pool_limit.get_or_create(&pool).set(*limit);
            }
            for (state, count) in [
                ("pending", resources.pending),
                ("idle", resources.idle),
                ("leased", resources.leased),
                ("released", resources.released),
                ("broken", resources.broken),
            ] {
                self.pool_resources.get_or_create(&PoolState { blueprint: blueprint.clone(), state }).set(count);
            }
        }
    }
}

/// What the index shows at one moment.
pub struct Gauges {
    /// How many objects of each kind there are.
    pub sizes: [(&'static str, usize); 4],
    /// How many teardowns of each kind have failed, and are not done.
    pub failing_teardowns: [(&'static str, usize); 2],
    /// How each pool stands.
    pub pools: Vec<PoolGauge>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path, time::Duration};

    /// Everything has happened once.
    fn text() -> String {
        let metrics = Metrics::new();
        let now = MicroTime::from(jiff::Timestamp::UNIX_EPOCH);
        metrics.wrote("Lease", "status", "Conflict");
        metrics.passes("Lease");
        metrics.pass_failed("Lease", "Conflict");
        metrics.event_dropped();
        metrics.malformed("leases");
        metrics.late(Duration::from_secs(1));
        metrics.watch_ok("leases", "all namespaces", now);
        metrics.granted("ci/hosts".into(), 1);
        let pool =
            |name: &str, limit| PoolGauge { blueprint: name.into(), resources: Default::default(), limit, waiting: 2 };
        let gauges =
            |pools| Gauges { sizes: Default::default(), failing_teardowns: [("leases", 1), ("resources", 0)], pools };
        let first = metrics.text(&gauges(vec![pool("ci/hosts", Some(3)), pool("ci/gone", None)]));
        assert!(first.contains("drydock_grants_total{blueprint=\"ci/gone\"} 0"), "{first}");
        let text = metrics.text(&gauges(vec![pool("ci/hosts", Some(3))]));
        assert!(!text.contains("ci/gone"), "{text}");
        assert!(text.contains("drydock_pool_waiting{blueprint=\"ci/hosts\"} 2"), "{text}");
        text
    }

    /// The words that are names of metrics.
    fn names(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("drydock_")).collect()
    }

    #[test]
    fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
        let text = text();
        let there: BTreeSet<&str> = text.lines().filter(|line| !line.starts_with('#')).flat_map(names).collect();
        for file in ["templates/monitoring/rules.yaml", "files/dashboard.json"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/drydock").join(file);
            let asked = fs::read_to_string(path).unwrap();
            assert!(names(&asked).len() >= 6, "{file}");
            let missing: Vec<_> = names(&asked).into_iter().filter(|name| !there.contains(name)).collect();
            assert_eq!(missing, [""; 0], "{file} asks for what is not in\n{text}");
        }
    }
}
