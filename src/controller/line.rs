//! The keys that wait for a worker, each once: what ends or is asked for goes first, then all else in the order in which it
//! became dirty (design.md, 10: expiry and hand-over first). An edit of a Blueprint has each of its leases looked at; whoever
//! releases one meanwhile does not wait behind them.

use super::key::Key;
use std::collections::{BTreeMap, VecDeque};

/// See the module.
#[derive(Default)]
pub struct Line {
    first: VecDeque<Key>,
    then: VecDeque<Key>,
    /// Whether each goes first.
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
        if goes_first { &mut self.first } else { &mut self.then }.push_back(key);
    }

    /// Takes the next one out.
    pub fn pop(&mut self) -> Option<Key> {
        if let Some(key) = self.first.pop_front() {
            self.waiting.remove(&key);
            return Some(key);
        }
        while let Some(key) = self.then.pop_front() {
            // One that was put further ahead, and has gone since, stands here still.
            if self.waiting.get(&key) == Some(&false) {
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
}
