//! Events, as api.md has them in section 7: every Warning; of Normal ones only Active, Released and Destroyed on the lease.

use crate::{
    support::{Identity, Rights, Sandbox},
    told::{alone, apply, command, hosts, lease, outcome, pool},
};
use futures::StreamExt as _;
use kube::{
    Api,
    api::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        watcher::{Config, watcher},
    },
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

/// Waits until an object has an Event of this reason, and gives all that it has, the oldest first: type, reason, message.
async fn events(sandbox: &Sandbox<'_>, object: &str, last: &str) -> Vec<(String, String, String)> {
    let (kind, name) = object.split_once('/').unwrap();
    let api: Api<DynamicObject> = sandbox.api(Identity::Admin, "event").await;
    let config = Config::default().fields(&format!("involvedObject.name={name}"));
    let mut seen: BTreeMap<String, (String, String, String)> = BTreeMap::new();
    let watch = async {
        let mut events = watcher(api, config).default_backoff().applied_objects().boxed();
        while let Some(event) = events.next().await {
            let Ok(event) = event else { continue };
            let text = |path: &str| event.data.pointer(path).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            if !text("/involvedObject/kind").eq_ignore_ascii_case(kind) {
                continue;
            }
            assert_eq!(text("/reportingComponent"), "drydock.dev/controller", "{event:?}");
            assert_eq!(text("/involvedObject/apiVersion"), "drydock.dev/v1alpha1");
            assert_ne!(text("/involvedObject/uid"), "");
            let reason = text("/reason");
            seen.insert(text("/eventTime"), (text("/type"), reason.clone(), text("/message")));
            if reason == last {
                return;
            }
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), watch).await;
    assert!(done.is_ok(), "{object} has no Event {last}: {seen:?}");
    seen.into_values().collect()
}

fn types_and_reasons(events: &[(String, String, String)]) -> Vec<(&str, &str)> {
    events.iter().map(|(type_, reason, _)| (type_.as_str(), reason.as_str())).collect()
}

#[tokio::test]
async fn a_lease_has_events_when_it_is_active_released_and_destroyed_and_what_is_refused_is_a_warning() {
    let (sandbox, _controller) = alone("events").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    apply(&sandbox, &hosts(1, json!({"lease": {"maxTTL": "2h"}}))).await;
    apply(&sandbox, &lease("x", json!({"ttl": "1h"}))).await;
    sandbox.wait_phase("lease/x", "Active").await;
    // What is applied or ignored needs no Event: it is in the ledger.
    for (id, after, expected) in [("e1", "90m", "Applied"), ("e2", "9h", "Refused")] {
        command(&sandbox, "lease/x", json!({"id": id, "type": "Expires", "after": after})).await;
        assert_eq!(outcome(&sandbox, "lease/x", id).await.0, expected);
    }
    sandbox.patch(Identity::Alice, "lease/x", json!({"spec": {"expiresAt": "2100-01-01T00:00:00Z"}})).await;
    sandbox.wait_for("lease/x", "aware of the edit", |l| l.data["status"]["expirySeen"].is_string()).await;
    for (id, hold) in [("r1", "10m"), ("r2", "1m")] {
        command(&sandbox, "lease/x", json!({"id": id, "type": "Release", "hold": hold})).await;
        outcome(&sandbox, "lease/x", id).await;
    }
    command(&sandbox, "lease/x", json!({"id": "r3", "type": "Release"})).await;
    let events = events(&sandbox, "lease/x", "Destroyed").await;
    let expected = [
        ("Normal", "Active"),
        ("Warning", "CommandRefused"),
        ("Warning", "EditNotGranted"),
        ("Normal", "Released"),
        ("Normal", "Destroyed"),
    ];
    assert_eq!(types_and_reasons(&events), expected, "{events:?}");
    let message = |n: usize| events[n].2.as_str();
    assert_eq!(message(0), "on Resource pool--h1");
    assert!(message(1).starts_with("Expires e2: ") && message(1).contains("beyond lease.maxTTL"), "{}", message(1));
    assert!(message(2).contains("cut to lease.maxTTL of the Blueprint"), "{}", message(2));
    assert_eq!(message(3), "Released: by admin");

    // A user finds them where Kubernetes users look.
    let describe = ["describe", "dlease", "x", "-n", sandbox.namespace()];
    let said = sandbox.plane().run_kubectl(Identity::Alice, &describe).await.expect("it is described");
    let shown = said.split_once("\nEvents:").map_or("", |(_, events)| events);
    assert!(expected.iter().all(|(_, reason)| shown.contains(reason)), "{said}");
}

#[tokio::test]
async fn a_lease_that_nobody_served_has_no_event_but_of_its_end() {
    let (sandbox, _controller) = alone("events-unserved").await;
    apply(&sandbox, &lease("x", json!({"queueTimeout": "1s"}))).await;
    let events = events(&sandbox, "lease/x", "Destroyed").await;
    assert_eq!(types_and_reasons(&events), [("Normal", "Released"), ("Normal", "Destroyed")], "{events:?}");
    assert!(events[0].2.starts_with("QueueTimeout: "), "{events:?}");
}

#[tokio::test]
async fn of_a_resource_and_a_blueprint_there_are_warnings_only() {
    let (sandbox, _controller) = alone("events-warnings").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("x", json!({}))).await;
    sandbox.wait_phase("lease/x", "Active").await;
    command(&sandbox, "resource/pool--h1", json!({"id": "c1", "type": "Reclaim"})).await;
    let on_resource = events(&sandbox, "resource/pool--h1", "CommandRefused").await;
    assert_eq!(types_and_reasons(&on_resource), [("Warning", "CommandRefused")], "{on_resource:?}");
    assert_eq!(on_resource[0].2, "Reclaim c1: it is held by 1 leases; append Release to end them");

    // The machine of another: `zone` comes after `pool`, also where both are made in one second.
    apply(&sandbox, &pool("zone", 1, json!({}))).await;
    let on_blueprint = events(&sandbox, "blueprint/zone", "HostTaken").await;
    assert_eq!(types_and_reasons(&on_blueprint), [("Warning", "HostTaken")], "{on_blueprint:?}");

    command(&sandbox, "resource/pool--h1", json!({"id": "c2", "type": "Release"})).await;
    sandbox.wait_gone("resource/pool--h1").await;
    // The lease's last Event comes after all of the resource's, for there is but one queue.
    events(&sandbox, "lease/x", "Destroyed").await;
    let on_resource = events(&sandbox, "resource/pool--h1", "CommandRefused").await;
    assert_eq!(types_and_reasons(&on_resource), [("Warning", "CommandRefused")], "{on_resource:?}");
}

/// The API server bounds a note by bytes and a name by 253 characters; what is longer would be refused, and lost.
#[tokio::test]
async fn an_event_is_published_however_long_its_texts_are() {
    let (sandbox, _controller) = alone("long-events").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let name = "n".repeat(253);
    apply(&sandbox, &lease(&name, json!({}))).await;
    let object = format!("lease/{name}");
    sandbox.wait_phase(&object, "Active").await;
    let reason = "界".repeat(256);
    command(&sandbox, &object, json!({"id": "r", "type": "Release", "reason": reason})).await;
    let seen = events(&sandbox, &object, "Released").await;
    let (_, _, note) = seen.iter().find(|(_, reason, _)| reason == "Released").unwrap();
    assert!(note.contains("界界界"), "{note}");
}
