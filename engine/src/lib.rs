//! The data plane: batches, operators, tasks, the exchange between tasks, and the TaskManager that
//! hosts them.
//!
//! | module | what |
//! | --- | --- |
//! | [`batch`] | the unit of work: an Arrow record batch with row kinds |
//! | [`element`] | what flows through a channel |
//! | [`operator`] | the operator trait and what an operator is given |
//! | [`source`] | the source-reader trait |
//! | [`registry`] | from operator descriptions to operators |
//! | [`expr`] | typed expressions compiled to vectorised kernels |
//! | [`functions`] | the kernels of Flink's scalar functions |
//! | [`aggregates`] | aggregate functions over grouped columns |
//! | [`operators`] | the built-in operators |
//! | [`task`] | one chain of one subtask: step machine, barriers, snapshots |
//! | [`exchange`] | partitioning, channels, credit-based flow control, gRPC |
//! | [`taskmanager`] | slots, deployments, the connection to the JobManager |
//! | [`tls`] | who may connect |
//! | [`clock`], [`executor`] | injected time and background work |

pub mod aggregates;
pub mod batch;
pub mod clock;
pub mod element;
pub mod error;
pub mod exchange;
pub mod executor;
pub mod expr;
pub mod functions;
pub mod operator;
pub mod operators;
pub mod registry;
pub mod source;
pub mod task;
pub mod taskmanager;
pub mod tls;

pub use batch::{Batch, RowKind};
pub use element::{Barrier, StreamElement};
pub use error::{EngineError, Result};
pub use operator::{Collector, Flow, Operator, OperatorContext, OperatorSnapshot};
pub use source::{SourceReader, SourceStatus};
