//! This crate's error.

use hurtig_graph::error::ErrorKind;
use thiserror::Error;

/// Results of this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// What can go wrong in the data plane.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A value or function of the job's own data fails: a cast, a division by zero.
    #[error("{0}")]
    Runtime(String),
    /// A description (operator, expression) that the engine cannot build.
    #[error("{0}")]
    Validation(String),
    /// Valid, but not built yet.
    #[error("{0}")]
    Unsupported(String),
    /// A part of a job graph.
    #[error(transparent)]
    Graph(#[from] hurtig_graph::GraphError),
    /// State or object storage.
    #[error(transparent)]
    State(#[from] hurtig_state::StateError),
    /// An Arrow kernel.
    #[error("{0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A DataFusion expression.
    #[error("{0}")]
    DataFusion(Box<datafusion_common::DataFusionError>),
    /// A connector: files, formats, external systems.
    #[error("{message}")]
    Connector {
        /// Which kind of failure.
        kind: ErrorKind,
        /// What failed, on what, and what to do.
        message: String,
    },
    /// Another process is gone or does not answer.
    #[error("{0}")]
    Connection(String),
    /// Local file work.
    #[error("{context}: {source}")]
    Io {
        /// What was done, on which path.
        context: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A broken invariant.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<datafusion_common::DataFusionError> for EngineError {
    fn from(error: datafusion_common::DataFusionError) -> Self {
        EngineError::DataFusion(Box::new(error))
    }
}

impl EngineError {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::Runtime(_) | EngineError::Arrow(_) | EngineError::DataFusion(_) => ErrorKind::Runtime,
            EngineError::Validation(_) => ErrorKind::Validation,
            EngineError::Unsupported(_) => ErrorKind::Unsupported,
            EngineError::Graph(e) => e.kind(),
            EngineError::State(e) => e.kind(),
            EngineError::Connector { kind, .. } => *kind,
            EngineError::Connection(_) => ErrorKind::Connection,
            EngineError::Io { .. } => ErrorKind::Storage,
            EngineError::Internal(_) => ErrorKind::Internal,
        }
    }
}
