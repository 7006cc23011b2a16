//! Nothing is released before its deadline without a cause that is on record.

use super::{Now, Verdict, wrong};
use drydock::{
    api::{
        Blueprint, CommandType, DeadlineName, Duration, Lease, LeasePhase, LedgerEntry, MicroTime, Outcome, Resource,
        ResourcePhase, step::EffectKey,
    },
    lifecycle::{conditions, deadline, is_deleting, uid},
};
use kube::api::ObjectMeta;
use std::sync::Arc;

/// Why a lease is over, if it is newly so.
pub fn of_lease(now: &Now, old: &Lease, new: &Lease) -> Verdict {
    let over =
        |lease: &Lease| matches!(lease.phase(), LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed);
    let id = uid(&new.metadata);
    if over(old) || !over(new) {
        return Ok(());
    }
    let status = new.status.as_ref().unwrap();
    let reason = conditions::reason(&status.conditions, "Released");
    let Some(at) = status.released_at else { return wrong("a lease is over, and it does not say since when", &[id]) };
    if at.timestamp() > now.lately.latest() {
        return wrong(format!("a lease was released before its time: it says at {at}, and that is to come"), &[id]);
    }
    let told = |name| deadline::find(&old.status.as_ref()?.deadlines, name).map(|d| d.at);
    let bound = status.resource_ref.as_ref();
    let blueprint = bound
        .and_then(|r| now.resources.get(&r.uid))
        .and_then(|r| now.all_blueprints.get(&r.spec.blueprint_ref.uid))
        .map(|b| &**b);
    let rightly = match reason {
        "Released" => {
            newly_applied(old.status.as_ref().map(|s| &*s.commands), &status.commands, &[CommandType::Release])
        }
        "Deleted" => is_deleting(&new.metadata),
        "Expired" => ends(now, new, blueprint).into_iter().flatten().any(|end| end <= at),
        "QueueTimeout" => {
            let timeout = new.spec.queue_timeout;
            let from = since_creation(&new.metadata, at);
            let end = told(DeadlineName::Queue).or(from.zip(timeout).map(|(from, timeout)| from.after(timeout)));
            timeout.is_some() && end.is_some_and(|end| end <= at)
        }
        "HeartbeatLost" => {
            let since = now.beats.get(id).filter(|(when, _)| now.set_back_at < *when).map(|(_, wall)| *wall);
            let end =
                new.spec.heartbeat_timeout.map(|timeout| since.map(|since| MicroTime::from(since).after(timeout)));
            end.is_some_and(|end| end.is_none_or(|end| end <= at))
        }
        "ResourceReleased" | "ResourceLost" => bound.is_some_and(|r| {
            now.resources
                .get(&r.uid)
                .is_none_or(|r| !matches!(r.phase(), ResourcePhase::Pending | ResourcePhase::Active))
        }),
        "ActivationTimeout" => {
            let timeout =
                blueprint.and_then(|b| b.spec.lease.activation_timeout).unwrap_or(deadline::ACTIVATION_TIMEOUT);
            let end = status.acquired_at.map(|from| from.after(timeout));
            end.is_some_and(|end| end <= at) || told(DeadlineName::Activation).is_some_and(|end| end <= at)
        }
        "AttemptsExhausted" => bound.is_some() && status.returns + 1 >= 3,
        "Failed" => super::lease::key(new).is_some_and(|key| now.hopeless.contains(&key)),
        _ => false,
    };
    let ids: Vec<_> = [id].into_iter().chain(bound.map(|r| &*r.uid)).collect();
    if rightly { Ok(()) } else { wrong(format!("a lease was released without a cause: {reason} at {at}"), &ids) }
}

/// From when the clocks run that run from an object's creation: what was made in a controller's future, for its clock was set
/// back, is new to it.
fn since_creation(meta: &ObjectMeta, at: MicroTime) -> Option<MicroTime> {
    meta.creation_timestamp.as_ref().map(|t| MicroTime::from(t.0).min(at))
}

/// The ends that a lease can have had, with nothing cut: what it wishes, what its Blueprint allows, what its resource has.
pub fn ends(now: &Now, lease: &Lease, blueprint: Option<&Blueprint>) -> [Option<MicroTime>; 4] {
    let status = lease.status.as_ref().unwrap();
    let from = |length: Option<Duration>| Some(status.activated_at?.after(length?));
    let age = status.resource_ref.as_ref().and_then(|r| now.resources.get(&r.uid)?.status.as_ref()?.expires_at);
    // Where the Blueprint is not seen what was told of it stands.
    let told = status.activated_at.and(status.expires_at).filter(|_| blueprint.is_none());
    let wish = match status.wish {
        Some(wish) => [wish.at, None],
        None if lease.spec.ttl.is_none() && lease.spec.expires_at.is_none() => {
            [from(blueprint.and_then(|b| b.spec.lease.default_ttl)), None]
        }
        None => [from(lease.spec.ttl), lease.spec.expires_at],
    };
    let most = from(blueprint.and_then(|b| b.spec.lease.max_ttl));
    [wish[0], wish[1], most, age.or(told)]
}

/// Why a resource is over, if it is newly so.
pub fn of_resource(now: &Now, old: &Resource, new: &Resource) -> Verdict {
    let live = |r: &Resource| matches!(r.phase(), ResourcePhase::Pending | ResourcePhase::Active);
    let id = uid(&new.metadata);
    if !live(old) || live(new) {
        return Ok(());
    }
    let status = new.status.as_ref().unwrap();
    let reason = conditions::reason(&status.conditions, "Released");
    let Some(at) = status.released_at else {
        return wrong("a resource is over, and it does not say since when", &[id]);
    };
    if at.timestamp() > now.lately.latest() {
        return wrong(format!("a resource was released before its time: it says at {at}, and that is to come"), &[id]);
    }
    let owner = &new.spec.blueprint_ref.uid;
    let blueprint = now.all_blueprints.get(owner);
    let policy = blueprint.map(|b| b.spec.resource.clone()).unwrap_or_default();
    let told = |name| deadline::find(&old.status.as_ref()?.deadlines, name).map(|d| d.at);
    let ledger = old.status.as_ref().map(|s| &*s.commands);
    let idle = status.claims.is_empty();
    let by_command = |types: &[CommandType]| newly_applied(ledger, &status.commands, types);
    let rightly = match reason {
        "Released" => by_command(&[CommandType::Release]) || (idle && (status.served || too_many(now, new))),
        "Reclaimed" => {
            let after = now.readable(owner).map(|b| b.spec.resource.reclaim_after.unwrap_or(deadline::RECLAIM_AFTER));
            let from = status.idle_since.zip(after.min()).map(|(since, after)| since.after(after));
            by_command(&[CommandType::Reclaim]) && idle && (from.is_some_and(|from| from <= at) || now.makes_way(new))
        }
        "Deleted" => is_deleting(&new.metadata),
        "Expired" => {
            let by_ttl = status.activated_at.zip(policy.ttl).map(|(from, ttl)| from.after(ttl));
            let wish = status.wish.map_or(new.spec.expires_at.or(by_ttl), |wish| wish.at);
            wish.is_some_and(|end| end <= at)
        }
        "IdleTimeout" => {
            let end = status.idle_since.zip(policy.idle_ttl).map(|(from, ttl)| from.after(ttl));
            idle && end.is_some_and(|end| end <= at)
        }
        "BuildTimeout" => {
            let from = since_creation(&new.metadata, at);
            let timeout = policy.build_timeout.unwrap_or(deadline::BUILD_TIMEOUT);
            let end = told(DeadlineName::Build).or(from.map(|from| from.after(timeout)));
            end.is_some_and(|end| end <= at)
        }
        "Failed" => now.hopeless.contains(&EffectKey::of_resource(id)),
        "BlueprintDeleted" => idle && now.blueprints.get(owner).is_none_or(|b| is_deleting(&b.metadata)),
        "Disabled" => idle && blueprint.is_some_and(|b| b.spec.driver.hosts.is_some()),
        "Outdated" => {
            now.replaced_rightly(new)?;
            idle
        }
        "Lost" => now.lost_rightly(old, new),
        _ => false,
    };
    if rightly { Ok(()) } else { wrong(format!("a resource was released without a cause: {reason} at {at}"), &[id]) }
}

/// It was one too many of a list that is longer than the limit.
fn too_many(now: &Now, resource: &Resource) -> bool {
    let owner = &resource.spec.blueprint_ref.uid;
    let live = |r: &&Arc<Resource>| r.spec.blueprint_ref.uid == *owner && r.phase() != ResourcePhase::Destroyed;
    let live = now.resources.values().filter(live).count() + now.thought_live(owner);
    let live = i64::try_from(live).unwrap_or(i64::MAX);
    let unbuilt = resource.status.as_ref().is_none_or(|s| s.activated_at.is_none());
    // The limit as the Blueprint had it in some version that can have been read.
    let lowest = now.readable(owner).map(|b| b.spec.limits.max_resources.unwrap_or(i64::MAX)).min();
    lowest.is_some_and(|lowest| unbuilt || live > lowest)
}

pub(super) fn newly_applied(old: Option<&[LedgerEntry]>, new: &[LedgerEntry], types: &[CommandType]) -> bool {
    let fresh = |entry: &&LedgerEntry| !old.is_some_and(|old| old.iter().any(|before| before.id == entry.id));
    let mut fresh = new.iter().filter(fresh);
    fresh.any(|entry| types.contains(&entry.type_) && entry.outcome == Outcome::Applied)
}
