//! Story 15: a resource stays for ever while it is leased, and goes `idleTTL` after its last lease has ended.

use crate::{
    support::{Identity, sandbox::condition},
    told::{
        alone, apply, bound_to, claimants, command, deadline, ended_at, from_now, holds_throughout, hosts, instant,
        lease, outcome, uid, versions, wait_until, was, was_in,
    },
};
use jiff::SignedDuration;
use kube::api::DynamicObject;
use serde_json::json;

const IDLE: SignedDuration = SignedDuration::from_secs(5);

/// Whether a resource's idle clock runs, since this lease was over.
fn is_idle_after(resource: &DynamicObject, over: &DynamicObject) -> bool {
    deadline(resource, "Idle").is_some() && instant(resource, "idleSince") >= instant(over, "releasedAt")
}

#[tokio::test]
async fn story_15_a_resource_goes_when_nobody_has_held_it_for_its_idle_time() {
    let (sandbox, _controller) = alone("story-15").await;
    apply(&sandbox, &hosts(1, json!({"resource": {"idleTTL": "5s"}}))).await;
    // Each is held for longer than the resource may be idle.
    apply(&sandbox, &lease("a", json!({"ttl": "6s"}))).await;
    was_in(&sandbox, "lease/a", "Active").await;
    let resource = uid(&sandbox.get("resource/pool--h1").await);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    let idle = was(&sandbox, "resource/pool--h1", "idle again", |r| is_idle_after(r, &over)).await;
    let first_end = deadline(&idle, "Idle").unwrap();
    assert_eq!(first_end, instant(&idle, "idleSince") + IDLE);
    assert!(first_end >= instant(&over, "releasedAt") + IDLE, "{first_end} is too soon");

    // A lease in between stops that clock.
    apply(&sandbox, &lease("b", json!({"ttl": "6s"}))).await;
    was_in(&sandbox, "lease/b", "Active").await;
    let held = sandbox.get("resource/pool--h1").await;
    assert_eq!((uid(&held), deadline(&held, "Idle")), (resource.clone(), None));
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    let idle = was(&sandbox, "resource/pool--h1", "idle once more", |r| is_idle_after(r, &over)).await;
    let end = deadline(&idle, "Idle").unwrap();
    assert!(end >= instant(&over, "releasedAt") + IDLE, "{end} is too soon");
    sandbox.wait_gone("resource/pool--h1").await;
    let gone = ended_at(&sandbox, &resource, end).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "IdleTimeout"));
    for seen in versions(&sandbox, &resource) {
        let held = !claimants(&seen.object).is_empty();
        assert!(!held || deadline(&seen.object, "Idle").is_none(), "{seen:?} is held, and yet its idle clock runs");
    }
    assert_eq!(sandbox.list("resource").await.len(), 0, "nobody asks for another");
    holds_throughout(&sandbox).await;
}

/// The lease that arrives in the last moment has it; the clock and the grant are writes of one object.
#[tokio::test]
async fn story_15_a_lease_that_comes_as_the_clock_runs_out_has_the_resource_or_the_next_one() {
    let (sandbox, _controller) = alone("story-15-last").await;
    apply(&sandbox, &hosts(1, json!({"resource": {"idleTTL": "500ms"}}))).await;
    for round in 0..8_i64 {
        let name = format!("l{round}");
        apply(&sandbox, &lease(&name, json!({}))).await;
        let active = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        assert_eq!(bound_to(&active), "pool--h1");
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        // From a little before the end of the idle time to a little after.
        let next = instant(&over, "releasedAt") + SignedDuration::from_millis(440 + 20 * round);
        wait_until(next).await;
    }
    holds_throughout(&sandbox).await;
    sandbox.history().never("ended while it was held", |seen| {
        seen.kind == "resource" && seen.phase() == "Destroyed" && !claimants(&seen.object).is_empty()
    });
}

/// The clock runs on while the controller is down; what has been idle for long enough then is gone at its start, unless
/// somebody waits for it.
#[tokio::test]
async fn story_15_idle_while_nobody_looked() {
    let (sandbox, mut controller) = alone("story-15-down").await;
    apply(&sandbox, &hosts(1, json!({"resource": {"idleTTL": "4s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    let idle = was(&sandbox, "resource/pool--h1", "idle again", |r| is_idle_after(r, &over)).await;
    let end = deadline(&idle, "Idle").unwrap();
    controller.kill9().await;
    wait_until(end).await;
    controller.restart().await;
    sandbox.wait_gone("resource/pool--h1").await;
    let gone = crate::told::first_over(&sandbox, &uid(&idle));
    assert_eq!(condition(&gone.object, "Released"), ("True", "IdleTimeout"));
    assert!(instant(&gone.object, "releasedAt") >= end);
    holds_throughout(&sandbox).await;
}

/// An end of its own holds beside the idle clock: the earlier of both.
#[tokio::test]
async fn story_15_an_idle_resource_goes_at_the_earlier_of_its_clocks() {
    let (sandbox, _controller) = alone("story-15-both").await;
    apply(&sandbox, &hosts(1, json!({"resource": {"idleTTL": "1h"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    let idle = was(&sandbox, "resource/pool--h1", "idle again", |r| is_idle_after(r, &over)).await;
    let end = from_now(2_000);
    command(&sandbox, "resource/pool--h1", json!({"id": "e1", "type": "Expires", "at": end.to_string()})).await;
    assert_eq!(outcome(&sandbox, "resource/pool--h1", "e1").await.0, "Applied");
    sandbox.wait_gone("resource/pool--h1").await;
    let gone = ended_at(&sandbox, &uid(&idle), end).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "Expired"));

    // And a shorter idle time holds for what is idle already.
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
    command(&sandbox, "lease/b", json!({"id": "r1", "type": "Release"})).await;
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    let idle = was(&sandbox, "resource/pool--h1", "idle again", |r| is_idle_after(r, &over)).await;
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"resource": {"idleTTL": "1s"}}})).await;
    sandbox.wait_gone("resource/pool--h1").await;
    let gone = ended_at(&sandbox, &uid(&idle), instant(&idle, "idleSince") + SignedDuration::from_secs(1)).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "IdleTimeout"));
    holds_throughout(&sandbox).await;
}
