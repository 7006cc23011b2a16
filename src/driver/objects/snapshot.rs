//! Live objects as the API server has them. They are kept as text, and parsed where they are needed: a parsed object can take a
//! hundred times as much memory as its text, and whoever may write the object decides how it looks.

use super::{kinds::Kind, plan::seen};
use crate::expression::weight_of_text;
use kube::{
    api::{ApiResource, ObjectMeta},
    core::DynamicResourceScope,
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap, fmt, hash::Hasher as _, sync::Arc};

/// An object whose text is longer, in bytes, is seen without what it holds but its status.
const MAX_TEXT: usize = 128 * 1024;

/// So is one that would take more memory than this when it is parsed, in bytes.
const MAX_WEIGHT: u64 = 2 * 1024 * 1024;

/// The labels and annotations that count here begin with this; no others are kept of an object's metadata.
const PREFIX: &str = "drydock.dev/";

/// So many finalizers of an object are looked at.
const MAX_FINALIZERS: usize = 16;

/// An answer of the API server: the object's text, and what Drydock looks at in its metadata.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name, namespace, UID and version, when it was deleted, finalizers, and the labels and annotations that are Drydock's.
    pub metadata: ObjectMeta,
    text: Box<RawValue>,
}

/// An object as it was last seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object, as expressions see it.
    text: Arc<str>,
    /// What of it was set by us, in short.
    pub fields: Option<String>,
    /// It is not too large to be looked at; else only its status is known, and not who has set what.
    pub is_whole: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Outline {
    api_version: String,
    kind: String,
    metadata: Name,
}

#[derive(Default, serde::Serialize, Deserialize)]
#[serde(default)]
struct Name {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Head<'t> {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, borrow)]
    status: Option<&'t RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    labels: Ours,
    annotations: Ours,
    finalizers: First,
}

/// The part that the API server keeps account in, and no expression sees.
#[derive(Deserialize)]
struct Managed<'t> {
    #[serde(default, borrow)]
    metadata: ManagedMetadata<'t>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ManagedMetadata<'t> {
    #[serde(borrow)]
    managed_fields: Option<&'t RawValue>,
}

/// Those entries of a map whose keys are Drydock's.
#[derive(Default)]
struct Ours(BTreeMap<String, String>);

/// The first entries of a list.
#[derive(Default)]
struct First(Vec<String>);

impl<'de> Deserialize<'de> for Ours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Ours;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_unit<E>(self) -> Result<Ours, E> {
                Ok(Ours::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ours, A::Error> {
                let mut ours = BTreeMap::new();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    if key.starts_with(PREFIX) {
                        ours.insert(key.into_owned(), map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Ours(ours))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_unit<E>(self) -> Result<First, E> {
                Ok(First::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First, A::Error> {
                let mut first = Vec::new();
                while first.len() < MAX_FINALIZERS
                    && let Some(entry) = list.next_element()?
                {
                    first.push(entry);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Head { metadata, .. } = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            deletion_timestamp: metadata.deletion_timestamp,
            labels: Some(metadata.labels.0),
            annotations: Some(metadata.annotations.0),
            finalizers: Some(metadata.finalizers.0),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, text })
    }
}

impl kube::Resource for Snapshot {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Snapshot {
    /// The object as expressions see it. In a list it does not say its kind.
    pub fn seen(&self, kind: &Kind) -> Seen {
        self.whole(kind).unwrap_or_else(|| self.without_contents(kind))
    }

    fn whole(&self, kind: &Kind) -> Option<Seen> {
        let text = self.text.get();
        let managed =
            serde_json::from_str::<Managed>(text).ok()?.metadata.managed_fields.map_or(0, |raw| raw.get().len());
        if text.len() - managed > MAX_TEXT || weight_of_text(text) > MAX_WEIGHT {
            return None;
        }
        let mut object: Value = serde_json::from_str(text).ok()?;
        let fields = fields(&object);
        object["apiVersion"] = json!(kind.api_version);
        object["kind"] = json!(kind.kind);
        Some(Seen { text: seen(object).to_string().into(), fields, is_whole: true })
    }

    /// What can be seen of an object that is too large: which it is, and its status where that is not too large by itself.
    fn without_contents(&self, kind: &Kind) -> Seen {
        let ObjectMeta { name, namespace, uid, generation, deletion_timestamp, .. } = &self.metadata;
        let metadata = ObjectMeta {
            name: name.clone(),
            namespace: namespace.clone(),
            uid: uid.clone(),
            generation: *generation,
            deletion_timestamp: deletion_timestamp.clone(),
            ..ObjectMeta::default()
        };
        let mut object = json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata});
        if let Some(status) = self.status() {
            object["status"] = status;
        }
        Seen { text: object.to_string().into(), fields: None, is_whole: false }
    }

    /// Its status, where that is not too large.
    pub fn status(&self) -> Option<Value> {
        let Head { status, .. } = serde_json::from_str(self.text.get()).ok()?;
        let status = status?.get();
        let is_large = status.len() > MAX_TEXT || weight_of_text(status) > MAX_WEIGHT;
        if is_large { None } else { serde_json::from_str(status).ok() }
    }
}

impl Seen {
    /// The object as expressions see it.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Which object it is, and nothing else of it.
    pub fn outline(&self) -> Value {
        let Outline { api_version, kind, metadata } = serde_json::from_str(&self.text).unwrap_or_default();
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata})
    }

    /// About how many bytes that takes in memory.
    pub fn weight(&self) -> u64 {
        weight_of_text(&self.text)
    }
}

/// What of an object was set by us, in short. The API server keeps account of it: whoever changes a field takes it over.
fn fields(object: &Value) -> Option<String> {
    let managed = object.pointer("/metadata/managedFields")?.as_array()?;
    let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
    let ours = |entry: &&Value| text(entry, "manager").as_deref() == Some(super::NAME_AS_MANAGER);
    let mut ours = managed.iter().filter(ours);
    let entry = ours.find(|entry| text(entry, "subresource").is_none())?;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(entry.get("fieldsV1").unwrap_or(&Value::Null).to_string().as_bytes());
    Some(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(object: &Value) -> Snapshot {
        serde_json::from_str(&object.to_string()).unwrap()
    }

    fn kind(kind: &str) -> Kind {
        Kind { api_version: "v1".into(), kind: kind.into() }
    }

    fn object(data: &Value) -> Value {
        json!({
            "metadata": {
                "name": "a", "namespace": "team", "uid": "u", "resourceVersion": "7",
                "labels": {"drydock.dev/owner": "o", "app": "x"}, "annotations": {"drydock.dev/proof": "p", "note": "n"},
                "finalizers": ["one"],
            },
            "data": data, "status": {"phase": "Active"},
        })
    }

    #[test]
    fn of_the_metadata_that_is_kept_which_counts() {
        let snapshot = read(&object(&json!({})));
        let one = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(snapshot.metadata.labels, one("drydock.dev/owner", "o"));
        assert_eq!(snapshot.metadata.annotations, one("drydock.dev/proof", "p"));
        assert_eq!(snapshot.metadata.finalizers, Some(vec!["one".to_owned()]));
        let many = json!({"metadata": {"name": "a", "finalizers": vec!["x"; 1000], "labels": null}});
        assert_eq!(read(&many).metadata.finalizers.unwrap().len(), MAX_FINALIZERS);
    }

    #[test]
    fn expressions_see_all_of_it_but_a_secret() {
        let value = read(&object(&json!({"a": "b"}))).seen(&kind("ConfigMap")).value();
        assert_eq!((&value["kind"], &value["data"]["a"]), (&json!("ConfigMap"), &json!("b")));
        assert_eq!(value["metadata"]["labels"]["app"], "x");
        let secret = read(&object(&json!({"a": "b"}))).seen(&kind("Secret")).value();
        assert_eq!((&secret["kind"], secret.get("data")), (&json!("Secret"), None));
    }

    /// The objects of the tenant who took 473 MB with five of them: little text, and much to keep once it is parsed.
    #[test]
    fn of_what_is_too_large_only_the_status_is_seen() {
        let wide: Value = (0..90_000).map(|_| json!({"": {}})).collect();
        let long = json!({"a": "x".repeat(MAX_TEXT)});
        let deep = (0..200).fold(json!(1), |inner, _| json!({"": inner}));
        for (what, data) in [("wide", wide), ("long", long), ("deep", deep)] {
            let snapshot: Snapshot = serde_json::from_str(&object(&data).to_string()).unwrap();
            let seen = snapshot.seen(&kind("ConfigMap"));
            assert!(!seen.is_whole && seen.text.len() < 1024, "{what}");
            let value = seen.value();
            assert_eq!(
                (&value["metadata"]["name"], &value["status"]["phase"]),
                (&json!("a"), &json!("Active")),
                "{what}"
            );
        }
        let mut heavy = object(&json!({}));
        heavy["status"] = (0..90_000).map(|_| json!({"": {}})).collect();
        assert_eq!(read(&heavy).seen(&kind("ConfigMap")).value().get("status"), None);
    }

    #[test]
    fn what_of_an_object_was_set_here_differs_once_somebody_has_changed_it() {
        let by = |manager: &str, fields: Value| {
            let managed = json!([{"manager": manager, "operation": "Update", "fieldsV1": fields}]);
            read(&json!({"metadata": {"name": "a", "managedFields": managed}})).seen(&kind("ConfigMap")).fields
        };
        let label = json!({"f:metadata": {"f:labels": {"f:drydock.dev/owner": {}}}});
        let ours = |fields: Value| by("drydock", fields);
        assert!(ours(label.clone()).is_some());
        assert_eq!(ours(label.clone()), ours(label.clone()));
        assert_ne!(ours(label.clone()), ours(json!({})), "somebody has taken it over");
        assert_eq!(by("kubectl", label), None);
    }
}
