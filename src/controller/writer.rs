//! All writes to our API group. Status is written only by a PUT of the object that was read, its resourceVersion being the
//! precondition (protocol.md, G1); every finalizer change and every delete tests UID and resourceVersion (G2).

use super::{fair_queue::FairQueue, key::Key, metrics::Metrics};
use crate::{
    api::{Blueprint, Command, Condition, FINALIZER, Resource, readable::Assemble},
    lifecycle::{MetadataChange, Urgency},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, GetParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use std::{collections::BTreeMap, fmt::Debug, sync::Arc, sync::Mutex, time::Duration};
use tokio::sync::oneshot;

/// How many writes are under way at once: the API server is saturated by eight (shell-facts.md, 1.3).
const IN_FLIGHT: usize = 32;

/// A request that has no answer by then has failed; it may have taken effect all the same.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Objects of the three kinds, as the writer takes them.
pub trait Ours:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Assemble
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Ours for K where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Assemble
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Why a request did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Somebody has written the object since it was read; it may even have been this write, retried.
    #[error("it has changed since it was read")]
    Conflict,
    /// The object is gone, or another has its name.
    #[error("it is gone")]
    Gone,
    /// The API server does not serve its path, now or at all: that says nothing of the object.
    #[error("the API server does not serve it: {0}")]
    NotServed(String),
    /// There is one of this name.
    #[error("there is one of this name")]
    AlreadyExists,
    /// The API server refused.
    #[error("refused: {0}")]
    Refused(String),
    /// It is not the object that the pass is over; a defect.
    #[error("it is another object than the one that is looked at")]
    Foreign,
    /// No answer in time; what came of it is not known.
    #[error("no answer within {REQUEST_TIMEOUT:?}")]
    TimedOut,
    /// The request could not be made, or not be answered.
    #[error("{0}")]
    Failed(#[source] Box<kube::Error>),
}

impl RequestError {
    /// The word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::NotServed(_) => "NotServed",
            Self::AlreadyExists => "AlreadyExists",
            Self::Refused(_) => "Refused",
            Self::Foreign => "Foreign",
            Self::TimedOut => "TimedOut",
            Self::Failed(_) => "Failed",
        }
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.is_already_exists() => Self::AlreadyExists,
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict,
            kube::Error::Api(status)
                if status.code == 404 && status.details.as_ref().is_none_or(|d| d.name.is_empty()) =>
            {
                Self::NotServed(status.message.clone())
            }
            kube::Error::Api(status) if status.is_not_found() => Self::Gone,
            kube::Error::Api(status) if status.is_forbidden() || status.code == 422 || status.code == 400 => {
                Self::Refused(status.message.clone())
            }
            _ => Self::Failed(Box::new(error)),
        }
    }
}

/// Reads an object; `None` where the API server says that there is none of this name.
///
/// # Errors
/// Where it says nothing of the object.
pub async fn read_opt<K>(api: &Api<K>, name: &str) -> Result<Option<K>, RequestError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let reading = async {
        match api.get(name).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if crate::api::is_not_found(&status, name) => Ok(None),
            Err(error) => Err(error),
        }
    };
    in_time(reading).await
}

/// Waits for an answer, but not for ever.
pub async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RequestError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(RequestError::from),
        Err(_) => Err(RequestError::TimedOut),
    }
}

/// See the module.
pub struct Writer {
    client: Client,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// One that writes through this client.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, gate: Gate::new(IN_FLIGHT), metrics }
    }

    fn api<K: Ours>(&self, object: &K) -> Api<K> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    /// Writes the status of the object that was read, in the pass over this key: nobody writes another object's status
    /// (design.md, 1).
    ///
    /// # Errors
    /// [`RequestError::Foreign`] where it is another object's.
    /// [`RequestError::Conflict`] where the object has changed since: read again, decide again.
    pub async fn replace_status<K: Ours>(&self, urgency: Urgency, pass: &Key, object: &K) -> Result<K, RequestError> {
        if !pass.is_of(object) {
            return Err(RequestError::Foreign);
        }
        let _permit = self.gate.enter(urgency, object.meta().namespace.as_deref()).await;
        let api = self.api(object);
        let name = object.name_any();
        let parameters = PostParams::default();
        let answer = in_time(api.replace_status(&name, &parameters, object)).await;
        self.count::<K, _>("status", &answer);
        answer
    }

    /// Changes the metadata of the object that was read. `None`: that was the end of it.
    ///
    /// # Errors
    /// [`RequestError::Conflict`] where the object has changed since: read again, decide again.
    pub async fn change_metadata<K: Ours>(
        &self,
        urgency: Urgency,
        object: &K,
        change: MetadataChange,
    ) -> Result<Option<K>, RequestError> {
        let _permit = self.gate.enter(urgency, object.meta().namespace.as_deref()).await;
        let api = self.api(object);
        let name = object.name_any();
        let meta = object.meta();
        let mut finalizers: Vec<&str> = object.finalizers().iter().map(String::as_str).collect();
        match change {
            MetadataChange::AddFinalizer => finalizers.push(FINALIZER),
            MetadataChange::RemoveFinalizer => finalizers.retain(|f| *f != FINALIZER),
            MetadataChange::Prune => return self.prune(object).await.map(Some),
            MetadataChange::Delete => {
                let preconditions =
                    Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
                let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                let answer = in_time(api.delete(&name, &parameters)).await;
                self.count::<K, _>("delete", &answer);
                // With a finalizer of anybody's the answer is the object, marked; else it is gone.
                return Ok(answer?.left());
            }
        }
        if finalizers.is_empty() && meta.deletion_timestamp.is_some() {
            let answer = self.let_go(object).await;
            self.count::<K, _>("finalizer", &answer);
            return answer.map(|()| None);
        }
        let patch = serde_json::json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers},
        });
        let answer = in_time(api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await;
        self.count::<K, _>("finalizer", &answer);
        answer.map(Some)
    }

    /// Takes the last finalizer off an object that is deleted, which is then gone. By a PUT, with all that the API server has of it:
    /// what a PATCH has let go the server removes by name, in a step of its own, and where another has done the same a moment
    /// before that is a namesake. A PUT carries the UID into that step (k8s.io/apiserver, registry/generic, deleteWithoutFinalizers).
    async fn let_go<K: Ours>(&self, object: &K) -> Result<(), RequestError> {
        self.put_finalizers::<K>(object.meta(), &[]).await
    }

    /// Takes our finalizer off an object that cannot be read. What it holds goes back to the API server as it came.
    ///
    /// # Errors
    /// [`RequestError::Conflict`] where the object has changed since it was seen.
    pub async fn remove_finalizer_unread<K: Ours>(&self, meta: &ObjectMeta) -> Result<(), RequestError> {
        let _permit = self.gate.enter(Urgency::Later, meta.namespace.as_deref()).await;
        let others = meta.finalizers.iter().flatten().map(String::as_str).filter(|f| *f != FINALIZER);
        let answer = self.put_finalizers::<K>(meta, &others.collect::<Vec<_>>()).await;
        self.count::<K, _>("finalizer", &answer);
        answer
    }

    /// Replaces the finalizers of an object, and nothing else of it: its text is not parsed but for its metadata.
    async fn put_finalizers<K: Ours>(&self, meta: &ObjectMeta, finalizers: &[&str]) -> Result<(), RequestError> {
        let (requests, name) = self.requests_for::<K>(meta);
        let text = self.ask(requests.get(name, &GetParams::default())).await?;
        let changed = edited(&text, meta, "metadata", "finalizers", finalizers)?;
        self.ask(requests.replace(name, &PostParams::default(), changed)).await.map(drop)
    }

    /// Says in the status of a Blueprint that cannot be read that this is so.
    ///
    /// # Errors
    /// [`RequestError::Conflict`] where the object has changed since it was seen.
    pub async fn replace_conditions_unread(
        &self,
        meta: &ObjectMeta,
        conditions: &[Condition],
    ) -> Result<(), RequestError> {
        let _permit = self.gate.enter(Urgency::Later, meta.namespace.as_deref()).await;
        let put = async {
            let (requests, name) = self.requests_for::<Blueprint>(meta);
            let text = self.ask(requests.get(name, &GetParams::default())).await?;
            let changed = edited(&text, meta, "status", "conditions", conditions)?;
            self.ask(requests.replace_subresource("status", name, &PostParams::default(), changed)).await.map(drop)
        };
        let answer = put.await;
        self.count::<Blueprint, _>("status", &answer);
        answer
    }

    fn requests_for<'a, K: Ours>(&self, meta: &'a ObjectMeta) -> (kube::core::Request, &'a str) {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        (kube::core::Request::new(K::url_path(&(), Some(namespace))), meta.name.as_deref().unwrap_or_default())
    }

    /// Makes a request whose answer is taken as text.
    async fn ask(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<String, RequestError> {
        match request {
            Ok(request) => in_time(self.client.request_text(request)).await,
            Err(error) => Err(RequestError::Refused(error.to_string())),
        }
    }

    /// Takes those commands out of the queue that the ledger of the object that was read shows consumed.
    async fn prune<K: Ours>(&self, object: &K) -> Result<K, RequestError> {
        let meta = object.meta();
        let mut patch = vec![
            serde_json::json!({"op": "test", "path": "/metadata/uid", "value": meta.uid}),
            serde_json::json!({"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}),
        ];
        // From the end: the places of those before do not change.
        let consumed = consumed(object).into_iter().rev();
        patch.extend(consumed.map(|n| serde_json::json!({"op": "remove", "path": format!("/spec/commands/{n}")})));
        let patch = match serde_json::from_value(patch.into()) {
            Ok(patch) => Patch::Json::<()>(patch),
            Err(error) => return Err(RequestError::Refused(error.to_string())),
        };
        let answer = in_time(self.api(object).patch(&object.name_any(), &PatchParams::default(), &patch)).await;
        self.count::<K, _>("prune", &answer);
        // A test that fails is told as an invalid request: the object has changed since.
        answer.map_err(|error| if matches!(error, RequestError::Refused(_)) { RequestError::Conflict } else { error })
    }

    /// Creates a Resource: its name is the lock of its slot.
    ///
    /// # Errors
    /// [`RequestError::AlreadyExists`] where somebody else has the lock.
    pub async fn create(&self, resource: &Resource) -> Result<Resource, RequestError> {
        let _permit = self.gate.enter(Urgency::Soon, resource.metadata.namespace.as_deref()).await;
        let answer = in_time(self.api(resource).create(&PostParams::default(), resource)).await;
        self.count::<Resource, _>("create", &answer);
        answer
    }

    /// Appends a command to the queue of a Resource that is seen like this still: the only thing that Drydock itself asks of
    /// another object (design.md, 6).
    ///
    /// # Errors
    /// [`RequestError::Refused`] where it has changed since, too: the API server tells no conflict of a test that fails.
    pub async fn append(&self, resource: &Resource, command: &Command) -> Result<Resource, RequestError> {
        let _permit = self.gate.enter(Urgency::Soon, resource.metadata.namespace.as_deref()).await;
        let meta = &resource.metadata;
        let patch = serde_json::json!([
            {"op": "test", "path": "/metadata/uid", "value": meta.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
            {"op": "add", "path": "/spec/commands/-", "value": command},
        ]);
        let patch = match serde_json::from_value(patch) {
            Ok(patch) => Patch::Json::<()>(patch),
            Err(error) => return Err(RequestError::Refused(error.to_string())),
        };
        let name = resource.name_any();
        let answer = in_time(self.api(resource).patch(&name, &PatchParams::default(), &patch)).await;
        self.count::<Resource, _>("append", &answer);
        answer
    }

    fn count<K: Ours, T>(&self, verb: &'static str, answer: &Result<T, RequestError>) {
        let outcome = answer.as_ref().map_or_else(RequestError::reason, |_| "Ok");
        self.metrics.wrote(&K::kind(&()), verb, outcome);
    }
}

/// Lets so many in at once, the most urgent first; the namespaces that wait with one urgency take turns, so that a namespace
/// that asks for many writes delays its own.
struct Gate {
    state: Mutex<GateState>,
}

struct GateState {
    free: usize,
    /// The classes are those of [`Urgency`].
    waiting: FairQueue<oneshot::Sender<Permit>, 3>,
}

/// The right to make one request. Handed on when it is dropped.
struct Permit {
    gate: Arc<Gate>,
}

impl Gate {
    fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(GateState { free: places, waiting: Default::default() }) })
    }

    async fn enter(self: &Arc<Self>, urgency: Urgency, namespace: Option<&str>) -> Permit {
        let waiting = {
            let mut state = super::lock(&self.state);
            if state.free > 0 {
                state.free -= 1;
                return Permit { gate: self.clone() };
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(urgency as usize, &namespace.unwrap_or_default().into(), sender);
            receiver
        };
        match waiting.await {
            Ok(permit) => permit,
            // The sender is never dropped unsent; a permit too many would do no harm.
            Err(_) => Permit { gate: self.clone() },
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = super::lock(&self.gate.state);
            let next = state.waiting.pop();
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some(next) = next {
            // Where nobody waits there any more the permit comes back, is dropped, and goes to the next.
            drop(next.send(Permit { gate: self.gate.clone() }));
        }
    }
}

/// The text of an object, with another value for one field of `metadata` or `status`. Nothing else of the text is parsed but the
/// metadata: a conflict where it is not the version that was read.
fn edited<T: Serialize + ?Sized>(
    text: &str,
    meta: &ObjectMeta,
    part: &str,
    field: &str,
    value: &T,
) -> Result<Vec<u8>, RequestError> {
    type Fields = BTreeMap<String, Box<RawValue>>;
    let unexpected = |error: serde_json::Error| RequestError::Refused(format!("an answer that is no object: {error}"));
    let mut object: Fields = serde_json::from_str(text).map_err(unexpected)?;
    let fields = |part: &str| -> Result<Fields, RequestError> {
        serde_json::from_str(object.get(part).map_or("{}", |part| part.get())).map_err(unexpected)
    };
    let metadata = fields("metadata")?;
    let is = |field: &str, wanted: &Option<String>| {
        metadata.get(field).and_then(|raw| serde_json::from_str(raw.get()).ok()).as_ref() == wanted.as_ref()
    };
    if !is("uid", &meta.uid) || !is("resourceVersion", &meta.resource_version) {
        return Err(RequestError::Conflict);
    }
    let mut fields = fields(part)?;
    fields.insert(field.to_owned(), to_raw_value(value).map_err(unexpected)?);
    object.insert(part.to_owned(), to_raw_value(&fields).map_err(unexpected)?);
    serde_json::to_vec(&object).map_err(unexpected)
}

/// The places in an object's queue of those commands that its ledger has.
fn consumed<K: Ours>(object: &K) -> Vec<usize> {
    let object = serde_json::to_value(object).unwrap_or_default();
    let ids = |at: &str| -> Vec<serde_json::Value> {
        let list = object.pointer(at).and_then(serde_json::Value::as_array);
        list.into_iter().flatten().map(|entry| entry["id"].clone()).collect()
    };
    let ledger = ids("/status/commands");
    let queue = ids("/spec/commands").into_iter().enumerate();
    queue.filter(|(_, id)| ledger.contains(id)).map(|(n, _)| n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Taken for gone, an object whose kind is not served for a moment would leave the index, and its claims with it.
    #[test]
    fn an_object_is_gone_only_by_an_answer_that_names_it() {
        let reason = |body: serde_json::Value| {
            let status: kube::core::Status = serde_json::from_value(body).unwrap();
            RequestError::from(kube::Error::Api(Box::new(status))).reason()
        };
        let not_found = |details| serde_json::json!({"code": 404, "reason": "NotFound", "details": details});
        assert_eq!(reason(not_found(serde_json::json!({"name": "a", "kind": "leases"}))), "Gone");
        assert_eq!(reason(not_found(serde_json::json!({"kind": "leases"}))), "NotServed");
        assert_eq!(reason(not_found(serde_json::json!(null))), "NotServed");
        assert_eq!(reason(serde_json::json!({"code": 404, "message": "404 page not found"})), "NotServed");
    }

    #[tokio::test]
    async fn the_most_urgent_goes_first_and_nobody_is_forgotten() {
        let gate = Gate::new(1);
        let first = gate.enter(Urgency::Later, None).await;
        let (told, tells) = mpsc::channel();
        let mut tasks = Vec::new();
        for (n, urgency) in [Urgency::Later, Urgency::Soon, Urgency::Now, Urgency::Now].into_iter().enumerate() {
            let (entrance, told) = (gate.clone(), told.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = entrance.enter(urgency, None).await;
                told.send(n).unwrap();
            }));
            // Each is in line before the next comes.
            while gate.state.lock().unwrap().waiting.len() <= n {
                tokio::task::yield_now().await;
            }
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(tells.try_iter().collect::<Vec<_>>(), [2, 3, 1, 0]);
        assert_eq!(gate.state.lock().unwrap().free, 1);
    }

    #[tokio::test]
    async fn a_permit_for_somebody_who_has_left_goes_on() {
        let gate = Gate::new(1);
        let first = gate.enter(Urgency::Now, None).await;
        let mut left = Box::pin(gate.enter(Urgency::Now, None));
        assert!(futures::poll!(&mut left).is_pending());
        drop(left);
        drop(first);
        assert_eq!(gate.state.lock().unwrap().free, 1);
        drop(gate.enter(Urgency::Now, None).await);
    }

    #[tokio::test]
    async fn namespaces_take_turns() {
        let gate = Gate::new(1);
        let first = gate.enter(Urgency::Soon, Some("loud")).await;
        let mut loud: Vec<_> = (0..50).map(|_| Box::pin(gate.enter(Urgency::Soon, Some("loud")))).collect();
        for waits in &mut loud {
            assert!(futures::poll!(waits).is_pending());
        }
        let mut quiet = Box::pin(gate.enter(Urgency::Soon, Some("quiet")));
        assert!(futures::poll!(&mut quiet).is_pending());
        drop(first);
        drop(loud.remove(0).await);
        assert!(futures::poll!(&mut quiet).is_ready(), "after one of the fifty that came before it");
    }

    #[test]
    fn a_field_is_replaced_in_what_cannot_be_parsed() {
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        let text = format!(
            r#"{{"kind":"Blueprint","metadata":{{"uid":"u","resourceVersion":"7","finalizers":["a","{FINALIZER}"]}},"spec":{deep}}}"#
        );
        let meta = |version: &str| ObjectMeta {
            uid: Some("u".into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        let with = |text: &str, meta: &ObjectMeta| edited(text, meta, "metadata", "finalizers", &["a"]);
        let changed = String::from_utf8(with(&text, &meta("7")).unwrap()).unwrap();
        assert!(changed.contains(&deep) && changed.contains(r#""finalizers":["a"]"#) && !changed.contains(FINALIZER));
        assert!(matches!(with(&text, &meta("8")), Err(RequestError::Conflict)));
        assert!(matches!(with("404 page not found", &meta("7")), Err(RequestError::Refused(_))));
        let told = edited(&text, &meta("7"), "status", "conditions", &["b"]).unwrap();
        assert!(String::from_utf8(told).unwrap().contains(r#""status":{"conditions":["b"]}"#));
    }
}
