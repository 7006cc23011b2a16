//! What becomes of an environment after it was built: told, taken back, and where nobody holds it replaced.

use super::*;

fn lost(why: &str, for_good: bool) -> Option<Observed> {
    Some(Observed { lost: Some(why.into()), for_good, ..Observed::default() })
}

fn ready(decision: &Decision<ResourceStatus>) -> (String, String) {
    reason_and_message(&decision.status.conditions, "Ready")
}

fn warned(decision: &Decision<ResourceStatus>) -> Vec<(&str, &str)> {
    decision.events.iter().map(|e| (e.reason.as_str(), e.message.as_str())).collect()
}

/// It is told once for each thing that there is to tell; nothing new is granted meanwhile; and it is taken back.
#[test]
fn what_is_lost_is_told_and_taken_back() {
    for state in [State::Idle, State::Leased] {
        let mut scene = Scene::reach(state, "", "limits: {leasesPerResource: 2}");
        scene.candidates = vec![candidate("next", 0)];
        let claims = scene.resource.claims().len();
        scene.observed = lost("a is not ready", false);
        let decision = scene.pass(at(LATER));
        assert_eq!(ready(&decision), ("ObjectLost".into(), "a is not ready".into()), "{state:?}");
        assert_eq!(warned(&decision), [("ObjectLost", "a is not ready")]);
        assert_eq!((decision.status.phase(), decision.status.claims.len()), (ResourcePhase::Active, claims));

        let again = scene.pass(at(LATER + 1));
        assert_eq!((again.events.len(), again.status), (0, decision.status), "{state:?}: it is told");
        scene.observed = None;
        let unknown = scene.pass(at(LATER + 2));
        assert_eq!(ready(&unknown).0, "ObjectLost", "{state:?}: what is not known changes nothing");
        scene.observed = lost("b is not ready", false);
        assert_eq!(warned(&scene.pass(at(LATER + 3))), [("ObjectLost", "b is not ready")]);

        scene.observed = Some(Observed::default());
        let whole = scene.pass(at(LATER + 4));
        assert_eq!((ready(&whole), warned(&whole)), (("Active".into(), String::new()), vec![]));
        assert_eq!(whole.status.claims.len(), claims + 1, "{state:?}: and grants again");
    }
}

/// What cannot become whole again is replaced, once nobody holds it.
#[test]
fn what_is_lost_for_good_breaks_when_nobody_holds_it() {
    let mut idle = Scene::reach(State::Idle, "", "");
    idle.observed = lost("a is gone", true);
    let decision = idle.pass(at(LATER));
    assert_eq!(short(&decision.status), "Broken/Lost/TearingDown");
    assert_eq!(warned(&decision), [("Lost", "a is gone")]);
    assert_eq!(decision.step.map(|order| order.step.kind), Some(StepKind::TearDownResource));

    let mut leased = Scene::reach(State::Leased, "", "");
    leased.observed = lost("a is gone", true);
    assert_eq!(short(&leased.pass(at(LATER)).status), "Active [l]", "whoever has it keeps it");
    leased.leases_end();
    assert_eq!(short(&leased.pass(at(LATER + 1)).status), "Broken/Lost/TearingDown");
}

/// What may become whole again has as long for it as a build may take, from when it was told; then it is replaced, once nobody
/// holds it.
#[test]
fn what_is_lost_for_long_breaks_when_nobody_holds_it() {
    for (policy, end) in [("", LATER + 15 * MINUTE + 1), ("resource: {buildTimeout: 2m}", LATER + 2 * MINUTE + 1)] {
        let mut idle = Scene::reach(State::Idle, "", policy);
        let mut leased = Scene::reach(State::Leased, "", policy);
        for scene in [&mut idle, &mut leased] {
            scene.observed = lost("a is not ready", false);
            assert_eq!(ready(&scene.pass(at(LATER))).0, "ObjectLost");
        }
        let waits = idle.pass(just_before(at(end)));
        assert_eq!((ready(&waits).0.as_str(), waits.wake), ("ObjectLost", Some(at(end))), "{policy}");
        let decision = idle.pass(at(end));
        assert_eq!(short(&decision.status), "Broken/Lost/TearingDown", "{policy}");
        assert_eq!(warned(&decision), [("Lost", "a is not ready")]);

        assert_eq!(short(&leased.pass(at(end)).status), "Active [l]", "{policy}: whoever has it keeps it");
        leased.leases_end();
        assert_eq!(short(&leased.pass(at(end + 1)).status), "Broken/Lost/TearingDown", "{policy}");
    }
}

/// What is not built yet, or over, is its step's affair.
#[test]
fn only_what_is_active_is_looked_after() {
    for state in STATES.into_iter().filter(|state| !matches!(state, State::Idle | State::Leased)) {
        let plain = Scene::reach(state, "", "");
        let mut scene = plain.clone();
        scene.observed = lost("a is gone", true);
        assert_eq!(scene.decide(at(LATER)), plain.decide(at(LATER)), "{state:?}");
    }
}
