//! The drivers' steps with outside effects: one at a time for each object, beside its passes. A step goes on while it is
//! wanted; one that is wanted no more is cancelled, and has ended before the next begins.

use super::{clock, key::Key, shell::Shell};
use crate::{
    api::{
        MicroTime,
        common::Failure,
        step::{Answer, Facts, Report, Step, StepKind},
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
use tokio::task::JoinHandle;

/// The steps that are wanted or have just ended, by object.
#[derive(Default)]
pub struct Steps {
    states: Mutex<BTreeMap<Key, State>>,
    attempts: AtomicU64,
}

struct State {
    step: Step,
    /// Which attempt this is: a late report of a cancelled one is not taken for that of its successor.
    attempt: u64,
    failures: u32,
    progress: Progress,
}

enum Progress {
    Running(JoinHandle<()>),
    /// Not again before the instant, where there is one.
    Ended(Box<Report>, Option<MicroTime>),
    /// Told to end; the next step waits until it has.
    Cancelled(JoinHandle<()>),
}

impl Steps {
    /// What came of the object's last step.
    pub fn report(&self, key: &Key) -> Option<Report> {
        match &super::lock(&self.states).get(key)?.progress {
            Progress::Ended(report, _) => Some((**report).clone()),
            Progress::Running(_) | Progress::Cancelled(_) => None,
        }
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
        for state in std::mem::take(&mut *super::lock(&self.states)).into_values() {
            if let Progress::Running(handle) | Progress::Cancelled(handle) = state.progress {
                handle.abort();
            }
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
        let (failures, previous) = match states.remove(key) {
            Some(state) if state.step == order.step => match state.progress {
                Progress::Running(_) => {
                    states.insert(key.clone(), state);
                    return None;
                }
                Progress::Ended(_, Some(at)) if at > shell.clock.now() => {
                    states.insert(key.clone(), state);
                    return Some(at);
                }
                Progress::Ended(..) => (state.failures, None),
                Progress::Cancelled(handle) => (state.failures, Some(handle)),
            },
            Some(State { progress: Progress::Running(handle) | Progress::Cancelled(handle), .. }) => {
                handle.abort();
                (0, Some(handle))
            }
            Some(_) | None => (0, None),
        };
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let weak = Arc::downgrade(shell);
        let (task_key, step, clock) = (key.clone(), order.step.clone(), shell.clock.clone());
        let wanted = order.step.clone();
        let handle = tokio::spawn(async move {
            if let Some(previous) = previous {
                // Cancelled or ended: in either case it must be over.
                let _ = previous.await;
            }
            let attempt = AssertUnwindSafe(attempt(&*driver, &order, work, &*clock)).catch_unwind().await;
            let answer = attempt.unwrap_or_else(|_| failed(order.step.kind, "Panicked", "the driver panicked".into()));
            report_to(&weak, &task_key, number, &step, bounded(step.kind, answer), failures);
        });
        states.insert(
            key.clone(),
            State { step: wanted, attempt: number, failures, progress: Progress::Running(handle) },
        );
        None
    }
}

fn report_to(shell: &Weak<Shell>, key: &Key, attempt: u64, step: &Step, answer: Answer, failures: u32) {
    let Some(shell) = shell.upgrade() else { return };
    let answer = match answer {
        Answer::Need(_) => failed(step.kind, "Unsupported", "this controller makes no leases beneath others".into()),
        answer => answer,
    };
    let failures = if matches!(answer, Answer::Failed(_) | Answer::FailedForGood(_)) { failures + 1 } else { 0 };
    let not_before = (failures > 0).then(|| shell.clock.now().after(deadline::retry_after(failures)));
    {
        let mut states = super::lock(&shell.steps.states);
        let current = |state: &&mut State| state.attempt == attempt && matches!(state.progress, Progress::Running(_));
        let Some(state) = states.get_mut(key).filter(current) else { return };
        state.failures = failures;
        state.progress = Progress::Ended(
            Box::new(Report { step: step.clone(), answer, failures, retry_at: not_before }),
            not_before,
        );
    }
    shell.trigger(key.clone());
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
        Answer::Done(facts) if matches!(kind, StepKind::Build | StepKind::Activate) && is_too_much(&facts) => {
            let message = "the driver gave more than 16 interfaces, or more than 32 outputs of 1,024 characters";
            Answer::FailedForGood(Failure {
                step: kind.as_str().into(),
                reason: "TooMuch".into(),
                message: message.into(),
                ..Failure::default()
            })
        }
        answer => answer,
    }
}

fn is_too_much(facts: &Facts) -> bool {
    let long = |output: &String| output.chars().count() > 1024;
    facts.interfaces.len() > 16 || facts.outputs.len() > 32 || facts.outputs.values().any(long)
}

fn failed(kind: StepKind, reason: &str, message: String) -> Answer {
    Answer::Failed(Failure { step: kind.as_str().into(), reason: reason.into(), message, ..Failure::default() })
}

/// One attempt, asked again as often as the driver says, and cut off in the end.
async fn attempt(driver: &dyn Driver, order: &StepOrder, work: Work, clock: &dyn clock::Clock) -> Answer {
    let asking = async {
        loop {
            match call(driver, order.step.kind, work.clone()).await {
                Answer::Again(wait) => clock.sleep(wait.to_std()).await,
                answer => return answer,
            }
        }
    };
    let end = clock.sleep(order.timeout);
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
