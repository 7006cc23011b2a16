//! How much memory the filled templates of one namespace may take at once: what is being created of one tenant is in nobody
//! else's way.

use super::plan::MAX_ENVIRONMENT;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One unit is so many bytes.
const UNIT: u64 = 4096;
/// What a namespace has: two of the largest environments.
const OF_NAMESPACE: u64 = 2 * MAX_ENVIRONMENT;

/// See the module.
#[derive(Default)]
pub struct Space {
    of: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

/// The space of one environment, for as long as it is held.
pub struct Taken(Option<OwnedSemaphorePermit>);

impl Space {
    /// Waits until the largest environment has room; in the order in which it is asked for within a namespace.
    pub async fn take(&self, namespace: &str) -> Taken {
        let space = {
            let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            if !of.contains_key(namespace) {
                // Those that nobody uses or waits for.
                of.retain(|_, space| Arc::strong_count(space) > 1);
            }
            of.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(units(OF_NAMESPACE)))).clone()
        };
        let most = u32::try_from(units(MAX_ENVIRONMENT)).unwrap_or(u32::MAX);
        // It is never closed.
        Taken(space.acquire_many_owned(most).await.ok())
    }
}

impl Taken {
    /// Gives back what is not needed.
    pub fn shrink_to(&mut self, bytes: u64) {
        if let Some(taken) = &mut self.0 {
            drop(taken.split(taken.num_permits().saturating_sub(units(bytes))));
        }
    }
}

fn units(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn one_namespace_fills_only_its_own_space() {
        let space = Space::default();
        let take = |namespace: &str| space.take(namespace).now_or_never();
        let mut first = take("loud").unwrap();
        let second = take("loud").unwrap();
        assert!(take("loud").is_none(), "two of the largest are all that it has");
        assert!(take("quiet").is_some());
        drop(second);
        first.shrink_to(1);
        let small: Vec<_> = (0..100)
            .map(|_| {
                let mut taken = take("loud").unwrap();
                taken.shrink_to(1);
                taken
            })
            .collect();
        let large = take("loud").unwrap();
        assert!(take("loud").is_none(), "what is left is less than one of the largest may need");
        drop((small, first));
        assert!(take("loud").is_some());
        drop(large);
        let _ = take("other");
        let _ = take("another");
        assert_eq!(space.of.lock().unwrap().len(), 1, "nothing is kept of namespaces that use none");
    }
}
