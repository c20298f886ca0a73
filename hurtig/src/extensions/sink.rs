//! A sink that calls a closure.

use std::sync::Arc;

use hurtig_connectors::connector::SinkConnector;
use hurtig_engine::registry::SinkSpec;
use hurtig_engine::{Batch, Collector, EngineError, Flow, Operator, OperatorContext};
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorError, Options, SinkInfo};

use super::ExtensionError;

type Write = dyn Fn(&Batch) -> Result<(), ExtensionError> + Send + Sync;

/// Calls a closure with every batch, on the task's thread, from several subtasks at once. Rows may
/// come again after a failure: the closure is at-least-once.
#[derive(Clone)]
pub struct FnSink {
    write: Arc<Write>,
}

impl FnSink {
    /// Of a closure.
    pub fn new<F>(write: F) -> FnSink
    where
        F: Fn(&Batch) -> Result<(), ExtensionError> + Send + Sync + 'static,
    {
        FnSink { write: Arc::new(write) }
    }
}

impl SinkConnector for FnSink {
    fn info(&self, _options: &Options, _schema: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        Ok(SinkInfo { accepts_updates: true, wants_update_before: true })
    }

    fn writer(&self, _spec: &SinkSpec) -> hurtig_engine::Result<Box<dyn Operator>> {
        Ok(Box::new(Writer { write: self.write.clone() }))
    }
}

struct Writer {
    write: Arc<Write>,
}

impl Operator for Writer {
    fn open(&mut self, _context: OperatorContext) -> hurtig_engine::Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> hurtig_engine::Result<Flow> {
        (self.write)(&batch).map_err(|e| EngineError::Runtime(format!("the sink refused a batch: {e}")))?;
        Ok(Flow::Done)
    }
}
