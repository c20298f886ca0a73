//! A checkpoint under way: who has acknowledged, who is awaited, and what its metadata will say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::v1;

use super::files::{objects_of, sizes};

/// Where a checkpoint under way is.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | Acknowledging | every awaited task has acknowledged | WritingMetadata |
/// | WritingMetadata | written, checkpoint | Publishing |
/// | WritingMetadata | written, savepoint | Completed |
/// | WritingMetadata | written, savepoint with which the job stops | Publishing |
/// | Publishing | HEAD names it | Completed |
/// | Acknowledging, WritingMetadata | failure of a task, decline, timeout, failed write | Aborted |
/// | Publishing | HEAD certainly does not name it | Aborted |
///
/// While Publishing, HEAD may name it already: a failover waits until that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointPhase {
    /// Tasks work on it.
    Acknowledging,
    /// The metadata object is being written.
    WritingMetadata,
    /// HEAD is being swapped.
    Publishing,
    /// HEAD names it.
    Completed,
    /// It will never be complete.
    Aborted,
}

impl CheckpointPhase {
    /// Every transition there is.
    pub const TRANSITIONS: &'static [(CheckpointPhase, CheckpointPhase)] = {
        use CheckpointPhase::*;
        &[
            (Acknowledging, WritingMetadata),
            (WritingMetadata, Publishing),
            (WritingMetadata, Completed),
            (Publishing, Completed),
            (Acknowledging, Aborted),
            (WritingMetadata, Aborted),
            (Publishing, Aborted),
        ]
    };
}

/// The subtasks of one vertex, as the metadata lists them.
#[derive(Debug, Clone, PartialEq)]
pub struct VertexShape {
    /// Id of the vertex.
    pub id: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// For people.
    pub name: String,
    /// Its chain.
    pub operators: Vec<v1::OperatorInfo>,
}

/// Who takes part in a checkpoint. Tasks are numbered through all vertices, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointPlan {
    /// All vertices.
    pub vertices: Vec<VertexShape>,
    /// Tasks whose acknowledgement is awaited; the others have finished.
    pub awaited: BTreeSet<usize>,
    /// Snapshots of the operator coordinators.
    pub coordinators: Vec<v1::CoordinatorSnapshot>,
}

/// Of a savepoint.
#[derive(Debug, Clone, PartialEq)]
pub struct SavepointRequest {
    /// Chosen by who asked for it.
    pub request: u64,
    /// URI of its own folder.
    pub folder: String,
    /// Whether the job stops with it.
    pub stop: StopMode,
}

/// A checkpoint under way.
#[derive(Debug)]
pub struct PendingCheckpoint {
    /// Its id.
    pub id: u64,
    /// When it was triggered.
    pub timestamp_ms: i64,
    /// When it expires.
    pub deadline_ms: i64,
    /// Set for a savepoint.
    pub savepoint: Option<SavepointRequest>,
    /// All sources had ended when it was triggered.
    pub last: bool,
    /// It was asked for, and may fail without consequences.
    pub demanded: bool,
    /// Where it is.
    pub phase: CheckpointPhase,
    /// How often its metadata was written in vain.
    pub failed_writes: u32,
    plan: CheckpointPlan,
    acknowledged: BTreeMap<usize, v1::SubtaskSnapshot>,
    objects: BTreeSet<String>,
}

impl PendingCheckpoint {
    /// Nobody has acknowledged yet.
    pub fn new(
        id: u64,
        plan: CheckpointPlan,
        savepoint: Option<SavepointRequest>,
        last: bool,
        times_ms: (i64, i64),
    ) -> Self {
        PendingCheckpoint {
            id,
            timestamp_ms: times_ms.0,
            deadline_ms: times_ms.1,
            savepoint,
            last,
            demanded: false,
            phase: CheckpointPhase::Acknowledging,
            failed_writes: 0,
            plan,
            acknowledged: BTreeMap::new(),
            objects: BTreeSet::new(),
        }
    }

    /// Records an acknowledgement. False: nobody waits for it (again).
    pub fn acknowledge(&mut self, task: usize, snapshot: v1::SubtaskSnapshot) -> bool {
        if self.phase != CheckpointPhase::Acknowledging || !self.plan.awaited.remove(&task) {
            return false;
        }
        self.objects.extend(objects_of(&snapshot).map(str::to_owned));
        self.acknowledged.insert(task, snapshot);
        true
    }

    /// Whether the acknowledgement of `task` is still to come.
    pub fn awaits(&self, task: usize) -> bool {
        self.phase == CheckpointPhase::Acknowledging && self.plan.awaited.contains(&task)
    }

    /// The tasks whose acknowledgement is still to come.
    pub fn awaited(&self) -> impl Iterator<Item = usize> {
        self.plan.awaited.iter().copied()
    }

    /// Everyone has acknowledged.
    pub fn is_complete(&self) -> bool {
        self.plan.awaited.is_empty()
    }

    /// Acknowledgements that are awaited.
    pub fn missing(&self) -> usize {
        self.plan.awaited.len()
    }

    /// What acknowledgements refer to.
    pub fn objects(&self) -> &BTreeSet<String> {
        &self.objects
    }

    /// All acknowledged state.
    pub fn snapshots(&self) -> impl Iterator<Item = &v1::SubtaskSnapshot> {
        self.acknowledged.values()
    }

    /// Bytes uploaded for it.
    pub fn uploaded_bytes(&self) -> u64 {
        self.acknowledged.values().map(|snapshot| sizes(snapshot).1).sum()
    }

    /// The metadata object's content.
    pub fn metadata(&self, job_id: &str, job_name: &str) -> Arc<v1::CheckpointMetadata> {
        let mut first = 0;
        let mut vertices = Vec::with_capacity(self.plan.vertices.len());
        for vertex in &self.plan.vertices {
            let subtasks = (0..vertex.parallelism).map(|subtask| self.subtask_entry(first, subtask)).collect();
            first += vertex.parallelism as usize;
            vertices.push(v1::VertexSnapshot {
                vertex_id: vertex.id.clone(),
                parallelism: vertex.parallelism,
                max_parallelism: vertex.max_parallelism,
                subtasks,
                operators: vertex.operators.clone(),
                name: vertex.name.clone(),
            });
        }
        Arc::new(v1::CheckpointMetadata {
            format_version: 1,
            job_id: job_id.to_owned(),
            checkpoint_id: self.id,
            timestamp_ms: self.timestamp_ms,
            vertices,
            coordinators: self.plan.coordinators.clone(),
            key_hash_version: 1,
            savepoint: self.savepoint.is_some(),
            job_name: job_name.to_owned(),
        })
    }

    fn subtask_entry(&self, first: usize, subtask: u32) -> v1::SubtaskSnapshot {
        match self.acknowledged.get(&(first + subtask as usize)) {
            Some(snapshot) => v1::SubtaskSnapshot { subtask, ..snapshot.clone() },
            None => v1::SubtaskSnapshot { subtask, finished: true, ..Default::default() },
        }
    }
}
