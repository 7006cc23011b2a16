//! The end: the faults are over, everything is left alone, and the system must come to rest; first in use, then empty.

use crate::{
    checker::{Kind, Rest, Wrong, phase, text, uid},
    clients::lease,
    ground::{self, BLUEPRINTS, NAMESPACE},
    recorder::Recorder,
    support::{ControlPlane, Identity, resource_of},
};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// By then everything must be at rest, on a busy machine: leases and back-offs end on their own.
const PATIENCE: Duration = Duration::from_secs(150);

/// What takes longer is worth a look.
const LONG: Duration = Duration::from_secs(30);

/// How long nothing is written when there is nothing to do. Counts are written at most every 5 s.
const SILENCE: Duration = Duration::from_secs(6);

/// Leaves everything alone until all is served, or waits and says why.
pub async fn settles(plane: &ControlPlane, recorder: &Recorder) -> Result<(), Wrong> {
    let blueprints = ground::blueprints(plane).await;
    let (_never, over) = tokio::sync::watch::channel(false);
    for name in BLUEPRINTS {
        crate::clients::make_blueprint(&blueprints, name, &over).await;
        // As at first: nothing suspended, every host enabled.
        let mut whole = ground::blueprint(name);
        whole["spec"]["suspend"] = json!(false);
        let patch = Patch::Merge(json!({"spec": whole["spec"]}));
        blueprints.patch(name, &PatchParams::default(), &patch).await.expect("the Blueprint is edited");
    }
    until(recorder, Rest::Settled).await
}

/// Asks for twice what each Blueprint has: each is served in its turn, and the checker looks at the order.
pub async fn serves_in_order(plane: &ControlPlane, recorder: &Recorder) -> Result<(), Wrong> {
    recorder.look().checker.is_calm();
    let twice = |kind: &str| ground::capacity(kind) * 2;
    let (wanted, _) = ask(plane, "turn", "6s", twice).await;
    served(recorder, &wanted, wanted.len()).await
}

/// Asks for all that each Blueprint has, and for one more, and for what nobody has: each is served but those two.
pub async fn serves_all_it_has(plane: &ControlPlane, recorder: &Recorder) -> Result<(), Wrong> {
    let (wanted, leases) = ask(plane, "last", "28s", |kind| ground::capacity(kind) + 1).await;
    let nowhere = lease("last-nowhere", json!({"resourceType": "nowhere"}));
    leases.create(&PostParams::default(), &nowhere).await.expect("the lease is valid");
    served(recorder, &wanted, wanted.len() - BLUEPRINTS.len()).await?;
    until(recorder, Rest::Settled).await
}

/// Creates so many leases of each type.
async fn ask(
    plane: &ControlPlane,
    name: &str,
    ttl: &str,
    count: impl Fn(&str) -> usize,
) -> (BTreeSet<String>, Api<DynamicObject>) {
    let client = plane.client(Identity::Admin).await;
    let leases: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &resource_of("lease"));
    let mut wanted = BTreeSet::new();
    for kind in BLUEPRINTS {
        for n in 0..count(kind) {
            let name = format!("{name}-{kind}-{n}");
            let object = lease(&name, json!({"resourceType": kind, "ttl": ttl, "priority": 100 + n % 3}));
            leases.create(&PostParams::default(), &object).await.expect("the lease is valid");
            wanted.insert(name);
        }
    }
    (wanted, leases)
}

/// Waits until so many of these have been served.
async fn served(recorder: &Recorder, wanted: &BTreeSet<String>, count: usize) -> Result<(), Wrong> {
    let start = Instant::now();
    loop {
        let (served, waiting) = {
            let record = recorder.look();
            let mine = |lease: &&Value| wanted.contains(text(lease, "/metadata/name"));
            let leases: Vec<&Value> = record.checker.of(Kind::Lease).values().filter(mine).collect();
            let served = leases.iter().filter(|lease| record.checker.served.contains(uid(lease))).count();
            (served, leases.iter().find(|lease| phase(lease) == "Pending").map(|lease| uid(lease).to_owned()))
        };
        if served >= count {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let what = format!("only {served} of {count} leases were served at last");
            return Err(Wrong { what, uids: waiting.into_iter().collect() });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Releases and deletes everything, and waits until nothing is left, and nothing is written.
pub async fn empties(plane: &ControlPlane, recorder: &Recorder) -> Result<(), Wrong> {
    let client = plane.client(Identity::Admin).await;
    let leases: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &resource_of("lease"));
    let release = json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": "last", "type": "Release"}}]);
    let release = Patch::Json::<()>(serde_json::from_value(release).unwrap());
    let all = leases.list(&ListParams::default()).await.expect("the leases are listed");
    for (n, lease) in all.iter().enumerate() {
        // Destroyed or gone by itself meanwhile: nothing to do.
        if n % 2 == 0 {
            let _ = leases.patch(&lease.name_any(), &PatchParams::default(), &release).await;
        }
        let _ = leases.delete(&lease.name_any(), &DeleteParams::default()).await;
    }
    let blueprints = ground::blueprints(plane).await;
    for name in BLUEPRINTS {
        blueprints.delete(name, &DeleteParams::default()).await.expect("the Blueprint was there");
    }
    until(recorder, Rest::Gone).await?;
    is_silent(recorder).await
}

async fn until(recorder: &Recorder, rest: Rest) -> Result<(), Wrong> {
    let start = Instant::now();
    let mut last = None;
    loop {
        let verdict = recorder.look().checker.rests(rest, Timestamp::now());
        match verdict {
            Ok(()) => break,
            Err(wrong) if start.elapsed() > PATIENCE => {
                return Err(Wrong { what: format!("not at rest ({rest:?}): {}", wrong.what), ..wrong });
            }
            Err(wrong) => last = Some(wrong),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if let Some(last) = last.filter(|_| start.elapsed() > LONG) {
        let story = recorder.look().checker.story.of(&last.uids);
        println!("{rest:?} after {:.0?}, at last only because {}:\n{story}", start.elapsed(), last.what);
    }
    Ok(())
}

/// Nothing is written any more.
async fn is_silent(recorder: &Recorder) -> Result<(), Wrong> {
    let before = recorder.look().checker.versions;
    tokio::time::sleep(SILENCE).await;
    match recorder.look().checker.versions - before {
        0 => Ok(()),
        n => Err(Wrong { what: format!("{n} versions were written when there was nothing left to do"), uids: vec![] }),
    }
}

/// The record shows just what the API server shows: it has lost nothing.
pub async fn agrees(plane: &ControlPlane, recorder: &Recorder) -> Result<(), Wrong> {
    let client = plane.client(Identity::Admin).await;
    for (kind, name) in [(Kind::Blueprint, "blueprint"), (Kind::Resource, "resource"), (Kind::Lease, "lease")] {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource_of(name));
        let start = Instant::now();
        loop {
            let listed = api.list(&ListParams::default()).await.expect("the objects are listed");
            let shown: BTreeSet<(String, String)> =
                listed.iter().map(|o| (o.uid().unwrap_or_default(), o.data["status"].to_string())).collect();
            let known: BTreeSet<(String, String)> = {
                let record = recorder.look();
                let known = record.checker.of(kind).values();
                known.map(|o| (uid(o).to_owned(), o["status"].to_string())).collect()
            };
            if shown == known {
                break;
            }
            if start.elapsed() > Duration::from_secs(20) {
                let uids = shown.symmetric_difference(&known).map(|(uid, _)| uid.clone()).take(3).collect();
                return Err(Wrong {
                    what: format!("the record of each {name} is not what the API server shows"),
                    uids,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
