//! The reconcile of an object whose newest version cannot be read: it is told, and it can be deleted; nothing else is done with it.
//!
//! * A Blueprint loses its finalizer once it is deleted and a quorum list shows no Resource of it (B2), as any other.
//! * A Lease loses its finalizer once it is deleted: a Resource that still claims it tears down what is the claim's, and drops the
//!   claim, once a quorum read says that the lease is gone (R4c). That is the rule for a lease whose finalizer was forced off.
//! * A Resource keeps its finalizer: what it was built from is on record in it only, and whoever takes the finalizer off by
//!   hand accepts that the environment stays.

use super::{Key, PassError, Shell, blueprint::resources_left};
use crate::{
    api::{Blueprint, Lease, MicroTime, Unreadable},
    controller::writer::RequestError,
    lifecycle::{conditions, conditions::Truth, has_finalizer, is_deleting, uid},
};
use std::{sync::Arc, time::Duration};

/// What holds an unreadable Blueprint is looked at again after this: no event tells of the end of its Resources.
const AGAIN: Duration = Duration::from_secs(3);

/// The reason of the condition and of the Event.
pub(in crate::controller) const REASON: &str = "Unreadable";

/// What is said of such an object.
pub(in crate::controller) fn message(kind: &str, object: &Unreadable) -> String {
    let remedy = match kind {
        "Blueprint" => "nothing is built from it until it is mended; it may be deleted",
        "Resource" => "it is left alone, and its environment stays; a newer version of Drydock may be able to read it",
        _ => "nothing is done with it until it is mended; it may be deleted",
    };
    format!("This {kind} cannot be read ({}): {remedy}.", object.why)
}

pub(super) async fn pass(shell: &Arc<Shell>, key: &Key, object: &Unreadable) -> Result<Option<MicroTime>, PassError> {
    let meta = &object.metadata;
    let failed = |what| move |source| PassError::Request { what, source };
    let outcome = match key {
        Key::Blueprint(blueprint) if is_deleting(meta) && has_finalizer(meta) => {
            if resources_left(shell, blueprint, uid(meta)).await? > 0 {
                return Ok(Some(shell.soon(AGAIN)));
            }
            shell.writer.remove_finalizer_unread::<Blueprint>(meta).await
        }
        Key::Lease(_) if is_deleting(meta) && has_finalizer(meta) => {
            shell.writer.remove_finalizer_unread::<Lease>(meta).await
        }
        Key::Blueprint(_) if !is_deleting(meta) => {
            let mut next = object.conditions.clone();
            conditions::set(&mut next, shell.clock.now(), "Ready", Truth::False, REASON, message(key.kind(), object));
            if next == object.conditions {
                return Ok(None);
            }
            shell.writer.replace_conditions_unread(meta, &next).await
        }
        _ => return Ok(None),
    };
    match outcome {
        // What came of it, or what is there now, is about to be seen.
        Ok(()) | Err(RequestError::Conflict | RequestError::Gone) => Ok(None),
        Err(source) => Err(failed("writing an object that cannot be read")(source)),
    }
}
