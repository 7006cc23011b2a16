//! Scenes that bring about what rules are there for that chance hardly ever needs: each is a trace of protocol.md, 3, or as
//! near to one as the controllers come. With every rule kept nothing goes wrong in them.

use crate::{
    faults::Shut::{Expired, Watch, Writes},
    journal::Kind::{Blueprint, Lease, Resource},
    server::request::Verb,
    stage::{BOTH, FIRST, InVain, SECOND, Stage, webhook},
};
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::{Value, json};
use std::time::Duration;

type Played<'a> = BoxFuture<'a, Result<(), InVain>>;

/// The resource of the one slot of the pool.
const SLOT: &str = "pool--0";

/// By then all watches that are open have shown what is there.
const SHOWN: Duration = Duration::from_secs(1);

/// In that time would have happened what must not.
const LONG: Duration = Duration::from_secs(120);

fn attempt(lease: &Value) -> i64 {
    lease["status"]["attempt"].as_i64().unwrap_or(0)
}

fn has_consumed(object: &Value, id: &str) -> bool {
    object["status"]["commands"].as_array().is_some_and(|ledger| ledger.iter().any(|entry| entry["id"] == id))
}

/// L4: a resource goes before the lease that it claims could take it up.
pub fn claimed_by_what_goes(stage: &Stage) -> Played<'_> {
    async {
        let kept = Writes(BOTH, Lease, "a");
        stage.make_pool(1, 1);
        stage.shut(kept);
        stage.make_lease("a");
        stage.until_claimed(SLOT, 1).await?;
        stage.delete(Resource, SLOT);
        stage.until_is(Resource, SLOT, "Released").await?;
        stage.open(kept);
        stage.until_is(Lease, "a", "Active").await
    }
    .boxed()
}

/// L2, H1: a lease waits anew, and one controller's cache still shows the old claim as if its resource were well.
pub fn an_old_claim_is_shown(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(1, 1);
        stage.shut(Writes(FIRST, Lease, "a"));
        stage.shut(Writes(SECOND, Lease, "a"));
        stage.make_lease("a");
        stage.until_claimed(SLOT, 1).await?;
        stage.a_while(SHOWN).await;
        stage.shut(Watch(SECOND, Resource));
        stage.delete(Resource, SLOT);
        stage.until_is(Resource, SLOT, "Released").await?;
        // The old resource stays for a while, with its claim.
        stage.shut(Writes(BOTH, Resource, SLOT));
        stage.open(Writes(FIRST, Lease, "a"));
        stage.until(Lease, "a", |lease| attempt(lease) == 1).await?;
        stage.open(Writes(SECOND, Lease, "a"));
        stage.a_while(LONG).await;
        stage.open_all();
        stage.until_is(Lease, "a", "Active").await
    }
    .boxed()
}

/// L7, H17: a resource goes by force, another comes into its slot and serves, and only then a controller that has seen none
/// of this binds a lease to the first.
pub fn bound_to_what_went_by_force(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(1, 2);
        stage.shut(Writes(FIRST, Lease, "a"));
        stage.shut(Writes(SECOND, Lease, "a"));
        stage.make_lease("a");
        stage.until_claimed(SLOT, 1).await?;
        stage.a_while(SHOWN).await;
        stage.shut(Watch(SECOND, Resource));
        stage.shut(Watch(SECOND, Lease));
        stage.force_off(Resource, SLOT);
        stage.make_lease("b");
        stage.until_is(Lease, "b", "Active").await?;
        stage.open(Writes(SECOND, Lease, "a"));
        stage.until(Lease, "a", |lease| attempt(lease) == 1).await?;
        stage.open_all();
        stage.until_is(Lease, "a", "Active").await
    }
    .boxed()
}

/// R2, H17: a resource goes by force beneath an active lease, which cannot be told of it; somebody else waits.
pub fn gone_beneath_its_lease(stage: &Stage) -> Played<'_> {
    async {
        let kept = Writes(BOTH, Lease, "a");
        stage.make_pool(1, 1);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.shut(kept);
        stage.force_off(Resource, SLOT);
        stage.make_lease("b");
        stage.a_while(LONG).await;
        stage.open(kept);
        stage.until_is(Lease, "b", "Active").await
    }
    .boxed()
}

/// R1, H12: a Blueprint goes, and a controller that has not seen it makes a resource for it.
pub fn made_for_what_is_gone(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(1, 1);
        stage.until(Blueprint, "pool", |pool| pool["status"]["observedGeneration"] == 1).await?;
        stage.a_while(SHOWN).await;
        stage.shut(Watch(SECOND, Blueprint));
        // Or it would learn there that it is gone.
        stage.shut(Writes(SECOND, Blueprint, "pool"));
        stage.shut(Watch(FIRST, Resource));
        stage.delete(Blueprint, "pool");
        stage.until(Blueprint, "pool", Value::is_null).await?;
        stage.make_lease("a");
        stage.until(Resource, SLOT, Value::is_object).await?;
        stage.until(Resource, SLOT, Value::is_null).await?;
        stage.open_all();
        Ok(())
    }
    .boxed()
}

/// The limit: of two hosts one may be in use, and that is released, but held still.
pub fn released_but_there(stage: &Stage) -> Played<'_> {
    async {
        let kept = Writes(BOTH, Lease, "a");
        let host = |n: u64| json!({"name": format!("h{n}"), "address": format!("192.0.2.{n}")});
        let driver = json!({"hosts": {"inventory": [host(1), host(2)]}});
        stage.make_blueprint("hosts", json!({"maxResources": 1, "leasesPerResource": 1}), json!({}), driver);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.shut(kept);
        let held = stage.one(Lease, "a")["status"]["resourceRef"]["name"].as_str().unwrap_or_default().to_owned();
        stage.delete(Resource, &held);
        stage.until_is(Resource, &held, "Released").await?;
        stage.make_lease("b");
        stage.a_while(LONG).await;
        stage.open(kept);
        stage.until_is(Lease, "b", "Active").await
    }
    .boxed()
}

/// B1, L1: somebody waits for a Blueprint that comes without its finalizer.
pub fn wanted_before_it_is_there(stage: &Stage) -> Played<'_> {
    async {
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Pending").await?;
        stage.a_while(SHOWN).await;
        stage.make_pool(1, 1);
        stage.until_is(Lease, "a", "Active").await
    }
    .boxed()
}

/// Q2: somebody asks for something when all is over.
pub fn asked_when_all_is_over(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(1, 1);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.append(Lease, "a", json!({"id": "c1", "type": "Release"}));
        stage.until_is(Lease, "a", "Destroyed").await?;
        stage.append(Lease, "a", json!({"id": "c2", "type": "Release"}));
        Ok(())
    }
    .boxed()
}

/// Q1: a command comes again that was consumed and pruned, and so was another since.
pub fn sent_again_when_pruned(stage: &Stage) -> Played<'_> {
    async {
        let expires = |id: &str| json!({"id": id, "type": "Expires", "after": "1h"});
        stage.make_pool(1, 1);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        for id in ["c1", "c2"] {
            stage.append(Lease, "a", expires(id));
            stage.until(Lease, "a", |lease| has_consumed(lease, id)).await?;
            stage.people.merge(Lease, &stage.one(Lease, "a"), json!({"spec": {"commands": []}}));
        }
        stage.append(Lease, "a", expires("c1"));
        stage.a_while(LONG).await;
        Ok(())
    }
    .boxed()
}

/// Q3, H14: somebody who wants a lease held for a look says so twice.
pub fn held_twice(stage: &Stage) -> Played<'_> {
    async {
        let hold = |id: &str, length: &str| json!({"id": id, "type": "Release", "hold": length});
        stage.make_pool(1, 1);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.append(Lease, "a", hold("c1", "20m"));
        stage.until_is(Lease, "a", "Released").await?;
        stage.append(Lease, "a", hold("c2", "10m"));
        stage.until(Lease, "a", |lease| has_consumed(lease, "c2")).await
    }
    .boxed()
}

/// `maxHold`: somebody wants a lease held for longer than its Blueprint allows, and longer still.
pub fn held_for_long(stage: &Stage) -> Played<'_> {
    async {
        let hold = |id: &str, length: &str| json!({"id": id, "type": "Release", "hold": length});
        let spec = json!({
            "resourceType": "host", "allowedNamespaces": {"from": "All"}, "lease": {"maxHold": "10m"},
            "limits": {"maxResources": 1}, "driver": webhook(),
        });
        stage.people.create(Blueprint, "shared", "pool", spec);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.append(Lease, "a", hold("c1", "1h"));
        stage.until_is(Lease, "a", "Released").await?;
        stage.append(Lease, "a", hold("c2", "2h"));
        stage.until(Lease, "a", |lease| has_consumed(lease, "c2")).await
    }
    .boxed()
}

/// G3, H16: a lease goes by force, and another comes under its name.
pub fn a_namesake_comes(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(1, 1);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.force_off(Lease, "a");
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await
    }
    .boxed()
}

/// R7: somebody asks a resource to go, if it is idle, and it is not.
pub fn asked_to_go_while_held(stage: &Stage) -> Played<'_> {
    async {
        stage.make_pool(1, 1);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.append(Resource, SLOT, json!({"id": "c1", "type": "Reclaim"}));
        stage.until(Resource, SLOT, |resource| has_consumed(resource, "c1")).await
    }
    .boxed()
}

/// B1: the name of a slot is taken by what somebody else has made.
pub fn the_slot_is_taken(stage: &Stage) -> Played<'_> {
    async {
        let strange = json!({
            "blueprintRef": {"name": "pool", "uid": "00000000-0000-4000-a000-000000000000"}, "resourceType": "host",
        });
        stage.people.create(Resource, "shared", SLOT, strange);
        stage.make_pool(1, 1);
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await
    }
    .boxed()
}

/// B3: what a controller takes for idle, and asks to go for somebody who needs its room, is held by now.
pub fn no_longer_idle(stage: &Stage) -> Played<'_> {
    async {
        let limits = json!({"maxResources": 1, "leasesPerResource": 1});
        let policy = json!({"parameters": ["size"], "reclaimAfter": "30s"});
        stage.make_blueprint("pool", limits, policy, webhook());
        stage.make_lease("a");
        stage.until_is(Lease, "a", "Active").await?;
        stage.append(Lease, "a", json!({"id": "c1", "type": "Release"}));
        stage.until_is(Lease, "a", "Destroyed").await?;
        stage.until_claimed(SLOT, 0).await?;
        stage.make_lease_of("b", "large");
        stage.a_while(SHOWN).await;
        stage.shut(Watch(SECOND, Resource));
        stage.shut(Watch(SECOND, Lease));
        stage.make_lease("c");
        stage.until_is(Lease, "c", "Active").await?;
        stage.a_while(LONG).await;
        stage.open_all();
        stage.append(Lease, "c", json!({"id": "c2", "type": "Release"}));
        stage.until_is(Lease, "b", "Active").await
    }
    .boxed()
}

/// What a controller knows of from somewhere else than its watch is gone before that shows it; and the watch begins anew.
/// Nothing else would tell it: the resource is idle, and not to be written.
pub fn gone_before_it_is_shown(stage: &Stage) -> Played<'_> {
    async {
        stage.shut(Watch(SECOND, Resource));
        let kept_ready = json!({"maxResources": 1, "leasesPerResource": 1, "minReady": 1});
        stage.make_blueprint("pool", kept_ready, json!({}), webhook());
        stage.until_is(Resource, SLOT, "Active").await?;
        stage.a_while(SHOWN).await;
        let pool = stage.one(Blueprint, "pool");
        stage.people.to(Verb::MergePatch, Blueprint, &pool, json!({"spec": {"limits": {"minReady": 0}}}));
        stage.a_while(SHOWN).await;
        stage.append(Resource, SLOT, json!({"id": "c1", "type": "Release"}));
        stage.until(Resource, SLOT, Value::is_null).await?;
        stage.a_while(SHOWN).await;
        stage.shut(Expired(SECOND, Resource));
        stage.open(Watch(SECOND, Resource));
        stage.a_while(LONG).await;
        stage.open_all();
        Ok(())
    }
    .boxed()
}
