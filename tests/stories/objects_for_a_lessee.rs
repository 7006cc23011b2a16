//! `examples/objects`: a namespace for each lease, in which those may work whom the lease names, for as long as it lasts.

use crate::{
    objects::{cluster, in_cluster, release, until, within},
    support::{Identity, Sandbox, documents, leash::repository},
    told::{alone, holds_throughout},
};
use kube::{
    Api,
    api::{DynamicObject, ListParams, PostParams},
};
use serde_json::json;
use std::fs;

/// A file of the examples, for the sandbox's namespace instead of `ci`.
fn example(sandbox: &Sandbox<'_>, file: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(repository("examples/objects").join(file)).unwrap();
    let text = text.replace("namespace: ci", &format!("namespace: {}", sandbox.namespace()));
    documents(&text).into_iter().filter(|d| d["kind"] != "Namespace").collect()
}

async fn install(sandbox: &Sandbox<'_>) {
    let account = example(sandbox, "account.yaml");
    for object in account {
        if object["kind"].as_str().unwrap().starts_with("Cluster") {
            // Another sandbox's are not this one's.
            let name = sandbox.namespace();
            let mut own = object;
            own["metadata"]["name"] = json!(name);
            if let Some(role) = own.pointer_mut("/roleRef/name") {
                *role = json!(name);
            }
            in_cluster(sandbox, &own).await;
        } else {
            sandbox.apply(Identity::Admin, &object.to_string()).await;
        }
    }
    for file in ["namespaces.yaml", "service-accounts.yaml", "warm-namespaces.yaml"] {
        for mut object in example(sandbox, file) {
            // Namespaces are everybody's: two sandboxes must not make the same.
            let templates = object["spec"]["driver"]["objects"].to_string();
            let own = templates.replace("\"env-$", &format!("\"{}-$", sandbox.namespace()));
            let own = own.replace("\"warm-$", &format!("\"warm-{}-$", sandbox.namespace()));
            object["spec"]["driver"]["objects"] = serde_json::from_str(&own).unwrap();
            sandbox.apply(Identity::Admin, &object.to_string()).await;
        }
    }
}

/// Whether somebody may make a ConfigMap there.
async fn works_in(api: &Api<DynamicObject>, name: &str) -> bool {
    let object = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
    }));
    match api.create(&PostParams::default(), &object.unwrap()).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 403 || status.code == 404 => false,
        Err(error) => panic!("making a ConfigMap: {error}"),
    }
}

#[tokio::test]
async fn a_lessee_works_in_its_namespace_while_it_is_leased_and_not_after() {
    let (sandbox, _controller) = alone("objects-examples").await;
    install(&sandbox).await;
    for lease in example(&sandbox, "leases.yaml") {
        sandbox.apply(Identity::Admin, &lease.to_string()).await;
    }
    let own = sandbox.wait_phase("lease/job-1", "Active").await;
    let warm = sandbox.wait_phase("lease/smoke-test", "Active").await;
    let robot = sandbox.wait_phase("lease/robot-1", "Active").await;
    let namespace = |lease: &DynamicObject| lease.data["status"]["outputs"]["namespace"].as_str().unwrap().to_owned();
    let (own, warm) = (namespace(&own), namespace(&warm));
    assert_eq!(robot.data["status"]["outputs"], json!({"serviceAccount": "robots--0", "workers": "4"}));
    assert_eq!(sandbox.get("configmap/robots--0").await.data["data"], json!({"size": "large", "region": "eu"}));

    // In the one she may edit, in the other look; in no other namespace either.
    let of_alice = within(&sandbox, Identity::Alice, &own, "configmap").await;
    let of_bob = within(&sandbox, Identity::Bob, &own, "configmap").await;
    let warm_of_alice = within(&sandbox, Identity::Alice, &warm, "configmap").await;
    // The authorizer learns of a new binding from a watch.
    while !works_in(&of_alice, "alices").await {
        tokio::task::yield_now().await;
    }
    while warm_of_alice.list(&ListParams::default()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(!works_in(&of_bob, "bobs").await);
    assert!(!works_in(&warm_of_alice, "alices").await);
    assert!(!works_in(&sandbox.api(Identity::Alice, "configmap").await, "alices").await);

    // A warm namespace stays, and what its lessee was given goes.
    release(&sandbox, "lease/smoke-test").await;
    sandbox.wait_phase("lease/smoke-test", "Destroyed").await;
    while warm_of_alice.list(&ListParams::default()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let namespaces = cluster(&sandbox, "namespace").await;
    assert!(namespaces.get(&warm).await.unwrap().metadata.deletion_timestamp.is_none());

    // The other one is used once, and goes with all that is in it.
    release(&sandbox, "lease/job-1").await;
    sandbox.wait_phase("lease/job-1", "Destroyed").await;
    while works_in(&of_alice, "more").await {
        tokio::task::yield_now().await;
    }
    until(&namespaces, &own, "gone", |namespace| namespace.is_none()).await;
    sandbox.wait_gone("resource/ci-namespaces--0").await;
    holds_throughout(&sandbox).await;
}
