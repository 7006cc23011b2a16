//! The resource's half of the table of api.md section 2: each command in each phase, its outcome and its effect.

use super::*;
use crate::{api::Outcome, lifecycle::commands::OVER_ALREADY};

/// The command is consumed at 40 s; the states are in the order of [`STATES`]. `=` is the state as it was.
#[test]
fn each_command_in_each_phase() {
    const TABLE: [(&str, &str, [&str; 9]); 7] = [
        (
            "Release",
            "",
            [
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/TearingDown",
                "Applied Released/Released/WaitingForLeases [l]",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "-",
            ],
        ),
        (
            // It is idle for half a minute.
            "Reclaim",
            "reclaimAfter: 31s",
            [
                "Refused =",
                "Refused =",
                "Refused =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "-",
            ],
        ),
        (
            "Reclaim",
            "reclaimAfter: 30s",
            [
                "Refused =",
                "Applied Released/Reclaimed/TearingDown",
                "Refused =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "Ignored =",
                "-",
            ],
        ),
        (
            "Expires, after: 2h",
            "",
            [
                "Applied Pending until +2h40s",
                "Applied Active until +2h40s",
                "Applied Active [l] until +2h40s",
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
            "",
            [
                "Applied Released/Expired/TearingDown",
                "Applied Released/Expired/TearingDown",
                "Applied Released/Expired/WaitingForLeases [l]",
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
            "",
            [
                "Applied Pending",
                "Applied Active",
                "Applied Active [l]",
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
            "",
            [
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
    for (text, policy, row) in TABLE {
        for (state, expected) in STATES.into_iter().zip(row) {
            let mut scene = Scene::reach(state, "", &format!("resource: {{ttl: 1h, {policy}}}"));
            let before = short(scene.status());
            let decision = scene.append(&[text], at(LATER));
            if expected == "-" {
                // Refused at admission: a Destroyed resource has no writer.
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

#[test]
fn the_message_says_why_and_what_to_do() {
    for (state, text, expected) in [
        (State::Building, "Reclaim", "it is being built; append Release"),
        (State::Idle, "Reclaim", "it has been idle for 30 s only, and is reclaimable at 2026-11-23T10:03:10.000000Z"),
        (State::Leased, "Reclaim", "it is held by 1 leases; append Release"),
        (State::TearingDown, "Reclaim", OVER_ALREADY),
        // Story 7: the same words as for a lease.
        (State::TearingDown, "Release", OVER_ALREADY),
        (State::Broken, "Release", OVER_ALREADY),
        (State::Waiting, "Expires, after: 1h", "it is over"),
        (State::TearingDown, "Forget", "only a teardown that has failed can be forgotten"),
    ] {
        let decision = Scene::reach(state, "", "").append(&[text], at(LATER));
        let message = &decision.status.commands[0].message;
        assert!(message.contains(expected), "{text} in {state:?}: {message}");
    }
}

/// Who released it, and why, where that was said.
#[test]
fn a_release_says_by_whom_and_why() {
    for (text, expected) in [("Release", "by alice"), ("Release, reason: it was moved", "by alice: it was moved")] {
        let decision = Scene::reach(State::Idle, "", "").append(&[text], at(LATER));
        let told = reason_and_message(&decision.status.conditions, "Released");
        assert_eq!(told, ("Released".into(), expected.into()));
    }
}

/// Story 23: unused since the last claim went, or since it was built; three minutes where the Blueprint says nothing.
#[test]
fn reclaim_takes_what_was_unused_long_enough() {
    for (policy, used) in [("", 3 * MINUTE), ("resource: {reclaimAfter: 10s}", 10)] {
        for state in [State::Idle, State::Leased] {
            let mut scene = Scene::reach(state, "", policy);
            let mut idle_since = at(10);
            if state == State::Leased {
                scene.leases_end();
                scene.pass(at(LATER));
                idle_since = at(LATER);
            }
            let due = idle_since.after(crate::api::Duration::from_secs(used));
            let outcome = |now| scene.clone().append(&["Reclaim"], now).status.commands[0].outcome;
            assert_eq!(outcome(just_before(due)), Outcome::Refused, "{policy} {state:?}");
            assert_eq!(outcome(due), Outcome::Applied, "{policy} {state:?}");
        }
    }
}

/// A claim in the same version wins: Reclaim and grant write the same object, and the one that comes first is seen.
#[test]
fn a_reclaimed_resource_is_granted_to_nobody() {
    let mut scene = Scene::reach(State::Idle, "", "");
    scene.candidates = vec![candidate("l", 0)];
    let decision = scene.append(&["Reclaim"], at(HOUR));
    assert_eq!(short(&decision.status), "Released/Reclaimed/TearingDown");
}

#[test]
fn commands_are_consumed_in_list_order() {
    use Outcome::{Applied, Ignored, Refused};
    for (texts, outcomes, expected) in [
        (&["Expires, after: 2h", "Expires, after: 1h"][..], &[Applied, Applied][..], "Active until +1h40s"),
        (&["Expires, after: 0s", "Expires, never: true"], &[Applied, Applied], "Active"),
        (&["Release", "Reclaim"], &[Applied, Ignored], "Released/Released/TearingDown"),
        (&["Reclaim", "Release"], &[Refused, Applied], "Released/Released/TearingDown"),
        (&["Release", "Expires, after: 1h"], &[Applied, Refused], "Released/Released/TearingDown"),
        (&["Forget", "Release", "Forget"], &[Refused, Applied, Refused], "Released/Released/TearingDown"),
    ] {
        let decision = Scene::reach(State::Idle, "", "").append(texts, at(LATER));
        assert_eq!(decision.status.commands.iter().map(|e| e.outcome).collect::<Vec<_>>(), outcomes, "{texts:?}");
        assert_eq!(short(&decision.status), expected, "{texts:?}");
    }
}

#[test]
fn an_id_is_consumed_once() {
    let mut scene = Scene::reach(State::Idle, "", "");
    scene.append(&["Expires, after: 3h"], at(LATER));
    let on_record = scene.status().clone();
    let repeated = scene.resource.spec.commands.clone();
    assert_eq!(scene.pass(at(50)).status, on_record, "still in the queue");
    scene.resource.spec.commands.clear();
    assert_eq!(scene.pass(at(60)).status, on_record, "pruned");
    scene.resource.spec.commands = repeated;
    assert_eq!(scene.pass(at(70)).status, on_record, "and sent again");
}

/// Before anything was built there is nothing to tear down: it is over and destroyed in one write.
#[test]
fn what_was_not_begun_is_over_in_one_write() {
    let mut suspended = Scene::new("", "suspend: true");
    assert_eq!(short(&suspended.append(&["Release"], at(LATER)).status), "Destroyed/Released/NothingToTearDown");
    assert_eq!(suspended.status().released_at, Some(at(LATER)));
    assert_eq!(suspended.status().destroyed_at, Some(at(LATER)));
}

#[test]
fn what_is_forgotten_says_by_whom() {
    for state in [State::Failing, State::BrokenFailing] {
        let decision = Scene::reach(state, "", "").append(&["Forget"], at(LATER));
        let told = reason_and_message(&decision.status.conditions, "TornDown");
        assert_eq!(told, ("Forgotten".into(), "written off without teardown by alice".into()));
        assert_eq!((decision.step, decision.status.destroyed_at), (None, Some(at(LATER))), "{state:?}");
    }
}

/// Edits of `spec.expiresAt`: the first sight is none; each other one is as an `Expires`, and its absence a value too.
#[test]
fn edit_after_edit() {
    let mut scene = Scene::reach(State::Leased, "expiresAt: '2026-11-23T11:00:00Z'", "resource: {ttl: 30m}");
    assert_eq!((short(scene.status()).as_str(), scene.status().wish), ("Active [l] until +1h", None));
    let mut edit = |expires_at: Option<i64>| {
        scene.resource.spec.expires_at = expires_at.map(at);
        short(&scene.pass(at(LATER)).status)
    };
    assert_eq!(edit(Some(2 * HOUR)), "Active [l] until +2h");
    assert_eq!(edit(None), "Active [l] until +30m10s", "back to what the Blueprint gives");
    assert_eq!(edit(Some(HOUR)), "Active [l] until +1h");
    assert_eq!(edit(Some(0)), "Released/Expired/WaitingForLeases [l]");
    let mut replaced = Scene::reach(State::Idle, "expiresAt: '2026-11-23T11:00:00Z'", "");
    replaced.append(&["Expires, never: true"], at(LATER));
    assert_eq!(short(&replaced.pass(at(50)).status), "Active", "a command holds until the next edit");
    replaced.resource.spec.expires_at = Some(at(3 * HOUR));
    assert_eq!(short(&replaced.append(&["Expires, after: 2h"], at(LATER)).status), "Active until +2h40s");
}

#[test]
fn an_edit_of_what_is_over_changes_nothing_and_is_told() {
    for state in [State::Waiting, State::TearingDown, State::Failing, State::Broken] {
        let mut scene = Scene::reach(state, "", "");
        let before = short(scene.status());
        scene.resource.spec.expires_at = Some(at(2 * HOUR));
        let decision = scene.pass(at(LATER));
        assert_eq!((short(&decision.status), decision.status.wish), (before, None), "{state:?}");
        assert!(decision.events.iter().any(|e| e.reason == "EditNotGranted"), "{state:?}");
        assert!(scene.pass(at(50)).events.is_empty(), "{state:?}: once");
    }
}
