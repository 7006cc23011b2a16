//! What is asked of the API server late may arrive late: what a controller makes when another has torn it down already is
//! removed again (protocol.md, D1).

use crate::{
    effects::Inside,
    objects::{env, lease, left, map, on_record, release, robot, without_controller},
    support::{Identity, Seen, phase},
    tap::{Dam, Standstill},
    told::{apply, holds_throughout, uid, was_in},
};
use kube::api::PostParams;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

/// So late that nobody looks for it any more who does not know of it. That nobody does is nothing that could be awaited: it
/// shows in no object, and the teardown that could have found it is done by then.
const LATE: Duration = Duration::from_secs(4);

fn environment() -> String {
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [robot("of-${lease.metadata.name}")],
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

/// What is on record by then is what another controller has made of that name, and removed.
#[tokio::test]
async fn a_late_build_beside_what_is_on_record_is_removed_again() {
    let (sandbox, things) = without_controller("objects-late-beside").await;
    let dam = Dam::new("configmaps");
    let _slow = Inside::through(&sandbox, dam.way()).await;
    let objects =
        json!({"templates": [robot("${resource.metadata.name}"), map("${resource.metadata.name}", json!({}))]});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    dam.arrived(1).await;
    let _other = sandbox.controller().await;
    sandbox.wait_phase("lease/a", "Active").await;
    // It is removed first, and what is held then keeps the resource for the slow one to see.
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    sandbox.patch(Identity::Admin, "serviceaccount/env--0", held).await;
    release(&sandbox, "lease/a").await;
    release(&sandbox, "resource/env--0").await;
    let is_map = |s: &Seen| s.kind == "configmap" && s.name == "env--0";
    let first = things.wait_for("the end of what is on record", |s| is_map(s) && s.gone).await.uid;

    dam.open();
    dam.answered(1).await;
    let late = things.wait_for("what came late", |s| is_map(s) && s.uid != first).await.uid;
    things.wait_for("its removal", |s| s.uid == late && s.gone).await;
    let free = json!({"metadata": {"finalizers": null}});
    sandbox.patch(Identity::Admin, "serviceaccount/env--0", free).await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

/// Where the controller that made it late was killed before it could remove it, the next of that name does.
#[tokio::test]
async fn what_was_left_by_one_that_was_killed_is_removed_by_the_next_of_its_name() {
    let (sandbox, things) = without_controller("objects-late-killed").await;
    let _controller = sandbox.controller().await;
    apply(&sandbox, &environment()).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let mut late = sandbox.get("configmap/env--0").await;
    let first = late.metadata.uid.take().unwrap();
    sandbox.delete(Identity::Admin, "resource/env--0").await;
    sandbox.wait_gone("resource/env--0").await;
    things.wait_for("the end of what was made", |s| s.uid == first && s.gone).await;

    // As it would have asked for it once more.
    late.metadata.resource_version = None;
    late.metadata.creation_timestamp = None;
    late.metadata.managed_fields = None;
    let params = PostParams { field_manager: Some("drydock".into()), ..PostParams::default() };
    let late = sandbox.api(Identity::Admin, "configmap").await.create(&params, &late).await.unwrap();
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
    things.wait_for("its removal", |s| s.uid == uid(&late) && s.gone).await;
    things.caught_up().await;
    let mut left = left(&things);
    left.sort();
    assert_eq!(left, ["configmap/env--0", "serviceaccount/of-b"]);
    let resource = sandbox.get("resource/env--0").await;
    assert_eq!(on_record(&resource)[0].2, Some(uid(&sandbox.get("configmap/env--0").await)));
    holds_throughout(&sandbox).await;
}

/// It asks first, where it has stood still: what it made late it could not remove if it were killed then.
#[tokio::test]
async fn nothing_is_made_for_who_is_gone_after_a_standstill() {
    let (sandbox, things) = without_controller("objects-late-still").await;
    apply(&sandbox, &environment()).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let still = Standstill::new();
    let _slow = Inside::through(&sandbox, still.way()).await;
    still.stands().await;
    let since = tokio::time::Instant::now();
    let _other = sandbox.controller().await;
    sandbox.wait_phase("lease/a", "Active").await;
    release(&sandbox, "lease/a").await;
    release(&sandbox, "resource/env--0").await;
    sandbox.wait_gone("resource/env--0").await;

    // From then on it is taken for one that stood still.
    tokio::time::sleep_until(since + Duration::from_secs(2)).await;
    still.go_on();
    still.asked().await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    let maps: BTreeSet<_> = things.all().into_iter().filter(|s| s.name == "env--0").map(|s| s.uid).collect();
    assert_eq!(maps.len(), 1, "it was made by the other, and by nobody else");
    holds_throughout(&sandbox).await;
}
