//! The controller as a child process: the built binary, as its own account, killed, stopped and started again at will.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::controlplane::{ControlPlane, Identity};
use super::leash::{Leash, Plan};

/// How long the controller may take to be ready, or to stop, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look for what cannot be watched: a process's log, and its end.
const GLANCE: Duration = Duration::from_millis(10);

/// What the controller's log says before the address of its probes and metrics.
const LISTENING: &str = "listening on http://";

/// A controller that runs. Dropping it ends it, with its log's last lines shown if the test has failed.
#[derive(Debug)]
pub struct ControllerProcess {
    name: String,
    starts: usize,
    folder: PathBuf,
    kubeconfig: PathBuf,
    arguments: Vec<String>,
    leash: Leash,
    address: SocketAddr,
}

impl ControllerProcess {
    /// Starts a controller for some namespaces, and waits until it is ready. `more` are further arguments.
    pub async fn start(plane: &ControlPlane, namespaces: &[&str], more: &[&str]) -> ControllerProcess {
        let mut process = Self::begin(plane, Identity::Controller, namespaces, more);
        process.ready().await;
        process
    }

    /// Starts a controller as somebody, and waits for nothing: see [`Self::listens`] and [`Self::ready`].
    pub fn begin(plane: &ControlPlane, who: Identity, namespaces: &[&str], more: &[&str]) -> ControllerProcess {
        let kubeconfig = plane.kubeconfig(who);
        assert!(kubeconfig.exists(), "the controller has no account: Drydock is not installed");
        let namespaces = namespaces.join(",");
        let mut arguments: Vec<String> = ["controller", "--http-address", "127.0.0.1:0"].map(str::to_owned).to_vec();
        if !namespaces.is_empty() {
            arguments.extend(["--namespaces".to_owned(), namespaces]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));

        // Several controllers of one test must not write to one log.
        let name = format!("drydock-{:08x}", super::random() as u32);
        let leash = launch(&name, 1, plane.folder(), &kubeconfig, &arguments);
        let folder = plane.folder().to_owned();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        ControllerProcess { name, starts: 1, folder, kubeconfig, arguments, leash, address }
    }

    /// Where its probes and metrics are. Differs after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The body of one of its pages, `/metrics` say, and the status code.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).await.unwrap_or_else(|error| panic!("GET {path} of the controller: {error}"))
    }

    /// All that it has written to its log since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.leash.log()).unwrap_or_default()
    }

    /// Waits until its log says this.
    pub async fn logs(&mut self, words: &str) {
        let start = Instant::now();
        while !self.log().contains(words) {
            self.glance(start, &format!("its log does not say {words:?}")).await;
        }
    }

    /// Where its log is.
    pub fn log_file(&self) -> &Path {
        self.leash.log()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.leash.tail(60)
    }

    /// Its process identifier.
    pub fn pid(&mut self) -> u32 {
        self.leash.pid().unwrap_or_else(|error| panic!("the controller has not started: {error}"))
    }

    /// Kills it outright (SIGKILL), and waits until it is dead.
    pub async fn kill9(&mut self) {
        self.signal("KILL");
        self.ended_in_time("killed").await;
    }

    /// Asks it to stop (SIGTERM), and waits until it has. A death by a signal shows as the code 128 + signal.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended_in_time("asked to stop").await
    }

    /// Freezes it (SIGSTOP). It knows nothing of it, and believes afterwards what it believed before.
    pub fn sigstop(&mut self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`Self::sigstop`].
    pub fn sigcont(&mut self) {
        self.signal("CONT");
    }

    /// Starts it again with the same arguments, and waits until it is ready. If it still runs, it is killed first.
    pub async fn restart(&mut self) {
        self.kill9().await;
        self.starts += 1;
        self.leash = launch(&self.name, self.starts, &self.folder, &self.kubeconfig, &self.arguments);
        self.ready().await;
    }

    fn signal(&mut self, signal: &str) {
        self.leash.signal(signal).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn ended(&mut self) -> ExitStatus {
        loop {
            match self.leash.ended() {
                Ok(Some(status)) => return status,
                Ok(None) => tokio::time::sleep(GLANCE).await,
                Err(error) => panic!("waiting for the end of the controller: {error}"),
            }
        }
    }

    async fn ended_in_time(&mut self, what: &str) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.ended()).await;
        ended.unwrap_or_else(|_| panic!("the controller was {what} and still runs after {PATIENCE:.0?}"))
    }

    /// Waits until it says where it listens.
    pub async fn listens(&mut self) {
        let start = Instant::now();
        loop {
            if let Some(address) = address_in(&self.log()) {
                self.address = address;
                return;
            }
            self.glance(start, "it does not say where it listens").await;
        }
    }

    /// Waits until it says where it listens, and until it answers there that it is ready.
    pub async fn ready(&mut self) {
        self.listens().await;
        let start = Instant::now();
        loop {
            let said = match get(self.address, "/readyz").await {
                Ok((200, _)) => return,
                Ok((code, body)) => format!("{code}: {body}"),
                Err(error) => error.to_string(),
            };
            self.glance(start, &format!("not ready: {said}")).await;
        }
    }

    async fn glance(&mut self, start: Instant, said: &str) {
        if let Ok(Some(status)) = self.leash.ended() {
            panic!("the controller ended with {status}; {said}");
        }
        assert!(start.elapsed() < PATIENCE, "the controller after {:.0?}: {said}", start.elapsed());
        tokio::time::sleep(GLANCE).await;
    }
}

impl Drop for ControllerProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the controller's log ends with:\n{}\n---", self.tail());
        }
    }
}

fn launch(name: &str, start: usize, folder: &Path, kubeconfig: &Path, arguments: &[String]) -> Leash {
    let mut command = Command::new(binary());
    command.args(arguments).env("KUBECONFIG", kubeconfig);
    let name = format!("{name}-{start}");
    Leash::start(Plan { name: &name, folder, command, outlived_by: None, removes: None })
        .unwrap_or_else(|error| panic!("starting {}: {error}", binary().display()))
}

/// The binary that cargo has built: for a test it says where, and an example lies in a folder beside it.
pub fn binary() -> PathBuf {
    if let Some(path) = option_env!("CARGO_BIN_EXE_drydock") {
        return path.into();
    }
    let example = std::env::current_exe().expect("a running program has a path");
    example.parent().and_then(Path::parent).expect("an example lies in target/…/examples").join("drydock")
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once(LISTENING)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
    rest[..end].parse().ok()
}

/// The smallest HTTP client: HTTP/1.0, so that the answer ends with the connection.
pub async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    match code {
        Some(code) => Ok((code, body.to_owned())),
        None => Err(std::io::Error::other(format!("not an answer: {head}"))),
    }
}
