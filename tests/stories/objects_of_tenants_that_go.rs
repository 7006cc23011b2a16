//! Leases put objects into the namespaces of their tenants, by rights that the tenants give; and a tenant may go, with its
//! namespace, or with a lease whose finalizer somebody has taken off.

use crate::{
    objects::{ALL, allowed, env, lease, map, merged, rights_elsewhere, until, within, without_controller},
    people::Person,
    support::{Identity, Sandbox, condition, phase},
    told::{apply, holds_throughout, message},
};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

/// Until a step that has failed a few times is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A Blueprint whose leases get a ConfigMap in their own namespaces.
fn blueprint() -> String {
    let own = merged(map("access", json!({})), json!({"metadata": {"namespace": "${lease.metadata.namespace}"}}));
    let objects = json!({"templates": [map("${resource.metadata.name}", json!({}))], "leaseTemplates": [own]});
    env(objects, json!({"allowedNamespaces": {"from": "All"}}))
}

fn lease_of(sandbox: &Sandbox<'_>, name: &str) -> String {
    lease(name, json!({"blueprints": [{"namespace": sandbox.namespace(), "name": "env"}]}))
}

/// The tenant lets the account do this with ConfigMaps in its namespace; returns when that is so.
async fn lets(tenant: &Sandbox<'_>, sandbox: &Sandbox<'_>, verbs: &[&str]) {
    for (_, mut object) in rights_elsewhere(sandbox, &["configmaps"]) {
        if object["kind"] == "Role" {
            let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs});
            object["rules"] = if verbs.is_empty() { json!([]) } else { json!([rule]) };
        }
        tenant.apply(Identity::Admin, &object.to_string()).await;
    }
    for verb in ALL {
        allowed(sandbox, tenant.namespace(), "configmaps", verb, verbs.contains(&verb)).await;
    }
}

/// The namespace's deletion takes the account's rights there first.
#[tokio::test]
async fn a_namespace_with_a_lease_in_it_can_be_deleted() {
    let (sandbox, _things) = without_controller("tenants-deleted").await;
    let tenant = Sandbox::new("tenants-deleted-one").await;
    let _controller = sandbox.controller_for(&[&tenant], &[]).await;
    lets(&tenant, &sandbox, &ALL).await;
    apply(&sandbox, &blueprint()).await;
    apply(&tenant, &lease_of(&sandbox, "a")).await;
    tenant.wait_phase("lease/a", "Active").await;
    // They are gone before the lease is looked at, whoever is faster.
    lets(&tenant, &sandbox, &[]).await;
    let namespaces = crate::objects::cluster(&sandbox, "namespace").await;
    namespaces.delete(tenant.namespace(), &Default::default()).await.unwrap();
    until(&namespaces, tenant.namespace(), "gone", |found| found.is_none()).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
    holds_throughout(&sandbox).await;
}

/// A namespace that stays: what the account may not remove there is not gone.
#[tokio::test]
async fn in_a_namespace_that_stays_a_refusal_is_no_end() {
    let (sandbox, _things) = without_controller("tenants-stay").await;
    let tenant = Sandbox::new("tenants-stay-one").await;
    let _controller = sandbox.controller_for(&[&tenant], &[]).await;
    lets(&tenant, &sandbox, &ALL).await;
    apply(&sandbox, &blueprint()).await;
    apply(&tenant, &lease_of(&sandbox, "a")).await;
    tenant.wait_phase("lease/a", "Active").await;
    lets(&tenant, &sandbox, &[]).await;
    tenant.delete(Identity::Admin, "lease/a").await;
    let fails = |l: &DynamicObject| message(l, "TornDown").contains("cannot be removed");
    let told = tenant.wait_for("lease/a", "told", fails).await;
    assert_eq!((phase(&told), condition(&told, "TornDown").1), ("Released", "TeardownFailed"));
    lets(&tenant, &sandbox, &ALL).await;
    crate::objects::gone_within(&tenant, AGAIN, "lease/a").await;
    let maps = within(&sandbox, Identity::Admin, tenant.namespace(), "configmap").await;
    assert!(maps.get_opt("access").await.unwrap().is_none());
}

/// What a lease had is looked for where the lease was, though its record is gone with it; and not being allowed to look there is
/// told, and is no end.
#[tokio::test]
async fn what_a_vanished_lease_had_in_its_own_namespace_is_removed() {
    let (sandbox, _things) = without_controller("tenants-vanish").await;
    let tenant = Sandbox::new("tenants-vanish-one").await;
    let mut controller = sandbox.controller_for(&[&tenant], &[]).await;
    lets(&tenant, &sandbox, &ALL).await;
    apply(&sandbox, &blueprint()).await;
    apply(&tenant, &lease_of(&sandbox, "a")).await;
    tenant.wait_phase("lease/a", "Active").await;

    controller.kill9().await;
    lets(&tenant, &sandbox, &["create", "get", "delete"]).await;
    let rita = Person::of_groups(&tenant, "rita", &["drydock:break-glass", "system:masters"]).await;
    rita.api("lease").delete("a", &Default::default()).await.unwrap();
    let off: Value = json!({"metadata": {"finalizers": null}});
    rita.api("lease").patch("a", &PatchParams::default(), &Patch::Merge(off)).await.unwrap();
    tenant.wait_gone("lease/a").await;
    controller.restart().await;
    let maps = within(&sandbox, Identity::Admin, tenant.namespace(), "configmap").await;
    let words = format!(
        "whether there is a ConfigMap left in the namespace {} cannot be seen: let the service account list them there",
        tenant.namespace()
    );
    let told = |r: &DynamicObject| r.data["status"]["failure"].to_string().contains(&words);
    let held = sandbox.wait_for("resource/env--0", "told", told).await;
    assert_eq!(held.data["status"]["claims"].as_array().map(Vec::len), Some(1), "its claim stays");
    assert!(maps.get_opt("access").await.unwrap().is_some());

    lets(&tenant, &sandbox, &ALL).await;
    let free = |r: &DynamicObject| r.data["status"]["claims"].as_array().is_none_or(Vec::is_empty);
    sandbox.wait_within(AGAIN, "resource/env--0", "free", free).await;
    assert!(maps.get_opt("access").await.unwrap().is_none());
}
