//! Expressions from people who mean no good, or know no better: told where and why, and in nobody else's way.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::{Identity, Sandbox, condition, phase};
use crate::templates::{alone, blueprint, lease, map, released, says, with};
use crate::told::{apply, holds_throughout, message, uid};

/// It looks for each of 2,048 numbers among all of them: far more than one expression may do, out of nothing.
const SLOW: &str =
    "[[0,1,2,3,4,5,6,7]].map(l,l+l+l+l+l+l+l+l).map(l,l+l+l+l+l+l+l+l).map(l,l+l+l+l).all(l,l.all(x,x in l))";

/// What is wrong with a Blueprint: its name, its driver, where, and why.
fn invalid() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let long = format!("'{}' == ''", "ä".repeat(600));
    let lists = format!("${{size([{}])}}", vec!["[]"; 65].join(","));
    let nested = with(map("nested"), json!({"data": {"a": "${[1].map(a, [1].map(b, [1].map(c, c)))}"}}));
    vec![
        ("syntax", json!({"readyWhen": "objects.all(o, "}), "readyWhen: ", "the expression is not CEL: "),
        ("unknown", json!({"outputs": {"a": "${secrets.all}"}}), "outputs.a: ", "secrets is not known here"),
        (
            "lease-root",
            json!({"templates": [map("a"), map("${lease.metadata.name}")]}),
            "templates[1].metadata.name: ",
            "lease is not known here; an expression may name resource, blueprint",
        ),
        ("long", json!({"readyWhen": long}), "readyWhen: ", "the expression has 1208 bytes, and may have 1024"),
        (
            "nested",
            json!({"leaseTemplates": [nested]}),
            "leaseTemplates[0].data.a: ",
            "the expression has 3 macros inside one another, and may have 2",
        ),
        (
            "lists",
            json!({"outputs": {"a": lists}}),
            "outputs.a: ",
            "the expression writes out 66 lists and maps, and may write out 64",
        ),
    ]
}

/// The same of what shows only when it is evaluated.
fn slow() -> Vec<(&'static str, Value, &'static str)> {
    let filled = |name: &str| with(map(name), json!({"data": {"a": format!("${{string({SLOW})}}")}}));
    vec![
        ("slow-template", json!({"templates": [map("before-slow"), filled("slow-template")]}), "templates[1].data.a: "),
        ("slow-ready", json!({"readyWhen": format!("objects.all(o, true) && {SLOW}")}), "readyWhen: "),
        ("slow-output", json!({"outputs": {"a": format!("${{{SLOW}}}")}}), "outputs.a: "),
        ("slow-lease", json!({"leaseTemplates": [filled("slow-lease")]}), "leaseTemplates[0].data.a: "),
    ]
}

/// With an object of its own, that must not be there.
fn driver(name: &str, hostile: &Value) -> Value {
    with(json!({"templates": [map(&format!("of-{name}"))]}), hostile.clone())
}

/// The Resources that there ever were of a Blueprint.
fn resources_of(sandbox: &Sandbox<'_>, blueprint: &str) -> BTreeSet<String> {
    let of = |seen: &crate::support::Seen| {
        seen.kind == "resource" && seen.object.data["spec"]["blueprintRef"]["name"] == blueprint
    };
    sandbox.history().all().into_iter().filter(of).map(|seen| seen.uid).collect()
}

#[tokio::test]
async fn hostile_expressions_are_told_and_in_nobodys_way() {
    let (sandbox, mut controller) = alone("hostile").await;
    let names = || invalid().into_iter().map(|i| i.0).chain(slow().into_iter().map(|s| s.0));
    for (name, hostile) in invalid().into_iter().map(|i| (i.0, i.1)).chain(slow().into_iter().map(|s| (s.0, s.1))) {
        apply(&sandbox, &blueprint(name, driver(name, &hostile))).await;
        apply(&sandbox, &lease(name, name, json!({}))).await;
    }
    // Whoever means well is served beside them.
    let friendly = json!({
        "templates": [map("of-friendly")], "leaseTemplates": [map("for-${lease.metadata.name}")],
        "readyWhen": "objects.all(o, o.kind == 'ConfigMap')", "outputs": {"name": "${resource.metadata.name}"},
    });
    apply(&sandbox, &blueprint("friendly", friendly.clone())).await;
    apply(&sandbox, &lease("friendly", "friendly", json!({}))).await;
    sandbox.wait_phase("lease/friendly", "Active").await;

    for (name, _, path, why) in invalid() {
        let path = format!("spec.driver.objects.{path}");
        says(&sandbox, &format!("blueprint/{name}"), "Ready", "InvalidExpression", &[&path, why]).await;
        says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[&path, why]).await;
    }
    let too_slow = "the expression took longer than 100 ms and was stopped";
    for (name, _, path) in slow() {
        let path = format!("spec.driver.objects.{path}");
        says(&sandbox, &format!("blueprint/{name}"), "Ready", "ExpressionTooSlow", &[&path, too_slow]).await;
        if name != "slow-lease" {
            says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[&path, too_slow]).await;
        }
    }
    // Of a lease's own objects it is known only once a lease is there: that one has failed, and the next waits.
    let failed = sandbox.wait_phase("lease/slow-lease", "Destroyed").await;
    assert_eq!(condition(&failed, "Released"), ("True", "Failed"));
    assert!(message(&failed, "Released").contains(too_slow), "{}", message(&failed, "Released"));
    apply(&sandbox, &lease("slow-lease-2", "slow-lease", json!({}))).await;
    says(&sandbox, "lease/slow-lease-2", "Acquired", "BuildFailing", &[too_slow]).await;

    // Nothing is tried again, also by a controller that knows only what is on record.
    controller.restart().await;
    for name in names() {
        apply(&sandbox, &lease(&format!("{name}-3"), name, json!({}))).await;
    }
    released(&sandbox, "lease/friendly").await;
    apply(&sandbox, &lease("friendly-2", "friendly", json!({}))).await;
    sandbox.wait_phase("lease/friendly-2", "Active").await;
    for name in names() {
        sandbox.wait_for(&format!("lease/{name}-3"), "told", |l| condition(l, "Acquired").1 == "BuildFailing").await;
    }
    sandbox.history().caught_up().await;
    for (name, ..) in invalid() {
        assert!(resources_of(&sandbox, name).is_empty(), "{name}");
        assert!(sandbox.try_get(&format!("configmap/of-{name}")).await.is_none(), "{name}");
    }
    for (name, ..) in slow() {
        assert_eq!(resources_of(&sandbox, name).len(), 1, "{name}");
        let blueprint = sandbox.get(&format!("blueprint/{name}")).await;
        assert_eq!(condition(&blueprint, "Ready"), ("False", "ExpressionTooSlow"), "{name}");
    }
    assert!(sandbox.try_get("configmap/slow-template").await.is_none());

    // An edit is all it takes: the leases that wait are not touched.
    for name in names() {
        let waits = if name == "slow-lease" { "lease/slow-lease-2".to_owned() } else { format!("lease/{name}") };
        let before = sandbox.get(&waits).await;
        let mended = json!({"spec": {"driver": {"objects": {
            "templates": [map(&format!("mended-{name}"))], "leaseTemplates": null, "readyWhen": null, "outputs": null,
        }}}});
        sandbox.patch(Identity::Admin, &format!("blueprint/{name}"), mended).await;
        let served = sandbox.wait_phase(&waits, "Active").await;
        assert_eq!((uid(&served), &served.data["spec"]), (uid(&before), &before.data["spec"]), "{name}");
        says(&sandbox, &format!("blueprint/{name}"), "Ready", "Ready", &[]).await;
    }
    holds_throughout(&sandbox).await;
}

/// Who has an environment keeps it, whatever becomes of its Blueprint; and it goes as it was made.
#[tokio::test]
async fn what_is_leased_outlives_a_bad_edit() {
    let (sandbox, _controller) = alone("hostile-edit").await;
    let good = json!({"templates": [map("env")], "leaseTemplates": [map("own-${lease.metadata.name}")], "readyWhen": "objects.all(o, o.kind == 'ConfigMap')"});
    apply(&sandbox, &blueprint("env", good)).await;
    apply(&sandbox, &lease("a", "env", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    apply(&sandbox, &lease("b", "env", json!({}))).await;
    for (driver, reason) in
        [(json!({"readyWhen": "objects."}), "InvalidExpression"), (json!({"readyWhen": SLOW}), "ExpressionTooSlow")]
    {
        sandbox.patch(Identity::Admin, "blueprint/env", json!({"spec": {"driver": {"objects": driver}}})).await;
        // A change that its watch tells has the question asked again.
        sandbox.patch(Identity::Admin, "configmap/env", json!({"data": {"changed": reason}})).await;
        says(&sandbox, "blueprint/env", "Ready", reason, &["spec.driver.objects.readyWhen: "]).await;
        says(&sandbox, "lease/b", "Acquired", "BuildFailing", &["spec.driver.objects.readyWhen: "]).await;
        assert_eq!(phase(&sandbox.get("lease/a").await), "Active");
    }
    released(&sandbox, "lease/a").await;
    assert!(sandbox.try_get("configmap/own-a").await.is_none());
    sandbox.delete(Identity::Admin, "blueprint/env").await;
    sandbox.wait_gone("blueprint/env").await;
    assert!(sandbox.try_get("configmap/env").await.is_none());
    sandbox.history().caught_up().await;
    let lost = |lease: &DynamicObject| condition(lease, "Ready").1 == "ObjectLost";
    let lost: Vec<_> = sandbox.history().of("lease/a").into_iter().filter(|seen| lost(&seen.object)).collect();
    assert!(lost.is_empty(), "a question that gets no answer is no loss: {lost:?}");
    holds_throughout(&sandbox).await;
}
