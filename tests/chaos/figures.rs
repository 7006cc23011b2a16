//! What a run has seen, in figures.

use crate::{checker::Ended, faults::Counts, plan::Plan, recorder::Record};
use jiff::{SignedDuration, Timestamp};

/// One that ended later than this, while no fault was on, is worth a look.
const LATE: SignedDuration = SignedDuration::from_secs(1);

/// One that waited longer than this is, too: low priority, or something that stood still?
const LONG: SignedDuration = SignedDuration::from_secs(120);

/// In lines, for people.
pub fn told(plan: &Plan, record: &Record, counts: &Counts) -> String {
    let checker = &record.checker;
    let is_calm = |ended: &&Ended| !counts.faults.iter().any(|fault| overlap(*fault, ended.deadline));
    let calm: Vec<SignedDuration> = checker.ended.iter().filter(is_calm).map(|ended| ended.late).collect();
    let latest = checker.ended.iter().filter(is_calm).max_by_key(|ended| ended.late);
    let latest = latest.filter(|latest| latest.late > LATE).map(|latest| latest.lease.clone());
    let mut lines = vec![
        format!("seed {} (the plan of action; real time cannot be replayed), {:.1?}", plan.seed, plan.time),
        format!("{} leases served, {} versions checked", checker.served.len(), checker.versions),
        format!(
            "controllers: {} killed, {} paused, {} started with election, {} no longer elected and started again; \
             {} conflicts absorbed, {} passes tried again",
            counts.kills, counts.pauses, counts.elected, counts.revived, counts.conflicts, counts.errors
        ),
        format!("kube-apiserver killed {} times, etcd {} times", counts.api_servers, counts.etcds),
        format!("objects that were made late, and removed again: {}", checker.lates()),
        format!("longest wait for a lease to be Active: {} s", checker.longest_wait.0.as_secs()),
        format!(
            "{} leases expired; of the {} whose end fell where no fault was on, lateness p99 {}",
            checker.ended.len(),
            calm.len(),
            p99(calm).map_or("-".to_owned(), |late| format!("{} ms", late.as_millis()))
        ),
    ];
    let (wait, lease) = &checker.longest_wait;
    if *wait > LONG {
        lines.push(format!("the lease that waited longest:\n{}", checker.story.of(std::slice::from_ref(lease))));
    }
    if let Some(latest) = latest {
        lines.push(format!("the latest of these:\n{}", checker.story.of(&[latest])));
    }
    lines.join("\n")
}

fn overlap((from, until): (Timestamp, Timestamp), at: Timestamp) -> bool {
    (from..until).contains(&at)
}

fn p99(mut all: Vec<SignedDuration>) -> Option<SignedDuration> {
    all.sort();
    all.get((all.len() * 99).div_ceil(100).checked_sub(1)?).copied()
}
