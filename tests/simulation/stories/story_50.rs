//! The end of a resource: by `Expires`, at, after and never, and by a day without a lease.

use super::*;
use drydock::api::{LeasePhase, ResourcePhase};

const RESOURCE: &str = "pool--0";

async fn held(stage: &mut Stage, more: Value) -> String {
    stage.pool(1, more);
    stage.lease("a", json!({}));
    stage.until_lease("a", LeasePhase::Active).await;
    stage.resource_now(RESOURCE).metadata.uid.unwrap()
}

fn over(stage: &Stage, uid: &str) -> Resource {
    stage.versions::<Resource>(uid).into_iter().find(|r| r.phase() > ResourcePhase::Active).unwrap()
}

#[test]
fn story_50_expires_at_and_after_take_the_lease_with_it_and_never_does_not() {
    told(async |stage| {
        let _controller = stage.controller("1");
        let uid = held(stage, json!({"resource": {"ttl": "30m"}})).await;
        stage.command(Kind::Resource, RESOURCE, json!({"id": "n", "type": "Expires", "never": true}));
        stage.pass(SignedDuration::from_hours(30)).await;
        assert_eq!(stage.lease_now("a").phase(), LeasePhase::Active, "for ever");

        stage.command(Kind::Resource, RESOURCE, json!({"id": "f", "type": "Expires", "after": "3h"}));
        stage.until("consumed", |stage| stage.resource_now(RESOURCE).status.unwrap().commands.len() == 2).await;
        let consumed = stage.resource_now(RESOURCE).status.unwrap().commands[1].observed_at;
        let by_after = clock(&stage.resource_now(RESOURCE).status.unwrap().deadlines, DeadlineName::Age);
        assert_eq!(by_after, Some(consumed.timestamp() + SignedDuration::from_hours(3)));

        // An earlier one takes the lease with it.
        let at = stage.clocks.wall() + SignedDuration::from_hours(2);
        let text = format!("{at:.6}");
        stage.command(Kind::Resource, RESOURCE, json!({"id": "a", "type": "Expires", "at": text}));
        stage.pass_until(at - SignedDuration::from_secs(1)).await;
        assert_eq!(stage.lease_now("a").phase(), LeasePhase::Active, "not before");
        stage.until_lease("a", LeasePhase::Destroyed).await;
        let over = over(stage, &uid);
        let due = clock(
            &stage
                .versions::<Resource>(&uid)
                .iter()
                .rev()
                .find_map(|r| {
                    let deadlines = r.status.clone()?.deadlines;
                    clock(&deadlines, DeadlineName::Age).map(|_| deadlines)
                })
                .unwrap(),
            DeadlineName::Age,
        );
        assert_eq!(resource_reason(&over), "Expired");
        on_time(over.status.unwrap().released_at, due.unwrap());
        assert_eq!(lease_reason(&stage.lease_now("a")), "ResourceReleased");
        on_time(stage.lease_now("a").status.unwrap().released_at, due.unwrap());
    });
}

#[test]
fn story_50_leased_for_days_and_gone_a_day_after_the_last() {
    told(async |stage| {
        let _controller = stage.controller("1");
        let uid = held(stage, json!({"resource": {"idleTTL": "24h"}})).await;
        stage.pass(SignedDuration::from_hours(60)).await;
        stage.release("a");
        stage.until_lease("a", LeasePhase::Destroyed).await;
        // A lease in between stops that clock.
        stage.pass(SignedDuration::from_hours(20)).await;
        stage.lease("b", json!({}));
        stage.until_lease("b", LeasePhase::Active).await;
        stage.pass(SignedDuration::from_hours(20)).await;
        assert_eq!(stage.resource_now(RESOURCE).metadata.uid.as_deref(), Some(uid.as_str()), "it is the same");
        stage.release("b");
        stage.until("idle", |stage| stage.resource_now(RESOURCE).claims().is_empty()).await;
        let idle_since = stage.resource_now(RESOURCE).status.unwrap().idle_since.unwrap().timestamp();
        let due = idle_since + SignedDuration::from_hours(24);
        stage.pass_until(due - SignedDuration::from_secs(1)).await;
        assert_eq!(stage.resource_now(RESOURCE).phase(), ResourcePhase::Active, "not before");
        stage.until("gone", |stage| stage.is_gone(Kind::Resource, RESOURCE)).await;
        let over = over(stage, &uid);
        assert_eq!(resource_reason(&over), "IdleTimeout");
        on_time(over.status.unwrap().released_at, due);
    });
}
