//! What users see of a job.

use hurtig_proto::v1;

use super::state::JobState;
use super::topology::TaskRef;
use super::{JobMaster, SlotsSeen};

impl JobMaster {
    /// A summary.
    pub fn status(&self) -> v1::JobStatus {
        let stats = self.checkpoints.stats();
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
        }
    }

    /// The slots that are missing; empty when none are.
    fn waiting_for(&self) -> String {
        let waits = matches!(self.state, JobState::WaitingForResources | JobState::Restarting);
        if !waits || self.slots_missing_since_ms.is_none() {
            return String::new();
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
        };
        v1::JobDetails {
            status: Some(self.status()),
            vertices: self.topology.plan.vertices.iter().enumerate().map(vertex).collect(),
            failures: self.failures.iter().cloned().collect(),
        }
    }

    fn subtask(&self, task: usize) -> v1::SubtaskDetails {
        let TaskRef { subtask, region, .. } = self.topology.tasks[task];
        let execution = &self.executions[task];
        v1::SubtaskDetails {
            subtask,
            attempt: execution.attempt,
            state: execution.state.name().to_owned(),
            region: region as u32,
            taskmanager: execution.taskmanager.clone(),
            restore: execution.restore.or(execution.metrics.restore),
            ..execution.metrics.clone()
        }
    }
}
