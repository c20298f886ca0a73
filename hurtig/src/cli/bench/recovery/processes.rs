//! A JobManager and TaskManagers as processes of this program, and what their probes print.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::workload::Seen;

/// How long a process may take to be ready.
const START: Duration = Duration::from_secs(60);

/// A line of a process, with the time at which it was read: the clock of all figures.
#[derive(Debug)]
pub struct Heard {
    pub at: Instant,
    /// Number of the process.
    pub process: u32,
    pub what: Line,
}

/// What a process says.
#[derive(Debug)]
pub enum Line {
    /// It can be used; its gRPC address.
    Ready(String),
    Rows(Seen),
    /// Its output has ended.
    End,
}

/// A process, killed when it is dropped.
struct Process {
    child: Child,
    number: u32,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cluster under measurement.
pub struct Processes {
    folder: PathBuf,
    options: Vec<String>,
    address: String,
    next: u32,
    lines: (Sender<Heard>, Receiver<Heard>),
    /// TaskManagers by name, then the JobManager, so that it is dropped last.
    taskmanagers: Vec<(String, Process)>,
    frozen: Vec<Process>,
    _jobmanager: Option<Process>,
}

impl Processes {
    /// Starts a JobManager; `options` (`key=value`) are for all processes.
    pub fn start(folder: &Path, options: Vec<String>) -> anyhow::Result<Processes> {
        let mut processes = Processes {
            folder: folder.to_owned(),
            options,
            address: String::new(),
            next: 0,
            lines: channel(),
            taskmanagers: Vec::new(),
            frozen: Vec::new(),
            _jobmanager: None,
        };
        let jobmanager = processes.spawn("jobmanager", "jobmanager", &["jobmanager.rpc.port=0".to_owned()])?;
        let deadline = Instant::now() + START;
        while processes.address.is_empty() {
            match processes.next(deadline)?.map(|heard| heard.what) {
                Some(Line::Ready(address)) => processes.address = address,
                Some(Line::Rows(_)) => {}
                Some(Line::End) | None => bail!("the JobManager did not start: {}", processes.last_words("jobmanager")),
            }
        }
        processes._jobmanager = Some(jobmanager);
        Ok(processes)
    }

    /// The JobManager's, host:port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts a TaskManager without waiting for it; gives the number of its process.
    pub fn start_taskmanager(&mut self, name: &str) -> anyhow::Result<u32> {
        let (host, port) = self.address.rsplit_once(':').context("the JobManager's address has no port")?;
        let own = [
            format!("jobmanager.rpc.address={host}"),
            format!("jobmanager.rpc.port={port}"),
            format!("taskmanager.resource-id={name}"),
            format!("process.taskmanager.working-dir={}", self.folder.display()),
        ];
        let process = self.spawn("taskmanager", name, &own)?;
        let number = process.number;
        self.taskmanagers.push((name.to_owned(), process));
        Ok(number)
    }

    /// Kills a TaskManager as `kill -9` does, and says when.
    pub fn kill_taskmanager(&mut self, name: &str) -> anyhow::Result<Instant> {
        let position = self.taskmanagers.iter().position(|(n, _)| n == name).context("there is no such TaskManager")?;
        let (_, mut process) = self.taskmanagers.remove(position);
        let at = Instant::now();
        process.child.kill()?;
        process.child.wait()?;
        Ok(at)
    }

    /// Stops a TaskManager's process without ending it: a machine that answers no more.
    pub fn freeze_taskmanager(&mut self, name: &str) -> anyhow::Result<Instant> {
        let position = self.taskmanagers.iter().position(|(n, _)| n == name).context("there is no such TaskManager")?;
        let (_, process) = self.taskmanagers.remove(position);
        let at = Instant::now();
        // SAFETY: kill only sends a signal, to a child that has not been waited for.
        let failed = unsafe { libc::kill(process.child.id() as libc::pid_t, libc::SIGSTOP) } != 0;
        if failed {
            bail!("cannot stop the process of {name}: {}", std::io::Error::last_os_error());
        }
        self.frozen.push(process);
        Ok(at)
    }

    /// Names of the TaskManagers.
    pub fn taskmanagers(&self) -> Vec<String> {
        self.taskmanagers.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What a TaskManager keeps on disk.
    pub fn working_dir(&self, name: &str) -> PathBuf {
        self.folder.join(format!("tm_{name}"))
    }

    /// The next line of any process, until `deadline`.
    pub fn next(&self, deadline: Instant) -> anyhow::Result<Option<Heard>> {
        match self.lines.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(heard) => Ok(Some(heard)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("no process is left"),
        }
    }

    /// The end of a process's log.
    pub fn last_words(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        format!("{} ({})", lines.into_iter().rev().collect::<Vec<_>>().join("; "), self.log(name).display())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn spawn(&mut self, role: &str, name: &str, own: &[String]) -> anyhow::Result<Process> {
        let log = self.log(name);
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.args(["bench", "process", role]);
        command.args(self.options.iter().chain(own).map(|option| format!("-D{option}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().with_context(|| format!("cannot start a {role}"))?;
        let output = child.stdout.take().context("the output of a process is missing")?;
        let (number, lines) = (self.next, self.lines.0.clone());
        self.next += 1;
        let process = Process { child, number };
        std::thread::Builder::new().name(format!("output-{name}")).spawn(move || listen(number, output, &lines))?;
        Ok(process)
    }
}

fn listen(process: u32, output: impl std::io::Read, lines: &Sender<Heard>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let at = Instant::now();
        let what = match Seen::parse(&line) {
            Some(seen) => Line::Rows(seen),
            None => match ready(&line) {
                Some(address) => Line::Ready(address),
                None => continue,
            },
        };
        if lines.send(Heard { at, process, what }).is_err() {
            return;
        }
    }
    let _ = lines.send(Heard { at: Instant::now(), process, what: Line::End });
}

fn ready(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line["ready"] == true).then(|| line["rpc"].as_str().unwrap_or_default().to_owned())
}
