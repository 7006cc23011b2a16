//! What the API server answers.

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

    pub fn not_found(what: &str) -> Self {
        Self::refused(404, "NotFound", format!("{what} not found"))
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
