//! The job master: one job from submission to its end.
//!
//! [`JobMaster::handle`] takes one event and returns what is to be done; between events it holds
//! the invariant that everything that can be done has been done ([`JobMaster::advance`]). States
//! and transitions are tables in [`state`].
//!
//! | module | what |
//! | --- | --- |
//! | [`state`] | states of the job and of executions |
//! | [`event`] | what happens to a job, and what it wants done |
//! | [`execution`] | the current attempt of each task |
//! | [`topology`] | tasks, wiring, regions |
//! | `deploy` | slots, and what each task is told |
//! | `tasks` | messages of TaskManagers, fencing |
//! | [`adoption`] | a job that an earlier leader ran: what runs is taken over, the rest restarts |
//! | `failover` | failures, restarts, cancelling |
//! | `history` | what went wrong and how long restarts took, for people |
//! | `rescale` | other parallelism than now |
//! | `requirements` | bounds of the parallelism, and the share of slots |
//! | [`adaptive`] | when a running job changes its parallelism |
//! | `leaving` | when a running job leaves TaskManagers that are to go |
//! | `decommission` | how it does |
//! | `checkpoints` | carrying out what the checkpoint coordinator wants |
//! | [`savepoint`] | whose state is whose |
//! | `stop` | stop-with-savepoint |
//! | [`hosted`] | operator coordinators |
//! | [`collect`] | result rows |
//! | [`reader`] | whether someone reads them |
//! | `status` | what users see |

pub mod adaptive;
pub mod adoption;
mod checkpoints;
pub mod collect;
mod decommission;
mod deploy;
pub mod event;
pub mod execution;
mod failover;
mod history;
pub mod hosted;
mod leaving;
pub mod reader;
mod requirements;
mod rescale;
pub mod savepoint;
pub mod state;
mod status;
mod stop;
mod tasks;
pub mod topology;

use std::collections::{BTreeMap, BTreeSet};

use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_graph::ids::JobId;
use hurtig_graph::job::JobPlan;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1::operator::Kind;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::checkpoint::CheckpointCoordinator;
use crate::restart::RestartStrategy;
use crate::settings::JobSettings;
use crate::simulator::Bug;
use crate::slots::{SessionId, SlotId, SlotPool};
use adaptive::Scaling;
use collect::CollectBuffer;
pub use event::{JobAction, JobEvent, Submission};
pub use execution::{AcknowledgedCheckpoint, Counters, Execution};
use execution::{LocalCopy, SlotsSeen};
use history::{History, RestartPhase};
use hosted::HostedCoordinators;
use leaving::Leaving;
use reader::ReaderWatch;
use requirements::Requirements;
use state::{ExecutionState, JobState};
use stop::Stop;
use topology::{SlotKey, Topology};

/// One job. See the module documentation.
#[derive(Debug)]
pub struct JobMaster {
    id: JobId,
    /// The plan with the parallelism that is wanted, and least bounds; the topology may be narrower.
    requirements: Requirements,
    topology: Topology,
    /// The plan to change to once all tasks have ended.
    rescaling: Option<JobPlan>,
    /// Something has become possible in the state that the job is in already.
    advance_again: bool,
    /// Last attempt numbers by vertex and subtask, over changes of parallelism.
    attempts: BTreeMap<(usize, u32), u32>,
    running_since_ms: i64,
    /// `None` until all tasks run after a start of all of them.
    scaling: Option<Scaling>,
    /// All tasks run again: perhaps the parallelism can change.
    look_for_scaling: bool,
    leaving: Leaving,
    /// The restart under way leaves TaskManagers that are to go.
    leaves: bool,
    settings: JobSettings,
    state: JobState,
    executions: Vec<Execution>,
    slots: BTreeMap<SlotKey, SlotId>,
    /// Since when the job waits for slots.
    slots_missing_since_ms: Option<i64>,
    /// Since when fewer would do.
    sufficient_since_ms: Option<i64>,
    /// The cluster's slots when they were missed last.
    slots_seen: SlotsSeen,
    /// When to look again, from then on.
    next_slot_deadline_ms: u64,
    /// Regions to be deployed again, each not before a time.
    restarting: BTreeMap<usize, i64>,
    /// All regions restart and the coordinators with them.
    global_restart: bool,
    /// Of the restart under way, for its report: no task is left; no delay is left.
    restart_ended: bool,
    restart_waited: bool,
    restart: RestartStrategy,
    checkpoints: CheckpointCoordinator,
    checkpoint_directory: String,
    /// Where the state of the latest checkpoint is on local disk.
    local_state: Vec<LocalCopy>,
    /// The same for the checkpoint under way.
    pending_local_state: BTreeMap<usize, (SessionId, u64)>,
    coordinators: HostedCoordinators,
    coordinators_started: bool,
    stop: Option<Stop>,
    /// A coordinator failed while it was started.
    failed_at_start: Option<String>,
    sources_ended: BTreeSet<usize>,
    collect: CollectBuffer,
    reader: ReaderWatch,
    rng: ChaCha8Rng,
    start_time_ms: i64,
    end_time_ms: i64,
    restarts: u32,
    restored_checkpoint: u64,
    restored_time_ms: i64,
    root_cause: String,
    /// Why the job was cancelled, where no user asked for it.
    cancel_reason: String,
    history: History,
    counters: Counters,
    /// Of a job that the registry keeps.
    durable: Option<adoption::Durable>,
    reconciliation: adoption::Reconciliation,
    /// The registry does not have the result yet.
    result_pending: bool,
    /// Of the plan without its parallelism.
    fingerprint: u64,
    /// For a test of the simulator.
    bug: Option<Bug>,
    actions: Vec<JobAction>,
}

impl JobMaster {
    /// A job that has not started, of the JobManager `leader`.
    pub fn new(submission: Submission, leader: String, now: i64) -> Self {
        let Submission { job, plan, settings, coordinators, checkpoint_directory, seed } = submission;
        let fingerprint = adoption::fingerprint(&plan);
        let requirements = match settings.reactive {
            true => Requirements::reactive(plan),
            false => Requirements::of(plan),
        };
        let topology = Topology::new(requirements.plan.clone());
        let hold_rows = settings.checkpoints.interval_ms.is_some();
        let has_rows = topology::plan_collects(&topology.plan);
        JobMaster {
            executions: vec![Execution::new(); topology.tasks.len()],
            coordinators: host(&topology, coordinators),
            collect: CollectBuffer::new(hold_rows, settings.collect_buffer_bytes),
            reader: ReaderWatch::new(settings.reader_timeout_ms.filter(|_| has_rows), now),
            restart: RestartStrategy::new(settings.restart.clone()),
            checkpoints: CheckpointCoordinator::new(
                job.clone(),
                topology.plan.name.clone(),
                leader,
                settings.checkpoints.clone(),
                checkpoint_directory.clone(),
            ),
            id: job,
            requirements,
            topology,
            rescaling: None,
            advance_again: false,
            attempts: BTreeMap::new(),
            running_since_ms: 0,
            scaling: None,
            look_for_scaling: false,
            leaving: Leaving::new(settings.leaving_window_ms),
            leaves: false,
            history: History::new(settings.failure_history),
            settings,
            checkpoint_directory,
            state: JobState::Created,
            slots: BTreeMap::new(),
            slots_missing_since_ms: None,
            sufficient_since_ms: None,
            slots_seen: SlotsSeen::default(),
            next_slot_deadline_ms: 0,
            restarting: BTreeMap::new(),
            global_restart: false,
            restart_ended: false,
            restart_waited: false,
            local_state: Vec::new(),
            pending_local_state: BTreeMap::new(),
            coordinators_started: false,
            stop: None,
            failed_at_start: None,
            sources_ended: BTreeSet::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            start_time_ms: now,
            end_time_ms: 0,
            restarts: 0,
            restored_checkpoint: 0,
            restored_time_ms: 0,
            root_cause: String::new(),
            cancel_reason: String::new(),
            counters: Counters::default(),
            durable: None,
            reconciliation: adoption::Reconciliation::default(),
            result_pending: false,
            fingerprint,
            bug: None,
            actions: Vec::new(),
        }
    }

    /// Takes one event and returns what is to be done, in this order.
    pub fn handle(&mut self, event: JobEvent, now: i64, pool: &mut SlotPool) -> Vec<JobAction> {
        if self.state.is_terminal() {
            self.handle_after_end(event, now);
            return std::mem::take(&mut self.actions);
        }
        match event {
            JobEvent::Start => self.checkpoints.open(now),
            JobEvent::Tick => self.tick(pool, now),
            JobEvent::Cancel => self.cancel(pool, now),
            JobEvent::Savepoint(wish) if wish.stop == StopMode::None => self.checkpoints.savepoint(wish, now),
            JobEvent::Savepoint(wish) => self.stop(wish, now),
            JobEvent::Task { session, message } => self.on_task_message(session, message, now),
            JobEvent::TaskManagerLost { session, resource_id, reason, announced } => {
                self.on_taskmanager_lost(session, &resource_id, &reason, announced, now);
            }
            JobEvent::Attempts { session, attempts } => self.on_attempts(session, attempts, pool),
            JobEvent::Suspend => return self.suspend(now),
            JobEvent::ResultStored => {}
            JobEvent::AttemptsReserved { below } => self.attempts_reserved(below),
            JobEvent::SlotsChanged => self.scaling_changed(pool, now),
            JobEvent::Storage { ticket, reply } => self.checkpoints.on_reply(ticket, reply, now),
            JobEvent::Discovered { operator_uid, incarnation, splits } => {
                let wanted = self.coordinators.discovered(&operator_uid, incarnation, splits, now);
                self.carry_out_hosted(wanted, now);
            }
            JobEvent::RowsTaken { bytes } => {
                let output = self.collect.taken(bytes);
                self.carry_out_collect(output);
            }
            JobEvent::ReaderAttached { reader } => self.reader.attached(reader),
            JobEvent::ReaderDetached { reader } => self.reader.detached(reader, now),
        }
        self.advance(pool, now);
        std::mem::take(&mut self.actions)
    }

    /// Only the end of the checkpoints goes on after the end of the job.
    fn handle_after_end(&mut self, event: JobEvent, now: i64) {
        match event {
            JobEvent::Storage { ticket, reply } => self.checkpoints.on_reply(ticket, reply, now),
            JobEvent::Tick => self.checkpoints.tick(now),
            JobEvent::Savepoint(wish) => self.checkpoints.savepoint(wish, now),
            JobEvent::ResultStored => self.close(),
            JobEvent::Task { message, .. } => {
                self.counters.stale_messages += 1;
                if let FromTask::CheckpointAck(ack) = message {
                    self.checkpoints.discard(&ack.snapshot.unwrap_or_default());
                }
            }
            _ => {}
        }
        for action in self.checkpoints.take_actions() {
            self.carry_out_after_end(action);
        }
    }

    fn tick(&mut self, pool: &mut SlotPool, now: i64) {
        if self.reader.give_up(now) {
            self.cancel_for_want_of_a_reader(pool, now);
        }
        self.scaling_tick(pool, now);
        self.checkpoints.tick(now);
        let wanted = self.coordinators.tick(now);
        self.carry_out_hosted(wanted, now);
    }

    /// When [`JobEvent::Tick`] is due.
    pub fn deadline(&self) -> Option<i64> {
        let restart = self.restarting.values().copied().filter(|&time| time > i64::MIN).min();
        let slots = self.slots_missing_since_ms.map(|since| since.saturating_add(self.next_slot_deadline_ms as i64));
        if self.state.is_terminal() {
            return self.checkpoints.deadline();
        }
        let scaling = self.scaling.as_ref().filter(|_| self.state == JobState::Running).and_then(Scaling::deadline);
        let reconciled = self.reconciliation.until_ms.filter(|_| self.state == JobState::Reconciling);
        let others = [self.checkpoints.deadline(), self.coordinators.deadline(), self.reader.deadline()];
        let leaving = self.leaving.deadline().filter(|_| self.state == JobState::Running);
        [restart, slots, scaling, reconciled, leaving].into_iter().chain(others).flatten().min()
    }

    /// Does everything that has become possible.
    fn advance(&mut self, pool: &mut SlotPool, now: i64) {
        loop {
            self.carry_out_checkpoint_actions(pool, now);
            let before = self.state;
            match self.state {
                JobState::Reconciling => self.reconcile(pool, now),
                JobState::WaitingForResources => self.deploy_first(pool, now),
                JobState::Restarting => self.deploy_restarting(pool, now),
                JobState::Deploying => self.run_if_all_run(now),
                JobState::Running if self.all(|state| state == ExecutionState::Finished) => {
                    self.end(JobState::Finished, pool, now);
                }
                JobState::StoppingWithSavepoint
                    if self.is_stopped() && self.all(|state| state == ExecutionState::Finished) =>
                {
                    self.end(JobState::Finished, pool, now);
                }
                JobState::Running => {
                    if std::mem::take(&mut self.look_for_scaling) {
                        self.scaling_changed(pool, now);
                    }
                    if self.state == JobState::Running {
                        self.leave_if_due(pool, now);
                    }
                }
                JobState::Canceling if !self.any_live() => self.end(JobState::Canceled, pool, now),
                JobState::Failing if !self.any_live() => self.end(JobState::Failed, pool, now),
                _ => {}
            }
            let again = std::mem::take(&mut self.advance_again);
            if self.state.is_terminal() || (self.state == before && self.checkpoints_quiet() && !again) {
                break;
            }
        }
    }

    fn run_if_all_run(&mut self, now: i64) {
        if !self.all(|state| matches!(state, ExecutionState::Running | ExecutionState::Finished)) {
            return;
        }
        self.transition(JobState::Running, now);
        self.leaves = false;
        self.running_since_ms = now;
        self.history.reached(RestartPhase::Running, now);
        self.begin_scaling(now);
        let delay = self.initial_checkpoint_delay();
        self.checkpoints.start(now, delay);
        self.update_sources_ended(now);
    }

    /// The job has ended: slots go back, TaskManagers drop what they keep, checkpoints are closed.
    fn end(&mut self, state: JobState, pool: &mut SlotPool, now: i64) {
        if state == JobState::Finished {
            let output = self.collect.finished();
            self.carry_out_collect(output);
        }
        self.transition(state, now);
        self.end_time_ms = now;
        for slot in std::mem::take(&mut self.slots).into_values() {
            pool.free_slot(slot);
        }
        self.refuse_reported(&BTreeSet::new(), pool);
        let ended = hurtig_proto::internal::v1::JobEnded { job_id: self.id.as_str().into(), drop_local_state: true };
        let sessions: Vec<SessionId> = pool.iter().map(|(session, _)| session).collect();
        for session in sessions {
            self.send(session, ToTask::JobEnded(ended.clone()));
        }
        self.answer_stop_at_end();
        if self.durable.is_some() {
            self.checkpoints.suspend("the job has ended");
            // A crash before the result is kept must find the checkpoints.
            self.result_pending = true;
            self.actions.push(JobAction::Ended(Box::new(self.status())));
        } else {
            self.close();
        }
    }

    /// Nothing needs the checkpoints of the ended job any more.
    fn close(&mut self) {
        self.result_pending = false;
        self.checkpoints.end(self.state.status(true));
        for action in self.checkpoints.take_actions() {
            self.carry_out_after_end(action);
        }
    }

    fn transition(&mut self, to: JobState, _now: i64) {
        let step = (self.state, to);
        debug_assert!(JobState::TRANSITIONS.contains(&step), "a job moves along its table: {step:?}");
        *self.counters.job.entry(step).or_default() += 1;
        tracing::info!(job = %self.id, from = ?step.0, to = ?step.1, "job state");
        self.state = to;
        self.actions.push(JobAction::Changed);
    }

    fn set_execution(&mut self, task: usize, to: ExecutionState) {
        let step = (self.executions[task].state, to);
        debug_assert!(ExecutionState::TRANSITIONS.contains(&step), "an execution moves along its table: {step:?}");
        *self.counters.executions.entry(step).or_default() += 1;
        self.executions[task].state = to;
    }

    fn send(&mut self, session: SessionId, message: ToTask) {
        self.actions.push(JobAction::Send { session, message: Box::new(message) });
    }

    fn all(&self, holds: impl Fn(ExecutionState) -> bool) -> bool {
        self.executions.iter().all(|execution| holds(execution.state))
    }

    fn any_live(&self) -> bool {
        self.executions.iter().any(|execution| execution.state.is_live())
    }

    /// The sessions on which live tasks of the job are.
    fn live_sessions(&self) -> BTreeSet<SessionId> {
        let live = self.executions.iter().filter(|execution| execution.state.is_live());
        live.filter_map(|execution| execution.slot).map(|slot| slot.session).collect()
    }

    /// Its id.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Its state.
    pub fn state(&self) -> JobState {
        self.state
    }

    /// Its tasks.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The current attempt of each task.
    pub fn executions(&self) -> &[Execution] {
        &self.executions
    }

    /// Why it was cancelled where no user asked for that; empty otherwise.
    pub fn cancel_reason(&self) -> &str {
        &self.cancel_reason
    }

    /// Its checkpoints.
    pub fn checkpoints(&self) -> &CheckpointCoordinator {
        &self.checkpoints
    }

    /// See [`Counters`].
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Nothing is left to be done for it.
    pub fn closed(&self) -> bool {
        self.state.is_terminal() && !self.result_pending && self.checkpoints.closed()
    }

    /// Breaks the job master. Only for showing that the simulator notices.
    #[doc(hidden)]
    pub fn break_with(&mut self, bug: Bug) {
        self.checkpoints.break_with(bug);
        self.bug = Some(bug);
    }
}

fn host(topology: &Topology, mut coordinators: BTreeMap<String, Box<dyn OperatorCoordinator>>) -> HostedCoordinators {
    let mut hosted = HostedCoordinators::default();
    for (vertex, v) in topology.plan.vertices.iter().enumerate() {
        for operator in &v.operators {
            if let Some(Kind::Source(source)) = &operator.kind
                && let Some(coordinator) = coordinators.remove(&operator.uid)
            {
                hosted.add(operator.uid.clone(), vertex, source.options.clone(), coordinator);
            }
        }
    }
    hosted
}

#[cfg(test)]
mod tests;
