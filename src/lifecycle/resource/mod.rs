//! The resource reconciler's decisions.

mod asked;
mod steps;
mod tell;
#[cfg(test)]
mod tests;

use super::{
    Decision, EventDraft, MetadataChange, Read, StepOrder, Urgency,
    asking::{Course, Overdue, Question, course},
    conditions::{self, Truth},
    deadline, has_finalizer, health, is_deleting,
    pool::{self, IdleClock, SlotState},
    report_of, teardown, uid,
};
use crate::api::{
    Blueprint, Claim, Deadline, Failure, Lease, MicroTime, Resource, ResourcePhase, ResourceStatus, Wish,
    blueprint::{LeasePolicy, Recycle, ResourcePolicy},
    step::{Answer, EffectKey, FreeSteps, HookCall, HookKind, Moves, Observed, Report, Step, StepKind},
};

/// What a resource's pass sees around it.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Its Blueprint.
    pub blueprint: BlueprintView<'a>,
    /// How it stands to its slot in the Blueprint as that is now.
    pub slot: SlotState,
    /// Whether its Idle clock runs, if nobody holds it.
    pub idle: IdleClock,
    /// Whether a lease ahead of those whom it fits needs its room: a `Reclaim` need not wait for `reclaimAfter`.
    pub makes_way: bool,
    /// The leases of its claims, in their order.
    pub leases: Vec<LeaseView<'a>>,
    /// Waiting leases that the matcher offers, first in order first.
    pub candidates: Vec<Candidate>,
    /// R2: the quorum list of leases on the slot's former UIDs; `None` where none was made.
    pub slot_is_clear: Option<bool>,
    /// `limits.maxResources`, where the names of the slots alone do not hold it: a list of hosts may be longer.
    pub counted_limit: Option<i64>,
    /// The quorum count of the Blueprint's other resources that are not yet destroyed; `None` where none was made.
    pub others: Option<i64>,
    /// Which steps of its driver are free of outside effects.
    pub free: FreeSteps,
    /// What its driver needs on record before it may begin to build; `None` where it needs nothing.
    pub intent: Option<serde_json::Value>,
    /// What came of the steps that were wanted.
    pub reports: &'a [Report],
    /// How what was built is by now, where its driver knows.
    pub observed: Option<&'a Observed>,
    /// Whether somebody has a say when its Age or Idle clock has run out, and what was said.
    pub question: Question,
    /// What its driver wants moved as leases come and go, in the order in which it was told; `None`: it does not want to be.
    pub hooks: Option<&'a [(HookCall, Moves)]>,
}

/// A resource's Blueprint.
#[derive(Clone, Copy, Debug)]
pub enum BlueprintView<'a> {
    /// In the cache, under the UID of the reference.
    Seen(&'a Blueprint),
    /// R1: just read from the API server itself, and not deleting.
    Confirmed(&'a Blueprint),
    /// Absent from the cache, which is no fact.
    Absent,
    /// A quorum read says that it is gone.
    Gone,
}

/// The lease of a claim.
#[derive(Clone, Copy, Debug)]
pub enum LeaseView<'a> {
    /// In the cache, under the claim's UID.
    Seen(&'a Lease),
    /// Absent from the cache, which is no fact.
    Absent,
    /// A quorum read says that it is there, and it cannot be read: its claim stays.
    Unreadable,
    /// R4c: a quorum read says that it is gone.
    Gone,
}

/// A waiting lease that may be granted this resource (protocol.md, R3): from the cache, of any age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its attempt, as cached: the fence of the claim.
    pub attempt: i64,
}

/// One pass over a resource.
pub fn decide(resource: &Resource, around: &Surroundings<'_>, now: MicroTime) -> Decision<ResourceStatus> {
    let on_record = resource.status.clone().unwrap_or_default();
    let finalizer = has_finalizer(&resource.metadata);
    let deleting = is_deleting(&resource.metadata);
    if resource.phase() == ResourcePhase::Destroyed {
        // R8: then it goes, the finalizer first where that can be chosen. kube-apiserver removes what loses its last finalizer
        // while it is deleted by its name alone, in a step of its own: where two controllers take it off at once, that could be
        // the namesake which has come into the slot meanwhile. A delete carries the UID to the end.
        return match (deleting, finalizer) {
            (_, true) => Decision::metadata(on_record, MetadataChange::RemoveFinalizer),
            (false, false) => Decision::metadata(on_record, MetadataChange::Delete),
            (true, false) => Decision::nothing(on_record),
        };
    }
    let unbuilt = resource.phase() == ResourcePhase::Pending && on_record.built.is_none();
    if unbuilt && matches!(around.blueprint, BlueprintView::Absent) {
        // Before L1: or the finalizer would be put on and taken off in turn, for ever.
        return Decision { reads: vec![Read::Blueprint], ..Decision::nothing(on_record) };
    }
    if unbuilt && matches!(around.blueprint, BlueprintView::Gone) {
        // R1: blueprint gone and nothing in `built`: nothing can have been built.
        return match (deleting, finalizer) {
            (_, true) => Decision::metadata(on_record, MetadataChange::RemoveFinalizer),
            (false, false) => Decision::metadata(on_record, MetadataChange::Delete),
            (true, false) => Decision::nothing(on_record),
        };
    }
    if !finalizer && !deleting && !bug!(ResourceWithoutFinalizer) {
        // L1, for resources.
        return Decision::metadata(on_record, MetadataChange::AddFinalizer);
    }
    let mut pass = Pass::new(resource, around, on_record, now);
    pass.edit();
    pass.commands();
    if deleting {
        pass.release("Deleted", "the Resource was deleted");
    }
    pass.drop_claims();
    pass.drain();
    pass.clocks();
    pass.look_at_it();
    pass.step();
    pass.grant();
    pass.idle();
    pass.close()
}

/// The state of one pass: the version that was read, and the copy of its status that is being made.
struct Pass<'a> {
    resource: &'a Resource,
    around: &'a Surroundings<'a>,
    now: MicroTime,
    on_record: ResourceStatus,
    next: ResourceStatus,
    phase: ResourcePhase,
    blueprint: Option<&'a Blueprint>,
    policy: ResourcePolicy,
    lease_policy: LeasePolicy,
    step: Option<StepOrder>,
    /// What its build has said that it waits for.
    waits_for: Option<String>,
    /// A deadline that has come was declined; this is when it is asked again.
    declined: Option<Deadline>,
    /// How many of the answers of its driver's hooks have taken effect.
    told: usize,
    reads: Vec<Read>,
    wakes: Vec<MicroTime>,
    events: Vec<EventDraft>,
    urgency: Urgency,
}

impl<'a> Pass<'a> {
    fn new(resource: &'a Resource, around: &'a Surroundings<'a>, on_record: ResourceStatus, now: MicroTime) -> Self {
        let blueprint = match around.blueprint {
            BlueprintView::Seen(blueprint) | BlueprintView::Confirmed(blueprint) => Some(blueprint),
            BlueprintView::Absent | BlueprintView::Gone => None,
        };
        Self {
            resource,
            around,
            now,
            next: on_record.clone(),
            phase: resource.phase(),
            on_record,
            blueprint,
            policy: blueprint.map(|b| b.spec.resource.clone()).unwrap_or_default(),
            lease_policy: blueprint.map(|b| b.spec.lease.clone()).unwrap_or_default(),
            step: None,
            waits_for: None,
            declined: None,
            told: 0,
            reads: Vec::new(),
            wakes: Vec::new(),
            events: Vec::new(),
            urgency: Urgency::Later,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, ResourcePhase::Released | ResourcePhase::Broken | ResourcePhase::Destroyed)
    }

    /// R6: Released stops grants; the leases notice by themselves, nothing is appended to them.
    fn release(&mut self, reason: &str, message: &str) {
        if matches!(self.phase, ResourcePhase::Pending | ResourcePhase::Active) {
            self.over(ResourcePhase::Released, reason, message);
        }
    }

    fn over(&mut self, phase: ResourcePhase, reason: &str, message: &str) {
        self.phase = phase;
        self.next.released_at = Some(self.now);
        self.set("Ready", Truth::False, reason, message);
        self.set("Released", Truth::True, reason, message);
        self.urgency = Urgency::Now;
        if phase == ResourcePhase::Broken {
            self.events.push(EventDraft::warning(reason, message));
        }
    }

    // The other side

    /// R4: a claim is a promise that only the lease can end. Never because the lease is Pending, because this resource is
    /// dying, or because of time.
    fn drop_claims(&mut self) {
        if self.phase == ResourcePhase::Destroyed {
            return;
        }
        let had = self.next.claims.len();
        let claims = std::mem::take(&mut self.next.claims);
        let mut kept = Vec::with_capacity(claims.len());
        for (n, claim) in claims.into_iter().enumerate() {
            let view = self.around.leases.get(n).copied().unwrap_or(LeaseView::Absent);
            if self.is_ended(&claim, view) {
                self.hook(HookKind::DidRelease, &claim);
            } else {
                kept.push(claim);
            }
        }
        self.next.claims = kept;
        if had > 0 && self.next.claims.is_empty() {
            self.next.idle_since = Some(self.now);
        }
        if self.next.claims.is_empty() && self.next.served {
            // R5: the write that drops the last claim also sets Released. A Blueprint that has become Reuse since changes nothing:
            // its lease was promised that nobody comes after it.
            self.release("Released", "lease.recycle was Destroy when it was leased, and its lease has ended");
        }
        if self.next.claims.len() != had {
            self.urgency = Urgency::Now;
        }
    }

    /// What the driver wants moved takes effect in this very write: once, however often it is asked.
    fn hook(&mut self, kind: HookKind, claim: &Claim) {
        let Some(answers) = self.around.hooks else { return };
        let call = HookCall { kind, key: EffectKey::of_claim(uid(&self.resource.metadata), claim) };
        // One after the other: each sees what those before it have moved.
        if self.reads.iter().any(|read| matches!(read, Read::Hook { .. })) {
            return;
        }
        match answers.get(self.told) {
            Some((told, Moves { expires, storage })) if *told == call => {
                self.told += 1;
                // What is over has no end to be moved.
                if let Some(Wish { at, .. }) = expires.filter(|_| !self.is_over()) {
                    self.next.wish = Some(Wish { at, never: at.is_none().then_some(true) });
                }
                self.store(storage);
            }
            // Nobody was told; or somebody was who comes later by now, and did not see what this one moves.
            _ => self.reads.push(Read::Hook { call, after: self.told }),
        }
    }

    fn is_ended(&mut self, claim: &Claim, view: LeaseView<'_>) -> bool {
        match view {
            LeaseView::Seen(lease) => pool::has_ended(claim, lease, uid(&self.resource.metadata)),
            LeaseView::Absent if bug!(AbsentLeaseIsGone) => true,
            LeaseView::Absent => {
                self.reads.push(Read::ClaimedLease { uid: claim.uid.clone() });
                false
            }
            LeaseView::Unreadable => false,
            // R4c: gone by a quorum read, *and* what it left is torn down.
            LeaseView::Gone if bug!(DropsUntorn) => true,
            LeaseView::Gone => {
                let key = EffectKey::of_claim(uid(&self.resource.metadata), claim);
                let step = Step { kind: StepKind::TearDownLease, key };
                match report_of(self.around.reports, &step).map(|r| &r.answer) {
                    Some(Answer::Done(_)) => return true,
                    Some(Answer::Failed(failure) | Answer::FailedForGood(failure)) => {
                        self.not_torn_down(claim, failure);
                    }
                    Some(Answer::Again(_) | Answer::Need(_)) | None => {}
                }
                if self.step.is_none() {
                    self.step = Some(StepOrder { step, timeout: self.teardown_timeout().to_std() });
                }
                false
            }
        }
    }

    /// R4c: what a vanished lease left could not be torn down; its claim stays, and that is told.
    fn not_torn_down(&mut self, claim: &Claim, failure: &Failure) {
        if !self.is_over() && self.next.failure.as_ref() != Some(failure) {
            let Claim { namespace, name, .. } = claim;
            let message = format!("what the lease {namespace}/{name} left is not torn down: {}", failure.message);
            self.events.push(EventDraft::warning("TeardownFailed", message));
        }
        self.next.failure = Some(failure.clone());
    }

    /// R7: decided here, on the own object. Claims empty: Released; else wait.
    fn drain(&mut self) {
        if matches!(self.around.blueprint, BlueprintView::Absent) {
            self.reads.push(Read::Blueprint);
        }
        if self.is_over() || (!self.next.claims.is_empty() && !bug!(DrainsLeased)) {
            return;
        }
        let gone = matches!(self.around.blueprint, BlueprintView::Gone);
        if gone || self.blueprint.is_some_and(|b| is_deleting(&b.metadata)) {
            return self.release("BlueprintDeleted", "its Blueprint is deleted");
        }
        match self.around.slot {
            SlotState::Current => {}
            SlotState::Disabled => self.release("Disabled", "its entry was removed or disabled"),
            SlotState::Taken => {
                self.release("Disabled", "an older Blueprint of its namespace lists the same machine, and offers it");
            }
            SlotState::Outdated => self.release("Outdated", "what it is made from has changed; it is made anew"),
            SlotState::Surplus => {
                self.release("Released", "there are more than limits.maxResources of the Blueprint allows");
            }
        }
    }

    // Clocks

    fn clocks(&mut self) {
        let now = self.now;
        if self.is_over() {
            return;
        }
        let early = crate::api::Duration::from_secs(if bug!(EarlyTimer) { 30 } else { 0 });
        if let Some(at) = self.age().filter(|at| *at <= now.after(early))
            && self.may_expire(Overdue { since: at, limit: None, is_new: self.next.wish != self.on_record.wish })
        {
            return self.release("Expired", "its end has come");
        }
        if self.phase == ResourcePhase::Pending && self.build_deadline() <= now {
            let why = super::with_cause("it was not built in time", self.next.failure.as_ref(), &self.next.conditions);
            self.over(ResourcePhase::Broken, "BuildTimeout", &why);
        }
    }

    /// The Idle clock, last of all: whoever waits for it comes first, however short the clock is. So it is not looked at in
    /// the pass that makes the resource Active, either: it was offered to nobody by then.
    fn idle(&mut self) {
        let is_offered = self.resource.phase() == ResourcePhase::Active && self.phase == ResourcePhase::Active;
        if is_offered
            && self.reads.is_empty()
            && let Some(at) = self.idle_deadline().filter(|at| *at <= self.now)
            && self.may_expire(Overdue { since: at, limit: None, is_new: false })
        {
            self.release("IdleTimeout", "nobody has held it for resource.idleTTL of the Blueprint");
            self.tear_down();
        }
    }

    /// Whether nobody who has a say declines.
    fn may_expire(&mut self, overdue: Overdue) -> bool {
        if self.phase != ResourcePhase::Active {
            return true;
        }
        let retry_after = self.blueprint.and_then(|b| b.spec.expiry.as_ref()?.retry_after);
        match course(&self.around.question, &self.on_record.deadlines, retry_after, overdue, self.now) {
            Course::Expire => true,
            Course::Wait { told, until } => {
                // Where both have come, the answer of this pass is the one that counts.
                if self.declined.as_ref().is_none_or(|declined| declined.at < told.at) {
                    self.declined = Some(told);
                }
                self.wakes.push(until);
                false
            }
            Course::Ask => {
                // It is one question, whichever of its clocks has run out: the Idle clock is not looked at while it is open.
                self.reads.push(Read::Expiry);
                false
            }
        }
    }

    /// Nobody holds it, nobody is granted it, and it has not become whole again for as long as a build may take.
    fn is_lost_for_long(&mut self) -> bool {
        let Some(since) = health::lost_since(&self.next.conditions) else { return false };
        let end = since.after(self.policy.build_timeout.unwrap_or(deadline::BUILD_TIMEOUT));
        if end > self.now {
            self.wakes.push(end);
        }
        end <= self.now
    }

    /// Where the Blueprint is not seen, the end that was told stands.
    fn age(&self) -> Option<MicroTime> {
        let end = deadline::age(self.resource.spec.expires_at, &self.next, &self.policy).at;
        if self.blueprint.is_none() && self.next.wish.is_none() { end.or(self.on_record.expires_at) } else { end }
    }

    fn build_deadline(&self) -> MicroTime {
        let recorded = deadline::find(&self.on_record.deadlines, crate::api::DeadlineName::Build).map(|d| d.at);
        let timeout = self.policy.build_timeout.unwrap_or(deadline::BUILD_TIMEOUT);
        recorded.unwrap_or_else(|| super::created_by(&self.resource.metadata, self.now).after(timeout))
    }

    fn idle_deadline(&self) -> Option<MicroTime> {
        let ttl = self.policy.idle_ttl?;
        let since = self.next.idle_since.filter(|_| self.next.claims.is_empty())?;
        match self.around.idle {
            IdleClock::Runs => Some(since.after(ttl)),
            IdleClock::RunsFrom(then) => Some(since.max(then).after(ttl)),
            IdleClock::Cleared => None,
        }
    }

    fn teardown_timeout(&self) -> crate::api::Duration {
        teardown::timeout(self.policy.teardown_timeout)
    }

    /// What has become of it meanwhile is told, not mended: whoever did it may have meant it. One that nobody holds, and
    /// that cannot become whole again, is replaced.
    fn look_at_it(&mut self) {
        let Some(observed) = self.around.observed.filter(|_| self.phase == ResourcePhase::Active) else { return };
        match &observed.lost {
            Some(why) if self.next.claims.is_empty() && (observed.for_good || self.is_lost_for_long()) => {
                self.over(ResourcePhase::Broken, "Lost", why);
            }
            lost => self.events.extend(health::tell(&mut self.next.conditions, self.now, lost.as_deref())),
        }
    }

    /// R3, in one write with whatever else this pass has decided: the drop of one claim and the next grant are one write.
    fn grant(&mut self) {
        let Some(blueprint) = self.blueprint else { return };
        let deleting = is_deleting(&self.resource.metadata);
        let lost = health::is_lost(&self.next.conditions);
        // One that is past its Age, and was not to go, is nobody's new one: it may go at any time.
        let past = self.age().is_some_and(|at| at <= self.now);
        let grants = !deleting && !lost && !past && pool::grants(blueprint, self.around.slot);
        let active = self.phase == ResourcePhase::Active || bug!(GrantsWhenOver);
        if !active || !grants {
            return;
        }
        let once = self.lease_policy.recycle != Recycle::Reuse;
        let capacity = pool::capacity(blueprint, self.next.capacity, self.next.claims.len());
        self.next.capacity = capacity + i64::from(bug!(CountsRoomTooHigh));
        for candidate in &self.around.candidates {
            let full = i64::try_from(self.next.claims.len()).unwrap_or(i64::MAX)
                >= self.next.capacity + i64::from(bug!(OneTooMany));
            if full || self.next.served {
                break;
            }
            if self.next.claims.iter().any(|claim| claim.uid == candidate.uid) {
                continue;
            }
            let claim = Claim {
                namespace: candidate.namespace.clone(),
                name: candidate.name.clone(),
                uid: if bug!(ClaimWithoutUid) { String::new() } else { candidate.uid.clone() },
                attempt: candidate.attempt,
                since: self.now,
            };
            self.hook(HookKind::DidAcquire, &claim);
            self.next.claims.push(claim);
            self.next.served = once && !bug!(ServesTwice);
            self.next.idle_since = None;
            self.urgency = self.urgency.min(Urgency::Soon);
        }
    }

    fn set(&mut self, type_: &str, truth: Truth, reason: &str, message: &str) {
        conditions::set(&mut self.next.conditions, self.now, type_, truth, reason, message);
    }
}
