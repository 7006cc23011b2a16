//! The clocks of a lease: what has run out, and what that comes to.

use super::{Pass, deadline, queue};
use crate::{
    api::{DeadlineName, LeasePhase, MicroTime},
    lifecycle::{
        Read, Urgency,
        asking::{Course, course},
    },
};

impl Pass<'_> {
    pub(super) fn clocks(&mut self) {
        let now = self.now;
        if self.heartbeat_is_lost() {
            return;
        }
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
                    self.end_has_come(&end.message);
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

    /// Each change of `spec.heartbeat` that is seen is a sign of life. That is kept by each process for itself: a restart
    /// begins anew, late and never early; and who has not seen the last one cannot write on the version that has it.
    fn heartbeat_is_lost(&mut self) -> bool {
        let (Some(timeout), Some(seen)) = (self.lease.spec.heartbeat_timeout, self.around.heartbeat_seen) else {
            return false;
        };
        if self.is_over() {
            return false;
        }
        let at = seen.after(timeout);
        if at > self.now {
            self.wakes.push(at);
            return false;
        }
        self.release("HeartbeatLost", &format!("spec.heartbeat has not changed for {timeout}"), None);
        true
    }

    /// `maxTTL` is never declined.
    fn end_has_come(&mut self, message: &str) {
        let limit = self.policy.max_ttl.zip(self.next.activated_at).map(|(max, activated)| activated.after(max));
        match course(&self.around.question, &self.on_record.deadlines, self.retry_after, limit, self.now) {
            Course::Expire => self.release("Expired", &format!("its end has come: {message}"), None),
            Course::Wait(asking) => self.declined = Some(asking),
            Course::Ask => self.reads.push(Read::Expiry),
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
