//! Starts JobManager and TaskManager processes for a test and asks them by the command line.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The command under test.
pub fn hurtig() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
    command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()));
    command
}

/// A process that has printed its ready line.
pub struct Process {
    child: Child,
    pub ready: Value,
    pub log: PathBuf,
    /// Kept open where nobody reads it.
    _unread: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    pub fn start(arguments: &[&str], log: PathBuf) -> Process {
        let mut command = hurtig();
        command.args(arguments);
        Process::launch(command, log, true)
    }

    /// Starts `command`; what it prints after its ready line is read, or is not.
    pub fn launch(mut command: Command, log: PathBuf, read: bool) -> Process {
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(errors).stdin(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = loop {
            match lines.next() {
                Some(Ok(line)) if line.starts_with('{') => break serde_json::from_str(&line).unwrap(),
                Some(Ok(_)) => {}
                _ => panic!("no ready line; log:\n{}", std::fs::read_to_string(&log).unwrap_or_default()),
            }
        };
        if !read {
            return Process { child, ready, log, _unread: Some(lines) };
        }
        // What the process prints later (the print connector) must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, ready, log, _unread: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn memory(&self) -> Memory {
        Memory::of(self.child.id())
    }

    /// What it has logged.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// How it has ended; `None`: it runs.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it without its knowing, as SIGSTOP does, until [`Process::resume`].
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends a signal by its name without SIG.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("--- {}", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

impl Memory {
    pub fn of(pid: u32) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
        };
        Memory { now: field("VmRSS:"), peak: field("VmHWM:") }
    }
}

/// How the processes of a cluster are started, besides `-D`.
#[derive(Default)]
pub struct Setup {
    /// The text of their `config.yaml`.
    pub config: Option<String>,
    pub environment: Vec<(&'static str, String)>,
    /// The TaskManager whose standard output nobody reads.
    pub unread: Option<usize>,
}

/// A cluster of processes in a temporary folder.
pub struct Cluster {
    pub folder: tempfile::TempDir,
    pub jobmanager: Process,
    pub taskmanagers: Vec<Process>,
    options: Vec<String>,
    setup: Setup,
}

impl Cluster {
    /// One JobManager and `taskmanagers` TaskManagers with `slots` slots, all with `options`
    /// (`key=value`).
    pub fn start(taskmanagers: usize, slots: usize, options: &[&str]) -> Cluster {
        let slots = format!("taskmanager.numberOfTaskSlots={slots}");
        let options: Vec<&str> = options.iter().copied().chain([slots.as_str()]).collect();
        Cluster::start_as(Setup::default(), taskmanagers, &options)
    }

    /// One JobManager and `taskmanagers` TaskManagers as `setup` and `options` say.
    pub fn start_as(setup: Setup, taskmanagers: usize, options: &[&str]) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = &setup.config {
            std::fs::write(folder.path().join("config.yaml"), text).unwrap();
        }
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        let own = ["jobmanager.rpc.port=0".to_owned()];
        let command = command(&setup, folder.path(), "jobmanager", options.iter().chain(&own));
        let jobmanager = Process::launch(command, folder.path().join("jobmanager.log"), true);
        let mut cluster = Cluster { folder, jobmanager, taskmanagers: Vec::new(), options, setup };
        for index in 0..taskmanagers {
            let process = cluster.spawn_taskmanager(index);
            cluster.taskmanagers.push(process);
        }
        cluster
    }

    pub fn address(&self) -> String {
        self.jobmanager.ready["rpc"].as_str().unwrap().to_owned()
    }

    /// The working directory of TaskManager `index`, kept over restarts.
    pub fn working_dir(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("tm-{index}"))
    }

    /// Starts the process of TaskManager `index` with its stable resource id and folder.
    pub fn spawn_taskmanager(&self, index: usize) -> Process {
        let address = self.address();
        let (host, port) = address.rsplit_once(':').unwrap();
        let own = [
            format!("jobmanager.rpc.address={host}"),
            format!("jobmanager.rpc.port={port}"),
            format!("taskmanager.resource-id=tm-{index}"),
            format!("process.taskmanager.working-dir={}", self.working_dir(index).display()),
        ];
        let command = command(&self.setup, self.folder.path(), "taskmanager", self.options.iter().chain(&own));
        let read = self.setup.unread != Some(index);
        Process::launch(command, self.folder.path().join(format!("tm-{index}.log")), read)
    }

    /// Kills TaskManager `index` as `kill -9` does.
    pub fn kill_taskmanager(&mut self, index: usize) {
        self.taskmanagers[index].kill();
    }

    /// Starts a killed TaskManager again.
    pub fn restart_taskmanager(&mut self, index: usize) {
        self.taskmanagers[index] = self.spawn_taskmanager(index);
    }

    /// Runs an SQL script against the cluster.
    pub fn sql(&self, script: &str) -> Output {
        hurtig().args(["sql", "--cluster", &self.address(), "-e", script]).output().unwrap()
    }

    /// Runs a script whose last statement is an INSERT; gives the job's id.
    pub fn insert(&self, script: &str) -> String {
        let output = self.sql(script);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        job_id_in(&text)
    }

    /// Submits a job graph in JSON; gives the job's id.
    pub fn submit(&self, graph: &Path) -> String {
        let graph = graph.to_str().unwrap();
        let output = hurtig().args(["jobs", "submit", graph, "--cluster", &self.address()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        job_id_in(&text)
    }

    /// `hurtig jobs show ID --json`.
    pub fn job(&self, id: &str) -> Value {
        let output = hurtig().args(["jobs", "show", id, "--json", "--cluster", &self.address()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until `condition` holds for the job.
    pub fn wait_for(&self, id: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let job = self.job(id);
            if condition(&job) {
                return job;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}; the job is {job:#}");
            assert_ne!(job["state"], "FAILED", "while waiting until {what}: {job:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn wait_running(&self, id: &str) -> Value {
        self.wait_for(id, "all subtasks run", |job| {
            job["state"] == "RUNNING" && subtasks(job).all(|s| s["state"] == "RUNNING")
        })
    }

    pub fn wait_finished(&self, id: &str) -> Value {
        self.wait_for(id, "the job has finished", |job| job["state"] == "FINISHED")
    }
}

fn command<'a>(setup: &Setup, folder: &Path, role: &str, options: impl Iterator<Item = &'a String>) -> Command {
    let mut command = hurtig();
    command.arg(role).envs(setup.environment.iter().map(|(name, value)| (name, value)));
    if setup.config.is_some() {
        command.arg("--config").arg(folder.join("config.yaml"));
    }
    options.for_each(|option| {
        command.args(["-D", option]);
    });
    command
}

pub fn job_id_in(text: &str) -> String {
    text.split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == 32)
        .unwrap_or_else(|| panic!("no job id in: {text}"))
        .to_owned()
}

/// All subtasks of a job's description.
pub fn subtasks(job: &Value) -> impl Iterator<Item = &Value> {
    job["vertices"].as_array().into_iter().flatten().flat_map(|v| v["subtasks"].as_array().into_iter().flatten())
}

/// Rows that the vertices behind the sources have taken.
pub fn rows_behind_sources(job: &Value) -> u64 {
    let vertices = job["vertices"].as_array().into_iter().flatten();
    let behind = vertices.filter(|v| !v["name"].as_str().unwrap().starts_with("Source"));
    behind.flat_map(|v| v["subtasks"].as_array().unwrap()).map(|s| s["rows_in"].as_u64().unwrap()).sum()
}

/// All lines of the visible files below `folder`, sorted.
pub fn lines_below(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in files_below(folder) {
        lines.extend(std::fs::read_to_string(file).unwrap().lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

/// The visible files below `folder`.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return files };
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}
