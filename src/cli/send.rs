//! Sends one command to some objects and tells what comes of it, from their ledgers.

use super::{
    Exit,
    append::{Appended, append},
    error::Error,
    follow::{Follower, Sight},
    print,
    queued::Queued,
    tolerance::Tolerance,
};
use crate::api::{Command, CommandType, Duration, LedgerEntry, Outcome};
use futures::{StreamExt as _, stream};
use kube::Api;
use std::{collections::BTreeMap, future::pending};
use tokio::time::{Instant, sleep_until};

/// How many objects are written to at once.
const AT_ONCE: usize = 8;

/// How long to wait, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// For the outcome.
    Outcome(Duration),
    /// For the end of the teardown.
    Teardown(Option<Duration>),
}

impl Patience {
    /// For the outcome, where the time given is not zero.
    pub(super) fn outcome(limit: Duration) -> Self {
        if limit.is_zero() { Self::None } else { Self::Outcome(limit) }
    }

    fn limit(self) -> Option<Duration> {
        match self {
            Self::None => Some(Duration::default()),
            Self::Outcome(limit) => Some(limit),
            Self::Teardown(limit) => limit,
        }
    }
}

/// An object that a command is for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its name.
    pub(super) name: String,
    /// Which one of that name, where it is known.
    pub(super) uid: Option<String>,
}

/// What is known of a command that is in a queue.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing that ends the wait; with what is to be told meanwhile.
    Waiting(Option<String>),
    /// It came to what was asked for.
    Good(String),
    /// It did not.
    Bad(String),
}

/// Appends `command` to each target's queue, waits as `patience` says, and tells each outcome as it is seen: the good
/// ones on standard output, the others on standard error.
pub(super) async fn send<K: Queued>(
    api: &Api<K>,
    targets: Vec<Target>,
    command: &Command,
    patience: Patience,
) -> Result<Exit, Error> {
    let mut exit = Exit::Done;
    let mut waiting = BTreeMap::new();
    let mut appending = stream::iter(targets)
        .map(|target| async move {
            let appended = append(api, &target.name, target.uid.as_deref(), command, Tolerance::None).await;
            (target, appended)
        })
        .buffered(AT_ONCE);
    while let Some((Target { name, uid }, appended)) = appending.next().await {
        match appended {
            Ok(Appended::Queued { uid }) => drop(waiting.insert(name, uid)),
            Ok(Appended::Destroyed) => report::<K>(&name, destroyed(command), &mut exit)?,
            // It was there when it was listed.
            Err(error) if uid.is_some() && error.is_gone(&name) => {
                report::<K>(&name, judge_gone::<K>(None, command), &mut exit)?;
            }
            Err(error) => {
                let error = error.within::<K>(&name, api.namespace().unwrap_or_default());
                print::tell(&format!("error: {error}"));
                exit = Exit::Failed;
            }
        }
    }
    if matches!(patience, Patience::None) {
        for name in waiting.into_keys() {
            report::<K>(&name, Verdict::Good(format!("appended as {}", command.id)), &mut exit)?;
        }
    } else if !waiting.is_empty() {
        await_outcomes(api, waiting, command, patience, &mut exit).await?;
    }
    Ok(exit)
}

async fn await_outcomes<K: Queued>(
    api: &Api<K>,
    waiting: BTreeMap<String, String>,
    command: &Command,
    patience: Patience,
    exit: &mut Exit,
) -> Result<(), Error> {
    let end = patience.limit().and_then(|limit| Instant::now().checked_add(limit.to_std()));
    let mut follower = Follower::new(api, waiting.clone());
    // What was told last of each that is still waited for.
    let mut waiting: BTreeMap<String, Option<String>> = waiting.into_keys().map(|name| (name, None)).collect();
    while !waiting.is_empty() {
        let sight = tokio::select! {
        biased;
            sight = follower.next() => sight,
            () = until(end) => break,
        };
        let sight = match sight {
            Ok(sight) => sight,
            Err(error) => {
                let text = format!("appended as {}, but what comes of it cannot be seen: {error}", command.id);
                return waiting.keys().try_for_each(|name| report::<K>(name, Verdict::Bad(text.clone()), exit));
            }
        };
        let (name, verdict) = match &sight {
            Sight::Now(object) => (object.name(), judge(object, command, patience)),
            Sight::Gone { name, last } => (name.as_str(), judge_gone(last.as_ref(), command)),
        };
        match (waiting.get_mut(name), verdict) {
            (None, _) => {}
            (Some(told), Verdict::Waiting(news)) => {
                if let Some(text) = news.as_ref().filter(|_| *told != news) {
                    print::tell(&format!("{}/{name}: {text}", K::WORD));
                }
                *told = news;
            }
            (Some(_), verdict) => {
                waiting.remove(name);
                follower.leave(name);
                report::<K>(name, verdict, exit)?;
            }
        }
    }
    for (name, told) in waiting {
        report::<K>(&name, Verdict::Bad(too_long(command, patience, told)), exit)?;
    }
    Ok(())
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}

fn report<K: Queued>(name: &str, verdict: Verdict, exit: &mut Exit) -> Result<(), Error> {
    match verdict {
        Verdict::Waiting(_) => {}
        Verdict::Good(text) => print::out(&format!("{}/{name}: {text}", K::WORD))?,
        Verdict::Bad(text) => {
            print::tell(&format!("error: {}/{name}: {text}", K::WORD));
            *exit = Exit::Failed;
        }
    }
    Ok(())
}

fn judge<K: Queued>(object: &K, command: &Command, patience: Patience) -> Verdict {
    let Some(entry) = object.outcome(&command.id) else {
        return Verdict::Waiting(None);
    };
    match (entry.outcome, patience) {
        (Outcome::Refused | Outcome::Unknown(_), _) => Verdict::Bad(words(entry)),
        (_, Patience::Teardown(_)) if !object.is_destroyed() => Verdict::Waiting(Some(object.story())),
        (_, Patience::Teardown(_)) => Verdict::Good(object.story()),
        (_, _) => Verdict::Good(words(entry)),
    }
}

/// Of an object that is gone: a Release has what it wanted, whoever did it.
fn judge_gone<K: Queued>(last: Option<&K>, command: &Command) -> Verdict {
    match (last.and_then(|object| object.outcome(&command.id)), command.type_) {
        (Some(entry), _) if matches!(entry.outcome, Outcome::Refused | Outcome::Unknown(_)) => {
            Verdict::Bad(words(entry))
        }
        (_, CommandType::Release) => Verdict::Good("gone".to_owned()),
        (Some(entry), _) => Verdict::Good(format!("{}; it is gone since", words(entry))),
        (None, _) => Verdict::Bad("it was deleted before the command was consumed".to_owned()),
    }
}

fn destroyed(command: &Command) -> Verdict {
    let text = "it is Destroyed already".to_owned();
    match command.type_ {
        CommandType::Release => Verdict::Good(text),
        _ => Verdict::Bad(format!("{text} and takes no more commands; create a new one")),
    }
}

fn too_long(command: &Command, patience: Patience, told: Option<String>) -> String {
    let limit = patience.limit().unwrap_or_default();
    match told {
        Some(story) => format!("its teardown is not done after {limit}, and goes on: {story}"),
        None => format!(
            "appended as {}, but not consumed in {limit}: is the controller running? When it is, it will be",
            command.id
        ),
    }
}

fn words(entry: &LedgerEntry) -> String {
    let outcome = match entry.outcome {
        Outcome::Applied => "Applied",
        Outcome::Refused => "Refused",
        Outcome::Ignored => "Ignored",
        Outcome::Unknown(word) => word.as_str(),
    };
    if entry.message.is_empty() { outcome.to_owned() } else { format!("{outcome}: {}", entry.message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Lease;
    use serde_json::{Value, json};

    fn lease(phase: &str, outcome: Option<&str>) -> Lease {
        let entry = |outcome| json!({"id": "c", "type": "Release", "outcome": outcome, "message": "because", "observedAt": "2026-11-23T10:00:00Z"});
        let ledger: Vec<Value> = outcome.into_iter().map(entry).collect();
        serde_json::from_value(json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "l", "uid": "u"},
            "spec": {"resourceType": "host"}, "status": {"phase": phase, "commands": ledger},
        }))
        .unwrap()
    }

    fn command(type_: &str) -> Command {
        serde_json::from_value(json!({"id": "c", "type": type_})).unwrap()
    }

    fn good(text: &str) -> Verdict {
        Verdict::Good(text.to_owned())
    }

    fn bad(text: &str) -> Verdict {
        Verdict::Bad(text.to_owned())
    }

    #[test]
    fn what_is_seen_is_judged_by_the_ledger_and_the_phase() {
        let outcome = Patience::outcome(Duration::from_secs(30));
        let teardown = Patience::Teardown(None);
        let story = |text: &str| Verdict::Waiting(Some(text.to_owned()));
        for (phase, entry, patience, verdict) in [
            ("Active", None, outcome, Verdict::Waiting(None)),
            ("Released", Some("Applied"), outcome, good("Applied: because")),
            ("Destroyed", Some("Ignored"), outcome, good("Ignored: because")),
            ("Active", Some("Refused"), outcome, bad("Refused: because")),
            ("Active", None, teardown, Verdict::Waiting(None)),
            ("Released", Some("Applied"), teardown, story("Released")),
            ("Destroyed", Some("Applied"), teardown, good("Destroyed")),
            ("Active", Some("Refused"), teardown, bad("Refused: because")),
        ] {
            assert_eq!(judge(&lease(phase, entry), &command("Release"), patience), verdict, "{phase} {entry:?}");
        }
    }

    #[test]
    fn what_is_gone_is_released_but_not_extended() {
        let never = "it was deleted before the command was consumed";
        for (type_, entry, verdict) in [
            ("Release", None, good("gone")),
            ("Release", Some("Applied"), good("gone")),
            ("Release", Some("Refused"), bad("Refused: because")),
            ("Expires", None, bad(never)),
            ("Expires", Some("Applied"), good("Applied: because; it is gone since")),
            ("Expires", Some("Refused"), bad("Refused: because")),
        ] {
            let last = lease("Active", entry);
            assert_eq!(judge_gone(Some(&last), &command(type_)), verdict, "{type_} {entry:?}");
        }
        assert_eq!(judge_gone::<Lease>(None, &command("Expires")), bad(never));
    }
}
