//! The question at the deadlines of a resource (api.md section 3, stories 14 and 51): its Age and its Idle clock.

use super::*;

fn asked(state: State, policy: &str, why: Option<&str>) -> Scene {
    let mut scene = Scene::reach(state, "", policy);
    scene.declines(why);
    scene
}

#[test]
fn who_declines_is_asked_again() {
    for (state, clock, reason) in [
        (State::Idle, "ttl: 1h", "Expired/TearingDown"),
        (State::Leased, "ttl: 1h", "Expired/WaitingForLeases [l]"),
        (State::Idle, "idleTTL: 1h", "IdleTimeout/TearingDown"),
    ] {
        for (retry, wait) in [("", 60), ("retryAfter: 5s", 5)] {
            let policy = format!("resource: {{{clock}}}, expiry: {{{retry}}}");
            let mut scene = asked(state, &policy, Some("somebody works on it"));
            let due = HOUR + 10;
            scene.pass(just_before(at(due)));
            assert_eq!(scene.asked, 0, "{policy}: not before the deadline");
            let first = at(due + wait);
            for (asked, now, next) in [(1, 0, wait), (2, wait, 2 * wait), (3, 2 * wait, 4 * wait)] {
                let again = at(due + next);
                let before = scene.status().clone();
                let decision = scene.pass(at(due + now));
                assert!(asked == 1 || decision.status == before, "{policy}: what only moves on is not written");
                assert_eq!(decision.status.phase(), ResourcePhase::Active, "{policy}");
                let told = deadline::find(&decision.status.deadlines, DeadlineName::Asking).unwrap();
                let said = (told.reason.as_str(), told.message.as_str());
                assert_eq!((told.at, said), (first, ("ExpiryDeclined", "somebody works on it")), "{policy}");
                assert_eq!(decision.wake, Some(again), "{policy}");
                assert_eq!(scene.asked, asked, "{policy}: once each time");
                let mut look = scene.clone();
                let looked = look.pass(just_before(again));
                assert_eq!(
                    (looked.status, looked.wake),
                    (decision.status, Some(again)),
                    "{policy}: until then it rests"
                );
            }
            scene.declines(None);
            let over = scene.pass(at(due + 4 * wait)).status;
            assert_eq!(short(&over), format!("Released/{reason}"), "{policy}");
            assert_eq!(deadline::find(&over.deadlines, DeadlineName::Asking), None, "{policy}");
        }
    }
}

/// One question answers for all that has come; a clock that runs out after it is asked about at its own time.
#[test]
fn each_of_its_clocks_is_asked_about_at_its_time() {
    let policy = "resource: {ttl: 2h, idleTTL: 1h}, expiry: {retryAfter: 12h}";
    let mut scene = asked(State::Idle, policy, Some("no"));
    scene.pass(at(HOUR + 10));
    assert_eq!(clocks(&scene.status().deadlines), ["Age +2h10s", "Idle +1h10s", "Asking +13h10s"]);
    assert_eq!(scene.pass(at(HOUR + 11)).wake, Some(at(2 * HOUR + 10)), "the Age is still to come");
    scene.pass(at(2 * HOUR + 10));
    assert_eq!((scene.asked, clocks(&scene.status().deadlines).pop().unwrap()), (2, "Asking +14h10s".to_owned()));
    let on_record = scene.status().clone();
    assert_eq!((scene.pass(at(3 * HOUR)).status, scene.asked), (on_record, 2), "and it rests");
    let mut both = asked(State::Idle, policy, Some("no"));
    both.pass(at(5 * HOUR));
    assert_eq!(both.asked, 1, "both have come");
}

/// Past its Age, and not to go: whoever holds it keeps it, and nobody gets it. Past its idle time it is whoever's comes.
#[test]
fn what_is_past_its_age_is_granted_to_nobody() {
    for (state, clock, then) in [
        (State::Idle, "ttl: 1h", "Active until +1h10s"),
        (State::Leased, "ttl: 1h", "Active [l] until +1h10s"),
        (State::Idle, "idleTTL: 1h", "Active [m]"),
    ] {
        let policy = format!("limits: {{leasesPerResource: 2}}, resource: {{{clock}}}");
        let mut scene = asked(state, &policy, Some("no"));
        scene.pass(at(HOUR + 10));
        for offered_in_the_pass_of_the_question in [true, false] {
            let mut scene = scene.clone();
            let now = if offered_in_the_pass_of_the_question { at(HOUR + 70) } else { at(HOUR + 20) };
            scene.candidates = vec![candidate("m", 0)];
            let granted = scene.pass(now);
            assert_eq!(short(&granted.status), then, "{policy}");
            let asking = deadline::find(&granted.status.deadlines, DeadlineName::Asking);
            assert_eq!(asking.is_some(), clock.starts_with("ttl"), "{policy}: a claim clears the Idle clock");
            scene.candidates.clear();
            scene.see("m", LeasePhase::Active, 0, Some("uid-of-ci--h1"));
            assert_eq!(scene.pass(now).status, granted.status, "{policy}: and nothing is written for it");
        }
    }
}

#[test]
fn an_end_that_moves_is_another() {
    let mut scene = asked(State::Leased, "resource: {ttl: 1h}, expiry: {retryAfter: 1h}", Some("no"));
    scene.pass(at(HOUR + 10));
    let decision = scene.append(&["Expires, after: 10s"], at(HOUR + 15));
    assert_eq!(clocks(&decision.status.deadlines), ["Age +1h25s"], "nothing is asked for any more");
    scene.pass(at(HOUR + 25));
    assert_eq!((scene.asked, clocks(&scene.status().deadlines).len()), (2, 2));
    scene.declines(None);
    let over = scene.append(&["Expires, at: 2026-11-23T09:00:00Z"], at(HOUR + 30)).status;
    assert_eq!((short(&over).as_str(), scene.asked), ("Released/Expired/WaitingForLeases [l]", 3));
}

/// Nobody is asked about a build, or about what is asked for.
#[test]
fn what_nobody_is_asked_about() {
    for (state, spec, now, then) in [
        (State::Building, "", 15 * MINUTE + 1, "Broken/BuildTimeout/TearingDown"),
        (State::Building, "expiresAt: '2026-11-23T10:01:00Z'", 60, "Released/Expired/TearingDown"),
    ] {
        let mut scene = Scene::reach(state, spec, "");
        scene.declines(Some("no"));
        assert_eq!((short(&scene.pass(at(now)).status).as_str(), scene.asked), (then, 0), "{state:?} {spec}");
    }
    for (text, then) in [("Release", "Released/Released/TearingDown"), ("Reclaim", "Released/Reclaimed/TearingDown")] {
        let mut scene = asked(State::Idle, "resource: {idleTTL: 1h}", Some("no"));
        scene.pass(at(HOUR + 10));
        assert_eq!(short(&scene.append(&[text], at(HOUR + 11)).status), then, "{text}");
        assert_eq!(scene.asked, 1, "{text}");
    }
}
