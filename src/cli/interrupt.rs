//! ^C and its like, heard in time to take back what was begun.

use super::error::Error;
use std::{future::Future, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long work that must not be cut in the middle may still take once a signal came.
const GRACE: Duration = Duration::from_secs(10);

/// Hears SIGINT and SIGTERM from when it is made.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    heard: bool,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Self, Error> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { interrupt, terminate, heard: false })
    }

    /// Whether a signal has come.
    pub(super) fn heard(&self) -> bool {
        self.heard
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
        biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.heard = true;
    }

    /// Waits for `work`, which a first signal gives ten seconds more, and a second one ends.
    pub(super) async fn outlast<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        if !self.heard {
            tokio::select! {
            biased;
                    done = &mut work => return Some(done),
                    () = self.next() => {}
                }
        }
        tokio::select! {
        biased;
            done = &mut work => Some(done),
            () = self.next() => None,
            () = tokio::time::sleep(GRACE) => None,
        }
    }
}
