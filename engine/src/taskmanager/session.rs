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
use hurtig_graph::attempt_record::AttemptRecord;

/// Where reports go: one registration with a leader. What is sent after its end is dropped.
///
/// With high availability each task has a session of its own that records what the next leader needs
/// to take the task over; then it is bound to that leader's registration. Clones are one session.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    epoch: u64,
    /// `None`: the leader is lost.
    sender: Option<mpsc::UnboundedSender<internal::FromTaskManager>>,
    record: Option<AttemptRecord>,
}

impl Session {
    /// A session under the leader's `epoch`.
    pub fn new(epoch: u64, sender: mpsc::UnboundedSender<internal::FromTaskManager>) -> Session {
        Session { inner: Arc::new(Mutex::new(Inner { epoch, sender: Some(sender), record: None })) }
    }

    /// A session of the task of `deployment`, to the same leader, that records.
    pub fn recorded(&self, deployment: &internal::TaskDeployment) -> Session {
        let inner = self.inner.lock();
        let record = Some(AttemptRecord::of(deployment));
        Session { inner: Arc::new(Mutex::new(Inner { epoch: inner.epoch, sender: inner.sender.clone(), record })) }
    }

    /// The leader's epoch.
    pub fn epoch(&self) -> u64 {
        self.inner.lock().epoch
    }

    /// Whether both go to the same leader, which is not lost.
    pub fn is_of(&self, other: &Session) -> bool {
        if Arc::ptr_eq(&self.inner, &other.inner) {
            return true;
        }
        let epoch = other.epoch();
        let inner = self.inner.lock();
        inner.epoch == epoch && inner.sender.is_some()
    }

    /// The session records.
    pub fn is_recorded(&self) -> bool {
        self.inner.lock().record.is_some()
    }

    /// The leader is lost.
    pub fn detach(&self) {
        self.inner.lock().sender = None;
    }

    /// The leader of `to` takes the task over. What it may have missed is sent again: the task's
    /// state, the end of its data, and what its operators wait for an answer to.
    pub fn adopt(&self, to: &Session) {
        let (epoch, sender) = {
            let to = to.inner.lock();
            (to.epoch, to.sender.clone())
        };
        let mut inner = self.inner.lock();
        (inner.epoch, inner.sender) = (epoch, sender);
        let missed = inner.record.as_ref().map(AttemptRecord::missed).unwrap_or_default();
        for message in missed {
            inner.send(message);
        }
    }

    /// What the next leader needs to know of the task.
    pub fn report(&self) -> Option<internal::RunningAttempt> {
        self.inner.lock().record.as_ref().map(AttemptRecord::report)
    }

    /// A coordinator's message has come for an operator of the task.
    pub fn received(&self, operator_uid: &str, payload: &[u8]) {
        if let Some(record) = &mut self.inner.lock().record {
            record.received(operator_uid, payload);
        }
    }

    /// The task was triggered for a checkpoint.
    pub fn triggered(&self, checkpoint: u64, stopping: bool) {
        if let Some(record) = &mut self.inner.lock().record {
            record.triggered(checkpoint, stopping);
        }
    }

    /// A checkpoint of the job is complete.
    pub fn completed(&self, job: &str, checkpoint: u64) {
        if let Some(record) = &mut self.inner.lock().record {
            record.completed(job, checkpoint);
        }
    }

    /// Sends a message.
    pub fn send(&self, message: Message) {
        let mut inner = self.inner.lock();
        if let Some(record) = &mut inner.record {
            record.sent(&message);
        }
        inner.send(message);
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

impl Inner {
    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(internal::FromTaskManager { epoch: self.epoch, message: Some(message) });
        }
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
        tracing::info!(task = %self.attempt, restored = restore.as_ref().map(|r| r.checkpoint_id), "task runs");
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
