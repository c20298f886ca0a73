//! Virtual time and everything that happens in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::coverage::Report;
use super::enumerator::{self, Enumerator};
use super::invariants::{self, Violation};
use super::process::Process;
use super::scenario::{Fault, Scenario};
use super::store::{Fate, Ledger, Store};
use super::task::{Channels, Effect, Task, TaskId, encode};
use crate::job::state::{ExecutionState, JobState};
use crate::job::{JobAction, JobEvent, JobMaster, Submission};
use crate::master::{Action, Event, Master};
use crate::settings::{JobSettings, MasterSettings};
use crate::slots::SessionId;
use crate::storage::memory::MEMORY_DIRECTORY;
use crate::storage::{StorageError, StorageReply, StorageRequest};

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
            self.happen(happening)?;
            let Ok(job) = self.master.find(self.job.as_str()) else { return Err("the job is gone".into()) };
            invariants::after_step(job, self.master.pool(), &self.processes)?;
            self.region_only |= runs_in_part(job);
            let exactly_once = self.scenario.checkpointing && !self.store.usurped;
            if job.state() == JobState::Finished && !self.checked_end && exactly_once {
                self.checked_end = true;
                invariants::at_finish(job, &self.ledger, &self.scenario)?;
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

    // ---- the JobManager -------------------------------------------------------------------------

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
                Action::Send { session, message } => self.send_to_process(session, message),
                Action::Disconnect { session, .. } => {
                    self.trace(&[2, session.0]);
                    let silent = self.links.get(&session).is_some_and(|link| link.silent);
                    let after = if silent { HEARTBEAT_TIMEOUT_MS as i64 } else { self.rng.random_range(1..1500) };
                    self.later(after, Happening::BrokenAtProcess(session));
                }
                Action::Job { action, .. } => self.carry_out_job(action),
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

    fn carry_out_job(&mut self, action: JobAction) {
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
            JobAction::SavepointDone { request, result } => self.trace(&[5, request, u64::from(result.is_ok())]),
            JobAction::Changed => self.trace(&[6]),
            JobAction::Rows(_) | JobAction::Send { .. } => {}
        }
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

    // ---- the store ------------------------------------------------------------------------------

    fn call_store(&mut self, ticket: u64, request: StorageRequest) {
        let (there, back) = (self.rng.random_range(1..60), self.rng.random_range(1..60));
        let timeout = self.rng.random_range(500..2_500);
        let lost = || StorageReply::of(&request, StorageError::Unavailable("no answer".into()));
        match self.fate(&request) {
            Fate::Works => self.later(there, Happening::StoreDoes(ticket, request, Some(back))),
            Fate::RequestLost => {
                let reply = lost();
                self.later(timeout, Happening::StoreAnswers(ticket, reply));
            }
            Fate::AnswerLost => {
                let reply = lost();
                self.later(there, Happening::StoreDoes(ticket, request, None));
                self.later(timeout, Happening::StoreAnswers(ticket, reply));
            }
            Fate::DoneLate => {
                let reply = lost();
                self.later(timeout, Happening::StoreAnswers(ticket, reply));
                let late = timeout + self.rng.random_range(0..4_000);
                self.later(late, Happening::StoreDoes(ticket, request, None));
            }
            Fate::Refused => {
                let reply = StorageReply::of(&request, StorageError::Permanent("access denied".into()));
                self.later(back, Happening::StoreAnswers(ticket, reply));
            }
        }
    }

    fn fate(&mut self, request: &StorageRequest) -> Fate {
        if self.scenario.store_refuses {
            return Fate::Refused;
        }
        if self.faults_over || self.rng.random_range(0..100) >= self.scenario.store_faults_percent {
            return Fate::Works;
        }
        match self.rng.random_range(0..8) {
            0 | 1 => Fate::RequestLost,
            2 | 3 => Fate::AnswerLost,
            4 | 5 => Fate::DoneLate,
            _ if matches!(request, StorageRequest::LoadHead | StorageRequest::ReadMetadata { .. }) => Fate::RequestLost,
            _ => Fate::Refused,
        }
    }

    fn store_does(&mut self, request: &StorageRequest) -> Result<StorageReply, String> {
        if let StorageRequest::Delete { objects } = request {
            invariants::before_delete(objects, &self.store)?;
            for object in objects {
                self.store.files.remove(object);
            }
        }
        let reply = self.store.objects.apply(request);
        if matches!(reply, StorageReply::Swapped(Ok(_))) {
            self.head_changed()?;
        }
        Ok(reply)
    }

    fn head_changed(&mut self) -> Outcome {
        let retained = self.store.objects.head.iter().flat_map(|(head, _)| &head.retained);
        let new: Vec<u64> = retained.map(|r| r.checkpoint_id).filter(|id| !self.store.completed.contains(id)).collect();
        for id in new {
            let job = self.master.find(self.job.as_str()).map_err(|error| error.to_string())?;
            invariants::on_completed(id, job, &self.store, &self.scenario)?;
            self.store.completed.insert(id);
        }
        Ok(())
    }

    // ---- connections ----------------------------------------------------------------------------

    fn delay(&mut self) -> i64 {
        if self.rng.random_range(0..100) < 3 { self.rng.random_range(100..2_000) } else { self.rng.random_range(1..30) }
    }

    fn send_to_process(&mut self, session: SessionId, message: Box<internal::ToTaskManager>) {
        let delay = self.delay();
        let now = self.now;
        let Some(link) = self.links.get_mut(&session) else { return };
        link.last_to_process = link.last_to_process.max(now + delay);
        let after = link.last_to_process - now;
        self.trace(&[1, session.0, message.message.as_ref().map_or(0, kind_of)]);
        self.later(after, Happening::Deliver(session, message));
    }

    fn send_to_master(&mut self, process: usize, message: FromTask) {
        let delay = self.delay();
        let now = self.now;
        let Some(session) = self.processes[process].session else { return };
        let epoch = self.processes[process].epoch;
        let Some(link) = self.links.get_mut(&session) else { return };
        link.last_to_master = link.last_to_master.max(now + delay);
        let after = link.last_to_master - now;
        let message = Box::new(internal::FromTaskManager { epoch, message: Some(message) });
        self.later(after, Happening::Arrive(session, message));
    }

    fn arrive(&mut self, session: SessionId, message: Box<internal::FromTaskManager>) -> Outcome {
        match self.links.get(&session) {
            Some(link) if !link.broken && !link.silent => self.tell(Event::FromTaskManager { session, message }),
            _ => Ok(()),
        }
    }

    fn deliver(&mut self, session: SessionId, message: internal::ToTaskManager) -> Outcome {
        let Some(link) = self.links.get(&session) else { return Ok(()) };
        let (process, usable) = (link.process, !link.broken && !link.silent);
        if !usable || self.processes[process].session != Some(session) || !self.processes[process].alive {
            return Ok(());
        }
        match message.message {
            Some(inner) => self.obey(process, message.epoch, inner),
            None => Ok(()),
        }
    }

    fn broken_at_process(&mut self, session: SessionId) -> Outcome {
        let Some(link) = self.links.get(&session) else { return Ok(()) };
        let process = link.process;
        if self.processes[process].session != Some(session) || !self.processes[process].alive {
            return Ok(());
        }
        // It cancels its tasks and comes back.
        self.processes[process].tasks.clear();
        self.processes[process].session = None;
        let (life, after) = (self.processes[process].life, self.rng.random_range(50..1_000));
        self.later(after, Happening::Connect(process, life));
        Ok(())
    }

    // ---- processes ------------------------------------------------------------------------------

    fn start_process(&mut self, process: usize) -> Outcome {
        let disk_lost = self.rng.random_bool(0.3);
        let p = &mut self.processes[process];
        if p.alive {
            return Ok(());
        }
        p.alive = true;
        p.life += 1;
        p.session = None;
        p.epoch = 0;
        p.tasks.clear();
        if disk_lost {
            p.disk.clear();
        }
        let life = p.life;
        self.connect(process, life)
    }

    fn connect(&mut self, process: usize, life: u64) -> Outcome {
        let p = &self.processes[process];
        if !p.alive || p.life != life || p.session.is_some() {
            return Ok(());
        }
        let session = SessionId(self.next_session);
        self.next_session += 1;
        let link = Link { process, last_to_master: 0, last_to_process: 0, broken: false, silent: false };
        self.links.insert(session, link);
        self.processes[process].session = Some(session);
        self.processes[process].epoch = 0;
        let register = self.processes[process].register();
        self.send_to_master(process, FromTask::Register(register));
        Ok(())
    }

    fn obey(&mut self, process: usize, epoch: u64, message: ToTask) -> Outcome {
        match message {
            ToTask::Registered(_) => {
                self.processes[process].epoch = epoch;
                Ok(())
            }
            ToTask::Heartbeat(heartbeat) => {
                self.send_to_master(process, FromTask::Heartbeat(heartbeat));
                Ok(())
            }
            ToTask::Deploy(deployment) => self.deploy(process, &deployment),
            ToTask::Cancel(cancel) => {
                let id = TaskId::of(&cancel.attempt.unwrap_or_default());
                self.processes[process].tasks.remove(&id);
                let state = if self.rng.random_range(0..100) < 8 { "FAILED" } else { "CANCELED" };
                self.report(process, &id, state, "while it was cancelled");
                Ok(())
            }
            ToTask::TriggerCheckpoint(trigger) => {
                let id = TaskId::of(&trigger.attempt.unwrap_or_default());
                if let Some(task) = self.processes[process].tasks.get_mut(&id) {
                    task.on_trigger(trigger.checkpoint_id);
                }
                Ok(())
            }
            ToTask::CheckpointComplete(complete) => self.complete(process, complete.checkpoint_id),
            ToTask::CheckpointAborted(aborted) => {
                self.processes[process].tasks.values_mut().for_each(|task| task.on_aborted(aborted.checkpoint_id));
                Ok(())
            }
            ToTask::Coordinator(message) => {
                let id = TaskId::of(&message.attempt.unwrap_or_default());
                if let Some(task) = self.processes[process].tasks.get_mut(&id) {
                    task.on_split(enumerator::read_answer(&message.payload));
                }
                Ok(())
            }
            ToTask::JobEnded(_) => {
                self.processes[process].tasks.clear();
                self.processes[process].disk.clear();
                Ok(())
            }
            ToTask::Shutdown(_) | ToTask::CollectAck(_) => Ok(()),
        }
    }

    fn deploy(&mut self, process: usize, deployment: &internal::TaskDeployment) -> Outcome {
        invariants::files_exist(&deployment.restore, &self.store)?;
        let (task, effects) = Task::build(deployment, self.scenario.split_records);
        let id = task.id.clone();
        let roll = self.rng.random_range(0..100);
        if !self.faults_over && roll < self.scenario.restore_fails_percent {
            self.report(process, &id, "FAILED", "the state cannot be read");
            return Ok(());
        }
        if roll >= 20 {
            self.report(process, &id, "INITIALIZING", "");
        }
        self.processes[process].tasks.insert(id.clone(), task);
        self.carry_out_effects(process, &id, effects)?;
        let after = if roll > 90 { self.rng.random_range(500..4_000) } else { self.rng.random_range(5..300) };
        let life = self.processes[process].life;
        self.later(after, Happening::Initialized(process, life, id));
        Ok(())
    }

    fn initialized(&mut self, process: usize, life: u64, id: &TaskId) -> Outcome {
        let p = &mut self.processes[process];
        if p.life != life {
            return Ok(());
        }
        let Some(task) = p.tasks.get_mut(id) else { return Ok(()) };
        if !self.faults_over && self.rng.random_range(0..100) < self.scenario.restore_fails_percent {
            return self.fail_task(process, life, id);
        }
        task.running = true;
        self.report(process, id, "RUNNING", "");
        self.step(process, life, id.clone())
    }

    fn step(&mut self, process: usize, life: u64, id: TaskId) -> Outcome {
        let p = &mut self.processes[process];
        if p.life != life || !p.alive {
            return Ok(());
        }
        let Some(task) = p.tasks.get_mut(&id) else { return Ok(()) };
        let effects = task.step(&mut self.channels, &mut self.rng);
        self.carry_out_effects(process, &id, effects)?;
        let after = self.rng.random_range(150..900);
        self.later(after, Happening::Step(process, life, id));
        Ok(())
    }

    fn complete(&mut self, process: usize, checkpoint: u64) -> Outcome {
        let job = self.job.as_str().to_owned();
        self.processes[process].confirm(&job, checkpoint);
        let ids: Vec<TaskId> = self.processes[process].tasks.keys().cloned().collect();
        for id in ids {
            let Some(task) = self.processes[process].tasks.get_mut(&id) else { continue };
            let effects = task.on_complete(checkpoint, &mut self.channels);
            self.carry_out_effects(process, &id, effects)?;
        }
        Ok(())
    }

    fn carry_out_effects(&mut self, process: usize, id: &TaskId, effects: Vec<Effect>) -> Outcome {
        for effect in effects {
            match effect {
                Effect::RequestSplit => {
                    let message = internal::CoordinatorMessage {
                        attempt: Some(id.proto()),
                        operator_uid: id.vertex.clone(),
                        payload: enumerator::REQUEST.to_vec(),
                    };
                    self.send_to_master(process, FromTask::Coordinator(message));
                }
                Effect::EndOfData => {
                    let ended = internal::EndOfData { attempt: Some(id.proto()) };
                    self.send_to_master(process, FromTask::EndOfData(ended));
                }
                Effect::Snapshot { checkpoint, state } => self.upload(process, id, checkpoint, &state),
                Effect::Commit { transaction, by } => {
                    invariants::before_commit(by, self.scenario.checkpointing, &self.store)?;
                    let committed = self.ledger.commit(id, &transaction);
                    if self.scenario.checkpointing {
                        committed?;
                    }
                }
                Effect::Finished => {
                    self.processes[process].tasks.remove(id);
                    self.report(process, id, "FINISHED", "");
                    if std::mem::take(&mut self.scenario.cancel_at_finish) {
                        let after = self.rng.random_range(0..40);
                        self.later(after, Happening::Fault(Fault::Cancel));
                    }
                }
            }
        }
        Ok(())
    }

    /// In the background: the task goes on, and may be gone before the acknowledgement is sent.
    fn upload(&mut self, process: usize, id: &TaskId, checkpoint: u64, state: &super::task::TaskState) {
        let slow = self.rng.random_range(0..100) < 15;
        let after = if slow { self.rng.random_range(500..4_000) } else { self.rng.random_range(5..400) };
        let life = self.processes[process].life;
        if !self.faults_over && self.rng.random_range(0..100) < self.scenario.decline_percent {
            let decline = internal::CheckpointDecline {
                attempt: Some(id.proto()),
                checkpoint_id: checkpoint,
                reason: "the upload failed".into(),
            };
            self.later(after, Happening::Send(process, life, Box::new(FromTask::CheckpointDecline(decline))));
            return;
        }
        let kept = self.rng.random_bool(0.8);
        let Some(task) = self.processes[process].tasks.get_mut(id) else { return };
        let mut files: Vec<String> = if kept { task.base.clone() } else { Vec::new() };
        files.truncate(3);
        files.push(self.store.upload(id));
        task.uploaded.insert(checkpoint, files.clone());
        self.processes[process].keep(id, checkpoint);
        let ack = internal::CheckpointAck {
            attempt: Some(id.proto()),
            checkpoint_id: checkpoint,
            snapshot: Some(encode(state, &files)),
            ..Default::default()
        };
        self.later(after, Happening::Send(process, life, Box::new(FromTask::CheckpointAck(ack))));
    }

    fn report(&mut self, process: usize, id: &TaskId, state: &str, error: &str) {
        let changed = internal::TaskStateChanged {
            attempt: Some(id.proto()),
            state: state.into(),
            error: error.into(),
            restore: None,
        };
        self.send_to_master(process, FromTask::TaskState(changed));
    }

    fn fail_task(&mut self, process: usize, life: u64, id: &TaskId) -> Outcome {
        if self.processes[process].life == life && self.processes[process].tasks.remove(id).is_some() {
            self.report(process, id, "FAILED", "it was made to fail");
        }
        Ok(())
    }

    // ---- faults ---------------------------------------------------------------------------------

    fn fault(&mut self, fault: Fault) -> Outcome {
        self.trace(&[7, fault as u64]);
        match fault {
            Fault::Kill | Fault::Vanish => self.kill(fault == Fault::Vanish),
            Fault::Disconnect | Fault::Silence => self.cut(fault == Fault::Silence),
            Fault::FailTask => {
                let live: Vec<(usize, TaskId)> = self
                    .processes
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| p.alive)
                    .flat_map(|(i, p)| p.tasks.keys().map(move |id| (i, id.clone())))
                    .collect();
                if live.is_empty() {
                    return Ok(());
                }
                let (process, id) = &live[self.rng.random_range(0..live.len())];
                let life = self.processes[*process].life;
                self.fail_task(*process, life, id)
            }
            Fault::Savepoint => {
                self.tell_job(JobEvent::Savepoint { request: 1, target: Some("memory://savepoints".into()) })
            }
            Fault::Cancel => self.tell_job(JobEvent::Cancel),
            Fault::Usurp => {
                if let Some((mut head, _)) = self.store.objects.head.clone() {
                    self.store.usurped = true;
                    head.epoch += 1;
                    let expected =
                        self.store.objects.head.as_ref().map(|(_, v)| crate::storage::Version(v.to_string()));
                    self.store.objects.apply(&StorageRequest::SwapHead { head, expected });
                }
                Ok(())
            }
        }
    }

    fn kill(&mut self, silently: bool) -> Outcome {
        let alive: Vec<usize> = (0..self.processes.len()).filter(|&p| self.processes[p].alive).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let process = alive[self.rng.random_range(0..alive.len())];
        let gone: Vec<TaskId> = self.processes[process].tasks.keys().cloned().collect();
        self.processes[process].alive = false;
        self.processes[process].tasks.clear();
        if let Some(session) = self.processes[process].session
            && let Some(link) = self.links.get_mut(&session)
        {
            link.broken = true;
            if !silently {
                let after = self.rng.random_range(1..300);
                self.later(after, Happening::BrokenAtMaster(session));
            }
        }
        let back = self.rng.random_range(500..14_000);
        self.later(back, Happening::Start(process));
        if !silently {
            self.neighbours_notice(&gone);
        }
        Ok(())
    }

    /// Tasks that exchange data with the ones that are gone may fail before the JobManager knows.
    fn neighbours_notice(&mut self, gone: &[TaskId]) {
        let mut failing = Vec::new();
        for (i, process) in self.processes.iter().enumerate().filter(|(_, p)| p.alive) {
            for id in process.tasks.keys() {
                let related = gone.iter().any(|g| g.vertex.get(1..) == id.vertex.get(1..) && g.vertex != id.vertex);
                if related && self.rng.random_bool(0.3) {
                    failing.push((i, process.life, id.clone()));
                }
            }
        }
        for (process, life, id) in failing {
            let after = self.rng.random_range(1..400);
            self.later(after, Happening::Fail(process, life, id));
        }
    }

    fn cut(&mut self, silently: bool) -> Outcome {
        let connected: Vec<SessionId> = self.processes.iter().filter(|p| p.alive).filter_map(|p| p.session).collect();
        if connected.is_empty() {
            return Ok(());
        }
        let session = connected[self.rng.random_range(0..connected.len())];
        let Some(link) = self.links.get_mut(&session) else { return Ok(()) };
        if silently {
            link.silent = true;
            let after = HEARTBEAT_TIMEOUT_MS as i64 + self.rng.random_range(0..3_000);
            self.later(after, Happening::BrokenAtProcess(session));
        } else {
            link.broken = true;
            let (at_master, at_process) = (self.rng.random_range(1..1_500), self.rng.random_range(1..3_000));
            self.later(at_master, Happening::BrokenAtMaster(session));
            self.later(at_process, Happening::BrokenAtProcess(session));
        }
        Ok(())
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
