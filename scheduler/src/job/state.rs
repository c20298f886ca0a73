//! States of a job and of the executions of its subtasks, and their transitions as tables.

/// The state of a job.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | Created | HEAD is claimed, the checkpoint to restore is known | WaitingForResources |
/// | Created | HEAD cannot be had | Failed |
/// | Created | the same, of a job that an earlier leader ran | Reconciling |
/// | Created | the same, of a job of which an earlier leader has written how it ended | Finished, Failed, Canceled |
/// | Reconciling | TaskManagers run all of its tasks | Deploying |
/// | Reconciling | TaskManagers run some of its regions, or time is up | Restarting |
/// | Reconciling | time is up, no region runs | WaitingForResources |
/// | WaitingForResources | all slots are reserved | Deploying |
/// | WaitingForResources | slots are missing for too long, a coordinator fails | Failed |
/// | Created, Reconciling, WaitingForResources | cancel | Canceled |
/// | Deploying | every task runs (or has finished) | Running |
/// | Deploying, Running | a task fails, a TaskManager is lost; the strategy allows a restart | Restarting |
/// | Restarting | every region to restart has ended, waited, has slots and is deployed again | Deploying |
/// | Deploying, Running, Restarting | a failure after which the strategy allows no restart | Failing |
/// | Restarting | slots are missing for too long | Failing |
/// | Deploying, Running, Restarting | cancel | Canceling |
/// | Failing | no task is left | Failed |
/// | Canceling | no task is left | Canceled |
/// | Running | every task has finished | Finished |
/// | Running | stop with a savepoint | StoppingWithSavepoint |
/// | StoppingWithSavepoint | see [`super::stop`] | Running, Restarting, Failing, Canceling, Finished |
/// | any that is not the end | this JobManager leads no more | Suspended |
///
/// A failure of more regions while Restarting adds them; failures while Failing or Canceling are
/// recorded only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Submitted; its checkpoints are being opened.
    Created,
    /// An earlier leader ran it: waits for TaskManagers to say what runs.
    Reconciling,
    /// Needs slots.
    WaitingForResources,
    /// All tasks are deployed, not all run yet.
    Deploying,
    /// All tasks run or have finished.
    Running,
    /// A savepoint is taken, after which the job ends.
    StoppingWithSavepoint,
    /// Some regions wait for their next attempt; the others run.
    Restarting,
    /// Tasks are being cancelled because the user wants it.
    Canceling,
    /// Tasks are being cancelled because the job has failed.
    Failing,
    /// All tasks have finished.
    Finished,
    /// Ended by a failure.
    Failed,
    /// Ended by the user.
    Canceled,
    /// Another JobManager goes on with it.
    Suspended,
}

impl JobState {
    /// Every transition there is.
    pub const TRANSITIONS: &'static [(JobState, JobState)] = {
        use JobState::*;
        &[
            (Created, WaitingForResources),
            (Created, Failed),
            (Created, Canceled),
            (Created, Finished),
            (Created, Reconciling),
            (Reconciling, WaitingForResources),
            (Reconciling, Deploying),
            (Reconciling, Restarting),
            (Reconciling, Canceled),
            (WaitingForResources, Deploying),
            (WaitingForResources, Failed),
            (WaitingForResources, Canceled),
            (Deploying, Running),
            (Deploying, Restarting),
            (Deploying, Failing),
            (Deploying, Canceling),
            (Running, Restarting),
            (Running, Failing),
            (Running, Canceling),
            (Running, Finished),
            (Running, StoppingWithSavepoint),
            (StoppingWithSavepoint, Running),
            (StoppingWithSavepoint, Restarting),
            (StoppingWithSavepoint, Failing),
            (StoppingWithSavepoint, Canceling),
            (StoppingWithSavepoint, Finished),
            (Restarting, Deploying),
            (Restarting, Failing),
            (Restarting, Canceling),
            (Failing, Failed),
            (Canceling, Canceled),
            (Created, Suspended),
            (Reconciling, Suspended),
            (WaitingForResources, Suspended),
            (Deploying, Suspended),
            (Running, Suspended),
            (StoppingWithSavepoint, Suspended),
            (Restarting, Suspended),
            (Canceling, Suspended),
            (Failing, Suspended),
        ]
    };

    /// The job has ended, at least for this JobManager.
    pub fn is_terminal(self) -> bool {
        self.is_globally_terminal() || self == JobState::Suspended
    }

    /// The job has ended for good.
    pub fn is_globally_terminal(self) -> bool {
        matches!(self, JobState::Finished | JobState::Failed | JobState::Canceled)
    }

    /// The state of this name, in which a job ended for good.
    pub fn ended(name: &str) -> Option<JobState> {
        [JobState::Finished, JobState::Failed, JobState::Canceled].into_iter().find(|state| state.status(true) == name)
    }

    /// Flink's name of the state as users see it. `restarted`: tasks ran before.
    pub fn status(self, restarted: bool) -> &'static str {
        match self {
            JobState::Deploying if restarted => "RESTARTING",
            JobState::Created | JobState::WaitingForResources | JobState::Deploying => "CREATED",
            JobState::Reconciling => "RECONCILING",
            JobState::Running | JobState::StoppingWithSavepoint => "RUNNING",
            JobState::Restarting => "RESTARTING",
            JobState::Canceling => "CANCELLING",
            JobState::Failing => "FAILING",
            JobState::Finished => "FINISHED",
            JobState::Failed => "FAILED",
            JobState::Canceled => "CANCELED",
            JobState::Suspended => "SUSPENDED",
        }
    }
}

/// The state of one execution attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExecutionState {
    /// Not deployed yet.
    Created,
    /// The deployment was sent.
    Deploying,
    /// The TaskManager restores its state.
    Initializing,
    /// Processes data and takes part in checkpoints.
    Running,
    /// Ended by itself.
    Finished,
    /// Told to stop.
    Canceling,
    /// Has stopped.
    Canceled,
    /// Has failed, or its TaskManager is lost.
    Failed,
}

impl ExecutionState {
    /// Every transition there is, within one attempt.
    pub const TRANSITIONS: &'static [(ExecutionState, ExecutionState)] = {
        use ExecutionState::*;
        &[
            (Created, Deploying),
            (Deploying, Initializing),
            (Deploying, Running),
            (Deploying, Canceling),
            (Deploying, Failed),
            (Initializing, Running),
            (Initializing, Canceling),
            (Initializing, Failed),
            (Running, Finished),
            (Running, Canceling),
            (Running, Failed),
            (Canceling, Canceled),
            (Canceling, Finished),
            (Canceling, Failed),
        ]
    };

    /// The attempt has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, ExecutionState::Finished | ExecutionState::Canceled | ExecutionState::Failed)
    }

    /// The attempt is somewhere on a TaskManager.
    pub fn is_live(self) -> bool {
        !self.is_terminal() && self != ExecutionState::Created
    }

    /// Flink's name.
    pub fn name(self) -> &'static str {
        match self {
            ExecutionState::Created => "CREATED",
            ExecutionState::Deploying => "DEPLOYING",
            ExecutionState::Initializing => "INITIALIZING",
            ExecutionState::Running => "RUNNING",
            ExecutionState::Finished => "FINISHED",
            ExecutionState::Canceling => "CANCELING",
            ExecutionState::Canceled => "CANCELED",
            ExecutionState::Failed => "FAILED",
        }
    }

    /// Reads what a TaskManager reports.
    pub fn parse(name: &str) -> Option<ExecutionState> {
        use ExecutionState::*;
        [Deploying, Initializing, Running, Finished, Canceled, Failed].into_iter().find(|state| state.name() == name)
    }
}
