//! What `helm test` does, without a node: its objects are applied, and its Pod's containers run one after the other as processes,
//! with the rights of its account and no others.

use serde_json::{Value, json};

use crate::helm::{get, is_hook, template};
use crate::support::controller::binary;
use crate::support::{ControlPlane, ControllerProcess, Identity, install, shared};

/// A kubeconfig of a service account.
async fn kubeconfig_of(plane: &ControlPlane, account: &str) -> std::path::PathBuf {
    let create = ["create", "token", account, "--namespace=drydock-system"];
    let token = plane.run_kubectl(Identity::Admin, &create).await.unwrap();
    let config = std::fs::read_to_string(plane.kubeconfig(Identity::Admin)).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["users"][0]["user"]["token"] = json!(token.trim());
    let path = plane.folder().join(format!("{account}.kubeconfig"));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn helms_test_leases_something_and_gives_it_back() {
    leases_something_and_gives_it_back(shared().await, &template(&[]).unwrap()).await;
}

/// Runs the test of what was rendered, twice.
pub async fn leases_something_and_gives_it_back(plane: &ControlPlane, rendered: &[Value]) {
    let _controller = ControllerProcess::start(plane, &["drydock-system"], &[]).await;
    let weight = |object: &Value| -> i64 {
        object["metadata"]["annotations"]["helm.sh/hook-weight"].as_str().map_or(0, |weight| weight.parse().unwrap())
    };
    let mut hooks: Vec<Value> = rendered.iter().filter(|object| is_hook(object)).cloned().collect();
    assert_eq!(hooks.len(), 5);
    hooks.sort_by_key(weight);
    let pod = hooks.pop().unwrap();
    assert_eq!(pod["kind"], "Pod", "it comes last: {}", get(rendered, "Pod/drydock-test"));
    let goes = |object: &Value| object["metadata"]["annotations"]["helm.sh/hook-delete-policy"].clone();
    assert!(
        hooks.iter().all(|object| goes(object) == "before-hook-creation,hook-succeeded"),
        "they go with its success"
    );
    assert_eq!(goes(&pod), "before-hook-creation", "`helm test --logs` reads what it said after its end");
    install::apply_with(plane, hooks, &["--server-side"]).await.unwrap();

    let kubeconfig = kubeconfig_of(plane, "drydock-test").await;
    for run in ["0b6f7a9e-0000-4000-8000-000000000001", "0b6f7a9e-0000-4000-8000-000000000002"] {
        let mut said = String::new();
        for container in ["initContainers", "containers"].iter().flat_map(|of| pod["spec"][*of].as_array().unwrap()) {
            assert_eq!(container["env"][0]["name"], "POD");
            let arguments = container["args"].as_array().unwrap().iter();
            let arguments = arguments.map(|argument| argument.as_str().unwrap().replace("$(POD)", run));
            let mut verb = tokio::process::Command::new(binary());
            let output = verb.args(arguments).env("KUBECONFIG", &kubeconfig).output().await.unwrap();
            said += &String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{container}: {said}{}", String::from_utf8_lossy(&output.stderr));
        }
        let lease = format!("test-{run}");
        let phase =
            ["get", "leases.drydock.dev", &lease, "--namespace=drydock-system", "-o", "jsonpath={.status.phase}"];
        assert_eq!(plane.run_kubectl(Identity::Admin, &phase).await.unwrap(), "Destroyed", "{said}");
    }
    // As helm does in the end: it is gone, and so is what it had made.
    let delete = ["delete", "blueprints.drydock.dev", "drydock-test", "--namespace=drydock-system", "--timeout=60s"];
    plane.run_kubectl(Identity::Admin, &delete).await.unwrap();
}
