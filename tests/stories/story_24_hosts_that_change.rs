//! Story 24: hosts are disabled, removed and changed. What is leased stays until its lease ends; what is not goes at once.

use crate::{
    support::{Identity, Sandbox, sandbox::condition},
    told::{alone, apply, bound_to, claimants, command, holds_throughout, hosts, lease, message},
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

/// The pool with just these hosts: names, addresses, and whether they are disabled.
async fn inventory(sandbox: &Sandbox<'_>, entries: &[(&str, &str, bool)]) {
    let entry = |(name, address, disabled): &(&str, &str, bool)| {
        let mut entry = json!({"name": name, "address": address});
        if *disabled {
            entry["disabled"] = json!(true);
        }
        entry
    };
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    apply(sandbox, &hosts(0, json!({"driver": {"hosts": {"inventory": entries}}}))).await;
}

/// How the last version of a resource says that it ended. It must be gone.
fn ended(sandbox: &Sandbox<'_>, uid: &str) -> String {
    let versions = sandbox.history().all();
    let last = versions.iter().rfind(|seen| seen.uid == uid).expect("it was there");
    assert!(last.gone, "{last:?} is still there");
    condition(&last.object, "Released").1.to_owned()
}

#[tokio::test]
async fn story_24_disabled_hosts_get_no_new_lease_and_keep_those_that_they_have() {
    let (sandbox, _controller) = alone("story-24").await;
    inventory(&sandbox, &[("a", "192.0.2.1", false), ("b", "192.0.2.2", false)]).await;
    apply(&sandbox, &lease("on-a", json!({}))).await;
    let on_a = sandbox.wait_phase("lease/on-a", "Active").await;
    assert_eq!(bound_to(&on_a), "pool--a");

    // A is disabled: what comes goes to B.
    inventory(&sandbox, &[("a", "192.0.2.1", true), ("b", "192.0.2.2", false)]).await;
    apply(&sandbox, &lease("on-b", json!({}))).await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/on-b", "Active").await), "pool--b");

    // Both are: it waits, and says so.
    inventory(&sandbox, &[("a", "192.0.2.1", true), ("b", "192.0.2.2", true)]).await;
    apply(&sandbox, &lease("waits", json!({}))).await;
    let no_host = |l: &kube::api::DynamicObject| condition(l, "Acquired") == ("False", "NoHostEnabled");
    let waits = sandbox.wait_for("lease/waits", "told that no host is enabled", no_host).await;
    let why = message(&waits, "Acquired");
    assert!(
        why.contains(&format!("Blueprint {}/pool has every host that fits disabled", sandbox.namespace())),
        "{why}"
    );

    // The lease on A ends, and A's resource with it; it serves nobody any more.
    let resource = sandbox.get("resource/pool--a").await;
    assert_eq!(claimants(&resource), ["on-a"], "a leased resource stays");
    command(&sandbox, "lease/on-a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_gone("resource/pool--a").await;
    sandbox.history().caught_up().await;
    assert_eq!(ended(&sandbox, &resource.uid().unwrap()), "Disabled");
    assert_eq!(condition(&sandbox.get("lease/on-a").await, "Released"), ("True", "Released"));
    assert!(no_host(&sandbox.get("lease/waits").await), "nobody has enabled one");

    // A is enabled again: a new resource is made for it.
    inventory(&sandbox, &[("a", "192.0.2.1", false), ("b", "192.0.2.2", true)]).await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/waits", "Active").await), "pool--a");
    assert_ne!(sandbox.get("resource/pool--a").await.uid(), resource.uid());
    assert_eq!(sandbox.get("lease/on-b").await.data["status"]["phase"], "Active");
    holds_throughout(&sandbox).await;
    sandbox.history().never("a lease lost its host", |s| s.name == "on-b" && s.phase() == "Released");
}

#[tokio::test]
async fn story_24_an_idle_host_that_is_disabled_or_removed_goes_at_once() {
    let (sandbox, _controller) = alone("story-24-idle").await;
    inventory(&sandbox, &[("a", "192.0.2.1", false), ("b", "192.0.2.2", false)]).await;
    for name in ["x", "y"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let uids = [sandbox.get("resource/pool--a").await, sandbox.get("resource/pool--b").await].map(|r| r.uid().unwrap());
    for name in ["x", "y"] {
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    for resource in ["resource/pool--a", "resource/pool--b"] {
        sandbox.wait_for(resource, "idle", |r| claimants(r).is_empty()).await;
    }
    inventory(&sandbox, &[("a", "192.0.2.1", true)]).await;
    sandbox.wait_gone("resource/pool--a").await;
    sandbox.wait_gone("resource/pool--b").await;
    sandbox.history().caught_up().await;
    assert_eq!(uids.map(|uid| ended(&sandbox, &uid)), ["Disabled", "Disabled"]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_24_a_removed_host_keeps_its_lease_until_that_ends() {
    let (sandbox, _controller) = alone("story-24-removed").await;
    inventory(&sandbox, &[("a", "192.0.2.1", false)]).await;
    apply(&sandbox, &lease("x", json!({}))).await;
    sandbox.wait_phase("lease/x", "Active").await;
    // Not by an apply: that would take the emptied parents out too, as Kubernetes merges.
    let none = json!({"spec": {"driver": {"hosts": {"inventory": []}}}});
    sandbox.patch(Identity::Admin, "blueprint/pool", none).await;
    apply(&sandbox, &lease("y", json!({}))).await;
    let waits =
        sandbox.wait_for("lease/y", "waiting", |l| condition(l, "Acquired") == ("False", "NoMatchingBlueprint")).await;
    assert!(message(&waits, "Acquired").contains("has no hosts"), "{waits:?}");
    assert_eq!(claimants(&sandbox.get("resource/pool--a").await), ["x"]);
    assert_eq!(sandbox.get("lease/x").await.data["status"]["phase"], "Active");
    command(&sandbox, "lease/x", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_gone("resource/pool--a").await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_24_a_changed_entry_is_made_anew_once_its_leases_have_ended() {
    let (sandbox, _controller) = alone("story-24-changed").await;
    inventory(&sandbox, &[("a", "192.0.2.1", false)]).await;
    for name in ["x", "y"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    let address = |l: &kube::api::DynamicObject| l.data["status"]["interfaces"][0]["address"].clone();
    assert_eq!(address(&sandbox.wait_phase("lease/x", "Active").await), "192.0.2.1");
    let before = sandbox.get("resource/pool--a").await.uid().unwrap();

    inventory(&sandbox, &[("a", "192.0.2.9", false)]).await;
    // Its pass over the change is done when the Blueprint says that it has seen it.
    sandbox
        .wait_for("blueprint/pool", "seen as changed", |b| {
            b.data["status"]["observedGeneration"] == json!(b.metadata.generation)
        })
        .await;
    let x = sandbox.get("lease/x").await;
    assert_eq!((x.data["status"]["phase"].as_str(), address(&x)), (Some("Active"), json!("192.0.2.1")));

    command(&sandbox, "lease/x", json!({"id": "r1", "type": "Release"})).await;
    assert_eq!(address(&sandbox.wait_phase("lease/y", "Active").await), "192.0.2.9");
    sandbox.history().caught_up().await;
    assert_eq!(ended(&sandbox, &before), "Outdated");
    assert_ne!(sandbox.get("resource/pool--a").await.uid().unwrap(), before);

    // Idle, it is made anew at once, or rather when somebody asks for it.
    let second = sandbox.get("resource/pool--a").await.uid().unwrap();
    command(&sandbox, "lease/y", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_for("resource/pool--a", "idle", |r| claimants(r).is_empty()).await;
    inventory(&sandbox, &[("a", "192.0.2.10", false)]).await;
    sandbox.wait_gone("resource/pool--a").await;
    sandbox.history().caught_up().await;
    assert_eq!(ended(&sandbox, &second), "Outdated");
    apply(&sandbox, &lease("z", json!({}))).await;
    assert_eq!(address(&sandbox.wait_phase("lease/z", "Active").await), "192.0.2.10");
    holds_throughout(&sandbox).await;
    sandbox
        .history()
        .never("granted on an entry that is no more", |s| s.name == "y" && address(&s.object) == "192.0.2.1");
}
