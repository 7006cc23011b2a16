//! What many stories say in the same words.

// Words for stories, of which not each is said today.
#![allow(dead_code)]

use crate::support::{ControllerProcess, History, Identity, Sandbox, Seen, sandbox::PATIENCE};
use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How late an end may be told on a busy machine. The budget is far smaller; this is about an end that nobody looked for.
const LATE: Duration = Duration::from_secs(5);

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

/// An object of ours, of any kind.
pub fn object(kind: &str, name: &str, spec: Value) -> String {
    json!({"apiVersion": "drydock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Adds to a value, or replaces what it has.
pub fn merge(into: &mut Value, more: Value) {
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

/// What the ledger says of this command.
pub fn entry(object: &DynamicObject, id: &str) -> Option<Value> {
    object.data["status"]["commands"].as_array()?.iter().find(|e| e["id"] == id).cloned()
}

/// A field of the status, as text.
pub fn status<'o>(object: &'o DynamicObject, field: &str) -> &'o str {
    object.data["status"][field].as_str().unwrap_or_default()
}

/// The instant in a field of the status.
pub fn instant(object: &DynamicObject, field: &str) -> Timestamp {
    let text = status(object, field);
    text.parse().unwrap_or_else(|error| panic!("status.{field} is no instant: {text:?}: {error}"))
}

/// The deadline of this name, as an instant.
pub fn deadline(object: &DynamicObject, name: &str) -> Option<Timestamp> {
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

/// The whole deadline of this name.
pub fn clock<'o>(object: &'o DynamicObject, name: &str) -> Option<&'o Value> {
    object.data["status"]["deadlines"].as_array()?.iter().find(|d| d["name"] == name)
}

/// The instant so many milliseconds from now, in the microseconds that an object can keep.
pub fn from_now(milliseconds: i64) -> Timestamp {
    let now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap();
    now + jiff::SignedDuration::from_millis(milliseconds)
}

/// Asks until the answer is yes: for what nobody can watch, as what the authorizer has learnt by now. Each answer is waited for
/// before the next question.
pub async fn asked_until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !ask().await {
            // An answer that is there at once must not keep the time limit from being looked at.
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("asked {PATIENCE:?} in vain: {what}"));
}

/// Waits until the wall clock shows this instant.
pub async fn wait_until(then: Timestamp) {
    // Not a wait for something that happens: for time alone.
    let left = then.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

/// When a version was seen, by the wall clock.
pub fn seen_at(seen: &Seen) -> Timestamp {
    let ago = jiff::SignedDuration::try_from(seen.at.elapsed()).unwrap();
    Timestamp::now() - ago
}

/// The UID of an object.
pub fn uid(object: &DynamicObject) -> String {
    object.uid().expect("what the API server shows has a UID")
}

/// Every version of the object with this UID.
pub fn versions(sandbox: &Sandbox<'_>, uid: &str) -> Vec<Seen> {
    sandbox.history().all().into_iter().filter(|seen| seen.uid == uid).collect()
}

/// Waits until an object is, or was, as it should be, and gives the first such version. For what may be over before anybody
/// looks.
pub async fn was(
    sandbox: &Sandbox<'_>,
    object: &str,
    what: &str,
    is: impl Fn(&DynamicObject) -> bool,
) -> DynamicObject {
    let (kind, name) = object.split_once('/').expect("an object is named like lease/a");
    let is = |seen: &Seen| seen.kind == kind && seen.name == name && is(&seen.object);
    let seen = sandbox.history().wait_for(&format!("{object} {what}"), is).await;
    (*seen.object).clone()
}

/// The same of a phase.
pub async fn was_in(sandbox: &Sandbox<'_>, object: &str, phase: &str) -> DynamicObject {
    was(sandbox, object, &format!("in phase {phase}"), |o| crate::support::phase(o) == phase).await
}

/// The phases that an object has gone through by now.
pub async fn phases(sandbox: &Sandbox<'_>, object: &str) -> Vec<String> {
    sandbox.history().caught_up().await;
    sandbox.history().phases(object)
}

/// The first version in which the object with this UID is over: released, broken, or beyond.
pub fn first_over(sandbox: &Sandbox<'_>, uid: &str) -> Seen {
    let over = |seen: &Seen| matches!(seen.phase(), "Released" | "Broken" | "Destroyed");
    versions(sandbox, uid).into_iter().find(over).unwrap_or_else(|| panic!("{uid} was never over"))
}

/// The deadline of this name as the object with this UID told it last.
pub fn last_told(sandbox: &Sandbox<'_>, uid: &str, name: &str) -> Option<Timestamp> {
    versions(sandbox, uid).iter().rev().find_map(|seen| deadline(&seen.object, name))
}

/// Checks that the object with this UID was over at its deadline, and not before: neither by its own account, nor by the
/// clock when it was seen. And soon after it: somebody looked.
pub async fn ended_at(sandbox: &Sandbox<'_>, uid: &str, deadline: Timestamp) -> Seen {
    sandbox.history().caught_up().await;
    let over = first_over(sandbox, uid);
    let (told, seen) = (instant(&over.object, "releasedAt"), seen_at(&over));
    assert!(told >= deadline, "{over:?} ended early: at {told}, its deadline being {deadline}");
    assert!(seen >= deadline, "{over:?} was seen over at {seen}, before its deadline {deadline}");
    let late = Duration::try_from(told.duration_since(deadline)).unwrap();
    assert!(late < LATE, "{over:?} ended {late:?} after its deadline {deadline}");
    over
}

/// Checks that the object with this UID was over after a deadline that was declined at first, and within the longest time after which
/// it is asked about again.
pub async fn ended_when_asked_again(sandbox: &Sandbox<'_>, uid: &str, retry_after: SignedDuration) -> Seen {
    sandbox.history().caught_up().await;
    let (over, asked) = (first_over(sandbox, uid), last_told(sandbox, uid, "Asking").unwrap());
    let told = instant(&over.object, "releasedAt");
    assert!(told >= asked, "{over:?} ended at {told}, and was to be asked about at {asked}");
    let late = told.duration_since(asked);
    assert!(late < retry_after * 10 + SignedDuration::try_from(LATE).unwrap(), "{over:?} ended {late:?} after {asked}");
    over
}

/// Checks, over the whole history, what must hold in every version: no resource holds more leases than its capacity; a
/// lease is bound to one resource only and only while that claims it; nothing is granted but by an active resource; phases
/// move along their arrows; a ledger entry never changes.
pub async fn holds_throughout(sandbox: &Sandbox<'_>) {
    let history = sandbox.history();
    history.caught_up().await;
    no_claim_too_many(history);
    bound_once_and_claimed(history);
    granted_while_active(history);
    arrows(history);
    ledger_is_final(history);
}

fn no_claim_too_many(history: &History) {
    let rooms = rooms(history);
    history.never("more claims than there is room for", |seen| {
        seen.kind == "resource" && claimants(&seen.object).len() > room_of(&rooms, &seen.object)
    });
}

/// How many leases a resource of each Blueprint may hold, by the Blueprint's UID: the most that it ever allowed, for who grants
/// may know it as it was a moment ago. (What the resource says of itself comes from who grants.)
fn rooms(history: &History) -> BTreeMap<String, usize> {
    let mut rooms = BTreeMap::new();
    for seen in history.all().iter().filter(|seen| seen.kind == "blueprint") {
        let room = seen.object.data["spec"]["limits"]["leasesPerResource"].as_u64().unwrap_or(1) as usize;
        let most: &mut usize = rooms.entry(seen.uid.clone()).or_default();
        *most = room.max(*most);
    }
    rooms
}

fn room_of(rooms: &BTreeMap<String, usize>, resource: &DynamicObject) -> usize {
    let blueprint = resource.data["spec"]["blueprintRef"]["uid"].as_str().unwrap_or_default();
    rooms.get(blueprint).copied().unwrap_or(1)
}

fn bound_once_and_claimed(history: &History) {
    let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    let (by_blueprint, mut rooms) = (rooms(history), BTreeMap::new());
    for seen in history.all() {
        let status = &seen.object.data["status"];
        if seen.kind == "resource" {
            rooms.insert(seen.uid.clone(), room_of(&by_blueprint, &seen.object));
            let uids = status["claims"].as_array().cloned().unwrap_or_default();
            let uids = uids.iter().filter_map(|c| c["uid"].as_str().map(str::to_owned)).collect();
            claims.insert(seen.uid.clone(), uids);
        }
        if seen.kind == "lease" && matches!(seen.phase(), "Acquired" | "Active" | "Released") {
            let resource = status["resourceRef"]["uid"].as_str().expect("a held lease names its resource").to_owned();
            let claimed = claims.get(&resource).is_some_and(|uids| uids.contains(&seen.uid));
            assert!(claimed, "{seen:?} is bound to a resource that does not claim it");
            let others = held.iter().filter(|(lease, r)| **r == resource && **lease != seen.uid).count();
            let room = rooms.get(&resource).copied().unwrap_or(1);
            assert!(others < room, "{seen:?} is bound to a resource that {others} others hold");
            held.insert(seen.uid.clone(), resource);
        } else if seen.kind == "lease" {
            held.remove(&seen.uid);
        }
    }
}

/// A claim appears in a version that is Active, or not at all.
fn granted_while_active(history: &History) {
    let mut known: BTreeMap<String, BTreeSet<(String, i64)>> = BTreeMap::new();
    for seen in history.all().iter().filter(|seen| seen.kind == "resource") {
        let claims = seen.object.data["status"]["claims"].as_array().cloned().unwrap_or_default();
        let claim = |c: &Value| (c["uid"].as_str().unwrap_or_default().to_owned(), c["attempt"].as_i64().unwrap_or(0));
        let claims: BTreeSet<_> = claims.iter().map(claim).collect();
        let before = known.insert(seen.uid.clone(), claims.clone()).unwrap_or_default();
        let granted: Vec<_> = claims.difference(&before).collect();
        assert!(granted.is_empty() || seen.phase() == "Active", "{seen:?} grants {granted:?}");
    }
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
