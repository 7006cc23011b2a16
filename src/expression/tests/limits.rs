//! Every limit from both sides.

use serde_json::{Value, json};

use super::{evaluate, parse, usual};
use crate::expression::{
    Bindings, EvaluationError, Invalid, MAX_BINDINGS, MAX_BINDINGS_DEPTH, MAX_BYTES, MAX_DEPTH, MAX_LITERALS,
};

#[test]
fn so_many_bytes() {
    let of = |bytes: usize| format!("'{}'", "x".repeat(bytes - 2));
    assert_eq!(evaluate(&of(MAX_BYTES), usual()), Ok(json!("x".repeat(MAX_BYTES - 2))));
    assert_eq!(parse(&of(MAX_BYTES + 1)), Err(Invalid::TooLong(MAX_BYTES + 1)));
    assert_eq!(parse(&of(MAX_BYTES + 1)).unwrap_err().to_string(), "the expression has 1025 bytes, and may have 1024");
}

#[test]
fn so_many_macros_inside_one_another() {
    let of = |levels: usize| (0..levels).fold("1".to_owned(), |body, i| format!("[1].map(x{i}, {body})"));
    assert_eq!(evaluate(&of(2), usual()), Ok(json!([[1]])));
    assert_eq!(parse(&of(3)), Err(Invalid::TooManyNestedMacros(3)));
    assert_eq!(parse(&of(7)), Err(Invalid::TooManyNestedMacros(7)));
    for name in ["all", "exists", "exists_one", "existsOne", "filter", "map"] {
        let inner = format!("[1].exists(y, [1].{name}(z, true) == [])");
        assert_eq!(parse(&format!("[1].{name}(x, {inner})")), Err(Invalid::TooManyNestedMacros(3)), "{name}");
    }
    // One after the other is not inside one another, nor is what the first goes over.
    assert_eq!(evaluate("[1].map(a, a).map(b, b).map(c, c).map(d, d)", usual()), Ok(json!([1])));
    assert_eq!(evaluate("[1].map(a, a).all(b, b > 0) && [1].all(c, c > 0)", usual()), Ok(json!(true)));
}

#[test]
fn so_many_lists_and_maps() {
    let of = |number: usize| format!("size([{}])", vec!["[]"; number - 1].join(","));
    assert_eq!(evaluate(&of(MAX_LITERALS), usual()), Ok(json!(MAX_LITERALS - 1)));
    assert_eq!(parse(&of(MAX_LITERALS + 1)), Err(Invalid::TooManyLiterals(MAX_LITERALS + 1)));
    let maps = format!("[{}]", vec!["{}"; MAX_LITERALS].join(","));
    assert_eq!(parse(&maps), Err(Invalid::TooManyLiterals(MAX_LITERALS + 1)));
    // The lists that a macro makes for itself are not written out.
    let macros = vec!["o.map(x, 1) != o"; 40].join("||");
    assert!(parse(&macros).is_ok());
}

#[test]
fn so_deep() {
    let of = |levels: usize| format!("{}1{}", "-(".repeat(levels - 1), ")".repeat(levels - 1));
    assert!(evaluate(&of(MAX_DEPTH), usual()).is_ok());
    assert_eq!(parse(&of(MAX_DEPTH + 1)), Err(Invalid::TooDeep));
    let sum = |terms: usize| vec!["1"; terms].join("+");
    assert_eq!(evaluate(&sum(MAX_DEPTH), usual()), Ok(json!(MAX_DEPTH)));
    assert_eq!(parse(&sum(MAX_DEPTH + 1)), Err(Invalid::TooDeep));
}

/// A thread of the shell, or of a test, has 2 MiB of stack; here is half of it, without optimization.
#[test]
fn the_deepest_needs_little_stack() {
    std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(|| {
            let wrap = |open: &str, close: &str| {
                let levels = MAX_DEPTH - 1;
                let source = format!("{}o{}", open.repeat(levels), close.repeat(levels));
                (source.len() <= MAX_BYTES).then_some(source)
            };
            let pairs =
                [("-(", ")"), ("[", "]"), ("{1:", "}"), ("size(", ")"), ("1+(", ")"), ("o[", "]"), ("true?(", "):1")];
            for source in pairs.iter().filter_map(|(open, close)| wrap(open, close)) {
                let _ = evaluate(&source, usual());
            }
            for part in [".size()", "[0]", ".a", "+o", "?o:o", "==o"] {
                let _ = evaluate(&format!("o{}", part.repeat(MAX_DEPTH - 1)), usual());
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn over_so_much() {
    let bindings = |bytes: usize| {
        // The name, and the quotes of the text.
        Bindings::from([("t".to_owned(), json!("x".repeat(bytes - 3)).into())])
    };
    assert_eq!(evaluate("size(t)", bindings(MAX_BINDINGS)), Ok(json!(MAX_BINDINGS - 3)));
    let error = evaluate("size(t)", bindings(MAX_BINDINGS + 1)).unwrap_err();
    assert_eq!(error.reason(), "ExpressionTooLarge");
    assert_eq!(error.to_string(), "what the expression would be evaluated over is larger than 64 KiB with t");
    // Also what is not named counts: else it would hang on what the others of the job name.
    assert_eq!(evaluate("1", bindings(MAX_BINDINGS + 1)), Err(error));

    let nested = |levels: usize| {
        let value = (1..levels).fold(Value::Null, |inner, _| json!([inner]));
        Bindings::from([("t".to_owned(), value.into())])
    };
    assert_eq!(evaluate("size(t)", nested(MAX_BINDINGS_DEPTH)), Ok(json!(1)));
    let error = evaluate("size(t)", nested(MAX_BINDINGS_DEPTH + 1)).unwrap_err();
    assert_eq!(error.to_string(), "t is nested deeper than 128 levels");
}

#[test]
fn so_many_steps() {
    let rounds = |number: usize| {
        let list = vec![0; number];
        let bindings = Bindings::from([("l".to_owned(), json!(list).into())]);
        evaluate("l.all(a, l.all(b, a == b))", bindings)
    };
    assert_eq!(rounds(200), Ok(json!(true)));
    let error = rounds(2000).unwrap_err();
    assert_eq!(error, EvaluationError::TooSlow);
    assert_eq!(error.reason(), "ExpressionTooSlow");
    assert_eq!(error.to_string(), "the expression took longer than 100 ms and was stopped");
}

#[test]
fn so_much_memory() {
    let double = |times: usize| {
        let bindings = Bindings::from([("t".to_owned(), json!("x".repeat(32 * 1024)).into())]);
        let source = format!("[t]{}.map(x, size(x))", ".map(x, x+x)".repeat(times));
        evaluate(&source, bindings)
    };
    assert_eq!(double(5), Ok(json!([1024 * 1024])));
    let error = double(8).unwrap_err();
    assert_eq!(error.reason(), "ExpressionTooLarge");
    assert_eq!(error.to_string(), "the expression makes values of more than 8 MiB");
}
