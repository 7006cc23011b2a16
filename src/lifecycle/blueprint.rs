//! The blueprint reconciler's decisions: its finalizer, its drain, and what its status tells. (Which slots are built is
//! for the matcher to say, and the names of Resources are the locks.)

#[cfg(test)]
mod tests;

use super::{
    Decision, EventDraft, MetadataChange, Read,
    conditions::{self, Truth},
    deadline, has_finalizer, is_deleting,
};
use crate::api::{BLUEPRINT_LABEL, Blueprint, BlueprintStatus, Duration, MicroTime, blueprint::ResourceCounts};

/// Counts are written at most so often.
pub const COUNTS_EVERY: Duration = Duration::from_secs(5);

/// What a Blueprint's pass sees around it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Its resources, counted.
    pub counts: ResourceCounts,
    /// How many leases wait for it.
    pub waiting: i64,
    /// B2: a quorum list made after the deletion was seen; `None` where none was made.
    pub resources_left: Option<usize>,
    /// What its driver finds wrong with it: the reason, and a sentence.
    pub trouble: Option<(&'static str, String)>,
    /// Its driver does not work with this controller.
    pub unsupported: Option<String>,
    /// Slots whose names are taken by resources that are not its own.
    pub names_taken: Vec<String>,
    /// Slots whose machine an older Blueprint offers.
    pub hosts_taken: Vec<String>,
    /// The namespaces' labels cannot be read, and it selects by them.
    pub namespaces_unreadable: bool,
    /// It must not build before then, for builds have failed.
    pub next_build_at: Option<MicroTime>,
    /// What its builds fail with.
    pub failure: Option<String>,
    /// Flavours that leases ask for fail to build: when the next is tried again, and what is told of it.
    pub failing_flavours: Option<(MicroTime, String)>,
    /// When counts were last written.
    pub counted_at: Option<MicroTime>,
}

/// One pass over a Blueprint.
pub fn decide(blueprint: &Blueprint, around: &Surroundings, now: MicroTime) -> Decision<BlueprintStatus> {
    let on_record = blueprint.status.clone().unwrap_or_default();
    let finalizer = has_finalizer(&blueprint.metadata);
    if is_deleting(&blueprint.metadata) && !finalizer {
        return Decision::nothing(on_record);
    }
    if !finalizer && !bug!(BlueprintWithoutFinalizer) {
        // B1: creates nothing before its own object was read with the finalizer.
        return Decision::metadata(on_record, MetadataChange::AddFinalizer);
    }
    if bug!(DeletesBlueprint) && blueprint.spec.suspend && !is_deleting(&blueprint.metadata) {
        return Decision::metadata(on_record, MetadataChange::Delete);
    }
    let mut decision = Decision::nothing(on_record.clone());
    if is_deleting(&blueprint.metadata) && super::pool::live(&around.counts) == 0 {
        // B2: the cache being empty is no fact; a list from the API server is.
        match around.resources_left {
            None => decision.reads.push(Read::ResourcesOfBlueprint),
            Some(0) => return Decision::metadata(on_record, MetadataChange::RemoveFinalizer),
            Some(_) => decision.wake = Some(now.after(Duration::from_secs(1))),
        }
    }
    let next = &mut decision.status;
    let own = deadline::build_put_off(around.next_build_at, now);
    next.next_build_at = own.or(around.failing_flavours.as_ref().map(|(at, _)| *at));
    let (truth, reason, message) = readiness(blueprint, &on_record, around, own);
    let was = conditions::reason(&on_record.conditions, "Ready");
    if truth == Truth::False && was != reason && !matches!(reason, "Suspended" | "Draining") {
        decision.events.push(EventDraft::warning(reason, message.clone()));
    }
    conditions::set(&mut next.conditions, now, "Ready", truth, reason, message);
    next.observed_generation = blueprint.metadata.generation;
    next.selector = Some(format!("{BLUEPRINT_LABEL}={}", super::uid(&blueprint.metadata)));
    let telling = *next != on_record;
    if (next.resources, next.waiting) != (around.counts, around.waiting) {
        let due = around.counted_at.map_or(now, |at| at.after(COUNTS_EVERY));
        if telling || due <= now {
            next.resources = around.counts;
            next.waiting = around.waiting;
        } else {
            decision.wake = earliest(decision.wake, Some(due));
        }
    }
    decision.wake = earliest(decision.wake, decision.status.next_build_at);
    decision
}

fn readiness(
    blueprint: &Blueprint,
    on_record: &BlueprintStatus,
    around: &Surroundings,
    next_build_at: Option<MicroTime>,
) -> (Truth, &'static str, String) {
    if is_deleting(&blueprint.metadata) {
        let left = super::pool::live(&around.counts);
        let why = if left == 0 { "it is empty" } else { "it is deleted, and drained as its leases end" };
        return (Truth::False, "Draining", why.into());
    }
    if blueprint.spec.suspend {
        return (Truth::False, "Suspended", "spec.suspend is true: nothing is built and nothing granted".into());
    }
    if let Some(why) = &around.unsupported {
        return (Truth::False, "BuildFailing", why.clone());
    }
    if let Some((reason, why)) = &around.trouble {
        return (Truth::False, reason, why.clone());
    }
    if around.namespaces_unreadable {
        let why = "allowedNamespaces.from: Selector needs the right to list and watch namespaces";
        return (Truth::False, "NamespacesNotReadable", why.into());
    }
    if !around.hosts_taken.is_empty() {
        let hosts = around.hosts_taken.join(", ");
        let why = format!("offered by another Blueprint of this namespace at the same address and port: {hosts}");
        return (Truth::False, "HostTaken", super::commands::shorten(why, 1024));
    }
    if !around.names_taken.is_empty() {
        let names = around.names_taken.join(", ");
        let why = format!("the names of these slots are taken by Resources that are not this Blueprint's: {names}");
        return (Truth::False, "NameTaken", super::commands::shorten(why, 1024));
    }
    if let Some(at) = next_build_at {
        let message = match &around.failure {
            // Those who wait repeat it, so when is told by status.nextBuildAt only.
            Some(why) => format!("the last build failed: {why}; the next is tried at status.nextBuildAt"),
            None => "builds fail; the next is tried at status.nextBuildAt".to_owned(),
        };
        // Why may be known no more, after a restart: what was told of this back-off stands.
        let told = conditions::get(&on_record.conditions, "Ready").filter(|c| c.reason == "BuildFailing");
        let told = told.filter(|_| around.failure.is_none() && on_record.next_build_at == Some(at));
        return (Truth::False, "BuildFailing", told.map_or(message, |told| told.message.clone()));
    }
    if let Some(why) = &around.failure {
        return (Truth::False, "BuildFailing", format!("a build fails, and is tried again: {why}"));
    }
    // It serves whoever asks for something else.
    (Truth::True, "Ready", around.failing_flavours.as_ref().map(|(_, told)| told.clone()).unwrap_or_default())
}

fn earliest(a: Option<MicroTime>, b: Option<MicroTime>) -> Option<MicroTime> {
    a.into_iter().chain(b).min()
}
