//! What an answer of the API server says of an object.

use kube::core::Status;

/// Whether a refusal says that the object of this name does not exist. A 404 alone does not: a path that is not served for a
/// moment, an API server that has just started, or a proxy on the way answer so, too, and then nothing is known of the object.
pub fn is_not_found(status: &Status, name: &str) -> bool {
    status.code == 404
        && status.details.as_ref().is_some_and(|details| !details.name.is_empty() && details.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn only_an_answer_that_names_the_object_says_that_it_does_not_exist() {
        let status = |value: Value| -> Status { serde_json::from_value(value).unwrap() };
        let named = |code: u16, name: &str| {
            let details = json!({"name": name, "group": "drydock.dev", "kind": "leases"});
            status(json!({"status": "Failure", "code": code, "reason": "NotFound", "details": details}))
        };
        assert!(is_not_found(&named(404, "a"), "a"));
        assert!(!is_not_found(&named(404, "b"), "a"), "the namespace, or something else on the way");
        assert!(!is_not_found(&named(404, ""), ""));
        assert!(!is_not_found(&named(503, "a"), "a"));
        let unserved = json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "the server could not find the requested resource", "details": {}});
        assert!(!is_not_found(&status(unserved), "a"));
        let plain = Status::failure("404 page not found", "Failed to parse error data").with_code(404);
        assert!(!is_not_found(&plain, "a"));
    }
}
