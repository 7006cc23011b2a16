//! Leader election by a coordination Lease: it saves the work of a second controller. Nothing depends on it: two that both
//! take themselves for elected are as safe as one (design.md, 1).

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
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

/// Ends when this process is elected.
///
/// # Errors
/// Where the coordination Lease cannot be read or made, in words.
pub async fn elected(client: Client, namespace: &str, identity: &str) -> Result<Elected, String> {
    let manager = LeaseManagerBuilder::new(client, NAME)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build()
        .await
        .map_err(|e| e.to_string())?;
    let (mut state, renewal) = manager.watch().await;
    tracing::info!(namespace, lease = NAME, identity, "standing by for election");
    state.wait_for(|elected| *elected).await.map_err(|_| "the election ended".to_owned())?;
    tracing::info!(identity, "elected");
    Ok(Elected { state, renewal })
}

/// How long giving it up may take; after that the next is elected when the present term ends.
const GIVING_UP: std::time::Duration = std::time::Duration::from_secs(5);

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
