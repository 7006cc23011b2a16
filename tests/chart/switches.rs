//! What each switch changes in what is rendered.

use serde_json::{Value, json};

use crate::helm::{find, get, is_hook, names, template, values};

/// The container of the controller.
fn container(rendered: &[Value]) -> &Value {
    &get(rendered, "Deployment/drydock")["spec"]["template"]["spec"]["containers"][0]
}

fn has_flag(rendered: &[Value], flag: &str) -> bool {
    container(rendered)["args"].as_array().unwrap().iter().any(|argument| argument == flag)
}

fn of_kind<'r>(rendered: &'r [Value], kind: &'r str) -> impl Iterator<Item = &'r Value> {
    rendered.iter().filter(move |object| object["kind"] == kind && !is_hook(object))
}

/// The verbs that a role gives for a resource.
fn verbs(role: &Value, resource: &str) -> Vec<String> {
    let rules = role["rules"].as_array().unwrap().iter();
    let of = rules.filter(|rule| rule["resources"].as_array().unwrap().iter().any(|r| r == resource));
    of.flat_map(|rule| rule["verbs"].as_array().unwrap()).map(|verb| verb.as_str().unwrap().to_owned()).collect()
}

#[test]
fn by_default_one_controller_for_the_whole_cluster() {
    let rendered = template(&[]).unwrap();
    let deployment = get(&rendered, "Deployment/drydock");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert!(deployment["spec"]["template"]["spec"].get("topologySpreadConstraints").is_none());
    assert!(!has_flag(&rendered, "--leader-elect"));
    for absent in ["PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ConfigMap", "Namespace"]
    {
        assert_eq!(of_kind(&rendered, absent).count(), 0, "{absent}");
    }
    let role = get(&rendered, "ClusterRole/drydock-controller");
    assert_eq!(verbs(role, "leases/status"), ["update"]);
    assert!(!verbs(role, "serviceaccounts").contains(&"impersonate".to_owned()));
    get(&rendered, "ClusterRoleBinding/drydock-controller");
    // The right to act as accounts is there to be bound, and bound nowhere.
    assert_eq!(verbs(get(&rendered, "ClusterRole/drydock-impersonator"), "serviceaccounts"), ["impersonate"]);
    let bound = rendered.iter().filter(|object| object["roleRef"]["name"] == "drydock-impersonator");
    assert_eq!(bound.count(), 0);
}

#[test]
fn no_role_has_a_wildcard_and_none_for_people_writes_a_status() {
    for values_of in [json!({}), json!({"watch": {"namespaces": ["a"]}, "impersonation": {"namespaces": ["a"]}})] {
        for role in values(values_of).iter().filter(|o| o["kind"].as_str().unwrap().ends_with("Role")) {
            assert!(!role["rules"].to_string().contains('*'), "{role}");
            let name = role["metadata"]["name"].as_str().unwrap();
            if ["drydock-viewer", "drydock-requestor", "drydock-operator"].contains(&name) {
                let rules = role["rules"].to_string();
                for never in ["/status", "/finalizers", "secrets", "impersonate", "escalate", "bind"] {
                    assert!(!rules.contains(never), "{name}: {never}");
                }
            }
        }
    }
}

#[test]
fn the_namespace_of_the_release_is_shared() {
    for (listed, flag) in [
        (json!([]), "drydock-system"),
        (json!(["pools"]), "drydock-system,pools"),
        (json!(["pools", "drydock-system"]), "drydock-system,pools"),
        (json!(["pools", "*"]), "*"),
    ] {
        let flag = format!("--shared-namespaces={flag}");
        assert!(has_flag(&values(json!({"sharedNamespaces": listed})), &flag), "{listed}");
    }
}

#[test]
fn the_pod_is_as_restricted_as_pods_can_be() {
    for values_of in [json!({}), json!({"runAsUser": null, "replicas": 3})] {
        let rendered = values(values_of.clone());
        let pods = [
            &get(&rendered, "Deployment/drydock")["spec"]["template"]["spec"],
            &get(&rendered, "Pod/drydock-test")["spec"],
        ];
        for pod in pods {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(pod["securityContext"].get("runAsUser").is_some(), values_of.get("runAsUser").is_none());
            let containers = ["containers", "initContainers"].map(|field| pod[field].as_array().cloned());
            for container in containers.into_iter().flatten().flatten() {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false);
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
}

#[test]
fn with_several_replicas_one_is_elected_and_they_are_kept_apart() {
    let rendered = values(json!({"replicas": 3}));
    assert!(has_flag(&rendered, "--leader-elect"));
    assert!(has_flag(&rendered, "--leader-election-namespace=drydock-system"));
    let budget = get(&rendered, "PodDisruptionBudget/drydock");
    let pods = &get(&rendered, "Deployment/drydock")["spec"]["template"];
    let selects = |selector: &Value| {
        let labels = selector["matchLabels"].as_object().unwrap();
        labels.iter().all(|(label, value)| pods["metadata"]["labels"][label] == *value)
    };
    assert!(selects(&budget["spec"]["selector"]) && budget["spec"]["maxUnavailable"] == 1);
    let spread = pods["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert!(spread.len() == 2 && spread.iter().all(|constraint| selects(&constraint["labelSelector"])));
    let role = get(&rendered, "Role/drydock-leader-election");
    assert_eq!(role["metadata"]["namespace"], "drydock-system");
    let own = json!([{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]);
    let rendered = values(json!({"replicas": 2, "topologySpreadConstraints": own}));
    assert_eq!(get(&rendered, "Deployment/drydock")["spec"]["template"]["spec"]["topologySpreadConstraints"], own);
}

#[test]
fn with_a_list_of_namespaces_nothing_belongs_to_the_cluster() {
    let rendered = values(json!({
        "watch": {"namespaces": ["a", "b"]}, "impersonation": {"namespaces": ["b"]},
        "crds": {"install": false}, "policies": {"install": false}, "rbac": {"userRoles": false},
    }));
    assert!(has_flag(&rendered, "--namespaces=a,b"));
    for object in &rendered {
        assert!(object["metadata"]["namespace"].is_string(), "{} belongs to the cluster", crate::helm::name(object));
    }
    let places = |kind: &str, name: &str| {
        let named = of_kind(&rendered, kind).filter(|object| object["metadata"]["name"] == name);
        named.map(|object| object["metadata"]["namespace"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for kind in ["Role", "RoleBinding"] {
        assert_eq!(places(kind, "drydock-controller"), ["a", "b"]);
        assert_eq!(places(kind, "drydock-impersonator"), ["b"]);
    }
    // helm's test leases where the controller looks.
    for object in rendered.iter().filter(|object| is_hook(object)) {
        assert_eq!(object["metadata"]["namespace"], "a");
    }
}

#[test]
fn impersonation_is_bound_where_it_is_asked_for() {
    let listed = values(json!({"impersonation": {"namespaces": ["ci"]}}));
    let binding = get(&listed, "RoleBinding/drydock-impersonator");
    assert_eq!(binding["metadata"]["namespace"], "ci");
    assert_eq!(binding["roleRef"]["kind"], "ClusterRole");
    assert!(find(&listed, "ClusterRoleBinding/drydock-impersonator").is_none());
    let everywhere = values(json!({"impersonation": {"clusterWide": true, "namespaces": ["ci"]}}));
    get(&everywhere, "ClusterRoleBinding/drydock-impersonator");
    assert!(find(&everywhere, "RoleBinding/drydock-impersonator").is_none());
}

#[test]
fn the_kinds_are_those_of_the_repository_and_stay() {
    for (values_of, keep) in [(json!({}), json!("keep")), (json!({"crds": {"keep": false}}), json!(null))] {
        let rendered = values(values_of);
        let kinds: Vec<&Value> = of_kind(&rendered, "CustomResourceDefinition").collect();
        assert_eq!(kinds.len(), 3);
        for kind in kinds {
            let mut kind = kind.clone();
            assert_eq!(kind["metadata"]["annotations"]["helm.sh/resource-policy"], keep);
            kind["metadata"].as_object_mut().unwrap().remove("annotations");
            let file = format!("crds/drydock.dev_{}.yaml", kind["spec"]["names"]["plural"].as_str().unwrap());
            let file = std::fs::read_to_string(crate::support::leash::repository(&file)).unwrap();
            assert_eq!(kind, crate::support::documents(&file)[0]);
        }
    }
    assert_eq!(of_kind(&values(json!({"crds": {"install": false}})), "CustomResourceDefinition").count(), 0);
}

#[test]
fn the_mutating_policies_are_there_where_the_cluster_has_them() {
    let mutating = |arguments: &[&str]| of_kind(&template(arguments).unwrap(), "MutatingAdmissionPolicy").count();
    let has = "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    assert_eq!(mutating(&[]), 0);
    assert_eq!(mutating(&[has]), 4);
    assert_eq!(mutating(&[has, "--set=policies.mutating=never"]), 0);
    assert_eq!(mutating(&["--set=policies.mutating=always"]), 4);
    let none = values(json!({"policies": {"install": false, "mutating": "always", "ownerOnly": true}}));
    assert!(!names(&none).iter().any(|name| name.contains("AdmissionPolicy")), "{:?}", names(&none));
    // Each is bound, and refuses.
    let all = values(json!({"policies": {"mutating": "always", "ownerOnly": true}}));
    for kind in ["MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"] {
        for policy in of_kind(&all, kind) {
            let name = policy["metadata"]["name"].as_str().unwrap();
            let binding = get(&all, &format!("{kind}Binding/{name}")).clone();
            assert_eq!(binding["spec"]["policyName"], name);
            assert_eq!(policy["spec"]["failurePolicy"], "Fail");
            assert_eq!(kind == "ValidatingAdmissionPolicy", binding["spec"]["validationActions"] == json!(["Deny"]));
        }
    }
}

#[test]
fn policies_know_the_controller_by_its_account_and_those_who_break_the_glass() {
    let conditions = |values_of: Value, policy: &str| {
        let rendered = values(values_of);
        get(&rendered, &format!("ValidatingAdmissionPolicy/{policy}"))["spec"]["matchConditions"].to_string()
    };
    let named = json!({"serviceAccount": {"name": "captain"}, "policies": {"moreControllers": ["system:serviceaccount:b:drydock"]}});
    let one_writer = conditions(named, "drydock-one-writer");
    for user in
        ["'system:serviceaccount:drydock-system:captain'", "'system:serviceaccount:b:drydock'", "'drydock:break-glass'"]
    {
        assert!(one_writer.contains(user), "{user} in {one_writer}");
    }
    let asks_for_a_token = |on: bool| {
        let condition = conditions(json!({"policies": {"tokensOnly": on}}), "drydock-one-writer");
        condition.contains("authentication.kubernetes.io/credential-id")
    };
    assert!(asks_for_a_token(true) && !asks_for_a_token(false));
    for policy in ["drydock-one-writer", "drydock-teardown", "drydock-owner", "drydock-labels"] {
        assert!(conditions(json!({}), policy).contains("'drydock:break-glass'"), "{policy}");
        assert!(!conditions(json!({"policies": {"breakGlassGroup": ""}}), policy).contains("glass"), "{policy}");
    }
    // Those who break it forge nobody's name all the same, and gain no account's rights.
    for policy in ["drydock-commands", "drydock-service-account"] {
        assert!(!conditions(json!({}), policy).contains("glass"), "{policy}");
    }
    let owner_only = |on: bool| {
        let rendered = values(json!({"policies": {"ownerOnly": on}}));
        find(&rendered, "ValidatingAdmissionPolicy/drydock-owner-only").is_some()
    };
    assert!(owner_only(true) && !owner_only(false));
}

#[test]
fn a_second_release_has_names_of_its_own() {
    let chart = crate::helm::chart();
    let output = crate::helm::helm(
        &[
            "template",
            "team",
            &chart,
            "--kube-version=1.36.0",
            "--set=policies.install=false,crds.install=false,rbac.userRoles=false",
        ],
        None,
    );
    let second = crate::support::documents(&String::from_utf8(output.stdout).unwrap());
    let first = template(&[]).unwrap();
    // Each elects one of its own, also where both are in one namespace.
    for (rendered, release) in [(&first, "drydock"), (&second, "team-drydock")] {
        let election = format!("{release}-controller");
        let container = &get(rendered, &format!("Deployment/{release}"))["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        assert!(arguments.contains(&json!(format!("--leader-election-name={election}"))), "{arguments:?}");
        let role = get(rendered, &format!("Role/{release}-leader-election"));
        assert_eq!(role["rules"][1]["resourceNames"], json!([election]));
    }
    assert!(second.len() > 5);
    for name in names(&second) {
        assert!(!names(&first).contains(&name), "{name}");
    }
}

#[test]
fn what_observes_it_selects_it() {
    let rendered = values(json!({
        "serviceMonitor": {"enabled": true, "labels": {"release": "p"}}, "prometheusRule": {"enabled": true},
        "dashboard": {"enabled": true}, "networkPolicy": {"enabled": true},
    }));
    let labels = &get(&rendered, "Service/drydock-metrics")["metadata"]["labels"];
    let monitor = get(&rendered, "ServiceMonitor/drydock");
    assert_eq!(monitor["metadata"]["labels"]["release"], "p");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[label], value);
    }
    let pods = &get(&rendered, "Deployment/drydock")["spec"]["template"]["metadata"]["labels"];
    let selectors = [
        &get(&rendered, "Service/drydock-metrics")["spec"]["selector"],
        &get(&rendered, "NetworkPolicy/drydock")["spec"]["podSelector"]["matchLabels"],
        &get(&rendered, "Deployment/drydock")["spec"]["selector"]["matchLabels"],
    ];
    for selector in selectors {
        assert!(selector.as_object().unwrap().iter().all(|(label, value)| &pods[label] == value), "{selector}");
    }
    // helm's test Pod is none of the controllers.
    let test = &get(&rendered, "Pod/drydock-test")["metadata"]["labels"];
    assert!(!selectors[0].as_object().unwrap().iter().all(|(label, value)| &test[label] == value));
    let dashboard = &get(&rendered, "ConfigMap/drydock-dashboard")["data"]["drydock.json"];
    let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= 8);
    let rules = get(&rendered, "PrometheusRule/drydock")["spec"]["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        assert!(summary.contains("{{ $") == summary.contains("}}") && rule["for"].is_string(), "{rule}");
    }
}

#[test]
fn alerts_are_told_when_values_say_and_of_each_kind_that_nobody_looks_after() {
    let rule = |values_of: Value, alert: &str| {
        let rendered = values(values_of);
        let rules = get(&rendered, "PrometheusRule/drydock")["spec"]["groups"][0]["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["alert"] == alert).unwrap().clone()
    };
    // What counts is `for`; were it the range of the expression too, it would be told after twice as long.
    let slow = json!({"prometheusRule": {"enabled": true, "after": {"queueNotMoving": "2h"}}});
    let slow = rule(slow, "DrydockQueueNotMoving");
    assert_eq!(slow["for"], "2h");
    let expression = slow["expr"].as_str().unwrap();
    assert!(expression.contains("increase(drydock_grants_total[5m])") && !expression.contains("2h"), "{expression}");

    // Of series that only a controller has which has seen the kind: tests/stories say so.
    let down = |namespaces: Value| {
        let down =
            rule(json!({"prometheusRule": {"enabled": true}, "watch": {"namespaces": namespaces}}), "DrydockDown");
        down["expr"].as_str().unwrap().split(" or ").map(str::to_owned).collect::<Vec<_>>()
    };
    let absent = |kind: &str, scope: &str| {
        format!(r#"absent(drydock_watch_last_ok_timestamp_seconds{{kind="{kind}",scope="{scope}"}})"#)
    };
    let kinds = ["leases", "resources", "blueprints"];
    assert_eq!(down(json!([])), kinds.map(|kind| absent(kind, "all namespaces")));
    let two = ["a", "b"].map(|scope| kinds.map(|kind| absent(kind, scope))).concat();
    assert_eq!(down(json!(["a", "b"])), two);
}
