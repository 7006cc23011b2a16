//! Stories 5, 6 and 46, with a driver that has something to tear down: however often, and by however many, an end is asked for,
//! the teardown runs once.

use crate::{
    effects::{End, alone, pool},
    support::Identity,
    told::{apply, holds_throughout, lease},
};
use drydock::api::step::StepKind;
use serde_json::json;

fn release(id: &str) -> serde_json::Value {
    json!({"id": id, "type": "Release"})
}

#[tokio::test]
async fn story_06_released_by_many_at_once_there_is_one_teardown() {
    let (sandbox, world, _controller) = alone("story-06-teardown").await;
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let ids = ["r1", "r2", "r3", "r4"];
    let asked = ids.map(|id| sandbox.try_append(Identity::Admin, "lease/a", vec![release(id)]));
    // Who comes too late is refused, as story 6 says.
    let accepted = futures::future::join_all(asked).await.iter().filter(|answer| answer.is_ok()).count();
    assert!(accepted > 0);
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_for("resource/pool--0", "free again", |r| crate::told::claimants(r).is_empty()).await;

    let torn_down = world.calls(StepKind::TearDownLease);
    assert_eq!(torn_down.len(), 1, "{}", world.tell());
    assert_eq!(torn_down[0].ended.map(|(_, how)| how), Some(End::Done));
    assert_eq!(world.calls(StepKind::TearDownResource).len(), 0, "recycle is Reuse");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_46_released_deleted_and_taken_away_in_one_instant_each_is_torn_down_once() {
    let (sandbox, world, _controller) = alone("story-46-teardown").await;
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "1h"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    // Whichever comes first: what comes too late is refused, for its object is over.
    let _ = tokio::join!(
        sandbox.try_append(Identity::Admin, "lease/a", vec![release("r1")]),
        sandbox.delete(Identity::Admin, "lease/a"),
        sandbox.try_append(Identity::Admin, "resource/pool--0", vec![release("r1")]),
    );
    sandbox.wait_gone("lease/a").await;
    sandbox.wait_gone("resource/pool--0").await;

    for kind in [StepKind::TearDownLease, StepKind::TearDownResource] {
        assert_eq!(world.calls(kind).len(), 1, "{kind:?}: {}", world.tell());
    }
    assert!(world.is_empty(), "{}", world.tell());
    holds_throughout(&sandbox).await;
}
