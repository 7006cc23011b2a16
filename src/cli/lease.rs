//! `drydock lease`: asks for environments, and waits for them where that is wanted.
//!
//! Whoever runs it in a pipeline relies on one thing: where it does not exit with 0, nothing that it asked for stays leased.

mod give_way;
#[cfg(test)]
mod lost;

use self::give_way::{GaveWay, give_way, with_the_rest_of_their_time};
use super::{
    Connection,
    Exit,
    append::{Appended, append},
    await_active::{Limit, Waited, await_active},
    connection::{MANAGER, ask},
    error::Error,
    id,
    interrupt::{Interrupt, Interrupts},
    print,
    queued::Queued as _,
    selector,
    // The annotation marks a lease with the request that made it: a create whose answer was lost is tried again, and finds its own.
    together::{REQUEST, Together},
    tolerance::Tolerance,
    until::Until,
};
use crate::api::{Command, CommandType, Duration, Lease, LeaseSpec, Selector, lease::BlueprintName};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time};
use tokio::time::Instant;

/// Says who made a lease. An admission policy writes it; before Kubernetes 1.36 there is none, and where policies.ownerOnly asks for
/// it, it is for the maker to say.
const OWNER: &str = "drydock.dev/owner";

/// How often a create is tried whose answer was lost.
const ATTEMPTS: u32 = 4;

/// Flags of `drydock lease`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The name of the lease; default: drydock- and a few random characters
    #[arg(value_name = "NAME", conflicts_with = "name_flag")]
    name: Option<String>,

    /// The name of the lease, as a flag
    #[arg(long = "name", id = "name_flag", value_name = "NAME")]
    name_flag: Option<String>,

    /// The kind of environment, as a Blueprint's resourceType
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    type_: String,

    /// When it ends, waiting included: a time, or +DURATION from now
    #[arg(long, value_name = "TIME|+DURATION", allow_hyphen_values = true, conflicts_with = "ttl")]
    until: Option<Until>,

    /// How long it lives once it is active; default: what its Blueprint says
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    ttl: Option<Duration>,

    /// What the environment's attributes must be, as kubectl writes it: `arch=arm64,disk in (ssd,nvme),!broken`
    #[arg(long, short = 'l', value_name = "SELECTOR", value_parser = selector::parse)]
    selector: Option<Selector>,

    /// A Blueprint to take it from, several in the order in which they are tried; default: those of the namespace and
    /// those that the operator shares
    #[arg(long = "blueprint", value_name = "[NAMESPACE/]NAME", value_parser = blueprint)]
    blueprints: Vec<BlueprintName>,

    /// A higher one goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    priority: i32,

    /// How long to wait in the queue; 0s takes what is free now or gives up; default: for ever
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    queue_timeout: Option<Duration>,

    /// What the environment is made with, where its Blueprint lists the parameter
    #[arg(long = "parameter", short = 'p', value_name = "KEY=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,

    /// So many leases; with a name they are NAME-1, NAME-2 and so on. With --wait it is all of them or none: where two requests each
    /// hold a part of what both need, the one that comes later gives its part back and asks again
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,

    /// Wait until all are active, and tell what happens meanwhile; ^C, SIGTERM or SIGHUP before that releases them
    #[arg(long)]
    wait: bool,

    /// With --wait: give up after so long, and release what was asked for; default: never
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, requires = "wait")]
    wait_timeout: Option<Duration>,

    /// What to print: the names as soon as they are known, or the objects at the end
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Name)]
    output: Format,

    #[command(flatten)]
    connection: Connection,
}

/// What is printed on standard output.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Name,
    Json,
    Yaml,
}

/// Creates the leases, and waits for them where that is wanted.
pub async fn run(args: Args) -> Result<Exit, Error> {
    #[expect(clippy::disallowed_methods, reason = "a verb runs once, at the time that the user's machine shows")]
    let now = Timestamp::now();
    let request = id::request()?;
    let wanted = args.leases(now, &request)?;
    let api = args.connection.open().await?.api::<Lease>();
    let mut interrupts = Interrupts::listen()?;
    let mut made = vec![];
    let ended = serve(&args, &api, wanted, Together::new(request), &mut made, &mut interrupts).await;
    let reason = match ended {
        Ok(Exit::Done) => return ended,
        Ok(Exit::Interrupted(_)) => "interrupted before it was active",
        _ => "given up before it was of use",
    };
    take_back(&api, &made, reason, &mut interrupts).await?;
    ended
}

async fn serve(
    args: &Args,
    api: &Api<Lease>,
    wanted: Vec<Lease>,
    together: Together,
    made: &mut Vec<Lease>,
    interrupts: &mut Interrupts,
) -> Result<Exit, Error> {
    let names = if args.output == Format::Name { Names::Print } else { Names::Keep };
    if let Some(signal) = create_all(api, &wanted, names, made, interrupts).await? {
        return Ok(Exit::Interrupted(signal));
    }
    if args.wait {
        match await_all(api, &wanted, Limit::of(args.wait_timeout), made, interrupts, together).await? {
            Exit::Done => {}
            other => return Ok(other),
        }
    }
    match args.output {
        Format::Name => {}
        Format::Json => print::out(&serde_json::to_string_pretty(&objects(made)?)?)?,
        Format::Yaml => print::out(serde_yaml::to_string(&objects(made)?)?.trim_end())?,
    }
    Ok(Exit::Done)
}

/// Waits until all are active; gives them back and makes them again where another request is to be served first.
async fn await_all(
    api: &Api<Lease>,
    wanted: &[Lease],
    limit: Limit,
    made: &mut Vec<Lease>,
    interrupts: &mut Interrupts,
    mut together: Together,
) -> Result<Exit, Error> {
    let begin = Instant::now();
    loop {
        if let Waited::Ended(exit) = await_active(api, made, limit, &mut together, interrupts).await? {
            return Ok(exit);
        }
        let Some(again) = with_the_rest_of_their_time(wanted, begin.elapsed()) else {
            together.keep();
            continue;
        };
        match give_way(api, made, limit, interrupts).await? {
            GaveWay::Done => {}
            GaveWay::MayNot => {
                together.keep();
                continue;
            }
            GaveWay::Ended(exit) => return Ok(exit),
        }
        made.clear();
        if let Some(signal) = create_all(api, &again, Names::Keep, made, interrupts).await? {
            return Ok(Exit::Interrupted(signal));
        }
    }
}

/// Whether names go to standard output as they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Print,
    Keep,
}

/// Creates all of them, unless a signal comes.
async fn create_all(
    api: &Api<Lease>,
    wanted: &[Lease],
    names: Names,
    made: &mut Vec<Lease>,
    interrupts: &mut Interrupts,
) -> Result<Option<Interrupt>, Error> {
    let mut tolerance = Tolerance::None;
    for lease in wanted {
        match interrupts.outlast(create(api, lease, &mut tolerance)).await {
            Some(Ok(created)) => {
                made.push(created);
                tolerance.answered();
            }
            Some(Err(error)) => {
                // Nothing is known of a create whose answers are all lost: what came of it is taken back with the others.
                if error.is_passing() {
                    made.extend(interrupts.outlast(find_own(api, lease, tolerance)).await.flatten());
                }
                return Err(error.within::<Lease>(lease.name(), api.namespace().unwrap_or_default()));
            }
            None => print::tell(&format!("error: lease/{}: no answer yet; it may come to be", lease.name())),
        }
        if let Some(signal) = interrupts.heard() {
            return Ok(Some(signal));
        }
        if names == Names::Print {
            print::out(lease.name())?;
        }
    }
    Ok(None)
}

/// Creates the lease; or finds that it was created, and only the answer was lost.
async fn create(api: &Api<Lease>, lease: &Lease, tolerance: &mut Tolerance) -> Result<Lease, Error> {
    let tried = format!("lease/{}", lease.name());
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let mut lease = lease.clone();
    let mut attempt = 0;
    loop {
        let created = match ask(&tried, api.create(&params, &lease)).await {
            Err(Error::Refused { tried, status }) if status.is_already_exists() => {
                match ask(&tried, api.get(lease.name())).await {
                    Ok(there) if annotation(&there, REQUEST) == annotation(&lease, REQUEST) => Ok(there),
                    Ok(_) => Err(Error::Refused { tried, status }),
                    Err(error) => Err(error),
                }
            }
            created => created,
        };
        match created {
            Err(Error::Refused { tried, status }) if asks_for_owner(&status) && annotation(&lease, OWNER).is_none() => {
                match whoami(api).await {
                    Ok(Some(user)) => {
                        drop(lease.metadata.annotations.get_or_insert_default().insert(OWNER.to_owned(), user))
                    }
                    _ => return Err(Error::Refused { tried, status }), // in its words, which say what to add
                }
            }
            Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                tracing::debug!(%error, attempt, "creating it again");
                attempt += 1;
                tokio::time::sleep(time::Duration::from_millis(100 << attempt)).await;
            }
            Err(error) if tolerance.forgives(&error) => {
                tracing::debug!(%error, "the API server restarts: creating it again");
                Tolerance::pause().await;
            }
            answered => return answered,
        }
    }
}

/// What a create has made whose answers were all lost; or it is said that nobody knows.
async fn find_own(api: &Api<Lease>, lease: &Lease, mut tolerance: Tolerance) -> Option<Lease> {
    let name = lease.name();
    let tried = format!("lease/{name}");
    let mut attempt = 0;
    loop {
        match ask(&tried, api.get(name)).await {
            Ok(there) => return Some(there).filter(|there| annotation(there, REQUEST) == annotation(lease, REQUEST)),
            Err(error) if error.is_gone(name) => return None,
            Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(time::Duration::from_millis(100 << attempt)).await;
            }
            Err(error) if tolerance.forgives(&error) => Tolerance::pause().await,
            Err(_) => {
                let remedy = format!("see to it with `drydock release-lease {name}`");
                print::tell(&format!("error: {tried}: it may have been created, and nobody could be asked; {remedy}"));
                return None;
            }
        }
    }
}

fn asks_for_owner(status: &kube::core::Status) -> bool {
    status.is_forbidden() && status.message.contains(&format!("add {OWNER}"))
}

/// Who one is to the API server.
async fn whoami(api: &Api<Lease>) -> Result<Option<String>, Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(api.clone().into_client());
    let answer = ask("who you are", reviews.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
    Ok(answer.status.and_then(|status| status.user_info).and_then(|user| user.username))
}

fn annotation<'l>(lease: &'l Lease, name: &str) -> Option<&'l String> {
    lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name))
}

/// Releases what was asked for and has not ended by itself.
async fn take_back(api: &Api<Lease>, made: &[Lease], reason: &str, interrupts: &mut Interrupts) -> Result<(), Error> {
    let command = &Command {
        id: id::command()?,
        type_: CommandType::Release,
        reason: Some(reason.to_owned()),
        issued_by: None,
        hold: None,
        at: None,
        after: None,
        never: None,
    };
    let left: Vec<&Lease> = made.iter().filter(|lease| !lease.is_over()).collect();
    let releases = stream::iter(&left).for_each_concurrent(8, |lease| async move {
        let name = lease.name();
        match append(api, name, Some(lease.uid()), command, Tolerance::proven()).await {
            Ok(Appended::Queued { .. }) => print::tell(&format!("lease/{name}: Release appended: {reason}")),
            Ok(Appended::Destroyed) => {}
            Err(error) if error.is_gone(name) => {}
            Err(error) => print::tell(&format!("error: {error}; release it with `drydock release-lease {name}`")),
        }
    });
    if interrupts.outlast(releases).await.is_none() {
        let names: Vec<&str> = left.iter().map(|lease| lease.name()).collect();
        let names = names.join(" ");
        print::tell(&format!("error: no answer yet to the release; see to it with `drydock release-lease {names}`"));
    }
    Ok(())
}

/// One object as it is, several as a list, as kubectl does.
fn objects(leases: &[Lease]) -> Result<Value, Error> {
    let mut items = vec![];
    for lease in leases {
        let mut lease = lease.clone();
        lease.metadata.managed_fields = None;
        items.push(serde_json::to_value(lease)?);
    }
    match <[Value; 1]>::try_from(items) {
        Ok([one]) => Ok(one),
        Err(items) => Ok(json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})),
    }
}

impl Args {
    /// The leases to create.
    fn leases(&self, now: Timestamp, request: &str) -> Result<Vec<Lease>, Error> {
        let spec = self.spec(now)?;
        let request = BTreeMap::from([(REQUEST.to_owned(), request.to_owned())]);
        let base = match self.name.as_ref().or(self.name_flag.as_ref()) {
            Some(name) => name.clone(),
            None => id::lease_name()?,
        };
        let names = (1..=self.count).map(|n| if self.count == 1 { base.clone() } else { format!("{base}-{n}") });
        let lease = |name: String| {
            let mut lease = Lease::new(&name, spec.clone());
            lease.metadata.annotations = Some(request.clone());
            lease.metadata.labels = (self.count > 1).then(|| request.clone());
            lease
        };
        Ok(names.map(lease).collect())
    }

    fn spec(&self, now: Timestamp) -> Result<LeaseSpec, Error> {
        let mut parameters = BTreeMap::new();
        for (key, value) in &self.parameters {
            if parameters.insert(key.clone(), value.clone()).is_some_and(|other| other != *value) {
                let remedy = format!("{key} has another value already; give each parameter once");
                return Err(Error::Flag { flag: "--parameter", value: format!("{key}={value}"), remedy });
            }
        }
        Ok(LeaseSpec {
            resource_type: self.type_.clone(),
            blueprints: self.blueprints.clone(),
            selector: self.selector.clone(),
            parameters,
            priority: self.priority,
            queue_timeout: self.queue_timeout,
            ttl: self.ttl,
            expires_at: self.until.map(|until| until.instant("--until", now)).transpose()?,
            ..LeaseSpec::default()
        })
    }
}

fn blueprint(text: &str) -> Result<BlueprintName, &'static str> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    if name.is_empty() || name.contains('/') || namespace.is_some_and(str::is_empty) {
        return Err("write NAME, or NAMESPACE/NAME");
    }
    Ok(BlueprintName { namespace: namespace.map(str::to_owned), name: name.to_owned() })
}

fn parameter(text: &str) -> Result<(String, String), &'static str> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or("write KEY=VALUE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Verb {
        #[command(flatten)]
        args: Args,
    }

    fn leases(flags: &[&str]) -> Result<Vec<Lease>, String> {
        let words = ["lease", "--type", "host"].iter().chain(flags);
        let verb = Verb::try_parse_from(words).map_err(|error| error.to_string())?;
        verb.args.leases("2026-11-23T10:00:00Z".parse().unwrap(), "r").map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_the_spec() {
        for (flags, expected) in [
            (&[][..], json!({})),
            (&["--until", "+10s"], json!({"expiresAt": "2026-11-23T10:00:10.000000Z"})),
            (&["--ttl", "90m"], json!({"ttl": "1h30m"})),
            (&["--queue-timeout", "0s"], json!({"queueTimeout": "0s"})),
            (&["--priority", "-5"], json!({"priority": -5})),
            (
                &["-l", "arch=arm64,!broken"],
                json!({"selector": {"matchLabels": {"arch": "arm64"}, "matchExpressions": [{"key": "broken", "operator": "DoesNotExist"}]}}),
            ),
            (
                &["--blueprint", "a", "--blueprint", "pool/b"],
                json!({"blueprints": [{"name": "a"}, {"namespace": "pool", "name": "b"}]}),
            ),
            (
                &["-p", "flavour=large", "-p", "note=a=b", "-p", "empty="],
                json!({"parameters": {"flavour": "large", "note": "a=b", "empty": ""}}),
            ),
        ] {
            let made = leases(flags).unwrap();
            let mut spec = json!({"resourceType": "host", "priority": 0, "commands": []});
            spec.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
            assert_eq!(serde_json::to_value(&made[0].spec).unwrap(), spec, "{flags:?}");
        }
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        for (flags, hint) in [
            (&["--until", "2020-01-01T00:00:00Z"][..], "--until 2020-01-01T00:00:00.000000Z: this time is in the past"),
            (&["--until", "10s"], "write +10s"),
            (&["--until", "+1h", "--ttl", "1h"], "'--until <TIME|+DURATION>' cannot be used with '--ttl <DURATION>'"),
            (&["--ttl", "1d"], "'--ttl <DURATION>'"),
            (&["--ttl", "-1h"], "invalid value '-1h' for '--ttl <DURATION>'"),
            (&["--queue-timeout", "-1h"], "invalid value '-1h' for '--queue-timeout <DURATION>'"),
            (&["--until", "-10s"], "invalid value '-10s' for '--until <TIME|+DURATION>'"),
            (&["--until", "+0s"], "--until +0s: it would be over at once"),
            (&["--namespace", ""], "'--namespace <NAME>'"),
            (&["--priority", "1001"], "'--priority <N>'"),
            (&["--count", "0"], "'--count <N>'"),
            (&["--blueprint", "/b"], "write NAME, or NAMESPACE/NAME"),
            (&["--blueprint", "a/b/c"], "write NAME, or NAMESPACE/NAME"),
            (&["--parameter", "flavour"], "write KEY=VALUE"),
            (&["-p", "a=1", "-p", "a=2"], "--parameter a=2: a has another value already"),
            (&["-l", "a>1"], "write KEY=VALUE"),
            (&["x", "--name", "y"], "cannot be used with"),
            (&["--wait-timeout", "1m"], "--wait"),
        ] {
            let error = leases(flags).unwrap_err();
            assert!(error.contains(hint), "{flags:?}: {error}");
        }
    }

    #[test]
    fn names_are_given_or_made_up_and_numbered_where_there_are_several() {
        let names = |flags: &[&str]| leases(flags).unwrap().iter().map(|l| l.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&["x"]), ["x"]);
        assert_eq!(names(&["--name", "x"]), ["x"]);
        assert_eq!(names(&["x", "--count", "3"]), ["x-1", "x-2", "x-3"]);
        assert!(names(&[])[0].starts_with("drydock-"));
        assert_eq!(names(&["--count", "4"]).len(), 4);
        assert_ne!(names(&[]), names(&[]));
    }
}
