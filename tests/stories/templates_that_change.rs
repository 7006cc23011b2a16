//! Where what resources are built from has changed, those that nobody holds are replaced: one at a time, the oldest first.

use crate::{
    effects::{self, Mood::*, true_to},
    support::{Identity, Sandbox, phase, sandbox::condition},
    told::{apply, bound_to, claimants, command, lease, status, uid, was},
};
use drydock::api::step::StepKind::*;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A pool is built from something else from now on.
async fn change(sandbox: &Sandbox<'_>) {
    let url = json!({"clientConfig": {"url": "https://driver.example/next"}});
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"driver": {"webhook": url}}})).await;
}

fn is_new(resource: &DynamicObject) -> bool {
    resource.data["spec"]["templateHash"] == "driver.example/next"
}

fn is_idle(resource: &DynamicObject) -> bool {
    phase(resource) == "Active" && claimants(resource).is_empty()
}

async fn idle(sandbox: &Sandbox<'_>, count: i64) {
    let counted = |b: &DynamicObject| b.data["status"]["resources"]["idle"].as_i64() == Some(count);
    sandbox.wait_for("blueprint/pool", &format!("telling that {count} are idle"), counted).await;
}

/// In the order in which they were given up, by name; at no time is one given up while another is, or while one is built.
fn replaced(sandbox: &Sandbox<'_>) -> Vec<String> {
    let mut now: BTreeMap<String, String> = BTreeMap::new();
    let mut order = Vec::new();
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        let outdated = condition(&seen.object, "Released") == ("True", "Outdated");
        if outdated && now.get(&seen.uid).map(String::as_str) == Some("Active") {
            let busy: Vec<_> = now.iter().filter(|(uid, phase)| **uid != seen.uid && *phase != "Active").collect();
            assert!(busy.is_empty(), "{seen:?} is given up beside {busy:?}");
            order.push(seen.name.clone());
        }
        match seen.gone {
            true => now.remove(&seen.uid),
            false => now.insert(seen.uid.clone(), seen.phase().to_owned()),
        };
    }
    order
}

#[tokio::test]
async fn what_is_idle_is_replaced_one_at_a_time_and_what_is_leased_when_its_lease_has_ended() {
    let (sandbox, world, _controller) = effects::alone("template-changes").await;
    world.will(TearDownResource, [Takes(100)]);
    world.will(Build, [Takes(100)]);
    apply(&sandbox, &effects::pool(4, json!({"limits": {"minReady": 3}}))).await;
    idle(&sandbox, 3).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    let held = bound_to(&active);
    idle(&sandbox, 3).await;
    let mut by_age = sandbox.list("resource").await;
    by_age.retain(|r| r.name_any() != held);
    by_age.sort_by_key(|r| (r.metadata.creation_timestamp.as_ref().map(|t| t.0), r.name_any()));
    let by_age: Vec<String> = by_age.iter().map(ResourceExt::name_any).collect();

    change(&sandbox).await;
    for name in &by_age {
        sandbox.wait_for(&format!("resource/{name}"), "replaced", |r| is_new(r) && is_idle(r)).await;
    }
    sandbox.history().caught_up().await;
    assert_eq!(replaced(&sandbox), by_age);
    assert!(!is_new(&sandbox.get(&format!("resource/{held}")).await), "what is leased stays as it is");

    // It is not handed on: whoever waits has a new one.
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    was(&sandbox, &format!("resource/{held}"), "given up", |r| condition(r, "Released") == ("True", "Outdated")).await;
    sandbox.wait_gone(&format!("resource/{held}")).await;
    idle(&sandbox, 3).await;
    assert_eq!(replaced(&sandbox).len(), 4);
    let all: Vec<Value> = sandbox.list("resource").await.into_iter().map(|r| json!(is_new(&r))).collect();
    assert_eq!(all, [true, true, true]);
    true_to(&sandbox, &world).await;
}

/// A change for the worse costs one of them: the others wait for their turn, and serve.
#[tokio::test]
async fn a_template_that_cannot_be_built_takes_one_and_leaves_the_others() {
    let (sandbox, world, _controller) = effects::alone("template-worse").await;
    apply(&sandbox, &effects::pool(3, json!({"limits": {"minReady": 3}}))).await;
    idle(&sandbox, 3).await;
    world.will(Build, [FailsForGood("no such image")]);
    change(&sandbox).await;
    let failing = |b: &DynamicObject| condition(b, "Ready") == ("False", "BuildFailing");
    let failing = sandbox.wait_for("blueprint/pool", "failing", failing).await;
    assert!(!status(&failing, "nextBuildAt").is_empty());
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert!(!is_new(&sandbox.get(&format!("resource/{}", bound_to(&active))).await));
    sandbox.history().caught_up().await;
    assert_eq!(replaced(&sandbox).len(), 1);
    // Once it can be built it goes on by itself.
    world.will(Build, [Works]);
    let first = uid(&sandbox.get(&format!("resource/{}", bound_to(&active))).await);
    let left: Vec<String> =
        ["pool--0", "pool--1", "pool--2"].into_iter().filter(|n| *n != bound_to(&active)).map(str::to_owned).collect();
    for name in left {
        sandbox.wait_for(&format!("resource/{name}"), "replaced", |r| is_new(r) && is_idle(r)).await;
    }
    assert_eq!(uid(&sandbox.get(&format!("resource/{}", bound_to(&active))).await), first, "it is leased");
    true_to(&sandbox, &world).await;
}
