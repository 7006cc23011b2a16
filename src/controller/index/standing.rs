//! Why a lease waits, as each Blueprint that it may ask stands to it (api.md, 4 and 5). It is asked for each lease of a
//! queue that has come to rest, so nothing here looks at all of a pool's resources for each of them: what is rare, or
//! wrong, is kept apart as it is counted.

use super::{Index, ObjectKey, Pool};
use crate::{
    api::{Lease, LeasePhase, MicroTime},
    driver,
    lifecycle::{
        commands::shorten,
        deadline,
        matching::{self, Admission, Candidate, Coming, Reclaiming, Rung, Shortage},
        pool, uid,
    },
};

impl Index {
    /// Why a lease waits: the reason nearest to success, and one clause for each candidate.
    pub(super) fn why(&self, lease: &Lease, now: MicroTime) -> (Rung, String) {
        let candidates = self.candidates(lease);
        let stands = |(key, admission): &(ObjectKey, Admission)| self.standing(lease, key, *admission, now);
        matching::explain(lease, candidates.iter().filter_map(stands).collect(), &self.watched)
    }

    fn standing(&self, lease: &Lease, key: &ObjectKey, admission: Admission, now: MicroTime) -> Option<(Rung, String)> {
        let asking = &ObjectKey::of(&lease.metadata);
        let pool = self.blueprints.get(key)?;
        let own = uid(&pool.object.metadata);
        let in_flight = self.building.get(uid(&lease.metadata)).into_iter().flatten();
        let mut in_flight = in_flight.filter_map(|r| self.resources.get(r));
        let in_flight = in_flight.find(|r| r.spec.blueprint_ref.uid == own);
        let ordered = || pool.orders.values().any(|ordered| ordered.as_ref() == Some(asking));
        let coming = match in_flight {
            Some(resource) => Coming::Own(pool::failure(resource)),
            None if ordered() || self.is_coming_for(asking, key, now) => Coming::Planned,
            None => Coming::Nothing,
        };
        let holds_all = !self.may_hold(pool, &asking.namespace);
        let for_all = || pool.builds() > 0 && !self.may_build_for(pool, &asking.namespace) && pool.places() > 0;
        let at_limit = holds_all || (in_flight.is_none() && !ordered() && for_all());
        let selects = |attributes| lease.spec.selector.as_ref().is_none_or(|s| s.matches(attributes));
        let has_one = || {
            let owned = self.owned.get(own).into_iter().flatten().filter_map(|r| self.resources.get(r));
            owned.into_iter().any(|r| matching::fits(&lease.spec, r, &pool.object.spec.resource, now))
        };
        let reclaiming = self.reclaiming(asking, pool, now);
        let is_nearer = coming != Coming::Nothing || reclaiming.is_some() || admission != Admission::Admitted;
        let flavour = matching::flavours(&lease.spec, &pool.object.spec.resource);
        let candidate = Candidate {
            blueprint: &pool.object,
            admission,
            unmatched: pool.slots.is_none() && !selects(&pool.object.spec.attributes) && !has_one(),
            slots: pool.slots.as_ref().map(|slots| slots.as_slice()),
            unsupported: self.drivers.of_blueprint(&pool.object).is_none().then(|| driver::name_in(&pool.object)),
            coming,
            namespace_limit: pool.object.spec.limits.max_leases_per_namespace.filter(|_| at_limit),
            reclaiming,
            next_build_at: deadline::build_put_off(pool.next_build_at, now),
            failing_flavour: pool.flavour_put_off(&flavour, now).map(|(_, why)| why),
            shortage: if is_nearer { Shortage::InUse } else { self.shortage(lease, key, pool, now) },
        };
        let (rung, clause) = matching::standing(&lease.spec, &candidate);
        // Where something is reclaimed for it, too, a teardown may hold that.
        let reclaimed = |slot: &ObjectKey| matches!(reclaiming, Some(Reclaiming::Now(name)) if name == &*slot.name);
        match self.held_slot(pool, asking, reclaimed) {
            Some(Shortage::TearingDown(_, Some(text))) if rung == Rung::Reclaiming => {
                Some((rung, format!("{clause}: {}", shorten(text.to_owned(), 600))))
            }
            _ => Some((rung, clause)),
        }
    }

    /// Why a lease is not served, where nothing is on its way to it: from what is counted first, and slots are looked at only
    /// where there is room, which is rare beside one who waits.
    fn shortage<'a>(&'a self, lease: &Lease, key: &ObjectKey, pool: &'a Pool, now: MicroTime) -> Shortage<'a> {
        let asking = &ObjectKey::of(&lease.metadata);
        let limits = &pool.object.spec.limits;
        let vacant = || self.find_vacant(key, |slot| matching::fits_slot(&lease.spec, slot)).is_some();
        // It comes back to the queue in this very pass; what is there for it is given to it then.
        let comes_back = lease.phase() == LeasePhase::Acquired;
        if limits.max_resources == Some(0) {
            return Shortage::NoneAllowed;
        }
        let fits = |key: &&ObjectKey| {
            let resource = self.resources.get(*key);
            resource.is_some_and(|r| matching::fits(&lease.spec, r, &pool.object.spec.resource, now))
        };
        if let Some(kept) = pool.held_back.keys().find(fits) {
            return Shortage::MakesWay(&kept.name);
        }
        if comes_back && self.best_free(key, lease, now).is_some() {
            return Shortage::Free;
        }
        let selects = |attributes| lease.spec.selector.as_ref().is_none_or(|s| s.matches(attributes));
        let of_use = |key: &ObjectKey| self.resources.get(key).is_some_and(|r| selects(&r.spec.attributes));
        let held = self.held_slot(pool, asking, of_use);
        if pool.places() == 0
            && held.is_none()
            && let Some(limit) = pool.counted_limit()
        {
            return Shortage::AtLimit(limit);
        }
        let (at_once, elsewhere) = (pool.builds() == 0, self.has_build_in_flight(asking, key, now));
        let is_not_asked = at_once || elsewhere || comes_back || !pool.may_build(now);
        if pool.places() > 0 && is_not_asked && vacant() {
            return match (at_once, elsewhere) {
                (true, _) => Shortage::BuiltAtOnce(limits.max_concurrent_builds),
                (false, true) => Shortage::BuiltElsewhere,
                (false, false) => Shortage::Free,
            };
        }
        if let Some(held) = held {
            return held;
        }
        if let Some(stuck) = pool.stuck.iter().find(|key| of_use(key)) {
            return Shortage::Stuck(&stuck.name);
        }
        if let Some(lost) = pool.lost.iter().find(|key| of_use(key)) {
            return Shortage::Lost(&lost.name);
        }
        let listed = |slot: &str| pool.slots.as_ref()?.iter().find(|listed| listed.name == slot);
        let would_fit = |slot: &str| match &pool.slots {
            Some(_) => listed(slot).is_some_and(|slot| matching::fits_slot(&lease.spec, slot)),
            None => selects(&pool.object.spec.attributes),
        };
        if let Some((_, taken)) = pool.names_taken().find(|(slot, _)| would_fit(slot)) {
            return Shortage::NameTaken(&taken.name);
        }
        if pool.builds_take_time { Shortage::Taken } else { Shortage::InUse }
    }
}
