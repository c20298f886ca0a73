//! The client of a cluster: submits jobs, asks for their state, reads results. Talks gRPC also to
//! an embedded cluster.

mod leader;
mod results;

use std::sync::Arc;

use hurtig_graph::ErrorKind;
use hurtig_graph::config::{ConfigOption, Configuration, TlsFiles, keys};
use hurtig_proto::v1;
use hurtig_proto::v1::job_service_client::JobServiceClient;
use tonic::transport::Channel;

pub use results::ResultStream;

use crate::error::{Error, Result};
use crate::runtime::OwnRuntime;

/// A connection to a JobManager. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    runtime: Arc<OwnRuntime>,
    service: JobServiceClient<Channel>,
    address: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the JobManager at `host:port`. Several addresses, separated by commas, are of
    /// JobManagers that stand in for each other: whichever leads is taken.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn connect(address: &str) -> Result<Client> {
        Client::connect_with(address, &Configuration::default()).await
    }

    /// Connects to the JobManager at `host:port` as `configuration` says: with the certificates that
    /// `security.ssl.internal.*` names.
    ///
    /// # Errors
    /// When it cannot be reached or does not let this client in.
    pub async fn connect_with(address: &str, configuration: &Configuration) -> Result<Client> {
        let tls = TlsFiles::read(configuration)?;
        let runtime = Arc::new(OwnRuntime::start(1)?);
        let client = Client::on(runtime.clone(), address.to_owned(), tls);
        runtime.run(client).await
    }

    /// As [`Client::connect`], on a runtime that exists. Must be polled on that runtime.
    pub(crate) async fn on(runtime: Arc<OwnRuntime>, address: String, tls: Option<TlsFiles>) -> Result<Client> {
        leader::connect(&address, tls.as_ref()).await.map(|(service, address)| Client { runtime, service, address })
    }

    /// `host:port` of the JobManager.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts a job.
    ///
    /// # Errors
    /// A graph that is not valid, with the path of the field.
    pub async fn submit(&self, graph: v1::JobGraph) -> Result<JobHandle> {
        self.submit_as(String::new(), graph).await
    }

    /// Starts a job under an id (32 hex digits) that the caller chose. Where a job of that id exists
    /// already, that one is given and nothing is started.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn submit_as(&self, job_id: String, graph: v1::JobGraph) -> Result<JobHandle> {
        let mut service = self.service.clone();
        let request = v1::SubmitJobGraphRequest { job_id, graph: Some(graph) };
        let response = self.runtime.run(async move { Ok(service.submit_job_graph(request).await?.into_inner()) });
        Ok(JobHandle { client: self.clone(), id: response.await?.job_id })
    }

    /// Starts a job from a savepoint or retained checkpoint.
    ///
    /// # Errors
    /// As [`Client::submit`], or why the job cannot start from it.
    pub async fn submit_from(&self, start: &StartFrom, mut graph: v1::JobGraph) -> Result<JobHandle> {
        start.apply(&mut graph);
        self.submit(graph).await
    }

    /// The job of this id.
    pub fn job(&self, id: impl Into<String>) -> JobHandle {
        JobHandle { client: self.clone(), id: id.into() }
    }

    /// All jobs that the JobManager knows.
    pub async fn jobs(&self) -> Result<Vec<v1::JobStatus>> {
        let mut service = self.service.clone();
        let call = async move { Ok(service.list_jobs(v1::ListJobsRequest {}).await?.into_inner().jobs) };
        self.runtime.run(call).await
    }

    /// Lets nothing new onto a TaskManager; jobs leave it with a checkpoint and one restart. `remaining`: when it
    /// will be ended, if that is known.
    ///
    /// # Errors
    /// There is no such TaskManager, or `cluster.taskmanager.graceful-decommission.enabled` is off.
    pub async fn decommission(&self, resource_id: &str, remaining: Option<std::time::Duration>) -> Result<()> {
        let mut service = self.service.clone();
        let remaining_ms = remaining.map_or(0, |r| u64::try_from(r.as_millis()).unwrap_or(u64::MAX).max(1));
        let request = v1::DecommissionTaskManagerRequest { resource_id: resource_id.to_owned(), remaining_ms };
        let call = async move {
            service.decommission_task_manager(request).await?;
            Ok(())
        };
        self.runtime.run(call).await
    }

    /// Slots and TaskManagers.
    pub async fn overview(&self) -> Result<v1::ClusterOverviewResponse> {
        let mut service = self.service.clone();
        let call = async move { Ok(service.cluster_overview(v1::ClusterOverviewRequest {}).await?.into_inner()) };
        self.runtime.run(call).await
    }
}

/// What a job starts from: the settings `execution.state-recovery.*` of its graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFrom {
    /// Folder or `_metadata` object of a savepoint or retained checkpoint.
    pub path: String,
    /// The job takes over the files, and deletes them when it needs them no more.
    pub claim: bool,
    /// State of operators that the job does not have is dropped; else it is refused.
    pub allow_non_restored_state: bool,
}

impl StartFrom {
    /// A job that restores what is at `path` and leaves it as it is.
    pub fn path(path: impl Into<String>) -> StartFrom {
        StartFrom { path: path.into(), claim: false, allow_non_restored_state: false }
    }

    /// Makes the job of `graph` start from this.
    pub fn apply(&self, graph: &mut v1::JobGraph) {
        let mut set = |option: &ConfigOption, value: String| graph.configuration.insert(option.key.to_owned(), value);
        set(&keys::RECOVERY_PATH, self.path.clone());
        set(&keys::RECOVERY_CLAIM_MODE, if self.claim { "CLAIM" } else { "NO_CLAIM" }.to_owned());
        set(&keys::RECOVERY_IGNORE_UNCLAIMED, self.allow_non_restored_state.to_string());
    }
}

/// A submitted job. Dropping it leaves the job running; one with result rows ends when nobody is
/// attached to them for `client.heartbeat.timeout`.
#[derive(Clone, Debug)]
pub struct JobHandle {
    client: Client,
    id: String,
}

impl JobHandle {
    /// 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// State, restarts, checkpoints.
    pub async fn status(&self) -> Result<v1::JobStatus> {
        let details = self.describe().await?;
        details.status.ok_or_else(|| Error::new(ErrorKind::Internal, "the JobManager sent no status"))
    }

    /// Everything about the job down to its subtasks.
    pub async fn describe(&self) -> Result<v1::JobDetails> {
        let mut service = self.client.service.clone();
        let request = v1::DescribeJobRequest { job_id: self.id.clone() };
        self.client.runtime.run(async move { Ok(service.describe_job(request).await?.into_inner()) }).await
    }

    /// Waits until the job has ended. `Ok` with the last status when it finished or was cancelled.
    ///
    /// # Errors
    /// [`Error::Job`] when it failed.
    pub async fn wait(&self) -> Result<v1::JobStatus> {
        let mut service = self.client.service.clone();
        let request = v1::WatchJobRequest { job_id: self.id.clone() };
        let watch = async move {
            let mut updates = service.watch_job(request).await?.into_inner();
            let mut last = None;
            while let Some(status) = updates.message().await? {
                last = Some(status);
            }
            last.ok_or_else(|| Error::new(ErrorKind::Connection, "the JobManager ended the watch without a status"))
        };
        let status = self.client.runtime.run(watch).await?;
        match status.state.as_str() {
            "FINISHED" | "CANCELED" => Ok(status),
            "FAILED" => Err(Error::Job { job_id: self.id.clone(), state: status.state, root_cause: status.root_cause }),
            state => {
                let message = format!("lost sight of job {}, which was {state}", self.id);
                Err(Error::new(ErrorKind::Connection, message))
            }
        }
    }

    /// Stops the job without a savepoint.
    pub async fn cancel(&self) -> Result<()> {
        let mut service = self.client.service.clone();
        let request = v1::CancelJobRequest { job_id: self.id.clone() };
        self.client
            .runtime
            .run(async move {
                service.cancel_job(request).await?;
                Ok(())
            })
            .await
    }

    /// Asks for `parallelism` subtasks of every vertex that can run in parallel. The job changes once
    /// there are slots, after a checkpoint.
    ///
    /// # Errors
    /// A vertex cannot have so many, or the job has ended.
    pub async fn rescale(&self, parallelism: u32) -> Result<()> {
        self.require(parallelism, Vec::new()).await
    }

    /// Sets bounds of the parallelism: `parallelism` for every vertex that can run in parallel, or 0
    /// and bounds for each vertex.
    ///
    /// # Errors
    /// All bounds that cannot be, or the job has ended.
    pub async fn require(&self, parallelism: u32, vertices: Vec<v1::VertexRequirements>) -> Result<()> {
        let mut service = self.client.service.clone();
        let request = v1::RescaleJobRequest { job_id: self.id.clone(), parallelism, vertices };
        let call = async move {
            service.rescale_job(request).await?;
            Ok(())
        };
        self.client.runtime.run(call).await
    }

    /// Takes a savepoint into `target` (empty: the configured folder) and gives its path.
    pub async fn savepoint(&self, target: &str) -> Result<String> {
        let mut service = self.client.service.clone();
        let request = v1::TriggerSavepointRequest { job_id: self.id.clone(), target: target.to_owned() };
        self.client.runtime.run(async move { Ok(service.trigger_savepoint(request).await?.into_inner().path) }).await
    }

    /// Ends the job with a savepoint into `target` (empty: the configured folder) and gives its path once
    /// all tasks have ended. With `drain`, event time ends before it.
    ///
    /// # Errors
    /// The savepoint fails, and the job runs on; or a task failed before it had committed what belongs to
    /// the savepoint.
    pub async fn stop(&self, target: &str, drain: bool) -> Result<String> {
        let mut service = self.client.service.clone();
        let request = v1::StopJobRequest { job_id: self.id.clone(), drain, target: target.to_owned() };
        self.client.runtime.run(async move { Ok(service.stop_job(request).await?.into_inner().path) }).await
    }

    /// The rows of a job whose sink is "collect". There is one reader.
    pub async fn results(&self) -> Result<ResultStream> {
        let mut service = self.client.service.clone();
        let request = v1::CollectResultsRequest { job_id: self.id.clone() };
        let call = async move { Ok(service.collect_results(request).await?.into_inner()) };
        let messages = self.client.runtime.run(call).await?;
        Ok(ResultStream::start(&self.client.runtime, self.clone(), messages))
    }
}
