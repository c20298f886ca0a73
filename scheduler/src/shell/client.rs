//! What clients can ask of a JobManager. The gRPC service and clients in the same process use the
//! same functions.

use std::sync::Arc;

use hurtig_graph::config::Configuration;
use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};

use super::collect::ResultStream;
use super::driver::{Command, Driver};
use super::leadership::Role;
use super::submit::SubmitContext;
use crate::error::{Result, SchedulerError};
use crate::job::JobEvent;
use crate::master::Event;

/// A client of the JobManager of this process. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    commands: Role,
    context: Arc<SubmitContext>,
}

impl Client {
    pub(super) fn new(commands: Role, context: Arc<SubmitContext>) -> Self {
        Client { commands, context }
    }

    /// The driver, if this JobManager leads.
    pub(super) fn leader(&self) -> Result<mpsc::UnboundedSender<Command>> {
        self.commands.sender()
    }

    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&mut Driver) -> T + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let ask = Box::new(move |driver: &mut Driver| {
            let _ = answer.send(question(driver));
        });
        self.commands.send(Command::Ask(ask))?;
        answered.await.map_err(|_| self.commands.gone())
    }

    /// Validates and starts a job graph. An empty `job_id`: a new one. With an id that is known, the
    /// same job, and nothing is started.
    ///
    /// # Errors
    /// The id, the graph or the configuration is not valid, with the field's path in the message.
    pub async fn submit_graph(&self, job_id: &str, graph: v1::JobGraph) -> Result<v1::SubmitJobResponse> {
        let job = job_id_or_new(job_id)?;
        let known = job.clone();
        if self.ask(move |driver| driver.master.knows(&known)).await? {
            return Ok(v1::SubmitJobResponse { job_id: job.to_string(), created: false });
        }
        let (context, id) = (self.context.clone(), job.clone());
        let (graph, epoch) = (Arc::new(graph), self.commands.epoch()?);
        let to_plan = Arc::clone(&graph);
        let prepared = tokio::task::spawn_blocking(move || context.prepare(id, &to_plan)).await;
        let (submission, storage) = prepared.map_err(|error| internal(&error))??;
        if let Some(start) = submission.settings.checkpoints.start.clone() {
            let plan = submission.plan.clone();
            self.context.check_start(&start, &plan, storage.as_ref()).await?;
        }
        let kept = self.context.keep_graph(&job, &graph, epoch).await?;
        let (answer, answered) = oneshot::channel();
        self.ask(move |driver| driver.submit(submission, storage, kept, answer)).await?;
        let created = answered.await.map_err(|_| self.commands.gone())??;
        Ok(v1::SubmitJobResponse { job_id: job.to_string(), created })
    }

    /// Runs a SQL script; the job of the last statement gets `job_id`, if given.
    ///
    /// # Errors
    /// A statement is wrong; then nothing is started.
    pub async fn submit_sql(&self, request: v1::SubmitSqlRequest) -> Result<v1::SubmitSqlResponse> {
        let Some(handler) = self.context.sql.clone() else {
            return Err(SchedulerError::Other {
                kind: hurtig_graph::ErrorKind::Unsupported,
                message: "this JobManager takes job graphs only, no SQL".into(),
            });
        };
        let overrides = Configuration::from_map(request.configuration);
        let configuration = self.context.config.configuration.merged_with(&overrides);
        let sql = request.sql;
        let planned = tokio::task::spawn_blocking(move || handler.plan(&sql, &configuration)).await;
        let plan = planned.map_err(|error| internal(&error))??;
        let last = plan.graphs.len().saturating_sub(1);
        let mut job_ids = Vec::with_capacity(plan.graphs.len());
        for (i, graph) in plan.graphs.into_iter().enumerate() {
            let id = if i == last { request.job_id.as_str() } else { "" };
            job_ids.push(self.submit_graph(id, graph).await?.job_id);
        }
        Ok(v1::SubmitSqlResponse { job_ids, result_schema: plan.result_schema })
    }

    /// All jobs, running or ended not long ago.
    ///
    /// # Errors
    /// The JobManager is stopping.
    pub async fn list(&self) -> Result<Vec<v1::JobStatus>> {
        self.ask(|driver| driver.master.statuses()).await
    }

    /// Everything about a job.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn describe(&self, job: &str) -> Result<v1::JobDetails> {
        let job = job.to_owned();
        self.ask(move |driver| driver.master.details(&job)).await?
    }

    /// The status of a job now and at each change.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn watch(&self, job: &str) -> Result<JobWatch> {
        let job = job.to_owned();
        let status = self.ask(move |driver| driver.watch(&job)).await??;
        Ok(JobWatch { status, started: false, ended: false })
    }

    /// Starts cancelling a job. A job that has ended stays as it is.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn cancel(&self, job: &str) -> Result<()> {
        let job = job.to_owned();
        self.ask(move |driver| {
            let id = driver.master.find(&job)?.id().clone();
            driver.event(Event::Job { job: id, event: Box::new(JobEvent::Cancel) });
            Ok(())
        })
        .await?
    }

    /// Changes the bounds of a job's parallelism.
    ///
    /// # Errors
    /// There is no such job, or the bounds cannot be.
    pub async fn rescale(&self, request: v1::RescaleJobRequest) -> Result<()> {
        self.ask(move |driver| driver.rescale(&request)).await?
    }

    /// Lets nothing new onto a TaskManager, and jobs move away from it.
    ///
    /// # Errors
    /// There is no such TaskManager, or it is switched off.
    pub async fn decommission(&self, request: v1::DecommissionTaskManagerRequest) -> Result<()> {
        self.ask(move |driver| driver.decommission(&request)).await?
    }

    /// Takes a savepoint and returns its URI. An empty `target`: the configured folder.
    ///
    /// # Errors
    /// There is no such job, it does not run, or the savepoint fails.
    pub async fn savepoint(&self, job: &str, target: &str) -> Result<String> {
        self.take_savepoint(job, target, StopMode::None).await
    }

    /// Ends a job with a savepoint and returns its URI, once all tasks have finished. With `drain`,
    /// event time ends before it.
    ///
    /// # Errors
    /// There is no such job, it does not run, the savepoint fails (then the job runs on), or a task
    /// fails before it has committed what belongs to the savepoint.
    pub async fn stop(&self, job: &str, target: &str, drain: bool) -> Result<String> {
        self.take_savepoint(job, target, if drain { StopMode::Drain } else { StopMode::Suspend }).await
    }

    async fn take_savepoint(&self, job: &str, target: &str, stop: StopMode) -> Result<String> {
        let (answer, answered) = oneshot::channel();
        let (job, target) = (job.to_owned(), (!target.is_empty()).then(|| target.to_owned()));
        let asked = self.ask(move |driver| {
            let id = driver.master.find(&job)?.id().clone();
            driver.savepoint(id, target, stop, answer);
            Ok::<(), SchedulerError>(())
        });
        asked.await??;
        answered.await.map_err(|_| SchedulerError::Stopped)?
    }

    /// The rows of a job whose sink is "collect".
    ///
    /// # Errors
    /// There is no such job, it has no such sink, or someone else reads.
    pub async fn collect(&self, job: &str) -> Result<ResultStream> {
        let job = job.to_owned();
        let (id, rows) = self.ask(move |driver| driver.rows(&job)).await??;
        rows.read(id, self.commands.sender()?)
    }

    /// TaskManagers and slots.
    ///
    /// # Errors
    /// The JobManager is stopping.
    pub async fn overview(&self) -> Result<v1::ClusterOverviewResponse> {
        let (version, commit) = (self.context.config.version.clone(), self.context.config.commit.clone());
        let overview = self.ask(|driver| driver.master.overview()).await?;
        Ok(v1::ClusterOverviewResponse { version, commit, ..overview })
    }
}

fn job_id_or_new(text: &str) -> Result<JobId> {
    if text.is_empty() {
        return Ok(JobId::from_u128(uuid::Uuid::new_v4().as_u128()));
    }
    Ok(JobId::parse(text)?)
}

fn internal(error: &dyn std::fmt::Display) -> SchedulerError {
    SchedulerError::Other { kind: hurtig_graph::ErrorKind::Internal, message: format!("planning has crashed: {error}") }
}

/// A job's status as it changes.
pub struct JobWatch {
    status: watch::Receiver<v1::JobStatus>,
    started: bool,
    ended: bool,
}

impl JobWatch {
    /// The status now, at the first call; then at each change. Changes that come faster than they
    /// are asked for are merged. `None` after the state in which the job ended.
    pub async fn next(&mut self) -> Option<v1::JobStatus> {
        if self.ended || (self.started && self.status.changed().await.is_err()) {
            return None;
        }
        self.started = true;
        let status = self.status.borrow_and_update().clone();
        self.ended = status.end_time_ms != 0;
        Some(status)
    }
}
