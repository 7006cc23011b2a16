//! What stands in a template is taken as it is meant, or refused: no field is dropped in silence, and the API server's warnings
//! are published.

use crate::{
    objects::{alone, env, lease, left, made, map, noted, release, robot},
    support::{Identity, condition, phase},
    told::{apply, holds_throughout, message, was_in},
};
use kube::api::DynamicObject;
use serde_json::json;

#[tokio::test]
async fn an_unknown_field_in_a_template_is_refused_and_named() {
    let (sandbox, _controller, things) = alone("typos-build").await;
    let mut typo = map("${resource.metadata.name}", json!({}));
    typo.as_object_mut().unwrap().remove("data");
    typo["dta"] = json!({"key": "value"});
    apply(&sandbox, &env(json!({"templates": [robot("${resource.metadata.name}"), typo]}), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let broken = was_in(&sandbox, "resource/env--0", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "Failed"));
    let told = message(&broken, "Released");
    assert!(told.starts_with("spec.driver.objects.templates[1]: ConfigMap env--0: "), "{told}");
    assert!(told.contains("unknown field \"dta\""), "{told}");
    let failing = |b: &DynamicObject| {
        condition(b, "Ready") == ("False", "BuildFailing") && message(b, "Ready").contains("unknown field \"dta\"")
    };
    sandbox.wait_for("blueprint/env", "told of the field", failing).await;

    let mended =
        json!({"templates": [robot("${resource.metadata.name}"), map("${resource.metadata.name}", json!({}))]});
    sandbox.patch(Identity::Admin, "blueprint/env", json!({"spec": {"driver": {"objects": mended}}})).await;
    sandbox.wait_phase("lease/a", "Active").await;
    things.caught_up().await;
    let maps = made(&things).into_iter().filter(|made| made == "configmap/env--0").count();
    assert_eq!(maps, 1, "nothing was made without its field");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_unknown_field_in_a_lease_template_breaks_the_lease_alone() {
    let (sandbox, _controller, things) = alone("typos-lease").await;
    let mut typo = map("of-${lease.metadata.name}", json!({}));
    typo["metadata"]["labels"] = json!({"a": "b"});
    typo["immutabel"] = json!(true);
    apply(&sandbox, &env(json!({"templates": [robot("env")], "leaseTemplates": [typo]}), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let broken = was_in(&sandbox, "lease/a", "Broken").await;
    let told = message(&broken, "Released");
    assert!(told.starts_with("spec.driver.objects.leaseTemplates[0]: ConfigMap of-a: "), "{told}");
    assert!(told.contains("unknown field \"immutabel\""), "{told}");
    sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Active");
    things.caught_up().await;
    assert_eq!(left(&things), ["serviceaccount/env"]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn warnings_of_the_api_server_are_events() {
    let (sandbox, _controller, _things) = alone("typos-warned").await;
    let deprecated = |name: &str| {
        let mut robot = robot(name);
        robot["metadata"]["annotations"] = json!({"kubernetes.io/enforce-mountable-secrets": "true"});
        robot
    };
    let objects =
        json!({"templates": [deprecated("env")], "leaseTemplates": [deprecated("of-${lease.metadata.name}")]});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    for (object, of) in [("env--0", "ServiceAccount env: "), ("a", "ServiceAccount of-a: ")] {
        noted(&sandbox, object, "TemplateWarning", of).await;
        noted(&sandbox, object, "TemplateWarning", "kubernetes.io/enforce-mountable-secrets").await;
    }
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    holds_throughout(&sandbox).await;
}
