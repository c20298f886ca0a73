//! What makes a checkpoint true: metadata objects and the HEAD of a job.
//!
//! ```text
//! <checkpoint directory>/<job id>/
//!   HEAD                the truth: a checkpoint is complete when HEAD names it
//!   chk-<id>/_metadata  what checkpoint <id> consists of
//!   chk-<id>/...        files of this checkpoint alone
//!   shared/...          files that several checkpoints may refer to
//! ```
//!
//! HEAD changes only by compare-and-swap on the version last read. Metadata is written before,
//! create-only. What is deleted is first removed from HEAD; what may be deleted follows from the
//! metadata of the retained checkpoints, never from counters. Deletion can be repeated and its
//! failure harms nothing: [`CheckpointStore::sweep`] finds what was left.

pub mod frame;
mod savepoint;
mod store;

pub use frame::Kind;
pub use savepoint::{
    delete_savepoint, dispose_savepoint, list_savepoints, metadata_object, read_savepoint, write_savepoint,
};
pub use store::{CheckpointStore, Removed};

#[cfg(test)]
mod tests;
