//! The tasks of a TaskManager and the messages to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hurtig_graph::config::keys;
use hurtig_graph::ids::AttemptId;
use hurtig_proto::internal::v1 as internal;
use hurtig_state::StateError;
use hurtig_state::backend::{MemoryPool, SharedRocks};
use hurtig_state::local::LocalStateStore;
use hurtig_state::storage::ObjectStores;
use internal::from_task_manager::Message;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::collect::Collect;
use super::config::TaskManagerConfig;
use super::databases::DatabaseFolders;
use super::decommission::Decommission;
use super::deploy::{self, Built};
use super::figures::{ProcessFigures, TaskFigures};
use super::memory::StateMemory;
use super::pool::ThreadPool;
use super::session::Session;
use crate::element::Barrier;
use crate::error::{EngineError, Result};
use crate::exchange::ChannelRegistry;
use crate::exchange::network::ExchangeNetwork;
use crate::executor::BackgroundExecutor;
use crate::registry::OperatorRegistry;
use crate::task::slot::SlotThread;
use crate::task::{TaskHandle, TaskMessage, TaskMetrics};

/// How often tasks that are awaited are checked for taking too long.
const STUCK_CHECK: Duration = Duration::from_millis(500);

/// A task on this TaskManager.
struct Entry {
    state: State,
    /// Since when it is being cancelled (monotonic, microseconds).
    cancelled_us: Option<u64>,
    /// It has been reported that it does not end.
    stuck: bool,
    /// To whoever deployed it or has taken it over.
    session: Session,
}

enum State {
    /// Being built and restored; messages wait.
    Building(Vec<TaskMessage>),
    Running(Box<RunningTask>),
}

struct RunningTask {
    handle: TaskHandle,
    metrics: Arc<TaskMetrics>,
    figures: TaskFigures,
    collect: Arc<Collect>,
    /// With a thread for each task: that of this one.
    _thread: Option<SlotThread>,
}

/// Everything that deployments share. See the module documentation.
pub struct Core {
    pub(super) config: TaskManagerConfig,
    pub(super) data_address: String,
    pub(super) instance_id: String,
    pub(super) registry: Arc<OperatorRegistry>,
    pub(super) stores: Arc<ObjectStores>,
    pub(super) channels: Arc<ChannelRegistry>,
    pub(super) network: ExchangeNetwork,
    pub(super) rocks: Arc<SharedRocks>,
    /// Bytes that the databases' shared cache may take.
    rocks_bytes: usize,
    figures: ProcessFigures,
    /// By slot: what the live state of its tasks may take.
    slot_memory: Vec<Arc<MemoryPool>>,
    pub(super) databases: DatabaseFolders,
    /// `None`: local recovery is off.
    pub(super) local: Option<Arc<LocalStateStore>>,
    pub(super) pool: Arc<ThreadPool>,
    slots: Mutex<Vec<SlotThread>>,
    tasks: Mutex<BTreeMap<AttemptId, Entry>>,
    /// Tasks that have ended, for the next leader: the last attempt of each subtask.
    ended: Mutex<BTreeMap<AttemptId, Session>>,
    task_gone: Notify,
    pub(super) decommission: Decommission,
    me: Weak<Core>,
}

impl Core {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has no more threads, or the local state's folder cannot be opened.
    pub fn new(
        config: TaskManagerConfig,
        data_address: String,
        registry: Arc<OperatorRegistry>,
        stores: Arc<ObjectStores>,
        runtime: Handle,
    ) -> Result<Arc<Core>> {
        let threads = |source| EngineError::Io { context: "cannot start the TaskManager's threads".into(), source };
        let mut slots = Vec::new();
        if !config.thread_per_task {
            for i in 0..config.slots {
                slots.push(SlotThread::start(format!("slot-{i}"), Arc::clone(&config.clock)).map_err(threads)?);
            }
        }
        let databases = DatabaseFolders::open(&config)?;
        let memory = StateMemory::from_configuration(&config.configuration, config.slots)?;
        let pool = ThreadPool::new("background");
        let rocks = Arc::new(SharedRocks::new(memory.rocks));
        let slot_memory = (0..config.slots).map(|_| MemoryPool::new(memory.slot_bytes)).collect();
        let set = |option| Ok::<bool, EngineError>(config.configuration.bool(option)?.unwrap_or(false));
        let local = if set(&keys::RECOVERY_FROM_LOCAL)? || set(&keys::CHECKPOINTING_LOCAL_BACKUP)? {
            Some(Arc::new(LocalStateStore::open(&config.work_dir)?))
        } else {
            None
        };
        Ok(Arc::new_cyclic(|me| Core {
            channels: Arc::new(ChannelRegistry::new(config.exchange.clone())),
            network: ExchangeNetwork::new(runtime, config.exchange.clone()),
            rocks,
            rocks_bytes: memory.rocks.cache_bytes,
            figures: ProcessFigures::new(&config.host, &config.resource_id),
            slot_memory,
            databases,
            local,
            instance_id: uuid::Uuid::new_v4().simple().to_string(),
            config,
            data_address,
            registry,
            stores,
            pool,
            slots: Mutex::new(slots),
            tasks: Mutex::default(),
            ended: Mutex::default(),
            task_gone: Notify::new(),
            decommission: Decommission::new(),
            me: Weak::clone(me),
        }))
    }

    /// What the live state of a slot's tasks may take.
    pub(super) fn slot_memory(&self, slot: u32) -> Arc<MemoryPool> {
        self.slot_memory.get(slot as usize).map_or_else(MemoryPool::unlimited, Arc::clone)
    }

    /// Where others reach the exchange.
    pub fn data_address(&self) -> &str {
        &self.data_address
    }

    /// All channels of the process.
    pub fn channels(&self) -> &Arc<ChannelRegistry> {
        &self.channels
    }

    /// The registration of this TaskManager.
    pub fn register_message(&self) -> Message {
        Message::Register(internal::Register {
            resource_id: self.config.resource_id.clone(),
            instance_id: self.instance_id.clone(),
            data_address: self.data_address.clone(),
            slots: self.config.slots,
            pid: u64::from(std::process::id()),
            local_state: self.local.as_ref().map(|l| l.inventory()).unwrap_or_default(),
            version: self.config.version.clone(),
            metrics_address: self.config.metrics_address.clone(),
            attempts: self.attempts(),
            decommission: self.decommission.message(),
        })
    }

    /// What runs here or has ended, deployed by leaders that are no more.
    fn attempts(&self) -> Vec<internal::RunningAttempt> {
        let mut all: Vec<_> = self.ended.lock().values().filter_map(Session::report).collect();
        let tasks = self.tasks.lock();
        all.extend(tasks.values().filter(|e| e.cancelled_us.is_none()).filter_map(|e| e.session.report()));
        all
    }

    /// The JobManager is lost: what tasks report is kept for the next one.
    pub fn detach(&self) {
        self.tasks.lock().values().for_each(|entry| entry.session.detach());
        self.ended.lock().values().for_each(Session::detach);
    }

    /// Whether tasks run on without their JobManager.
    pub fn has_tasks(&self) -> bool {
        !self.tasks.lock().is_empty()
    }

    // ---- deployment -----------------------------------------------------------------------------

    /// Builds and starts a task, in the background.
    pub fn deploy(&self, deployment: internal::TaskDeployment, session: &Session) {
        let attempt = match attempt_of(deployment.attempt.as_ref()) {
            Ok(attempt) => attempt,
            Err(error) => return tracing::warn!(%error, "dropped a deployment without a usable attempt"),
        };
        let session = &match &self.config.ha {
            Some(_) => session.recorded(&deployment),
            None => session.clone(),
        };
        if let Err(reason) = self.admit(&attempt, session) {
            tracing::warn!(task = %attempt, reason, "refused a deployment");
            return session.task_state(&attempt, "FAILED", &reason, None);
        }
        session.task_state(&attempt, "INITIALIZING", "", None);
        let (core, session) = (self.me.clone(), session.clone());
        let span = deploy::task_info(&deployment, &attempt).span();
        self.pool.spawn(Box::new(move || {
            let _entered = span.entered();
            let Some(core) = core.upgrade() else { return };
            let (slot, restored) = (deployment.slot, deployment.restore_checkpoint_id);
            let built = crate::task::panics::guard(|| deploy::build(&core, deployment, &attempt, &session));
            match built.map_err(EngineError::Internal).and_then(|b| b) {
                Ok(built) => core.start(&attempt, slot, built),
                Err(error) => core.failed_to_build(&attempt, &session, &error, restored),
            }
        }));
    }

    fn admit(&self, attempt: &AttemptId, session: &Session) -> Result<(), String> {
        let mut tasks = self.tasks.lock();
        let now_us = self.config.clock.monotonic_us();
        let others = tasks.iter_mut().filter(|(id, _)| same_subtask(id, attempt));
        for (id, entry) in others {
            if id.attempt >= attempt.attempt {
                return Err(format!("attempt {} of this subtask runs here already", id.attempt));
            }
            entry.cancel(now_us);
        }
        let session = session.clone();
        let entry = Entry { state: State::Building(Vec::new()), cancelled_us: None, stuck: false, session };
        tasks.insert(attempt.clone(), entry);
        self.ended.lock().retain(|id, _| !same_subtask(id, attempt));
        Ok(())
    }

    fn failed_to_build(&self, attempt: &AttemptId, session: &Session, error: &EngineError, restored: u64) {
        let cancelled = self.tasks.lock().get(attempt).is_some_and(|e| e.cancelled_us.is_some());
        if cancelled {
            session.task_state(attempt, "CANCELED", "", None);
        } else {
            tracing::warn!(task = %attempt, %error, "a task could not be started");
            let broken = matches!(error, EngineError::State(StateError::Corrupt(_) | StateError::NotFound(_)));
            session.not_started(attempt, &error.to_string(), (broken && restored > 0).then_some(restored));
        }
        self.forget(attempt);
        self.task_gone.notify_waiters();
    }

    fn start(&self, attempt: &AttemptId, slot: u32, built: Built) {
        let Built { task, notify_thread, operators, collect } = built;
        let (handle, metrics) = (task.handle(), Arc::clone(task.metrics()));
        let own = if self.config.thread_per_task {
            match SlotThread::start(format!("{attempt}"), Arc::clone(&self.config.clock)) {
                Ok(thread) => Some(thread),
                Err(error) => {
                    handle.send(TaskMessage::Fail(format!("cannot start a thread for the task: {error}")));
                    None
                }
            }
        } else {
            None
        };
        let unpark = match &own {
            Some(thread) => Some(thread.unpark()),
            None => self.slots.lock().get(slot as usize).map(SlotThread::unpark),
        };
        notify_thread.set(unpark);
        let figures = TaskFigures::new(
            &self.config.host,
            &self.config.resource_id,
            task.info(),
            &operators,
            Arc::clone(&metrics),
        );
        let mut task = Some(task);
        {
            let mut tasks = self.tasks.lock();
            if let Some(entry) = tasks.get_mut(attempt) {
                if let State::Building(waiting) = &mut entry.state {
                    waiting.drain(..).for_each(|message| handle.send(message));
                }
                if entry.cancelled_us.is_some() {
                    handle.cancel();
                }
                if let (Some(thread), Some(task)) = (&own, task.take_if(|_| own.is_some())) {
                    thread.submit(task);
                }
                entry.state = State::Running(Box::new(RunningTask { handle, metrics, figures, collect, _thread: own }));
            }
        }
        let Some(mut task) = task else { return };
        match self.slots.lock().get(slot as usize) {
            Some(slot) => slot.submit(task),
            // The TaskManager is shutting down, or the JobManager counts more slots than there are.
            None => task.end(&crate::task::Outcome::Failed(format!("this TaskManager has no slot {slot}"))),
        }
    }

    /// A task has ended: its last figures and its state are sent, then it is forgotten.
    pub fn task_ended(&self, attempt: &AttemptId, session: &Session, state: &str, error: &str) {
        let report = match self.tasks.lock().get_mut(attempt) {
            Some(Entry { state: State::Running(running), .. }) => Some(self.publish_figures(attempt, running)),
            _ => None,
        };
        if let Some(report) = report {
            session.send(Message::Reports(internal::TaskReports { reports: vec![report] }));
        }
        session.task_state(attempt, state, error, None);
        self.forget(attempt);
        self.task_gone.notify_waiters();
    }

    /// A task is no more; how it ended is kept where another leader may ask.
    fn forget(&self, attempt: &AttemptId) {
        let entry = {
            let mut tasks = self.tasks.lock();
            let entry = tasks.remove(attempt);
            if let Some(entry) =
                entry.as_ref().filter(|entry| entry.cancelled_us.is_none() && entry.session.is_recorded())
            {
                self.ended.lock().insert(attempt.clone(), entry.session.clone());
            }
            entry
        };
        // Outside of the lock: with it goes the task's thread.
        drop(entry);
    }

    // ---- messages -------------------------------------------------------------------------------

    /// Applies a message of the JobManager, other than the registration, heartbeats and shutdown.
    pub fn handle(&self, message: internal::to_task_manager::Message, session: &Session) {
        use internal::to_task_manager::Message as M;
        match message {
            M::Deploy(deployment) => self.deploy(deployment, session),
            M::Cancel(cancel) => self.cancel(cancel.attempt.as_ref(), session),
            M::TriggerCheckpoint(trigger) => self.trigger(trigger, session),
            M::CheckpointComplete(m) => self.complete(&m, session),
            M::CheckpointAborted(m) => self.to_job(&m.job_id, session, || TaskMessage::Aborted(m.checkpoint_id)),
            M::Adopt(adopt) => self.adopt(&adopt, session),
            M::Coordinator(m) => {
                self.note(m.attempt.as_ref(), |session| session.received(&m.operator_uid, &m.payload));
                let message = TaskMessage::Coordinator { uid: m.operator_uid, payload: m.payload };
                self.to_task(m.attempt.as_ref(), message);
            }
            M::JobEnded(ended) => self.job_ended(&ended),
            M::CollectAck(ack) => self.collect_ack(&ack),
            M::Decommission(notice) => {
                let remaining = Some(notice.remaining_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
                self.decommission.notice(&notice.source, remaining);
            }
            M::Drained(_) => self.decommission.set_drained(),
            M::Registered(_) | M::Heartbeat(_) | M::Shutdown(_) => {}
        }
    }

    fn cancel(&self, attempt: Option<&internal::AttemptId>, session: &Session) {
        let Ok(attempt) = attempt_of(attempt) else { return };
        let now_us = self.config.clock.monotonic_us();
        match self.tasks.lock().get_mut(&attempt) {
            Some(entry) => entry.cancel(now_us),
            // It has ended, or its deployment was lost: either way it does not run.
            None => session.task_state(&attempt, "CANCELED", "", None),
        }
    }

    fn trigger(&self, trigger: internal::TriggerCheckpoint, session: &Session) {
        let stopping = trigger.stop() != internal::StopMode::None;
        self.note(trigger.attempt.as_ref(), |session| session.triggered(trigger.checkpoint_id, stopping));
        let attempt = trigger.attempt.clone().unwrap_or_default();
        let barrier = Barrier {
            checkpoint: trigger.checkpoint_id,
            timestamp_ms: trigger.timestamp_ms,
            stop: trigger.stop(),
            savepoint: trigger.savepoint.then_some(trigger.target),
            unaligned: trigger.unaligned,
            aligned_timeout_ms: trigger.aligned_timeout_ms,
            at_least_once: trigger.at_least_once,
        };
        let refusal = match attempt_of(Some(&attempt)).ok().as_ref().and_then(|a| {
            let tasks = self.tasks.lock();
            tasks.get(a).map(|entry| match &entry.state {
                State::Running(running) => {
                    running.handle.send(TaskMessage::Trigger(barrier));
                    None
                }
                State::Building(_) => Some("the task is not running yet"),
            })
        }) {
            Some(None) => return,
            Some(Some(reason)) => reason,
            None => "the task does not run here",
        };
        session.decline(attempt, trigger.checkpoint_id, refusal);
    }

    fn to_task(&self, attempt: Option<&internal::AttemptId>, message: TaskMessage) {
        let Ok(attempt) = attempt_of(attempt) else { return };
        match self.tasks.lock().get_mut(&attempt) {
            Some(entry) => entry.send(message),
            None => tracing::debug!(task = %attempt, "dropped a message to a task that does not run here"),
        }
    }

    /// To the tasks of a job that this leader has deployed or taken over, and to no other.
    fn to_job(&self, job: &str, session: &Session, message: impl Fn() -> TaskMessage) {
        let mut tasks = self.tasks.lock();
        let own = |attempt: &AttemptId, entry: &Entry| attempt.job.as_str() == job && entry.session.is_of(session);
        for (_, entry) in tasks.iter_mut().filter(|(attempt, entry)| own(attempt, entry)) {
            entry.send(message());
        }
    }

    fn complete(&self, complete: &internal::CheckpointComplete, session: &Session) {
        let checkpoint = complete.checkpoint_id;
        self.to_job(&complete.job_id, session, || TaskMessage::Complete(checkpoint));
        for entry in self.tasks.lock().values().filter(|entry| entry.session.is_of(session)) {
            entry.session.completed(&complete.job_id, checkpoint);
        }
    }

    fn note(&self, attempt: Option<&internal::AttemptId>, f: impl FnOnce(&Session)) {
        if let Some(entry) = attempt_of(attempt).ok().and_then(|a| self.tasks.lock().get(&a).map(|e| e.session.clone()))
        {
            f(&entry);
        }
    }

    /// A new leader takes tasks over: what they report goes to it from now on.
    fn adopt(&self, adopt: &internal::AdoptTasks, session: &Session) {
        for id in &adopt.attempts {
            let Ok(attempt) = attempt_of(Some(id)) else { continue };
            let running = self.tasks.lock().get(&attempt).map(|entry| entry.session.clone());
            let kept = running.or_else(|| self.ended.lock().get(&attempt).cloned());
            match kept {
                Some(kept) => kept.adopt(session),
                None => session.task_state(&attempt, "FAILED", "it ended while there was no JobManager", None),
            }
        }
    }

    fn collect_ack(&self, ack: &internal::CollectAck) {
        let Ok(attempt) = attempt_of(ack.attempt.as_ref()) else { return };
        let collect = match self.tasks.lock().get(&attempt) {
            Some(Entry { state: State::Running(running), .. }) => Some(Arc::clone(&running.collect)),
            _ => None,
        };
        if let Some(collect) = collect {
            collect.confirm(ack.sequence);
        }
    }

    fn job_ended(&self, ended: &internal::JobEnded) {
        let now_us = self.config.clock.monotonic_us();
        for (_, entry) in self.tasks.lock().iter_mut().filter(|(a, _)| a.job.as_str() == ended.job_id) {
            entry.cancel(now_us);
        }
        self.ended.lock().retain(|attempt, _| attempt.job.as_str() != ended.job_id);
        self.channels.forget_job(&ended.job_id);
        if let Some(local) = self.local.clone().filter(|_| ended.drop_local_state) {
            let job = ended.job_id.clone();
            self.pool.spawn(Box::new(move || local.drop_job(&job)));
        }
    }

    // ---- periodic work and the end --------------------------------------------------------------

    /// Reports the figures of all tasks of `session`.
    pub fn report(&self, session: &Session) {
        let mut reports = Vec::new();
        let (mut queued, mut limit) = (0, 0);
        for (attempt, entry) in self.tasks.lock().iter_mut() {
            if let State::Running(running) = &mut entry.state {
                reports.push(self.publish_figures(attempt, running));
                queued += running.metrics.queued_bytes();
                limit += running.metrics.input_queues().limit;
                running.handle.send(TaskMessage::Probe { sent_us: self.config.clock.monotonic_us() });
            }
        }
        let total = self.config.exchange.budget_bytes.unwrap_or(limit);
        self.figures.publish((queued, total), (self.rocks.memory_usage(), self.rocks_bytes));
        if !reports.is_empty() {
            session.send(Message::Reports(internal::TaskReports { reports }));
        }
    }

    fn publish_figures(&self, attempt: &AttemptId, running: &mut RunningTask) -> internal::TaskReport {
        let clock = &self.config.clock;
        let (now_us, waiting) = (clock.monotonic_us(), running.handle.waiting());
        running.figures.publish(now_us, clock.now_ms(), waiting);
        let mut details = running.figures.details(now_us, waiting);
        details.subtask = attempt.subtask;
        details.attempt = attempt.attempt;
        internal::TaskReport { attempt: Some(attempt.to_proto()), metrics: Some(details) }
    }

    /// Looks for a task that takes too long to cancel. One that is found for the first time is fatal
    /// (see [`OnFatal`](super::config::OnFatal)); where that does not end the process, gives the
    /// reason.
    pub fn stuck(&self) -> Option<String> {
        let timeout = self.config.cancellation_timeout;
        if timeout.is_zero() {
            return None;
        }
        let now_us = self.config.clock.monotonic_us();
        let timeout_us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        let too_long =
            |e: &Entry| !e.stuck && e.cancelled_us.is_some_and(|since| now_us.saturating_sub(since) > timeout_us);
        let attempt = {
            let mut tasks = self.tasks.lock();
            let (attempt, entry) = tasks.iter_mut().find(|(_, entry)| too_long(entry))?;
            entry.stuck = true;
            attempt.clone()
        };
        let reason = format!("task {attempt} did not end within {} ms of being cancelled", timeout.as_millis());
        (self.config.on_fatal)(&reason);
        Some(reason)
    }

    /// Cancels all tasks and waits until they have ended.
    pub async fn cancel_all(&self) {
        loop {
            let gone = self.task_gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            let now_us = self.config.clock.monotonic_us();
            {
                let mut tasks = self.tasks.lock();
                if tasks.is_empty() {
                    return;
                }
                tasks.values_mut().for_each(|entry| entry.cancel(now_us));
            }
            if tokio::time::timeout(STUCK_CHECK, gone).await.is_err() {
                self.stuck();
            }
        }
    }

    /// Makes threads end, without waiting.
    pub fn begin_shut_down(&self) {
        self.slots.lock().iter().for_each(SlotThread::stop);
    }

    /// Ends all threads. Blocks.
    pub fn shut_down(&self) {
        let slots = std::mem::take(&mut *self.slots.lock());
        slots.iter().for_each(SlotThread::stop);
        drop(slots);
        self.pool.stop();
    }
}

impl Entry {
    fn send(&mut self, message: TaskMessage) {
        match &mut self.state {
            State::Building(waiting) => waiting.push(message),
            State::Running(running) => running.handle.send(message),
        }
    }

    fn cancel(&mut self, now_us: u64) {
        self.cancelled_us.get_or_insert(now_us);
        if let State::Running(running) = &self.state {
            running.handle.cancel();
        }
    }
}

fn same_subtask(a: &AttemptId, b: &AttemptId) -> bool {
    a.job == b.job && a.vertex == b.vertex && a.subtask == b.subtask
}

fn attempt_of(proto: Option<&internal::AttemptId>) -> Result<AttemptId> {
    let proto = proto.ok_or_else(|| EngineError::Validation("a message without an attempt".into()))?;
    Ok(AttemptId::from_proto(proto)?)
}
