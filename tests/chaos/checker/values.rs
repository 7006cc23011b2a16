//! What is read of an object as it is stored. The checker knows objects as JSON only, and none of the product's types.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A text at a place of an object, or nothing.
pub fn text<'o>(object: &'o Value, at: &str) -> &'o str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a list, or none.
pub fn list<'o>(object: &'o Value, at: &str) -> &'o [Value] {
    object.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A number, or this.
pub fn number(object: &Value, at: &str, or: i64) -> i64 {
    object.pointer(at).and_then(Value::as_i64).unwrap_or(or)
}

/// An instant.
pub fn time(object: &Value, at: &str) -> Option<Timestamp> {
    text(object, at).parse().ok()
}

/// A length of time, as `1h30m`.
pub fn length(object: &Value, at: &str) -> Option<SignedDuration> {
    text(object, at).parse().ok()
}

pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// The phase. What has no status waits.
pub fn phase(object: &Value) -> &str {
    match text(object, "/status/phase") {
        "" => "Pending",
        phase => phase,
    }
}

pub fn attempt(lease: &Value) -> i64 {
    number(lease, "/status/attempt", 0)
}

/// The UID of the resource that a lease is bound to, or nothing.
pub fn bound_to(lease: &Value) -> &str {
    text(lease, "/status/resourceRef/uid")
}

/// The UID of the Blueprint that a resource is of.
pub fn owner(resource: &Value) -> &str {
    text(resource, "/spec/blueprintRef/uid")
}

pub fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Whether the finalizer holds it.
pub fn is_held(object: &Value) -> bool {
    list(object, "/metadata/finalizers").iter().any(|finalizer| finalizer == "drydock.dev/teardown")
}

/// Who claims a resource: the UID and the attempt of each lease.
pub fn claims(resource: &Value) -> Vec<(&str, i64)> {
    list(resource, "/status/claims").iter().map(|claim| (text(claim, "/uid"), number(claim, "/attempt", 0))).collect()
}

/// The reason of a condition.
pub fn reason<'o>(object: &'o Value, condition: &str) -> &'o str {
    let found = list(object, "/status/conditions").iter().find(|one| one["type"] == condition);
    found.map_or("", |one| text(one, "/reason"))
}

/// The deadline of this name.
pub fn deadline(object: &Value, name: &str) -> Option<Timestamp> {
    list(object, "/status/deadlines").iter().find(|one| one["name"] == name).and_then(|one| time(one, "/at"))
}

/// Over: released, or failed for good, or beyond.
pub fn is_over(object: &Value) -> bool {
    matches!(phase(object), "Released" | "Broken" | "Destroyed")
}

/// A lease on its way back to the queue.
pub fn is_returning(lease: &Value) -> bool {
    phase(lease) == "Acquired" && reason(lease, "Ready") == "Returning"
}

/// The commands that have no entry in the ledger.
pub fn unconsumed(object: &Value) -> impl Iterator<Item = &Value> {
    let known = |id: &Value| list(object, "/status/commands").iter().any(|entry| entry["id"] == *id);
    list(object, "/spec/commands").iter().filter(move |command| !known(&command["id"]))
}
