//! The arrows between a resource's phases (api.md section 2), and what holds on each of them: every state is put into every
//! situation.

use super::*;
use std::collections::BTreeSet;

/// A resource in some state, and what its next pass sees.
#[derive(Clone, Debug)]
struct Situation {
    state: State,
    command: &'static str,
    deleted: bool,
    blueprint: (Sight, Asks),
    holder: Option<(LeasePhase, i64)>,
    answer: Option<Answer>,
    now: MicroTime,
}

/// What the Blueprint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Nothing,
    Suspended,
    Deleted,
    Disabled,
}

const COMMANDS: [&str; 6] = ["", "Release", "Reclaim", "Expires, after: 1h", "Expires, after: 0s", "Forget"];

const BLUEPRINTS: [(Sight, Asks); 6] = [
    (Sight::Seen, Asks::Nothing),
    (Sight::Confirmed, Asks::Nothing),
    (Sight::Seen, Asks::Suspended),
    (Sight::Seen, Asks::Deleted),
    (Sight::Seen, Asks::Disabled),
    (Sight::Gone, Asks::Nothing),
];

/// How the lease of the claim is seen; `None` is gone by a quorum read.
const HOLDERS: [Option<(LeasePhase, i64)>; 4] =
    [None, Some((LeasePhase::Pending, 0)), Some((LeasePhase::Active, 0)), Some((LeasePhase::Destroyed, 0))];

/// The step that may have been ordered in this state, and so may be answered.
fn ordered(state: State) -> Option<StepKind> {
    match state {
        State::Building => Some(StepKind::Build),
        State::TearingDown | State::Failing | State::Broken | State::BrokenFailing => Some(StepKind::TearDownResource),
        State::Idle | State::Leased | State::Waiting | State::Destroyed => None,
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

fn holders(state: State) -> &'static [Option<(LeasePhase, i64)>] {
    if matches!(state, State::Leased | State::Waiting) { &HOLDERS } else { &HOLDERS[..1] }
}

/// Every state in every situation.
fn each_situation(free: FreeSteps, mut look: impl FnMut(&Situation, &Scene)) {
    for state in STATES {
        let mut reached = Scene::reach(state, "expiresAt: '2026-11-23T11:00:00Z'", "resource: {idleTTL: 50m}");
        reached.free = free;
        for (command, deleted) in product(&COMMANDS, &[false, true]) {
            for (blueprint, answer) in product(&BLUEPRINTS, &answers(state)) {
                for (holder, now) in product(holders(state), &[at(LATER), at(55 * MINUTE), at(2 * HOUR)]) {
                    let answer = answer.clone();
                    let situation = Situation { state, command, deleted, blueprint, holder, answer, now };
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
    /// Puts a resource that has reached the state into it; somebody waits for it.
    fn put(&self, reached: &Scene) -> Scene {
        let mut scene = reached.clone();
        let (sight, asks) = self.blueprint;
        scene.sight = sight;
        match asks {
            Asks::Nothing => {}
            Asks::Suspended => scene.blueprint.spec.suspend = true,
            Asks::Deleted => delete(&mut scene.blueprint.metadata),
            Asks::Disabled => scene.slot = SlotState::Disabled,
        }
        match self.holder {
            None => drop(scene.leases.insert("uid-of-l".into(), Holder::Gone)),
            Some((phase, attempt)) => scene.see("l", phase, attempt, Some("uid-of-ci--h1")),
        }
        scene.reports.clear();
        if let (Some(kind), Some(answer)) = (ordered(self.state), self.answer.clone()) {
            scene.answer(kind, answer);
        }
        scene.candidates = vec![candidate("next", 0)];
        scene.slot_is_clear = Some(true);
        if self.deleted {
            delete(&mut scene.resource.metadata);
        }
        scene.resource.spec.commands.extend((!self.command.is_empty()).then(|| command("c", self.command)));
        scene
    }
}

fn arrows(free: FreeSteps) -> BTreeSet<(ResourcePhase, ResourcePhase)> {
    let mut seen = BTreeSet::new();
    each_situation(free, |situation, scene| {
        let after = scene.clone().pass(situation.now).status;
        let (from, to) = (scene.resource.phase(), after.phase());
        if from != to {
            seen.insert((from, to));
        }
    });
    seen
}

/// Each arrow is a write of its own where effects lie between.
#[test]
fn with_effects_each_arrow_is_a_write() {
    use ResourcePhase::{Active, Broken, Destroyed, Pending, Released};
    let expected = [
        (Pending, Active),
        (Pending, Broken),
        (Pending, Released),
        (Active, Released),
        (Released, Destroyed),
        (Broken, Destroyed),
    ];
    assert_eq!(arrows(FreeSteps::default()), expected.into());
}

/// Without effects what is over is destroyed in the same write, unless it is held.
#[test]
fn without_effects_several_arrows_are_one_write() {
    use ResourcePhase::{Active, Broken, Destroyed, Pending, Released};
    let expected = [
        (Pending, Active),
        (Pending, Destroyed),
        (Active, Released),
        (Active, Destroyed),
        (Released, Destroyed),
        (Broken, Destroyed),
    ];
    assert_eq!(arrows(FreeSteps::ALL), expected.into());
}

/// Where the status is on record as it is decided, the shell begins the step that comes with it: then what the step rests
/// on must be on record (R1, R4c, R8).
#[test]
fn what_a_step_rests_on_is_on_record() {
    let mut begun = BTreeSet::new();
    each_situation(FreeSteps::default(), |situation, scene| {
        let decision = scene.decide(situation.now);
        let Some(order) = decision.step.filter(|_| decision.reads.is_empty()) else { return };
        if Some(&decision.status) != scene.resource.status.as_ref() {
            return;
        }
        let (phase, status) = (scene.resource.phase(), scene.status());
        match order.step.kind {
            StepKind::Build => {
                assert_eq!(phase, ResourcePhase::Pending, "{situation:?}");
                assert_eq!(situation.blueprint, (Sight::Confirmed, Asks::Nothing), "{situation:?}: R1");
                assert!(status.built.is_some(), "{situation:?}");
            }
            StepKind::TearDownResource => {
                assert!(matches!(phase, ResourcePhase::Released | ResourcePhase::Broken), "{situation:?}");
                assert!(status.claims.is_empty(), "{situation:?}: R8");
            }
            StepKind::TearDownLease => assert_eq!(situation.holder, None, "{situation:?}: R4c"),
            StepKind::Activate => panic!("{situation:?}: a resource activates nothing"),
        }
        begun.insert(format!("{phase:?} {:?}", order.step.kind));
    });
    let expected = [
        "Active TearDownLease",
        "Broken TearDownResource",
        "Pending Build",
        "Released TearDownLease",
        "Released TearDownResource",
    ];
    assert_eq!(begun.into_iter().collect::<Vec<_>>(), expected);
}

/// Nothing is ever reported destroyed that is not: its teardown was done, or it was forgotten.
#[test]
fn destroyed_is_true() {
    each_situation(FreeSteps::default(), |situation, scene| {
        let status = scene.decide(situation.now).status;
        if status.phase() != ResourcePhase::Destroyed || situation.state == State::Destroyed {
            return;
        }
        let done = |r: &Report| r.step.kind == StepKind::TearDownResource && matches!(r.answer, Answer::Done(_));
        match conditions::true_reason(&status.conditions, "TornDown") {
            Some("TornDown") => assert!(scene.reports.iter().any(done), "{situation:?}"),
            Some("Forgotten") => {
                assert!(matches!(situation.state, State::Failing | State::BrokenFailing), "{situation:?}");
            }
            other => panic!("{situation:?}: {other:?}"),
        }
        assert!(status.claims.is_empty(), "{situation:?}");
    });
}

/// Times and conditions fit the phase, whichever way it was reached.
#[test]
fn a_status_is_whole() {
    for free in [FreeSteps::default(), FreeSteps::ALL] {
        each_situation(free, |situation, scene| {
            let decision = scene.clone().pass(situation.now);
            let status = decision.status;
            let phase = status.phase();
            let over = matches!(phase, ResourcePhase::Released | ResourcePhase::Broken | ResourcePhase::Destroyed);
            assert_eq!(status.released_at.is_some(), over, "{situation:?}");
            assert_eq!(status.destroyed_at.is_some(), phase == ResourcePhase::Destroyed, "{situation:?}");
            if phase == ResourcePhase::Active {
                assert!(status.activated_at.is_some(), "{situation:?}");
                assert_eq!(status.idle_since.is_some(), status.claims.is_empty(), "{situation:?}");
            }
            let is = |type_| conditions::true_reason(&status.conditions, type_).is_some();
            assert_eq!(is("Released"), over, "{situation:?}");
            assert_eq!(is("Ready"), phase == ResourcePhase::Active, "{situation:?}");
            assert_eq!(is("TornDown"), phase == ResourcePhase::Destroyed, "{situation:?}");
            assert_eq!(status.conditions.len(), 3, "{situation:?}");
            let names: BTreeSet<_> = status.deadlines.iter().map(|d| d.name).collect();
            assert_eq!(names.len(), status.deadlines.len(), "{situation:?}: a clock stands once");
            if decision.metadata.is_none() && earliest(&status.deadlines).is_some() {
                assert_eq!(decision.wake, earliest(&status.deadlines), "{situation:?}");
            }
            assert!(decision.wake.is_none_or(|wake| wake > situation.now), "{situation:?}");
        });
    }
}

/// A claim is never dropped but for its lease's own reasons (R4), and never granted twice.
#[test]
fn claims_come_and_go_by_the_rules() {
    for free in [FreeSteps::default(), FreeSteps::ALL] {
        each_situation(free, |situation, scene| {
            let status = scene.clone().pass(situation.now).status;
            let kept = |claim: &Claim| status.claims.iter().any(|c| c.uid == claim.uid);
            if !scene.status().claims.iter().all(kept) {
                let free_teardown = free == FreeSteps::ALL && situation.holder.is_none();
                let ended = situation.holder == Some((LeasePhase::Destroyed, 0));
                assert!(free_teardown || ended, "{situation:?}");
            }
            if status.claims.iter().any(|c| c.name == "next") {
                assert_eq!(status.phase(), ResourcePhase::Active, "{situation:?}");
                assert!(!situation.deleted, "{situation:?}");
                assert_eq!(situation.blueprint.1, Asks::Nothing, "{situation:?}");
            }
            assert!(status.claims.len() <= 1, "{situation:?}");
        });
    }
}

/// Decided again on what was written, in the same surroundings, nothing more is written.
#[test]
fn a_pass_comes_to_rest() {
    for free in [FreeSteps::default(), FreeSteps::ALL] {
        each_situation(free, |situation, scene| {
            let mut scene = scene.clone();
            scene.pass(situation.now);
            scene.candidates.clear();
            scene.leases.entry("uid-of-next".into()).or_insert(Holder::Seen(Box::new(lease("next", ""))));
            scene.pass(situation.now);
            let on_record = scene.resource.status.clone();
            let decision = scene.pass(situation.now);
            assert_eq!(Some(&decision.status), on_record.as_ref(), "{situation:?}");
            assert!(decision.events.is_empty(), "{situation:?}: and nothing is told again");
        });
    }
}
