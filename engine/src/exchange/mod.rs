//! How batches get from one task to the next.
//!
//! A task writes through [`Outputs`]: each edge partitions rows to its consumers, gathers them into
//! open batches and puts full ones into [`Channel`]s. A channel is a queue that is bounded in bytes,
//! of which the producer learns that it is full; putting never blocks. Both ends find their channel
//! in the process's [`ChannelRegistry`] by its [`ChannelKey`], whichever comes first.
//!
//! In one process both ends share one channel and batches move by reference. Between processes the
//! producer's channel is drained by a [`network`] stream into the channel at the consumer's side,
//! under credit that the consumer's side grants for each channel, in bytes: a slow consumer stops
//! its own producers and nobody else.
//!
//! | module | what |
//! | --- | --- |
//! | [`channel`] | the bounded queue |
//! | [`registry`] | all channels of a process |
//! | [`scatter`] | rows to targets by key group |
//! | [`output`] | a task's output edges |
//! | [`captured`] | what barriers have overtaken, as state |
//! | [`codec`] | batches as Arrow IPC |
//! | [`network`] | channels between processes |

use std::sync::Arc;

use hurtig_graph::config::TlsFiles;

pub mod captured;
pub mod channel;
pub mod codec;
pub mod network;
pub mod output;
pub mod registry;
pub mod scatter;

#[cfg(test)]
mod tests;

pub use channel::{Channel, ChannelFailure, ChannelKey};
pub use output::{OutputSpec, Outputs};
pub use registry::ChannelRegistry;

/// Sizes of the exchange, and who may take part.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// Bytes that a channel holds before its producer is stopped.
    pub queue_bytes: usize,
    /// Bytes of data frames that a consumer's side accepts ahead for each channel of another process.
    pub credit_bytes: usize,
    /// Bytes that the channels of the process may hold in all; `None`: each has its own limit only.
    /// Every channel keeps [`LEAST_WINDOW_BYTES`](registry::LEAST_WINDOW_BYTES), whatever their number.
    pub budget_bytes: Option<usize>,
    /// How long rows may wait for their batch to fill, in ms.
    pub linger_ms: u64,
    /// How long an opened channel waits for its consumer to be deployed, in ms.
    pub open_timeout_ms: u64,
    /// Compress rows between processes with LZ4.
    pub compress: bool,
    /// Certificates for all connections; `None`: they are not encrypted.
    pub tls: Option<Arc<TlsFiles>>,
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        ExchangeConfig {
            queue_bytes: 256 << 10,
            credit_bytes: 512 << 10,
            budget_bytes: None,
            linger_ms: 5,
            open_timeout_ms: 120_000,
            compress: false,
            tls: None,
        }
    }
}
