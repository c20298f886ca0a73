//! Virtual time and everything that happens in it.

mod faults;
mod leaders;
mod network;
mod processes;
mod store;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ha::{HaReply, HaRequest, MemoryHaStore};
use crate::job::state::{ExecutionState, JobState};
use crate::job::{JobAction, JobEvent, JobMaster};
use crate::master::Event;
use crate::simulator::Bug;
use crate::simulator::coverage::Report;
use crate::simulator::enumerator;
use crate::simulator::invariants::{self, Violation};
use crate::simulator::process::Process;
use crate::simulator::scenario::{Blow, Fault, Mix, Scenario, When};
use crate::simulator::store::{Ledger, Store};
use crate::simulator::task::{Channels, TaskId};
use crate::slots::SessionId;
use crate::storage::{StorageReply, StorageRequest};
use leaders::{Caller, Manager, Term};

const HEARTBEAT_MS: u64 = 2_000;
const HEARTBEAT_TIMEOUT_MS: u64 = 8_000;
/// A world that has not come to rest by then never will.
const LONGEST_MS: i64 = 900_000;
/// Uploads and storage calls under way when a job ends are over by then.
const LATE_MS: i64 = 8_000;
const MOST_EVENTS: u64 = 200_000;

#[derive(Debug)]
enum Happening {
    /// The lease of a JobManager, in this life.
    LeaseTick(usize, u64),
    Tick(Term),
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
    /// It looks who leads while it is connected.
    Look(usize, u64, SessionId),
    /// It has been alone for too long, if it still is.
    GraceEnd(usize, u64, u64),
    Initialized(usize, u64, TaskId),
    Step(usize, u64, TaskId),
    Fail(usize, u64, TaskId),
    /// The time of a process that is to go is up.
    Deadline(usize, u64),
    /// A background thread of a process sends something.
    Send(usize, u64, TaskId, Box<FromTask>),
    /// A state file is in the store.
    Uploaded(String),
    StoreDoes(Term, u64, StorageRequest, Option<i64>),
    StoreAnswers(Term, u64, StorageReply),
    HaDoes(Caller, u64, HaRequest, Option<i64>),
    HaAnswers(Caller, u64, HaReply),
    Discovered(Term, String, u64),
    /// A graph was read and planned.
    Recovered(Term, Box<internal::RegisteredJob>),
    StartManager(usize),
    Submit,
    Fault(Fault),
    Arm(When, Blow),
    FaultsEnd,
}

struct Link {
    process: usize,
    term: Term,
    epoch: u64,
    /// Arrivals keep the order of sending.
    last_to_master: i64,
    last_to_process: i64,
    broken: bool,
    silent: bool,
}

/// A world with one job.
pub(super) struct World {
    seed: u64,
    bug: Option<Bug>,
    rng: ChaCha8Rng,
    scenario: Scenario,
    now: i64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_happening: u64,
    next_session: u64,
    managers: Vec<Manager>,
    terms: Term,
    ha: MemoryHaStore,
    submitted: bool,
    traps: Vec<(When, Blow)>,
    totals: Report,
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
    pub(super) fn new(seed: u64, mix: Mix, bug: Option<Bug>) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenario = Scenario::draw(&mut rng, mix);
        let processes =
            scenario.taskmanagers.iter().enumerate().map(|(i, slots)| Process::new(format!("tm{i}"), *slots)).collect();
        World {
            seed,
            bug,
            rng,
            managers: (0..scenario.managers).map(|_| Manager::new()).collect(),
            scenario,
            now: 1_000_000,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next_happening: 0,
            next_session: 1,
            terms: 0,
            ha: MemoryHaStore::default(),
            submitted: false,
            traps: Vec::new(),
            totals: Report { seed, ..Report::default() },
            job: JobId::from_u128(u128::from(seed)),
            processes,
            links: BTreeMap::new(),
            channels: Channels::new(),
            store: Store::new(bug == Some(Bug::HeadNotFenced)),
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
            if let Some(until) = self.paused(&happening) {
                // It may act before it notices the time.
                let lease = matches!(happening, Happening::LeaseTick(..) | Happening::HaAnswers(Caller::Lease(..), ..));
                let notices = if lease { self.rng.random_range(0..600) } else { 0 };
                self.later(until - time + notices, happening);
                continue;
            }
            self.events += 1;
            // A step of a task alone changes nothing that the JobManager knows.
            let at_jobmanager = !matches!(happening, Happening::Step(..));
            self.happen(happening)?;
            if !at_jobmanager {
                continue;
            }
            self.spring_traps()?;
            self.check_leader()?;
            if self.faults_over && self.closed() {
                let closed = *self.closed_at.get_or_insert(self.now);
                if self.now > closed + LATE_MS {
                    return self.at_rest();
                }
            }
            if self.events > MOST_EVENTS || self.now - start > LONGEST_MS {
                return Err(self.stuck());
            }
        }
        if self.closed() { self.at_rest() } else { Err("nothing happens any more, but the job has not ended".into()) }
    }

    fn check_leader(&mut self) -> Outcome {
        let Some((_, leading)) = self.leader() else { return Ok(()) };
        let Ok(job) = leading.master.find(self.job.as_str()) else { return Ok(()) };
        invariants::after_step(job, leading.master.pool(), &self.processes)?;
        let part = runs_in_part(job);
        let ended = job.state().is_globally_terminal() && !self.checked_end && self.scenario.checkpointing;
        match self.store.stopped_with().filter(|_| ended) {
            Some(stopped) => invariants::at_stop(job, stopped, &self.ledger, &self.scenario)?,
            None if ended && job.state() == JobState::Finished => {
                invariants::at_finish(&self.ledger, &self.scenario)?;
            }
            None => {}
        }
        self.region_only |= part;
        self.checked_end |= ended;
        Ok(())
    }

    /// Until when the JobManager that this happens to is paused.
    fn paused(&self, happening: &Happening) -> Option<i64> {
        let manager = match happening {
            Happening::LeaseTick(m, _) => Some(*m),
            Happening::Tick(term)
            | Happening::StoreAnswers(term, ..)
            | Happening::Discovered(term, ..)
            | Happening::Recovered(term, _) => self.manager_of(Caller::Master(*term)),
            Happening::HaAnswers(caller, ..) => self.manager_of(*caller),
            Happening::Arrive(session, _) | Happening::BrokenAtMaster(session) => {
                self.links.get(session).and_then(|link| self.manager_of(Caller::Master(link.term)))
            }
            _ => None,
        };
        manager.map(|m| self.managers[m].paused_until).filter(|until| *until > self.now)
    }

    fn begin(&mut self) -> Outcome {
        for m in 0..self.managers.len() {
            let after = self.rng.random_range(0..300);
            self.later(after, Happening::StartManager(m));
        }
        for process in 0..self.processes.len() {
            let after = self.rng.random_range(0..500) + self.scenario.late_ms;
            self.later(after, Happening::Start(process));
        }
        for (after, fault) in self.scenario.faults.clone() {
            self.later(after, Happening::Fault(fault));
        }
        for (after, when, blow) in self.scenario.traps.clone() {
            self.later(after, Happening::Arm(when, blow));
        }
        self.later(self.scenario.faults_end_ms, Happening::FaultsEnd);
        self.later(300, Happening::Submit);
        Ok(())
    }

    /// Says what a job that does not end is waiting for.
    fn stuck(&self) -> String {
        let Some((_, leading)) = self.leader() else { return "nobody leads".into() };
        let Ok(job) = leading.master.find(self.job.as_str()) else { return "the leader has no job".into() };
        let tasks: Vec<String> =
            self.processes.iter().flat_map(|p| p.tasks.values()).map(|t| format!("{t:?}")).collect();
        format!(
            "faults are over but the job is {:?}, which failed last because of '{}' and restarted last because of \
             '{}', checkpoint under way {:?}, executions {:?}, tasks\n{}",
            job.state(),
            job.status().root_cause,
            job.details().restarts.last().map_or("", |restart| &restart.cause),
            job.checkpoints().pending_id(),
            job.executions().iter().map(|e| (e.state, e.attempt)).collect::<Vec<_>>(),
            tasks.join("\n")
        )
    }

    fn at_rest(&self) -> Outcome {
        if !self.submitted {
            return Err("the job has ended, but its submission was not answered".into());
        }
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
            Happening::LeaseTick(m, life) => self.lease_tick(m, life),
            Happening::Tick(term) => self.tick(term),
            Happening::Arrive(session, message) => self.arrive(session, message),
            Happening::Deliver(session, message) => self.deliver(session, *message),
            Happening::BrokenAtMaster(session) => {
                let Some(link) = self.links.get(&session) else { return Ok(()) };
                let reason = "the connection broke".into();
                self.tell(link.term, Event::Disconnected { session, reason })
            }
            Happening::BrokenAtProcess(session) => self.broken_at_process(session),
            Happening::Start(process) => self.start_process(process),
            Happening::Connect(process, life) => self.connect(process, life),
            Happening::Look(process, life, session) => self.look(process, life, session),
            Happening::GraceEnd(process, life, alone) => self.grace_end(process, life, alone),
            Happening::Initialized(process, life, id) => self.initialized(process, life, &id),
            Happening::Step(process, life, id) => self.step(process, life, id),
            Happening::Fail(process, life, id) => self.fail_task(process, life, &id),
            Happening::Deadline(process, life) => self.deadline(process, life),
            Happening::Uploaded(file) => {
                self.store.files.insert(file);
                Ok(())
            }
            Happening::Send(process, life, id, message) => {
                if self.processes[process].life == life && self.processes[process].alive {
                    self.task_message(process, &id, *message);
                }
                Ok(())
            }
            Happening::StoreDoes(term, ticket, request, answer_after) => {
                let reply = self.store_does(term, &request)?;
                if let Some(after) = answer_after {
                    self.later(after, Happening::StoreAnswers(term, ticket, reply));
                }
                Ok(())
            }
            Happening::StoreAnswers(term, ticket, reply) => self.tell_job_of(term, JobEvent::Storage { ticket, reply }),
            Happening::HaDoes(caller, ticket, request, answer_after) => {
                let reply = self.ha_does(&request)?;
                if let Some(after) = answer_after {
                    self.later(after, Happening::HaAnswers(caller, ticket, reply));
                }
                Ok(())
            }
            Happening::HaAnswers(caller, ticket, reply) => self.ha_answers(caller, ticket, reply),
            Happening::Discovered(term, operator_uid, incarnation) => self.discovered(term, operator_uid, incarnation),
            Happening::Recovered(term, entry) => self.recovered(term, *entry),
            Happening::StartManager(m) => self.start_manager(m),
            Happening::Submit => self.submit(),
            Happening::Arm(when, blow) => {
                self.traps.push((when, blow));
                Ok(())
            }
            Happening::Fault(fault) => self.fault(fault),
            Happening::FaultsEnd => {
                self.faults_over = true;
                for m in 0..self.managers.len() {
                    self.managers[m].cut_until = 0;
                    self.later(100, Happening::StartManager(m));
                }
                for process in 0..self.processes.len() {
                    if !self.processes[process].alive {
                        self.later(100, Happening::Start(process));
                    }
                }
                Ok(())
            }
        }
    }

    /// To the job of this term's master.
    fn tell_job_of(&mut self, term: Term, event: JobEvent) -> Outcome {
        self.tell(term, Event::Job { job: self.job.clone(), event: Box::new(event) })
    }

    fn disconnect(&mut self, session: SessionId) {
        self.trace(&[2, session.0]);
        let silent = self.links.get(&session).is_some_and(|link| link.silent);
        let after = if silent { HEARTBEAT_TIMEOUT_MS as i64 } else { self.rng.random_range(1..1500) };
        self.later(after, Happening::BrokenAtProcess(session));
    }

    fn carry_out_job(&mut self, term: Term, action: JobAction) -> Outcome {
        match action {
            JobAction::Storage { ticket, request } => {
                self.trace(&[3, ticket]);
                self.call_store(term, ticket, request);
            }
            JobAction::Discover { operator_uid, incarnation, .. } => {
                self.trace(&[4, incarnation]);
                let after = self.rng.random_range(1..300);
                self.later(after, Happening::Discovered(term, operator_uid, incarnation));
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
            JobAction::Rows(_)
            | JobAction::Send { .. }
            | JobAction::Ended(_)
            | JobAction::ReserveAttempts
            | JobAction::Deposed => {}
        }
        Ok(())
    }

    fn discovered(&mut self, term: Term, operator_uid: String, incarnation: u64) -> Outcome {
        let fails = self.scenario.discovery_fails_percent;
        let splits = if !self.faults_over && self.rng.random_range(0..100) < fails {
            Err("the splits cannot be listed".to_owned())
        } else {
            let first = operator_uid.trim_start_matches('s').parse::<u32>().unwrap_or(0) * 100;
            Ok((first..first + self.scenario.splits).map(|split| enumerator::answer(Some(split))).collect())
        };
        self.tell_job_of(term, JobEvent::Discovered { operator_uid, incarnation, splits })
    }

    fn report_end(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.totals);
        if let Some((_, leading)) = self.leader()
            && let Ok(job) = leading.master.find(self.job.as_str())
        {
            report.absorb(job);
        }
        let result = self.ha.registry().and_then(|r| r.jobs.iter().find(|job| job.job_id == self.job.as_str()));
        report.end = result.and_then(|job| JobState::ended(&job.result.as_ref()?.state));
        report.trace_hash = self.trace;
        report.events = self.events;
        report.region_only = self.region_only;
        report.stopped = self.stopped;
        report
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
        ToTask::Adopt(_) => 8,
        ToTask::Decommission(_) => 9,
        ToTask::Drained(_) => 10,
    }
}
