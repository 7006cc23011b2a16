//! What can go wrong in a verb, as one line that names the thing, its value and the way out.

use super::queued::Queued;
use crate::api::Lease;
use kube::{config::KubeconfigError, core::Status};
use std::{io, path::PathBuf, process::ExitCode};

/// Why a verb could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag whose value makes no sense now, though it is well formed.
    #[error("{flag} {value}: {remedy}")]
    Flag {
        /// The flag as it was written.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what to give instead.
        remedy: String,
    },
    /// A question that needs a terminal.
    #[error("{0}")]
    Unasked(String),
    /// A kubeconfig that cannot be read, or does not hold what was asked for.
    #[error("{origin}: {}; {remedy}", one_line(&chain(.source)))]
    Kubeconfig {
        /// Where it was looked for.
        origin: String,
        /// What to do.
        remedy: &'static str,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// No cluster to talk to.
    #[error("no cluster to talk to: {}; give --kubeconfig, set KUBECONFIG, or run it in a Pod", kubeconfig(.0))]
    NoCluster(#[source] kube::config::InferConfigError),
    /// The API server refused, in its own words.
    #[error("{tried}: {}", refusal(.status))]
    Refused {
        /// What was tried on what.
        tried: String,
        /// The answer.
        status: Box<Status>,
    },
    /// The object is not there.
    #[error(
        "{what}: not found in namespace {namespace}; see what is there with `kubectl get {kind} --namespace {namespace}`, or give another --namespace"
    )]
    NotFound {
        /// Which object.
        what: String,
        /// Its kind, as kubectl knows it.
        kind: &'static str,
        /// Where it was looked for.
        namespace: String,
    },
    /// Another object has the name.
    #[error("{what}: already exists in namespace {namespace}; give another name, or none, and one is made up")]
    AlreadyExists {
        /// Which object.
        what: String,
        /// Where it was to be.
        namespace: String,
    },
    /// The API server could not be asked.
    #[error("{tried}: {}", unreachable(.source))]
    Unreachable {
        /// What was tried on what.
        tried: String,
        /// What stood in the way.
        #[source]
        source: kube::Error,
    },
    /// The API server did not answer.
    #[error("{tried}: no answer from the API server in {seconds}s; see whether it is up, and try again")]
    NoAnswer {
        /// What was tried on what.
        tried: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The object is not the one that was meant.
    #[error("{what}: it was deleted, and another one has its name now; look at it before you try again")]
    Replaced {
        /// Which object.
        what: String,
    },
    /// A file or folder could not be written.
    #[error("--output-dir: cannot write {}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Standard output or the terminal failed.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// An object could not be written as JSON.
    #[error("cannot write it as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An object could not be written as YAML.
    #[error("cannot write it as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
    /// The machine gave no random numbers, of which ids are made.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl Error {
    /// What came of a request.
    pub(super) fn request(tried: &str, error: kube::Error) -> Self {
        let tried = tried.to_owned();
        match error {
            kube::Error::Api(status) => Self::Refused { tried, status },
            source => Self::Unreachable { tried, source },
        }
    }

    /// Whether asking again may help: nothing is known of the request then, it may even have been carried out.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => matches!(source, kube::Error::Service(_) | kube::Error::HyperError(_)),
            Self::NoAnswer { .. } => true,
            // Something behind it does not answer, or it has too much to do.
            Self::Refused { status, .. } => status.code >= 500 || status.code == 429,
            _ => false,
        }
    }

    /// Whether an API server says so that has just started, and knows neither users nor their rights nor our kinds yet. Others say
    /// so, too: to whom nothing was answered yet, it is the answer.
    pub(super) fn is_of_a_start(&self) -> bool {
        let Self::Refused { status, .. } = self else { return false };
        match status.code {
            401 => true,
            403 => !status.message.contains("exceeded quota"),
            404 => status.details.as_ref().is_none_or(|details| details.name.is_empty()),
            _ => false,
        }
    }

    /// The same, where it is about an object of ours in a namespace: the server's words do not say in which.
    pub(super) fn within<K: Queued>(self, name: &str, namespace: &str) -> Self {
        match self {
            Self::Refused { tried, .. } if self.is_absent(name) => {
                let kind = if K::WORD == Lease::WORD { "dlease" } else { "dres" };
                Self::NotFound { what: tried, kind, namespace: namespace.to_owned() }
            }
            Self::Refused { tried, status } if status.is_already_exists() => {
                Self::AlreadyExists { what: tried, namespace: namespace.to_owned() }
            }
            other => other,
        }
    }

    /// Whether the answer is that this object is not there: a path that the server does not know, or a namespace that is not
    /// there, says nothing of the object.
    fn is_absent(&self, name: &str) -> bool {
        let of_it = |status: &Status| status.details.as_ref().is_some_and(|d| d.name == name && d.kind != "namespaces");
        matches!(self, Self::Refused { status, .. } if status.is_not_found() && of_it(status))
    }

    /// Whether the object of this name, which was meant, is not there any more.
    pub(super) fn is_gone(&self, name: &str) -> bool {
        match self {
            Self::Refused { .. } => self.is_absent(name),
            Self::Replaced { .. } => true,
            _ => false,
        }
    }

    /// Whether the object would not be a valid one, or a patch does not fit it.
    pub(super) fn is_invalid(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_invalid())
    }

    /// Whether the reader of standard output has gone away, which is how `| head` ends a program.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// 2 where the command line is wrong, otherwise 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Flag { .. } | Self::Unasked(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// The server's message; with the remedy where its words do not tell users of Drydock what is missing.
fn refusal(status: &Status) -> String {
    let message = one_line(&status.message);
    // A path that the server does not know is answered without `details`: the kinds are not installed.
    if status.code == 404 && status.details.as_ref().is_none_or(|d| d.name.is_empty()) {
        return format!("{message}: are the definitions installed? See `drydock crds`");
    }
    if status.code == 401 {
        return format!("{message}: the API server does not know these credentials; log in again, or see --context");
    }
    message
}

/// What stood between us and the server; kube's own words for it name layers of its client.
fn unreachable(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(cause) => {
            let cause = one_line(&chain(cause.as_ref()));
            format!("cannot reach the API server: {cause}; is it up, and is it the one you mean (--context)?")
        }
        other => one_line(&chain(other)),
    }
}

/// The half of it that a user can mend; that there is no Pod's service account outside of a Pod is no news.
fn kubeconfig(error: &kube::config::InferConfigError) -> String {
    let source = std::error::Error::source(error);
    one_line(&source.map_or_else(|| error.to_string(), chain))
}

/// An error with what caused it, and each thing said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Resource;
    use serde_json::{Value, json};

    fn refused(status: Value) -> Error {
        Error::Refused { tried: "lease/l".to_owned(), status: serde_json::from_value(status).unwrap() }
    }

    /// Or a release of nothing would look like a release.
    #[test]
    fn gone_is_only_the_object_itself() {
        let not_found = |details: Value| json!({"reason": "NotFound", "code": 404, "details": details});
        for (status, gone) in [
            (not_found(json!({"name": "l", "group": "drydock.dev", "kind": "leases"})), true),
            (not_found(json!({"name": "other", "group": "drydock.dev", "kind": "leases"})), false),
            (not_found(json!({"name": "l", "kind": "namespaces"})), false),
            (not_found(json!({})), false),
            (json!({"code": 404, "reason": "NotFound"}), false),
            (json!({"code": 403, "reason": "Forbidden", "details": {"name": "l"}}), false),
        ] {
            assert_eq!(refused(status.clone()).is_gone("l"), gone, "{status}");
        }
        assert!(Error::Replaced { what: "lease/l".to_owned() }.is_gone("l"));
    }

    /// The server's words do not say in which namespace it has looked, and what to do.
    #[test]
    fn where_it_was_looked_for_is_told() {
        let absent = || refused(json!({"code": 404, "reason": "NotFound", "details": {"name": "l", "kind": "leases"}}));
        assert_eq!(
            absent().within::<Lease>("l", "ci").to_string(),
            "lease/l: not found in namespace ci; see what is there with `kubectl get dlease --namespace ci`, or give another --namespace"
        );
        assert!(absent().within::<Resource>("l", "ci").to_string().contains("`kubectl get dres --namespace ci`"));
        let there = refused(json!({"code": 409, "reason": "AlreadyExists", "details": {"name": "l"}}));
        assert_eq!(
            there.within::<Lease>("l", "ci").to_string(),
            "lease/l: already exists in namespace ci; give another name, or none, and one is made up"
        );
        let forbidden = refused(json!({"code": 403, "reason": "Forbidden", "message": "no"}));
        assert_eq!(forbidden.within::<Lease>("l", "ci").to_string(), "lease/l: no");
    }
}
