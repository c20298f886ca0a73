//! A job under several JobManagers: what a leader knows of it from the registry, and how it takes
//! over what an earlier leader has left running.
//!
//! TaskManagers keep their tasks for a while when they lose their JobManager, and tell the next one
//! what they run. Once the new leader has HEAD, it waits until every task is accounted for, at most
//! for a set time, and decides region by region. A region is taken over as it runs if
//!
//! - each of its tasks runs (or has finished), of the highest attempt that was reported, deployed
//!   from the same plan, at the same parallelism,
//! - the attempts at both ends of each channel are these,
//! - each attempt has taken part in the checkpoint that HEAD names last, or was restored from it: so
//!   its state goes on from the truth,
//! - its slots are free for the job, and
//! - the coordinators, restored from that checkpoint, can take up what their predecessors have given
//!   its subtasks since.
//!
//! Every other region restarts from that checkpoint with attempt numbers that no earlier leader can
//! have used. Tasks that are not taken over take part in nothing: TaskManagers pass messages of a
//! leader only to tasks that it has deployed or taken over.

use std::collections::{BTreeMap, BTreeSet};

use hurtig_graph::job::{JobPlan, PlanVertex};
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::savepoint::state_of;
use super::state::{ExecutionState, JobState};
use super::topology::{SlotKey, TaskRef, Topology};
use super::{Execution, JobAction, JobMaster};
use crate::ha::registry::ATTEMPT_BLOCK;
use crate::slots::{SessionId, SlotId, SlotPool};

/// Checkpoints under way at an earlier leader that are aborted by name.
const MOST_ABORTED: u64 = 128;

/// What the registry says about a job that it keeps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durable {
    /// Of the leader.
    pub leader_epoch: u64,
    /// The first attempt number that no earlier leader has used.
    pub first_attempt: u32,
    /// The first attempt number that is not reserved.
    pub attempts_below: u32,
    /// Set when an earlier leader has run the job.
    pub recovery: Option<Recovery>,
    /// More numbers are asked for.
    reserving: bool,
}

impl Durable {
    /// Of a job that is new.
    pub fn submitted(leader_epoch: u64) -> Self {
        Durable { leader_epoch, attempts_below: ATTEMPT_BLOCK, ..Durable::default() }
    }

    /// Of a job that an earlier leader has run, as the registry has it.
    pub fn recovered(leader_epoch: u64, job: &internal::RegisteredJob, reconcile_ms: u64) -> Self {
        Durable {
            leader_epoch,
            first_attempt: job.attempts_below.saturating_sub(ATTEMPT_BLOCK),
            attempts_below: job.attempts_below,
            recovery: Some(Recovery {
                reconcile_ms,
                result: job.result.clone(),
                cancel_requested: job.cancel_requested,
                submitted_ms: job.submitted_ms,
                requirements: job.requirements.clone(),
            }),
            reserving: false,
        }
    }
}

/// Of a job that an earlier leader has run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovery {
    /// How long to wait for TaskManagers to say what runs.
    pub reconcile_ms: u64,
    /// It has ended, only its end is left to be done.
    pub result: Option<v1::JobStatus>,
    /// The user has cancelled it.
    pub cancel_requested: bool,
    /// When it was submitted first.
    pub submitted_ms: i64,
    /// Bounds of the parallelism that the user has set since.
    pub requirements: Option<v1::RescaleJobRequest>,
}

/// What TaskManagers have said so far.
#[derive(Debug, Default)]
pub struct Reconciliation {
    /// Until then more is waited for.
    pub(super) until_ms: Option<i64>,
    /// What came before HEAD was read.
    early: Vec<(SessionId, Vec<internal::RunningAttempt>)>,
    reported: BTreeMap<usize, Vec<Reported>>,
    held: BTreeSet<SlotId>,
}

#[derive(Debug, Clone)]
struct Reported {
    session: SessionId,
    state: ExecutionState,
    report: internal::RunningAttempt,
}

impl Reported {
    fn attempt(&self) -> u32 {
        self.report.attempt.as_ref().map_or(0, |id| id.attempt)
    }

    fn slot(&self) -> SlotId {
        SlotId { session: self.session, index: self.report.slot }
    }
}

impl Reconciliation {
    /// What was said on this connection holds no more.
    pub(super) fn lost(&mut self, session: SessionId) {
        for reports in self.reported.values_mut() {
            reports.retain(|reported| reported.session != session);
        }
        self.reported.retain(|_, reports| !reports.is_empty());
        self.held.retain(|slot| slot.session != session);
        self.early.retain(|(on, _)| *on != session);
    }
}

/// Of a plan without its parallelism: two plans with the same one deploy the same tasks.
pub fn fingerprint(plan: &JobPlan) -> u64 {
    let mut bytes = Vec::new();
    for vertex in &plan.vertices {
        bytes.extend_from_slice(vertex.id.as_bytes());
        bytes.extend_from_slice(&vertex.max_parallelism.to_le_bytes());
        bytes.extend_from_slice(vertex.slot_sharing_group.as_bytes());
        for operator in &vertex.operators {
            bytes.extend(operator.encode_length_delimited_to_vec());
        }
    }
    for edge in &plan.edges {
        bytes.extend_from_slice(edge.id.as_bytes());
        bytes.extend([edge.from as u64, edge.to as u64, u64::from(edge.to_port)].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(edge.partitioner.encode_length_delimited_to_vec());
    }
    xxh3_64(&bytes)
}

impl JobMaster {
    /// The registry keeps the job. To be called before it starts.
    pub fn make_durable(&mut self, durable: Durable) {
        if let Some(requirements) = durable.recovery.as_ref().and_then(|recovery| recovery.requirements.as_ref()) {
            self.resume_requirements(requirements);
        }
        let recovery = durable.recovery.as_ref();
        self.checkpoints.lead(durable.leader_epoch, recovery.is_some_and(|r| r.result.is_some()));
        if let Some(recovery) = recovery {
            self.start_time_ms = recovery.submitted_ms;
            if let Some(result) = &recovery.result {
                self.end_time_ms = result.end_time_ms;
                self.root_cause.clone_from(&result.root_cause);
                self.restarts = result.restarts;
            }
        }
        self.durable = Some(durable);
        self.executions = vec![self.not_executed(); self.topology.tasks.len()];
    }

    /// Of a subtask that this leader has not deployed yet: the next attempt is the first that no earlier
    /// leader can have used.
    pub(super) fn not_executed(&self) -> Execution {
        let first = self.durable.as_ref().map_or(0, |durable| durable.first_attempt);
        Execution { attempt: first.saturating_sub(1), deployed: first > 0, ..Execution::new() }
    }

    fn resume_requirements(&mut self, requirements: &v1::RescaleJobRequest) {
        match self.requirements.changed(requirements) {
            Ok(requirements) if !self.settings.reactive => {
                self.topology = Topology::new(requirements.plan.clone());
                self.requirements = requirements;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(job = %self.id, error, "bounds of the parallelism do not fit the job"),
        }
    }

    fn recovery(&self) -> Option<&Recovery> {
        self.durable.as_ref()?.recovery.as_ref()
    }

    /// HEAD is this JobManager's and the checkpoint to restore is known.
    pub(super) fn opened(&mut self, pool: &mut SlotPool, now: i64) {
        if self.state != JobState::Created {
            return;
        }
        let recovery = self.recovery().cloned();
        if let Some(recovery) = &recovery
            && self.ended_before(recovery, pool, now)
        {
            return;
        }
        if let Err(error) = self.adopt_restored() {
            return self.fail_before_deployment(error, pool, now);
        }
        if let Some(path) = self.checkpoints.stopped_with().map(str::to_owned) {
            self.resume_stop(path);
        }
        let Some(recovery) = recovery else {
            if self.is_stopped() {
                return self.fail_before_deployment(self.stopped_before(), pool, now);
            }
            return self.transition(JobState::WaitingForResources, now);
        };
        self.resume_parallelism(pool);
        self.reconciliation.until_ms = Some(now.saturating_add(recovery.reconcile_ms as i64));
        self.transition(JobState::Reconciling, now);
        for (session, attempts) in std::mem::take(&mut self.reconciliation.early) {
            self.on_attempts(session, attempts, pool);
        }
    }

    /// Whether the job does not run any more, although an earlier leader did not come to end it.
    fn ended_before(&mut self, recovery: &Recovery, pool: &mut SlotPool, now: i64) -> bool {
        if let Some(ended) = recovery.result.as_ref().and_then(|result| JobState::ended(&result.state)) {
            self.transition(ended, now);
            for (session, _) in std::mem::take(&mut self.reconciliation.early) {
                let job_id = self.id.as_str().to_owned();
                self.send(session, ToTask::JobEnded(internal::JobEnded { job_id, drop_local_state: true }));
            }
            self.close();
            return true;
        }
        if recovery.cancel_requested {
            self.cancel(pool, now);
            return true;
        }
        if super::topology::plan_collects(&self.topology.plan) {
            let message = "the JobManager that held the result rows of this query is lost: run the query again";
            self.fail_before_deployment(message.to_owned(), pool, now);
            return true;
        }
        false
    }

    /// A job that ran with other parallelism than wanted goes on with that: its tasks may be taken over,
    /// and what has finished in part cannot change. From there it rescales as ever.
    fn resume_parallelism(&mut self, pool: &mut SlotPool) {
        let Some(latest) = self.checkpoints.latest_own() else { return };
        let resumed = |v: &PlanVertex| {
            let old = latest.metadata.vertices.iter().find(|old| old.vertex_id == v.id);
            let parallelism = old.map_or(v.parallelism, |old| old.parallelism.min(v.max_parallelism));
            PlanVertex { parallelism, ..v.clone() }
        };
        let vertices: Vec<PlanVertex> = self.topology.plan.vertices.iter().map(resumed).collect();
        if vertices.iter().zip(&self.topology.plan.vertices).any(|(new, old)| new.parallelism != old.parallelism) {
            let plan = JobPlan { vertices, ..self.topology.plan.clone() };
            self.change_plan(plan, pool);
        }
    }

    /// A TaskManager has registered with tasks of the job.
    pub(super) fn on_attempts(
        &mut self,
        session: SessionId,
        attempts: Vec<internal::RunningAttempt>,
        pool: &mut SlotPool,
    ) {
        if self.state == JobState::Created && self.recovery().is_some() {
            return self.reconciliation.early.push((session, attempts));
        }
        let open = self.state == JobState::Reconciling;
        for report in attempts {
            let Some(id) = report.attempt.clone() else { continue };
            let Some(state) = ExecutionState::parse(&report.state) else { continue };
            let task = self.topology.find(&id.vertex_id, id.subtask).filter(|&task| open && self.fits(task, &report));
            match task {
                Some(task) => {
                    let reported = Reported { session, state, report };
                    if state.is_live() && pool.claim(&self.id, reported.slot()) {
                        self.reconciliation.held.insert(reported.slot());
                    }
                    self.reconciliation.reported.entry(task).or_default().push(reported);
                }
                None if state.is_live() => {
                    tracing::info!(job = %self.id, attempt = ?id, "a task of an earlier leader is cancelled");
                    self.send(session, ToTask::Cancel(internal::CancelTask { attempt: Some(id) }));
                }
                None => {}
            }
        }
    }

    /// The report is of a task of this plan.
    fn fits(&self, task: usize, report: &internal::RunningAttempt) -> bool {
        let vertex = &self.topology.plan.vertices[self.topology.tasks[task].vertex];
        report.plan == self.fingerprint && report.parallelism == vertex.parallelism
    }

    /// Takes over what runs, once everything is accounted for or time is up.
    pub(super) fn reconcile(&mut self, pool: &mut SlotPool, now: i64) {
        let tasks = 0..self.topology.tasks.len();
        let accounted = tasks.clone().all(|t| self.finished_before(t) || self.reconciliation.reported.contains_key(&t));
        if !accounted && self.reconciliation.until_ms.is_some_and(|until| now < until) {
            return;
        }
        self.reconciliation.until_ms = None;
        let best: Vec<Option<Reported>> = tasks.map(|task| self.best(task)).collect();
        if self.is_stopped() {
            return self.finish_stop(&best, pool, now);
        }
        // Tasks that a savepoint was to stop may have ended their data with it.
        let stopping = best.iter().flatten().any(|reported| reported.report.stopping);
        let mut slots = BTreeMap::new();
        let all = 0..self.topology.regions.len();
        let mut regions: BTreeSet<usize> =
            all.filter(|&region| !stopping && self.can_be_taken_over(region, &best, &mut slots)).collect();
        if !regions.is_empty() {
            if let Err(error) = self.start_coordinators(now) {
                tracing::warn!(job = %self.id, error, "the coordinators cannot be restored");
                self.refuse_reported(&BTreeSet::new(), pool);
                return self.transition(JobState::WaitingForResources, now);
            }
            regions.retain(|&region| self.adopt_in_coordinators(region, &best, now));
        }
        self.take_over(&regions, &best, now);
        self.refuse_reported(&regions, pool);
        tracing::info!(
            job = %self.id,
            taken_over = regions.len(),
            of = self.topology.regions.len(),
            "regions run on under this leader"
        );
        if regions.is_empty() && !self.coordinators_started {
            return self.transition(JobState::WaitingForResources, now);
        }
        let rest = (0..self.topology.regions.len()).filter(|region| !regions.contains(region));
        self.restarting = rest.map(|region| (region, i64::MIN)).collect();
        if self.restarting.is_empty() {
            self.counters.adopted += 1;
            self.transition(JobState::Deploying, now);
        } else {
            self.counters.adopted_in_part += u64::from(!regions.is_empty());
            self.transition(JobState::Restarting, now);
        }
    }

    /// An earlier leader has stopped the job: its tasks are told so if all have finished or wait for that.
    fn finish_stop(&mut self, best: &[Option<Reported>], pool: &mut SlotPool, now: i64) {
        // Sources are told by the JobManager that a savepoint stops them, the others by its barrier.
        let triggered = |r: &Reported| r.report.stopping.then_some(r.report.last_trigger);
        let savepoint = best.iter().flatten().filter_map(triggered).max().unwrap_or(0);
        let all = best.iter().enumerate().all(|(task, reported)| match reported {
            Some(r) if r.state == ExecutionState::Finished => true,
            Some(r) => {
                let held = self.reconciliation.held.contains(&r.slot());
                r.state == ExecutionState::Running && r.report.acknowledged.contains(&savepoint) && held
            }
            None => self.finished_before(task),
        });
        if !all {
            self.transition(JobState::WaitingForResources, now);
            return self.fail_before_deployment(self.stopped_before(), pool, now);
        }
        tracing::info!(job = %self.id, savepoint, "the job was stopped under an earlier leader: its tasks end");
        let regions: BTreeSet<usize> = (0..self.topology.regions.len()).collect();
        let complete = internal::CheckpointComplete { job_id: self.id.as_str().to_owned(), checkpoint_id: savepoint };
        for session in self.adopt_tasks(&regions, best) {
            self.send(session, ToTask::CheckpointComplete(complete.clone()));
        }
        self.refuse_reported(&regions, pool);
        self.counters.stops_finished += 1;
        self.transition(JobState::Deploying, now);
    }

    /// The last checkpoint says that the task has nothing left to do.
    fn finished_before(&self, task: usize) -> bool {
        let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
        let v = &self.topology.plan.vertices[vertex];
        self.checkpoints.latest().is_some_and(|latest| {
            let restore = state_of(&latest.metadata, v, subtask);
            restore.parallelism == v.parallelism && restore.snapshots.iter().any(|s| s.finished)
        })
    }

    /// The highest attempt that runs or has finished.
    fn best(&self, task: usize) -> Option<Reported> {
        let reports = self.reconciliation.reported.get(&task)?;
        reports.iter().max_by_key(|reported| reported.attempt()).cloned()
    }

    /// `slots`: those of the regions that are taken over already.
    fn can_be_taken_over(
        &self,
        region: usize,
        best: &[Option<Reported>],
        slots: &mut BTreeMap<SlotKey, SlotId>,
    ) -> bool {
        let latest = self.checkpoints.latest().map_or(0, |latest| latest.id);
        let mut with_own = slots.clone();
        let possible = self.topology.regions[region].iter().all(|&task| {
            if self.finished_before(task) {
                return true;
            }
            let Some(reported) = &best[task] else { return false };
            let report = &reported.report;
            let goes_on = matches!(
                reported.state,
                ExecutionState::Initializing | ExecutionState::Running | ExecutionState::Finished
            );
            let from_truth = report.restored_checkpoint == latest || report.acknowledged.contains(&latest);
            let held = reported.state == ExecutionState::Finished
                || (self.reconciliation.held.contains(&reported.slot())
                    && *with_own.entry(self.topology.slot_key(task)).or_insert(reported.slot()) == reported.slot());
            goes_on && from_truth && held && self.channels_fit(task, report, best)
        });
        if possible {
            *slots = with_own;
        }
        possible
    }

    /// The attempts at the other ends of a task's channels are those that would be taken over.
    fn channels_fit(&self, task: usize, report: &internal::RunningAttempt, best: &[Option<Reported>]) -> bool {
        let vertex = self.topology.tasks[task].vertex;
        report.channels.iter().all(|channel| {
            let Some(edge) = self.topology.plan.edges.iter().find(|edge| edge.id == channel.edge_id) else {
                return false;
            };
            let (other, subtask, attempt) = if edge.to == vertex {
                (edge.from, channel.producer_subtask, channel.producer_attempt)
            } else {
                (edge.to, channel.consumer_subtask, channel.consumer_attempt)
            };
            if subtask >= self.topology.plan.vertices[other].parallelism {
                return false;
            }
            let other = self.topology.task(other, subtask);
            match &best[other] {
                Some(reported) => reported.attempt() == attempt,
                None => self.finished_before(other),
            }
        })
    }

    /// The coordinators take up what the region's sources were given. If one cannot, all of it goes
    /// back.
    fn adopt_in_coordinators(&mut self, region: usize, best: &[Option<Reported>], now: i64) -> bool {
        let latest = self.checkpoints.latest().map_or(0, |latest| latest.id);
        let tasks = self.topology.regions[region].clone();
        let adopted = tasks.iter().all(|&task| {
            let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
            let received = best[task].as_ref().map_or(&[][..], |reported| &reported.report.received);
            self.coordinators.adopt(vertex, subtask, latest, received)
        });
        if !adopted {
            for task in tasks {
                let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
                let wanted = self.coordinators.reset_subtask(vertex, subtask, latest, now);
                self.carry_out_hosted(wanted, now);
            }
        }
        adopted
    }

    fn take_over(&mut self, regions: &BTreeSet<usize>, best: &[Option<Reported>], now: i64) {
        let sessions = self.adopt_tasks(regions, best);
        self.announce_checkpoints(&sessions, best);
        let tasks: Vec<usize> = regions.iter().flat_map(|&region| self.topology.regions[region].clone()).collect();
        for task in tasks {
            if self.executions[task].state == ExecutionState::Running {
                let TaskRef { vertex, subtask, .. } = self.topology.tasks[task];
                let attempt = self.executions[task].attempt;
                let wanted = self.coordinators.subtask_ready(vertex, subtask, attempt, now);
                self.carry_out_hosted(wanted, now);
            }
        }
    }

    /// The tasks of `regions` are this leader's. On these connections are those that live.
    fn adopt_tasks(&mut self, regions: &BTreeSet<usize>, best: &[Option<Reported>]) -> Vec<SessionId> {
        let tasks: Vec<usize> = regions.iter().flat_map(|&region| self.topology.regions[region].clone()).collect();
        let mut by_session: BTreeMap<SessionId, Vec<internal::AttemptId>> = BTreeMap::new();
        for &task in &tasks {
            let state = match &best[task] {
                Some(reported) if !self.finished_before(task) => reported.state,
                _ => ExecutionState::Finished,
            };
            let Some(reported) = &best[task] else {
                self.executions[task] = Execution { deployed: true, state, ..self.executions[task].clone() };
                continue;
            };
            let report = &reported.report;
            if state.is_live() {
                by_session.entry(reported.session).or_default().extend(report.attempt.clone());
                self.slots.insert(self.topology.slot_key(task), reported.slot());
            }
            self.executions[task] = Execution {
                attempt: reported.attempt(),
                deployed: true,
                state,
                slot: state.is_live().then_some(reported.slot()),
                restore: report.restore.clone(),
                ..Execution::new()
            };
            self.restored_checkpoint = self.restored_checkpoint.max(report.restored_checkpoint);
            if report.end_of_data && self.topology.is_source(task) {
                self.sources_ended.insert(task);
            }
        }
        let sessions: Vec<SessionId> = by_session.keys().copied().collect();
        for (session, attempts) in by_session {
            let adopt = internal::AdoptTasks { job_id: self.id.as_str().to_owned(), attempts };
            self.send(session, ToTask::Adopt(adopt));
        }
        sessions
    }

    /// What the earlier leader may not have come to say: the last checkpoint is complete, and what
    /// was under way will not be.
    fn announce_checkpoints(&mut self, sessions: &[SessionId], best: &[Option<Reported>]) {
        let latest = self.checkpoints.latest().map_or(0, |latest| latest.id);
        let triggered = best.iter().flatten().map(|reported| reported.report.last_trigger).max().unwrap_or(0);
        let job_id = self.id.as_str().to_owned();
        for &session in sessions {
            if latest > 0 {
                let complete = internal::CheckpointComplete { job_id: job_id.clone(), checkpoint_id: latest };
                self.send(session, ToTask::CheckpointComplete(complete));
            }
            for checkpoint_id in (latest + 1).max(triggered.saturating_sub(MOST_ABORTED))..=triggered {
                let aborted = internal::CheckpointAborted { job_id: job_id.clone(), checkpoint_id };
                self.send(session, ToTask::CheckpointAborted(aborted));
            }
        }
    }

    /// Cancels what was reported and is not taken over, and gives its slots back.
    pub(super) fn refuse_reported(&mut self, regions: &BTreeSet<usize>, pool: &mut SlotPool) {
        for execution in &mut self.executions {
            if let Some(slot) = execution.slot {
                execution.taskmanager = pool.get(slot.session).map_or(String::new(), |t| t.resource_id.clone());
            }
        }
        for (task, reports) in std::mem::take(&mut self.reconciliation.reported) {
            let taken = regions.contains(&self.topology.tasks[task].region).then(|| self.executions[task].attempt);
            for reported in reports.iter().filter(|r| r.state.is_live() && Some(r.attempt()) != taken) {
                let attempt = reported.report.attempt.clone();
                self.send(reported.session, ToTask::Cancel(internal::CancelTask { attempt }));
            }
        }
        let used: BTreeSet<SlotId> = self.slots.values().copied().collect();
        for slot in std::mem::take(&mut self.reconciliation.held) {
            if !used.contains(&slot) {
                pool.free_slot(slot);
            }
        }
    }

    /// Another JobManager goes on with the job. Tasks are told nothing.
    pub(super) fn suspend(&mut self, now: i64) -> Vec<JobAction> {
        self.checkpoints.abandon();
        self.transition(JobState::Suspended, now);
        self.answer_stop_at_end();
        for action in self.checkpoints.take_actions() {
            if let crate::checkpoint::CheckpointAction::SavepointDone { request, result } = action {
                self.actions.push(JobAction::SavepointDone { request, result });
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// Whether the next attempts of a region have numbers; asks for more in good time.
    pub(super) fn attempts_left(&mut self, region: usize) -> bool {
        let next = self.topology.regions[region].iter().map(|&task| self.executions[task].attempt + 1).max();
        let next = next.unwrap_or(0);
        let Some(durable) = &mut self.durable else { return true };
        if next + ATTEMPT_BLOCK / 2 >= durable.attempts_below && !durable.reserving {
            durable.reserving = true;
            self.actions.push(JobAction::ReserveAttempts);
        }
        next < durable.attempts_below
    }

    pub(super) fn attempts_reserved(&mut self, below: u32) {
        if let Some(durable) = &mut self.durable {
            durable.attempts_below = durable.attempts_below.max(below);
            durable.reserving = false;
        }
    }
}
