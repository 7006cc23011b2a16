//! Words of a closed vocabulary that another version wrote: after a rollback an object may hold a value that this version does not
//! know. Such a value is kept as it is, so that the object is still read, expires and is torn down.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{collections::BTreeSet, fmt, sync::Mutex};

/// How many different words are kept. The API server lets pass only what the installed CRDs list, so a few are enough.
const MAX_WORDS: usize = 256;

/// How long a word may be, in bytes.
const MAX_BYTES: usize = 64;

static WORDS: Mutex<Words> = Mutex::new(Words(BTreeSet::new()));

/// Each different word is kept for as long as the process runs.
struct Words(BTreeSet<&'static str>);

impl Words {
    /// A word, kept once: `None` where it is too long, or there are too many.
    fn keep(&mut self, text: &str) -> Option<Word> {
        if let Some(known) = self.0.get(text) {
            return Some(Word(known));
        }
        if text.len() > MAX_BYTES || self.0.len() >= MAX_WORDS {
            return None;
        }
        let kept: &'static str = Box::leak(text.into());
        self.0.insert(kept);
        Some(Word(kept))
    }
}

/// A value of an enum that this version does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(&'static str);

impl Word {
    /// The word, as it is written.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut words = WORDS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        words.keep(&text).ok_or_else(|| D::Error::custom("a value that this version does not know"))
    }
}

/// The schema of an enum that keeps words of other versions: the API server takes only those of this one.
macro_rules! known_words {
    ($name:ident: $($word:ident),+) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "enum": [$(stringify!($word)),+]})
            }
        }
    };
}
pub(super) use known_words;

/// A phase as a status holds it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Recorded<P> {
    /// One of those that this version knows.
    Known(P),
    /// Another version's. The timestamps in the same status say which phase it corresponds to.
    Unknown(Word),
}

impl<P> From<P> for Recorded<P> {
    fn from(phase: P) -> Self {
        Self::Known(phase)
    }
}

impl<P: Copy> Recorded<P> {
    /// The phase, where this version knows it.
    pub fn known(self) -> Option<P> {
        match self {
            Self::Known(phase) => Some(phase),
            Self::Unknown(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        Lease, LeasePhase, Resource, ResourcePhase,
        blueprint::{From as NamespacesFrom, Placement, Recycle},
        command::{CommandType, Outcome},
        common::{DeadlineName, Operator},
    };
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn keeps<T: Serialize + DeserializeOwned + fmt::Debug>(known: &str) {
        for text in [known, "Hibernating"] {
            let read: T = serde_json::from_value(json!(text)).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), json!(text));
            assert_eq!(format!("{read:?}").contains("Unknown"), text != known, "{read:?}");
        }
        assert!(serde_json::from_value::<T>(json!({"a": 1})).is_err());
    }

    #[test]
    fn each_enum_keeps_what_it_does_not_know() {
        keeps::<Recorded<LeasePhase>>("Active");
        keeps::<Recorded<ResourcePhase>>("Active");
        keeps::<CommandType>("Release");
        keeps::<Outcome>("Refused");
        keeps::<DeadlineName>("Lifetime");
        keeps::<Operator>("NotIn");
        keeps::<Placement>("Pack");
        keeps::<Recycle>("Reuse");
        keeps::<NamespacesFrom>("Same");
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let mut words = Words(BTreeSet::new());
        assert!(words.keep(&"x".repeat(MAX_BYTES)).is_some());
        assert!(words.keep(&"x".repeat(MAX_BYTES + 1)).is_none());
        let kept = (0..2 * MAX_WORDS).take_while(|n| words.keep(&format!("word-{n}")).is_some()).count();
        assert_eq!(kept, MAX_WORDS - 1);
        assert_eq!(words.keep("word-0").map(Word::as_str), Some("word-0"), "what is known is known still");
    }

    #[test]
    fn an_unknown_phase_is_what_the_times_say() {
        let status = |times: &[&str]| -> Value {
            let time = |name: &&str| ((*name).to_owned(), json!("2026-01-01T00:00:00Z"));
            let mut status: serde_json::Map<_, _> = times.iter().map(time).collect();
            status.insert("phase".to_owned(), json!("Hibernating"));
            Value::Object(status)
        };
        for (times, of_lease, of_resource) in [
            (&[][..], LeasePhase::Pending, ResourcePhase::Pending),
            (&["acquiredAt"], LeasePhase::Acquired, ResourcePhase::Pending),
            (&["acquiredAt", "activatedAt"], LeasePhase::Active, ResourcePhase::Active),
            (&["activatedAt", "releasedAt"], LeasePhase::Released, ResourcePhase::Released),
            (&["releasedAt", "destroyedAt"], LeasePhase::Destroyed, ResourcePhase::Destroyed),
        ] {
            let mut lease = Lease::new("l", Default::default());
            lease.status = Some(serde_json::from_value(status(times)).unwrap());
            let mut resource = Resource::new("r", Default::default());
            resource.status = Some(serde_json::from_value(status(times)).unwrap());
            assert_eq!((lease.phase(), resource.phase()), (of_lease, of_resource), "{times:?}");
        }
    }
}
