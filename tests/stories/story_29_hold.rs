//! Story 29: an environment that is kept for a look after its release.

use crate::{
    on_time::{destroyed_at, first},
    support::{Identity, Sandbox, sandbox::condition},
    told::{
        alone, apply, bound_to, claimants, command, deadline, holds_throughout, hosts, instant, lease, message, outcome,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// A lease `a` that is active, on a pool of one host with this policy.
async fn active(sandbox: &Sandbox<'_>, policy: Value) -> DynamicObject {
    apply(sandbox, &hosts(1, json!({"lease": policy}))).await;
    apply(sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await
}

fn release(id: &str, hold: &str) -> Value {
    json!({"id": id, "type": "Release", "hold": hold})
}

/// Until when it is held. It must say so in its condition, too.
fn held_until(lease: &DynamicObject) -> Timestamp {
    assert_eq!(condition(lease, "TornDown"), ("False", "Held"));
    let until = deadline(lease, "Hold").expect("a lease that is held has the deadline Hold");
    let why = message(lease, "TornDown");
    assert!(why.contains(&format!("until {until:.6}")), "{why}");
    until
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn story_29_a_released_environment_is_kept_as_long_as_asked_and_both_go_then() {
    let (sandbox, _controller) = alone("story-29").await;
    active(&sandbox, json!({})).await;
    apply(&sandbox, &lease("next", json!({}))).await;
    command(&sandbox, "lease/a", release("r1", "3s")).await;
    let held = sandbox.wait_phase("lease/a", "Released").await;
    let until = held_until(&held);
    assert_eq!(until, instant(&held, "releasedAt") + seconds(3));
    assert_eq!(condition(&held, "Released"), ("True", "Released"));
    assert_eq!(condition(&held, "Settled"), ("True", "Released"));
    assert!(held.data["status"]["interfaces"].is_array(), "the way in is still told");
    assert_eq!(claimants(&sandbox.get("resource/pool--h1").await), ["a"], "its environment is kept");

    sandbox.wait_phase("lease/next", "Active").await;
    destroyed_at(&sandbox, "lease/a", until).await;
    holds_throughout(&sandbox).await;
    let granted = first(&sandbox, "resource/pool--h1", "granted to the next", |s| claimants(&s.object) == ["next"]);
    assert!(crate::on_time::seen_at(&granted) >= until, "granted to the next while it was held");
}

#[tokio::test]
async fn story_29_a_hold_is_cut_to_the_blueprints_maximum() {
    let (sandbox, _controller) = alone("story-29-cut").await;
    active(&sandbox, json!({"maxHold": "2s"})).await;
    command(&sandbox, "lease/a", release("r1", "1h")).await;
    let held = sandbox.wait_phase("lease/a", "Released").await;
    let until = held_until(&held);
    assert_eq!(until, instant(&held, "releasedAt") + seconds(2));
    let (verdict, why) = outcome(&sandbox, "lease/a", "r1").await;
    assert_eq!(verdict, "Applied");
    assert!(why.contains("cut to lease.maxHold of the Blueprint, 2s"), "{why}");
    sandbox.wait_phase("lease/a", "Destroyed").await;
    destroyed_at(&sandbox, "lease/a", until).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_29_where_the_blueprint_says_nothing_an_hour_is_the_maximum() {
    let (sandbox, _controller) = alone("story-29-hour").await;
    active(&sandbox, json!({})).await;
    command(&sandbox, "lease/a", release("r1", "2h")).await;
    let held = sandbox.wait_phase("lease/a", "Released").await;
    assert_eq!(held_until(&held), instant(&held, "releasedAt") + seconds(3600));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_29_a_second_hold_may_lengthen_the_first_up_to_the_maximum_and_never_shortens_it() {
    let (sandbox, _controller) = alone("story-29-second").await;
    active(&sandbox, json!({"maxHold": "30m"})).await;
    command(&sandbox, "lease/a", release("r1", "10m")).await;
    let held = sandbox.wait_phase("lease/a", "Released").await;
    let (released, first) = (instant(&held, "releasedAt"), held_until(&held));
    assert_eq!(first, released + seconds(600));

    // Shorter: it was so already.
    command(&sandbox, "lease/a", release("r2", "1m")).await;
    let (verdict, why) = outcome(&sandbox, "lease/a", "r2").await;
    assert_eq!((verdict.as_str(), why), ("Ignored", format!("it is held until {first:.6} already")));
    assert_eq!(held_until(&sandbox.get("lease/a").await), first);

    // Longer: counted from now.
    command(&sandbox, "lease/a", release("r3", "20m")).await;
    let (verdict, why) = outcome(&sandbox, "lease/a", "r3").await;
    let longer = sandbox.get("lease/a").await;
    let ledger = longer.data["status"]["commands"].as_array().unwrap().iter().find(|e| e["id"] == "r3").unwrap();
    let observed: Timestamp = ledger["observedAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(held_until(&longer), observed + seconds(1200));
    assert_eq!((verdict.as_str(), why), ("Applied", format!("held until {:.6}", observed + seconds(1200))));

    // Longer than the maximum after the release: cut, and told.
    command(&sandbox, "lease/a", release("r4", "2h")).await;
    let (verdict, why) = outcome(&sandbox, "lease/a", "r4").await;
    assert_eq!(verdict, "Applied");
    assert!(why.contains("cut to lease.maxHold of the Blueprint, 30m"), "{why}");
    assert_eq!(held_until(&sandbox.get("lease/a").await), released + seconds(1800));
    command(&sandbox, "lease/a", release("r5", "2h")).await;
    assert_eq!(outcome(&sandbox, "lease/a", "r5").await.0, "Ignored", "it is as long as it can be");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_29_a_release_a_deletion_and_the_release_of_the_resource_end_a_hold() {
    for end in ["release", "deletion", "resource"] {
        let (sandbox, _controller) = alone(&format!("story-29-{end}")).await;
        active(&sandbox, json!({})).await;
        command(&sandbox, "lease/a", release("r1", "1h")).await;
        held_until(&sandbox.wait_phase("lease/a", "Released").await);
        match end {
            "release" => {
                command(&sandbox, "lease/a", json!({"id": "r2", "type": "Release"})).await;
                let (verdict, why) = outcome(&sandbox, "lease/a", "r2").await;
                assert_eq!((verdict.as_str(), why.as_str()), ("Applied", "the hold ends now"));
                sandbox.wait_phase("lease/a", "Destroyed").await;
            }
            "deletion" => {
                sandbox.delete(Identity::Admin, "lease/a").await;
                sandbox.wait_gone("lease/a").await;
            }
            _ => {
                command(&sandbox, "resource/pool--h1", json!({"id": "r2", "type": "Release"})).await;
                sandbox.wait_phase("lease/a", "Destroyed").await;
                sandbox.wait_gone("resource/pool--h1").await;
            }
        }
        holds_throughout(&sandbox).await;
        // How it ended stays as it was said first.
        let last = sandbox.history().of("lease/a").pop().unwrap();
        assert_eq!(condition(&last.object, "Released"), ("True", "Released"), "{end}");
        assert_eq!(condition(&last.object, "TornDown"), ("True", "TornDown"), "{end}");
        assert_eq!(deadline(&last.object, "Hold"), None, "{end}");
    }
}

#[tokio::test]
async fn story_29_there_is_nothing_to_hold_of_a_lease_that_waits() {
    let (sandbox, _controller) = alone("story-29-waits").await;
    active(&sandbox, json!({})).await;
    apply(&sandbox, &lease("waits", json!({}))).await;
    sandbox.wait_for("lease/waits", "in the queue", |l| l.data["status"]["queuePosition"] == 1).await;
    command(&sandbox, "lease/waits", release("r1", "1h")).await;
    let over = sandbox.wait_phase("lease/waits", "Destroyed").await;
    let (verdict, why) = outcome(&sandbox, "lease/waits", "r1").await;
    assert_eq!((verdict.as_str(), why.as_str()), ("Applied", "released without a hold: nothing to hold yet"));
    assert_eq!(condition(&over, "TornDown"), ("True", "NothingToTearDown"));
    assert_eq!(bound_to(&over), "");
    holds_throughout(&sandbox).await;
}
