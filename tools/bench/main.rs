//! `make bench`: how long things take, as ratios in one run on a control plane of its own: machines differ, and so do their
//! moods. Prints the figures; fails where a budget is not kept. Arguments name the parts that are wanted: `namespaces`, `memory`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use serde_json::json;
use std::{path::PathBuf, process::ExitCode, time::Duration, time::Instant};

mod memory;
#[path = "../../tests/support/mod.rs"]
mod support;
use support::{
    ControlPlane, Identity, Sandbox, install,
    sandbox::{Rights, phase},
};

/// How often each is done.
const ROUNDS: usize = 15;

/// A lease of a namespace may take so much longer than making its objects by hand.
const NAMESPACE_BUDGET: f64 = 3.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let plane = match ControlPlane::start().await {
        Ok(plane) => plane,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    install::everything(&plane).await.expect("Drydock is installed");
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let mut kept = true;
    if is_wanted("namespaces") {
        kept &= namespaces(&plane).await;
    }
    if is_wanted("memory") {
        kept &= memory::all(&plane).await;
    }
    plane.stop().await.expect("the control plane ends");
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A lease of a namespace, from apply to Active, beside `kubectl create` of the same objects.
async fn namespaces(plane: &ControlPlane) -> bool {
    let sandbox = Sandbox::on(plane, "bench").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    let _controller = sandbox.controller().await;
    for file in ["account.yaml", "namespaces.yaml"] {
        let copy = example(&sandbox, file);
        let apply = ["apply", "-f", &copy.to_string_lossy()];
        plane.run_kubectl(Identity::Admin, &apply).await.expect("it is applied");
    }
    println!("A lease of a namespace, {ROUNDS} times, each beside kubectl create of its objects by hand:");
    let (mut by_hand, mut leased) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let objects = sandbox.plane().folder().join("by-hand.yaml");
        std::fs::write(&objects, the_same(&format!("by-hand-{n}"))).expect("it can be written");
        let began = Instant::now();
        let create = ["create", "-f", &objects.to_string_lossy()];
        plane.run_kubectl(Identity::Admin, &create).await.expect("they are made");
        by_hand.push(began.elapsed());

        let name = format!("job-{n}");
        let lease = json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"resourceType": "namespace",
                "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}]},
        });
        let began = Instant::now();
        sandbox.apply(Identity::Alice, &lease.to_string()).await;
        sandbox.wait_for(&format!("lease/{name}"), "Active", |lease| phase(lease) == "Active").await;
        leased.push(began.elapsed());
    }
    let (by_hand, leased) = (median(by_hand), median(leased));
    let ratio = leased.as_secs_f64() / by_hand.as_secs_f64();
    println!("  by hand  p50 {by_hand:.0?}");
    println!("  leased   p50 {leased:.0?}, {ratio:.2} times as long; the budget is {NAMESPACE_BUDGET}");
    ratio <= NAMESPACE_BUDGET
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A copy of a file of `examples/objects`, for the sandbox's namespace.
fn example(sandbox: &Sandbox<'_>, file: &str) -> PathBuf {
    let yaml = std::fs::read_to_string(support::leash::repository("examples/objects").join(file)).expect("an example");
    let own = sandbox.namespace();
    let (_, yaml) = yaml.split_once("metadata: {name: ci}\n---\n").unwrap_or(("", &yaml));
    let copy = sandbox.plane().folder().join(file);
    std::fs::write(&copy, yaml.replace("namespace: ci", &format!("namespace: {own}"))).expect("it can be written");
    copy
}

/// What `examples/objects/namespaces.yaml` makes for a lease, under a name of its own.
fn the_same(name: &str) -> String {
    let blueprint = std::fs::read_to_string(support::leash::repository("examples/objects/namespaces.yaml"));
    let blueprint: serde_json::Value = serde_yaml::from_str(&blueprint.expect("an example")).expect("YAML");
    let driver = &blueprint["spec"]["driver"]["objects"];
    let templates = ["templates", "leaseTemplates"].into_iter().flat_map(|field| driver[field].as_array());
    let rendered = templates.flatten().map(|template| {
        template
            .to_string()
            .replace("env-${resource.metadata.name}", name)
            .replace("${lease.metadata.name}", name)
            .replace(
                "\"${lease.spec.subjects}\"",
                r#"[{"kind":"User","name":"alice","apiGroup":"rbac.authorization.k8s.io"}]"#,
            )
    });
    rendered.collect::<Vec<_>>().join("\n")
}
