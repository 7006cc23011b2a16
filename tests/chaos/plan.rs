//! What a run is to be: how long, how rough, and by which chance. The plan of action follows from the seed; what comes of it
//! does not, for time is real.

use crate::random::Chance;
use std::{env, ops::Range, time::Duration};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub is_long: bool,
    /// How long clients and faults go on.
    pub time: Duration,
    pub clients: usize,
    /// No more unfinished leases of one type than this.
    pub leases: usize,
    /// Between one fault of a controller and the next, in milliseconds.
    pub controllers: Range64,
    /// Between one fault of a server and the next, in milliseconds.
    pub servers: Range64,
    /// How long a controller is paused, in milliseconds; and in how many of a thousand cases for a minute.
    pub pause: Range64,
    pub long_pauses: u64,
}

/// A range that can be copied.
#[derive(Clone, Copy, Debug)]
pub struct Range64(pub u64, pub u64);

impl Range64 {
    /// A time in it.
    pub fn some(self, chance: &Chance) -> Duration {
        chance.milliseconds(Range { start: self.0, end: self.1 })
    }
}

impl Plan {
    /// `MINUTES` and `SEED` of the environment; without the former the short form, mild and of fixed length.
    pub fn read() -> Plan {
        let number = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
        let seed = number("SEED").map(|text| text.parse().expect("SEED is a number"));
        let seed = seed.unwrap_or_else(|| crate::support::random() % 1_000_000);
        match number("MINUTES") {
            None => Plan::short(seed),
            Some(text) => Plan::long(seed, text.parse().expect("MINUTES is a number, like 5 or 0.5")),
        }
    }

    fn short(seed: u64) -> Plan {
        Plan {
            seed,
            is_long: false,
            time: Duration::from_secs(26),
            clients: 4,
            leases: 20,
            controllers: Range64(3_000, 7_000),
            servers: Range64(4_000, 6_000),
            pause: Range64(15_000, 16_000),
            long_pauses: 0,
        }
    }

    fn long(seed: u64, minutes: f64) -> Plan {
        Plan {
            seed,
            is_long: true,
            time: Duration::from_secs_f64(minutes * 60.0),
            clients: 5,
            leases: 16,
            controllers: Range64(2_000, 15_000),
            servers: Range64(5_000, 30_000),
            pause: Range64(15_000, 25_000),
            long_pauses: 150,
        }
    }

    /// A source of chance for one of those who act, so that none depends on how fast the others are.
    pub fn chance(&self, of: u64) -> Chance {
        Chance::new(self.seed.wrapping_mul(1_000).wrapping_add(of))
    }
}
