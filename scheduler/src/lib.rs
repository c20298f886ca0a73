//! The JobManager: decides where and when every subtask runs, takes checkpoints, and brings jobs
//! back after failures.
//!
//! Everything that decides is a plain state machine: `handle(event, now) -> actions`, without
//! sockets, threads, clocks or unseeded randomness. A thin shell of tonic services turns the world
//! into events and actions into calls; the [`simulator`] does the same with a seeded virtual world
//! of TaskManagers and stores that fail. Both drive the same code.
//!
//! | module | what | depends on |
//! | --- | --- | --- |
//! | [`master`] | the whole JobManager as one state machine: sessions, heartbeats, all jobs | `job`, `slots` |
//! | [`job`] | one job: life cycle, executions, deployment, failover by region | `checkpoint`, `restart`, `slots` |
//! | [`checkpoint`] | triggering, acknowledgement, completion by HEAD, retention, deletion | `storage` (types only) |
//! | [`restart`] | restart strategies | |
//! | [`slots`] | the slots of the registered TaskManagers | |
//! | [`storage`] | what the checkpoint coordinator needs of an object store | |
//! | [`shell`] | tonic services, timers, storage calls around `master` | all |
//! | [`simulator`] | a seeded virtual world around `master`, and the invariants | all but `shell` |
//! | [`ha`] | several JobManagers for one cluster: lease and registry in object storage | `storage` (types only) |
//! | [`error`] | this crate's error | |

#![forbid(missing_docs)]

pub mod checkpoint;
pub mod error;
pub mod ha;
pub mod job;
pub mod master;
pub mod restart;
pub mod settings;
pub mod shell;
pub mod simulator;
pub mod slots;
pub mod storage;

pub use error::{Result, SchedulerError};
pub use shell::{JobManager, JobManagerConfig, JobManagerServices};
