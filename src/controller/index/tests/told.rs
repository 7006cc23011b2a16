//! What those who wait are told: the place that they have, and why nothing serves them.

use super::*;
use crate::{
    api::{Wish, blueprint::From, lease::BlueprintName},
    lifecycle::conditions::{self, Truth},
};

impl World {
    /// Until the queues have rested, and all is told.
    pub(super) fn rest(&mut self) {
        for _ in 0..3 {
            self.settle();
            self.now = self.now.after(crate::api::Duration::from_secs(2));
            self.index.sweep(self.now);
        }
        self.settle();
    }

    fn place(&self, lease: &ObjectKey) -> Option<i64> {
        self.leases[lease].status.as_ref().unwrap().queue_position
    }

    /// The reason and the message of `Acquired`, as they are written.
    pub(super) fn told(&self, lease: &ObjectKey) -> (String, String) {
        let acquired = conditions::get(&self.leases[lease].status.as_ref().unwrap().conditions, "Acquired").unwrap();
        (acquired.reason.clone(), acquired.message.clone())
    }

    /// Why this lease would wait, as things are.
    fn why(&self, lease: &str) -> (&'static str, String) {
        let (rung, message) = self.index.why(&self.leases[&key(lease)], self.now);
        (rung.as_str(), message)
    }

    /// A pool `slow` of so many, the first of which the lease `holder` has; and the lease `waiter`.
    fn one_holds(max_resources: i64) -> Self {
        let mut world = Self::new(3);
        world.pool("slow", Limits { max_resources: Some(max_resources), ..Limits::default() }, "a");
        world.ask("holder", any());
        world.settle();
        world.build_all();
        assert_eq!(world.leases[&key("holder")].phase(), LeasePhase::Active);
        world
    }

    pub(super) fn build_all(&mut self) {
        for (object, resource) in &self.resources {
            self.built.insert(uid(&resource.metadata).to_owned(), Answer::Done(Facts::default()));
            self.dirty.insert(Key::Resource(object.clone()));
        }
        self.settle();
    }

    /// Changes a Resource as if its own pass had.
    fn change_resource(&mut self, name: &str, change: impl FnOnce(&mut crate::api::ResourceStatus)) {
        let mut resource = self.resources[&key(name)].clone();
        change(resource.status.get_or_insert_default());
        self.put_resource(resource);
    }
}

pub(super) fn any() -> LeaseSpec {
    LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() }
}

fn named(blueprint: &str) -> LeaseSpec {
    LeaseSpec { blueprints: vec![BlueprintName { namespace: Some("ns".into()), name: blueprint.into() }], ..any() }
}

pub(super) fn host(n: usize) -> Host {
    Host { name: format!("h{n}"), address: Some(format!("192.0.2.{n}")), ..Host::default() }
}

/// One that is not admitted any more stands in no queue, and those behind it move up.
#[test]
fn who_leaves_all_queues_has_no_place() {
    let mut world = World::new(3);
    world.list("pool", &[host(1)], Limits::default(), Recycle::Reuse);
    let admit = |world: &mut World, from: From| {
        let mut blueprint = world.blueprints[&key("pool")].clone();
        blueprint.spec.allowed_namespaces.from = from;
        world.put_blueprint(blueprint);
        world.rest();
    };
    admit(&mut world, From::All);
    world.ask("holder", any());
    world.settle();
    let mut lease = Lease { metadata: world.meta("b"), spec: named("pool"), status: None };
    lease.metadata.namespace = Some("elsewhere".into());
    let elsewhere = ObjectKey::of(&lease.metadata);
    world.put_lease(lease);
    world.settle();
    world.ask("c", any());
    world.rest();
    assert_eq!((world.place(&elsewhere), world.place(&key("c"))), (Some(1), Some(2)));
    admit(&mut world, From::Same);
    assert_eq!((world.place(&elsewhere), world.place(&key("c"))), (None, Some(1)));
    assert_eq!(world.told(&elsewhere).0, "NotAuthorized");
    admit(&mut world, From::All);
    assert_eq!((world.place(&elsewhere), world.place(&key("c"))), (Some(1), Some(2)), "it has kept its turn");
}

/// Nor has anybody a place in the queue of a Blueprint that is gone.
#[test]
fn who_waits_for_what_is_gone_has_no_place() {
    let mut world = World::new(3);
    world.list("pool", &[Host { disabled: Some(true), ..host(1) }], Limits::default(), Recycle::Reuse);
    for name in ["a", "b"] {
        world.ask(name, any());
        world.rest();
    }
    assert_eq!((world.place(&key("a")), world.place(&key("b"))), (Some(1), Some(2)));
    world.edit_blueprint(&key("pool"), MetadataChange::Delete);
    world.rest();
    assert!(world.blueprints.is_empty());
    assert_eq!((world.place(&key("a")), world.place(&key("b"))), (None, None));
    assert_eq!(world.told(&key("a")).0, "NoMatchingBlueprint");
}

#[test]
fn a_driver_that_is_not_here_builds_nothing() {
    let mut world = World::new(3);
    let driver = blueprint::Driver { working_copy: Some(Default::default()), ..Default::default() };
    let limits = Limits { max_resources: Some(1), ..Limits::default() };
    world
        .put_spec("copies", BlueprintSpec { resource_type: "host".into(), limits, driver, ..BlueprintSpec::default() });
    world.ask("l", any());
    world.rest();
    let told = "Blueprint ns/copies cannot be built from: this controller has no driver workingCopy";
    assert_eq!(world.told(&key("l")), ("BuildFailing".into(), told.into()));
}

/// Of two that could, one builds: the other has room.
#[test]
fn one_build_for_each_lease_and_that_is_told() {
    let mut world = World::new(3);
    world.limit = None;
    for name in ["a", "b"] {
        world.pool(name, Limits { max_resources: Some(1), ..Limits::default() }, "t");
    }
    world.ask("l", any());
    world.rest();
    let told = "Blueprint ns/a is building one; Blueprint ns/b has room, and is not asked, for another Blueprint is building one";
    assert_eq!(world.told(&key("l")), ("Building".into(), told.into()));
}

#[test]
fn a_limit_is_told_though_a_host_is_free() {
    let mut world = World::new(3);
    world.list("pool", &[host(1), host(2)], Limits { max_resources: Some(1), ..Limits::default() }, Recycle::Reuse);
    for name in ["holder", "l"] {
        world.ask(name, any());
        world.rest();
    }
    let told = "Blueprint ns/pool has as many Resources as it may, 1 (limits.maxResources)";
    assert_eq!(world.told(&key("l")), ("AtCapacity".into(), told.into()));
}

#[test]
fn a_pool_of_none_says_so() {
    let mut world = World::new(3);
    world.pool("none", Limits { max_resources: Some(0), ..Limits::default() }, "t");
    world.ask("l", any());
    world.rest();
    let told = "Blueprint ns/none may have no Resources (limits.maxResources is 0)";
    assert_eq!(world.told(&key("l")), ("AtCapacity".into(), told.into()));
}

/// What is not in use, and cannot be had, is named; while it is so.
#[test]
fn what_cannot_be_had_is_named() {
    let mut world = World::one_holds(1);
    world.ask("l", any());
    world.rest();
    let in_use = "Blueprint ns/slow has all that fits in use, being built for others, or being torn down";
    assert_eq!(world.told(&key("l")), ("AtCapacity".into(), in_use.into()));

    world.change_resource("slow--0", |status| {
        (status.phase, status.claims) = (Some(ResourcePhase::Active.into()), vec![]);
        conditions::set(
            &mut status.conditions,
            MicroTime::from(jiff::Timestamp::UNIX_EPOCH),
            "Ready",
            Truth::False,
            "ObjectLost",
            "",
        );
    });
    let lost = "Blueprint ns/slow cannot give slow--0, of which something is lost, and whatever else fits is in use";
    assert_eq!(world.why("l"), ("AtCapacity", lost.into()));
    assert!(world.index.moved.contains_key(&key("slow")), "those who wait are told");

    world.index.moved.clear();
    world.change_resource("slow--0", |status| status.phase = Some(ResourcePhase::Released.into()));
    world.index.moved.clear();
    world.change_resource("slow--0", |status| {
        let now = MicroTime::from(jiff::Timestamp::UNIX_EPOCH);
        conditions::set(&mut status.conditions, now, "TornDown", Truth::False, "TeardownFailed", "");
    });
    let stuck = "Blueprint ns/slow cannot reuse slow--0, whose teardown fails, and whatever else fits is in use";
    assert_eq!(world.why("l"), ("AtCapacity", stuck.into()));
    assert!(world.index.moved.contains_key(&key("slow")), "those who wait are told");

    world.change_resource("slow--0", |status| status.phase = Some(ResourcePhase::Destroyed.into()));
    assert!(!world.why("l").1.contains("slow--0"), "{:?}", world.why("l"));
}

/// A Resource that is not a Blueprint's own takes a name from a counted pool, as it does from a list.
#[test]
fn a_name_that_is_taken_is_told() {
    for (maximum, listed) in [(Some(1), false), (None, true)] {
        let mut world = World::new(3);
        let name = if listed { "pool--h1" } else { "pool--0" };
        let mut foreign = Resource { metadata: world.meta(name), ..Resource::default() };
        foreign.spec.blueprint_ref.uid = "a-predecessor".into();
        foreign.status.get_or_insert_default().phase = Some(ResourcePhase::Released.into());
        world.index.see_resource(foreign.clone(), world.now);
        let limits = Limits { max_resources: maximum, ..Limits::default() };
        match listed {
            true => world.list("pool", &[host(1)], limits, Recycle::Reuse),
            false => world.pool("pool", limits, "t"),
        }
        let own = uid(&world.blueprints[&key("pool")].metadata).to_owned();
        let taken = |world: &World| {
            assert_eq!(uid(&world.blueprints[&key("pool")].metadata), own);
            world.index.around_blueprint(&key("pool"), world.now).unwrap().around.names_taken
        };
        assert_eq!(taken(&world), [name.split_once("--").unwrap().1]);
        world.ask("l", any());
        world.index.settle_orders(&key("pool"), &[], world.now);
        let told = format!(
            "Blueprint ns/pool cannot build {name}, for a Resource of another Blueprint has that name, and whatever else fits is in use"
        );
        assert_eq!(world.why("l"), ("AtCapacity", told));
        world.index.take_dirty(world.now);
        world.index.lose_resource(&foreign.metadata, world.now);
        assert_eq!(taken(&world), [""; 0]);
        assert!(world.index.take_dirty(world.now).contains(&Key::Blueprint(key("pool"))), "it looks again");
        // And one that comes later is noticed, too.
        let mut by_hand = foreign.clone();
        by_hand.metadata.uid = Some("by-hand".into());
        world.index.see_resource(by_hand, world.now);
        assert!(world.index.take_dirty(world.now).contains(&Key::Blueprint(key("pool"))), "it is told");
    }
}

/// A machine that an older Blueprint lists, too, is that one's to offer: neither disabled nor removed.
#[test]
fn a_host_that_is_an_older_blueprints_is_told_as_that() {
    let mut world = World::new(3);
    world.list("young", &[host(1)], Limits::default(), Recycle::Reuse);
    world.ask("l", named("young"));
    world.settle();
    assert_eq!(world.leases[&key("l")].phase(), LeasePhase::Active);
    world.list("old", &[host(1)], Limits::default(), Recycle::Reuse);
    let mut old = world.blueprints[&key("old")].clone();
    old.metadata.creation_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    old.spec.suspend = true;
    world.put_blueprint(old);
    world.ask("later", named("young"));
    world.rest();
    let told =
        "Blueprint ns/young has every host that fits offered by an older Blueprint, which lists it too (HostTaken)";
    assert_eq!(world.told(&key("later")), ("NoHostEnabled".into(), told.into()));
    let around = world.index.around_resource(&key("young--h1"), world.now).unwrap();
    assert_eq!(around.slot, pool::SlotState::Taken);
}

/// One whose resource dies before activation says in the write that sends it back why it waits.
#[test]
fn who_comes_back_to_the_queue_says_why() {
    let mut world = World::one_holds(1);
    world.ask("l", any());
    world.settle();
    let mut returning = world.leases[&key("l")].clone();
    returning.status.get_or_insert_default().phase = Some(LeasePhase::Acquired.into());
    world.put_lease(returning);
    let waiting = world.index.around_lease(&key("l"), world.now).unwrap().waiting;
    assert!(waiting.message.starts_with("Blueprint ns/slow has all that fits in use"), "{waiting:?}");
    assert_eq!(waiting.place, None, "it stands in no queue yet");
}

/// Where there is a choice a lease gets a resource that outlives it, by the end that was asked for last.
#[test]
fn a_lease_gets_what_outlives_its_wish() {
    let mut world = World::new(3);
    world.limit = None;
    world.list("pool", &[host(1), host(2)], Limits::default(), Recycle::Reuse);
    for name in ["a", "b"] {
        world.ask(name, any());
        world.settle();
    }
    let after = |world: &World, seconds| Some(world.now.after(crate::api::Duration::from_secs(seconds)));
    let short = after(&world, 100);
    for (name, end) in [("pool--h1", short), ("pool--h2", None)] {
        world.change_resource(name, |status| (status.claims, status.expires_at) = (vec![], end));
    }
    let mut lease =
        Lease { spec: LeaseSpec { ttl: Some(crate::api::Duration::from_secs(10)), ..any() }, ..Lease::default() };
    lease.metadata = world.meta("l");
    let best = |world: &World, lease: &Lease| world.index.best_free(&key("pool"), lease, world.now);
    assert_eq!(best(&world, &lease), Some(key("pool--h1")));
    lease.status.get_or_insert_default().wish = Some(Wish { at: after(&world, 1000), never: None });
    assert_eq!(best(&world, &lease), Some(key("pool--h2")));
}

/// A Blueprint that it would rather be served by makes no room for whom it has given their share.
#[test]
fn room_is_made_where_the_namespace_has_a_share_left() {
    let mut world = World::new(3);
    let limits = |most: i64| Limits { max_resources: Some(most), min_ready: 1, ..Limits::default() };
    world.limit = Some(1);
    world.pool("first", limits(2), "a");
    world.limit = None;
    world.now = world.now.after(crate::api::Duration::from_secs(1));
    world.pool("second", limits(1), "a");
    world.settle();
    world.build_all();
    world.ask("holder", named("first"));
    world.settle();
    world.build_all();
    // Each has one of flavour `a` that is idle; and is full.
    let large = [("flavour".to_owned(), "b".to_owned())].into();
    world.ask("waiter", LeaseSpec { parameters: large, ..any() });
    world.rest();
    world.build_all();
    let on = world.leases[&key("waiter")].resource_ref().map(|on| on.name.clone());
    assert_eq!(on.as_deref(), Some("second--0"), "{:?}", world.told(&key("waiter")));
}

/// One resource makes room for one lease: the next is made room for by the next Blueprint.
#[test]
fn each_that_waits_is_made_room_for_where_there_is_room_for_it() {
    let mut world = World::new(3);
    let limits = Limits { max_resources: Some(1), min_ready: 1, ..Limits::default() };
    world.pool("first", limits.clone(), "a");
    world.now = world.now.after(crate::api::Duration::from_secs(1));
    world.pool("second", limits, "a");
    world.settle();
    world.build_all();
    let large = || LeaseSpec { parameters: [("flavour".to_owned(), "b".to_owned())].into(), ..any() };
    world.ask("one", large());
    world.ask("two", large());
    world.rest();
    world.build_all();
    world.rest();
    world.build_all();
    let on = |lease: &str| world.leases[&key(lease)].resource_ref().map(|on| on.name.clone());
    assert_eq!([on("one").as_deref(), on("two").as_deref()], [Some("first--0"), Some("second--0")]);
}
