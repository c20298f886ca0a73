//! `hurtig taskmanagers list|decommission`: the TaskManagers of a running cluster.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Subcommand;
use hurtig::client::Client;
use hurtig::{Error, ErrorKind, v1};
use hurtig_graph::config::{Configuration, keys};
use serde::Serialize;

use super::job_text::Table;
use super::jobs::connect;
use super::{RemoteArgs, block_on, logging};

/// How often a TaskManager that is waited for is looked at.
const POLL: Duration = Duration::from_millis(200);

/// What to do with TaskManagers.
#[derive(Debug, Subcommand)]
pub enum TaskManagersCommand {
    /// Lists the registered TaskManagers
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Lets nothing new onto TaskManagers; jobs leave them with a checkpoint and one restart
    Decommission {
        /// Resource ids
        #[arg(required = true)]
        ids: Vec<String>,
        /// When they will be ended, from now on (for example '2 min'); jobs leave in time, with the slots there are
        #[arg(long, value_name = "DURATION")]
        within: Option<String>,
        /// Waits until no job has a task there
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// Runs the command.
pub fn run(command: TaskManagersCommand) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    block_on(async move {
        match command {
            TaskManagersCommand::List { json, remote } => list(&connect(&remote).await?, json).await,
            TaskManagersCommand::Decommission { ids, within, wait, remote } => {
                let within = within.as_deref().map(duration).transpose()?;
                decommission(&connect(&remote).await?, &ids, within, wait).await
            }
        }
    })
}

fn duration(text: &str) -> anyhow::Result<Duration> {
    // Durations are written as in the configuration.
    let mut configuration = Configuration::default();
    configuration.set(keys::DECOMMISSION_TIMEOUT.key, text);
    match configuration.duration_ms(&keys::DECOMMISSION_TIMEOUT) {
        Ok(Some(ms)) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => {
            let reason = format!("--within: '{text}' is not a duration: write for example '90 s' or '2 min'");
            Err(Error::new(ErrorKind::Config, reason).into())
        }
    }
}

async fn list(client: &Client, json: bool) -> anyhow::Result<()> {
    let views: Vec<View> = client.overview().await?.taskmanagers.into_iter().map(View::from).collect();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&views)?)?;
        return Ok(());
    }
    let mut table = Table::new(&["ID", "STATE", "SLOTS", "FREE", "PID", "DATA", "METRICS", "NOTICE"]);
    for view in views {
        table.row(vec![
            view.id,
            view.state,
            view.slots.to_string(),
            view.slots_free.to_string(),
            view.pid.to_string(),
            view.data,
            view.metrics,
            view.notice.map_or(String::new(), |notice| notice.source),
        ]);
    }
    out.write_all(table.text("").as_bytes())?;
    Ok(())
}

async fn decommission(client: &Client, ids: &[String], within: Option<Duration>, wait: bool) -> anyhow::Result<()> {
    for id in ids {
        client.decommission(id, within).await?;
    }
    let until = within.map(|within| Instant::now() + within);
    loop {
        let seen = client.overview().await?.taskmanagers;
        let left: Vec<&v1::TaskManagerInfo> =
            seen.iter().filter(|t| ids.contains(&t.resource_id) && t.state == "DRAINING").collect();
        let names = || left.iter().map(|t| t.resource_id.as_str()).collect::<Vec<_>>().join(", ");
        if left.is_empty() {
            writeln!(std::io::stdout(), "drained")?;
            return Ok(());
        }
        if !wait {
            writeln!(std::io::stdout(), "jobs are leaving {}", names())?;
            return Ok(());
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            let reason =
                format!("jobs have not left {} in time: see what they wait for with 'hurtig jobs show'", names());
            return Err(Error::new(ErrorKind::Resource, reason).into());
        }
        tokio::time::sleep(POLL).await;
    }
}

#[derive(Debug, Serialize)]
struct View {
    id: String,
    /// ACTIVE, DRAINING or DRAINED
    state: String,
    slots: u32,
    /// Slots that a job can have.
    slots_free: u32,
    pid: u64,
    data: String,
    metrics: String,
    last_heard_time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<NoticeView>,
}

#[derive(Debug, Serialize)]
struct NoticeView {
    /// SIGTERM, notice file, request
    source: String,
    time_ms: i64,
    /// When the TaskManager ends; 0: not known.
    deadline_ms: i64,
}

impl From<v1::TaskManagerInfo> for View {
    fn from(t: v1::TaskManagerInfo) -> Self {
        let notice = (t.notice_time_ms != 0).then_some(NoticeView {
            source: t.notice_source,
            time_ms: t.notice_time_ms,
            deadline_ms: t.notice_deadline_ms,
        });
        View {
            id: t.resource_id,
            state: t.state,
            slots: t.slots,
            slots_free: t.slots_free,
            pid: t.pid,
            data: t.data_address,
            metrics: t.metrics_address,
            last_heard_time_ms: t.last_heard_time_ms,
            notice,
        }
    }
}
