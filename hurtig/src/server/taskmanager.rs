//! A TaskManager with its working directory and metrics endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use hurtig_engine::taskmanager::{TaskManager, TaskManagerConfig};
use hurtig_graph::config::keys;
use hurtig_state::storage::ObjectStores;

use super::ServerOptions;
use super::work_dir::WorkDir;
use crate::error::Result;
use crate::metrics::MetricsServer;
use crate::network;

/// A running TaskManager. Dropping it stops it; [`TaskManagerServer::stop`] waits for the end.
pub struct TaskManagerServer {
    task_manager: TaskManager,
    metrics: Vec<MetricsServer>,
    jobmanager: String,
    // Last: removed when nothing uses it any more.
    _work_dir: WorkDir,
}

impl TaskManagerServer {
    /// Starts a TaskManager that registers with the JobManager at `jobmanager` (host:port), now or
    /// as soon as that is there. Must be called on a tokio runtime, which it goes on using.
    ///
    /// # Errors
    /// A port in use, a forbidden interface, a value that cannot be read.
    pub async fn start(options: &ServerOptions, jobmanager: String) -> Result<TaskManagerServer> {
        let configuration = &options.configuration;
        let runtime = tokio::runtime::Handle::current();
        let host = configuration.text(&keys::TASKMANAGER_BIND_HOST).unwrap_or("127.0.0.1");
        let address = network::bind_address(host, &keys::TASKMANAGER_BIND_HOST, options.secured()?)?;
        let metrics = match &options.metrics {
            Some(render) => {
                let interface = options.metrics_interface(address);
                MetricsServer::start_all(configuration, interface, "taskmanager", render, &runtime).await?
            }
            None => Vec::new(),
        };
        let resource_id = configuration.text(&keys::TASKMANAGER_RESOURCE_ID);
        let work_dir = WorkDir::create(configuration, &keys::TASKMANAGER_WORKING_DIR, "tm", resource_id)?;
        let mut config = TaskManagerConfig::from_configuration(configuration, jobmanager.clone(), work_dir.path())?;
        config.bind_host = address.to_string();
        if !configuration.is_set(&keys::TASKMANAGER_HOST) {
            config.host = address.to_string();
        }
        config.metrics_address = metrics.first().map(|m| m.address().to_string()).unwrap_or_default();
        if let Some(on_fatal) = &options.on_fatal {
            config.on_fatal = Arc::clone(on_fatal);
        }
        let stores = Arc::new(ObjectStores::new(configuration.clone(), Some(runtime.clone())));
        let registry = options.extensions.registry();
        let task_manager = TaskManager::start(config, registry, stores, runtime).await?;
        Ok(TaskManagerServer { task_manager, metrics, jobmanager, _work_dir: work_dir })
    }

    /// Where other TaskManagers reach it.
    pub fn data_address(&self) -> &str {
        self.task_manager.data_address()
    }

    /// The JobManager that it belongs to.
    pub fn jobmanager(&self) -> &str {
        &self.jobmanager
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.first().map(MetricsServer::address)
    }

    /// Waits until it has ended by itself and says why.
    pub async fn ended(&self) -> String {
        self.task_manager.ended().await
    }

    /// It is to go: the JobManager moves its tasks to others. Says how long that may take; `None`: it is to
    /// go at once (`cluster.taskmanager.graceful-decommission.enabled`).
    pub fn decommission(&self, source: &str) -> Option<std::time::Duration> {
        self.task_manager.decommission(source)
    }

    /// Waits until nothing is left on it after [`TaskManagerServer::decommission`].
    pub async fn left(&self) {
        self.task_manager.left().await;
    }

    /// Cancels its tasks and frees ports, threads and files.
    pub async fn stop(self) {
        self.task_manager.stop().await;
    }
}
