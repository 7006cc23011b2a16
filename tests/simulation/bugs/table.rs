//! The table: each rule of protocol.md, 2, and what else must not be done wrong; how it is broken; in what setting, and within
//! how many seeds, that is caught.
//!
//! L6 and R6's appending of commands fell away from the protocol: what is left of R6 stands under R6. Q2 is kept by the CRD, so
//! it is broken on the API server's side.

use super::{Change, Made, Row, Setting};
use crate::{scenes, stage::Scene};
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

const fn row(rule: &'static str, bug: Made, within: u64, setting: Setting) -> Row {
    Row { rule, bug, within, setting }
}

const fn inside(rule: &'static str, bug: Bug, within: u64, setting: Setting) -> Row {
    row(rule, Made::Inside(bug), within, setting)
}

const fn outside(rule: &'static str, what: &'static str, make: Change, within: u64, setting: Setting) -> Row {
    row(rule, Made::Outside(what, make), within, setting)
}

pub const TABLE: &[Row] = &[
    outside("G1", "a status write without resourceVersion", |p| p.sabotage.blind_status_writes = true, 10, CHANCE),
    outside(
        "G2",
        "finalizer changes and deletes without tests",
        |p| p.sabotage.blind_metadata_writes = true,
        10,
        CHANCE,
    ),
    inside("G3", ClaimWithoutUid, 10, CHANCE),
    inside("G3", ComparesNames, 6, A_NAMESAKE_COMES),
    inside("L1", NoFinalizer, 6, WANTED_BEFORE_IT_IS_THERE),
    inside("L1", ResourceWithoutFinalizer, 10, CHANCE),
    inside("L1", BlueprintWithoutFinalizer, 6, WANTED_BEFORE_IT_IS_THERE),
    inside("L2", BindsUnclaimed, 10, CHANCE),
    inside("L2", AnyAttempt, 6, AN_OLD_CLAIM_IS_SHOWN),
    inside("L3", StepBeforeRecord, 10, CHANCE),
    inside("L4", KeepsDeadClaim, 6, CLAIMED_BY_WHAT_GOES),
    inside("L5", AbsentResourceIsGone, 10, ROUGH),
    inside("L5", BackWithoutTeardown, 10, ROUGH),
    inside("L5", SameAttempt, 10, ROUGH),
    inside("L5, R6", NoticesNothing, 10, CHANCE),
    inside("L7", UnreadBeforeActivation, 6, BOUND_TO_WHAT_WENT_BY_FORCE),
    inside("L8", TearsDownHeld, 6, HELD_TWICE),
    inside("L9", DestroyedTooEarly, 10, CHANCE),
    inside("L9", LetsGoTooEarly, 10, CHANCE),
    inside("R1", UnreadBlueprint, 6, MADE_FOR_WHAT_IS_GONE),
    inside("R2", UnreadSlot, 6, GONE_BENEATH_ITS_LEASE),
    inside("R3", OneTooMany, 10, CHANCE),
    inside("R3, R6", GrantsWhenOver, 10, CHANCE),
    inside("R4a", DropsClaimOfWaiting, 10, CHANCE),
    inside("R4b", DropsClaimOfReleased, 10, CHANCE),
    inside("R4c", AbsentLeaseIsGone, 10, ROUGH),
    inside("R4c", DropsUntorn, 10, FORCEFUL),
    inside("R5", ServesTwice, 10, CHANCE),
    inside("R7", DrainsLeased, 10, CHANCE),
    inside("R7", ReclaimsLeased, 6, ASKED_TO_GO_WHILE_HELD),
    inside("R8", TearsDownClaimed, 10, CHANCE),
    inside("R8", ResourceStepBeforeRecord, 10, CHANCE),
    inside("B1", MakesTooEarly, 6, WANTED_BEFORE_IT_IS_THERE),
    inside("B1", AdoptsNamesake, 6, THE_SLOT_IS_TAKEN),
    inside("B2", BlueprintGoesFirst, 10, CHANCE),
    inside("B3", DeletesResources, 10, CHANCE),
    outside("B3, G2", "a Reclaim appended without tests", |p| p.sabotage.blind_appends = true, 6, NO_LONGER_IDLE),
    inside("Q1", OneCommandAWrite, 10, CHANCE),
    inside("Q1", ForgetsPruned, 6, SENT_AGAIN_WHEN_PRUNED),
    outside("Q1", "a ledger written apart from its effect", |p| p.sabotage.ledger_apart = true, 10, CHANCE),
    outside(
        "Q2",
        "commands appended to what is Destroyed",
        |p| p.sabotage.late_commands = true,
        6,
        ASKED_WHEN_ALL_IS_OVER,
    ),
    inside("Q3", HoldEndsHold, 6, HELD_TWICE),
    outside("D1", "no tombstones", |p| p.flaws.no_tombstones = true, 10, CHANCE),
    outside("D2", "a teardown of whatever is on the slot", |p| p.flaws.tears_down_by_slot = true, 10, CHANCE),
    outside("L9, R8", "a teardown reported too early", |p| p.flaws.done_too_early = true, 10, CHANCE),
    inside("clocks", EarlyTimer, 10, CHANCE),
    outside("clocks", "a clock that is ahead", |p| p.early = Duration::from_secs(2), 10, CHANCE),
    inside("clocks", LostRequeue, 10, CHANCE),
    inside("steps", DropsReports, 10, CHANCE),
    inside("limits", CountsTheHealthy, 6, RELEASED_BUT_THERE),
    inside("queue", YoungestFirst, 10, CHANCE),
    inside("queue", PlacesOtherwise, 10, CHANCE),
    inside("caches", ListTakesNothing, 6, GONE_BEFORE_IT_IS_SHOWN),
];
