//! Environments of as many objects as there may be, of large ones, and of what the API server will not have: built, or
//! told with what is wrong.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::{Identity, Sandbox, phase};
use crate::templates::{MAKER, alone, blueprint, gets_everywhere, lease, map, of_core, released, says, with};
use crate::told::{apply, holds_throughout, instant, message};

#[tokio::test]
async fn as_many_templates_as_there_may_be() {
    let (sandbox, _controller) = alone("limits-many").await;
    let templates = |prefix: &str| (0..32).map(|n| map(&format!("{prefix}-{n:02}"))).collect::<Vec<_>>();
    let driver = json!({
        "templates": templates("of"), "leaseTemplates": templates("for-${lease.metadata.name}"),
        "readyWhen": "size(objects) >= 32", "outputs": {"all": "${size(objects)}", "name": "${resource.metadata.name}"},
    });
    apply(&sandbox, &blueprint("env", driver)).await;
    apply(&sandbox, &lease("a", "env", json!({}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(active.data["status"]["outputs"], json!({"all": "64", "name": "env--0"}));
    let ours = async || {
        let mut maps = sandbox.list("configmap").await;
        maps.retain(|map| map.labels().contains_key("drydock.dev/owner"));
        maps
    };
    let made = ours().await;
    assert_eq!(made.len(), 64);
    let mut in_order: Vec<&DynamicObject> = made.iter().collect();
    in_order.sort_by_key(|map| map.resource_version().unwrap().parse::<u64>().unwrap());
    let names: Vec<String> = in_order.iter().map(|map| map.name_any()).collect();
    let expected = |prefix: &str| (0..32).map(|n| format!("{prefix}-{n:02}")).collect::<Vec<_>>();
    assert_eq!(names, [expected("of"), expected("for-a")].concat());
    released(&sandbox, "lease/a").await;
    assert_eq!(ours().await.len(), 32);
    sandbox.delete(Identity::Admin, "blueprint/env").await;
    sandbox.wait_gone("blueprint/env").await;
    assert_eq!(ours().await.len(), 0);
    holds_throughout(&sandbox).await;
}

/// What one expression is evaluated over is bounded: that is told, and is no matter for those that name little of it.
#[tokio::test]
async fn large_objects() {
    let (sandbox, _controller) = alone("limits-large").await;
    let large = |name: &str| with(map(name), json!({"data": {"text": "x".repeat(70_000)}}));
    let short = json!({"outputs": {"name": "${resource.metadata.name}"}});
    apply(&sandbox, &blueprint("unasked", with(json!({"templates": [large("unasked")]}), short))).await;
    apply(&sandbox, &lease("unasked", "unasked", json!({}))).await;
    let active = sandbox.wait_phase("lease/unasked", "Active").await;
    assert_eq!(active.data["status"]["outputs"]["name"], "unasked--0");

    let too_large = "what the expression would be evaluated over is larger than 64 KiB with objects";
    apply(&sandbox, &blueprint("asked", json!({"templates": [large("asked")], "readyWhen": "size(objects) == 1"})))
        .await;
    apply(&sandbox, &lease("asked", "asked", json!({}))).await;
    says(&sandbox, "resource/asked--0", "Ready", "Building", &["readyWhen: ", too_large]).await;
    // It becomes ready when there is less of it.
    sandbox.patch(Identity::Admin, "configmap/asked", json!({"data": {"text": "x"}})).await;
    sandbox.wait_phase("lease/asked", "Active").await;

    apply(&sandbox, &blueprint("told", json!({"templates": [large("told")], "outputs": {"n": "${size(objects)}"}})))
        .await;
    apply(&sandbox, &lease("told", "told", json!({}))).await;
    says(&sandbox, "lease/told", "Acquired", "BuildFailing", &["spec.driver.objects.outputs.n: ", too_large]).await;

    // Of a lease it is the lease's own affair, and the next one is served.
    let own = with(map("own-${lease.metadata.name}"), json!({"data": "${lease.spec.parameters}"}));
    apply(&sandbox, &blueprint("own", json!({"leaseTemplates": [own]}))).await;
    let parameters: serde_json::Map<String, Value> =
        (0..17).map(|n| (format!("p{n}"), json!("x".repeat(4096)))).collect();
    apply(&sandbox, &lease("too-much", "own", json!({"parameters": parameters}))).await;
    let failed = sandbox.wait_phase("lease/too-much", "Destroyed").await;
    let why = message(&failed, "Released");
    assert!(why.contains("leaseTemplates[0].data: what the expression would be evaluated over is larger"), "{why}");
    apply(&sandbox, &lease("enough", "own", json!({"parameters": {"p": "x"}}))).await;
    sandbox.wait_phase("lease/enough", "Active").await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn outputs_that_are_none() {
    let (sandbox, _controller) = alone("limits-outputs").await;
    for (name, output, why) in [
        ("list", "${[1, 2]}", "an output is a text, and this gives [1,2]"),
        ("null", "${null}", "an output is a text, and this gives null"),
        ("broken", "${resource.spec.nothing}", "the expression failed: "),
        ("unfit", "a ${{'a': 1}}", "its value is a map, which cannot be put into a text"),
    ] {
        apply(&sandbox, &blueprint(name, json!({"templates": [map(name)], "outputs": {"o": output}}))).await;
        apply(&sandbox, &lease(name, name, json!({}))).await;
        let path = "spec.driver.objects.outputs.o: ";
        says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[path, why]).await;
    }
    // Too long by what a lessee gave: that lease fails, with what it had of its own; the next one is served.
    let driver = json!({"leaseTemplates": [map("own-${lease.metadata.name}")], "outputs": {"o": "${lease.spec.parameters.text}"}});
    apply(&sandbox, &blueprint("long", driver)).await;
    apply(&sandbox, &lease("long", "long", json!({"parameters": {"text": "ä".repeat(1025)}}))).await;
    let failed = sandbox.wait_phase("lease/long", "Destroyed").await;
    let expected = "spec.driver.objects.outputs.o: an output may have 1024 characters, and this gives 1025; have it name where to find more";
    assert_eq!(message(&failed, "Released"), expected);
    assert!(sandbox.try_get("configmap/own-long").await.is_none());
    apply(&sandbox, &lease("longest", "long", json!({"parameters": {"text": "ä".repeat(1024)}}))).await;
    let active = sandbox.wait_phase("lease/longest", "Active").await;
    assert_eq!(active.data["status"]["outputs"]["o"], "ä".repeat(1024));
    holds_throughout(&sandbox).await;
}

/// A kind of this story alone.
async fn define(sandbox: &Sandbox<'_>, group: &str) {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "maximum": 3}}}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("things.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let api: Api<CustomResourceDefinition> = Api::all(sandbox.client(Identity::Admin).await);
    api.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_kind_that_comes_later() {
    let (sandbox, _controller) = alone("limits-kind").await;
    let group = format!("{}.example", sandbox.namespace());
    let rights = json!([{"apiGroups": [group], "resources": ["things"], "verbs": crate::templates::ALL}]);
    gets_everywhere(&sandbox, MAKER, rights).await;
    let thing = |size: &str| json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": "a-${resource.metadata.name}"}, "spec": {"size": size}});
    apply(&sandbox, &blueprint("right", json!({"templates": [map("first"), thing("${1 + 1}")]}))).await;
    apply(&sandbox, &blueprint("wrong", json!({"templates": [thing("${2 + 2}")]}))).await;
    for name in ["right", "wrong"] {
        apply(&sandbox, &lease(name, name, json!({}))).await;
        let why = format!("Thing a-{name}--0: the API server has no kind Thing in {group}/v1");
        says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[&why]).await;
        assert_eq!(phase(&sandbox.get(&format!("resource/{name}--0")).await), "Pending", "it may come");
    }
    define(&sandbox, &group).await;
    sandbox.wait_phase("lease/right", "Active").await;

    // What the API server will never take fails for good, in its words; the next build is put off.
    let invalid =
        ["Thing a-wrong--0: ", "spec.size: Invalid value: 4: spec.size in body should be less than or equal to 3"];
    let failed = crate::told::was_in(&sandbox, "resource/wrong--0", "Broken").await;
    assert_eq!(failed.data["status"]["failure"]["reason"], "Invalid");
    says(&sandbox, "lease/wrong", "Acquired", "BuildFailing", &invalid).await;
    let failing = says(&sandbox, "blueprint/wrong", "Ready", "BuildFailing", &invalid).await;
    let put_off = instant(&failing, "nextBuildAt").duration_since(instant(&failed, "releasedAt"));
    assert!(put_off.as_secs() >= 10, "{put_off:?}");

    released(&sandbox, "lease/right").await;
    for name in ["right", "wrong"] {
        sandbox.delete(Identity::Admin, &format!("blueprint/{name}")).await;
        sandbox.wait_gone(&format!("blueprint/{name}")).await;
    }
    let listed =
        sandbox.plane().run_kubectl(Identity::Admin, &["get", &format!("things.{group}"), "-A", "-o", "name"]).await;
    assert_eq!(listed.unwrap(), "");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn what_the_api_server_does_not_take_fails_in_its_words() {
    let (sandbox, _controller) = alone("limits-refused").await;
    gets_everywhere(&sandbox, MAKER, json!([of_core(&["namespaces"])])).await;
    let space = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let nowhere = with(space(&format!("{}-in", sandbox.namespace())), json!({"metadata": {"namespace": "default"}}));
    for (name, template, why) in [
        ("cluster", nowhere, "objects of this kind live in no namespace; leave metadata.namespace out"),
        ("number", with(map("number"), json!({"data": {"a": "${1}"}})), "cannot unmarshal number"),
        ("name", map("${'Upper_Case'}"), "metadata.name: Invalid value: \"Upper_Case\""),
        (
            "label",
            with(map("label"), json!({"metadata": {"labels": {"a": "${'not a label!'}"}}})),
            "metadata.labels: Invalid value",
        ),
        (
            "label-number",
            with(map("label"), json!({"metadata": {"labels": {"a": "${1}"}}})),
            "metadata.labels: \"a\" is 1; it has to be a text",
        ),
    ] {
        apply(&sandbox, &blueprint(name, json!({"templates": [map(&format!("before-{name}")), template]}))).await;
        apply(&sandbox, &lease(name, name, json!({}))).await;
        says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[why]).await;
        says(&sandbox, &format!("blueprint/{name}"), "Ready", "BuildFailing", &[why]).await;
        sandbox.delete(Identity::Admin, &format!("blueprint/{name}")).await;
        sandbox.wait_gone(&format!("blueprint/{name}")).await;
        assert!(sandbox.try_get(&format!("configmap/before-{name}")).await.is_none(), "{name}");
        let waits = says(&sandbox, &format!("lease/{name}"), "Acquired", "NoMatchingBlueprint", &[]).await;
        assert_eq!(phase(&waits), "Pending", "{name}");
    }
    holds_throughout(&sandbox).await;
}
