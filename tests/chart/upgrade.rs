//! The kinds of the version before are upgraded in place, with objects in them.

use serde_json::json;

use crate::helm::{chart, helm};
use crate::support::leash::repository;
use crate::support::{ControlPlane, Identity, Sandbox, install, phase};

/// What the version before took, and this one takes no more.
const NOT_TAKEN_ANY_MORE: &str = "{apiVersion: drydock.dev/v1alpha1, kind: Blueprint, metadata: {name: loose}, spec: {
    resourceType: space, limits: {maxResources: 1}, driver: {objects: {serviceAccountName: builder, templates: [
    {apiVersion: v1, kind: ConfigMap, metadata: {name: a, generateName: b}}]}}}}";

#[tokio::test]
async fn what_was_leased_before_the_upgrade_is_leased_after_it() {
    let plane = ControlPlane::start().await.unwrap();
    let admin = plane.kubeconfig(Identity::Admin);
    let run = |arguments: &[&str]| {
        let output = helm(&[arguments, &["--namespace=drydock-system"]].concat(), Some(&admin));
        assert!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let before = tempfile::tempdir().unwrap();
    let before = chart_with_the_kinds_before(before.path());
    run(&["install", "drydock", &before, "--create-namespace"]);
    install::in_effect(&plane).await.unwrap();
    install::controller_account(&plane).await.unwrap();
    let sandbox = Sandbox::on(&plane, "upgrade").await;
    let controller = sandbox.controller().await;
    let hosts = "{apiVersion: drydock.dev/v1alpha1, kind: Blueprint, metadata: {name: pool}, spec: {
        resourceType: host, driver: {hosts: {inventory: [{name: h1}]}}}}";
    sandbox.apply(Identity::Admin, hosts).await;
    sandbox.apply(Identity::Admin, NOT_TAKEN_ANY_MORE).await;
    let lease = |name: &str| {
        format!(
            "{{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {{name: {name}}}, spec: {{resourceType: host}}}}"
        )
    };
    sandbox.apply(Identity::Admin, &lease("held")).await;
    let held = sandbox.wait_phase("lease/held", "Active").await;
    sandbox.apply(Identity::Admin, &lease("waits")).await;
    let waits = sandbox.wait_for("lease/waits", "a ticket", |l| l.data["status"]["queueTicket"].is_string()).await;
    drop(controller);

    run(&["upgrade", "drydock", &chart()]);
    install::in_effect(&plane).await.unwrap();
    // What is there is not judged anew, as long as it is left as it is: all else may be changed.
    let changed =
        sandbox.patch(Identity::Admin, "blueprint/loose", json!({"spec": {"limits": {"maxResources": 2}}})).await;
    assert_eq!(changed.data["spec"]["limits"]["maxResources"], 2);
    let again = NOT_TAKEN_ANY_MORE.replace("name: loose", "name: late");
    let refused = sandbox.try_apply(Identity::Admin, &again).await.unwrap_err().to_string();
    assert!(refused.contains("leave out ownerReferences, finalizers and generateName"), "{refused}");

    let controller = sandbox.controller().await;
    sandbox.append(Identity::Admin, "lease/held", json!({"id": "x", "type": "Release"})).await;
    sandbox.wait_phase("lease/waits", "Active").await;
    let released = sandbox.wait_phase("lease/held", "Destroyed").await;
    assert!(held.data["status"]["activatedAt"].is_string());
    for unchanged in ["resourceRef", "queueTicket", "acquiredAt", "activatedAt"] {
        assert_eq!(released.data["status"][unchanged], held.data["status"][unchanged], "{unchanged}");
    }
    assert_eq!(phase(&waits), "Pending");
    for object in ["lease/held", "lease/waits", "blueprint/pool", "blueprint/loose"] {
        sandbox.delete(Identity::Admin, object).await;
        sandbox.wait_gone(object).await;
    }
    drop((sandbox, controller));
    plane.stop().await.unwrap();
}

/// The chart, but with the kinds of the version before. Returns its path.
fn chart_with_the_kinds_before(folder: &std::path::Path) -> String {
    let copy = folder.join("drydock");
    let copied = std::process::Command::new("cp").arg("-r").arg(chart()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let before: Vec<_> = repository("tests/chart/previous").read_dir().unwrap().map(|file| file.unwrap()).collect();
    let before: Vec<_> = before.iter().filter(|file| file.path().extension().is_some_and(|e| e == "yaml")).collect();
    assert_eq!(before.len(), 3);
    for file in before {
        let now = copy.join("files/crds").join(file.file_name());
        assert_ne!(std::fs::read(file.path()).unwrap(), std::fs::read(&now).unwrap(), "nothing is upgraded");
        std::fs::copy(file.path(), now).unwrap();
    }
    copy.to_string_lossy().into_owned()
}
