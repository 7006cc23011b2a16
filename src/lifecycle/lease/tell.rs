//! The end of a pass: conditions, deadlines and the place in the queue are brought in line with what was decided.

use super::{Decision, Pass, Truth, deadline, report_of, teardown};
use crate::{
    api::{Deadline, DeadlineName, LeasePhase, LeaseStatus, MicroTime},
    lifecycle::{MetadataChange, commands, conditions},
};

impl Pass<'_> {
    pub(super) fn close(mut self) -> Decision<LeaseStatus> {
        let quiet = self.phase == LeasePhase::Pending
            && self.around.waiting.served_at_once
            && self.next.commands == self.on_record.commands
            && (self.next.attempt, self.next.wish) == (self.on_record.attempt, self.on_record.wish);
        if self.on_record.phase.is_none() || self.on_record.phase() != self.phase {
            self.next.phase = Some(self.phase.into());
        }
        self.conditions();
        self.deadlines();
        if quiet {
            // What the next moment overwrites is not written. If the grant does not come after all, it is looked at again.
            self.next = self.on_record.clone();
            self.wakes.push(self.now.after(crate::api::Duration::from_secs(1)));
        }
        let full = commands::wants_pruning(&self.lease.spec.commands, &self.next.commands);
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
        let waiting = self.around.waiting.clone();
        if self.phase == LeasePhase::Pending {
            self.set("Acquired", Truth::False, waiting.rung.as_str(), &waiting.message);
            self.next.queue_position = waiting.place;
        }
        // One that was served at once may have to come back from Acquired, and then keeps its place, too.
        if matches!(self.phase, LeasePhase::Pending | LeasePhase::Acquired) && self.next.queue_ticket.is_none() {
            self.next.queue_ticket = self.lease.metadata.resource_version.clone();
        }
        // Set from the first status write on, so that `kubectl wait` always has something to look at.
        self.set_if_absent("Acquired", waiting.rung.as_str(), &waiting.message);
        let told = conditions::get(&self.next.conditions, "Ready").filter(|c| c.reason == "Activating");
        let failure = self.next.failure.as_ref().map(|failure| failure.message.clone());
        // While the step goes on, what it has said last stands.
        let told = failure.or(self.waits_for.clone()).or(told.map(|c| c.message.clone())).unwrap_or_default();
        let (ready, message) = match self.phase {
            LeasePhase::Acquired => ("Activating", told.as_str()),
            _ => ("Waiting", "it waits for a Resource"),
        };
        if matches!(self.phase, LeasePhase::Pending | LeasePhase::Acquired) && !self.is_returning() {
            self.set("Ready", Truth::False, ready, message);
            self.set("Settled", Truth::False, ready, message);
        }
        self.set_if_absent("Released", "NotReleased", "");
        self.set_if_absent("TornDown", "InUse", "");
        if let Some(until) = self.held_until() {
            self.set("TornDown", Truth::False, "Held", &format!("kept for a look until {until}"));
        }
    }

    fn set_if_absent(&mut self, type_: &str, reason: &str, message: &str) {
        if conditions::get(&self.next.conditions, type_).is_none() {
            self.set(type_, Truth::False, reason, message);
        }
    }

    fn deadlines(&mut self) {
        let before = std::mem::take(&mut self.next.deadlines);
        let mut deadlines = Vec::new();
        if !self.is_over() {
            let end = self.end();
            self.next.expires_at = end.at;
            if let Some(at) = end.at.filter(|_| !bug!(ForgetsClock)) {
                let message = match self.cut.take() {
                    Some(cut) => format!("{}; {cut}", end.message),
                    None => keep_cut(&before, end.message, at),
                };
                deadlines.push(deadline::entry(DeadlineName::Lifetime, at, "Expired", message));
            }
        }
        match self.phase {
            LeasePhase::Pending => {
                let at = self.queue_deadline();
                deadlines
                    .extend(at.map(|at| deadline::entry(DeadlineName::Queue, at, "QueueTimeout", "spec.queueTimeout")));
            }
            LeasePhase::Acquired if !self.is_returning() => {
                let at = self.activation_deadline();
                deadlines.push(deadline::entry(DeadlineName::Activation, at, "ActivationTimeout", ""));
            }
            LeasePhase::Active => deadlines.extend(self.declined.take()),
            LeasePhase::Released if deadline::find(&before, DeadlineName::Hold).is_some() => {
                deadlines.extend(before.iter().filter(|d| d.name == DeadlineName::Hold).cloned());
            }
            LeasePhase::Acquired | LeasePhase::Released | LeasePhase::Broken => {
                deadlines.extend(self.teardown(&before))
            }
            LeasePhase::Destroyed => {
                let at = super::finish(self.lease, &self.next, self.now);
                deadlines.push(deadline::entry(DeadlineName::Finished, at, "Finished", "the object is deleted"));
            }
        }
        self.wakes.extend(deadline::coming(&deadlines, self.now));
        deadlines.extend(before.into_iter().filter(|d| matches!(d.name, DeadlineName::Unknown(_))));
        self.next.deadlines = deadlines;
    }

    fn teardown(&self, deadlines: &[Deadline]) -> Option<Deadline> {
        let step = &self.step.as_ref()?.step;
        let retry_at = report_of(self.around.reports, step).and_then(|r| r.retry_at);
        Some(teardown::given_up(deadlines, retry_at, self.teardown_timeout, self.now))
    }
}

/// What was told of an edit that was not granted stays with the deadline that it spoke of.
fn keep_cut(before: &[Deadline], message: String, at: MicroTime) -> String {
    match deadline::find(before, DeadlineName::Lifetime) {
        Some(told) if told.at == at && told.message.starts_with(&message) => told.message.clone(),
        _ => message,
    }
}
