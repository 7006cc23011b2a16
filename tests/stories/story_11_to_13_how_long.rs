//! Stories 11 to 13: how long a lease may wait, how long it lives, and how its end may be moved.

use crate::{
    support::{Identity, Sandbox, sandbox::condition},
    told::{
        alone, apply, bound_to, clock, command, deadline, ended_at, entry, from_now, holds_throughout, hosts, instant,
        last_told, lease, merge, message, outcome, pool, uid, versions, wait_until,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// What is over before anything was there for it has never been anywhere, and nothing was made for it.
async fn never_served(sandbox: &Sandbox<'_>, over: &DynamicObject) {
    sandbox.history().caught_up().await;
    for seen in versions(sandbox, &uid(over)) {
        assert!(seen.object.data["status"]["resourceRef"].is_null(), "{seen:?} was bound");
        assert!(!matches!(seen.phase(), "Acquired" | "Active"), "{seen:?} was served");
    }
    sandbox.history().never("built for a lease that is over", |seen| {
        seen.kind == "resource" && seen.object.data["spec"]["requestedFor"]["uid"] == uid(over)
    });
    sandbox.history().never("granted to a lease that is over", |seen| {
        seen.kind == "resource"
            && seen.object.data["status"]["claims"].as_array().into_iter().flatten().any(|c| c["uid"] == uid(over))
    });
    assert_eq!(condition(over, "TornDown"), ("True", "NothingToTearDown"));
}

#[tokio::test]
async fn story_11_a_lease_whose_end_is_past_is_released_and_nothing_is_built_for_it() {
    let (sandbox, _controller) = alone("story-11-past").await;
    apply(&sandbox, &hosts(3, json!({}))).await;
    apply(&sandbox, &lease("past", json!({"expiresAt": from_now(-1_000).to_string()}))).await;
    let over = sandbox.wait_phase("lease/past", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    never_served(&sandbox, &over).await;
    assert!(sandbox.list("resource").await.is_empty());
}

/// Asked for while no controller runs, and over by the time that one does, though all could be served at once.
#[tokio::test]
async fn story_11_what_was_over_before_anybody_looked_is_not_served_at_the_start() {
    let (sandbox, mut controller) = alone("story-11-down").await;
    controller.kill9().await;
    apply(&sandbox, &hosts(3, json!({}))).await;
    let end = from_now(2_000);
    apply(&sandbox, &lease("expired", json!({"expiresAt": end.to_string()}))).await;
    apply(&sandbox, &lease("queue", json!({"queueTimeout": "1s"}))).await;
    apply(&sandbox, &lease("patient", json!({"queueTimeout": "1h"}))).await;
    // A creation is known to the second only: one second after it may be two.
    wait_until(end + SignedDuration::from_secs(1)).await;
    controller.restart().await;
    sandbox.wait_phase("lease/patient", "Active").await;
    for (name, reason) in [("expired", "Expired"), ("queue", "QueueTimeout")] {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", reason), "{name}");
        never_served(&sandbox, &over).await;
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_11_a_lease_gives_up_waiting_at_its_time_and_never_before() {
    let (sandbox, _controller) = alone("story-11-wait").await;
    // The one host is taken for longer than anybody waits.
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("holder", json!({}))).await;
    sandbox.wait_phase("lease/holder", "Active").await;

    let end = from_now(5_000);
    for (name, spec) in [
        ("expires", json!({"expiresAt": end.to_string()})),
        ("queue", json!({"queueTimeout": "2s500ms"})),
        ("nothing", json!({"queueTimeout": "2s", "selector": {"matchLabels": {"arch": "none"}}})),
    ] {
        apply(&sandbox, &lease(name, spec)).await;
    }
    let ends =
        [("expires", "Lifetime", "Expired"), ("queue", "Queue", "QueueTimeout"), ("nothing", "Queue", "QueueTimeout")];
    for (name, deadline_name, reason) in ends {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", reason), "{name}");
        sandbox.history().caught_up().await;
        let told = last_told(&sandbox, &uid(&over), deadline_name).expect("it told how long it waits");
        let created = over.metadata.creation_timestamp.as_ref().unwrap().0;
        let least = match name {
            "expires" => end,
            "queue" => created + SignedDuration::from_millis(2_500),
            _ => created + SignedDuration::from_secs(2),
        };
        // The creation is known to the second only, so a wait that runs from it may be told up to a second later.
        let more = told.duration_since(least);
        assert!(!more.is_negative() && more <= SignedDuration::from_secs(1), "{name}: {told} for {least}");
        ended_at(&sandbox, &uid(&over), told).await;
        never_served(&sandbox, &over).await;
    }
    // They say what they waited for in vain.
    let over = sandbox.get("lease/nothing").await;
    assert!(message(&over, "Released").contains("has no host that the selector matches"), "{over:?}");

    // What is over takes no part any more: the host goes to the next that waits.
    apply(&sandbox, &lease("next", json!({}))).await;
    command(&sandbox, "lease/holder", json!({"id": "r1", "type": "Release"})).await;
    assert_eq!(bound_to(&sandbox.wait_phase("lease/next", "Active").await), "pool--h1");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_11_with_no_time_to_wait_it_takes_what_is_free_or_gives_up() {
    let (sandbox, _controller) = alone("story-11-now").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    // One idle resource, and one host in which nothing is built yet: both are free.
    apply(&sandbox, &lease("warm", json!({}))).await;
    sandbox.wait_phase("lease/warm", "Active").await;
    command(&sandbox, "lease/warm", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_phase("lease/warm", "Destroyed").await;
    for name in ["idle", "vacant"] {
        apply(&sandbox, &lease(name, json!({"queueTimeout": "0s"}))).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }
    apply(&sandbox, &lease("late", json!({"queueTimeout": "0s"}))).await;
    let over = sandbox.wait_phase("lease/late", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "QueueTimeout"));
    never_served(&sandbox, &over).await;
    holds_throughout(&sandbox).await;
}

/// effective = min(maximum, the lease's or the default), as the status shows it.
#[tokio::test]
async fn story_12_the_end_is_the_leases_or_the_default_cut_to_the_maximum() {
    let (sandbox, _controller) = alone("story-12").await;
    for (name, policy) in [
        ("plain", json!({})),
        ("default", json!({"defaultTTL": "20m"})),
        ("maximum", json!({"maxTTL": "1h"})),
        ("both", json!({"defaultTTL": "20m", "maxTTL": "1h"})),
    ] {
        let inventory: Vec<Value> = (0..5).map(|n| json!({"name": format!("h{n}")})).collect();
        let driver = json!({"hosts": {"inventory": inventory}});
        apply(&sandbox, &pool(name, 0, json!({"lease": policy, "driver": driver}))).await;
    }
    let minutes = SignedDuration::from_mins;
    let near = from_now(300_000);
    let far = from_now(7_200_000);
    enum End {
        Never,
        After(SignedDuration),
        At(Timestamp),
    }
    use End::{After, At, Never};
    let at = |at: Timestamp| json!({"expiresAt": at.to_string()});
    let cases = [
        ("plain", json!({}), Never, ""),
        ("plain", json!({"ttl": "30m"}), After(minutes(30)), "spec.ttl"),
        ("plain", at(near), At(near), "spec.expiresAt"),
        ("plain", json!({"ttl": "30m", "expiresAt": near.to_string()}), At(near), "spec.expiresAt"),
        ("plain", json!({"ttl": "1m", "expiresAt": near.to_string()}), After(minutes(1)), "spec.ttl"),
        ("default", json!({}), After(minutes(20)), "defaultTTL"),
        ("default", json!({"ttl": "30m"}), After(minutes(30)), "spec.ttl"),
        ("default", json!({"ttl": "10m"}), After(minutes(10)), "spec.ttl"),
        ("default", at(far), At(far), "spec.expiresAt"),
        ("maximum", json!({}), After(minutes(60)), "maxTTL"),
        ("maximum", json!({"ttl": "59m"}), After(minutes(59)), "spec.ttl"),
        ("maximum", json!({"ttl": "60m"}), After(minutes(60)), "spec.ttl"),
        ("maximum", json!({"ttl": "61m"}), After(minutes(60)), "maxTTL"),
        ("maximum", at(far), After(minutes(60)), "maxTTL"),
        ("both", json!({}), After(minutes(20)), "defaultTTL"),
        ("both", json!({"ttl": "30m"}), After(minutes(30)), "spec.ttl"),
        ("both", json!({"ttl": "2h"}), After(minutes(60)), "maxTTL"),
        ("both", at(near), At(near), "spec.expiresAt"),
    ];
    for (n, (blueprint, mut spec, end, because)) in cases.into_iter().enumerate() {
        let name = format!("l{n:02}");
        let case = format!("{blueprint}: {spec}");
        merge(&mut spec, json!({"blueprints": [{"name": blueprint}]}));
        apply(&sandbox, &lease(&name, spec)).await;
        let active = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        let expected = match end {
            Never => None,
            After(length) => Some(instant(&active, "activatedAt") + length),
            At(at) => Some(at),
        };
        assert_eq!(deadline(&active, "Lifetime"), expected, "{case}");
        let told = active.data["status"]["expiresAt"].as_str().map(|at| at.parse::<Timestamp>().unwrap());
        assert_eq!(told, expected, "{case}");
        let why = clock(&active, "Lifetime").map_or("", |d| d["message"].as_str().unwrap_or_default());
        assert!(why.contains(because), "{case}: {why}");
    }
    holds_throughout(&sandbox).await;
}

/// Appends an `Expires`, and checks what comes of it and where the end is afterwards.
async fn expires(
    sandbox: &Sandbox<'_>,
    object: &str,
    id: &str,
    how: Value,
    expected: (&str, &str),
) -> Option<Timestamp> {
    let mut asked = json!({"id": id, "type": "Expires"});
    merge(&mut asked, how);
    command(sandbox, object, asked.clone()).await;
    let (came, why) = outcome(sandbox, object, id).await;
    assert_eq!(came, expected.0, "{asked}: {why}");
    assert!(why.contains(expected.1), "{asked}: {why}");
    deadline(&sandbox.get(object).await, "Lifetime")
}

#[tokio::test]
async fn story_13_beyond_the_maximum_an_end_is_refused_and_stays_as_it_was() {
    let (sandbox, _controller) = alone("story-13").await;
    apply(&sandbox, &hosts(3, json!({"lease": {"maxTTL": "1h"}}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "30m"}))).await;
    let active = sandbox.wait_phase("lease/a", "Active").await;
    let begin = instant(&active, "activatedAt");
    let limit = begin + SignedDuration::from_hours(1);
    let before = deadline(&active, "Lifetime");
    let beyond = (limit + SignedDuration::from_micros(1)).to_string();
    for (id, how) in [("r1", json!({"after": "2h"})), ("r2", json!({"at": beyond})), ("r3", json!({"never": true}))] {
        let remedy = format!("ask for {limit:.6} at the latest");
        assert_eq!(expires(&sandbox, "lease/a", id, how, ("Refused", &remedy)).await, before, "{id}");
    }
    // Up to the maximum, to the microsecond, as the refusal says; and back again, which is free.
    let latest = json!({"at": limit.to_string()});
    assert_eq!(expires(&sandbox, "lease/a", "a1", latest, ("Applied", "")).await, Some(limit));
    let end = expires(&sandbox, "lease/a", "a2", json!({"after": "10m"}), ("Applied", "")).await;
    let now = sandbox.get("lease/a").await;
    let observed: Timestamp = entry(&now, "a2").unwrap()["observedAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(end, Some(observed + SignedDuration::from_mins(10)), "after counts from consumption");
    assert_eq!(now.data["status"]["extensions"], 1, "shortening is free, and what was refused is not counted");

    // An edit is cut instead, and told.
    let far = json!({"spec": {"expiresAt": (limit + SignedDuration::from_hours(1)).to_string()}});
    sandbox.patch(Identity::Admin, "lease/a", far).await;
    let cut = sandbox.wait_for("lease/a", "cut to the maximum", |l| deadline(l, "Lifetime") == Some(limit)).await;
    let why = clock(&cut, "Lifetime").unwrap()["message"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("not granted in full") && why.contains("maxTTL"), "{why}");
    sandbox.wait_event("a", "EditNotGranted").await;

    // Without a maximum `never` is an end like another; with one, wished for while waiting, the maximum bites later.
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"suspend": true}})).await;
    sandbox.wait_for("blueprint/pool", "suspended", |b| condition(b, "Ready").1 == "Suspended").await;
    apply(&sandbox, &lease("b", json!({"ttl": "30m"}))).await;
    expires(&sandbox, "lease/b", "n1", json!({"never": true}), ("Applied", "")).await;
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"suspend": false}})).await;
    let active = sandbox.wait_phase("lease/b", "Active").await;
    let limit = instant(&active, "activatedAt") + SignedDuration::from_hours(1);
    assert_eq!(deadline(&active, "Lifetime"), Some(limit));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_13_extensions_have_a_budget_for_commands_and_edits_alike() {
    let (sandbox, _controller) = alone("story-13-budget").await;
    apply(&sandbox, &hosts(1, json!({"lease": {"maxExtensions": 2}}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "30m"}))).await;
    let begin = instant(&sandbox.wait_phase("lease/a", "Active").await, "activatedAt");
    let at = |minutes: i64| begin + SignedDuration::from_mins(minutes);
    let to = |minutes: i64| json!({"at": at(minutes).to_string()});
    assert_eq!(expires(&sandbox, "lease/a", "e1", to(40), ("Applied", "")).await, Some(at(40)));
    assert_eq!(expires(&sandbox, "lease/a", "e2", to(20), ("Applied", "")).await, Some(at(20)), "shorter is free");
    let edit = |minutes: i64| json!({"spec": {"expiresAt": at(minutes).to_string()}});
    sandbox.patch(Identity::Admin, "lease/a", edit(50)).await;
    sandbox.wait_for("lease/a", "extended by an edit", |l| deadline(l, "Lifetime") == Some(at(50))).await;

    // Both are used up now: neither way goes any further, and the end stays.
    let used_up = ("Refused", "2 extensions (lease.maxExtensions of the Blueprint) are used up");
    assert_eq!(expires(&sandbox, "lease/a", "e3", to(51), used_up).await, Some(at(50)));
    assert_eq!(expires(&sandbox, "lease/a", "e4", json!({"never": true}), used_up).await, Some(at(50)));
    sandbox.patch(Identity::Admin, "lease/a", edit(60)).await;
    let refused = sandbox
        .wait_for("lease/a", "told that the edit was not granted", |l| {
            clock(l, "Lifetime").is_some_and(|d| d["message"].as_str().unwrap_or_default().contains("not granted"))
        })
        .await;
    assert_eq!(deadline(&refused, "Lifetime"), Some(at(50)));
    // Shorter is free still.
    assert_eq!(expires(&sandbox, "lease/a", "e5", to(45), ("Applied", "")).await, Some(at(45)));
    let now = sandbox.get("lease/a").await;
    assert_eq!(now.data["status"]["extensions"], 2);

    // An end in the past is one, too: it ends in this pass.
    command(&sandbox, "lease/a", json!({"id": "e6", "type": "Expires", "at": at(-1).to_string()})).await;
    assert_eq!(outcome(&sandbox, "lease/a", "e6").await.0, "Applied");
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_13_an_end_of_what_is_over_is_refused_with_the_remedy() {
    let (sandbox, _controller) = alone("story-13-over").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({"ttl": "30m"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release", "hold": "1h"})).await;
    sandbox.wait_phase("lease/a", "Released").await;
    let remedy = ("Refused", "append Release with hold");
    expires(&sandbox, "lease/a", "e1", json!({"after": "2h"}), remedy).await;
    expires(&sandbox, "lease/a", "e2", json!({"never": true}), remedy).await;
    assert_eq!(crate::support::phase(&sandbox.get("lease/a").await), "Released", "the hold goes on");
    holds_throughout(&sandbox).await;
}
