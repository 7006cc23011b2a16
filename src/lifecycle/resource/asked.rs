//! What was asked for: edits of `spec.expiresAt`, and the commands, with the outcomes of api.md section 2.

use super::{EventDraft, LeaseView, Pass};
use crate::{
    api::{Command, CommandType, Outcome, ResourcePhase, Wish},
    lifecycle::{
        Urgency,
        commands::{self, Verdict, applied, ignored, refused},
        deadline, teardown,
    },
};

impl Pass<'_> {
    /// An edit counts as an `Expires` to that time. The first sight is no edit.
    pub(super) fn edit(&mut self) {
        let asked = self.resource.spec.expires_at;
        if self.next.expiry_seen == asked {
            return;
        }
        self.next.expiry_seen = asked;
        if self.on_record.phase.is_none() {
            return;
        }
        if self.is_over() {
            let message = "spec.expiresAt was not granted: the Resource is over";
            self.events.push(EventDraft::warning("EditNotGranted", message));
            return;
        }
        self.next.wish = asked.map(|at| Wish { at: Some(at), never: None });
    }

    /// Q1: all unconsumed commands of the version that was read, in list order, in the write of their outcomes.
    pub(super) fn commands(&mut self) {
        let resource = self.resource;
        let ledger = self.on_record.commands.clone();
        for command in commands::unconsumed(&resource.spec.commands, &ledger) {
            let verdict = self.command(command);
            if verdict.0 == Outcome::Refused {
                let message = format!("{} {}: {}", command.type_, command.id, verdict.1);
                self.events.push(EventDraft::warning("CommandRefused", message));
            }
            commands::record(&mut self.next.commands, &resource.spec.commands, command, verdict, self.now);
            self.urgency = Urgency::Now;
        }
    }

    fn command(&mut self, command: &Command) -> Verdict {
        let by = command.issued_by.as_deref().unwrap_or("somebody unknown");
        match command.type_ {
            CommandType::Release if self.is_over() => ignored(commands::OVER_ALREADY),
            CommandType::Release => {
                let message = command.reason.as_ref().map_or(format!("by {by}"), |why| format!("by {by}: {why}"));
                self.release("Released", &message);
                applied("")
            }
            CommandType::Reclaim => self.asked_to_reclaim(by),
            CommandType::Expires if self.is_over() => refused("it is over; its end cannot be moved"),
            CommandType::Expires => {
                let target = command.at.or(command.after.map(|after| self.now.after(after)));
                self.next.wish = Some(Wish { at: target, never: target.is_none().then_some(true) });
                applied("")
            }
            CommandType::Forget => self.asked_to_forget(by),
            CommandType::Unknown(type_) => commands::unknown(type_),
        }
    }

    fn asked_to_reclaim(&mut self, by: &str) -> Verdict {
        match self.phase {
            ResourcePhase::Pending => refused("it is being built; append Release to cancel the build"),
            ResourcePhase::Active if !self.next.claims.is_empty() && !bug!(ReclaimsLeased) => {
                refused(format!("it is held by {} leases; append Release to end them", self.next.claims.len()))
            }
            ResourcePhase::Active => {
                let since = self.next.idle_since.unwrap_or(self.now);
                let at = since.after(self.policy.reclaim_after.unwrap_or(deadline::RECLAIM_AFTER));
                if at > self.now && !self.around.makes_way && !bug!(ReclaimsLeased) {
                    // It may have been built and never used.
                    let idle = self.now.timestamp().duration_since(since.timestamp()).as_secs();
                    let why = format!("it has been idle for {idle} s only, and is reclaimable at {at}; ask again then");
                    return refused(why);
                }
                self.release("Reclaimed", &format!("by {by}"));
                applied("")
            }
            ResourcePhase::Released | ResourcePhase::Broken | ResourcePhase::Destroyed => {
                ignored(commands::OVER_ALREADY)
            }
        }
    }

    /// Only after a failed attempt: written off without teardown, on record.
    fn asked_to_forget(&mut self, by: &str) -> Verdict {
        if !self.is_over() || !teardown::is_failing(&self.next.conditions) {
            return refused("only a teardown that has failed can be forgotten; append Release first");
        }
        let gone = self.around.leases.iter().filter(|lease| matches!(lease, LeaseView::Gone)).count();
        if self.next.claims.len() > gone {
            return refused(format!(
                "it is held by {} leases still; wait until they have ended",
                self.next.claims.len() - gone
            ));
        }
        self.next.claims.clear();
        self.destroyed("Forgotten", &format!("written off without teardown by {by}"));
        applied(commands::WRITTEN_OFF)
    }
}
