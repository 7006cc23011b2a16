//! The client verbs, one file each: what users and pipelines do to leases and resources. They create leases, append
//! commands and watch what comes of them; they never write a status. Imports nothing of ours but `api`
//! and `cluster`.

pub mod crds;
pub mod expires;
pub mod lease;
pub mod release_lease;
pub mod release_resource;

mod append;
mod await_active;
mod connection;
mod error;
mod follow;
mod id;
mod interrupt;
mod kind;
mod print;
mod queued;
mod release;
mod selector;
mod send;
mod sketch;
mod story;
mod together;
mod tolerance;
mod until;

pub use connection::Connection;
pub use error::Error;
pub use interrupt::Interrupt;

use std::process::ExitCode;

/// How a verb ended that has told everything it had to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for has happened.
    Done,
    /// It has not; standard error says why.
    Failed,
    /// A signal ended it, and what it had begun was taken back.
    Interrupted(Interrupt),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Interrupted(signal) => Self::from(signal.exit_code()),
        }
    }
}
