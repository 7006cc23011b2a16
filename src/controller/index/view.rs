//! What a pass sees around its object, gathered as values.

use super::{Index, ObjectKey};
use crate::{
    api::{Blueprint, Claim, Duration, Lease, MicroTime, Resource, step::Slot},
    driver::Driver,
    lifecycle::{
        blueprint,
        lease::Waiting,
        matching::{self, Rung},
        pool::SlotState,
        queue, resource, uid,
    },
};
use kube::api::ObjectMeta;
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
    /// The leases of its claims, in their order; `None` is absent from the cache.
    pub leases: Vec<Option<Arc<Lease>>>,
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
    /// The resources that are to be made: the slot, and the lease that asks, where it still does. To be settled.
    pub orders: Vec<(String, Option<(Slot, Arc<Lease>)>)>,
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
        let claims =
            claimants.filter_map(|r| Some((self.held(r), r.claims().iter().find(|c| c.uid == id)?.attempt))).collect();
        let bound = lease.resource_ref().and_then(|reference| {
            let resource = self.resources.get(&ObjectKey::new(&reference.namespace, &reference.name))?;
            (uid(&resource.metadata) == reference.uid).then(|| self.held(resource))
        });
        let waiting = self.waiting(key, &lease, now);
        Some(LeaseAround { lease, claims, bound, waiting })
    }

    fn waiting(&mut self, key: &ObjectKey, lease: &Lease, now: MicroTime) -> Waiting {
        if lease.phase() != crate::api::LeasePhase::Pending {
            return Waiting { rung: Rung::AtCapacity, message: String::new(), place: None, served_at_once: false };
        }
        let (rung, message) = self.why(lease, now);
        let place = self.first_place(key);
        Waiting { rung, message, place, served_at_once: self.is_served_at_once(key, lease, now) }
    }

    /// A grant is on its way; or, for a lease that has just come or will not wait, a build that takes no time.
    fn is_served_at_once(&self, key: &ObjectKey, lease: &Lease, now: MicroTime) -> bool {
        let Some(waiter) = self.waiters.get(key) else { return false };
        if waiter.offered.is_some() || self.is_claimed(lease) {
            return true;
        }
        let is_young = |meta: &ObjectMeta, seconds| {
            let created = meta.creation_timestamp.as_ref();
            created.is_some_and(|t| MicroTime::from(t.0).after(Duration::from_secs(seconds)) > now)
        };
        // Whoever gives up at once waits for a build that takes no time however long nobody had looked at the lease before;
        // but not for one that should have been done by now.
        let gives_up = queue::gives_up_at_once(lease);
        let just_come = is_young(&lease.metadata, 2);
        let ordered = waiter.ordered.as_ref().filter(|_| just_come || gives_up).map(|(blueprint, _)| blueprint.clone());
        let building = self.building.get(uid(&lease.metadata)).into_iter().flatten();
        let building = building
            .filter_map(|r| self.resources.get(r))
            .filter(|r| just_come || (gives_up && is_young(&r.metadata, 10)))
            .filter_map(|r| Some(self.pool_of(r)?.0.clone()));
        let takes_no_time = |blueprint: ObjectKey| {
            let pool = self.blueprints.get(&blueprint)?;
            Some(self.drivers.of_blueprint(&pool.object)?.free_steps().build)
        };
        ordered.into_iter().chain(building).any(|blueprint| takes_no_time(blueprint) == Some(true))
    }

    /// Why a lease waits: the reason nearest to success, and one clause for each candidate.
    pub(super) fn why(&self, lease: &Lease, now: MicroTime) -> (Rung, String) {
        let id = uid(&lease.metadata);
        let standing = |(key, admission): (ObjectKey, matching::Admission)| {
            let pool = self.blueprints.get(&key)?;
            let in_flight = self.building.get(id).into_iter().flatten().filter_map(|r| self.resources.get(r));
            let own = uid(&pool.object.metadata);
            let ordered = pool.orders.values().any(|ordered| *ordered == ObjectKey::of(&lease.metadata));
            let candidate = matching::Candidate {
                blueprint: &pool.object,
                admission,
                slots: pool.slots.as_ref().map(|slots| slots.as_slice()),
                building: ordered || in_flight.into_iter().any(|r| r.spec.blueprint_ref.uid == own),
                next_build_at: pool.next_build_at.filter(|at| *at > now),
            };
            Some(matching::standing(&lease.spec, &candidate))
        };
        let standings = self.candidates(lease).into_iter().filter_map(standing).collect();
        matching::explain(lease, standings)
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
            slot: self.slot_state_of(resource),
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
        let names_taken = pool.slots.iter().flat_map(|slots| slots.iter()).filter_map(|slot| {
            let name = ObjectKey::new(&key.namespace, &crate::api::slot_name(&key.name, &slot.name));
            let holder = self.resources.get(&name)?;
            (holder.spec.blueprint_ref.uid != own).then(|| slot.name.clone())
        });
        let selects = pool.object.spec.allowed_namespaces.from == crate::api::blueprint::From::Selector;
        let around = blueprint::Surroundings {
            counts: pool.counts,
            waiting: pool.queue.values().map(|class| i64::try_from(class.len()).unwrap_or(0)).sum(),
            resources_left: None,
            unsupported: driver.is_none().then(|| {
                format!("this controller has no driver {}: nothing is built", crate::driver::name_in(&pool.object))
            }),
            names_taken: names_taken.collect(),
            hosts_taken: pool.taken.clone(),
            namespaces_unreadable: selects && self.namespaces.is_none(),
            next_build_at: pool.next_build_at.filter(|at| *at > now),
            counted_at: None,
        };
        let order = |(slot, lease): (&String, &ObjectKey)| {
            let lease = self.leases.get(lease).cloned();
            let slot_now = match &pool.slots {
                Some(slots) => slots.iter().find(|s| s.name == *slot && s.enabled).cloned(),
                None => driver.as_ref().map(|driver| Slot {
                    name: slot.clone(),
                    attributes: pool.object.spec.attributes.clone(),
                    template_hash: driver.template_hash(&pool.object),
                    enabled: true,
                    identity: None,
                }),
            };
            (slot.clone(), slot_now.zip(lease))
        };
        let orders = pool.orders.iter().map(order).collect();
        Some(BlueprintAround { blueprint: pool.object.clone(), around, orders })
    }
}
