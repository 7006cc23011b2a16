//! Steps that go on outside: what they have so far is on record before they go on, and what they wait for is told.

use super::*;

fn record(objects: &str) -> Option<serde_json::Value> {
    Some(serde_json::json!({"driver": "hosts", "objects": objects}))
}

#[test]
fn the_progress_of_an_activation_is_on_record() {
    let mut scene = Scene::reach(State::Acquired, "", "");
    let intent = scene.status().built.clone();
    for (answer, message, built) in [
        (waits("", None), "", intent),
        (waits("a is not ready", record("a")), "a is not ready", record("a")),
        (waits("b is not ready", None), "b is not ready", record("a")),
        (waits("b is not ready", record("a b")), "b is not ready", record("a b")),
    ] {
        scene.answer(StepKind::Activate, Answer::Again(answer.clone()));
        let decision = scene.pass(at(LATER));
        let told = reason_and_message(&decision.status.conditions, "Ready");
        assert_eq!(told, ("Activating".into(), message.into()), "{answer:?}");
        assert_eq!(decision.status.built, built, "{answer:?}");
        assert_eq!((decision.step.is_some(), decision.events.len()), (true, 0), "{answer:?}");
        // It has been asked again, and has not answered yet.
        scene.reports.clear();
        let before = scene.status().clone();
        assert_eq!(scene.pass(at(LATER + 1)).status, before, "{answer:?}");
    }
    // What it has by then its teardown has, too.
    scene.append(&["Release"], at(LATER + 2));
    assert_eq!(scene.status().built, record("a b"));
}

#[test]
fn the_progress_of_a_teardown_is_told() {
    for (state, answer, expected) in [
        (State::TearingDown, waits("", None), ("TearingDown", "")),
        (State::TearingDown, waits("a is still there", record("a")), ("TearingDown", "a is still there")),
        (State::Broken, waits("a is still there", None), ("TearingDown", "a is still there")),
        (State::Returning, waits("a is still there", None), ("TearingDown", "a is still there")),
        (State::Failing, waits("", None), ("TeardownFailed", "it failed, and is tried again: NoRoute it is")),
        (State::BrokenFailing, waits("a is still there", None), ("TearingDown", "a is still there")),
    ] {
        let mut scene = Scene::reach(state, "", "");
        let built = answer.built.clone().or(scene.status().built.clone());
        scene.answer(StepKind::TearDownLease, Answer::Again(answer));
        let decision = scene.pass(at(LATER));
        let (reason, message) = reason_and_message(&decision.status.conditions, "TornDown");
        assert_eq!((reason.as_str(), message.as_str()), expected, "{state:?}");
        assert_eq!(decision.status.built, built, "{state:?}");
        assert!(decision.step.is_some() && decision.events.is_empty(), "{state:?}");
    }
}
