//! Leader election: it saves the work of a second controller, and nothing depends on it.

use crate::{
    support::{ControlPlane, ControllerProcess, Identity, Sandbox, controlplane::Server, install},
    told::{apply, asked_until, holds_throughout, hosts, lease},
};
use serde_json::json;
use std::time::{Duration, Instant};

/// The coordination Lease is one for all controllers of a control plane that do not name another: this is the only story that elects.
#[tokio::test]
async fn one_of_two_is_elected_and_the_other_takes_over_when_it_is_killed_or_stops() {
    let sandbox = Sandbox::new("election").await;
    let elect = ["--leader-elect", "--leader-election-namespace", "drydock-system"];
    let mut one = sandbox.controller_for(&[], &elect).await;
    apply(&sandbox, &hosts(3, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_within(TERM, "lease/a", "served by whoever is elected", is_active).await;

    let mut two = sandbox.controller_for(&[], &elect).await;
    assert!(stands_by(&two).await, "the second stands by");
    assert!(!stands_by(&one).await, "the first does the work");
    // An alert asks whether any has this, and with it whether anybody is elected.
    let has_seen = async |controller: &ControllerProcess| {
        let (_, text) = controller.get("/metrics").await;
        text.contains(r#"drydock_watch_last_ok_timestamp_seconds{kind="leases""#)
    };
    assert!(has_seen(&one).await && !has_seen(&two).await);

    // A controller of other namespaces has an election of its own, also in the same namespace.
    let elsewhere = Sandbox::new("election-elsewhere").await;
    let named = [&elect[..], &["--leader-election-name", "drydock-elsewhere"]].concat();
    // As the administrator: the chart's role allows the one name, and here is nothing to do.
    let mut other = ControllerProcess::begin(elsewhere.plane(), Identity::Admin, &[elsewhere.namespace()], &named);
    other.listens().await;
    other.logs("every object is listed; reconciling").await;
    assert!(!stands_by(&one).await && stands_by(&two).await);
    drop(other);

    // Killed: its term has to end first.
    one.kill9().await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_within(TERM, "lease/b", "served by the other", is_active).await;
    assert!(!stands_by(&two).await);

    // Asked to stop: it gives the election up, and the other, that has seen its term begin, does not wait for the end of it.
    one.restart().await;
    assert!(stands_by(&one).await, "back again, it stands by");
    assert!(two.terminate().await.success());
    let given_up = Instant::now();
    apply(&sandbox, &lease("c", json!({}))).await;
    sandbox.wait_within(TERM, "lease/c", "served by the first again", is_active).await;
    assert!(given_up.elapsed() < AT_ONCE, "{:.0?}", given_up.elapsed());
    holds_throughout(&sandbox).await;
}

/// It waits for the API server, as one that takes part in no election does; and says that it is not ready meanwhile.
#[tokio::test]
async fn one_that_starts_while_the_api_server_is_away_waits_for_it() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    install::everything(&plane).await.expect("Drydock is installed");
    plane.knock_out(Server::ApiServer).await.expect("it was there");
    let elect = ["--leader-elect", "--leader-election-namespace", "drydock-system"];
    let mut controller = ControllerProcess::begin(&plane, Identity::Controller, &[], &elect);
    controller.listens().await;
    let in_vain = async || {
        let (code, said) = controller.get("/readyz").await;
        assert_eq!(code, 503, "{said}");
        controller.log().contains("no election yet")
    };
    asked_until("whether it has tried in vain", in_vain).await;
    let (_, text) = controller.get("/metrics").await;
    assert!(text.contains("drydock_") && !text.contains("drydock_watch_last_ok_timestamp_seconds{"), "{text}");
    plane.come_back(Server::ApiServer).await.expect("it comes back");
    controller.ready().await;
    drop(controller);
    plane.stop().await.expect("all of it ends");
}

/// Longer than a term of leadership, on a busy machine.
const TERM: Duration = Duration::from_secs(60);

/// Shorter than what is left of a term that was renewed just now (15 s).
const AT_ONCE: Duration = Duration::from_secs(8);

fn is_active(lease: &kube::api::DynamicObject) -> bool {
    crate::support::phase(lease) == "Active"
}

async fn stands_by(controller: &ControllerProcess) -> bool {
    let (code, text) = controller.get("/readyz").await;
    assert_eq!(code, 200, "{text}");
    text.starts_with("standing by")
}
