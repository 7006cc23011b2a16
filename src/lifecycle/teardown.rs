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
    // What was told of an attempt stands while it goes on.
    if !is_failing(conditions) && conditions::reason(conditions, "TornDown") != "TearingDown" {
        conditions::set(conditions, now, "TornDown", Truth::False, "TearingDown", "");
    }
}

/// It has got so far, and waits.
pub fn waits(conditions: &mut Vec<Condition>, now: MicroTime, why: &str) {
    if why.is_empty() {
        return goes_on(conditions, now);
    }
    // What has failed once may be forgotten until it is done.
    let failing = is_failing(conditions).then(|| conditions::reason(conditions, "TornDown").to_owned());
    conditions::set(conditions, now, "TornDown", Truth::False, failing.as_deref().unwrap_or("TearingDown"), why);
}

/// An attempt has failed. Returns what there is to tell, where it is news. How often it has failed is not told: it is known
/// to one process only, and two of them would overwrite each other's number without end.
pub fn failed(conditions: &mut Vec<Condition>, now: MicroTime, failure: &Failure) -> Option<EventDraft> {
    let reason = match failure.reason.as_str() {
        "TeardownTimeout" => "TeardownTimeout",
        "CredentialsGone" => "CredentialsGone",
        _ => "TeardownFailed",
    };
    let message = format!("it failed, and is tried again: {}", failure.message);
    let news = conditions::get(conditions, "TornDown").is_none_or(|c| c.message != message);
    conditions::set(conditions, now, "TornDown", Truth::False, reason, message.clone());
    news.then(|| EventDraft::warning(reason, message))
}

/// When the present attempt is given up: counted anew from the start of each. The later of what is on record and of what this
/// process knows, for another may be at it, too.
pub fn given_up(record: &[Deadline], retry_at: Option<MicroTime>, timeout: Duration, now: MicroTime) -> Deadline {
    let recorded = deadline::find(record, DeadlineName::Teardown).filter(|d| d.at > now);
    let at = retry_at.unwrap_or(now).after(timeout);
    match recorded {
        Some(recorded) if retry_at.is_none() || recorded.at >= at => recorded.clone(),
        _ => {
            let message = "the present attempt is given up then, and another made";
            deadline::entry(DeadlineName::Teardown, at, "TeardownTimeout", message)
        }
    }
}
