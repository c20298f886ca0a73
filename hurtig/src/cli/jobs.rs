//! `hurtig jobs ...`: jobs of a running cluster.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hurtig::client::{Client, StartFrom};
use hurtig::v1;
use hurtig::{Error, ErrorKind};
use serde::Serialize;

use super::savepoints::{print_path, trigger};
use super::{RemoteArgs, block_on, configuration, job_text, logging};

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Lists all jobs
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Shows a job with its subtasks
    Show {
        /// Id of the job
        id: String,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Shows why a job failed or restarted, the newest failure first
    Exceptions {
        /// Id of the job
        id: String,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Cancels a job
    Cancel {
        /// Id of the job
        id: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Stops a job with a savepoint from which it can go on later
    Stop {
        /// Id of the job
        id: String,
        /// Ends event time before, so that all windows fire: for a job that is not to go on
        #[arg(long)]
        drain: bool,
        /// Folder that the savepoint's folder goes into; without it execution.checkpointing.savepoint-dir
        #[arg(long, value_name = "DIR")]
        savepoint_path: Option<String>,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Takes a savepoint of a job, which runs on
    Savepoint {
        /// Id of the job
        id: String,
        /// Folder that the savepoint's folder goes into; without it execution.checkpointing.savepoint-dir
        #[arg(long, value_name = "DIR")]
        target: Option<String>,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Changes a job's parallelism: once there are slots, after a checkpoint
    Rescale {
        /// Id of the job
        id: String,
        /// Subtasks of every vertex that can run in parallel
        #[arg(short, long, required_unless_present = "vertex", conflicts_with = "vertex")]
        parallelism: Option<u32>,
        /// Bounds of one vertex; every vertex of the job must be named (see `jobs show --json`)
        #[arg(long, value_name = "ID=LEAST:MOST")]
        vertex: Vec<String>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Starts a job from a job graph in JSON
    Submit {
        /// The file; '-' for standard input
        graph: PathBuf,
        /// Id for the job (32 hex digits): submitting again gives the same job
        #[arg(long)]
        job_id: Option<String>,
        #[command(flatten)]
        start: StartArgs,
        /// Waits until the job has ended
        #[arg(long)]
        wait: bool,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// What a submitted job starts from.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Starts from a savepoint or retained checkpoint: its folder or _metadata object
    #[arg(long, value_name = "PATH")]
    from_savepoint: Option<String>,
    /// Whether the job takes over the files that it starts from, and deletes them when it needs them no more
    #[arg(long, value_name = "NO_CLAIM|CLAIM", requires = "from_savepoint", default_value = "NO_CLAIM")]
    claim_mode: String,
    /// Drops state of operators that the job does not have
    #[arg(long, requires = "from_savepoint")]
    allow_non_restored_state: bool,
}

/// Runs the command.
pub fn run(command: JobsCommand) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    block_on(async move {
        match command {
            JobsCommand::List { json, remote } => list(&connect(&remote).await?, json).await,
            JobsCommand::Show { id, json, remote } => show(&connect(&remote).await?, &id, json).await,
            JobsCommand::Exceptions { id, json, remote } => exceptions(&connect(&remote).await?, &id, json).await,
            JobsCommand::Cancel { id, remote } => cancel(&connect(&remote).await?, &id).await,
            JobsCommand::Stop { id, drain, savepoint_path, json, remote } => {
                let path = connect(&remote).await?.job(&id).stop(&savepoint_path.unwrap_or_default(), drain).await?;
                print_path(&id, &path, json)
            }
            JobsCommand::Savepoint { id, target, json, remote } => {
                trigger(&remote, &id, &target.unwrap_or_default(), json).await
            }
            JobsCommand::Submit { graph, job_id, start, wait, json, remote } => {
                submit(&remote, &graph, job_id.unwrap_or_default(), &start, wait, json).await
            }
            JobsCommand::Rescale { id, parallelism, vertex, remote } => {
                let bounds = vertex.iter().map(|text| bounds(text)).collect::<anyhow::Result<_>>()?;
                connect(&remote).await?.job(&id).require(parallelism.unwrap_or(0), bounds).await?;
                writeln!(std::io::stdout(), "job {id} changes its parallelism")?;
                Ok(())
            }
        }
    })
}

/// A client of the cluster that is meant.
pub(super) async fn connect(remote: &RemoteArgs) -> anyhow::Result<Client> {
    let (address, configuration) = configuration::cluster(remote)?;
    Ok(Client::connect_with(&address, &configuration).await?)
}

async fn cancel(client: &Client, id: &str) -> anyhow::Result<()> {
    let job = client.job(id);
    let state = job.status().await?.state;
    let mut out = std::io::stdout();
    if matches!(state.as_str(), "FINISHED" | "CANCELED" | "FAILED") {
        writeln!(out, "job {id} has ended already: {state}")?;
        return Ok(());
    }
    job.cancel().await?;
    writeln!(out, "cancelling job {id}")?;
    Ok(())
}

/// Reads `ID=LEAST:MOST`.
fn bounds(text: &str) -> anyhow::Result<v1::VertexRequirements> {
    let parsed = text.rsplit_once('=').and_then(|(id, bounds)| {
        let (least, most) = bounds.split_once(':')?;
        let (lower_bound, upper_bound) = (least.trim().parse().ok()?, most.trim().parse().ok()?);
        Some(v1::VertexRequirements { vertex_id: id.to_owned(), lower_bound, upper_bound })
    });
    let wrong = || Error::new(ErrorKind::Config, format!("--vertex {text}: write ID=LEAST:MOST, as cbc357cc=1:4"));
    Ok(parsed.ok_or_else(wrong)?)
}

async fn list(client: &Client, json: bool) -> anyhow::Result<()> {
    let jobs = client.jobs().await?;
    let mut out = std::io::stdout().lock();
    if json {
        let views: Vec<JobView> = jobs.into_iter().map(JobView::from).collect();
        writeln!(out, "{}", serde_json::to_string(&views)?)?;
    } else {
        out.write_all(job_text::list(&jobs, job_text::now_ms()).as_bytes())?;
    }
    Ok(())
}

async fn show(client: &Client, id: &str, json: bool) -> anyhow::Result<()> {
    let details = client.job(id).describe().await?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&DetailsView::of(details)?)?)?;
    } else {
        out.write_all(job_text::show(&details, job_text::now_ms()).as_bytes())?;
    }
    Ok(())
}

async fn exceptions(client: &Client, id: &str, json: bool) -> anyhow::Result<()> {
    let details = client.job(id).describe().await?;
    let mut out = std::io::stdout().lock();
    if json {
        let root_cause = details.status.map(|s| s.root_cause).unwrap_or_default();
        let failures: Vec<FailureView> = details.failures.into_iter().rev().map(FailureView::from).collect();
        writeln!(out, "{}", serde_json::json!({ "root_cause": root_cause, "failures": failures }))?;
    } else {
        out.write_all(job_text::exceptions(&details, job_text::now_ms()).as_bytes())?;
    }
    Ok(())
}

async fn submit(
    remote: &RemoteArgs,
    path: &std::path::Path,
    job_id: String,
    start: &StartArgs,
    wait: bool,
    json: bool,
) -> anyhow::Result<()> {
    let shown = path.display().to_string();
    let text = if shown == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|e| Error::new(ErrorKind::Config, format!("cannot read the job graph {shown}: {e}")))?;
    let mut graph = hurtig::graph_json::from_json(&text, &shown)?;
    if let Some(path) = &start.from_savepoint {
        let claim = match start.claim_mode.to_ascii_uppercase().as_str() {
            "NO_CLAIM" => false,
            "CLAIM" => true,
            other => {
                let message = format!("--claim-mode '{other}' is neither NO_CLAIM nor CLAIM");
                return Err(Error::new(ErrorKind::Config, message).into());
            }
        };
        let allow_non_restored_state = start.allow_non_restored_state;
        StartFrom { path: path.clone(), claim, allow_non_restored_state }.apply(&mut graph);
    }
    let job = connect(remote).await?.submit_as(job_id, graph).await?;
    let mut out = std::io::stdout();
    if !wait {
        let shown = if json { serde_json::json!({ "job_id": job.id() }).to_string() } else { job.id().to_owned() };
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    let status = job.wait().await?;
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&JobView::from(status))?)?,
        false => writeln!(out, "{} {}", job.id(), status.state)?,
    }
    Ok(())
}

/// A job as JSON. Ids of checkpoints are 0 where there is none; times are ms since 1970.
#[derive(Debug, Serialize)]
struct JobView {
    job_id: String,
    name: String,
    state: String,
    start_time_ms: i64,
    end_time_ms: i64,
    restarts: u32,
    restored_checkpoint: u64,
    last_checkpoint: u64,
    checkpoints_completed: u64,
    checkpoints_failed: u64,
    last_checkpoint_bytes: u64,
    last_checkpoint_uploaded_bytes: u64,
    checkpoint_uploaded_bytes: u64,
    root_cause: String,
    /// Empty: nothing.
    waiting_for: String,
    running_since_ms: i64,
    restored_time_ms: i64,
    restart_due_ms: i64,
    last_checkpoint_time_ms: i64,
    last_checkpoint_duration_ms: u64,
    last_checkpoint_failure: String,
    last_checkpoint_failure_time_ms: i64,
    pending_checkpoint: u64,
    pending_checkpoint_since_ms: i64,
    /// Some of the tasks that have not acknowledged it.
    pending_checkpoint_awaits: Vec<String>,
    /// 0: off.
    checkpoint_interval_ms: u64,
    checkpoint_directory: String,
    checkpoint_directory_is_temporary: bool,
}

impl From<v1::JobStatus> for JobView {
    fn from(s: v1::JobStatus) -> Self {
        JobView {
            job_id: s.job_id,
            name: s.name,
            state: s.state,
            start_time_ms: s.start_time_ms,
            end_time_ms: s.end_time_ms,
            restarts: s.restarts,
            restored_checkpoint: s.restored_checkpoint,
            last_checkpoint: s.last_checkpoint,
            checkpoints_completed: s.checkpoints_completed,
            checkpoints_failed: s.checkpoints_failed,
            last_checkpoint_bytes: s.last_checkpoint_bytes,
            last_checkpoint_uploaded_bytes: s.last_checkpoint_uploaded_bytes,
            checkpoint_uploaded_bytes: s.checkpoint_uploaded_bytes,
            root_cause: s.root_cause,
            waiting_for: s.waiting_for,
            running_since_ms: s.running_since_ms,
            restored_time_ms: s.restored_time_ms,
            restart_due_ms: s.restart_due_ms,
            last_checkpoint_time_ms: s.last_checkpoint_time_ms,
            last_checkpoint_duration_ms: s.last_checkpoint_duration_ms,
            last_checkpoint_failure: s.last_checkpoint_failure,
            last_checkpoint_failure_time_ms: s.last_checkpoint_failure_time_ms,
            pending_checkpoint: s.pending_checkpoint,
            pending_checkpoint_since_ms: s.pending_checkpoint_since_ms,
            pending_checkpoint_awaits: s.pending_checkpoint_awaits,
            checkpoint_interval_ms: s.checkpoint_interval_ms,
            checkpoint_directory: s.checkpoint_directory,
            checkpoint_directory_is_temporary: s.checkpoint_directory_is_temporary,
        }
    }
}

#[derive(Debug, Serialize)]
struct DetailsView {
    #[serde(flatten)]
    job: JobView,
    vertices: Vec<VertexView>,
    failures: Vec<FailureView>,
    /// There were more failures than are kept (web.exception-history-size).
    failures_truncated: bool,
    restart_reports: Vec<RestartView>,
}

impl DetailsView {
    fn of(details: v1::JobDetails) -> anyhow::Result<DetailsView> {
        let status = details.status.ok_or_else(|| Error::new(ErrorKind::Internal, "the JobManager sent no status"))?;
        Ok(DetailsView {
            job: status.into(),
            vertices: details.vertices.into_iter().map(VertexView::from).collect(),
            failures: details.failures.into_iter().map(FailureView::from).collect(),
            failures_truncated: details.failures_truncated,
            restart_reports: details.restarts.into_iter().map(RestartView::from).collect(),
        })
    }
}

#[derive(Debug, Serialize)]
struct VertexView {
    id: String,
    name: String,
    parallelism: u32,
    max_parallelism: u32,
    lower_bound: u32,
    upper_bound: u32,
    subtasks: Vec<SubtaskView>,
}

impl From<v1::VertexDetails> for VertexView {
    fn from(v: v1::VertexDetails) -> Self {
        VertexView {
            id: v.id,
            name: v.name,
            parallelism: v.parallelism,
            max_parallelism: v.max_parallelism,
            lower_bound: v.lower_bound,
            upper_bound: v.upper_bound,
            subtasks: v.subtasks.into_iter().map(SubtaskView::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct SubtaskView {
    subtask: u32,
    attempt: u32,
    state: String,
    region: u32,
    taskmanager: String,
    rows_in: u64,
    rows_out: u64,
    batches_in: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// `null`: none yet.
    watermark_ms: Option<i64>,
    busy_ms: u64,
    idle_ms: u64,
    backpressured_ms: u64,
    late_rows_dropped: u64,
    restore: Option<RestoreView>,
    /// Empty: it is working.
    blocked_on: String,
    blocked_ms: u64,
    /// How long the step under way takes.
    step_ms: u64,
    rows_in_per_second: f64,
    rows_out_per_second: f64,
    busy_ms_per_second: u32,
    idle_ms_per_second: u32,
    backpressured_ms_per_second: u32,
    checkpoint: u64,
    checkpoint_time_ms: i64,
    checkpoint_bytes: u64,
    checkpoint_uploaded_bytes: u64,
    checkpoint_sync_us: u64,
    checkpoint_async_ms: u64,
    checkpoint_alignment_us: u64,
    mailbox_size: u64,
    mailbox_latency_us: u64,
    input_queue_bytes: u64,
    input_queue_limit: u64,
    output_queue_bytes: u64,
    output_queue_limit: u64,
    /// When these figures came; 0: none have.
    reported_time_ms: i64,
}

impl From<v1::SubtaskDetails> for SubtaskView {
    fn from(s: v1::SubtaskDetails) -> Self {
        SubtaskView {
            subtask: s.subtask,
            attempt: s.attempt,
            state: s.state,
            region: s.region,
            taskmanager: s.taskmanager,
            rows_in: s.records_in,
            rows_out: s.records_out,
            batches_in: s.batches_in,
            bytes_in: s.bytes_in,
            bytes_out: s.bytes_out,
            watermark_ms: (s.watermark_ms != i64::MIN).then_some(s.watermark_ms),
            busy_ms: s.busy_ms,
            idle_ms: s.idle_ms,
            backpressured_ms: s.backpressured_ms,
            late_rows_dropped: s.late_records_dropped,
            restore: s.restore.map(RestoreView::from),
            blocked_on: s.blocked_on,
            blocked_ms: s.blocked_ms,
            step_ms: s.step_ms,
            rows_in_per_second: s.records_in_per_second,
            rows_out_per_second: s.records_out_per_second,
            busy_ms_per_second: s.busy_ms_per_second,
            idle_ms_per_second: s.idle_ms_per_second,
            backpressured_ms_per_second: s.backpressured_ms_per_second,
            checkpoint: s.checkpoint,
            checkpoint_time_ms: s.checkpoint_time_ms,
            checkpoint_bytes: s.checkpoint_bytes,
            checkpoint_uploaded_bytes: s.checkpoint_uploaded_bytes,
            checkpoint_sync_us: s.checkpoint_sync_us,
            checkpoint_async_ms: s.checkpoint_async_ms,
            checkpoint_alignment_us: s.checkpoint_alignment_us,
            mailbox_size: s.mailbox_size,
            mailbox_latency_us: s.mailbox_latency_us,
            input_queue_bytes: s.input_queue_bytes,
            input_queue_limit: s.input_queue_limit,
            output_queue_bytes: s.output_queue_bytes,
            output_queue_limit: s.output_queue_limit,
            reported_time_ms: s.reported_time_ms,
        }
    }
}

#[derive(Debug, Serialize)]
struct RestoreView {
    checkpoint: u64,
    local_bytes: u64,
    remote_bytes: u64,
    duration_ms: u64,
    local_files: u32,
    remote_files: u32,
    /// Until all files were there; the rest of the duration is opening them.
    files_ms: u64,
    ranges: Vec<RestoredRangeView>,
}

/// Where the state of a range of key groups (both ends included) came from.
#[derive(Debug, Serialize)]
struct RestoredRangeView {
    key_groups: (u32, u32),
    local_bytes: u64,
    remote_bytes: u64,
}

impl From<v1::RestoreReport> for RestoreView {
    fn from(r: v1::RestoreReport) -> Self {
        RestoreView {
            checkpoint: r.checkpoint_id,
            local_bytes: r.local_bytes,
            remote_bytes: r.remote_bytes,
            duration_ms: r.duration_ms,
            local_files: r.local_files,
            remote_files: r.remote_files,
            files_ms: r.files_ms,
            ranges: r.ranges.into_iter().map(RestoredRangeView::from).collect(),
        }
    }
}

impl From<v1::RestoredRange> for RestoredRangeView {
    fn from(r: v1::RestoredRange) -> Self {
        RestoredRangeView {
            key_groups: (r.key_group_start, r.key_group_end),
            local_bytes: r.local_bytes,
            remote_bytes: r.remote_bytes,
        }
    }
}

/// A failure, with those that led to the same restart.
#[derive(Debug, Serialize)]
struct FailureView {
    time_ms: i64,
    message: String,
    task: String,
    taskmanager: String,
    concurrent: Vec<FailureView>,
}

impl From<v1::FailureRecord> for FailureView {
    fn from(f: v1::FailureRecord) -> Self {
        FailureView {
            time_ms: f.time_ms,
            message: f.message,
            task: f.task,
            taskmanager: f.taskmanager,
            concurrent: f.concurrent.into_iter().map(FailureView::from).collect(),
        }
    }
}

/// A restart or rescale. Phases are milliseconds since `time_ms`, when the failure was noticed; 0: not
/// yet.
#[derive(Debug, Serialize)]
struct RestartView {
    time_ms: i64,
    cause: String,
    regions: u32,
    rescale: bool,
    checkpoint: u64,
    /// No task of the regions was left.
    ended_ms: u64,
    /// The restart strategy's delay was over.
    waited_ms: u64,
    /// Slots were there and all tasks deployed.
    deployed_ms: u64,
    /// All tasks ran, their state restored.
    running_ms: u64,
    /// Set where tasks left TaskManagers that were to go: no failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    decommission: Option<DecommissionView>,
}

/// Of a restart that leaves TaskManagers. Times are milliseconds since 1970; 0: not reached.
#[derive(Debug, Serialize)]
struct DecommissionView {
    taskmanagers: Vec<String>,
    /// When the first notice came.
    notice_time_ms: i64,
    /// The checkpoint taken because of it; 0: none was.
    checkpoint: u64,
    checkpoint_triggered_ms: i64,
    checkpoint_completed_ms: i64,
    /// When there were slots elsewhere for all that is wanted.
    slots_time_ms: i64,
}

impl From<v1::RestartReport> for RestartView {
    fn from(r: v1::RestartReport) -> Self {
        RestartView {
            time_ms: r.time_ms,
            cause: r.cause,
            regions: r.regions,
            rescale: r.rescale,
            checkpoint: r.checkpoint_id,
            ended_ms: r.ended_ms,
            waited_ms: r.waited_ms,
            deployed_ms: r.deployed_ms,
            running_ms: r.running_ms,
            decommission: r.decommission.map(|d| DecommissionView {
                taskmanagers: d.taskmanagers,
                notice_time_ms: d.notice_time_ms,
                checkpoint: d.checkpoint_id,
                checkpoint_triggered_ms: d.checkpoint_triggered_ms,
                checkpoint_completed_ms: d.checkpoint_completed_ms,
                slots_time_ms: d.slots_time_ms,
            }),
        }
    }
}
