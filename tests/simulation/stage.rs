//! Where a scene is played: a few objects, two controllers, nothing by chance but how long a request takes; and what is kept
//! from which controller, for how long. It brings about in a minute what chance hardly ever does.

use crate::{
    actors::People,
    checks::{Checks, Wrong},
    faults::{Faults, Shut},
    journal::Kind,
    server::{Server, request::Verb},
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// One controller, and the other.
pub const FIRST: &str = "controller-1.";
/// See `FIRST`.
pub const SECOND: &str = "controller-2.";
/// Both of them.
pub const BOTH: &str = "controller-";

/// So long a scene waits for what is to come.
const WAIT: Duration = Duration::from_secs(600);

/// By then the few objects of a scene have come to rest.
pub const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// What happens on a stage, or what it waited for in vain.
pub type Scene = for<'a> fn(&'a Stage) -> BoxFuture<'a, Result<(), InVain>>;

/// What a scene waited for.
pub type InVain = String;

/// See the module.
pub struct Stage {
    pub server: Arc<Server>,
    pub faults: Arc<Faults>,
    pub people: People,
    /// See `be_fair`.
    pub fair: AtomicBool,
}

impl Stage {
    /// Plays a scene, as long as nothing is wrong.
    pub async fn play(&self, scene: Scene, checks: &mut Checks) -> (Option<Wrong>, Option<InVain>) {
        let mut playing = scene(self);
        loop {
            tokio::select! {
                biased;
                end = &mut playing => return (self.catch_up(checks), end.err()),
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    if let Some(wrong) = self.catch_up(checks) {
                        return (Some(wrong), None);
                    }
                }
            }
        }
    }

    /// Somebody makes a Blueprint.
    pub fn make_blueprint(&self, name: &str, limits: Value, resource: Value, driver: Value) {
        let spec = json!({
            "resourceType": "host", "allowedNamespaces": {"from": "All"}, "limits": limits, "resource": resource,
            "driver": driver,
        });
        self.people.create(Kind::Blueprint, "shared", name, spec);
    }

    /// Somebody makes a Blueprint whose driver's steps have effects.
    pub fn make_pool(&self, most: u64, leases_per_resource: u64) {
        let limits = json!({"maxResources": most, "leasesPerResource": leases_per_resource});
        self.make_blueprint("pool", limits, json!({}), webhook());
    }

    /// Somebody wants a resource.
    pub fn make_lease(&self, name: &str) {
        self.make_lease_of(name, "small");
    }

    /// Somebody wants a resource of this size.
    pub fn make_lease_of(&self, name: &str, size: &str) {
        let spec = json!({"resourceType": "host", "parameters": {"size": size}});
        self.people.create(Kind::Lease, "team", name, spec);
    }

    /// Somebody appends a command.
    pub fn append(&self, kind: Kind, name: &str, command: Value) {
        let add = json!([{"op": "add", "path": "/spec/commands/-", "value": command}]);
        self.people.to(Verb::JsonPatch, kind, &self.one(kind, name), add);
    }

    /// Somebody deletes it.
    pub fn delete(&self, kind: Kind, name: &str) {
        self.people.to(Verb::Delete, kind, &self.one(kind, name), json!({}));
    }

    /// Somebody forces its finalizer off.
    pub fn force_off(&self, kind: Kind, name: &str) {
        self.people.force_off(kind, &self.one(kind, name));
    }

    /// From now on this is shut.
    pub fn shut(&self, what: Shut) {
        self.faults.shut(what);
    }

    /// It is open again.
    pub fn open(&self, what: Shut) {
        self.faults.open(|shut| *shut == what);
    }

    /// Everything is open again.
    pub fn open_all(&self) {
        self.faults.open(|_| true);
    }

    fn catch_up(&self, checks: &mut Checks) -> Option<Wrong> {
        checks.now.fair |= self.fair.load(Ordering::Relaxed);
        checks.catch_up()
    }

    /// From now on nothing is shut, and who is served, and by what, is looked at.
    pub fn be_fair(&self) {
        self.fair.store(true, Ordering::Relaxed);
        self.server.journal.be_prompt();
    }

    /// Waits until a lease is Active, and gives the name of what it holds.
    pub async fn until_served(&self, lease: &str) -> Result<String, InVain> {
        self.until_is(Kind::Lease, lease, "Active").await?;
        let held = &self.one(Kind::Lease, lease)["status"]["resourceRef"]["name"];
        Ok(held.as_str().unwrap_or_default().to_owned())
    }

    /// Somebody releases a lease, and it is over.
    pub async fn release(&self, lease: &str) -> Result<(), InVain> {
        self.append(Kind::Lease, lease, json!({"id": format!("release-{lease}"), "type": "Release"}));
        self.until_is(Kind::Lease, lease, "Destroyed").await
    }

    /// The object of this name, as it is now; nothing where it is not there.
    pub fn one(&self, kind: Kind, name: &str) -> Value {
        let named = |object: &Arc<Value>| object["metadata"]["name"] == name;
        self.server.all(kind).into_iter().find(named).map_or(Value::Null, |object| (*object).clone())
    }

    /// Waits until the object of this name is so; of one that is not there `is` gets null.
    pub async fn until(&self, kind: Kind, name: &str, is: impl Fn(&Value) -> bool) -> Result<(), InVain> {
        let waiting = async {
            loop {
                let mut news = std::pin::pin!(self.server.news.notified());
                news.as_mut().enable();
                if is(&self.one(kind, name)) {
                    return;
                }
                news.await;
            }
        };
        let waited = tokio::time::timeout(WAIT, waiting).await;
        waited.map_err(|_| format!("{kind:?} {name} is not as it is to be: {}", self.one(kind, name)))
    }

    /// Waits until it is in this phase.
    pub async fn until_is(&self, kind: Kind, name: &str, phase: &str) -> Result<(), InVain> {
        self.until(kind, name, |object| object["status"]["phase"] == phase).await
    }

    /// Waits until it has these many claims.
    pub async fn until_claimed(&self, name: &str, times: usize) -> Result<(), InVain> {
        let claims = |object: &Value| object["status"]["claims"].as_array().map_or(0, Vec::len);
        self.until(Kind::Resource, name, |object| claims(object) == times).await
    }

    /// Lets some time go by: what is there now has been shown to whoever may see it, and what must not happen has had its time.
    pub async fn a_while(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}

/// The driver whose steps have effects.
pub fn webhook() -> Value {
    json!({"webhook": {"clientConfig": {"url": "https://driver.example"}}})
}
