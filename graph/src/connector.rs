//! What the planner and the JobManager need to know of connectors without depending on them.

use std::collections::BTreeMap;

use crate::coordinator::OperatorCoordinator;
use crate::error::ErrorKind;
use crate::schema::RowSchema;

/// Table options, as in `CREATE TABLE ... WITH`.
pub type Options = BTreeMap<String, String>;

/// Why a connector refuses its options or a table. The message says what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorError {
    /// Validation, Unsupported, Config or Storage.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

impl ConnectorError {
    /// A validation error.
    pub fn validation(message: impl Into<String>) -> Self {
        ConnectorError { kind: ErrorKind::Validation, message: message.into() }
    }
}

/// What a source table offers.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceInfo {
    /// The source ends by itself.
    pub bounded: bool,
    /// It can leave out columns.
    pub projection_pushdown: bool,
    /// Its rows may be -U, +U and -D too.
    pub changelog: bool,
}

/// What a sink table accepts.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkInfo {
    /// -U, +U, -D are accepted, not only +I.
    pub accepts_updates: bool,
    /// Wants -U before +U (accepts_updates only). Otherwise an upsert sink.
    pub wants_update_before: bool,
}

/// The connectors known to a process: checks for the planner, coordinators and split discovery for
/// the JobManager. Implemented by `hurtig-connectors`, extended by users of the library.
pub trait ConnectorCatalog: Send + Sync {
    /// Checks the options of a table that is read.
    fn source(&self, options: &Options, schema: &RowSchema) -> Result<SourceInfo, ConnectorError>;

    /// Checks the options of a table that is written.
    fn sink(&self, options: &Options, schema: &RowSchema) -> Result<SinkInfo, ConnectorError>;

    /// The JobManager's part of a source, if its connector has one.
    fn source_coordinator(&self, options: &Options) -> Result<Option<Box<dyn OperatorCoordinator>>, ConnectorError>;

    /// Lists the splits of a source. Blocks; the JobManager calls it on a thread for that.
    fn discover_splits(&self, options: &Options) -> Result<Vec<Vec<u8>>, ConnectorError>;
}
