//! What the controllers' clock has shown lately. It jumps, ahead and back; but what is written now was decided a moment ago,
//! and by no later time than it showed then.

use jiff::{SignedDuration, Timestamp};
use std::{collections::VecDeque, time::Duration};

/// So long ago, at most, was decided what is written now: a pass makes several requests, and each may take its time.
const DELIBERATION: Duration = Duration::from_secs(120);

/// A time through which the clock went on evenly.
struct Stretch {
    /// How far the clock was ahead of the time of the run.
    offset: SignedDuration,
    until: Duration,
}

/// See the module.
#[derive(Default)]
pub struct Lately {
    stretches: VecDeque<Stretch>,
    base: Timestamp,
}

impl Lately {
    /// It showed this, at this time of the run.
    pub fn note(&mut self, at: Duration, wall: Timestamp) {
        if self.stretches.is_empty() {
            self.base = wall - micros(at);
        }
        let offset = wall.duration_since(self.base + micros(at));
        if let Some(last) = self.stretches.back_mut() {
            // It may have gone on until just before it jumped.
            last.until = at;
        }
        if self.stretches.back().is_none_or(|last| last.offset != offset) {
            self.stretches.push_back(Stretch { offset, until: at });
        }
        while self.stretches.front().is_some_and(|first| first.until + DELIBERATION < at) {
            self.stretches.pop_front();
        }
    }

    /// The latest of it.
    pub fn latest(&self) -> Timestamp {
        let shown = self.stretches.iter().map(|stretch| self.base + stretch.offset + micros(stretch.until));
        shown.max().unwrap_or(Timestamp::MIN)
    }
}

fn micros(at: Duration) -> SignedDuration {
    SignedDuration::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}
