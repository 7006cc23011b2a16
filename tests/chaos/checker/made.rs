//! What the driver `objects` makes: once for each key, while its owner is between build and teardown, and gone when its owner
//! is Destroyed.
//!
//! Nothing is made before what it is made for is on record.
//!
//! A request that was under way when its controller was stopped may arrive late. What it makes must go again, by whoever made
//! it (protocol.md, D1); so this is counted, and must be gone at rest.

use super::{
    Checker, Kind, Verdict,
    commands::forgotten_rightly,
    values::{attempt, bound_to, claims, deadline, is_deleting, is_over, is_returning, list, phase, text, uid},
    wrong,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of what was made.
#[derive(Default)]
pub struct Made {
    /// Where, and for whom.
    keys: BTreeSet<Key>,
    /// What came late, by UID.
    late: BTreeMap<String, Key>,
    /// How often something came late.
    pub lates: usize,
}

/// Kind, namespace, name, owner, attempt.
type Key = [String; 5];

fn key(object: &Value) -> Key {
    let place = ["/kind", "/metadata/namespace", "/metadata/name"].map(|at| text(object, at).to_owned());
    let [kind, namespace, name] = place;
    [kind, namespace, name, label(object, "owner").to_owned(), label(object, "attempt").to_owned()]
}

fn label<'o>(object: &'o Value, name: &str) -> &'o str {
    text(object, &format!("/metadata/labels/drydock.dev~1{name}"))
}

/// Whether an owner has put an object on record.
fn has_on_record(owner: &Value, object: &Value) -> bool {
    list(owner, "/status/built/objects")
        .iter()
        .any(|made| made["kind"] == object["kind"] && made["name"] == object["metadata"]["name"])
}

impl Checker {
    /// How often something was made late, and removed again or yet to be.
    pub fn lates(&self) -> usize {
        self.made.lates
    }

    pub(super) fn is_made(&mut self, old: Option<&Value>, new: &Value) -> Verdict {
        match old {
            None => self.is_new(new),
            Some(old) if is_deleting(new) && !is_deleting(old) => self.taken_away(new),
            Some(_) => Ok(()),
        }
    }

    fn is_new(&mut self, new: &Value) -> Verdict {
        let key = key(new);
        let ids = [uid(new), label(new, "owner")];
        if self.is_too_early(new) {
            return wrong(format!("{key:?} was made before it was on record"), &ids);
        }
        if !self.is_wanted(new) {
            self.made.lates += 1;
            self.made.late.insert(uid(new).to_owned(), key);
            return Ok(());
        }
        if !self.made.keys.insert(key.clone()) {
            return wrong(format!("{key:?} was made twice under one key"), &ids);
        }
        Ok(())
    }

    /// Its owner has not come so far, or has not put it on record. What was on record once, and is for nobody any more, is late.
    fn is_too_early(&self, object: &Value) -> bool {
        let owner = label(object, "owner");
        if let Some(resource) = self.resource_of(owner) {
            return phase(resource) == "Pending" && !has_on_record(resource, object);
        }
        self.lease_of(owner).is_some_and(|lease| {
            let made_for = label(object, "attempt").parse::<i64>().unwrap_or(0);
            match phase(lease) {
                "Pending" => made_for >= attempt(lease),
                "Acquired" => {
                    let here = made_for == attempt(lease) && label(object, "resource") == bound_to(lease);
                    made_for > attempt(lease) || (here && !is_returning(lease) && !has_on_record(lease, object))
                }
                _ => made_for > attempt(lease),
            }
        })
    }

    /// Its owner has it on record, and is being built or activated.
    fn is_wanted(&self, object: &Value) -> bool {
        let owner = label(object, "owner");
        if let Some(resource) = self.resource_of(owner) {
            return phase(resource) == "Pending" && has_on_record(resource, object);
        }
        self.lease_of(owner).is_some_and(|lease| {
            phase(lease) == "Acquired"
                && !is_returning(lease)
                && label(object, "attempt") == attempt(lease).to_string()
                && label(object, "resource") == bound_to(lease)
                && has_on_record(lease, object)
        })
    }

    pub(super) fn made_gone(&mut self, last: &Value) -> Verdict {
        let late = self.made.late.remove(uid(last)).is_some();
        if late || is_deleting(last) { Ok(()) } else { self.taken_away(last) }
    }

    /// Nothing is taken away that somebody has.
    fn taken_away(&self, object: &Value) -> Verdict {
        let owner = label(object, "owner");
        if self.made.late.contains_key(uid(object)) || self.is_given_up(object) {
            return Ok(());
        }
        wrong(format!("{:?} was taken away from who has it", key(object)), &[uid(object), owner])
    }

    fn is_given_up(&self, object: &Value) -> bool {
        let owner = label(object, "owner");
        if let Some(resource) = self.resource_of(owner) {
            return is_over(resource) && claims(resource).is_empty();
        }
        self.lease_of(owner).is_none_or(|lease| match phase(lease) {
            "Acquired" => is_returning(lease) || label(object, "attempt") != attempt(lease).to_string(),
            "Active" => false,
            "Released" => deadline(lease, "Hold").is_none(),
            _ => true,
        })
    }

    /// What there is in the world for an owner.
    fn there<'c>(&'c self, owner: &'c str) -> impl Iterator<Item = &'c Value> {
        self.of(Kind::Made).values().filter(move |object| label(object, "owner") == owner)
    }

    /// All that an owner has on record is there, under the UIDs on record.
    pub(super) fn all_there(&self, owner: &Value) -> Verdict {
        let there = |made: &&Value| self.of(Kind::Made).contains_key(text(made, "/uid"));
        match list(owner, "/status/built/objects").iter().find(|made| !there(made)) {
            Some(lost) => wrong(format!("it is Active, and {lost} is not there"), &[uid(owner)]),
            None => Ok(()),
        }
    }

    /// Nothing of an owner is there but what came late.
    pub(super) fn nothing_left(&self, old: &Value, owner: &Value) -> Verdict {
        if super::values::reason(owner, "TornDown") == "Forgotten" {
            return forgotten_rightly(old, owner);
        }
        match self.there(uid(owner)).find(|object| !self.made.late.contains_key(uid(object))) {
            Some(left) => wrong(format!("it is Destroyed, and {:?} is left", key(left)), &[uid(owner), uid(left)]),
            None => Ok(()),
        }
    }
}
