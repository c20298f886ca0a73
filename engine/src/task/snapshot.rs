//! The part of a snapshot that may block: deferred work, write-back of changed state, upload.

use std::sync::Arc;

use hurtig_graph::ids::AttemptId;
use hurtig_proto::v1;
use hurtig_state::StateError;
use hurtig_state::backend::{KeyedBackend, SnapshotTarget};

use super::chain::MemberSnapshot;
use crate::element::{Barrier, MIN_WATERMARK};
use crate::error::EngineError;

/// Where the snapshots of a task go.
#[derive(Debug, Clone, Default)]
pub struct SnapshotStore {
    /// Base URI of the job's checkpoints; empty: checkpointing is off.
    pub directory: String,
}

impl SnapshotStore {
    fn target(&self, barrier: &Barrier) -> SnapshotTarget {
        match &barrier.savepoint {
            Some(directory) => SnapshotTarget::savepoint(directory),
            None => SnapshotTarget::checkpoint(&self.directory, barrier.checkpoint),
        }
    }
}

/// Why there is no state for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotFailure {
    /// The checkpoint fails, the task goes on.
    Declined(String),
    /// The task's state is not what its operators believe it to be.
    Fatal(String),
}

/// See the module documentation.
pub struct AsyncPart {
    attempt: AttemptId,
    barrier: Barrier,
    members: Vec<MemberSnapshot>,
    finished: bool,
    keyed: Arc<KeyedBackend>,
    store: SnapshotStore,
}

impl AsyncPart {
    /// For what the synchronous part gave.
    pub fn new(
        attempt: AttemptId,
        barrier: Barrier,
        members: Vec<MemberSnapshot>,
        finished: bool,
        keyed: Arc<KeyedBackend>,
        store: SnapshotStore,
    ) -> AsyncPart {
        AsyncPart { attempt, barrier, members, finished, keyed, store }
    }

    /// Does the work. The write-back is done whatever else fails, since operators take what they have
    /// handed over as written.
    ///
    /// # Errors
    /// Why there is no state.
    pub fn run(self) -> Result<v1::SubtaskSnapshot, SnapshotFailure> {
        let checkpoint = self.barrier.checkpoint;
        let mut operators = Vec::with_capacity(self.members.len());
        let mut cells = Vec::new();
        let mut declined = None;
        for member in self.members {
            let snapshot = member.snapshot;
            if let Some(deferred) = snapshot.deferred
                && let Err(error) = deferred()
            {
                declined.get_or_insert(error);
            }
            cells.extend(snapshot.keyed);
            operators.push(v1::OperatorSnapshot {
                operator_uid: member.uid,
                operator_kind: member.kind,
                lists: snapshot.lists.into_iter().map(|(name, elements)| v1::ListState { name, elements }).collect(),
                watermark_ms: snapshot.watermark_ms.unwrap_or(MIN_WATERMARK),
            });
        }
        let target = self.store.target(&self.barrier);
        let keyed = self.keyed.snapshot(checkpoint, cells, &target).map_err(|error| {
            let reason = format!("the snapshot of checkpoint {checkpoint} failed: {error}");
            match error {
                StateError::Database(_) => SnapshotFailure::Fatal(reason),
                _ => SnapshotFailure::Declined(reason),
            }
        })?;
        match declined {
            Some(error) => Err(declined_by(checkpoint, &error)),
            None => {
                Ok(v1::SubtaskSnapshot { subtask: self.attempt.subtask, operators, keyed, finished: self.finished })
            }
        }
    }
}

fn declined_by(checkpoint: u64, error: &EngineError) -> SnapshotFailure {
    SnapshotFailure::Declined(format!("the snapshot of checkpoint {checkpoint} failed: {error}"))
}
