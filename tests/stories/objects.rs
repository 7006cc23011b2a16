//! Environments of Kubernetes objects, in the words of stories: a Blueprint `env` of the type `env` with templates, the
//! service account `builder` with whose rights they are made, and all that was ever seen of what is made.

// Words for stories, of which not each is said today.
#![allow(dead_code)]

use crate::{
    support::{
        ControllerProcess, History, Identity, Sandbox, Seen, credentials::CONTROLLER_ACCOUNT, documents, resource_of,
        sandbox::PATIENCE,
    },
    told::{self, object},
};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// The service account as which everything is made.
pub const BUILDER: &str = "builder";

/// All that a template's objects need.
pub const ALL: [&str; 5] = ["create", "get", "list", "watch", "delete"];

/// The kinds that most environments here are of.
pub const KINDS: [&str; 2] = ["configmap", "serviceaccount"];

/// A sandbox with a controller for it, an account that may make what templates say, and the history of that.
pub async fn alone(story: &str) -> (Sandbox<'static>, ControllerProcess, History) {
    let (sandbox, things) = without_controller(story).await;
    let controller = sandbox.controller().await;
    (sandbox, controller, things)
}

/// The same without a controller.
pub async fn without_controller(story: &str) -> (Sandbox<'static>, History) {
    let sandbox = Sandbox::new(story).await;
    let client = sandbox.client(Identity::Admin).await;
    let things = History::of_kinds(client, sandbox.namespace(), &KINDS).await;
    account(&sandbox).await;
    let objects = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": BUILDER}});
    sandbox.apply(Identity::Admin, &objects.to_string()).await;
    (sandbox, things)
}

/// A Blueprint `env` whose environments are made of these objects, and more of its spec.
pub fn env(objects: Value, more: Value) -> String {
    let mut driver = json!({"serviceAccountName": BUILDER});
    told::merge(&mut driver, objects);
    let mut spec = json!({"resourceType": "env", "limits": {"maxResources": 1}, "driver": {"objects": driver}});
    told::merge(&mut spec, more);
    object("Blueprint", "env", spec)
}

/// A lease of an environment, and more of its spec.
pub fn lease(name: &str, more: Value) -> String {
    told::lease(name, merged(json!({"resourceType": "env"}), more))
}

/// One with more.
pub fn merged(mut one: Value, more: Value) -> Value {
    told::merge(&mut one, more);
    one
}

/// A template of a ConfigMap.
pub fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A template of a ServiceAccount.
pub fn robot(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

/// A template of a Namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Gives the account the rights to make ConfigMaps and ServiceAccounts in the sandbox's namespace.
pub async fn account(sandbox: &Sandbox<'_>) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": BUILDER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": BUILDER},
        "subjects": [{"kind": "ServiceAccount", "name": BUILDER, "namespace": sandbox.namespace()}],
    });
    sandbox.apply(Identity::Admin, &binding.to_string()).await;
    may(sandbox, &[("configmaps", &ALL), ("serviceaccounts", &ALL)]).await;
}

/// From now on the account may do this in the sandbox's namespace, and nothing else; returns when that is so.
pub async fn may(sandbox: &Sandbox<'_>, rights: &[(&str, &[&str])]) {
    let rule =
        |(resources, verbs): &(&str, &[&str])| json!({"apiGroups": [""], "resources": [resources], "verbs": verbs});
    let rules: Vec<Value> = rights.iter().filter(|(_, verbs)| !verbs.is_empty()).map(rule).collect();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": BUILDER}, "rules": rules,
    });
    sandbox.apply(Identity::Admin, &role.to_string()).await;
    for resource in ["configmaps", "serviceaccounts"] {
        for verb in ALL {
            let wanted = rights.iter().any(|(of, verbs)| *of == resource && verbs.contains(&verb));
            allowed(sandbox, sandbox.namespace(), resource, verb, wanted).await;
        }
    }
}

/// Waits until the account may do this, or may not. The authorizer learns of it from a watch.
pub async fn allowed(sandbox: &Sandbox<'_>, namespace: &str, resource: &str, verb: &str, wanted: bool) {
    let reviews: Api<SubjectAccessReview> = Api::all(sandbox.client(Identity::Admin).await);
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: Some(format!("system:serviceaccount:{}:{BUILDER}", sandbox.namespace())),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let allowed = async || {
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        answer.status.is_some_and(|status| status.allowed)
    };
    let what = format!("whether {BUILDER} may {verb} {resource} in {namespace} is {wanted}");
    told::asked_until(&what, async || allowed().await == wanted).await;
}

/// Gives the account rights everywhere: to make namespaces, and what is in them.
pub async fn account_of_namespaces(sandbox: &Sandbox<'_>) {
    let name = sandbox.namespace();
    let rules = json!([{"apiGroups": [""], "resources": ["namespaces", "configmaps"], "verbs": ALL}]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": BUILDER, "namespace": name}],
    });
    in_cluster(sandbox, &role).await;
    in_cluster(sandbox, &binding).await;
    allowed(sandbox, name, "namespaces", "create", true).await;
}

/// Applies what lives in no namespace, as administrator.
pub async fn in_cluster(sandbox: &Sandbox<'_>, object: &Value) {
    let api = cluster(sandbox, object["kind"].as_str().unwrap()).await;
    let name = object["metadata"]["name"].as_str().unwrap();
    let apply = PatchParams::apply(Identity::Admin.name());
    api.patch(name, &apply, &Patch::Apply(object)).await.unwrap_or_else(|error| panic!("applying {object}: {error}"));
}

/// What lives in no namespace.
pub async fn cluster(sandbox: &Sandbox<'_>, kind: &str) -> Api<DynamicObject> {
    Api::all_with(sandbox.client(Identity::Admin).await, &resource_of(kind))
}

/// What lives in another namespace than the sandbox's.
pub async fn within(sandbox: &Sandbox<'_>, who: Identity, namespace: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(sandbox.client(who).await, namespace, &resource_of(kind))
}

/// Waits until an object of any place is as it should be; `None`: it is not there.
pub async fn until(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    is: impl Fn(Option<&DynamicObject>) -> bool,
) -> Option<DynamicObject> {
    use futures::StreamExt as _;
    let mut last = None;
    let watch = async {
        let mut versions = watch_object(api.clone(), name).default_backoff().boxed();
        while let Some(version) = versions.next().await {
            let Ok(version) = version else { continue };
            last = version;
            if is(last.as_ref()) {
                return;
            }
        }
    };
    let limit = PATIENCE * 2;
    if tokio::time::timeout(limit, watch).await.is_err() {
        panic!("{name} is not {what} after {limit:.0?}; it is {last:?}");
    }
    last
}

/// Makes objects as administrator, in the sandbox's namespace, and shows them as they are.
pub async fn make(sandbox: &Sandbox<'_>, yaml: &str) -> Vec<DynamicObject> {
    let mut made = Vec::new();
    for document in documents(yaml) {
        let api = sandbox.api(Identity::Admin, document["kind"].as_str().unwrap()).await;
        let object = serde_json::from_value(document).unwrap();
        made.push(api.create(&PostParams::default(), &object).await.unwrap());
    }
    made
}

/// Deletes an object as administrator, and returns when it is gone.
pub async fn delete(sandbox: &Sandbox<'_>, object: &str) {
    sandbox.delete(Identity::Admin, object).await;
    sandbox.wait_gone(object).await;
}

/// Deletes with `--cascade=foreground`.
pub async fn delete_in_foreground(sandbox: &Sandbox<'_>, object: &str) {
    let (kind, name) = object.split_once('/').unwrap();
    sandbox.api(Identity::Admin, kind).await.delete(name, &DeleteParams::foreground()).await.unwrap();
}

/// Puts these finalizers on an object, and no others, as administrator.
pub async fn hold(sandbox: &Sandbox<'_>, object: &str, finalizers: &[&str]) {
    sandbox.patch(Identity::Admin, object, json!({"metadata": {"finalizers": finalizers}})).await;
}

/// Asks for the release of a lease or a resource as administrator.
pub async fn release(sandbox: &Sandbox<'_>, object: &str) {
    told::command(sandbox, object, json!({"id": "released-by-the-story", "type": "Release"})).await;
}

/// Whether something was made by Drydock.
pub fn is_ours(seen: &Seen) -> bool {
    seen.object.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("drydock.dev/owner"))
}

/// What of ours was made, each once, in the order in which it was: kind and name.
pub fn made(things: &History) -> Vec<String> {
    let mut uids = Vec::new();
    let mut made = Vec::new();
    for seen in things.all().iter().filter(|seen| is_ours(seen)) {
        if !uids.contains(&seen.uid) {
            uids.push(seen.uid.clone());
            made.push(format!("{}/{}", seen.kind, seen.name));
        }
    }
    made
}

/// What of ours is gone, in the order in which it went.
pub fn removed(things: &History) -> Vec<String> {
    let gone = |seen: &Seen| (seen.gone && is_ours(seen)).then(|| format!("{}/{}", seen.kind, seen.name));
    things.all().iter().filter_map(gone).collect()
}

/// What of ours there is now.
pub fn left(things: &History) -> Vec<String> {
    let mut last: BTreeMap<String, Seen> = BTreeMap::new();
    for seen in things.all().into_iter().filter(is_ours) {
        last.insert(seen.uid.clone(), seen);
    }
    last.into_values().filter(|seen| !seen.gone).map(|seen| format!("{}/{}", seen.kind, seen.name)).collect()
}

/// The objects on record of a lease or resource: kind, name and UID.
pub fn on_record(object: &DynamicObject) -> Vec<(String, String, Option<String>)> {
    let objects = object.data["status"]["built"]["objects"].as_array().cloned().unwrap_or_default();
    let text = |o: &Value, field: &str| o[field].as_str().map(str::to_owned);
    let entry = |o: &Value| (text(o, "kind").unwrap(), text(o, "name").unwrap(), text(o, "uid"));
    objects.iter().map(entry).collect()
}

/// The Events of this reason about an object of this name, as they stand: their notes.
pub async fn notes(sandbox: &Sandbox<'_>, name: &str, reason: &str) -> Vec<String> {
    let about = |e: &&DynamicObject| e.data["involvedObject"]["name"] == name && e.data["reason"] == reason;
    let events = sandbox.list("event").await;
    events.iter().filter(about).map(|e| e.data["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until this was told of an object, as an Event of this reason, in words with these in them.
pub async fn noted(sandbox: &Sandbox<'_>, name: &str, reason: &str, words: &str) {
    let is = |e: &DynamicObject| {
        e.data["involvedObject"]["name"] == name
            && e.data["reason"] == reason
            && e.data["message"].as_str().is_some_and(|message| message.contains(words))
    };
    sandbox.wait_any("Event", &format!("an Event {reason} about {name} with {words:?}"), is).await;
}

/// Rights for the account of one sandbox in the namespace of another: a Role and its binding, `drydock-elsewhere`.
pub fn rights_elsewhere(sandbox: &Sandbox<'_>, resources: &[&str]) -> [(&'static str, Value); 2] {
    let name = "drydock-elsewhere";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": resources, "verbs": ALL}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": BUILDER, "namespace": sandbox.namespace()}],
    });
    [("Role", role), ("RoleBinding", binding)]
}

/// Lets the controller act as every account of the name `builder`, whatever becomes of its namespace.
pub async fn impersonated_everywhere(sandbox: &Sandbox<'_>) {
    let name = format!("{}-impersonator", sandbox.namespace());
    let (namespace, account) = CONTROLLER_ACCOUNT;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [BUILDER], "verbs": ["impersonate"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    });
    in_cluster(sandbox, &role).await;
    in_cluster(sandbox, &binding).await;
}

/// Waits so long until there is no such object.
pub async fn gone_within(sandbox: &Sandbox<'_>, limit: Duration, object: &str) {
    let (kind, name) = object.split_once('/').unwrap();
    let api = sandbox.api(Identity::Admin, kind).await;
    let gone = tokio::time::timeout(limit, until(&api, name, "gone", |found| found.is_none())).await;
    assert!(gone.is_ok(), "{object} is still there after {limit:.0?}");
}
