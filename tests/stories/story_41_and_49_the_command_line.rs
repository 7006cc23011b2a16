//! Stories 41 and 49: the verbs `lease`, `release-lease`, `release-resource` and `expires`, as an ordinary user runs them.

use crate::{
    on_time::{in_seconds, released_at},
    support::{Identity, Rights, Sandbox, controller::binary, sandbox::condition},
    told::{alone, apply, bound_to, claimants, holds_throughout, hosts, instant, lease},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

/// How long a verb may take that has nothing to wait for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a verb said, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The lines of standard output. Fails where it did not exit with 0.
    pub fn done(&self) -> Vec<&str> {
        assert_eq!(self.code, 0, "{self:?}");
        self.out.lines().collect()
    }

    /// Fails where it did not exit with this code, or did not say this on standard error.
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "it did not say {word:?}: {self:?}");
        }
    }
}

/// A verb that runs, without a terminal.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    err: String,
}

impl Running {
    pub fn start(sandbox: &Sandbox<'_>, who: Identity, arguments: &[&str]) -> Running {
        Running::start_by(Command::new(binary()), sandbox, who, arguments)
    }

    /// The same by a program that runs it.
    pub fn start_by(mut command: Command, sandbox: &Sandbox<'_>, who: Identity, arguments: &[&str]) -> Running {
        let mut child = command
            .args(arguments)
            .args(["--namespace", sandbox.namespace()])
            .env("KUBECONFIG", sandbox.plane().kubeconfig(who))
            .env("HOME", sandbox.plane().folder()) // whoever runs the tests may have a kubeconfig there
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("running {}: {error}", binary().display()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, lines, err: String::new() }
    }

    /// Waits until it says this on standard error.
    pub async fn says(&mut self, words: &str) {
        let read = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.err += &format!("{line}\n");
                if line.contains(words) {
                    return true;
                }
            }
            false
        };
        let said = tokio::time::timeout(PATIENCE, read).await;
        assert!(said == Ok(true), "it did not say {words:?}, but:\n{}", self.err);
    }

    /// Sends what ^C sends.
    fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Waits until it has ended.
    pub async fn end(mut self) -> Said {
        let mut out = String::new();
        let read = async {
            let mut stdout = self.child.stdout.take().unwrap();
            let (_, rest) = tokio::join!(stdout.read_to_string(&mut out), async {
                let mut rest = String::new();
                while let Ok(Some(line)) = self.lines.next_line().await {
                    rest += &format!("{line}\n");
                }
                rest
            });
            self.err += &rest;
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, read).await.expect("it ends");
        Said { code: status.code().unwrap_or(-1), out, err: self.err }
    }
}

/// Runs a verb as Alice, to its end.
pub async fn drydock(sandbox: &Sandbox<'_>, arguments: &[&str]) -> Said {
    Running::start(sandbox, Identity::Alice, arguments).end().await
}

/// A pool of so many hosts, with this policy for its leases, where Alice may lease.
pub async fn alices(sandbox: &Sandbox<'_>, count: usize, policy: Value) {
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    apply(sandbox, &hosts(count, json!({"lease": policy}))).await;
}

#[tokio::test]
async fn story_49_until_so_long_from_now_and_until_an_instant() {
    let (sandbox, _controller) = alone("story-49").await;
    alices(&sandbox, 2, json!({})).await;
    let before = Timestamp::now();
    let said = drydock(&sandbox, &["lease", "--type", "host", "--until", "+10s", "relative"]).await;
    let after = Timestamp::now();
    assert_eq!(said.done(), ["relative"]);

    // In another zone than ours, and with less than a second.
    let zoned = in_seconds(8).round(jiff::Unit::Millisecond).unwrap();
    let written = zoned.display_with_offset(jiff::tz::Offset::constant(2)).to_string();
    assert!(written.ends_with("+02:00"), "{written}");
    let said = drydock(&sandbox, &["lease", "--type", "host", "--until", &written, "absolute"]).await;
    assert_eq!(said.done(), ["absolute"]);

    let end =
        |l: &kube::api::DynamicObject| -> Timestamp { l.data["spec"]["expiresAt"].as_str().unwrap().parse().unwrap() };
    let (relative, absolute) = (end(&sandbox.get("lease/relative").await), end(&sandbox.get("lease/absolute").await));
    let ten = SignedDuration::from_secs(10);
    assert!((before + ten..=after + ten + SignedDuration::from_micros(1)).contains(&relative), "{relative}");
    assert_eq!(absolute, zoned);
    for (name, end) in [("lease/absolute", absolute), ("lease/relative", relative)] {
        let over = sandbox.wait_phase(name, "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"));
        released_at(&sandbox, name, end).await;
        sandbox.history().of(name).iter().find(|s| s.phase() == "Active").expect("it was active");
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_49_an_end_that_is_past_or_none_is_refused_by_the_name_of_its_flag() {
    let (sandbox, _controller) = alone("story-49-past").await;
    alices(&sandbox, 1, json!({})).await;
    for (until, words) in [
        ("2020-01-01T00:00:00Z", "--until 2020-01-01T00:00:00.000000Z: this time is in the past"),
        ("10s", "write +10s"),
        ("tomorrow", "--until"),
    ] {
        let said = drydock(&sandbox, &["lease", "--type", "host", "--until", until, "a"]).await;
        said.failed(2, &["--until", words]);
        assert_eq!(said.out, "");
    }
    assert!(sandbox.list("lease").await.is_empty(), "nothing was asked for");
}

#[tokio::test]
async fn story_41_wait_tells_the_place_and_the_reason_until_it_is_active() {
    let (sandbox, _controller) = alone("story-41").await;
    alices(&sandbox, 1, json!({})).await;
    apply(&sandbox, &lease("holder", json!({}))).await;
    sandbox.wait_phase("lease/holder", "Active").await;
    let mut verb = Running::start(&sandbox, Identity::Alice, &["lease", "--type", "host", "--wait", "build"]);
    verb.says(&format!("lease/build: Pending, place 1: AtCapacity: Blueprint {}/pool", sandbox.namespace())).await;
    drydock(&sandbox, &["release-lease", "holder"]).await.done();
    let said = verb.end().await;
    assert_eq!(said.done(), ["build"], "the name alone goes to standard output");
    let active = format!("lease/build: Active on {}/pool--h1\n  ssh (ssh) 192.0.2.1:22\n", sandbox.namespace());
    assert!(said.err.ends_with(&active), "{said:?}");
    assert_eq!(sandbox.get("lease/build").await.data["status"]["phase"], "Active", "it stays, now that it is over");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_an_interrupt_before_it_is_active_releases_it() {
    let (sandbox, _controller) = alone("story-41-interrupt").await;
    alices(&sandbox, 1, json!({})).await;
    apply(&sandbox, &lease("holder", json!({}))).await;
    sandbox.wait_phase("lease/holder", "Active").await;
    let mut verb = Running::start(&sandbox, Identity::Alice, &["lease", "--type", "host", "--wait", "build"]);
    verb.says("lease/build: Pending, place 1").await;
    verb.interrupt();
    verb.end().await.failed(130, &["lease/build: Release appended: interrupted before it was active"]);
    let over = sandbox.wait_phase("lease/build", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Released"));
    let command = &over.data["spec"]["commands"][0];
    assert_eq!(
        (&command["reason"], &command["issuedBy"]),
        (&json!("interrupted before it was active"), &json!("alice"))
    );
    assert_eq!(sandbox.get("lease/holder").await.data["status"]["phase"], "Active");
    holds_throughout(&sandbox).await;
    sandbox.history().never("served", |s| s.name == "build" && s.phase() == "Active");
}

#[tokio::test]
async fn story_41_four_are_asked_for_and_four_are_given() {
    let (sandbox, _controller) = alone("story-41-four").await;
    alices(&sandbox, 4, json!({})).await;
    let said = drydock(&sandbox, &["lease", "build", "--type", "host", "--count", "4", "--wait"]).await;
    let names = ["build-1", "build-2", "build-3", "build-4"];
    assert_eq!(said.done(), names);
    let mut hosts = vec![];
    for name in names {
        let active = sandbox.get(&format!("lease/{name}")).await;
        assert_eq!(active.data["status"]["phase"], "Active", "{name}");
        hosts.push(bound_to(&active));
    }
    hosts.sort();
    assert_eq!(hosts, ["pool--h1", "pool--h2", "pool--h3", "pool--h4"]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_where_not_all_can_be_had_in_time_none_is_kept() {
    let (sandbox, _controller) = alone("story-41-three").await;
    alices(&sandbox, 3, json!({})).await;
    let arguments = ["lease", "build", "--type", "host", "--count", "4", "--wait", "--wait-timeout", "3s"];
    drydock(&sandbox, &arguments).await.failed(1, &["--wait-timeout 3s: not active by then"]);
    for n in 1..=4 {
        let over = sandbox.wait_phase(&format!("lease/build-{n}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Released"));
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_a_lease_that_ends_before_it_is_of_use_is_a_failure_that_says_why() {
    let (sandbox, _controller) = alone("story-41-useless").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    let arguments = ["lease", "build", "--type", "host", "--wait", "--queue-timeout", "0s"];
    let said = drydock(&sandbox, &arguments).await;
    said.failed(1, &["error: lease/build: ended before it was of use: ", "QueueTimeout", "no Blueprint of type host"]);
    // The name that nobody gave is made up, and printed for the next verb of a pipeline.
    apply(&sandbox, &hosts(1, json!({}))).await;
    let said = drydock(&sandbox, &["lease", "--type", "host", "--wait", "--output", "json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let printed: Value = serde_json::from_str(&said.out).expect("one object");
    assert_eq!(printed["status"]["phase"], "Active");
    assert_eq!(printed["status"]["interfaces"][0]["address"], "192.0.2.1");
    assert!(printed["metadata"]["name"].as_str().unwrap().starts_with("drydock-"));
}

#[tokio::test]
async fn story_41_leases_are_given_back_by_name_and_all_at_once() {
    let (sandbox, _controller) = alone("story-41-release").await;
    alices(&sandbox, 4, json!({})).await;
    drydock(&sandbox, &["lease", "x", "--type", "host", "--count", "4", "--wait"]).await.done();

    let said =
        drydock(&sandbox, &["release-lease", "x-1", "lease.drydock.dev/x-2", "--reason", "build finished"]).await;
    let mut told = said.done();
    told.sort_unstable();
    assert_eq!(told, ["lease/x-1: Applied", "lease/x-2: Applied"]);
    let over = sandbox.wait_phase("lease/x-1", "Destroyed").await;
    let released = crate::told::message(&over, "Released");
    assert_eq!(released, "by alice: build finished");
    sandbox.wait_phase("lease/x-2", "Destroyed").await;
    // What is over already is as it should be; what never was is not.
    assert_eq!(drydock(&sandbox, &["release-lease", "x-1"]).await.done(), ["lease/x-1: it is Destroyed already"]);
    drydock(&sandbox, &["release-lease", "nobody"])
        .await
        .failed(1, &["lease/nobody", "not found in namespace", "--namespace"]);

    // Nobody can be asked: nothing is released.
    let said = drydock(&sandbox, &["release-lease", "--all"]).await;
    let all = format!("--all would release 2 leases of namespace {}", sandbox.namespace());
    said.failed(2, &[&all, "no terminal to ask on: add --yes"]);
    for name in ["lease/x-3", "lease/x-4"] {
        let lease = sandbox.get(name).await;
        assert_eq!(lease.data["status"]["phase"], "Active");
        assert_eq!(lease.data["spec"]["commands"], json!([]));
    }
    let said = drydock(&sandbox, &["release-lease", "--all", "--yes", "--wait"]).await;
    let mut told = said.done();
    told.sort_unstable();
    assert_eq!(told.len(), 2, "{said:?}");
    for (line, name) in told.iter().zip(["lease/x-3", "lease/x-4"]) {
        assert_eq!(*line, format!("{name}: Destroyed: Released: by alice"));
        assert_eq!(sandbox.get(name).await.data["status"]["phase"], "Destroyed", "it has waited for that");
    }
    let none = drydock(&sandbox, &["release-lease", "--all"]).await;
    assert_eq!((none.done().len(), none.err.contains("no lease to release")), (0, true), "{none:?}");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_a_lease_is_given_back_but_kept_for_a_look() {
    let (sandbox, _controller) = alone("story-41-hold").await;
    alices(&sandbox, 1, json!({"maxHold": "10m"})).await;
    drydock(&sandbox, &["lease", "x", "--type", "host", "--wait"]).await.done();
    let said = drydock(&sandbox, &["release-lease", "x", "--hold", "1h"]).await;
    let told = said.done();
    assert!(told[0].starts_with("lease/x: Applied: held until "), "{said:?}");
    assert!(told[0].ends_with(": cut to lease.maxHold of the Blueprint, 10m"), "{said:?}");
    let held = sandbox.get("lease/x").await;
    assert_eq!(condition(&held, "TornDown"), ("False", "Held"));
    // It is not over before it is torn down: released again without a hold, it is.
    assert_eq!(drydock(&sandbox, &["release-lease", "x"]).await.done(), ["lease/x: Applied: the hold ends now"]);
    sandbox.wait_phase("lease/x", "Destroyed").await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_a_released_resource_takes_its_leases_with_it() {
    let (sandbox, _controller) = alone("story-41-resource").await;
    alices(&sandbox, 1, json!({})).await;
    drydock(&sandbox, &["lease", "x", "--type", "host", "--wait"]).await.done();
    let said = drydock(&sandbox, &["release-resource", "pool--h1", "--reason", "to be repaired", "--wait"]).await;
    assert_eq!(said.done().len(), 1, "{said:?}");
    sandbox.wait_gone("resource/pool--h1").await;
    let over = sandbox.wait_phase("lease/x", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"));
    sandbox.history().caught_up().await;
    let last = sandbox.history().of("resource/pool--h1").pop().unwrap();
    assert_eq!(crate::told::message(&last.object, "Released"), "by alice: to be repaired");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_failing_to_extend_exits_with_1_and_says_so() {
    let (sandbox, _controller) = alone("story-41-expires").await;
    alices(&sandbox, 1, json!({"maxTTL": "2h"})).await;
    drydock(&sandbox, &["lease", "x", "--type", "host", "--ttl", "1h", "--wait"]).await.done();
    let before = sandbox.get("lease/x").await;
    let activated = instant(&before, "activatedAt");
    for end in [&["--after", "9h"][..], &["--never"], &["--at", "2100-01-01T00:00:00Z"]] {
        let said = drydock(&sandbox, &[&["expires", "lease/x"], end].concat()).await;
        said.failed(1, &["error: lease/x: Refused: ", "beyond lease.maxTTL of the Blueprint, 2h"]);
        assert_eq!(said.out, "");
    }
    assert_eq!(
        instant(&sandbox.get("lease/x").await, "expiresAt"),
        activated + SignedDuration::from_hours(1),
        "unchanged"
    );

    assert_eq!(drydock(&sandbox, &["expires", "dlease/x", "--after", "90m"]).await.done(), ["lease/x: Applied"]);
    assert!(instant(&sandbox.get("lease/x").await, "expiresAt") > activated + SignedDuration::from_mins(90));
    assert_eq!(
        drydock(&sandbox, &["expires", "resource/pool--h1", "--after", "3h"]).await.done(),
        ["resource/pool--h1: Applied"]
    );
    drydock(&sandbox, &["expires", "lease/x"]).await.failed(2, &["--at", "--after", "--never"]);
    // What ends now is over, and not to be extended.
    drydock(&sandbox, &["expires", "lease/x", "--at", "2020-01-01T00:00:00Z"]).await.done();
    sandbox.wait_phase("lease/x", "Destroyed").await;
    drydock(&sandbox, &["expires", "lease/x", "--after", "1h"])
        .await
        .failed(1, &["error: lease/x: it is Destroyed already and takes no more commands; create a new one"]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_without_a_controller_it_says_that_nothing_has_come_of_it_yet() {
    let (sandbox, mut controller) = alone("story-41-nobody").await;
    alices(&sandbox, 1, json!({})).await;
    drydock(&sandbox, &["lease", "x", "--type", "host", "--wait"]).await.done();
    controller.kill9().await;
    for verb in
        [&["release-lease", "x"][..], &["expires", "lease/x", "--after", "1h"], &["release-resource", "pool--h1"]]
    {
        let said = drydock(&sandbox, &[verb, &["--timeout", "1s"]].concat()).await;
        said.failed(1, &["appended as cli-", ", but not consumed in 1s: is the controller running?"]);
    }
    // Who does not want to wait is told what was appended, and that is all there is to be told.
    let said = drydock(&sandbox, &["release-lease", "x", "--timeout", "0s"]).await;
    assert!(said.done()[0].starts_with("lease/x: appended as cli-"), "{said:?}");
    // And a lease that nobody has seen says so while it waits.
    let mut verb = Running::start(&sandbox, Identity::Alice, &["lease", "y", "--type", "host", "--wait"]);
    verb.says("lease/y: Pending: no controller has seen it yet").await;
    controller.restart().await;
    assert_eq!(verb.end().await.done(), ["y"]);
    let over = sandbox.wait_phase("lease/x", "Destroyed").await;
    let outcomes: Vec<&str> =
        over.data["status"]["commands"].as_array().unwrap().iter().filter_map(|e| e["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["Applied", "Refused", "Ignored"], "in the order in which they were appended");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_consumed_commands_are_taken_out_of_the_queue_as_it_is_appended_to() {
    let (sandbox, _controller) = alone("story-41-prune").await;
    alices(&sandbox, 1, json!({})).await;
    drydock(&sandbox, &["lease", "x", "--type", "host", "--wait"]).await.done();
    for hours in 1..=12 {
        drydock(&sandbox, &["expires", "lease/x", "--after", &format!("{hours}h")]).await.done();
    }
    let lease = sandbox.get("lease/x").await;
    let queue = lease.data["spec"]["commands"].as_array().unwrap().len();
    assert!(queue < 10, "{queue} in the queue: what is consumed goes, but for a few");
    let ledger = lease.data["status"]["commands"].as_array().unwrap();
    assert_eq!(ledger.iter().filter(|entry| entry["outcome"] == "Applied").count(), 12, "the ledger has them all");
    let end = instant(&lease, "expiresAt").duration_since(instant(&lease, "activatedAt"));
    assert!(end > SignedDuration::from_hours(12), "the last one counts: {end:#}");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn story_41_whoever_may_not_is_told_so_and_nothing_is_left_behind() {
    let (sandbox, _controller) = alone("story-41-rights").await;
    alices(&sandbox, 1, json!({})).await;
    drydock(&sandbox, &["lease", "x", "--type", "host", "--wait"]).await.done();
    for verb in
        [&["lease", "y", "--type", "host", "--wait"][..], &["release-lease", "x"], &["expires", "lease/x", "--never"]]
    {
        let said = Running::start(&sandbox, Identity::Bob, verb).end().await;
        said.failed(1, &["error: lease/", "forbidden", "bob"]);
        assert_eq!(said.out, "");
    }
    // A viewer sees what there is, and may not end it.
    sandbox.grant(Identity::Bob, Rights::View).await;
    let said = Running::start(&sandbox, Identity::Bob, &["release-lease", "x"]).end().await;
    said.failed(1, &["cannot patch"]);
    assert_eq!(sandbox.list("lease").await.iter().map(|l| l.name_any()).collect::<Vec<_>>(), ["x"]);
    assert_eq!(claimants(&sandbox.get("resource/pool--h1").await), ["x"]);
    holds_throughout(&sandbox).await;
}
