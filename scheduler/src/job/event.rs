//! What happens to a job, and what it wants done.

use std::collections::BTreeMap;

use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_graph::ids::JobId;
use hurtig_graph::job::JobPlan;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;

use crate::checkpoint::SavepointWish;
use crate::error::SchedulerError;
use crate::settings::JobSettings;
use crate::slots::SessionId;
use crate::storage::{StorageReply, StorageRequest};

/// A job to be run.
pub struct Submission {
    /// Its id.
    pub job: JobId,
    /// What to run.
    pub plan: JobPlan,
    /// Settings, read from the plan's configuration on top of the cluster's.
    pub settings: JobSettings,
    /// Coordinators of sources by operator uid.
    pub coordinators: BTreeMap<String, Box<dyn OperatorCoordinator>>,
    /// Base URI of the job's checkpoints.
    pub checkpoint_directory: String,
    /// For jitter and the delay of the first checkpoint.
    pub seed: u64,
}

/// What happened to a job.
#[derive(Debug)]
pub enum JobEvent {
    /// It was submitted: begin.
    Start,
    /// Time has passed.
    Tick,
    /// The user wants it to stop.
    Cancel,
    /// The user wants a savepoint, perhaps to stop with it; answered by [`JobAction::SavepointDone`].
    Savepoint(SavepointWish),
    /// A TaskManager has sent something about one of the job's tasks.
    Task {
        /// Of the TaskManager.
        session: SessionId,
        /// What it sent.
        message: FromTask,
    },
    /// A TaskManager is lost; its slots are gone from the pool.
    TaskManagerLost {
        /// Its connection.
        session: SessionId,
        /// Its resource id.
        resource_id: String,
        /// How it was noticed.
        reason: String,
        /// It was to go.
        announced: bool,
    },
    /// There are more free slots than before, slots that are to be left, or other requirements
    /// ([`super::JobMaster::require`]).
    SlotsChanged,
    /// A TaskManager has registered that runs tasks of the job since an earlier leader.
    Attempts {
        /// Its connection.
        session: SessionId,
        /// What it runs, or has run.
        attempts: Vec<hurtig_proto::internal::v1::RunningAttempt>,
    },
    /// This JobManager leads no more.
    Suspend,
    /// The registry has what [`JobAction::Ended`] said.
    ResultStored,
    /// Attempt numbers below this may be used.
    AttemptsReserved {
        /// The first that may not.
        below: u32,
    },
    /// The answer to [`JobAction::Storage`].
    Storage {
        /// As given.
        ticket: u64,
        /// The answer.
        reply: StorageReply,
    },
    /// The answer to [`JobAction::Discover`].
    Discovered {
        /// As given.
        operator_uid: String,
        /// As given.
        incarnation: u64,
        /// Splits, or why there are none.
        splits: Result<Vec<Vec<u8>>, String>,
    },
    /// The client has taken this many bytes of result rows.
    RowsTaken {
        /// Of Arrow IPC.
        bytes: u64,
    },
    /// A client has opened the stream of result rows.
    ReaderAttached {
        /// Counts the readers of the job.
        reader: u64,
    },
    /// The stream has broken, or the client has closed it.
    ReaderDetached {
        /// As given.
        reader: u64,
    },
}

/// What a job wants done.
#[derive(Debug)]
pub enum JobAction {
    /// Send to a TaskManager.
    Send {
        /// Of the TaskManager.
        session: SessionId,
        /// The message.
        message: Box<ToTask>,
    },
    /// Call the job's checkpoint storage.
    Storage {
        /// Names the call.
        ticket: u64,
        /// The call.
        request: StorageRequest,
    },
    /// List the splits of a source.
    Discover {
        /// The source.
        operator_uid: String,
        /// To be given back.
        incarnation: u64,
        /// Its options.
        options: BTreeMap<String, String>,
    },
    /// Rows for the client.
    Rows(v1::ResultBatch),
    /// Answers a savepoint request.
    SavepointDone {
        /// As given.
        request: u64,
        /// URI of the savepoint.
        result: Result<String, SchedulerError>,
    },
    /// What users see has changed.
    Changed,
    /// The job has ended in this status: keep it; answered by [`JobEvent::ResultStored`].
    Ended(Box<v1::JobStatus>),
    /// More attempt numbers are needed.
    ReserveAttempts,
    /// Another JobManager has written HEAD.
    Deposed,
}
