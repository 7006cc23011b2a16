//! Teardowns, of leases and of resources alike: what of an attempt shows, and when it is given up. They are tried again
//! until they are done, and nothing is reported destroyed before (design.md, 3).

use super::{
    EventDraft,
    conditions::{self, Truth},
    deadline,
};
use crate::api::{Condition, Deadline, DeadlineName, Duration, Failure, MicroTime};

/// Whether a teardown has failed, and has not been done since.
pub fn is_failing(conditions: &[Condition]) -> bool {
    matches!(conditions::reason(conditions, "TornDown"), "TeardownFailed" | "TeardownTimeout" | "CredentialsGone")
}

/// It goes on. What it has failed with last shows until it is done.
pub fn goes_on(conditions: &mut Vec<Condition>, now: MicroTime) {
    if !is_failing(conditions) {
        conditions::set(conditions, now, "TornDown", Truth::False, "TearingDown", "");
    }
}

/// An attempt has failed, the last of so many. Returns what there is to tell, where it is news.
pub fn failed(conditions: &mut Vec<Condition>, now: MicroTime, failure: &Failure, failures: u32) -> Option<EventDraft> {
    let reason = match failure.reason.as_str() {
        "TeardownTimeout" => "TeardownTimeout",
        "CredentialsGone" => "CredentialsGone",
        _ => "TeardownFailed",
    };
    let message = format!("attempt {failures} failed: {}", failure.message);
    let news = conditions::get(conditions, "TornDown").is_none_or(|c| c.message != message);
    conditions::set(conditions, now, "TornDown", Truth::False, reason, message.clone());
    news.then(|| EventDraft::warning(reason, message))
}

/// What is on record of a teardown.
pub struct Record<'a> {
    /// The deadlines of the status.
    pub deadlines: &'a [Deadline],
    /// The conditions of the status.
    pub conditions: &'a [Condition],
}

/// When the present attempt, after so many failures in a row, is given up: counted anew from each failure.
pub fn given_up(
    record: &Record<'_>,
    conditions: &[Condition],
    failures: u32,
    timeout: Duration,
    now: MicroTime,
) -> Deadline {
    let said = |conditions| conditions::get(conditions, "TornDown").map(|c| c.message.as_str());
    if let Some(recorded) = deadline::find(record.deadlines, DeadlineName::Teardown)
        && said(conditions) == said(record.conditions)
    {
        return recorded.clone();
    }
    let begins = if failures == 0 { now } else { now.after(deadline::retry_after(failures)) };
    let message = format!("attempt {} is given up then, and another made", failures + 1);
    deadline::entry(DeadlineName::Teardown, begins.after(timeout), "TeardownTimeout", message)
}
