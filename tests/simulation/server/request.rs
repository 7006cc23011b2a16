//! What is asked of the API server, read from HTTP.

use crate::journal::Kind;
use serde_json::Value;
use std::collections::BTreeMap;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    pub target: Target,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    /// Only the metadata of the objects of a list is wanted.
    pub metadata_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Replace,
    JsonPatch,
    MergePatch,
    Delete,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Objects of a kind: all, those of a namespace, or one.
    Objects {
        kind: Kind,
        namespace: Option<String>,
        name: Option<String>,
        status: bool,
    },
    /// How many a Blueprint keeps ready, as `kubectl scale` sees it.
    Scale {
        namespace: String,
        name: String,
    },
    /// Events: taken and dropped.
    Events,
    Unknown,
}

impl Request {
    /// Reads one; `None` where it is none that this server knows.
    pub fn read(method: &str, uri: &str, content_type: &str, accept: &str, body: &[u8]) -> Option<Self> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (decoded(key), decoded(value)));
        let query: BTreeMap<_, _> = query.split('&').filter_map(pair).collect();
        let target = target(path);
        let named = matches!(&target, Target::Objects { name: Some(_), .. } | Target::Scale { .. });
        let verb = match method {
            "GET" if query.get("watch").is_some_and(|w| w == "true" || w == "1") => Verb::Watch,
            "GET" if named => Verb::Get,
            "GET" => Verb::List,
            "POST" => Verb::Create,
            "PUT" => Verb::Replace,
            "DELETE" => Verb::Delete,
            "PATCH" if content_type.starts_with("application/json-patch+json") => Verb::JsonPatch,
            "PATCH" if content_type.starts_with("application/merge-patch+json") => Verb::MergePatch,
            _ => return None,
        };
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).ok()? };
        Some(Self { verb, target, query, body, metadata_only: accept.contains("as=PartialObjectMetadataList") })
    }
}

fn target(path: &str) -> Target {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let kind = |plural: &str| match plural {
        "leases" => Some(Kind::Lease),
        "resources" => Some(Kind::Resource),
        "blueprints" => Some(Kind::Blueprint),
        _ => None,
    };
    let text = |s: &&str| Some((*s).to_owned());
    let (plural, namespace, name, status) = match parts.as_slice() {
        ["apis", "events.k8s.io", ..] => return Target::Events,
        ["api", "v1", "namespaces", rest @ ..] if rest.len() < 2 => {
            let name = rest.first().map(|s| (*s).to_owned());
            return Target::Objects { kind: Kind::Namespace, namespace: None, name, status: false };
        }
        ["apis", "drydock.dev", "v1alpha1", plural] => (plural, None, None, false),
        ["apis", "drydock.dev", "v1alpha1", "namespaces", ns, plural] => (plural, text(ns), None, false),
        ["apis", "drydock.dev", "v1alpha1", "namespaces", ns, plural, name] => (plural, text(ns), text(name), false),
        ["apis", "drydock.dev", "v1alpha1", "namespaces", ns, "blueprints", name, "scale"] => {
            return Target::Scale { namespace: (*ns).to_owned(), name: (*name).to_owned() };
        }
        ["apis", "drydock.dev", "v1alpha1", "namespaces", ns, plural, name, "status"] => {
            (plural, text(ns), text(name), true)
        }
        _ => return Target::Unknown,
    };
    match kind(plural) {
        Some(kind) => Target::Objects { kind, namespace, name, status },
        None => Target::Unknown,
    }
}

/// Undoes percent encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
