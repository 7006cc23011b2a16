//! The lease's half of the table of api.md section 2: each command in each phase, its outcome and its effect.

use super::*;
use crate::{
    api::{Outcome, command::LEDGER_LIMIT},
    lifecycle::commands::OVER_ALREADY,
};

/// The command is consumed at 40 s; the states are in the order of [`STATES`]. `=` is the state as it was.
#[test]
fn each_command_in_each_phase() {
    const TABLE: [(&str, [&str; 10]); 8] = [
        (
            "Release",
            [
                "Applied Destroyed/Released/NothingToTearDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/TearingDown",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "-",
            ],
        ),
        (
            "Release, hold: 30m",
            [
                "Applied Destroyed/Released/NothingToTearDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/Held until +30m40s",
                "Applied Released/Released/Held until +30m40s",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "-",
            ],
        ),
        (
            "Release, hold: 10m",
            [
                "Applied Destroyed/Released/NothingToTearDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/Held until +10m40s",
                "Ignored =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "-",
            ],
        ),
        (
            "Expires, at: 2026-11-23T11:00:00Z",
            [
                "Applied Pending until +1h",
                "Applied Acquired until +1h",
                "Applied Returning until +1h",
                "Applied Active until +1h",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "-",
            ],
        ),
        (
            "Expires, after: 1h",
            [
                "Applied Pending until +1h40s",
                "Applied Acquired until +1h40s",
                "Applied Returning until +1h40s",
                "Applied Active until +1h40s",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "-",
            ],
        ),
        (
            // In the past: it expires in this pass.
            "Expires, at: 2026-11-23T09:00:00Z",
            [
                "Applied Destroyed/Expired/NothingToTearDown",
                "Applied Released/Expired/TearingDown",
                "Applied Released/Expired/TearingDown",
                "Applied Released/Expired/TearingDown",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "-",
            ],
        ),
        (
            "Expires, never: true",
            [
                "Applied Pending",
                "Applied Acquired",
                "Applied Returning",
                "Applied Active",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "-",
            ],
        ),
        (
            "Forget",
            [
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Refused =",
                "Applied Destroyed/Released/Forgotten",
                "Refused =",
                "Applied Destroyed/Failed/Forgotten",
                "-",
            ],
        ),
    ];
    for (text, row) in TABLE {
        for (state, expected) in STATES.into_iter().zip(row) {
            let mut scene = Scene::reach(state, "ttl: 2h", "");
            let before = short(scene.status());
            let decision = scene.append(&[text], at(LATER));
            if expected == "-" {
                // Refused at admission: a Destroyed lease has no writer.
                assert!(decision.status.commands.is_empty(), "{text} in {state:?}");
                continue;
            }
            let (outcome, state_after) = expected.split_once(' ').unwrap();
            let entry = &decision.status.commands[0];
            assert_eq!(format!("{:?}", entry.outcome), outcome, "{text} in {state:?}: {}", entry.message);
            let state_after = if state_after == "=" { &before } else { state_after };
            assert_eq!(short(&decision.status), state_after, "{text} in {state:?}");
            let warned = decision.events.iter().any(|e| e.reason == "CommandRefused" && e.kind == EventKind::Warning);
            assert_eq!(warned, outcome == "Refused", "{text} in {state:?}: a refusal is told, and only that");
            assert!(outcome == "Applied" || !entry.message.is_empty(), "{text} in {state:?}: it says why");
        }
    }
}

/// What the words of the table promise to be told.
#[test]
fn the_message_says_why_and_what_to_do() {
    for (state, text, expected) in [
        (State::Pending, "Release, hold: 10m", "released without a hold: nothing to hold yet"),
        (State::Acquired, "Release, hold: 10m", "released without a hold: nothing to hold yet"),
        (State::Active, "Release, hold: 10m", "held until 2026-11-23T10:10:40.000000Z"),
        (State::Active, "Release, hold: 2h", "cut to lease.maxHold of the Blueprint, 1h"),
        (State::Holding, "Release, hold: 2h", "cut to lease.maxHold of the Blueprint, 1h after its release"),
        (State::Holding, "Release", "the hold ends now"),
        (State::Holding, "Release, hold: 1m", "it is held until 2026-11-23T10:20:30.000000Z already"),
        (State::Holding, "Expires, after: 1h", "append Release with hold"),
        (State::TearingDown, "Release", OVER_ALREADY),
        (State::Broken, "Release", OVER_ALREADY),
        (State::TearingDown, "Release, hold: 10m", "teardown has begun"),
        (State::TearingDown, "Expires, after: 1h", "create another Lease"),
        (State::Active, "Forget", "append Release first"),
        (State::Active, "Reclaim", "append Release"),
    ] {
        let decision = Scene::reach(state, "", "").append(&[text], at(LATER));
        let message = &decision.status.commands[0].message;
        assert!(message.contains(expected), "{text} in {state:?}: {message}");
    }
}

/// `Expires` on an active lease, by the Blueprint's limits. The lease is active since 20 s, its `ttl` is an hour.
#[test]
fn an_end_is_moved_within_the_blueprints_limits() {
    for (limits, text, expected, extensions) in [
        ("", "Expires, after: 9h", "Applied Active until +9h40s", 1),
        ("maxTTL: 2h", "Expires, after: 90m", "Applied Active until +1h30m40s", 1),
        ("maxTTL: 2h", "Expires, at: 2026-11-23T12:00:20Z", "Applied Active until +2h20s", 1),
        ("maxTTL: 2h", "Expires, at: 2026-11-23T12:00:20.000001Z", "Refused Active until +1h20s", 0),
        ("maxTTL: 2h", "Expires, after: 2h", "Refused Active until +1h20s", 0),
        ("maxTTL: 2h", "Expires, never: true", "Refused Active until +1h20s", 0),
        ("maxExtensions: 0", "Expires, after: 90m", "Refused Active until +1h20s", 0),
        ("maxExtensions: 0", "Expires, never: true", "Refused Active until +1h20s", 0),
        ("maxExtensions: 0", "Expires, after: 10m", "Applied Active until +10m40s", 0),
        ("maxExtensions: 0", "Expires, at: 2026-11-23T11:00:20Z", "Applied Active until +1h20s", 0),
        ("maxExtensions: 1", "Expires, never: true", "Applied Active", 1),
        ("maxExtensions: 1", "Expires, after: 0s", "Applied Released/Expired/TearingDown", 0),
    ] {
        let mut scene = Scene::reach(State::Active, "ttl: 1h", &format!("lease: {{{limits}}}"));
        let decision = scene.append(&[text], at(LATER));
        let status = &decision.status;
        assert_eq!(format!("{:?} {}", status.commands[0].outcome, short(status)), expected, "{limits} {text}");
        assert_eq!(status.extensions, extensions, "{limits} {text}");
    }
}

#[test]
fn a_refusal_names_the_limit_and_the_latest_end() {
    for (limits, text, expected) in [
        ("maxTTL: 2h", "Expires, after: 9h", "lease.maxTTL of the Blueprint, 2h: ask for 2026-11-23T12:00:20.000000Z"),
        ("maxTTL: 2h", "Expires, never: true", "never is beyond lease.maxTTL"),
        (
            "maxExtensions: 0",
            "Expires, after: 9h",
            "its 0 extensions (lease.maxExtensions of the Blueprint) are used up",
        ),
    ] {
        let mut scene = Scene::reach(State::Active, "ttl: 1h", &format!("lease: {{{limits}}}"));
        let message = scene.append(&[text], at(LATER)).status.commands[0].message.clone();
        assert!(message.contains(expected), "{message}");
    }
}

/// Limits bite at activation: what was applied while the lease waited is cut then, not refused.
#[test]
fn a_wish_from_before_the_activation_is_cut_at_it() {
    for state in [State::Pending, State::Acquired] {
        let mut scene = Scene::reach(state, "", "lease: {maxTTL: 2h, maxExtensions: 0}");
        let decision = scene.append(&["Expires, after: 9h", "Expires, never: true", "Expires, after: 8h"], at(LATER));
        assert!(decision.status.commands.iter().all(|e| e.outcome == Outcome::Applied), "{state:?}");
        assert_eq!(decision.status.extensions, 0, "{state:?}: an extension is of what is active");
        scene.claimed = Some(0);
        scene.pass(at(50));
        scene.answer(StepKind::Activate, done());
        scene.pass(at(60));
        assert_eq!(short(scene.status()), "Active until +2h1m", "{state:?}");
        assert!(scene.status().deadlines[0].message.contains("lease.maxTTL"), "{state:?}");
    }
}

/// Story 43: three commands in one patch are three outcomes, in their order, in one write.
#[test]
fn three_commands_in_one_patch() {
    let mut scene = Scene::reach(State::Active, "", "");
    let decision = scene.append(&["Expires, after: 2h", "Release, hold: 10m", "Expires, after: 9h"], at(LATER));
    let outcomes: Vec<_> = decision.status.commands.iter().map(|e| (e.id.as_str(), e.outcome)).collect();
    assert_eq!(outcomes, [("c0", Outcome::Applied), ("c1", Outcome::Applied), ("c2", Outcome::Refused)]);
    assert_eq!(short(&decision.status), "Released/Released/Held until +10m40s");
    assert_eq!(decision.status.expires_at, Some(at(2 * HOUR + LATER)), "the end that was applied stays on record");
}

/// Each command is decided on what the ones before it in the list have made.
#[test]
fn commands_are_consumed_in_list_order() {
    use Outcome::{Applied, Ignored, Refused};
    for (texts, outcomes, expected) in [
        (&["Expires, after: 2h", "Expires, after: 1h"][..], &[Applied, Applied][..], "Active until +1h40s"),
        (&["Expires, after: 1h", "Expires, after: 2h"], &[Applied, Applied], "Active until +2h40s"),
        (&["Expires, after: 0s", "Expires, after: 2h"], &[Applied, Applied], "Active until +2h40s"),
        (&["Release", "Release"], &[Applied, Ignored], "Released/Released/TearingDown"),
        (&["Release", "Release, hold: 10m"], &[Applied, Refused], "Released/Released/TearingDown"),
        (&["Release, hold: 10m", "Release"], &[Applied, Applied], "Released/Released/TearingDown"),
        (&["Release, hold: 5m", "Release, hold: 9m"], &[Applied, Applied], "Released/Released/Held until +9m40s"),
        (&["Release, hold: 9m", "Release, hold: 5m"], &[Applied, Ignored], "Released/Released/Held until +9m40s"),
        (&["Forget", "Release", "Forget"], &[Refused, Applied, Refused], "Released/Released/TearingDown"),
    ] {
        let decision = Scene::reach(State::Active, "", "").append(texts, at(LATER));
        assert_eq!(decision.status.commands.iter().map(|e| e.outcome).collect::<Vec<_>>(), outcomes, "{texts:?}");
        assert_eq!(short(&decision.status), expected, "{texts:?}");
    }
    let decision =
        Scene::reach(State::Pending, "", "").append(&["Release", "Release", "Expires, after: 1h"], at(LATER));
    assert_eq!(
        decision.status.commands.iter().map(|e| e.outcome).collect::<Vec<_>>(),
        [Applied, Ignored, Refused],
        "also those after the one that ends a waiting lease for good"
    );
}

#[test]
fn the_ledger_says_what_who_and_when() {
    let mut scene = Scene::reach(State::Active, "", "");
    scene.lease.spec.commands = vec![command("first", "Expires, after: 1h"), command("second", "Forget")];
    scene.lease.spec.commands[1].issued_by = None;
    let ledger = scene.pass(at(LATER)).status.commands;
    let told: Vec<_> = ledger.iter().map(|e| (e.id.as_str(), e.type_, e.issued_by.as_deref(), e.observed_at)).collect();
    assert_eq!(
        told,
        [
            ("first", crate::api::CommandType::Expires, Some("alice"), at(LATER)),
            ("second", crate::api::CommandType::Forget, None, at(LATER))
        ]
    );
}

/// A repeated append after a lost answer has no second effect, also once the command was pruned.
#[test]
fn an_id_is_consumed_once() {
    let mut scene = Scene::reach(State::Active, "ttl: 2h", "");
    scene.append(&["Expires, after: 3h"], at(LATER));
    let on_record = scene.status().clone();
    let repeated = scene.lease.spec.commands.clone();
    assert_eq!(scene.pass(at(50)).status, on_record, "still in the queue");
    scene.lease.spec.commands.clear();
    assert_eq!(scene.pass(at(60)).status, on_record, "pruned");
    scene.lease.spec.commands = repeated;
    scene.lease.spec.commands[0].type_ = crate::api::CommandType::Release;
    assert_eq!(scene.pass(at(70)).status, on_record, "and sent again, even with another meaning");
}

#[test]
fn the_ledger_outlives_the_queue_and_has_its_bound() {
    let mut scene = Scene::reach(State::Active, "", "");
    for round in 0..4 {
        scene.lease.spec.commands = (0..60).map(|n| command(&format!("r{round}n{n}"), "Expires, after: 1h")).collect();
        scene.pass(at(LATER + round));
    }
    let ledger = &scene.status().commands;
    assert_eq!(ledger.len(), LEDGER_LIMIT);
    assert_eq!((ledger[0].id.as_str(), ledger[127].id.as_str()), ("r1n52", "r3n59"), "the newest of the pruned stay");
}

/// A command that was stored before `Released` was written wins over a deadline that passed meanwhile.
#[test]
fn a_command_wins_over_a_deadline_that_has_passed() {
    let scene = || Scene::reach(State::Active, "ttl: 1h", "");
    assert_eq!(short(&scene().append(&["Expires, after: 1h"], at(5 * HOUR)).status), "Active until +6h");
    assert_eq!(
        short(&scene().append(&["Release, hold: 10m"], at(5 * HOUR)).status),
        "Released/Released/Held until +5h10m"
    );
    let mut late = scene();
    late.pass(at(5 * HOUR));
    assert_eq!(short(&late.append(&["Expires, after: 1h"], at(5 * HOUR)).status), "Released/Expired/TearingDown");
}

/// `Forget` is on record with its issuer, and nothing is torn down.
#[test]
fn what_is_forgotten_says_by_whom() {
    for state in [State::Failing, State::BrokenFailing] {
        let decision = Scene::reach(state, "", "").append(&["Forget"], at(LATER));
        let (reason, message) = reason_and_message(&decision.status.conditions, "TornDown");
        assert_eq!((reason.as_str(), message.as_str()), ("Forgotten", "written off without teardown by alice"));
        assert_eq!(decision.step, None, "{state:?}");
        assert_eq!(decision.status.destroyed_at, Some(at(LATER)), "{state:?}");
    }
    // A teardown that has failed on the way back is not over: it is first released, then forgotten.
    let mut returning = Scene::reach(State::Returning, "", "");
    returning.answer(StepKind::TearDownLease, Answer::Failed(failure("NoRoute")));
    returning.pass(at(35));
    let decision = returning.append(&["Forget", "Release", "Forget"], at(LATER));
    let outcomes: Vec<_> = decision.status.commands.iter().map(|e| e.outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused, Outcome::Applied, Outcome::Applied]);
}
