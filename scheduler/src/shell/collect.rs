//! Released result rows of a job, between the state machine and the one reader.

use std::collections::VecDeque;
use std::sync::Arc;

use hurtig_graph::ids::JobId;
use hurtig_proto::v1;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::driver::Command;
use crate::error::{Result, SchedulerError};
use crate::job::JobEvent;
use crate::master::Event;

#[derive(Default)]
struct State {
    batches: VecDeque<v1::ResultBatch>,
    closed: Option<Result<()>>,
    has_reader: bool,
    /// Readers so far.
    readers: u64,
}

/// The queue. Its length is bounded by the state machine, which stops acknowledging.
#[derive(Default)]
pub(super) struct CollectQueue {
    state: Mutex<State>,
    changed: Notify,
}

impl CollectQueue {
    pub(super) fn push(&self, batch: v1::ResultBatch) {
        self.state.lock().batches.push_back(batch);
        self.changed.notify_one();
    }

    /// Nothing will come any more; a reader gets what is there and then `outcome`.
    pub(super) fn close(&self, outcome: Result<()>) {
        self.state.lock().closed.get_or_insert(outcome);
        self.changed.notify_one();
    }

    /// The one reader; refused while there is another.
    pub(super) fn read(self: &Arc<Self>, job: JobId, commands: mpsc::UnboundedSender<Command>) -> Result<ResultStream> {
        let mut state = self.state.lock();
        if state.has_reader {
            let message = format!("the rows of job {job} are being read by another client");
            return Err(SchedulerError::Precondition(message));
        }
        state.has_reader = true;
        state.readers += 1;
        let stream = ResultStream { queue: Arc::clone(self), job, commands, reader: state.readers };
        drop(state);
        stream.tell(JobEvent::ReaderAttached { reader: stream.reader });
        Ok(stream)
    }
}

/// The rows of a job, in order. Dropping it lets another reader go on from there; where none comes
/// within `client.heartbeat.timeout` the job is cancelled.
pub struct ResultStream {
    queue: Arc<CollectQueue>,
    job: JobId,
    commands: mpsc::UnboundedSender<Command>,
    reader: u64,
}

impl ResultStream {
    fn tell(&self, event: JobEvent) {
        // When the driver has ended there is no job that could care.
        let _ = self.commands.send(Command::Event(Event::Job { job: self.job.clone(), event: Box::new(event) }));
    }

    /// The next batch; `None` when the job has finished and all rows were read.
    ///
    /// # Errors
    /// The job failed or was cancelled; the message is the root cause.
    pub async fn next(&mut self) -> Option<Result<v1::ResultBatch>> {
        loop {
            let changed = self.queue.changed.notified();
            {
                let mut state = self.queue.state.lock();
                if let Some(batch) = state.batches.pop_front() {
                    self.tell(JobEvent::RowsTaken { bytes: batch.arrow_ipc.len() as u64 });
                    return Some(Ok(batch));
                }
                match &mut state.closed {
                    Some(Ok(())) => return None,
                    Some(outcome) => return std::mem::replace(outcome, Ok(())).err().map(Err),
                    None => {}
                }
            }
            changed.await;
        }
    }
}

impl Drop for ResultStream {
    fn drop(&mut self) {
        self.queue.state.lock().has_reader = false;
        self.tell(JobEvent::ReaderDetached { reader: self.reader });
    }
}
