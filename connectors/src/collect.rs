//! The `collect` sink: sends rows to the client that submitted the job.
//!
//! Delivery exactly once is the JobManager's part: it holds rows back until the checkpoint that
//! covers them is complete.

use std::sync::Arc;

use hurtig_engine::operator::{Collector, Flow, Operator, OperatorContext};
use hurtig_engine::registry::SinkSpec;
use hurtig_engine::{Batch, EngineError, Result};
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorError, Options, SinkInfo};

use crate::connector::SinkConnector;

/// The connector.
pub struct CollectConnector;

impl SinkConnector for CollectConnector {
    fn info(&self, _options: &Options, _schema: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        Ok(SinkInfo { accepts_updates: true, wants_update_before: true })
    }

    fn writer(&self, _spec: &SinkSpec) -> Result<Box<dyn Operator>> {
        Ok(Box::new(CollectWriter { send: None }))
    }
}

struct CollectWriter {
    send: Option<Arc<dyn Fn(Batch) + Send + Sync>>,
}

impl Operator for CollectWriter {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        self.send = Some(context.collect);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> Result<Flow> {
        let send = self.send.as_ref().ok_or_else(|| EngineError::Internal("the collect sink is not open".into()))?;
        send(batch);
        Ok(Flow::Done)
    }
}
