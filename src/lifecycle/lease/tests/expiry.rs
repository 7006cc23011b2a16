//! The question at the end of a lease (api.md section 3, stories 14 and 51): who declines is asked again, and the answer is told.

use super::*;

/// An active lease whose end is at 1 h 20 s, and somebody who has a say.
fn asked(lease_spec: &str, blueprint_spec: &str, why: Option<&str>) -> Scene {
    let mut scene = Scene::reach(State::Active, lease_spec, blueprint_spec);
    scene.declines(why);
    scene
}

const DUE: i64 = HOUR + 20;

/// Story 14: declined, told, asked again, and in the end it expires.
#[test]
fn who_declines_is_asked_again() {
    for (policy, wait) in [("", 60), ("expiry: {retryAfter: 5s}", 5), ("expiry: {retryAfter: 24h}", DAY)] {
        let mut scene = asked("ttl: 1h", policy, Some("somebody works on it"));
        scene.pass(just_before(at(DUE)));
        assert_eq!(scene.asked, 0, "not before the deadline");
        let third = 2 * wait + (2 * wait).min(wait + HOUR);
        let first = at(DUE + wait);
        for (asked, now, next) in [(1, 0, wait), (2, wait, 2 * wait), (3, 2 * wait, third)] {
            let before = scene.status().clone();
            let decision = scene.pass(at(DUE + now));
            let again = at(DUE + next);
            assert!(asked == 1 || decision.status == before, "{policy}: what only moves on is not written");
            assert_eq!(short(&decision.status), "Active until +1h20s", "{policy}");
            let told = deadline::find(&decision.status.deadlines, DeadlineName::Asking).unwrap();
            let (reason, message) = (told.reason.as_str(), told.message.as_str());
            assert_eq!((told.at, reason, message), (first, "ExpiryDeclined", "somebody works on it"), "{policy}");
            assert_eq!(decision.wake, Some(again), "{policy}");
            let on_record = decision.status;
            assert_eq!(scene.asked, asked, "{policy}: once each time");
            let mut look = scene.clone();
            let decision = look.pass(just_before(again));
            assert_eq!((decision.status, decision.wake), (on_record, Some(again)), "{policy}: until then it rests");
        }
        scene.declines(None);
        assert_eq!(short(&scene.pass(at(DUE + third)).status), "Released/Expired/TearingDown", "{policy}");
    }
}

/// The maximum is never declined: neither at its instant, nor does a decline reach beyond it.
#[test]
fn the_maximum_is_never_declined() {
    let mut at_once = asked("ttl: 9h", "lease: {maxTTL: 1h}", Some("no"));
    at_once.pass(just_before(at(DUE)));
    assert_eq!(short(&at_once.pass(at(DUE)).status), "Released/Expired/TearingDown");
    assert_eq!(at_once.asked, 0);

    let mut later = asked("ttl: 1h", "lease: {maxTTL: 61m}, expiry: {retryAfter: 1h}", Some("no"));
    let decision = later.pass(at(DUE));
    let limit = DUE + MINUTE;
    assert_eq!(clocks(&decision.status.deadlines), ["Lifetime +1h20s", "Asking +1h1m20s"]);
    assert_eq!(later.pass(just_before(at(limit))).wake, Some(at(limit)));
    assert_eq!(short(&later.pass(at(limit)).status), "Released/Expired/TearingDown");

    let mut lowered = asked("ttl: 1h", "expiry: {retryAfter: 1h}", Some("no"));
    lowered.pass(at(DUE));
    lowered.blueprint.as_mut().unwrap().spec.lease = yaml("maxTTL: 61m");
    assert_eq!(lowered.pass(at(DUE + 1)).wake, Some(at(limit)), "also one that is set while it is declined");
    assert_eq!(short(&lowered.pass(at(limit)).status), "Released/Expired/TearingDown");
}

/// What was declined was that end; another is asked about anew, and at its own time.
#[test]
fn an_end_that_moves_is_another() {
    let mut scene = asked("ttl: 1h", "expiry: {retryAfter: 1h}", Some("no"));
    scene.pass(at(DUE));
    let decision = scene.append(&["Expires, after: 10s"], at(DUE + 5));
    assert_eq!(clocks(&decision.status.deadlines), ["Lifetime +1h35s"], "nothing is asked for any more");
    scene.pass(at(DUE + 15));
    assert_eq!((scene.asked, clocks(&scene.status().deadlines).len()), (2, 2));
    for past in ["Expires, at: 2026-11-23T09:00:00Z", "Expires, after: 0s"] {
        let mut scene = scene.clone();
        scene.declines(None);
        let over = scene.append(&[past], at(DUE + 20)).status;
        assert_eq!((short(&over).as_str(), scene.asked), ("Released/Expired/TearingDown", 3), "{past}");
    }
    let never = scene.append(&["Expires, never: true"], at(DUE + 20)).status;
    assert_eq!((short(&never).as_str(), scene.asked), ("Active", 2));
}

/// Only an active lease is asked about, and only its life: nobody can decline anything else.
#[test]
fn what_nobody_is_asked_about() {
    let by_time = "expiresAt: '2026-11-23T10:01:00Z'";
    for (state, spec, now, then) in [
        (State::Pending, by_time, 60, "Destroyed/Expired/NothingToTearDown"),
        (State::Acquired, by_time, 60, "Released/Expired/TearingDown"),
        (State::Returning, by_time, 60, "Released/Expired/TearingDown"),
        (State::Pending, "queueTimeout: 10s", 11, "Destroyed/QueueTimeout/NothingToTearDown"),
        (State::Acquired, "", HOUR, "Broken/ActivationTimeout/TearingDown"),
        (State::Holding, "", HOUR, "Released/Released/TearingDown"),
    ] {
        let mut scene = Scene::reach(state, spec, "");
        scene.declines(Some("no"));
        assert_eq!((short(&scene.pass(at(now)).status).as_str(), scene.asked), (then, 0), "{state:?} {spec}");
    }
    // Whatever ends it otherwise ends it while it is declined, too.
    for text in ["Release", "Release, hold: 1m"] {
        let mut scene = asked("ttl: 1h", "", Some("no"));
        scene.pass(at(DUE));
        let over = scene.append(&[text], at(DUE + 1)).status;
        assert!(short(&over).starts_with("Released/Released"), "{}", short(&over));
        assert_eq!(deadline::find(&over.deadlines, DeadlineName::Asking), None);
    }
    let mut lost = asked("ttl: 1h", "", Some("no"));
    lost.pass(at(DUE));
    lost.end_resource(ResourcePhase::Released, "Expired");
    assert_eq!(short(&lost.pass(at(DUE + 1)).status), "Released/ResourceReleased/TearingDown");
}

/// An end that is its resource's follows the resource, whose answer moves both. Its own end, and the maximum, come all the same
/// while that of the resource is declined.
#[test]
fn the_end_of_its_resource_is_for_that_to_ask_about() {
    for (ttl, policy, due, asked_then) in
        [("ttl: 2h", "", 2 * HOUR + 20, 1), ("ttl: 9h", "lease: {maxTTL: 2h}", 2 * HOUR + 20, 0)]
    {
        let mut scene = asked(ttl, policy, Some("no"));
        scene.resource_ends(Some(at(HOUR)));
        for now in [HOUR - 1, HOUR, HOUR + 5] {
            let decision = scene.pass(at(now));
            assert_eq!((short(&decision.status).as_str(), scene.asked), ("Active until +1h", 0), "{policy} {now}");
            assert!(decision.wake.is_some_and(|wake| wake > at(now) && wake <= at(due)), "{policy} {now}");
        }
        scene.declines(None);
        assert_eq!(short(&scene.pass(at(due)).status), "Released/Expired/TearingDown", "{policy}");
        assert_eq!(scene.asked, asked_then, "{policy}");
    }
    let mut same = asked("expiresAt: '2026-11-23T11:00:00Z'", "", None);
    same.resource_ends(Some(at(HOUR)));
    assert_eq!((short(&same.pass(at(HOUR)).status).as_str(), same.asked), ("Active until +1h", 0));
    let mut declined = asked("ttl: 2h", "", Some("no"));
    declined.resource_ends(Some(at(HOUR)));
    declined.pass(at(2 * HOUR + 20));
    let on_record = declined.status().clone();
    assert_eq!(clocks(&on_record.deadlines), ["Lifetime +1h", "Asking +2h1m20s"]);
    assert_eq!(declined.pass(at(2 * HOUR + 30)).status, on_record, "and it rests");
    assert_eq!(declined.asked, 1);
}

/// Nor is the maximum declined where its own end is at the same instant as its resource's.
#[test]
fn the_maximum_comes_while_the_common_end_is_declined() {
    let mut scene = asked("expiresAt: '2026-11-23T11:00:00Z'", "lease: {maxTTL: 2h}", Some("no"));
    scene.resource_ends(Some(at(HOUR)));
    let limit = 2 * HOUR + 20;
    for now in [at(HOUR), just_before(at(limit))] {
        let decision = scene.pass(now);
        assert_eq!((short(&decision.status).as_str(), decision.wake), ("Active until +1h", Some(at(limit))));
    }
    assert_eq!(short(&scene.pass(at(limit)).status), "Released/Expired/TearingDown");
    assert_eq!(scene.asked, 0);
}

/// Nobody has a say any more: what is overdue ends now.
#[test]
fn where_nobody_has_a_say_any_more_it_ends() {
    let mut scene = asked("ttl: 1h", "", Some("no"));
    scene.pass(at(DUE));
    scene.question = Question::Nobody;
    assert_eq!(short(&scene.pass(at(DUE + 1)).status), "Released/Expired/TearingDown");
}
