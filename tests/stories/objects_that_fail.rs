//! What does not become ready says why, in the words of its objects, and `failedWhen` gives up what cannot become ready.

use crate::{
    objects::{ALL, BUILDER, alone, env, lease, left, map},
    support::{Identity, Sandbox, condition, phase},
    told::{apply, holds_throughout, message, was_in},
};
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// The account may make Deployments, too.
async fn may_make_deployments(sandbox: &Sandbox<'_>) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "deployments"},
        "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ALL}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "deployments"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployments"},
        "subjects": [{"kind": "ServiceAccount", "name": BUILDER, "namespace": sandbox.namespace()}],
    });
    for object in [role, binding] {
        sandbox.apply(Identity::Admin, &object.to_string()).await;
    }
}

/// A Deployment whose Pods are refused: their service account is not there.
fn deployment(name: &str) -> Value {
    let labels = json!({"app": "env"});
    let spec = json!({"serviceAccountName": "nobody", "containers": [{"name": "app", "image": "app"}]});
    let pod = json!({"metadata": {"labels": labels}, "spec": spec});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
    })
}

const READY: &str = "objects.all(o, has(o.status.conditions) && o.status.conditions.exists(c, c.type == 'Available' && c.status == 'True'))";
const FAILED: &str = "objects.exists(o, has(o.status.conditions) && o.status.conditions.exists(c, c.type == 'ReplicaFailure' && c.status == 'True'))";

const SAYS: &str = "Deployment env--0: ReplicaFailure=True (FailedCreate): pods \"env--0-";

fn says(text: &str) -> bool {
    text.contains(SAYS) && text.contains("serviceaccount \"nobody\" not found")
}

#[tokio::test]
async fn what_is_not_ready_says_what_its_objects_say() {
    let (sandbox, _controller, _things) = alone("fails-says").await;
    may_make_deployments(&sandbox).await;
    let objects = json!({"templates": [deployment("${resource.metadata.name}")], "readyWhen": READY});
    apply(&sandbox, &env(objects, json!({"resource": {"buildTimeout": "10s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let waits =
        |r: &DynamicObject| message(r, "Ready").starts_with("readyWhen is false: ") && says(message(r, "Ready"));
    sandbox.wait_for("resource/env--0", "saying why", waits).await;
    // Nor is it forgotten when the time is over.
    let broken = was_in(&sandbox, "resource/env--0", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "BuildTimeout"));
    assert!(says(message(&broken, "Released")), "{}", message(&broken, "Released"));
    let failing = |b: &DynamicObject| condition(b, "Ready").1 == "BuildFailing" && says(message(b, "Ready"));
    sandbox.wait_for("blueprint/env", "saying why", failing).await;
    let waits = |l: &DynamicObject| condition(l, "Acquired").1 == "BuildFailing" && says(message(l, "Acquired"));
    sandbox.wait_for("lease/a", "told why", waits).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_build_that_cannot_succeed_is_given_up_at_once() {
    let (sandbox, _controller, _things) = alone("fails-build").await;
    may_make_deployments(&sandbox).await;
    let objects =
        json!({"templates": [deployment("${resource.metadata.name}")], "readyWhen": READY, "failedWhen": FAILED});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let broken = was_in(&sandbox, "resource/env--0", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "Failed"));
    let told = message(&broken, "Released");
    assert!(told.starts_with("failedWhen is true: ") && says(told), "{told}");
    assert_eq!(broken.data["status"]["failure"]["reason"], "FailedWhen");
    was_in(&sandbox, "resource/env--0", "Destroyed").await;
    // An edit mends it.
    let asks_less = json!({"readyWhen": "objects.all(o, o.kind == 'Deployment')", "failedWhen": null});
    sandbox.patch(Identity::Admin, "blueprint/env", json!({"spec": {"driver": {"objects": asks_less}}})).await;
    sandbox.wait_phase("lease/a", "Active").await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_activation_that_cannot_succeed_is_given_up_at_once() {
    let (sandbox, _controller, things) = alone("fails-lease").await;
    let objects = json!({
        "templates": [map("env", json!({"state": "fine"}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({"state": "new"}))],
        "readyWhen": "objects.all(o, o.data.state == 'fine')",
        "failedWhen": "objects.exists(o, o.data.state == 'bad')",
    });
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_for("lease/a", "waiting", |l| message(l, "Ready").starts_with("readyWhen is false")).await;
    // An error is no answer, and is told beside what is waited for.
    sandbox.patch(Identity::Admin, "configmap/of-a", json!({"data": null})).await;
    let unknown = |l: &DynamicObject| message(l, "Ready").contains("failedWhen: ");
    sandbox.wait_for("lease/a", "told of the error", unknown).await;
    sandbox.patch(Identity::Admin, "configmap/of-a", json!({"data": {"state": "bad"}})).await;
    let broken = was_in(&sandbox, "lease/a", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "Failed"));
    assert_eq!(message(&broken, "Released"), "failedWhen is true");
    sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Active");
    things.caught_up().await;
    assert_eq!(left(&things), ["configmap/env"]);
    holds_throughout(&sandbox).await;
}
