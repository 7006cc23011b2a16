//! A real Kubernetes control plane for demo and tests: etcd, kube-apiserver and kube-controller-manager, on loopback, with
//! TLS and RBAC, in a folder of their own that goes when they go.
//!
//! Nothing here knows of Drydock's own kinds; that is [`super::install`].

use std::io::{self, BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::Mutex;

use super::credentials::{self, Credentials};
use super::leash::{Leash, Plan, repository};

pub use super::credentials::Identity;

/// How long a start may take on a busy machine. Five seconds is usual.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often to look for what cannot be watched: a server that is not there yet.
const GLANCE: Duration = Duration::from_millis(50);

/// A running control plane. Dropping it ends it: the API server first, etcd last.
#[derive(Debug)]
pub struct ControlPlane {
    folder: PathBuf,
    programs: Programs,
    port: u16,
    credentials: Credentials,
    more: Vec<String>,
    running: Mutex<Running>,
}

/// A program of the control plane that can be killed and come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
}

/// The programs, in the order in which they end.
#[derive(Debug)]
struct Running {
    controller_manager: Option<Leash>,
    apiserver: Leash,
    etcd: Leash,
}

impl ControlPlane {
    /// Starts a control plane and waits until it serves. Programs that the machine does not have are built first, which
    /// takes long and says so on standard error.
    pub async fn start() -> Result<ControlPlane, Error> {
        Self::start_with(&[]).await
    }

    /// The same, with further arguments of the API server.
    pub async fn start_with(more: &[&str]) -> Result<ControlPlane, Error> {
        let programs = Programs::find().await?;
        let mut attempts = 3;
        loop {
            match Self::attempt(&programs, more).await {
                // Between our look at the port and the server's own, somebody else may have taken it.
                Err(Error::Died { log, .. }) if attempts > 1 && log.contains("address already in use") => attempts -= 1,
                other => return other,
            }
        }
    }

    async fn attempt(programs: &Programs, more: &[&str]) -> Result<ControlPlane, Error> {
        let folder = tempfile::Builder::new().prefix("drydock-").tempdir().map_err(Error::Folder)?;
        let port = free_port()?;
        let credentials = Credentials::create(folder.path(), &url(port))?;
        let etcd = start_etcd(programs, folder.path())?;
        let folder = folder.keep(); // from here on, etcd's leash removes it
        let more: Vec<String> = more.iter().map(|argument| (*argument).to_owned()).collect();
        let apiserver = start_apiserver(programs, &folder, &credentials, port, &more, &etcd)?;
        let running = Mutex::new(Running { controller_manager: None, apiserver, etcd });
        let plane = ControlPlane { folder, programs: programs.clone(), port, credentials, more, running };
        plane.serving().await?;
        // Only now: it gives up when no API server answers it within ten seconds.
        let mut running = plane.running.lock().await;
        running.controller_manager =
            Some(start_controller_manager(programs, &plane.folder, &plane.credentials, &running.etcd)?);
        drop(running);
        Ok(plane)
    }

    /// Where the API server is.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The folder of this control plane: credentials, logs, etcd's data. It goes when the control plane ends.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kubeconfig file of somebody. The controller's is there once Drydock is installed.
    pub fn kubeconfig(&self, identity: Identity) -> PathBuf {
        self.credentials.kubeconfig(identity)
    }

    /// The credentials' files.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// A client that acts as somebody. It belongs to the runtime that it is made in: do not keep it beyond a test.
    pub async fn client(&self, identity: Identity) -> Client {
        self.try_client(identity).await.unwrap_or_else(|error| panic!("no client for {identity:?}: {error}"))
    }

    async fn try_client(&self, identity: Identity) -> Result<Client, Error> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(identity))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The path of kubectl.
    pub fn kubectl(&self) -> &Path {
        &self.programs.kubectl
    }

    /// Runs kubectl as somebody and returns what it printed on standard output.
    pub async fn run_kubectl(&self, identity: Identity, arguments: &[&str]) -> Result<String, Error> {
        let output = tokio::process::Command::new(self.kubectl())
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig(identity))
            .env("KUBECACHEDIR", self.folder.join("kubectl")) // not in the home folder of whoever runs the tests
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| Error::Run { program: self.kubectl().display().to_string(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Kubectl {
            arguments: arguments.join(" "),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Reads a path of the API server as text, as the admin: `/metrics`, `/version`.
    pub async fn raw(&self, path: &str) -> Result<String, Error> {
        raw(&self.try_client(Identity::Admin).await?, path).await
    }

    /// Ends the API server and starts it again, with the same port, credentials and data; waits until it serves.
    pub async fn restart_apiserver(&self) -> Result<(), Error> {
        {
            let mut running = self.running.lock().await;
            let running = &mut *running;
            let failed = |source| Error::Run { program: "kube-apiserver".to_owned(), source };
            running.apiserver.end().await.map_err(failed)?;
            running.apiserver =
                start_apiserver(&self.programs, &self.folder, &self.credentials, self.port, &self.more, &running.etcd)?;
        }
        self.serving().await
    }

    /// Kills a program outright (SIGKILL). It is away until [`Self::come_back`].
    pub async fn knock_out(&self, server: Server) -> io::Result<()> {
        self.running.lock().await.program(server).knock_out().await
    }

    /// Starts a program again after [`Self::knock_out`], on the same port, socket and data; waits until the API server serves.
    pub async fn come_back(&self, server: Server) -> Result<(), Error> {
        let failed = |source| Error::Run { program: format!("{server:?}"), source };
        self.running.lock().await.program(server).come_back().await.map_err(failed)?;
        self.serving().await
    }

    /// The socket on which etcd answers whoever may read this control plane's folder.
    pub fn etcd_socket(&self) -> PathBuf {
        self.folder.join("etcd.sock:0")
    }

    /// The process identifiers of the programs.
    pub async fn pids(&self) -> io::Result<Vec<u32>> {
        let mut running = self.running.lock().await;
        running.each().map(Leash::pid).collect()
    }

    /// Ends all programs, and waits until they and the folder are gone. Dropping does the same, but holds up the thread.
    pub async fn stop(self) -> io::Result<()> {
        let mut running = self.running.into_inner();
        for program in running.each() {
            program.let_go();
        }
        for program in running.each() {
            program.end().await?;
        }
        Ok(())
    }

    /// Waits until the API server says that it is ready.
    async fn serving(&self) -> Result<(), Error> {
        let client = self.try_client(Identity::Admin).await?;
        let start = Instant::now();
        loop {
            let said = match raw(&client, "/readyz").await {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            };
            for program in self.running.lock().await.each() {
                if program.ended().is_ok_and(|status| status.is_none()) {
                    continue;
                }
                return Err(Error::Died { program: program.name().to_owned(), log: program.tail(30) });
            }
            if start.elapsed() > PATIENCE {
                let log = self.running.lock().await.apiserver.tail(30);
                return Err(Error::NotReady { waited: start.elapsed(), said, log });
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Running {
    fn program(&mut self, server: Server) -> &mut Leash {
        match server {
            Server::Etcd => &mut self.etcd,
            Server::ApiServer => &mut self.apiserver,
        }
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Leash> {
        [&mut self.etcd, &mut self.apiserver].into_iter().chain(&mut self.controller_manager)
    }
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

async fn raw(client: &Client, path: &str) -> Result<String, Error> {
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    Ok(client.request_text(request).await?)
}

/// Where the programs are.
#[derive(Debug, Clone)]
struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    controller_manager: PathBuf,
    kubectl: PathBuf,
}

impl Programs {
    async fn find() -> Result<Programs, Error> {
        // The search may have to build: not on a thread that runs other tasks.
        tokio::task::spawn_blocking(Self::search)
            .await
            .map_err(|panic| Error::Run { program: "programs".to_owned(), source: io::Error::other(panic) })?
    }

    fn search() -> Result<Programs, Error> {
        let script = repository("tools/controlplane/programs");
        let failed = |source| Error::Run { program: "tools/controlplane/programs".to_owned(), source };
        let mut child = Command::new(&script).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let answer: Vec<String> = match child.stdout.take() {
            Some(stdout) => BufReader::new(stdout).lines().collect::<Result<_, _>>().map_err(failed)?,
            None => vec![],
        };
        if !child.wait().map_err(failed)?.success() {
            return Err(Error::Programs);
        }
        let find = |name: &str| {
            let line = answer.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(PathBuf::from).ok_or(Error::Programs)
        };
        Ok(Programs {
            etcd: find("etcd")?,
            apiserver: find("kube-apiserver")?,
            controller_manager: find("kube-controller-manager")?,
            kubectl: find("kubectl")?,
        })
    }
}

/// A port that nobody listens on, below those that the system gives to outgoing connections: while the API server is
/// away during a restart, a client that tries to reach it could otherwise be given that very port, and connect to itself.
fn free_port() -> Result<u16, Error> {
    let mut refusal = None;
    for _ in 0..100 {
        let port = 16_000 + (super::random() % 16_000) as u16;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => refusal = Some(error),
        }
    }
    Err(Error::Port(refusal.unwrap_or_else(|| io::Error::other("tried none"))))
}

/// etcd listens on sockets in the folder: no port to find, and nobody else on the machine can reach it.
fn start_etcd(programs: &Programs, folder: &Path) -> Result<Leash, Error> {
    let mut command = Command::new(&programs.etcd);
    command
        .current_dir(folder)
        .arg("--name=drydock")
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .args(["--listen-client-urls=unix://etcd.sock:0", "--advertise-client-urls=unix://etcd.sock:0"])
        .args(["--listen-peer-urls=unix://peer.sock:0", "--initial-advertise-peer-urls=unix://peer.sock:0"])
        .arg("--initial-cluster=drydock=unix://peer.sock:0")
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    let plan = Plan { name: "etcd", folder, command, outlived_by: None, removes: Some(folder) };
    Leash::start(plan).map_err(|source| Error::Run { program: "etcd".to_owned(), source })
}

fn start_apiserver(
    programs: &Programs,
    folder: &Path,
    credentials: &Credentials,
    port: u16,
    more: &[String],
    etcd: &Leash,
) -> Result<Leash, Error> {
    let file = |flag: &str, name: &str| format!("{flag}={}", credentials.file(name).display());
    let mut command = Command::new(&programs.apiserver);
    command
        .current_dir(folder)
        .args(["--etcd-servers=unix://etcd.sock:0", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg(format!("--secure-port={port}"))
        .arg(file("--cert-dir", "."))
        .arg(file("--tls-cert-file", "serving.crt"))
        .arg(file("--tls-private-key-file", "serving.key"))
        .arg(file("--token-auth-file", "tokens.csv"))
        .arg(file("--service-account-key-file", "service-accounts.pub"))
        .arg(file("--service-account-signing-key-file", "service-accounts.key"))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"])
        // An endpoint on loopback is refused, and nobody looks for it.
        .arg("--endpoint-reconciler-type=none")
        // Without it, watches of custom resources hold up a shutdown for a minute.
        .arg("--shutdown-watch-termination-grace-period=2s")
        // Many tests share one server.
        .args(["--max-requests-inflight=1600", "--max-mutating-requests-inflight=800"])
        .args(more);
    if let Some(logs) = std::env::var_os("DRYDOCK_AUDIT") {
        command.args(audit(folder, Path::new(&logs))?);
    }
    let plan = Plan { name: "kube-apiserver", folder, command, outlived_by: Some(etcd), removes: None };
    Leash::start(plan).map_err(|source| Error::Run { program: "kube-apiserver".to_owned(), source })
}

/// The log of what was asked, by whom, goes to a file of its own in this folder: which rights are used (`make rights`).
fn audit(folder: &Path, logs: &Path) -> Result<[String; 2], Error> {
    let path = folder.join("audit.yaml");
    // As JSON: what begins with a brace is read as nothing else.
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}],
    });
    std::fs::write(&path, policy.to_string()).map_err(|source| Error::File { path: path.clone(), source })?;
    let log = logs.join(format!("{:016x}.log", super::random()));
    Ok([format!("--audit-policy-file={}", path.display()), format!("--audit-log-path={}", log.display())])
}

/// Without it, a Namespace is never seen gone, nor what belongs to a deleted object.
fn start_controller_manager(
    programs: &Programs,
    folder: &Path,
    credentials: &Credentials,
    etcd: &Leash,
) -> Result<Leash, Error> {
    let mut command = Command::new(&programs.controller_manager);
    command
        .current_dir(folder)
        .arg(format!("--kubeconfig={}", credentials.controller_manager().display()))
        .arg(format!("--service-account-private-key-file={}", credentials.file("service-accounts.key").display()))
        .arg(format!("--root-ca-file={}", credentials.file("ca.crt").display()))
        .args(["--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400"]);
    let plan = Plan { name: "kube-controller-manager", folder, command, outlived_by: Some(etcd), removes: None };
    Leash::start(plan).map_err(|source| Error::Run { program: "kube-controller-manager".to_owned(), source })
}

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program of the control plane is neither there nor could it be built.
    #[error("tools/controlplane/programs found no control plane; what it said is above")]
    Programs,
    /// A program could not be run.
    #[error("running {program}: {source}")]
    Run {
        /// Which one.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended when it should have gone on.
    #[error("{program} has ended; its log says:\n{log}")]
    Died {
        /// Which one.
        program: String,
        /// The end of its log.
        log: String,
    },
    /// The API server is not ready after a long time.
    #[error("the API server is not ready after {waited:.0?} ({said}); its log says:\n{log}")]
    NotReady {
        /// How long.
        waited: Duration,
        /// Its answer.
        said: String,
        /// The end of its log.
        log: String,
    },
    /// There is no folder to put it in.
    #[error("making a temporary folder: {0}")]
    Folder(io::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no port to listen on.
    #[error("finding a free port on 127.0.0.1: {0}")]
    Port(io::Error),
    /// The credentials could not be made.
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    /// A kubeconfig could not be read.
    #[error("reading a kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server answered otherwise than hoped for.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// Something that is stored does not show its effect.
    #[error("waited {waited:.0?} in vain for {what}")]
    NotInEffect {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// kubectl failed.
    #[error("kubectl {arguments}: {said}")]
    Kubectl {
        /// What it was asked.
        arguments: String,
        /// What it answered.
        said: String,
    },
}
