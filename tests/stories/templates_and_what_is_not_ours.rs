//! What Drydock has not made it neither changes nor deletes, whatever its name or its labels; and it adopts nothing.

use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::support::{Identity, Sandbox, condition, phase, resource_of};
use crate::templates::{
    MAKER, account, alone, apply_in, blueprint, everywhere, gets, gets_everywhere, lease, map, of_core, released, says,
    with, within,
};
use crate::told::{apply, holds_throughout, uid};

/// Full copies of what is not ours, as they were once nobody touched them any more.
#[derive(Default)]
struct Foreign(Vec<DynamicObject>);

impl Foreign {
    async fn remember(&mut self, sandbox: &Sandbox<'_>, kind: &str, namespace: &str, name: &str) {
        self.0.push(find(sandbox, kind, Some(namespace), name).await.expect("it is there"));
    }

    /// Each is as it was, to the last field.
    async fn stand(&self, sandbox: &Sandbox<'_>) {
        for then in &self.0 {
            let (kind, name) = (&then.types.as_ref().unwrap().kind, then.metadata.name.as_deref().unwrap());
            let now = find(sandbox, kind, then.metadata.namespace.as_deref(), name).await;
            let now = now.unwrap_or_else(|| panic!("{kind} {name} is gone"));
            assert_eq!(&now, then);
        }
    }
}

async fn find(sandbox: &Sandbox<'_>, kind: &str, namespace: Option<&str>, name: &str) -> Option<DynamicObject> {
    let namespace = namespace.filter(|_| kind != "Namespace");
    match namespace {
        Some(namespace) => within(sandbox, namespace, kind).await,
        None => everywhere(sandbox, kind).await,
    }
    .get_opt(name)
    .await
    .unwrap()
}

/// A ConfigMap of somebody, with labels.
fn theirs(name: &str, labels: &Value) -> Value {
    with(map(name), json!({"metadata": {"labels": labels}, "data": {"theirs": "yes"}}))
}

/// A copy of an object under another name, with all that a person would copy; or under its own, where that is gone.
async fn copy(sandbox: &Sandbox<'_>, of: &DynamicObject, name: &str) {
    let mut copy = DynamicObject::new(name, &resource_of("ConfigMap")).data(of.data.clone());
    copy.metadata.labels = of.metadata.labels.clone();
    sandbox.api(Identity::Admin, "configmap").await.create(&PostParams::default(), &copy).await.unwrap();
}

async fn delete(sandbox: &Sandbox<'_>, name: &str) {
    sandbox.delete(Identity::Admin, &format!("configmap/{name}")).await;
    sandbox.wait_gone(&format!("configmap/{name}")).await;
}

/// Its account may make and remove ConfigMaps everywhere: it is no lack of rights that keeps them safe.
#[tokio::test]
async fn what_is_not_ours_stays_as_it_is() {
    let (sandbox, _controller) = alone("not-ours").await;
    let other = Sandbox::new("not-ours-too").await;
    gets_everywhere(&sandbox, MAKER, json!([of_core(&["configmaps", "namespaces"])])).await;
    let (here, there) = (sandbox.namespace(), other.namespace());
    let names = ["first", "second", "third", "own-a"];
    let driver = json!({"templates": names[..3].iter().map(|n| map(n)).collect::<Vec<_>>(), "leaseTemplates": [map("own-${lease.metadata.name}")]});
    apply(&sandbox, &blueprint("env", driver)).await;
    apply(&sandbox, &lease("a", "env", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;

    let mut foreign = Foreign::default();
    let own = sandbox.get("configmap/own-a").await;
    let ours = json!(sandbox.get("configmap/first").await.metadata.labels);
    let strange = json!({"drydock.dev/owner": "9d1f2a6e-0000-4000-8000-000000000000", "drydock.dev/resource": "9d1f2a6e-0000-4000-8000-000000000001"});
    // Of the same names in another namespace; of other names here and there, labelled as somebody else's and as ours.
    for name in names {
        apply_in(&sandbox, there, &theirs(name, &ours)).await;
        foreign.remember(&sandbox, "ConfigMap", there, name).await;
    }
    for (name, labels) in
        [("strange", &strange), ("labelled", &ours), ("labelled-as-leased", &json!(own.metadata.labels))]
    {
        for namespace in [here, there] {
            apply_in(&sandbox, namespace, &theirs(name, labels)).await;
            foreign.remember(&sandbox, "ConfigMap", namespace, name).await;
        }
    }
    // Copied with everything; and made again where somebody has deleted ours, as it was or otherwise.
    copy(&sandbox, &sandbox.get("configmap/first").await, "first-copied").await;
    copy(&sandbox, &own, "own-copied").await;
    let third = sandbox.get("configmap/third").await;
    for name in ["second", "third", "own-a"] {
        delete(&sandbox, name).await;
    }
    apply_in(&sandbox, here, &theirs("second", &json!({}))).await;
    copy(&sandbox, &third, "third").await;
    copy(&sandbox, &own, "own-a").await;
    for name in ["first-copied", "own-copied", "second", "third", "own-a"] {
        foreign.remember(&sandbox, "ConfigMap", here, name).await;
    }
    says(&sandbox, "lease/a", "Ready", "ObjectLost", &["ConfigMap own-a is gone"]).await;
    foreign.stand(&sandbox).await;

    released(&sandbox, "lease/a").await;
    foreign.stand(&sandbox).await;
    sandbox.delete(Identity::Admin, "blueprint/env").await;
    sandbox.wait_gone("blueprint/env").await;
    assert!(sandbox.try_get("configmap/first").await.is_none(), "what was ours is gone");
    foreign.stand(&sandbox).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn nothing_is_adopted() {
    let (sandbox, _controller) = alone("not-adopted").await;
    gets_everywhere(&sandbox, MAKER, json!([of_core(&["namespaces"])])).await;
    let mut foreign = Foreign::default();
    let here = sandbox.namespace();
    let taken = format!("{here}-taken");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": taken}});
    let object = serde_json::from_value(namespace.clone()).unwrap();
    let namespaces = everywhere(&sandbox, "Namespace").await;
    namespaces.create(&PostParams::default(), &object).await.unwrap();
    apply_in(&sandbox, here, &theirs("taken", &json!({}))).await;
    foreign.remember(&sandbox, "ConfigMap", here, "taken").await;
    foreign.remember(&sandbox, "Namespace", here, &taken).await;

    let exists = "is there already, and was not made for this: nothing is adopted; have the template name another";
    for (name, template, what) in
        [("map", map("taken"), "ConfigMap taken".to_owned()), ("space", namespace, format!("Namespace {taken}"))]
    {
        apply(&sandbox, &blueprint(name, json!({"templates": [map(&format!("before-{name}")), template]}))).await;
        apply(&sandbox, &lease(name, name, json!({}))).await;
        let why = format!("{what} {exists}");
        says(&sandbox, &format!("blueprint/{name}"), "Ready", "BuildFailing", &[&why]).await;
        says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[&why]).await;
    }
    apply(&sandbox, &blueprint("leased", json!({"leaseTemplates": [map("before-leased"), map("taken")]}))).await;
    apply(&sandbox, &lease("leased", "leased", json!({}))).await;
    let over = sandbox.wait_phase("lease/leased", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Failed"));
    let why = over.data["status"]["failure"].clone();
    assert_eq!((&why["reason"], &why["step"]), (&json!("ObjectExists"), &json!("Activate")));
    assert_eq!(why["message"], format!("ConfigMap taken {exists}"));
    for name in ["map", "space"] {
        sandbox.delete(Identity::Admin, &format!("blueprint/{name}")).await;
        sandbox.wait_gone(&format!("blueprint/{name}")).await;
    }
    for name in ["before-map", "before-space", "before-leased"] {
        assert!(sandbox.try_get(&format!("configmap/{name}")).await.is_none(), "{name}");
    }
    foreign.stand(&sandbox).await;
    namespaces.delete(&taken, &DeleteParams::default()).await.unwrap();
    holds_throughout(&sandbox).await;
}

/// Whoever sees a Resource knows its UID, and could have our labels on an object before we have made it.
#[tokio::test]
async fn forged_labels_are_no_proof() {
    let (sandbox, _controller) = alone("not-forged").await;
    account(&sandbox, "slow", json!([of_core(&["configmaps"])])).await;
    let first = with(map("first"), json!({"kind": "Secret"}));
    apply(&sandbox, &blueprint("env", json!({"serviceAccountName": "slow", "templates": [first, map("second")]})))
        .await;
    apply(&sandbox, &lease("a", "env", json!({}))).await;
    says(&sandbox, "lease/a", "Acquired", "BuildFailing", &["Secret first: ", "is forbidden"]).await;
    let resource = sandbox.get("resource/env--0").await;
    assert_eq!(phase(&resource), "Pending");
    let labels = json!({"drydock.dev/owner": uid(&resource), "drydock.dev/resource": uid(&resource)});
    apply_in(&sandbox, sandbox.namespace(), &theirs("second", &labels)).await;
    let mut foreign = Foreign::default();
    foreign.remember(&sandbox, "ConfigMap", sandbox.namespace(), "second").await;

    gets(&sandbox, "slow", sandbox.namespace(), json!([of_core(&["secrets"])])).await;
    let broken = |r: &DynamicObject| r.data["status"]["failure"]["reason"] == "ObjectExists";
    crate::told::was(&sandbox, "resource/env--0", "broken", broken).await;
    sandbox.delete(Identity::Admin, "blueprint/env").await;
    sandbox.wait_gone("blueprint/env").await;
    assert!(sandbox.try_get("secret/first").await.is_none());
    foreign.stand(&sandbox).await;
    holds_throughout(&sandbox).await;
}
