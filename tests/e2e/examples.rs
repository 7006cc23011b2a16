//! `examples/`, applied as its readers would; but for those of other tools.

use crate::cluster::{CI, Cluster, HERE, step};
use crate::support::leash::repository;
use crate::support::phase;

pub async fn end_as_they_say(cluster: &Cluster) {
    step("examples/: two hosts serve two of three leases", hosts(cluster)).await;
    step("examples/objects/: namespaces, warm ones, and robots", objects(cluster)).await;
}

async fn hosts(cluster: &Cluster) {
    let folder = repository("examples");
    let here = async |words: &[&str]| cluster.kubectl(&[&["-n", HERE], words].concat()).await;
    here(&["apply", "-f", folder.to_str().unwrap()]).await;
    for name in ["lease/build-1", "lease/build-2"] {
        cluster.wait_phase(HERE, name, "Active").await;
    }
    let first = |lease: &kube::api::DynamicObject| lease.data["status"]["queuePosition"] == 1;
    cluster.wait(HERE, "lease/build-3", "first in line", first).await;

    // As the comments in leases.yaml say, either way.
    let done = r#"[{"op": "add", "path": "/spec/commands/-", "value": {"id": "done", "type": "Release", "reason": "build finished"}}]"#;
    here(&["patch", "leases.drydock.dev", "build-1", "--type=json", "-p", done]).await;
    here(&["wait", "--for=condition=Ready", "leases.drydock.dev/build-3", "--timeout=1m"]).await;
    here(&["delete", "leases.drydock.dev", "build-2", "--timeout=1m"]).await;
    here(&["delete", "-f", folder.to_str().unwrap(), "--ignore-not-found", "--timeout=1m"]).await;
    assert_eq!(here(&["get", "drydock", "-o", "name"]).await, "");
}

/// As README says: the account first, and then the folder.
async fn objects(cluster: &Cluster) {
    let (account, folder) = (repository("examples/objects/account.yaml"), repository("examples/objects"));
    cluster.kubectl(&["apply", "-f", account.to_str().unwrap()]).await;
    cluster.kubectl(&["apply", "-f", folder.to_str().unwrap()]).await;
    let outputs = async |lease: &str, name: &str| {
        let lease = cluster.wait_phase(CI, lease, "Active").await;
        lease.data["status"]["outputs"][name].as_str().unwrap().to_owned()
    };
    let namespaces = [outputs("lease/job-1", "namespace").await, outputs("lease/smoke-test", "namespace").await];
    assert_eq!(outputs("lease/robot-1", "workers").await, "4");

    // Whom job-1 names may work in its namespace, and whom smoke-test names may look at its own.
    for (namespace, verb, may) in [(0, "create", "yes"), (1, "create", "no"), (1, "list", "yes")] {
        let ask = ["auth", "can-i", verb, "pods", "--as=alice", "-n", &namespaces[namespace]];
        let answer = cluster.try_kubectl(&ask).await.unwrap_or_else(|said| said);
        assert!(answer.starts_with(may), "{}: {answer}", ask.join(" "));
    }
    for namespace in &namespaces {
        let there = cluster.kubectl(&["get", "namespace", namespace, "-o", "jsonpath={.status.phase}"]).await;
        assert_eq!(there, "Active");
    }

    let leases = ["delete", "leases.drydock.dev", "--all", "-n", CI, "--timeout=2m"];
    cluster.kubectl(&leases).await;
    cluster.wait_gone("", &format!("namespace/{}", namespaces[0])).await;
    // It is used again and again.
    let warm = cluster.kubectl(&["get", "namespace", &namespaces[1], "-o", "jsonpath={.status.phase}"]).await;
    assert_eq!(warm, "Active");
    cluster.kubectl(&["delete", "blueprints.drydock.dev", "--all", "-n", CI, "--timeout=2m"]).await;
    cluster.wait_gone("", &format!("namespace/{}", namespaces[1])).await;
    cluster.kubectl(&["delete", "-f", account.to_str().unwrap(), "--timeout=2m"]).await;
    assert!(cluster.get(CI, "lease/job-1").await.is_none_or(|lease| phase(&lease).is_empty()));
}
