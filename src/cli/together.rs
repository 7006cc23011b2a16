//! Leases that are of use only together. Two callers who each hold a part of what both need would wait for each other for ever: one
//! of them gives back what it holds, and asks again behind the other.
//!
//! Who does so is decided in the order of the queue: by priority, then by age. Where a caller sees no other that waits so (it may be in
//! another namespace), it gives way all the same after a longer while. Each time it has given way it is twice as patient.

use super::{connection::ask, error::Error, id, queued::Queued as _};
use crate::api::{Lease, LeasePhase};
use jiff::Timestamp;
use kube::{Api, ResourceExt as _, api::ListParams};
use std::{cmp::Reverse, collections::BTreeMap, future::pending, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The label of the leases of one request, whose value says which.
pub(super) const REQUEST: &str = "drydock.dev/request";

/// How long nothing moves before a caller looks whether it is to give way.
const PATIENCE: Duration = Duration::from_secs(4);

/// So many times longer it waits where it sees nobody to give way to.
const UNSEEN: u32 = 15;

/// How long it waits at most between two looks.
const LONGEST: Duration = Duration::from_secs(600);

/// How many pages of other leases are looked at.
const PAGES: usize = 10;

/// The reasons for which a lease waits that has an environment in the making: nobody else keeps that from it.
const IN_THE_MAKING: [&str; 2] = ["Building", "Reclaiming"];

/// What a caller knows of its own patience.
pub(super) struct Together {
    request: String,
    patience: Duration,
    /// How many of its leases were active, and since when that has not changed.
    active: usize,
    stuck_since: Option<Instant>,
    next_look: Option<Instant>,
    may_give_way: bool,
}

/// One request's leases, as far as the order needs them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i32>,
    since: Option<Timestamp>,
    request: String,
}

impl Together {
    pub(super) fn new(request: String) -> Self {
        let patience = PATIENCE;
        Self { request, patience, active: 0, stuck_since: None, next_look: None, may_give_way: true }
    }

    /// The selector of the request's leases.
    pub(super) fn label(&self) -> String {
        format!("{REQUEST}={}", self.request)
    }

    /// Notes what is seen of the request's leases.
    pub(super) fn see(&mut self, leases: &[Lease]) {
        let active = leases.iter().filter(|lease| lease.phase() == LeasePhase::Active).count();
        if !self.may_give_way || !holds_a_part(leases.iter()) {
            self.stuck_since = None;
            self.next_look = None;
        } else if self.stuck_since.is_none() || active != self.active {
            let now = Instant::now();
            self.stuck_since = Some(now);
            self.next_look = Some(now + self.patience);
        }
        self.active = active;
    }

    /// Waits until it is time to look whether it is to give way.
    pub(super) async fn look_is_due(&self) {
        match self.next_look {
            Some(then) => sleep_until(then).await,
            None => pending().await,
        }
    }

    /// Whether it is to give way now.
    pub(super) async fn gives_way(&mut self, api: &Api<Lease>, leases: &[Lease]) -> bool {
        let Some(since) = self.stuck_since else { return false };
        // Two that cannot see each other are not to give way at once.
        let unseen = self.patience * UNSEEN;
        let jitter = unseen.mul_f64(f64::from(id::random_byte().unwrap_or_default()) / 256.0);
        let gives_way =
            since.elapsed() >= unseen + jitter || self.behind_another(api, leases).await.unwrap_or_default();
        self.next_look = Some(Instant::now() + self.patience);
        if gives_way {
            self.patience = (self.patience * 2).min(LONGEST);
            self.stuck_since = None;
            self.next_look = None;
        }
        gives_way
    }

    /// From now on it waits for what it lacks, and keeps what it holds.
    pub(super) fn keep(&mut self) {
        self.may_give_way = false;
    }

    /// Whether another request, before this one in the queue, holds a part of what it needs of the same type.
    async fn behind_another(&self, api: &Api<Lease>, leases: &[Lease]) -> Result<bool, Error> {
        let Some(type_) = leases.first().map(|lease| lease.spec.resource_type.as_str()) else { return Ok(false) };
        let mut others: BTreeMap<String, Vec<Lease>> = BTreeMap::new();
        let mut params = ListParams::default().labels(REQUEST).limit(500);
        for _ in 0..PAGES {
            let page = ask("listing leases", api.list(&params)).await?;
            for lease in page.items.into_iter().filter(|lease| lease.spec.resource_type == type_ && !lease.is_over()) {
                if let Some(request) = lease.labels().get(REQUEST).filter(|request| **request != self.request) {
                    others.entry(request.clone()).or_default().push(lease);
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        let mine = rank(&self.request, leases);
        Ok(others.iter().any(|(request, theirs)| holds_a_part(theirs.iter()) && rank(request, theirs) < mine))
    }
}

/// Whether some are held, and others wait for what somebody else has.
fn holds_a_part<'l>(leases: impl Iterator<Item = &'l Lease> + Clone) -> bool {
    let waits = |lease: &Lease| {
        let conditions = lease.status.iter().flat_map(|status| &status.conditions);
        let reason = conditions
            .filter(|condition| condition.type_ == "Acquired")
            .map(|condition| condition.reason.as_str())
            .next();
        lease.phase() == LeasePhase::Pending && reason.is_some_and(|reason| !IN_THE_MAKING.contains(&reason))
    };
    leases.clone().any(|lease| lease.phase() == LeasePhase::Active) && leases.clone().any(waits)
}

/// Its place in the order: that of its first lease.
fn rank(request: &str, leases: &[Lease]) -> Rank {
    let first =
        leases.iter().map(|lease| (Reverse(lease.spec.priority), lease.creation_timestamp().map(|time| time.0))).min();
    let (priority, since) = first.unwrap_or((Reverse(i32::MIN), None));
    Rank { priority, since, request: request.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(phase: &str, reason: &str, priority: i32, second: u32) -> Lease {
        let created = format!("2026-11-23T10:00:{second:02}Z");
        let condition = json!({"type": "Acquired", "status": "False", "reason": reason, "message": "", "lastTransitionTime": created});
        serde_json::from_value(json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "l", "uid": "u", "creationTimestamp": created},
            "spec": {"resourceType": "host", "priority": priority}, "status": {"phase": phase, "conditions": [condition]},
        }))
        .unwrap()
    }

    #[test]
    fn who_holds_a_part_and_lacks_what_another_has_is_stuck() {
        for (leases, stuck) in [
            (&[("Active", ""), ("Pending", "AtCapacity")][..], true),
            (&[("Active", ""), ("Pending", "NamespaceLimit"), ("Pending", "Building")], true),
            (&[("Active", ""), ("Pending", "Building")], false),
            (&[("Active", ""), ("Acquired", "Acquired")], false),
            (&[("Active", ""), ("Active", "")], false),
            (&[("Pending", "AtCapacity"), ("Pending", "AtCapacity")], false),
            (&[], false),
        ] {
            let leases: Vec<Lease> = leases.iter().map(|(phase, reason)| lease(phase, reason, 0, 0)).collect();
            assert_eq!(holds_a_part(leases.iter()), stuck, "{leases:?}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_queue() {
        let of = |request: &str, leases: &[(i32, u32)]| {
            let leases: Vec<Lease> =
                leases.iter().map(|(priority, second)| lease("Pending", "", *priority, *second)).collect();
            rank(request, &leases)
        };
        assert!(of("b", &[(0, 2), (0, 1)]) < of("a", &[(0, 2), (0, 2)]), "by the oldest of its leases");
        assert!(of("b", &[(5, 9)]) < of("a", &[(0, 1)]), "by priority first");
        assert!(of("a", &[(0, 1)]) < of("b", &[(0, 1)]), "and by a name that both know where they are of one second");
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_when_nothing_has_moved_for_a_while() {
        let mut together = Together::new("r".to_owned());
        let (held, waits) = (lease("Active", "", 0, 0), lease("Pending", "AtCapacity", 0, 0));
        let due = |together: &Together| together.next_look.map(|then| then - Instant::now());
        together.see(&[waits.clone(), waits.clone(), waits.clone()]);
        assert_eq!(due(&together), None);
        together.see(&[held.clone(), waits.clone(), waits.clone()]);
        assert_eq!(due(&together), Some(PATIENCE));
        tokio::time::advance(PATIENCE / 2).await;
        together.see(&[held.clone(), waits.clone(), waits.clone()]);
        assert_eq!(due(&together), Some(PATIENCE / 2), "nothing has moved");
        together.see(&[held.clone(), held.clone(), waits.clone()]);
        assert_eq!(due(&together), Some(PATIENCE), "it holds one more");
        together.keep();
        together.see(&[held.clone(), held, waits]);
        assert_eq!(due(&together), None);
    }
}
