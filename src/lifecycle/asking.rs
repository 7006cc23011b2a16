//! The question at a deadline: should this really expire? Driver and Blueprint may decline; then it is asked again
//! (api.md, 3).

use super::deadline;
use crate::api::{Deadline, DeadlineName, Duration, MicroTime, step::Verdict};

/// The default of `expiry.retryAfter`.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Whether somebody has a say, and what was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Question {
    /// Nobody has.
    #[default]
    Nobody,
    /// Nobody was asked yet.
    Open,
    /// What was answered in this pass.
    Answered(Verdict),
}

/// What is to be done about a deadline that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// It is kept.
    Expire,
    /// It was declined; it is asked again when this comes.
    Wait(Deadline),
    /// The question is to be asked first.
    Ask,
}

/// What is to be done about a deadline that has come; `limit` is never declined.
pub fn course(
    question: &Question,
    recorded: &[Deadline],
    retry_after: Option<Duration>,
    limit: Option<MicroTime>,
    now: MicroTime,
) -> Course {
    if limit.is_some_and(|limit| limit <= now) {
        return Course::Expire;
    }
    let asked = deadline::find(recorded, DeadlineName::Asking).filter(|asking| asking.at > now);
    match (question, asked) {
        (Question::Nobody, _) | (Question::Answered(Verdict::Expire), _) => Course::Expire,
        (_, Some(asking)) => Course::Wait(asking.clone()),
        (Question::Open, None) => Course::Ask,
        (Question::Answered(Verdict::Decline(why)), None) => {
            let again = now.after(retry_after.unwrap_or(RETRY_AFTER));
            let at = limit.map_or(again, |limit| again.min(limit));
            Course::Wait(deadline::entry(DeadlineName::Asking, at, "ExpiryDeclined", why.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::testing::at;

    #[test]
    fn what_is_done_about_a_deadline_that_has_come() {
        let declined = || Question::Answered(Verdict::Decline("busy".into()));
        let asking = |seconds| deadline::entry(DeadlineName::Asking, at(seconds), "ExpiryDeclined", "busy");
        let minute = Some(Duration::from_secs(60));
        for (name, question, recorded, retry_after, limit, expected) in [
            ("nobody has a say", Question::Nobody, None, None, None, Course::Expire),
            ("nobody was asked", Question::Open, None, None, None, Course::Ask),
            ("nobody objects", Question::Answered(Verdict::Expire), None, None, None, Course::Expire),
            ("declined, for a minute by default", declined(), None, None, None, Course::Wait(asking(160))),
            ("declined", declined(), None, Some(Duration::from_secs(5)), None, Course::Wait(asking(105))),
            ("asked again in time", Question::Open, Some(asking(130)), None, None, Course::Wait(asking(130))),
            ("its time has come", Question::Open, Some(asking(100)), None, None, Course::Ask),
            ("nobody has a say any more", Question::Nobody, Some(asking(130)), None, None, Course::Expire),
            ("the maximum is never declined", declined(), None, minute, Some(at(100)), Course::Expire),
            ("nor is it asked for beyond it", declined(), None, minute, Some(at(110)), Course::Wait(asking(110))),
        ] {
            let recorded: Vec<_> = recorded.into_iter().collect();
            assert_eq!(course(&question, &recorded, retry_after, limit, at(100)), expected, "{name}");
        }
    }
}
