//! The clocks of a run, all on tokio's paused time: the API server's, which goes on evenly, and the wall clock that the
//! controllers read, which may jump ahead or be set back.

use drydock::{api::MicroTime, controller::clock::Clock};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::utils::Backoff;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The time at which every run begins.
const BEGINNING: i64 = 1_780_000_000;

/// So often may the controllers read the clock in one instant. Whoever goes round without end reads it without end, and time,
/// which is paused while anybody can go on, never comes to the next.
const MOST_READINGS: u32 = 200_000;

/// See the module.
#[derive(Debug)]
pub struct Clocks {
    began: Instant,
    wall: Mutex<Wall>,
    /// The instant of the last reading, and how many there were in it.
    read: Mutex<(Duration, u32)>,
    goes_round: AtomicBool,
}

#[derive(Debug, Default)]
struct Wall {
    offset: SignedDuration,
    /// The latest that anybody can have read.
    latest: Option<Timestamp>,
    /// The farthest that they were ever ahead.
    farthest: SignedDuration,
}

impl Clocks {
    /// They start now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            wall: Mutex::default(),
            read: Mutex::default(),
            goes_round: AtomicBool::new(false),
        })
    }

    /// Whether a controller went round without end, and was stopped.
    pub fn goes_round(&self) -> bool {
        self.goes_round.load(Ordering::Relaxed)
    }

    /// A controller reads the clock. Panics where it goes round, so that the run goes on and tells.
    fn reading(&self) {
        let elapsed = self.elapsed();
        let mut read = self.read.lock().unwrap();
        if read.0 != elapsed {
            *read = (elapsed, 0);
        }
        read.1 += 1;
        if read.1 > MOST_READINGS {
            *read = (elapsed, 0);
            drop(read);
            self.goes_round.store(true, Ordering::Relaxed);
            panic!("a controller goes round without end");
        }
    }

    /// How long the run has lasted.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The API server's time.
    pub fn server(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.began.elapsed()).unwrap();
        Timestamp::from_second(BEGINNING).unwrap() + SignedDuration::from_micros(elapsed.as_micros() as i64)
    }

    /// What the controllers take for the time.
    pub fn wall(&self) -> Timestamp {
        let mut wall = self.wall.lock().unwrap();
        let now = self.server() + wall.offset;
        wall.latest = wall.latest.max(Some(now));
        now
    }

    /// The latest that the controllers' clock has ever shown.
    pub fn latest(&self) -> Timestamp {
        self.wall();
        self.wall.lock().unwrap().latest.unwrap()
    }

    /// Sets the controllers' clock ahead, or back.
    pub fn jump(&self, by: SignedDuration) {
        self.wall();
        {
            let mut wall = self.wall.lock().unwrap();
            wall.offset += by;
            wall.farthest = wall.farthest.max(wall.offset);
        }
        self.wall();
    }

    /// So far the controllers' clock is ahead.
    pub fn ahead(&self) -> SignedDuration {
        self.wall.lock().unwrap().offset
    }

    /// The farthest that the controllers' clock was ever ahead.
    pub fn farthest(&self) -> Duration {
        self.wall.lock().unwrap().farthest.unsigned_abs()
    }

    /// The controllers' clock shows the API server's time again.
    pub fn set_right(&self) {
        self.wall();
        self.wall.lock().unwrap().offset = SignedDuration::ZERO;
    }
}

/// The clock of one controller: when that is killed nothing of it wakes any more.
pub struct ControllerClock {
    /// The clocks.
    pub clocks: Arc<Clocks>,
    /// Whether it is killed.
    pub dead: Arc<AtomicBool>,
    /// A deliberate bug: it takes it to be so much later.
    pub ahead: Duration,
}

impl Clock for ControllerClock {
    fn now(&self) -> MicroTime {
        self.clocks.reading();
        (self.clocks.wall() + SignedDuration::try_from(self.ahead).unwrap()).into()
    }

    fn uptime(&self) -> Duration {
        self.clocks.elapsed()
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        let dead = self.dead.clone();
        async move {
            tokio::time::sleep(length).await;
            if dead.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }

    fn watch_back_off(&self) -> Box<dyn Backoff> {
        Box::new(Doubling(0))
    }
}

/// The waits of kube's own back-off, without their jitter.
struct Doubling(u32);

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Duration::from_millis(800) * 2_u32.pow(self.0.min(5));
        self.0 += 1;
        Some(wait)
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
