//! What the tables of this room are made of: objects as the API server gives them, instants counted from one start, and
//! short words for what a status says.

use super::conditions;
use crate::api::{
    Blueprint, Command, Condition, Deadline, DeadlineName, Duration, FINALIZER, Failure, Lease, LeaseSpec, MicroTime,
    Resource,
    step::{Answer, Facts, Wait},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use serde::de::DeserializeOwned;

/// 2026-11-23T10:00:00Z: when every object of the tables is created.
const START: i64 = 1_795_428_000;

pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 3_600;
pub const DAY: i64 = 24 * HOUR;

/// So many seconds after the start.
pub fn at(seconds: i64) -> MicroTime {
    MicroTime::from(Timestamp::from_second(START + seconds).unwrap())
}

/// One microsecond before.
pub fn just_before(instant: MicroTime) -> MicroTime {
    MicroTime::from(instant.timestamp() - SignedDuration::from_micros(1))
}

/// An instant as it is written in the tables: `+1h30m` after the start.
pub fn offset(instant: MicroTime) -> String {
    let since = instant.timestamp().duration_since(at(0).timestamp());
    format!("+{}", Duration::from_millis(i64::try_from(since.as_millis()).unwrap()))
}

/// A value as YAML has it between braces.
pub fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_yaml::from_str(&format!("{{{text}}}")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A command as in `Release, hold: 10m`.
pub fn command(id: &str, text: &str) -> Command {
    yaml(&format!("id: {id}, issuedBy: alice, type: {text}"))
}

/// A Blueprint of hosts in namespace `pools`, with more of its spec as YAML.
pub fn blueprint(more: &str) -> Blueprint {
    let spec = yaml(&format!("resourceType: host, driver: {{hosts: {{inventory: []}}}}, {more}"));
    Blueprint { metadata: meta("pools", "ci"), spec, status: None }
}

/// A lease of namespace `team`, with more of its spec as YAML.
pub fn lease(name: &str, more: &str) -> Lease {
    let spec = if more.is_empty() {
        LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() }
    } else {
        yaml(&format!("resourceType: host, {more}"))
    };
    Lease { metadata: meta("team", name), spec, status: None }
}

/// A resource of that Blueprint, with more of its spec as YAML.
pub fn resource(more: &str) -> Resource {
    let spec = yaml(&format!("resourceType: host, blueprintRef: {{name: ci, uid: uid-of-ci}}, {more}"));
    Resource { metadata: meta("pools", "ci--h1"), spec, status: None }
}

/// As the API server gives it, with our finalizer.
pub fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        uid: Some(format!("uid-of-{name}")),
        resource_version: Some("7".into()),
        generation: Some(1),
        creation_timestamp: Some(Time(at(0).timestamp())),
        finalizers: Some(vec![FINALIZER.into()]),
        ..ObjectMeta::default()
    }
}

/// `kubectl delete`.
pub fn delete(meta: &mut ObjectMeta) {
    meta.deletion_timestamp = Some(Time(at(1).timestamp()));
}

pub fn done() -> Answer {
    Answer::Done(Facts::default())
}

/// A step goes on; this is what it waits for, and what a teardown needs by now.
pub fn waits(why: &str, built: Option<serde_json::Value>) -> Wait {
    Wait { why: why.into(), built, ..Wait::after(Duration::from_secs(1)) }
}

pub fn failure(reason: &str) -> Failure {
    Failure { step: "Step".into(), reason: reason.into(), message: format!("{reason} it is"), ..Failure::default() }
}

/// All conditions as `Type=Status/Reason`.
pub fn told(conditions: &[Condition]) -> Vec<String> {
    let mut told: Vec<_> = conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
    told.sort();
    told
}

/// All deadlines as `Name +1h`.
pub fn clocks(deadlines: &[Deadline]) -> Vec<String> {
    deadlines.iter().map(|d| format!("{:?} {}", d.name, offset(d.at))).collect()
}

/// The earliest of the deadlines that somebody must wake for: an attempt at a teardown is cut off by whoever runs it.
pub fn earliest(deadlines: &[Deadline]) -> Option<MicroTime> {
    deadlines.iter().filter(|d| d.name != DeadlineName::Teardown).map(|d| d.at).min()
}

/// The reason of a condition, and its message.
pub fn reason_and_message(conditions: &[Condition], type_: &str) -> (String, String) {
    conditions::get(conditions, type_).map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
}
