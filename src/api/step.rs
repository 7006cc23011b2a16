//! The plain values that pass between `lifecycle` and `driver`, which know nothing of each other: which step is wanted,
//! on what, and what came of it.

use super::{
    common::{Failure, Interface, Wish},
    lease::LeaseSpec,
    resource::Claim,
    time::{Duration, MicroTime},
};
use std::collections::BTreeMap;

/// One place for a resource that a Blueprint has, as its driver lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its name: the second half of the Resource's name.
    pub name: String,
    /// What selectors of leases see.
    pub attributes: BTreeMap<String, String>,
    /// What a resource in it is built from, in short.
    pub template_hash: String,
    /// False: nothing new is built in it or granted on it, and what is there is drained.
    pub enabled: bool,
    /// True: an older Blueprint lists what stands there too, and offers it; so this one is not enabled.
    pub taken: bool,
    /// What stands there in the world, where two Blueprints could mean the same (`HostTaken`).
    pub identity: Option<String>,
}

/// The key of an effect outside (protocol.md, D1): what is done once under it is done, and what is torn down under it
/// stays so, however late a call arrives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectKey {
    /// The UID of the resource.
    pub resource: String,
    /// The lease's UID and attempt, for a step of a lease.
    pub lease: Option<(String, i64)>,
}

impl EffectKey {
    /// The key of the resource's own steps.
    pub fn of_resource(uid: &str) -> Self {
        Self { resource: uid.to_owned(), lease: None }
    }

    /// The key of the steps of the lease that holds this claim.
    pub fn of_claim(resource_uid: &str, claim: &Claim) -> Self {
        Self { resource: resource_uid.to_owned(), lease: Some((claim.uid.clone(), claim.attempt)) }
    }
}

/// The steps of a driver that change the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepKind {
    /// Makes the resource.
    Build,
    /// Makes the resource ready for a lease.
    Activate,
    /// Removes what the lease left.
    TearDownLease,
    /// Removes the resource.
    TearDownResource,
}

impl StepKind {
    /// The word for conditions, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Build => "Build",
            Self::Activate => "Activate",
            Self::TearDownLease => "TearDownLease",
            Self::TearDownResource => "TearDownResource",
        }
    }
}

/// A step that is wanted. It stays wanted until its report is taken into account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// What is to be done.
    pub kind: StepKind,
    /// Under which key.
    pub key: EffectKey,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done, with these facts.
    Done(Facts),
    /// It goes on outside; ask again.
    Again(Wait),
    /// It needs this lease beneath it first. No driver of today does.
    Need(Box<LeaseSpec>),
    /// It failed, and trying again may help.
    Failed(Failure),
    /// It failed for good.
    FailedForGood(Failure),
}

/// A step that goes on outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    /// Ask again after so long; what is new below is put on record first.
    pub after: Duration,
    /// What it waits for, in a sentence; empty: there is nothing to tell.
    pub why: String,
    /// What a teardown needs by now, where that is more than is on record: the step goes on only when it is.
    pub built: Option<serde_json::Value>,
    /// The driver's bookkeeping from now on; `None` leaves it as it is.
    pub storage: Option<Storage>,
    /// What the API server has warned of since the last answer: each is published as an Event.
    pub warnings: Vec<String>,
}

/// A driver's bookkeeping, `status.storage`: it may read it in any step, and replace it as a whole; nobody else writes it.
pub type Storage = BTreeMap<String, String>;

impl Wait {
    /// Ask again after so long; there is nothing to tell.
    pub fn after(after: Duration) -> Self {
        Self { after, why: String::new(), built: None, storage: None, warnings: Vec::new() }
    }
}

/// How the environment of an active resource, or of an active lease, is by now, as its driver sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Why it is not as it should be; `None`: it is.
    pub lost: Option<String>,
    /// It cannot become again as it should be.
    pub for_good: bool,
    /// What somebody has changed of it, told once; it is left so.
    pub changed: Vec<String>,
    /// What of it is gone though nothing is lost by that, told once.
    pub gone: Vec<String>,
    /// Where nothing tells of changes: when to look again.
    pub look_again: Option<Duration>,
}

/// A step and what came of it, with how often it has failed in a row, this time included.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The step.
    pub step: Step,
    /// What came of it.
    pub answer: Answer,
    /// How often it has failed in a row; 0 where it did not.
    pub failures: u32,
    /// Where it failed: when it is tried again.
    pub retry_at: Option<MicroTime>,
}

/// What a driver knows after a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The ways into the environment.
    pub interfaces: Vec<Interface>,
    /// Facts for the lease.
    pub outputs: BTreeMap<String, String>,
    /// Everything that a teardown needs; `None` leaves what is recorded.
    pub built: Option<serde_json::Value>,
    /// The driver's bookkeeping from now on; `None` leaves it as it is.
    pub storage: Option<Storage>,
    /// As [`Wait::warnings`].
    pub warnings: Vec<String>,
}

/// What a driver answers to the question whether a deadline that has come is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Expire,
    /// Not yet, and why.
    Decline(String),
}

/// The moments of a lease at which a driver may have a resource's clocks moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// It was granted the resource.
    DidAcquire,
    /// The resource is free of it again.
    DidRelease,
}

/// One call of a hook: it takes effect once, in the write that grants, or that drops the claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookCall {
    /// Which.
    pub kind: HookKind,
    /// For which lease, on which resource.
    pub key: EffectKey,
}

/// What a hook wants moved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moves {
    /// The resource's end from now on, as an `Expires` would set it.
    pub expires: Option<Wish>,
    /// The driver's bookkeeping on the resource from now on.
    pub storage: Option<Storage>,
}

/// Which steps of a driver, for one Blueprint, are free of effects outside: only those may be taken inside one write
/// (design.md, 6; protocol.md, L3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreeSteps {
    /// [`StepKind::Build`].
    pub build: bool,
    /// [`StepKind::Activate`].
    pub activate: bool,
    /// [`StepKind::TearDownLease`].
    pub tear_down_lease: bool,
    /// [`StepKind::TearDownResource`].
    pub tear_down_resource: bool,
}

impl FreeSteps {
    /// Nothing that the driver does has an effect outside.
    pub const ALL: Self = Self { build: true, activate: true, tear_down_lease: true, tear_down_resource: true };

    /// Whether this step is free.
    pub fn contains(self, kind: StepKind) -> bool {
        match kind {
            StepKind::Build => self.build,
            StepKind::Activate => self.activate,
            StepKind::TearDownLease => self.tear_down_lease,
            StepKind::TearDownResource => self.tear_down_resource,
        }
    }
}
