//! The JobManager as a process part: tonic services, a clock, and calls of storage and connectors
//! around [`crate::master::Master`].
//!
//! | module | what |
//! | --- | --- |
//! | `driver` | the one task that owns the state machine |
//! | [`client`] | what clients can ask; the gRPC service and embedded clients use the same |
//! | [`leadership`] | the lease around the driver, where several JobManagers stand in for each other |
//! | `submit` | from a job graph or SQL to a submission |
//! | `collect` | result rows between the state machine and the one reader |
//! | `job_service`, `cluster_service` | gRPC |
//! | `metrics` | figures under Flink's names |

pub mod client;
mod cluster_service;
mod collect;
mod driver;
mod job_service;
pub mod leadership;
mod metrics;
mod submit;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hurtig_graph::config::{Configuration, TlsFiles, keys};
use hurtig_graph::connector::ConnectorCatalog;
use hurtig_graph::error::ErrorKind;
use hurtig_graph::ids::JobId;
use hurtig_graph::job::{ExprResolver, JobPlan};
use hurtig_proto::internal::v1::cluster_service_server::ClusterServiceServer;
use hurtig_proto::v1;
use hurtig_proto::v1::job_service_server::JobServiceServer;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

pub use client::{Client, JobWatch};
pub use collect::ResultStream;
pub use leadership::HaServices;

use crate::error::{Result, SchedulerError};
use crate::job::savepoint::Declarations;
use crate::master::Master;
use crate::settings::MasterSettings;
use crate::storage::CheckpointStorage;
use driver::Driver;
use leadership::Role;

/// How long [`JobManager::stop`] waits for storage calls and open streams.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Where and how a JobManager runs.
#[derive(Debug, Clone)]
pub struct JobManagerConfig {
    /// `host:port`; port 0: any.
    pub bind: String,
    /// The cluster's configuration; that of a job overrides it.
    pub configuration: Configuration,
    /// For checkpoints of jobs that name no directory. Must outlive the jobs.
    pub temp_dir: PathBuf,
    /// Shown to users.
    pub version: String,
    /// Shown to users.
    pub commit: String,
}

/// Makes the checkpoint storage of a job. Gets the job, the folder of all checkpoints as a URI, and
/// the job's configuration (credentials, endpoints).
pub type StorageFactory = Arc<dyn Fn(&JobId, &str, &Configuration) -> Result<Arc<dyn CheckpointStorage>> + Send + Sync>;

/// Gives the keyed state that the operators of a plan declare, as far as it is known before they run.
pub type Declare = Arc<dyn Fn(&JobPlan) -> Declarations + Send + Sync>;

/// What a SQL script comes to.
#[derive(Debug, Clone, Default)]
pub struct SqlPlan {
    /// Jobs to start, in the order of the statements.
    pub graphs: Vec<v1::JobGraph>,
    /// Of the last statement, if it is a query.
    pub result_schema: Option<v1::Schema>,
}

/// Turns SQL scripts into job graphs. Implemented on top of `hurtig-sql`.
pub trait SqlHandler: Send + Sync {
    /// Runs a script in a session of its own. May block.
    ///
    /// # Errors
    /// The first statement that is wrong; nothing has been started then.
    fn plan(&self, sql: &str, configuration: &Configuration) -> Result<SqlPlan>;
}

/// Adds services (health, reflection) to those of the JobManager.
pub type AddRoutes = Box<dyn FnOnce(Routes) -> Routes + Send>;

/// What a JobManager needs of other parts.
pub struct JobManagerServices {
    /// Checks of connectors, coordinators, discovery.
    pub catalog: Arc<dyn ConnectorCatalog>,
    /// Expressions in job graphs.
    pub resolver: Arc<dyn ExprResolver>,
    /// Checkpoint storage.
    pub storage: StorageFactory,
    /// `None`: state is compared with what operators declare only when they restore it.
    pub declarations: Option<Declare>,
    /// `None`: SQL is refused.
    pub sql: Option<Arc<dyn SqlHandler>>,
    /// More gRPC services.
    pub routes: Option<AddRoutes>,
    /// `None`: this JobManager is the only one.
    pub ha: Option<HaServices>,
}

/// A running JobManager. Dropping it stops it without waiting.
pub struct JobManager {
    address: SocketAddr,
    client: Client,
    role: Role,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl JobManager {
    /// Listens and starts, on `runtime`. Ready when it returns. Does not block, and may be called
    /// inside and outside of async code.
    ///
    /// # Errors
    /// The address cannot be listened on, or the configuration is wrong.
    pub fn start(config: JobManagerConfig, services: JobManagerServices, runtime: &Handle) -> Result<JobManager> {
        let settings = MasterSettings::read(&config.configuration)?;
        let limit = config.configuration.memory_bytes(&keys::RPC_MAX_MESSAGE)?.unwrap_or(64 << 20) as usize;
        let server = server(TlsFiles::read(&config.configuration)?.as_ref())?;
        let server = with_pings(server, &config.configuration)?;
        let listener = listen(&config.bind)?;
        let address = listener.local_addr().map_err(|error| bind_error(&config.bind, &error))?;
        let clock = driver::Clock::start();
        let _in_runtime = runtime.enter();
        let JobManagerServices { catalog, resolver, storage, declarations, sql, routes, ha } = services;
        let ha_storage = ha.as_ref().map(|ha| ha.storage.clone());
        let context = submit::SubmitContext {
            config,
            catalog: catalog.clone(),
            resolver,
            storage,
            declarations,
            sql,
            ha: ha_storage,
        };
        let context = Arc::new(context);
        let parts = DriverParts { settings, clock, catalog, runtime: runtime.clone(), context: context.clone() };
        let (role, driving, stop) = match ha {
            Some(ha) => parts.contend(ha, address.to_string()),
            None => parts.alone(),
        };
        let stopped = stop.subscribe();
        let client = Client::new(role.clone(), context);
        let job_service = JobServiceServer::new(job_service::JobServiceImpl::new(client.clone()))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let cluster_service = ClusterServiceServer::new(cluster_service::ClusterServiceImpl::new(client.clone()))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let own = Routes::new(job_service).add_service(cluster_service);
        let routes = match routes {
            Some(add) => add(own),
            None => own,
        };
        let listener =
            tokio::net::TcpListener::from_std(listener).map_err(|error| bind_error(&address.to_string(), &error))?;
        let tasks = vec![runtime.spawn(driving), runtime.spawn(serve(server, listener, routes, stopped))];
        Ok(JobManager { address, client, role, stop, tasks })
    }

    /// Whether it leads; waits until that is known. Always, without high availability.
    pub async fn leads(&self) -> bool {
        self.role.known().await
    }

    /// Whether it leads, as far as it knows now.
    pub fn leads_now(&self) -> bool {
        self.role.leads()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For this process; others use gRPC.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Stops: closes all streams, waits for storage calls under way.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        for task in std::mem::take(&mut self.tasks) {
            let abort = task.abort_handle();
            if tokio::time::timeout(STOP_PATIENCE, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

impl Drop for JobManager {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

type Driving = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What every driver of this process is made of.
struct DriverParts {
    settings: MasterSettings,
    clock: driver::Clock,
    catalog: Arc<dyn ConnectorCatalog>,
    runtime: Handle,
    context: Arc<submit::SubmitContext>,
}

impl DriverParts {
    /// One driver for as long as the process lives.
    fn alone(self) -> (Role, Driving, watch::Sender<bool>) {
        // Rises from one JobManager to the next on any machine with a clock.
        let epoch = self.clock.now_ms().max(1) as u64;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (sender, commands) = tokio::sync::mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let master = Master::new(id, epoch, self.settings);
        let driver = Driver::new(master, self.clock, self.catalog, sender.clone(), self.runtime, self.context);
        (Role::alone(sender), Box::pin(driver.run(commands, stopped)), stop)
    }

    /// A driver for each term of leadership.
    fn contend(self, ha: HaServices, address: String) -> (Role, Driving, watch::Sender<bool>) {
        let clock = self.clock;
        let start_term = move |term: driver::Term| {
            let reconcile_ms = u64::try_from(term.services.reconcile.as_millis()).unwrap_or(u64::MAX / 4);
            let master = Master::new(term.leader_id.clone(), term.epoch, self.settings.clone());
            let master = master.with_registry(reconcile_ms);
            let (catalog, context) = (self.catalog.clone(), self.context.clone());
            let sender = term.commands.clone();
            Driver::new(master, clock, catalog, sender, self.runtime.clone(), context).of_term(term)
        };
        let (role, contending, stop) = leadership::contender(ha, address, clock, Box::new(start_term));
        (role, Box::pin(contending), stop)
    }
}

fn listen(bind: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(bind).map_err(|error| bind_error(bind, &error))?;
    listener.set_nonblocking(true).map_err(|error| bind_error(bind, &error))?;
    Ok(listener)
}

fn bind_error(address: &str, error: &std::io::Error) -> SchedulerError {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; choose another port with jobmanager.rpc.port, or 0 for any",
        std::io::ErrorKind::AddrNotAvailable => "; set jobmanager.bind-host to an address of this machine",
        _ => "",
    };
    SchedulerError::Bind { address: address.to_owned(), reason: format!("{error}{advice}") }
}

/// Lets in only who has a certificate of a trusted authority, where `tls` is given.
fn server(tls: Option<&TlsFiles>) -> Result<Server> {
    let Some(files) = tls else { return Ok(Server::builder()) };
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(&files.identity, &files.identity))
        .client_ca_root(Certificate::from_pem(&files.authorities));
    Server::builder().tls_config(config).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        let message = format!("{}: the certificates cannot be used: {cause}", keys::SSL_KEYSTORE.key);
        SchedulerError::Other { kind: ErrorKind::Config, message }
    })
}

/// Pings connections, so that one to a machine that has gone ends.
fn with_pings(server: Server, configuration: &Configuration) -> Result<Server> {
    let interval = crate::settings::duration(configuration, &keys::CLIENT_HEARTBEAT_INTERVAL)?;
    let timeout = crate::settings::duration(configuration, &keys::CLIENT_HEARTBEAT_TIMEOUT)?;
    if interval == 0 || timeout == 0 {
        return Ok(server);
    }
    // TaskManagers use the same port, and heartbeats decide about them.
    let timeout = timeout.max(crate::settings::duration(configuration, &keys::HEARTBEAT_TIMEOUT)?);
    let ms = |ms| Some(Duration::from_millis(ms));
    Ok(server.http2_keepalive_interval(ms(interval)).http2_keepalive_timeout(ms(timeout)))
}

async fn serve(server: Server, listener: tokio::net::TcpListener, routes: Routes, mut stopped: watch::Receiver<bool>) {
    let signal = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let incoming = TcpListenerStream::new(listener);
    let server = server.tcp_nodelay(true).add_routes(routes);
    if let Err(error) = server.serve_with_incoming_shutdown(incoming, signal).await {
        tracing::error!(%error, "the JobManager's gRPC server has ended");
    }
}

#[cfg(test)]
mod tests;
