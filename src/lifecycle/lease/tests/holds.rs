//! Holds: written together with Released, lengthened while they last, and never begun again (protocol.md, L8 and Q3).

use super::*;

fn holding() -> Scene {
    Scene::reach(State::Holding, "", "")
}

/// Story 29. The hold is on the deadlines and in `TornDown`, nothing is torn down meanwhile, and at its end the teardown
/// begins.
#[test]
fn a_hold_keeps_the_environment_until_its_end() {
    let mut scene = holding();
    let end = at(20 * MINUTE + 30);
    let decision = scene.pass(just_before(end));
    assert_eq!(short(&decision.status), "Released/Released/Held until +20m30s");
    assert_eq!(clocks(&decision.status.deadlines), ["Hold +20m30s"]);
    assert_eq!((decision.step, decision.wake), (None, Some(end)));
    let (_, message) = reason_and_message(&decision.status.conditions, "TornDown");
    assert!(message.contains("2026-11-23T10:20:30"), "{message}");
    let decision = scene.pass(end);
    assert_eq!(short(&decision.status), "Released/Released/TearingDown");
    assert_eq!(decision.step.map(|order| order.step.kind), Some(StepKind::TearDownLease));
    assert_eq!(scene.status().released_at, Some(at(30)), "it was released when the hold began");
}

/// A longer wish is cut to the Blueprint's maximum, 1 h where it has none.
#[test]
fn a_hold_is_cut_to_the_maximum() {
    for (limits, hold, expected) in [
        ("", "59m", "+59m40s"),
        ("", "1h", "+1h40s"),
        ("", "2h", "+1h40s"),
        ("maxHold: 10m", "9m", "+9m40s"),
        ("maxHold: 10m", "2h", "+10m40s"),
        ("maxHold: 3h", "2h", "+2h40s"),
    ] {
        let mut scene = Scene::reach(State::Active, "", &format!("lease: {{{limits}}}"));
        let decision = scene.append(&[&format!("Release, hold: {hold}")], at(LATER));
        assert_eq!(short(&decision.status), format!("Released/Released/Held until {expected}"), "{limits} {hold}");
    }
    for nothing in ["maxHold: 0s", ""] {
        let mut scene = Scene::reach(State::Active, "", &format!("lease: {{{nothing}}}"));
        let hold = if nothing.is_empty() { "Release, hold: 0s" } else { "Release, hold: 1h" };
        let decision = scene.append(&[hold], at(LATER));
        assert_eq!(short(&decision.status), "Released/Released/TearingDown", "{nothing}: no time at all is no hold");
    }
}

/// Until min(now + hold, releasedAt + maxHold); a shorter one changes nothing.
#[test]
fn a_hold_on_record_is_lengthened_up_to_the_maximum_from_the_release() {
    for (now, hold, outcome, expected) in [
        (LATER, "20m", "Applied", "+20m40s"),
        (LATER, "19m50s", "Ignored", "+20m30s"),
        (LATER, "1m", "Ignored", "+20m30s"),
        (LATER, "59m50s", "Applied", "+1h30s"),
        (LATER, "2h", "Applied", "+1h30s"),
        (15 * MINUTE, "50m", "Applied", "+1h30s"),
    ] {
        let mut scene = holding();
        let decision = scene.append(&[&format!("Release, hold: {hold}")], at(now));
        assert_eq!(format!("{:?}", decision.status.commands[0].outcome), outcome, "{hold}");
        assert_eq!(short(&decision.status), format!("Released/Released/Held until {expected}"), "{hold}");
    }
    let mut at_the_limit = holding();
    at_the_limit.append(&["Release, hold: 2h"], at(LATER));
    let decision = at_the_limit.append(&["Release, hold: 2h"], at(50));
    assert_eq!(format!("{:?}", decision.status.commands[1].outcome), "Ignored");
}

/// Q3: only these end it early. Another `Release` with hold does not, nor does the end that the lease once had.
#[test]
fn what_ends_a_hold() {
    let ends: [(&str, Happens); 6] = [
        ("a Release without hold", |scene| scene.lease.spec.commands.push(command("end", "Release"))),
        ("the lease's deletion", |scene| delete(&mut scene.lease.metadata)),
        ("its resource is Released", |scene| scene.end_resource(ResourcePhase::Released, "Released")),
        ("its resource is Broken", |scene| scene.end_resource(ResourcePhase::Broken, "Lost")),
        ("its resource is Destroyed", |scene| scene.end_resource(ResourcePhase::Destroyed, "Released")),
        ("its resource is gone by a quorum read", |scene| scene.sight = Sight::Gone),
    ];
    for (name, end) in ends {
        let mut scene = holding();
        end(&mut scene);
        let decision = scene.pass(at(LATER));
        assert_eq!(short(&decision.status), "Released/Released/TearingDown", "{name}");
        assert!(decision.step.is_some(), "{name}");
    }
    let goes_on: [(&str, Happens); 4] = [
        ("a Release with hold", |scene| scene.lease.spec.commands.push(command("more", "Release, hold: 1m"))),
        ("an edit of its end", |scene| scene.lease.spec.expires_at = Some(at(35))),
        ("the end of its resource", |scene| scene.resource_ends(Some(at(35)))),
        ("its resource not being in the cache", |scene| scene.sight = Sight::Absent),
    ];
    for (name, happens) in goes_on {
        let mut scene = holding();
        happens(&mut scene);
        assert_eq!(short(&scene.pass(at(LATER)).status), "Released/Released/Held until +20m30s", "{name}");
    }
    let mut unseen = holding();
    unseen.sight = Sight::Absent;
    assert_eq!(unseen.decide(at(LATER)).reads, [Read::BoundResource], "absent is no fact, but a reason to ask");
}

/// H14: a hold that has ended is over, also for a `Release` with hold that is sent again.
#[test]
fn an_ended_hold_never_begins_again() {
    let mut scene = holding();
    scene.pass(at(HOUR));
    let decision = scene.append(&["Release, hold: 10m", "Release, hold: 10m"], at(HOUR + 1));
    assert!(decision.status.commands.iter().all(|e| e.outcome == crate::api::Outcome::Refused));
    assert_eq!(short(&decision.status), "Released/Released/TearingDown");
}

/// A hold is for leases that were active: what was not is released without, and what broke is torn down at once.
#[test]
fn there_is_no_hold_without_an_activation() {
    for state in [State::Pending, State::Acquired, State::Returning] {
        let decision = Scene::reach(state, "", "").append(&["Release, hold: 10m"], at(LATER));
        assert_eq!(deadline::find(&decision.status.deadlines, DeadlineName::Hold), None, "{state:?}");
    }
    let broken = Scene::reach(State::Broken, "", "");
    assert_eq!(deadline::find(&broken.status().deadlines, DeadlineName::Hold), None);
    let mut expired = Scene::reach(State::Active, "ttl: 1h", "");
    expired.pass(at(2 * HOUR));
    assert_eq!(short(expired.status()), "Released/Expired/TearingDown", "only a command asks for one");
}

/// In one version: deletion comes last and ends the hold that a command of that version has begun.
#[test]
fn a_deletion_ends_the_hold_of_its_own_version() {
    let mut scene = Scene::reach(State::Active, "", "");
    delete(&mut scene.lease.metadata);
    let decision = scene.append(&["Release, hold: 10m"], at(LATER));
    assert_eq!(short(&decision.status), "Released/Released/TearingDown");
    assert_eq!(format!("{:?}", decision.status.commands[0].outcome), "Applied");
}
