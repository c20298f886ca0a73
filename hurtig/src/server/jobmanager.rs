//! A JobManager with its metrics endpoint, its services for health and reflection, and SQL.

use std::net::SocketAddr;
use std::sync::Arc;

use hurtig_connectors::Connectors;
use hurtig_graph::config::{Configuration, keys};
use hurtig_graph::ids::JobId;
use hurtig_graph::job::{ExprResolver, JobPlan};
use hurtig_scheduler::shell::{HaServices, JobManagerServices, SqlHandler, SqlPlan, StorageFactory};
use hurtig_scheduler::storage::CheckpointStorage;
use hurtig_scheduler::{JobManager, JobManagerConfig, SchedulerError};
use hurtig_sql::{Session, SqlError, SqlResolver, StatementResult, UserFunctions, split_script};
use hurtig_state::storage::ObjectStores;
use tonic::service::Routes;
use tonic_health::ServingStatus;

use super::ServerOptions;
use super::declarations::declarations;
use super::storage::JobStorage;
use super::work_dir::WorkDir;
use crate::error::{Error, Result};
use crate::metrics::MetricsServer;
use crate::network;

/// A running JobManager. Dropping it stops it; [`JobManagerServer::stop`] waits for the end.
pub struct JobManagerServer {
    job_manager: JobManager,
    metrics: Vec<MetricsServer>,
    // Last: removed when nothing uses it any more.
    _work_dir: WorkDir,
}

impl JobManagerServer {
    /// Starts a JobManager where the configuration says. Must be called on a tokio runtime, which it
    /// goes on using.
    ///
    /// # Errors
    /// A port in use, a forbidden interface, a value that cannot be read.
    pub async fn start(options: &ServerOptions) -> Result<JobManagerServer> {
        let configuration = &options.configuration;
        let runtime = tokio::runtime::Handle::current();
        let host = configuration.text(&keys::JOBMANAGER_BIND_HOST).unwrap_or("127.0.0.1");
        let address = network::bind_address(host, &keys::JOBMANAGER_BIND_HOST, options.secured()?)?;
        let metrics = match &options.metrics {
            Some(render) => {
                let interface = options.metrics_interface(address);
                MetricsServer::start_all(configuration, interface, "jobmanager", render, &runtime).await?
            }
            None => Vec::new(),
        };
        let resource_id = configuration.text(&keys::JOBMANAGER_RESOURCE_ID);
        let work_dir = WorkDir::create(configuration, &keys::JOBMANAGER_WORKING_DIR, "jm", resource_id)?;
        let (port, last_port) = configuration.ports(&keys::JOBMANAGER_PORT)?.unwrap_or((0, 0));
        let config = |port: u16| JobManagerConfig {
            bind: SocketAddr::new(address, port).to_string(),
            configuration: configuration.clone(),
            temp_dir: work_dir.path().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("HURTIG_COMMIT").to_owned(),
        };
        let stores = Arc::new(ObjectStores::new(configuration.clone(), Some(runtime.clone())));
        let ha = super::ha::services(configuration, stores)?;
        // Where others reach it; a list names all JobManagers, of which this is one.
        let host = configuration.text(&keys::JOBMANAGER_ADDRESS).filter(|host| !host.contains([',', ';']));
        let ha = |port: u16| {
            ha.clone()
                .map(|ha| HaServices { address: host.filter(|_| port != 0).map(|host| format!("{host}:{port}")), ..ha })
        };
        let mut port = port;
        let job_manager = loop {
            match JobManager::start(config(port), services(options, ha(port), &runtime), &runtime) {
                Err(SchedulerError::Bind { .. }) if port < last_port => port += 1,
                other => break other?,
            }
        };
        Ok(JobManagerServer { job_manager, metrics, _work_dir: work_dir })
    }

    /// Where its gRPC services listen.
    pub fn address(&self) -> SocketAddr {
        self.job_manager.address()
    }

    /// Whether it leads; waits until that is known. Always, without high availability.
    pub async fn leads(&self) -> bool {
        self.job_manager.leads().await
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.first().map(MetricsServer::address)
    }

    /// Closes all streams and frees ports and files.
    pub async fn stop(self) {
        self.job_manager.stop().await;
    }
}

fn services(options: &ServerOptions, ha: Option<HaServices>, runtime: &tokio::runtime::Handle) -> JobManagerServices {
    let connectors = Arc::new(options.extensions.connectors.clone());
    let functions = Arc::new(options.extensions.functions.clone());
    let registry = options.extensions.registry();
    let runtime = runtime.clone();
    let storage: StorageFactory = Arc::new(move |job: &JobId, folder: &str, configuration: &Configuration| {
        let stores = Arc::new(ObjectStores::new(configuration.clone(), Some(runtime.clone())));
        Ok(Arc::new(JobStorage::new(stores, job.clone(), folder)) as Arc<dyn CheckpointStorage>)
    });
    JobManagerServices {
        catalog: connectors.clone(),
        resolver: Arc::new(SqlResolver::new(functions.clone())) as Arc<dyn ExprResolver>,
        storage,
        declarations: Some(Arc::new(move |plan: &JobPlan| declarations(plan, &registry))),
        sql: Some(Arc::new(Scripts { connectors, functions })),
        routes: Some(Box::new(add_services)),
        ha,
    }
}

/// The service that clients ask about.
const JOB_SERVICE: &str = "hurtig.v1.JobService";

/// Health and reflection, for clients that know neither the .proto files nor Hurtig.
fn add_services(routes: Routes) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(async move { reporter.set_service_status(JOB_SERVICE, ServingStatus::Serving).await });
    let routes = routes.add_service(health);
    // Older clients ask for v1alpha only.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "server reflection is off");
            routes
        }
    }
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(hurtig_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// SQL scripts sent to the JobManager: one session each.
struct Scripts {
    connectors: Arc<Connectors>,
    functions: Arc<UserFunctions>,
}

impl SqlHandler for Scripts {
    fn plan(&self, sql: &str, configuration: &Configuration) -> Result<SqlPlan, SchedulerError> {
        let session = Session::with_configuration(self.connectors.clone(), configuration.clone());
        let mut session = session.map_err(sql_error)?.with_functions(self.functions.clone());
        let mut plan = SqlPlan::default();
        for statement in split_script(sql) {
            plan.result_schema = None;
            let result = session.execute(&statement.text);
            match result.map_err(|e| sql_error(e.within_script(statement.position)))? {
                StatementResult::Ok | StatementResult::Table(_) => {}
                StatementResult::Insert { graph } => plan.graphs.push(graph),
                StatementResult::Query { graph, schema, .. } => {
                    plan.graphs.push(graph);
                    plan.result_schema = Some(schema.to_proto());
                }
            }
        }
        Ok(plan)
    }
}

fn sql_error(error: SqlError) -> SchedulerError {
    let error = Error::from(error);
    SchedulerError::Other { kind: error.kind(), message: error.to_string() }
}
