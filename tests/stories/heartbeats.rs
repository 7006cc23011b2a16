//! `heartbeatTimeout`: a lease is released when `spec.heartbeat` has not changed for so long, and never before.

use crate::{
    support::{ControlPlane, ControllerProcess, Identity, Sandbox, controlplane::Server, install, sandbox::condition},
    told::{
        alone, apply, first_over, from_now, holds_throughout, hosts, instant, lease, message, uid, versions, wait_until,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::json;

const TIMEOUT: SignedDuration = SignedDuration::from_secs(4);

/// How late it may be on a busy machine.
const LATE: SignedDuration = SignedDuration::from_secs(5);

/// A sign of life, and when it was sent at the earliest and at the latest.
async fn beat(sandbox: &Sandbox<'_>, lease: &str, text: &str) -> (Timestamp, Timestamp) {
    let before = from_now(0);
    sandbox.patch(Identity::Admin, lease, json!({"spec": {"heartbeat": text}})).await;
    (before, from_now(0))
}

/// Checks that it was released for want of a sign of life, so long after the last one.
fn lost_after(sandbox: &Sandbox<'_>, over: &DynamicObject, (earliest, latest): (Timestamp, Timestamp)) {
    assert_eq!(condition(over, "Released"), ("True", "HeartbeatLost"));
    assert_eq!(message(over, "Released"), "spec.heartbeat has not changed for 4s");
    let released = instant(&first_over(sandbox, &uid(over)).object, "releasedAt");
    assert!(released >= earliest + TIMEOUT, "released at {released}, the last sign of life being of {earliest}");
    assert!(released <= latest + TIMEOUT + LATE, "released at {released}, the last sign of life being of {latest}");
}

#[tokio::test]
async fn a_lease_lives_as_long_as_it_gives_signs_of_life() {
    let (sandbox, _controller) = alone("heartbeats").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({"heartbeatTimeout": "4s"}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    let mut last = (from_now(0), from_now(0));
    for n in 0..8 {
        wait_until(from_now(1_000)).await;
        last = beat(&sandbox, "lease/a", &n.to_string()).await;
    }
    // The same text once more is no sign of life.
    wait_until(from_now(1_500)).await;
    beat(&sandbox, "lease/a", "7").await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.history().caught_up().await;
    lost_after(&sandbox, &over, last);
    // Nothing was written for them.
    let alive = versions(&sandbox, &uid(&over)).into_iter().filter(|seen| seen.phase() == "Active");
    let statuses: Vec<_> = alive.map(|seen| seen.object.data["status"].clone()).collect();
    assert!(statuses.len() >= 8 && statuses.iter().all(|status| *status == active.data["status"]), "{statuses:?}");
    holds_throughout(&sandbox).await;
}

/// In the queue, too: nothing is built for whoever is gone.
#[tokio::test]
async fn a_lease_that_waits_gives_signs_of_life_as_well() {
    let (sandbox, _controller) = alone("heartbeats-queue").await;
    let applied = from_now(0);
    for name in ["silent", "alive"] {
        apply(&sandbox, &lease(name, json!({"heartbeatTimeout": "4s"}))).await;
    }
    let mut n = 0;
    let silent = loop {
        beat(&sandbox, "lease/alive", &n.to_string()).await;
        let silent = sandbox.get("lease/silent").await;
        if crate::support::phase(&silent) == "Destroyed" {
            break silent;
        }
        assert!(n < 40, "it is still there: {silent:?}");
        n += 1;
        wait_until(from_now(500)).await;
    };
    sandbox.history().caught_up().await;
    lost_after(&sandbox, &silent, (applied, from_now(0)));
    assert_eq!(condition(&silent, "TornDown"), ("True", "NothingToTearDown"));
    apply(&sandbox, &hosts(1, json!({}))).await;
    sandbox.wait_phase("lease/alive", "Active").await;
    holds_throughout(&sandbox).await;
}

/// Nobody counts while the controller is down: it begins anew, late and never early.
#[tokio::test]
async fn a_restart_begins_anew() {
    let (sandbox, mut controller) = alone("heartbeats-restart").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({"heartbeatTimeout": "4s"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    controller.kill9().await;
    wait_until(from_now(4_500)).await;
    let before = from_now(0);
    controller.restart().await;
    let restarted = from_now(0);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.history().caught_up().await;
    lost_after(&sandbox, &over, (before, restarted));
    holds_throughout(&sandbox).await;
}

/// Who holds a lease cannot give a sign of life while the API server is away, nor can one be seen.
#[tokio::test]
async fn an_outage_of_the_api_server_costs_nobody_their_lease() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    install::crds(&plane).await.expect("the definitions are installed");
    let sandbox = Sandbox::on(&plane, "heartbeats-outage").await;
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &[], &[]);
    controller.ready().await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({"heartbeatTimeout": "8s"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;

    plane.knock_out(Server::ApiServer).await.expect("it was there");
    wait_until(from_now(10_000)).await;
    assert_eq!(controller.get("/livez").await.0, 200, "a restart would help nobody");
    plane.come_back(Server::ApiServer).await.expect("it comes back");
    // The holder takes a moment to notice.
    wait_until(from_now(4_000)).await;
    beat(&sandbox, "lease/a", "1").await;
    wait_until(from_now(4_000)).await;
    let last = beat(&sandbox, "lease/a", "2").await;
    assert_eq!(crate::support::phase(&sandbox.get("lease/a").await), "Active");
    // And then it counts again.
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "HeartbeatLost"));
    let released = instant(&over, "releasedAt");
    assert!(released >= last.0 + SignedDuration::from_secs(8), "{released}");
    drop(controller);
    plane.stop().await.expect("all of it ends");
}
