//! Two hundred environments at once.

use crate::{
    objects::{alone, env, lease, left, made, map},
    support::{Identity, phase},
    told::{apply, holds_throughout},
};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const MANY: usize = 200;

/// How many of them may be built at the same time.
const AT_ONCE: usize = 20;
const LONG: Duration = Duration::from_secs(180);

#[tokio::test]
async fn two_hundred_environments_are_made_and_removed() {
    let (sandbox, _controller, things) = alone("objects-many").await;
    let objects = json!({"templates": [map("${resource.metadata.name}", json!({"a": "b"}))]});
    let more = json!({
        "limits": {"maxResources": MANY, "maxConcurrentBuilds": AT_ONCE},
        "lease": {"recycle": "Destroy"},
    });
    for n in 0..MANY {
        apply(&sandbox, &lease(&format!("l{n}"), json!({}))).await;
    }
    // All of them wait; from now on each can be served.
    let start = Instant::now();
    apply(&sandbox, &env(objects, more)).await;
    for n in 0..MANY {
        sandbox.wait_within(LONG, &format!("lease/l{n}"), "active", |l| phase(l) == "Active").await;
    }
    let active = start.elapsed();
    let (mut building, mut most) = (BTreeSet::new(), 0);
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        match seen.phase() {
            "Pending" => building.insert(seen.uid.clone()),
            _ => building.remove(&seen.uid),
        };
        most = most.max(building.len());
    }
    assert!((2..=AT_ONCE).contains(&most), "{most} were built at once");
    things.caught_up().await;
    assert_eq!(made(&things).len(), MANY);
    assert_eq!(left(&things).len(), MANY);

    let start = Instant::now();
    let leases = sandbox.api(Identity::Admin, "lease").await;
    leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    for n in 0..MANY {
        crate::objects::gone_within(&sandbox, LONG, &format!("resource/env--{n}")).await;
    }
    println!("{MANY} active after {active:.1?}, gone in {:.1?}", start.elapsed());
    things.caught_up().await;
    assert_eq!(made(&things).len(), MANY, "nothing was made twice");
    assert_eq!(left(&things), [""; 0]);
    assert_eq!(sandbox.list("lease").await.len(), 0);
    holds_throughout(&sandbox).await;
}
