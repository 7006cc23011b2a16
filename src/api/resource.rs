//! The kind `Resource`: one built environment, and who holds it.

use super::{
    command::{Command, LedgerEntry},
    common::{Condition, Deadline, Failure, Interface, Wish},
    lease::is_zero,
    schema,
    time::MicroTime,
    word::Recorded,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the environment is. Made by the controller only; users append commands and move `expiresAt`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "drydock.dev", version = "v1alpha1", kind = "Resource", plural = "resources", singular = "resource", namespaced,
    shortname = "dres", category = "drydock", status = "ResourceStatus", derive = "PartialEq", derive = "Default",
    doc = "One built environment, and who holds it. Its name is the lock of its slot. Made by the controller; deleting it releases it.",
    selectable = ".spec.resourceType", selectable = ".spec.blueprintRef.uid", selectable = ".spec.blueprintRef.name", selectable = ".status.phase",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.resourceType"),
    printcolumn(name = "Blueprint", type_ = "string", json_path = ".spec.blueprintRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".status.claims[*].name"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(super::crds::COMMAND_STAYS).message("a command may be removed only after status.commands shows it consumed; keep those that wait, or append by JSON patch to /spec/commands/-")
        .field_path(".spec.commands").reason(Reason::FieldValueForbidden),
    validation = Rule::new(super::crds::LEDGER_STAYS).message("a ledger entry stays as long as its command is in the spec")
        .field_path(".status.commands").reason(Reason::FieldValueForbidden),
    validation = Rule::new(super::crds::DESTROYED_TAKES_NONE).message("it is destroyed and takes no more commands; create a new one")
        .field_path(".spec.commands").reason(Reason::FieldValueForbidden)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::fixed(
    &["attributes", "parameters", "templateHash", "requestedFor"],
    "only expiresAt and commands of a Resource may change; change its Blueprint instead",
))]
pub struct ResourceSpec {
    /// The Blueprint that it was built from.
    #[x_kube(validation = ("self == oldSelf", "blueprintRef is immutable; release the Resource instead"))]
    pub blueprint_ref: BlueprintRef,
    /// The kind of environment, as the Blueprint says.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    #[x_kube(validation = ("self == oldSelf", "resourceType is immutable; release the Resource instead"))]
    pub resource_type: String,
    /// What selectors of leases see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::attributes")]
    #[x_kube(validation = ("self == oldSelf", "attributes is immutable; change the Blueprint instead"))]
    pub attributes: BTreeMap<String, String>,
    /// The parameters that it is built with: its flavour.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::parameters")]
    #[x_kube(validation = ("self == oldSelf", "parameters is immutable; create a Lease with other parameters instead"))]
    pub parameters: BTreeMap<String, String>,
    /// What it was built from, in short: another one in the Blueprint makes it out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = ("self == oldSelf", "templateHash is immutable; change the Blueprint instead"))]
    pub template_hash: Option<String>,
    /// The lease that asked for it: one build in flight for each lease. It is no reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "requestedFor is immutable; create another Lease instead"))]
    pub requested_for: Option<LeaseRef>,
    /// The instant at which it ends, its leases with it. Moving it counts as a command `Expires` at the moment it is seen.
    /// Default: the Blueprint's `resource.ttl` after it became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<MicroTime>,
    /// The command queue, at most 64 long. Append to it, with `kubectl patch --type=json` and the path
    /// `/spec/commands/-` or by server-side apply; what came of a command is in `status.commands`. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 80))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["id".into()]),
        validation = ("self.size() <= 64", "the queue is full (64): remove commands that status.commands shows consumed, or wait until the controller has consumed some, and append again"),
        validation = ("self.all(c, !has(c.hold))", "hold goes with the Release of a Lease; leave it out")
    )]
    pub commands: Vec<Command>,
}

/// Names the Blueprint of a Resource, which is in the Resource's own namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct BlueprintRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID: a namesake inherits nothing.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Names a Lease.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct LeaseRef {
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
}

// The arrows between them are in api.md, section 2.
/// Where a resource is in its life.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourcePhase {
    /// It is being built.
    #[default]
    Pending,
    /// It is there, idle or leased.
    Active,
    /// It is over; it is torn down when its claims are gone.
    Released,
    /// It failed for good; it is torn down when its claims are gone.
    Broken,
    /// All of it is gone; the object goes at once.
    Destroyed,
}

// Rule R4 of protocol.md says when it may be dropped.
/// A grant: the promise of this resource to one lease, which only the lease can end.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lease's namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The lease's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The lease's UID.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The lease's attempt that it was granted to.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempt: i64,
    /// When it was granted.
    pub since: MicroTime,
}

/// What has become of the environment. Written by the resource's reconciler only. No status yet reads as Pending.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    /// Where the resource is in its life. `Pending`: it is being built. `Active`: it is there, idle or leased.
    /// `Released`, `Broken`: it is over, and torn down when its leases are. `Destroyed`: all of it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ResourcePhase>")]
    pub phase: Option<Recorded<ResourcePhase>>,
    /// `Ready`, `Released` and `TornDown`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What it waits for, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub deadlines: Vec<Deadline>,
    /// When it ends; absent while it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<MicroTime>,
    /// The `spec.expiresAt` that was taken into account; another one is an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_seen: Option<MicroTime>,
    /// The last applied `Expires` or edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
    /// Who holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub claims: Vec<Claim>,
    // Rule R5 of protocol.md.
    /// It has been granted under `recycle: Destroy`: it will not be granted again, and is destroyed when its lease ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub served: bool,
    /// How many leases it may hold at once: the Blueprint's `limits.leasesPerResource` when it became active, or a lower one
    /// since. That of a host follows the Blueprint while nobody holds it.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub capacity: i64,
    /// Since when nobody holds it; absent while somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<MicroTime>,
    /// When it became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<MicroTime>,
    /// When it was released, or broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<MicroTime>,
    /// When its teardown was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed_at: Option<MicroTime>,
    /// The ways into the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub interfaces: Vec<Interface>,
    /// Facts about the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::outputs")]
    pub outputs: BTreeMap<String, String>,
    /// Bookkeeping of the driver: what it wants to know again in a later step. Of the drivers that come with Drydock none keeps
    /// any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::parameters")]
    pub storage: BTreeMap<String, String>,
    /// Everything that the teardown needs, written before the first effect outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub built: Option<serde_json::Value>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The ledger: which commands were consumed, and what came of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub commands: Vec<LedgerEntry>,
}

impl ResourceStatus {
    /// Where the resource is in its life. A phase of another version is read as the one that the times speak of.
    pub fn phase(&self) -> ResourcePhase {
        match self.phase {
            Some(Recorded::Known(phase)) => phase,
            None => ResourcePhase::Pending,
            Some(Recorded::Unknown(_)) if self.destroyed_at.is_some() => ResourcePhase::Destroyed,
            Some(Recorded::Unknown(_)) if self.released_at.is_some() => ResourcePhase::Released,
            Some(Recorded::Unknown(_)) if self.activated_at.is_some() => ResourcePhase::Active,
            Some(Recorded::Unknown(_)) => ResourcePhase::Pending,
        }
    }
}

impl Resource {
    /// Where the resource is in its life; Pending before its first status.
    pub fn phase(&self) -> ResourcePhase {
        self.status.as_ref().map_or(ResourcePhase::Pending, ResourceStatus::phase)
    }

    /// Who holds it.
    pub fn claims(&self) -> &[Claim] {
        self.status.as_ref().map_or(&[], |s| &s.claims)
    }

    /// The slot that it holds: what its name has after the Blueprint's.
    pub fn slot(&self) -> Option<&str> {
        let name = self.metadata.name.as_deref()?;
        name.strip_prefix(&self.spec.blueprint_ref.name)?.strip_prefix(super::SLOT_SEPARATOR)
    }
}
