//! Waits until leases are active, and tells meanwhile what becomes of them.

use super::{
    Exit,
    error::Error,
    follow::{Follower, Sight},
    interrupt::Interrupts,
    print,
    queued::Queued as _,
    story,
};
use crate::api::{Duration, Lease, LeasePhase};
use kube::Api;
use std::{collections::BTreeMap, future::pending};
use tokio::time::{Instant, sleep_until};

/// Waits until all of `leases` are active at once, for at most `limit`; keeps in `leases` what was seen of each last.
pub(super) async fn await_active(
    api: &Api<Lease>,
    leases: &mut [Lease],
    limit: Option<Duration>,
    interrupts: &mut Interrupts,
) -> Result<Exit, Error> {
    let end = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit.to_std())?)));
    let mut follower = Follower::new(api.clone(), leases.iter().map(|l| (l.name().to_owned(), l.uid().to_owned())));
    let mut told = BTreeMap::new();
    while leases.iter().any(|lease| lease.phase() != LeasePhase::Active) {
        let sight = tokio::select! {
        biased;
            sight = follower.next() => sight?,
            () = interrupts.next() => return Ok(Exit::Interrupted),
            limit = passed(end) => {
                print::tell(&format!("error: --wait-timeout {limit}: not active by then; give a longer one, or --queue-timeout"));
                return Ok(Exit::Failed);
            }
        };
        let now = match sight {
            Sight::Now(now) => now,
            Sight::Gone { name, last } => {
                if let Some(last) = last {
                    keep(leases, last);
                }
                print::tell(&format!("error: lease/{name}: it was deleted before it was active"));
                return Ok(Exit::Failed);
            }
        };
        let story = now.story();
        let over = now.is_over();
        if over {
            print::tell(&format!("error: lease/{}: ended before it was of use: {story}", now.name()));
        } else if told.insert(now.name().to_owned(), story.clone()).as_ref() != Some(&story) {
            print::tell(&format!("lease/{}: {story}", now.name()));
            for line in story::handed_over(&now).iter().filter(|_| now.phase() == LeasePhase::Active) {
                print::tell(&format!("  {line}"));
            }
        }
        keep(leases, now);
        if over {
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Done)
}

fn keep(leases: &mut [Lease], seen: Lease) {
    if let Some(lease) = leases.iter_mut().find(|lease| lease.name() == seen.name()) {
        *lease = seen;
    }
}

async fn passed(end: Option<(Duration, Instant)>) -> Duration {
    match end {
        Some((limit, instant)) => {
            sleep_until(instant).await;
            limit
        }
        None => pending().await,
    }
}
