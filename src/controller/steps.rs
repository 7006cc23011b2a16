//! The drivers' steps with outside effects: one at a time for each object, beside its passes. A step goes on while it is
//! wanted; one that is wanted no more is cancelled, and has ended before the next begins.

use super::{clock, key::Key, shell::Shell};
use crate::{
    api::{
        MicroTime,
        common::Failure,
        step::{Answer, Report, Step, StepKind},
    },
    driver::{Driver, Work},
    lifecycle::{StepOrder, deadline},
};
use futures::FutureExt as _;
use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, Weak},
};
use tokio::task::JoinHandle;

/// The steps that are wanted or have just ended, by object.
#[derive(Default)]
pub struct Steps(Mutex<BTreeMap<Key, State>>);

struct State {
    step: Step,
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
        match &super::lock(&self.0).get(key)?.progress {
            Progress::Ended(report, _) => Some((**report).clone()),
            Progress::Running(_) | Progress::Cancelled(_) => None,
        }
    }

    /// Nothing is wanted for this object; what runs is cancelled.
    pub fn want_nothing(&self, key: &Key) {
        let mut states = super::lock(&self.0);
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
        for state in std::mem::take(&mut *super::lock(&self.0)).into_values() {
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
        let mut states = super::lock(&self.0);
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
            report_to(&weak, &task_key, &step, answer, failures);
        });
        states.insert(key.clone(), State { step: wanted, failures, progress: Progress::Running(handle) });
        None
    }
}

fn report_to(shell: &Weak<Shell>, key: &Key, step: &Step, answer: Answer, failures: u32) {
    let Some(shell) = shell.upgrade() else { return };
    let answer = match answer {
        Answer::Need(_) => failed(step.kind, "Unsupported", "this controller makes no leases beneath others".into()),
        answer => answer,
    };
    let failures = if matches!(answer, Answer::Failed(_) | Answer::FailedForGood(_)) { failures + 1 } else { 0 };
    let not_before = (failures > 0).then(|| shell.clock.now().after(deadline::retry_after(failures)));
    {
        let mut states = super::lock(&shell.steps.0);
        let current = |state: &&mut State| state.step == *step && matches!(state.progress, Progress::Running(_));
        let Some(state) = states.get_mut(key).filter(current) else { return };
        state.failures = failures;
        state.progress = Progress::Ended(Box::new(Report { step: step.clone(), answer, failures }), not_before);
    }
    shell.trigger(key.clone());
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
