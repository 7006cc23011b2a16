//! The question at a deadline: first the driver is asked, then `expiry.unless` of the Blueprint; either may decline. An
//! error, or no answer in time, declines nothing (api.md, 3 and 6).

use crate::{
    api::{Blueprint, Lease, Resource, step::Verdict},
    controller::{key::Key, shell::Shell},
    driver::{Driver, Work},
    expression::{Binding, Bindings, EvaluationError},
    lifecycle::{asking::Question, uid},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A driver that has not answered by then has nothing against it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the expression may name.
const ROOTS: [&str; 3] = ["now", "resource", "lease"];

/// Where it stands.
const HERE: &str = "spec.expiry.unless";

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

/// Asks whether a deadline that has come is to be kept: of the lease, where the work is about one, else of the resource.
pub async fn ask(shell: &Arc<Shell>, driver: Option<&Arc<dyn Driver>>, blueprint: &Blueprint, work: Work) -> Verdict {
    if let Some(driver) = driver.filter(|driver| driver.has_say(blueprint)) {
        let answer = futures::future::select(driver.should_expire(work.clone()), shell.clock.sleep(TIMEOUT)).await;
        match answer {
            futures::future::Either::Left((Verdict::Decline(why), _)) => return Verdict::Decline(why),
            futures::future::Either::Left((Verdict::Expire, _)) => {}
            futures::future::Either::Right(_) => tracing::warn!(driver = driver.name(), "no answer to should_expire"),
        }
    }
    match evaluate(shell, blueprint, work.resource.as_deref(), work.lease.as_deref()).await {
        Some(true) => Verdict::Decline("expiry.unless of the Blueprint is true".into()),
        Some(false) | None => Verdict::Expire,
    }
}

async fn evaluate(
    shell: &Arc<Shell>,
    blueprint: &Blueprint,
    resource: Option<&Resource>,
    lease: Option<&Lease>,
) -> Option<bool> {
    let id = uid(&blueprint.metadata);
    let generation = blueprint.metadata.generation;
    if super::super::lock(&shell.too_slow).get(id) == Some(&generation) {
        return None;
    }
    let expression = shell.drivers.evaluator().parse(unless(blueprint)?).await.ok()?;
    let mut bindings = Bindings::new();
    bindings.insert("now".into(), Binding::Timestamp(shell.clock.now().timestamp()));
    let mut bind = |name: &str, value: serde_json::Result<Value>| {
        if let Ok(value) = value {
            bindings.insert(name.to_owned(), Binding::Json(value));
        }
    };
    if let Some(resource) = resource {
        bind("resource", serde_json::to_value(resource));
    }
    if let Some(lease) = lease {
        bind("lease", serde_json::to_value(lease));
    }
    match shell.drivers.evaluator().evaluate(vec![expression], Arc::new(bindings)).await.pop()? {
        Ok(value) => value.as_bool(),
        Err(error) => {
            if error == EvaluationError::TooSlow {
                super::super::lock(&shell.too_slow).insert(id.to_owned(), generation);
                shell.trigger(Key::Blueprint(super::ObjectKey::of(&blueprint.metadata)));
            }
            tracing::warn!(blueprint = %super::ObjectKey::of(&blueprint.metadata), "{HERE}: {error}");
            None
        }
    }
}

/// What is wrong with a Blueprint's expression: the reason, and a sentence.
pub async fn check(shell: &Arc<Shell>, blueprint: &Blueprint) -> Option<(&'static str, String)> {
    let source = unless(blueprint)?;
    let generation = blueprint.metadata.generation;
    let status = blueprint.status.as_ref().filter(|status| status.observed_generation == generation);
    let told = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == "Ready" && c.reason == "ExpressionTooSlow"));
    if let Some(told) = told.filter(|told| told.message.starts_with(HERE)) {
        super::super::lock(&shell.too_slow).insert(uid(&blueprint.metadata).to_owned(), generation);
        return Some(("ExpressionTooSlow", told.message.clone()));
    }
    if super::super::lock(&shell.too_slow).get(uid(&blueprint.metadata)) == Some(&generation) {
        return Some(("ExpressionTooSlow", format!("{HERE}: {}", EvaluationError::TooSlow)));
    }
    match shell.drivers.evaluator().parse(source).await {
        Err(invalid) => Some(("InvalidExpression", format!("{HERE}: {invalid}"))),
        Ok(expression) => {
            let unknown = expression.roots().iter().find(|root| !ROOTS.contains(&root.as_str()))?;
            let known = ROOTS.join(", ");
            Some(("InvalidExpression", format!("{HERE}: {unknown} is not known here; it may name {known}")))
        }
    }
}
