//! Names of objects, as the index and the loop use them.

use kube::api::ObjectMeta;
use std::{fmt, sync::Arc};

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// Of these two.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object of one of the three kinds: what a pass is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A Lease.
    Lease(ObjectKey),
    /// A Resource.
    Resource(ObjectKey),
    /// A Blueprint.
    Blueprint(ObjectKey),
}

impl Key {
    /// The kind, for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lease(_) => "Lease",
            Self::Resource(_) => "Resource",
            Self::Blueprint(_) => "Blueprint",
        }
    }

    /// Whether it is this object's.
    pub fn is_of<K: kube::Resource<DynamicType = ()>>(&self, object: &K) -> bool {
        K::kind(&()) == self.kind() && ObjectKey::of(object.meta()) == *self.object()
    }

    /// Namespace and name.
    pub fn object(&self) -> &ObjectKey {
        let (Self::Lease(key) | Self::Resource(key) | Self::Blueprint(key)) = self;
        key
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.object())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Lease, LeaseSpec, Resource, ResourceSpec};

    #[test]
    fn a_key_is_of_one_object() {
        let in_team = |name: &str| Key::Lease(ObjectKey::new("team", name));
        let mut lease = Lease::new("a", LeaseSpec::default());
        let mut resource = Resource::new("a", ResourceSpec::default());
        lease.metadata.namespace = Some("team".into());
        resource.metadata.namespace = Some("team".into());
        assert!(in_team("a").is_of(&lease));
        assert!(!in_team("b").is_of(&lease));
        assert!(!Key::Lease(ObjectKey::new("other", "a")).is_of(&lease));
        assert!(!in_team("a").is_of(&resource), "of another kind");
    }
}
