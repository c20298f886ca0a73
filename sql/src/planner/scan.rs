//! Reading a table: source, computed columns, watermark.

use std::sync::Arc;

use hurtig_graph::config::{ConfigOption, Configuration, keys};
use hurtig_graph::connector::Options;
use hurtig_graph::{Expr, GraphError};
use sqlparser::tokenizer::Span;

use super::node::{NodeKind, Projection, Source, WatermarkAssigner};
use super::{NodeId, Planner};
use crate::catalog::{ColumnKind, Table};
use crate::error::SqlError;

/// The table option that overrides the session's idle timeout.
const TABLE_IDLE_TIMEOUT: ConfigOption =
    ConfigOption { key: "scan.watermark.idle-timeout", ..keys::SOURCE_IDLE_TIMEOUT };

fn config_error(error: GraphError) -> SqlError {
    match error {
        GraphError::Config(message) => SqlError::Config(message),
        other => SqlError::Internal(other.to_string()),
    }
}

/// Flink's key: events of a source of changes may come more than once, and are normalised by primary key.
const CDC_EVENTS_DUPLICATE: &str = "table.exec.source.cdc-events-duplicate";

impl Planner<'_> {
    /// The rows of a table with all its columns.
    pub(super) fn scan(
        &mut self,
        table: &Arc<Table>,
        hints: &[(String, String)],
        span: Span,
    ) -> Result<NodeId, SqlError> {
        let options = self.hinted_options(table, hints, span)?;
        let key = (table.id.clone(), options.clone());
        if let Some(&node) = self.scans.get(&key) {
            return Ok(node);
        }
        if let Some(column) = table.metadata_column() {
            let construct = format!("metadata columns ('{}' of table {}) are", column.name, table.id);
            return Err(SqlError::unsupported(construct, span));
        }
        let source = self.source(table, options)?;
        // Without it the repeated events of such a source would count twice.
        if source.info.changelog && self.settings.bool(CDC_EVENTS_DUPLICATE, false)? {
            return Err(SqlError::unsupported(format!("'{CDC_EVENTS_DUPLICATE}' for table {} is", table.id), span));
        }
        let idle_timeout_ms = self.idle_timeout(&source.options)?;
        let mut node = self.plan.add(NodeKind::Source(source), Vec::new())?;
        if table.columns.iter().any(|c| matches!(c.kind, ColumnKind::Computed { .. })) {
            let projections = self.table_projections(table, node);
            node = self.plan.calc(node, None, Some(projections))?;
        }
        if let Some(watermark) = &table.watermark {
            let assigner =
                WatermarkAssigner { rowtime: watermark.column, expr: watermark.expr.clone(), idle_timeout_ms };
            node = self.plan.add(NodeKind::Watermark(assigner), vec![node])?;
        }
        self.scans.insert(key, node);
        Ok(node)
    }

    fn source(&self, table: &Table, options: Options) -> Result<Source, SqlError> {
        let physical = table.physical();
        let name = table.id.to_string();
        let info = self.connectors.source(&options, &physical).map_err(|e| SqlError::connector(&name, e))?;
        let position = |column: &String| physical.index_of(column);
        let primary_key = table.primary_key.as_ref().and_then(|key| key.columns.iter().map(position).collect());
        let projection = (0..physical.len()).collect();
        Ok(Source { table: name, options, physical, projection, info, primary_key, single: false })
    }

    /// All columns of the table, computed ones evaluated, over its physical columns.
    fn table_projections(&self, table: &Table, source: NodeId) -> Vec<Projection> {
        let schema = self.plan.schema(source);
        let physical = |index: usize| schema.index_of(&table.columns[index].name).unwrap_or(0);
        let projection = |(index, column): (usize, &crate::catalog::TableColumn)| {
            let expr = match &column.kind {
                ColumnKind::Computed { expr, .. } => expr.map_columns(&physical),
                _ => Expr::column_of(schema, physical(index)),
            };
            Projection { name: column.name.clone(), expr }
        };
        table.columns.iter().enumerate().map(projection).collect()
    }

    /// The options of a table with those of a hint on top.
    pub(super) fn hinted_options(
        &self,
        table: &Table,
        hints: &[(String, String)],
        span: Span,
    ) -> Result<Options, SqlError> {
        if !hints.is_empty() && !self.settings.bool("table.dynamic-table-options.enabled", true)? {
            return Err(SqlError::validation_at(
                "OPTIONS hints are switched off by table.dynamic-table-options.enabled",
                span,
            ));
        }
        let mut options = table.options.clone();
        options.extend(hints.iter().cloned());
        Ok(options)
    }

    fn idle_timeout(&self, options: &Options) -> Result<u64, SqlError> {
        let of_table =
            Configuration::from_map(options.clone()).duration_ms(&TABLE_IDLE_TIMEOUT).map_err(config_error)?;
        match of_table {
            Some(ms) => Ok(ms),
            None => Ok(self
                .settings
                .configuration()
                .duration_ms(&keys::SOURCE_IDLE_TIMEOUT)
                .map_err(config_error)?
                .unwrap_or(0)),
        }
    }

    /// How long the state of an aggregation is kept after its last change; 0: forever.
    pub(super) fn state_ttl(&self) -> Result<u64, SqlError> {
        Ok(self.settings.configuration().duration_ms(&keys::STATE_TTL).map_err(config_error)?.unwrap_or(0))
    }
}
