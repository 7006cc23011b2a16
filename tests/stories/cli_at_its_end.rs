//! `drydock lease --wait` gives back what it has asked for, whatever ends it; and a restart of the API server does not end it.

use crate::{
    story_41_and_49_the_command_line::{Running, alices, drydock},
    support::{ControlPlane, Identity, Sandbox, controller::binary, install, sandbox::condition},
    told::{alone, apply, holds_throughout, lease},
};
use serde_json::json;
use tokio::process::Command;

const WAIT: [&str; 5] = ["lease", "--type", "host", "--wait", "build"];

#[tokio::test]
async fn each_signal_gives_back_and_is_told_by_the_exit_code() {
    let (sandbox, _controller) = alone("cli-signals").await;
    alices(&sandbox, 1, json!({})).await;
    apply(&sandbox, &lease("holder", json!({}))).await;
    sandbox.wait_phase("lease/holder", "Active").await;
    for (signal, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let name = format!("by-{}", signal.to_lowercase());
        // Who runs tests in the background lets them ignore some signals.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,TERM").arg(binary());
        let mut verb =
            Running::start_by(command, &sandbox, Identity::Alice, &["lease", "--type", "host", "--wait", &name]);
        verb.says(&format!("lease/{name}: Pending, place 1")).await;
        verb.signal(signal);
        verb.end().await.failed(code, &[&format!("lease/{name}: Release appended: interrupted before it was active")]);
        let over = sandbox.wait_phase(&format!("lease/{name}"), "Destroyed").await;
        assert_eq!(condition(&over, "Released"), ("True", "Released"));
    }

    // Under nohup it outlives its terminal.
    let mut command = Command::new("env");
    command.arg("--ignore-signal=HUP").arg(binary());
    let mut verb = Running::start_by(command, &sandbox, Identity::Alice, &WAIT);
    verb.says("lease/build: Pending, place 1").await;
    verb.signal("HUP");
    drydock(&sandbox, &["release-lease", "holder"]).await.done();
    assert_eq!(verb.end().await.done(), ["build"]);
    holds_throughout(&sandbox).await;
}

#[tokio::test]
async fn a_restart_of_the_api_server_ends_no_wait() {
    let plane = ControlPlane::start().await.unwrap();
    install::everything(&plane).await.unwrap();
    let sandbox = Sandbox::on(&plane, "cli-restart").await;
    sandbox.history().allow_gaps();
    let _controller = sandbox.controller().await;
    alices(&sandbox, 1, json!({})).await;
    apply(&sandbox, &lease("holder", json!({}))).await;
    sandbox.wait_phase("lease/holder", "Active").await;
    let mut waiting = Running::start(&sandbox, Identity::Alice, &WAIT);
    waiting.says("lease/build: Pending, place 1").await;
    let mut leaving = Running::start(&sandbox, Identity::Alice, &["lease", "--type", "host", "--wait", "gone"]);
    leaving.says("lease/gone: Pending, place 2").await;
    for _ in 0..2 {
        plane.restart_apiserver().await.unwrap();
    }
    // One is told to end just as the server goes away: it takes its lease back all the same.
    plane.knock_out(crate::support::controlplane::Server::ApiServer).await.unwrap();
    leaving.signal("TERM");
    plane.come_back(crate::support::controlplane::Server::ApiServer).await.unwrap();
    leaving.end().await.failed(143, &["lease/gone: Release appended: interrupted before it was active"]);
    drydock(&sandbox, &["release-lease", "holder"]).await.done();
    assert_eq!(waiting.end().await.done(), ["build"]);
    drop(sandbox);
    plane.stop().await.unwrap();
}
