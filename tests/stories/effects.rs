//! A world in memory that stories change by a driver of their own: what is built and activated in it by key, with steps that
//! fail, hang and recover at a test's will; and a controller that runs inside of the test, so that it has that driver.
//!
//! The driver is registered as `webhook`, a name that every Blueprint may use and that no driver of today has.

// Words for stories, of which not each is said today.
#![allow(dead_code)]

use crate::{
    support::{Identity, Sandbox, sandbox::condition},
    told::{self, object},
};
use drydock::{
    api::{
        Blueprint, Duration as Length, Failure, Interface,
        step::{Answer, EffectKey, Facts, HookKind, Moves, StepKind, Storage, Verdict, Wait},
    },
    controller::{self, clock::SystemClock, options::Options},
    driver::{Driver, Drivers, Work},
};
use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, sync::watch};

/// How long a story waits for a step that must be called at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Blueprint `pool` of type `host` whose resources are in the world: so many, and more of its spec.
pub fn pool(count: usize, more: Value) -> String {
    let driver = json!({"webhook": {"clientConfig": {"url": "https://driver.example"}}});
    let mut spec = json!({"resourceType": "host", "limits": {"maxResources": count}, "driver": driver});
    told::merge(&mut spec, more);
    object("Blueprint", "pool", spec)
}

/// A sandbox with a world, and a controller for both.
pub async fn alone(story: &str) -> (Sandbox<'static>, Arc<World>, Inside) {
    let sandbox = Sandbox::new(story).await;
    let world = World::new();
    let controller = Inside::start(&sandbox, &world).await;
    (sandbox, world, controller)
}

/// How the world takes a step.
#[derive(Clone, Copy, Debug)]
pub enum Mood {
    /// At once.
    Works,
    /// It takes so many milliseconds.
    Takes(u64),
    /// Not until the mood changes.
    Hangs,
    /// It goes on outside, and is to be asked for again in so many milliseconds.
    Again(i64),
    /// It fails with these words, and trying again may help.
    Fails(&'static str),
    /// It fails for good, with these words.
    FailsForGood(&'static str),
}

use Mood::{Again, Fails, FailsForGood, Hangs, Takes, Works};

/// What the world's driver says to a deadline that has come.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// It may be kept.
    Yes,
    /// Not yet, with these words.
    No(&'static str),
    /// Nothing, ever.
    Nothing,
    /// It panics.
    Panics,
}

/// What the driver moves as a lease comes or goes: by what it is shown.
pub type Hook = fn(HookKind, &Work) -> Moves;

/// One call of a driver's step.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which step.
    pub kind: StepKind,
    /// Under which key.
    pub key: EffectKey,
    /// The version of the object that the step is of, as the driver was given it.
    pub rests_on: Option<u64>,
    /// The driver's bookkeeping, as it was given to it.
    pub books: Storage,
    /// When it began.
    pub began: Instant,
    /// When it ended, and how.
    pub ended: Option<(Instant, End)>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done.
    Done,
    /// It answered, but it is not done.
    NotDone,
    /// Nobody waited for it any more.
    Dropped,
}

/// See the module.
pub struct World {
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    moods: BTreeMap<StepKind, VecDeque<Mood>>,
    /// What is there, whole or half made.
    there: BTreeSet<EffectKey>,
    /// What was torn down, and when first: whatever is asked under such a key does nothing any more.
    removed: BTreeMap<EffectKey, Instant>,
    calls: Vec<Call>,
    /// What a step has put into its books when it answers.
    stores: BTreeMap<StepKind, Storage>,
    /// Whether it has a say at deadlines, and what it says.
    says: Option<Says>,
    /// What it was asked about there.
    asked: Vec<EffectKey>,
    /// What it moves as leases come and go, where it wants to be told.
    hook: Option<Hook>,
    hook_hangs: bool,
    hooked: Vec<(HookKind, EffectKey)>,
    /// What must not happen, and did.
    wrong: Vec<String>,
    /// What must not happen either, unless two controllers are at it.
    overlaps: Vec<String>,
}

impl World {
    /// An empty world in which everything works.
    pub fn new() -> Arc<World> {
        Arc::new(World { state: Mutex::default(), news: watch::Sender::new(()) })
    }

    /// How a step is taken from now on: each mood once, and the last one for ever. Steps that hang take the next mood.
    pub fn will<const N: usize>(&self, kind: StepKind, moods: [Mood; N]) {
        self.state.lock().unwrap().moods.insert(kind, moods.into());
        self.news.send_replace(());
    }

    /// The calls of a step so far.
    pub fn calls(&self, kind: StepKind) -> Vec<Call> {
        self.state.lock().unwrap().calls.iter().filter(|call| call.kind == kind).cloned().collect()
    }

    /// What a step puts into its books from now on, whenever it answers.
    pub fn stores(&self, kind: StepKind, storage: Storage) {
        self.state.lock().unwrap().stores.insert(kind, storage);
    }

    /// What the driver says from now on to a deadline that has come.
    pub fn says(&self, says: Says) {
        self.state.lock().unwrap().says = Some(says);
    }

    /// What it was asked about at deadlines, so far.
    pub fn asked(&self) -> Vec<EffectKey> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The driver wants to be told as leases come and go. To be said before the controller starts.
    pub fn hooks(&self, hook: Hook) {
        self.state.lock().unwrap().hook = Some(hook);
    }

    /// Whether hooks answer from now on.
    pub fn hooks_hang(&self, hang: bool) {
        self.state.lock().unwrap().hook_hangs = hang;
    }

    /// What it was told so far.
    pub fn hooked(&self) -> Vec<(HookKind, EffectKey)> {
        self.state.lock().unwrap().hooked.clone()
    }

    fn verdict(&self, key: EffectKey) -> BoxFuture<'static, Verdict> {
        let says = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(key);
            state.says
        };
        self.news.send_replace(());
        match says {
            Some(Says::No(why)) => futures::future::ready(Verdict::Decline(why.into())).boxed(),
            Some(Says::Nothing) => futures::future::pending().boxed(),
            Some(Says::Panics) => panic!("as the story wants it"),
            Some(Says::Yes) | None => futures::future::ready(Verdict::Expire).boxed(),
        }
    }

    fn tell_hook(&self, kind: HookKind, work: &Work) -> BoxFuture<'static, Moves> {
        let mut state = self.state.lock().unwrap();
        state.hooked.push((kind, work.key.clone()));
        let (hook, hangs) = (state.hook, state.hook_hangs);
        drop(state);
        self.news.send_replace(());
        match hook {
            _ if hangs => futures::future::pending().boxed(),
            Some(hook) => futures::future::ready(hook(kind, work)).boxed(),
            None => futures::future::ready(Moves::default()).boxed(),
        }
    }

    /// Waits until a step was begun so often in all, and gives the last call.
    pub async fn begun(&self, kind: StepKind, times: usize) -> Call {
        self.until(&format!("{kind:?} to begin for the {times}. time"), |world| world.calls(kind).len() >= times).await;
        self.calls(kind).remove(times - 1)
    }

    /// Waits until something is so in the world.
    pub async fn until(&self, what: &str, is: impl Fn(&World) -> bool) {
        let mut news = self.news.subscribe();
        let wait = async {
            while !is(self) {
                news.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited {PATIENCE:?} in vain for {what}; the world is\n{}", self.tell());
        }
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.state.lock().unwrap().there.is_empty()
    }

    /// Whether something is there under this key.
    pub fn has(&self, key: &EffectKey) -> bool {
        self.state.lock().unwrap().there.contains(key)
    }

    /// Takes something out of the world without a teardown, as whoever has written it off does in the end.
    pub fn forget(&self, key: &EffectKey) {
        self.state.lock().unwrap().there.remove(key);
    }

    /// All that happened in it, for the message of a test that fails.
    pub fn tell(&self) -> String {
        let state = self.state.lock().unwrap();
        let call = |call: &Call| {
            let ended = call.ended.map(|(at, how)| format!("{how:?} after {:?}", at - call.began));
            format!("{:?} {:?} on {:?}: {}", call.kind, call.key, call.rests_on, ended.unwrap_or("under way".into()))
        };
        let calls: Vec<String> = state.calls.iter().map(call).collect();
        format!("{}\nthere: {:?}\nremoved: {:?}", calls.join("\n"), state.there, state.removed.keys())
    }

    fn mood(&self, kind: StepKind) -> Mood {
        let mut state = self.state.lock().unwrap();
        let Some(moods) = state.moods.get_mut(&kind) else { return Works };
        match moods.front().copied() {
            // It is taken off when it ends.
            Some(Hangs) => Hangs,
            Some(mood) if moods.len() > 1 => {
                moods.pop_front();
                mood
            }
            mood => mood.unwrap_or(Works),
        }
    }

    fn begin(self: &Arc<Self>, kind: StepKind, work: &Work) -> Under {
        let mut state = self.state.lock().unwrap();
        state.look(kind, work);
        let rests_on = match kind {
            StepKind::Build | StepKind::TearDownResource => work.resource.as_ref().map(|r| &r.metadata),
            StepKind::Activate | StepKind::TearDownLease => work.lease.as_ref().map(|l| &l.metadata),
        };
        let rests_on = rests_on.and_then(|m| m.resource_version.as_deref()).and_then(|version| version.parse().ok());
        let making = matches!(kind, StepKind::Build | StepKind::Activate);
        if making && !state.removed.contains_key(&work.key) {
            state.there.insert(work.key.clone());
        }
        let books = match kind {
            StepKind::Build | StepKind::TearDownResource => {
                work.resource.as_ref().and_then(|r| r.status.as_ref()).map(|s| &s.storage)
            }
            StepKind::Activate | StepKind::TearDownLease => {
                work.lease.as_ref().and_then(|l| l.status.as_ref()).map(|s| &s.storage)
            }
        };
        let books = books.cloned().unwrap_or_default();
        let call = Call { kind, key: work.key.clone(), rests_on, books, began: Instant::now(), ended: None };
        state.calls.push(call);
        let number = state.calls.len() - 1;
        drop(state);
        self.news.send_replace(());
        Under { world: self.clone(), number }
    }

    async fn step(self: Arc<Self>, kind: StepKind, work: Work) -> Answer {
        let under = self.begin(kind, &work);
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            match self.mood(kind) {
                Hangs => news.changed().await.unwrap(),
                Works => break,
                Takes(milliseconds) => {
                    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                    break;
                }
                Again(milliseconds) => {
                    under.end(End::NotDone);
                    let storage = self.state.lock().unwrap().stores.get(&kind).cloned();
                    return Answer::Again(Wait { storage, ..Wait::after(Length::from_millis(milliseconds)) });
                }
                Fails(why) => {
                    under.end(End::NotDone);
                    return Answer::Failed(failure(kind, why));
                }
                FailsForGood(why) => {
                    under.end(End::NotDone);
                    return Answer::FailedForGood(failure(kind, why));
                }
            }
        }
        self.finish(kind, &work);
        under.end(End::Done);
        let storage = self.state.lock().unwrap().stores.get(&kind).cloned();
        Answer::Done(Facts { storage, ..facts(kind, &work) })
    }

    fn finish(&self, kind: StepKind, work: &Work) {
        let mut state = self.state.lock().unwrap();
        if matches!(kind, StepKind::TearDownLease | StepKind::TearDownResource) {
            state.there.remove(&work.key);
            state.removed.entry(work.key.clone()).or_insert_with(Instant::now);
        } else if state.removed.contains_key(&work.key) {
            state.overlaps.push(format!("{kind:?} {:?} ended after its teardown", work.key));
        }
    }
}

fn failure(kind: StepKind, why: &str) -> Failure {
    Failure { step: kind.as_str().into(), reason: "Refused".into(), message: why.into(), ..Failure::default() }
}

fn facts(kind: StepKind, work: &Work) -> Facts {
    let address = Interface {
        name: "ssh".into(),
        type_: "ssh".into(),
        address: Some("192.0.2.77".into()),
        port: None,
        user: None,
        path: None,
        host_keys: Vec::new(),
        secret_ref: None,
    };
    match kind {
        StepKind::Build => Facts {
            outputs: [("environment".to_owned(), work.key.resource.clone())].into(),
            built: Some(json!({"driver": "webhook", "environment": work.key.resource})),
            ..Facts::default()
        },
        StepKind::Activate => Facts { interfaces: vec![address], ..Facts::default() },
        StepKind::TearDownLease | StepKind::TearDownResource => Facts::default(),
    }
}

impl State {
    /// What must hold whenever a step begins, for a world in which resources and leases are more than words.
    fn look(&mut self, kind: StepKind, work: &Work) {
        let key = &work.key;
        let of_resource = |other: &&EffectKey| other.resource == key.resource && other.lease.is_some();
        let leases: Vec<EffectKey> = self.there.iter().filter(of_resource).cloned().collect();
        let resource = EffectKey::of_resource(&key.resource);
        match kind {
            StepKind::Build | StepKind::Activate if self.removed.contains_key(key) => {
                self.overlaps.push(format!("{kind:?} {key:?} began after its teardown"));
            }
            StepKind::Build => {}
            StepKind::Activate => {
                if !self.there.contains(&resource) {
                    self.wrong.push(format!("{kind:?} {key:?} on a resource that is not there"));
                }
                let room = work.resource.as_ref().and_then(|r| r.status.as_ref()).map_or(1, |s| s.capacity.max(1));
                let others = leases.iter().filter(|other| *other != key).count();
                if i64::try_from(others).unwrap() >= room {
                    self.wrong.push(format!("{kind:?} {key:?} beside {leases:?}"));
                }
            }
            StepKind::TearDownLease => {}
            StepKind::TearDownResource => {
                if !leases.is_empty() {
                    self.wrong.push(format!("{kind:?} {key:?} beneath {leases:?}"));
                }
            }
        }
        // A step that is wanted no more has ended before the next begins.
        for other in self.calls.iter().filter(|other| other.ended.is_none() && other.key == *key) {
            self.overlaps.push(format!("{kind:?} {key:?} beside {:?} under the same key", other.kind));
        }
    }
}

/// A call under way.
struct Under {
    world: Arc<World>,
    number: usize,
}

impl Under {
    fn end(&self, how: End) {
        let mut state = self.world.state.lock().unwrap();
        if let Some(call) = state.calls.get_mut(self.number) {
            call.ended.get_or_insert_with(|| (Instant::now(), how));
        }
        drop(state);
        self.world.news.send_replace(());
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

/// The driver that changes a world.
struct InWorld(Arc<World>);

impl Driver for InWorld {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn allocate(&self, work: Work) -> BoxFuture<'static, Value> {
        let intent = match (&work.lease, &work.resource) {
            (None, Some(resource)) => json!({"driver": self.name(), "intent": resource.metadata.uid}),
            _ => json!({"driver": self.name()}),
        };
        futures::future::ready(intent).boxed()
    }

    fn template_hash(&self, blueprint: &drydock::api::Blueprint) -> String {
        let url = blueprint.spec.driver.webhook.as_ref().map(|webhook| webhook.client_config.url.as_str());
        url.unwrap_or_default().trim_start_matches("https://").to_owned()
    }

    fn build(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.0.clone().step(StepKind::Build, work).boxed()
    }

    fn activate(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.0.clone().step(StepKind::Activate, work).boxed()
    }

    fn tear_down_lease(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.0.clone().step(StepKind::TearDownLease, work).boxed()
    }

    fn tear_down_resource(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.0.clone().step(StepKind::TearDownResource, work).boxed()
    }

    fn has_say(&self, _: &Blueprint) -> bool {
        self.0.state.lock().unwrap().says.is_some()
    }

    fn should_expire(&self, work: Work) -> BoxFuture<'static, Verdict> {
        self.0.verdict(work.key)
    }

    fn has_hooks(&self) -> bool {
        self.0.state.lock().unwrap().hook.is_some()
    }

    fn hook(&self, kind: HookKind, work: Work) -> BoxFuture<'static, Moves> {
        self.0.tell_hook(kind, &work)
    }
}

/// A controller inside of the test, on threads of its own: it can be killed at any moment, with all that it has begun.
pub struct Inside {
    runtime: Option<Runtime>,
}

impl Inside {
    /// Starts a controller with this world's driver, for a sandbox alone, as the controller's own account.
    pub async fn start(sandbox: &Sandbox<'_>, world: &Arc<World>) -> Inside {
        let config = config(sandbox).await;
        let options = options(sandbox);
        let drivers = Drivers::standard().with(Arc::new(InWorld(world.clone())));
        Inside::run(async move {
            let forever = std::future::pending();
            let ended = controller::run_on(config, options, drivers, Arc::new(SystemClock), forever).await;
            panic!("the controller has ended: {ended:?}");
        })
    }

    /// Starts a controller with the drivers that come with Drydock, all of whose requests go this way.
    pub async fn through(sandbox: &Sandbox<'_>, way: impl FnOnce(Client) -> Client + Send + 'static) -> Inside {
        let mut config = config(sandbox).await;
        config.default_retry = false;
        let options = options(sandbox);
        Inside::run(async move {
            let client = way(Client::try_from(config).unwrap());
            let (drivers, forever) = (Drivers::standard(), std::future::pending());
            let ended =
                controller::run_through(client, "inside", options, drivers, Arc::new(SystemClock), forever).await;
            panic!("the controller has ended: {ended:?}");
        })
    }

    fn run(controller: impl Future<Output = ()> + Send + 'static) -> Inside {
        log();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.spawn(controller);
        Inside { runtime: Some(runtime) }
    }

    /// Kills it: whatever it is doing is dropped where it stands. Returns when nothing of it runs any more.
    pub async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn config(sandbox: &Sandbox<'_>) -> kube::Config {
    let kubeconfig = Kubeconfig::read_from(sandbox.plane().kubeconfig(Identity::Controller)).unwrap();
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

fn options(sandbox: &Sandbox<'_>) -> Options {
    Options {
        http_address: ([127, 0, 0, 1], 0).into(),
        shared_namespaces: Vec::new(),
        namespaces: vec![sandbox.namespace().to_owned()],
        key_secret: "drydock-key".into(),
        key_secret_namespace: None,
        leader_elect: false,
        leader_election_namespace: None,
        leader_election_name: String::new(),
    }
}

/// The log of a controller inside of a test is shown with the test's own words, if that fails.
fn log() {
    let filter = tracing_subscriber::EnvFilter::new("drydock=info");
    // Whoever comes first sets it for all.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_test_writer().try_init();
}

/// Checks, over the whole history, what must hold of a world and what the API server shows of it: each step rests on what
/// was on record; nothing is shown active that is not there, nor destroyed that is there; and at the end all that was ever
/// made for what is destroyed was torn down.
pub async fn true_to(sandbox: &Sandbox<'_>, world: &World) {
    true_to_one_of_two(sandbox, world).await;
    let state = world.state.lock().unwrap();
    assert!(state.overlaps.is_empty(), "{:#?}", state.overlaps);
}

/// The same where two controllers are at it: one of them may be late, and must then do no harm.
pub async fn true_to_one_of_two(sandbox: &Sandbox<'_>, world: &World) {
    told::holds_throughout(sandbox).await;
    let history = sandbox.history().all();
    let state = world.state.lock().unwrap();
    assert!(state.wrong.is_empty(), "{:#?}", state.wrong);
    for call in &state.calls {
        // A resource tears down for a lease that is gone by its key alone.
        let Some(version) = call.rests_on else { continue };
        // What is over is torn down once more by who has begun something late under its key.
        let once_more = matches!(call.kind, StepKind::TearDownLease | StepKind::TearDownResource)
            && state.removed.get(&call.key).is_some_and(|at| *at < call.began);
        if once_more {
            continue;
        }
        let on_record = history.iter().find(|seen| seen.version == version);
        let on_record = on_record.unwrap_or_else(|| panic!("{call:?} rests on what was never on record"));
        rests_on_record(call, on_record);
    }
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for seen in &history {
        let before = last.insert(&seen.uid, seen.phase());
        if before == Some(seen.phase()) {
            continue;
        }
        let own = |key: &EffectKey| match &key.lease {
            Some((lease, _)) => seen.kind == "lease" && *lease == seen.uid,
            None => seen.kind == "resource" && key.resource == seen.uid,
        };
        match seen.phase() {
            "Active" => {
                let made = |call: &&Call| {
                    matches!(call.kind, StepKind::Build | StepKind::Activate)
                        && own(&call.key)
                        && call.ended.is_some_and(|(at, how)| how == End::Done && at < seen.at)
                };
                assert!(state.calls.iter().any(|call| made(&call)), "{seen:?} was never made so");
            }
            "Destroyed" => {
                let made: BTreeSet<_> = state.calls.iter().map(|call| &call.key).filter(|key| own(key)).collect();
                for key in made {
                    let removed = state.removed.get(key);
                    assert!(
                        forgotten(seen) || removed.is_some_and(|at| *at < seen.at),
                        "{seen:?}, and {key:?} is there"
                    );
                }
            }
            _ => {}
        }
    }
}

fn forgotten(seen: &crate::support::Seen) -> bool {
    condition(&seen.object, "TornDown") == ("True", "Forgotten")
}

/// What must be on record before a step begins (protocol.md: L3, L8, R1, R8).
fn rests_on_record(call: &Call, seen: &crate::support::Seen) {
    let status = &seen.object.data["status"];
    let finalizers = seen.object.metadata.finalizers.clone().unwrap_or_default();
    assert!(finalizers.iter().any(|f| f == "drydock.dev/teardown"), "{call:?} on {seen:?}, which could go at any time");
    let returning = condition(&seen.object, "Ready").1 == "Returning";
    let held = told::deadline(&seen.object, "Hold").is_some();
    let key = (status["resourceRef"]["uid"].as_str().unwrap_or_default(), status["attempt"].as_i64().unwrap_or(0));
    let lease = call.key.lease.as_ref().map(|(_, attempt)| (call.key.resource.as_str(), *attempt));
    let rests = match call.kind {
        StepKind::Build => matches!(seen.phase(), "Pending") && !status["built"].is_null(),
        StepKind::Activate => seen.phase() == "Acquired" && !returning && lease == Some(key),
        StepKind::TearDownLease => {
            lease == Some(key)
                && match seen.phase() {
                    "Acquired" => returning,
                    "Released" => !held,
                    phase => phase == "Broken",
                }
        }
        StepKind::TearDownResource => {
            matches!(seen.phase(), "Released" | "Broken") && told::claimants(&seen.object).is_empty()
        }
    };
    assert!(rests, "{call:?} does not rest on {}", serde_yaml::to_string(&*seen.object).unwrap());
}
