//! Resources: slots and limits, grants, and what a claim promises.

use super::{
    Checker, Kind, STALE, Verdict,
    values::{attempt, bound_to, claims, is_deleting, is_held, is_over, list, number, owner, phase, reason, text, uid},
    wrong,
};
use serde_json::Value;

/// The arrows of api.md, 2, and those that may be gone along in one write.
fn can_become(before: &str, after: &str) -> bool {
    match before {
        "Pending" => true,
        "Active" => after != "Pending",
        "Released" => matches!(after, "Released" | "Destroyed"),
        "Broken" => matches!(after, "Broken" | "Destroyed"),
        _ => false,
    }
}

/// Whether something may have been made for a resource.
fn is_begun(resource: &Value) -> bool {
    phase(resource) != "Pending" || !resource["status"]["built"].is_null()
}

/// How many resources a version of a Blueprint allows.
fn most(spec: &Value) -> i64 {
    let hosts = spec.pointer("/driver/hosts/inventory").and_then(Value::as_array).map(|hosts| hosts.len() as i64);
    hosts.unwrap_or_else(|| number(spec, "/limits/maxResources", 0))
}

impl Checker {
    pub(super) fn resource(&mut self, old: Option<&Value>, new: &Value) -> Verdict {
        let id = uid(new);
        let Some(old) = old else { return self.created(new) };
        let unbuilt = !is_begun(old) && self.drained.contains(owner(old));
        if is_held(old) && !is_held(new) && phase(old) != "Destroyed" && !unbuilt {
            return wrong("R8: the finalizer of a resource was taken off before it was Destroyed", &[id]);
        }
        if old["status"] == new["status"] {
            return Ok(());
        }
        if phase(old) == "Destroyed" {
            return wrong("the status of a Destroyed resource was written", &[id]);
        }
        if !can_become(phase(old), phase(new)) {
            return wrong(format!("a resource went from {} to {}", phase(old), phase(new)), &[id]);
        }
        for claim in claims(old).into_iter().filter(|claim| !claims(new).contains(claim)) {
            self.dropped(new, claim)?;
        }
        for claim in claims(new).into_iter().filter(|claim| !claims(old).contains(claim)) {
            self.grants(new, claim)?;
        }
        self.effects_of_resource(old, new)?;
        self.ledger_of(old, new)?;
        self.cause_of_resource(old, new)?;
        if phase(new) == "Destroyed" {
            let recent = self.at - STALE;
            self.ended_resources.retain(|(at, _)| *at > recent);
            self.ended_resources.push((self.at, owner(new).to_owned()));
        }
        Ok(())
    }

    /// One for each slot, by its name, and never more than the highest limit that somebody may act on.
    fn created(&self, new: &Value) -> Verdict {
        let (id, blueprint) = (uid(new), owner(new));
        if !self.blueprints.contains_key(blueprint) {
            return wrong("B1: a resource was made for a Blueprint that never was", &[id]);
        }
        if !is_held(new) {
            return wrong(format!("a resource was made without the finalizer: {new}"), &[id]);
        }
        let name = text(new, "/metadata/name").split_once("--").map_or("", |(blueprint, _)| blueprint);
        if name != text(new, "/spec/blueprintRef/name") {
            return wrong("a resource's name is not that of a slot of its Blueprint", &[id]);
        }
        let live = self.of(Kind::Resource).values().filter(|r| owner(r) == blueprint && phase(r) != "Destroyed");
        let (live, limit) = (live.count() as i64, self.specs(blueprint).map(most).max().unwrap_or(0));
        if live > limit {
            return wrong(format!("{live} live resources, and the limit was never above {limit}"), &[id, blueprint]);
        }
        Ok(())
    }

    /// R3: room, and Active (that every command is consumed is Q1); and recycle Destroy serves once.
    fn grants(&mut self, new: &Value, (lease, _): (&str, i64)) -> Verdict {
        let ids = [uid(new), lease];
        if phase(new) != "Active" || is_deleting(new) {
            return wrong("R3: granted by a resource that is not Active, or deleted", &ids);
        }
        if !self.leases.contains(lease) {
            return wrong("G3: a claim that no lease has by its UID", &ids);
        }
        let twice = claims(new).iter().filter(|(uid, _)| *uid == lease).count() > 1;
        let places = |spec: &Value| number(spec, "/limits/leasesPerResource", 1);
        let room = self.specs(owner(new)).map(places).max().unwrap_or(1);
        if twice || claims(new).len() as i64 > room {
            return wrong(format!("one slot, {} claims, room for {room}", claims(new).len()), &ids);
        }
        let once = self.specs(owner(new)).any(|spec| text(spec, "/lease/recycle") == "Destroy");
        let granted = self.granted.entry(uid(new).to_owned()).or_default();
        granted.insert(lease.to_owned());
        if once && granted.len() > 1 {
            return wrong("R5: a resource that serves once was granted twice", &ids);
        }
        self.note_overtaken(new, lease);
        Ok(())
    }

    /// R4: a claim is a promise that only the lease can end.
    fn dropped(&self, new: &Value, (lease, claimed): (&str, i64)) -> Verdict {
        let id = uid(new);
        let Some(found) = self.lease_of(lease) else { return Ok(()) }; // it has gone by way of Destroyed
        let elsewhere = !bound_to(found).is_empty() && bound_to(found) != id && attempt(found) >= claimed;
        if phase(found) == "Destroyed" || attempt(found) > claimed || elsewhere {
            return Ok(());
        }
        wrong("R4: a claim was dropped whose lease has not ended it", &[id, lease])
    }

    /// R8 and `built`: Active with all that is on record, Destroyed with nothing left.
    fn effects_of_resource(&self, old: &Value, new: &Value) -> Verdict {
        let id = uid(new);
        let with_effects = !list(new, "/status/built/objects").is_empty();
        if phase(new) == "Active" && phase(old) == "Pending" && with_effects {
            if old["status"]["built"].is_null() {
                return wrong("a resource is Active, and what was to be built was not on record", &[id]);
            }
            self.all_there(new)?;
        }
        if phase(new) != "Destroyed" {
            return Ok(());
        }
        if !claims(new).is_empty() {
            return wrong("R8: a resource is Destroyed that is claimed", &[id]);
        }
        if with_effects && (!is_over(old) || !claims(old).is_empty()) {
            return wrong("R8: a resource is Destroyed whose end, without claims, was not on record", &[id]);
        }
        self.nothing_left(old, new)
    }

    pub(super) fn resource_gone(&mut self, last: &Value) -> Verdict {
        let id = uid(last);
        let unbuilt = !is_begun(last) && self.drained.contains(owner(last));
        if phase(last) != "Destroyed" && !unbuilt {
            return wrong(format!("R8: a resource is gone that was not Destroyed: {last}"), &[id]);
        }
        let holds = |lease: &&Value| !matches!(phase(lease), "Pending" | "Destroyed") && bound_to(lease) == id;
        match self.of(Kind::Lease).values().find(holds) {
            Some(lease) if reason(last, "TornDown") != "Forgotten" => {
                wrong("a resource is gone that a lease holds", &[id, uid(lease)])
            }
            _ => Ok(()),
        }
    }
}
