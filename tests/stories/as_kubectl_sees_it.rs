//! Drydock's kinds through kubectl: they behave as a Kubernetes user expects.

use crate::{
    support::{ControlPlane, Identity, Rights, Sandbox, sandbox::condition},
    told::{alone, apply, command, holds_throughout, hosts, lease},
};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Runs kubectl in the sandbox's namespace as somebody. What it said on standard error is the error.
async fn kubectl(sandbox: &Sandbox<'_>, who: Identity, arguments: &[&str]) -> Result<String, String> {
    let arguments = [&["--namespace", sandbox.namespace()], arguments].concat();
    sandbox.plane().run_kubectl(who, &arguments).await.map_err(|error| error.to_string())
}

/// The same as Alice, who may do so.
async fn alice(sandbox: &Sandbox<'_>, arguments: &[&str]) -> String {
    kubectl(sandbox, Identity::Alice, arguments).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A file with these objects, for `kubectl apply`. It goes with the control plane.
fn file(sandbox: &Sandbox<'_>, objects: &[String]) -> String {
    let path = sandbox.plane().folder().join(format!("{}.yaml", sandbox.namespace()));
    fs::write(&path, format!("---\n{}\n", objects.join("\n---\n"))).unwrap();
    path.to_string_lossy().into_owned()
}

/// The cells of a table, by the words of its head.
fn table(text: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let mut starts: Vec<(usize, &str)> = vec![];
    for word in head.split_whitespace() {
        let from = starts.last().map_or(0, |(start, word)| start + word.len());
        starts.push((from + head[from..].find(word).unwrap(), word));
    }
    let cell = |line: &str, n: usize| {
        let end = starts.get(n + 1).map_or(line.len(), |(start, _)| (*start).min(line.len()));
        line.get(starts[n].0..end).unwrap_or_default().trim().to_owned()
    };
    lines.map(|line| (0..starts.len()).map(|n| (starts[n].1.to_owned(), cell(line, n))).collect()).collect()
}

fn cell<'t>(row: &'t [(String, String)], head: &str) -> &'t str {
    row.iter().find(|(name, _)| name == head).map_or("no such column", |(_, cell)| cell)
}

#[tokio::test]
async fn kubectl_waits_until_a_lease_is_ready() {
    let (sandbox, _controller) = alone("kubectl-wait").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    apply(&sandbox, &lease("x", json!({}))).await;
    sandbox.wait_phase("lease/x", "Pending").await;
    let wait = |condition: &'static str, limit: &'static str| {
        let sandbox = &sandbox;
        async move {
            let wait = ["wait", &format!("--for=condition={condition}"), limit, "leases.drydock.dev/x"];
            kubectl(sandbox, Identity::Alice, &wait).await
        }
    };
    for condition in ["Ready", "Settled"] {
        let waits = wait(condition, "--timeout=1s").await.expect_err("it waits for a host");
        assert!(waits.contains("timed out waiting for the condition on leases/x"), "{waits}");
    }
    let pool = hosts(1, json!({}));
    let both = async { tokio::join!(wait("Ready", "--timeout=60s"), wait("Settled", "--timeout=60s")) };
    let ((ready, settled), _) = tokio::join!(both, apply(&sandbox, &pool));
    for said in [ready, settled] {
        assert_eq!(said.expect("it is served"), "lease.drydock.dev/x condition met\n");
    }
    assert_eq!(sandbox.get("lease/x").await.data["status"]["phase"], "Active");
}

#[tokio::test]
async fn kubectl_waits_no_longer_where_there_is_nothing_to_wait_for() {
    let (sandbox, _controller) = alone("kubectl-settled").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    apply(&sandbox, &lease("x", json!({"queueTimeout": "1s"}))).await;
    let wait = ["wait", "--for=condition=Settled", "--timeout=60s", "leases.drydock.dev/x"];
    assert_eq!(alice(&sandbox, &wait).await, "lease.drydock.dev/x condition met\n");
    let over = sandbox.get("lease/x").await;
    assert_eq!(condition(&over, "Settled"), ("True", "QueueTimeout"));
    assert_eq!(condition(&over, "Ready"), ("False", "QueueTimeout"));
    // Which of the two it was is one more question, with an answer at once.
    let ready = ["wait", "--for=condition=Ready", "--timeout=0s", "dlease/x"];
    kubectl(&sandbox, Identity::Alice, &ready).await.expect_err("it is not ready");
    // An append in between makes nothing hang: there is no observedGeneration to wait for.
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("y", json!({}))).await;
    sandbox.wait_phase("lease/y", "Active").await;
    command(&sandbox, "lease/y", json!({"id": "e1", "type": "Expires", "after": "1h"})).await;
    alice(&sandbox, &["wait", "--for=condition=Ready", "--timeout=30s", "dlease/y"]).await;
    let phase = ["wait", "--for=jsonpath={.status.phase}=Active", "--timeout=30s", "dlease/y"];
    alice(&sandbox, &phase).await;
}

#[tokio::test]
async fn kubectl_gets_all_kinds_by_their_category_and_each_by_its_short_name() {
    let (sandbox, _controller) = alone("kubectl-get").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("x", json!({"expiresAt": "2100-01-01T00:00:00Z"}))).await;
    sandbox.wait_phase("lease/x", "Active").await;
    apply(&sandbox, &lease("y", json!({}))).await;
    sandbox.wait_for("lease/y", "in the queue", |l| l.data["status"]["queuePosition"] == 1).await;
    let counted =
        |b: &kube::api::DynamicObject| b.data["status"]["waiting"] == 1 && b.data["status"]["resources"]["leased"] == 1;
    sandbox.wait_for("blueprint/pool", "counted", counted).await;

    let names = alice(&sandbox, &["get", "drydock", "-o", "name"]).await;
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    let expected =
        ["blueprint.drydock.dev/pool", "lease.drydock.dev/x", "lease.drydock.dev/y", "resource.drydock.dev/pool--h1"];
    assert_eq!(names, expected);
    let all = alice(&sandbox, &["get", "drydock"]).await;
    assert!(expected.iter().all(|name| all.contains(name)), "{all}");

    let leases = table(&alice(&sandbox, &["get", "dlease"]).await);
    for (row, cells) in leases.iter().zip([
        [
            ("NAME", "x"),
            ("TYPE", "host"),
            ("PHASE", "Active"),
            ("PLACE", ""),
            ("RESOURCE", "pool--h1"),
            ("EXPIRES", "2100-01-01T00:00:00.000000Z"),
            ("REASON", "Active"),
        ],
        [
            ("NAME", "y"),
            ("TYPE", "host"),
            ("PHASE", "Pending"),
            ("PLACE", "1"),
            ("RESOURCE", ""),
            ("EXPIRES", ""),
            ("REASON", "Waiting"),
        ],
    ]) {
        for (head, expected) in cells {
            assert_eq!(cell(row, head), expected, "{head} in {row:?}");
        }
        assert_ne!(cell(row, "AGE"), "");
    }
    let resources = table(&alice(&sandbox, &["get", "dres"]).await);
    for (head, expected) in [
        ("NAME", "pool--h1"),
        ("TYPE", "host"),
        ("BLUEPRINT", "pool"),
        ("PHASE", "Active"),
        ("HOLDER", "x"),
        ("REASON", "Active"),
    ] {
        assert_eq!(cell(&resources[0], head), expected, "{head}");
    }
    let blueprints = table(&alice(&sandbox, &["get", "dbp"]).await);
    for (head, expected) in
        [("NAME", "pool"), ("TYPE", "host"), ("LEASED", "1"), ("IDLE", "0"), ("WAITING", "1"), ("READY", "True")]
    {
        assert_eq!(cell(&blueprints[0], head), expected, "{head}");
    }
    let active = ["get", "leases.drydock.dev", "--field-selector", "status.phase=Active", "-o", "name"];
    assert_eq!(alice(&sandbox, &active).await, "lease.drydock.dev/x\n");
}

/// The API server publishes the schema of a new kind a while after it serves it.
async fn explain(plane: &ControlPlane, field: &str) -> String {
    let start = Instant::now();
    loop {
        match plane.run_kubectl(Identity::Admin, &["explain", field]).await {
            // It breaks lines where it likes.
            Ok(said) => return said.split_whitespace().collect::<Vec<_>>().join(" "),
            Err(error) => assert!(start.elapsed() < Duration::from_secs(30), "{error}"),
        }
    }
}

#[tokio::test]
async fn kubectl_explains_what_a_user_needs_to_know() {
    let plane = crate::support::shared().await;
    for (field, words) in [
        (
            "leases.drydock.dev.spec.commands",
            &[
                "command queue",
                "at most 64",
                "/spec/commands/-",
                "status.commands",
                "<[]Object>",
                "type <string> -required-",
                "enum: Release, Expires, Reclaim, Forget",
                "Leave it out; a forged one is refused",
            ][..],
        ),
        ("leases.drydock.dev.spec.queueTimeout", &["0s", "give up"]),
        ("leases.drydock.dev.status.conditions", &["Settled"]),
        ("resources.drydock.dev", &["Made by the controller"]),
        ("blueprints.drydock.dev.spec.limits.leasesPerResource", &["at most 64", "Default: 1"]),
        ("dbp.spec.driver", &["exactly one"]),
    ] {
        let said = explain(plane, field).await;
        let words = words.iter().filter(|words| !said.contains(**words)).collect::<Vec<_>>();
        assert!(words.is_empty(), "{field} does not say {words:?}:\n{said}");
        assert!(!said.contains("<no description>"), "{said}");
    }
}

#[tokio::test]
async fn kubectl_applies_in_any_order_and_applied_again_nothing_changes() {
    let (sandbox, _controller) = alone("kubectl-apply").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    let objects = [lease("x", json!({"ttl": "1h"})), hosts(1, json!({"lease": {"maxTTL": "4h"}}))];
    let file = file(&sandbox, &objects);
    let said = alice(&sandbox, &["apply", "-f", &file]).await;
    assert_eq!(said, "lease.drydock.dev/x created\nblueprint.drydock.dev/pool created\n");
    sandbox.wait_phase("lease/x", "Active").await;

    // As its help says, on a lease that was applied without a queue.
    let append = |id: &str, more: Value| {
        let mut value = json!({"id": id});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([{"op": "add", "path": "/spec/commands/-", "value": value}]).to_string()
    };
    let longer = append("longer", json!({"type": "Expires", "after": "2h"}));
    alice(&sandbox, &["patch", "dlease", "x", "--type=json", "-p", &longer]).await;
    crate::told::outcome(&sandbox, "lease/x", "longer").await;
    let before = sandbox.get("lease/x").await;
    let said = alice(&sandbox, &["apply", "-f", &file]).await;
    assert_eq!(said, "lease.drydock.dev/x unchanged\nblueprint.drydock.dev/pool unchanged\n");
    let after = sandbox.get("lease/x").await;
    assert_eq!((after.metadata.resource_version, after.data), (before.metadata.resource_version, before.data));

    // Deleted, it is gone when kubectl comes back.
    let said = alice(&sandbox, &["delete", "dlease", "x", "--timeout=60s"]).await;
    assert!(said.contains(r#"lease.drydock.dev "x" deleted"#), "{said}");
    assert!(sandbox.try_get("lease/x").await.is_none());
    alice(&sandbox, &["delete", "-f", &file, "--ignore-not-found", "--timeout=60s"]).await;
    assert!(sandbox.try_get("blueprint/pool").await.is_none());
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn kubectl_scales_what_is_kept_ready() {
    let (sandbox, _controller) = alone("kubectl-scale").await;
    apply(&sandbox, &hosts(2, json!({}))).await;
    let scale = ["scale", "blueprint/pool", "--replicas=1"];
    let said = kubectl(&sandbox, Identity::Admin, &scale).await.expect("it is scaled");
    assert_eq!(said, "blueprint.drydock.dev/pool scaled\n");
    assert_eq!(sandbox.get("blueprint/pool").await.data["spec"]["limits"]["minReady"], 1);
    sandbox.wait_phase("resource/pool--h1", "Active").await;
    sandbox.wait_for("blueprint/pool", "counted", |b| b.data["status"]["resources"]["idle"] == 1).await;
    let replicas = ["get", "blueprint/pool", "--subresource=scale", "-o", "jsonpath={.status.replicas}"];
    assert_eq!(kubectl(&sandbox, Identity::Admin, &replicas).await.expect("it has a scale"), "1");
}

#[tokio::test]
async fn kubectl_tells_what_is_wrong_and_what_to_do() {
    let (sandbox, _controller) = alone("kubectl-wrong").await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("x", json!({"ttl": "1h"}))).await;
    sandbox.wait_phase("lease/x", "Active").await;
    let patch = |patch: Value| {
        let sandbox = &sandbox;
        async move {
            let arguments = ["patch", "dlease", "x", "--type=merge", "-p", &patch.to_string()];
            kubectl(sandbox, Identity::Alice, &arguments).await.expect_err("it is refused")
        }
    };
    for (wrong, words) in [
        (json!({"spec": {"ttl": "2h"}}), "ttl is immutable; append the command Expires, or move expiresAt"),
        (
            json!({"spec": {"queueTimeout": "1s"}}),
            "only priority, expiresAt, ttlAfterDestroyed, heartbeat and commands may change; create another lease",
        ),
        (
            json!({"spec": {"commands": [{"id": "a", "type": "Expires"}]}}),
            "Expires takes exactly one of at, after and never: true",
        ),
    ] {
        let said = patch(wrong.clone()).await;
        assert!(said.contains(words), "{wrong}: {said}");
    }
    let status =
        ["patch", "dlease", "x", "--type=merge", "--subresource=status", "-p", r#"{"status":{"phase":"Active"}}"#];
    let said = kubectl(&sandbox, Identity::Admin, &status).await.expect_err("it is refused");
    assert!(
        said.contains("only the Drydock controller writes it; append a command to spec.commands instead"),
        "{said}"
    );
}
