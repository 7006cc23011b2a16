//! The kind `Blueprint`: how a kind of environment is built, how many, for whom and for how long.

use super::{
    common::{Condition, LocalSecretRef, Selector},
    schema,
    time::{Duration, MicroTime},
    word::{Word, known_words},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a kind of environment is built, how many, for whom and for how long.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "drydock.dev", version = "v1alpha1", kind = "Blueprint", plural = "blueprints", singular = "blueprint", namespaced,
    shortname = "dbp", category = "drydock", status = "BlueprintStatus", derive = "PartialEq", derive = "Default",
    doc = "How a kind of environment is built, how many, for whom and for how long. Deleting it drains it: idle resources go at once, leased ones when their leases end.",
    selectable = ".spec.resourceType",
    scale(
        spec_replicas_path = ".spec.limits.minReady",
        status_replicas_path = ".status.resources.idle",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.resourceType"),
    printcolumn(name = "Leased", type_ = "integer", json_path = ".status.resources.leased"),
    printcolumn(name = "Idle", type_ = "integer", json_path = ".status.resources.idle"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && !self.metadata.name.contains('.') && !self.metadata.name.contains('--')")
        .message("metadata.name: a Blueprint's name is a DNS label of at most 40 characters without `--`; choose another name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.limits.maxResources) || !(has(self.driver.objects) || has(self.driver.workingCopy) || has(self.driver.webhook))", "limits.maxResources is required, but for hosts, which are limited by their inventory; set it"),
    validation = ("self.lease.recycle != 'Destroy' || self.limits.leasesPerResource == 1", "lease.recycle: Destroy needs limits.leasesPerResource: 1; set that, or Reuse"),
    validation = ("!has(self.driver.objects) || ((!has(self.driver.objects.templates) || self.driver.objects.templates.all(t, !t.apiVersion.startsWith('drydock.dev/'))) && (!has(self.driver.objects.leaseTemplates) || self.driver.objects.leaseTemplates.all(t, !t.apiVersion.startsWith('drydock.dev/'))))", "driver.objects: templates and leaseTemplates may not make objects of drydock.dev; leave them out")
)]
pub struct BlueprintSpec {
    /// The kind of environment that leases ask for.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    #[x_kube(validation = ("self == oldSelf", "resourceType is immutable; create another Blueprint"))]
    pub resource_type: String,
    /// True: begins no build and grants nothing; a build that has begun goes on, and what is leased stays. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// The namespaces whose leases are served.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// What selectors of leases see on each of its resources; a host's own attributes win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub attributes: BTreeMap<String, String>,
    /// How many resources there may be, and how many leases on them.
    #[serde(default)]
    pub limits: Limits,
    /// Which of several resources with room a lease gets, where `limits.leasesPerResource` is above 1. `Pack`: the
    /// fullest. `Spread`: the emptiest. Default: `Pack`.
    #[serde(default)]
    pub placement: Placement,
    /// What holds for its leases.
    #[serde(default)]
    pub lease: LeasePolicy,
    /// What holds for its resources.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resource: ResourcePolicy,
    /// The question at a deadline: should this really expire? It is asked of a lease's end while it is active, and of a
    /// resource's end and idle time; never of `lease.maxTTL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<ExpiryPolicy>,
    /// How it is built: exactly one of `hosts`, `objects`, `workingCopy` and `webhook`.
    pub driver: Driver,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The namespaces whose leases are served.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = ("(self.from == 'Selector') == has(self.selector)", "allowedNamespaces.selector goes with from: Selector, and only with it; set both, or leave the selector out"))]
pub struct AllowedNamespaces {
    /// `Same`: the Blueprint's own namespace. `All`: any. `Selector`: those whose labels `selector` matches. Default:
    /// `Same`.
    #[serde(default)]
    pub from: From,
    /// With `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// Where leases may come from.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// The Blueprint's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces that the selector matches.
    Selector,
    /// Another version's: as `Same`, the narrowest.
    #[serde(untagged)]
    Unknown(Word),
}

known_words!(From: Same, All, Selector);

/// How many resources there may be, and how many leases on them.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.maxResources) || self.minReady <= self.maxResources", "limits.minReady must not exceed limits.maxResources; lower it, or raise limits.maxResources"))]
pub struct Limits {
    /// How many resources there may be that are not yet destroyed. Where it is lowered nothing leased is touched: the pool
    /// shrinks as leases end. Required unless the driver is `hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_resources: Option<i64>,
    /// How many idle resources are kept ready for whoever comes next, with the parameters in `resource.defaults`;
    /// `kubectl scale` sets it. Never more than `maxResources`; `resource.idleTTL` takes only what is above it. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub min_ready: i64,
    /// How many are built at once, where building has effects outside: it does not bind `hosts`. What is being torn down is
    /// no build. Default: 4.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_concurrent_builds: i64,
    /// How many leases one resource holds at once, at most 64. A higher number counts for resources that become active
    /// afterwards; for a host once nobody holds it. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub leases_per_resource: i64,
    /// How many leases of one namespace may hold its resources at once. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100000))]
    pub max_leases_per_namespace: Option<i64>,
}

fn one() -> i64 {
    1
}

fn four() -> i64 {
    4
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_resources: None,
            min_ready: 0,
            max_concurrent_builds: four(),
            leases_per_resource: one(),
            max_leases_per_namespace: None,
        }
    }
}

/// Which of several resources with room a lease gets.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The fullest.
    #[default]
    Pack,
    /// The emptiest.
    Spread,
    /// Another version's: any of them.
    #[serde(untagged)]
    Unknown(Word),
}

known_words!(Placement: Pack, Spread);

/// What holds for the leases of a Blueprint.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.defaultTTL) || !has(self.maxTTL) || duration(self.defaultTTL) <= duration(self.maxTTL)", "lease.defaultTTL must not exceed lease.maxTTL; lower it, or raise lease.maxTTL"))]
pub struct LeasePolicy {
    /// How long a lease lives that gives neither `ttl` nor `expiresAt`, as in 1h30m. Default: for ever.
    #[serde(default, rename = "defaultTTL", skip_serializing_if = "Option::is_none")]
    pub default_ttl: Option<Duration>,
    /// How long a lease lives at most, from when it became active. Default: no maximum.
    #[serde(default, rename = "maxTTL", skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Duration>,
    /// How often a lease's end may be moved later while it is active. Default: any number of times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_extensions: Option<i64>,
    /// How long a released lease is kept for a look at most, where its `Release` asks for a `hold`. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_hold: Option<Duration>,
    /// The highest priority that counts; a lease's higher one is cut to it. Default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub max_priority: Option<i32>,
    /// How many activations a lease gets in all, when resources die under it. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<i64>,
    /// How long a lease may take from acquired to active. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_timeout: Option<Duration>,
    /// What becomes of a resource when its lease has ended. `Reuse`: it serves the next. `Destroy`: it is torn down, and
    /// the next lease gets a new one; needs `limits.leasesPerResource: 1`. A resource that was leased under `Destroy` is
    /// destroyed, whatever is set here by then. Default: `Reuse`.
    #[serde(default)]
    pub recycle: Recycle,
}

/// What becomes of a resource when its lease has ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recycle {
    /// It serves the next lease.
    #[default]
    Reuse,
    /// It is torn down; the next lease gets a new one.
    Destroy,
    /// Another version's: as `Destroy`, which isolates most.
    #[serde(untagged)]
    Unknown(Word),
}

known_words!(Recycle: Reuse, Destroy);

/// What holds for the resources of a Blueprint.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePolicy {
    /// How long a resource lives, its leases with it, from when it became active. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// How long a resource stays that nobody holds, and that is not one of `limits.minReady`: the longest idle goes first.
    /// Default: for ever.
    #[serde(default, rename = "idleTTL", skip_serializing_if = "Option::is_none")]
    pub idle_ttl: Option<Duration>,
    /// How long a resource must be unused before `Reclaim` takes it: a command of yours, or of the controller, where the pool
    /// is full, a lease waits, and the resource fits no waiting lease. A resource that fits only leases behind the first one
    /// in the queue is released for that first lease as soon as nobody holds it: at once if its priority is higher, else
    /// after 8 grants to others. Default: 3m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_after: Option<Duration>,
    /// How long a build may take. Default: 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_timeout: Option<Duration>,
    /// How long one attempt at a teardown may take, of a resource or of a lease on it. Default: 15m; at least 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teardown_timeout: Option<Duration>,
    /// The parameters of leases that a resource is built from. Default: none, all are alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::parameter_names")]
    pub parameters: Vec<String>,
    /// The values of those parameters for leases that give none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::parameter_defaults")]
    pub defaults: BTreeMap<String, String>,
}

/// The question at a deadline: should this really expire?
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExpiryPolicy {
    /// A CEL expression over `now`, `resource` and, at the end of a lease, `lease`: where it is true at the deadline nothing
    /// expires yet, as in `has(lease.spec.heartbeat) && lease.spec.heartbeat == 'busy'`. An error declines nothing; an
    /// expression over 100 ms makes the Blueprint `Ready=False/ExpressionTooSlow`, and is not run again until it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub unless: Option<String>,
    /// So long after a deadline was declined it is asked again. Default: 1m; at least 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

/// How environments are built and torn down: exactly one driver, and which one is immutable.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.hosts), has(self.objects), has(self.workingCopy), has(self.webhook)].filter(x, x).size() == 1", "driver takes exactly one of hosts, objects, workingCopy and webhook; set one"),
    validation = ("has(self.hosts) == has(oldSelf.hosts) && has(self.objects) == has(oldSelf.objects) && has(self.workingCopy) == has(oldSelf.workingCopy) && has(self.webhook) == has(oldSelf.webhook)", "driver: which of hosts, objects, workingCopy and webhook a Blueprint has is immutable; create another Blueprint")
)]
pub struct Driver {
    /// An inventory of machines, or of any named things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostsDriver>,
    /// Kubernetes objects made from templates: a namespace, a Pod, any custom resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsDriver>,
    /// Checked-out working copies on leased hosts. Not acted on yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_copy: Option<WorkingCopyDriver>,
    /// A driver of one's own, over HTTPS. Not acted on yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookDriver>,
}

/// An inventory of machines, or of any named things: one resource an entry.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HostsDriver {
    /// The entries. One that is removed or disabled is drained; a changed one is made anew once its leases have ended.
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub inventory: Vec<Host>,
    /// The Secret of the Blueprint's namespace with the credentials, for entries that name none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalSecretRef>,
}

/// One machine, or one named thing: a board, an account, a licence.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Its name, the slot in its Resource's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    pub name: String,
    /// Its host name or address. Left out: a thing that nobody connects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub address: Option<String>,
    /// Its port. Default: 22, where there is an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub user: Option<String>,
    /// What selectors of leases see, over the Blueprint's own. Each host has the attribute `drydock.dev/name` with its name,
    /// whatever is given here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub attributes: BTreeMap<String, String>,
    /// The keys by which it is known, as in `known_hosts` without the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::host_keys")]
    pub host_keys: Vec<String>,
    /// True: no new leases; leases that it has keep it until they end. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Facts that are given to its leases, as `status.outputs`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::entry_outputs")]
    pub outputs: BTreeMap<String, String>,
    /// The Secret of the Blueprint's namespace with its credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalSecretRef>,
}

/// Kubernetes objects made from templates, in their order, and removed in the reverse one. `${…}` in a text of a template,
/// or of `outputs`, is a CEL expression of at most 1,024 bytes, `$${` the text `${`; a text that is one `${…}` and nothing
/// else takes the type of its value. Values are never read as expressions again. Expressions may name `blueprint` (its
/// name, namespace and uid, `spec.resourceType` and `spec.attributes`), `resource` (the same of it, `spec.parameters`,
/// `spec.requestedFor`, and `status.outputs`), and where it says so `lease` (metadata, spec, `status.attempt`) and
/// `objects` (the live objects, without what Secrets hold). What one expression is evaluated over has at most 64 KiB.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsDriver {
    /// The service account of the Blueprint's namespace as which everything is made, looked at and removed: what it may
    /// not do no template can. Whoever names it needs the right to `impersonate` it, and so does whoever later changes
    /// the driver, `attributes`, `resource.parameters` or `resource.defaults`, raises `limits.leasesPerResource`, sets
    /// `lease.recycle` from `Destroy` to `Reuse`, or changes `allowedNamespaces`.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub service_account_name: String,
    /// What lives and dies with the resource. Expressions may name `resource` and `blueprint`. An object that is there
    /// already is never adopted: the build fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::templates")]
    pub templates: Vec<serde_json::Value>,
    /// What lives and dies with each lease. Expressions may name `lease`, `resource` and `blueprint`. What a lessee writes
    /// into a lease may end up in these objects: give the service account no right that no lessee should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::templates")]
    pub lease_templates: Vec<serde_json::Value>,
    /// A CEL expression that says when the objects are ready: true or false. It may name `objects`, `resource` and
    /// `blueprint`; one that names `lease` is asked for each lease, where the objects of `templates` come first in
    /// `objects`, those of `leaseTemplates` after them. An error means not ready, and is told. Default: they are ready
    /// once they are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub ready_when: Option<String>,
    /// A CEL expression that says when the objects cannot become ready any more: true or false. It may name what `readyWhen`
    /// may, and is asked when that is. Where it is true the build, or the activation of the lease, is given up at once and
    /// for good, with what the objects say of themselves. An error means that they have not failed, and is told. Default:
    /// they are waited for until `resource.buildTimeout`, or `lease.activationTimeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub failed_when: Option<String>,
    /// Facts that are given to the lease as `status.outputs`, once all is ready: texts of at most 1,024 characters with
    /// `${…}` in them, which may name `objects`, `resource`, `blueprint` and `lease`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::outputs")]
    pub outputs: BTreeMap<String, String>,
}

/// Checked-out working copies on leased hosts. Not acted on yet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkingCopyDriver {
    /// The Blueprints that hosts are leased from.
    #[schemars(length(max = 16))]
    pub host_blueprints: Vec<HostBlueprint>,
    /// The folder on the host under which working copies are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub root: Option<String>,
    /// How long a clone may take. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_timeout: Option<Duration>,
    /// How long any other step may take. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_timeout: Option<Duration>,
}

/// Names a Blueprint of hosts in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct HostBlueprint {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A driver of one's own, over HTTPS. Not acted on yet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDriver {
    /// Where it is.
    pub client_config: WebhookClientConfig,
    /// The Secret of the Blueprint's namespace with the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalSecretRef>,
    /// How long one call may take. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// Where a webhook is, and how it is known.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookClientConfig {
    /// An `https` URL.
    #[schemars(length(max = 2048), regex(pattern = "^https://"))]
    pub url: String,
    /// The certificates that sign the server's, as PEM in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536), extend("format" = "byte"))]
    pub ca_bundle: Option<String>,
}

/// How the pool stands. Written by the blueprint's reconciler only, at most every 5 s.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BlueprintStatus {
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that the rest speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many resources there are.
    #[serde(default)]
    pub resources: ResourceCounts,
    /// How many leases wait for it.
    #[serde(default)]
    pub waiting: i64,
    /// What selects its Resources by their labels, as the scale subresource shows it: autoscalers refuse a target without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub selector: Option<String>,
    /// After builds that failed: when the next may begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_build_at: Option<MicroTime>,
}

/// How many resources a Blueprint has, by what they are doing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceCounts {
    /// Being built.
    #[serde(default)]
    pub pending: i64,
    /// Active: idle and leased ones.
    #[serde(default)]
    pub active: i64,
    /// Active, with a claim.
    #[serde(default)]
    pub leased: i64,
    /// Active, without a claim.
    #[serde(default)]
    pub idle: i64,
    /// Released, not yet destroyed.
    #[serde(default)]
    pub released: i64,
    /// Broken, not yet destroyed.
    #[serde(default)]
    pub broken: i64,
}
