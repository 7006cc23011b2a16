//! The checks can fail: bugs that are made on purpose, one at a time, and each is caught within a stated number of seeds.
//! Those in Drydock itself need the feature `deliberate-bugs`; those of the driver, of the clock and of what comes to the API
//! server are made here.

use crate::{
    run::{Plan, simulate},
    server::Sabotage,
    world::Flaws,
};
use std::time::Duration;

/// A change of the plan.
type Change = fn(&mut Plan);

/// A bug that is to be caught.
struct Made {
    name: String,
    /// Within how many seeds.
    within: u64,
    /// What is different in the plan.
    change: Change,
    /// What makes it, on the thread of the run.
    make: Box<dyn Fn() + Sync>,
}

/// Bugs that are made from outside.
const OUTSIDE: [(&str, u64, Change); 7] = [
    ("G1: a status write without a resourceVersion", 10, |plan| {
        plan.sabotage = Sabotage { blind_status_writes: true, ..Sabotage::default() };
    }),
    ("G2: finalizer changes and deletes without UID and resourceVersion", 60, |plan| {
        plan.sabotage = Sabotage { blind_metadata_writes: true, ..Sabotage::default() };
    }),
    ("a ledger that is written apart from its effect", 10, |plan| {
        plan.sabotage = Sabotage { ledger_apart: true, ..Sabotage::default() };
    }),
    ("D1: no tombstones", 40, |plan| plan.flaws = Flaws { no_tombstones: true, ..Flaws::default() }),
    ("D2: a teardown of whatever is on the slot", 40, |plan| {
        plan.flaws = Flaws { tears_down_by_slot: true, ..Flaws::default() };
    }),
    ("a teardown that is reported too early", 10, |plan| {
        plan.flaws = Flaws { done_too_early: true, ..Flaws::default() };
    }),
    ("a clock that is ahead", 10, |plan| plan.early = Duration::from_secs(2)),
];

/// The number of the first seed that catches a bug, and what it says.
fn caught(within: u64, change: Change) -> Option<(u64, String)> {
    (1..=within).find_map(|seed| {
        let mut plan = Plan::new(seed);
        change(&mut plan);
        let wrong = simulate(&plan).wrong?;
        Some((seed, wrong.lines().next().unwrap_or_default().to_owned()))
    })
}

/// Which bugs are asked for: all whose names have `BUG` in them.
fn is_asked_for(name: &str) -> bool {
    std::env::var("BUG").map_or(true, |part| name.contains(&part))
}

/// Tries these bugs side by side, and fails with those that are not caught.
fn all_are_caught(bugs: &[Made]) {
    let missed = std::sync::Mutex::new(Vec::new());
    crate::each_side_by_side(0..bugs.len() as u64, |n| {
        let Made { name, within, change, make } = &bugs[n as usize];
        if !is_asked_for(name) {
            return;
        }
        make();
        let within = std::env::var("WITHIN").ok().and_then(|n| n.parse().ok()).unwrap_or(*within);
        match caught(within, *change) {
            Some((seed, wrong)) => println!("{name}: caught by seed {seed}: {wrong}"),
            None => missed.lock().unwrap().push(name.clone()),
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

/// The plans that bring bugs out are no bugs themselves.
#[test]
#[ignore = "takes minutes; make deliberate-bugs"]
fn without_a_bug_nothing_is_caught() {
    let changes: [Change; 3] =
        [|plan| plan.rough = true, |plan| plan.forceful = true, |plan| (plan.rough, plan.forceful) = (true, true)];
    let failed = std::sync::Mutex::new(Vec::new());
    crate::each_side_by_side(0..18, |n| {
        let (change, seed) = (n % 3, n / 3 + 1);
        let mut plan = Plan::new(seed);
        changes[change as usize](&mut plan);
        if let Some(wrong) = simulate(&plan).wrong {
            println!("plan {change}, seed {seed}: {wrong}");
            failed.lock().unwrap().push((change, seed));
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "plans and seeds that went wrong: {failed:?}");
}

#[test]
#[ignore = "takes minutes; make deliberate-bugs"]
fn each_bug_made_from_outside_is_caught() {
    let bugs: Vec<_> = OUTSIDE
        .iter()
        .map(|(name, within, change)| Made {
            name: (*name).to_owned(),
            within: *within,
            change: *change,
            make: Box::new(|| {}),
        })
        .collect();
    all_are_caught(&bugs);
}

#[cfg(feature = "deliberate-bugs")]
#[test]
#[ignore = "takes minutes; make deliberate-bugs"]
fn each_bug_made_inside_is_caught() {
    use drydock::deliberate::{Bug, Bug::*, make};
    fn nothing(_: &mut Plan) {}
    fn rough(plan: &mut Plan) {
        plan.rough = true;
    }
    fn forceful(plan: &mut Plan) {
        plan.forceful = true;
    }
    fn rough_and_forceful(plan: &mut Plan) {
        rough(plan);
        forceful(plan);
    }
    let inside: [(Bug, u64, Change); 24] = [
        (NoFinalizer, 20, nothing),
        (StepBeforeRecord, 10, nothing),
        (AbsentResourceIsGone, 20, rough),
        (BackWithoutTeardown, 20, rough),
        (SameAttempt, 20, rough),
        (NoticesNothing, 10, nothing),
        (TearsDownHeld, 10, nothing),
        (DestroyedTooEarly, 10, nothing),
        (OneTooMany, 10, nothing),
        (DropsClaimOfWaiting, 10, nothing),
        (DropsClaimOfReleased, 10, nothing),
        (AbsentLeaseIsGone, 20, rough),
        (DropsUntorn, 20, forceful),
        (ServesTwice, 40, nothing),
        (DrainsLeased, 20, nothing),
        (TearsDownClaimed, 10, nothing),
        (BlueprintGoesFirst, 20, nothing),
        (ClaimWithoutUid, 10, nothing),
        (OneCommandAWrite, 20, nothing),
        (HoldEndsHold, 40, nothing),
        (ForgetsPruned, 20, nothing),
        (EarlyTimer, 10, nothing),
        (LostRequeue, 10, nothing),
        (YoungestFirst, 20, nothing),
    ];
    // What is guarded twice, or needs several things to go wrong in the same moments, wants more seeds than are tried here:
    // as many as WITHIN says, with BUG to name one.
    let rare: [(Bug, u64, Change); 6] = [
        (AnyAttempt, 0, rough),
        (KeepsDeadClaim, 0, rough),
        (UnreadBeforeActivation, 0, rough_and_forceful),
        (UnreadBlueprint, 0, rough),
        (UnreadSlot, 0, rough_and_forceful),
        (CountsTheHealthy, 0, nothing),
    ];
    let rare = rare.into_iter().filter(|_| std::env::var_os("WITHIN").is_some());
    let bugs: Vec<_> = inside
        .into_iter()
        .chain(rare)
        .map(|(bug, within, change)| Made {
            name: format!("{bug:?}"),
            within,
            change,
            make: Box::new(move || make(Some(bug))),
        })
        .collect();
    all_are_caught(&bugs);
}
