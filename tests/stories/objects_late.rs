//! What is asked of the API server late may arrive late: what a controller makes when another has torn it down already is
//! removed again (protocol.md, D1).

use crate::{
    effects::Inside,
    objects::{env, lease, left, map, release, without_controller},
    support::phase,
    tap::Dam,
    told::{apply, holds_throughout, was_in},
};
use serde_json::json;
use std::time::Duration;

/// So late that nobody looks for it any more who does not know of it. That nobody does is nothing that could be awaited: it
/// shows in no object, and the teardown that could have found it is done by then.
const LATE: Duration = Duration::from_secs(4);

fn environment() -> String {
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [crate::objects::robot("of-${lease.metadata.name}")],
    });
    env(objects, json!({}))
}

#[tokio::test]
async fn a_late_activation_is_removed_again() {
    let (sandbox, things) = without_controller("objects-late-lease").await;
    let dam = Dam::new("serviceaccounts");
    let _slow = Inside::through(&sandbox, dam.way()).await;
    apply(&sandbox, &environment()).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    dam.arrived(1).await;
    // The lease is released before anything of it is there; and another finds that there is nothing to remove.
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Released").await;
    let other = sandbox.controller().await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    drop(other);

    tokio::time::sleep(LATE).await;
    dam.open();
    dam.answered(1).await;
    things.wait_for("what came late", |s| s.name == "of-a").await;
    things.wait_for("its removal", |s| s.name == "of-a" && s.gone).await;
    things.caught_up().await;
    assert_eq!(left(&things), ["configmap/env--0"]);
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Active");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_late_build_is_removed_again() {
    let (sandbox, things) = without_controller("objects-late-build").await;
    let dam = Dam::new("configmaps");
    let _slow = Inside::through(&sandbox, dam.way()).await;
    apply(&sandbox, &environment()).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    dam.arrived(1).await;
    // Nobody waits for it any more, or it would be built again.
    release(&sandbox, "lease/a").await;
    release(&sandbox, "resource/env--0").await;
    sandbox.wait_phase("resource/env--0", "Released").await;
    let other = sandbox.controller().await;
    was_in(&sandbox, "resource/env--0", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    drop(other);

    tokio::time::sleep(LATE).await;
    dam.open();
    dam.answered(1).await;
    things.wait_for("what came late", |s| s.name == "env--0").await;
    things.wait_for("its removal", |s| s.name == "env--0" && s.gone).await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}
