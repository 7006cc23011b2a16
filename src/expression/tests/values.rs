//! What expressions give.

use std::sync::Arc;

use futures::executor::block_on;
use serde_json::{Value, json};

use super::{evaluate, parse, usual};
use crate::expression::{EvaluationError, Evaluator, InLine, Invalid, meter};

#[test]
fn values_come_out_as_json() {
    let table: [(&str, Value); 44] = [
        ("o.metadata.name", json!("web-0")),
        ("o.metadata.labels['x.y/z']", json!("3")),
        ("o.spec.replicas == 3", json!(true)),
        ("o.spec.replicas == 3.0", json!(true)),
        ("o.spec.replicas < 3.5", json!(true)),
        ("o.spec.replicas + 1", json!(4)),
        ("o.spec.ratio == 0.5", json!(true)),
        ("o.spec.big", json!(18_446_744_073_709_551_615_u64)),
        ("o.spec.big == 18446744073709551615u", json!(true)),
        ("o.status.none == null", json!(true)),
        ("o.status.none", json!(null)),
        ("has(o.status.phase)", json!(false)),
        ("has(o.status.ready) && o.status.ready", json!(true)),
        ("o.status.phase == 'x' || true", json!(true)),
        ("o.status.ips", json!(["10.0.0.1", "10.0.0.2"])),
        ("o.status.ips[1]", json!("10.0.0.2")),
        ("o.status.ips.all(ip, ip.startsWith('10.'))", json!(true)),
        ("o.status.ips.exists(ip, ip.endsWith('.2'))", json!(true)),
        ("o.status.ips.exists_one(ip, ip.contains('.0.'))", json!(false)),
        ("o.status.ips.filter(ip, ip != '10.0.0.1')", json!(["10.0.0.2"])),
        ("o.status.ips.map(ip, ip + ':22')", json!(["10.0.0.1:22", "10.0.0.2:22"])),
        ("o.status.ips.map(ip, ip.endsWith('1'), size(ip))", json!([8])),
        ("[1, 2].map(x, [3, 4].map(y, x * y))", json!([[3, 4], [6, 8]])),
        ("[[1, 2], [3]].map(l, l.filter(x, x > 1)).filter(l, l.size() > 0)", json!([[2], [3]])),
        ("[0, 1].all(x, 1 / x == 1)", json!(null)), // an error, see below
        ("[0, 1].exists(x, 1 / x == 1)", json!(true)),
        ("'2' in o.metadata.labels", json!(false)),
        ("'a' in o.metadata.labels", json!(true)),
        ("'10.0.0.1' in o.status.ips", json!(true)),
        ("o.metadata.labels.map(k, k)", json!(["a", "b", "x.y/z"])),
        ("[0] + o.metadata.labels", json!([0, "a", "b", "x.y/z"])),
        ("{'a': 1, 2: 'b', true: null}", json!({"a": 1, "2": "b", "true": null})),
        ("now", json!("2026-03-01T12:00:00Z")),
        ("now > timestamp('2026-03-01T11:59:59.5Z')", json!(true)),
        ("now + duration('90m')", json!("2026-03-01T13:30:00Z")),
        ("now - timestamp('2026-03-01T13:30:00Z')", json!("-5400s")),
        ("duration('1500ms')", json!("1.5s")),
        ("now.getHours('Europe/Berlin')", json!(13)),
        ("string(now)", json!("2026-03-01T12:00:00Z")),
        ("int('7') + int(2.9)", json!(9)),
        ("o.spec.ratio > 1.0 ? 'high' : 'low'", json!("low")),
        ("type(o.spec.ratio) == double", json!(true)),
        ("string(b'abc')", json!("abc")),
        ("dyn(o.metadata).name", json!("web-0")),
    ];
    for (source, expected) in table {
        let value = evaluate(source, usual());
        if expected.is_null() && source != "o.status.none" {
            assert!(matches!(value, Err(EvaluationError::Failed(_))), "{source}: {value:?}");
        } else {
            assert_eq!(value, Ok(expected), "{source}");
        }
    }
}

#[test]
fn errors_are_told_in_short() {
    let table = [
        ("o.spec.nothing", "nothing"),
        ("p.spec", "p"),
        ("o + 1", "there is no add for map and int"),
        ("o < 1", "overload"),
        ("'a' < 1", "overload"),
        ("o[[1]]", "overload"),
        ("{o: 1}", "map is no key of a map"),
        ("o.status.ips[0.5]", "float is no index of list"),
        ("{'a': 1, 'a': 2}", "a map has the key \"a\" twice"),
        (
            "nothing['xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx']",
            "nothing",
        ),
        ("o.status.ips[7]", "7"),
        ("1 / 0", "zero"),
        ("0.0 / 0.0", "NaN is no number in JSON"),
        ("1.0 / 0.0", "inf is no number in JSON"),
        ("b'abc'", "bytes have no form in JSON"),
        ("type(1)", "a value of type"),
        ("{1: 'a', '1': 'b'}", "two keys that are \"1\""),
        ("9223372036854775807 + 1", "verflow"),
        ("timestamp('yesterday')", "timestamp"),
        ("timestamp('9999-12-31T00:00:00Z') + duration('2000000h')", "verflow"),
        ("'1'.getHours()", "getHours"),
    ];
    for (source, part) in table {
        match evaluate(source, usual()) {
            Err(EvaluationError::Failed(text)) => {
                assert!(text.contains(part), "{source}: {text}");
                assert!(text.len() <= 300, "{source}: {text}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn roots_are_the_free_variables() {
    let table: [(&str, &[&str]); 12] = [
        ("1 + 1", &[]),
        ("o.a.b[c.d]", &["c", "o"]),
        ("o.items.all(i, i.x == j)", &["j", "o"]),
        ("i.all(i, i > 0)", &["i"]),
        ("o.all(i, i > 0) && i", &["i", "o"]),
        ("o.map(x, x.filter(y, y == x && z))", &["o", "z"]),
        ("o.all(i, .i == 1)", &["i", "o"]),
        ("has(o.a) ? {k: v} : [w]", &["k", "o", "v", "w"]),
        ("type(o) == string", &["o"]),
        ("type(now) == google.protobuf.Timestamp", &["now"]),
        ("size(o)", &["o"]),
        ("o.size()", &["o"]),
    ];
    for (source, expected) in table {
        let roots = parse(source).unwrap();
        assert_eq!(roots.roots().iter().map(String::as_str).collect::<Vec<_>>(), expected, "{source}");
    }
}

#[test]
fn what_is_not_cel_is_told_with_its_place() {
    for source in [
        "",
        "1 +",
        "o.",
        "(1",
        "a b",
        "'open",
        "@copied(1)",
        "o.?a",
        "[?a]",
        "`a b`",
        "1 ? 2",
        "$",
        "ü",
        "has(1)",
        "o.all(a, ",
    ] {
        let invalid = parse(source).unwrap_err();
        assert!(matches!(invalid, Invalid::Syntax { .. }), "{source}: {invalid}");
        assert!(invalid.to_string().contains(" at line 1, column "), "{source}: {invalid}");
        assert!(
            !invalid.to_string().contains("recovery"),
            "{source}: what is wrong, and not that it was given up: {invalid}"
        );
    }
    assert_eq!(parse("exec('ls')"), Err(Invalid::UnknownFunction("exec".to_owned())));
    assert_eq!(parse("'a'.matches('(a{100}){100}')"), Err(Invalid::UnknownFunction("matches".to_owned())));
    assert_eq!(parse("'a'.replace('', 'b')"), Err(Invalid::UnknownFunction("replace".to_owned())));
    assert_eq!(parse("optional.of(1)"), Err(Invalid::UnknownFunction("of".to_owned())));
    assert_eq!(parse("k8s.Pod{name: 'x'}"), Err(Invalid::UnknownMessage("k8s.Pod".to_owned())));
}

#[test]
fn one_job_gives_one_result_for_each() {
    let sources = ["o.spec.replicas", "o.nothing", "o.metadata.name"];
    let expressions = sources.iter().map(|source| parse(source).unwrap()).collect();
    let results = block_on(InLine.evaluate(expressions, Arc::new(usual())));
    assert_eq!(results[0], Ok(json!(3)));
    assert!(matches!(results[1], Err(EvaluationError::Failed(_))));
    assert_eq!(results[2], Ok(json!("web-0")));
    assert_eq!(block_on(InLine.evaluate(vec![], Arc::new(usual()))), []);
}

#[test]
fn the_same_steps_every_time() {
    let source = "o.metadata.labels.map(k, o.metadata.labels[k] + k).exists(x, x == '3x.y/z')";
    let steps: Vec<u64> = (0..3)
        .map(|_| {
            assert_eq!(evaluate(source, usual()), Ok(json!(true)));
            meter::steps()
        })
        .collect();
    assert_eq!(steps[0], steps[1]);
    assert_eq!(steps[0], steps[2]);
    assert!(steps[0] > 0);
}
