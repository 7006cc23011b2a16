//! The arrows between a lease's phases (api.md section 2), and what holds on each of them: every state is put into every
//! situation.

use super::*;
use std::collections::BTreeSet;

/// A lease in some state, and what its next pass sees.
#[derive(Clone, Debug)]
struct Situation {
    state: State,
    command: &'static str,
    deleted: bool,
    resource: (Sight, ResourcePhase),
    answer: Option<Answer>,
    now: MicroTime,
}

const COMMANDS: [&str; 6] = ["", "Release", "Release, hold: 10m", "Expires, after: 1h", "Expires, after: 0s", "Forget"];

const RESOURCES: [(Sight, ResourcePhase); 6] = [
    (Sight::Seen, ResourcePhase::Active),
    (Sight::Seen, ResourcePhase::Released),
    (Sight::Seen, ResourcePhase::Broken),
    (Sight::Absent, ResourcePhase::Active),
    (Sight::Confirmed, ResourcePhase::Active),
    (Sight::Gone, ResourcePhase::Active),
];

/// The step that may have been ordered in this state, and so may be answered.
fn ordered(state: State) -> Option<StepKind> {
    match state {
        State::Acquired => Some(StepKind::Activate),
        State::Returning | State::TearingDown | State::Failing | State::Broken | State::BrokenFailing => {
            Some(StepKind::TearDownLease)
        }
        State::Pending | State::Active | State::Holding | State::Destroyed => None,
    }
}

fn answers(state: State) -> Vec<Option<Answer>> {
    let answers = [
        done(),
        Answer::Again(crate::api::step::Wait::after(crate::api::Duration::from_secs(1))),
        Answer::Failed(failure("NoRoute")),
        Answer::FailedForGood(failure("NoRoute")),
    ];
    let answered = answers.into_iter().map(Some).filter(|_| ordered(state).is_some());
    [None].into_iter().chain(answered).collect()
}

/// Every state in every situation.
fn each_situation(free: FreeSteps, mut look: impl FnMut(&Situation, &Scene)) {
    for state in STATES {
        let mut reached = Scene::reach(state, "queueTimeout: 30m, expiresAt: '2026-11-23T11:00:00Z'", "");
        reached.free = free;
        for (command, deleted) in product(&COMMANDS, &[false, true]) {
            for (resource, answer) in product(&RESOURCES, &answers(state)) {
                for now in [at(LATER), at(2 * HOUR)] {
                    let situation = Situation { state, command, deleted, resource, answer: answer.clone(), now };
                    look(&situation, &situation.put(&reached));
                }
            }
        }
    }
}

fn product<A: Clone, B: Clone>(these: &[A], those: &[B]) -> Vec<(A, B)> {
    these.iter().flat_map(|a| those.iter().map(|b| (a.clone(), b.clone()))).collect()
}

impl Situation {
    /// Puts a lease that has reached the state into it.
    fn put(&self, reached: &Scene) -> Scene {
        let mut scene = reached.clone();
        let (sight, phase) = self.resource;
        scene.sight = sight;
        // What is absent from the cache shows no claim.
        scene.claimed = (sight != Sight::Absent).then_some(scene.lease.attempt());
        scene.end_resource(phase, "Released");
        scene.reports.clear();
        if let (Some(kind), Some(answer)) = (ordered(self.state), self.answer.clone()) {
            scene.answer(kind, answer);
        }
        if self.deleted {
            delete(&mut scene.lease.metadata);
        }
        scene.lease.spec.commands.extend((!self.command.is_empty()).then(|| command("c", self.command)));
        scene
    }
}

fn arrows(free: FreeSteps) -> BTreeSet<(LeasePhase, LeasePhase)> {
    let mut seen = BTreeSet::new();
    each_situation(free, |situation, scene| {
        let after = scene.clone().pass(situation.now).status;
        let (from, to) = (scene.lease.phase(), after.phase());
        if from != to {
            seen.insert((from, to));
        }
    });
    seen
}

/// Each arrow is a write of its own where effects lie between; what waits has none, and is over in one.
#[test]
fn with_effects_each_arrow_is_a_write() {
    use LeasePhase::{Acquired, Active, Broken, Destroyed, Pending, Released};
    let expected = [
        (Pending, Acquired),
        (Pending, Destroyed),
        (Acquired, Pending),
        (Acquired, Active),
        (Acquired, Released),
        (Acquired, Broken),
        // Released on its way back, at the moment at which its teardown is done.
        (Acquired, Destroyed),
        (Active, Released),
        (Released, Destroyed),
        (Broken, Destroyed),
    ];
    assert_eq!(arrows(FreeSteps::default()), expected.into());
}

/// Without effects several arrows are gone along in one write; only a hold, and a wait, are states to rest in.
#[test]
fn without_effects_several_arrows_are_one_write() {
    use LeasePhase::{Acquired, Active, Broken, Destroyed, Pending, Released};
    let expected = [
        (Pending, Active),
        (Pending, Destroyed),
        (Acquired, Pending),
        (Acquired, Active),
        (Acquired, Destroyed),
        (Active, Released),
        (Active, Destroyed),
        (Released, Destroyed),
        (Broken, Destroyed),
    ];
    assert_eq!(arrows(FreeSteps::ALL), expected.into());
}

/// Where the status is on record as it is decided, the shell begins the step that comes with it: then what the step rests
/// on must be on record (L3, L7, L8).
#[test]
fn what_a_step_rests_on_is_on_record() {
    let mut begun = BTreeSet::new();
    each_situation(FreeSteps::default(), |situation, scene| {
        let decision = scene.decide(situation.now);
        let Some(order) = decision.step.filter(|_| decision.reads.is_empty()) else { return };
        assert_eq!(order.step.key, scene.key(), "{situation:?}");
        if Some(&decision.status) != scene.lease.status.as_ref() {
            return;
        }
        let on_record = short(scene.status());
        let on_record = on_record.split(" until").next().unwrap_or_default().to_owned();
        match order.step.kind {
            StepKind::Activate => {
                assert_eq!(on_record, "Acquired", "{situation:?}");
                assert_eq!(scene.sight, Sight::Confirmed, "{situation:?}: L7");
            }
            StepKind::TearDownLease => {
                assert!(["Returning", "Released", "Broken"].iter().any(|s| on_record.starts_with(s)), "{situation:?}");
                assert!(!on_record.contains("Held"), "{situation:?}");
            }
            StepKind::Build | StepKind::TearDownResource => {
                panic!("{situation:?}: a lease orders no {:?}", order.step.kind)
            }
        }
        begun.insert((on_record.split('/').next().unwrap_or_default().to_owned(), order.step.kind));
    });
    let begun: Vec<_> = begun.iter().map(|(state, kind)| format!("{state} {kind:?}")).collect();
    assert_eq!(
        begun,
        ["Acquired Activate", "Broken TearDownLease", "Released TearDownLease", "Returning TearDownLease"]
    );
}

/// Nothing is ever reported destroyed that is not: its teardown was done, or nothing was begun, or it was forgotten.
#[test]
fn destroyed_is_true() {
    each_situation(FreeSteps::default(), |situation, scene| {
        let status = scene.decide(situation.now).status;
        let (LeasePhase::Destroyed, true) = (status.phase(), situation.state != State::Destroyed) else {
            return;
        };
        let done = scene.reports.iter().any(|r| {
            r.step == Step { kind: StepKind::TearDownLease, key: scene.key() } && matches!(r.answer, Answer::Done(_))
        });
        match conditions::true_reason(&status.conditions, "TornDown") {
            Some("TornDown") => assert!(done, "{situation:?}"),
            Some("NothingToTearDown") => assert_eq!(situation.state, State::Pending, "{situation:?}"),
            Some("Forgotten") => {
                assert!(matches!(situation.state, State::Failing | State::BrokenFailing), "{situation:?}")
            }
            other => panic!("{situation:?}: {other:?}"),
        }
    });
}

/// Times, references and conditions fit the phase, whichever way it was reached.
#[test]
fn a_status_is_whole() {
    for free in [FreeSteps::default(), FreeSteps::ALL] {
        each_situation(free, |situation, scene| {
            let status = scene.clone().pass(situation.now).status;
            let phase = status.phase();
            let over = matches!(phase, LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed);
            assert_eq!(status.released_at.is_some(), over, "{situation:?}");
            assert_eq!(status.destroyed_at.is_some(), phase == LeasePhase::Destroyed, "{situation:?}");
            assert_eq!(status.acquired_at.is_some(), status.resource_ref.is_some(), "{situation:?}");
            let bound = matches!(phase, LeasePhase::Acquired | LeasePhase::Active | LeasePhase::Broken);
            assert!(!bound || status.resource_ref.is_some(), "{situation:?}");
            assert!(phase != LeasePhase::Pending || status.resource_ref.is_none(), "{situation:?}");
            assert_eq!(status.queue_position.is_some(), phase == LeasePhase::Pending, "{situation:?}");
            let types: Vec<_> =
                status.conditions.iter().map(|c| c.type_.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
            assert_eq!(types, ["Acquired", "Ready", "Released", "Settled", "TornDown"], "{situation:?}");
            let is = |type_| conditions::true_reason(&status.conditions, type_).is_some();
            assert_eq!(is("Released"), over, "{situation:?}");
            assert_eq!(is("Ready"), phase == LeasePhase::Active, "{situation:?}");
            assert_eq!(is("Settled"), over || phase == LeasePhase::Active, "{situation:?}");
            assert_eq!(is("TornDown"), phase == LeasePhase::Destroyed, "{situation:?}");
            let names: BTreeSet<_> = status.deadlines.iter().map(|d| d.name).collect();
            assert_eq!(names.len(), status.deadlines.len(), "{situation:?}: a clock stands once");
        });
    }
}

/// The next pass is set for the next deadline, and not for one that has passed.
#[test]
fn the_next_pass_is_set_for_the_next_deadline() {
    each_situation(FreeSteps::default(), |situation, scene| {
        for age in [None, Some(at(HOUR / 3))] {
            let mut scene = scene.clone();
            scene.resource_ends(age);
            let decision = scene.pass(situation.now);
            if decision.metadata.is_some() {
                continue;
            }
            let coming = decision.status.deadlines.iter().filter(|d| d.at > situation.now).cloned().collect::<Vec<_>>();
            let followed = decision.status.expires_at == age;
            let expected = earliest(&coming).filter(|at| !followed || Some(*at) != age);
            assert!(decision.wake.is_none_or(|wake| wake > situation.now), "{situation:?}: {:?}", decision.wake);
            assert!(expected.is_none() || decision.wake == expected, "{situation:?}: {:?} {expected:?}", decision.wake);
        }
    });
}

/// Decided again on what was written, in the same surroundings, nothing more is written.
#[test]
fn a_pass_comes_to_rest() {
    for free in [FreeSteps::default(), FreeSteps::ALL] {
        each_situation(free, |situation, scene| {
            let mut scene = scene.clone();
            scene.pass(situation.now);
            scene.pass(situation.now);
            let on_record = scene.lease.status.clone();
            let decision = scene.pass(situation.now);
            assert_eq!(Some(&decision.status), on_record.as_ref(), "{situation:?}");
            assert!(decision.events.is_empty(), "{situation:?}: and nothing is told again");
        });
    }
}
