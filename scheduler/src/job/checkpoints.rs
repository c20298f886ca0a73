//! Carrying out what the checkpoint coordinator wants: barriers, notifications, storage calls.

use std::collections::BTreeSet;

use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;
use rand::Rng;

use super::state::{ExecutionState, JobState};
use super::topology::Topology;
use super::{JobAction, JobMaster, savepoint};
use crate::checkpoint::TriggerRequest;
use crate::checkpoint::{CheckpointAction, CheckpointPlan, SavepointRequest, VertexShape};
use crate::slots::SlotPool;

impl JobMaster {
    pub(super) fn carry_out_checkpoint_actions(&mut self, pool: &mut SlotPool, now: i64) {
        while let Some(action) = self.checkpoints.next_action() {
            if self.state.is_terminal() {
                self.carry_out_after_end(action);
            } else {
                self.carry_out_checkpoint_action(action, pool, now);
            }
        }
    }

    pub(super) fn checkpoints_quiet(&self) -> bool {
        !self.checkpoints.has_actions()
    }

    fn carry_out_checkpoint_action(&mut self, action: CheckpointAction, pool: &mut SlotPool, now: i64) {
        match action {
            CheckpointAction::Storage { ticket, request } => self.actions.push(JobAction::Storage { ticket, request }),
            CheckpointAction::Opened => self.opened(pool, now),
            CheckpointAction::OpenFailed(error) => {
                let message = format!("the checkpoints in {} cannot be opened: {error}", self.checkpoint_directory);
                self.fail_before_deployment(message, pool, now);
            }
            CheckpointAction::Trigger(trigger) => self.trigger(trigger),
            CheckpointAction::Completed { id } => {
                self.on_checkpoint_completed(id, now);
                self.leaving.completed(id, now);
                self.scaling_triggered(pool, now);
            }
            CheckpointAction::Aborted { id } => {
                self.pending_local_state.clear();
                self.leaving_checkpoint_failed(id);
                let aborted = internal::CheckpointAborted { job_id: self.id.as_str().into(), checkpoint_id: id };
                self.send_to_all(ToTask::CheckpointAborted(aborted));
                self.scaling_checkpoint_failed(pool, now);
                self.actions.push(JobAction::Changed);
            }
            CheckpointAction::FailJob(message) => self.fail_globally(&message, now),
            CheckpointAction::Deposed if self.durable.is_some() => self.actions.push(JobAction::Deposed),
            CheckpointAction::Deposed => {
                let message = "another JobManager has taken the job over: its HEAD object was changed".to_owned();
                match self.state {
                    JobState::Created => self.fail_before_deployment(message, pool, now),
                    _ => self.fail_job(&message, now),
                }
            }
            CheckpointAction::Stopped { id, path } => self.on_stopped(id, path, now),
            CheckpointAction::SavepointDone { request, result } => {
                let was_stop = result.as_ref().is_err_and(|error| self.on_savepoint_failed(request, error, now));
                if !was_stop {
                    self.actions.push(JobAction::SavepointDone { request, result });
                }
            }
        }
    }

    /// The state to be restored fixes the number of key groups.
    pub(super) fn adopt_restored(&mut self) -> Result<(), String> {
        let Some(latest) = self.checkpoints.latest() else { return Ok(()) };
        let metadata = latest.metadata.clone();
        let mut plan = self.topology.plan.clone();
        if savepoint::adopt(&mut plan, &metadata)? {
            savepoint::adopt(&mut self.requirements.plan, &metadata)?;
            self.topology = Topology::new(plan);
        }
        Ok(())
    }

    /// After the end of the job tasks are told nothing any more.
    pub(super) fn carry_out_after_end(&mut self, action: CheckpointAction) {
        match action {
            CheckpointAction::Storage { ticket, request } => self.actions.push(JobAction::Storage { ticket, request }),
            CheckpointAction::SavepointDone { request, result } => {
                self.actions.push(JobAction::SavepointDone { request, result });
            }
            CheckpointAction::Completed { .. } | CheckpointAction::Aborted { .. } => {
                self.actions.push(JobAction::Changed);
            }
            CheckpointAction::Deposed if self.durable.is_some() => self.actions.push(JobAction::Deposed),
            _ => {}
        }
    }

    /// Coordinators first, then barriers, in one call: see [`super::hosted`].
    fn trigger(&mut self, trigger: TriggerRequest) {
        if trigger.demanded {
            self.leaving.triggered(trigger.id, trigger.timestamp_ms);
        }
        let awaited: BTreeSet<usize> = (0..self.executions.len())
            .filter(|&task| self.executions[task].state != ExecutionState::Finished)
            .collect();
        let coordinators = self.coordinators.snapshot(trigger.id);
        for &task in &awaited {
            // Tasks with a running producer get the barrier from it.
            if self.topology.producers(task).iter().all(|producer| !awaited.contains(producer)) {
                self.send_trigger(task, &trigger);
            }
        }
        let shape = |v: &hurtig_graph::job::PlanVertex| VertexShape {
            id: v.id.clone(),
            parallelism: v.parallelism,
            max_parallelism: v.max_parallelism,
            name: v.name.clone(),
            operators: v.operators.iter().map(operator_info).collect(),
        };
        let vertices = self.topology.plan.vertices.iter().map(shape).collect();
        self.pending_local_state.clear();
        self.checkpoints.begin(trigger, CheckpointPlan { vertices, awaited, coordinators });
    }

    fn send_trigger(&mut self, task: usize, trigger: &TriggerRequest) {
        let Some(slot) = self.executions[task].slot else { return };
        let folder = |savepoint: &SavepointRequest| savepoint.folder.clone();
        let settings = &self.settings.checkpoints;
        let overtakes = settings.unaligned && trigger.savepoint.is_none();
        let message = internal::TriggerCheckpoint {
            attempt: Some(self.attempt_id(task)),
            checkpoint_id: trigger.id,
            timestamp_ms: trigger.timestamp_ms,
            savepoint: trigger.savepoint.is_some(),
            target: trigger.savepoint.as_ref().map(folder).unwrap_or_default(),
            stop: trigger.savepoint.as_ref().map_or(StopMode::None, |savepoint| savepoint.stop).into(),
            unaligned: overtakes && settings.aligned_timeout_ms == 0,
            aligned_timeout_ms: if overtakes { settings.aligned_timeout_ms } else { 0 },
            at_least_once: settings.at_least_once,
        };
        self.send(slot.session, ToTask::TriggerCheckpoint(message));
    }

    fn on_checkpoint_completed(&mut self, id: u64, now: i64) {
        let local = std::mem::take(&mut self.pending_local_state);
        self.local_state = local.into_iter().filter_map(|(task, copy)| self.local_copy(task, id, copy)).collect();
        self.notify_complete(id, now);
    }

    /// Tells everyone that what belongs to checkpoint or savepoint `id` is durable.
    pub(super) fn notify_complete(&mut self, id: u64, now: i64) {
        let complete = internal::CheckpointComplete { job_id: self.id.as_str().into(), checkpoint_id: id };
        self.send_to_all(ToTask::CheckpointComplete(complete));
        let wanted = self.coordinators.checkpoint_complete(id, now);
        self.carry_out_hosted(wanted, now);
        let output = self.collect.completed(id);
        self.carry_out_collect(output);
        self.actions.push(JobAction::Changed);
    }

    fn send_to_all(&mut self, message: ToTask) {
        for session in self.live_sessions() {
            self.send(session, message.clone());
        }
    }

    /// Spreads the checkpoints of jobs that start together.
    pub(super) fn initial_checkpoint_delay(&mut self) -> u64 {
        let interval = self.settings.checkpoints.interval_ms.unwrap_or(0);
        let least = self.settings.checkpoints.min_pause_ms.min(interval);
        self.rng.random_range(least..=interval)
    }
}

fn operator_info(operator: &v1::Operator) -> v1::OperatorInfo {
    v1::OperatorInfo {
        uid: operator.uid.clone(),
        name: operator.name.clone(),
        kind: hurtig_graph::job::state_kind(operator).to_owned(),
    }
}
