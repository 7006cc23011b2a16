//! All that the controllers of the release have ever logged, those that are gone too.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinSet;

use crate::cluster::SYSTEM;

/// Which Pods are controllers.
pub const CONTROLLERS: &str = "app.kubernetes.io/name=drydock,app.kubernetes.io/component=controller";

/// Lines, each with the name of its Pod, in the order in which they came.
type Lines = Arc<Mutex<Vec<(String, String)>>>;

/// Follows the log of each controller from its start on.
pub struct Logs {
    lines: Lines,
    started: Arc<Mutex<BTreeSet<String>>>,
    _following: JoinSet<()>,
}

impl Logs {
    /// Begins.
    pub fn follow(client: Client) -> Logs {
        let (lines, started) = (Lines::default(), Arc::<Mutex<BTreeSet<String>>>::default());
        let mut following = JoinSet::new();
        following.spawn(each(client, lines.clone(), started.clone()));
        Logs { lines, started, _following: following }
    }

    /// How many containers there have been.
    pub fn containers(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    /// The lines that have these words.
    pub fn with(&self, words: &str) -> Vec<(String, String)> {
        self.lines.lock().unwrap().iter().filter(|(_, line)| line.contains(words)).cloned().collect()
    }
}

async fn each(client: Client, lines: Lines, started: Arc<Mutex<BTreeSet<String>>>) {
    let pods: Api<Pod> = Api::namespaced(client, SYSTEM);
    let config = watcher::Config::default().labels(CONTROLLERS);
    let mut versions = watcher(pods.clone(), config).default_backoff().applied_objects().boxed();
    let mut following = JoinSet::new();
    while let Some(pod) = versions.next().await {
        let Ok(pod) = pod else { continue };
        let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
        let running = status.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
        let Some(container) = running.and_then(|status| status.container_id.clone()) else { continue };
        if started.lock().unwrap().insert(container) {
            following.spawn(one(pods.clone(), pod.name_any(), lines.clone()));
        }
    }
}

async fn one(pods: Api<Pod>, name: String, lines: Lines) {
    let follow = LogParams { follow: true, ..LogParams::default() };
    let log = pods.log_stream(&name, &follow).await;
    let mut log = log.unwrap_or_else(|error| panic!("the log of {name}: {error}")).lines();
    while let Ok(Some(line)) = log.try_next().await {
        lines.lock().unwrap().push((name.clone(), line));
    }
}
