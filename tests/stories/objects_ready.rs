//! `readyWhen`: an environment is not given to anybody before it is ready; why not is told; and it does not wait for ever.

use crate::{
    objects::{alone, env, lease, left, made, map, noted, release},
    support::{Identity, condition, phase},
    told::{apply, holds_throughout, message, was, was_in},
};
use kube::api::DynamicObject;
use serde_json::json;

/// Ready when its maps say so: that of the resource, and that of the lease.
fn asks() -> serde_json::Value {
    json!({
        "templates": [map("${resource.metadata.name}", json!({"ready": "no"}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({"ready": "no"}))],
        "readyWhen": "objects.all(o, o.data.ready == 'yes')",
        "outputs": {"ready": "${objects.map(o, o.data.ready)[0]}"},
    })
}

fn building(words: &'static str) -> impl Fn(&DynamicObject) -> bool {
    move |r| condition(r, "Ready") == ("False", "Building") && message(r, "Ready").contains(words)
}

fn activating(words: &'static str) -> impl Fn(&DynamicObject) -> bool {
    move |l| condition(l, "Ready") == ("False", "Activating") && message(l, "Ready").contains(words)
}

#[tokio::test]
async fn what_is_not_ready_is_told_and_given_when_it_is() {
    let (sandbox, _controller, things) = alone("objects-ready").await;
    apply(&sandbox, &env(asks(), json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let resource = sandbox.wait_for("resource/env--0", "building", building("readyWhen is false")).await;
    assert_eq!(phase(&resource), "Pending");
    let waits = |l: &DynamicObject| condition(l, "Acquired") == ("False", "Building");
    sandbox.wait_for("lease/a", "waiting for a build", waits).await;

    let yes = || json!({"data": {"ready": "yes"}});
    sandbox.patch(Identity::Admin, "configmap/env--0", yes()).await;
    sandbox.wait_phase("resource/env--0", "Active").await;
    sandbox.wait_for("lease/a", "activating", activating("readyWhen is false")).await;
    assert_eq!(phase(&sandbox.get("lease/a").await), "Acquired");
    sandbox.patch(Identity::Admin, "configmap/of-a", yes()).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["outputs"], json!({"ready": "yes"}));
    assert_eq!((condition(&active, "Ready"), message(&active, "Ready")), (("True", "Active"), ""));

    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    release(&sandbox, "resource/env--0").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn what_does_not_become_ready_in_time_is_broken_and_removed() {
    let (sandbox, _controller, things) = alone("objects-late").await;
    apply(&sandbox, &env(asks(), json!({"resource": {"buildTimeout": "2s"}, "lease": {"activationTimeout": "2s"}})))
        .await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let broken = was_in(&sandbox, "resource/env--0", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "BuildTimeout"));
    let longer = json!({"spec": {"resource": {"buildTimeout": "5m"}}});
    sandbox.patch(Identity::Admin, "blueprint/env", longer).await;
    was_in(&sandbox, "resource/env--0", "Destroyed").await;
    things.wait_for("the first map to go", |s| s.name == "env--0" && s.gone).await;
    assert_eq!(phase(&sandbox.get("lease/a").await), "Pending");

    // The next one is built in time; the lease's own is not.
    let first = broken.metadata.uid.clone();
    let next = |r: &DynamicObject| r.metadata.uid != first && building("readyWhen is false")(r);
    was(&sandbox, "resource/env--0", "another that is built", next).await;
    sandbox.patch(Identity::Admin, "configmap/env--0", json!({"data": {"ready": "yes"}})).await;
    let broken = was_in(&sandbox, "lease/a", "Broken").await;
    assert_eq!(condition(&broken, "Released"), ("True", "ActivationTimeout"));
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "TornDown"), ("True", "TornDown"));
    things.wait_for("its map to go", |s| s.name == "of-a" && s.gone).await;
    release(&sandbox, "resource/env--0").await;
    sandbox.wait_gone("resource/env--0").await;
    things.caught_up().await;
    assert_eq!(left(&things), [""; 0]);
    holds_throughout(&sandbox).await;
}

/// An error means: not ready.
#[tokio::test]
async fn an_error_in_the_question_is_told_and_is_no_yes() {
    let (sandbox, _controller, things) = alone("objects-error").await;
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({}))],
        "readyWhen": "objects.all(o, o.data.ready == 'yes')",
    });
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let told = sandbox.wait_for("resource/env--0", "told", building("readyWhen: ")).await;
    assert!(message(&told, "Ready").contains("ready"), "it names what is missing: {}", message(&told, "Ready"));
    // It is no failure of the build: when the field is there, the answer is.
    sandbox.patch(Identity::Admin, "configmap/env--0", json!({"data": {"ready": "yes"}})).await;
    sandbox.wait_phase("lease/a", "Active").await;

    // What is neither yes nor no is not yes either.
    let changed = json!({"spec": {"driver": {"objects": {"readyWhen": "objects[0].data.ready"}}}});
    sandbox.patch(Identity::Admin, "blueprint/env", changed).await;
    let lost = |o: &DynamicObject| condition(o, "Ready") == ("False", "ObjectLost");
    sandbox.wait_for("lease/a", "told of it", lost).await;
    noted(&sandbox, "a", "ObjectLost", "neither true nor false").await;
    things.caught_up().await;
    assert_eq!(made(&things), ["configmap/env--0"]);
    holds_throughout(&sandbox).await;
}

/// A question that is wrong holds up what is under way, and breaks nothing: an edit is taken up at once.
#[tokio::test]
async fn an_edit_of_the_question_is_taken_up_by_what_is_under_way() {
    let (sandbox, _controller, things) = alone("objects-edit").await;
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({"ready": "no"}))],
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({"ready": "no"}))],
        "readyWhen": "objects.all(o, o.data.ready == 'yes')",
    });
    let question = |text: &str| json!({"spec": {"driver": {"objects": {"readyWhen": text}}}});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let built = sandbox.wait_for("resource/env--0", "building", building("readyWhen is false")).await;
    sandbox.patch(Identity::Admin, "blueprint/env", question("objects.")).await;
    let wrong = "spec.driver.objects.readyWhen: the expression is not CEL";
    sandbox.wait_for("resource/env--0", "told of what is wrong", building(wrong)).await;
    sandbox.patch(Identity::Admin, "blueprint/env", question("objects.exists(o, o.data.ready == 'no')")).await;
    let active = sandbox.wait_phase("resource/env--0", "Active").await;
    assert_eq!(active.metadata.uid, built.metadata.uid);

    sandbox.wait_phase("lease/a", "Active").await;
    release(&sandbox, "lease/a").await;
    sandbox.patch(Identity::Admin, "blueprint/env", question("objects.all(o, o.metadata.name != 'of-b')")).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "activating", activating("readyWhen is false")).await;
    sandbox.patch(Identity::Admin, "blueprint/env", question("objects.")).await;
    sandbox.wait_for("lease/b", "told of what is wrong", activating(wrong)).await;
    sandbox.patch(Identity::Admin, "blueprint/env", question("size(objects) == 2")).await;
    let limit = std::time::Duration::from_secs(5);
    sandbox.wait_within(limit, "lease/b", "active at once", |l| phase(l) == "Active").await;
    things.caught_up().await;
    assert_eq!(made(&things), ["configmap/env--0", "configmap/of-a", "configmap/of-b"], "nothing is made again");
    holds_throughout(&sandbox).await;
}

/// Outputs see the objects as they are, whether anything is asked of those or not.
#[tokio::test]
async fn outputs_see_the_objects_where_nothing_is_asked_of_them() {
    let (sandbox, _controller, _things) = alone("objects-unasked").await;
    let objects = json!({
        "templates": [map("${resource.metadata.name}", json!({"port": "80"}))],
        "outputs": {
            "port": "${objects[0].data.port}",
            "of": "${lease.metadata.name} on ${objects.map(o, o.metadata.name)[0]}",
        },
    });
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["outputs"], json!({"port": "80", "of": "a on env--0"}));

    let own = json!({
        "leaseTemplates": [map("of-${lease.metadata.name}", json!({}))],
        "outputs": {"of": null, "port": "${objects.map(o, o.metadata.name + string(has(o.data)))[0]}", "all": "${size(objects)}"},
    });
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.patch(Identity::Admin, "blueprint/env", json!({"spec": {"driver": {"objects": own}}})).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(active.data["status"]["outputs"], json!({"port": "env--0true", "all": "2"}));
    holds_throughout(&sandbox).await;
}
