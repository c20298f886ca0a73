//! The error of the library: what failed, with a kind that fixes exit code, gRPC code and whether
//! trying again can help.

use hurtig_graph::config::keys;
use hurtig_graph::connector::ConnectorError;
use hurtig_graph::error::{ErrorKind, GraphError};
use thiserror::Error;

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The name of the gRPC metadata entry with the kind of an error.
pub(crate) const KIND_METADATA: &str = "hurtig-error-kind";

/// What can go wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A SQL statement.
    #[error(transparent)]
    Sql(#[from] hurtig_sql::SqlError),
    /// A job graph, a type, a configuration key.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The data plane.
    #[error(transparent)]
    Engine(#[from] hurtig_engine::EngineError),
    /// State and object storage.
    #[error(transparent)]
    State(#[from] hurtig_state::StateError),
    /// The JobManager.
    #[error(transparent)]
    Scheduler(#[from] hurtig_scheduler::SchedulerError),
    /// A connector refuses its options or a table.
    #[error("{}", .0.message)]
    Connector(ConnectorError),
    /// What the cluster answered.
    #[error("{message}")]
    Remote {
        /// What the error means.
        kind: ErrorKind,
        /// For people.
        message: String,
    },
    /// The job ended in another state than FINISHED.
    #[error("job {job_id} {}: {root_cause}", .state.to_lowercase())]
    Job {
        /// Which job.
        job_id: String,
        /// Its last state.
        state: String,
        /// Why.
        root_cause: String,
    },
    /// Files, threads, ports of this machine.
    #[error("{context}: {source}")]
    Io {
        /// What was done, on what.
        context: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Anything else, with its kind.
    #[error("{message}")]
    Other {
        /// What the error means.
        kind: ErrorKind,
        /// For people.
        message: String,
    },
}

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::Other { kind, message: message.into() }
    }

    /// What the error means.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Sql(e) => e.kind(),
            Error::Graph(e) => e.kind(),
            Error::Engine(e) => e.kind(),
            Error::State(e) => e.kind(),
            Error::Scheduler(e) => e.kind(),
            Error::Connector(e) => e.kind,
            Error::Remote { kind, .. } | Error::Other { kind, .. } => *kind,
            Error::Job { .. } => ErrorKind::Runtime,
            Error::Io { .. } => ErrorKind::Resource,
        }
    }

    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let context = context.into();
        move |source| Error::Io { context, source }
    }
}

impl From<ConnectorError> for Error {
    fn from(error: ConnectorError) -> Self {
        Error::Connector(error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::Engine(error.into())
    }
}

/// The answer of a server as an error. The exact kind travels as metadata, since several kinds
/// share a code.
impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        if let Some(error) = std::error::Error::source(&status) {
            // No server has said this: the connection did not hold.
            let message = format!(
                "the connection to the JobManager broke: {}; if the cluster uses TLS, this client needs \
                 {} and certificates of the cluster too",
                root_reason(error),
                keys::SSL_INTERNAL_ENABLED.key
            );
            return Error::Remote { kind: ErrorKind::Connection, message };
        }
        let named = status.metadata().get(KIND_METADATA).and_then(|v| v.to_str().ok()).and_then(ErrorKind::from_name);
        let kind = named.unwrap_or(match status.code() {
            Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition | Code::OutOfRange => {
                ErrorKind::Validation
            }
            Code::Unimplemented => ErrorKind::Unsupported,
            Code::NotFound => ErrorKind::NotFound,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Connection,
            Code::ResourceExhausted => ErrorKind::Resource,
            Code::Aborted => ErrorKind::Runtime,
            _ => ErrorKind::Internal,
        });
        Error::Remote { kind, message: status.message().to_owned() }
    }
}

/// The innermost cause: what a user can act on.
pub(crate) fn root_reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_remote_error_is_the_one_that_was_sent() {
        let mut status = tonic::Status::invalid_argument("no such column");
        assert_eq!(Error::from(status.clone()).kind(), ErrorKind::Validation);
        status.metadata_mut().insert(KIND_METADATA, "PARSE".parse().unwrap());
        assert_eq!(Error::from(status).kind(), ErrorKind::Parse);
    }

    #[test]
    fn a_failed_job_says_which_and_why() {
        let error = Error::Job { job_id: "a1".into(), state: "FAILED".into(), root_cause: "division by zero".into() };
        assert_eq!(error.to_string(), "job a1 failed: division by zero");
    }
}
