//! Drydock deletes what it can prove to have made, and nothing that only looks so: labels, and the names of field managers, are
//! anybody's to set.

use crate::{
    objects::{
        ALL, account_of_namespaces, alone, cluster, env, lease, left, map, may, namespace, noted, notes, release,
        until, without_controller,
    },
    people::Person,
    support::{Identity, Sandbox, condition, phase, sandbox::refusal},
    told::{apply, command, holds_throughout, uid, was},
};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// Until a step that has failed a few times is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Of the group for emergencies, for whom no policy counts: as on a cluster that has none.
async fn breaks_the_glass(sandbox: &Sandbox<'_>) -> Person {
    Person::of_groups(sandbox, "rita", &["drydock:break-glass", "system:masters"]).await
}

/// Patches an object in the name of a field manager.
async fn patch(api: &Api<DynamicObject>, name: &str, manager: &str, patch: &Value) -> kube::Result<DynamicObject> {
    api.patch(
        name,
        &PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() },
        &Patch::Merge(patch),
    )
    .await
}

/// The lease is gone, and with it its record: somebody has taken its finalizer off while no controller looked.
async fn vanishes(sandbox: &Sandbox<'_>, rita: &Person, name: &str) {
    rita.api("lease").delete(name, &Default::default()).await.unwrap();
    patch(&rita.api("lease"), name, "rita", &json!({"metadata": {"finalizers": null}})).await.unwrap();
    sandbox.wait_gone(&format!("lease/{name}")).await;
}

#[tokio::test]
async fn a_namespace_that_only_looks_like_one_of_drydock_is_left_alone() {
    let (sandbox, _controller, things) = alone("proved-foreign").await;
    account_of_namespaces(&sandbox).await;
    let rita = breaks_the_glass(&sandbox).await;
    let (own, namespaces) = (sandbox.namespace(), cluster(&sandbox, "namespace").await);
    let (prod, of_lease) = (format!("{own}-prod"), format!("{own}-of-a"));
    let foreign = serde_json::from_value(namespace(&prod)).unwrap();
    namespaces.create(&PostParams::default(), &foreign).await.unwrap();
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [namespace(&format!("{own}-of-${{lease.metadata.name}}"))],
    });
    apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;

    // All that makes the lease's own namespace look like Drydock's, in the name of its field manager.
    let made = namespaces.get(&of_lease).await.unwrap().metadata;
    let labels: serde_json::Map<_, _> = made
        .labels
        .unwrap()
        .into_iter()
        .filter(|(l, _)| l.starts_with("drydock.dev/"))
        .map(|(l, v)| (l, json!(v)))
        .collect();
    let looks_alike = json!({"metadata": {"labels": labels, "annotations": made.annotations}});
    let said = refusal(patch(&namespaces, &prod, "drydock", &looks_alike).await);
    assert!(said.contains("says that Drydock made an object, and is set by Drydock alone"), "{said}");
    patch(&rita.cluster("namespace"), &prod, "drydock", &looks_alike).await.unwrap();

    // What is on record is removed whatever has become of its labels, or of its proof.
    let bare = json!({"metadata": {"labels": null, "annotations": null}});
    sandbox.patch(Identity::Admin, "configmap/env--0", bare).await;
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    until(&namespaces, &of_lease, "gone", |found| found.is_none()).await;
    things.caught_up().await;
    assert!(sandbox.try_get("configmap/env--0").await.is_none());
    let there = namespaces.get(&prod).await.unwrap();
    assert!(there.metadata.deletion_timestamp.is_none(), "{there:?}");
    assert!(there.metadata.labels.unwrap().contains_key("drydock.dev/owner"));
    namespaces.delete(&prod, &Default::default()).await.unwrap();
    holds_throughout(&sandbox).await;
}

/// Kubernetes keeps account of ten field managers of an object, and merges the oldest of more into one.
#[tokio::test]
async fn what_a_vanished_lease_had_is_removed_however_many_have_written_it_since() {
    let (sandbox, mut controller, things) = alone("proved-managers").await;
    let rita = breaks_the_glass(&sandbox).await;
    let objects = json!({"leaseTemplates": [map("of-${lease.metadata.name}", json!({}))]});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let maps = sandbox.api(Identity::Admin, "configmap").await;
    for n in 0..14 {
        patch(&maps, "of-a", &format!("writer-{n}"), &json!({"data": {format!("key-{n}"): "x"}})).await.unwrap();
    }
    let managed = maps.get("of-a").await.unwrap().metadata.managed_fields.unwrap();
    assert!(managed.iter().all(|entry| entry.manager.as_deref() != Some("drydock")), "{managed:?}");
    // Beside it, what bears its labels and its proof under another name.
    let made = maps.get("of-a").await.unwrap().metadata;
    let copy = json!({"metadata": {"name": "copied", "labels": made.labels, "annotations": made.annotations}});
    let copy = serde_json::from_value(copy).unwrap();
    let as_drydock = PostParams { field_manager: Some("drydock".into()), ..PostParams::default() };
    maps.create(&as_drydock, &copy).await.unwrap();

    controller.kill9().await;
    vanishes(&sandbox, &rita, "a").await;
    controller.restart().await;
    things.wait_for("the end of what the lease had", |s| s.name == "of-a" && s.gone).await;
    let free = |r: &DynamicObject| r.data["status"]["claims"].as_array().is_none_or(Vec::is_empty);
    sandbox.wait_for("resource/env--0", "free", free).await;
    things.caught_up().await;
    assert_eq!(left(&things), ["configmap/copied"]);
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
}

/// Nothing is proved by it then; all else works.
#[tokio::test]
async fn a_controller_without_a_key_makes_and_removes_what_is_on_record() {
    let (sandbox, things) = without_controller("proved-keyless").await;
    let controller = sandbox.controller_for(&[], &["--key-secret", "there-is-none"]).await;
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({}))],
    });
    apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    assert!(controller.log().contains("the Secret with the controller's key cannot be used"), "{}", controller.log());
    holds_throughout(&sandbox).await;
}

/// What was written off is removed when its name is needed again, and that is told; unless somebody has said that it is no longer
/// Drydock's.
#[tokio::test]
async fn what_was_written_off_does_not_go_without_a_word() {
    let (sandbox, _controller, things) = alone("proved-forgotten").await;
    let objects = json!({"templates": [map("${resource.metadata.name}", json!({"who": "${resource.metadata.uid}"}))]});
    apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
    let written_off = async |name: &str| {
        apply(&sandbox, &lease(name, json!({}))).await;
        sandbox.wait_within(AGAIN, &format!("lease/{name}"), "active", |l| phase(l) == "Active").await;
        let resource = uid(&sandbox.get("resource/env--0").await);
        may(&sandbox, &[("configmaps", &["create", "get", "list", "watch"]), ("serviceaccounts", &ALL)]).await;
        release(&sandbox, &format!("lease/{name}")).await;
        let fails = |r: &DynamicObject| condition(r, "TornDown").1 == "TeardownFailed";
        sandbox.wait_for("resource/env--0", "failing", fails).await;
        command(&sandbox, "resource/env--0", json!({"id": "off", "type": "Forget"})).await;
        let forgotten = |r: &DynamicObject| condition(r, "TornDown") == ("True", "Forgotten") && uid(r) == resource;
        was(&sandbox, "resource/env--0", "forgotten", forgotten).await;
        sandbox.wait_gone("resource/env--0").await;
        may(&sandbox, &[("configmaps", &ALL), ("serviceaccounts", &ALL)]).await;
        sandbox.get("configmap/env--0").await
    };
    let first = written_off("a").await;
    let second = written_off("b").await;
    assert_ne!(uid(&first), uid(&second));
    things.wait_for("the end of what was written off", |s| s.uid == uid(&first) && s.gone).await;
    noted(&sandbox, "env--0", "LeftoverRemoved", "ConfigMap").await;
    let said = notes(&sandbox, "env--0", "LeftoverRemoved").await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("by the command Forget") && said[0].contains("drydock.dev/owner"), "{said:?}");

    // Somebody keeps the second.
    let kept = json!({"metadata": {"labels": {"drydock.dev/owner": null}}});
    sandbox.patch(Identity::Admin, "configmap/env--0", kept).await;
    apply(&sandbox, &lease("c", json!({}))).await;
    let exists = |r: &DynamicObject| r.data["status"]["failure"]["reason"] == "ObjectExists";
    was(&sandbox, "resource/env--0", "broken", exists).await;
    assert_eq!(uid(&sandbox.get("configmap/env--0").await), uid(&second));
}
