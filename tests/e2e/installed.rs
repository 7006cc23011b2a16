//! Installed under restricted Pod Security, as NOTES go on from there; and what can be measured of it at the end.

use kube::ResourceExt as _;
use serde_json::Value;

use crate::cluster::{Cluster, HERE, SYSTEM, processes, step};
use crate::release::{Release, container, is_ready};
use crate::support::metrics;

/// Of Prometheus' operator, as far as the chart's ServiceMonitor needs it.
const MONITORS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: ServiceMonitor, listKind: ServiceMonitorList, plural: servicemonitors, singular: servicemonitor}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
";

pub async fn with_helm(cluster: &Cluster, release: &Release) {
    for namespace in [SYSTEM, HERE] {
        cluster.kubectl(&["create", "namespace", namespace]).await;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(&["label", "namespace", namespace, restricted]).await;
    }
    let monitors = cluster.kubectl(&["get", "customresourcedefinitions", "-o", "name"]).await;
    if !monitors.contains("servicemonitors.monitoring.coreos.com") {
        cluster.apply("", MONITORS).await;
        let wait = "wait --for=condition=Established crd/servicemonitors.monitoring.coreos.com --timeout=1m";
        cluster.kubectl(&wait.split(' ').collect::<Vec<_>>()).await;
    }
    let said =
        step("helm install --wait, where Pod Security is restricted", release.helm("install", &cluster.image, &[]))
            .await;
    let (_, notes) = said.split_once("NOTES:").unwrap();

    let pod = release.pod().await;
    assert!(is_ready(&pod), "helm has waited for it");
    assert_eq!(release.page(&pod.name_any(), "readyz").await, (200, "ready\n".to_owned()));
    let greedy = ["run", "greedy", "--dry-run=server", "--privileged", "--image", &cluster.image.name, "-n", SYSTEM];
    let refused = cluster.try_kubectl(&greedy).await.expect_err("Pod Security is enforced");
    assert!(refused.contains("violates PodSecurity \"restricted"), "{refused}");
    let (id, restarts) = container(&pod).unwrap();
    assert_eq!(restarts, 0);
    if cluster.ours {
        has_nothing_that_it_does_not_need(&id);
    }
    step("the next commands of NOTES, word by word", notes_lead_to_a_lease(cluster, notes)).await;
}

/// As the kernel has it.
fn has_nothing_that_it_does_not_need(id: &str) {
    let pids = processes(id);
    assert_eq!(pids.len(), 1, "one process, {id}: {pids:?}");
    let read = |of: &str| std::fs::read_to_string(format!("/proc/{}/{of}", pids[0])).unwrap();
    let status = read("status");
    for line in [
        "Uid:\t65532\t65532\t65532\t65532",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.lines().any(|said| said == line), "not {line:?}:\n{status}");
    }
    let mounts = read("mounts");
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().starts_with("ro,"), "{root}");
    println!("    user 65532, no capability, no new privileges, seccomp, a root file system that is read-only");
}

/// What NOTES tell to type next, and then how the lease is given back.
async fn notes_lead_to_a_lease(cluster: &Cluster, notes: &str) {
    let (_, next) = notes.split_once("Next:\n\n").unwrap();
    let (next, rest) = next.split_once("\n\nThe lease is given back by `").unwrap();
    let (back, _) = rest.split_once('`').unwrap();
    // On a cluster of somebody's, `default` is not for tests.
    let there = |script: &str| match cluster.ours {
        true => script.to_owned(),
        false => script.replace("-n default", &format!("-n {HERE}")),
    };
    let said = cluster.type_in(&there(next)).await;
    assert!(
        ["deployment.apps/drydock condition met", "lease.drydock.dev/first", "Active"]
            .iter()
            .all(|words| said.contains(words)),
        "{said}"
    );
    println!(
        "{}",
        said.trim_end()
            .replace("\n\n", "\n")
            .lines()
            .map(|line| format!("    | {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let said = cluster.type_in(&there(back)).await;
    assert!(said.contains("deleted"), "{said}");
    let pool = there("kubectl delete blueprints.drydock.dev hosts -n default");
    cluster.type_in(&pool).await;
}

/// What it says of itself by the Service that the ServiceMonitor selects, what it never logged, and what it takes.
pub async fn and_measured(cluster: &Cluster, release: &Release) {
    let monitor: Value = serde_json::from_str(
        &cluster
            .kubectl(&["get", "servicemonitors.monitoring.coreos.com", "drydock", "-n", SYSTEM, "-o", "json"])
            .await,
    )
    .unwrap();
    let endpoint = &monitor["spec"]["endpoints"][0];
    let (port, path) = (endpoint["port"].as_str().unwrap(), endpoint["path"].as_str().unwrap());
    let labels = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
    let services =
        ["get", "services", "-n", SYSTEM, "-l", &labels.join(","), "-o", "jsonpath={.items[*].metadata.name}"];
    let service = cluster.kubectl(&services).await;
    // Prometheus asks each Pod that the Service leads to; here the API server chooses one.
    let of_service = format!("kubernetes.io/service-name={service}");
    let addresses = "jsonpath={.items[*].endpoints[*].addresses[*]}";
    let led_to = cluster.kubectl(&["get", "endpointslices", "-n", SYSTEM, "-l", &of_service, "-o", addresses]).await;
    let mut led_to: Vec<&str> = led_to.split(' ').collect();
    let pods = release.pods().await;
    let mut there: Vec<&str> = pods.iter().map(|pod| pod.status.as_ref().unwrap().pod_ip.as_deref().unwrap()).collect();
    led_to.sort_unstable();
    there.sort_unstable();
    assert_eq!(led_to, there);
    let url = format!("/api/v1/namespaces/{SYSTEM}/services/{service}:{port}/proxy{path}");
    let text = release
        .until("the one that does the work is asked", async || {
            let text = cluster.kubectl(&["get", "--raw", &url]).await;
            assert!(text.ends_with("# EOF\n"), "{text}");
            (metrics::sum(&text, "drydock_passes_total", &[]) > 0.0).then_some(text)
        })
        .await;
    println!("metrics by the Service {service}: {} lines", text.lines().count());

    for pod in release.pods().await {
        let (name, node) = (pod.name_any(), pod.spec.as_ref().unwrap().node_name.clone().unwrap());
        // kubelet measures now and then; what began just now it has not measured yet.
        let bytes = release
            .until("the node has measured the controller", async || {
                let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
                let summary: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", &path]).await).unwrap();
                let pod = summary["pods"].as_array()?.iter().find(|pod| pod["podRef"]["name"] == *name)?.clone();
                pod["memory"]["workingSetBytes"].as_u64().filter(|bytes| *bytes > 0)
            })
            .await;
        println!("memory of {name}: {:.1} MiB", bytes as f64 / f64::from(1 << 20));
        assert!(bytes < 64 << 20, "it is more than the chart asks for");
    }

    let refused = release.logs.with("forbidden");
    assert!(refused.is_empty(), "it lacks a right: {refused:#?}");
    let (started, containers) = (release.logs.with("listening on").len(), release.logs.containers());
    assert_eq!(started, containers, "the whole log of each was seen");
    println!("{containers} containers of the controller so far, and none was refused anything");
}
