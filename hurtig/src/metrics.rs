//! The Prometheus endpoint of a process: `GET /metrics`.
//!
//! The library installs no recorder; whoever owns the process does, and hands over what renders it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hurtig_graph::ErrorKind;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

/// Gives the text of all metrics in Prometheus' format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves metrics until it is dropped.
pub(crate) struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Serves on `listener`, on the runtime `handle`.
    pub fn start(listener: TcpListener, render: RenderMetrics, handle: &Handle) -> Result<MetricsServer> {
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(ErrorKind::Resource, format!("the metrics endpoint has no address: {e}")))?;
        let body = move || {
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
