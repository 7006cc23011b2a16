//! A Blueprint whose isolation is loosened: what is leased stays as isolated as it was when it was leased.

use crate::{
    objects::{alone, env, lease, map, release},
    support::{Identity, condition, phase},
    told::{apply, bound_to, claimants, holds_throughout, uid},
};
use serde_json::json;

fn environment() -> serde_json::Value {
    json!({"templates": [map("${resource.metadata.name}", json!({}))]})
}

#[tokio::test]
async fn a_higher_leases_per_resource_lets_nobody_into_what_is_leased() {
    let (sandbox, _controller, _things) = alone("loosened-limit").await;
    apply(&sandbox, &env(environment(), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let resource = format!("resource/{}", bound_to(&sandbox.wait_phase("lease/a", "Active").await));
    let two = json!({"spec": {"limits": {"leasesPerResource": 2}}});
    sandbox.patch(Identity::Admin, "blueprint/env", two).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired").0 == "False").await;
    // They are served one after the other, by the environment that was built for one of them at a time.
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/b", "Active").await;
    sandbox.history().caught_up().await;
    sandbox.history().never("two leases on a resource that was built for one", |seen| {
        seen.kind == "resource" && claimants(&seen.object).len() > 1
    });
    // One that is built afterwards takes two.
    release(&sandbox, "lease/b").await;
    sandbox.wait_phase("lease/b", "Destroyed").await;
    let first = uid(&sandbox.get(&resource).await);
    release(&sandbox, &resource).await;
    for name in ["c", "d"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    for name in ["lease/c", "lease/d"] {
        let active = sandbox.wait_phase(name, "Active").await;
        assert_ne!(active.data["status"]["resourceRef"]["uid"], first, "{name}");
    }
    assert_eq!(sandbox.list("resource").await.iter().filter(|r| phase(r) == "Active").count(), 1);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn what_was_leased_under_destroy_is_destroyed_when_the_blueprint_says_reuse_by_then() {
    let (sandbox, _controller, _things) = alone("loosened-recycle").await;
    apply(&sandbox, &env(environment(), json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let resource = format!("resource/{}", bound_to(&sandbox.wait_phase("lease/a", "Active").await));
    let first = uid(&sandbox.get(&resource).await);
    let loose = json!({"spec": {"lease": {"recycle": "Reuse"}, "limits": {"leasesPerResource": 2}}});
    sandbox.patch(Identity::Admin, "blueprint/env", loose).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired").0 == "False").await;
    release(&sandbox, "lease/a").await;
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], first, "b got what a had left");
    holds_throughout(&sandbox).await;
}
