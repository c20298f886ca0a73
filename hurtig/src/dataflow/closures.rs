//! Rust closures as operators of an embedded cluster.
//!
//! A job graph can only name what a process has registered. Closures of a [`Dataflow`] are kept by
//! the cluster that runs it, under a key that the graph carries.
//!
//! [`Dataflow`]: super::Dataflow

use std::collections::BTreeMap;
use std::sync::Arc;

use hurtig_engine::operator::OperatorContext;
use hurtig_engine::registry::OperatorFactory;
use hurtig_engine::{Batch, Collector, EngineError, Flow, Operator};
use parking_lot::Mutex;

/// The name under which closures are found.
pub(crate) const CLOSURE_FACTORY: &str = "hurtig.closure";

/// Why a closure refuses a batch: fails the job.
pub type BatchError = Box<dyn std::error::Error + Send + Sync>;

/// The closures of all jobs of a cluster.
#[derive(Clone, Default)]
pub(crate) struct Closures {
    factories: Arc<Mutex<BTreeMap<String, OperatorFactory>>>,
}

impl Closures {
    pub fn add(&self, closures: Vec<(String, OperatorFactory)>) {
        self.factories.lock().extend(closures);
    }

    /// Builds the operator of a closure by its key.
    pub fn factory(&self) -> OperatorFactory {
        let factories = self.factories.clone();
        Arc::new(move |key: &[u8]| {
            let key = String::from_utf8_lossy(key);
            let factory = factories.lock().get(key.as_ref()).cloned();
            let factory = factory.ok_or_else(|| {
                EngineError::Validation("the job has a closure of another process: closures run embedded only".into())
            })?;
            factory(&[])
        })
    }
}

pub(super) fn map_batches_factory<F>(map: F) -> OperatorFactory
where
    F: Fn(Batch) -> Result<Batch, BatchError> + Send + Sync + 'static,
{
    let map = Arc::new(map);
    Arc::new(move |_| Ok(Box::new(MapBatches { map: map.clone(), context: None }) as Box<dyn Operator>))
}

struct MapBatches<F> {
    map: Arc<F>,
    context: Option<OperatorContext>,
}

impl<F> Operator for MapBatches<F>
where
    F: Fn(Batch) -> Result<Batch, BatchError> + Send + Sync + 'static,
{
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        self.context = Some(context);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> hurtig_engine::Result<Flow> {
        let mapped = (self.map)(batch).map_err(|e| EngineError::Runtime(format!("map_batches: {e}")))?;
        if let Some(context) = &self.context {
            check(&mapped, context)?;
        }
        out.emit(mapped);
        Ok(Flow::Done)
    }
}

/// The batch must have the columns that were declared.
fn check(batch: &Batch, context: &OperatorContext) -> hurtig_engine::Result<()> {
    let (declared, actual) = (context.output.to_arrow(), batch.schema());
    let types =
        |schema: &arrow::datatypes::Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    if types(&declared) == types(&actual) {
        return Ok(());
    }
    Err(EngineError::Runtime(format!(
        "map_batches gave columns of types {:?}, but {:?} were declared",
        types(&actual),
        types(&declared)
    )))
}
