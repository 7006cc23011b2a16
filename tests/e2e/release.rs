//! The release that helm installs, and its Pods.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use k8s_openapi::api::coordination::v1::Lease as Term;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, ResourceExt as _};

use crate::cluster::{Cluster, HERE, Image, PATIENCE, SYSTEM};
use crate::logs::{CONTROLLERS, Logs};
use crate::support::helm;

/// How often to look for what is not watched.
const GLANCE: Duration = Duration::from_millis(50);

/// The release `drydock`.
pub struct Release {
    cluster: Arc<Cluster>,
    pub logs: Logs,
}

impl Release {
    pub async fn new(cluster: Arc<Cluster>) -> Release {
        let logs = Logs::follow(cluster.client.clone());
        Release { cluster, logs }
    }

    /// `helm install --wait`, or `helm upgrade --wait`, with an image and some settings more; returns what helm said.
    pub async fn helm(&self, verb: &str, image: &Image, settings: &[&str]) -> String {
        let chart = helm::chart();
        let namespaces = format!("--set=impersonation.namespaces={{{HERE}}}");
        let fixed = [verb, "drydock", &chart, "--set=serviceMonitor.enabled=true", &namespaces];
        let image: Vec<&str> = image.settings.iter().map(String::as_str).collect();
        // Kinds that another has installed are not helm's to install.
        let kinds: &[&str] = if self.cluster.kinds_were_there { &["--set=crds.install=false"] } else { &[] };
        self.run(&[&fixed[..], &image, kinds, &["--wait"], settings].concat()).await
    }

    /// Another verb of helm, in the release's namespace.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let namespace = format!("--namespace={SYSTEM}");
        self.cluster.helm(&[arguments, &[&namespace, "--timeout=3m"]].concat()).await
    }

    /// The controllers that are not being ended.
    pub async fn pods(&self) -> Vec<Pod> {
        let pods = self.all_pods().list(&ListParams::default().labels(CONTROLLERS)).await.unwrap();
        pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// All Pods of the release's namespace.
    pub fn all_pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client.clone(), SYSTEM)
    }

    /// The one controller.
    pub async fn pod(&self) -> Pod {
        let mut pods = self.pods().await;
        assert_eq!(pods.len(), 1, "{:?}", pods.iter().map(Pod::name_any).collect::<Vec<_>>());
        pods.remove(0)
    }

    /// What one of the pages of a controller says, and the status with it. By the API server, and not by `kubectl get --raw`,
    /// which keeps the words of a refusal to itself.
    pub async fn page(&self, pod: &str, path: &str) -> (u16, String) {
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/{path}");
        let answer = self.cluster.asks_once.send(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.into_body().collect_bytes().await.unwrap();
        (status, String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until as many controllers as these are Ready, and none of the Pods that were there before is one of them.
    pub async fn replaced(&self, before: &[&str], count: usize) -> Vec<Pod> {
        let what = format!("{count} others than {before:?} are Ready");
        self.until(&what, async || {
            let pods = self.pods().await;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            let others = pods.iter().all(|pod| !before.contains(&pod.name_any().as_str()));
            (ready == count && pods.len() == count && others).then_some(pods)
        })
        .await
    }

    /// The Pod of the controller that is elected, when there is one other than this.
    pub async fn elected(&self, but: &str) -> String {
        let terms: Api<Term> = Api::namespaced(self.cluster.client.clone(), SYSTEM);
        self.until(&format!("another than {but:?} is elected"), async || {
            let term = terms.get_opt("drydock-controller").await.unwrap()?.spec?;
            // The name of the Pod, and the number of the process.
            let holder = term.holder_identity.filter(|holder| !holder.is_empty())?;
            let (pod, _) = holder.rsplit_once('-').unwrap();
            (pod != but).then(|| pod.to_owned())
        })
        .await
    }

    /// Looks until there is an answer.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(GLANCE).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("waited {PATIENCE:.0?} in vain until {what}"))
    }
}

/// Whether a Pod says so.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

/// The name by which the node knows a Pod's container, and how often it was started again.
pub fn container(pod: &Pod) -> Option<(String, i32)> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.running.as_ref()?;
    Some((status.container_id.clone()?, status.restart_count))
}
