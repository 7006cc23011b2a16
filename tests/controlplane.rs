//! The control plane that the other tests stand on is a real one, tells people apart, and leaves nothing behind.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::Request;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota, Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};

mod support;
use support::controlplane::Server;
use support::leash::{Leash, Plan, repository};
use support::{ControlPlane, Identity, metrics};

#[tokio::test]
async fn the_server_is_of_the_pinned_version() {
    let plane = support::shared().await;
    let version: serde_json::Value = serde_json::from_str(&plane.raw("/version").await.unwrap()).unwrap();
    let version = version["gitVersion"].as_str().unwrap();
    if std::env::var_os("KUBEBUILDER_ASSETS").is_some() {
        let minor = version.split('.').nth(1).unwrap();
        assert!(minor.parse::<u32>().unwrap() >= 36, "the server is of version {version}");
        return;
    }
    let pins = std::fs::read_to_string(repository("tools/controlplane/kubernetes/go.mod")).unwrap();
    let pinned = pins.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes ")).unwrap();
    assert_eq!(version, pinned.split(' ').next().unwrap());
}

#[tokio::test]
async fn everybody_is_who_they_should_be() {
    let plane = support::shared().await;
    for (identity, group) in [
        (Identity::Admin, "system:masters"),
        (Identity::Alice, "system:authenticated"),
        (Identity::Bob, "system:authenticated"),
    ] {
        let (user, groups) = who_am_i(plane.client(identity).await).await;
        assert_eq!(user, identity.user());
        assert!(groups.iter().any(|g| g == group), "{user} is in {groups:?}");
        assert_eq!(
            identity == Identity::Admin,
            groups.iter().any(|g| g == "system:masters"),
            "{user} is in {groups:?}"
        );
    }
}

#[tokio::test]
async fn the_controller_is_a_service_account() {
    let plane = support::shared().await;
    let (user, groups) = who_am_i(plane.client(Identity::Controller).await).await;
    assert_eq!(user, Identity::Controller.user());
    assert!(!groups.iter().any(|group| group == "system:masters"), "{user} is in {groups:?}");
}

#[tokio::test]
async fn an_ordinary_user_may_do_nothing() {
    let plane = support::shared().await;
    let secrets: Api<Secret> = Api::all(plane.client(Identity::Alice).await);
    let refused = secrets.list(&ListParams::default()).await;
    assert_eq!(code(refused), 403);
    for path in ["/apis/drydock.dev/v1alpha1/leases", "/api/v1/namespaces/default/secrets", "/metrics"] {
        let request = Request::get(path).body(vec![]).unwrap();
        assert_eq!(code(plane.client(Identity::Bob).await.request_text(request).await), 403, "{path}");
    }

    let secrets: Api<Secret> = Api::all(plane.client(Identity::Admin).await);
    secrets.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_deleted_namespace_is_seen_gone() {
    let plane = support::shared().await;
    let namespaces: Api<Namespace> = Api::all(plane.client(Identity::Admin).await);
    let namespace = namespaces.create(&PostParams::default(), &named("short-lived")).await.unwrap();
    namespaces.delete("short-lived", &DeleteParams::default()).await.unwrap();
    let uid = namespace.uid().unwrap();
    let gone = kube::runtime::conditions::is_deleted(&uid);
    // The namespace controller waits five seconds before it looks.
    tokio::time::timeout(Duration::from_secs(60), await_condition(namespaces, "short-lived", gone))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_servers_metrics_count_each_write() {
    let plane = support::shared().await;
    // Of a kind that no other test writes.
    let labels = [("resource", "resourcequotas"), ("verb", "POST"), ("code", "201")];
    let written = async || metrics::sum(&plane.raw("/metrics").await.unwrap(), "apiserver_request_total", &labels);
    assert_eq!(written().await, 0.0);
    let quotas: Api<ResourceQuota> = Api::namespaced(plane.client(Identity::Admin).await, "default");
    for name in ["a", "b"] {
        quotas.create(&PostParams::default(), &named(name)).await.unwrap();
    }
    // The server counts a request when it has answered it.
    let counted = async {
        while written().await < 2.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.unwrap();
    assert_eq!(written().await, 2.0);
}

#[tokio::test]
async fn a_restart_of_the_api_server_keeps_objects_and_tokens() {
    let plane = ControlPlane::start().await.unwrap();
    let client = plane.client(Identity::Admin).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = maps.create(&PostParams::default(), &named("kept")).await.unwrap();
    let (url, pids) = (plane.url(), plane.pids().await.unwrap());

    plane.restart_apiserver().await.unwrap();

    assert_eq!(plane.url(), url);
    let after = plane.pids().await.unwrap();
    assert_eq!(pids.iter().filter(|pid| !after.contains(pid)).count(), 1, "{pids:?}, then {after:?}");
    assert_eq!(maps.get("kept").await.unwrap().uid(), map.uid(), "the same client goes on");
    assert_eq!(who_am_i(plane.client(Identity::Alice).await).await.0, "alice");

    let folder = plane.folder().to_owned();
    plane.stop().await.unwrap();
    assert!(!folder.exists(), "{} is still there", folder.display());
    assert_eq!(running(&after), Vec::<u32>::new());
}

#[tokio::test]
async fn what_is_killed_comes_back_with_all_that_was_stored() {
    let plane = ControlPlane::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(Identity::Admin).await, "default");
    for server in [Server::ApiServer, Server::Etcd] {
        let name = format!("{server:?}").to_lowercase();
        maps.create(&PostParams::default(), &named(&name)).await.unwrap();
        let before = plane.pids().await.unwrap();
        plane.knock_out(server).await.unwrap();
        assert_eq!(running(&before).len(), 2, "one of the three is away");
        plane.come_back(server).await.unwrap();
        assert_eq!(running(&plane.pids().await.unwrap()).len(), 3);
        maps.get(&name).await.unwrap();
    }
    plane.knock_out(Server::Etcd).await.unwrap();
    let folder = plane.folder().to_owned();
    plane.stop().await.unwrap();
    assert!(!folder.exists(), "{} is still there", folder.display());
}

#[test]
fn nothing_stays_when_the_tests_are_killed_outright() {
    let child = Inner::start("wait");
    child.signal("KILL", &child.process.id().to_string());
    child.ends_in_order();
}

#[test]
fn nothing_stays_after_an_interrupt_from_the_keyboard() {
    let child = Inner::start("wait");
    child.signal("INT", &format!("-{}", child.process.id())); // to the whole group, as a terminal does
    child.ends_in_order();
}

#[test]
fn nothing_stays_after_a_test_that_fails() {
    Inner::start("fail").ends_in_order();
}

#[tokio::test]
async fn a_program_that_will_not_end_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]);
    let plan = Plan { name: "deaf", folder: folder.path(), command, outlived_by: None, removes: None };
    let mut leash = Leash::start(plan).unwrap();
    let pid = leash.pid().unwrap();
    while leash.tail(1) != "deaf" {
        std::thread::sleep(Duration::from_millis(10));
    }
    leash.signal("TERM").unwrap();
    assert_eq!(running(&[pid]), [pid]);

    assert_eq!(leash.end().await.unwrap().code(), Some(128 + 9));
    assert_eq!(running(&[pid]), Vec::<u32>::new());
}

/// The test that [`Inner`] runs in a process of its own; alone it does nothing.
#[tokio::test]
async fn inner() {
    let Ok(task) = std::env::var("DRYDOCK_TEST_INNER") else {
        return;
    };
    let plane = ControlPlane::start().await.unwrap();
    println!("FOLDER={}", plane.folder().display());
    println!("PIDS={:?}", plane.pids().await.unwrap());
    assert_eq!(task, "wait", "fails, as it should");
    std::future::pending().await
}

/// A process like this one, which has started a control plane.
struct Inner {
    process: Child,
    folder: PathBuf,
    /// etcd, kube-apiserver and kube-controller-manager.
    pids: Vec<u32>,
}

impl Inner {
    fn start(task: &str) -> Inner {
        use std::io::BufRead as _;
        use std::os::unix::process::CommandExt as _;
        // Whoever started these tests in the background has them ignore ^C, and what they start, too: there env(1) takes that
        // back, where it can.
        let exe = std::env::current_exe().unwrap();
        let default = ["--default-signal=INT"];
        let can = Command::new("env").args(default).arg("true").stderr(Stdio::null()).status();
        let mut command = if can.is_ok_and(|status| status.success()) {
            let mut command = Command::new("env");
            command.args(default).arg(exe);
            command
        } else {
            Command::new(exe)
        };
        let mut process = command
            .args(["--exact", "inner", "--nocapture", "--test-threads=1"])
            .env("DRYDOCK_TEST_INNER", task)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
        let mut find = |name: &str| {
            loop {
                let line = lines.next().unwrap_or_else(|| panic!("it said no {name}, but:\n{said}")).unwrap();
                said += &format!("{line}\n");
                // The test harness writes the test's name in front of its first line.
                if let Some((_, value)) = line.split_once(&format!("{name}=")) {
                    return value.to_owned();
                }
            }
        };
        let folder = PathBuf::from(find("FOLDER"));
        let pids: Vec<u32> = serde_json::from_str(&find("PIDS")).unwrap();
        assert_eq!(pids.len(), 3);
        if task == "wait" {
            assert!(folder.exists());
            assert_eq!(running(&pids), pids);
        }
        Inner { process, folder, pids }
    }

    fn signal(&self, signal: &str, whom: &str) {
        assert!(Command::new("kill").args(["-s", signal, "--", whom]).status().unwrap().success());
    }

    /// Waits until all that it started is gone, and watches that etcd never goes before the API server.
    fn ends_in_order(mut self) {
        let start = Instant::now();
        loop {
            // In this order: etcd may go between the two looks, but only once the API server has.
            let etcd_gone = running(&self.pids[..1]).is_empty();
            let rest = running(&self.pids[1..]);
            assert!(!etcd_gone || rest.is_empty(), "etcd has gone before {rest:?}");
            if etcd_gone && !self.folder.exists() {
                break;
            }
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(60), "{:?} or {} stay", self.pids, self.folder.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!self.process.wait().unwrap().success());
    }
}

/// Which of these processes are there.
fn running(pids: &[u32]) -> Vec<u32> {
    let there = |pid: &u32| {
        let asked = Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status();
        asked.unwrap().success()
    };
    pids.iter().copied().filter(there).collect()
}

async fn who_am_i(client: Client) -> (String, Vec<String>) {
    let review = Api::all(client).create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let user = review.status.unwrap().user_info.unwrap();
    (user.username.unwrap(), user.groups.unwrap())
}

fn named<K: kube::Resource<DynamicType = ()> + Default>(name: &str) -> K {
    let mut object = K::default();
    *object.meta_mut() = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
    object
}

fn code<T>(answer: kube::Result<T>) -> u16 {
    match answer {
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
        Ok(_) => 200,
    }
}
