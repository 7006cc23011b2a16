//! Claims: when one is granted, when one is dropped, and what goes into one write (protocol.md, R3 to R6).

use super::*;

fn offered(name: &str, blueprint_spec: &str) -> Scene {
    let mut scene = Scene::reach(State::Idle, "", blueprint_spec);
    scene.candidates = vec![candidate(name, 0)];
    scene
}

#[test]
fn r3_a_claim_is_the_lease_and_its_attempt() {
    let mut scene = Scene::reach(State::Idle, "", "");
    scene.candidates = vec![candidate("l", 4)];
    let decision = scene.pass(at(LATER));
    let expected =
        Claim { namespace: "team".into(), name: "l".into(), uid: "uid-of-l".into(), attempt: 4, since: at(LATER) };
    assert_eq!(decision.status.claims, [expected]);
    assert_eq!((decision.status.idle_since, decision.urgency), (None, Urgency::Soon));
    assert_eq!(decision.reads, [], "the lease cache may be of any age");
}

/// R3: each condition left out in turn grants nothing.
#[test]
fn r3_each_condition_left_out_grants_nothing() {
    let changes: [(&str, Happens); 14] = [
        ("it is not built yet", |scene| *scene = Scene { candidates: scene.candidates.clone(), ..Scene::new("", "") }),
        ("it is deleted", |scene| delete(&mut scene.resource.metadata)),
        ("a Release is in the queue", |scene| scene.resource.spec.commands.push(command("c", "Release"))),
        ("a Reclaim is in the queue", |scene| scene.resource.spec.commands.push(command("c", "Reclaim"))),
        ("an end in the past is in the queue", |scene| {
            scene.resource.spec.commands.push(command("c", "Expires, after: 0s"));
        }),
        ("its end has come", |scene| scene.resource.spec.expires_at = Some(at(HOUR))),
        ("its Blueprint is suspended", |scene| scene.blueprint.spec.suspend = true),
        ("its Blueprint is deleted", |scene| delete(&mut scene.blueprint.metadata)),
        ("its Blueprint is gone", |scene| scene.sight = Sight::Gone),
        ("its slot is disabled", |scene| scene.slot = SlotState::Disabled),
        ("its entry has changed", |scene| scene.slot = SlotState::Outdated),
        ("it is full", |scene| {
            scene.grant("other", at(LATER));
            scene.candidates = vec![candidate("l", 0)];
        }),
        ("it has served", |scene| {
            scene.blueprint.spec.lease.recycle = Recycle::Destroy;
            scene.status_mut().served = true;
        }),
        ("nobody waits", |scene| scene.candidates.clear()),
    ];
    assert_eq!(short(&offered("l", "").pass(at(HOUR)).status), "Active [l]", "with all of them it is granted");
    for (name, change) in changes {
        let mut scene = offered("l", "");
        change(&mut scene);
        let decision = scene.pass(at(HOUR));
        assert!(!short(&decision.status).contains(" [l]"), "{name}: {}", short(&decision.status));
    }
    let unseen = Scene { sight: Sight::Absent, ..offered("l", "") }.decide(at(HOUR));
    assert_eq!((short(&unseen.status).as_str(), unseen.reads), ("Active", vec![Read::Blueprint]));
    for state in [State::Waiting, State::TearingDown, State::Broken, State::Destroyed] {
        let mut over = Scene::reach(state, "", "");
        let before = over.status().claims.clone();
        over.candidates = vec![candidate("late", 0)];
        assert_eq!(over.pass(at(HOUR)).status.claims, before, "{state:?}");
    }
}

/// Many grants on a shared resource are one write, first in order first; what it holds already is not granted twice.
#[test]
fn a_shared_resource_holds_as_many_as_it_may() {
    let mut scene = Scene::reach(State::Idle, "", "limits: {leasesPerResource: 3}");
    scene.candidates = ["a", "b", "a", "c", "d"].map(|name| candidate(name, 0)).into();
    assert_eq!(short(&scene.pass(at(LATER)).status), "Active [a b c]");
    assert_eq!(scene.status().capacity, 3);
    scene.see("b", LeasePhase::Destroyed, 0, None);
    scene.candidates = vec![candidate("a", 0), candidate("d", 0), candidate("e", 0)];
    scene.see("a", LeasePhase::Active, 0, Some("uid-of-ci--h1"));
    scene.see("c", LeasePhase::Active, 0, Some("uid-of-ci--h1"));
    assert_eq!(short(&scene.pass(at(50)).status), "Active [a c d]");
    scene.blueprint.spec.limits.leases_per_resource = 1;
    scene.see("d", LeasePhase::Active, 0, Some("uid-of-ci--h1"));
    scene.candidates = vec![candidate("e", 0)];
    assert_eq!(short(&scene.pass(at(60)).status), "Active [a c d]", "what was granted stays; nothing more is");
}

/// R4a, R4b: what ends a claim for the attempt 2, and what does not, whatever else happens to the resource.
#[test]
fn r4_only_the_lease_ends_a_claim() {
    use LeasePhase::{Acquired, Active, Broken, Destroyed, Pending, Released};
    let (here, elsewhere) = (Some("uid-of-ci--h1"), Some("uid-of-another"));
    for (phase, attempt, bound_to, ends) in [
        (Destroyed, 2, here, true),
        (Destroyed, 2, None, true),
        (Destroyed, 0, elsewhere, true),
        (Pending, 3, None, true),
        (Acquired, 3, here, true),
        (Acquired, 2, elsewhere, true),
        (Active, 2, elsewhere, true),
        (Released, 2, elsewhere, true),
        (Acquired, 1, elsewhere, false),
        (Pending, 2, None, false),
        (Pending, 0, None, false),
        (Acquired, 2, here, false),
        (Active, 2, here, false),
        (Released, 2, here, false),
        (Broken, 2, here, false),
    ] {
        for state in [State::Leased, State::Waiting] {
            let mut scene = Scene::reach(state, "", "");
            scene.status_mut().claims[0].attempt = 2;
            scene.see("l", phase, attempt, bound_to);
            let claims = scene.pass(at(DAY)).status.claims;
            assert_eq!(claims.is_empty(), ends, "{state:?}, lease {phase:?}, attempt {attempt}, bound to {bound_to:?}");
        }
    }
}

/// R4: never because this resource is dying, whatever it dies of, and never because of time.
#[test]
fn r4_a_dying_resource_keeps_its_claims() {
    let changes: [(&str, Happens); 6] = [
        ("Release", |scene| scene.resource.spec.commands.push(command("c", "Release"))),
        ("deletion", |scene| delete(&mut scene.resource.metadata)),
        ("its end", |scene| scene.resource.spec.expires_at = Some(at(0))),
        ("the Blueprint's deletion", |scene| delete(&mut scene.blueprint.metadata)),
        ("the Blueprint's being gone", |scene| scene.sight = Sight::Gone),
        ("a disabled entry", |scene| scene.slot = SlotState::Disabled),
    ];
    for (name, change) in changes {
        for phase in [LeasePhase::Pending, LeasePhase::Acquired, LeasePhase::Active, LeasePhase::Released] {
            let mut scene = Scene::reach(State::Leased, "", "");
            scene.see("l", phase, 0, (phase != LeasePhase::Pending).then_some("uid-of-ci--h1"));
            change(&mut scene);
            scene.pass(at(LATER));
            let decision = scene.pass(at(DAY));
            assert!(short(&decision.status).ends_with("[l]"), "{name}, lease {phase:?}");
            assert_eq!(decision.step, None, "{name}: and nothing is torn down under it");
        }
    }
}

/// R4c: absent from the cache is a reason to ask; gone by a quorum read is half of it; the other half is its teardown.
#[test]
fn r4c_what_a_vanished_lease_left_is_torn_down_first() {
    for state in [State::Leased, State::Waiting] {
        let mut scene = Scene::reach(state, "", "");
        scene.status_mut().claims[0].attempt = 2;
        let before = scene.status().clone();
        scene.leases.clear();
        let decision = scene.decide(at(LATER));
        assert_eq!(decision.reads, [Read::ClaimedLease { uid: "uid-of-l".into() }], "{state:?}");
        assert_eq!(decision.status.claims, before.claims, "{state:?}");
        scene.leases.insert("uid-of-l".into(), Holder::Gone);
        let decision = scene.pass(at(LATER));
        assert_eq!(decision.status.claims, before.claims, "{state:?}: not before it is torn down");
        let order = decision.step.unwrap();
        let key = EffectKey { resource: "uid-of-ci--h1".into(), lease: Some(("uid-of-l".into(), 2)) };
        assert_eq!(order.step, Step { kind: StepKind::TearDownLease, key: key.clone() }, "{state:?}");
        for (answer, dropped) in [
            (Answer::Again(crate::api::step::Wait::after(crate::api::Duration::from_secs(1))), false),
            (Answer::Failed(failure("NoRoute")), false),
            (Answer::FailedForGood(failure("NoRoute")), false),
            (done(), true),
        ] {
            scene.reports = vec![Report { step: order.step.clone(), answer, failures: 1, retry_at: None }];
            assert_eq!(scene.pass(at(50)).status.claims.is_empty(), dropped, "{state:?}");
        }
    }
    let mut other_key = Scene::reach(State::Leased, "", "");
    other_key.leases.insert("uid-of-l".into(), Holder::Gone);
    let key = EffectKey { resource: "uid-of-ci--h1".into(), lease: Some(("uid-of-l".into(), 1)) };
    let step = Step { kind: StepKind::TearDownLease, key };
    other_key.reports = vec![Report { step, answer: done(), failures: 0, retry_at: None }];
    assert_eq!(other_key.pass(at(LATER)).status.claims.len(), 1, "an answer for another attempt is none");
}

/// R4c: one that is there and cannot be read is not gone, and asking again in this pass would not help.
#[test]
fn r4c_the_claim_of_a_lease_that_cannot_be_read_stays() {
    for state in [State::Leased, State::Waiting] {
        let mut scene = Scene::reach(state, "", "");
        scene.leases.insert("uid-of-l".into(), Holder::Unreadable);
        let decision = scene.decide(at(DAY));
        assert_eq!((&decision.status.claims, decision.reads), (&scene.status().claims, vec![]), "{state:?}");
        assert_eq!(decision.step, None, "{state:?}: nothing of it is torn down");
    }
}

/// Several vanished leases are torn down one after the other; without effects outside in one write.
#[test]
fn r4c_one_teardown_at_a_time() {
    let mut scene = Scene::reach(State::Idle, "", "limits: {leasesPerResource: 3}");
    scene.candidates = ["a", "b", "c"].map(|name| candidate(name, 0)).into();
    scene.pass(at(20));
    scene.candidates.clear();
    for name in ["a", "c"] {
        scene.leases.insert(format!("uid-of-{name}"), Holder::Gone);
    }
    scene.see("b", LeasePhase::Active, 0, Some("uid-of-ci--h1"));
    let mut free = Scene { free: FreeSteps::ALL, ..scene.clone() };
    assert_eq!(short(&free.pass(at(30)).status), "Active [b]");
    let order = scene.pass(at(30)).step.unwrap();
    assert_eq!(order.step.key.lease, Some(("uid-of-a".into(), 0)));
    scene.reports = vec![Report { step: order.step, answer: done(), failures: 0, retry_at: None }];
    let decision = scene.pass(at(31));
    assert_eq!(short(&decision.status), "Active [b c]");
    assert_eq!(decision.step.unwrap().step.key.lease, Some(("uid-of-c".into(), 0)));
}

/// A teardown of what a vanished lease left that fails is told as any other is, and can be written off as any other.
#[test]
fn r4c_a_teardown_that_fails_is_told() {
    let mut scene = Scene::reach(State::Leased, "", "");
    scene.leases.insert("uid-of-l".into(), Holder::Gone);
    let step = scene.pass(at(LATER)).step.unwrap().step;
    scene.reports = vec![Report { step, answer: Answer::Failed(failure("NoRoute")), failures: 1, retry_at: None }];
    let decision = scene.pass(at(50));
    assert_eq!(decision.status.failure, Some(failure("NoRoute")));
    let warned = decision.events.iter().filter(|e| e.kind == EventKind::Warning).map(|e| e.reason.as_str());
    assert_eq!(warned.collect::<Vec<_>>(), ["TeardownFailed"]);
    assert!(scene.pass(at(51)).events.is_empty(), "once");
    let decision = scene.append(&["Forget", "Release"], at(60));
    assert_eq!(decision.status.commands[0].outcome, crate::api::Outcome::Refused, "not what is Active");
    assert_eq!(short(&decision.status), "Released/Released/TeardownFailed [l]");
    let mut recovered = scene.clone();
    recovered.reports[0].answer = done();
    assert_eq!(short(&recovered.pass(at(61)).status), "Released/Released/TearingDown");
    assert_eq!(short(&recovered.append(&["Forget"], at(62)).status), "Released/Released/TearingDown", "not failed yet");
    let mut held = scene.clone();
    held.status_mut().claims.push(Claim {
        uid: "uid-of-m".into(),
        name: "m".into(),
        ..scene.status().claims[0].clone()
    });
    held.see("m", LeasePhase::Released, 0, Some("uid-of-ci--h1"));
    let decision = held.append(&["Forget"], at(61));
    assert_eq!(decision.status.commands[2].outcome, crate::api::Outcome::Refused, "not under a lease that is there");
    let decision = scene.append(&["Forget"], at(61));
    assert_eq!(decision.status.commands[2].outcome, crate::api::Outcome::Applied);
    assert_eq!((decision.status.phase(), decision.step), (ResourcePhase::Destroyed, None));
}

/// R5: the grant sets `served`, and the write that drops the last claim also sets Released.
#[test]
fn r5_with_recycle_destroy_it_serves_once() {
    // The CRD wants one lease a resource with it; a Blueprint from before that rule gets no more either.
    let mut scene = Scene::reach(State::Idle, "", "lease: {recycle: Destroy}, limits: {leasesPerResource: 3}");
    scene.candidates = vec![candidate("l", 0), candidate("m", 0)];
    let status = scene.pass(at(20)).status;
    assert_eq!((short(&status).as_str(), status.served), ("Active [l]", true));
    scene.candidates = vec![candidate("m", 0)];
    scene.leases_end();
    assert_eq!(short(&scene.pass(at(30)).status), "Released/Released/TearingDown");
    let mut reused = Scene::reach(State::Leased, "", "");
    reused.leases_end();
    assert_eq!((short(&reused.pass(at(LATER)).status).as_str(), reused.status().served), ("Active", false));
}

/// R5: also where the Blueprint has become Reuse since: its lease was promised that nobody comes after it.
#[test]
fn r5_what_was_leased_under_destroy_is_destroyed_whatever_the_blueprint_says_later() {
    let mut scene = Scene::reach(State::Idle, "", "lease: {recycle: Destroy}");
    scene.grant("l", at(20));
    scene.blueprint.spec.lease.recycle = Recycle::Reuse;
    scene.blueprint.spec.limits.leases_per_resource = 2;
    scene.candidates = vec![candidate("m", 0)];
    scene.see("l", LeasePhase::Active, 0, Some("uid-of-ci--h1"));
    assert_eq!(short(&scene.pass(at(30)).status), "Active [l]", "nobody comes beside it");
    scene.leases_end();
    assert_eq!(short(&scene.pass(at(LATER)).status), "Released/Released/TearingDown", "nor after it");
}

/// A limit that is raised counts for resources that are built afterwards; for a host once nobody holds it.
#[test]
fn a_raised_limit_counts_for_resources_that_are_built_afterwards() {
    let hosts = |limit: i64| blueprint(&format!("limits: {{leasesPerResource: {limit}}}"));
    let objects = |limit: i64| {
        let mut blueprint = hosts(limit);
        blueprint.spec.driver =
            crate::api::blueprint::Driver { objects: Some(Default::default()), ..Default::default() };
        blueprint
    };
    assert!(hosts(1).spec.driver.hosts.is_some());
    // Its Blueprint, the capacity that is recorded, how many claims hold it; its capacity.
    for (blueprint, recorded, held, expected) in [
        (objects(3), 0, 0, 3),
        (objects(3), 1, 1, 1),
        (objects(3), 1, 0, 1),
        (objects(3), 3, 2, 3),
        (objects(2), 3, 3, 2),
        (hosts(3), 1, 1, 1),
        (hosts(3), 1, 0, 3),
        (hosts(2), 3, 0, 2),
        (hosts(2), 3, 3, 2),
    ] {
        let limit = blueprint.spec.limits.leases_per_resource;
        let driver = if blueprint.spec.driver.hosts.is_some() { "hosts" } else { "objects" };
        let what = format!("{driver}, limit {limit}, recorded {recorded}, held {held}");
        assert_eq!(pool::capacity(&blueprint, recorded, held), expected, "{what}");
        let mut resource = Scene::reach(State::Idle, "", "").resource;
        resource.status.get_or_insert_default().capacity = recorded;
        let room = usize::try_from(expected).unwrap().saturating_sub(held);
        assert_eq!(pool::room(&resource, &blueprint, SlotState::Current, held), room, "{what}");
    }
}

/// A limit that is raised lets nobody in beside who holds the resource.
#[test]
fn a_raised_limit_lets_nobody_in_beside_a_lease_that_was_alone() {
    let mut scene = Scene::reach(State::Leased, "", "");
    scene.pass(at(20));
    scene.blueprint.spec.limits.leases_per_resource = 2;
    scene.see("l", LeasePhase::Active, 0, Some("uid-of-ci--h1"));
    scene.candidates = vec![candidate("m", 0), candidate("n", 0)];
    let status = scene.pass(at(30)).status;
    assert_eq!((short(&status).as_str(), status.capacity), ("Active [l]", 1));
    scene.leases_end();
    let status = scene.pass(at(LATER)).status;
    assert_eq!((short(&status).as_str(), status.capacity), ("Active [m n]", 2), "a host that nobody holds");
}

/// Release of one lease and grant to the next are one write.
#[test]
fn a_drop_and_the_next_grant_are_one_write() {
    let mut scene = Scene::reach(State::Leased, "", "");
    scene.leases_end();
    scene.candidates = vec![candidate("m", 0)];
    let decision = scene.pass(at(LATER));
    assert_eq!((short(&decision.status).as_str(), decision.urgency), ("Active [m]", Urgency::Now));
    assert_eq!(decision.status.idle_since, None);
    // Also of a later attempt of the same lease.
    let mut again = Scene::reach(State::Leased, "", "");
    again.see("l", LeasePhase::Pending, 1, None);
    again.candidates = vec![candidate("l", 1)];
    assert_eq!(short(&again.pass(at(LATER)).status), "Active [l@1]");
    // But not while the claim of an earlier attempt is not seen to have ended.
    let mut early = Scene::reach(State::Leased, "", "limits: {leasesPerResource: 2}");
    early.candidates = vec![candidate("l", 1)];
    assert_eq!(short(&early.pass(at(LATER)).status), "Active [l]");
}

/// R6: nothing is appended to leases; grants just stop, and the claims stay until the leases have ended by themselves.
/// Story 8.
#[test]
fn r6_a_released_resource_waits_for_its_leases() {
    let mut scene = Scene::reach(State::Idle, "", "limits: {leasesPerResource: 3}");
    scene.candidates = ["a", "b", "c"].map(|name| candidate(name, 0)).into();
    scene.pass(at(20));
    scene.candidates = vec![candidate("d", 0)];
    for name in ["a", "b", "c"] {
        scene.see(name, LeasePhase::Released, 0, Some("uid-of-ci--h1"));
    }
    let decision = scene.append(&["Release"], at(30));
    assert_eq!(short(&decision.status), "Released/Released/WaitingForLeases [a b c]");
    assert_eq!(reason_and_message(&decision.status.conditions, "TornDown").1, "it is held by 3 still");
    for (name, left) in [("b", "[a c]"), ("a", "[c]")] {
        scene.see(name, LeasePhase::Destroyed, 0, Some("uid-of-ci--h1"));
        assert_eq!(short(&scene.pass(at(LATER)).status), format!("Released/Released/WaitingForLeases {left}"));
    }
    scene.see("c", LeasePhase::Destroyed, 0, Some("uid-of-ci--h1"));
    let decision = scene.pass(at(50));
    assert_eq!(short(&decision.status), "Released/Released/TearingDown");
    assert_eq!(decision.step.map(|order| order.step.kind), Some(StepKind::TearDownResource));
}
