//! Error kinds shared by all crates, and this crate's own error.

use thiserror::Error;

/// What an error means for the one who gets it. Fixes the gRPC code, the exit code and whether
/// trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Text that does not parse.
    Parse,
    /// Well-formed input that makes no sense: unknown column, wrong type, cycle in a graph.
    Validation,
    /// Valid in Flink, not built in Hurtig yet.
    Unsupported,
    /// A configuration key or value, or a command-line argument.
    Config,
    /// A failure of the running job caused by its data or its functions.
    Runtime,
    /// Not enough slots, memory or disk.
    Resource,
    /// Object storage or local files.
    Storage,
    /// Another process or server cannot be reached.
    Connection,
    /// The named thing does not exist.
    NotFound,
    /// A broken invariant of Hurtig itself.
    Internal,
}

impl ErrorKind {
    /// The process exit code of a command that ends with such an error. Never 0 or 101.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Parse => 2,
            ErrorKind::Validation => 3,
            ErrorKind::Unsupported => 4,
            ErrorKind::Config => 5,
            ErrorKind::Runtime => 6,
            ErrorKind::Resource => 7,
            ErrorKind::Storage => 8,
            ErrorKind::Connection => 9,
            ErrorKind::NotFound => 10,
            ErrorKind::Internal => 70,
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn retryable(self) -> bool {
        matches!(self, ErrorKind::Resource | ErrorKind::Storage | ErrorKind::Connection)
    }

    /// The kind as `--json` output names it.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Parse => "PARSE",
            ErrorKind::Validation => "VALIDATION",
            ErrorKind::Unsupported => "UNSUPPORTED",
            ErrorKind::Config => "CONFIG",
            ErrorKind::Runtime => "RUNTIME",
            ErrorKind::Resource => "RESOURCE",
            ErrorKind::Storage => "STORAGE",
            ErrorKind::Connection => "CONNECTION",
            ErrorKind::NotFound => "NOT_FOUND",
            ErrorKind::Internal => "INTERNAL",
        }
    }

    /// The kind of that [name](ErrorKind::name).
    pub fn from_name(name: &str) -> Option<ErrorKind> {
        use ErrorKind::*;
        let all = [Parse, Validation, Unsupported, Config, Runtime, Resource, Storage, Connection, NotFound, Internal];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GraphError {
    /// A type that cannot be read.
    #[error("cannot read the type '{text}': {reason}")]
    Type {
        /// The text of the type.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of a job graph or expression that is not valid.
    #[error("{path}: {reason}")]
    Graph {
        /// The path of the field, as `vertices[2].operator.calc.filter`.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A configuration key or value.
    #[error("{0}")]
    Config(String),
    /// Not built yet.
    #[error("{0}")]
    Unsupported(String),
}

impl GraphError {
    /// A graph error at `path`.
    pub fn at(path: impl Into<String>, reason: impl Into<String>) -> Self {
        GraphError::Graph { path: path.into(), reason: reason.into() }
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            GraphError::Type { .. } | GraphError::Graph { .. } => ErrorKind::Validation,
            GraphError::Config(_) => ErrorKind::Config,
            GraphError::Unsupported(_) => ErrorKind::Unsupported,
        }
    }
}
