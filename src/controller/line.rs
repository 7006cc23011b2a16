//! The keys that wait for a worker, each once: what ends or is asked for goes first; within each of the two classes namespaces
//! take turns, and what is not urgent is passed over for a bounded number of turns only. An edit of a Blueprint has each of its
//! leases reconciled; whoever releases one meanwhile, or works in another namespace, does not wait behind them.

use super::{fair_queue::FairQueue, key::Key};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub struct Line {
    /// Class 0 is urgent. A key that was raised to it stays in class 1, too, where it is skipped.
    queue: FairQueue<(Key, bool), 2>,
    /// Whether each key is urgent.
    waiting: BTreeMap<Key, bool>,
}

impl Line {
    /// Puts a key in, or further ahead.
    pub fn push(&mut self, key: Key, goes_first: bool) {
        match self.waiting.get(&key) {
            Some(true) => return,
            Some(false) if !goes_first => return,
            Some(false) | None => {}
        }
        self.waiting.insert(key.clone(), goes_first);
        let namespace = key.object().namespace.clone();
        self.queue.push(usize::from(!goes_first), &namespace, (key, goes_first));
    }

    /// Takes the next one out.
    pub fn pop(&mut self) -> Option<Key> {
        while let Some((key, goes_first)) = self.queue.pop() {
            if self.waiting.get(&key) == Some(&goes_first) {
                self.waiting.remove(&key);
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::key::ObjectKey;

    fn key(name: &str) -> Key {
        Key::Lease(ObjectKey::new("ns", name))
    }

    fn all(line: &mut Line) -> Vec<Key> {
        std::iter::from_fn(|| line.pop()).collect()
    }

    #[test]
    fn what_cannot_wait_goes_first() {
        let mut line = Line::default();
        for (name, goes_first) in [("a", false), ("b", false), ("c", true), ("d", true), ("a", false), ("b", true)] {
            line.push(key(name), goes_first);
        }
        assert_eq!(all(&mut line), ["c", "d", "b", "a"].map(key));
    }

    /// Each once, also where one that went ahead comes again before its old place is reached.
    #[test]
    fn nobody_stands_in_it_twice() {
        let mut line = Line::default();
        line.push(key("a"), false);
        line.push(key("a"), true);
        assert_eq!(line.pop(), Some(key("a")));
        line.push(key("a"), false);
        line.push(key("b"), false);
        assert_eq!(all(&mut line), ["a", "b"].map(key));
        line.push(key("a"), true);
        line.push(key("a"), false);
        assert_eq!(all(&mut line), [key("a")]);
    }

    #[test]
    fn a_namespace_with_many_keys_does_not_hold_up_another() {
        let mut line = Line::default();
        (0..1_000).for_each(|n| line.push(Key::Lease(ObjectKey::new("loud", &n.to_string())), true));
        let quiet = Key::Lease(ObjectKey::new("quiet", "urgent"));
        let later = Key::Blueprint(ObjectKey::new("quiet", "new"));
        line.push(later.clone(), false);
        line.push(quiet.clone(), true);
        let order: Vec<_> = all(&mut line);
        let turn = |key: &Key| order.iter().position(|other| other == key).unwrap();
        assert_eq!(turn(&quiet), 1);
        assert!(turn(&later) <= 10, "{}", turn(&later));
    }
}
