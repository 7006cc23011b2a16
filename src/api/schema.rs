//! Bounds that types alone cannot say, as `schema_with` functions. Every string, list and map has a bound: without one
//! the API server refuses CEL rules over it (kube-facts.md, 6.4).

use kube::core::{Message, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};

/// A DNS label, RFC 1123.
pub(super) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A DNS subdomain, RFC 1123.
pub(super) const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// None of these optional fields of a spec appears or vanishes. One rule for all of them, over their presence alone: a
/// comparison of the values in it is a hundred times over the API server's budget (api.md, 1), so that each field has a
/// `self == oldSelf` of its own, which holds only while it is there. The message names the first that changed.
pub(super) fn fixed(fields: &[&str], remedy: &str) -> Rule {
    let same: Vec<_> = fields.iter().map(|field| format!("has(self.{field}) == has(oldSelf.{field})")).collect();
    let named = fields.iter().zip(&same).rev().fold("''".to_owned(), |later, (field, same)| {
        format!("!({same}) ? '{field} cannot be added or left out later: {remedy}' : {later}")
    });
    Rule::new(same.join(" && ")).message(Message::Expression(named))
}

fn map(entries: u32, value: u32) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": entries,
        "additionalProperties": {"type": "string", "maxLength": value},
    })
}

/// Attributes and match labels: 32 entries, values like those of labels.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    map(32, 63)
}

/// Attributes of a Resource: those of its Blueprint, of its host, and the host's name.
pub(super) fn attributes(_: &mut SchemaGenerator) -> Schema {
    map(65, 63)
}

/// Parameters and storage: 32 entries of 4,096 characters.
pub(super) fn parameters(_: &mut SchemaGenerator) -> Schema {
    map(32, 4096)
}

/// Defaults of a Blueprint's parameters: as many as there may be parameters.
pub(super) fn parameter_defaults(_: &mut SchemaGenerator) -> Schema {
    map(16, 4096)
}

/// Outputs of a lease or a resource.
pub(super) fn outputs(_: &mut SchemaGenerator) -> Schema {
    map(32, 1024)
}

/// Outputs of one entry of an inventory.
pub(super) fn entry_outputs(_: &mut SchemaGenerator) -> Schema {
    map(16, 1024)
}

/// A list of host keys as in `known_hosts`, without the host's name.
pub(super) fn host_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "items": {"type": "string", "maxLength": 1024, "pattern": "^(ssh-|ecdsa-|sk-)"},
    })
}

/// A list of short strings, at most 32 of 63 characters.
pub(super) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 32, "items": {"type": "string", "maxLength": 63}})
}

/// The names of parameters, each once.
pub(super) fn parameter_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {"type": "string", "maxLength": 63},
        "x-kubernetes-list-type": "set",
    })
}

/// What a teardown needs of its build; each driver has its own form.
pub(super) fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Templates of Kubernetes objects; `apiVersion` and `kind` are literal, never `${…}`. Not `embedded-resource`: that
/// refuses `${…}` in namespace and labels (api.md, 6).
pub(super) fn templates(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "description": "A Kubernetes object, not of group drydock.dev; `${…}` in its texts is a CEL expression, `$${` the text `${`.",
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "required": ["apiVersion", "kind", "metadata"],
            "x-kubernetes-validations": [{
                "rule": "!self.apiVersion.startsWith('drydock.dev/')",
                "message": "apiVersion: Drydock's own kinds are not made from templates; create a Lease instead",
            }],
            "properties": {
                "apiVersion": {"type": "string", "maxLength": 317, "pattern": "^([a-z0-9][-a-z0-9.]*/)?[a-z][a-z0-9]*$"},
                "kind": {"type": "string", "maxLength": 63, "pattern": "^[A-Z][A-Za-z0-9]*$"},
                "metadata": {
                    "type": "object",
                    "required": ["name"],
                    "x-kubernetes-validations": [{
                        "rule": "!has(self.ownerReferences) && !has(self.finalizers) && !has(self.generateName)",
                        "message": "metadata: a template has name, namespace, labels and annotations only; leave out ownerReferences, finalizers and generateName",
                    }],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": 1280, "description": "Its name, mostly with an expression in it."},
                        "namespace": {"type": "string", "minLength": 1, "maxLength": 1280, "description": "Its namespace. Default: the Blueprint's."},
                        "labels": template_texts("Its labels; those of drydock.dev are added, and may not stand here."),
                        "annotations": template_texts("Its annotations."),
                        "ownerReferences": refused_list(serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
                        "finalizers": refused_list(serde_json::json!({"type": "string"})),
                        "generateName": {"type": "string", "description": "Not taken."},
                    },
                },
            },
        },
    })
}

fn template_texts(description: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 4096},
        "description": description,
    })
}

/// A field that is there to be refused in words of ours; left out of the schema it would be dropped without a word.
fn refused_list(items: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"type": "array", "maxItems": 16, "items": items, "description": "Not taken."})
}

/// Conditions, as Kubernetes has them, in a list keyed by type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "A condition, as all of Kubernetes has them.",
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "What it speaks of."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "`True`, `False` or `Unknown`."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, in one word."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, in a sentence."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "Since when `status` is so."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The generation of the spec that it speaks of."},
            },
        },
    })
}
