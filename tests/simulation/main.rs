//! The proof under faults: the real controller on an API server in memory, on a virtual clock, with everything going wrong
//! that can. A seed replays exactly.

// Runs fail by panicking, with words that say what was expected.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod actors;
mod checks;
mod faults;
mod journal;
mod random;
mod rest;
mod run;
mod server;
mod time;
mod wire;
mod world;

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=3 {
        let plan = run::Plan::new(seed);
        let began = std::time::Instant::now();
        let first = run::simulate(&plan);
        println!(
            "{seed}: {:x} {} versions, {} crashes, {:?}",
            first.hash,
            first.versions,
            first.crashes,
            began.elapsed()
        );
        assert_eq!(first.hash, run::simulate(&plan).hash, "seed {seed}");
    }
}
