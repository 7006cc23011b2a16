//! Stories 55 and 56: what exists already is never touched; what is left when a Blueprint or its namespace goes.

use crate::{
    objects::{BUILDER, alone, delete_in_foreground, env, hold, lease, left, made, make, map, release, robot},
    support::{Identity, condition, phase},
    told::{apply, command, holds_throughout, message, was, was_in},
};
use kube::api::{DeleteParams, DynamicObject};
use serde_json::json;
use std::time::Duration;

/// Until a build that has failed is tried again, and then some.
const LONG: Duration = Duration::from_secs(60);

fn exists(object: &DynamicObject) -> bool {
    condition(object, "Released") == ("True", "Failed") && status_of_failure(object) == "ObjectExists"
}

fn status_of_failure(object: &DynamicObject) -> &str {
    object.data["status"]["failure"]["reason"].as_str().unwrap_or_default()
}

/// (a) One that somebody has made.
#[tokio::test]
async fn story_55_an_object_of_somebody_is_not_adopted_and_not_removed() {
    let (sandbox, _controller, things) = alone("story-55").await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken", "labels": {"drydock.dev/owner": "somebody"}},
        "data": {"a": "theirs"},
    });
    let before = make(&sandbox, &theirs.to_string()).await.remove(0);
    let objects = json!({"templates": [robot("${resource.metadata.name}"), map("taken", json!({"a": "ours"}))]});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let broken = was_in(&sandbox, "resource/env--0", "Broken").await;
    assert!(exists(&broken), "{broken:?}");
    assert!(message(&broken, "Released").contains("ConfigMap taken is there already"), "{broken:?}");
    let over = was_in(&sandbox, "resource/env--0", "Destroyed").await;
    assert_eq!(condition(&over, "TornDown"), ("True", "TornDown"));
    // The lease waits, and says why.
    let waits = |l: &DynamicObject| {
        condition(l, "Acquired") == ("False", "BuildFailing") && message(l, "Acquired").contains("taken")
    };
    sandbox.wait_for("lease/a", "waiting", waits).await;
    assert_eq!(sandbox.get("configmap/taken").await, before, "it is as it was, to the last field");
    // What was made before it is gone again.
    things.wait_for("the account to go", |s| s.name == "env--0" && s.gone).await;

    // When it is gone, the next build has the name.
    sandbox.delete(Identity::Admin, "configmap/taken").await;
    sandbox.wait_within(LONG, "lease/a", "active", |l| phase(l) == "Active").await;
    holds_throughout(&sandbox).await;
}

/// (b) One that was made for another Resource of Drydock.
#[tokio::test]
async fn story_55_nor_one_that_was_made_for_another_resource() {
    let (sandbox, _controller, things) = alone("story-55-another").await;
    let shared = map("${blueprint.spec.attributes.shared}", json!({"of": "${resource.metadata.name}"}));
    let more = |shared: &str| json!({"attributes": {"shared": shared}, "limits": {"maxResources": 2}});
    apply(&sandbox, &env(json!({"templates": [shared]}), more("shared"))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let shared = sandbox.get("configmap/shared").await;

    apply(&sandbox, &lease("b", json!({}))).await;
    let broken = was_in(&sandbox, "resource/env--1", "Broken").await;
    assert!(exists(&broken) && message(&broken, "Released").contains("ConfigMap shared"), "{broken:?}");
    was_in(&sandbox, "resource/env--1", "Destroyed").await;
    assert_eq!(sandbox.get("configmap/shared").await, shared);
    assert_eq!(phase(&sandbox.get("lease/a").await), "Active");

    // By another name it works.
    sandbox.patch(Identity::Admin, "blueprint/env", json!({"spec": more("another")})).await;
    sandbox.wait_within(LONG, "lease/b", "active", |l| phase(l) == "Active").await;
    assert_eq!(sandbox.get("configmap/shared").await, shared);
    things.caught_up().await;
    assert_eq!(made(&things), ["configmap/shared", "configmap/another"]);
    assert_eq!(left(&things).len(), 2);
    holds_throughout(&sandbox).await;
}

/// Nor one of another lease, on the same resource.
#[tokio::test]
async fn story_55_nor_one_that_was_made_for_another_lease() {
    let (sandbox, _controller, things) = alone("story-55-lease").await;
    let objects = json!({"leaseTemplates": [map("leases", json!({"of": "${lease.metadata.name}"}))]});
    apply(&sandbox, &env(objects, json!({"limits": {"leasesPerResource": 2}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let leases = sandbox.get("configmap/leases").await;

    apply(&sandbox, &lease("b", json!({}))).await;
    let broken = was_in(&sandbox, "lease/b", "Broken").await;
    assert!(exists(&broken) && message(&broken, "Released").contains("ConfigMap leases"), "{broken:?}");
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Failed"));
    assert_eq!(sandbox.get("configmap/leases").await, leases);
    assert_eq!(phase(&sandbox.get("lease/a").await), "Active");

    // When the first one is over, the name is free.
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    apply(&sandbox, &lease("c", json!({}))).await;
    sandbox.wait_phase("lease/c", "Active").await;
    assert_eq!(sandbox.get("configmap/leases").await.data["data"], json!({"of": "c"}));
    things.caught_up().await;
    assert_eq!(made(&things), ["configmap/leases", "configmap/leases"]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_56_a_blueprint_that_is_deleted_in_the_foreground_drains() {
    let (sandbox, _controller, things) = alone("story-56").await;
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({}))],
    });
    apply(&sandbox, &env(objects, json!({"limits": {"maxResources": 2}}))).await;
    for name in ["a", "b"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    for name in ["lease/a", "lease/b"] {
        sandbox.wait_phase(name, "Active").await;
    }
    release(&sandbox, "lease/b").await;
    sandbox.wait_phase("lease/b", "Destroyed").await;
    let idle = crate::told::bound_to(&sandbox.get("lease/b").await);
    delete_in_foreground(&sandbox, "blueprint/env").await;
    // The idle one goes at once, what is leased when its lease ends.
    sandbox.wait_gone(&format!("resource/{idle}")).await;
    let active = sandbox.get("lease/a").await;
    assert_eq!((phase(&active), condition(&active, "Ready")), ("Active", ("True", "Active")));
    let held = crate::told::bound_to(&active);
    assert!(sandbox.try_get(&format!("configmap/{held}")).await.is_some());
    assert!(sandbox.try_get("blueprint/env").await.is_some(), "it stays until its last resource is gone");

    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("blueprint/env").await;
    assert_eq!(sandbox.list("resource").await.len(), 0);
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

/// With its namespace go the account and its rights: what is still there can neither be removed nor be seen by it. It goes with the
/// namespace, which nothing of Drydock's holds then.
#[tokio::test]
async fn story_56_a_namespace_that_is_deleted_takes_its_environments_with_it() {
    let (sandbox, _controller, things) = alone("story-56-namespace").await;
    let objects = json!({"templates": [map("${resource.metadata.name}", json!({}))]});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    // So that it is certain to be there when the rights have gone.
    hold(&sandbox, "configmap/env--0", &["example.org/backup"]).await;

    let namespaces = crate::objects::cluster(&sandbox, "namespace").await;
    namespaces.delete(sandbox.namespace(), &DeleteParams::default()).await.unwrap();
    sandbox.wait_gone(&format!("serviceaccount/{BUILDER}")).await;
    was_in(&sandbox, "lease/a", "Destroyed").await;
    was_in(&sandbox, "resource/env--0", "Destroyed").await;
    sandbox.wait_gone("blueprint/env").await;
    // The namespace stays until somebody lets go of what is held in it.
    assert!(namespaces.get(sandbox.namespace()).await.unwrap().metadata.deletion_timestamp.is_some());
    sandbox.patch(Identity::Admin, "configmap/env--0", json!({"metadata": {"finalizers": []}})).await;
    crate::objects::until(&namespaces, sandbox.namespace(), "gone", |namespace| namespace.is_none()).await;
    assert_eq!(made(&things), ["configmap/env--0"]);
}

/// An environment elsewhere is removed all the same where the account's rights there are, and the controller may act as it
/// still: by a right that does not go with the namespace, as impersonation.clusterWide of the chart gives it.
#[tokio::test]
async fn story_56_an_environment_elsewhere_is_removed_as_long_as_its_rights_stand() {
    let (sandbox, _controller, _things) = alone("story-56-elsewhere").await;
    let (elsewhere, others) = crate::objects::without_controller("story-56-there").await;
    for (kind, spec) in crate::objects::rights_elsewhere(&sandbox, &["configmaps"]) {
        elsewhere.apply(Identity::Admin, &spec.to_string()).await;
        assert_eq!(spec["kind"], kind);
    }
    crate::objects::allowed(&sandbox, elsewhere.namespace(), "configmaps", "delete", true).await;
    crate::objects::impersonated_everywhere(&sandbox).await;
    let own = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "${resource.metadata.name}", "namespace": elsewhere.namespace()},
    });
    let limits = json!({"limits": {"maxResources": 2}});
    apply(&sandbox, &env(json!({"templates": [own]}), limits)).await;
    for name in ["a", "b"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    for name in ["lease/a", "lease/b"] {
        sandbox.wait_phase(name, "Active").await;
    }
    let (first, second) = ("env--0", "env--1");
    // The first teardown finds the rights, the second does not.
    hold(&elsewhere, &format!("configmap/{second}"), &["example.org/backup"]).await;
    let namespaces = crate::objects::cluster(&sandbox, "namespace").await;
    namespaces.delete(sandbox.namespace(), &DeleteParams::default()).await.unwrap();
    sandbox.wait_gone(&format!("serviceaccount/{BUILDER}")).await;
    elsewhere.wait_gone(&format!("configmap/{first}")).await;
    was_in(&sandbox, &format!("resource/{first}"), "Destroyed").await;
    let held = |r: &DynamicObject| message(r, "TornDown").contains("example.org/backup");
    sandbox.wait_for(&format!("resource/{second}"), "held", held).await;
    // Now somebody takes the rights away there, too.
    elsewhere.delete(Identity::Admin, "rolebinding/drydock-elsewhere").await;
    let told = |r: &DynamicObject| condition(r, "TornDown") == ("False", "CredentialsGone");
    sandbox.wait_within(LONG, &format!("resource/{second}"), "telling it", told).await;
    command(&sandbox, &format!("resource/{second}"), json!({"id": "f1", "type": "Forget"})).await;
    was(&sandbox, &format!("resource/{second}"), "forgotten", |r| condition(r, "TornDown") == ("True", "Forgotten"))
        .await;
    assert_eq!(outcome_of(&sandbox, second).await, "Applied");
    crate::objects::until(&namespaces, sandbox.namespace(), "gone", |namespace| namespace.is_none()).await;
    others.caught_up().await;
    assert_eq!(left(&others), [format!("configmap/{second}")], "it is left to whoever has written it off");
}

async fn outcome_of(sandbox: &crate::support::Sandbox<'_>, name: &str) -> String {
    sandbox.history().caught_up().await;
    let versions = sandbox.history().of(&format!("resource/{name}"));
    let entry = versions.iter().rev().find_map(|s| crate::told::entry(&s.object, "f1")).unwrap();
    entry["outcome"].as_str().unwrap().to_owned()
}
