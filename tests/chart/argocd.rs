//! `examples/argocd`: what Argo CD says of the health of our kinds, by the Lua that it runs itself.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::leash::repository;
use crate::support::{Identity, Sandbox, phase};

/// A value as Lua writes it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("[{}] = {}", Value::from(key.as_str()), lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

/// The health of an object, and what is said of it.
fn health(object: &Value) -> (String, String) {
    let patch = std::fs::read_to_string(repository("examples/argocd/health.yaml")).unwrap();
    let patch: Value = serde_yaml::from_str(&patch).unwrap();
    let key = format!("resource.customizations.health.drydock.dev_{}", object["kind"].as_str().unwrap());
    let script = patch["data"][&key].as_str().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let program = format!(
        "obj = {}\nlocal function health()\n{script}\nend\nlocal answer = health()\nprint(answer.status)\nprint(answer.message)\n",
        lua(object)
    );
    std::fs::write(file.path(), program).unwrap();
    let output = Command::new(crate::helm::program("glua")).arg(file.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let (status, message) = said.trim_end().split_once('\n').unwrap_or_else(|| panic!("{said}"));
    (status.to_owned(), message.to_owned())
}

#[test]
fn each_state_has_its_health() {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message});
    let ready = condition("Ready", "True", "Active", "");
    let failing = condition("TornDown", "False", "TeardownFailed", "it failed, and is tried again: no");
    let waits = condition("Acquired", "False", "AtCapacity", "2 of 2 are leased");
    let cases = [
        ("Lease", json!({}), "Progressing", "it waits"),
        ("Lease", json!({"phase": "Pending", "conditions": [waits]}), "Progressing", "2 of 2 are leased"),
        ("Lease", json!({"phase": "Acquired"}), "Progressing", "it is made ready"),
        (
            "Lease",
            json!({"phase": "Active", "conditions": [ready], "resourceRef": {"name": "a--h1"}}),
            "Healthy",
            "it holds a--h1",
        ),
        (
            "Lease",
            json!({"phase": "Destroyed", "conditions": [condition("Released", "True", "Expired", "")]}),
            "Degraded",
            "it has ended: Expired",
        ),
        (
            "Lease",
            json!({"phase": "Released", "conditions": [failing]}),
            "Degraded",
            "it failed, and is tried again: no",
        ),
        ("Resource", json!({"phase": "Pending"}), "Progressing", "it is built"),
        (
            "Resource",
            json!({"phase": "Pending", "failure": {"reason": "Forbidden", "message": "no"}}),
            "Degraded",
            "no",
        ),
        ("Resource", json!({"phase": "Active", "conditions": [ready]}), "Healthy", "it is ready"),
        (
            "Resource",
            json!({"phase": "Active", "conditions": [condition("Ready", "False", "ObjectLost", "Pod a is gone")]}),
            "Degraded",
            "Pod a is gone",
        ),
        ("Resource", json!({"phase": "Released"}), "Progressing", "it is torn down"),
        (
            "Resource",
            json!({"phase": "Broken", "conditions": [failing]}),
            "Degraded",
            "it failed, and is tried again: no",
        ),
        ("Blueprint", json!({}), "Progressing", "the controller has not seen it yet"),
        (
            "Blueprint",
            json!({"observedGeneration": 1, "conditions": [ready]}),
            "Progressing",
            "the controller has not seen it yet",
        ),
        ("Blueprint", json!({"observedGeneration": 2, "conditions": [ready]}), "Healthy", "its leases are served"),
        (
            "Blueprint",
            json!({"observedGeneration": 2, "conditions": [condition("Ready", "False", "Suspended", "as asked")]}),
            "Suspended",
            "as asked",
        ),
        (
            "Blueprint",
            json!({"observedGeneration": 2, "conditions": [condition("Ready", "False", "BuildFailing", "no")]}),
            "Degraded",
            "BuildFailing: no",
        ),
    ];
    for (kind, status, expected, message) in cases {
        let object = json!({"kind": kind, "metadata": {"generation": 2}, "status": status});
        assert_eq!(health(&object), (expected.to_owned(), message.to_owned()), "{object}");
    }
    let going = json!({"kind": "Lease", "metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Released"}});
    assert_eq!(health(&going).0, "Progressing");
}

/// The same of objects as the controller writes them.
#[tokio::test]
async fn what_the_controller_writes_is_understood() {
    let sandbox = Sandbox::new("argocd").await;
    let _controller = sandbox.controller().await;
    let hosts = "{apiVersion: drydock.dev/v1alpha1, kind: Blueprint, metadata: {name: pool}, spec: {resourceType: host, driver: {hosts: {inventory: [{name: h1}]}}}}";
    sandbox.apply(Identity::Admin, hosts).await;
    for name in ["a", "b"] {
        let lease =
            "{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {name: NAME}, spec: {resourceType: host}}";
        sandbox.apply(Identity::Admin, &lease.replace("NAME", name)).await;
        let is_seen = |lease: &kube::api::DynamicObject| phase(lease) == if name == "a" { "Active" } else { "Pending" };
        sandbox.wait_for(&format!("lease/{name}"), "seen", is_seen).await;
    }
    let of = async |name: &str| health(&serde_json::to_value(sandbox.get(name).await).unwrap());
    for (name, expected) in [
        ("blueprint/pool", "Healthy"),
        ("resource/pool--h1", "Healthy"),
        ("lease/a", "Healthy"),
        ("lease/b", "Progressing"),
    ] {
        let (status, message) = of(name).await;
        assert_eq!(status, expected, "{name}: {message}");
    }
}
