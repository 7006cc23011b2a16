//! What a build asks of the API server is small: no Blueprint as a whole, and leases only where they can hold the slot.

use crate::{
    effects::Inside,
    objects::{env, lease, map, without_controller},
    tap::Notes,
    told::{apply, holds_throughout},
};
use serde_json::json;

#[tokio::test]
async fn a_build_reads_no_whole_blueprint_and_lists_leases_by_slot_and_phase() {
    let (sandbox, _things) = without_controller("reads-little").await;
    let notes = Notes::new();
    let _inside = Inside::through(&sandbox, notes.way()).await;
    let objects = json!({"templates": [map("${resource.metadata.name}", json!({}))]});
    apply(&sandbox, &env(objects, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;

    let requests = notes.requests();
    let of_blueprint: Vec<_> =
        requests.iter().filter(|r| r.starts_with("GET") && r.contains("/blueprints/env")).collect();
    assert!(!of_blueprint.is_empty(), "R1: it is read from the API server itself");
    let whole: Vec<_> = of_blueprint.iter().filter(|r| !r.contains("as=PartialObjectMetadata")).collect();
    assert!(whole.is_empty(), "{whole:?}");
    let of_slot: Vec<_> =
        requests.iter().filter(|r| r.contains("/leases?") && r.contains("resourceRef.name")).collect();
    assert!(!of_slot.is_empty(), "R2: leases that hold the slot are looked for");
    let own = format!("/namespaces/{}/leases?", sandbox.namespace());
    for request in of_slot {
        let wanted = [own.as_str(), "limit=", "status.phase%21%3DDestroyed"];
        assert!(wanted.iter().all(|part| request.contains(part)), "{request}");
    }
    holds_throughout(&sandbox).await;
}
