//! Kubernetes' own role `edit`, to which the chart adds `drydock-requestor`: what it allows beside a release, and in its namespace.

use serde_json::json;

use crate::helm::template;
use crate::support::credentials::CONTROLLER_ACCOUNT;
use crate::support::{ControlPlane, Identity, Sandbox, install, shared};

/// Binds somebody to `edit` in a namespace, and waits until they may lease there: kube-controller-manager adds up the role.
async fn edits(plane: &ControlPlane, who: Identity, namespace: &str) {
    let user = format!("--user={}", who.user());
    let bind = ["create", "rolebinding", "edits", "--clusterrole=edit", &user, "--namespace", namespace];
    plane.run_kubectl(Identity::Admin, &bind).await.unwrap();
    let may = ["auth", "can-i", "create", "leases.drydock.dev", "--namespace", namespace];
    let known = async { while plane.run_kubectl(who, &may).await.is_err() {} };
    tokio::time::timeout(crate::support::sandbox::PATIENCE, known).await.expect("they may lease something");
}

/// Runs kubectl as somebody to whom this is refused, for a reason with these words.
async fn refused(plane: &ControlPlane, who: Identity, arguments: &[&str], words: &str) {
    let answer = plane.run_kubectl(who, arguments).await;
    let said = answer.expect_err(&format!("{who:?}: kubectl {}", arguments.join(" "))).to_string();
    assert!(said.contains(words), "{who:?}: kubectl {}\nsaid      {said}\nand not   {words}", arguments.join(" "));
}

/// A lease that nobody serves, made by the administrator; and what writes its status, as the controller would: by a PUT.
async fn a_lease(sandbox: &Sandbox<'_>) -> [String; 5] {
    let lease = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"resourceType": "board"},
    });
    sandbox.apply(Identity::Admin, &lease.to_string()).await;
    let mut lease = serde_json::to_value(sandbox.get("lease/a").await).unwrap();
    lease["status"] = json!({"phase": "Active"});
    let file = sandbox.plane().folder().join(format!("{}.json", sandbox.namespace()));
    std::fs::write(&file, lease.to_string()).unwrap();
    let path = format!("/apis/drydock.dev/v1alpha1/namespaces/{}/leases/a/status", sandbox.namespace());
    ["replace".to_owned(), "--raw".to_owned(), path, "-f".to_owned(), file.to_string_lossy().into_owned()]
}

#[tokio::test]
async fn who_edits_in_a_tenants_namespace_leases_and_is_not_the_controller() {
    let plane = shared().await;
    let sandbox = Sandbox::new("edit-tenant").await;
    let tenant = sandbox.namespace();
    edits(plane, Identity::Bob, tenant).await;
    let status = a_lease(&sandbox).await;
    let status = status.each_ref().map(String::as_str);
    let resource = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Resource", "metadata": {"name": "mine--0"},
        "spec": {"resourceType": "env", "blueprintRef": {"name": "mine", "uid": "1"}},
    });
    let file = plane.folder().join("edit-tenant.json");
    std::fs::write(&file, resource.to_string()).unwrap();
    let file = file.to_string_lossy().into_owned();

    let bob = Identity::Bob;
    refused(plane, bob, &status, "leases.drydock.dev \"a\" is forbidden").await;
    let finalizer = r#"{"metadata": {"finalizers": null}}"#;
    let finalizer = ["patch", "leases.drydock.dev", "a", "--type=merge", "-p", finalizer, "--namespace", tenant];
    plane.run_kubectl(bob, &finalizer).await.expect("it is restored, as after a replace");
    assert_eq!(sandbox.get("lease/a").await.metadata.finalizers, Some(vec!["drydock.dev/teardown".to_owned()]));
    refused(plane, bob, &["create", "-f", &file, "--namespace", tenant], "forbidden").await;

    // Those accounts that they may act as are those of this namespace; of them none is the controller's.
    let (system, account) = CONTROLLER_ACCOUNT;
    let controller = format!("--as=system:serviceaccount:{system}:{account}");
    let as_the_controller = [&status[..], &[&controller]].concat();
    refused(plane, bob, &as_the_controller, "User \"bob\" cannot impersonate").await;
    refused(plane, bob, &["create", "token", account, "--namespace", system], "forbidden").await;
    plane.run_kubectl(bob, &["create", "serviceaccount", account, "--namespace", tenant]).await.unwrap();
    let namesake = format!("--as=system:serviceaccount:{tenant}:{account}");
    refused(plane, bob, &[&status[..], &[&namesake]].concat(), "forbidden").await;
}

/// The boundary, as values.yaml and README tell it. Where this test fails because more is refused, tell that there.
#[tokio::test]
async fn who_edits_in_the_namespace_of_the_release_is_the_controller() {
    let plane = shared().await;
    let sandbox = Sandbox::new("edit-release").await;
    let status = a_lease(&sandbox).await;
    let status = status.each_ref().map(String::as_str);
    let (system, account) = CONTROLLER_ACCOUNT;
    edits(plane, Identity::Alice, system).await;

    let controller = format!("--as=system:serviceaccount:{system}:{account}");
    let as_the_controller = [&status[..], &[&controller]].concat();
    let written = plane.run_kubectl(Identity::Alice, &as_the_controller).await;
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(sandbox.get("lease/a").await.data["status"]["phase"], "Active");
}

#[tokio::test]
async fn with_tokens_only_they_are_once_they_have_its_token() {
    let plane = ControlPlane::start().await.unwrap();
    let with = ["--no-hooks", "--set=namespace.create=true,policies.tokensOnly=true,policies.mutating=always"];
    install::rendered(&plane, template(&with).unwrap()).await.unwrap();
    install::controller_account(&plane).await.unwrap();
    let sandbox = Sandbox::on(&plane, "edit-tokens").await;
    let status = a_lease(&sandbox).await;
    let status = status.each_ref().map(String::as_str);
    let (system, account) = CONTROLLER_ACCOUNT;
    edits(&plane, Identity::Alice, system).await;

    // To impersonate it is not enough: a policy refuses what RBAC lets the controller do.
    let controller = format!("--as=system:serviceaccount:{system}:{account}");
    let as_the_controller = [&status[..], &[&controller]].concat();
    refused(&plane, Identity::Alice, &as_the_controller, "status: only the Drydock controller writes it").await;
    let claims_an_id = claiming_an_id(&plane, &format!("system:serviceaccount:{system}:{account}"));
    let claims_an_id = [&status[..], &["--kubeconfig", &claims_an_id]].concat();
    refused(&plane, Identity::Alice, &claims_an_id, "\"userextras/authentication.kubernetes.io/credential-id\"").await;

    let token = ["create", "token", account, "--namespace", system];
    let token = plane.run_kubectl(Identity::Alice, &token).await.unwrap();
    let has_the_token = [&status[..], &["--token", token.trim()]].concat();
    let written = plane.run_kubectl(Identity::Alice, &has_the_token).await;
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(sandbox.get("lease/a").await.data["status"]["phase"], "Active");
    plane.stop().await.unwrap();
}

/// Alice's kubeconfig, by which she acts as an account and says that she has a token of it.
fn claiming_an_id(plane: &ControlPlane, account: &str) -> String {
    let config = std::fs::read_to_string(plane.kubeconfig(Identity::Alice)).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let user = &mut config["users"][0]["user"];
    user["as"] = json!(account);
    user["as-user-extra"] = json!({"authentication.kubernetes.io/credential-id": ["JTI=1"]});
    let path = plane.folder().join("claims-an-id.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path.to_string_lossy().into_owned()
}
