//! Running with other parallelism than now, as slots and requirements allow.
//!
//! With `jobmanager.scheduler: Adaptive` a job takes what there is between the bounds of its
//! vertices. Down: when slots have been missing for the stabilisation timeout and fewer suffice, the
//! whole job starts, or restarts from the last completed checkpoint, with less parallelism. Up, or to
//! changed requirements: as [`super::adaptive`] says. Otherwise a job runs as its requirements say or
//! not at all, and rescales when these change. None of it counts for the restart strategy.

use hurtig_graph::job::JobPlan;
use hurtig_proto::v1;

use super::adaptive::{Possible, Scaling};
use super::requirements::widths;
use super::state::JobState;
use super::topology::{TaskRef, Topology};
use super::{Execution, JobMaster};
use crate::error::{Result, SchedulerError};
use crate::slots::SlotPool;

impl JobMaster {
    /// The plan that the slots of now allow, if it is another one than runs.
    pub(super) fn better_plan(&self, pool: &SlotPool) -> Option<JobPlan> {
        let partly_finished = self.checkpoints.latest().is_some_and(|latest| {
            latest.metadata.vertices.iter().flat_map(|v| &v.subtasks).any(|subtask| subtask.finished)
        });
        // Results that went to the client without checkpoints would come again.
        let given_out = (0..self.executions.len()).any(|task| self.collect.has_given_out(task));
        if partly_finished || given_out {
            return None;
        }
        let available = self.slots_available(pool);
        let shares = self.requirements.share_slots(available as u32)?;
        let plan = self.requirements.limited(&shares);
        if !self.settings.adaptive && widths(&plan) != widths(&self.requirements.plan) {
            return None;
        }
        (widths(&plan) != widths(&self.topology.plan)).then_some(plan)
    }

    /// What a running job could change to now.
    fn possible(&self, pool: &SlotPool) -> Possible {
        // Of a job that is to leave TaskManagers, the rescale goes with that.
        let stays = self.is_stopped() || self.has_to_leave(pool);
        if self.state != JobState::Running || self.checkpoints.in_doubt() || stays {
            return Possible::default();
        }
        match self.better_plan(pool) {
            Some(plan) => Possible { sufficient: true, desired: widths(&plan) == widths(&self.requirements.plan) },
            None => Possible::default(),
        }
    }

    /// Slots have been missing since `since`. True: the job takes fewer. Notes when to look again.
    pub(super) fn rescale_down(&mut self, since: i64, pool: &mut SlotPool, now: i64) -> bool {
        if self.rescaling.is_some() {
            return false;
        }
        let Some(plan) = self.better_plan(pool) else {
            self.sufficient_since_ms = None;
            return false;
        };
        // Everything wanted is not waited for, and cannot be there if slots are missing.
        let desired = widths(&plan) == widths(&self.requirements.plan);
        let sufficient_since = *self.sufficient_since_ms.get_or_insert(now);
        let due = sufficient_since.saturating_add(self.settings.stabilization_ms as i64);
        if now < due && !desired {
            self.next_slot_deadline_ms = self.next_slot_deadline_ms.min(due.saturating_sub(since).max(0) as u64);
            return false;
        }
        tracing::info!(job = %self.id, "the job goes on with the slots that there are");
        self.slots_missing_since_ms = None;
        self.sufficient_since_ms = None;
        match self.state {
            JobState::WaitingForResources => {
                self.change_plan(plan, pool);
                self.advance_again = true;
            }
            _ => self.begin_rescaling("slots are missing for longer than the stabilisation timeout", plan, now),
        }
        true
    }

    /// All tasks run. After a start of all of them the phases begin anew.
    pub(super) fn begin_scaling(&mut self, now: i64) {
        if self.scaling.is_none() {
            self.scaling = Some(Scaling::new(self.settings.scaling.clone(), now));
        }
        // What has come meanwhile.
        self.look_for_scaling = true;
    }

    /// There are other slots or requirements than before.
    pub(super) fn scaling_changed(&mut self, pool: &SlotPool, now: i64) {
        self.scale_if(pool, now, Scaling::changed);
    }

    /// A checkpoint is complete.
    pub(super) fn scaling_triggered(&mut self, pool: &SlotPool, now: i64) {
        self.scale_if(pool, now, Scaling::triggered);
    }

    /// A checkpoint has failed.
    pub(super) fn scaling_checkpoint_failed(&mut self, pool: &SlotPool, now: i64) {
        self.scale_if(pool, now, Scaling::checkpoint_failed);
    }

    /// Time has passed.
    pub(super) fn scaling_tick(&mut self, pool: &SlotPool, now: i64) {
        if self.scaling.as_ref().and_then(Scaling::deadline).is_some_and(|due| due <= now) {
            self.scale_if(pool, now, Scaling::tick);
        }
    }

    fn scale_if(&mut self, pool: &SlotPool, now: i64, decide: impl FnOnce(&mut Scaling, Possible, i64) -> bool) {
        let possible = self.possible(pool);
        let Some(scaling) = self.scaling.as_mut().filter(|_| self.state == JobState::Running) else { return };
        if !decide(scaling, possible, now) {
            return;
        }
        if let Some(plan) = self.better_plan(pool) {
            tracing::info!(job = %self.id, from = ?widths(&self.topology.plan), to = ?widths(&plan), "the job rescales");
            self.counters.rescales_while_running += 1;
            self.begin_rescaling("the parallelism changes", plan, now);
        }
    }

    /// Changes the bounds of the parallelism, and returns those of all vertices.
    ///
    /// # Errors
    /// Bounds that cannot be, all of them named; or the job takes no such changes.
    pub fn require(&mut self, request: &v1::RescaleJobRequest) -> Result<v1::RescaleJobRequest> {
        let refuse = |reason: &str| Err(SchedulerError::Precondition(format!("job {}: {reason}", request.job_id)));
        if self.settings.reactive {
            return refuse("in reactive mode (scheduler-mode) the slots alone say how wide jobs are");
        }
        if self.state.is_terminal() || matches!(self.state, JobState::Failing | JobState::Canceling) {
            return refuse("it ends, or has ended");
        }
        let changed = self
            .requirements
            .changed(request)
            .map_err(|reason| SchedulerError::Other { kind: hurtig_graph::ErrorKind::Validation, message: reason })?;
        tracing::info!(job = %self.id, upper = ?widths(&changed.plan), lower = ?changed.lower, "new requirements");
        self.requirements = changed;
        Ok(self.requirements.to_request(&request.job_id))
    }

    pub(super) fn begin_rescaling(&mut self, cause: &str, plan: JobPlan, now: i64) {
        self.rescaling = Some(plan);
        self.global_restart = true;
        self.restarts += 1;
        self.history.restart(cause, 0, true, now);
        let all: Vec<usize> = (0..self.topology.regions.len()).collect();
        self.restart_regions(&all, i64::MIN, now);
        self.advance_again = true;
    }

    /// All tasks have ended: puts the new plan in the place of the old.
    pub(super) fn finish_rescaling(&mut self, pool: &mut SlotPool) {
        if self.rescaling.take().is_none() {
            return;
        }
        // Slots and requirements may be others by now, so that the job stays as it is.
        let Some(plan) = self.better_plan(pool) else { return };
        self.change_plan(plan, pool);
        self.restarting = (0..self.topology.regions.len()).map(|region| (region, i64::MIN)).collect();
    }

    pub(super) fn change_plan(&mut self, plan: JobPlan, pool: &mut SlotPool) {
        self.counters.rescales += 1;
        for task in 0..self.executions.len() {
            self.collect.reset(task);
        }
        for slot in std::mem::take(&mut self.slots).into_values() {
            pool.free_slot(slot);
        }
        for (task, execution) in self.executions.iter().enumerate().filter(|(_, e)| e.deployed) {
            let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
            self.attempts.insert((vertex, subtask), execution.attempt);
        }
        self.topology = Topology::new(plan);
        let execution = |task: &TaskRef| match self.attempts.get(&(task.vertex, task.subtask)) {
            Some(attempt) => Execution { attempt: *attempt, deployed: true, ..Execution::new() },
            None => self.not_executed(),
        };
        self.executions = self.topology.tasks.iter().map(execution).collect();
        self.sources_ended.clear();
        self.scaling = None;
        // Where the state is stays known: copies are found by key groups.
        self.pending_local_state.clear();
    }
}
