//! State of stateful tasks and everything durable: the key hash, encodings, the RocksDB backend,
//! snapshots, object storage with compare-and-swap, local recovery.
//!
//! | module | what |
//! | --- | --- |
//! | [`hash`] | the key hash and columnar key-group computation |
//! | [`encoding`] | versioned encodings of keys and values |
//! | [`backend`] | keyed state of one task: reads, write-back, snapshots, restore |
//! | [`storage`] | URI schemes to object stores; create-only and conditional puts |
//! | [`checkpoint`] | metadata and HEAD objects of a job's checkpoints |
//! | [`ha`] | names and formats of what JobManagers that stand in for each other keep |
//! | [`local`] | checkpoint directories kept on local disk |
//! | [`error`] | this crate's error |

pub mod backend;
pub mod checkpoint;
pub mod encoding;
pub mod error;
#[cfg(test)]
mod golden;
pub mod ha;
pub mod hash;
pub mod local;
pub mod storage;
#[cfg(test)]
mod test_columns;

pub use error::{Result, StateError};
