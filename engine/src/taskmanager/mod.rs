//! The TaskManager: slots, deployments, the data port, the connection to the JobManager.
//!
//! [`TaskManager::start`] binds the data port, starts a thread for each slot and keeps one stream to
//! the JobManager ([`connection`]). Deployments become tasks off the network's threads ([`deploy`],
//! [`restore`]); what becomes of them is reported through the session that deployed them, so that
//! nothing of one session reaches another.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`] | settings |
//! | [`core`] | tasks of the process, messages to them |
//! | [`connection`] | the stream to the JobManager |
//! | [`deploy`] | from a deployment to a task |
//! | [`restore`] | non-keyed state to subtasks |
//! | [`session`] | reports to the JobManager |
//! | [`collect`] | rows of a "collect" sink |
//! | [`decommission`] | that the TaskManager is to go |
//! | [`figures`] | metrics |
//! | [`pool`] | threads for work that may block |

pub mod collect;
pub mod config;
pub mod connection;
pub mod core;
mod databases;
pub mod decommission;
pub mod deploy;
pub mod figures;
mod in_flight;
mod memory;
pub mod pool;
pub mod restore;
pub mod session;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use hurtig_graph::GraphError;
use hurtig_graph::config::keys;
use hurtig_state::storage::ObjectStores;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

pub use self::config::TaskManagerConfig;
use self::core::Core;
use crate::error::{EngineError, Result};
use crate::exchange::network::{ExchangeServer, HTTP2_WINDOW_BYTES};
use crate::registry::OperatorRegistry;
use crate::tls::causes;

const SERVER_END: std::time::Duration = std::time::Duration::from_millis(500);

/// A running TaskManager. Dropping it stops it without waiting.
pub struct TaskManager {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    connection: Option<JoinHandle<()>>,
    server: Option<JoinHandle<()>>,
    ended: watch::Receiver<Option<String>>,
}

impl TaskManager {
    /// Starts a TaskManager whose network work runs on `runtime`. It registers with the JobManager in
    /// the background, again and again until that succeeds.
    ///
    /// # Errors
    /// The data port cannot be bound, the working directory cannot be made, or a setting is wrong.
    pub async fn start(
        config: TaskManagerConfig,
        registry: Arc<OperatorRegistry>,
        stores: Arc<ObjectStores>,
        runtime: Handle,
    ) -> Result<TaskManager> {
        std::fs::create_dir_all(&config.work_dir).map_err(|source| EngineError::Io {
            context: format!("cannot make the working directory {}", config.work_dir.display()),
            source,
        })?;
        let listener = bind(&config).await?;
        let port = listener
            .local_addr()
            .map_err(|source| EngineError::Io { context: "cannot read the data port".into(), source })?
            .port();
        let data_address = format!("{}:{port}", config.host);
        let core = Core::new(config, data_address, registry, stores, runtime.clone())?;
        let (stop, stopped) = watch::channel(false);
        let server = tonic::transport::Server::builder();
        let server = match &core.config.exchange.tls {
            Some(files) => server.tls_config(crate::tls::server(files)).map_err(|error| unusable(&error))?,
            None => server,
        };
        let server = {
            let service = ExchangeServer::service(Arc::clone(core.channels()), stopped.clone());
            let mut stopped = stopped.clone();
            runtime.spawn(async move {
                let result = server
                    .tcp_nodelay(true)
                    .initial_stream_window_size(HTTP2_WINDOW_BYTES)
                    .initial_connection_window_size(HTTP2_WINDOW_BYTES)
                    .add_service(service)
                    .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                        // An error means that the TaskManager was dropped: stop as well.
                        let _ = stopped.wait_for(|s| *s).await;
                    })
                    .await;
                if let Err(error) = result {
                    tracing::error!(%error, "the data port's server failed");
                }
            })
        };
        runtime.spawn(decommission::watch_file(Arc::clone(&core)));
        let (end, ended) = watch::channel(None);
        let connection = runtime.spawn(connection::run(Arc::clone(&core), stopped, end));
        Ok(TaskManager { core, stop, connection: Some(connection), server: Some(server), ended })
    }

    /// Where other TaskManagers reach the exchange, host:port.
    pub fn data_address(&self) -> &str {
        self.core.data_address()
    }

    /// Waits until the TaskManager has ended by itself (the JobManager told it to, or registration
    /// took too long) and says why.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the TaskManager stopped".into(),
        }
    }

    /// The TaskManager is to go: the JobManager moves its tasks to others, if there are any. Says how long
    /// it may take, or `None` if `cluster.taskmanager.graceful-decommission.enabled` is off.
    pub fn decommission(&self, source: &str) -> Option<std::time::Duration> {
        let timeout = self.core.config.decommission.as_ref()?.timeout;
        self.core.decommission.notice(source, Some(timeout));
        Some(timeout)
    }

    /// Waits until nothing is left on it after [`TaskManager::decommission`].
    pub async fn left(&self) {
        decommission::left(&self.core).await;
    }

    /// Cancels all tasks, closes the stream to the JobManager and frees port and threads.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(connection) = self.connection.take() {
            // An error is a panic of the connection's task, reported already.
            let _ = connection.await;
        }
        if let Some(mut server) = self.server.take() {
            // Ends by itself once its connections have; a peer that keeps one open is not waited for.
            if tokio::time::timeout(SERVER_END, &mut server).await.is_err() {
                server.abort();
            }
        }
        let core = Arc::clone(&self.core);
        // Joins threads, which may still be in a step.
        let _ = tokio::task::spawn_blocking(move || core.shut_down()).await;
    }
}

impl Drop for TaskManager {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(server) = self.server.take() {
            server.abort();
        }
        self.core.begin_shut_down();
    }
}

fn unusable(error: &tonic::transport::Error) -> EngineError {
    let message = format!("{}: the certificates cannot be used: {}", keys::SSL_KEYSTORE.key, causes(error));
    EngineError::Graph(GraphError::Config(message))
}

async fn bind(config: &TaskManagerConfig) -> Result<tokio::net::TcpListener> {
    let (first, last) = config.data_ports;
    let mut refused = None;
    for port in first..=last {
        match tokio::net::TcpListener::bind((config.bind_host.as_str(), port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = Some((port, error)),
        }
    }
    let (port, source) = refused
        .unwrap_or_else(|| (first, std::io::Error::new(std::io::ErrorKind::InvalidInput, "an empty range of ports")));
    Err(EngineError::Io {
        context: format!(
            "cannot listen on {}:{port} for data; set taskmanager.data.port to a free port or to 0",
            config.bind_host
        ),
        source,
    })
}
