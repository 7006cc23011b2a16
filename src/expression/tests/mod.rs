//! The tables: what is refused, what is stopped, what comes out.

mod hostile;
mod limits;
mod templates;
mod values;

use std::sync::Arc;

use futures::executor::block_on;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Binding, Bindings, EvaluationError, Evaluator, Expression, InLine, Invalid};

fn parse(source: &str) -> Result<Expression, Invalid> {
    block_on(InLine.parse(source))
}

fn evaluate(source: &str, bindings: Bindings) -> Result<Value, EvaluationError> {
    let expression = parse(source).unwrap_or_else(|invalid| panic!("{source}: {invalid}"));
    let mut results = block_on(InLine.evaluate(vec![expression], Arc::new(bindings)));
    assert_eq!(results.len(), 1);
    results.pop().unwrap()
}

/// What most of the tables are evaluated over: an object, and a time.
fn usual() -> Bindings {
    let object = json!({
        "metadata": { "name": "web-0", "labels": { "b": "2", "a": "1", "x.y/z": "3" } },
        "spec": { "replicas": 3, "ratio": 0.5, "big": 18_446_744_073_709_551_615_u64 },
        "status": { "ready": true, "none": null, "ips": ["10.0.0.1", "10.0.0.2"] },
    });
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    Bindings::from([("o".to_owned(), object.into()), ("now".to_owned(), now.into())])
}

/// Bindings of about as many bytes as are taken: a list of numbers, one of texts, one of lists, and a map.
fn full() -> Bindings {
    let numbers: Vec<usize> = (0..2000).collect();
    let texts: Vec<String> = (0..500).map(|i| format!("text-{i:012}")).collect();
    let lists: Vec<Vec<usize>> = (0..40).map(|_| (0..40).collect()).collect();
    let map: serde_json::Map<String, Value> = (0..400).map(|i| (format!("key-{i}"), json!("value"))).collect();
    let mut bindings: Bindings =
        [("ns", json!(numbers)), ("ts", json!(texts)), ("ls", json!(lists)), ("m", Value::Object(map))]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Binding::from(value)))
            .collect();
    bindings.insert("s".to_owned(), json!("x".repeat(24_000)).into());
    bindings
}
