//! What the API server answers.

use crate::journal::Kind;
use serde_json::{Value, json};

/// An answer: its code and body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
}

impl Answer {
    /// 200, and this.
    pub fn ok(body: Value) -> Self {
        Self { code: 200, body }
    }

    /// 201, and this.
    pub fn created(body: Value) -> Self {
        Self { code: 201, body }
    }

    /// A refusal, as a `Status`.
    pub fn refused(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": code,
        });
        Self { code, body }
    }

    /// An object is not there. The details name it, which tells this answer from one about a path that is not served.
    pub fn not_found(kind: Kind, name: &str) -> Self {
        let (group, plural) = match kind {
            Kind::Blueprint => ("drydock.dev", "blueprints"),
            Kind::Resource => ("drydock.dev", "resources"),
            Kind::Lease => ("drydock.dev", "leases"),
            Kind::Namespace => ("", "namespaces"),
        };
        let qualified = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let mut answer = Self::refused(404, "NotFound", format!("{qualified} {name:?} not found"));
        answer.body["details"] = json!({"name": name, "kind": plural});
        if !group.is_empty() {
            answer.body["details"]["group"] = group.into();
        }
        answer
    }

    /// The path is not served, as while a CRD is being replaced: kube-apiserver says so in plain text.
    pub fn not_served() -> Self {
        Self { code: 404, body: Value::String("404 page not found\n".into()) }
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::refused(409, "Conflict", message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::refused(422, "Invalid", message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::refused(400, "BadRequest", message)
    }

    pub fn is_ok(&self) -> bool {
        self.code < 300
    }
}
