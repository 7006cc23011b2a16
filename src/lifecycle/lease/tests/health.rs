//! What becomes of an environment while it is leased: told, and taken back; nothing is done about it.

use super::*;

fn lost(why: &str) -> Option<Observed> {
    Some(Observed { lost: Some(why.into()), for_good: true, ..Observed::default() })
}

fn ready(decision: &Decision<LeaseStatus>) -> (String, String) {
    reason_and_message(&decision.status.conditions, "Ready")
}

fn warned(decision: &Decision<LeaseStatus>) -> Vec<(&str, &str)> {
    decision.events.iter().map(|e| (e.reason.as_str(), e.message.as_str())).collect()
}

/// The resource shows this of itself.
fn beneath(scene: &mut Scene, lost: Option<&str>) {
    let conditions = &mut scene.resource.status.get_or_insert_default().conditions;
    match lost {
        Some(why) => conditions::set(conditions, at(0), "Ready", Truth::False, "ObjectLost", why),
        None => conditions::set(conditions, at(0), "Ready", Truth::True, "Active", ""),
    }
}

#[test]
fn what_is_lost_is_told_and_taken_back() {
    let mut scene = Scene::reach(State::Active, "", "");
    scene.observed = lost("a is gone");
    let decision = scene.pass(at(LATER));
    assert_eq!(ready(&decision), ("ObjectLost".into(), "a is gone".into()));
    assert_eq!(warned(&decision), [("ObjectLost", "a is gone")]);
    assert_eq!(short(&decision.status), "Active", "it is its lessee's to say what becomes of it");
    assert_eq!(reason_and_message(&decision.status.conditions, "Settled").0, "Active");
    let again = scene.pass(at(LATER + 1));
    assert_eq!((again.events.len(), again.status), (0, decision.status));

    scene.observed = Some(Observed::default());
    let whole = scene.pass(at(LATER + 2));
    assert_eq!((ready(&whole), warned(&whole)), (("Active".into(), String::new()), vec![]));
}

/// What its resource has lost is its loss, too; its own comes first.
#[test]
fn what_its_resource_has_lost() {
    let mut scene = Scene::reach(State::Active, "", "");
    scene.observed = Some(Observed::default());
    beneath(&mut scene, Some("b is gone"));
    assert_eq!(ready(&scene.pass(at(LATER))), ("ObjectLost".into(), "of its Resource ci--h1: b is gone".into()));
    scene.observed = lost("a is gone");
    assert_eq!(ready(&scene.pass(at(LATER + 1))), ("ObjectLost".into(), "a is gone".into()));
    scene.observed = Some(Observed::default());
    beneath(&mut scene, None);
    assert_eq!(ready(&scene.pass(at(LATER + 2))), ("Active".into(), String::new()));
}

/// How it ended is told then, and not what had become of it before.
#[test]
fn an_end_is_told_above_a_loss() {
    let mut scene = Scene::reach(State::Active, "", "");
    scene.observed = lost("a is gone");
    scene.pass(at(LATER));
    let decision = scene.append(&["Release"], at(LATER + 1));
    assert_eq!(ready(&decision).0, "Released");
}

#[test]
fn only_what_is_active_is_looked_after() {
    for state in STATES.into_iter().filter(|state| *state != State::Active) {
        let plain = Scene::reach(state, "", "");
        let mut scene = plain.clone();
        scene.observed = lost("a is gone");
        assert_eq!(scene.decide(at(LATER)), plain.decide(at(LATER)), "{state:?}");
    }
}
