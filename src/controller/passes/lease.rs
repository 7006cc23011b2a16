//! The pass over a lease.

use super::{AGAIN, Found, Key, ObjectKey, PassError, ROUNDS, Shell, Written, carry_out, read, run_free};
use crate::{
    api::{
        Blueprint, Lease, LeasePhase, MicroTime, Resource,
        step::{EffectKey, FreeSteps, Observed},
    },
    controller::index::{Held, LeaseAround},
    driver::{Driver, Work},
    lifecycle::{Read, StepOrder, asking::Question, commands, is_deleting, lease, uid},
};
use serde_json::Value;
use std::sync::Arc;

/// What quorum reads have said in this pass about the resource that the lease is bound to.
pub(in crate::controller) enum Quorum {
    Nothing,
    Gone,
    Confirmed(Arc<Resource>),
}

pub(super) async fn pass(shell: &Arc<Shell>, key: &Key, object: &ObjectKey) -> Result<Option<MicroTime>, PassError> {
    let mut reports: Vec<_> = shell.steps.report(key).into_iter().collect();
    let mut known = Quorum::Nothing;
    let mut verdict = None;
    let mut sight = None;
    let mut asked_about = None;
    for _ in 0..ROUNDS {
        let Some(around) = shell.see(|index, now| index.around_lease(object, now)) else {
            shell.steps.want_nothing(key);
            shell.steps.bury(shell, key, |_| true);
            return Ok(None);
        };
        // While something was read it may have come to be bound to another resource, of which these answers say nothing.
        let binding = around.lease.resource_ref().map(|resource| resource.uid.clone());
        let subject = Some((uid(&around.lease.metadata).to_owned(), around.lease.attempt(), binding));
        if asked_about != subject {
            (known, verdict, sight, asked_about) = (Quorum::Nothing, None, None, subject);
        }
        let over = around.lease.phase() == LeasePhase::Destroyed;
        if over && super::is_written_off(around.lease.status.as_ref().map(|s| s.conditions.as_slice())) {
            shell.steps.write_off(key);
        }
        let (id, attempt) = (uid(&around.lease.metadata).to_owned(), around.lease.attempt());
        if over {
            // Its teardown was done by another controller, or written off.
            shell.drivers.is_over(&id);
        }
        // What was begun for an attempt that is over, and ends only now, is nobody's.
        shell.steps.bury(shell, key, |effect| {
            effect.lease.as_ref().is_none_or(|(uid, begun)| *uid != id || over || *begun < attempt)
        });
        let driver = driver_of(shell, &around);
        let mut asked = ask(&around).await;
        if let Some(verdict) = verdict.clone() {
            asked.question = Question::Answered(verdict);
        }
        if sight.is_none()
            && let Some((driver, work)) = to_observe(&around)
            && stays_active(&around, &surroundings(&around, &known, Some(&driver), &reports, &asked), shell.clock.now())
        {
            let (observed, again) = super::observe(shell, &driver, work).await;
            shell.tell_news(&around.lease.metadata, "Lease", observed.as_ref());
            sight = Some((observed, again));
        }
        let (observed, look_again) = sight.clone().unwrap_or_default();
        asked.observed = observed;
        let now = shell.clock.now();
        let around_it = surroundings(&around, &known, driver.as_ref(), &reports, &asked);
        let mut decision = lease::decide(&around.lease, &around_it, now);
        decision.wake = decision.wake.into_iter().chain(look_again).min();
        match decision.reads.first() {
            None => {}
            Some(Read::BoundResource) => {
                known = read_bound(shell, &around.lease).await?;
                continue;
            }
            Some(Read::Expiry) => {
                let held = around.bound.as_ref().ok_or(PassError::Unsettled)?;
                let blueprint = held.blueprint.clone().ok_or(PassError::Unsettled)?;
                let work = about(&around, held, around.lease.attempt());
                verdict = Some(super::expiry::ask(shell, held.driver.as_ref(), &blueprint, work).await);
                continue;
            }
            Some(_) => return Err(PassError::Unsettled),
        }
        let on_record = around.lease.status.clone().unwrap_or_default();
        let held = holding(&around, &decision.status, &known);
        if let Some(order) = &decision.step {
            let driver = held.as_ref().and_then(|h| h.driver.clone()).or(driver);
            let driver = driver.ok_or(PassError::NoDriver)?;
            let work = || work(order, &around, held.clone());
            let blueprint = held.as_ref().and_then(|h| h.blueprint.as_deref());
            let is_free = driver.free_steps(blueprint, decision.status.built.as_ref()).contains(order.step.kind);
            let is_reported = reports.iter().any(|report| report.step == order.step);
            if is_free && !is_reported {
                reports.push(run_free(&driver, order, work()).await.ok_or(PassError::Unsettled)?);
                continue;
            }
            if is_free {
                // It has failed, or goes on: that is told now, and it is tried again soon.
                decision.wake = decision.wake.into_iter().chain([shell.soon(AGAIN)]).min();
            } else if (decision.status == on_record && decision.metadata.is_none()) || bug!(StepBeforeRecord) {
                let retry = shell.steps.want(shell, key, order.clone(), driver, work());
                return Ok(decision.wake.into_iter().chain(retry).min());
            }
        }
        let is_done_with = decision.step.is_none();
        if let Some(held) = around.bound.as_ref().filter(|_| bug!(WritesAnother)) {
            let written = shell.writer.replace_status(decision.urgency, key, &*held.resource).await;
            written.map_err(|source| PassError::Request { what: "writing what is another's", source })?;
        }
        let next = (decision.status != on_record)
            .then(|| Lease { status: Some(decision.status.clone()), ..(*around.lease).clone() });
        let see = |shell: &Arc<Shell>, lease| shell.see(|index, now| index.see_lease(lease, now));
        let lose = |shell: &Arc<Shell>, lease: &Lease| shell.see(|index, now| index.lose_lease(&lease.metadata, now));
        return match carry_out(shell, key, &*around.lease, &decision, next, see, lose).await? {
            Written::Stands(_) => {
                if is_done_with {
                    // Not before: what came of a step is lost with it, and would have to be done again.
                    shell.steps.want_nothing(key);
                }
                Ok(decision.wake)
            }
            Written::Overtaken => Ok(Some(shell.soon(AGAIN))),
        };
    }
    Err(PassError::Unsettled)
}

/// The driver of a lease whose resource is not seen: as its own record says.
fn driver_of(shell: &Shell, around: &LeaseAround) -> Option<Arc<dyn Driver>> {
    let recorded = around.lease.status.as_ref().and_then(|s| s.built.as_ref())?.get("driver")?.as_str()?;
    shell.drivers.named(recorded).cloned()
}

/// What drivers have said about the lease in this pass.
#[derive(Default)]
pub(in crate::controller) struct Asked {
    /// What the teardown of the lease would need, for each of its claims.
    pub(in crate::controller) intents: Vec<Value>,
    /// How what was activated for it is by now.
    pub(in crate::controller) observed: Option<Observed>,
    /// Whether anybody has a say when its end has come.
    pub(in crate::controller) question: Question,
}

fn about(around: &LeaseAround, held: &Held, attempt: i64) -> Work {
    Work {
        key: EffectKey {
            resource: uid(&held.resource.metadata).to_owned(),
            lease: Some((uid(&around.lease.metadata).to_owned(), attempt)),
        },
        resource: Some(held.resource.clone()),
        blueprint: held.blueprint.clone(),
        lease: Some(around.lease.clone()),
        told: String::new(),
    }
}

/// What is to be looked at, where nothing is to be decided first that ends it.
fn to_observe(around: &LeaseAround) -> Option<(Arc<dyn Driver>, Work)> {
    let status = around.lease.status.as_ref()?;
    let asked = commands::unconsumed(&around.lease.spec.commands, &status.commands).next().is_some();
    if around.lease.phase() != LeasePhase::Active || asked || is_deleting(&around.lease.metadata) {
        return None;
    }
    let held = around.bound.as_ref()?;
    Some((held.driver.clone()?, about(around, held, around.lease.attempt())))
}

/// Whether it is not decided already that the lease ends, and nothing has to be asked first. An observation may take seconds, which
/// would delay a deadline.
fn stays_active(around: &LeaseAround, surroundings: &lease::Surroundings<'_>, now: MicroTime) -> bool {
    let decision = lease::decide(&around.lease, surroundings, now);
    decision.reads.is_empty() && decision.status.phase() == LeasePhase::Active
}

pub(in crate::controller) async fn ask(around: &LeaseAround) -> Asked {
    let mut asked = Asked::default();
    match around.lease.phase() {
        LeasePhase::Pending => {
            for (held, attempt) in &around.claims {
                asked.intents.push(match &held.driver {
                    Some(driver) => driver.allocate(about(around, held, *attempt)).await,
                    None => Value::Null,
                });
            }
        }
        LeasePhase::Active => {
            if let Some(held) = &around.bound {
                asked.question = super::expiry::question(held.driver.as_ref(), held.blueprint.as_deref());
            }
        }
        LeasePhase::Acquired | LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed => {}
    }
    asked
}

fn free(driver: Option<&Arc<dyn Driver>>, blueprint: Option<&Blueprint>, record: Option<&Value>) -> FreeSteps {
    driver.map(|d| d.free_steps(blueprint, record)).unwrap_or_default()
}

pub(in crate::controller) fn surroundings<'a>(
    around: &'a LeaseAround,
    known: &'a Quorum,
    driver: Option<&Arc<dyn Driver>>,
    reports: &'a [crate::api::step::Report],
    asked: &'a Asked,
) -> lease::Surroundings<'a> {
    let granted = |(n, (held, attempt)): (usize, &'a (Held, i64))| lease::Granted {
        resource: &held.resource,
        blueprint: held.blueprint.as_deref(),
        free: free(held.driver.as_ref(), held.blueprint.as_deref(), asked.intents.get(n)),
        intent: asked.intents.get(n).cloned().unwrap_or_default(),
        attempt: *attempt,
    };
    let record = around.lease.status.as_ref().and_then(|s| s.built.as_ref());
    let blueprint = around.bound.as_ref().and_then(|held| held.blueprint.as_deref());
    let bound_free = free(around.bound.as_ref().and_then(|held| held.driver.as_ref()).or(driver), blueprint, record);
    let bound = match (known, &around.bound) {
        _ if around.lease.resource_ref().is_none() => lease::Bound::Unbound,
        (Quorum::Gone, _) => lease::Bound::Gone { free: bound_free },
        (Quorum::Confirmed(resource), _) => lease::Bound::Confirmed { resource, blueprint, free: bound_free },
        (Quorum::Nothing, Some(held)) => lease::Bound::Seen { resource: &held.resource, blueprint, free: bound_free },
        (Quorum::Nothing, None) => lease::Bound::Absent,
    };
    let claims = around.claims.iter().enumerate().map(granted).collect();
    lease::Surroundings {
        claims,
        bound,
        waiting: around.waiting.clone(),
        reports,
        observed: asked.observed.as_ref(),
        question: asked.question.clone(),
        heartbeat_seen: around.heartbeat_seen,
    }
}

/// The resource that the next status binds the lease to, as far as it is seen.
pub(in crate::controller) fn holding(
    around: &LeaseAround,
    next: &crate::api::LeaseStatus,
    known: &Quorum,
) -> Option<Held> {
    let wanted = next.resource_ref.as_ref()?;
    if let (Quorum::Confirmed(resource), Some(held)) = (known, &around.bound)
        && uid(&resource.metadata) == wanted.uid
    {
        return Some(Held { resource: resource.clone(), ..held.clone() });
    }
    let claims = around.claims.iter().map(|(held, _)| held);
    around.bound.iter().chain(claims).find(|held| uid(&held.resource.metadata) == wanted.uid).cloned()
}

pub(in crate::controller) fn work(order: &StepOrder, around: &LeaseAround, held: Option<Held>) -> Work {
    let blueprint = held.as_ref().and_then(|held| held.blueprint.clone());
    Work {
        key: order.step.key.clone(),
        resource: held.map(|held| held.resource),
        blueprint,
        lease: Some(around.lease.clone()),
        told: String::new(),
    }
}

/// L5, L7: what the API server itself says of the bound resource.
async fn read_bound(shell: &Arc<Shell>, lease: &Lease) -> Result<Quorum, PassError> {
    let Some(reference) = lease.resource_ref() else { return Err(PassError::Unsettled) };
    let object = ObjectKey::new(&reference.namespace, &reference.name);
    let resource = match read::<Resource>(shell, &object, &reference.uid).await? {
        Found::There(resource) => *resource,
        Found::Gone => return Ok(Quorum::Gone),
        Found::Unreadable(_) => return Err(PassError::Unsettled),
    };
    let id = uid(&lease.metadata);
    let claims = resource.claims().iter().any(|c| c.uid == id && c.attempt == lease.attempt());
    if shell.is_watched(&object.namespace) {
        shell.see(|index, now| index.see_resource(resource.clone(), now));
    }
    if !claims {
        return see_newer(shell, lease).await.map(|()| Quorum::Nothing);
    }
    Ok(Quorum::Confirmed(Arc::new(resource)))
}

/// R4: a claim goes after its lease has ended it. So where it is gone the lease is newer than it is known here; and what that
/// has come to is decided on, instead of failing until the watch shows it.
async fn see_newer(shell: &Arc<Shell>, lease: &Lease) -> Result<(), PassError> {
    let object = ObjectKey::of(&lease.metadata);
    match read::<Lease>(shell, &object, uid(&lease.metadata)).await? {
        Found::There(now) if now.metadata.resource_version != lease.metadata.resource_version => {
            shell.see(|index, at| index.see_lease(*now, at));
            Ok(())
        }
        Found::Gone => {
            shell.see(|index, at| index.lose_lease(&lease.metadata, at));
            Ok(())
        }
        // Its claim went though it stands: by nothing that Drydock does.
        Found::There(_) | Found::Unreadable(_) => Err(PassError::Unsettled),
    }
}
