//! helm's own steps, without a node: installed, upgraded, rolled back and uninstalled, while a lease is there.

use std::path::Path;

use crate::helm::{chart, helm};
use crate::support::{ControlPlane, ControllerProcess, Identity, Sandbox, install};

#[tokio::test]
async fn the_kinds_and_their_objects_outlive_the_release() {
    let plane = ControlPlane::start().await.unwrap();
    let chart = chart();
    let admin = plane.kubeconfig(Identity::Admin);
    what_is_said_at_the_end_fits_what_was_installed(&admin);
    let run = |arguments: &[&str]| {
        let output = helm(&[arguments, &["--namespace=drydock-system"]].concat(), Some(&admin));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "helm {}: {said}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run(&["install", "drydock", &chart, "--create-namespace"]);
    let said = said.split_once("NOTES:").unwrap().1;
    assert!(!said.contains("has no MutatingAdmissionPolicy"), "this cluster has them: {said}");
    install::in_effect(&plane).await.unwrap();
    install::controller_account(&plane).await.unwrap();
    let sandbox = Sandbox::on(&plane, "release").await;
    let controller = sandbox.controller().await;
    the_next_commands_lead_to_a_lease(&plane, said).await;
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
    run(&["upgrade", "drydock", &chart, "--set=crds.install=true"]);
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
    let controller = sandbox.controller().await;
    sandbox.delete(Identity::Admin, "lease/a").await;
    sandbox.wait_gone("lease/a").await;
    drop((sandbox, controller));
    plane.stop().await.unwrap();
}

/// What the NOTES tell to type, word by word; but for the first, which waits for Pods.
pub async fn the_next_commands_lead_to_a_lease(plane: &ControlPlane, notes: &str) {
    let _controller = ControllerProcess::start(plane, &["default"], &[]).await;
    let (_, next) = notes.split_once("\n\nkubectl wait --for=condition=Available").unwrap();
    let (_, next) = next.split_once('\n').unwrap();
    let (next, rest) = next.split_once("\n\nThe lease is given back by `").unwrap();
    let (back, _) = rest.split_once('`').unwrap();
    for script in [next, back] {
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script]).env("KUBECONFIG", plane.kubeconfig(Identity::Admin));
        let path = plane.kubectl().parent().unwrap().to_string_lossy().into_owned();
        bash.env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()));
        let output = bash.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}\n{said}{}", String::from_utf8_lossy(&output.stderr));
        let words = if script == next { ["lease.drydock.dev/first", "Active"] } else { ["first", "deleted"] };
        assert!(words.iter().all(|words| said.contains(words)), "{script}\n{said}");
    }
    plane.run_kubectl(Identity::Admin, &["delete", "blueprints.drydock.dev", "hosts", "-n", "default"]).await.unwrap();
}

/// The NOTES of an installation that does not take place.
pub fn notes(admin: &Path, setting: &str) -> String {
    let (chart, set) = (chart(), format!("--set={setting}"));
    // --take-ownership: of a rendering that is there by kubectl, as of one that is not.
    let install = [
        "install",
        "drydock",
        &chart,
        "--namespace=drydock-system",
        "--create-namespace",
        "--dry-run=client",
        "--take-ownership",
        &set,
    ];
    let output = helm(&install, Some(admin));
    let said = String::from_utf8(output.stdout).unwrap();
    let notes = said.split_once("NOTES:");
    notes.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr))).1.to_owned()
}

fn what_is_said_at_the_end_fits_what_was_installed(admin: &Path) {
    let notes = |setting: &str| notes(admin, setting);
    let plain = notes("policies.mutating=always");
    assert!(plain.contains("deployment/drydock -n drydock-system") && plain.contains("-n default"), "{plain}");
    assert!(!plain.contains("No admission policies") && !plain.contains("MutatingAdmissionPolicy"), "{plain}");
    assert!(plain.contains("impersonation.namespaces"), "{plain}");
    for (setting, words, said) in [
        ("policies.install=false", "No admission policies", true),
        ("policies.mutating=never", "has no MutatingAdmissionPolicy v1", true),
        ("watch.namespaces={a}", "kubectl apply -n a -f -", true),
        ("impersonation.clusterWide=true", "impersonation", false),
        ("crds.keep=false", "Uninstalling leaves", false),
        ("crds.keep=false", "Before you uninstall:", true),
        ("crds.keep=false", "kubectl delete crd", false),
        ("crds.install=false", "kubectl delete crd", false),
        ("watch.namespaces={a}", "leases.drydock.dev --all -n a\n", true),
    ] {
        let notes = notes(setting);
        assert_eq!(notes.contains(words), said, "{setting}: {notes}");
    }
}
