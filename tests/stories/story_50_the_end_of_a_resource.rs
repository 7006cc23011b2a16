//! Story 50: the end of a resource, set by `Expires` and by an edit; its leases follow it.

use crate::{
    on_time::{in_seconds, released_at},
    support::{Identity, Sandbox, sandbox::condition},
    told::{alone, apply, command, deadline, holds_throughout, hosts, instant, lease, outcome},
};
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};

const RESOURCE: &str = "resource/pool--h1";

/// A lease `a` on the one host of a pool with this policy for its resources.
async fn leased(sandbox: &Sandbox<'_>, policy: Value, more: Value) {
    apply(sandbox, &hosts(1, json!({"resource": policy}))).await;
    apply(sandbox, &lease("a", more)).await;
    sandbox.wait_phase("lease/a", "Active").await;
}

/// The end that an object tells, in its status and as a deadline alike.
fn end(object: &DynamicObject, name: &str) -> Option<Timestamp> {
    let told = object.data["status"]["expiresAt"].as_str().map(|text| text.parse().unwrap());
    assert_eq!(deadline(object, name), told);
    told
}

/// Waits until both tell this end, and says where the lease has it from.
async fn both_end(sandbox: &Sandbox<'_>, at: Option<Timestamp>) -> String {
    sandbox.wait_for(RESOURCE, &format!("to end at {at:?}"), |r| end(r, "Age") == at).await;
    let lease = sandbox.wait_for("lease/a", &format!("to end at {at:?}"), |l| end(l, "Lifetime") == at).await;
    let deadlines = lease.data["status"]["deadlines"].as_array().cloned().unwrap_or_default();
    let lifetime = deadlines.iter().find(|d| d["name"] == "Lifetime");
    lifetime.and_then(|d| d["message"].as_str()).unwrap_or_default().to_owned()
}

async fn expires(sandbox: &Sandbox<'_>, id: &str, end: Value) {
    let mut expires = json!({"id": id, "type": "Expires"});
    expires.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
    command(sandbox, RESOURCE, expires).await;
    assert_eq!(outcome(sandbox, RESOURCE, id).await, ("Applied".to_owned(), String::new()));
}

/// When a command was consumed.
async fn consumed(sandbox: &Sandbox<'_>, id: &str) -> Timestamp {
    let resource = sandbox.get(RESOURCE).await;
    let entries = resource.data["status"]["commands"].as_array().cloned().unwrap_or_default();
    entries.iter().find(|e| e["id"] == id).and_then(|e| e["observedAt"].as_str()?.parse().ok()).expect("consumed")
}

#[tokio::test]
async fn story_50_a_resource_that_is_told_to_end_takes_its_lease_with_it() {
    let (sandbox, _controller) = alone("story-50-at").await;
    leased(&sandbox, json!({}), json!({"ttl": "1h"})).await;
    let at = in_seconds(5);
    expires(&sandbox, "e1", json!({"at": at.to_string()})).await;
    // The API keeps microseconds, rounded up.
    let at = instant(&sandbox.get(RESOURCE).await, "expiresAt");
    assert_eq!(both_end(&sandbox, Some(at)).await, "its Resource ends then");
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"));
    sandbox.wait_gone(RESOURCE).await;
    released_at(&sandbox, RESOURCE, at).await;
    released_at(&sandbox, "lease/a", at).await;
    let last = sandbox.history().of(RESOURCE).pop().unwrap();
    assert_eq!(condition(&last.object, "Released"), ("True", "Expired"));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_50_at_after_and_never_each_replace_what_was() {
    let (sandbox, _controller) = alone("story-50-moves").await;
    leased(&sandbox, json!({"ttl": "2h"}), json!({})).await;
    let activated = instant(&sandbox.get(RESOURCE).await, "activatedAt");
    both_end(&sandbox, Some(activated + SignedDuration::from_hours(2))).await;

    expires(&sandbox, "later", json!({"after": "9h"})).await;
    let later = consumed(&sandbox, "later").await + SignedDuration::from_hours(9);
    both_end(&sandbox, Some(later)).await;

    expires(&sandbox, "never", json!({"never": true})).await;
    both_end(&sandbox, None).await;

    expires(&sandbox, "sooner", json!({"at": "2100-01-01T00:00:00Z"})).await;
    both_end(&sandbox, Some("2100-01-01T00:00:00Z".parse().unwrap())).await;

    expires(&sandbox, "soon", json!({"after": "1s"})).await;
    let soon = consumed(&sandbox, "soon").await + SignedDuration::from_secs(1);
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone(RESOURCE).await;
    released_at(&sandbox, RESOURCE, soon).await;
    released_at(&sandbox, "lease/a", soon).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_50_an_edit_of_the_end_counts_as_expires_and_taken_out_it_is_what_the_blueprint_gives() {
    let (sandbox, _controller) = alone("story-50-edit").await;
    leased(&sandbox, json!({"ttl": "2h"}), json!({})).await;
    let activated = instant(&sandbox.get(RESOURCE).await, "activatedAt");
    let given = activated + SignedDuration::from_hours(2);
    let edit = |at: Value| json!({"spec": {"expiresAt": at}});

    sandbox.patch(Identity::Admin, RESOURCE, edit(json!("2100-01-01T00:00:00.5Z"))).await;
    both_end(&sandbox, Some("2100-01-01T00:00:00.5Z".parse().unwrap())).await;
    sandbox.patch(Identity::Admin, RESOURCE, edit(Value::Null)).await;
    both_end(&sandbox, Some(given)).await;
    // An Expires replaces the edit, and the edit is still no news.
    sandbox.patch(Identity::Admin, RESOURCE, edit(json!("2100-01-01T00:00:00Z"))).await;
    both_end(&sandbox, Some("2100-01-01T00:00:00Z".parse().unwrap())).await;
    expires(&sandbox, "never", json!({"never": true})).await;
    both_end(&sandbox, None).await;

    let at = in_seconds(2);
    sandbox.patch(Identity::Admin, RESOURCE, edit(json!(at.to_string()))).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    sandbox.wait_gone(RESOURCE).await;
    released_at(&sandbox, RESOURCE, at).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_50_a_lease_whose_own_end_is_earlier_keeps_it_and_the_resource_serves_on() {
    let (sandbox, _controller) = alone("story-50-own").await;
    leased(&sandbox, json!({}), json!({"ttl": "2s"})).await;
    expires(&sandbox, "e1", json!({"after": "1h"})).await;
    let own = instant(&sandbox.get("lease/a").await, "activatedAt") + SignedDuration::from_secs(2);
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    released_at(&sandbox, "lease/a", own).await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(sandbox.get(RESOURCE).await.data["status"]["phase"], "Active");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_50_an_end_in_the_past_is_now_and_the_next_lease_gets_a_new_resource() {
    let (sandbox, _controller) = alone("story-50-past").await;
    leased(&sandbox, json!({}), json!({})).await;
    apply(&sandbox, &lease("next", json!({}))).await;
    let before = sandbox.get(RESOURCE).await.metadata.uid;
    expires(&sandbox, "e1", json!({"at": "2020-01-01T00:00:00Z"})).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"));
    let next = sandbox.wait_phase("lease/next", "Active").await;
    assert_ne!(next.data["status"]["resourceRef"]["uid"].as_str(), before.as_deref());
    holds_throughout(&sandbox).await;
    // Consumed and released in one pass.
    let consumed =
        sandbox.history().of(RESOURCE).into_iter().find(|s| s.object.data["status"]["commands"][0]["id"] == "e1");
    assert_eq!(condition(&consumed.unwrap().object, "Released"), ("True", "Expired"));
}

/// A pass at every moment before the end, and none of them takes it for the end: a timer that is on time proves nothing.
#[tokio::test]
async fn story_50_however_often_they_are_looked_at_neither_ends_early() {
    let (sandbox, _controller) = alone("story-50-looked-at").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    for name in ["a", "b"] {
        apply(&sandbox, &lease(name, json!({}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let at = in_seconds(5);
    expires(&sandbox, "e1", json!({"at": at.to_string()})).await;
    let on_other = if crate::told::bound_to(&sandbox.get("lease/a").await) == "pool--h1" { "b" } else { "a" };
    let own = format!("lease/{on_other}");
    sandbox.patch(Identity::Admin, &own, json!({"spec": {"expiresAt": at.to_string()}})).await;

    let mut looks = 0;
    loop {
        let label = json!({"metadata": {"labels": {"looks": looks.to_string()}}});
        let (lease, resource) = tokio::join!(
            sandbox.try_patch(Identity::Admin, &own, label.clone()),
            sandbox.try_patch(Identity::Admin, RESOURCE, label)
        );
        lease.expect("a destroyed lease stays for a while");
        if resource.is_err() {
            break; // it is gone
        }
        looks += 1;
    }
    assert!(looks > 20, "{looks} are few");
    sandbox.wait_phase(&own, "Destroyed").await;
    // What is written has microseconds, rounded up; `at` may be finer.
    released_at(&sandbox, &own, at).await;
    released_at(&sandbox, RESOURCE, at).await;
    holds_throughout(&sandbox).await;
}
