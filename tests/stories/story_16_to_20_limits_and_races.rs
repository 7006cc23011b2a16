//! Stories 16, 17, 18 and 20: limits hold, and what is free is granted once, whoever comes in the same instant.

use crate::{
    support::{Identity, Sandbox, sandbox::condition},
    told::{
        alone, apply, bound_to, claimants, command, deadline, ended_at, entry, from_now, holds_throughout, hosts,
        lease, message, uid, versions,
    },
};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Asks for so many leases in the same instant, each with this spec.
async fn at_once(sandbox: &Sandbox<'_>, count: usize, spec: Value) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("l{n:02}")).collect();
    let documents: Vec<String> = names.iter().map(|name| lease(name, spec.clone())).collect();
    join_all(documents.iter().map(|document| sandbox.apply(Identity::Admin, document))).await;
    names
}

/// The greatest number of resources that there ever were at a time, whatever their phase, Destroyed excepted; and how many
/// there were in all.
fn most_at_a_time(sandbox: &Sandbox<'_>) -> (usize, usize) {
    let (mut live, mut all) = (BTreeSet::new(), BTreeSet::new());
    let mut most = 0;
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        all.insert(seen.uid.clone());
        if seen.gone || seen.phase() == "Destroyed" {
            live.remove(&seen.uid);
        } else {
            live.insert(seen.uid.clone());
        }
        most = most.max(live.len());
    }
    (most, all.len())
}

#[tokio::test]
async fn story_16_ten_leases_and_a_limit_of_five_there_are_never_more_than_five_resources() {
    for recycle in ["Reuse", "Destroy"] {
        let (sandbox, _controller) = alone(&format!("story-16-{}", recycle.to_lowercase())).await;
        let limits = json!({"limits": {"maxResources": 5}, "lease": {"recycle": recycle}});
        apply(&sandbox, &hosts(8, limits)).await;
        let names = at_once(&sandbox, 10, json!({})).await;
        // The limit is used, and who is left says what it waits for.
        let mut active = BTreeSet::new();
        for name in &names {
            let held = |l: &kube::api::DynamicObject| {
                crate::support::phase(l) == "Active" || condition(l, "Acquired") == ("False", "AtCapacity")
            };
            let settled = sandbox.wait_for(&format!("lease/{name}"), "active or waiting", held).await;
            if crate::support::phase(&settled) == "Active" {
                active.insert(name.clone());
            }
        }
        // One that was told to wait may have been served since: it was first in line when a resource came.
        while active.len() < 5 {
            let another = sandbox
                .wait_any("lease", "one more active", |l| {
                    crate::support::phase(l) == "Active" && !active.contains(&kube::ResourceExt::name_any(l))
                })
                .await;
            active.insert(kube::ResourceExt::name_any(&another));
        }
        assert_eq!(active.len(), 5, "{recycle}: {active:?}");
        assert_eq!(sandbox.list("resource").await.len(), 5);
        // In turn: as one ends, the next is served.
        let mut served = active.clone();
        while let Some(name) = active.pop_first() {
            command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
            sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
            if served.len() < names.len() {
                let next = sandbox
                    .wait_any("lease", "the next to be active", |l| {
                        crate::support::phase(l) == "Active" && !served.contains(&kube::ResourceExt::name_any(l))
                    })
                    .await;
                let next = kube::ResourceExt::name_any(&next);
                served.insert(next.clone());
                active.insert(next);
            }
        }
        assert_eq!(served.len(), names.len(), "{recycle}: all ten were served");
        holds_throughout(&sandbox).await;
        let (most, all) = most_at_a_time(&sandbox);
        assert_eq!(most, 5, "{recycle}: at a time");
        assert_eq!(all, if recycle == "Reuse" { 5 } else { 10 }, "{recycle}: in all");
    }
}

/// How many were built at a time: what is only asked for is not there yet.
fn most_built_at_a_time(sandbox: &Sandbox<'_>) -> usize {
    let (mut built, mut most) = (BTreeSet::new(), 0);
    for seen in sandbox.history().all().iter().filter(|seen| seen.kind == "resource") {
        if seen.gone || seen.phase() == "Destroyed" || seen.object.data["status"]["built"].is_null() {
            built.remove(&seen.uid);
        } else {
            built.insert(seen.uid.clone());
        }
        most = most.max(built.len());
    }
    most
}

/// Two controllers, one of them with a cache that stands still. Where the list of hosts is longer than the limit no name is the
/// lock: both may create a resource for the last place, and at most one of them is ever built.
#[tokio::test]
async fn story_16_the_limit_holds_with_two_controllers_one_of_which_believes_what_was() {
    let (sandbox, _one) = alone("story-16-two").await;
    let mut two = sandbox.controller().await;
    apply(&sandbox, &hosts(8, json!({"limits": {"maxResources": 2}, "lease": {"recycle": "Destroy"}}))).await;
    let names = at_once(&sandbox, 8, json!({"ttl": "300ms"})).await;
    two.sigstop();
    sandbox.wait_any("lease", "some lease to be over", |l| crate::support::phase(l) == "Destroyed").await;
    two.sigcont();
    for name in &names {
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    holds_throughout(&sandbox).await;
    assert!(most_built_at_a_time(&sandbox) <= 2, "{}", most_built_at_a_time(&sandbox));
}

#[tokio::test]
async fn story_17_five_leases_and_a_limit_of_one_there_is_one_resource_and_each_is_served_in_turn() {
    let (sandbox, _controller) = alone("story-17").await;
    apply(&sandbox, &hosts(5, json!({"limits": {"maxResources": 1}}))).await;
    let names = at_once(&sandbox, 5, json!({"ttl": "400ms"})).await;
    for name in &names {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"), "{name} was served until its end");
    }
    holds_throughout(&sandbox).await;
    assert_eq!(most_at_a_time(&sandbox), (1, 1), "one resource was built, and no pile of them");
    // Each in its turn: the next is granted in the write that drops the claim of the one before.
    let resource = uid(&sandbox.get("resource/pool--h1").await);
    let mut holders: Vec<Vec<String>> = versions(&sandbox, &resource).iter().map(|s| claimants(&s.object)).collect();
    holders.dedup();
    holders.retain(|names| !names.is_empty());
    assert_eq!(holders.len(), 5, "{holders:?}");
}

#[tokio::test]
async fn story_18_one_free_host_and_two_leases_in_the_same_instant_exactly_one_binds() {
    let (sandbox, _controller) = alone("story-18").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    // Cold, and then idle: both ways to be free.
    for round in 0..4 {
        let names = [format!("a{round}"), format!("b{round}")];
        let documents = names.clone().map(|name| lease(&name, json!({})));
        let (one, other) =
            tokio::join!(sandbox.apply(Identity::Admin, &documents[0]), sandbox.apply(Identity::Admin, &documents[1]));
        let both = [one, other].map(|applied| uid(&applied[0]));
        let first = sandbox
            .wait_any("lease", "one to bind", |l| both.contains(&uid(l)) && crate::support::phase(l) == "Active")
            .await;
        let first = kube::ResourceExt::name_any(&first);
        let second = names.iter().find(|name| **name != first).unwrap();
        let waiting = sandbox
            .wait_for(&format!("lease/{second}"), "waiting", |l| condition(l, "Acquired") == ("False", "AtCapacity"))
            .await;
        assert!(waiting.data["status"]["resourceRef"].is_null(), "{waiting:?}");
        for name in [&first, second] {
            sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
            command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
            sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        }
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_18_twenty_leases_on_ten_warm_resources_make_ten_pairs() {
    let (sandbox, _controller) = alone("story-18-pairs").await;
    apply(&sandbox, &hosts(10, json!({}))).await;
    let warm: Vec<String> = (0..10).map(|n| format!("warm-{n}")).collect();
    for name in &warm {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    for name in &warm {
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    for n in 1..=10 {
        let idle = |r: &kube::api::DynamicObject| claimants(r).is_empty();
        sandbox.wait_for(&format!("resource/pool--h{n}"), "idle", idle).await;
    }

    let names = at_once(&sandbox, 20, json!({})).await;
    let mut pairs = BTreeMap::new();
    let mut waiting = Vec::new();
    for name in &names {
        let is_settled = |l: &kube::api::DynamicObject| {
            crate::support::phase(l) == "Active" || condition(l, "Acquired") == ("False", "AtCapacity")
        };
        let settled = sandbox.wait_for(&format!("lease/{name}"), "active or waiting", is_settled).await;
        match bound_to(&settled) {
            host if host.is_empty() => waiting.push(name.clone()),
            host => assert_eq!(pairs.insert(host, name.clone()), None, "{name} shares its host"),
        }
    }
    assert_eq!((pairs.len(), waiting.len()), (10, 10));
    for (host, name) in &pairs {
        assert_eq!(claimants(&sandbox.get(&format!("resource/{host}")).await), [name.as_str()]);
    }
    assert!(waiting.iter().all(|name| !pairs.values().any(|active| active == name)));
    holds_throughout(&sandbox).await;
    assert_eq!(most_at_a_time(&sandbox), (10, 10), "nothing was built beside what was there");
}

/// A resource at its end, with somebody waiting for it: it is not handed on, the next one is.
#[tokio::test]
async fn story_20_what_expires_is_granted_to_nobody() {
    let (sandbox, _controller) = alone("story-20-expires").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    for round in 0..4 {
        // The holder's end and the resource's fall together: who waits could be given what is about to go.
        let end = from_now(3_000);
        let held = format!("held-{round}");
        apply(&sandbox, &lease(&held, json!({"expiresAt": end.to_string()}))).await;
        sandbox.wait_phase(&format!("lease/{held}"), "Active").await;
        let resource = uid(&sandbox.get("resource/pool--h1").await);
        let expires = json!({"id": format!("e{round}"), "type": "Expires", "at": end.to_string()});
        command(&sandbox, "resource/pool--h1", expires).await;
        let waits = format!("waits-{round}");
        apply(&sandbox, &lease(&waits, json!({}))).await;
        let active = sandbox.wait_phase(&format!("lease/{waits}"), "Active").await;
        assert_ne!(active.data["status"]["resourceRef"]["uid"], resource, "it is another one by now");
        let gone = ended_at(&sandbox, &resource, end).await;
        assert_eq!(condition(&gone.object, "Released"), ("True", "Expired"));
        command(&sandbox, &format!("lease/{waits}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{waits}"), "Destroyed").await;
    }
    holds_throughout(&sandbox).await;
}

/// Reclaimed and asked for in the same instant: either it is reclaimed, and the lease is on the next one; or it is held, and
/// the command says so.
#[tokio::test]
async fn story_20_what_is_reclaimed_is_granted_to_nobody() {
    let (sandbox, _controller) = alone("story-20-reclaim").await;
    apply(&sandbox, &hosts(1, json!({"resource": {"reclaimAfter": "0s"}}))).await;
    apply(&sandbox, &lease("first", json!({}))).await;
    sandbox.wait_phase("lease/first", "Active").await;
    command(&sandbox, "lease/first", json!({"id": "r1", "type": "Release"})).await;
    let mut outcomes = BTreeSet::new();
    for round in 0..12 {
        let idle = |r: &kube::api::DynamicObject| claimants(r).is_empty() && crate::support::phase(r) == "Active";
        let resource = sandbox.wait_for("resource/pool--h1", "idle", idle).await;
        let id = format!("c{round}");
        let name = format!("l{round:02}");
        let document = lease(&name, json!({}));
        let reclaim =
            || sandbox.try_append(Identity::Admin, "resource/pool--h1", vec![json!({"id": id, "type": "Reclaim"})]);
        let ask = || sandbox.apply(Identity::Admin, &document);
        let reclaimed = match round % 3 {
            0 => tokio::join!(reclaim(), ask()).0,
            1 => {
                ask().await;
                reclaim().await
            }
            _ => {
                let reclaimed = reclaim().await;
                ask().await;
                reclaimed
            }
        };
        reclaimed.expect("an idle resource takes a command");
        let active = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        let same = active.data["status"]["resourceRef"]["uid"] == uid(&resource);
        sandbox.history().caught_up().await;
        let consumed = versions(&sandbox, &uid(&resource)).into_iter().rev().find_map(|s| entry(&s.object, &id));
        let consumed = match consumed {
            Some(consumed) => consumed,
            None => {
                let has = |r: &kube::api::DynamicObject| entry(r, &id).is_some();
                entry(&sandbox.wait_for("resource/pool--h1", "done with the command", has).await, &id).unwrap()
            }
        };
        let outcome = consumed["outcome"].as_str().unwrap().to_owned();
        assert_eq!(outcome, if same { "Refused" } else { "Applied" }, "{consumed}");
        if same {
            assert!(consumed["message"].as_str().unwrap().contains("held by 1 lease"), "{consumed}");
        }
        assert!(round % 3 != 2 || !same, "what was asked first comes first");
        outcomes.insert(outcome);
        command(&sandbox, &format!("lease/{name}"), json!({"id": "r1", "type": "Release"})).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
    }
    assert_eq!(outcomes.len(), 2, "each came first now and then: {outcomes:?}");
    holds_throughout(&sandbox).await;
}

/// A host that goes out of service while it is held is granted to nobody else afterwards; who waits is told.
#[tokio::test]
async fn story_20_what_is_drained_is_granted_to_nobody() {
    let (sandbox, _controller) = alone("story-20-drained").await;
    apply(&sandbox, &hosts(1, json!({"limits": {"leasesPerResource": 2}}))).await;
    apply(&sandbox, &lease("held", json!({}))).await;
    sandbox.wait_phase("lease/held", "Active").await;
    let resource = uid(&sandbox.get("resource/pool--h1").await);
    let off = json!([{"name": "h1", "address": "192.0.2.1", "disabled": true}]);
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"driver": {"hosts": {"inventory": off}}}})).await;
    apply(&sandbox, &lease("waits", json!({}))).await;
    let waiting = sandbox
        .wait_for("lease/waits", "told that no host is enabled", |l| condition(l, "Acquired").1 == "NoHostEnabled")
        .await;
    assert!(message(&waiting, "Acquired").contains("disabled"), "{waiting:?}");
    assert_eq!(crate::support::phase(&sandbox.get("lease/held").await), "Active", "what is held stays");
    command(&sandbox, "lease/held", json!({"id": "r1", "type": "Release"})).await;
    sandbox.wait_gone("resource/pool--h1").await;
    sandbox.history().caught_up().await;
    let gone = crate::told::first_over(&sandbox, &resource);
    assert_eq!(condition(&gone.object, "Released"), ("True", "Disabled"));
    let on = json!([{"name": "h1", "address": "192.0.2.1"}]);
    sandbox.patch(Identity::Admin, "blueprint/pool", json!({"spec": {"driver": {"hosts": {"inventory": on}}}})).await;
    let active = sandbox.wait_phase("lease/waits", "Active").await;
    assert_ne!(active.data["status"]["resourceRef"]["uid"], resource);
    assert!(deadline(&active, "Lifetime").is_none());
    holds_throughout(&sandbox).await;
}
