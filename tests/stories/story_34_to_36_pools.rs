//! Stories 34, 35 and 36: how many a pool keeps ready, how many it builds at once, and how it shrinks.

use crate::{
    effects::{self, Mood::*, World, true_to},
    support::{Identity, Sandbox, phase, sandbox::condition},
    told::{
        alone, apply, bound_to, claimants, clock, command, deadline, ended_at, first_over, holds_throughout, hosts,
        lease, message, uid, versions, was,
    },
};
use drydock::api::step::StepKind::*;
use futures::future::join_all;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

fn is_idle(resource: &DynamicObject) -> bool {
    phase(resource) == "Active" && claimants(resource).is_empty()
}

/// Waits until these resources, and no others, are idle.
async fn idle(sandbox: &Sandbox<'_>, names: &[&str]) {
    for name in names {
        sandbox.wait_for(&format!("resource/{name}"), "idle", is_idle).await;
    }
    let idle: Vec<String> = sandbox.list("resource").await.into_iter().filter(is_idle).map(|r| r.name_any()).collect();
    assert_eq!(idle, names);
}

async fn release(sandbox: &Sandbox<'_>, name: &str) -> DynamicObject {
    command(sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await
}

/// The greatest number of resources at a time of which this was true.
fn most(sandbox: &Sandbox<'_>, counts: impl Fn(&str) -> bool) -> usize {
    let (mut now, mut most) = (BTreeSet::new(), 0);
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        match !seen.gone && counts(seen.phase()) {
            true => now.insert(seen.uid.clone()),
            false => now.remove(&seen.uid),
        };
        most = most.max(now.len());
    }
    most
}

fn is_pending(phase: &str) -> bool {
    matches!(phase, "" | "Pending")
}

fn is_live(phase: &str) -> bool {
    phase != "Destroyed"
}

#[tokio::test]
async fn story_34_what_is_missing_is_built_for_nobody_and_what_is_taken_is_replaced() {
    let (sandbox, world, _controller) = effects::alone("story-34").await;
    let flavours = json!({"parameters": ["flavour"], "defaults": {"flavour": "small", "other": "unused"}});
    apply(&sandbox, &effects::pool(5, json!({"limits": {"minReady": 2}, "resource": flavours}))).await;
    idle(&sandbox, &["pool--0", "pool--1"]).await;
    for name in ["pool--0", "pool--1"] {
        let ready = sandbox.get(&format!("resource/{name}")).await;
        assert!(ready.data["spec"]["requestedFor"].is_null(), "nobody has asked: {ready:?}");
        assert_eq!(ready.data["spec"]["parameters"], json!({"flavour": "small"}));
    }
    let tells = |b: &DynamicObject| b.data["status"]["resources"]["idle"] == 2;
    sandbox.wait_for("blueprint/pool", "telling that two are idle", tells).await;

    // One that is taken is replaced; the lease has not waited for a build.
    world.will(Build, [Hangs]);
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(bound_to(&active), "pool--0");
    world.begun(Build, 3).await;
    let replacing = sandbox.get("resource/pool--2").await;
    assert!(replacing.data["spec"]["requestedFor"].is_null(), "{replacing:?}");
    // What is on its way counts: no more are built. One for a lease does not: it is another's.
    apply(&sandbox, &lease("b", json!({"parameters": {"flavour": "large"}}))).await;
    world.begun(Build, 4).await;
    assert_eq!(sandbox.get("resource/pool--3").await.data["spec"]["requestedFor"]["name"], "b");
    world.will(Build, [Works]);
    sandbox.wait_phase("lease/b", "Active").await;
    idle(&sandbox, &["pool--1", "pool--2"]).await;

    // A lease that is given back makes it one more than are to be kept; without `idleTTL` it stays.
    release(&sandbox, "a").await;
    idle(&sandbox, &["pool--0", "pool--1", "pool--2"]).await;
    assert_eq!(world.calls(Build).len(), 4, "{}", world.tell());

    // One of another flavour is nothing that is kept ready; and the limit is the limit.
    release(&sandbox, "b").await;
    sandbox.wait_for("resource/pool--3", "idle", is_idle).await;
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"limits": {"minReady": 5}}})).await;
    idle(&sandbox, &["pool--0", "pool--1", "pool--2", "pool--3", "pool--4"]).await;
    assert_eq!(most(&sandbox, is_live), 5);
    true_to(&sandbox, &world).await;
}

#[tokio::test]
async fn story_34_above_what_is_to_be_kept_the_longest_idle_goes_and_what_is_leased_never() {
    let (sandbox, _controller) = alone("story-34-above").await;
    let kept = json!({"limits": {"minReady": 1}, "resource": {"idleTTL": "2s"}});
    apply(&sandbox, &hosts(4, kept)).await;
    idle(&sandbox, &["pool--h1"]).await;
    for name in ["a", "b"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    idle(&sandbox, &["pool--h3"]).await;
    // There may have been two for a moment: now it is the one that is kept.
    let is_kept = |r: &DynamicObject| clock(r, "Idle").is_none();
    let third = sandbox.wait_for("resource/pool--h3", "kept", is_kept).await;

    // The first comes back: it has been idle for less long than the third.
    release(&sandbox, "a").await;
    let runs = sandbox.wait_for("resource/pool--h3", "one too many", |r| deadline(r, "Idle").is_some()).await;
    sandbox.wait_gone("resource/pool--h3").await;
    let gone = ended_at(&sandbox, &uid(&third), deadline(&runs, "Idle").unwrap()).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "IdleTimeout"));
    idle(&sandbox, &["pool--h1"]).await;
    let first = sandbox.wait_for("resource/pool--h1", "kept", is_kept).await;

    // And none is kept any more: it goes, too. What is leased has been there all the time.
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"limits": {"minReady": 0}}})).await;
    sandbox.wait_gone("resource/pool--h1").await;
    assert_eq!(condition(&first_over(&sandbox, &uid(&first)).object, "Released"), ("True", "IdleTimeout"));
    assert_eq!(phase(&sandbox.get("lease/b").await), "Active");
    let left: Vec<String> = sandbox.list("resource").await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(left, ["pool--h2"]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_34_what_is_being_torn_down_is_not_counted_twice() {
    let (sandbox, world, _controller) = effects::alone("story-34-twice").await;
    world.will(TearDownResource, [Hangs]);
    apply(&sandbox, &effects::pool(3, json!({"limits": {"minReady": 2}}))).await;
    idle(&sandbox, &["pool--0", "pool--1"]).await;
    // It is replaced while it is still being torn down, for it is ready no more.
    sandbox.delete(Identity::Admin, "resource/pool--0").await;
    idle(&sandbox, &["pool--1", "pool--2"]).await;
    // Where the limit is reached by what is being torn down, nothing is built until a place is free.
    sandbox.delete(Identity::Admin, "resource/pool--1").await;
    world.begun(TearDownResource, 2).await;
    let tells = |b: &DynamicObject| b.data["status"]["resources"]["released"] == 2;
    sandbox.wait_for("blueprint/pool", "telling that two are released", tells).await;
    assert_eq!(world.calls(Build).len(), 3, "{}", world.tell());
    world.will(TearDownResource, [Works]);
    let tells = |b: &DynamicObject| b.data["status"]["resources"]["idle"] == 2;
    sandbox.wait_for("blueprint/pool", "telling that two are idle again", tells).await;
    assert_eq!((world.calls(Build).len(), most(&sandbox, is_live)), (4, 3), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

#[tokio::test]
async fn story_34_a_suspended_pool_and_one_whose_builds_fail_build_nothing_ahead() {
    let (sandbox, world, _controller) = effects::alone("story-34-none").await;
    let suspended = json!({"suspend": true, "limits": {"minReady": 1}});
    apply(&sandbox, &effects::pool(3, suspended)).await;
    sandbox.wait_for("blueprint/pool", "suspended", |b| condition(b, "Ready") == ("False", "Suspended")).await;
    world.will(Build, [FailsForGood("no such image"), Works]);
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"suspend": false}})).await;
    let failing =
        was(&sandbox, "blueprint/pool", "failing", |b| condition(b, "Ready") == ("False", "BuildFailing")).await;
    sandbox.wait_gone("resource/pool--0").await;
    assert_eq!(world.calls(Build).len(), 1, "{}", world.tell());
    // Afterwards it goes on by itself.
    let next: jiff::Timestamp = failing.data["status"]["nextBuildAt"].as_str().unwrap().parse().unwrap();
    idle(&sandbox, &["pool--0"]).await;
    assert!(jiff::Timestamp::now() >= next);
    sandbox.wait_for("blueprint/pool", "ready again", |b| condition(b, "Ready") == ("True", "Ready")).await;

    // One that is deleted keeps nothing ready.
    sandbox.delete(Identity::Admin, "blueprint/pool").await;
    sandbox.wait_gone("blueprint/pool").await;
    assert_eq!((world.calls(Build).len(), world.is_empty()), (2, true), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// Where only one may be built at a time, what is kept ready comes after those who wait.
#[tokio::test]
async fn story_34_who_waits_comes_before_what_is_kept_ready() {
    let (sandbox, world, _controller) = effects::alone("story-34-waits").await;
    world.will(Build, [Hangs]);
    let flavours = json!({"parameters": ["flavour"], "defaults": {"flavour": "small"}});
    let limits = json!({"minReady": 3, "maxConcurrentBuilds": 1});
    apply(&sandbox, &effects::pool(5, json!({"limits": limits, "resource": flavours}))).await;
    world.begun(Build, 1).await;
    for (name, flavour) in [("small", "small"), ("large", "large")] {
        apply(&sandbox, &lease(name, json!({"parameters": {"flavour": flavour}}))).await;
    }
    // The one that is on its way for nobody will be the first one's, and it says so.
    let building = |l: &DynamicObject| condition(l, "Acquired") == ("False", "Building");
    sandbox.wait_for("lease/small", "building", building).await;
    let in_turn = |l: &DynamicObject| condition(l, "Acquired") == ("False", "AtCapacity");
    let waiting = sandbox.wait_for("lease/large", "waiting for its turn", in_turn).await;
    assert!(message(&waiting, "Acquired").contains("limits.maxConcurrentBuilds"), "{waiting:?}");
    world.will(Build, [Works, Hangs]);
    world.begun(Build, 2).await;
    let second = sandbox.get("resource/pool--1").await;
    assert_eq!(second.data["spec"]["requestedFor"]["name"], "large", "{second:?}");
    world.will(Build, [Works]);
    for name in ["small", "large"] {
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    idle(&sandbox, &["pool--2", "pool--3", "pool--4"]).await;
    assert_eq!(most(&sandbox, is_pending), 1);
    true_to(&sandbox, &world).await;
}

/// How many builds ran at a time, by the world's own account.
fn most_at_once(world: &World) -> usize {
    let builds = world.calls(Build);
    let runs = |at: std::time::Instant| {
        builds.iter().filter(|b| b.began <= at && b.ended.is_none_or(|(ended, _)| ended > at)).count()
    };
    builds.iter().map(|build| runs(build.began)).max().unwrap_or(0)
}

async fn at_once(sandbox: &Sandbox<'_>, count: usize, spec: Value) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("l{n}")).collect();
    let documents: Vec<String> = names.iter().map(|name| lease(name, spec.clone())).collect();
    join_all(documents.iter().map(|document| sandbox.apply(Identity::Admin, document))).await;
    names
}

#[tokio::test]
async fn story_35_only_so_many_are_built_at_once_and_who_waits_is_told() {
    let (sandbox, world, _controller) = effects::alone("story-35").await;
    world.will(Build, [Hangs]);
    apply(&sandbox, &effects::pool(8, json!({"limits": {"maxConcurrentBuilds": 2}}))).await;
    let names = at_once(&sandbox, 6, json!({})).await;
    world.begun(Build, 2).await;
    let mut told = Vec::new();
    for name in &names {
        let knows = |l: &DynamicObject| match condition(l, "Acquired") {
            ("False", "Building") => message(l, "Acquired").contains("is building one"),
            ("False", "AtCapacity") => message(l, "Acquired").contains("2 at once (limits.maxConcurrentBuilds)"),
            _ => false,
        };
        let lease = sandbox.wait_for(&format!("lease/{name}"), "told what it waits for", knows).await;
        told.push(condition(&lease, "Acquired").1.to_owned());
    }
    told.sort();
    assert_eq!(told, ["AtCapacity", "AtCapacity", "AtCapacity", "AtCapacity", "Building", "Building"]);
    assert_eq!(sandbox.list("resource").await.len(), 2);
    world.will(Build, [Takes(300)]);
    for name in &names {
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    sandbox.history().caught_up().await;
    assert_eq!((most(&sandbox, is_pending), most_at_once(&world)), (2, 2), "{}", world.tell());
    // As one ends the next begins: nobody polls.
    let builds = world.calls(Build);
    let mut ends: Vec<_> = builds.iter().map(|build| build.ended.unwrap().0).collect();
    ends.sort();
    for (before, build) in ends.iter().zip(&builds[2..]) {
        assert!(build.began - *before < Duration::from_secs(3), "{}", world.tell());
    }
    assert_eq!(builds.len(), 6, "one for each of them, whatever the order in which they were done: {}", world.tell());
    true_to(&sandbox, &world).await;
}

/// What broke is being torn down: it keeps its place, but it is no build.
#[tokio::test]
async fn story_35_what_is_being_torn_down_is_no_build() {
    let (sandbox, world, _controller) = effects::alone("story-35-broken").await;
    world.will(Build, [FailsForGood("no such image"), Works]);
    world.will(TearDownResource, [Hangs]);
    apply(&sandbox, &effects::pool(3, json!({"limits": {"maxConcurrentBuilds": 1}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    world.begun(TearDownResource, 1).await;
    assert_eq!(phase(&sandbox.get("resource/pool--0").await), "Broken");
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(bound_to(&active), "pool--1");
    // Nor is one that somebody has released while it was built.
    world.will(Build, [Hangs]);
    apply(&sandbox, &lease("b", json!({}))).await;
    world.begun(Build, 3).await;
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"limits": {"maxResources": 4}}})).await;
    command(&sandbox, "resource/pool--2", json!({"id": "r1", "type": "Release"})).await;
    world.begun(Build, 4).await;
    assert_eq!(phase(&sandbox.get("resource/pool--2").await), "Released");
    world.will(Build, [Works]);
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(bound_to(&active), "pool--3");
    assert_eq!(phase(&sandbox.get("resource/pool--0").await), "Broken", "{}", world.tell());
    world.will(TearDownResource, [Works]);
    for name in ["pool--0", "pool--2"] {
        sandbox.wait_gone(&format!("resource/{name}")).await;
    }
    true_to(&sandbox, &world).await;
}

/// Building a host has no effects outside, and takes no time: the limit does not hold it up.
#[tokio::test]
async fn story_35_hosts_are_not_built() {
    let (sandbox, _controller) = alone("story-35-hosts").await;
    apply(&sandbox, &hosts(6, json!({"limits": {"maxConcurrentBuilds": 1, "minReady": 2}}))).await;
    let names = at_once(&sandbox, 6, json!({})).await;
    for name in &names {
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_36_a_lower_limit_touches_nothing_that_is_leased_and_the_pool_shrinks_on_release() {
    let (sandbox, world, _controller) = effects::alone("story-36").await;
    apply(&sandbox, &effects::pool(3, json!({}))).await;
    let mut resources = Vec::new();
    for name in ["a", "b", "c"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        resources.push(bound_to(&sandbox.wait_phase(&format!("lease/{name}"), "Active").await));
    }
    apply(&sandbox, &lease("d", json!({}))).await;
    let waits = |l: &DynamicObject| condition(l, "Acquired") == ("False", "AtCapacity");
    sandbox.wait_for("lease/d", "waiting", waits).await;
    let lowered = json!({"spec": {"limits": {"maxResources": 1}}});
    let lowered = sandbox.patch(Identity::Admin, "blueprint/pool", lowered).await;
    let seen = |b: &DynamicObject| b.data["status"]["observedGeneration"].as_i64() == lowered.metadata.generation;
    sandbox.wait_for("blueprint/pool", "seen", seen).await;
    for name in ["a", "b"] {
        let resource = format!("resource/{}", resources.remove(0));
        release(&sandbox, name).await;
        sandbox.wait_gone(&resource).await;
        let over = sandbox.history().of(&resource).into_iter().rev().find(|seen| seen.phase() == "Destroyed").unwrap();
        assert_eq!(condition(&over.object, "Released"), ("True", "Released"));
        assert!(message(&over.object, "Released").contains("limits.maxResources"), "{over:?}");
        assert_eq!(phase(&sandbox.get("lease/d").await), "Pending");
    }
    assert_eq!(phase(&sandbox.get("lease/c").await), "Active");
    assert!(world.calls(TearDownLease).len() == 2, "{}", world.tell());
    // Now it is as small as it is to be, and who waits has its turn.
    release(&sandbox, "c").await;
    let served = sandbox.wait_phase("lease/d", "Active").await;
    assert_eq!(bound_to(&served), resources[0]);
    assert_eq!(world.calls(Build).len(), 3, "{}", world.tell());
    true_to(&sandbox, &world).await;
}

#[tokio::test]
async fn story_36_of_what_nobody_holds_the_longest_idle_goes_at_once() {
    let (sandbox, _controller) = alone("story-36-idle").await;
    apply(&sandbox, &hosts(4, json!({"limits": {"maxResources": 4}}))).await;
    for name in ["a", "b", "c", "d"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    for name in ["b", "c", "a"] {
        release(&sandbox, name).await;
    }
    idle(&sandbox, &["pool--h1", "pool--h2", "pool--h3"]).await;
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"limits": {"maxResources": 2}}})).await;
    for name in ["pool--h2", "pool--h3"] {
        sandbox.wait_gone(&format!("resource/{name}")).await;
    }
    idle(&sandbox, &["pool--h1"]).await;
    assert_eq!(phase(&sandbox.get("lease/d").await), "Active");
    let first = uid(&sandbox.get("resource/pool--h1").await);
    assert!(versions(&sandbox, &first).iter().all(|seen| is_pending(seen.phase()) || seen.phase() == "Active"));
    holds_throughout(&sandbox).await;
}
