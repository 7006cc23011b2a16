//! Story 47, as far as a driver goes: what it stores while it builds it reads in the teardown, whoever was killed in between.
//! Nobody else writes it, and it has bounds.

use crate::{
    effects::{Inside, Mood::*, alone, pool, true_to},
    support::{
        Identity,
        sandbox::{condition, refusal},
    },
    told::{apply, command, lease, was},
};
use drydock::api::step::{StepKind::*, Storage};
use serde_json::json;

fn books(text: &str) -> Storage {
    [("machine".to_owned(), text.to_owned())].into()
}

#[tokio::test]
async fn story_47_what_is_stored_while_building_is_read_in_the_teardown() {
    let (sandbox, world, controller) = alone("story-47").await;
    // It is stored while the build is under way, before that is done.
    world.will(Build, [Again(20), Hangs]);
    world.stores(Build, books("m-7"));
    world.stores(Activate, books("account-3"));
    apply(&sandbox, &pool(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let stored = was(&sandbox, "resource/pool--0", "noted", |r| !r.data["status"]["storage"].is_null()).await;
    assert_eq!(stored.data["status"]["storage"], json!({"machine": "m-7"}));
    assert_eq!(stored.data["status"]["phase"], "Pending");
    controller.kill().await;
    world.will(Build, [Works]);
    let controller = Inside::start(&sandbox, &world).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["storage"], json!({"machine": "account-3"}));
    assert_eq!(world.calls(Build).pop().unwrap().books, books("m-7"), "the next controller's build reads it");

    // Nobody else writes it.
    for object in ["resource/pool--0", "lease/a"] {
        let said =
            refusal(sandbox.try_patch_status(Identity::Admin, object, json!({"storage": {"machine": "m-8"}})).await);
        assert!(said.contains("only the Drydock controller writes it"), "{object}: {said}");
    }

    controller.kill().await;
    let _controller = Inside::start(&sandbox, &world).await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.delete(Identity::Admin, "resource/pool--0").await;
    sandbox.wait_gone("resource/pool--0").await;
    assert_eq!(world.calls(TearDownLease).pop().unwrap().books, books("account-3"));
    assert_eq!(world.calls(TearDownResource).pop().unwrap().books, books("m-7"));
    true_to(&sandbox, &world).await;
}

/// More than a status holds is the driver's failure, and told; nothing hangs on a write that cannot be made.
#[tokio::test]
async fn story_47_more_than_the_bounds_is_the_drivers_failure() {
    let (sandbox, world, _controller) = alone("story-47-bounds").await;
    let many: Storage = (0..33).map(|n| (n.to_string(), String::new())).collect();
    let long = books(&"x".repeat(4097));
    let fits = books(&"x".repeat(4096));
    apply(&sandbox, &pool(1, json!({"limits": {"minReady": 0}}))).await;

    world.stores(Activate, many);
    apply(&sandbox, &lease("many", json!({}))).await;
    let over = sandbox.wait_phase("lease/many", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Failed"));
    assert_eq!(over.data["status"]["failure"]["reason"], "TooMuch");
    let said = over.data["status"]["failure"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("bookkeeping"), "{said}");

    world.stores(Activate, fits);
    apply(&sandbox, &lease("fits", json!({}))).await;
    sandbox.wait_phase("lease/fits", "Active").await;
    command(&sandbox, "lease/fits", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/fits", "Destroyed").await;
    sandbox.delete(Identity::Admin, "resource/pool--0").await;
    sandbox.wait_gone("resource/pool--0").await;

    world.stores(Build, long);
    apply(&sandbox, &lease("long", json!({}))).await;
    let broken = |r: &kube::api::DynamicObject| condition(r, "Released") == ("True", "Failed");
    let broken = was(&sandbox, "resource/pool--0", "broken", broken).await;
    assert_eq!(broken.data["status"]["failure"]["reason"], "TooMuch");
    world.stores(Build, books("m-7"));
    sandbox.wait_phase("lease/long", "Active").await;
    true_to(&sandbox, &world).await;
}
