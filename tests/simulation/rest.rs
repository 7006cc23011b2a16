//! Liveness: when the faults have stopped and everybody has left, the system comes to rest. Every lease is served, or says
//! truly why not; every deadline that has passed is honoured; everything that is released is destroyed; nothing is left in
//! the world that nobody holds; and then nothing is written any more.

use crate::{
    checks::{Checks, Now, Verdict, Wrong, wrong},
    journal::What,
    server::Server,
};
use drydock::{
    api::{Blueprint, Claim, Lease, LeasePhase, MicroTime, Resource, ResourcePhase, blueprint::Recycle, slot_name},
    lifecycle::{
        commands, conditions, is_deleting,
        matching::{self, Admission, SharedNamespaces},
        uid,
    },
};
use jiff::SignedDuration;
use std::time::Duration;

/// So long nothing may be written for the system to be silent.
const SILENCE: Duration = Duration::from_secs(40 * 60);

/// By then it must be: many leases may have to take their turns.
pub const PATIENCE: Duration = Duration::from_secs(48 * 3600);

/// How late a deadline may be honoured.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// Waits until the system is silent, and looks at what it has come to.
pub async fn comes_to_rest(server: &Server, checks: &mut Checks, patience: Duration) -> Option<Wrong> {
    let began = server.clocks.elapsed();
    let (mut newest, mut since) = (server.newest(), began);
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        if let Some(wrong) = checks.catch_up() {
            return Some(wrong);
        }
        let now = server.clocks.elapsed();
        // By then every watch has begun anew, and the queue is in order.
        checks.now.fair |= now - began > Duration::from_secs(600);
        if server.newest() != newest {
            (newest, since) = (server.newest(), now);
        }
        if now - since > SILENCE {
            break;
        }
        if now - began > patience {
            return Some(restless(server, now));
        }
    }
    let wall = server.clocks.wall();
    at_rest(&checks.now, wall.into()).err()
}

/// What is still being written.
fn restless(server: &Server, now: Duration) -> Wrong {
    let journal = server.journal.all();
    let recent = journal.iter().filter(|entry| now - entry.at < Duration::from_secs(600));
    let uid = |entry: &crate::journal::Entry| match &entry.what {
        What::Wrote(version) => version.object["metadata"]["uid"].as_str().map(str::to_owned),
        _ => None,
    };
    let uids: std::collections::BTreeSet<_> = recent.filter_map(uid).collect();
    Wrong { what: "the system does not come to rest".into(), uids: uids.into_iter().take(3).collect() }
}

fn at_rest(now: &Now, wall: MicroTime) -> Verdict {
    for lease in now.leases.values() {
        lease_at_rest(now, lease, wall)?;
    }
    for resource in now.resources.values() {
        resource_at_rest(now, resource, wall)?;
    }
    for blueprint in now.blueprints.values().filter(|b| is_deleting(&b.metadata)) {
        let id = uid(&blueprint.metadata);
        if !now.resources.values().any(|r| r.spec.blueprint_ref.uid == id) {
            return wrong("a Blueprint is deleted, has nothing left, and does not go", &[id]);
        }
    }
    for key in now.there.iter().filter(|key| !now.is_lost(key)) {
        let held = match &key.lease {
            None => now.resources.contains_key(&key.resource),
            Some((lease, _)) => now.leases.get(lease).is_some_and(|l| l.phase() == LeasePhase::Active),
        };
        if !held {
            return wrong(format!("{key:?} is left in the world"), &[&key.resource]);
        }
    }
    Ok(())
}

fn lease_at_rest(now: &Now, lease: &Lease, wall: MicroTime) -> Verdict {
    let id = uid(&lease.metadata);
    let Some(status) = &lease.status else { return wrong("a lease has no status", &[id]) };
    if commands::unconsumed(&lease.spec.commands, &status.commands).next().is_some() {
        return wrong("a command of a lease is not consumed", &[id]);
    }
    let passed = |at: MicroTime| wall.timestamp().duration_since(at.timestamp()) > LATE;
    if let Some(deadline) = status.deadlines.iter().find(|d| passed(d.at)) {
        return wrong(format!("a deadline of a lease has passed: {deadline:?}, and it is {wall}"), &[id]);
    }
    match lease.phase() {
        LeasePhase::Pending => served_or_says_why(now, lease, wall),
        LeasePhase::Active => holds_what_is_there(now, lease),
        LeasePhase::Destroyed => Ok(()),
        phase => wrong(format!("a lease rests in {phase:?}"), &[id]),
    }
}

/// G3: by UID, for a namesake is another.
fn holds_what_is_there(now: &Now, lease: &Lease) -> Verdict {
    let id = uid(&lease.metadata);
    let resource = lease.resource_ref().and_then(|reference| now.resources.get(&reference.uid));
    let holds = resource.is_some_and(|resource| {
        resource.phase() == ResourcePhase::Active && resource.claims().iter().any(|claim| claim.uid == id)
    });
    if holds { Ok(()) } else { wrong("a lease is Active, and what it holds is gone", &[id]) }
}

fn resource_at_rest(now: &Now, resource: &Resource, wall: MicroTime) -> Verdict {
    let id = uid(&resource.metadata);
    if resource.phase() != ResourcePhase::Active {
        return wrong(format!("a resource rests in {:?}", resource.phase()), &[id]);
    }
    let status = resource.status.as_ref().unwrap();
    if commands::unconsumed(&resource.spec.commands, &status.commands).next().is_some() {
        return wrong("a command of a resource is not consumed", &[id]);
    }
    let passed = |at: MicroTime| wall.timestamp().duration_since(at.timestamp()) > LATE;
    if let Some(deadline) = status.deadlines.iter().find(|d| passed(d.at)) {
        return wrong(format!("a deadline of a resource has passed: {deadline:?}, and it is {wall}"), &[id]);
    }
    let held = |claim: &Claim| {
        now.leases.get(&claim.uid).is_some_and(|lease| {
            lease.phase() == LeasePhase::Active && lease.resource_ref().is_some_and(|r| r.uid == id)
        })
    };
    if let Some(claim) = status.claims.iter().find(|claim| !held(claim)) {
        return wrong("a claim is left that no lease holds", &[id, &claim.uid]);
    }
    let blueprint = now.blueprints.get(&resource.spec.blueprint_ref.uid);
    if status.claims.is_empty() && blueprint.is_none_or(|b| is_deleting(&b.metadata)) {
        return wrong("a resource is idle, and its Blueprint is deleted", &[id]);
    }
    Ok(())
}

/// A lease that waits is right to: nothing that fits has room, nothing more may be built; and it says so.
fn served_or_says_why(now: &Now, lease: &Lease, wall: MicroTime) -> Verdict {
    let id = uid(&lease.metadata);
    let shared = SharedNamespaces::new(&["shared".into()]);
    let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
    let candidates = now.blueprints.values().filter(|b| matching::is_candidate(lease, b, &shared));
    let (mut any, mut admitted, mut open) = (false, false, false);
    for blueprint in candidates {
        any = true;
        if matching::admission(blueprint, namespace, None) != Admission::Admitted {
            continue;
        }
        admitted = true;
        if is_deleting(&blueprint.metadata) {
            continue;
        }
        open = true;
        if let Some(room) = room(now, lease, blueprint, wall) {
            return wrong(format!("a lease waits, and could be served: {room}"), &[id, uid(&blueprint.metadata)]);
        }
    }
    let conditions = &lease.status.as_ref().unwrap().conditions;
    let says = conditions::reason(conditions, "Acquired");
    let truth: &[&str] = match (any, admitted, open) {
        (false, ..) => &["NoMatchingBlueprint"],
        (_, false, _) => &["NotAuthorized"],
        (.., false) => &["Draining"],
        _ => &["AtCapacity", "NoHostEnabled", "NoMatchingBlueprint"],
    };
    if !truth.contains(&says) {
        return wrong(format!("a lease says that it waits because of {says}, and it is one of {truth:?}"), &[id]);
    }
    Ok(())
}

/// Where a Blueprint has room for a lease.
fn room(now: &Now, lease: &Lease, blueprint: &Blueprint, wall: MicroTime) -> Option<String> {
    let (id, name) = (uid(&blueprint.metadata), blueprint.metadata.name.as_deref()?);
    let mine = || now.resources.values().filter(|r| r.spec.blueprint_ref.uid == id);
    let hosts = blueprint.spec.driver.hosts.as_ref().map(|hosts| &hosts.inventory);
    let enabled = |slot: &str| hosts.is_none_or(|h| h.iter().any(|h| h.name == slot && h.disabled != Some(true)));
    let free = mine().find(|resource| {
        let status = resource.status.as_ref();
        let claims = resource.claims().len() as i64;
        let used_up = status.is_some_and(|s| s.served) && blueprint.spec.lease.recycle == Recycle::Destroy;
        resource.phase() == ResourcePhase::Active
            && matching::fits(&lease.spec, resource, &blueprint.spec.resource, wall)
            && claims < blueprint.spec.limits.leases_per_resource
            && !used_up
            && resource.slot().is_some_and(enabled)
            // One that drains because its entry was changed.
            && (hosts.is_none() || claims == 0)
    });
    if let Some(free) = free {
        return Some(format!("by {:?}", free.metadata.name));
    }
    if blueprint.spec.limits.max_resources.is_some_and(|limit| mine().count() as i64 >= limit) {
        return None;
    }
    let taken = |slot: &str| {
        let wanted = slot_name(name, slot);
        now.resources.values().any(|r| {
            r.metadata.name.as_deref() == Some(&wanted) && r.metadata.namespace == blueprint.metadata.namespace
        })
    };
    let slots: Vec<String> = match hosts {
        Some(hosts) => hosts.iter().map(|host| host.name.clone()).filter(|slot| enabled(slot)).collect(),
        None => (0..blueprint.spec.limits.max_resources?).map(|n| n.to_string()).collect(),
    };
    slots.iter().find(|slot| !taken(slot)).map(|slot| format!("in the vacant slot {slot}"))
}
