//! What reaches a task from outside its thread, and how it is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};
use hurtig_proto::v1;

use super::snapshot::SnapshotFailure;
use crate::element::Barrier;
use crate::executor::Waker;

/// A message to a task.
#[derive(Debug)]
pub enum TaskMessage {
    /// Start a checkpoint at this task: it is a source, or all its producers have finished.
    Trigger(Barrier),
    /// The checkpoint, and with it all earlier ones, is complete.
    Complete(u64),
    /// The checkpoint was given up.
    Aborted(u64),
    /// From the coordinator of the operator `uid`.
    Coordinator {
        /// The operator.
        uid: String,
        /// In the connector's encoding.
        payload: Vec<u8>,
    },
    /// The part of a snapshot that runs off-thread has ended.
    SnapshotDone {
        /// The checkpoint.
        checkpoint: u64,
        /// The state, or why there is none.
        result: Box<Result<v1::SubtaskSnapshot, SnapshotFailure>>,
        /// How long it took, in ms.
        async_ms: u64,
    },
    /// Something that the task depends on failed.
    Fail(String),
    /// Does nothing: how long it waits in the mailbox is measured.
    Probe {
        /// When it was sent (monotonic, microseconds).
        sent_us: u64,
    },
}

/// Marks a task as having something to do and unparks its thread.
pub struct Notifier {
    woken: AtomicBool,
    unpark: Waker,
}

impl Notifier {
    /// `unpark` wakes the thread that runs the task.
    pub fn new(unpark: Waker) -> Arc<Notifier> {
        Arc::new(Notifier { woken: AtomicBool::new(true), unpark })
    }

    /// There is something to do.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            (self.unpark)();
        }
    }

    /// Whether [`Notifier::wake`] was called since the last time.
    pub fn take(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// [`Notifier::wake`] as a [`Waker`].
    pub fn waker(self: &Arc<Self>) -> Waker {
        let this = Arc::clone(self);
        Arc::new(move || this.wake())
    }
}

/// A task as others reach it. Cheap to clone.
#[derive(Clone)]
pub struct TaskHandle {
    sender: Sender<TaskMessage>,
    notifier: Arc<Notifier>,
    cancelled: Arc<AtomicBool>,
}

impl TaskHandle {
    /// Sends a message. One to a task that has ended is dropped.
    pub fn send(&self, message: TaskMessage) {
        let _ = self.sender.send(message);
        self.notifier.wake();
    }

    /// Messages that wait for the task.
    pub fn waiting(&self) -> usize {
        self.sender.len()
    }

    /// Cancels the task: seen between two steps.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.notifier.wake();
    }

    /// Wakes the task.
    pub fn waker(&self) -> Waker {
        self.notifier.waker()
    }
}

/// The task's end.
pub struct Mailbox {
    receiver: Receiver<TaskMessage>,
    handle: TaskHandle,
}

impl Mailbox {
    /// An empty mailbox of a task that `notifier` wakes.
    pub fn new(notifier: Arc<Notifier>) -> Mailbox {
        let (sender, receiver) = crossbeam_channel::unbounded();
        Mailbox { receiver, handle: TaskHandle { sender, notifier, cancelled: Arc::default() } }
    }

    /// For the senders.
    pub fn handle(&self) -> &TaskHandle {
        &self.handle
    }

    /// The next message, if any.
    pub fn try_receive(&self) -> Option<TaskMessage> {
        self.receiver.try_recv().ok()
    }

    /// Whether the task is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.handle.cancelled.load(Ordering::Acquire)
    }

    /// Whether the task has something to do.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.handle.notifier
    }
}
