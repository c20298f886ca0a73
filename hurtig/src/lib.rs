//! Hurtig as a library: streaming jobs in your process, or on a cluster.
//!
//! [`EmbeddedCluster`] runs a JobManager and TaskManagers in this process; [`Cluster`] connects to
//! running ones. Both take SQL and job graphs, built with the [`dataflow`] API or by hand.
//!
//! The library sets nothing that belongs to the process: no allocator, no tracing subscriber, no
//! metrics recorder, no panic hook, no signal handler. It runs on threads of its own, works inside
//! any async runtime, and ends its threads, ports and temporary files when the cluster is dropped.
//!
//! | module | what |
//! | --- | --- |
//! | [`cluster`] | embedded and remote clusters |
//! | [`sql`] | SQL sessions |
//! | [`dataflow`] | jobs built from Rust |
//! | [`extensions`] | sources, sinks and functions of your own |
//! | [`client`] | submitted jobs and their results |
//! | [`graph_json`] | job graphs as JSON |
//! | [`server`] | the roles of a cluster |
//! | [`error`] | what can go wrong |

#![forbid(missing_docs)]

pub mod client;
pub mod cluster;
pub mod dataflow;
pub mod error;
pub mod extensions;
pub mod graph_json;
mod metrics;
mod network;
mod runtime;
pub mod server;
pub mod sql;

pub use cluster::{Cluster, EmbeddedCluster};
pub use error::{Error, Result};
pub use hurtig_engine::{Batch, RowKind};
pub use hurtig_graph::ErrorKind;
pub use hurtig_graph::config::Configuration;
pub use hurtig_proto::v1;
pub use metrics::RenderMetrics;

pub use arrow;
