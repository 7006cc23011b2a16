//! Create, replace, patch and delete.

use super::{Answer, Change, Kind, Name, Request, Server, Verb, namespaces, rules, schema};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// Whoever writes under such a name is a controller.
pub const CONTROLLER: &str = "controller-";

impl Server {
    pub(super) fn create(&self, by: &Arc<str>, kind: Kind, namespace: Option<&str>, mut object: Value) -> Answer {
        let within = namespace.map(|namespace| self.get(Kind::Namespace, &(String::new(), namespace.to_owned())));
        if let (Some(namespace), Some(None)) = (namespace, &within) {
            return Answer::not_found(Kind::Namespace, namespace);
        }
        if !object["metadata"]["resourceVersion"].is_null() {
            return Answer::bad_request("resourceVersion should not be set on objects to be created");
        }
        let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else {
            return Answer::invalid("name is required");
        };
        schema::shape(kind, &mut object);
        let given = object["metadata"].take();
        let mut meta = json!({
            "name": name, "uid": self.new_uid(), "creationTimestamp": whole_seconds(self.clocks.server()),
        });
        if let Some(namespace) = namespace {
            meta["namespace"] = namespace.into();
        }
        if kind != Kind::Namespace {
            meta["generation"] = 1.into();
        }
        keep_given(&mut meta, &given);
        object["metadata"] = meta;
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
        if let Some(why) = rules::refusal(kind, None, &object) {
            return Answer::invalid(why);
        }
        let mut state = self.state.lock().unwrap();
        let key = (namespace.unwrap_or_default().to_owned(), name.clone());
        if within.flatten().is_some_and(|within| namespaces::is_terminating(&within)) {
            return Answer::refused(
                403,
                "Forbidden",
                "unable to create new content: the namespace is being terminated",
            );
        }
        if state.objects.get(&kind).is_some_and(|objects| objects.contains_key(&key)) {
            return Answer::refused(409, "AlreadyExists", format!("{name:?} already exists"));
        }
        let stored = self.store(&mut state, by, kind, Change::Added, object, false);
        Answer::created((*stored).clone())
    }

    pub(super) fn update(&self, by: &Arc<str>, kind: Kind, name: &Name, status: bool, request: &Request) -> Answer {
        let mut state = self.state.lock().unwrap();
        let sabotage = if by.starts_with(CONTROLLER) { state.sabotage } else { Default::default() };
        let Some(old) = state.objects.get(&kind).and_then(|objects| objects.get(name)).cloned() else {
            return Answer::not_found(kind, &name.1);
        };
        let untested = sabotage.blind_appends.then(|| without_tests(request));
        let mut new = match changed(&old, untested.as_ref().unwrap_or(request)) {
            Ok(new) => new,
            Err(answer) => return answer,
        };
        let blind = if status { sabotage.blind_status_writes } else { sabotage.blind_metadata_writes };
        if new["metadata"]["name"] != old["metadata"]["name"] && !new["metadata"]["name"].is_null() {
            return Answer::bad_request("the name of the object does not match the name on the URL");
        }
        let other_uid = !new["metadata"]["uid"].is_null() && new["metadata"]["uid"] != old["metadata"]["uid"] && !blind;
        if other_uid && request.verb == Verb::Replace {
            return Answer::conflict("Precondition failed: UID in precondition is another");
        }
        match new["metadata"]["resourceVersion"].as_str() {
            None | Some("" | "0") => {
                return Answer::invalid("metadata.resourceVersion: must be specified for an update");
            }
            Some(version) if old["metadata"]["resourceVersion"] != version && !blind => {
                return Answer::conflict(
                    "the object has been modified; please apply your changes to the latest version",
                );
            }
            Some(_) => {}
        }
        if other_uid {
            return Answer::invalid("metadata.uid: field is immutable");
        }
        schema::shape(kind, &mut new);
        let given = new["metadata"].take();
        new["metadata"] = old["metadata"].clone();
        let kept = if status { "spec" } else { "status" };
        match old.get(kept) {
            Some(value) => new[kept] = value.clone(),
            None => drop(new.as_object_mut().map(|new| new.remove(kept))),
        }
        if !status {
            keep_given(&mut new["metadata"], &given);
            if new["spec"] != old["spec"] {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
                new["metadata"]["generation"] = (generation + 1).into();
            }
        }
        if sabotage.ledger_apart && status && self.chance.permille(300) {
            let ledger = old.pointer("/status/commands").cloned();
            match ledger {
                Some(ledger) => new["status"]["commands"] = ledger,
                None => drop(new["status"].as_object_mut().map(|status| status.remove("commands"))),
            }
        }
        let deleting = !old["metadata"]["deletionTimestamp"].is_null();
        let finalizers = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        if deleting && finalizers(&new).iter().any(|finalizer| !finalizers(&old).contains(finalizer)) {
            return Answer::invalid(
                "metadata.finalizers: no new finalizers can be added if the object is being deleted",
            );
        }
        let late = |why: &String| state.sabotage.late_commands && why == rules::DESTROYED;
        if let Some(why) = rules::refusal(kind, Some(&old), &new).filter(|why| !late(why)) {
            return Answer::invalid(why);
        }
        if new == *old {
            return Answer::ok(new);
        }
        if deleting && kind != Kind::Namespace && finalizers(&new).is_empty() {
            // What watches show is the last version that was stored.
            self.store(&mut state, by, kind, Change::Deleted, (*old).clone(), status);
            return Answer::ok(new);
        }
        Answer::ok((*self.store(&mut state, by, kind, Change::Modified, new, status)).clone())
    }

    pub(super) fn delete(&self, by: &Arc<str>, kind: Kind, name: &Name, options: &Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        let blind = by.starts_with(CONTROLLER) && state.sabotage.blind_metadata_writes;
        let Some(old) = state.objects.get(&kind).and_then(|objects| objects.get(name)).cloned() else {
            return Answer::not_found(kind, &name.1);
        };
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] && !blind {
                return Answer::conflict(format!("the {field} in the precondition is not that of the object"));
            }
        }
        let mut new = (*old).clone();
        if kind == Kind::Namespace {
            return Answer::ok((*self.terminate(&mut state, by, new)).clone());
        }
        if old["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.store(&mut state, by, kind, Change::Deleted, new, false);
            let details = json!({"name": name.1, "uid": old["metadata"]["uid"]});
            return Answer::ok(json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            }));
        }
        if old["metadata"]["deletionTimestamp"].is_null() {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            new["metadata"]["generation"] = (generation + 1).into();
            new["metadata"]["deletionTimestamp"] = whole_seconds(self.clocks.server()).into();
            new["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            return Answer::ok((*self.store(&mut state, by, kind, Change::Modified, new, false)).clone());
        }
        Answer::ok(new)
    }

    fn new_uid(&self) -> String {
        let (a, b) = (self.chance.number(), self.chance.number());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            a & 0xffff,
            (a >> 16) & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }
}

/// A JSON patch without what it tests.
fn without_tests(request: &Request) -> Request {
    let mut request = request.clone();
    if let (Verb::JsonPatch, Some(operations)) = (request.verb, request.body.as_array_mut()) {
        operations.retain(|operation| operation["op"] != "test");
    }
    request
}

/// What a request makes of an object.
pub(super) fn changed(old: &Value, request: &Request) -> Result<Value, Answer> {
    match request.verb {
        Verb::MergePatch => {
            let mut new = old.clone();
            json_patch::merge(&mut new, &request.body);
            Ok(new)
        }
        Verb::JsonPatch => {
            let mut new = old.clone();
            let patch: json_patch::Patch = serde_json::from_value(request.body.clone())
                .map_err(|error| Answer::bad_request(format!("the patch cannot be read: {error}")))?;
            json_patch::patch(&mut new, &patch)
                .map_err(|error| Answer::invalid(format!("the server rejected our request: {error}")))?;
            Ok(new)
        }
        _ => Ok(request.body.clone()),
    }
}

/// What of an object's metadata is the client's.
fn keep_given(meta: &mut Value, given: &Value) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match &given[field] {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if empty {
            meta.as_object_mut().map(|meta| meta.remove(field));
        } else {
            meta[field] = given[field].clone();
        }
    }
}

/// Creation and deletion have whole seconds, rounded down.
pub(super) fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
