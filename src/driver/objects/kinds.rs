//! What the API server calls a kind of objects, and whether they live in namespaces: asked for once.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    discovery::{self, Scope, verbs},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// A kind of objects, as templates name it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// Group and version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
}

/// A kind as the API server has it.
#[derive(Clone, Debug)]
pub struct Known {
    /// How it is called in requests.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether they stay, until they are deleted. Reviews of access are answers, and a Binding is a deed.
    pub kept: bool,
}

impl Known {
    /// Its objects in a namespace, or in the cluster where they live in none.
    pub fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        match self.namespaced {
            true => Api::namespaced_with(client, namespace, &self.resource),
            false => Api::all_with(client, &self.resource),
        }
    }

    /// Deleting one of these is over only when what it has made is gone, too.
    pub fn makes_others(&self) -> bool {
        matches!(self.resource.group.as_str(), "apps" | "batch")
    }
}

/// See the module.
#[derive(Default)]
pub struct Kinds(Mutex<BTreeMap<Kind, Known>>);

impl Kinds {
    /// Asks the API server for a kind, where it is not known yet.
    ///
    /// # Errors
    /// Where it has none of that name, or does not answer.
    pub async fn resolve(&self, client: &Client, kind: &Kind) -> Result<Known, kube::Error> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(kind) {
            return Ok(known.clone());
        }
        let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        let wanted = GroupVersionKind::gvk(group, version, &kind.kind);
        let (resource, capabilities) = super::in_time(discovery::pinned_kind(client, &wanted)).await?;
        let kept = [verbs::GET, verbs::DELETE].iter().all(|verb| capabilities.supports_operation(verb));
        let known = Known { resource, namespaced: capabilities.scope == Scope::Namespaced, kept };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.clone(), known.clone());
        Ok(known)
    }

    /// A kind may have gone, or be another by now.
    pub fn forget(&self, kind: &Kind) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }
}
