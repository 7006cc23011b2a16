//! The ladder at rest: nobody waits beside what would serve them, or could be built or reclaimed for them; who waits is told
//! the very rung at which they stand; and as many are kept ready as there is room for.

use crate::checks::{Now, Verdict, queue::place, wrong};
use drydock::{
    api::{Blueprint, Lease, LeasePhase, MicroTime, Resource, ResourcePhase, slot_name},
    lifecycle::{
        conditions, is_deleting,
        matching::{self, Admission, Rung, SharedNamespaces},
        pool, queue, uid,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// A lease that waits is right to: nothing that fits has room, nothing more may be built; and it says so.
pub fn served_or_says_why(now: &Now, lease: &Lease, wall: MicroTime) -> Verdict {
    let id = uid(&lease.metadata);
    let mut truth = Rung::NoMatchingBlueprint;
    for blueprint in candidates(now, lease) {
        match standing(now, lease, blueprint, wall) {
            Ok(rung) => truth = truth.max(rung),
            Err(room) => {
                let pool = mine(now, blueprint).map(|resource| uid(&resource.metadata));
                let ids: Vec<_> = [id, uid(&blueprint.metadata)].into_iter().chain(pool).collect();
                return wrong(format!("a lease waits, and could be served: {room}"), &ids);
            }
        }
    }
    let conditions = &lease.status.as_ref().unwrap().conditions;
    let says = conditions::reason(conditions, "Acquired");
    if says != truth.as_str() {
        let what = format!("a lease says that it waits because of {says}, and it is {}", truth.as_str());
        let ids: Vec<_> = [id].into_iter().chain(now.blueprints.keys().map(String::as_str)).collect();
        return wrong(what, &ids);
    }
    Ok(())
}

/// Up to this place each is told.
const NEAR: i64 = 10;

/// Whether a place that is told is near enough to the real one: beyond the near ones only what has halved or doubled is told.
fn is_told(says: Option<i64>, best: Option<i64>) -> bool {
    match (says, best) {
        (Some(says), Some(best)) if says > NEAR && best > NEAR => says < best * 2 && best < says * 2,
        _ => says == best,
    }
}

/// Told is the best place in any of its queues: how many wait there, whatever they want, that come before.
pub fn says_its_place(now: &Now, lease: &Lease, wall: MicroTime) -> Verdict {
    let waits = |other: &&Arc<Lease>| queue::waits(other, wall);
    let in_queue = |other: &Lease, blueprint: &Blueprint| {
        admits(now, other, blueprint)
            && candidates(now, other).any(|candidate| candidate.metadata.uid == blueprint.metadata.uid)
    };
    let place_in = |blueprint: &Arc<Blueprint>| {
        let mine = place(lease, &blueprint.spec.lease);
        let others = now.leases.values().filter(waits).filter(|other| in_queue(other, blueprint));
        1 + others.filter(|other| place(other, &blueprint.spec.lease) < mine).count() as i64
    };
    let best = candidates(now, lease).filter(|b| admits(now, lease, b)).map(place_in).min();
    let says = lease.status.as_ref().and_then(|s| s.queue_position);
    if !is_told(says, best) {
        return wrong(format!("a lease says that its place is {says:?}, and it is {best:?}"), &[uid(&lease.metadata)]);
    }
    Ok(())
}

fn candidates<'a>(now: &'a Now, lease: &'a Lease) -> impl Iterator<Item = &'a Arc<Blueprint>> {
    let shared = SharedNamespaces::new(&["shared".into()]);
    now.blueprints.values().filter(move |b| matching::is_candidate(lease, b, &shared))
}

fn admits(now: &Now, lease: &Lease, blueprint: &Blueprint) -> bool {
    let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
    let labels = now.labels.get(namespace).and_then(|versions| versions.last()).map(|(_, labels)| labels);
    matching::admission(blueprint, namespace, labels) == Admission::Admitted
}

/// The rung at which a lease stands with a Blueprint; or where that has room for it.
fn standing(now: &Now, lease: &Lease, blueprint: &Blueprint, wall: MicroTime) -> Result<Rung, String> {
    if !admits(now, lease, blueprint) {
        return Ok(Rung::NotAuthorized);
    }
    let selects = |attributes| lease.spec.selector.as_ref().is_none_or(|s| s.matches(attributes));
    let slots = slots(blueprint);
    let of_use = mine(now, blueprint).any(|r| matching::fits(&lease.spec, r, &blueprint.spec.resource, wall));
    let hosts = blueprint.spec.driver.hosts.is_some();
    let some =
        if hosts { slots.iter().any(|slot| selects(&slot.attributes)) } else { selects(&blueprint.spec.attributes) };
    if !some && (hosts || !of_use) {
        return Ok(Rung::NoMatchingBlueprint);
    }
    if is_deleting(&blueprint.metadata) {
        return Ok(Rung::Draining);
    }
    if hosts && !slots.iter().any(|slot| slot.enabled && selects(&slot.attributes)) {
        return Ok(Rung::NoHostEnabled);
    }
    if has_its_share(now, lease, blueprint) {
        return Ok(Rung::NamespaceLimit);
    }
    match room(now, lease, blueprint, wall).or_else(|| reclaimable(now, lease, blueprint, wall)) {
        Some(room) => Err(room),
        None => Ok(Rung::AtCapacity),
    }
}

fn mine<'a>(now: &'a Now, blueprint: &'a Blueprint) -> impl Iterator<Item = &'a Arc<Resource>> {
    now.resources.values().filter(|r| r.spec.blueprint_ref.uid == uid(&blueprint.metadata))
}

fn has_its_share(now: &Now, lease: &Lease, blueprint: &Blueprint) -> bool {
    let claims = mine(now, blueprint).flat_map(|r| r.claims());
    let held = claims.filter(|claim| Some(&claim.namespace) == lease.metadata.namespace.as_ref()).count() as i64;
    blueprint.spec.limits.max_leases_per_namespace.is_some_and(|limit| held >= limit)
}

struct Place {
    name: String,
    attributes: BTreeMap<String, String>,
    enabled: bool,
}

/// The slots of a Blueprint, hosts and numbers alike.
fn slots(blueprint: &Blueprint) -> Vec<Place> {
    let common = &blueprint.spec.attributes;
    match &blueprint.spec.driver.hosts {
        Some(hosts) => {
            let place = |host: &drydock::api::blueprint::Host| {
                let mut attributes = common.clone();
                attributes.extend(host.attributes.clone());
                Place { name: host.name.clone(), attributes, enabled: host.disabled != Some(true) }
            };
            hosts.inventory.iter().map(place).collect()
        }
        None => (0..blueprint.spec.limits.max_resources.unwrap_or(0))
            .map(|n| Place { name: n.to_string(), attributes: common.clone(), enabled: true })
            .collect(),
    }
}

/// A slot that is vacant, and for which there is a place.
fn vacant(now: &Now, blueprint: &Blueprint, will_do: impl Fn(&Place) -> bool) -> Option<String> {
    let name = blueprint.metadata.name.as_deref()?;
    if blueprint.spec.limits.max_resources.is_some_and(|limit| mine(now, blueprint).count() as i64 >= limit) {
        return None;
    }
    let taken = |slot: &str| {
        let wanted = slot_name(name, slot);
        now.resources.values().any(|r| {
            r.metadata.name.as_deref() == Some(&wanted) && r.metadata.namespace == blueprint.metadata.namespace
        })
    };
    let slots = slots(blueprint);
    let free = slots.iter().find(|slot| slot.enabled && will_do(slot) && !taken(&slot.name));
    free.map(|slot| slot.name.clone())
}

/// Where a Blueprint has room for a lease.
fn room(now: &Now, lease: &Lease, blueprint: &Blueprint, wall: MicroTime) -> Option<String> {
    let hosts = blueprint.spec.driver.hosts.is_some();
    let enabled = |name: &str| !hosts || slots(blueprint).iter().any(|slot| slot.name == name && slot.enabled);
    let free = mine(now, blueprint).find(|resource| {
        let status = resource.status.as_ref();
        let claims = resource.claims().len() as i64;
        let used_up = status.is_some_and(|s| s.served);
        // A limit that was raised since counts for a host that nobody holds, and otherwise for what is built afterwards.
        let recorded = status.map_or(0, |s| s.capacity);
        let limit = blueprint.spec.limits.leases_per_resource;
        let places = if recorded == 0 || (hosts && claims == 0) { limit } else { recorded.min(limit) };
        let lost = status.is_some_and(|s| conditions::reason(&s.conditions, "Ready") == "ObjectLost");
        resource.phase() == ResourcePhase::Active
            && matching::fits(&lease.spec, resource, &blueprint.spec.resource, wall)
            && claims < places
            && !used_up
            && !lost
            && resource.slot().is_some_and(enabled)
            && !drains_for_another(now, resource, lease, blueprint, wall)
            // One that drains because its entry was changed.
            && (!hosts || claims == 0)
    });
    if let Some(free) = free {
        return Some(format!("by {:?}", free.metadata.name));
    }
    let fits = |slot: &Place| lease.spec.selector.as_ref().is_none_or(|s| s.matches(&slot.attributes));
    vacant(now, blueprint, fits).map(|slot| format!("in the vacant slot {slot}"))
}

/// What somebody still holds is granted to nobody else where a lease ahead needs its room.
fn drains_for_another(now: &Now, resource: &Resource, lease: &Lease, blueprint: &Blueprint, wall: MicroTime) -> bool {
    let is_ahead = |other: &Arc<Lease>| {
        queue::waits(other, wall)
            && candidates(now, other).any(|b| b.metadata.uid == blueprint.metadata.uid)
            && admits(now, other, blueprint)
            && place(other, &blueprint.spec.lease) < place(lease, &blueprint.spec.lease)
            && !matching::fits(&other.spec, resource, &blueprint.spec.resource, wall)
    };
    !resource.claims().is_empty() && now.leases.values().any(is_ahead)
}

/// An idle resource that is of no use to anybody who waits, in a pool that is full: long enough unused by now.
fn reclaimable(now: &Now, lease: &Lease, blueprint: &Blueprint, wall: MicroTime) -> Option<String> {
    let waiting = || now.leases.values().filter(|l| l.phase() == LeasePhase::Pending);
    let fits = |l: &Lease, r: &Resource| matching::fits(&l.spec, r, &blueprint.spec.resource, wall);
    let of_use = |r: &Resource| {
        waiting().any(|l| {
            candidates(now, l).any(|b| b.metadata.uid == blueprint.metadata.uid)
                && admits(now, l, blueprint)
                && !has_its_share(now, l, blueprint)
                && fits(l, r)
        })
    };
    let idle = mine(now, blueprint).filter(|r| pool::bucket(r) == pool::Bucket::Idle && !of_use(r));
    let helps = |r: &&Arc<Resource>| {
        slots(blueprint).iter().any(|slot| {
            let own = blueprint.spec.driver.hosts.is_none() || r.slot() == Some(&slot.name);
            own && slot.enabled && lease.spec.selector.as_ref().is_none_or(|s| s.matches(&slot.attributes))
        })
    };
    idle.into_iter().find(helps).map(|r| format!("in the room of {:?}", r.metadata.name))
}

/// `limits.minReady`, as far as there is room.
pub fn enough_is_ready(now: &Now, blueprint: &Blueprint) -> Verdict {
    let wanted = blueprint.spec.limits.min_ready;
    if wanted == 0 || blueprint.spec.suspend || is_deleting(&blueprint.metadata) {
        return Ok(());
    }
    let flavour = matching::default_flavour(&blueprint.spec.resource);
    // Where flavours are no longer told apart, whatever was built with one is as good as any.
    let alike = blueprint.spec.resource.parameters.is_empty();
    let is_of_it = |r: &Resource| alike || r.spec.parameters == flavour;
    let ready = mine(now, blueprint).filter(|r| pool::bucket(r) == pool::Bucket::Idle && is_of_it(r));
    match vacant(now, blueprint, |_| true) {
        Some(slot) if (ready.count() as i64) < wanted => {
            let what = format!("fewer are ready than limits.minReady, {wanted}, and the slot {slot} is vacant");
            wrong(what, &[uid(&blueprint.metadata)])
        }
        _ => Ok(()),
    }
}
