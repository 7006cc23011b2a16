//! Requestors, users and operators, who act at random.

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
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The namespaces that there are. Blueprints of `shared` serve whoever they admit.
const NAMESPACES: [&str; 3] = ["team", "other", "shared"];

/// See the module.
pub struct People {
    server: Arc<Server>,
    chance: Chance,
    me: Arc<str>,
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
    pruned: Vec<(Kind, Value, Value)>,
}

impl People {
    /// Of a run.
    pub fn new(server: Arc<Server>, chance: Chance, plan: &Plan) -> Self {
        Self {
            me: "people".into(),
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
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            self.ask(Verb::Create, Kind::Namespace, "", None, object);
        }
    }

    /// The first Blueprints.
    pub fn set_up(&mut self) {
        self.make_blueprint("pool");
        if self.chance.permille(500) {
            self.make_blueprint("hosts");
        }
        if self.chance.permille(250) {
            self.make_blueprint("more");
        }
    }

    /// How long until somebody acts again.
    pub fn pause(&self) -> Duration {
        self.chance.milliseconds(1..self.pace)
    }

    /// What has to be undone before the system can come to rest: nothing stays suspended.
    pub fn leave(&mut self) {
        for blueprint in self.server.all(Kind::Blueprint) {
            if blueprint["spec"]["suspend"] == true {
                self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"suspend": false}}));
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

    pub fn ask(&self, verb: Verb, kind: Kind, namespace: &str, name: Option<&str>, body: Value) -> Answer {
        let namespace = Some(namespace.to_owned()).filter(|ns| !ns.is_empty());
        let target = Target::Objects { kind, namespace, name: name.map(str::to_owned), status: false };
        self.server.handle(&self.me, &Request { verb, target, query: BTreeMap::new(), body, metadata_only: false })
    }

    pub fn to(&self, verb: Verb, kind: Kind, object: &Value, body: Value) -> Answer {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        self.ask(verb, kind, text("namespace"), Some(text("name")), body)
    }

    pub fn merge(&self, kind: Kind, object: &Value, patch: Value) -> Answer {
        self.to(Verb::MergePatch, kind, object, patch)
    }

    fn some(&self, kind: Kind) -> Option<Arc<Value>> {
        self.chance.one(&self.server.all(kind)).cloned()
    }

    fn some_that(&self, kind: Kind, is: impl Fn(&Value) -> bool) -> Option<Arc<Value>> {
        let those: Vec<_> = self.server.all(kind).into_iter().filter(|object| is(object)).collect();
        self.chance.one(&those).cloned()
    }

    pub fn create(&self, kind: Kind, namespace: &str, name: &str, spec: Value) {
        let mut meta = json!({"name": name});
        if self.finalizer_on_create {
            meta["finalizers"] = json!(["drydock.dev/teardown"]);
        }
        let kind_name = format!("{kind:?}");
        let object = json!({"apiVersion": "drydock.dev/v1alpha1", "kind": kind_name, "metadata": meta, "spec": spec});
        self.ask(Verb::Create, kind, namespace, None, object);
    }

    fn make_blueprint(&self, name: &str) {
        let c = &self.chance;
        let mut limits = json!({"leasesPerResource": 1});
        let driver = if name == "hosts" {
            let inventory: Vec<_> = (1..=c.within(1..5)).map(|n| host(n, false)).collect();
            if c.permille(300) {
                limits["maxResources"] = c.within(1..4).into();
            }
            json!({"hosts": {"inventory": inventory}})
        } else {
            limits["maxResources"] = c.within(1..5).into();
            json!({"webhook": {"clientConfig": {"url": "https://driver.example"}}})
        };
        let mut lease = json!({});
        if c.permille(250) {
            lease["recycle"] = "Destroy".into();
        } else if c.permille(300) {
            limits["leasesPerResource"] = c.within(2..4).into();
        }
        if c.permille(500) {
            lease["maxTTL"] = format!("{}s", c.within(60..1800)).into();
        }
        if c.permille(500) {
            lease["defaultTTL"] = format!("{}s", c.within(20..900)).into();
        }
        if c.permille(300) {
            lease["maxExtensions"] = c.within(0..3).into();
        }
        if c.permille(300) {
            lease["activationTimeout"] = format!("{}s", c.within(20..600)).into();
        }
        if c.permille(300) {
            lease["maxHold"] = format!("{}s", c.within(20..900)).into();
        }
        let mut resource = json!({"reclaimAfter": "30s"});
        if c.permille(400) {
            resource["idleTTL"] = format!("{}s", c.within(10..300)).into();
        }
        if c.permille(250) {
            resource["ttl"] = format!("{}s", c.within(120..1800)).into();
        }
        for timeout in ["buildTimeout", "teardownTimeout"] {
            if c.permille(400) {
                resource[timeout] = format!("{}s", c.within(30..900)).into();
            }
        }
        let from = if c.permille(800) { "All" } else { "Same" };
        let spec = json!({
            "resourceType": "host", "allowedNamespaces": {"from": from}, "limits": limits, "lease": lease,
            "resource": resource, "driver": driver,
        });
        self.create(Kind::Blueprint, "shared", name, spec);
    }

    fn make_lease(&mut self, clocks: &Clocks) {
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
            let name = if c.permille(700) { "pool" } else { "hosts" };
            spec["blueprints"] = json!([{"namespace": "shared", "name": name}]);
        }
        let namespace = NAMESPACES[c.within(0..2) as usize];
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

    fn suspend(&self) {
        if let Some(blueprint) = self.some(Kind::Blueprint) {
            let suspend = blueprint["spec"]["suspend"] != true;
            self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"suspend": suspend}}));
        }
    }

    fn change_limits(&self) {
        let Some(blueprint) = self.some(Kind::Blueprint) else { return };
        let mut limits = json!({});
        if blueprint["spec"]["driver"]["webhook"].is_object() && self.chance.permille(600) {
            limits["maxResources"] = self.chance.within(0..6).into();
        } else if blueprint["spec"]["lease"]["recycle"] != "Destroy" {
            limits["leasesPerResource"] = self.chance.within(1..4).into();
        }
        self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"limits": limits}}));
    }

    /// A host is disabled, changed, removed, or comes.
    fn change_hosts(&self) {
        let hosts = ("shared".to_owned(), "hosts".to_owned());
        let Some(blueprint) = self.server.get(Kind::Blueprint, &hosts) else { return };
        let mut inventory = blueprint["spec"]["driver"]["hosts"]["inventory"].as_array().cloned().unwrap_or_default();
        let n = self.chance.within(0..inventory.len() as u64 + 1) as usize;
        match self.chance.within(0..4) {
            0 if n < inventory.len() => {
                let disabled = inventory[n]["disabled"] != true;
                inventory[n]["disabled"] = disabled.into();
            }
            1 if n < inventory.len() => inventory[n]["user"] = format!("u{}", self.chance.within(0..3)).into(),
            2 if n < inventory.len() => drop(inventory.remove(n)),
            _ => {
                let new = host(self.chance.within(1..7), false);
                if inventory.iter().all(|host| host["name"] != new["name"]) {
                    inventory.push(new);
                }
            }
        }
        let patch = json!({"spec": {"driver": {"hosts": {"inventory": inventory}}}});
        self.merge(Kind::Blueprint, &blueprint, patch);
    }

    /// A Blueprint is deleted, and one of its name comes.
    fn drain(&self) {
        let Some(blueprint) = self.some(Kind::Blueprint) else { return };
        self.to(Verb::Delete, Kind::Blueprint, &blueprint, json!({}));
        for name in ["pool", "hosts"] {
            self.make_blueprint(name);
        }
    }

    fn set_clock(&self, clocks: &Clocks) {
        // Never far from the API server's: what rests on its times cannot bear that for long.
        let to = match self.chance.within(0..4) {
            0 => self.chance.within(0..1800) as i64,
            1 => -(self.chance.within(0..600) as i64),
            2 => 0,
            _ => self.chance.within(0..10) as i64 - 5,
        };
        let seconds = to - clocks.ahead().as_secs();
        clocks.jump(SignedDuration::from_secs(seconds));
        let note = format!("the wall clock jumps by {seconds} s");
        self.server.journal.add(&self.me, crate::journal::What::Note(note));
    }

    /// A finalizer is forced off: what only an administrator may do, and what destroys the record of what was built.
    fn force(&self, kind: Kind) {
        if let Some(object) = self.some(kind) {
            self.force_off(kind, &object);
        }
    }

    /// Of this object.
    pub fn force_off(&self, kind: Kind, object: &Value) {
        self.to(Verb::Delete, kind, object, json!({}));
        self.merge(kind, object, json!({"metadata": {"finalizers": null}}));
    }
}

fn host(n: u64, disabled: bool) -> Value {
    json!({"name": format!("h{n}"), "address": format!("192.0.2.{n}"), "disabled": disabled})
}
