//! Stories 25, 27 and 28: builds and teardowns that fail, for a while or for good. (Story 26 is told of two Blueprints.)

use crate::{
    effects::{End, Mood::*, alone, pool, true_to},
    support::{Identity, phase, sandbox::condition},
    told::{
        apply, bound_to, claimants, clock, command, deadline, ended_at, first_over, instant, last_told, lease, message,
        outcome, phases, seen_at, uid, versions, was, was_in,
    },
};
use drydock::api::step::{EffectKey, StepKind::*};
use jiff::SignedDuration;
use serde_json::json;

/// What may help is tried again in place: the same resource, a second later, then two, and so on.
#[tokio::test]
async fn story_25_a_build_that_fails_for_a_while_is_told_and_succeeds_when_its_cause_is_gone() {
    let (sandbox, world, _controller) = alone("story-25").await;
    world.will(Build, [Fails("the quota is used up")]);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let waiting = sandbox
        .wait_for("lease/a", "told that builds fail", |l| condition(l, "Acquired") == ("False", "BuildFailing"))
        .await;
    assert!(message(&waiting, "Acquired").contains("the quota is used up"), "{waiting:?}");
    assert_eq!(phase(&waiting), "Pending");
    let failing =
        sandbox.wait_for("blueprint/pool", "failing", |b| condition(b, "Ready") == ("False", "BuildFailing")).await;
    assert!(message(&failing, "Ready").contains("the quota is used up"), "{failing:?}");
    let resource = sandbox.wait_for("resource/pool--0", "failing", |r| !r.data["status"]["failure"].is_null()).await;
    assert_eq!((phase(&resource), message(&resource, "Ready")), ("Pending", "the quota is used up"));
    // It is tried again, in doubling steps.
    world.begun(Build, 3).await;
    let calls = world.calls(Build);
    for (n, least) in [(1, 1_000), (2, 2_000)] {
        let waited = calls[n].began - calls[n - 1].ended.unwrap().0;
        assert!(waited.as_millis() >= least, "try {n} came after {waited:?}");
    }

    world.will(Build, [Works]);
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["resourceRef"]["uid"], uid(&resource), "the same resource all the time");
    assert!(sandbox.get("resource/pool--0").await.data["status"]["failure"].is_null());
    sandbox.wait_for("blueprint/pool", "ready again", |b| condition(b, "Ready") == ("True", "Ready")).await;
    true_to(&sandbox, &world).await;
}

/// What does not help to try again breaks the resource; the next is built after a back-off, and why is still to be seen when
/// the broken one is gone.
#[tokio::test]
async fn story_25_builds_that_fail_for_good_back_off_and_are_told_until_one_succeeds() {
    let (sandbox, world, _controller) = alone("story-25-good").await;
    world.will(Build, [FailsForGood("no such image"), Works]);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let broken = was_in(&sandbox, "resource/pool--0", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "Failed"));
    sandbox.wait_gone("resource/pool--0").await;
    was(&sandbox, "lease/a", "told why builds fail", |l| {
        condition(l, "Acquired") == ("False", "BuildFailing") && message(l, "Acquired").contains("no such image")
    })
    .await;
    let is_failing = |b: &kube::api::DynamicObject| condition(b, "Ready") == ("False", "BuildFailing");
    let failing = was(&sandbox, "blueprint/pool", "failing", is_failing).await;
    assert!(message(&failing, "Ready").contains("no such image"), "{failing:?}");
    let next = instant(&failing, "nextBuildAt");
    assert!(next >= instant(&broken, "releasedAt") + SignedDuration::from_secs(10));

    sandbox.wait_phase("lease/a", "Active").await;
    sandbox.history().caught_up().await;
    let second = sandbox.history().of("resource/pool--0").into_iter().find(|seen| seen.uid != uid(&broken)).unwrap();
    assert!(seen_at(&second) >= next, "the next was made at {}, before {next}", seen_at(&second));
    sandbox.wait_for("blueprint/pool", "ready again", |b| condition(b, "Ready") == ("True", "Ready")).await;
    assert!(sandbox.get("blueprint/pool").await.data["status"]["nextBuildAt"].is_null());
    assert_eq!(world.calls(TearDownResource).len(), 1, "what the failed build left was removed");
    true_to(&sandbox, &world).await;
}

#[tokio::test]
async fn story_27_what_is_not_built_in_time_is_broken_torn_down_and_replaced() {
    let (sandbox, world, _controller) = alone("story-27").await;
    world.will(Build, [Hangs]);
    apply(&sandbox, &pool(1, json!({"resource": {"buildTimeout": "3s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    world.begun(Build, 1).await;
    let pending = was(&sandbox, "resource/pool--0", "being built", |r| clock(r, "Build").is_some()).await;
    let end = deadline(&pending, "Build").unwrap();
    assert!(end >= pending.metadata.creation_timestamp.as_ref().unwrap().0 + SignedDuration::from_secs(3));
    world.begun(TearDownResource, 1).await;
    world.will(Build, [Works]);
    sandbox.wait_gone("resource/pool--0").await;
    let broken = ended_at(&sandbox, &uid(&pending), end).await;
    assert_eq!(broken.phase(), "Broken");
    assert_eq!(condition(&broken.object, "Released"), ("True", "BuildTimeout"));
    assert_eq!(world.calls(Build)[0].ended.unwrap().1, End::Dropped, "nobody waits for that build any more");

    // The lease has waited all the time, and has the next one.
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], uid(&pending));
    assert_eq!(phases(&sandbox, "lease/a").await, ["Pending", "Acquired", "Active"]);
    assert_eq!(active.data["status"]["attempt"].as_i64().unwrap_or(0), 0, "a build that fails is no attempt");
    assert!(world.calls(Build).len() == 2 && world.calls(TearDownResource).len() == 1, "{}", world.tell());
    assert!(!world.has(&EffectKey::of_resource(&uid(&pending))), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// A driver that answers "again" for ever is as late as one that does not answer; one that is only slow is not.
#[tokio::test]
async fn story_27_slow_is_not_late() {
    let (sandbox, world, _controller) = alone("story-27-slow").await;
    world.will(Build, [Again(200), Again(200), Fails("not yet"), Again(200), Takes(500)]);
    apply(&sandbox, &pool(1, json!({"resource": {"buildTimeout": "20s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(world.calls(Build).len(), 5, "{}", world.tell());
    assert_eq!(phases(&sandbox, "resource/pool--0").await, ["Pending", "Active"]);

    // With no room left for it.
    sandbox
        .patch(
            Identity::Admin,
            "blueprint/pool",
            json!({"spec": {"limits": {"maxResources": 2}, "resource": {"buildTimeout": "1s"}}}),
        )
        .await;
    world.will(Build, [Again(100)]);
    apply(&sandbox, &lease("b", json!({}))).await;
    let broken =
        was(&sandbox, "resource/pool--1", "over", |r| condition(r, "Released") == ("True", "BuildTimeout")).await;
    sandbox.history().caught_up().await;
    let end = last_told(&sandbox, &uid(&broken), "Build").unwrap();
    ended_at(&sandbox, &uid(&broken), end).await;
    assert_eq!(phase(&sandbox.get("lease/b").await), "Pending");
    sandbox.wait_gone("resource/pool--1").await;
    true_to(&sandbox, &world).await;
}

/// A lease's teardown that fails: the phase stays, the error is told, the slot is kept, and it recovers by itself.
#[tokio::test]
async fn story_28_a_teardown_that_fails_keeps_its_slot_and_recovers_when_the_cause_is_gone() {
    let (sandbox, world, _controller) = alone("story-28").await;
    let failing = [Fails("the disk is busy"), FailsForGood("the disk is gone"), Fails("the disk is slow"), Hangs];
    world.will(TearDownLease, failing);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    apply(&sandbox, &lease("b", json!({}))).await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    for why in ["the disk is busy", "the disk is gone", "the disk is slow"] {
        let failed = was(&sandbox, "lease/a", why, |l| message(l, "TornDown").contains(why)).await;
        assert_eq!(condition(&failed, "TornDown"), ("False", "TeardownFailed"));
        assert_eq!(phase(&failed), "Released");
        assert_eq!(failed.data["status"]["failure"]["message"], why);
        assert_eq!(claimants(&sandbox.get("resource/pool--0").await), ["a"], "it keeps its slot");
        assert_eq!(phase(&sandbox.get("lease/b").await), "Pending");
    }
    sandbox.wait_event("a", "TeardownFailed").await;
    world.begun(TearDownLease, 4).await;
    world.will(TearDownLease, [Works]);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "TornDown"), ("True", "TornDown"));
    assert_eq!(condition(&over, "Released"), ("True", "Released"));
    sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(bound_to(&sandbox.get("lease/b").await), bound_to(&active));
    assert_eq!(world.calls(TearDownLease).len(), 4, "{}", world.tell());
    // Between two attempts lie 1 s, 2 s, 4 s.
    let calls = world.calls(TearDownLease);
    for (n, least) in [(1, 1_000), (2, 2_000), (3, 4_000)] {
        let waited = calls[n].began - calls[n - 1].ended.unwrap().0;
        assert!(waited.as_millis() >= least, "attempt {} came after {waited:?}", n + 1);
    }
    true_to(&sandbox, &world).await;
}

/// The same of a resource; and an attempt that hangs is given up, is told as such, and made again.
#[tokio::test]
async fn story_28_a_resource_that_cannot_be_removed_is_never_shown_destroyed_and_nothing_takes_its_place() {
    let (sandbox, world, _controller) = alone("story-28-resource").await;
    world.will(TearDownResource, [Fails("the rack is locked"), Hangs]);
    apply(&sandbox, &pool(1, json!({"resource": {"teardownTimeout": "1s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let resource = uid(&sandbox.get("resource/pool--0").await);
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.delete(Identity::Admin, "resource/pool--0").await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"));
    let is_failing = |r: &kube::api::DynamicObject| condition(r, "TornDown") == ("False", "TeardownFailed");
    let failed = was(&sandbox, "resource/pool--0", "failing", is_failing).await;
    assert!(message(&failed, "TornDown").contains("the rack is locked"), "{failed:?}");
    let late = sandbox
        .wait_for("resource/pool--0", "late", |r| condition(r, "TornDown") == ("False", "TeardownTimeout"))
        .await;
    assert_eq!((phase(&late), uid(&late)), ("Released", resource.clone()));
    world.begun(TearDownResource, 3).await;
    assert_eq!(phase(&sandbox.get("lease/b").await), "Pending");
    assert_eq!(sandbox.list("resource").await.len(), 1, "nothing takes its place");

    world.will(TearDownResource, [Works]);
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], resource);
    sandbox.history().caught_up().await;
    let phases: Vec<String> = versions(&sandbox, &resource).iter().map(|s| s.phase().to_owned()).collect();
    assert!(phases.iter().any(|p| p == "Destroyed"), "{phases:?}");
    true_to(&sandbox, &world).await;
}

/// What will never be removed by its driver is written off by a person who may: on record, with its name; and only then.
#[tokio::test]
async fn story_28_what_cannot_be_torn_down_is_forgotten_by_somebody_and_frees_its_slot() {
    let (sandbox, world, _controller) = alone("story-28-forget").await;
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let forget = |id: &str| json!({"id": id, "type": "Forget"});
    // Nothing has failed yet: nothing is forgotten.
    command(&sandbox, "lease/a", forget("f1")).await;
    assert_eq!(outcome(&sandbox, "lease/a", "f1").await.0, "Refused");
    world.will(TearDownLease, [Hangs]);
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    world.begun(TearDownLease, 1).await;
    command(&sandbox, "lease/a", forget("f2")).await;
    let (refused, why) = outcome(&sandbox, "lease/a", "f2").await;
    assert_eq!((refused.as_str(), why.contains("has failed")), ("Refused", true), "{why}");

    world.will(TearDownLease, [Fails("the disk is gone")]);
    sandbox.wait_for("lease/a", "failing", |l| condition(l, "TornDown") == ("False", "TeardownFailed")).await;
    assert_eq!(phase(&sandbox.get("lease/a").await), "Released");
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
    // Somebody removes what is left by hand, and says so.
    world.forget(&world.calls(TearDownLease)[0].key);
    command(&sandbox, "lease/a", forget("f3")).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(outcome(&sandbox, "lease/a", "f3").await.0, "Applied");
    assert_eq!(condition(&over, "TornDown"), ("True", "Forgotten"));
    assert!(message(&over, "TornDown").contains("by admin"), "{over:?}");
    assert_eq!(condition(&over, "Released"), ("True", "Released"), "it says still how it ended");
    sandbox.wait_phase("lease/b", "Active").await;

    // And a resource, by the same words: what stands in its slot afterwards is another one.
    world.will(TearDownResource, [Fails("the rack is gone")]);
    world.will(TearDownLease, [Works]);
    let resource = sandbox.get("resource/pool--0").await;
    command(&sandbox, "resource/pool--0", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/b", "Destroyed").await;
    sandbox.wait_for("resource/pool--0", "failing", |r| condition(r, "TornDown") == ("False", "TeardownFailed")).await;
    apply(&sandbox, &lease("c", json!({}))).await;
    world.forget(&EffectKey::of_resource(&uid(&resource)));
    command(&sandbox, "resource/pool--0", forget("f1")).await;
    let active = sandbox.wait_phase("lease/c", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], uid(&resource));
    sandbox.history().caught_up().await;
    let last = versions(&sandbox, &uid(&resource)).into_iter().rev().find(|s| s.phase() == "Destroyed").unwrap();
    assert_eq!(condition(&last.object, "TornDown"), ("True", "Forgotten"));
    assert!(message(&last.object, "TornDown").contains("by admin"));
    assert_eq!(first_over(&sandbox, &uid(&resource)).phase(), "Released");
    true_to(&sandbox, &world).await;
}
