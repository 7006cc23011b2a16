//! The kinds that have a command queue, in all the words by which kubectl knows them.

use crate::api::{GROUP, VERSION};
use std::str::FromStr;

/// A kind that commands can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lease,
    Resource,
}

impl Kind {
    fn named(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let short = word.strip_suffix(GROUP).map_or(Some(word.as_str()), |rest| {
            rest.strip_suffix('.')
                .map(|rest| rest.strip_suffix(VERSION).and_then(|r| r.strip_suffix('.')).unwrap_or(rest))
        })?;
        match short {
            "lease" | "leases" | "dlease" => Some(Self::Lease),
            "resource" | "resources" | "dres" => Some(Self::Resource),
            _ => None,
        }
    }
}

/// `KIND/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) kind: Kind,
    pub(super) name: String,
}

/// Says why a text names nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum NamesNothing {
    #[error("write KIND/NAME with the kind lease or resource, as lease/build-4711")]
    Form,
    #[error(
        "{0:?} is no kind that expires: it is lease (dlease, leases.drydock.dev) or resource (dres, resources.drydock.dev)"
    )]
    Kind(String),
    #[error("this verb takes the names of {0}s")]
    Other(&'static str),
}

impl FromStr for Named {
    type Err = NamesNothing;

    fn from_str(text: &str) -> Result<Self, NamesNothing> {
        let (kind, name) = text.split_once('/').ok_or(NamesNothing::Form)?;
        if name.is_empty() || name.contains('/') {
            return Err(NamesNothing::Form);
        }
        let kind = Kind::named(kind).ok_or_else(|| NamesNothing::Kind(kind.to_owned()))?;
        Ok(Self { kind, name: name.to_owned() })
    }
}

/// The name of a lease; `kubectl get -o name` writes the kind before it.
pub(super) fn lease_name(text: &str) -> Result<String, NamesNothing> {
    name_of(Kind::Lease, "lease", text)
}

/// The name of a resource; `kubectl get -o name` writes the kind before it.
pub(super) fn resource_name(text: &str) -> Result<String, NamesNothing> {
    name_of(Kind::Resource, "resource", text)
}

fn name_of(kind: Kind, word: &'static str, text: &str) -> Result<String, NamesNothing> {
    if text.is_empty() {
        return Err(NamesNothing::Other(word));
    }
    if !text.contains('/') {
        return Ok(text.to_owned());
    }
    match text.parse::<Named>() {
        Ok(named) if named.kind == kind => Ok(named.name),
        _ => Err(NamesNothing::Other(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_words_that_kubectl_has_for_it() {
        for (text, kind) in [
            ("lease/x", Some(Kind::Lease)),
            ("leases/x", Some(Kind::Lease)),
            ("Lease/x", Some(Kind::Lease)),
            ("dlease/x", Some(Kind::Lease)),
            ("lease.drydock.dev/x", Some(Kind::Lease)),
            ("leases.drydock.dev/x", Some(Kind::Lease)),
            ("leases.v1alpha1.drydock.dev/x", Some(Kind::Lease)),
            ("resource/x", Some(Kind::Resource)),
            ("dres/x", Some(Kind::Resource)),
            ("resources.drydock.dev/x", Some(Kind::Resource)),
            ("leases.coordination.k8s.io/x", None),
            ("leasesdrydock.dev/x", None),
            ("drydock.dev/x", None),
            ("blueprint/x", None),
            ("/x", None),
            ("lease/", None),
            ("lease/x/y", None),
            ("lease", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Named>().ok().map(|n| n.kind), kind, "{text}");
        }
    }

    #[test]
    fn a_name_may_have_its_kind_before_it() {
        for (text, name) in [
            ("x", Some("x")),
            ("lease.drydock.dev/x", Some("x")),
            ("resource.drydock.dev/x", None),
            ("lease/", None),
            ("", None),
        ] {
            assert_eq!(lease_name(text).ok().as_deref(), name, "{text}");
        }
        assert_eq!(resource_name("dres/h--1").unwrap(), "h--1");
    }
}
