//! Story 42 with a driver whose steps have effects: the controller is killed in the middle of each of them, at any moment,
//! and another goes on; or two are at it at once. At the end the world is empty, and each key was torn down.

use crate::{
    effects::{Inside, Mood::*, World, alone, pool, true_to, true_to_one_of_two},
    support::{Identity, Sandbox, phase, sandbox::condition},
    told::{
        apply, command, deadline, ended_at, from_now, instant, lease, outcome, uid, versions, wait_until, was, was_in,
    },
};
use drydock::api::step::{EffectKey, StepKind, StepKind::*};
use futures::future::join_all;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Ends everything, and checks that nothing is left: each key that was ever begun was torn down.
async fn all_ends(sandbox: &Sandbox<'_>, world: &World) {
    for lease in sandbox.list("lease").await {
        let name = kube::ResourceExt::name_any(&lease);
        if phase(&lease) != "Destroyed" {
            sandbox.delete(Identity::Admin, &format!("lease/{name}")).await;
        }
    }
    sandbox.delete(Identity::Admin, "blueprint/pool").await;
    sandbox.wait_gone("blueprint/pool").await;
    assert!(sandbox.list("resource").await.is_empty());
    assert!(world.is_empty(), "{}", world.tell());
    let keys = |kinds: [StepKind; 1]| -> BTreeSet<EffectKey> {
        kinds.iter().flat_map(|kind| world.calls(*kind)).map(|call| call.key).collect()
    };
    for (made, removed) in [(Build, TearDownResource), (Activate, TearDownLease)] {
        let left: Vec<_> = keys([made]).difference(&keys([removed])).cloned().collect();
        assert!(left.is_empty(), "{left:?} were never torn down:\n{}", world.tell());
    }
}

/// Waits for the n-th call of a step, and kills the controller in the middle of it; whoever comes next calls it again under
/// the same key, and it goes well.
async fn killed_in(
    sandbox: &Sandbox<'_>,
    world: &Arc<World>,
    controller: Inside,
    kind: StepKind,
    times: usize,
) -> (Inside, EffectKey) {
    let call = world.begun(kind, times).await;
    controller.kill().await;
    let controller = Inside::start(sandbox, world).await;
    let again = world.begun(kind, times + 1).await;
    assert_eq!(again.key, call.key, "{}", world.tell());
    world.will(kind, [Works]);
    (controller, call.key)
}

#[tokio::test]
async fn story_42_killed_in_the_middle_of_each_step_it_is_taken_up_again() {
    let (sandbox, world, controller) = alone("story-42-steps").await;
    for kind in [Build, Activate, TearDownLease, TearDownResource] {
        world.will(kind, [Hangs]);
    }
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let (controller, built) = killed_in(&sandbox, &world, controller, Build, 1).await;
    let (controller, held) = killed_in(&sandbox, &world, controller, Activate, 1).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(held, EffectKey { resource: built.resource.clone(), lease: Some((uid(&active), 0)) });
    sandbox.delete(Identity::Admin, "resource/pool--0").await;
    let (controller, torn_down) = killed_in(&sandbox, &world, controller, TearDownLease, 1).await;
    assert_eq!(torn_down, held);
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let (_controller, removed) = killed_in(&sandbox, &world, controller, TearDownResource, 1).await;
    assert_eq!(removed, built);
    sandbox.wait_gone("resource/pool--0").await;
    assert!(world.is_empty(), "{}", world.tell());
    all_ends(&sandbox, &world).await;
    true_to(&sandbox, &world).await;
}

/// What was asked for while nobody looked decides how whoever comes next goes on: not with the step that was cut off, but with
/// its teardown.
#[tokio::test]
async fn story_42_what_is_no_longer_wanted_is_not_taken_up_again_but_torn_down() {
    for how in ["released", "resource gone", "late", "blueprint gone"] {
        let name = format!("story-42-{}", how.replace(' ', "-"));
        let (sandbox, world, controller) = alone(&name).await;
        world.will(Activate, [Hangs]);
        apply(&sandbox, &pool(1, json!({"lease": {"activationTimeout": "4s"}}))).await;
        apply(&sandbox, &lease("a", json!({}))).await;
        world.begun(Activate, 1).await;
        let acquired = was_in(&sandbox, "lease/a", "Acquired").await;
        controller.kill().await;
        match how {
            "released" => command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await,
            "resource gone" => sandbox.delete(Identity::Admin, "resource/pool--0").await,
            "late" => wait_until(deadline(&acquired, "Activation").unwrap()).await,
            _ => {
                sandbox.delete(Identity::Admin, "blueprint/pool").await;
                command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
            }
        }
        let _controller = Inside::start(&sandbox, &world).await;
        world.begun(TearDownLease, 1).await;
        if how == "resource gone" {
            // It comes back, and is made ready on another.
            world.will(Activate, [Works]);
            let active = sandbox.wait_phase("lease/a", "Active").await;
            assert_eq!(active.data["status"]["attempt"], 1);
        } else {
            let over = sandbox.wait_phase("lease/a", "Destroyed").await;
            let reason = if how == "late" { "ActivationTimeout" } else { "Released" };
            assert_eq!(condition(&over, "Released"), ("True", reason), "{how}");
        }
        let key = EffectKey {
            resource: acquired.data["status"]["resourceRef"]["uid"].as_str().unwrap().to_owned(),
            lease: Some((uid(&acquired), 0)),
        };
        // That the resource is over is a fact only when its own reconciler has said so: until then it may be called again.
        let calls = world.calls(Activate).into_iter().filter(|call| call.key == key).count();
        assert!(calls == 1 || (calls == 2 && how == "resource gone"), "{how}: {}", world.tell());
        assert!(!world.has(&key), "{how}: {}", world.tell());
        if how == "blueprint gone" {
            sandbox.wait_gone("blueprint/pool").await;
            assert!(world.is_empty(), "{}", world.tell());
        } else {
            all_ends(&sandbox, &world).await;
        }
        true_to(&sandbox, &world).await;
    }
}

/// A hold, a back-off and a deadline outlive the controller: what ends while it is dead is done late, and never early.
#[tokio::test]
async fn story_42_clocks_go_on_while_the_controller_is_dead() {
    let (sandbox, world, controller) = alone("story-42-clocks").await;
    world.will(TearDownResource, [Fails("not yet")]);
    apply(&sandbox, &pool(3, json!({}))).await;
    for name in ["held", "expires"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let end = from_now(3_000);
    let expires = json!({"id": "e1", "type": "Expires", "at": end.to_string()});
    command(&sandbox, "lease/expires", expires).await;
    command(&sandbox, "lease/held", json!({"id": "r1", "type": "Release", "hold": "3s"})).await;
    let held = was_in(&sandbox, "lease/held", "Released").await;
    assert_eq!(outcome(&sandbox, "lease/expires", "e1").await.0, "Applied");
    let hold = deadline(&held, "Hold").unwrap();
    controller.kill().await;
    wait_until(hold.max(end)).await;
    let _controller = Inside::start(&sandbox, &world).await;
    let over = sandbox.wait_phase("lease/held", "Destroyed").await;
    assert!(instant(&over, "destroyedAt") >= hold);
    let over = sandbox.wait_phase("lease/expires", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    ended_at(&sandbox, &uid(&over), end).await;
    sandbox.delete(Identity::Admin, "resource/pool--0").await;
    was(&sandbox, "resource/pool--0", "failing", |r| condition(r, "TornDown").1 == "TeardownFailed").await;
    world.will(TearDownResource, [Works]);
    all_ends(&sandbox, &world).await;
    true_to(&sandbox, &world).await;
}

/// Many leases, steps that take a while and fail now and then, and a controller that is killed again and again.
#[tokio::test]
async fn story_42_killed_again_and_again_nothing_is_left_in_the_world() {
    let (sandbox, world, mut controller) = alone("story-42-world").await;
    restless(&world);
    apply(&sandbox, &pool(4, json!({"lease": {"recycle": "Destroy"}}))).await;
    let names: Vec<String> = (0..24).map(|n| format!("l{n:02}")).collect();
    let documents: Vec<String> = names.iter().map(|name| lease(name, json!({"ttl": "300ms"}))).collect();
    join_all(documents.iter().map(|document| sandbox.apply(Identity::Admin, document))).await;
    let mut kills = 0;
    while sandbox.list("lease").await.iter().any(|lease| phase(lease) != "Destroyed") {
        assert!(kills < 60, "not served after {kills} kills:\n{}", world.tell());
        // Not a wait for something: the story's own pace.
        tokio::time::sleep(Duration::from_millis(700 + 130 * (kills % 5))).await;
        controller.kill().await;
        restless(&world);
        controller = Inside::start(&sandbox, &world).await;
        kills += 1;
    }
    assert!(kills >= 5, "it was over after {kills} kills: give it more to do");
    all_ends(&sandbox, &world).await;
    served_until_their_end(&sandbox, &names).await;
    true_to(&sandbox, &world).await;
}

/// Every step takes a while, and some fail.
fn restless(world: &World) {
    world.will(Build, [Takes(50), Fails("busy"), Takes(20), FailsForGood("no"), Again(30), Takes(40)]);
    world.will(Activate, [Takes(30), Again(20), Takes(50), Fails("busy"), Takes(30)]);
    world.will(TearDownLease, [Takes(30), Fails("busy"), Again(20), Takes(40)]);
    world.will(TearDownResource, [Takes(30), Fails("busy"), Again(20), Takes(40)]);
}

/// Each was active at some time, and ended by its own clock.
async fn served_until_their_end(sandbox: &Sandbox<'_>, names: &[String]) {
    sandbox.history().caught_up().await;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        let seen = sandbox.history().of(&format!("lease/{name}"));
        assert!(seen.iter().any(|s| s.phase() == "Active"), "{name} was never active: {seen:?}");
        let last = seen.iter().rfind(|s| s.phase() == "Destroyed").unwrap_or_else(|| panic!("{name} is not over"));
        *reasons.entry(condition(&last.object, "Released").1.to_owned()).or_default() += 1;
        let active = versions(sandbox, &last.uid).into_iter().rfind(|s| s.phase() == "Active").unwrap();
        if let Some(end) = deadline(&active.object, "Lifetime") {
            assert!(instant(&last.object, "releasedAt") >= end, "{name} ended early");
        }
    }
    assert_eq!(reasons.keys().collect::<Vec<_>>(), ["Expired"], "{reasons:?}");
}

/// Two at once by mistake: work is done twice, and comes to the same; nothing is granted twice, nothing left.
#[tokio::test]
async fn story_42_two_controllers_at_once_leave_nothing_in_the_world() {
    let (sandbox, world, _one) = alone("story-42-two-worlds").await;
    let _two = Inside::start(&sandbox, &world).await;
    for kind in [Build, Activate, TearDownLease, TearDownResource] {
        world.will(kind, [Takes(30)]);
    }
    apply(&sandbox, &pool(3, json!({"lease": {"recycle": "Destroy"}}))).await;
    let names: Vec<String> = (0..18).map(|n| format!("l{n:02}")).collect();
    let documents: Vec<String> = names.iter().map(|name| lease(name, json!({"ttl": "200ms"}))).collect();
    join_all(documents.iter().map(|document| sandbox.apply(Identity::Admin, document))).await;
    for name in &names {
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    all_ends(&sandbox, &world).await;
    served_until_their_end(&sandbox, &names).await;
    true_to_one_of_two(&sandbox, &world).await;
}
