//! The evaluator of the controller: threads of its own, so that what is slow does not stand in the way of the shell.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
};

use futures::{
    FutureExt as _,
    channel::oneshot,
    future::{self, BoxFuture},
};

use super::{
    Bindings, EvaluationError, Evaluator, Expression, Invalid, MAX_BYTES, evaluate, meter::Clock, parse::parse,
};

/// Enough that one slow expression is not in everyone's way; more only take memory.
const THREADS: usize = 2;

/// Parsing and evaluation are recursive.
const STACK: usize = 8 * 1024 * 1024;

/// How many expressions are remembered; each with its tree may take some 100 KiB, most take 2.
const REMEMBERED: usize = 1024;

/// Parses and evaluates on a few threads with large stacks, which start when they are first needed. What was parsed, or
/// could not be, is remembered.
#[derive(Default)]
pub struct Threads {
    jobs: OnceLock<Option<mpsc::Sender<Job>>>,
    parsed: Arc<Mutex<HashMap<String, Result<Expression, Invalid>>>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Threads {
    /// Without threads yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a thread something to do. When nobody waits for it any more, it is not begun.
    fn submit<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !answer.is_canceled() {
                let _ = answer.send(work()); // nobody waits any more
            }
        });
        match self.jobs.get_or_init(start) {
            Some(jobs) => {
                if let Err(mpsc::SendError(job)) = jobs.send(job) {
                    job();
                }
            }
            // No thread is to be had: late, on this one, is better than never.
            None => job(),
        }
        answered
    }
}

impl Evaluator for Threads {
    fn parse(&self, source: &str) -> BoxFuture<'static, Result<Expression, Invalid>> {
        if source.len() > MAX_BYTES {
            return future::ready(Err(Invalid::TooLong(source.len()))).boxed(); // not worth a place among the remembered
        }
        if let Some(parsed) = lock(&self.parsed).get(source) {
            return future::ready(parsed.clone()).boxed();
        }
        let (source, remembered) = (source.to_owned(), self.parsed.clone());
        let parsed = self.submit(move || {
            let parsed = parse(&source);
            let mut remembered = lock(&remembered);
            if remembered.len() >= REMEMBERED {
                remembered.clear(); // those in use come back one by one
            }
            remembered.insert(source, parsed.clone());
            parsed
        });
        async { parsed.await.unwrap_or_else(|_| Err(Invalid::Unsupported("the parser gave up".to_owned()))) }.boxed()
    }

    fn evaluate(
        &self,
        expressions: Vec<Expression>,
        bindings: Arc<Bindings>,
    ) -> BoxFuture<'static, Vec<Result<serde_json::Value, EvaluationError>>> {
        let asked = expressions.len();
        let results = self.submit(move || evaluate::evaluate(&expressions, &bindings, Clock::Thread));
        async move {
            let lost = || vec![Err(EvaluationError::Failed("the evaluation gave up".to_owned())); asked];
            results.await.unwrap_or_else(|_| lost())
        }
        .boxed()
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

/// Starts the threads; they end when the last sender is gone. Nothing if there is not one.
fn start() -> Option<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    let started = (0..THREADS).filter(|i| {
        let queue = queue.clone();
        let thread = thread::Builder::new().name(format!("expression-{i}")).stack_size(STACK);
        thread.spawn(move || work(&queue)).is_ok()
    });
    (started.count() > 0).then_some(jobs)
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // One waits in the queue, the other for the lock.
        let job = lock(queue).recv();
        let Ok(job) = job else { return };
        // What is not caught further below is a defect; the one who waits is told, and the thread goes on.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// Nothing here can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
