//! Who waits behind a slot that somebody's finalizer holds is told which, and by what.

use crate::{
    objects::{alone, env, hold, lease, map, release},
    support::condition,
    told::{apply, holds_throughout, message},
};
use kube::api::DynamicObject;
use serde_json::json;

fn told(words: [&'static str; 3]) -> impl Fn(&DynamicObject) -> bool {
    move |l| {
        let message = message(l, "Acquired");
        condition(l, "Acquired") == ("False", "AtCapacity") && words.iter().all(|word| message.contains(word))
    }
}

#[tokio::test]
async fn a_waiter_is_told_what_the_teardown_before_it_waits_for() {
    let (sandbox, _controller, _things) = alone("held-slots").await;
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({}))],
    });
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    hold(&sandbox, "configmap/of-a", &["example.com/of-lease"]).await;
    hold(&sandbox, "configmap/env--0", &["example.com/of-resource"]).await;
    release(&sandbox, "lease/a").await;
    apply(&sandbox, &lease("b", json!({}))).await;
    let of_lease = told(["env--0", "ConfigMap of-a is still there", "example.com/of-lease"]);
    sandbox.wait_for("lease/b", "told what a lease has left", of_lease).await;

    release(&sandbox, "resource/env--0").await;
    hold(&sandbox, "configmap/of-a", &[]).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let of_resource = told(["env--0", "ConfigMap env--0 is still there", "example.com/of-resource"]);
    sandbox.wait_for("lease/b", "told what holds the resource", of_resource).await;

    hold(&sandbox, "configmap/env--0", &[]).await;
    sandbox.wait_phase("lease/b", "Active").await;
    holds_throughout(&sandbox).await;
}
