//! Users' CEL and its limits: parse, see which roots are named, evaluate, fill templates. Knows nothing of what the
//! expressions are about.
//!
//! Expressions come from people who are not trusted. What one may be is bounded when it is parsed (`parse`); what it may
//! do is metered while it is evaluated (`meter`): the crate `cel` cannot be interrupted, so the tree is rebuilt with calls
//! to functions of our own that count (`instrument`), and an evaluation over its allowance is unwound. That needs
//! `panic = "unwind"`.

mod evaluate;
mod instrument;
mod json;
mod meter;
mod parse;
pub mod template;
#[cfg(test)]
mod tests;
mod threads;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use cel::IdedExpr;
use futures::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use jiff::Timestamp;

pub use json::{weight, weight_of_text};
pub use template::Template;
pub use threads::Threads;

/// The longest expression, in bytes.
pub const MAX_BYTES: usize = 1024;
/// How many macros (`all`, `exists`, `exists_one`, `map`, `filter`) may stand inside one another: seven over a list of
/// ten elements are ten million rounds.
pub const MAX_NESTED_MACROS: usize = 2;
/// How many lists and maps may be written out in one expression.
pub const MAX_LITERALS: usize = 64;
/// How deep an expression may be nested: evaluation is recursive, and a thread of the shell has 2 MiB of stack.
pub const MAX_DEPTH: usize = 48;
/// The most that is evaluated over: the size as JSON.
pub const MAX_BINDINGS: usize = 64 * 1024;
/// How deep bindings may be nested, which is what `serde_json` reads.
pub const MAX_BINDINGS_DEPTH: usize = 128;
/// The processor time of one evaluation.
pub const MAX_TIME: Duration = Duration::from_millis(100);
/// The steps of one evaluation, about as many as are done in [`MAX_TIME`]. A step is a node of the expression, or a value
/// looked at, or 64 bytes of a text looked at.
pub const MAX_STEPS: u64 = 500_000;
/// The memory that one evaluation may ask for in all: each value that is kept is counted with 64 bytes and its text.
pub const MAX_MEMORY: u64 = 8 * 1024 * 1024;

/// The memory of the JSON values that come of one job: those of all expressions of a template together. It outlives the
/// evaluation, so it is less than [`MAX_MEMORY`].
pub const MAX_RESULT: u64 = 2 * 1024 * 1024;

/// A parsed expression, within the limits; cheap to clone.
#[derive(Clone)]
pub struct Expression(Arc<Parsed>);

/// What parsing found out.
struct Parsed {
    source: String,
    roots: BTreeSet<String>,
    /// The tree with its meters.
    tree: IdedExpr,
    /// How many nodes it has, the bodies of macros once.
    weight: u64,
}

impl Expression {
    /// The variables that it names, without those that its macros bind: `o` in `o.items.all(i, i > 0)`.
    #[must_use]
    pub fn roots(&self) -> &BTreeSet<String> {
        &self.0.roots
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.source).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

/// Why a text is not an expression that is taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Over [`MAX_BYTES`].
    #[error("the expression has {0} bytes, and may have {MAX_BYTES}")]
    TooLong(usize),
    /// Not CEL, or CEL with an extension that is not here.
    #[error("the expression is not CEL: {message} at line {line}, column {column}")]
    Syntax {
        /// What is wrong there.
        message: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Over [`MAX_DEPTH`].
    #[error("the expression is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Over [`MAX_NESTED_MACROS`].
    #[error("the expression has {0} macros inside one another, and may have {MAX_NESTED_MACROS}")]
    TooManyNestedMacros(usize),
    /// Over [`MAX_LITERALS`].
    #[error("the expression writes out {0} lists and maps, and may write out {MAX_LITERALS}")]
    TooManyLiterals(usize),
    /// A function that CEL does not have, or that is left out because one call can take too long.
    #[error("the expression calls {0}(), which is not among the functions that are known here")]
    UnknownFunction(String),
    /// `Name{field: value}`: there are no messages.
    #[error("the expression makes a message of type {0}, and there are none")]
    UnknownMessage(String),
    /// What the parser makes and the meters do not know.
    #[error("the expression cannot be taken: {0}")]
    Unsupported(String),
    /// In a template: `${` without its `}`.
    #[error("a ${{ is not closed by a }} (write $${{ for the text ${{)")]
    Unclosed,
    /// In a template: `${` in the key of a map.
    #[error("the key {0:?} holds an expression, and keys are taken as they are")]
    InKey(String),
    /// In a template: too many expressions.
    #[error("the template holds more than {0} expressions")]
    TooManyExpressions(usize),
}

impl Invalid {
    /// The word for conditions and events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        "InvalidExpression"
    }
}

/// Why an expression gave no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvaluationError {
    /// It was stopped. It would be again: not to be run once more until the expression changes.
    #[error("the expression took longer than {} ms and was stopped", MAX_TIME.as_millis())]
    TooSlow,
    /// What it is evaluated over, or makes, is too large.
    #[error("{0}")]
    TooLarge(String),
    /// It ended in an error, or its value has no form in JSON.
    #[error("the expression failed: {0}")]
    Failed(String),
}

impl EvaluationError {
    /// The word for conditions and events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooSlow => "ExpressionTooSlow",
            Self::TooLarge(_) => "ExpressionTooLarge",
            Self::Failed(_) => "ExpressionFailed",
        }
    }
}

/// What a root stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// Anything in JSON. Whole numbers become `int` (or `uint` above its range), others `double`; CEL compares them by
    /// their value.
    Json(serde_json::Value),
    /// A point in time, as `timestamp("…")` gives.
    Timestamp(Timestamp),
}

impl From<serde_json::Value> for Binding {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(value)
    }
}

impl From<Timestamp> for Binding {
    fn from(at: Timestamp) -> Self {
        Self::Timestamp(at)
    }
}

/// What the roots stand for, by name.
pub type Bindings = BTreeMap<String, Binding>;

/// How expressions are parsed and evaluated: a handle, like the clock, so that a simulation can do it in line.
pub trait Evaluator: Send + Sync {
    /// Parses a text, and checks it against the limits.
    fn parse(&self, source: &str) -> BoxFuture<'static, Result<Expression, Invalid>>;

    /// Evaluates all of them over the same bindings, and gives one result for each. They are one job with one allowance
    /// of time and memory: when one has used it up, those after it have the same error.
    fn evaluate(
        &self,
        expressions: Vec<Expression>,
        bindings: Arc<Bindings>,
    ) -> BoxFuture<'static, Vec<Result<serde_json::Value, EvaluationError>>>;

    /// The same for one tenant: where evaluations have to wait, tenants take turns, however much each has asked for.
    fn of_tenant(&self, tenant: &str) -> EvaluatorHandle;
}

/// The evaluator that everything shares.
pub type EvaluatorHandle = Arc<dyn Evaluator>;

/// Parses and evaluates where it is polled, under the limits that can be counted: the same outcome every time. For
/// simulations and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct InLine;

impl Evaluator for InLine {
    fn parse(&self, source: &str) -> BoxFuture<'static, Result<Expression, Invalid>> {
        future::ready(parse::parse(source)).boxed()
    }

    fn evaluate(
        &self,
        expressions: Vec<Expression>,
        bindings: Arc<Bindings>,
    ) -> BoxFuture<'static, Vec<Result<serde_json::Value, EvaluationError>>> {
        async move { evaluate::evaluate(&expressions, &bindings, meter::Clock::Stopped) }.boxed()
    }

    fn of_tenant(&self, _: &str) -> EvaluatorHandle {
        Arc::new(*self)
    }
}
