//! How the API server is reached: by a kubeconfig or a Pod's service account, and by a proxy where one is on the way.

mod proxy;

use kube::{
    Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use std::env;

/// By the kubeconfig files of KUBECONFIG or ~/.kube/config, else by the service account of the Pod.
///
/// # Errors
/// Where there is neither, or a kubeconfig that cannot be used.
pub async fn infer() -> Result<Config, InferConfigError> {
    let config = Config::infer().await?;
    let kubeconfig = Kubeconfig::read().unwrap_or_default();
    let options = KubeConfigOptions::default();
    Ok(behind_proxy(config, &kubeconfig, &options))
}

/// By this kubeconfig, and what the options choose in it.
///
/// # Errors
/// Where it cannot be used.
pub async fn of_kubeconfig(kubeconfig: Kubeconfig, options: &KubeConfigOptions) -> Result<Config, KubeconfigError> {
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), options).await?;
    Ok(behind_proxy(config, &kubeconfig, options))
}

/// The proxy that kubectl would take, too. (kube compares NO_PROXY with the proxy's own host, and knows no scheme but a written one.)
fn behind_proxy(mut config: Config, kubeconfig: &Kubeconfig, options: &KubeConfigOptions) -> Config {
    let written = url_of(kubeconfig, options);
    match proxy::choose(&config.cluster_url, written, |name| env::var(name).ok()) {
        Ok(proxy) => config.proxy_url = proxy,
        Err(error) => tracing::warn!(%error, "the proxy is left as it is"),
    }
    config
}

/// The `proxy-url` of the cluster that is meant.
fn url_of<'k>(kubeconfig: &'k Kubeconfig, options: &'k KubeConfigOptions) -> Option<&'k str> {
    let context = options.context.as_ref().or(kubeconfig.current_context.as_ref())?;
    let named = kubeconfig.contexts.iter().find(|named| named.name == *context)?;
    let cluster = options.cluster.as_ref().or(named.context.as_ref().map(|context| &context.cluster))?;
    let named = kubeconfig.clusters.iter().find(|named| named.name == *cluster)?;
    named.cluster.as_ref()?.proxy_url.as_deref().filter(|url| !url.is_empty())
}
