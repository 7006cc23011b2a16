//! The tables of a resource. Each test plays a resource's story by passes of the reconciler; what a pass decides is
//! written as the shell writes it.

mod arrows;
mod builds;
mod claims;
mod clocks;
mod command_table;
mod condition_table;
mod drains;
mod expiry;
mod health;
mod hooks;
mod storage;
mod teardowns;

use super::*;
use crate::{
    api::{
        DeadlineName, LeasePhase,
        lease::ResourceRef,
        step::{Facts, Verdict},
    },
    lifecycle::{EventKind, testing::*},
};
use std::collections::BTreeMap;

/// A resource, its Blueprint, and the leases that its passes see.
#[derive(Clone)]
pub struct Scene {
    pub resource: Resource,
    pub blueprint: Blueprint,
    pub sight: Sight,
    pub slot: SlotState,
    pub idle: IdleClock,
    /// The leases of its claims, by UID; one that is not here is absent from the cache.
    pub leases: BTreeMap<String, Holder>,
    pub candidates: Vec<Candidate>,
    pub slot_is_clear: Option<bool>,
    pub counted_limit: Option<i64>,
    pub makes_way: bool,
    pub others: Option<i64>,
    pub free: FreeSteps,
    pub intent: Option<serde_json::Value>,
    pub reports: Vec<Report>,
    pub observed: Option<Observed>,
    /// Whether anybody has a say at a deadline, and what is answered there.
    pub question: Question,
    pub says: Verdict,
    /// How often it was asked.
    pub asked: usize,
    /// What was answered to hooks in this pass, in its order; `None`: the driver has none.
    pub hooks: Option<Vec<(HookCall, Moves)>>,
    /// What hooks move, by what the pass has come to without.
    pub moves: fn(HookKind, &ResourceStatus) -> Moves,
}

/// Something that happens to a resource, or to what it sees.
pub type Happens = fn(&mut Scene);

/// How the Blueprint is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Seen,
    Confirmed,
    Absent,
    Gone,
}

/// What is known of the lease of a claim.
#[derive(Clone, Debug)]
pub enum Holder {
    Seen(Box<Lease>),
    Unreadable,
    Gone,
}

/// Where a resource can stand: its phases, told apart by what the tables of api.md tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Building,
    Idle,
    Leased,
    /// Released, and held still.
    Waiting,
    TearingDown,
    Failing,
    Broken,
    BrokenFailing,
    Destroyed,
}

pub const STATES: [State; 9] = [
    State::Building,
    State::Idle,
    State::Leased,
    State::Waiting,
    State::TearingDown,
    State::Failing,
    State::Broken,
    State::BrokenFailing,
    State::Destroyed,
];

/// When the scenes that have reached a state go on.
pub const LATER: i64 = 40;

impl Scene {
    /// A resource that was just created, and its Blueprint. Every step of the driver has effects outside.
    pub fn new(resource_spec: &str, blueprint_spec: &str) -> Self {
        Self {
            resource: resource(resource_spec),
            blueprint: blueprint(blueprint_spec),
            sight: Sight::Seen,
            slot: SlotState::Current,
            idle: IdleClock::Runs,
            leases: BTreeMap::new(),
            candidates: Vec::new(),
            slot_is_clear: None,
            counted_limit: None,
            makes_way: false,
            others: None,
            free: FreeSteps::default(),
            intent: Some(serde_json::json!({"driver": "webhook"})),
            reports: Vec::new(),
            observed: None,
            question: Question::Nobody,
            says: Verdict::Expire,
            asked: 0,
            hooks: None,
            moves: |_, _| Moves::default(),
        }
    }

    /// Somebody has a say at its deadlines, and says no; `None`: says nothing against it.
    pub fn declines(&mut self, why: Option<&str>) {
        self.question = Question::Open;
        self.says = why.map_or(Verdict::Expire, |why| Verdict::Decline(why.into()));
    }

    /// With a driver that has no effects outside.
    pub fn free(resource_spec: &str, blueprint_spec: &str) -> Self {
        Self { free: FreeSteps::ALL, intent: None, ..Self::new(resource_spec, blueprint_spec) }
    }

    /// A resource in this state, at 32 s at the latest; it was created at 0 s, active at 10 s, granted at 20 s and over at
    /// 30 s, as far as it came.
    pub fn reach(state: State, resource_spec: &str, blueprint_spec: &str) -> Self {
        let mut scene = Self::new(resource_spec, blueprint_spec);
        scene.pass(at(1));
        match state {
            State::Building => return scene,
            State::Broken | State::BrokenFailing => {
                scene.answer(StepKind::Build, Answer::FailedForGood(failure("NoImage")));
            }
            _ => scene.answer(StepKind::Build, done()),
        }
        scene.pass(at(10));
        if matches!(state, State::Leased | State::Waiting) {
            scene.grant("l", at(20));
        }
        if matches!(state, State::Waiting | State::TearingDown | State::Failing | State::Destroyed) {
            scene.append(&["Release"], at(30));
        }
        match state {
            State::Failing | State::BrokenFailing => {
                scene.answer(StepKind::TearDownResource, Answer::Failed(failure("NoRoute")));
                scene.pass(at(32));
            }
            State::Destroyed => {
                scene.answer(StepKind::TearDownResource, done());
                scene.pass(at(32));
            }
            _ => {}
        }
        scene.resource.spec.commands.clear();
        scene.status_mut().commands.clear();
        scene
    }

    pub fn decide(&self, now: MicroTime) -> Decision<ResourceStatus> {
        let view = |claim: &Claim| match self.leases.get(&claim.uid) {
            Some(Holder::Seen(lease)) => LeaseView::Seen(lease),
            Some(Holder::Unreadable) => LeaseView::Unreadable,
            Some(Holder::Gone) => LeaseView::Gone,
            None => LeaseView::Absent,
        };
        let around = Surroundings {
            blueprint: match self.sight {
                Sight::Seen => BlueprintView::Seen(&self.blueprint),
                Sight::Confirmed => BlueprintView::Confirmed(&self.blueprint),
                Sight::Absent => BlueprintView::Absent,
                Sight::Gone => BlueprintView::Gone,
            },
            slot: self.slot,
            idle: self.idle,
            leases: self.resource.claims().iter().map(view).collect(),
            candidates: self.candidates.clone(),
            slot_is_clear: self.slot_is_clear,
            counted_limit: self.counted_limit,
            makes_way: self.makes_way,
            others: self.others,
            free: self.free,
            intent: self.intent.clone(),
            reports: &self.reports,
            observed: self.observed.as_ref(),
            question: self.question.clone(),
            hooks: self.hooks.as_deref(),
        };
        decide(&self.resource, &around, now)
    }

    /// One pass as the shell makes it: reads find what is there, a free step is taken at once, and the status is written.
    pub fn pass(&mut self, now: MicroTime) -> Decision<ResourceStatus> {
        // What failed is tried again so long after the pass that first sees it.
        for report in self.reports.iter_mut().filter(|r| r.failures > 0) {
            report.retry_at.get_or_insert(now.after(crate::lifecycle::deadline::retry_after(report.failures)));
        }
        let (sight, slot_is_clear, question) = (self.sight, self.slot_is_clear, self.question.clone());
        // Whoever made an earlier pass has told nobody what it was answered.
        self.hooks.iter_mut().for_each(Vec::clear);
        for _ in 0..10 {
            let decision = self.decide(now);
            match decision.reads.first() {
                Some(Read::Blueprint) => self.sight = Sight::Confirmed,
                Some(Read::LeasesOnSlot) => self.slot_is_clear = Some(true),
                Some(Read::ClaimedLease { uid }) => {
                    let lease = lease(uid.trim_start_matches("uid-of-"), "");
                    self.leases.insert(uid.clone(), Holder::Seen(Box::new(lease)));
                }
                Some(Read::Expiry) => {
                    self.asked += 1;
                    self.question = Question::Answered(self.says.clone());
                }
                Some(Read::Hook { .. }) => self.tell(&decision),
                Some(other) => panic!("a resource reads no {other:?}"),
                None => match decision.step.as_ref().filter(|order| self.free.contains(order.step.kind)) {
                    Some(order) => {
                        self.reports.push(Report {
                            step: order.step.clone(),
                            answer: done(),
                            failures: 0,
                            retry_at: None,
                        });
                    }
                    None => {
                        (self.sight, self.slot_is_clear, self.question) = (sight, slot_is_clear, question);
                        self.resource.status = Some(decision.status.clone());
                        return decision;
                    }
                },
            }
        }
        panic!("a pass that never ends");
    }

    /// The driver is told, as the shell does it, of a lease that comes or goes.
    pub fn tell(&mut self, decision: &Decision<ResourceStatus>) {
        let [Read::Hook { call, after }] = decision.reads.as_slice() else { panic!("one: {:?}", decision.reads) };
        let moves = (self.moves)(call.kind, &decision.status);
        let told = self.hooks.get_or_insert_default();
        told.truncate(*after);
        told.push((call.clone(), moves));
    }

    /// What came of this step of the resource, the first time that it failed if it did.
    pub fn answer(&mut self, kind: StepKind, answer: Answer) {
        let failures = u32::from(matches!(answer, Answer::Failed(_) | Answer::FailedForGood(_)));
        self.answer_after(kind, answer, failures);
    }

    pub fn answer_after(&mut self, kind: StepKind, answer: Answer, failures: u32) {
        self.reports = vec![Report { step: self.step(kind), answer, failures, retry_at: None }];
    }

    pub fn step(&self, kind: StepKind) -> Step {
        Step { kind, key: EffectKey::of_resource(uid(&self.resource.metadata)) }
    }

    /// The commands are appended, and a pass is made.
    pub fn append(&mut self, texts: &[&str], now: MicroTime) -> Decision<ResourceStatus> {
        let taken = self.resource.spec.commands.len();
        let new = texts.iter().enumerate().map(|(n, text)| command(&format!("c{}", taken + n), text));
        self.resource.spec.commands.extend(new);
        self.pass(now)
    }

    /// This lease waits, and is offered the resource; it takes the grant up.
    pub fn grant(&mut self, name: &str, now: MicroTime) -> Decision<ResourceStatus> {
        self.candidates = vec![candidate(name, 0)];
        let decision = self.pass(now);
        self.candidates.clear();
        self.see(name, LeasePhase::Active, 0, Some("uid-of-ci--h1"));
        decision
    }

    /// A lease is seen in this phase and attempt, bound to the resource of that UID.
    pub fn see(&mut self, name: &str, phase: LeasePhase, attempt: i64, bound_to: Option<&str>) {
        let mut lease = lease(name, "");
        let status = lease.status.get_or_insert_default();
        status.phase = Some(phase.into());
        status.attempt = attempt;
        status.resource_ref =
            bound_to.map(|uid| ResourceRef { namespace: "pools".into(), name: "ci--h1".into(), uid: uid.into() });
        self.leases.insert(format!("uid-of-{name}"), Holder::Seen(Box::new(lease)));
    }

    /// Its leases have all been destroyed.
    pub fn leases_end(&mut self) {
        for claim in self.resource.claims().to_vec() {
            self.see(&claim.name, LeasePhase::Destroyed, claim.attempt, Some("uid-of-ci--h1"));
        }
    }

    pub fn status(&self) -> &ResourceStatus {
        self.resource.status.as_ref().unwrap()
    }

    pub fn status_mut(&mut self) -> &mut ResourceStatus {
        self.resource.status.get_or_insert_default()
    }
}

/// A waiting lease that the matcher offers.
pub fn candidate(name: &str, attempt: i64) -> Candidate {
    Candidate { namespace: "team".into(), name: name.into(), uid: format!("uid-of-{name}"), attempt }
}

/// A status in short: `Active [l] until +1h`, `Released/Expired/TearingDown`, `Released/Released/WaitingForLeases [l]`.
/// A claim of a later attempt has that too: `[l@2]`.
pub fn short(status: &ResourceStatus) -> String {
    let phase = status.phase();
    let until = status.expires_at.map_or(String::new(), |at| format!(" until {}", offset(at)));
    let claim = |c: &Claim| if c.attempt == 0 { c.name.clone() } else { format!("{}@{}", c.name, c.attempt) };
    let claims: Vec<_> = status.claims.iter().map(claim).collect();
    let claims = if claims.is_empty() { String::new() } else { format!(" [{}]", claims.join(" ")) };
    let reason = |type_| conditions::reason(&status.conditions, type_);
    match phase {
        ResourcePhase::Pending | ResourcePhase::Active => format!("{phase:?}{claims}{until}"),
        ResourcePhase::Released | ResourcePhase::Broken | ResourcePhase::Destroyed => {
            format!("{phase:?}/{}/{}{claims}", reason("Released"), reason("TornDown"))
        }
    }
}

#[test]
fn the_scenes_reach_their_states() {
    for (state, expected) in STATES.into_iter().zip([
        "Pending",
        "Active",
        "Active [l]",
        "Released/Released/WaitingForLeases [l]",
        "Released/Released/TearingDown",
        "Released/Released/TeardownFailed",
        "Broken/Failed/TearingDown",
        "Broken/Failed/TeardownFailed",
        "Destroyed/Released/TornDown",
    ]) {
        assert_eq!(short(Scene::reach(state, "", "").status()), expected, "{state:?}");
    }
}
