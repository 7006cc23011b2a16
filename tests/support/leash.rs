//! A program that lives no longer than whoever started it.
//!
//! Every program of a test runs behind the script `tools/controlplane/leash`, which holds one end of a pipe. The other
//! end is a [`Leash`]: when it is dropped, when the process that holds it exits, and also when that process is killed
//! outright, the kernel closes the pipe, and the script ends its program. A static in a test binary is never dropped, so
//! this is how everything ends after a normal run, too.
//!
//! The script is the parent of the program, so that a process identifier never names a stranger.

use std::fs::{self, File};
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Where to find a file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What is to be run, and where its traces go.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Names the log and the file with the process identifier: `NAME.log` and `NAME.pid`.
    pub name: &'a str,
    /// The folder for both. It must exist.
    pub folder: &'a Path,
    /// The program, its arguments and its environment.
    pub command: Command,
    /// Who must end later than this program.
    pub outlived_by: Option<&'a Leash>,
    /// A folder to remove when the program has ended.
    pub removes: Option<&'a Path>,
}

/// A running program, and the thread by which it hangs.
#[derive(Debug)]
pub struct Leash {
    name: String,
    log: PathBuf,
    pid_file: PathBuf,
    script: Child,
    line: Option<PipeWriter>,
    ended: Option<ExitStatus>,
}

impl Leash {
    /// Starts a program. Its output goes to its log, which is appended to.
    pub fn start(plan: Plan<'_>) -> io::Result<Leash> {
        let log = plan.folder.join(format!("{}.log", plan.name));
        let pid_file = plan.folder.join(format!("{}.pid", plan.name));
        for old in [&pid_file, &again(&pid_file)] {
            if old.exists() {
                fs::remove_file(old)?;
            }
        }

        let (end, line) = io::pipe()?;
        let mut script = Command::new(repository("tools/controlplane/leash"));
        script.arg(&pid_file).arg(plan.removes.unwrap_or(Path::new("")));
        script.arg(plan.command.get_program()).args(plan.command.get_args());
        for (name, value) in plan.command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        if let Some(folder) = plan.command.get_current_dir() {
            script.current_dir(folder);
        }
        // As long as the script runs it holds the other program's line by its standard output: the other one ends later
        // even if this process is killed and all lines are let go at the same moment.
        let held = match plan.outlived_by.and_then(|other| other.line.as_ref()) {
            Some(line) => Stdio::from(line.try_clone()?),
            // And whoever reads our output to its end (`cargo test | cat`) knows then that the last one has ended.
            None => Stdio::inherit(),
        };
        let script = script
            .stdin(Stdio::from(end))
            .stdout(held)
            .stderr(File::options().create(true).append(true).open(&log)?)
            // A group of its own: ^C on a terminal goes to the whole foreground group, and would end etcd before the
            // API server, which then takes a minute to give up.
            .process_group(0)
            .spawn()?;
        Ok(Leash { name: plan.name.to_owned(), log, pid_file, script, line: Some(line), ended: None })
    }

    /// The program's name, as the plan gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the program's output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of the program's output.
    pub fn tail(&self, lines: usize) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The program's process identifier. Waits the moment that the script needs to start it.
    pub fn pid(&mut self) -> io::Result<u32> {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            match fs::read_to_string(&self.pid_file) {
                Ok(pid) => return pid.trim().parse().map_err(io::Error::other),
                Err(_) if Instant::now() < patience && self.ended()?.is_none() => {
                    thread::sleep(Duration::from_millis(5))
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How the program ended, if it did.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.script.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Sends a signal (`KILL`, `STOP`, `CONT`, `TERM`) to the program, if it has not ended.
    pub fn signal(&mut self, signal: &str) -> io::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = self.pid()?.to_string();
        // By the program `kill`, since std can send nothing but SIGKILL, and to its own children only.
        let sent = Command::new("kill").args(["-s", signal, &pid]).status()?;
        if sent.success() || self.ended()?.is_some() {
            return Ok(());
        }
        Err(io::Error::other(format!("kill -s {signal} {pid} ({}) failed", self.name)))
    }

    /// Kills the program outright (SIGKILL), and returns when it is gone. It is away until [`Self::come_back`].
    pub async fn knock_out(&mut self) -> io::Result<()> {
        File::create(again(&self.pid_file))?;
        self.signal("KILL")?;
        self.look_until("is still there", |leash| !leash.pid_file.exists()).await
    }

    /// Starts the program again after [`Self::knock_out`], as it was started before.
    pub async fn come_back(&mut self) -> io::Result<()> {
        fs::remove_file(again(&self.pid_file))?;
        self.look_until("does not come back", |leash| leash.pid_file.exists()).await
    }

    async fn look_until(&mut self, otherwise: &str, is: impl Fn(&Self) -> bool) -> io::Result<()> {
        let patience = Instant::now() + Duration::from_secs(30);
        while !is(self) {
            if Instant::now() > patience || self.ended()?.is_some() {
                return Err(io::Error::other(format!("{} {otherwise}", self.name)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Lets go of the program: it gets SIGTERM, and SIGKILL if that does not help. Does not wait.
    pub fn let_go(&mut self) {
        drop(self.line.take());
    }

    /// Lets go of the program, and waits until it has ended. Other tasks go on meanwhile: a server that ends well waits
    /// until its clients have hung up, and they may be among those tasks.
    pub async fn end(&mut self) -> io::Result<ExitStatus> {
        self.let_go();
        loop {
            match self.ended()? {
                Some(status) => return Ok(status),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// While this file is there, a program that has ended is not over, but away.
fn again(pid_file: &Path) -> PathBuf {
    let mut path = pid_file.as_os_str().to_owned();
    path.push(".again");
    path.into()
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.let_go();
        // Nothing to wait for, if `end` has been here before.
        if let Err(error) = self.script.wait() {
            eprintln!("{} may still run: {error}", self.name);
        }
    }
}
