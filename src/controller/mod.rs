//! The shell: watches → index → lifecycle → driver → one write. All status writes go through `writer`.
//!
//! Nothing here decides about an object's life: it gathers what is around it, asks `lifecycle`, runs the driver's step, and
//! writes what came of it.

pub mod clock;
mod events;
mod fair_queue;
mod http;
mod index;
mod key;
mod leader;
mod line;
mod metrics;
pub mod options;
mod passes;
mod patience;
mod policies;
mod shell;
mod steps;
mod watches;
mod writer;

use crate::{
    driver::{Attachment, Drivers, SecretName, Warn},
    lifecycle::{
        EventDraft,
        matching::{SharedNamespaces, WatchedNamespaces},
    },
};
use clock::{ClockHandle, SystemClock};
use index::Index;
use metrics::Metrics;
use options::Options;
use shell::Shell;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;

/// How long passes that are under way may take to end when the controller is stopped.
const STOP: Duration = Duration::from_secs(20);

/// A worker that panics must not stop the others: what it held is whole, for each change of it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the controller could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to the API server.
    #[error("no configuration for the API server: {0}; set KUBECONFIG, or run in a cluster")]
    Config(#[source] Box<kube::Error>),
    /// There is no kubeconfig, and this is no cluster.
    #[error("no configuration for the API server: {0}; set KUBECONFIG, or run in a cluster")]
    Infer(#[from] kube::config::InferConfigError),
    /// The address for probes and metrics cannot be had.
    #[error("--http-address {address}: {source}; choose another")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else was elected; this process ends, and is started again as one that stands by.
    #[error("another controller was elected; this one ends")]
    Deposed,
}

/// Runs the controller until it is told to stop.
///
/// # Errors
/// Where it cannot start, or is no longer the one that is elected.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), Error> {
    run_with(options, Drivers::standard(), Arc::new(SystemClock), stop).await
}

/// Runs the controller with other drivers, or another clock.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    options: Options,
    drivers: Drivers,
    clock: ClockHandle,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    run_on(crate::cluster::infer().await?, options, drivers, clock, stop).await
}

/// Runs the controller on a given API server, with whatever credentials the configuration has.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    mut config: kube::Config,
    options: Options,
    drivers: Drivers,
    clock: ClockHandle,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    // A pass is repeated with a back-off of its own, and decides anew; a request that is repeated below it does not.
    config.default_retry = false;
    let client = kube::Client::try_from(config).map_err(|e| Error::Config(Box::new(e)))?;
    let address = options.http_address;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Address { address, source })?;
    let bound = listener.local_addr().map_err(|source| Error::Address { address, source })?;
    tracing::info!("listening on http://{bound}");
    // Two processes of one machine are two.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "drydock".to_owned());
    let instance = format!("{host}-{}", std::process::id());
    let told = tokio::spawn(policies::tell(client.clone(), clock.clone()));
    let ended = control(client, Some(listener), &instance, options, drivers, clock, stop).await;
    told.abort();
    ended
}

/// Runs the controller through a ready client and under a given name, without probes: all that it does goes through
/// client, drivers and clock, so that a simulation can own it.
///
/// # Errors
/// As [`run`].
pub async fn run_through(
    client: kube::Client,
    instance: &str,
    options: Options,
    drivers: Drivers,
    clock: ClockHandle,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    control(client, None, instance, options, drivers, clock, stop).await
}

async fn control(
    client: kube::Client,
    listener: Option<TcpListener>,
    instance: &str,
    options: Options,
    drivers: Drivers,
    clock: ClockHandle,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let default_namespace = client.default_namespace().to_owned();
    let client = patience::limited(client);
    let metrics = Metrics::new();
    let (events, publisher) = events::queue(client.clone(), clock.clone(), metrics.clone(), instance);
    let index = Index::new(drivers.clone(), SharedNamespaces::new(&options.shared_namespaces))
        .watching(WatchedNamespaces::new(&options.namespaces));
    let shell = Shell::new(clock.clone(), client.clone(), drivers, index, metrics, events, options.namespaces.clone());
    let woken = Arc::downgrade(&shell);
    let wake: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |uid| {
        if let Some(shell) = woken.upgrade() {
            shell.wake(uid);
        }
    });
    let key_secret = SecretName {
        namespace: options.key_secret_namespace.clone().unwrap_or_else(|| default_namespace.clone()),
        name: options.key_secret.clone(),
    };
    let events = shell.events.clone();
    let warn: Warn = Arc::new(move |about, reason, message| {
        events.publish("Resource", about, vec![EventDraft::warning(reason, message)]);
    });
    shell.drivers.attach(&Attachment { client: client.clone(), key_secret, warn, wake });
    let health = Arc::new(watches::Health::default());
    let standing_by = Arc::new(AtomicBool::new(false));
    let probes = http::Probes { shell: shell.clone(), health: health.clone(), standing_by: standing_by.clone() };

    let mut tasks = tokio::task::JoinSet::new();
    if let Some(listener) = listener {
        tasks.spawn(async move {
            // It runs until the process ends.
            let _ = axum::serve(listener, http::router(probes)).await;
        });
    }
    tasks.spawn(publisher.run());
    let elected = OnceLock::new();
    let work = async {
        if options.leader_elect {
            let namespace = options.leader_election_namespace.clone().unwrap_or(default_namespace);
            let election = leader::Election { namespace, name: options.leader_election_name.clone() };
            let candidate = leader::stand(client, election, instance).await;
            standing_by.store(true, Ordering::Relaxed);
            let won = candidate.elected().await;
            standing_by.store(false, Ordering::Relaxed);
            let _ = elected.set(won);
        }
        for watch in watches::all(&shell, &health) {
            tasks.spawn(watch);
        }
        tasks.spawn(shell.clone().run_timer());
        tasks.spawn(shell.clone().run_sweeps());
        watches::listed(&health).await;
        tracing::info!("every object is listed; reconciling");
        shell.start();
        match elected.get() {
            Some(elected) => elected.lost().await,
            None if bug!(ControllerEnds) => {}
            None => std::future::pending::<()>().await,
        }
        Err(Error::Deposed)
    };
    let outcome = match futures::future::select(std::pin::pin!(work), std::pin::pin!(stop)).await {
        futures::future::Either::Left((outcome, _)) => outcome,
        futures::future::Either::Right(((), _)) => {
            tracing::info!("stopping");
            Ok(())
        }
    };
    if tokio::time::timeout(STOP, shell.stop()).await.is_err() {
        tracing::warn!(
            "passes were still under way after {STOP:?}; whoever starts next goes on from what is on record"
        );
    }
    // A driver's step that is cut off here is resumed by whoever starts next.
    shell.steps.cancel_all();
    tasks.shutdown().await;
    // Only now may another begin; it would be safe before, but do work twice.
    if let Some(elected) = elected.into_inner() {
        elected.give_up().await;
    }
    outcome
}
