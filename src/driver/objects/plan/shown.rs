//! What expressions see of the objects that they speak of.

use super::About;
use crate::{
    api::{Lease, Resource},
    expression::{Binding, Bindings, EvaluationError, Evaluator, Expression},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// What expressions see of an object: these fields of it, and no others. What of a Blueprint, or of its Resource, decides
/// what is made is so in the hands of those alone who may act as its service account (charts/drydock/templates/policies).
struct Shown {
    metadata: &'static [&'static str],
    /// `None`: all of it, but for the queue.
    spec: Option<&'static [&'static str]>,
    status: &'static [&'static str],
    /// Maps and lists that are empty where the object leaves them out (api.md), and so are they to an expression: each as a JSON
    /// pointer, those that hold others first. What holds them stays left out.
    maps: &'static [&'static str],
    lists: &'static [&'static str],
}

const BLUEPRINT: Shown = Shown {
    metadata: &["name", "namespace", "uid"],
    spec: Some(&["resourceType", "attributes"]),
    status: &[],
    maps: &["/spec/attributes"],
    lists: &[],
};
const OF_RESOURCE: Shown = Shown {
    metadata: &["name", "namespace", "uid"],
    spec: Some(&["resourceType", "attributes", "parameters", "blueprintRef", "requestedFor"]),
    status: &["outputs", "interfaces"],
    maps: &["/spec/attributes", "/spec/parameters", "/status/outputs"],
    lists: &["/status/interfaces"],
};
const LEASE: Shown = Shown {
    metadata: &["name", "namespace", "uid", "labels", "annotations"],
    spec: None,
    status: &["attempt"],
    maps: &[
        "/metadata/labels",
        "/metadata/annotations",
        "/spec/parameters",
        "/spec/selector",
        "/spec/selector/matchLabels",
    ],
    lists: &["/spec/subjects", "/spec/repositories", "/spec/blueprints", "/spec/selector/matchExpressions"],
};

/// Whether an expression is too slow without what lessees have put into what it is evaluated over: then it is the Blueprint's
/// own, and slow for everybody. What is slow only with one lessee's data says nothing of the others'.
pub async fn is_slow_by_itself(evaluator: &dyn Evaluator, about: &About<'_>, expression: &Expression) -> bool {
    let (resource, lease) = (of_nobody(about.resource), about.lease.map(without_data));
    let blank = About {
        blueprint: about.blueprint,
        resource: &resource,
        lease: lease.as_ref(),
        objects: about.objects.as_ref().map(|_| Vec::new()),
    };
    let bindings = bindings(&blank, expression.roots());
    evaluator.evaluate(vec![expression.clone()], bindings).await.contains(&Err(EvaluationError::TooSlow))
}

/// A resource without what comes from the lease that it was requested for, or from its objects.
pub fn of_nobody(resource: &Resource) -> Resource {
    let mut resource = resource.clone();
    resource.metadata.labels = None;
    resource.metadata.annotations = None;
    resource.spec.parameters.clear();
    resource.spec.requested_for = None;
    resource.status = None;
    resource
}

/// A lease without what its owner may write into it at any length.
pub fn without_data(lease: &Lease) -> Lease {
    let mut lease = lease.clone();
    lease.metadata.labels = None;
    lease.metadata.annotations = None;
    lease.spec.parameters.clear();
    lease.spec.subjects.clear();
    lease.spec.repositories.clear();
    lease.spec.blueprints.clear();
    lease.spec.selector = None;
    lease.spec.commands.clear();
    lease.status = None;
    lease
}

/// What these roots stand for: what their users may know of them, and never a Secret (api.md, 6). What is not named is
/// left out: or an environment of large objects would leave no room for an expression that says nothing of them.
pub fn bindings(about: &About<'_>, named: &BTreeSet<String>) -> Arc<Bindings> {
    let mut bindings = Bindings::new();
    let mut bind = |name: &str, value: &dyn Fn() -> Value| {
        if named.contains(name) {
            bindings.insert(name.to_owned(), Binding::Json(value()));
        }
    };
    bind("blueprint", &|| known(about.blueprint, &BLUEPRINT));
    bind("resource", &|| known(about.resource, &OF_RESOURCE));
    if let Some(lease) = about.lease {
        bind("lease", &|| known(lease, &LEASE));
    }
    if let Some(objects) = &about.objects {
        bind("objects", &|| Value::Array(objects.clone()));
    }
    Arc::new(bindings)
}

/// An object as expressions see it.
fn known<K: serde::Serialize>(object: &K, shown: &Shown) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let Some(map) = value.as_object_mut() else { return value };
    let keep = |part: &mut Value, fields: &[&str]| {
        if let Some(part) = part.as_object_mut() {
            part.retain(|field, _| fields.contains(&field.as_str()));
        }
    };
    if let Some(metadata) = map.get_mut("metadata") {
        keep(metadata, shown.metadata);
    }
    match (map.get_mut("spec"), shown.spec) {
        (Some(spec), Some(fields)) => keep(spec, fields),
        (Some(Value::Object(spec)), None) => drop(spec.remove("commands")),
        (Some(_) | None, _) => {}
    }
    let mut status = map.remove("status").unwrap_or_else(|| json!({}));
    keep(&mut status, shown.status);
    map.insert("status".into(), status);
    shown.maps.iter().for_each(|at| empty(&mut value, at, json!({})));
    shown.lists.iter().for_each(|at| empty(&mut value, at, json!([])));
    value
}

/// Puts in what is empty where it is left out, and what holds it is there.
pub fn empty(value: &mut Value, at: &str, nothing: Value) {
    let Some((holder, field)) = at.rsplit_once('/') else { return };
    if let Some(holder) = value.pointer_mut(holder).and_then(Value::as_object_mut) {
        holder.entry(field).or_insert(nothing);
    }
}

/// A live object as expressions see it. What a Secret holds is not for them.
pub fn seen(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        if map.get("kind") == Some(&json!("Secret")) {
            map.remove("data");
            map.remove("stringData");
        }
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    object
}
