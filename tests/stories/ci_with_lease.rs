//! `examples/ci/with-lease.sh`: whatever becomes of the job, its lease is given back.

use crate::{
    ci::{Machine, example_hosts, nobody_holds_anything, served_and_given_back},
    support::{Identity, Sandbox},
    told::{alone, apply, command, holds_throughout, lease},
};
use serde_json::json;

/// The arguments of a job with a lease of an arm64 host, of which there is one.
fn job<'a>(name: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["--type", "host", "--selector", "arch=arm64", name, "--"], command].concat()
}

async fn nothing_is_left(sandbox: &Sandbox<'_>, name: &str) {
    sandbox.wait_gone(&format!("lease/{name}")).await;
    nobody_holds_anything(sandbox).await;
}

#[tokio::test]
async fn a_job_has_a_host_for_as_long_as_it_runs() {
    let (sandbox, _controller) = alone("ci-job").await;
    example_hosts(&sandbox).await;
    let machine = Machine::of(&sandbox, "").await;

    let sees = "kubectl get leases.drydock.dev \"$LEASE\" -o 'jsonpath={.status.phase} {.spec.ttl}' && \
        echo \" on $LEASE_RESOURCE, $LEASE_OUTPUTS, $LEASE_INTERFACES\"; cat";
    let piped = format!("echo piped | examples/ci/with-lease.sh {} '{}'", job("a", &["sh", "-c"]).join(" "), {
        sees.replace('\'', "'\\''")
    });
    machine.start("sh", &["-c", &piped], &[]).ends().await.ended(0, &["lease.drydock.dev/a created"]);
    let saw = machine.text("stdout");
    assert!(saw.starts_with("Active 1h on build-hosts--h1, "), "{saw}");
    assert!(saw.contains(r#""address":"192.0.2.11""#) && saw.ends_with("\npiped\n"), "{saw}");
    let spec = served_and_given_back(&sandbox, "a").await["spec"].clone();
    assert_eq!(spec["selector"], json!({"matchLabels": {"arch": "arm64"}}));
    assert_eq!((&spec["queueTimeout"], &spec["ttl"]), (&json!("30m"), &json!("1h")));

    // The exit code is the job's.
    machine.with_lease(&job("b", &["sh", "-c", "echo it fails >&2; exit 7"])).await.ended(7, &["it fails"]);
    served_and_given_back(&sandbox, "b").await;
    machine.with_lease(&job("c", &["no-such-program"])).await.ended(127, &["no-such-program"]);
    served_and_given_back(&sandbox, "c").await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_job_that_is_ended_by_a_signal_gives_its_host_back() {
    let (sandbox, _controller) = alone("ci-signal").await;
    example_hosts(&sandbox).await;
    let machine = Machine::of(&sandbox, "").await;
    for (name, signal, code) in [("term", "TERM", 143), ("int", "INT", 130), ("hup", "HUP", 129)] {
        let mut running = machine.start_with_lease(&job(name, &["sh", "-c", "echo begun >&2; exec sleep 600"]));
        running.says("begun").await;
        running.signal(signal);
        running.ends().await.ended(code, &["ended by signal"]);
        served_and_given_back(&sandbox, name).await;
    }

    // One that does not listen is killed, and its host is given back only then.
    let deaf = "trap '' TERM; echo $$ >\"$HOME/pid\"; echo begun >&2; exec sleep 600";
    let mut running = machine.start_with_lease(&job("deaf", &["sh", "-c", deaf]));
    running.says("begun").await;
    running.signal("TERM");
    running.ends().await.ended(143, &[]);
    let process = format!("/proc/{}", machine.text("pid").trim());
    assert!(!std::path::Path::new(&process).exists(), "{process} is still there");
    served_and_given_back(&sandbox, "deaf").await;

    // While it waits for its turn.
    apply(&sandbox, &lease("before", json!({"selector": {"matchLabels": {"arch": "arm64"}}}))).await;
    sandbox.wait_phase("lease/before", "Active").await;
    let mut running = machine.start_with_lease(&job("waits", &["echo", "it has run"]));
    running.says("lease.drydock.dev/waits created").await;
    sandbox.wait_phase("lease/waits", "Pending").await;
    running.signal("TERM");
    running.ends().await.ended(143, &[]);
    sandbox.wait_gone("lease/waits").await;
    assert_eq!(machine.text("stdout"), "");
    assert_eq!(sandbox.get("lease/before").await.data["status"]["phase"], "Active");
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_job_without_a_host_says_why() {
    let (sandbox, _controller) = alone("ci-none").await;
    example_hosts(&sandbox).await;
    let machine = Machine::of(&sandbox, "").await;
    apply(&sandbox, &lease("before", json!({"selector": {"matchLabels": {"arch": "arm64"}}}))).await;
    sandbox.wait_phase("lease/before", "Active").await;
    let hasty = |name: &'static str, type_: &'static str| {
        let machine = &machine;
        async move {
            let arguments = ["--type", type_, "--selector", "arch=arm64", "--queue-timeout", "1s", name];
            machine.with_lease(&[&arguments[..], &["--", "echo", "it has run"]].concat()).await
        }
    };
    hasty("late", "host").await.ended(75, &["there is no environment", "QueueTimeout: ", "Acquired: AtCapacity: "]);
    nothing_but(&sandbox, &["before"]).await;
    hasty("nobody", "board").await.ended(75, &["QueueTimeout: ", "Acquired: NoMatchingBlueprint: "]);
    nothing_but(&sandbox, &["before"]).await;

    // A name that is taken is another's: it is waited for, and that one is left alone.
    hasty("before", "host")
        .await
        .ended(75, &["a lease before already exists, and is not gone after the queue timeout"]);
    assert_eq!(sandbox.get("lease/before").await.data["status"]["phase"], "Active");
    assert!(sandbox.get("lease/before").await.metadata.deletion_timestamp.is_none());

    // What the API server refuses, it says.
    let refused = ["--type", "host", "--ttl", "soon", "x", "--", "echo", "it has run"];
    machine.with_lease(&refused).await.ended(75, &["spec.ttl"]);
    nothing_but(&sandbox, &["before"]).await;
    assert_eq!(machine.text("stdout"), "");
}

/// Waits until there are no leases but these.
async fn nothing_but(sandbox: &Sandbox<'_>, names: &[&str]) {
    for lease in sandbox.list("lease").await {
        let name = lease.metadata.name.unwrap();
        if !names.contains(&name.as_str()) {
            sandbox.wait_gone(&format!("lease/{name}")).await;
        }
    }
}

#[tokio::test]
async fn a_job_that_has_lost_its_host_has_not_succeeded() {
    let (sandbox, _controller) = alone("ci-lost").await;
    example_hosts(&sandbox).await;
    let machine = Machine::of(&sandbox, "").await;
    let until_told = "echo begun >&2; until [ -e \"$HOME/end\" ]; do sleep 0.1; done";
    let mut running = machine.start_with_lease(&job("lost", &["sh", "-c", until_told]));
    running.says("begun").await;
    command(&sandbox, "lease/lost", json!({"id": "r", "type": "Release", "reason": "needed elsewhere"})).await;
    sandbox.wait_phase("lease/lost", "Destroyed").await;
    std::fs::write(machine.file("end"), "").unwrap();
    running.ends().await.ended(75, &["the lease was over before the command", "Released: Released"]);
    nothing_is_left(&sandbox, "lost").await;
}

#[tokio::test]
async fn the_net_beneath_gives_back_what_a_killed_job_has_left() {
    let (sandbox, _controller) = alone("ci-net").await;
    example_hosts(&sandbox).await;
    let machine = Machine::of(&sandbox, "").await;
    let mut running =
        machine.start_with_lease(&job("a", &["sh", "-c", "echo $$ >\"$HOME/pid\"; echo begun >&2; exec sleep 600"]));
    running.says("begun").await;
    running.signal("KILL");
    let orphan = machine.text("pid");
    let killed = std::process::Command::new("kill").args(["-s", "KILL", orphan.trim()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    assert_eq!(running.ends().await.code, None);
    assert_eq!(sandbox.get("lease/a").await.data["status"]["phase"], "Active");

    machine.with_lease(&["--give-back", "a"]).await.ended(0, &["\"a\" deleted"]);
    served_and_given_back(&sandbox, "a").await;
    machine.with_lease(&["--give-back", "a"]).await.ended(0, &[]);
    let elsewhere = machine.with_lease(&["--namespace", "default", "--run", "4711", "--give-back", "a"]).await;
    elsewhere.ended(1, &["forbidden", "could not give it back"]);
}

#[tokio::test]
async fn wrong_arguments_lease_nothing() {
    let sandbox = Sandbox::new("ci-wrong").await;
    let machine = Machine::of(&sandbox, "").await;
    for (arguments, words) in [
        (&["--type", "host", "--", "true"][..], "the lease needs a name"),
        (&["a", "--", "true"], "--type is needed"),
        (&["--type", "host", "a"], "a command is needed"),
        (&["--type", "host", "a", "b", "--", "true"], "one name, and not b too"),
        (&["--kind", "host", "a", "--", "true"], "there is no option --kind"),
        (&["a", "--type"], "--type needs a value"),
        (&["--give-back", "a", "--", "true"], "--give-back runs no command"),
    ] {
        machine.with_lease(arguments).await.ended(64, &[words]);
    }
    assert!(sandbox.list("lease").await.is_empty());
    let api = sandbox.api(Identity::Alice, "lease").await;
    assert!(api.list(&Default::default()).await.unwrap().items.is_empty());
}
