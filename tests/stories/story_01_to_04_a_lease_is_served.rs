//! Stories 1 to 4: who is served by what, and who waits for which reason.

use crate::{
    support::{Identity, Sandbox, sandbox::condition},
    told::{alone, apply, bound_to, holds_throughout, hosts, lease, message, pool},
};
use serde_json::json;

#[tokio::test]
async fn story_01_a_free_host_is_leased_and_its_access_data_is_in_the_status() {
    let (sandbox, _controller) = alone("story-01").await;
    let driver = json!({"hosts": {"credentialsSecretRef": {"name": "ci-ssh"}, "inventory": [
        {"name": "h1", "address": "192.0.2.7", "port": 2222, "user": "ci", "hostKeys": ["ssh-ed25519 AAAA"],
         "outputs": {"rack": "7"}},
    ]}});
    apply(&sandbox, &hosts(0, json!({"driver": driver}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "1h"}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;

    assert_eq!(bound_to(&active), "pool--h1");
    let access = &active.data["status"]["interfaces"][0];
    assert_eq!(
        *access,
        json!({
            "name": "ssh", "type": "ssh", "address": "192.0.2.7", "port": 2222, "user": "ci",
            "hostKeys": ["ssh-ed25519 AAAA"],
            "secretRef": {"namespace": sandbox.namespace(), "name": "ci-ssh"},
        })
    );
    assert_eq!(active.data["status"]["outputs"], json!({"rack": "7"}));
    for (type_, expected) in [
        ("Acquired", ("True", "Acquired")),
        ("Ready", ("True", "Active")),
        ("Released", ("False", "NotReleased")),
        ("TornDown", ("False", "InUse")),
        ("Settled", ("True", "Active")),
    ] {
        assert_eq!(condition(&active, type_), expected, "{type_}");
    }
    let resource = sandbox.get("resource/pool--h1").await;
    assert_eq!(resource.data["status"]["claims"][0]["uid"], json!(active.metadata.uid));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_01_a_thing_without_an_address_is_leased_by_its_attributes() {
    let (sandbox, _controller) = alone("story-01-thing").await;
    let inventory = json!([
        {"name": "seat-1", "attributes": {"edition": "basic"}, "outputs": {"seat": "1"}},
        {"name": "seat-2", "attributes": {"edition": "full"}, "outputs": {"seat": "2"}},
    ]);
    apply(&sandbox, &hosts(0, json!({"driver": {"hosts": {"inventory": inventory}}}))).await;
    apply(&sandbox, &lease("a", json!({"selector": {"matchLabels": {"edition": "full"}}}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(bound_to(&active), "pool--seat-2");
    assert_eq!(active.data["status"]["outputs"], json!({"seat": "2"}));
    assert!(active.data["status"]["interfaces"].is_null());
}

#[tokio::test]
async fn story_02_a_lease_waits_for_its_blueprint_and_is_served_untouched() {
    let (sandbox, _controller) = alone("story-02").await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let waiting = sandbox
        .wait_for("lease/a", "waiting with a reason", |l| condition(l, "Acquired") == ("False", "NoMatchingBlueprint"))
        .await;
    assert!(message(&waiting, "Acquired").contains("no Blueprint of type host"), "{waiting:?}");
    let generation = waiting.metadata.generation;

    apply(&sandbox, &hosts(1, json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.metadata.generation, generation, "nobody touched the lease's spec");
}

#[tokio::test]
async fn story_03_a_suspended_blueprint_grants_nothing_and_keeps_what_is_leased() {
    let (sandbox, _controller) = alone("story-03").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    apply(&sandbox, &lease("before", json!({}))).await;
    sandbox.wait_phase("lease/before", "Active").await;
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"suspend": true}})).await;
    sandbox.wait_for("blueprint/pool", "suspended", |b| condition(b, "Ready") == ("False", "Suspended")).await;

    apply(&sandbox, &lease("after", json!({}))).await;
    sandbox
        .wait_for("lease/after", "told that the Blueprint is suspended", |l| {
            condition(l, "Acquired") == ("False", "Suspended")
        })
        .await;
    assert_eq!(sandbox.get("lease/before").await.data["status"]["phase"], "Active");
    assert_eq!(sandbox.list("resource").await.len(), 1, "nothing new is built");

    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"suspend": false}})).await;
    sandbox.wait_phase("lease/after", "Active").await;
    sandbox
        .history()
        .never("a lease lost its host to the suspension", |s| s.name == "before" && s.phase() == "Released");
}

#[tokio::test]
async fn story_04_both_sides_must_agree() {
    let owner = Sandbox::new("story-04-owner").await;
    let shared = Sandbox::new("story-04-shared").await;
    let tenant = Sandbox::new("story-04-tenant").await;
    let _controller = owner.controller_for(&[&shared, &tenant], &["--shared-namespaces", shared.namespace()]).await;
    apply(&owner, &hosts(1, json!({"allowedNamespaces": {"from": "All"}}))).await;
    apply(&shared, &hosts(1, json!({"allowedNamespaces": {"from": "Same"}}))).await;

    // It names none: what is shared does not admit it, what admits it is not shared.
    apply(&tenant, &lease("unnamed", json!({}))).await;
    let waiting = tenant
        .wait_for("lease/unnamed", "not authorized", |l| condition(l, "Acquired") == ("False", "NotAuthorized"))
        .await;
    let why = message(&waiting, "Acquired");
    assert!(why.contains(&format!("Blueprint {}/pool does not admit", shared.namespace())), "{why}");
    assert!(!why.contains(owner.namespace()), "a Blueprint elsewhere is no candidate: {why}");

    // It names the one that admits it.
    let named = json!({"blueprints": [{"namespace": owner.namespace(), "name": "pool"}]});
    apply(&tenant, &lease("named", named)).await;
    let active = tenant.wait_phase("lease/named", "Active").await;
    assert_eq!(active.data["status"]["resourceRef"]["namespace"], owner.namespace());

    // Admitted later, by the labels of its namespace, it binds as it is.
    let name = tenant.namespace();
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let admit = json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": selector}}});
    shared.patch(Identity::Admin, "blueprint/pool", admit).await;
    tenant.wait_phase("lease/unnamed", "Active").await;
}

#[tokio::test]
async fn story_04_a_blueprint_that_is_gone_is_no_reason_any_more() {
    let shared = Sandbox::new("story-04-gone").await;
    let tenant = Sandbox::new("story-04-waits").await;
    let _controller = shared.controller_for(&[&tenant], &["--shared-namespaces", shared.namespace()]).await;
    apply(&shared, &hosts(1, json!({"allowedNamespaces": {"from": "Same"}}))).await;
    apply(&tenant, &lease("a", json!({}))).await;
    let says = async |reason| {
        tenant.wait_for("lease/a", reason, |l| condition(l, "Acquired") == ("False", reason)).await;
    };
    says("NotAuthorized").await;
    shared.delete(Identity::Admin, "blueprint/pool").await;
    says("NoMatchingBlueprint").await;
}

#[tokio::test]
async fn candidates_are_tried_in_the_order_in_which_a_lease_names_them() {
    let (sandbox, _controller) = alone("candidates").await;
    for (n, name) in ["first", "second", "third"].iter().enumerate() {
        let inventory = json!([{"name": "h", "address": format!("192.0.2.{}", n + 1)}]);
        apply(&sandbox, &pool(name, 0, json!({"driver": {"hosts": {"inventory": inventory}}}))).await;
    }
    let named = json!({"blueprints": [{"name": "second"}, {"name": "first"}]});
    for (lease_name, expected) in [("a", "second--h"), ("b", "first--h")] {
        apply(&sandbox, &lease(lease_name, named.clone())).await;
        let active = sandbox.wait_phase(&format!("lease/{lease_name}"), "Active").await;
        assert_eq!(bound_to(&active), expected);
    }
    apply(&sandbox, &lease("c", named)).await;
    sandbox
        .wait_for("lease/c", "waiting though a third pool is free", |l| {
            condition(l, "Acquired") == ("False", "AtCapacity")
        })
        .await;
}
