//! What an evaluation may use up, and the functions that count it.
//!
//! They are called from within the crate `cel`, which knows them as plain functions: so the meter is the thread's. Over
//! the limit they unwind: an error would be taken by `&&` and `||` as one more value.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, LazyLock},
    time::Duration,
};

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        functions::Function,
        types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelString, DYN_TYPE, INT_TYPE},
        value::{CowVal, Val},
    },
};
use rustix::time::{ClockId, clock_gettime};

use super::{EvaluationError, MAX_MEMORY, MAX_RESULT, MAX_STEPS, MAX_TIME};

/// How much text one step looks through.
pub(super) const BYTES_A_STEP: u64 = 64;

/// What a value takes besides its text: its box, its place in a list or map, the allocator's own.
const BYTES_A_VALUE: u64 = 64;

/// How many steps or calls may go by between two looks at the clock, which take a system call each.
const STEPS_A_LOOK: u64 = 2_000;
const CALLS_A_LOOK: u64 = 32;

/// What an index costs that is not one: the error holds a copy of the list.
const WRONG_INDEX: u64 = 20_000;

/// A value is about to be copied, or kept.
pub(super) const COPIED: &str = "@copied";
/// A value is about to be appended to a list: a map by its keys, in their order.
pub(super) const APPENDED: &str = "@appended";
/// A value is about to be looked through.
pub(super) const READ: &str = "@read";
/// The operator `in`, with its cost.
pub(super) const IN: &str = "@metered_in";
/// A value is about to be given to a function: texts are looked through.
pub(super) const GIVEN: &str = "@given";
/// A value is about to be an index.
pub(super) const INDEX: &str = "@index";
/// A macro is about to go over a value: a map by its keys, in their order, so that it comes out the same every time.
pub(super) const RANGE: &str = "@range";
/// A round of a macro begins, which is so heavy.
pub(super) const ROUND: &str = "@round";

/// Which limits are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Clock {
    /// Those that can be counted.
    Stopped,
    /// And the processor time of this thread.
    Thread,
}

/// What a thread's evaluation has used.
#[derive(Clone, Copy)]
struct Used {
    steps: u64,
    memory: u64,
    /// The memory of what came out, which outlives the evaluation.
    results: u64,
    calls: u64,
    /// At how many steps and calls the clock is looked at next.
    look: (u64, u64),
    /// The thread's processor time at which it is enough.
    until: Option<Duration>,
}

const NOTHING: Used = Used { steps: 0, memory: 0, results: 0, calls: 0, look: (0, 0), until: None };

thread_local! {
    static USED: Cell<Used> = const { Cell::new(NOTHING) };
}

/// What is unwound with.
struct Enough(EvaluationError);

/// Begins an allowance on this thread.
pub(super) fn begin(clock: Clock) {
    let until = match clock {
        Clock::Stopped => None,
        Clock::Thread => Some(thread_time() + MAX_TIME),
    };
    USED.set(Used { until, ..NOTHING });
}

/// Runs an evaluation under this thread's allowance, to its value or the reason that it has none.
pub(super) fn run<T>(
    weight: u64,
    evaluation: impl FnOnce() -> Result<T, EvaluationError>,
) -> Result<T, EvaluationError> {
    let metered = || {
        use_up(weight, 0);
        evaluation()
    };
    catch_unwind(AssertUnwindSafe(metered)).unwrap_or_else(|payload| Err(stopped(payload)))
}

fn stopped(payload: Box<dyn Any + Send>) -> EvaluationError {
    match payload.downcast::<Enough>() {
        Ok(enough) => enough.0,
        Err(_) => EvaluationError::Failed("the evaluation panicked".to_owned()),
    }
}

/// How many steps this thread's evaluation has made.
#[cfg(test)]
pub(super) fn steps() -> u64 {
    USED.get().steps
}

/// CEL's own functions, and ours.
pub(super) fn environment() -> Result<Arc<Env>, EvaluationError> {
    static ENVIRONMENT: LazyLock<Result<Arc<Env>, DeclarationError>> = LazyLock::new(|| {
        let mut env = Env::default().with_optional_support(false).with_stdlib();
        let own: [(&str, Function); 6] =
            [(COPIED, copied), (APPENDED, appended), (READ, read), (GIVEN, given), (INDEX, index), (RANGE, range)];
        for (name, function) in own {
            env.add_overload(name, name, vec![DYN_TYPE], function)?;
        }
        env.add_overload(IN, IN, vec![DYN_TYPE, DYN_TYPE], is_in)?;
        env.add_overload(ROUND, ROUND, vec![DYN_TYPE, INT_TYPE], round)?;
        Ok(Arc::new(env))
    });
    ENVIRONMENT.clone().map_err(|error| EvaluationError::Failed(error.to_string()))
}

type Given<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Returned<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn copied<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let value = first(args)?;
    go_through(value.as_ref(), Purpose::Keep);
    Ok(value)
}

fn read<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let value = first(args)?;
    go_through(value.as_ref(), Purpose::Read);
    Ok(value)
}

fn appended<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let value = keys_of_map(first(args)?);
    go_through(value.as_ref(), Purpose::Keep);
    Ok(value)
}

fn range<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let value = keys_of_map(first(args)?);
    go_through(value.as_ref(), Purpose::Read);
    Ok(value)
}

/// A number that is compared with something else than a number makes an error with a copy of that, so what is sought
/// may be copied for each element of a list. In a map a key is found at once.
fn is_in<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let [sought, among] = args.as_slice() else { return Err(ExecutionError::MissingArgumentOrTarget) };
    let before = USED.get().steps;
    go_through(sought.as_ref(), Purpose::Read);
    let once = USED.get().steps - before;
    if let Some(list) = among.downcast_ref::<CelList>() {
        go_through(among.as_ref(), Purpose::Read);
        use_up(once.saturating_mul(list.inner().len() as u64), 0);
    }
    let types = || [sought, among].map(|value| value.get_type().name().to_owned()).to_vec();
    let mismatch = || ExecutionError::no_such_overload("in", types());
    let found = among.as_container().ok_or_else(mismatch)?.contains(sought.as_ref()).map_err(|_| mismatch())?;
    Ok(CowVal::owned(CelBool::from(found)))
}

fn given<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let value = first(args)?;
    if value.downcast_ref::<CelList>().is_none() && value.downcast_ref::<CelMap>().is_none() {
        go_through(value.as_ref(), Purpose::Read);
    }
    Ok(value)
}

fn index<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let value = first(args)?;
    go_through(value.as_ref(), Purpose::Read);
    if value.downcast_ref::<CelDouble>().is_some_and(|index| index.inner().fract() != 0.0) {
        use_up(WRONG_INDEX, 0);
    }
    Ok(value)
}

fn round<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    let weight = args.get(1).and_then(|weight| weight.downcast_ref::<CelInt>()).map_or(1, |weight| *weight.inner());
    use_up(u64::try_from(weight).unwrap_or(1), 0);
    first(args)
}

fn first<'b, 'v>(args: Given<'b, 'v>) -> Returned<'b, 'v> {
    args.into_iter().next().ok_or(ExecutionError::MissingArgumentOrTarget)
}

/// The crate goes over the keys of a map as they happen to lie.
fn keys_of_map<'b, 'v>(value: CowVal<'b, 'v>) -> CowVal<'b, 'v> {
    let mut keys: Vec<CelMapKey<'v>> = match value.downcast_ref::<CelMap<'v>>() {
        Some(map) => map.inner().keys().cloned().collect(),
        None => return value,
    };
    keys.sort_unstable();
    let keys: Vec<Box<dyn Val + 'v>> = keys.iter().map(|key| key.inner().clone_as_boxed()).collect();
    CowVal::owned(CelList::from(keys))
}

/// What a value is gone through for.
#[derive(Clone, Copy)]
enum Purpose {
    Read,
    Keep,
}

/// Counts a value with all that is in it, and stops in the middle when it is too much.
fn go_through(value: &dyn Val, purpose: Purpose) {
    let text = if let Some(text) = value.downcast_ref::<CelString>() {
        text.inner().len() as u64
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        bytes.inner().len() as u64
    } else {
        0
    };
    let memory = match purpose {
        Purpose::Read => 0,
        Purpose::Keep => BYTES_A_VALUE + text,
    };
    use_up(1 + text / BYTES_A_STEP, memory);
    if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().for_each(|element| go_through(element.as_ref(), purpose));
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        for (key, value) in map.inner() {
            go_through(key.inner(), purpose);
            go_through(value.as_ref(), purpose);
        }
    }
}

/// Counts memory of what comes out as JSON, and stops in the middle when it is too much.
pub(super) fn result(memory: u64) {
    let mut used = USED.get();
    used.results = used.results.saturating_add(memory);
    USED.set(used);
    if used.results > MAX_RESULT {
        let text = format!("the expression gives a value of more than {} MiB in memory", MAX_RESULT / (1024 * 1024));
        resume_unwind(Box::new(Enough(EvaluationError::TooLarge(text))));
    }
}

fn use_up(steps: u64, memory: u64) {
    let mut used = USED.get();
    used.steps = used.steps.saturating_add(steps);
    used.memory = used.memory.saturating_add(memory);
    used.calls += 1;
    let mut enough = None;
    if used.steps > MAX_STEPS {
        enough = Some(EvaluationError::TooSlow);
    } else if used.memory > MAX_MEMORY {
        let text = format!("the expression makes values of more than {} MiB", MAX_MEMORY / (1024 * 1024));
        enough = Some(EvaluationError::TooLarge(text));
    } else if let Some(until) = used.until
        && (used.steps >= used.look.0 || used.calls >= used.look.1)
    {
        used.look = (used.steps + STEPS_A_LOOK, used.calls + CALLS_A_LOOK);
        if thread_time() > until {
            enough = Some(EvaluationError::TooSlow);
            // Those after it in the same job find none left either.
            used.steps = MAX_STEPS;
        }
    }
    USED.set(used);
    if let Some(enough) = enough {
        resume_unwind(Box::new(Enough(enough)));
    }
}

/// The processor time of this thread: the time on the wall says more about the neighbours.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
