//! Scenes in which nothing is kept from anybody, and what is looked at is whose turn it is: chance seldom has two of a kind that
//! differ in nothing but that.

use crate::{
    journal::Kind::{Blueprint, Lease, Resource},
    server::request::Verb,
    stage::{InVain, Stage, webhook},
};
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::json;
use std::time::Duration;

type Played<'a> = BoxFuture<'a, Result<(), InVain>>;

/// So long things are as they are, so that nobody can take them for something else.
const REST: Duration = Duration::from_secs(30);

/// `placement: Pack`: of two resources with room one is fuller.
pub fn placed_where_it_is_full(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(2, 3);
        for lease in ["a", "b", "c", "d"] {
            stage.make_lease(lease);
            stage.until_served(lease).await?;
        }
        stage.release("c").await?;
        stage.be_fair();
        stage.a_while(REST).await;
        stage.make_lease("e");
        stage.until_served("e").await?;
        stage.a_while(REST).await;
        Ok(())
    }
    .boxed()
}

/// One build in flight for each lease: there is room for more.
pub fn built_once(stage: &Stage) -> Played<'_> {
    async {
        stage.be_fair();
        stage.make_pool(3, 1);
        stage.make_lease("a");
        stage.until_served("a").await?;
        stage.a_while(REST).await;
        Ok(())
    }
    .boxed()
}

/// D2: of two leases on one resource one is released.
pub fn released_beside_another(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(1, 2);
        for lease in ["a", "b"] {
            stage.make_lease(lease);
            stage.until_served(lease).await?;
        }
        stage.release("a").await
    }
    .boxed()
}

/// Reclaim: one of two is to make room for somebody of another flavour, and one was used earlier than the other.
pub fn reclaimed_in_turn(stage: &Stage) -> Played<'_> {
    async {
        let limits = json!({"maxResources": 2, "leasesPerResource": 1});
        let policy = json!({"parameters": ["size"], "reclaimAfter": "2m"});
        stage.make_blueprint("pool", limits, policy, webhook());
        for lease in ["a", "b"] {
            stage.make_lease(lease);
            stage.until_served(lease).await?;
        }
        stage.release("a").await?;
        stage.a_while(REST).await;
        stage.release("b").await?;
        stage.be_fair();
        stage.a_while(REST).await;
        stage.make_lease_of("c", "large");
        stage.until_served("c").await?;
        stage.a_while(REST).await;
        Ok(())
    }
    .boxed()
}

/// Precedence: the resource fits those who come later, one after the other, and not the one who waits in front.
pub fn passed_over(stage: &Stage) -> Played<'_> {
    async {
        let limits = json!({"maxResources": 1, "leasesPerResource": 1});
        let policy = json!({"parameters": ["size"], "reclaimAfter": "2m"});
        let small = json!({"resourceType": "host", "parameters": {"size": "small"}, "ttl": "10s"});
        stage.make_blueprint("pool", limits, policy, webhook());
        stage.be_fair();
        stage.people.create(Lease, "team", "small", small.clone());
        stage.until_served("small").await?;
        stage.make_lease_of("large", "large");
        stage.a_while(Duration::from_secs(2)).await;
        for n in 0..30 {
            stage.people.create(Lease, "team", &format!("small-{n}"), small.clone());
        }
        stage.until_served("large").await?;
        stage.a_while(REST).await;
        Ok(())
    }
    .boxed()
}

/// Replacement: two are out of date, and one is older.
pub fn replaced_in_turn(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(2, 1);
        for lease in ["a", "b"] {
            stage.make_lease(lease);
            stage.until_served(lease).await?;
            stage.a_while(REST).await;
        }
        let held = [stage.until_served("a").await?, stage.until_served("b").await?];
        // The one that was made first is the one that was used last: or both orders would be one.
        stage.release("b").await?;
        stage.release("a").await?;
        stage.be_fair();
        stage.a_while(REST).await;
        let other = json!({"spec": {"attributes": {"arch": "other"}}});
        stage.people.to(Verb::MergePatch, Blueprint, &stage.one(Blueprint, "pool"), other);
        for name in &held {
            stage.until(Resource, name, serde_json::Value::is_null).await?;
        }
        Ok(())
    }
    .boxed()
}
