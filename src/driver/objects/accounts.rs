//! Clients that act as service accounts, by impersonation over the controller's own connections: what is made from a
//! Blueprint is made with the rights of an account of its namespace, and no others (design.md, 7).

use crate::{
    api::{Lease, LeasePhase, Resource, ResourcePhase},
    driver::Work,
};
use http::HeaderValue;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, ServiceAccount},
};
use kube::{Api, Client, Error, api::ObjectMeta, client::Body};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};
use tower::service_fn;

/// How many clients are kept; one more, and all are made anew as they are asked for.
const KEPT: usize = 512;

/// A service account.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its namespace: that of the Blueprint.
    pub namespace: String,
    /// Its name.
    #[serde(rename = "serviceAccountName")]
    pub name: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// See the module.
pub struct Accounts {
    own: Client,
    clients: Mutex<BTreeMap<Account, Client>>,
}

impl Accounts {
    /// Clients over this one, which has the controller's own rights.
    pub fn new(own: Client) -> Self {
        Self { own, clients: Mutex::default() }
    }

    /// The client of an account.
    ///
    /// # Errors
    /// Where the account's name cannot be that of one.
    pub fn client(&self, account: &Account) -> Result<Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(account) {
            return Ok(client.clone());
        }
        // By user name only: the API server adds the groups (api.md, 6).
        let user = HeaderValue::from_str(&account.to_string()).map_err(|e| Error::Service(e.into()))?;
        let own = self.own.clone();
        let service = service_fn(move |mut request: http::Request<Body>| {
            request.headers_mut().insert("impersonate-user", user.clone());
            let own = own.clone();
            async move { super::throttle::keep_retry_after(own.send(request).await?).await }
        });
        let client = Client::new(service, account.namespace.clone());
        if clients.len() >= KEPT {
            clients.clear();
        }
        clients.insert(account.clone(), client.clone());
        Ok(client)
    }

    /// Whether the account is gone, or going, and what it may do with it; where that cannot be told, it is not.
    pub async fn is_gone(&self, account: &Account) -> bool {
        let api: Api<ServiceAccount> = Api::namespaced(self.own.clone(), &account.namespace);
        match super::read(&api, &account.name).await {
            Ok(None) => true,
            Ok(Some(found)) => found.metadata.deletion_timestamp.is_some(),
            Err(_) => false,
        }
    }

    /// Whether what the work is about is still to be made, by the API server's own word.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub async fn is_wanted(&self, work: &Work) -> Result<bool, Error> {
        if let Some((_, attempt)) = &work.key.lease {
            let Some(lease) = &work.lease else { return Ok(false) };
            let found: Option<Lease> = self.read_again(&lease.metadata).await?;
            return Ok(found.is_some_and(|lease| lease.phase() == LeasePhase::Acquired && lease.attempt() == *attempt));
        }
        let Some(resource) = &work.resource else { return Ok(false) };
        let found: Option<Resource> = self.read_again(&resource.metadata).await?;
        Ok(found.is_some_and(|resource| resource.phase() == ResourcePhase::Pending))
    }

    /// Whether a resource is there, by the API server's own word.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub async fn is_there(&self, resource: &Resource) -> Result<bool, Error> {
        Ok(self.read_again::<Resource>(&resource.metadata).await?.is_some())
    }

    /// One of our objects as it is now; none, where it is gone, though a namesake may be there.
    async fn read_again<K>(&self, known: &ObjectMeta) -> Result<Option<K>, Error>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + DeserializeOwned,
    {
        let (Some(namespace), Some(name)) = (&known.namespace, &known.name) else { return Ok(None) };
        let api: Api<K> = Api::namespaced(self.own.clone(), namespace);
        let found = super::read(&api, name).await?;
        Ok(found.filter(|found| found.meta().uid == known.uid))
    }

    /// Whether a namespace is gone, or is being deleted with all that is in it, by the API server's own word; where that cannot
    /// be told, it is not.
    pub async fn is_namespace_going(&self, name: &str) -> bool {
        let api: Api<Namespace> = Api::all(self.own.clone());
        match super::read(&api, name).await {
            Ok(None) => true,
            Ok(Some(namespace)) => namespace.metadata.deletion_timestamp.is_some(),
            Err(_) => false,
        }
    }
}
