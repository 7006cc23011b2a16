//! Leader election: it saves the work of a second controller, and nothing depends on it.

use crate::{
    support::{ControllerProcess, Sandbox},
    told::{apply, holds_throughout, hosts, lease},
};
use serde_json::json;
use std::time::Duration;

/// The coordination Lease is one for all controllers of a control plane: this is the only story that elects.
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

    // Killed: its term has to end first.
    one.kill9().await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_within(TERM, "lease/b", "served by the other", is_active).await;
    assert!(!stands_by(&two).await);

    // Asked to stop: it gives the election up.
    one.restart().await;
    assert!(stands_by(&one).await, "back again, it stands by");
    assert!(two.terminate().await.success());
    apply(&sandbox, &lease("c", json!({}))).await;
    sandbox.wait_within(TERM, "lease/c", "served by the first again", is_active).await;
    holds_throughout(&sandbox).await;
}

/// Longer than a term of leadership, on a busy machine.
const TERM: Duration = Duration::from_secs(60);

fn is_active(lease: &kube::api::DynamicObject) -> bool {
    crate::support::phase(lease) == "Active"
}

async fn stands_by(controller: &ControllerProcess) -> bool {
    let (code, text) = controller.get("/readyz").await;
    assert_eq!(code, 200, "{text}");
    text.starts_with("standing by")
}
