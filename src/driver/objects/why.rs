//! What objects say of themselves that keeps them from being ready: their conditions, the states of a Pod's containers, and
//! their phases. Nothing is decided by it; it is for people to read.

use serde_json::Value;

/// So many objects are named, each with so many statements.
const OBJECTS: usize = 8;
const STATEMENTS: usize = 3;
/// A message is cut to so many characters.
const MESSAGE: usize = 200;
/// So many entries of a list that an object's author has written are looked at.
const ENTRIES: usize = 64;

/// Parts of the names of conditions that are bad when they are true. All others are bad when they are not.
const BAD_WHEN_TRUE: [&str; 15] = [
    "Fail",
    "Error",
    "Degraded",
    "Stalled",
    "Suspended",
    "Paused",
    "Pressure",
    "Unavailable",
    "Unschedulable",
    "Conflict",
    "Invalid",
    "Pending",
    "Remaining",
    "Deleting",
    "Terminating",
];

/// What the objects say, in one text; empty, where they say nothing. Those that complain come before those of which only the
/// phase is known.
pub fn complaints(objects: &[Value]) -> String {
    let (mut complaining, mut phases) = (Vec::new(), Vec::new());
    for object in objects {
        let Some(name) = name_of(object) else { continue };
        let phase = text(object, "/status/phase").map(|phase| format!(" is {phase}"));
        let statements = statements(object);
        match (phase, statements.is_empty()) {
            (phase, false) => {
                complaining.push(format!("{name}{}: {}", phase.unwrap_or_default(), statements.join(", ")))
            }
            (Some(phase), true) => phases.push(format!("{name}{phase}")),
            (None, true) => {}
        }
        if complaining.len() >= OBJECTS {
            break;
        }
    }
    complaining.extend(phases);
    complaining.truncate(OBJECTS);
    complaining.join("; ")
}

fn name_of(object: &Value) -> Option<String> {
    Some(format!("{} {}", text(object, "/kind")?, text(object, "/metadata/name")?))
}

/// The nearest cause first: what a container waits for, then what is bad, then what is not good yet.
fn statements(object: &Value) -> Vec<String> {
    let mut statements = Vec::new();
    for list in ["initContainerStatuses", "containerStatuses"] {
        statements.extend(entries(object, &format!("/status/{list}")).filter_map(container));
    }
    for bad_when_true in [true, false] {
        let conditions = entries(object, "/status/conditions");
        statements.extend(conditions.filter_map(|condition| {
            let type_ = condition.get("type").and_then(Value::as_str)?;
            let is_named = BAD_WHEN_TRUE.iter().any(|part| type_.contains(part));
            if is_named == bad_when_true { self::condition(type_, condition, bad_when_true) } else { None }
        }));
    }
    // Of an object that has been evicted, and of many custom resources.
    statements.extend(said(object.pointer("/status").unwrap_or(&Value::Null)).filter(|_| statements.is_empty()));
    statements.truncate(STATEMENTS);
    statements
}

fn condition(type_: &str, condition: &Value, bad_when_true: bool) -> Option<String> {
    let status = condition.get("status").and_then(Value::as_str)?;
    if (status == "True") != bad_when_true {
        return None;
    }
    // A condition that does not say why helps nobody.
    Some(format!("{}={} {}", cut(type_), cut(status), said(condition)?))
}

fn container(status: &Value) -> Option<String> {
    let name = cut(status.get("name").and_then(Value::as_str)?);
    if let Some(waiting) = status.pointer("/state/waiting") {
        let starts = ["ContainerCreating", "PodInitializing"];
        let reason = waiting.get("reason").and_then(Value::as_str);
        let says_nothing = reason.is_some_and(|reason| starts.contains(&reason)) && waiting.get("message").is_none();
        return (!says_nothing).then(|| Some(format!("container {name} waits {}", said(waiting)?))).flatten();
    }
    let ended = status.pointer("/state/terminated")?;
    let code = ended.get("exitCode").and_then(Value::as_i64).filter(|code| *code != 0)?;
    Some(format!("container {name} has ended with exit code {code} {}", said(ended).unwrap_or_default()).trim().into())
}

/// The reason and the message of a condition or a state, as far as there are any.
fn said(value: &Value) -> Option<String> {
    let field = |field: &str| value.get(field).and_then(Value::as_str).map(cut).filter(|text| !text.is_empty());
    match (field("reason"), field("message")) {
        (Some(reason), Some(message)) => Some(format!("({reason}): {message}")),
        (Some(reason), None) => Some(format!("({reason})")),
        (None, Some(message)) => Some(message),
        (None, None) => None,
    }
}

fn entries<'a>(object: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(at).and_then(Value::as_array).into_iter().flatten().take(ENTRIES)
}

fn text(object: &Value, at: &str) -> Option<String> {
    object.pointer(at).and_then(Value::as_str).map(cut)
}

/// A text on one line, cut.
fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let kept: String = chars.by_ref().take(MESSAGE).map(|char| if char.is_control() { ' ' } else { char }).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("{}{rest}", kept.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, status: &Value) -> Value {
        json!({"kind": kind, "metadata": {"name": "a"}, "status": status})
    }

    #[test]
    fn objects_say_what_keeps_them_from_being_ready() {
        let failed_create = "pods \"a-1\" is forbidden: exceeded quota: none";
        for (kind, status, expected) in [
            ("ConfigMap", json!(null), "".to_owned()),
            ("Namespace", json!({"phase": "Active"}), "Namespace a is Active".into()),
            (
                "Deployment",
                json!({"conditions": [
                    {"type": "Progressing", "status": "True", "reason": "NewReplicaSetCreated", "message": "created"},
                    {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "no"},
                    {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failed_create},
                ]}),
                format!(
                    "Deployment a: ReplicaFailure=True (FailedCreate): {failed_create}, Available=False \
                     (MinimumReplicasUnavailable): no"
                ),
            ),
            (
                "Pod",
                json!({"phase": "Pending", "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"},
                ]}),
                "Pod a is Pending: PodScheduled=False (Unschedulable): 0/1 nodes".into(),
            ),
            (
                "Pod",
                json!({"phase": "Pending", "containerStatuses": [
                    {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no\nsuch image"}}},
                    {"name": "new", "state": {"waiting": {"reason": "ContainerCreating"}}},
                    {"name": "done", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                    {"name": "bad", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}},
                ]}),
                "Pod a is Pending: container app waits (ImagePullBackOff): no such image, container bad has ended with \
                 exit code 3 (Error)"
                    .into(),
            ),
            ("Pod", json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}), {
                "Pod a is Failed: (Evicted): low on disk".into()
            }),
            (
                "Machine",
                json!({"conditions": [
                    {"type": "Ready", "status": "False", "reason": "NoQuota", "message": "the project has no quota left"},
                    {"type": "Stalled", "status": "False", "reason": "Fine", "message": "all is well"},
                    {"type": "Synced", "status": "Unknown", "message": "not looked at yet"},
                    {"type": "Silent", "status": "False"},
                    {"type": 7, "status": "False", "message": "no condition"},
                ]}),
                "Machine a: Ready=False (NoQuota): the project has no quota left, Synced=Unknown not looked at yet".into(),
            ),
            ("Odd", json!({"phase": {"a": 1}, "conditions": "none", "containerStatuses": {}}), String::new()),
        ] {
            assert_eq!(complaints(&[object(kind, &status)]), expected, "{status}");
        }
    }

    #[test]
    fn those_that_complain_come_first() {
        let active = json!({"kind": "Namespace", "metadata": {"name": "n"}, "status": {"phase": "Active"}});
        let failed = object("Job", &json!({"conditions": [{"type": "Failed", "status": "True", "message": "twice"}]}));
        assert_eq!(complaints(&[active, failed]), "Job a: Failed=True twice; Namespace n is Active");
    }

    #[test]
    fn what_is_said_is_bounded() {
        let condition = json!({"type": "Ready", "status": "False", "message": "ä".repeat(100_000)});
        let many: Vec<_> = (0..500).map(|_| condition.clone()).collect();
        let objects: Vec<_> = (0..64).map(|_| object("Machine", &json!({"conditions": many}))).collect();
        let text = complaints(&objects);
        assert_eq!(text.matches("Machine a").count(), 8);
        assert!(text.chars().count() < 8 * (20 + 3 * 230), "{}", text.chars().count());
    }
}
