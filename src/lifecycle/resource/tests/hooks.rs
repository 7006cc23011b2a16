//! What a driver moves as leases come and go (story 52): in the write of the claim, or of its end, and in no other.

use super::*;

fn ends(seconds: i64) -> Option<Wish> {
    Some(Wish { at: Some(at(seconds)), never: None })
}

/// Held: for ever. Free again: for a minute more; and it counts who came and went, and looks who holds it.
fn by_the_book(kind: HookKind, next: &ResourceStatus) -> Moves {
    let held = next.claims.len();
    let book = format!("{}{}{held} ", next.storage.get("book").map_or("", String::as_str), kind_word(kind));
    let expires = match kind {
        HookKind::DidAcquire => Some(Wish { at: None, never: None }),
        HookKind::DidRelease if held > 0 => None,
        HookKind::DidRelease => ends(10 * HOUR),
    };
    Moves { expires, storage: Some([("book".to_owned(), book)].into()) }
}

fn kind_word(kind: HookKind) -> &'static str {
    match kind {
        HookKind::DidAcquire => "+",
        HookKind::DidRelease => "-",
    }
}

fn hooked(state: State, policy: &str) -> Scene {
    let mut scene = Scene::reach(state, "", policy);
    scene.hooks = Some(Vec::new());
    scene.moves = by_the_book;
    scene
}

fn book(scene: &Scene) -> &str {
    scene.status().storage.get("book").map_or("", String::as_str)
}

#[test]
fn what_is_moved_is_in_the_write_of_the_claim_and_of_its_end() {
    let mut scene = hooked(State::Idle, "resource: {ttl: 1h}");
    let granted = scene.grant("l", at(LATER));
    assert_eq!((short(&granted.status).as_str(), book(&scene)), ("Active [l]", "+1 "), "its clock is cleared");
    assert_eq!(granted.status.wish, Some(Wish { at: None, never: Some(true) }), "as the API takes it");
    assert_eq!((scene.pass(at(DAY)).status, book(&scene)), (granted.status, "+1 "), "once");
    scene.leases_end();
    let free = scene.pass(at(2 * HOUR)).status;
    assert_eq!((short(&free).as_str(), book(&scene)), ("Active until +10h", "+1 -0 "), "and set");
    assert_eq!((scene.pass(at(3 * HOUR)).status, book(&scene)), (free, "+1 -0 "), "once");
    assert_eq!(short(&scene.pass(at(10 * HOUR)).status), "Released/Expired/TearingDown");
}

/// One after the other, in one write: each sees what those before it have moved, and who holds it after the write.
#[test]
fn each_sees_what_those_before_it_have_moved() {
    let mut scene = hooked(State::Idle, "limits: {leasesPerResource: 3}");
    scene.candidates = vec![candidate("a", 0), candidate("b", 0)];
    scene.pass(at(LATER));
    assert_eq!((short(scene.status()).as_str(), book(&scene)), ("Active [a b]", "+2 +2 "));
    scene.leases_end();
    scene.candidates = vec![candidate("c", 0)];
    scene.pass(at(50));
    assert_eq!((short(scene.status()).as_str(), book(&scene)), ("Active [c]", "+2 +2 -1 -1 +1 "));
    scene.candidates.clear();
    scene.leases_end();
    scene.pass(at(60));
    assert_eq!(short(scene.status()), "Active until +10h");
}

/// A lease that ends while the driver is being told of another, and stands before that among the claims, is told of first: and
/// what the driver said to the other, which did not know of it, is asked again. Nothing that was moved is lost.
#[test]
fn nothing_is_lost_where_another_goes_meanwhile() {
    let mut scene = hooked(State::Idle, "limits: {leasesPerResource: 2}");
    scene.candidates = vec![candidate("a", 0), candidate("b", 0)];
    scene.pass(at(LATER));
    scene.candidates.clear();
    scene.leases_end();
    let ended = scene.leases.clone();
    scene.leases.insert("uid-of-a".into(), Holder::Seen(lease("a", "").into()));
    scene.hooks = Some(Vec::new());
    let told = scene.decide(at(50));
    assert!(matches!(&told.reads[..], [Read::Hook { call, .. }] if call.key.lease == Some(("uid-of-b".into(), 0))));
    scene.tell(&told);
    scene.leases = ended;
    for _ in 0..2 {
        let told = scene.decide(at(50));
        scene.tell(&told);
    }
    let written = scene.decide(at(50));
    assert_eq!((written.reads.as_slice(), written.status.claims.as_slice()), (&[][..], &[][..]));
    assert_eq!(written.status.storage["book"], "+2 +2 -0 -0 ");
}

/// An end that is set into the past is the end; and one in the moment of the grant ends nothing before the claim is on record.
#[test]
fn an_end_in_the_past_is_now() {
    let mut scene = hooked(State::Leased, "");
    scene.moves = |_, _| Moves { expires: ends(1), storage: None };
    scene.leases_end();
    assert_eq!(short(&scene.pass(at(LATER)).status), "Released/Expired/TearingDown");
    let mut granted = hooked(State::Idle, "");
    granted.moves = |_, _| Moves { expires: ends(1), storage: None };
    granted.grant("l", at(LATER));
    assert!(short(granted.status()).starts_with("Active [l]"), "{}", short(granted.status()));
    assert_eq!(short(&granted.pass(at(LATER)).status), "Released/Expired/WaitingForLeases [l]");
}

/// What is over has no end to be moved; its driver keeps its books all the same.
#[test]
fn what_is_over_stays_over() {
    let mut scene = hooked(State::Waiting, "");
    scene.leases_end();
    scene.pass(at(LATER));
    assert_eq!((scene.status().wish, book(&scene)), (None, "-0 "));
}

/// What it wants moved is kept apart from what nobody wanted: a hook that moves nothing changes nothing.
#[test]
fn a_hook_that_moves_nothing_changes_nothing() {
    let mut told = hooked(State::Idle, "resource: {ttl: 1h}");
    told.moves = |_, _| Moves::default();
    let mut untold = Scene::reach(State::Idle, "", "resource: {ttl: 1h}");
    assert_eq!(told.grant("l", at(LATER)).status, untold.grant("l", at(LATER)).status);
}
