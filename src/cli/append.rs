//! Appends a command to an object's queue: once, whatever is lost on the way, and to that very object.

use super::{
    connection::{MANAGER, ask},
    error::Error,
    queued::Queued,
    tolerance::Tolerance,
};
use crate::api::Command;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// How often it is tried. Each time the object is read again, so that what is known to be there is not sent again.
const ATTEMPTS: u32 = 6;

/// Consumed commands are left in the queue up to this many: they tell a reader what was asked, and a patch that does
/// not remove anything cannot collide with another.
const CONSUMED_KEPT: usize = 8;

/// What came of it.
#[derive(Debug)]
pub(super) enum Appended {
    /// The command is in the queue of the object with this UID, or consumed already.
    Queued { uid: String },
    /// The object is Destroyed and takes no more commands.
    Destroyed,
}

/// Appends `command` to the queue of `name`; `uid` says which object of that name is meant, where it is known; `tolerance`, what is
/// waited out beyond a few attempts.
pub(super) async fn append<K: Queued>(
    api: &Api<K>,
    name: &str,
    uid: Option<&str>,
    command: &Command,
    mut tolerance: Tolerance,
) -> Result<Appended, Error> {
    let tried = format!("{}/{name}", K::WORD);
    let mut uid = uid.map(str::to_owned);
    let mut attempt = 0;
    loop {
        match try_once(api, name, &mut uid, command, &tried).await {
            Err(error) if attempt < ATTEMPTS && (error.is_passing() || lost_a_race(&error)) => {
                tracing::debug!(%error, attempt, "reading the object and appending again");
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(25 << attempt)).await;
            }
            Err(error) if tolerance.forgives(&error) => {
                tracing::debug!(%error, "the API server restarts: asking again");
                Tolerance::pause().await;
            }
            ended => return ended,
        }
    }
}

async fn try_once<K: Queued>(
    api: &Api<K>,
    name: &str,
    uid: &mut Option<String>,
    command: &Command,
    tried: &str,
) -> Result<Appended, Error> {
    let object = ask(tried, api.get(name)).await?;
    let seen = uid.get_or_insert_with(|| object.uid().to_owned());
    if seen != object.uid() {
        return Err(Error::Replaced { what: tried.to_owned() });
    }
    if !has(&object, command) {
        if object.is_destroyed() {
            return Ok(Appended::Destroyed);
        }
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch: Patch<Value> = Patch::Json(serde_json::from_value(patch(&object, command)?)?);
        if let Err(error) = ask(tried, api.patch(name, &params, &patch)).await {
            if !error.is_invalid() {
                return Err(error);
            }
            // A refusal is believed only after another look. The client sends a patch again by itself where a gateway lost
            // the answer, and the second is refused because the first was not; or the object was destroyed meanwhile.
            return match ask(tried, api.get(name)).await? {
                now if has(&now, command) => Ok(Appended::Queued { uid: now.uid().to_owned() }),
                now if now.is_destroyed() => Ok(Appended::Destroyed),
                _ => Err(error),
            };
        }
    }
    Ok(Appended::Queued { uid: object.uid().to_owned() })
}

/// Whether the command is with the object already.
fn has<K: Queued>(object: &K, command: &Command) -> bool {
    object.outcome(&command.id).is_some() || object.commands().iter().any(|queued| queued.id == command.id)
}

/// The patch: the same object, the consumed commands out, the new one in. From the back, so that no place moves before
/// its turn; each place is tested, so that a change in between makes the whole of it fail.
fn patch<K: Queued>(object: &K, command: &Command) -> Result<Value, serde_json::Error> {
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": object.uid()})];
    let consumed: Vec<(usize, &str)> = object
        .commands()
        .iter()
        .enumerate()
        .filter(|(_, command)| object.outcome(&command.id).is_some())
        .map(|(place, command)| (place, command.id.as_str()))
        .collect();
    if consumed.len() > CONSUMED_KEPT {
        for (place, id) in consumed.into_iter().rev() {
            operations.push(json!({"op": "test", "path": format!("/spec/commands/{place}/id"), "value": id}));
            operations.push(json!({"op": "remove", "path": format!("/spec/commands/{place}")}));
        }
    }
    operations.push(json!({"op": "add", "path": "/spec/commands/-", "value": serde_json::to_value(command)?}));
    Ok(Value::Array(operations))
}

/// Whether somebody else's write came first. A JSON patch that does not fit is answered 422 like an object that does
/// not, but without naming a field.
fn lost_a_race(error: &Error) -> bool {
    match error {
        Error::Refused { status, .. } => {
            status.is_conflict()
                || status.is_invalid() && status.details.as_ref().is_none_or(|details| details.causes.is_empty())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Lease;

    fn lease(queued: &[&str], consumed: &[&str]) -> Lease {
        let queued: Vec<Value> = queued.iter().map(|id| json!({"id": id, "type": "Release"})).collect();
        let consumed: Vec<Value> = consumed
            .iter()
            .map(|id| json!({"id": id, "type": "Release", "outcome": "Ignored", "observedAt": "2026-11-23T10:00:00Z"}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "l", "uid": "u1"},
            "spec": {"resourceType": "host", "commands": queued}, "status": {"commands": consumed},
        }))
        .unwrap()
    }

    fn operations(lease: &Lease) -> Vec<String> {
        let command = serde_json::from_value(json!({"id": "new", "type": "Release"})).unwrap();
        let patch = patch(lease, &command).unwrap();
        let text = |o: &Value, key: &str| o[key].as_str().unwrap_or_default().to_owned();
        let each = patch.as_array().unwrap().iter();
        each.map(|o| format!("{} {} {}", text(o, "op"), text(o, "path"), text(o, "value")).trim_end().to_owned())
            .collect()
    }

    #[test]
    fn a_few_consumed_commands_stay() {
        let all = ["a", "b", "c", "d", "e", "f", "g", "h"];
        assert_eq!(operations(&lease(&all, &all)), ["test /metadata/uid u1", "add /spec/commands/-"]);
    }

    #[test]
    fn more_are_taken_out_from_the_back_and_the_unconsumed_stay() {
        let queued = ["a", "b", "x", "c", "d", "e", "f", "g", "h", "i", "y"];
        let consumed = ["z", "a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let mut expected = vec!["test /metadata/uid u1".to_owned()];
        for (place, id) in [(9, "i"), (8, "h"), (7, "g"), (6, "f"), (5, "e"), (4, "d"), (3, "c"), (1, "b"), (0, "a")] {
            expected.push(format!("test /spec/commands/{place}/id {id}"));
            expected.push(format!("remove /spec/commands/{place}"));
        }
        expected.push("add /spec/commands/-".to_owned());
        assert_eq!(operations(&lease(&queued, &consumed)), expected);
    }

    #[test]
    fn a_patch_that_did_not_fit_is_tried_again_and_a_refused_one_is_not() {
        use kube::core::Status;
        let read = |status: Value| -> Box<Status> { serde_json::from_value(status).unwrap() };
        for (status, again) in [
            (json!({"reason": "Conflict", "code": 409}), true),
            (json!({"reason": "Invalid", "code": 422, "details": {}}), true),
            (json!({"reason": "Invalid", "code": 422, "details": {"causes": [{"field": "spec.commands"}]}}), false),
            (json!({"reason": "Forbidden", "code": 403}), false),
            (json!({"reason": "NotFound", "code": 404}), false),
        ] {
            let error = Error::Refused { tried: "lease/l".to_owned(), status: read(status.clone()) };
            assert_eq!(lost_a_race(&error), again, "{status}");
        }
    }
}
