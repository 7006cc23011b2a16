//! A driver's bookkeeping on a lease: in the write that tells what came of its step, and of no other attempt.

use super::*;
use crate::api::step::{Facts, Storage, Wait};

fn books(text: &str) -> Storage {
    [("book".to_owned(), text.to_owned())].into()
}

#[test]
fn what_a_step_says_is_kept_until_another_says_otherwise() {
    let mut scene = Scene::reach(State::Acquired, "", "");
    let second = crate::api::Duration::from_secs(1);
    for (text, storage, expected) in [
        ("one", Some(books("one")), books("one")),
        ("two", None, books("one")),
        ("three", Some(books("3")), books("3")),
    ] {
        let wait = Wait { why: text.into(), storage, ..Wait::after(second) };
        scene.answer(StepKind::Activate, Answer::Again(wait));
        assert_eq!(scene.pass(at(11)).status.storage, expected, "{text}");
    }
    scene.answer(StepKind::Activate, Answer::Done(Facts { storage: Some(books("active")), ..Facts::default() }));
    assert_eq!(scene.pass(at(12)).status.storage, books("active"));
    scene.append(&["Release"], at(20));
    assert_eq!(scene.status().storage, books("active"), "for the teardown to read");
    let wait = Wait { storage: Some(Storage::new()), ..Wait::after(second) };
    scene.answer(StepKind::TearDownLease, Answer::Again(wait));
    assert_eq!(scene.pass(at(21)).status.storage, Storage::new(), "emptied is a value, too");
    scene.answer(StepKind::TearDownLease, Answer::Done(Facts { storage: Some(books("gone")), ..Facts::default() }));
    let over = scene.pass(at(22)).status;
    assert_eq!((short(&over).as_str(), over.storage), ("Destroyed/Released/TornDown", books("gone")));
}

/// The next attempt may be another driver's.
#[test]
fn the_books_of_an_attempt_end_with_it() {
    let mut scene = Scene::reach(State::Returning, "", "");
    scene.status_mut().storage = books("first");
    scene.pass(at(25));
    assert_eq!(scene.status().storage, books("first"), "for the teardown to read");
    scene.answer(StepKind::TearDownLease, done());
    let waits = scene.pass(at(30)).status;
    assert_eq!((waits.phase(), waits.storage), (LeasePhase::Pending, Storage::new()));
}

/// A queue of 48 is pruned, by a write of its own, once there is nothing else to write and something to prune.
#[test]
fn a_nearly_full_queue_is_pruned() {
    let expires: Vec<String> = (1..=64).map(|n| format!("Expires, after: {n}h")).collect();
    let texts: Vec<&str> = expires.iter().map(String::as_str).collect();
    for (count, prunes) in [(1, false), (47, false), (48, true), (64, true)] {
        for state in [State::Pending, State::Acquired, State::Active, State::Holding, State::TearingDown, State::Broken]
        {
            let mut scene = Scene::reach(state, "", "");
            let decision = scene.append(&texts[..count], at(LATER));
            assert_eq!(decision.metadata, None, "{state:?} {count}: the ledger first");
            let next = scene.pass(at(LATER));
            assert_eq!(next.metadata, prunes.then_some(MetadataChange::Prune), "{state:?} {count}");
            assert_eq!(&next.status, scene.status(), "{state:?} {count}");
            scene.lease.spec.commands.clear();
            assert_eq!(scene.pass(at(LATER)).metadata, None, "{state:?} {count}: once");
            // What reappears has no second effect.
            let before = scene.status().clone();
            assert_eq!(scene.append(&texts[..1], at(LATER)).status, before, "{state:?} {count}");
        }
    }
}
