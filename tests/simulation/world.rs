//! The world that the drivers change, in memory, by key (protocol.md, D1): what is torn down under a key stays so, however
//! late a call of the same key arrives. Steps fail, hang, take long, and take effect after nobody waits for them any more.

use crate::{
    faults::Faults,
    habits::{self, Habits},
    journal::{End, Journal, What},
    time::Clocks,
};
use drydock::{
    api::{
        Blueprint, Duration as Length, Failure,
        step::{Answer, EffectKey, Facts, HookKind, Moves, Observed, StepKind, Storage, Verdict, Wait},
    },
    driver::{Attachment, Driver, Work},
};
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// See the module.
pub struct World {
    journal: Arc<Journal>,
    pub faults: Arc<Faults>,
    pub clocks: Arc<Clocks>,
    state: Mutex<State>,
    flaws: Flaws,
    habits: Mutex<Habits>,
    /// What is not as it should be, and whether for good.
    damaged: Mutex<BTreeMap<EffectKey, bool>>,
    /// How each controller that lives is told that something has changed.
    wakes: Mutex<BTreeMap<Arc<str>, Bell>>,
}

/// See [`Attachment`].
type Wake = Arc<dyn Fn(&str) + Send + Sync>;

/// Whether who is told is dead, and how it is told.
type Bell = (Arc<AtomicBool>, Wake);

/// Deliberate bugs of the driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaws {
    /// It keeps no tombstones (D1).
    pub no_tombstones: bool,
    /// A teardown takes out whatever is on the resource (D2).
    pub tears_down_by_slot: bool,
    /// It says that a teardown is done when it has only begun.
    pub done_too_early: bool,
}

#[derive(Default)]
struct State {
    there: BTreeSet<EffectKey>,
    removed: BTreeSet<EffectKey>,
}

impl World {
    /// An empty one.
    pub fn new(journal: Arc<Journal>, clocks: Arc<Clocks>, faults: Arc<Faults>, flaws: Flaws) -> Arc<Self> {
        let (state, habits, damaged, wakes) = Default::default();
        Arc::new(Self { journal, faults, clocks, state, flaws, habits, damaged, wakes })
    }

    pub fn note(&self, by: &Arc<str>, what: What) {
        self.journal.add(by, what);
    }

    /// How the driver behaves now.
    pub fn habits(&self) -> Habits {
        self.habits.lock().unwrap().clone()
    }

    /// From now on it behaves otherwise.
    pub fn behaves(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.habits.lock().unwrap());
    }

    pub fn is_there(&self, key: &EffectKey) -> bool {
        self.state.lock().unwrap().there.contains(key)
    }

    /// All that is there.
    pub fn there(&self) -> Vec<EffectKey> {
        self.state.lock().unwrap().there.iter().cloned().collect()
    }

    pub fn damaged(&self) -> MutexGuard<'_, BTreeMap<EffectKey, bool>> {
        self.damaged.lock().unwrap()
    }

    /// Whoever lives is told that what the key names has changed.
    pub fn tell(&self, key: &EffectKey) {
        let wakes: Vec<_> = self.wakes.lock().unwrap().values().cloned().collect();
        let id = key.lease.as_ref().map_or(&key.resource, |(lease, _)| lease);
        for (_, wake) in wakes.iter().filter(|(dead, _)| !dead.load(Ordering::Relaxed)) {
            wake(id);
        }
    }

    /// The effect of a step.
    fn change(&self, by: &Arc<str>, kind: StepKind, key: &EffectKey) {
        let mut state = self.state.lock().unwrap();
        if matches!(kind, StepKind::Build | StepKind::Activate) {
            let torn_down = state.removed.contains(key) && !self.flaws.no_tombstones;
            if !torn_down && state.there.insert(key.clone()) {
                self.note(by, What::Made(key.clone()));
            }
            return;
        }
        let owned = |other: &&EffectKey| {
            *other == key
                || (self.flaws.tears_down_by_slot
                    && key.lease.is_some()
                    && other.lease.is_some()
                    && other.resource == key.resource)
        };
        let owned: Vec<_> = state.there.iter().filter(owned).cloned().collect();
        for key in owned {
            state.there.remove(&key);
            self.damaged().remove(&key);
            self.note(by, What::Removed(key));
        }
        state.removed.insert(key.clone());
    }

    pub async fn wait(&self, milliseconds: Range<u64>) {
        tokio::time::sleep(self.faults.chance.milliseconds(milliseconds)).await;
    }
}

/// The driver, in one controller.
pub struct InWorld {
    pub world: Arc<World>,
    pub by: Arc<str>,
    pub dead: Arc<AtomicBool>,
}

impl InWorld {
    fn step(&self, kind: StepKind, work: Work) -> BoxFuture<'static, Answer> {
        let (world, by, dead) = (self.world.clone(), self.by.clone(), self.dead.clone());
        async move {
            world.note(&by, What::Called { kind, work: Box::new(work.clone()) });
            let call = Call { world: world.clone(), by: by.clone(), kind, key: work.key.clone(), ended: false };
            let answer = call.run(&work).await;
            if dead.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            answer
        }
        .boxed()
    }
}

/// A call under way.
struct Call {
    world: Arc<World>,
    by: Arc<str>,
    kind: StepKind,
    key: EffectKey,
    ended: bool,
}

impl Call {
    async fn run(mut self, work: &Work) -> Answer {
        let (world, faults, kind) = (self.world.clone(), self.world.faults.clone(), self.kind);
        let teardown = matches!(kind, StepKind::TearDownLease | StepKind::TearDownResource);
        let half = faults.chance.permille(500);
        if half && !teardown {
            world.change(&self.by, kind, &self.key);
        }
        if world.flaws.done_too_early && teardown && faults.chance.permille(500) {
            let (world, by, key) = (world.clone(), self.by.clone(), self.key.clone());
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_secs(30)).await;
                world.change(&by, kind, &key);
            });
            return self.say(End::Done, Answer::Done(Facts::default()));
        }
        if faults.happens(|r| r.step_hangs) {
            std::future::pending::<()>().await;
        }
        world.wait(if faults.happens(|r| r.step_long) { 1_000..1_500_000 } else { 1..400 }).await;
        if faults.happens(|r| r.step_again) {
            let after = Length::from_millis(faults.chance.within(100..30_000) as i64);
            let storage = world.books(&self.by, kind, work);
            return self.say(End::Said("Again"), Answer::Again(Wait { storage, ..Wait::after(after) }));
        }
        if faults.happens(|r| r.step_fails) {
            return self.say(End::Said("Failed"), Answer::Failed(failure(kind, "it did not work")));
        }
        if !teardown && faults.happens(|r| r.step_fails_for_good) {
            let answer = Answer::FailedForGood(failure(kind, "it will never work"));
            return self.say(End::Said("FailedForGood"), answer);
        }
        world.change(&self.by, kind, &self.key);
        let storage = world.books(&self.by, kind, work);
        self.say(End::Done, Answer::Done(facts(kind, work, storage)))
    }

    fn say(&mut self, end: End, answer: Answer) -> Answer {
        self.ended = true;
        self.world.note(&self.by, What::Ended { kind: self.kind, key: self.key.clone(), end });
        answer
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        let (world, by, kind, key) = (self.world.clone(), self.by.clone(), self.kind, self.key.clone());
        world.note(&by, What::Ended { kind, key: key.clone(), end: End::Dropped });
        if world.faults.happens(|r| r.step_late) {
            let wait = world.faults.chance.milliseconds(1..600_000);
            runtime.spawn(async move {
                tokio::time::sleep(wait).await;
                world.change(&by, kind, &key);
            });
        }
    }
}

fn failure(kind: StepKind, why: &str) -> Failure {
    Failure { step: kind.as_str().into(), reason: "Refused".into(), message: why.into(), ..Failure::default() }
}

fn facts(kind: StepKind, work: &Work, storage: Option<Storage>) -> Facts {
    let built = json!({"driver": "webhook", "environment": work.key.resource});
    Facts { built: (kind == StepKind::Build).then_some(built), storage, ..Facts::default() }
}

impl Driver for InWorld {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn attach(&self, attachment: Attachment) {
        self.world.wakes.lock().unwrap().insert(self.by.clone(), (self.dead.clone(), attachment.wake));
    }

    fn template_hash(&self, blueprint: &Blueprint) -> String {
        habits::template_hash(blueprint)
    }

    fn allocate(&self, work: Work) -> BoxFuture<'static, Value> {
        let record = json!({"driver": self.name(), "intent": work.key.resource});
        futures::future::ready(record).boxed()
    }

    fn build(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.step(StepKind::Build, work)
    }

    fn activate(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.step(StepKind::Activate, work)
    }

    fn tear_down_lease(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.step(StepKind::TearDownLease, work)
    }

    fn tear_down_resource(&self, work: Work) -> BoxFuture<'static, Answer> {
        self.step(StepKind::TearDownResource, work)
    }

    fn has_say(&self, blueprint: &Blueprint) -> bool {
        self.is_asked(blueprint)
    }

    fn should_expire(&self, work: Work) -> BoxFuture<'static, Verdict> {
        self.answer(work)
    }

    fn has_hooks(&self) -> bool {
        self.world.habits().hooks
    }

    fn hook(&self, kind: HookKind, work: Work) -> BoxFuture<'static, Moves> {
        self.told(kind, work)
    }

    fn observe(&self, work: Work) -> BoxFuture<'static, Option<Observed>> {
        self.look(&work)
    }
}
