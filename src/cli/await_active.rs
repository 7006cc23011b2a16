//! Waits until leases are active, and tells meanwhile what becomes of them.

use super::{
    Exit,
    error::Error,
    follow::{Follower, Sight},
    interrupt::Interrupts,
    print,
    queued::Queued as _,
    story,
    together::Together,
};
use crate::api::{Duration, Lease, LeasePhase};
use kube::Api;
use std::{collections::BTreeMap, future::pending};
use tokio::time::{Instant, sleep_until};

/// More leases than these are watched by the label of their request.
const BY_NAME: usize = 16;

/// How the wait has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// For good.
    Ended(Exit),
    /// Some are active, others wait for what another caller holds: it is this one's turn to give back.
    GivesWay,
}

/// When the patience of a caller ends, and the flag's value that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(Option<(Duration, Instant)>);

impl Limit {
    /// So long from now.
    pub(super) fn of(length: Option<Duration>) -> Self {
        Self(length.and_then(|length| Some((length, Instant::now().checked_add(length.to_std())?))))
    }

    /// Waits until it is reached, and tells.
    pub(super) async fn reached(self) -> Exit {
        let Some((length, instant)) = self.0 else { return pending().await };
        sleep_until(instant).await;
        print::tell(&format!(
            "error: --wait-timeout {length}: not active by then; give a longer one, or --queue-timeout"
        ));
        Exit::Failed
    }
}

/// Waits until all of `leases` are active at once, until the limit; keeps in `leases` what was seen of each last.
pub(super) async fn await_active(
    api: &Api<Lease>,
    leases: &mut [Lease],
    limit: Limit,
    together: &mut Together,
    interrupts: &mut Interrupts,
) -> Result<Waited, Error> {
    let wanted: Vec<_> = leases.iter().map(|l| (l.name().to_owned(), l.uid().to_owned())).collect();
    let mut follower = match wanted.len() {
        0..=BY_NAME => Follower::new(api, wanted),
        _ => Follower::labelled(api, &together.label(), wanted),
    };
    let mut told = BTreeMap::new();
    while leases.iter().any(|lease| lease.phase() != LeasePhase::Active) {
        let sight = tokio::select! {
        biased;
            sight = follower.next() => sight?,
            signal = interrupts.next() => return Ok(Waited::Ended(Exit::Interrupted(signal))),
            ended = limit.reached() => return Ok(Waited::Ended(ended)),
            () = together.look_is_due() => tokio::select! {
            biased;
                gives_way = together.gives_way(api, leases) => match gives_way {
                    true => return Ok(Waited::GivesWay),
                    false => continue,
                },
                signal = interrupts.next() => return Ok(Waited::Ended(Exit::Interrupted(signal))),
            },
        };
        let now = match sight {
            Sight::Now(now) => now,
            Sight::Gone { name, last } => {
                if let Some(last) = last {
                    keep(leases, last);
                }
                print::tell(&format!("error: lease/{name}: it was deleted before it was active"));
                return Ok(Waited::Ended(Exit::Failed));
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
        together.see(leases);
        if over {
            return Ok(Waited::Ended(Exit::Failed));
        }
    }
    Ok(Waited::Ended(Exit::Done))
}

fn keep(leases: &mut [Lease], seen: Lease) {
    if let Some(lease) = leases.iter_mut().find(|lease| lease.name() == seen.name()) {
        *lease = seen;
    }
}
