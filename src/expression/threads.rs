//! The evaluator of the controller: threads of its own, so that what is slow does not stand in the way of the shell.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

use futures::{
    FutureExt as _,
    channel::oneshot,
    future::{self, BoxFuture},
};

use super::{
    Bindings, EvaluationError, Evaluator, EvaluatorHandle, Expression, Invalid, MAX_BYTES, evaluate, meter::Clock,
    parse::parse,
};

/// Enough that one slow expression is not in everyone's way; more only take memory.
const THREADS: usize = 2;

/// Parsing and evaluation are recursive.
const STACK: usize = 8 * 1024 * 1024;

/// How many expressions are remembered; most of which take 2 KiB with their trees.
const REMEMBERED: usize = 1024;
/// And how many nodes their trees may have together, each of some hundred bytes.
const REMEMBERED_NODES: u64 = 100_000;

/// Parses and evaluates on a few threads with large stacks, which start when they are first needed. What was parsed, or
/// could not be, is remembered.
#[derive(Clone)]
pub struct Threads {
    shared: Arc<Shared>,
    tenant: Arc<str>,
}

struct Shared {
    queue: Arc<Queue>,
    started: OnceLock<bool>,
    parsed: Mutex<Remembered>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        lock(&self.queue.waiting).is_over = true;
        self.queue.changed.notify_all();
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// What is to be done, each tenant's in its order; tenants take turns.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    turns: VecDeque<Arc<str>>,
    jobs: BTreeMap<Arc<str>, VecDeque<Job>>,
    is_over: bool,
}

impl Waiting {
    fn push(&mut self, tenant: &Arc<str>, job: Job) {
        let jobs = self.jobs.entry(tenant.clone()).or_default();
        if jobs.is_empty() {
            self.turns.push_back(tenant.clone());
        }
        jobs.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let tenant = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&tenant)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        job
    }
}

/// What was parsed, or could not be, by its text.
#[derive(Default)]
struct Remembered {
    parsed: HashMap<String, Result<Expression, Invalid>>,
    nodes: u64,
}

impl Remembered {
    fn insert(&mut self, source: String, parsed: Result<Expression, Invalid>) {
        let nodes = parsed.as_ref().map_or(1, |expression| expression.0.weight);
        if self.parsed.len() >= REMEMBERED || self.nodes + nodes > REMEMBERED_NODES {
            *self = Self::default(); // those in use come back one by one
        }
        self.nodes += nodes;
        self.parsed.insert(source, parsed);
    }
}

impl Default for Threads {
    fn default() -> Self {
        let queue = Arc::new(Queue::default());
        let shared = Shared { queue, started: OnceLock::new(), parsed: Mutex::default() };
        Self { shared: Arc::new(shared), tenant: Arc::from("") }
    }
}

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
        let queue = &self.shared.queue;
        if *self.shared.started.get_or_init(|| start(queue)) {
            lock(&queue.waiting).push(&self.tenant, job);
            queue.changed.notify_one();
        } else {
            // No thread is to be had: late, on this one, is better than never.
            job();
        }
        answered
    }
}

impl Evaluator for Threads {
    fn parse(&self, source: &str) -> BoxFuture<'static, Result<Expression, Invalid>> {
        if source.len() > MAX_BYTES {
            return future::ready(Err(Invalid::TooLong(source.len()))).boxed(); // not worth a place among the remembered
        }
        if let Some(parsed) = lock(&self.shared.parsed).parsed.get(source) {
            return future::ready(parsed.clone()).boxed();
        }
        let (source, remembered) = (source.to_owned(), self.shared.clone());
        let parsed = self.submit(move || {
            let parsed = parse(&source);
            lock(&remembered.parsed).insert(source, parsed.clone());
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

    fn of_tenant(&self, tenant: &str) -> EvaluatorHandle {
        Arc::new(Self { tenant: Arc::from(tenant), ..self.clone() })
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

/// Starts the threads; whether there is one. They end when the evaluator is gone.
fn start(queue: &Arc<Queue>) -> bool {
    let started = (0..THREADS).filter(|i| {
        let queue = queue.clone();
        let thread = thread::Builder::new().name(format!("expression-{i}")).stack_size(STACK);
        thread.spawn(move || work(&queue)).is_ok()
    });
    started.count() > 0
}

fn work(queue: &Queue) {
    loop {
        let job = {
            let mut waiting = lock(&queue.waiting);
            loop {
                if let Some(job) = waiting.pop() {
                    break job;
                }
                if waiting.is_over {
                    return;
                }
                waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        };
        // What is not caught further below is a defect; the one who waits is told, and the thread goes on.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// Nothing here can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns, not time: a tenant that has asked for a thousand things is as far ahead of the next as one that has asked for one.
    #[test]
    fn tenants_take_turns() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Waiting::default();
        let (loud, quiet) = (Arc::from("loud"), Arc::from("quiet"));
        let job = |name: &'static str| -> Job {
            let done = done.clone();
            Box::new(move || lock(&done).push(name))
        };
        (0..1000).for_each(|_| waiting.push(&loud, job("loud")));
        waiting.push(&quiet, job("quiet"));
        for _ in 0..3 {
            waiting.pop().unwrap()();
        }
        assert_eq!(*lock(&done), ["loud", "quiet", "loud"]);
        while let Some(job) = waiting.pop() {
            job();
        }
        assert_eq!((lock(&done).len(), waiting.jobs.len(), waiting.turns.len()), (1001, 0, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded_by_its_size() {
        let mut remembered = Remembered::default();
        for n in 0..2 * REMEMBERED as u64 {
            let source = format!("[{}{n}]", "1,".repeat(400));
            remembered.insert(source.clone(), parse(&source));
            assert!(remembered.nodes <= REMEMBERED_NODES && remembered.parsed.len() <= REMEMBERED);
        }
        assert!(remembered.parsed.len() < REMEMBERED / 2, "{}", remembered.parsed.len());
    }
}
