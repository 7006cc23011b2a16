//! What leases and resources have in common for whoever sends them commands.

use crate::api::{Command, Lease, LeasePhase, LedgerEntry, Resource, ResourcePhase};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// An object with a command queue.
pub(super) trait Queued:
    kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// The word for it in messages.
    const WORD: &'static str;

    /// The queue.
    fn commands(&self) -> &[Command];

    /// What came of the commands that were consumed.
    fn ledger(&self) -> &[LedgerEntry];

    /// Whether its end is decided, by release or because it broke.
    fn is_over(&self) -> bool;

    /// Whether all of it is gone; it takes no more commands.
    fn is_destroyed(&self) -> bool;

    /// Where it is in its life, in a line.
    fn story(&self) -> String;

    /// Its name; empty where the server sent none, which it never does.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// Its UID; empty where the server sent none, which it never does.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    /// What came of one command.
    fn outcome(&self, id: &str) -> Option<&LedgerEntry> {
        self.ledger().iter().find(|entry| entry.id == id)
    }
}

impl Queued for Lease {
    const WORD: &'static str = "lease";

    fn commands(&self) -> &[Command] {
        &self.spec.commands
    }
    fn ledger(&self) -> &[LedgerEntry] {
        self.status.as_ref().map_or(&[], |s| &s.commands)
    }
    fn is_over(&self) -> bool {
        matches!(self.phase(), LeasePhase::Released | LeasePhase::Broken | LeasePhase::Destroyed)
    }
    fn is_destroyed(&self) -> bool {
        self.phase() == LeasePhase::Destroyed
    }
    fn story(&self) -> String {
        super::story::of_lease(self)
    }
}

impl Queued for Resource {
    const WORD: &'static str = "resource";

    fn commands(&self) -> &[Command] {
        &self.spec.commands
    }
    fn ledger(&self) -> &[LedgerEntry] {
        self.status.as_ref().map_or(&[], |s| &s.commands)
    }
    fn is_over(&self) -> bool {
        matches!(self.phase(), ResourcePhase::Released | ResourcePhase::Broken | ResourcePhase::Destroyed)
    }
    fn is_destroyed(&self) -> bool {
        self.phase() == ResourcePhase::Destroyed
    }
    fn story(&self) -> String {
        super::story::of_resource(self)
    }
}
