//! The question at a deadline: should this really expire? Driver and Blueprint may decline; then it is asked again
//! (api.md, 3).

use super::{commands, deadline};
use crate::api::{Deadline, DeadlineName, Duration, MicroTime, step::Verdict};

/// The default of `expiry.retryAfter`.
pub const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Nobody is asked more often, whatever `expiry.retryAfter` says.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// After each decline it is waited as long again as the deadline has been overdue, up to so many times `expiry.retryAfter`, and not
/// longer than an hour beyond it.
const LONGEST: i32 = 10;
const LONGEST_MORE: Duration = Duration::from_secs(3600);

/// So much of why it was declined is told: more would make the status unwritable.
const MESSAGE: usize = 900;

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
    /// It was declined, as this says. It is told once: what is declined again for the same reason stays on record as it is, and only
    /// when it is asked next moves.
    Wait {
        /// What is on record of it.
        told: Deadline,
        /// When it is asked again.
        until: MicroTime,
    },
    /// The question is to be asked first.
    Ask,
}

/// A deadline that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// When it came.
    pub since: MicroTime,
    /// What is never declined.
    pub limit: Option<MicroTime>,
    /// It was set in this very pass: nobody was asked about it yet, though it may have passed long ago.
    pub is_new: bool,
}

/// What is to be done about it.
pub fn course(
    question: &Question,
    recorded: &[Deadline],
    retry_after: Option<Duration>,
    overdue: Overdue,
    now: MicroTime,
) -> Course {
    let Overdue { since, limit, is_new } = overdue;
    if limit.is_some_and(|limit| limit <= now) {
        return Course::Expire;
    }
    let retry_after = retry_after.unwrap_or(RETRY_AFTER).max(SHORTEST);
    let in_limit = |at: MicroTime| limit.map_or(at, |limit| at.min(limit));
    // Whoever was asked before it came was asked about another.
    let is_of_it = |asking: &&Deadline| !is_new && asking.at >= in_limit(since.after(retry_after));
    let told = deadline::find(recorded, DeadlineName::Asking).filter(is_of_it);
    match (question, told) {
        (Question::Nobody, _) | (Question::Answered(Verdict::Expire), _) => Course::Expire,
        (_, Some(told)) if told.at > now => {
            let at = in_limit(told.at);
            Course::Wait { told: Deadline { at, ..told.clone() }, until: at }
        }
        (Question::Open, _) => Course::Ask,
        (Question::Answered(Verdict::Decline(why)), told) => {
            let until = in_limit(asked_again(retry_after, since, now));
            let why = commands::shorten(why.clone(), MESSAGE);
            let told = told.filter(|told| told.message == why).cloned();
            let told = told.unwrap_or_else(|| deadline::entry(DeadlineName::Asking, until, "ExpiryDeclined", why));
            Course::Wait { told, until }
        }
    }
}

/// When what was declined now is asked about again: at times that double from `retry_after`, and that nothing on record is needed
/// for. A deadline that is overdue for long when it is asked about first has its next time a `retry_after` later at the soonest.
fn asked_again(retry_after: Duration, since: MicroTime, now: MicroTime) -> MicroTime {
    let most = (retry_after.signed() * LONGEST).min(retry_after.signed() + LONGEST_MORE.signed());
    let overdue = now.timestamp().duration_since(since.timestamp());
    let mut next = retry_after.signed();
    while next <= overdue {
        let step = next.min(most);
        // From where each step is the longest the rest is counted, not gone through.
        let steps = if step == most { (overdue - next).as_millis() / step.as_millis() } else { 0 };
        next += step * i32::try_from(steps + 1).unwrap_or(i32::MAX);
    }
    since.after(Duration::from_millis(i64::try_from(next.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::testing::at;

    fn asking(seconds: i64) -> Option<Deadline> {
        Some(deadline::entry(DeadlineName::Asking, at(seconds), "ExpiryDeclined", "busy"))
    }

    fn declined() -> Question {
        Question::Answered(Verdict::Decline("busy".into()))
    }

    /// It came at 90 s, and it is 100 s.
    const OVERDUE: fn(Option<i64>) -> Overdue = |limit| Overdue { since: at(90), limit: limit.map(at), is_new: false };

    fn course_of(
        question: &Question,
        recorded: Option<Deadline>,
        retry_after: Option<i64>,
        overdue: Overdue,
    ) -> Course {
        let recorded: Vec<_> = recorded.into_iter().collect();
        course(question, &recorded, retry_after.map(Duration::from_secs), overdue, at(100))
    }

    #[test]
    fn what_is_done_about_a_deadline_that_has_come() {
        let wait = |seconds| Course::Wait { told: asking(seconds).unwrap(), until: at(seconds) };
        let still = |told, until| Course::Wait { told: asking(told).unwrap(), until: at(until) };
        let open = Question::Open;
        for (name, question, recorded, retry_after, limit, expected) in [
            ("nobody has a say", Question::Nobody, None, None, None, Course::Expire),
            ("nobody was asked", open.clone(), None, None, None, Course::Ask),
            ("nobody objects", Question::Answered(Verdict::Expire), None, None, None, Course::Expire),
            ("declined, for a minute by default", declined(), None, None, None, wait(150)),
            ("declined", declined(), None, Some(5), None, wait(110)),
            ("declined again, which is not told again", declined(), asking(95), Some(5), None, still(95, 110)),
            ("declined, but not asked all the time", declined(), None, Some(0), None, wait(106)),
            ("asked again in time", open.clone(), asking(155), None, None, wait(155)),
            ("its time has come", open.clone(), asking(100), Some(5), None, Course::Ask),
            ("nobody has a say any more", Question::Nobody, asking(155), None, None, Course::Expire),
            ("the maximum is never declined", declined(), None, None, Some(100), Course::Expire),
            ("not even while it is waited for", open.clone(), asking(155), None, Some(100), Course::Expire),
            ("nor is it asked for beyond it", declined(), None, None, Some(110), wait(110)),
            ("which stands", open.clone(), asking(110), None, Some(110), wait(110)),
            ("and a maximum that was lowered counts", open.clone(), asking(155), None, Some(130), wait(130)),
            ("who was asked before it came was asked about another", open, asking(149), None, None, Course::Ask),
        ] {
            assert_eq!(course_of(&question, recorded, retry_after, OVERDUE(limit)), expected, "{name}");
        }
    }

    /// What is set in this pass was asked about by nobody, though it lies before what was.
    #[test]
    fn an_end_that_is_new_is_asked_about_anew() {
        let new = Overdue { since: at(1), is_new: true, ..OVERDUE(None) };
        assert_eq!(course_of(&Question::Open, asking(155), None, new), Course::Ask);
        let told = Course::Wait { told: asking(121).unwrap(), until: at(121) };
        assert_eq!(course_of(&declined(), asking(155), None, new), told);
    }

    /// An end that is always declined is asked about ever more seldom, within a bound; and it is told once.
    #[test]
    fn who_always_declines_is_asked_more_and_more_seldom() {
        let waits = |retry_after: i64, asks: usize| -> Vec<i64> {
            let overdue = Overdue { since: at(0), limit: None, is_new: false };
            let (mut now, mut recorded) = (0, None);
            let mut waits = Vec::new();
            for _ in 0..asks {
                let on_record: Vec<_> = recorded.clone().into_iter().collect();
                let retry_after = Some(Duration::from_secs(retry_after));
                let course = course(&declined(), &on_record, retry_after, overdue, at(now));
                let Course::Wait { told, until } = course else { panic!() };
                assert!(recorded.is_none_or(|recorded| recorded == told));
                let next = until.timestamp().duration_since(at(0).timestamp()).as_secs();
                waits.push(next - now);
                (now, recorded) = (next, Some(told));
            }
            waits
        };
        assert_eq!(waits(60, 8), [60, 60, 120, 240, 480, 600, 600, 600]);
        assert_eq!(waits(3600, 5), [3600, 3600, 7200, 7200, 7200], "not more than an hour longer");
        assert!(waits(1, 1000).iter().sum::<i64>() > 9_900, "a thousand asks fill hours, not minutes");
    }

    /// What is recorded after a decline is not asked about before its time: or each pass would ask and write once more.
    #[test]
    fn what_was_declined_rests_until_it_is_asked_again() {
        for (retry_after, limit) in [(None, None), (Some(3600), None), (None, Some(101)), (Some(1), Some(500))] {
            let first = course_of(&declined(), None, retry_after, OVERDUE(limit));
            let Course::Wait { told, .. } = &first else { panic!() };
            for question in [Question::Open, declined()] {
                let course = course_of(&question, Some(told.clone()), retry_after, OVERDUE(limit));
                assert_eq!(course, first, "{retry_after:?} {limit:?}");
            }
        }
    }

    #[test]
    fn a_long_reason_fits_into_a_status() {
        let long = Question::Answered(Verdict::Decline("ä".repeat(5000)));
        let Course::Wait { told, .. } = course_of(&long, None, None, OVERDUE(None)) else { panic!() };
        assert_eq!(told.message.chars().count(), MESSAGE);
    }
}
