//! The kind `Lease`: one request for an environment, and then the holding of it.

use super::{
    command::{Command, LedgerEntry},
    common::{Condition, Deadline, Failure, Interface, Selector, Wish},
    schema,
    time::{Duration, MicroTime},
    word::Recorded,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked for. All of it is immutable but `priority`, `expiresAt`, `ttlAfterDestroyed`, `heartbeat` and `commands`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "drydock.dev", version = "v1alpha1", kind = "Lease", plural = "leases", singular = "lease", namespaced,
    shortname = "dlease", category = "drydock", status = "LeaseStatus", derive = "PartialEq", derive = "Default",
    doc = "A request for an environment, and then the holding of it. Deleting it releases it.",
    selectable = ".spec.resourceType", selectable = ".status.phase", selectable = ".status.resourceRef.name",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.resourceType"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Place", type_ = "integer", json_path = ".status.queuePosition"),
    printcolumn(name = "Resource", type_ = "string", json_path = ".status.resourceRef.name"),
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
    &["blueprints", "selector", "parameters", "repositories", "subjects", "queueTimeout", "ttl", "heartbeatTimeout"],
    "only priority, expiresAt, ttlAfterDestroyed, heartbeat and commands may change; create another lease",
))]
pub struct LeaseSpec {
    /// The kind of environment, as a Blueprint's `resourceType`.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    #[x_kube(validation = ("self == oldSelf", "resourceType is immutable; create another lease"))]
    pub resource_type: String,
    /// The Blueprints to try, in this order. Default: those of the lease's own namespace and those that the operator
    /// shares, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = ("self == oldSelf", "blueprints is immutable; create another lease"))]
    pub blueprints: Vec<BlueprintName>,
    /// What the resource's attributes must be. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "selector is immutable; create another lease"))]
    pub selector: Option<Selector>,
    /// What the environment is made with, where the Blueprint lists the parameter. Default: the Blueprint's
    /// `resource.defaults`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::parameters")]
    #[x_kube(validation = ("self == oldSelf", "parameters is immutable; create another lease"))]
    pub parameters: BTreeMap<String, String>,
    /// Working copies: the repositories to check out. Not acted on yet: no driver of today takes repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["directory".into()]), validation = ("self == oldSelf", "repositories is immutable; create another lease"))]
    pub repositories: Vec<Repository>,
    /// Who is to use the environment: subjects as in RBAC, for templates that bind them. They are taken as they are
    /// written. To be named here gives nobody more than the roles that the Blueprint's author has put into a template, and
    /// that its service account may bind; a group like system:masters gets those, and gives none of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = ("self == oldSelf", "subjects is immutable; create another lease"))]
    pub subjects: Vec<Subject>,
    /// From -1000 to 1000: a higher one is served first; cut to the Blueprint's `lease.maxPriority`. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// How long to wait for a resource before giving up, as in 10m. `0s`: take what is free now, or give up. Default: for
    /// ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "queueTimeout is immutable; create another lease"))]
    pub queue_timeout: Option<Duration>,
    /// How long the lease lives once it is active, as in 1h30m. Default: the Blueprint's `lease.defaultTTL`, where `expiresAt` is
    /// left out too. Cut to the Blueprint's `lease.maxTTL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "ttl is immutable; append the command Expires, or move expiresAt"))]
    pub ttl: Option<Duration>,
    /// The instant at which the lease ends, also while it still waits, as in 2026-11-23T18:00:00Z. Moving it counts as a
    /// command `Expires` at the moment it is seen, but it is cut to the maximum instead of refused. Default: what `ttl`
    /// gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<MicroTime>,
    /// Without a change of `heartbeat` for so long the lease is released, also while it waits. Counted from when the controller
    /// sees the change: after a restart it is late, and never early. Default: none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "heartbeatTimeout is immutable; create another lease"))]
    pub heartbeat_timeout: Option<Duration>,
    /// Any text; each change of it is a sign of life, where `heartbeatTimeout` asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub heartbeat: Option<String>,
    /// How long the object is kept after it was destroyed; at most 168h. Default: 1h.
    #[serde(default, rename = "ttlAfterDestroyed", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) <= duration('168h')", "ttlAfterDestroyed is at most 168h; set a shorter time"))]
    pub ttl_after_destroyed: Option<Duration>,
    /// The command queue, at most 64 long. Append to it, with `kubectl patch --type=json` and the path
    /// `/spec/commands/-` or by server-side apply; what came of a command is in `status.commands`. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 80))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["id".into()]),
        validation = ("self.size() <= 64", "the queue is full (64): remove commands that status.commands shows consumed, or wait until the controller has consumed some, and append again"),
        validation = ("self.all(c, c.type != 'Reclaim')", "Reclaim is for Resources; to give a lease back append Release")
    )]
    pub commands: Vec<Command>,
}

/// Names a Blueprint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlueprintName {
    /// Its namespace. Default: the lease's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One repository of a working copy.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = ("[has(self.branch), has(self.commit), has(self.tag), has(self.ref)].filter(x, x).size() <= 1", "at most one of branch, commit, tag and ref; leave the others out"))]
pub struct Repository {
    /// The folder of the working copy that it is checked out to.
    #[schemars(length(max = 100), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"))]
    pub directory: String,
    /// Where it is cloned from.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
    /// The branch to check out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub branch: Option<String>,
    /// The tag to check out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub tag: Option<String>,
    /// The commit to check out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub commit: Option<String>,
    /// The ref to check out.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub ref_: Option<String>,
    /// Refs to merge into it, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub merges: Vec<String>,
    /// The one whose folder the lease's interface points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
}

/// A user, group or service account, as in RBAC.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// `rbac.authorization.k8s.io` for users and groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub api_group: Option<String>,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The namespace of a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

// The arrows between them are in api.md, section 2.
/// Where a lease is in its life.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeasePhase {
    /// It waits for a resource.
    #[default]
    Pending,
    /// It is bound to a resource, which is being made ready for it.
    Acquired,
    /// It is held.
    Active,
    /// It is over; what it left is being torn down.
    Released,
    /// It failed for good; what it left is being torn down.
    Broken,
    /// All of it is gone. The object goes after `ttlAfterDestroyed`.
    Destroyed,
}

/// Names the Resource that a lease is bound to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct ResourceRef {
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID: a namesake inherits nothing.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// What has become of the request. Written by the lease's reconciler only. No status yet reads as Pending.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    /// Where the lease is in its life. `Pending`: it waits for a resource. `Acquired`: it has one, which is being made
    /// ready for it. `Active`: it is held. `Released`, `Broken`: it is over, and what it left is being torn down.
    /// `Destroyed`: all of it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<LeasePhase>")]
    pub phase: Option<Recorded<LeasePhase>>,
    /// `Acquired`, `Ready`, `Released`, `TornDown`, and `Settled`, which is True when there is nothing more to wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What it waits for, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub deadlines: Vec<Deadline>,
    /// When the lease ends, with every maximum counted in; absent while it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<MicroTime>,
    /// The best place that a waiting lease has in any queue, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i64>,
    /// Decides the order among leases of one second: the resourceVersion at which the controller first saw the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub queue_ticket: Option<String>,
    // The fence of protocol.md, raised by its rules L4 and L5.
    /// Counts what was granted to the lease and lost again: a grant to an earlier attempt is void.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub attempt: i64,
    /// How often the lease came back from Acquired; at the Blueprint's `lease.maxAttempts` it is Broken.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub returns: i64,
    /// The Resource that it is bound to, or was when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_ref: Option<ResourceRef>,
    /// When it was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquired_at: Option<MicroTime>,
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
    /// The `spec.expiresAt` that was taken into account; another one is an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_seen: Option<MicroTime>,
    /// The last applied `Expires` or edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
    /// How often the end was moved later while active; at most the Blueprint's `lease.maxExtensions`.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub extensions: i64,
    /// The ledger: which commands were consumed, and what came of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub commands: Vec<LedgerEntry>,
}

pub(super) fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl LeaseStatus {
    /// Where the lease is in its life. A phase of another version is read as the one that the times speak of.
    pub fn phase(&self) -> LeasePhase {
        match self.phase {
            Some(Recorded::Known(phase)) => phase,
            None => LeasePhase::Pending,
            Some(Recorded::Unknown(_)) if self.destroyed_at.is_some() => LeasePhase::Destroyed,
            Some(Recorded::Unknown(_)) if self.released_at.is_some() => LeasePhase::Released,
            Some(Recorded::Unknown(_)) if self.activated_at.is_some() => LeasePhase::Active,
            Some(Recorded::Unknown(_)) if self.acquired_at.is_some() => LeasePhase::Acquired,
            Some(Recorded::Unknown(_)) => LeasePhase::Pending,
        }
    }
}

impl Lease {
    /// Where the lease is in its life; Pending before its first status.
    pub fn phase(&self) -> LeasePhase {
        self.status.as_ref().map_or(LeasePhase::Pending, LeaseStatus::phase)
    }

    /// The fence of its claims; 0 before its first status.
    pub fn attempt(&self) -> i64 {
        self.status.as_ref().map_or(0, |s| s.attempt)
    }

    /// The Resource that it is bound to.
    pub fn resource_ref(&self) -> Option<&ResourceRef> {
        self.status.as_ref().and_then(|s| s.resource_ref.as_ref())
    }
}
