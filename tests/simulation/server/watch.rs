//! What watches show: the versions of a kind after a certain one, in their order.

use super::{Kind, Server};
use crate::journal::{Change, Version};
use serde_json::{Value, json};

/// What a watch shows next.
pub enum Shown {
    /// A version, as a line.
    Version(Version),
    /// Nothing that has not been shown.
    Nothing,
    /// What it asks for is kept no more.
    Expired,
}

impl Server {
    /// The version of a kind that comes after this one.
    pub fn after(&self, kind: Kind, namespace: Option<&str>, version: u64) -> Shown {
        let state = self.state.lock().unwrap();
        if version < state.compacted {
            return Shown::Expired;
        }
        let versions = state.versions.get(&kind).map_or(&[][..], Vec::as_slice);
        let first = versions.partition_point(|v| v.number <= version);
        let of_namespace = |v: &&Version| namespace.is_none_or(|ns| v.object["metadata"]["namespace"] == ns);
        match versions[first..].iter().find(of_namespace) {
            Some(version) => Shown::Version(version.clone()),
            None => Shown::Nothing,
        }
    }

    /// The newest version of all.
    pub fn newest(&self) -> u64 {
        self.state.lock().unwrap().version
    }
}

/// A version as an event.
pub fn event(version: &Version) -> Value {
    let type_ = match version.change {
        Change::Added => "ADDED",
        Change::Modified => "MODIFIED",
        Change::Deleted => "DELETED",
    };
    json!({"type": type_, "object": &*version.object})
}

/// The word that nothing has happened up to here.
pub fn bookmark(kind: Kind, version: u64) -> Value {
    let (api, name) = match kind {
        Kind::Namespace => ("v1", "Namespace".to_owned()),
        kind => ("drydock.dev/v1alpha1", format!("{kind:?}")),
    };
    let meta = json!({"resourceVersion": version.to_string()});
    json!({"type": "BOOKMARK", "object": {"apiVersion": api, "kind": name, "metadata": meta}})
}

/// The word that what is asked for is kept no more.
pub fn expired() -> Value {
    let object = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    });
    json!({"type": "ERROR", "object": object})
}
