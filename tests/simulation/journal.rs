//! All that happens in a run, in its order: every version of every object as the API server stores it, every effect of the
//! drivers on the world, every crash. What the checks read, what a failure tells, and what a replay is compared by.

use crate::time::Clocks;
use drydock::{
    api::step::{EffectKey, StepKind},
    driver::Work,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    hash::{Hash as _, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// The kinds that the API server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Lease,
    Resource,
    Blueprint,
    Namespace,
}

/// What a version is to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// One version of one object.
#[derive(Clone, Debug)]
pub struct Version {
    pub kind: Kind,
    pub change: Change,
    /// The resourceVersion: one order for all kinds.
    pub number: u64,
    pub object: Arc<Value>,
    /// Whether it came through the status subresource.
    pub status: bool,
}

/// How a call of a driver ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It said that it is done.
    Done,
    /// It said something else: which.
    Said(&'static str),
    /// Nobody waited for it any more.
    Dropped,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum What {
    /// The API server stored a version.
    Wrote(Version),
    /// A driver was called.
    Called { kind: StepKind, work: Box<Work> },
    /// What the key names came to be in the world.
    Made(EffectKey),
    /// It was taken out of it.
    Removed(EffectKey),
    /// A call came to its end.
    Ended { kind: StepKind, key: EffectKey, end: End },
    /// A word about the run itself: a crash, a jump of the clock.
    Note(String),
}

/// What happened, when, and through whom.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Duration,
    /// The latest that the controllers' clock had ever shown by then.
    pub latest: Timestamp,
    pub by: Arc<str>,
    pub what: What,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    clocks: Arc<Clocks>,
    entries: Mutex<Vec<Entry>>,
}

impl Journal {
    /// Empty.
    pub fn new(clocks: Arc<Clocks>) -> Arc<Self> {
        Arc::new(Self { clocks, entries: Mutex::default() })
    }

    /// One more.
    pub fn add(&self, by: &Arc<str>, what: What) {
        let (at, latest) = (self.clocks.elapsed(), self.clocks.latest());
        self.entries.lock().unwrap().push(Entry { at, latest, by: by.clone(), what });
    }

    /// All of them.
    pub fn all(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap()
    }

    /// A number that two runs have in common only if the same happened in them at the same times.
    pub fn hash(&self) -> u64 {
        let mut hasher = fnv::FnvHasher::default();
        for entry in self.all().iter() {
            (entry.at.as_micros(), &entry.by).hash(&mut hasher);
            match &entry.what {
                What::Wrote(version) => version.object.to_string().hash(&mut hasher),
                What::Called { kind, work } => (kind, &work.key).hash(&mut hasher),
                What::Made(key) | What::Removed(key) => key.hash(&mut hasher),
                What::Ended { kind, key, end } => (kind, key, format!("{end:?}")).hash(&mut hasher),
                What::Note(text) => text.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}
