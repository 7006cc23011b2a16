//! Kinds that come late, that are served in another version by now, or no more; and namespaces that somebody has deleted
//! with all that was in them.

use crate::{
    objects::{ALL, BUILDER, alone, cluster, env, in_cluster, lease, namespace, release, until, within},
    support::{Identity, Sandbox, condition, phase},
    told::{apply, holds_throughout, message},
};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// Until a step that has failed a few times is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A kind of the name in a group, in two versions.
fn definition(group: &str, old_is_served: bool) -> Value {
    definition_of(group, old_is_served, true)
}

fn definition_of(group: &str, old_is_served: bool, new_is_served: bool) -> Value {
    let version = |name: &str, served: bool, storage: bool| {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        json!({"name": name, "served": served, "storage": storage, "schema": schema})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"},
            "versions": [version("v1alpha1", old_is_served, false), version("v1", new_is_served, true)],
        },
    })
}

async fn widgets(sandbox: &Sandbox<'_>, group: &str, version: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, "Widget"));
    Api::namespaced_with(sandbox.client(Identity::Admin).await, sandbox.namespace(), &resource)
}

async fn may_make_widgets(sandbox: &Sandbox<'_>, group: &str) {
    may_make(sandbox, group, "widgets").await;
}

async fn may_make(sandbox: &Sandbox<'_>, group: &str, resource: &str) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": resource},
        "rules": [{"apiGroups": [group], "resources": [resource], "verbs": ALL}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": resource},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": resource},
        "subjects": [{"kind": "ServiceAccount", "name": BUILDER, "namespace": sandbox.namespace()}],
    });
    for object in [role, binding] {
        sandbox.apply(Identity::Admin, &object.to_string()).await;
    }
}

fn of_widgets(group: &str) -> String {
    let widget = json!({
        "apiVersion": format!("{group}/v1alpha1"), "kind": "Widget", "metadata": {"name": "${resource.metadata.name}"},
        "spec": {"size": "${1 + 1}"},
    });
    env(json!({"templates": [widget]}), json!({"lease": {"recycle": "Destroy"}}))
}

#[tokio::test]
async fn what_was_made_in_a_version_that_is_served_no_more_is_removed_all_the_same() {
    let (sandbox, _controller, _things) = alone("objects-versions").await;
    let group = "versions.example.org";
    may_make_widgets(&sandbox, group).await;
    apply(&sandbox, &of_widgets(group)).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    // A kind that is not there yet is waited for.
    let unknown = |r: &DynamicObject| message(r, "Ready").contains("no kind Widget in versions.example.org/v1alpha1");
    sandbox.wait_for("resource/env--0", "told", unknown).await;
    in_cluster(&sandbox, &definition(group, true)).await;
    sandbox.wait_within(AGAIN, "lease/a", "active", |l| phase(l) == "Active").await;
    let (old, new) = (widgets(&sandbox, group, "v1alpha1").await, widgets(&sandbox, group, "v1").await);
    let made = new.get("env--0").await.unwrap();
    assert_eq!(made.data["spec"], json!({"size": 2}));

    let api = cluster(&sandbox, "customresourcedefinition").await;
    let patch = PatchParams::apply(Identity::Admin.name()).force();
    api.patch(&format!("widgets.{group}"), &patch, &Patch::Apply(definition(group, false))).await.unwrap();
    while old.get("env--0").await.is_ok() {
        tokio::task::yield_now().await;
    }
    // So that nothing but its removal can end it.
    let finalizer = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    new.patch("env--0", &PatchParams::default(), &finalizer(json!(["example.org/backup"]))).await.unwrap();
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let held = |r: &DynamicObject| message(r, "TornDown").contains("example.org/backup");
    let held = sandbox.wait_for("resource/env--0", "held", held).await;
    assert_eq!(phase(&held), "Released");
    new.patch("env--0", &PatchParams::default(), &finalizer(json!([]))).await.unwrap();
    until(&new, "env--0", "gone", |found| found.is_none()).await;
    sandbox.wait_gone("resource/env--0").await;
    // That its version was gone was no loss.
    sandbox.history().never("a loss", |s| condition(&s.object, "Ready").1 == "ObjectLost" || s.phase() == "Broken");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn what_was_of_a_kind_that_is_gone_is_gone() {
    let (sandbox, _controller, _things) = alone("objects-kinds").await;
    let group = "kinds.example.org";
    may_make_widgets(&sandbox, group).await;
    in_cluster(&sandbox, &definition(group, true)).await;
    apply(&sandbox, &of_widgets(group)).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_within(AGAIN, "lease/a", "active", |l| phase(l) == "Active").await;
    let definitions = cluster(&sandbox, "customresourcedefinition").await;
    let name = format!("widgets.{group}");
    definitions.delete(&name, &DeleteParams::default()).await.unwrap();
    until(&definitions, &name, "gone", |found| found.is_none()).await;
    let lost = |o: &DynamicObject| condition(o, "Ready") == ("False", "ObjectLost");
    sandbox.wait_for("lease/a", "told of it", lost).await;
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    holds_throughout(&sandbox).await;
}

/// Nor for the moment in which it is defined anew: its objects are there all the while.
#[tokio::test]
async fn what_is_of_a_kind_that_is_not_served_for_a_while_is_not_gone() {
    let (sandbox, _controller, _things) = alone("objects-unserved").await;
    let group = "unserved.example.org";
    may_make_widgets(&sandbox, group).await;
    in_cluster(&sandbox, &definition(group, true)).await;
    apply(&sandbox, &of_widgets(group)).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_within(AGAIN, "lease/a", "active", |l| phase(l) == "Active").await;
    let new = widgets(&sandbox, group, "v1").await;
    let uid = new.get("env--0").await.unwrap().metadata.uid;

    let definitions = cluster(&sandbox, "customresourcedefinition").await;
    let name = format!("widgets.{group}");
    let patch = PatchParams::apply(Identity::Admin.name()).force();
    definitions.patch(&name, &patch, &Patch::Apply(definition_of(group, false, false))).await.unwrap();
    while new.get("env--0").await.is_ok() {
        tokio::task::yield_now().await;
    }
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let told = |r: &DynamicObject| message(r, "TornDown").contains("is there, and none of its versions is served");
    let held = sandbox.wait_for("resource/env--0", "told", told).await;
    assert_eq!(phase(&held), "Released");
    definitions.patch(&name, &patch, &Patch::Apply(definition(group, true))).await.unwrap();
    sandbox.history().never("a loss", |s| condition(&s.object, "Ready").1 == "ObjectLost" || s.phase() == "Broken");
    crate::objects::gone_within(&sandbox, AGAIN, "resource/env--0").await;
    until(&new, "env--0", "gone", |found| found.is_none()).await;
    assert!(uid.is_some());
    holds_throughout(&sandbox).await;
}

/// What an object owns is gone before the next of the slot is made: the disk of a VM, the managed resources of a composite.
#[tokio::test]
async fn what_a_custom_resource_owns_is_seen_gone() {
    let (sandbox, _controller, _things) = alone("objects-owners").await;
    let group = "owners.example.org";
    may_make_widgets(&sandbox, group).await;
    in_cluster(&sandbox, &definition(group, true)).await;
    apply(&sandbox, &of_widgets(group)).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_within(AGAIN, "lease/a", "active", |l| phase(l) == "Active").await;
    let widgets = widgets(&sandbox, group, "v1").await;
    let widget = widgets.get("env--0").await.unwrap().metadata.uid.unwrap();
    let owner = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget", "name": "env--0", "uid": widget,
        "controller": true, "blockOwnerDeletion": true,
    });
    let disk = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "disk", "finalizers": ["example.org/erase"], "ownerReferences": [owner]},
    });
    sandbox.apply(Identity::Admin, &disk.to_string()).await;

    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    let waits =
        |r: &DynamicObject| message(r, "TornDown").contains("env--0 is still there (what it owns is being deleted)");
    let held = sandbox.wait_for("resource/env--0", "told", waits).await;
    assert_eq!(phase(&held), "Released");
    // The garbage collector looks for new kinds now and then.
    let is_going = |found: Option<&DynamicObject>| found.is_some_and(|f| f.metadata.deletion_timestamp.is_some());
    until(&sandbox.api(Identity::Admin, "configmap").await, "disk", "being deleted", is_going).await;
    assert_eq!(widgets.get("env--0").await.unwrap().metadata.uid, Some(widget));
    assert_eq!(phase(&sandbox.get("resource/env--0").await), "Released");
    crate::objects::hold(&sandbox, "configmap/disk", &[]).await;
    crate::objects::gone_within(&sandbox, AGAIN, "resource/env--0").await;
    assert!(widgets.get_opt("env--0").await.unwrap().is_none());
    holds_throughout(&sandbox).await;
}

/// Kubernetes would give the volumes of a StatefulSet to the next one of its name.
#[tokio::test]
async fn the_volumes_of_a_stateful_set_go_with_it() {
    let (sandbox, _controller, _things) = alone("objects-volumes").await;
    may_make(&sandbox, "apps", "statefulsets").await;
    let claims = json!([{
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }]);
    let labels = json!({"app": "db"});
    let pod =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "db", "image": "example.org/db"}]}});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"serviceName": "db", "selector": {"matchLabels": labels}, "template": pod, "volumeClaimTemplates": claims},
    });
    apply(&sandbox, &env(json!({"templates": [set]}), json!({"lease": {"recycle": "Destroy"}}))).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "PersistentVolumeClaim"));
    let volumes: Api<DynamicObject> =
        Api::namespaced_with(sandbox.client(Identity::Admin).await, sandbox.namespace(), &kind);
    let is_owned = |found: Option<&DynamicObject>| found.is_some_and(|found| found.metadata.owner_references.is_some());
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let first = until(&volumes, "data-db-0", "the set's", is_owned).await.unwrap();
    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    crate::objects::gone_within(&sandbox, AGAIN, "resource/env--0").await;
    assert!(volumes.get_opt("data-db-0").await.unwrap().is_none(), "it is gone before its Resource is");

    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
    let second = until(&volumes, "data-db-0", "the set's", is_owned).await.unwrap();
    assert_ne!(first.metadata.uid, second.metadata.uid);
    release(&sandbox, "lease/b").await;
    crate::objects::gone_within(&sandbox, AGAIN, "resource/env--0").await;
    holds_throughout(&sandbox).await;
}

/// The account's rights in the namespace were in it: they are gone, and so is all else that was.
#[tokio::test]
async fn a_namespace_that_somebody_deleted_took_with_it_what_was_in_it() {
    let (sandbox, _controller, _things) = alone("objects-gone-namespace").await;
    let own = sandbox.namespace();
    let name = format!("{own}-in");
    // The account may make namespaces, and give itself a role in them; no more.
    let rbac = "rbac.authorization.k8s.io";
    let worker = format!("{own}-worker");
    let roles = [
        (worker.clone(), json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ALL}])),
        (
            own.to_owned(),
            json!([
                {"apiGroups": [""], "resources": ["namespaces"], "verbs": ALL},
                {"apiGroups": [rbac], "resources": ["rolebindings"], "verbs": ALL},
                {"apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": [worker.clone()], "verbs": ["bind"]},
            ]),
        ),
    ];
    for (name, rules) in roles {
        let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
        in_cluster(&sandbox, &role).await;
    }
    let account = json!([{"kind": "ServiceAccount", "name": BUILDER, "namespace": own}]);
    let role = |name: &str| json!({"apiGroup": rbac, "kind": "ClusterRole", "name": name});
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": own},
        "roleRef": role(own), "subjects": account.clone(),
    });
    in_cluster(&sandbox, &binding).await;
    let objects = json!({
        "templates": [
            namespace(&name),
            {
                "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": "worker", "namespace": name},
                "roleRef": role(&worker), "subjects": account,
            },
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "told", "namespace": name}},
        ],
        "leaseTemplates": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-${lease.metadata.name}", "namespace": name}},
        ],
    });
    apply(&sandbox, &env(objects, json!({"lease": {"recycle": "Destroy"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_within(AGAIN, "lease/a", "active", |l| phase(l) == "Active").await;
    assert!(within(&sandbox, Identity::Admin, &name, "configmap").await.get_opt("of-a").await.unwrap().is_some());

    let namespaces = cluster(&sandbox, "namespace").await;
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    until(&namespaces, &name, "gone", |found| found.is_none()).await;
    let lost = |words: &'static str| {
        move |o: &DynamicObject| condition(o, "Ready") == ("False", "ObjectLost") && message(o, "Ready").contains(words)
    };
    sandbox.wait_within(AGAIN, "lease/a", "told of it", lost("of-a is gone")).await;
    sandbox.wait_within(AGAIN, "resource/env--0", "told of it", lost("Namespace")).await;

    release(&sandbox, "lease/a").await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone("resource/env--0").await;
    sandbox.history().never("a failure", |s| condition(&s.object, "TornDown").1 == "TeardownFailed");
    holds_throughout(&sandbox).await;
}
