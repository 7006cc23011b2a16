//! Nobody gains a right by writing a Blueprint of templates, or a Lease of what they make.

use kube::ResourceExt as _;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::people::{Person, object};
use crate::support::sandbox::{Rights, refusal};
use crate::support::{Identity, Sandbox, condition, phase};
use crate::templates::{
    MAKER, account, alone, blueprint, everywhere, gets, gets_everywhere, lease, map, of_core, released, says, spec,
    with, within,
};
use crate::told::{self, apply, holds_throughout, message, uid};

/// Alice may write Blueprints here, and there are two service accounts.
async fn of_alice(story: &str) -> (Sandbox<'static>, Person) {
    let sandbox = Sandbox::new(story).await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    for name in [MAKER, "another"] {
        account(&sandbox, name, json!([])).await;
    }
    let alice = Person::named(&sandbox, Identity::Alice.user()).await;
    (sandbox, alice)
}

fn may_not_act_as(account: &str, sandbox: &Sandbox<'_>) -> String {
    let namespace = sandbox.namespace();
    format!(
        "spec.driver.objects.serviceAccountName: you may not act as {account}; ask for the verb impersonate on serviceaccounts/{account} in {namespace}"
    )
}

/// What decides what is made, changed one by one.
fn changes_of_what_is_made() -> Vec<Value> {
    let driver = |change: Value| json!({"driver": {"objects": change}});
    vec![
        driver(json!({"templates": [map("b")]})),
        driver(json!({"templates": null})),
        driver(json!({"leaseTemplates": [map("b")]})),
        driver(json!({"readyWhen": "true"})),
        driver(json!({"outputs": {"a": "b"}})),
        json!({"attributes": {"region": "us"}}),
        json!({"attributes": null}),
        json!({"resource": {"parameters": ["size", "region"]}}),
        json!({"resource": {"defaults": {"size": "large"}}}),
        json!({"resource": null}),
    ]
}

#[tokio::test]
async fn an_account_is_named_by_those_who_may_act_as_it() {
    let (sandbox, alice) = of_alice("rights-account").await;
    let right = with(
        spec(json!({"templates": [map("a")]})),
        json!({"attributes": {"region": "eu"}, "resource": {"parameters": ["size"], "defaults": {"size": "small"}}}),
    );
    let create = async |name: &str, spec: &Value| {
        alice.api("blueprint").create(&PostParams::default(), &object("blueprint", name, spec.clone())).await
    };
    let patch = async |name: &str, change: &Value| {
        let patch = Patch::Merge(json!({"spec": change}));
        alice.api("blueprint").patch(name, &PatchParams::default(), &patch).await
    };

    let said = refusal(create("mine", &right).await);
    assert!(said.contains(&may_not_act_as(MAKER, &sandbox)), "{said}");
    assert!(sandbox.list("blueprint").await.is_empty());

    // Nor may she have another's Blueprint make something else.
    sandbox.apply(Identity::Admin, &json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": "others"}, "spec": right}).to_string()).await;
    let before = sandbox.get("blueprint/others").await;
    for change in changes_of_what_is_made() {
        let said = refusal(patch("others", &change).await);
        assert!(said.contains(&may_not_act_as(MAKER, &sandbox)), "{change}: {said}");
    }
    let said = refusal(patch("others", &json!({"driver": {"objects": {"serviceAccountName": "another"}}})).await);
    assert!(said.contains(&may_not_act_as("another", &sandbox)), "{said}");
    assert_eq!(sandbox.get("blueprint/others").await, before);

    // What says nothing of that, and loosens nothing, is hers to change: whether, how many and for how long.
    for change in [
        json!({"suspend": true}),
        json!({"suspend": false}),
        json!({"limits": {"minReady": 1, "maxResources": 5, "maxConcurrentBuilds": 1}}),
        json!({"lease": {"maxTTL": "8h", "recycle": "Destroy"}}),
        json!({"resource": {"idleTTL": "1h"}}),
        json!({"placement": "Spread"}),
        json!({}),
    ] {
        patch("others", &change).await.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
    let labels = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}});
    alice.api("blueprint").patch("others", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
    alice
        .may_with(
            &sandbox,
            json!([{"apiGroups": ["drydock.dev"], "resources": ["blueprints/scale"], "verbs": ["get", "patch"]}]),
        )
        .await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    until_allowed(async || {
        alice.api("blueprint").patch_scale("others", &PatchParams::default(), &scale).await.map(|_| ())
    })
    .await;
    assert_eq!(sandbox.get("blueprint/others").await.data["spec"]["limits"]["minReady"], 2);

    // With the right on one account she may all that, as that account.
    alice
        .may_with(&sandbox, json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [MAKER], "verbs": ["impersonate"]}]))
        .await;
    until_allowed(async || create("mine", &right).await.map(|_| ())).await;
    for change in changes_of_what_is_made() {
        patch("others", &change).await.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
    let said = refusal(patch("mine", &json!({"driver": {"objects": {"serviceAccountName": "another"}}})).await);
    assert!(said.contains(&may_not_act_as("another", &sandbox)), "{said}");
    alice.api("blueprint").delete("mine", &Default::default()).await.unwrap();
}

/// Who loosens the isolation between leases needs the same right as who writes templates; who tightens it needs none.
#[tokio::test]
async fn isolation_is_loosened_by_those_who_may_act_as_the_account() {
    let (sandbox, alice) = of_alice("rights-isolation").await;
    let patch = async |change: &Value| {
        let patch = Patch::Merge(json!({"spec": change}));
        alice.api("blueprint").patch("others", &PatchParams::default(), &patch).await
    };
    let selector = json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}});
    // What it is, what loosens it, the field that is named, and what tightens it again.
    let loosening = [
        (
            json!({"limits": {"leasesPerResource": 1}}),
            json!({"limits": {"leasesPerResource": 2}}),
            "limits.leasesPerResource",
        ),
        (json!({"lease": {"recycle": "Destroy"}}), json!({"lease": {"recycle": "Reuse"}}), "lease.recycle"),
        (
            json!({"lease": {"recycle": "Destroy"}}),
            json!({"lease": {"recycle": "Reuse"}, "limits": {"leasesPerResource": 2}}),
            "limits.leasesPerResource",
        ),
        (json!({"allowedNamespaces": null}), json!({"allowedNamespaces": {"from": "All"}}), "allowedNamespaces"),
        (json!({"allowedNamespaces": null}), selector.clone(), "allowedNamespaces"),
        (selector, json!({"allowedNamespaces": {"selector": {"matchLabels": {"team": "b"}}}}), "allowedNamespaces"),
    ];
    for (before, change, field) in &loosening {
        let before = with(spec(json!({"templates": [map("a")]})), before.clone());
        sandbox.apply(Identity::Admin, &told::object("Blueprint", "others", before)).await;
        let said = refusal(patch(change).await);
        let words = format!("spec.{field}: the change loosens the isolation of environments that are made as {MAKER}");
        let remedy = format!("ask for the verb impersonate on serviceaccounts/{MAKER} in {}", sandbox.namespace());
        assert!(said.contains(&words) && said.contains(&remedy), "{change}: {said}");
    }
    // The other way round.
    let loose = json!({"limits": {"leasesPerResource": 3}, "allowedNamespaces": {"from": "All"}});
    let loose = with(spec(json!({"templates": [map("a")]})), loose);
    sandbox.apply(Identity::Admin, &told::object("Blueprint", "others", loose)).await;
    for change in [
        json!({"limits": {"leasesPerResource": 1}}),
        json!({"lease": {"recycle": "Destroy"}}),
        json!({"allowedNamespaces": {"from": "Same"}}),
    ] {
        patch(&change).await.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
    // With the right on the account.
    alice
        .may_with(&sandbox, json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [MAKER], "verbs": ["impersonate"]}]))
        .await;
    let both = json!({"lease": {"recycle": "Reuse"}, "limits": {"leasesPerResource": 2}});
    until_allowed(async || patch(&both).await.map(|_| ())).await;
    patch(&json!({"allowedNamespaces": {"from": "All"}})).await.unwrap();
}

/// The authorizer learns of a new binding from a watch.
async fn until_allowed(mut ask: impl AsyncFnMut() -> kube::Result<()>) {
    told::asked_until("it is allowed by now", async || match ask().await {
        Ok(()) => true,
        Err(error) => {
            assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error}");
            false
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_template_may_not_say_is_refused_at_once() {
    let sandbox = Sandbox::new("rights-words").await;
    let api = sandbox.api(Identity::Admin, "blueprint").await;
    let refused = async |driver: Value, expected: &[&str]| {
        let said =
            refusal(api.create(&PostParams::default(), &object("blueprint", "wrong", spec(driver.clone()))).await);
        for words in expected {
            assert!(said.contains(words), "of {driver}\nit said   {said}\nand not   {words}");
        }
    };
    let only = "metadata: a template has name, namespace, labels and annotations only; leave out ownerReferences, finalizers and generateName";
    for field in ["templates", "leaseTemplates"] {
        for version in ["v1alpha1", "v1", "v2beta1"] {
            for kind in ["Blueprint", "Lease", "Resource"] {
                let template =
                    json!({"apiVersion": format!("drydock.dev/{version}"), "kind": kind, "metadata": {"name": "a"}});
                let own = "apiVersion: Drydock's own kinds are not made from templates; create a Lease instead";
                refused(json!({field: [map("a"), template]}), &[&format!("spec.driver.objects.{field}[1]"), own]).await;
            }
        }
        let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}]);
        for metadata in [
            json!({"ownerReferences": owner}),
            json!({"finalizers": ["example.com/mine"]}),
            json!({"finalizers": []}),
            json!({"generateName": "a-"}),
        ] {
            let template = with(map("a"), json!({"metadata": metadata}));
            refused(json!({field: [template]}), &[&format!("spec.driver.objects.{field}[0].metadata: "), only]).await;
        }
    }
    let pattern = ["spec.driver.objects.serviceAccountName: Invalid value", "should match"];
    for name in ["x:y", "../..", "maker ", " maker", "Maker", "ma/ker", "-maker", "a..b", "ma\nker", "mäker", "%2e"] {
        refused(json!({"serviceAccountName": name}), &pattern).await;
    }
    for name in ["", &"x".repeat(254)] {
        refused(json!({"serviceAccountName": name}), &["spec.driver.objects.serviceAccountName"]).await;
    }
    refused(
        json!({"templates": vec![map("a"); 33]}),
        &["spec.driver.objects.templates: Too many: 33: must have at most 32 items"],
    )
    .await;
    assert!(sandbox.list("blueprint").await.is_empty());
    let taken = spec(json!({"serviceAccountName": "a.b-1"}));
    api.create(&PostParams::default(), &object("blueprint", "right", taken)).await.unwrap();
}

/// Labels are a map, of which a schema cannot say it: a policy does. (Where there is none the driver refuses them, and says
/// so of the Blueprint.)
#[tokio::test]
async fn drydocks_own_labels_are_not_for_templates() {
    let sandbox = Sandbox::new("rights-labels").await;
    let api = sandbox.api(Identity::Admin, "blueprint").await;
    let labelled = |label: &str| with(map("a"), json!({"metadata": {"labels": {"mine": "a", label: "b"}}}));
    for field in ["templates", "leaseTemplates"] {
        let driver = json!({field: [map("a"), labelled("drydock.dev/owner")]});
        let said = refusal(api.create(&PostParams::default(), &object("blueprint", "wrong", spec(driver))).await);
        let expected = "spec.driver.objects: the label drydock.dev/owner of a template is Drydock's own; leave it out";
        assert!(said.contains(expected), "{field}: {said}");
    }
    let right = spec(json!({"templates": [labelled("example.com/drydock.dev")], "leaseTemplates": [map("b")]}));
    api.create(&PostParams::default(), &object("blueprint", "right", right)).await.unwrap();
    let change = json!({"spec": {"driver": {"objects": {"leaseTemplates": [labelled("drydock.dev/lease")]}}}});
    let said = refusal(api.patch("right", &PatchParams::default(), &Patch::Merge(&change)).await);
    assert!(said.contains("the label drydock.dev/lease of a template is Drydock's own"), "{said}");
}

/// The controller acts as the accounts of those namespaces only in which somebody has let it.
#[tokio::test]
async fn a_namespace_that_does_not_let_the_controller_impersonate_is_told_what_to_do() {
    let sandbox = Sandbox::new("rights-binding").await;
    sandbox.delete(Identity::Admin, "rolebinding/drydock-impersonator").await;
    let controller = Person::named(&sandbox, Identity::Controller.user()).await;
    let may = async || controller.is_allowed_in_core("impersonate", "serviceaccounts").await;
    told::asked_until("the controller may not impersonate", async || !may().await).await;
    account(&sandbox, MAKER, json!([of_core(&["configmaps"])])).await;
    let _controller = sandbox.controller().await;
    apply(&sandbox, &blueprint("env", json!({"templates": [map("a")]}))).await;
    apply(&sandbox, &lease("a", "env", json!({}))).await;
    let words = [
        "cannot impersonate", // the rest of the sentence depends on what was asked first
        "let the controller act as accounts of this namespace: add the namespace to impersonation.namespaces of the chart, or \
         give the controller's account the verb impersonate on serviceaccounts there",
    ];
    says(&sandbox, "blueprint/env", "Ready", "BuildFailing", &words).await;
    says(&sandbox, "lease/a", "Acquired", "BuildFailing", &words).await;
    assert!(sandbox.try_get("configmap/a").await.is_none());
    sandbox.let_the_controller_impersonate().await;
    sandbox.wait_phase("lease/a", "Active").await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_template_makes_only_what_its_account_may_make() {
    let (sandbox, _controller) = alone("rights-templates").await;
    let other = Sandbox::new("rights-elsewhere").await;
    gets(&sandbox, MAKER, sandbox.namespace(), json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create", "get", "list", "watch", "delete"]}])).await;
    let user = format!("system:serviceaccount:{}:{MAKER}", sandbox.namespace());
    let binding = |kind: &str, name: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "mallory"}],
        })
    };
    let rights = format!("{}-mallory", sandbox.namespace());
    let elsewhere = with(map("here"), json!({"metadata": {"namespace": other.namespace()}}));
    let forbidden = format!("is forbidden: User \"{user}\" cannot create resource");
    let not_more = "attempting to grant RBAC permissions not currently held";
    let cases = [
        ("cluster", binding("ClusterRoleBinding", &rights, "cluster-admin"), forbidden.as_str()),
        ("bound", binding("RoleBinding", "mallory", "cluster-admin"), not_more),
        ("secret", with(map("a"), json!({"kind": "Secret"})), forbidden.as_str()),
        ("system", with(map("mallory"), json!({"metadata": {"namespace": "kube-system"}})), forbidden.as_str()),
        ("elsewhere", elsewhere, forbidden.as_str()),
    ];
    for (name, template, _) in &cases {
        // What comes before it is made, and goes again with it.
        apply(&sandbox, &blueprint(name, json!({"templates": [map(&format!("before-{name}")), template]}))).await;
        apply(&sandbox, &lease(name, name, json!({}))).await;
    }
    for (name, template, why) in &cases {
        let what = template["kind"].as_str().unwrap();
        says(&sandbox, &format!("lease/{name}"), "Acquired", "BuildFailing", &[what, why]).await;
        says(&sandbox, &format!("blueprint/{name}"), "Ready", "BuildFailing", &[what, why]).await;
        assert_eq!(phase(&sandbox.get(&format!("resource/{name}--0")).await), "Pending");
    }
    assert!(everywhere(&sandbox, "clusterrolebinding").await.get_opt(&rights).await.unwrap().is_none());
    for name in ["secret/a", "rolebinding/mallory"] {
        assert!(sandbox.try_get(name).await.is_none(), "{name}");
    }
    for namespace in ["kube-system", other.namespace()] {
        let there = within(&sandbox, namespace, "configmap").await.list(&Default::default()).await.unwrap();
        assert!(!there.iter().any(|map| ["mallory", "here"].contains(&&*map.name_any())), "{namespace}");
    }

    // Once its account has the right it goes on by itself.
    gets(&sandbox, MAKER, other.namespace(), json!([of_core(&["configmaps"])])).await;
    sandbox.wait_phase("lease/elsewhere", "Active").await;
    let made = within(&sandbox, other.namespace(), "configmap").await.get("here").await.unwrap();
    assert_eq!(made.labels()["drydock.dev/owner"], uid(&sandbox.get("resource/elsewhere--0").await));

    // What was made for those that never will goes again; what cannot be looked for is told, with what to do.
    let never: Vec<&str> = cases.iter().map(|(name, ..)| *name).filter(|name| *name != "elsewhere").collect();
    for name in &never {
        sandbox.delete(Identity::Admin, &format!("blueprint/{name}")).await;
    }
    let unseen = "whether ConfigMap kube-system/mallory was made cannot be seen: let the service account get it, or, where it is not there, end this with the command Forget";
    says(&sandbox, "resource/system--0", "TornDown", "TeardownFailed", &[unseen]).await;
    gets_everywhere(
        &sandbox,
        MAKER,
        json!([
            {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get"]},
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterrolebindings"], "verbs": ["get"]},
        ]),
    )
    .await;
    for name in &never {
        sandbox.wait_gone(&format!("blueprint/{name}")).await;
        assert!(sandbox.try_get(&format!("configmap/before-{name}")).await.is_none(), "{name}");
    }
    holds_throughout(&sandbox).await;
}

/// Token and key are made by others, and stay between those and whoever may read Secrets.
#[tokio::test]
async fn expressions_do_not_see_what_a_secret_holds() {
    let (sandbox, _controller) = alone("rights-secrets").await;
    gets(&sandbox, MAKER, sandbox.namespace(), json!([of_core(&["secrets"])])).await;
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": MAKER}},
    });
    let plain =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}, "stringData": {"key": "treasure"}});
    apply(
        &sandbox,
        &blueprint(
            "asks",
            json!({"templates": [plain], "readyWhen": "objects.exists(o, has(o.data) || has(o.stringData))"}),
        ),
    )
    .await;
    apply(&sandbox, &lease("asks", "asks", json!({}))).await;
    apply(
        &sandbox,
        &blueprint("tells", json!({"templates": [token], "outputs": {"token": "${objects[0].data.token}"}})),
    )
    .await;
    apply(&sandbox, &lease("tells", "tells", json!({}))).await;
    sandbox.wait_for("secret/token", "filled by Kubernetes", |secret| secret.data["data"]["token"].is_string()).await;
    says(&sandbox, "resource/asks--0", "Ready", "Building", &["readyWhen is false"]).await;
    says(&sandbox, "blueprint/tells", "Ready", "BuildFailing", &["spec.driver.objects.outputs.token: ", "data"]).await;
    for seen in sandbox.history().all() {
        let text = seen.object.data.to_string();
        assert!(!text.contains("dHJlYXN1cmU") && !text.contains("eyJ"), "{seen:?} tells it: {text}");
    }
}

/// What lessees write are values, wherever they end up.
#[tokio::test]
async fn a_lessee_adds_nothing_to_a_template() {
    let (sandbox, _controller) = alone("rights-lessees").await;
    gets(&sandbox, MAKER, sandbox.namespace(), json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create", "get", "list", "watch", "delete"]}])).await;
    gets_everywhere(&sandbox, MAKER, json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]}])).await;
    let own = with(
        map("${lease.metadata.name}"),
        json!({"data": {
            "whole": "${lease.spec.parameters.text}", "part": "[${lease.spec.parameters.text}]",
        }}),
    );
    apply(&sandbox, &blueprint("own", json!({"leaseTemplates": [own]}))).await;
    let texts =
        ["${resource.metadata.uid}", "$${x}", "a\n  b: 'c'\n- \"d\"}", "\\u0000\\\"\u{1}", "{{.Values}} $(id) `id`"];
    for (n, text) in texts.iter().enumerate() {
        let name = format!("text-{n}");
        apply(&sandbox, &lease(&name, "own", json!({"parameters": {"text": text}}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        let made = sandbox.get(&format!("configmap/{name}")).await;
        assert_eq!(made.data["data"], json!({"whole": text, "part": format!("[{text}]")}));
        released(&sandbox, &format!("lease/{name}")).await;
        assert!(sandbox.try_get(&format!("configmap/{name}")).await.is_none());
    }

    // A name of their choice leads nowhere else, and is not even asked for.
    apply(&sandbox, &blueprint("named", json!({"leaseTemplates": [map("x-${lease.spec.parameters.name}")]}))).await;
    for (n, name) in ["../../kube-system/configmaps/a", "a/../b", "a?dryRun=All", "a#b", "a%2fb", ""].iter().enumerate()
    {
        let asked = format!("named-{n}");
        apply(&sandbox, &lease(&asked, "named", json!({"parameters": {"name": name}}))).await;
        let why = if name.is_empty() { "x-" } else { "it may hold letters, digits and -._:@+~ only" };
        let lease =
            sandbox.wait_for(&format!("lease/{asked}"), "over", |l| condition(l, "Released").1 == "Failed").await;
        assert!(message(&lease, "Released").contains(why), "{name:?}: {}", message(&lease, "Released"));
        sandbox.wait_phase(&format!("lease/{asked}"), "Destroyed").await;
    }

    // Whom they name gets what the template says, and no role of their choice.
    let binding = |role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "of-${lease.metadata.name}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": "${lease.spec.subjects}",
        })
    };
    let masters =
        json!({"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:masters"}]});
    apply(&sandbox, &blueprint("bound", json!({"leaseTemplates": [binding("view")]}))).await;
    apply(&sandbox, &blueprint("chosen", json!({"leaseTemplates": [binding("${lease.spec.parameters.role}")]}))).await;
    apply(&sandbox, &lease("bound", "bound", masters.clone())).await;
    sandbox.wait_phase("lease/bound", "Active").await;
    let made = sandbox.get("rolebinding/of-bound").await;
    assert_eq!((&made.data["roleRef"]["name"], &made.data["subjects"]), (&json!("view"), &masters["subjects"]));
    apply(&sandbox, &lease("chosen", "chosen", with(masters, json!({"parameters": {"role": "cluster-admin"}})))).await;
    let not_more = "attempting to grant RBAC permissions not currently held";
    let fails = |lease: &DynamicObject| {
        let why = lease.data["status"]["failure"]["message"].as_str().unwrap_or_default();
        phase(lease) == "Acquired" && why.contains("RoleBinding of-chosen: ") && why.contains(not_more)
    };
    sandbox.wait_for("lease/chosen", "told that it may not", fails).await;
    assert!(sandbox.try_get("rolebinding/of-chosen").await.is_none());
    released(&sandbox, "lease/chosen").await;
    let mine = |role: &DynamicObject| role.name_any().contains(sandbox.namespace());
    let all = everywhere(&sandbox, "clusterrolebinding").await.list(&Default::default()).await.unwrap();
    assert_eq!(all.iter().filter(|role| mine(role)).count(), 1, "that of the story");
    holds_throughout(&sandbox).await;
}

/// A kind that the API server answers, but does not keep, would never be seen gone.
#[tokio::test]
async fn what_is_not_kept_is_not_made() {
    let (sandbox, _controller) = alone("rights-reviews").await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {"name": "a"},
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    });
    apply(&sandbox, &blueprint("env", json!({"templates": [map("first"), review]}))).await;
    apply(&sandbox, &lease("a", "env", json!({}))).await;
    let why = "SelfSubjectAccessReview a: the API server keeps no objects of this kind";
    says(&sandbox, "lease/a", "Acquired", "BuildFailing", &[why]).await;
    sandbox.wait_gone("resource/env--0").await;
    assert!(sandbox.try_get("configmap/first").await.is_none(), "what was made before it is removed");
}
