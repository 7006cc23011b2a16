//! Leader election by a coordination Lease: it saves the work of a second controller. Nothing depends on it: two that both
//! take themselves for elected are as safe as one (design.md, 1).

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use std::time::Duration;
use tokio::{sync::watch, task::JoinHandle};

/// The coordination Lease.
const NAME: &str = "drydock-controller";

/// For how long one is elected, and how long before that ends it is renewed, in seconds.
const DURATION: u64 = 15;
const GRACE: u64 = 5;

/// This process is elected, as long as this is kept.
pub struct Elected {
    state: watch::Receiver<bool>,
    renewal: JoinHandle<kube_lease_manager::Result<LeaseManager>>,
}

/// How long to wait before the election is tried again that could not begin, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Ends when this process can take part in the election: an API server that is away, or has just come back and does not know
/// yet who may do what, is waited for, as every watch waits for it.
pub async fn stand(client: Client, namespace: &str, identity: &str) -> LeaseManager {
    let mut pause = AGAIN.0;
    loop {
        let manager = LeaseManagerBuilder::new(client.clone(), NAME)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await;
        match manager {
            Ok(manager) => {
                tracing::info!(namespace, lease = NAME, identity, "standing by for election");
                return manager;
            }
            Err(error) => tracing::warn!(%error, namespace, lease = NAME, "no election yet, tried again in {pause:?}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

/// Ends when this process is elected.
///
/// # Errors
/// Where the election has ended, in words.
pub async fn elected(manager: LeaseManager, identity: &str) -> Result<Elected, String> {
    let (mut state, renewal) = manager.watch().await;
    state.wait_for(|elected| *elected).await.map_err(|_| "the election ended".to_owned())?;
    tracing::info!(identity, "elected");
    Ok(Elected { state, renewal })
}

/// How long giving it up may take; after that the next is elected when the present term ends.
const GIVING_UP: Duration = Duration::from_secs(5);

impl Elected {
    /// Gives it up, so that another need not wait for the end of the term.
    pub async fn give_up(self) {
        drop(self.state);
        let _ = tokio::time::timeout(GIVING_UP, self.renewal).await;
    }

    /// Ends when this process is no longer elected.
    pub async fn lost(&self) {
        // Where the renewal has ended, so has the election.
        let _ = self.state.clone().wait_for(|elected| !elected).await;
    }
}
