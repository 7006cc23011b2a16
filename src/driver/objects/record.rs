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

    /// What is on record of a resource.
    pub fn of_resource(resource: &Resource) -> Option<Self> {
        serde_json::from_value(resource.status.as_ref()?.built.clone()?).ok()
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
