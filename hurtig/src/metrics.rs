//! The Prometheus endpoints of a process: `GET /metrics`.
//!
//! The library installs no recorder; whoever owns the process does, and hands over what renders it.
//! Figures of the process itself ([`process`]) are taken when they are asked for.

mod process;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hurtig_graph::ErrorKind;
use hurtig_graph::config::{Configuration, PrometheusReporter, keys};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use self::process::ProcessFigures;
use crate::error::{Error, Result};
use crate::network;

/// Gives the text of all metrics in Prometheus' format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves metrics until it is dropped.
pub(crate) struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Serves where the configuration says: on the ports of its Prometheus reporters, and on
    /// `hurtig.metrics.port` if that is set or there is no reporter.
    pub async fn start_all(
        configuration: &Configuration,
        address: IpAddr,
        role: &'static str,
        render: &RenderMetrics,
        handle: &Handle,
    ) -> Result<Vec<MetricsServer>> {
        let reporters = configuration.prometheus_reporters()?;
        let mut servers = Vec::new();
        let figures = Arc::new(Mutex::new(ProcessFigures::new(role)));
        if reporters.is_empty() || configuration.is_set(&keys::METRICS_PORT) {
            let ports = configuration.ports(&keys::METRICS_PORT)?.unwrap_or((0, 0));
            let listener = network::listen(address, ports, keys::METRICS_PORT.key).await?;
            servers.push(MetricsServer::start(listener, render.clone(), figures.clone(), handle)?);
        }
        for PrometheusReporter { name, ports } in reporters {
            let listener = network::listen(address, ports, &format!("metrics.reporter.{name}.port")).await?;
            servers.push(MetricsServer::start(listener, render.clone(), figures.clone(), handle)?);
        }
        Ok(servers)
    }

    /// Serves on `listener`, on the runtime `handle`.
    fn start(
        listener: TcpListener,
        render: RenderMetrics,
        figures: Arc<Mutex<ProcessFigures>>,
        handle: &Handle,
    ) -> Result<MetricsServer> {
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(ErrorKind::Resource, format!("the metrics endpoint has no address: {e}")))?;
        let body = move || {
            figures.lock().publish();
            let text = render();
            async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
        };
        let router = Router::new().route("/metrics", get(body));
        let task = handle.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the metrics endpoint has ended");
            }
        });
        Ok(MetricsServer { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
