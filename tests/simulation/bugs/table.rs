//! The table: each rule of protocol.md, 2, and what else must not be done wrong; how it is broken; in what setting, and within
//! how many seeds, that is caught.
//!
//! L6 and R6's appending of commands fell away from the protocol: what is left of R6 stands under R6. Q2 is kept by the CRD, so
//! it is broken on the API server's side.

use super::{Change, Made, Row, Setting};
use crate::{scenes, stage::Scene, turns};
use drydock::deliberate::Bug::{self, *};
use std::time::Duration;

// Where chance brings the bug out; with much of what it needs, where it needs much.
const CHANCE: Setting = chance("chance", |_| {});
const ROUGH: Setting = chance("rough", |plan| plan.rough = true);
const FORCEFUL: Setting = chance("forceful", |plan| plan.forceful = true);

// Where it hardly ever does.
const CLAIMED_BY_WHAT_GOES: Setting = scene("claimed_by_what_goes", scenes::claimed_by_what_goes);
const AN_OLD_CLAIM_IS_SHOWN: Setting = scene("an_old_claim_is_shown", scenes::an_old_claim_is_shown);
const BOUND_TO_WHAT_WENT_BY_FORCE: Setting = scene("bound_to_what_went_by_force", scenes::bound_to_what_went_by_force);
const GONE_BENEATH_ITS_LEASE: Setting = scene("gone_beneath_its_lease", scenes::gone_beneath_its_lease);
const MADE_FOR_WHAT_IS_GONE: Setting = scene("made_for_what_is_gone", scenes::made_for_what_is_gone);
const RELEASED_BUT_THERE: Setting = scene("released_but_there", scenes::released_but_there);
const WANTED_BEFORE_IT_IS_THERE: Setting = scene("wanted_before_it_is_there", scenes::wanted_before_it_is_there);
const ASKED_WHEN_ALL_IS_OVER: Setting = scene("asked_when_all_is_over", scenes::asked_when_all_is_over);
const SENT_AGAIN_WHEN_PRUNED: Setting = scene("sent_again_when_pruned", scenes::sent_again_when_pruned);
const HELD_TWICE: Setting = scene("held_twice", scenes::held_twice);
const PLACED_WHERE_IT_IS_FULL: Setting = scene("placed_where_it_is_full", turns::placed_where_it_is_full);
const RELEASED_BESIDE_ANOTHER: Setting = scene("released_beside_another", turns::released_beside_another);
const BUILT_ONCE: Setting = scene("built_once", turns::built_once);
const RECLAIMED_IN_TURN: Setting = scene("reclaimed_in_turn", turns::reclaimed_in_turn);
const PASSED_OVER: Setting = scene("passed_over", turns::passed_over);
const REPLACED_IN_TURN: Setting = scene("replaced_in_turn", turns::replaced_in_turn);
const HELD_FOR_LONG: Setting = scene("held_for_long", scenes::held_for_long);
const A_NAMESAKE_COMES: Setting = scene("a_namesake_comes", scenes::a_namesake_comes);
const ASKED_TO_GO_WHILE_HELD: Setting = scene("asked_to_go_while_held", scenes::asked_to_go_while_held);
const THE_SLOT_IS_TAKEN: Setting = scene("the_slot_is_taken", scenes::the_slot_is_taken);
const GONE_BEFORE_IT_IS_SHOWN: Setting = scene("gone_before_it_is_shown", scenes::gone_before_it_is_shown);
const NO_LONGER_IDLE: Setting = scene("no_longer_idle", scenes::no_longer_idle);

const fn chance(name: &'static str, change: Change) -> Setting {
    Setting { name, change, scene: None }
}

const fn scene(name: &'static str, scene: Scene) -> Setting {
    Setting { name, change: |_| {}, scene: Some(scene) }
}

/// What tells of it.
type By = &'static [&'static str];

const fn row(rule: &'static str, bug: Made, within: u64, setting: Setting, by: By) -> Row {
    Row { rule, bug, within, setting, by }
}

const fn inside(rule: &'static str, bug: Bug, within: u64, setting: Setting, by: By) -> Row {
    row(rule, Made::Inside(bug), within, setting, by)
}

const fn outside(rule: &'static str, what: &'static str, make: Change, within: u64, setting: Setting, by: By) -> Row {
    row(rule, Made::Outside(what, make), within, setting, by)
}

pub const TABLE: &[Row] = &[
    outside(
        "G1",
        "a status write without resourceVersion",
        |p| p.sabotage.blind_status_writes = true,
        10,
        CHANCE,
        &["Q1: ", "was consumed twice", "went from", "attempt of a lease went back"],
    ),
    outside(
        "G2",
        "finalizer changes and deletes without tests",
        |p| p.sabotage.blind_metadata_writes = true,
        20,
        CHANCE,
        &[
            "L9: a lease was let go",
            "R8: a resource was let go",
            "G2: ",
            "does not rest on",
            "wrote a lease",
            "wrote a resource",
        ],
    ),
    inside("G3", ClaimWithoutUid, 10, CHANCE, &["G3: "]),
    inside(
        "G3",
        ComparesNames,
        6,
        A_NAMESAKE_COMES,
        &["a claim was dropped", "does not claim it", "G3: ", "a pass failed by a defect, Unsettled"],
    ),
    inside("L1", NoFinalizer, 6, WANTED_BEFORE_IT_IS_THERE, &["does not rest on what is on record"]),
    inside("L1", ResourceWithoutFinalizer, 10, CHANCE, &["does not rest on what is on record"]),
    inside(
        "L1",
        BlueprintWithoutFinalizer,
        6,
        WANTED_BEFORE_IT_IS_THERE,
        &["B1: a resource was made before", "a lease waits, and could be served"],
    ),
    inside("L2", BindsUnclaimed, 10, CHANCE, &["does not claim it"]),
    inside("L2", AnyAttempt, 6, AN_OLD_CLAIM_IS_SHOWN, &["does not claim it"]),
    inside("L3", StepBeforeRecord, 10, CHANCE, &["does not rest on what is on record"]),
    inside(
        "L4",
        KeepsDeadClaim,
        6,
        CLAIMED_BY_WHAT_GOES,
        &["a lease has no status", "a lease rests in", "a claim is left", "a resource rests in"],
    ),
    inside("L5", AbsentResourceIsGone, 10, ROUGH, &["without a cause: ResourceLost"]),
    inside("L5", BackWithoutTeardown, 10, ROUGH, &["L5: "]),
    inside("L5", SameAttempt, 10, ROUGH, &["L5: "]),
    inside(
        "L5, R6",
        NoticesNothing,
        10,
        CHANCE,
        &[
            "what it holds is gone",
            "is gone that a lease holds",
            "a resource rests in Released",
            // Its end was that of its resource, which it did not notice.
            "its Resource ends then",
        ],
    ),
    inside("L7", UnreadBeforeActivation, 6, BOUND_TO_WHAT_WENT_BY_FORCE, &["L7: "]),
    inside("L8", TearsDownHeld, 6, HELD_TWICE, &["does not rest on what is on record"]),
    inside("L9", DestroyedTooEarly, 10, CHANCE, &["L9: a lease is Destroyed"]),
    inside("L9", LetsGoTooEarly, 10, CHANCE, &["L9: a lease was let go", "G2: "]),
    inside("L9", ForgetsUnasked, 10, CHANCE, &["nobody has asked for it"]),
    inside("L9", KeepsDeleted, 10, CHANCE, &["is deleted, and does not go", "its finalizer is left"]),
    inside("R1", UnreadBlueprint, 6, MADE_FOR_WHAT_IS_GONE, &["R1, B2: "]),
    inside("R2", UnreadSlot, 6, GONE_BENEATH_ITS_LEASE, &["R2: "]),
    inside("R3", OneTooMany, 10, CHANCE, &["more claims than there is room for"]),
    inside("R3", CountsRoomTooHigh, 10, CHANCE, &["more claims than there is room for"]),
    inside("R3, R6", GrantsWhenOver, 10, CHANCE, &["R3: "]),
    inside("R4a", DropsClaimOfWaiting, 10, CHANCE, &["R4: "]),
    inside("R4b", DropsClaimOfReleased, 10, CHANCE, &["R4: "]),
    inside("R4c", AbsentLeaseIsGone, 10, ROUGH, &["R4: "]),
    inside("R4c", DropsUntorn, 20, FORCEFUL, &["R4c: "]),
    inside("R4c", DropsUntorn, 6, A_NAMESAKE_COMES, &["R4c: "]),
    inside("R5", ServesTwice, 10, CHANCE, &["R5: "]),
    inside(
        "R7",
        DrainsLeased,
        10,
        CHANCE,
        &["released without a cause", "two resources are replaced at once", "is torn down beneath", "was replaced"],
    ),
    inside("R7", ReclaimsLeased, 6, ASKED_TO_GO_WHILE_HELD, &["without a cause: Reclaimed"]),
    inside("R8", TearsDownClaimed, 10, CHANCE, &["does not rest on what is on record", "R8: ", "torn down beneath"]),
    inside("R8", ResourceStepBeforeRecord, 10, CHANCE, &["does not rest on what is on record"]),
    inside("B1", MakesTooEarly, 6, WANTED_BEFORE_IT_IS_THERE, &["B1: "]),
    inside(
        "B1",
        AdoptsNamesake,
        6,
        THE_SLOT_IS_TAKEN,
        &["B1: ", "built for a Blueprint that is gone", "of a Blueprint that"],
    ),
    inside("B2", BlueprintGoesFirst, 10, CHANCE, &["B2: "]),
    inside("B3", DeletesResources, 10, CHANCE, &["R8: a resource was let go, or deleted"]),
    inside("one writer", WritesAnother, 10, CHANCE, &["a pass failed by a defect, Foreign"]),
    inside("one writer", ChangesBlueprint, 10, CHANCE, &["wrote a Blueprint's spec"]),
    inside("one writer", DeletesBlueprint, 10, CHANCE, &["deleted a Blueprint"]),
    outside(
        "B3, G2",
        "a Reclaim appended without tests",
        |p| p.sabotage.blind_appends = true,
        6,
        NO_LONGER_IDLE,
        &["B3: "],
    ),
    inside("Q1", OneCommandAWrite, 10, CHANCE, &["Q1: "]),
    inside("Q1", ForgetsPruned, 6, SENT_AGAIN_WHEN_PRUNED, &["was consumed twice"]),
    outside("Q1", "a ledger written apart from its effect", |p| p.sabotage.ledger_apart = true, 10, CHANCE, &["Q1: "]),
    outside(
        "Q2",
        "commands appended to what is Destroyed",
        |p| p.sabotage.late_commands = true,
        6,
        ASKED_WHEN_ALL_IS_OVER,
        &["is not consumed", "status of a Destroyed"],
    ),
    inside("commands", RefusesRelease, 10, CHANCE, &["a Release is consumed"]),
    inside("limits", HoldsTooLong, 6, HELD_FOR_LONG, &["longer than maxHold"]),
    inside("limits", OutlivesMaximum, 10, CHANCE, &["longer than maxTTL"]),
    inside("Q3", HoldEndsHold, 6, HELD_TWICE, &["Q3: "]),
    outside("D1", "no tombstones", |p| p.flaws.no_tombstones = true, 10, CHANCE, &["D1: "]),
    outside(
        "D2",
        "a teardown of whatever is on the slot",
        |p| p.flaws.tears_down_by_slot = true,
        6,
        RELEASED_BESIDE_ANOTHER,
        &["was torn down", "is not there"],
    ),
    outside(
        "L9, R8",
        "a teardown reported too early",
        |p| p.flaws.done_too_early = true,
        10,
        CHANCE,
        &["L9: ", "R8: "],
    ),
    inside("clocks", EarlyTimer, 10, CHANCE, &["released without a cause"]),
    outside("clocks", "a clock that is ahead", |p| p.early = Duration::from_secs(2), 10, CHANCE, &["before its time"]),
    inside(
        "clocks",
        LostRequeue,
        10,
        CHANCE,
        &[
            "deadline of a lease has passed",
            "deadline of a resource has passed",
            "was to go at",
            "does not come to rest",
            "rests in",
        ],
    ),
    inside("clocks", ForgetsClock, 10, CHANCE, &["a lease lives, and its end was at"]),
    inside("limits", CountsTheHealthy, 6, RELEASED_BUT_THERE, &["one more than"]),
    inside("queue", YoungestFirst, 10, CHANCE, &["overtaken in the queue"]),
    inside("queue", PlacesOtherwise, 6, PLACED_WHERE_IT_IS_FULL, &["placed as its Blueprint says"]),
    inside("ladder", GrantsPastTheFirst, 6, PASSED_OVER, &["passed over again and again"]),
    inside("ladder", BuildsTwice, 6, BUILT_ONCE, &["two are built for one lease"]),
    inside("ladder", ReclaimsTheFresh, 6, RECLAIMED_IN_TURN, &["another is idle for longer"]),
    inside("ladder", ReplacesTheYoungest, 6, REPLACED_IN_TURN, &["before one that is older"]),
    inside("steps", DropsReports, 10, CHANCE, &["its report was lost"]),
    inside("passes", PassPanics, 10, CHANCE, &["something panicked"]),
    inside("passes", PassGivesUp, 10, CHANCE, &["a pass failed by a defect, Unsettled"]),
    inside("passes", ControllerEnds, 10, CHANCE, &["ended by itself"]),
    inside(
        "caches",
        ListTakesNothing,
        6,
        GONE_BEFORE_IT_IS_SHOWN,
        &["could be served", "fewer are ready", "does not come to rest"],
    ),
];
