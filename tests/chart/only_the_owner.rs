//! With `policies.ownerOnly`: a Lease is changed and deleted by who made it, and by those who hold the verb `release` on it.

use serde_json::json;

use crate::helm::template;
use crate::support::controller::binary;
use crate::support::leash::repository;
use crate::support::{ControlPlane, Identity, Rights, Sandbox, install};

/// What kubectl says, to whom it was refused.
async fn refused(plane: &ControlPlane, who: Identity, arguments: &[&str]) -> String {
    let answer = plane.run_kubectl(who, arguments).await;
    answer.expect_err(&format!("{who:?}: kubectl {}", arguments.join(" "))).to_string()
}

async fn done(plane: &ControlPlane, who: Identity, arguments: &[&str]) -> String {
    plane.run_kubectl(who, arguments).await.unwrap_or_else(|error| panic!("{who:?}: {error}"))
}

fn lease(name: &str) -> String {
    format!(
        "{{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {{name: {name}}}, spec: {{resourceType: host}}}}"
    )
}

const APPEND: &str = r#"[{"op": "add", "path": "/spec/commands/-", "value": {"id": "over", "type": "Release"}}]"#;

#[tokio::test]
async fn what_somebody_has_leased_is_theirs() {
    let plane = ControlPlane::start().await.unwrap();
    let with = ["--no-hooks", "--set=namespace.create=true,policies.ownerOnly=true"];
    let rendered =
        |mutating: &str| template(&[&with[..], &[&format!("--set=policies.mutating={mutating}")]].concat()).unwrap();
    install::rendered(&plane, rendered("always")).await.unwrap();
    install::controller_account(&plane).await.unwrap();
    let sandbox = Sandbox::on(&plane, "owner").await;
    for who in [Identity::Alice, Identity::Bob] {
        sandbox.grant(who, Rights::Edit).await;
    }
    let namespace = format!("--namespace={}", sandbox.namespace());
    let on = |words: &[&'static str]| [&[namespace.as_str()], words].concat();

    let controller = sandbox.controller().await;
    let hosts = "{apiVersion: drydock.dev/v1alpha1, kind: Blueprint, metadata: {name: pool}, spec: {resourceType: host, driver: {hosts: {inventory: [{name: h1}, {name: h2}]}}}}";
    sandbox.apply(Identity::Admin, hosts).await;
    for name in ["a", "b"] {
        sandbox.apply(Identity::Alice, &lease(name)).await;
        sandbox.wait_phase(&format!("lease/{name}"), "Active").await;
    }

    let why = format!(
        "only alice, who made it, may change or delete the Lease a; ask for the verb release on leases.drydock.dev/a in {}",
        sandbox.namespace()
    );
    let attempts = [
        on(&["patch", "leases.drydock.dev", "a", "--type=json", "-p", APPEND]),
        on(&[
            "patch",
            "leases.drydock.dev",
            "a",
            "--type=merge",
            "-p",
            r#"{"spec": {"expiresAt": "2020-01-01T00:00:00Z"}}"#,
        ]),
        on(&["label", "leases.drydock.dev", "a", "mine=too"]),
        on(&["annotate", "--overwrite", "leases.drydock.dev", "a", "drydock.dev/owner=bob"]),
        on(&["delete", "leases.drydock.dev", "a", "--wait=false"]),
    ];
    for attempt in &attempts {
        let said = refused(&plane, Identity::Bob, attempt).await;
        let forged = said.contains("is who made the Lease, alice, and stays");
        assert!(said.contains(&why) || forged, "kubectl {}: {said}", attempt.join(" "));
    }
    assert!(sandbox.get("lease/a").await.metadata.deletion_timestamp.is_none());

    // She may, also by a file that says nothing of whose it is; and what is hers she cannot give away.
    sandbox.apply(Identity::Alice, &lease("a")).await;
    done(&plane, Identity::Alice, &attempts[2]).await;
    let said = refused(&plane, Identity::Alice, &attempts[3]).await;
    assert!(said.contains("drydock.dev/owner is who made the Lease, alice, and stays; keep it as it is"), "{said}");
    done(&plane, Identity::Alice, &attempts[0]).await;
    sandbox.wait_phase("lease/a", "Destroyed").await;

    // So may who holds the verb release on that one.
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "release-b"},
        "rules": [{"apiGroups": ["drydock.dev"], "resources": ["leases"], "resourceNames": ["b"], "verbs": ["release"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "release-b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "release-b"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    for object in [role, binding] {
        sandbox.apply(Identity::Admin, &object.to_string()).await;
    }
    let can = on(&["auth", "can-i", "release", "leases.drydock.dev/b"]);
    let known = async { while plane.run_kubectl(Identity::Bob, &can).await.is_err() {} };
    tokio::time::timeout(crate::support::sandbox::PATIENCE, known).await.expect("bob holds the verb release");
    done(&plane, Identity::Bob, &on(&["label", "leases.drydock.dev", "b", "bobs=too"])).await;
    done(&plane, Identity::Bob, &on(&["patch", "leases.drydock.dev", "b", "--type=json", "-p", APPEND])).await;
    sandbox.wait_phase("lease/b", "Destroyed").await;

    // Kubernetes itself deletes what belongs to something that is gone; and there is the glass to break.
    sandbox.apply(Identity::Alice, &lease("c")).await;
    let wait = ["delete", "leases.drydock.dev", "c", "--wait=false"];
    let collector = "--as=system:serviceaccount:kube-system:generic-garbage-collector";
    let stranger = "--as=system:serviceaccount:kube-system:job-controller";
    done(&plane, Identity::Admin, &[on(&wait), vec![collector]].concat()).await;
    let role = "--clusterrole=edit";
    done(
        &plane,
        Identity::Admin,
        &on(&["create", "rolebinding", "stranger", role, "--serviceaccount=kube-system:job-controller"]),
    )
    .await;
    sandbox.apply(Identity::Alice, &lease("d")).await;
    let delete = on(&["delete", "leases.drydock.dev", "d", "--wait=false"]);
    let said = refused(&plane, Identity::Admin, &[&delete[..], &[stranger]].concat()).await;
    assert!(said.contains("only alice, who made it,") || said.contains("forbidden"), "{said}");
    let glass = ["--as=admin", "--as-group=drydock:break-glass", "--as-group=system:masters"];
    done(&plane, Identity::Admin, &[&delete[..], &glass].concat()).await;
    drop(controller);

    without_stamps(&plane, &sandbox, rendered("never")).await;
    drop(sandbox);
    plane.stop().await.unwrap();
}

/// Before Kubernetes 1.36 nothing writes who made a lease: its maker does.
async fn without_stamps(plane: &ControlPlane, sandbox: &Sandbox<'_>, rendered: Vec<serde_json::Value>) {
    for kind in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        done(plane, Identity::Admin, &["delete", kind, "--all"]).await;
    }
    install::rendered(plane, rendered).await.unwrap();
    let said =
        format!("{:?}", sandbox.try_apply(Identity::Alice, &lease("unowned")).await.expect_err("it has no owner"));
    assert!(said.contains("metadata.annotations: add drydock.dev/owner: alice, or nobody but an operator"), "{said}");
    let owned = |owner: &str| {
        lease("owned").replace("name: owned", &format!("name: owned, annotations: {{drydock.dev/owner: {owner}}}"))
    };
    let said = format!("{:?}", sandbox.try_apply(Identity::Alice, &owned("bob")).await.expect_err("it is bob's"));
    assert!(said.contains("drydock.dev/owner names bob, but you are alice"), "{said}");
    sandbox.apply(Identity::Alice, &owned("alice")).await;
    let namespace = format!("--namespace={}", sandbox.namespace());
    let said =
        refused(plane, Identity::Bob, &[&namespace, "delete", "leases.drydock.dev", "owned", "--wait=false"]).await;
    assert!(said.contains("only alice, who made it, may change or delete the Lease owned"), "{said}");
    sandbox.delete(Identity::Alice, "lease/owned").await;

    // What we tell people to use says it for them.
    let controller = sandbox.controller().await;
    let asks = [&namespace, "--type=host", "--wait", "--wait-timeout=1m", "by-the-cli"];
    let (done, said) = run(plane, binary().as_os_str(), &[&["lease"], &asks[..]].concat()).await;
    assert!(done, "{said}");
    let (done, said) = run(plane, binary().as_os_str(), &["release-lease", &namespace, "--wait", "by-the-cli"]).await;
    assert!(done, "{said}");
    let script = repository("examples/ci/with-lease.sh");
    let show = "kubectl get leases.drydock.dev \"$LEASE\" -o yaml";
    let job = ["--namespace", sandbox.namespace(), "--type", "host", "by-a-script", "--", "sh", "-c"];
    let show = format!("{show} {namespace}");
    let (done, said) = run(plane, script.as_os_str(), &[&job[..], &[&show]].concat()).await;
    assert!(done && said.contains("drydock.dev/owner: alice"), "{said}");
    sandbox.wait_phase("lease/by-the-cli", "Destroyed").await;
    sandbox.wait_gone("lease/by-a-script").await;
    drop(controller);
    let variant = repository("charts/drydock/ci/before-1-36-values.yaml");
    let rendered = template(&[&format!("--values={}", variant.display())]).unwrap();
    crate::helm_test::leases_something_and_gives_it_back(plane, &rendered).await;
    let admin = plane.kubeconfig(Identity::Admin);
    let notes = crate::life_of_a_release::notes(&admin, "policies.mutating=never,policies.ownerOnly=true");
    crate::life_of_a_release::the_next_commands_lead_to_a_lease(plane, &notes).await;
}

/// Runs a program as Alice, where kubectl is; returns whether it succeeded, and what it said.
async fn run(plane: &ControlPlane, program: &std::ffi::OsStr, arguments: &[&str]) -> (bool, String) {
    let path = format!("{}:{}", plane.kubectl().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env("PATH", path).env("HOME", plane.folder());
    let output = command.env("KUBECONFIG", plane.kubeconfig(Identity::Alice)).output().await.unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}
