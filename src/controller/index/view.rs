//! What a pass sees around its object, gathered as values.

use super::{Index, ObjectKey};
use crate::{
    api::{Blueprint, Claim, Lease, LeasePhase, MicroTime, Resource, step::Slot},
    driver::Driver,
    lifecycle::{
        blueprint, deadline,
        lease::Waiting,
        matching::{self, Rung},
        pool::{self, IdleClock, SlotState},
        queue, resource, uid,
    },
};
use std::sync::Arc;

/// Around a lease.
pub struct LeaseAround {
    /// The lease.
    pub lease: Arc<Lease>,
    /// The resources that show a claim for it: each with its Blueprint, its driver, and the claim's attempt.
    pub claims: Vec<(Held, i64)>,
    /// The resource that it is bound to, where the cache has it.
    pub bound: Option<Held>,
    /// Why it waits.
    pub waiting: Waiting,
    /// When its present heartbeat was first seen.
    pub heartbeat_seen: Option<MicroTime>,
}

/// A resource with what belongs to it.
#[derive(Clone)]
pub struct Held {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Its Blueprint, where it is known.
    pub blueprint: Option<Arc<Blueprint>>,
    /// Its driver, where there is one.
    pub driver: Option<Arc<dyn Driver>>,
}

/// Around a resource.
pub struct ResourceAround {
    /// The resource with its Blueprint and driver.
    pub held: Held,
    /// How it stands to its slot.
    pub slot: SlotState,
    /// `limits.maxResources`, where the slots are listed and their names alone do not hold it.
    pub counted_limit: Option<i64>,
    /// The leases of its claims, in their order; `None` is absent from the cache.
    pub leases: Vec<Option<Arc<Lease>>>,
    /// Whether its Idle clock runs, if nobody holds it.
    pub idle: IdleClock,
    /// Whether a lease ahead of those whom it fits needs its room.
    pub makes_way: bool,
    /// What it is offered; to be settled when the pass has ended.
    pub offered: Vec<ObjectKey>,
    /// Those of the offered that still wait and fit.
    pub candidates: Vec<resource::Candidate>,
}

/// Around a Blueprint.
pub struct BlueprintAround {
    /// The Blueprint.
    pub blueprint: Arc<Blueprint>,
    /// What its decision rests on.
    pub around: blueprint::Surroundings,
    /// `limits.maxResources`, where the slots are listed and their names alone do not hold it.
    pub counted_limit: Option<i64>,
    /// The resources that are to be made, to be settled when the pass has ended.
    pub orders: Vec<Order>,
}

/// A resource that is to be made.
pub struct Order {
    /// The slot's name.
    pub slot: String,
    /// The slot as it is now, and the lease that asks, or nobody; `None` where it is not to be made any more.
    pub make: Option<(Slot, Option<Arc<Lease>>)>,
}

impl Index {
    fn held(&self, resource: &Arc<Resource>) -> Held {
        let blueprint = self.pool_of(resource).map(|(_, pool)| pool.object.clone());
        let driver = self.drivers.of_resource(resource, blueprint.as_deref()).cloned();
        Held { resource: resource.clone(), blueprint, driver }
    }

    /// What a lease's pass sees.
    pub fn around_lease(&mut self, key: &ObjectKey, now: MicroTime) -> Option<LeaseAround> {
        let lease = self.leases.get(key)?.clone();
        let id = uid(&lease.metadata);
        let claimants = self.claimed.get(id).into_iter().flatten().filter_map(|r| self.resources.get(r));
        let mut claims: Vec<_> =
            claimants.filter_map(|r| Some((self.held(r), r.claims().iter().find(|c| c.uid == id)?.attempt))).collect();
        if bug!(BindsUnclaimed) {
            claims.extend(self.resources.values().map(|r| (self.held(r), lease.attempt())));
        }
        let bound = lease.resource_ref().and_then(|reference| {
            let resource = self.resources.get(&ObjectKey::new(&reference.namespace, &reference.name))?;
            (uid(&resource.metadata) == reference.uid || bug!(ComparesNames)).then(|| self.held(resource))
        });
        let waiting = self.waiting(key, &lease, now);
        let heartbeat_seen = self.heartbeats.seen(key, now);
        Some(LeaseAround { lease, claims, bound, waiting, heartbeat_seen })
    }

    fn waiting(&mut self, key: &ObjectKey, lease: &Lease, now: MicroTime) -> Waiting {
        // One that is bound may be about to come back, and says in that very write why it waits.
        if !matches!(lease.phase(), LeasePhase::Pending | LeasePhase::Acquired) {
            return Waiting { rung: Rung::AtCapacity, message: String::new(), place: None, served_at_once: false };
        }
        let (rung, message) = self.why(lease, now);
        let place = self.first_place(key);
        Waiting { rung, message, place, served_at_once: self.is_served_at_once(key, lease, now) }
    }

    /// A grant is on its way; or a build that takes no time, for a lease that has just come or would give up.
    fn is_served_at_once(&self, key: &ObjectKey, lease: &Lease, now: MicroTime) -> bool {
        let Some(waiter) = self.waiters.get(key) else { return false };
        if waiter.offered.is_some() || self.is_claimed(lease) {
            return true;
        }
        let just_come = lease
            .metadata
            .creation_timestamp
            .as_ref()
            .is_some_and(|t| MicroTime::from(t.0).after(crate::api::Duration::from_secs(2)) > now);
        let ordered = waiter.ordered.as_ref().map(|(blueprint, _)| blueprint.clone());
        let building = self.building.get(uid(&lease.metadata)).into_iter().flatten();
        let building = building.filter_map(|r| Some(self.pool_of(self.resources.get(r)?)?.0.clone()));
        let takes_no_time = |blueprint: ObjectKey| {
            let pool = self.blueprints.get(&blueprint)?;
            Some(self.drivers.of_blueprint(&pool.object)?.free_steps(Some(&pool.object), None).build)
        };
        let coming = waiter.queues.iter().map(|queued| &queued.blueprint);
        let coming = coming.filter(|blueprint| self.is_coming_for(key, blueprint, now)).cloned();
        // Who takes what is free now or gives up has nothing to lose by waiting for it.
        (just_come || queue::gives_up_at_once(lease))
            && ordered.into_iter().chain(building).chain(coming).any(|blueprint| takes_no_time(blueprint) == Some(true))
    }

    /// What a resource's pass sees.
    pub fn around_resource(&self, key: &ObjectKey, now: MicroTime) -> Option<ResourceAround> {
        let resource = self.resources.get(key)?;
        let held = self.held(resource);
        let seen = |claim: &Claim| self.lease_by_uid(&claim.uid).cloned();
        let offered = self.offers.get(key).cloned().unwrap_or_default();
        let policy = held.blueprint.as_ref().map(|b| b.spec.resource.clone()).unwrap_or_default();
        let candidates = offered
            .iter()
            .filter_map(|lease| self.leases.get(lease))
            .filter(|lease| queue::waits(lease, now) && matching::fits(&lease.spec, resource, &policy, now))
            .map(|lease| resource::Candidate {
                namespace: lease.metadata.namespace.clone().unwrap_or_default(),
                name: lease.metadata.name.clone().unwrap_or_default(),
                uid: uid(&lease.metadata).to_owned(),
                attempt: lease.attempt(),
            })
            .collect();
        Some(ResourceAround {
            slot: self.slot_state_of(key, resource),
            idle: self.idle_clock(key, resource),
            makes_way: self.is_held_back(key, resource),
            counted_limit: self.pool_of(resource).and_then(|(_, pool)| pool.counted_limit()),
            leases: resource.claims().iter().map(seen).collect(),
            held,
            offered,
            candidates,
        })
    }

    /// What a Blueprint's pass sees.
    pub fn around_blueprint(&self, key: &ObjectKey, now: MicroTime) -> Option<BlueprintAround> {
        let pool = self.blueprints.get(key)?;
        let driver = self.drivers.of_blueprint(&pool.object).cloned();
        let own = uid(&pool.object.metadata);
        let next_build_at = deadline::build_put_off(pool.next_build_at, now);
        let failing = || {
            let owned = self.owned.get(own).into_iter().flatten().filter_map(|r| self.resources.get(r));
            let mut building = owned.filter(|r| r.phase() == crate::api::ResourcePhase::Pending);
            building.find_map(|r| pool::failure(r)).map(str::to_owned)
        };
        let selects = pool.object.spec.allowed_namespaces.from == crate::api::blueprint::From::Selector;
        let around = blueprint::Surroundings {
            counts: pool.counts,
            waiting: pool.waiting(),
            resources_left: None,
            trouble: None,
            unsupported: driver.is_none().then(|| {
                format!("this controller has no driver {}: nothing is built", crate::driver::name_in(&pool.object))
            }),
            names_taken: pool.names_taken().map(|(slot, _)| slot.to_owned()).collect(),
            hosts_taken: pool.taken.clone(),
            namespaces_unreadable: selects && self.namespaces.is_none(),
            next_build_at,
            failure: if next_build_at.is_some() { pool.failure.clone() } else { failing() },
            failing_flavours: pool.failing_flavours(now),
            counted_at: None,
        };
        let missing = self.missing_but_for_orders(pool);
        let order = |(before, (slot, lease)): (usize, (&String, &Option<ObjectKey>))| {
            let waits = |lease: &&Arc<Lease>| queue::waits(lease, now) && !self.is_claimed(lease);
            // Who asks, if that is anybody; and whether it is asked for still.
            let (lease, asked) = match lease {
                Some(lease) => {
                    let lease = self.leases.get(lease).filter(waits).cloned();
                    let waits = lease.is_some();
                    (lease, waits)
                }
                None => {
                    let for_nobody = pool.orders.values().take(before).filter(|lease| lease.is_none()).count();
                    (None, for_nobody < missing)
                }
            };
            let slot_now = match &pool.slots {
                Some(slots) => slots.iter().find(|s| s.name == *slot && s.enabled).cloned(),
                None => driver.as_ref().map(|_| pool.numbered(slot.clone())),
            };
            let may_make = |slot: &Slot| asked && self.may_make(key, slot, before, now);
            Order { slot: slot.clone(), make: slot_now.filter(may_make).map(|slot| (slot, lease)) }
        };
        let orders = pool.orders.iter().enumerate().map(order).collect();
        Some(BlueprintAround { counted_limit: pool.counted_limit(), blueprint: pool.object.clone(), around, orders })
    }
}
