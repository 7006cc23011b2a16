//! Stories 16, 17 and 20 where building and tearing down take their time: what is being removed counts, what is being built is
//! built once, and what is ending is granted to nobody.

use crate::{
    effects::{Mood::*, alone, pool, true_to},
    support::{Identity, Sandbox, phase, sandbox::condition},
    told::{apply, bound_to, claimants, command, lease, message, uid, was},
};
use drydock::api::step::{EffectKey, StepKind::*};
use futures::future::join_all;
use kube::api::DynamicObject;
use serde_json::json;
use std::collections::BTreeSet;

async fn at_once(sandbox: &Sandbox<'_>, count: usize, spec: serde_json::Value) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("l{n:02}")).collect();
    let documents: Vec<String> = names.iter().map(|name| lease(name, spec.clone())).collect();
    join_all(documents.iter().map(|document| sandbox.apply(Identity::Admin, document))).await;
    names
}

#[tokio::test]
async fn story_16_what_is_being_removed_counts_against_the_limit() {
    let (sandbox, world, _controller) = alone("story-16-slow").await;
    world.will(Build, [Takes(60)]);
    world.will(TearDownResource, [Takes(150)]);
    apply(&sandbox, &pool(3, json!({"lease": {"recycle": "Destroy"}}))).await;
    let names = at_once(&sandbox, 10, json!({"ttl": "100ms"})).await;
    for name in &names {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"), "{name}");
    }
    sandbox.history().caught_up().await;
    let mut live = BTreeSet::new();
    let mut most = 0;
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        match seen.gone || seen.phase() == "Destroyed" {
            true => live.remove(&seen.uid),
            false => live.insert(seen.uid.clone()),
        };
        most = most.max(live.len());
    }
    assert_eq!(most, 3, "at a time");
    // And by the world's own account.
    let steps: Vec<_> = [Build, TearDownResource].into_iter().flat_map(|kind| world.calls(kind)).collect();
    for built in steps.iter().filter(|call| call.kind == Build) {
        let removed_by = |key: &EffectKey| steps.iter().find(|c| c.kind == TearDownResource && c.key == *key)?.ended;
        let stands = |other: &&crate::effects::Call| {
            other.kind == Build
                && other.began <= built.began
                && removed_by(&other.key).is_none_or(|(at, _)| at > built.began)
        };
        assert!(steps.iter().filter(stands).count() <= 3, "{}", world.tell());
    }
    true_to(&sandbox, &world).await;
}

#[tokio::test]
async fn story_17_while_one_is_built_for_the_first_nothing_is_built_for_the_others() {
    let (sandbox, world, _controller) = alone("story-17-slow").await;
    world.will(Build, [Hangs]);
    apply(&sandbox, &pool(1, json!({}))).await;
    let names = at_once(&sandbox, 5, json!({"ttl": "100ms"})).await;
    world.begun(Build, 1).await;
    for name in &names {
        let waits = |l: &DynamicObject| matches!(condition(l, "Acquired").1, "Building" | "AtCapacity");
        sandbox.wait_for(&format!("lease/{name}"), "told what it waits for", waits).await;
    }
    assert_eq!(sandbox.list("resource").await.len(), 1, "no pile of them");
    world.will(Build, [Works]);
    for name in &names {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"), "{name} was served until its end");
    }
    assert_eq!((world.calls(Build).len(), world.calls(Activate).len()), (1, 5), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// Released with room for another, and waiting for the lease that it has: nobody binds to it any more.
#[tokio::test]
async fn story_20_a_resource_that_waits_for_its_leases_to_end_takes_no_other() {
    for how in ["Released", "Expired", "Deleted"] {
        let (sandbox, world, _controller) = alone(&format!("story-20-{}", how.to_lowercase())).await;
        world.will(TearDownLease, [Hangs]);
        apply(&sandbox, &pool(1, json!({"limits": {"leasesPerResource": 3}}))).await;
        for name in ["a", "b"] {
            apply(&sandbox, &lease(name, json!({}))).await;
            sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        }
        // One of them is held: that ends with its resource.
        command(&sandbox, "lease/b", json!({"id": "r1", "type": "Release", "hold": "1h"})).await;
        sandbox.wait_phase("lease/b", "Released").await;
        let resource = uid(&sandbox.get("resource/pool--0").await);
        match how {
            "Released" => command(&sandbox, "resource/pool--0", json!({"id": "r1", "type": "Release"})).await,
            "Deleted" => sandbox.delete(Identity::Admin, "resource/pool--0").await,
            _ => command(&sandbox, "resource/pool--0", json!({"id": "e1", "type": "Expires", "after": "0s"})).await,
        }
        let waiting_for = |r: &DynamicObject| condition(r, "TornDown") == ("False", "WaitingForLeases");
        let ending = was(&sandbox, "resource/pool--0", "waiting for its leases", waiting_for).await;
        assert_eq!(condition(&ending, "Released"), ("True", how));
        world.begun(TearDownLease, 2).await;
        apply(&sandbox, &lease("c", json!({}))).await;
        let waits = |l: &DynamicObject| condition(l, "Acquired") == ("False", "AtCapacity");
        sandbox.wait_for("lease/c", "waiting", waits).await;
        let mut left = claimants(&sandbox.get("resource/pool--0").await);
        left.sort();
        assert_eq!(left, ["a", "b"], "{how}");
        assert!(world.calls(TearDownResource).is_empty(), "{how}: {}", world.tell());
        assert!(message(&ending, "TornDown").contains("held by 2"), "{ending:?}");

        world.will(TearDownLease, [Works]);
        let active = sandbox.wait_phase("lease/c", "Active").await;
        assert_ne!(active.data["status"]["resourceRef"]["uid"], resource, "{how}");
        for (name, reason) in [("a", "ResourceReleased"), ("b", "Released")] {
            let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
            assert_eq!(condition(&over, "Released"), ("True", reason), "{how}: {name} says how it ended first");
        }
        true_to(&sandbox, &world).await;
    }
}

/// Takes a finalizer off by force, as the controller's account alone may: what was to wait for a teardown is gone at once.
async fn vanishes(sandbox: &Sandbox<'_>, object: &str) {
    sandbox.delete(Identity::Admin, object).await;
    sandbox.patch(Identity::Controller, object, json!({"metadata": {"finalizers": []}})).await;
}

/// A lease that is made to vanish: its resource tears down what it left, by its key alone, and only then gives its place away.
#[tokio::test]
async fn a_lease_that_vanishes_is_torn_down_before_its_place_is_given_away() {
    let (sandbox, world, _controller) = alone("lease-vanishes").await;
    world.will(TearDownLease, [Hangs]);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    apply(&sandbox, &lease("b", json!({}))).await;
    vanishes(&sandbox, "lease/a").await;
    sandbox.wait_gone("lease/a").await;
    let resource = active.data["status"]["resourceRef"]["uid"].as_str().unwrap().to_owned();
    let key = EffectKey { resource, lease: Some((uid(&active), 0)) };
    // Whoever saw the deletion first may have begun it; in the end the resource has, for nobody else is left.
    let by_resource = |call: &crate::effects::Call| call.rests_on.is_none() && call.key == key;
    world.until("a teardown by the resource", |world| world.calls(TearDownLease).iter().any(by_resource)).await;
    assert_eq!(claimants(&sandbox.get("resource/pool--0").await), ["a"], "gone, but not its effects");
    // A namesake inherits nothing.
    apply(&sandbox, &lease("a", json!({}))).await;
    assert_eq!(phase(&sandbox.get("lease/b").await), "Pending");
    world.will(TearDownLease, [Works]);
    let next = sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(bound_to(&next), bound_to(&active));
    assert!(!world.has(&key), "{}", world.tell());
    assert_eq!(phase(&sandbox.get("lease/a").await), "Pending");
}

/// A resource that is made to vanish: its lease is lost, and in its slot nothing is built before that is torn down.
#[tokio::test]
async fn a_resource_that_vanishes_takes_its_lease_along_and_nothing_is_built_on_what_that_left() {
    let (sandbox, world, _controller) = alone("resource-vanishes").await;
    world.will(TearDownLease, [Hangs]);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    apply(&sandbox, &lease("b", json!({}))).await;
    vanishes(&sandbox, "resource/pool--0").await;
    world.begun(TearDownLease, 1).await;
    let lost = sandbox.wait_phase("lease/a", "Released").await;
    let reason = condition(&lost, "Released").1;
    assert!(matches!(reason, "ResourceLost" | "ResourceReleased"), "{reason}");
    let resource = active.data["status"]["resourceRef"]["uid"].as_str().unwrap().to_owned();
    let next = sandbox.wait_for("resource/pool--0", "another one", |r| uid(r) != resource).await;
    assert_eq!(phase(&next), "");
    // What it stood on is somebody else's to clear away: its record is gone.
    world.forget(&EffectKey::of_resource(&resource));
    assert_eq!(world.calls(Build).len(), 1, "nothing is built in a slot that a lease still refers to");
    world.will(TearDownLease, [Works]);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", reason));
    sandbox.wait_phase("lease/b", "Active").await;
    let built = world.calls(Build).remove(1).began;
    let torn_down = world.calls(TearDownLease).remove(0).ended.unwrap().0;
    assert!(built >= torn_down, "{}", world.tell());
}
