//! What must hold after every step: over every version of every object that the API server stores, and over every effect
//! on the world, in the order in which they happened.

pub mod causes;
mod commands;
mod drivers;
mod ladder;
mod lately;
mod lease;
mod placement;
mod pools;
mod precedence;
pub mod queue;
mod resource;
mod world;

use crate::{
    journal::{Change, Entry, Journal, Kind, Known, Version, What},
    server::write::CONTROLLER,
    story,
    time::Clocks,
    trouble,
};
use drydock::{
    api::{
        Blueprint, Lease, LeasePhase, LedgerEntry, Resource,
        step::{EffectKey, StepKind},
    },
    lifecycle::{has_finalizer, is_deleting, uid},
};
use jiff::Timestamp;
use serde::Deserialize as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What is wrong, and which objects it concerns.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub what: String,
    pub uids: Vec<String>,
}

impl Wrong {
    /// With the story of the objects concerned.
    pub fn tell(&self, journal: &Journal, clocks: &Clocks) -> String {
        format!("{}\n(after {:?})\n{}", self.what, clocks.elapsed(), story::of(journal, &self.uids))
    }
}

/// What comes of a check.
pub type Verdict = Result<(), Wrong>;

/// Says that something is wrong.
pub fn wrong(what: impl Into<String>, uids: &[&str]) -> Verdict {
    Err(Wrong { what: what.into(), uids: uids.iter().map(|uid| (*uid).to_owned()).collect() })
}

/// What something was like, from which version on.
pub type Versions<T> = Vec<(u64, T)>;

/// The state of all things, as the journal tells it up to some entry.
#[derive(Default)]
pub struct Now {
    pub leases: BTreeMap<String, Arc<Lease>>,
    pub resources: BTreeMap<String, Arc<Resource>>,
    pub blueprints: BTreeMap<String, Arc<Blueprint>>,
    /// Every Blueprint that ever was, as it was last.
    pub all_blueprints: BTreeMap<String, Arc<Blueprint>>,
    /// Every resource that ever was: where it is, or was.
    pub slots: BTreeMap<String, (String, String)>,
    /// Every lease that ever was.
    pub known_leases: BTreeSet<String>,
    /// Objects that went by force, or before the controller had put its finalizer on.
    pub vanished: BTreeSet<String>,
    /// Blueprints that ever had the finalizer.
    pub guarded: BTreeSet<String>,
    /// Each Blueprint, with the version from which on it was like that.
    pub versions: BTreeMap<String, Versions<Arc<Blueprint>>>,
    /// The labels of each namespace, likewise.
    pub labels: BTreeMap<String, Versions<BTreeMap<String, String>>>,
    /// Namespaces that are there, and whether they are to go.
    pub namespaces: BTreeMap<String, bool>,
    /// In which version each lease came and each resource was made, each came to count as what it does, and each claim was
    /// written.
    pub born: BTreeMap<String, u64>,
    pub counts_since: BTreeMap<String, u64>,
    pub claimed: BTreeMap<EffectKey, u64>,
    /// In which versions the resources of each Blueprint came to be Destroyed.
    pub ended: BTreeMap<String, Vec<u64>>,
    /// What drivers were asked, have stored and have moved.
    pub drivers: drivers::Drivers,
    /// When each lease last gave a sign of life, by the controllers' clock; and when that was last set back.
    pub beats: BTreeMap<String, (Duration, Timestamp)>,
    pub set_back_at: Duration,
    /// Ledger entries, as they were first.
    pub ledger: BTreeMap<(String, String), LedgerEntry>,
    /// Leases that each resource has ever been granted to.
    pub granted: BTreeMap<String, BTreeSet<String>>,
    /// What is in the world.
    pub there: BTreeSet<EffectKey>,
    /// What was ever taken out of it.
    pub removed: BTreeSet<EffectKey>,
    /// Keys whose teardown was said to be done.
    pub done: BTreeSet<EffectKey>,
    /// Which controller was told of which step that it is done.
    pub told_done: BTreeSet<(Arc<str>, StepKind, EffectKey)>,
    /// Keys that were said to have failed for good.
    pub hopeless: BTreeSet<EffectKey>,
    /// UIDs that were written off without a teardown.
    pub forgotten: BTreeSet<String>,
    /// The latest that the wall clock has ever shown.
    pub latest: Timestamp,
    /// What it shows, and has shown lately.
    pub wall: Timestamp,
    pub lately: lately::Lately,
    /// Up to which version whoever does it knew all, when it made up its mind.
    pub knew: Known,
    /// Who does it.
    pub by: Option<Arc<str>>,
    /// How long the run has lasted.
    pub at: Duration,
    /// Nothing goes wrong any more: the queue must be in order.
    pub fair: bool,
    /// How many controllers there are at a time.
    pub controllers: usize,
    /// Who was passed over in it, a moment ago.
    pub overtaken: Vec<queue::Overtaken>,
    /// How often each lease was passed over by one whom a resource fits.
    pub passed_over: BTreeMap<String, usize>,
    /// Who is where.
    pub placements: placement::Placements,
    /// What was reclaimed, a moment ago, though another was idle for longer.
    pub reclaims: Vec<ladder::Doubt>,
    /// Who has made each resource.
    pub makers: BTreeMap<String, Arc<str>>,
}

/// See the module.
pub struct Checks {
    journal: Arc<Journal>,
    next: usize,
    pub now: Now,
}

impl Checks {
    /// Of a run.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self { journal, next: 0, now: Now::default() }
    }

    /// Looks at all that has happened since.
    pub fn catch_up(&mut self) -> Option<Wrong> {
        let entries: Vec<Entry> = self.journal.all()[self.next..].to_vec();
        self.next += entries.len();
        let wrong = entries.iter().find_map(|entry| self.now.step(entry).err());
        wrong.or_else(|| Some(Wrong { what: trouble::first()?, uids: Vec::new() }))
    }
}

/// A Blueprint is its author's: of it a controller writes status and finalizer, and never deletes it.
fn blueprint_metadata(old: &Blueprint, new: &Blueprint) -> Verdict {
    let id = uid(&new.metadata);
    if new.spec != old.spec {
        return wrong("the controller wrote a Blueprint's spec", &[id]);
    }
    if is_deleting(&new.metadata) && !is_deleting(&old.metadata) {
        return wrong("the controller deleted a Blueprint", &[id]);
    }
    Ok(())
}

impl Now {
    fn step(&mut self, entry: &Entry) -> Verdict {
        (self.latest, self.at, self.wall) = (entry.latest, entry.at, entry.wall);
        (self.knew, self.by) = (entry.knew.clone(), Some(entry.by.clone()));
        self.lately.note(entry.at, entry.wall);
        self.nobody_is_overtaken()?;
        self.everybody_is_placed()?;
        self.the_longest_idle_goes()?;
        match &entry.what {
            What::Wrote(version) => self.wrote(version, &entry.by),
            What::Called { kind, work } => {
                self.is_not_done_already(&entry.by, *kind, &work.key)?;
                self.called(*kind, work)
            }
            What::Made(key) => self.made(key),
            What::Removed(key) => self.removed(key),
            What::Ended { kind, key, end } => {
                if self.drivers.ended(&entry.by, key, end) {
                    self.hopeless.insert(key.clone());
                }
                let teardown = matches!(kind, StepKind::TearDownLease | StepKind::TearDownResource);
                if *end == crate::journal::End::Done {
                    self.told_done.insert((entry.by.clone(), *kind, key.clone()));
                }
                match end {
                    crate::journal::End::Done if teardown => drop(self.done.insert(key.clone())),
                    crate::journal::End::Said("FailedForGood") => drop(self.hopeless.insert(key.clone())),
                    _ => {}
                }
                Ok(())
            }
            What::Stored { .. } | What::Asked { .. } | What::Hooked { .. } | What::Damaged { .. } | What::Mended(_) => {
                self.drivers.note(&entry.by, &entry.what, entry.at);
                Ok(())
            }
            What::Note(note) => {
                if note.contains("jumps by -") || note.contains("set right") {
                    self.set_back_at = entry.at;
                }
                Ok(())
            }
        }
    }

    fn wrote(&mut self, version: &Version, by: &str) -> Verdict {
        let controller = by.starts_with(CONTROLLER);
        match version.kind {
            Kind::Lease => {
                let new = Arc::new(Lease::deserialize(&*version.object).unwrap());
                let id = uid(&new.metadata).to_owned();
                let old = self.leases.get(&id).cloned();
                self.known_leases.insert(id.clone());
                self.born.entry(id.clone()).or_insert(version.number);
                self.note_change(&id);
                if old.as_ref().is_none_or(|old| old.spec.heartbeat != new.spec.heartbeat) {
                    self.beats.insert(id.clone(), (self.at, self.wall));
                }
                if let (Some(old), true) = (&old, controller) {
                    if version.change == Change::Modified && version.status {
                        self.lease_status(old, &new)?;
                    } else {
                        self.lease_metadata(old, &new, version.change)?;
                    }
                }
                match version.change {
                    Change::Deleted => self.gone(&id, controller, new.phase() == LeasePhase::Destroyed),
                    _ => drop(self.leases.insert(id, new)),
                }
            }
            Kind::Resource => {
                let new = Arc::new(Resource::deserialize(&*version.object).unwrap());
                let id = uid(&new.metadata).to_owned();
                let old = self.resources.get(&id).cloned();
                let meta = &new.metadata;
                let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
                self.slots.insert(id.clone(), name);
                match (&old, controller) {
                    (None, true) => {
                        self.resource_created(&new)?;
                        self.makers.extend(self.by.clone().map(|by| (id.clone(), by)));
                    }
                    (Some(old), true) if version.change == Change::Modified && version.status => {
                        self.resource_status(old, &new)?;
                    }
                    (Some(old), true) => {
                        self.resource_metadata(old, &new, version.change)?;
                        if new.spec.commands.len() > old.spec.commands.len() {
                            self.note_reclaim(old);
                        }
                    }
                    _ => {}
                }
                self.count(old.as_deref(), &new, version.number);
                self.note_change(&id);
                match version.change {
                    Change::Deleted => {
                        self.resource_gone(&new)?;
                        self.gone(&id, controller, new.phase() == drydock::api::ResourcePhase::Destroyed);
                    }
                    _ => drop(self.resources.insert(id, new)),
                }
            }
            Kind::Blueprint => {
                let new = Arc::new(Blueprint::deserialize(&*version.object).unwrap());
                let id = uid(&new.metadata).to_owned();
                let versions = self.versions.entry(id.clone()).or_default();
                if versions.last().is_none_or(|(_, last)| last.spec != new.spec) {
                    versions.push((version.number, new.clone()));
                }
                self.all_blueprints.insert(id.clone(), new.clone());
                if has_finalizer(&new.metadata) {
                    self.guarded.insert(id.clone());
                }
                let old = self.blueprints.get(&id).cloned();
                let let_go = version.change == Change::Deleted || !has_finalizer(&new.metadata);
                if let (Some(old), true) = (&old, controller) {
                    blueprint_metadata(old, &new)?;
                }
                if controller && let_go && old.is_some_and(|old| has_finalizer(&old.metadata)) {
                    self.blueprint_let_go(&id)?;
                }
                match version.change {
                    Change::Deleted => self.gone(&id, controller, false),
                    _ => drop(self.blueprints.insert(id, new)),
                }
            }
            Kind::Namespace => self.namespace(version),
        }
        Ok(())
    }

    fn namespace(&mut self, version: &Version) {
        let meta = &version.object["metadata"];
        let name = meta["name"].as_str().unwrap_or_default().to_owned();
        match version.change {
            Change::Deleted => drop(self.namespaces.remove(&name)),
            _ => drop(self.namespaces.insert(name.clone(), !meta["deletionTimestamp"].is_null())),
        }
        let labels = BTreeMap::deserialize(&meta["labels"]).unwrap_or_default();
        let versions = self.labels.entry(name).or_default();
        if versions.last().is_none_or(|(_, last)| *last != labels) {
            versions.push((version.number, labels));
        }
    }

    fn gone(&mut self, id: &str, controller: bool, destroyed: bool) {
        self.leases.remove(id);
        self.resources.remove(id);
        self.blueprints.remove(id);
        if !controller && !destroyed {
            self.vanished.insert(id.to_owned());
        }
    }

    /// B2: a Blueprint is let go when no Resource has its UID; but for one that came after the list, from an old cache, for
    /// which nothing is ever built (R1).
    fn blueprint_let_go(&self, id: &str) -> Verdict {
        let begun = |r: &Resource| r.status.as_ref().is_some_and(|s| s.built.is_some());
        let left = self.resources.values().find(|r| r.spec.blueprint_ref.uid == id && begun(r));
        match left {
            Some(left) => wrong("B2: a Blueprint is let go before its Resource", &[id, uid(&left.metadata)]),
            None => Ok(()),
        }
    }

    /// The keys in the world that are of a lease.
    pub fn of_lease<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a EffectKey> {
        self.there.iter().filter(move |key| key.lease.as_ref().is_some_and(|(lease, _)| lease == id))
    }

    /// The keys in the world that are of leases on a resource.
    pub fn on_resource<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a EffectKey> {
        self.there.iter().filter(move |key| key.lease.is_some() && key.resource == id)
    }

    /// Whether nothing more can be said of what a key names: its objects went by force, or were written off.
    pub fn is_lost(&self, key: &EffectKey) -> bool {
        let lease = key.lease.as_ref().map(|(lease, _)| lease);
        self.vanished.contains(&key.resource)
            || self.forgotten.contains(&key.resource)
            || lease.is_some_and(|lease| self.forgotten.contains(lease))
    }
}
