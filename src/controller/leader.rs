//! Leader election by a coordination Lease: it saves the work of a second controller. Nothing depends on it: two that both
//! take themselves for elected are as safe as one (design.md, 1).

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use std::time::Duration;
use tokio::{sync::watch, task::JoinHandle};

/// What is stood for: the coordination Lease. Controllers of different namespaces have different ones.
pub struct Election {
    pub namespace: String,
    pub name: String,
}

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

/// How often one that stands by looks whether the election was given up: the manager itself sleeps until the end of the term
/// that it has seen.
const LOOK: Duration = Duration::from_secs(2);

/// This process, as it stands by.
pub struct Candidate {
    client: Client,
    election: Election,
    identity: String,
    manager: LeaseManager,
}

/// Ends when this process can take part in the election: an API server that is away, or has just come back and does not know
/// yet who may do what, is waited for, as every watch waits for it.
pub async fn stand(client: Client, election: Election, identity: &str) -> Candidate {
    let manager = manager(&client, &election, identity).await;
    tracing::info!(namespace = election.namespace, lease = election.name, identity, "standing by for election");
    Candidate { client, election, identity: identity.to_owned(), manager }
}

/// A manager that has not looked at the election yet.
async fn manager(client: &Client, election: &Election, identity: &str) -> LeaseManager {
    let Election { namespace, name } = election;
    let mut pause = AGAIN.0;
    loop {
        let manager = LeaseManagerBuilder::new(client.clone(), name)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await;
        match manager {
            Ok(manager) => return manager,
            Err(error) => tracing::warn!(%error, namespace, lease = name, "no election yet, tried again in {pause:?}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

impl Candidate {
    /// Ends when this process is elected.
    pub async fn elected(mut self) -> Elected {
        loop {
            tokio::select! {
                biased;
                changed = self.manager.changed() => match changed {
                    Ok(true) => break,
                    Ok(false) => continue,
                    Err(error) => {
                        let Election { namespace, name } = &self.election;
                        tracing::warn!(%error, namespace, lease = name, "no election yet");
                        tokio::time::sleep(AGAIN.0).await;
                    }
                },
                () = self.given_up() => {}
            }
            // What it knew of the term is no longer so. Where it was cut off just as it won, a new one sees that.
            self.manager = manager(&self.client, &self.election, &self.identity).await;
        }
        tracing::info!(identity = self.identity, "elected");
        let (state, renewal) = self.manager.watch().await;
        Elected { state, renewal }
    }

    /// Ends when nobody is elected.
    async fn given_up(&self) {
        let terms: Api<Lease> = Api::namespaced(self.client.clone(), &self.election.namespace);
        loop {
            tokio::time::sleep(LOOK).await;
            let term = terms.get_opt(&self.election.name).await;
            if let Ok(Some(term)) = term
                && term.spec.is_none_or(|term| term.holder_identity.is_none())
            {
                return;
            }
        }
    }
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
