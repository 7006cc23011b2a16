//! The story of some objects, as a failure tells it: a line a version.

use super::{
    Kind,
    values::{attempt, bound_to, claims, is_deleting, is_held, list, phase, reason, text},
};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// So many lines of each object are kept.
const LINES: usize = 80;

/// See the module.
#[derive(Default)]
pub struct Story {
    lines: BTreeMap<String, Vec<(u64, String)>>,
}

impl Story {
    /// Notes a version of the object with this UID.
    pub fn note(&mut self, revision: u64, at: Timestamp, kind: Kind, key: &str, uid: &str, object: Option<&Value>) {
        let name = key.rsplit('/').next().unwrap_or_default();
        let said = object.map_or_else(|| "gone".to_owned(), said);
        let line = format!("{at:.3} v{revision} {kind:?} {name} ({}): {said}", short(uid));
        let lines = self.lines.entry(uid.to_owned()).or_default();
        if lines.len() == LINES {
            lines.remove(LINES / 2);
        }
        lines.push((revision, line));
    }

    /// Notes what was done to the world, between the versions.
    pub fn tell(&mut self, revision: u64, at: Timestamp, what: &str) {
        self.lines.entry(String::new()).or_default().push((revision, format!("{at:.3} -- {what}")));
    }

    /// All that happened to these, in order, and what was done meanwhile.
    pub fn of(&self, uids: &[String]) -> String {
        let mut lines: Vec<_> = uids.iter().filter_map(|uid| self.lines.get(uid)).flatten().collect();
        let first = lines.iter().map(|line| line.0).min().unwrap_or(0);
        let last = lines.iter().map(|line| line.0).max().unwrap_or(0);
        let meanwhile = self.lines.get("").into_iter().flatten();
        lines.extend(meanwhile.filter(|line| (first..=last).contains(&line.0)));
        lines.sort();
        lines.iter().map(|line| format!("  {}", line.1)).collect::<Vec<_>>().join("\n")
    }
}

fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}

/// What a version says, in short.
fn said(object: &Value) -> String {
    let mut said = vec![phase(object).to_owned()];
    if is_deleting(object) {
        said.push("deleting".into());
    }
    if !is_held(object) {
        said.push("without finalizer".into());
    }
    for condition in ["Acquired", "Ready", "Released", "TornDown"] {
        let reason = reason(object, condition);
        if !reason.is_empty() {
            said.push(format!("{condition}={reason}"));
        }
    }
    if !bound_to(object).is_empty() {
        said.push(format!("on {}/{}", short(bound_to(object)), attempt(object)));
    }
    let claims: Vec<String> = claims(object).iter().map(|(uid, attempt)| format!("{}/{attempt}", short(uid))).collect();
    if !claims.is_empty() {
        said.push(format!("claims {}", claims.join(" ")));
    }
    for deadline in list(object, "/status/deadlines") {
        said.push(format!("{}={}", text(deadline, "/name"), text(deadline, "/at")));
    }
    let ids = |at: &str| {
        list(object, at).iter().map(|c| format!("{}:{}", text(c, "/id"), text(c, "/type"))).collect::<Vec<_>>()
    };
    let (queue, ledger) = (ids("/spec/commands"), ids("/status/commands"));
    if !queue.is_empty() || !ledger.is_empty() {
        said.push(format!("queue {} ledger {}", queue.join(" "), ledger.join(" ")));
    }
    for field in ["resourceType", "limits", "suspend", "ttl", "queueTimeout", "priority", "expiresAt"] {
        if !object["spec"][field].is_null() && object["spec"][field] != 0 {
            said.push(format!("{field}:{}", object["spec"][field]));
        }
    }
    for field in ["releasedAt", "failure", "wish", "idleSince"] {
        if !object["status"][field].is_null() {
            said.push(format!("{field}:{}", object["status"][field]));
        }
    }
    said.join(" ")
}
