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

/// What it waits for, or has failed with last, where it says so.
pub fn waits_for(conditions: &[Condition]) -> Option<&str> {
    let told =
        conditions::get(conditions, "TornDown").filter(|c| c.reason == "TearingDown" || is_failing(conditions))?;
    Some(told.message.as_str()).filter(|message| !message.is_empty())
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

/// One attempt takes at least so long, whatever `resource.teardownTimeout` says: or none could ever be made.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is on record and passed less than this ago was written for the attempt that begins now: to write another that has
/// passed when it stands would put off the attempt for ever.
const FRESH: Duration = Duration::from_secs(60);

/// How long an attempt may take.
pub fn timeout(asked: Option<Duration>) -> Duration {
    asked.unwrap_or(deadline::TEARDOWN_TIMEOUT).max(SHORTEST)
}

/// When the present attempt is given up: counted anew from the start of each. The later of what is on record and of what this
/// process knows, for another may be at it, too.
pub fn given_up(record: &[Deadline], retry_at: Option<MicroTime>, timeout: Duration, now: MicroTime) -> Deadline {
    let stands = |d: &&Deadline| d.at > now || (retry_at.is_none() && d.at.after(FRESH) > now);
    let recorded = deadline::find(record, DeadlineName::Teardown).filter(stands);
    let at = retry_at.unwrap_or(now).after(timeout);
    match recorded {
        Some(recorded) if retry_at.is_none() || recorded.at >= at => recorded.clone(),
        _ => {
            let message = "the present attempt is given up then, and another made";
            deadline::entry(DeadlineName::Teardown, at, "TeardownTimeout", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::testing::at;

    fn entry(seconds: i64) -> Deadline {
        deadline::entry(DeadlineName::Teardown, at(seconds), "TeardownTimeout", "")
    }

    fn given_up_at(recorded: Option<i64>, retry_at: Option<i64>, timeout: i64) -> MicroTime {
        let record: Vec<_> = recorded.map(entry).into_iter().collect();
        given_up(&record, retry_at.map(at), Duration::from_secs(timeout), at(100)).at
    }

    /// Counted from the start of each attempt, and the later of what two processes know; what has just passed was written for
    /// the attempt that is to begin, and stands: or it would be written anew for ever, and no attempt would begin.
    #[test]
    fn when_an_attempt_is_given_up() {
        for (name, recorded, retry_at, timeout, expected) in [
            ("the first", None, None, 30, 130),
            ("it goes on", Some(120), None, 30, 120),
            ("the next is to come", Some(120), Some(110), 30, 140),
            ("another is at it for longer", Some(150), Some(110), 30, 150),
            ("it has passed while nobody looked", Some(30), None, 30, 130),
            ("it has passed since it was written", Some(99), None, 1, 99),
            ("in that very moment", Some(100), None, 0, 100),
            ("that of the last attempt, which has failed", Some(99), Some(101), 1, 102),
        ] {
            assert_eq!(given_up_at(recorded, retry_at, timeout), at(expected), "{name}");
        }
    }

    #[test]
    fn an_attempt_takes_some_time() {
        for (asked, expected) in [(None, 15 * 60), (Some(20), 20), (Some(0), 1)] {
            assert_eq!(timeout(asked.map(Duration::from_secs)), Duration::from_secs(expected), "{asked:?}");
        }
    }
}
