//! Two replicas, of which one is elected: killed, and asked to stop.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use serde_json::json;

use crate::cluster::{Cluster, HERE, SYSTEM, processes, step};
use crate::namespaces::{active, lease};
use crate::release::{Release, container};
use crate::upgraded::all_of;

/// A term of leadership, after which another is elected whatever has become of the one before; with what is needed to see it.
const TERM: Duration = Duration::from_secs(15 + 10);

/// What is needed to see it, where the one before has given it up.
const AT_ONCE: Duration = Duration::from_secs(6);

pub async fn and_replaced(cluster: &Cluster, release: &Release) {
    let before = release.pod().await.name_any();
    step("two replicas", release.helm("upgrade", &cluster.image, &["--set=replicas=2"])).await;
    let two = release.replaced(&[&before], 2).await;
    let leader = release.elected("").await;
    let other = two.iter().map(kube::ResourceExt::name_any).find(|pod| *pod != leader).unwrap();
    let says = async |pod: &str| release.page(pod, "readyz").await.1;
    assert_eq!(says(&leader).await, "ready\n");
    assert_eq!(says(&other).await, "standing by: another controller is elected\n");
    let kept = all_of(&cluster.get(HERE, "lease/kept").await.unwrap());

    let killed = if cluster.ours { "killed outright, and its Pod deleted" } else { "deleted by force" };
    let begin = Instant::now();
    let next = step(&format!("the one that is elected is {killed}: another takes over"), async {
        if cluster.ours {
            let pod = release.all_pods().get(&leader).await.unwrap();
            let pid = processes(&container(&pod).unwrap().0)[0].to_string();
            assert!(tokio::process::Command::new("kill").args(["-KILL", &pid]).status().await.unwrap().success());
        }
        cluster.kubectl(&["delete", "pod", &leader, "-n", SYSTEM, "--grace-period=0", "--force"]).await;
        release.elected(&leader).await
    })
    .await;
    assert!(begin.elapsed() < TERM, "{:.0?}", begin.elapsed());
    step("it serves leases", async {
        lease(cluster, "rooms", "taken-over", json!({})).await;
        active(cluster, "taken-over").await;
        cluster.kubectl(&["delete", "leases.drydock.dev", "taken-over", "-n", HERE, "--timeout=1m"]).await;
    })
    .await;
    release.replaced(&[&leader], 2).await;

    let begin = Instant::now();
    let last =
        step("the one that is elected is asked to stop: it gives that up, and another takes over at once", async {
            cluster.kubectl(&["delete", "pod", &next, "-n", SYSTEM, "--wait=false"]).await;
            release.elected(&next).await
        })
        .await;
    assert!(begin.elapsed() < AT_ONCE, "{:.0?}", begin.elapsed());
    step("its Pod is gone long before its grace period is over", async {
        cluster.kubectl(&["wait", "--for=delete", &format!("pod/{next}"), "-n", SYSTEM, "--timeout=20s"]).await;
    })
    .await;
    assert!(begin.elapsed() < Duration::from_secs(20), "{:.0?}", begin.elapsed());
    assert_ne!(last, next);
    release.replaced(&[&leader, &next], 2).await;
    assert_eq!(
        all_of(&cluster.get(HERE, "lease/kept").await.unwrap()),
        kept,
        "of what is held nothing was written anew"
    );
}
