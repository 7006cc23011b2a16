//! The driver `objects`: environments made of Kubernetes objects, from templates, with the rights of a service account of
//! the Blueprint's namespace. Each object is on record before it is made, and seen gone before the next is removed
//! (design.md, 7; api.md, 6).

mod accounts;
mod create;
mod definitions;
mod kinds;
mod live;
mod make;
mod plan;
mod proof;
mod ready;
mod record;
mod remove;
mod sites;
mod snapshot;
mod space;
mod throttle;
mod volumes;
mod why;

use super::{Attachment, Driver, Trouble, Warn, Work};
use crate::{
    api::{
        Blueprint, Failure,
        step::{Answer, EffectKey, FreeSteps, Observed, StepKind, Wait},
    },
    expression::EvaluatorHandle,
};
use accounts::Accounts;
use futures::{FutureExt as _, future::BoxFuture};
use kinds::{Kind, Kinds, Known};
use kube::{Api, Client, api::ObjectMeta};
use live::Live;
use plan::Plan;
pub use plan::{empty, of_nobody, without_data};
use proof::Prover;
use record::{Made, Record};
use serde_json::Value;
use snapshot::Snapshot;
use space::Space;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::Hasher as _,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::OwnedMutexGuard;

/// The driver's name.
const NAME: &str = "objects";
/// As whom the API server accounts for the fields that are set here.
const NAME_AS_MANAGER: &str = "drydock";
/// A request that takes longer is given up; whether it was carried out is then looked at.
const REQUEST: Duration = Duration::from_secs(30);
/// How much is remembered of what is over: keys that were torn down, news that were told.
const REMEMBERED: usize = 16_384;

/// See the module.
pub struct Objects {
    evaluator: EvaluatorHandle,
    workshop: OnceLock<Arc<Workshop>>,
}

type Plans = BTreeMap<String, (Option<i64>, Result<Arc<Plan>, Trouble>)>;

/// Where the objects are made: what the calls share.
struct Workshop {
    evaluator: EvaluatorHandle,
    accounts: Arc<Accounts>,
    kinds: Arc<Kinds>,
    prover: Prover,
    live: Arc<Live>,
    /// For filled templates.
    space: Space,
    warn: Warn,
    wake: Arc<dyn Fn(&str) + Send + Sync>,
    /// By the UID of the Blueprint.
    plans: Mutex<Plans>,
    /// Blueprints with an expression that was too slow, by UID: in which generation, and which.
    slow: Mutex<BTreeMap<String, (Option<i64>, String)>>,
    keys: Mutex<Keys>,
    /// Changes that were told, by the object's UID.
    told: Mutex<BTreeMap<String, Option<String>>>,
}

/// Which keys may be made under.
#[derive(Default)]
struct Keys {
    /// Under each of these a request may be under way.
    open: BTreeMap<EffectKey, Arc<tokio::sync::Mutex<()>>>,
    /// Torn down: nothing is made under them any more (protocol.md, D1).
    closed: BTreeSet<EffectKey>,
    in_order: VecDeque<EffectKey>,
}

impl Objects {
    /// One that evaluates expressions by this.
    pub fn new(evaluator: EvaluatorHandle) -> Self {
        Self { evaluator, workshop: OnceLock::new() }
    }

    /// Calls the workshop, once the driver is attached to a controller.
    fn call<T, F>(&self, call: impl FnOnce(Arc<Workshop>) -> F, unattached: T) -> BoxFuture<'static, T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        match self.workshop.get() {
            Some(workshop) => call(workshop.clone()).boxed(),
            None => futures::future::ready(unattached).boxed(),
        }
    }
}

impl Driver for Objects {
    fn name(&self) -> &'static str {
        NAME
    }

    fn attach(&self, Attachment { client, key_secret, warn, wake }: Attachment) {
        // The first controller that it is attached to is its own.
        let _ = self.workshop.set(Arc::new(Workshop {
            evaluator: self.evaluator.clone(),
            accounts: Arc::new(Accounts::new(client.clone())),
            kinds: Arc::new(Kinds::new(client.clone())),
            prover: Prover::new(client, key_secret),
            live: Arc::new(Live::new(wake.clone())),
            space: Space::default(),
            warn,
            wake,
            plans: Mutex::default(),
            slow: Mutex::default(),
            keys: Mutex::default(),
            told: Mutex::default(),
        }));
    }

    fn check(&self, blueprint: Arc<Blueprint>) -> BoxFuture<'static, Option<Trouble>> {
        self.call(|workshop| async move { workshop.plan(&blueprint).await.err() }, None)
    }

    /// A lease without objects of its own, and of which nothing is asked, has nothing to be made or removed.
    fn free_steps(&self, blueprint: Option<&Blueprint>, record: Option<&Value>) -> FreeSteps {
        let driver = blueprint.and_then(|b| b.spec.driver.objects.as_ref());
        let names_lease = |text: &String| text.contains("lease");
        let nothing_to_do = driver.is_some_and(|driver| {
            driver.lease_templates.is_empty()
                && ![&driver.ready_when, &driver.failed_when].into_iter().flatten().any(names_lease)
                && !driver.outputs.values().any(names_lease)
        });
        let recorded = record.map(|r| r.get("objects").and_then(Value::as_array).is_some_and(|o| !o.is_empty()));
        FreeSteps {
            activate: nothing_to_do && recorded != Some(true),
            tear_down_lease: recorded.map_or(nothing_to_do, |recorded| !recorded),
            ..FreeSteps::default()
        }
    }

    fn template_hash(&self, blueprint: &Blueprint) -> String {
        let driver = blueprint.spec.driver.objects.as_ref();
        let lease_kinds = |d: &crate::api::blueprint::ObjectsDriver| -> BTreeSet<Kind> {
            d.lease_templates.iter().map(plan::kind_of).collect()
        };
        let of = driver.map(|d| (&d.service_account_name, &d.templates, &d.outputs, lease_kinds(d)));
        let text = serde_json::to_string(&(of, &blueprint.spec.attributes, &blueprint.spec.resource.parameters));
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(text.unwrap_or_default().as_bytes());
        format!("{:016x}", hasher.finish())
    }

    fn allocate(&self, work: Work) -> BoxFuture<'static, Value> {
        let nothing = serde_json::json!({"driver": NAME});
        self.call(|workshop| async move { workshop.allocate_record(&work).await }, nothing)
    }

    fn build(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.call(|workshop| workshop.make(work), unattached())
    }

    fn activate(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.call(|workshop| workshop.make(work), unattached())
    }

    fn tear_down_lease(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.call(|workshop| workshop.remove(StepKind::TearDownLease, work), unattached())
    }

    fn tear_down_resource(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.call(|workshop| workshop.remove(StepKind::TearDownResource, work), unattached())
    }

    fn is_over(&self, uid: &str) {
        if let Some(workshop) = self.workshop.get() {
            workshop.live.leave(uid);
            lock(&workshop.plans).remove(uid);
            lock(&workshop.slow).remove(uid);
        }
    }

    fn observe(&self, work: Work) -> BoxFuture<'static, Option<Observed>> {
        self.call(|workshop| workshop.look_after(work), None)
    }
}

/// Whether it is `readyWhen` or `failedWhen` that a message on a slow expression names. Those only decide how long something
/// is waited for: nothing fails by them.
fn is_of_question(message: &str) -> bool {
    ["readyWhen", "failedWhen"].iter().any(|field| message.starts_with(&format!("spec.driver.objects.{field}:")))
}

fn unattached() -> Answer {
    Answer::Again(Wait::after(crate::api::Duration::from_secs(1)))
}

impl Workshop {
    fn client(&self, record: &Record) -> Result<Client, kube::Error> {
        self.accounts.client(&record.account)
    }

    /// Blueprints of one namespace wait for each other's expressions only.
    fn evaluator_of(&self, blueprint: &Blueprint) -> EvaluatorHandle {
        self.evaluator.of_tenant(blueprint.metadata.namespace.as_deref().unwrap_or_default())
    }

    fn world(&self) -> (Arc<Accounts>, Arc<Kinds>) {
        (self.accounts.clone(), self.kinds.clone())
    }

    /// Reads an object that was made. What was in a namespace is gone with it, though its account may not look there then.
    async fn read_made(&self, client: &Client, record: &Record, made: &Made) -> Result<Option<Snapshot>, kube::Error> {
        let mut told_missing = false;
        loop {
            let Some(known) = self.kinds.whereabouts(client, &made.kind).await? else { return Ok(None) };
            let namespace = made.namespace.as_deref().unwrap_or(&record.account.namespace);
            match read(&known.api(client.clone(), namespace), &made.name).await {
                Err(error) if is_missing(&error) && !told_missing => {
                    told_missing = true;
                    self.kinds.forget(&made.kind);
                }
                Err(error) if self.is_gone_with_its_namespace(&error, &known, namespace).await => return Ok(None),
                answer => return answer,
            }
        }
    }

    /// The account may not do it, and what is in the namespace goes with it: the account's rights there may have gone first.
    async fn is_gone_with_its_namespace(&self, error: &kube::Error, known: &Known, namespace: &str) -> bool {
        is_forbidden(error) && known.namespaced && self.accounts.is_namespace_going(namespace).await
    }

    /// The plan of a Blueprint, parsed once for each generation; or what is wrong with it.
    async fn plan(&self, blueprint: &Blueprint) -> Result<Arc<Plan>, Trouble> {
        let uid = blueprint.metadata.uid.clone().unwrap_or_default();
        let generation = blueprint.metadata.generation;
        if let Some(message) = self.slow_in(&uid, blueprint) {
            return Err(Trouble { reason: "ExpressionTooSlow", message });
        }
        if let Some((of, plan)) = lock(&self.plans).get(&uid)
            && *of == generation
        {
            return plan.clone();
        }
        let Some(driver) = &blueprint.spec.driver.objects else {
            return Err(Trouble { reason: "InvalidExpression", message: "spec.driver.objects is missing".into() });
        };
        let plan = Plan::of(blueprint, driver, &*self.evaluator_of(blueprint)).await.map(Arc::new);
        let mut plans = lock(&self.plans);
        if plans.len() >= REMEMBERED {
            plans.clear();
        }
        plans.insert(uid, (generation, plan.clone()));
        plan
    }

    /// An expression that was too slow in this generation: as this process has seen, or as is on record.
    fn slow_in(&self, uid: &str, blueprint: &Blueprint) -> Option<String> {
        let generation = blueprint.metadata.generation;
        if let Some((_, message)) = lock(&self.slow).get(uid).filter(|(of, _)| *of == generation) {
            return Some(message.clone());
        }
        let status = blueprint.status.as_ref().filter(|status| status.observed_generation == generation)?;
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready" && c.reason == "ExpressionTooSlow")?;
        Some(ready.message.clone())
    }

    /// It is not run again until the Blueprint changes.
    fn is_too_slow(&self, blueprint: &Blueprint, message: String) {
        let uid = blueprint.metadata.uid.clone().unwrap_or_default();
        let mut slow = lock(&self.slow);
        if slow.len() >= REMEMBERED {
            // It is on record, too.
            slow.clear();
        }
        slow.insert(uid.clone(), (blueprint.metadata.generation, message));
        drop(slow);
        (self.wake)(&uid);
    }

    /// Tells, once for each, that something is removed that was left of what is over: its teardown was written off by the command
    /// Forget, or it was created late. Nothing of Drydock's goes without a word.
    fn tell_of_leftover(&self, work: &Work, kind: &Kind, left: &ObjectMeta) {
        let Some(resource) = &work.resource else { return };
        let uid = left.uid.clone().unwrap_or_default();
        let name = left.name.clone().unwrap_or_default();
        let made = Made { kind: kind.clone(), namespace: left.namespace.clone(), name, uid: Some(uid), fields: None };
        if self.is_news(&made, Some("it is left over")) {
            let message = format!(
                "{} was left of what Drydock has ended here before, by the command Forget or by a request that came late: it is \
                 removed now; to keep such an object, take the label {} off it",
                made.told(),
                plan::OWNER
            );
            (self.warn)(&resource.metadata, "LeftoverRemoved", message);
        }
    }

    /// Whether this was not told yet of this object.
    fn is_news(&self, made: &Made, fields: Option<&str>) -> bool {
        let mut told = lock(&self.told);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        let now = fields.map(str::to_owned);
        told.insert(made.uid.clone().unwrap_or_default(), now.clone()) != Some(now)
    }

    /// Leave to ask for something under a key, for as long as it is held; none, where the key was torn down.
    async fn open(&self, key: &EffectKey) -> Option<OwnedMutexGuard<()>> {
        let one_at_a_time = {
            let mut keys = lock(&self.keys);
            if keys.closed.contains(key) {
                return None;
            }
            keys.open.entry(key.clone()).or_default().clone()
        };
        let guard = one_at_a_time.lock_owned().await;
        (!lock(&self.keys).closed.contains(key)).then_some(guard)
    }

    /// Nothing is asked for under a key from now on; returns when what was is over.
    async fn close(&self, key: &EffectKey) {
        let under_way = {
            let mut keys = lock(&self.keys);
            if keys.closed.insert(key.clone()) {
                keys.in_order.push_back(key.clone());
            }
            if keys.in_order.len() > REMEMBERED
                && let Some(oldest) = keys.in_order.pop_front()
            {
                keys.closed.remove(&oldest);
            }
            keys.open.get(key).cloned()
        };
        if let Some(under_way) = under_way {
            drop(under_way.lock_owned().await);
            // Only now: whoever closes it anew, this teardown having been cut off, waits as well.
            lock(&self.keys).open.remove(key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request, given up after a while.
async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = |_| kube::Error::Service(format!("no answer within {REQUEST:?}").into());
    tokio::time::timeout(REQUEST, request).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// The account may not do it.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// The object, or its kind, is not there.
fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Reads an object. It is not there only by the API server's word on itself: that there is no such path says nothing of it.
async fn read<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match in_time(api.get(name)).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if crate::api::is_not_found(&status, name) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The API server has no such kind.
fn is_unknown_kind(error: &kube::Error) -> bool {
    is_missing(error) || matches!(error, kube::Error::Discovery(_))
}

fn failure(kind: StepKind, reason: &str, message: String) -> Answer {
    let step = kind.as_str().to_owned();
    Answer::Failed(Failure { step, reason: reason.into(), message, ..Failure::default() })
}

fn for_good(kind: StepKind, reason: &str, message: String) -> Answer {
    let step = kind.as_str().to_owned();
    Answer::FailedForGood(Failure { step, reason: reason.into(), message, ..Failure::default() })
}

/// What the API server said, without what it is wrapped in.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => said(status),
        other => other.to_string(),
    }
}

/// The words of a refusal; of one that is not the account's but the controller's own, with what to do about it.
fn said(status: &kube::core::Status) -> String {
    // Kubernetes has several sentences for it: `cannot impersonate resource …`, `cannot impersonate-on:serviceaccount:create …`.
    if status.message.contains("cannot impersonate") {
        return format!(
            "{}; let the controller act as accounts of this namespace: add the namespace to impersonation.namespaces of the chart, or \
             give the controller's account the verb impersonate on serviceaccounts there",
            status.message
        );
    }
    status.message.clone()
}

/// A text as it fits into a condition: cut here, so that the same is told as the same.
fn brief(text: String) -> String {
    match text.char_indices().nth(800) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What a refused request means: for good only where the same request can never be taken.
fn refused(kind: StepKind, error: &kube::Error) -> Answer {
    if let Some(wait) = throttle::retry_after(error) {
        // It says nothing of what was asked for: no attempt has failed.
        let why = brief(format!("the API server asks to try again after {wait}: {}", words(error)));
        return Answer::Again(Wait { why, ..Wait::after(wait) });
    }
    match error {
        kube::Error::Api(status) => {
            let reason = if status.reason.is_empty() { "Refused" } else { status.reason.as_str() };
            match status.code {
                400 | 405 | 406 | 413 | 415 | 422 => for_good(kind, reason, said(status)),
                _ => failure(kind, reason, said(status)),
            }
        }
        other => failure(kind, "Unreachable", other.to_string()),
    }
}
