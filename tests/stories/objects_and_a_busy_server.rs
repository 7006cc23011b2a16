//! An API server that is busy asks to try again later. That is no failure of what was asked for, and it is honoured.

use crate::{
    effects::Inside,
    objects::{env, lease, left, map, notes, release, without_controller},
    support::{Seen, condition, phase},
    tap::Busy,
    told::{apply, holds_throughout, message, seen_at},
};
use http::Method;
use jiff::SignedDuration;
use kube::api::DynamicObject;
use serde_json::json;

fn environment() -> String {
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({}))],
    });
    env(objects, json!({}))
}

const ASKS: &str = "the API server asks to try again after 3s";

/// How long it was shown that the API server asks to wait.
fn waited(seen: &[Seen], type_: &str) -> SignedDuration {
    let asks = |s: &&Seen| message(&s.object, type_).contains(ASKS);
    let first = seen.iter().position(|s| asks(&s)).unwrap_or_else(|| panic!("it was not shown: {seen:?}"));
    let next = seen[first..].iter().find(|s| !asks(s)).expect("it goes on");
    seen_at(next).duration_since(seen_at(&seen[first]))
}

#[tokio::test]
async fn a_build_waits_as_long_as_it_is_asked_to() {
    let (sandbox, _things) = without_controller("busy-build").await;
    let busy = Busy::new(Method::POST, "/configmaps", 1, "3");
    let _inside = Inside::through(&sandbox, busy.way()).await;
    apply(&sandbox, &environment()).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    busy.refused(1).await;
    sandbox.wait_phase("lease/a", "Active").await;
    sandbox.history().caught_up().await;
    let seen = sandbox.history().of("resource/env--0");
    assert!(waited(&seen, "Ready") > SignedDuration::from_secs(2), "it waits as long as it is asked to");
    let failed = |o: &DynamicObject| !o.data["status"]["failure"].is_null();
    assert!(!seen.iter().any(|s| failed(&s.object)), "and nothing has failed: {seen:?}");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_teardown_that_is_put_off_has_not_failed() {
    let (sandbox, things) = without_controller("busy-teardown").await;
    let busy = Busy::new(Method::DELETE, "/configmaps/of-a", 2, "3");
    let _inside = Inside::through(&sandbox, busy.way()).await;
    apply(&sandbox, &environment()).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    release(&sandbox, "lease/a").await;
    busy.refused(2).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "TornDown"), ("True", "TornDown"));
    sandbox.history().caught_up().await;
    let seen = sandbox.history().of("lease/a");
    assert!(waited(&seen, "TornDown") > SignedDuration::from_secs(5), "it waits twice as long as it is asked to");
    let failed = |o: &DynamicObject| condition(o, "TornDown").1 == "TeardownFailed";
    assert!(!seen.iter().any(|s| failed(&s.object)), "and nothing has failed: {seen:?}");
    assert!(notes(&sandbox, "a", "TeardownFailed").await.is_empty());
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Active");
    things.caught_up().await;
    assert_eq!(left(&things), ["configmap/env--0"]);
    holds_throughout(&sandbox).await;
}
