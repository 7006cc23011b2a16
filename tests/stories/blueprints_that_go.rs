//! A deleted Blueprint is drained: what is idle goes at once, what is leased when its leases end. A namesake that comes
//! meanwhile inherits nothing.

use crate::{
    on_time::first,
    support::{Identity, Sandbox, sandbox::condition},
    told::{alone, apply, bound_to, claimants, command, holds_throughout, hosts, lease, message},
};
use kube::{
    ResourceExt as _,
    api::{DynamicObject, PostParams},
};
use serde_json::json;

async fn release(sandbox: &Sandbox<'_>, name: &str) {
    command(sandbox, &format!("lease/{name}"), json!({"id": "over", "type": "Release"})).await;
}

/// How the last version of a resource says that it ended.
fn ended(sandbox: &Sandbox<'_>, object: &str, uid: &str) -> String {
    let versions = sandbox.history().of(object);
    let last = versions.iter().rfind(|seen| seen.uid == uid).expect("it was there");
    assert!(last.gone, "{last:?} is still there");
    condition(&last.object, "Released").1.to_owned()
}

#[tokio::test]
async fn a_deleted_blueprint_is_drained_as_its_leases_end_however_it_was_deleted() {
    for cascade in ["background", "foreground"] {
        let (sandbox, _controller) = alone(&format!("drain-{cascade}")).await;
        apply(&sandbox, &hosts(2, json!({}))).await;
        for name in ["stays", "goes"] {
            apply(&sandbox, &lease(name, json!({}))).await;
            sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        }
        release(&sandbox, "goes").await;
        let idle = sandbox.wait_for("resource/pool--h2", "idle", |r| claimants(r).is_empty()).await.uid().unwrap();
        let leased = sandbox.get("resource/pool--h1").await.uid().unwrap();

        let cascade = format!("--cascade={cascade}");
        let delete = ["delete", "blueprint", "pool", "--wait=false", &cascade, "-n", sandbox.namespace()];
        sandbox.plane().run_kubectl(Identity::Admin, &delete).await.expect("it is deleted");
        sandbox.wait_gone("resource/pool--h2").await;
        let drains =
            sandbox.wait_for("blueprint/pool", "draining", |b| condition(b, "Ready") == ("False", "Draining")).await;
        assert!(message(&drains, "Ready").contains("drained as its leases end"), "{drains:?}");

        // What comes now waits, and says for what.
        apply(&sandbox, &lease("late", json!({}))).await;
        sandbox.wait_for("lease/late", "told", |l| condition(l, "Acquired") == ("False", "Draining")).await;
        assert_eq!(sandbox.get("lease/stays").await.data["status"]["phase"], "Active");
        assert_eq!(claimants(&sandbox.get("resource/pool--h1").await), ["stays"]);

        release(&sandbox, "stays").await;
        sandbox.wait_gone("resource/pool--h1").await;
        sandbox.wait_gone("blueprint/pool").await;
        sandbox.wait_for("lease/late", "told", |l| condition(l, "Acquired") == ("False", "NoMatchingBlueprint")).await;
        holds_throughout(&sandbox).await;
        for (name, uid) in [("pool--h1", leased), ("pool--h2", idle)] {
            assert_eq!(ended(&sandbox, &format!("resource/{name}"), &uid), "BlueprintDeleted");
        }
        let over = sandbox.get("lease/stays").await;
        assert_eq!(condition(&over, "Released"), ("True", "Released"), "it ended when it was released");

        // One of the same name is another one.
        apply(&sandbox, &hosts(1, json!({}))).await;
        assert_eq!(bound_to(&sandbox.wait_phase("lease/late", "Active").await), "pool--h1");
    }
}

#[tokio::test]
async fn a_blueprint_without_resources_goes_at_once() {
    let (sandbox, _controller) = alone("drain-nothing").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    sandbox.wait_for("blueprint/pool", "ready", |b| condition(b, "Ready") == ("True", "Ready")).await;
    sandbox.delete(Identity::Admin, "blueprint/pool").await;
    sandbox.wait_gone("blueprint/pool").await;
}

/// A predecessor that has lost its finalizer by force goes before its resources do.
#[tokio::test]
async fn a_name_that_a_predecessor_still_holds_is_passed_over_and_told_and_served_later() {
    let (sandbox, _controller) = alone("name-taken").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("old", json!({}))).await;
    sandbox.wait_phase("lease/old", "Active").await;
    let before = sandbox.get("resource/pool--h1").await.uid().unwrap();
    sandbox.delete(Identity::Admin, "blueprint/pool").await;
    // Nobody else may: the policies see to it.
    let force = json!({"metadata": {"finalizers": null}});
    sandbox.patch(Identity::Controller, "blueprint/pool", force).await;
    sandbox.wait_gone("blueprint/pool").await;

    apply(&sandbox, &hosts(2, json!({}))).await;
    let told = sandbox
        .wait_for("blueprint/pool", "told whose name is taken", |b| condition(b, "Ready") == ("False", "NameTaken"))
        .await;
    assert!(message(&told, "Ready").ends_with(": h1"), "{}", message(&told, "Ready"));
    for name in ["first", "second"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    assert_eq!(bound_to(&sandbox.wait_phase("lease/first", "Active").await), "pool--h2", "the slot is passed over");
    let second =
        sandbox.wait_for("lease/second", "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity")).await;
    let why = message(&second, "Acquired");
    assert!(why.contains("cannot build pool--h1, for a Resource of another Blueprint has that name"), "{why}");
    let resource = sandbox.get("resource/pool--h1").await;
    assert_eq!((resource.uid().unwrap(), claimants(&resource)), (before.clone(), vec!["old".to_owned()]));

    release(&sandbox, "old").await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/second", "Active").await), "pool--h1");
    sandbox.wait_for("blueprint/pool", "ready", |b| condition(b, "Ready") == ("True", "Ready")).await;
    holds_throughout(&sandbox).await;
    assert_eq!(ended(&sandbox, "resource/pool--h1", &before), "BlueprintDeleted");
    sandbox
        .history()
        .never("adopted", |s| s.uid == before && !matches!(&claimants(&s.object)[..], [] | [_]) || took(s, &before));
}

/// Whether the predecessor's resource was granted to somebody who came later.
fn took(seen: &crate::support::Seen, uid: &str) -> bool {
    seen.uid == uid && claimants(&seen.object).iter().any(|name| name != "old")
}

#[tokio::test]
async fn a_resource_made_by_hand_is_never_adopted() {
    let (sandbox, _controller) = alone("by-hand").await;
    let by_hand = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Resource", "metadata": {"name": "pool--h1"},
        "spec": {"resourceType": "host", "blueprintRef": {"name": "pool", "uid": "00000000-0000-0000-0000-000000000000"}},
    });
    // By one who may: the policies let nobody but the controller make one.
    let resources = sandbox.api(Identity::Controller, "resource").await;
    let made: DynamicObject = serde_json::from_value(by_hand).unwrap();
    let made = resources.create(&PostParams::default(), &made).await.expect("it is made").uid().unwrap();
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], made.as_str());
    holds_throughout(&sandbox).await;
    let first = first(&sandbox, "resource/pool--h1", "there", |_| true);
    assert_eq!(first.uid, made);
    sandbox.history().never("adopted", |s| s.uid == made && !claimants(&s.object).is_empty());
}
