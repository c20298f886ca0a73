//! Failures: which regions restart, when, or that the job fails; and cancelling.

use std::collections::BTreeSet;

use hurtig_graph::config::keys;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;

use super::JobMaster;
use super::state::{ExecutionState, JobState};
use crate::restart::RestartDecision;
use crate::slots::{SessionId, SlotPool};

/// What a failure touches.
enum Scope {
    /// The region of a task.
    Task(usize),
    /// The regions of the tasks on a lost TaskManager.
    TaskManager(Vec<usize>),
    /// The same of one that was to go, with a checkpoint to go on from.
    Decommissioned(Vec<usize>),
    /// Everything, coordinators too.
    Global,
}

impl JobMaster {
    /// `task` has failed by itself.
    pub(super) fn fail_task(&mut self, task: usize, error: &str, now: i64) {
        let name = self.topology.task_name(task);
        let record = v1::FailureRecord {
            time_ms: now,
            message: format!("{name} failed: {error}"),
            task: name,
            taskmanager: self.executions[task].taskmanager.clone(),
            concurrent: Vec::new(),
        };
        self.fail(Scope::Task(task), record, now);
    }

    /// `task` could not restore its state because objects of checkpoint `id` are missing or damaged.
    pub(super) fn on_damaged_checkpoint(&mut self, task: usize, id: u64, error: &str, now: i64) {
        let damage = format!("checkpoint {id} cannot be restored: {error}");
        if self.checkpoints.give_up(id) {
            let name = self.topology.task_name(task);
            return self.fail_globally(&format!("{name} failed: {damage}; the checkpoint before it is restored"), now);
        }
        let advice = match self.checkpoints.before_latest() {
            Some(earlier) => format!("; {} lets the job restore checkpoint {earlier} instead", keys::FALL_BACK.key),
            None => String::new(),
        };
        self.fail_task(task, &format!("{damage}{advice}"), now);
    }

    /// Something that concerns the whole job has failed: a coordinator, too many checkpoints.
    pub(super) fn fail_globally(&mut self, message: &str, now: i64) {
        let record = v1::FailureRecord { time_ms: now, message: message.to_owned(), ..Default::default() };
        self.fail(Scope::Global, record, now);
    }

    /// A connection has ended: its slots are gone and so are the tasks on it.
    pub(super) fn on_taskmanager_lost(
        &mut self,
        session: SessionId,
        resource_id: &str,
        reason: &str,
        announced: bool,
        now: i64,
    ) {
        self.slots.retain(|_, slot| slot.session != session);
        self.local_state.retain(|copy| copy.session != session);
        self.reconciliation.lost(session);
        let on_it = |task: &usize| {
            let execution = &self.executions[*task];
            execution.state.is_live() && execution.slot.is_some_and(|slot| slot.session == session)
        };
        let lost: Vec<usize> = (0..self.executions.len()).filter(on_it).collect();
        for &task in &lost {
            self.set_execution(task, ExecutionState::Failed);
        }
        if lost.is_empty() {
            return;
        }
        self.counters.died_before_drained += u64::from(announced);
        let planned = announced && self.checkpoints.latest().is_some();
        let message = match announced {
            true => {
                format!("TaskManager {resource_id} was decommissioned and is gone before the job had left it: {reason}")
            }
            false => format!("TaskManager {resource_id} is lost: {reason}"),
        };
        let record = v1::FailureRecord {
            time_ms: now,
            message,
            task: self.topology.task_name(lost[0]),
            taskmanager: resource_id.to_owned(),
            concurrent: Vec::new(),
        };
        // Its neighbours often notice first; what they report is a consequence.
        self.root_cause.clone_from(&record.message);
        let scope = if planned { Scope::Decommissioned(lost) } else { Scope::TaskManager(lost) };
        self.fail(scope, record, now);
        if planned && self.state == JobState::Restarting {
            let taskmanagers = vec![resource_id.to_owned()];
            self.history.decommission(v1::Decommission { taskmanagers, ..Default::default() });
        }
    }

    fn fail(&mut self, scope: Scope, record: v1::FailureRecord, now: i64) {
        tracing::warn!(job = %self.id, failure = record.message, "failure");
        let message = record.message.clone();
        if matches!(self.state, JobState::WaitingForResources | JobState::Reconciling) {
            self.history.root(record);
            self.failed_at_start = Some(message);
            return;
        }
        // A lost TaskManager explains what its neighbours have reported before.
        let explains = matches!(scope, Scope::TaskManager(_) | Scope::Decommissioned(_));
        // It was announced, and so is nothing that a restart strategy should count.
        let planned = matches!(scope, Scope::Decommissioned(_));
        if !self.may_restart() {
            self.history.concurrent(record, explains);
            return;
        }
        if self.is_stopped() {
            self.history.root(record);
            self.fail_stopped(&message, now);
            return;
        }
        // Those that have drained cannot go on.
        let scope = if self.stop.as_ref().is_some_and(|stop| stop.drain) { Scope::Global } else { scope };
        let global = matches!(scope, Scope::Global);
        let touched = self.touched_regions(scope);
        let new: Vec<usize> = touched.into_iter().filter(|region| !self.restarting.contains_key(region)).collect();
        self.global_restart |= global;
        if new.is_empty() {
            self.history.concurrent(record, explains);
            return;
        }
        self.root_cause.clone_from(&message);
        let decision = match planned {
            true => RestartDecision::At { not_before_ms: i64::MIN, merged: false },
            false => self.restart.on_failure(now, &mut self.rng),
        };
        match decision {
            RestartDecision::At { merged: true, .. } => self.history.concurrent(record, explains),
            _ => self.history.root(record),
        }
        match decision {
            RestartDecision::At { .. } if self.has_given_out_results(&new) => {
                let why = "results cannot be taken back without checkpoints: set execution.checkpointing.interval";
                self.fail_job(&format!("{message}; the job cannot restart: {why}"), now);
            }
            RestartDecision::At { not_before_ms, merged } => {
                self.restarts += u32::from(!merged);
                self.history.restart(&message, 0, false, now);
                self.restart_regions(&new, not_before_ms, now);
            }
            RestartDecision::Never => self.begin_failing(now),
        }
    }

    /// Whether a restart of `regions` would give rows to the client that it has already.
    fn has_given_out_results(&self, regions: &[usize]) -> bool {
        regions.iter().flat_map(|&region| &self.topology.regions[region]).any(|&task| self.collect.has_given_out(task))
    }

    fn touched_regions(&self, scope: Scope) -> BTreeSet<usize> {
        let tasks = match scope {
            Scope::Task(task) if !self.settings.full_failover => vec![task],
            Scope::TaskManager(tasks) | Scope::Decommissioned(tasks) if !self.settings.full_failover => tasks,
            _ => return (0..self.topology.regions.len()).collect(),
        };
        tasks.into_iter().map(|task| self.topology.tasks[task].region).collect()
    }

    pub(super) fn restart_regions(&mut self, regions: &[usize], not_before_ms: i64, now: i64) {
        self.checkpoints.suspend("a task has failed");
        (self.restart_ended, self.restart_waited) = (false, false);
        self.history.restart("", regions.len(), false, now);
        for &region in regions {
            self.restarting.insert(region, not_before_ms);
            for task in self.topology.regions[region].clone() {
                self.sources_ended.remove(&task);
                self.cancel_task(task);
            }
        }
        if self.state != JobState::Restarting {
            self.transition(JobState::Restarting, now);
        }
    }

    /// The job fails, whatever its restart strategy says.
    pub(super) fn fail_job(&mut self, message: &str, now: i64) {
        let record = v1::FailureRecord { time_ms: now, message: message.to_owned(), ..Default::default() };
        self.history.root(record);
        self.root_cause = message.to_owned();
        if self.may_restart() {
            self.begin_failing(now);
        }
    }

    /// The job is in a state in which tasks run or will.
    fn may_restart(&self) -> bool {
        use JobState::*;
        matches!(self.state, Deploying | Running | StoppingWithSavepoint | Restarting)
    }

    fn begin_failing(&mut self, now: i64) {
        tracing::warn!(job = %self.id, strategy = self.restart.name(), "the job fails: no restart");
        self.stop_all();
        self.transition(JobState::Failing, now);
    }

    /// The job fails before any task was deployed.
    pub(super) fn fail_before_deployment(&mut self, message: String, pool: &mut SlotPool, now: i64) {
        let record = v1::FailureRecord { time_ms: now, message: message.clone(), ..Default::default() };
        self.history.root(record);
        self.root_cause = message;
        if matches!(self.state, JobState::Created | JobState::Reconciling | JobState::WaitingForResources) {
            self.end(JobState::Failed, pool, now);
        }
    }

    /// The user wants the job to stop.
    pub(super) fn cancel(&mut self, pool: &mut SlotPool, now: i64) {
        match self.state {
            JobState::Created | JobState::Reconciling | JobState::WaitingForResources => {
                self.end(JobState::Canceled, pool, now);
            }
            _ if self.may_restart() => {
                self.stop_all();
                self.transition(JobState::Canceling, now);
            }
            _ => {}
        }
    }

    /// Nobody has read the job's rows for too long: whoever wanted them has gone.
    pub(super) fn cancel_for_want_of_a_reader(&mut self, pool: &mut SlotPool, now: i64) {
        if matches!(self.state, JobState::Canceling | JobState::Failing) {
            return;
        }
        let limit = self.settings.reader_timeout_ms.unwrap_or(0);
        let message = format!(
            "cancelled because its client has gone: nobody was attached to its rows for {limit} ms \
             (client.heartbeat.timeout)"
        );
        tracing::warn!(job = %self.id, "{message}");
        self.history.root(v1::FailureRecord { time_ms: now, message: message.clone(), ..Default::default() });
        self.root_cause.clone_from(&message);
        self.cancel_reason = message;
        self.cancel(pool, now);
    }

    fn stop_all(&mut self) {
        self.checkpoints.suspend("the job is being stopped");
        self.restarting.clear();
        self.global_restart = false;
        self.rescaling = None;
        self.slots_missing_since_ms = None;
        for task in 0..self.executions.len() {
            self.cancel_task(task);
        }
    }

    /// Tells a live task to stop, once.
    pub(super) fn cancel_task(&mut self, task: usize) {
        let execution = &self.executions[task];
        if !execution.state.is_live() || execution.state == ExecutionState::Canceling {
            return;
        }
        let slot = execution.slot;
        self.set_execution(task, ExecutionState::Canceling);
        if let Some(slot) = slot {
            let attempt = Some(self.attempt_id(task));
            self.send(slot.session, ToTask::Cancel(internal::CancelTask { attempt }));
        }
    }
}
