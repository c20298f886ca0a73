//! The current attempt of each task, and what is counted and remembered of attempts.

use std::collections::BTreeMap;

use hurtig_proto::v1;

use super::state::{ExecutionState, JobState};
use crate::slots::{SessionId, SlotId};

/// One execution attempt of a task, the current one.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// From 0. Meaningless before the first deployment.
    pub attempt: u32,
    /// Was deployed at least once.
    pub deployed: bool,
    /// Where the attempt is in its life.
    pub state: ExecutionState,
    /// Where it runs or ran.
    pub slot: Option<SlotId>,
    /// Resource id of that TaskManager.
    pub taskmanager: String,
    /// Last figures.
    pub metrics: v1::SubtaskDetails,
    /// Where its state came from.
    pub restore: Option<v1::RestoreReport>,
    /// The last checkpoint that it acknowledged.
    pub checkpoint: Option<AcknowledgedCheckpoint>,
    /// When the figures came; 0: never.
    pub reported_ms: i64,
}

/// What a task did for a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AcknowledgedCheckpoint {
    /// Which.
    pub id: u64,
    /// When the acknowledgement came.
    pub time_ms: i64,
    /// Size of the task's state, and what was uploaded of it.
    pub bytes: (u64, u64),
    /// The pause of the task.
    pub sync_us: u64,
    /// Write-back and upload.
    pub async_ms: u64,
    /// Between the first barrier and the last.
    pub alignment_us: u64,
}

impl Execution {
    /// Of a task that was never deployed.
    pub(super) fn new() -> Self {
        Execution {
            attempt: 0,
            deployed: false,
            state: ExecutionState::Created,
            slot: None,
            taskmanager: String::new(),
            metrics: v1::SubtaskDetails { watermark_ms: i64::MIN, ..Default::default() },
            restore: None,
            checkpoint: None,
            reported_ms: 0,
        }
    }
}

/// How often something was refused or taken; for metrics and the simulator's coverage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Messages of attempts that are not the current one, or have ended.
    pub stale_messages: u64,
    /// Deployments of a region with a checkpoint.
    pub regions_restored: u64,
    /// Changes of the parallelism.
    pub rescales: u64,
    /// Those of a running job.
    pub rescales_while_running: u64,
    /// Restarts that leave TaskManagers which are to go.
    pub decommissions: u64,
    /// Those that leave several.
    pub decommissions_together: u64,
    /// Jobs that an earlier leader had stopped and whose tasks were told by this one.
    pub stops_finished: u64,
    /// Losses of TaskManagers that were to go, with tasks on them.
    pub died_before_drained: u64,
    /// All tasks were taken over from an earlier leader.
    pub adopted: u64,
    /// Some regions were, others restarted.
    pub adopted_in_part: u64,
    /// Transitions of the job.
    pub job: BTreeMap<(JobState, JobState), u64>,
    /// Transitions of executions.
    pub executions: BTreeMap<(ExecutionState, ExecutionState), u64>,
}

/// A copy of a subtask's state on the disk of a TaskManager.
#[derive(Clone, Debug)]
pub(super) struct LocalCopy {
    pub(super) session: SessionId,
    pub(super) checkpoint: u64,
    pub(super) vertex: usize,
    /// Inclusive range of key groups.
    pub(super) key_groups: (u32, u32),
    pub(super) bytes: u64,
}

/// Slots of the cluster at some time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotsSeen {
    pub(super) free: usize,
    pub(super) total: usize,
}
