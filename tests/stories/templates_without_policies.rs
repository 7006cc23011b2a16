//! On a control plane that has the CRDs and nothing else of Drydock: environments work, and what policies and schema would
//! have refused the driver refuses itself.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{ControlPlane, ControllerProcess, Identity, Sandbox, condition, install, resource_of};
use crate::templates::{MAKER, account, blueprint, everywhere, lease, map, of_core, released, says, with};
use crate::told::{apply, holds_throughout};

#[tokio::test]
async fn with_bare_crds() {
    let plane = ControlPlane::start().await.unwrap();
    install::crds(&plane).await.unwrap();
    let sandbox = Sandbox::on(&plane, "bare").await;
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &[sandbox.namespace()], &[]);
    controller.ready().await;
    for unkept in [
        "that only the controller writes status and creates Resources",
        "that nobody else takes the finalizer off before a teardown is done",
        "that who writes a Blueprint may act as the service account in it",
        "that each command says who appended it",
    ] {
        controller.logs(&format!("not enforced: {unkept}; the chart has the policies")).await;
    }
    account(&sandbox, MAKER, json!([of_core(&["configmaps"])])).await;

    let driver = json!({
        "templates": [map("of-${resource.metadata.name}")], "leaseTemplates": [map("for-${lease.metadata.name}")],
        "readyWhen": "objects.all(o, o.kind == 'ConfigMap')", "outputs": {"name": "${resource.metadata.name}"},
    });
    apply(&sandbox, &blueprint("env", driver)).await;
    apply(&sandbox, &lease("a", "env", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["outputs"]["name"], "env--0");
    assert!(sandbox.try_get("configmap/for-a").await.is_some());
    released(&sandbox, "lease/a").await;
    assert!(sandbox.try_get("configmap/for-a").await.is_none());
    sandbox.delete(Identity::Admin, "blueprint/env").await;
    sandbox.wait_gone("blueprint/env").await;
    assert!(sandbox.try_get("configmap/of-env--0").await.is_none());

    // What the account may not do it may not do here either.
    apply(&sandbox, &blueprint("secret", json!({"templates": [with(map("a"), json!({"kind": "Secret"}))]}))).await;
    apply(&sandbox, &lease("secret", "secret", json!({}))).await;
    says(&sandbox, "lease/secret", "Acquired", "BuildFailing", &["Secret a: ", "is forbidden"]).await;

    without_rules(&sandbox).await;
    // A watch that began before goes on with the old schema.
    controller.restart().await;
    let own = json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"resourceType": "env"}});
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}]);
    for (name, template, why) in [
        ("own", own.clone(), "templates[1].apiVersion: Drydock's own kinds are not made from templates"),
        (
            "own-later",
            with(own, json!({"apiVersion": "drydock.dev/v7"})),
            "templates[1].apiVersion: Drydock's own kinds",
        ),
        (
            "group",
            with(map("a"), json!({"apiVersion": "${'drydock.dev/v1alpha1'}"})),
            "templates[1].apiVersion: it is taken as it is",
        ),
        ("kind", with(map("a"), json!({"kind": "${'Lease'}"})), "templates[1].kind: it is taken as it is"),
        (
            "owner",
            with(map("a"), json!({"metadata": {"ownerReferences": owner}})),
            "templates[1].metadata.ownerReferences: ",
        ),
        (
            "finalizer",
            with(map("a"), json!({"metadata": {"finalizers": ["a/b"]}})),
            "templates[1].metadata.finalizers: ",
        ),
        (
            "generated",
            with(map("a"), json!({"metadata": {"generateName": "a-"}})),
            "templates[1].metadata.generateName: ",
        ),
        (
            "version",
            with(map("a"), json!({"metadata": {"resourceVersion": "7"}})),
            "templates[1].metadata.resourceVersion: ",
        ),
        (
            "label",
            with(map("a"), json!({"metadata": {"labels": {"drydock.dev/resource": "a"}}})),
            "templates[1].metadata.labels: ",
        ),
    ] {
        let path = format!("spec.driver.objects.{why}");
        apply(&sandbox, &blueprint(name, json!({"templates": [map("before"), template]}))).await;
        apply(&sandbox, &lease(name, name, json!({}))).await;
        says(&sandbox, &format!("blueprint/{name}"), "Ready", "InvalidExpression", &[&path]).await;
        says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[&path]).await;
    }
    for name in ["configmap/before", "configmap/a"] {
        assert!(sandbox.try_get(name).await.is_none(), "{name}");
    }
    // An account that is none: whoever it would be has no rights here.
    let odd = json!({"serviceAccountName": "x:y", "templates": [map("odd")]});
    apply(&sandbox, &blueprint("odd", odd)).await;
    apply(&sandbox, &lease("odd", "odd", json!({}))).await;
    says(&sandbox, "blueprint/odd", "Ready", "InvalidExpression", &["spec.driver.objects.serviceAccountName: "]).await;
    holds_throughout(&sandbox).await;
    drop((sandbox, controller));
    plane.stop().await.unwrap();
}

/// The CRD of Blueprints as one might be left with from another time: templates are objects of any form.
async fn without_rules(sandbox: &Sandbox<'_>) {
    let definitions = everywhere(sandbox, "CustomResourceDefinition").await;
    let name = "blueprints.drydock.dev";
    let mut definition = definitions.get(name).await.unwrap();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let data = &mut definition.data;
    let rules = data.pointer_mut(&format!("{spec}/x-kubernetes-validations")).and_then(Value::as_array_mut).unwrap();
    rules.retain(|rule| !rule["rule"].as_str().unwrap().contains("templates"));
    let driver = format!("{spec}/properties/driver/properties/objects/properties");
    for field in ["templates", "leaseTemplates"] {
        *data.pointer_mut(&format!("{driver}/{field}/items")).unwrap() = anything.clone();
    }
    let account = data.pointer_mut(&format!("{driver}/serviceAccountName")).and_then(Value::as_object_mut).unwrap();
    account.remove("pattern");
    definition.metadata.managed_fields = None;
    definition.metadata.resource_version = None;
    definition.types = None;
    let types = resource_of("CustomResourceDefinition");
    let mut patch = serde_json::to_value(&definition).unwrap();
    patch["apiVersion"] = json!(types.api_version);
    patch["kind"] = json!(types.kind);
    patch.as_object_mut().unwrap().remove("status");
    patch["metadata"] = json!({"name": name});
    definitions.patch(name, &PatchParams::apply("story").force(), &Patch::Apply(&patch)).await.unwrap();
    // In effect when something that the rules refuse is taken.
    let probe = blueprint("probe", json!({"templates": [{"any": "thing"}]}));
    let taken = async {
        while let Err(error) = sandbox.try_apply(Identity::Admin, &probe).await {
            assert!(matches!(&error, kube::Error::Api(_)), "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::support::sandbox::PATIENCE, taken).await.expect("the CRD without rules is in effect");
    let probe = sandbox.wait_for("blueprint/probe", "judged", |b| !condition(b, "Ready").0.is_empty()).await;
    drop(probe);
}
