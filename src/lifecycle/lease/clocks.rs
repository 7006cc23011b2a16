//! The clocks of a lease: what has run out, and what that comes to.

use super::{Pass, deadline, queue};
use crate::{
    api::{DeadlineName, LeasePhase, MicroTime},
    lifecycle::Urgency,
};

impl Pass<'_> {
    pub(super) fn clocks(&mut self) {
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
                if end.at.is_some_and(|at| at <= now) && !end.follows_resource {
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
    pub(super) fn queue_deadline(&self) -> Option<MicroTime> {
        if self.sent_back {
            return self.lease.spec.queue_timeout.map(|timeout| self.now.after(timeout));
        }
        queue::queue_end(self.lease, self.now)
    }

    pub(super) fn activation_deadline(&self) -> MicroTime {
        let told = deadline::find(&self.on_record.deadlines, DeadlineName::Activation);
        if let Some(told) = told.filter(|_| !self.policy_known) {
            return told.at;
        }
        let timeout = self.policy.activation_timeout.unwrap_or(deadline::ACTIVATION_TIMEOUT);
        self.next.acquired_at.unwrap_or(self.now).after(timeout)
    }
}
