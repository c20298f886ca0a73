//! What a user of the library adds to it: sources, sinks, operators, scalar functions.
//!
//! [`SourceConnector`] and [`SinkConnector`] are the full interfaces. For the common case there are
//! adapters: [`FnSource`] reads from an iterator of record batches, [`FnSink`] calls a closure with
//! every batch.

mod sink;
mod source;

pub use hurtig_connectors::connector::{SinkConnector, SourceConnector};

pub use sink::FnSink;
pub use source::{FnSource, Subtask};

/// Why a source or sink of the user's cannot go on: fails the task.
pub type ExtensionError = Box<dyn std::error::Error + Send + Sync>;
