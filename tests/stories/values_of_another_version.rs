//! A newer version has written values into statuses and queues that this one does not know, and was rolled back: what holds such
//! values is kept as it is, commands reach it, it expires, and all of it goes.

use crate::support::{ControlPlane, ControllerProcess, Identity, Sandbox, controller::binary, install};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// The word of the other version.
const WORD: &str = "Hibernating";

/// Lets each enum take one more word, as the definitions of the newer version do.
fn widen(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(words)) = map.get_mut("enum") {
                words.push(json!(WORD));
            }
            map.values_mut().for_each(widen);
        }
        Value::Array(list) => list.iter_mut().for_each(widen),
        _ => {}
    }
}

#[tokio::test]
async fn what_a_newer_version_has_written_still_expires_and_goes() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    install::crds(&plane).await.expect("the definitions are installed");
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.client(Identity::Admin).await);
    for definition in definitions.list(&ListParams::default()).await.unwrap() {
        let mut wider = serde_json::to_value(&definition).unwrap();
        widen(&mut wider["spec"]["versions"]);
        let name = definition.metadata.name.as_deref().unwrap();
        definitions.replace(name, &PostParams::default(), &serde_json::from_value(wider).unwrap()).await.unwrap();
    }
    let sandbox = Sandbox::on(&plane, "another-version").await;
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &[sandbox.namespace()], &[]);
    controller.ready().await;
    let apply = async |yaml: String| drop(sandbox.apply(Identity::Admin, &yaml).await);
    let ids = ["a", "b"];
    apply(crate::told::hosts(2, json!({"lease": {"recycle": "Destroy"}}))).await;
    for id in ids {
        apply(crate::told::lease(id, json!({"ttl": "1h"}))).await;
        sandbox.wait_phase(&format!("lease/{id}"), "Active").await;
    }

    controller.kill9().await;
    let entry = json!({"id": "new", "type": WORD, "outcome": WORD, "observedAt": "2026-01-01T00:00:00Z"});
    let asleep = json!({"name": WORD, "at": "2099-01-01T00:00:00Z"});
    let status = |object: Value| -> Value {
        let mut status = object["status"].clone();
        status["phase"] = json!(WORD);
        status["commands"] = json!([entry]);
        let mut deadlines = status["deadlines"].as_array().cloned().unwrap_or_default();
        deadlines.push(asleep.clone());
        status["deadlines"] = json!(deadlines);
        json!({"status": status})
    };
    let mut objects = ids.map(|id| format!("lease/{id}")).to_vec();
    objects.extend(["resource/pool--h1".to_owned(), "resource/pool--h2".to_owned()]);
    for object in &objects {
        let now = serde_json::to_value(sandbox.get(object).await).unwrap();
        let (kind, name) = object.split_once('/').unwrap();
        let api = sandbox.api(Identity::Admin, kind).await;
        let patch = Patch::Merge(status(now));
        api.patch_status(name, &PatchParams::default(), &patch).await.unwrap_or_else(|e| panic!("{object}: {e}"));
    }
    // In `b` there is something, too, that this version of the command line cannot read.
    sandbox.append(Identity::Admin, "lease/b", json!({"id": "freeze", "type": WORD})).await;
    controller.restart().await;
    controller.ready().await;

    let refused = sandbox.wait_for("lease/b", "told", |lease| crate::told::entry(lease, "freeze").is_some()).await;
    let entry_of = crate::told::entry(&refused, "freeze").unwrap();
    assert_eq!((&entry_of["type"], &entry_of["outcome"]), (&json!(WORD), &json!("Refused")));
    assert!(entry_of["message"].as_str().unwrap().contains(WORD), "{entry_of}");
    assert_eq!(refused.data["status"]["phase"], WORD, "it is left as it is");
    let kept = crate::told::entry(&refused, "new").unwrap();
    assert_eq!((&kept["type"], &kept["outcome"]), (&json!(WORD), &json!(WORD)));
    assert!(refused.data["status"]["deadlines"].as_array().unwrap().iter().any(|d| d["name"] == WORD), "{refused:?}");

    let drydock = async |words: &[&str]| {
        let kubeconfig = plane.kubeconfig(Identity::Admin);
        let mut command = tokio::process::Command::new(binary());
        command.args(words).args(["-n", sandbox.namespace(), "--kubeconfig"]).arg(kubeconfig);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    drydock(&["expires", "lease/a", "--after", "1s"]).await;
    drydock(&["release-lease", "b", "--wait", "--timeout", "60s"]).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(crate::support::sandbox::condition(&over, "Released"), ("True", "Expired"));
    for object in &objects[2..] {
        sandbox.wait_gone(object).await;
    }
    drop((controller, sandbox));
    plane.stop().await.expect("all of it ends");
}
