//! Clocks: when a lease and a resource end, and when to try again (api.md, 3).

use crate::api::{
    Deadline, DeadlineName, Duration, Lease, LeaseSpec, LeaseStatus, MicroTime, ResourceStatus, Wish,
    blueprint::{LeasePolicy, ResourcePolicy},
};

/// The default of `lease.maxHold`.
pub const MAX_HOLD: Duration = Duration::from_secs(3600);
/// The default of `lease.activationTimeout`.
pub const ACTIVATION_TIMEOUT: Duration = Duration::from_secs(600);
/// The default of `resource.buildTimeout`.
pub const BUILD_TIMEOUT: Duration = Duration::from_secs(900);
/// The default of `resource.teardownTimeout`.
pub const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(900);
/// The default of `resource.reclaimAfter`.
pub const RECLAIM_AFTER: Duration = Duration::from_secs(180);
/// The default of a lease's `ttlAfterDestroyed`.
pub const TTL_AFTER_DESTROYED: Duration = Duration::from_secs(3600);

/// Of all back-offs, in seconds.
const LONGEST_BACK_OFF: i64 = 300;

/// An instant and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The instant; `None` is for ever.
    pub at: Option<MicroTime>,
    /// Where it comes from, in a sentence.
    pub message: String,
    /// It is the end of the resource: the lease does not act on it, but follows the resource.
    pub follows_resource: bool,
}

/// When a lease ends: min(wish, activatedAt + `maxTTL`, the resource's Age). Limits bite at activation.
pub fn lifetime(spec: &LeaseSpec, status: &LeaseStatus, policy: &LeasePolicy, age: Option<MicroTime>) -> End {
    let mut end = wished(spec, status, policy);
    let Some(activated) = status.activated_at else { return end };
    if let Some(max) = policy.max_ttl.filter(|_| !bug!(OutlivesMaximum)) {
        let limit = activated.after(max);
        if end.at.is_none_or(|at| at > limit) {
            end = End {
                at: Some(limit),
                message: format!("cut to lease.maxTTL of the Blueprint, {max} after it became active"),
                follows_resource: false,
            };
        }
    }
    if let Some(age) = age
        && end.at.is_none_or(|at| at >= age)
    {
        end = End { at: Some(age), message: "its Resource ends then".into(), follows_resource: true };
    }
    end
}

/// When a lease would end that became active now; `None` is never. What was asked for last counts, whatever its spec says.
pub fn granted_now(lease: &Lease, policy: &LeasePolicy, now: MicroTime) -> Option<MicroTime> {
    let wish = lease.status.as_ref().and_then(|status| status.wish);
    let status = LeaseStatus { wish, activated_at: Some(now), ..LeaseStatus::default() };
    lifetime(&lease.spec, &status, policy, None).at
}

/// The last applied `Expires` or edit; else the earlier of `expiresAt` and `ttl`; else, where the lease gives neither,
/// `defaultTTL`.
fn wished(spec: &LeaseSpec, status: &LeaseStatus, policy: &LeasePolicy) -> End {
    let end = |at: Option<MicroTime>, message: String| End { at, message, follows_resource: false };
    match status.wish {
        Some(Wish { at: Some(at), .. }) => return end(Some(at), "as last asked for".into()),
        Some(Wish { at: None, .. }) => return end(None, "never, as last asked for".into()),
        None => {}
    }
    let by_ttl = |ttl: Duration| status.activated_at.map(|activated| activated.after(ttl));
    match (spec.expires_at, spec.ttl) {
        (None, None) => match policy.default_ttl {
            None => end(None, "never".into()),
            Some(ttl) => end(by_ttl(ttl), format!("lease.defaultTTL of the Blueprint, {ttl} after it became active")),
        },
        (Some(at), Some(ttl)) if by_ttl(ttl).is_some_and(|by_ttl| by_ttl < at) => {
            end(by_ttl(ttl), format!("spec.ttl, {ttl} after it became active"))
        }
        (Some(at), _) => end(Some(at), "spec.expiresAt".into()),
        (None, Some(ttl)) => end(by_ttl(ttl), format!("spec.ttl, {ttl} after it became active")),
    }
}

/// When a resource ends: its wish, else `spec.expiresAt`, else activatedAt + `resource.ttl`.
pub fn age(expires_at: Option<MicroTime>, status: &ResourceStatus, policy: &ResourcePolicy) -> End {
    let end = |at, message: &str| End { at, message: message.into(), follows_resource: false };
    match (status.wish, expires_at, policy.ttl, status.activated_at) {
        (Some(wish), ..) => end(wish.at, "as last asked for"),
        (None, Some(at), ..) => end(Some(at), "spec.expiresAt"),
        (None, None, Some(ttl), Some(activated)) => {
            end(Some(activated.after(ttl)), "resource.ttl of the Blueprint, after it became active")
        }
        (None, None, ..) => end(None, "never"),
    }
}

/// The wait before the n-th repetition of what failed n times: 1 s doubling to 5 m.
pub fn retry_after(failures: u32) -> Duration {
    doubling(failures, 1)
}

/// The wait of a Blueprint after n builds that failed in a row: 10 s doubling to 5 m.
pub fn build_back_off(failures: u32) -> Duration {
    doubling(failures, 10)
}

/// Until when builds are put off. What is further ahead than any back-off reaches, with as much again for another controller's
/// clock, was set by a clock that has been set back since, and holds nothing up.
pub fn build_put_off(next_build_at: Option<MicroTime>, now: MicroTime) -> Option<MicroTime> {
    let longest = Duration::from_secs(2 * LONGEST_BACK_OFF);
    next_build_at.filter(|at| *at > now && *at <= now.after(longest))
}

fn doubling(failures: u32, first_seconds: i64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    Duration::from_secs((first_seconds << doublings).min(LONGEST_BACK_OFF))
}

/// One entry of `status.deadlines`.
pub fn entry(name: DeadlineName, at: MicroTime, reason: &str, message: impl Into<String>) -> Deadline {
    Deadline { name, at, reason: reason.into(), message: message.into() }
}

/// The entry of this name.
pub fn find(deadlines: &[Deadline], name: DeadlineName) -> Option<&Deadline> {
    deadlines.iter().find(|d| d.name == name)
}

/// The next deadline that a pass must be made for. One that has passed and was not acted on is somebody else's to act on:
/// what comes of that is seen. An attempt at a teardown is cut off by whoever runs it, and then reported.
pub fn coming(deadlines: &[Deadline], now: MicroTime) -> Option<MicroTime> {
    deadlines.iter().filter(|d| d.name != DeadlineName::Teardown && d.at > now).map(|d| d.at).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> MicroTime {
        MicroTime::from(jiff::Timestamp::from_second(seconds).unwrap())
    }

    /// By what was asked for last, else by its spec, else by the Blueprint; and never beyond `maxTTL`.
    #[test]
    fn when_a_lease_would_end_that_is_granted_now() {
        let wish = |at: Option<i64>| Some(Wish { at: at.map(self::at), never: at.is_none().then_some(true) });
        for (expires_at, ttl, wish, default_ttl, max_ttl, expected) in [
            (None, None, None, None, None, None),
            (None, None, None, secs(60), None, Some(160)),
            (None, secs(30), None, secs(60), None, Some(130)),
            (Some(110), None, None, None, None, Some(110)),
            (Some(110), secs(30), None, None, None, Some(110)),
            (Some(150), secs(30), None, None, None, Some(130)),
            (Some(110), secs(30), wish(Some(500)), None, None, Some(500)),
            (Some(110), secs(30), wish(None), None, None, None),
            (None, None, wish(None), None, secs(50), Some(150)),
        ] {
            let mut lease = Lease::default();
            (lease.spec.expires_at, lease.spec.ttl) = (expires_at.map(at), ttl);
            lease.status.get_or_insert_default().wish = wish;
            let policy = LeasePolicy { default_ttl, max_ttl, ..LeasePolicy::default() };
            assert_eq!(granted_now(&lease, &policy, at(100)), expected.map(at), "{:?} {wish:?}", lease.spec);
        }
    }

    fn secs(seconds: i64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    /// Story 12: no ttl, the lease's, the Blueprint's, both, a maximum below and above.
    #[test]
    fn a_lease_ends_at_the_earliest_of_its_wish_the_maximum_and_its_resource() {
        struct Row(Option<Duration>, Option<i64>, Option<Wish>, Option<Duration>, Option<Duration>, Option<i64>);
        let wish = |s| Some(Wish { at: Some(at(s)), never: None });
        let never = Some(Wish { at: None, never: Some(true) });
        for (name, Row(ttl, expires_at, wish, default_ttl, max_ttl, age), expected) in [
            ("nothing", Row(None, None, None, None, None, None), None),
            ("ttl", Row(secs(10), None, None, None, None, None), Some(110)),
            ("expiresAt", Row(None, Some(150), None, None, None, None), Some(150)),
            ("both, ttl earlier", Row(secs(10), Some(150), None, None, None, None), Some(110)),
            ("both, expiresAt earlier", Row(secs(90), Some(150), None, None, None, None), Some(150)),
            ("default", Row(None, None, None, secs(20), None, None), Some(120)),
            ("the default is no limit", Row(secs(90), None, None, secs(20), None, None), Some(190)),
            ("max alone", Row(None, None, None, None, secs(30), None), Some(130)),
            ("max below", Row(secs(90), None, None, None, secs(30), None), Some(130)),
            ("max above", Row(secs(10), None, None, None, secs(30), None), Some(110)),
            ("max below expiresAt", Row(None, Some(150), None, None, secs(30), None), Some(130)),
            ("a wish replaces both", Row(secs(10), Some(150), wish(170), secs(5), None, None), Some(170)),
            ("never replaces both", Row(secs(10), Some(150), never, secs(5), None, None), None),
            ("a maximum cuts never", Row(secs(10), None, never, None, secs(30), None), Some(130)),
            ("the resource ends first", Row(secs(10), None, None, None, None, Some(105)), Some(105)),
            ("the resource ends later", Row(secs(10), None, None, None, None, Some(115)), Some(110)),
        ] {
            let spec = LeaseSpec { ttl, expires_at: expires_at.map(at), ..LeaseSpec::default() };
            let status = LeaseStatus { activated_at: Some(at(100)), wish, ..LeaseStatus::default() };
            let policy = LeasePolicy { default_ttl, max_ttl, ..LeasePolicy::default() };
            let end = lifetime(&spec, &status, &policy, age.map(at));
            assert_eq!(end.at, expected.map(at), "{name}");
            assert_eq!(end.follows_resource, end.at.is_some() && end.at == age.map(at), "{name}");
        }
    }

    #[test]
    fn a_waiting_lease_has_no_end_but_the_one_it_names() {
        let policy = LeasePolicy { default_ttl: secs(20), max_ttl: secs(30), ..LeasePolicy::default() };
        for (ttl, expires_at, expected) in
            [(None, None, None), (secs(10), None, None), (secs(10), Some(150), Some(150))]
        {
            let spec = LeaseSpec { ttl, expires_at: expires_at.map(at), ..LeaseSpec::default() };
            assert_eq!(lifetime(&spec, &LeaseStatus::default(), &policy, None).at, expected.map(at));
        }
    }

    #[test]
    fn a_resource_ends_as_wished_as_its_spec_says_or_by_its_ttl() {
        let policy = ResourcePolicy { ttl: secs(50), ..ResourcePolicy::default() };
        let active = ResourceStatus { activated_at: Some(at(100)), ..ResourceStatus::default() };
        let wished = |wish| ResourceStatus { wish: Some(wish), ..active.clone() };
        assert_eq!(age(None, &active, &policy).at, Some(at(150)));
        assert_eq!(age(None, &ResourceStatus::default(), &policy).at, None);
        assert_eq!(age(Some(at(120)), &active, &policy).at, Some(at(120)));
        assert_eq!(age(Some(at(120)), &wished(Wish { at: Some(at(130)), never: None }), &policy).at, Some(at(130)));
        assert_eq!(age(Some(at(120)), &wished(Wish { at: None, never: Some(true) }), &policy).at, None);
        assert_eq!(age(None, &active, &ResourcePolicy::default()).at, None);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_put_builds_off() {
        let put_off = |seconds| build_put_off(Some(at(seconds)), at(1000)).is_some();
        assert_eq!([999, 1000, 1001, 1600, 1601].map(put_off), [false, false, true, true, false]);
        assert_eq!(build_put_off(None, at(1000)), None);
    }

    #[test]
    fn repetitions_double_to_five_minutes() {
        let waits: Vec<_> = (1..=10).map(|n| retry_after(n).signed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(retry_after(u32::MAX).signed().as_secs(), 300);
        assert_eq!([1, 2, 6, 9].map(|n| build_back_off(n).signed().as_secs()), [10, 20, 300, 300]);
    }
}
