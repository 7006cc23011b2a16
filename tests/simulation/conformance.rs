//! The model is true: the same requests, told and at random, get the same answers from the simulated API server and from
//! the real one, where Drydock depends on them: code and reason, the object that results but for UIDs, versions and times,
//! and what watches show and say: changes, bookmarks, and that what they ask for is kept no more.
//!
//! The real one has the CRDs and no policies, for it is the server that is compared. JSON patches and merge patches, conflicts,
//! preconditions, finalizers, the status subresource, generations, pages, field selectors, and those CEL rules that `server`
//! has by hand.

use crate::{
    journal::{Journal, Kind},
    random::Chance,
    server::{Server, request, watch},
    support::{ControlPlane, Identity, install},
    time::Clocks,
};
use axum::http;
use kube::client::Body;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

const NAMESPACE: &str = "alike";

/// What is asked: `{rv:x}`, `{old:x}` and `{uid:x}` stand for what this side knows of the object `x`, `{more}` for what it
/// said where the last list goes on.
#[derive(Clone, Debug)]
struct Ask {
    method: &'static str,
    path: String,
    type_: &'static str,
    accept: &'static str,
    body: Value,
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const PATCH: &str = "application/json-patch+json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

fn ask(method: &'static str, path: impl Into<String>, type_: &'static str, body: Value) -> Ask {
    Ask { method, path: path.into(), type_, accept: JSON, body }
}

/// One of the two servers, and what is known of its objects.
enum Side {
    Real(kube::Client),
    Simulated(Arc<Server>),
}

#[derive(Default)]
struct Known {
    /// The last versions of each object, the newest in front, and its UID.
    objects: BTreeMap<String, (VecDeque<String>, String)>,
    /// The token of the last page.
    more: String,
}

impl Known {
    fn fill(&self, text: &str) -> String {
        let mut text = text.replace("{more}", &self.more);
        for (name, (versions, uid)) in &self.objects {
            let newest = versions.front().cloned().unwrap_or_default();
            let old = versions.get(1).cloned().unwrap_or_else(|| "1".into());
            text = text.replace(&format!("{{rv:{name}}}"), &newest);
            text = text.replace(&format!("{{old:{name}}}"), &old);
            text = text.replace(&format!("{{uid:{name}}}"), uid);
        }
        text
    }

    fn see(&mut self, object: &Value) {
        if object["items"].is_array() {
            self.more = object["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        }
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
        let (Some(name), Some(version), Some(uid)) = (text("name"), text("resourceVersion"), text("uid")) else {
            return;
        };
        let known = self.objects.entry(name).or_default();
        if known.1 != uid {
            known.0.clear();
            known.1 = uid;
        }
        if known.0.front() != Some(&version) {
            known.0.push_front(version);
        }
    }
}

impl Side {
    async fn ask(&self, known: &mut Known, ask: &Ask) -> (u16, Value) {
        let body = if ask.body.is_null() { String::new() } else { known.fill(&ask.body.to_string()) };
        let path = known.fill(&ask.path);
        let (code, answer) = match self {
            Side::Real(client) => {
                let request = http::Request::builder()
                    .method(ask.method)
                    .uri(&path)
                    .header("Content-Type", ask.type_)
                    .header("Accept", ask.accept)
                    .body(Body::from(body.into_bytes()))
                    .unwrap();
                let answer = client.send(request).await.unwrap();
                let code = answer.status().as_u16();
                let bytes = answer.into_body().collect_bytes().await.unwrap();
                (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
            }
            Side::Simulated(server) => {
                let request = request::Request::read(ask.method, &path, ask.type_, ask.accept, body.as_bytes());
                let answer = server.handle(&"people".into(), &request.unwrap());
                (answer.code, answer.body)
            }
        };
        known.see(&answer);
        (code, alike(answer))
    }
}

/// What must be the same of an answer: what is chance, or words, goes.
fn alike(mut answer: Value) -> Value {
    if answer["kind"] == "Status" {
        return json!({"status": answer["status"], "reason": answer["reason"]});
    }
    if let Some(items) = answer["items"].as_array_mut() {
        let items: Vec<_> = items.drain(..).map(alike).collect();
        let more = !answer["metadata"]["continue"].as_str().unwrap_or_default().is_empty();
        return json!({"kind": answer["kind"], "items": items, "more": more});
    }
    if answer["kind"] == "Namespace" {
        // Nobody here depends on more of it.
        let meta = &answer["metadata"];
        return json!({"name": meta["name"], "goes": !meta["deletionTimestamp"].is_null()});
    }
    if let Some(meta) = answer["metadata"].as_object_mut() {
        for chance in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            meta.remove(chance);
        }
        if let Some(at) = meta.get_mut("deletionTimestamp") {
            *at = "set".into();
        }
    }
    answer
}

fn path(plural: &str, name: &str) -> String {
    let all = format!("/apis/drydock.dev/v1alpha1/namespaces/{NAMESPACE}/{plural}");
    if name.is_empty() { all } else { format!("{all}/{name}") }
}

fn lease(name: &str, more: Value) -> Value {
    let mut spec = json!({"resourceType": "host"});
    json_patch::merge(&mut spec, &more);
    json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": name}, "spec": spec})
}

fn resource(name: &str, blueprint: &str) -> Value {
    let spec = json!({"resourceType": "host", "blueprintRef": {"name": "pool", "uid": blueprint}});
    json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Resource", "metadata": {"name": name}, "spec": spec})
}

/// A status of a lease, for a PUT: with this version and ledger.
fn status(name: &str, version: &str, phase: &str, ledger: &[&str]) -> Value {
    let at = "2026-11-23T10:00:00.000000Z";
    let entry = |id: &&str| json!({"id": id, "type": "Release", "outcome": "Ignored", "observedAt": at});
    let ledger: Vec<_> = ledger.iter().map(entry).collect();
    let mut object = lease(name, json!({}));
    object["metadata"]["resourceVersion"] = version.into();
    object["status"] = json!({"phase": phase, "commands": ledger});
    object
}

/// The same of a namesake: under another UID.
fn of_another(mut object: Value) -> Value {
    object["metadata"]["uid"] = "another".into();
    object
}

/// Told requests: each thing that Drydock depends on, once.
fn told() -> Vec<Ask> {
    let (leases, a) = (path("leases", ""), path("leases", "a"));
    let a_status = path("leases", "a/status");
    let release = |id: &str| json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": id, "type": "Release"}}]);
    let finalizers =
        |list: Value| json!({"metadata": {"uid": "{uid:a}", "resourceVersion": "{rv:a}", "finalizers": list}});
    let precondition = |uid: &str, version: &str| json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid, "resourceVersion": version}});
    let mut script = vec![
        ask("GET", &a, JSON, Value::Null),
        ask("POST", path("leases", "").replace(NAMESPACE, "nowhere"), JSON, lease("a", json!({}))),
        ask("POST", &leases, JSON, lease("a", json!({"nonsense": 1, "selector": {"matchLabels": {"x": "y"}}}))),
        ask("POST", &leases, JSON, lease("a", json!({}))),
        ask("GET", &a, JSON, Value::Null),
        // Status: only through its own door, and only with the version that was read.
        ask("PATCH", &a, MERGE, json!({"status": {"phase": "Active"}})),
        ask("PUT", &a_status, JSON, status("a", "{rv:a}", "Pending", &[])),
        ask("PUT", &a_status, JSON, status("a", "{rv:a}", "Pending", &[])),
        ask("PUT", &a_status, JSON, status("a", "{old:a}", "Active", &[])),
        ask("PUT", &a_status, JSON, status("a", "", "Active", &[])),
        ask("PUT", path("leases", "b/status"), JSON, status("b", "1", "Active", &[])),
        // Commands: appended, immutable, removed when consumed.
        ask("PATCH", &a, PATCH, release("one")),
        ask("PATCH", &a, PATCH, release("one")),
        ask("PATCH", &a, PATCH, json!([{"op": "remove", "path": "/spec/commands/0"}])),
        ask("PATCH", &a, PATCH, json!([{"op": "replace", "path": "/spec/commands/0/type", "value": "Forget"}])),
        ask("PATCH", &a, MERGE, json!({"spec": {"commands": []}})),
        ask("PATCH", &a, PATCH, json!([{"op": "test", "path": "/metadata/uid", "value": "x"}])),
        ask("PATCH", &a, PATCH, json!([{"op": "add", "path": "/spec/nothing/-", "value": 1}])),
        ask("PUT", &a_status, JSON, status("a", "{rv:a}", "Pending", &["one"])),
        ask("PUT", &a_status, JSON, status("a", "{rv:a}", "Pending", &[])),
        ask("PATCH", &a, PATCH, json!([{"op": "remove", "path": "/spec/commands/0"}])),
        ask("PATCH", &a, PATCH, release("one")),
        ask("PATCH", &a, MERGE, json!({"spec": {"commands": []}})),
        ask("PUT", &a_status, JSON, status("a", "{rv:a}", "Pending", &[])),
        ask(
            "PATCH",
            &a,
            PATCH,
            json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": "r", "type": "Reclaim"}}]),
        ),
        ask(
            "PATCH",
            &a,
            PATCH,
            json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": "e", "type": "Expires"}}]),
        ),
        // Spec: immutable, but for a few fields.
        ask("PATCH", &a, MERGE, json!({"spec": {"ttl": "5m"}})),
        ask("PATCH", &a, MERGE, json!({"spec": {"selector": null}})),
        ask("PATCH", &a, MERGE, json!({"spec": {"priority": 3}})),
        ask("PATCH", &a, MERGE, json!({"metadata": {"annotations": {"note": "x"}}})),
        ask("PATCH", &a, MERGE, json!({"metadata": {"annotations": {"note": "x"}}})),
        // Finalizers and deletion.
        ask("PATCH", &a, MERGE, finalizers(json!(["drydock.dev/teardown"]))),
        ask("PATCH", &a, MERGE, json!({"metadata": {"uid": "another", "finalizers": null}})),
        ask("PATCH", &a, MERGE, json!({"metadata": {"resourceVersion": "{old:a}", "finalizers": null}})),
        ask(
            "PATCH",
            &a,
            MERGE,
            json!({"metadata": {"uid": "another", "resourceVersion": "{old:a}", "finalizers": null}}),
        ),
        ask("PUT", &a_status, JSON, of_another(status("a", "{rv:a}", "Active", &["one"]))),
        ask("PUT", &a_status, JSON, of_another(status("a", "{old:a}", "Active", &["one"]))),
        ask("PUT", &a, JSON, of_another(status("a", "{rv:a}", "Active", &["one"]))),
        ask("DELETE", &a, JSON, precondition("another", "{rv:a}")),
        ask("DELETE", &a, JSON, precondition("{uid:a}", "{old:a}")),
        ask("DELETE", &a, JSON, precondition("{uid:a}", "{rv:a}")),
        ask("DELETE", &a, JSON, Value::Null),
        ask("PATCH", &a, PATCH, release("two")),
        ask("PATCH", &a, MERGE, finalizers(json!(["drydock.dev/teardown", "example.dev/more"]))),
        ask("PUT", &a_status, JSON, status("a", "{rv:a}", "Destroyed", &["two"])),
        ask("PATCH", &a, PATCH, release("three")),
        ask("PATCH", &a, MERGE, finalizers(json!([]))),
        ask("GET", &a, JSON, Value::Null),
        ask("PATCH", &a, MERGE, json!({"metadata": {"finalizers": null}})),
        ask("DELETE", &a, JSON, Value::Null),
        // A namesake is another.
        ask("POST", &leases, JSON, lease("a", json!({}))),
        ask("DELETE", &a, JSON, precondition("{uid:a}", "{rv:a}")),
        ask("POST", path("resources", ""), JSON, resource("pool--0", "x")),
        ask("POST", path("resources", ""), JSON, resource("pool--1", "y")),
        ask("POST", path("resources", ""), JSON, resource("pool--2", "x")),
        ask("GET", path("resources", "") + "?fieldSelector=spec.blueprintRef.uid%3Dx", JSON, Value::Null),
        ask("GET", path("resources", "") + "?fieldSelector=spec.nothing%3Dx", JSON, Value::Null),
        ask("GET", path("resources", "") + "?fieldSelector=spec.blueprintRef.uid%21%3Dx", JSON, Value::Null),
        ask(
            "GET",
            path("resources", "") + "?fieldSelector=spec.blueprintRef.uid%3Dx%2Cstatus.phase%21%3DDestroyed",
            JSON,
            Value::Null,
        ),
        ask("GET", path("resources", "") + "?limit=2", JSON, Value::Null),
        ask("GET", path("resources", "") + "?limit=2&continue={more}", JSON, Value::Null),
        ask("GET", path("resources", "") + "?limit=2&continue=nonsense", JSON, Value::Null),
        ask("GET", path("resources", "") + "?labelSelector=a%3Db", JSON, Value::Null),
        ask("PATCH", path("resources", "pool--0"), MERGE, json!({"spec": {"blueprintRef": {"uid": "z"}}})),
        ask("GET", "/apis/drydock.dev/v1alpha1/resources?fieldSelector=spec.blueprintRef.uid%3Dy", JSON, Value::Null),
    ];
    script.push(Ask { accept: METADATA, ..ask("GET", path("resources", ""), JSON, Value::Null) });
    script.extend(scaled());
    script.extend(namespace_that_goes());
    script
}

/// How many a Blueprint keeps ready, as `kubectl scale` and autoscalers say it.
fn scaled() -> Vec<Ask> {
    let (pool, scale) = (path("blueprints", "pool"), path("blueprints", "pool/scale"));
    let replicas = |n: i64| json!({"spec": {"replicas": n}});
    let spec = json!({"resourceType": "host", "limits": {"maxResources": 3}, "driver": {"hosts": {"inventory": [{"name": "h1"}]}}});
    let blueprint =
        json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": "pool"}, "spec": spec});
    vec![
        ask("GET", &scale, JSON, Value::Null),
        ask("POST", path("blueprints", ""), JSON, blueprint),
        ask("GET", &scale, JSON, Value::Null),
        ask("PATCH", &scale, MERGE, replicas(2)),
        ask("PATCH", &scale, MERGE, replicas(2)),
        ask("GET", &scale, JSON, Value::Null),
        ask("PATCH", &scale, MERGE, replicas(-1)),
        ask("PATCH", &scale, MERGE, json!({"metadata": {"resourceVersion": "{old:pool}"}, "spec": {"replicas": 1}})),
        ask("PATCH", &scale, MERGE, json!({"metadata": {"resourceVersion": "{rv:pool}"}, "spec": {"replicas": 1}})),
        ask("GET", &pool, JSON, Value::Null),
        ask("DELETE", &pool, JSON, Value::Null),
    ]
}

/// Nothing new comes into a namespace that is being deleted. It stays for as long as something in it has a finalizer.
fn namespace_that_goes() -> Vec<Ask> {
    let goes = "/api/v1/namespaces/goes";
    let leases = path("leases", "").replace(NAMESPACE, "goes");
    let mut keeps_it = lease("keeps-it", json!({}));
    keeps_it["metadata"]["finalizers"] = json!(["drydock.dev/teardown"]);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "goes"}});
    vec![
        ask("POST", "/api/v1/namespaces", JSON, namespace),
        ask("POST", &leases, JSON, keeps_it),
        ask("DELETE", goes, JSON, Value::Null),
        ask("POST", &leases, JSON, lease("late", json!({}))),
        ask("GET", format!("{leases}/late"), JSON, Value::Null),
        ask("DELETE", goes, JSON, Value::Null),
    ]
}

/// Requests at random, about a few leases.
fn at_random(chance: &Chance) -> Ask {
    let name = ["p", "q", "r"][chance.within(0..3) as usize];
    let object = path("leases", name);
    let id = ["i", "j", "k", "l"][chance.within(0..4) as usize];
    let version = match chance.within(0..4) {
        0 => format!("{{old:{name}}}"),
        _ => format!("{{rv:{name}}}"),
    };
    let finalizer = if chance.permille(500) { json!(["drydock.dev/teardown"]) } else { Value::Null };
    match chance.within(0..12) {
        0..2 => ask("POST", path("leases", ""), JSON, lease(name, json!({"ttl": "1m"}))),
        2 => ask("GET", object, JSON, Value::Null),
        3..5 => {
            let command = json!({"id": id, "type": "Release"});
            ask("PATCH", object, PATCH, json!([{"op": "add", "path": "/spec/commands/-", "value": command}]))
        }
        5 => ask("PATCH", object, PATCH, json!([{"op": "remove", "path": "/spec/commands/0"}])),
        6 => ask("PATCH", object, MERGE, json!({"spec": {"commands": []}})),
        7..9 => {
            let phase = ["Pending", "Active", "Destroyed"][chance.within(0..3) as usize];
            let most = chance.within(0..5) as usize;
            let mut written = status(name, &version, phase, &["i", "j", "k", "l"][..most]);
            written["spec"]["ttl"] = "9m".into();
            ask("PUT", path("leases", &format!("{name}/status")), JSON, written)
        }
        9 => {
            let meta = json!({"uid": format!("{{uid:{name}}}"), "resourceVersion": version, "finalizers": finalizer});
            ask("PATCH", object, MERGE, json!({"metadata": meta}))
        }
        10 => {
            let conditions = json!({"uid": format!("{{uid:{name}}}"), "resourceVersion": version});
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions});
            ask("DELETE", object, JSON, if chance.permille(500) { options } else { Value::Null })
        }
        _ => ask("PATCH", object, MERGE, json!({"spec": {"priority": chance.within(0..5)}})),
    }
}

fn event(event: &Value) -> Value {
    json!([event["type"], alike(event["object"].clone())])
}

/// What the real server says to a watch until it ends; once it has begun this is asked, for a bookmark is told only after
/// something new.
async fn watched(real: &kube::Client, uri: &str, meanwhile: Option<Ask>) -> Vec<Value> {
    let request = http::Request::get(uri).body(Body::empty()).unwrap();
    let answer = real.send(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{uri}");
    if let Some(ask) = meanwhile {
        let (code, answer) = Side::Real(real.clone()).ask(&mut Known::default(), &ask).await;
        assert_eq!(code, 201, "{answer}");
    }
    let bytes = answer.into_body().collect_bytes().await.unwrap();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| event(&serde_json::from_slice(line).unwrap())).collect()
}

/// What the simulated server has shown to watches since the beginning, and what the real one has.
async fn shown(real: &kube::Client, simulated: &Server, plural: &str, since: &str) -> [Vec<Value>; 2] {
    let theirs =
        watched(real, &format!("{}?watch=true&resourceVersion={since}&timeoutSeconds=2", path(plural, "")), None).await;
    let mut ours = Vec::new();
    let kind = if plural == "leases" { Kind::Lease } else { Kind::Resource };
    let mut after = 0;
    while let watch::Shown::Version(version) = simulated.after(kind, Some(NAMESPACE), after) {
        after = version.number;
        ours.push(event(&watch::event(&version)));
    }
    [theirs, ours]
}

#[tokio::test]
async fn the_model_answers_as_the_real_server_does() {
    let plane = ControlPlane::start().await.unwrap();
    install::crds(&plane).await.unwrap();
    let client = plane.client(Identity::Admin).await;
    let clocks = Clocks::new();
    let chance = Chance::new(std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7));
    let server = Server::new(clocks.clone(), Journal::new(clocks), chance.clone());
    let sides = [Side::Real(client.clone()), Side::Simulated(server.clone())];
    let mut known = [Known::default(), Known::default()];

    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    for (side, known) in sides.iter().zip(&mut known) {
        side.ask(known, &ask("POST", "/api/v1/namespaces", JSON, namespace.clone())).await;
    }
    let mut since = Vec::new();
    for plural in ["leases", "resources"] {
        since.push((plural, version_of(&client, &path(plural, "")).await));
    }

    let mut script = told();
    script.extend((0..600).map(|_| at_random(&chance)));
    let mut differ = Vec::new();
    for (n, one) in script.iter().enumerate() {
        let [real, simulated] = &sides;
        let [of_real, of_simulated] = &mut known;
        let (theirs, ours) = (real.ask(of_real, one).await, simulated.ask(of_simulated, one).await);
        if theirs != ours {
            differ.push(format!("{n}: {one:?}\n  real:      {theirs:?}\n  simulated: {ours:?}"));
        }
    }
    assert!(differ.is_empty(), "{} answers differ:\n{}", differ.len(), differ[..differ.len().min(12)].join("\n"));
    for (plural, since) in &since {
        let [theirs, ours] = shown(&client, &server, plural, since).await;
        assert_eq!(theirs.len(), ours.len(), "watches of {plural} show as many events: {theirs:?}");
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs, ours, "watches of {plural} show the same");
        }
    }
    let news = [(Kind::Lease, lease("news", json!({}))), (Kind::Resource, resource("pool--9", "x"))];
    for ((plural, since), (kind, news)) in since.iter().zip(news) {
        let from = |version: &str| format!("{}?watch=true&resourceVersion={version}", path(plural, ""));
        let old = watched(&client, &(from("1") + "&timeoutSeconds=2"), None).await;
        assert_eq!(old, [event(&watch::expired())], "what is asked for is kept no more");
        let marked = from(since) + "&timeoutSeconds=5&allowWatchBookmarks=true";
        let mut marks = watched(&client, &marked, Some(ask("POST", path(plural, ""), JSON, news))).await;
        marks.retain(|event| event[0] == "BOOKMARK");
        assert!(!marks.is_empty(), "there are bookmarks of {plural}");
        assert!(marks.iter().all(|mark| *mark == event(&watch::bookmark(kind, 1))), "bookmarks are alike: {marks:?}");
    }
}

/// The version of a list.
async fn version_of(real: &kube::Client, path: &str) -> String {
    let list = real.request_text(http::Request::get(path).body(vec![]).unwrap()).await.unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}
