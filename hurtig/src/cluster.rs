//! Clusters: one embedded in this process, or a connection to a running one. Both take SQL and job
//! graphs in the same way, over gRPC.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType as ArrowType;
use hurtig_connectors::Connectors;
use hurtig_connectors::connector::{SinkConnector, SourceConnector};
use hurtig_engine::EngineError;
use hurtig_engine::expr::ScalarFunction;
use hurtig_engine::registry::OperatorFactory;
use hurtig_graph::config::{self, Configuration, TlsFiles, keys};
use hurtig_graph::{DataType, ErrorKind};
use hurtig_sql::FunctionSignature;

use crate::client::{Client, JobHandle};
use crate::dataflow::Dataflow;
use crate::error::{Error, Result};
use crate::extensions::ExtensionError;
use crate::metrics::RenderMetrics;
use crate::runtime::OwnRuntime;
use crate::server::{JobManagerServer, ServerOptions, TaskManagerServer};
use crate::sql::SqlSession;

/// A connection to a running cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Connects to the JobManager at `host:port`.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn connect(address: &str) -> Result<Cluster> {
        Cluster::connect_with(address, &Configuration::default()).await
    }

    /// As [`Client::connect_with`].
    ///
    /// # Errors
    /// When it cannot be reached or does not let this client in.
    pub async fn connect_with(address: &str, configuration: &Configuration) -> Result<Cluster> {
        Ok(Cluster { client: Client::connect_with(address, configuration).await? })
    }

    /// For job graphs, and for what runs already.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A new SQL session with the built-in connectors.
    ///
    /// # Errors
    /// A configuration value that cannot be.
    pub fn sql(&self, configuration: Configuration) -> Result<SqlSession> {
        SqlSession::new(self.client.clone(), Arc::new(Connectors::default()), Arc::default(), configuration)
    }

    /// Starts a job.
    ///
    /// # Errors
    /// A job that is not valid, or one with closures: those run embedded only.
    pub async fn execute(&self, flow: &Dataflow) -> Result<JobHandle> {
        if !flow.closures().is_empty() {
            let reason = "closures cannot be sent to another process: register an operator with the TaskManagers \
                          and apply it by name";
            return Err(Error::new(ErrorKind::Unsupported, reason));
        }
        self.client.submit(flow.graph()).await
    }
}

/// A JobManager and TaskManagers in this process, talking over loopback. Dropping it cancels its
/// jobs and ends its threads, ports and temporary files.
pub struct EmbeddedCluster {
    // In the order in which they must go: the servers need the runtime.
    servers: Servers,
    client: Client,
    options: ServerOptions,
    runtime: Arc<OwnRuntime>,
}

#[derive(Default)]
struct Servers {
    job_manager: Option<JobManagerServer>,
    task_managers: Vec<TaskManagerServer>,
}

impl Servers {
    async fn start(options: &ServerOptions, task_managers: usize) -> Result<Servers> {
        let job_manager = JobManagerServer::start(options).await?;
        let address = job_manager.address().to_string();
        let mut servers = Servers { job_manager: Some(job_manager), task_managers: Vec::new() };
        for _ in 0..task_managers {
            servers.task_managers.push(TaskManagerServer::start(options, address.clone()).await?);
        }
        Ok(servers)
    }

    async fn stop(self) {
        // TaskManagers first: they cancel their tasks and need nothing of the JobManager for it.
        futures::future::join_all(self.task_managers.into_iter().map(TaskManagerServer::stop)).await;
        if let Some(job_manager) = self.job_manager {
            job_manager.stop().await;
        }
    }
}

/// What an embedded cluster is made of.
pub struct EmbeddedClusterBuilder {
    options: ServerOptions,
    task_managers: usize,
    /// The first thing that was wrong in what was set; told at the start.
    wrong: Option<Error>,
}

impl EmbeddedCluster {
    /// One TaskManager with as many slots as the machine has cores, the built-in connectors.
    pub fn builder() -> EmbeddedClusterBuilder {
        EmbeddedClusterBuilder { options: ServerOptions::default(), task_managers: 1, wrong: None }
    }

    /// For job graphs, and for what runs already.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `host:port` of the JobManager, for clients in other processes.
    pub fn address(&self) -> &str {
        self.client.address()
    }

    /// Where the JobManager serves metrics, if a recorder was given.
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.servers.job_manager.as_ref().and_then(JobManagerServer::metrics_address)
    }

    /// A new SQL session with the connectors of this cluster. `configuration` is on top of the
    /// cluster's.
    ///
    /// # Errors
    /// A configuration value that cannot be.
    pub fn sql(&self, configuration: Configuration) -> Result<SqlSession> {
        let extensions = &self.options.extensions;
        let connectors = Arc::new(extensions.connectors.clone());
        SqlSession::new(self.client.clone(), connectors, Arc::new(extensions.functions.clone()), configuration)
    }

    /// Starts a job.
    ///
    /// # Errors
    /// A job that is not valid.
    pub async fn execute(&self, flow: &Dataflow) -> Result<JobHandle> {
        self.options.extensions.closures.add(flow.closures());
        self.client.submit(flow.graph()).await
    }
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        let servers = std::mem::take(&mut self.servers);
        // Waits on this thread without driving anything on it.
        let _ = self.runtime.run_blocking(async move {
            servers.stop().await;
            Ok(())
        });
    }
}

impl EmbeddedClusterBuilder {
    /// Sets a configuration key of the cluster.
    #[must_use]
    pub fn configure(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.configuration.set(key, value);
        self
    }

    /// Takes over a whole configuration.
    #[must_use]
    pub fn configuration(mut self, configuration: &Configuration) -> Self {
        self.options.configuration = self.options.configuration.merged_with(configuration);
        self
    }

    /// How many TaskManagers; 1 unless set.
    #[must_use]
    pub fn task_managers(mut self, count: usize) -> Self {
        self.task_managers = count.max(1);
        self
    }

    /// Slots of each TaskManager.
    #[must_use]
    pub fn slots(self, slots: u32) -> Self {
        self.configure(keys::TASK_SLOTS.key, slots.to_string())
    }

    /// Adds a source under a connector name.
    #[must_use]
    pub fn source(mut self, connector: impl Into<String>, source: impl SourceConnector + 'static) -> Self {
        let connectors = std::mem::take(&mut self.options.extensions.connectors);
        self.options.extensions.connectors = connectors.with_source(connector, Arc::new(source));
        self
    }

    /// Adds a sink under a connector name.
    #[must_use]
    pub fn sink(mut self, connector: impl Into<String>, sink: impl SinkConnector + 'static) -> Self {
        let connectors = std::mem::take(&mut self.options.extensions.connectors);
        self.options.extensions.connectors = connectors.with_sink(connector, Arc::new(sink));
        self
    }

    /// Adds an operator for [`crate::dataflow::Stream::apply`].
    #[must_use]
    pub fn operator(mut self, name: impl Into<String>, factory: OperatorFactory) -> Self {
        self.options.extensions.operators.push((name.into(), factory));
        self
    }

    /// Adds a scalar function for SQL text everywhere. Types are written as in SQL; `compute` gets
    /// one array for each argument, of the types' Arrow form, and gives one of the same length.
    #[must_use]
    pub fn function<F>(mut self, name: &str, arguments: &[&str], result: &str, compute: F) -> Self
    where
        F: Fn(&[ArrayRef]) -> Result<ArrayRef, ExtensionError> + Send + Sync + 'static,
    {
        let types = arguments.iter().map(|t| DataType::parse(t)).collect::<Result<Vec<_>, _>>();
        match (types, DataType::parse(result)) {
            (Ok(arguments), Ok(result)) => {
                let arrow = result.logical.to_arrow();
                self.options.extensions.functions.register(name, FunctionSignature { arguments, result });
                self.options.extensions.kernels.push((name.to_owned(), kernel(name, arrow, compute)));
            }
            (Err(error), _) | (_, Err(error)) => drop(self.wrong.get_or_insert(error.into())),
        }
        self
    }

    /// Serves metrics by the recorder that the caller has installed.
    #[must_use]
    pub fn metrics(mut self, render: RenderMetrics) -> Self {
        self.options.metrics = Some(render);
        self
    }

    /// Starts the cluster. Works on any executor.
    ///
    /// # Errors
    /// A configuration that is not valid, a lack of ports or files.
    pub async fn start(mut self) -> Result<EmbeddedCluster> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        let configuration = &mut self.options.configuration;
        config::first_error(&config::check(configuration))?;
        // Clusters of one process share nothing: any port, folders of their own.
        for (option, value) in [(&keys::JOBMANAGER_PORT, "0"), (&keys::TASKMANAGER_DATA_PORT, "0")] {
            if !configuration.is_set(option) {
                configuration.set(option.key, value);
            }
        }
        if self.task_managers > 1 && configuration.is_set(&keys::TASKMANAGER_RESOURCE_ID) {
            let reason = format!("{}: only one TaskManager can have it", keys::TASKMANAGER_RESOURCE_ID.key);
            return Err(Error::new(ErrorKind::Config, reason));
        }
        if !configuration.is_set(&keys::TASK_SLOTS) {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            configuration.set(keys::TASK_SLOTS.key, cores.to_string());
        }
        let runtime = Arc::new(OwnRuntime::start(2)?);
        let (options, task_managers) = (self.options.clone(), self.task_managers);
        let servers = runtime.run(async move { Servers::start(&options, task_managers).await }).await?;
        let address = servers.job_manager.as_ref().map(|j| j.address().to_string()).unwrap_or_default();
        let tls = TlsFiles::read(&self.options.configuration)?;
        let client = runtime.run(Client::on(runtime.clone(), address, tls)).await?;
        Ok(EmbeddedCluster { servers, client, options: self.options, runtime })
    }
}

/// The function of a user as the engine calls it: errors say which function, and the result is
/// checked.
fn kernel<F>(name: &str, result: ArrowType, compute: F) -> ScalarFunction
where
    F: Fn(&[ArrayRef]) -> Result<ArrayRef, ExtensionError> + Send + Sync + 'static,
{
    let name = name.to_owned();
    Arc::new(move |arguments, rows| {
        let computed = compute(arguments).map_err(|e| EngineError::Runtime(format!("{name}: {e}")))?;
        if computed.len() != rows || *computed.data_type() != result {
            return Err(EngineError::Runtime(format!(
                "{name} gave {} values of {} for {rows} rows of {result}",
                computed.len(),
                computed.data_type()
            )));
        }
        Ok(computed)
    })
}
