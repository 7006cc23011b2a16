//! Stories 21, 22 and 23: where a pool is full, what is idle and fits nobody who waits makes room for one that does.

use crate::{
    effects::{self, Mood::*, true_to},
    support::{Identity, Sandbox, phase, sandbox::condition},
    told::{
        alone, apply, bound_to, claimants, command, entry, from_now, holds_throughout, instant, lease, message, object,
        outcome, uid, was, was_in,
    },
};
use drydock::api::step::StepKind::*;
use jiff::SignedDuration;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What makes resources differ, and how long one must be unused before it makes room.
fn flavours(reclaim_after: &str) -> Value {
    json!({"resource": {"parameters": ["flavour"], "reclaimAfter": reclaim_after}})
}

fn of(flavour: &str) -> Value {
    json!({"parameters": {"flavour": flavour}})
}

fn is_reclaiming(lease: &DynamicObject) -> bool {
    condition(lease, "Acquired") == ("False", "Reclaiming")
}

/// A lease comes, is served, and goes; its resource stays.
async fn comes_and_goes(sandbox: &Sandbox<'_>, name: &str, flavour: &str) -> DynamicObject {
    apply(sandbox, &lease(name, of(flavour))).await;
    let active = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    command(sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    active
}

#[tokio::test]
async fn story_21_one_flavour_makes_room_for_another_and_back_again() {
    let (sandbox, world, _controller) = effects::alone("story-21").await;
    apply(&sandbox, &effects::pool(1, flavours("0s"))).await;
    let mut flavour = "a";
    for round in 0..4 {
        let name = format!("l{round}");
        let active = comes_and_goes(&sandbox, &name, flavour).await;
        assert_eq!(bound_to(&active), "pool--0");
        let resource = sandbox.get("resource/pool--0").await;
        assert_eq!(resource.data["spec"]["parameters"], json!({"flavour": flavour}));
        assert_eq!(active.data["status"]["resourceRef"]["uid"], uid(&resource));
        flavour = if flavour == "a" { "b" } else { "a" };
    }
    sandbox.history().caught_up().await;
    let history = sandbox.history().of("resource/pool--0");
    let reclaimed: Vec<_> = history.iter().filter(|seen| seen.phase() == "Destroyed" && !seen.gone).collect();
    assert!(reclaimed.iter().all(|seen| condition(&seen.object, "Released") == ("True", "Reclaimed")), "{reclaimed:?}");
    // By the queue, once for each lease, and in the controller's own name.
    let last = sandbox.get("lease/l3").await;
    let asked = history.iter().rev().find_map(|seen| entry(&seen.object, &format!("reclaim-{}", uid(&last)))).unwrap();
    assert_eq!((&asked["type"], &asked["outcome"]), (&json!("Reclaim"), &json!("Applied")));
    assert_eq!(asked["issuedBy"], "system:serviceaccount:drydock-system:drydock");
    assert_eq!((world.calls(Build).len(), world.calls(TearDownResource).len()), (4, 3), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// The same for hosts: what differs is what a host was set up for.
#[tokio::test]
async fn story_21_a_host_of_one_flavour_makes_room_for_another() {
    let (sandbox, _controller) = alone("story-21-hosts").await;
    apply(&sandbox, &crate::told::hosts(1, flavours("0s"))).await;
    comes_and_goes(&sandbox, "first", "a").await;
    apply(&sandbox, &lease("second", of("b"))).await;
    sandbox.wait_phase("lease/second", "Active").await;
    let resource = sandbox.get("resource/pool--h1").await;
    assert_eq!(resource.data["spec"]["parameters"], json!({"flavour": "b"}));
    holds_throughout(&sandbox).await;
}

/// And where a list of hosts is longer than the limit: one that is not asked for makes room for one that is.
#[tokio::test]
async fn story_21_a_host_that_is_not_asked_for_makes_room_for_one_that_is() {
    let (sandbox, _controller) = alone("story-21-limit").await;
    let host = |name: &str, arch: &str| json!({"name": name, "attributes": {"arch": arch}});
    let inventory = json!([host("h1", "amd64"), host("h2", "arm64")]);
    let spec = json!({
        "resourceType": "host", "limits": {"maxResources": 1}, "resource": {"reclaimAfter": "0s"},
        "driver": {"hosts": {"inventory": inventory}},
    });
    apply(&sandbox, &object("Blueprint", "pool", spec)).await;
    for (round, (arch, expected)) in
        [("amd64", "pool--h1"), ("arm64", "pool--h2"), ("amd64", "pool--h1")].iter().enumerate()
    {
        let name = format!("l{round}");
        apply(&sandbox, &lease(&name, json!({"selector": {"matchLabels": {"arch": arch}}}))).await;
        let active = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        assert_eq!(bound_to(&active), *expected);
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_22_of_three_idle_ones_one_makes_room_for_one_lease_however_long_that_takes() {
    let (sandbox, world, _controller) = effects::alone("story-22").await;
    apply(&sandbox, &effects::pool(3, flavours("0s"))).await;
    for name in ["a0", "a1", "a2"] {
        apply(&sandbox, &lease(name, of("a"))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let longest_idle = bound_to(&sandbox.get("lease/a1").await);
    for name in ["a1", "a0", "a2"] {
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        let resource = format!("resource/{}", bound_to(&sandbox.get(&format!("lease/{name}")).await));
        sandbox.wait_for(&resource, "idle", |r| claimants(r).is_empty()).await;
    }
    world.will(TearDownResource, [Hangs]);
    apply(&sandbox, &lease("b", of("b"))).await;
    world.begun(TearDownResource, 1).await;
    let waiting = sandbox.wait_for("lease/b", "told that room is made", is_reclaiming).await;
    assert!(message(&waiting, "Acquired").contains(&format!("is reclaiming {longest_idle}")), "{waiting:?}");
    // What happens meanwhile reclaims no other.
    for name in ["a3", "a4"] {
        comes_and_goes(&sandbox, name, "a").await;
    }
    sandbox.patch(Identity::Admin, "lease/b", json!({"spec": {"priority": 7}})).await;
    comes_and_goes(&sandbox, "a5", "a").await;
    world.will(TearDownResource, [Works]);
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(bound_to(&active), longest_idle, "in the room that was made");
    sandbox.history().caught_up().await;
    let history = sandbox.history().all();
    let gone = history.iter().filter(|seen| seen.kind == "resource" && seen.phase() == "Destroyed");
    let gone: BTreeSet<_> = gone.map(|seen| &seen.uid).collect();
    assert_eq!(gone.len(), 1, "{}", world.tell());
    assert_eq!((world.calls(TearDownResource).len(), world.calls(Build).len()), (1, 4), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// As many as wait, and each but one for itself.
#[tokio::test]
async fn story_22_two_leases_have_two_make_room() {
    let (sandbox, world, _controller) = effects::alone("story-22-two").await;
    apply(&sandbox, &effects::pool(4, flavours("0s"))).await;
    for name in ["a0", "a1", "a2", "a3"] {
        apply(&sandbox, &lease(name, of("a"))).await;
    }
    for name in ["a0", "a1", "a2", "a3"] {
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
    }
    for n in 0..4 {
        let idle = |r: &DynamicObject| phase(r) == "Active" && claimants(r).is_empty();
        sandbox.wait_for(&format!("resource/pool--{n}"), "idle", idle).await;
    }
    for name in ["b", "c"] {
        apply(&sandbox, &lease(name, of(name))).await;
    }
    for name in ["b", "c"] {
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    assert_eq!((world.calls(TearDownResource).len(), world.calls(Build).len()), (2, 6), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

#[tokio::test]
async fn story_23_what_was_just_used_is_not_reclaimed_before_its_time() {
    let (sandbox, world, _controller) = effects::alone("story-23").await;
    apply(&sandbox, &effects::pool(1, flavours("4s"))).await;
    comes_and_goes(&sandbox, "a", "a").await;
    let idle = |r: &DynamicObject| claimants(r).is_empty() && !r.data["status"]["idleSince"].is_null();
    let idle = sandbox.wait_for("resource/pool--0", "idle", idle).await;
    let due = instant(&idle, "idleSince") + SignedDuration::from_secs(4);
    // Who asks for it at once is told when to come back.
    command(&sandbox, "resource/pool--0", json!({"id": "c1", "type": "Reclaim"})).await;
    let (refused, why) = outcome(&sandbox, "resource/pool--0", "c1").await;
    assert_eq!(refused, "Refused");
    assert!(why.contains("reclaimable at"), "{why}");
    apply(&sandbox, &lease("b", of("b"))).await;
    let waiting = sandbox.wait_for("lease/b", "told what makes room", is_reclaiming).await;
    assert!(message(&waiting, "Acquired").contains("reclaims pool--0, which fits nobody"), "{waiting:?}");
    // Nobody looks at anything meanwhile: it is woken.
    let gone = was_in(&sandbox, "resource/pool--0", "Destroyed").await;
    assert_eq!(condition(&gone, "Released"), ("True", "Reclaimed"));
    assert!(instant(&gone, "releasedAt") >= due, "{gone:?}");
    assert!(instant(&gone, "releasedAt") <= due + SignedDuration::from_secs(5), "{gone:?}");
    sandbox.wait_phase("lease/b", "Active").await;
    true_to(&sandbox, &world).await;
}

/// What is used again meanwhile is not reclaimed, and who waits has no right to it; the order of a lease's wait stays.
#[tokio::test]
async fn story_23_what_is_used_again_stays() {
    let (sandbox, world, _controller) = effects::alone("story-23-again").await;
    apply(&sandbox, &effects::pool(1, flavours("3s"))).await;
    comes_and_goes(&sandbox, "a", "a").await;
    apply(&sandbox, &lease("b", of("b"))).await;
    sandbox.wait_for("lease/b", "told what makes room", is_reclaiming).await;
    apply(&sandbox, &lease("again", of("a"))).await;
    sandbox.wait_phase("lease/again", "Active").await;
    let taken = |l: &DynamicObject| condition(l, "Acquired") == ("False", "AtCapacity");
    sandbox.wait_for("lease/b", "told that all is taken", taken).await;
    // With a lease it is refused, and that is on record.
    command(&sandbox, "resource/pool--0", json!({"id": "c1", "type": "Reclaim"})).await;
    let (refused, why) = outcome(&sandbox, "resource/pool--0", "c1").await;
    assert_eq!(refused, "Refused");
    assert!(why.contains("held by 1 lease"), "{why}");
    crate::told::wait_until(from_now(3_500)).await;
    assert_eq!(phase(&sandbox.get("lease/again").await), "Active");
    command(&sandbox, "lease/again", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/b", "Active").await;
    true_to(&sandbox, &world).await;
}

/// A lease that gives up in time leaves everything as it is.
#[tokio::test]
async fn story_23_for_whom_nobody_waits_nothing_is_reclaimed() {
    let (sandbox, world, _controller) = effects::alone("story-23-gives-up").await;
    apply(&sandbox, &effects::pool(1, flavours("3s"))).await;
    comes_and_goes(&sandbox, "a", "a").await;
    let mut hasty = of("b");
    crate::told::merge(&mut hasty, json!({"queueTimeout": "1s"}));
    apply(&sandbox, &lease("hasty", hasty)).await;
    was(&sandbox, "lease/hasty", "told what makes room", is_reclaiming).await;
    let over = sandbox.wait_phase("lease/hasty", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "QueueTimeout"));
    crate::told::wait_until(from_now(3_500)).await;
    let left = sandbox.get("resource/pool--0").await;
    assert_eq!((phase(&left), left.data["spec"]["commands"].as_array().unwrap().len()), ("Active", 0));
    true_to(&sandbox, &world).await;
}
