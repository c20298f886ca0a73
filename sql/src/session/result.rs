//! What statements give.

use hurtig_graph::{LogicalType, RowField, RowSchema};
use hurtig_proto::v1;

use crate::planner::ChangelogMode;

/// The result of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum StatementResult {
    /// Done; nothing to show.
    Ok,
    /// Rows that are there at once: SHOW, DESCRIBE, EXPLAIN, SET.
    Table(TableResult),
    /// A job that writes tables.
    Insert {
        /// To be submitted.
        graph: v1::JobGraph,
    },
    /// A job whose rows come back to the client: its sink has the connector "collect".
    Query {
        /// To be submitted.
        graph: v1::JobGraph,
        /// Of the rows.
        schema: RowSchema,
        /// Which kinds of change the rows carry.
        changelog: ChangelogMode,
        /// With [`ChangelogMode::Upsert`]: the columns by which +U replaces and -D removes a row.
        /// Empty for a result of a single row.
        upsert_key: Option<Vec<usize>>,
    },
}

/// Rows of text.
#[derive(Debug, Clone, PartialEq)]
pub struct TableResult {
    /// Columns; all are STRING but for those of DESCRIBE that are BOOLEAN.
    pub schema: RowSchema,
    /// Values as text.
    pub rows: Vec<Vec<Option<String>>>,
}

impl TableResult {
    /// Columns of type STRING.
    pub(crate) fn strings(names: &[&str], rows: Vec<Vec<Option<String>>>) -> TableResult {
        let fields = names.iter().map(|name| RowField::new(*name, LogicalType::STRING.nullable())).collect();
        TableResult { schema: RowSchema::new(fields), rows }
    }

    /// One column of type STRING.
    pub(crate) fn one_column(name: &str, values: Vec<String>) -> TableResult {
        TableResult::strings(&[name], values.into_iter().map(|v| vec![Some(v)]).collect())
    }
}
