//! Values that the schema refuses, or the templates, and what is said of them.

use serde_json::{Value, json};

use crate::helm::{template, try_values};

#[test]
fn a_value_that_is_unknown_or_wrong_is_refused_by_its_name() {
    let cases: [(Value, &str); 34] = [
        (json!({"replica": 2}), "replica"),
        (json!({"replicas": -1}), "replicas"),
        (json!({"replicas": "two"}), "replicas"),
        (json!({"image": {"name": "drydock"}}), "image"),
        (json!({"image": {"tag": "a b"}}), "image"),
        (json!({"image": {"digest": "sha256:1"}}), "image"),
        (json!({"image": {"pullPolicy": "Sometimes"}}), "image"),
        (json!({"image": {"repository": ""}}), "image"),
        (json!({"imagePullSecrets": ["registry"]}), "imagePullSecrets"),
        (json!({"watch": {"namespaces": ["Team_A"]}}), "watch"),
        (json!({"watch": {"namespaces": ["a", "a"]}}), "watch"),
        (json!({"watch": {"namespace": "a"}}), "watch"),
        (json!({"sharedNamespaces": ["a*"]}), "sharedNamespaces"),
        (json!({"impersonation": {"everywhere": true}}), "impersonation"),
        (json!({"log": {"format": "xml"}}), "log"),
        (json!({"http": {"port": 80}}), "http"),
        (json!({"http": {"address": "example.com"}}), "http"),
        // Where no probe of kubelet comes to.
        (json!({"http": {"address": "127.0.0.1"}}), "http"),
        (json!({"http": {"address": "[::1]"}}), "http"),
        (json!({"http": {"address": "[0:0:0:0:0:0:0:1]"}}), "http"),
        (json!({"extraArgs": ["leader-elect"]}), "extraArgs"),
        (json!({"crds": {"install": "yes"}}), "crds"),
        (json!({"policies": {"mutating": true}}), "policies"),
        (json!({"policies": {"breakGlassGroup": "it's"}}), "policies"),
        (json!({"policies": {"moreControllers": ["a' || 'b"]}}), "policies"),
        (json!({"runAsUser": 0}), "runAsUser"),
        (json!({"terminationGracePeriodSeconds": 5}), "terminationGracePeriodSeconds"),
        (json!({"podLabels": {"a": 1}}), "podLabels"),
        // The Deployment would not find its Pods.
        (json!({"podLabels": {"app.kubernetes.io/name": "other"}}), "podLabels"),
        (json!({"serviceMonitor": {"interval": "often"}}), "serviceMonitor"),
        (json!({"prometheusRule": {"after": {"never": "5m"}}}), "prometheusRule"),
        (json!({"dashboard": {"folder": "x"}}), "dashboard"),
        (json!({"networkPolicy": {"apiServerPorts": []}}), "networkPolicy"),
        (json!({"rbac": {"create": null, "clusterAdmin": true}}), "rbac"),
    ];
    for (wrong, field) in cases {
        let said = try_values(&wrong).expect_err(&wrong.to_string());
        let schema = said.contains("values don't meet the specifications of the schema");
        assert!(schema && said.contains(field), "{wrong}: {said}");
    }
}

#[test]
fn values_that_contradict_one_another_are_refused_with_what_to_do() {
    for (wrong, words) in [
        (
            json!({"watch": {"namespaces": ["a"]}, "impersonation": {"clusterWide": true}}),
            "impersonation.clusterWide: with watch.namespaces the controller has no right beyond them; list namespaces in impersonation.namespaces",
        ),
        (
            json!({"watch": {"namespaces": ["a"]}, "impersonation": {"namespaces": ["b"]}}),
            "impersonation.namespaces: b is not in watch.namespaces; add it there, or take it out here",
        ),
        (
            json!({"extraArgs": ["--leader-elect"], "replicas": 2}),
            "extraArgs: --leader-elect is given by the chart already, from the value replicas; take it out here",
        ),
        (
            json!({"extraArgs": ["--log-level=debug"]}),
            "extraArgs: --log-level is given by the chart already, from the value log.level; take it out here",
        ),
        (
            json!({"extraArgs": ["--leader-election-name=mine"]}),
            "extraArgs: --leader-election-name is given by the chart already; take it out here",
        ),
        (
            json!({"rbac": {"create": false}, "impersonation": {"namespaces": ["a"]}}),
            "impersonation: with rbac.create=false the chart gives no right; leave it out, and give the controller's account the verb impersonate by hand",
        ),
        (
            json!({"serviceAccount": {"create": false}}),
            "serviceAccount.name: name the account that is there, or set serviceAccount.create",
        ),
    ] {
        let said = try_values(&wrong).expect_err(&wrong.to_string());
        assert!(said.contains(words), "{wrong}: {said}");
    }
}

#[test]
fn a_cluster_that_is_too_old_is_refused() {
    let said = template(&["--kube-version=1.32.9"]).expect_err("1.32 is too old");
    assert!(said.contains(">=1.33.0-0") && said.contains("1.32.9"), "{said}");
    for version in ["1.33.0", "1.34.3-eks-1", "1.36.0"] {
        assert!(template(&[&format!("--kube-version={version}")]).is_ok(), "{version}");
    }
}

#[test]
fn what_looks_wrong_and_is_not_is_taken() {
    for right in [
        json!({"extraArgs": ["--leader-elect"]}),
        json!({"http": {"address": "[::]"}}),
        json!({"http": {"address": "[2001:db8::1]"}}),
        json!({"http": {"address": "10.127.0.1"}}),
        json!({"podLabels": {"app.kubernetes.io/part-of": "platform"}}),
        json!({"rbac": {"create": false}}),
        // YAML would read a map here, and a comment there.
        json!({"log": {"level": "drydock[pass{kind: lease}]=debug #1"}}),
    ] {
        let rendered = try_values(&right).unwrap_or_else(|said| panic!("{right}: {said}"));
        let deployment = crate::helm::get(&rendered, "Deployment/drydock");
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        assert!(arguments.iter().all(Value::is_string), "{right}: {arguments:?}");
        if let Some(level) = right["log"]["level"].as_str() {
            assert!(arguments.contains(&json!(format!("--log-level={level}"))), "{arguments:?}");
        }
    }
}
