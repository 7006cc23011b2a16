//! The only controller is killed while a lease is held, while one is asked for, and in the middle of a teardown.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::json;

use crate::cluster::{Cluster, HERE, SYSTEM, processes, step};
use crate::namespaces::{active, lease};
use crate::release::{Release, container, is_ready};
use crate::support::{condition, phase};

/// Keeps a namespace from going until a test lets it go.
const HOLD: &str = "drydock.dev/e2e-holds-this";

pub async fn in_the_middle(cluster: &Cluster, release: &Release) {
    lease(cluster, "rooms", "kept", json!({})).await;
    lease(cluster, "rooms", "ending", json!({})).await;
    let (kept, _) = active(cluster, "kept").await;
    let (ending, namespace) = active(cluster, "ending").await;
    let resource = format!("resource/{}", ending.data["status"]["resourceRef"]["name"].as_str().unwrap());
    let hold = |finalizers: &str| format!(r#"{{"metadata": {{"finalizers": {finalizers}}}}}"#);
    let finalizers = async |finalizers: &str| {
        let patch = hold(finalizers);
        cluster.kubectl(&["patch", "configmap", "settings", "-n", &namespace, "--type=merge", "-p", &patch]).await;
    };
    finalizers(&format!("[{HOLD:?}]")).await;
    cluster.kubectl(&["delete", "leases.drydock.dev", "ending", "-n", HERE, "--wait=false"]).await;
    let tearing_down =
        |resource: &DynamicObject| phase(resource) == "Released" && condition(resource, "TornDown").0 == "False";
    cluster.wait(HERE, &resource, "being torn down", tearing_down).await;

    let pod = release.pod().await.name_any();
    step("the Pod of the controller is deleted by force; another is Ready", async {
        cluster.kubectl(&["delete", "pod", &pod, "-n", SYSTEM, "--grace-period=0", "--force"]).await;
        lease(cluster, "rooms", "meanwhile", json!({})).await;
        release.replaced(&[&pod], 1).await;
    })
    .await;
    step("what was asked for meanwhile is there", active(cluster, "meanwhile")).await;
    if cluster.ours {
        step("its process is killed outright (SIGKILL); it is started again, and Ready", process_killed(release)).await;
    } else {
        println!("(a process can be killed outright on a node of ours only)");
    }
    let torn = cluster.get(HERE, &resource).await.expect("its teardown has not ended");
    assert_eq!(phase(&torn), "Released");
    step("a teardown that two controllers did not see the end of ends", async {
        finalizers("[]").await;
        cluster.wait_gone("", &format!("namespace/{namespace}")).await;
        cluster.wait_gone(HERE, &resource).await;
    })
    .await;
    let still = cluster.get(HERE, "lease/kept").await.unwrap();
    assert_eq!(still.data["status"], kept.data["status"], "nothing has happened to what is held");
    cluster.kubectl(&["delete", "leases.drydock.dev", "meanwhile", "-n", HERE, "--timeout=1m"]).await;
}

async fn process_killed(release: &Release) {
    let pod = release.pod().await;
    let (id, restarts) = container(&pod).unwrap();
    let pid = processes(&id)[0].to_string();
    let killed = tokio::process::Command::new("kill").args(["-KILL", &pid]).status().await.unwrap();
    assert!(killed.success());
    release
        .until("it is started again", async || {
            let again = release.all_pods().get(&pod.name_any()).await.unwrap();
            container(&again).is_some_and(|(_, now)| now > restarts).then_some(())?;
            is_ready(&again).then_some(())
        })
        .await;
}
