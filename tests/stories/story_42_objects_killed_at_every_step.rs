//! Story 42 with real objects: the controller is killed at each of its changes, before it is sent or when it has taken
//! effect, from the first write to the last removal. Whoever comes next finishes: nothing is lost, nothing is made twice.

use crate::{
    effects::Inside,
    objects::{env, lease, left, made, map, release, robot, without_controller},
    support::phase,
    tap::{Bomb, Dies},
    told::{apply, holds_throughout, was_in},
};
use futures::{StreamExt as _, stream};
use serde_json::json;

/// How many lives are led side by side.
const SIDE_BY_SIDE: usize = 6;

/// One life, from the lease to the last removal, with a death at the n-th change. Returns whether it came to that.
async fn life(at: usize, dies: Dies) -> bool {
    let (sandbox, things) = without_controller(&format!("killed-{dies:?}-{at}").to_lowercase()).await;
    let bomb = Bomb::new(at, dies);
    let first = Inside::through(&sandbox, bomb.way()).await;
    let objects = json!({
        "templates": [robot("${resource.metadata.name}"), map("${resource.metadata.name}", json!({"a": "b"}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({"a": "b"}))],
        "outputs": {"robot": "${resource.metadata.name}", "of": "${lease.metadata.name}"},
    });
    let life = async {
        apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
        apply(&sandbox, &lease("a", json!({}))).await;
        sandbox.wait_phase("lease/a", "Active").await;
        release(&sandbox, "lease/a").await;
        sandbox.wait_phase("lease/a", "Destroyed").await;
        was_in(&sandbox, "resource/env--0", "Destroyed").await;
        sandbox.wait_gone("resource/env--0").await;
    };
    let replace = async {
        bomb.dead().await;
        first.kill().await;
        let _next = Inside::through(&sandbox, |own| own).await;
        std::future::pending::<()>().await
    };
    futures::future::select(std::pin::pin!(life), std::pin::pin!(replace)).await;

    things.caught_up().await;
    let once = ["serviceaccount/env--0", "configmap/env--0", "configmap/of-a"];
    assert_eq!(made(&things), once, "killed {dies:?} its change {at}");
    assert_eq!(left(&things), [""; 0], "killed {dies:?} its change {at}");
    holds_throughout(&sandbox).await;
    sandbox.history().never("a failure", |s| phase(&s.object) == "Broken");
    bomb.is_dead()
}

async fn every_life(dies: Dies) {
    // As long as the one before the last came to it, there may be a change after it.
    let mut lives = stream::iter(1..).map(|at| async move { (at, life(at, dies).await) }).buffered(SIDE_BY_SIDE);
    while let Some((at, killed)) = lives.next().await {
        if !killed {
            assert!(at > 15, "a life has more than {at} changes");
            println!("killed {dies:?} each of {} changes", at - 1);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_each_change() {
    every_life(Dies::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_each_change() {
    every_life(Dies::After).await;
}
