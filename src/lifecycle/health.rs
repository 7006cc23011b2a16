//! What has become of an environment while it is held: told, and taken back when it is as it should be again.

use super::{
    EventDraft,
    conditions::{self, Truth},
};
use crate::api::{Condition, MicroTime};

/// What shows that something of it is lost.
const LOST: &str = "ObjectLost";

/// Whether it is known not to be as it should be.
pub fn is_lost(conditions: &[Condition]) -> bool {
    conditions::reason(conditions, "Ready") == LOST
}

/// Since when, at the latest: conditions have whole seconds, rounded down.
pub fn lost_since(conditions: &[Condition]) -> Option<MicroTime> {
    let ready = conditions::get(conditions, "Ready").filter(|c| c.reason == LOST)?;
    Some(MicroTime::from(ready.last_transition_time.0).after(crate::api::Duration::from_secs(1)))
}

/// Tells what is lost, or that nothing is any more. Returns what there is to tell as an Event, where it is news.
pub fn tell(conditions: &mut Vec<Condition>, now: MicroTime, lost: Option<&str>) -> Option<EventDraft> {
    match lost {
        Some(why) => {
            let news = conditions::get(conditions, "Ready").is_none_or(|c| c.reason != LOST || c.message != why);
            conditions::set(conditions, now, "Ready", Truth::False, LOST, why);
            news.then(|| EventDraft::warning(LOST, why))
        }
        None if is_lost(conditions) => {
            conditions::set(conditions, now, "Ready", Truth::True, "Active", "");
            None
        }
        None => None,
    }
}
