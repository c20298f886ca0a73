//! The slots of all registered TaskManagers.
//!
//! A slot holds one subtask of each vertex of a slot sharing group, of one job. Allocation prefers
//! the slots where the caller says that state is, then spreads over the TaskManagers evenly.

use std::collections::BTreeMap;

use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1::{LocalState, Register};

/// One connection of a TaskManager; a new number for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A slot of a connected TaskManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// Of the TaskManager.
    pub session: SessionId,
    /// From 0.
    pub index: u32,
}

/// A registered TaskManager.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskManager {
    /// Stable over restarts of the process where configured so.
    pub resource_id: String,
    /// New for every process.
    pub instance_id: String,
    /// Where other TaskManagers reach it.
    pub data_address: String,
    /// Process id.
    pub pid: u64,
    /// Where its metrics are served; may be empty.
    pub metrics_address: String,
    /// The job that each slot is given to.
    pub slots: Vec<Option<JobId>>,
    /// Checkpoints on its disk, as it said when it registered.
    pub local_state: Vec<LocalState>,
    /// Set when it is to go: its slots are given to nobody any more.
    pub notice: Option<Notice>,
    /// It was told that nothing is left on it.
    pub drained: bool,
}

/// A TaskManager is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What has given it, for people.
    pub source: String,
    /// When it came.
    pub since_ms: i64,
    /// When the TaskManager ends whatever still runs there; `None`: it is not known.
    pub deadline_ms: Option<i64>,
}

impl TaskManager {
    /// Of what the process said about itself.
    pub fn new(register: &Register) -> Self {
        TaskManager {
            resource_id: register.resource_id.clone(),
            instance_id: register.instance_id.clone(),
            data_address: register.data_address.clone(),
            pid: register.pid,
            metrics_address: register.metrics_address.clone(),
            slots: vec![None; register.slots as usize],
            local_state: register.local_state.clone(),
            notice: None,
            drained: false,
        }
    }

    /// Slots that a job can have.
    pub fn free(&self) -> usize {
        if self.notice.is_some() { 0 } else { self.slots.len() - self.used() }
    }

    /// Slots given to jobs.
    pub fn used(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_some()).count()
    }

    /// Where it is in its life, as users see it.
    pub fn state(&self) -> &'static str {
        match self.notice {
            None => "ACTIVE",
            Some(_) if self.used() > 0 => "DRAINING",
            Some(_) => "DRAINED",
        }
    }
}

/// All registered TaskManagers by session.
#[derive(Debug, Default)]
pub struct SlotPool {
    taskmanagers: BTreeMap<SessionId, TaskManager>,
}

impl SlotPool {
    /// Adds a TaskManager with all its slots free.
    pub fn register(&mut self, session: SessionId, taskmanager: TaskManager) {
        self.taskmanagers.insert(session, taskmanager);
    }

    /// Takes a TaskManager and its slots away.
    pub fn remove(&mut self, session: SessionId) -> Option<TaskManager> {
        self.taskmanagers.remove(&session)
    }

    /// The TaskManager of `session`.
    pub fn get(&self, session: SessionId) -> Option<&TaskManager> {
        self.taskmanagers.get(&session)
    }

    /// All of them, oldest connection first.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &TaskManager)> {
        self.taskmanagers.iter().map(|(session, taskmanager)| (*session, taskmanager))
    }

    /// A TaskManager is to go. Of several notices the one that ends it first counts. True: it is the first.
    pub fn decommission(&mut self, session: SessionId, notice: Notice) -> bool {
        let Some(taskmanager) = self.taskmanagers.get_mut(&session) else { return false };
        match &mut taskmanager.notice {
            Some(known) => {
                let deadlines = [known.deadline_ms, notice.deadline_ms].into_iter().flatten();
                known.deadline_ms = deadlines.min();
                false
            }
            none => {
                *none = Some(notice);
                true
            }
        }
    }

    /// Whether the TaskManager of `session` is to go.
    pub fn is_leaving(&self, session: SessionId) -> bool {
        self.get(session).is_some_and(|taskmanager| taskmanager.notice.is_some())
    }

    /// Whether any TaskManager is to go.
    pub fn any_leaving(&self) -> bool {
        self.taskmanagers.values().any(|taskmanager| taskmanager.notice.is_some())
    }

    /// Notes those that are to go and have no slot in use (any more), and returns them, each once.
    pub fn take_drained(&mut self) -> Vec<SessionId> {
        let drained = |t: &TaskManager| t.notice.is_some() && !t.drained && t.used() == 0;
        let new: Vec<SessionId> =
            self.taskmanagers.iter().filter(|(_, t)| drained(t)).map(|(session, _)| *session).collect();
        for session in &new {
            if let Some(taskmanager) = self.taskmanagers.get_mut(session) {
                taskmanager.drained = true;
            }
        }
        new
    }

    /// Number of slots, without those of TaskManagers that are to go.
    pub fn total(&self) -> usize {
        self.taskmanagers.values().filter(|t| t.notice.is_none()).map(|t| t.slots.len()).sum()
    }

    /// Number of slots that a job can have.
    pub fn free(&self) -> usize {
        self.taskmanagers.values().map(TaskManager::free).sum()
    }

    /// Gives `job` one slot for each of `wanted`, or none at all. `score` says how much state for a
    /// wanted slot a TaskManager has on its disk; 0: none.
    pub fn allocate<K: Clone + Ord>(
        &mut self,
        job: &JobId,
        wanted: &[K],
        score: impl Fn(&K, SessionId, &TaskManager) -> u64,
    ) -> Option<BTreeMap<K, SlotId>> {
        if wanted.len() > self.free() {
            return None;
        }
        let mut given = BTreeMap::new();
        self.allocate_by_score(job, wanted, score, &mut given);
        for key in wanted {
            if !given.contains_key(key) {
                let session = self.least_used()?;
                given.insert(key.clone(), self.take(job, session)?);
            }
        }
        Some(given)
    }

    /// Greedily, highest score first.
    fn allocate_by_score<K: Clone + Ord>(
        &mut self,
        job: &JobId,
        wanted: &[K],
        score: impl Fn(&K, SessionId, &TaskManager) -> u64,
        given: &mut BTreeMap<K, SlotId>,
    ) {
        let mut scores = Vec::new();
        for key in wanted {
            for (session, taskmanager) in self.iter() {
                let score = score(key, session, taskmanager);
                if score > 0 {
                    scores.push((std::cmp::Reverse(score), key.clone(), session));
                }
            }
        }
        scores.sort();
        for (_, key, session) in scores {
            if !given.contains_key(&key)
                && let Some(slot) = self.take(job, session)
            {
                given.insert(key, slot);
            }
        }
    }

    /// The TaskManager with free slots of which the smallest part is used.
    fn least_used(&self) -> Option<SessionId> {
        let with_free = self.taskmanagers.iter().filter(|(_, t)| t.free() > 0);
        let load = |t: &TaskManager| t.used() * 1_000_000 / t.slots.len().max(1);
        with_free.min_by_key(|(session, t)| (load(t), **session)).map(|(session, _)| *session)
    }

    fn take(&mut self, job: &JobId, session: SessionId) -> Option<SlotId> {
        let taskmanager = self.taskmanagers.get_mut(&session).filter(|t| t.notice.is_none())?;
        let index = taskmanager.slots.iter().position(Option::is_none)?;
        taskmanager.slots[index] = Some(job.clone());
        Some(SlotId { session, index: index as u32 })
    }

    /// Gives `job` this very slot. False: it is another job's, or there is none.
    pub fn claim(&mut self, job: &JobId, slot: SlotId) -> bool {
        let holder = self.taskmanagers.get_mut(&slot.session).and_then(|t| t.slots.get_mut(slot.index as usize));
        match holder {
            Some(holder) if holder.as_ref().is_none_or(|of| of == job) => {
                *holder = Some(job.clone());
                true
            }
            _ => false,
        }
    }

    /// Gives one slot back.
    pub fn free_slot(&mut self, slot: SlotId) {
        if let Some(taskmanager) = self.taskmanagers.get_mut(&slot.session)
            && let Some(holder) = taskmanager.slots.get_mut(slot.index as usize)
        {
            *holder = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(slots: &[u32]) -> SlotPool {
        let mut pool = SlotPool::default();
        for (i, &slots) in slots.iter().enumerate() {
            let register = Register { resource_id: format!("tm{i}"), slots, ..Register::default() };
            pool.register(SessionId(i as u64), TaskManager::new(&register));
        }
        pool
    }

    fn used(pool: &SlotPool) -> Vec<usize> {
        pool.iter().map(|(_, t)| t.used()).collect()
    }

    #[test]
    fn slots_are_spread_evenly() {
        let mut pool = pool(&[4, 4, 2]);
        let job = JobId::from_u128(1);
        pool.allocate(&job, &[0, 1, 2, 3, 4], |_, _, _| 0).unwrap();
        assert_eq!(used(&pool), [2, 2, 1]);
    }

    #[test]
    fn all_or_nothing() {
        let mut pool = pool(&[1, 1]);
        let job = JobId::from_u128(1);
        assert_eq!(pool.allocate(&job, &[0, 1, 2], |_, _, _| 0), None);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn nothing_comes_onto_a_taskmanager_that_is_to_go() {
        let mut pool = pool(&[2, 2]);
        let (job, notice) =
            (JobId::from_u128(1), |deadline| Notice { source: "test".into(), since_ms: 0, deadline_ms: deadline });
        pool.allocate(&job, &[0, 1], |_, _, _| 0).unwrap();
        assert!(pool.decommission(SessionId(0), notice(None)));
        assert!(
            !pool.decommission(SessionId(0), notice(Some(70))) && !pool.decommission(SessionId(0), notice(Some(90)))
        );
        assert_eq!(pool.get(SessionId(0)).unwrap().notice.as_ref().unwrap().deadline_ms, Some(70));
        assert_eq!((pool.total(), pool.free(), pool.take_drained()), (2, 1, vec![]));
        let has_state = |_: &u32, session: SessionId, _: &TaskManager| u64::from(session.0 == 0);
        assert_eq!(pool.allocate(&job, &[2, 3], has_state), None);
        assert_eq!(pool.allocate(&job, &[2], has_state).unwrap()[&2].session, SessionId(1));
        pool.free_slot(SlotId { session: SessionId(0), index: 0 });
        assert_eq!((pool.free(), pool.get(SessionId(0)).unwrap().state()), (0, "DRAINED"));
        assert_eq!((pool.take_drained(), pool.take_drained()), (vec![SessionId(0)], vec![]));
    }

    #[test]
    fn state_on_disk_decides_first() {
        let mut pool = pool(&[2, 2]);
        let job = JobId::from_u128(1);
        let on_second = |_: &u32, session: SessionId, _: &TaskManager| u64::from(session.0 == 1) * 10;
        let given = pool.allocate(&job, &[0, 1, 2], on_second).unwrap();
        assert_eq!(used(&pool), [1, 2]);
        assert_eq!(given[&0].session, SessionId(1));
        pool.free_slot(given[&0]);
        assert_eq!(pool.free(), 2);
    }
}
