//! The lease reconciler's decisions.

mod asked;
mod tell;
#[cfg(test)]
mod tests;

use super::{
    Decision, EventDraft, MetadataChange, Read, StepOrder, Urgency,
    conditions::{self, Truth},
    deadline::{self, End},
    has_finalizer, is_deleting,
    matching::Rung,
    queue, report_of, teardown, uid,
};
use crate::api::{
    Blueprint, DeadlineName, Lease, LeasePhase, LeaseSpec, LeaseStatus, MicroTime, Resource, ResourcePhase,
    blueprint::LeasePolicy,
    lease::ResourceRef,
    step::{Answer, EffectKey, Facts, FreeSteps, Report, Step, StepKind},
};

/// What a lease's pass sees around it.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The resources in the cache that show a claim for the lease's UID, whatever the attempt.
    pub claims: Vec<Granted<'a>>,
    /// The resource that the lease is bound to.
    pub bound: Bound<'a>,
    /// Why it waits, for a lease that does.
    pub waiting: Waiting,
    /// What came of the steps that were wanted.
    pub reports: &'a [Report],
}

/// A claim on a resource in the cache: with it a lease may be bound, for a claim cannot be dropped while its lease may
/// still take it up (protocol.md, L2 and R4).
#[derive(Clone, Debug)]
pub struct Granted<'a> {
    /// The resource, of any age.
    pub resource: &'a Resource,
    /// Its Blueprint, where it is known.
    pub blueprint: Option<&'a Blueprint>,
    /// Which steps of its driver are free of outside effects.
    pub free: FreeSteps,
    /// Its driver's name.
    pub driver: &'a str,
    /// The attempt that the claim is for.
    pub attempt: i64,
}

/// The resource that a lease is bound to.
#[derive(Clone, Debug)]
pub enum Bound<'a> {
    /// The lease is not bound.
    Unbound,
    /// It is in the cache, under the UID of the reference.
    Seen {
        /// The resource.
        resource: &'a Resource,
        /// Its Blueprint, where it is known.
        blueprint: Option<&'a Blueprint>,
        /// Which steps of its driver are free of outside effects.
        free: FreeSteps,
    },
    /// It is absent from the cache, which is no fact.
    Absent,
    /// A quorum read says that it is gone.
    Gone {
        /// Which steps of its driver are free of outside effects, as far as the lease's own record says.
        free: FreeSteps,
    },
    /// L7: a quorum read has just shown it, with the lease's claim.
    Confirmed {
        /// The resource, as read.
        resource: &'a Resource,
        /// Its Blueprint, where it is known.
        blueprint: Option<&'a Blueprint>,
        /// Which steps of its driver are free of outside effects.
        free: FreeSteps,
    },
}

/// Why a lease waits, and where.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The reason nearest to success.
    pub rung: Rung,
    /// One clause for each candidate.
    pub message: String,
    /// The best place in any queue, as it is to be shown.
    pub place: Option<i64>,
    /// A grant is on its way, or a build that takes no time: nothing is written that the next moment would overwrite.
    pub served_at_once: bool,
}

/// One pass over a lease.
pub fn decide(lease: &Lease, around: &Surroundings<'_>, now: MicroTime) -> Decision<LeaseStatus> {
    let on_record = lease.status.clone().unwrap_or_default();
    if lease.phase() == LeasePhase::Destroyed {
        return finished(lease, on_record, now);
    }
    if !has_finalizer(&lease.metadata) && !is_deleting(&lease.metadata) && !bug!(NoFinalizer) {
        return Decision::metadata(on_record, MetadataChange::AddFinalizer);
    }
    let mut pass = Pass::new(lease, around, on_record, now);
    pass.edit();
    pass.commands();
    if is_deleting(&lease.metadata) {
        pass.release("Deleted", "the Lease was deleted", None);
        pass.end_hold();
    }
    pass.other_side();
    pass.clocks();
    pass.step();
    pass.close()
}

/// Destroyed: never a status write again. The finalizer goes at once, the object when its time is over.
fn finished(lease: &Lease, status: LeaseStatus, now: MicroTime) -> Decision<LeaseStatus> {
    if has_finalizer(&lease.metadata) {
        // L9: Destroyed is on record.
        return Decision::metadata(status, MetadataChange::RemoveFinalizer);
    }
    if is_deleting(&lease.metadata) {
        return Decision::nothing(status);
    }
    let at = finish(lease, &status, now);
    if at <= now {
        return Decision::metadata(status, MetadataChange::Delete);
    }
    Decision { wake: Some(at), ..Decision::nothing(status) }
}

fn finish(lease: &Lease, status: &LeaseStatus, now: MicroTime) -> MicroTime {
    let kept = lease.spec.ttl_after_destroyed.unwrap_or(deadline::TTL_AFTER_DESTROYED);
    status.destroyed_at.unwrap_or(now).after(kept)
}

/// The state of one pass: the version that was read, and the copy of its status that is being made.
struct Pass<'a> {
    lease: &'a Lease,
    around: &'a Surroundings<'a>,
    now: MicroTime,
    on_record: LeaseStatus,
    next: LeaseStatus,
    phase: LeasePhase,
    /// The resource that the lease is bound to, as far as it is seen.
    bound: Option<&'a Resource>,
    policy: LeasePolicy,
    /// What the Blueprint allows is known.
    policy_known: bool,
    teardown_timeout: crate::api::Duration,
    free: FreeSteps,
    step: Option<StepOrder>,
    reads: Vec<Read>,
    wakes: Vec<MicroTime>,
    events: Vec<EventDraft>,
    urgency: Urgency,
    /// What of an edit was not granted; told with the deadline.
    cut: Option<String>,
    /// Why the lease waits, where this pass sent it back.
    sent_back: bool,
}

impl<'a> Pass<'a> {
    fn new(lease: &'a Lease, around: &'a Surroundings<'a>, on_record: LeaseStatus, now: MicroTime) -> Self {
        let mut pass = Self {
            lease,
            around,
            now,
            next: on_record.clone(),
            phase: lease.phase(),
            on_record,
            bound: None,
            policy: LeasePolicy::default(),
            policy_known: false,
            teardown_timeout: deadline::TEARDOWN_TIMEOUT,
            free: FreeSteps::default(),
            step: None,
            reads: Vec::new(),
            wakes: Vec::new(),
            events: Vec::new(),
            urgency: Urgency::Later,
            cut: None,
            sent_back: false,
        };
        match &around.bound {
            Bound::Seen { resource, blueprint, free } | Bound::Confirmed { resource, blueprint, free } => {
                pass.be_bound(resource, *blueprint, *free);
            }
            Bound::Gone { free } => pass.free = *free,
            Bound::Unbound | Bound::Absent => {}
        }
        pass
    }

    fn be_bound(&mut self, resource: &'a Resource, blueprint: Option<&Blueprint>, free: FreeSteps) {
        self.bound = Some(resource);
        self.free = free;
        if let Some(blueprint) = blueprint {
            self.policy = blueprint.spec.lease.clone();
            self.policy_known = true;
            self.teardown_timeout = blueprint.spec.resource.teardown_timeout.unwrap_or(deadline::TEARDOWN_TIMEOUT);
        }
    }

    fn first_sight(&self) -> bool {
        self.on_record.phase.is_none()
    }

    fn is_returning(&self) -> bool {
        self.phase == LeasePhase::Acquired && conditions::reason(&self.next.conditions, "Ready") == "Returning"
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed)
    }

    /// A hold is written together with Released, and may only end (protocol.md, L8).
    fn held_until(&self) -> Option<MicroTime> {
        if self.phase != LeasePhase::Released {
            return None;
        }
        deadline::find(&self.next.deadlines, DeadlineName::Hold).map(|d| d.at)
    }

    fn end_hold(&mut self) {
        self.next.deadlines.retain(|d| d.name != DeadlineName::Hold);
    }

    fn end(&self) -> End {
        self.end_by(&self.lease.spec, self.bound.and_then(|r| r.status.as_ref()).and_then(|s| s.expires_at))
    }

    /// Where the Blueprint is not seen an active lease does not outlive the end that was told: what it allows is unknown.
    fn end_by(&self, spec: &LeaseSpec, age: Option<MicroTime>) -> End {
        let end = deadline::lifetime(spec, &self.next, &self.policy, age);
        let told = deadline::find(&self.on_record.deadlines, DeadlineName::Lifetime)
            .filter(|told| end.at.is_none_or(|at| at > told.at));
        match told {
            Some(told) if self.next.activated_at.is_some() && !self.policy_known => {
                End { at: Some(told.at), message: told.message.clone(), follows_resource: age == Some(told.at) }
            }
            _ => end,
        }
    }

    // Arrows

    /// L8. A hold is for leases that were active; the caller has cut it.
    fn release(&mut self, reason: &str, message: &str, hold: Option<MicroTime>) {
        match self.phase {
            LeasePhase::Pending => {
                self.over(LeasePhase::Released, reason, message);
                self.destroyed("NothingToTearDown", "nothing had been begun");
            }
            LeasePhase::Acquired | LeasePhase::Active => {
                self.over(LeasePhase::Released, reason, message);
                if let Some(at) = hold {
                    self.next.deadlines.push(deadline::entry(DeadlineName::Hold, at, "HoldEnded", "kept for a look"));
                }
            }
            LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed => {}
        }
    }

    fn broken(&mut self, reason: &str, message: &str) {
        self.over(LeasePhase::Broken, reason, message);
        self.events.push(EventDraft::warning(reason, message));
    }

    fn over(&mut self, phase: LeasePhase, reason: &str, message: &str) {
        self.next.expires_at = self.end().at;
        let ready = if phase == LeasePhase::Broken { "Failed" } else { reason };
        self.set("Ready", Truth::False, ready, message);
        self.set("Released", Truth::True, reason, message);
        self.set("Settled", Truth::True, reason, message);
        self.phase = phase;
        self.next.released_at = Some(self.now);
        self.next.queue_position = None;
        self.urgency = Urgency::Now;
        if phase == LeasePhase::Released {
            self.events.push(EventDraft::normal("Released", format!("{reason}: {message}")));
        }
    }

    fn destroyed(&mut self, reason: &str, message: &str) {
        self.phase = LeasePhase::Destroyed;
        self.next.destroyed_at = Some(self.now);
        self.set("TornDown", Truth::True, reason, message);
        self.events.push(EventDraft::normal("Destroyed", message));
    }

    // The other side

    fn other_side(&mut self) {
        match self.phase {
            LeasePhase::Pending => self.take_up_claim(),
            LeasePhase::Acquired if !self.is_returning() => {
                if let Some((_, message)) = self.resource_is_lost() {
                    self.lose(&message);
                }
            }
            LeasePhase::Active if !bug!(NoticesNothing) => {
                if let Some((reason, message)) = self.resource_is_lost() {
                    self.release(reason, &message, None);
                }
            }
            LeasePhase::Released if self.held_until().is_some() => {
                if self.resource_is_lost().is_some() {
                    self.end_hold();
                }
            }
            LeasePhase::Acquired
            | LeasePhase::Active
            | LeasePhase::Released
            | LeasePhase::Broken
            | LeasePhase::Destroyed => {}
        }
    }

    /// L2: binds to an Active resource in the cache, of any age, that has a claim for this UID and attempt.
    /// L4: where the only such claims are on resources that are over, the attempt is raised instead.
    fn take_up_claim(&mut self) {
        let attempt = self.next.attempt;
        let mine = |granted: &&Granted<'a>| granted.attempt == attempt || bug!(AnyAttempt);
        let live = self.around.claims.iter().filter(mine).find(|g| g.resource.phase() == ResourcePhase::Active);
        let Some(granted) = live else {
            let over = |g: &Granted<'_>| !matches!(g.resource.phase(), ResourcePhase::Pending | ResourcePhase::Active);
            if self.around.claims.iter().filter(mine).any(over) && !bug!(KeepsDeadClaim) {
                self.next.attempt += 1;
                self.urgency = Urgency::Soon;
            }
            return;
        };
        if !self.may_be_served() {
            return;
        }
        let meta = &granted.resource.metadata;
        self.next.resource_ref = Some(ResourceRef {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: uid(meta).to_owned(),
        });
        self.be_bound(granted.resource, granted.blueprint, granted.free);
        // Whose teardown it is must be known when resource and Blueprint are gone.
        self.next.built = Some(serde_json::json!({"driver": granted.driver}));
        self.phase = LeasePhase::Acquired;
        self.next.acquired_at = Some(self.now);
        self.next.queue_position = None;
        self.set("Acquired", Truth::True, "Acquired", "");
        self.urgency = Urgency::Soon;
    }

    /// L2: no deadline has passed. (Ending commands are consumed by now.)
    fn may_be_served(&self) -> bool {
        let queue_over = queue::queue_end(self.lease, self.now)
            .is_some_and(|at| at <= self.now && !queue::gives_up_at_once(self.lease));
        !queue_over && self.end().at.is_none_or(|at| at > self.now)
    }

    /// L5: the bound resource is seen over, or a quorum read says that it is gone. Absent from the cache alone: nothing
    /// but a reason to ask.
    fn resource_is_lost(&mut self) -> Option<(&'static str, String)> {
        match &self.around.bound {
            Bound::Gone { .. } => Some(("ResourceLost", "its Resource is gone".into())),
            Bound::Absent if bug!(AbsentResourceIsGone) => Some(("ResourceLost", String::new())),
            Bound::Absent => {
                self.reads.push(Read::BoundResource);
                None
            }
            Bound::Seen { resource, .. } | Bound::Confirmed { resource, .. } => {
                let name = format!(
                    "{}/{}",
                    resource.metadata.namespace.as_deref().unwrap_or_default(),
                    resource.metadata.name.as_deref().unwrap_or_default()
                );
                let why = conditions::get(&resource.status.as_ref()?.conditions, "Released")
                    .map_or("", |c| c.reason.as_str());
                match resource.phase() {
                    ResourcePhase::Pending | ResourcePhase::Active => None,
                    ResourcePhase::Broken => Some(("ResourceLost", format!("its Resource {name} broke ({why})"))),
                    ResourcePhase::Released | ResourcePhase::Destroyed => {
                        Some(("ResourceReleased", format!("its Resource {name} was released ({why})")))
                    }
                }
            }
            Bound::Unbound => None,
        }
    }

    /// L5, Acquired: on the way back, or broken where it has come back too often.
    fn lose(&mut self, message: &str) {
        let attempts = self.policy.max_attempts.unwrap_or(3);
        if self.next.returns + 1 >= attempts {
            let message = format!("{attempts} activations in all have not made it active; the last: {message}");
            return self.broken("AttemptsExhausted", &message);
        }
        if bug!(BackWithoutTeardown) {
            return self.send_back();
        }
        self.set("Ready", Truth::False, "Returning", message);
        self.set("Settled", Truth::False, "Returning", message);
        self.urgency = Urgency::Soon;
    }

    // Clocks

    fn clocks(&mut self) {
        let now = self.now;
        match self.phase {
            LeasePhase::Pending => {
                if self.end().at.is_some_and(|at| at <= now) {
                    return self.release("Expired", "its end came while it waited", None);
                }
                let Some(at) = self.queue_deadline() else { return };
                let served = queue::gives_up_at_once(self.lease) && self.around.waiting.served_at_once;
                if at <= now && !served {
                    let message = format!("nothing had served it in time: {}", self.around.waiting.message);
                    self.release("QueueTimeout", &message, None);
                }
            }
            LeasePhase::Acquired => {
                let activation = (!self.is_returning()).then(|| self.activation_deadline());
                let end = self.end().at;
                if activation.is_some_and(|at| at <= now && end.is_none_or(|end| at <= end)) {
                    let message = "it was not made active in time";
                    return self.broken("ActivationTimeout", message);
                }
                if end.is_some_and(|at| at <= now) {
                    self.release("Expired", "its end came before it was active", None);
                }
            }
            LeasePhase::Active => {
                let end = self.end();
                let early = crate::api::Duration::from_secs(if bug!(EarlyTimer) { 30 } else { 0 });
                if end.at.is_some_and(|at| at <= now.after(early)) && !end.follows_resource {
                    self.release("Expired", &format!("its end has come: {}", end.message), None);
                }
            }
            LeasePhase::Released => {
                if self.held_until().is_some_and(|at| at <= now) {
                    self.end_hold();
                    self.urgency = Urgency::Now;
                }
            }
            LeasePhase::Broken | LeasePhase::Destroyed => {}
        }
    }

    /// The end of the wait: as recorded, or from the creation; after a return it is recorded anew.
    fn queue_deadline(&self) -> Option<MicroTime> {
        if self.sent_back {
            return self.lease.spec.queue_timeout.map(|timeout| self.now.after(timeout));
        }
        queue::queue_end(self.lease, self.now)
    }

    fn activation_deadline(&self) -> MicroTime {
        let told = deadline::find(&self.on_record.deadlines, DeadlineName::Activation);
        if let Some(told) = told.filter(|_| !self.policy_known) {
            return told.at;
        }
        let timeout = self.policy.activation_timeout.unwrap_or(deadline::ACTIVATION_TIMEOUT);
        self.next.acquired_at.unwrap_or(self.now).after(timeout)
    }

    // The driver's step

    fn step(&mut self) {
        match self.phase {
            LeasePhase::Acquired if self.is_returning() => self.tear_down(),
            LeasePhase::Acquired => self.activate(),
            LeasePhase::Released if self.held_until().is_some() && !bug!(TearsDownHeld) => {}
            LeasePhase::Released | LeasePhase::Broken => self.tear_down(),
            LeasePhase::Pending | LeasePhase::Active | LeasePhase::Destroyed => {}
        }
    }

    fn wanted(&self, kind: StepKind) -> Step {
        let resource = self.next.resource_ref.as_ref().map_or(String::new(), |r| r.uid.clone());
        let lease = Some((uid(&self.lease.metadata).to_owned(), self.next.attempt));
        Step { kind, key: EffectKey { resource, lease } }
    }

    /// L3: begins only with Acquired on record (the shell begins no step with effects before its write), unless the
    /// driver declares activation free of outside effects.
    fn activate(&mut self) {
        let step = self.wanted(StepKind::Activate);
        let effects = !self.free.activate;
        match report_of(self.around.reports, &step).map(|r| &r.answer) {
            Some(Answer::Done(facts)) => return self.active(facts),
            Some(Answer::FailedForGood(failure)) => {
                self.next.failure = Some(failure.clone());
                self.broken("Failed", &failure.message);
                return self.tear_down();
            }
            Some(Answer::Failed(failure)) => self.next.failure = Some(failure.clone()),
            Some(Answer::Again(_) | Answer::Need(_)) | None => {}
        }
        // L7: after Acquired is on record and before the first call, one quorum read of the resource and its claim.
        let on_record = self.on_record.phase == Some(LeasePhase::Acquired);
        if effects
            && on_record
            && !matches!(self.around.bound, Bound::Confirmed { .. })
            && !bug!(UnreadBeforeActivation)
        {
            self.reads.push(Read::BoundResource);
            return;
        }
        let left = self.activation_deadline().timestamp().duration_since(self.now.timestamp());
        self.step = Some(StepOrder { step, timeout: left.unsigned_abs() });
    }

    fn active(&mut self, facts: &Facts) {
        self.phase = LeasePhase::Active;
        self.next.activated_at = Some(self.now);
        self.next.interfaces = facts.interfaces.clone();
        self.next.outputs = facts.outputs.clone();
        if facts.built.is_some() {
            self.next.built = facts.built.clone();
        }
        self.next.failure = None;
        self.set("Ready", Truth::True, "Active", "");
        self.set("Settled", Truth::True, "Active", "");
        let name = self.next.resource_ref.as_ref().map_or("", |r| r.name.as_str());
        self.events.push(EventDraft::normal("Active", format!("on Resource {name}")));
        self.urgency = Urgency::Soon;
        // An end that came before the lease became active has been looked at; one that is set by now has not.
        self.clocks();
        if self.phase == LeasePhase::Released {
            self.step();
        }
    }

    fn tear_down(&mut self) {
        let step = self.wanted(StepKind::TearDownLease);
        match report_of(self.around.reports, &step) {
            Some(Report { answer: Answer::Done(_), .. }) => return self.torn_down(),
            None if bug!(DestroyedTooEarly) && !self.first_sight() && self.on_record.phase == Some(self.phase) => {
                return self.torn_down();
            }
            Some(Report { answer: Answer::Failed(failure) | Answer::FailedForGood(failure), .. }) => {
                self.next.failure = Some(failure.clone());
                self.events.extend(teardown::failed(&mut self.next.conditions, self.now, failure));
            }
            Some(Report { answer: Answer::Again(_) | Answer::Need(_), .. }) | None => {
                teardown::goes_on(&mut self.next.conditions, self.now);
            }
        }
        self.step = Some(StepOrder { step, timeout: self.teardown_timeout.to_std() });
    }

    /// L9 and, for a lease on its way back, L5.
    fn torn_down(&mut self) {
        if self.phase == LeasePhase::Acquired {
            return self.send_back();
        }
        if self.phase == LeasePhase::Released {
            self.next.failure = None;
        }
        self.destroyed("TornDown", "what it left is removed");
    }

    /// L5: Pending, reference empty, attempt and returns raised, in one write; the place in the queue is kept.
    fn send_back(&mut self) {
        self.phase = LeasePhase::Pending;
        self.sent_back = true;
        self.next.resource_ref = None;
        self.next.acquired_at = None;
        self.next.built = None;
        self.next.interfaces.clear();
        self.next.outputs.clear();
        self.next.attempt += i64::from(!bug!(SameAttempt));
        self.next.returns += 1;
        self.set("Ready", Truth::False, "Waiting", "it waits for another Resource");
        self.set("TornDown", Truth::False, "InUse", "");
        self.urgency = Urgency::Soon;
    }

    fn set(&mut self, type_: &str, truth: Truth, reason: &str, message: &str) {
        conditions::set(&mut self.next.conditions, self.now, type_, truth, reason, message);
    }
}
