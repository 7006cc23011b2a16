//! What must hold when the faults are over and everything was left alone for a while.

use super::{
    Checker, Kind, Verdict,
    values::{bound_to, claims, is_deleting, length, list, number, owner, phase, reason, text, time, uid, unconsumed},
    wrong,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// How late a deadline may be honoured on a busy machine.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// What is to be at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Leases are served, or wait and say truly why.
    Settled,
    /// Nothing is left.
    Gone,
}

impl Checker {
    /// Whether all is at rest.
    pub fn rests(&self, rest: Rest, now: Timestamp) -> Verdict {
        match rest {
            Rest::Settled => self.is_settled(now),
            Rest::Gone => self.all_gone(),
        }
    }

    fn all_gone(&self) -> Verdict {
        match self.now.values().flat_map(|objects| objects.values()).next() {
            Some(left) => wrong(format!("{} is left", text(left, "/metadata/name")), &[uid(left)]),
            None => Ok(()),
        }
    }

    fn is_settled(&self, now: Timestamp) -> Verdict {
        for object in self.of(Kind::Lease).values().chain(self.of(Kind::Resource).values()) {
            up_to_date(object, now)?;
        }
        for lease in self.of(Kind::Lease).values() {
            match phase(lease) {
                "Pending" => self.waits_rightly(lease)?,
                "Active" | "Destroyed" => {}
                other => wrong(format!("a lease rests in {other}"), &[uid(lease)])?,
            }
        }
        for resource in self.of(Kind::Resource).values() {
            self.is_in_use_or_idle(resource)?;
        }
        for object in self.of(Kind::Made).values() {
            let owner = text(object, "/metadata/labels/drydock.dev~1owner");
            if self.resource_of(owner).is_none() && self.lease_of(owner).is_none() {
                wrong("something was made for who is gone", &[uid(object), owner])?;
            }
        }
        Ok(())
    }

    fn is_in_use_or_idle(&self, resource: &Value) -> Verdict {
        let id = uid(resource);
        if phase(resource) != "Active" {
            return wrong(format!("a resource rests in {}", phase(resource)), &[id]);
        }
        let holds = |lease: &Value| phase(lease) == "Active" && bound_to(lease) == id;
        match claims(resource).into_iter().find(|(lease, _)| !self.lease_of(lease).is_some_and(holds)) {
            Some((lease, _)) => wrong("a claim is left that no lease holds", &[id, lease]),
            None => Ok(()),
        }
    }

    /// A lease that waits is right to: there is no room, and it says so.
    fn waits_rightly(&self, lease: &Value) -> Verdict {
        let mut truth = "NoMatchingBlueprint";
        let wanted = text(lease, "/spec/resourceType");
        for blueprint in self.of(Kind::Blueprint).values().filter(|b| text(b, "/spec/resourceType") == wanted) {
            truth = "AtCapacity";
            if let Some(room) = self.room(blueprint) {
                wrong(format!("a lease waits, and there is room {room}"), &[uid(lease), uid(blueprint)])?;
            }
        }
        match reason(lease, "Acquired") {
            says if says == truth => Ok(()),
            says => wrong(format!("a lease waits because of {truth}, and says {says:?}"), &[uid(lease)]),
        }
    }

    fn room(&self, blueprint: &Value) -> Option<String> {
        let spec = &blueprint["spec"];
        let mine = || self.of(Kind::Resource).values().filter(|r| owner(r) == uid(blueprint));
        let places = number(spec, "/limits/leasesPerResource", 1);
        // A resource that was leased before the limit was raised keeps its capacity.
        let places = |r: &Value| places.min(number(r, "/status/capacity", places));
        let free = |r: &&Value| (claims(r).len() as i64) < places(r) && r["status"]["served"] != true;
        if let Some(free) = mine().filter(|r| phase(r) == "Active").find(free) {
            return Some(format!("on {}", text(free, "/metadata/name")));
        }
        let hosts = list(spec, "/driver/hosts/inventory").iter().filter(|host| host["disabled"] != true).count() as i64;
        let most = number(spec, "/limits/maxResources", hosts);
        (mine().count() as i64).lt(&most).then(|| "for one more".to_owned())
    }
}

/// Every command is consumed, every deadline honoured, every deletion carried out.
fn up_to_date(object: &Value, now: Timestamp) -> Verdict {
    let id = uid(object);
    if let Some(left) = unconsumed(object).next() {
        return wrong(format!("{} is not consumed", left["id"]), &[id]);
    }
    let passed = |one: &&Value| time(one, "/at").is_some_and(|at| now.duration_since(at) > LATE);
    if let Some(deadline) = list(object, "/status/deadlines").iter().find(passed) {
        return wrong(format!("a deadline has passed: {deadline}, and it is {now}"), &[id]);
    }
    let ttl = length(object, "/spec/ttl").filter(|_| phase(object) == "Active");
    if ttl.is_some() && object["status"]["wish"].is_null() && list(object, "/status/deadlines").is_empty() {
        return wrong("an Active lease with a ttl has no deadline", &[id]);
    }
    if is_deleting(object) {
        return wrong("it is deleted, and still there", &[id]);
    }
    Ok(())
}
