//! From a job graph to a [`Submission`]: planning, checks of connectors, coordinators, storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use hurtig_graph::config::keys;
use hurtig_graph::connector::{ConnectorCatalog, ConnectorError};
use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_graph::error::{ErrorKind, GraphError};
use hurtig_graph::ids::JobId;
use hurtig_graph::job::{ExprResolver, JobPlan, plan};
use hurtig_graph::schema::RowSchema;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use hurtig_proto::v1::operator::Kind;
use xxhash_rust::xxh3::xxh3_64;

use super::{Declare, JobManagerConfig, SqlHandler, StorageFactory};
use crate::error::{Result, SchedulerError};
use crate::ha::HaStorage;
use crate::job::{Submission, savepoint};
use crate::settings::{JobSettings, StartFrom};
use crate::storage::{CheckpointStorage, StorageError};

/// What planning needs.
pub(super) struct SubmitContext {
    pub(super) config: JobManagerConfig,
    pub(super) catalog: Arc<dyn ConnectorCatalog>,
    pub(super) resolver: Arc<dyn ExprResolver>,
    pub(super) storage: StorageFactory,
    pub(super) declarations: Option<Declare>,
    pub(super) sql: Option<Arc<dyn SqlHandler>>,
    /// Where job graphs are kept.
    pub(super) ha: Option<Arc<dyn HaStorage>>,
}

/// Between two tries to read the graph of a job of an earlier leader.
const RECOVERY_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

impl SubmitContext {
    /// Everything that can fail does so here, before there is a job. May block.
    pub(super) fn prepare(&self, job: JobId, graph: &v1::JobGraph) -> Result<(Submission, Arc<dyn CheckpointStorage>)> {
        self.check_connectors(graph)?;
        let plan = plan(graph, self.resolver.as_ref(), &self.config.configuration)?;
        let settings = JobSettings::read(&plan.configuration)?;
        let coordinators = self.coordinators(&plan)?;
        let directory = self.checkpoint_directory(&plan, &settings);
        let storage = (self.storage)(&job, &directory, &plan.configuration)?;
        let checkpoint_directory = storage.directory();
        let seed = xxh3_64(job.as_str().as_bytes());
        Ok((Submission { job, plan, settings, coordinators, checkpoint_directory, seed }, storage))
    }

    /// Whether what a new job is to start from is there and fits it.
    pub(super) async fn check_start(
        &self,
        start: &StartFrom,
        plan: &JobPlan,
        storage: &dyn CheckpointStorage,
    ) -> Result<()> {
        let refused = |why| SchedulerError::Precondition(format!("the job cannot start from '{}': {why}", start.path));
        let metadata = storage.read_metadata(&start.path).await.map_err(|error| match error {
            StorageError::Unavailable(_) => error.into(),
            error => refused(error),
        })?;
        let declared = self.declarations.as_ref().map(|declare| declare(plan)).unwrap_or_default();
        savepoint::check(start, &metadata, plan, &declared).map_err(SchedulerError::Precondition)
    }

    /// Keeps a job graph for later leaders; gives the name of its object. `None`: there are none.
    pub(super) async fn keep_graph(&self, job: &JobId, graph: &v1::JobGraph, epoch: u64) -> Result<Option<String>> {
        match &self.ha {
            Some(storage) => Ok(Some(storage.write_graph(job, graph, epoch).await?)),
            None => Ok(None),
        }
    }

    /// The job that an earlier leader has kept. Waits for as long as the store is away.
    pub(super) async fn prepare_recovered(
        self: Arc<Self>,
        storage: Arc<dyn HaStorage>,
        entry: &internal::RegisteredJob,
    ) -> Result<(Submission, Arc<dyn CheckpointStorage>)> {
        let job = JobId::parse(&entry.job_id)?;
        let graph = loop {
            match storage.read_graph(&entry.graph_object).await {
                Err(StorageError::Unavailable(reason)) => {
                    tracing::warn!(%job, reason, "the graph of a job cannot be read yet");
                    tokio::time::sleep(RECOVERY_PAUSE).await;
                }
                read => break read?,
            }
        };
        let prepared = tokio::task::spawn_blocking(move || self.prepare(job, &graph)).await;
        prepared.map_err(|error| SchedulerError::Other {
            kind: ErrorKind::Internal,
            message: format!("planning has crashed: {error}"),
        })?
    }

    fn check_connectors(&self, graph: &v1::JobGraph) -> Result<()> {
        for (i, vertex) in graph.vertices.iter().enumerate() {
            let kind = vertex.operator.as_ref().and_then(|operator| operator.kind.as_ref());
            let (path, checked) = match kind {
                Some(Kind::Source(source)) => {
                    let path = format!("vertices[{i}].operator.source");
                    let schema = schema_at(&path, source.schema.as_ref())?;
                    (path, self.catalog.source(&source.options, &schema).map(|_| ()))
                }
                Some(Kind::Sink(sink)) => {
                    let path = format!("vertices[{i}].operator.sink");
                    let schema = schema_at(&path, sink.schema.as_ref())?;
                    (path, self.catalog.sink(&sink.options, &schema).map(|_| ()))
                }
                _ => continue,
            };
            checked.map_err(|error| connector_error(&path, error))?;
        }
        Ok(())
    }

    fn coordinators(&self, plan: &JobPlan) -> Result<BTreeMap<String, Box<dyn OperatorCoordinator>>> {
        let mut coordinators = BTreeMap::new();
        for operator in plan.vertices.iter().flat_map(|vertex| &vertex.operators) {
            if let Some(Kind::Source(source)) = &operator.kind
                && let Some(coordinator) = self.catalog.source_coordinator(&source.options)?
            {
                coordinators.insert(operator.uid.clone(), coordinator);
            }
        }
        Ok(coordinators)
    }

    /// The folder of all checkpoints. Without one a folder below the JobManager's own is used, which
    /// other machines cannot reach.
    fn checkpoint_directory(&self, plan: &JobPlan, settings: &JobSettings) -> String {
        if let Some(directory) = plan.configuration.text(&keys::CHECKPOINTING_DIRECTORY).filter(|d| !d.is_empty()) {
            return directory.to_owned();
        }
        let directory = format!("file://{}", self.config.temp_dir.join("checkpoints").display());
        if settings.checkpoints.interval_ms.is_some() {
            tracing::warn!(
                "execution.checkpointing.dir is not set: checkpoints go to {directory}, which is lost with this \
                 JobManager and out of reach for TaskManagers on other machines"
            );
        }
        directory
    }
}

fn schema_at(path: &str, schema: Option<&v1::Schema>) -> Result<RowSchema> {
    let schema = schema.cloned().unwrap_or_default();
    RowSchema::from_proto(&schema).map_err(|error| match error {
        GraphError::Graph { path: inner, reason } => GraphError::at(format!("{path}.schema.{inner}"), reason).into(),
        other => GraphError::at(format!("{path}.schema"), other.to_string()).into(),
    })
}

fn connector_error(path: &str, error: ConnectorError) -> SchedulerError {
    match error.kind {
        ErrorKind::Validation | ErrorKind::Config => GraphError::at(format!("{path}.options"), error.message).into(),
        kind => SchedulerError::Other { kind, message: format!("{path}: {}", error.message) },
    }
}
