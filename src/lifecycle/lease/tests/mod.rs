//! The tables of a lease. Each test plays a lease's story by passes of the reconciler; what a pass decides is written as
//! the shell writes it.

mod arrows;
mod clocks;
mod command_table;
mod condition_table;
mod edits;
mod expiry;
mod health;
mod heartbeats;
mod holds;
mod progress;
mod returns;
mod storage;

use super::*;
use crate::{
    api::{
        Claim,
        step::{Answer, EffectKey, Facts, Step, StepKind, Verdict},
    },
    lifecycle::{EventKind, testing::*},
};

/// A lease, the resource that is there for it, and what its passes see of both.
#[derive(Clone)]
pub struct Scene {
    pub lease: Lease,
    pub resource: Resource,
    pub blueprint: Option<Blueprint>,
    pub free: FreeSteps,
    /// The attempt that the resource shows a claim for.
    pub claimed: Option<i64>,
    pub sight: Sight,
    pub waiting: Waiting,
    pub reports: Vec<Report>,
    pub observed: Option<Observed>,
    /// Whether anybody has a say at a deadline, and what is answered there.
    pub question: Question,
    pub says: Verdict,
    /// How often it was asked.
    pub asked: usize,
    pub heartbeat_seen: Option<MicroTime>,
}

/// How the resource that the lease is bound to is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Seen,
    Absent,
    Gone,
    Confirmed,
}

/// Something that happens to a lease, or to what it sees.
pub type Happens = fn(&mut Scene);

/// Where a lease can stand: its phases, told apart by what the tables of api.md tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Acquired,
    Returning,
    Active,
    Holding,
    TearingDown,
    Failing,
    Broken,
    BrokenFailing,
    Destroyed,
}

pub const STATES: [State; 10] = [
    State::Pending,
    State::Acquired,
    State::Returning,
    State::Active,
    State::Holding,
    State::TearingDown,
    State::Failing,
    State::Broken,
    State::BrokenFailing,
    State::Destroyed,
];

/// When the scenes that have reached a state go on.
pub const LATER: i64 = 40;

impl Scene {
    /// A lease that was just created, a Blueprint, and its one resource, which is Active. Every step of the driver has
    /// effects outside.
    pub fn new(lease_spec: &str, blueprint_spec: &str) -> Self {
        let mut resource = resource("");
        resource.status.get_or_insert_default().phase = Some(ResourcePhase::Active.into());
        Self {
            lease: lease("l", lease_spec),
            resource,
            blueprint: Some(blueprint(blueprint_spec)),
            free: FreeSteps::default(),
            claimed: None,
            sight: Sight::Seen,
            waiting: Waiting {
                rung: Rung::AtCapacity,
                message: "Blueprint pools/ci has all that fits in use".into(),
                place: Some(1),
                served_at_once: false,
            },
            reports: Vec::new(),
            observed: None,
            question: Question::Nobody,
            says: Verdict::Expire,
            asked: 0,
            heartbeat_seen: None,
        }
    }

    /// Somebody has a say at its deadlines, and says no; `None`: says nothing against it.
    pub fn declines(&mut self, why: Option<&str>) {
        self.question = Question::Open;
        self.says = why.map_or(Verdict::Expire, |why| Verdict::Decline(why.into()));
    }

    /// With a driver that has no effects outside.
    pub fn free(lease_spec: &str, blueprint_spec: &str) -> Self {
        Self { free: FreeSteps::ALL, ..Self::new(lease_spec, blueprint_spec) }
    }

    /// A lease in this state, at 30 s; it was created at 0 s, acquired at 10 s and active at 20 s, as far as it came.
    pub fn reach(state: State, lease_spec: &str, blueprint_spec: &str) -> Self {
        let mut scene = Self::new(lease_spec, blueprint_spec);
        scene.pass(at(1));
        if state == State::Pending {
            return scene;
        }
        scene.claimed = Some(0);
        scene.pass(at(10));
        match state {
            State::Pending | State::Acquired => return scene,
            State::Returning => {
                scene.end_resource(ResourcePhase::Released, "Released");
                scene.pass(at(20));
                return scene;
            }
            State::Broken | State::BrokenFailing => {
                scene.answer(StepKind::Activate, Answer::FailedForGood(failure("NoRoute")));
            }
            _ => scene.answer(StepKind::Activate, done()),
        }
        scene.pass(at(20));
        match state {
            State::Holding => scene.command("Release, hold: 20m", at(30)),
            State::TearingDown | State::Failing | State::Destroyed => scene.command("Release", at(30)),
            _ => {}
        }
        match state {
            State::Failing | State::BrokenFailing => {
                scene.answer(StepKind::TearDownLease, Answer::Failed(failure("NoRoute")));
                scene.pass(at(32));
            }
            State::Destroyed => {
                scene.answer(StepKind::TearDownLease, done());
                scene.pass(at(32));
            }
            _ => {}
        }
        // What was asked for to come here is over and done with.
        scene.lease.spec.commands.clear();
        scene.status_mut().commands.clear();
        scene
    }

    pub fn decide(&self, now: MicroTime) -> Decision<LeaseStatus> {
        let (resource, blueprint, free) = (&self.resource, self.blueprint.as_ref(), self.free);
        let granted =
            |attempt| Granted { resource, blueprint, free, intent: serde_json::json!({"driver": "hosts"}), attempt };
        let bound = match (self.lease.resource_ref(), self.sight) {
            (None, _) => Bound::Unbound,
            (_, Sight::Seen) => Bound::Seen { resource, blueprint, free },
            (_, Sight::Confirmed) => Bound::Confirmed { resource, blueprint, free },
            (_, Sight::Absent) => Bound::Absent,
            (_, Sight::Gone) => Bound::Gone { free },
        };
        let claims = self.claimed.map(granted).into_iter().collect();
        let around = Surroundings {
            claims,
            bound,
            waiting: self.waiting.clone(),
            reports: &self.reports,
            observed: self.observed.as_ref(),
            question: self.question.clone(),
            heartbeat_seen: self.heartbeat_seen,
        };
        decide(&self.lease, &around, now)
    }

    /// One pass as the shell makes it: a read finds the resource as it is, a free step is taken at once, and the status is
    /// written.
    pub fn pass(&mut self, now: MicroTime) -> Decision<LeaseStatus> {
        // What failed is tried again so long after the pass that first sees it.
        for report in self.reports.iter_mut().filter(|r| r.failures > 0) {
            report.retry_at.get_or_insert(now.after(crate::lifecycle::deadline::retry_after(report.failures)));
        }
        let (sight, question) = (self.sight, self.question.clone());
        for _ in 0..10 {
            let decision = self.decide(now);
            match decision.reads.first() {
                None => {}
                Some(Read::Expiry) => {
                    self.asked += 1;
                    self.question = Question::Answered(self.says.clone());
                    continue;
                }
                Some(_) => {
                    self.sight = Sight::Confirmed;
                    continue;
                }
            }
            if let Some(order) = decision.step.as_ref().filter(|order| self.free.contains(order.step.kind)) {
                self.reports.push(Report { step: order.step.clone(), answer: done(), failures: 0, retry_at: None });
                continue;
            }
            (self.sight, self.question) = (sight, question);
            self.lease.status = Some(decision.status.clone());
            return decision;
        }
        panic!("a pass that never ends");
    }

    /// What came of this step of the lease, the first time that it failed if it did.
    pub fn answer(&mut self, kind: StepKind, answer: Answer) {
        let failures = u32::from(matches!(answer, Answer::Failed(_) | Answer::FailedForGood(_)));
        self.answer_after(kind, answer, failures);
    }

    pub fn answer_after(&mut self, kind: StepKind, answer: Answer, failures: u32) {
        let step = Step { kind, key: self.key() };
        self.reports = vec![Report { step, answer, failures, retry_at: None }];
    }

    /// The key of the effects of the lease as it is now.
    pub fn key(&self) -> EffectKey {
        let resource = self.lease.resource_ref().map_or(uid(&self.resource.metadata), |r| r.uid.as_str());
        let claim = Claim {
            namespace: "team".into(),
            name: "l".into(),
            uid: uid(&self.lease.metadata).into(),
            attempt: self.lease.attempt(),
            since: at(0),
        };
        EffectKey::of_claim(resource, &claim)
    }

    /// The commands are appended, and a pass is made.
    pub fn append(&mut self, texts: &[&str], now: MicroTime) -> Decision<LeaseStatus> {
        let taken = self.lease.spec.commands.len();
        let new = texts.iter().enumerate().map(|(n, text)| command(&format!("c{}", taken + n), text));
        self.lease.spec.commands.extend(new);
        self.pass(now)
    }

    fn command(&mut self, text: &str, now: MicroTime) {
        self.append(&[text], now);
    }

    /// The resource is over.
    pub fn end_resource(&mut self, phase: ResourcePhase, reason: &str) {
        let status = self.resource.status.get_or_insert_default();
        status.phase = Some(phase.into());
        conditions::set(&mut status.conditions, at(0), "Released", Truth::True, reason, "");
    }

    /// The resource ends then.
    pub fn resource_ends(&mut self, at: Option<MicroTime>) {
        self.resource.status.get_or_insert_default().expires_at = at;
    }

    pub fn status(&self) -> &LeaseStatus {
        self.lease.status.as_ref().unwrap()
    }

    pub fn status_mut(&mut self) -> &mut LeaseStatus {
        self.lease.status.as_mut().unwrap()
    }
}

/// A status in short: `Active until +1h`, `Released/Expired/TearingDown`, `Released/Released/Held until +20m30s`.
pub fn short(status: &LeaseStatus) -> String {
    let phase = status.phase();
    let until = |at: Option<MicroTime>| at.map_or(String::new(), |at| format!(" until {}", offset(at)));
    let reason = |type_| conditions::reason(&status.conditions, type_);
    match phase {
        LeasePhase::Acquired if reason("Ready") == "Returning" => format!("Returning{}", until(status.expires_at)),
        LeasePhase::Pending | LeasePhase::Acquired | LeasePhase::Active => {
            format!("{phase:?}{}", until(status.expires_at))
        }
        LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed => {
            let hold = deadline::find(&status.deadlines, DeadlineName::Hold).map(|d| d.at);
            format!("{phase:?}/{}/{}{}", reason("Released"), reason("TornDown"), until(hold))
        }
    }
}

#[test]
fn the_scenes_reach_their_states() {
    for (state, expected) in STATES.into_iter().zip([
        "Pending",
        "Acquired",
        "Returning",
        "Active",
        "Released/Released/Held until +20m30s",
        "Released/Released/TearingDown",
        "Released/Released/TeardownFailed",
        "Broken/Failed/TearingDown",
        "Broken/Failed/TeardownFailed",
        "Destroyed/Released/TornDown",
    ]) {
        assert_eq!(short(Scene::reach(state, "", "").status()), expected, "{state:?}");
    }
}
