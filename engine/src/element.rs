//! What flows through a channel, in total order.

use crate::batch::Batch;

pub use hurtig_proto::internal::v1::StopMode;

/// The watermark that ends event time.
pub const MAX_WATERMARK: i64 = i64::MAX;
/// No watermark yet.
pub const MIN_WATERMARK: i64 = i64::MIN;

/// A checkpoint barrier: rows before it, and those that it has overtaken, belong to the checkpoint,
/// rows behind it do not.
#[derive(Debug, Clone, PartialEq, Eq)]
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
