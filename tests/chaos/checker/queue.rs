//! The queue in order: while no fault is on, nobody is overtaken by one who wants the same and came later. Grants on several
//! resources are several writes, so who is passed over has a moment to be granted another.

use super::{
    Checker, Kind, Verdict,
    values::{claims, is_deleting, number, owner, phase, text, time, uid, unconsumed},
    wrong,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// How long who is passed over may wait for another resource.
const MOMENT: SignedDuration = SignedDuration::from_secs(10);

/// By then every controller knows of a lease: a grant that was decided before may pass it over.
const KNOWN: SignedDuration = SignedDuration::from_secs(4);

/// See the module.
#[derive(Default)]
pub struct Queue {
    /// Whether no fault is on.
    is_calm: bool,
    overtaken: Vec<Overtaken>,
}

struct Overtaken {
    lease: String,
    by: String,
    on: String,
    at: Timestamp,
}

/// The order of api.md, 5: priority, creation, ticket, UID.
fn place(lease: &Value) -> (i64, Option<Timestamp>, u64, &str) {
    let ticket = match text(lease, "/status/queueTicket") {
        "" => text(lease, "/metadata/resourceVersion"),
        ticket => ticket,
    };
    let created = time(lease, "/metadata/creationTimestamp");
    (-number(lease, "/spec/priority", 0), created, ticket.parse().unwrap_or(0), uid(lease))
}

impl Checker {
    /// From now on no fault is on, and everything is as it should be.
    pub fn is_calm(&mut self) {
        self.queue.is_calm = true;
    }

    /// Notes who is passed over by a grant.
    pub(super) fn note_overtaken(&mut self, resource: &Value, granted: &str) {
        let Some(lease) = self.lease_of(granted).filter(|_| self.queue.is_calm) else { return };
        let kind = text(lease, "/spec/resourceType");
        let before = |other: &&Value| {
            let known = place(other).1.is_some_and(|created| created + KNOWN < self.at);
            text(other, "/spec/resourceType") == kind && known && place(other) < place(lease) && self.waits(other)
        };
        let note = |other: &Value| Overtaken {
            lease: uid(other).to_owned(),
            by: granted.to_owned(),
            on: uid(resource).to_owned(),
            at: self.at,
        };
        let noted: Vec<_> = self.of(Kind::Lease).values().filter(before).map(note).collect();
        self.queue.overtaken.extend(noted);
    }

    /// Whether who was passed over waits still, after a moment.
    pub(super) fn nobody_is_overtaken(&mut self) -> Verdict {
        let at = self.at;
        let due: Vec<_> = self.queue.overtaken.extract_if(.., |one| one.at + MOMENT < at).collect();
        match due.iter().find(|one| self.lease_of(&one.lease).is_some_and(|lease| self.waits(lease))) {
            Some(one) => wrong("a lease was overtaken in the queue", &[&one.lease, &one.by, &one.on]),
            None => Ok(()),
        }
    }

    fn waits(&self, lease: &Value) -> bool {
        let claimed = || {
            let kind = text(lease, "/spec/resourceType");
            let mine = |r: &&Value| self.specs(owner(r)).any(|spec| text(spec, "/resourceType") == kind);
            let resources = || self.of(Kind::Resource).values().filter(mine);
            resources().any(|r| claims(r).iter().any(|(by, _)| *by == uid(lease)))
        };
        phase(lease) == "Pending" && !is_deleting(lease) && unconsumed(lease).next().is_none() && !claimed()
    }
}
