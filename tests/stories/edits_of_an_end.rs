//! Edits of a lease's `spec.expiresAt`: each counts as an `Expires` at the moment it is seen, but is cut to the maximum
//! instead of refused; and an end is moved later only as often as the Blueprint allows (api.md, 2).

use crate::{
    on_time::{in_seconds, released_at},
    support::{Identity, Sandbox, sandbox::condition},
    told::{alone, apply, command, deadline, holds_throughout, hosts, instant, lease, outcome},
};
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// A lease `a` on a pool of one host with this policy for its leases. Returns when it became active.
async fn leased(sandbox: &Sandbox<'_>, policy: Value, more: Value) -> Timestamp {
    apply(sandbox, &hosts(1, json!({"lease": policy}))).await;
    apply(sandbox, &lease("a", more)).await;
    instant(&sandbox.wait_phase("lease/a", "Active").await, "activatedAt")
}

async fn edit(sandbox: &Sandbox<'_>, at: Option<Timestamp>) {
    let at = at.map(|at| at.to_string());
    sandbox.patch(Identity::Admin, "lease/a", json!({"spec": {"expiresAt": at}})).await;
}

/// Waits until the edit has been seen, and gives the end, what is said of it, and how often it has been moved later.
async fn seen(sandbox: &Sandbox<'_>) -> (Option<Timestamp>, String, i64) {
    let taken_in = |l: &DynamicObject| {
        let read = |v: &Value| v.as_str().map(|text| text.parse::<Timestamp>().unwrap());
        read(&l.data["spec"]["expiresAt"]) == read(&l.data["status"]["expirySeen"])
    };
    let lease = sandbox.wait_for("lease/a", "aware of the edit", taken_in).await;
    let at = lease.data["status"]["expiresAt"].as_str().map(|text| text.parse().unwrap());
    assert_eq!(deadline(&lease, "Lifetime"), at, "the deadline says the same");
    let deadlines = lease.data["status"]["deadlines"].as_array().cloned().unwrap_or_default();
    let lifetime = deadlines.iter().find(|d| d["name"] == "Lifetime");
    let message = lifetime.and_then(|d| d["message"].as_str()).unwrap_or_default();
    (at, message.to_owned(), lease.data["status"]["extensions"].as_i64().unwrap_or_default())
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// A whole second: it reads the same after it was written.
fn in_hours(count: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + count * 3600).unwrap()
}

#[tokio::test]
async fn an_edit_moves_the_end_both_ways_and_taken_out_it_is_what_the_ttl_gives() {
    let (sandbox, _controller) = alone("edit").await;
    let active = leased(&sandbox, json!({}), json!({"ttl": "2h"})).await;
    assert_eq!(seen(&sandbox).await, (Some(active + hours(2)), "spec.ttl, 2h after it became active".into(), 0));
    for (at, end, message, extensions) in [
        (Some(in_hours(5)), None, "as last asked for", 1),
        (Some(in_hours(4)), None, "as last asked for", 1), // sooner is free
        (None, Some(active + hours(2)), "spec.ttl, 2h after it became active", 1),
        (Some(in_hours(3)), None, "as last asked for", 2),
    ] {
        edit(&sandbox, at).await;
        assert_eq!(seen(&sandbox).await, (end.or(at), message.to_owned(), extensions), "edited to {at:?}");
    }
    let soon = in_seconds(2);
    edit(&sandbox, Some(soon)).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    released_at(&sandbox, "lease/a", soon).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_end_that_is_there_from_the_start_is_no_edit_and_spends_no_extension() {
    let (sandbox, mut controller) = alone("edit-first").await;
    let at = in_hours(5);
    leased(&sandbox, json!({"maxExtensions": 1}), json!({"expiresAt": at.to_string()})).await;
    assert_eq!(seen(&sandbox).await, (Some(at), "spec.expiresAt".into(), 0));
    // Nor is it one after a restart.
    controller.restart().await;
    let last = in_hours(6);
    edit(&sandbox, Some(last)).await;
    assert_eq!(seen(&sandbox).await, (Some(last), "as last asked for".into(), 1));
    edit(&sandbox, Some(in_hours(7))).await;
    let (at, _, extensions) = seen(&sandbox).await;
    assert_eq!((at, extensions), (Some(last), 1), "there was but one");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_edit_beyond_the_maximum_is_cut_to_it_and_says_so() {
    let (sandbox, _controller) = alone("edit-cut").await;
    let active = leased(&sandbox, json!({"maxTTL": "3h"}), json!({"ttl": "1h"})).await;
    edit(&sandbox, Some(in_hours(9))).await;
    let (at, message, extensions) = seen(&sandbox).await;
    assert_eq!((at, extensions), (Some(active + hours(3)), 1));
    let told = "spec.expiresAt was not granted in full: cut to lease.maxTTL of the Blueprint";
    assert!(message.contains(told), "{message}");
    // It stays told, whatever else is written meanwhile.
    command(&sandbox, "lease/a", json!({"id": "e1", "type": "Expires", "after": "9h"})).await;
    let (verdict, why) = outcome(&sandbox, "lease/a", "e1").await;
    assert_eq!(verdict, "Refused", "{why}");
    assert_eq!(seen(&sandbox).await, (Some(active + hours(3)), message, 1));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn when_the_extensions_are_used_up_an_edit_changes_nothing_but_may_still_shorten() {
    let (sandbox, _controller) = alone("edit-used-up").await;
    leased(&sandbox, json!({"maxExtensions": 1}), json!({"ttl": "1h"})).await;
    let (first, second, sooner) = (in_hours(5), in_hours(6), in_hours(4));
    edit(&sandbox, Some(first)).await;
    assert_eq!(seen(&sandbox).await, (Some(first), "as last asked for".into(), 1));

    edit(&sandbox, Some(second)).await;
    let (at, message, extensions) = seen(&sandbox).await;
    assert_eq!((at, extensions), (Some(first), 1), "unchanged");
    let told =
        "spec.expiresAt was not granted in full: its 1 extensions (lease.maxExtensions of the Blueprint) are used up";
    assert!(message.contains(told), "{message}");
    command(&sandbox, "lease/a", json!({"id": "e1", "type": "Expires", "at": second.to_string()})).await;
    let (verdict, why) = outcome(&sandbox, "lease/a", "e1").await;
    assert_eq!(verdict, "Refused");
    assert!(why.contains("its 1 extensions (lease.maxExtensions of the Blueprint) are used up"), "{why}");
    assert_eq!(seen(&sandbox).await.0, Some(first));

    edit(&sandbox, Some(sooner)).await;
    assert_eq!(seen(&sandbox).await, (Some(sooner), "as last asked for".into(), 1));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_edit_of_a_lease_that_waits_is_its_wish_and_spends_nothing() {
    let (sandbox, _controller) = alone("edit-waits").await;
    apply(&sandbox, &lease("a", json!({"ttl": "1h"}))).await;
    sandbox.wait_phase("lease/a", "Pending").await;
    let at = in_hours(5);
    edit(&sandbox, Some(at)).await;
    assert_eq!(seen(&sandbox).await, (Some(at), "as last asked for".into(), 0));
    apply(&sandbox, &hosts(1, json!({"lease": {"maxExtensions": 0}}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    assert_eq!(seen(&sandbox).await, (Some(at), "as last asked for".into(), 0), "it replaces the ttl");

    // And one that comes while it waits ends it while it waits.
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_for("lease/b", "in the queue", |l| l.data["status"]["queuePosition"] == 1).await;
    let soon = in_seconds(1);
    sandbox.patch(Identity::Admin, "lease/b", json!({"spec": {"expiresAt": soon.to_string()}})).await;
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    assert_eq!(condition(&over, "TornDown"), ("True", "NothingToTearDown"));
    released_at(&sandbox, "lease/b", soon).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn of_an_edit_and_a_command_in_one_pass_the_command_has_the_last_word() {
    let (sandbox, mut controller) = alone("edit-and-command").await;
    leased(&sandbox, json!({}), json!({"ttl": "1h"})).await;
    let (edited, commanded) = (in_hours(5), in_hours(7));
    controller.sigstop();
    command(&sandbox, "lease/a", json!({"id": "e1", "type": "Expires", "at": commanded.to_string()})).await;
    edit(&sandbox, Some(edited)).await;
    controller.sigcont();
    assert_eq!(outcome(&sandbox, "lease/a", "e1").await.0, "Applied");
    assert_eq!(seen(&sandbox).await, (Some(commanded), "as last asked for".into(), 2));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_edit_of_a_lease_that_is_over_changes_nothing() {
    let (sandbox, _controller) = alone("edit-over").await;
    leased(&sandbox, json!({}), json!({"ttl": "1h"})).await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release", "hold": "30m"})).await;
    let held = sandbox.wait_phase("lease/a", "Released").await;
    let until = deadline(&held, "Hold");
    edit(&sandbox, Some(in_hours(9))).await;
    let seen = sandbox.wait_for("lease/a", "aware of the edit", |l| !l.data["status"]["expirySeen"].is_null()).await;
    assert_eq!((deadline(&seen, "Hold"), condition(&seen, "TornDown")), (until, ("False", "Held")));
    assert_eq!(deadline(&seen, "Lifetime"), None);
    holds_throughout(&sandbox).await;
}
