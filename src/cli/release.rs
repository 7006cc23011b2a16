//! What releasing leases and releasing resources have in common.

use super::{
    Connection, Exit,
    connection::ask,
    error::Error,
    id, print,
    queued::Queued,
    send::{Patience, Target, send},
    sketch::Sketch,
};
use crate::api::{Command, CommandType, Duration, readable::Assemble};
use kube::{Api, api::ListParams};
use std::io::{self, IsTerminal as _};

/// Flags that both verbs have.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// All of the namespace that are not released yet
    #[arg(long, group = "which")]
    all: bool,

    /// With --all: do not ask
    #[arg(long, short)]
    yes: bool,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Wait until the teardown is done
    #[arg(long)]
    wait: bool,

    /// How long to wait for the outcome, 0s does not wait; with --wait for the teardown [default: 30s; with --wait no limit]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

impl Options {
    fn patience(&self) -> Result<Patience, Error> {
        match (self.wait, self.timeout) {
            (true, Some(limit)) if limit.is_zero() => {
                let remedy = "with --wait there is something to wait for; give a longer time, or leave out --wait";
                Err(Error::Flag { flag: "--timeout", value: limit.to_string(), remedy: remedy.to_owned() })
            }
            (true, limit) => Ok(Patience::Teardown(limit)),
            (false, limit) => Ok(Patience::outcome(limit.unwrap_or(Duration::from_secs(30)))),
        }
    }
}

/// Appends a `Release` to each of `names`, or to all.
pub(super) async fn release<K: Queued + Assemble>(
    connection: &Connection,
    names: Vec<String>,
    hold: Option<Duration>,
    options: Options,
) -> Result<Exit, Error> {
    let patience = options.patience()?;
    let command = Command {
        id: id::command()?,
        type_: CommandType::Release,
        reason: options.reason,
        issued_by: None,
        hold,
        at: None,
        after: None,
        never: None,
    };
    let cluster = connection.open().await?;
    let api = cluster.api::<Sketch<K>>();
    let targets = if options.all { unreleased(&api).await? } else { named(names) };
    if targets.is_empty() {
        print::tell(&format!("no {} to release in namespace {}", K::WORD, cluster.namespace));
        return Ok(Exit::Done);
    }
    if options.all && !options.yes && !agreed::<K>(&targets, &cluster.namespace)? {
        print::tell("nothing is released");
        return Ok(Exit::Failed);
    }
    send(&api, targets, &command, patience).await
}

fn named(names: Vec<String>) -> Vec<Target> {
    names.into_iter().map(|name| Target { name, uid: None }).collect()
}

/// All whose end is not decided yet; with their UIDs, for the answer to the question may take its time.
async fn unreleased<K: Queued>(api: &Api<K>) -> Result<Vec<Target>, Error> {
    let tried = format!("listing {}s", K::WORD);
    let mut params = ListParams::default().limit(500);
    let mut targets = vec![];
    loop {
        let page = ask(&tried, api.list(&params)).await?;
        let unreleased = page.items.iter().filter(|object| !object.is_over());
        targets.extend(unreleased.map(|o| Target { name: o.name().to_owned(), uid: Some(o.uid().to_owned()) }));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(targets),
        }
    }
}

fn agreed<K: Queued>(targets: &[Target], namespace: &str) -> Result<bool, Error> {
    let plural = if targets.len() == 1 { "" } else { "s" };
    let what = format!("{} {}{plural} of namespace {namespace}", targets.len(), K::WORD);
    if !io::stdin().is_terminal() {
        return Err(Error::Unasked(format!(
            "--all would release {what}, and there is no terminal to ask on: add --yes, or name them"
        )));
    }
    for target in targets {
        print::tell(&target.name);
    }
    print::ask(&format!("Release {what}? [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_wait_for_no_time_at_all_is_refused() {
        let patience = |wait, timeout: Option<&str>| {
            let timeout = timeout.map(|text| text.parse().unwrap());
            Options { all: false, yes: false, reason: None, wait, timeout }.patience().map_err(|e| e.to_string())
        };
        let refused = patience(true, Some("0s")).unwrap_err();
        assert!(refused.starts_with("--timeout 0s: with --wait") && refused.contains("leave out --wait"), "{refused}");
        assert!(matches!(patience(false, Some("0s")), Ok(Patience::None)));
        assert!(matches!(patience(true, None), Ok(Patience::Teardown(None))));
        assert!(matches!(patience(true, Some("1s")), Ok(Patience::Teardown(Some(_)))));
        assert!(matches!(patience(false, None), Ok(Patience::Outcome(_))));
    }
}
