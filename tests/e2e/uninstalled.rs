//! Uninstalled while leases are held: they stay, and whoever installs it again takes them up. Then all of it is removed.

use crate::cluster::{CI, Cluster, HERE, SYSTEM, step};
use crate::logs::CONTROLLERS;
use crate::release::Release;
use crate::support::condition;
use crate::upgraded::all_of;

pub async fn and_taken_up_again(cluster: &Cluster, release: &Release) {
    let held = async || all_of(&cluster.get(HERE, "lease/kept").await.unwrap());
    let before = held().await;
    step("uninstalled while leases are held", release.run(&["uninstall", "drydock", "--wait"])).await;
    step("its Pods are gone", async {
        cluster.kubectl(&["wait", "--for=delete", "pod", "-n", SYSTEM, "-l", CONTROLLERS, "--timeout=30s"]).await;
    })
    .await;
    for gone in ["clusterroles", "validatingadmissionpolicies"] {
        assert!(!cluster.kubectl(&["get", gone, "-o", "name"]).await.contains("/drydock-controller"), "{gone}");
    }
    assert_eq!(held().await, before, "kinds and objects stay");

    let said = step("installed again", release.helm("install", &cluster.image, &[])).await;
    assert_eq!(held().await, before, "of what is held nothing was written anew");
    step("it gives back what the first has leased", async {
        for name in ["kept", "busy"] {
            let lease = cluster.get(HERE, &format!("lease/{name}")).await.unwrap();
            assert_eq!(condition(&lease, "Ready").0, "True");
            let namespace = lease.data["status"]["outputs"]["namespace"].as_str().unwrap();
            cluster.kubectl(&["delete", "leases.drydock.dev", name, "-n", HERE, "--timeout=1m"]).await;
            cluster.wait_gone("", &format!("namespace/{namespace}")).await;
        }
    })
    .await;
    step("all of it is removed, as NOTES say", removed(cluster, release, &said)).await;
    for namespace in [HERE, CI] {
        let there = cluster.try_kubectl(&["get", "all", "-n", namespace, "-o", "name"]).await.unwrap();
        assert_eq!(there, "");
    }
}

/// With the commands that NOTES have for that; where the kinds were there before they stay.
async fn removed(cluster: &Cluster, release: &Release, said: &str) {
    let commands: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  kubectl ")).collect();
    let (objects, kinds) = (commands[0], commands.get(1));
    assert_eq!(kinds.is_none(), cluster.kinds_were_there, "{said}");
    cluster.type_in(&format!("kubectl {objects}")).await;
    assert_eq!(cluster.kubectl(&["get", "drydock", "-A", "-o", "name"]).await, "");
    release.run(&["uninstall", "drydock", "--wait"]).await;
    let Some(kinds) = kinds else { return };
    cluster.type_in(&format!("kubectl {kinds}")).await;
    assert!(!cluster.kubectl(&["get", "crd", "-o", "name"]).await.contains("drydock.dev"));
}
