//! `make demo`: Drydock's main job, end to end, on a real API server. It tells the story as it happens, checks what it
//! tells, and leaves nothing running and no file behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use kube::api::DynamicObject;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

#[path = "../../tests/support/mod.rs"]
mod support;
use support::{
    ControlPlane, Identity, Sandbox, install, phase,
    sandbox::{Rights, condition},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let started = Instant::now();
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        _ => return ExitCode::FAILURE,
    };
    println!("Drydock leases two hosts to three builds, and a namespace to a job, on a real API server of its own.\n");
    let plane = match ControlPlane::start().await {
        Ok(plane) => plane,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let teller = Teller { started };
    teller.tell(&format!("a control plane is up at {}: etcd, kube-apiserver, kube-controller-manager", plane.url()));
    let outcome = tokio::select! {
        biased;
        told = AssertUnwindSafe(story(&plane, &teller)).catch_unwind() => told.is_ok(),
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
    };
    let folder = plane.folder().to_owned();
    let ended = plane.stop().await.is_ok() && !folder.exists();
    teller.tell(if ended { "everything that was started has ended, its folder is gone" } else { "not all has ended" });
    if outcome && ended {
        println!("\nAll of it happened as told, in {:.0} s.", started.elapsed().as_secs_f64());
        return ExitCode::SUCCESS;
    }
    eprintln!("\nThe demo did not go as it should.");
    ExitCode::FAILURE
}

/// Tells what happens, with the time since the start.
struct Teller {
    started: Instant,
}

impl Teller {
    fn tell(&self, what: &str) {
        println!("{:6.1} s  {what}", self.started.elapsed().as_secs_f64());
    }

    fn chapter(&self, title: &str) {
        println!("\n{title}");
    }

    async fn show(&self, sandbox: &Sandbox<'_>) {
        for line in kubectl(sandbox, &["get", "drydock"]).await.lines() {
            println!("          | {line}");
        }
    }
}

/// As an ordinary user, in the demo's namespace.
async fn kubectl(sandbox: &Sandbox<'_>, arguments: &[&str]) -> String {
    let arguments = [&["--namespace", sandbox.namespace()], arguments].concat();
    let answer = sandbox.plane().run_kubectl(Identity::Alice, &arguments).await;
    answer.unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
}

async fn story(plane: &ControlPlane, teller: &Teller) {
    install::everything(plane).await.expect("Drydock is installed");
    teller.tell("kubectl apply -f install.yaml: the three kinds, the account and the policies are in effect");
    let sandbox = Sandbox::on(plane, "demo").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    let mut controller = sandbox.controller().await;
    teller.tell(&format!("the controller is ready, as its own service account, at http://{}", controller.address()));

    served(&sandbox, teller).await;
    released(&sandbox, teller).await;
    expires(&sandbox, teller).await;
    host_expires(&sandbox, teller).await;
    namespace_for_a_job(&sandbox, teller).await;

    teller.chapter("The end");
    let status = controller.terminate().await;
    assert!(status.success(), "the controller ended with {status}");
    teller.tell("the controller was asked to stop, and did");
}

/// Two hosts, three leases; the third waits, and says why.
async fn served(sandbox: &Sandbox<'_>, teller: &Teller) {
    teller.chapter("Two hosts, three leases");
    let examples = support::leash::repository("examples");
    kubectl(sandbox, &["apply", "-f", &examples.to_string_lossy()]).await;
    teller.tell("alice: kubectl apply -f examples/");
    for name in ["build-1", "build-2"] {
        let lease = sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
        let ssh = &lease.data["status"]["interfaces"][0];
        let access = format!("{}@{}:{}", text(&ssh["user"]), text(&ssh["address"]), ssh["port"]);
        teller.tell(&format!("{name} is Active on {}: {access}, until {}", bound_to(&lease), end(&lease)));
    }
    let waits = |l: &DynamicObject| l.data["status"]["queuePosition"] == 1 && condition(l, "Acquired").0 == "False";
    let waiting = sandbox.wait_for("lease/build-3", "waiting at place 1", waits).await;
    let (_, reason) = condition(&waiting, "Acquired");
    assert_eq!(reason, "AtCapacity");
    teller.tell(&format!("build-3 waits at place 1: {reason}: {}", message(&waiting, "Acquired")));
    teller.show(sandbox).await;
}

/// A release through the queue, and the waiting lease is served.
async fn released(sandbox: &Sandbox<'_>, teller: &Teller) {
    teller.chapter("A release serves the one that waits");
    let freed = bound_to(&sandbox.get("lease/build-1").await);
    let command = json!([{"op": "add", "path": "/spec/commands/-",
        "value": {"id": "done", "type": "Release", "reason": "build finished"}}]);
    kubectl(sandbox, &["patch", "leases.drydock.dev", "build-1", "--type=json", "-p", &command.to_string()]).await;
    teller.tell("alice appends a Release to build-1's command queue, with kubectl patch");
    let over = sandbox.wait_phase("lease/build-1", "Destroyed").await;
    let entry = &over.data["status"]["commands"][0];
    assert_eq!((text(&entry["id"]), text(&entry["outcome"])), ("done", "Applied"));
    teller.tell(&format!(
        "build-1 is Destroyed; its ledger says: {} {}, issued by {}",
        text(&entry["id"]),
        text(&entry["outcome"]),
        text(&entry["issuedBy"])
    ));
    let next = sandbox.wait_phase("lease/build-3", "Active").await;
    assert_eq!(bound_to(&next), freed, "it has the host that became free");
    teller.tell(&format!("build-3 is Active on {freed}, the host that became free"));
}

/// A lease with a deadline seconds ahead expires then, and not before.
async fn expires(sandbox: &Sandbox<'_>, teller: &Teller) {
    teller.chapter("A lease expires");
    kubectl(sandbox, &["delete", "leases.drydock.dev", "build-2"]).await;
    teller.tell("alice deletes build-2: it is released first, and gone when it is torn down");
    let deadline = jiff::Timestamp::now() + Duration::from_secs(4);
    let lease = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "quick"},
        "spec": {"resourceType": "host", "expiresAt": deadline},
    });
    sandbox.apply(Identity::Alice, &lease.to_string()).await;
    let active = sandbox.wait_phase("lease/quick", "Active").await;
    teller.tell(&format!("quick is Active on {}, and expires at {deadline:.3}", bound_to(&active)));
    let over = sandbox.wait_phase("lease/quick", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    let released: jiff::Timestamp = text(&over.data["status"]["releasedAt"]).parse().expect("an instant");
    let late = released.duration_since(deadline);
    assert!(!late.is_negative(), "released {late:?} after its deadline");
    teller.tell(&format!("quick is Released (Expired) {} ms after its deadline, and Destroyed", late.as_millis()));
}

/// A host expires, its lease with it; the next lease has it made anew.
async fn host_expires(sandbox: &Sandbox<'_>, teller: &Teller) {
    teller.chapter("A host expires, and comes back");
    let lease = sandbox.get("lease/build-3").await;
    let host = bound_to(&lease);
    let object = format!("resource/{host}");
    let before = sandbox.get(&object).await;
    let command = json!([{"op": "add", "path": "/spec/commands/-",
        "value": {"id": "maintenance", "type": "Expires", "after": "2s"}}]);
    kubectl(sandbox, &["patch", "resources.drydock.dev", &host, "--type=json", "-p", &command.to_string()]).await;
    teller.tell(&format!("alice sets {host} to expire in 2 s, with build-3 on it"));
    let over = sandbox.wait_phase("lease/build-3", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "ResourceReleased"));
    teller.tell(&format!("build-3 ends with it: {}", message(&over, "Released")));
    let uid = before.metadata.uid.clone();
    sandbox.wait_gone(&object).await;
    teller.tell(&format!("{host} is torn down and gone"));

    let attributes = &before.data["spec"]["attributes"];
    let again = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "again"},
        "spec": {"resourceType": "host", "selector": {"matchLabels": attributes}},
    });
    sandbox.apply(Identity::Alice, &again.to_string()).await;
    let active = sandbox.wait_phase("lease/again", "Active").await;
    assert_eq!(bound_to(&active), host, "only that host has these attributes");
    let now = sandbox.get(&object).await;
    assert_ne!(now.metadata.uid, uid, "it is a new resource");
    assert_eq!(phase(&now), "Active");
    teller.tell(&format!("a lease asks for just that host: {host} is made anew, and again is Active on it"));
    teller.show(sandbox).await;
}

/// A namespace is built for a lease, used by who holds it, and seen gone when the lease has expired; what still holds it
/// is told meanwhile.
async fn namespace_for_a_job(sandbox: &Sandbox<'_>, teller: &Teller) {
    teller.chapter("A namespace for one CI job");
    for file in ["account.yaml", "namespaces.yaml"] {
        let copy = example(sandbox, file);
        let apply = ["apply", "-f", &copy.to_string_lossy()];
        sandbox.plane().run_kubectl(Identity::Admin, &apply).await.expect("it is applied");
        teller.tell(&format!("an administrator: kubectl apply -f examples/objects/{file}"));
    }
    let deadline = jiff::Timestamp::now() + Duration::from_secs(6);
    let lease = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "job-1"},
        "spec": {"resourceType": "namespace", "expiresAt": deadline,
            "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}]},
    });
    sandbox.apply(Identity::Alice, &lease.to_string()).await;
    let active = sandbox.wait_phase("lease/job-1", "Active").await;
    let made = text(&active.data["status"]["outputs"]["namespace"]).to_owned();
    teller.tell(&format!("alice leases one: job-1 is Active, status.outputs.namespace is {made}"));
    let as_alice = async |arguments: &[&str]| sandbox.plane().run_kubectl(Identity::Alice, arguments).await;
    let note = ["--namespace", &made, "create", "configmap", "notes", "--from-literal=result=green"];
    as_alice(&note).await.expect("who holds the lease may work there");
    let listed =
        as_alice(&["--namespace", &made, "get", "quota,limitrange,configmap", "--no-headers", "-o", "name"]).await;
    for line in listed.expect("who holds the lease may look").lines() {
        teller.tell(&format!("alice finds in it: {line}"));
    }
    let hold = json!({"metadata": {"finalizers": ["example.com/backup"]}}).to_string();
    let patch = async |patch: String| {
        let arguments = ["--namespace", &made, "patch", "resourcequota", "quota", "--type=merge", "-p", &patch];
        sandbox.plane().run_kubectl(Identity::Admin, &arguments).await.expect("the finalizer is changed");
    };
    patch(hold).await;
    teller.tell("a backup puts its finalizer on the quota, one of the templated objects");

    let over = sandbox.wait_phase("lease/job-1", "Destroyed").await;
    assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    teller.tell("job-1 has expired, and alice's rights in the namespace are gone:");
    let refused = as_alice(&["--namespace", &made, "get", "configmaps"]).await.expect_err("alice may no more");
    teller.tell(&format!("  {}", refused.to_string().lines().last().unwrap_or_default().trim()));
    let name = format!("resource/{}", bound_to(&over));
    let held = |r: &DynamicObject| message(r, "TornDown").contains("example.com/backup");
    let remains = sandbox.wait_for(&name, "held by the finalizer", held).await;
    assert_eq!(phase(&remains), "Released", "it is not destroyed before it is gone");
    teller.tell(&format!("its Resource is Released, not Destroyed: {}", message(&remains, "TornDown")));
    patch(json!({"metadata": {"finalizers": null}}).to_string()).await;
    teller.tell("the backup takes its finalizer off");
    sandbox.wait_gone(&name).await;
    let namespaces = sandbox.plane().run_kubectl(Identity::Admin, &["get", "namespaces", "-o", "name"]).await;
    assert!(!namespaces.expect("namespaces are listed").contains(&made), "it was seen gone");
    teller.tell(&format!("the namespace {made} is seen gone, and so its Resource is"));
}

/// A copy of a file of `examples/objects`, for the demo's namespace; it goes with the demo's folder.
fn example(sandbox: &Sandbox<'_>, file: &str) -> PathBuf {
    let yaml = std::fs::read_to_string(support::leash::repository("examples/objects").join(file)).expect("an example");
    let own = sandbox.namespace();
    let (_, yaml) = yaml.split_once("metadata: {name: ci}\n---\n").unwrap_or(("", &yaml));
    let copy = sandbox.plane().folder().join(file);
    std::fs::write(&copy, yaml.replace("namespace: ci", &format!("namespace: {own}"))).expect("it can be written");
    copy
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn bound_to(lease: &DynamicObject) -> String {
    text(&lease.data["status"]["resourceRef"]["name"]).to_owned()
}

fn end(lease: &DynamicObject) -> String {
    text(&lease.data["status"]["expiresAt"]).to_owned()
}

fn message<'o>(object: &'o DynamicObject, type_: &str) -> &'o str {
    let conditions = object.data["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|c| c["type"] == type_));
    found.and_then(|c| c["message"].as_str()).unwrap_or_default()
}
