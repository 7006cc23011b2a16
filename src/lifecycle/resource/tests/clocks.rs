//! The clocks of a resource (api.md section 3): nothing a microsecond before, acted on at the deadline.

use super::*;

/// Plays a deadline: the scene has it on its deadlines, does nothing a microsecond before, and then does this.
#[track_caller]
fn plays(mut scene: Scene, name: DeadlineName, due: MicroTime, then: &str) {
    let on_record = deadline::find(&scene.status().deadlines, name).map(|d| offset(d.at));
    assert_eq!(on_record, Some(offset(due)), "{name:?} is told");
    let before = scene.status().clone();
    let early = scene.pass(just_before(due));
    assert_eq!(early.status, before, "{name:?}: nothing happens a microsecond before");
    assert_eq!(early.wake, Some(due), "{name:?}: woken at the deadline");
    // One that expires gets no new lease in that moment; one that is only idle does.
    if name != DeadlineName::Idle {
        scene.candidates = vec![candidate("late", 0)];
    }
    assert_eq!(short(&scene.clone().pass(due).status), then, "{name:?} at the deadline");
    assert_eq!(short(&scene.pass(due.after(crate::api::Duration::from_secs(DAY))).status), then, "{name:?} much later");
}

/// Story 27. It runs from the creation, whose whole seconds must not make it early.
#[test]
fn the_time_of_a_build() {
    for (policy, seconds) in [("", 15 * MINUTE), ("resource: {buildTimeout: 30s}", 30)] {
        let scene = Scene::reach(State::Building, "", policy);
        plays(scene, DeadlineName::Build, at(seconds + 1), "Broken/BuildTimeout/TearingDown");
    }
    let half = MicroTime::from(at(0).timestamp() + jiff::SignedDuration::from_millis(500));
    for (first_seen, due) in [(half, half.after(crate::api::Duration::from_secs(900))), (at(60), at(901))] {
        let mut scene = Scene::new("", "");
        scene.pass(first_seen);
        scene.pass(at(100));
        assert_eq!(clocks(&scene.status().deadlines), [format!("Build {}", offset(due))], "what was told stands");
    }
    let mut late = Scene::new("", "");
    assert_eq!(short(&late.pass(at(DAY)).status), "Destroyed/BuildTimeout/NothingToTearDown", "honoured at the start");
    assert_eq!(deadline::find(&Scene::reach(State::Idle, "", "").status().deadlines, DeadlineName::Build), None);
}

/// `spec.expiresAt`, at once; else `resource.ttl` from the activation on. Its leases go with it.
#[test]
fn the_life_of_a_resource() {
    let by_time = "expiresAt: '2026-11-23T11:00:00Z'";
    for (state, spec, policy, due, then) in [
        (State::Idle, by_time, "", HOUR, "Released/Expired/TearingDown"),
        (State::Idle, by_time, "resource: {ttl: 1m}", HOUR, "Released/Expired/TearingDown"),
        (State::Idle, "", "resource: {ttl: 1h}", HOUR + 10, "Released/Expired/TearingDown"),
        (State::Leased, by_time, "", HOUR, "Released/Expired/WaitingForLeases [l]"),
        (State::Leased, "", "resource: {ttl: 1h}", HOUR + 10, "Released/Expired/WaitingForLeases [l]"),
    ] {
        plays(Scene::reach(state, spec, policy), DeadlineName::Age, at(due), then);
    }
    let building = Scene::reach(State::Building, "expiresAt: '2026-11-23T10:01:00Z'", "resource: {ttl: 1s}");
    plays(building, DeadlineName::Age, at(60), "Released/Expired/TearingDown");
    let never = Scene::reach(State::Leased, "", "");
    assert_eq!(clocks(&never.status().deadlines), [""; 0]);
}

/// Story 50: at, after, never.
#[test]
fn the_life_of_a_resource_is_moved_by_commands() {
    for (text, due) in [("Expires, at: 2026-11-23T10:30:00Z", HOUR / 2), ("Expires, after: 2h", 2 * HOUR + LATER)] {
        let mut scene = Scene::reach(State::Leased, "", "resource: {ttl: 1h}");
        scene.append(&[text], at(LATER));
        plays(scene, DeadlineName::Age, at(due), "Released/Expired/WaitingForLeases [l]");
    }
    let mut never = Scene::reach(State::Leased, "", "resource: {ttl: 1h}");
    never.append(&["Expires, never: true"], at(LATER));
    assert_eq!(short(&never.pass(at(100 * DAY)).status), "Active [l]");
}

/// A resource that was built in the same moment as its time is over.
#[test]
fn a_life_of_no_time() {
    let mut scene = Scene::reach(State::Building, "", "resource: {ttl: 0s}");
    scene.candidates = vec![candidate("l", 0)];
    scene.answer(StepKind::Build, done());
    assert_eq!(short(&scene.pass(at(10)).status), "Released/Expired/TearingDown");
}

/// `idleTTL` runs from the activation, and from when the last claim goes; a claim clears it. Story 15.
#[test]
fn the_time_that_nobody_holds_it() {
    let policy = "limits: {leasesPerResource: 2}, resource: {idleTTL: 1h}";
    let idle = Scene::reach(State::Idle, "", policy);
    plays(idle, DeadlineName::Idle, at(HOUR + 10), "Released/IdleTimeout/TearingDown");
    let mut leased = Scene::reach(State::Leased, "", policy);
    leased.grant("m", at(30));
    assert_eq!(deadline::find(&leased.status().deadlines, DeadlineName::Idle), None, "a claim clears it");
    leased.see("l", LeasePhase::Destroyed, 0, None);
    leased.pass(at(5 * HOUR));
    assert_eq!(short(leased.status()), "Active [m]");
    assert_eq!(leased.pass(at(6 * HOUR)).wake, None, "one lease is enough");
    leased.leases_end();
    leased.pass(at(7 * HOUR));
    plays(leased, DeadlineName::Idle, at(8 * HOUR), "Released/IdleTimeout/TearingDown");
    let for_ever = Scene::reach(State::Idle, "", "").pass(at(100 * DAY));
    assert_eq!((short(&for_ever.status).as_str(), for_ever.wake), ("Active", None));
}

/// However short it is, who waits comes first: it is offered to them when its activation is on record.
#[test]
fn an_idle_time_of_no_time() {
    let mut scene = Scene::reach(State::Building, "", "resource: {idleTTL: 0s}");
    scene.answer(StepKind::Build, done());
    let built = scene.pass(at(10));
    assert_eq!(short(&built.status), "Active");
    let nobody = scene.clone().pass(at(10));
    assert_eq!(short(&nobody.status), "Released/IdleTimeout/TearingDown");
    scene.candidates = vec![candidate("l", 0)];
    assert_eq!(short(&scene.pass(at(10)).status), "Active [l]");
    scene.candidates.clear();
    scene.leases_end();
    assert_eq!(short(&scene.pass(at(20)).status), "Released/IdleTimeout/TearingDown", "and goes with the last of them");
}

/// Story 34: a pool at `minReady` clears the clock; one that is above it again, later, does not make it early.
#[test]
fn the_time_that_nobody_holds_it_in_a_pool_that_keeps_some_ready() {
    let mut scene = Scene::reach(State::Idle, "", "resource: {idleTTL: 1h}");
    scene.idle = IdleClock::Cleared;
    let kept = scene.pass(at(5 * HOUR));
    assert_eq!((short(&kept.status).as_str(), kept.wake, clocks(&kept.status.deadlines)), ("Active", None, vec![]));
    for (then, due) in [(5 * HOUR, 6 * HOUR), (1, HOUR + 10)] {
        let mut scene = scene.clone();
        scene.idle = IdleClock::RunsFrom(at(then));
        scene.pass(at(20));
        plays(scene, DeadlineName::Idle, at(due), "Released/IdleTimeout/TearingDown");
    }
    scene.idle = IdleClock::Runs;
    assert_eq!(short(&scene.pass(at(5 * HOUR)).status), "Released/IdleTimeout/TearingDown", "none is kept any more");
}

/// Story 50: a day of `idleTTL`: leased for days, by one after the other, gone a day after the last.
#[test]
fn leased_for_days_and_gone_a_day_after_the_last() {
    let mut scene = Scene::reach(State::Idle, "", "resource: {idleTTL: 24h}");
    let mut now = 10;
    for (name, idle, leased) in [("a", DAY - 1, 3 * DAY), ("b", HOUR, 2 * DAY), ("c", DAY - 1, 10 * DAY)] {
        now += idle;
        scene.grant(name, at(now));
        assert_eq!(short(scene.status()), format!("Active [{name}]"));
        now += leased;
        assert_eq!(short(&scene.pass(at(now)).status), format!("Active [{name}]"), "while it is leased it stays");
        scene.leases_end();
        let decision = scene.pass(at(now));
        assert_eq!(decision.wake, Some(at(now + DAY)));
    }
    plays(scene, DeadlineName::Idle, at(now + DAY), "Released/IdleTimeout/TearingDown");
}

/// Two claims' worth of grants on the edge: what is granted in the same write as the last claim goes is not idle.
#[test]
fn a_hand_over_starts_no_idle_clock() {
    let mut scene = Scene::reach(State::Leased, "", "resource: {idleTTL: 1h}");
    scene.leases_end();
    scene.candidates = vec![candidate("m", 0)];
    let decision = scene.pass(at(LATER));
    assert_eq!((clocks(&decision.status.deadlines), decision.wake), (vec![], None));
}

/// Where the Blueprint is not seen, the end that was told stands; what it would say now is not known.
#[test]
fn without_the_blueprint_the_end_that_was_told_stands() {
    let mut scene = Scene::reach(State::Leased, "", "resource: {ttl: 1h}");
    scene.sight = Sight::Gone;
    plays(scene, DeadlineName::Age, at(HOUR + 10), "Released/Expired/WaitingForLeases [l]");
}

/// Each attempt at the teardown has its time, from its own start; failed ones are repeated after 1 s doubling to 5 m.
#[test]
fn each_attempt_at_a_teardown_has_its_time() {
    for (policy, timeout) in [("", 15 * MINUTE), ("resource: {teardownTimeout: 2m}", 2 * MINUTE)] {
        let mut scene = Scene::reach(State::TearingDown, "", policy);
        let told = |scene: &Scene| clocks(&scene.status().deadlines);
        let due = |start: i64| [format!("Teardown {}", offset(at(start + timeout)))];
        assert_eq!(told(&scene), due(30), "{policy}: the first");
        assert_eq!(scene.pass(at(33)).step.unwrap().timeout.as_secs(), timeout.unsigned_abs());
        assert_eq!(told(&scene), due(30), "{policy}: a look does not move it");
        for (now, failures, begins) in [(50, 1, 51), (60, 2, 62), (100, 3, 104), (1000, 9, 1256), (2000, 12, 2300)] {
            scene.answer_after(StepKind::TearDownResource, Answer::Failed(failure("NoRoute")), failures);
            scene.pass(at(now));
            assert_eq!(told(&scene), due(begins), "{policy}: after failure {failures}");
            scene.pass(at(now + 5));
            assert_eq!(told(&scene), due(begins), "{policy}: a look does not move it");
        }
    }
}
