//! The question at a deadline, of a lease and of a resource, to the driver and by `unless`: yes, no, an error, no answer; and
//! `maxTTL` is never declined.

use super::*;
use crate::habits::Says;
use drydock::api::{LeasePhase, ResourcePhase};

const RESOURCE: &str = "pool--0";

/// A driver that has not answered by then has nothing against it.
const NO_ANSWER: SignedDuration = SignedDuration::from_secs(10);

fn asking_of_lease(stage: &Stage) -> Option<Timestamp> {
    clock(&stage.lease_now("a").status.unwrap().deadlines, DeadlineName::Asking)
}

fn asking_of_resource(stage: &Stage) -> Option<Timestamp> {
    clock(&stage.resource_now(RESOURCE).status.unwrap().deadlines, DeadlineName::Asking)
}

/// A lease of a minute on a resource; returns when the lease ends.
async fn leased(stage: &mut Stage, more: Value) -> Timestamp {
    stage.pool(1, more);
    stage.lease("a", json!({"ttl": "1m"}));
    stage.until_lease("a", LeasePhase::Active).await;
    clock(&stage.lease_now("a").status.unwrap().deadlines, DeadlineName::Lifetime).unwrap()
}

#[test]
fn story_51_a_driver_that_declines_is_asked_again_until_it_does_not() {
    told(async |stage| {
        let _controller = stage.controller("1");
        stage.behaves(|habits| habits.says = Says::No("a job runs on it"));
        let policy = json!({"expiry": {"retryAfter": "5m"}, "resource": {"ttl": "1h"}});
        let end = leased(stage, policy).await;
        stage.until("declined", |stage| asking_of_lease(stage).is_some()).await;
        let first = asking_of_lease(stage).unwrap();
        assert!(first >= end + SignedDuration::from_mins(5) && first <= end + SignedDuration::from_mins(5) + LATE * 2);
        let told = stage.lease_now("a").status.unwrap().deadlines;
        let told = deadline::find(&told, DeadlineName::Asking).unwrap();
        assert_eq!((told.reason.as_str(), told.message.as_str()), ("ExpiryDeclined", "a job runs on it"));
        // It is asked again and declines again, and nothing is written.
        let on_record = stage.lease_now("a").metadata.resource_version;
        stage.pass_until(first + SignedDuration::from_mins(4)).await;
        assert_eq!(stage.lease_now("a").metadata.resource_version, on_record);
        assert_eq!(stage.lease_now("a").phase(), LeasePhase::Active);
        stage.behaves(|habits| habits.says = Says::Yes);
        stage.until_lease("a", LeasePhase::Destroyed).await;
        assert_eq!(lease_reason(&stage.lease_now("a")), "Expired");
        assert!(stage.lease_now("a").status.unwrap().released_at.unwrap().timestamp() >= first, "not before");

        // And of the resource.
        stage.behaves(|habits| habits.says = Says::No("it is warm"));
        stage.until("declined", |stage| asking_of_resource(stage).is_some()).await;
        let asked = asking_of_resource(stage).unwrap();
        assert_eq!(stage.resource_now(RESOURCE).phase(), ResourcePhase::Active);
        stage.behaves(|habits| habits.says = Says::Yes);
        let uid = stage.resource_now(RESOURCE).metadata.uid.unwrap();
        stage.until("gone", |stage| stage.is_gone(Kind::Resource, RESOURCE)).await;
        let over = stage.versions::<Resource>(&uid).into_iter().find(|r| r.phase() > ResourcePhase::Active).unwrap();
        assert_eq!(resource_reason(&over), "Expired");
        assert!(over.status.unwrap().released_at.unwrap().timestamp() >= asked, "not before");
    });
}

#[test]
fn story_51_a_driver_that_panics_or_does_not_answer_declines_nothing() {
    for (says, late) in [(Says::Yes, LATE), (Says::Panics, LATE), (Says::Nothing, NO_ANSWER)] {
        told(async |stage| {
            let _controller = stage.controller("1");
            stage.behaves(|habits| habits.says = says);
            let end = leased(stage, json!({"resource": {"idleTTL": "1m"}})).await;
            let uid = stage.resource_now(RESOURCE).metadata.uid.unwrap();
            stage.until_lease("a", LeasePhase::Destroyed).await;
            let lease = stage.lease_now("a");
            assert_eq!(lease_reason(&lease), "Expired");
            let at = lease.status.unwrap().released_at.unwrap().timestamp();
            assert!(at >= end && at <= end + late + LATE * 2, "{says:?}: {at}, due {end}");
            stage.until("gone", |stage| stage.is_gone(Kind::Resource, RESOURCE)).await;
            let over =
                stage.versions::<Resource>(&uid).into_iter().find(|r| r.phase() > ResourcePhase::Active).unwrap();
            assert_eq!(resource_reason(&over), "IdleTimeout");
            let status = over.status.unwrap();
            let due = status.idle_since.unwrap().timestamp() + SignedDuration::from_mins(1);
            let at = status.released_at.unwrap().timestamp();
            assert!(at >= due && at <= due + late + LATE * 2, "{says:?}: {at}, due {due}");
        });
    }
}

#[test]
fn story_51_unless_declines_while_it_is_true_and_an_error_declines_nothing() {
    for (unless, declines) in [("UNTIL", true), ("false", false), ("lease.metadata.labels.busy == 'yes'", false)] {
        told(async |stage| {
            let _controller = stage.controller("1");
            let until = stage.clocks.wall() + SignedDuration::from_mins(20);
            let unless = unless.replace("UNTIL", &format!("now < timestamp('{until:.0}')"));
            let expiry = json!({"unless": unless, "retryAfter": "1m"});
            let end = leased(stage, json!({"expiry": expiry, "resource": {"idleTTL": "1m"}})).await;
            let uid = stage.lease_now("a").metadata.uid.unwrap();
            stage.until_lease("a", LeasePhase::Destroyed).await;
            let asked =
                |lease: &Lease| clock(&lease.status.clone().unwrap_or_default().deadlines, DeadlineName::Asking);
            assert_eq!(stage.versions::<Lease>(&uid).iter().any(|lease| asked(lease).is_some()), declines);
            let at = stage.lease_now("a").status.unwrap().released_at.unwrap();
            match declines {
                true => assert!(at.timestamp() >= until - SignedDuration::from_secs(1)),
                false => on_time(Some(at), end),
            }
            stage.until("gone", |stage| stage.is_gone(Kind::Resource, RESOURCE)).await;
        });
    }
}

#[test]
fn story_51_the_maximum_is_never_declined() {
    told(async |stage| {
        let _controller = stage.controller("1");
        stage.behaves(|habits| habits.says = Says::No("never"));
        leased(stage, json!({"lease": {"maxTTL": "10m"}, "expiry": {"retryAfter": "4m", "unless": "true"}})).await;
        let activated = stage.lease_now("a").status.unwrap().activated_at.unwrap().timestamp();
        let maximum = activated + SignedDuration::from_mins(10);
        stage.pass_until(maximum - SignedDuration::from_secs(1)).await;
        let asking = asking_of_lease(stage).expect("it is declined");
        assert!(asking <= maximum, "it is asked no later: {asking}, {maximum}");
        stage.until_lease("a", LeasePhase::Destroyed).await;
        assert_eq!(lease_reason(&stage.lease_now("a")), "Expired");
        on_time(stage.lease_now("a").status.unwrap().released_at, maximum);
    });
}
