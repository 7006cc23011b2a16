//! A Blueprint becomes one that cannot be read while its environment is leased: who holds it keeps it, and all of it can be deleted.

use crate::support::{ControlPlane, ControllerProcess, Identity, install};

/// A Blueprint of which nothing but its outputs is made, and a template that is nested so deep.
fn blueprint(templates: &str) -> String {
    format!(
        r#"{{"apiVersion":"drydock.dev/v1alpha1","kind":"Blueprint","metadata":{{"name":"soft"}},"spec":{{"resourceType":"soft",
        "limits":{{"maxResources":1}},"driver":{{"objects":{{"serviceAccountName":"builder","outputs":{{"a":"${{'b'}}"}},
        "templates":[{templates}]}}}}}}}}"#
    )
}

#[tokio::test]
async fn a_blueprint_that_cannot_be_read_any_more_is_drained_when_it_is_deleted() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    install::crds(&plane).await.expect("the definitions are installed");
    let kubectl = async |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        plane.run_kubectl(Identity::Admin, &arguments).await.unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    };
    let file = |text: &str| {
        let path = plane.folder().join("object.json");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &[], &[]);
    controller.ready().await;
    kubectl(&format!("create -f {}", file(&blueprint("")))).await;
    let lease = r#"{"apiVersion":"drydock.dev/v1alpha1","kind":"Lease","metadata":{"name":"a"},"spec":{"resourceType":"soft"}}"#;
    kubectl(&format!("create -f {}", file(lease))).await;
    kubectl("wait --for=jsonpath={.status.phase}=Active leases.drydock.dev/a --timeout=60s").await;

    let deep = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"x":{}1{}}}"#,
        "[".repeat(130),
        "]".repeat(130)
    );
    kubectl(&format!("replace -f {}", file(&blueprint(&deep)))).await;
    kubectl("wait --for=jsonpath={.status.conditions[0].reason}=Unreadable blueprints.drydock.dev/soft --timeout=60s")
        .await;
    // It begins anew, with nothing that it has read before.
    controller.restart().await;
    kubectl("delete blueprints.drydock.dev soft --wait=false").await;
    let phase = kubectl("get leases.drydock.dev a -o jsonpath={.status.phase}").await;
    assert_eq!(phase, "Active", "who holds it keeps it");
    kubectl("delete leases.drydock.dev a --wait=false").await;
    for gone in ["leases.drydock.dev/a", "resources.drydock.dev/soft--0", "blueprints.drydock.dev/soft"] {
        kubectl(&format!("wait --for=delete {gone} --timeout=60s")).await;
    }
    drop(controller);
    plane.stop().await.expect("all of it ends");
}
