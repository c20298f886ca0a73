//! The part of a snapshot that may block: deferred work, write-back of changed state, upload.

use std::sync::Arc;

use bytes::Bytes;
use hurtig_graph::ids::AttemptId;
use hurtig_proto::v1;
use hurtig_proto::v1::channel_state::Content;
use hurtig_state::StateError;
use hurtig_state::backend::{KeyedBackend, SnapshotTarget};
use hurtig_state::storage::{ObjectStores, join};

use super::chain::MemberSnapshot;
use crate::element::{Barrier, MIN_WATERMARK};
use crate::error::{EngineError, Result};
use crate::exchange::captured::CapturedChannel;

/// Up to this size the elements in flight travel in the acknowledgement instead of in an object.
const INLINE_LIMIT: usize = 20 << 10;

/// Where the snapshots of a task go.
#[derive(Clone, Default)]
pub struct SnapshotStore {
    /// Base URI of the job's checkpoints; empty: checkpointing is off.
    pub directory: String,
    /// Where objects are written.
    pub stores: Arc<ObjectStores>,
}

impl SnapshotStore {
    fn target(&self, barrier: &Barrier) -> SnapshotTarget {
        match &barrier.savepoint {
            Some(directory) => SnapshotTarget::savepoint(directory),
            None => SnapshotTarget::checkpoint(&self.directory, barrier.checkpoint),
        }
    }

    /// Makes what channels hold durable: all of a subtask in one object of the checkpoint.
    fn write_channels(
        &self,
        attempt: &AttemptId,
        checkpoint: u64,
        captured: [Vec<CapturedChannel>; 2],
    ) -> Result<[Vec<v1::ChannelState>; 2]> {
        let mut encoded = Vec::new();
        for channel in captured.iter().flatten() {
            encoded.push(channel.encode()?);
        }
        let total: usize = encoded.iter().map(Bytes::len).sum();
        let mut offset = 0;
        let object = if total > INLINE_LIMIT {
            let name = uuid::Uuid::new_v4().simple();
            let object = format!("{checkpoint}-{}-{}-channels-{name}", attempt.subtask, attempt.attempt);
            let object = join(&SnapshotTarget::checkpoint(&self.directory, checkpoint).exclusive, &object);
            self.stores.blocking().put(&object, encoded.concat().into())?;
            Some(object)
        } else {
            None
        };
        let mut stored = encoded.into_iter().map(|bytes| match &object {
            None => Content::Inline(bytes.to_vec()),
            Some(object) => {
                let (start, length) = (offset, bytes.len() as u64);
                offset += length;
                let hash = xxhash_rust::xxh3::xxh3_128(&bytes).to_le_bytes().to_vec();
                Content::Handle(v1::FileHandle { object: object.clone(), offset: start, length, hash })
            }
        });
        Ok(captured.map(|channels| {
            let state = |channel: CapturedChannel| v1::ChannelState {
                edge_id: channel.edge,
                producer_subtask: channel.producer_subtask,
                consumer_subtask: channel.consumer_subtask,
                channels: channel.channels as u32,
                content: stored.next(),
            };
            channels.into_iter().map(state).collect()
        }))
    }

    /// The stored form of what a channel held.
    ///
    /// # Errors
    /// An object that cannot be read or is not what was written.
    pub fn read_channel(stores: &ObjectStores, state: &v1::ChannelState) -> Result<Bytes> {
        let handle = match &state.content {
            Some(Content::Inline(bytes)) => return Ok(bytes.clone().into()),
            Some(Content::Handle(handle)) => handle,
            None => return Err(EngineError::Internal(format!("the state of edge {} is empty", state.edge_id))),
        };
        let bytes = stores.blocking().get_range(&handle.object, handle.offset..handle.offset + handle.length)?;
        if xxhash_rust::xxh3::xxh3_128(&bytes).to_le_bytes() != handle.hash.as_slice() {
            let object = &handle.object;
            return Err(StateError::Corrupt(format!("'{object}' does not hold what the checkpoint wrote")).into());
        }
        Ok(bytes)
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
    /// Of an unaligned checkpoint: what was on its way to the subtask.
    pub inputs: Vec<CapturedChannel>,
    /// Of an unaligned checkpoint: what the subtask had sent but not handed over.
    pub outputs: Vec<CapturedChannel>,
    /// The checkpoint is not wanted any more; what operators have handed over is written back.
    pub given_up: Option<StateError>,
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
        AsyncPart {
            attempt,
            barrier,
            members,
            finished,
            keyed,
            store,
            inputs: Vec::new(),
            outputs: Vec::new(),
            given_up: None,
        }
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
        if let Some(error) = self.given_up {
            return Err(SnapshotFailure::Declined(error.to_string()));
        }
        if let Some(error) = declined {
            return Err(declined_by(checkpoint, &error));
        }
        let [inputs, outputs] = self
            .store
            .write_channels(&self.attempt, checkpoint, [self.inputs, self.outputs])
            .map_err(|error| declined_by(checkpoint, &error))?;
        let (subtask, finished) = (self.attempt.subtask, self.finished);
        Ok(v1::SubtaskSnapshot { subtask, operators, keyed, finished, inputs, outputs })
    }
}

fn declined_by(checkpoint: u64, error: &EngineError) -> SnapshotFailure {
    SnapshotFailure::Declined(format!("the snapshot of checkpoint {checkpoint} failed: {error}"))
}
