//! A Blueprint that is suspended begins no build. One that has begun goes on to its end, and is granted when it is suspended no more.

use crate::{
    effects::{Mood::*, alone, pool, true_to},
    support::{Identity, phase, sandbox::condition},
    told::{apply, lease, was_in},
};
use drydock::api::step::StepKind::*;
use kube::api::DynamicObject;
use serde_json::json;

#[tokio::test]
async fn a_build_that_has_begun_goes_on_while_its_blueprint_is_suspended() {
    let (sandbox, world, _controller) = alone("suspended-build").await;
    world.will(Build, [Hangs]);
    apply(&sandbox, &pool(2, json!({"resource": {"buildTimeout": "20s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    world.begun(Build, 1).await;
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    sandbox.patch(Identity::Admin, "blueprint/pool", suspend(true)).await;
    let is_suspended = |l: &DynamicObject| condition(l, "Acquired") == ("False", "Suspended");
    sandbox.wait_for("lease/a", "told that it is suspended", is_suspended).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "told that it is suspended", is_suspended).await;
    world.will(Build, [Works]);
    was_in(&sandbox, "resource/pool--0", "Active").await;
    assert_eq!(phase(&sandbox.get("lease/a").await), "Pending");
    assert_eq!(world.calls(Build).len(), 1, "{}", world.tell());
    assert!(sandbox.try_get("resource/pool--1").await.is_none(), "nothing else is built");

    sandbox.patch(Identity::Admin, "blueprint/pool", suspend(false)).await;
    sandbox.wait_phase("lease/a", "Active").await;
    sandbox.wait_phase("lease/b", "Active").await;
    true_to(&sandbox, &world).await;
}
