//! The story of some objects, as a failure tells it.

use crate::journal::{Change, Entry, Journal, Kind, What};
use drydock::api::step::EffectKey;
use serde_json::Value;

/// All that happened to these, in order.
pub fn of(journal: &Journal, uids: &[String]) -> String {
    let concerns = |entry: &&Entry| match &entry.what {
        What::Wrote(version) => is_of(&version.object, uids),
        What::Called { work, .. } => has(&work.key, uids),
        What::Made(key)
        | What::Removed(key)
        | What::Ended { key, .. }
        | What::Stored { key, .. }
        | What::Asked { key, .. }
        | What::Damaged { key, .. }
        | What::Mended(key) => has(key, uids),
        What::Hooked { call, .. } => has(&call.key, uids),
        What::Note(_) => true,
    };
    let journal = journal.all();
    let mut lines: Vec<String> = journal.iter().filter(concerns).map(line).collect();
    let last = lines.len().saturating_sub(120);
    if last > 0 {
        lines[last - 1] = format!("… {last} lines …");
    }
    let end: Vec<String> = journal.iter().rev().take(12).map(line).collect();
    let end: Vec<String> = end.into_iter().rev().collect();
    format!("{}\nThe end of all that happened:\n{}", lines[last.saturating_sub(1)..].join("\n"), end.join("\n"))
}

fn is_of(object: &Value, uids: &[String]) -> bool {
    uids.iter().any(|uid| object["metadata"]["uid"] == uid.as_str())
}

fn has(key: &EffectKey, uids: &[String]) -> bool {
    uids.iter().any(|uid| key.resource == *uid || key.lease.as_ref().is_some_and(|(lease, _)| lease == uid))
}

fn line(entry: &Entry) -> String {
    let what = match &entry.what {
        What::Wrote(version) => {
            let meta = &version.object["metadata"];
            let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
            let deleting = if meta["deletionTimestamp"].is_null() { "" } else { ", deleting" };
            let change = if version.change == Change::Modified { "" } else { &format!(" {:?}", version.change) };
            let uid: String = text("uid").chars().take(8).collect();
            let said = if version.kind == Kind::Namespace { String::new() } else { said(&version.object) };
            format!("{:?} {} ({uid}) v{}{change}{deleting}: {said}", version.kind, text("name"), version.number)
        }
        What::Called { kind, work } => format!("call {kind:?} {}", short(&work.key)),
        What::Made(key) => format!("made {}", short(key)),
        What::Removed(key) => format!("removed {}", short(key)),
        What::Ended { kind, key, end } => format!("end of {kind:?} {}: {end:?}", short(key)),
        What::Stored { key, books } => format!("stored {} {books:?}", short(key)),
        What::Asked { key, says } => format!("asked {}: {says:?}", short(key)),
        What::Hooked { call, moves } => format!("{:?} {}: {moves:?}", call.kind, short(&call.key)),
        What::Damaged { key, for_good } => {
            format!("damaged {}{}", short(key), if *for_good { ", for good" } else { "" })
        }
        What::Mended(key) => format!("mended {}", short(key)),
        What::Note(note) => format!("-- {note}"),
    };
    format!("{:>10.3} {:<14} {what}", entry.at.as_secs_f64(), entry.by)
}

/// What a status says, in short.
fn said(object: &Value) -> String {
    let (spec, status) = (&object["spec"], &object["status"]);
    let mut said = vec![status["phase"].as_str().unwrap_or("-").to_owned()];
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    for condition in &conditions {
        if let (Some(type_), Some(reason)) = (condition["type"].as_str(), condition["reason"].as_str()) {
            said.push(format!("{type_}={reason}"));
        }
    }
    for field in [
        "attempt",
        "returns",
        "resourceRef",
        "claims",
        "built",
        "storage",
        "deadlines",
        "releasedAt",
        "idleSince",
        "wish",
    ] {
        match &status[field] {
            Value::Null => {}
            Value::Array(items) => {
                let item = |item: &Value| match (&item["at"], &item["uid"]) {
                    (Value::String(at), _) => format!("{}={at}", item["name"].as_str().unwrap_or_default()),
                    (_, Value::String(uid)) => format!("{}/{}", &uid[..8.min(uid.len())], item["attempt"]),
                    _ => item.to_string(),
                };
                said.push(format!("{field}:[{}]", items.iter().map(item).collect::<Vec<_>>().join(" ")));
            }
            Value::Object(map) if map.contains_key("uid") => {
                said.push(format!("{field}:{}", &map["uid"].as_str().unwrap_or_default()[..8]))
            }
            value => said.push(format!("{field}:{value}")),
        }
    }
    for field in [
        "suspend",
        "allowedNamespaces",
        "attributes",
        "limits",
        "placement",
        "resource",
        "expiry",
        "driver",
        "templateHash",
        "requestedFor",
        "parameters",
        "selector",
        "priority",
        "ttl",
        "queueTimeout",
        "expiresAt",
        "heartbeat",
        "heartbeatTimeout",
        "blueprints",
    ] {
        if !spec[field].is_null() && spec[field] != 0 && spec[field] != false {
            said.push(format!("{field}:{}", spec[field]));
        }
    }
    let ids = |list: &Value| {
        list.as_array().into_iter().flatten().map(|c| format!("{} {}", c["id"], c["type"])).collect::<Vec<_>>()
    };
    said.push(format!("queue {:?} ledger {:?}", ids(&object["spec"]["commands"]), ids(&status["commands"])));
    said.join(" ")
}

fn short(key: &EffectKey) -> String {
    let cut = |uid: &str| uid.chars().take(8).collect::<String>();
    match &key.lease {
        None => cut(&key.resource),
        Some((lease, attempt)) => format!("{}/{attempt} on {}", cut(lease), cut(&key.resource)),
    }
}
