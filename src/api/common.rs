//! Values that more than one of the kinds has.

use super::{
    schema,
    time::MicroTime,
    word::{Word, known_words},
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Names a Secret of the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct LocalSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names a Secret and the namespace that it is in. Who may read it is for RBAC to say; nothing is copied.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// The namespace of the Secret.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// A way into an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Which of the environment's interfaces this is.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What speaks there, as `ssh`.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub type_: String,
    /// A host name or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub address: Option<String>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub user: Option<String>,
    /// The folder that is the lease's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// The keys by which the host is known, as in `known_hosts` without the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::host_keys")]
    pub host_keys: Vec<String>,
    /// The Secret with the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// What an object waits for, and until when.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    // The clocks of api.md, section 3.
    /// Which clock this is. Of a Lease: `Queue`, `Activation`, `Lifetime`, `Hold`, `Finished`; of a Resource: `Build`, `Age`,
    /// `Idle`; of both: `Teardown`, and `Asking`: the end was declined, and the question is repeated at this time and then at growing intervals. (`Heartbeat` is
    /// counted by each controller for itself, and never told here.)
    pub name: DeadlineName,
    /// The instant; nothing happens before it.
    pub at: MicroTime,
    /// The reason that the conditions will show when it has passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Where the instant comes from, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// The clocks of api.md, section 3.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadlineName {
    /// Lease: the wait for a resource.
    Queue,
    /// Lease: from acquired to active.
    Activation,
    /// Lease: its life.
    Lifetime,
    /// Lease: the user's sign of life. It is never told in a status, since each controller counts for itself.
    Heartbeat,
    /// Lease: kept for a look after its release.
    Hold,
    /// Lease: the destroyed object is kept so long.
    Finished,
    /// Resource: from creation to active.
    Build,
    /// Resource: its life.
    Age,
    /// Resource: unused for so long.
    Idle,
    /// Both: one attempt at the teardown.
    Teardown,
    /// Both: a deadline that was declined is asked again.
    Asking,
    /// Another version's.
    #[serde(untagged)]
    Unknown(Word),
}

known_words!(DeadlineName: Queue, Activation, Lifetime, Heartbeat, Hold, Finished, Build, Age, Idle, Teardown, Asking);

/// The last applied `Expires`, or edit of `spec.expiresAt`: it replaces `ttl` and `expiresAt` as a whole until the next.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<MicroTime>,
    /// For ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never: Option<bool>,
}

/// What went wrong in a driver's step.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The step of the driver.
    #[schemars(length(max = 64))]
    pub step: String,
    /// A CamelCase word for it.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// A sentence about it.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The command that was run, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub command: Option<String>,
    /// The command's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The last 4 KiB of what the command said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub output: Option<String>,
}

/// A label selector, as in `metav1.LabelSelector`, with bounds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Each key must have its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Each requirement must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a selector.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[x_kube(validation = ("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)", "values go with operator In or NotIn, and only with these; give at least one, or use Exists or DoesNotExist without any"))]
pub struct Requirement {
    /// The key that is looked at.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// How it is compared: `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: Operator,
    /// With `In` and `NotIn`: the values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_values")]
    pub values: Vec<String>,
}

/// How a requirement compares.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The key is there with one of the values.
    In,
    /// The key is absent, or has none of the values.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// Another version's. It matches nothing.
    #[serde(untagged)]
    Unknown(Word),
}

known_words!(Operator: In, NotIn, Exists, DoesNotExist);

impl Selector {
    /// Whether these labels satisfy the selector; an empty selector takes all.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Unknown(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_matches_as_kubernetes_selectors_do() {
        let labels = BTreeMap::from([("arch".to_owned(), "arm64".to_owned())]);
        let requirement = |key: &str, operator, values: &[&str]| Selector {
            match_expressions: vec![Requirement {
                key: key.into(),
                operator,
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            }],
            ..Selector::default()
        };
        for (selector, expected) in [
            (Selector::default(), true),
            (Selector { match_labels: labels.clone(), ..Selector::default() }, true),
            (Selector { match_labels: [("arch".into(), "amd64".into())].into(), ..Selector::default() }, false),
            (Selector { match_labels: [("disk".into(), "big".into())].into(), ..Selector::default() }, false),
            (requirement("arch", Operator::In, &["arm64", "amd64"]), true),
            (requirement("arch", Operator::In, &["amd64"]), false),
            (requirement("disk", Operator::In, &["big"]), false),
            (requirement("arch", Operator::NotIn, &["amd64"]), true),
            (requirement("arch", Operator::NotIn, &["arm64"]), false),
            (requirement("disk", Operator::NotIn, &["big"]), true),
            (requirement("arch", Operator::Exists, &[]), true),
            (requirement("disk", Operator::Exists, &[]), false),
            (requirement("disk", Operator::DoesNotExist, &[]), true),
            (requirement("arch", Operator::DoesNotExist, &[]), false),
        ] {
            assert_eq!(selector.matches(&labels), expected, "{selector:?}");
        }
    }
}
