//! Story 42: the controller is killed at any moment and started again; two controllers run at once. Nothing is lost, and
//! nothing happens twice.

use crate::{
    support::{ControllerProcess, Identity, Sandbox, sandbox::condition},
    told::{alone, apply, command, holds_throughout, hosts, lease, wait_until},
};
use kube::ResourceExt as _;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

const HOSTS: usize = 20;
const LEASES: usize = 200;

/// 200 leases on 20 hosts, and the controller is killed every two seconds.
#[tokio::test]
async fn story_42_every_lease_is_served_in_order_while_the_controller_is_killed_every_two_seconds() {
    let (sandbox, mut controller) = alone("story-42-killed").await;
    apply(&sandbox, &hosts(HOSTS, json!({}))).await;
    let names: Vec<String> = (0..LEASES).map(|n| format!("l{n:03}")).collect();
    let requests = async {
        for name in &names {
            apply(&sandbox, &lease(name, json!({"ttl": "2s"}))).await;
        }
    };
    let kills = async {
        let mut kills = 0;
        while sandbox.list("lease").await.len() < LEASES || !all_in(&sandbox, "Destroyed").await {
            assert!(kills < 60, "not served after {kills} kills");
            // Not a wait for something: the story's own pace.
            tokio::time::sleep(Duration::from_secs(2)).await;
            controller.restart().await;
            kills += 1;
        }
        kills
    };
    let ((), kills) = tokio::join!(requests, kills);
    assert!(kills >= 5, "it was over after {kills} kills: give it more to do");
    holds_throughout(&sandbox).await;
    served_in_order(&sandbox, &names);
    for name in &names {
        let phases = sandbox.history().phases(&format!("lease/{name}"));
        assert!(phases.contains(&"Active".to_owned()), "{name} was never active: {phases:?}");
    }
}

/// Grants follow the order in which the leases were created. A second may hold several; the ticket orders those.
fn served_in_order(sandbox: &Sandbox<'_>, names: &[String]) {
    let mut granted: Vec<String> = Vec::new();
    let mut at_once: BTreeMap<u64, usize> = BTreeMap::new();
    for seen in sandbox.history().all().iter().filter(|s| s.kind == "resource") {
        for name in crate::told::claimants(&seen.object) {
            if !granted.contains(&name) {
                granted.push(name);
                *at_once.entry(seen.version).or_default() += 1;
            }
        }
    }
    assert_eq!(granted.len(), names.len(), "each was granted");
    // As many grants are under way at once as there are hosts; within those the writes may overtake one another.
    for (n, name) in granted.iter().enumerate() {
        let place = names.iter().position(|other| other == name).unwrap();
        assert!(place.abs_diff(n) < HOSTS, "{name} was granted as number {n}");
    }
}

async fn all_in(sandbox: &Sandbox<'_>, phase: &str) -> bool {
    let leases = sandbox.list("lease").await;
    leases.iter().all(|lease| lease.data["status"]["phase"] == phase)
}

/// Killed in the middle of each kind of transition: right after what begins it was written.
#[tokio::test]
async fn story_42_killed_in_the_middle_of_each_transition() {
    let (sandbox, mut controller) = alone("story-42-each").await;
    apply(&sandbox, &hosts(1, json!({}))).await;

    // Before anything of it is seen: applied while no controller runs.
    controller.kill9().await;
    apply(&sandbox, &lease("a", json!({"ttl": "1h"}))).await;
    controller.restart().await;
    sandbox.wait_phase("lease/a", "Active").await;

    // Between the command and its outcome.
    controller.sigstop();
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release", "hold": "1h"})).await;
    controller.restart().await;
    let held = sandbox.wait_phase("lease/a", "Released").await;
    assert_eq!(condition(&held, "TornDown"), ("False", "Held"));

    // While held, with a waiter behind it.
    apply(&sandbox, &lease("b", json!({}))).await;
    controller.restart().await;
    command(&sandbox, "lease/a", json!({"id": "r2", "type": "Release"})).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_phase("lease/b", "Active").await;

    // A deadline that passes while nobody looks is honoured at the start.
    sandbox.append(Identity::Admin, "lease/b", json!({"id": "e1", "type": "Expires", "after": "1s"})).await;
    sandbox.wait_for("lease/b", "with an end", |l| !l.data["status"]["expiresAt"].is_null()).await;
    controller.kill9().await;
    let end = crate::told::instant(&sandbox.get("lease/b").await, "expiresAt");
    wait_until(end).await;
    controller.restart().await;
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));

    // Deletion of a lease, of the resource and of the Blueprint, each asked while nobody looks.
    apply(&sandbox, &lease("c", json!({}))).await;
    sandbox.wait_phase("lease/c", "Active").await;
    controller.kill9().await;
    for object in ["blueprint/pool", "lease/c", "resource/pool--h1"] {
        sandbox.delete(Identity::Admin, object).await;
    }
    controller.restart().await;
    for object in ["lease/c", "resource/pool--h1", "blueprint/pool"] {
        sandbox.wait_gone(object).await;
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_42_two_controllers_at_once_grant_nothing_twice() {
    let (sandbox, _one) = alone("story-42-two").await;
    let mut two = sandbox.controller().await;
    apply(&sandbox, &hosts(5, json!({}))).await;
    let names: Vec<String> = (0..60).map(|n| format!("l{n:02}")).collect();
    for name in &names {
        apply(&sandbox, &lease(name, json!({"ttl": "500ms"}))).await;
    }
    // One of them sleeps through most of it, and then acts on what it believed before.
    two.sigstop();
    sandbox.wait_phase("lease/l30", "Destroyed").await;
    two.sigcont();
    for name in &names {
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    holds_throughout(&sandbox).await;
    let (_, metrics) = two.get("/metrics").await;
    assert!(metrics.contains("drydock_passes_total"), "the second one worked too:\n{metrics}");
}

/// Nothing is written when nothing happens: not even by two.
#[tokio::test]
async fn when_nothing_happens_nothing_is_written() {
    let (sandbox, _one) = alone("silence").await;
    let _two = sandbox.controller().await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    for name in ["a", "b", "c"] {
        apply(&sandbox, &lease(name, json!({"ttl": "1h"}))).await;
    }
    sandbox.wait_phase("lease/a", "Active").await;
    sandbox.wait_for("lease/c", "in its place", |l| l.data["status"]["queuePosition"] == 2).await;
    sandbox
        .wait_for("blueprint/pool", "counted", |b| {
            b.data["status"]["waiting"] == 2 && b.data["status"]["resources"]["leased"] == 1
        })
        .await;
    // Counts are written at most every 5 s, places every 2: a quiet time longer than both has nothing left to tell.
    let versions = || async {
        let mut versions = Vec::new();
        for kind in ["lease", "resource", "blueprint"] {
            versions.extend(sandbox.list(kind).await.iter().filter_map(|o| o.resource_version()));
        }
        versions
    };
    let before = versions().await;
    // Not a wait for something: nothing is to happen.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(before, versions().await);
}

#[tokio::test]
async fn the_api_server_is_restarted_and_the_controller_goes_on() {
    let plane = crate::support::ControlPlane::start().await.expect("a control plane of its own");
    crate::support::install::everything(&plane).await.expect("Drydock is installed");
    let sandbox = Sandbox::on(&plane, "story-42-server").await;
    sandbox.history().allow_gaps();
    let controller: ControllerProcess = sandbox.controller().await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "6s"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    apply(&sandbox, &lease("b", json!({}))).await;
    plane.restart_apiserver().await.expect("it comes back");
    let over = sandbox
        .wait_within(Duration::from_secs(90), "lease/a", "over", |l| crate::support::phase(l) == "Destroyed")
        .await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    sandbox.wait_within(Duration::from_secs(90), "lease/b", "served", |l| crate::support::phase(l) == "Active").await;
    drop(controller);
    plane.stop().await.expect("all of it ends");
}
