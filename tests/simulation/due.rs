//! What is due, reckoned anew from what objects and Blueprints say: a clock that a controller has never recorded is one that
//! its own deadlines tell nothing of.

use crate::{
    checks::{Now, Verdict, causes, wrong},
    rest::has_passed,
};
use drydock::{
    api::{Blueprint, Lease, LeasePhase, MicroTime, Resource},
    lifecycle::{deadline, matching, pool, uid},
};

/// Nothing is left to be done for a lease that its clocks ask for.
pub fn nothing_of_lease(now: &Now, lease: &Lease, wall: MicroTime) -> Verdict {
    let id = uid(&lease.metadata);
    let status = lease.status.as_ref();
    if lease.phase() == LeasePhase::Destroyed {
        let kept = lease.spec.ttl_after_destroyed.unwrap_or(deadline::TTL_AFTER_DESTROYED);
        return match status.and_then(|s| s.destroyed_at).map(|at| at.after(kept)) {
            Some(end) if has_passed(end, wall) => wrong(format!("a lease is kept that was to go at {end}"), &[id]),
            Some(_) => Ok(()),
            None => wrong("a lease is Destroyed, and it does not say since when", &[id]),
        };
    }
    let owner = lease.resource_ref().and_then(|r| now.resources.get(&r.uid)).map(|r| &r.spec.blueprint_ref.uid);
    let blueprint = owner.and_then(|owner| now.blueprints.get(owner)).map(|b| &**b);
    let ends = causes::ends(now, lease, blueprint);
    if let Some(end) = ends.into_iter().flatten().find(|end| has_passed(*end, wall)) {
        return wrong(format!("a lease lives, and its end was at {end}"), &[id]);
    }
    // One that came back from Acquired waits anew, from an instant that only its record tells.
    let first = lease.phase() == LeasePhase::Pending && status.is_none_or(|s| s.returns == 0);
    let created = lease.metadata.creation_timestamp.as_ref().map(|t| MicroTime::from(t.0));
    match created.zip(lease.spec.queue_timeout).map(|(from, timeout)| from.after(timeout)) {
        Some(end) if first && has_passed(end, wall) => wrong(format!("a lease waits, and was to until {end}"), &[id]),
        _ => Ok(()),
    }
}

/// The same for a resource that is Active: its end.
pub fn nothing_of_resource(now: &Now, resource: &Resource, wall: MicroTime) -> Verdict {
    let Some(status) = &resource.status else { return Ok(()) };
    let ttl = now.blueprints.get(&resource.spec.blueprint_ref.uid).and_then(|b| b.spec.resource.ttl);
    let by_ttl = status.activated_at.zip(ttl).map(|(from, ttl)| from.after(ttl));
    let end = status.wish.map_or(resource.spec.expires_at.or(by_ttl), |wish| wish.at);
    match end.filter(|end| has_passed(*end, wall)) {
        Some(end) => wrong(format!("a resource lives, and its end was at {end}"), &[uid(&resource.metadata)]),
        None => Ok(()),
    }
}

/// Of what nobody has held for `idleTTL` a pool keeps no more than `minReady`.
pub fn nothing_of_pool(now: &Now, blueprint: &Blueprint, wall: MicroTime) -> Verdict {
    let policy = &blueprint.spec.resource;
    let Some(ttl) = policy.idle_ttl else { return Ok(()) };
    let flavour = matching::default_flavour(policy);
    let mine = now.resources.values().filter(|r| r.spec.blueprint_ref.uid == uid(&blueprint.metadata));
    let overdue =
        mine.filter(|r| pool::bucket(r) == pool::Bucket::Idle && has_passed(pool::idle_since(r).after(ttl), wall));
    let is_kept = |r: &Resource| policy.parameters.is_empty() || r.spec.parameters == flavour;
    let (kept, not): (Vec<_>, Vec<_>) = overdue.partition(|r| is_kept(r));
    let many = usize::try_from(blueprint.spec.limits.min_ready).unwrap_or(0);
    match not.first().or(kept.get(many)) {
        Some(idle) => wrong("a resource is idle for longer than idleTTL", &[uid(&idle.metadata)]),
        None => Ok(()),
    }
}
