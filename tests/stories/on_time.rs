//! What happens at a deadline is compared with it: by what the object says, and by when the watch showed it.

use crate::support::{Sandbox, Seen, sandbox::condition};
use crate::told::instant;
use jiff::{SignedDuration, Timestamp};

/// How late something may be on a busy machine; how late it is on an idle one is for the benchmark to say.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// The first version of an object for which something holds. The last one must be in the history already.
pub fn first(sandbox: &Sandbox<'_>, object: &str, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
    let versions = sandbox.history().of(object);
    versions.iter().find(|seen| is(seen)).cloned().unwrap_or_else(|| panic!("{object} was never {what}: {versions:?}"))
}

/// When a version was seen, by the wall clock.
pub fn seen_at(seen: &Seen) -> Timestamp {
    Timestamp::now() - seen.at.elapsed()
}

/// Fails if an object was released before this instant, or long after it.
pub async fn released_at(sandbox: &Sandbox<'_>, object: &str, deadline: Timestamp) {
    sandbox.history().caught_up().await;
    let released = first(sandbox, object, "released", |seen| condition(&seen.object, "Released").0 == "True");
    on_time(&released, "releasedAt", deadline);
}

/// Fails if an object was destroyed before this instant, or long after it.
pub async fn destroyed_at(sandbox: &Sandbox<'_>, object: &str, deadline: Timestamp) {
    sandbox.history().caught_up().await;
    on_time(&first(sandbox, object, "destroyed", |seen| seen.phase() == "Destroyed"), "destroyedAt", deadline);
}

fn on_time(seen: &Seen, field: &str, deadline: Timestamp) {
    let says = instant(&seen.object, field);
    let (seen_at, late) = (seen_at(seen), says.duration_since(deadline));
    assert!(says >= deadline && seen_at >= deadline, "{seen:?}: early: {field} {says}, seen {seen_at}, due {deadline}");
    assert!(late < LATE, "{seen:?}: {late:#} late: {field} {says}, due {deadline}");
}

/// An instant so long from now on.
pub fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}
