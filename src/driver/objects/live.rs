//! How the objects that were made are by now: one watch for each account and kind, filtered on our label, as long as
//! somebody has objects there. Where the account may not watch, they are read one by one.
//!
//! What a watch shows may be old: that an object is gone is never concluded from it.

use super::{
    accounts::{Account, Accounts},
    kinds::{Kind, Kinds},
    plan::OWNER,
    snapshot::{Seen, Snapshot},
};
use futures::StreamExt as _;
use kube::{
    Client,
    api::{Api, ListParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::AbortHandle,
    time::Instant,
};

/// Load balancers cut idle connections, some after four minutes; a watch is begun anew before.
const WATCH_SECONDS: u32 = 200;
/// A watch that nobody needs goes on for a while: the next environment may.
const LINGERS: Duration = Duration::from_secs(60);
/// Lists come in pages of so many objects, and one page at a time: an object may be as large as 1.5 MiB.
const PAGE: u32 = 25;
/// Nobody keeps others from listing for longer.
const LONGEST_LIST: Duration = Duration::from_secs(10);
/// An account that may not watch is asked again after so long.
const DENIED: Duration = Duration::from_secs(300);

/// See the module.
pub struct Live {
    wake: Arc<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
    /// Held by the watch that lists.
    lists: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    watches: BTreeMap<Scope, Watch>,
    /// Who waits for a change of whose objects.
    changed: BTreeMap<String, Arc<Notify>>,
}

/// What one watch is over: all namespaces, or the account's own, where it may not see all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scope {
    account: Account,
    kind: Kind,
    own_namespace: bool,
}

struct Watch {
    task: AbortHandle,
    owners: BTreeSet<String>,
    unneeded_since: Option<Instant>,
    synced: bool,
    denied_at: Option<Instant>,
    /// The objects that are on record, by UID: whose each is. Others may have our labels, too, and are of no interest.
    wanted: BTreeMap<String, String>,
    /// By UID: how it was last seen.
    seen: BTreeMap<String, Seen>,
    /// What a list that is under way has shown.
    listed: BTreeMap<String, Seen>,
}

/// What is known of an object.
pub enum Sight {
    /// As it was last seen.
    There(Seen),
    /// Not there as far as is seen, which is no fact.
    NotSeen,
    /// The watch has not begun yet; its beginning is told as a change.
    NotYet,
    /// The account may not watch it.
    Denied,
}

impl Live {
    /// One that tells of changes by this.
    pub fn new(wake: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        Self { wake, state: Mutex::default(), lists: Arc::new(Semaphore::new(1)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told when something of this owner's has changed.
    pub fn changed(&self, owner: &str) -> Arc<Notify> {
        self.state().changed.entry(owner.to_owned()).or_default().clone()
    }

    /// The owner has no more objects. A watch that has lost its last owner ends after a while, whether or not anything else happens.
    pub fn leave(self: &Arc<Self>, owner: &str) {
        let mut state = self.state();
        state.changed.remove(owner);
        let now = Instant::now();
        let mut lingers = false;
        for watch in state.watches.values_mut() {
            if watch.owners.remove(owner) {
                watch.wanted.retain(|_, of| of != owner);
                watch.seen.retain(|uid, _| watch.wanted.contains_key(uid));
                if watch.owners.is_empty() {
                    watch.unneeded_since = Some(now);
                    lingers = true;
                }
            }
        }
        state.end_unneeded(now);
        drop(state);
        if lingers {
            let live = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep(LINGERS).await;
                if let Some(live) = live.upgrade() {
                    live.state().end_unneeded(Instant::now());
                }
            });
        }
    }

    /// How an object of this owner is, as far as is seen; it is watched from now on.
    pub fn sight(
        self: &Arc<Self>,
        world: &(Arc<Accounts>, Arc<Kinds>),
        account: &Account,
        owner: &str,
        made: &super::record::Made,
    ) -> Sight {
        let Some(uid) = &made.uid else { return Sight::NotSeen };
        let in_own = made.namespace.as_ref().is_none_or(|ns| *ns == account.namespace);
        let mut state = self.state();
        for own_namespace in [false, true] {
            if own_namespace && !in_own {
                break;
            }
            let scope = Scope { account: account.clone(), kind: made.kind.clone(), own_namespace };
            let watch = state.watches.entry(scope.clone()).or_insert_with(|| self.begin(world, scope.clone()));
            watch.owners.insert(owner.to_owned());
            watch.wanted.insert(uid.clone(), owner.to_owned());
            watch.unneeded_since = None;
            match watch.denied_at {
                Some(at) if at.elapsed() > DENIED => {
                    let (owners, wanted) = (std::mem::take(&mut watch.owners), std::mem::take(&mut watch.wanted));
                    *watch = Watch { owners, wanted, ..self.begin(world, scope) }
                }
                Some(_) => continue,
                None => {}
            }
            return match watch.seen.get(uid) {
                Some(seen) => Sight::There(seen.clone()),
                None if watch.synced => Sight::NotSeen,
                None => Sight::NotYet,
            };
        }
        Sight::Denied
    }

    /// An object that a watch does not show was read. The watch tells of what becomes of it from then on.
    pub fn keep(&self, account: &Account, made: &super::record::Made, seen: &Seen) {
        let Some(uid) = &made.uid else { return };
        let mut state = self.state();
        for own_namespace in [false, true] {
            let scope = Scope { account: account.clone(), kind: made.kind.clone(), own_namespace };
            if let Some(watch) = state.watches.get_mut(&scope)
                && watch.synced
                && watch.denied_at.is_none()
                && watch.wanted.contains_key(uid)
            {
                watch.seen.entry(uid.clone()).or_insert_with(|| seen.clone());
            }
        }
    }

    fn begin(self: &Arc<Self>, (accounts, kinds): &(Arc<Accounts>, Arc<Kinds>), scope: Scope) -> Watch {
        let (live, accounts, kinds) = (Arc::downgrade(self), accounts.clone(), kinds.clone());
        let task = tokio::spawn(async move {
            let Ok(client) = accounts.client(&scope.account) else { return };
            watch(live, client, kinds, scope).await;
        });
        Watch {
            task: task.abort_handle(),
            owners: BTreeSet::new(),
            unneeded_since: None,
            synced: false,
            denied_at: None,
            wanted: BTreeMap::new(),
            seen: BTreeMap::new(),
            listed: BTreeMap::new(),
        }
    }

    /// Changes what a watch has seen, and tells those whom it concerns.
    fn note(&self, scope: &Scope, change: impl FnOnce(&mut Watch) -> BTreeSet<String>) {
        let (owners, waiting) = {
            let mut state = self.state();
            let Some(watch) = state.watches.get_mut(scope) else { return };
            let owners = change(watch);
            // A step that waits is told, and tells in turn; an object's pass would find it running still.
            let steps: BTreeMap<_, _> = owners
                .iter()
                .filter_map(|owner| {
                    Some((owner.clone(), state.changed.get(owner).filter(|n| Arc::strong_count(n) > 1)?.clone()))
                })
                .collect();
            (owners, steps)
        };
        waiting.values().for_each(|notify| notify.notify_one());
        owners.iter().filter(|owner| !waiting.contains_key(*owner)).for_each(|owner| (self.wake)(owner));
    }
}

impl State {
    fn end_unneeded(&mut self, now: Instant) {
        self.watches.retain(|_, watch| {
            let goes_on = watch.unneeded_since.is_none_or(|since| now.duration_since(since) < LINGERS);
            if !goes_on {
                watch.task.abort();
            }
            goes_on
        });
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.watches.values().for_each(|watch| watch.task.abort());
    }
}

/// One watch, until it is not allowed, or dropped.
async fn watch(live: Weak<Live>, client: Client, kinds: Arc<Kinds>, scope: Scope) {
    let known = loop {
        match kinds.resolve(&client, &scope.kind).await {
            Ok(known) => break known,
            Err(error) => {
                tracing::debug!(kind = scope.kind.kind, "it is not known yet: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    let api: Api<Snapshot> = match known.namespaced && scope.own_namespace {
        true => Api::namespaced_with(client, &scope.account.namespace, &known.resource),
        false => Api::all_with(client, &known.resource),
    };
    let deny = |live: &Arc<Live>, error: &dyn std::fmt::Display| {
        tracing::debug!(account = %scope.account, kind = scope.kind.kind, "may not be watched: {error}");
        live.note(&scope, |watch| {
            watch.denied_at = Some(Instant::now());
            watch.owners.clone()
        });
    };
    // Asked first: a watcher tells the operator of a refusal, as if that were a fault.
    let one = ListParams::default().labels(OWNER).limit(1);
    if let Err(error) = super::in_time(super::remove::list_metadata(&api, &one)).await
        && matches!(&error, kube::Error::Api(status) if status.code == 403)
    {
        let Some(live) = live.upgrade() else { return };
        return deny(&live, &error);
    }
    let config = watcher::Config::default().labels(OWNER).timeout(WATCH_SECONDS).page_size(PAGE);
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    let Some(lists) = live.upgrade().map(|live| live.lists.clone()) else { return };
    let mut listing = None;
    loop {
        let next = match &listing {
            Some((_, until)) => match tokio::time::timeout_at(*until, events.next()).await {
                Ok(next) => next,
                // One list that takes long holds up nobody else's.
                Err(_) => {
                    listing = None;
                    continue;
                }
            },
            None => events.next().await,
        };
        let Some(event) = next else { return };
        match &event {
            // What comes next is a list.
            Ok(Event::Init) if listing.is_none() => {
                let permit = lists.clone().acquire_owned().await.ok();
                listing = permit.map(|permit| (permit, Instant::now() + LONGEST_LIST));
            }
            Ok(Event::Init | Event::InitApply(_)) => {}
            // It has ended, one way or the other; between two attempts others have their turn.
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) | Err(_) => listing = None,
        }
        let Some(live) = live.upgrade() else { return };
        match event {
            Ok(event) => live.note(&scope, |watch| see(watch, event, &scope.kind)),
            Err(error) if is_forbidden(&error) => return deny(&live, &error),
            Err(error) => tracing::debug!(account = %scope.account, kind = scope.kind.kind, "a watch: {error}"),
        }
    }
}

/// Takes in an event. Returns whose objects have changed.
fn see(watch: &mut Watch, event: Event<Snapshot>, kind: &Kind) -> BTreeSet<String> {
    let wanted = |watch: &Watch, object: &Snapshot| {
        let uid = object.metadata.uid.clone()?;
        let owner = watch.wanted.get(&uid)?.clone();
        Some((uid, owner))
    };
    match event {
        Event::Init => watch.listed.clear(),
        Event::InitApply(object) => {
            if let Some((uid, _)) = wanted(watch, &object) {
                watch.listed.insert(uid, object.seen(kind));
            }
        }
        Event::InitDone => {
            watch.synced = true;
            watch.seen = std::mem::take(&mut watch.listed);
            return watch.owners.clone();
        }
        Event::Apply(object) => {
            if let Some((uid, owner)) = wanted(watch, &object) {
                watch.seen.insert(uid, object.seen(kind));
                return [owner].into();
            }
        }
        Event::Delete(object) => {
            if let Some((uid, owner)) = wanted(watch, &object) {
                watch.seen.remove(&uid);
                // A read that began before may show it still.
                watch.wanted.remove(&uid);
                return [owner].into();
            }
        }
    }
    BTreeSet::new()
}

fn is_forbidden(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.code == 403 || status.code == 404,
        WatchError(status) => status.code == 403,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::objects::record::Made;

    fn made(kind: &str) -> Made {
        let kind = Kind { api_version: "v1".into(), kind: kind.into() };
        Made { kind, namespace: None, name: "a".into(), uid: Some("u".into()), fields: None }
    }

    /// The watches, and for how many owners something is kept.
    fn counted(live: &Live) -> (usize, usize) {
        let state = live.state();
        (state.watches.len(), state.changed.len())
    }

    /// Whoever may label objects as Drydock's own takes no memory by that, and wakes nobody.
    #[tokio::test]
    async fn only_what_is_on_record_is_kept() {
        let mut watch = Watch {
            task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
            owners: ["a".to_owned()].into(),
            unneeded_since: None,
            synced: true,
            denied_at: None,
            wanted: BTreeMap::from([("on-record".to_owned(), "a".to_owned())]),
            seen: BTreeMap::new(),
            listed: BTreeMap::new(),
        };
        let kind = made("ConfigMap").kind;
        let object = |uid: &str| -> Snapshot {
            let labels = serde_json::json!({"drydock.dev/owner": "a"});
            let object = serde_json::json!({"metadata": {"name": "x", "uid": uid, "labels": labels}});
            serde_json::from_str(&object.to_string()).unwrap()
        };
        let nobody = BTreeSet::new();
        let owner: BTreeSet<String> = ["a".to_owned()].into();
        for (event, woken, kept) in [
            (Event::Apply(object("forged")), &nobody, 0),
            (Event::Apply(object("on-record")), &owner, 1),
            (Event::Delete(object("forged")), &nobody, 1),
            (Event::Init, &nobody, 1),
            (Event::InitApply(object("forged")), &nobody, 1),
            (Event::InitApply(object("on-record")), &nobody, 1),
            (Event::InitDone, &owner, 1),
            (Event::Delete(object("on-record")), &owner, 0),
        ] {
            let told = format!("{event:?}");
            assert_eq!((&see(&mut watch, event, &kind), watch.seen.len()), (woken, kept), "{told}");
            assert!(watch.listed.len() <= 1, "{told}");
        }
        watch.task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_ends_when_its_last_owner_has_left_and_nothing_else_happens() {
        // An API server that never answers.
        let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, kube::Error>>()
        });
        let client = Client::new(silent, "default");
        let world = (Arc::new(Accounts::new(client.clone())), Arc::new(Kinds::new(client)));
        let live = Arc::new(Live::new(Arc::new(|_: &str| {})));
        let account = Account { namespace: "team".into(), name: "builder".into() };
        for (owner, kind) in [("a", "ConfigMap"), ("b", "ConfigMap"), ("b", "Secret")] {
            let _ = live.changed(owner);
            let _ = live.sight(&world, &account, owner, &made(kind));
        }
        assert_eq!(counted(&live), (2, 2));
        live.leave("b");
        live.leave("b");
        live.leave("nobody");
        assert_eq!(counted(&live), (2, 1), "the next environment may need it");
        tokio::time::sleep(LINGERS + Duration::from_secs(1)).await;
        assert_eq!(counted(&live), (1, 1), "that of ConfigMaps has an owner still");
        live.leave("a");
        // Somebody needs it again before it ends.
        tokio::time::sleep(LINGERS / 2).await;
        let _ = live.sight(&world, &account, "c", &made("ConfigMap"));
        tokio::time::sleep(LINGERS * 2).await;
        assert_eq!(counted(&live), (1, 0));
        live.leave("c");
        tokio::time::sleep(LINGERS + Duration::from_secs(1)).await;
        assert_eq!(counted(&live), (0, 0));
    }
}
