//! `limits.maxLeasesPerNamespace`: one namespace does not take all that there is.

use crate::{
    effects::{self, Mood::*, true_to},
    support::{Identity, phase, sandbox::condition},
    told::{alone, apply, command, holds_throughout, hosts, lease, message, was},
};
use drydock::api::step::StepKind::*;
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::json;
use std::collections::BTreeSet;

fn is_limited(lease: &DynamicObject) -> bool {
    condition(lease, "Acquired") == ("False", "NamespaceLimit")
}

/// Four ask at once, on five hosts, and two may: cold, and then warm. The others are told why, and come in turn.
#[tokio::test]
async fn a_namespace_holds_no_more_than_it_may_and_the_others_come_in_turn() {
    let (sandbox, _controller) = alone("namespace-limit").await;
    apply(&sandbox, &hosts(5, json!({"limits": {"maxLeasesPerNamespace": 2, "minReady": 1}}))).await;
    let names = ["l0", "l1", "l2", "l3"];
    for name in names {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    let mut active = Vec::new();
    for name in names {
        let settled = |l: &DynamicObject| phase(l) == "Active" || is_limited(l);
        let settled = sandbox.wait_for(&format!("lease/{name}"), "active or limited", settled).await;
        if phase(&settled) == "Active" {
            active.push(name);
        } else {
            assert!(message(&settled, "Acquired").contains("at most 2 leases of one namespace"), "{settled:?}");
        }
    }
    assert_eq!(active, ["l0", "l1"]);
    for (ends, next) in [("l0", "l2"), ("l1", "l3")] {
        command(&sandbox, &format!("lease/{ends}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{next}"), "Active").await;
    }
    // A higher limit is used at once.
    apply(&sandbox, &lease("l4", json!({}))).await;
    sandbox.wait_for("lease/l4", "limited", is_limited).await;
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"limits": {"maxLeasesPerNamespace": 3}}})).await;
    sandbox.wait_phase("lease/l4", "Active").await;
    holds_throughout(&sandbox).await;
    let mut holders: BTreeSet<String> = BTreeSet::new();
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "lease") {
        match seen.phase() {
            "Active" => holders.insert(seen.object.name_any()),
            _ => holders.remove(&seen.object.name_any()),
        };
        assert!(holders.len() <= 3 && (holders.len() <= 2 || holders.contains("l4")), "{holders:?}");
    }
}

/// Nothing is built for those who may not have it.
#[tokio::test]
async fn nothing_is_built_beyond_what_a_namespace_may_hold() {
    let (sandbox, world, _controller) = effects::alone("namespace-limit-builds").await;
    world.will(Build, [Hangs]);
    apply(&sandbox, &effects::pool(5, json!({"limits": {"maxLeasesPerNamespace": 1}}))).await;
    for name in ["a", "b"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    world.begun(Build, 1).await;
    let limited = |l: &DynamicObject| matches!(condition(l, "Acquired").1, "NamespaceLimit" | "Building");
    for name in ["a", "b"] {
        sandbox.wait_for(&format!("lease/{name}"), "told why it waits", limited).await;
    }
    was(&sandbox, "lease/b", "limited", is_limited).await;
    world.will(Build, [Works]);
    sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(sandbox.list("resource").await.len(), 1);
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(world.calls(Build).len(), 1, "{}", world.tell());
    true_to(&sandbox, &world).await;
}
