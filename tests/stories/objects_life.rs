//! The life of an environment of Kubernetes objects: made in order, told to its lessee, removed in reverse order; what is a
//! lease's own comes and goes with it.

use crate::{
    objects::{
        alone, env, is_ours, lease, left, made, map, merged, on_record, release, removed, robot, without_controller,
    },
    support::condition,
    told::{apply, bound_to, holds_throughout, uid},
};
use serde_json::{Value, json};

/// A robot, and what it is told.
fn environment() -> Value {
    json!({
        "templates": [
            robot("${resource.metadata.name}"),
            merged(
                map("told-${resource.metadata.name}", json!({
                    "size": "${resource.spec.parameters.size}",
                    "region": "in ${blueprint.spec.attributes.region}",
                    "script": "echo $${HOME} ${'$'}{USER}",
                })),
                // A string that is one expression has its type.
                json!({"immutable": "${resource.spec.parameters.size == 'large'}"}),
            ),
        ],
        "leaseTemplates": [
            merged(map("of-${lease.metadata.name}", json!("${lease.spec.parameters}")), json!({
                "metadata": {"labels": {"who": "${lease.metadata.name}"}, "annotations": {"job": "${lease.metadata.uid}"}},
            })),
        ],
        "outputs": {
            "robot": "${resource.metadata.name}",
            "workers": "${resource.spec.parameters.size == 'large' ? 4 : 1}",
            "job": "${lease.metadata.name}",
            "mapOfJob": "${objects.filter(o, o.metadata.name.startsWith('of-'))[0].metadata.uid}",
        },
    })
}

#[tokio::test]
async fn objects_are_made_in_order_told_and_removed_in_reverse_order() {
    let (sandbox, _controller, things) = alone("objects-life").await;
    let more = json!({
        "attributes": {"region": "eu"},
        "resource": {"parameters": ["size"]},
        "lease": {"recycle": "Destroy"},
    });
    apply(&sandbox, &env(environment(), more)).await;
    apply(&sandbox, &lease("a", json!({"parameters": {"size": "large", "note": "free"}}))).await;

    let active = sandbox.wait_phase("lease/a", "Active").await;
    let resource = sandbox.get("resource/env--0").await;
    assert_eq!(bound_to(&active), "env--0");
    assert_eq!(condition(&active, "Ready"), ("True", "Active"));

    // What was made is what the templates say, typed and literal.
    let told = sandbox.get("configmap/told-env--0").await;
    assert_eq!(told.data["data"], json!({"size": "large", "region": "in eu", "script": "echo ${HOME} ${USER}"}));
    assert_eq!(told.data["immutable"], true);
    let own = sandbox.get("configmap/of-a").await;
    assert_eq!(own.data["data"], json!({"size": "large", "note": "free"}));
    assert_eq!(own.metadata.annotations.clone().unwrap()["job"], uid(&active));

    // Whose it is stands on each.
    let labels = |object: &kube::api::DynamicObject| json!(object.metadata.labels.clone().unwrap_or_default());
    let of_resource = json!({"drydock.dev/owner": uid(&resource), "drydock.dev/resource": uid(&resource)});
    assert_eq!(labels(&told), of_resource);
    assert_eq!(labels(&sandbox.get("serviceaccount/env--0").await), of_resource);
    let of_lease = json!({
        "who": "a",
        "drydock.dev/owner": uid(&active),
        "drydock.dev/resource": uid(&resource),
        "drydock.dev/attempt": "0",
    });
    assert_eq!(labels(&own), of_lease);

    // The record has them in order, with their UIDs.
    let recorded = |kind: &str, object: &kube::api::DynamicObject| {
        (kind.to_owned(), object.metadata.name.clone().unwrap(), Some(uid(object)))
    };
    let robot = sandbox.get("serviceaccount/env--0").await;
    assert_eq!(on_record(&resource), [recorded("ServiceAccount", &robot), recorded("ConfigMap", &told)]);
    assert_eq!(on_record(&active), [recorded("ConfigMap", &own)]);

    // What does not speak of the lease stands on the resource, too; the lease has it all.
    assert_eq!(resource.data["status"]["outputs"], json!({"robot": "env--0", "workers": "4"}));
    let outputs = json!({"robot": "env--0", "workers": "4", "job": "a", "mapOfJob": uid(&own)});
    assert_eq!(active.data["status"]["outputs"], outputs);

    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    let order = ["serviceaccount/env--0", "configmap/told-env--0", "configmap/of-a"];
    assert_eq!(made(&things), order);
    assert_eq!(removed(&things), [order[2], order[1], order[0]]);
    assert_eq!(left(&things), [""; 0]);

    // Each was on record before it was made, and seen gone before it was reported so.
    holds_throughout(&sandbox).await;
    let history = sandbox.history().all();
    let record = |seen: &&crate::support::Seen| on_record(&seen.object).len();
    let first = |kind: &str, n: usize| history.iter().find(|s| s.kind == kind && record(s) == n).unwrap().version;
    let thing = |name: &str| things.all().into_iter().find(|s| s.name == name && is_ours(s)).unwrap().version;
    assert!(first("resource", 2) < thing("env--0"));
    assert!(first("lease", 1) < thing("of-a"));
    let gone = |name: &str| things.all().into_iter().find(|s| s.name == name && is_ours(s) && s.gone).unwrap().version;
    let destroyed = |kind: &str| history.iter().find(|s| s.kind == kind && s.phase() == "Destroyed").unwrap().version;
    assert!(gone("of-a") < destroyed("lease"));
    assert!(gone("env--0") < destroyed("resource"));
}

/// One environment serves one lease after the other: what a lease had of its own is gone before the next one comes.
#[tokio::test]
async fn an_environment_is_used_again_and_a_leases_own_objects_are_not() {
    let (sandbox, _controller, things) = alone("objects-reuse").await;
    let more = json!({"attributes": {"region": "eu"}, "resource": {"parameters": ["size"]}});
    apply(&sandbox, &env(environment(), more)).await;
    let parameters = json!({"parameters": {"size": "small"}});
    apply(&sandbox, &lease("a", parameters.clone())).await;
    let first = sandbox.wait_phase("lease/a", "Active").await;
    apply(&sandbox, &lease("b", parameters)).await;
    sandbox.wait_for("lease/b", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
    release(&sandbox, "lease/a").await;
    let second = sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(first.data["status"]["resourceRef"], second.data["status"]["resourceRef"]);
    assert_eq!(second.data["status"]["outputs"]["job"], "b");

    things.caught_up().await;
    assert_eq!(made(&things), ["serviceaccount/env--0", "configmap/told-env--0", "configmap/of-a", "configmap/of-b"]);
    assert_eq!(removed(&things), ["configmap/of-a"]);
    let version =
        |name: &str, gone: bool| things.all().into_iter().find(|s| s.name == name && s.gone == gone).unwrap().version;
    assert!(version("of-a", true) < version("of-b", false));

    // The environment goes when it is released itself.
    release(&sandbox, "lease/b").await;
    sandbox.wait_phase("lease/b", "Destroyed").await;
    release(&sandbox, "resource/env--0").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

/// What needs nothing of its own needs no phase in between.
#[tokio::test]
async fn a_lease_without_objects_of_its_own_is_served_in_one_write() {
    let (sandbox, _things) = without_controller("objects-no-lease-objects").await;
    let _controller = sandbox.controller().await;
    let objects = json!({"templates": [map("${resource.metadata.name}", json!({}))], "outputs": {"map": "${resource.metadata.name}"}});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["outputs"], json!({"map": "env--0"}));
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.history().caught_up().await;
    // Nothing has to happen outside between its phases: they are gone along in one write.
    let phases = sandbox.history().phases("lease/a");
    assert!(!phases.contains(&"Acquired".to_owned()) && !phases.contains(&"Released".to_owned()), "{phases:?}");
    holds_throughout(&sandbox).await;
}
