//! `drydock release-resource`: ends resources, and the leases on them.

use super::{
    Connection, Exit,
    error::Error,
    kind,
    release::{Options, release},
};
use crate::api::Resource;

/// Flags of `drydock release-resource`.
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Args {
    /// The resources; each lease that one holds is released with it
    #[arg(value_name = "NAME", value_parser = kind::resource_name, group = "which")]
    names: Vec<String>,

    #[command(flatten)]
    options: Options,

    #[command(flatten)]
    connection: Connection,
}

/// Appends a `Release` to each of them and tells what comes of it.
pub async fn run(args: Args) -> Result<Exit, Error> {
    release::<Resource>(&args.connection, args.names, None, args.options).await
}
