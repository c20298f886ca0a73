//! Messages of TaskManagers about tasks. Each is checked against the current attempt of the task
//! and its connection before it may change anything.

use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;

use super::collect::CollectOutput;
use super::hosted::HostedAction;
use super::state::{ExecutionState, JobState};
use super::topology::TaskRef;
use super::{AcknowledgedCheckpoint, JobAction, JobMaster};
use crate::checkpoint::files::sizes;
use crate::simulator::Bug;
use crate::slots::SessionId;

impl JobMaster {
    pub(super) fn on_task_message(&mut self, session: SessionId, message: FromTask, now: i64) {
        match message {
            FromTask::TaskState(changed) => {
                if let Some(task) = self.current(session, changed.attempt.as_ref()) {
                    self.on_task_state(task, changed, now);
                }
            }
            FromTask::CheckpointAck(ack) => self.on_acknowledgement(session, ack, now),
            FromTask::CheckpointDecline(decline) => {
                if let Some(task) = self.current(session, decline.attempt.as_ref()) {
                    let name = self.topology.task_name(task);
                    self.checkpoints.decline(decline.checkpoint_id, &name, &decline.reason, now);
                }
            }
            FromTask::Coordinator(message) => {
                if let Some(task) = self.current(session, message.attempt.as_ref()) {
                    let subtask = self.topology.tasks[task].subtask;
                    let wanted = self.coordinators.message(&message.operator_uid, subtask, message.payload, now);
                    self.carry_out_hosted(wanted, now);
                }
            }
            FromTask::EndOfData(ended) => {
                if let Some(task) = self.current(session, ended.attempt.as_ref()) {
                    if self.topology.is_source(task) && self.executions[task].state == ExecutionState::Running {
                        self.sources_ended.insert(task);
                    }
                    self.update_sources_ended(now);
                }
            }
            FromTask::Collected(collected) => self.on_collected(session, collected, now),
            FromTask::Reports(reports) => self.on_reports(session, reports, now),
            FromTask::Register(_) | FromTask::Heartbeat(_) | FromTask::Decommission(_) => {}
        }
    }

    /// The task, if `attempt` is its current one, is on this connection, and has not ended.
    fn current(&mut self, session: SessionId, attempt: Option<&internal::AttemptId>) -> Option<usize> {
        let found = self.find_current(session, attempt);
        if found.is_none() {
            self.counters.stale_messages += 1;
            tracing::debug!(job = %self.id, ?attempt, "a message of an attempt that is over was refused");
        }
        found
    }

    fn find_current(&self, session: SessionId, attempt: Option<&internal::AttemptId>) -> Option<usize> {
        let attempt = attempt?;
        let task = self.topology.find(&attempt.vertex_id, attempt.subtask)?;
        let execution = &self.executions[task];
        let same = execution.attempt == attempt.attempt && execution.slot.is_some_and(|s| s.session == session);
        (same && execution.state.is_live()).then_some(task)
    }

    fn on_task_state(&mut self, task: usize, changed: internal::TaskStateChanged, now: i64) {
        use ExecutionState::*;
        let Some(reported) = ExecutionState::parse(&changed.state) else {
            tracing::warn!(job = %self.id, state = changed.state, "a TaskManager reported an unknown state");
            return;
        };
        match (self.executions[task].state, reported) {
            (Deploying, Initializing) => self.set_execution(task, Initializing),
            (Deploying | Initializing, Running) => self.on_task_running(task, changed.restore, now),
            (Deploying | Initializing, Finished) => {
                self.on_task_running(task, changed.restore, now);
                self.on_task_finished(task, now);
            }
            (Running, Finished) => self.on_task_finished(task, now),
            (Canceling, Canceled | Finished | Failed) => self.set_execution(task, reported),
            (Deploying | Initializing | Running, Failed | Canceled) => {
                self.set_execution(task, Failed);
                if changed.damaged_checkpoint != 0 {
                    return self.on_damaged_checkpoint(task, changed.damaged_checkpoint, &changed.error, now);
                }
                let error = if reported == Canceled {
                    "it was cancelled by its TaskManager".to_owned()
                } else if changed.error.is_empty() {
                    "it failed without saying why".to_owned()
                } else {
                    changed.error
                };
                self.fail_task(task, &error, now);
            }
            _ => {}
        }
    }

    fn on_task_running(&mut self, task: usize, restore: Option<hurtig_proto::v1::RestoreReport>, now: i64) {
        self.set_execution(task, ExecutionState::Running);
        self.executions[task].restore = restore;
        let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
        let attempt = self.executions[task].attempt;
        let wanted = self.coordinators.subtask_ready(vertex, subtask, attempt, now);
        self.carry_out_hosted(wanted, now);
    }

    fn on_task_finished(&mut self, task: usize, now: i64) {
        self.set_execution(task, ExecutionState::Finished);
        self.checkpoints.task_finished(task, now);
        self.update_sources_ended(now);
    }

    /// When all sources are at their end, the last checkpoint is due.
    pub(super) fn update_sources_ended(&mut self, now: i64) {
        let ended =
            |task: usize| self.sources_ended.contains(&task) || self.executions[task].state == ExecutionState::Finished;
        let mut sources = (0..self.executions.len()).filter(|&task| self.topology.is_source(task));
        let all = self.state == JobState::Running && sources.all(ended);
        if all {
            self.checkpoints.set_all_sources_ended(true, now);
        }
    }

    fn on_acknowledgement(&mut self, session: SessionId, ack: internal::CheckpointAck, now: i64) {
        let snapshot = ack.snapshot.unwrap_or_default();
        let mut task = self.current(session, ack.attempt.as_ref());
        if self.bug == Some(Bug::StaleAcknowledgement) && task.is_none() {
            task = ack.attempt.as_ref().and_then(|a| self.topology.find(&a.vertex_id, a.subtask));
        }
        let Some(task) = task else {
            self.checkpoints.discard(&snapshot);
            return;
        };
        if self.checkpoints.pending_id() == Some(ack.checkpoint_id) {
            let bytes = snapshot.keyed.as_ref().map_or(0, |keyed| keyed.total_bytes);
            self.pending_local_state.insert(task, (session, bytes));
            self.collect.covered(task, ack.checkpoint_id);
            self.executions[task].checkpoint = Some(AcknowledgedCheckpoint {
                id: ack.checkpoint_id,
                time_ms: now,
                bytes: sizes(&snapshot),
                sync_us: ack.sync_us,
                async_ms: ack.async_ms,
                alignment_us: ack.alignment_us,
            });
        }
        self.checkpoints.acknowledge(task, ack.checkpoint_id, snapshot, now);
    }

    fn on_collected(&mut self, session: SessionId, collected: internal::CollectedBatch, now: i64) {
        let Some(task) = self.current(session, collected.attempt.as_ref()) else { return };
        if self.executions[task].state == ExecutionState::Canceling {
            return;
        }
        match self.collect.receive(task, collected) {
            Ok(output) => self.carry_out_collect(output),
            Err(error) => {
                self.cancel_task(task);
                self.fail_task(task, &error, now);
            }
        }
    }

    fn on_reports(&mut self, session: SessionId, reports: internal::TaskReports, now: i64) {
        for report in reports.reports {
            let (Some(task), Some(metrics)) = (self.current(session, report.attempt.as_ref()), report.metrics) else {
                continue;
            };
            self.executions[task].metrics = metrics;
            self.executions[task].reported_ms = now;
        }
    }

    pub(super) fn carry_out_collect(&mut self, output: CollectOutput) {
        self.actions.extend(output.rows.into_iter().map(JobAction::Rows));
        for (task, sequence) in output.acks {
            let execution = &self.executions[task];
            if let Some(slot) = execution.slot.filter(|_| execution.state.is_live()) {
                let attempt = Some(self.attempt_id(task));
                self.send(slot.session, ToTask::CollectAck(internal::CollectAck { attempt, sequence }));
            }
        }
    }

    pub(super) fn carry_out_hosted(&mut self, wanted: Vec<HostedAction>, now: i64) {
        for action in wanted {
            match action {
                HostedAction::Send { operator_uid, vertex, subtask, payload } => {
                    if subtask >= self.topology.plan.vertices[vertex].parallelism {
                        continue;
                    }
                    let task = self.topology.task(vertex, subtask);
                    let execution = &self.executions[task];
                    // A message to a task that does not run is lost; the reset before its next
                    // attempt takes back what was in it.
                    let running = execution.state == ExecutionState::Running;
                    if let Some(slot) = execution.slot.filter(|_| running) {
                        let attempt = Some(self.attempt_id(task));
                        let message = internal::CoordinatorMessage { attempt, operator_uid, payload };
                        self.send(slot.session, ToTask::Coordinator(message));
                    }
                }
                HostedAction::Discover { operator_uid, incarnation, options } => {
                    self.actions.push(JobAction::Discover { operator_uid, incarnation, options });
                }
                HostedAction::Fail(message) => self.fail_globally(&message, now),
            }
        }
    }
}
