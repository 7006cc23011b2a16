//! Installed by kubectl alone, all or only the kinds; and helm after it.

use crate::helm::{chart, helm};
use crate::support::leash::repository;
use crate::support::{ControlPlane, Identity, install};

#[tokio::test]
async fn what_kubectl_has_installed_is_removed_or_taken_over() {
    let plane = ControlPlane::start().await.unwrap();
    let all = repository("install.yaml").to_string_lossy().into_owned();
    let kubectl = async |words: &str, more: &[&str]| {
        let words: Vec<&str> = words.split(' ').chain(more.iter().copied()).collect();
        plane.run_kubectl(Identity::Admin, &words).await.unwrap()
    };
    for way in ["apply -f", "apply --server-side -f"] {
        let made = kubectl(way, &[&all]).await;
        let has = |what: &str| made.lines().any(|line| line.starts_with(what));
        assert!(
            has("deployment.apps/drydock ") && has("mutatingadmissionpolicy.admissionregistration.k8s.io/"),
            "{made}"
        );
        install::in_effect(&plane).await.unwrap();
        let again = kubectl(way, &[&all]).await;
        assert_eq!(again.lines().count(), made.lines().count(), "{again}");
        if way == "apply -f" {
            assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
        }
        // As README has it.
        kubectl("delete blueprints.drydock.dev,leases.drydock.dev --all -A", &[]).await;
        kubectl("delete --timeout=60s -f", &[&all]).await;
    }

    let (chart, admin) = (chart(), plane.kubeconfig(Identity::Admin));
    let run = |words: &[&str]| {
        let output = helm(&[words, &["--namespace=drydock-system"]].concat(), Some(&admin));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    kubectl("create -f", &[&repository("crds").to_string_lossy()]).await;
    let install = ["install", "drydock", &chart, "--create-namespace"];
    let refused = run(&install).expect_err("the kinds are not helm's");
    assert!(
        refused.contains("CustomResourceDefinition") && refused.contains("invalid ownership metadata"),
        "{refused}"
    );
    for remedy in ["--set=crds.install=false", "--take-ownership"] {
        run(&[&install[..], &[remedy]].concat()).unwrap();
        install::in_effect(&plane).await.unwrap();
        run(&["uninstall", "drydock"]).unwrap();
    }
    plane.stop().await.unwrap();
}
