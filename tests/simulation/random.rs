//! The one source of chance: everything that a run does by chance is drawn here, in an order that the seed alone decides.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

/// splitmix64, shared: a run has one thread, so the order of the draws is that of the run.
#[derive(Clone, Debug)]
pub struct Chance(Arc<Mutex<u64>>);

impl Chance {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)))
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of a range.
    pub fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// So likely, in a thousand.
    pub fn permille(&self, rate: u64) -> bool {
        self.number() % 1000 < rate
    }

    /// One of these, or nothing where there is none.
    pub fn one<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.within(0..of.len() as u64) as usize) }
    }

    /// A time between these many milliseconds.
    pub fn milliseconds(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}
