//! The drivers' steps with outside effects: one at a time for each object, beside its passes. A step goes on while it is
//! wanted; one that is wanted no more is cancelled, and has ended before the next begins.

use super::{clock, key::Key, shell::Shell};
use crate::{
    api::{
        Blueprint, MicroTime,
        common::Failure,
        step::{Answer, EffectKey, Facts, Observed, Report, Step, StepKind, Storage, Wait},
    },
    driver::{Driver, Work},
    lifecycle::{StepOrder, commands::shorten, deadline},
};
use futures::FutureExt as _;
use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::task::{AbortHandle, JoinHandle};

/// A step that says nothing new is not asked again before.
const BREATH: crate::api::Duration = crate::api::Duration::from_secs(1);

/// The steps that are wanted or have just ended, by object.
#[derive(Default)]
pub struct Steps {
    states: Mutex<BTreeMap<Key, State>>,
    /// What this process has begun to make for an object, and not torn down.
    begun: Mutex<BTreeMap<Key, Vec<Begun>>>,
    /// What is torn down once more for what may have come late.
    burials: Mutex<BTreeMap<Key, Vec<AbortHandle>>>,
    attempts: AtomicU64,
}

struct Begun {
    driver: Arc<dyn Driver>,
    work: Work,
}

struct State {
    step: Step,
    /// Which attempt this is: a late report of a cancelled one is not taken for that of its successor.
    attempt: u64,
    failures: u32,
    /// What it makes it from, where it makes something.
    from: Option<Arc<Blueprint>>,
    /// When the attempt is given up, however often it pauses to have its progress put on record.
    end: MicroTime,
    /// What the step has said last that it waits for.
    told: String,
    progress: Progress,
    /// What came of it was told to a pass.
    is_reported: bool,
}

enum Progress {
    Running(JoinHandle<()>),
    /// Not again before the instant, where there is one, which was so far ahead.
    Ended(Box<Report>, Option<(MicroTime, crate::api::Duration)>),
    /// Told to end; the next step waits until it has.
    Cancelled(JoinHandle<()>),
}

impl Steps {
    /// What came of the object's last step.
    pub fn report(&self, key: &Key) -> Option<Report> {
        let mut states = super::lock(&self.states);
        let state = states.get_mut(key)?;
        let Progress::Ended(report, _) = &state.progress else { return None };
        state.is_reported = true;
        Some((**report).clone())
    }

    /// Nothing is wanted for this object; what runs is cancelled.
    pub fn want_nothing(&self, key: &Key) {
        let mut states = super::lock(&self.states);
        let Some(state) = states.remove(key) else { return };
        if let Progress::Running(handle) | Progress::Cancelled(handle) = state.progress
            && !handle.is_finished()
        {
            handle.abort();
            states.insert(key.clone(), State { progress: Progress::Cancelled(handle), ..state });
        }
    }

    /// Nothing is wanted any more: the controller ends.
    pub fn cancel_all(&self) {
        for burial in std::mem::take(&mut *super::lock(&self.burials)).into_values().flatten() {
            burial.abort();
        }
        for state in std::mem::take(&mut *super::lock(&self.states)).into_values() {
            if let Progress::Running(handle) | Progress::Cancelled(handle) = state.progress {
                handle.abort();
            }
        }
    }

    /// What was begun for an object under keys that are over: torn down once more where this process has not done so, for
    /// what is asked of the world late may arrive late (protocol.md, D1). `is_over` says which keys are.
    pub fn bury(&self, shell: &Arc<Shell>, key: &Key, is_over: impl Fn(&EffectKey) -> bool) {
        let mut begun = super::lock(&self.begun);
        let Some(all) = begun.get_mut(key) else { return };
        let (over, rest) = std::mem::take(all).into_iter().partition(|begun| is_over(&begun.work.key));
        *all = rest;
        if all.is_empty() {
            begun.remove(key);
        }
        drop(begun);
        let over: Vec<Begun> = over;
        for Begun { driver, work } in over {
            let running = {
                let mut states = super::lock(&self.states);
                let state = states.get(key).filter(|state| state.step.key == work.key);
                let is_running = state.is_some_and(|state| !matches!(state.progress, Progress::Ended(..)));
                is_running.then(|| states.remove(key)).flatten()
            };
            let clock = shell.clock.clone();
            let mut work = work;
            let burial = tokio::spawn(async move {
                if let Some(Progress::Running(handle) | Progress::Cancelled(handle)) = running.map(|s| s.progress) {
                    handle.abort();
                    let _ = handle.await;
                }
                let kind = if work.key.lease.is_some() { StepKind::TearDownLease } else { StepKind::TearDownResource };
                for failures in 1.. {
                    let asked = AssertUnwindSafe(call(&*driver, kind, work.clone())).catch_unwind().await;
                    let wait = match asked {
                        Ok(Answer::Done(_)) => return,
                        Ok(Answer::Again(wait)) => {
                            work.told = wait.why;
                            wait.after.max(BREATH)
                        }
                        _ => deadline::retry_after(failures),
                    };
                    clock.sleep(wait.to_std()).await;
                }
            });
            let mut burials = super::lock(&self.burials);
            burials.retain(|_, burials| {
                burials.retain(|burial| !burial.is_finished());
                !burials.is_empty()
            });
            burials.entry(key.clone()).or_default().push(burial.abort_handle());
        }
    }

    /// What was begun for an object is written off.
    pub fn write_off(&self, key: &Key) {
        super::lock(&self.begun).remove(key);
        for burial in super::lock(&self.burials).remove(key).into_iter().flatten() {
            burial.abort();
        }
    }

    /// This step is wanted for this object, and the status that it rests on is on record. Returns when to ask again, where
    /// it is not begun yet.
    pub fn want(
        &self,
        shell: &Arc<Shell>,
        key: &Key,
        order: StepOrder,
        driver: Arc<dyn Driver>,
        work: Work,
    ) -> Option<MicroTime> {
        let mut states = super::lock(&self.states);
        let making = matches!(order.step.kind, StepKind::Build | StepKind::Activate);
        let from = work.blueprint.clone().filter(|_| making);
        let now = shell.clock.now();
        let full = now.after(crate::api::Duration::from_std(order.timeout));
        let (failures, previous, end, told) = match states.remove(key) {
            Some(state) if state.step == order.step => match state.progress {
                // What is made is made from the Blueprint as it is now.
                Progress::Running(handle)
                    if from.as_deref().is_some_and(|b| !makes_the_same(b, state.from.as_deref())) =>
                {
                    handle.abort();
                    (state.failures, Some(handle), state.end.min(full), String::new())
                }
                Progress::Running(_) => {
                    states.insert(key.clone(), state);
                    return None;
                }
                // It has ended since this pass began, which knows nothing of what came of it: begun anew, that would be lost,
                // and so for ever where the step takes less time than what a pass reads before it wants it.
                Progress::Ended(..) if !state.is_reported && !bug!(DropsReports) => {
                    states.insert(key.clone(), state);
                    return Some(now);
                }
                // Further ahead than it was: the clock has been set back.
                Progress::Ended(_, Some((at, wait))) if at > now && at <= now.after(wait) => {
                    states.insert(key.clone(), state);
                    return Some(at);
                }
                // It has paused only to have its progress put on record.
                Progress::Ended(report, _) if matches!(report.answer, Answer::Again(_)) => {
                    (state.failures, None, state.end.min(full), state.told)
                }
                Progress::Ended(..) => (state.failures, None, full, String::new()),
                Progress::Cancelled(handle) => (state.failures, Some(handle), full, String::new()),
            },
            Some(State { progress: Progress::Running(handle) | Progress::Cancelled(handle), .. }) => {
                handle.abort();
                (0, Some(handle), full, String::new())
            }
            Some(_) | None => (0, None, full, String::new()),
        };
        let work = Work { told: told.clone(), ..work };
        if matches!(order.step.kind, StepKind::Build | StepKind::Activate) {
            let mut begun = super::lock(&self.begun);
            let all = begun.entry(key.clone()).or_default();
            all.retain(|begun| begun.work.key != work.key);
            // Not the Blueprint: each write to its status makes another version of it, and for each resource built another would
            // be kept for as long as that lives. A teardown does not need it (api.md, 6).
            all.push(Begun { driver: driver.clone(), work: Work { blueprint: None, ..work.clone() } });
        }
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let weak = Arc::downgrade(shell);
        let (task_key, step, clock) = (key.clone(), order.step.clone(), shell.clock.clone());
        let wanted = order.step.clone();
        let handle = tokio::spawn(async move {
            if let Some(previous) = previous {
                // Cancelled or ended: in either case it must be over.
                let _ = previous.await;
            }
            let timeout = clock::until(clock.now(), end);
            let attempt = AssertUnwindSafe(attempt(&*driver, &order, timeout, work, &*clock)).catch_unwind().await;
            let answer = attempt.unwrap_or_else(|_| failed(order.step.kind, "Panicked", "the driver panicked".into()));
            report_to(&weak, &task_key, number, &step, bounded(step.kind, answer), failures);
        });
        states.insert(
            key.clone(),
            State {
                step: wanted,
                attempt: number,
                failures,
                from,
                end,
                told,
                progress: Progress::Running(handle),
                is_reported: false,
            },
        );
        None
    }
}

/// Whether what is made from a Blueprint is still what is made from it now; one that was not seen makes nothing.
fn makes_the_same(now: &Blueprint, before: Option<&Blueprint>) -> bool {
    let made_from = |b: &Blueprint| (b.spec.driver.clone(), b.spec.attributes.clone());
    before.is_some_and(|before| made_from(before) == made_from(now))
}

fn report_to(shell: &Weak<Shell>, key: &Key, attempt: u64, step: &Step, answer: Answer, failures: u32) {
    let Some(shell) = shell.upgrade() else { return };
    let answer = match answer {
        Answer::Need(_) => failed(step.kind, "Unsupported", "this controller makes no leases beneath others".into()),
        answer => answer,
    };
    if matches!((step.kind, &answer), (StepKind::TearDownLease | StepKind::TearDownResource, Answer::Done(_))) {
        let mut begun = super::lock(&shell.steps.begun);
        if let Some(all) = begun.get_mut(key) {
            all.retain(|begun| begun.work.key != step.key);
            if all.is_empty() {
                begun.remove(key);
            }
        }
    }
    let failed = matches!(answer, Answer::Failed(_) | Answer::FailedForGood(_));
    let failures = match &answer {
        Answer::Done(_) => 0,
        // It goes on; whether what it failed with is over shows when it is done.
        Answer::Again(_) => failures,
        _ => failures + 1,
    };
    let retry = failed.then(|| deadline::retry_after(failures));
    let retry_at = retry.map(|wait| shell.clock.now().after(wait));
    let not_before = match &answer {
        Answer::Again(wait) => Some((wait.after, wait.built.is_none())),
        _ => None,
    };
    {
        let mut states = super::lock(&shell.steps.states);
        let current = |state: &&mut State| state.attempt == attempt && matches!(state.progress, Progress::Running(_));
        let Some(state) = states.get_mut(key).filter(current) else { return };
        state.failures = failures;
        let mut told_before = false;
        if let Answer::Again(wait) = &answer {
            told_before = state.told == wait.why;
            state.told = wait.why.clone();
        }
        let wait = not_before.map_or(retry, |(after, says_nothing)| {
            Some(if says_nothing && told_before { after.max(BREATH) } else { after })
        });
        let not_before = wait.map(|wait| (retry_at.unwrap_or_else(|| shell.clock.now().after(wait)), wait));
        state.progress =
            Progress::Ended(Box::new(Report { step: step.clone(), answer, failures, retry_at }), not_before);
    }
    shell.trigger(key.clone(), false);
}

/// What a driver says is cut to what a status can hold; facts that are too many or too large are a failure for good, for a
/// status that is refused would hide what was done.
pub fn bounded(kind: StepKind, answer: Answer) -> Answer {
    let cut = |failure: Failure| Failure {
        step: shorten(failure.step, 64),
        reason: shorten(failure.reason, 64),
        message: shorten(failure.message, 900),
        command: failure.command.map(|c| shorten(c, 1024)),
        exit_code: failure.exit_code,
        output: failure.output.map(|o| o.chars().skip(o.chars().count().saturating_sub(4096)).collect()),
    };
    match answer {
        Answer::Failed(failure) => Answer::Failed(cut(failure)),
        Answer::FailedForGood(failure) => Answer::FailedForGood(cut(failure)),
        Answer::Done(Facts { storage: Some(storage), .. }) | Answer::Again(Wait { storage: Some(storage), .. })
            if overflows(&storage) =>
        {
            failed_for_good(kind, "TooMuch", TOO_MUCH)
        }
        Answer::Again(wait) => {
            Answer::Again(Wait { why: shorten(wait.why, 900), warnings: bounded_warnings(wait.warnings), ..wait })
        }
        Answer::Done(facts) if matches!(kind, StepKind::Build | StepKind::Activate) && is_too_much(&facts) => {
            let message = "the driver gave more than 16 interfaces, or more than 32 outputs of 1,024 characters";
            failed_for_good(kind, "TooMuch", message)
        }
        Answer::Done(facts) => Answer::Done(Facts { warnings: bounded_warnings(facts.warnings), ..facts }),
        answer => answer,
    }
}

/// So many warnings of one answer are published, each cut to so many characters.
const WARNINGS: (usize, usize) = (16, 600);

fn bounded_warnings(warnings: Vec<String>) -> Vec<String> {
    let (number, length) = WARNINGS;
    warnings.into_iter().take(number).map(|warning| shorten(warning, length)).collect()
}

/// The same of what it sees.
pub fn bounded_sight(observed: Observed) -> Observed {
    Observed { lost: observed.lost.map(|why| shorten(why, 900)), ..observed }
}

fn is_too_much(facts: &Facts) -> bool {
    let long = |output: &String| output.chars().count() > 1024;
    facts.interfaces.len() > 16 || facts.outputs.len() > 32 || facts.outputs.values().any(long)
}

/// What is said of bookkeeping that a status cannot hold.
pub const TOO_MUCH: &str = "the driver's bookkeeping has more than 32 entries, or one of more than 4,096 characters";

/// Whether bookkeeping is more than a status holds.
pub fn overflows(storage: &Storage) -> bool {
    storage.len() > 32 || storage.iter().any(|(k, v)| k.chars().count() > 253 || v.chars().count() > 4096)
}

fn failed_for_good(kind: StepKind, reason: &str, message: &str) -> Answer {
    let (step, reason) = (kind.as_str().into(), reason.into());
    Answer::FailedForGood(Failure { step, reason, message: message.into(), ..Failure::default() })
}

fn failed(kind: StepKind, reason: &str, message: String) -> Answer {
    Answer::Failed(Failure { step: kind.as_str().into(), reason: reason.into(), message, ..Failure::default() })
}

/// One attempt, asked again as often as the driver says, and cut off in the end. It pauses where the driver has something
/// new to put on record.
async fn attempt(
    driver: &dyn Driver,
    order: &StepOrder,
    timeout: std::time::Duration,
    work: Work,
    clock: &dyn clock::Clock,
) -> Answer {
    let asking = async {
        loop {
            match call(driver, order.step.kind, work.clone()).await {
                Answer::Again(wait) if wait.built.is_none() && wait.storage.is_none() && wait.why == work.told => {
                    clock.sleep(wait.after.to_std()).await;
                }
                answer => return answer,
            }
        }
    };
    let end = clock.sleep(timeout);
    match futures::future::select(std::pin::pin!(asking), end).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right(_) => {
            let teardown = matches!(order.step.kind, StepKind::TearDownLease | StepKind::TearDownResource);
            let reason = if teardown { "TeardownTimeout" } else { "Timeout" };
            failed(order.step.kind, reason, format!("no end after {:?}", order.timeout))
        }
    }
}

/// Calls the driver for a step.
pub async fn call(driver: &dyn Driver, kind: StepKind, work: Work) -> Answer {
    match kind {
        StepKind::Build => driver.build(work),
        StepKind::Activate => driver.activate(work),
        StepKind::TearDownLease => driver.tear_down_lease(work),
        StepKind::TearDownResource => driver.tear_down_resource(work),
    }
    .await
}
