//! Which cluster a verb talks to, and in which namespace: the flags that kubectl has.

use super::error::Error;
use crate::cluster;
use clap::builder::NonEmptyStringValueParser;
use kube::{
    Api, Client, Config, Resource,
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use std::{future::Future, path::PathBuf, time::Duration};

/// The field manager of what the verbs write.
pub(super) const MANAGER: &str = "drydock-cli";

/// How long one request may take; watches have their own limits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Flags of every verb that talks to a cluster.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct Connection {
    /// The kubeconfig file; default: those in KUBECONFIG, then ~/.kube/config, then the service account of the Pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig; default: its current one
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    // An empty one would ask for all namespaces, in which no object is found by its name.
    /// The namespace; default: the context's
    #[arg(long, short, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub namespace: Option<String>,
}

/// A client, and the namespace that was asked for.
pub(super) struct Cluster {
    client: Client,
    pub(super) namespace: String,
}

impl Connection {
    /// Reads the kubeconfig; the first request is what shows whether anybody is there.
    pub(super) async fn open(&self) -> Result<Cluster, Error> {
        let config = self.config().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|source| Error::request("setting up the client", source))?;
        Ok(Cluster { client, namespace })
    }

    async fn config(&self) -> Result<Config, Error> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let wrong = |source| {
                    let origin = format!("--kubeconfig {}", path.display());
                    Error::Kubeconfig { origin, remedy: "give a file that kubectl can use", source }
                };
                let read = Kubeconfig::read_from(path).map_err(wrong)?;
                cluster::of_kubeconfig(read, &options).await.map_err(wrong)
            }
            (None, Some(context)) => {
                let wrong = |source| {
                    let origin = format!("--context {context}");
                    Error::Kubeconfig { origin, remedy: "see `kubectl config get-contexts`", source }
                };
                cluster::of_kubeconfig(Kubeconfig::read().map_err(wrong)?, &options).await.map_err(wrong)
            }
            (None, None) => cluster::infer().await.map_err(Error::NoCluster),
        }
    }
}

impl Cluster {
    /// The objects of one kind in the namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// The answer to one request, or why there is none; `tried` is what was tried on what.
pub(super) async fn ask<T>(
    tried: &str,
    request: impl Future<Output = Result<T, kube::Error>> + Send,
) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| Error::request(tried, error)),
        Err(_) => Err(Error::NoAnswer { tried: tried.to_owned(), seconds: REQUEST_TIMEOUT.as_secs() }),
    }
}
