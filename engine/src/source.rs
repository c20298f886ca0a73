//! The source-reader trait: the head of a chain that has no input.
//!
//! A reader is driven like an operator, on the task's thread, and does not block: bytes are fetched
//! off-thread (by the context's executor), a step decodes what is there. Splits come from the
//! source's coordinator in the JobManager, or follow from the subtask number where a source can
//! compute them. The reader's list state holds its splits with positions: behind a restore it goes
//! on exactly after the rows that it emitted before the barrier.

use crate::error::Result;
use crate::operator::{Collector, OperatorContext, OperatorSnapshot};

/// What a reader can do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Poll again at once.
    Ready,
    /// Poll again when the waker was used, or at this wall-clock time (ms).
    Pending {
        /// `None`: only by the waker.
        until_ms: Option<i64>,
    },
    /// All rows have been emitted and none will come.
    Finished,
}

/// Reads an external system.
pub trait SourceReader: Send {
    /// Called once, before anything else.
    fn open(&mut self, context: OperatorContext) -> Result<()>;

    /// Emits at most about one target batch.
    fn poll(&mut self, out: &mut dyn Collector) -> Result<SourceStatus>;

    /// A message of the coordinator: splits, or that there are no more.
    fn coordinator_message(&mut self, _payload: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Splits with their positions after the rows emitted so far, as list state.
    fn snapshot(&mut self, checkpoint: u64) -> Result<OperatorSnapshot>;

    /// The checkpoint is complete.
    fn checkpoint_complete(&mut self, _checkpoint: u64) -> Result<()> {
        Ok(())
    }

    /// Releases what the reader holds.
    fn close(&mut self) {}
}
