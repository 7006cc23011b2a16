//! The command queue: how everyone but an object's own reconciler says what they want (design.md, 4).
//!
//! The doc comments of fields are what `kubectl explain` tells a user.

use super::{
    schema,
    time::{Duration, MicroTime},
    word::{Word, known_words},
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many commands `spec.commands` may hold (a CEL rule, with a remedy in its message).
pub const QUEUE_LIMIT: usize = 64;

/// How many entries `status.commands` may hold.
pub const LEDGER_LIMIT: usize = 128;

/// One entry of `spec.commands`. It never changes, and may be removed only when the ledger shows it consumed.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a command is immutable once written; append another with a new id"),
    validation = Rule::new("self.type == 'Expires' ? [has(self.at), has(self.after), has(self.never)].filter(x, x).size() == 1 : !has(self.at) && !has(self.after) && !has(self.never)")
        .message("Expires takes exactly one of at, after and never: true; other types take none of them"),
    validation = Rule::new("!has(self.hold) || self.type == 'Release'").message("hold goes with Release only; leave it out"),
    validation = Rule::new("!has(self.never) || self.never").message("never is true or absent; to set an end use at or after")
)]
pub struct Command {
    /// A name for the command, unique in the queue; choose a new one for each intent. An id that `status.commands` has
    /// is consumed: a command that reappears under it does nothing.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    pub id: String,
    /// What is wanted. `Release`: end it; what was built is torn down. `Expires`: set, move or lift its end. `Reclaim`:
    /// release it if it is idle; Resources only. `Forget`: write off a teardown that can never finish; needs the verb
    /// `forget`.
    #[serde(rename = "type")]
    pub type_: CommandType,
    /// Why, in the issuer's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// Who asked: stamped by the API server from the authenticated user. Leave it out; a forged one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub issued_by: Option<String>,
    /// With `Release` of a Lease: keep the environment so long for a look before it is torn down; cut to the
    /// Blueprint's `lease.maxHold`. A duration as in 1h30m. Default: it is torn down at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
    /// With `Expires`: it ends at this instant, as in 2026-11-23T18:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<MicroTime>,
    /// With `Expires`: it ends so long after the command is consumed. A duration as in 1h30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// With `Expires`: true, it does not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never: Option<bool>,
}

// Its outcomes by phase are in api.md, section 2.
/// What a command asks for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandType {
    /// End it: what was built is torn down.
    Release,
    /// Set, move or lift the time at which it ends.
    Expires,
    /// Resources only: release it if it is idle.
    Reclaim,
    /// Write off a teardown that can never finish. Needs the verb `forget`.
    Forget,
    /// Another version's. It is refused.
    #[serde(untagged)]
    Unknown(Word),
}

known_words!(CommandType: Release, Expires, Reclaim, Forget);

/// One entry of the ledger `status.commands`: a command was consumed, and this came of it. It is final.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "a ledger entry is final"))]
pub struct LedgerEntry {
    /// The command's id.
    #[schemars(length(max = 63))]
    pub id: String,
    /// The command's type; of a command that was refused since this version does not know it, any text.
    #[serde(rename = "type")]
    #[schemars(with = "String", length(max = 64))]
    pub type_: CommandType,
    /// What came of it. `Applied`: done. `Ignored`: it was so already. `Refused`: not done; `message` says why and what
    /// to do instead.
    pub outcome: Outcome,
    /// Why, and what to do instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    /// When it was consumed.
    pub observed_at: MicroTime,
    /// Who asked; absent where the API server does not stamp commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub issued_by: Option<String>,
}

/// What came of a command.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Applied,
    /// Asked for, not done; the message says why and what to do.
    Refused,
    /// It was so already.
    Ignored,
    /// Another version's.
    #[serde(untagged)]
    Unknown(Word),
}

known_words!(Outcome: Applied, Refused, Ignored);

impl fmt::Display for CommandType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => f.write_str(word.as_str()),
            known => write!(f, "{known:?}"),
        }
    }
}
