//! All that happens in a run, in its order: every version of every object as the API server stores it, every effect of the
//! drivers on the world, every crash. What the checks read, what a failure tells, and what a replay is compared by.

use crate::time::Clocks;
use drydock::{
    api::step::{EffectKey, HookCall, Moves, StepKind, Storage, Verdict},
    driver::Work,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
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
    /// A driver gave what is to be put into its books.
    Stored { key: EffectKey, books: Storage },
    /// A driver was asked whether a deadline is to be kept, and said this; or nothing.
    Asked { key: EffectKey, says: Option<Verdict> },
    /// A driver was told that a lease comes or goes, and moved this; or said nothing.
    Hooked { call: HookCall, moves: Option<Moves> },
    /// What the key names is not as it should be any more, perhaps for good.
    Damaged { key: EffectKey, for_good: bool },
    /// It is as it should be again.
    Mended(EffectKey),
    /// A word about the run itself: a crash, a jump of the clock.
    Note(String),
}

/// What happened, when, and through whom.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Duration,
    /// The latest that the controllers' clock had ever shown by then.
    pub latest: Timestamp,
    /// What the controllers' clock showed.
    pub wall: Timestamp,
    /// Up to which version of each kind who did it knew all, when it made up its mind.
    pub knew: Known,
    pub by: Arc<str>,
    pub what: What,
}

/// Up to which version all of a kind is known; a kind that is not there: nothing of it.
pub type Known = BTreeMap<Kind, u64>;

/// What a controller was shown, and when.
type Shown = VecDeque<(Duration, Known)>;

/// So long ago, at most, was a mind made up that shows in the journal now: a pass makes several requests one after the other,
/// and each may take its time.
const DELIBERATION: Duration = Duration::from_secs(120);

/// The same when nothing goes wrong.
const PROMPT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Journal {
    clocks: Arc<Clocks>,
    entries: Mutex<Vec<Entry>>,
    /// What each controller was shown, and when: as much of it as may matter still.
    shown: Mutex<BTreeMap<Arc<str>, Shown>>,
    prompt: Mutex<bool>,
}

impl Journal {
    /// Empty.
    pub fn new(clocks: Arc<Clocks>) -> Arc<Self> {
        Arc::new(Self { clocks, entries: Mutex::default(), shown: Mutex::default(), prompt: Mutex::new(false) })
    }

    /// One more.
    pub fn add(&self, by: &Arc<str>, what: What) {
        let (at, latest, wall) = (self.clocks.elapsed(), self.clocks.latest(), self.clocks.wall());
        let knew = self.knew(by, at);
        self.entries.lock().unwrap().push(Entry { at, latest, wall, knew, by: by.clone(), what });
    }

    /// A controller was shown all of a kind up to this version.
    pub fn shows(&self, by: &Arc<str>, kind: Kind, number: u64) {
        let mut shown = self.shown.lock().unwrap();
        let shown = shown.entry(by.clone()).or_default();
        let mut known = shown.back().map(|(_, known)| known.clone()).unwrap_or_default();
        let newest = known.entry(kind).or_default();
        *newest = number.max(*newest);
        shown.push_back((self.clocks.elapsed(), known));
    }

    /// From now on nothing takes long.
    pub fn be_prompt(&self) {
        *self.prompt.lock().unwrap() = true;
    }

    fn knew(&self, by: &Arc<str>, at: Duration) -> Known {
        let deliberation = if *self.prompt.lock().unwrap() { PROMPT } else { DELIBERATION };
        let mut shown = self.shown.lock().unwrap();
        let Some(shown) = shown.get_mut(by) else { return Known::new() };
        while shown.get(1).is_some_and(|(then, _)| *then + deliberation <= at) {
            shown.pop_front();
        }
        shown.front().map(|(_, known)| known.clone()).unwrap_or_default()
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
                What::Stored { key, books } => (key, books).hash(&mut hasher),
                What::Asked { key, says } => (key, format!("{says:?}")).hash(&mut hasher),
                What::Hooked { call, moves } => (call, format!("{moves:?}")).hash(&mut hasher),
                What::Damaged { key, for_good } => (key, for_good).hash(&mut hasher),
                What::Mended(key) => key.hash(&mut hasher),
                What::Note(text) => text.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}
