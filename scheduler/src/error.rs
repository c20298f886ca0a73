//! This crate's error.

use hurtig_graph::connector::ConnectorError;
use hurtig_graph::error::{ErrorKind, GraphError};
use thiserror::Error;

use crate::storage::StorageError;

/// Results of this crate.
pub type Result<T, E = SchedulerError> = std::result::Result<T, E>;

/// What can go wrong in the JobManager.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SchedulerError {
    /// The job graph or configuration is not valid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// There is no job of this id.
    #[error("there is no job {0}")]
    UnknownJob(String),
    /// There is no TaskManager of this resource id.
    #[error("there is no TaskManager {0}: 'hurtig taskmanagers list' shows those that there are")]
    UnknownTaskManager(String),
    /// The job exists but is not in a state in which this can be done.
    #[error("{0}")]
    Precondition(String),
    /// Checkpoint storage.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// A connector refuses its options.
    #[error("{}", .0.message)]
    Connector(ConnectorError),
    /// What another part (SQL) reports, with its kind.
    #[error("{message}")]
    Other {
        /// Fixes the gRPC code.
        kind: ErrorKind,
        /// For people.
        message: String,
    },
    /// The job ended otherwise than by finishing. The message is the root cause.
    #[error("{0}")]
    JobFailed(String),
    /// Listening on an address.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// The address.
        address: String,
        /// Of the operating system, and what to do.
        reason: String,
    },
    /// Another JobManager leads.
    #[error("{}", not_leader(.leader.as_deref()))]
    NotLeader {
        /// host:port of the one that leads; `None`: not known (yet).
        leader: Option<String>,
    },
    /// This JobManager led and does so no more.
    #[error(
        "the JobManager that held the result rows leads no more: they are lost with it; run the query again on the one \
         that leads now"
    )]
    LeadershipLost,
    /// The JobManager is shutting down.
    #[error("the JobManager is shutting down")]
    Stopped,
}

impl SchedulerError {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SchedulerError::Graph(error) => error.kind(),
            SchedulerError::UnknownJob(_) | SchedulerError::UnknownTaskManager(_) => ErrorKind::NotFound,
            SchedulerError::Precondition(_) => ErrorKind::Validation,
            SchedulerError::Storage(_) => ErrorKind::Storage,
            SchedulerError::Connector(error) => error.kind,
            SchedulerError::Other { kind, .. } => *kind,
            SchedulerError::JobFailed(_) => ErrorKind::Runtime,
            SchedulerError::Bind { .. }
            | SchedulerError::NotLeader { .. }
            | SchedulerError::LeadershipLost
            | SchedulerError::Stopped => ErrorKind::Connection,
        }
    }

    /// The gRPC code of this error.
    pub fn code(&self) -> tonic::Code {
        if let SchedulerError::Precondition(_) = self {
            return tonic::Code::FailedPrecondition;
        }
        match self.kind() {
            ErrorKind::Parse | ErrorKind::Validation | ErrorKind::Config => tonic::Code::InvalidArgument,
            ErrorKind::Unsupported => tonic::Code::Unimplemented,
            ErrorKind::Resource => tonic::Code::ResourceExhausted,
            ErrorKind::Storage | ErrorKind::Connection => tonic::Code::Unavailable,
            ErrorKind::NotFound => tonic::Code::NotFound,
            ErrorKind::Runtime => tonic::Code::Aborted,
            ErrorKind::Internal => tonic::Code::Internal,
        }
    }
}

fn not_leader(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this JobManager stands by, the one at {leader} leads: ask that one"),
        None => "this JobManager stands by, and which one leads is not known yet: try again in a moment".to_owned(),
    }
}

/// Metadata of an answer that says who leads.
pub const LEADER_METADATA: &str = "hurtig-leader";

impl From<ConnectorError> for SchedulerError {
    fn from(error: ConnectorError) -> Self {
        SchedulerError::Connector(error)
    }
}

impl From<SchedulerError> for tonic::Status {
    fn from(error: SchedulerError) -> Self {
        let kind = error.kind().name();
        let mut status = tonic::Status::new(error.code(), error.to_string());
        if let SchedulerError::NotLeader { leader: Some(leader) } = &error
            && let Ok(value) = leader.parse()
        {
            status.metadata_mut().insert(LEADER_METADATA, value);
        }
        // Several kinds share a code; the name lets a client restore the exact one.
        if let Ok(value) = kind.parse() {
            status.metadata_mut().insert("hurtig-error-kind", value);
        }
        status
    }
}
