//! The `drydock` binary: one subcommand a verb.

use clap::{Args, Parser, Subcommand, ValueEnum};
use drydock::{
    cli::{self, Exit},
    controller,
};
use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How many threads serve the work; more only take memory (one index, one loop).
const WORKERS: usize = 2;

/// Leases scarce working environments on Kubernetes, takes them back on a deadline, and tears them down without fail
#[derive(Parser)]
#[command(name = "drydock", version, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    log: Log,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the controller
    Controller(controller::options::Options),
    /// Print the definitions of Blueprint, Lease and Resource, for `kubectl apply`
    Crds(cli::crds::Args),
    /// Ask for an environment, and wait for it with --wait
    Lease(cli::lease::Args),
    /// Give leases back
    ReleaseLease(cli::release_lease::Args),
    /// End resources, and the leases on them
    ReleaseResource(cli::release_resource::Args),
    /// Set, move or lift the end of a lease or a resource
    Expires(cli::expires::Args),
}

#[derive(Args)]
#[command(next_help_heading = "Log")]
struct Log {
    /// What is logged to standard error, as error, info or drydock=debug,kube=warn; default: info for the controller, for other verbs warnings of their own
    #[arg(long, env = "DRYDOCK_LOG", value_name = "FILTER", global = true, value_parser = filter)]
    log_level: Option<String>,

    /// How it is logged
    #[arg(long, env = "DRYDOCK_LOG_FORMAT", value_name = "FORMAT", global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(ValueEnum, Clone, Copy)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.log.start(cli.verb.default_log_level());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let ended = runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(cli.verb.run()));
    match ended {
        Ok(exit) => exit.into(),
        Err(Error::Verb(error)) if error.is_broken_pipe() => error.exit_code(), // `| head` knows why
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                Error::Verb(error) => error.exit_code(),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

impl Verb {
    fn default_log_level(&self) -> &'static str {
        match self {
            Self::Controller(_) => "info",
            // An error is one line on standard error, told by the verb: the client's layers need not tell it again.
            _ => "off,drydock=warn",
        }
    }

    async fn run(self) -> Result<Exit, Error> {
        let ended = match self {
            Self::Controller(options) => {
                controller::run(options, stopped()?).await?;
                return Ok(Exit::Done);
            }
            Self::Crds(args) => cli::crds::run(&args),
            Self::Lease(args) => cli::lease::run(args).await,
            Self::ReleaseLease(args) => cli::release_lease::run(args).await,
            Self::ReleaseResource(args) => cli::release_resource::run(args).await,
            Self::Expires(args) => cli::expires::run(args).await,
        };
        Ok(ended?)
    }
}

/// Ends with the first SIGTERM or SIGINT; from now on they do not end the process by themselves.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
        biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Why a verb could not do its work.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Verb(#[from] cli::Error),
    #[error(transparent)]
    Controller(#[from] controller::Error),
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl Log {
    fn start(&self, default: &str) {
        let filter = EnvFilter::new(self.log_level.as_deref().unwrap_or(default));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        match self.log_format {
            LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
    }
}

/// Checks a filter where it is given: later it would only be ignored.
fn filter(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_of_all_verbs_go_together() {
        Cli::command().debug_assert();
    }
}
