//! Bugs on purpose, one at a time, so that the simulation can be seen to catch them. Without the feature `deliberate-bugs`
//! none can be made, and all of this is compiled away.

/// Whether this bug is made on purpose now.
macro_rules! bug {
    ($bug:ident) => {
        $crate::deliberate::is_made($crate::deliberate::Bug::$bug)
    };
}

/// All of them, named once.
macro_rules! bugs {
    ($($(#[$what:meta])* $bug:ident,)*) => {
        /// What can be done wrong: mostly a rule of the protocol left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$what])* $bug,)*
        }

        impl Bug {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$bug),*];
        }
    };
}

bugs! {
    /// A resource is granted past a lease that needs its room, however often.
    GrantsPastTheFirst,
    /// L1: nothing waits for the finalizer.
    NoFinalizer,
    /// L1, for resources: they are made without the finalizer, and nothing waits for it.
    ResourceWithoutFinalizer,
    /// L1, for Blueprints: it is never put on.
    BlueprintWithoutFinalizer,
    /// L2: bound to a resource that does not claim it.
    BindsUnclaimed,
    /// L2: a claim for another attempt is taken up.
    AnyAttempt,
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
    /// L9: what could not be torn down is written off, and nobody has asked for it.
    ForgetsUnasked,
    /// L9: the finalizer goes before Destroyed is on record.
    LetsGoTooEarly,
    /// L9: the finalizer of what is Destroyed is left.
    KeepsDeleted,
    /// R1: no quorum read of the Blueprint before the build.
    UnreadBlueprint,
    /// R2: no quorum list of the leases on the slot.
    UnreadSlot,
    /// R3: one more than there is room for.
    OneTooMany,
    /// R3: room is taken for larger than the Blueprint says, and so it is told.
    CountsRoomTooHigh,
    /// R3, R6: what is over grants still.
    GrantsWhenOver,
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
    /// R7: a Reclaim takes what is leased.
    ReclaimsLeased,
    /// R8: torn down beneath its leases.
    TearsDownClaimed,
    /// R8: a step begins before what it rests on is on record.
    ResourceStepBeforeRecord,
    /// B1: resources are made before the Blueprint was seen with its finalizer.
    MakesTooEarly,
    /// B1: whoever has the slot is taken for one's own.
    AdoptsNamesake,
    /// B2: a Blueprint goes by what the cache shows.
    BlueprintGoesFirst,
    /// B3: a Blueprint deletes its resources.
    DeletesResources,
    /// A lease's pass writes the status of its resource.
    WritesAnother,
    /// A Blueprint is changed.
    ChangesBlueprint,
    /// A Blueprint that is suspended is deleted.
    DeletesBlueprint,
    /// G3: a claim without a UID.
    ClaimWithoutUid,
    /// G3: references are compared by name.
    ComparesNames,
    /// Q1: one command a write.
    OneCommandAWrite,
    /// Q3: a Release with hold ends the hold.
    HoldEndsHold,
    /// A Release is refused, though it is there to be obeyed.
    RefusesRelease,
    /// `maxHold` is not kept to.
    HoldsTooLong,
    /// `maxTTL` is not kept to.
    OutlivesMaximum,
    /// A command that was pruned is forgotten.
    ForgetsPruned,
    /// A clock runs out early.
    EarlyTimer,
    /// What came of a step is lost where its pass began before it ended.
    DropsReports,
    /// When to look again is lost.
    LostRequeue,
    /// The end of a lease that is active is neither recorded nor looked at.
    ForgetsClock,
    /// What is released or broken does not count towards the limit.
    CountsTheHealthy,
    /// The youngest is served first.
    YoungestFirst,
    /// The emptiest where the fullest is wanted, and the other way round.
    PlacesOtherwise,
    /// What is built for a lease already is not looked at.
    BuildsTwice,
    /// What was used last is reclaimed first.
    ReclaimsTheFresh,
    /// The youngest is replaced first.
    ReplacesTheYoungest,
    /// What a list does not have any more is taken to be there still.
    ListTakesNothing,
    /// A pass panics now and then, and the next does not.
    PassPanics,
    /// A pass gives up now and then, and the next does not.
    PassGivesUp,
    /// The controller ends when it has begun.
    ControllerEnds,
}

#[cfg(feature = "deliberate-bugs")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static MADE: Cell<Option<Bug>> = const { Cell::new(None) };
        static WAS_MADE: Cell<bool> = const { Cell::new(false) };
    }

    /// From now on this bug is made, on this thread.
    pub fn make(bug: Option<Bug>) {
        MADE.set(bug);
        WAS_MADE.set(false);
    }

    /// See `bug!`.
    pub fn is_made(bug: Bug) -> bool {
        let made = MADE.get() == Some(bug);
        WAS_MADE.set(WAS_MADE.get() || made);
        made
    }

    /// Whether the place was reached where the present bug is made: one that has none is no bug.
    pub fn was_made() -> bool {
        WAS_MADE.get()
    }
}

#[cfg(feature = "deliberate-bugs")]
pub use switch::{is_made, make, was_made};

/// See `bug!`.
#[cfg(not(feature = "deliberate-bugs"))]
pub const fn is_made(_: Bug) -> bool {
    false
}
