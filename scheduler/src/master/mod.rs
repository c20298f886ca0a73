//! The whole JobManager as one state machine: connections of TaskManagers, heartbeats, fencing by
//! epoch, and all jobs.
//!
//! The shell gives it what happens ([`Event`]), carries out what it returns ([`Action`]), and calls
//! it with [`Event::Tick`] when [`Master::deadline`] has come.

mod decommission;
mod ha;

use std::collections::{BTreeMap, VecDeque};

use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;

use crate::error::{Result, SchedulerError};
use crate::ha::{Change, HaReply, HaRequest};
use crate::job::{JobAction, JobEvent, JobMaster, Submission};
use crate::settings::MasterSettings;
use crate::slots::{SessionId, SlotPool, TaskManager};

/// Jobs that have ended and are still shown.
const ENDED_JOBS_KEPT: usize = 100;
/// Lost TaskManagers that are remembered.
const LOST_KEPT: usize = 16;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A TaskManager has sent a message.
    FromTaskManager {
        /// The connection, new for each stream.
        session: SessionId,
        /// The message.
        message: Box<internal::FromTaskManager>,
    },
    /// A connection has ended.
    Disconnected {
        /// Which.
        session: SessionId,
        /// How.
        reason: String,
    },
    /// Something for one job.
    Job {
        /// Which.
        job: JobId,
        /// What.
        event: Box<JobEvent>,
    },
    /// The answer to [`Action::Ha`].
    Ha {
        /// As given.
        ticket: u64,
        /// The answer.
        reply: HaReply,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Send to a TaskManager.
    Send {
        /// The connection.
        session: SessionId,
        /// The message.
        message: Box<internal::ToTaskManager>,
    },
    /// Close a connection.
    Disconnect {
        /// Which.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// Something for one job ([`JobAction::Send`] does not occur here).
    Job {
        /// Which.
        job: JobId,
        /// What.
        action: JobAction,
    },
    /// Call the store of high availability.
    Ha {
        /// Names the call.
        ticket: u64,
        /// The call.
        request: HaRequest,
    },
    /// A job of an earlier leader: read and plan its graph, then call [`Master::recover`] or
    /// [`Master::cannot_recover`].
    Recover(Box<internal::RegisteredJob>),
    /// All jobs of earlier leaders are known: TaskManagers and clients may come.
    Open,
    /// Answers [`Master::submit`] where jobs are kept in a registry.
    Submitted {
        /// The job.
        job: JobId,
        /// Whether it is new.
        result: Result<bool>,
    },
    /// Nothing needs this job graph any more.
    DeleteGraph(String),
    /// A write was refused because there is a newer leader: lead no more.
    StepDown(String),
}

#[derive(Debug)]
struct Session {
    last_heard_ms: i64,
    next_heartbeat_ms: i64,
    heartbeats: u64,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Master {
    id: String,
    epoch: u64,
    settings: MasterSettings,
    sessions: BTreeMap<SessionId, Session>,
    pool: SlotPool,
    jobs: BTreeMap<JobId, JobMaster>,
    ended: Vec<JobId>,
    stale_messages: u64,
    /// Lost while jobs needed them, and not back.
    lost: VecDeque<v1::LostTaskManager>,
    ha: Option<ha::Leadership>,
    actions: Vec<Action>,
}

impl Master {
    /// `id` must be no other JobManager's, ever; `epoch` must be above that of every earlier JobManager of the cluster.
    pub fn new(id: String, epoch: u64, settings: MasterSettings) -> Self {
        Master {
            id,
            epoch,
            settings,
            sessions: BTreeMap::new(),
            pool: SlotPool::default(),
            jobs: BTreeMap::new(),
            ended: Vec::new(),
            stale_messages: 0,
            lost: VecDeque::new(),
            ha: None,
            actions: Vec::new(),
        }
    }

    /// Takes one event and returns what is to be done, in this order.
    pub fn handle(&mut self, event: Event, now: i64) -> Vec<Action> {
        match event {
            Event::Tick => self.tick(now),
            Event::FromTaskManager { session, message } => self.on_message(session, *message, now),
            Event::Disconnected { session, reason } => self.lose(session, &reason, now),
            Event::Job { job, event } if matches!(*event, JobEvent::Cancel) => self.cancel(&job, now),
            Event::Job { job, event } => self.job(&job, *event, now),
            Event::Ha { ticket, reply } => self.on_ha_reply(ticket, reply, now),
        }
        self.tell_drained();
        std::mem::take(&mut self.actions)
    }

    /// Takes a job on and starts it. With an id that is known already nothing happens; returns
    /// whether the job is new.
    pub fn submit(&mut self, submission: Submission, now: i64) -> (bool, Vec<Action>) {
        let id = submission.job.clone();
        if self.jobs.contains_key(&id) {
            return (false, Vec::new());
        }
        self.jobs.insert(id.clone(), JobMaster::new(submission, self.id.clone(), now));
        self.job(&id, JobEvent::Start, now);
        (true, std::mem::take(&mut self.actions))
    }

    /// Changes the bounds of a job's parallelism, see [`JobMaster::require`].
    ///
    /// # Errors
    /// There is no such job, or the bounds cannot be.
    pub fn rescale(&mut self, request: &v1::RescaleJobRequest, now: i64) -> Result<Vec<Action>> {
        let id = self.find(&request.job_id)?.id().clone();
        if let Some(job) = self.jobs.get_mut(&id) {
            let requirements = job.require(request)?;
            // Where there is a registry, the next leader is to know them.
            self.change(Change::Required { job: id.as_str().to_owned(), requirements }, now);
        }
        self.job(&id, JobEvent::SlotsChanged, now);
        Ok(std::mem::take(&mut self.actions))
    }

    fn job(&mut self, id: &JobId, event: JobEvent, now: i64) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let _entered = tracing::info_span!("job", job = id.as_str()).entered();
        let was_terminal = job.state().is_terminal();
        let free = self.pool.free();
        let actions = job.handle(event, now, &mut self.pool);
        let ended = !was_terminal && job.state().is_terminal();
        self.carry_out(id, actions);
        if ended {
            self.ended.push(id.clone());
            self.forget_oldest();
        }
        self.clean_if_closed(id, now);
        if self.pool.free() > free {
            self.tell_all(|| JobEvent::SlotsChanged, Some(id), now);
        }
    }

    fn forget_oldest(&mut self) {
        if self.ended.len() > ENDED_JOBS_KEPT {
            let oldest = self.ended.remove(0);
            self.jobs.remove(&oldest);
        }
    }

    fn carry_out(&mut self, job: &JobId, actions: Vec<JobAction>) {
        for action in actions {
            match action {
                JobAction::Send { session, message } => self.send(session, *message),
                JobAction::Ended(_) | JobAction::ReserveAttempts | JobAction::Deposed => {
                    self.carry_out_durable(job, action);
                }
                action => self.actions.push(Action::Job { job: job.clone(), action }),
            }
        }
    }

    fn tell_all(&mut self, event: impl Fn() -> JobEvent, except: Option<&JobId>, now: i64) {
        let ids: Vec<JobId> =
            self.jobs.iter().filter(|(_, j)| !j.state().is_terminal()).map(|(id, _)| id.clone()).collect();
        for id in ids.iter().filter(|id| Some(*id) != except) {
            self.job(id, event(), now);
        }
    }

    fn send(&mut self, session: SessionId, message: ToTask) {
        let message = internal::ToTaskManager { epoch: self.epoch, message: Some(message) };
        self.actions.push(Action::Send { session, message: Box::new(message) });
    }

    fn tick(&mut self, now: i64) {
        let timeout = self.settings.heartbeat_timeout_ms as i64;
        let silent = self.sessions.iter().filter(|(_, s)| s.last_heard_ms + timeout <= now).map(|(id, _)| *id);
        for session in silent.collect::<Vec<_>>() {
            let reason = format!("no heartbeat for {timeout} ms (heartbeat.timeout)");
            self.actions.push(Action::Disconnect { session, reason: reason.clone() });
            self.lose(session, &reason, now);
        }
        let due = self.sessions.iter().filter(|(_, s)| s.next_heartbeat_ms <= now).map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.heartbeats += 1;
            session.next_heartbeat_ms = now + self.settings.heartbeat_interval_ms as i64;
            let sequence = session.heartbeats;
            self.send(id, ToTask::Heartbeat(internal::Heartbeat { sequence }));
        }
        self.tick_ha(now);
        let due = self.jobs.iter().filter(|(_, job)| job.deadline().is_some_and(|time| time <= now));
        for id in due.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.job(&id, JobEvent::Tick, now);
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<i64> {
        let timeout = self.settings.heartbeat_timeout_ms as i64;
        let sessions = self.sessions.values().map(|s| s.next_heartbeat_ms.min(s.last_heard_ms + timeout));
        let ha = self.ha.iter().filter_map(ha::Leadership::deadline);
        sessions.chain(self.jobs.values().filter_map(JobMaster::deadline)).chain(ha).min()
    }

    fn on_message(&mut self, session: SessionId, message: internal::FromTaskManager, now: i64) {
        let epoch = message.epoch;
        let Some(message) = message.message else { return };
        if let FromTask::Register(register) = message {
            self.register(session, &register, now);
            return;
        }
        let Some(known) = self.sessions.get_mut(&session) else {
            // A connection that was given up; it must register anew.
            self.stale_messages += 1;
            if let FromTask::CheckpointAck(ack) = &message {
                let (checkpoint, attempt) = (ack.checkpoint_id, ack.attempt.clone().unwrap_or_default());
                let task = format!("{}[{}] attempt {}", attempt.vertex_id, attempt.subtask, attempt.attempt);
                tracing::warn!(checkpoint, task, "refused the acknowledgement of a TaskManager that was given up");
            }
            let reason = "this connection is not registered (any more): register again".to_owned();
            self.actions.push(Action::Disconnect { session, reason });
            return;
        };
        if epoch != self.epoch {
            self.stale_messages += 1;
            return;
        }
        known.last_heard_ms = now;
        match message {
            FromTask::Heartbeat(_) | FromTask::Register(_) => {}
            FromTask::Reports(reports) => self.distribute_reports(session, reports, now),
            FromTask::Decommission(notice) => self.on_notice(session, &notice, now),
            message => self.forward(session, message, now),
        }
    }

    fn forward(&mut self, session: SessionId, message: FromTask, now: i64) {
        let attempt = match &message {
            FromTask::TaskState(m) => &m.attempt,
            FromTask::CheckpointAck(m) => &m.attempt,
            FromTask::CheckpointDecline(m) => &m.attempt,
            FromTask::Coordinator(m) => &m.attempt,
            FromTask::EndOfData(m) => &m.attempt,
            FromTask::Collected(m) => &m.attempt,
            FromTask::Register(_) | FromTask::Heartbeat(_) | FromTask::Reports(_) | FromTask::Decommission(_) => return,
        };
        let id = attempt.as_ref().and_then(|attempt| JobId::parse(&attempt.job_id).ok());
        match id.filter(|id| self.jobs.contains_key(id)) {
            Some(id) => self.job(&id, JobEvent::Task { session, message }, now),
            None => self.stale_messages += 1,
        }
    }

    fn distribute_reports(&mut self, session: SessionId, reports: internal::TaskReports, now: i64) {
        let mut by_job: BTreeMap<JobId, Vec<internal::TaskReport>> = BTreeMap::new();
        for report in reports.reports {
            if let Some(id) = report.attempt.as_ref().and_then(|attempt| JobId::parse(&attempt.job_id).ok()) {
                by_job.entry(id).or_default().push(report);
            }
        }
        for (id, reports) in by_job {
            let message = FromTask::Reports(internal::TaskReports { reports });
            self.job(&id, JobEvent::Task { session, message }, now);
        }
    }

    fn register(&mut self, session: SessionId, register: &internal::Register, now: i64) {
        // The same TaskManager over a new connection: whatever ran under the old one is over.
        let same = |t: &TaskManager| t.resource_id == register.resource_id;
        let old = self.pool.iter().find(|(id, t)| *id != session && same(t)).map(|(id, _)| id);
        if let Some(old) = old {
            let reason = "it has registered again over another connection".to_owned();
            self.actions.push(Action::Disconnect { session: old, reason: reason.clone() });
            self.lose(old, &reason, now);
        }
        self.lost.retain(|lost| lost.resource_id != register.resource_id);
        tracing::info!(resource_id = register.resource_id, slots = register.slots, "TaskManager registered");
        let heartbeat = self.settings.heartbeat_interval_ms;
        self.sessions
            .insert(session, Session { last_heard_ms: now, next_heartbeat_ms: now + heartbeat as i64, heartbeats: 0 });
        self.pool.register(session, TaskManager::new(register));
        self.send(
            session,
            ToTask::Registered(internal::Registered {
                jobmanager_id: self.id.clone(),
                heartbeat_interval_ms: heartbeat,
                heartbeat_timeout_ms: self.settings.heartbeat_timeout_ms,
            }),
        );
        if let Some(notice) = &register.decommission {
            self.on_notice(session, notice, now);
        }
        self.drop_state_of_ended_jobs(session, register);
        self.distribute_attempts(session, register, now);
        self.tell_all(|| JobEvent::SlotsChanged, None, now);
    }

    /// A TaskManager that was away when a job ended still has its state on disk.
    fn drop_state_of_ended_jobs(&mut self, session: SessionId, register: &internal::Register) {
        let mut ids: Vec<&String> = register.local_state.iter().map(|state| &state.job_id).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            let job = JobId::parse(id).ok().and_then(|id| self.jobs.get(&id));
            if job.is_some_and(|job| job.state().is_terminal()) {
                let ended = internal::JobEnded { job_id: id.clone(), drop_local_state: true };
                self.send(session, ToTask::JobEnded(ended));
            }
        }
    }

    fn lose(&mut self, session: SessionId, reason: &str, now: i64) {
        self.sessions.remove(&session);
        let Some(taskmanager) = self.pool.remove(session) else { return };
        let (resource_id, announced) = (taskmanager.resource_id, taskmanager.notice.is_some());
        // Without a job that may need it, this is how an orderly shutdown looks.
        if taskmanager.drained {
            tracing::info!(resource_id, reason, "a decommissioned TaskManager has gone");
        } else if self.jobs.values().any(|job| !job.state().is_terminal()) {
            tracing::warn!(resource_id, reason, "TaskManager lost");
            self.lost.push_back(v1::LostTaskManager {
                resource_id: resource_id.clone(),
                data_address: taskmanager.data_address,
                time_ms: now,
                reason: reason.to_owned(),
            });
            if self.lost.len() > LOST_KEPT {
                self.lost.pop_front();
            }
        } else {
            tracing::info!(resource_id, reason, "TaskManager gone");
        }
        let lost = || JobEvent::TaskManagerLost {
            session,
            resource_id: resource_id.clone(),
            reason: reason.to_owned(),
            announced,
        };
        self.tell_all(lost, None, now);
    }

    /// The epoch that messages carry.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The job of this id.
    ///
    /// # Errors
    /// There is none, or it ended long ago.
    pub fn find(&self, id: &str) -> Result<&JobMaster> {
        let job = JobId::parse(id).ok().and_then(|id| self.jobs.get(&id));
        job.ok_or_else(|| SchedulerError::UnknownJob(id.to_owned()))
    }

    /// All jobs, in the order of their ids.
    pub fn jobs(&self) -> impl Iterator<Item = &JobMaster> {
        self.jobs.values()
    }

    /// A job, to be broken by a test of the simulator.
    #[doc(hidden)]
    pub fn job_mut(&mut self, id: &JobId) -> Option<&mut JobMaster> {
        self.jobs.get_mut(id)
    }

    /// The slots of all TaskManagers.
    pub fn pool(&self) -> &SlotPool {
        &self.pool
    }

    /// Messages refused because of their epoch, connection or job.
    pub fn stale_messages(&self) -> u64 {
        self.stale_messages
    }

    /// TaskManagers and slots.
    pub fn overview(&self) -> v1::ClusterOverviewResponse {
        let taskmanager = |(session, t): (SessionId, &TaskManager)| v1::TaskManagerInfo {
            resource_id: t.resource_id.clone(),
            data_address: t.data_address.clone(),
            slots: t.slots.len() as u32,
            slots_free: t.free() as u32,
            pid: t.pid,
            metrics_address: t.metrics_address.clone(),
            last_heard_time_ms: self.sessions.get(&session).map_or(0, |s| s.last_heard_ms),
            state: t.state().to_owned(),
            notice_source: t.notice.as_ref().map_or(String::new(), |notice| notice.source.clone()),
            notice_time_ms: t.notice.as_ref().map_or(0, |notice| notice.since_ms),
            notice_deadline_ms: t.notice.as_ref().and_then(|notice| notice.deadline_ms).unwrap_or(0),
        };
        v1::ClusterOverviewResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: String::new(),
            slots_total: self.pool.total() as u32,
            slots_free: self.pool.free() as u32,
            taskmanagers: self.pool.iter().map(taskmanager).collect(),
            lost: self.lost.iter().cloned().collect(),
        }
    }
}
