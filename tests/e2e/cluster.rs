//! The cluster that the story takes place on, and the tools of its administrator.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::process::Command;

use crate::support::helm;
use crate::support::sandbox::{documents, phase, resource_of, watched};

/// How long something may take that takes a few seconds, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The namespaces of the story: that of the release, that of its leases, and that of examples/objects.
pub const SYSTEM: &str = "drydock-system";
pub const HERE: &str = "drydock-e2e";
pub const CI: &str = "ci";

/// All that is Drydock's.
pub const ALL: &str = "blueprints.drydock.dev,leases.drydock.dev,resources.drydock.dev";

/// Says what is done, does it, and says how long it took.
pub async fn step<T>(what: &str, work: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    println!("{what} …");
    let done = work.await;
    println!("    {:.1?}", begin.elapsed());
    done
}

/// A name of an image as the chart takes it.
#[derive(Clone, Debug)]
pub struct Image {
    pub name: String,
    pub settings: Vec<String>,
}

/// A cluster.
pub struct Cluster {
    pub client: Client,
    /// One that asks once: the other asks again where the answer is that something is not ready.
    pub asks_once: Client,
    pub image: Image,
    /// Another one, to upgrade to.
    pub next: Option<Image>,
    /// Whether `make e2e` has started it: then the node's processes are those of this machine.
    pub ours: bool,
    kubeconfig: OsString,
    kubectl: PathBuf,
    pub kinds_were_there: bool,
    monitors_were_there: bool,
}

impl Cluster {
    /// The one that `make e2e` has made ready.
    pub async fn reach() -> Cluster {
        let image = std::env::var("E2E_IMAGE").expect("an image to install: run this by `make e2e`");
        let next = std::env::var("E2E_NEXT_IMAGE").ok().filter(|image| !image.is_empty());
        let config = Config::infer().await.unwrap();
        let mut once = config.clone();
        once.default_retry = false;
        let mut cluster = Cluster {
            client: Client::try_from(config).unwrap(),
            asks_once: Client::try_from(once).unwrap(),
            image: Image::parse(&image),
            next: next.as_deref().map(Image::parse),
            ours: std::env::var_os("NODE").is_some(),
            kubeconfig: std::env::var_os("KUBECONFIG").expect("a cluster: run this by `make e2e`"),
            kubectl: helm::program("kubectl"),
            kinds_were_there: false,
            monitors_were_there: false,
        };
        let kinds = cluster.kubectl(&["get", "customresourcedefinitions", "-o", "name"]).await;
        cluster.kinds_were_there = kinds.contains(".drydock.dev");
        cluster.monitors_were_there = kinds.contains("servicemonitors.monitoring.coreos.com");
        cluster
    }

    /// Fails where there is a Drydock already: two would share what is leased there. And where namespaces are there that would be
    /// removed at the end.
    pub async fn is_free(&self) {
        let there = self.kubectl(&["get", "clusterroles,namespaces", "-o", "name"]).await;
        let ours = ["clusterrole.rbac.authorization.k8s.io/drydock-controller"].map(str::to_owned).into_iter();
        let ours = ours.chain([SYSTEM, HERE, CI].map(|namespace| format!("namespace/{namespace}")));
        for name in ours {
            assert!(
                !there.lines().any(|line| line == name),
                "there is a {name} on this cluster: the tests would end it"
            );
        }
        if self.kinds_were_there {
            // Not by the category `drydock`: what kubectl remembers of a cluster may be older than its kinds.
            let left = self.kubectl(&["get", ALL, "-A", "-o", "name"]).await;
            assert!(left.is_empty(), "on this cluster there are objects that the tests would touch:\n{left}");
        }
    }

    /// Runs kubectl, and returns what it said on standard output. Fails the test where it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let said = self.try_kubectl(arguments).await;
        said.unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
    }

    /// The same, where failure is an answer.
    pub async fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.kubectl);
        self.run(command.args(arguments)).await
    }

    /// Runs a script as its reader would type it, and returns all that it said.
    pub async fn type_in(&self, script: &str) -> String {
        let mut bash = Command::new("bash");
        let path = [self.kubectl.parent().unwrap().as_os_str(), &std::env::var_os("PATH").unwrap()].join(":".as_ref());
        bash.args(["-euo", "pipefail", "-c", script]).env("PATH", path);
        let said = self.run(&mut bash).await;
        said.unwrap_or_else(|said| panic!("{script}\n{said}"))
    }

    /// Runs helm, and returns what it said on standard output. Fails the test where it fails.
    pub async fn helm(&self, arguments: &[&str]) -> String {
        let words: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let kubeconfig = PathBuf::from(&self.kubeconfig);
        let run = move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            helm::helm(&words, Some(&kubeconfig))
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {}: {said}{errors}", arguments.join(" "));
        said
    }

    async fn run(&self, command: &mut Command) -> Result<String, String> {
        let command = command.env("KUBECONFIG", &self.kubeconfig).kill_on_drop(true);
        let output = command.stdin(std::process::Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(said),
            false => Err(said + &String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// The objects of a kind (`lease`, `Pod`) in a namespace.
    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource_of(kind))
    }

    /// Applies YAML in a namespace.
    pub async fn apply(&self, namespace: &str, yaml: &str) {
        for document in documents(yaml) {
            let text =
                |value: &Value| value.as_str().unwrap_or_else(|| panic!("no kind or name in\n{yaml}")).to_owned();
            let (kind, name) = (text(&document["kind"]), text(&document["metadata"]["name"]));
            let api = match kind.as_str() {
                "Namespace" | "ClusterRole" | "ClusterRoleBinding" | "CustomResourceDefinition" => {
                    Api::all_with(self.client.clone(), &resource_of(&kind))
                }
                _ => self.api(&kind, namespace),
            };
            let applied = api.patch(&name, &PatchParams::apply("drydock-e2e"), &Patch::Apply(&document)).await;
            applied.unwrap_or_else(|error| panic!("{kind}/{name}: {error}"));
        }
    }

    /// An object of a namespace, `lease/a`, as it is now, if there is one.
    pub async fn get(&self, namespace: &str, object: &str) -> Option<DynamicObject> {
        let (kind, name) = object.split_once('/').unwrap();
        self.api(kind, namespace).get_opt(name).await.unwrap()
    }

    /// Waits until an object is there and is as it should be; `what` says how.
    pub async fn wait(
        &self,
        namespace: &str,
        object: &str,
        what: &str,
        is: impl Fn(&DynamicObject) -> bool,
    ) -> DynamicObject {
        let found = self.watch(namespace, object, what, |object| object.is_some_and(&is)).await;
        found.expect("the condition holds only for an object that is there")
    }

    /// Waits until an object is in a phase.
    pub async fn wait_phase(&self, namespace: &str, object: &str, wanted: &str) -> DynamicObject {
        self.wait(namespace, object, &format!("in phase {wanted}"), |object| phase(object) == wanted).await
    }

    /// Waits until there is no such object.
    pub async fn wait_gone(&self, namespace: &str, object: &str) {
        self.watch(namespace, object, "gone", |object| object.is_none()).await;
    }

    async fn watch(
        &self,
        namespace: &str,
        object: &str,
        what: &str,
        is: impl Fn(Option<&DynamicObject>) -> bool,
    ) -> Option<DynamicObject> {
        let (kind, name) = object.split_once('/').expect("an object is named like lease/a");
        let api = match kind {
            "namespace" => Api::all_with(self.client.clone(), &resource_of(kind)),
            _ => self.api(kind, namespace),
        };
        watched(api, name, PATIENCE, &format!("{object} in {namespace}"), what, is).await
    }

    /// After a failure: how everything is.
    pub async fn tell(&self) {
        let (pods, events) = (["get", "pods", "-A", "-o", "wide"], ["get", "events", "-A", "--sort-by=.lastTimestamp"]);
        let drydock = ["get", "drydock", "-A", "-o", "wide"];
        let log = ["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller", "--prefix", "--tail=40"];
        for look in [&pods[..], &drydock, &events, &log] {
            let said = self.try_kubectl(look).await.unwrap_or_else(|said| said);
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("--- kubectl {}\n{}", look.join(" "), lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }

    /// Removes what the story has made, wherever it has ended. Namespaces last: with them goes the right to tear down.
    pub async fn tidy(&self) {
        let run = async |words: String| {
            if let Err(said) = self.try_kubectl(&words.split(' ').collect::<Vec<_>>()).await {
                eprintln!("kubectl {words}: {said}");
            }
        };
        let kinds = self.try_kubectl(&["get", "customresourcedefinitions", "-o", "name"]).await.unwrap_or_default();
        for namespace in [CI, HERE, SYSTEM].into_iter().filter(|_| kinds.contains(".drydock.dev")) {
            run(format!("delete blueprints.drydock.dev,leases.drydock.dev --all --timeout=2m -n {namespace}")).await;
        }
        let there = self.try_kubectl(&["get", "secrets", "-n", SYSTEM, "-l", "owner=helm", "-o", "name"]).await;
        if there.is_ok_and(|there| !there.is_empty()) {
            self.helm(&["uninstall", "drydock", "-n", SYSTEM, "--wait", "--timeout=3m"]).await;
        }
        let mut kinds = vec![];
        if !self.kinds_were_there {
            kinds.extend(["blueprints.drydock.dev", "leases.drydock.dev", "resources.drydock.dev"]);
        }
        if !self.monitors_were_there {
            kinds.push("servicemonitors.monitoring.coreos.com");
        }
        if !kinds.is_empty() {
            run(format!("delete crd --ignore-not-found --timeout=2m {}", kinds.join(" "))).await;
        }
        run("delete clusterrole,clusterrolebinding --ignore-not-found drydock-e2e env-builder".to_owned()).await;
        run(format!("delete namespace --ignore-not-found --timeout=3m {SYSTEM} {HERE} {CI}")).await;
    }
}

impl Image {
    /// `registry.example.com:5000/drydock:0.1.0`, or `…@sha256:…`.
    fn parse(name: &str) -> Image {
        let (repository, tag, digest) = match (name.split_once('@'), name.rsplit_once(':')) {
            (Some((repository, digest)), _) => (repository, "", digest),
            (None, Some((repository, tag))) if !tag.contains('/') => (repository, tag, ""),
            _ => (name, "latest", ""),
        };
        let settings = [("repository", repository), ("tag", tag), ("digest", digest)];
        let settings = settings.map(|(name, value)| format!("--set-string=image.{name}={value}"));
        Image { name: name.to_owned(), settings: settings.into() }
    }
}

/// The processes of a container on a node of ours.
pub fn processes(container: &str) -> Vec<u32> {
    let id = container.rsplit('/').next().unwrap();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        if folder.file_name().is_some_and(|name| name == id) {
            let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            return processes.lines().map(|pid| pid.parse().unwrap()).collect();
        }
        folders.extend(below(&folder));
    }
    vec![]
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
