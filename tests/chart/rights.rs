//! The controller has no right that it does not use, by what API servers have written down while the stories were told.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::values;
use crate::support::credentials::CONTROLLER_ACCOUNT;

/// A verb, a group of the API, and a resource of it with its subresource: `update drydock.dev leases/status`.
fn right(verb: &str, group: &str, resource: &str) -> String {
    format!("{verb} {group} {resource}")
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What the roles of the controller allow, as the chart renders them by default.
fn given() -> BTreeSet<String> {
    let mut given = BTreeSet::new();
    for role in values(serde_json::json!({})) {
        let of_the_controller =
            ["drydock-controller", "drydock-leader-election", "drydock-impersonator", "drydock-key"].map(Value::from);
        if !["ClusterRole", "Role"].map(Value::from).contains(&role["kind"])
            || !of_the_controller.contains(&role["metadata"]["name"])
        {
            continue;
        }
        for rule in role["rules"].as_array().unwrap() {
            for (group, resource) in
                texts(&rule["apiGroups"]).flat_map(|g| texts(&rule["resources"]).map(move |r| (g, r)))
            {
                given.extend(texts(&rule["verbs"]).map(|verb| right(verb, group, resource)));
            }
        }
    }
    given
}

/// What one request needs of its sender's rights, where that is the controller.
fn needed(event: &Value) -> Option<String> {
    let (namespace, name) = CONTROLLER_ACCOUNT;
    if event["user"]["username"] != format!("system:serviceaccount:{namespace}:{name}") {
        return None;
    }
    if event["impersonatedUser"].is_object() {
        return Some(right("impersonate", "", "serviceaccounts"));
    }
    let asked = &event["objectRef"];
    let resource = asked["resource"].as_str()?;
    let resource = asked["subresource"].as_str().map_or(resource.to_owned(), |sub| format!("{resource}/{sub}"));
    Some(right(event["verb"].as_str()?, asked["apiGroup"].as_str().unwrap_or_default(), &resource))
}

#[test]
#[ignore = "needs what the stories' API servers have written down: make rights"]
fn the_controller_has_no_right_that_it_does_not_use() {
    let logs = std::env::var_os("DRYDOCK_AUDIT").expect("DRYDOCK_AUDIT names the folder of the logs");
    let mut used = BTreeSet::new();
    for log in std::fs::read_dir(logs).unwrap() {
        let text = std::fs::read_to_string(log.unwrap().path()).unwrap();
        // The last line may be cut off, where its server was killed.
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        used.extend(events.filter_map(|event| needed(&event)));
    }
    let given = given();
    assert!(given.contains("update drydock.dev leases/status"), "{given:?}");
    let unused: Vec<_> = given.difference(&used).collect();
    assert!(unused.is_empty(), "given, and never used: {unused:?}\nused: {used:?}");
}
