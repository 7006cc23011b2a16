//! The end of a pass: conditions and deadlines are brought in line with what was decided.

use super::{Decision, Pass, Truth, deadline, report_of, teardown};
use crate::{
    api::{Deadline, DeadlineName, MicroTime, ResourcePhase, ResourceStatus},
    lifecycle::{MetadataChange, commands, conditions, pool::IdleClock},
};

impl Pass<'_> {
    pub(super) fn close(mut self) -> Decision<ResourceStatus> {
        if self.on_record.phase.is_none() || self.on_record.phase() != self.phase {
            self.next.phase = Some(self.phase.into());
        }
        self.conditions();
        self.deadlines();
        if !self.next.claims.is_empty() {
            self.next.idle_since = None;
        }
        // A resource that has only been seen says nothing new: its first status is written when something has come of it.
        let only_seen = self.on_record.phase.is_none()
            && self.phase == ResourcePhase::Pending
            && self.next.commands == self.on_record.commands
            && self.next.built == self.on_record.built
            && self.next.failure == self.on_record.failure
            && (self.around.free.build || self.step.is_none());
        if only_seen {
            self.next = self.on_record.clone();
        }
        let full = commands::wants_pruning(&self.resource.spec.commands, &self.next.commands);
        let metadata = (full && self.next == self.on_record).then_some(MetadataChange::Prune);
        let events = if self.next == self.on_record { Vec::new() } else { self.events };
        Decision {
            status: self.next,
            metadata,
            step: self.step,
            reads: self.reads,
            wake: self.wakes.into_iter().min(),
            events,
            urgency: self.urgency,
        }
    }

    fn conditions(&mut self) {
        if self.phase == ResourcePhase::Pending {
            let told = conditions::get(&self.next.conditions, "Ready").map(|c| c.message.clone());
            let failure = self.next.failure.as_ref().map(|f| f.message.clone());
            // While the step goes on, what it has said last stands.
            let why = failure.or(self.waits_for.clone()).or(told).unwrap_or_default();
            self.set("Ready", Truth::False, "Building", &why);
        }
        for (type_, reason) in [("Released", "NotReleased"), ("TornDown", "InUse")] {
            if conditions::get(&self.next.conditions, type_).is_none() {
                self.set(type_, Truth::False, reason, "");
            }
        }
    }

    fn deadlines(&mut self) {
        let before = std::mem::take(&mut self.next.deadlines);
        let mut deadlines = Vec::new();
        if !self.is_over() {
            self.next.expires_at = self.age();
            let at = self.next.expires_at;
            deadlines.extend(at.map(|at| deadline::entry(DeadlineName::Age, at, "Expired", "its leases end with it")));
        }
        match self.phase {
            ResourcePhase::Pending => {
                deadlines.push(deadline::entry(DeadlineName::Build, self.build_deadline(), "BuildTimeout", ""));
            }
            ResourcePhase::Active => {
                let at = self.idle_deadline();
                let shown = at.map(|at| self.keep_idle(&before, at));
                deadlines
                    .extend(shown.map(|at| deadline::entry(DeadlineName::Idle, at, "IdleTimeout", "nobody holds it")));
                // Its clocks may have been stopped or moved since: by a grant, or by what the driver says to it.
                let overdue = self.age().into_iter().chain(at).any(|at| at <= self.now);
                deadlines.extend(self.declined.take().filter(|_| overdue));
            }
            ResourcePhase::Released | ResourcePhase::Broken => {
                let order = self.step.as_ref().filter(|_| self.next.claims.is_empty());
                deadlines.extend(order.map(|order| {
                    let retry_at = report_of(self.around.reports, &order.step).and_then(|r| r.retry_at);
                    teardown::given_up(&before, retry_at, self.teardown_timeout(), self.now)
                }));
            }
            ResourcePhase::Destroyed => {}
        }
        self.wakes.extend(deadline::coming(&deadlines, self.now));
        deadlines.extend(before.into_iter().filter(|d| matches!(d.name, DeadlineName::Unknown(_))));
        self.next.deadlines = deadlines;
    }
    /// In a pool that keeps some ready, each grant moves the Idle clocks of all that are idle to later. That is derived, not
    /// written: what is on record stands until its time has come, and only then the later one is told.
    fn keep_idle(&self, before: &[Deadline], at: MicroTime) -> MicroTime {
        let (IdleClock::RunsFrom(_), Some(ttl), Some(since)) =
            (self.around.idle, self.policy.idle_ttl, self.next.idle_since)
        else {
            return at;
        };
        let recorded = deadline::find(before, DeadlineName::Idle).map(|d| d.at);
        recorded.filter(|told| *told > self.now && *told <= at && *told >= since.after(ttl)).unwrap_or(at)
    }
}
