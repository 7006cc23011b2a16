//! The lease reconciler's decisions.

mod asked;
mod clocks;
mod steps;
mod tell;
#[cfg(test)]
mod tests;

use super::{
    Decision, EventDraft, MetadataChange, Read, StepOrder, Urgency,
    asking::Question,
    conditions::{self, Truth},
    deadline::{self, End},
    has_finalizer, health, is_deleting,
    matching::Rung,
    queue, report_of, teardown, uid,
};
use crate::api::{
    Blueprint, Deadline, DeadlineName, Lease, LeasePhase, LeaseSpec, LeaseStatus, MicroTime, Resource, ResourcePhase,
    blueprint::LeasePolicy,
    lease::ResourceRef,
    step::{FreeSteps, Observed, Report},
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
    /// How what was activated for it is by now, where its driver knows.
    pub observed: Option<&'a Observed>,
    /// Whether somebody has a say when its Lifetime has come, and what was said.
    pub question: Question,
    /// When this process first saw its present `heartbeat`.
    pub heartbeat_seen: Option<MicroTime>,
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
    /// What the teardown of this lease needs, to be put on record as it is bound.
    pub intent: serde_json::Value,
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
    if lease.phase() == LeasePhase::Destroyed || (bug!(LetsGoTooEarly) && lease.phase() == LeasePhase::Released) {
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
    pass.look_at_it();
    pass.step();
    pass.close()
}

/// Destroyed: never a status write again. The finalizer goes at once, the object when its time is over.
fn finished(lease: &Lease, status: LeaseStatus, now: MicroTime) -> Decision<LeaseStatus> {
    if has_finalizer(&lease.metadata) && !bug!(KeepsDeleted) {
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
    /// When a declined deadline is asked again.
    retry_after: Option<crate::api::Duration>,
    /// What the Blueprint allows is known.
    policy_known: bool,
    teardown_timeout: crate::api::Duration,
    free: FreeSteps,
    step: Option<StepOrder>,
    reads: Vec<Read>,
    wakes: Vec<MicroTime>,
    events: Vec<EventDraft>,
    urgency: Urgency,
    /// What its activation has said that it waits for.
    waits_for: Option<String>,
    /// A deadline that has come was declined; this is when it is asked again.
    declined: Option<Deadline>,
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
            retry_after: None,
            policy_known: false,
            teardown_timeout: deadline::TEARDOWN_TIMEOUT,
            free: FreeSteps::default(),
            step: None,
            reads: Vec::new(),
            wakes: Vec::new(),
            events: Vec::new(),
            urgency: Urgency::Later,
            waits_for: None,
            declined: None,
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
            self.retry_after = blueprint.spec.expiry.as_ref().and_then(|expiry| expiry.retry_after);
            self.teardown_timeout = teardown::timeout(blueprint.spec.resource.teardown_timeout);
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
    pub(super) fn end_by(&self, spec: &LeaseSpec, age: Option<MicroTime>) -> End {
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
        // Everything that a teardown needs is on record before the first effect outside (api.md, 6), whose it is above all.
        self.next.built = Some(granted.intent.clone());
        // What an earlier activation failed with is no news of this one.
        self.next.failure = None;
        self.next.storage.clear();
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
        let silent = self.heartbeat_deadline().is_some_and(|at| at <= self.now);
        !queue_over && !silent && self.end().at.is_none_or(|at| at > self.now)
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

    /// What has become of it, or of its resource, while it is held is told; nothing is done about it.
    fn look_at_it(&mut self) {
        let (LeasePhase::Active, Some(observed)) = (self.phase, self.around.observed) else { return };
        let beneath = self.bound.and_then(|resource| {
            let ready = conditions::get(&resource.status.as_ref()?.conditions, "Ready");
            let ready = ready.filter(|ready| ready.reason == "ObjectLost")?;
            Some(format!("of its Resource {}: {}", resource.metadata.name.as_deref()?, ready.message))
        });
        let lost = observed.lost.clone().or(beneath);
        self.events.extend(health::tell(&mut self.next.conditions, self.now, lost.as_deref()));
    }

    fn set(&mut self, type_: &str, truth: Truth, reason: &str, message: &str) {
        conditions::set(&mut self.next.conditions, self.now, type_, truth, reason, message);
    }
}
