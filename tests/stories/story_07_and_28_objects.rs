//! Stories 7 and 28 with real objects: what is broken is not released once more, and a teardown that fails keeps its slot;
//! and what a lease left that vanished with its record.

use crate::{
    effects::Inside,
    objects::{
        ALL, alone, env, gone_within, hold, is_ours, lease, left, made, map, may, merged, release, robot,
        without_controller,
    },
    support::{Identity, condition, phase},
    told::{apply, command, holds_throughout, message, outcome, uid},
};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Until a step that has failed a few times is tried again.
const AGAIN: Duration = Duration::from_secs(60);

fn environment() -> Value {
    json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [robot("of-${lease.metadata.name}")],
    })
}

#[tokio::test]
async fn story_07_a_release_of_what_is_broken_is_ignored_on_both() {
    let (sandbox, _controller, things) = alone("story-07-objects").await;
    let never = json!({"readyWhen": "size(objects) > 7"});
    // First an activation that never ends, then, by another question, a build.
    let question = |asks: &str| json!({"spec": {"driver": {"objects": {"readyWhen": asks}}}});
    let ready = json!({"readyWhen": "size(objects) == 1"});
    let policy = json!({"lease": {"activationTimeout": "2s"}, "resource": {"buildTimeout": "3s"}});
    apply(&sandbox, &env(merged(environment(), ready), policy)).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Acquired").await;
    things.wait_for("what is the lease's own", |s| s.name == "of-a").await;
    hold(&sandbox, "serviceaccount/of-a", &["example.org/backup"]).await;
    sandbox.wait_phase("lease/a", "Broken").await;
    let release_of = |id: &str| json!({"id": id, "type": "Release"});
    command(&sandbox, "lease/a", release_of("r1")).await;
    let (ignored, words) = outcome(&sandbox, "lease/a", "r1").await;
    assert_eq!(ignored, "Ignored", "{words}");
    hold(&sandbox, "serviceaccount/of-a", &[]).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;

    release(&sandbox, "resource/env--0").await;
    sandbox.wait_gone("resource/env--0").await;
    sandbox.patch(Identity::Admin, "blueprint/env", question(never["readyWhen"].as_str().unwrap())).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    let waits = |r: &DynamicObject| message(r, "Ready").contains("readyWhen is false");
    sandbox.wait_for("resource/env--0", "building", waits).await;
    hold(&sandbox, "configmap/env--0", &["example.org/backup"]).await;
    sandbox.wait_phase("resource/env--0", "Broken").await;
    command(&sandbox, "resource/env--0", release_of("r1")).await;
    assert_eq!(outcome(&sandbox, "resource/env--0", "r1").await, (ignored, words), "in the same words");
    release(&sandbox, "lease/b").await;
    hold(&sandbox, "configmap/env--0", &[]).await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_28_a_teardown_that_fails_keeps_its_slot_and_recovers() {
    let (sandbox, _controller, things) = alone("story-28-objects").await;
    apply(&sandbox, &env(environment(), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let resource = uid(&sandbox.get("resource/env--0").await);
    may(&sandbox, &[("configmaps", &["get", "list", "watch", "create"]), ("serviceaccounts", &ALL)]).await;
    release(&sandbox, "resource/env--0").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    apply(&sandbox, &lease("b", json!({}))).await;
    // Twice at least: each attempt has a deadline of its own.
    let failing = |r: &DynamicObject| condition(r, "TornDown") == ("False", "TeardownFailed");
    let first = sandbox.wait_for("resource/env--0", "failing", failing).await;
    let attempt = crate::told::deadline(&first, "Teardown");
    let again = |r: &DynamicObject| failing(r) && crate::told::deadline(r, "Teardown") > attempt;
    let second = sandbox.wait_for("resource/env--0", "failing again", again).await;
    assert_eq!((phase(&second), uid(&second)), ("Released", resource.clone()));
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
    assert_eq!(sandbox.list("resource").await.len(), 1);

    may(&sandbox, &[("configmaps", &ALL), ("serviceaccounts", &ALL)]).await;
    let active = sandbox.wait_within(AGAIN, "lease/b", "active", |l| phase(l) == "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], resource);
    things.caught_up().await;
    let gone = things.all().into_iter().find(|s| s.name == "env--0" && s.gone).unwrap();
    let destroyed = |s: &crate::support::Seen| s.uid == resource && s.phase() == "Destroyed";
    sandbox.history().caught_up().await;
    assert!(sandbox.history().all().into_iter().find(destroyed).unwrap().version > gone.version);
    holds_throughout(&sandbox).await;
}

/// R4c: somebody has forced a lease off the API server, and its record is gone with it. What it had is found by its labels.
#[tokio::test]
async fn what_a_vanished_lease_left_is_found_and_removed() {
    let (sandbox, _controller, things) = alone("objects-vanished").await;
    apply(&sandbox, &env(environment(), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    // Only the controller may take a finalizer off; so somebody uses its credentials.
    let leases = sandbox.api(Identity::Controller, "lease").await;
    let nothing = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    leases.patch("a", &PatchParams::default(), &nothing).await.unwrap();
    sandbox.delete(Identity::Admin, "lease/a").await;
    gone_within(&sandbox, AGAIN, "serviceaccount/of-a").await;
    sandbox.wait_for("resource/env--0", "idle", |r| crate::told::claimants(r).is_empty()).await;
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Active");
    things.caught_up().await;
    assert_eq!(left(&things), ["configmap/env--0"]);
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
}

/// Two controllers at once make everything once, and remove it.
#[tokio::test]
async fn two_controllers_make_nothing_twice() {
    let (sandbox, things) = without_controller("objects-doubled").await;
    let _first = Inside::through(&sandbox, |own| own).await;
    let _second = sandbox.controller().await;
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({})), robot("${resource.metadata.name}")],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({})), robot("of-${lease.metadata.name}")],
    });
    let names: Vec<String> = (0..8).map(|n| format!("l{n}")).collect();
    for name in &names {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    apply(&sandbox, &env(objects, json!({"limits": {"maxResources": 8}, "lease": {"recycle": "Destroy"}}))).await;
    for name in &names {
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    for name in &names {
        release(&sandbox, &format!("lease/{name}")).await;
    }
    for name in &names {
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    for n in 0..8 {
        sandbox.wait_gone(&format!("resource/env--{n}")).await;
    }
    things.caught_up().await;
    // A grant too many costs a resource that nobody uses; but nothing is made twice for the same owner.
    assert!(made(&things).len() >= 32);
    let mut owned = BTreeMap::new();
    for seen in things.all().into_iter().filter(is_ours) {
        let owner = seen.object.metadata.labels.as_ref().unwrap()["drydock.dev/owner"].clone();
        let first = owned.entry((owner, seen.kind, seen.name.clone())).or_insert_with(|| seen.uid.clone());
        assert_eq!(*first, seen.uid, "{seen:?} was made twice");
    }
    assert_eq!(left(&things), [""; 0]);
    sandbox.history().never("a failure", |s| phase(&s.object) == "Broken");
    holds_throughout(&sandbox).await;
}
