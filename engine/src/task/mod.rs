//! A task: the operators of one subtask as a step machine.
//!
//! [`Task::step`] does a bounded amount of work and says whether there is more, what it waits for, or
//! how it ended. It never blocks, so that a slot's thread ([`slot`]) can run several tasks, and a test
//! a whole job on one thread. What reaches a task from elsewhere comes through its [`mailbox`].
//!
//! | module | what |
//! | --- | --- |
//! | [`machine`] | the step machine: input, checkpoints, end of data |
//! | [`chain`] | the operators and the elements between them |
//! | [`alignment`] | aligned barriers |
//! | [`watermarks`] | event time from several inputs |
//! | [`snapshot`] | the part of a snapshot that runs off-thread |
//! | [`mailbox`] | messages and wake-ups |
//! | [`slot`] | threads that run tasks |
//! | [`metrics`] | figures |
//! | [`activity`] | what a task is doing right now |
//! | [`panics`] | panics become task failures |

pub mod activity;
pub mod alignment;
pub mod chain;
pub mod machine;
pub mod mailbox;
pub mod metrics;
pub mod panics;
pub mod slot;
pub mod snapshot;
mod tracking;
pub mod watermarks;

#[cfg(test)]
mod overtaking_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use chain::MemberSpec;
pub use machine::{InputSpec, Task, TaskSpec};
pub use mailbox::{Mailbox, Notifier, TaskHandle, TaskMessage};
pub use metrics::TaskMetrics;
pub use slot::{SlotRunner, SlotThread};

use hurtig_proto::v1;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has done all that was to do.
    Finished,
    /// It was cancelled.
    Canceled,
    /// It failed.
    Failed(String),
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// Rows.
    Input,
    /// A consumer, or the reader of collected rows.
    Output,
    /// The previous snapshot, still being written.
    WriteBack,
    /// The checkpoint that covers everything it has done.
    FinalCheckpoint,
    /// Work that an operator has in flight off-thread.
    Operator,
    /// The JobManager's verdict on a task at the other end of a channel.
    Peer,
}

impl BlockReason {
    /// All of them.
    pub const ALL: [BlockReason; 6] = [
        BlockReason::Input,
        BlockReason::Output,
        BlockReason::WriteBack,
        BlockReason::FinalCheckpoint,
        BlockReason::Operator,
        BlockReason::Peer,
    ];

    /// Its name in logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            BlockReason::Input => "input",
            BlockReason::Output => "output",
            BlockReason::WriteBack => "write-back",
            BlockReason::FinalCheckpoint => "final-checkpoint",
            BlockReason::Operator => "operator",
            BlockReason::Peer => "peer",
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    Progress,
    /// Nothing can be done before the task is woken, or the wall clock (ms) reaches `until_ms`.
    Blocked {
        /// What for.
        reason: BlockReason,
        /// When to step again at the latest.
        until_ms: Option<i64>,
    },
    /// The task has ended.
    Ended(Outcome),
}

/// The state of a subtask for a checkpoint, with how long it took.
#[derive(Debug)]
pub struct Acknowledgement {
    /// The checkpoint.
    pub checkpoint: u64,
    /// The state.
    pub snapshot: v1::SubtaskSnapshot,
    /// The pause, in microseconds.
    pub sync_us: u64,
    /// The rest, in ms.
    pub async_ms: u64,
    /// How long the first channel waited for the last, in microseconds.
    pub alignment_us: u64,
}

/// Who hears what becomes of a task. Called on the task's thread; must not block.
pub trait TaskListener: Send + Sync {
    /// All operators are open.
    fn running(&self) {}
    /// Everything emitted from now on is behind the barrier of this checkpoint.
    fn barrier_passed(&self, _checkpoint: u64) {}
    /// The state of a checkpoint is durable.
    fn acknowledge(&self, _acknowledgement: Acknowledgement) {}
    /// The task cannot take part in a checkpoint.
    fn decline(&self, _checkpoint: u64, _reason: &str) {}
    /// All rows have been sent.
    fn end_of_data(&self) {}
    /// The task has ended; it holds nothing any more.
    fn ended(&self, _outcome: &Outcome) {}
    /// Whether what the task hands to the JobManager itself (collected rows) is over its limit. The
    /// task is woken when that changes.
    fn is_full(&self) -> bool {
        false
    }
}
