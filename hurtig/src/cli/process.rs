//! `hurtig jobmanager` and `hurtig taskmanager`: one role of a cluster as a process.

use std::io::Write;

use clap::Args;
use hurtig::server::{Extensions, JobManagerServer, ServerOptions, TaskManagerServer};
use hurtig::{Error, ErrorKind};
use hurtig_graph::config::{Configuration, keys};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;
use serde::Serialize;

use super::signals::interrupted;
use super::{ConfigurationArgs, configuration, logging};

/// Exit code of a TaskManager with a task that cannot be cancelled.
const EXIT_FATAL: i32 = 239;

/// Figures that nobody renews any more, as those of a task that has ended, vanish after so long.
const FORGET_METRICS: std::time::Duration = std::time::Duration::from_secs(120);

/// How long a JobManager waits to know whether it leads before it says that it is ready.
const ROLE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// What both roles take.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    #[command(flatten)]
    configuration: ConfigurationArgs,
    /// Allows ports on other interfaces than loopback without TLS and authentication
    #[arg(long)]
    insecure_network: bool,
    /// The same as --log-format json
    #[arg(long, hide = true)]
    log_json: bool,
}

/// Arguments of `jobmanager`.
#[derive(Debug, Args)]
pub struct JobManagerArgs {
    #[command(flatten)]
    process: ProcessArgs,
}

/// Arguments of `taskmanager`.
#[derive(Debug, Args)]
pub struct TaskManagerArgs {
    #[command(flatten)]
    process: ProcessArgs,
}

/// The line that a process prints once it can be used.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    role: &'static str,
    /// Of a JobManager: its own; of a TaskManager: its JobManager's.
    rpc: String,
    /// Of a JobManager: whether it leads, or stands by for the one that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<bool>,
    data: Option<String>,
    metrics: Option<String>,
    pid: u32,
}

impl Ready {
    fn print(self) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        writeln!(out, "{}", serde_json::to_string(&self)?)?;
        out.flush()?;
        Ok(())
    }
}

/// Runs a JobManager that knows `extensions` until a signal ends it.
pub fn run_job_manager(args: JobManagerArgs, extensions: Extensions) -> anyhow::Result<()> {
    let options = options(&args.process, extensions)?;
    runtime()?.block_on(async {
        let server = JobManagerServer::start(&options).await?;
        Ready {
            ready: true,
            role: "jobmanager",
            rpc: server.address().to_string(),
            leader: tokio::time::timeout(ROLE_PATIENCE, server.leads()).await.ok(),
            data: None,
            metrics: server.metrics_address().map(|a| a.to_string()),
            pid: std::process::id(),
        }
        .print()?;
        let name = interrupted().await?;
        tracing::info!(signal = name, "the JobManager stops");
        server.stop().await;
        Ok(())
    })
}

/// Runs a TaskManager that knows `extensions` until a signal ends it, or it cannot go on.
pub fn run_task_manager(args: TaskManagerArgs, extensions: Extensions) -> anyhow::Result<()> {
    // A task that cannot be cancelled holds its slot and its files for as long as the process lives.
    let on_fatal = |reason: &str| {
        tracing::error!(reason, "the TaskManager cannot go on: its process ends");
        std::process::exit(EXIT_FATAL);
    };
    let options =
        ServerOptions { on_fatal: Some(std::sync::Arc::new(on_fatal)), ..options(&args.process, extensions)? };
    let jobmanager = jobmanager_address(&options.configuration)?;
    runtime()?.block_on(async {
        let server = TaskManagerServer::start(&options, jobmanager).await?;
        Ready {
            ready: true,
            role: "taskmanager",
            rpc: server.jobmanager().to_owned(),
            leader: None,
            data: Some(server.data_address().to_owned()),
            metrics: server.metrics_address().map(|a| a.to_string()),
            pid: std::process::id(),
        }
        .print()?;
        let ended = tokio::select! {
            name = interrupted() => {
                let name = name?;
                if name == "SIGTERM" {
                    decommission(&server, name).await?;
                }
                tracing::info!(signal = name, "the TaskManager stops");
                None
            }
            reason = server.ended() => Some(reason),
        };
        server.stop().await;
        match ended {
            Some(reason) => Err(Error::new(ErrorKind::Connection, reason).into()),
            None => Ok(()),
        }
    })
}

/// Waits until jobs have left the TaskManager, for as long as there is time.
async fn decommission(server: &TaskManagerServer, signal: &str) -> anyhow::Result<()> {
    let Some(timeout) = server.decommission(signal) else { return Ok(()) };
    tokio::select! {
        () = server.left() => {}
        () = tokio::time::sleep(timeout) => {
            tracing::warn!(timeout_ms = timeout.as_millis() as u64, "jobs have not left in time");
        }
        again = interrupted() => tracing::info!(signal = again?, "a second signal: jobs are not waited for"),
        reason = server.ended() => tracing::info!(reason, "the TaskManager has ended"),
    }
    Ok(())
}

fn options(args: &ProcessArgs, extensions: Extensions) -> anyhow::Result<ServerOptions> {
    let (configuration, found) = configuration::read(&args.configuration)?;
    let json = configuration.choice(&keys::LOG_FORMAT)? == Some("JSON");
    logging::install("info", args.log_json || json);
    configuration::tell(&found);
    let handle = PrometheusBuilder::new()
        .idle_timeout(MetricKindMask::GAUGE, Some(FORGET_METRICS))
        .install_recorder()
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot install the metrics recorder: {e}")))?;
    Ok(ServerOptions {
        configuration,
        extensions,
        metrics: Some(std::sync::Arc::new(move || handle.render())),
        insecure_network: args.insecure_network,
        on_fatal: None,
    })
}

fn jobmanager_address(configuration: &Configuration) -> anyhow::Result<String> {
    let ha = hurtig_state::ha::HaDirectory::of(configuration).map_err(Error::from)?;
    let host = configuration.text(&keys::JOBMANAGER_ADDRESS);
    if ha.is_some() && host.is_none() {
        // The lease says where the leader is.
        return Ok(String::new());
    }
    let host = host.ok_or_else(|| {
        let key = keys::JOBMANAGER_ADDRESS.key;
        Error::new(ErrorKind::Config, format!("{key} is not set: say where the JobManager is, as -D {key}=127.0.0.1"))
    })?;
    let (port, _) = configuration.ports(&keys::JOBMANAGER_PORT)?.unwrap_or((0, 0));
    if port == 0 && !host.split([',', ';']).all(|host| host.contains(':')) {
        let key = keys::JOBMANAGER_PORT.key;
        let reason = format!("{key}: a TaskManager needs the port of the JobManager, not 0");
        return Err(Error::new(ErrorKind::Config, reason).into());
    }
    // Of several, each may have its own port.
    let address = |host: &str| if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    Ok(host.split([',', ';']).map(|host| address(host.trim())).collect::<Vec<_>>().join(","))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().thread_name("hurtig-io").enable_all().build()?)
}
