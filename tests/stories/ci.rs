//! `examples/ci/`: what a pipeline runs, run as it is.

use crate::support::{Identity, Rights, Sandbox, leash::repository, sandbox::documents};
use serde_json::{Value, json};
use std::{env, fs, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

/// How long a script may take that has nothing to wait for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a script said, and its exit code.
#[derive(Debug)]
pub struct Said {
    /// The exit code, or nothing where a signal has ended it.
    pub code: Option<i32>,
    /// What it said on standard error, its command too.
    pub err: String,
}

impl Said {
    /// Fails where it did not exit with this code, or did not say this.
    pub fn ended(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "it did not say {word:?}: {}", self.err);
        }
    }
}

/// Alice's machine: where her kubeconfig has the sandbox's namespace, and where `sh`, `kubectl` and a `make` are.
pub struct Machine {
    folder: tempfile::TempDir,
    path: String,
}

impl Machine {
    /// A machine for a sandbox. Its `make` is this script.
    pub async fn of(sandbox: &Sandbox<'_>, make: &str) -> Machine {
        sandbox.grant(Identity::Alice, Rights::Edit).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = fs::read_to_string(sandbox.plane().kubeconfig(Identity::Alice)).unwrap();
        let mut kubeconfig = documents(&kubeconfig).remove(0);
        kubeconfig["contexts"][0]["context"]["namespace"] = json!(sandbox.namespace());
        fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(sandbox.plane().kubectl(), programs.join("kubectl")).unwrap();
        program(&programs.join("make"), make);
        let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
        Machine { folder, path }
    }

    /// A file of hers.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The text of a file of hers.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Starts a program in the folder of this repository.
    pub fn start(&self, program: &str, arguments: &[&str], more: &[(String, String)]) -> Running {
        // A shell cannot trap what was ignored when it began, and who runs tests in the background lets them ignore SIGINT.
        let mut child = Command::new("env")
            .arg("--default-signal=HUP,INT,TERM")
            .arg(program)
            .args(arguments)
            .current_dir(repository(""))
            .env("PATH", &self.path)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.file("kubeconfig"))
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.file("stdout")).unwrap())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("running {program}: {error}"));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, lines, err: String::new() }
    }

    /// Runs `with-lease.sh` with these arguments to its end.
    pub async fn with_lease(&self, arguments: &[&str]) -> Said {
        self.start_with_lease(arguments).ends().await
    }

    /// Starts `with-lease.sh` with these arguments.
    pub fn start_with_lease(&self, arguments: &[&str]) -> Running {
        self.start("examples/ci/with-lease.sh", arguments, &[])
    }
}

/// Makes a program of a shell script.
pub fn program(path: &std::path::Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A script that runs.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    err: String,
}

impl Running {
    /// Waits until it says this on standard error.
    pub async fn says(&mut self, words: &str) {
        let read = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.err += &format!("{line}\n");
                if line.contains(words) {
                    return true;
                }
            }
            false
        };
        let said = tokio::time::timeout(PATIENCE, read).await;
        assert!(said == Ok(true), "it did not say {words:?}, but:\n{}", self.err);
    }

    /// Sends it a signal: to its shell alone, as a runner does.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Waits until it has ended.
    pub async fn ends(mut self) -> Said {
        let end = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.err += &format!("{line}\n");
            }
            self.child.wait().await.unwrap().code()
        };
        match tokio::time::timeout(PATIENCE, end).await {
            Ok(code) => Said { code, err: self.err },
            Err(_) => panic!("it has not ended, but said:\n{}", self.err),
        }
    }
}

/// Two hosts, one of each kind, as `examples/hosts.yaml` has them.
pub async fn example_hosts(sandbox: &Sandbox<'_>) {
    sandbox.apply(Identity::Admin, &fs::read_to_string(repository("examples/hosts.yaml")).unwrap()).await;
}

/// Checks that a lease was served, was given back when it had been Active, and has left nothing behind.
pub async fn served_and_given_back(sandbox: &Sandbox<'_>, name: &str) -> Value {
    let lease = format!("lease/{name}");
    sandbox.wait_gone(&lease).await;
    sandbox.history().caught_up().await;
    let phases = sandbox.history().phases(&lease);
    assert!(
        phases.contains(&"Active".to_owned()) && phases.last().is_some_and(|last| last == "Destroyed"),
        "{phases:?}"
    );
    let of = sandbox.history().of(&lease);
    nobody_holds_anything(sandbox).await;
    of.last().expect("it was there").object.data.clone()
}

/// Waits until no resource is held.
pub async fn nobody_holds_anything(sandbox: &Sandbox<'_>) {
    for resource in sandbox.list("resource").await {
        let name = format!("resource/{}", resource.metadata.name.unwrap());
        sandbox.wait_for(&name, "free", |resource| crate::told::claimants(resource).is_empty()).await;
    }
}
