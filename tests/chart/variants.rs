//! Each file of values in `charts/drydock/ci`: linted, and taken by a real API server to the last field.

use serde_json::{Value, json};

use crate::helm::{chart, get, helm, is_hook, name, template, values, variants};
use crate::support::{ControlPlane, Identity, documents, install, shared};

#[test]
fn helm_finds_nothing_to_complain_of() {
    let chart = chart();
    for file in variants() {
        let values = format!("--values={}", file.display());
        let output = helm(&["lint", "--strict", "--kube-version=1.36.0", &values, &chart], None);
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stdout));
    }
}

/// As much of the kinds of Prometheus' operator as the chart uses, so that a field which they do not have is refused.
const OF_THE_OPERATOR: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: ServiceMonitor, plural: servicemonitors}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              selector: {type: object, properties: {matchLabels: {type: object, additionalProperties: {type: string}}}}
              endpoints:
                type: array
                items: {type: object, properties: {port: {type: string}, path: {type: string}, interval: {type: string}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prometheusrules.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: PrometheusRule, plural: prometheusrules}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              groups:
                type: array
                items:
                  type: object
                  properties:
                    name: {type: string}
                    rules:
                      type: array
                      items:
                        type: object
                        properties:
                          alert: {type: string}
                          expr: {type: string}
                          for: {type: string}
                          labels: {type: object, additionalProperties: {type: string}}
                          annotations: {type: object, additionalProperties: {type: string}}
"#;

async fn admin(plane: &ControlPlane, arguments: &[&str]) -> String {
    plane.run_kubectl(Identity::Admin, arguments).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Applies objects without effect, with every field checked.
async fn dry_run(plane: &ControlPlane, items: Vec<Value>) -> Result<String, String> {
    let strictly = ["--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts"];
    install::apply_with(plane, items, &strictly).await.map_err(|error| error.to_string())
}

/// The Pods that a rendering leads to.
fn pods(rendered: &[Value]) -> Vec<Value> {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "of-the-deployment"}});
    pod["spec"] = get(rendered, "Deployment/drydock")["spec"]["template"]["spec"].clone();
    let mut pods = vec![pod];
    for mut pod in rendered.iter().filter(|object| object["kind"] == "Pod").cloned() {
        pod["metadata"].as_object_mut().unwrap().remove("namespace");
        pods.push(pod);
    }
    pods
}

/// A namespace in which Pods are as restricted as they can be, with the accounts that these need.
async fn restricted(plane: &ControlPlane, accounts: &[&str]) -> &'static str {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "restricted", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    let account = |name: &&str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "restricted"}});
    let items = [namespace].into_iter().chain(accounts.iter().map(account)).collect();
    install::apply_with(plane, items, &["--server-side"]).await.unwrap();
    "restricted"
}

#[tokio::test]
async fn an_api_server_takes_all_that_is_rendered_to_the_last_field() {
    let plane = shared().await;
    install::apply_with(plane, documents(OF_THE_OPERATOR), &["--server-side"]).await.unwrap();
    admin(plane, &["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await;
    for namespace in ["team-a", "team-a-ci", "ci"] {
        admin(plane, &["create", "namespace", namespace]).await;
    }
    let place = restricted(plane, &["drydock", "drydock-account", "drydock-test"]).await;
    for file in variants() {
        let rendered = template(&[&format!("--values={}", file.display())]).unwrap();
        let but_pods = rendered.iter().filter(|object| object["kind"] != "Pod").cloned().collect();
        let taken = dry_run(plane, but_pods).await.unwrap_or_else(|said| panic!("{}: {said}", file.display()));
        assert_eq!(taken.lines().count(), rendered.len() - 1, "{}: {taken}", file.display());
        for mut pod in pods(&rendered) {
            pod["metadata"]["namespace"] = json!(place);
            dry_run(plane, vec![pod]).await.unwrap_or_else(|said| panic!("{}: {said}", file.display()));
        }
    }

    // That is a check: what is wrong is found.
    let rendered = values(json!({"serviceMonitor": {"enabled": true}}));
    for (name, path, wrong, words) in [
        ("Deployment/drydock", "/spec/template/spec/restartPolice", json!("Always"), "restartPolice"),
        (
            "Deployment/drydock",
            "/spec/template/spec/containers/0/ports/0/containerPort",
            json!(99_999),
            "containerPort",
        ),
        ("ServiceMonitor/drydock", "/spec/endpoint", json!([]), "endpoint"),
        (
            "ValidatingAdmissionPolicy/drydock-owner",
            "/spec/validations/0/expression",
            json!("object.who("),
            "expression",
        ),
    ] {
        let mut object = get(&rendered, name).clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = wrong;
        let said = dry_run(plane, vec![object]).await.expect_err(path);
        assert!(said.contains(words), "{path}: {said}");
    }
    let mut pod = pods(&rendered).remove(0);
    pod["metadata"]["namespace"] = json!(place);
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let said = dry_run(plane, vec![pod]).await.expect_err("a Pod of more rights");
    assert!(said.contains("violates PodSecurity \"restricted"), "{said}");
}

/// `install.yaml` is what the chart renders: `make lint` compares them, and this says what is in it.
#[test]
fn install_yaml_has_everything_and_no_test() {
    let text = std::fs::read_to_string(crate::support::leash::repository("install.yaml")).unwrap();
    let kept = documents(&text);
    let values = crate::support::leash::repository("charts/drydock/ci/install-values.yaml");
    let mut rendered = template(&[&format!("--values={}", values.display())]).unwrap();
    rendered.retain(|object| !is_hook(object));
    assert_eq!(kept.iter().map(name).collect::<Vec<_>>(), rendered.iter().map(name).collect::<Vec<_>>());
    assert!(kept == rendered, "run make install");
    // No cluster can pull it, so README puts another in its place.
    let image =
        get(&kept, "Deployment/drydock")["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
    let readme = std::fs::read_to_string(crate::support::leash::repository("README.md")).unwrap();
    assert!(readme.contains(&format!("sed 's#{image}#registry.example.com/")), "README has not {image}");
}
