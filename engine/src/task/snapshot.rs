//! The part of a snapshot that may block: deferred work, write-back of changed state, upload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hurtig_graph::ids::AttemptId;
use hurtig_proto::v1;
use hurtig_state::backend::KeyedBackend;

use super::chain::MemberSnapshot;
use crate::element::{Barrier, MIN_WATERMARK};
use crate::error::Result;

/// Where the snapshots of a task go.
#[derive(Debug, Clone, Default)]
pub struct SnapshotStore {
    /// Base URI of the job's checkpoints; empty: checkpointing is off.
    pub directory: String,
}

/// Stops a snapshot at its next opportunity.
#[derive(Debug, Default)]
pub struct Cancellation(AtomicBool);

impl Cancellation {
    /// Stops link and upload; the write-back goes on.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// See the module documentation.
pub struct AsyncPart {
    attempt: AttemptId,
    barrier: Barrier,
    members: Vec<MemberSnapshot>,
    finished: bool,
    keyed: Arc<KeyedBackend>,
    store: SnapshotStore,
    cancellation: Arc<Cancellation>,
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
        AsyncPart { attempt, barrier, members, finished, keyed, store, cancellation: Arc::default() }
    }

    /// Stops it.
    pub fn cancellation(&self) -> Arc<Cancellation> {
        Arc::clone(&self.cancellation)
    }

    /// Does the work.
    ///
    /// # Errors
    /// Why there is no state: the checkpoint is declined with this reason.
    pub fn run(self) -> Result<v1::SubtaskSnapshot, String> {
        let checkpoint = self.barrier.checkpoint;
        self.run_inner().map_err(|e| format!("the snapshot of checkpoint {checkpoint} failed: {e}"))
    }

    fn run_inner(self) -> Result<v1::SubtaskSnapshot> {
        let mut operators = Vec::with_capacity(self.members.len());
        let mut cells = Vec::new();
        for member in self.members {
            let snapshot = member.snapshot;
            if let Some(deferred) = snapshot.deferred {
                deferred()?;
            }
            cells.extend(snapshot.keyed);
            operators.push(v1::OperatorSnapshot {
                operator_uid: member.uid,
                operator_kind: member.kind,
                lists: snapshot.lists.into_iter().map(|(name, elements)| v1::ListState { name, elements }).collect(),
                watermark_ms: snapshot.watermark_ms.unwrap_or(MIN_WATERMARK),
            });
        }
        let keyed = None;
        Ok(v1::SubtaskSnapshot { subtask: self.attempt.subtask, operators, keyed, finished: self.finished })
    }
}
