//! The checker: takes every version of every object, one by one in the order in which they were stored, and says what must not
//! be. It knows nothing of the product but what design.md, api.md and protocol.md promise to whoever reads the objects: it has
//! its own code over JSON, so that it cannot share a mistake with what it judges.
//!
//! It takes versions as values and never asks anybody, so that it can be fed wrong histories: see `tests`.

mod blueprint;
mod causes;
mod commands;
mod lease;
mod made;
mod queue;
mod resource;
mod rest;
mod story;
#[cfg(test)]
mod tests;
mod values;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub use rest::Rest;
pub use values::{phase, text, uid};

/// An old version of a Blueprint, or of its other resources, may be acted on for so long: longer than any controller is paused.
const STALE: SignedDuration = SignedDuration::from_secs(180);

/// What kind of object a version is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Blueprint,
    Resource,
    Lease,
    /// What the driver `objects` made.
    Made,
}

/// One version of one object, as it was stored.
#[derive(Clone, Debug)]
pub struct Version {
    /// The resourceVersion. It orders the versions of all kinds.
    pub revision: u64,
    /// When it was seen.
    pub at: Timestamp,
    pub kind: Kind,
    /// Where it is stored.
    pub key: String,
    /// `None`: it is gone.
    pub object: Option<Value>,
}

/// What must not be, and the UIDs of the objects that it is about.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub what: String,
    pub uids: Vec<String>,
}

pub type Verdict = Result<(), Wrong>;

pub fn wrong(what: impl Into<String>, uids: &[&str]) -> Verdict {
    Err(Wrong { what: what.into(), uids: uids.iter().map(|uid| (*uid).to_owned()).collect() })
}

/// A lease that ended at its deadline.
#[derive(Clone, Debug)]
pub struct Ended {
    pub lease: String,
    pub deadline: Timestamp,
    pub late: SignedDuration,
}

/// See the module.
#[derive(Default)]
pub struct Checker {
    /// What there is, by kind and UID.
    pub now: BTreeMap<Kind, BTreeMap<String, Value>>,
    /// Which UID is stored where.
    places: BTreeMap<String, String>,
    /// When the last version was seen.
    at: Timestamp,
    /// All versions of the spec of each Blueprint, with the time until which they were the newest.
    blueprints: BTreeMap<String, Vec<(Value, Option<Timestamp>)>>,
    /// Blueprints whose deletion was seen.
    drained: BTreeSet<String>,
    /// The first version of each ledger entry, by the UID of the object and the id of the command.
    ledger: BTreeMap<(String, String), Value>,
    /// Where each attempt of a lease was bound.
    bound: BTreeMap<(String, i64), String>,
    /// All leases that there ever were.
    leases: BTreeSet<String>,
    /// When resources came to be Destroyed, and of which Blueprint.
    ended_resources: Vec<(Timestamp, String)>,
    /// To whom each resource was ever granted.
    granted: BTreeMap<String, BTreeSet<String>>,
    made: made::Made,
    queue: queue::Queue,
    pub story: story::Story,
    /// Versions taken.
    pub versions: usize,
    /// Leases that were Active.
    pub served: BTreeSet<String>,
    /// The longest time from a lease's creation to its being Active, and of which lease.
    pub longest_wait: (SignedDuration, String),
    pub ended: Vec<Ended>,
}

impl Checker {
    /// Takes the next version. What it tells of is in force afterwards, right or wrong.
    pub fn take(&mut self, version: Version) -> Verdict {
        let Version { revision, at, kind, key, object } = version;
        let old = self.places.get(&key).and_then(|uid| self.of(kind).get(uid)).cloned();
        let Some(id) = object.as_ref().or(old.as_ref()).map(|object| uid(object).to_owned()) else { return Ok(()) };
        self.at = self.at.max(at);
        self.versions += 1;
        self.story.note(revision, at, kind, &key, &id, object.as_ref());
        match &object {
            Some(new) => {
                self.places.insert(key.clone(), id.clone());
                self.now.entry(kind).or_default().insert(id, new.clone());
            }
            None => {
                self.places.remove(&key);
                self.now.entry(kind).or_default().remove(&id);
            }
        }
        let verdict = match (old.filter(|old| object.as_ref().is_none_or(|new| uid(new) == uid(old))), object) {
            (old, Some(new)) => self.is(kind, old.as_ref(), &new),
            (Some(old), None) => self.gone(kind, &old),
            (None, None) => Ok(()),
        };
        verdict.and(self.nobody_is_overtaken())
    }

    fn is(&mut self, kind: Kind, old: Option<&Value>, new: &Value) -> Verdict {
        match kind {
            Kind::Blueprint => self.blueprint(new),
            Kind::Resource => self.resource(old, new),
            Kind::Lease => self.lease(old, new),
            Kind::Made => self.is_made(old, new),
        }
    }

    fn gone(&mut self, kind: Kind, last: &Value) -> Verdict {
        match kind {
            Kind::Blueprint => self.blueprint_gone(last),
            Kind::Resource => self.resource_gone(last),
            Kind::Lease => self.lease_gone(last),
            Kind::Made => self.made_gone(last),
        }
    }

    /// All of a kind that there are.
    pub fn of(&self, kind: Kind) -> &BTreeMap<String, Value> {
        static NONE: BTreeMap<String, Value> = BTreeMap::new();
        self.now.get(&kind).unwrap_or(&NONE)
    }

    fn lease_of(&self, uid: &str) -> Option<&Value> {
        self.of(Kind::Lease).get(uid)
    }

    fn resource_of(&self, uid: &str) -> Option<&Value> {
        self.of(Kind::Resource).get(uid)
    }

    /// The versions of a Blueprint's spec that somebody may act on.
    fn specs<'c>(&'c self, blueprint: &str) -> impl Iterator<Item = &'c Value> + use<'c> {
        let recent = self.at - STALE;
        let versions = self.blueprints.get(blueprint).map_or(&[][..], Vec::as_slice);
        versions.iter().filter(move |(_, until)| until.is_none_or(|until| until > recent)).map(|(spec, _)| spec)
    }
}
