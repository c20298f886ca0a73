//! The traits that a connector implements. Users of the library implement them for their own.

use hurtig_engine::operator::Operator;
use hurtig_engine::registry::{SinkSpec, SourceSpec};
use hurtig_engine::source::SourceReader;
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorError, Options, SinkInfo, SourceInfo};
use hurtig_graph::coordinator::OperatorCoordinator;

/// A connector that tables are read through.
pub trait SourceConnector: Send + Sync {
    /// Checks options and columns of a table.
    fn info(&self, options: &Options, schema: &RowSchema) -> Result<SourceInfo, ConnectorError>;

    /// The JobManager's part, if there is one.
    fn coordinator(&self, _options: &Options) -> Result<Option<Box<dyn OperatorCoordinator>>, ConnectorError> {
        Ok(None)
    }

    /// Lists the splits for the coordinator. May block.
    fn discover(&self, _options: &Options) -> Result<Vec<Vec<u8>>, ConnectorError> {
        Ok(Vec::new())
    }

    /// The reader of one subtask.
    fn reader(&self, spec: &SourceSpec) -> hurtig_engine::Result<Box<dyn SourceReader>>;
}

/// A connector that tables are written through.
pub trait SinkConnector: Send + Sync {
    /// Checks options and columns of a table.
    fn info(&self, options: &Options, schema: &RowSchema) -> Result<SinkInfo, ConnectorError>;

    /// The writer of one subtask.
    fn writer(&self, spec: &SinkSpec) -> hurtig_engine::Result<Box<dyn Operator>>;
}
