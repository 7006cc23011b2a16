//! `drydock expires`: sets, moves or lifts the end of a lease or a resource.

use super::{
    Connection, Exit,
    error::Error,
    id,
    kind::{Kind, Named},
    send::{Patience, Target, send},
    sketch::Sketch,
    until,
};
use crate::api::{Command, CommandType, Duration, Lease, MicroTime, Resource};

/// Flags of `drydock expires`.
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub struct Args {
    /// What is to end, as lease/build-4711 or resource/ci-hosts--h1
    #[arg(value_name = "KIND/NAME")]
    target: Named,

    /// At this instant; one that is past ends it now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, group = "end", value_parser = until::instant)]
    at: Option<MicroTime>,

    /// So long from now on
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, group = "end")]
    after: Option<Duration>,

    /// Not at all
    #[arg(long, group = "end")]
    never: bool,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// How long to wait for the outcome; 0s does not wait
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, default_value = "30s")]
    timeout: Duration,

    #[command(flatten)]
    connection: Connection,
}

/// Appends the command and tells what comes of it.
pub async fn run(args: Args) -> Result<Exit, Error> {
    let command = Command {
        id: id::command()?,
        type_: CommandType::Expires,
        reason: args.reason,
        issued_by: None,
        hold: None,
        at: args.at,
        after: args.after,
        never: args.never.then_some(true),
    };
    let cluster = args.connection.open().await?;
    let targets = vec![Target { name: args.target.name, uid: None }];
    let patience = Patience::outcome(args.timeout);
    match args.target.kind {
        Kind::Lease => send(&cluster.api::<Sketch<Lease>>(), targets, &command, patience).await,
        Kind::Resource => send(&cluster.api::<Sketch<Resource>>(), targets, &command, patience).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser, Debug)]
    struct Verb {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        for (flags, hint) in [
            (["--after", "-1h"], "invalid value '-1h' for '--after <DURATION>'"),
            (["--at", "-1h"], "invalid value '-1h' for '--at <TIME>'"),
            (["--after", "1d"], "invalid value '1d' for '--after <DURATION>'"),
        ] {
            let words = ["expires", "lease/l"].iter().chain(&flags);
            let error = Verb::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains(hint), "{flags:?}: {error}");
        }
    }
}
