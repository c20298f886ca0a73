//! The one task that owns the state machine. It turns commands and the clock into events, and
//! actions into messages, storage calls and answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hurtig_graph::connector::ConnectorCatalog;
use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::v1;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::collect::CollectQueue;
use super::leadership::{HaServices, Role};
use super::metrics::JobMetrics;
use super::submit::SubmitContext;
use crate::checkpoint::SavepointWish;
use crate::error::{Result, SchedulerError};
use crate::ha::{self, HaStorage};
use crate::job::{JobAction, JobEvent, Submission};
use crate::master::{Action, Event, Master};
use crate::slots::SessionId;
use crate::storage::{self, CheckpointStorage};

/// At most this long between two looks at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How often figures that change by themselves, as the uptime, are renewed. An exporter that forgets
/// what is not renewed must wait longer.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// How long the end waits for storage calls.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);

/// Wall-clock time that never goes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(0) }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.started_ms + i64::try_from(self.started.elapsed().as_millis()).unwrap_or(0)
    }

    pub(super) fn instant(&self, ms: i64) -> tokio::time::Instant {
        let after = Duration::from_millis(ms.saturating_sub(self.now_ms()).max(0) as u64);
        tokio::time::Instant::now() + after.min(LONGEST_SLEEP)
    }
}

/// The stream to one TaskManager. Dropping it ends the streams in both directions.
pub(super) struct SessionStream {
    pub(super) to: mpsc::UnboundedSender<std::result::Result<internal::ToTaskManager, tonic::Status>>,
    /// Its reader stops when this is dropped.
    pub(super) _open: oneshot::Sender<()>,
}

/// What the driver is asked.
#[allow(clippy::large_enum_variant, reason = "the large one comes once for each recovered job")]
pub(super) enum Command {
    /// For the state machine.
    Event(Event),
    /// A TaskManager has connected.
    Attach(SessionId, SessionStream),
    /// Looks at, or changes, what the driver holds.
    Ask(Box<dyn FnOnce(&mut Driver) + Send>),
    /// The graph of a job of an earlier leader was read and planned.
    Recovered(Box<internal::RegisteredJob>, Result<Prepared>),
}

/// A job ready to be run.
pub(super) type Prepared = (Submission, Arc<dyn CheckpointStorage>);

/// Of one term of leadership.
pub(super) struct Term {
    pub(super) epoch: u64,
    pub(super) leader_id: String,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) role: Role,
    /// Told when a write of this term was refused.
    pub(super) deposed: mpsc::UnboundedSender<(u64, String)>,
    pub(super) services: HaServices,
}

/// A job's parts that are not in the state machine.
struct JobParts {
    storage: Arc<dyn CheckpointStorage>,
    status: watch::Sender<v1::JobStatus>,
    rows: Option<Arc<CollectQueue>>,
    metrics: JobMetrics,
}

/// See the module documentation.
pub(super) struct Driver {
    pub(super) master: Master,
    clock: Clock,
    catalog: Arc<dyn ConnectorCatalog>,
    commands: mpsc::UnboundedSender<Command>,
    runtime: Handle,
    sessions: BTreeMap<SessionId, SessionStream>,
    jobs: BTreeMap<JobId, JobParts>,
    savepoints: BTreeMap<u64, oneshot::Sender<Result<String>>>,
    next_savepoint: u64,
    calls: JoinSet<()>,
    context: Arc<SubmitContext>,
    /// With high availability.
    term: Option<Term>,
    over: bool,
    /// Submissions that wait for the registry.
    submissions: BTreeMap<JobId, Vec<oneshot::Sender<Result<bool>>>>,
}

impl Driver {
    pub(super) fn new(
        master: Master,
        clock: Clock,
        catalog: Arc<dyn ConnectorCatalog>,
        commands: mpsc::UnboundedSender<Command>,
        runtime: Handle,
        context: Arc<SubmitContext>,
    ) -> Self {
        Driver {
            master,
            clock,
            catalog,
            commands,
            runtime,
            sessions: BTreeMap::new(),
            jobs: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            next_savepoint: 1,
            calls: JoinSet::new(),
            context,
            term: None,
            over: false,
            submissions: BTreeMap::new(),
        }
    }

    /// The driver is that of one term of leadership.
    pub(super) fn of_term(mut self, term: Term) -> Self {
        self.term = Some(term);
        self
    }

    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, mut stop: watch::Receiver<bool>) {
        let actions = self.master.lead(self.clock.now_ms());
        self.carry_out(actions);
        let mut renewal = tokio::time::interval(METRICS_INTERVAL);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.over {
            let deadline = self.master.deadline().unwrap_or(i64::MAX);
            if deadline <= self.clock.now_ms() {
                // Before the next command: a flood of result rows must not hold up heartbeats.
                self.event(Event::Tick);
            }
            let wake = self.clock.instant(self.master.deadline().unwrap_or(i64::MAX));
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(_) = self.calls.join_next() => {}
                _ = renewal.tick() => self.renew_metrics(),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        if self.term.is_some() {
            let actions = self.master.suspend(self.clock.now_ms());
            self.carry_out(actions);
            // What is under way must not be waited for: the next leader fences it off.
            self.calls.abort_all();
        }
        // Streams end, and with them the services.
        self.sessions.clear();
        self.savepoints.clear();
        for parts in self.jobs.values() {
            if let Some(rows) = &parts.rows {
                rows.close(Err(match self.term {
                    Some(_) => SchedulerError::LeadershipLost,
                    None => SchedulerError::Stopped,
                }));
            }
        }
        let drain = async { while self.calls.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_PATIENCE, drain).await.is_err() {
            tracing::warn!("the JobManager stops although storage calls have not ended");
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Event(event) => self.event(event),
            Command::Attach(session, stream) => {
                self.sessions.insert(session, stream);
            }
            Command::Ask(ask) => ask(self),
            Command::Recovered(entry, Ok(prepared)) => self.recover(&entry, prepared),
            Command::Recovered(entry, Err(error)) => {
                let actions = self.master.cannot_recover(&entry, &error.to_string(), self.clock.now_ms());
                self.carry_out(actions);
            }
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        if let Event::Disconnected { session, .. } = &event {
            self.sessions.remove(session);
        }
        let slots = self.master.pool().total();
        let actions = self.master.handle(event, self.clock.now_ms());
        self.carry_out(actions);
        if self.master.pool().total() != slots {
            self.publish_cluster_metrics();
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { session, message } => {
                    if let Some(stream) = self.sessions.get(&session) {
                        // A closed stream is reported by its reader.
                        let _ = stream.to.send(Ok(*message));
                    }
                }
                Action::Disconnect { session, reason } => {
                    if let Some(stream) = self.sessions.remove(&session) {
                        let _ = stream.to.send(Err(tonic::Status::aborted(reason)));
                    }
                }
                Action::Job { job, action } => self.carry_out_job(&job, action),
                action => self.carry_out_ha(action),
            }
        }
    }

    fn carry_out_job(&mut self, job: &JobId, action: JobAction) {
        match action {
            JobAction::Storage { ticket, request } => self.call_storage(job, ticket, request),
            JobAction::Discover { operator_uid, incarnation, options } => {
                self.discover(job, operator_uid, incarnation, options);
            }
            JobAction::Rows(batch) => {
                if let Some(rows) = self.jobs.get(job).and_then(|parts| parts.rows.as_ref()) {
                    rows.push(batch);
                }
            }
            JobAction::SavepointDone { request, result } => {
                if let Some(answer) = self.savepoints.remove(&request) {
                    let _ = answer.send(result);
                }
            }
            JobAction::Changed => self.publish(job),
            // The master turns them into messages and changes of the registry.
            JobAction::Send { .. } | JobAction::Ended(_) | JobAction::ReserveAttempts | JobAction::Deposed => {}
        }
    }

    fn carry_out_ha(&mut self, action: Action) {
        match action {
            Action::Ha { ticket, request } => self.call_ha(move |storage, commands| async move {
                let reply = ha::storage::perform(storage.as_ref(), request).await;
                let _ = commands.send(Command::Event(Event::Ha { ticket, reply }));
            }),
            Action::Recover(entry) => {
                let context = self.context.clone();
                self.call_ha(move |storage, commands| async move {
                    let prepared = context.prepare_recovered(storage, &entry).await;
                    let _ = commands.send(Command::Recovered(entry, prepared));
                });
            }
            Action::Open => self.open(),
            Action::Submitted { job, result } => {
                if !matches!(result, Ok(true)) {
                    self.jobs.retain(|id, _| *id != job || self.master.find(id.as_str()).is_ok());
                }
                for (i, answer) in self.submissions.remove(&job).unwrap_or_default().into_iter().enumerate() {
                    // Of several that came with one id, the first has made it.
                    let _ = answer.send(result.clone().map(|created| created && i == 0));
                }
            }
            Action::DeleteGraph(name) => self.call_ha(move |storage, _| async move {
                if let Err(error) = storage.delete_graph(&name).await {
                    tracing::warn!(%error, name, "a job graph cannot be deleted");
                }
            }),
            Action::StepDown(reason) => {
                metrics::counter!("hurtig_ha_fenced_writes_total").increment(1);
                self.over = true;
                if let Some(term) = &self.term {
                    let _ = term.deposed.send((term.epoch, reason));
                }
            }
            Action::Send { .. } | Action::Disconnect { .. } | Action::Job { .. } => {}
        }
    }

    fn call_ha<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        call: impl FnOnce(Arc<dyn HaStorage>, mpsc::UnboundedSender<Command>) -> F,
    ) {
        let Some(term) = &self.term else { return };
        self.calls.spawn_on(call(term.services.storage.clone(), self.commands.clone()), &self.runtime);
    }

    /// All jobs of earlier leaders are known.
    fn open(&mut self) {
        let Some(term) = &self.term else { return };
        let epoch = term.epoch;
        term.role.lead(term.commands.clone(), epoch);
        tracing::info!(epoch, jobs = self.master.jobs().count(), "the jobs of the cluster are taken over");
        self.call_ha(move |storage, _| async move {
            if let Err(error) = storage.sweep_graphs(epoch).await {
                tracing::warn!(%error, "job graphs that nothing needs cannot be deleted");
            }
        });
    }

    fn recover(&mut self, entry: &internal::RegisteredJob, (submission, storage): Prepared) {
        let job = submission.job.clone();
        self.add_parts(&submission, storage);
        let actions = self.master.recover(submission, entry, self.clock.now_ms());
        self.carry_out(actions);
        self.publish(&job);
    }

    fn call_storage(&mut self, job: &JobId, ticket: u64, request: storage::StorageRequest) {
        let Some(parts) = self.jobs.get(job) else { return };
        let (storage, commands, job) = (parts.storage.clone(), self.commands.clone(), job.clone());
        self.calls.spawn_on(
            async move {
                let reply = storage::perform(storage.as_ref(), request).await;
                let event = Box::new(JobEvent::Storage { ticket, reply });
                let _ = commands.send(Command::Event(Event::Job { job, event }));
            },
            &self.runtime,
        );
    }

    fn discover(&mut self, job: &JobId, operator_uid: String, incarnation: u64, options: BTreeMap<String, String>) {
        let (catalog, commands, job) = (self.catalog.clone(), self.commands.clone(), job.clone());
        self.runtime.spawn_blocking(move || {
            let splits = catalog.discover_splits(&options).map_err(|error| error.message);
            let event = Box::new(JobEvent::Discovered { operator_uid, incarnation, splits });
            let _ = commands.send(Command::Event(Event::Job { job, event }));
        });
    }

    /// Tells watchers and metrics what has become of a job.
    fn publish(&mut self, job: &JobId) {
        let (Ok(master), Some(parts)) = (self.master.find(job.as_str()), self.jobs.get_mut(job)) else { return };
        let status = master.status();
        parts.metrics.update(&status, master.checkpoints(), self.clock.now_ms());
        if master.state().is_terminal()
            && let Some(rows) = &parts.rows
        {
            rows.close(match status.state.as_str() {
                "FINISHED" => Ok(()),
                "SUSPENDED" => Err(SchedulerError::LeadershipLost),
                "CANCELED" => Err(SchedulerError::JobFailed(match master.cancel_reason() {
                    "" => "the job was cancelled".into(),
                    reason => format!("the job was {reason}"),
                })),
                _ => Err(SchedulerError::JobFailed(status.root_cause.clone())),
            });
        }
        parts.status.send_replace(status);
        self.publish_cluster_metrics();
    }

    fn renew_metrics(&mut self) {
        let now = self.clock.now_ms();
        for (job, parts) in &mut self.jobs {
            if let Ok(master) = self.master.find(job.as_str())
                && !master.state().is_terminal()
            {
                parts.metrics.update(&master.status(), master.checkpoints(), now);
            }
        }
        self.publish_cluster_metrics();
    }

    fn publish_cluster_metrics(&self) {
        let running = self.master.jobs().filter(|job| !job.state().is_terminal()).count();
        super::metrics::update_cluster(self.master.pool(), running);
    }

    /// Starts a job and answers: false when its id is known already. `graph`: where its graph is kept.
    pub(super) fn submit(
        &mut self,
        submission: Submission,
        storage: Arc<dyn CheckpointStorage>,
        graph: Option<String>,
        answer: oneshot::Sender<Result<bool>>,
    ) {
        let job = submission.job.clone();
        if let Some(graph) = graph {
            if !self.master.knows(&job) {
                self.add_parts(&submission, storage);
            }
            self.submissions.entry(job.clone()).or_default().push(answer);
            let actions = self.master.submit_durable(submission, graph, self.clock.now_ms());
            self.carry_out(actions);
            return self.publish(&job);
        }
        if self.master.find(job.as_str()).is_ok() {
            let _ = answer.send(Ok(false));
            return;
        }
        self.add_parts(&submission, storage);
        let (created, actions) = self.master.submit(submission, self.clock.now_ms());
        self.carry_out(actions);
        self.publish(&job);
        let _ = answer.send(Ok(created));
    }

    /// What a job has besides its state machine.
    fn add_parts(&mut self, submission: &Submission, storage: Arc<dyn CheckpointStorage>) {
        let job = submission.job.clone();
        // Jobs that ended long ago are forgotten.
        self.jobs.retain(|id, _| self.master.knows(id));
        let collects = crate::job::topology::plan_collects(&submission.plan);
        let rows = collects.then(|| Arc::new(CollectQueue::default()));
        let metrics = JobMetrics::new(&job, &submission.plan.name);
        self.jobs.insert(job, JobParts { storage, status: watch::Sender::default(), rows, metrics });
    }

    pub(super) fn rescale(&mut self, request: &v1::RescaleJobRequest) -> Result<()> {
        let actions = self.master.rescale(request, self.clock.now_ms())?;
        self.carry_out(actions);
        Ok(())
    }

    pub(super) fn decommission(&mut self, request: &v1::DecommissionTaskManagerRequest) -> Result<()> {
        let actions = self.master.decommission(request, self.clock.now_ms())?;
        self.carry_out(actions);
        self.publish_cluster_metrics();
        Ok(())
    }

    /// Asks a job for a savepoint, perhaps to stop with it.
    pub(super) fn savepoint(
        &mut self,
        job: JobId,
        target: Option<String>,
        stop: StopMode,
        answer: oneshot::Sender<Result<String>>,
    ) {
        let request = self.next_savepoint;
        self.next_savepoint += 1;
        self.savepoints.insert(request, answer);
        let random = uuid::Uuid::new_v4().simple().to_string();
        let wish = SavepointWish { request, target, nonce: random[..12].to_owned(), stop };
        self.event(Event::Job { job, event: Box::new(JobEvent::Savepoint(wish)) });
    }

    pub(super) fn watch(&self, job: &str) -> Result<watch::Receiver<v1::JobStatus>> {
        let parts = self.master.find(job).ok().and_then(|found| self.jobs.get(found.id()));
        match parts {
            Some(parts) => Ok(parts.status.subscribe()),
            // It has ended under an earlier leader.
            None => {
                let status = self.master.details(job)?.status.unwrap_or_default();
                Ok(watch::channel(status).1)
            }
        }
    }

    pub(super) fn rows(&self, job: &str) -> Result<(JobId, Arc<CollectQueue>)> {
        let id = self.master.find(job)?.id();
        let rows = self.jobs.get(id).and_then(|parts| parts.rows.clone());
        let rows = rows.ok_or_else(|| {
            SchedulerError::Precondition(format!("job {job} has no sink \"collect\": its rows go elsewhere"))
        })?;
        Ok((id.clone(), rows))
    }
}
