//! From text to an expression within the limits.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use cel::{
    IdedExpr, ParseErrors,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
    parser::PrattParser,
};

use super::{
    Expression, Invalid, MAX_BYTES, MAX_DEPTH, MAX_LITERALS, MAX_NESTED_MACROS, Parsed, instrument, meter::BYTES_A_STEP,
};

/// What may be called. A list of our own, so that a function that a later version of the crate brings is looked at first.
/// `matches` is left out: one call compiles a pattern of its author, and `(a{100}){100}` takes many megabytes.
const FUNCTIONS: [&str; 24] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];

const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::IN,
    operators::INDEX,
];

/// Names that stand for types where no variable has them: no roots.
const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "google", "int", "list", "map", "null_type", "string", "type", "uint"];

/// Parses a text, checks the limits, and puts the meters in.
///
/// The parser is the crate's hand-written one, whose time grows with the text. The crate's other one, made by ANTLR, keeps
/// what it learns from every text for the whole process: its memory has no bound that could be named here.
pub(super) fn parse(source: &str) -> Result<Expression, Invalid> {
    if source.len() > MAX_BYTES {
        return Err(Invalid::TooLong(source.len()));
    }
    let parser = PrattParser::new().max_recursion_depth(MAX_DEPTH as u16).error_recovery_limit(1);
    let tree = catch_unwind(AssertUnwindSafe(|| parser.parse(source)))
        .map_err(|_| Invalid::Unsupported("the parser panicked".to_owned()))?
        .map_err(|errors| syntax(&errors))?;
    if is_deeper(&tree, MAX_DEPTH) {
        return Err(Invalid::TooDeep);
    }
    let mut found = Found::default();
    found.look(&tree, &mut vec![])?;
    if found.nested > MAX_NESTED_MACROS {
        return Err(Invalid::TooManyNestedMacros(found.nested));
    }
    if found.literals > MAX_LITERALS {
        return Err(Invalid::TooManyLiterals(found.literals));
    }
    let weight = weight(&tree);
    let tree = instrument::whole(tree)?;
    Ok(Expression(Arc::new(Parsed { source: source.to_owned(), roots: found.roots, tree, weight })))
}

fn syntax(errors: &ParseErrors) -> Invalid {
    // That the parser has given up stands first, and nowhere in the text; why stands after it.
    let somewhere = errors.errors.iter().find(|error| error.pos.0 > 0);
    let Some(error) = somewhere.or(errors.errors.first()) else {
        return Invalid::Unsupported("the parser gives no reason".to_owned());
    };
    if errors.errors.iter().any(|error| error.msg.contains("recursion limit")) {
        return Invalid::TooDeep;
    }
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg).replace('\n', " ");
    let position = |of: isize| usize::try_from(of).unwrap_or(0).max(1);
    Invalid::Syntax { message, line: position(error.pos.0), column: position(error.pos.1) }
}

/// The parts of an expression, its macros' own parts too.
fn parts(expr: &Expr) -> Vec<&IdedExpr> {
    match expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => vec![],
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(of) => {
            vec![&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Struct(of) => of.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// Whether it has more levels: to be asked before anything else that is recursive.
fn is_deeper(expr: &IdedExpr, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return true };
    parts(&expr.expr).into_iter().any(|part| is_deeper(part, below))
}

/// How much one evaluation costs that takes every branch, and every macro's body once.
pub(super) fn weight(expr: &IdedExpr) -> u64 {
    let own = match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => 1 + text.inner().len() as u64 / BYTES_A_STEP,
        // A dotted name is looked up whole, then without its last part, and so on.
        Expr::Select(_) => 2,
        _ => 1,
    };
    own + parts(&expr.expr).into_iter().map(weight).sum::<u64>()
}

/// What a look at the whole expression found.
#[derive(Default)]
struct Found {
    roots: BTreeSet<String>,
    literals: usize,
    /// The most macros inside one another.
    nested: usize,
}

impl Found {
    /// Looks at an expression inside of macros that have bound these variables.
    fn look<'a>(&mut self, expr: &'a IdedExpr, bound: &mut Vec<&'a str>) -> Result<(), Invalid> {
        match &expr.expr {
            Expr::Unspecified => return Err(Invalid::Unsupported("a part of it is missing".to_owned())),
            Expr::Ident(name) => self.name(name, bound),
            Expr::Call(CallExpr { func_name: name, .. })
                if !FUNCTIONS.contains(&name.as_str()) && !OPERATORS.contains(&name.as_str()) =>
            {
                return Err(Invalid::UnknownFunction(name.clone()));
            }
            Expr::Comprehension(of) => return self.look_at_macro(of, bound),
            Expr::List(_) | Expr::Map(_) => self.literals += 1,
            Expr::Struct(of) => return Err(Invalid::UnknownMessage(of.type_name.clone())),
            Expr::Call(_) | Expr::Literal(_) | Expr::Select(_) => {}
        }
        parts(&expr.expr).into_iter().try_for_each(|part| self.look(part, bound))
    }

    fn look_at_macro<'a>(&mut self, of: &'a ComprehensionExpr, bound: &mut Vec<&'a str>) -> Result<(), Invalid> {
        self.look(&of.iter_range, bound)?;
        bound.push(&of.iter_var);
        self.nested = self.nested.max(bound.len());
        for part in instrument::users_parts(of)? {
            self.look(part, bound)?;
        }
        bound.pop();
        Ok(())
    }

    fn name(&mut self, name: &str, bound: &[&str]) {
        // A dot in front means the outermost one of this name.
        let outermost = name.strip_prefix('.');
        let name = outermost.unwrap_or(name);
        if (outermost.is_some() || !bound.contains(&name)) && !TYPES.contains(&name) {
            self.roots.insert(name.to_owned());
        }
    }
}
