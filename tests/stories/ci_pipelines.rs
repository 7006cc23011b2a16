//! `examples/ci/*.yaml`: what the pipelines run, in its order, on the real API server; and `kinds.sh`, with which they begin.

use crate::{
    ci::{Machine, Said, example_hosts, served_and_given_back},
    support::{ControlPlane, Identity, leash::repository, sandbox::documents},
    told::{alone, holds_throughout},
};
use serde_json::Value;
use std::fs;

/// A pipeline's way through a run.
struct Pipeline {
    /// What is set for each step.
    env: Vec<(String, String)>,
    /// What is run until a step fails.
    job: Vec<String>,
    /// What is run in any case.
    always: Vec<String>,
}

fn example(file: &str) -> Vec<Value> {
    documents(&fs::read_to_string(repository("examples/ci").join(file)).unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("this is no text: {value}")).to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("this is no list: {value}")).iter().map(text).collect()
}

/// A time limit in minutes, as pipelines write it.
fn minutes(limit: &Value) -> u64 {
    let written = || limit.as_str()?.trim_end_matches(" minutes").trim_end_matches('m').parse().ok();
    limit.as_u64().or_else(written).unwrap_or_else(|| panic!("this is no time limit: {limit}"))
}

/// The job's time limit leaves room below the ttl of the lease, which is an hour.
fn below_the_ttl(limit: &Value) {
    assert!(minutes(limit) < 60, "{limit}");
}

fn github(machine: &Machine) -> Pipeline {
    let job = &example("github.yaml")[0]["jobs"]["test"];
    below_the_ttl(&job["timeout-minutes"]);
    // Of what contexts tell of folders nothing is right in a container job: variables are.
    let known = |text: String| {
        text.replace("${{ github.run_id }}-${{ github.run_attempt }}-${{ github.job }}", "4711-1-test")
            .replace("${{ strategy.job-index }}", "0")
            .replace("${{ secrets.DRYDOCK_KUBECONFIG }}", &machine.text("kubeconfig"))
    };
    let set = |env: &Value| -> Vec<(String, String)> {
        env.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), known(text(value)))).collect()
    };
    let steps = job["steps"].as_array().unwrap();
    let folder = machine.file("runner");
    fs::create_dir(&folder).unwrap();
    let mut env = vec![
        ("KUBECONFIG".to_owned(), "/nowhere".to_owned()),
        ("RUNNER_TEMP".to_owned(), folder.display().to_string()),
        ("GITHUB_ENV".to_owned(), folder.join("env").display().to_string()),
    ];
    env.extend(set(&job["env"]));
    env.extend(steps.iter().flat_map(|step| set(&step["env"])));
    let (always, usual): (Vec<&Value>, Vec<&Value>) =
        steps.iter().filter(|step| step.get("run").is_some()).partition(|step| step["if"] == "always()");
    let run = |steps: Vec<&Value>| steps.iter().map(|step| text(&step["run"])).collect();
    Pipeline { env, job: run(usual), always: run(always) }
}

fn gitlab(_machine: &Machine) -> Pipeline {
    let job = &example("gitlab.yaml")[0]["test-on-a-host"];
    below_the_ttl(&job["timeout"]);
    // A job that has used up its whole timeout ends without its after_script.
    let variables = &job["variables"];
    let parts = ["RUNNER_SCRIPT_TIMEOUT", "RUNNER_AFTER_SCRIPT_TIMEOUT"].map(|part| minutes(&variables[part]));
    assert!(parts.iter().sum::<u64>() < minutes(&job["timeout"]), "{job}");
    let name = text(&variables["LEASE_NAME"]).replace("$CI_JOB_ID", "4711");
    let env = vec![("LEASE_NAME".to_owned(), name), ("CI_JOB_ID".to_owned(), "4711".to_owned())];
    Pipeline { env, job: texts(&job["script"]), always: texts(&job["after_script"]) }
}

fn tekton(_machine: &Machine) -> Pipeline {
    let objects = example("tekton.yaml");
    let find = |kind: &str, name: &Value| {
        let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == *name);
        found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
    };
    let of_a_run = objects.iter().find(|object| object["kind"] == "PipelineRun").unwrap();
    let pipeline = &find("Pipeline", &of_a_run["spec"]["pipelineRef"]["name"])["spec"];
    let (test, give_back) = (&pipeline["tasks"][0], &pipeline["finally"][0]);
    below_the_ttl(&test["timeout"]);
    // Both know the run by the same id.
    let value = |task: &Value, name: &str| {
        let found = task["params"].as_array().unwrap().iter().find(|param| param["name"] == name);
        text(&found.unwrap_or_else(|| panic!("it has no {name}"))["value"])
            .replace("$(context.pipelineRun.uid)", "4711")
    };
    let run = value(test, "run");
    assert_eq!(run, value(give_back, "run"));
    let name = value(test, "lease-name");
    let script = |task: &Value| {
        let step = &find("Task", &task["taskRef"]["name"])["spec"]["steps"][0];
        assert_eq!(step["env"][0], serde_json::json!({"name": "LEASE_RUN", "value": "$(params.run)"}));
        text(&step["script"])
    };
    let env = vec![("LEASE_RUN".to_owned(), run), ("LEASE_NAME".to_owned(), name)];
    Pipeline { env, job: vec![script(test)], always: vec![script(give_back)] }
}

/// Runs a pipeline as its system does: the job's steps until one fails, then what is run in any case. Gives what its last step
/// said, and what was run in any case.
async fn run(machine: &Machine, pipeline: &Pipeline) -> (Said, Said) {
    let mut env = pipeline.env.clone();
    let file = env.iter().find(|(name, _)| name == "GITHUB_ENV").map(|(_, file)| file.clone());
    let mut step = async |script: &String| {
        let said = machine.start("sh", &["-e", "-c", script], &env).ends().await;
        // What a step writes there is set for those after it.
        let more = file.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        env.extend(
            more.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())),
        );
        said
    };
    let mut last = None;
    for script in &pipeline.job {
        let said = step(script).await;
        let failed = said.code != Some(0);
        last = Some(said);
        if failed {
            break;
        }
    }
    assert_eq!(pipeline.always.len(), 1);
    (last.expect("it has steps"), step(&pipeline.always[0]).await)
}

async fn runs_and_gives_back(story: &str, pipeline: impl Fn(&Machine) -> Pipeline) {
    let (sandbox, _controller) = alone(story).await;
    example_hosts(&sandbox).await;
    let make = "[ \"$*\" = test ] || exit 2\necho \"made on $LEASE_RESOURCE\" >&2\nexit \"$(cat \"$HOME/code\")\"";
    let machine = Machine::of(&sandbox, make).await;
    let pipeline = pipeline(&machine);
    let name = &pipeline.env.iter().find(|(name, _)| name == "LEASE_NAME").unwrap().1;
    assert!(name.starts_with("ci-4711") && !name.contains('$'), "{name}");
    for code in [0, 3] {
        fs::write(machine.file("code"), code.to_string()).unwrap();
        let (job, always) = run(&machine, &pipeline).await;
        job.ended(code, &["made on build-hosts--h1"]);
        always.ended(0, &[]);
        let lease = served_and_given_back(&sandbox, name).await;
        assert_eq!(lease["spec"]["ttl"], "1h");
    }
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn what_github_runs_leases_a_host_and_gives_it_back() {
    runs_and_gives_back("ci-github", github).await;
}

#[tokio::test]
async fn what_gitlab_runs_leases_a_host_and_gives_it_back() {
    runs_and_gives_back("ci-gitlab", gitlab).await;
}

#[tokio::test]
async fn what_tekton_runs_leases_a_host_and_gives_it_back() {
    runs_and_gives_back("ci-tekton", tekton).await;
}

#[tokio::test]
async fn what_tekton_runs_may_do_what_it_does() {
    let (sandbox, _controller) = alone("ci-account").await;
    for mut object in example("tekton.yaml").into_iter().filter(|object| object["apiVersion"] != "tekton.dev/v1") {
        assert_eq!(object["metadata"]["namespace"], "ci");
        object["metadata"]["namespace"] = sandbox.namespace().into();
        if let Some(subject) = object.pointer_mut("/subjects/0/namespace") {
            *subject = sandbox.namespace().into();
        }
        sandbox.apply(Identity::Admin, &object.to_string()).await;
    }
    let account = crate::people::Person::account(&sandbox, "with-lease").await;
    for verb in ["get", "list", "watch", "create", "delete"] {
        let may = async || account.is_allowed(verb, "leases").await;
        crate::told::asked_until(&format!("{verb} leases"), may).await;
    }
    assert!(!account.is_allowed("update", "leases/status").await);
    assert!(!account.is_allowed("create", "blueprints").await);
}

#[tokio::test]
async fn the_kinds_are_created_where_they_are_missing() {
    let plane = ControlPlane::start().await.unwrap();
    // As where any API of the cluster is out of order: kubectl's own list of kinds fails then.
    let programs = tempfile::tempdir().unwrap();
    let fails = "echo 'error: unable to retrieve the complete list of server APIs' >&2; exit 1";
    let kubectl = format!("[ \"$1\" != api-resources ] || {{ {fails}; }}\nexec '{}' \"$@\"", plane.kubectl().display());
    crate::ci::program(&programs.path().join("kubectl"), &kubectl);
    let kinds = async |who: Identity| {
        let mut command = tokio::process::Command::new("examples/ci/kinds.sh");
        let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
        command.arg("crds").current_dir(repository("")).env("KUBECONFIG", plane.kubeconfig(who)).env("PATH", path);
        let output = command.env("HOME", plane.folder()).output().await.unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (done, said) = kinds(Identity::Alice).await;
    assert!(!done && said.contains("not served: blueprints leases resources") && said.contains("forbidden"), "{said}");
    let (done, said) = kinds(Identity::Admin).await;
    assert!(done && said.matches("condition met").count() == 3, "{said}");
    plane
        .run_kubectl(Identity::Admin, &["get", "leases.drydock.dev,blueprints.drydock.dev,resources.drydock.dev"])
        .await
        .unwrap();
    // Who may create none may still look.
    let look = async || kinds(Identity::Alice).await == (true, "kinds: all are served\n".to_owned());
    crate::told::asked_until("the kinds are served", look).await;
    plane.run_kubectl(Identity::Admin, &["delete", "-f", "crds/drydock.dev_leases.yaml"]).await.unwrap();
    let one = async || kinds(Identity::Admin).await.1.contains("not served: leases\n");
    crate::told::asked_until("what is missing is created", one).await;
    plane.stop().await.unwrap();
}
