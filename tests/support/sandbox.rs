//! A namespace for one test, and the words in which a story is told: apply, append a command, wait, look.
//!
//! Objects are named like `lease/build-1`, in the sandbox's namespace.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watch_object, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::controller::ControllerProcess;
use super::controlplane::{ControlPlane, Identity};
use super::history::{History, Soon};
use super::install::impersonation;

/// How long a story waits for what must happen at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a test lets an ordinary user do in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Look at Drydock's objects and at Events.
    View,
    /// Look at them, and create, change and delete leases, resources and blueprints.
    Edit,
}

/// A fresh namespace with its history.
pub struct Sandbox<'a> {
    plane: &'a ControlPlane,
    namespace: String,
    clients: Mutex<BTreeMap<Identity, Client>>,
    history: History,
}

impl Sandbox<'static> {
    /// A namespace on the control plane of this test binary, named after the story.
    pub async fn new(story: &str) -> Sandbox<'static> {
        Sandbox::on(super::shared().await, story).await
    }
}

impl<'a> Sandbox<'a> {
    /// A namespace on a given control plane.
    pub async fn on(plane: &'a ControlPlane, story: &str) -> Sandbox<'a> {
        let admin = plane.client(Identity::Admin).await;
        let namespace = format!("{story}-{:06x}", super::random() & 0xff_ffff);
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.clone()), ..Default::default() },
            ..Default::default()
        };
        let created = Api::all(admin.clone()).create(&PostParams::default(), &object).await;
        created.unwrap_or_else(|error| panic!("creating the namespace {namespace}: {error}"));
        let history = History::watch(admin.clone(), &namespace).await;
        let sandbox = Sandbox { plane, namespace, clients: Mutex::new([(Identity::Admin, admin)].into()), history };
        if plane.kubeconfig(Identity::Controller).exists() {
            sandbox.let_the_controller_impersonate().await;
        }
        sandbox
    }

    /// See `impersonation`.
    pub async fn let_the_controller_impersonate(&self) {
        self.apply(Identity::Admin, &impersonation().to_string()).await;
        self.allowed(Identity::Controller, "impersonate", "", "serviceaccounts").await;
    }

    /// The control plane that it is on.
    pub fn plane(&self) -> &'a ControlPlane {
        self.plane
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Every version of its blueprints, resources and leases since it was made.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// A controller for this namespace alone, ready.
    pub async fn controller(&self) -> ControllerProcess {
        self.controller_for(&[], &[]).await
    }

    /// A controller for this namespace and others, with further arguments, ready.
    pub async fn controller_for(&self, others: &[&Sandbox<'_>], more: &[&str]) -> ControllerProcess {
        let mut namespaces = vec![self.namespace()];
        namespaces.extend(others.iter().map(|other| other.namespace()));
        ControllerProcess::start(self.plane, &namespaces, more).await
    }

    /// Lets an ordinary user act in this namespace, and waits until the API server knows.
    pub async fn grant(&self, identity: Identity, rights: Rights) {
        let look = ["get", "list", "watch"];
        let (verbs, probe) = match rights {
            Rights::View => (look.to_vec(), "list"),
            Rights::Edit => ([&look[..], &["create", "update", "patch", "delete"]].concat(), "create"),
        };
        let name = format!("{}-{rights:?}", identity.name()).to_lowercase();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
            "rules": [
                {"apiGroups": ["drydock.dev"], "resources": ["blueprints", "resources", "leases"], "verbs": verbs},
                {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": look},
            ],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": identity.user()}],
        });
        for object in [role, binding] {
            self.apply(Identity::Admin, &object.to_string()).await;
        }
        self.allowed(identity, probe, "drydock.dev", "leases").await;
    }

    /// Waits until somebody may do this here. The authorizer learns of a new binding from a watch.
    async fn allowed(&self, identity: Identity, verb: &str, group: &str, resource: &str) {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client(identity).await);
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            namespace: Some(self.namespace.clone()),
            verb: Some(verb.to_owned()),
            ..Default::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let ask = async {
            while !reviews.create(&PostParams::default(), &review).await?.status.is_some_and(|status| status.allowed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(answer) => answer.unwrap_or_else(|error| panic!("asking what {identity:?} may do: {error}")),
            Err(_) => panic!("{identity:?} may still not {verb} {resource} in {}", self.namespace),
        }
    }

    /// A client that acts as somebody, for what this has no words for.
    pub async fn client(&self, identity: Identity) -> Client {
        if let Some(client) = self.clients.lock().unwrap().get(&identity) {
            return client.clone();
        }
        let client = self.plane.client(identity).await;
        self.clients.lock().unwrap().entry(identity).or_insert(client).clone()
    }

    /// The objects of a kind (`lease`, `Lease`), as somebody.
    pub async fn api(&self, identity: Identity, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(identity).await, &self.namespace, &resource_of(kind))
    }

    /// Applies YAML (one object, or several between `---`) as somebody, as `kubectl apply --server-side` does. Fails the
    /// test if it is refused.
    pub async fn apply(&self, identity: Identity, yaml: &str) -> Vec<DynamicObject> {
        self.try_apply(identity, yaml).await.unwrap_or_else(|error| panic!("{identity:?} applies\n{yaml}\n{error}"))
    }

    /// The same, where a refusal is an answer.
    pub async fn try_apply(&self, identity: Identity, yaml: &str) -> kube::Result<Vec<DynamicObject>> {
        let mut applied = vec![];
        for document in documents(yaml) {
            let kind = document["kind"].as_str().unwrap_or_else(|| panic!("no kind in\n{yaml}"));
            let name = document["metadata"]["name"].as_str().unwrap_or_else(|| panic!("no name in\n{yaml}"));
            let api = self.api(identity, kind).await;
            applied.push(api.patch(name, &PatchParams::apply(identity.name()), &Patch::Apply(&document)).await?);
        }
        Ok(applied)
    }

    /// Appends a command, like `{"id": "r1", "type": "Release"}`, to an object's queue as somebody. Fails the test if it is
    /// refused.
    pub async fn append(&self, identity: Identity, object: &str, command: Value) -> DynamicObject {
        let said = command.to_string();
        let appended = self.try_append(identity, object, vec![command]).await;
        appended.unwrap_or_else(|error| panic!("{identity:?} appends {said} to {object}: {error}"))
    }

    /// Appends commands in one patch, where a refusal is an answer.
    pub async fn try_append(
        &self,
        identity: Identity,
        object: &str,
        commands: Vec<Value>,
    ) -> kube::Result<DynamicObject> {
        let (api, name) = self.find(identity, object).await;
        let add = |command: &Value| json!({"op": "add", "path": "/spec/commands/-", "value": command});
        let append: Vec<Value> = commands.iter().map(add).collect();
        // An object without a queue gets one; the test keeps a queue that came into being meanwhile.
        let begin = [
            json!({"op": "test", "path": "/spec/commands", "value": null}),
            json!({"op": "add", "path": "/spec/commands", "value": commands}),
        ];
        loop {
            let has_queue = api.get(name).await?.data["spec"].get("commands").is_some();
            let operations = if has_queue { json!(append) } else { json!(begin) };
            let patch = Patch::Json::<()>(serde_json::from_value(operations).map_err(kube::Error::SerdeError)?);
            match api.patch(name, &PatchParams::default(), &patch).await {
                Err(kube::Error::Api(status)) if !has_queue && status.message.contains("/spec/commands") => {}
                answer => return answer,
            }
        }
    }

    /// Patches an object with a merge patch as somebody, where a refusal is an answer.
    pub async fn try_patch(&self, identity: Identity, object: &str, patch: Value) -> kube::Result<DynamicObject> {
        let (api, name) = self.find(identity, object).await;
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Patches an object with a merge patch as somebody. Fails the test if it is refused.
    pub async fn patch(&self, identity: Identity, object: &str, patch: Value) -> DynamicObject {
        let said = patch.to_string();
        let patched = self.try_patch(identity, object, patch).await;
        patched.unwrap_or_else(|error| panic!("{identity:?} patches {object} with {said}: {error}"))
    }

    /// Patches an object's status with a merge patch as somebody, where a refusal is an answer.
    pub async fn try_patch_status(
        &self,
        identity: Identity,
        object: &str,
        status: Value,
    ) -> kube::Result<DynamicObject> {
        let (api, name) = self.find(identity, object).await;
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await
    }

    /// Deletes an object as somebody. It may stay until its finalizers are gone: see [`Self::wait_gone`].
    pub async fn delete(&self, identity: Identity, object: &str) {
        let (api, name) = self.find(identity, object).await;
        let deleted = api.delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{identity:?} deletes {object}: {error}"));
    }

    /// An object as it is now. Fails the test if there is none.
    pub async fn get(&self, object: &str) -> DynamicObject {
        self.try_get(object).await.unwrap_or_else(|| panic!("there is no {object} in {}", self.namespace))
    }

    /// An object as it is now, if there is one.
    pub async fn try_get(&self, object: &str) -> Option<DynamicObject> {
        let (api, name) = self.find(Identity::Admin, object).await;
        api.get_opt(name).await.unwrap_or_else(|error| panic!("getting {object}: {error}"))
    }

    /// All objects of a kind as they are now, by name.
    pub async fn list(&self, kind: &str) -> Vec<DynamicObject> {
        let api = self.api(Identity::Admin, kind).await;
        let listed =
            api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("listing each {kind}: {error}"));
        listed.items
    }

    /// Waits until an object is there and is as it should be; `what` says how, for the message if that never happens.
    pub async fn wait_for(&self, object: &str, what: &str, is: impl Fn(&DynamicObject) -> bool) -> DynamicObject {
        self.wait_within(PATIENCE, object, what, is).await
    }

    /// The same, with a time limit of its own.
    pub async fn wait_within(
        &self,
        limit: Duration,
        object: &str,
        what: &str,
        is: impl Fn(&DynamicObject) -> bool,
    ) -> DynamicObject {
        let found = self.watch(limit, object, what, |object| object.is_some_and(&is)).await;
        found.expect("the condition holds only for an object that is there")
    }

    /// Waits until an object is in a phase.
    pub async fn wait_phase(&self, object: &str, wanted: &str) -> DynamicObject {
        self.wait_for(object, &format!("in phase {wanted}"), |object| phase(object) == wanted).await
    }

    /// Waits until there is no such object.
    pub async fn wait_gone(&self, object: &str) {
        self.watch(PATIENCE, object, "gone", |object| object.is_none()).await;
    }

    /// Waits until an Event with this reason was published about an object of this name.
    pub async fn wait_event(&self, name: &str, reason: &str) -> DynamicObject {
        // What is published as an events.k8s.io/v1 Event is read here as a core/v1 one.
        let is = |event: &DynamicObject| event.data["involvedObject"]["name"] == name && event.data["reason"] == reason;
        self.wait_any("Event", &format!("an Event {reason} about {name}"), is).await
    }

    /// Waits until any object of a kind is as it should be; `what` says how.
    pub async fn wait_any(&self, kind: &str, what: &str, is: impl Fn(&DynamicObject) -> bool) -> DynamicObject {
        let api = self.api(Identity::Admin, kind).await;
        let watch = async {
            let mut versions = watcher(api, Config::default()).backoff(Soon).applied_objects().boxed();
            while let Some(object) = versions.next().await {
                if let Ok(object) = object
                    && is(&object)
                {
                    return object;
                }
            }
            panic!("the watch of each {kind} has ended")
        };
        match tokio::time::timeout(PATIENCE, watch).await {
            Ok(object) => object,
            Err(_) => panic!("waited {PATIENCE:.0?} in vain for {what} in {}", self.namespace),
        }
    }

    /// Watches one object until a condition holds.
    async fn watch(
        &self,
        limit: Duration,
        object: &str,
        what: &str,
        is: impl Fn(Option<&DynamicObject>) -> bool,
    ) -> Option<DynamicObject> {
        let (api, name) = self.find(Identity::Admin, object).await;
        watched(api, name, limit, &format!("{object} in {}", self.namespace), what, is).await
    }

    async fn find<'n>(&self, identity: Identity, object: &'n str) -> (Api<DynamicObject>, &'n str) {
        let (kind, name) = object.split_once('/').expect("an object is named like lease/a");
        (self.api(identity, kind).await, name)
    }
}

/// Watches one object until a condition holds, and returns it as it is then. `object` and `what` are for the message if that
/// never happens.
pub async fn watched(
    api: Api<DynamicObject>,
    name: &str,
    limit: Duration,
    object: &str,
    what: &str,
    is: impl Fn(Option<&DynamicObject>) -> bool,
) -> Option<DynamicObject> {
    let mut last = None;
    let watch = async {
        let mut versions = watch_object(api, name).backoff(Soon).boxed();
        while let Some(version) = versions.next().await {
            // An error is the connection's: the watch goes on by itself, within the limit.
            let Ok(version) = version else { continue };
            last = version;
            if is(last.as_ref()) {
                return;
            }
        }
    };
    if tokio::time::timeout(limit, watch).await.is_ok() {
        return last;
    }
    let present = match last {
        Some(mut object) => {
            object.metadata.managed_fields = None;
            serde_yaml::to_string(&object).unwrap_or_default()
        }
        None => "not there".to_owned(),
    };
    panic!("{object} is not {what} after {limit:.0?}; it is\n{present}")
}

/// The phase in an object's status, or nothing.
pub fn phase(object: &DynamicObject) -> &str {
    object.data["status"]["phase"].as_str().unwrap_or_default()
}

/// The status of a condition (`True`, `False`, `Unknown`) with its reason, or two times nothing.
pub fn condition<'o>(object: &'o DynamicObject, kind: &str) -> (&'o str, &'o str) {
    let conditions = object.data["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.map_or(("", ""), |condition| {
        (condition["status"].as_str().unwrap_or_default(), condition["reason"].as_str().unwrap_or_default())
    })
}

/// What the API server said when it refused something. Fails the test if it did not.
pub fn refusal<T: Debug>(answer: kube::Result<T>) -> String {
    match answer {
        Err(kube::Error::Api(status)) => status.message,
        Err(error) => panic!("this is no refusal: {error}"),
        Ok(accepted) => panic!("this was accepted: {accepted:?}"),
    }
}

/// The documents of a YAML text.
pub fn documents(yaml: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{error} in\n{yaml}")))
        .filter(|document| !document.is_null())
        .collect()
}

/// What is served under a kind's name, written `Lease` or `lease`.
pub fn resource_of(kind: &str) -> ApiResource {
    const ADMISSION: (&str, &str) = ("admissionregistration.k8s.io", "v1");
    const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");
    let kinds = [
        ("drydock.dev", "v1alpha1", "Blueprint"),
        ("drydock.dev", "v1alpha1", "Resource"),
        ("drydock.dev", "v1alpha1", "Lease"),
        ("", "v1", "ConfigMap"),
        ("", "v1", "Event"),
        ("", "v1", "Namespace"),
        ("", "v1", "Pod"),
        ("", "v1", "Secret"),
        ("", "v1", "ServiceAccount"),
        ("apps", "v1", "Deployment"),
        (RBAC.0, RBAC.1, "Role"),
        (RBAC.0, RBAC.1, "RoleBinding"),
        (RBAC.0, RBAC.1, "ClusterRole"),
        (RBAC.0, RBAC.1, "ClusterRoleBinding"),
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        (ADMISSION.0, ADMISSION.1, "MutatingAdmissionPolicy"),
        (ADMISSION.0, ADMISSION.1, "MutatingAdmissionPolicyBinding"),
        (ADMISSION.0, ADMISSION.1, "ValidatingAdmissionPolicy"),
        (ADMISSION.0, ADMISSION.1, "ValidatingAdmissionPolicyBinding"),
    ];
    let found = kinds.iter().find(|(_, _, name)| name.eq_ignore_ascii_case(kind));
    let (group, version, kind) =
        found.unwrap_or_else(|| panic!("the tests know no kind {kind}: add it to {}", file!()));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}
