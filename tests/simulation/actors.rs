//! Requestors and users, who act at random; `operators` has what is done to Blueprints, namespaces and clocks.

use crate::{
    journal::Kind,
    random::Chance,
    run::Plan,
    server::{
        Server,
        answer::Answer,
        request::{Request, Target, Verb},
    },
    time::Clocks,
    world::World,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The namespaces that there are. Blueprints of `shared` serve whoever they admit.
pub const NAMESPACES: [&str; 3] = ["team", "other", "shared"];

/// A command that was consumed, and whose.
type Pruned = (Kind, Value, Value);

/// Something that people do.
type Act = fn(&mut People, &Clocks);

/// What people do now and then, so many times in a thousand: each run has its own.
#[derive(Clone, Copy, Debug)]
pub struct Customs {
    /// A namespace is deleted, with all that is in it.
    pub delete_namespace: u64,
    /// A namespace gets other labels.
    pub relabel: u64,
    /// A Blueprint admits others.
    pub admit: u64,
    /// What resources are made from is changed.
    pub remake: u64,
    /// A pool is scaled.
    pub scale: u64,
    /// An environment is damaged, or mended.
    pub damage: u64,
    /// A queue is filled with commands.
    pub flood: u64,
    /// A sign of life.
    pub beat: u64,
    /// The controllers' clock is far out, for a short time.
    pub far: u64,
}

impl Customs {
    fn drawn(chance: &Chance) -> Self {
        let rate = |most: u64| if chance.permille(400) { 0 } else { chance.within(0..most + 1) };
        Self {
            delete_namespace: rate(6),
            relabel: rate(20),
            admit: rate(15),
            remake: rate(25),
            scale: rate(25),
            damage: rate(40),
            flood: rate(8),
            beat: 300,
            far: if chance.permille(250) { chance.within(5..20) } else { 0 },
        }
    }
}

/// See the module.
pub struct People {
    pub(crate) server: Arc<Server>,
    pub(crate) world: Arc<World>,
    pub(crate) chance: Chance,
    pub(crate) me: Arc<str>,
    customs: Customs,
    /// The controllers' clock is far out.
    pub(crate) far: bool,
    /// What the admission policy does, where it is installed: the finalizer is on from the beginning.
    finalizer_on_create: bool,
    /// Whether finalizers are forced off now and then.
    forceful: bool,
    /// Whether that happens often.
    often_forceful: bool,
    /// Whether resources are released more often.
    rough: bool,
    pace: u64,
    leases: u64,
    commands: u64,
    pruned: Vec<Pruned>,
}

impl People {
    /// Of a run.
    pub fn new(server: Arc<Server>, world: Arc<World>, chance: Chance, plan: &Plan) -> Self {
        Self {
            me: "people".into(),
            customs: Customs::drawn(&chance),
            far: false,
            world,
            finalizer_on_create: chance.permille(600) && plan.scene.is_none(),
            forceful: chance.permille(200) || plan.forceful,
            often_forceful: plan.forceful,
            rough: plan.rough,
            pace: chance.within(5_000..30_000),
            leases: 0,
            commands: 0,
            pruned: Vec::new(),
            server,
            chance,
        }
    }

    /// The namespaces.
    pub fn make_namespaces(&self) {
        for namespace in NAMESPACES {
            self.make_namespace(namespace);
        }
    }

    /// The first Blueprints.
    pub fn set_up(&mut self) {
        self.make_blueprint("shared", "pool");
        for (likely, namespace, name) in [(500, "shared", "hosts"), (250, "shared", "more"), (200, "team", "own")] {
            if self.chance.permille(likely) {
                self.make_blueprint(namespace, name);
            }
        }
    }

    /// How long until somebody acts again.
    pub fn pause(&self) -> Duration {
        self.chance.milliseconds(1..self.pace)
    }

    /// What has to be undone before the system can come to rest: nothing stays suspended, nothing that can be mended stays
    /// damaged, and nothing is kept ready that has an end, or it would be made anew for ever.
    pub fn leave(&mut self) {
        self.world.mend(&self.me);
        for blueprint in self.server.all(Kind::Blueprint) {
            if blueprint["spec"]["suspend"] == true {
                self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"suspend": false}}));
            }
            if !blueprint["spec"]["resource"]["ttl"].is_null() {
                self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"limits": {"minReady": 0}}}));
            }
        }
    }

    /// Somebody does something.
    pub fn act(&mut self, clocks: &Clocks) {
        if self.rough && self.chance.permille(120) {
            self.delete(Kind::Resource);
        }
        if self.often_forceful && self.chance.permille(60) {
            self.force(if self.chance.permille(400) { Kind::Lease } else { Kind::Resource });
        }
        self.act_by_custom(clocks);
        match self.chance.within(0..1000) {
            0..380 => self.make_lease(clocks),
            380..520 => self.command_lease(clocks),
            520..580 => self.delete(Kind::Lease),
            580..610 => self.edit_end(Kind::Lease, clocks),
            610..660 => self.touch(),
            660..700 => self.command_resource(clocks),
            700..720 => self.delete(Kind::Resource),
            720..735 => self.edit_end(Kind::Resource, clocks),
            735..790 => self.prune(),
            790..830 => self.repeat(),
            830..860 => self.suspend(),
            860..890 => self.change_limits(),
            890..910 => self.change_hosts(),
            910..920 => self.drain(),
            920..945 => self.set_clock(clocks),
            945..965 => self.server.compact(),
            965..970 if self.forceful => self.force(Kind::Lease),
            970..973 if self.forceful => self.force(Kind::Resource),
            _ => {}
        }
    }

    /// What this run's people do now and then.
    fn act_by_custom(&mut self, clocks: &Clocks) {
        self.come_back(clocks);
        let customs = self.customs;
        let acts: [(u64, Act); 9] = [
            (customs.delete_namespace, |people, _| people.delete_namespace()),
            (customs.relabel, |people, _| people.relabel()),
            (customs.admit, |people, _| people.admit()),
            (customs.remake, |people, _| people.remake()),
            (customs.scale, |people, _| people.scale()),
            (customs.damage, |people, _| people.damage_or_mend()),
            (customs.flood, |people, clocks| people.flood(clocks)),
            (customs.beat, |people, _| people.beat()),
            (customs.far, |people, clocks| people.set_clock_far(clocks)),
        ];
        for (rate, act) in acts {
            if self.chance.permille(rate) {
                act(self, clocks);
            }
        }
    }

    pub(crate) fn ask(&self, verb: Verb, kind: Kind, namespace: &str, name: Option<&str>, body: Value) -> Answer {
        let namespace = Some(namespace.to_owned()).filter(|ns| !ns.is_empty());
        let target = Target::Objects { kind, namespace, name: name.map(str::to_owned), status: false };
        self.server.handle(&self.me, &Request { verb, target, query: BTreeMap::new(), body, metadata_only: false })
    }

    pub(crate) fn to(&self, verb: Verb, kind: Kind, object: &Value, body: Value) -> Answer {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        self.ask(verb, kind, text("namespace"), Some(text("name")), body)
    }

    pub(crate) fn merge(&self, kind: Kind, object: &Value, patch: Value) -> Answer {
        self.to(Verb::MergePatch, kind, object, patch)
    }

    pub(crate) fn some(&self, kind: Kind) -> Option<Arc<Value>> {
        self.chance.one(&self.server.all(kind)).cloned()
    }

    fn some_that(&self, kind: Kind, is: impl Fn(&Value) -> bool) -> Option<Arc<Value>> {
        let those: Vec<_> = self.server.all(kind).into_iter().filter(|object| is(object)).collect();
        self.chance.one(&those).cloned()
    }

    pub(crate) fn create(&self, kind: Kind, namespace: &str, name: &str, spec: Value) {
        let mut meta = json!({"name": name});
        if self.finalizer_on_create {
            meta["finalizers"] = json!(["drydock.dev/teardown"]);
        }
        let kind_name = format!("{kind:?}");
        let object = json!({"apiVersion": "drydock.dev/v1alpha1", "kind": kind_name, "metadata": meta, "spec": spec});
        self.ask(Verb::Create, kind, namespace, None, object);
    }

    pub(crate) fn make_lease(&mut self, clocks: &Clocks) {
        let c = self.chance.clone();
        let mut spec = json!({"resourceType": if c.permille(960) { "host" } else { "boat" }});
        if c.permille(700) {
            spec["ttl"] = format!("{}s", c.within(5..900)).into();
        }
        if c.permille(250) {
            spec["queueTimeout"] = format!("{}s", if c.permille(200) { 0 } else { c.within(1..600) }).into();
        }
        if c.permille(150) {
            spec["expiresAt"] = self.soon(clocks).into();
        }
        if c.permille(250) {
            spec["priority"] = c.within(0..4).into();
        }
        if c.permille(200) {
            spec["ttlAfterDestroyed"] = format!("{}s", c.within(0..60)).into();
        }
        if c.permille(150) {
            let all = [("shared", "pool"), ("shared", "hosts"), ("shared", "more"), ("team", "own")];
            let one = || c.one(&all).map(|(namespace, name)| json!({"namespace": namespace, "name": name}));
            let named: Vec<_> = (0..c.within(1..4)).filter_map(|_| one()).collect();
            let twice = named.iter().enumerate().any(|(n, name)| named[..n].contains(name));
            spec["blueprints"] = if twice { json!([named[0]]) } else { named.into() };
        }
        if c.permille(200) {
            let arch = if c.permille(500) { "a" } else { "b" };
            let not = json!({"matchExpressions": [{"key": "arch", "operator": "NotIn", "values": [arch]}]});
            spec["selector"] = if c.permille(300) { not } else { json!({"matchLabels": {"arch": arch}}) };
        }
        if c.permille(450) {
            spec["parameters"] = json!({"flavour": if c.permille(500) { "small" } else { "large" }});
        }
        if c.permille(120) {
            spec["heartbeatTimeout"] = format!("{}s", c.within(30..900)).into();
        }
        let namespace = NAMESPACES[if c.permille(50) { 2 } else { c.within(0..2) } as usize];
        // Names come again, now and then.
        let name = if c.permille(150) { c.within(0..self.leases + 1) } else { self.leases };
        self.leases += 1;
        let times = if c.permille(100) { c.within(2..5) } else { 1 };
        for n in 0..times {
            let name = if n == 0 { format!("l{name}") } else { format!("l{name}-{n}") };
            self.create(Kind::Lease, namespace, &name, spec.clone());
        }
    }

    /// An instant some minutes from now, or a little ago.
    fn soon(&self, clocks: &Clocks) -> String {
        let seconds = self.chance.within(0..1200) as i64 - 30;
        let at = clocks.wall() + SignedDuration::from_secs(seconds);
        format!("{at:.6}")
    }

    fn append(&mut self, kind: Kind, object: &Value, mut command: Value) {
        self.commands += 1;
        command["id"] = format!("c{}", self.commands).into();
        let times = if self.chance.permille(80) { 2 } else { 1 };
        for _ in 0..times {
            let add = json!([{"op": "add", "path": "/spec/commands/-", "value": command}]);
            self.to(Verb::JsonPatch, kind, object, add);
            if self.chance.permille(500) {
                self.commands += 1;
                command["id"] = format!("c{}", self.commands).into();
            }
        }
    }

    fn expires(&self, clocks: &Clocks) -> Value {
        match self.chance.within(0..4) {
            0 => json!({"type": "Expires", "never": true}),
            1 => json!({"type": "Expires", "at": self.soon(clocks)}),
            _ => json!({"type": "Expires", "after": format!("{}s", self.chance.within(1..900))}),
        }
    }

    fn command_lease(&mut self, clocks: &Clocks) {
        let held = |lease: &Value| lease["status"]["deadlines"].to_string().contains("Hold");
        let live = |lease: &Value| lease["status"]["phase"] != "Destroyed";
        let of_interest = match self.chance.within(0..10) {
            0..4 => self.some_that(Kind::Lease, held),
            4..9 => self.some_that(Kind::Lease, live),
            _ => None,
        };
        let Some(lease) = of_interest.or_else(|| self.some(Kind::Lease)) else { return };
        let command = match self.chance.within(0..10) {
            0..4 => json!({"type": "Release", "reason": "done"}),
            4..6 => json!({"type": "Release", "hold": format!("{}s", self.chance.within(1..1200))}),
            6..9 => self.expires(clocks),
            _ => json!({"type": "Forget"}),
        };
        self.append(Kind::Lease, &lease, command);
    }

    fn command_resource(&mut self, clocks: &Clocks) {
        let Some(resource) = self.some(Kind::Resource) else { return };
        let command = match self.chance.within(0..10) {
            0..3 => json!({"type": "Release"}),
            3..6 => json!({"type": "Reclaim"}),
            6..9 => self.expires(clocks),
            _ => json!({"type": "Forget"}),
        };
        self.append(Kind::Resource, &resource, command);
    }

    fn delete(&self, kind: Kind) {
        if let Some(object) = self.some(kind) {
            self.to(Verb::Delete, kind, &object, json!({}));
        }
    }

    fn edit_end(&self, kind: Kind, clocks: &Clocks) {
        if let Some(object) = self.some(kind) {
            let to = if self.chance.permille(200) { Value::Null } else { self.soon(clocks).into() };
            self.merge(kind, &object, json!({"spec": {"expiresAt": to}}));
        }
    }

    /// Somebody writes what does not concern Drydock.
    fn touch(&self) {
        let kind = [Kind::Lease, Kind::Resource, Kind::Blueprint][self.chance.within(0..3) as usize];
        if let Some(object) = self.some(kind) {
            let note = json!({"metadata": {"annotations": {"note": self.chance.number().to_string()}}});
            self.merge(kind, &object, note);
        }
    }

    /// Removes the commands that the ledger has, as the command line does.
    fn prune(&mut self) {
        let kind = if self.chance.permille(700) { Kind::Lease } else { Kind::Resource };
        let queue = |object: &Value| object["spec"]["commands"].as_array().is_some_and(|queue| !queue.is_empty());
        let live = |object: &Value| object["status"]["phase"] != "Destroyed" && queue(object);
        let Some(object) = self.some_that(kind, live) else { return };
        let list = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let ledger = list("/status/commands");
        let consumed = |c: &Value| ledger.iter().any(|entry| entry["id"] == c["id"]);
        let (gone, kept): (Vec<_>, Vec<_>) = list("/spec/commands").into_iter().partition(consumed);
        let answer = self.merge(kind, &object, json!({"spec": {"commands": kept}}));
        if answer.is_ok() {
            self.pruned.extend(gone.into_iter().map(|command| (kind, (*object).clone(), command)));
            if self.chance.permille(400) {
                self.repeat();
            }
        }
    }

    /// Sends a command again that was consumed and pruned.
    fn repeat(&mut self) {
        // Mostly one of the last.
        let first = if self.chance.permille(700) { self.pruned.len().saturating_sub(4) } else { 0 };
        let Some((kind, object, command)) = self.chance.one(&self.pruned[first..]).cloned() else { return };
        let add = json!([
            {"op": "test", "path": "/metadata/uid", "value": object["metadata"]["uid"]},
            {"op": "add", "path": "/spec/commands/-", "value": command},
        ]);
        self.to(Verb::JsonPatch, kind, &object, add);
    }

    /// A lessee that is there still says so.
    fn beat(&self) {
        let waits =
            |lease: &Value| !lease["spec"]["heartbeatTimeout"].is_null() && lease["status"]["phase"] != "Destroyed";
        if let Some(lease) = self.some_that(Kind::Lease, waits) {
            let beat = self.chance.number().to_string();
            self.merge(Kind::Lease, &lease, json!({"spec": {"heartbeat": beat}}));
        }
    }

    /// Somebody fills a queue, so that it has to be pruned; and repeats some of it, later.
    fn flood(&mut self, clocks: &Clocks) {
        let kind = if self.chance.permille(600) { Kind::Lease } else { Kind::Resource };
        let known = |object: &Value, list: &str| object.pointer(list).and_then(Value::as_array).map_or(0, Vec::len);
        // What is more than the ledger holds may have its effect again.
        let quiet = |object: &Value| object["status"]["phase"] != "Destroyed" && known(object, "/status/commands") < 40;
        let Some(object) = self.some_that(kind, quiet) else { return };
        for _ in known(&object, "/spec/commands")..self.chance.within(44..62) as usize {
            let mut command = self.expires(clocks);
            self.commands += 1;
            command["id"] = format!("c{}", self.commands).into();
            let add = json!([{"op": "add", "path": "/spec/commands/-", "value": command.clone()}]);
            if self.to(Verb::JsonPatch, kind, &object, add).is_ok() {
                self.pruned.push((kind, (*object).clone(), command));
            }
        }
    }
}
