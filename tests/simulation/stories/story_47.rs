//! Bookkeeping: what a driver stores it reads in the teardown, whoever was killed in between; and it has bounds.

use super::*;
use drydock::api::{LeasePhase, step::Storage};

fn books(text: &str) -> Storage {
    [("machine".to_owned(), text.to_owned())].into()
}

fn read(stage: &Stage, kind: StepKind) -> Storage {
    let work = stage.last_call(kind).unwrap();
    match (&work.lease, &work.resource) {
        (Some(lease), _) => lease.status.clone().unwrap().storage,
        (None, resource) => resource.as_ref().unwrap().status.clone().unwrap().storage,
    }
}

#[test]
fn story_47_what_is_stored_is_read_in_the_teardown_whoever_was_killed_in_between() {
    told(async |stage| {
        let first = stage.controller("1");
        stage.behaves(|habits| {
            habits.stores = [(StepKind::Build, books("m-7")), (StepKind::Activate, books("account-3"))].into();
        });
        stage.pool(1, json!({}));
        stage.lease("a", json!({}));
        stage.until_lease("a", LeasePhase::Active).await;
        first.kill();
        assert_eq!(stage.lease_now("a").status.unwrap().storage, books("account-3"));
        assert_eq!(stage.resource_now("pool--0").status.unwrap().storage, books("m-7"));

        stage.release("a");
        let second = stage.controller("2");
        stage.until_lease("a", LeasePhase::Destroyed).await;
        second.kill();
        stage.delete(Kind::Resource, "pool--0");
        let _third = stage.controller("3");
        stage.until("gone", |stage| stage.is_gone(Kind::Resource, "pool--0")).await;
        assert_eq!(read(stage, StepKind::TearDownLease), books("account-3"));
        assert_eq!(read(stage, StepKind::TearDownResource), books("m-7"));
    });
}

#[test]
fn story_47_one_over_the_bound_is_the_drivers_failure() {
    told(async |stage| {
        let _controller = stage.controller("1");
        let many: Storage = (0..33).map(|n| (n.to_string(), String::new())).collect();
        stage.pool(1, json!({}));
        for (name, storage) in [("many", many), ("long", books(&"x".repeat(4097)))] {
            stage.behaves(|habits| habits.stores = [(StepKind::Activate, storage)].into());
            stage.lease(name, json!({}));
            stage.until_lease(name, LeasePhase::Destroyed).await;
            let status = stage.lease_now(name).status.unwrap();
            let failure = status.failure.clone().unwrap();
            assert_eq!((lease_reason(&stage.lease_now(name)), failure.reason.as_str()), ("Failed", "TooMuch"));
            assert!(failure.message.contains("bookkeeping"), "{}", failure.message);
            assert!(status.storage.is_empty(), "nothing of it is kept");
        }
        // As much as there is room for.
        stage.behaves(|habits| habits.stores = [(StepKind::Activate, books(&"x".repeat(4096)))].into());
        stage.lease("fits", json!({}));
        stage.until_lease("fits", LeasePhase::Active).await;
    });
}
