//! `hurtig cluster start|status|stop`: a JobManager and TaskManagers as processes of this machine.
//!
//! What was started is remembered in a folder: `cluster.json` with process ids and addresses, and
//! the processes' logs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use hurtig::client::Client;
use hurtig::{Error, ErrorKind, v1};
use serde::{Deserialize, Serialize};

use super::job_text::Table;
use super::{ConfigurationArgs, configuration, exit, logging};

/// How long a process may take to be ready.
const START: Duration = Duration::from_secs(30);
/// How long a process may take to end when asked to.
const STOP: Duration = Duration::from_secs(10);

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Starts a JobManager and TaskManagers in the background
    Start(StartArgs),
    /// Shows whether the processes run and what they do
    Status {
        /// One JSON line instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        configuration: ConfigurationArgs,
    },
    /// Stops what `start` started
    Stop {
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Number of TaskManagers
    #[arg(short = 'n', long, default_value_t = 1)]
    taskmanagers: u32,
    /// One JSON line instead of text
    #[arg(long)]
    json: bool,
    /// Allows ports on other interfaces than loopback without TLS and authentication
    #[arg(long)]
    insecure_network: bool,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    configuration: ConfigurationArgs,
}

/// Where the cluster is remembered.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Folder for logs and process ids
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl PlaceArgs {
    fn folder(&self) -> PathBuf {
        let default = || {
            // SAFETY: getuid reads the id of this process and cannot fail.
            let user = unsafe { libc::getuid() };
            std::env::temp_dir().join(format!("hurtig-cluster-{user}"))
        };
        self.dir.clone().unwrap_or_else(default)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct ClusterFile {
    jobmanager: Member,
    taskmanagers: Vec<Member>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Member {
    pid: u32,
    rpc: Option<String>,
    data: Option<String>,
    metrics: Option<String>,
}

impl Member {
    /// Where it listens: a TaskManager for data, the JobManager for everyone.
    fn address(&self) -> &str {
        self.data.as_deref().or(self.rpc.as_deref()).unwrap_or_default()
    }
}

/// Runs the command.
pub fn run(command: ClusterCommand) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    match command {
        ClusterCommand::Start(args) => start(&args),
        ClusterCommand::Status { json, place, configuration } => status(json, &place.folder(), &configuration),
        ClusterCommand::Stop { place } => stop(&place.folder()),
    }
}

fn start(args: &StartArgs) -> anyhow::Result<()> {
    let folder = args.place.folder();
    if let Ok(running) = read(&folder)
        && members(&running).any(|m| is_ours(m.pid))
    {
        let reason = format!("a cluster is running already ({}): stop it first", folder.display());
        return Err(Error::new(ErrorKind::Config, reason).into());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut started = Started::default();
    let jobmanager = started.launch(args, &folder, "jobmanager", "jobmanager", &[])?;
    let address = jobmanager.rpc.clone().unwrap_or_default();
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, "0"));
    let at = [format!("-Djobmanager.rpc.address={host}"), format!("-Djobmanager.rpc.port={port}")];
    let mut taskmanagers = Vec::new();
    for i in 0..args.taskmanagers {
        taskmanagers.push(started.launch(args, &folder, "taskmanager", &format!("taskmanager-{i}"), &at)?);
    }
    let cluster = ClusterFile { jobmanager, taskmanagers };
    let text = serde_json::to_string(&cluster)?;
    std::fs::write(folder.join("cluster.json"), &text)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    started.keep();
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{text}")?;
    } else {
        out.write_all(introduction(&cluster, &folder, args.place.dir.is_some()).as_bytes())?;
    }
    Ok(())
}

/// Where everything is, and what can be done with it.
fn introduction(cluster: &ClusterFile, folder: &Path, own_folder: bool) -> String {
    let mut table = Table::new(&["PROCESS", "PID", "ADDRESS", "METRICS", "LOG"]);
    for (name, member) in named(cluster) {
        table.row(vec![
            name.clone(),
            member.pid.to_string(),
            member.address().to_owned(),
            member.metrics.as_ref().map(|m| format!("http://{m}/metrics")).unwrap_or_default(),
            folder.join(format!("{name}.log")).display().to_string(),
        ]);
    }
    let at = cluster.jobmanager.address();
    let place = if own_folder { format!(" --dir {}", folder.display()) } else { String::new() };
    format!(
        "{}\nnext:\n  hurtig sql --cluster {at} -e \"SELECT 'hello' AS greeting\"\n  hurtig jobs list --cluster {at}\n  \
         hurtig doctor --cluster {at}\n  hurtig cluster status{place}\n  hurtig cluster stop{place}\n",
        table.text("")
    )
}

/// All processes by the name of their log.
fn named(cluster: &ClusterFile) -> impl Iterator<Item = (String, &Member)> {
    let taskmanagers = cluster.taskmanagers.iter().enumerate().map(|(i, m)| (format!("taskmanager-{i}"), m));
    std::iter::once(("jobmanager".to_owned(), &cluster.jobmanager)).chain(taskmanagers)
}

fn status(json: bool, folder: &Path, configuration: &ConfigurationArgs) -> anyhow::Result<()> {
    let cluster = read(folder)
        .map_err(|_| Error::new(ErrorKind::NotFound, format!("no cluster was started here ({})", folder.display())))?;
    let processes: Vec<ProcessStatus> =
        named(&cluster).map(|(name, m)| ProcessStatus { name, running: is_ours(m.pid), member: m.clone() }).collect();
    let gone = processes.iter().filter(|p| !p.running).count();
    let (address, configuration) = (cluster.jobmanager.address().to_owned(), configuration::load(configuration)?);
    let seen = super::block_on(async move {
        let client = Client::connect_with(&address, &configuration).await?;
        Ok((client.overview().await?, client.jobs().await?))
    });
    let mut out = std::io::stdout();
    let running = |jobs: &[v1::JobStatus]| jobs.iter().filter(|j| j.end_time_ms == 0).count();
    if json {
        let jobmanager = match &seen {
            Ok((overview, jobs)) => serde_json::json!({
                "slots_total": overview.slots_total,
                "slots_free": overview.slots_free,
                "taskmanagers": overview.taskmanagers.len(),
                "jobs_running": running(jobs),
            }),
            Err(error) => serde_json::json!({ "error": format!("{error:#}") }),
        };
        writeln!(out, "{}", serde_json::json!({ "processes": processes, "cluster": jobmanager }))?;
    } else {
        let mut table = Table::new(&["PROCESS", "PID", "STATE", "ADDRESS", "METRICS", "LOG"]);
        for process in &processes {
            table.row(vec![
                process.name.clone(),
                process.member.pid.to_string(),
                if process.running { "running" } else { "GONE" }.to_owned(),
                process.member.address().to_owned(),
                process.member.metrics.clone().unwrap_or_default(),
                folder.join(format!("{}.log", process.name)).display().to_string(),
            ]);
        }
        out.write_all(table.text("").as_bytes())?;
        match &seen {
            Ok((overview, jobs)) => writeln!(
                out,
                "\n{} TaskManagers registered, {} of {} slots free, {} jobs running",
                overview.taskmanagers.len(),
                overview.slots_free,
                overview.slots_total,
                running(jobs)
            )?,
            Err(error) => writeln!(out, "\n{error:#}")?,
        }
    }
    match gone + usize::from(seen.is_err()) {
        0 => Ok(()),
        problems => Err(exit::Problems(problems).into()),
    }
}

#[derive(Debug, Serialize)]
struct ProcessStatus {
    name: String,
    running: bool,
    #[serde(flatten)]
    member: Member,
}

/// Processes that were started. Unless kept they are ended again, so that a start that fails leaves
/// nothing behind.
#[derive(Default)]
struct Started {
    children: Vec<Child>,
}

impl Started {
    fn launch(
        &mut self,
        args: &StartArgs,
        folder: &Path,
        role: &str,
        name: &str,
        more: &[String],
    ) -> anyhow::Result<Member> {
        let (out, log) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.log")));
        let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg(role).stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&log)?);
        if let Some(config) = &args.configuration.config {
            command.arg("--config").arg(config);
        }
        command.args(args.configuration.define.iter().map(|d| format!("-D{d}"))).args(more);
        if args.insecure_network {
            command.arg("--insecure-network");
        }
        // A group of its own: a Ctrl-C at the terminal is not for it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().with_context(|| format!("cannot start a {role}"))?;
        self.children.push(child);
        let child = self.children.last_mut().context("the process was just started")?;
        wait_ready(child, &out, &log)
    }

    fn keep(mut self) {
        self.children.clear();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_ready(child: &mut Child, out: &Path, log: &Path) -> anyhow::Result<Member> {
    let deadline = Instant::now() + START;
    loop {
        let text = std::fs::read_to_string(out).unwrap_or_default();
        if let Some(line) = text.lines().find(|l| l.starts_with("{\"ready\":true")) {
            return serde_json::from_str(line).with_context(|| format!("cannot read the line '{line}'"));
        }
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            let _ = child.kill();
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let last = text.lines().rev().find(|l| l.contains("error")).or(text.lines().last()).unwrap_or("no log");
            let code = ended.and_then(|status| status.code());
            let kind = if code == Some(i32::from(ErrorKind::Config.exit_code())) {
                ErrorKind::Config
            } else {
                ErrorKind::Resource
            };
            let message = format!("a process did not start: {last} ({})", log.display());
            return Err(Error::new(kind, message).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stop(folder: &Path) -> anyhow::Result<()> {
    let cluster = read(folder)
        .map_err(|_| Error::new(ErrorKind::NotFound, format!("no cluster was started here ({})", folder.display())))?;
    // TaskManagers first: they are not to wait for a JobManager that has gone.
    let running: Vec<u32> = members(&cluster).map(|m| m.pid).filter(|&pid| is_ours(pid)).collect();
    for &pid in &running {
        // Not SIGTERM, on which a TaskManager waits until jobs have left it.
        signal(pid, libc::SIGINT);
    }
    let deadline = Instant::now() + STOP;
    while running.iter().any(|&pid| is_ours(pid)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    for &pid in running.iter().filter(|&&pid| is_ours(pid)) {
        signal(pid, libc::SIGKILL);
    }
    std::fs::remove_file(folder.join("cluster.json")).context("cannot remove cluster.json")?;
    writeln!(std::io::stdout(), "stopped {} processes", running.len())?;
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<ClusterFile> {
    Ok(serde_json::from_str(&std::fs::read_to_string(folder.join("cluster.json"))?)?)
}

fn members(cluster: &ClusterFile) -> impl Iterator<Item = &Member> {
    cluster.taskmanagers.iter().chain(std::iter::once(&cluster.jobmanager))
}

/// Whether the process runs and is a JobManager or TaskManager: ids are given out again.
fn is_ours(pid: u32) -> bool {
    let Ok(arguments) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    arguments.split(|b| *b == 0).any(|a| a == b"jobmanager" || a == b"taskmanager")
}

fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: kill only sends a signal; an id that does not exist is answered with an error.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
