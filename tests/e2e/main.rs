//! The chart on a cluster with a node that runs its Pods: one story, from `helm install` to the last of it, chapter by chapter.
//!
//! `make e2e` starts the node, or is given a cluster. On one that is not of its own the story takes place in namespaces that were
//! not there before, and at its end, whatever that is, nothing is left.

// Tests run on the machine's own clock, and fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod logs;
mod release;

mod elected;
mod examples;
mod installed;
mod killed;
mod namespaces;
mod not_ready;
mod uninstalled;
mod upgraded;

use cluster::Cluster;
use release::Release;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster that runs Pods: make e2e"]
async fn the_chart_works_on_a_real_node() {
    let begin = Instant::now();
    let cluster = Arc::new(Cluster::reach().await);
    cluster.is_free().await;
    let told = AssertUnwindSafe(story(cluster.clone())).catch_unwind().await;
    if told.is_err() {
        cluster.tell().await;
    }
    if !cluster.ours {
        cluster.tidy().await; // a node of ours goes as a whole
    }
    if let Err(failed) = told {
        std::panic::resume_unwind(failed);
    }
    println!("all of it holds, after {:.0?}", begin.elapsed());
}

async fn story(cluster: Arc<Cluster>) {
    let release = Release::new(cluster.clone()).await;
    installed::with_helm(&cluster, &release).await;
    examples::end_as_they_say(&cluster).await;
    namespaces::live_and_die_with_their_lease(&cluster).await;
    namespaces::are_pruned_of_pods_that_others_made(&cluster).await;
    killed::in_the_middle(&cluster, &release).await;
    upgraded::and_rolled_back(&cluster, &release).await;
    not_ready::is_not_relied_on(&cluster, &release).await;
    elected::and_replaced(&cluster, &release).await;
    installed::and_measured(&cluster, &release).await;
    uninstalled::and_taken_up_again(&cluster, &release).await;
}
