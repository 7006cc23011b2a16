//! Nobody waits for ever behind a resource of another flavour that is granted again and again.

use super::{World, key, told::any};
use crate::{
    api::{LeasePhase, LeaseSpec, ResourcePhase, blueprint::Limits, step::Answer},
    lifecycle::{MetadataChange, uid},
};

fn of(flavour: &str, priority: i32) -> LeaseSpec {
    LeaseSpec { parameters: [("flavour".to_owned(), flavour.to_owned())].into(), priority, ..any() }
}

impl World {
    /// As long as builds are under way, they end well.
    fn settle_and_build(&mut self) {
        loop {
            self.settle();
            let pending = self.resources.values().find(|r| r.phase() == ResourcePhase::Pending);
            let Some(pending) = pending.map(|r| (uid(&r.metadata).to_owned(), super::ObjectKey::of(&r.metadata)))
            else {
                return;
            };
            self.built.insert(pending.0, Answer::Done(Default::default()));
            self.dirty.insert(super::Key::Resource(pending.1));
        }
    }

    fn is_active(&self, name: &str) -> bool {
        self.leases.get(&key(name)).is_some_and(|lease| lease.phase() == LeasePhase::Active)
    }

    /// Those that are active by now, of these.
    fn active<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
        names.into_iter().filter(|name| self.is_active(name)).collect()
    }
}

fn world(max_resources: i64, leases_per_resource: i64) -> World {
    let mut world = World::new(3);
    world.pool("slow", Limits { max_resources: Some(max_resources), leases_per_resource, ..Limits::default() }, "t");
    world
}

/// A resource is not granted past a lease of a higher priority that needs its room: not before its reclaimAfter, either.
#[test]
fn a_higher_priority_is_not_passed_over() {
    for order in [["large", "small"], ["small", "large"]] {
        let mut world = world(1, 1);
        world.ask("first", of("a", 0));
        world.settle_and_build();
        assert!(world.is_active("first"));
        for name in order {
            match name {
                "large" => world.ask(name, of("b", 1000)),
                _ => world.ask(name, of("a", 0)),
            }
            world.settle_and_build();
        }
        world.edit_lease(&key("first"), MetadataChange::Delete);
        world.settle_and_build();
        assert!(world.is_active("large") && !world.is_active("small"), "{order:?}");
        world.edit_lease(&key("large"), MetadataChange::Delete);
        world.settle_and_build();
        world.time_passes(3);
        world.settle_and_build();
        assert!(world.is_active("small"), "{order:?}");
    }
}

/// Nor does it matter that the small one comes when the resource is idle already.
#[test]
fn a_higher_priority_is_not_passed_over_by_a_newcomer() {
    let mut world = world(1, 1);
    world.ask("first", of("a", 0));
    world.settle_and_build();
    world.ask("large", of("b", 1000));
    world.edit_lease(&key("first"), MetadataChange::Delete);
    world.settle_and_build();
    assert!(!world.is_active("large"), "an idle resource that nobody else wants stays for its reclaimAfter");
    world.ask("small", of("a", 0));
    world.settle_and_build();
    assert!(world.is_active("large") && !world.is_active("small"));
}

/// With the same priority so many go first, and no more.
#[test]
fn the_same_priority_is_passed_over_a_few_times() {
    let mut world = world(1, 1);
    world.ask("first", of("a", 0));
    world.settle_and_build();
    world.ask("large", of("b", 0));
    world.settle_and_build();
    let small: Vec<String> = (10..30).map(|n| format!("small-{n}")).collect();
    for name in &small {
        world.now = world.now.after(crate::api::Duration::from_secs(1));
        world.ask(name, of("a", 0));
    }
    world.settle_and_build();
    world.edit_lease(&key("first"), MetadataChange::Delete);
    for served in 0..=super::super::precedence::MAX_PASSED_OVER as usize {
        world.settle_and_build();
        assert_eq!(world.is_active("large"), served == 8, "after {served}");
        if let [now] = world.active(&small)[..] {
            world.edit_lease(&key(now), MetadataChange::Delete);
        }
    }
    assert_eq!(world.active(&small).len(), 0);
    assert_eq!(world.leases.keys().filter(|lease| lease.name.starts_with("small")).count(), 20 - 8);
}

/// What several hold at once is never idle by itself: it drains, once the lease in front was passed over so many times.
#[test]
fn what_is_shared_drains_for_the_lease_in_front() {
    let mut world = world(1, 2);
    world.ask("large", of("b", 0));
    world.ask("first", of("a", 1));
    world.settle_and_build();
    assert!(world.is_active("first") && !world.is_active("large"));
    let small: Vec<String> = (10..30).map(|n| format!("small-{n}")).collect();
    for name in &small {
        world.now = world.now.after(crate::api::Duration::from_secs(1));
        world.ask(name, of("a", 0));
    }
    let mut served = 0;
    while !world.is_active("large") {
        world.settle_and_build();
        world.check();
        let active = world.active(&small);
        // One after the other, so that somebody holds it all the time.
        let Some(first) = active.first() else { break };
        world.edit_lease(&key(first), MetadataChange::Delete);
        served += 1;
        assert!(served < 20, "it never drains");
    }
    world.edit_lease(&key("first"), MetadataChange::Delete);
    world.settle_and_build();
    assert!(world.is_active("large"));
    assert_eq!(served, super::super::precedence::MAX_PASSED_OVER as usize);
}

/// What is listed in two queues, cannot be built or is not asked for holds nothing back.
#[test]
fn nothing_is_held_back_for_whom_it_does_not_help() {
    let mut world = world(1, 1);
    world.ask("first", of("a", 0));
    world.settle_and_build();
    world.ask("large", LeaseSpec { queue_timeout: Some(crate::api::Duration::from_secs(0)), ..of("b", 1000) });
    world.ask("small", of("a", 0));
    world.settle_and_build();
    world.edit_lease(&key("first"), MetadataChange::Delete);
    world.settle_and_build();
    assert!(world.is_active("small") && !world.is_active("large"), "it would have given up");
}
