//! The tables of a Blueprint's own status and finalizer.

use super::*;
use crate::{
    api::blueprint::From,
    lifecycle::{EventKind, testing::*},
};

fn counts(pending: i64, active: i64, released: i64, broken: i64) -> ResourceCounts {
    ResourceCounts { pending, active, idle: active, leased: 0, released, broken }
}

/// The status is written as the shell writes it.
fn pass(blueprint: &mut Blueprint, around: &Surroundings, now: i64) -> Decision<BlueprintStatus> {
    let decision = decide(blueprint, around, at(now));
    blueprint.status = Some(decision.status.clone());
    decision
}

fn ready(status: &BlueprintStatus) -> String {
    told(&status.conditions).join(" ")
}

/// B1: nothing is made before its own object was read with the finalizer.
#[test]
fn b1_the_finalizer_comes_first() {
    let mut fresh = blueprint("");
    fresh.metadata.finalizers = None;
    let decision = decide(&fresh, &Surroundings::default(), at(1));
    assert_eq!(decision.metadata, Some(MetadataChange::AddFinalizer));
    assert_eq!(decision.status, BlueprintStatus::default());
    delete(&mut fresh.metadata);
    let decision = decide(&fresh, &Surroundings::default(), at(1));
    assert_eq!((decision.metadata, decision.status), (None, BlueprintStatus::default()), "it is gone but for others");
}

/// B2: the finalizer goes only when it is deleted, and a list made after that shows none of its resources.
#[test]
fn b2_the_finalizer_goes_after_the_last_resource() {
    for (deleted, counted, listed, reads, metadata, wake) in [
        (false, counts(0, 0, 0, 0), None, false, None, None),
        (false, counts(0, 0, 0, 0), Some(0), false, None, None),
        (true, counts(1, 0, 0, 0), None, false, None, None),
        (true, counts(0, 1, 0, 0), None, false, None, None),
        (true, counts(0, 0, 1, 0), None, false, None, None),
        (true, counts(0, 0, 0, 1), None, false, None, None),
        (true, counts(0, 0, 1, 0), Some(0), false, None, None),
        (true, counts(0, 0, 0, 0), None, true, None, None),
        (true, counts(0, 0, 0, 0), Some(2), false, None, Some(at(2))),
        (true, counts(0, 0, 0, 0), Some(0), false, Some(MetadataChange::RemoveFinalizer), None),
    ] {
        let mut blueprint = blueprint("");
        if deleted {
            delete(&mut blueprint.metadata);
        }
        let around = Surroundings { counts: counted, resources_left: listed, ..Surroundings::default() };
        let decision = decide(&blueprint, &around, at(1));
        let name = format!("deleted: {deleted}, {counted:?}, listed: {listed:?}");
        assert_eq!(decision.reads, vec![Read::ResourcesOfBlueprint; usize::from(reads)], "{name}");
        assert_eq!((decision.metadata, decision.wake), (metadata, wake), "{name}");
    }
}

/// Ready, by what is wrong; of several troubles the first of this list is told.
#[test]
fn ready_says_what_is_wrong() {
    type Trouble = fn(&mut Blueprint, &mut Surroundings);
    let troubles: [(&str, &str, Trouble); 8] = [
        ("Draining", "drained as its leases end", |blueprint, around| {
            delete(&mut blueprint.metadata);
            around.counts = counts(0, 1, 0, 0);
        }),
        ("Suspended", "nothing granted", |blueprint, _| blueprint.spec.suspend = true),
        ("BuildFailing", "no driver webhook", |_, around| around.unsupported = Some("no driver webhook".into())),
        ("InvalidExpression", "spec.driver.objects.readyWhen", |_, around| {
            around.trouble = Some(("InvalidExpression", "spec.driver.objects.readyWhen: no such key".into()));
        }),
        ("NamespacesNotReadable", "the right to list and watch namespaces", |blueprint, around| {
            blueprint.spec.allowed_namespaces.from = From::Selector;
            around.namespaces_unreadable = true;
        }),
        ("HostTaken", "same address and port: h1, h2", |_, around| around.hosts_taken = vec!["h1".into(), "h2".into()]),
        ("NameTaken", "not this Blueprint's: h3", |_, around| around.names_taken = vec!["h3".into()]),
        ("BuildFailing", "the next is tried at status.nextBuildAt", |_, around| around.next_build_at = Some(at(60))),
    ];
    for first in 0..troubles.len() {
        let mut blueprint = blueprint("");
        let mut around = Surroundings::default();
        for (_, _, trouble) in &troubles[first..] {
            trouble(&mut blueprint, &mut around);
        }
        let status = pass(&mut blueprint, &around, 1).status;
        let (reason, message, _) = troubles[first];
        assert_eq!(ready(&status), format!("Ready=False/{reason}"));
        let (_, said) = reason_and_message(&status.conditions, "Ready");
        assert!(said.contains(message), "{reason}: {said}");
    }
    let mut well = blueprint("");
    assert_eq!(ready(&pass(&mut well, &Surroundings::default(), 1).status), "Ready=True/Ready");
    delete(&mut well.metadata);
    let empty = Surroundings { resources_left: Some(1), ..Surroundings::default() };
    assert_eq!(reason_and_message(&pass(&mut well, &empty, 2).status.conditions, "Ready").1, "it is empty");
}

/// A trouble is told once by a Warning; what the user has asked for is none.
#[test]
fn a_trouble_is_told_once() {
    let mut blueprint = blueprint("");
    let taken = |host: &str| Surroundings { hosts_taken: vec![host.into()], ..Surroundings::default() };
    let mut told = |around: &Surroundings, now| {
        let events = pass(&mut blueprint, around, now).events;
        events.into_iter().map(|e| format!("{:?} {}", e.kind, e.reason)).collect::<Vec<_>>()
    };
    assert_eq!(told(&Surroundings::default(), 1), [""; 0]);
    assert_eq!(told(&taken("h1"), 2), [format!("{:?} HostTaken", EventKind::Warning)]);
    assert_eq!(told(&taken("h1"), 3), [""; 0]);
    assert_eq!(told(&Surroundings::default(), 4), [""; 0]);
    assert_eq!(told(&taken("h1"), 5), ["Warning HostTaken"]);
    blueprint.spec.suspend = true;
    assert!(pass(&mut blueprint, &taken("h1"), 6).events.is_empty());
    delete(&mut blueprint.metadata);
    assert!(pass(&mut blueprint, &taken("h1"), 7).events.is_empty());
}

#[test]
fn the_generation_that_was_looked_at_is_told() {
    let mut blueprint = blueprint("");
    assert_eq!(pass(&mut blueprint, &Surroundings::default(), 1).status.observed_generation, Some(1));
    blueprint.metadata.generation = Some(2);
    assert_eq!(pass(&mut blueprint, &Surroundings::default(), 2).status.observed_generation, Some(2));
}

/// Counts are written every five seconds at most, and then as they are; with anything else that is to be told at once.
#[test]
fn counts_are_paced() {
    let mut blueprint = blueprint("");
    let around = |active, counted| Surroundings {
        counts: counts(0, active, 0, 0),
        waiting: active,
        counted_at: Some(at(counted)),
        ..Surroundings::default()
    };
    let shown = |status: &BlueprintStatus| (status.resources.active, status.waiting);
    let first = Surroundings { counted_at: None, ..around(1, 0) };
    assert_eq!(shown(&pass(&mut blueprint, &first, 1).status), (1, 1));
    let early = decide(&blueprint, &around(2, 1), just_before(at(6)));
    assert_eq!((shown(&early.status), early.wake), ((1, 1), Some(at(6))), "not before five seconds are over");
    assert_eq!(Some(&early.status), blueprint.status.as_ref(), "and nothing else is written either");
    assert_eq!(shown(&decide(&blueprint, &around(3, 1), at(6)).status), (3, 3));
    assert_eq!(decide(&blueprint, &around(3, 1), at(6)).wake, None);
    let same = decide(&blueprint, &around(1, 1), at(2));
    assert_eq!(
        (Some(&same.status), same.wake),
        (blueprint.status.as_ref(), None),
        "what has not changed waits for nothing"
    );
    blueprint.spec.suspend = true;
    assert_eq!(shown(&decide(&blueprint, &around(4, 1), at(2)).status), (4, 4), "along with what is told at once");
    assert_eq!(decide(&blueprint, &around(4, 1), at(2)).urgency, crate::lifecycle::Urgency::Later);
}

/// After builds that failed: when the next may begin; once that has come it is said no more.
#[test]
fn the_next_build_is_told_until_it_may_begin() {
    let mut blueprint = blueprint("");
    let around = Surroundings { next_build_at: Some(at(60)), ..Surroundings::default() };
    let decision = pass(&mut blueprint, &around, 1);
    assert_eq!((decision.status.next_build_at, decision.wake), (Some(at(60)), Some(at(60))));
    let before = decide(&blueprint, &around, just_before(at(60)));
    assert_eq!((Some(&before.status), before.wake), (blueprint.status.as_ref(), Some(at(60))));
    let decision = pass(&mut blueprint, &around, 60);
    assert_eq!((decision.status.next_build_at, decision.wake), (None, None));
    assert_eq!(ready(&decision.status), "Ready=True/Ready");
}

/// Why builds fail is told while it is so; after a restart, which does not know why any more, as it was told.
#[test]
fn why_builds_fail_is_told() {
    let mut blueprint = blueprint("");
    let failing = |why: Option<&str>, next: Option<i64>| Surroundings {
        failure: why.map(str::to_owned),
        next_build_at: next.map(at),
        ..Surroundings::default()
    };
    let mut told = |around: &Surroundings, now| {
        let status = pass(&mut blueprint, around, now).status;
        let (reason, message) = reason_and_message(&status.conditions, "Ready");
        (reason.to_owned(), message.to_owned())
    };
    let put_off = "the last build failed: no disk; the next is tried at status.nextBuildAt";
    for (around, reason, message) in [
        (failing(Some("no disk"), Some(60)), "BuildFailing", put_off),
        (failing(None, Some(60)), "BuildFailing", put_off),
        (failing(None, Some(70)), "BuildFailing", "builds fail; the next is tried at status.nextBuildAt"),
        (failing(Some("no disk"), None), "BuildFailing", "a build fails, and is tried again: no disk"),
        (failing(None, None), "Ready", ""),
    ] {
        assert_eq!(told(&around, 1), (reason.to_owned(), message.to_owned()));
    }
}

/// Decided again on what was written nothing is written.
#[test]
fn a_pass_comes_to_rest() {
    for counted in [counts(0, 0, 0, 0), counts(1, 2, 3, 4)] {
        for deleted in [false, true] {
            let mut blueprint = blueprint("");
            if deleted {
                delete(&mut blueprint.metadata);
            }
            let around = Surroundings { counts: counted, resources_left: Some(1), ..Surroundings::default() };
            let written = pass(&mut blueprint, &around, 1).status;
            let again = pass(&mut blueprint, &around, 2);
            assert_eq!((again.status, again.events), (written, vec![]));
        }
    }
}
