//! How builds end: those that fail back off on their Blueprint, and one that ends well ends that.

use super::{Index, Key, ObjectKey};
use crate::{
    api::{Duration, MicroTime, Resource, ResourcePhase},
    lifecycle::{conditions, deadline, pool},
};

/// A resource that is over so soon after it was built has served nobody.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Whether a resource's end came as it was built: that is no end that anybody can mean, and another would fare no better.
fn ended_at_once(resource: &Resource) -> bool {
    let Some(status) = &resource.status else { return false };
    let (Some(from), Some(to)) = (status.activated_at, status.released_at) else { return false };
    conditions::true_reason(&status.conditions, "Released") == Some("Expired") && to < from.after(AT_ONCE)
}

impl Index {
    /// Builds that fail back off on their Blueprint: 10 s doubling to 5 m.
    pub(super) fn note_build(&mut self, known: Option<&Resource>, resource: &Resource, now: MicroTime) {
        let Some(key) = self.pool_of(resource).map(|(key, _)| key.clone()) else { return };
        let ends = |r: &Resource| matches!(r.phase(), ResourcePhase::Pending | ResourcePhase::Active);
        if known.is_some_and(ends) && ended_at_once(resource) {
            let why = "it was over as soon as it was built; is resource.ttl of the Blueprint too short?";
            return self.build_failed(&key, why.to_owned(), now);
        }
        if known.is_some_and(|known| known.phase() != ResourcePhase::Pending) {
            return;
        }
        let conditions = resource.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        match resource.phase() {
            ResourcePhase::Active => {
                if let Some(pool) = self.blueprints.get_mut(&key)
                    && (pool.failures > 0 || pool.next_build_at.is_some())
                {
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
                self.build_failed(&key, why, now);
            }
            // One that fails, and is tried again in place, is told as well.
            ResourcePhase::Pending if known.and_then(pool::failure) != pool::failure(resource) => {
                self.dirty.push(Key::Blueprint(key));
            }
            _ => {}
        }
    }

    /// One more build of this Blueprint has failed.
    pub fn build_failed(&mut self, key: &ObjectKey, why: String, now: MicroTime) {
        if let Some(pool) = self.blueprints.get_mut(key) {
            pool.failures += 1;
            pool.failure = Some(why);
            pool.next_build_at = Some(now.after(deadline::build_back_off(pool.failures)));
            self.dirty.push(Key::Blueprint(key.clone()));
            // Those who wait are told why.
            self.moved.insert(key.clone(), true);
        }
    }
}
