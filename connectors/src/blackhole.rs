//! The `blackhole` sink: takes every row and keeps none.

use hurtig_engine::operator::{Collector, Flow, Operator, OperatorContext};
use hurtig_engine::registry::SinkSpec;
use hurtig_engine::{Batch, Result};
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorError, Options, SinkInfo};

use crate::connector::SinkConnector;
use crate::enforcer::Enforced;
use crate::options::TableOptions;

/// The connector.
pub struct BlackholeConnector;

impl SinkConnector for BlackholeConnector {
    fn info(&self, options: &Options, _schema: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        TableOptions::new(options).reject_unknown(&[], &[])?;
        Ok(SinkInfo { accepts_updates: true, wants_update_before: true })
    }

    fn writer(&self, spec: &SinkSpec) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Enforced::new(Blackhole, spec.schema.clone())))
    }
}

struct Blackhole;

impl Operator for Blackhole {
    fn open(&mut self, _context: OperatorContext) -> Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: usize, _batch: Batch, _out: &mut dyn Collector) -> Result<Flow> {
        Ok(Flow::Done)
    }
}
