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
    hold: bool,
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
        if state.hold {
            state.held.push(collected);
        } else {
            self.session.send(Message::Collected(collected));
        }
    }

    /// Rows from now on are behind a barrier.
    pub fn hold(&self) {
        self.state.lock().hold = true;
    }

    /// The checkpoint of the barrier has been answered.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.hold = false;
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
