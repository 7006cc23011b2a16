//! What somebody does to an environment is told, and not undone: whoever did it may have meant it.

use crate::{
    objects::{alone, delete, env, lease, left, made, map, noted, notes, release, robot},
    support::{Identity, condition, phase},
    told::{apply, holds_throughout, message, uid, versions},
};
use kube::api::DynamicObject;
use serde_json::{Value, json};

fn environment(more: Value) -> Value {
    let objects = json!({
        "templates": [robot("${resource.metadata.name}"), map("${resource.metadata.name}", json!({"a": "b"}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({"a": "b"}))],
    });
    crate::objects::merged(objects, more)
}

fn lost(words: &'static str) -> impl Fn(&DynamicObject) -> bool {
    move |o| condition(o, "Ready") == ("False", "ObjectLost") && message(o, "Ready").contains(words)
}

/// Without a question of its own, an environment is lost with each of its objects.
#[tokio::test]
async fn what_is_deleted_is_told_and_not_made_again() {
    let (sandbox, _controller, things) = alone("objects-deleted").await;
    apply(&sandbox, &env(environment(json!({})), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;

    delete(&sandbox, "configmap/of-a").await;
    let told = sandbox.wait_for("lease/a", "told", lost("ConfigMap of-a is gone")).await;
    assert_eq!(phase(&told), "Active", "it is leased all the same");
    noted(&sandbox, "a", "ObjectLost", "ConfigMap of-a is gone").await;
    assert_eq!(condition(&sandbox.get("resource/env--0").await, "Ready"), ("True", "Active"), "nothing of it is gone");

    delete(&sandbox, "configmap/env--0").await;
    let told = sandbox.wait_for("resource/env--0", "told", lost("ConfigMap env--0 is gone")).await;
    assert_eq!(phase(&told), "Active");
    noted(&sandbox, "env--0", "ObjectLost", "ConfigMap env--0 is gone").await;
    // Nobody else gets it.
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;

    // The lease ends as usual. Then what is not whole is replaced.
    let old = uid(&told);
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let next = sandbox.wait_phase("lease/b", "Active").await;
    assert_ne!(next.data["status"]["resourceRef"]["uid"], old);
    sandbox.history().caught_up().await;
    let broken = versions(&sandbox, &old).into_iter().find(|s| s.phase() == "Broken").expect("it was broken");
    assert_eq!(condition(&broken.object, "Released"), ("True", "Lost"));
    things.caught_up().await;
    let once = ["serviceaccount/env--0", "configmap/env--0", "configmap/of-a"];
    let again = ["serviceaccount/env--0", "configmap/env--0", "configmap/of-b"];
    assert_eq!(made(&things), [once, again].concat(), "nothing is made again but by a new build");
    holds_throughout(&sandbox).await;
}

/// A loss beneath a lease shows on the lease, too.
#[tokio::test]
async fn a_lease_tells_of_what_its_resource_has_lost() {
    let (sandbox, _controller, _things) = alone("objects-beneath").await;
    apply(&sandbox, &env(environment(json!({})), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    delete(&sandbox, "serviceaccount/env--0").await;
    sandbox.wait_for("resource/env--0", "told", lost("ServiceAccount env--0 is gone")).await;
    sandbox.wait_for("lease/a", "told", lost("of its Resource env--0: ServiceAccount env--0 is gone")).await;
    noted(&sandbox, "a", "ObjectLost", "ServiceAccount env--0").await;
    holds_throughout(&sandbox).await;
}

/// With a question it says what matters.
#[tokio::test]
async fn what_does_not_matter_is_news_and_no_loss() {
    let (sandbox, _controller, things) = alone("objects-matters").await;
    let asks = json!({"readyWhen": "objects.exists(o, o.kind == 'ConfigMap' && o.data.a == 'b')"});
    apply(&sandbox, &env(environment(asks), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;

    // The account is not asked for.
    delete(&sandbox, "serviceaccount/env--0").await;
    noted(&sandbox, "env--0", "ObjectLost", "ServiceAccount env--0 is gone; it is not made again").await;
    assert_eq!(condition(&sandbox.get("resource/env--0").await, "Ready"), ("True", "Active"));

    // A label that somebody adds is nobody's business; a field of ours that somebody changes is told, once.
    let label =
        json!({"metadata": {"labels": {"seen": "yes"}, "annotations": {"note": "mine"}}, "data": {"more": "too"}});
    sandbox.patch(Identity::Admin, "configmap/env--0", label.clone()).await;
    sandbox.patch(Identity::Admin, "configmap/of-a", json!({"data": {"a": "changed"}})).await;
    noted(&sandbox, "a", "ObjectChanged", "ConfigMap of-a was changed").await;
    assert_eq!(condition(&sandbox.get("lease/a").await, "Ready"), ("True", "Active"), "another map says b still");
    sandbox.patch(Identity::Admin, "configmap/env--0", json!({"data": {"a": "changed"}})).await;
    noted(&sandbox, "env--0", "ObjectChanged", "ConfigMap env--0 was changed").await;
    let told = sandbox.wait_for("lease/a", "told", lost("readyWhen is false")).await;
    assert_eq!(phase(&told), "Active");
    sandbox.wait_for("resource/env--0", "told", lost("readyWhen is false")).await;

    // It is left as it is; and taken back when somebody mends it.
    assert_eq!(sandbox.get("configmap/env--0").await.data["data"], json!({"a": "changed", "more": "too"}));
    sandbox.patch(Identity::Admin, "configmap/env--0", json!({"data": {"a": "b"}})).await;
    for object in ["resource/env--0", "lease/a"] {
        sandbox.wait_for(object, "well", |o| condition(o, "Ready") == ("True", "Active")).await;
    }
    let changes = notes(&sandbox, "env--0", "ObjectChanged").await;
    assert!(changes.iter().all(|note| note.contains("ConfigMap env--0 was changed")), "{changes:?}");
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    release(&sandbox, "resource/env--0").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

/// An addition alone is not told at all.
#[tokio::test]
async fn an_addition_is_nobodys_business() {
    let (sandbox, _controller, things) = alone("objects-added").await;
    apply(&sandbox, &env(environment(json!({})), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let added = json!({"metadata": {"labels": {"seen": "yes"}}, "data": {"more": "too"}});
    let patched = sandbox.patch(Identity::Admin, "configmap/env--0", added.clone()).await;
    let patched_own = sandbox.patch(Identity::Admin, "configmap/of-a", added).await;
    // What is told afterwards is of a change that comes afterwards.
    sandbox.patch(Identity::Admin, "configmap/env--0", json!({"data": {"a": null}})).await;
    noted(&sandbox, "env--0", "ObjectChanged", "ConfigMap env--0 was changed").await;
    assert_eq!(notes(&sandbox, "a", "ObjectChanged").await, [""; 0]);
    assert_eq!(notes(&sandbox, "env--0", "ObjectChanged").await.len(), 1);
    things.caught_up().await;
    for patched in [patched, patched_own] {
        assert!(things.all().iter().any(|s| Some(&s.uid) == patched.metadata.uid.as_ref()));
    }
    holds_throughout(&sandbox).await;
}

/// Nobody holds it: it is replaced.
#[tokio::test]
async fn an_idle_environment_that_is_not_whole_is_broken_and_replaced() {
    let (sandbox, _controller, things) = alone("objects-idle").await;
    apply(&sandbox, &env(environment(json!({})), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let idle = sandbox
        .wait_for("resource/env--0", "idle", |r| r.data["status"]["claims"].as_array().is_none_or(Vec::is_empty))
        .await;
    assert_eq!(phase(&idle), "Active");

    delete(&sandbox, "configmap/env--0").await;
    sandbox.wait_gone("resource/env--0").await;
    sandbox.history().caught_up().await;
    let broken = versions(&sandbox, &uid(&idle)).into_iter().find(|s| s.phase() == "Broken").expect("it was broken");
    assert_eq!(condition(&broken.object, "Released"), ("True", "Lost"));
    assert!(message(&broken.object, "Released").contains("ConfigMap env--0 is gone"), "{broken:?}");
    noted(&sandbox, "env--0", "Lost", "ConfigMap env--0 is gone").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0], "what was left of it is removed");

    apply(&sandbox, &lease("b", json!({}))).await;
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], uid(&idle));
    holds_throughout(&sandbox).await;
}
