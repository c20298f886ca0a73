//! `hurtig bench recovery`: how long a job with much state is away after a failure.
//!
//! The command is the outside clock: it starts a JobManager and TaskManagers as processes of this
//! program, runs one job ([`workload`]) at half its maximum, lets it fail again and again
//! ([`scenarios`]) and reads what the job's sink prints ([`watch`]). A figure starts when the failure
//! is caused and ends when the line of the first row has come that could not have its value without
//! the restored state.

mod processes;
mod scenarios;
mod watch;
mod workload;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use hurtig::{Error, ErrorKind};
use hurtig_graph::config::{Configuration, keys};
use serde::Serialize;

use super::super::{configuration, process};
use scenarios::{Bench, Measured};

/// A process of the bench.
#[derive(Debug, Subcommand)]
pub enum ProcessCommand {
    /// A JobManager that knows the bench's connectors
    #[command(name = "jobmanager")]
    JobManager(process::JobManagerArgs),
    /// A TaskManager that knows the bench's connectors
    #[command(name = "taskmanager")]
    TaskManager(process::TaskManagerArgs),
}

/// Runs a process of the bench.
pub fn run_process(command: ProcessCommand) -> anyhow::Result<()> {
    match command {
        ProcessCommand::JobManager(args) => process::run_job_manager(args, workload::extensions()),
        ProcessCommand::TaskManager(args) => process::run_task_manager(args, workload::extensions()),
    }
}

/// What happens to the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// A TaskManager is killed and started again with its resource id and folder
    Local,
    /// A task fails
    InPlace,
    /// A TaskManager is killed, its folder is lost, and another one comes
    Remote,
    /// The parallelism changes from 2 to 4 and back
    Rescale,
    /// A TaskManager falls silent without an end of its connections (not run by default: it takes
    /// heartbeat.timeout a run)
    Silent,
}

/// Arguments of `bench recovery`.
#[derive(Debug, Args)]
pub struct RecoveryArgs {
    /// Size of the state
    #[arg(long, default_value = "1GB")]
    state: String,
    /// What happens
    #[arg(long, value_enum, value_delimiter = ',', default_value = "local,in-place,remote,rescale")]
    scenario: Vec<Scenario>,
    /// How often each happens, all to the same job
    #[arg(long, default_value_t = 10)]
    runs: u32,
    /// Time between checkpoints
    #[arg(long, value_name = "DURATION", default_value = "5 s")]
    checkpoint_interval: String,
    /// Rows a second; without it half of the maximum, which is measured first
    #[arg(long)]
    rate: Option<f64>,
    /// Where checkpoints go, for example s3p://bucket/folder (with -D s3.endpoint=...); without it a
    /// folder beside the TaskManagers' own
    #[arg(long, value_name = "URI")]
    checkpoint_dir: Option<String>,
    /// Folder for everything; without it a temporary one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// Sets a configuration key for all processes
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,
}

/// Runs the command.
pub fn run(args: &RecoveryArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a development build; measure with one made by 'make install'");
    }
    let wanted = bytes(&args.state)?;
    if args.runs == 0 {
        return Err(Error::new(ErrorKind::Config, "--runs: write at least 1").into());
    }
    // Checked here, where it can be said; the processes check again.
    configuration::load(&super::super::ConfigurationArgs { config: None, define: args.define.clone() })?;
    let temporary = tempfile::Builder::new().prefix("hurtig-recovery-").tempdir()?;
    let folder = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut bench = Bench::start(args, wanted, &folder)?;
    let mut measured = Vec::new();
    for &scenario in &args.scenario {
        measured.push(bench.measure(scenario, args.runs)?);
    }
    drop(bench);
    report(args, &measured)
}

/// A size as configuration has it, `1GB`.
fn bytes(text: &str) -> anyhow::Result<u64> {
    let mut size = Configuration::default();
    size.set(keys::TASKMANAGER_MEMORY_PROCESS.key, text);
    let bytes = size.memory_bytes(&keys::TASKMANAGER_MEMORY_PROCESS).ok().flatten().filter(|&bytes| bytes > 0);
    Ok(bytes.ok_or_else(|| Error::new(ErrorKind::Config, format!("--state: '{text}' is not a size, as 1GB")))?)
}

fn report(args: &RecoveryArgs, measured: &[Measured]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(measured)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{:<9}  {:>5}  {:>10}  {:>13}  {:>13}  {:>12}  {:>10}",
        "SCENARIO", "RUNS", "STATE", "FIRST ROW P50", "FIRST ROW MAX", "LAG ZERO P50", "RATE AFTER"
    )?;
    for m in measured {
        let name = m.scenario.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
        writeln!(
            out,
            "{name:<9}  {:>5}  {:>10}  {:>10} ms  {:>10} ms  {:>9} ms  {:>8.0} %",
            m.runs.len(),
            super::super::resources::bytes_text(m.state_bytes),
            m.first_batch_p50_ms,
            m.first_batch_max_ms,
            m.lag_zero_p50_ms,
            m.rate_after_min * 100.0
        )?;
    }
    Ok(())
}
