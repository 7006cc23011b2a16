//! What many stories say in the same words.

use crate::support::{ControllerProcess, History, Identity, Sandbox};
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A sandbox with a controller for it alone.
pub async fn alone(story: &str) -> (Sandbox<'static>, ControllerProcess) {
    let sandbox = Sandbox::new(story).await;
    let controller = sandbox.controller().await;
    (sandbox, controller)
}

/// A Blueprint `pool` of type `host` with so many hosts, and more of its spec.
pub fn hosts(count: usize, more: Value) -> String {
    pool("pool", count, more)
}

/// A Blueprint of type `host` with so many hosts, and more of its spec.
pub fn pool(name: &str, count: usize, more: Value) -> String {
    let inventory: Vec<Value> =
        (1..=count).map(|n| json!({"name": format!("h{n}"), "address": format!("192.0.2.{n}")})).collect();
    let mut spec = json!({"resourceType": "host", "driver": {"hosts": {"inventory": inventory}}});
    merge(&mut spec, more);
    object("Blueprint", name, spec)
}

/// A lease of a host, and more of its spec.
pub fn lease(name: &str, more: Value) -> String {
    let mut spec = json!({"resourceType": "host"});
    merge(&mut spec, more);
    object("Lease", name, spec)
}

fn object(kind: &str, name: &str, spec: Value) -> String {
    json!({"apiVersion": "drydock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// Applies as administrator.
pub async fn apply(sandbox: &Sandbox<'_>, yaml: &str) -> DynamicObject {
    sandbox.apply(Identity::Admin, yaml).await.remove(0)
}

/// Appends a command as administrator.
pub async fn command(sandbox: &Sandbox<'_>, object: &str, command: Value) {
    sandbox.append(Identity::Admin, object, command).await;
}

/// Waits until the ledger has an entry for this id, and gives its outcome and message.
pub async fn outcome(sandbox: &Sandbox<'_>, object: &str, id: &str) -> (String, String) {
    let seen = sandbox.wait_for(object, &format!("done with {id}"), |o| entry(o, id).is_some()).await;
    let entry = entry(&seen, id).unwrap();
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("message"))
}

fn entry(object: &DynamicObject, id: &str) -> Option<Value> {
    object.data["status"]["commands"].as_array()?.iter().find(|e| e["id"] == id).cloned()
}

/// A field of the status, as text.
pub fn status<'o>(object: &'o DynamicObject, field: &str) -> &'o str {
    object.data["status"][field].as_str().unwrap_or_default()
}

/// The instant in a field of the status.
pub fn instant(object: &DynamicObject, field: &str) -> jiff::Timestamp {
    let text = status(object, field);
    text.parse().unwrap_or_else(|error| panic!("status.{field} is no instant: {text:?}: {error}"))
}

/// The deadline of this name, as an instant.
pub fn deadline(object: &DynamicObject, name: &str) -> Option<jiff::Timestamp> {
    let deadlines = object.data["status"]["deadlines"].as_array()?;
    deadlines.iter().find(|d| d["name"] == name)?["at"].as_str()?.parse().ok()
}

/// The name of the resource that a lease is bound to.
pub fn bound_to(lease: &DynamicObject) -> String {
    lease.data["status"]["resourceRef"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Who claims a resource, by name.
pub fn claimants(resource: &DynamicObject) -> Vec<String> {
    let claims = resource.data["status"]["claims"].as_array().cloned().unwrap_or_default();
    claims.iter().filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
}

/// The message of a condition.
pub fn message<'o>(object: &'o DynamicObject, type_: &str) -> &'o str {
    let conditions = object.data["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|c| c["type"] == type_));
    found.and_then(|c| c["message"].as_str()).unwrap_or_default()
}

/// Checks, over the whole history, what must hold in every version: no resource holds more leases than its capacity; a
/// lease is bound to one resource only and only while that claims it; phases move along their arrows; a ledger entry never
/// changes.
pub async fn holds_throughout(sandbox: &Sandbox<'_>) {
    let history = sandbox.history();
    history.caught_up().await;
    no_claim_too_many(history);
    bound_once_and_claimed(history);
    arrows(history);
    ledger_is_final(history);
}

fn no_claim_too_many(history: &History) {
    history.never("more claims than there is room for", |seen| {
        seen.kind == "resource"
            && claimants(&seen.object).len() as i64 > seen.object.data["status"]["capacity"].as_i64().unwrap_or(1)
    });
}

fn bound_once_and_claimed(history: &History) {
    let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    for seen in history.all() {
        let status = &seen.object.data["status"];
        if seen.kind == "resource" {
            let uids = status["claims"].as_array().cloned().unwrap_or_default();
            let uids = uids.iter().filter_map(|c| c["uid"].as_str().map(str::to_owned)).collect();
            claims.insert(seen.uid.clone(), uids);
        }
        if seen.kind == "lease" && matches!(seen.phase(), "Acquired" | "Active" | "Released") {
            let resource = status["resourceRef"]["uid"].as_str().expect("a held lease names its resource").to_owned();
            let claimed = claims.get(&resource).is_some_and(|uids| uids.contains(&seen.uid));
            assert!(claimed, "{seen:?} is bound to a resource that does not claim it");
            let others = held.iter().filter(|(lease, r)| **r == resource && **lease != seen.uid).count();
            let room = seen_capacity(history, &resource);
            assert!(others < room, "{seen:?} is bound to a resource that {others} others hold");
            held.insert(seen.uid.clone(), resource);
        } else if seen.kind == "lease" {
            held.remove(&seen.uid);
        }
    }
}

fn seen_capacity(history: &History, uid: &str) -> usize {
    let versions = history.all();
    let capacity = versions.iter().rev().find(|s| s.kind == "resource" && s.uid == uid);
    capacity.and_then(|s| s.object.data["status"]["capacity"].as_u64()).unwrap_or(1) as usize
}

fn arrows(history: &History) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for seen in history.all() {
        let phase = if seen.phase().is_empty() { "Pending" } else { seen.phase() }.to_owned();
        if seen.kind == "blueprint" {
            continue;
        }
        let before = last.insert(seen.uid.clone(), phase.clone()).unwrap_or_else(|| "Pending".into());
        let back = seen.kind == "lease" && before == "Acquired" && phase == "Pending";
        assert!(back || rank(&phase) >= rank(&before), "{seen:?} went from {before} to {phase}");
        assert!(!(before == "Released" && phase == "Broken"), "{seen:?} went from {before} to {phase}");
    }
}

fn rank(phase: &str) -> usize {
    match phase {
        "Pending" => 0,
        "Acquired" => 1,
        "Active" => 2,
        "Released" | "Broken" => 3,
        "Destroyed" => 4,
        other => panic!("no such phase: {other}"),
    }
}

fn ledger_is_final(history: &History) {
    let mut entries: BTreeMap<(String, String), Value> = BTreeMap::new();
    for seen in history.all() {
        for entry in seen.object.data["status"]["commands"].as_array().into_iter().flatten() {
            let id = entry["id"].as_str().unwrap_or_default().to_owned();
            let first = entries.entry((seen.uid.clone(), id)).or_insert_with(|| entry.clone());
            assert_eq!(first, entry, "a ledger entry of {} changed", seen.object.name_any());
        }
    }
}
