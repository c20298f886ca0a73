//! This crate's error and how it becomes the errors of the contracts it implements.

use hurtig_engine::EngineError;
use hurtig_graph::connector::ConnectorError;
use hurtig_graph::error::ErrorKind;
use thiserror::Error;

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a connector or format.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// Options or columns that make no sense.
    #[error("{0}")]
    Validation(String),
    /// Valid in Flink, not built in Hurtig yet.
    #[error("{0}")]
    Unsupported(String),
    /// Data that cannot be read or written.
    #[error("{0}")]
    Data(String),
    /// Files: missing, unreadable, disk full. The message names the path.
    #[error("{0}")]
    Storage(String),
    /// A broken invariant.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// A file operation that failed.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Error {
        Error::Storage(format!("{what}: {error}"))
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Validation(_) => ErrorKind::Validation,
            Error::Unsupported(_) => ErrorKind::Unsupported,
            Error::Data(_) => ErrorKind::Runtime,
            Error::Storage(_) => ErrorKind::Storage,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        EngineError::Connector { kind: error.kind(), message: error.to_string() }
    }
}

impl From<Error> for ConnectorError {
    fn from(error: Error) -> Self {
        ConnectorError { kind: error.kind(), message: error.to_string() }
    }
}

impl From<hurtig_graph::GraphError> for Error {
    fn from(error: hurtig_graph::GraphError) -> Self {
        Error::Validation(error.to_string())
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::Internal(error.to_string())
    }
}
