//! The sign of life that a lease asks for (api.md section 3): counted from when it was seen, and never told.

use super::*;

fn beating(state: State, seen: i64) -> Scene {
    let mut scene = Scene::reach(state, "heartbeatTimeout: 1m", "");
    scene.heartbeat_seen = Some(at(seen));
    scene
}

#[test]
fn a_lease_that_gives_no_sign_of_life_is_released() {
    for (state, then) in [
        (State::Pending, "Destroyed/HeartbeatLost/NothingToTearDown"),
        (State::Acquired, "Released/HeartbeatLost/TearingDown"),
        (State::Returning, "Released/HeartbeatLost/TearingDown"),
        (State::Active, "Released/HeartbeatLost/TearingDown"),
    ] {
        let mut scene = beating(state, 50);
        let before = scene.status().clone();
        let early = scene.pass(just_before(at(110)));
        assert_eq!((early.status, early.wake), (before, Some(at(110))), "{state:?}");
        // Each sign of life moves it, and nothing is written for it.
        let mut alive = scene.clone();
        alive.heartbeat_seen = Some(at(109));
        let later = alive.pass(at(110));
        assert_eq!((later.status, later.wake), (alive.status().clone(), Some(at(169))), "{state:?}");
        assert_eq!(short(&alive.pass(at(169)).status), then, "{state:?}");
        // Nobody is asked about it.
        scene.declines(Some("no"));
        assert_eq!((short(&scene.pass(at(110)).status).as_str(), scene.asked), (then, 0), "{state:?}");
        let message = reason_and_message(&scene.status().conditions, "Released").1;
        assert_eq!(message, "spec.heartbeat has not changed for 1m", "{state:?}");
    }
}

#[test]
fn what_is_over_gives_no_sign_of_life_any_more() {
    for state in [State::Holding, State::TearingDown, State::Failing, State::Broken, State::BrokenFailing] {
        let mut scene = beating(state, 0);
        let before = short(scene.status());
        assert_eq!(short(&scene.pass(at(10 * MINUTE)).status), before, "{state:?}");
    }
}

/// It is never on record: a controller that has not looked yet knows of none, and begins to count when it does.
#[test]
fn who_has_just_started_begins_anew() {
    let mut scene = beating(State::Active, 0);
    assert!(clocks(&scene.status().deadlines).is_empty());
    scene.heartbeat_seen = None;
    let decision = scene.pass(at(HOUR));
    assert_eq!((short(&decision.status).as_str(), decision.wake), ("Active", None));
    scene.heartbeat_seen = Some(at(HOUR));
    assert_eq!(scene.pass(at(HOUR + 1)).wake, Some(at(HOUR + MINUTE)));
    let mut none_asked_for = Scene::reach(State::Active, "heartbeat: hello", "");
    none_asked_for.heartbeat_seen = Some(at(0));
    assert_eq!(short(&none_asked_for.pass(at(DAY)).status), "Active");
}

/// L2: a grant that comes after it was lost is not taken up, and nothing is begun.
#[test]
fn a_grant_that_comes_too_late_is_not_taken_up() {
    let mut scene = beating(State::Pending, 0);
    scene.claimed = Some(0);
    let status = scene.pass(at(MINUTE)).status;
    assert_eq!(short(&status), "Destroyed/HeartbeatLost/NothingToTearDown");
    assert_eq!(status.resource_ref, None);
}
