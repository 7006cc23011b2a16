//! helm's own steps, without a node: installed, upgraded, rolled back and uninstalled, while a lease is there.

use crate::helm::{chart, helm};
use crate::support::{ControlPlane, Identity, Sandbox, install};

#[tokio::test]
async fn the_kinds_and_their_objects_outlive_the_release() {
    let plane = ControlPlane::start().await.unwrap();
    let chart = chart();
    let admin = plane.kubeconfig(Identity::Admin);
    let run = |arguments: &[&str]| {
        let output = helm(&[arguments, &["--namespace=drydock-system"]].concat(), Some(&admin));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "helm {}: {said}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run(&["install", "drydock", &chart, "--create-namespace"]);
    assert!(!said.contains("has no MutatingAdmissionPolicy"), "this cluster has them: {said}");
    install::in_effect(&plane).await.unwrap();
    install::controller_account(&plane).await.unwrap();
    let sandbox = Sandbox::on(&plane, "release").await;
    let controller = sandbox.controller().await;
    let hosts = "{apiVersion: drydock.dev/v1alpha1, kind: Blueprint, metadata: {name: pool}, spec: {resourceType: host, driver: {hosts: {inventory: [{name: h1}]}}}}";
    sandbox.apply(Identity::Admin, hosts).await;
    let lease = "{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {name: a}, spec: {resourceType: host}}";
    sandbox.apply(Identity::Admin, lease).await;
    let before = sandbox.wait_phase("lease/a", "Active").await;

    let get = async |what: &str| plane.run_kubectl(Identity::Admin, &["get", what, "-o", "name"]).await.unwrap();
    run(&["upgrade", "drydock", &chart, "--set=policies.ownerOnly=true,replicas=2"]);
    assert!(get("validatingadmissionpolicies").await.contains("drydock-owner-only"));
    run(&["rollback", "drydock", "1"]);
    assert!(!get("validatingadmissionpolicies").await.contains("drydock-owner-only"));
    run(&["upgrade", "drydock", &chart, "--set=crds.install=false"]);
    assert_eq!(get("customresourcedefinitions").await.matches("drydock.dev").count(), 3, "they are kept");
    run(&["rollback", "drydock", "1"]);
    drop(controller);
    run(&["uninstall", "drydock"]);
    assert_eq!(get("customresourcedefinitions").await.matches("drydock.dev").count(), 3, "they are kept");
    for gone in ["clusterroles", "validatingadmissionpolicies", "mutatingadmissionpolicies"] {
        assert!(!get(gone).await.contains("drydock"), "{gone}");
    }
    let after = sandbox.get("lease/a").await;
    assert_eq!((after.metadata.uid, after.data), (before.metadata.uid, before.data));

    // Installed again, it takes up what was left.
    run(&["install", "drydock", &chart]);
    install::in_effect(&plane).await.unwrap();
    install::controller_account(&plane).await.unwrap();
    sandbox.let_the_controller_impersonate().await;
    let controller = sandbox.controller().await;
    sandbox.delete(Identity::Admin, "lease/a").await;
    sandbox.wait_gone("lease/a").await;
    drop((sandbox, controller));
    plane.stop().await.unwrap();
}
