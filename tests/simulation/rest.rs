//! Liveness: when the faults have stopped and everybody has left, the system comes to rest. Every lease is served, or says
//! truly why not; every deadline that has passed is honoured; everything that is released is destroyed; nothing is left in
//! the world that nobody holds; and then nothing is written any more.

use crate::{
    actors::People,
    checks::{Checks, Now, Verdict, Wrong, wrong},
    due, habits,
    journal::What,
    ladder,
    server::Server,
};
use drydock::{
    api::{Blueprint, Claim, Lease, LeasePhase, MicroTime, Resource, ResourcePhase, step::EffectKey},
    lifecycle::{commands, has_finalizer, is_deleting, uid},
};
use jiff::SignedDuration;
use kube::api::ObjectMeta;
use std::time::Duration;

/// So long nothing may be written for the system to be silent; and longer where a clock was so far ahead that what was put
/// off by it is due only then.
const SILENCE: Duration = Duration::from_secs(40 * 60);

/// By then it must be: many leases may have to take their turns.
pub const PATIENCE: Duration = Duration::from_secs(48 * 3600);

/// How late a deadline may be honoured.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// Whether what was due at an instant is overdue by now.
pub fn has_passed(at: MicroTime, wall: MicroTime) -> bool {
    wall.timestamp().duration_since(at.timestamp()) > LATE
}

/// How many come when all is at rest.
const NEWCOMERS: usize = 12;

/// When all is at rest some more come, one after the other: they are served as if nothing had ever gone wrong, and the system
/// comes to rest again.
pub async fn serves_newcomers(server: &Server, checks: &mut Checks, people: &mut People) -> Option<Wrong> {
    for _ in 0..NEWCOMERS {
        people.make_lease(&server.clocks);
        tokio::time::sleep(people.pause() * 2).await;
        if let Some(wrong) = checks.catch_up() {
            return Some(wrong);
        }
    }
    comes_to_rest(server, checks, PATIENCE).await
}

/// Waits until the system is silent, and looks at what it has come to.
pub async fn comes_to_rest(server: &Server, checks: &mut Checks, patience: Duration) -> Option<Wrong> {
    let began = server.clocks.elapsed();
    let silence = SILENCE.max(server.clocks.farthest() + Duration::from_secs(600));
    let (mut newest, mut since) = (server.newest(), began);
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        if let Some(wrong) = checks.catch_up() {
            return Some(wrong);
        }
        let now = server.clocks.elapsed();
        // By then every watch has begun anew, and the queue is in order.
        if now - began > Duration::from_secs(600) && !checks.now.fair {
            checks.now.fair = true;
            server.journal.be_prompt();
        }
        if server.newest() != newest {
            (newest, since) = (server.newest(), now);
        }
        if now - since > silence {
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
    for blueprint in now.blueprints.values() {
        ladder::enough_is_ready(now, blueprint)?;
        due::nothing_of_pool(now, blueprint, wall)?;
    }
    // After what may keep it.
    if let Some((name, _)) = now.namespaces.iter().find(|(_, goes)| **goes) {
        return wrong(format!("the namespace {name} is deleted, and does not go"), &[]);
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
    let destroyed = lease.phase() == LeasePhase::Destroyed;
    is_let_go(&lease.metadata, destroyed)?;
    if commands::unconsumed(&lease.spec.commands, &status.commands).next().is_some() {
        return wrong("a command of a lease is not consumed", &[id]);
    }
    if let Some(deadline) = status.deadlines.iter().find(|d| has_passed(d.at, wall)) {
        return wrong(format!("a deadline of a lease has passed: {deadline:?}, and it is {wall}"), &[id]);
    }
    due::nothing_of_lease(now, lease, wall)?;
    // Of one that is over nobody wants anything any more.
    if !destroyed && commands::wants_pruning(&lease.spec.commands, &status.commands) {
        return wrong("the queue of a lease is nearly full, and not pruned", &[id]);
    }
    let over = matches!(lease.phase(), LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed);
    if lease.spec.heartbeat_timeout.is_some() && !over {
        return wrong("a lease lives, and has given no sign of life for long", &[id]);
    }
    match lease.phase() {
        LeasePhase::Pending => {
            ladder::served_or_says_why(now, lease, wall)?;
            ladder::says_its_place(now, lease, wall)
        }
        LeasePhase::Active => holds_what_is_there(now, lease),
        LeasePhase::Destroyed => Ok(()),
        phase => wrong(format!("a lease rests in {phase:?}"), &[id]),
    }
}

/// Whoever is deleted is gone, and whatever is Destroyed is held by nothing of ours any more.
fn is_let_go(meta: &ObjectMeta, destroyed: bool) -> Verdict {
    if is_deleting(meta) {
        return wrong("an object is deleted, and does not go", &[uid(meta)]);
    }
    if destroyed && has_finalizer(meta) {
        return wrong("an object is Destroyed, and its finalizer is left", &[uid(meta)]);
    }
    Ok(())
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
    is_let_go(&resource.metadata, resource.phase() == ResourcePhase::Destroyed)?;
    if resource.phase() != ResourcePhase::Active {
        return wrong(format!("a resource rests in {:?}", resource.phase()), &[id]);
    }
    let status = resource.status.as_ref().unwrap();
    if commands::unconsumed(&resource.spec.commands, &status.commands).next().is_some() {
        return wrong("a command of a resource is not consumed", &[id]);
    }
    if let Some(deadline) = status.deadlines.iter().find(|d| has_passed(d.at, wall)) {
        return wrong(format!("a deadline of a resource has passed: {deadline:?}, and it is {wall}"), &[id]);
    }
    due::nothing_of_resource(now, resource, wall)?;
    if commands::wants_pruning(&resource.spec.commands, &status.commands) {
        return wrong("the queue of a resource is nearly full, and not pruned", &[id]);
    }
    let damaged = now.drivers.damaged.get(&EffectKey::of_resource(id)) == Some(&true);
    if damaged && status.claims.is_empty() {
        return wrong("a resource that is lost for good, and that nobody holds, is kept", &[id]);
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
    let as_now =
        |b: &&std::sync::Arc<Blueprint>| resource.spec.template_hash.as_deref() == Some(&habits::template_hash(b));
    if status.claims.is_empty() && blueprint.is_some_and(|b| b.spec.driver.webhook.is_some() && !as_now(&b)) {
        return wrong("a resource is idle, and is not what its Blueprint says", &[id]);
    }
    if status.claims.is_empty() && blueprint.is_none_or(|b| is_deleting(&b.metadata)) {
        return wrong("a resource is idle, and its Blueprint is deleted", &[id]);
    }
    Ok(())
}
