//! Stories 5 to 8: release, of a lease and of a resource.

use crate::{
    support::{Identity, sandbox::condition},
    told::{alone, apply, bound_to, command, holds_throughout, hosts, lease, outcome},
};
use serde_json::json;

#[tokio::test]
async fn story_05_a_released_lease_is_destroyed_and_its_host_serves_the_next() {
    let (sandbox, _controller) = alone("story-05").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let host = sandbox.wait_phase("lease/a", "Active").await;
    let before = sandbox.get("resource/pool--h1").await;

    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release", "reason": "build finished"})).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(outcome(&sandbox, "lease/a", "r1").await.0, "Applied");
    assert_eq!(condition(&over, "Released"), ("True", "Released"));
    assert_eq!(condition(&over, "TornDown"), ("True", "TornDown"));
    assert_eq!(condition(&over, "Settled"), ("True", "Released"));
    assert_eq!(bound_to(&over), bound_to(&host), "it still says where it was");

    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
    let after = sandbox.get("resource/pool--h1").await;
    assert_eq!(after.metadata.uid, before.metadata.uid, "recycle: Reuse keeps the resource");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_05_with_recycle_destroy_the_next_lease_gets_a_new_resource() {
    let (sandbox, _controller) = alone("story-05-destroy").await;
    apply(&sandbox, &hosts(1, json!({"lease": {"recycle": "Destroy"}}))).await;
    for name in ["a", "b"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    sandbox.wait_phase("lease/a", "Active").await;
    let first = sandbox.get("resource/pool--h1").await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/b", "Active").await;
    let second = sandbox.get("resource/pool--h1").await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    holds_throughout(&sandbox).await;
    let leases_of = |uid: &Option<String>| {
        let mut names: Vec<String> = Vec::new();
        for seen in sandbox.history().of("resource/pool--h1") {
            if Some(&seen.uid) == uid.as_ref() {
                names.extend(crate::told::claimants(&seen.object));
            }
        }
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(leases_of(&first.metadata.uid), ["a"]);
    assert_eq!(leases_of(&second.metadata.uid), ["b"]);
}

#[tokio::test]
async fn story_06_released_twice_and_by_two_at_once_there_is_one_end() {
    let (sandbox, _controller) = alone("story-06").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let release = |id: &str| json!({"id": id, "type": "Release"});
    let both = sandbox.try_append(Identity::Admin, "lease/a", vec![release("r1"), release("r2")]);
    let other = sandbox.try_append(Identity::Admin, "lease/a", vec![release("r3")]);
    let answers = tokio::join!(both, other);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;

    let entries = over.data["status"]["commands"].as_array().unwrap().clone();
    let applied = entries.iter().filter(|e| e["outcome"] == "Applied").count();
    assert_eq!(applied, 1, "{entries:?}");
    // Whoever came too late is told so at admission, or finds itself ignored in the ledger.
    let mut accepted = 0;
    for (answer, commands) in [(answers.0, 2), (answers.1, 1)] {
        match answer {
            Ok(_) => accepted += commands,
            Err(error) => assert!(error.to_string().contains("it is destroyed"), "{error}"),
        }
    }
    assert_eq!(entries.len(), accepted, "{entries:?}");
    holds_throughout(&sandbox).await;
    assert_eq!(sandbox.history().phases("lease/a").last().map(String::as_str), Some("Destroyed"));
}

#[tokio::test]
async fn story_08_releasing_a_resource_ends_its_leases_with_that_reason() {
    let (sandbox, _controller) = alone("story-08").await;
    apply(&sandbox, &hosts(1, json!({"limits": {"leasesPerResource": 3}}))).await;
    for name in ["a", "b", "c"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let resource = sandbox.get("resource/pool--h1").await;
    command(&sandbox, "resource/pool--h1", json!({"id": "r1", "type": "Release"})).await;
    for name in ["a", "b", "c"] {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"), "{name}");
        assert!(over.data["spec"]["commands"].as_array().unwrap().is_empty(), "nothing was appended to {name}");
    }
    sandbox.wait_gone("resource/pool--h1").await;
    sandbox.history().caught_up().await;
    sandbox.history().never("torn down under its leases", |s| {
        s.uid == *resource.metadata.uid.as_ref().unwrap()
            && s.phase() == "Destroyed"
            && !crate::told::claimants(&s.object).is_empty()
    });
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_deleted_lease_is_released_and_a_deleted_resource_too() {
    let (sandbox, _controller) = alone("deleted").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    sandbox.delete(Identity::Admin, "lease/a").await;
    sandbox.wait_gone("lease/a").await;
    sandbox.wait_phase("lease/b", "Active").await;
    sandbox.delete(Identity::Admin, "resource/pool--h1").await;
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"));
    sandbox.wait_gone("resource/pool--h1").await;
    holds_throughout(&sandbox).await;
    let last = sandbox.history().of("lease/a");
    assert_eq!(condition(&last.last().unwrap().object, "Released"), ("True", "Deleted"));
}
