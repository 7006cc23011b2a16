//! How much memory the controller takes: for each lease, and what one hostile tenant can make it take.

use crate::support::{ControlPlane, ControllerProcess, Identity, Sandbox, sandbox::condition};
use futures::{StreamExt as _, stream};
use kube::api::{Api, DynamicObject, ObjectMeta, PostParams};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How many leases there are.
const LEASES: usize = 10_000;

/// So many requests are made at once.
const AT_ONCE: usize = 16;

/// A lease that waits may take so many KiB.
const LEASE_BUDGET: f64 = 8.0;

/// No tenant moves the peak of what is resident by more, in MiB.
const TENANT_BUDGET: f64 = 128.0;

/// What the kernel says of a process, in MiB.
fn resident(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the controller runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel says so");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}

/// From now on the peak is counted anew.
fn forget_the_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("our own process");
}

/// Both, each on a control plane that serves nothing else meanwhile.
pub async fn all(plane: &ControlPlane) -> bool {
    let leases = leases(plane).await;
    tenant(plane).await && leases
}

/// What a lease that waits takes, once the controller has begun anew.
async fn leases(plane: &ControlPlane) -> bool {
    let sandbox = Sandbox::on(plane, "memory").await;
    let mut controller = sandbox.controller().await;
    let none = resident(controller.pid(), "VmRSS");
    let api = sandbox.api(Identity::Admin, "lease").await;
    println!("{LEASES} leases that wait:");
    let create = |n: usize| {
        let api = api.clone();
        async move {
            let spec = json!({"resourceType": "none", "parameters": {"size": "large"}, "ttl": "1h"});
            let lease = object("Lease", &format!("lease-{n:05}"), json!({"spec": spec}));
            api.create(&PostParams::default(), &lease).await.map(drop).expect("it is created");
        }
    };
    stream::iter(0..LEASES).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
    let last = format!("lease/lease-{:05}", LEASES - 1);
    sandbox.wait_for(&last, "told", |lease| condition(lease, "Acquired").0 == "False").await;
    controller.restart().await;
    controller.ready().await;
    let (now, peak) = (resident(controller.pid(), "VmRSS"), resident(controller.pid(), "VmHWM"));
    let each = (now - none) * 1024.0 / LEASES as f64;
    println!("  {none:.1} MiB without, {now:.1} MiB after a restart with them, {peak:.1} MiB at the peak");
    println!("  {each:.1} KiB a lease; the budget is {LEASE_BUDGET}");
    each <= LEASE_BUDGET
}

/// What a tenant can do who may write Blueprints and leases, and into environments.
async fn tenant(plane: &ControlPlane) -> bool {
    let sandbox = Sandbox::on(plane, "tenant").await;
    account(&sandbox).await;
    let mut controller = sandbox.controller().await;
    println!("One tenant:");
    let mut kept = true;
    for (what, done) in [
        ("templates that multiply what they hold", multiplying(&sandbox, &mut controller).await),
        ("a Blueprint of 1.3 MB", heavy(&sandbox, &mut controller).await),
        ("300 builds of a Blueprint of 57 KB", many(&sandbox, &mut controller).await),
        ("five objects of 900 KB with Drydock's labels", labelled(&sandbox, &mut controller).await),
    ] {
        let (before, peak, says) = done;
        let most = peak - before;
        println!("  {what}: {before:.1} MiB before, {most:.1} MiB more at the peak{says}");
        kept &= most <= TENANT_BUDGET;
    }
    println!("  the budget is {TENANT_BUDGET} MiB more");
    kept
}

type Moved = (f64, f64, String);

/// 22 KB of templates whose comprehensions would fill gigabytes.
async fn multiplying(sandbox: &Sandbox<'_>, controller: &mut ControllerProcess) -> Moved {
    let numbers = (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let list = format!("${{[{numbers}].map(a, [{numbers}].map(b, 'x{}'))}}", "y".repeat(500));
    let templates: Vec<Value> = (0..20)
        .map(|n| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m-{n}")},
                "data": {"a": list}})
        })
        .collect();
    moved(sandbox, controller, "multiplying", templates, 1).await
}

/// As large as the API server takes one.
async fn heavy(sandbox: &Sandbox<'_>, controller: &mut ControllerProcess) -> Moved {
    let nested: Value = (0..100_000).map(|_| json!({})).collect();
    let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "heavy"},
        "data": {"text": "x".repeat(900_000)}, "list": nested});
    moved(sandbox, controller, "heavy", vec![template], 1).await
}

async fn many(sandbox: &Sandbox<'_>, controller: &mut ControllerProcess) -> Moved {
    let data: serde_json::Map<String, Value> = (0..500).map(|n| (format!("k{n}"), json!("x".repeat(100)))).collect();
    let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "many-${resource.metadata.name}"},
        "data": data});
    moved(sandbox, controller, "many", vec![template], 300).await
}

/// Applies a Blueprint that keeps so many ready, and looks at the peak until they are, or as many as fail.
async fn moved(
    sandbox: &Sandbox<'_>,
    controller: &mut ControllerProcess,
    name: &str,
    templates: Vec<Value>,
    count: i64,
) -> Moved {
    let before = resident(controller.pid(), "VmRSS");
    forget_the_peak(controller.pid());
    let blueprint = json!({
        "apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": name},
        "spec": {"resourceType": name, "limits": {"maxResources": count, "minReady": count},
            "driver": {"objects": {"serviceAccountName": "builder", "templates": templates}}},
    });
    let api = sandbox.api(Identity::Admin, "blueprint").await;
    let size = blueprint.to_string().len() / 1024;
    let created = api.create(&PostParams::default(), &serde_json::from_value(blueprint).expect("an object")).await;
    let says = match created {
        Err(kube::Error::Api(status)) => format!(" ({size} KiB, refused: {})", brief(&status.message)),
        Err(error) => panic!("{error}"),
        Ok(_) => {
            let is_done = |blueprint: &DynamicObject| {
                let status = &blueprint.data["status"];
                let ready = status["resources"]["idle"].as_i64() == Some(count);
                let why = condition(blueprint, "Ready").1;
                ready || why == "BuildFailing" || why.starts_with("Expression") || why.starts_with("Invalid")
            };
            let done = sandbox.wait_for(&format!("blueprint/{name}"), "built, or failing", is_done).await;
            format!(" ({size} KiB, {})", condition(&done, "Ready").1)
        }
    };
    (before, resident(controller.pid(), "VmHWM"), says)
}

/// Whoever may write in an environment labels large objects as if they were Drydock's, and it is looked at by a controller that begins
/// anew.
async fn labelled(sandbox: &Sandbox<'_>, controller: &mut ControllerProcess) -> Moved {
    controller.restart().await;
    controller.ready().await;
    let before = resident(controller.pid(), "VmRSS");
    let owner = sandbox.get("blueprint/many").await.metadata.uid.expect("a UID");
    let api: Api<DynamicObject> = sandbox.api(Identity::Admin, "configmap").await;
    for n in 0..5 {
        let mut text = String::new();
        for key in 0..35_000 {
            write!(text, "{}\"k{key}\":\"\"", if key == 0 { "" } else { "," }).expect("a string takes all");
        }
        let data: Value = serde_json::from_str(&format!("{{{text}}}")).expect("JSON");
        let mut object = object("ConfigMap", &format!("labelled-{n}"), json!({"data": data}));
        object.metadata.labels = Some([("drydock.dev/owner".to_owned(), owner.clone())].into());
        api.create(&PostParams::default(), &object).await.expect("it is created");
    }
    forget_the_peak(controller.pid());
    controller.restart().await;
    controller.ready().await;
    // Each environment is looked at anew.
    let lease = json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "look"},
        "spec": {"resourceType": "many"}});
    sandbox.apply(Identity::Admin, &lease.to_string()).await;
    sandbox.wait_phase("lease/look", "Active").await;
    (before, resident(controller.pid(), "VmHWM"), String::new())
}

fn brief(text: &str) -> String {
    text.chars().take(120).collect()
}

fn object(kind: &str, name: &str, data: Value) -> DynamicObject {
    let types = match kind {
        "ConfigMap" => json!({"apiVersion": "v1", "kind": kind}),
        _ => json!({"apiVersion": "drydock.dev/v1alpha1", "kind": kind}),
    };
    DynamicObject {
        types: serde_json::from_value(types).ok(),
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data,
    }
}

/// The account as which Blueprints build.
async fn account(sandbox: &Sandbox<'_>) {
    let namespace = sandbox.namespace();
    let verbs = ["create", "get", "list", "watch", "delete"];
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "builder"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "builder"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "builder"},
            "subjects": [{"kind": "ServiceAccount", "name": "builder", "namespace": namespace}]}),
    ] {
        sandbox.apply(Identity::Admin, &object.to_string()).await;
    }
}
