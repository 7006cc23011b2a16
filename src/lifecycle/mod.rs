//! Pure decisions: an object, its surroundings and the time go in, a decision comes out. No I/O, no clock, no async, no
//! lock; so it can be tested as a table, checked by a model and run on a virtual clock. Knows `api` only.
//!
//! One pass of a reconciler reads one version of an object, takes the steps of api.md section 2 in their order on a copy
//! of its status, and ends in at most one status write.

pub mod asking;
pub mod blueprint;
pub mod commands;
pub mod conditions;
pub mod deadline;
mod health;
pub mod lease;
pub mod matching;
pub mod pool;
pub mod queue;
pub mod resource;
pub mod teardown;
#[cfg(test)]
mod testing;

use crate::api::{
    Condition, Failure, MicroTime,
    step::{HookCall, Report, Step},
};
use kube::api::ObjectMeta;
use std::time::Duration;

/// What a pass comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<S> {
    /// The whole next status. It is written where it differs from the one on record.
    pub status: S,
    /// What to do with the object's metadata, once the status stands.
    pub metadata: Option<MetadataChange>,
    /// The driver's step that is wanted. One with outside effects begins only once `status` is on record.
    pub step: Option<StepOrder>,
    /// What must be read from the API server itself before the pass can go on.
    pub reads: Vec<Read>,
    /// When to look again, though nothing has changed.
    pub wake: Option<MicroTime>,
    /// What to tell as Events, once the status stands.
    pub events: Vec<EventDraft>,
    /// How soon the write is wanted.
    pub urgency: Urgency,
}

impl<S> Decision<S> {
    fn nothing(status: S) -> Self {
        Self {
            status,
            metadata: None,
            step: None,
            reads: Vec::new(),
            wake: None,
            events: Vec::new(),
            urgency: Urgency::Later,
        }
    }

    fn metadata(status: S, change: MetadataChange) -> Self {
        Self { metadata: Some(change), ..Self::nothing(status) }
    }
}

/// What a reconciler does with its own object's metadata. Each carries the UID and resourceVersion that were read
/// (protocol.md, G2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataChange {
    /// L1: nothing is done outside before the object was read with it.
    AddFinalizer,
    /// L9, R8, B2: all is torn down.
    RemoveFinalizer,
    /// The queue is nearly full: what the ledger shows consumed goes (api.md, 2).
    Prune,
    /// The object has served its time.
    Delete,
}

/// A driver's step that is wanted, and how long one attempt may take.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOrder {
    /// The step.
    pub step: Step,
    /// An attempt that takes longer is cancelled, and has failed.
    pub timeout: Duration,
}

/// What a pass must be told before it can go on: reads that must not come from a cache (protocol.md: quorum reads), and
/// questions to driver and Blueprint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// L5, L7: is the resource that the lease is bound to still there, and claims it?
    BoundResource,
    /// R1: is the resource's blueprint still there, and not deleting?
    Blueprint,
    /// R2: which leases that are not destroyed refer to the slot's name under another UID?
    LeasesOnSlot,
    /// R4c: is the lease of this claim still there?
    ClaimedLease {
        /// The lease's UID.
        uid: String,
    },
    /// What driver and Blueprint say to a deadline that has come: is it to be kept?
    Expiry,
    /// What the driver wants moved as a lease comes or goes.
    Hook {
        /// What it is told.
        call: HookCall,
        /// So many of the answers that this pass has had stand before it; whatever came after them rests on what is not so
        /// any more.
        after: usize,
    },
    /// B2, and where a limit is held by counting: which resources have the blueprint's UID?
    ResourcesOfBlueprint,
}

/// The classes of writes, most urgent first (design.md, 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Expiry, release and hand-over.
    Now,
    /// Grants and bindings.
    Soon,
    /// All the rest.
    #[default]
    Later,
}

/// An Event to publish about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Whether somebody should look.
    pub kind: EventKind,
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Whether an Event wants somebody's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It is as it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventDraft {
    fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self { kind: EventKind::Normal, reason: reason.into(), message: message.into() }
    }

    /// Something that is wrong.
    pub fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self { kind: EventKind::Warning, reason: reason.into(), message: message.into() }
    }
}

/// What has happened, with what the step of it has failed with or has waited for last.
fn with_cause(what: &str, failure: Option<&Failure>, conditions: &[Condition]) -> String {
    let waits_for =
        conditions::get(conditions, "Ready").filter(|c| matches!(c.reason.as_str(), "Building" | "Activating"));
    let cause = failure.map(|f| f.message.as_str()).or(waits_for.map(|c| c.message.as_str()));
    match cause.filter(|cause| !cause.is_empty()) {
        Some(cause) => commands::shorten(format!("{what}: {cause}"), 900),
        None => what.to_owned(),
    }
}

/// The Events of what the API server has warned of while a step created objects.
fn step_warnings(warnings: &[String]) -> impl Iterator<Item = EventDraft> {
    warnings.iter().map(|warning| EventDraft::warning("TemplateWarning", warning.as_str()))
}

/// Whether the object has our finalizer.
pub fn has_finalizer(meta: &ObjectMeta) -> bool {
    meta.finalizers.as_ref().is_some_and(|f| f.iter().any(|name| name == crate::api::FINALIZER))
}

/// Whether the object's deletion has been asked for.
pub fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// Since when the object exists, at the latest: creation times have whole seconds, rounded down, and a clock that ran
/// from them would be up to a second early.
pub fn created_by(meta: &ObjectMeta, now: MicroTime) -> MicroTime {
    meta.creation_timestamp
        .as_ref()
        .map_or(now, |t| MicroTime::from(t.0).after(crate::api::Duration::from_secs(1)).min(now))
}

/// The UID of an object; the API server gives one to each.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

fn report_of<'a>(reports: &'a [Report], step: &Step) -> Option<&'a Report> {
    reports.iter().rev().find(|report| report.step == *step)
}
