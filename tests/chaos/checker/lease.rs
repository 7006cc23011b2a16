//! Leases: the arrows, the attempts, and what a lease is bound to.

use super::{
    Checker, Ended, Verdict,
    values::{
        attempt, bound_to, claims, deadline, is_deleting, is_held, is_over, is_returning, list, number, phase, reason,
        text, time, uid,
    },
    wrong,
};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// The arrows of api.md, 2, and those that may be gone along in one write.
fn can_become(before: &str, after: &str) -> bool {
    match before {
        "Pending" | "Acquired" => true,
        "Active" => matches!(after, "Active" | "Released" | "Destroyed"),
        "Released" => matches!(after, "Released" | "Destroyed"),
        "Broken" => matches!(after, "Broken" | "Destroyed"),
        _ => false,
    }
}

/// Whether there is something in the world for a lease.
fn has_effects(lease: &Value) -> bool {
    !list(lease, "/status/built/objects").is_empty()
}

impl Checker {
    pub(super) fn lease(&mut self, old: Option<&Value>, new: &Value) -> Verdict {
        self.leases.insert(uid(new).to_owned());
        let Some(old) = old else { return self.is_untouched(new) };
        if is_held(old) && !is_held(new) && phase(old) != "Destroyed" {
            return wrong("L9: the finalizer of a lease was taken off before it was Destroyed", &[uid(new)]);
        }
        if old["status"] == new["status"] {
            return Ok(());
        }
        self.lease_status(old, new)
    }

    fn is_untouched(&self, new: &Value) -> Verdict {
        if new["status"].is_null() { Ok(()) } else { wrong("a lease was made with a status", &[uid(new)]) }
    }

    fn lease_status(&mut self, old: &Value, new: &Value) -> Verdict {
        let (id, before, after) = (uid(new), phase(old), phase(new));
        if before == "Destroyed" {
            return wrong("the status of a Destroyed lease was written", &[id]);
        }
        if !can_become(before, after) {
            return wrong(format!("a lease went from {before} to {after}"), &[id]);
        }
        self.attempts(old, new)?;
        self.is_bound(old, new)?;
        self.effects_of_lease(old, new)?;
        hold(self, old, new)?;
        self.ledger_of(old, new)?;
        self.cause_of_lease(old, new)?;
        self.figures_of(old, new);
        Ok(())
    }

    /// L4, L5: whoever comes back to the queue has a new attempt, and nobody else has.
    fn attempts(&self, old: &Value, new: &Value) -> Verdict {
        let id = uid(new);
        let returns = |lease: &Value| number(lease, "/status/returns", 0);
        let back = phase(old) == "Acquired" && phase(new) == "Pending";
        if back && (attempt(new) != attempt(old) + 1 || returns(new) != returns(old) + 1 || !is_returning(old)) {
            return wrong("L5: a lease came back to the queue otherwise than by a new attempt, Returning", &[id]);
        }
        if !back && (returns(new) != returns(old) || attempt(new) < attempt(old)) {
            return wrong("the attempt of a lease went back, or its returns moved", &[id]);
        }
        if !back && attempt(new) > attempt(old) && phase(old) != "Pending" {
            return wrong("L4: the attempt of a lease moved though it does not wait", &[id]);
        }
        Ok(())
    }

    /// L2: bound to one resource an attempt, which is there and claims just this attempt.
    fn is_bound(&mut self, old: &Value, new: &Value) -> Verdict {
        let (id, resource) = (uid(new), bound_to(new));
        if resource.is_empty() {
            let unbound = phase(new) == "Pending" || bound_to(old).is_empty();
            let held = matches!(phase(new), "Acquired" | "Active" | "Broken");
            return if unbound && !held { Ok(()) } else { wrong("a lease that holds a resource names none", &[id]) };
        }
        if phase(new) == "Pending" {
            return wrong("a lease that waits names a resource", &[id, resource]);
        }
        let first = self.bound.entry((id.to_owned(), attempt(new))).or_insert_with(|| resource.to_owned()).clone();
        if first != resource {
            return wrong("a lease was bound to two resources at one attempt", &[id, &first, resource]);
        }
        match self.resource_of(resource) {
            None => wrong("a lease is bound to a resource that is gone", &[id, resource]),
            Some(found) if !claims(found).contains(&(id, attempt(new))) => {
                wrong("a lease is bound to a resource that does not claim it", &[id, resource])
            }
            Some(_) => Ok(()),
        }
    }

    /// L3, L8, L9: each step with effects rests on what was on record, and Destroyed on there being nothing left.
    fn effects_of_lease(&self, old: &Value, new: &Value) -> Verdict {
        let id = uid(new);
        if phase(new) == "Active" && phase(old) != "Active" && has_effects(new) {
            if phase(old) != "Acquired" || is_returning(old) {
                return wrong("L3: a lease with effects is Active that was not Acquired on record", &[id]);
            }
            self.all_there(new)?;
        }
        if phase(new) != "Destroyed" {
            return Ok(());
        }
        // On its way back to the queue it is torn down, too: one that ends then need not be torn down once more.
        let is_torn_down = matches!(phase(old), "Released" | "Broken") || is_returning(old);
        if (has_effects(old) || has_effects(new)) && !is_torn_down {
            return wrong("L8: a lease with effects is Destroyed whose end was not on record", &[id]);
        }
        self.nothing_left(old, new)
    }

    /// Whatever a lease was, it goes by way of Destroyed.
    pub(super) fn lease_gone(&mut self, last: &Value) -> Verdict {
        let id = uid(last);
        if phase(last) != "Destroyed" && is_held(last) {
            return wrong("L9: a lease is gone that was not Destroyed", &[id]);
        }
        Ok(())
    }

    fn figures_of(&mut self, old: &Value, new: &Value) {
        if phase(new) == "Active" && self.served.insert(uid(new).to_owned()) {
            let wait = time(new, "/status/activatedAt").zip(time(new, "/metadata/creationTimestamp"));
            let wait = wait.map_or(SignedDuration::ZERO, |(then, from)| then.duration_since(from));
            if wait > self.longest_wait.0 {
                self.longest_wait = (wait, uid(new).to_owned());
            }
        }
        let ends = is_over(new) && !is_over(old) && reason(new, "Released") == "Expired";
        let told = deadline(old, "Lifetime").zip(time(new, "/status/releasedAt")).filter(|_| ends);
        if let Some((deadline, at)) = told {
            self.ended.push(Ended { lease: uid(new).to_owned(), deadline, late: at.duration_since(deadline) });
        }
    }
}

/// Q3: a hold is written with Released, and ends at its time, by a Release without hold, by deletion, or with its resource.
fn hold(now: &Checker, old: &Value, new: &Value) -> Verdict {
    let id = uid(new);
    let (before, after) = (deadline(old, "Hold"), deadline(new, "Hold"));
    if after.is_some() && before.is_none() && phase(old) != "Active" {
        return wrong("L8: a hold began that was not written with Released", &[id]);
    }
    let Some(until) = before.filter(|until| *until > now.at) else { return Ok(()) };
    let known = |id: &Value| list(old, "/status/commands").iter().any(|entry| entry["id"] == *id);
    let asked = list(new, "/spec/commands")
        .iter()
        .any(|c| c["type"] == json!("Release") && c["hold"].is_null() && !known(&c["id"]));
    let lost = now.resource_of(bound_to(old)).is_none_or(is_over);
    let shorter = after.is_none_or(|after| after < until);
    if shorter && !asked && !lost && !is_deleting(new) {
        return wrong(format!("Q3: a hold until {until} ended at {}", text(new, "/status/destroyedAt")), &[id]);
    }
    Ok(())
}
