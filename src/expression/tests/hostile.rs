//! Expressions that are after our time and memory, each by what it does.

use std::{sync::Arc, time::Duration};

use futures::{executor::block_on, future::join_all};
use serde_json::json;
use tokio::time::timeout;

use super::{evaluate, full, parse, usual};
use crate::expression::{EvaluationError, Evaluator, Invalid, MAX_BYTES, Threads};

/// Each must be stopped: by its steps or its memory.
const HOSTILE: [(&str, &str); 16] = [
    ("two macros over all there is", "ns.all(a, ns.all(b, a + b >= 0))"),
    ("one after the other inside", "ns.map(a, ns.map(b, b)).map(c, size(c))"),
    (
        "a chain that multiplies texts",
        "[s].map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x)",
    ),
    (
        "a chain that multiplies lists",
        "[ns].map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x).map(x, x+x)",
    ),
    ("lists of all lists", "ls.map(b, ls.map(c, ls))"),
    ("copies in a list", "ls.map(b, [ls,ls,ls,ls,ls,ls,ls,ls,ls,ls,ls,ls,ls,ls,ls,ls])"),
    ("copies in a map", "ns.map(b, {1:ts,2:ts,3:ts,4:ts,5:ts,6:ts,7:ts,8:ts})"),
    ("comparing all with all", "ls.all(a, ls.all(b, ls == ls && ls == ls))"),
    ("searching for what is not there", "ns.all(a, !(-1 in ns))"),
    ("searching numbers for a list", "ns.all(a, !([ns, ns] in ns))"),
    ("a number and a list", "ns.all(a, 1 != ns)"),
    ("errors in every round that || takes", "ns.all(a, ns.all(b, 1 / 0 == 1) || true)"),
    ("errors that hold all there is", "ns.all(a, ts.all(b, m < 1 || true))"),
    ("an index that is none", "ns.all(a, ns[0.5] == 1 || true)"),
    ("counting a long text", "ns.all(a, ts.all(b, size(s) > 0))"),
    ("long names", "ns.all(a, ts.all(b, m.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a == 1 || true))"),
];

#[test]
fn each_is_stopped() {
    for (name, source) in HOSTILE {
        let error = evaluate(source, full()).unwrap_err();
        assert!(matches!(error, EvaluationError::TooSlow | EvaluationError::TooLarge(_)), "{name}: {error}");
    }
}

/// `&&`, `||` and the macros go on after an error; being stopped is none.
#[test]
fn stopping_is_not_absorbed() {
    for source in [
        "ns.all(a, ns.all(b, true)) || true",
        "true || false && ns.all(a, ns.all(b, true)) || ns.all(a, ns.all(b, true))",
        "false && true || (ns.all(a, ns.all(b, true)) || true)",
        "[1].exists(x, ns.all(a, ns.size() > 0 && ns == ns) || x == 1)",
    ] {
        let error = evaluate(source, full());
        if source.starts_with("true ||") {
            assert_eq!(error, Ok(json!(true)), "what is decided is not evaluated");
        } else {
            assert_eq!(error, Err(EvaluationError::TooSlow), "{source}");
        }
    }
}

/// Texts that are hard on parsers: none takes long, nor the stack.
#[test]
fn parsers_are_not_impressed() {
    let open = [
        "(",
        "[",
        "{",
        "[[",
        "{1:",
        "-(",
        "!(",
        "f(",
        "a.f(",
        "a[",
        "1?(",
        "a?b:",
        "a?a?",
        "[1,",
        "!",
        "-",
        "!-",
        "1+",
        "a.",
        "a&&",
        "has(",
        "a.map(a,",
        "a.all(a,a.",
        "a{b:",
        "'",
        "r'",
        "\"\"\"",
        "//",
        "\\",
        "a in ",
        "0x",
        "\u{1F980}",
    ];
    let close = ["", ")", "]", "}", "]]", ")}", ":1)", "b:c:", ")]"];
    for open in open {
        for close in close {
            let times = MAX_BYTES / (open.len() + close.len()) - 1;
            for times in [20, times / 2, times] {
                let source = format!("{}1{}", open.repeat(times), close.repeat(times));
                assert!(source.len() <= MAX_BYTES);
                let _ = parse(&source);
            }
        }
    }
    assert_eq!(parse(&format!("{}1{}", "(".repeat(500), ")".repeat(500))).map(|_| ()), Ok(()), "it is just 1");
    assert_eq!(parse(&format!("{}1{}", "[".repeat(500), "]".repeat(500))), Err(Invalid::TooDeep));
    assert_eq!(parse(&format!("{}1", "!-".repeat(500))), Err(Invalid::TooDeep));
}

/// Seven levels over ten elements are ten million rounds.
#[test]
fn seven_nested_macros_are_refused() {
    let source = (0..7).fold("true".to_owned(), |body, i| format!("[1,2,3,4,5,6,7,8,9,0].all(x{i}, {body})"));
    assert_eq!(parse(&source), Err(Invalid::TooManyNestedMacros(7)));
}

/// A map of one entry takes a hundred times its text: what comes out is counted as it lies in memory, for a whole job.
#[test]
fn what_comes_out_is_bounded_in_memory() {
    let ones = vec!["1"; 250].join(",");
    let maps = format!("[{ones}].map(x, [{}].map(y, {{'a': y}}))", vec!["1"; 48].join(","));
    let error = evaluate(&maps, full()).unwrap_err();
    assert!(matches!(&error, EvaluationError::TooLarge(why) if why.contains("2 MiB in memory")), "{error}");
    let some = parse("ns.map(n, {'a': n}).filter(m, m.a < 1000)").unwrap();
    let results = block_on(super::InLine.evaluate(vec![some; 5], Arc::new(full())));
    assert!(results[0].is_ok() && results[1].is_ok(), "{:?}", results[1]);
    assert!(matches!(results[4], Err(EvaluationError::TooLarge(_))), "{:?}", results[4]);
}

#[test]
fn those_after_it_in_the_job_find_nothing_left() {
    let expressions = ["1 + 1", "ns.all(a, ns.all(b, true))", "1 + 1"].map(|source| parse(source).unwrap());
    let expected = vec![Ok(json!(2)), Err(EvaluationError::TooSlow), Err(EvaluationError::TooSlow)];
    let (bindings, expressions) = (Arc::new(full()), expressions.to_vec());
    assert_eq!(block_on(super::InLine.evaluate(expressions.clone(), bindings.clone())), expected);
    assert_eq!(block_on(Threads::new().evaluate(expressions, bindings)), expected);
}

/// While eight use what they can get, a ninth is answered. Each slow one ends by itself.
#[tokio::test(flavor = "current_thread")]
async fn a_friendly_one_is_answered_under_attack() {
    let threads = Threads::new();
    let slow = threads.parse("ns.all(a, ns.all(b, a + b >= 0))").await.unwrap();
    let friendly = threads.parse("o.spec.replicas == 3").await.unwrap();
    let over = Arc::new(full());
    let attack: Vec<_> = (0..8).map(|_| threads.evaluate(vec![slow.clone()], over.clone())).collect();
    let answer = threads.evaluate(vec![friendly], Arc::new(usual()));
    let generous = Duration::from_secs(60);
    assert_eq!(timeout(generous, answer).await.unwrap(), [Ok(json!(true))]);
    for results in timeout(generous, join_all(attack)).await.unwrap() {
        assert_eq!(results, [Err(EvaluationError::TooSlow)]);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn threads_remember_what_they_parsed() {
    let threads = Threads::new();
    for source in ["1 + 1", "1 +"] {
        let first = threads.parse(source).await;
        assert_eq!(futures::FutureExt::now_or_never(threads.parse(source)), Some(first), "without a thread");
    }
}
