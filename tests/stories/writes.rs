//! Budgets of design.md, section 11, that are counts: the controller's writes for one lease, from the API server's own
//! metrics.

use crate::{
    support::{ControlPlane, Identity, Sandbox, install},
    told::{apply, command, hosts, lease},
};
use serde_json::json;
use std::collections::BTreeMap;

/// "Controller writes" are PUT and PATCH of our objects with `/status`; the finalizer's removal and the final delete are
/// counted apart (api.md, 7).
async fn status_writes(plane: &ControlPlane) -> BTreeMap<String, u64> {
    let metrics = plane.raw("/metrics").await.expect("the API server tells");
    let mut counts = BTreeMap::new();
    for line in
        metrics.lines().filter(|l| l.starts_with("apiserver_request_total{") && l.contains(r#"group="drydock.dev""#))
    {
        let label = |name: &str| {
            let start = line.find(&format!("{name}=\""))? + name.len() + 2;
            Some(&line[start..start + line[start..].find('"')?])
        };
        let (Some(verb), Some(resource), Some(subresource)) = (label("verb"), label("resource"), label("subresource"))
        else {
            continue;
        };
        if subresource == "status" && matches!(verb, "PUT" | "PATCH") && resource != "blueprints" {
            let count: f64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
            *counts.entry(resource.to_owned()).or_default() += count as u64;
        }
    }
    counts
}

/// A lease on an existing host costs at most two controller writes to become active, and two to end; with the policies
/// installed, and on a control plane of its own, for the counts are the whole server's.
#[tokio::test]
async fn a_lease_costs_two_writes_to_become_active_and_two_to_end() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    install::everything(&plane).await.expect("Drydock is installed");
    let sandbox = Sandbox::on(&plane, "writes").await;
    let controller = sandbox.controller().await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("first", json!({}))).await;
    sandbox.wait_phase("lease/first", "Active").await;
    command(&sandbox, "lease/first", json!({"id": "r", "type": "Release"})).await;
    sandbox.wait_phase("lease/first", "Destroyed").await;
    idle(&sandbox).await;

    for round in 0..3 {
        let name = format!("l{round}");
        let object = format!("lease/{name}");
        let start = status_writes(&plane).await;
        sandbox.apply(Identity::Admin, &lease(&name, json!({"ttl": "1h"}))).await;
        sandbox.wait_phase(&object, "Active").await;
        let active = status_writes(&plane).await;
        command(&sandbox, &object, json!({"id": "r", "type": "Release"})).await;
        sandbox.wait_phase(&object, "Destroyed").await;
        idle(&sandbox).await;
        let end = status_writes(&plane).await;
        let spent = |from: &BTreeMap<String, u64>, to: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
            to.iter().map(|(k, n)| (k.clone(), n - from.get(k).copied().unwrap_or(0))).collect()
        };
        let one_each = BTreeMap::from([("leases".to_owned(), 1), ("resources".to_owned(), 1)]);
        assert_eq!(spent(&start, &active), one_each, "to become active, in round {round}");
        assert_eq!(spent(&active, &end), one_each, "to end, in round {round}");
    }
    drop(controller);
    plane.stop().await.expect("all of it ends");
}

async fn idle(sandbox: &Sandbox<'_>) {
    let nobody = |r: &kube::api::DynamicObject| crate::told::claimants(r).is_empty();
    sandbox.wait_for("resource/pool--h1", "idle", nobody).await;
}
