//! What a run has seen, in figures.

use crate::{faults::Counts, plan::Plan, recorder::Record};
use jiff::{SignedDuration, Timestamp};

/// In lines, for people.
pub fn told(plan: &Plan, record: &Record, counts: &Counts) -> String {
    let checker = &record.checker;
    let calm: Vec<SignedDuration> = checker
        .ended
        .iter()
        .filter(|ended| !counts.faults.iter().any(|fault| overlap(*fault, ended.deadline)))
        .map(|ended| ended.late)
        .collect();
    let lines = [
        format!("seed {} (the plan of action; real time cannot be replayed), {:.1?}", plan.seed, plan.time),
        format!("{} leases served, {} versions checked", checker.served.len(), checker.versions),
        format!(
            "controllers: {} killed, {} paused, {} started with election, {} no longer elected and started again; \
             {} conflicts absorbed, {} passes tried again",
            counts.kills, counts.pauses, counts.elected, counts.revived, counts.conflicts, counts.errors
        ),
        format!("kube-apiserver killed {} times, etcd {} times", counts.api_servers, counts.etcds),
        format!("objects that were made late, and removed again: {}", checker.lates()),
        format!("longest wait for a lease to be Active: {:#.1}", checker.longest_wait),
        format!(
            "{} leases expired; of the {} whose end fell where no fault was on, lateness p99 {}",
            checker.ended.len(),
            calm.len(),
            p99(calm).map_or("-".to_owned(), |late| format!("{} ms", late.as_millis()))
        ),
    ];
    lines.join("\n")
}

fn overlap((from, until): (Timestamp, Timestamp), at: Timestamp) -> bool {
    (from..until).contains(&at)
}

fn p99(mut all: Vec<SignedDuration>) -> Option<SignedDuration> {
    all.sort();
    all.get((all.len() * 99).div_ceil(100).checked_sub(1)?).copied()
}
