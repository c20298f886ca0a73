//! Reports to the JobManager, through the session that deployed a task.

use std::sync::{Arc, Weak};

use hurtig_graph::ids::AttemptId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use internal::from_task_manager::Message;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::collect::Collect;
use super::core::Core;
use crate::task::{Acknowledgement, Outcome, TaskListener};

/// One registration with a leader. What is sent after its end is dropped.
#[derive(Clone)]
pub struct Session {
    epoch: u64,
    sender: mpsc::UnboundedSender<internal::FromTaskManager>,
}

impl Session {
    /// A session under the leader's `epoch`.
    pub fn new(epoch: u64, sender: mpsc::UnboundedSender<internal::FromTaskManager>) -> Session {
        Session { epoch, sender }
    }

    /// The leader's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sends a message.
    pub fn send(&self, message: Message) {
        let _ = self.sender.send(internal::FromTaskManager { epoch: self.epoch, message: Some(message) });
    }

    /// Reports a state of a task.
    pub fn task_state(&self, attempt: &AttemptId, state: &str, error: &str, restore: Option<v1::RestoreReport>) {
        self.send(Message::TaskState(internal::TaskStateChanged {
            attempt: Some(attempt.to_proto()),
            state: state.to_owned(),
            error: error.to_owned(),
            restore,
            damaged_checkpoint: 0,
        }));
    }

    /// Reports that a task could not be started; `damaged`: because of objects of this checkpoint.
    pub fn not_started(&self, attempt: &AttemptId, error: &str, damaged: Option<u64>) {
        self.send(Message::TaskState(internal::TaskStateChanged {
            attempt: Some(attempt.to_proto()),
            state: "FAILED".to_owned(),
            error: error.to_owned(),
            restore: None,
            damaged_checkpoint: damaged.unwrap_or(0),
        }));
    }

    /// Reports that a task cannot take part in a checkpoint.
    pub fn decline(&self, attempt: internal::AttemptId, checkpoint: u64, reason: &str) {
        self.send(Message::CheckpointDecline(internal::CheckpointDecline {
            attempt: Some(attempt),
            checkpoint_id: checkpoint,
            reason: reason.to_owned(),
        }));
    }
}

/// Reports of one task.
pub struct SessionListener {
    attempt: AttemptId,
    session: Session,
    core: Weak<Core>,
    collect: Arc<Collect>,
    restore: Mutex<Option<v1::RestoreReport>>,
}

impl SessionListener {
    /// For the task `attempt`.
    pub fn new(
        attempt: AttemptId,
        session: Session,
        core: Weak<Core>,
        collect: Arc<Collect>,
        restore: Option<v1::RestoreReport>,
    ) -> SessionListener {
        SessionListener { attempt, session, core, collect, restore: Mutex::new(restore) }
    }
}

impl TaskListener for SessionListener {
    fn running(&self) {
        let restore = self.restore.lock().take();
        tracing::info!(task = %self.attempt, restored = restore.map(|r| r.checkpoint_id), "task runs");
        self.session.task_state(&self.attempt, "RUNNING", "", restore);
    }

    fn barrier_passed(&self, checkpoint: u64) {
        self.collect.hold(checkpoint);
    }

    fn acknowledge(&self, acknowledgement: Acknowledgement) {
        let checkpoint = acknowledgement.checkpoint;
        self.session.send(Message::CheckpointAck(internal::CheckpointAck {
            attempt: Some(self.attempt.to_proto()),
            checkpoint_id: checkpoint,
            snapshot: Some(acknowledgement.snapshot),
            sync_us: acknowledgement.sync_us,
            async_ms: acknowledgement.async_ms,
            alignment_us: acknowledgement.alignment_us,
        }));
        self.collect.release(checkpoint);
    }

    fn decline(&self, checkpoint: u64, reason: &str) {
        self.session.decline(self.attempt.to_proto(), checkpoint, reason);
        self.collect.release(checkpoint);
    }

    fn end_of_data(&self) {
        self.session.send(Message::EndOfData(internal::EndOfData { attempt: Some(self.attempt.to_proto()) }));
    }

    fn ended(&self, outcome: &Outcome) {
        let (state, error) = match outcome {
            Outcome::Finished => ("FINISHED", ""),
            Outcome::Canceled => ("CANCELED", ""),
            Outcome::Failed(reason) => ("FAILED", reason.as_str()),
        };
        if state == "FAILED" {
            tracing::warn!(task = %self.attempt, error, "task failed");
        } else {
            tracing::info!(task = %self.attempt, state, "task ended");
        }
        match self.core.upgrade() {
            Some(core) => core.task_ended(&self.attempt, &self.session, state, error),
            None => self.session.task_state(&self.attempt, state, error, None),
        }
    }

    fn is_full(&self) -> bool {
        self.collect.is_full()
    }
}
