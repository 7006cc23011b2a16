//! Commands: consumed all together, each once, with its effect in the same write; and on record for good.

use super::{
    Checker, Verdict, Wrong,
    values::{is_over, length, list, reason, text, time, uid, unconsumed},
    wrong,
};
use serde_json::Value;

impl Checker {
    pub(super) fn ledger_of(&mut self, old: &Value, new: &Value) -> Verdict {
        let id = uid(new);
        if let Some(left) = unconsumed(new).next() {
            return wrong(format!("Q1: a status was written, and {} is not consumed", left["id"]), &[id]);
        }
        for entry in list(new, "/status/commands") {
            self.is_final(id, entry)?;
        }
        let known = |entry: &Value| list(old, "/status/commands").iter().any(|one| one["id"] == entry["id"]);
        let fresh: Vec<&Value> = list(new, "/status/commands").iter().filter(|entry| !known(entry)).collect();
        // Whatever the record says came of it: nothing that lives may keep from being released.
        let ends = |entry: &&&Value| ends_it(entry) || entry["type"] == "Release";
        if let Some(entry) = fresh.iter().find(ends).filter(|_| !is_over(new)) {
            return wrong(format!("{} is on record as consumed, and it is not released", entry["id"]), &[id]);
        }
        wish(old, new, &fresh)
    }

    /// What stands in a ledger stays as it is.
    fn is_final(&mut self, id: &str, entry: &Value) -> Verdict {
        let key = (id.to_owned(), text(entry, "/id").to_owned());
        let first = self.ledger.entry(key).or_insert_with(|| entry.clone());
        if first == entry {
            return Ok(());
        }
        let what = format!("a command was consumed twice, or its entry changed: {first}, then {entry}");
        Err(Wrong { what, uids: vec![id.to_owned()] })
    }
}

/// What is written off is written off because somebody has asked for it in this very write, and its teardown had failed.
pub fn forgotten_rightly(old: &Value, new: &Value) -> Verdict {
    let known = |entry: &Value| list(old, "/status/commands").iter().any(|one| one["id"] == entry["id"]);
    let asked = |entry: &&Value| entry["type"] == "Forget" && entry["outcome"] == "Applied" && !known(entry);
    if !list(new, "/status/commands").iter().any(|entry| asked(&entry)) {
        return wrong("written off, and nobody has asked for it", &[uid(new)]);
    }
    match reason(old, "TornDown") {
        "TeardownFailed" | "TeardownTimeout" | "CredentialsGone" => Ok(()),
        other => wrong(format!("written off, and no teardown had failed: {other}"), &[uid(new)]),
    }
}

/// A command that has ended what it was for.
pub fn ends_it(entry: &Value) -> bool {
    entry["outcome"] == "Applied" && (entry["type"] == "Release" || entry["type"] == "Reclaim")
}

/// An `Expires` and the wish that it sets are one write: the one is not without the other.
fn wish(old: &Value, new: &Value, fresh: &[&Value]) -> Verdict {
    let id = uid(new);
    let (before, after) = (&old["status"]["wish"], &new["status"]["wish"]);
    let edited = old["status"]["expirySeen"] != new["status"]["expirySeen"];
    let last = fresh.iter().rev().find(|entry| entry["type"] == "Expires" && entry["outcome"] == "Applied");
    let Some(entry) = last else {
        let moved = before != after && !edited;
        return if moved { wrong(format!("the end moved by itself, from {before} to {after}"), &[id]) } else { Ok(()) };
    };
    let Some(command) = list(new, "/spec/commands").iter().find(|command| command["id"] == entry["id"]) else {
        return Ok(());
    };
    let from = time(entry, "/observedAt").zip(length(command, "/after")).map(|(from, after)| from + after);
    let wanted = time(command, "/at").or(from);
    if time(new, "/status/wish/at") != wanted {
        return wrong(format!("{} is on record as Applied, and the wish is {after}", entry["id"]), &[id]);
    }
    Ok(())
}
