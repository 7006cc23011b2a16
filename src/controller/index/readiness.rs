//! How many a pool keeps, beside those that are held: `limits.minReady` idle resources of the default flavour are kept ready
//! for whoever comes next. Those that are missing are built for nobody, and the Idle clock takes only what is above it
//! (api.md, 3). And where `limits.maxResources` was lowered it shrinks, as its leases end.

use super::{Index, Key, ObjectKey, Pool, Wants};
use crate::{
    api::{MicroTime, Resource, step::Slot},
    lifecycle::{
        is_deleting, matching,
        pool::{self, Bucket, IdleClock},
        uid,
    },
};
use std::sync::Arc;

/// Whose a resource that is being built will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    /// A lease's that waits.
    Lease,
    /// Nobody's: it is to be kept ready.
    Nobody,
    /// It was built for a lease that does not wait any more.
    LeftOver,
}

impl Pool {
    /// The slot of this number, in a pool of resources that are all alike.
    pub(super) fn numbered(&self, name: String) -> Slot {
        Slot {
            name,
            attributes: self.object.spec.attributes.clone(),
            template_hash: self.template_hash.clone(),
            enabled: true,
            taken: false,
            identity: None,
        }
    }
}

impl Index {
    /// A pool's resources have changed: what is missing is ordered, and its idle ones look at their clocks.
    pub(super) fn tend_pool_of(&mut self, resource: &Resource, now: MicroTime) {
        let Some((key, pool)) = self.pool_of(resource) else { return };
        let key = key.clone();
        let spec = &pool.object.spec;
        if spec.limits.min_ready > 0 && spec.resource.idle_ttl.is_some() {
            let idle: Vec<_> = pool.idle.iter().map(|(_, idle)| Key::Resource(idle.clone())).collect();
            self.dirty.extend(idle);
        }
        self.shrink(&key, now);
        self.order(&key, now);
        self.replace_next(&key, now);
    }

    /// A build has ended: whoever counted on it, though it was not for them, may have to be served by another Blueprint.
    pub(super) fn look_elsewhere(&mut self, resource: &Resource, now: MicroTime) {
        let Some((own, pool)) = self.pool_of(resource) else { return };
        if !pool.builds_take_time {
            return;
        }
        let counting = pool.queue.values().flat_map(|class| class.values().take(pool.pending.len() + 1));
        let counting: Vec<_> = counting.filter(|lease| !self.has_own_build(lease, own)).cloned().collect();
        for lease in counting {
            self.serve(&lease, now);
        }
    }

    /// How many are to be built for nobody, beside those that are ordered.
    pub(super) fn missing(&self, pool: &Pool) -> usize {
        let ordered = pool.orders.values().filter(|lease| lease.is_none()).count();
        self.missing_but_for_orders(pool).saturating_sub(ordered)
    }

    /// How many are to be built for nobody, whether they are ordered or not: what is ready or will be is not missing.
    pub(super) fn missing_but_for_orders(&self, pool: &Pool) -> usize {
        let wanted = usize::try_from(pool.object.spec.limits.min_ready).unwrap_or(0);
        if wanted == 0 {
            return 0;
        }
        let default_flavour = matching::default_flavour(&pool.object.spec.resource);
        let built = |whom: Whom| {
            let built = pool.pending.iter().filter_map(|key| self.resources.get(key));
            built.filter(|r| self.built_for(r) == whom && r.spec.parameters == default_flavour).count()
        };
        // What is left over by others goes to those who wait and have none of their own, and only then counts as ready.
        let left_over = built(Whom::LeftOver);
        let classes = pool.queue.iter().filter(|(wants, _)| wants.flavours == default_flavour);
        let own = ObjectKey::of(&pool.object.metadata);
        let may_hold = |wants: &Wants| wants.namespace.as_ref().is_none_or(|namespace| self.may_hold(pool, namespace));
        let waiting = classes.filter(|(wants, _)| may_hold(wants)).flat_map(|(_, class)| class.values());
        let taken = waiting.filter(|key| !self.has_own_build(key, &own)).take(left_over);
        let coming = built(Whom::Nobody) + left_over - taken.count();
        wanted.saturating_sub(self.ready(pool).count() + coming)
    }

    /// The resources that are kept ready, the longest idle first.
    pub(super) fn ready<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a (MicroTime, ObjectKey)> {
        // Where all are alike none needs to be looked at.
        let alike = pool.object.spec.resource.parameters.is_empty();
        pool.idle.iter().filter(move |(_, key)| alike || self.is_of_default_flavour(key, pool))
    }

    fn is_of_default_flavour(&self, key: &ObjectKey, pool: &Pool) -> bool {
        let policy = &pool.object.spec.resource;
        self.resources.get(key).is_some_and(|r| r.spec.parameters == matching::default_flavour(policy))
    }

    /// Whose a resource that is being built will be, as it stands now. It is no reservation.
    fn built_for(&self, resource: &Resource) -> Whom {
        let Some(lease) = &resource.spec.requested_for else { return Whom::Nobody };
        let waits = self.lease_uids.get(&lease.uid).is_some_and(|lease| self.is_open(lease));
        if waits { Whom::Lease } else { Whom::LeftOver }
    }

    /// It waits, and no grant is on its way.
    pub(super) fn is_open(&self, key: &ObjectKey) -> bool {
        self.waiters.get(key).is_some_and(|waiter| waiter.offered.is_none())
            && self.leases.get(key).is_some_and(|lease| !self.is_claimed(lease))
    }

    /// Something is built or ordered for this lease, so that nothing needs to be ordered in this Blueprint.
    fn has_own_build(&self, key: &ObjectKey, blueprint: &ObjectKey) -> bool {
        let Some(lease) = self.leases.get(key).filter(|_| !bug!(BuildsTwice)) else { return false };
        let building = self.building.get(uid(&lease.metadata)).into_iter().flatten();
        let mut building = building.filter_map(|r| self.resources.get(r));
        self.waiters.get(key).is_some_and(|w| w.ordered.is_some()) || building.any(|r| self.flies(r, blueprint))
    }

    /// A build that is under way, as another Blueprint sees it: what is suspended before it has ended does not come, and one
    /// that fails, and is tried again in its place, is no reason not to be served elsewhere.
    fn flies(&self, resource: &Resource, blueprint: &ObjectKey) -> bool {
        let Some((own, pool)) = self.pool_of(resource) else { return false };
        !pool.object.spec.suspend && (own == blueprint || pool::failure(resource).is_none())
    }

    /// One build in flight for each lease, as a Blueprint sees it that could build another: its own; or one that is left over,
    /// since whom it was built for was served by another, and that nobody before it takes.
    pub(super) fn has_build_in_flight(&self, key: &ObjectKey, blueprint: &ObjectKey, now: MicroTime) -> bool {
        let left_over = |place: &ObjectKey| self.comes(key, place, &[Whom::LeftOver], blueprint, now);
        let queues = || self.waiters.get(key).into_iter().flat_map(|waiter| &waiter.queues);
        self.has_own_build(key, blueprint) || queues().any(|queued| left_over(&queued.blueprint))
    }

    /// One is built that will be this lease's, though it was not for it.
    pub(super) fn is_coming_for(&self, key: &ObjectKey, blueprint: &ObjectKey, now: MicroTime) -> bool {
        self.comes(key, blueprint, &[Whom::LeftOver, Whom::Nobody], blueprint, now)
    }

    /// So many are built for these in a Blueprint that one of them will be this lease's: it fits, and not as many wait before
    /// it who have none of their own. `seen_by` is the Blueprint that could build another.
    fn comes(
        &self,
        key: &ObjectKey,
        blueprint: &ObjectKey,
        whom: &[Whom],
        seen_by: &ObjectKey,
        now: MicroTime,
    ) -> bool {
        let (Some(pool), Some(lease)) = (self.blueprints.get(blueprint), self.leases.get(key)) else { return false };
        let nothing = pool.pending.is_empty() && pool.orders.is_empty();
        if pool.object.spec.suspend || nothing || !self.may_hold(pool, &key.namespace) {
            return false;
        }
        let policy = &pool.object.spec.resource;
        let pending = pool.pending.iter().filter_map(|pending| self.resources.get(pending));
        let fits = |r: &&Arc<Resource>| {
            whom.contains(&self.built_for(r))
                && matching::fits(&lease.spec, r, policy, now)
                && !is_deleting(&r.metadata)
                && self.flies(r, seen_by)
        };
        let mut coming = pending.filter(fits).count();
        if whom.contains(&Whom::Nobody) && matching::flavours(&lease.spec, policy) == matching::default_flavour(policy)
        {
            let will_do = |slot: &&String| {
                let listed =
                    pool.slots.as_ref().map(|slots| slots.iter().find(|listed| listed.name == **slot).cloned());
                let slot = listed.unwrap_or_else(|| Some(pool.numbered(String::new())));
                slot.is_some_and(|slot| matching::fits_slot(&lease.spec, &slot))
            };
            let orders = pool.orders.iter().filter(|(_, lease)| lease.is_none()).map(|(slot, _)| slot);
            coming += orders.filter(will_do).count();
        }
        let is_near = || {
            let queued = self.waiters.get(key)?.queues.iter().find(|queued| queued.blueprint == *blueprint)?;
            let waiting = pool.queue.get(&queued.wants)?.values();
            let mut waiting = waiting.filter(|other| !self.has_own_build(other, blueprint));
            Some(waiting.by_ref().take(coming).any(|other| other == key))
        };
        coming > 0 && is_near() == Some(true)
    }

    /// Whether the Idle clock of a resource runs. Of those above `minReady` the longest idle go first; each when the pool has
    /// had so many for that long.
    pub(super) fn idle_clock(&self, key: &ObjectKey, resource: &Resource) -> IdleClock {
        let Some((_, pool)) = self.pool_of(resource) else { return IdleClock::Runs };
        let kept = usize::try_from(pool.object.spec.limits.min_ready).unwrap_or(0);
        if kept == 0 || pool.object.spec.resource.idle_ttl.is_none() || pool::bucket(resource) != Bucket::Idle {
            return IdleClock::Runs;
        }
        let Some(before) = self.ready(pool).position(|(_, ready)| ready == key) else { return IdleClock::Runs };
        match self.ready(pool).nth(before + kept) {
            Some((since, _)) => IdleClock::RunsFrom(*since),
            None => IdleClock::Cleared,
        }
    }

    /// More than `maxResources`, those not counted that are over already: how many too many.
    fn too_many(pool: &Pool) -> usize {
        let limit = pool.object.spec.limits.max_resources.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let leased = usize::try_from(pool.counts.leased).unwrap_or(0);
        (pool.pending.len() + pool.idle.len() + leased).saturating_sub(limit)
    }

    /// A pool that is too large gives up what nobody holds: what is being built before what is idle, the longest idle first,
    /// and then whatever is released next.
    pub(super) fn is_surplus(&self, key: &ObjectKey, pool: &Pool) -> bool {
        let surplus = Self::too_many(pool);
        if surplus == 0 {
            return false;
        }
        let unheld = pool.pending.iter().chain(pool.idle.iter().map(|(_, idle)| idle));
        if unheld.clone().take(surplus).any(|unheld| unheld == key) {
            return true;
        }
        let left = surplus.saturating_sub(pool.pending.len() + pool.idle.len());
        let owned = self.owned.get(uid(&pool.object.metadata)).into_iter().flatten();
        let released = owned.filter(|owned| {
            self.resources.get(*owned).is_some_and(|r| pool::bucket(r) == Bucket::Leased && self.claims_held(r) == 0)
        });
        left > 0 && released.take(left).any(|released| released == key)
    }

    /// Which are too many may have changed: they look, and those that stay may be granted.
    fn shrink(&mut self, key: &ObjectKey, now: MicroTime) {
        let Some(pool) = self.blueprints.get_mut(key) else { return };
        let shrinks = Self::too_many(pool) > 0;
        let was = std::mem::replace(&mut pool.shrinking, shrinks);
        if !was && !pool.shrinking {
            return;
        }
        let unheld: Vec<_> = pool.pending.iter().chain(pool.idle.iter().map(|(_, idle)| idle)).cloned().collect();
        for resource in unheld {
            self.dirty.push(Key::Resource(resource.clone()));
            self.offer(&resource, now);
        }
    }
}
