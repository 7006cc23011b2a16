//! A driver's bookkeeping on a resource, and the pruning of its queue.

use super::*;
use crate::api::step::{Storage, Wait};

fn books(text: &str) -> Storage {
    [("book".to_owned(), text.to_owned())].into()
}

/// Story 47: what is stored while it is built is read in the teardown.
#[test]
fn what_a_step_says_is_kept_until_another_says_otherwise() {
    let mut scene = Scene::reach(State::Building, "", "");
    let second = crate::api::Duration::from_secs(1);
    for (text, storage, expected) in [("one", Some(books("one")), books("one")), ("two", None, books("one"))] {
        let wait = Wait { why: text.into(), storage, ..Wait::after(second) };
        scene.answer(StepKind::Build, Answer::Again(wait));
        assert_eq!(scene.pass(at(2)).status.storage, expected, "{text}");
    }
    scene.answer(StepKind::Build, done());
    assert_eq!(scene.pass(at(10)).status.storage, books("one"));
    scene.grant("l", at(20));
    scene.leases_end();
    scene.append(&["Release"], at(30));
    assert_eq!(scene.status().storage, books("one"), "for the teardown to read");
    scene.answer(StepKind::TearDownResource, Answer::Done(Facts { storage: Some(books("gone")), ..Facts::default() }));
    let over = scene.pass(at(40)).status;
    assert_eq!((short(&over).as_str(), over.storage), ("Destroyed/Released/TornDown", books("gone")));
}

#[test]
fn a_nearly_full_queue_is_pruned() {
    let expires: Vec<String> = (1..=64).map(|n| format!("Expires, after: {n}h")).collect();
    let texts: Vec<&str> = expires.iter().map(String::as_str).collect();
    for (count, prunes) in [(1, false), (47, false), (48, true), (64, true)] {
        for state in [State::Building, State::Idle, State::Leased, State::Waiting, State::TearingDown, State::Broken] {
            let mut scene = Scene::reach(state, "", "");
            let decision = scene.append(&texts[..count], at(LATER));
            assert_eq!(decision.metadata, None, "{state:?} {count}: the ledger first");
            let next = scene.pass(at(LATER));
            assert_eq!(next.metadata, prunes.then_some(MetadataChange::Prune), "{state:?} {count}");
            assert_eq!(&next.status, scene.status(), "{state:?} {count}");
            scene.resource.spec.commands.clear();
            assert_eq!(scene.pass(at(LATER)).metadata, None, "{state:?} {count}: once");
        }
    }
}
