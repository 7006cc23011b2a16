//! What the clients play on: Blueprints of several kinds, and the account as which the environments are made.

use crate::support::{ControlPlane, Identity};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Where it all is.
pub const NAMESPACE: &str = "chaos";

/// A Blueprint, and the type that its leases ask for, which is its name.
pub const BLUEPRINTS: [&str; 5] = ["host", "shared", "once", "env", "space"];

/// How many hosts there are of `host`, and of `shared`.
const HOSTS: usize = 8;
const SHARED: usize = 3;

/// Makes the namespace and the account, and gives that its rights.
pub async fn prepare(plane: &ControlPlane) {
    let client = plane.client(Identity::Admin).await;
    let account = json!({"kind": "ServiceAccount", "name": "builder", "namespace": NAMESPACE});
    let verbs = ["create", "get", "list", "watch", "delete"];
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = json!({"kind": "ClusterRole", "name": "builder", "apiGroup": "rbac.authorization.k8s.io"});
    let mut impersonation = crate::support::install::impersonation();
    impersonation["metadata"]["namespace"] = NAMESPACE.into();
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder", "namespace": NAMESPACE}}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "builder"},
               "rules": [{"apiGroups": [""], "resources": ["configmaps", "namespaces"], "verbs": verbs}]}),
        json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "builder"},
               "roleRef": role, "subjects": [account]}),
        impersonation,
    ] {
        let resource = crate::support::resource_of(object["kind"].as_str().unwrap());
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.expect("the ground is laid");
    }
    let api = blueprints(plane).await;
    for name in BLUEPRINTS {
        let apply = PatchParams::apply("chaos");
        api.patch(name, &apply, &Patch::Apply(blueprint(name))).await.expect("the Blueprint is valid");
    }
}

/// The Blueprints, as administrator.
pub async fn blueprints(plane: &ControlPlane) -> Api<DynamicObject> {
    let resource = crate::support::resource_of("blueprint");
    Api::namespaced_with(plane.client(Identity::Admin).await, NAMESPACE, &resource)
}

/// The Blueprint of this name as it is at first, and at the end.
pub fn blueprint(name: &str) -> Value {
    let mut spec = match name {
        "host" => json!({"driver": {"hosts": {"inventory": inventory(HOSTS)}}}),
        "shared" => json!({"limits": {"leasesPerResource": 3}, "driver": {"hosts": {"inventory": inventory(SHARED)}}}),
        "once" => json!({
            "limits": {"maxResources": 3, "maxConcurrentBuilds": 2}, "lease": {"recycle": "Destroy"},
            "driver": objects(json!([map("${resource.metadata.name}", "chaos")]), json!([])),
        }),
        "env" => json!({
            "limits": {"maxResources": 3, "leasesPerResource": 2, "minReady": 1, "maxConcurrentBuilds": 1},
            "resource": {"ttl": "20s", "idleTTL": "4s"},
            "driver": objects(
                json!([map("${resource.metadata.name}-a", "chaos"), map("${resource.metadata.name}-b", "chaos")]),
                json!([map("of-${lease.metadata.name}", "chaos")]),
            ),
        }),
        "space" => json!({
            "limits": {"maxResources": 2}, "resource": {"ttl": "60s"},
            "driver": objects(
                json!([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "${resource.metadata.name}"}}]),
                json!([map("of-${lease.metadata.name}", "${resource.metadata.name}")]),
            ),
        }),
        other => panic!("no Blueprint {other}"),
    };
    spec["resourceType"] = json!(name);
    // So that nothing is held for ever, and a Blueprint that is deleted has drained soon.
    spec["lease"]["maxTTL"] = json!("30s");
    spec["lease"]["maxHold"] = json!("3s");
    json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": name}, "spec": spec})
}

/// How many leases a Blueprint serves at once, as it is at the end.
pub fn capacity(name: &str) -> usize {
    match name {
        "host" => HOSTS,
        "shared" => SHARED * 3,
        "once" => 3,
        "env" => 3 * 2,
        _ => 2,
    }
}

fn inventory(count: usize) -> Vec<Value> {
    (1..=count).map(|n| json!({"name": format!("h{n}"), "disabled": false})).collect()
}

fn map(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {"by": "chaos"}})
}

fn objects(templates: Value, lease_templates: Value) -> Value {
    json!({"objects": {"serviceAccountName": "builder", "templates": templates, "leaseTemplates": lease_templates}})
}
