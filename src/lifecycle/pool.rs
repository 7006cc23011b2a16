//! The resources of one Blueprint: which slots are vacant, what each resource counts as, and whether it has room.

use super::{commands, is_deleting};
use crate::api::{
    Blueprint, Claim, Lease, LeasePhase, Resource, ResourcePhase,
    blueprint::{Recycle, ResourceCounts},
    step::Slot,
};

/// What a resource counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Being built.
    Pending,
    /// Active, without a claim.
    Idle,
    /// Active, with a claim.
    Leased,
    /// Released, not yet destroyed.
    Released,
    /// Broken, not yet destroyed.
    Broken,
    /// Destroyed: counts no more.
    Destroyed,
}

/// What this resource counts as.
pub fn bucket(resource: &Resource) -> Bucket {
    match resource.phase() {
        ResourcePhase::Pending => Bucket::Pending,
        ResourcePhase::Active if resource.claims().is_empty() => Bucket::Idle,
        ResourcePhase::Active => Bucket::Leased,
        ResourcePhase::Released => Bucket::Released,
        ResourcePhase::Broken => Bucket::Broken,
        ResourcePhase::Destroyed => Bucket::Destroyed,
    }
}

/// Counts one more of a bucket, or with `-1` one less.
pub fn count(counts: &mut ResourceCounts, bucket: Bucket, by: i64) {
    match bucket {
        Bucket::Pending => counts.pending += by,
        Bucket::Idle => {
            counts.idle += by;
            counts.active += by;
        }
        Bucket::Leased => {
            counts.leased += by;
            counts.active += by;
        }
        Bucket::Released => counts.released += by,
        Bucket::Broken => counts.broken += by,
        Bucket::Destroyed => {}
    }
}

/// How many there are that are not yet destroyed: what `maxResources` limits.
pub fn live(counts: &ResourceCounts) -> i64 {
    counts.pending + counts.active + counts.released + counts.broken
}

/// How a resource stands to its slot in the Blueprint as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It is what the Blueprint asks for.
    Current,
    /// Its entry was removed or disabled, or is another Blueprint's.
    Disabled,
    /// Its entry was changed.
    Outdated,
}

/// How this resource stands to its slot. `slot` is its entry, where the driver lists entries; a counted pool has none,
/// and its resources are always current here.
pub fn slot_state(resource: &Resource, slots: Option<&[Slot]>) -> SlotState {
    let Some(slots) = slots else { return SlotState::Current };
    match slots.iter().find(|slot| Some(slot.name.as_str()) == resource.slot()) {
        Some(slot) if !slot.enabled => SlotState::Disabled,
        Some(slot) if resource.spec.template_hash.as_ref() != Some(&slot.template_hash) => SlotState::Outdated,
        Some(_) => SlotState::Current,
        None => SlotState::Disabled,
    }
}

/// R4a and b: the lease of a claim is seen Destroyed, moved on to a later attempt, or bound elsewhere at this one.
pub fn has_ended(claim: &Claim, lease: &Lease, resource_uid: &str) -> bool {
    let elsewhere = lease.resource_ref().is_some_and(|r| r.uid != resource_uid);
    lease.phase() == LeasePhase::Destroyed
        || lease.attempt() > claim.attempt
        || (elsewhere && lease.attempt() >= claim.attempt)
}

/// R3, as far as the resource and its Blueprint can say: how many more leases may be granted, where `held` of its claims
/// have not ended. The matcher and the resource's own pass both ask here, so that what the one offers the other takes.
pub fn room(resource: &Resource, blueprint: &Blueprint, slot: SlotState, held: usize) -> usize {
    let Some(status) = &resource.status else { return 0 };
    let may_grant = resource.phase() == ResourcePhase::Active
        && !is_deleting(&resource.metadata)
        && commands::unconsumed(&resource.spec.commands, &status.commands).next().is_none()
        && grants(blueprint, slot)
        && !(status.served && blueprint.spec.lease.recycle == Recycle::Destroy);
    let capacity = usize::try_from(blueprint.spec.limits.leases_per_resource).unwrap_or(1);
    if may_grant { capacity.saturating_sub(held) } else { 0 }
}

/// Whether a Blueprint grants resources in this state at all.
pub fn grants(blueprint: &Blueprint, slot: SlotState) -> bool {
    !blueprint.spec.suspend && !is_deleting(&blueprint.metadata) && slot == SlotState::Current
}
