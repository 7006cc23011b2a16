//! `examples/ci/with-lease.sh`: each run has an environment of its own, knows when it has lost it, and outlives a call that fails.

use crate::{
    ci::{Machine, Running, example_hosts, nobody_holds_anything, program, served_and_given_back},
    support::{Sandbox, leash::repository},
    told::{alone, apply, asked_until, command, holds_throughout, hosts, status},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Stdio};

/// A job that runs until it is ended, with a child of its own that hears no SIGTERM; both write their ids.
const STUBBORN: &str = "sh -c 'trap \"\" TERM; echo $$ >\"$HOME/deaf\"; while :; do sleep 0.1; done' &
echo $$ >\"$HOME/pid\"; trap 'exit 143' TERM; echo begun >&2; while :; do sleep 0.1; done";

fn runs(machine: &Machine, id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", machine.text(id).trim())).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// Replaces the machine's kubectl by this script, in which `$KUBECTL` is the real one.
fn replace_kubectl(machine: &Machine, sandbox: &Sandbox<'_>, script: &str) {
    let path = machine.file("programs/kubectl");
    fs::remove_file(&path).unwrap();
    program(&path, &format!("KUBECTL='{}'\n{script}", sandbox.plane().kubectl().display()));
}

#[tokio::test]
async fn two_runs_of_one_name_are_served_in_turn_and_give_back_only_their_own() {
    let (sandbox, _controller) = alone("ci-same-name").await;
    example_hosts(&sandbox).await;
    let machine = Machine::of(&sandbox, "").await;
    let until_told = "echo begun >&2; until [ -e \"$HOME/end\" ]; do sleep 0.1; done";
    let job = ["--type", "host", "a", "--", "sh", "-c", until_told];
    // Two runners: two folders for what a step leaves to the next.
    let runner = |name: &str| vec![("RUNNER_TEMP".to_owned(), machine.file(name).display().to_string())];
    let start = |runner: &[(String, String)], arguments: &[&str]| -> Running {
        machine.start("examples/ci/with-lease.sh", arguments, runner)
    };
    let mut first = start(&runner("one"), &job);
    first.says("begun").await;
    let uid = crate::told::uid(&sandbox.get("lease/a").await);

    // One that does not wait leaves it alone, and so does its last step.
    let hasty = ["--type", "host", "--queue-timeout", "1s", "a", "--", "echo", "it has run"];
    start(&runner("two"), &hasty).ends().await.ended(75, &["a lease a already exists"]);
    start(&runner("two"), &["--give-back", "a"]).ends().await.ended(0, &["this run has made no lease a"]);
    let there = sandbox.get("lease/a").await;
    assert!(crate::told::uid(&there) == uid && there.metadata.deletion_timestamp.is_none());

    // One that waits has its turn when the first has given its own back.
    let mut second = start(&runner("two"), &job);
    second.says("a lease a already exists (Active ): waiting until it is gone, at most ").await;
    fs::write(machine.file("end"), "").unwrap();
    first.ends().await.ended(0, &[]);
    second.ends().await.ended(0, &["begun"]);
    served_and_given_back(&sandbox, "a").await;
    assert_ne!(crate::told::uid(&sandbox.history().of("lease/a").pop().unwrap().object), uid);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_run_gives_back_by_its_id_what_it_has_made_on_another_machine() {
    let (sandbox, _controller) = alone("ci-run-id").await;
    example_hosts(&sandbox).await;
    let (here, there) = (Machine::of(&sandbox, "").await, Machine::of(&sandbox, "").await);
    let made = |run: &'static str, name: &'static str| {
        here.start_with_lease(&[
            "--run",
            run,
            "--type",
            "host",
            name,
            "--",
            "sh",
            "-c",
            "echo begun >&2; exec sleep 600",
        ])
    };
    let (mut a, mut b) = (made("4711/Üben", "a"), made("4712", "b"));
    for running in [&mut a, &mut b] {
        running.says("begun").await;
        running.signal("KILL");
    }
    there.with_lease(&["--run", "4711/Üben", "--give-back"]).await.ended(0, &["\"a\" deleted"]);
    sandbox.wait_gone("lease/a").await;
    there.with_lease(&["--run", "4711/Üben", "--give-back", "b"]).await.ended(0, &[]);
    assert_eq!(status(&sandbox.get("lease/b").await, "phase"), "Active", "it is another run's");
    there.with_lease(&["--run", "4712", "--give-back", "b"]).await.ended(0, &["\"b\" deleted"]);
    served_and_given_back(&sandbox, "b").await;
}

#[tokio::test]
async fn each_single_call_that_fails_is_survived() {
    let (sandbox, _controller) = alone("ci-one-call").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let machine = Machine::of(&sandbox, "").await;
    let fails = "printf . >>\"$HOME/calls\"
        [ \"$(wc -c <\"$HOME/calls\")\" -eq \"$(cat \"$HOME/fails\")\" ] || exec \"$KUBECTL\" \"$@\"
        [ \"$(cat \"$HOME/how\")\" = refused ] || \"$KUBECTL\" \"$@\" >/dev/null 2>&1
        echo 'Unable to connect to the server: EOF' >&2; exit 1";
    replace_kubectl(&machine, &sandbox, fails);
    for how in ["refused", "lost"] {
        for call in 1.. {
            fs::write(machine.file("how"), how).unwrap();
            fs::write(machine.file("fails"), call.to_string()).unwrap();
            fs::write(machine.file("calls"), "").unwrap();
            let name = format!("{how}-{call}");
            let sees = "printf '%s %s %s %s' \"$LEASE\" \"$LEASE_RESOURCE\" \"$LEASE_OUTPUTS\" \"$LEASE_INTERFACES\"";
            machine.with_lease(&["--type", "host", &name, "--", "sh", "-c", sees]).await.ended(0, &[]);
            let saw = machine.text("stdout");
            assert!(saw.starts_with(&format!("{name} pool--h1 {{}} [{{")), "call {call} {how}: {saw}");
            sandbox.wait_gone(&format!("lease/{name}")).await;
            if machine.text("calls").len() < call {
                assert!(call > 5, "it has called {call} times");
                break;
            }
        }
    }
    nobody_holds_anything(&sandbox).await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_job_whose_host_is_taken_back_is_ended_with_all_that_it_has_started() {
    let (sandbox, _controller) = alone("ci-taken").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let machine = Machine::of(&sandbox, "").await;
    let mut running = machine.start_with_lease(&["--type", "host", "a", "--", "sh", "-c", STUBBORN]);
    running.says("begun").await;
    asked_until("the child has begun", async || machine.file("deaf").exists()).await;
    command(&sandbox, "lease/a", json!({"id": "r", "type": "Release", "reason": "needed elsewhere"})).await;
    let words = ["the lease was over before the command, which ended with 143", "needed elsewhere"];
    running.ends().await.ended(75, &words);
    assert!(!runs(&machine, "pid") && !runs(&machine, "deaf"), "it works on, beside the next holder");
    sandbox.wait_gone("lease/a").await;
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_takes_no_host_back() {
    let (sandbox, _controller) = alone("ci-away").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let machine = Machine::of(&sandbox, "").await;
    let away = "[ -e \"$HOME/away\" ] || exec \"$KUBECTL\" \"$@\"
        echo \"$*\" >>\"$HOME/asked\"
        case $* in *-o\\ name*) echo 'error: the server doesn'\"'\"'t have a resource type \"leases\"' >&2 ;;
        *) echo 'Error from server (NotFound): the server could not find the requested resource' >&2 ;; esac; exit 1";
    replace_kubectl(&machine, &sandbox, away);
    let until_told = "echo begun >&2; until [ -e \"$HOME/end\" ]; do sleep 0.1; done; echo well >&2";
    // So that the watch is not one that began before.
    fs::write(machine.file("end"), "").unwrap();
    machine.with_lease(&["--type", "host", "before", "--", "true"]).await.ended(0, &[]);
    fs::remove_file(machine.file("end")).unwrap();
    let mut running = machine.start_with_lease(&["--type", "host", "a", "--", "sh", "-c", until_told]);
    running.says("begun").await;
    fs::write(machine.file("away"), "").unwrap();
    // Whoever watches is cut off, as by the end of an API server, and asks again.
    let cut = async || {
        let _ =
            std::process::Command::new("pkill").args(["-f", "condition=Ready=False.*leases.drydock.dev/a$"]).status();
        fs::read_to_string(machine.file("asked")).is_ok_and(|asked| asked.matches("condition=Ready").count() > 2)
    };
    asked_until("it has asked in vain", cut).await;
    fs::remove_file(machine.file("away")).unwrap();
    fs::write(machine.file("end"), "").unwrap();
    running.ends().await.ended(0, &["well"]);
    served_and_given_back(&sandbox, "a").await;
}

#[tokio::test]
async fn a_job_does_not_outlive_the_script_that_has_started_it() {
    let (sandbox, _controller) = alone("ci-orphan").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let machine = Machine::of(&sandbox, "").await;
    let mut running = machine.start_with_lease(&["--type", "host", "a", "--", "sh", "-c", STUBBORN]);
    running.says("begun").await;
    asked_until("the child has begun", async || machine.file("deaf").exists()).await;
    running.signal("KILL");
    asked_until("all of it has ended", async || !runs(&machine, "pid") && !runs(&machine, "deaf")).await;
    machine.with_lease(&["--give-back", "a"]).await.ended(0, &["\"a\" deleted"]);
    sandbox.wait_gone("lease/a").await;
}

#[tokio::test]
async fn the_shortest_job_keeps_its_exit_code_in_each_shell() {
    let (sandbox, _controller) = alone("ci-shells").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let machine = Machine::of(&sandbox, "").await;
    for n in 0..12 {
        let shell = ["bash", "sh"][n % 2];
        let name = format!("{shell}-{n}");
        let job = ["examples/ci/with-lease.sh", "--type", "host", &name, "--", "sh", "-c", "exit 7"];
        machine.start(shell, &job, &[]).ends().await.ended(7, &[]);
        sandbox.wait_gone(&format!("lease/{name}")).await;
    }
}

#[tokio::test]
async fn a_selector_is_what_kubectl_takes_or_is_refused_at_once() {
    let (sandbox, _controller) = alone("ci-selector").await;
    example_hosts(&sandbox).await;
    let machine = Machine::of(&sandbox, "").await;
    let expression = |key: &str, operator: &str| json!({"key": key, "operator": operator});
    let of = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
    let expressions = |all: Vec<Value>| json!({"matchLabels": {}, "matchExpressions": all});
    for (n, (selector, expected)) in [
        (" arch == arm64 ", json!({"matchLabels": {"arch": "arm64"}})),
        (
            "arch!=amd64,! broken",
            expressions(vec![of("arch", "NotIn", &["amd64"]), expression("broken", "DoesNotExist")]),
        ),
        (
            "arch in (arm64, x ),arch",
            expressions(vec![of("arch", "In", &["arm64", "x"]), expression("arch", "Exists")]),
        ),
        (
            "arch notin (amd64),in notin ()",
            expressions(vec![of("arch", "NotIn", &["amd64"]), of("in", "NotIn", &[""])]),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s-{n}");
        let job = ["--type", "host", "--selector", selector, "--queue-timeout", "20s", &name, "--"];
        let job = [&job[..], &["sh", "-c", "printf '%s' \"$LEASE_RESOURCE\""]].concat();
        machine.with_lease(&job).await.ended(0, &[]);
        assert_eq!(machine.text("stdout"), "build-hosts--h1", "{selector}");
        assert_eq!(served_and_given_back(&sandbox, &name).await["spec"]["selector"], expected, "{selector}");
    }
    let refused = [
        "arch=arm64,",
        ",arch",
        "arch=a=b",
        "!arch=arm64",
        "arch in arm64",
        "arch in (arm64",
        "arch near (x)",
        "cores>4",
        "arch=a,arch=b",
        "arch=\"arm64\"",
        "-arch=x",
        "arch=arm64 disk=ssd",
        "/arch",
        "arch=-x",
    ];
    for selector in refused {
        let said = machine.with_lease(&["--type", "host", "--selector", selector, "x", "--", "true"]).await;
        said.ended(64, &["with-lease: --selector: "]);
    }
    assert!(sandbox.list("lease").await.is_empty());
}

#[tokio::test]
async fn parameters_subjects_and_odd_names_arrive_as_they_were_given() {
    let sandbox = Sandbox::new("ci-given").await;
    let machine = Machine::of(&sandbox, "").await;
    let value = "a \"b\" \\ $HOME\tü\n";
    let parameter = format!("text={value}");
    let mut running = machine.start_with_lease(&[
        "--type",
        "host",
        "--parameter",
        "flavour=large",
        "--parameter",
        &parameter,
        "--subject",
        "User:Ann \"x\"",
        "--subject",
        "Group:devs",
        "--subject",
        "ServiceAccount:ci:builder",
        "--queue-timeout",
        "10m",
        "--ttl",
        "1h30m",
        "Feature/Big_Thing #1",
        "--",
        "true",
    ]);
    running.says("created").await;
    let leases = sandbox.list("lease").await;
    let name = leases[0].metadata.name.clone().unwrap();
    assert!(name.starts_with("feature-big-thing-1-"), "{name}");
    let spec = &leases[0].data["spec"];
    assert_eq!(spec["parameters"], json!({"flavour": "large", "text": value}));
    let rbac = "rbac.authorization.k8s.io";
    let subjects = json!([
        {"kind": "User", "apiGroup": rbac, "name": "Ann \"x\""}, {"kind": "Group", "apiGroup": rbac, "name": "devs"},
        {"kind": "ServiceAccount", "namespace": "ci", "name": "builder"},
    ]);
    assert_eq!(spec["subjects"], subjects);
    running.signal("TERM");
    running.ends().await.ended(143, &[]);
    for (flag, value) in
        [("--parameter", "flavour"), ("--parameter", "=x"), ("--subject", "ann"), ("--subject", "ServiceAccount:x")]
    {
        machine
            .with_lease(&["--type", "host", flag, value, "x", "--", "true"])
            .await
            .ended(64, &[flag, value, "write "]);
    }
}

#[test]
fn no_checkout_gives_the_scripts_other_line_ends() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.arg("-c").arg("core.autocrlf=true").args(arguments).current_dir(folder.path()).stdout(Stdio::null());
        assert!(command.stderr(Stdio::null()).status().unwrap().success(), "git {}", arguments.join(" "));
    };
    git(&["init", "--quiet"]);
    let files = ["with-lease.sh", "kinds.sh", "github.yaml", "gitlab.yaml", "tekton.yaml"]
        .map(|file| format!("examples/ci/{file}"));
    fs::create_dir_all(folder.path().join("examples/ci")).unwrap();
    for file in files.iter().map(String::as_str).chain([".gitattributes"]) {
        fs::copy(repository(file), folder.path().join(file)).unwrap();
    }
    git(&["add", "."]);
    for file in &files {
        let path: &Path = &folder.path().join(file);
        fs::remove_file(path).unwrap();
        git(&["checkout", "--", file]);
        assert!(!fs::read_to_string(path).unwrap().contains('\r'), "{file}");
    }
}
