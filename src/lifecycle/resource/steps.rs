//! The driver's steps for a resource: which is wanted, and what comes of it.

use super::{BlueprintView, Pass, StepOrder, Truth, report_of, teardown, uid};
use crate::{
    api::{
        ResourcePhase,
        step::{Answer, EffectKey, Facts, Report, Step, StepKind, Storage},
    },
    lifecycle::{Read, Urgency, step_warnings},
};

impl Pass<'_> {
    pub(super) fn step(&mut self) {
        match self.phase {
            ResourcePhase::Pending => self.build(),
            ResourcePhase::Active | ResourcePhase::Destroyed => {}
            ResourcePhase::Released | ResourcePhase::Broken => self.tear_down(),
        }
    }

    pub(super) fn wanted(&self, kind: StepKind) -> Step {
        Step { kind, key: EffectKey::of_resource(uid(&self.resource.metadata)) }
    }

    pub(super) fn build(&mut self) {
        let step = self.wanted(StepKind::Build);
        match report_of(self.around.reports, &step).map(|r| &r.answer) {
            Some(Answer::Done(facts)) => return self.active(facts),
            Some(Answer::FailedForGood(failure)) => {
                self.next.failure = Some(failure.clone());
                self.over(ResourcePhase::Broken, "Failed", &failure.message);
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
        // Whatever has been done by now is on record first: it would have to be done again, or found out again.
        let Some(blueprint) = self.blueprint else { return };
        if blueprint.spec.suspend && self.on_record.built.is_none() {
            // Nothing is begun while it is suspended. What has begun goes on to its end: its Build clock does not stand still.
            self.release("Released", "the Blueprint was suspended before the build had begun");
            return self.tear_down();
        }
        // R1 and R2: before the first call, and before Active.
        if !matches!(self.around.blueprint, BlueprintView::Confirmed(_)) && !bug!(UnreadBlueprint) {
            self.reads.push(Read::Blueprint);
        }
        if let Some(limit) = self.around.counted_limit {
            match self.around.others {
                None => self.reads.push(Read::ResourcesOfBlueprint),
                // Two controllers at once may each have made one: of those, none that is one too many is ever built.
                Some(others) if others >= limit => {
                    self.release("Released", "limits.maxResources of the Blueprint is reached by others");
                    return self.tear_down();
                }
                Some(_) => {}
            }
        }
        match self.around.slot_is_clear {
            None if bug!(UnreadSlot) => {}
            None => self.reads.push(Read::LeasesOnSlot),
            Some(false) => {
                // A lease still holds the slot under a former UID: its end is awaited, not assumed.
                self.wakes.push(self.now.after(crate::api::Duration::from_secs(1)));
                return;
            }
            Some(true) => {}
        }
        if !self.reads.is_empty() {
            return;
        }
        if !self.around.free.build && self.next.built.is_none() {
            // Everything that a teardown needs is on record before the first effect outside (api.md, 6).
            self.next.built = Some(self.around.intent.clone().unwrap_or_else(|| serde_json::json!({})));
        }
        let left = self.build_deadline().timestamp().duration_since(self.now.timestamp());
        self.step = Some(StepOrder { step, timeout: left.unsigned_abs() });
    }

    pub(super) fn active(&mut self, facts: &Facts) {
        self.phase = ResourcePhase::Active;
        self.next.activated_at = Some(self.now);
        self.next.idle_since = Some(self.now);
        self.next.interfaces = facts.interfaces.clone();
        self.next.outputs = facts.outputs.clone();
        if facts.built.is_some() {
            self.next.built = facts.built.clone();
        }
        self.store(&facts.storage);
        self.events.extend(step_warnings(&facts.warnings));
        self.next.failure = None;
        self.set("Ready", Truth::True, "Active", "");
        self.urgency = Urgency::Soon;
        // Clocks that run from activation may have run out in the same moment.
        self.clocks();
        if self.is_over() {
            self.tear_down();
        }
    }

    /// R8: begins only with Released or Broken, and empty claims, on record.
    pub(super) fn tear_down(&mut self) {
        if !self.next.claims.is_empty() && !bug!(TearsDownClaimed) {
            return self.wait_for_leases();
        }
        if self.next.built.is_none() {
            return self.destroyed("NothingToTearDown", "nothing had been built");
        }
        let step = self.wanted(StepKind::TearDownResource);
        match report_of(self.around.reports, &step) {
            Some(Report { answer: Answer::Done(facts), .. }) => {
                self.store(&facts.storage);
                return self.destroyed("TornDown", "it is removed");
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
                if self.on_record.claims.is_empty() {
                    teardown::goes_on(&mut self.next.conditions, self.now);
                } else {
                    // What has failed, if anything, was the teardown of what a lease had left.
                    self.set("TornDown", Truth::False, "TearingDown", "");
                }
            }
        }
        self.step = Some(StepOrder { step, timeout: self.teardown_timeout().to_std() });
    }

    /// The driver's bookkeeping, in the write that tells what came of its step.
    pub(super) fn store(&mut self, storage: &Option<Storage>) {
        if let Some(storage) = storage {
            self.next.storage.clone_from(storage);
        }
    }

    /// R8: not while it is claimed. What a vanished lease left is torn down meanwhile (R4c); where that fails it shows.
    pub(super) fn wait_for_leases(&mut self) {
        let report = self.step.as_ref().map(|order| report_of(self.around.reports, &order.step));
        match report {
            Some(Some(Report { answer: Answer::Failed(failure) | Answer::FailedForGood(failure), .. })) => {
                self.events.extend(teardown::failed(&mut self.next.conditions, self.now, failure));
            }
            Some(_) if teardown::is_failing(&self.next.conditions) => {}
            Some(_) | None => {
                let message = format!("it is held by {} still", self.next.claims.len());
                self.set("TornDown", Truth::False, "WaitingForLeases", &message);
            }
        }
    }

    pub(super) fn destroyed(&mut self, reason: &str, message: &str) {
        self.phase = ResourcePhase::Destroyed;
        self.next.destroyed_at = Some(self.now);
        self.set("TornDown", Truth::True, reason, message);
    }
}
