//! The conditions and deadlines of a lease, column by column of the table in api.md section 4.

use super::*;

#[track_caller]
fn assert_told(status: &LeaseStatus, expected: [&str; 5]) {
    let [acquired, ready, released, torn_down, settled] = expected;
    let expected = [
        format!("Acquired={acquired}"),
        format!("Ready={ready}"),
        format!("Released={released}"),
        format!("Settled={settled}"),
        format!("TornDown={torn_down}"),
    ];
    assert_eq!(told(&status.conditions), expected);
}

const NOT_RELEASED: &str = "False/NotReleased";
const ACQUIRED: &str = "True/Acquired";

#[test]
fn pending_says_what_is_missing() {
    for rung in [
        Rung::NoMatchingBlueprint,
        Rung::NotAuthorized,
        Rung::Suspended,
        Rung::Draining,
        Rung::NoHostEnabled,
        Rung::AtCapacity,
        Rung::BuildFailing,
        Rung::Building,
    ] {
        let mut scene = Scene::new("", "");
        scene.waiting.rung = rung;
        scene.waiting.message = "one clause".into();
        let status = scene.pass(at(1)).status;
        let acquired = format!("False/{}", rung.as_str());
        assert_told(&status, [&acquired, "False/Waiting", NOT_RELEASED, "False/InUse", "False/Waiting"]);
        assert_eq!(reason_and_message(&status.conditions, "Acquired").1, "one clause");
    }
}

#[test]
fn on_the_way_to_active() {
    assert_told(
        Scene::reach(State::Acquired, "", "").status(),
        [ACQUIRED, "False/Activating", NOT_RELEASED, "False/InUse", "False/Activating"],
    );
    assert_told(
        Scene::reach(State::Active, "", "").status(),
        [ACQUIRED, "True/Active", NOT_RELEASED, "False/InUse", "True/Active"],
    );
}

/// On its way back it is torn down as a released lease is.
#[test]
fn on_the_way_back() {
    let returning = |torn_down| [ACQUIRED, "False/Returning", NOT_RELEASED, torn_down, "False/Returning"];
    let mut scene = Scene::reach(State::Returning, "", "");
    assert_told(scene.status(), returning("False/TearingDown"));
    scene.answer(StepKind::TearDownLease, Answer::Failed(failure("NoRoute")));
    scene.pass(at(30));
    assert_told(scene.status(), returning("False/TeardownFailed"));
    scene.answer(StepKind::TearDownLease, done());
    scene.pass(at(LATER));
    assert_told(scene.status(), ["False/AtCapacity", "False/Waiting", NOT_RELEASED, "False/InUse", "False/Waiting"]);
}

/// How a lease can be released, and what it then shows: what it had acquired is as it was.
#[test]
fn released_says_why() {
    let happens: [(&str, State, Happens); 6] = [
        ("Released", State::Active, |scene| scene.lease.spec.commands.push(command("c", "Release"))),
        ("Expired", State::Active, |scene| scene.lease.spec.expires_at = Some(at(0))),
        ("Deleted", State::Active, |scene| delete(&mut scene.lease.metadata)),
        ("ResourceReleased", State::Active, |scene| scene.end_resource(ResourcePhase::Released, "Released")),
        ("ResourceLost", State::Active, |scene| scene.end_resource(ResourcePhase::Broken, "Lost")),
        ("Released", State::Acquired, |scene| scene.lease.spec.commands.push(command("c", "Release"))),
    ];
    for (reason, state, happens) in happens {
        let mut scene = Scene::reach(state, "", "");
        happens(&mut scene);
        scene.pass(at(LATER));
        let (not, yes) = (format!("False/{reason}"), format!("True/{reason}"));
        assert_told(scene.status(), [ACQUIRED, &not, &yes, "False/TearingDown", &yes]);
        for (answer, shown) in [
            (Answer::Failed(failure("NoRoute")), "False/TeardownFailed"),
            (Answer::Failed(failure("TeardownTimeout")), "False/TeardownTimeout"),
            (Answer::Failed(failure("CredentialsGone")), "False/CredentialsGone"),
            (Answer::FailedForGood(failure("NoRoute")), "False/TeardownFailed"),
        ] {
            scene.answer(StepKind::TearDownLease, answer);
            scene.pass(at(50));
            assert_told(scene.status(), [ACQUIRED, &not, &yes, shown, &yes]);
        }
        scene.answer(StepKind::TearDownLease, done());
        scene.pass(at(60));
        assert_told(scene.status(), [ACQUIRED, &not, &yes, "True/TornDown", &yes]);
    }
}

/// A lease that has waited in vain: what it was missing stays in `Acquired`.
#[test]
fn released_while_it_waited() {
    for (reason, spec) in [("QueueTimeout", "queueTimeout: 1s"), ("Expired", "expiresAt: '2026-11-23T10:00:20Z'")] {
        for mut scene in [Scene::reach(State::Pending, spec, ""), Scene::new(spec, "")] {
            scene.pass(at(LATER));
            let (not, yes) = (format!("False/{reason}"), format!("True/{reason}"));
            assert_told(scene.status(), ["False/AtCapacity", &not, &yes, "True/NothingToTearDown", &yes]);
        }
    }
}

#[test]
fn a_hold_shows() {
    assert_told(
        Scene::reach(State::Holding, "", "").status(),
        [ACQUIRED, "False/Released", "True/Released", "False/Held", "True/Released"],
    );
}

#[test]
fn broken_says_why() {
    let exhausted = {
        let mut scene = Scene::reach(State::Acquired, "", "lease: {maxAttempts: 1}");
        scene.end_resource(ResourcePhase::Released, "Released");
        scene.pass(at(20));
        scene
    };
    let late = {
        let mut scene = Scene::reach(State::Acquired, "", "lease: {activationTimeout: 1s}");
        scene.pass(at(20));
        scene
    };
    for (reason, mut scene) in
        [("Failed", Scene::reach(State::Broken, "", "")), ("AttemptsExhausted", exhausted), ("ActivationTimeout", late)]
    {
        let yes = format!("True/{reason}");
        assert_told(scene.status(), [ACQUIRED, "False/Failed", &yes, "False/TearingDown", &yes]);
        scene.answer(StepKind::TearDownLease, done());
        scene.pass(at(LATER));
        assert_told(scene.status(), [ACQUIRED, "False/Failed", &yes, "True/TornDown", &yes]);
    }
}

/// A driver without effects takes several arrows in one write: the conditions and times of all of them are set.
#[test]
fn phases_that_are_passed_through_leave_their_conditions_and_times() {
    let mut scene = Scene::free("ttl: 1h", "");
    scene.claimed = Some(0);
    let status = scene.pass(at(1)).status;
    assert_told(&status, [ACQUIRED, "True/Active", NOT_RELEASED, "False/InUse", "True/Active"]);
    assert_eq!((status.acquired_at, status.activated_at), (Some(at(1)), Some(at(1))));
    let status = scene.append(&["Release"], at(LATER)).status;
    assert_told(&status, [ACQUIRED, "False/Released", "True/Released", "True/TornDown", "True/Released"]);
    assert_eq!((status.released_at, status.destroyed_at), (Some(at(LATER)), Some(at(LATER))));
}

/// The last change of a condition has its time, and only that.
#[test]
fn the_time_of_a_condition_is_that_of_its_last_change() {
    let mut scene = Scene::reach(State::Active, "", "");
    scene.append(&["Release"], at(LATER));
    let since = |type_: &str| {
        let condition = conditions::get(&scene.status().conditions, type_).unwrap();
        condition.last_transition_time.0.duration_since(at(0).timestamp()).as_secs()
    };
    assert_eq!(["Acquired", "Ready", "Released", "TornDown", "Settled"].map(since), [10, 40, 40, 1, 20]);
}

/// Which clocks run in which state.
#[test]
fn the_deadlines_of_each_state() {
    for (state, expected) in STATES.into_iter().zip([
        &["Lifetime +9h", "Queue +10m1s"][..],
        &["Lifetime +9h", "Activation +10m10s"],
        &["Lifetime +9h", "Teardown +15m20s"],
        &["Lifetime +1h20s"],
        &["Hold +20m30s"],
        &["Teardown +15m30s"],
        &["Teardown +15m33s"],
        &["Teardown +15m20s"],
        &["Teardown +15m33s"],
        &["Finished +1h32s"],
    ]) {
        let spec = "ttl: 1h, expiresAt: '2026-11-23T19:00:00Z', queueTimeout: 10m";
        assert_eq!(clocks(&Scene::reach(state, spec, "").status().deadlines), expected, "{state:?}");
    }
    let reasons: Vec<_> = STATES
        .into_iter()
        .flat_map(|state| Scene::reach(state, "ttl: 1h, queueTimeout: 10m", "").status().deadlines.clone())
        .map(|d| format!("{:?} {}", d.name, d.reason))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(
        reasons,
        [
            "Activation ActivationTimeout",
            "Finished Finished",
            "Hold HoldEnded",
            "Lifetime Expired",
            "Queue QueueTimeout",
            "Teardown TeardownTimeout"
        ]
    );
}

/// Of Normal events only these three; everything else that is told by an event is a Warning.
#[test]
fn the_events_of_a_life() {
    let mut scene = Scene::free("", "");
    scene.claimed = Some(0);
    let mut told = Vec::new();
    let decisions = [scene.pass(at(1)), scene.pass(at(2)), scene.append(&["Release"], at(LATER)), scene.pass(at(50))];
    for event in decisions.into_iter().flat_map(|decision| decision.events) {
        assert_eq!(event.kind, EventKind::Normal);
        told.push(event.reason);
    }
    assert_eq!(told, ["Active", "Released", "Destroyed"]);
    let mut broken = Scene::reach(State::Acquired, "", "");
    broken.answer(StepKind::Activate, Answer::FailedForGood(failure("NoRoute")));
    let told: Vec<_> = broken.pass(at(20)).events.into_iter().map(|e| (e.kind, e.reason)).collect();
    assert_eq!(told, [(EventKind::Warning, "Failed".to_owned())]);
}

/// The ticket is written with the first status write that a waiter gets anyway, and stays.
#[test]
fn place_and_ticket_are_those_of_a_waiter() {
    let mut scene = Scene::new("", "");
    scene.pass(at(1));
    assert_eq!((scene.status().queue_ticket.as_deref(), scene.status().queue_position), (Some("7"), Some(1)));
    scene.lease.metadata.resource_version = Some("9".into());
    scene.waiting.place = None;
    scene.pass(at(2));
    assert_eq!((scene.status().queue_ticket.as_deref(), scene.status().queue_position), (Some("7"), None));
    for state in [State::Acquired, State::TearingDown, State::Destroyed] {
        assert_eq!(Scene::reach(state, "", "").status().queue_position, None, "{state:?}");
    }
    let mut at_once = Scene::free("", "");
    at_once.claimed = Some(0);
    assert_eq!(at_once.pass(at(1)).status.queue_ticket, None, "one served at once needs none");
}
