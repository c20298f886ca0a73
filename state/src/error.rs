//! This crate's error.

use hurtig_graph::error::ErrorKind;
use thiserror::Error;

/// Results of this crate.
pub type Result<T, E = StateError> = std::result::Result<T, E>;

/// What can go wrong with state and storage.
#[derive(Debug, Error)]
pub enum StateError {
    /// An object store or file system operation. The message names the object.
    #[error("{0}")]
    Storage(String),
    /// A conditional write found another version than expected, or the object exists already.
    #[error("{0}")]
    Conflict(String),
    /// The object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Bytes that are not what their format says.
    #[error("{0}")]
    Corrupt(String),
    /// RocksDB.
    #[error("state database: {0}")]
    Database(String),
    /// A restore that does not fit: other schema, other max parallelism.
    #[error("{0}")]
    Incompatible(String),
    /// An option of a store: also wrong credentials and missing buckets.
    #[error("{0}")]
    Config(String),
    /// A checkpoint was given up while it was being taken.
    #[error("{0}")]
    Aborted(String),
    /// A store cannot be reached.
    #[error("{0}")]
    Connection(String),
}

impl StateError {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StateError::Storage(_) | StateError::Conflict(_) | StateError::Corrupt(_) => ErrorKind::Storage,
            StateError::NotFound(_) => ErrorKind::Storage,
            StateError::Database(_) => ErrorKind::Storage,
            StateError::Incompatible(_) => ErrorKind::Validation,
            StateError::Config(_) => ErrorKind::Config,
            StateError::Aborted(_) => ErrorKind::Storage,
            StateError::Connection(_) => ErrorKind::Connection,
        }
    }
}

impl From<rocksdb::Error> for StateError {
    fn from(error: rocksdb::Error) -> Self {
        StateError::Database(error.into_string())
    }
}
