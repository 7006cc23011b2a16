//! Namespaces with a Pod that runs in them, leased for a while.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::cluster::{Cluster, HERE, step};
use crate::support::{condition, phase};

/// Something that runs until it is told to stop, in a Pod that is Ready: Drydock's own image, as a controller without any right,
/// is what every cluster that these tests run on can have.
fn deployment(image: &str) -> Value {
    let restricted = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "job"},
        "spec": {
            "selector": {"matchLabels": {"app": "job"}},
            "template": {
                "metadata": {"labels": {"app": "job"}},
                "spec": {"containers": [{
                    "name": "job", "image": image, "args": ["controller"], "securityContext": restricted,
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/livez", "port": 8080}, "periodSeconds": 1},
                }]},
            },
        },
    })
}

/// A Blueprint `jobs`: a namespace with a Deployment, ready when its Pod is; and a second one, `rooms`, of namespaces alone.
fn pools(image: &str) -> String {
    let name = "e2e-${resource.metadata.name}";
    let mut job = deployment(image);
    job["metadata"]["namespace"] = json!(name);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }});
    let settings =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": name}});
    let blueprint = |of: &str, templates: Value, ready: &str| {
        json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": of},
            "spec": {
                "resourceType": of, "limits": {"maxResources": 3}, "lease": {"recycle": "Destroy"},
                "driver": {"objects": {
                    "serviceAccountName": "builder", "templates": templates, "readyWhen": ready, "outputs": {"namespace": name},
                }},
            },
        })
    };
    let available = "objects.all(o, o.kind != 'Deployment' || (has(o.status) && has(o.status.readyReplicas) && o.status.readyReplicas == 1))";
    let active = "objects.all(o, o.kind != 'Namespace' || o.status.phase == 'Active')";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}});
    let verbs = json!(["create", "get", "list", "watch", "delete"]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "drydock-e2e"},
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces", "configmaps"], "verbs": verbs},
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "drydock-e2e"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "drydock-e2e"},
        "subjects": [{"kind": "ServiceAccount", "name": "builder", "namespace": HERE}],
    });
    let jobs = blueprint("jobs", json!([namespace, job]), available);
    let rooms = blueprint("rooms", json!([namespace, settings]), active);
    [account, role, binding, jobs, rooms].map(|object| object.to_string()).join("\n---\n")
}

/// A lease, with more of its spec.
pub async fn lease(cluster: &Cluster, of: &str, name: &str, more: Value) {
    let mut spec = more;
    spec["resourceType"] = json!(of);
    let lease =
        json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": name}, "spec": spec});
    cluster.apply(HERE, &lease.to_string()).await;
}

/// A lease that is active, and its namespace.
pub async fn active(cluster: &Cluster, name: &str) -> (DynamicObject, String) {
    let lease = cluster.wait_phase(HERE, &format!("lease/{name}"), "Active").await;
    let namespace = lease.data["status"]["outputs"]["namespace"].as_str().unwrap_or_default().to_owned();
    (lease, namespace)
}

pub async fn live_and_die_with_their_lease(cluster: &Cluster) {
    cluster.apply(HERE, &pools(&cluster.image.name)).await;
    let (lease, namespace) = step("a lease of a namespace with a Pod that runs in it", async {
        lease(cluster, "jobs", "job", json!({"ttl": "15s"})).await;
        let (lease, namespace) = active(cluster, "job").await;
        let pods = ["get", "pods", "-n", &namespace, "--no-headers"];
        let pods = cluster.kubectl(&pods).await;
        assert!(pods.lines().count() == 1 && pods.contains("1/1") && pods.contains("Running"), "{pods}");
        (lease, namespace)
    })
    .await;
    step("it expires after its 15 s, and namespace and Pod are gone", async {
        let over = cluster.wait(HERE, "lease/job", "over", |lease| condition(lease, "Released").0 == "True").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"));
        let told = over.data["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Released");
        println!("    {}", told.unwrap()["message"].as_str().unwrap());
        cluster.wait_phase(HERE, "lease/job", "Destroyed").await;
        cluster.wait_gone("", &format!("namespace/{namespace}")).await;
        let resource = lease.data["status"]["resourceRef"]["name"].as_str().unwrap();
        cluster.wait_gone(HERE, &format!("resource/{resource}")).await;
    })
    .await;
}

/// Nothing that others make in a namespace keeps it.
pub async fn are_pruned_of_pods_that_others_made(cluster: &Cluster) {
    step("a lessee's own Deployment in a leased namespace goes with it", async {
        lease(cluster, "rooms", "room", json!({})).await;
        let (lease, namespace) = active(cluster, "room").await;
        cluster.apply(&namespace, &deployment(&cluster.image.name).to_string()).await;
        let ready = |deployment: &DynamicObject| deployment.data["status"]["readyReplicas"] == 1;
        cluster.wait(&namespace, "deployment/job", "Ready", ready).await;
        cluster.kubectl(&["delete", "leases.drydock.dev", "room", "-n", HERE, "--timeout=1m"]).await;
        cluster.wait_gone("", &format!("namespace/{namespace}")).await;
        let resource = lease.data["status"]["resourceRef"]["name"].as_str().unwrap();
        cluster.wait_gone(HERE, &format!("resource/{resource}")).await;
        assert_eq!(phase(&lease), "Active");
    })
    .await;
}
