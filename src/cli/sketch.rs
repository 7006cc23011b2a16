//! An object of which only that is read which sending commands needs: the commands, what came of them and the phase. So a lease
//! that another version has made can be released and extended, whatever else it holds.

use super::queued::Queued;
use crate::api::{Command, LedgerEntry, readable::Assemble};
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use std::borrow::Cow;

/// An object, or what could be read of it.
#[derive(Clone, Debug)]
pub(super) struct Sketch<K> {
    metadata: ObjectMeta,
    /// The object, where this version can read it.
    whole: Option<K>,
    commands: Vec<Command>,
    ledger: Vec<LedgerEntry>,
    phase: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

/// A part of a spec or a status.
#[derive(Deserialize)]
struct Part<T> {
    #[serde(default = "Vec::new")]
    commands: Vec<T>,
    #[serde(default)]
    phase: Option<String>,
}

fn part<T: DeserializeOwned, E: serde::de::Error>(of: &Value) -> Result<Part<T>, E> {
    if of.is_null() {
        return Ok(Part { commands: Vec::new(), phase: None });
    }
    Part::deserialize(of).map_err(E::custom)
}

impl<'de, K: Assemble> Deserialize<'de> for Sketch<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let Part { commands, .. } = part(&spec)?;
        let Part { commands: ledger, phase } = part(&status)?;
        let parts = serde_json::from_value(spec).and_then(|spec| Ok((spec, serde_json::from_value(status)?)));
        let whole = parts.ok().map(|(spec, status)| K::assemble(metadata.clone(), spec, status));
        Ok(Self { metadata, whole, commands, ledger, phase })
    }
}

impl<K: Queued> kube::Resource for Sketch<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<K: Queued + Assemble> Queued for Sketch<K> {
    const WORD: &'static str = K::WORD;

    fn commands(&self) -> &[Command] {
        &self.commands
    }

    fn ledger(&self) -> &[LedgerEntry] {
        &self.ledger
    }

    fn is_over(&self) -> bool {
        match &self.whole {
            Some(whole) => whole.is_over(),
            None => matches!(self.phase.as_deref(), Some("Released" | "Broken" | "Destroyed")),
        }
    }

    fn is_destroyed(&self) -> bool {
        match &self.whole {
            Some(whole) => whole.is_destroyed(),
            None => self.phase.as_deref() == Some("Destroyed"),
        }
    }

    fn story(&self) -> String {
        match (&self.whole, &self.phase) {
            (Some(whole), _) => whole.story(),
            (None, phase) => phase.clone().unwrap_or_else(|| "Pending".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Lease, Outcome};
    use serde_json::json;

    #[test]
    fn commands_are_read_of_an_object_that_is_not() {
        let lease = |priority: serde_json::Value, phase: &str| -> Sketch<Lease> {
            let lease = json!({
                "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "l", "uid": "u"},
                "spec": {"resourceType": "host", "priority": priority, "commands": [{"id": "a", "type": "Freeze"}]},
                "status": {"phase": phase, "commands": [
                    {"id": "a", "type": "Freeze", "outcome": "Postponed", "observedAt": "2026-11-23T10:00:00Z"}]},
            });
            // As a watch reads it, too.
            let guarded: kube::core::DeserializeGuard<Sketch<Lease>> =
                serde_json::from_str(&lease.to_string()).unwrap();
            guarded.0.unwrap()
        };
        for (priority, phase, is_whole, is_over) in [
            (json!(1), "Active", true, false),
            (json!("high"), "Active", false, false),
            (json!("high"), "Destroyed", false, true),
            (json!(1), "Destroyed", true, true),
        ] {
            let read = lease(priority, phase);
            assert_eq!((read.whole.is_some(), read.is_over(), read.is_destroyed()), (is_whole, is_over, is_over));
            assert_eq!((read.name(), read.uid(), read.commands()[0].id.as_str()), ("l", "u", "a"));
            assert!(matches!(read.outcome("a").unwrap().outcome, Outcome::Unknown(_)));
            assert!(read.story().starts_with(phase), "{}", read.story());
        }
    }
}
