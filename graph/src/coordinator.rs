//! The JobManager's side of an operator: source enumerators, watermark alignment, global committers.
//!
//! A coordinator is a pure state machine. It does no I/O and reads no clock: what it wants done it
//! returns as [`CoordinatorAction`]s, and what happened comes back as [`CoordinatorEvent`]s. The
//! JobManager hosts it without knowing what it is for; the simulator drives it the same way.

use std::time::Duration;

/// What a coordinator is told.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorEvent {
    /// The job starts. `parallelism` is that of the operator.
    Start {
        /// Number of subtasks.
        parallelism: u32,
    },
    /// A subtask runs and can be sent messages.
    SubtaskReady {
        /// The subtask.
        subtask: u32,
        /// Its attempt number.
        attempt: u32,
    },
    /// A message of a subtask's operator.
    Message {
        /// The subtask.
        subtask: u32,
        /// What the operator sent.
        payload: Vec<u8>,
    },
    /// The answer to [`CoordinatorAction::Discover`].
    Discovered {
        /// The splits found, each in the connector's encoding, or why discovery failed.
        splits: Result<Vec<Vec<u8>>, String>,
    },
    /// The timer asked for has passed.
    Timer,
    /// A checkpoint that the coordinator had taken a snapshot for is complete.
    CheckpointComplete {
        /// Its id.
        checkpoint: u64,
    },
}

/// What a coordinator wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorAction {
    /// Send `payload` to the operator in `subtask`.
    Send {
        /// The subtask.
        subtask: u32,
        /// In the connector's encoding.
        payload: Vec<u8>,
    },
    /// List the source's splits (files, partitions); answered by [`CoordinatorEvent::Discovered`].
    /// The shell calls the connector's discovery function with the source's options.
    Discover,
    /// Send [`CoordinatorEvent::Timer`] after a while.
    SetTimer(Duration),
    /// Fail the job.
    Fail(String),
}

/// The JobManager's part of an operator. See the module documentation.
pub trait OperatorCoordinator: Send {
    /// Takes one event, returns what is to be done.
    fn handle(&mut self, event: CoordinatorEvent) -> Vec<CoordinatorAction>;

    /// The state for checkpoint `checkpoint`. Called before any barrier of it is injected; messages
    /// returned by later calls reach subtasks only after their barrier.
    fn snapshot(&mut self, checkpoint: u64) -> Vec<u8>;

    /// The whole job restarts from `state` (`None`: from the beginning). Followed by a call of
    /// [`snapshot`](Self::snapshot) with the checkpoint that `state` is of (0: none), so that what is
    /// given out from then on is known to be behind it, and by [`CoordinatorEvent::Start`].
    fn restore(&mut self, state: Option<&[u8]>) -> Result<(), String>;

    /// One subtask restarts from `checkpoint` (0: from the beginning): whatever was given to it
    /// after that checkpoint is taken back.
    fn reset_subtask(&mut self, subtask: u32, checkpoint: u64) -> Vec<CoordinatorAction>;

    /// A subtask runs on although this coordinator has just been restored: another JobManager has
    /// taken the job over. `received` is what the coordinator of the JobManager before has sent it
    /// after the checkpoint that was restored, oldest first; it counts as given by this one from now
    /// on. What the subtask still waits for an answer to, it sends again afterwards.
    ///
    /// False, also by default: that cannot be taken up; the subtask restarts from the checkpoint.
    fn adopt(&mut self, _subtask: u32, _received: &[Vec<u8>]) -> bool {
        false
    }
}
