//! Chaos on a real control plane: hundreds of leases while controllers are killed outright, paused for longer than any term of
//! leadership and run twice, while kube-apiserver and etcd are killed and come back, while clients append commands, edit and
//! delete. A checker that sees every version of every object verifies what must hold over the whole history; and when the
//! faults are over everything must come to rest, with nothing left over.
//!
//! `make chaos MINUTES=60 SEED=1`; without `MINUTES` the short form, which `make test` runs.

// It runs on the machine's own clock, and fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "../simulation/random.rs"]
mod random;
#[path = "../support/mod.rs"]
mod support;

mod checker;
mod clients;
mod faults;
mod figures;
mod ground;
mod plan;
mod recorder;
mod rest;

use checker::Wrong;
use faults::{Controller, Tally};
use plan::Plan;
use recorder::Recorder;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use support::{ControlPlane, ControllerProcess, install};
use tokio::{sync::watch, task::JoinSet};

/// No revision is compacted, and the recorder can read what is stored.
const READABLE: [&str; 2] = ["--etcd-compaction-interval=0", "--storage-media-type=application/json"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_wrong() {
    let plan = Plan::read();
    println!("{plan:?}");
    let plane = Arc::new(ControlPlane::start_with(&READABLE).await.expect("a control plane of its own"));
    println!("in {}", plane.folder().display());
    install::everything(&plane).await.expect("Drydock is installed");
    let recorder = Recorder::start(plane.etcd_socket());
    ground::prepare(&plane).await;
    let tally = Tally::default();
    let mut controllers = chaos(&plane, plan, &recorder, &tally).await;
    let end = comes_to_rest(&plane, plan, &recorder).await;
    for controller in &mut controllers {
        faults::count_up(controller, &tally).await;
    }
    report(&plan, &recorder, &tally, end);
    drop(controllers);
    Arc::into_inner(plane).expect("nobody has it any more").stop().await.expect("all of it ends");
}

/// Clients and faults for the time of the plan. Gives the controllers, which are well.
async fn chaos(plane: &Arc<ControlPlane>, plan: Plan, recorder: &Recorder, tally: &Tally) -> Vec<ControllerProcess> {
    let (end, over) = watch::channel(false);
    let mut suffering = JoinSet::new();
    for number in 0..2 {
        let controller = Controller::start(plane, plan, number, recorder, tally);
        suffering.spawn(controller.suffer(over.clone()));
    }
    let mut clients = clients::start(plane, plan, recorder, &over).await;
    let servers = tokio::spawn(faults::servers(plane.clone(), plan, recorder.clone(), tally.clone(), over.clone()));
    // The chaos itself; not a wait for something, but for as long as a slow machine needs to have seen each fault.
    let enough = async {
        tokio::time::sleep(plan.time).await;
        while !tally.read().has_all() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        biased;
        Some(ended) = suffering.join_next() => drop(ended.expect("a controller is well")),
        enough = tokio::time::timeout(plan.time * 4, enough) => enough.expect("each fault has its turn"),
    }
    end.send_replace(true);
    recorder.tell("the faults are over");
    servers.await.expect("the servers are well");
    while let Some(client) = clients.join_next().await {
        client.expect("a client never fails");
    }
    let mut controllers = Vec::new();
    while let Some(controller) = suffering.join_next().await {
        controllers.push(controller.expect("a controller is well"));
    }
    controllers
}

async fn comes_to_rest(plane: &ControlPlane, plan: Plan, recorder: &Recorder) -> Result<(), Wrong> {
    let began = Instant::now();
    let stage = |name: &str| println!("{name} after {:.1?} of rest", began.elapsed());
    rest::settles(plane, recorder).await?;
    rest::agrees(plane, recorder).await?;
    stage("settled");
    if plan.is_long {
        rest::serves_in_order(plane, recorder).await?;
        stage("served in order");
    }
    rest::serves_all_it_has(plane, recorder).await?;
    stage("in full use");
    rest::empties(plane, recorder).await?;
    stage("empty and silent");
    rest::agrees(plane, recorder).await
}

/// Tells the figures, and fails if anything was wrong.
fn report(plan: &Plan, recorder: &Recorder, tally: &Tally, end: Result<(), Wrong>) {
    let record = recorder.look();
    println!("{}", figures::told(plan, &record, &tally.read()));
    let wrongs: Vec<&Wrong> = record.wrongs.iter().chain(end.as_ref().err()).collect();
    for wrong in wrongs.iter().take(6) {
        println!("\n=== {}\n{}", wrong.what, record.checker.story.of(&wrong.uids));
    }
    assert!(wrongs.is_empty(), "{} violations, the first: {}", wrongs.len(), wrongs[0].what);
}
