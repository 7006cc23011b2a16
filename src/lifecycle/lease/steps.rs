//! The driver's steps for a lease: which is wanted, and what comes of it.

use super::{Bound, Pass, StepOrder, Truth, report_of, teardown, uid};
use crate::{
    api::{
        LeasePhase,
        step::{Answer, EffectKey, Facts, Report, Step, StepKind, Storage},
    },
    lifecycle::{EventDraft, Read, Urgency, step_warnings},
};

impl Pass<'_> {
    pub(super) fn step(&mut self) {
        match self.phase {
            LeasePhase::Acquired if self.is_returning() => self.tear_down(),
            LeasePhase::Acquired => self.activate(),
            LeasePhase::Released if self.held_until().is_some() && !bug!(TearsDownHeld) => {}
            LeasePhase::Released | LeasePhase::Broken => self.tear_down(),
            LeasePhase::Pending | LeasePhase::Active | LeasePhase::Destroyed => {}
        }
    }

    pub(super) fn wanted(&self, kind: StepKind) -> Step {
        let resource = self.next.resource_ref.as_ref().map_or(String::new(), |r| r.uid.clone());
        let lease = Some((uid(&self.lease.metadata).to_owned(), self.next.attempt));
        Step { kind, key: EffectKey { resource, lease } }
    }

    /// L3: begins only with Acquired on record (the shell begins no step with effects before its write), unless the
    /// driver declares activation free of outside effects.
    pub(super) fn activate(&mut self) {
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
            Some(Answer::Again(wait)) => {
                self.next.failure = None;
                self.next.built = wait.built.clone().or(self.next.built.take());
                self.store(&wait.storage);
                self.events.extend(step_warnings(&wait.warnings));
                self.waits_for = Some(wait.why.clone());
            }
            Some(Answer::Need(_)) | None => {}
        }
        // L7: after Acquired is on record and before the first call, one quorum read of the resource and its claim.
        let on_record = self.on_record.phase() == LeasePhase::Acquired;
        let confirmed = matches!(self.around.bound, Bound::Confirmed { .. }) || bug!(UnreadBeforeActivation);
        if effects && on_record && !confirmed {
            self.reads.push(Read::BoundResource);
            return;
        }
        let left = self.activation_deadline().timestamp().duration_since(self.now.timestamp());
        self.step = Some(StepOrder { step, timeout: left.unsigned_abs() });
    }

    pub(super) fn active(&mut self, facts: &Facts) {
        self.phase = LeasePhase::Active;
        self.next.activated_at = Some(self.now);
        self.next.interfaces = facts.interfaces.clone();
        self.next.outputs = facts.outputs.clone();
        if facts.built.is_some() {
            self.next.built = facts.built.clone();
        }
        self.store(&facts.storage);
        self.events.extend(step_warnings(&facts.warnings));
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

    pub(super) fn tear_down(&mut self) {
        let step = self.wanted(StepKind::TearDownLease);
        match report_of(self.around.reports, &step) {
            Some(Report { answer: Answer::Done(facts), .. }) => {
                self.store(&facts.storage);
                return self.torn_down();
            }
            None if bug!(DestroyedTooEarly) && !self.first_sight() && self.on_record.phase() == self.phase => {
                return self.torn_down();
            }
            Some(Report { answer: Answer::Failed(_), .. }) if bug!(ForgetsUnasked) => {
                return self.destroyed("Forgotten", "");
            }
            Some(Report { answer: Answer::Failed(failure) | Answer::FailedForGood(failure), .. }) => {
                self.next.failure = Some(failure.clone());
                self.events.extend(teardown::failed(&mut self.next.conditions, self.now, failure));
            }
            Some(Report { answer: Answer::Again(wait), .. }) => {
                self.next.built = wait.built.clone().or(self.next.built.take());
                self.store(&wait.storage);
                teardown::waits(&mut self.next.conditions, self.now, &wait.why);
            }
            Some(Report { answer: Answer::Need(_), .. }) | None => {
                teardown::goes_on(&mut self.next.conditions, self.now);
            }
        }
        self.step = Some(StepOrder { step, timeout: self.teardown_timeout.to_std() });
    }

    /// The driver's bookkeeping, in the write that tells what came of its step.
    fn store(&mut self, storage: &Option<Storage>) {
        if let Some(storage) = storage {
            self.next.storage.clone_from(storage);
        }
    }

    /// L9 and, for a lease on its way back, L5.
    pub(super) fn torn_down(&mut self) {
        if self.phase == LeasePhase::Acquired {
            return self.send_back();
        }
        if self.phase == LeasePhase::Released {
            self.next.failure = None;
        }
        self.destroyed("TornDown", "what it left is removed");
    }

    /// L5: Pending, reference empty, attempt and returns raised, in one write; the place in the queue is kept.
    pub(super) fn send_back(&mut self) {
        self.phase = LeasePhase::Pending;
        self.sent_back = true;
        self.next.resource_ref = None;
        self.next.acquired_at = None;
        self.next.built = None;
        self.next.storage.clear();
        self.next.interfaces.clear();
        self.next.outputs.clear();
        self.next.attempt += i64::from(!bug!(SameAttempt));
        self.next.returns += 1;
        self.set("Ready", Truth::False, "Waiting", "it waits for another Resource");
        self.set("TornDown", Truth::False, "InUse", "");
        self.urgency = Urgency::Soon;
    }
}
