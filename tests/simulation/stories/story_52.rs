//! A driver moves the clock of its resource as leases come and go: once, in the write of the claim, and of its end.

use super::*;
use crate::habits::{ACQUIRED, RELEASED, count_of};
use drydock::api::{
    Duration as Length, LeasePhase, ResourcePhase, Wish,
    step::{HookKind, Moves},
};

const RESOURCE: &str = "pool--0";

/// Held for the first time it has no end, and later three hours more; free again it has two.
fn by_the_book(kind: HookKind, work: &Work, now: MicroTime) -> Moves {
    let mut books = work.resource.as_ref().unwrap().status.clone().unwrap().storage;
    let name = if kind == HookKind::DidAcquire { ACQUIRED } else { RELEASED };
    let count = count_of(&books, name) + 1;
    books.insert(name.into(), count.to_string());
    let hours = |hours: i64| Wish { at: Some(now.after(Length::from_secs(hours * 3600))), never: None };
    let wish = match kind {
        HookKind::DidAcquire if count == 1 => Wish { at: None, never: Some(true) },
        HookKind::DidAcquire => hours(3),
        HookKind::DidRelease => hours(2),
    };
    Moves { expires: Some(wish), storage: Some(books) }
}

fn hooked(stage: &mut Stage) {
    stage.behaves(|habits| {
        habits.hooks = true;
        habits.hook = Some(by_the_book);
    });
}

/// How often it was acquired and released by its books, who holds it, and its end.
fn books(stage: &Stage) -> (u64, u64, usize, Option<Timestamp>) {
    let resource = stage.resource_now(RESOURCE);
    let status = resource.status.clone().unwrap();
    let count = |name| count_of(&status.storage, name);
    (count(ACQUIRED), count(RELEASED), resource.claims().len(), clock(&status.deadlines, DeadlineName::Age))
}

#[test]
fn story_52_the_clock_is_cleared_extended_and_set() {
    told(async |stage| {
        let _controller = stage.controller("1");
        hooked(stage);
        stage.pool(1, json!({"limits": {"minReady": 1}, "resource": {"ttl": "1h"}}));
        stage
            .until("ready", |stage| {
                !stage.is_gone(Kind::Resource, RESOURCE)
                    && stage.resource_now(RESOURCE).phase() == ResourcePhase::Active
            })
            .await;
        let uid = stage.resource_now(RESOURCE).metadata.uid.unwrap();
        assert!(books(stage).3.is_some(), "an hour, at first");
        stage.lease("a", json!({}));
        stage.until_lease("a", LeasePhase::Active).await;
        assert_eq!(books(stage), (1, 0, 1, None), "cleared");
        stage.pass(SignedDuration::from_hours(5)).await;
        stage.release("a");
        stage.until_lease("a", LeasePhase::Destroyed).await;
        stage.until("free", |stage| books(stage).2 == 0).await;
        let (acquired, released, _, set) = books(stage);
        let since = stage.resource_now(RESOURCE).status.unwrap().idle_since.unwrap().timestamp();
        assert_eq!((acquired, released), (1, 1));
        let set = set.unwrap();
        assert!(set <= since + SignedDuration::from_hours(2) && set + LATE >= since + SignedDuration::from_hours(2));

        stage.pass(SignedDuration::from_hours(1)).await;
        stage.lease("b", json!({}));
        stage.until_lease("b", LeasePhase::Active).await;
        let (acquired, released, held, extended) = books(stage);
        assert_eq!((acquired, released, held), (2, 1, 1));
        let extended = extended.unwrap();
        assert!(extended >= set + SignedDuration::from_hours(2) - LATE, "extended: {extended}, from {set}");
        // What was extended is kept, and takes the lease with it.
        stage.pass_until(extended - SignedDuration::from_secs(1)).await;
        assert_eq!(stage.lease_now("b").phase(), LeasePhase::Active);
        stage.until_lease("b", LeasePhase::Destroyed).await;
        assert_eq!(lease_reason(&stage.lease_now("b")), "ResourceReleased");
        let over = stage.versions::<Resource>(&uid).into_iter().find(|r| r.phase() > ResourcePhase::Active).unwrap();
        on_time(over.status.unwrap().released_at, extended);
    });
}

#[test]
fn story_52_killed_between_hook_and_write_it_takes_effect_once() {
    told(async |stage| {
        hooked(stage);
        stage.pool(1, json!({}));
        let mut controller = stage.controller("0");
        stage.behaves(|habits| habits.hooks_hang = true);
        stage.lease("a", json!({}));
        for (n, kind, after) in [(1, HookKind::DidAcquire, (1, 0, 1)), (2, HookKind::DidRelease, (1, 1, 0))] {
            let told = move |entry: &Entry| matches!(&entry.what, What::Hooked { call, .. } if call.kind == kind);
            stage.until("told", |stage| stage.happened().iter().any(told)).await;
            controller.kill();
            assert_ne!((books(stage).0, books(stage).1, books(stage).2), after, "nothing is written");
            stage.behaves(|habits| habits.hooks_hang = false);
            controller = stage.controller(&n.to_string());
            stage.until("moved", |stage| (books(stage).0, books(stage).1, books(stage).2) == after).await;
            let times = stage.happened().iter().filter(|entry| told(entry)).count();
            assert!(times >= 2, "it was told {times} times");
            if kind == HookKind::DidAcquire {
                stage.until_lease("a", LeasePhase::Active).await;
                stage.behaves(|habits| habits.hooks_hang = true);
                stage.release("a");
            }
        }
        let uid = stage.resource_now(RESOURCE).metadata.uid.unwrap();
        let count = |r: &Resource| {
            let storage = r.status.clone().unwrap_or_default().storage;
            (count_of(&storage, ACQUIRED), count_of(&storage, RELEASED))
        };
        let mut counts: Vec<_> = stage.versions::<Resource>(&uid).iter().map(count).collect();
        counts.dedup();
        assert_eq!(counts, [(0, 0), (1, 0), (1, 1)]);
    });
}
