//! The clocks of a lease: what has run out, and what that comes to.

use super::{Pass, deadline, queue};
use crate::{
    api::{DeadlineName, LeasePhase, MicroTime},
    lifecycle::{
        Read, Urgency,
        asking::{Course, Overdue, course},
        with_cause,
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
                    let what = "it was not made active in time";
                    let why = with_cause(what, self.next.failure.as_ref(), &self.next.conditions);
                    return self.broken("ActivationTimeout", &why);
                }
                if end.is_some_and(|at| at <= now) {
                    self.release("Expired", "its end came before it was active", None);
                }
            }
            LeasePhase::Active if bug!(ForgetsClock) => {}
            LeasePhase::Active => self.own_end(),
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
        let (Some(timeout), Some(at)) = (self.lease.spec.heartbeat_timeout, self.heartbeat_deadline()) else {
            return false;
        };
        if self.is_over() {
            return false;
        }
        if at > self.now {
            self.wakes.push(at);
            return false;
        }
        self.release("HeartbeatLost", &format!("spec.heartbeat has not changed for {timeout}"), None);
        true
    }

    pub(super) fn heartbeat_deadline(&self) -> Option<MicroTime> {
        Some(self.around.heartbeat_seen?.after(self.lease.spec.heartbeat_timeout?))
    }

    /// An end that is its resource's is the resource's to act on, whose answer moves both. One of its own that comes while
    /// that of the resource is declined is acted on all the same; and `maxTTL` is never declined.
    fn own_end(&mut self) {
        let own = self.end_by(&self.lease.spec, None);
        let Some(at) = own.at else { return };
        let limit = self.limit();
        let early = crate::api::Duration::from_secs(if bug!(EarlyTimer) { 30 } else { 0 });
        if at > self.now.after(early) {
            return self.wakes.push(at);
        }
        let is_the_resources = self.bound.and_then(|r| r.status.as_ref()?.expires_at) == Some(at);
        if is_the_resources && limit.is_none_or(|limit| limit > self.now) {
            return self.wakes.extend(limit);
        }
        let overdue = Overdue { since: at, limit, is_new: self.next.wish != self.on_record.wish };
        match course(&self.around.question, &self.on_record.deadlines, self.retry_after, overdue, self.now) {
            Course::Expire => self.release("Expired", &format!("its end has come: {}", own.message), None),
            Course::Wait { told, until } => {
                self.declined = Some(told);
                self.wakes.push(until);
            }
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
