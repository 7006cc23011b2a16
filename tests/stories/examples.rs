//! What `examples/` shows, applied as its readers would: all at once, with kubectl, by an ordinary user.

use crate::support::leash::repository;
use crate::support::sandbox::Rights;
use crate::support::{Identity, phase};
use crate::told;

#[tokio::test]
async fn two_hosts_serve_two_of_three_leases() {
    let (sandbox, _controller) = told::alone("examples").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    let folder = repository("examples");
    let apply = ["apply", "--namespace", sandbox.namespace(), "-f", folder.to_str().unwrap()];
    let kubectl = async |arguments: &[&str]| sandbox.plane().run_kubectl(Identity::Alice, arguments).await.unwrap();
    kubectl(&apply).await;

    for name in ["lease/build-1", "lease/build-2"] {
        sandbox.wait_phase(name, "Active").await;
    }
    let third =
        |lease: &kube::api::DynamicObject| phase(lease) == "Pending" && lease.data["status"]["queuePosition"] == 1;
    sandbox.wait_for("lease/build-3", "first in line", third).await;
    let again = kubectl(&apply).await;
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");

    // As the comments in leases.yaml say.
    let done = r#"[{"op": "add", "path": "/spec/commands/-", "value": {"id": "done", "type": "Release", "reason": "build finished"}}]"#;
    let namespaced = |rest: &[&'static str]| [&["--namespace", sandbox.namespace()], rest].concat();
    kubectl(&namespaced(&["patch", "leases.drydock.dev", "build-1", "--type=json", "-p", done])).await;
    kubectl(&namespaced(&["wait", "--for=condition=Ready", "leases.drydock.dev/build-3", "--timeout=30s"])).await;
    kubectl(&namespaced(&["delete", "leases.drydock.dev", "build-2"])).await;
    let listed = kubectl(&namespaced(&["get", "leases.drydock.dev", "--no-headers"])).await;
    assert!(listed.contains("build-3") && !listed.contains("build-2"), "{listed}");

    // A lease of a board, as the comment in boards.yaml says: the other one is on the bench.
    sandbox.apply(Identity::Alice, r#"{"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "board"}, "spec": {"resourceType": "board", "selector": {"matchLabels": {"soc": "rk3588"}}}}"#).await;
    let board = sandbox.wait_phase("lease/board", "Active").await;
    assert_eq!(board.data["status"]["outputs"]["powerSocket"], "7");
}
