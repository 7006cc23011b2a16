//! The conditions and deadlines of a resource (api.md section 4).

use super::*;

#[track_caller]
fn assert_told(status: &ResourceStatus, [ready, released, torn_down]: [&str; 3]) {
    let expected = [format!("Ready={ready}"), format!("Released={released}"), format!("TornDown={torn_down}")];
    assert_eq!(told(&status.conditions), expected);
}

#[test]
fn the_conditions_of_each_state() {
    for (state, expected) in STATES.into_iter().zip([
        ["False/Building", "False/NotReleased", "False/InUse"],
        ["True/Active", "False/NotReleased", "False/InUse"],
        ["True/Active", "False/NotReleased", "False/InUse"],
        ["False/Released", "True/Released", "False/WaitingForLeases"],
        ["False/Released", "True/Released", "False/TearingDown"],
        ["False/Released", "True/Released", "False/TeardownFailed"],
        ["False/Failed", "True/Failed", "False/TearingDown"],
        ["False/Failed", "True/Failed", "False/TeardownFailed"],
        ["False/Released", "True/Released", "True/TornDown"],
    ]) {
        assert_told(Scene::reach(state, "", "").status(), expected);
    }
}

/// Every reason with which a resource can end; it stays after Destroyed and says how it ended.
#[test]
fn released_says_why() {
    let changes: [(&str, Happens); 10] = [
        ("Released", |scene| scene.resource.spec.commands.push(command("c", "Release"))),
        ("Expired", |scene| scene.resource.spec.expires_at = Some(at(0))),
        ("IdleTimeout", |scene| scene.blueprint.spec.resource.idle_ttl = Some("1m".parse().unwrap())),
        ("Reclaimed", |scene| scene.resource.spec.commands.push(command("c", "Reclaim"))),
        ("Deleted", |scene| delete(&mut scene.resource.metadata)),
        ("Disabled", |scene| scene.slot = SlotState::Disabled),
        ("Outdated", |scene| scene.slot = SlotState::Outdated),
        ("BlueprintDeleted", |scene| delete(&mut scene.blueprint.metadata)),
        ("Failed", |scene| *scene = Scene::reach(State::Broken, "", "")),
        ("BuildTimeout", |scene| *scene = Scene::reach(State::Building, "", "")),
    ];
    for (reason, change) in changes {
        let mut scene = Scene::reach(State::Idle, "", "");
        change(&mut scene);
        scene.pass(at(HOUR));
        let (not, yes) = (format!("False/{reason}"), format!("True/{reason}"));
        assert_told(scene.status(), [&not, &yes, "False/TearingDown"]);
        scene.answer(StepKind::TearDownResource, done());
        scene.pass(at(HOUR + 1));
        assert_told(scene.status(), [&not, &yes, "True/TornDown"]);
    }
}

/// Phases that are passed through in one write leave their conditions.
#[test]
fn phases_that_are_passed_through_leave_their_conditions() {
    let mut scene = Scene::free("", "");
    assert_told(&scene.pass(at(1)).status, ["True/Active", "False/NotReleased", "False/InUse"]);
    let status = scene.append(&["Release"], at(30)).status;
    assert_told(&status, ["False/Released", "True/Released", "True/NothingToTearDown"]);
    assert_eq!(
        (status.activated_at, status.released_at, status.destroyed_at),
        (Some(at(1)), Some(at(30)), Some(at(30)))
    );
}

/// Which clocks run in which state.
#[test]
fn the_deadlines_of_each_state() {
    for (state, expected) in STATES.into_iter().zip([
        &["Age +9h", "Build +15m1s"][..],
        &["Age +9h", "Idle +1h10s"],
        &["Age +9h"],
        &[],
        &["Teardown +15m30s"],
        &["Teardown +15m33s"],
        &["Teardown +15m10s"],
        &["Teardown +15m33s"],
        &[],
    ]) {
        let scene = Scene::reach(state, "expiresAt: '2026-11-23T19:00:00Z'", "resource: {idleTTL: 1h}");
        assert_eq!(clocks(&scene.status().deadlines), expected, "{state:?}");
    }
}

/// Of a resource only Warnings are told by events.
#[test]
fn the_events_of_a_good_life_are_none() {
    let mut scene = Scene::new("", "");
    let mut told = scene.pass(at(1)).events;
    scene.answer(StepKind::Build, done());
    told.extend(scene.pass(at(10)).events);
    told.extend(scene.grant("l", at(20)).events);
    told.extend(scene.append(&["Release"], at(30)).events);
    scene.leases_end();
    told.extend(scene.pass(at(LATER)).events);
    scene.answer(StepKind::TearDownResource, done());
    told.extend(scene.pass(at(50)).events);
    assert_eq!((short(scene.status()).as_str(), told), ("Destroyed/Released/TornDown", vec![]));
}
