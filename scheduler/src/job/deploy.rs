//! Reserving slots and telling each task what it is: its chain, inputs, outputs and state.

use std::collections::BTreeSet;

use hurtig_graph::job::PlanEdge;
use hurtig_graph::key_groups::key_group_range;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;

use super::savepoint::state_of;
use super::state::{ExecutionState, JobState};
use super::topology::{SlotKey, TaskRef};
use super::{Execution, JobMaster, LocalCopy, RestartPhase, SlotsSeen};
use crate::slots::{SessionId, SlotPool, TaskManager};

impl JobMaster {
    /// Deploys everything once all slots can be had.
    pub(super) fn deploy_first(&mut self, pool: &mut SlotPool, now: i64) {
        let all: Vec<usize> = (0..self.topology.regions.len()).collect();
        if !self.reserve_slots(&all, pool) {
            self.wait_for_slots(pool, now);
            return;
        }
        self.slots_missing_since_ms = None;
        if let Err(error) = self.start_coordinators(now) {
            self.fail_before_deployment(error, pool, now);
            return;
        }
        self.transition(JobState::Deploying, now);
        for region in all {
            self.deploy_region(region, pool, now);
        }
    }

    /// Deploys every restarting region that has ended, waited, and has its slots.
    pub(super) fn deploy_restarting(&mut self, pool: &mut SlotPool, now: i64) {
        for time in self.restarting.values_mut().filter(|time| **time <= now) {
            // Has waited long enough: no deadline any more.
            *time = i64::MIN;
        }
        self.note_restart_phases(now);
        if self.checkpoints.in_doubt() || (self.global_restart && self.any_live()) {
            // Not slots are waited for now, so waiting for them has no deadline.
            self.slots_missing_since_ms = None;
            return;
        }
        if self.global_restart && !self.restart_coordinators(pool, now) {
            return;
        }
        self.leave_with_restarting(pool, now);
        let waited = |(region, time): (&usize, &i64)| (*time == i64::MIN).then_some(*region);
        let ready: Vec<usize> = self.restarting.iter().filter_map(waited).collect();
        let mut waiting = false;
        for region in ready {
            let live = self.topology.regions[region].iter().any(|&task| self.executions[task].state.is_live());
            if live || self.has_left_slot(region, pool) {
                continue;
            }
            if !self.attempts_left(region) {
                continue;
            }
            if !self.reserve_slots(&[region], pool) {
                waiting = true;
                continue;
            }
            self.restarting.remove(&region);
            self.deploy_region(region, pool, now);
        }
        if waiting {
            self.wait_for_slots(pool, now);
        } else {
            self.slots_missing_since_ms = None;
        }
        if self.state == JobState::Restarting && self.restarting.is_empty() {
            self.history.reached(RestartPhase::Deployed, now);
            self.transition(JobState::Deploying, now);
        }
    }

    /// For the report of the restart: the first times at which no task is left, and no delay.
    fn note_restart_phases(&mut self, now: i64) {
        let restarting = |task: &usize| self.restarting.contains_key(&self.topology.tasks[*task].region);
        let live = |task: usize| self.executions[task].state.is_live();
        let ended = !(0..self.executions.len()).filter(restarting).any(live);
        let waited = self.restarting.values().all(|&time| time == i64::MIN);
        if ended && !self.restart_ended {
            self.restart_ended = true;
            self.history.reached(RestartPhase::Ended, now);
        }
        if waited && !self.restart_waited {
            self.restart_waited = true;
            self.history.reached(RestartPhase::Waited, now);
        }
    }

    /// Once all tasks have ended, puts the coordinators back to the checkpoint. False: not yet.
    fn restart_coordinators(&mut self, pool: &mut SlotPool, now: i64) -> bool {
        if self.any_live() {
            return false;
        }
        self.finish_rescaling(pool);
        self.global_restart = false;
        if let Err(error) = self.start_coordinators(now) {
            self.fail_job(&error, now);
            return false;
        }
        true
    }

    pub(super) fn start_coordinators(&mut self, now: i64) -> Result<(), String> {
        let latest = self.checkpoints.latest().map(|latest| latest.metadata.clone());
        let from = latest.as_ref().map(|metadata| (metadata.checkpoint_id, metadata.coordinators.as_slice()));
        let restore = if self.coordinators_started { Some(from.unwrap_or((0, &[]))) } else { from };
        let vertices = &self.topology.plan.vertices;
        let wanted = self.coordinators.start(restore, |vertex| vertices[vertex].parallelism, now)?;
        self.coordinators_started = true;
        self.carry_out_hosted(wanted, now);
        self.failed_at_start.take().map_or(Ok(()), Err)
    }

    fn wait_for_slots(&mut self, pool: &mut SlotPool, now: i64) {
        let since = *self.slots_missing_since_ms.get_or_insert(now);
        self.slots_seen = SlotsSeen { free: pool.free(), total: pool.total() };
        self.next_slot_deadline_ms = self.settings.slot_wait_ms;
        if self.rescale_down(since, pool, now) {
            return;
        }
        let waited = now.saturating_sub(since).max(0) as u64;
        if waited < self.settings.slot_wait_ms {
            return;
        }
        let needed = self.slots_needed();
        let have = self.slots_available(pool);
        let message = format!(
            "not enough slots: need {needed}, have {have}; start more TaskManagers, \
             raise taskmanager.numberOfTaskSlots or lower the parallelism"
        );
        if self.state == JobState::WaitingForResources {
            self.fail_before_deployment(message, pool, now);
        } else {
            self.fail_job(&message, now);
        }
    }

    pub(super) fn slots_needed(&self) -> usize {
        (0..self.topology.tasks.len()).map(|task| self.topology.slot_key(task)).collect::<BTreeSet<_>>().len()
    }

    /// Makes sure that `regions` have all their slots; takes none if some are missing.
    fn reserve_slots(&mut self, regions: &[usize], pool: &mut SlotPool) -> bool {
        let tasks = regions.iter().flat_map(|&region| &self.topology.regions[region]);
        let keys: BTreeSet<SlotKey> = tasks.map(|&task| self.topology.slot_key(task)).collect();
        let missing: Vec<SlotKey> = keys.into_iter().filter(|key| !self.slots.contains_key(key)).collect();
        if missing.is_empty() {
            return true;
        }
        let score = |key: &SlotKey, session: SessionId, taskmanager: &TaskManager| {
            self.local_state_score(key, session, taskmanager)
        };
        match pool.allocate(&self.id, &missing, score) {
            Some(given) => {
                self.slots.extend(given);
                true
            }
            None => false,
        }
    }

    /// How much state of the checkpoint to restore a TaskManager has on disk for the tasks of `key`:
    /// of each copy the share of the key groups that the task will own.
    fn local_state_score(&self, key: &SlotKey, session: SessionId, taskmanager: &TaskManager) -> u64 {
        let Some(latest) = self.checkpoints.latest() else { return 0 };
        let mut score = 0;
        for task in (0..self.topology.tasks.len()).filter(|&task| self.topology.slot_key(task) == *key) {
            let TaskRef { vertex: position, subtask, .. } = self.topology.tasks[task];
            let vertex = &self.topology.plan.vertices[position];
            let Some(own) = key_group_range(vertex.max_parallelism, vertex.parallelism, subtask) else { continue };
            let registered = taskmanager.local_state.iter().filter(|state| {
                state.job_id == self.id.as_str() && state.vertex_id == vertex.id && state.checkpoint_id == latest.id
            });
            let registered =
                registered.map(|state| share(own, (state.key_group_start, state.key_group_end), state.bytes));
            let known = self
                .local_state
                .iter()
                .filter(|copy| copy.session == session && copy.vertex == position && copy.checkpoint == latest.id);
            let known = known.map(|copy| share(own, copy.key_groups, copy.bytes));
            score += registered.sum::<u64>().max(known.sum());
        }
        score
    }

    /// What is known of the copy that `task` keeps of checkpoint `id`.
    pub(super) fn local_copy(&self, task: usize, id: u64, (session, bytes): (SessionId, u64)) -> Option<LocalCopy> {
        let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
        let v = &self.topology.plan.vertices[vertex];
        let key_groups = key_group_range(v.max_parallelism, v.parallelism, subtask)?;
        Some(LocalCopy { session, checkpoint: id, vertex, key_groups, bytes })
    }

    /// The next attempts of all tasks of a region, consumers first so that they are there when
    /// their producers connect.
    fn deploy_region(&mut self, region: usize, pool: &SlotPool, now: i64) {
        let tasks = self.topology.regions[region].clone();
        let restore = self.checkpoints.latest().map_or(0, |latest| latest.id);
        let again = tasks.iter().any(|&task| self.executions[task].deployed);
        if restore > 0 {
            self.counters.regions_restored += u64::from(again);
            self.restored_checkpoint = restore;
            self.restored_time_ms = now;
            self.history.restores(restore);
        }
        for &task in &tasks {
            self.new_attempt(task, pool);
            self.collect.reset(task);
        }
        if again {
            for &task in &tasks {
                let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
                let wanted = self.coordinators.reset_subtask(vertex, subtask, restore, now);
                self.carry_out_hosted(wanted, now);
            }
        }
        for &task in tasks.iter().rev() {
            let deployment = self.deployment(task, pool);
            if let Some(slot) = self.executions[task].slot {
                self.set_execution(task, ExecutionState::Deploying);
                self.send(slot.session, ToTask::Deploy(deployment));
            }
        }
    }

    fn new_attempt(&mut self, task: usize, pool: &SlotPool) {
        let slot = self.slots.get(&self.topology.slot_key(task)).copied();
        let taskmanager = slot.and_then(|slot| pool.get(slot.session));
        let old = &self.executions[task];
        self.executions[task] = Execution {
            attempt: if old.deployed { old.attempt + 1 } else { 0 },
            deployed: true,
            slot,
            taskmanager: taskmanager.map_or(String::new(), |t| t.resource_id.clone()),
            ..Execution::new()
        };
    }

    fn deployment(&self, task: usize, pool: &SlotPool) -> internal::TaskDeployment {
        let TaskRef { vertex, subtask, region } = self.topology.tasks[task];
        let plan = &self.topology.plan;
        let v = &plan.vertices[vertex];
        let latest = self.checkpoints.latest();
        let restore = latest.map(|latest| state_of(&latest.metadata, v, subtask)).unwrap_or_default();
        let edges = || plan.edges.iter().enumerate();
        internal::TaskDeployment {
            attempt: Some(self.attempt_id(task)),
            job_name: plan.name.clone(),
            vertex_name: v.name.clone(),
            parallelism: v.parallelism,
            max_parallelism: v.max_parallelism,
            slot: self.executions[task].slot.map_or(0, |slot| slot.index),
            operators: v.operators.clone(),
            inputs: edges().filter(|(_, e)| e.to == vertex).map(|(i, e)| self.input_gate(i, e, subtask)).collect(),
            outputs: edges().filter(|(_, e)| e.from == vertex).map(|(i, e)| self.output(i, e, subtask, pool)).collect(),
            configuration: plan.configuration.as_map().clone(),
            restore_checkpoint_id: latest.map_or(0, |latest| latest.id),
            restore: restore.snapshots,
            restore_parallelism: restore.parallelism,
            checkpoint_directory: if self.checkpoints.enabled() {
                self.checkpoint_directory.clone()
            } else {
                String::new()
            },
            region: region as u32,
            plan: self.fingerprint,
        }
    }

    fn input_gate(&self, index: usize, edge: &PlanEdge, subtask: u32) -> internal::InputGate {
        let producer_vertex = &self.topology.plan.vertices[edge.from].id;
        let channel = |producer: u32| internal::InputChannel {
            producer_subtask: producer,
            producer_attempt: self.executions[self.topology.task(edge.from, producer)].attempt,
            producer_vertex: producer_vertex.clone(),
        };
        internal::InputGate {
            edge_id: edge.id.clone(),
            port: edge.to_port,
            schema: Some(edge.schema.clone()),
            channels: self.topology.producer_subtasks(index, subtask).into_iter().map(channel).collect(),
            partitioner: Some(edge.partitioner.clone()),
        }
    }

    fn output(&self, index: usize, edge: &PlanEdge, subtask: u32, pool: &SlotPool) -> internal::OutputEdge {
        let consumer_vertex = &self.topology.plan.vertices[edge.to];
        let channel = |consumer: u32| {
            let execution = &self.executions[self.topology.task(edge.to, consumer)];
            let taskmanager = execution.slot.and_then(|slot| pool.get(slot.session));
            internal::OutputChannel {
                consumer_subtask: consumer,
                consumer_attempt: execution.attempt,
                data_address: taskmanager.map_or(String::new(), |t| t.data_address.clone()),
            }
        };
        internal::OutputEdge {
            edge_id: edge.id.clone(),
            partitioner: Some(edge.partitioner.clone()),
            schema: Some(edge.schema.clone()),
            ordered: edge.ordered,
            consumer_vertex: consumer_vertex.id.clone(),
            consumer_max_parallelism: consumer_vertex.max_parallelism,
            consumer_parallelism: consumer_vertex.parallelism,
            channels: self.topology.consumer_subtasks(index, subtask).into_iter().map(channel).collect(),
        }
    }

    /// The wire form of the current attempt of `task`.
    pub(super) fn attempt_id(&self, task: usize) -> internal::AttemptId {
        let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
        internal::AttemptId {
            job_id: self.id.as_str().to_owned(),
            vertex_id: self.topology.plan.vertices[vertex].id.clone(),
            subtask,
            attempt: self.executions[task].attempt,
        }
    }
}

/// The part of a copy with `bytes` for key groups `copy` that is for those of `own`; at least 1 where
/// any is. Ranges are inclusive.
fn share(own: (u32, u32), copy: (u32, u32), bytes: u64) -> u64 {
    let (first, last) = (own.0.max(copy.0), own.1.min(copy.1));
    if first > last {
        return 0;
    }
    let groups = u64::from(copy.1.saturating_sub(copy.0)) + 1;
    (bytes / groups * (u64::from(last - first) + 1)).max(1)
}
