//! The resources of one Blueprint: which slots are vacant, what each resource counts as, and whether it has room.

use super::{commands, conditions, health, is_deleting, teardown};
use crate::api::{
    Blueprint, Claim, Command, CommandType, Duration, Lease, LeasePhase, MicroTime, Outcome, Resource, ResourcePhase,
    blueprint::ResourceCounts, step::Slot,
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

/// What the last step of a resource failed with, in its driver's words.
pub fn failure(resource: &Resource) -> Option<&str> {
    Some(resource.status.as_ref()?.failure.as_ref()?.message.as_str())
}

/// Since when nobody holds a resource that is idle.
pub fn idle_since(resource: &Resource) -> MicroTime {
    let status = resource.status.as_ref();
    let since = status.and_then(|s| s.idle_since.or(s.activated_at));
    since.unwrap_or_else(|| MicroTime::from(jiff::Timestamp::UNIX_EPOCH))
}

/// A `Reclaim` that was refused is not repeated sooner than this after it could be granted.
const RECLAIM_MARGIN: Duration = Duration::from_secs(5);

/// What the ids of the controller's own `Reclaim`s begin with.
const RECLAIM_ID: &str = "reclaim-";

/// From when on an idle resource may be asked to go: `after` it became idle. Where a `Reclaim` of a controller was refused in that
/// time already (one of a user says nothing of clocks), whoever consumed it has a clock that is behind ours by as much as it refused it too early; so it is asked again
/// when that clock, too, has come there.
pub fn reclaimable_at(resource: &Resource, after: Duration) -> MicroTime {
    let at = idle_since(resource).after(after);
    let Some(refused) = refused_reclaim(resource).filter(|refused| *refused < at) else { return at };
    let behind = at.timestamp().duration_since(refused.timestamp()).as_secs().saturating_add(1);
    at.after(Duration::from_secs(behind)).after(RECLAIM_MARGIN)
}

/// When a `Reclaim` of a controller was refused last, since nobody holds the resource.
pub fn refused_reclaim(resource: &Resource) -> Option<MicroTime> {
    let since = idle_since(resource);
    let ledger = resource.status.as_ref().map(|s| s.commands.as_slice()).unwrap_or_default();
    let refused = ledger.iter().filter(|entry| {
        entry.type_ == CommandType::Reclaim
            && entry.id.starts_with(RECLAIM_ID)
            && entry.outcome == Outcome::Refused
            && entry.observed_at >= since
    });
    refused.map(|entry| entry.observed_at).max()
}

/// Whether a resource is going, and its slot will be vacant: it is over, and its teardown does not fail; or nobody holds it,
/// and it is asked to go.
pub fn makes_room(resource: &Resource) -> bool {
    let conditions = resource.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    match bucket(resource) {
        Bucket::Released | Bucket::Broken => !teardown::is_failing(conditions),
        Bucket::Idle => {
            is_deleting(&resource.metadata)
                || is_asked(resource, CommandType::Release)
                || is_asked(resource, CommandType::Reclaim)
        }
        Bucket::Pending | Bucket::Leased | Bucket::Destroyed => false,
    }
}

/// What keeps a resource from serving anybody, and does not pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is over, and its teardown fails.
    Stuck,
    /// Nobody holds it, and something of it is lost.
    Lost,
}

/// See [`Trouble`].
pub fn trouble(resource: &Resource) -> Option<Trouble> {
    let conditions = resource.status.as_ref()?.conditions.as_slice();
    match bucket(resource) {
        Bucket::Released | Bucket::Broken => teardown::is_failing(conditions).then_some(Trouble::Stuck),
        Bucket::Idle => health::is_lost(conditions).then_some(Trouble::Lost),
        Bucket::Pending | Bucket::Leased | Bucket::Destroyed => None,
    }
}

/// Whether it goes because it was reclaimed.
pub fn is_reclaimed(resource: &Resource) -> bool {
    let conditions = resource.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    match bucket(resource) {
        Bucket::Released => conditions::true_reason(conditions, "Released") == Some("Reclaimed"),
        Bucket::Idle => is_asked(resource, CommandType::Reclaim),
        Bucket::Pending | Bucket::Leased | Bucket::Broken | Bucket::Destroyed => false,
    }
}

fn is_asked(resource: &Resource, type_: CommandType) -> bool {
    let ledger = resource.status.as_ref().map(|s| s.commands.as_slice()).unwrap_or_default();
    commands::unconsumed(&resource.spec.commands, ledger).any(|command| command.type_ == type_)
}

/// The `Reclaim` of a resource for a waiting lease. Its id is made from its cause, so that two controllers append one; where
/// one was refused, since somebody was faster, the next is another.
pub fn reclaim(resource: &Resource, lease: &Lease) -> Command {
    let uid = super::uid(&lease.metadata);
    let ledger = resource.status.as_ref().map(|s| s.commands.as_slice()).unwrap_or_default();
    let is_used = |id: &str| {
        ledger.iter().any(|entry| entry.id == id) || resource.spec.commands.iter().any(|command| command.id == id)
    };
    let numbered = (2..).map(|n| format!("{RECLAIM_ID}{uid}-{n}"));
    let mut ids = std::iter::once(format!("{RECLAIM_ID}{uid}")).chain(numbered);
    let name = lease.metadata.name.as_deref().unwrap_or_default();
    let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
    let why = format!("the Lease {namespace}/{name} needs its room");
    Command {
        id: ids.find(|id| !is_used(id)).unwrap_or_default(),
        type_: CommandType::Reclaim,
        reason: Some(commands::shorten(why, 256)),
        issued_by: None,
        hold: None,
        at: None,
        after: None,
        never: None,
    }
}

/// Whether the Idle clock of a resource that nobody holds runs (api.md, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleClock {
    /// Since nobody holds it.
    Runs,
    /// Not before: then the pool came to have more than `minReady`.
    RunsFrom(MicroTime),
    /// It is one of the `minReady` that the pool keeps.
    Cleared,
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
    if bug!(CountsTheHealthy) {
        return counts.pending + counts.active;
    }
    counts.pending + counts.active + counts.released + counts.broken
}

/// How a resource stands to its slot in the Blueprint as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It is what the Blueprint asks for.
    Current,
    /// Its entry was removed or disabled.
    Disabled,
    /// Its entry is an older Blueprint's, which lists the same machine.
    Taken,
    /// Its entry was changed.
    Outdated,
    /// There are more than `maxResources`, and it is one of those that nobody holds.
    Surplus,
}

/// How this resource stands to its slot. `slot` is its entry, where the driver lists entries; a counted pool has none,
/// and its resources are always current here.
pub fn slot_state(resource: &Resource, slots: Option<&[Slot]>) -> SlotState {
    let Some(slots) = slots else { return SlotState::Current };
    match slots.iter().find(|slot| Some(slot.name.as_str()) == resource.slot()) {
        Some(slot) if slot.taken => SlotState::Taken,
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
        || (bug!(DropsClaimOfReleased) && lease.phase() == LeasePhase::Released)
        || (bug!(DropsClaimOfWaiting) && lease.phase() == LeasePhase::Pending)
        || lease.attempt() > claim.attempt
        || (elsewhere && lease.attempt() >= claim.attempt)
}

/// R3, as far as the resource and its Blueprint can say: how many more leases may be granted, where `held` of its claims
/// have not ended. The matcher and the resource's own pass both ask here, so that what the one offers the other takes.
pub fn room(resource: &Resource, blueprint: &Blueprint, slot: SlotState, held: usize) -> usize {
    let Some(status) = &resource.status else { return 0 };
    let may_grant = (resource.phase() == ResourcePhase::Active || bug!(GrantsWhenOver))
        && !is_deleting(&resource.metadata)
        && !health::is_lost(&status.conditions)
        && commands::unconsumed(&resource.spec.commands, &status.commands).next().is_none()
        && grants(blueprint, slot)
        && !status.served;
    let capacity = usize::try_from(capacity(blueprint, status.capacity, held)).unwrap_or(1)
        + usize::from(bug!(OneTooMany) || bug!(CountsRoomTooHigh));
    if may_grant { capacity.saturating_sub(held) } else { 0 }
}

/// How many leases a resource may hold, where `recorded` is its `status.capacity` (0: none yet) and `held` of its claims have not
/// ended. A limit that is raised counts for resources that are built afterwards: what is leased stays as isolated as it was when it
/// was leased. A host is not built anew; for one the limit counts once nobody holds it.
pub fn capacity(blueprint: &Blueprint, recorded: i64, held: usize) -> i64 {
    let limit = blueprint.spec.limits.leases_per_resource;
    let may_rise = recorded == 0 || (held == 0 && blueprint.spec.driver.hosts.is_some());
    if may_rise { limit } else { recorded.min(limit) }
}

/// Whether a Blueprint grants resources in this state at all.
pub fn grants(blueprint: &Blueprint, slot: SlotState) -> bool {
    !blueprint.spec.suspend && !is_deleting(&blueprint.metadata) && slot == SlotState::Current && is_sound(blueprint)
}

/// Where the expression stands that has a say at deadlines; what is told of it begins with that.
pub const UNLESS: &str = "spec.expiry.unless";

/// What its driver found wrong with a Blueprint, where nothing can be built from it.
pub fn unsound(blueprint: &Blueprint) -> Option<&str> {
    let ready = conditions::get(&blueprint.status.as_ref()?.conditions, "Ready")?;
    let unsound = match ready.reason.as_str() {
        "InvalidExpression" => true,
        // An `unless` that does not answer declines nothing (api.md, 6); what is built and granted does not depend on it.
        "ExpressionTooSlow" => !ready.message.starts_with(UNLESS),
        _ => false,
    };
    unsound.then_some(ready.message.as_str())
}

/// Whether its driver found nothing wrong with a Blueprint, so far.
pub fn is_sound(blueprint: &Blueprint) -> bool {
    unsound(blueprint).is_none()
}

/// Whether its driver has looked at a Blueprint as it is now, where there is something to look at: expressions.
pub fn is_judged(blueprint: &Blueprint) -> bool {
    let seen = blueprint.status.as_ref().and_then(|s| s.observed_generation);
    let has_expressions = blueprint.spec.driver.objects.is_some() || blueprint.spec.expiry.is_some();
    !has_expressions || seen == blueprint.metadata.generation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ResourceStatus, lease::ResourceRef},
        lifecycle::testing::*,
    };

    fn in_phase(phase: ResourcePhase) -> Resource {
        let mut resource = resource("");
        resource.status = Some(ResourceStatus { phase: Some(phase.into()), ..ResourceStatus::default() });
        resource
    }

    fn claim(attempt: i64) -> Claim {
        let (namespace, name, uid) = ("team".into(), "l".into(), "uid-of-l".into());
        Claim { namespace, name, uid, attempt, since: at(0) }
    }

    /// Each resource counts once, until it is destroyed: what `maxResources` limits.
    #[test]
    fn a_resource_counts_until_it_is_destroyed() {
        use ResourcePhase::{Active, Broken, Destroyed, Pending, Released};
        let zero = ResourceCounts::default();
        for (phase, claims, expected, counted) in [
            (Pending, 0, Bucket::Pending, ResourceCounts { pending: 1, ..zero }),
            (Active, 0, Bucket::Idle, ResourceCounts { active: 1, idle: 1, ..zero }),
            (Active, 2, Bucket::Leased, ResourceCounts { active: 1, leased: 1, ..zero }),
            (Released, 1, Bucket::Released, ResourceCounts { released: 1, ..zero }),
            (Broken, 0, Bucket::Broken, ResourceCounts { broken: 1, ..zero }),
            (Destroyed, 0, Bucket::Destroyed, zero),
        ] {
            let mut resource = in_phase(phase);
            resource.status.get_or_insert_default().claims = vec![claim(0); claims];
            assert_eq!(bucket(&resource), expected, "{phase:?}");
            let mut counts = zero;
            count(&mut counts, expected, 1);
            assert_eq!(counts, counted, "{phase:?}");
            assert_eq!(live(&counts), i64::from(phase != Destroyed), "{phase:?}");
            count(&mut counts, expected, -1);
            assert_eq!(counts, zero, "{phase:?}");
        }
        assert_eq!(bucket(&resource("")), Bucket::Pending, "no status yet reads as Pending");
    }

    /// Against the entry that its name says it was made from.
    #[test]
    fn how_a_resource_stands_to_its_slot() {
        let slot = |name: &str, hash: &str, enabled| Slot {
            name: name.into(),
            template_hash: hash.into(),
            enabled,
            ..Slot::default()
        };
        let resource = resource("templateHash: abc");
        for (slots, expected) in [
            (None, SlotState::Current),
            (Some(vec![slot("h1", "abc", true)]), SlotState::Current),
            (Some(vec![slot("h0", "xyz", false), slot("h1", "abc", true)]), SlotState::Current),
            (Some(vec![slot("h1", "abc", false)]), SlotState::Disabled),
            (Some(vec![slot("h1", "xyz", false)]), SlotState::Disabled),
            (Some(vec![slot("h1", "xyz", true)]), SlotState::Outdated),
            (Some(vec![Slot { taken: true, ..slot("h1", "abc", false) }]), SlotState::Taken),
            (Some(vec![slot("h2", "abc", true)]), SlotState::Disabled),
            (Some(vec![slot("ci--h1", "abc", true)]), SlotState::Disabled),
            (Some(vec![]), SlotState::Disabled),
        ] {
            assert_eq!(slot_state(&resource, slots.as_deref()), expected, "{slots:?}");
        }
        let mut by_hand = resource;
        by_hand.metadata.name = Some("other--h1".into());
        assert_eq!(slot_state(&by_hand, Some(&[slot("h1", "abc", true)])), SlotState::Disabled);
    }

    /// What makes room for others, and what is reclaimed to do so.
    #[test]
    fn what_makes_room() {
        use ResourcePhase::{Active, Broken, Destroyed, Pending, Released};
        let failing = |resource: &mut Resource| {
            let status = resource.status.get_or_insert_default();
            conditions::set(&mut status.conditions, at(0), "TornDown", conditions::Truth::False, "TeardownFailed", "");
        };
        let reclaimed = |resource: &mut Resource| {
            let status = resource.status.get_or_insert_default();
            conditions::set(&mut status.conditions, at(0), "Released", conditions::Truth::True, "Reclaimed", "");
        };
        let asked =
            |text: &'static str| move |resource: &mut Resource| resource.spec.commands = vec![command("c", text)];
        type Change<'a> = &'a dyn Fn(&mut Resource);
        let rows: [(ResourcePhase, Change<'_>, bool, bool); 13] = [
            (Pending, &|_| {}, false, false),
            (Pending, &asked("Release"), false, false),
            (Active, &|_| {}, false, false),
            (Active, &asked("Expires, never: true"), false, false),
            (Active, &asked("Release"), true, false),
            (Active, &asked("Reclaim"), true, true),
            (Active, &|r| delete(&mut r.metadata), true, false),
            (Active, &|r| r.status.get_or_insert_default().claims = vec![claim(0)], false, false),
            (Released, &|_| {}, true, false),
            (Released, &reclaimed, true, true),
            (Released, &failing, false, false),
            (Broken, &|_| {}, true, false),
            (Destroyed, &|_| {}, false, false),
        ];
        for (n, (phase, change, makes, by_reclaim)) in rows.into_iter().enumerate() {
            let mut resource = in_phase(phase);
            change(&mut resource);
            assert_eq!((makes_room(&resource), is_reclaimed(&resource)), (makes, by_reclaim), "row {n}: {phase:?}");
        }
    }

    /// Two controllers make the same; one that was refused is not taken for the next.
    #[test]
    fn the_command_that_reclaims() {
        let mut resource = in_phase(ResourcePhase::Active);
        let (lease, other) = (lease("l", ""), lease("m", ""));
        assert_eq!(reclaim(&resource, &lease).id, "reclaim-uid-of-l");
        assert_eq!(reclaim(&resource, &lease), reclaim(&resource, &lease));
        assert_eq!(reclaim(&resource, &lease).reason.as_deref(), Some("the Lease team/l needs its room"));
        resource.spec.commands.push(reclaim(&resource, &lease));
        assert_eq!(reclaim(&resource, &lease).id, "reclaim-uid-of-l-2");
        assert_eq!(reclaim(&resource, &other).id, "reclaim-uid-of-m");
        let refused = std::mem::take(&mut resource.spec.commands);
        let ledger = &mut resource.status.get_or_insert_default().commands;
        commands::record(ledger, &refused, &refused[0], commands::refused("it was used"), at(1));
        assert_eq!(reclaim(&resource, &lease).id, "reclaim-uid-of-l-2", "nor one that was pruned since");
        assert_eq!(reclaim(&resource, &other).id, "reclaim-uid-of-m");
    }

    /// Since when nobody holds it: as recorded, or since there is something to hold.
    #[test]
    fn since_when_a_resource_is_idle() {
        let mut resource = in_phase(ResourcePhase::Active);
        assert!(idle_since(&resource) < at(0));
        resource.status.get_or_insert_default().activated_at = Some(at(10));
        assert_eq!(idle_since(&resource), at(10));
        resource.status.get_or_insert_default().idle_since = Some(at(20));
        assert_eq!(idle_since(&resource), at(20));
    }

    /// Idle since 20 s, with a grace of 60 s. A clock that refused it too early is given as long again, and five seconds.
    #[test]
    fn when_a_resource_may_be_reclaimed() {
        use CommandType::{Reclaim, Release};
        for (id, type_, outcome, observed, expected) in [
            ("reclaim-l", Reclaim, Outcome::Refused, 70, 80 + 10 + 1 + 5),
            ("reclaim-l", Reclaim, Outcome::Refused, 20, 80 + 60 + 1 + 5),
            ("reclaim-l", Reclaim, Outcome::Refused, 80, 80),
            ("reclaim-l", Reclaim, Outcome::Refused, 19, 80),
            ("reclaim-l", Reclaim, Outcome::Ignored, 70, 80),
            ("reclaim-l", Release, Outcome::Refused, 70, 80),
            ("by-a-user", Reclaim, Outcome::Refused, 70, 80),
        ] {
            let mut resource = in_phase(ResourcePhase::Active);
            let status = resource.status.get_or_insert_default();
            status.idle_since = Some(at(20));
            status.commands = vec![crate::api::LedgerEntry {
                id: id.into(),
                type_,
                outcome,
                message: String::new(),
                observed_at: at(observed),
                issued_by: None,
            }];
            assert_eq!(reclaimable_at(&resource, Duration::from_secs(60)), at(expected), "{id} {type_:?} {observed}");
        }
    }

    /// R4a and R4b, of a claim for the attempt 2. The whole of it is in the tables of a resource.
    #[test]
    fn a_claim_ends_with_its_lease() {
        use LeasePhase::{Acquired, Destroyed, Pending, Released};
        for (phase, attempt, bound_to, expected) in [
            (Destroyed, 2, Some("r"), true),
            (Pending, 3, None, true),
            (Acquired, 2, Some("another"), true),
            (Acquired, 1, Some("another"), false),
            (Acquired, 2, Some("r"), false),
            (Released, 2, Some("r"), false),
            (Pending, 2, None, false),
        ] {
            let mut lease = lease("l", "");
            let status = lease.status.get_or_insert_default();
            (status.phase, status.attempt) = (Some(phase.into()), attempt);
            status.resource_ref =
                bound_to.map(|uid| ResourceRef { namespace: "pools".into(), name: "ci--h1".into(), uid: uid.into() });
            assert_eq!(has_ended(&claim(2), &lease, "r"), expected, "{phase:?} {attempt} {bound_to:?}");
        }
        assert!(!has_ended(&claim(0), &lease("l", ""), "r"), "no status yet reads as Pending, attempt 0");
    }

    /// What its driver has found, as it is on record; only for drivers with something to find is that waited for.
    #[test]
    fn nothing_is_built_from_what_is_not_sound_or_not_looked_at() {
        let of = |driver: &str, seen: Option<i64>, reason: &str| {
            let mut blueprint = blueprint("limits: {maxResources: 1}");
            blueprint.spec.driver = yaml(driver);
            blueprint.metadata.generation = Some(2);
            let status = blueprint.status.get_or_insert_default();
            status.observed_generation = seen;
            if !reason.is_empty() {
                let (reason, message) = reason.split_once(' ').unwrap_or((reason, "why"));
                conditions::set(&mut status.conditions, at(0), "Ready", conditions::Truth::False, reason, message);
            }
            (is_judged(&blueprint), is_sound(&blueprint), unsound(&blueprint).map(str::to_owned))
        };
        let (hosts, objects) = ("hosts: {inventory: []}", "objects: {serviceAccountName: a}");
        let why = || Some("why".to_owned());
        for (driver, seen, reason, expected) in [
            (hosts, None, "", (true, true, None)),
            (objects, None, "", (false, true, None)),
            (objects, Some(1), "", (false, true, None)),
            (objects, Some(2), "", (true, true, None)),
            (objects, Some(2), "BuildFailing", (true, true, None)),
            (objects, Some(2), "Suspended", (true, true, None)),
            (objects, Some(2), "InvalidExpression", (true, false, why())),
            (objects, Some(2), "ExpressionTooSlow", (true, false, why())),
            // Nobody builds or grants by what has a say at deadlines only.
            (hosts, Some(2), "ExpressionTooSlow spec.expiry.unless: why", (true, true, None)),
            (
                hosts,
                Some(2),
                "InvalidExpression spec.expiry.unless: why",
                (true, false, Some("spec.expiry.unless: why".to_owned())),
            ),
            // It was changed since; it counts as it was until it is looked at.
            (objects, Some(1), "InvalidExpression", (false, false, why())),
        ] {
            assert_eq!(of(driver, seen, reason), expected, "{driver} {seen:?} {reason}");
        }
    }

    /// R3: each condition left out in turn leaves no room. What the matcher offers here the resource's own pass takes.
    #[test]
    fn there_is_room_only_where_a_lease_may_be_granted() {
        type Change = fn(&mut Resource, &mut Blueprint);
        let changes: [(&str, Change); 11] = [
            ("no status yet", |resource, _| resource.status = None),
            ("Pending", |resource, _| *resource = in_phase(ResourcePhase::Pending)),
            ("Released", |resource, _| *resource = in_phase(ResourcePhase::Released)),
            ("Broken", |resource, _| *resource = in_phase(ResourcePhase::Broken)),
            ("deleted", |resource, _| delete(&mut resource.metadata)),
            ("an unconsumed command", |resource, _| {
                resource.spec.commands.push(command("c", "Expires, never: true"));
            }),
            ("suspended", |_, blueprint| blueprint.spec.suspend = true),
            ("a deleted Blueprint", |_, blueprint| delete(&mut blueprint.metadata)),
            ("an expression that is none", |_, blueprint| {
                let conditions = &mut blueprint.status.get_or_insert_default().conditions;
                conditions::set(conditions, at(0), "Ready", conditions::Truth::False, "InvalidExpression", "");
            }),
            ("something of it is lost", |resource, _| {
                let conditions = &mut resource.status.get_or_insert_default().conditions;
                conditions::set(conditions, at(0), "Ready", conditions::Truth::False, "ObjectLost", "");
            }),
            ("it has served", |resource, _| resource.status.get_or_insert_default().served = true),
        ];
        let shared = || (in_phase(ResourcePhase::Active), blueprint("limits: {leasesPerResource: 3}"));
        let (resource, three) = shared();
        assert_eq!([0, 2, 3, 9].map(|held| room(&resource, &three, SlotState::Current, held)), [3, 1, 0, 0]);
        for state in [SlotState::Disabled, SlotState::Taken, SlotState::Outdated, SlotState::Surplus] {
            assert_eq!(room(&resource, &three, state, 0), 0, "{state:?}");
        }
        for (name, change) in changes {
            let (mut resource, mut blueprint) = shared();
            change(&mut resource, &mut blueprint);
            assert_eq!(room(&resource, &blueprint, SlotState::Current, 0), 0, "{name}");
        }
    }
}
