//! Upgraded and rolled back while leases are held: nothing happens to them. And helm's own test.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::cluster::{Cluster, HERE, step};
use crate::namespaces::{active, lease};
use crate::release::Release;

/// All that a lease says of itself; nothing has been written to it where the version is the same.
pub fn all_of(lease: &DynamicObject) -> (Option<String>, Option<String>, Value) {
    (lease.uid(), lease.resource_version(), lease.data["status"].clone())
}

pub async fn and_rolled_back(cluster: &Cluster, release: &Release) {
    lease(cluster, "jobs", "busy", json!({})).await;
    active(cluster, "busy").await;
    let held = async || {
        let mut held = vec![];
        for name in ["lease/kept", "lease/busy"] {
            held.push(all_of(&cluster.get(HERE, name).await.unwrap()));
        }
        held
    };
    let before = held().await;

    let pod = release.pod().await.name_any();
    let (image, what) = match &cluster.next {
        Some(next) => (next, "an upgrade to other values and another image"),
        None => (&cluster.image, "an upgrade to other values (another image: NEXT_IMAGE=…)"),
    };
    let debug = ["--set-string=log.level=debug", "--set=policies.ownerOnly=true", "--set=podLabels.team=platform"];
    step(what, release.helm("upgrade", image, &debug)).await;
    let upgraded = release.replaced(&[&pod], 1).await.remove(0);
    assert_eq!(upgraded.spec.as_ref().unwrap().containers[0].image.as_deref(), Some(image.name.as_str()));
    assert_eq!(upgraded.labels()["team"], "platform");
    assert_eq!(held().await, before, "of what is held nothing was written anew");
    step("what is asked for then is there", async {
        lease(cluster, "rooms", "upgraded", json!({})).await;
        active(cluster, "upgraded").await;
    })
    .await;

    step("rolled back", release.run(&["rollback", "drydock", "1", "--wait"])).await;
    let back = release.replaced(&[&upgraded.name_any()], 1).await.remove(0);
    assert_eq!(back.spec.as_ref().unwrap().containers[0].image.as_deref(), Some(cluster.image.name.as_str()));
    assert_eq!(held().await, before, "of what is held nothing was written anew");
    cluster.kubectl(&["delete", "leases.drydock.dev", "upgraded", "-n", HERE, "--timeout=1m"]).await;

    let said = step("helm test", release.run(&["test", "drydock", "--logs"])).await;
    assert!(said.contains("Phase:          Succeeded"), "{said}");
    assert!(said.contains("POD LOGS: drydock-test") && said.contains("Destroyed"), "{said}");
}
