//! What the controller tells of itself, and how it starts and ends; also where only the definitions are installed, and
//! nothing else.

use crate::{
    on_time::first,
    support::{
        ControlPlane, ControllerProcess, Identity, Sandbox, controller::binary, install, metrics, phase,
        sandbox::condition,
    },
    told::{alone, apply, command, holds_throughout, hosts, lease, message},
};
use serde_json::json;
use std::time::{Duration, Instant};

const FINALIZER: &str = "drydock.dev/teardown";

/// Waits until a page of the controller says this, and gives the status code and all of it.
async fn says(controller: &ControllerProcess, path: &str, words: &str) -> (u16, String) {
    let start = Instant::now();
    loop {
        let (code, body) = controller.get(path).await;
        if body.contains(words) {
            return (code, body);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{path} does not say {words:?}, but {code}: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn it_is_alive_but_not_ready_until_the_definitions_are_installed_and_says_what_it_waits_for() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &[], &[]);
    controller.listens().await;
    for kind in ["leases", "resources", "blueprints"] {
        let missing =
            format!("waiting for {kind} of all namespaces: the API server does not know {kind}: install the CRDs");
        let (code, body) = says(&controller, "/readyz", &missing).await;
        assert_eq!(code, 503, "{body}");
    }
    assert_eq!(controller.get("/livez").await, (200, "alive\n".to_owned()), "to restart it would help nobody");
    let (_, text) =
        says(&controller, "/metrics", r#"watch_last_ok_timestamp_seconds{kind="namespaces",scope="all namespaces"}"#)
            .await;
    let leases = r#"drydock_watch_last_ok_timestamp_seconds{kind="leases""#;
    assert!(
        !text.contains(leases),
        "a watch that is refused does not work, and the alert for it asks for this:\n{text}"
    );
    let complaints = controller.log().matches("install the CRDs").count();
    assert!(complaints <= 3, "it says so once for each kind, and not each second:\n{}", controller.log());

    install::crds(&plane).await.expect("the definitions are installed");
    controller.ready().await;
    assert_eq!(controller.get("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(controller.terminate().await.code(), Some(0));
    drop(controller);
    plane.stop().await.expect("all of it ends");
}

#[tokio::test]
async fn with_the_definitions_and_an_administrators_kubeconfig_alone_it_works_too() {
    let plane = ControlPlane::start().await.expect("a control plane of its own");
    install::crds(&plane).await.expect("the definitions are installed");
    let sandbox = Sandbox::on(&plane, "bare").await;
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &[], &[]);
    controller.ready().await;

    apply(&sandbox, &hosts(1, json!({}))).await;
    for name in ["a", "b"] {
        let applied = apply(&sandbox, &lease(name, json!({}))).await;
        assert_eq!(applied.metadata.finalizers, None, "nobody else puts it on");
    }
    sandbox.wait_phase("lease/a", "Active").await;
    // Without the policies nobody stamps commands: who asked is not known.
    command(&sandbox, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    let over = sandbox.wait_phase("lease/a", "Destroyed").await;
    assert_eq!(message(&over, "Released"), "by somebody unknown");
    sandbox.wait_phase("lease/b", "Active").await;
    // The history must have seen them before they are gone: it cannot know what it has missed.
    sandbox.history().caught_up().await;
    for object in ["lease/a", "lease/b", "blueprint/pool"] {
        sandbox.delete(Identity::Admin, object).await;
    }
    for object in ["lease/a", "lease/b", "resource/pool--h1", "blueprint/pool"] {
        sandbox.wait_gone(object).await;
    }
    holds_throughout(&sandbox).await;
    // Nothing has come of any of them before it was seen with the finalizer, and none went with it on.
    let has = |s: &crate::support::Seen| s.object.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
    for object in ["lease/a", "lease/b", "resource/pool--h1", "blueprint/pool"] {
        first(&sandbox, object, "with the finalizer", has);
    }
    let over =
        |s: &crate::support::Seen| phase(&s.object) == "Destroyed" || s.object.metadata.deletion_timestamp.is_some();
    sandbox
        .history()
        .never("begun without the finalizer", |s| !s.object.data["status"].is_null() && !has(s) && !over(s));
    assert_eq!(controller.terminate().await.code(), Some(0));
    drop(controller);
    plane.stop().await.expect("all of it ends");
}

#[tokio::test]
async fn what_it_has_done_is_counted_in_the_openmetrics_form() {
    let (sandbox, controller) = alone("metrics").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    for name in ["a", "b", "c"] {
        apply(&sandbox, &lease(name, json!({}))).await;
    }
    apply(&sandbox, &lease("late", json!({"queueTimeout": "1s"}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    sandbox.wait_phase("lease/late", "Destroyed").await;

    // The lease was destroyed when the API server had it; the controller learns of it with the answer.
    let (code, text) = says(&controller, "/metrics", r#"drydock_objects{kind="waiting"} 2"#).await;
    assert_eq!(code, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    let families: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(families.iter().all(|name| name.starts_with("drydock_")), "{families:?}");
    let told = |name: &str| text.lines().any(|l| l.starts_with(&format!("# HELP {name} ")));
    assert!(families.iter().all(|name| told(name)), "each says what it is:\n{text}");
    let sum = |metric: &str, labels: &[(&str, &str)]| metrics::sum(&text, metric, labels);
    for (kind, count) in [("leases", 4.0), ("resources", 1.0), ("blueprints", 1.0), ("waiting", 2.0)] {
        assert_eq!(sum("drydock_objects", &[("kind", kind)]), count, "{kind}:\n{text}");
    }
    assert!(sum("drydock_writes_total", &[("kind", "Lease"), ("verb", "status"), ("outcome", "Ok")]) >= 4.0, "{text}");
    assert!(
        sum("drydock_writes_total", &[("kind", "Resource"), ("verb", "create"), ("outcome", "Ok")]) == 1.0,
        "{text}"
    );
    assert!(sum("drydock_passes_total", &[]) > 4.0, "{text}");
    assert!(sum("drydock_deadline_lateness_seconds_count", &[]) >= 1.0, "{text}");
    for none in ["drydock_pass_errors_total", "drydock_malformed_objects_total", "drydock_events_dropped_total"] {
        assert_eq!(sum(none, &[]), 0.0, "{none}:\n{text}");
    }
    let now = jiff::Timestamp::now().as_second() as f64;
    for kind in ["leases", "resources", "blueprints", "namespaces"] {
        let last = sum("drydock_watch_last_ok_timestamp_seconds", &[("kind", kind)]);
        assert!((now - 120.0..=now + 1.0).contains(&last), "{kind}: {last} at {now}:\n{text}");
    }
    let pool = format!("{}/pool", sandbox.namespace());
    let pool = [("blueprint", pool.as_str())];
    for (metric, count) in [
        ("drydock_grants_total", 1.0),
        ("drydock_pool_waiting", 2.0),
        ("drydock_pool_limit", 1.0),
        ("drydock_pool_resources", 1.0),
    ] {
        assert_eq!(sum(metric, &pool), count, "{metric}:\n{text}");
    }
    assert_eq!(sum("drydock_pool_resources", &[pool[0], ("state", "leased")]), 1.0, "{text}");
    assert_eq!(sum("drydock_teardowns_failing", &[]), 0.0, "{text}");
    sandbox.delete(Identity::Admin, "lease/a").await;
    says(&controller, "/metrics", &format!("drydock_grants_total{{blueprint=\"{}\"}} 2", pool[0].1)).await;
    for (path, page) in [("/livez", (200, "alive\n")), ("/readyz", (200, "ready\n"))] {
        assert_eq!(controller.get(path).await, (page.0, page.1.to_owned()));
    }
    assert_eq!(controller.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn asked_to_stop_it_ends_with_0_and_the_next_one_goes_on() {
    let (sandbox, mut controller) = alone("sigterm").await;
    apply(&sandbox, &hosts(3, json!({}))).await;
    let names: Vec<String> = (0..30).map(|n| format!("l{n:02}")).collect();
    for name in &names {
        apply(&sandbox, &lease(name, json!({"ttl": "200ms"}))).await;
    }
    sandbox.wait_phase("lease/l05", "Destroyed").await;
    // In the middle of it.
    let status = controller.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", controller.log());
    assert!(controller.log().contains("stopping"), "{}", controller.log());
    assert!(sandbox.list("lease").await.iter().any(|l| phase(l) != "Destroyed"), "it was over before it was asked");
    controller.restart().await;
    for name in &names {
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Expired"));
    }
    holds_throughout(&sandbox).await;
}

/// What a controller says that cannot start, and its exit code.
async fn refused(plane: &ControlPlane, kubeconfig: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let started = tokio::process::Command::new(binary())
        .arg("controller")
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", plane.folder())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), started).await.expect("it ends").unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_controller_that_cannot_start_says_why_and_what_to_do() {
    let (sandbox, controller) = alone("no-start").await;
    let plane = sandbox.plane();
    let (code, said) = refused(plane, "/nowhere", &["--http-address", "127.0.0.1:0"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/nowhere") && said.contains("set KUBECONFIG, or run in a cluster"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");

    let taken = controller.address().to_string();
    let kubeconfig = plane.kubeconfig(Identity::Controller);
    let (code, said) = refused(plane, &kubeconfig.to_string_lossy(), &["--http-address", &taken]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("--http-address {taken}: ")) && said.contains("choose another"), "{said}");

    let (code, said) = refused(plane, "/nowhere", &["--http-address", "nonsense"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--http-address"), "{said}");
}
