//! Virtual time and everything that happens in it.

mod faults;
mod network;
mod processes;
mod store;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::job::state::{ExecutionState, JobState};
use crate::job::{JobAction, JobEvent, JobMaster, Submission};
use crate::master::{Action, Event, Master};
use crate::settings::{JobSettings, MasterSettings};
use crate::simulator::coverage::Report;
use crate::simulator::enumerator::{self, Enumerator};
use crate::simulator::invariants::{self, Violation};
use crate::simulator::process::Process;
use crate::simulator::scenario::{Fault, Scenario};
use crate::simulator::store::{Ledger, Store};
use crate::simulator::task::{Channels, TaskId};
use crate::slots::SessionId;
use crate::storage::memory::MEMORY_DIRECTORY;
use crate::storage::{StorageReply, StorageRequest};

const HEARTBEAT_MS: u64 = 2_000;
const HEARTBEAT_TIMEOUT_MS: u64 = 8_000;
/// A world that has not come to rest by then never will.
const LONGEST_MS: i64 = 900_000;
/// Uploads and storage calls under way when a job ends are over by then.
const LATE_MS: i64 = 8_000;
const MOST_EVENTS: u64 = 200_000;

#[derive(Debug)]
enum Happening {
    Tick,
    /// A TaskManager's message reaches the JobManager.
    Arrive(SessionId, Box<internal::FromTaskManager>),
    /// A message of the JobManager reaches a TaskManager.
    Deliver(SessionId, Box<internal::ToTaskManager>),
    BrokenAtMaster(SessionId),
    BrokenAtProcess(SessionId),
    /// A process starts.
    Start(usize),
    /// A process (in this life) connects.
    Connect(usize, u64),
    Initialized(usize, u64, TaskId),
    Step(usize, u64, TaskId),
    Fail(usize, u64, TaskId),
    /// A background thread of a process sends something.
    Send(usize, u64, Box<FromTask>),
    StoreDoes(u64, StorageRequest, Option<i64>),
    StoreAnswers(u64, StorageReply),
    Discovered(String, u64),
    Fault(Fault),
    FaultsEnd,
}

struct Link {
    process: usize,
    /// Arrivals keep the order of sending.
    last_to_master: i64,
    last_to_process: i64,
    broken: bool,
    silent: bool,
}

/// A world with one job.
pub(super) struct World {
    seed: u64,
    broken: bool,
    rng: ChaCha8Rng,
    scenario: Scenario,
    now: i64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_happening: u64,
    next_tick: Option<i64>,
    next_session: u64,
    master: Master,
    job: JobId,
    processes: Vec<Process>,
    links: BTreeMap<SessionId, Link>,
    channels: Channels,
    store: Store,
    ledger: Ledger,
    events: u64,
    trace: u64,
    faults_over: bool,
    checked_end: bool,
    closed_at: Option<i64>,
    region_only: bool,
    stopped: bool,
}

type Outcome = Result<(), String>;

impl World {
    pub(super) fn new(seed: u64, broken: bool) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenario = Scenario::draw(&mut rng);
        let settings =
            MasterSettings { heartbeat_interval_ms: HEARTBEAT_MS, heartbeat_timeout_ms: HEARTBEAT_TIMEOUT_MS };
        let processes =
            scenario.taskmanagers.iter().enumerate().map(|(i, slots)| Process::new(format!("tm{i}"), *slots)).collect();
        World {
            seed,
            broken,
            rng,
            scenario,
            now: 1_000_000,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next_happening: 0,
            next_tick: None,
            next_session: 1,
            master: Master::new("jm".into(), 7, settings),
            job: JobId::from_u128(u128::from(seed)),
            processes,
            links: BTreeMap::new(),
            channels: Channels::new(),
            store: Store::default(),
            ledger: Ledger::default(),
            events: 0,
            trace: seed,
            faults_over: false,
            checked_end: false,
            closed_at: None,
            region_only: false,
            stopped: false,
        }
    }

    /// Plays to the end.
    pub(super) fn run(mut self) -> Result<Report, Violation> {
        let start = self.now;
        match self.play(start) {
            Ok(()) => Ok(self.report_end()),
            Err(message) => Err(Violation { seed: self.seed, time_ms: self.now - start, message }),
        }
    }

    fn play(&mut self, start: i64) -> Outcome {
        self.begin()?;
        while let Some(Reverse((time, number))) = self.queue.pop() {
            let Some(happening) = self.happenings.remove(&number) else { continue };
            self.now = time;
            self.events += 1;
            // A step of a task alone changes nothing that the JobManager knows.
            let at_jobmanager = !matches!(happening, Happening::Step(..));
            self.happen(happening)?;
            if !at_jobmanager {
                continue;
            }
            let Ok(job) = self.master.find(self.job.as_str()) else { return Err("the job is gone".into()) };
            invariants::after_step(job, self.master.pool(), &self.processes)?;
            self.region_only |= runs_in_part(job);
            let exactly_once = self.scenario.checkpointing && !self.store.usurped;
            if job.state().is_terminal() && !self.checked_end && exactly_once {
                self.checked_end = true;
                match self.store.stopped_with() {
                    Some(stopped) => invariants::at_stop(job, stopped, &self.ledger, &self.scenario)?,
                    None if job.state() == JobState::Finished => {
                        invariants::at_finish(job, &self.ledger, &self.scenario)?;
                    }
                    None => {}
                }
            }
            if self.faults_over && job.closed() {
                let closed = *self.closed_at.get_or_insert(self.now);
                if self.now > closed + LATE_MS {
                    return self.at_rest();
                }
            }
            if self.events > MOST_EVENTS || self.now - start > LONGEST_MS {
                return Err(self.stuck());
            }
        }
        match self.master.find(self.job.as_str()) {
            Ok(job) if job.closed() => self.at_rest(),
            _ => Err("nothing happens any more, but the job has not ended".into()),
        }
    }

    fn begin(&mut self) -> Outcome {
        let plan = self.scenario.plan.clone();
        let settings = JobSettings::read(&plan.configuration).map_err(|error| error.to_string())?;
        let coordinator = || Box::new(Enumerator::default()) as Box<dyn OperatorCoordinator>;
        let sources = plan.vertices.iter().filter(|v| v.is_source);
        let submission = Submission {
            job: self.job.clone(),
            settings,
            coordinators: sources.map(|v| (v.operators[0].uid.clone(), coordinator())).collect(),
            checkpoint_directory: MEMORY_DIRECTORY.into(),
            seed: self.seed,
            plan,
        };
        for process in 0..self.processes.len() {
            let after = self.rng.random_range(0..500);
            self.later(after, Happening::Start(process));
        }
        for (after, fault) in self.scenario.faults.clone() {
            self.later(after, Happening::Fault(fault));
        }
        self.later(self.scenario.faults_end_ms, Happening::FaultsEnd);
        let (_, actions) = self.master.submit(submission, self.now);
        if self.broken
            && let Some(job) = self.master.job_mut(&self.job)
        {
            job.break_fencing_of_acknowledgements();
        }
        self.carry_out(actions)
    }

    /// Says what a job that does not end is waiting for.
    fn stuck(&self) -> String {
        let Ok(job) = self.master.find(self.job.as_str()) else { return "the job is gone".into() };
        let tasks: Vec<String> =
            self.processes.iter().flat_map(|p| p.tasks.values()).map(|t| format!("{t:?}")).collect();
        format!(
            "faults are over but the job is {:?}, checkpoint under way {:?}, executions {:?}, tasks\n{}",
            job.state(),
            job.checkpoints().pending_id(),
            job.executions().iter().map(|e| (e.state, e.attempt)).collect::<Vec<_>>(),
            tasks.join("\n")
        )
    }

    fn at_rest(&self) -> Outcome {
        let quiet = self.scenario.faults_end_ms == 0 && self.scenario.faults.is_empty();
        if quiet && !self.store.files.is_empty() {
            return Err(format!("files are left behind: {:?}", self.store.files));
        }
        Ok(())
    }

    fn later(&mut self, after_ms: i64, happening: Happening) {
        self.next_happening += 1;
        self.queue.push(Reverse((self.now + after_ms.max(0), self.next_happening)));
        self.happenings.insert(self.next_happening, happening);
    }

    fn trace(&mut self, words: &[u64]) {
        for word in words.iter().chain([&(self.now as u64)]) {
            self.trace = (self.trace.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn happen(&mut self, happening: Happening) -> Outcome {
        match happening {
            Happening::Tick => {
                self.next_tick = None;
                self.tell(Event::Tick)
            }
            Happening::Arrive(session, message) => self.arrive(session, message),
            Happening::Deliver(session, message) => self.deliver(session, *message),
            Happening::BrokenAtMaster(session) => {
                self.tell(Event::Disconnected { session, reason: "the connection broke".into() })
            }
            Happening::BrokenAtProcess(session) => self.broken_at_process(session),
            Happening::Start(process) => self.start_process(process),
            Happening::Connect(process, life) => self.connect(process, life),
            Happening::Initialized(process, life, id) => self.initialized(process, life, &id),
            Happening::Step(process, life, id) => self.step(process, life, id),
            Happening::Fail(process, life, id) => self.fail_task(process, life, &id),
            Happening::Send(process, life, message) => {
                if self.processes[process].life == life && self.processes[process].alive {
                    self.send_to_master(process, *message);
                }
                Ok(())
            }
            Happening::StoreDoes(ticket, request, answer_after) => {
                let reply = self.store_does(&request)?;
                if let Some(after) = answer_after {
                    self.later(after, Happening::StoreAnswers(ticket, reply));
                }
                Ok(())
            }
            Happening::StoreAnswers(ticket, reply) => self.tell_job(JobEvent::Storage { ticket, reply }),
            Happening::Discovered(operator_uid, incarnation) => self.discovered(operator_uid, incarnation),
            Happening::Fault(fault) => self.fault(fault),
            Happening::FaultsEnd => {
                self.faults_over = true;
                for process in 0..self.processes.len() {
                    if !self.processes[process].alive {
                        self.later(100, Happening::Start(process));
                    }
                }
                Ok(())
            }
        }
    }

    fn tell(&mut self, event: Event) -> Outcome {
        let actions = self.master.handle(event, self.now);
        self.carry_out(actions)
    }

    fn tell_job(&mut self, event: JobEvent) -> Outcome {
        self.tell(Event::Job { job: self.job.clone(), event: Box::new(event) })
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Outcome {
        for action in actions {
            match action {
                Action::Send { session, message } => {
                    if matches!(message.message, Some(ToTask::Deploy(_))) && self.store.stopped_with().is_some() {
                        return Err("a job that was stopped with a savepoint is deployed again".into());
                    }
                    self.send_to_process(session, message);
                }
                Action::Disconnect { session, .. } => {
                    self.trace(&[2, session.0]);
                    let silent = self.links.get(&session).is_some_and(|link| link.silent);
                    let after = if silent { HEARTBEAT_TIMEOUT_MS as i64 } else { self.rng.random_range(1..1500) };
                    self.later(after, Happening::BrokenAtProcess(session));
                }
                Action::Job { action, .. } => self.carry_out_job(action)?,
            }
        }
        if let Some(deadline) = self.master.deadline()
            && self.next_tick.is_none_or(|tick| deadline < tick)
        {
            let deadline = deadline.max(self.now);
            self.next_tick = Some(deadline);
            self.later(deadline - self.now, Happening::Tick);
        }
        Ok(())
    }

    fn carry_out_job(&mut self, action: JobAction) -> Outcome {
        match action {
            JobAction::Storage { ticket, request } => {
                self.trace(&[3, ticket]);
                self.call_store(ticket, request);
            }
            JobAction::Discover { operator_uid, incarnation, .. } => {
                self.trace(&[4, incarnation]);
                let after = self.rng.random_range(1..300);
                self.later(after, Happening::Discovered(operator_uid, incarnation));
            }
            JobAction::SavepointDone { request, result } => {
                self.trace(&[5, request, u64::from(result.is_ok())]);
                if let Ok(folder) = result {
                    invariants::on_saved(&folder, &self.store)?;
                    self.stopped |= request == 2;
                    self.store.saved.insert(folder);
                }
            }
            JobAction::Changed => self.trace(&[6]),
            JobAction::Rows(_) | JobAction::Send { .. } => {}
        }
        Ok(())
    }

    fn discovered(&mut self, operator_uid: String, incarnation: u64) -> Outcome {
        let fails = self.scenario.discovery_fails_percent;
        let splits = if !self.faults_over && self.rng.random_range(0..100) < fails {
            Err("the splits cannot be listed".to_owned())
        } else {
            let first = operator_uid.trim_start_matches('s').parse::<u32>().unwrap_or(0) * 100;
            Ok((first..first + self.scenario.splits).map(|split| enumerator::answer(Some(split))).collect())
        };
        self.tell_job(JobEvent::Discovered { operator_uid, incarnation, splits })
    }

    fn report_of(&self, job: &JobMaster) -> Report {
        let counters = job.counters();
        Report {
            seed: self.seed,
            trace_hash: self.trace,
            events: self.events,
            restored: counters.regions_restored > 0,
            refused_stale: counters.stale_messages > 0,
            checkpoints: job.checkpoints().stats().completed,
            restarts: u64::from(job.status().restarts),
            region_only: self.region_only,
            stopped: self.stopped,
            rescaled: counters.rescales > 0,
            end: Some(job.state()),
            job: counters.job.clone(),
            executions: counters.executions.clone(),
            phases: job.checkpoints().transitions().clone(),
        }
    }

    fn report_end(&self) -> Report {
        match self.master.find(self.job.as_str()) {
            Ok(job) => self.report_of(job),
            Err(_) => Report { seed: self.seed, ..Report::default() },
        }
    }
}

/// A region restarts while another one runs.
fn runs_in_part(job: &JobMaster) -> bool {
    job.state() == JobState::Restarting && job.executions().iter().any(|e| e.state == ExecutionState::Running)
}

fn kind_of(message: &ToTask) -> u64 {
    match message {
        ToTask::Registered(_) => 1,
        ToTask::Heartbeat(_) => 2,
        ToTask::Deploy(deployment) => 16 + u64::from(deployment.attempt.as_ref().map_or(0, |a| a.attempt)),
        ToTask::Cancel(_) => 3,
        ToTask::TriggerCheckpoint(trigger) => 1 << 32 | trigger.checkpoint_id,
        ToTask::CheckpointComplete(complete) => 1 << 33 | complete.checkpoint_id,
        ToTask::CheckpointAborted(aborted) => 1 << 34 | aborted.checkpoint_id,
        ToTask::Coordinator(_) => 4,
        ToTask::JobEnded(_) => 5,
        ToTask::Shutdown(_) => 6,
        ToTask::CollectAck(_) => 7,
    }
}
