//! What all parts of Hurtig agree on: types, schemas, expressions, job graphs, identifiers,
//! configuration keys and the operator-coordinator trait.
//!
//! Nothing here runs a job. This crate depends on Arrow for physical types and on `hurtig-proto`
//! for the wire form of everything that has one; it knows neither RocksDB nor DataFusion.
//!
//! | module | what |
//! | --- | --- |
//! | [`types`] | Flink's logical types: text form, Arrow form |
//! | [`schema`] | named, typed columns with time attributes |
//! | [`expr`] | typed scalar expressions |
//! | [`aggregates`] | aggregate functions: result types, splitting into phases |
//! | [`job`] | validated job graphs, chaining, subtask wiring |
//! | [`key_groups`] | max parallelism, key-group ranges |
//! | [`ids`] | job ids, execution attempts |
//! | [`connector`] | what planner and JobManager know of connectors |
//! | [`attempt_record`] | what a TaskManager remembers of a task for a leader that did not deploy it |
//! | [`coordinator`] | the JobManager's side of an operator |
//! | [`config`] | the registry of configuration keys, reading configuration |
//! | [`error`] | error kinds shared by all crates |

#![forbid(missing_docs)]

pub mod aggregates;
pub mod attempt_record;
pub mod config;
pub mod connector;
pub mod coordinator;
pub mod error;
pub mod expr;
pub mod ids;
pub mod job;
pub mod key_groups;
pub mod schema;
pub mod types;

pub use error::{ErrorKind, GraphError};
pub use expr::{Expr, ExprKind, Literal};
pub use ids::{AttemptId, JobId};
pub use schema::{RowField, RowSchema, TimeAttribute};
pub use types::{DataType, LogicalType};
