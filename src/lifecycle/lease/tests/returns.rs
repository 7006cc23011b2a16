//! A lease and its resource: what it may be bound to, when an activation may begin, and how it comes back (protocol.md,
//! L1 to L9).

use super::*;

fn kind(decision: &Decision<LeaseStatus>) -> Option<StepKind> {
    decision.step.as_ref().map(|order| order.step.kind)
}

#[test]
fn l1_the_finalizer_comes_first() {
    let mut scene = Scene::free("", "");
    scene.claimed = Some(0);
    scene.lease.metadata.finalizers = None;
    let decision = scene.decide(at(1));
    assert_eq!(decision.metadata, Some(MetadataChange::AddFinalizer));
    assert_eq!((decision.status, decision.step), (LeaseStatus::default(), None));
    delete(&mut scene.lease.metadata);
    assert_eq!(short(&scene.decide(at(1)).status), "Destroyed/Deleted/NothingToTearDown", "not where it is on its way");
}

/// L2: bound to an Active resource that shows a claim for its UID and present attempt, and to nothing else.
#[test]
fn l2_a_claim_is_taken_up() {
    let mut scene = Scene::reach(State::Pending, "", "");
    scene.claimed = Some(0);
    let status = scene.pass(at(10)).status;
    let reference = status.resource_ref.as_ref().map(|r| format!("{}/{} {}", r.namespace, r.name, r.uid));
    assert_eq!(reference.as_deref(), Some("pools/ci--h1 uid-of-ci--h1"));
    assert_eq!((short(&status).as_str(), status.acquired_at), ("Acquired", Some(at(10))));
    assert_eq!(status.built, Some(serde_json::json!({"driver": "hosts"})), "whose teardown it is");
}

#[test]
fn l2_each_condition_left_out_binds_nothing() {
    let changes: [(&str, Happens); 9] = [
        ("no claim", |scene| scene.claimed = None),
        ("a claim of a later attempt", |scene| scene.claimed = Some(1)),
        ("a claim of an earlier attempt", |scene| scene.status_mut().attempt = 1),
        ("the resource is not built yet", |scene| {
            scene.resource.status.get_or_insert_default().phase = Some(ResourcePhase::Pending.into());
        }),
        ("the resource is over", |scene| scene.end_resource(ResourcePhase::Released, "Released")),
        ("the lease is deleted", |scene| delete(&mut scene.lease.metadata)),
        ("a Release is in the queue", |scene| scene.lease.spec.commands.push(command("c", "Release"))),
        ("its end has passed", |scene| scene.lease.spec.expires_at = Some(at(5))),
        ("an Expires in the past is in the queue", |scene| {
            scene.lease.spec.commands.push(command("c", "Expires, at: 2026-11-23T10:00:10Z"));
        }),
    ];
    for (name, change) in changes {
        let mut scene = Scene::reach(State::Pending, "", "");
        scene.free = FreeSteps::ALL;
        scene.claimed = Some(0);
        change(&mut scene);
        let status = scene.pass(at(10)).status;
        assert_eq!((status.resource_ref, status.acquired_at, status.activated_at), (None, None, None), "{name}");
    }
    let mut late = Scene::reach(State::Pending, "queueTimeout: 5s", "");
    late.claimed = Some(0);
    assert_eq!(short(&late.pass(at(6)).status), "Destroyed/QueueTimeout/NothingToTearDown", "its wait has passed");
}

/// L3: effects begin with Acquired on record only. The shell begins a step when the status that came with it is on record.
#[test]
fn l3_acquired_is_on_record_before_the_activation() {
    let mut scene = Scene::reach(State::Pending, "", "");
    scene.claimed = Some(0);
    let decision = scene.decide(at(10));
    assert_ne!(Some(&decision.status), scene.lease.status.as_ref(), "a write comes first");
    scene.pass(at(10));
    let decision = scene.pass(at(11));
    assert_eq!(kind(&decision), Some(StepKind::Activate));
    assert_eq!(decision.step.map(|order| order.step.key), Some(scene.key()));
    scene.answer(StepKind::Activate, Answer::Again(crate::api::step::Wait::after(crate::api::Duration::from_secs(1))));
    assert_eq!(short(&scene.pass(at(12)).status), "Acquired", "Active only when it has finished");
    scene.answer(StepKind::Activate, Answer::Failed(failure("NoRoute")));
    let decision = scene.pass(at(13));
    assert_eq!((short(&decision.status).as_str(), kind(&decision)), ("Acquired", Some(StepKind::Activate)));
    assert_eq!(decision.status.failure, Some(failure("NoRoute")), "the error is told, and it is tried again");
    scene.answer(StepKind::Activate, done());
    let status = scene.pass(at(14)).status;
    assert_eq!((short(&status).as_str(), status.failure), ("Active", None));
}

/// What an activation makes is the lease's: it is in its status, and what the teardown needs is kept.
#[test]
fn l3_the_facts_of_an_activation_are_the_leases() {
    let facts = Facts {
        interfaces: vec![yaml("name: ssh, type: ssh, address: 192.0.2.7, port: 22")],
        outputs: [("rack".to_owned(), "7".to_owned())].into(),
        built: Some(serde_json::json!({"driver": "hosts", "account": "ci-7"})),
        ..Facts::default()
    };
    let mut scene = Scene::reach(State::Acquired, "", "");
    scene.answer(StepKind::Activate, Answer::Done(facts.clone()));
    let status = scene.pass(at(20)).status;
    assert_eq!((status.interfaces, status.outputs, status.built), (facts.interfaces, facts.outputs, facts.built));
    let mut without = Scene::reach(State::Acquired, "", "");
    without.answer(StepKind::Activate, done());
    assert_eq!(without.pass(at(20)).status.built, Some(serde_json::json!({"driver": "hosts"})));
}

/// L4: where the only claim for its attempt is on a resource that is over, the attempt is raised; so that claim is void.
#[test]
fn l4_a_dead_claim_is_given_up() {
    for phase in [ResourcePhase::Released, ResourcePhase::Broken, ResourcePhase::Destroyed] {
        let mut scene = Scene::reach(State::Pending, "", "");
        scene.claimed = Some(0);
        scene.end_resource(phase, "Released");
        let status = scene.pass(at(10)).status;
        assert_eq!((short(&status).as_str(), status.attempt, status.returns), ("Pending", 1, 0), "{phase:?}");
        assert_eq!(scene.pass(at(11)).status.attempt, 1, "{phase:?}: once");
    }
    let mut other_attempt = Scene::reach(State::Pending, "", "");
    other_attempt.claimed = Some(3);
    other_attempt.end_resource(ResourcePhase::Released, "Released");
    assert_eq!(other_attempt.pass(at(10)).status.attempt, 0, "a claim of another attempt says nothing");
}

#[test]
fn l4_a_live_claim_beside_a_dead_one_is_taken_up() {
    let live = Scene::reach(State::Pending, "", "");
    let mut dead = live.clone();
    dead.end_resource(ResourcePhase::Released, "Released");
    let claims = [&dead, &live].map(|scene| Granted {
        resource: &scene.resource,
        blueprint: scene.blueprint.as_ref(),
        free: scene.free,
        intent: serde_json::json!({"driver": "hosts"}),
        attempt: 0,
    });
    let waiting = live.waiting.clone();
    let around = Surroundings {
        claims: claims.into(),
        bound: Bound::Unbound,
        waiting,
        reports: &[],
        observed: None,
        question: Question::Nobody,
        heartbeat_seen: None,
    };
    let status = decide(&live.lease, &around, at(10)).status;
    assert_eq!((short(&status).as_str(), status.attempt), ("Acquired", 0));
}

/// What L5 takes as evidence that the bound resource has died, and what not.
const EVIDENCE: [(&str, Sight, ResourcePhase, Option<&str>); 9] = [
    ("seen Active", Sight::Seen, ResourcePhase::Active, None),
    ("seen Pending", Sight::Seen, ResourcePhase::Pending, None),
    ("not in the cache", Sight::Absent, ResourcePhase::Active, None),
    ("not in the cache, but read", Sight::Confirmed, ResourcePhase::Active, None),
    ("gone by a quorum read", Sight::Gone, ResourcePhase::Active, Some("ResourceLost")),
    ("Released", Sight::Seen, ResourcePhase::Released, Some("ResourceReleased")),
    ("Destroyed", Sight::Seen, ResourcePhase::Destroyed, Some("ResourceReleased")),
    ("Broken", Sight::Seen, ResourcePhase::Broken, Some("ResourceLost")),
    ("read as Released", Sight::Confirmed, ResourcePhase::Released, Some("ResourceReleased")),
];

/// Absence is a reason to ask; and an activation asks in any case (L7).
fn asks(state: State, sight: Sight, lost: Option<&str>) -> bool {
    sight == Sight::Absent || (state == State::Acquired && sight == Sight::Seen && lost.is_none())
}

#[test]
fn l5_what_dies_under_an_acquired_or_an_active_lease() {
    for (name, sight, phase, lost) in EVIDENCE {
        for state in [State::Acquired, State::Active] {
            let mut scene = Scene::reach(state, "", "");
            scene.sight = sight;
            scene.end_resource(phase, "Released");
            // A claim that does not show is no evidence.
            scene.claimed = None;
            let asked = scene.decide(at(LATER)).reads.contains(&Read::BoundResource);
            assert_eq!(asked, asks(state, sight, lost), "{state:?}, the resource {name}");
            let after = short(&scene.pass(at(LATER)).status);
            let expected = match (state, lost) {
                (state, None) => format!("{state:?}"),
                (State::Acquired, Some(_)) => "Returning".into(),
                (_, Some(reason)) => format!("Released/{reason}/TearingDown"),
            };
            assert_eq!(after, expected, "{state:?}, the resource {name}");
        }
    }
}

/// L5: Returning on record, then the teardown, then back in the queue: attempt and returns raised, in one write.
#[test]
fn l5_the_way_back() {
    let mut scene = Scene::reach(State::Acquired, "", "");
    let key = scene.key();
    scene.end_resource(ResourcePhase::Released, "Expired");
    let decision = scene.pass(at(20));
    assert_eq!(short(&decision.status), "Returning");
    assert_eq!(decision.status.attempt, 0, "not before its teardown is done");
    assert!(decision.status.resource_ref.is_some());
    let decision = scene.pass(at(21));
    let order = decision.step.unwrap();
    assert_eq!((order.step.kind, &order.step.key), (StepKind::TearDownLease, &key));
    scene.answer(StepKind::TearDownLease, Answer::Failed(failure("NoRoute")));
    assert_eq!(short(&scene.pass(at(22)).status), "Returning", "not while it fails");
    scene.answer(StepKind::TearDownLease, done());
    let decision = scene.pass(at(30));
    let status = &decision.status;
    assert_eq!(short(status), "Pending");
    assert_eq!((status.attempt, status.returns, status.resource_ref.as_ref()), (1, 1, None));
    assert_eq!((status.acquired_at, status.activated_at, status.built.as_ref()), (None, None, None));
    assert_eq!(status.queue_ticket.as_deref(), Some("7"), "it keeps its place");
    assert_eq!(decision.step, None);
    // The claim that it came back from is void; the next one is for the next attempt.
    assert_eq!(short(&scene.pass(at(31)).status), "Pending");
    scene.end_resource(ResourcePhase::Active, "");
    assert_eq!(short(&scene.pass(at(32)).status), "Pending");
    scene.claimed = Some(1);
    assert_eq!(short(&scene.pass(at(33)).status), "Acquired");
}

/// Three activations in all, or as the Blueprint says; the last loss breaks it, so that its teardown runs once.
#[test]
fn l5_no_more_returns_than_attempts() {
    for (limits, attempts) in [("", 3), ("lease: {maxAttempts: 1}", 1), ("lease: {maxAttempts: 2}", 2)] {
        let mut scene = Scene::reach(State::Pending, "", limits);
        for attempt in 0..attempts {
            scene.end_resource(ResourcePhase::Active, "");
            scene.claimed = Some(attempt);
            scene.pass(at(100 * attempt + 100));
            assert_eq!(short(scene.status()), "Acquired", "{limits}, attempt {attempt}");
            scene.end_resource(ResourcePhase::Broken, "Lost");
            scene.pass(at(100 * attempt + 110));
            let last = attempt + 1 == attempts;
            let expected = if last { "Broken/AttemptsExhausted/TearingDown" } else { "Returning" };
            assert_eq!(short(scene.status()), expected, "{limits}, attempt {attempt}");
            scene.answer(StepKind::TearDownLease, done());
            scene.pass(at(100 * attempt + 120));
        }
        assert_eq!(short(scene.status()), "Destroyed/AttemptsExhausted/TornDown", "{limits}");
        assert_eq!(scene.status().returns, attempts - 1, "{limits}");
        assert!(scene.status().resource_ref.is_some(), "{limits}: the reference is kept");
    }
}

/// L7: after Acquired is on record and before the first call, the resource and its claim are read from the API server.
#[test]
fn l7_the_resource_is_read_before_the_activation() {
    let mut scene = Scene::reach(State::Acquired, "", "");
    for sight in [Sight::Seen, Sight::Absent] {
        scene.sight = sight;
        let decision = scene.decide(at(LATER));
        assert!(decision.reads.contains(&Read::BoundResource), "{sight:?}");
        assert_eq!(decision.step, None, "{sight:?}");
    }
    scene.sight = Sight::Confirmed;
    let decision = scene.decide(at(LATER));
    assert_eq!((decision.reads.len(), kind(&decision)), (0, Some(StepKind::Activate)));
    assert_eq!(Some(decision.status), scene.lease.status, "one read, no write");
    let mut free = scene.clone();
    free.free = FreeSteps::ALL;
    free.sight = Sight::Seen;
    assert_eq!(free.decide(at(LATER)).reads, [], "nothing outside can be begun");
}

/// L8: what waits had begun nothing: over and destroyed in one write, and no hook is called.
#[test]
fn l8_what_waits_is_over_in_one_write() {
    let ends: [(&str, Happens); 3] = [
        ("Released", |scene| scene.lease.spec.commands.push(command("c", "Release"))),
        ("Deleted", |scene| delete(&mut scene.lease.metadata)),
        ("Expired", |scene| scene.lease.spec.expires_at = Some(at(5))),
    ];
    for (reason, end) in ends {
        for claimed in [None, Some(0)] {
            let mut scene = Scene::reach(State::Pending, "", "");
            scene.claimed = claimed;
            end(&mut scene);
            let decision = scene.pass(at(10));
            let status = &decision.status;
            assert_eq!(short(status), format!("Destroyed/{reason}/NothingToTearDown"));
            assert_eq!((status.released_at, status.destroyed_at), (Some(at(10)), Some(at(10))), "{reason}");
            assert_eq!((status.resource_ref.as_ref(), decision.step), (None, None), "{reason}");
        }
    }
}

/// L8, L9: the teardown begins with Released on record, and only its being done destroys the lease, reference kept.
#[test]
fn l9_destroyed_only_after_the_teardown() {
    for state in [State::Acquired, State::Returning, State::Active, State::Broken] {
        let mut scene = Scene::reach(state, "", "");
        let key = scene.key();
        if state != State::Broken {
            let before = scene.lease.status.clone();
            let decision = scene.append(&["Release"], at(LATER));
            assert_ne!(Some(&decision.status), before.as_ref(), "{state:?}: Released is written first");
        }
        for answer in [
            Answer::Failed(failure("NoRoute")),
            Answer::Again(crate::api::step::Wait::after(crate::api::Duration::from_secs(1))),
        ] {
            scene.answer(StepKind::TearDownLease, answer);
            let decision = scene.pass(at(50));
            assert_ne!(decision.status.phase(), LeasePhase::Destroyed, "{state:?}");
            assert_eq!(decision.step.unwrap().step, Step { kind: StepKind::TearDownLease, key: key.clone() });
        }
        assert_eq!(scene.status().failure, Some(failure("NoRoute")), "{state:?}: the driver's error shows");
        scene.answer(StepKind::TearDownLease, done());
        let decision = scene.pass(at(60));
        assert_eq!(decision.status.phase(), LeasePhase::Destroyed, "{state:?}: it recovers by itself");
        assert_eq!(decision.status.resource_ref.map(|r| r.uid), Some(key.resource), "{state:?}");
        assert_eq!(decision.metadata, None, "{state:?}: the finalizer goes when Destroyed is on record");
        assert_eq!(scene.decide(at(61)).metadata, Some(MetadataChange::RemoveFinalizer), "{state:?}");
    }
}

/// Answers to other keys, and to other steps, are not this lease's.
#[test]
fn d1_only_answers_to_its_own_key_count() {
    let mut scene = Scene::reach(State::TearingDown, "", "");
    let own = scene.key();
    let other_attempt = EffectKey { lease: own.lease.clone().map(|(uid, n)| (uid, n + 1)), ..own.clone() };
    let other_resource = EffectKey { resource: "another".into(), ..own.clone() };
    for (key, kind) in
        [(other_attempt, StepKind::TearDownLease), (other_resource, StepKind::TearDownLease), (own, StepKind::Activate)]
    {
        scene.reports = vec![Report { step: Step { kind, key }, answer: done(), failures: 0, retry_at: None }];
        assert_eq!(short(&scene.pass(at(LATER)).status), "Released/Released/TearingDown");
    }
}

/// Story 46: all in one instant: one teardown, one reason, the first of the pass.
#[test]
fn everything_at_once_is_one_release() {
    let mut scene = Scene::reach(State::Active, "ttl: 1h", "");
    delete(&mut scene.lease.metadata);
    scene.end_resource(ResourcePhase::Released, "Released");
    let decision = scene.append(&["Release"], at(2 * HOUR));
    assert_eq!(short(&decision.status), "Released/Released/TearingDown");
    assert_eq!(decision.events.iter().filter(|e| e.reason == "Released").count(), 1);
    assert_eq!(kind(&decision), Some(StepKind::TearDownLease));
    let without_the_command = {
        let mut scene = Scene::reach(State::Active, "ttl: 1h", "");
        delete(&mut scene.lease.metadata);
        scene.end_resource(ResourcePhase::Released, "Released");
        short(&scene.pass(at(2 * HOUR)).status)
    };
    assert_eq!(without_the_command, "Released/Deleted/TearingDown");
}

/// Whoever has the right can write a status by hand. A lease that names no resource by then has lost none that could be told:
/// it lives until its own clocks, and is torn down.
#[test]
fn who_names_no_resource_lives_until_its_own_clocks() {
    for (state, then) in [
        (State::Acquired, "Broken/ActivationTimeout/TearingDown"),
        (State::Active, "Released/Expired/TearingDown"),
        (State::Holding, "Released/Released/TearingDown"),
    ] {
        let mut scene = Scene::reach(state, "ttl: 1h", "");
        scene.status_mut().resource_ref = None;
        let (before, phase) = (scene.status().phase, scene.decide(at(LATER)).status.phase);
        assert_eq!(phase, before, "{state:?}");
        assert_eq!(short(&scene.pass(at(DAY)).status), then, "{state:?}");
    }
}
