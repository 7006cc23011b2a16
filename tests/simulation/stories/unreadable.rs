//! An object that no controller can read is in nobody's way, neither in a watch nor in a list. That it can be deleted is shown on the
//! real server.

use super::{HERE, LATE, clock, lease_reason, on_time, told};
use crate::journal::Kind;
use drydock::api::{Blueprint, DeadlineName, LeasePhase};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// The parser of JSON texts goes 128 levels deep.
const DEPTH: usize = 200;

fn deep() -> Value {
    let nested = (0..DEPTH).fold(json!(1), |inner, _| json!({"a": inner}));
    let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": nested});
    let driver = json!({"objects": {"serviceAccountName": "builder", "templates": [template]}});
    json!({"resourceType": "deep", "limits": {"maxResources": 1}, "driver": driver})
}

#[test]
fn what_cannot_be_read_is_in_nobodys_way() {
    told(async |stage| {
        let first = stage.controller("1");
        stage.pool(1, json!({}));
        stage.lease("before", json!({"ttl": "60s"}));
        stage.until_lease("before", LeasePhase::Active).await;
        // One watch shows it; another begins with a list that holds it.
        stage.create(Kind::Blueprint, HERE, "deep", deep());
        stage.lease("waits-for-it", json!({"resourceType": "deep"}));
        stage.pass(SignedDuration::from_secs(1)).await;
        drop(first);
        let _second = stage.controller("2");
        let due = clock(&stage.lease_now("before").status.unwrap().deadlines, DeadlineName::Lifetime).unwrap();
        stage.lease("after", json!({}));
        stage.pass_until(due + LATE).await;
        on_time(stage.lease_now("before").status.unwrap().released_at, due);
        stage.until_lease("after", LeasePhase::Active).await;
        assert_eq!(stage.lease_now("waits-for-it").phase(), LeasePhase::Pending);
        let there = stage.object::<Value>(Kind::Blueprint, HERE, "deep").unwrap();
        assert!(serde_json::from_str::<Blueprint>(&there.to_string()).is_err(), "it cannot be read");

        stage.release("after");
        stage.until_lease("after", LeasePhase::Destroyed).await;
        assert_eq!(lease_reason(&stage.lease_now("after")), "Released");
    });
}
