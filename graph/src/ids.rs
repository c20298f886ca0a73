//! Identifiers of jobs and of executions of their subtasks.

use std::fmt;

use hurtig_proto::internal::v1 as internal;

use crate::error::GraphError;

/// A job: 128 bits, written as 32 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(String);

impl JobId {
    /// Reads an id; anything but 32 hex digits is refused.
    pub fn parse(text: &str) -> Result<Self, GraphError> {
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(JobId(text.to_ascii_lowercase()))
        } else {
            Err(GraphError::at("job_id", format!("'{text}' is not a job id: it needs 32 hex digits")))
        }
    }

    /// An id of the given 128 bits.
    pub fn from_u128(bits: u128) -> Self {
        JobId(format!("{bits:032x}"))
    }

    /// The 32 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One execution of one subtask of a vertex. `attempt` counts from 0 for each subtask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId {
    /// The job.
    pub job: JobId,
    /// The id of the (chained) vertex.
    pub vertex: String,
    /// From 0 to the parallelism, exclusive.
    pub subtask: u32,
    /// From 0.
    pub attempt: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]#{}", self.vertex, self.subtask, self.attempt)
    }
}

impl AttemptId {
    /// The wire form.
    pub fn to_proto(&self) -> internal::AttemptId {
        internal::AttemptId {
            job_id: self.job.as_str().to_owned(),
            vertex_id: self.vertex.clone(),
            subtask: self.subtask,
            attempt: self.attempt,
        }
    }

    /// From the wire form.
    pub fn from_proto(proto: &internal::AttemptId) -> Result<Self, GraphError> {
        Ok(AttemptId {
            job: JobId::parse(&proto.job_id)?,
            vertex: proto.vertex_id.clone(),
            subtask: proto.subtask,
            attempt: proto.attempt,
        })
    }
}
