//! Puts the meters into the tree of an expression.
//!
//! Three rules. What copies a value is told first how large that is: a list takes copies of its elements, a macro of the
//! elements that it goes over, `+` of both sides. What looks through a value is told so too: `==`, `in`, and an error,
//! which holds a copy of what it is about. And every round of a macro passes a meter, also when its body fails: `all` and
//! `exists` go on then.

use std::mem;

use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, LiteralValue, MapEntryExpr, SelectExpr, operators,
    },
};

use super::{Invalid, meter, parse::weight};

/// The tree with its meters, the last one at what comes out.
pub(super) fn whole(expr: IdedExpr) -> Result<IdedExpr, Invalid> {
    Ok(through(meter::COPIED, inside(expr)?))
}

/// The parts of a macro that its user wrote, but for what it goes over.
pub(super) fn users_parts(of: &ComprehensionExpr) -> Result<Vec<&IdedExpr>, Invalid> {
    Ok(match Step::of(of)? {
        Step::Fold { body } | Step::Count { body } => vec![body],
        Step::Append { guard, body } => guard.into_iter().chain([body]).collect(),
    })
}

/// What a macro does in each round.
enum Step<T> {
    /// `all` and `exists`: `@result && body`. They stop when it is decided, so their condition is more than `true`.
    Fold { body: T },
    /// `exists_one`: `body ? @result + 1 : @result`.
    Count { body: T },
    /// `map` and `filter`: `guard ? @result + [body] : @result`, or without the guard.
    Append { guard: Option<T>, body: T },
}

impl<'a> Step<&'a IdedExpr> {
    /// A shape that is not known might do what no meter sees: it is refused.
    fn of(of: &'a ComprehensionExpr) -> Result<Self, Invalid> {
        let unknown = || Invalid::Unsupported("it has a macro that is not known here".to_owned());
        let is_result = |expr: &IdedExpr| matches!(&expr.expr, Expr::Ident(name) if *name == of.accu_var);
        let always = matches!(of.loop_cond.expr, Expr::Literal(LiteralValue::Boolean(_)));
        let appended = |step: &'a IdedExpr| match call(step) {
            Some((operators::ADD, [result, list])) if is_result(result) => match &list.expr {
                Expr::List(list) => list.elements.first().filter(|_| list.elements.len() == 1),
                _ => None,
            },
            _ => None,
        };
        if of.iter_var2.is_some() {
            return Err(unknown());
        }
        match call(&of.loop_step) {
            Some((operators::LOGICAL_AND | operators::LOGICAL_OR, [result, body])) if is_result(result) && !always => {
                Ok(Step::Fold { body })
            }
            Some((operators::CONDITIONAL, [guard, step, result])) if is_result(result) && always => {
                match (appended(step), call(step)) {
                    (Some(body), _) => Ok(Step::Append { guard: Some(guard), body }),
                    (None, Some((operators::ADD, [result, one])))
                        if is_result(result) && matches!(one.expr, Expr::Literal(_)) =>
                    {
                        Ok(Step::Count { body: guard })
                    }
                    _ => Err(unknown()),
                }
            }
            _ if always => appended(&of.loop_step).map(|body| Step::Append { guard: None, body }).ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

/// The name and the arguments of an operator.
fn call(expr: &IdedExpr) -> Option<(&str, &[IdedExpr])> {
    match &expr.expr {
        Expr::Call(CallExpr { func_name, target: None, args }) => Some((func_name, args)),
        _ => None,
    }
}

/// Meters what is inside an expression.
fn inside(mut expr: IdedExpr) -> Result<IdedExpr, Invalid> {
    expr.expr = match expr.expr {
        Expr::Call(call) => Expr::Call(inside_call(call)?),
        Expr::Comprehension(of) => Expr::Comprehension(Box::new(inside_macro(*of)?)),
        Expr::List(mut list) => {
            list.elements = list
                .elements
                .into_iter()
                .map(|element| Ok(through(meter::COPIED, inside(element)?)))
                .collect::<Result<_, _>>()?;
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            map.entries = map.entries.into_iter().map(inside_entry).collect::<Result<_, _>>()?;
            Expr::Map(map)
        }
        Expr::Select(SelectExpr { operand, field, test }) => {
            Expr::Select(SelectExpr { operand: Box::new(inside(*operand)?), field, test })
        }
        leaf @ (Expr::Ident(_) | Expr::Literal(_)) => leaf,
        Expr::Unspecified | Expr::Struct(_) => {
            return Err(Invalid::Unsupported("a part of it has no value".to_owned()));
        }
    };
    Ok(expr)
}

fn inside_entry(entry: IdedEntryExpr) -> Result<IdedEntryExpr, Invalid> {
    let EntryExpr::MapEntry(MapEntryExpr { key, value, optional }) = entry.expr else {
        return Err(Invalid::Unsupported("a map has a field of a message".to_owned()));
    };
    let key = through(meter::COPIED, inside(key)?);
    let value = through(meter::COPIED, inside(value)?);
    Ok(IdedEntryExpr { id: entry.id, expr: EntryExpr::MapEntry(MapEntryExpr { key, value, optional }) })
}

fn inside_call(CallExpr { func_name, target, args }: CallExpr) -> Result<CallExpr, Invalid> {
    let is_literal = |expr: &IdedExpr| matches!(expr.expr, Expr::Literal(_));
    // The meters at the first argument and at the others.
    let (first, others) = match func_name.as_str() {
        operators::CONDITIONAL
        | operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::NEGATE => (None, None),
        operators::INDEX => (None, Some(meter::INDEX)),
        operators::ADD => (Some(meter::COPIED), Some(meter::APPENDED)),
        // A comparison with a single value is done at the first look. Not so the other way round: a number that is
        // compared with a list makes an error with a copy of it, to find that they are not equal.
        operators::EQUALS | operators::NOT_EQUALS if args.last().is_some_and(is_literal) => (None, None),
        operators::IN => (None, None), // see below
        operators::EQUALS
        | operators::NOT_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
        | operators::SUBSTRACT
        | operators::MULTIPLY
        | operators::DIVIDE
        | operators::MODULO => (Some(meter::READ), Some(meter::READ)),
        // No function looks into a list or a map; what they do with a text is done in one go.
        _ => (Some(meter::GIVEN), Some(meter::GIVEN)),
    };
    let through = |name: Option<&'static str>, expr| match name {
        Some(name) => through(name, expr),
        None => expr,
    };
    // A search costs as much as the product of both sides, so it is done by a function that sees both.
    let func_name = if func_name == operators::IN { meter::IN.to_owned() } else { func_name };
    Ok(CallExpr {
        target: match target {
            Some(target) => Some(Box::new(through(Some(meter::GIVEN), inside(*target)?))),
            None => None,
        },
        args: args
            .into_iter()
            .enumerate()
            .map(|(i, arg)| Ok(through(if i == 0 { first } else { others }, inside(arg)?)))
            .collect::<Result<_, _>>()?,
        func_name,
    })
}

fn inside_macro(mut of: ComprehensionExpr) -> Result<ComprehensionExpr, Invalid> {
    of.iter_range = through(meter::RANGE, inside(mem::take(&mut of.iter_range))?);
    // The shape must stay: the crate knows those of `map` and `filter`, and would copy the result in every round if it
    // did not see them.
    let (every, body) = match Step::of(&of)? {
        Step::Fold { body } => {
            let weight = weight(body);
            of.loop_cond = round(mem::take(&mut of.loop_cond), weight);
            (None, &mut args_of(&mut of.loop_step)?[1])
        }
        Step::Count { body } => {
            let weight = weight(body);
            (Some(weight), &mut args_of(&mut of.loop_step)?[0])
        }
        Step::Append { guard: Some(guard), body } => {
            let weight = weight(guard) + weight(body);
            let [guard, step, ..] = args_of(&mut of.loop_step)? else { return Err(lost()) };
            *guard = round(inside(mem::take(guard))?, weight);
            (None, element_of(step)?)
        }
        Step::Append { guard: None, body } => {
            let weight = weight(body);
            (Some(weight), element_of(&mut of.loop_step)?)
        }
    };
    let is_copied = matches!(of.accu_init.expr, Expr::List(_));
    let mut metered = inside(mem::take(body))?;
    if let Some(weight) = every {
        metered = round(metered, weight);
    }
    *body = if is_copied { through(meter::COPIED, metered) } else { metered };
    Ok(of)
}

/// `x` of `@result + [x]`.
fn element_of(step: &mut IdedExpr) -> Result<&mut IdedExpr, Invalid> {
    match args_of(step)? {
        [_, IdedExpr { expr: Expr::List(list), .. }] => list.elements.first_mut().ok_or_else(lost),
        _ => Err(lost()),
    }
}

fn args_of(expr: &mut IdedExpr) -> Result<&mut [IdedExpr], Invalid> {
    match &mut expr.expr {
        Expr::Call(call) if call.args.len() > 1 => Ok(&mut call.args),
        _ => Err(lost()),
    }
}

/// Cannot be: the shape was looked at before.
fn lost() -> Invalid {
    Invalid::Unsupported("a macro has lost its shape".to_owned())
}

/// Puts an expression through a meter. A number or text that is written out is in the weight already.
fn through(name: &str, expr: IdedExpr) -> IdedExpr {
    match expr.expr {
        Expr::Literal(_) if name != meter::INDEX => expr,
        _ => meter_call(name, vec![expr]),
    }
}

/// Puts what is evaluated in every round of a macro through the meter of the rounds.
fn round(expr: IdedExpr, weight: u64) -> IdedExpr {
    let weight = LiteralValue::Int(i64::try_from(weight).unwrap_or(i64::MAX).into());
    meter_call(meter::ROUND, vec![expr, IdedExpr { id: 0, expr: Expr::Literal(weight) }])
}

fn meter_call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}
