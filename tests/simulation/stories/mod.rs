//! Stories told in the simulation, by their numbers: the real controllers on the simulated server, without chance people and
//! without faults but those that are told of. Days take seconds. What must hold is checked over every version all the while.

mod flood;
mod story_19;
mod story_47;
mod story_50;
mod story_51;
mod story_52;
mod unreadable;
mod waiters;

use crate::{
    checks::Checks,
    faults::{Faults, Rates},
    habits::Habits,
    journal::{Entry, Journal, Kind, Version, What},
    random::Chance,
    run::Controller,
    server::{
        Server,
        answer::Answer,
        request::{Request, Target, Verb},
    },
    time::Clocks,
    world::{Flaws, World},
};
use drydock::{
    api::{Blueprint, Deadline, DeadlineName, Lease, MicroTime, Resource, step::StepKind},
    driver::Work,
    lifecycle::{conditions, deadline},
};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Where all objects of a story are.
const HERE: &str = "shared";

/// So long something is waited for, by the clocks of the story.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How late the write may be that a deadline asks for: a request or two, and the moment of a rounded second.
const LATE: SignedDuration = SignedDuration::from_secs(2);

/// Where a story is told.
pub struct Stage {
    pub server: Arc<Server>,
    pub world: Arc<World>,
    pub clocks: Arc<Clocks>,
    journal: Arc<Journal>,
    chance: Chance,
    checks: Checks,
}

/// Tells a story, with one controller or with those that it starts.
pub fn told(tell: impl AsyncFnOnce(&mut Stage)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new();
        tell(&mut stage).await;
        stage.all_is_well();
    });
}

impl Stage {
    fn new() -> Self {
        let (clocks, chance) = (Clocks::new(), Chance::new(1));
        let journal = Journal::new(clocks.clone());
        let server = Server::new(clocks.clone(), journal.clone(), chance.clone());
        let nothing = Faults::new(Rates::default(), chance.clone());
        let world = World::new(journal.clone(), clocks.clone(), nothing, Flaws::default());
        let checks = Checks::new(journal.clone());
        let stage = Self { server, world, clocks, journal, chance, checks };
        stage.namespace(HERE);
        stage
    }

    /// One more namespace.
    pub fn namespace(&self, name: &str) {
        self.ask(Verb::Create, Kind::Namespace, "", None, json!({"metadata": {"name": name}}));
    }

    /// A controller that nothing befalls.
    pub fn controller(&self, name: &str) -> Controller {
        self.controller_that_suffers(name, Rates::default())
    }

    pub fn controller_that_suffers(&self, name: &str, rates: Rates) -> Controller {
        let faults = Faults::new(rates, self.chance.clone());
        Controller::start(&self.server, &self.world, &faults, Duration::ZERO, &format!("controller-{name}"))
    }

    /// From now on the driver behaves otherwise.
    pub fn behaves(&mut self, change: impl FnOnce(&mut Habits)) {
        self.world.behaves(change);
        self.checks.now.drivers.hooks = self.world.habits().hooks;
    }

    fn ask(&self, verb: Verb, kind: Kind, namespace: &str, name: Option<&str>, body: Value) -> Answer {
        let namespace = (kind != Kind::Namespace).then(|| namespace.to_owned());
        let target = Target::Objects { kind, namespace, name: name.map(str::to_owned), status: false };
        let query = BTreeMap::new();
        let answer = self.server.handle(&"people".into(), &Request { verb, target, query, body, metadata_only: false });
        assert!(answer.is_ok(), "{verb:?} {kind:?} {name:?}: {}", answer.body);
        answer
    }

    fn create(&self, kind: Kind, namespace: &str, name: &str, spec: Value) {
        let meta = json!({"name": name, "finalizers": ["drydock.dev/teardown"]});
        let object =
            json!({"apiVersion": "drydock.dev/v1alpha1", "kind": format!("{kind:?}"), "metadata": meta, "spec": spec});
        self.ask(Verb::Create, kind, namespace, None, object);
    }

    /// A Blueprint `pool`: so many resources, and more of its spec.
    pub fn pool(&self, count: i64, more: Value) {
        self.pool_in(HERE, count, more);
    }

    /// The same, in another namespace.
    pub fn pool_in(&self, namespace: &str, count: i64, more: Value) {
        let driver = json!({"webhook": {"clientConfig": {"url": "https://driver.example"}}});
        let mut spec = json!({"resourceType": "host", "limits": {"maxResources": count}, "driver": driver});
        json_patch::merge(&mut spec, &more);
        self.create(Kind::Blueprint, namespace, "pool", spec);
    }

    pub fn lease(&self, name: &str, more: Value) {
        self.lease_in(HERE, name, more);
    }

    pub fn lease_in(&self, namespace: &str, name: &str, more: Value) {
        let mut spec = json!({"resourceType": "host"});
        json_patch::merge(&mut spec, &more);
        self.create(Kind::Lease, namespace, name, spec);
    }

    pub fn command(&self, kind: Kind, name: &str, command: Value) {
        self.command_in(HERE, kind, name, command);
    }

    pub fn command_in(&self, namespace: &str, kind: Kind, name: &str, command: Value) {
        let add = json!([{"op": "add", "path": "/spec/commands/-", "value": command}]);
        self.ask(Verb::JsonPatch, kind, namespace, Some(name), add);
    }

    pub fn delete(&self, kind: Kind, name: &str) {
        self.ask(Verb::Delete, kind, HERE, Some(name), json!({}));
    }

    pub fn release(&self, lease: &str) {
        self.command(Kind::Lease, lease, json!({"id": format!("release-{lease}"), "type": "Release"}));
    }

    fn object<K: DeserializeOwned>(&self, kind: Kind, namespace: &str, name: &str) -> Option<K> {
        let found = self.server.get(kind, &(namespace.to_owned(), name.to_owned()))?;
        Some(K::deserialize(&*found).unwrap())
    }

    pub fn lease_now(&self, name: &str) -> Lease {
        self.object(Kind::Lease, HERE, name).unwrap()
    }

    pub fn lease_of(&self, namespace: &str, name: &str) -> Lease {
        self.object(Kind::Lease, namespace, name).unwrap()
    }

    pub fn resource_now(&self, name: &str) -> Resource {
        self.object(Kind::Resource, HERE, name).unwrap()
    }

    pub fn is_gone(&self, kind: Kind, name: &str) -> bool {
        self.server.get(kind, &(HERE.to_owned(), name.to_owned())).is_none()
    }

    /// So long the story goes on by itself.
    pub async fn pass(&mut self, length: SignedDuration) {
        tokio::time::sleep(length.unsigned_abs()).await;
        self.all_is_well();
    }

    /// Until this instant.
    pub async fn pass_until(&mut self, at: Timestamp) {
        self.pass(at.duration_since(self.clocks.wall())).await;
    }

    /// Until this is so.
    pub async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let end = self.clocks.elapsed() + PATIENCE;
        while !is(self) {
            assert!(self.clocks.elapsed() < end, "not in an hour: {what}");
            self.pass(SignedDuration::from_millis(50)).await;
        }
    }

    pub async fn until_lease(&mut self, name: &str, phase: drydock::api::LeasePhase) {
        self.until(&format!("{name} {phase:?}"), |stage| stage.lease_now(name).phase() == phase).await;
    }

    fn all_is_well(&mut self) {
        if let Some(wrong) = self.checks.catch_up() {
            panic!("{}", wrong.tell(&self.journal, &self.clocks));
        }
    }

    /// What has happened so far.
    pub fn happened(&self) -> Vec<Entry> {
        self.journal.all().clone()
    }

    /// The versions of an object, by its UID.
    pub fn versions<K: DeserializeOwned>(&self, uid: &str) -> Vec<K> {
        let of = |entry: Entry| match entry.what {
            What::Wrote(Version { object, .. }) if object["metadata"]["uid"] == uid => Some(object),
            _ => None,
        };
        self.happened().into_iter().filter_map(of).map(|object| K::deserialize(&*object).unwrap()).collect()
    }

    /// What a step of the driver was last called with.
    pub fn last_call(&self, kind: StepKind) -> Option<Work> {
        self.happened().into_iter().rev().find_map(|entry| match entry.what {
            What::Called { kind: called, work } if called == kind => Some(*work),
            _ => None,
        })
    }

    pub fn blueprint_now(&self) -> Blueprint {
        self.object(Kind::Blueprint, HERE, "pool").unwrap()
    }
}

/// Why something is over.
pub fn lease_reason(lease: &Lease) -> &str {
    conditions::reason(&lease.status.as_ref().unwrap().conditions, "Released")
}

pub fn resource_reason(resource: &Resource) -> &str {
    conditions::reason(&resource.status.as_ref().unwrap().conditions, "Released")
}

pub fn clock(deadlines: &[Deadline], name: DeadlineName) -> Option<Timestamp> {
    deadline::find(deadlines, name).map(|deadline| deadline.at.timestamp())
}

/// Never early, and not late.
pub fn on_time(at: Option<MicroTime>, due: Timestamp) {
    let at = at.expect("it has happened").timestamp();
    assert!(at >= due && at <= due + LATE, "at {at}, due {due}");
}
