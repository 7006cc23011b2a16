//! A controller that cannot do its work is not Ready, says what it waits for, and takes nothing away from the one that can.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::json;

use crate::cluster::{Cluster, HERE, SYSTEM, step};
use crate::namespaces::{active, lease};
use crate::release::{Release, container, is_ready};

pub async fn is_not_relied_on(cluster: &Cluster, release: &Release) {
    let good = release.pod().await.name_any();
    let (bad, said) = step("a rollout to what cannot reach the API server stands still", async {
        // An address that is nobody's: for documentation (RFC 5737).
        let set = ["set", "env", "deployment/drydock", "KUBERNETES_SERVICE_HOST=192.0.2.1", "-n", SYSTEM];
        cluster.kubectl(&set).await;
        release
            .until("another runs and says what it waits for", async || {
                let pods = release.pods().await;
                let bad = pods.iter().find(|pod| pod.name_any() != good && container(pod).is_some())?;
                assert!(!is_ready(bad), "it cannot be");
                let (status, said) = release.page(&bad.name_any(), "readyz").await;
                (status == 503 && said.contains("waiting for")).then(|| (bad.name_any(), said))
            })
            .await
    })
    .await;
    println!("    {}", said.trim().replace('\n', "\n    "));
    let pods = release.pods().await;
    let ready: Vec<String> = pods.iter().filter(|pod| is_ready(pod)).map(Pod::name_any).collect();
    assert_eq!(ready.join(" "), good, "the one that was there works on");
    step("leases are served meanwhile", async {
        lease(cluster, "rooms", "served", json!({})).await;
        active(cluster, "served").await;
        cluster.kubectl(&["delete", "leases.drydock.dev", "served", "-n", HERE, "--timeout=1m"]).await;
    })
    .await;
    cluster.kubectl(&["rollout", "undo", "deployment/drydock", "-n", SYSTEM]).await;
    cluster.kubectl(&["wait", "--for=delete", &format!("pod/{bad}"), "-n", SYSTEM, "--timeout=1m"]).await;
    assert_eq!(release.pod().await.name_any(), good);
}
