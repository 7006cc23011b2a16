//! The scale subresource of Blueprints: `spec.limits.minReady`, and how many are idle.

use super::{Answer, Kind, Name, Request, Server, Target, Verb, write::changed};
use serde_json::{Value, json};
use std::sync::Arc;

impl Server {
    /// Answers a request for it.
    pub(super) fn scale(&self, by: &Arc<str>, name: Name, request: &Request) -> Answer {
        let Some(blueprint) = self.get(Kind::Blueprint, &name) else {
            return Answer::not_found(Kind::Blueprint, &name.1);
        };
        let shown = shown(&blueprint);
        if request.verb == Verb::Get {
            return Answer::ok(shown);
        }
        let wanted = match changed(&shown, request) {
            Ok(wanted) => wanted,
            Err(answer) => return answer,
        };
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            return Answer::invalid("spec.replicas: must be at least 0");
        }
        let mut body = (*blueprint).clone();
        body["spec"]["limits"]["minReady"] = replicas.into();
        for field in ["uid", "resourceVersion"] {
            if let Some(given) = wanted["metadata"][field].as_str() {
                body["metadata"][field] = given.into();
            }
        }
        let target = Target::Objects {
            kind: Kind::Blueprint,
            namespace: Some(name.0.clone()),
            name: Some(name.1.clone()),
            status: false,
        };
        let answer = self.handle(by, &Request { verb: Verb::Replace, target, body, ..request.clone() });
        match self.get(Kind::Blueprint, &name).filter(|_| answer.is_ok()) {
            Some(now) => Answer::ok(self::shown(&now)),
            None => answer,
        }
    }
}

fn shown(blueprint: &Value) -> Value {
    let meta = |field: &str| blueprint["metadata"][field].clone();
    let number = |at: &str| blueprint.pointer(at).and_then(Value::as_i64).unwrap_or(0);
    let metadata = json!({
        "name": meta("name"), "namespace": meta("namespace"), "uid": meta("uid"),
        "resourceVersion": meta("resourceVersion"), "creationTimestamp": meta("creationTimestamp"),
    });
    // As the type has it: none is left out.
    let replicas = number("/spec/limits/minReady");
    let spec = if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) };
    let status = json!({"replicas": number("/status/resources/idle")});
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}
