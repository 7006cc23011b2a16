//! What it costs that many wait for one slot: each is told why, and where in the queue it stands, in a few writes, however
//! many the others are (issue 5, *why am I waiting*).

use super::{Stage, told};
use crate::journal::{Kind, What};
use drydock::api::LeasePhase;
use jiff::SignedDuration;
use serde_json::json;

/// How many status writes of leases there were so far.
fn writes(stage: &Stage) -> usize {
    let is_one = |what: &What| matches!(what, What::Wrote(version) if version.kind == Kind::Lease && version.status);
    stage.happened().iter().filter(|entry| is_one(&entry.what)).count()
}

/// So many wait; then they are served, one after the other. Returns the writes for the waiting, and for all the serving.
fn cost_of(waiters: usize) -> [usize; 2] {
    let mut cost = [0; 2];
    told(async |stage| {
        let _controller = stage.controller("1");
        stage.pool(1, json!({}));
        stage.lease("first", json!({}));
        stage.until_lease("first", LeasePhase::Active).await;
        let names: Vec<_> = (0..waiters).map(|n| format!("w{n}")).collect();
        let before = writes(stage);
        for name in &names {
            stage.lease(name, json!({}));
        }
        stage.pass(SignedDuration::from_mins(10)).await;
        cost[0] = writes(stage) - before;
        stage.release("first");
        for name in &names {
            stage.until_lease(name, LeasePhase::Active).await;
            stage.release(name);
        }
        stage.pass(SignedDuration::from_mins(10)).await;
        cost[1] = writes(stage) - before - cost[0];
    });
    cost
}

#[test]
fn the_cost_of_those_who_wait_is_linear() {
    for waiters in [50, 200] {
        let [waiting, serving] = cost_of(waiters);
        assert!(waiting <= WAITING * waiters, "{waiting} writes for {waiters} who wait");
        assert!(serving <= SERVING * waiters, "{serving} writes while {waiters} are served");
    }
}

/// Once with its ticket, its place and the reason; and once more where a later one came to be told first.
const WAITING: usize = 2;

/// Near places one by one as far as the sweeps come to see them, each halving before; then the few of being served, and of the end.
const SERVING: usize = 12;
