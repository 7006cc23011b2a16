//! The index and the decisions together, without I/O: a world of objects in memory, random acts of users, and passes in
//! random order. After each act the world comes to rest, and then nobody waits beside what would serve them.

mod costs;
mod precedence;
mod told;

use super::{super::passes, Index, Key, ObjectKey};
use crate::{
    api::{
        Blueprint, BlueprintSpec, Command, CommandType, FINALIZER, Lease, LeasePhase, LeaseSpec, MicroTime, Resource,
        ResourcePhase, Selector,
        blueprint::{self, Host, HostsDriver, Limits, Recycle, ResourcePolicy, WebhookDriver},
        step::{Answer, Facts, FreeSteps, Report, StepKind},
    },
    driver::{Driver, Drivers, Work},
    lifecycle::{self, MetadataChange, Read, is_deleting, matching, matching::SharedNamespaces, pool, uid},
};
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// splitmix64: the same numbers for the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// A driver whose builds take their time, in a pool of resources that are all alike.
struct Slow;

impl Driver for Slow {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn free_steps(&self, _: Option<&Blueprint>, _: Option<&serde_json::Value>) -> FreeSteps {
        FreeSteps { build: false, ..FreeSteps::ALL }
    }

    fn allocate(&self, _: Work) -> BoxFuture<'static, serde_json::Value> {
        futures::future::ready(serde_json::json!({"driver": "webhook"})).boxed()
    }

    fn template_hash(&self, blueprint: &Blueprint) -> String {
        blueprint.spec.driver.webhook.as_ref().unwrap().client_config.url.clone()
    }

    fn build(&self, _: Work) -> BoxFuture<'static, Answer> {
        unreachable!("the world says when a build ends")
    }

    fn activate(&self, _: Work) -> BoxFuture<'static, Answer> {
        done().boxed()
    }

    fn tear_down_lease(&self, _: Work) -> BoxFuture<'static, Answer> {
        done().boxed()
    }

    fn tear_down_resource(&self, _: Work) -> BoxFuture<'static, Answer> {
        done().boxed()
    }
}

async fn done() -> Answer {
    Answer::Done(Facts::default())
}

struct World {
    index: Index,
    dice: Dice,
    now: MicroTime,
    version: u64,
    leases: BTreeMap<ObjectKey, Lease>,
    resources: BTreeMap<ObjectKey, Resource>,
    blueprints: BTreeMap<ObjectKey, Blueprint>,
    dirty: BTreeSet<Key>,
    /// Builds that have ended, by the UID of their resource.
    built: BTreeMap<String, Answer>,
    /// How many leases of the one namespace that there is may hold a Blueprint's resources.
    limit: Option<i64>,
    /// Status writes, for those that are to be counted.
    writes: usize,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

/// Applies a change of metadata to a map of objects, as the API server does. True: the object is gone.
fn change(meta: &mut ObjectMeta, change: MetadataChange, now: MicroTime) -> bool {
    let finalizers = meta.finalizers.get_or_insert_default();
    match change {
        MetadataChange::AddFinalizer => finalizers.push(FINALIZER.to_owned()),
        MetadataChange::RemoveFinalizer => finalizers.retain(|f| f != FINALIZER),
        MetadataChange::Prune => unreachable!("nobody here fills a queue"),
        MetadataChange::Delete => meta.deletion_timestamp = Some(Time(now.timestamp())),
    }
    meta.deletion_timestamp.is_some() && finalizers_of(meta).is_empty()
}

fn finalizers_of(meta: &ObjectMeta) -> Vec<String> {
    meta.finalizers.clone().unwrap_or_default()
}

macro_rules! store {
    ($put:ident, $edit:ident, $kind:ty, $map:ident, $see:ident, $lose:ident) => {
        fn $put(&mut self, mut object: $kind) {
            self.version += 1;
            object.metadata.resource_version = Some(self.version.to_string());
            self.index.$see(object.clone(), self.now);
            self.$map.insert(ObjectKey::of(&object.metadata), object);
        }

        fn $edit(&mut self, key: &ObjectKey, what: MetadataChange) {
            let Some(mut object) = self.$map.get(key).cloned() else { return };
            if change(&mut object.metadata, what, self.now) {
                self.$map.remove(key);
                self.index.$lose(&object.metadata, self.now);
            } else {
                self.$put(object);
            }
        }
    };
}

impl World {
    fn new(seed: u64) -> Self {
        let mut index = Index::new(Drivers::standard().with(Arc::new(Slow)), SharedNamespaces::default());
        let now = MicroTime::from(jiff::Timestamp::from_second(1_000_000).unwrap());
        index.start(now);
        Self {
            index,
            dice: Dice(seed),
            now,
            version: 0,
            leases: BTreeMap::new(),
            resources: BTreeMap::new(),
            blueprints: BTreeMap::new(),
            dirty: BTreeSet::new(),
            built: BTreeMap::new(),
            limit: (seed % 3 == 1).then_some(2),
            writes: 0,
        }
    }

    store!(put_lease, edit_lease, Lease, leases, see_lease, lose_lease);
    store!(put_resource, edit_resource, Resource, resources, see_resource, lose_resource);
    store!(put_blueprint, edit_blueprint, Blueprint, blueprints, see_blueprint, lose_blueprint);

    fn meta(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            uid: Some(format!("{name}-{}", self.version)),
            creation_timestamp: Some(Time(self.now.timestamp())),
            finalizers: Some(vec![FINALIZER.into()]),
            generation: Some(1),
            ..ObjectMeta::default()
        }
    }

    fn ask(&mut self, name: &str, spec: LeaseSpec) {
        let lease = Lease { metadata: self.meta(name), spec, status: None };
        self.put_lease(lease);
    }

    fn list(&mut self, name: &str, hosts: &[Host], limits: Limits, recycle: Recycle) {
        let inventory = HostsDriver { inventory: hosts.to_vec(), credentials_secret_ref: None };
        let mut spec = BlueprintSpec {
            resource_type: "host".into(),
            limits,
            driver: blueprint::Driver { hosts: Some(inventory), ..Default::default() },
            ..BlueprintSpec::default()
        };
        spec.lease.recycle = recycle;
        self.put_spec(name, spec);
    }

    /// A pool of resources that are all alike but for their flavour, and that take their time to build.
    fn pool(&mut self, name: &str, limits: Limits, template: &str) {
        let mut webhook = WebhookDriver::default();
        webhook.client_config.url = template.into();
        let spec = BlueprintSpec {
            resource_type: "host".into(),
            limits,
            attributes: [("size".to_owned(), "big".to_owned())].into(),
            resource: ResourcePolicy {
                parameters: vec!["flavour".into()],
                defaults: [("flavour".to_owned(), "a".to_owned())].into(),
                idle_ttl: Some(crate::api::Duration::from_secs(10)),
                reclaim_after: Some(crate::api::Duration::from_secs(3)),
                ..ResourcePolicy::default()
            },
            driver: blueprint::Driver { webhook: Some(webhook), ..Default::default() },
            ..BlueprintSpec::default()
        };
        self.put_spec(name, spec);
    }

    fn put_spec(&mut self, name: &str, mut spec: BlueprintSpec) {
        spec.limits.max_leases_per_namespace = self.limit;
        let metadata =
            self.blueprints.get(&key(name)).map_or_else(|| self.meta(name), |before| before.metadata.clone());
        let status = self.blueprints.get(&key(name)).and_then(|before| before.status.clone());
        self.put_blueprint(Blueprint { metadata, spec, status });
    }

    /// Passes in random order, until nothing is dirty.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            self.dirty.extend(self.index.take_dirty(self.now));
            if self.dirty.is_empty() {
                return;
            }
            let chosen = self.dice.below(self.dirty.len());
            let next = self.dirty.iter().nth(chosen).cloned().unwrap();
            self.dirty.remove(&next);
            match &next {
                Key::Lease(object) => self.lease_pass(object),
                Key::Resource(object) => self.resource_pass(object),
                Key::Blueprint(object) => self.blueprint_pass(object),
            }
        }
        panic!("it does not come to rest; still dirty: {:?}", self.dirty);
    }

    fn lease_pass(&mut self, object: &ObjectKey) {
        let mut reports: Vec<Report> = Vec::new();
        let mut known = passes::lease::Quorum::Nothing;
        loop {
            let Some(around) = self.index.around_lease(object, self.now) else { return };
            let driver = self.index.drivers.named("hosts").cloned();
            let decision = {
                let asked = passes::lease::ask(&around).now_or_never().unwrap();
                let surroundings = passes::lease::surroundings(&around, &known, driver.as_ref(), &reports, &asked);
                lifecycle::lease::decide(&around.lease, &surroundings, self.now)
            };
            if decision.reads.contains(&Read::BoundResource) {
                known = passes::lease::Quorum::Gone;
                continue;
            }
            if let Some(order) = &decision.step {
                let held = passes::lease::holding(&around, &decision.status, &known);
                let driver = held.as_ref().and_then(|h| h.driver.clone()).or(driver).unwrap();
                let work = passes::lease::work(order, &around, held);
                reports.push(run(&driver, order.step.kind, work, &order.step));
                continue;
            }
            if Some(&decision.status) != around.lease.status.as_ref() && decision.status != Default::default() {
                self.writes += 1;
                self.put_lease(Lease { status: Some(decision.status), ..(*around.lease).clone() });
            } else if let Some(what) = decision.metadata {
                self.edit_lease(object, what);
            }
            return;
        }
    }

    fn resource_pass(&mut self, object: &ObjectKey) {
        let mut reports: Vec<Report> = Vec::new();
        let mut known = passes::resource::Known::default();
        let mut offered = Vec::new();
        while let Some(around) = self.index.around_resource(object, self.now) {
            offered.clone_from(&around.offered);
            let decision = {
                let asked = passes::resource::ask(&around, &known).now_or_never().unwrap();
                let surroundings = passes::resource::surroundings(&around, &known, &reports, &asked);
                lifecycle::resource::decide(&around.held.resource, &surroundings, self.now)
            };
            if let Some(read) = decision.reads.first() {
                self.read(&around.held.resource, read, &mut known);
                continue;
            }
            let on_record = around.held.resource.status.clone().unwrap_or_default();
            if let Some(order) = &decision.step {
                let driver = around.held.driver.clone().unwrap();
                if driver.free_steps(None, None).contains(order.step.kind) {
                    let work = passes::resource::work(order, &around, &known);
                    reports.push(run(&driver, order.step.kind, work, &order.step));
                    continue;
                }
                let ended = self.built.get(uid(&around.held.resource.metadata)).filter(|_| reports.is_empty());
                if decision.status == on_record
                    && let Some(answer) = ended.cloned()
                {
                    reports.push(Report { step: order.step.clone(), answer, failures: 0, retry_at: None });
                    continue;
                }
            }
            if Some(&decision.status) != around.held.resource.status.as_ref() && decision.status != Default::default() {
                self.writes += 1;
                self.put_resource(Resource { status: Some(decision.status), ..(*around.held.resource).clone() });
                self.one_is_replaced_at_a_time(object);
            } else if let Some(what) = decision.metadata {
                self.edit_resource(object, what);
            }
            break;
        }
        self.index.settle_offers(object, &offered, self.now);
    }

    fn read(&self, resource: &Resource, read: &Read, known: &mut passes::resource::Known) {
        match read {
            Read::Blueprint => {
                let name = &resource.spec.blueprint_ref;
                let found = self.blueprints.get(&key(&name.name)).filter(|b| uid(&b.metadata) == name.uid);
                known.blueprint = Some(match found {
                    None => passes::resource::BlueprintFact::Gone,
                    Some(b) if is_deleting(&b.metadata) => passes::resource::BlueprintFact::Deleting(b.clone().into()),
                    Some(b) => passes::resource::BlueprintFact::Confirmed(b.clone().into()),
                });
            }
            Read::LeasesOnSlot => known.slot_is_clear = Some(true),
            Read::ClaimedLease { uid } => {
                known.gone_leases.insert(uid.clone());
            }
            Read::ResourcesOfBlueprint => {
                let own = |r: &&Resource| r.spec.blueprint_ref.uid == resource.spec.blueprint_ref.uid;
                let live = self.resources.values().filter(own).filter(|r| r.phase() != ResourcePhase::Destroyed);
                known.others = Some(live.filter(|r| uid(&r.metadata) != uid(&resource.metadata)).count() as i64);
            }
            Read::BoundResource | Read::Expiry | Read::Hook { .. } => panic!("not a resource's question: {read:?}"),
        }
    }

    fn blueprint_pass(&mut self, object: &ObjectKey) {
        self.index.retry_builds(object, self.now);
        let Some(view) = self.index.around_blueprint(object, self.now) else { return };
        let mut slots = Vec::new();
        for order in view.orders {
            if let Some((slot, lease)) = order.make {
                let mut resource = passes::blueprint::draft(&view.blueprint, &slot, lease.as_deref());
                let name = resource.metadata.name.clone().unwrap();
                if !self.resources.contains_key(&key(&name)) {
                    let meta = self.meta(&name);
                    resource.metadata = ObjectMeta { labels: resource.metadata.labels, ..meta };
                    self.put_resource(resource);
                    self.within_limits(object);
                }
            }
            slots.push(order.slot);
        }
        self.index.settle_orders(object, &slots, self.now);
        self.dirty.extend(self.index.take_dirty(self.now));
        for due in self.index.due_reclaims(object, self.now).0 {
            let mut resource = (*due.resource).clone();
            resource.spec.commands.push(pool::reclaim(&resource, &due.lease));
            self.put_resource(resource);
        }
        let Some(mut view) = self.index.around_blueprint(object, self.now) else { return };
        let own = uid(&view.blueprint.metadata).to_owned();
        view.around.resources_left = Some(self.resources.values().filter(|r| r.spec.blueprint_ref.uid == own).count());
        let decision = lifecycle::blueprint::decide(&view.blueprint, &view.around, self.now);
        if Some(&decision.status) != view.blueprint.status.as_ref() {
            self.put_blueprint(Blueprint { status: Some(decision.status), ..(*view.blueprint).clone() });
        } else if let Some(what) = decision.metadata {
            self.edit_blueprint(object, what);
        }
    }

    /// Nothing is made that is one too many.
    fn within_limits(&self, blueprint: &ObjectKey) {
        let Blueprint { spec, metadata, .. } = &self.blueprints[blueprint];
        let own = self.resources.values().filter(|r| r.spec.blueprint_ref.uid == uid(metadata));
        let (mut live, mut pending) = (0, 0);
        for phase in own.map(Resource::phase) {
            live += i64::from(phase != ResourcePhase::Destroyed);
            pending += i64::from(phase == ResourcePhase::Pending);
        }
        assert!(spec.limits.max_resources.is_none_or(|limit| live <= limit), "{live} of {blueprint}");
        assert!(
            spec.driver.hosts.is_some() || pending <= spec.limits.max_concurrent_builds,
            "{pending} of {blueprint} are built at once"
        );
    }

    /// A resource that is given up for being out of date is the only one, and nothing is being built.
    fn one_is_replaced_at_a_time(&self, object: &ObjectKey) {
        let replaced = |r: &Resource| {
            let conditions = r.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
            r.slot().is_some_and(|slot| slot.parse::<u32>().is_ok())
                && lifecycle::conditions::true_reason(conditions, "Released") == Some("Outdated")
        };
        let resource = &self.resources[object];
        if replaced(resource) {
            let blueprint = &resource.spec.blueprint_ref.uid;
            let own = self.resources.values().filter(|r| r.spec.blueprint_ref.uid == *blueprint);
            let others = own.filter(|r| r.phase() == ResourcePhase::Pending || replaced(r)).count();
            assert_eq!(others, 1, "{object} is given up beside others");
        }
    }

    /// Time passes, and whoever would wake by then has.
    fn time_passes(&mut self, seconds: i64) {
        self.now = self.now.after(crate::api::Duration::from_secs(seconds));
        self.dirty.extend(self.blueprints.keys().cloned().map(Key::Blueprint));
        self.dirty.extend(self.resources.keys().cloned().map(Key::Resource));
    }

    /// At rest: nothing is under way, no slot holds too many, and nobody waits beside what would serve them.
    fn check(&self) {
        assert!(self.index.offers.is_empty(), "offers are left: {:?}", self.index.offers);
        for (name, pool) in &self.index.blueprints {
            assert!(pool.orders.is_empty(), "orders of {name} are left: {:?}", pool.orders);
        }
        for resource in self.resources.values() {
            // A limit that is lowered takes nothing from those who hold it: two is the most that was ever allowed.
            assert!(resource.claims().len() <= 2, "{:?}", resource.claims());
            for claim in resource.claims() {
                let lease = self.leases.values().find(|l| uid(&l.metadata) == claim.uid).expect("its lease is there");
                assert!(
                    matches!(lease.phase(), LeasePhase::Active | LeasePhase::Released),
                    "{claim:?} of {:?}: {:?}",
                    resource.metadata.name,
                    lease.status
                );
            }
        }
        let waiting = self.leases.values().filter(|l| l.phase() == LeasePhase::Pending);
        for lease in waiting {
            for (name, blueprint) in &self.blueprints {
                if !matching::is_candidate(lease, blueprint, &SharedNamespaces::default()) {
                    continue;
                }
                let pool = &self.index.blueprints[name];
                let too_many = |r: &Resource| self.index.is_surplus(&ObjectKey::of(&r.metadata), pool);
                let own = self.resources.values().filter(|r| r.spec.blueprint_ref.uid == uid(&blueprint.metadata));
                for resource in own {
                    let slot = pool::slot_state(resource, pool.slots.as_ref().map(|s| s.as_slice()));
                    assert!(!too_many(resource) || resource.phase() == ResourcePhase::Destroyed);
                    let room = pool::room(resource, blueprint, slot, resource.claims().len());
                    let fits = matching::fits(&lease.spec, resource, &blueprint.spec.resource, self.now);
                    let may_hold = self.index.may_hold(pool, "ns");
                    // What somebody still holds drains for a lease ahead.
                    let drains = pool.held_back.contains_key(&ObjectKey::of(&resource.metadata))
                        && !resource.claims().is_empty();
                    assert!(
                        room == 0 || !fits || !may_hold || drains,
                        "{:?} waits beside {:?}",
                        lease.metadata.name,
                        resource.metadata.name
                    );
                }
                let has_build = self.index.has_build_in_flight(&ObjectKey::of(&lease.metadata), name, self.now);
                let flavour = matching::flavours(&lease.spec, &blueprint.spec.resource);
                if has_build
                    || pool.flavour_put_off(&flavour, self.now).is_some()
                    || !self.index.may_build_for(pool, "ns")
                {
                    continue;
                }
                let vacant = self.index.vacant_slot(name, self.now, |slot| matching::fits_slot(&lease.spec, slot));
                assert!(vacant.is_none(), "{:?} waits beside a vacant slot of {name}: {vacant:?}", lease.metadata.name);
            }
        }
        for (name, pool) in &self.index.blueprints {
            let own = self.resources.values().filter(|r| r.spec.blueprint_ref.uid == uid(&pool.object.metadata));
            let held: usize = own.map(|r| self.index.claims_held(r)).sum();
            assert!(self.limit.is_none_or(|limit| held as i64 <= limit), "{held} of one namespace hold {name}");
            // What is counted as things change is what there is.
            let counted = if self.limit.is_some() { held } else { 0 };
            assert_eq!(pool.held.of("ns"), counted, "leases of one namespace hold {name}");
            self.nobody_waits_for_room(name, pool);
            let outdated = self.index.next_replaced(pool);
            assert!(outdated.is_none(), "{outdated:?} of {name} is out of date, and nothing replaces it");
            let missing = self.index.missing(pool);
            let vacant = self.index.vacant_slot(name, self.now, |_| true);
            assert!(missing == 0 || vacant.is_none(), "{missing} are missing in {name}, and there is {vacant:?}");
            let kept = usize::try_from(pool.object.spec.limits.min_ready).unwrap();
            let ready = self.index.ready(pool).count();
            let clocks = self.index.ready(pool).filter(|(_, key)| {
                let idle = self.resources[key].status.as_ref().unwrap();
                idle.deadlines.iter().any(|d| d.name == crate::api::DeadlineName::Idle)
            });
            let (clocks, expected) = (clocks.count(), ready.saturating_sub(kept));
            assert!(clocks == expected || pool.object.spec.resource.idle_ttl.is_none(), "{name}: {clocks} of {ready}");
        }
    }

    /// As many make room as somebody waits for: no resource that nobody who waits can use stays beyond its grace beside them.
    fn nobody_waits_for_room(&self, name: &ObjectKey, pool: &super::Pool) {
        let spec = &pool.object.spec;
        let full = pool.places() == 0 && self.index.may_build_for(pool, "ns");
        if pool.slots.is_some() || !pool.may_build(self.now) || !full {
            return;
        }
        let waits = |lease: &&ObjectKey| {
            let object = &self.leases[*lease];
            let flavour = matching::flavours(&object.spec, &spec.resource);
            matching::fits_slot(&object.spec, &pool.numbered(String::new()))
                && pool.flavour_put_off(&flavour, self.now).is_none()
                && !self.index.has_build_in_flight(lease, name, self.now)
        };
        let waiting: Vec<_> = pool.queue.values().flat_map(|class| class.values()).filter(waits).collect();
        let rather = |lease: &&&ObjectKey| self.index.waiters[*lease].queues[0].blueprint == *name;
        let fits_nobody = |r: &Resource| {
            let fits = |l: &&ObjectKey| matching::fits(&self.leases[*l].spec, r, &spec.resource, self.now);
            !pool.queue.values().flat_map(|class| class.values()).any(|l| fits(&l))
        };
        let own = self.resources.values().filter(|r| r.spec.blueprint_ref.uid == uid(&pool.object.metadata));
        let over = |r: &&Resource| pool::idle_since(r).after(spec.resource.reclaim_after.unwrap()) <= self.now;
        let idle = own.filter(|r| pool::bucket(r) == pool::Bucket::Idle && fits_nobody(r)).filter(over).count();
        // Those that are going have gone by now: the teardown takes no time.
        let first = waiting.iter().filter(rather).count();
        assert!(idle == 0 || first == 0, "{idle} are idle in {name} beside {waiting:?}");
    }

    /// One act of somebody.
    fn act(&mut self) {
        let name = format!("l{}", self.dice.below(12));
        let lease = self.leases.get(&key(&name)).cloned();
        let host = |n: usize| Host {
            name: format!("h{n}"),
            address: Some(format!("192.0.2.{n}")),
            attributes: [("size".to_owned(), if n.is_multiple_of(2) { "big" } else { "small" }.to_owned())].into(),
            ..Host::default()
        };
        match (self.dice.below(15), lease) {
            (10 | 13 | 14, _) => {
                // A build ends.
                let mut pending = self.resources.iter().filter(|(_, r)| r.phase() == ResourcePhase::Pending);
                let chosen = self.dice.0 as usize % pending.clone().count().max(1);
                if let Some((object, resource)) = pending.nth(chosen) {
                    let (object, uid) = (object.clone(), uid(&resource.metadata).to_owned());
                    let failure = crate::api::Failure { message: "no luck".into(), ..Default::default() };
                    let fails = self.dice.below(6) == 0;
                    let answer = if fails { Answer::FailedForGood(failure) } else { Answer::Done(Facts::default()) };
                    self.built.insert(uid, answer);
                    self.dirty.insert(Key::Resource(object));
                }
            }
            (11, _) => {
                let limits = Limits {
                    max_resources: Some(4 - self.dice.below(3) as i64),
                    min_ready: self.dice.below(3) as i64,
                    max_concurrent_builds: 2,
                    ..Limits::default()
                };
                let template = ["old", "new"][self.dice.below(2)];
                self.pool("slow", limits, template);
            }
            (12, _) => {
                let seconds = 1 + self.dice.below(15) as i64;
                self.time_passes(seconds);
            }
            (0..=3, None) => {
                let size = ["big", "small"][self.dice.below(2)];
                let selector = Selector { match_labels: [("size".into(), size.into())].into(), ..Selector::default() };
                let slow = crate::api::lease::BlueprintName { namespace: None, name: "slow".into() };
                let spec = LeaseSpec {
                    resource_type: "host".into(),
                    blueprints: if self.dice.below(3) == 0 { vec![slow] } else { Vec::new() },
                    selector: (self.dice.below(2) == 0).then_some(selector),
                    priority: self.dice.below(3) as i32,
                    parameters: match self.dice.below(4) {
                        0 => [("flavour".to_owned(), "b".to_owned())].into(),
                        _ => BTreeMap::new(),
                    },
                    ..LeaseSpec::default()
                };
                self.ask(&name, spec);
            }
            (0..=3, Some(mut lease)) if lease.phase() != LeasePhase::Destroyed => {
                lease.spec.commands.push(Command {
                    id: format!("c{}", self.version),
                    type_: CommandType::Release,
                    reason: None,
                    issued_by: None,
                    hold: (self.dice.below(4) == 0).then_some(crate::api::Duration::from_secs(60)),
                    at: None,
                    after: None,
                    never: None,
                });
                self.put_lease(lease);
            }
            (0..=4, Some(_)) => self.edit_lease(&key(&name), MetadataChange::Delete),
            (5, _) => {
                let chosen = self.dice.below(self.resources.len().max(1));
                if let Some(object) = self.resources.keys().nth(chosen).cloned() {
                    self.edit_resource(&object, MetadataChange::Delete);
                }
            }
            (6..=8, _) => {
                // Two Blueprints that list the same machines, some of them disabled or changed.
                let mut hosts: Vec<Host> = (1..=5).map(host).collect();
                hosts.retain(|_| self.dice.below(4) > 0);
                for host in &mut hosts {
                    host.disabled = (self.dice.below(4) == 0).then_some(true);
                    host.user = (self.dice.below(4) == 0).then(|| "ci".to_owned());
                }
                let limits = Limits {
                    max_resources: (self.dice.below(3) == 0).then_some(2),
                    leases_per_resource: 1 + self.dice.below(2) as i64,
                    ..Limits::default()
                };
                let recycle = if self.dice.below(3) == 0 { Recycle::Destroy } else { Recycle::Reuse };
                let name = ["one", "two"][self.dice.below(2)];
                if !self.blueprints.get(&key(name)).is_some_and(|b| is_deleting(&b.metadata)) {
                    let limits =
                        if recycle == Recycle::Destroy { Limits { leases_per_resource: 1, ..limits } } else { limits };
                    self.list(name, &hosts, limits, recycle);
                }
            }
            (9, _) if self.dice.below(4) == 0 => self.edit_blueprint(&key("two"), MetadataChange::Delete),
            _ => {
                if let Some(mut blueprint) = self.blueprints.get(&key("one")).cloned() {
                    blueprint.spec.suspend = self.dice.below(3) == 0;
                    self.put_blueprint(blueprint);
                }
            }
        }
    }
}

fn run(driver: &Arc<dyn Driver>, kind: StepKind, work: Work, step: &crate::api::step::Step) -> Report {
    let answer = super::super::steps::call(&**driver, kind, work).now_or_never().expect("it takes no time");
    Report { step: step.clone(), answer, failures: 0, retry_at: None }
}

#[test]
fn at_rest_nobody_waits_beside_what_would_serve_them() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for step in 0..60 {
            world.act();
            // Sometimes several things happen before anybody looks.
            if world.dice.below(3) > 0 {
                world.settle();
                let at_rest = std::panic::AssertUnwindSafe(|| world.check());
                if let Err(panic) = std::panic::catch_unwind(at_rest) {
                    eprintln!("seed {seed}, after act {step}");
                    std::panic::resume_unwind(panic);
                }
                world.time_passes(1);
            }
        }
    }
}

#[test]
fn a_release_and_the_next_grant_are_one_write_of_the_resource() {
    let mut world = World::new(7);
    let host = Host { name: "h1".into(), ..Host::default() };
    world.list("pool", &[host], Limits::default(), Recycle::Reuse);
    for name in ["a", "b"] {
        world.ask(name, LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() });
        world.settle();
    }
    // Its first status told the second why it waits.
    assert_eq!(world.leases[&key("b")].phase(), LeasePhase::Pending);
    world.writes = 0;
    let mut lease = world.leases[&key("a")].clone();
    lease.metadata.deletion_timestamp = Some(Time(world.now.timestamp()));
    world.put_lease(lease);
    world.settle();
    // The lease's end, the resource's drop and grant in one, and the next lease's beginning.
    assert_eq!(world.leases[&key("b")].phase(), LeasePhase::Active);
    assert_eq!(world.writes, 3);
}

#[test]
fn an_old_version_does_not_come_back_and_neither_does_what_is_gone() {
    let mut world = World::new(1);
    world.list("pool", &[Host { name: "h1".into(), ..Host::default() }], Limits::default(), Recycle::Reuse);
    world.ask("a", LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() });
    let first = world.leases[&key("a")].clone();
    world.settle();
    world.index.see_lease(first.clone(), world.now);
    assert_eq!(world.index.leases[&key("a")].phase(), LeasePhase::Active);
    let resource = world.resources[&key("pool--h1")].clone();
    assert_eq!(resource.phase(), ResourcePhase::Active);

    world.edit_lease(&key("a"), MetadataChange::Delete);
    world.settle();
    assert!(!world.leases.contains_key(&key("a")));
    world.index.see_lease(first, world.now);
    assert!(!world.index.leases.contains_key(&key("a")), "a late answer brought it back");
}

/// Whoever was told that a Blueprint does not admit them is told anew when that is gone, though they were in no queue of its.
#[test]
fn who_was_not_admitted_is_told_when_the_blueprint_goes() {
    let mut world = World::new(3);
    world.list("pool", &[Host { name: "h1".into(), ..Host::default() }], Limits::default(), Recycle::Reuse);
    let mut lease = Lease::new("a", LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() });
    (lease.metadata.namespace, lease.metadata.uid) = (Some("elsewhere".into()), Some("uid-of-a".into()));
    lease.spec.blueprints =
        vec![crate::api::lease::BlueprintName { namespace: Some("ns".into()), name: "pool".into() }];
    world.index.see_lease(lease, world.now);
    let gone = world.index.blueprints.values().next().unwrap().object.metadata.clone();
    world.index.take_dirty(world.now);
    world.index.lose_blueprint(&gone, world.now);
    assert!(world.index.take_dirty(world.now).contains(&Key::Lease(ObjectKey::new("elsewhere", "a"))));
}

/// Drivers keep watches for an object until they are told that it is gone, by whomever.
#[test]
fn what_has_gone_is_said_once_with_its_uid() {
    let mut world = World::new(5);
    let lease = |name: &str, id: &str| {
        let mut lease = Lease::new(name, LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() });
        (lease.metadata.namespace, lease.metadata.uid) = (Some("ns".into()), Some(id.into()));
        lease.metadata.resource_version = Some(id.len().to_string());
        lease
    };
    world.index.see_lease(lease("a", "1"), world.now);
    world.index.see_lease(lease("b", "2"), world.now);
    assert_eq!(world.index.take_lost(), [""; 0]);
    world.index.lose_lease(&lease("a", "1").metadata, world.now);
    world.index.lose_lease(&lease("a", "1").metadata, world.now);
    assert_eq!(world.index.take_lost(), ["1"]);
    // Its end was not seen: a namesake is.
    world.index.see_lease(lease("b", "22"), world.now);
    assert_eq!(world.index.take_lost(), ["2"]);
    assert_eq!(world.index.take_lost(), [""; 0]);
}

/// Between the end of its `queueTimeout` and its own pass, a lease stands in the queue still.
#[test]
fn nothing_is_ordered_for_whom_it_would_not_be_made() {
    let mut world = World::new(3);
    world.pool("pool", Limits { max_resources: Some(1), ..Limits::default() }, "a");
    world.settle();
    let spec = LeaseSpec {
        resource_type: "host".into(),
        queue_timeout: Some(crate::api::Duration::from_secs(5)),
        ..LeaseSpec::default()
    };
    world.ask("a", spec);
    assert_eq!(world.index.blueprints[&key("pool")].orders.len(), 1);
    world.now = world.now.after(crate::api::Duration::from_secs(6));
    world.blueprint_pass(&key("pool"));
    assert!(world.resources.is_empty());
    assert!(world.index.blueprints[&key("pool")].orders.is_empty(), "what was not made is ordered again");
}

/// Somebody waits for the next pass of what was asked for something, deleted, granted or offered; of nothing else.
#[test]
fn whom_somebody_waits_for() {
    let mut world = World::new(5);
    world.list("pool", &[Host { name: "h1".into(), ..Host::default() }], Limits::default(), Recycle::Reuse);
    world.ask("a", LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() });
    let (lease, resource) = (Key::Lease(key("a")), Key::Resource(key("pool--h1")));
    assert!(!world.index.is_asked(&lease), "it waits in the queue");
    world.settle();
    assert!(!world.index.is_asked(&lease) && !world.index.is_asked(&resource), "all is at rest");

    let mut asked = world.leases[&key("a")].clone();
    let release = serde_json::from_value(serde_json::json!({"id": "c", "type": "Release"}));
    asked.spec.commands.push(release.unwrap());
    world.put_lease(asked);
    assert!(world.index.is_asked(&lease), "a command is not consumed");
    world.settle();
    assert!(!world.index.is_asked(&lease), "it is");

    world.ask("b", LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() });
    assert!(world.index.is_asked(&resource), "it is offered to somebody");
    let mut deleted = world.resources[&key("pool--h1")].clone();
    deleted.metadata.deletion_timestamp = Some(Time(world.now.timestamp()));
    world.put_resource(deleted);
    assert!(world.index.is_asked(&resource), "it is deleted");
    assert!(!world.index.is_asked(&Key::Lease(key("nobody"))) && !world.index.is_asked(&Key::Blueprint(key("pool"))));
}
