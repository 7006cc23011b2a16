//! Stories 26 and 32: a Blueprint that cannot serve a lease does not stand in the way of one that can. And which of a
//! Blueprint's resources a lease gets.

use crate::{
    effects::{self, Mood::*},
    support::{Identity, phase, sandbox::condition},
    told::{alone, apply, bound_to, claimants, command, holds_throughout, hosts, lease, merge, message, pool, was},
};
use drydock::api::step::StepKind::*;
use futures::future::join_all;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A Blueprint of this name whose resources are in the world.
fn in_world(name: &str, count: usize, more: Value) -> String {
    let mut pool: Value = serde_json::from_str(&effects::pool(count, more)).unwrap();
    merge(&mut pool, json!({"metadata": {"name": name}}));
    pool.to_string()
}

#[tokio::test]
async fn story_26_where_the_first_fails_for_good_the_second_serves() {
    let (sandbox, world, _controller) = effects::alone("story-26").await;
    world.will(Build, [FailsForGood("no such image")]);
    apply(&sandbox, &in_world("broken", 1, json!({}))).await;
    apply(&sandbox, &pool("works", 1, json!({}))).await;
    let order = json!({"blueprints": [{"name": "broken"}, {"name": "works"}]});
    apply(&sandbox, &lease("a", order)).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!((bound_to(&active).as_str(), world.calls(Build).len()), ("works--h1", 1));
    was(&sandbox, "blueprint/broken", "failing", |b| condition(b, "Ready") == ("False", "BuildFailing")).await;
    sandbox.wait_gone("resource/broken--0").await;
    holds_throughout(&sandbox).await;
}

/// What is tried again in its place goes on; who waits for it is served by another meanwhile.
#[tokio::test]
async fn story_26_where_the_first_fails_for_a_while_the_second_serves() {
    let (sandbox, world, _controller) = effects::alone("story-26-while").await;
    world.will(Build, [Fails("the quota is used up")]);
    apply(&sandbox, &in_world("broken", 1, json!({}))).await;
    let order = json!({"blueprints": [{"name": "broken"}, {"name": "works"}]});
    apply(&sandbox, &lease("a", order.clone())).await;
    let failing = |l: &DynamicObject| condition(l, "Acquired") == ("False", "BuildFailing");
    sandbox.wait_for("lease/a", "told that builds fail", failing).await;
    apply(&sandbox, &pool("works", 1, json!({}))).await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/a", "Active").await), "works--h1");
    // The next has no other choice, and waits for what was begun: no second one is built beside it.
    apply(&sandbox, &lease("b", order)).await;
    let waiting =
        sandbox.wait_for("lease/b", "told what each of them says", |l| !condition(l, "Acquired").1.is_empty()).await;
    assert!(message(&waiting, "Acquired").contains("Blueprint ") && phase(&waiting) == "Pending", "{waiting:?}");
    world.will(Build, [Works]);
    assert_eq!(bound_to(&sandbox.wait_phase("lease/b", "Active").await), "broken--0");
    assert_eq!(sandbox.list("resource").await.len(), 2);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_32_a_blueprint_at_its_limit_holds_nobody_up_whom_another_serves() {
    let (sandbox, _controller) = alone("story-32").await;
    apply(&sandbox, &pool("small", 1, json!({}))).await;
    apply(&sandbox, &lease("held", json!({"blueprints": [{"name": "small"}]}))).await;
    sandbox.wait_phase("lease/held", "Active").await;
    // First in line, and of the highest priority: for what is taken.
    apply(&sandbox, &lease("first", json!({"blueprints": [{"name": "small"}], "priority": 100}))).await;
    let waits = |l: &DynamicObject| condition(l, "Acquired") == ("False", "AtCapacity");
    sandbox.wait_for("lease/first", "waiting", waits).await;
    let boards = json!({"driver": {"hosts": {"inventory": [{"name": "b1"}, {"name": "b2"}]}}});
    apply(&sandbox, &pool("large", 0, boards)).await;
    let either = json!({"blueprints": [{"name": "small"}, {"name": "large"}]});
    for (name, spec) in [("either", either), ("any", json!({}))] {
        apply(&sandbox, &lease(name, spec)).await;
        let active = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        assert!(bound_to(&active).starts_with("large--"), "{active:?}");
    }
    assert_eq!(phase(&sandbox.get("lease/first").await), "Pending");
    // One clause for each that could serve it.
    let both = json!({"blueprints": [{"name": "small"}, {"name": "large"}, {"name": "absent"}]});
    apply(&sandbox, &lease("last", both)).await;
    let waiting = sandbox.wait_for("lease/last", "waiting", waits).await;
    let said: Vec<&str> = message(&waiting, "Acquired").split("; ").collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for (clause, name) in said.iter().zip(["small", "large", "absent"]) {
        assert!(clause.starts_with(&format!("Blueprint {}/{name} ", sandbox.namespace())), "{said:?}");
    }
    command(&sandbox, "lease/held", json!({"id": "r1", "type": "Release"})).await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/first", "Active").await), "small--h1");
    holds_throughout(&sandbox).await;
}

/// Four leases at once on two resources that are there, with room for four each.
#[tokio::test]
async fn leases_are_packed_or_spread() {
    for (placement, expected) in [("Pack", vec![4]), ("Spread", vec![2, 2])] {
        let (sandbox, _controller) = alone(&format!("placement-{}", placement.to_lowercase())).await;
        let shared = json!({"limits": {"leasesPerResource": 4, "minReady": 2}, "placement": placement});
        apply(&sandbox, &hosts(2, shared)).await;
        for name in ["pool--h1", "pool--h2"] {
            sandbox.wait_phase(&format!("resource/{name}"), "Active").await;
        }
        let documents: Vec<String> = (0..4).map(|n| lease(&format!("l{n}"), json!({}))).collect();
        join_all(documents.iter().map(|document| sandbox.apply(Identity::Admin, document))).await;
        let mut held: BTreeMap<String, usize> = BTreeMap::new();
        for n in 0..4 {
            *held.entry(bound_to(&sandbox.wait_phase(&format!("lease/l{n}"), "Active").await)).or_default() += 1;
        }
        assert_eq!(held.values().copied().collect::<Vec<_>>(), expected, "{placement}: {held:?}");
        let claims: usize = sandbox.list("resource").await.iter().map(|r| claimants(r).len()).sum();
        assert_eq!(claims, 4);
        holds_throughout(&sandbox).await;
    }
}
