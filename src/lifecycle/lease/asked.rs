//! What was asked for: edits of `spec.expiresAt`, and the commands, with the outcomes of api.md section 2.

use super::{EventDraft, Pass};
use crate::{
    api::{Command, CommandType, DeadlineName, Duration, LeasePhase, LeaseSpec, MicroTime, Outcome, Wish},
    lifecycle::{
        Urgency,
        commands::{self, Verdict, applied, ignored, refused},
        deadline, teardown,
    },
};

impl Pass<'_> {
    /// An edit counts as an `Expires` to that time, but is cut to the maximum instead of refused. The first sight is no
    /// edit and spends no extension.
    pub(super) fn edit(&mut self) {
        let asked = self.lease.spec.expires_at;
        if self.next.expiry_seen == asked {
            return;
        }
        let seen = std::mem::replace(&mut self.next.expiry_seen, asked);
        if self.first_sight() {
            return;
        }
        if self.is_over() {
            return self.not_granted("the Lease is over");
        }
        let wish = asked.map(|at| Wish { at: Some(at), never: None });
        if self.phase != LeasePhase::Active {
            self.next.wish = wish;
            return;
        }
        // The spec has the new time already: what the end was until now comes from the one that was seen last.
        let spec = LeaseSpec { expires_at: seen, ..self.lease.spec.clone() };
        let before = self.end_by(&spec, None).at;
        let kept = self.next.wish.unwrap_or(Wish { at: before, never: before.is_none().then_some(true) });
        self.next.wish = wish;
        let beyond_what_is_known = asked.is_some_and(|at| !self.policy_known && is_later(Some(at), before));
        if (beyond_what_is_known || is_later(self.end_without_resource(), before))
            && let Err(why) = self.spend_extension()
        {
            self.next.wish = Some(kept);
            return self.not_granted(&why);
        }
        if let (Some(limit), Some(at)) = (self.limit(), asked)
            && at > limit
        {
            self.next.wish = Some(Wish { at: Some(limit), never: None });
            self.not_granted(&format!("cut to lease.maxTTL of the Blueprint, {limit}"));
        }
    }

    fn not_granted(&mut self, why: &str) {
        let message = format!("spec.expiresAt was not granted in full: {why}");
        self.events.push(EventDraft::warning("EditNotGranted", message.clone()));
        self.cut = Some(message);
    }

    /// Q1: all unconsumed commands of the version that was read, in list order, in the write of their outcomes.
    pub(super) fn commands(&mut self) {
        let lease = self.lease;
        let ledger = self.on_record.commands.clone();
        for command in commands::unconsumed(&lease.spec.commands, &ledger) {
            let verdict = self.command(command);
            if verdict.0 == Outcome::Refused {
                let message = format!("{} {}: {}", command.type_, command.id, verdict.1);
                self.events.push(EventDraft::warning("CommandRefused", message));
            }
            commands::record(&mut self.next.commands, &lease.spec.commands, command, verdict, self.now);
            self.urgency = Urgency::Now;
        }
    }

    fn command(&mut self, command: &Command) -> Verdict {
        match command.type_ {
            CommandType::Release => match command.hold {
                None => self.asked_to_release(command),
                Some(hold) => self.asked_to_hold(command, hold),
            },
            CommandType::Expires => self.asked_to_expire(command),
            CommandType::Forget => self.asked_to_forget(command),
            // The CRD refuses it; a lease from before the rule gets an answer all the same.
            CommandType::Reclaim => refused("Reclaim is for Resources; to give a lease back append Release"),
            CommandType::Unknown(type_) => commands::unknown(type_),
        }
    }

    fn asked_to_release(&mut self, command: &Command) -> Verdict {
        match self.phase {
            LeasePhase::Active if bug!(RefusesRelease) => refused("it is in use"),
            LeasePhase::Pending | LeasePhase::Acquired | LeasePhase::Active => {
                self.release("Released", &released_by(command), None);
                applied("")
            }
            // Q3: of a lease's own commands only a Release without hold ends a hold.
            LeasePhase::Released if self.held_until().is_some() => {
                self.end_hold();
                applied("the hold ends now")
            }
            LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed => ignored(commands::OVER_ALREADY),
        }
    }

    fn asked_to_hold(&mut self, command: &Command, hold: Duration) -> Verdict {
        let max = self.policy.max_hold.unwrap_or(deadline::MAX_HOLD);
        match self.phase {
            LeasePhase::Pending | LeasePhase::Acquired => {
                self.release("Released", &released_by(command), None);
                applied("released without a hold: nothing to hold yet")
            }
            LeasePhase::Active => {
                let until = self.now.after(if bug!(HoldsTooLong) { hold } else { hold.min(max) });
                self.release("Released", &released_by(command), Some(until));
                if hold > max {
                    applied(format!("held until {until}: cut to lease.maxHold of the Blueprint, {max}"))
                } else {
                    applied(format!("held until {until}"))
                }
            }
            LeasePhase::Released => {
                let Some(present) = self.held_until() else { return refused("teardown has begun") };
                if bug!(HoldEndsHold) {
                    self.end_hold();
                    return applied("");
                }
                let limit = self.next.released_at.unwrap_or(self.now).after(max);
                let wished = self.now.after(hold);
                let until = wished.min(limit);
                if until <= present {
                    return ignored(format!("it is held until {present} already"));
                }
                self.end_hold();
                self.next.deadlines.push(deadline::entry(DeadlineName::Hold, until, "HoldEnded", "kept for a look"));
                if wished > limit {
                    applied(format!(
                        "held until {until}: cut to lease.maxHold of the Blueprint, {max} after its release"
                    ))
                } else {
                    applied(format!("held until {until}"))
                }
            }
            LeasePhase::Broken | LeasePhase::Destroyed => refused("teardown has begun"),
        }
    }

    fn asked_to_expire(&mut self, command: &Command) -> Verdict {
        let target = command.at.or(command.after.map(|after| self.now.after(after)));
        let wish = Wish { at: target, never: target.is_none().then_some(true) };
        match self.phase {
            LeasePhase::Pending | LeasePhase::Acquired => {
                self.next.wish = Some(wish);
                match self.policy.max_ttl {
                    Some(max) => applied(format!("lease.maxTTL of the Blueprint, {max}, is counted from activation")),
                    None => applied(""),
                }
            }
            LeasePhase::Active => self.move_end(target, wish),
            LeasePhase::Released if self.held_until().is_some() => {
                refused("it is released; to keep it longer append Release with hold")
            }
            LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed => {
                refused("it is over; create another Lease")
            }
        }
    }

    fn move_end(&mut self, target: Option<MicroTime>, wish: Wish) -> Verdict {
        if let (Some(limit), Some(max)) = (self.limit(), self.policy.max_ttl)
            && target.is_none_or(|at| at > limit)
        {
            let asked = target.map_or_else(|| "never".to_owned(), |at| at.to_string());
            return refused(format!(
                "{asked} is beyond lease.maxTTL of the Blueprint, {max}: ask for {limit} at the latest"
            ));
        }
        if is_later(target, self.end_without_resource())
            && let Err(why) = self.spend_extension()
        {
            return refused(why);
        }
        self.next.wish = Some(wish);
        let end = self.end();
        match end.at {
            Some(at) if end.follows_resource => applied(format!("but its Resource ends at {at}")),
            _ => applied(""),
        }
    }

    /// The latest end that `maxTTL` allows, of a lease that is active.
    pub(super) fn limit(&self) -> Option<MicroTime> {
        Some(self.next.activated_at?.after(self.policy.max_ttl?))
    }

    fn end_without_resource(&self) -> Option<MicroTime> {
        self.end_by(&self.lease.spec, None).at
    }

    fn spend_extension(&mut self) -> Result<(), String> {
        if !self.policy_known {
            return Err(
                "its Blueprint is not seen, so what that allows is not known; only an earlier end can be set".into()
            );
        }
        if let Some(max) = self.policy.max_extensions
            && self.next.extensions >= max
        {
            return Err(format!("its {max} extensions (lease.maxExtensions of the Blueprint) are used up"));
        }
        self.next.extensions += 1;
        Ok(())
    }

    /// Only after a failed attempt: written off without teardown, on record.
    fn asked_to_forget(&mut self, command: &Command) -> Verdict {
        let over = matches!(self.phase, LeasePhase::Released | LeasePhase::Broken);
        if !over || !teardown::is_failing(&self.next.conditions) {
            return refused("only a teardown that has failed can be forgotten; append Release first");
        }
        let by = command.issued_by.as_deref().unwrap_or("somebody unknown");
        self.end_hold();
        self.destroyed("Forgotten", &format!("written off without teardown by {by}"));
        applied(commands::WRITTEN_OFF)
    }
}

fn released_by(command: &Command) -> String {
    let by = command.issued_by.as_deref().unwrap_or("somebody unknown");
    match &command.reason {
        Some(reason) => format!("by {by}: {reason}"),
        None => format!("by {by}"),
    }
}

/// Whether an end is later than another; never is latest.
fn is_later(end: Option<MicroTime>, than: Option<MicroTime>) -> bool {
    match (end, than) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(end), Some(than)) => end > than,
    }
}
