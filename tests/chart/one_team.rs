//! With `watch.namespaces`: a controller that has no right beyond the namespaces that it looks after.

use serde_json::json;

use crate::helm::template;
use crate::support::{ControlPlane, ControllerProcess, Identity, Rights, Sandbox, condition, install};

#[tokio::test]
async fn a_controller_of_two_namespaces_needs_no_right_beyond_them() {
    let plane = ControlPlane::start().await.unwrap();
    install::crds(&plane).await.unwrap();
    // Before the controller has an account: nobody lets it impersonate here but the chart.
    let (mine, ci) = (Sandbox::on(&plane, "team").await, Sandbox::on(&plane, "team-ci").await);
    let (one, two) = (mine.namespace(), ci.namespace());
    let set = [
        format!("--set=watch.namespaces={{{one},{two}}}"),
        format!("--set=impersonation.namespaces={{{two}}}"),
        "--set=crds.install=false,policies.install=false,rbac.userRoles=false,namespace.create=true".to_owned(),
        "--no-hooks".to_owned(),
    ];
    let rendered = template(&set.each_ref().map(String::as_str)).unwrap();
    an_admin_of_the_namespace_cannot_install_it(&plane, &rendered, one).await;
    install::rendered(&plane, rendered).await.unwrap();
    install::controller_account(&plane).await.unwrap();
    let mut controller = ControllerProcess::start(
        &plane,
        &[one, two],
        &["--leader-elect", "--leader-election-namespace=drydock-system"],
    )
    .await;
    controller.logs("whether Drydock's admission policies are in force cannot be told").await;

    mine.grant(Identity::Alice, Rights::Edit).await;
    let hosts = |name: &str, allowed: serde_json::Value| {
        json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": name},
            "spec": {"resourceType": name, "allowedNamespaces": allowed, "driver": {"hosts": {"inventory": [{"name": "h1"}]}}},
        })
    };
    let lease = |of: &str| json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": of}, "spec": {"resourceType": of}});
    mine.apply(Identity::Alice, &hosts("same", json!({"from": "Same"})).to_string()).await;
    mine.apply(Identity::Alice, &lease("same").to_string()).await;
    mine.wait_phase("lease/same", "Active").await;
    mine.delete(Identity::Alice, "lease/same").await;
    mine.wait_gone("lease/same").await;

    let select = json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}});
    mine.apply(Identity::Alice, &hosts("selected", select).to_string()).await;
    let unreadable = |b: &kube::api::DynamicObject| condition(b, "Ready") == ("False", "NamespacesNotReadable");
    mine.wait_for("blueprint/selected", "NamespacesNotReadable", unreadable).await;

    // Objects: where the chart has bound it, and told where it has not.
    for sandbox in [&mine, &ci] {
        for object in maker(sandbox.namespace()) {
            sandbox.apply(Identity::Admin, &object.to_string()).await;
        }
        sandbox.apply(Identity::Admin, &lease("env").to_string()).await;
    }
    ci.wait_phase("lease/env", "Active").await;
    assert!(ci.try_get("configmap/env--0").await.is_some());
    let told = |l: &kube::api::DynamicObject| {
        let conditions = l.data["status"]["conditions"].to_string();
        conditions.contains("cannot impersonate") && conditions.contains("impersonation.namespaces of the chart")
    };
    mine.wait_for("lease/env", "told that nobody may be impersonated", told).await;
    ci.delete(Identity::Admin, "lease/env").await;
    ci.wait_gone("lease/env").await;
    ci.delete(Identity::Admin, "blueprint/env").await;
    ci.wait_gone("blueprint/env").await;
    assert!(ci.try_get("configmap/env--0").await.is_none());

    // What it was refused, and did without: the labels of namespaces, and the list of policies.
    let log = controller.log();
    let refused = log.lines().filter(|line| line.contains("is forbidden"));
    let known = ["namespaces is forbidden", "admissionpolicybindings", "cannot impersonate"];
    for line in refused {
        assert!(known.iter().any(|words| line.contains(words)), "{line}");
    }
    assert_eq!(controller.terminate().await.code(), Some(0));
    drop((mine, ci, controller));
    plane.stop().await.unwrap();
}

/// It gives away what no role for people has, and RBAC lets nobody do that who does not have it.
async fn an_admin_of_the_namespace_cannot_install_it(
    plane: &ControlPlane,
    rendered: &[serde_json::Value],
    namespace: &str,
) {
    let bind = ["create", "rolebinding", "admin", "--clusterrole=admin", "--user=bob", "--namespace", namespace];
    plane.run_kubectl(Identity::Admin, &bind).await.unwrap();
    let may = ["auth", "can-i", "create", "roles.rbac.authorization.k8s.io", "--namespace", namespace];
    let known = async { while plane.run_kubectl(Identity::Bob, &may).await.is_err() {} };
    tokio::time::timeout(crate::support::sandbox::PATIENCE, known).await.expect("bob administers it");
    let of_the_controller = |object: &&serde_json::Value| {
        object["kind"] == "Role"
            && object["metadata"]["namespace"] == namespace
            && object["metadata"]["name"] == "drydock-controller"
    };
    let file = plane.folder().join("one-team-role.json");
    std::fs::write(&file, rendered.iter().find(of_the_controller).unwrap().to_string()).unwrap();
    let refused = plane.run_kubectl(Identity::Bob, &["create", "-f", &file.to_string_lossy()]).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("is attempting to grant RBAC permissions not currently held"), "{refused}");
}

/// A pool of ConfigMaps, and the account that makes them.
fn maker(namespace: &str) -> [serde_json::Value; 4] {
    let rbac = "rbac.authorization.k8s.io/v1";
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "maker"}}),
        json!({
            "apiVersion": rbac, "kind": "Role", "metadata": {"name": "maker"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "list", "watch", "delete"]}],
        }),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "maker"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "maker"},
            "subjects": [{"kind": "ServiceAccount", "name": "maker", "namespace": namespace}],
        }),
        json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": "env"},
            "spec": {
                "resourceType": "env", "limits": {"maxResources": 1},
                "driver": {"objects": {"serviceAccountName": "maker", "templates": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "${resource.metadata.name}"}},
                ]}},
            },
        }),
    ]
}
