//! Builds: what is asked before the first call, what is on record, and what comes of it (protocol.md, R1 and R2).

use super::*;

/// A resource whose Blueprint was read and whose slot is clear: the build may begin.
fn cleared() -> Scene {
    Scene { sight: Sight::Confirmed, slot_is_clear: Some(true), ..Scene::new("", "") }
}

#[test]
fn l1_the_finalizer_comes_first() {
    let mut scene = cleared();
    scene.resource.metadata.finalizers = None;
    let decision = scene.decide(at(1));
    assert_eq!(decision.metadata, Some(MetadataChange::AddFinalizer));
    assert_eq!((decision.status, decision.step), (ResourceStatus::default(), None));
}

/// R1, R2: the Blueprint and the slot are asked of the API server before the first call, in every pass that may call.
#[test]
fn r1_r2_nothing_is_built_before_the_answers() {
    for free in [FreeSteps::default(), FreeSteps::ALL] {
        let asked = |sight, slot_is_clear| {
            let decision = Scene { sight, slot_is_clear, free, ..Scene::new("", "") }.decide(at(1));
            (decision.reads, decision.step.map(|order| order.step.kind))
        };
        assert_eq!(asked(Sight::Seen, None), (vec![Read::Blueprint, Read::LeasesOnSlot], None));
        assert_eq!(asked(Sight::Confirmed, None), (vec![Read::LeasesOnSlot], None));
        assert_eq!(asked(Sight::Seen, Some(true)), (vec![Read::Blueprint], None));
        assert_eq!(asked(Sight::Absent, Some(true)), (vec![Read::Blueprint], None));
        assert_eq!(asked(Sight::Confirmed, Some(false)), (vec![], None), "a former tenant is there still");
        assert_eq!(asked(Sight::Confirmed, Some(true)), (vec![], Some(StepKind::Build)));
    }
}

/// R2: a lease that holds the slot under a former UID is waited for; its end is looked for, and not assumed.
#[test]
fn r2_a_slot_that_is_held_still_is_waited_for() {
    let mut scene = cleared();
    scene.slot_is_clear = Some(false);
    let decision = scene.pass(at(1));
    assert_eq!((decision.status, decision.wake), (ResourceStatus::default(), Some(at(2))), "and nothing is written");
}

/// Where the slots' names do not hold the limit, the others are counted by the API server before the first call; what is one
/// too many goes without having been built.
#[test]
fn what_is_one_too_many_is_never_built() {
    for (free, limit, others, reads, then) in [
        (FreeSteps::default(), None, None, vec![], "Pending"),
        (FreeSteps::default(), Some(2), None, vec![Read::ResourcesOfBlueprint], "Pending"),
        (FreeSteps::default(), Some(2), Some(1), vec![], "Pending"),
        (FreeSteps::default(), Some(2), Some(2), vec![], "Destroyed/Released/NothingToTearDown"),
        (FreeSteps::default(), Some(2), Some(3), vec![], "Destroyed/Released/NothingToTearDown"),
        (FreeSteps::ALL, Some(2), Some(2), vec![], "Destroyed/Released/NothingToTearDown"),
    ] {
        let decision = Scene { counted_limit: limit, others, free, ..cleared() }.decide(at(1));
        let builds = reads.is_empty() && then == "Pending";
        assert_eq!(decision.step.is_some(), builds, "{limit:?} {others:?}");
        assert_eq!((decision.reads, short(&decision.status)), (reads, then.to_owned()), "{limit:?} {others:?}");
    }
    // A limit that was lowered while it is being built: what there is of it is torn down.
    let mut begun = Scene::reach(State::Building, "", "");
    (begun.counted_limit, begun.others) = (Some(1), Some(1));
    let decision = begun.pass(at(2));
    assert_eq!(short(&decision.status), "Released/Released/TearingDown");
    assert_eq!(decision.step.map(|order| order.step.kind), Some(StepKind::TearDownResource));
}

/// What the teardown needs is on record before the first call (api.md section 6).
#[test]
fn what_a_teardown_needs_is_written_before_the_first_call() {
    let scene = cleared();
    let decision = scene.decide(at(1));
    assert_eq!(decision.status.built, scene.intent);
    assert_ne!(
        decision.status,
        ResourceStatus::default(),
        "a write comes first; the shell begins on what is on record"
    );
    let mut written = scene.clone();
    written.pass(at(1));
    let decision = written.decide(at(2));
    assert_eq!(Some(&decision.status), written.resource.status.as_ref());
    assert_eq!(decision.step.map(|order| order.step), Some(scene.step(StepKind::Build)));
    let nothing = Scene { intent: None, ..cleared() }.decide(at(1));
    assert_eq!(nothing.status.built, Some(serde_json::json!({})), "that it was begun is on record all the same");
}

/// R1: a Blueprint that is being deleted has nothing built for it.
#[test]
fn r1_nothing_is_built_for_a_blueprint_that_goes() {
    let mut scene = cleared();
    delete(&mut scene.blueprint.metadata);
    assert_eq!(short(&scene.decide(at(1)).status), "Destroyed/BlueprintDeleted/NothingToTearDown");
    let mut building = Scene::reach(State::Building, "", "");
    delete(&mut building.blueprint.metadata);
    assert_eq!(short(&building.decide(at(LATER)).status), "Released/BlueprintDeleted/TearingDown");
}

/// R1: the Blueprint is gone and nothing is in `built`: nothing can have been built, and there is no status to write.
#[test]
fn r1_what_was_never_built_goes_with_its_blueprint() {
    let mut scene = Scene { sight: Sight::Gone, ..Scene::new("", "") };
    assert_eq!(scene.decide(at(1)).metadata, Some(MetadataChange::RemoveFinalizer));
    scene.resource.metadata.finalizers = None;
    assert_eq!(scene.decide(at(1)).metadata, Some(MetadataChange::Delete));
    delete(&mut scene.resource.metadata);
    assert_eq!(scene.decide(at(1)).metadata, None);
    for state in [State::Building, State::Idle] {
        let mut built = Scene::reach(state, "", "");
        built.sight = Sight::Gone;
        let decision = built.decide(at(LATER));
        assert_eq!(decision.metadata, None);
        assert_eq!(short(&decision.status), "Released/BlueprintDeleted/TearingDown", "{state:?}: released as usual");
    }
}

#[test]
fn a_blueprint_that_is_not_in_the_cache_is_asked_for() {
    for state in STATES.into_iter().filter(|state| *state != State::Destroyed) {
        let mut scene = Scene::reach(state, "", "");
        scene.sight = Sight::Absent;
        let decision = scene.decide(at(LATER));
        assert_eq!(decision.reads.first(), Some(&Read::Blueprint), "{state:?}: absent is no fact");
        assert_eq!(decision.status.phase, scene.status().phase, "{state:?}");
    }
}

#[test]
fn while_the_blueprint_is_suspended_nothing_is_begun_and_what_was_begun_goes_on() {
    let mut scene = cleared();
    scene.blueprint.spec.suspend = true;
    assert_eq!(short(&scene.pass(at(1)).status), "Destroyed/Released/NothingToTearDown", "its slot is free again");
    let mut built = Scene::reach(State::Building, "", "");
    built.blueprint.spec.suspend = true;
    built.candidates = vec![candidate("l", 0)];
    built.answer(StepKind::Build, done());
    assert_eq!(short(&built.pass(at(2)).status), "Active", "what was built by then is there, and granted to nobody");
    let mut building = Scene::reach(State::Building, "", "");
    for suspend in [true, false] {
        building.blueprint.spec.suspend = suspend;
        assert_eq!(building.pass(at(LATER)).step.map(|order| order.step.kind), Some(StepKind::Build), "{suspend}");
    }
}

#[test]
fn what_comes_of_a_build() {
    let facts = Facts {
        interfaces: vec![yaml("name: ssh, type: ssh, address: 192.0.2.7, port: 22")],
        outputs: [("rack".to_owned(), "7".to_owned())].into(),
        built: Some(serde_json::json!({"driver": "webhook", "machine": "m-7"})),
        ..Facts::default()
    };
    let mut scene = Scene::reach(State::Building, "", "");
    scene.answer(StepKind::Build, Answer::Again(crate::api::step::Wait::after(crate::api::Duration::from_secs(1))));
    let decision = scene.pass(at(2));
    assert_eq!((short(&decision.status).as_str(), decision.step.is_some()), ("Pending", true));
    scene.answer(StepKind::Build, Answer::Failed(failure("NoImage")));
    let decision = scene.pass(at(3));
    assert_eq!((short(&decision.status).as_str(), decision.step.is_some()), ("Pending", true), "it is tried again");
    assert_eq!(decision.status.failure, Some(failure("NoImage")));
    let told = reason_and_message(&decision.status.conditions, "Ready");
    assert_eq!(told, ("Building".into(), "NoImage it is".into()));
    scene.answer(StepKind::Build, Answer::Done(facts.clone()));
    let status = scene.pass(at(4)).status;
    assert_eq!((short(&status).as_str(), status.failure), ("Active", None));
    assert_eq!((status.interfaces, status.outputs, status.built), (facts.interfaces, facts.outputs, facts.built));
    assert_eq!((status.activated_at, status.idle_since, status.capacity), (Some(at(4)), Some(at(4)), 1));
}

#[test]
fn a_build_that_fails_for_good_breaks_it() {
    let mut scene = Scene::reach(State::Building, "", "");
    scene.answer(StepKind::Build, Answer::FailedForGood(failure("NoImage")));
    let decision = scene.pass(at(2));
    assert_eq!(short(&decision.status), "Broken/Failed/TearingDown");
    assert_eq!(decision.status.failure, Some(failure("NoImage")));
    let warned = decision.events.iter().map(|e| (e.kind, e.reason.as_str())).collect::<Vec<_>>();
    assert_eq!(warned, [(EventKind::Warning, "Failed")]);
}

/// The write that makes it active also grants it, for a driver without effects outside.
#[test]
fn a_free_build_and_a_grant_are_one_write() {
    let mut scene = Scene::free("", "");
    scene.candidates = vec![candidate("l", 0)];
    let decision = scene.pass(at(1));
    assert_eq!(short(&decision.status), "Active [l]");
    assert_eq!((decision.status.activated_at, decision.status.idle_since), (Some(at(1)), None));
}

/// A resource that has only been seen says nothing new: no write.
#[test]
fn what_is_only_seen_is_not_written() {
    let mut scene = Scene { slot_is_clear: Some(false), ..Scene::free("expiresAt: '2026-11-23T11:00:00Z'", "") };
    assert_eq!(scene.pass(at(1)).status, ResourceStatus::default());
    assert_eq!(scene.resource.status, Some(ResourceStatus::default()));
}

/// What its first step has failed with is news, of a step without effects outside, too.
#[test]
fn a_first_build_that_fails_is_told() {
    let mut scene = Scene { free: FreeSteps::ALL, intent: None, ..cleared() };
    scene.answer(StepKind::Build, Answer::Failed(failure("NoImage")));
    let status = scene.decide(at(1)).status;
    assert_eq!((short(&status).as_str(), &status.failure), ("Pending", &Some(failure("NoImage"))));
    assert_eq!(reason_and_message(&status.conditions, "Ready"), ("Building".into(), "NoImage it is".into()));
}

/// The key of a build is the resource's own; the attempt ends with the clock.
#[test]
fn a_build_has_its_key_and_its_time() {
    let decision = Scene::reach(State::Building, "", "resource: {buildTimeout: 2m}").pass(at(LATER));
    let order = decision.step.unwrap();
    assert_eq!(order.step.key, EffectKey::of_resource("uid-of-ci--h1"));
    assert_eq!(order.timeout.as_secs(), 121 - 40);
}

/// What a build has so far is put on record, and what it waits for is told, and both stand while it goes on.
#[test]
fn the_progress_of_a_build_is_on_record() {
    let mut scene = Scene::reach(State::Building, "", "");
    let intent = scene.status().built.clone();
    let some = Some(serde_json::json!({"driver": "webhook", "objects": ["a"]}));
    let seen = |decision: &Decision<ResourceStatus>| {
        let status = &decision.status;
        let (reason, message) = reason_and_message(&status.conditions, "Ready");
        assert_eq!((reason.as_str(), short(status).as_str()), ("Building", "Pending"));
        assert!(decision.step.is_some() && decision.events.is_empty(), "it goes on");
        (message, status.built.clone(), status.failure.is_some())
    };
    for (answer, expected) in [
        (Answer::Again(waits("", None)), ("", &intent, false)),
        (Answer::Again(waits("a is not ready", some.clone())), ("a is not ready", &some, false)),
        (Answer::Again(waits("a starts", None)), ("a starts", &some, false)),
        (Answer::Failed(failure("NoRoute")), ("NoRoute it is", &some, true)),
        (Answer::Again(waits("a is not ready", None)), ("a is not ready", &some, false)),
    ] {
        scene.answer(StepKind::Build, answer.clone());
        let (message, built, failed) = seen(&scene.pass(at(2)));
        assert_eq!((message.as_str(), &built, failed), expected, "{answer:?}");
        // It has been asked again, and has not answered yet.
        if !failed {
            scene.reports.clear();
            let before = scene.status().clone();
            assert_eq!(scene.pass(at(3)).status, before, "{answer:?}");
        }
    }
    // Its teardown has what there is by then.
    scene.append(&["Release"], at(4));
    assert_eq!(scene.status().built, some);
}
