//! Nothing is released before its deadline without a cause that is on record.

use super::{
    Checker, Kind, STALE, Verdict,
    commands::ends_it,
    values::{
        bound_to, claims, deadline, is_deleting, is_over, length, list, number, owner, phase, reason, text, time, uid,
    },
    wrong,
};
use jiff::Timestamp;
use serde_json::Value;

impl Checker {
    pub(super) fn cause_of_lease(&self, old: &Value, new: &Value) -> Verdict {
        if is_over(old) || !is_over(new) {
            return Ok(());
        }
        let at = self.over_since(new)?;
        let cause = reason(new, "Released");
        let rightly = match cause {
            "Released" => by_command(old, new),
            "Deleted" => is_deleting(new),
            "Expired" => self.ends(new).iter().any(|end| *end <= at),
            "QueueTimeout" => {
                let end = after(new, "/metadata/creationTimestamp", length(new, "/spec/queueTimeout"));
                phase(old) == "Pending" && deadline(old, "Queue").or(end).is_some_and(|end| end <= at)
            }
            "ResourceReleased" | "ResourceLost" => self.resource_of(bound_to(new)).is_none_or(is_over),
            "ActivationTimeout" => deadline(old, "Activation").is_some_and(|end| end <= at),
            "AttemptsExhausted" => number(new, "/status/returns", 0) >= 2,
            "Failed" => !new["status"]["failure"].is_null(),
            _ => false,
        };
        if rightly {
            Ok(())
        } else {
            wrong(format!("a lease was released without a cause: {cause} at {at}"), &[uid(new)])
        }
    }

    pub(super) fn cause_of_resource(&self, old: &Value, new: &Value) -> Verdict {
        if is_over(old) || !is_over(new) {
            return Ok(());
        }
        let at = self.over_since(new)?;
        let (cause, idle) = (reason(new, "Released"), claims(new).is_empty());
        let ends =
            |from: &str, ttl: &str| self.specs(owner(new)).filter_map(|s| after(new, from, length(s, ttl))).min();
        let rightly = match cause {
            "Released" => by_command(old, new) || (idle && (new["status"]["served"] == true || self.too_many(new))),
            "Reclaimed" => by_command(old, new) && idle,
            "Deleted" => is_deleting(new),
            "Expired" => {
                let wish = time(new, "/status/wish/at").or(time(new, "/spec/expiresAt"));
                wish.or(ends("/status/activatedAt", "/resource/ttl")).is_some_and(|end| end <= at)
            }
            "IdleTimeout" => idle && ends("/status/idleSince", "/resource/idleTTL").is_some_and(|end| end <= at),
            "BuildTimeout" => deadline(old, "Build").is_some_and(|end| end <= at),
            "Failed" => !new["status"]["failure"].is_null(),
            "BlueprintDeleted" => idle && self.drained.contains(owner(new)),
            "Disabled" => idle && self.was_disabled(new),
            _ => false,
        };
        let what = || format!("a resource was released without a cause: {cause} at {at}");
        if rightly { Ok(()) } else { wrong(what(), &[uid(new)]) }
    }

    /// Since when something is over by its own account, which is not in the future.
    fn over_since(&self, new: &Value) -> Result<Timestamp, super::Wrong> {
        let Some(at) = time(new, "/status/releasedAt") else {
            return wrong("it is over, and does not say since when", &[uid(new)]).map(|()| Timestamp::MIN);
        };
        if at > self.at {
            wrong(format!("it was released before its time: it says at {at}, and that is to come"), &[uid(new)])?;
        }
        Ok(at)
    }

    /// The ends that a lease can have: what it wishes, what its Blueprint allows, what its resource has.
    fn ends(&self, lease: &Value) -> Vec<Timestamp> {
        let resource = self.resource_of(bound_to(lease));
        let specs = || resource.into_iter().flat_map(|r| self.specs(owner(r)));
        let active = |ttl| after(lease, "/status/activatedAt", ttl);
        let mut ends = Vec::new();
        ends.extend(resource.and_then(|r| time(r, "/status/expiresAt")));
        ends.extend(specs().filter_map(|spec| active(length(spec, "/lease/maxTTL"))));
        let own = [active(length(lease, "/spec/ttl")), time(lease, "/spec/expiresAt")];
        if !lease["status"]["wish"].is_null() {
            ends.extend(time(lease, "/status/wish/at"));
        } else if own == [None, None] {
            ends.extend(specs().filter_map(|spec| active(length(spec, "/lease/defaultTTL"))));
        } else {
            ends.extend(own.into_iter().flatten());
        }
        ends
    }

    /// The limit was lowered below what there is, as somebody may see it: with others that have ended since.
    fn too_many(&self, resource: &Value) -> bool {
        let (of, recent) = (owner(resource), self.at - STALE);
        // One that had never been built goes in one write: it counts, as it did a moment ago.
        let counts = |r: &&Value| owner(r) == of && (phase(r) != "Destroyed" || uid(r) == uid(resource));
        let live = self.of(Kind::Resource).values().filter(counts).count();
        let ended = self.ended_resources.iter().filter(|(at, owner)| *at > recent && owner == of).count();
        let seen = i64::try_from(live + ended).unwrap_or(i64::MAX);
        let lowest = self.specs(of).map(|spec| number(spec, "/limits/maxResources", i64::MAX)).min();
        lowest.is_some_and(|lowest| seen > lowest)
    }

    fn was_disabled(&self, resource: &Value) -> bool {
        let slot = text(resource, "/metadata/name").split_once("--").map_or("", |(_, slot)| slot);
        let disabled = |host: &Value| host["name"] == slot && host["disabled"] == true;
        self.specs(owner(resource)).any(|spec| list(spec, "/driver/hosts/inventory").iter().any(disabled))
    }
}

fn after(object: &Value, from: &str, length: Option<jiff::SignedDuration>) -> Option<Timestamp> {
    Some(time(object, from)? + length?)
}

/// A command that ends it has newly been applied.
fn by_command(old: &Value, new: &Value) -> bool {
    let known = |entry: &Value| list(old, "/status/commands").iter().any(|one| one["id"] == entry["id"]);
    list(new, "/status/commands").iter().any(|entry| ends_it(entry) && !known(entry))
}
