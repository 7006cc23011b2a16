//! ^C and its like, heard in time to take back what was begun.

use super::error::Error;
use std::{
    fs,
    future::{Future, pending},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long work that must not be cut in the middle may still take once a signal came: as long as an API server that restarts is
/// waited for. Who cannot wait sends a second one.
const GRACE: Duration = Duration::from_secs(65);

/// A signal that ends a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGHUP: the terminal is gone.
    Hangup,
    /// SIGINT: ^C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Interrupt {
    /// 128 and the signal's number, as shells have it.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Hears SIGINT, SIGTERM and SIGHUP from when it is made.
pub(super) struct Interrupts {
    /// None where it is ignored, as nohup wants it.
    hangup: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
    heard: Option<Interrupt>,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Self, Error> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { hangup, interrupt, terminate, heard: None })
    }

    /// The first signal that has come.
    pub(super) fn heard(&self) -> Option<Interrupt> {
        self.heard
    }

    /// Waits for the next signal; gives the first.
    pub(super) async fn next(&mut self) -> Interrupt {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => pending().await,
            }
        };
        let came = tokio::select! {
        biased;
            _ = self.interrupt.recv() => Interrupt::Interrupt,
            _ = self.terminate.recv() => Interrupt::Terminate,
            _ = hangup => Interrupt::Hangup,
        };
        *self.heard.get_or_insert(came)
    }

    /// Waits for `work`, which a first signal gives a minute more, and a second one ends.
    pub(super) async fn outlast<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        if self.heard.is_none() {
            tokio::select! {
            biased;
                    done = &mut work => return Some(done),
                    _ = self.next() => {}
                }
        }
        tokio::select! {
        biased;
            done = &mut work => Some(done),
            _ = self.next() => None,
            () = tokio::time::sleep(GRACE) => None,
        }
    }
}

/// Whether who started this process wants it to outlive its terminal. Linux tells; elsewhere it is taken that nobody does.
fn hangup_is_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        for (status, ignored) in [
            ("Name:\tdrydock\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n", false),
            ("Name:\tdrydock\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n", true),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), ignored, "{status}");
        }
    }
}
