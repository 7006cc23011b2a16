//! The pass over a resource.

use super::{AGAIN, Found, Key, ObjectKey, PassError, ROUNDS, Shell, Written, carry_out, read, run_free};
use crate::{
    api::{
        Blueprint, Claim, Lease, LeasePhase, MicroTime, Readable, Resource, ResourcePhase, ResourceStatus,
        blueprint::From,
        step::{EffectKey, HookCall, Moves, Observed, Report, StepKind, Verdict},
    },
    controller::{
        index::ResourceAround,
        steps::{TOO_MUCH, overflows},
        writer::{Ours, in_time},
    },
    driver::{Driver, Work},
    lifecycle::{EventDraft, Read, StepOrder, asking::Question, commands, has_finalizer, is_deleting, resource, uid},
};
use futures::FutureExt as _;
use kube::{
    Api,
    api::{ListParams, ObjectList, ObjectMeta},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

/// So many objects are read at once.
const PAGE: u32 = 500;

/// What quorum reads have said in this pass.
#[derive(Default)]
pub(in crate::controller) struct Known {
    pub(in crate::controller) blueprint: Option<BlueprintFact>,
    pub(in crate::controller) slot_is_clear: Option<bool>,
    pub(in crate::controller) others: Option<i64>,
    pub(in crate::controller) gone_leases: BTreeSet<String>,
    unreadable_leases: BTreeSet<String>,
    /// Leases of namespaces that are not watched: they serve this pass only, for nothing would tell of their changes.
    read_leases: BTreeMap<String, Arc<Lease>>,
    /// What driver and Blueprint say to a deadline that has come.
    verdict: Option<Verdict>,
    /// What the driver wants moved as leases come and go, in the order in which it was told.
    hooks: Vec<(HookCall, Moves)>,
}

pub(in crate::controller) enum BlueprintFact {
    Confirmed(Arc<Blueprint>),
    /// It is deleted, or cannot be read.
    Deleting(Arc<Blueprint>),
    /// B1: nothing is built for a Blueprint that could go before its resources; its own pass adds the finalizer.
    NotYetOurs,
    Gone,
}

pub(super) async fn pass(shell: &Arc<Shell>, key: &Key, object: &ObjectKey) -> Result<Option<MicroTime>, PassError> {
    let mut offered = Vec::new();
    let outcome = AssertUnwindSafe(rounds(shell, key, object, &mut offered)).catch_unwind().await;
    shell.see(|index, now| match &outcome {
        Ok(Ok(_)) => index.settle_offers(object, &offered, now),
        // Whom it was offered to is served elsewhere, where there is an elsewhere.
        Ok(Err(_)) | Err(_) => index.withhold(object, &offered, now),
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn rounds(
    shell: &Arc<Shell>,
    key: &Key,
    object: &ObjectKey,
    offered: &mut Vec<ObjectKey>,
) -> Result<Option<MicroTime>, PassError> {
    let mut reports: Vec<Report> = shell.steps.report(key).into_iter().collect();
    let mut known = Known::default();
    let mut sight = None;
    let mut asked_about = None;
    let mut told_at = None;
    for _ in 0..ROUNDS {
        let Some(around) = shell.see(|index, now| index.around_resource(object, now)) else {
            shell.steps.want_nothing(key);
            shell.steps.bury(shell, key, |_| true);
            *offered = super::super::lock(&shell.index).offers_of(object);
            return Ok(None);
        };
        for lease in &around.offered {
            if !offered.contains(lease) {
                offered.push(lease.clone());
            }
        }
        let resource = around.held.resource.clone();
        // While something was read a namesake may have taken its place, of which these answers say nothing.
        if asked_about.as_deref() != Some(uid(&resource.metadata)) {
            (known, sight) = (Known::default(), None);
            asked_about = Some(uid(&resource.metadata).to_owned());
        }
        // What a driver answered to a hook rests on the books that it was shown: on newer ones it is asked again.
        if told_at != resource.metadata.resource_version {
            known.hooks.clear();
            told_at.clone_from(&resource.metadata.resource_version);
        }
        let over = resource.phase() == ResourcePhase::Destroyed;
        if over && super::is_written_off(resource.status.as_ref().map(|s| s.conditions.as_slice())) {
            shell.steps.write_off(key);
        }
        if over {
            // Its teardown was done by another controller, or written off.
            shell.drivers.is_over(uid(&resource.metadata));
        }
        // What was begun for one that is over, and ends only now, is nobody's.
        shell.steps.bury(shell, key, |effect| over || effect.resource != uid(&resource.metadata));
        let mut asked = ask(&around, &known).await;
        if sight.is_none()
            && let Some((driver, work)) = to_observe(&around, &known)
            && stays(&resource, &surroundings(&around, &known, &reports, &asked), shell.clock.now())
        {
            let (observed, again) = super::observe(shell, &driver, work).await;
            shell.tell_news(&resource.metadata, "Resource", observed.as_ref());
            sight = Some((observed, again));
        }
        let (observed, look_again) = sight.clone().unwrap_or_default();
        asked.observed = observed;
        let now = shell.clock.now();
        let mut decision = resource::decide(&resource, &surroundings(&around, &known, &reports, &asked), now);
        decision.wake = decision.wake.into_iter().chain(look_again).min();
        if !decision.reads.is_empty() {
            for wanted in &decision.reads {
                look(shell, &around, wanted, &decision.status, &mut known).await?;
            }
            if matches!(known.blueprint, Some(BlueprintFact::NotYetOurs)) {
                return Ok(Some(shell.soon(AGAIN)));
            }
            continue;
        }
        let on_record = resource.status.clone().unwrap_or_default();
        if let Some(order) = &decision.step {
            let driver = around.held.driver.clone().ok_or(PassError::NoDriver)?;
            let work = || work(order, &around, &known);
            let free = driver.free_steps(around.held.blueprint.as_deref(), None);
            // R4c: what a lease that is gone has left is known by no record; it is free only where nothing ever has effects.
            let is_free = free.contains(order.step.kind)
                && (order.step.kind != StepKind::TearDownLease || free.tear_down_resource);
            let is_reported = reports.iter().any(|report| report.step == order.step);
            if is_free && !is_reported {
                reports.push(run_free(&driver, order, work()).await.ok_or(PassError::Unsettled)?);
                continue;
            }
            if is_free {
                // It has failed, or goes on: that is told now, and it is tried again soon.
                decision.wake = decision.wake.into_iter().chain([shell.soon(AGAIN)]).min();
            } else if (decision.status == on_record && decision.metadata.is_none()) || bug!(ResourceStepBeforeRecord) {
                let retry = shell.steps.want(shell, key, order.clone(), driver, work());
                return Ok(decision.wake.into_iter().chain(retry).min());
            }
        }
        let is_done_with = decision.step.is_none();
        let next = (decision.status != on_record)
            .then(|| Resource { status: Some(decision.status.clone()), ..(*resource).clone() });
        let see = |shell: &Arc<Shell>, r| shell.see(|index, now| index.see_resource(r, now));
        let lose = |shell: &Arc<Shell>, r: &Resource| shell.see(|index, now| index.lose_resource(&r.metadata, now));
        return match carry_out(shell, key, &*resource, &decision, next, see, lose).await? {
            Written::Stands(_) => {
                if is_done_with {
                    // Not before: what came of a step is lost with it, and would have to be done again.
                    shell.steps.want_nothing(key);
                }
                count_grants(shell, &resource, &decision.status.claims);
                Ok(decision.wake)
            }
            Written::Overtaken => Ok(Some(shell.soon(AGAIN))),
        };
    }
    Err(PassError::Unsettled)
}

/// What the driver has said about the resource in this pass.
#[derive(Default)]
pub(in crate::controller) struct Asked {
    /// What its teardown will need, for one that is not begun yet.
    pub(in crate::controller) intent: Option<Value>,
    /// How what was built is by now.
    pub(in crate::controller) observed: Option<Observed>,
}

/// What is to be looked at, where nothing is to be decided first that ends it.
/// Whether the resource stays in its phase, and nothing has to be asked first. An observation may take seconds, which would delay a
/// deadline.
fn stays(resource: &Resource, surroundings: &resource::Surroundings<'_>, now: MicroTime) -> bool {
    let decision = resource::decide(resource, surroundings, now);
    decision.reads.is_empty() && decision.status.phase() == resource.phase()
}

fn to_observe(around: &ResourceAround, known: &Known) -> Option<(Arc<dyn Driver>, Work)> {
    let resource = &around.held.resource;
    let status = resource.status.as_ref()?;
    let asked = commands::unconsumed(&resource.spec.commands, &status.commands).next().is_some();
    if resource.phase() != ResourcePhase::Active || asked || is_deleting(&resource.metadata) {
        return None;
    }
    let work = about(EffectKey::of_resource(uid(&resource.metadata)), around, known);
    Some((around.held.driver.clone()?, work))
}

pub(in crate::controller) async fn ask(around: &ResourceAround, known: &Known) -> Asked {
    let Some(driver) = &around.held.driver else { return Asked::default() };
    let resource = &around.held.resource;
    let about = || about(EffectKey::of_resource(uid(&resource.metadata)), around, known);
    let recorded = resource.status.as_ref().is_some_and(|s| s.built.is_some());
    match resource.phase() {
        ResourcePhase::Pending if !recorded => {
            Asked { intent: Some(driver.allocate(about()).await), ..Asked::default() }
        }
        _ => Asked::default(),
    }
}

pub(in crate::controller) fn surroundings<'a>(
    around: &'a ResourceAround,
    known: &'a Known,
    reports: &'a [Report],
    asked: &'a Asked,
) -> resource::Surroundings<'a> {
    let blueprint = match (&known.blueprint, &around.held.blueprint) {
        (Some(BlueprintFact::Confirmed(blueprint)), _) => resource::BlueprintView::Confirmed(blueprint),
        (Some(BlueprintFact::Deleting(blueprint)), _) => resource::BlueprintView::Seen(blueprint),
        (Some(BlueprintFact::Gone), _) => resource::BlueprintView::Gone,
        (Some(BlueprintFact::NotYetOurs), None) => resource::BlueprintView::Absent,
        (Some(BlueprintFact::NotYetOurs) | None, Some(blueprint)) => resource::BlueprintView::Seen(blueprint),
        (None, None) => resource::BlueprintView::Absent,
    };
    let view = |(claim, lease): (&'a crate::api::Claim, &'a Option<Arc<Lease>>)| match lease {
        Some(lease) => resource::LeaseView::Seen(lease),
        None if known.gone_leases.contains(&claim.uid) => resource::LeaseView::Gone,
        None if known.unreadable_leases.contains(&claim.uid) => resource::LeaseView::Unreadable,
        None => known.read_leases.get(&claim.uid).map_or(resource::LeaseView::Absent, |l| resource::LeaseView::Seen(l)),
    };
    let driver = around.held.driver.as_ref();
    resource::Surroundings {
        blueprint,
        slot: around.slot,
        idle: around.idle,
        leases: around.held.resource.claims().iter().zip(&around.leases).map(view).collect(),
        candidates: around.candidates.clone(),
        slot_is_clear: known.slot_is_clear,
        counted_limit: around.counted_limit,
        makes_way: around.makes_way,
        others: known.others,
        free: driver.map(|d| d.free_steps(around.held.blueprint.as_deref(), None)).unwrap_or_default(),
        intent: asked.intent.clone(),
        reports,
        observed: asked.observed.as_ref(),
        question: match &known.verdict {
            Some(verdict) => Question::Answered(verdict.clone()),
            None => super::expiry::question(driver, around.held.blueprint.as_deref()),
        },
        hooks: driver.is_some_and(|driver| driver.has_hooks()).then_some(known.hooks.as_slice()),
    }
}

pub(in crate::controller) fn work(order: &StepOrder, around: &ResourceAround, known: &Known) -> Work {
    debug_assert!(order.step.kind != StepKind::Activate);
    about(order.step.key.clone(), around, known)
}

fn about(key: EffectKey, around: &ResourceAround, known: &Known) -> Work {
    let blueprint = match &known.blueprint {
        Some(BlueprintFact::Confirmed(blueprint)) => Some(blueprint.clone()),
        _ => around.held.blueprint.clone(),
    };
    // The lease of a claim that is torn down here is gone: only its key is left.
    Work { key, resource: Some(around.held.resource.clone()), blueprint, lease: None, told: String::new() }
}

/// Finds out what a pass must be told; `next` is the status that it has come to without.
async fn look(
    shell: &Arc<Shell>,
    around: &ResourceAround,
    wanted: &Read,
    next: &ResourceStatus,
    known: &mut Known,
) -> Result<(), PassError> {
    let resource = &around.held.resource;
    let namespace = resource.metadata.namespace.as_deref().unwrap_or_default();
    match wanted {
        Read::Blueprint => {
            known.blueprint = Some(confirm_blueprint(shell, around, namespace).await?);
        }
        Read::LeasesOnSlot => known.slot_is_clear = Some(slot_is_clear(shell, around, namespace).await?),
        Read::ClaimedLease { uid: id } => {
            let claim = resource.claims().iter().find(|c| c.uid == *id).ok_or(PassError::Unsettled)?;
            let object = ObjectKey::new(&claim.namespace, &claim.name);
            match read::<Lease>(shell, &object, id).await? {
                Found::There(lease) if shell.is_watched(&object.namespace) => {
                    shell.see(|index, now| index.see_lease(*lease, now));
                }
                Found::There(lease) => {
                    known.read_leases.insert(id.clone(), lease.into());
                }
                Found::Unreadable(_) => {
                    known.unreadable_leases.insert(id.clone());
                }
                Found::Gone => {
                    known.gone_leases.insert(id.clone());
                }
            }
        }
        Read::ResourcesOfBlueprint => {
            let counted = count_live(shell, namespace, resource).await?;
            known.others = i64::try_from(counted).ok();
        }
        Read::Expiry => {
            let blueprint = around.held.blueprint.clone().ok_or(PassError::Unsettled)?;
            let work = about(EffectKey::of_resource(uid(&resource.metadata)), around, known);
            known.verdict = Some(super::expiry::ask(shell, around.held.driver.as_ref(), &blueprint, work).await);
        }
        Read::Hook { call, after } => {
            let driver = around.held.driver.as_ref().ok_or(PassError::NoDriver)?;
            let lease = call.key.lease.as_ref().and_then(|(lease, _)| super::super::lock(&shell.index).lease(lease));
            let resource = Some(Arc::new(Resource { status: Some(next.clone()), ..(**resource).clone() }));
            let work = Work { lease, resource, ..about(call.key.clone(), around, known) };
            known.hooks.truncate(*after);
            known.hooks.push((call.clone(), hook(shell, around, driver, call, work).await));
        }
        Read::BoundResource => return Err(PassError::Unsettled),
    }
    Ok(())
}

/// R1: what the API server itself says of the Blueprint. Its metadata tell whether the copy in the cache is the present one; a
/// Blueprint of a megabyte is read as a whole only where that copy is not.
async fn confirm_blueprint(
    shell: &Arc<Shell>,
    around: &ResourceAround,
    namespace: &str,
) -> Result<BlueprintFact, PassError> {
    let reference = &around.held.resource.spec.blueprint_ref;
    if let Some(cached) = &around.held.blueprint {
        let api: Api<Blueprint> = Api::namespaced(shell.client.clone(), namespace);
        let found = in_time(api.get_metadata_opt(&reference.name)).await;
        let found = found.map_err(|source| PassError::Request { what: "a quorum read", source })?;
        let is_cached = |now: &ObjectMeta| {
            uid(now) == reference.uid
                && uid(&cached.metadata) == reference.uid
                && now.generation == cached.metadata.generation
        };
        // All else is decided by the whole object.
        if let Some(now) = found.map(|found| found.metadata)
            && is_cached(&now)
            && !is_deleting(&now)
            && has_finalizer(&now)
        {
            return Ok(BlueprintFact::Confirmed(cached.clone()));
        }
    }
    let object = ObjectKey::new(namespace, &reference.name);
    Ok(match read::<Blueprint>(shell, &object, &reference.uid).await? {
        Found::Gone => {
            // It is final: a cache that shows it still would have what is decided now undone by the next pass.
            if let Some(shown) = &around.held.blueprint {
                shell.see(|index, now| index.lose_blueprint(&shown.metadata, now));
            }
            BlueprintFact::Gone
        }
        // Suspended, so that nothing is built for it; all else goes on.
        Found::Unreadable(Some(rest)) => BlueprintFact::Deleting(rest.into()),
        Found::Unreadable(None) => BlueprintFact::NotYetOurs,
        Found::There(blueprint) => {
            shell.see(|index, now| index.see_blueprint((*blueprint).clone(), now));
            match (is_deleting(&blueprint.metadata), has_finalizer(&blueprint.metadata)) {
                (true, _) => BlueprintFact::Deleting(blueprint.into()),
                (false, false) if !bug!(MakesTooEarly) => BlueprintFact::NotYetOurs,
                (false, _) => BlueprintFact::Confirmed(blueprint.into()),
            }
        }
    })
}

/// Counts the claims that stand now and did not before.
fn count_grants(shell: &Shell, before: &Resource, now: &[Claim]) {
    let new =
        now.iter().filter(|claim| !before.claims().iter().any(|b| (&b.uid, b.attempt) == (&claim.uid, claim.attempt)));
    let new = new.count();
    if new > 0 {
        let namespace = before.metadata.namespace.as_deref().unwrap_or_default();
        shell.metrics.granted(format!("{namespace}/{}", before.spec.blueprint_ref.name), new);
    }
}

/// What a hook wants moved: nothing, where it does not answer, or wants more than a status holds; for the grant, or the end of
/// the claim, must not hang on it.
async fn hook(shell: &Shell, around: &ResourceAround, driver: &Arc<dyn Driver>, call: &HookCall, work: Work) -> Moves {
    let asked = AssertUnwindSafe(async { driver.hook(call.kind, work).await }).catch_unwind();
    let why = match tokio::time::timeout(super::FREE_STEP, asked).await {
        Ok(Ok(Moves { storage: Some(storage), .. })) if overflows(&storage) => TOO_MUCH,
        Ok(Ok(moves)) => return moves,
        Ok(Err(_)) => "the driver panicked",
        Err(_) => "the driver did not answer",
    };
    let told = EventDraft::warning("HookFailed", format!("{:?}: {why}; nothing is moved", call.kind));
    shell.events.publish("Resource", &around.held.resource.metadata, vec![told]);
    Moves::default()
}

/// R2: no lease that is not destroyed refers to this name under another UID.
async fn slot_is_clear(shell: &Shell, around: &ResourceAround, namespace: &str) -> Result<bool, PassError> {
    let resource = &around.held.resource;
    let name = resource.metadata.name.as_deref().unwrap_or_default();
    // Those that are destroyed keep their reference for an hour, and are many where leases are short.
    let selector = format!("status.resourceRef.name={name},status.phase!=Destroyed");
    let foreign = |lease: &Lease| {
        lease.phase() != LeasePhase::Destroyed
            && lease.resource_ref().is_some_and(|r| r.namespace == namespace && r.uid != uid(&resource.metadata))
    };
    for api in apis_of_leases(shell, around, namespace) {
        let mut params = ListParams::default().fields(&selector).limit(PAGE);
        loop {
            let page: ObjectList<Readable<Lease>> = list(&api, &params).await?;
            // One that cannot be read may be such a lease.
            if page.items.iter().any(|lease| lease.0.as_ref().map_or(true, foreign)) {
                return Ok(false);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => break,
            }
        }
    }
    Ok(true)
}

/// Where leases can refer to a resource.
fn apis_of_leases(shell: &Shell, around: &ResourceAround, namespace: &str) -> Vec<Api<Readable<Lease>>> {
    let admits = around.held.blueprint.as_ref().map(|b| b.spec.allowed_namespaces.from);
    let slot = ObjectKey::of(&around.held.resource.metadata);
    let elsewhere = super::super::lock(&shell.index).namespaces_bound_to(&slot);
    let namespaces = namespaces_of_leases(admits, namespace, elsewhere, &shell.namespaces);
    match namespaces {
        None => vec![Api::all(shell.client.clone())],
        Some(all) => all.iter().map(|namespace| Api::namespaced(shell.client.clone(), namespace)).collect(),
    }
}

/// The namespaces whose leases can refer to a resource in `own`; `None`: any. The API server has an index by namespace, and by
/// nothing else: it looks at every lease of the cluster where all are asked for. A Blueprint that admits its own namespace alone
/// has no leases elsewhere, but for those that it admitted before it was edited; these the cache knows, for they were bound
/// before that.
fn namespaces_of_leases(
    admits: Option<From>,
    own: &str,
    bound_elsewhere: BTreeSet<Arc<str>>,
    watched: &[String],
) -> Option<BTreeSet<Arc<str>>> {
    match (admits, watched) {
        (Some(From::Same), _) => Some(bound_elsewhere.into_iter().chain([own.into()]).collect()),
        (_, []) => None,
        (_, watched) => Some(watched.iter().map(|namespace| namespace.as_str().into()).collect()),
    }
}

/// How many other resources of its Blueprint there are that are not yet destroyed, by a quorum list of their metadata.
async fn count_live(shell: &Shell, namespace: &str, resource: &Resource) -> Result<usize, PassError> {
    let blueprint = &resource.spec.blueprint_ref.uid;
    let mut selector = format!("spec.blueprintRef.uid={blueprint},status.phase!=Destroyed");
    if bug!(CountsTheHealthy) {
        selector += ",status.phase!=Released,status.phase!=Broken";
    }
    let api: Api<Resource> = Api::namespaced(shell.client.clone(), namespace);
    let mut params = ListParams::default().fields(&selector).limit(PAGE);
    let mut count = 0;
    loop {
        let page = in_time(api.list_metadata(&params)).await;
        let page = page.map_err(|source| PassError::Request { what: "a quorum list", source })?;
        count += page.items.iter().filter(|other| uid(&other.metadata) != uid(&resource.metadata)).count();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(count),
        }
    }
}

/// The resources of a Blueprint.
pub(super) struct Siblings {
    pub(super) readable: Vec<Resource>,
    /// How many there are beside these: they count as existing.
    pub(super) unreadable: usize,
}

/// All resources of a Blueprint, from the API server itself.
pub(super) async fn siblings(shell: &Shell, namespace: &str, blueprint_uid: &str) -> Result<Siblings, PassError> {
    let api: Api<Readable<Resource>> = Api::namespaced(shell.client.clone(), namespace);
    let selector = ListParams::default().fields(&format!("spec.blueprintRef.uid={blueprint_uid}"));
    let listed = list(&api, &selector).await?.items;
    let all = listed.len();
    let readable: Vec<_> = listed.into_iter().filter_map(|resource| resource.0.ok()).collect();
    Ok(Siblings { unreadable: all - readable.len(), readable })
}

async fn list<K: Ours>(api: &Api<Readable<K>>, selector: &ListParams) -> Result<ObjectList<Readable<K>>, PassError> {
    in_time(api.list(selector)).await.map_err(|source| PassError::Request { what: "a quorum list", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R2: what can hold a slot is looked for in all of its places, and in no others.
    #[test]
    fn leases_are_listed_where_they_can_refer_to_a_slot() {
        let watched = ["a".to_owned(), "b".to_owned()];
        for (admits, elsewhere, watched, expected) in [
            (Some(From::Same), &[][..], &[][..], Some(&["own"][..])),
            (Some(From::Same), &["old"][..], &[][..], Some(&["old", "own"][..])),
            (Some(From::Same), &[][..], &watched[..], Some(&["own"][..])),
            (Some(From::All), &[][..], &[][..], None),
            (Some(From::Selector), &["old"][..], &[][..], None),
            (Some(From::All), &[][..], &watched[..], Some(&["a", "b"][..])),
            (None, &[][..], &[][..], None),
        ] {
            let elsewhere = elsewhere.iter().map(|namespace| Arc::from(*namespace)).collect();
            let found = namespaces_of_leases(admits, "own", elsewhere, watched);
            let found = found.map(|all| all.iter().map(|namespace| namespace.to_string()).collect::<Vec<_>>());
            assert_eq!(found, expected.map(|all| all.iter().map(|name| (*name).to_owned()).collect()), "{admits:?}");
        }
    }
}
