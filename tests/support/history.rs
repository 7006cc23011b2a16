//! All that was ever seen of a namespace's blueprints, resources and leases, or of other kinds: for invariants that must
//! hold in between, too, and not only at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::sandbox::resource_of;

/// The kinds that are watched.
const KINDS: [&str; 3] = ["blueprint", "resource", "lease"];

/// One version of one object, as the watch showed it.
#[derive(Clone)]
pub struct Seen {
    /// `blueprint`, `resource` or `lease`, or what else is watched.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// The object's UID: two objects of one name, one after the other, differ in it.
    pub uid: String,
    /// Its resourceVersion. It orders the versions of all kinds in the order in which they were written.
    pub version: u64,
    /// Whether this version is the last, because the object was deleted with it.
    pub gone: bool,
    /// When it was seen.
    pub at: Instant,
    /// The whole of it, without `managedFields`.
    pub object: Arc<DynamicObject>,
}

impl Seen {
    /// The phase in its status, or nothing.
    pub fn phase(&self) -> &str {
        super::sandbox::phase(&self.object)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gone = if self.gone { ", gone" } else { "" };
        write!(f, "{}/{} at {} ({}{gone})", self.kind, self.name, self.version, self.phase())
    }
}

/// A recorder of every version of the objects of one namespace, from the moment it was made.
#[derive(Debug)]
pub struct History {
    api: BTreeMap<&'static str, Api<DynamicObject>>,
    record: Arc<Mutex<Record>>,
    news: watch::Receiver<()>,
    _watches: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Record {
    seen: Vec<Seen>,
    /// How many watches have shown all that there was at first.
    started: usize,
    /// What made it incomplete, if something did.
    gap: Option<String>,
    /// Whether that matters.
    gaps_allowed: bool,
}

impl History {
    /// Begins to watch a namespace, and returns when everything that is there has been seen. Ends when dropped.
    pub async fn watch(client: Client, namespace: &str) -> History {
        History::of_kinds(client, namespace, &KINDS).await
    }

    /// The same for other kinds.
    pub async fn of_kinds(client: Client, namespace: &str, kinds: &[&'static str]) -> History {
        let record = Arc::new(Mutex::new(Record::default()));
        let (sender, news) = watch::channel(());
        let mut watches = JoinSet::new();
        let mut api = BTreeMap::new();
        for kind in kinds.iter().copied() {
            let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource_of(kind));
            watches.spawn(follow(kind, objects.clone(), record.clone(), sender.clone()));
            api.insert(kind, objects);
        }
        let history = History { api, record, news, _watches: watches };
        history.until("the first lists", |record| record.started == kinds.len()).await;
        history
    }

    /// Says that versions may be missing: an API server that has been restarted does not tell what was written just before,
    /// and only shows what there is now.
    pub fn allow_gaps(&self) {
        self.record.lock().unwrap().gaps_allowed = true;
    }

    /// Every version seen so far, in the order in which they were written.
    pub fn all(&self) -> Vec<Seen> {
        let record = self.record.lock().unwrap();
        if let Some(gap) = record.gap.as_ref().filter(|_| !record.gaps_allowed) {
            panic!("the history may lack versions: {gap}");
        }
        let mut seen = record.seen.clone();
        seen.sort_by_key(|seen| seen.version);
        seen
    }

    /// Every version seen so far of one object, named like `lease/a`.
    pub fn of(&self, object: &str) -> Vec<Seen> {
        let (kind, name) = object.split_once('/').expect("an object is named like lease/a");
        self.all().into_iter().filter(|seen| seen.kind == kind && seen.name == name).collect()
    }

    /// The phases that an object went through, each once as long as it lasted.
    pub fn phases(&self, object: &str) -> Vec<String> {
        let mut phases: Vec<String> = self.of(object).iter().map(|seen| seen.phase().to_owned()).collect();
        phases.dedup();
        phases.retain(|phase| !phase.is_empty());
        phases
    }

    /// Waits until there is, or was, a version that is as it should be, and gives the first; `what` says how. For what may be
    /// over before anybody looks.
    pub async fn wait_for(&self, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        self.until(what, |record| record.seen.iter().any(&is)).await;
        self.all().into_iter().find(|seen| is(seen)).expect("it was there a moment ago")
    }

    /// Fails if any version seen so far is such that something has gone wrong. Call [`Self::caught_up`] first.
    pub fn never(&self, what: &str, wrong: impl Fn(&Seen) -> bool) {
        if let Some(seen) = self.all().iter().find(|seen| wrong(seen)) {
            panic!("{what}: {seen:?}:\n{}", serde_yaml::to_string(&*seen.object).unwrap_or_default());
        }
    }

    /// Waits until everything that is written by now has been seen.
    pub async fn caught_up(&self) {
        for (kind, api) in &self.api {
            let listed =
                api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("listing each {kind}: {error}"));
            let now = version(listed.metadata.resource_version.as_deref());
            let written: BTreeMap<String, u64> =
                listed.iter().map(|object| (object.uid().unwrap_or_default(), version_of(object))).collect();
            let caught_up = |record: &Record| {
                let mut latest: BTreeMap<&str, &Seen> = BTreeMap::new();
                for seen in record.seen.iter().filter(|seen| seen.kind == *kind) {
                    latest.insert(&seen.uid, seen);
                }
                written.iter().all(|(uid, version)| latest.get(uid.as_str()).is_some_and(|seen| seen.version >= *version))
                    // What the list no longer has must have been seen to go, unless it is newer than the list.
                    && latest.values().all(|seen| seen.gone || seen.version > now || written.contains_key(&seen.uid))
            };
            self.until(&format!("the watch of each {kind} to catch up"), caught_up).await;
        }
    }

    async fn until(&self, what: &str, condition: impl Fn(&Record) -> bool) {
        let mut news = self.news.clone();
        let wait = news.wait_for(|()| condition(&self.record.lock().unwrap()));
        match tokio::time::timeout(Duration::from_secs(30), wait).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => panic!("the watches have ended while waiting for {what}"),
            Err(_) => panic!("waited 30 s in vain for {what}"),
        }
    }
}

/// Records the versions of one kind.
async fn follow(kind: &'static str, api: Api<DynamicObject>, record: Arc<Mutex<Record>>, news: watch::Sender<()>) {
    // The first list comes with the watch itself. A list of its own may be older than what a server that has just started
    // can watch from, and would leave a gap.
    let mut events = watcher(api, Config::default().streaming_lists()).backoff(Soon).boxed();
    let mut started = false;
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        let mut record = record.lock().unwrap();
        match event {
            Ok(Event::Init) => {
                listed.clear();
                if started {
                    record.gap = Some(format!("the watch of each {kind} had to begin anew"));
                }
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(object.uid().unwrap_or_default());
                record.list(seen(kind, object, false));
            }
            Ok(Event::InitDone) => {
                record.miss(kind, &listed);
                record.started += usize::from(!started);
                started = true;
            }
            Ok(Event::Apply(object)) => record.seen.push(seen(kind, object, false)),
            Ok(Event::Delete(object)) => record.seen.push(seen(kind, object, true)),
            // The watch goes on where it was, or begins anew, which is noted above. A server that cannot be reached is
            // the test's business.
            Err(_) => {}
        }
        drop(record);
        news.send_replace(());
    }
}

/// Tries again at once: a test that restarts the API server waits for nothing else.
pub struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(50))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

impl Record {
    /// Notes what a list has. A watch that begins anew shows again what is known.
    fn list(&mut self, seen: Seen) {
        if !self.seen.iter().any(|known| known.version == seen.version && known.uid == seen.uid) {
            self.seen.push(seen);
        }
    }

    /// Notes that what a new list does not have has gone, unseen.
    fn miss(&mut self, kind: &str, listed: &BTreeSet<String>) {
        let mut latest: BTreeMap<String, Seen> = BTreeMap::new();
        for seen in self.seen.iter().filter(|seen| seen.kind == kind) {
            latest.insert(seen.uid.clone(), seen.clone());
        }
        latest.retain(|uid, seen| !seen.gone && !listed.contains(uid));
        self.seen.extend(latest.into_values().map(|seen| Seen { gone: true, at: Instant::now(), ..seen }));
    }
}

fn seen(kind: &'static str, mut object: DynamicObject, gone: bool) -> Seen {
    object.metadata.managed_fields = None;
    Seen {
        kind,
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        version: version_of(&object),
        gone,
        at: Instant::now(),
        object: Arc::new(object),
    }
}

fn version_of(object: &DynamicObject) -> u64 {
    version(object.metadata.resource_version.as_deref())
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
