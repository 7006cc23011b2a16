//! An API server in memory: as much of one as Drydock depends on. Objects with UIDs, resourceVersions, generations,
//! finalizers and a status subresource; create, get, list in pages, watch with bookmarks, replace, JSON and merge patch,
//! delete with preconditions. That it answers as the real one does is for `conformance` to say.
//!
//! It is synchronous and always in the present. What makes the present late, lost or doubled is the wire's (`wire`).

pub mod answer;
mod namespaces;
pub mod request;
mod rules;
mod scale;
mod schema;
pub mod watch;
pub mod write;

use crate::{
    journal::{Change, Journal, Kind, Version, What},
    random::Chance,
    time::Clocks,
};
use answer::Answer;
use request::{Request, Target, Verb};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

/// Namespace and name.
pub type Name = (String, String);

/// See the module.
pub struct Server {
    pub clocks: Arc<Clocks>,
    pub journal: Arc<Journal>,
    /// Woken with each version.
    pub news: Notify,
    pub(super) chance: Chance,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Kind, BTreeMap<Name, Arc<Value>>>,
    /// The versions of each kind, in order: what watches show.
    versions: BTreeMap<Kind, Vec<Version>>,
    version: u64,
    /// Watches cannot begin before this version any more.
    compacted: u64,
    sabotage: Sabotage,
}

/// Deliberate bugs that can be made on this side of the wire, for requests of controllers only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sabotage {
    /// The preconditions of a status write are lost on the way.
    pub blind_status_writes: bool,
    /// Preconditions of finalizer changes and deletes are lost on the way.
    pub blind_metadata_writes: bool,
    /// What a JSON patch tests is not tested.
    pub blind_appends: bool,
    /// Commands may be appended to what is Destroyed, by anybody.
    pub late_commands: bool,
    /// The ledger goes with a second write, which is lost now and then.
    pub ledger_apart: bool,
}

impl Server {
    /// An empty one.
    pub fn new(clocks: Arc<Clocks>, journal: Arc<Journal>, chance: Chance) -> Arc<Self> {
        let state = State { version: 100, ..State::default() };
        Arc::new(Self { clocks, journal, news: Notify::new(), chance, state: Mutex::new(state) })
    }

    /// Answers a request of somebody; of a watch only whether it may begin.
    pub fn handle(&self, by: &Arc<str>, request: &Request) -> Answer {
        let Target::Objects { kind, namespace, name, status } = &request.target else {
            return match &request.target {
                Target::Events => Answer::created(request.body.clone()),
                Target::Scale { namespace, name } => self.scale(by, (namespace.clone(), name.clone()), request),
                _ => Answer::refused(404, "NotFound", "the server could not find the requested resource"),
            };
        };
        let object = || (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default());
        match request.verb {
            Verb::Get => match self.get(*kind, &object()) {
                Some(found) => Answer::ok((*found).clone()),
                None => Answer::not_found(*kind, &object().1),
            },
            Verb::List => self.list(*kind, namespace.as_deref(), request),
            Verb::Watch => Answer::ok(Value::Null),
            Verb::Create => self.create(by, *kind, namespace.as_deref(), request.body.clone()),
            Verb::Replace | Verb::JsonPatch | Verb::MergePatch => self.update(by, *kind, &object(), *status, request),
            Verb::Delete => self.delete(by, *kind, &object(), &request.body),
        }
    }

    /// An object as it is now.
    pub fn get(&self, kind: Kind, name: &Name) -> Option<Arc<Value>> {
        self.state.lock().unwrap().objects.get(&kind)?.get(name).cloned()
    }

    /// All objects of a kind as they are now.
    pub fn all(&self, kind: Kind) -> Vec<Arc<Value>> {
        self.state
            .lock()
            .unwrap()
            .objects
            .get(&kind)
            .into_iter()
            .flat_map(|objects| objects.values().cloned())
            .collect()
    }

    /// Watches can begin no earlier than now from now on.
    pub fn compact(&self) {
        let mut state = self.state.lock().unwrap();
        state.compacted = state.version;
    }

    /// Makes a deliberate bug.
    pub fn sabotage(&self, change: impl FnOnce(&mut Sabotage)) {
        change(&mut self.state.lock().unwrap().sabotage);
    }

    fn list(&self, kind: Kind, namespace: Option<&str>, request: &Request) -> Answer {
        let state = self.state.lock().unwrap();
        let after = match request.query.get("continue").filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => match token.split_once('/') {
                Some((namespace, name)) => Some((namespace.to_owned(), name.to_owned())),
                None => return Answer::bad_request("continue key is not valid"),
            },
        };
        let field = request.query.get("fieldSelector").filter(|s| !s.is_empty());
        let label = request.query.get("labelSelector").filter(|s| !s.is_empty());
        if let Some(selector) = field {
            let selectable = ["metadata.name", "metadata.namespace", "spec.resourceType", "status.phase"];
            let own: &[&str] = match kind {
                Kind::Resource => &["spec.blueprintRef.uid", "spec.blueprintRef.name"],
                Kind::Lease => &["status.resourceRef.name"],
                Kind::Blueprint | Kind::Namespace => &[],
            };
            let named = |part: &str| part.split_once('=').map(|(field, _)| field.trim_end_matches('!').to_owned());
            let known = |part: &str| named(part).is_some_and(|f| selectable.contains(&&*f) || own.contains(&&*f));
            if !selector.split(',').all(known) {
                return Answer::bad_request(format!("field label not supported: {selector}"));
            }
        }
        let fits = |name: &Name, object: &Value| {
            namespace.is_none_or(|ns| name.0 == ns)
                && after.as_ref().is_none_or(|after| name > after)
                && field.is_none_or(|s| s.split(',').all(|part| has_field(object, part)))
                && label.is_none_or(|s| s.split(',').all(|part| has_label(object, part)))
        };
        let found = state.objects.get(&kind).into_iter().flatten().filter(|(name, object)| fits(name, object));
        let limit = request.query.get("limit").and_then(|l| l.parse().ok()).filter(|l| *l > 0).unwrap_or(usize::MAX);
        let mut found: Vec<_> = found.map(|(name, object)| (name.clone(), object.clone())).collect();
        let left = found.len().saturating_sub(limit);
        found.truncate(limit);
        let mut metadata = json!({"resourceVersion": state.version.to_string()});
        if let Some(((namespace, name), _)) = found.last().filter(|_| left > 0) {
            metadata["continue"] = format!("{namespace}/{name}").into();
            metadata["remainingItemCount"] = left.into();
        }
        let item = |object: &Value| {
            if request.metadata_only {
                let meta = object["metadata"].clone();
                return json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta});
            }
            object.clone()
        };
        let items: Vec<_> = found.iter().map(|(_, object)| item(object)).collect();
        let (version, name) = match (request.metadata_only, kind) {
            (true, _) => ("meta.k8s.io/v1", "PartialObjectMetadataList".to_owned()),
            (false, Kind::Namespace) => ("v1", "NamespaceList".to_owned()),
            (false, kind) => ("drydock.dev/v1alpha1", format!("{kind:?}List")),
        };
        Answer::ok(json!({"apiVersion": version, "kind": name, "metadata": metadata, "items": items}))
    }

    /// Stores a version, and tells of it.
    fn store(
        &self,
        state: &mut State,
        by: &Arc<str>,
        kind: Kind,
        change: Change,
        mut object: Value,
        status: bool,
    ) -> Arc<Value> {
        state.version += 1;
        let number = state.version;
        object["metadata"]["resourceVersion"] = number.to_string().into();
        let object = Arc::new(object);
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let name = (text("namespace"), text("name"));
        let objects = state.objects.entry(kind).or_default();
        match change {
            Change::Added | Change::Modified => drop(objects.insert(name, object.clone())),
            Change::Deleted => drop(objects.remove(&name)),
        }
        let version = Version { kind, change, number, object: object.clone(), status };
        state.versions.entry(kind).or_default().push(version.clone());
        self.journal.add(by, What::Wrote(version));
        self.news.notify_waiters();
        object
    }
}

/// Whether an object has this value in this field: `spec.resourceType=host`.
fn has_field(object: &Value, part: &str) -> bool {
    let Some((field, value)) = part.split_once('=') else { return false };
    let (field, is_wanted) = match field.strip_suffix('!') {
        Some(field) => (field, false),
        None => (field, true),
    };
    let found = object.pointer(&format!("/{}", field.replace('.', "/"))).and_then(Value::as_str).unwrap_or_default();
    (found == value.trim_start_matches('=')) == is_wanted
}

/// Whether an object has this label: `name=value`, or `name` alone.
fn has_label(object: &Value, part: &str) -> bool {
    let labels = &object["metadata"]["labels"];
    match part.split_once('=') {
        Some((name, value)) => labels[name] == value.trim_start_matches('='),
        None => !labels[part].is_null(),
    }
}
