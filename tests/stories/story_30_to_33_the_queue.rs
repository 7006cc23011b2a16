//! Stories 30, 31 and 33: who is next, and what those who wait are told.

use crate::{
    on_time::{first, seen_at},
    support::{ControlPlane, ControllerProcess, Identity, Sandbox, install, sandbox::condition},
    told::{alone, apply, bound_to, claimants, command, holds_throughout, hosts, lease, message},
};
use futures::future::join_all;
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::json;
use std::time::Duration;

/// A pool of one host, which the lease `holder` has.
async fn held(sandbox: &Sandbox<'_>, policy: serde_json::Value) {
    apply(sandbox, &hosts(1, json!({"lease": policy}))).await;
    apply(sandbox, &lease("holder", json!({}))).await;
    sandbox.wait_phase("lease/holder", "Active").await;
}

/// Applies leases that end soon after they have become active, and waits until each is in the queue.
async fn wait_in_line(sandbox: &Sandbox<'_>, names_and_priorities: &[(&str, i32)]) {
    for (name, priority) in names_and_priorities {
        apply(sandbox, &lease(name, json!({"priority": priority, "ttl": "100ms"}))).await;
    }
    for (name, _) in names_and_priorities {
        in_line(sandbox, name).await;
    }
}

async fn in_line(sandbox: &Sandbox<'_>, name: &str) {
    sandbox.wait_for(&format!("lease/{name}"), "in the queue", |l| place(l).is_some()).await;
}

fn place(lease: &DynamicObject) -> Option<i64> {
    lease.data["status"]["queuePosition"].as_i64()
}

async fn release(sandbox: &Sandbox<'_>, name: &str) {
    command(sandbox, &format!("lease/{name}"), json!({"id": "over", "type": "Release"})).await;
}

/// The leases in the order in which they were granted.
async fn granted(sandbox: &Sandbox<'_>) -> Vec<String> {
    holds_throughout(sandbox).await;
    let mut granted: Vec<String> = Vec::new();
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        let new: Vec<String> = claimants(&seen.object).into_iter().filter(|name| !granted.contains(name)).collect();
        granted.extend(new);
    }
    granted
}

#[tokio::test]
async fn story_30_the_oldest_is_next_but_a_higher_priority_goes_before() {
    let (sandbox, _controller) = alone("story-30").await;
    held(&sandbox, json!({})).await;
    wait_in_line(&sandbox, &[("low", -1), ("z", 0), ("b", 0), ("x", 0), ("urgent", 10)]).await;
    release(&sandbox, "holder").await;
    sandbox.wait_phase("lease/low", "Destroyed").await;
    assert_eq!(granted(&sandbox).await, ["holder", "urgent", "z", "b", "x", "low"]);
}

#[tokio::test]
async fn story_30_a_priority_counts_up_to_the_blueprints_maximum_and_may_be_changed() {
    let (sandbox, _controller) = alone("story-30-priority").await;
    held(&sandbox, json!({"maxPriority": 10})).await;
    wait_in_line(&sandbox, &[("zero", 0), ("ten", 10), ("thousand", 1000), ("raised", 0)]).await;
    sandbox.patch(Identity::Admin, "lease/raised", json!({"spec": {"priority": 5}})).await;
    sandbox.wait_for("lease/raised", "before zero", |l| place(l) == Some(3)).await;
    release(&sandbox, "holder").await;
    sandbox.wait_phase("lease/zero", "Destroyed").await;
    assert_eq!(granted(&sandbox).await, ["holder", "ten", "thousand", "raised", "zero"]);
}

/// Ten leases at once: creation times have whole seconds, and within one their tickets decide. Returns their names in
/// the order in which the API server took them.
async fn ten_at_once(sandbox: &Sandbox<'_>) -> Vec<String> {
    let applied = join_all((0..10).map(|n| async move {
        // Names that sort neither as they come nor the other way round.
        apply(sandbox, &lease(&format!("q{}", n * 7 % 10), json!({"ttl": "100ms"}))).await
    }))
    .await;
    let mut order: Vec<_> = applied
        .iter()
        .map(|l| (l.creation_timestamp(), l.resource_version().unwrap().parse::<u64>().unwrap(), l.name_any()))
        .collect();
    order.sort();
    order.into_iter().map(|(_, _, name)| name).collect()
}

#[tokio::test]
async fn story_30_leases_of_one_second_are_served_as_they_came_also_after_a_restart() {
    let (sandbox, mut controller) = alone("story-30-restart").await;
    held(&sandbox, json!({})).await;
    let order = ten_at_once(&sandbox).await;
    for name in &order {
        let waits = sandbox.wait_for(&format!("lease/{name}"), "in the queue", |l| place(l).is_some()).await;
        assert!(waits.data["status"]["queueTicket"].is_string(), "a lease that waits has a ticket: {waits:?}");
    }
    // The first is touched: it is the newest version now, and keeps its place by its ticket.
    let touched = format!("lease/{}", order[0]);
    sandbox.patch(Identity::Admin, &touched, json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    controller.restart().await;
    release(&sandbox, "holder").await;
    for name in &order {
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    assert_eq!(granted(&sandbox).await[1..], order);
}

#[tokio::test]
async fn story_30_leases_that_came_while_no_controller_ran_are_served_as_they_came() {
    let (sandbox, mut controller) = alone("story-30-unseen").await;
    held(&sandbox, json!({})).await;
    controller.kill9().await;
    let order = ten_at_once(&sandbox).await;
    release(&sandbox, "holder").await;
    controller.restart().await;
    for name in &order {
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    assert_eq!(granted(&sandbox).await[1..], order);
}

/// Where nobody else puts the finalizer on, the controller's own writes come before the first status, in any order.
#[tokio::test]
async fn story_30_leases_of_one_second_are_served_as_they_came_also_without_the_policies() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    install::crds(&plane).await.expect("the definitions are installed");
    let sandbox = Sandbox::on(&plane, "story-30-bare").await;
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &[], &[]);
    controller.ready().await;
    held(&sandbox, json!({})).await;
    let order = ten_at_once(&sandbox).await;
    release(&sandbox, "holder").await;
    for name in &order {
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    assert_eq!(granted(&sandbox).await[1..], order);
    drop(controller);
    plane.stop().await.expect("all of it ends");
}

#[tokio::test]
async fn story_30_only_who_stands_before_it_keeps_a_lease_from_what_fits_it() {
    let (sandbox, _controller) = alone("story-30-fits").await;
    let inventory = json!([
        {"name": "big", "address": "192.0.2.1", "attributes": {"size": "big"}},
        {"name": "small", "address": "192.0.2.2", "attributes": {"size": "small"}},
    ]);
    apply(&sandbox, &hosts(0, json!({"driver": {"hosts": {"inventory": inventory}}}))).await;
    let size = |size: &str| json!({"selector": {"matchLabels": {"size": size}}});
    for (name, wants) in [("on-big", size("big")), ("on-small", size("small"))] {
        apply(&sandbox, &lease(name, wants)).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    for (name, wants) in [("wants-big", size("big")), ("any", json!({})), ("later", json!({}))] {
        apply(&sandbox, &lease(name, wants)).await;
        in_line(&sandbox, name).await;
    }
    // The head does not want the small one: the next who does gets it, and the head loses nothing by it.
    release(&sandbox, "on-small").await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/any", "Active").await), "pool--small");
    release(&sandbox, "on-big").await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/wants-big", "Active").await), "pool--big");
    in_line(&sandbox, "later").await;
    assert_eq!(granted(&sandbox).await[2..], ["any", "wants-big"]);
}

#[tokio::test]
async fn story_31_a_new_host_serves_the_head_at_once() {
    let (sandbox, _controller) = alone("story-31").await;
    held(&sandbox, json!({})).await;
    for name in ["first", "second", "third"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        in_line(&sandbox, name).await;
    }
    let grown = apply(&sandbox, &hosts(2, json!({}))).await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/first", "Active").await), "pool--h2");
    sandbox.wait_for("lease/second", "next", |l| place(l) == Some(1)).await;
    sandbox.wait_for("lease/third", "behind it", |l| place(l) == Some(2)).await;
    assert_eq!(granted(&sandbox).await, ["holder", "first"]);

    let with_host = |s: &crate::support::Seen| s.object.metadata.generation == grown.metadata.generation;
    let asked = seen_at(&first(&sandbox, "blueprint/pool", "grown", with_host));
    let served = seen_at(&first(&sandbox, "lease/first", "active", |s| s.phase() == "Active"));
    let took = Duration::try_from(served.duration_since(asked)).unwrap_or_default();
    assert!(took < Duration::from_secs(10), "it took {took:?}: nothing polls, and nobody had to wait");
}

/// Waits until each of these is told this place and this reason.
async fn are_told(sandbox: &Sandbox<'_>, reason: &str, in_order: &[&str]) {
    for (n, name) in in_order.iter().enumerate() {
        let what = format!("at place {} for {reason}", n + 1);
        let told =
            |l: &DynamicObject| place(l) == i64::try_from(n + 1).ok() && condition(l, "Acquired") == ("False", reason);
        let object = sandbox.wait_for(&format!("lease/{name}"), &what, told).await;
        assert!(!message(&object, "Acquired").is_empty());
        assert_eq!(condition(&object, "Ready"), ("False", "Waiting"));
        assert_eq!(condition(&object, "Settled"), ("False", "Waiting"));
    }
}

#[tokio::test]
async fn story_33_place_and_reason_are_right_while_the_queue_moves() {
    let (sandbox, _controller) = alone("story-33").await;
    held(&sandbox, json!({})).await;
    for name in ["a", "b", "c", "d", "e"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        in_line(&sandbox, name).await;
    }
    are_told(&sandbox, "AtCapacity", &["a", "b", "c", "d", "e"]).await;

    // One in the middle leaves; the head is served; one is put first.
    release(&sandbox, "c").await;
    are_told(&sandbox, "AtCapacity", &["a", "b", "d", "e"]).await;
    release(&sandbox, "holder").await;
    sandbox.wait_phase("lease/a", "Active").await;
    are_told(&sandbox, "AtCapacity", &["b", "d", "e"]).await;
    sandbox.patch(Identity::Admin, "lease/e", json!({"spec": {"priority": 1}})).await;
    are_told(&sandbox, "AtCapacity", &["e", "b", "d"]).await;

    // The reason changes under all of them.
    for (suspend, reason) in [(true, "Suspended"), (false, "AtCapacity")] {
        sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"suspend": suspend}})).await;
        are_told(&sandbox, reason, &["e", "b", "d"]).await;
    }
    let disabled = |disabled: bool| json!([{"name": "h1", "address": "192.0.2.1", "disabled": disabled}]);
    for (off, reason) in [(true, "NoHostEnabled"), (false, "AtCapacity")] {
        apply(&sandbox, &hosts(0, json!({"driver": {"hosts": {"inventory": disabled(off)}}}))).await;
        are_told(&sandbox, reason, &["e", "b", "d"]).await;
    }
    holds_throughout(&sandbox).await;
    sandbox.history().never("served, and still in line", |s| {
        s.kind == "lease" && !matches!(s.phase(), "" | "Pending") && place(&s.object).is_some()
    });
}

/// Whoever is not admitted any more, or waits for a Blueprint that is gone, stands in no queue.
#[tokio::test]
async fn story_33_who_stands_in_no_queue_has_no_place() {
    let (sandbox, _controller) = alone("story-33-nowhere").await;
    held(&sandbox, json!({})).await;
    for name in ["a", "b"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        in_line(&sandbox, name).await;
    }
    are_told(&sandbox, "AtCapacity", &["a", "b"]).await;
    let nowhere = |reason: &'static str| {
        move |l: &DynamicObject| place(l).is_none() && condition(l, "Acquired") == ("False", reason)
    };
    let others = json!({"from": "Selector", "selector": {"matchLabels": {"drydock.test/other": "yes"}}});
    let admit = |admitted| json!({"spec": {"allowedNamespaces": admitted}});
    sandbox.patch(Identity::Admin, "blueprint/pool", admit(others)).await;
    for name in ["lease/a", "lease/b"] {
        sandbox.wait_for(name, "in no queue", nowhere("NotAuthorized")).await;
    }
    sandbox.patch(Identity::Admin, "blueprint/pool", admit(json!({"from": "Same", "selector": null}))).await;
    are_told(&sandbox, "AtCapacity", &["a", "b"]).await;

    sandbox.delete(Identity::Admin, "blueprint/pool").await;
    release(&sandbox, "holder").await;
    sandbox.wait_gone("blueprint/pool").await;
    for name in ["lease/a", "lease/b"] {
        sandbox.wait_for(name, "in no queue", nowhere("NoMatchingBlueprint")).await;
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_33_a_place_never_grows_while_nobody_is_put_before_it() {
    let (sandbox, _controller) = alone("story-33-long").await;
    held(&sandbox, json!({})).await;
    let names: Vec<String> = (0..14).map(|n| format!("w{n:02}")).collect();
    for name in &names {
        apply(&sandbox, &lease(name, json!({"ttl": "100ms"}))).await;
    }
    let line: Vec<&str> = names.iter().map(String::as_str).collect();
    are_told(&sandbox, "AtCapacity", &line).await;
    release(&sandbox, "holder").await;
    sandbox.wait_phase("lease/w13", "Destroyed").await;
    holds_throughout(&sandbox).await;
    for name in &names {
        let places: Vec<i64> =
            sandbox.history().of(&format!("lease/{name}")).iter().filter_map(|s| place(&s.object)).collect();
        assert!(places.is_sorted_by(|a, b| a >= b), "{name}: {places:?}");
    }
}
