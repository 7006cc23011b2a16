//! Stories 9 and 10: a lease and a resource end at their time; never before it, and soon after.

use crate::{
    support::{Identity, sandbox::condition},
    told::{
        alone, apply, bound_to, clock, command, deadline, ended_at, from_now, holds_throughout, hosts, instant, lease,
        outcome, uid, wait_until, was, was_in,
    },
};
use serde_json::json;

#[tokio::test]
async fn story_09_a_lease_ends_at_the_instant_that_it_names_and_never_before() {
    let (sandbox, _controller) = alone("story-09").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let end = from_now(5_000) + jiff::SignedDuration::from_nanos(1);
    apply(&sandbox, &lease("a", json!({"expiresAt": end.to_string()}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    // A finer instant than can be kept is rounded up: never early.
    let told = instant(&active, "expiresAt");
    assert_eq!(told.duration_since(end).as_nanos(), 999, "{told} was told for {end}");
    assert_eq!(deadline(&active, "Lifetime"), Some(told));

    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    assert_eq!(condition(&over, "Settled"), ("True", "Expired"));
    assert_eq!(condition(&over, "TornDown"), ("True", "TornDown"));
    ended_at(&sandbox, &uid(&over), end).await;
    holds_throughout(&sandbox).await;
}

/// Many ends close to one another, at instants that no timer with whole seconds or milliseconds would hit, by `expiresAt`
/// and by `ttl`; asked for in no order.
#[tokio::test]
async fn story_09_twenty_leases_each_end_at_their_own_instant() {
    let (sandbox, _controller) = alone("story-09-twenty").await;
    apply(&sandbox, &hosts(20, json!({}))).await;
    let begin = from_now(8_000);
    let mut names = Vec::new();
    for n in 0..20_i64 {
        let name = format!("l{n:02}");
        let at = begin + jiff::SignedDuration::from_nanos((n * 7 % 20) * 33_333_333 + 1);
        let end =
            if n % 2 == 0 { json!({"expiresAt": at.to_string()}) } else { json!({"ttl": format!("{}ms", 3_001 + n)}) };
        apply(&sandbox, &lease(&name, end)).await;
        names.push((name, at));
    }
    for (n, (name, at)) in names.into_iter().enumerate() {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"), "{name}");
        let ttl = jiff::SignedDuration::from_millis(3_001 + n as i64);
        let end = if n % 2 == 0 { at } else { instant(&over, "activatedAt") + ttl };
        ended_at(&sandbox, &uid(&over), end).await;
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_09_an_end_that_is_moved_counts_from_then_on_and_the_old_one_no_more() {
    let (sandbox, _controller) = alone("story-09-moved").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    for name in ["command", "edit"] {
        apply(&sandbox, &lease(name, json!({"expiresAt": from_now(6_000).to_string()}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let end = from_now(8_000);
    command(&sandbox, "lease/command", json!({"id": "e1", "type": "Expires", "at": end.to_string()})).await;
    sandbox.patch(Identity::Admin, "lease/edit", json!({"spec": {"expiresAt": end.to_string()}})).await;
    for name in ["command", "edit"] {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(over.data["status"]["extensions"], 1, "{name}");
        ended_at(&sandbox, &uid(&over), end).await;
    }
    holds_throughout(&sandbox).await;
}

/// The end of a resource takes its leases with it, however it was set: by the Blueprint, by an edit, by a command.
#[tokio::test]
async fn story_10_a_resource_ends_at_its_time_and_its_lease_with_it() {
    let (sandbox, _controller) = alone("story-10").await;
    apply(&sandbox, &hosts(1, json!({"resource": {"ttl": "60s"}}))).await;
    for how in ["ttl", "edit", "command"] {
        let name = format!("lease/{how}");
        apply(&sandbox, &lease(how, json!({"ttl": "1h"}))).await;
        sandbox.wait_phase(&name, "Active").await;
        let resource = sandbox.get("resource/pool--h1").await;
        let by_ttl = instant(&resource, "activatedAt") + jiff::SignedDuration::from_secs(60);
        assert_eq!(deadline(&resource, "Age"), Some(by_ttl), "{how}: until something else is asked for");

        let end = from_now(5_000);
        match how {
            "ttl" => {
                // The Blueprint is shortened: what it says now holds for what is there already.
                sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"resource": {"ttl": "5s"}}})).await;
            }
            "edit" => {
                let edit = json!({"spec": {"expiresAt": end.to_string()}});
                sandbox.patch(Identity::Admin, "resource/pool--h1", edit).await;
            }
            _ => {
                let expires = json!({"id": "e1", "type": "Expires", "at": end.to_string()});
                command(&sandbox, "resource/pool--h1", expires).await;
                assert_eq!(outcome(&sandbox, "resource/pool--h1", "e1").await.0, "Applied");
            }
        }
        let is_new =
            |r: &kube::api::DynamicObject| uid(r) == uid(&resource) && deadline(r, "Age").is_some_and(|at| at < by_ttl);
        let aged = was(&sandbox, "resource/pool--h1", "with its new end", is_new).await;
        let end = deadline(&aged, "Age").unwrap();
        // The lease says so, and why: its own hour is not what ends it.
        let follows =
            was(&sandbox, &name, "with the end of its resource", |l| deadline(l, "Lifetime") == Some(end)).await;
        let why = clock(&follows, "Lifetime").unwrap()["message"].as_str().unwrap_or_default().to_owned();
        assert!(why.contains("Resource"), "{how}: {why}");

        let over = sandbox.wait_phase(&name, "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"), "{how}");
        let resource = ended_at(&sandbox, &uid(&resource), end).await;
        assert_eq!(condition(&resource.object, "Released"), ("True", "Expired"), "{how}");
        let lease = ended_at(&sandbox, &uid(&over), end).await;
        assert!(lease.version > resource.version, "{how}: the lease follows its resource");
        sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"resource": {"ttl": "60s"}}})).await;
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_10_a_lease_that_ends_earlier_leaves_its_resource_and_one_that_outlives_it_goes_elsewhere() {
    let (sandbox, _controller) = alone("story-10-earlier").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    for name in ["warm-1", "warm-2"] {
        apply(&sandbox, &lease(name, json!({"ttl": "1h"}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let short_lived = bound_to(&sandbox.get("lease/warm-1").await);
    let end = from_now(12_000);
    sandbox
        .patch(Identity::Admin, &format!("resource/{short_lived}"), json!({"spec": {"expiresAt": end.to_string()}}))
        .await;
    sandbox.wait_for("lease/warm-1", "with that end", |l| deadline(l, "Lifetime") == Some(end)).await;
    for name in ["warm-1", "warm-2"] {
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }

    // Where there is a choice a lease gets a resource that outlives it.
    apply(&sandbox, &lease("long", json!({"ttl": "1h"}))).await;
    assert_ne!(bound_to(&sandbox.wait_phase("lease/long", "Active").await), short_lived);
    apply(&sandbox, &lease("short", json!({"ttl": "1s"}))).await;
    assert_eq!(bound_to(&was_in(&sandbox, "lease/short", "Active").await), short_lived);
    let over = sandbox.wait_phase("lease/short", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    ended_at(&sandbox, &uid(&over), instant(&over, "activatedAt") + jiff::SignedDuration::from_secs(1)).await;

    // Idle by now, the resource goes at its own time all the same.
    let resource = uid(&sandbox.get(&format!("resource/{short_lived}")).await);
    sandbox.wait_gone(&format!("resource/{short_lived}")).await;
    ended_at(&sandbox, &resource, end).await;
    assert_eq!(crate::support::phase(&sandbox.get("lease/long").await), "Active");
    holds_throughout(&sandbox).await;
}

/// A deadline that passes while the controller stands still is honoured as it goes on; nothing ends before that, either.
#[tokio::test]
async fn story_09_and_10_ends_that_pass_unseen_are_honoured_late_and_each_with_its_own_reason() {
    let (sandbox, mut controller) = alone("story-09-unseen").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    for name in ["lease", "resource"] {
        apply(&sandbox, &lease(name, json!({"ttl": "1h"}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let ends = from_now(2_000);
    let host = format!("resource/{}", bound_to(&sandbox.get("lease/resource").await));
    let expires = json!({"id": "e1", "type": "Expires", "at": ends.to_string()});
    for object in ["lease/lease", host.as_str()] {
        command(&sandbox, object, expires.clone()).await;
        assert_eq!(outcome(&sandbox, object, "e1").await.0, "Applied");
    }
    controller.sigstop();
    wait_until(ends).await;
    controller.sigcont();
    for (name, reason) in [("lease", "Expired"), ("resource", "ResourceReleased")] {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", reason), "{name}");
        ended_at(&sandbox, &uid(&over), ends).await;
    }
    holds_throughout(&sandbox).await;
}
