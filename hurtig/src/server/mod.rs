//! The two roles of a cluster: [`JobManagerServer`] and [`TaskManagerServer`]. Processes run one of
//! them, an embedded cluster several in one process, over loopback.

mod declarations;
mod ha;
mod jobmanager;
mod storage;
mod taskmanager;
mod work_dir;

pub use jobmanager::JobManagerServer;
pub use taskmanager::TaskManagerServer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hurtig_connectors::Connectors;
use hurtig_engine::expr::ScalarFunction;
use hurtig_engine::registry::{OperatorFactory, OperatorRegistry};
use hurtig_engine::taskmanager::config::OnFatal;
use hurtig_graph::config::{Configuration, keys};
use hurtig_sql::UserFunctions;

use crate::dataflow::{CLOSURE_FACTORY, Closures};
use crate::error::Result;
use crate::metrics::RenderMetrics;

/// What a server of either role is started with.
#[derive(Clone, Default)]
pub struct ServerOptions {
    /// Checked already.
    pub configuration: Configuration,
    /// Connectors, operators and functions of the user's.
    pub extensions: Extensions,
    /// Serves metrics where there is a recorder.
    pub metrics: Option<RenderMetrics>,
    /// Allows interfaces other than loopback without TLS and authentication.
    pub insecure_network: bool,
    /// Called when a TaskManager cannot go on because a task cannot be cancelled; without it that is
    /// logged, and the TaskManager leaves the JobManager until the task has ended.
    pub on_fatal: Option<OnFatal>,
}

impl ServerOptions {
    /// Whether ports may be on interfaces other than loopback.
    fn secured(&self) -> Result<bool> {
        Ok(self.insecure_network || self.configuration.bool(&keys::SSL_INTERNAL_ENABLED)?.unwrap_or(false))
    }

    /// The interface of the metrics endpoint, which has neither encryption nor authentication: that
    /// of the other ports only where the network is said to be trusted.
    fn metrics_interface(&self, address: IpAddr) -> IpAddr {
        match (self.insecure_network, address) {
            (true, _) => address,
            (false, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (false, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// What the processes of a cluster know beyond what is built in.
#[derive(Clone, Default)]
pub struct Extensions {
    pub(crate) connectors: Connectors,
    pub(crate) operators: Vec<(String, OperatorFactory)>,
    pub(crate) closures: Closures,
    /// Signatures of scalar functions, for SQL.
    pub(crate) functions: UserFunctions,
    /// What they compute, for the TaskManagers.
    pub(crate) kernels: Vec<(String, ScalarFunction)>,
}

impl Extensions {
    /// These connectors, in the place of the built-in ones.
    pub fn with_connectors(connectors: Connectors) -> Extensions {
        Extensions { connectors, ..Extensions::default() }
    }

    /// The factories of a TaskManager.
    pub(crate) fn registry(&self) -> Arc<OperatorRegistry> {
        let mut registry = OperatorRegistry::default();
        self.connectors.register(&mut registry);
        for (name, factory) in &self.operators {
            registry.register_operator(name.clone(), factory.clone());
        }
        for (name, kernel) in &self.kernels {
            registry.register_function(name, kernel.clone());
        }
        registry.register_operator(CLOSURE_FACTORY, self.closures.factory());
        Arc::new(registry)
    }
}
