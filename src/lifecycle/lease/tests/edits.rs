//! Edits of `spec.expiresAt`: as an `Expires` to that time, but cut to the maximum instead of refused (api.md section 2).

use super::*;

fn edit(scene: &mut Scene, expires_at: Option<i64>, now: i64) -> Decision<LeaseStatus> {
    scene.lease.spec.expires_at = expires_at.map(at);
    scene.pass(at(now))
}

fn lifetime_message(status: &LeaseStatus) -> String {
    deadline::find(&status.deadlines, DeadlineName::Lifetime).map(|d| d.message.clone()).unwrap_or_default()
}

/// The lease is active since 20 s; the edit is seen at 40 s. What was not granted in full is told with the deadline and by
/// a Warning.
#[test]
fn an_edit_of_an_active_lease() {
    struct Row(&'static str, &'static str, Option<i64>);
    let (by_time, by_ttl) = ("expiresAt: '2026-11-23T11:00:00Z'", "ttl: 1h");
    for (Row(spec, limits, edited), expected, extensions, told) in [
        (Row(by_time, "", Some(2 * HOUR)), "Active until +2h", 1, None),
        (Row(by_time, "", Some(HOUR / 2)), "Active until +30m", 0, None),
        (Row(by_time, "", None), "Active", 1, None),
        (Row(by_time, "", Some(-HOUR)), "Released/Expired/TearingDown", 0, None),
        (Row(by_time, "defaultTTL: 30m", None), "Active until +30m20s", 0, None),
        (Row(by_time, "maxTTL: 2h", Some(HOUR + 1)), "Active until +1h1s", 1, None),
        (Row(by_time, "maxTTL: 2h", Some(9 * HOUR)), "Active until +2h20s", 1, Some("cut to lease.maxTTL")),
        (Row(by_time, "maxTTL: 2h", None), "Active until +2h20s", 1, None),
        (Row(by_time, "maxExtensions: 0", Some(2 * HOUR)), "Active until +1h", 0, Some("are used up")),
        (Row(by_time, "maxExtensions: 0", Some(HOUR / 2)), "Active until +30m", 0, None),
        (Row(by_time, "maxExtensions: 0", None), "Active until +1h", 0, Some("are used up")),
        (Row(by_time, "maxTTL: 2h, maxExtensions: 0", Some(9 * HOUR)), "Active until +1h", 0, Some("are used up")),
        (Row(by_ttl, "", Some(2 * HOUR)), "Active until +2h", 1, None),
        (Row(by_ttl, "", Some(HOUR / 2)), "Active until +30m", 0, None),
        (Row(by_ttl, "maxExtensions: 0", Some(2 * HOUR)), "Active until +1h20s", 0, Some("are used up")),
        (Row(by_ttl, "maxExtensions: 1", Some(2 * HOUR)), "Active until +2h", 1, None),
        (Row("", "", Some(2 * HOUR)), "Active until +2h", 0, None),
        (Row("", "maxTTL: 2h", Some(HOUR)), "Active until +1h", 0, None),
    ] {
        let name = format!("{spec} {limits} {edited:?}");
        let mut scene = Scene::reach(State::Active, spec, &format!("lease: {{{limits}}}"));
        let decision = edit(&mut scene, edited, LATER);
        assert_eq!(short(&decision.status), expected, "{name}");
        assert_eq!(decision.status.extensions, extensions, "{name}");
        let events: Vec<_> = decision.events.iter().filter(|e| e.reason == "EditNotGranted").collect();
        match told {
            None => assert!(events.is_empty(), "{name}: {events:?}"),
            Some(told) => {
                assert!(lifetime_message(&decision.status).contains(told), "{name}");
                assert!(events.iter().any(|e| e.kind == EventKind::Warning && e.message.contains(told)), "{name}");
                let again = scene.pass(at(LATER + 1));
                assert_eq!(again.status, decision.status, "{name}: it stays told, and is told once");
                assert!(again.events.is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn the_first_sight_is_no_edit_and_spends_no_extension() {
    let mut scene = Scene::free("expiresAt: '2026-11-23T11:00:00Z'", "lease: {maxExtensions: 0}");
    scene.claimed = Some(0);
    let decision = scene.pass(at(1));
    assert_eq!(short(&decision.status), "Active until +1h");
    assert_eq!((decision.status.extensions, decision.status.wish), (0, None));
    assert_eq!(decision.status.expiry_seen, Some(at(HOUR)));
    // Nor is one that came before anything was written.
    let mut quiet = Scene::free("expiresAt: '2026-11-23T11:00:00Z'", "lease: {maxExtensions: 0}");
    quiet.waiting.served_at_once = true;
    quiet.pass(at(1));
    quiet.claimed = Some(0);
    assert_eq!(short(&edit(&mut quiet, Some(2 * HOUR), 2).status), "Active until +2h");
    assert_eq!(quiet.status().extensions, 0);
}

/// An edit replaces `ttl` and `expiresAt` as a whole until the next; one that takes it away brings back what they give.
#[test]
fn edit_after_edit() {
    let mut scene = Scene::reach(State::Active, "ttl: 1h", "lease: {maxExtensions: 2}");
    for (edited, expected, extensions) in [
        (Some(2 * HOUR), "Active until +2h", 1),
        (Some(2 * HOUR), "Active until +2h", 1),
        (Some(HOUR / 2), "Active until +30m", 1),
        (None, "Active until +1h20s", 2),
        (Some(3 * HOUR), "Active until +1h20s", 2),
        (Some(HOUR / 2), "Active until +30m", 2),
        (None, "Active until +30m", 2),
    ] {
        assert_eq!(short(&edit(&mut scene, edited, LATER).status), expected, "{edited:?}");
        assert_eq!(scene.status().extensions, extensions, "{edited:?}");
    }
}

/// What waits has no maximum yet: limits bite at activation.
#[test]
fn an_edit_before_the_activation_is_the_wish() {
    for state in [State::Pending, State::Acquired, State::Returning] {
        let mut scene =
            Scene::reach(state, "expiresAt: '2026-11-23T11:00:00Z'", "lease: {maxTTL: 1h, maxExtensions: 0}");
        let decision = edit(&mut scene, Some(9 * HOUR), LATER);
        assert_eq!(decision.status.expires_at, Some(at(9 * HOUR)), "{state:?}");
        assert_eq!((decision.status.extensions, decision.events.len()), (0, 0), "{state:?}");
        assert_eq!(edit(&mut scene, None, LATER).status.expires_at, None, "{state:?}");
        let past = short(&edit(&mut scene, Some(-1), LATER).status);
        assert!(past.contains("/Expired/"), "{state:?}: {past}");
    }
}

#[test]
fn an_edit_of_what_is_over_changes_nothing_and_is_told() {
    for state in [State::Holding, State::TearingDown, State::Failing, State::Broken, State::BrokenFailing] {
        let mut scene = Scene::reach(state, "ttl: 2h", "");
        let before = scene.status().clone();
        let decision = edit(&mut scene, Some(9 * HOUR), LATER);
        assert_eq!(short(&decision.status), short(&before), "{state:?}");
        assert_eq!((decision.status.wish, decision.status.expires_at), (before.wish, before.expires_at), "{state:?}");
        assert!(decision.events.iter().any(|e| e.reason == "EditNotGranted"), "{state:?}");
        assert!(scene.pass(at(LATER + 1)).events.is_empty(), "{state:?}: once");
    }
    let mut destroyed = Scene::reach(State::Destroyed, "ttl: 2h", "");
    let before = destroyed.status().clone();
    assert_eq!(edit(&mut destroyed, Some(9 * HOUR), LATER).status, before, "never a status write again");
}

/// Both in one version: the edit first, then the commands (protocol.md, T4).
#[test]
fn an_edit_comes_before_the_commands_of_its_version() {
    let mut scene = Scene::reach(State::Active, "ttl: 1h", "");
    scene.lease.spec.expires_at = Some(at(3 * HOUR));
    assert_eq!(short(&scene.append(&["Expires, after: 2h"], at(LATER)).status), "Active until +2h40s");
    let mut over = Scene::reach(State::Active, "ttl: 1h", "");
    over.lease.spec.expires_at = Some(at(3 * HOUR));
    let decision = over.append(&["Release"], at(LATER));
    assert!(decision.events.iter().all(|e| e.reason != "EditNotGranted"), "it was not over when the edit was seen");
}

/// What the user's own end is does not rest on the resource, which may end earlier for now.
#[test]
fn an_extension_counts_though_the_resource_ends_first() {
    for (how, by_command) in [("edit", false), ("command", true)] {
        let mut scene = Scene::reach(State::Active, "ttl: 1h", "lease: {maxExtensions: 1}");
        scene.resource_ends(Some(at(HOUR / 2)));
        scene.pass(at(30));
        let extend = |scene: &mut Scene, to: i64, text: &str| match by_command {
            true => scene.append(&[text], at(LATER)),
            false => edit(scene, Some(to), LATER),
        };
        extend(&mut scene, 2 * HOUR, "Expires, at: 2026-11-23T12:00:00Z");
        assert_eq!((short(scene.status()).as_str(), scene.status().extensions), ("Active until +30m", 1), "{how}");
        extend(&mut scene, 3 * HOUR, "Expires, at: 2026-11-23T13:00:00Z");
        assert_eq!(scene.status().extensions, 1, "{how}");
        scene.resource_ends(None);
        scene.pass(at(50));
        assert_eq!(short(scene.status()), "Active until +2h", "{how}");
    }
}
