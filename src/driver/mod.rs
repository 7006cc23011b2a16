//! How things are built and torn down: the trait, and one file a driver. A driver gets values and returns values; it never
//! sees a client for our API group, and never writes it. Knows `api` and `expression` only.

pub mod hosts;
pub mod objects;

use crate::{
    api::{
        Blueprint, Lease, Resource,
        step::{Answer, EffectKey, FreeSteps, HookKind, Moves, Observed, Slot, Verdict},
    },
    expression::{self, EvaluatorHandle},
};
use futures::{FutureExt as _, future::BoxFuture};
use kube::api::ObjectMeta;
use serde_json::Value;
use std::sync::Arc;

/// What a driver is given for one step: the objects as values, and the key under which the effect is done once.
#[derive(Clone, Debug)]
pub struct Work {
    /// The key (protocol.md, D1). After a teardown of a key is done, a late call of the same key must do nothing; and a
    /// teardown touches only what its key owns, never whatever is there (D2).
    pub key: EffectKey,
    /// The resource, as it is on record; `None` where it is gone and only its key is left.
    pub resource: Option<Arc<Resource>>,
    /// Its Blueprint, where it is known; a teardown must not need it (api.md, 6).
    pub blueprint: Option<Arc<Blueprint>>,
    /// For a step of a lease: the lease, as it is on record; `None` where it is gone and only its key is left.
    pub lease: Option<Arc<Lease>>,
    /// What this step has said last that it waits for; it need not be said again.
    pub told: String,
}

/// What a driver finds around it when the controller starts.
#[derive(Clone)]
pub struct Attachment {
    /// The way to the API server, with the controller's own rights.
    pub client: kube::Client,
    /// The Secret with the key by which drivers prove what is theirs.
    pub key_secret: SecretName,
    /// Publishes a Warning Event about a Resource.
    pub warn: Warn,
    /// Has the Blueprint, Resource or Lease of this UID looked at: something about it has changed in the world.
    pub wake: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Publishes a Warning Event about the Resource of this metadata: its reason, and a sentence.
pub type Warn = Arc<dyn Fn(&ObjectMeta, &'static str, String) + Send + Sync>;

/// Which Secret is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Why nothing can be built from a Blueprint, before anything is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The reason of `Ready=False`.
    pub reason: &'static str,
    /// A sentence that names the field.
    pub message: String,
}

/// What every driver does. Each step is idempotent and resumable; the future is dropped when its time is over, or when the
/// step is no longer wanted.
pub trait Driver: Send + Sync {
    /// Its name, as the field of a Blueprint's `driver`.
    fn name(&self) -> &'static str;

    /// Takes what it finds around it; once, before anything else.
    fn attach(&self, attachment: Attachment) {
        let _ = attachment;
    }

    /// What is wrong with a Blueprint that its schema cannot say.
    fn check(&self, blueprint: Arc<Blueprint>) -> BoxFuture<'static, Option<Trouble>> {
        let _ = blueprint;
        futures::future::ready(None).boxed()
    }

    /// Which of its steps are free of outside effects, so that they may be taken inside one write: for this Blueprint, and
    /// for the steps of a lease by its record (`status.built`), where there is one.
    fn free_steps(&self, blueprint: Option<&Blueprint>, record: Option<&Value>) -> FreeSteps {
        let _ = (blueprint, record);
        FreeSteps::default()
    }

    /// The slots of a Blueprint, where the driver lists them; `None` is a pool of `limits.maxResources` that are all alike.
    fn slots(&self, blueprint: &Blueprint) -> Option<Vec<Slot>> {
        let _ = blueprint;
        None
    }

    /// What a resource that was built stands for in the world, where two Blueprints could mean the same.
    fn identity(&self, resource: &Resource) -> Option<String> {
        let _ = resource;
        None
    }

    /// What a Resource of a pool without a list is made from, in short.
    fn template_hash(&self, blueprint: &Blueprint) -> String {
        let _ = blueprint;
        String::new()
    }

    /// Allocates: everything that the teardown of this resource needs, or of this lease where the work has one, told
    /// before anything is begun. It is put on record as `status.built`; its `driver` is the driver's name.
    fn allocate(&self, work: Work) -> BoxFuture<'static, Value>;

    /// Builds the resource.
    fn build(&self, work: Work) -> BoxFuture<'static, Answer>;

    /// Makes the resource ready for a lease.
    fn activate(&self, work: Work) -> BoxFuture<'static, Answer>;

    /// Removes what a lease left, by its key alone.
    fn tear_down_lease(&self, work: Work) -> BoxFuture<'static, Answer>;

    /// Removes the resource, by what is on record.
    fn tear_down_resource(&self, work: Work) -> BoxFuture<'static, Answer>;

    /// Whether it has a say when a deadline of a Blueprint's resources, or of their leases, has come.
    fn has_say(&self, blueprint: &Blueprint) -> bool {
        let _ = blueprint;
        false
    }

    /// Whether what the work is about should really expire. Asked only where it has a say; one that does not answer in time
    /// has nothing against it.
    fn should_expire(&self, work: Work) -> BoxFuture<'static, Verdict> {
        let _ = work;
        futures::future::ready(Verdict::Expire).boxed()
    }

    /// Whether it wants to be told which leases its resources are granted to, and free of again.
    fn has_hooks(&self) -> bool {
        false
    }

    /// A lease is about to be granted the resource, or to be dropped from it: what is moved takes effect in that very write,
    /// and the work shows the resource as that write will leave it. It may be called more than once for it, and must have
    /// no effect outside. One that does not answer in a few seconds moves nothing.
    fn hook(&self, kind: HookKind, work: Work) -> BoxFuture<'static, Moves> {
        let _ = (kind, work);
        futures::future::ready(Moves::default()).boxed()
    }

    /// The Resource or the Lease of this UID is over, by whomever, or gone: nothing is kept or watched for it any more. It may be
    /// said more than once, and of what the driver has never heard of.
    fn is_over(&self, uid: &str) {
        let _ = uid;
    }

    /// How what was built, or activated, is by now; `None` where that is not known.
    fn observe(&self, work: Work) -> BoxFuture<'static, Option<Observed>> {
        let _ = work;
        futures::future::ready(Some(Observed::default())).boxed()
    }
}

/// The drivers that a controller has, and what it evaluates users' expressions by.
#[derive(Clone)]
pub struct Drivers {
    drivers: Vec<Arc<dyn Driver>>,
    evaluator: EvaluatorHandle,
}

impl Default for Drivers {
    /// None, and an evaluator that does everything in line.
    fn default() -> Self {
        Self { drivers: Vec::new(), evaluator: Arc::new(expression::InLine) }
    }
}

impl Drivers {
    /// Those that come with Drydock.
    pub fn standard() -> Self {
        let evaluator: EvaluatorHandle = Arc::new(expression::Threads::default());
        let objects = objects::Objects::new(evaluator.clone());
        Self { drivers: vec![Arc::new(hosts::Hosts), Arc::new(objects)], evaluator }
    }

    /// One more; the newest of a name counts.
    #[must_use]
    pub fn with(mut self, driver: Arc<dyn Driver>) -> Self {
        self.drivers.insert(0, driver);
        self
    }

    /// What expressions are evaluated by.
    pub fn evaluator(&self) -> &EvaluatorHandle {
        &self.evaluator
    }

    /// Gives each what it finds around it.
    pub fn attach(&self, attachment: &Attachment) {
        self.drivers.iter().for_each(|driver| driver.attach(attachment.clone()));
    }

    /// Tells each that an object is over.
    pub fn is_over(&self, uid: &str) {
        self.drivers.iter().for_each(|driver| driver.is_over(uid));
    }

    /// The driver that a Blueprint names.
    pub fn of_blueprint(&self, blueprint: &Blueprint) -> Option<&Arc<dyn Driver>> {
        self.named(name_in(blueprint))
    }

    /// The driver that built a resource: as its record says, and before there is one, as its Blueprint does.
    pub fn of_resource(&self, resource: &Resource, blueprint: Option<&Blueprint>) -> Option<&Arc<dyn Driver>> {
        let built = resource.status.as_ref().and_then(|s| s.built.as_ref());
        let recorded = built.and_then(|b| b.get("driver")).and_then(|d| d.as_str());
        self.named(recorded.or(blueprint.map(name_in))?)
    }

    /// The driver of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<dyn Driver>> {
        self.drivers.iter().find(|driver| driver.name() == name)
    }
}

/// The name of the driver that a Blueprint has.
pub fn name_in(blueprint: &Blueprint) -> &'static str {
    let driver = &blueprint.spec.driver;
    match () {
        () if driver.hosts.is_some() => "hosts",
        () if driver.objects.is_some() => "objects",
        () if driver.working_copy.is_some() => "workingCopy",
        () if driver.webhook.is_some() => "webhook",
        () => "none",
    }
}
