//! Operators, who act at random: Blueprints and their limits, hosts, namespaces, clocks; and what happens to environments.

use crate::{
    actors::{NAMESPACES, People},
    journal::{Kind, What},
    server::request::{Request, Target, Verb},
    time::Clocks,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl People {
    pub(crate) fn make_blueprint(&self, namespace: &str, name: &str) {
        let c = &self.chance;
        let mut limits = json!({"leasesPerResource": 1});
        let driver = if name == "hosts" {
            let inventory: Vec<_> = (1..=c.within(1..5)).map(|n| self.host(n)).collect();
            if c.permille(300) {
                limits["maxResources"] = c.within(1..4).into();
            }
            json!({"hosts": {"inventory": inventory}})
        } else {
            let most = c.within(1..5);
            limits["maxResources"] = most.into();
            if c.permille(300) {
                limits["minReady"] = c.within(0..most + 1).into();
            }
            self.driver()
        };
        for (likely, limit, most) in [(400, "maxConcurrentBuilds", 4), (250, "maxLeasesPerNamespace", 5)] {
            if c.permille(likely) {
                limits[limit] = c.within(1..most).into();
            }
        }
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
        let mut resource = json!({"reclaimAfter": format!("{}s", if c.permille(500) { 30 } else { c.within(0..200) })});
        if c.permille(400) {
            resource["parameters"] = json!(["flavour"]);
            if c.permille(700) {
                resource["defaults"] = json!({"flavour": "small"});
            }
        }
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
        let mut spec = json!({
            "resourceType": "host", "allowedNamespaces": self.admitted(), "limits": limits, "lease": lease,
            "resource": resource, "driver": driver, "attributes": self.attributes(),
            "placement": if c.permille(400) { "Spread" } else { "Pack" },
        });
        if c.permille(250) {
            spec["expiry"] = json!({"unless": self.unless(), "retryAfter": format!("{}s", c.within(5..120))});
        }
        self.create(Kind::Blueprint, namespace, name, spec);
    }

    /// How a pool is built: which version of the driver's settings, and whether it is asked at deadlines.
    fn driver(&self) -> Value {
        let version = self.chance.within(1..4);
        let asked = if self.chance.permille(400) { "/asked" } else { "" };
        json!({"webhook": {"clientConfig": {"url": format!("https://driver.example/v{version}{asked}")}}})
    }

    fn attributes(&self) -> Value {
        match self.chance.within(0..4) {
            0 => json!({}),
            1 => json!({"arch": "b"}),
            _ => json!({"arch": "a"}),
        }
    }

    fn host(&self, n: u64) -> Value {
        let attributes = if self.chance.permille(300) { self.attributes() } else { json!({}) };
        json!({"name": format!("h{n}"), "address": format!("192.0.2.{n}"), "disabled": false, "attributes": attributes})
    }

    fn admitted(&self) -> Value {
        match self.chance.within(0..10) {
            0..6 => json!({"from": "All"}),
            6..8 => json!({"from": "Same"}),
            _ => json!({"from": "Selector", "selector": {"matchLabels": {"group": "red"}}}),
        }
    }

    /// What is never so, what is so for some time, and what cannot be said.
    fn unless(&self) -> String {
        let until = self.server.clocks.server() + SignedDuration::from_secs(self.chance.within(0..1800) as i64);
        match self.chance.within(0..4) {
            0 => "false".into(),
            1 => "lease.metadata.labels.busy == 'yes'".into(),
            2 => format!("has(resource.status.claims) && now < timestamp('{until:.0}')"),
            _ => format!("now < timestamp('{until:.0}')"),
        }
    }

    pub(crate) fn make_namespace(&self, name: &str) {
        let group = if self.chance.permille(600) { "red" } else { "blue" };
        let meta = json!({"name": name, "labels": {"group": group}});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta});
        self.ask(Verb::Create, Kind::Namespace, "", None, object);
    }

    /// What was out for a short time is set right, and what is missing is made again.
    pub(crate) fn come_back(&mut self, clocks: &Clocks) {
        if std::mem::take(&mut self.far) {
            self.jump(clocks, 0);
        }
        let there = |name: &str| self.server.get(Kind::Namespace, &(String::new(), name.to_owned())).is_some();
        for name in NAMESPACES.into_iter().filter(|name| !there(name)) {
            if self.chance.permille(100) {
                self.make_namespace(name);
                if name == "shared" {
                    self.make_blueprint("shared", "pool");
                    self.make_blueprint("shared", "hosts");
                }
            }
        }
    }

    pub(crate) fn delete_namespace(&self) {
        if let Some(namespace) = self.some(Kind::Namespace) {
            self.to(Verb::Delete, Kind::Namespace, &namespace, json!({}));
        }
    }

    pub(crate) fn relabel(&self) {
        if let Some(namespace) = self.some(Kind::Namespace) {
            let group = if namespace["metadata"]["labels"]["group"] == "red" { "blue" } else { "red" };
            self.merge(Kind::Namespace, &namespace, json!({"metadata": {"labels": {"group": group}}}));
        }
    }

    /// A Blueprint admits others, or others no more.
    pub(crate) fn admit(&self) {
        let Some(blueprint) = self.some(Kind::Blueprint) else { return };
        let mut admitted = self.admitted();
        if admitted["selector"].is_null() {
            admitted["selector"] = Value::Null;
        }
        self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"allowedNamespaces": admitted}}));
    }

    /// What resources are made from is another thing from now on: the driver's settings, attributes, or what their flavour is.
    pub(crate) fn remake(&self) {
        let Some(blueprint) = self.some(Kind::Blueprint) else { return };
        let is_pool = blueprint["spec"]["driver"]["webhook"].is_object();
        let spec = match self.chance.within(0..3) {
            0 if is_pool => json!({"driver": self.driver()}),
            1 => {
                let by_flavour = blueprint["spec"]["resource"]["parameters"].is_array();
                json!({"resource": {"parameters": if by_flavour { Value::Null } else { json!(["flavour"]) }}})
            }
            _ => json!({"attributes": {"arch": self.attributes()["arch"].clone()}}),
        };
        self.merge(Kind::Blueprint, &blueprint, json!({"spec": spec}));
    }

    /// As `kubectl scale` does.
    pub(crate) fn scale(&self) {
        let Some(blueprint) = self.some(Kind::Blueprint) else { return };
        let text = |field: &str| blueprint["metadata"][field].as_str().unwrap_or_default().to_owned();
        let target = Target::Scale { namespace: text("namespace"), name: text("name") };
        let body = json!({"spec": {"replicas": self.chance.within(0..4)}});
        let query = BTreeMap::new();
        self.server.handle(&self.me, &Request { verb: Verb::MergePatch, target, query, body, metadata_only: false });
    }

    pub(crate) fn damage_or_mend(&self) {
        if self.chance.permille(300) {
            return self.world.mend(&self.me);
        }
        if let Some(key) = self.chance.one(&self.world.there()).cloned() {
            self.world.damage(&self.me, &key, self.chance.permille(400));
        }
    }

    pub(crate) fn suspend(&self) {
        if let Some(blueprint) = self.some(Kind::Blueprint) {
            let suspend = blueprint["spec"]["suspend"] != true;
            self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"suspend": suspend}}));
        }
    }

    pub(crate) fn change_limits(&self) {
        let Some(blueprint) = self.some(Kind::Blueprint) else { return };
        let mut limits = json!({});
        if self.chance.permille(300) {
            let limit = if self.chance.permille(500) { "maxConcurrentBuilds" } else { "maxLeasesPerNamespace" };
            limits[limit] = self.chance.within(1..4).into();
        } else if blueprint["spec"]["driver"]["webhook"].is_object() && self.chance.permille(600) {
            limits["maxResources"] = self.chance.within(0..6).into();
        } else if blueprint["spec"]["lease"]["recycle"] != "Destroy" {
            limits["leasesPerResource"] = self.chance.within(1..4).into();
        }
        self.merge(Kind::Blueprint, &blueprint, json!({"spec": {"limits": limits}}));
    }

    /// A host is disabled, changed, removed, or comes.
    pub(crate) fn change_hosts(&self) {
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
                let new = self.host(self.chance.within(1..7));
                if inventory.iter().all(|host| host["name"] != new["name"]) {
                    inventory.push(new);
                }
            }
        }
        let patch = json!({"spec": {"driver": {"hosts": {"inventory": inventory}}}});
        self.merge(Kind::Blueprint, &blueprint, patch);
    }

    /// A Blueprint is deleted, and one of its name comes.
    pub(crate) fn drain(&self) {
        let Some(blueprint) = self.some(Kind::Blueprint) else { return };
        self.to(Verb::Delete, Kind::Blueprint, &blueprint, json!({}));
        for name in ["pool", "hosts"] {
            self.make_blueprint("shared", name);
        }
    }

    pub(crate) fn set_clock(&self, clocks: &Clocks) {
        // Never far from the API server's: what rests on its times cannot bear that for long.
        let to = match self.chance.within(0..4) {
            0 => self.chance.within(0..1800) as i64,
            1 => -(self.chance.within(0..600) as i64),
            2 => 0,
            _ => self.chance.within(0..10) as i64 - 5,
        };
        self.jump(clocks, to);
    }

    /// The controllers' clock is so many seconds ahead from now on.
    fn jump(&self, clocks: &Clocks, to: i64) {
        let seconds = to - clocks.ahead().as_secs();
        clocks.jump(SignedDuration::from_secs(seconds));
        let note = format!("the wall clock jumps by {seconds} s");
        self.server.journal.add(&self.me, What::Note(note));
    }

    /// Hours ahead, or back: for a short time.
    pub(crate) fn set_clock_far(&mut self, clocks: &Clocks) {
        let hours = self.chance.within(1800..7200) as i64;
        self.jump(clocks, if self.chance.permille(500) { hours } else { -hours });
        self.far = true;
    }

    /// A finalizer is forced off: what only an administrator may do, and what destroys the record of what was built.
    pub(crate) fn force(&self, kind: Kind) {
        if let Some(object) = self.some(kind) {
            self.force_off(kind, &object);
        }
    }

    /// Of this object.
    pub(crate) fn force_off(&self, kind: Kind, object: &Value) {
        self.to(Verb::Delete, kind, object, json!({}));
        self.merge(kind, object, json!({"metadata": {"finalizers": null}}));
    }
}
