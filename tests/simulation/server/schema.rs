//! What the schema of a CRD does to an object before it is looked at: defaults are filled in, unknown fields go. It is the
//! schema that is generated from the types, so it cannot differ from the real one.

use crate::journal::Kind;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::OnceLock};

/// Fills in defaults and drops unknown fields, of spec and status.
pub fn shape(kind: Kind, object: &mut Value) {
    let Some(schema) = schema(kind) else { return };
    for part in ["spec", "status"] {
        if let (Some(value), Some(schema)) = (object.get_mut(part), schema["properties"].get(part)) {
            shape_by(schema, value);
        }
    }
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    if let Some(object) = object.as_object_mut() {
        object.retain(|field, _| known.contains(&field.as_str()));
    }
}

fn schema(kind: Kind) -> Option<&'static Value> {
    static SCHEMAS: OnceLock<BTreeMap<Kind, Value>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| {
        let kinds = [Kind::Blueprint, Kind::Lease, Kind::Resource];
        let crds = drydock::api::crds::all().unwrap();
        let schema = |crd| {
            let crd = serde_json::to_value(crd).unwrap();
            crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
        };
        kinds.into_iter().zip(crds.iter().map(schema)).collect()
    });
    schemas.get(&kind)
}

fn shape_by(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => shape_map(schema, map),
        Value::Array(items) => {
            if let Some(of) = schema.get("items") {
                items.iter_mut().for_each(|item| shape_by(of, item));
            }
        }
        _ => {}
    }
}

fn shape_map(schema: &Value, map: &mut Map<String, Value>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        if schema.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(true)) {
            map.retain(|field, _| properties.contains_key(field));
        }
        for (field, of) in properties {
            if let Some(default) = of.get("default").filter(|_| !map.contains_key(field)) {
                map.insert(field.clone(), default.clone());
            }
            if let Some(value) = map.get_mut(field) {
                shape_by(of, value);
            }
        }
    }
    if let Some(of) = schema.get("additionalProperties").filter(|of| of.is_object()) {
        map.values_mut().for_each(|value| shape_by(of, value));
    }
}
