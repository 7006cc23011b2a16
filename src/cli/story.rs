//! An object's life in a line, and what a lease hands over: for people who watch.

use crate::api::{Condition, Interface, Lease, LeasePhase, Resource, ResourcePhase};

/// Where a lease is, and why.
pub(super) fn of_lease(lease: &Lease) -> String {
    let Some(status) = &lease.status else {
        return unseen();
    };
    let because = |type_| because(&status.conditions, type_);
    let resource = status.resource_ref.as_ref().map(|r| format!("{}/{}", r.namespace, r.name));
    match lease.phase() {
        LeasePhase::Pending => {
            let place = status.queue_position.map(|place| format!(", place {place}")).unwrap_or_default();
            format!("Pending{place}{}", because("Acquired"))
        }
        LeasePhase::Acquired => format!("Acquired{}{}", on(resource), because("Ready")),
        LeasePhase::Active => {
            let until = status.expires_at.map(|end| format!(" until {end}")).unwrap_or_default();
            format!("Active{}{until}", on(resource))
        }
        LeasePhase::Released => format!("Released{}{}", because("Released"), teardown(&status.conditions)),
        LeasePhase::Broken => {
            let failure = status.failure.as_ref().map(|f| format!("; {}: {}", f.step, f.message)).unwrap_or_default();
            format!("Broken{}{failure}{}", because("Released"), teardown(&status.conditions))
        }
        LeasePhase::Destroyed => format!("Destroyed{}", because("Released")),
    }
}

/// Where a resource is, and why.
pub(super) fn of_resource(resource: &Resource) -> String {
    let Some(status) = &resource.status else {
        return unseen();
    };
    let because = |type_| because(&status.conditions, type_);
    match resource.phase() {
        ResourcePhase::Pending => format!("Pending{}", because("Ready")),
        ResourcePhase::Active if status.claims.is_empty() => "Active, idle".to_owned(),
        ResourcePhase::Active => format!("Active, held by {}", holders(resource)),
        ResourcePhase::Released => format!("Released{}{}", because("Released"), teardown(&status.conditions)),
        ResourcePhase::Broken => format!("Broken{}{}", because("Released"), teardown(&status.conditions)),
        ResourcePhase::Destroyed => format!("Destroyed{}", because("Released")),
    }
}

/// The ways into a lease's environment and the facts about it, a line each.
pub(super) fn handed_over(lease: &Lease) -> Vec<String> {
    let Some(status) = &lease.status else {
        return vec![];
    };
    let interfaces = status.interfaces.iter().map(interface);
    interfaces.chain(status.outputs.iter().map(|(name, value)| format!("{name}={value}"))).collect()
}

fn interface(interface: &Interface) -> String {
    let mut text = format!("{} ({})", interface.name, interface.type_);
    if let Some(address) = &interface.address {
        let user = interface.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        // The colons of an IPv6 address would swallow the port's.
        let (open, close) = if address.contains(':') && interface.port.is_some() { ("[", "]") } else { ("", "") };
        let port = interface.port.map(|port| format!(":{port}")).unwrap_or_default();
        text += &format!(" {user}{open}{address}{close}{port}");
    }
    if let Some(path) = &interface.path {
        text += &format!(", folder {path}");
    }
    if let Some(secret) = &interface.secret_ref {
        text += &format!(", secret {}/{}", secret.namespace, secret.name);
    }
    text
}

fn unseen() -> String {
    "Pending: no controller has seen it yet".to_owned()
}

fn on(resource: Option<String>) -> String {
    resource.map(|name| format!(" on {name}")).unwrap_or_default()
}

fn holders(resource: &Resource) -> String {
    let names: Vec<String> = resource.claims().iter().map(|c| format!("{}/{}", c.namespace, c.name)).collect();
    names.join(", ")
}

/// How its teardown goes, where that is known.
fn teardown(conditions: &[Condition]) -> String {
    let text = because(conditions, "TornDown");
    if text.is_empty() { text } else { format!("; teardown{text}") }
}

/// `: Reason: message` of a condition.
fn because(conditions: &[Condition], type_: &str) -> String {
    match conditions.iter().find(|condition| condition.type_ == type_) {
        Some(c) if c.message.is_empty() => format!(": {}", c.reason),
        Some(c) => format!(": {}: {}", c.reason, c.message),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lease(status: Value) -> Lease {
        let spec = json!({"resourceType": "host"});
        serde_json::from_value(json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "l"}, "spec": spec, "status": status})).unwrap()
    }

    fn condition(type_: &str, reason: &str, message: &str) -> Value {
        json!({"type": type_, "status": "False", "reason": reason, "message": message, "lastTransitionTime": "2026-11-23T10:00:00Z"})
    }

    #[test]
    fn a_lease_tells_its_phase_its_place_and_the_reason() {
        let resource = json!({"namespace": "pool", "name": "hosts--h1", "uid": "u"});
        for (status, story) in [
            (Value::Null, "Pending: no controller has seen it yet"),
            (json!({}), "Pending"),
            (
                json!({"phase": "Pending", "queuePosition": 3, "conditions": [condition("Acquired", "AtCapacity", "hosts: 2 of 2 are leased")]}),
                "Pending, place 3: AtCapacity: hosts: 2 of 2 are leased",
            ),
            (
                json!({"phase": "Acquired", "resourceRef": resource, "conditions": [condition("Ready", "Activating", "")]}),
                "Acquired on pool/hosts--h1: Activating",
            ),
            (
                json!({"phase": "Active", "resourceRef": resource, "expiresAt": "2026-11-23T10:00:00Z"}),
                "Active on pool/hosts--h1 until 2026-11-23T10:00:00.000000Z",
            ),
            (
                json!({"phase": "Released", "conditions": [condition("Released", "Expired", "ttl"), condition("TornDown", "TearingDown", "")]}),
                "Released: Expired: ttl; teardown: TearingDown",
            ),
            (
                json!({"phase": "Broken", "failure": {"step": "activate", "reason": "X", "message": "no disk"}, "conditions": [condition("Released", "Failed", "")]}),
                "Broken: Failed; activate: no disk",
            ),
            (
                json!({"phase": "Destroyed", "conditions": [condition("Released", "QueueTimeout", "waited 1m")]}),
                "Destroyed: QueueTimeout: waited 1m",
            ),
        ] {
            assert_eq!(of_lease(&lease(status.clone())), story, "{status}");
        }
    }

    #[test]
    fn what_is_handed_over_is_told_a_line_each() {
        let active = lease(json!({
            "phase": "Active",
            "interfaces": [
                {"name": "ssh", "type": "ssh", "address": "192.0.2.7", "port": 22, "user": "ci", "secretRef": {"namespace": "pool", "name": "ci-ssh"}},
                {"name": "six", "type": "ssh", "address": "2001:db8::1", "port": 22},
                {"name": "dir", "type": "ssh", "address": "h1", "path": "/var/x"},
            ],
            "outputs": {"serial": "4711"},
        }));
        let expected = [
            "ssh (ssh) ci@192.0.2.7:22, secret pool/ci-ssh",
            "six (ssh) [2001:db8::1]:22",
            "dir (ssh) h1, folder /var/x",
            "serial=4711",
        ];
        assert_eq!(handed_over(&active), expected);
    }
}
