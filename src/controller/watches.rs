//! One watch for each kind and namespace; what it sees goes through the door of the index. What a watch waits for, and when
//! it was last seen to work, is told to the probes.

use super::{
    index::Index,
    key::{Key, ObjectKey},
    passes::unreadable,
    shell::Shell,
    writer::in_time,
};
use crate::{
    api::{Blueprint, Lease, MicroTime, Readable, Resource, Unreadable, readable::Assemble},
    lifecycle::EventDraft,
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::ListParams,
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;

/// Load balancers cut idle connections, some after four minutes; a watch is begun anew before (kube-facts.md, 4).
const WATCH_SECONDS: u32 = 200;

/// Lists come in pages of this size. A page is in memory as a whole, beside what is read of it: larger ones are faster, and take more.
const PAGE: u32 = 1_000;

/// A watch that has said nothing for so long is asked whether its server still answers.
const SILENCE: Duration = Duration::from_secs(60);

/// The same of a watch of leases that must give signs of life.
const SHORT_SILENCE: Duration = Duration::from_secs(5);

/// A watch that has not even failed for so long makes `/livez` fail: it is stuck, where an outage of the API server shows as errors.
const TOO_SILENT: Duration = Duration::from_secs(600);

/// What is said of a watch that has seen its first full list.
const LISTED: &str = "it was listed";

/// What each watch is doing.
#[derive(Default)]
pub struct Health {
    watches: Mutex<BTreeMap<String, State>>,
    changed: Notify,
}

#[derive(Clone)]
struct State {
    listed: bool,
    says: String,
    /// The uptime when its task last went on, whatever came of it.
    turned: Duration,
}

impl Health {
    fn note(&self, name: &str, change: impl FnOnce(&mut State)) {
        if let Some(state) = super::lock(&self.watches).get_mut(name) {
            change(state);
        }
        self.changed.notify_waiters();
    }

    /// The task of a watch goes on.
    fn turn(&self, name: &str, uptime: Duration) {
        if let Some(state) = super::lock(&self.watches).get_mut(name) {
            state.turned = uptime;
        }
    }

    /// What is waited for: watches that have not seen their first full list, with the reason. Empty: ready.
    pub fn waits_for(&self) -> Vec<String> {
        let states = super::lock(&self.watches);
        states.iter().filter(|(_, s)| !s.listed).map(|(name, s)| format!("{name}: {}", s.says)).collect()
    }

    /// Watches whose tasks have not gone on for too long, at this uptime.
    pub fn silent(&self, uptime: Duration) -> Vec<String> {
        let states = super::lock(&self.watches);
        let silent = |s: &State| uptime.saturating_sub(s.turned) > TOO_SILENT;
        states.iter().filter(|(_, s)| silent(s)).map(|(name, s)| format!("{name}: {}", s.says)).collect()
    }
}

/// What the index does with the objects of one kind.
trait Watched: Assemble + Clone + Debug + Send + Sync + 'static + kube::Resource<DynamicType = ()> {
    fn see(index: &mut Index, object: Self, now: MicroTime);
    fn lose(index: &mut Index, meta: &kube::api::ObjectMeta, now: MicroTime);
    /// The key that a version which cannot be read is kept under.
    fn key(object: ObjectKey) -> Option<Key>;
    /// All that is known, each with its UID.
    fn known(index: &Index) -> BTreeMap<ObjectKey, String>;
}

macro_rules! watched {
    ($kind:ident, $see:ident, $lose:ident, $known:ident) => {
        impl Watched for $kind {
            fn see(index: &mut Index, object: Self, now: MicroTime) {
                index.$see(object, now);
            }
            fn lose(index: &mut Index, meta: &kube::api::ObjectMeta, now: MicroTime) {
                index.$lose(meta, now);
            }
            fn key(object: ObjectKey) -> Option<Key> {
                Some(Key::$kind(object))
            }
            fn known(index: &Index) -> BTreeMap<ObjectKey, String> {
                index.$known()
            }
        }
    };
}
watched!(Lease, see_lease, lose_lease, known_leases);
watched!(Resource, see_resource, lose_resource, known_resources);
watched!(Blueprint, see_blueprint, lose_blueprint, known_blueprints);

impl Watched for Namespace {
    fn see(index: &mut Index, object: Self, now: MicroTime) {
        let labels = object.metadata.labels.unwrap_or_default();
        index.see_namespace(object.metadata.name.as_deref().unwrap_or_default(), Some(labels), now);
    }
    fn lose(index: &mut Index, meta: &kube::api::ObjectMeta, now: MicroTime) {
        index.see_namespace(meta.name.as_deref().unwrap_or_default(), None, now);
    }
    fn key(_: ObjectKey) -> Option<Key> {
        None
    }
    fn known(index: &Index) -> BTreeMap<ObjectKey, String> {
        index.known_namespaces()
    }
}

/// All watches; each runs until it is dropped.
pub fn all(shell: &Arc<Shell>, health: &Arc<Health>) -> Vec<futures::future::BoxFuture<'static, ()>> {
    use futures::FutureExt as _;
    let mut watches = Vec::new();
    let scopes: Vec<Option<&str>> = match shell.namespaces.as_slice() {
        [] => vec![None],
        named => named.iter().map(|ns| Some(ns.as_str())).collect(),
    };
    for scope in scopes {
        watches.push(watch(shell, health, api::<Lease>(shell, scope), scope).boxed());
        watches.push(watch(shell, health, api::<Resource>(shell, scope), scope).boxed());
        watches.push(watch(shell, health, api::<Blueprint>(shell, scope), scope).boxed());
    }
    watches.push(watch(shell, health, Api::<Readable<Namespace>>::all(shell.client.clone()), None).boxed());
    watches
}

fn api<K>(shell: &Shell, namespace: Option<&str>) -> Api<Readable<K>>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    Readable<K>: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(shell.client.clone(), namespace),
        None => Api::all(shell.client.clone()),
    }
}

fn watch<K: Watched>(
    shell: &Arc<Shell>,
    health: &Arc<Health>,
    api: Api<Readable<K>>,
    scope: Option<&str>,
) -> impl Future<Output = ()> + Send + 'static
where
    Readable<K>: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    let (shell, health) = (shell.clone(), health.clone());
    let kind = K::plural(&()).into_owned();
    let namespace = scope.map(str::to_owned);
    let scope = scope.unwrap_or("all namespaces").to_owned();
    let name = format!("{kind} of {scope}");
    let state = State { listed: false, says: "the first full list".into(), turned: shell.clock.uptime() };
    super::lock(&health.watches).insert(name.clone(), state);
    async move {
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        let mut events = watcher::watcher(api.clone(), config).backoff(shell.clock.watch_back_off()).boxed();
        // What was known when a list began, under which UID; what the list then does not have is gone.
        let mut unlisted: BTreeMap<ObjectKey, String> = BTreeMap::new();
        let counts_heartbeats = K::kind(&()) == "Lease";
        // Since it last failed it was seen to work.
        let mut works = true;
        loop {
            let turned = shell.clock.uptime();
            health.turn(&name, turned);
            let is_quick = counts_heartbeats && super::lock(&shell.index).needs_heartbeats();
            let silence = shell.clock.sleep(if is_quick { SHORT_SILENCE } else { SILENCE });
            let event = match futures::future::select(events.next(), silence).await {
                futures::future::Either::Left((event, _)) => event,
                futures::future::Either::Right(((), _)) => {
                    let one = ListParams::default().limit(1);
                    let asking = std::pin::pin!(in_time(api.list(&one)));
                    let late = shell.clock.sleep(if is_quick { SHORT_SILENCE } else { SILENCE });
                    let answer = futures::future::select(asking, late).await;
                    let is_ok = matches!(answer, futures::future::Either::Left((Ok(_), _)));
                    if is_ok {
                        shell.metrics.watch_ok(&kind, &scope, shell.clock.now());
                    }
                    if counts_heartbeats && is_ok != works {
                        works = is_ok;
                        shell.see(|index, _| match is_ok {
                            true => index.restart_heartbeats(namespace.as_deref()),
                            false => index.stop_heartbeats(namespace.as_deref()),
                        });
                    }
                    continue;
                }
            };
            let event = match event {
                Some(Err(error)) => {
                    let says = explain(&error, &kind);
                    if K::kind(&()) == "Namespace" && is_forbidden(&error) {
                        // Only Blueprints that select namespaces by label need it, and they say so.
                        shell.see(|index, _| index.namespaces_are_unreadable());
                        health.note(&name, |state| state.listed = true);
                    }
                    // That it must list again is an answer, too; then it works.
                    if counts_heartbeats && status(&error).is_none_or(|status| status.code != 410) {
                        works = false;
                        shell.see(|index, _| index.stop_heartbeats(namespace.as_deref()));
                    }
                    health.note(&name, |state| {
                        if state.says != says {
                            tracing::warn!(watch = name, "{says}");
                        }
                        state.says = says;
                    });
                    continue;
                }
                // It is about to begin: nothing has been asked yet, and nothing answered.
                Some(Ok(Event::Init)) => {
                    // From wherever it is known: what was made or read here, and gone before this watch came to show it,
                    // would stay for ever.
                    unlisted = shell.see(|index, _| K::known(index));
                    if let Some(namespace) = &namespace {
                        unlisted.retain(|key, _| *key.namespace == **namespace);
                    }
                    if bug!(ListTakesNothing) {
                        unlisted.clear();
                    }
                    continue;
                }
                Some(Ok(event)) => event,
                None => return,
            };
            shell.metrics.watch_ok(&kind, &scope, shell.clock.now());
            health.note(&name, |state| {
                if state.listed && state.says != LISTED {
                    state.says = LISTED.into();
                }
            });
            // What a list shows is known when all of it is.
            if !works && !matches!(event, Event::InitApply(_)) {
                works = true;
                shell.see(|index, _| index.restart_heartbeats(namespace.as_deref()));
            }
            match event {
                Event::Init => {}
                Event::InitApply(object) | Event::Apply(object) => {
                    let meta = kube::Resource::meta(&object).clone();
                    let key = ObjectKey::of(&meta);
                    unlisted.remove(&key);
                    match object.0 {
                        Ok(object) => shell.see(|index, now| K::see(index, object, now)),
                        Err(unread) => {
                            shell.metrics.malformed(&kind);
                            note_unreadable::<K>(&shell, key, unread);
                        }
                    }
                }
                Event::Delete(object) => {
                    let meta = kube::Resource::meta(&object).clone();
                    shell.see(|index, now| K::lose(index, &meta, now));
                }
                Event::InitDone => {
                    for (key, uid) in std::mem::take(&mut unlisted) {
                        let meta = identity(&key, uid);
                        shell.see(|index, now| K::lose(index, &meta, now));
                    }
                    health.note(&name, |state| {
                        state.listed = true;
                        state.says = LISTED.into();
                    });
                }
            }
        }
    }
}

/// Keeps an object that cannot be read as one that is there, and says so once for each version of it.
fn note_unreadable<K: Watched>(shell: &Arc<Shell>, key: ObjectKey, unread: Box<Unreadable>) {
    let kind = K::kind(&());
    let Some(key) = K::key(key.clone()) else {
        tracing::warn!(object = %key, %kind, "the object cannot be read, and is skipped: {unread}");
        return;
    };
    if let Some(new) = shell.see(|index, now| index.see_unreadable(key, unread, now)) {
        let warning = EventDraft::warning(unreadable::REASON, unreadable::message(&kind, &new));
        shell.events.publish(&kind, &new.metadata, vec![warning]);
    }
}

/// As much of an object's metadata as says which it is.
fn identity(key: &ObjectKey, uid: String) -> kube::api::ObjectMeta {
    kube::api::ObjectMeta {
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
        uid: Some(uid),
        ..kube::api::ObjectMeta::default()
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(status(error), Some(status) if status.is_forbidden())
}

fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

fn explain(error: &watcher::Error, kind: &str) -> String {
    match status(error) {
        // A path that the server does not know is answered in plain text: there is a code, but no reason.
        Some(status) if status.code == 404 => {
            format!("the API server does not know {kind}: install the CRDs (drydock crds | kubectl apply -f -)")
        }
        Some(status) if status.is_forbidden() => format!("not allowed: {}", status.message),
        Some(status) => status.message.clone(),
        None => error.to_string(),
    }
}

/// Ends when every watch has seen its first full list.
pub async fn listed(health: &Health) {
    loop {
        let changed = health.changed.notified();
        if health.waits_for().is_empty() {
            return;
        }
        changed.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outage of the API server shows as errors, and a restart would not mend it.
    #[test]
    fn only_a_watch_whose_task_is_stuck_is_silent() {
        let health = Health::default();
        let state = State { listed: true, says: "no connection".into(), turned: Duration::ZERO };
        super::super::lock(&health.watches).insert("leases".into(), state);
        let day = Duration::from_secs(86_400);
        assert_eq!(health.silent(day), ["leases: no connection"]);
        health.turn("leases", day);
        assert_eq!(health.silent(day + TOO_SILENT), [""; 0]);
        assert_eq!(health.silent(day + TOO_SILENT + Duration::from_secs(1)).len(), 1);
    }
}
