//! What is on record of the objects as `status.built`: everything that their teardown needs (api.md, 6).

use super::{accounts::Account, kinds::Kind, sites::LeaseKind};
use crate::{api::Resource, driver::Work};
use serde::{Deserialize, Serialize};

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
    /// Of a resource: of which kinds its leases get objects, and where: by it, what is left of one that vanished is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lease_kinds: Vec<LeaseKind>,
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

    /// The same with the version, where another object of the same kind and name is meant.
    pub fn told_in_full(&self) -> String {
        format!("{} of {}", self.told(), self.kind.api_version)
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

    /// Takes in what a newer plan makes beside it. Returns whether that was more than it had.
    pub fn extend(&mut self, newer: Self) -> bool {
        let known = (self.objects.len(), self.lease_kinds.len());
        for made in newer.objects {
            if !self.objects.iter().any(|recorded| recorded.is(&made)) {
                self.objects.push(made);
            }
        }
        for kind in newer.lease_kinds {
            if !self.lease_kinds.contains(&kind) {
                self.lease_kinds.push(kind);
            }
        }
        known != (self.objects.len(), self.lease_kinds.len())
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
            lease_kinds: vec![LeaseKind { kind: Kind { api_version: "v1".into(), kind: "Secret".into() }, site: None }],
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
    fn a_newer_plan_adds_to_the_record_and_takes_nothing_off() {
        let mut known = record();
        assert!(!known.extend(record()), "nothing is new");
        let account = known.account.clone();
        let kinds = vec![LeaseKind { kind: Kind { api_version: "v1".into(), kind: "Pod".into() }, site: None }];
        assert!(known.extend(Record { lease_kinds: kinds, ..Record::new(account.clone()) }), "a kind is");
        let mut other = record().objects[0].clone();
        (other.name, other.uid) = ("b".into(), None);
        assert!(known.extend(Record { objects: vec![other], ..Record::new(account) }), "an object is");
        assert_eq!((known.objects.len(), known.lease_kinds.len()), (3, 2));
        assert_eq!(known.objects[..2], record().objects);
    }

    #[test]
    fn told_as_people_write_it() {
        let told: Vec<_> = record().objects.iter().map(Made::told).collect();
        assert_eq!(told, ["Namespace a", "ConfigMap a/a"]);
    }
}
