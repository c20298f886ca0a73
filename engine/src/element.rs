//! What flows through a channel, in total order.

use crate::batch::Batch;

pub use hurtig_proto::internal::v1::StopMode;

/// The watermark that ends event time.
pub const MAX_WATERMARK: i64 = i64::MAX;
/// No watermark yet.
pub const MIN_WATERMARK: i64 = i64::MIN;

/// A checkpoint barrier: rows before it, and those that it has overtaken, belong to the checkpoint,
/// rows behind it do not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Barrier {
    /// The checkpoint.
    pub checkpoint: u64,
    /// When the JobManager triggered it, in ms since 1970.
    pub timestamp_ms: i64,
    /// `Some(folder)` for a savepoint.
    pub savepoint: Option<String>,
    /// Whether the job is stopped with it.
    pub stop: StopMode,
    /// It overtakes rows, which then belong to the checkpoint as state of their channel.
    pub unaligned: bool,
    /// So long after its timestamp an aligned barrier becomes an unaligned one; 0: never.
    pub aligned_timeout_ms: u64,
    /// Channels that have delivered it are read on: rows may count twice after a restore.
    pub at_least_once: bool,
}

impl Barrier {
    /// When a barrier that began aligned overtakes rows, in ms since 1970.
    pub fn overtakes_at_ms(&self) -> Option<i64> {
        let timed = !self.unaligned && self.aligned_timeout_ms > 0;
        timed.then(|| self.timestamp_ms.saturating_add_unsigned(self.aligned_timeout_ms))
    }

    /// Whether that moment has come.
    pub fn is_late(&self, now_ms: i64) -> bool {
        self.overtakes_at_ms().is_some_and(|at| at <= now_ms)
    }

    /// The same as an unaligned barrier.
    #[must_use]
    pub fn overtaking(self) -> Barrier {
        Barrier { unaligned: true, ..self }
    }
}

/// An element of a channel.
#[derive(Debug, Clone)]
pub enum StreamElement {
    /// Rows.
    Data(Batch),
    /// No rows with a rowtime at or below this (ms) will follow, but for late ones.
    Watermark(i64),
    /// The channel will not hold back event time until `Active`.
    Idle,
    /// The channel counts again.
    Active,
    /// See [`Barrier`].
    Barrier(Barrier),
    /// The checkpoint of this id was given up upstream.
    CancelBarrier(u64),
    /// No more rows. With `drain`, event time has ended too.
    EndOfData {
        /// False only for stop-with-savepoint without drain.
        drain: bool,
    },
    /// Nothing at all will follow.
    EndOfPartition,
}
