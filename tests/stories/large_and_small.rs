//! One resource, and leases of two flavours: whoever asks for the other one is not passed over for ever.

use crate::{
    support::{Sandbox, phase, sandbox::condition},
    told::{alone, apply, command, holds_throughout, hosts, lease, uid, versions},
};
use serde_json::{Value, json};

async fn one_host(sandbox: &Sandbox<'_>) {
    let policy = json!({"resource": {"parameters": ["size"], "reclaimAfter": "1h"}});
    apply(sandbox, &hosts(1, policy)).await;
}

async fn ask(sandbox: &Sandbox<'_>, name: &str, size: &str, more: Value) {
    let mut spec = json!({"parameters": {"size": size}});
    crate::told::merge(&mut spec, more);
    apply(sandbox, &lease(name, spec)).await;
}

/// How many of these had been served when the large one was.
async fn served_before_the_large(sandbox: &Sandbox<'_>, small: &[String]) -> usize {
    let large = sandbox.wait_phase("lease/large", "Active").await;
    sandbox.history().caught_up().await;
    let since: u64 = large.metadata.resource_version.as_deref().unwrap().parse().unwrap();
    let mut served = 0;
    for name in small {
        let id = uid(&sandbox.get(&format!("lease/{name}")).await);
        let version = |seen: &crate::support::Seen| -> u64 {
            seen.object.metadata.resource_version.as_deref().unwrap().parse().unwrap()
        };
        served +=
            usize::from(versions(sandbox, &id).iter().any(|seen| seen.phase() == "Active" && version(seen) < since));
    }
    served
}

/// 195 younger leases of priority 0 were served, and one of priority 1000 was not.
#[tokio::test]
async fn a_large_lease_of_a_higher_priority_goes_first() {
    let (sandbox, _controller) = alone("large-first").await;
    one_host(&sandbox).await;
    ask(&sandbox, "first", "small", json!({})).await;
    sandbox.wait_phase("lease/first", "Active").await;
    let small: Vec<String> = (0..5).map(|n| format!("small-{n}")).collect();
    for name in &small {
        ask(&sandbox, name, "small", json!({"ttl": "1s"})).await;
    }
    ask(&sandbox, "large", "large", json!({"priority": 1000})).await;
    sandbox.wait_for("lease/large", "waiting", |lease| condition(lease, "Acquired").0 == "False").await;
    let host = uid(&sandbox.get("resource/pool--h1").await);
    command(&sandbox, "lease/first", json!({"id": "r1", "type": "Release"})).await;
    assert_eq!(served_before_the_large(&sandbox, &small).await, 0);
    let released = versions(&sandbox, &host);
    let released = released.iter().find(|seen| seen.phase() == "Released" || seen.phase() == "Destroyed").unwrap();
    assert_eq!(condition(&released.object, "Released"), ("True", "Reclaimed"), "long before its reclaimAfter");
    assert_eq!(phase(&sandbox.get("lease/small-0").await), "Pending");
    holds_throughout(&sandbox).await;
}

/// Of the same priority a few more are served by what is there, and then it is the large one's turn.
#[tokio::test]
async fn a_large_lease_of_the_same_priority_is_passed_over_a_few_times() {
    let (sandbox, _controller) = alone("large-in-turn").await;
    one_host(&sandbox).await;
    ask(&sandbox, "first", "small", json!({})).await;
    sandbox.wait_phase("lease/first", "Active").await;
    ask(&sandbox, "large", "large", json!({})).await;
    sandbox.wait_for("lease/large", "waiting", |lease| condition(lease, "Acquired").0 == "False").await;
    let small: Vec<String> = (0..12).map(|n| format!("small-{n:02}")).collect();
    for name in &small {
        ask(&sandbox, name, "small", json!({"ttl": "1s"})).await;
    }
    sandbox.wait_for("lease/small-11", "waiting", |lease| condition(lease, "Acquired").0 == "False").await;
    command(&sandbox, "lease/first", json!({"id": "r1", "type": "Release"})).await;
    assert_eq!(served_before_the_large(&sandbox, &small).await, 8);
    holds_throughout(&sandbox).await;
}
