//! Rows of a "collect" sink on their way to the JobManager.
//!
//! The JobManager takes everything that it received from an attempt before the acknowledgement of a
//! checkpoint as part of that checkpoint. So rows behind a barrier are held here until the
//! acknowledgement (or decline) has been sent. Rows that the JobManager has not confirmed are
//! limited; beyond that the task stops.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use hurtig_graph::ids::AttemptId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use internal::from_task_manager::Message;
use parking_lot::Mutex;

use super::session::Session;
use crate::batch::Batch;
use crate::error::Result;
use crate::executor::Waker;
use crate::task::{TaskHandle, TaskMessage};

/// Rows that may be under way.
const UNCONFIRMED_ROWS: u64 = 64 * 1024;

#[derive(Default)]
struct State {
    writer: Option<StreamWriter<Vec<u8>>>,
    /// Rows given to us so far, and of these the rows that the JobManager has confirmed.
    collected: u64,
    confirmed: u64,
    /// The checkpoint whose barrier has passed and that is not answered yet.
    hold: Option<u64>,
    held: Vec<internal::CollectedBatch>,
}

/// The collected rows of one task.
pub struct Collect {
    attempt: AttemptId,
    session: Session,
    task: TaskHandle,
    waker: Waker,
    state: Mutex<State>,
}

impl Collect {
    /// For the task `attempt`.
    pub fn new(attempt: AttemptId, session: Session, task: TaskHandle) -> Arc<Collect> {
        let waker = task.waker();
        Arc::new(Collect { attempt, session, task, waker, state: Mutex::default() })
    }

    /// Takes rows. Rows that cannot be encoded fail the task.
    pub fn collect(&self, batch: &Batch) {
        if batch.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let arrow_ipc = match encode(&mut state.writer, batch) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.task.send(TaskMessage::Fail(format!("rows of the result cannot be encoded: {error}")));
                return;
            }
        };
        let collected = internal::CollectedBatch {
            attempt: Some(self.attempt.to_proto()),
            sequence: state.collected,
            batch: Some(v1::ResultBatch {
                arrow_ipc: arrow_ipc.into(),
                row_kinds: batch.kinds().map(<[u8]>::to_vec).unwrap_or_default().into(),
            }),
        };
        state.collected += batch.num_rows() as u64;
        if state.hold.is_some() {
            state.held.push(collected);
        } else {
            self.session.send(Message::Collected(collected));
        }
    }

    /// Rows from now on are behind the barrier of `checkpoint`.
    pub fn hold(&self, checkpoint: u64) {
        self.state.lock().hold = Some(checkpoint);
    }

    /// `checkpoint` has been answered.
    pub fn release(&self, checkpoint: u64) {
        let mut state = self.state.lock();
        if state.hold != Some(checkpoint) {
            return;
        }
        state.hold = None;
        for batch in std::mem::take(&mut state.held) {
            self.session.send(Message::Collected(batch));
        }
    }

    /// The JobManager has all rows before `position`.
    pub fn confirm(&self, position: u64) {
        let was_full = {
            let mut state = self.state.lock();
            let was_full = state.is_full();
            state.confirmed = state.confirmed.max(position);
            was_full
        };
        if was_full {
            (self.waker)();
        }
    }

    /// Whether the task has to wait for confirmation.
    pub fn is_full(&self) -> bool {
        self.state.lock().is_full()
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.collected.saturating_sub(self.confirmed) >= UNCONFIRMED_ROWS
    }
}

/// The IPC messages for `batch`: of the first batch with the schema before it.
fn encode(writer: &mut Option<StreamWriter<Vec<u8>>>, batch: &Batch) -> Result<Vec<u8>> {
    let schema: SchemaRef = batch.schema();
    let writer = match writer {
        Some(writer) => writer,
        none => none.insert(StreamWriter::try_new(Vec::new(), &schema)?),
    };
    writer.write(batch.records())?;
    Ok(std::mem::take(writer.get_mut()))
}

#[cfg(test)]
mod tests {
    use hurtig_proto::internal::v1::FromTaskManager;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::task::testing::{job_id, rows};
    use crate::task::{Mailbox, Notifier};

    fn collect() -> (Arc<Collect>, Mailbox, UnboundedReceiver<FromTaskManager>) {
        let (sender, receiver) = unbounded_channel();
        let mailbox = Mailbox::new(Notifier::new(Arc::new(|| {})));
        let attempt = AttemptId { job: job_id(), vertex: "sink".into(), subtask: 0, attempt: 0 };
        (Collect::new(attempt, Session::new(1, sender), mailbox.handle().clone()), mailbox, receiver)
    }

    fn sequences(receiver: &mut UnboundedReceiver<FromTaskManager>) -> Vec<u64> {
        let mut found = Vec::new();
        while let Ok(message) = receiver.try_recv() {
            match message.message {
                Some(Message::Collected(batch)) => found.push(batch.sequence),
                other => panic!("{other:?}"),
            }
        }
        found
    }

    #[test]
    fn rows_behind_a_barrier_wait_for_the_answer_to_its_checkpoint() {
        let (collect, _mailbox, mut receiver) = collect();
        collect.collect(&rows(&[(1, 1), (2, 2)]));
        collect.hold(5);
        collect.collect(&rows(&[(3, 3)]));
        collect.release(4);
        assert_eq!(sequences(&mut receiver), [0], "another checkpoint's answer says nothing");
        collect.release(5);
        collect.collect(&rows(&[(4, 4)]));
        assert_eq!(sequences(&mut receiver), [2, 3]);
    }

    #[test]
    fn unconfirmed_rows_are_limited_and_confirmation_wakes_the_task() {
        let (collect, mailbox, _receiver) = collect();
        let batch = rows(&vec![(0, 0); UNCONFIRMED_ROWS as usize]);
        collect.collect(&batch);
        assert!(collect.is_full());
        mailbox.notifier().take();
        collect.confirm(1);
        assert!(!collect.is_full() && mailbox.notifier().take());
    }

    #[test]
    fn the_payloads_of_an_attempt_are_one_arrow_stream() {
        let (collect, _mailbox, mut receiver) = collect();
        collect.collect(&rows(&[(1, 2)]));
        collect.collect(&rows(&[(3, 4), (5, 6)]));
        let mut stream = Vec::new();
        while let Ok(FromTaskManager { message: Some(Message::Collected(batch)), .. }) = receiver.try_recv() {
            stream.extend_from_slice(&batch.batch.unwrap().arrow_ipc);
        }
        let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
        assert_eq!(reader.map(|b| b.unwrap().num_rows()).collect::<Vec<_>>(), [1, 2]);
    }
}
