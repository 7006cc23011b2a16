//! Stories 14 and 51: `expiry.unless` is asked when a deadline has come, of a lease's life and of a resource's clocks. Where it
//! is true nothing expires yet; that is told, and it is asked again.

use crate::{
    support::{Identity, Sandbox, phase, sandbox::condition},
    told::{
        alone, apply, clock, command, deadline, ended_at, ended_when_asked_again, holds_throughout, hosts, instant,
        last_told, lease, message, uid, versions, was,
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const RESOURCE: &str = "resource/pool--h1";

const RETRY: SignedDuration = SignedDuration::from_secs(2);

fn asking(unless: &str) -> Value {
    json!({"unless": unless, "retryAfter": "2s"})
}

/// Labels a resource, so that it is to be kept, or takes that off.
async fn keep(sandbox: &Sandbox<'_>, keep: Value) {
    sandbox.patch(Identity::Admin, RESOURCE, json!({"metadata": {"labels": {"keep": keep}}})).await;
}

/// Waits until a deadline was declined twice. That is told once: where only the next asking moves nothing is written.
async fn declined_twice(sandbox: &Sandbox<'_>, object: &str, name: &str) {
    let declined = was(sandbox, object, "declined", |o| deadline(o, "Asking").is_some()).await;
    let (due, first) = (deadline(&declined, name).unwrap(), deadline(&declined, "Asking").unwrap());
    let told = clock(&declined, "Asking").unwrap();
    assert_eq!(told["reason"], "ExpiryDeclined");
    assert_eq!(told["message"], "expiry.unless of the Blueprint is true");
    assert!(first >= due + RETRY, "asked again at {first}, {name} being at {due}");
    // By then it was asked again.
    let left = (first + RETRY).duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    let now = sandbox.get(object).await;
    assert_eq!(now.metadata.resource_version, declined.metadata.resource_version, "nothing is written: {now:?}");
    assert_eq!((phase(&now), deadline(&now, name)), ("Active", Some(due)));
}

#[tokio::test]
async fn story_14_a_lease_that_is_declined_is_asked_again_until_it_expires() {
    let (sandbox, _controller) = alone("story-14").await;
    let busy = "has(lease.spec.heartbeat) && lease.spec.heartbeat == 'busy'";
    apply(&sandbox, &hosts(1, json!({"expiry": asking(busy)}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "2s", "heartbeat": "busy"}))).await;
    declined_twice(&sandbox, "lease/a", "Lifetime").await;
    sandbox.patch(Identity::Admin, "lease/a", json!({"spec": {"heartbeat": "done"}})).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    sandbox.history().caught_up().await;
    ended_when_asked_again(&sandbox, &uid(&over), RETRY).await;
    assert_eq!(deadline(&over, "Asking"), None);

    // Where it is false at once, it ends at once; and an end that moves is asked about at its own time.
    apply(&sandbox, &lease("b", json!({"ttl": "2s"}))).await;
    let end = deadline(&was(&sandbox, "lease/b", "active", |l| phase(l) == "Active").await, "Lifetime").unwrap();
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    ended_at(&sandbox, &uid(&over), end).await;
    apply(&sandbox, &lease("c", json!({"ttl": "1s", "heartbeat": "busy"}))).await;
    was(&sandbox, "lease/c", "declined", |o| deadline(o, "Asking").is_some()).await;
    command(&sandbox, "lease/c", json!({"id": "e1", "type": "Expires", "after": "1h"})).await;
    let moved = sandbox.wait_for("lease/c", "moved", |l| !l.data["status"]["commands"].is_null()).await;
    assert_eq!((deadline(&moved, "Asking"), phase(&moved)), (None, "Active"));
    holds_throughout(&sandbox).await;
}

/// The end of a resource is for its own pass to ask about: its lease follows it, and is not asked. Past its end it is nobody's
/// new one.
#[tokio::test]
async fn story_14_the_end_of_a_resource_is_declined_and_its_lease_follows() {
    let (sandbox, _controller) = alone("story-14-age").await;
    let kept = asking("'keep' in resource.metadata.labels");
    apply(&sandbox, &hosts(1, json!({"expiry": kept}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "1h"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    keep(&sandbox, json!("yes")).await;
    command(&sandbox, RESOURCE, json!({"id": "e1", "type": "Expires", "after": "2s"})).await;
    declined_twice(&sandbox, RESOURCE, "Age").await;
    // Free, and past its end: whoever comes waits.
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;
    apply(&sandbox, &lease("late", json!({}))).await;
    let waits = sandbox.wait_for("lease/late", "waiting", |l| condition(l, "Acquired").0 == "False").await;
    assert_eq!(phase(&waits), "Pending");
    let resource = uid(&sandbox.get(RESOURCE).await);
    keep(&sandbox, Value::Null).await;
    let active = sandbox.wait_phase("lease/late", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], json!(resource), "the next one");
    sandbox.history().caught_up().await;
    let gone = ended_when_asked_again(&sandbox, &resource, RETRY).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "Expired"));
    sandbox.history().never("a lease was asked about the end of its resource", |seen| {
        seen.kind == "lease" && deadline(&seen.object, "Asking").is_some()
    });
    holds_throughout(&sandbox).await;
}

/// Its answer moves both: the lease ends with it.
#[tokio::test]
async fn story_14_when_the_resource_expires_in_the_end_its_lease_goes_with_it() {
    let (sandbox, _controller) = alone("story-14-both").await;
    let kept = asking("'keep' in resource.metadata.labels");
    apply(&sandbox, &hosts(1, json!({"expiry": kept}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "1h"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    keep(&sandbox, json!("yes")).await;
    command(&sandbox, RESOURCE, json!({"id": "e1", "type": "Expires", "after": "1s"})).await;
    declined_twice(&sandbox, RESOURCE, "Age").await;
    assert_eq!(phase(&sandbox.get("lease/a").await), "Active");
    let resource = uid(&sandbox.get(RESOURCE).await);
    keep(&sandbox, Value::Null).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"));
    sandbox.history().caught_up().await;
    ended_when_asked_again(&sandbox, &resource, RETRY).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_14_an_idle_resource_that_is_declined_stays_and_serves() {
    let (sandbox, _controller) = alone("story-14-idle").await;
    let kept = asking("'keep' in resource.metadata.labels");
    apply(&sandbox, &hosts(1, json!({"expiry": kept, "resource": {"idleTTL": "2s"}}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    keep(&sandbox, json!("yes")).await;
    let resource = uid(&sandbox.get(RESOURCE).await);
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    declined_twice(&sandbox, RESOURCE, "Idle").await;
    apply(&sandbox, &lease("b", json!({}))).await;
    let active = sandbox.wait_phase("lease/b", "Active").await;
    assert_eq!(active.data["status"]["resourceRef"]["uid"], json!(resource));
    let held = sandbox.get(RESOURCE).await;
    assert_eq!((deadline(&held, "Idle"), deadline(&held, "Asking")), (None, None));
    keep(&sandbox, Value::Null).await;
    command(&sandbox, "lease/b", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_gone(RESOURCE).await;
    sandbox.history().caught_up().await;
    let gone = ended_at(&sandbox, &resource, last_told(&sandbox, &resource, "Idle").unwrap()).await;
    assert_eq!(condition(&gone.object, "Released"), ("True", "IdleTimeout"));
    holds_throughout(&sandbox).await;
}

/// An error declines nothing; and one that cannot be an answer is told before anything is granted.
#[tokio::test]
async fn story_51_an_expression_that_fails_declines_nothing() {
    let (sandbox, _controller) = alone("story-51-error").await;
    for (n, unless) in ["lease.spec.parameters.nothing == 'x'", "'yes'", "1 / 0 > 2"].into_iter().enumerate() {
        apply(&sandbox, &hosts(1, json!({"expiry": asking(unless)}))).await;
        let name = format!("lease/l{n}");
        apply(&sandbox, &lease(&format!("l{n}"), json!({"ttl": "1s"}))).await;
        let over = sandbox.wait_phase(&name, "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"), "{unless}");
        let end = last_told(&sandbox, &uid(&over), "Lifetime").unwrap();
        ended_at(&sandbox, &uid(&over), end).await;
    }
    for (unless, words) in [("lease.spec.", "is not CEL"), ("leese.spec.heartbeat == 'x'", "leese is not known here")] {
        apply(&sandbox, &hosts(1, json!({"expiry": asking(unless)}))).await;
        let told = sandbox
            .wait_for("blueprint/pool", "not ready", |b| condition(b, "Ready") == ("False", "InvalidExpression"))
            .await;
        let said = message(&told, "Ready").to_owned();
        assert!(said.starts_with("spec.expiry.unless: ") && said.contains(words), "{said}");
        apply(&sandbox, &hosts(1, json!({"expiry": asking("false")}))).await;
        sandbox.wait_for("blueprint/pool", "ready", |b| condition(b, "Ready").0 == "True").await;
    }
    holds_throughout(&sandbox).await;
}

/// One that is too slow declines nothing, is told, and is not run again: neither at the next deadline, nor after a restart.
#[tokio::test]
async fn story_51_an_expression_that_is_too_slow_is_run_once() {
    let (sandbox, mut controller) = alone("story-51-slow").await;
    let list = format!("[{}]", ["7"; 120].join(","));
    let slow = format!("{list}.all(a, {list}.all(b, {} >= 0))", ["a*b"; 20].join("+"));
    apply(&sandbox, &hosts(2, json!({"expiry": asking(&slow)}))).await;
    for (name, ttl) in [("a", "2s"), ("b", "12s")] {
        apply(&sandbox, &lease(name, json!({"ttl": ttl}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    ended_at(&sandbox, &uid(&over), last_told(&sandbox, &uid(&over), "Lifetime").unwrap()).await;
    let told = sandbox
        .wait_for("blueprint/pool", "not ready", |b| condition(b, "Ready") == ("False", "ExpressionTooSlow"))
        .await;
    assert!(message(&told, "Ready").starts_with("spec.expiry.unless: "), "{}", message(&told, "Ready"));
    // What has a say at deadlines only keeps nobody waiting.
    apply(&sandbox, &lease("d", json!({}))).await;
    sandbox.wait_phase("lease/d", "Active").await;
    controller.kill9().await;
    controller.restart().await;
    let over = sandbox.wait_phase("lease/b", "Destroyed").await;
    ended_at(&sandbox, &uid(&over), last_told(&sandbox, &uid(&over), "Lifetime").unwrap()).await;
    // What the condition says is told as an Event, too, and logged with its reason.
    let log = controller.log();
    let runs = log.lines().filter(|l| l.contains("took longer") && !l.contains("ExpressionTooSlow")).count();
    assert!(runs <= 1, "it was run again:\n{log}");
    assert_eq!(condition(&sandbox.get("blueprint/pool").await, "Ready"), ("False", "ExpressionTooSlow"));

    apply(&sandbox, &hosts(2, json!({"expiry": asking("false")}))).await;
    sandbox.wait_for("blueprint/pool", "ready again", |b| condition(b, "Ready").0 == "True").await;
    apply(&sandbox, &lease("c", json!({}))).await;
    sandbox.wait_phase("lease/c", "Active").await;
    holds_throughout(&sandbox).await;
}

/// `maxTTL` is never declined, and no decline reaches beyond it.
#[tokio::test]
async fn story_51_the_maximum_is_never_declined() {
    let (sandbox, _controller) = alone("story-51-max").await;
    let policy = json!({"lease": {"maxTTL": "4s"}, "expiry": {"unless": "true", "retryAfter": "1h"}});
    apply(&sandbox, &hosts(2, policy)).await;
    for (name, ttl, is_asked) in [("long", "1h", false), ("short", "1s", true)] {
        apply(&sandbox, &lease(name, json!({"ttl": ttl}))).await;
        let active = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        let max = instant(&active, "activatedAt") + SignedDuration::from_secs(4);
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        sandbox.history().caught_up().await;
        ended_at(&sandbox, &uid(&over), max).await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"), "{name}");
        let asking: Vec<_> =
            versions(&sandbox, &uid(&over)).iter().filter_map(|seen| deadline(&seen.object, "Asking")).collect();
        assert_eq!((asking.is_empty(), asking.iter().all(|at| *at == max)), (!is_asked, true), "{name}: {asking:?}");
    }
    holds_throughout(&sandbox).await;
}
