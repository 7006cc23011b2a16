//! What an account may not do is told, and done when it may: rights that come late, that are taken away in the middle, and
//! an account that may not watch.

use crate::{
    objects::{ALL, alone, env, lease, left, made, map, may, release, robot},
    support::{condition, phase},
    told::{apply, holds_throughout, message, was},
};
use kube::api::DynamicObject;
use serde_json::json;
use std::time::Duration;

/// A step that has failed is tried again after 1 s, 2 s, 4 s …
const AGAIN: Duration = Duration::from_secs(60);

fn environment() -> serde_json::Value {
    json!({
        "templates": [map("${resource.metadata.name}", json!({})), robot("${resource.metadata.name}")],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({}))],
    })
}

#[tokio::test]
async fn rights_that_are_taken_away_in_the_middle_are_told_and_missed_until_they_are_back() {
    let (sandbox, _controller, things) = alone("objects-rights").await;
    // In the middle of the build: the first object can be made, the second cannot.
    may(&sandbox, &[("configmaps", &ALL)]).await;
    apply(&sandbox, &env(environment(), json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let forbidden = |type_: &'static str, words: &'static str| {
        move |o: &DynamicObject| {
            o.data["status"]["failure"]["reason"] == "Forbidden"
                && condition(o, type_).0 == "False"
                && message(o, type_).contains(words)
                && message(o, type_).contains("forbidden")
        }
    };
    let told = sandbox.wait_for("resource/env--0", "told", forbidden("Ready", "ServiceAccount env--0")).await;
    assert_eq!(phase(&told), "Pending");
    assert!(message(&told, "Ready").contains("serviceaccounts"), "{}", message(&told, "Ready"));
    things.wait_for("the first object", |s| s.name == "env--0" && s.kind == "configmap").await;
    // Its lease says why it waits.
    let waits =
        |l: &DynamicObject| condition(l, "Acquired").0 == "False" && message(l, "Acquired").contains("forbidden");
    let waiting = sandbox.wait_for("lease/a", "told", waits).await;
    assert_eq!(phase(&waiting), "Pending");

    // And in the middle of the activation.
    may(&sandbox, &[("configmaps", &["get", "list", "watch", "delete"]), ("serviceaccounts", &ALL)]).await;
    sandbox.wait_within(AGAIN, "resource/env--0", "active", |r| phase(r) == "Active").await;
    let told = sandbox.wait_for("lease/a", "told", forbidden("Ready", "ConfigMap of-a")).await;
    assert_eq!(phase(&told), "Acquired");
    may(&sandbox, &[("configmaps", &ALL), ("serviceaccounts", &ALL)]).await;
    let active = sandbox.wait_within(AGAIN, "lease/a", "active", |l| phase(l) == "Active").await;
    assert!(active.data["status"]["failure"].is_null(), "{active:?}");

    // In the middle of the teardown: first that of the lease.
    may(&sandbox, &[("configmaps", &["create", "get", "list", "watch"]), ("serviceaccounts", &ALL)]).await;
    release(&sandbox, "lease/a").await;
    let told = sandbox.wait_for("lease/a", "told", forbidden("TornDown", "ConfigMap of-a cannot be removed")).await;
    assert_eq!((phase(&told), condition(&told, "TornDown").1), ("Released", "TeardownFailed"));
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Active");
    may(&sandbox, &[("configmaps", &["create", "get", "list", "watch", "delete"]), ("serviceaccounts", &["get"])])
        .await;
    sandbox.wait_within(AGAIN, "lease/a", "destroyed", |l| phase(l) == "Destroyed").await;
    let told =
        was(&sandbox, "resource/env--0", "told", forbidden("TornDown", "ServiceAccount env--0 cannot be removed"))
            .await;
    assert_eq!(phase(&told), "Released");
    // Nor is it gone because it may not be seen.
    may(&sandbox, &[("configmaps", &ALL), ("serviceaccounts", &["delete"])]).await;
    let unseen = |o: &DynamicObject| message(o, "TornDown").contains("cannot get resource");
    sandbox.wait_within(AGAIN, "resource/env--0", "unseen", unseen).await;
    may(&sandbox, &[("configmaps", &ALL), ("serviceaccounts", &ALL)]).await;
    crate::objects::gone_within(&sandbox, AGAIN, "resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    assert_eq!(made(&things), ["configmap/env--0", "serviceaccount/env--0", "configmap/of-a"]);
    holds_throughout(&sandbox).await;
}

/// It is then read one by one, now and then.
#[tokio::test]
async fn an_account_that_may_not_watch_is_served_by_reading() {
    let (sandbox, _controller, things) = alone("objects-unwatched").await;
    let few = ["create", "get", "delete"];
    may(&sandbox, &[("configmaps", &few), ("serviceaccounts", &few)]).await;
    let asks = json!({"readyWhen": "objects.all(o, o.kind != 'ConfigMap' || has(o.data) && o.data.ready == 'yes')"});
    let objects = crate::objects::merged(environment(), asks);
    apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let waits = |o: &DynamicObject| message(o, "Ready").contains("readyWhen is false");
    sandbox.wait_for("resource/env--0", "waiting", waits).await;
    let yes = || json!({"data": {"ready": "yes"}});
    sandbox.patch(crate::support::Identity::Admin, "configmap/env--0", yes()).await;
    sandbox.wait_for("lease/a", "waiting", waits).await;
    sandbox.patch(crate::support::Identity::Admin, "configmap/of-a", yes()).await;
    sandbox.wait_phase("lease/a", "Active").await;
    // A finalizer that goes is noticed, too.
    crate::objects::hold(&sandbox, "configmap/of-a", &["example.org/backup"]).await;
    release(&sandbox, "lease/a").await;
    sandbox.wait_for("lease/a", "held", |l| message(l, "TornDown").contains("example.org/backup")).await;
    crate::objects::hold(&sandbox, "configmap/of-a", &[]).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}
