//! What the API server calls a kind of objects, and whether they live in namespaces: asked for once.

use super::definitions;
use super::snapshot::Snapshot;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, GroupVersionKind},
    discovery::{self, ApiCapabilities, Scope, verbs},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A kind is held for gone when it is not found twice, so long apart.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// What was missing longer ago may have been there meanwhile: that look says nothing of this one.
const SAME_SPELL: Duration = Duration::from_secs(60);

/// A kind of objects, as templates name it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// Group and version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
}

impl Kind {
    /// Its group; that of the core kinds is empty.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
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
    fn of(resource: ApiResource, capabilities: &ApiCapabilities) -> Self {
        let kept = [verbs::GET, verbs::DELETE].iter().all(|verb| capabilities.supports_operation(verb));
        Self { resource, namespaced: capabilities.scope == Scope::Namespaced, kept }
    }

    /// Its objects in a namespace, or in the cluster where they live in none.
    pub fn api(&self, client: Client, namespace: &str) -> Api<Snapshot> {
        match self.namespaced {
            true => Api::namespaced_with(client, namespace, &self.resource),
            false => Api::all_with(client, &self.resource),
        }
    }

    /// How an object of the kind is deleted: so that it is seen gone only when what it owns is gone, too, as far as its owner
    /// references say `blockOwnerDeletion`. Not those that own nothing, for the garbage collector would only take its time; nor a
    /// Namespace, which goes when all that is in it has gone.
    pub fn deletion(&self) -> DeleteParams {
        let core =
            ["Namespace", "ConfigMap", "Secret", "ServiceAccount", "LimitRange", "ResourceQuota", "PersistentVolume"];
        let owns_nothing = match self.resource.group.as_str() {
            "" => core.contains(&self.resource.kind.as_str()),
            "rbac.authorization.k8s.io" | "apiextensions.k8s.io" | "admissionregistration.k8s.io" => true,
            "scheduling.k8s.io" | "storage.k8s.io" => true,
            _ => false,
        };
        if owns_nothing { DeleteParams::background() } else { DeleteParams::foreground() }
    }
}

/// See the module.
pub struct Kinds {
    /// With the controller's own rights: who makes a Blueprint need not see how kinds are defined.
    own: Client,
    known: Mutex<BTreeMap<Kind, Known>>,
    /// Kinds that were not found when they were last looked for, and since when.
    missing: Mutex<BTreeMap<Kind, Instant>>,
}

impl Kinds {
    /// One that knows no kind yet; what defines a kind is read by this client.
    pub fn new(own: Client) -> Self {
        Self { own, known: Mutex::default(), missing: Mutex::default() }
    }

    /// Asks the API server for a kind, where it is not known yet.
    ///
    /// # Errors
    /// Where it has none of that name, or does not answer.
    pub async fn resolve(&self, client: &Client, kind: &Kind) -> Result<Known, kube::Error> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(kind) {
            return Ok(known.clone());
        }
        let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        let wanted = GroupVersionKind::gvk(group, version, &kind.kind);
        let (resource, capabilities) = super::in_time(discovery::pinned_kind(client, &wanted)).await?;
        let known = Known::of(resource, &capabilities);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.clone(), known.clone());
        Ok(known)
    }

    /// Where objects of a kind that were made are by now: in another version of its group, where the one that they were
    /// made in is served no more. `None`: there is no such kind any more, and so no objects of it.
    ///
    /// # Errors
    /// Where the API server does not answer; and where the kind is not served, but defined still, or that cannot be seen: its
    /// objects may be there.
    pub async fn whereabouts(&self, client: &Client, kind: &Kind) -> Result<Option<Known>, kube::Error> {
        let since = match self.look_for(client, kind).await? {
            Some(known) => {
                self.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
                return Ok(Some(known));
            }
            None => {
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                let since = missing.entry(kind.clone()).or_insert_with(Instant::now);
                if since.elapsed() > SAME_SPELL {
                    *since = Instant::now();
                }
                *since
            }
        };
        // While a definition is changed its kinds may not be served for a moment, and that is no fact.
        tokio::time::sleep_until(since + SECOND_LOOK).await;
        if let Some(known) = self.look_for(client, kind).await? {
            return Ok(Some(known));
        }
        match definitions::definition_of(&self.own, kind).await? {
            Some(definition) => Err(definitions::not_served(kind, &definition)),
            None => Ok(None),
        }
    }

    async fn look_for(&self, client: &Client, kind: &Kind) -> Result<Option<Known>, kube::Error> {
        match self.resolve(client, kind).await {
            Ok(known) => return Ok(Some(known)),
            Err(error) if super::is_unknown_kind(&error) => {}
            Err(error) => return Err(error),
        }
        let (group, _) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        let versions = match super::in_time(discovery::group(client, group)).await {
            Ok(versions) => versions,
            Err(error) if super::is_unknown_kind(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut served = versions.resources_by_stability().into_iter();
        let found = served.find(|(resource, _)| resource.kind == kind.kind);
        Ok(found.map(|(resource, capabilities)| Known::of(resource, &capabilities)))
    }

    /// A kind may have gone, or be another by now.
    pub fn forget(&self, kind: &Kind) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }
}
