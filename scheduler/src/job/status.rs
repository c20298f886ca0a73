//! What users see of a job.

use hurtig_graph::config::keys;
use hurtig_proto::v1;

use super::state::JobState;
use super::topology::TaskRef;
use super::{JobMaster, SlotsSeen};

/// Tasks that are named where many could be.
const NAMED_TASKS: usize = 5;

impl JobMaster {
    /// A summary.
    pub fn status(&self) -> v1::JobStatus {
        let (stats, pending) = (self.checkpoints.stats(), self.checkpoints.pending());
        let configured = self.topology.plan.configuration.text(&keys::CHECKPOINTING_DIRECTORY);
        let runs = matches!(self.state, JobState::Running | JobState::StoppingWithSavepoint);
        let due = self.restarting.values().copied().filter(|&time| time > i64::MIN).min();
        v1::JobStatus {
            job_id: self.id.as_str().to_owned(),
            name: self.topology.plan.name.clone(),
            state: self.state.status(self.restarts > 0).to_owned(),
            start_time_ms: self.start_time_ms,
            end_time_ms: self.end_time_ms,
            restarts: self.restarts,
            restored_checkpoint: self.restored_checkpoint,
            last_checkpoint: stats.last_id,
            root_cause: self.root_cause.clone(),
            checkpoints_completed: stats.completed,
            checkpoints_failed: stats.failed,
            last_checkpoint_bytes: stats.last_bytes,
            last_checkpoint_uploaded_bytes: stats.last_uploaded_bytes,
            checkpoint_uploaded_bytes: stats.uploaded_bytes,
            waiting_for: self.waiting_for(),
            running_since_ms: if runs { self.running_since_ms } else { 0 },
            last_checkpoint_time_ms: stats.last_time_ms,
            last_checkpoint_duration_ms: stats.last_duration_ms,
            pending_checkpoint: pending.map_or(0, |p| p.id),
            pending_checkpoint_since_ms: pending.map_or(0, |p| p.timestamp_ms),
            pending_checkpoint_awaits: pending.map(|p| self.names(p.awaited())).unwrap_or_default(),
            last_checkpoint_failure: stats.last_failure.as_ref().map(|(reason, _)| reason.clone()).unwrap_or_default(),
            last_checkpoint_failure_time_ms: stats.last_failure.as_ref().map_or(0, |(_, time)| *time),
            checkpoint_interval_ms: self.settings.checkpoints.interval_ms.unwrap_or(0),
            restored_time_ms: self.restored_time_ms,
            checkpoint_directory: self.checkpoint_directory.clone(),
            checkpoint_directory_is_temporary: configured.is_none_or(str::is_empty),
            restart_due_ms: due.unwrap_or(0),
        }
    }

    /// Names of some of these tasks, enough to see where to look.
    fn names(&self, tasks: impl Iterator<Item = usize>) -> Vec<String> {
        let known = tasks.filter(|&task| task < self.executions.len());
        known.take(NAMED_TASKS).map(|task| self.topology.task_name(task)).collect()
    }

    /// The slots that are missing; empty when none are.
    fn waiting_for(&self) -> String {
        let waits = matches!(self.state, JobState::WaitingForResources | JobState::Restarting);
        if !waits || self.slots_missing_since_ms.is_none() {
            return self.waits_to_leave();
        }
        let SlotsSeen { free, total } = self.slots_seen;
        let (held, needed) = (self.slots.len(), self.slots_needed());
        let held = if held == 0 { String::new() } else { format!(" and has {held}") };
        format!(
            "needs {needed} slots{held}, {free} are free of {total}; start TaskManagers or lower parallelism.default"
        )
    }

    /// Everything.
    pub fn details(&self) -> v1::JobDetails {
        let vertex = |(vertex, v): (usize, &hurtig_graph::job::PlanVertex)| v1::VertexDetails {
            id: v.id.clone(),
            name: v.name.clone(),
            parallelism: v.parallelism,
            max_parallelism: v.max_parallelism,
            subtasks: (0..v.parallelism).map(|subtask| self.subtask(self.topology.task(vertex, subtask))).collect(),
            lower_bound: self.requirements.lower[vertex],
            upper_bound: self.requirements.plan.vertices[vertex].parallelism,
        };
        v1::JobDetails {
            status: Some(self.status()),
            vertices: self.topology.plan.vertices.iter().enumerate().map(vertex).collect(),
            failures: self.history.failures(),
            failures_truncated: self.history.truncated(),
            restarts: self.history.restarts(),
        }
    }

    fn subtask(&self, task: usize) -> v1::SubtaskDetails {
        let TaskRef { subtask, region, .. } = self.topology.tasks[task];
        let execution = &self.executions[task];
        let checkpoint = execution.checkpoint.unwrap_or_default();
        v1::SubtaskDetails {
            subtask,
            attempt: execution.attempt,
            state: execution.state.name().to_owned(),
            region: region as u32,
            taskmanager: execution.taskmanager.clone(),
            checkpoint: checkpoint.id,
            checkpoint_time_ms: checkpoint.time_ms,
            checkpoint_bytes: checkpoint.bytes.0,
            checkpoint_uploaded_bytes: checkpoint.bytes.1,
            checkpoint_sync_us: checkpoint.sync_us,
            checkpoint_async_ms: checkpoint.async_ms,
            checkpoint_alignment_us: checkpoint.alignment_us,
            reported_time_ms: execution.reported_ms,
            restore: execution.restore.clone().or_else(|| execution.metrics.restore.clone()),
            ..execution.metrics.clone()
        }
    }
}
