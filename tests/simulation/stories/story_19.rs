//! A stale cache: one of two controllers sees everything late, some of it by minutes.

use super::*;
use drydock::api::{LeasePhase, ResourcePhase, blueprint::Limits};
use serde::Deserialize as _;
use std::collections::BTreeSet;

#[test]
fn story_19_a_stale_cache_makes_no_resource_too_many_and_grants_no_slot_twice() {
    told(async |stage| {
        let late = Rates { stalled: 1000, ..Rates::default() };
        let _late = stage.controller_that_suffers("late", late);
        let _prompt = stage.controller("prompt");
        stage.pool(3, json!({"lease": {"defaultTTL": "90s"}, "resource": {"idleTTL": "30s"}}));
        assert_eq!(stage.blueprint_now().spec.limits, Limits { max_resources: Some(3), ..Limits::default() });
        let names: Vec<_> = (0..12).map(|n| format!("l{n}")).collect();
        for name in &names {
            stage.lease(name, json!({}));
        }
        for name in &names {
            stage.until_lease(name, LeasePhase::Destroyed).await;
        }
        stage.until("the pool is empty", |stage| stage.server.all(Kind::Resource).is_empty()).await;

        // In every version of every object: no resource too many, no slot twice.
        let (mut there, mut most, mut served) = (BTreeMap::new(), 0, BTreeSet::new());
        for entry in stage.happened() {
            let What::Wrote(version) = entry.what else { continue };
            if version.kind != Kind::Resource {
                continue;
            }
            let resource = Resource::deserialize(&*version.object).unwrap();
            let claims = resource.claims().to_vec();
            assert!(claims.len() <= 1, "{claims:?}");
            served.extend(claims.into_iter().map(|claim| claim.uid));
            let live = resource.phase() != ResourcePhase::Destroyed;
            there.insert(resource.metadata.name.clone(), live);
            most = most.max(there.values().filter(|live| **live).count());
        }
        assert_eq!((most, served.len()), (3, names.len()), "three at once, and each lease had one");
        let by_late = |entry: &Entry| &*entry.by == "controller-late" && matches!(entry.what, What::Wrote(_));
        assert!(stage.happened().iter().any(by_late), "the late one acts, too");
    });
}
