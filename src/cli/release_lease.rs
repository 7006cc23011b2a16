//! `drydock release-lease`: gives leases back.

use super::{
    Connection, Exit,
    error::Error,
    kind,
    release::{Options, release},
};
use crate::api::{Duration, Lease};

/// Flags of `drydock release-lease`.
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Args {
    /// The leases
    #[arg(value_name = "NAME", value_parser = kind::lease_name, group = "which")]
    names: Vec<String>,

    /// Keep the environment so long for a look before it is torn down
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    hold: Option<Duration>,

    #[command(flatten)]
    options: Options,

    #[command(flatten)]
    connection: Connection,
}

/// Appends a `Release` to each of them and tells what comes of it.
pub async fn run(args: Args) -> Result<Exit, Error> {
    release::<Lease>(&args.connection, args.names, args.hold, args.options).await
}
