//! A queue of classes and tenants: what is more urgent goes first, tenants of one class take turns, and nothing waits for ever.
//!
//! A tenant is a namespace. Whoever fills the queue delays only themselves: with n tenants waiting in a class, each gets every
//! n-th turn of that class, however much the others have queued.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// So many turns in a row may go to more urgent classes while a less urgent one waits; the next turn is that one's.
pub const TURNS_BEFORE_AGED: u32 = 8;

/// Items of `CLASSES` classes; class 0 is the most urgent.
#[derive(Debug)]
pub struct FairQueue<T, const CLASSES: usize> {
    classes: [Class<T>; CLASSES],
}

#[derive(Debug)]
struct Class<T> {
    /// Tenants that have items here, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    items: BTreeMap<Arc<str>, VecDeque<T>>,
    /// Turns that went to more urgent classes since the last of this class, while something waited here.
    passed_over: u32,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), items: BTreeMap::new(), passed_over: 0 }
    }
}

impl<T, const CLASSES: usize> Default for FairQueue<T, CLASSES> {
    fn default() -> Self {
        Self { classes: std::array::from_fn(|_| Class::default()) }
    }
}

impl<T, const CLASSES: usize> FairQueue<T, CLASSES> {
    /// Puts an item at the end of its tenant's queue. A class beyond the last counts as the last.
    pub fn push(&mut self, class: usize, tenant: &Arc<str>, item: T) {
        let Some(class) = self.classes.get_mut(class.min(CLASSES.saturating_sub(1))) else { return };
        let items = class.items.entry(tenant.clone()).or_default();
        if items.is_empty() {
            class.turns.push_back(tenant.clone());
        }
        items.push_back(item);
    }

    /// Takes the item whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let aged = self.classes.iter().rposition(|class| class.passed_over >= TURNS_BEFORE_AGED);
        let chosen = aged.or_else(|| self.classes.iter().position(|class| !class.turns.is_empty()))?;
        for (n, class) in self.classes.iter_mut().enumerate() {
            if n == chosen {
                class.passed_over = 0;
            } else if n > chosen && !class.turns.is_empty() {
                class.passed_over += 1;
            }
        }
        self.classes.get_mut(chosen)?.pop()
    }

    /// How many items wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.classes.iter().flat_map(|class| class.items.values()).map(VecDeque::len).sum()
    }
}

impl<T> Class<T> {
    fn pop(&mut self) -> Option<T> {
        let tenant = self.turns.pop_front()?;
        let items = self.items.get_mut(&tenant)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.items.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(items: &[(usize, &str, u32)]) -> FairQueue<u32, 3> {
        let mut queue = FairQueue::default();
        for (class, tenant, item) in items {
            queue.push(*class, &Arc::from(*tenant), *item);
        }
        queue
    }

    fn all(queue: &mut FairQueue<u32, 3>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn urgent_items_go_first_and_one_tenant_keeps_its_order() {
        let mut queue = queue(&[(2, "a", 1), (1, "a", 2), (0, "a", 3), (0, "a", 4), (9, "a", 5)]);
        assert_eq!(queue.len(), 5);
        assert_eq!(all(&mut queue), [3, 4, 2, 1, 5]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_loud_tenant_delays_a_quiet_one_by_one_turn() {
        let mut queue = queue(&[]);
        let [loud, quiet, late] = ["loud", "quiet", "late"].map(Arc::<str>::from);
        (0..10_000).for_each(|n| queue.push(1, &loud, n));
        queue.push(1, &quiet, 20_000);
        queue.push(1, &quiet, 20_001);
        assert_eq!([(); 4].map(|()| queue.pop()), [Some(0), Some(20_000), Some(1), Some(20_001)]);
        queue.push(1, &late, 30_000);
        assert_eq!([(); 2].map(|()| queue.pop()), [Some(2), Some(30_000)]);
    }

    /// However many urgent items keep coming, the least urgent one has its turn within a stated number of them.
    #[test]
    fn nothing_waits_for_ever_behind_what_is_more_urgent() {
        let mut queue = queue(&[(2, "quiet", 1), (1, "quiet", 2)]);
        let loud = Arc::<str>::from("loud");
        let mut turns = Vec::new();
        for n in 100..200 {
            queue.push(0, &loud, n);
            turns.extend(queue.pop());
        }
        let turn = |item| turns.iter().position(|taken| *taken == item).unwrap();
        assert_eq!(turn(1), TURNS_BEFORE_AGED as usize);
        assert!(turn(2) <= 2 * TURNS_BEFORE_AGED as usize, "{}", turn(2));
    }
}
