//! `hurtig doctor`: looks for what commonly keeps a cluster from working.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use hurtig::client::Client;
use hurtig::v1;
use hurtig_graph::config::{Configuration, Severity, check, keys};
use hurtig_state::storage::{ObjectStores, join};

use super::job_text::{duration_text, now_ms};
use super::{RemoteArgs, block_on, configuration, exit, logging};

/// A TaskManager reports every second.
const SILENT_MS: i64 = 15_000;
/// What takes longer is worth a look: a step, a wait, a checkpoint.
const LONG_MS: i64 = 30_000;
/// A running job with checkpoints should have a younger one.
const OVERDUE_MS: i64 = 60_000;
/// A restart is news for so long.
const RECENT_MS: i64 = 600_000;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub fn run(args: DoctorArgs) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    let mut findings = Findings::default();
    let configuration = configuration::load(&args.remote.configuration)?;
    findings.configuration(&configuration)?;
    block_on(async {
        findings.checkpoint_folder(&configuration).await?;
        findings.cluster(&args.remote).await?;
        findings.conclude()
    })
}

#[derive(Default)]
struct Findings {
    problems: usize,
}

impl Findings {
    fn good(&self, text: &str) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "ok       {text}")?;
        Ok(())
    }

    fn note(&self, text: &str) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "note     {text}")?;
        Ok(())
    }

    fn problem(&mut self, text: &str) -> anyhow::Result<()> {
        self.problems += 1;
        writeln!(std::io::stdout(), "PROBLEM  {text}")?;
        Ok(())
    }

    fn configuration(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        for diagnostic in check(configuration) {
            match diagnostic.severity {
                Severity::Info => self.note(&diagnostic.message)?,
                Severity::Warning | Severity::Error => self.problem(&diagnostic.message)?,
            }
        }
        self.good(&format!("configuration: {} keys set", configuration.as_map().len()))
    }

    /// Writes, reads and deletes an object where checkpoints go.
    async fn checkpoint_folder(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        let Some(folder) = configuration.text(&keys::CHECKPOINTING_DIRECTORY) else {
            return self.note(
                "checkpoints: execution.checkpointing.dir is not set here; of a job whose own configuration does not \
                 set it either they are lost with the JobManager",
            );
        };
        self.folder("checkpoints", folder, configuration).await
    }

    async fn folder(&mut self, what: &str, folder: &str, configuration: &Configuration) -> anyhow::Result<()> {
        let stores = Arc::new(ObjectStores::new(configuration.clone(), None));
        let object = join(folder, &format!("hurtig-doctor-{}", uuid::Uuid::new_v4().simple()));
        let tried = async {
            stores.put_if_absent(&object, "ok".into()).await?;
            stores.get(&object).await?;
            stores.delete(&object).await
        };
        match tried.await {
            Ok(()) => self.good(&format!("{what}: {folder} can be written, read and deleted")),
            Err(error) => self.problem(&format!("{what}: {folder}: {error}")),
        }
    }

    async fn cluster(&mut self, remote: &RemoteArgs) -> anyhow::Result<()> {
        let (address, configuration) = configuration::cluster(remote)?;
        let client = match Client::connect_with(&address, &configuration).await {
            Ok(client) => client,
            Err(error) => return self.problem(&error.to_string()),
        };
        let overview = client.overview().await?;
        let (free, total, members) = (overview.slots_free, overview.slots_total, overview.taskmanagers.len());
        self.good(&format!("JobManager at {address}: version {} ({})", overview.version, overview.commit))?;
        let now = now_ms();
        if members == 0 {
            self.problem("no TaskManager is registered: start one, or see its log for why it cannot register")?;
        } else {
            self.good(&format!("{members} TaskManagers, {free} of {total} slots free"))?;
        }
        if members > 0 && free == 0 {
            self.note(
                "no slot is free: the next job will wait; start another TaskManager, or raise \
                       taskmanager.numberOfTaskSlots",
            )?;
        }
        for leaving in overview.taskmanagers.iter().filter(|t| t.notice_time_ms != 0) {
            let (id, source, state) = (&leaving.resource_id, &leaving.notice_source, &leaving.state);
            self.note(&format!("TaskManager {id} is to go ({source}) and {state}: nothing new comes onto it"))?;
        }
        for lost in &overview.lost {
            let ago = duration_text(now - lost.time_ms);
            let (id, address, reason) = (&lost.resource_id, &lost.data_address, &lost.reason);
            self.problem(&format!(
                "TaskManager {id} ({address}) was lost {ago} ago and has not come back: {reason}; see its log, or start it"
            ))?;
        }
        for taskmanager in overview.taskmanagers.iter().filter(|t| t.last_heard_time_ms != 0) {
            let silent = now - taskmanager.last_heard_time_ms;
            if silent > SILENT_MS {
                let (id, silent) = (&taskmanager.resource_id, duration_text(silent));
                self.problem(&format!("TaskManager {id} has been silent for {silent}: is its process stopped?"))?;
            }
        }
        for job in client.jobs().await? {
            self.job(&client, &job, &configuration).await?;
        }
        Ok(())
    }

    async fn job(&mut self, client: &Client, job: &v1::JobStatus, configuration: &Configuration) -> anyhow::Result<()> {
        let (id, name, now) = (&job.job_id, &job.name, now_ms());
        match job.state.as_str() {
            "FAILED" => {
                return self.problem(&format!(
                    "job {id} ({name}) has failed: {}; `hurtig jobs exceptions {id}` shows more",
                    job.root_cause
                ));
            }
            "CANCELED" if !job.root_cause.is_empty() => {
                return self.note(&format!("job {id} ({name}) is CANCELED: {}", job.root_cause));
            }
            "FINISHED" | "CANCELED" => return Ok(()),
            "RUNNING" => self.good(&format!(
                "job {id} ({name}) has been running for {}, {} restarts",
                duration_text(now - job.running_since_ms),
                job.restarts
            ))?,
            state if !job.waiting_for.is_empty() => {
                self.problem(&format!("job {id} ({name}) is {state}: it {}", job.waiting_for))?;
            }
            state => self.problem(&format!("job {id} ({name}) is {state}: {}", job.root_cause))?,
        }
        let details = client.job(id).describe().await?;
        if job.state == "RUNNING" && !job.waiting_for.is_empty() {
            self.note(&format!("job {id} {}", job.waiting_for))?;
        }
        self.restarts(job, now)?;
        self.checkpoints(job, now)?;
        if !job.checkpoint_directory_is_temporary && job.checkpoint_interval_ms != 0 {
            self.folder(&format!("job {id}: checkpoints"), &job.checkpoint_directory, configuration).await?;
        }
        self.tasks(&details, now)
    }

    /// A job that runs now may have failed a moment ago.
    fn restarts(&mut self, job: &v1::JobStatus, now: i64) -> anyhow::Result<()> {
        if job.state != "RUNNING" || job.restarts == 0 {
            return Ok(());
        }
        let (id, cause, since) = (&job.job_id, &job.root_cause, now - job.running_since_ms);
        if cause.is_empty() {
            // It has rescaled, or left TaskManagers that were to go.
            return self.good(&format!("job {id} has restarted {} times, none of them after a failure", job.restarts));
        }
        let text = format!("job {id} has restarted {} times, last {} ago: {cause}", job.restarts, duration_text(since));
        if since < RECENT_MS { self.problem(&text) } else { self.note(&text) }
    }

    fn checkpoints(&mut self, job: &v1::JobStatus, now: i64) -> anyhow::Result<()> {
        let (id, interval) = (&job.job_id, job.checkpoint_interval_ms as i64);
        if interval == 0 {
            return self.note(&format!(
                "job {id} takes no checkpoints: a failure ends it; set execution.checkpointing.interval"
            ));
        }
        if job.checkpoint_directory_is_temporary {
            self.problem(&format!(
                "job {id}: its checkpoints are lost with the JobManager and out of reach for other machines: set \
                 execution.checkpointing.dir"
            ))?;
        }
        if job.checkpoints_failed > job.checkpoints_completed {
            self.problem(&format!(
                "job {id}: more checkpoints have failed than completed; the last failure: {}",
                job.last_checkpoint_failure
            ))?;
        }
        let since = match job.last_checkpoint_time_ms {
            0 => job.running_since_ms,
            time => time.max(job.running_since_ms),
        };
        if job.state == "RUNNING" && now - since > OVERDUE_MS.max(3 * interval) {
            self.problem(&format!(
                "job {id}: no checkpoint for {} (execution.checkpointing.interval is {}){}",
                duration_text(now - since),
                duration_text(interval),
                if job.last_checkpoint_failure.is_empty() {
                    String::new()
                } else {
                    format!("; the last failure: {}", job.last_checkpoint_failure)
                }
            ))?;
        }
        let pending = now - job.pending_checkpoint_since_ms;
        if job.pending_checkpoint != 0 && pending > LONG_MS {
            self.problem(&format!(
                "job {id}: checkpoint {} has been under way for {}{}",
                job.pending_checkpoint,
                duration_text(pending),
                match job.pending_checkpoint_awaits.as_slice() {
                    [] => String::new(),
                    tasks => format!(", waiting for {}", tasks.join(", ")),
                }
            ))?;
        }
        Ok(())
    }

    /// Tasks that are held up, and by what; then where the work is.
    fn tasks(&mut self, details: &v1::JobDetails, now: i64) -> anyhow::Result<()> {
        let id = details.status.as_ref().map(|s| s.job_id.clone()).unwrap_or_default();
        let mut held_back = false;
        for (vertex, s) in details.vertices.iter().flat_map(|v| v.subtasks.iter().map(move |s| (v, s))) {
            if s.state != "RUNNING" || s.reported_time_ms == 0 {
                continue;
            }
            let place = format!("job {id}: {} ({}) on {}", vertex.name, s.subtask, s.taskmanager);
            if now - s.reported_time_ms > SILENT_MS {
                let silent = duration_text(now - s.reported_time_ms);
                self.problem(&format!("{place} has sent no figures for {silent}: its process hangs, or is cut off"))?;
            } else if s.step_ms as i64 > LONG_MS {
                let step = duration_text(s.step_ms as i64);
                self.problem(&format!("{place} has been in one step for {step}: its thread can do nothing else"))?;
            } else if s.blocked_ms as i64 > LONG_MS && s.blocked_on != "input" {
                held_back |= s.blocked_on == "output";
                let blocked = duration_text(s.blocked_ms as i64);
                self.problem(&format!("{place} has been waiting for {blocked}: {}", waiting_for(&s.blocked_on)))?;
            } else if s.backpressured_ms_per_second > 500 {
                held_back = true;
                let share = s.backpressured_ms_per_second / 10;
                self.problem(&format!("{place} is held back {share} % of the time by what follows it"))?;
            }
            if s.late_records_dropped > 0 {
                self.note(&format!("{place} has dropped {} rows that were late", s.late_records_dropped))?;
            }
        }
        let subtasks = details.vertices.iter().flat_map(|v| v.subtasks.iter().map(move |s| (v, s)));
        if held_back && let Some((vertex, s)) = subtasks.max_by_key(|(_, s)| s.busy_ms_per_second) {
            let (name, busy) = (&vertex.name, s.busy_ms_per_second / 10);
            self.note(&format!("job {id}: the busiest task is {name} ({}), {busy} % of the time", s.subtask))?;
        }
        Ok(())
    }

    fn conclude(&self) -> anyhow::Result<()> {
        match self.problems {
            0 => Ok(()),
            n => Err(exit::Problems(n).into()),
        }
    }
}

/// What a reason of a wait means.
fn waiting_for(reason: &str) -> String {
    let meaning = match reason {
        "output" => "the tasks that follow, or the reader of its rows, take nothing",
        "write-back" => "its previous snapshot is still being written: the disk or object storage is slow",
        "final-checkpoint" => "it has done all its work and waits for the checkpoint that covers it",
        "operator" => "work that an operator does off-thread: an external system is slow",
        "peer" => "a task at the other end of a channel has failed",
        _ => return reason.to_owned(),
    };
    format!("{reason} ({meaning})")
}
