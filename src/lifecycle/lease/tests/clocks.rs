//! The clocks of a lease (api.md section 3): nothing a microsecond before, acted on at the deadline, and the next pass is
//! set for the deadline that comes next.

use super::*;
use crate::api::Outcome;

/// Plays a deadline: the scene has it on its deadlines, does nothing a microsecond before, and then does this.
#[track_caller]
fn plays(mut scene: Scene, name: DeadlineName, due: MicroTime, then: &str) {
    let on_record = deadline::find(&scene.status().deadlines, name).map(|d| offset(d.at));
    assert_eq!(on_record, Some(offset(due)), "{name:?} is told");
    let before = scene.status().clone();
    let early = scene.pass(just_before(due));
    assert_eq!(early.status, before, "{name:?}: nothing happens a microsecond before");
    assert_eq!(early.wake, Some(due), "{name:?}: woken at the deadline");
    assert_eq!(short(&scene.clone().pass(due).status), then, "{name:?} at the deadline");
    assert_eq!(short(&scene.pass(due.after(crate::api::Duration::from_secs(DAY))).status), then, "{name:?} much later");
}

#[test]
fn the_wait_for_a_resource() {
    let waiting = Scene::reach(State::Pending, "queueTimeout: 10m", "");
    plays(waiting, DeadlineName::Queue, at(10 * MINUTE + 1), "Destroyed/QueueTimeout/NothingToTearDown");
    let message = {
        let mut late = Scene::new("queueTimeout: 10m", "");
        reason_and_message(&late.pass(at(HOUR)).status.conditions, "Released").1
    };
    assert!(message.contains("Blueprint pools/ci has all that fits in use"), "it says what was missing: {message}");
}

/// creationTimestamp has whole seconds, cut off: a clock that ran from them would be up to a second early.
#[test]
fn whole_seconds_make_no_clock_early() {
    let half = MicroTime::from(at(0).timestamp() + jiff::SignedDuration::from_millis(500));
    for (first_seen, due) in [(at(0), at(60)), (half, half.after(crate::api::Duration::from_secs(60))), (at(9), at(61))]
    {
        let mut scene = Scene::new("queueTimeout: 1m", "");
        scene.pass(first_seen);
        assert_eq!(clocks(&scene.status().deadlines), [format!("Queue {}", offset(due))]);
        scene.pass(at(30));
        assert_eq!(clocks(&scene.status().deadlines), [format!("Queue {}", offset(due))], "what was told stands");
    }
}

/// `queueTimeout: 0s`: what is free now, or give up.
#[test]
fn a_wait_of_no_time() {
    let mut nothing_free = Scene::new("queueTimeout: 0s", "");
    assert_eq!(short(&nothing_free.pass(at(0)).status), "Destroyed/QueueTimeout/NothingToTearDown");
    let mut on_its_way = Scene::new("queueTimeout: 0s", "");
    on_its_way.waiting.served_at_once = true;
    assert_eq!(on_its_way.pass(at(0)).status, LeaseStatus::default(), "a grant on its way is waited for");
    let mut served = on_its_way.clone();
    served.claimed = Some(0);
    assert_eq!(short(&served.pass(at(1)).status), "Acquired");
    on_its_way.waiting.served_at_once = false;
    assert_eq!(short(&on_its_way.pass(at(1)).status), "Destroyed/QueueTimeout/NothingToTearDown", "it did not come");
}

#[test]
fn the_wait_begins_anew_at_each_return() {
    let mut scene = Scene::reach(State::Returning, "queueTimeout: 10m", "");
    assert_eq!(deadline::find(&scene.status().deadlines, DeadlineName::Queue), None, "not while it does not wait");
    scene.answer(StepKind::TearDownLease, done());
    scene.pass(at(HOUR));
    plays(scene, DeadlineName::Queue, at(HOUR + 10 * MINUTE), "Destroyed/QueueTimeout/NothingToTearDown");
}

#[test]
fn the_way_from_acquired_to_active() {
    for (limits, due) in [("", at(10 * MINUTE + 10)), ("activationTimeout: 30s", at(LATER))] {
        let scene = Scene::reach(State::Acquired, "", &format!("lease: {{{limits}}}"));
        plays(scene, DeadlineName::Activation, due, "Broken/ActivationTimeout/TearingDown");
    }
    for state in [State::Active, State::Returning, State::Pending, State::Broken] {
        let deadlines = Scene::reach(state, "", "").status().deadlines.clone();
        assert_eq!(deadline::find(&deadlines, DeadlineName::Activation), None, "{state:?}");
    }
    let order = Scene::reach(State::Acquired, "", "").pass(at(LATER)).step.unwrap();
    assert_eq!(order.timeout.as_secs(), 10 * 60 + 10 - 40, "the attempt is cut off at the deadline");
}

#[test]
fn the_life_of_an_active_lease() {
    let a_microsecond_after = |instant: MicroTime| instant.timestamp() + jiff::SignedDuration::from_micros(1);
    for (spec, limits, due) in [
        ("ttl: 1h", "", at(HOUR + 20)),
        ("expiresAt: '2026-11-23T11:00:00.000001Z'", "", a_microsecond_after(at(HOUR)).into()),
        ("", "defaultTTL: 1h", at(HOUR + 20)),
        ("ttl: 9h", "maxTTL: 1h", at(HOUR + 20)),
        ("", "maxTTL: 1h", at(HOUR + 20)),
    ] {
        let scene = Scene::reach(State::Active, spec, &format!("lease: {{{limits}}}"));
        plays(scene, DeadlineName::Lifetime, due, "Released/Expired/TearingDown");
    }
}

/// `expiresAt` is a clock at once; `ttl` from the activation on.
#[test]
fn the_life_of_a_lease_that_is_not_active_yet() {
    for (state, then) in [
        (State::Pending, "Destroyed/Expired/NothingToTearDown"),
        (State::Acquired, "Released/Expired/TearingDown"),
        (State::Returning, "Released/Expired/TearingDown"),
    ] {
        let scene = Scene::reach(state, "expiresAt: '2026-11-23T10:01:00Z', ttl: 1s", "lease: {maxTTL: 1s}");
        plays(scene, DeadlineName::Lifetime, at(60), then);
        let mut only_ttl = Scene::reach(state, "ttl: 1s", "lease: {maxTTL: 1s, defaultTTL: 1s}");
        assert_eq!(only_ttl.pass(at(5 * MINUTE)).status.expires_at, None, "{state:?}");
    }
    let mut past = Scene::new("expiresAt: '2026-11-23T09:00:00Z'", "");
    past.claimed = Some(0);
    assert_eq!(short(&past.pass(at(1)).status), "Destroyed/Expired/NothingToTearDown", "story 11");
}

/// Of two deadlines that have passed meanwhile the earlier one is the reason.
#[test]
fn the_earlier_deadline_is_the_reason() {
    for (timeout, expected) in
        [("10m", "Released/Expired/TearingDown"), ("30s", "Broken/ActivationTimeout/TearingDown")]
    {
        let limits = format!("lease: {{activationTimeout: {timeout}}}");
        let mut scene = Scene::reach(State::Acquired, "expiresAt: '2026-11-23T10:01:00Z'", &limits);
        assert_eq!(short(&scene.pass(at(HOUR)).status), expected, "{timeout}");
    }
}

/// Story 10. The end of the resource is the lease's, but it is the resource's to act on: its answer moves both.
#[test]
fn the_end_of_the_resource_is_followed_and_not_acted_on() {
    let mut scene = Scene::reach(State::Active, "ttl: 2h", "");
    scene.resource_ends(Some(at(HOUR)));
    let decision = scene.pass(at(LATER));
    assert_eq!(short(&decision.status), "Active until +1h");
    assert_eq!(clocks(&decision.status.deadlines), ["Lifetime +1h"]);
    for now in [at(HOUR), at(HOUR + 5)] {
        let decision = scene.pass(now);
        assert_eq!(short(&decision.status), "Active until +1h");
        assert!(decision.wake.is_none_or(|wake| wake > now), "it is the resource's pass that is due, not this one");
    }
    let mut moved = scene.clone();
    moved.resource_ends(Some(at(3 * HOUR)));
    assert_eq!(short(&moved.pass(at(HOUR + 6)).status), "Active until +2h20s", "it follows where that is moved");
    scene.end_resource(ResourcePhase::Released, "Expired");
    assert_eq!(short(&scene.pass(at(HOUR + 6)).status), "Released/ResourceReleased/TearingDown");
    let (_, message) = reason_and_message(&scene.status().conditions, "Released");
    assert!(message.contains("pools/ci--h1") && message.contains("Expired"), "{message}");
}

/// An end that has come when the lease becomes active is acted on in that pass.
#[test]
fn a_life_of_no_time() {
    for (spec, limits) in [("ttl: 0s", ""), ("", "lease: {maxTTL: 0s}"), ("", "lease: {defaultTTL: 0s}")] {
        let mut scene = Scene::reach(State::Acquired, spec, limits);
        scene.answer(StepKind::Activate, done());
        let decision = scene.pass(at(20));
        assert_eq!(short(&decision.status), "Released/Expired/TearingDown", "{spec} {limits}");
        assert_eq!(decision.status.activated_at, Some(at(20)), "{spec} {limits}");
        assert_eq!(decision.step.map(|order| order.step.kind), Some(StepKind::TearDownLease), "{spec} {limits}");
        let mut free = Scene::free(spec, limits);
        free.claimed = Some(0);
        assert_eq!(short(&free.pass(at(1)).status), "Destroyed/Expired/TornDown", "{spec} {limits}");
    }
}

/// Its own end is acted on, though the resource ends in the same hour.
#[test]
fn its_own_earlier_end_is_acted_on() {
    let mut scene = Scene::reach(State::Active, "ttl: 1h", "");
    scene.resource_ends(Some(at(HOUR + 21)));
    scene.pass(at(LATER));
    plays(scene, DeadlineName::Lifetime, at(HOUR + 20), "Released/Expired/TearingDown");
}

/// A destroyed lease is kept for an hour, or as it says; the finalizer goes at once.
#[test]
fn a_destroyed_lease_is_deleted_when_its_time_is_over() {
    for (spec, due) in
        [("", at(HOUR + 32)), ("ttlAfterDestroyed: 0s", at(32)), ("ttlAfterDestroyed: 168h", at(7 * DAY + 32))]
    {
        let mut scene = Scene::reach(State::Destroyed, spec, "");
        assert_eq!(clocks(&scene.status().deadlines), [format!("Finished {}", offset(due))]);
        let decision = scene.decide(at(32));
        assert_eq!(decision.metadata, Some(MetadataChange::RemoveFinalizer), "{spec}");
        scene.lease.metadata.finalizers = None;
        if due > at(32) {
            let early = scene.decide(just_before(due));
            assert_eq!((early.metadata, early.wake), (None, Some(due)), "{spec}");
        }
        assert_eq!(scene.decide(due).metadata, Some(MetadataChange::Delete), "{spec}");
        delete(&mut scene.lease.metadata);
        assert_eq!(scene.decide(due).metadata, None, "{spec}: it is on its way");
    }
    let mut edited = Scene::reach(State::Destroyed, "", "");
    edited.lease.metadata.finalizers = None;
    edited.lease.spec.ttl_after_destroyed = Some("5m".parse().unwrap());
    assert_eq!(edited.decide(at(LATER)).wake, Some(at(5 * MINUTE + 32)), "the time may be edited until it is over");
}

/// Each attempt at the teardown has its time, from its own start; failed ones are repeated after 1 s doubling to 5 m.
#[test]
fn each_attempt_at_a_teardown_has_its_time() {
    for (limits, timeout) in [("", 15 * MINUTE), ("resource: {teardownTimeout: 2m}", 2 * MINUTE)] {
        let mut scene = Scene::reach(State::TearingDown, "", limits);
        let told = |scene: &Scene| clocks(&scene.status().deadlines);
        let due = |start: i64| [format!("Teardown {}", offset(at(start + timeout)))];
        assert_eq!(told(&scene), due(30), "{limits}: the first");
        assert_eq!(scene.pass(at(33)).step.unwrap().timeout.as_secs(), timeout.unsigned_abs());
        assert_eq!(told(&scene), due(30), "{limits}: a look does not move it");
        for (now, failures, begins) in [(50, 1, 51), (60, 2, 62), (100, 3, 104), (1000, 9, 1256), (2000, 12, 2300)] {
            scene.answer_after(StepKind::TearDownLease, Answer::Failed(failure("NoRoute")), failures);
            scene.pass(at(now));
            assert_eq!(told(&scene), due(begins), "{limits}: after failure {failures}");
            assert_eq!(scene.status().phase(), LeasePhase::Released, "the phase stays");
            scene.pass(at(now + 5));
            assert_eq!(told(&scene), due(begins), "{limits}: a look does not move it");
        }
    }
}

/// What was not told is not lost: where the Blueprint is not there to be seen, the end on record stands.
#[test]
fn without_the_blueprint_the_end_that_was_told_stands() {
    for (spec, limits, due) in [
        ("", "lease: {defaultTTL: 1h}", at(HOUR + 20)),
        ("ttl: 9h", "lease: {maxTTL: 1h}", at(HOUR + 20)),
        ("ttl: 1h", "", at(HOUR + 20)),
    ] {
        let mut scene = Scene::reach(State::Active, spec, limits);
        scene.blueprint = None;
        plays(scene, DeadlineName::Lifetime, due, "Released/Expired/TearingDown");
    }
    for (text, edited, expected) in [
        ("Expires, after: 9h", None, "Active until +1h20s"),
        ("Expires, never: true", None, "Active until +1h20s"),
        ("Expires, after: 10m", None, "Active until +10m40s"),
        ("", Some(9 * HOUR), "Active until +1h20s"),
        ("", Some(MINUTE), "Active until +1m"),
    ] {
        let mut scene = Scene::reach(State::Active, "ttl: 1h", "");
        scene.blueprint = None;
        scene.lease.spec.expires_at = edited.map(at);
        let texts: Vec<_> = [text].into_iter().filter(|text| !text.is_empty()).collect();
        let decision = scene.append(&texts, at(LATER));
        assert_eq!(short(&decision.status), expected, "{text} {edited:?}");
        assert_eq!(decision.status.extensions, 0, "{text} {edited:?}");
        let told = decision.events.iter().any(|e| e.message.contains("its Blueprint is not seen"));
        assert_eq!(told, expected.ends_with("+1h20s"), "{text} {edited:?}: what is not granted is told");
    }
    let mut scene = Scene::reach(State::Acquired, "", "lease: {activationTimeout: 1h}");
    scene.blueprint = None;
    plays(scene, DeadlineName::Activation, at(HOUR + 10), "Broken/ActivationTimeout/TearingDown");
}

/// Nor from recording what came of a command (Q1), though the end stays where it was.
#[test]
fn a_grant_on_its_way_hides_no_outcome() {
    for (text, outcome) in [
        ("Forget", Outcome::Refused),
        ("Expires, never: true", Outcome::Applied),
        ("Expires, at: 2026-11-23T19:00:00Z", Outcome::Applied),
    ] {
        let mut scene = Scene::new("", "");
        scene.waiting.served_at_once = true;
        assert_eq!(scene.pass(at(1)).status, LeaseStatus::default());
        let status = scene.append(&[text], at(2)).status;
        assert_eq!(status.phase(), LeasePhase::Pending, "{text}");
        assert_eq!(status.commands.iter().map(|entry| entry.outcome).collect::<Vec<_>>(), [outcome], "{text}");
        assert_eq!(scene.pass(at(3)).status, status, "{text}: once");
    }
}

/// A grant that is on its way keeps the pass from writing, not the clocks from being kept.
#[test]
fn a_grant_on_its_way_stops_no_clock() {
    for (spec, due, then) in [
        ("queueTimeout: 1m", at(61), "Destroyed/QueueTimeout/NothingToTearDown"),
        ("expiresAt: '2026-11-23T10:01:00Z'", at(60), "Destroyed/Expired/NothingToTearDown"),
    ] {
        let mut scene = Scene::reach(State::Pending, spec, "");
        scene.waiting.served_at_once = true;
        let soon = MicroTime::from(due.timestamp() - jiff::SignedDuration::from_millis(300));
        let decision = scene.pass(soon);
        assert_eq!(decision.wake, Some(due), "{spec}");
        assert_eq!(short(&scene.pass(due).status), then, "{spec}");
        let much_earlier =
            Scene { waiting: scene.waiting.clone(), ..Scene::reach(State::Pending, spec, "") }.pass(at(5));
        assert_eq!(much_earlier.wake, Some(at(6)), "{spec}: and if it does not come, it is looked at again");
    }
}
