//! Story 7: a Release of what is broken is ignored, on a lease and on a resource in the same words.

use crate::{
    effects::{Mood::*, alone, pool, true_to},
    support::sandbox::condition,
    told::{apply, command, lease, message, outcome},
};
use drydock::api::step::StepKind::*;
use serde_json::json;

#[tokio::test]
async fn story_07_a_release_of_what_is_broken_is_ignored_in_the_same_words() {
    let (sandbox, world, _controller) = alone("story-07").await;
    world.will(Activate, [FailsForGood("no such image")]);
    world.will(TearDownLease, [Hangs]);
    apply(&sandbox, &pool(2, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let broken = sandbox.wait_phase("lease/a", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "Failed"));
    assert_eq!(condition(&broken, "Settled"), ("True", "Failed"));
    assert_eq!(condition(&broken, "TornDown"), ("False", "TearingDown"));
    assert_eq!(message(&broken, "Released"), "no such image");
    assert_eq!(broken.data["status"]["failure"]["message"], "no such image");

    // The second resource cannot be built at all.
    world.will(Build, [FailsForGood("no such disk")]);
    world.will(TearDownResource, [Hangs]);
    apply(&sandbox, &lease("b", json!({}))).await;
    let broken = sandbox.wait_phase("resource/pool--1", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "Failed"));
    assert_eq!(message(&broken, "Released"), "no such disk");

    let release = json!({"id": "r1", "type": "Release", "reason": "in vain"});
    for object in ["lease/a", "resource/pool--1"] {
        command(&sandbox, object, release.clone()).await;
    }
    let on_lease = outcome(&sandbox, "lease/a", "r1").await;
    assert_eq!(on_lease.0, "Ignored");
    assert!(!on_lease.1.is_empty());
    assert_eq!(outcome(&sandbox, "resource/pool--1", "r1").await, on_lease);
    for (object, reason) in [("lease/a", "Failed"), ("resource/pool--1", "Failed")] {
        let still = sandbox.get(object).await;
        assert_eq!(crate::support::phase(&still), "Broken", "{object}");
        assert_eq!(condition(&still, "Released"), ("True", reason), "{object}: it says still how it ended");
    }

    world.will(Activate, [Works]);
    world.will(TearDownLease, [Works]);
    world.will(TearDownResource, [Works]);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Failed"));
    sandbox.wait_gone("resource/pool--1").await;
    // The other lease may have had the first resource by now, and failed on it, too.
    let uid = over.metadata.uid.clone().unwrap();
    let its = |call: &crate::effects::Call| call.key.lease.as_ref().is_some_and(|(lease, _)| *lease == uid);
    let teardowns = world.calls(TearDownLease).iter().filter(|call| its(call)).count();
    assert_eq!(teardowns, 1, "one teardown: {}", world.tell());
    true_to(&sandbox, &world).await;
}
