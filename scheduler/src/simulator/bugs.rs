//! Deliberate bugs, each of which some invariant must catch. They show that the simulator would
//! notice if the code had them.

/// See the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A task acknowledges a checkpoint while its files are still being uploaded.
    MetadataBeforeFiles,
    /// A completed checkpoint lets go of all files of the one before, also of those that both share.
    SharedFileDeletedEarly,
    /// A restored sink commits what it had prepared under a new name.
    DoubleCommit,
    /// A rescale loses the last key group of a range.
    KeyGroupRangeOffByOne,
    /// The acknowledgement of an attempt that is over counts.
    StaleAcknowledgement,
    /// HEAD can be swapped whatever its version: a deposed leader is not fenced off.
    HeadNotFenced,
    /// A checkpoint completes although one subtask has not acknowledged it.
    CompleteWithoutOneSubtask,
    /// A sink commits at the barrier instead of at the completion.
    CommitBeforeCompletion,
    /// A reset takes back splits that the checkpoint holds already.
    SplitsTwiceAfterReset,
    /// A restart restores a retained checkpoint that is not the last.
    RestartFromOlderCheckpoint,
    /// A new leader counts attempts from 0 again.
    AttemptsUsedAgain,
    /// Slots of a TaskManager that is to go are given to jobs.
    SlotsOfLeavingTaskManagers,
    /// A new leader's coordinators do not know what was given out after the checkpoint.
    ReceiptsForgotten,
}

impl Bug {
    /// All of them.
    pub const ALL: &'static [Bug] = {
        use Bug::*;
        &[
            MetadataBeforeFiles,
            SharedFileDeletedEarly,
            DoubleCommit,
            KeyGroupRangeOffByOne,
            StaleAcknowledgement,
            HeadNotFenced,
            CompleteWithoutOneSubtask,
            CommitBeforeCompletion,
            SplitsTwiceAfterReset,
            RestartFromOlderCheckpoint,
            AttemptsUsedAgain,
            SlotsOfLeavingTaskManagers,
            ReceiptsForgotten,
        ]
    };
}
