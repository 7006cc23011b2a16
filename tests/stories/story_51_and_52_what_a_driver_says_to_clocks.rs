//! Stories 51 and 52: a driver is asked when a deadline has come, and may move a resource's clock as leases come and go.

use crate::{
    effects::{Inside, Says, World, alone, pool, true_to},
    support::{Sandbox, phase, sandbox::condition},
    told::{
        apply, claimants, clock, command, deadline, ended_at, ended_when_asked_again, first_over, instant, last_told,
        lease, uid, versions, was,
    },
};
use drydock::{
    api::{
        Duration as Length, MicroTime, Wish,
        step::{HookKind, Moves},
    },
    driver::Work,
};
use jiff::SignedDuration;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::sync::Arc;

const RESOURCE: &str = "resource/pool--0";

const RETRY: SignedDuration = SignedDuration::from_secs(2);

fn declined(object: &DynamicObject) -> bool {
    deadline(object, "Asking").is_some()
}

/// Story 51: no, and then yes; of a lease, and of its resource.
#[tokio::test]
async fn story_51_a_driver_that_declines_is_asked_again() {
    let (sandbox, world, _controller) = alone("story-51-driver").await;
    world.says(Says::No("a job runs on it"));
    let policy = json!({"expiry": {"retryAfter": "2s"}, "resource": {"idleTTL": "1s"}});
    apply(&sandbox, &pool(1, policy)).await;
    apply(&sandbox, &lease("a", json!({"ttl": "1s"}))).await;
    let asking = was(&sandbox, "lease/a", "declined", declined).await;
    let told = clock(&asking, "Asking").unwrap();
    assert_eq!((&told["reason"], &told["message"]), (&json!("ExpiryDeclined"), &json!("a job runs on it")));
    assert!(deadline(&asking, "Asking") >= deadline(&asking, "Lifetime").map(|end| end + SignedDuration::from_secs(2)));
    let asked_twice = async {
        while world.asked().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), asked_twice).await.expect("it is asked again");
    assert!(world.asked().iter().all(|key| key.lease.as_ref().is_some_and(|(lease, _)| *lease == uid(&asking))));
    world.says(Says::Yes);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    ended_when_asked_again(&sandbox, &uid(&over), RETRY).await;

    world.says(Says::No("it is warm"));
    let idle = was(&sandbox, RESOURCE, "declined", declined).await;
    assert_eq!(clock(&idle, "Asking").unwrap()["message"], "it is warm");
    assert_eq!(world.asked().pop().unwrap().lease, None, "of the resource");
    world.says(Says::Yes);
    sandbox.wait_gone(RESOURCE).await;
    sandbox.history().caught_up().await;
    let gone = ended_when_asked_again(&sandbox, &uid(&idle), RETRY).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "IdleTimeout"));
    true_to(&sandbox, &world).await;
}

/// Story 51: no answer, and one that panics, decline nothing.
#[tokio::test]
async fn story_51_a_driver_that_does_not_answer_declines_nothing() {
    let (sandbox, world, _controller) = alone("story-51-silent").await;
    apply(&sandbox, &pool(3, json!({"lease": {"maxTTL": "1h"}}))).await;
    for (name, says) in [("hangs", Says::Nothing), ("panics", Says::Panics)] {
        world.says(says);
        apply(&sandbox, &lease(name, json!({"ttl": "1s"}))).await;
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        sandbox.history().caught_up().await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"), "{name}");
        let end = last_told(&sandbox, &uid(&over), "Lifetime").unwrap();
        let released = instant(&first_over(&sandbox, &uid(&over)).object, "releasedAt");
        assert!(released >= end && released < end + SignedDuration::from_secs(20), "{name}: {released}, due {end}");
        assert!(versions(&sandbox, &uid(&over)).iter().all(|seen| !declined(&seen.object)), "{name}");
    }
    // What is asked for meanwhile is done all the same.
    world.says(Says::Nothing);
    apply(&sandbox, &lease("released", json!({"ttl": "1s"}))).await;
    let active = sandbox.wait_phase("lease/released", "Active").await;
    let asked = world.asked().len();
    world.until("the question", |world| world.asked().len() > asked).await;
    command(&sandbox, "lease/released", json!({"id": "r1", "type": "Release"})).await;
    let over = sandbox.wait_phase("lease/released", "Destroyed").await;
    assert_eq!((uid(&over), condition(&over, "Released")), (uid(&active), ("True", "Released")));
    true_to(&sandbox, &world).await;
}

/// While it is held it has no end; free again it has two seconds. And it keeps a book of both.
fn by_the_book(kind: HookKind, work: &Work) -> Moves {
    let status = work.resource.as_ref().and_then(|r| r.status.clone()).unwrap_or_default();
    let book = status.storage.get("book").cloned().unwrap_or_default();
    let (sign, wish) = match kind {
        HookKind::DidAcquire => ("+", Wish { at: None, never: Some(true) }),
        HookKind::DidRelease => {
            let at = MicroTime::from(jiff::Timestamp::now()).after(Length::from_secs(2));
            ("-", Wish { at: Some(at), never: None })
        }
    };
    Moves { expires: Some(wish), storage: Some([("book".to_owned(), format!("{book}{sign}"))].into()) }
}

async fn hooked(story: &str) -> (Sandbox<'static>, Arc<World>, Inside) {
    let sandbox = Sandbox::new(story).await;
    let world = World::new();
    world.hooks(by_the_book);
    let controller = Inside::start(&sandbox, &world).await;
    (sandbox, world, controller)
}

/// The versions of the resource, each with its claimants, its book and whether it has an end.
async fn told(sandbox: &Sandbox<'_>) -> Vec<(usize, Value, bool)> {
    sandbox.history().caught_up().await;
    let active = sandbox.history().of(RESOURCE).into_iter().filter(|seen| seen.phase() == "Active");
    let mut told: Vec<_> = active
        .map(|seen| {
            let book = seen.object.data["status"]["storage"]["book"].clone();
            (claimants(&seen.object).len(), book, deadline(&seen.object, "Age").is_some())
        })
        .collect();
    told.dedup();
    told
}

/// Story 52: in the write of the claim, and of its end.
#[tokio::test]
async fn story_52_a_driver_clears_the_clock_of_what_is_held_and_sets_it_again() {
    let (sandbox, world, _controller) = hooked("story-52").await;
    apply(&sandbox, &pool(1, json!({"limits": {"minReady": 1}, "resource": {"ttl": "1h"}}))).await;
    was(&sandbox, RESOURCE, "idle", |r| phase(r) == "Active").await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let resource = uid(&sandbox.get(RESOURCE).await);
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let free = was(&sandbox, RESOURCE, "free again", |r| r.data["status"]["storage"]["book"] == "+-").await;
    let end = deadline(&free, "Age").unwrap();
    assert_eq!(
        told(&sandbox).await[..3],
        [(0, Value::Null, true), (1, json!("+"), false), (0, json!("+-"), true)],
        "one write each"
    );
    was(&sandbox, RESOURCE, "gone", |r| uid(r) == resource && phase(r) == "Destroyed").await;
    let gone = ended_at(&sandbox, &resource, end).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "Expired"));
    true_to(&sandbox, &world).await;
}

/// Story 52: killed between the hook and the write, it takes effect once.
#[tokio::test]
async fn story_52_killed_between_hook_and_write_it_takes_effect_once() {
    let (sandbox, world, mut controller) = hooked("story-52-killed").await;
    apply(&sandbox, &pool(1, json!({"lease": {"recycle": "Reuse"}}))).await;
    world.hooks_hang(true);
    apply(&sandbox, &lease("a", json!({}))).await;
    for (kind, book, held) in [(HookKind::DidAcquire, "+", 1), (HookKind::DidRelease, "+-", 0)] {
        let calls = |world: &World| world.hooked().iter().filter(|(told, _)| *told == kind).count();
        world.until(&format!("{kind:?}"), |world| calls(world) == 1).await;
        controller.kill().await;
        assert_ne!(sandbox.get(RESOURCE).await.data["status"]["storage"]["book"], book, "it was not written");
        world.hooks_hang(false);
        controller = Inside::start(&sandbox, &world).await;
        let written = was(&sandbox, RESOURCE, "moved", |r| r.data["status"]["storage"]["book"] == book).await;
        assert_eq!((claimants(&written).len(), deadline(&written, "Age").is_some()), (held, held == 0));
        assert!(calls(&world) >= 2, "{:?}", world.hooked());
        if kind == HookKind::DidAcquire {
            sandbox.wait_phase("lease/a", "Active").await;
            world.hooks_hang(true);
            command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
        }
    }
    assert_eq!(
        told(&sandbox).await.iter().map(|(_, book, _)| book.clone()).filter(|b| !b.is_null()).collect::<Vec<_>>(),
        [json!("+"), json!("+-")]
    );
    true_to(&sandbox, &world).await;
}
