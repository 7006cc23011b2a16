//! The destroy phase: when it begins, how it fails and recovers, and that nothing is said to be destroyed that is not
//! (protocol.md, R8).

use super::*;

/// R8: begins only with Released or Broken, and empty claims, on record.
#[test]
fn r8_what_a_teardown_rests_on_is_on_record() {
    let mut scene = Scene::reach(State::Waiting, "", "");
    assert_eq!(scene.pass(at(LATER)).step, None, "not while it is held");
    scene.leases_end();
    let decision = scene.decide(at(50));
    assert_ne!(Some(&decision.status), scene.resource.status.as_ref(), "a write comes first");
    scene.pass(at(50));
    let decision = scene.pass(at(51));
    assert_eq!(Some(&decision.status), scene.resource.status.as_ref());
    assert_eq!(decision.step.map(|order| order.step), Some(scene.step(StepKind::TearDownResource)));
}

/// What a vanished lease left could not be torn down: that shows until it is, also while it is tried again, and is told once.
#[test]
fn r4c_what_fails_beneath_a_released_resource_shows_until_it_is_done() {
    let mut scene = Scene::reach(State::Waiting, "", "");
    scene.leases.insert("uid-of-l".into(), Holder::Gone);
    let order = scene.pass(at(LATER)).step.unwrap();
    assert_eq!(short(scene.status()), "Released/Released/WaitingForLeases [l]");
    let report = |answer| vec![Report { step: order.step.clone(), answer, failures: 1, retry_at: None }];
    scene.reports = report(Answer::Failed(failure("NoRoute")));
    let decision = scene.pass(at(50));
    assert_eq!(short(&decision.status), "Released/Released/TeardownFailed [l]");
    assert_eq!(decision.events.len(), 1);
    for reports in [vec![], report(Answer::Again(waits("", None))), report(Answer::Failed(failure("NoRoute")))] {
        scene.reports = reports;
        let again = scene.pass(at(60));
        assert_eq!((again.status, again.events.len()), (decision.status.clone(), 0));
    }
    scene.reports = report(done());
    assert_eq!(short(&scene.pass(at(70)).status), "Released/Released/TearingDown", "what was told is over");
}

/// Story 28: fails N times: it stays with the error and its slot, is never falsely Destroyed, and recovers by itself.
#[test]
fn a_teardown_that_fails_stays_with_its_error_and_recovers() {
    for state in [State::TearingDown, State::Broken] {
        let mut scene = Scene::reach(state, "", "");
        let phase = scene.status().phase;
        for failures in 1..6 {
            let now = at(100 * i64::from(failures));
            scene.answer_after(StepKind::TearDownResource, Answer::Failed(failure("NoRoute")), failures);
            let decision = scene.pass(now);
            assert_eq!(decision.status.phase, phase);
            let (reason, message) = reason_and_message(&decision.status.conditions, "TornDown");
            assert_eq!(
                (reason.as_str(), message),
                ("TeardownFailed", "it failed, and is tried again: NoRoute it is".to_owned())
            );
            assert_eq!(decision.status.failure, Some(failure("NoRoute")));
            let warned = decision.events.iter().filter(|e| e.kind == EventKind::Warning).count();
            assert_eq!(warned, usize::from(failures == 1), "the same failure is told once");
            assert!(decision.step.is_some(), "and it is tried again");
            assert!(scene.pass(now).events.is_empty());
        }
        scene.reports.clear();
        assert_eq!(
            reason_and_message(&scene.pass(at(1000)).status.conditions, "TornDown").0,
            "TeardownFailed",
            "a restarted controller goes on telling it"
        );
        scene.answer(
            StepKind::TearDownResource,
            Answer::Again(crate::api::step::Wait::after(crate::api::Duration::from_secs(1))),
        );
        assert_eq!(scene.pass(at(1001)).status.phase, phase);
        scene.answer(StepKind::TearDownResource, done());
        let decision = scene.pass(at(1002));
        assert_eq!(reason_and_message(&decision.status.conditions, "TornDown").0, "TornDown", "{state:?}");
        assert_eq!(decision.status.phase(), ResourcePhase::Destroyed, "{state:?}");
        assert_eq!(decision.status.destroyed_at, Some(at(1002)));
    }
}

#[test]
fn the_reason_of_a_failure_shows() {
    for (failed, reason) in
        [("NoRoute", "TeardownFailed"), ("TeardownTimeout", "TeardownTimeout"), ("CredentialsGone", "CredentialsGone")]
    {
        let mut scene = Scene::reach(State::TearingDown, "", "");
        scene.answer(StepKind::TearDownResource, Answer::FailedForGood(failure(failed)));
        assert_eq!(short(&scene.pass(at(LATER)).status), format!("Released/Released/{reason}"));
        let decision = scene.append(&["Forget"], at(50));
        assert_eq!(short(&decision.status), "Destroyed/Released/Forgotten", "{reason}");
    }
}

/// Destroyed is on record; then its finalizer goes, and then it is deleted.
#[test]
fn a_destroyed_resource_goes_at_once() {
    let mut scene = Scene::reach(State::Destroyed, "", "");
    let before = scene.status().clone();
    let decision = scene.decide(at(LATER));
    assert_eq!((decision.metadata, decision.status), (Some(MetadataChange::RemoveFinalizer), before));
    let mut deleted = scene.clone();
    delete(&mut deleted.resource.metadata);
    assert_eq!(deleted.decide(at(LATER)).metadata, Some(MetadataChange::RemoveFinalizer));
    scene.resource.metadata.finalizers = None;
    assert_eq!(scene.decide(at(LATER)).metadata, Some(MetadataChange::Delete));
    delete(&mut scene.resource.metadata);
    assert_eq!(scene.decide(at(LATER)).metadata, None);
}

/// A driver without effects outside: Released to Destroyed in one write.
#[test]
fn a_free_teardown_is_one_write() {
    let mut scene = Scene::free("", "");
    scene.pass(at(1));
    let decision = scene.append(&["Release"], at(30));
    assert_eq!(short(&decision.status), "Destroyed/Released/NothingToTearDown");
    let mut leased = Scene { free: FreeSteps::ALL, ..Scene::reach(State::Waiting, "", "") };
    leased.leases_end();
    assert_eq!(short(&leased.pass(at(LATER)).status), "Destroyed/Released/TornDown");
}

/// The teardown never reads the Blueprint: it goes on when that is gone.
#[test]
fn a_teardown_needs_no_blueprint() {
    let mut scene = Scene::reach(State::TearingDown, "", "");
    scene.sight = Sight::Gone;
    let decision = scene.pass(at(LATER));
    assert_eq!(decision.step.map(|order| order.step), Some(scene.step(StepKind::TearDownResource)));
    assert_eq!(decision.status.built, Some(serde_json::json!({"driver": "webhook"})), "all it needs is on record");
}

/// How far a teardown has come shows as it goes on; that it has failed once shows until it is done, so that it may be forgotten.
#[test]
fn the_progress_of_a_teardown_is_told() {
    let some = Some(serde_json::json!({"driver": "webhook", "left": 1}));
    for (state, answer, expected) in [
        (State::TearingDown, waits("", None), ("TearingDown", "")),
        (State::TearingDown, waits("a is still there", some.clone()), ("TearingDown", "a is still there")),
        (State::Broken, waits("a is still there", None), ("TearingDown", "a is still there")),
        (State::Failing, waits("", None), ("TeardownFailed", "it failed, and is tried again: NoRoute it is")),
        (State::Failing, waits("a is still there", None), ("TeardownFailed", "a is still there")),
    ] {
        let mut scene = Scene::reach(state, "", "");
        let built = answer.built.clone().or(scene.status().built.clone());
        scene.answer(StepKind::TearDownResource, Answer::Again(answer));
        let decision = scene.pass(at(LATER));
        let (reason, message) = reason_and_message(&decision.status.conditions, "TornDown");
        assert_eq!((reason.as_str(), message.as_str()), expected, "{state:?}");
        assert_eq!(decision.status.built, built, "{state:?}");
        assert!(decision.step.is_some() && decision.events.is_empty(), "{state:?}");
    }
}
