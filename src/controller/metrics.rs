//! What `/metrics` tells, in the OpenMetrics form.

use crate::api::MicroTime;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::sync::{Arc, Mutex};

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
    watch_last_ok: Family<Kind, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
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
        let watch_last_ok = Family::<Kind, Gauge>::default();
        let help = "When a watch was last seen to work";
        registry.register_with_unit("watch_last_ok_timestamp", help, Unit::Seconds, watch_last_ok.clone());
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
    pub fn watch_ok(&self, kind: &str, now: MicroTime) {
        self.watch_last_ok.get_or_create(&Kind { kind: kind.to_owned() }).set(now.timestamp().as_second());
    }

    /// All of it as text. `sizes` are those of the index.
    pub fn text(&self, sizes: &[(&'static str, usize)]) -> String {
        for (kind, size) in sizes {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            self.objects.get_or_create(&Kind { kind: (*kind).to_owned() }).set(size);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &super::lock(&self.registry));
        text
    }
}
