//! Reading objects one by one: an object that this version cannot read is a value of its own, never the failure of a list or
//! a watch. An object comes from a tenant and may hold what no type here foresees: templates nested deeper than the JSON parser
//! goes, or the fields of a newer version.
//!
//! `managedFields` are skipped while reading: nothing here uses them, and parsed they are most of an object.

use super::{Blueprint, Condition, Lease, Resource};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::IgnoredAny};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// How much of a parser's message is kept: it may quote the object.
const WHY_BYTES: usize = 256;

/// An object, or what could be read of it.
#[derive(Clone, Debug)]
pub struct Readable<K>(pub Result<K, Box<Unreadable>>);

/// An object that could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unreadable {
    /// Which object it is.
    pub metadata: ObjectMeta,
    /// Of a Blueprint: suspended and without its driver, where that could be read.
    pub rest: Option<Box<Blueprint>>,
    /// Its conditions, where they could be read.
    pub conditions: Vec<Condition>,
    /// What the parser says, at most 256 bytes of it.
    pub why: String,
}

/// A kind that is put together from the parts of an object.
pub trait Assemble: Sized {
    /// What stands in `spec`.
    type Spec: DeserializeOwned;
    /// What stands in `status`.
    type Status: DeserializeOwned;
    /// The object of these parts.
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
    /// What can be used of an object whose spec cannot be read.
    fn rest(_metadata: &ObjectMeta, _spec: &RawValue) -> Option<Box<Blueprint>> {
        None
    }
}

macro_rules! assemble {
    ($kind:ty, $spec:ty, $status:ty $(, $rest:item)?) => {
        impl Assemble for $kind {
            type Spec = $spec;
            type Status = $status;
            fn assemble(metadata: ObjectMeta, spec: $spec, status: Option<$status>) -> Self {
                Self { metadata, spec, status }
            }
            $($rest)?
        }
    };
}
assemble!(
    Blueprint,
    super::BlueprintSpec,
    super::BlueprintStatus,
    /// Without its driver, in which users nest templates, and suspended: what holds for its leases and resources holds on.
    fn rest(metadata: &ObjectMeta, spec: &RawValue) -> Option<Box<Blueprint>> {
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(spec.get()).ok()?;
        fields.insert("driver".to_owned(), RawValue::from_string("{}".to_owned()).ok()?);
        let spec: super::BlueprintSpec = serde_json::from_str(&serde_json::to_string(&fields).ok()?).ok()?;
        let spec = super::BlueprintSpec { suspend: true, ..spec };
        Some(Box::new(Blueprint { metadata: metadata.clone(), spec, status: None }))
    }
);
assemble!(Resource, super::ResourceSpec, super::ResourceStatus);
assemble!(Lease, super::LeaseSpec, super::LeaseStatus);

/// Of a Namespace only the metadata counts.
impl Assemble for Namespace {
    type Spec = IgnoredAny;
    type Status = IgnoredAny;
    fn assemble(metadata: ObjectMeta, _: IgnoredAny, _: Option<IgnoredAny>) -> Self {
        Self { metadata, ..Self::default() }
    }
}

/// An object whose spec and status are read only when all is known to be well-formed JSON: capturing raw JSON does not recurse,
/// however deep the object is nested (`serde_json`, `ignore_value`).
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
}

/// [`ObjectMeta`] without `managedFields`, `selfLink` and `generateName`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(meta: Metadata) -> Self {
        Self {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            generation: meta.generation,
            creation_timestamp: meta.creation_timestamp,
            deletion_timestamp: meta.deletion_timestamp,
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: meta.owner_references,
            ..Self::default()
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conditions {
    conditions: Vec<Condition>,
}

fn parse<T: DeserializeOwned>(raw: Option<&RawValue>) -> Result<T, serde_json::Error> {
    serde_json::from_str(raw.map_or("null", RawValue::get))
}

impl<'de, K: Assemble> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let metadata = ObjectMeta::from(metadata);
        let rest = |metadata: &ObjectMeta| spec.as_deref().and_then(|spec| K::rest(metadata, spec));
        let parts = parse(spec.as_deref()).and_then(|spec| Ok((spec, parse(status.as_deref())?)));
        Ok(Self(match parts {
            Ok((spec, status)) => Ok(K::assemble(metadata, spec, status)),
            Err(error) => {
                let Conditions { conditions } = parse(status.as_deref()).unwrap_or_default();
                let mut why = error.to_string();
                while why.len() > WHY_BYTES {
                    why.pop();
                }
                let rest = rest(&metadata);
                Err(Box::new(Unreadable { metadata, rest, conditions, why }))
            }
        }))
    }
}

impl<K: kube::Resource> kube::Resource for Readable<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::{Resource as _, api::ObjectList, api::WatchEvent};

    /// Far beyond where the JSON parser gives up.
    const DEPTH: usize = 100_000;

    fn blueprint(name: &str, template: &str) -> String {
        format!(
            r#"{{"apiVersion":"drydock.dev/v1alpha1","kind":"Blueprint",
                "metadata":{{"name":"{name}","namespace":"team","uid":"u-{name}","resourceVersion":"7",
                    "finalizers":["drydock.dev/teardown"],"managedFields":[{{"fieldsV1":{template}}}]}},
                "spec":{{"resourceType":"env","driver":{{"objects":{{"serviceAccountName":"b","templates":[
                    {{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c"}},"data":{template}}}]}}}}}},
                "status":{{"conditions":[{{"type":"Ready","status":"True","reason":"Ready","message":"",
                    "lastTransitionTime":"2026-01-01T00:00:00Z"}}]}}}}"#
        )
    }

    fn deep() -> String {
        format!("{}{}{}", r#"{"a":"#.repeat(DEPTH), 1, "}".repeat(DEPTH))
    }

    fn names(list: &ObjectList<Readable<Blueprint>>) -> Vec<(&str, bool)> {
        list.items.iter().map(|item| (item.meta().name.as_deref().unwrap(), item.0.is_ok())).collect()
    }

    #[test]
    fn an_object_that_cannot_be_read_does_not_fail_its_list() {
        let items = [blueprint("a", "{}"), blueprint("deep", &deep()), blueprint("b", "{}")].join(",");
        let list = format!(
            r#"{{"kind":"BlueprintList","apiVersion":"drydock.dev/v1alpha1","metadata":{{"resourceVersion":"9"}},"items":[{items}]}}"#
        );
        let list: ObjectList<Readable<Blueprint>> = serde_json::from_str(&list).unwrap();
        assert_eq!(names(&list), [("a", true), ("deep", false), ("b", true)]);
        let unreadable = list.items[1].0.as_ref().unwrap_err();
        assert_eq!(unreadable.metadata.uid.as_deref(), Some("u-deep"));
        assert_eq!(unreadable.metadata.finalizers.as_deref(), Some(&["drydock.dev/teardown".to_owned()][..]));
        assert_eq!(unreadable.conditions[0].type_, "Ready");
        let rest = unreadable.rest.as_ref().unwrap();
        assert_eq!(
            (rest.spec.suspend, rest.spec.resource_type.as_str(), rest.spec.driver.objects.is_none()),
            (true, "env", true)
        );
        assert!(unreadable.why.contains("recursion limit"), "{}", unreadable.why);
    }

    #[test]
    fn an_object_that_cannot_be_read_does_not_fail_its_watch() {
        for (object, is_read) in [(blueprint("a", "{}"), true), (blueprint("deep", &deep()), false)] {
            let event = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
            let event: WatchEvent<Readable<Blueprint>> = serde_json::from_str(&event).unwrap();
            let WatchEvent::Modified(read) = event else { panic!("{event:?}") };
            assert_eq!(read.0.is_ok(), is_read);
        }
    }

    #[test]
    fn the_reason_is_bounded_and_quotes_no_object() {
        let long = "é".repeat(10_000);
        let wrong = blueprint("a", "{}").replace(r#""resourceType":"env""#, &format!(r#""placement":"{long}""#));
        let read: Readable<Blueprint> = serde_json::from_str(&wrong).unwrap();
        let why = read.0.unwrap_err().why;
        assert!(why.len() <= WHY_BYTES && !why.is_empty(), "{} bytes", why.len());
    }

    /// What is read this way is what the types read themselves, but for `managedFields`.
    #[test]
    fn nothing_else_is_left_out() {
        let text = blueprint("a", "{}").replace(
            r#""uid":"#,
            r#""generation":3,"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"a":"b"},"annotations":{"c":"d"},
               "ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"1"}],"uid":"#,
        );
        let mut whole: Blueprint = serde_json::from_str(&text).unwrap();
        let read: Readable<Blueprint> = serde_json::from_str(&text).unwrap();
        assert!(whole.metadata.managed_fields.take().is_some());
        assert_eq!(serde_json::to_value(whole).unwrap(), serde_json::to_value(read.0.unwrap()).unwrap());
    }
}
