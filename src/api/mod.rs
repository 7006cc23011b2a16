//! The ground floor: the three custom resources of group `drydock.dev`, and the plain values that pass between
//! `lifecycle` and `driver`. Types, bounds, CEL rules and their docs; no behaviour beyond reading one's own fields.
//! Imports nothing else of ours.

mod answer;
pub mod blueprint;
pub mod command;
pub mod common;
pub mod crds;
pub mod lease;
pub mod readable;
pub mod resource;
mod schema;
pub mod step;
pub mod time;
pub mod word;

pub use answer::is_not_found;
pub use blueprint::{Blueprint, BlueprintSpec, BlueprintStatus};
pub use command::{Command, CommandType, LedgerEntry, Outcome};
pub use common::{Condition, Deadline, DeadlineName, Failure, Interface, SecretRef, Selector, Wish};
pub use lease::{Lease, LeasePhase, LeaseSpec, LeaseStatus};
pub use readable::{Readable, Unreadable};
pub use resource::{Claim, Resource, ResourcePhase, ResourceSpec, ResourceStatus};
pub use time::{Duration, MicroTime};

/// The API group of all three kinds.
pub const GROUP: &str = "drydock.dev";

/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// Holds an object back from going until its teardown is done (design.md, 2). On all three kinds.
pub const FINALIZER: &str = "drydock.dev/teardown";

/// Label on a Resource: the UID of its Blueprint. Labels carry UIDs, so that a namesake inherits nothing.
pub const BLUEPRINT_LABEL: &str = "drydock.dev/blueprint";

/// Attribute of each host's Resource: the name of its entry in the inventory. A selector can ask for one host by it.
pub const NAME_ATTRIBUTE: &str = "drydock.dev/name";

/// What stands between a Blueprint's name and a slot in a Resource's name. Blueprint names cannot hold it.
pub const SLOT_SEPARATOR: &str = "--";

/// The name of the Resource that holds the slot `slot` of the Blueprint `blueprint`: the slot's lock (design.md, 5).
pub fn slot_name(blueprint: &str, slot: &str) -> String {
    format!("{blueprint}{SLOT_SEPARATOR}{slot}")
}
