//! What a Blueprint allows and asks for: its limits, whom it admits, what its resources are made from. A controller goes by
//! what it knows, and that may be old, or not yet have what another controller has just done. So each check goes by what can
//! have been read: nothing older than what its writer had been shown. That is the true bound of what is only counted: a
//! controller keeps to it with all that it knows of, and two at once may be above it by what they do not know of one another.

use super::{Now, Verdict, wrong};
use crate::{habits, journal::Kind};
use drydock::{
    api::{Blueprint, Claim, Lease, Resource, ResourcePhase, step::EffectKey},
    lifecycle::{
        conditions, is_deleting,
        matching::{self, Admission, SharedNamespaces},
        pool::{self, Bucket},
        uid,
    },
};
use std::collections::BTreeMap;

impl Now {
    /// The versions of a Blueprint that whoever writes this can have gone by.
    pub fn readable<'a>(&'a self, owner: &str) -> impl Iterator<Item = &'a Blueprint> + Clone {
        let knew = self.knew.get(&Kind::Blueprint).copied().unwrap_or(0);
        since(self.versions.get(owner), knew).iter().map(|(_, blueprint)| &**blueprint)
    }

    /// Whether whoever writes this must have seen the Blueprint, in some version.
    pub(super) fn sees(&self, owner: &str) -> bool {
        let knew = self.knew.get(&Kind::Blueprint).copied().unwrap_or(0);
        let first = self.versions.get(owner).and_then(|versions| versions.first());
        self.blueprints.contains_key(owner) && first.is_some_and(|(number, _)| *number <= knew)
    }

    /// How many leases a resource has room for, by whatever whoever grants it can have gone by; not by what it says itself.
    pub(super) fn places(&self, owner: &str) -> i64 {
        self.readable(owner).map(|b| b.spec.limits.leases_per_resource).max().unwrap_or(1)
    }

    fn readable_labels(&self, namespace: &str) -> impl Iterator<Item = &BTreeMap<String, String>> + Clone {
        let knew = self.knew.get(&Kind::Namespace).copied().unwrap_or(0);
        since(self.labels.get(namespace), knew).iter().map(|(_, labels)| labels)
    }

    /// Whether whoever writes this knew of what is so since this version.
    pub(super) fn is_known(&self, since: Option<&u64>) -> bool {
        let knew = self.knew.get(&Kind::Resource).copied().unwrap_or(0);
        since.is_some_and(|since| *since <= knew)
    }

    /// How many of a Blueprint's resources are destroyed by now, and whoever writes this may not have known it.
    pub fn thought_live(&self, owner: &str) -> usize {
        self.ended.get(owner).into_iter().flatten().filter(|ended| !self.is_known(Some(ended))).count()
    }

    /// Notes since when a resource counts as what it does.
    pub(super) fn count(&mut self, old: Option<&Resource>, new: &Resource, number: u64) {
        let id = uid(&new.metadata);
        self.born.entry(id.to_owned()).or_insert(number);
        let counts = |r: &Resource| (pool::bucket(r), is_deleting(&r.metadata));
        if old.is_none_or(|old| counts(old) != counts(new)) {
            self.counts_since.insert(id.to_owned(), number);
            if new.phase() == ResourcePhase::Destroyed {
                self.ended.entry(new.spec.blueprint_ref.uid.clone()).or_default().push(number);
            }
        }
        for claim in new.claims() {
            self.claimed.entry(EffectKey::of_claim(id, claim)).or_insert(number);
        }
    }

    pub(super) fn siblings<'a>(&'a self, of: &'a Resource) -> impl Iterator<Item = &'a Resource> {
        let owner = &of.spec.blueprint_ref.uid;
        let others = self.resources.values().filter(move |r| r.spec.blueprint_ref.uid == *owner);
        others.map(|r| &**r).filter(|r| r.metadata.uid != of.metadata.uid && r.phase() != ResourcePhase::Destroyed)
    }

    /// What a resource is made as, and how many there may be.
    pub(super) fn made_rightly(&self, new: &Resource) -> Verdict {
        let (id, owner) = (uid(&new.metadata), &new.spec.blueprint_ref.uid);
        let readable = || self.readable(owner);
        let ids = [id, owner.as_str()];
        if readable().all(|b| b.spec.suspend) {
            return wrong("a resource was made for a Blueprint that is suspended", &ids);
        }
        if let Some(asks) = &new.spec.requested_for
            && let Some(lease) = self.leases.get(&asks.uid)
        {
            self.will_do(lease, new)?;
        }
        // What there is of hosts is listed, and takes no time to be built.
        if readable().any(|b| b.spec.driver.hosts.is_some()) {
            return Ok(());
        }
        let as_now = |b: &Blueprint| {
            new.spec.attributes == b.spec.attributes
                && new.spec.template_hash.as_deref() == Some(&habits::template_hash(b))
        };
        if !readable().any(as_now) {
            return wrong("a resource was made from what its Blueprint does not say", &ids);
        }
        let highest = |of: fn(&Blueprint) -> i64| readable().map(of).max().unwrap_or(0);
        let there = || self.siblings(new).filter(|r| self.is_known(self.born.get(uid(&r.metadata))));
        let limit = highest(|b| b.spec.limits.max_resources.unwrap_or(i64::MAX));
        let slot = new.slot().and_then(|slot| slot.parse::<i64>().ok()).unwrap_or(i64::MAX);
        if slot >= limit || there().count() as i64 >= limit {
            return wrong(format!("one more than limits.maxResources, {limit}"), &ids);
        }
        let builds = there().filter(|r| r.phase() == ResourcePhase::Pending).count() as i64;
        let at_once = highest(|b| b.spec.limits.max_concurrent_builds);
        if builds >= at_once {
            return wrong(format!("one build more than limits.maxConcurrentBuilds, {at_once}"), &ids);
        }
        if new.spec.requested_for.is_some() {
            return Ok(());
        }
        let by_default =
            |r: &&Resource| readable().all(|b| r.spec.parameters == matching::default_flavour(&b.spec.resource));
        let ready = there().filter(by_default).filter(|r| match pool::bucket(r) {
            Bucket::Idle => !is_deleting(&r.metadata) && self.is_known(self.counts_since.get(uid(&r.metadata))),
            Bucket::Pending => r.spec.requested_for.is_none(),
            _ => false,
        });
        let (ready, wanted) = (ready.count() as i64, highest(|b| b.spec.limits.min_ready));
        if ready >= wanted {
            return wrong(format!("one more was made for nobody than limits.minReady, {wanted}"), &ids);
        }
        Ok(())
    }

    /// Both sides agree, and the resource is what the lease asks for.
    pub(super) fn will_do(&self, lease: &Lease, resource: &Resource) -> Verdict {
        let ids = [uid(&lease.metadata), uid(&resource.metadata)];
        let shared = SharedNamespaces::new(&["shared".into()]);
        let namespace = lease.metadata.namespace.as_deref().unwrap_or_default();
        let readable = || self.readable(&resource.spec.blueprint_ref.uid);
        if !readable().any(|b| matching::is_candidate(lease, b, &shared)) {
            return wrong("a lease got what is of a Blueprint that is no candidate", &ids);
        }
        let admits = |b: &Blueprint| {
            let of = |labels| matching::admission(b, namespace, Some(labels)) == Admission::Admitted;
            self.readable_labels(namespace).any(of)
        };
        if !readable().any(admits) {
            return wrong("a lease got what is of a Blueprint that does not admit it", &ids);
        }
        let selects = lease.spec.selector.as_ref().is_none_or(|s| s.matches(&resource.spec.attributes));
        let flavour = |b: &Blueprint| {
            let wanted = matching::flavours(&lease.spec, &b.spec.resource);
            b.spec.resource.parameters.iter().all(|name| wanted.get(name) == resource.spec.parameters.get(name))
        };
        if !selects || !readable().any(flavour) {
            return wrong("a lease got what does not fit it", &ids);
        }
        Ok(())
    }

    /// `limits.maxLeasesPerNamespace`, and that nothing is granted while its Blueprint is suspended.
    pub(super) fn within_its_share(&self, resource: &Resource, claim: &Claim) -> Verdict {
        let owner = &resource.spec.blueprint_ref.uid;
        let ids = [claim.uid.as_str(), uid(&resource.metadata), owner.as_str()];
        if self.readable(owner).all(|b| b.spec.suspend) {
            return wrong("R3: granted by a Blueprint that is suspended", &ids);
        }
        let limit = self.readable(owner).map(|b| b.spec.limits.max_leases_per_namespace.unwrap_or(i64::MAX)).max();
        let all = self.siblings(resource).chain([resource]);
        let held = all.flat_map(|r| r.claims().iter().map(move |c| (uid(&r.metadata), c))).filter(|(on, other)| {
            other.namespace == claim.namespace
                && other.uid != claim.uid
                && self.is_known(self.claimed.get(&EffectKey::of_claim(on, other)))
                && self.leases.get(&other.uid).is_some_and(|lease| !pool::has_ended(other, lease, on))
        });
        let held = held.count() as i64;
        match limit {
            Some(limit) if held >= limit => {
                wrong(format!("one lease of a namespace more than limits.maxLeasesPerNamespace, {limit}"), &ids)
            }
            _ => Ok(()),
        }
    }

    /// What is out of date is replaced one at a time, and never while it is held.
    pub(super) fn replaced_rightly(&self, new: &Resource) -> Verdict {
        let id = uid(&new.metadata);
        let readable = || self.readable(&new.spec.blueprint_ref.uid);
        if readable().any(|b| b.spec.driver.hosts.is_some()) {
            return Ok(());
        }
        if !readable().any(|b| new.spec.template_hash.as_deref() != Some(&habits::template_hash(b))) {
            return wrong("a resource was replaced that is what its Blueprint says", &[id]);
        }
        let busy = self.siblings(new).find(|r| {
            let status = r.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
            let goes =
                r.phase() == ResourcePhase::Released && conditions::true_reason(status, "Released") == Some("Outdated");
            (goes || r.phase() == ResourcePhase::Pending) && self.is_known(self.counts_since.get(uid(&r.metadata)))
        });
        self.oldest_is_replaced(new)?;
        match busy {
            Some(other) => wrong("two resources are replaced at once", &[id, uid(&other.metadata)]),
            None => Ok(()),
        }
    }
}

/// The versions from that on which was the newest at this number.
fn since<T>(versions: Option<&Vec<(u64, T)>>, number: u64) -> &[(u64, T)] {
    let versions = versions.map_or(&[][..], Vec::as_slice);
    let first = versions.partition_point(|(from, _)| *from <= number).saturating_sub(1);
    &versions[first..]
}
