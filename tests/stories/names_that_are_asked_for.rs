//! Names that others choose: a host leased by its name, the selector that an autoscaler asks the scale subresource for, and users
//! whose names are as long as their identity provider makes them.

use crate::{
    people::Person,
    support::{Identity, sandbox::refusal},
    told::{alone, apply, bound_to, hosts, lease, outcome},
};
use kube::{Api, api::DynamicObject};
use serde_json::{Value, json};

#[tokio::test]
async fn a_host_is_leased_by_its_name() {
    let (sandbox, _controller) = alone("by-name").await;
    // Whoever writes the inventory cannot give one host another's name.
    let forged = json!([
        {"name": "a", "attributes": {"drydock.dev/name": "b"}}, {"name": "b"}, {"name": "c", "attributes": {"arch": "arm64"}},
    ]);
    apply(&sandbox, &hosts(0, json!({"driver": {"hosts": {"inventory": forged}}}))).await;
    for name in ["c", "a", "b"] {
        let selector = json!({"selector": {"matchLabels": {"drydock.dev/name": name}}});
        apply(&sandbox, &lease(&format!("wants-{name}"), selector)).await;
        let active = sandbox.wait_phase(&format!("lease/wants-{name}"), "Active").await;
        assert_eq!(bound_to(&active), format!("pool--{name}"));
    }
}

#[tokio::test]
async fn the_scale_subresource_has_a_selector() {
    let (sandbox, _controller) = alone("scale").await;
    apply(&sandbox, &hosts(2, json!({"limits": {"minReady": 2}}))).await;
    let told = |pool: &DynamicObject| pool.data["status"]["resources"]["idle"] == 2;
    sandbox.wait_for("blueprint/pool", "two idle hosts", told).await;
    let api: Api<DynamicObject> = sandbox.api(Identity::Admin, "blueprint").await;
    let scale = api.get_scale("pool").await.unwrap();
    let status = scale.status.unwrap();
    assert_eq!(status.replicas, 2);
    // What it selects is what is counted.
    let client = sandbox.client(Identity::Admin).await;
    let resources: Api<DynamicObject> =
        Api::namespaced_with(client, sandbox.namespace(), &crate::support::sandbox::resource_of("resource"));
    let selected = kube::api::ListParams::default().labels(&status.selector.unwrap());
    assert_eq!(resources.list_metadata(&selected).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_command_is_stamped_with_whatever_name_its_user_has() {
    let (sandbox, _controller) = alone("user-names").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let longest = "u".repeat(1024);
    let users = [
        ("ascii", "https://issuer.example.com#Jane Doe (QA), \"jane\" <jane+ci@example.com>".to_owned()),
        ("long", longest.clone()),
        ("longer", format!("{longest}beyond")),
    ];
    for (id, user) in &users {
        let person = Person::named(&sandbox, user).await.may(&sandbox, &["get", "patch"], &["leases"]).await;
        let add =
            json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": id, "type": "Expires", "after": "1h"}}]);
        let patch: kube::api::Patch<Value> = kube::api::Patch::Json(serde_json::from_value(add).unwrap());
        let patched = person.api("lease").patch("a", &Default::default(), &patch).await.unwrap();
        let commands = patched.data["spec"]["commands"].as_array().unwrap().clone();
        let stamped = &commands.iter().find(|command| command["id"] == *id).unwrap()["issuedBy"];
        assert_eq!(stamped.as_str().unwrap(), user.chars().take(1024).collect::<String>());
        assert_eq!(outcome(&sandbox, "lease/a", id).await.0, "Applied");
    }
    // Somebody whose name begins as another's is cut is still not taken for them where the whole name fits.
    let forged = json!([{"op": "add", "path": "/spec/commands/-",
        "value": {"id": "forged", "type": "Release", "issuedBy": longest}}]);
    let patch: kube::api::Patch<Value> = kube::api::Patch::Json(serde_json::from_value(forged).unwrap());
    let admin: Api<DynamicObject> = sandbox.api(Identity::Admin, "lease").await;
    let said = refusal(admin.patch("a", &Default::default(), &patch).await);
    assert!(said.contains("but you are admin; leave issuedBy out"), "{said}");
}
