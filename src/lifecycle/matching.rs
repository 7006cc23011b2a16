//! Who may be served by what: *fits*, candidates, admission, and the reason why a lease waits (api.md, 5). The ladder, the
//! reasons and reclaim all use these.

#[cfg(test)]
mod tests;

use crate::api::{
    Blueprint, Lease, LeaseSpec, MicroTime, Resource, ResourcePhase,
    blueprint::{From, ResourcePolicy},
    resource::ResourceSpec,
    step::Slot,
};
use std::collections::BTreeMap;

/// The namespaces whose Blueprints serve leases that name none.
#[derive(Clone, Debug, Default)]
pub struct SharedNamespaces {
    all: bool,
    names: Vec<String>,
}

impl SharedNamespaces {
    /// As on the command line: names, or `*` for all.
    pub fn new(names: &[String]) -> Self {
        Self { all: names.iter().any(|n| n == "*"), names: names.to_vec() }
    }

    fn contains(&self, namespace: &str) -> bool {
        self.all || self.names.iter().any(|n| n == namespace)
    }
}

/// Whether the lease's side agrees: it names the Blueprint; or it names none, and the Blueprint is of its own namespace or
/// of one that the operator shares.
pub fn is_candidate(lease: &Lease, blueprint: &Blueprint, shared: &SharedNamespaces) -> bool {
    if lease.spec.resource_type != blueprint.spec.resource_type {
        return false;
    }
    let namespace = namespace_of(&lease.metadata.namespace);
    let theirs = namespace_of(&blueprint.metadata.namespace);
    if lease.spec.blueprints.is_empty() {
        return namespace == theirs || shared.contains(theirs);
    }
    let name = blueprint.metadata.name.as_deref().unwrap_or_default();
    lease.spec.blueprints.iter().any(|b| b.name == name && b.namespace.as_deref().unwrap_or(namespace) == theirs)
}

/// Where a Blueprint stands in the order in which a lease tries its candidates: as `spec.blueprints` lists them, else
/// oldest first.
pub fn preference<'a>(lease: &Lease, blueprint: &'a Blueprint) -> (usize, i64, &'a str, &'a str) {
    let namespace = namespace_of(&lease.metadata.namespace);
    let theirs = namespace_of(&blueprint.metadata.namespace);
    let name = blueprint.metadata.name.as_deref().unwrap_or_default();
    let named = lease
        .spec
        .blueprints
        .iter()
        .position(|b| b.name == name && b.namespace.as_deref().unwrap_or(namespace) == theirs)
        .unwrap_or(0);
    let created = blueprint.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |t| t.0.as_second());
    (named, created, theirs, name)
}

/// What a Blueprint says to leases of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They are served.
    Admitted,
    /// They are not.
    NotAdmitted,
    /// It selects namespaces by their labels, and these cannot be read.
    Unreadable,
}

/// Whether the Blueprint's side agrees. `labels` are those of the lease's namespace, where they can be read.
pub fn admission(blueprint: &Blueprint, lease_namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Admission {
    let admitted = match blueprint.spec.allowed_namespaces.from {
        From::Same | From::Unknown(_) => blueprint.metadata.namespace.as_deref() == Some(lease_namespace),
        From::All => true,
        From::Selector => {
            let Some(labels) = labels else { return Admission::Unreadable };
            blueprint.spec.allowed_namespaces.selector.as_ref().is_some_and(|s| s.matches(labels))
        }
    };
    if admitted { Admission::Admitted } else { Admission::NotAdmitted }
}

/// *Fits*, as far as the lease and the resource alone can say: same type, the selector matches, the same flavour, not
/// over, not past its Age. (Candidacy, admission and room are for the caller.)
pub fn fits(lease: &LeaseSpec, resource: &Resource, policy: &ResourcePolicy, now: MicroTime) -> bool {
    let status = resource.status.as_ref();
    matches!(resource.phase(), ResourcePhase::Pending | ResourcePhase::Active)
        && status.and_then(|s| s.expires_at).is_none_or(|at| at > now)
        && fits_spec(lease, &resource.spec, policy)
}

fn fits_spec(lease: &LeaseSpec, resource: &ResourceSpec, policy: &ResourcePolicy) -> bool {
    lease.resource_type == resource.resource_type
        && lease.selector.as_ref().is_none_or(|s| s.matches(&resource.attributes))
        && policy.parameters.iter().all(|name| flavour(lease, policy, name) == resource.parameters.get(name))
}

/// Whether a resource that is built in this slot for this lease would fit it.
pub fn fits_slot(lease: &LeaseSpec, slot: &Slot) -> bool {
    slot.enabled && selects(lease, slot)
}

/// The parameters that a resource for this lease is built with.
pub fn flavours(lease: &LeaseSpec, policy: &ResourcePolicy) -> BTreeMap<String, String> {
    let flavour = |name: &String| flavour(lease, policy, name).map(|value| (name.clone(), value.clone()));
    policy.parameters.iter().filter_map(flavour).collect()
}

/// The parameters that a resource for nobody is built with.
pub fn default_flavour(policy: &ResourcePolicy) -> BTreeMap<String, String> {
    flavours(&LeaseSpec::default(), policy)
}

fn flavour<'a>(lease: &'a LeaseSpec, policy: &'a ResourcePolicy, name: &str) -> Option<&'a String> {
    lease.parameters.get(name).or_else(|| policy.defaults.get(name))
}

/// How near a Blueprint is to serving a waiting lease; the order is that of the reasons of `Acquired=False` (api.md, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Nothing of this type, or nothing that the selector matches.
    NoMatchingBlueprint,
    /// It does not admit the lease's namespace.
    NotAuthorized,
    /// It is suspended.
    Suspended,
    /// It is being deleted.
    Draining,
    /// Those of its hosts that fit are disabled, or an older Blueprint's.
    NoHostEnabled,
    /// The lease's namespace holds, or is about to hold, as many as it may.
    NamespaceLimit,
    /// All that fits is taken.
    AtCapacity,
    /// Its builds fail; the next is tried later.
    BuildFailing,
    /// A resource that is of no use to those who wait makes room.
    Reclaiming,
    /// One is being built.
    Building,
}

impl Rung {
    /// The reason in conditions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoMatchingBlueprint => "NoMatchingBlueprint",
            Self::NotAuthorized => "NotAuthorized",
            Self::Suspended => "Suspended",
            Self::Draining => "Draining",
            Self::NoHostEnabled => "NoHostEnabled",
            Self::NamespaceLimit => "NamespaceLimit",
            Self::AtCapacity => "AtCapacity",
            Self::BuildFailing => "BuildFailing",
            Self::Reclaiming => "Reclaiming",
            Self::Building => "Building",
        }
    }
}

/// The resource, by name, that makes room for a waiting lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaiming<'a> {
    /// It may be reclaimed, and not yet. When is not told: a message with an instant in it changes with each plan.
    Later(&'a str),
    /// It is being reclaimed.
    Now(&'a str),
}

/// What is being built that will be the lease's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming<'a> {
    /// Nothing.
    Nothing,
    /// One is ordered for it; or one is on its way that was for others, or for nobody.
    Planned,
    /// A Resource is being built for it; with what fails in that, and is tried again.
    Own(Option<&'a str>),
}

/// Why nothing is to be had of a Blueprint that serves such leases: what is told where no nearer reason is. Nothing in it
/// changes as the queue moves: or each release would be told to all who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage<'a> {
    /// All that fits is in use.
    InUse,
    /// All that fits is in use, or on its way from one use to the next, which takes its time.
    Taken,
    /// There is room, but this many are being built at once already.
    BuiltAtOnce(i64),
    /// There is room, but another Blueprint builds for the lease.
    BuiltElsewhere,
    /// There is room, and it is about to be given.
    Free,
    /// `limits.maxResources` is 0.
    NoneAllowed,
    /// There are as many as `limits.maxResources` allows, and more slots than that.
    AtLimit(i64),
    /// The teardown of this one fails, and nothing else is free.
    Stuck(&'a str),
    /// This one, or what a lease has had on it, is being torn down, and that waits for this.
    TearingDown(&'a str, Option<&'a str>),
    /// Something of this one, which nobody holds, is lost, and nothing else is free.
    Lost(&'a str),
    /// This name is that of a Resource of another Blueprint, and nothing else is free.
    NameTaken(&'a str),
    /// This one is to make room for a lease ahead in the queue that it does not fit, and nothing else is free.
    MakesWay(&'a str),
}

impl Shortage<'_> {
    fn clause(self) -> String {
        let rest = "and whatever else fits is in use";
        match self {
            Self::InUse => "has all that fits in use".into(),
            Self::Taken => "has all that fits in use, being built for others, or being torn down".into(),
            Self::BuiltAtOnce(1) => "is building for another, and one at a time (limits.maxConcurrentBuilds)".into(),
            Self::BuiltAtOnce(n) => format!("is building for others, {n} at once (limits.maxConcurrentBuilds)"),
            Self::BuiltElsewhere => "has room, and is not asked, for another Blueprint is building one".into(),
            Self::Free => "has room, and is about to be asked".into(),
            Self::NoneAllowed => "may have no Resources (limits.maxResources is 0)".into(),
            Self::AtLimit(n) => format!("has as many Resources as it may, {n} (limits.maxResources)"),
            Self::Stuck(name) => format!("cannot reuse {name}, whose teardown fails, {rest}"),
            Self::TearingDown(name, waits_for) => {
                let waits_for = waits_for.map(|text| format!(": {}", super::commands::shorten(text.into(), 600)));
                format!("waits for a teardown on {name}, {rest}{}", waits_for.unwrap_or_default())
            }
            Self::Lost(name) => format!("cannot give {name}, of which something is lost, {rest}"),
            Self::MakesWay(name) => format!("keeps {name} back for a lease ahead that needs its room, {rest}"),
            Self::NameTaken(name) => {
                format!("cannot build {name}, for a Resource of another Blueprint has that name, {rest}")
            }
        }
    }
}

/// A candidate Blueprint as a waiting lease sees it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The Blueprint.
    pub blueprint: &'a Blueprint,
    /// What it says to the lease's namespace.
    pub admission: Admission,
    /// Its slots, where its driver lists them.
    pub slots: Option<&'a [Slot]>,
    /// Where its driver lists none: the selector matches nothing that it builds, nor anything that it has.
    pub unmatched: bool,
    /// Its driver, where this controller does not have that.
    pub unsupported: Option<&'a str>,
    /// What is being built that will be the lease's.
    pub coming: Coming<'a>,
    /// The lease's namespace has as many leases of it as this, and may not have more.
    pub namespace_limit: Option<i64>,
    /// What makes room for it.
    pub reclaiming: Option<Reclaiming<'a>>,
    /// It must not build before then.
    pub next_build_at: Option<MicroTime>,
    /// What builds with the lease's parameters fail with, while they are put off.
    pub failing_flavour: Option<&'a str>,
    /// Why nothing is to be had, where none of these says why.
    pub shortage: Shortage<'a>,
}

/// Why this candidate does not serve the lease yet, in a sentence a person understands. Of a Blueprint that does not admit
/// the lease only its namespace and name are told.
pub fn standing(lease: &LeaseSpec, candidate: &Candidate<'_>) -> (Rung, String) {
    let blueprint = candidate.blueprint;
    let name = format!(
        "{}/{}",
        namespace_of(&blueprint.metadata.namespace),
        blueprint.metadata.name.as_deref().unwrap_or_default()
    );
    // Why, where its namespace cannot be read, is for the Blueprint's owner to know.
    if candidate.admission != Admission::Admitted {
        return (Rung::NotAuthorized, format!("Blueprint {name} does not admit this namespace"));
    }
    // Before what is wrong with it for now: what can never serve the lease is not worth waiting for.
    if let Some(why) = no_match(lease, candidate) {
        return (Rung::NoMatchingBlueprint, format!("Blueprint {name} has {why}"));
    }
    if super::is_deleting(&blueprint.metadata) {
        return (Rung::Draining, format!("Blueprint {name} is being deleted"));
    }
    if blueprint.spec.suspend {
        return (Rung::Suspended, format!("Blueprint {name} is suspended"));
    }
    if let Some(why) = candidate.slots.and_then(|slots| none_offered(lease, slots)) {
        return (Rung::NoHostEnabled, format!("Blueprint {name} has every host that fits {why}"));
    }
    if let Some(driver) = candidate.unsupported {
        let why = format!("cannot be built from: this controller has no driver {driver}");
        return (Rung::BuildFailing, format!("Blueprint {name} {why}"));
    }
    if let Some(why) = super::pool::unsound(blueprint) {
        return (Rung::BuildFailing, format!("Blueprint {name} cannot be built from as it is: {why}"));
    }
    if let Some(limit) = candidate.namespace_limit {
        let why = format!("serves at most {limit} leases of one namespace at once (limits.maxLeasesPerNamespace)");
        return (Rung::NamespaceLimit, format!("Blueprint {name} {why}"));
    }
    if candidate.coming == Coming::Own(None) {
        // Whatever others have failed at, its own goes well.
        return (Rung::Building, format!("Blueprint {name} is building one"));
    }
    if candidate.next_build_at.is_some() {
        // Why is on its own record, where every controller reads the same.
        let recorded = blueprint.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let clause = match super::conditions::get(recorded, "Ready").filter(|c| c.reason == "BuildFailing") {
            Some(told) => format!("Blueprint {name} fails to build: {}", told.message),
            None => format!("Blueprint {name} fails to build, and is tried again"),
        };
        return (Rung::BuildFailing, clause);
    }
    if let Some(why) = candidate.failing_flavour {
        let clause = format!("fails to build with this Lease's parameters, and tries again from time to time: {why}");
        return (Rung::BuildFailing, format!("Blueprint {name} {clause}"));
    }
    match candidate.coming {
        Coming::Own(Some(why)) => {
            return (Rung::BuildFailing, format!("Blueprint {name} is building one, which fails so far: {why}"));
        }
        Coming::Own(None) | Coming::Planned => return (Rung::Building, format!("Blueprint {name} is building one")),
        Coming::Nothing => {}
    }
    if let Some(reclaiming) = candidate.reclaiming {
        let clause = match reclaiming {
            Reclaiming::Later(resource) => {
                let when = "when it has been idle for resource.reclaimAfter";
                format!("reclaims {resource}, which fits nobody who waits, {when}")
            }
            Reclaiming::Now(resource) => format!("is reclaiming {resource} to make room"),
        };
        return (Rung::Reclaiming, format!("Blueprint {name} {clause}"));
    }
    (Rung::AtCapacity, format!("Blueprint {name} {}", candidate.shortage.clause()))
}

/// What a Blueprint has none of, where nothing of it could ever serve the lease.
fn no_match(lease: &LeaseSpec, candidate: &Candidate<'_>) -> Option<&'static str> {
    match candidate.slots {
        Some([]) => Some("no hosts"),
        Some(slots) if !slots.iter().any(|slot| selects(lease, slot)) => Some("no host that the selector matches"),
        None if candidate.unmatched => Some("nothing that the selector matches"),
        Some(_) | None => None,
    }
}

/// Why none of the hosts that fit is offered, where that is so.
fn none_offered(lease: &LeaseSpec, slots: &[Slot]) -> Option<&'static str> {
    let (mut disabled, mut taken) = (false, false);
    for slot in slots.iter().filter(|slot| selects(lease, slot)) {
        match (slot.taken, slot.enabled) {
            (true, _) => taken = true,
            (false, false) => disabled = true,
            (false, true) => return None,
        }
    }
    match (disabled, taken) {
        (_, false) => Some("disabled"),
        (false, true) => Some("offered by an older Blueprint, which lists it too (HostTaken)"),
        (true, true) => Some("disabled, or offered by an older Blueprint, which lists it too (HostTaken)"),
    }
}

fn selects(lease: &LeaseSpec, slot: &Slot) -> bool {
    lease.selector.as_ref().is_none_or(|selector| selector.matches(&slot.attributes))
}

/// The namespaces that a controller watches: these, or all where none is named.
#[derive(Clone, Debug, Default)]
pub struct WatchedNamespaces(Vec<String>);

impl WatchedNamespaces {
    /// As on the command line.
    pub fn new(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    fn contains(&self, namespace: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|n| n == namespace)
    }
}

/// The reason nearest to success, and one clause for each candidate.
pub fn explain(lease: &Lease, mut standings: Vec<(Rung, String)>, watched: &WatchedNamespaces) -> (Rung, String) {
    let known: Vec<String> = standings.iter().map(|(_, clause)| clause.clone()).collect();
    for named in &lease.spec.blueprints {
        let namespace = named.namespace.as_deref().unwrap_or(namespace_of(&lease.metadata.namespace));
        let name = format!("Blueprint {namespace}/{} ", named.name);
        if !known.iter().any(|clause| clause.starts_with(&name)) {
            let clause = match watched.contains(namespace) {
                true => format!("{name}is not there, or is not of type {}", lease.spec.resource_type),
                false => format!("{name}is not there, or not watched by this controller"),
            };
            standings.push((Rung::NoMatchingBlueprint, clause));
        }
    }
    let Some(rung) = standings.iter().map(|(rung, _)| *rung).max() else {
        let type_ = &lease.spec.resource_type;
        let message = format!("no Blueprint of type {type_} in this namespace, nor in one that is shared");
        return (Rung::NoMatchingBlueprint, message);
    };
    let clauses: Vec<String> = standings.into_iter().map(|(_, clause)| clause).collect();
    (rung, super::commands::shorten(clauses.join("; "), 4096))
}

fn namespace_of(namespace: &Option<String>) -> &str {
    namespace.as_deref().unwrap_or_default()
}
