//! What ends a resource from its Blueprint's side: idle at once, leased when its leases have ended, decided here on the own
//! object (protocol.md, R7).

use super::*;

const DRAINS: [(&str, Happens); 6] = [
    ("Disabled", |scene| scene.slot = SlotState::Disabled),
    ("Disabled", |scene| scene.slot = SlotState::Taken),
    ("Outdated", |scene| scene.slot = SlotState::Outdated),
    ("Released", |scene| scene.slot = SlotState::Surplus),
    ("BlueprintDeleted", |scene| delete(&mut scene.blueprint.metadata)),
    ("BlueprintDeleted", |scene| scene.sight = Sight::Gone),
];

#[test]
fn r7_what_is_idle_goes_at_once() {
    for (reason, change) in DRAINS {
        for state in [State::Building, State::Idle] {
            let mut scene = Scene::reach(state, "", "");
            change(&mut scene);
            let decision = scene.pass(at(LATER));
            assert_eq!(short(&decision.status), format!("Released/{reason}/TearingDown"), "{state:?}");
            assert_eq!(decision.status.released_at, Some(at(LATER)));
        }
    }
}

/// Story 24, and a pool that is deleted: leases that are held are unaffected; the resource goes with the last of them,
/// in one write, and is granted to nobody meanwhile.
#[test]
fn r7_what_is_leased_goes_when_its_leases_have_ended() {
    for (reason, change) in DRAINS {
        let mut scene = Scene::reach(State::Leased, "", "limits: {leasesPerResource: 2}");
        change(&mut scene);
        scene.candidates = vec![candidate("m", 0)];
        let decision = scene.pass(at(LATER));
        assert_eq!((short(&decision.status).as_str(), decision.step), ("Active [l]", None), "{reason}");
        scene.leases_end();
        assert_eq!(short(&scene.pass(at(50)).status), format!("Released/{reason}/TearingDown"));
    }
}

/// What became of its entry is told as it is.
#[test]
fn r7_why_its_entry_is_no_more_is_told() {
    for (slot, why) in [
        (SlotState::Disabled, "its entry was removed or disabled"),
        (SlotState::Taken, "an older Blueprint of its namespace lists the same machine, and offers it"),
    ] {
        let mut scene = Scene::reach(State::Idle, "", "");
        scene.slot = slot;
        let status = scene.pass(at(LATER)).status;
        assert_eq!(reason_and_message(&status.conditions, "Released"), ("Disabled".into(), why.into()));
    }
}

#[test]
fn r7_a_change_that_is_taken_back_in_time_is_none() {
    let mut scene = Scene::reach(State::Leased, "", "");
    scene.slot = SlotState::Disabled;
    scene.pass(at(LATER));
    scene.slot = SlotState::Current;
    scene.leases_end();
    assert_eq!(short(&scene.pass(at(50)).status), "Active");
    let mut suspended = Scene::reach(State::Idle, "", "");
    suspended.blueprint.spec.suspend = true;
    assert_eq!(short(&suspended.pass(at(DAY)).status), "Active", "and a suspended Blueprint keeps what it has");
}

/// The reason is the first that is seen, and stays.
#[test]
fn one_reason_stays() {
    let mut scene = Scene::reach(State::Idle, "expiresAt: '2026-11-23T10:01:00Z'", "");
    delete(&mut scene.resource.metadata);
    delete(&mut scene.blueprint.metadata);
    scene.slot = SlotState::Disabled;
    let decision = scene.append(&["Release"], at(HOUR));
    assert_eq!(short(&decision.status), "Released/Released/TearingDown");
    assert_eq!(short(&scene.pass(at(HOUR + 1)).status), "Released/Released/TearingDown");
}

/// Deleting a resource is releasing it, in each state that is not over.
#[test]
fn deletion_is_a_release() {
    for (state, expected) in STATES.into_iter().zip([
        "Released/Deleted/TearingDown",
        "Released/Deleted/TearingDown",
        "Released/Deleted/WaitingForLeases [l]",
        "Released/Released/WaitingForLeases [l]",
        "Released/Released/TearingDown",
        "Released/Released/TeardownFailed",
        "Broken/Failed/TearingDown",
        "Broken/Failed/TeardownFailed",
        "Destroyed/Released/TornDown",
    ]) {
        let mut scene = Scene::reach(state, "", "");
        delete(&mut scene.resource.metadata);
        assert_eq!(short(&scene.pass(at(LATER)).status), expected, "{state:?}");
    }
    let mut without = Scene::new("", "");
    without.resource.metadata.finalizers = None;
    delete(&mut without.resource.metadata);
    assert_eq!(short(&without.pass(at(1)).status), "Destroyed/Deleted/NothingToTearDown", "no finalizer is added now");
}
