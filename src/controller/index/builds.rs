//! How builds end. A failure of the default flavour, or of what is built for nobody, is the Blueprint's own: it puts off all of
//! its builds. Another flavour is what a lease asked for, so its failure puts off that flavour only, and whoever else waits goes
//! on; and the namespace that asked for it yields its turn with flavours that are not the default one, for a while, so that
//! somebody who asks for one bad flavour after the other does not stop the rest. A build that ends well ends what it disproves,
//! and so does an edit of the Blueprint. Only the Blueprint's own back-off is on record; after a restart each flavour that fails
//! is tried once more.

use super::{Index, Key, ObjectKey, Pool, Wants};
use crate::{
    api::{Duration, MicroTime, Resource, ResourcePhase},
    lifecycle::{conditions, deadline, matching, pool},
};
use std::{collections::BTreeMap, sync::Arc};

/// How many flavours, and namespaces, are remembered as failing. Beyond that the one that is due first is forgotten.
const REMEMBERED: usize = 256;

/// For how long a namespace yields its turn after a failure: as long as the longest back-off.
const YIELDS_FOR: Duration = Duration::from_secs(300);

/// The parameters that a Resource is built with.
type Flavour = BTreeMap<String, String>;

/// What fails because of what leases ask for.
#[derive(Default)]
pub(super) struct Failing {
    flavours: BTreeMap<Flavour, BackOff>,
    /// Namespace → when a flavour that it had asked for failed last.
    namespaces: BTreeMap<Arc<str>, MicroTime>,
}

/// One flavour's.
struct BackOff {
    failures: u32,
    why: String,
    failed_at: MicroTime,
    next_at: MicroTime,
}

impl Failing {
    fn note(&mut self, flavour: &Flavour, namespace: &str, why: String, began: MicroTime, now: MicroTime) {
        let before = self.flavours.remove(flavour);
        let back_off = match before {
            // Of those that were under way together one counts.
            Some(same) if began <= same.failed_at || same.next_at > now => BackOff { why, ..same },
            before => {
                let failures = before.map_or(0, |before| before.failures).saturating_add(1);
                BackOff { failures, why, failed_at: now, next_at: now.after(deadline::build_back_off(failures)) }
            }
        };
        forget_first(&mut self.flavours, |back_off| back_off.next_at);
        self.flavours.insert(flavour.clone(), back_off);
        self.namespaces.remove(namespace);
        forget_first(&mut self.namespaces, |failed_at| *failed_at);
        self.namespaces.insert(namespace.into(), now);
    }

    fn is_over(&mut self, flavour: &Flavour, namespace: Option<&str>) -> bool {
        if let Some(namespace) = namespace {
            self.namespaces.remove(namespace);
        }
        self.flavours.remove(flavour).is_some()
    }
}

/// Makes room for one more.
fn forget_first<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, due: impl Fn(&V) -> MicroTime) {
    if map.len() >= REMEMBERED
        && let Some(first) = map.iter().min_by_key(|(_, value)| due(value)).map(|(key, _)| key.clone())
    {
        map.remove(&first);
    }
}

impl Pool {
    /// Until when builds of a flavour are put off, and why.
    pub(super) fn flavour_put_off(&self, flavour: &Flavour, now: MicroTime) -> Option<(MicroTime, &str)> {
        let back_off = self.failing.flavours.get(flavour)?;
        deadline::build_put_off(Some(back_off.next_at), now).map(|at| (at, back_off.why.as_str()))
    }

    /// When the next flavour that fails is tried again, and what is told of those that fail.
    pub(super) fn failing_flavours(&self, now: MicroTime) -> Option<(MicroTime, String)> {
        let put_off = || {
            let flavours = self.failing.flavours.keys();
            flavours.filter_map(|flavour| Some((self.flavour_put_off(flavour, now)?, flavour)))
        };
        let ((at, why), flavour) = put_off().min_by_key(|((at, _), _)| *at)?;
        let named: Vec<_> = flavour.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let others = match put_off().count() - 1 {
            0 => String::new(),
            n => format!("; and with {n} other sets of parameters"),
        };
        let text = format!("builds fail with the parameters {}: {why}{others}", named.join(", "));
        Some((at, crate::lifecycle::commands::shorten(text, 1024)))
    }

    /// Whether leases of a namespace let others go first with what they want.
    pub(super) fn yields(&self, wants: &Wants, namespace: &str, now: MicroTime) -> bool {
        let failed_at = self.failing.namespaces.get(namespace);
        failed_at.is_some_and(|at| at.after(YIELDS_FOR) > now)
            && wants.flavours != matching::default_flavour(&self.object.spec.resource)
    }
}

/// A resource that is over so soon after it was built has served nobody.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Whether a resource's end came as it was built: that is no end that anybody can mean, and another would fare no better.
fn ended_at_once(resource: &Resource) -> bool {
    let Some(status) = &resource.status else { return false };
    let (Some(from), Some(to)) = (status.activated_at, status.released_at) else { return false };
    conditions::true_reason(&status.conditions, "Released") == Some("Expired") && to < from.after(AT_ONCE)
}

impl Index {
    /// Builds that fail back off: 10 s doubling to 5 m.
    pub(super) fn note_build(&mut self, known: Option<&Resource>, resource: &Resource, now: MicroTime) {
        let Some(key) = self.pool_of(resource).map(|(key, _)| key.clone()) else { return };
        let ends = |r: &Resource| matches!(r.phase(), ResourcePhase::Pending | ResourcePhase::Active);
        if known.is_some_and(ends) && ended_at_once(resource) {
            let why = "it was over as soon as it was built; is resource.ttl of the Blueprint too short?";
            return self.build_failed(&key, Some(resource), why.to_owned(), now);
        }
        if known.is_some_and(|known| known.phase() != ResourcePhase::Pending) {
            return;
        }
        let conditions = resource.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        match resource.phase() {
            ResourcePhase::Active => {
                let Some(pool) = self.blueprints.get_mut(&key) else { return };
                let namespace = resource.spec.requested_for.as_ref().map(|lease| lease.namespace.as_str());
                let fails_no_more = pool.failing.is_over(&resource.spec.parameters, namespace);
                if fails_no_more || pool.failures > 0 || pool.next_build_at.is_some() {
                    pool.failures = 0;
                    pool.failure = None;
                    pool.next_build_at = None;
                    // What may be built again is ordered when it has been offered.
                    self.dirty.push(Key::Blueprint(key));
                }
            }
            // Several arrows may have been gone along in one write.
            _ if known.is_some()
                && matches!(conditions::true_reason(conditions, "Released"), Some("Failed" | "BuildTimeout")) =>
            {
                let said = conditions::get(conditions, "Released").map_or("", |c| c.message.as_str());
                let why = match pool::failure(resource).filter(|failure| !said.contains(failure)) {
                    Some(failure) => format!("{said}: {failure}"),
                    None => said.to_owned(),
                };
                self.build_failed(&key, Some(resource), why, now);
            }
            // One that fails, and is tried again in place, is told as well.
            ResourcePhase::Pending if known.and_then(pool::failure) != pool::failure(resource) => {
                self.dirty.push(Key::Blueprint(key));
            }
            _ => {}
        }
    }

    /// One more build of this Blueprint has failed: of this resource, which may not have come to be; or, where there is none,
    /// for a reason that has nothing to do with whom it was for.
    pub fn build_failed(&mut self, key: &ObjectKey, resource: Option<&Resource>, why: String, now: MicroTime) {
        let Some(pool) = self.blueprints.get_mut(key) else { return };
        let created = resource.and_then(|r| r.metadata.creation_timestamp.as_ref());
        let began = created.map_or(now, |created| MicroTime::from(created.0));
        let default_flavour = matching::default_flavour(&pool.object.spec.resource);
        let asked_for = resource
            .filter(|r| r.spec.parameters != default_flavour)
            .and_then(|r| Some((&r.spec.parameters, r.spec.requested_for.as_ref()?)));
        if let Some((flavour, lease)) = asked_for {
            pool.failing.note(flavour, &lease.namespace, why, began, now);
        } else {
            // Of those that were under way together one counts.
            let is_put_off = deadline::build_put_off(pool.next_build_at, now).is_some();
            if !is_put_off && pool.failed_at.is_none_or(|failed_at| began > failed_at) {
                pool.failures += 1;
                pool.failed_at = Some(now);
                pool.next_build_at = Some(now.after(deadline::build_back_off(pool.failures)));
            }
            pool.failure = Some(why);
        }
        self.dirty.push(Key::Blueprint(key.clone()));
        // Those who wait are told why.
        self.moved.insert(key.clone(), true);
    }

    /// Whether all builds of a Blueprint are put off.
    pub fn is_put_off(&self, blueprint: &ObjectKey, now: MicroTime) -> bool {
        let next_build_at = self.blueprints.get(blueprint).and_then(|pool| pool.next_build_at);
        deadline::build_put_off(next_build_at, now).is_some()
    }

    /// Flavours that were put off and are due. Returns whether there are any.
    pub(super) fn retry_flavours(&mut self, blueprint: &ObjectKey, now: MicroTime) -> bool {
        let Some(pool) = self.blueprints.get(blueprint) else { return false };
        // They are kept: their next failure counts on.
        let due = |back_off: &BackOff| deadline::build_put_off(Some(back_off.next_at), now).is_none();
        !pool.queue.is_empty() && pool.failing.flavours.values().any(due)
    }
}
