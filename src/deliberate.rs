//! Bugs on purpose, one at a time, so that the simulation can be seen to catch them. Without the feature `deliberate-bugs`
//! none can be made, and all of this is compiled away.

/// Whether this bug is made on purpose now.
macro_rules! bug {
    ($bug:ident) => {
        $crate::deliberate::is_made($crate::deliberate::Bug::$bug)
    };
}

/// What can be done wrong: mostly a rule of the protocol left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// L1: nothing waits for the finalizer.
    NoFinalizer,
    /// L3: a step begins before what it rests on is on record.
    StepBeforeRecord,
    /// L4: a claim on a resource that is over is never given up.
    KeepsDeadClaim,
    /// L5: absent from the cache is taken for gone.
    AbsentResourceIsGone,
    /// L5: back to waiting without a teardown.
    BackWithoutTeardown,
    /// L5: back to waiting with the same attempt.
    SameAttempt,
    /// L5, R6: an active lease does not notice that its resource is over.
    NoticesNothing,
    /// L7: no quorum read before the first activation.
    UnreadBeforeActivation,
    /// L8: a hold does not hold the teardown up.
    TearsDownHeld,
    /// L9: Destroyed when the teardown has begun.
    DestroyedTooEarly,
    /// R1: no quorum read of the Blueprint before the build.
    UnreadBlueprint,
    /// R2: no quorum list of the leases on the slot.
    UnreadSlot,
    /// R3: one more than there is room for.
    OneTooMany,
    /// R4a: a claim is dropped because its lease looks Pending.
    DropsClaimOfWaiting,
    /// R4b: a claim is dropped because its lease is over.
    DropsClaimOfReleased,
    /// R4c: absent from the cache is taken for gone.
    AbsentLeaseIsGone,
    /// R4c: what a vanished lease left is not torn down.
    DropsUntorn,
    /// R5: what serves once is granted again.
    ServesTwice,
    /// R7: drains what is leased.
    DrainsLeased,
    /// R8: torn down beneath its leases.
    TearsDownClaimed,
    /// B2: a Blueprint goes by what the cache shows.
    BlueprintGoesFirst,
    /// G3: a claim without a UID.
    ClaimWithoutUid,
    /// Q1: one command a write.
    OneCommandAWrite,
    /// Q3: a Release with hold ends the hold.
    HoldEndsHold,
    /// A command that was pruned is forgotten.
    ForgetsPruned,
    /// L2: a claim for another attempt is taken up.
    AnyAttempt,
    /// A clock runs out early.
    EarlyTimer,
    /// When to look again is lost.
    LostRequeue,
    /// What is released or broken does not count towards the limit.
    CountsTheHealthy,
    /// The youngest is served first.
    YoungestFirst,
}

#[cfg(feature = "deliberate-bugs")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local!(static MADE: Cell<Option<Bug>> = const { Cell::new(None) });

    /// From now on this bug is made, on this thread.
    pub fn make(bug: Option<Bug>) {
        MADE.set(bug);
    }

    /// See `bug!`.
    pub fn is_made(bug: Bug) -> bool {
        MADE.get() == Some(bug)
    }
}

#[cfg(feature = "deliberate-bugs")]
pub use switch::{is_made, make};

/// See `bug!`.
#[cfg(not(feature = "deliberate-bugs"))]
pub const fn is_made(_: Bug) -> bool {
    false
}
