//! Times of zero, and nearly so: a lease that takes what is free now or gives up, and an object that goes when it has
//! served.

use crate::{
    on_time::{first, seen_at},
    support::{Sandbox, sandbox::condition},
    told::{alone, apply, command, holds_throughout, hosts, instant, lease, message},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_queue_timeout_of_zero_takes_what_is_free_now() {
    let (sandbox, _controller) = alone("zero-free").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    // A host that nobody has had yet is free as well as one that is idle.
    for name in ["new", "idle"] {
        apply(&sandbox, &lease(name, json!({"queueTimeout": "0s"}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        sandbox.wait_for("resource/pool--h1", "idle", |r| crate::told::claimants(r).is_empty()).await;
    }
    holds_throughout(&sandbox).await;
}

/// What counts is what is free when somebody looks.
#[tokio::test]
async fn a_queue_timeout_of_zero_is_not_over_before_a_controller_has_looked() {
    let (sandbox, mut controller) = alone("zero-unseen").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    sandbox.wait_for("blueprint/pool", "ready", |b| condition(b, "Ready").0 == "True").await;
    controller.kill9().await;
    for name in ["first", "second"] {
        apply(&sandbox, &lease(name, json!({"queueTimeout": "0s"}))).await;
    }
    // Not a wait for something: time that passes while nobody looks.
    tokio::time::sleep(Duration::from_secs(4)).await;
    controller.restart().await;
    sandbox.wait_phase("lease/first", "Active").await;
    let over = sandbox.wait_phase("lease/second", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "QueueTimeout"));
    holds_throughout(&sandbox).await;
}

/// Waits until a lease has given up, and checks that it did so at once and had nothing.
async fn gave_up(sandbox: &Sandbox<'_>, name: &str, why: &str) {
    let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "QueueTimeout"));
    assert_eq!(condition(&over, "TornDown"), ("True", "NothingToTearDown"));
    let told = message(&over, "Released");
    assert!(told.contains(why), "{told}");
    let created = over.metadata.creation_timestamp.as_ref().unwrap().0;
    let waited = instant(&over, "releasedAt").duration_since(created);
    assert!(waited < SignedDuration::from_secs(10), "it gave up after {waited:#}");
}

#[tokio::test]
async fn a_queue_timeout_of_zero_gives_up_at_once_where_nothing_is_free() {
    let (sandbox, _controller) = alone("zero-taken").await;
    apply(&sandbox, &lease("nobody", json!({"queueTimeout": "0s"}))).await;
    gave_up(&sandbox, "nobody", "no Blueprint of type host").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("holder", json!({}))).await;
    sandbox.wait_phase("lease/holder", "Active").await;
    apply(&sandbox, &lease("taken", json!({"queueTimeout": "0s"}))).await;
    gave_up(&sandbox, "taken", "has all that fits in use").await;
    holds_throughout(&sandbox).await;
}

/// Of many that come at once for one host each is served or gives up; none waits.
#[tokio::test]
async fn of_many_that_will_not_wait_one_is_served() {
    let (sandbox, _controller) = alone("zero-many").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let names: Vec<String> = (0..10).map(|n| format!("l{n}")).collect();
    let lease = |name| lease(name, json!({"queueTimeout": "0s"}));
    futures::future::join_all(names.iter().map(|name| async { apply(&sandbox, &lease(name)).await })).await;
    let mut served = 0;
    for name in &names {
        let settled = |l: &kube::api::DynamicObject| condition(l, "Settled").0 == "True";
        let settled = sandbox.wait_for(&format!("lease/{name}"), "settled", settled).await;
        served += usize::from(settled.data["status"]["phase"] == "Active");
    }
    assert_eq!(served, 1);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_lease_that_waits_longer_than_its_queue_timeout_is_released_then() {
    let (sandbox, _controller) = alone("queue-timeout").await;
    let applied = apply(&sandbox, &lease("a", json!({"queueTimeout": "2s"}))).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "QueueTimeout"));
    // Creation times have whole seconds, rounded down.
    let end = applied.metadata.creation_timestamp.unwrap().0 + SignedDuration::from_secs(2);
    crate::on_time::released_at(&sandbox, "lease/a", end).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_object_goes_when_its_time_after_its_destruction_is_over() {
    let (sandbox, _controller) = alone("kept").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    for (name, kept) in [("zero", Some("0s")), ("second", Some("1s")), ("default", None)] {
        let more = kept.map_or(json!({}), |kept| json!({"ttlAfterDestroyed": kept}));
        apply(&sandbox, &lease(name, more)).await;
        let object = format!("lease/{name}");
        sandbox.wait_phase(&object, "Active").await;
        command(&sandbox, &object, json!({"id": "r1", "type": "Release"})).await;
        if kept.is_some() {
            sandbox.wait_gone(&object).await;
        }
    }
    let stays = sandbox.wait_phase("lease/default", "Destroyed").await;
    let end = crate::told::deadline(&stays, "Finished").expect("it says until when it is kept");
    assert_eq!(end, instant(&stays, "destroyedAt") + SignedDuration::from_hours(1));

    holds_throughout(&sandbox).await;
    for (name, seconds) in [("zero", 0), ("second", 1)] {
        let object = format!("lease/{name}");
        let destroyed = first(&sandbox, &object, "destroyed", |s| s.phase() == "Destroyed");
        let due = instant(&destroyed.object, "destroyedAt") + SignedDuration::from_secs(seconds);
        assert_eq!(crate::told::deadline(&destroyed.object, "Finished"), Some(due));
        let gone = first(&sandbox, &object, "gone", |s| s.gone);
        let at: Timestamp = seen_at(&gone);
        assert!(at >= due, "{name} was deleted at {at}, due {due}");
    }
}

/// A change of mind counts, also when it is destroyed already.
#[tokio::test]
async fn how_long_an_object_is_kept_may_be_changed_while_it_is_kept() {
    let (sandbox, _controller) = alone("kept-changed").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let patch = json!({"spec": {"ttlAfterDestroyed": "0s"}});
    sandbox.patch(crate::support::Identity::Admin, "lease/a", patch).await;
    sandbox.wait_gone("lease/a").await;
    holds_throughout(&sandbox).await;
}
