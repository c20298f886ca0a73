//! A virtual TaskManager process: its tasks, its disk, its connection.

use std::collections::BTreeMap;

use hurtig_graph::attempt_record::AttemptRecord;
use hurtig_proto::internal::v1 as internal;

use super::task::{Task, TaskId};
use crate::slots::SessionId;

/// (job, vertex, subtask)
pub type DiskKey = (String, String, u32);

/// See the module documentation.
#[derive(Debug)]
pub struct Process {
    /// Stays the same over restarts.
    pub resource_id: String,
    /// Number of slots.
    pub slots: u32,
    /// Runs.
    pub alive: bool,
    /// Counts starts: events meant for an earlier life are dropped.
    pub life: u64,
    /// As it sees it.
    pub session: Option<SessionId>,
    /// 0 until the JobManager has answered the registration.
    pub epoch: u64,
    /// By attempt.
    pub tasks: BTreeMap<TaskId, Task>,
    /// What the next leader needs to know of each.
    pub records: BTreeMap<TaskId, AttemptRecord>,
    /// The connections over which tasks were deployed or taken over.
    pub attached: BTreeMap<TaskId, SessionId>,
    /// Tasks that have ended, for the next leader.
    pub ended: BTreeMap<TaskId, AttemptRecord>,
    /// Counts losses of the JobManager.
    pub alone: u64,
    /// Checkpoints on disk: the last confirmed, and a newer one.
    pub disk: BTreeMap<DiskKey, (u64, u64)>,
    /// It is to go; its processes come back without that.
    pub notice: Option<Notice>,
}

/// That a process is to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Notice {
    /// When it ends, whatever runs.
    pub deadline: i64,
    /// It ends once nothing is left on it. Otherwise it waits until the deadline.
    pub signalled: bool,
    /// The epoch of the leader that knew it first.
    pub epoch: u64,
}

impl Process {
    /// Not started yet.
    pub fn new(resource_id: String, slots: u32) -> Self {
        Process {
            resource_id,
            slots,
            alive: false,
            life: 0,
            session: None,
            epoch: 0,
            tasks: BTreeMap::new(),
            records: BTreeMap::new(),
            attached: BTreeMap::new(),
            ended: BTreeMap::new(),
            alone: 0,
            disk: BTreeMap::new(),
            notice: None,
        }
    }

    /// What it says when it is to go.
    pub fn decommission(&self, now: i64) -> Option<internal::DecommissionNotice> {
        let remaining_ms = (self.notice?.deadline - now).max(1) as u64;
        Some(internal::DecommissionNotice { source: "SIGTERM".into(), remaining_ms })
    }

    /// What it says when it connects.
    pub fn register(&self, now: i64) -> internal::Register {
        let confirmed = self.disk.iter().filter(|(_, (confirmed, _))| *confirmed > 0);
        let local = |((job, vertex, subtask), (checkpoint, _)): (&DiskKey, &(u64, u64))| internal::LocalState {
            job_id: job.clone(),
            vertex_id: vertex.clone(),
            subtask: *subtask,
            checkpoint_id: *checkpoint,
            bytes: 1000,
            ..Default::default()
        };
        internal::Register {
            resource_id: self.resource_id.clone(),
            instance_id: self.life.to_string(),
            data_address: format!("{}:1", self.resource_id),
            slots: self.slots,
            local_state: confirmed.map(local).collect(),
            attempts: self.records.values().chain(self.ended.values()).map(AttemptRecord::report).collect(),
            decommission: self.decommission(now),
            ..Default::default()
        }
    }

    /// The JobManager is lost.
    pub fn detach(&mut self) {
        self.session = None;
        self.attached.clear();
        self.alone += 1;
    }

    /// Ends all tasks.
    pub fn cancel_all(&mut self) {
        self.tasks.clear();
        self.records.clear();
        self.attached.clear();
        self.ended.clear();
    }

    /// The task goes on for the leader of now.
    pub fn is_attached(&self, id: &TaskId) -> bool {
        self.session.is_some() && self.attached.get(id) == self.session.as_ref()
    }

    /// A task is no more; how it ended is kept.
    pub fn remove(&mut self, id: &TaskId) -> bool {
        if let Some(record) = self.records.remove(id) {
            self.ended.insert(id.clone(), record);
        }
        self.tasks.remove(id).is_some()
    }

    /// A task is cancelled.
    pub fn cancel(&mut self, id: &TaskId) {
        self.tasks.remove(id);
        self.records.remove(id);
        self.attached.remove(id);
    }

    /// A checkpoint of a task is on disk, not confirmed yet.
    pub fn keep(&mut self, task: &TaskId, checkpoint: u64) {
        self.disk.entry((task.job.clone(), task.vertex.clone(), task.subtask)).or_default().1 = checkpoint;
    }

    /// A checkpoint is complete: what is on disk of it is confirmed.
    pub fn confirm(&mut self, job: &str, checkpoint: u64) {
        for ((of, ..), (confirmed, kept)) in &mut self.disk {
            if of == job && *kept == checkpoint {
                *confirmed = checkpoint;
            }
        }
    }
}
