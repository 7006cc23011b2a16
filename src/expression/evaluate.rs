//! One job: expressions over the same bindings, one after the other on this thread.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    io,
};

use cel::{Context, ExecutionError, Value, common::value::Val};

use super::{
    Binding, Bindings, EvaluationError, Expression, MAX_BINDINGS, MAX_BINDINGS_DEPTH, json,
    meter::{self, Clock},
};

/// How much is told of an error: some hold a name that is as long as its author likes.
const TOLD: usize = 256;

/// Evaluates all of them over the same bindings, one result for each.
pub(super) fn evaluate(
    expressions: &[Expression],
    bindings: &Bindings,
    clock: Clock,
) -> Vec<Result<serde_json::Value, EvaluationError>> {
    let context = match check(bindings).and_then(|()| context(expressions, bindings)) {
        Ok(context) => context,
        Err(error) => return expressions.iter().map(|_| Err(error.clone())).collect(),
    };
    meter::begin(clock);
    expressions.iter().map(|expression| one(expression, &context)).collect()
}

fn one(expression: &Expression, context: &Context<'_, '_>) -> Result<serde_json::Value, EvaluationError> {
    meter::run(expression.0.weight, || {
        let value = Value::resolve_val(&expression.0.tree, context).map_err(|error| failed(&error))?;
        json::from_cel(value.as_ref()).map_err(EvaluationError::Failed)
    })
}

/// Whether the bindings are small enough to be evaluated over.
fn check(bindings: &Bindings) -> Result<(), EvaluationError> {
    let mut size = Size(0);
    for (name, binding) in bindings {
        size.0 += name.len();
        match binding {
            Binding::Timestamp(_) => size.0 += "0000-00-00T00:00:00Z".len(),
            Binding::Json(value) => {
                if is_deeper(value, MAX_BINDINGS_DEPTH) {
                    let text = format!("{name} is nested deeper than {MAX_BINDINGS_DEPTH} levels");
                    return Err(EvaluationError::TooLarge(text));
                }
                // The only error is that of `Size`, which is told below.
                let _ = serde_json::to_writer(&mut size, value);
            }
        }
        if size.0 > MAX_BINDINGS {
            let text = format!(
                "what the expression would be evaluated over is larger than {} KiB with {name}",
                MAX_BINDINGS / 1024
            );
            return Err(EvaluationError::TooLarge(text));
        }
    }
    Ok(())
}

/// Counts what is written, until it is too much.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > MAX_BINDINGS { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_deeper(value: &serde_json::Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return true };
    match value {
        serde_json::Value::Array(list) => list.iter().any(|value| is_deeper(value, below)),
        serde_json::Value::Object(map) => map.values().any(|value| is_deeper(value, below)),
        _ => false,
    }
}

/// The roots that are named, as CEL values that borrow their texts.
fn context<'v>(expressions: &[Expression], bindings: &'v Bindings) -> Result<Context<'v, 'v>, EvaluationError> {
    let mut context = Context::with_env(meter::environment()?);
    let roots: BTreeSet<&String> = expressions.iter().flat_map(Expression::roots).collect();
    for root in roots {
        let value: Box<dyn Val + 'v> = match bindings.get(root) {
            Some(Binding::Json(value)) => json::to_cel(value),
            Some(Binding::Timestamp(at)) => json::timestamp_to_cel(*at).map_err(EvaluationError::Failed)?,
            None => continue, // the evaluation names it
        };
        context.add_variable_as_val(root, value);
    }
    Ok(context)
}

fn failed(error: &ExecutionError) -> EvaluationError {
    use ExecutionError as E;
    let mut told = Told(String::new());
    // Some errors hold whole values, and show maps in an order that is another every time: a status that held them would
    // be written again and again.
    let heard = match error {
        E::UnsupportedBinaryOperator(operator, left, right) => {
            write!(told, "there is no {operator} for {} and {}", left.type_of(), right.type_of())
        }
        E::ValuesNotComparable(left, right) => {
            write!(told, "{} and {} cannot be compared", left.type_of(), right.type_of())
        }
        E::UnsupportedIndex(index, of) => {
            write!(told, "{} is no index of {}", index.type_of(), of.type_of())
        }
        E::UnsupportedKeyType(key) => write!(told, "{} is no key of a map", key.type_of()),
        E::UnsupportedTargetType { target } => write!(told, "{} is not supported there", target.type_of()),
        E::NotSupportedAsMethod { method, target } => {
            write!(told, "there is no {method}() of {}", target.type_of())
        }
        E::DivisionByZero(_) => write!(told, "division by zero"),
        E::RemainderByZero(_) => write!(told, "remainder by zero"),
        E::Overflow(operator, ..) => write!(told, "overflow from {operator}"),
        E::IndexOutOfBounds(Value::Int(index)) => write!(told, "there is no element {index}"),
        E::IndexOutOfBounds(_) => write!(told, "there is no such element"),
        E::DuplicateKey(Value::String(key)) => write!(told, "a map has the key {key:?} twice"),
        E::DuplicateKey(_) => write!(told, "a map has a key twice"),
        other => write!(told, "{other}"),
    };
    // An error here is `Told` having heard enough.
    if heard.is_err() {
        told.0.push('…');
    }
    EvaluationError::Failed(told.0)
}

/// The beginning of a text, on one line.
struct Told(String);

impl fmt::Write for Told {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.0.len() >= TOLD {
                return Err(fmt::Error);
            }
            self.0.push(if char.is_control() { ' ' } else { char });
        }
        Ok(())
    }
}
