//! A queue that is nearly full is pruned of what is consumed; the ledger keeps the ids, so that what is sent once more has no
//! second effect.

use crate::{
    support::{Identity, Sandbox, phase, sandbox::refusal},
    told::{alone, apply, command, entry, holds_throughout, hosts, lease, outcome},
};
use kube::api::DynamicObject;
use serde_json::{Value, json};

fn expires(n: usize) -> Value {
    json!({"id": format!("e{n}"), "type": "Expires", "after": format!("{}h", 1 + n % 100)})
}

fn queue(object: &DynamicObject) -> usize {
    object.data["spec"]["commands"].as_array().map_or(0, Vec::len)
}

async fn append(sandbox: &Sandbox<'_>, object: &str, numbers: std::ops::Range<usize>) {
    sandbox.try_append(Identity::Admin, object, numbers.map(expires).collect()).await.unwrap();
}

#[tokio::test]
async fn a_queue_takes_more_commands_than_it_holds_at_a_time() {
    let (sandbox, _controller) = alone("pruning").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    for object in ["lease/a", "resource/pool--h1"] {
        // 47 stay where they are.
        append(&sandbox, object, 0..47).await;
        assert_eq!(outcome(&sandbox, object, "e46").await.0, "Applied");
        assert_eq!(queue(&sandbox.get(object).await), 47);
        append(&sandbox, object, 47..48).await;
        let pruned = sandbox.wait_for(object, "pruned", |o| queue(o) == 0).await;
        assert!((0..48).all(|n| entry(&pruned, &format!("e{n}")).is_some()), "the ledger keeps them all");
        for from in [48, 108, 168] {
            append(&sandbox, object, from..from + 60).await;
            sandbox.wait_for(object, "pruned", |o| queue(o) == 0).await;
        }
        let full = sandbox.get(object).await;
        let ledger = full.data["status"]["commands"].as_array().unwrap().len();
        assert_eq!(ledger, 128, "{object}: the newest");
        assert!((100..228).all(|n| entry(&full, &format!("e{n}")).is_some()), "{object}: the newest");

        // What is sent once more, or is forged under an old id, is consumed already.
        let told = entry(&full, "e227").unwrap();
        command(&sandbox, object, json!({"id": "e227", "type": "Release"})).await;
        command(&sandbox, object, json!({"id": "mark", "type": "Expires", "never": true})).await;
        assert_eq!(outcome(&sandbox, object, "mark").await.0, "Applied");
        let after = sandbox.get(object).await;
        assert_eq!((phase(&after), entry(&after, "e227")), ("Active", Some(told)), "{object}");
    }
    holds_throughout(&sandbox).await;
}

/// Where nobody consumes, the 65th is refused in words; then there is room again.
#[tokio::test]
async fn where_nothing_is_consumed_the_65th_is_refused() {
    let (sandbox, mut controller) = alone("pruning-full").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    controller.kill9().await;
    for object in ["lease/a", "resource/pool--h1"] {
        append(&sandbox, object, 0..64).await;
        let said = refusal(sandbox.try_append(Identity::Admin, object, vec![expires(64)]).await);
        assert!(said.contains("the queue is full (64)"), "{object}: {said}");
    }
    controller.restart().await;
    for object in ["lease/a", "resource/pool--h1"] {
        sandbox.wait_for(object, "pruned", |o| queue(o) == 0).await;
        append(&sandbox, object, 64..65).await;
        assert_eq!(outcome(&sandbox, object, "e64").await.0, "Applied", "{object}");
    }
    holds_throughout(&sandbox).await;
}
