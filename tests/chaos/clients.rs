//! Clients: they create leases, command, extend, delete, edit and suspend, and try again when the server is away, as clients
//! do. What they are refused is their own affair; what became of it is the checker's.

use crate::{
    ground::{self, BLUEPRINTS, NAMESPACE},
    plan::Plan,
    random::Chance,
    recorder::Recorder,
    support::{ControlPlane, Identity, resource_of},
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// A request that takes longer is given up and sent again, though it may have been carried out.
const REQUEST: Duration = Duration::from_secs(5);

/// One client.
pub struct Client {
    number: u64,
    plan: Plan,
    chance: Chance,
    recorder: Recorder,
    /// No more, once this says so.
    over: watch::Receiver<bool>,
    leases: Api<DynamicObject>,
    resources: Api<DynamicObject>,
    blueprints: Api<DynamicObject>,
    /// The names of the leases that this one has created.
    created: Vec<String>,
    /// The commands that it has sent, and to what.
    sent: Vec<(&'static str, String, Value)>,
}

impl Client {
    pub async fn new(
        plane: &ControlPlane,
        plan: Plan,
        number: u64,
        recorder: &Recorder,
        over: watch::Receiver<bool>,
    ) -> Client {
        let client = plane.client(Identity::Admin).await;
        let api = |kind| Api::namespaced_with(client.clone(), NAMESPACE, &resource_of(kind));
        let (leases, resources, blueprints) = (api("lease"), api("resource"), api("blueprint"));
        let chance = plan.chance(100 + number);
        let recorder = recorder.clone();
        Client { number, plan, chance, recorder, over, leases, resources, blueprints, created: vec![], sent: vec![] }
    }

    /// Acts until it is over.
    pub async fn act(mut self) {
        while !*self.over.borrow() {
            match self.chance.within(0..100) {
                0..55 => self.create().await,
                55..78 => self.command_lease().await,
                78..83 => self.command_resource().await,
                83..87 => self.send_again().await,
                87..90 => self.prune().await,
                90..94 => self.delete_lease().await,
                94..96 => self.delete_resource().await,
                96..99 => self.edit_blueprint().await,
                _ => self.recreate_blueprint().await,
            }
            // The pace of clients; not a wait for something.
            tokio::time::sleep(self.chance.milliseconds(10..150)).await;
        }
    }

    /// Sends until there is an answer. One that got lost may have taken effect.
    async fn send<T, F: Future<Output = kube::Result<T>>>(&self, request: impl Fn() -> F) -> Option<T> {
        while !*self.over.borrow() {
            match tokio::time::timeout(REQUEST, request()).await {
                Ok(Ok(answer)) => return Some(answer),
                // Refused, or not there any more.
                Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
                    return None;
                }
                Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        None
    }

    async fn create(&mut self) {
        let spec = self.wish();
        if self.unfinished(&spec["resourceType"]) >= self.plan.leases {
            return;
        }
        let name = format!("c{}-{}", self.number, self.created.len());
        let object = lease(&name, spec);
        self.send(|| async { self.leases.create(&PostParams::default(), &object).await }).await;
        self.created.push(name);
    }

    /// How many leases of a type are not over: a queue that only grows would show nothing new.
    fn unfinished(&self, kind: &Value) -> usize {
        let record = self.recorder.look();
        let leases = record.checker.of(crate::checker::Kind::Lease).values();
        leases.filter(|l| l["spec"]["resourceType"] == *kind && crate::checker::phase(l) != "Destroyed").count()
    }

    /// The spec of a lease.
    fn wish(&self) -> Value {
        let chance = &self.chance;
        let kind = match chance.within(0..20) {
            0..8 => "host",
            8..13 => "shared",
            13..15 => "once",
            15..19 => "env",
            _ => "space",
        };
        let mut spec = json!({"resourceType": kind, "ttlAfterDestroyed": "20s"});
        match chance.within(0..20) {
            0..16 => spec["ttl"] = json!(format!("{}ms", chance.within(200..3_000))),
            16..19 => spec["expiresAt"] = json!(from_now(chance.within(1_000..12_000))),
            _ => {}
        }
        if chance.permille(200) {
            spec["queueTimeout"] = json!(format!("{}ms", chance.within(0..8_000)));
        }
        if chance.permille(300) {
            spec["priority"] = json!(chance.within(0..20) as i64 - 10);
        }
        spec
    }

    /// One of the leases that this client has lately created.
    fn lease(&self) -> Option<String> {
        let recent = &self.created[self.created.len().saturating_sub(20)..];
        self.chance.one(recent).cloned()
    }

    async fn command_lease(&mut self) {
        let Some(name) = self.lease() else { return };
        let chance = &self.chance;
        let mut command = match chance.within(0..10) {
            0..4 => json!({"type": "Release", "reason": "done"}),
            4..6 => json!({"type": "Release", "hold": format!("{}ms", chance.within(100..4_000))}),
            6..8 => json!({"type": "Expires", "after": format!("{}ms", chance.within(0..6_000))}),
            8 => json!({"type": "Expires", "at": from_now(chance.within(0..8_000))}),
            _ => json!({"type": "Expires", "never": true}),
        };
        self.new_id(&mut command);
        self.append("lease", name, command).await;
    }

    async fn command_resource(&mut self) {
        let Some(ObjectMeta { name: Some(name), .. }) = self.resource().await else { return };
        let mut command = match self.chance.within(0..4) {
            0 => json!({"type": "Release"}),
            1 => json!({"type": "Expires", "after": format!("{}ms", self.chance.within(500..9_000))}),
            _ => json!({"type": "Reclaim"}),
        };
        self.new_id(&mut command);
        self.append("resource", name, command).await;
    }

    async fn resource(&self) -> Option<ObjectMeta> {
        let found = self.send(|| async { self.resources.list(&ListParams::default()).await }).await?;
        Some(self.chance.one(&found.items)?.metadata.clone())
    }

    fn new_id(&self, command: &mut Value) {
        command["id"] = json!(format!("c{}-{}", self.number, self.sent.len()));
    }

    fn api(&self, kind: &str) -> &Api<DynamicObject> {
        if kind == "lease" { &self.leases } else { &self.resources }
    }

    async fn append(&mut self, kind: &'static str, name: String, command: Value) {
        self.sent.push((kind, name.clone(), command.clone()));
        self.append_once(kind, &name, &command).await;
    }

    async fn append_once(&self, kind: &str, name: &str, command: &Value) {
        let patch = json!([{"op": "add", "path": "/spec/commands/-", "value": command}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        self.send(|| async { self.api(kind).patch(name, &PatchParams::default(), &patch).await }).await;
    }

    /// An answer got lost, or so it seems to the client; or the entry has been pruned meanwhile.
    async fn send_again(&self) {
        let recent = &self.sent[self.sent.len().saturating_sub(20)..];
        let Some((kind, name, command)) = self.chance.one(recent) else { return };
        self.append_once(kind, name, command).await;
    }

    /// Takes what is consumed off a queue.
    async fn prune(&self) {
        let Some(name) = self.lease() else { return };
        let Some(found) = self.send(|| async { self.leases.get(&name).await }).await else { return };
        let consumed = |command: &Value| {
            let ledger = found.data["status"]["commands"].as_array();
            ledger.is_some_and(|ledger| ledger.iter().any(|entry| entry["id"] == command["id"]))
        };
        let mut left = found.data["spec"]["commands"].as_array().cloned().unwrap_or_default();
        left.retain(|command| !consumed(command));
        let patch = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": found.metadata.resource_version},
            {"op": "replace", "path": "/spec/commands", "value": left},
        ]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        self.send(|| async { self.leases.patch(&name, &PatchParams::default(), &patch).await }).await;
    }

    async fn delete_lease(&self) {
        let Some(name) = self.lease() else { return };
        self.send(|| async { self.leases.delete(&name, &DeleteParams::default()).await }).await;
    }

    async fn delete_resource(&self) {
        let Some(ObjectMeta { name: Some(name), uid, .. }) = self.resource().await else { return };
        // By its UID. kube-apiserver looks whether an object has finalizers before it deletes what has its name by then: a
        // namesake that has come in between, as it does in a slot, would go without them (registry/generic, Store.Delete).
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        self.send(|| async { self.resources.delete(&name, &params).await }).await;
    }

    /// Other limits, a host less or more, suspended for a while, or an end moved.
    async fn edit_blueprint(&self) {
        let chance = &self.chance;
        let name = *chance.one(&BLUEPRINTS).unwrap();
        let hosts = matches!(name, "host" | "shared");
        let edit = match chance.within(0..4) {
            0 => return self.suspend(name).await,
            _ if hosts => {
                let mut spec = ground::blueprint(name)["spec"].take();
                for host in spec["driver"]["hosts"]["inventory"].as_array_mut().unwrap() {
                    host["disabled"] = json!(chance.permille(200));
                }
                spec
            }
            1 if name == "env" => json!({"limits": {"leasesPerResource": chance.within(1..4)}}),
            2 if name == "env" => json!({"limits": {"minReady": chance.within(0..3)}}),
            _ => json!({"limits": {"maxResources": chance.within(1..5)}}),
        };
        self.edit(name, edit).await;
    }

    async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.send(|| async { self.blueprints.patch(name, &PatchParams::default(), &patch).await }).await;
    }

    /// For a while; should the end of it get lost, the next who suspends it ends it.
    async fn suspend(&self, name: &str) {
        self.edit(name, json!({"suspend": true})).await;
        tokio::time::sleep(self.chance.milliseconds(200..3_000)).await;
        self.edit(name, json!({"suspend": false})).await;
    }

    /// Deleted, drained, and made anew under its name.
    async fn recreate_blueprint(&self) {
        let name = *self.chance.one(&BLUEPRINTS).unwrap();
        self.send(|| async { self.blueprints.delete(name, &DeleteParams::default()).await }).await;
        make_blueprint(&self.blueprints, name, &self.over).await;
    }
}

/// Creates a Blueprint as soon as there is none of its name.
pub async fn make_blueprint(blueprints: &Api<DynamicObject>, name: &str, over: &watch::Receiver<bool>) {
    let object: DynamicObject = serde_json::from_value(ground::blueprint(name)).unwrap();
    while !*over.borrow() {
        match tokio::time::timeout(REQUEST, blueprints.create(&PostParams::default(), &object)).await {
            Ok(Ok(_)) => return,
            // There is one already, maybe by another client.
            _ if matches!(blueprints.get_opt(name).await, Ok(Some(found)) if found.metadata.deletion_timestamp.is_none()) =>
            {
                return;
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// A lease.
pub fn lease(name: &str, spec: Value) -> DynamicObject {
    let object = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": name}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// The instant so many milliseconds from now, as an object has it.
fn from_now(milliseconds: u64) -> String {
    let now = jiff::Timestamp::now() + Duration::from_millis(milliseconds);
    format!("{now:.6}")
}

/// Starts so many clients.
pub async fn start(
    plane: &Arc<ControlPlane>,
    plan: Plan,
    recorder: &Recorder,
    over: &watch::Receiver<bool>,
) -> tokio::task::JoinSet<()> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..plan.clients as u64 {
        clients.spawn(Client::new(plane, plan, number, recorder, over.clone()).await.act());
    }
    clients
}
