//! Blueprints of templates, and service accounts of few rights, in the words of stories about what may not happen.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{ControllerProcess, Identity, Sandbox, condition, resource_of};
use crate::told::{self, merge, message};

/// The service account of most stories.
pub const MAKER: &str = "maker";

/// What a template needs of a kind.
pub const ALL: [&str; 5] = ["create", "get", "list", "watch", "delete"];

/// A sandbox with a controller for it, and an account that may make ConfigMaps there, and nothing else.
pub async fn alone(story: &str) -> (Sandbox<'static>, ControllerProcess) {
    let (sandbox, controller) = told::alone(story).await;
    account(&sandbox, MAKER, json!([of_core(&["configmaps"])])).await;
    (sandbox, controller)
}

/// The rule that lets somebody make and remove these.
pub fn of_core(resources: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": resources, "verbs": ALL})
}

/// A service account of the sandbox with these rights there, in effect.
pub async fn account(sandbox: &Sandbox<'_>, name: &str, rules: Value) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    sandbox.apply(Identity::Admin, &account.to_string()).await;
    gets(sandbox, name, sandbox.namespace(), rules).await;
}

/// Gives a service account of the sandbox these rights in a namespace, besides those it has.
pub async fn gets(sandbox: &Sandbox<'_>, account: &str, namespace: &str, rules: Value) {
    let name = format!("{account}-{:08x}", crate::support::random() & 0xffff_ffff);
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": sandbox.namespace()}],
    });
    for object in [role, binding] {
        apply_in(sandbox, namespace, &object).await;
    }
    known(sandbox, account, Some(namespace), &rules).await;
}

/// Gives a service account of the sandbox these rights everywhere.
pub async fn gets_everywhere(sandbox: &Sandbox<'_>, account: &str, rules: Value) {
    let name = format!("{}-{account}-{:08x}", sandbox.namespace(), crate::support::random() & 0xffff_ffff);
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": sandbox.namespace()}],
    });
    for object in [role, binding] {
        let api = everywhere(sandbox, object["kind"].as_str().unwrap()).await;
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply("story"), &Patch::Apply(&object)).await.unwrap();
    }
    known(sandbox, account, None, &rules).await;
}

/// Waits until an account may do what the last of these rules gives: the authorizer learns of a binding from a watch.
async fn known(sandbox: &Sandbox<'_>, account: &str, namespace: Option<&str>, rules: &Value) {
    let Some(rule) = rules.as_array().and_then(|rules| rules.last()) else { return };
    let last = |field: &str| rule[field].as_array().and_then(|a| a.last()?.as_str().map(str::to_owned));
    let attributes = ResourceAttributes {
        group: last("apiGroups"),
        resource: last("resources"),
        verb: last("verbs"),
        name: last("resourceNames"),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: Some(format!("system:serviceaccount:{}:{account}", sandbox.namespace())),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews: Api<SubjectAccessReview> = Api::all(sandbox.client(Identity::Admin).await);
    let what = format!("{account} has {rule}");
    told::asked_until(&what, async || {
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        answer.status.is_some_and(|status| status.allowed)
    })
    .await;
}

/// The objects of a kind in another namespace than the sandbox's, as administrator.
pub async fn within(sandbox: &Sandbox<'_>, namespace: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(sandbox.client(Identity::Admin).await, namespace, &resource_of(kind))
}

/// The objects of a kind that lives in no namespace, or of all namespaces, as administrator.
pub async fn everywhere(sandbox: &Sandbox<'_>, kind: &str) -> Api<DynamicObject> {
    Api::all_with(sandbox.client(Identity::Admin).await, &resource_of(kind))
}

/// Applies an object in a namespace, as administrator.
pub async fn apply_in(sandbox: &Sandbox<'_>, namespace: &str, object: &Value) -> DynamicObject {
    let api = within(sandbox, namespace, object["kind"].as_str().unwrap()).await;
    let name = object["metadata"]["name"].as_str().unwrap();
    let applied = api.patch(name, &PatchParams::apply("story"), &Patch::Apply(object)).await;
    applied.unwrap_or_else(|error| panic!("applying {object}: {error}"))
}

/// A template of a ConfigMap.
pub fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// A value with more.
pub fn with(mut value: Value, more: Value) -> Value {
    merge(&mut value, more);
    value
}

/// The spec of a Blueprint of type `env` with this driver, as the account `maker`.
pub fn spec(driver: Value) -> Value {
    let driver = with(json!({"serviceAccountName": MAKER}), driver);
    json!({"resourceType": "env", "limits": {"maxResources": 1}, "driver": {"objects": driver}})
}

/// A Blueprint with this driver, of a type of its own name, so that only leases of that type wait for it.
pub fn blueprint(name: &str, driver: Value) -> String {
    told::object("Blueprint", name, with(spec(driver), json!({"resourceType": name})))
}

/// A lease of an environment of this type.
pub fn lease(name: &str, of: &str, more: Value) -> String {
    told::object("Lease", name, with(json!({"resourceType": of}), more))
}

/// Waits until a condition has this reason, and these words in its message; gives the object.
pub async fn says(sandbox: &Sandbox<'_>, object: &str, kind: &str, reason: &str, words: &[&str]) -> DynamicObject {
    let what = format!("{kind} for {reason}, with {words:?}");
    let is = |o: &DynamicObject| {
        condition(o, kind).1 == reason && words.iter().all(|words| message(o, kind).contains(words))
    };
    sandbox.wait_for(object, &what, is).await
}

/// Asks for the release of a lease, and returns when it and what was its resource are destroyed.
pub async fn released(sandbox: &Sandbox<'_>, lease: &str) {
    told::command(sandbox, lease, json!({"id": "over", "type": "Release"})).await;
    sandbox.wait_phase(lease, "Destroyed").await;
}
