//! Templates: what is an expression, and what becomes of it.

use std::sync::Arc;

use futures::executor::block_on;
use serde_json::{Value, json};

use super::usual;
use crate::expression::{
    InLine, Invalid,
    template::{InvalidAt, LITERAL, MAX_EXPRESSIONS, RenderError, Template},
};

const PATH: &str = "spec.templates[0]";

fn template(value: &Value) -> Result<Template, InvalidAt> {
    block_on(Template::parse(&InLine, value, PATH))
}

fn render(value: &Value) -> Result<Value, RenderError> {
    let template = template(value).unwrap_or_else(|invalid| panic!("{value}: {invalid}"));
    block_on(template.render(&InLine, Arc::new(usual())))
}

#[test]
fn texts_are_filled() {
    let table = [
        ("", json!("")),
        ("plain", json!("plain")),
        ("${o.spec.replicas}", json!(3)),
        ("${o.status}", json!({ "ready": true, "none": null, "ips": ["10.0.0.1", "10.0.0.2"] })),
        ("${o.status.none}", json!(null)),
        (" ${o.spec.replicas}", json!(" 3")),
        ("${o.spec.replicas}${o.spec.replicas}", json!("33")),
        ("${o.spec.ratio}/${o.status.ready}/${o.metadata.name}", json!("0.5/true/web-0")),
        ("${1.0}x", json!("1.0x")),
        ("at ${now}", json!("at 2026-03-01T12:00:00Z")),
        ("$${o}", json!("${o}")),
        ("$${o} is ${o.metadata.name}", json!("${o} is web-0")),
        ("$$${o}", json!("$${o}")),
        ("${'$${'}", json!("$${")),
        ("$ {o} $o $", json!("$ {o} $o $")),
        ("5$", json!("5$")),
        ("}{", json!("}{")),
        ("${'}'}", json!("}")),
        ("${\"}\"}", json!("}")),
        ("${'a\\'}'}", json!("a'}")),
        ("${r'\\'}", json!("\\")),
        ("${r'\\' + '}'}", json!("\\}")),
        ("${string(br'\\') + '}'}", json!("\\}")),
        ("${'''it's }'''}", json!("it's }")),
        ("${\"\"\"a\"}\"b\"\"\"}", json!("a\"}\"b")),
        ("${''}", json!("")),
        ("${{'a': {'b': 1}}}", json!({ "a": { "b": 1 } })),
        ("${{'a': 'x'}.a}-${{}.size()}", json!("x-0")),
        ("${1 // } not here\n + 1}", json!(2)),
        ("${'a//b'}", json!("a//b")),
        ("${\n o.spec.replicas\n}", json!(3)),
        ("ü${'ö'}ä", json!("üöä")),
        ("${4 / 2}", json!(2)),
    ];
    for (text, expected) in table {
        assert_eq!(render(&json!(text)), Ok(expected), "{text}");
    }
}

#[test]
fn values_are_filled_all_through() {
    let filled = render(&json!({
        "kind": "Pod", "number": 1, "none": null, "yes": true, "empty": {},
        "metadata": { "name": "x-${o.metadata.name}", "labels": "${o.metadata.labels}" },
        "list": ["a", "${o.status.ips}", { "b": "${o.spec.replicas}" }],
    }));
    let expected = json!({
        "kind": "Pod", "number": 1, "none": null, "yes": true, "empty": {},
        "metadata": { "name": "x-web-0", "labels": { "a": "1", "b": "2", "x.y/z": "3" } },
        "list": ["a", ["10.0.0.1", "10.0.0.2"], { "b": 3 }],
    });
    assert_eq!(filled, Ok(expected));
}

#[test]
fn roots_come_from_all_expressions() {
    let template = template(&json!({ "a": "${resource.x}", "b": ["-${lease.y}-${resource.z}"] })).unwrap();
    assert_eq!(template.roots().into_iter().collect::<Vec<_>>(), ["lease", "resource"]);
    assert_eq!(template.path_of_root("lease"), Some("spec.templates[0].b[0]"));
    assert_eq!(template.path_of_root("secret"), None);
}

#[test]
fn errors_name_the_place() {
    let table = [
        (json!({ "a": ["${"] }), ".a[0]", Invalid::Unclosed),
        (json!("${o"), "", Invalid::Unclosed),
        (json!("${'}"), "", Invalid::Unclosed),
        (json!("${'''a'}"), "", Invalid::Unclosed),
        (json!("${{}"), "", Invalid::Unclosed),
        (json!("${o // }"), "", Invalid::Unclosed),
        (json!("${'\\"), "", Invalid::Unclosed),
        (json!({ "a": { "${b}": 1 } }), ".a[${b}]", Invalid::InKey("${b}".to_owned())),
        (
            json!({ "metadata": { "annotations": { "a.b/c": "${f()}" } } }),
            ".metadata.annotations[a.b/c]",
            Invalid::UnknownFunction("f".to_owned()),
        ),
    ];
    for (value, path, invalid) in table {
        let path = format!("{PATH}{path}");
        assert_eq!(template(&value).unwrap_err(), InvalidAt { path, invalid }, "{value}");
    }
    let error = template(&json!({ "a": "${1 +}" })).unwrap_err().to_string();
    assert!(error.starts_with("spec.templates[0].a: the expression is not CEL: "), "{error}");
    assert!(matches!(template(&json!("${}")).unwrap_err().invalid, Invalid::Syntax { .. }));

    let table = [
        ("${o.nothing}", "the expression failed: No such key: nothing"),
        ("a ${o.status.none}", "the expression failed: its value is null, which cannot be put into a text"),
        ("a ${o.status.ips}", "the expression failed: its value is a list, which cannot be put into a text"),
        ("a ${o.status}", "the expression failed: its value is a map, which cannot be put into a text"),
    ];
    for (text, message) in table {
        let error = render(&json!({ "ok": "${1}", "wrong": text })).unwrap_err();
        assert_eq!(error.to_string(), format!("spec.templates[0].wrong: {message}{LITERAL}"));
    }
}

#[test]
fn so_many_expressions() {
    let of = |number: usize| json!(vec!["${1}"; number]);
    assert_eq!(render(&of(MAX_EXPRESSIONS)), Ok(json!(vec![1; MAX_EXPRESSIONS])));
    let error = template(&of(MAX_EXPRESSIONS + 1)).unwrap_err();
    assert_eq!(error.to_string(), "spec.templates[0][256]: the template holds more than 256 expressions");
}
