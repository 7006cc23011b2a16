//! What an ordinary user cannot do with kubectl, whatever rights RBAC gives them over our kinds, and what they are told.

use serde_json::json;

use crate::support::{Identity, Sandbox, condition};

const LEASE: &str = "{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {name: a}, spec: {resourceType: board, commands: [{id: c1, type: Expires, after: 2h}]}}";

/// Alice gets all of our group, status too: more than `admin` gives.
async fn everything(sandbox: &Sandbox<'_>) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "everything"},
        "rules": [{"apiGroups": ["drydock.dev"], "resources": ["*"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "everything"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "everything"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    for object in [role, binding] {
        sandbox.apply(Identity::Admin, &object.to_string()).await;
    }
    let can = format!("--namespace={}", sandbox.namespace());
    let can = [can.as_str(), "auth", "can-i", "patch", "leases.drydock.dev", "--subresource=status"];
    let known = async { while sandbox.plane().run_kubectl(Identity::Alice, &can).await.is_err() {} };
    tokio::time::timeout(crate::support::sandbox::PATIENCE, known).await.expect("alice has these rights");
}

#[tokio::test]
async fn kubectl_cannot() {
    let sandbox = Sandbox::new("ordinary-user").await;
    everything(&sandbox).await;
    sandbox.apply(Identity::Alice, LEASE).await;
    let refused = async |words: &[&str], expected: &str| {
        let namespace = format!("--namespace={}", sandbox.namespace());
        let arguments = [&[namespace.as_str()], words].concat();
        let answer = sandbox.plane().run_kubectl(Identity::Alice, &arguments).await;
        let said = answer.expect_err(&format!("kubectl {}", words.join(" "))).to_string();
        assert!(said.contains(expected), "kubectl {}\nsaid      {said}\nand not   {expected}", words.join(" "));
    };
    let patch = |kind: &'static str, patch: &'static str| ["patch", "leases.drydock.dev", "a", kind, "-p", patch];

    let status = [&patch("--type=merge", r#"{"status": {"phase": "Active"}}"#)[..], &["--subresource=status"]].concat();
    refused(&status, "status: only the Drydock controller writes it; append a command to spec.commands instead").await;
    refused(
        &patch("--type=json", r#"[{"op": "add", "path": "/spec/commands/-", "value": {"id": "c2", "type": "Release", "issuedBy": "bob"}}]"#),
        "spec.commands: c2 names the issuer bob, but you are alice; leave issuedBy out",
    )
    .await;
    refused(
        &patch(
            "--type=json",
            r#"[{"op": "add", "path": "/spec/commands/-", "value": {"id": "c2", "type": "Forget"}}]"#,
        ),
        "c2 is a Forget, and you may not write off a teardown; ask for the verb forget on leases.drydock.dev/a",
    )
    .await;
    refused(
        &patch("--type=json", r#"[{"op": "replace", "path": "/spec/commands/0/after", "value": "20h"}]"#),
        "commands",
    )
    .await;
    refused(&patch("--type=json", r#"[{"op": "remove", "path": "/spec/commands/0"}]"#), "commands").await;
    refused(
        &["annotate", "--overwrite", "leases.drydock.dev", "a", "drydock.dev/owner=bob"],
        "drydock.dev/owner is who made the Lease, alice, and stays; keep it as it is",
    )
    .await;

    // Objects of templates are made by an account that they may not act as.
    let file = sandbox.plane().folder().join("ordinary-user.json");
    let blueprint = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": "mine"},
        "spec": {"resourceType": "env", "limits": {"maxResources": 1}, "driver": {"objects": {
            "serviceAccountName": "default",
            "templates": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}],
        }}},
    });
    std::fs::write(&file, blueprint.to_string()).unwrap();
    refused(
        &["apply", "-f", &file.to_string_lossy()],
        "spec.driver.objects.serviceAccountName: you may not act as default; ask for the verb impersonate on serviceaccounts/default",
    )
    .await;
    let resource = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Resource", "metadata": {"name": "mine--0"},
        "spec": {"resourceType": "env", "blueprintRef": {"name": "mine", "uid": "1"}},
    });
    std::fs::write(&file, resource.to_string()).unwrap();
    refused(&["create", "-f", &file.to_string_lossy()], "kind: only the Drydock controller creates a Resource").await;

    let lease = sandbox.get("lease/a").await;
    assert_eq!(
        lease.data["spec"]["commands"],
        json!([{"id": "c1", "type": "Expires", "after": "2h", "issuedBy": "alice"}])
    );
    // Before it is deleted the finalizer would be restored without a word.
    sandbox.delete(Identity::Admin, "lease/a").await;
    refused(
        &patch("--type=merge", r#"{"metadata": {"finalizers": null}}"#),
        "metadata.finalizers: drydock.dev/teardown is taken off by the controller when the teardown is done",
    )
    .await;
}

/// A Blueprint serves whom it admits; others wait, and are told no more than its name.
#[tokio::test]
async fn a_blueprint_that_does_not_admit_a_namespace_serves_nobody_in_it() {
    let (own, others) = (Sandbox::new("ordinary-lessee").await, Sandbox::new("ordinary-pool").await);
    everything(&own).await;
    let _controller = own.controller_for(&[&others], &[]).await;
    let hosts = "{apiVersion: drydock.dev/v1alpha1, kind: Blueprint, metadata: {name: pool}, spec: {resourceType: board, driver: {hosts: {inventory: [{name: secret-host}]}}}}";
    others.apply(Identity::Admin, hosts).await;
    let named = format!(
        "{{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {{name: b}}, spec: {{resourceType: board, blueprints: [{{name: pool, namespace: {}}}]}}}}",
        others.namespace()
    );
    own.apply(Identity::Alice, &named).await;
    let told = |lease: &kube::api::DynamicObject| condition(lease, "Acquired").1 == "NotAuthorized";
    let lease = own.wait_for("lease/b", "told that it is not admitted", told).await;
    assert!(!lease.data["status"].to_string().contains("secret-host"), "{:?}", lease.data["status"]);
    assert!(others.list("resource").await.is_empty());
}
