//! Blueprints of one namespace that list the same host, and a Blueprint that chooses namespaces by their labels.

use crate::{
    support::{Identity, Sandbox, sandbox::condition},
    told::{alone, apply, bound_to, claimants, command, holds_throughout, hosts, lease, message, pool},
};
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A Blueprint with these hosts, each as `(name, address, port)`.
async fn offers(sandbox: &Sandbox<'_>, name: &str, entries: &[(&str, &str, u16)]) -> DynamicObject {
    let entry = |(name, address, port): &(&str, &str, u16)| json!({"name": name, "address": address, "port": port});
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    apply(sandbox, &pool(name, 0, json!({"driver": {"hosts": {"inventory": entries}}}))).await
}

/// Two Blueprints, the older of which is so by a whole second: creation times have no finer ones.
async fn older_and_younger(sandbox: &Sandbox<'_>, older: &[(&str, &str, u16)], younger: &[(&str, &str, u16)]) {
    let first = offers(sandbox, "older", older).await.creation_timestamp();
    loop {
        if offers(sandbox, "younger", younger).await.creation_timestamp() > first {
            return;
        }
        sandbox.delete(Identity::Admin, "blueprint/younger").await;
        sandbox.wait_gone("blueprint/younger").await;
    }
}

async fn wants(sandbox: &Sandbox<'_>, name: &str, blueprint: &str) {
    apply(sandbox, &lease(name, json!({"blueprints": [{"name": blueprint}]}))).await;
}

async fn release(sandbox: &Sandbox<'_>, name: &str) {
    command(sandbox, &format!("lease/{name}"), json!({"id": "over", "type": "Release"})).await;
}

async fn ready(sandbox: &Sandbox<'_>, blueprint: &str, reason: &str) -> String {
    let object = format!("blueprint/{blueprint}");
    let told = sandbox.wait_for(&object, reason, |b| condition(b, "Ready").1 == reason).await;
    message(&told, "Ready").to_owned()
}

/// Checks that at no time two resources stood for one machine.
async fn one_resource_a_machine(sandbox: &Sandbox<'_>) {
    holds_throughout(sandbox).await;
    let mut machines: BTreeMap<String, String> = BTreeMap::new();
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        let ssh = &seen.object.data["status"]["interfaces"][0];
        if ssh.is_null() || seen.gone || seen.phase() == "Destroyed" {
            machines.remove(&seen.uid);
            continue;
        }
        let machine = format!("{}:{}", ssh["address"], ssh["port"]);
        let other = machines.iter().find(|(uid, other)| **uid != seen.uid && **other == machine);
        assert!(other.is_none(), "{seen:?}: another resource stands for {machine}");
        machines.insert(seen.uid.clone(), machine);
    }
}

#[tokio::test]
async fn a_host_that_two_blueprints_list_is_offered_by_the_older_and_told() {
    let (sandbox, _controller) = alone("host-taken").await;
    let shared = ("192.0.2.1", 22);
    let younger = [("mine", shared.0, shared.1), ("own", "192.0.2.2", 22), ("other-port", shared.0, 2222)];
    older_and_younger(&sandbox, &[("h1", shared.0, shared.1)], &younger).await;
    let why = ready(&sandbox, "younger", "HostTaken").await;
    assert!(why.ends_with(": mine"), "another port is another machine: {why}");
    ready(&sandbox, "older", "Ready").await;

    // The younger serves with the rest of its hosts, and not with that one.
    let mut bound = vec![];
    for name in ["a", "b"] {
        wants(&sandbox, name, "younger").await;
        bound.push(bound_to(&sandbox.wait_phase(&format!("lease/{name}"), "Active").await));
    }
    assert_eq!(bound, ["younger--own", "younger--other-port"]);
    wants(&sandbox, "c", "younger").await;
    sandbox.wait_for("lease/c", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
    wants(&sandbox, "holder", "older").await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/holder", "Active").await), "older--h1");

    // The older gives it up: the younger has it as soon as it is free.
    offers(&sandbox, "older", &[("other", "192.0.2.9", 22)]).await;
    ready(&sandbox, "younger", "Ready").await;
    assert_eq!(claimants(&sandbox.get("resource/older--h1").await), ["holder"]);
    release(&sandbox, "holder").await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/c", "Active").await), "younger--mine");
    one_resource_a_machine(&sandbox).await;
}

#[tokio::test]
async fn a_host_that_the_older_lists_later_is_drained_first() {
    let (sandbox, _controller) = alone("host-taken-later").await;
    older_and_younger(&sandbox, &[("own", "192.0.2.9", 22)], &[("mine", "192.0.2.1", 22)]).await;
    wants(&sandbox, "holder", "younger").await;
    wants(&sandbox, "next", "younger").await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/holder", "Active").await), "younger--mine");

    offers(&sandbox, "older", &[("new", "192.0.2.1", 22)]).await;
    ready(&sandbox, "younger", "HostTaken").await;
    wants(&sandbox, "for-older", "older").await;
    sandbox.wait_for("lease/for-older", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
    assert_eq!(sandbox.get("lease/holder").await.data["status"]["phase"], "Active");

    release(&sandbox, "holder").await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/for-older", "Active").await), "older--new");
    sandbox.wait_gone("resource/younger--mine").await;
    // Nobody of the younger's gets it any more, although one was first in line when it became free.
    let next =
        sandbox.wait_for("lease/next", "waiting", |l| condition(l, "Acquired") == ("False", "NoHostEnabled")).await;
    let why = message(&next, "Acquired");
    assert!(
        why.ends_with("has every host that fits offered by an older Blueprint, which lists it too (HostTaken)"),
        "{why}"
    );
    one_resource_a_machine(&sandbox).await;
    let last = sandbox.history().of("resource/younger--mine").pop().unwrap();
    assert_eq!(condition(&last.object, "Released"), ("True", "Disabled"));
}

#[tokio::test]
async fn blueprints_of_two_namespaces_may_list_the_same_host() {
    let one = Sandbox::new("same-host-one").await;
    let two = Sandbox::new("same-host-two").await;
    let _controller = one.controller_for(&[&two], &[]).await;
    for sandbox in [&one, &two] {
        apply(sandbox, &hosts(1, json!({}))).await;
        apply(sandbox, &lease("a", json!({}))).await;
        sandbox.wait_phase("lease/a", "Active").await;
        ready(sandbox, "pool", "Ready").await;
    }
}

/// Gives the sandbox's namespace a label, or takes it away (`team-`).
async fn label(sandbox: &Sandbox<'_>, label: &str) {
    let arguments = ["label", "namespace", sandbox.namespace(), label, "--overwrite"];
    sandbox.plane().run_kubectl(Identity::Admin, &arguments).await.expect("it is labelled");
}

#[tokio::test]
async fn a_blueprint_that_selects_namespaces_follows_their_labels() {
    let owner = Sandbox::new("selects-owner").await;
    let tenant = Sandbox::new("selects-tenant").await;
    let _controller = owner.controller_for(&[&tenant], &[]).await;
    let selector = json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["blue", "green"]}]});
    apply(&owner, &hosts(2, json!({"allowedNamespaces": {"from": "Selector", "selector": selector}}))).await;
    let named = json!({"blueprints": [{"namespace": owner.namespace(), "name": "pool"}]});
    let not_admitted = |l: &DynamicObject| condition(l, "Acquired") == ("False", "NotAuthorized");

    apply(&tenant, &lease("a", named.clone())).await;
    let waits = tenant.wait_for("lease/a", "not admitted", not_admitted).await;
    let why = message(&waits, "Acquired");
    assert_eq!(why, format!("Blueprint {}/pool does not admit this namespace", owner.namespace()));
    label(&tenant, "team=red").await;
    apply(&tenant, &lease("b", named.clone())).await;
    tenant.wait_for("lease/b", "not admitted", not_admitted).await;
    label(&tenant, "team=blue").await;
    for name in ["lease/a", "lease/b"] {
        tenant.wait_phase(name, "Active").await;
    }

    // Those that wait are not admitted any more, those that hold something keep it.
    apply(&tenant, &lease("c", named)).await;
    tenant.wait_for("lease/c", "in the queue", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
    label(&tenant, "team-").await;
    tenant.wait_for("lease/c", "not admitted", not_admitted).await;
    release(&tenant, "a").await;
    let left = bound_to(&tenant.wait_phase("lease/a", "Destroyed").await);
    owner.wait_for(&format!("resource/{left}"), "idle", |r| claimants(r).is_empty()).await;
    assert!(not_admitted(&tenant.get("lease/c").await));
    assert_eq!(tenant.get("lease/b").await.data["status"]["phase"], "Active");

    label(&tenant, "team=green").await;
    assert_eq!(bound_to(&tenant.wait_phase("lease/c", "Active").await), left);
    owner.history().caught_up().await;
    tenant.history().caught_up().await;
    tenant.history().never("it lost its host", |s| s.name == "b" && s.phase() == "Released");
}

#[tokio::test]
async fn the_namespace_of_the_blueprint_itself_must_match_too() {
    let (sandbox, _controller) = alone("selects-itself").await;
    let selector = json!({"matchLabels": {"team": "blue"}});
    apply(&sandbox, &hosts(1, json!({"allowedNamespaces": {"from": "Selector", "selector": selector}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_for("lease/a", "not admitted", |l| condition(l, "Acquired") == ("False", "NotAuthorized")).await;
    label(&sandbox, "team=blue").await;
    sandbox.wait_phase("lease/a", "Active").await;
    holds_throughout(&sandbox).await;
}
