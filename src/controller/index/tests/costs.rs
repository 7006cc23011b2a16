//! What events cost, counted in comparisons, calls and writes; and whom a failure costs anything.

use super::{told::*, *};
use crate::api::{
    Duration,
    common::{Operator, Requirement},
};
use std::sync::atomic::{AtomicUsize, Ordering};

fn sized(size: &str) -> LeaseSpec {
    let selector = Selector { match_labels: [("size".into(), size.into())].into(), ..Selector::default() };
    LeaseSpec { selector: Some(selector), ..any() }
}

fn flavoured(flavour: &str) -> LeaseSpec {
    LeaseSpec { parameters: [("flavour".to_owned(), flavour.to_owned())].into(), ..any() }
}

impl World {
    /// So many hosts, half of them `big` and leased, the others `small` and idle; and so many leases that wait for a `big` one.
    fn half_idle(hosts: usize, waiters: usize) -> Self {
        let mut world = Self::new(3);
        let of_size = |n: usize| {
            let size = if n.is_multiple_of(2) { "big" } else { "small" };
            Host { attributes: [("size".to_owned(), size.to_owned())].into(), ..host(n) }
        };
        let hosts: Vec<_> = (0..hosts).map(of_size).collect();
        world.list("pool", &hosts, Limits::default(), Recycle::Reuse);
        for n in 0..hosts.len() {
            world.ask(&format!("holder-{n}"), sized(if n.is_multiple_of(2) { "big" } else { "small" }));
        }
        world.settle();
        for n in (1..hosts.len()).step_by(2) {
            world.edit_lease(&key(&format!("holder-{n}")), MetadataChange::Delete);
        }
        world.settle();
        for n in 0..waiters {
            world.ask(&format!("waiter-{n}"), sized("big"));
        }
        world.settle();
        assert_eq!(world.index.blueprints[&key("pool")].idle.len(), hosts.len() / 2);
        assert_eq!(world.index.blueprints[&key("pool")].waiting(), waiters as i64);
        world
    }

    /// How many comparisons one plan costs.
    fn steps_of_a_plan(&mut self) -> u64 {
        let before = self.index.plan_steps;
        self.index.plan(&key("pool"));
        self.index.plan(&key("pool"));
        self.index.take_dirty(self.now);
        self.index.plan_steps - before
    }

    /// The build of whatever is being built fails for good.
    fn fail_all(&mut self) {
        for (object, resource) in &self.resources {
            let failure = crate::api::Failure { message: "no such branch".into(), ..Default::default() };
            self.built.insert(uid(&resource.metadata).to_owned(), Answer::FailedForGood(failure));
            self.dirty.insert(Key::Resource(object.clone()));
        }
        self.settle();
    }
}

/// On a pool of hosts an idle one helps only whom it fits: with eight times the hosts a plan costs about eight times as much.
#[test]
fn planning_costs_what_there_is_and_not_its_cube() {
    let few = World::half_idle(50, 200).steps_of_a_plan();
    let many = World::half_idle(400, 200).steps_of_a_plan();
    assert!(few > 0 && many <= 8 * few, "{few} steps with 50 hosts, {many} with 400");
    assert!(many <= 4 * (400 + 200), "{many} steps for 400 hosts and 200 that wait");
}

/// Nor does it cost more than for so many selectors, where each of one namespace's leases selects otherwise.
#[test]
fn planning_compares_a_bounded_number_of_selectors() {
    let mut world = World::half_idle(400, 0);
    for n in 0..300 {
        let mut spec = sized("big");
        let other = Requirement { key: "other".into(), operator: Operator::NotIn, values: vec![n.to_string()] };
        spec.selector.as_mut().unwrap().match_expressions = vec![other];
        world.ask(&format!("waiter-{n}"), spec);
    }
    world.settle();
    let steps = world.steps_of_a_plan();
    let (slots, idle) = (400, 200);
    assert!(steps <= 32 * (slots + idle) + 300 + idle, "{steps} steps");
}

/// A driver that counts how often it is asked for its slots.
struct Counting(Arc<AtomicUsize>);

impl Driver for Counting {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn free_steps(&self, _: Option<&Blueprint>, _: Option<&serde_json::Value>) -> FreeSteps {
        FreeSteps::ALL
    }

    fn allocate(&self, _: Work) -> BoxFuture<'static, serde_json::Value> {
        futures::future::ready(serde_json::json!({"driver": "webhook"})).boxed()
    }

    fn slots(&self, blueprint: &Blueprint) -> Option<Vec<crate::api::step::Slot>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let machine = blueprint.spec.driver.webhook.as_ref().unwrap().client_config.url.clone();
        let slot =
            crate::api::step::Slot { name: "s".into(), enabled: true, identity: Some(machine), ..Default::default() };
        Some(vec![slot])
    }

    fn build(&self, _: Work) -> BoxFuture<'static, Answer> {
        done().boxed()
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

/// However many Blueprints a namespace has, an edit of one asks only that one's driver; and whoever lists the same machine
/// notices.
#[test]
fn an_edit_of_a_blueprint_lists_only_its_own_slots() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut world = World::new(3);
    world.index = Index::new(Drivers::standard().with(Arc::new(Counting(calls.clone()))), SharedNamespaces::default());
    world.index.start(world.now);
    for n in 0..30 {
        world.pool(&format!("pool-{n}"), Limits::default(), &format!("machine-{n}"));
        world.now = world.now.after(Duration::from_secs(1));
    }
    let taken = |world: &World, name: &str| world.index.blueprints[&key(name)].taken.clone();
    let before = calls.load(Ordering::SeqCst);
    world.pool("pool-0", Limits::default(), "machine-7");
    assert_eq!(calls.load(Ordering::SeqCst) - before, 1);
    assert_eq!((taken(&world, "pool-0"), taken(&world, "pool-7")), (vec![], vec!["s".to_owned()]));
    world.pool("pool-0", Limits::default(), "machine-0");
    assert_eq!((taken(&world, "pool-0"), taken(&world, "pool-7")), (vec![], vec![]), "it is given back");
    world.pool("pool-9", Limits::default(), "machine-8");
    assert_eq!((taken(&world, "pool-8"), taken(&world, "pool-9")), (vec![], vec!["s".to_owned()]), "the older has it");
}

/// A release tells those who are near, and whose place has halved; the rest of a long queue is left alone.
#[test]
fn a_release_writes_to_those_who_are_near_only() {
    let mut world = World::new(3);
    world.list("pool", &[host(1)], Limits::default(), Recycle::Reuse);
    for n in 0..300 {
        world.ask(&format!("l{n:03}"), any());
    }
    world.rest();
    let holder = world.resources[&key("pool--h1")].claims()[0].name.clone();
    let before = world.writes;
    world.edit_lease(&key(&holder), MetadataChange::Delete);
    world.rest();
    let writes = world.writes - before;
    assert!((10..=25).contains(&writes), "{writes} writes for one release and 298 that wait");
}

/// Whoever takes what is free now or gives up has nothing built that takes time: it would be left behind.
#[test]
fn nothing_that_takes_time_is_built_for_whom_gives_up_at_once() {
    for (timeout, expected) in [(0, 0), (5, 1)] {
        let mut world = World::new(3);
        world.pool("pool", Limits { max_resources: Some(1), ..Limits::default() }, "a");
        world.settle();
        world.ask("a", LeaseSpec { queue_timeout: Some(Duration::from_secs(timeout)), ..any() });
        world.settle();
        assert_eq!(world.resources.len(), expected, "queueTimeout: {timeout}s");
    }
}

/// What a grant moves of other Idle clocks is derived: of all that are idle one is written, whose clock stops.
#[test]
fn a_grant_does_not_rewrite_the_idle_clocks_of_others() {
    let mut world = World::new(3);
    let limits = Limits { max_resources: Some(30), min_ready: 2, max_concurrent_builds: 30, ..Limits::default() };
    world.pool("pool", limits, "a");
    let mut blueprint = world.blueprints[&key("pool")].clone();
    blueprint.spec.lease.recycle = Recycle::Reuse;
    blueprint.spec.resource.idle_ttl = Some(Duration::from_secs(3600));
    world.put_blueprint(blueprint);
    for n in 0..20 {
        world.ask(&format!("l{n:02}"), any());
    }
    world.settle();
    world.build_all();
    for n in 0..20 {
        world.now = world.now.after(Duration::from_secs(1));
        world.edit_lease(&key(&format!("l{n:02}")), MetadataChange::Delete);
        world.settle();
    }
    world.check();
    let before = world.writes;
    world.ask("next", any());
    world.settle();
    assert_eq!(world.leases[&key("next")].phase(), LeasePhase::Active);
    let writes = world.writes - before;
    assert!(writes <= 5, "{writes} writes for one grant");
    world.check();
}

/// A flavour that a lease asked for, and that cannot be built, is nobody else's trouble, however many leases ask for others.
#[test]
fn a_flavour_that_fails_puts_off_nobody_else() {
    let mut world = World::new(3);
    world.pool("pool", Limits { max_resources: Some(4), max_concurrent_builds: 4, ..Limits::default() }, "a");
    world.settle();
    world.ask("bad", flavoured("x"));
    world.ask("as-bad", flavoured("x"));
    world.settle();
    assert_eq!(world.resources.len(), 2);
    world.fail_all();
    assert!(world.resources.values().all(|r| r.phase() != ResourcePhase::Pending), "it is built again at once");
    let status = world.blueprints[&key("pool")].status.clone().unwrap();
    let ready = lifecycle::conditions::get(&status.conditions, "Ready").unwrap();
    assert_eq!(ready.reason, "Ready");
    assert_eq!(ready.message, "builds fail with the parameters flavour=x: no such branch");
    let wait = |seconds| Some(world.now.after(Duration::from_secs(seconds)));
    assert_eq!(status.next_build_at, wait(10), "two that fail together are one failure");
    world.rest();
    assert_eq!(world.told(&key("bad")).0, "BuildFailing");
    assert!(world.told(&key("bad")).1.contains("with this Lease's parameters"), "{:?}", world.told(&key("bad")));

    // Another controller that starts now does not take that for a back-off of the Blueprint.
    let mut other = World::new(3);
    other.put_blueprint(world.blueprints[&key("pool")].clone());
    assert_eq!(other.index.blueprints[&key("pool")].next_build_at, None);

    for good in ["a", "b"] {
        world.ask(good, flavoured(good));
    }
    world.settle();
    world.built.clear();
    let pending = |r: &&Resource| r.phase() == ResourcePhase::Pending;
    assert_eq!(world.resources.values().filter(pending).count(), 2, "one for each of the others");
    world.build_all();
    world.check();

    // An edit ends it at once.
    world.pool("pool", Limits { max_resources: Some(4), max_concurrent_builds: 4, ..Limits::default() }, "new");
    world.settle();
    let for_bad = |r: &&Resource| pending(r) && r.spec.parameters["flavour"] == "x";
    assert!(world.resources.values().any(|r| for_bad(&r)), "{:?}", world.resources.keys());
}

/// Somebody who asks for one bad flavour after the other yields the turn: the only build at a time is soon for somebody else.
#[test]
fn whoever_asks_for_many_bad_flavours_yields_the_turn() {
    let mut world = World::new(3);
    let limits = Limits { max_resources: Some(2), max_concurrent_builds: 1, ..Limits::default() };
    world.pool("pool", limits, "a");
    let mut blueprint = world.blueprints[&key("pool")].clone();
    blueprint.spec.allowed_namespaces.from = blueprint::From::All;
    world.put_blueprint(blueprint);
    world.settle();
    for n in 0..1000 {
        world.ask(&format!("bad-{n:04}"), LeaseSpec { priority: 9, ..flavoured(&format!("bad-{n}")) });
    }
    let mut good = Lease { metadata: world.meta("good"), spec: flavoured("good"), status: None };
    good.metadata.namespace = Some("team".into());
    good.spec.blueprints = vec![crate::api::lease::BlueprintName { namespace: Some("ns".into()), name: "pool".into() }];
    world.put_lease(good);
    world.settle();
    world.fail_all();
    let of = |world: &World| {
        let mut pending = world.resources.values().filter(|r| r.phase() == ResourcePhase::Pending);
        pending.next().map(|r| r.spec.parameters["flavour"].clone())
    };
    assert_eq!(of(&world).as_deref(), Some("good"));
    assert_eq!(world.index.blueprints[&key("pool")].next_build_at, None);
}

/// A `Reclaim` that was not taken says nothing of a version that is newer than the one that it was tried on.
#[test]
fn an_answer_that_comes_after_the_change_leaves_nobody_waiting() {
    let mut world = World::half_idle(2, 1);
    // The count is what is full, so that the idle one helps.
    let mut blueprint = world.blueprints[&key("pool")].clone();
    blueprint.spec.limits.max_resources = Some(2);
    if let Some(hosts) = &mut blueprint.spec.driver.hosts {
        let big = hosts.inventory[0].clone();
        hosts.inventory.push(Host { name: "h9".into(), address: Some("192.0.2.9".into()), ..big });
    }
    world.put_blueprint(blueprint);
    world.index.take_dirty(world.now);
    world.now = world.now.after(Duration::from_secs(3600));
    let due = |world: &World| world.index.due_reclaims(&key("pool"), world.now).0.len();
    assert_eq!(due(&world), 1);
    let tried = world.resources[&key("pool--h1")].clone();
    let mut annotated = tried.clone();
    annotated.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
    world.put_resource(annotated);
    world.index.take_dirty(world.now);
    world.index.cannot_reclaim(&tried);
    assert!(world.index.take_dirty(world.now).contains(&Key::Blueprint(key("pool"))), "it is tried again");
    assert_eq!(due(&world), 1);
    let known = world.resources[&key("pool--h1")].clone();
    world.index.cannot_reclaim(&known);
    world.index.take_dirty(world.now);
    assert_eq!(due(&world), 0, "what is as it was is left alone");
}
