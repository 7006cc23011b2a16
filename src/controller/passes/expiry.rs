//! The question at a deadline: first the driver is asked, then `expiry.unless` of the Blueprint; either may decline. An
//! error, or no answer in time, declines nothing (api.md, 3 and 6).

use crate::{
    api::{Blueprint, Lease, MicroTime, Resource, Wish, step::Verdict},
    controller::{key::Key, shell::Shell},
    driver::{Driver, Work, objects},
    expression::{Binding, Bindings, EvaluationError, Evaluator, EvaluatorHandle, Expression},
    lifecycle::{
        EventDraft, EventKind,
        asking::{Question, RETRY_AFTER, SHORTEST},
        pool::UNLESS as HERE,
        uid,
    },
};
use futures::{
    FutureExt as _,
    future::{Either, select},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A driver that has not answered by then has nothing against it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the expression may name.
const ROOTS: [&str; 3] = ["now", "resource", "lease"];

/// What was declined lately: the UID of the lease or resource → of which end, why, and until when nobody is asked again.
pub type Declined = Mutex<BTreeMap<String, (End, String, MicroTime)>>;

/// What decides when a lease or a resource ends.
type End = (Option<MicroTime>, Option<MicroTime>, Option<Wish>);

/// So many are remembered. Beyond that whoever was asked is asked again.
const REMEMBERED: usize = 16_384;

/// Blueprints whose expression was too slow, by UID: in which generation.
pub type TooSlow = Mutex<BTreeMap<String, Option<i64>>>;

fn unless(blueprint: &Blueprint) -> Option<&str> {
    blueprint.spec.expiry.as_ref()?.unless.as_deref()
}

/// Whether anybody has a say at the deadlines of this Blueprint's resources and leases.
pub fn question(driver: Option<&Arc<dyn Driver>>, blueprint: Option<&Blueprint>) -> Question {
    let Some(blueprint) = blueprint else { return Question::Nobody };
    match unless(blueprint).is_some() || driver.is_some_and(|driver| driver.has_say(blueprint)) {
        true => Question::Open,
        false => Question::Nobody,
    }
}

/// Asks whether a deadline that has come is to be kept: of the lease, where the work is about one, else of the resource. Whoever
/// has declined is not asked again before half of `expiry.retryAfter`, whatever else happens to the object.
pub async fn ask(shell: &Arc<Shell>, driver: Option<&Arc<dyn Driver>>, blueprint: &Blueprint, work: Work) -> Verdict {
    let (id, end) = subject(&work);
    let now = shell.clock.now();
    if let Some((of, why, until)) = super::super::lock(&shell.declined).get(&id)
        && (of, *until > now) == (&end, true)
    {
        return Verdict::Decline(why.clone());
    }
    let verdict = ask_now(shell, driver, blueprint, work).await;
    let mut declined = super::super::lock(&shell.declined);
    if declined.len() >= REMEMBERED {
        declined.clear();
    }
    match &verdict {
        Verdict::Decline(why) => {
            let retry_after = blueprint.spec.expiry.as_ref().and_then(|expiry| expiry.retry_after);
            // Half of it: the next time at which it is asked about may be less than `retryAfter` from now.
            let half = retry_after.unwrap_or(RETRY_AFTER).max(SHORTEST).to_std() / 2;
            let until =
                now.after(crate::api::Duration::from_millis(i64::try_from(half.as_millis()).unwrap_or(i64::MAX)));
            declined.insert(id, (end, why.clone(), until));
        }
        Verdict::Expire => drop(declined.remove(&id)),
    }
    verdict
}

fn subject(work: &Work) -> (String, End) {
    match (&work.lease, &work.resource) {
        (Some(lease), _) => {
            let status = lease.status.as_ref();
            let end = (lease.spec.expires_at, status.and_then(|s| s.expires_at), status.and_then(|s| s.wish));
            (uid(&lease.metadata).to_owned(), end)
        }
        (None, Some(resource)) => {
            let status = resource.status.as_ref();
            let end = (resource.spec.expires_at, status.and_then(|s| s.expires_at), status.and_then(|s| s.wish));
            (uid(&resource.metadata).to_owned(), end)
        }
        (None, None) => Default::default(),
    }
}

async fn ask_now(shell: &Arc<Shell>, driver: Option<&Arc<dyn Driver>>, blueprint: &Blueprint, work: Work) -> Verdict {
    if let Some(driver) = driver.filter(|driver| driver.has_say(blueprint)) {
        // One that panics must not keep its environments for ever.
        let asked = async { driver.should_expire(work.clone()).await };
        let asked = std::pin::pin!(AssertUnwindSafe(asked).catch_unwind());
        match select(asked, shell.clock.sleep(TIMEOUT)).await {
            Either::Left((Ok(Verdict::Decline(why)), _)) => return Verdict::Decline(why),
            Either::Left((Ok(Verdict::Expire), _)) => {}
            Either::Left((Err(_), _)) => tracing::warn!(driver = driver.name(), "should_expire panicked"),
            Either::Right(_) => tracing::warn!(driver = driver.name(), "no answer to should_expire"),
        }
    }
    let evaluated = evaluate(shell, blueprint, work.resource.as_deref(), work.lease.as_deref());
    let answer = match select(std::pin::pin!(evaluated), shell.clock.sleep(TIMEOUT)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => {
            tracing::warn!(blueprint = %super::ObjectKey::of(&blueprint.metadata), "{HERE}: no answer within {TIMEOUT:?}");
            None
        }
    };
    match answer {
        Some(true) => Verdict::Decline("expiry.unless of the Blueprint is true".into()),
        Some(false) | None => Verdict::Expire,
    }
}

/// Blueprints of one namespace wait for each other's expressions only.
fn evaluator_of(shell: &Shell, blueprint: &Blueprint) -> EvaluatorHandle {
    shell.drivers.evaluator().of_tenant(blueprint.metadata.namespace.as_deref().unwrap_or_default())
}

async fn evaluate(
    shell: &Arc<Shell>,
    blueprint: &Blueprint,
    resource: Option<&Resource>,
    lease: Option<&Lease>,
) -> Option<bool> {
    if was_too_slow(shell, blueprint).is_some() {
        return None;
    }
    let evaluator = evaluator_of(shell, blueprint);
    let expression = evaluator.parse(unless(blueprint)?).await.ok()?;
    let over = bindings(shell, resource, lease);
    match evaluator.evaluate(vec![expression.clone()], over).await.pop()? {
        Ok(value) => value.as_bool(),
        Err(error) => {
            // What is slow only with this lessee's data in it says nothing of the others': it declines nothing here, and is asked
            // about them all the same.
            if error == EvaluationError::TooSlow
                && is_slow_by_itself(shell, &*evaluator, &expression, resource, lease).await
            {
                remember(shell, blueprint);
                shell.trigger(Key::Blueprint(super::ObjectKey::of(&blueprint.metadata)), false);
            }
            tracing::warn!(blueprint = %super::ObjectKey::of(&blueprint.metadata), "{HERE}: {error}");
            tell(shell, resource, lease, &error);
            None
        }
    }
}

/// What the expression is evaluated over.
fn bindings(shell: &Shell, resource: Option<&Resource>, lease: Option<&Lease>) -> Arc<Bindings> {
    let mut bindings = Bindings::new();
    bindings.insert("now".into(), Binding::Timestamp(shell.clock.now().timestamp()));
    let mut bind = |name: &str, value| bindings.insert(name.to_owned(), Binding::Json(value));
    if let Some(resource) = resource {
        bind("resource", known(resource));
    }
    if let Some(lease) = lease {
        bind("lease", known(lease));
    }
    Arc::new(bindings)
}

/// Whether it is too slow without what a lessee has put into what it is evaluated over.
async fn is_slow_by_itself(
    shell: &Shell,
    evaluator: &dyn Evaluator,
    expression: &Expression,
    resource: Option<&Resource>,
    lease: Option<&Lease>,
) -> bool {
    let (resource, lease) = (resource.map(objects::of_nobody), lease.map(objects::without_data));
    let over = bindings(shell, resource.as_ref(), lease.as_ref());
    let results = evaluator.evaluate(vec![expression.clone()], over).await;
    results.contains(&Err(EvaluationError::TooSlow))
}

/// Tells whom it concerns that the question got no answer.
fn tell(shell: &Shell, resource: Option<&Resource>, lease: Option<&Lease>, error: &EvaluationError) {
    let (about, kind) = match (lease, resource) {
        (Some(lease), _) => (&lease.metadata, "Lease"),
        (None, Some(resource)) => (&resource.metadata, "Resource"),
        (None, None) => return,
    };
    let message = format!("{HERE} of the Blueprint declines nothing here: {error}");
    let reason = error.reason().into();
    shell.events.publish(kind, about, vec![EventDraft { kind: EventKind::Warning, reason, message }]);
}

/// An object as the expression sees it: without its queue and ledger, and what only its driver reads, which alone may be
/// more than is evaluated over.
fn known<K: serde::Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    for (part, fields) in [("spec", &["commands"][..]), ("status", &["commands", "built", "storage"])] {
        if let Some(part) = value.get_mut(part).and_then(Value::as_object_mut) {
            part.retain(|field, _| !fields.contains(&field.as_str()));
        }
    }
    for at in ["/spec/attributes", "/spec/parameters", "/status/outputs", "/metadata/labels", "/metadata/annotations"] {
        objects::empty(&mut value, at, json!({}));
    }
    for at in ["/spec/subjects", "/spec/repositories", "/spec/blueprints", "/status/interfaces", "/status/claims"] {
        objects::empty(&mut value, at, json!([]));
    }
    value
}

fn remember(shell: &Shell, blueprint: &Blueprint) {
    super::super::lock(&shell.too_slow).insert(uid(&blueprint.metadata).to_owned(), blueprint.metadata.generation);
}

/// What was told, where the expression was too slow: it is not run again until the Blueprint changes, nor after a restart.
fn was_too_slow(shell: &Shell, blueprint: &Blueprint) -> Option<String> {
    let generation = blueprint.metadata.generation;
    let status = blueprint.status.as_ref().filter(|status| status.observed_generation == generation);
    let told = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == "Ready" && c.reason == "ExpressionTooSlow"));
    if let Some(told) = told.filter(|told| told.message.starts_with(HERE)) {
        return Some(told.message.clone());
    }
    let known = super::super::lock(&shell.too_slow).get(uid(&blueprint.metadata)) == Some(&generation);
    known.then(|| format!("{HERE}: {}", EvaluationError::TooSlow))
}

/// What is wrong with a Blueprint's expression: the reason, and a sentence.
pub async fn check(shell: &Arc<Shell>, blueprint: &Blueprint) -> Option<(&'static str, String)> {
    let source = unless(blueprint)?;
    if let Some(told) = was_too_slow(shell, blueprint) {
        remember(shell, blueprint);
        return Some(("ExpressionTooSlow", told));
    }
    match evaluator_of(shell, blueprint).parse(source).await {
        Err(invalid) => Some(("InvalidExpression", format!("{HERE}: {invalid}"))),
        Ok(expression) => {
            let unknown = expression.roots().iter().find(|root| !ROOTS.contains(&root.as_str()))?;
            let known = ROOTS.join(", ");
            Some(("InvalidExpression", format!("{HERE}: {unknown} is not known here; it may name {known}")))
        }
    }
}
