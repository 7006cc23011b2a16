//! A Blueprint that the controller cannot read: refused at admission where the policies are installed; skipped, shown and
//! deletable where they are not; and in nobody's way.

use serde_json::{Value, json};

use crate::support::sandbox::refusal;
use crate::support::{ControlPlane, ControllerProcess, Identity, Sandbox, install};
use crate::templates::{blueprint, map, with};
use crate::told::{apply, asked_until, hosts, lease};

/// A template with so many maps and lists inside one another, itself among them.
fn nested(depth: usize) -> Value {
    let value = (1..depth).fold(json!("x"), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"a": inner}) });
    with(map("deep"), json!({"x": value}))
}

fn deep(name: &str, depth: usize) -> String {
    blueprint(name, json!({"templates": [nested(depth)]})).to_string()
}

#[tokio::test]
async fn a_template_that_is_nested_too_deep_is_refused() {
    let sandbox = Sandbox::new("nested").await;
    apply(&sandbox, &deep("most", 64)).await;
    for (name, depth) in [("more", 65), ("much", 100), ("most", 65)] {
        let said = refusal(sandbox.try_apply(Identity::Admin, &deep(name, depth)).await);
        let expected = "spec.driver.objects: a template has maps and lists more than 64 inside one another";
        assert!(said.contains(expected), "{name}: {said}");
    }
}

/// A tenant whose objects the libraries of this test cannot read either: all is done with kubectl.
struct Tenant<'a> {
    plane: &'a ControlPlane,
}

impl Tenant<'_> {
    const NAMESPACE: &'static str = "deep";

    async fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments = [&["-n", Self::NAMESPACE], arguments].concat();
        self.plane.run_kubectl(Identity::Admin, &arguments).await.unwrap()
    }

    async fn apply(&self, name: &str) {
        let file = self.plane.folder().join(format!("{name}.json"));
        std::fs::write(&file, deep(name, 130)).unwrap();
        self.kubectl(&["create", "-f", &file.display().to_string()]).await;
    }

    async fn ready(&self, name: &str) -> String {
        let ready = "{.status.conditions[?(@.type=='Ready')].status}/{.status.conditions[?(@.type=='Ready')].reason}";
        self.kubectl(&["get", "blueprints.drydock.dev", name, "-o", &format!("jsonpath={ready}")]).await
    }

    async fn is_gone(&self, name: &str) -> bool {
        self.kubectl(&["get", "blueprints.drydock.dev", name, "--ignore-not-found", "-o", "name"]).await.is_empty()
    }
}

#[tokio::test]
async fn a_blueprint_that_cannot_be_read_stops_nobody_and_can_be_deleted() {
    let plane = ControlPlane::start().await.unwrap();
    install::crds(&plane).await.unwrap();
    let (tenant, sandbox) = (Tenant { plane: &plane }, Sandbox::on(&plane, "beside-deep").await);
    tenant.kubectl(&["create", "namespace", Tenant::NAMESPACE]).await;
    tenant.apply("before").await;
    let namespaces = [sandbox.namespace(), Tenant::NAMESPACE];
    let mut controller = ControllerProcess::begin(&plane, Identity::Admin, &namespaces, &[]);
    controller.ready().await;
    tenant.apply("after").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    apply(&sandbox, &lease("a", json!({}))).await;
    sandbox.wait_phase("lease/a", "Active").await;
    for name in ["before", "after"] {
        asked_until("it says that it cannot be read", async || tenant.ready(name).await == "False/Unreadable").await;
    }
    // No line of the log holds an object, let alone a list of them.
    let log = controller.log();
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 1_000 && log.contains("recursion limit exceeded"), "a line of {longest} bytes");

    controller.restart().await;
    apply(&sandbox, &lease("b", json!({}))).await;
    sandbox.delete(Identity::Admin, "lease/a").await;
    sandbox.wait_phase("lease/b", "Active").await;
    // One that had its finalizer before it could not be read any more.
    let finalizer = r#"{"metadata": {"finalizers": ["drydock.dev/teardown"]}}"#;
    tenant.kubectl(&["patch", "blueprints.drydock.dev", "after", "--type=merge", "-p", finalizer]).await;
    for name in ["before", "after"] {
        tenant.kubectl(&["delete", "blueprints.drydock.dev", name, "--wait=false"]).await;
        asked_until("it is gone", async || tenant.is_gone(name).await).await;
    }
}
