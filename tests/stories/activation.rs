//! How a lease is made ready on its resource by a driver whose steps have effects: what is on record when, and what becomes
//! of it when that takes too long, is no longer wanted, or its resource dies beneath it.

use crate::{
    effects::{End, Mood::*, World, alone, pool, true_to},
    support::{Identity, Sandbox, phase, sandbox::condition},
    told::{
        apply, bound_to, claimants, clock, command, deadline, ended_at, first_over, from_now, instant, lease, message,
        outcome, phases, status, uid, versions, wait_until, was, was_in,
    },
};
use drydock::api::step::{EffectKey, StepKind::*};
use jiff::SignedDuration;
use kube::api::DynamicObject;
use serde_json::json;

/// The key of a lease's effects on its resource.
fn key(lease: &DynamicObject, attempt: i64) -> EffectKey {
    let resource = lease.data["status"]["resourceRef"]["uid"].as_str().unwrap_or_default().to_owned();
    EffectKey { resource, lease: Some((uid(lease), attempt)) }
}

/// A lease `a` whose activation has begun and hangs.
async fn activating(sandbox: &Sandbox<'_>, world: &World, more: serde_json::Value) -> DynamicObject {
    world.will(Activate, [Hangs]);
    apply(sandbox, &pool(1, more)).await;
    apply(sandbox, &lease("a", json!({}))).await;
    world.begun(Activate, 1).await;
    was_in(sandbox, "lease/a", "Acquired").await
}

#[tokio::test]
async fn a_lease_is_acquired_on_record_before_anything_is_done_for_it() {
    let (sandbox, world, _controller) = alone("acquired").await;
    let acquired = activating(&sandbox, &world, json!({})).await;
    assert_eq!(condition(&acquired, "Acquired"), ("True", "Acquired"));
    assert_eq!(condition(&acquired, "Ready"), ("False", "Activating"));
    assert_eq!(condition(&acquired, "Settled"), ("False", "Activating"));
    assert!(acquired.data["status"]["interfaces"].is_null(), "nothing to use yet");
    let end = instant(&acquired, "acquiredAt") + SignedDuration::from_mins(10);
    assert_eq!(deadline(&acquired, "Activation"), Some(end), "by default");
    assert_eq!(world.calls(Activate)[0].key, key(&acquired, 0));
    // And of the resource, what its teardown will need.
    sandbox.history().caught_up().await;
    let first = sandbox.history().of("resource/pool--0").into_iter().find(|s| !s.phase().is_empty()).unwrap();
    assert_eq!(first.object.data["status"]["built"]["intent"], first.uid);

    world.will(Activate, [Works]);
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["interfaces"][0]["address"], "192.0.2.77");
    assert!(clock(&active, "Activation").is_none());
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.delete(Identity::Admin, "blueprint/pool").await;
    sandbox.wait_gone("blueprint/pool").await;
    assert!(world.is_empty(), "{}", world.tell());
    for kind in [Build, Activate, TearDownLease, TearDownResource] {
        assert_eq!(world.calls(kind).len(), 1, "{}", world.tell());
    }
    assert_eq!(phases(&sandbox, "lease/a").await, ["Pending", "Acquired", "Active", "Released", "Destroyed"]);
    true_to(&sandbox, &world).await;
}

#[tokio::test]
async fn a_lease_that_is_not_made_active_in_time_is_broken_and_torn_down() {
    let (sandbox, world, _controller) = alone("activation-timeout").await;
    let acquired = activating(&sandbox, &world, json!({"lease": {"activationTimeout": "3s"}})).await;
    let end = instant(&acquired, "acquiredAt") + SignedDuration::from_secs(3);
    assert_eq!(deadline(&acquired, "Activation"), Some(end));
    world.will(TearDownLease, [Hangs]);
    let broken = sandbox.wait_phase("lease/a", "Broken").await;
    for (type_, expected) in [
        ("Acquired", ("True", "Acquired")),
        ("Ready", ("False", "Failed")),
        ("Released", ("True", "ActivationTimeout")),
        ("Settled", ("True", "ActivationTimeout")),
        ("TornDown", ("False", "TearingDown")),
    ] {
        assert_eq!(condition(&broken, type_), expected, "{type_}");
    }
    ended_at(&sandbox, &uid(&acquired), end).await;
    world.begun(TearDownLease, 1).await;
    assert_eq!(world.calls(Activate)[0].ended.unwrap().1, End::Dropped, "it ends before its teardown begins");
    assert_eq!(claimants(&sandbox.get("resource/pool--0").await), ["a"], "what is left of it has the place still");

    world.will(TearDownLease, [Works]);
    world.will(Activate, [Works]);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ActivationTimeout"));
    // The resource is none the worse for it.
    apply(&sandbox, &lease("b", json!({}))).await;
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(bound_to(&active), bound_to(&acquired));
    assert_eq!(world.calls(Build).len(), 1);
    true_to(&sandbox, &world).await;
}

/// An activation that fails is tried again in place as long as there is time; the words are on the lease.
#[tokio::test]
async fn an_activation_that_fails_for_a_while_is_told_and_tried_again() {
    let (sandbox, world, _controller) = alone("activation-fails").await;
    world.will(Activate, [Fails("no address is free"), Again(100), Fails("no address is free"), Works]);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let failing = was(&sandbox, "lease/a", "failing", |l| !l.data["status"]["failure"].is_null()).await;
    assert_eq!(phase(&failing), "Acquired");
    assert_eq!(failing.data["status"]["failure"]["message"], "no address is free");
    assert_eq!(failing.data["status"]["failure"]["step"], "Activate");
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert!(active.data["status"]["failure"].is_null());
    assert_eq!(active.data["status"]["attempt"].as_i64().unwrap_or(0), 0, "it was not sent back");
    assert_eq!(world.calls(Activate).len(), 4, "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// Its resource dies: what was done for it is torn down first, then it waits again, with its place; and has the next one.
#[tokio::test]
async fn a_lease_whose_resource_dies_before_it_is_active_returns_to_its_place_in_the_queue() {
    let (sandbox, world, _controller) = alone("returning").await;
    let acquired = activating(&sandbox, &world, json!({})).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;

    world.will(TearDownLease, [Hangs]);
    sandbox.delete(Identity::Admin, "resource/pool--0").await;
    let returning =
        sandbox.wait_for("lease/a", "on its way back", |l| condition(l, "Ready") == ("False", "Returning")).await;
    assert_eq!(phase(&returning), "Acquired");
    assert_eq!(condition(&returning, "Settled"), ("False", "Returning"));
    assert_eq!(condition(&returning, "Released"), ("False", "NotReleased"));
    assert!(message(&returning, "Ready").contains("was released (Deleted)"), "{returning:?}");
    world.begun(TearDownLease, 1).await;
    assert_eq!(world.calls(Activate)[0].ended.unwrap().1, End::Dropped);
    let dying = sandbox
        .wait_for("resource/pool--0", "waiting for its lease", |r| {
            condition(r, "TornDown") == ("False", "WaitingForLeases")
        })
        .await;
    assert_eq!(claimants(&dying), ["a"], "a claim is the lease's to end");
    assert!(world.calls(TearDownResource).is_empty());

    world.will(TearDownResource, [Hangs]);
    world.will(TearDownLease, [Works]);
    let back = sandbox.wait_phase("lease/a", "Pending").await;
    assert_eq!((&back.data["status"]["attempt"], &back.data["status"]["returns"]), (&json!(1), &json!(1)));
    assert!(back.data["status"]["resourceRef"].is_null());
    assert!(back.data["status"]["acquiredAt"].is_null());
    assert_eq!(condition(&back, "Ready"), ("False", "Waiting"));
    world.begun(TearDownResource, 1).await;
    // It kept its place: before the one that came later, though that has waited all the time.
    let tickets = ["a", "b"].map(|name| format!("lease/{name}"));
    let first = sandbox.wait_for(&tickets[0], "first", |l| l.data["status"]["queuePosition"] == 1).await;
    let second = sandbox.wait_for(&tickets[1], "second", |l| l.data["status"]["queuePosition"] == 2).await;
    let ticket = |l: &DynamicObject| status(l, "queueTicket").parse::<u64>().unwrap();
    assert!(ticket(&first) < ticket(&second));
    assert_eq!(ticket(&first), ticket(&acquired));

    world.will(Activate, [Works]);
    world.will(TearDownResource, [Works]);
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(world.calls(Activate).last().unwrap().key, key(&active, 1));
    assert_ne!(key(&active, 1).resource, key(&acquired, 0).resource);
    assert_eq!(phase(&sandbox.get("lease/b").await), "Pending");
    assert!(!world.has(&key(&acquired, 0)), "{}", world.tell());
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(
        phases(&sandbox, "lease/a").await,
        ["Pending", "Acquired", "Pending", "Acquired", "Active", "Released", "Destroyed"]
    );
    true_to(&sandbox, &world).await;
}

/// The same of a lease that had never waited: what came after it in the same second does not overtake it.
#[tokio::test]
async fn a_lease_that_was_served_at_once_returns_to_its_place_too() {
    let (sandbox, world, _controller) = alone("returning-at-once").await;
    apply(&sandbox, &pool(1, json!({}))).await;
    for round in 0.. {
        assert!(round < 10, "never two leases in one second");
        let [warm, a, b] = ["warm", "a", "b"].map(|name| format!("{name}-{round}"));
        let [of_warm, of_a, of_b] = [&warm, &a, &b].map(|name| format!("lease/{name}"));
        world.will(Activate, [Works]);
        apply(&sandbox, &lease(&warm, json!({}))).await;
        sandbox.wait_phase(&of_warm, "Active").await;
        command(&sandbox, &of_warm, json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&of_warm, "Destroyed").await;

        world.will(Activate, [Hangs]);
        // Just after the beginning of a second.
        let next = jiff::Timestamp::now().as_second() + 1;
        wait_until(jiff::Timestamp::from_second(next).unwrap() + SignedDuration::from_millis(10)).await;
        apply(&sandbox, &lease(&a, json!({}))).await;
        let acquired = sandbox.wait_phase(&of_a, "Acquired").await;
        apply(&sandbox, &lease(&b, json!({}))).await;
        let waiting = sandbox.wait_for(&of_b, "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
        let in_one_second = acquired.metadata.creation_timestamp == waiting.metadata.creation_timestamp;
        if in_one_second {
            sandbox.delete(Identity::Admin, "resource/pool--0").await;
            sandbox.wait_for(&of_a, "back", |l| l.data["status"]["attempt"] == 1).await;
        }
        world.will(Activate, [Works]);
        sandbox.wait_phase(&of_a, "Active").await;
        assert_eq!(phase(&sandbox.get(&of_b).await), "Pending", "it came later");
        if in_one_second {
            break;
        }
        for name in [of_a, of_b] {
            command(&sandbox, &name, json!({"id": "r1", "type": "Release"})).await;
            sandbox.wait_phase(&name, "Destroyed").await;
        }
    }
    true_to(&sandbox, &world).await;
}

/// The third activation that loses its resource is the last: broken, with one teardown for each.
#[tokio::test]
async fn a_lease_that_has_lost_its_resource_too_often_is_broken() {
    let (sandbox, world, _controller) = alone("attempts").await;
    activating(&sandbox, &world, json!({})).await;
    for attempt in 0..3 {
        world.begun(Activate, attempt + 1).await;
        let acquired = sandbox
            .wait_for("lease/a", "acquired once more", |l| {
                phase(l) == "Acquired" && l.data["status"]["attempt"].as_u64().unwrap_or(0) == attempt as u64
            })
            .await;
        assert_eq!(world.calls(Activate)[attempt].key, key(&acquired, attempt as i64));
        if attempt == 2 {
            world.will(TearDownLease, [Hangs]);
        }
        sandbox.delete(Identity::Admin, "resource/pool--0").await;
        world.begun(TearDownLease, attempt + 1).await;
    }
    let broken = sandbox.wait_phase("lease/a", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "AttemptsExhausted"));
    assert!(message(&broken, "Released").starts_with("3 activations in all"), "{broken:?}");
    assert_eq!(broken.data["status"]["returns"], 2);
    world.will(TearDownLease, [Works]);
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("resource/pool--0").await;
    assert!(world.is_empty(), "{}", world.tell());
    assert_eq!(world.calls(TearDownLease).len(), 3, "{}", world.tell());
    assert_eq!(world.calls(TearDownResource).len(), 3, "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// However it is ended: the activation stops, and what it had done is torn down once.
#[tokio::test]
async fn what_ends_a_lease_while_it_is_made_ready_stops_that_and_tears_it_down() {
    for how in ["Released", "Deleted", "Expired", "held"] {
        let (sandbox, world, _controller) = alone(&format!("activation-{}", how.to_lowercase())).await;
        let acquired = activating(&sandbox, &world, json!({})).await;
        let end = from_now(1_500);
        match how {
            "Released" => command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await,
            "Deleted" => sandbox.delete(Identity::Admin, "lease/a").await,
            "Expired" => {
                let expires = json!({"id": "e1", "type": "Expires", "at": end.to_string()});
                command(&sandbox, "lease/a", expires).await;
                assert_eq!(outcome(&sandbox, "lease/a", "e1").await.0, "Applied");
            }
            _ => {
                // There is nothing to look at yet: no hold.
                command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release", "hold": "1h"})).await;
                let (applied, why) = outcome(&sandbox, "lease/a", "r1").await;
                assert_eq!((applied.as_str(), why.contains("nothing to hold yet")), ("Applied", true), "{why}");
            }
        }
        world.begun(TearDownLease, 1).await;
        if how == "Deleted" {
            sandbox.wait_gone("lease/a").await;
        } else {
            sandbox.wait_phase("lease/a", "Destroyed").await;
        }
        let calls = (world.calls(Activate), world.calls(TearDownLease));
        assert_eq!((calls.0.len(), calls.1.len()), (1, 1), "{how}: {}", world.tell());
        assert_eq!(calls.0[0].ended.unwrap().1, End::Dropped, "{how}");
        assert!(calls.0[0].ended.unwrap().0 <= calls.1[0].began, "{how}: one ends before the other begins");
        assert!(!world.has(&key(&acquired, 0)), "{how}");
        sandbox.history().caught_up().await;
        let over = first_over(&sandbox, &uid(&acquired));
        let reason = if how == "held" { "Released" } else { how };
        assert_eq!(condition(&over.object, "Released"), ("True", reason), "{how}");
        if how == "Expired" {
            ended_at(&sandbox, &uid(&acquired), end).await;
        }
        // The resource, warm as it is, serves the next.
        world.will(Activate, [Works]);
        apply(&sandbox, &lease("b", json!({}))).await;
        let next = sandbox.wait_phase("lease/b", "Active").await;
        assert_eq!(next.data["status"]["resourceRef"]["uid"], key(&acquired, 0).resource, "{how}");
        true_to(&sandbox, &world).await;
    }
}

/// The release of what is being built ends the build; what it had made is removed, and who waits has the next.
#[tokio::test]
async fn a_resource_that_is_released_while_it_is_built_is_removed_and_made_anew() {
    let (sandbox, world, _controller) = alone("build-released").await;
    world.will(Build, [Hangs]);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    world.begun(Build, 1).await;
    let resource = uid(&sandbox.get("resource/pool--0").await);
    command(&sandbox, "resource/pool--0", json!({"id": "r1", "type": "Release"})).await;
    world.begun(TearDownResource, 1).await;
    assert_eq!(world.calls(Build)[0].ended.unwrap().1, End::Dropped);
    world.will(Build, [Works]);
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], resource);
    let released = versions(&sandbox, &resource).into_iter().find(|s| s.phase() == "Released").unwrap();
    assert_eq!(condition(&released.object, "Released"), ("True", "Released"));
    true_to(&sandbox, &world).await;
}

/// A build that was begun for a lease goes on without it: for whoever comes next.
#[tokio::test]
async fn a_build_goes_on_for_others_when_the_lease_that_it_was_begun_for_is_over() {
    let (sandbox, world, _controller) = alone("build-goes-on").await;
    world.will(Build, [Hangs]);
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    world.begun(Build, 1).await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "TornDown"), ("True", "NothingToTearDown"));
    apply(&sandbox, &lease("b", json!({}))).await;
    world.will(Build, [Works]);
    sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!((world.calls(Build).len(), world.calls(TearDownLease).len()), (1, 0), "{}", world.tell());
    true_to(&sandbox, &world).await;
}

/// A hold keeps what is there; the teardown begins when it ends, and not before.
#[tokio::test]
async fn what_is_held_is_torn_down_when_the_hold_has_ended_and_not_before() {
    let (sandbox, world, _controller) = alone("held").await;
    apply(&sandbox, &pool(1, json!({"lease": {"maxHold": "3s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release", "hold": "1h"})).await;
    let held = was_in(&sandbox, "lease/a", "Released").await;
    assert_eq!(condition(&held, "TornDown"), ("False", "Held"));
    let end = deadline(&held, "Hold").unwrap();
    assert_eq!(end, instant(&held, "releasedAt") + SignedDuration::from_secs(3), "cut to the maximum");
    assert!(outcome(&sandbox, "lease/a", "r1").await.1.contains("cut to lease.maxHold"));
    assert!(world.has(&key(&active, 0)) && world.calls(TearDownLease).is_empty());
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert!(instant(&over, "destroyedAt") >= end);
    let began = world.calls(TearDownLease)[0].began;
    let began = jiff::Timestamp::now() - SignedDuration::try_from(began.elapsed()).unwrap();
    assert!(began >= end, "the teardown began at {began}, and it was held until {end}");
    assert!(!world.has(&key(&active, 0)));
    true_to(&sandbox, &world).await;
}
