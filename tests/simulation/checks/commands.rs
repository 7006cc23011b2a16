//! Commands: Q1 to Q3. A command takes effect once, in one write with its record, and that never changes.

use super::{Now, Verdict, causes, wrong};
use drydock::{
    api::{Command, CommandType, Condition, Lease, LeasePhase, LedgerEntry, Outcome, Resource, ResourcePhase, Wish},
    lifecycle::{commands, conditions, uid},
};
use serde::Serialize;
use serde_json::Value;

impl Now {
    pub(super) fn ledger_of_lease(&mut self, old: &Lease, new: &Lease) -> Verdict {
        let id = uid(&new.metadata);
        let ledger = |lease: &Lease| lease.status.as_ref().map(|s| s.commands.clone()).unwrap_or_default();
        let fresh = self.ledger(id, &new.spec.commands, &ledger(old), &ledger(new))?;
        let over =
            |lease: &Lease| matches!(lease.phase(), LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed);
        // Whatever the record says came of it: nothing that lives may keep from being released.
        if consumed(&fresh, CommandType::Release) && !over(new) {
            return wrong("a Release is consumed, and the lease is not released", &[id]);
        }
        let wish = |lease: &Lease| lease.status.as_ref().and_then(|s| s.wish);
        let seen = |lease: &Lease| lease.status.as_ref().and_then(|s| s.expiry_seen);
        let edited = seen(old) != seen(new);
        wishes(id, &new.spec.commands, &fresh, edited, wish(old), wish(new))
    }

    pub(super) fn ledger_of_resource(&mut self, old: &Resource, new: &Resource) -> Verdict {
        let id = uid(&new.metadata);
        let ledger = |r: &Resource| r.status.as_ref().map(|s| s.commands.clone()).unwrap_or_default();
        let fresh = self.ledger(id, &new.spec.commands, &ledger(old), &ledger(new))?;
        let live = matches!(new.phase(), ResourcePhase::Pending | ResourcePhase::Active);
        if live && (consumed(&fresh, CommandType::Release) || applied(&fresh, CommandType::Reclaim)) {
            return wrong("a Release is consumed, or a Reclaim Applied, and the resource is not released", &[id]);
        }
        let wish = |r: &Resource| r.status.as_ref().and_then(|s| s.wish);
        let seen = |r: &Resource| r.status.as_ref().and_then(|s| s.expiry_seen);
        let edited = seen(old) != seen(new);
        match self.hooks_took_effect(old, new)? {
            // What comes with a grant, or the end of one, comes after the commands; what is over has no end to be moved.
            Some(moved) if live && wish(new) != Some(moved) => {
                return wrong(format!("a hook moved the end to {moved:?}, and it is {:?}", wish(new)), &[id]);
            }
            Some(moved) if wish(new) == Some(moved) => return Ok(()),
            _ => {}
        }
        wishes(id, &new.spec.commands, &fresh, edited, wish(old), wish(new))
    }

    /// Checks the ledger of a version, and gives what is new in it.
    fn ledger(
        &mut self,
        id: &str,
        queue: &[Command],
        old: &[LedgerEntry],
        new: &[LedgerEntry],
    ) -> Result<Vec<LedgerEntry>, super::Wrong> {
        if let Some(left) = commands::unconsumed(queue, new).next() {
            wrong(format!("Q1: a status was written, and the command {} is not consumed", left.id), &[id])?;
        }
        for entry in new {
            let first = self.ledger.entry((id.to_owned(), entry.id.clone())).or_insert_with(|| entry.clone());
            if first != entry {
                let what =
                    format!("the command {} was consumed twice, or its entry changed: {first:?}, {entry:?}", entry.id);
                wrong(what, &[id])?;
            }
        }
        let fresh = new.iter().filter(|entry| !old.iter().any(|before| before.id == entry.id));
        Ok(fresh.cloned().collect())
    }
}

/// Whether a spec is as it was, but for consumed commands that are not in the queue any more.
pub(super) fn is_pruned<Spec: Serialize, Status: Serialize>(old: &Spec, new: &Spec, status: &Option<Status>) -> bool {
    let value = |spec: &Spec| serde_json::to_value(spec).unwrap();
    let (mut old, new, status) = (value(old), value(new), serde_json::to_value(status).unwrap());
    let list = |of: &Value| of["commands"].as_array().cloned().unwrap_or_default();
    let (kept, ledger) = (list(&new), list(&status));
    if let Some(queue) = old["commands"].as_array_mut() {
        queue.retain(|command| kept.contains(command) || !ledger.iter().any(|entry| entry["id"] == command["id"]));
    }
    old == new
}

/// What is written off is written off because somebody has asked for it in this very write, and its teardown had failed.
pub(super) fn forgotten_rightly(
    id: &str,
    conditions: [&[Condition]; 2],
    before: Option<&[LedgerEntry]>,
    after: &[LedgerEntry],
) -> Verdict {
    let [old, new] = conditions;
    if conditions::reason(new, "TornDown") != "Forgotten" {
        return Ok(());
    }
    if !causes::newly_applied(before, after, &[CommandType::Forget]) {
        return wrong("written off, and nobody has asked for it", &[id]);
    }
    let failed = ["TeardownFailed", "TeardownTimeout", "CredentialsGone"];
    if !failed.contains(&conditions::reason(old, "TornDown")) {
        return wrong("written off, and no teardown had failed", &[id]);
    }
    Ok(())
}

fn consumed(fresh: &[LedgerEntry], type_: CommandType) -> bool {
    fresh.iter().any(|entry| entry.type_ == type_)
}

fn applied(fresh: &[LedgerEntry], type_: CommandType) -> bool {
    fresh.iter().any(|entry| entry.type_ == type_ && entry.outcome == Outcome::Applied)
}

/// An `Expires` and the wish that it sets are one write: the one is not without the other.
fn wishes(
    id: &str,
    queue: &[Command],
    fresh: &[LedgerEntry],
    edited: bool,
    before: Option<Wish>,
    after: Option<Wish>,
) -> Verdict {
    let last = fresh.iter().rev().find(|e| e.type_ == CommandType::Expires && e.outcome == Outcome::Applied);
    match last {
        Some(entry) => {
            let Some(command) = queue.iter().find(|command| command.id == entry.id) else { return Ok(()) };
            let at = command.at.or(command.after.map(|after| entry.observed_at.after(after)));
            let expected = Wish { at, never: at.is_none().then_some(true) };
            if after != Some(expected) {
                return wrong(format!("{} is on record as Applied, and the end is {after:?}", entry.id), &[id]);
            }
            Ok(())
        }
        None if before != after && !edited => {
            wrong(format!("the end moved without a command or an edit, from {before:?} to {after:?}"), &[id])
        }
        None => Ok(()),
    }
}
