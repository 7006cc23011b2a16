//! What is on record of the objects as `status.built`: everything that their teardown needs (api.md, 6).

use super::{accounts::Account, kinds::Kind};
use crate::{api::Resource, driver::Work};
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use std::hash::Hasher as _;

/// The objects of a resource, or of a lease.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The driver's name.
    pub driver: String,
    /// As whom they are made and removed.
    #[serde(flatten)]
    pub account: Account,
    /// In the order in which they are made; put on record before they are.
    #[serde(default)]
    pub objects: Vec<Made>,
    /// Of a resource: the kinds of what its leases get, by which what is left of one that vanished is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lease_kinds: Vec<Kind>,
}

/// One object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// Its kind.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its namespace, where its template names one; else that of the account, for kinds that live in namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID, once it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What of it was set here, in short: it differs once somebody has changed that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<String>,
}

impl Made {
    /// The same object, whether it is made or not.
    pub fn is(&self, other: &Self) -> bool {
        (&self.kind, &self.namespace, &self.name) == (&other.kind, &other.namespace, &other.name)
    }

    /// Its kind, namespace and name, as people write them.
    pub fn told(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind.kind, self.name),
            None => format!("{} {}", self.kind.kind, self.name),
        }
    }
}

impl Record {
    /// One of nothing yet.
    pub fn new(account: Account) -> Self {
        Self { driver: super::NAME.to_owned(), account, objects: Vec::new(), lease_kinds: Vec::new() }
    }

    /// What is on record of what a step is about: of its lease, where it is a lease's. `None`: nothing was begun.
    ///
    /// # Errors
    /// Where the record is not ours; then nothing is known to be gone.
    pub fn of(work: &Work) -> Result<Option<Self>, serde_json::Error> {
        let built = match &work.key.lease {
            Some(_) => work.lease.as_ref().and_then(|l| l.status.as_ref()?.built.clone()),
            None => work.resource.as_ref().and_then(|r| r.status.as_ref()?.built.clone()),
        };
        built.filter(|built| built.get("objects").is_some()).map(serde_json::from_value).transpose()
    }

    /// What is on record of a resource; `None`: nothing was begun.
    ///
    /// # Errors
    /// As [`Record::of`].
    pub fn of_resource(resource: &Resource) -> Result<Option<Self>, serde_json::Error> {
        let built = resource.status.as_ref().and_then(|s| s.built.clone());
        built.filter(|built| built.get("objects").is_some()).map(serde_json::from_value).transpose()
    }

    /// The form in which it is put on record.
    pub fn value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_else(|_| serde_json::json!({"driver": super::NAME}))
    }
}

/// What of an object was set by us, in short. The API server keeps account of it: whoever changes a field takes it over.
pub fn fields(object: &DynamicObject) -> Option<String> {
    let managed = object.metadata.managed_fields.as_ref()?;
    let mut ours = managed.iter().filter(|entry| entry.manager.as_deref() == Some(super::NAME_AS_MANAGER));
    let entry = ours.find(|entry| entry.subresource.is_none())?;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(serde_json::to_string(&entry.fields_v1).unwrap_or_default().as_bytes());
    Some(format!("{:016x}", hasher.finish()))
}

/// Whether it was Drydock that said whose an object is. Labels alone can be copied, with the rest of an object or by
/// whoever may write it; the API server keeps account of who set them. Where it keeps none, they have to do.
pub fn is_made_here(object: &DynamicObject) -> bool {
    let managed = object.metadata.managed_fields.as_deref().unwrap_or_default();
    let label = format!("f:{}", super::plan::OWNER);
    let set_it = |fields: &serde_json::Value| fields["f:metadata"]["f:labels"].get(&label).is_some();
    managed.is_empty()
        || managed.iter().any(|entry| {
            entry.manager.as_deref() == Some(super::NAME_AS_MANAGER)
                && entry.fields_v1.as_ref().is_some_and(|fields| set_it(&fields.0))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Lease, LeaseStatus, ResourceStatus, step::EffectKey};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn record() -> Record {
        let account = Account { namespace: "team".into(), name: "builder".into() };
        let made = |kind: &str, namespace: Option<&str>, uid: Option<&str>| Made {
            kind: Kind { api_version: "v1".into(), kind: kind.into() },
            namespace: namespace.map(str::to_owned),
            name: "a".into(),
            uid: uid.map(str::to_owned),
            fields: None,
        };
        let objects = vec![made("Namespace", None, Some("u1")), made("ConfigMap", Some("a"), None)];
        Record {
            objects,
            lease_kinds: vec![Kind { api_version: "v1".into(), kind: "Secret".into() }],
            ..Record::new(account)
        }
    }

    /// The form is on record in clusters: what was written once is read by all later versions.
    #[test]
    fn the_form_on_record() {
        let written = json!({
            "driver": "objects", "namespace": "team", "serviceAccountName": "builder",
            "objects": [
                {"apiVersion": "v1", "kind": "Namespace", "name": "a", "uid": "u1"},
                {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "a", "name": "a"},
            ],
            "leaseKinds": [{"apiVersion": "v1", "kind": "Secret"}],
        });
        assert_eq!(record().value(), written);
        assert_eq!(serde_json::from_value::<Record>(written).unwrap(), record());
    }

    fn work(built: Option<Value>, lease: Option<Option<Value>>) -> Work {
        let resource = Resource {
            status: Some(ResourceStatus { built, ..ResourceStatus::default() }),
            ..Resource::new("pool--0", Default::default())
        };
        let of_lease = lease.clone().map(|_| ("l".to_owned(), 0));
        let lease = lease.map(|built| Lease {
            status: Some(LeaseStatus { built, ..LeaseStatus::default() }),
            ..Lease::new("l", Default::default())
        });
        Work {
            key: EffectKey { resource: "r".into(), lease: of_lease },
            resource: Some(Arc::new(resource)),
            blueprint: None,
            lease: lease.map(Arc::new),
            told: String::new(),
        }
    }

    #[test]
    fn of_the_lease_where_the_work_is_a_leases() {
        let ours = record().value();
        let nothing_begun = json!({"driver": "objects"});
        let of = |work: Work| Record::of(&work).unwrap();
        assert_eq!(of(work(Some(ours.clone()), None)), Some(record()));
        assert_eq!(of(work(Some(ours.clone()), Some(None))), None, "what its resource has is not the lease's");
        assert_eq!(of(work(None, Some(Some(ours.clone())))), Some(record()));
        assert_eq!(of(work(Some(nothing_begun), None)), None);
        assert_eq!(of(work(None, None)), None);
        // What is not understood is no reason to take anything for gone.
        assert!(Record::of(&work(Some(json!({"objects": "some"})), None)).is_err());
        assert!(Record::of(&work(Some(json!({"objects": [{"name": "a"}]})), None)).is_err());
    }

    #[test]
    fn whose_an_object_is_stands_in_the_account_of_its_fields() {
        let object = |managed: Value| -> DynamicObject {
            let metadata = json!({"name": "a", "labels": {"drydock.dev/owner": "u"}, "managedFields": managed});
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).unwrap()
        };
        let by = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
        let label = json!({"f:metadata": {"f:labels": {"f:drydock.dev/owner": {}}}});
        let data = json!({"f:data": {"f:key": {}}});
        for (managed, expected) in [
            (json!([by("drydock", label.clone())]), true),
            (json!([by("kubectl", data.clone()), by("drydock", label.clone())]), true),
            (json!([by("kubectl-label", label.clone())]), false),
            (json!([by("drydock", data.clone()), by("kubectl", label.clone())]), false),
            (json!([{"manager": "drydock"}]), false),
            (json!([]), true), // no account is kept
            (json!(null), true),
        ] {
            assert_eq!(is_made_here(&object(managed.clone())), expected, "{managed}");
        }
        let ours = |fields: Value| super::fields(&object(json!([by("drydock", fields)])));
        assert_eq!(ours(label.clone()), ours(label.clone()));
        assert_ne!(ours(label.clone()), ours(json!({})), "somebody has taken it over");
        assert_eq!(super::fields(&object(json!([by("kubectl", label)]))), None);
    }

    #[test]
    fn told_as_people_write_it() {
        let told: Vec<_> = record().objects.iter().map(Made::told).collect();
        assert_eq!(told, ["Namespace a", "ConfigMap a/a"]);
    }
}
