//! Stories 43 and 46: several commands in one write, and several ends in one instant.

use crate::{
    on_time::in_seconds,
    support::{ControllerProcess, Identity, Sandbox, metrics, sandbox::condition},
    told::{alone, apply, command, deadline, holds_throughout, hosts, instant, lease, wait_until},
};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn ledger(object: &DynamicObject) -> Vec<Value> {
    object.data["status"]["commands"].as_array().cloned().unwrap_or_default()
}

fn outcomes(object: &DynamicObject) -> Vec<(String, String)> {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    ledger(object).iter().map(|entry| (text(entry, "id"), text(entry, "outcome"))).collect()
}

#[tokio::test]
async fn story_43_three_commands_in_one_patch_are_consumed_in_order_and_in_one_write() {
    let (sandbox, _controller) = alone("story-43").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    let commands = vec![
        json!({"id": "two-hours", "type": "Expires", "after": "2h"}),
        json!({"id": "look", "type": "Release", "hold": "10m"}),
        json!({"id": "nine-hours", "type": "Expires", "after": "9h"}),
    ];
    sandbox.try_append(Identity::Admin, "lease/a", commands).await.expect("three in one patch");
    let held = sandbox.wait_phase("lease/a", "Released").await;

    let expected = [("two-hours", "Applied"), ("look", "Applied"), ("nine-hours", "Refused")];
    assert_eq!(outcomes(&held), expected.map(|(id, outcome)| (id.to_owned(), outcome.to_owned())));
    assert_eq!(ledger(&held)[2]["message"], "it is released; to keep it longer append Release with hold");
    assert_eq!(condition(&held, "TornDown"), ("False", "Held"));
    let released = instant(&held, "releasedAt");
    assert_eq!(deadline(&held, "Hold"), Some(released + SignedDuration::from_mins(10)));
    let wish: Timestamp = held.data["status"]["wish"]["at"].as_str().unwrap().parse().unwrap();
    assert_eq!(wish, released + SignedDuration::from_hours(2), "what was applied is on record");

    holds_throughout(&sandbox).await;
    let sizes: BTreeSet<usize> = sandbox.history().of("lease/a").iter().map(|s| ledger(&s.object).len()).collect();
    assert_eq!(sizes, BTreeSet::from([0, 3]), "three entries came with one write");
}

/// Checks that a lease ended once: one reason, one instant of its release and of its destruction, from the first to the
/// last version that shows them. Returns the reason.
fn one_end(sandbox: &Sandbox<'_>, object: &str) -> String {
    let mut reasons = BTreeSet::new();
    let mut torn_down = vec![];
    for seen in sandbox.history().of(object) {
        let status = &seen.object.data["status"];
        if condition(&seen.object, "Released").0 == "True" {
            let instant = status["releasedAt"].as_str().expect("when it was released").to_owned();
            reasons.insert((condition(&seen.object, "Released").1.to_owned(), instant));
        }
        torn_down.push((condition(&seen.object, "TornDown").0 == "True", status["destroyedAt"].clone()));
    }
    assert_eq!(reasons.len(), 1, "{object} ended for one reason at one instant: {reasons:?}");
    torn_down.dedup();
    assert_eq!(torn_down.iter().filter(|(done, _)| *done).count(), 1, "{object}: one teardown: {torn_down:?}");
    assert!(torn_down.is_sorted_by_key(|(done, _)| *done), "{object}: torn down for good: {torn_down:?}");
    reasons.into_iter().next().map(|(reason, _)| reason).unwrap_or_default()
}

/// Checks that no pass of the controller has failed. (A conflict is no failure: the object is read again.)
async fn no_error(controller: &ControllerProcess) {
    let (_, text) = controller.get("/metrics").await;
    let failed = metrics::sum(&text, "drydock_pass_errors_total", &[]);
    assert!(failed == 0.0, "{failed} passes failed:\n{text}\n{}", controller.log());
    assert!(metrics::sum(&text, "drydock_passes_total", &[]) > 0.0, "the count is told:\n{text}");
    assert!(!controller.log().contains("panicked"), "{}", controller.log());
}

/// Gives leases one end, so many seconds from now, and waits until each tells it.
async fn all_end_in(sandbox: &Sandbox<'_>, seconds: i64, names: &[&str]) -> Timestamp {
    let end = in_seconds(seconds).round(jiff::Unit::Millisecond).unwrap();
    for name in names {
        let edit = json!({"spec": {"expiresAt": end.to_string()}});
        sandbox.patch(Identity::Admin, name, edit).await;
    }
    for name in names {
        sandbox.wait_for(name, "told when it ends", |l| deadline(l, "Lifetime") == Some(end)).await;
    }
    end
}

/// All of it happens while the controller looks away; the order in which it then takes them is api.md's, section 2.
#[tokio::test]
async fn story_46_a_command_wins_over_a_deletion_over_the_other_side_over_a_deadline() {
    let (sandbox, mut controller) = alone("story-46-order").await;
    apply(&sandbox, &hosts(3, json!({}))).await;
    let names = ["lease/all", "lease/deleted", "lease/expired"];
    for name in names {
        apply(&sandbox, &lease(name.trim_start_matches("lease/"), json!({}))).await;
        sandbox.wait_phase(name, "Active").await;
    }
    let end = all_end_in(&sandbox, 8, &names).await;
    controller.sigstop();
    assert!(Timestamp::now() < end, "the machine is too slow for this story: give it more time");
    command(&sandbox, "lease/all", json!({"id": "r1", "type": "Release"})).await;
    for name in ["all", "deleted"] {
        sandbox.delete(Identity::Admin, &format!("lease/{name}")).await;
    }
    for host in ["h1", "h2"] {
        command(&sandbox, &format!("resource/pool--{host}"), json!({"id": "r1", "type": "Release"})).await;
    }
    wait_until(end).await;
    controller.sigcont();
    for gone in ["lease/all", "lease/deleted", "resource/pool--h1", "resource/pool--h2"] {
        sandbox.wait_gone(gone).await;
    }
    sandbox.wait_phase("lease/expired", "Destroyed").await;
    holds_throughout(&sandbox).await;
    assert_eq!(one_end(&sandbox, "lease/all"), "Released");
    assert_eq!(one_end(&sandbox, "lease/deleted"), "Deleted");
    assert_eq!(one_end(&sandbox, "lease/expired"), "Expired");
    let last = sandbox.history().of("lease/all").pop().unwrap();
    assert_eq!(outcomes(&last.object), [("r1".to_owned(), "Applied".to_owned())]);
    no_error(&controller).await;
}

/// All of it at once, several times over, as it comes: one end each, whichever was first.
#[tokio::test]
async fn story_46_released_deleted_expired_and_taken_away_in_one_instant_there_is_one_end() {
    const HOSTS: usize = 8;
    let (sandbox, controller) = alone("story-46").await;
    apply(&sandbox, &hosts(HOSTS, json!({}))).await;
    let names: Vec<String> = (1..=HOSTS).map(|n| format!("lease/l{n}")).collect();
    for name in &names {
        apply(&sandbox, &lease(name.trim_start_matches("lease/"), json!({}))).await;
    }
    let mut resources = vec![];
    for name in &names {
        let active = sandbox.wait_phase(name, "Active").await;
        resources.push(format!("resource/{}", crate::told::bound_to(&active)));
    }
    let end = all_end_in(&sandbox, 8, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(Timestamp::now() < end, "the machine is too slow for this story: give it more time");
    wait_until(end).await;
    let release = || vec![json!({"id": "r1", "type": "Release"})];
    join_all(names.iter().zip(&resources).map(|(name, resource)| async {
        // Whoever comes too late finds it destroyed, or gone, and is told so.
        let lease = sandbox.try_append(Identity::Admin, name, release());
        let delete = async {
            let leases = sandbox.api(Identity::Admin, "lease").await;
            leases.delete(name.trim_start_matches("lease/"), &Default::default()).await
        };
        let resource = sandbox.try_append(Identity::Admin, resource, release());
        let _ = tokio::join!(lease, delete, resource);
    }))
    .await;
    for gone in names.iter().chain(&resources) {
        sandbox.wait_gone(gone).await;
    }
    holds_throughout(&sandbox).await;
    let reasons: Vec<String> = names.iter().map(|name| one_end(&sandbox, name)).collect();
    let possible = ["Released", "Deleted", "Expired", "ResourceReleased"];
    assert!(reasons.iter().all(|reason| possible.contains(&reason.as_str())), "{reasons:?}");
    no_error(&controller).await;
}
