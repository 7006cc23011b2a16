//! What holds a teardown of objects is told, and nothing is reported destroyed before it is gone: finalizers of others, and
//! namespaces that do not end.

use crate::{
    objects::{
        account_of_namespaces, alone, cluster, env, hold, lease, left, map, namespace, release, robot, until, within,
    },
    support::{Identity, condition, phase},
    told::{apply, holds_throughout, message, uid, was},
};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;

const FOREIGN: &str = "example.org/backup";

#[tokio::test]
async fn a_finalizer_of_somebody_holds_the_slot_and_is_told() {
    let (sandbox, _controller, things) = alone("objects-finalizer").await;
    let objects = json!({
        "templates": [robot("${resource.metadata.name}"), map("${resource.metadata.name}", json!({"a": "b"}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({}))],
    });
    apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let resource = uid(&sandbox.get("resource/env--0").await);

    // Somebody puts a finalizer on an object of the lease, and another on one of the resource.
    hold(&sandbox, "configmap/of-a", &[FOREIGN]).await;
    hold(&sandbox, "configmap/env--0", &[FOREIGN, "example.org/audit"]).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    release(&sandbox, "lease/a").await;
    let holds = |words: &'static [&'static str]| {
        move |o: &DynamicObject| {
            condition(o, "TornDown") == ("False", "TearingDown")
                && words.iter().all(|word| message(o, "TornDown").contains(word))
        }
    };
    let held = sandbox.wait_for("lease/a", "held", holds(&["ConfigMap of-a", FOREIGN])).await;
    assert_eq!(phase(&held), "Released");
    // Its resource is its own until then.
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Active");

    hold(&sandbox, "configmap/of-a", &[]).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let both: &[&str] = &["ConfigMap env--0", FOREIGN, "example.org/audit"];
    let held = sandbox.wait_for("resource/env--0", "held", holds(both)).await;
    assert_eq!((phase(&held), uid(&held)), ("Released", resource.clone()));
    // What was made before it is not touched yet, and nothing takes the slot.
    assert!(sandbox.get("serviceaccount/env--0").await.metadata.deletion_timestamp.is_none());
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;

    // One of the two goes: what is left is told.
    hold(&sandbox, "configmap/env--0", &["example.org/audit"]).await;
    let one = |o: &DynamicObject| holds(&["example.org/audit"])(o) && !message(o, "TornDown").contains(FOREIGN);
    sandbox.wait_for("resource/env--0", "held by one", one).await;
    hold(&sandbox, "configmap/env--0", &[]).await;
    let next = sandbox.wait_phase("lease/b", "Active").await;
    assert_ne!(next.data["status"]["resourceRef"]["uid"], resource);

    // At once, and not when somebody looks again by chance.
    sandbox.history().caught_up().await;
    things.caught_up().await;
    let gone = things.all().into_iter().find(|s| s.name == "env--0" && s.kind == "serviceaccount" && s.gone).unwrap();
    let destroyed = |s: &crate::support::Seen| s.uid == resource && s.phase() == "Destroyed";
    let destroyed = sandbox.history().all().into_iter().find(destroyed).unwrap();
    assert!(destroyed.version > gone.version);
    let late = destroyed.at.saturating_duration_since(gone.at);
    assert!(late < std::time::Duration::from_secs(3), "{late:?}");
    // A wait is told where it stands; it is no failure.
    sandbox.history().never("a failure", |s| condition(&s.object, "TornDown").1 == "TeardownFailed");

    release(&sandbox, "lease/b").await;
    sandbox.wait_phase("lease/b", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

/// A namespace ends when all in it is gone, and that may take a while, or somebody's help.
#[tokio::test]
async fn a_namespace_that_does_not_end_is_told_with_what_is_left_in_it() {
    let (sandbox, _controller, _things) = alone("objects-namespace").await;
    account_of_namespaces(&sandbox).await;
    let name = format!("{}-in", sandbox.namespace());
    let objects = json!({
        "templates": [namespace(&name)],
        "leaseTemplates": [{
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "${lease.metadata.name}", "namespace": name},
        }],
        "outputs": {"namespace": name},
    });
    apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;

    // Its lessee leaves something with a finalizer.
    let maps = within(&sandbox, Identity::Admin, &name, "configmap").await;
    let left = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left", "finalizers": [FOREIGN]}});
    maps.create(&PostParams::default(), &serde_json::from_value(left).unwrap()).await.unwrap();
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    assert!(maps.get_opt("a").await.unwrap().is_none(), "what was the lease's own is gone");

    // Kubernetes may take its time to say so.
    until(&cluster(&sandbox, "namespace").await, &name, "saying what is left in it", |found| {
        found.is_some_and(|found| condition(found, "NamespaceFinalizersRemaining").0 == "True")
    })
    .await;
    let is_held = |o: &DynamicObject| {
        condition(o, "TornDown") == ("False", "TearingDown") && message(o, "TornDown").contains(FOREIGN)
    };
    let held = was(&sandbox, "resource/env--0", "held", is_held).await;
    let told = message(&held, "TornDown");
    assert!(told.contains(&format!("Namespace {name}")) && told.contains("configmaps"), "{told}");
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Released");
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;

    let nothing = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    maps.patch("left", &PatchParams::default(), &nothing).await.unwrap();
    until(&cluster(&sandbox, "namespace").await, &name, "gone or new", |found| {
        found.is_none_or(|found| found.metadata.deletion_timestamp.is_none())
    })
    .await;
    sandbox.wait_phase("lease/b", "Active").await;
    release(&sandbox, "lease/b").await;
    sandbox.wait_phase("lease/b", "Destroyed").await;
    until(&cluster(&sandbox, "namespace").await, &name, "gone", |found| found.is_none()).await;
    sandbox.wait_gone("resource/env--0").await;
    holds_throughout(&sandbox).await;
}
