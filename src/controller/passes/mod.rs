//! One pass over one object: gather what is around it, ask lifecycle, run the driver's step if it is free of outside
//! effects, write once; steps with effects begin when what they rest on is on record.

pub(in crate::controller) mod blueprint;
pub(in crate::controller) mod expiry;
pub(in crate::controller) mod lease;
pub(in crate::controller) mod resource;
pub(in crate::controller) mod unreadable;

use super::{
    key::{Key, ObjectKey},
    shell::{PassError, Shell},
    writer::{Ours, RequestError, in_time, read_opt},
};
use crate::{
    api::{
        Blueprint, Condition, MicroTime, Readable,
        step::{Observed, Report},
    },
    driver::{Driver, Work},
    lifecycle::{Decision, MetadataChange, Urgency, conditions, uid},
};
use kube::{Api, Resource as _, ResourceExt as _};
use std::{sync::Arc, time::Duration};

/// How often one pass may read or step before it is a defect: each round settles at least one question.
const ROUNDS: usize = 200;

/// A pass that was overtaken looks again by then, even if what overtook it says nothing new.
const AGAIN: Duration = Duration::from_secs(1);

/// A step that is free of outside effects takes no time; one that takes this much is treated as failing.
const FREE_STEP: Duration = Duration::from_secs(5);

/// One pass. Returns when to look again, though nothing has changed.
///
/// # Errors
/// Where a request failed; the pass is made again after a back-off. A conflict is none: the object is read again, and
/// what is newly seen triggers the next pass.
pub async fn pass(shell: &Arc<Shell>, key: &Key) -> Result<Option<MicroTime>, PassError> {
    let now_and_then = || shell.clock.now().timestamp().as_microsecond() % 97 == 0;
    assert!(!(bug!(PassPanics) && now_and_then()), "a pass panics on purpose");
    if bug!(PassGivesUp) && now_and_then() {
        return Err(PassError::Unsettled);
    }
    let found = super::lock(&shell.index).unreadable(key);
    if let Some(found) = found {
        return unreadable::pass(shell, key, &found).await;
    }
    match key {
        Key::Lease(object) => lease::pass(shell, key, object).await,
        Key::Resource(object) => resource::pass(shell, key, object).await,
        Key::Blueprint(object) => blueprint::pass(shell, key, object).await,
    }
}

/// What a write of a pass came to.
enum Written<K> {
    /// The object as it is now, or as it was where there was nothing to write; `None`: that was the end of it.
    Stands(Option<K>),
    /// Somebody was faster, or it is gone: the next pass decides on what is there now.
    Overtaken,
}

/// Carries out a decision: at most one status write, and the change of metadata once the status stands. The answer enters
/// the index by the same door as watch events.
async fn carry_out<K: Ours, S>(
    shell: &Arc<Shell>,
    key: &Key,
    object: &K,
    decision: &Decision<S>,
    with_status: Option<K>,
    see: impl Fn(&Arc<Shell>, K),
    lose: impl Fn(&Arc<Shell>, &K),
) -> Result<Written<K>, PassError> {
    let answer = match (with_status, decision.metadata) {
        (Some(next), _) => shell.writer.replace_status(decision.urgency, key, &next).await.map(Some),
        (None, Some(change)) => {
            // What is over can wait; what is to begin waits for its finalizer.
            let urgency = if change == MetadataChange::AddFinalizer { Urgency::Soon } else { decision.urgency };
            shell.writer.change_metadata(urgency, object, change).await
        }
        (None, None) => return Ok(Written::Stands(Some(object.clone()))),
    };
    match answer {
        Ok(Some(now)) => {
            see(shell, now.clone());
            shell.events.publish(&K::kind(&()), object.meta(), decision.events.clone());
            Ok(Written::Stands(Some(now)))
        }
        Ok(None) => {
            lose(shell, object);
            Ok(Written::Stands(None))
        }
        Err(RequestError::Gone) => {
            lose(shell, object);
            Ok(Written::Overtaken)
        }
        // A request that timed out may have taken effect: what is there now is read, as after a conflict.
        Err(failed @ (RequestError::Conflict | RequestError::TimedOut)) => {
            let namespace = object.namespace().unwrap_or_default();
            let api: Api<Readable<K>> = Api::namespaced(shell.client.clone(), &namespace);
            match read_opt(&api, &object.name_any()).await {
                Ok(Some(now)) if now.uid() == object.uid() => {
                    let same = now.resource_version() == object.resource_version();
                    // One that cannot be read is shown by its watch.
                    if let Ok(now) = now.0 {
                        see(shell, now);
                    }
                    if same {
                        // It did not take effect, and nothing new will be seen: the pass is made again.
                        return Err(PassError::Request { what: "writing", source: failed });
                    }
                }
                Ok(_) => lose(shell, object),
                Err(source) => return Err(PassError::Request { what: "reading it again", source }),
            }
            Ok(Written::Overtaken)
        }
        Err(source) => Err(PassError::Request { what: "writing", source }),
    }
}

/// Runs a step that is free of outside effects.
async fn run_free(driver: &Arc<dyn Driver>, order: &crate::lifecycle::StepOrder, work: Work) -> Option<Report> {
    let call = super::steps::call(&**driver, order.step.kind, work);
    let answer = super::steps::bounded(order.step.kind, tokio::time::timeout(FREE_STEP, call).await.ok()?);
    Some(Report { step: order.step.clone(), answer, failures: 0, retry_at: None })
}

/// An environment that cannot be looked at now is looked at again then.
const UNSEEN: Duration = Duration::from_secs(30);

/// Looking at an environment holds up nothing else for longer.
const SIGHT: Duration = Duration::from_secs(5);

/// How an environment is by now, and when to look again though nothing tells of a change. Not asked where something else
/// is to be decided first; that says when to look next.
async fn observe(shell: &Arc<Shell>, driver: &Arc<dyn Driver>, work: Work) -> (Option<Observed>, Option<MicroTime>) {
    let sight = futures::future::select(driver.observe(work), shell.clock.sleep(SIGHT)).await;
    let observed = match sight {
        futures::future::Either::Left((observed, _)) => observed.map(super::steps::bounded_sight),
        futures::future::Either::Right(_) => None,
    };
    let again = match &observed {
        Some(observed) => observed.look_again.map(|wait| shell.clock.now().after(wait)),
        None => Some(shell.soon(UNSEEN)),
    };
    (observed, again)
}

/// Whether a teardown was ended by `Forget`.
fn is_written_off(conditions: Option<&[Condition]>) -> bool {
    conditions::true_reason(conditions.unwrap_or_default(), "TornDown") == Some("Forgotten")
}

/// What the API server itself says of a UID.
enum Found<K> {
    /// It is there.
    There(Box<K>),
    /// It is there, and cannot be read: nothing is concluded from it but what could be read of a Blueprint.
    Unreadable(Option<Box<Blueprint>>),
    /// It is gone, which is final.
    Gone,
}

/// Reads an object from the API server itself.
async fn read<K: Ours>(shell: &Shell, object: &ObjectKey, id: &str) -> Result<Found<K>, PassError> {
    let api: Api<Readable<K>> = Api::namespaced(shell.client.clone(), &object.namespace);
    let answer = read_opt(&api, &object.name).await;
    let answer = answer.map_err(|source| PassError::Request { what: "a quorum read", source })?;
    Ok(match answer {
        Some(found) if uid(found.meta()) == id || bug!(ComparesNames) || bug!(AdoptsNamesake) => match found.0 {
            Ok(object) => Found::There(Box::new(object)),
            Err(error) => {
                tracing::warn!(%object, "it cannot be read, and is left alone: {error}");
                Found::Unreadable(error.rest)
            }
        },
        _ => Found::Gone,
    })
}
