//! Those rules of the CRDs that Drydock depends on, by hand: a command is immutable, goes only when the ledger has it, and
//! is not appended once Destroyed; a ledger entry is final, and stays while its command is in the spec; what is immutable in
//! a spec; how long queue and ledger may be. Of the schema itself only defaults and unknown fields are kept to (`schema`):
//! types, patterns and bounds are the business of the stories, on the real server.

use crate::journal::Kind;
use serde_json::Value;

/// Q2: nothing is appended any more.
pub const DESTROYED: &str = "it is destroyed and takes no more commands";

/// Why a version may not follow another, or not be the first.
pub fn refusal(kind: Kind, old: Option<&Value>, new: &Value) -> Option<String> {
    let queue = list(new, "/spec/commands");
    let ledger = list(new, "/status/commands");
    for (what, of, bound) in [("spec.commands", queue, 64), ("status.commands", ledger, 128)] {
        if of.len() > bound {
            return Some(format!("{what}: too many"));
        }
        let twice = of.iter().enumerate().any(|(n, entry)| of[..n].iter().any(|other| other["id"] == entry["id"]));
        if twice {
            return Some(format!("{what}: duplicate id"));
        }
    }
    let claims = list(new, "/status/claims");
    if claims.iter().enumerate().any(|(n, claim)| claims[..n].iter().any(|other| other["uid"] == claim["uid"])) {
        return Some("status.claims: duplicate uid".into());
    }
    if let Some(wrong) = queue.iter().find_map(|command| wrong_command(kind, command)) {
        return Some(wrong.into());
    }
    if kind == Kind::Blueprint
        && let Some(wrong) = wrong_blueprint(&new["spec"])
    {
        return Some(wrong.into());
    }
    old.and_then(|old| wrong_change(kind, old, new))
}

fn wrong_blueprint(spec: &Value) -> Option<&'static str> {
    let limit = |name: &str| spec["limits"][name].as_i64();
    match () {
        () if limit("maxResources").is_some_and(|most| limit("minReady").is_some_and(|ready| ready > most)) => {
            Some("limits.minReady must not exceed limits.maxResources; lower it, or raise limits.maxResources")
        }
        () if spec["lease"]["recycle"] == "Destroy" && limit("leasesPerResource") != Some(1) => {
            Some("lease.recycle: Destroy needs limits.leasesPerResource: 1; set that, or Reuse")
        }
        () => None,
    }
}

fn wrong_command(kind: Kind, command: &Value) -> Option<&'static str> {
    let ends = ["at", "after", "never"].iter().filter(|field| !command[**field].is_null()).count();
    let type_ = command["type"].as_str().unwrap_or_default();
    match type_ {
        "Expires" if ends != 1 => Some("Expires takes exactly one of at, after and never: true"),
        _ if type_ != "Expires" && ends != 0 => Some("other types take none of at, after and never"),
        _ if !command["hold"].is_null() && type_ != "Release" => Some("hold goes with Release only"),
        _ if !command["hold"].is_null() && kind == Kind::Resource => Some("hold goes with the Release of a Lease"),
        "Reclaim" if kind == Kind::Lease => Some("Reclaim is for Resources"),
        _ => None,
    }
}

fn wrong_change(kind: Kind, old: &Value, new: &Value) -> Option<String> {
    let (queue, ledger) = (list(new, "/spec/commands"), list(new, "/status/commands"));
    let has = |list: &[Value], entry: &Value| list.iter().any(|other| other["id"] == entry["id"]);
    for (before, after, what) in [
        (list(old, "/spec/commands"), queue, "a command is immutable once written"),
        (list(old, "/status/commands"), ledger, "a ledger entry is final"),
    ] {
        let changed = |entry: &Value| after.iter().any(|other| other["id"] == entry["id"] && other != entry);
        if before.iter().any(changed) {
            return Some(what.into());
        }
    }
    if !list(old, "/spec/commands").iter().all(|command| has(queue, command) || has(ledger, command)) {
        return Some("a command may be removed only after status.commands shows it consumed".into());
    }
    if !list(old, "/status/commands").iter().all(|entry| has(ledger, entry) || !has(queue, entry)) {
        return Some("a ledger entry stays as long as its command is in the spec".into());
    }
    let destroyed = old.pointer("/status/phase").is_some_and(|phase| phase == "Destroyed");
    if destroyed && kind != Kind::Blueprint && !queue.iter().all(|command| has(list(old, "/spec/commands"), command)) {
        return Some(DESTROYED.into());
    }
    let may_change: &[&str] = match kind {
        Kind::Lease => &["priority", "expiresAt", "ttlAfterDestroyed", "heartbeat", "commands"],
        Kind::Resource => &["expiresAt", "commands"],
        Kind::Blueprint | Kind::Namespace => return blueprint_change(old, new),
    };
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        may_change.iter().for_each(|field| drop(spec.as_object_mut().map(|spec| spec.remove(*field))));
        spec
    };
    (fixed(old) != fixed(new)).then(|| "the spec is immutable, but for a few fields".into())
}

fn blueprint_change(old: &Value, new: &Value) -> Option<String> {
    let drivers = |object: &Value| object["spec"]["driver"].as_object().map(|d| d.keys().cloned().collect::<Vec<_>>());
    let changed = old["spec"]["resourceType"] != new["spec"]["resourceType"] || drivers(old) != drivers(new);
    changed.then(|| "resourceType, and which driver, are immutable".into())
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
