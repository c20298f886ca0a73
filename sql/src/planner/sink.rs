//! INSERT: what a query's columns become in the table that is written.

use hurtig_graph::connector::{Options, SinkInfo};
use hurtig_graph::{DataType, Expr, Literal, LogicalType, RowField, RowSchema};
use sqlparser::ast::Spanned;
use sqlparser::tokenizer::Span;

use super::aggregate::conjunction;
use super::node::{NodeKind, Projection, Sink};
use super::query::{Environment, Relation};
use super::{NodeId, Planner};
use crate::binder::{self, Scope};
use crate::catalog::{CatalogObject, ColumnKind, Table, TableColumn};
use crate::error::SqlError;
use crate::parser::Insert;

/// A table to write, before its rows are known.
struct Target {
    name: String,
    options: Options,
    sink: Sink,
}

impl Planner<'_> {
    /// Plans the inserts of one job; those into the same table are merged in front of one sink.
    pub(crate) fn inserts(&mut self, inserts: &[Insert]) -> Result<Vec<NodeId>, SqlError> {
        let mut targets: Vec<(Target, Vec<NodeId>)> = Vec::new();
        for insert in inserts {
            let (target, node) = self.insert(insert)?;
            match targets.iter_mut().find(|(t, _)| t.name == target.name && t.options == target.options) {
                Some((_, nodes)) => nodes.push(node),
                None => targets.push((target, vec![node])),
            }
        }
        let mut sinks = Vec::new();
        for (target, nodes) in targets {
            let input = match nodes.as_slice() {
                [node] => *node,
                _ => self.plan.add(NodeKind::Union, nodes)?,
            };
            sinks.push(self.plan.add(NodeKind::Sink(target.sink), vec![input])?);
        }
        Ok(sinks)
    }

    /// Ends a query in a sink that sends its rows to the client.
    pub(crate) fn collect(&mut self, relation: &Relation) -> Result<NodeId, SqlError> {
        let schema = relation.schema();
        let names: Vec<String> = schema.fields.iter().map(|f| f.name.clone()).collect();
        let types: Vec<DataType> = schema.fields.iter().map(|f| f.data_type.clone()).collect();
        let node = self.conform(relation, &names, &types)?;
        let sink = Sink {
            table: "collect".to_owned(),
            options: Options::from([("connector".to_owned(), "collect".to_owned())]),
            schema,
            primary_key: Vec::new(),
            partition_by: Vec::new(),
            info: SinkInfo { accepts_updates: true, wants_update_before: false },
        };
        self.plan.add(NodeKind::Sink(sink), vec![node])
    }

    fn insert(&mut self, insert: &Insert) -> Result<(Target, NodeId), SqlError> {
        let span = insert.table.span;
        let table = match self.catalog.find(&insert.table)? {
            CatalogObject::Table(table) => table.clone(),
            CatalogObject::View(view) => {
                return Err(SqlError::validation_at(format!("'{}' is a view: it cannot be written", view.id), span));
            }
        };
        if insert.overwrite {
            return Err(SqlError::unsupported("INSERT OVERWRITE is", span));
        }
        let target = self.target(&table, &insert.hints, span)?;
        let targets = target_columns(&table, insert)?;
        let relation = self.query(&insert.query, &Environment::default())?;
        check_columns(&table, &targets, &relation, insert.query.span())?;
        let node = self.written_rows(&table, insert, &targets, &relation)?;
        Ok((target, node))
    }

    fn target(&self, table: &Table, hints: &[(String, String)], span: Span) -> Result<Target, SqlError> {
        let options = self.hinted_options(table, hints, span)?;
        if let Some(column) = table.sink_columns().into_iter().find(|c| matches!(c.kind, ColumnKind::Metadata { .. })) {
            let construct = format!("writing metadata columns ('{}' of table {}) is", column.name, table.id);
            return Err(SqlError::unsupported(construct, span));
        }
        let schema = RowSchema::new(
            table.sink_columns().into_iter().map(|c| RowField::new(&c.name, c.data_type.clone())).collect(),
        );
        let name = table.id.to_string();
        let info = self.connectors.sink(&options, &schema).map_err(|e| SqlError::connector(&name, e))?;
        let position = |column: &String| schema.index_of(column);
        let primary_key = table.primary_key.iter().flat_map(|k| k.columns.iter().filter_map(position)).collect();
        let partition_by = table.partitioned_by.iter().filter_map(position).collect();
        let sink = Sink {
            table: name.clone(),
            options: options.clone(),
            schema: schema.clone(),
            primary_key,
            partition_by,
            info,
        };
        Ok(Target { name, options, sink })
    }

    /// The rows as the sink takes them: all its columns, in its order and types.
    fn written_rows(
        &mut self,
        table: &Table,
        insert: &Insert,
        targets: &[&TableColumn],
        relation: &Relation,
    ) -> Result<NodeId, SqlError> {
        let scope = Scope { columns: Vec::new(), session: self.settings };
        let mut projections = Vec::new();
        for column in table.sink_columns() {
            let partition = insert.partition.iter().find(|(name, _)| *name == column.name);
            let target = targets.iter().position(|t| t.name == column.name);
            let expr = match (partition, target) {
                (Some((_, value)), _) => binder::bind_scalar(value, &scope)
                    .map_err(|e| e.or_at(value.span()))?
                    .cast_to(column.data_type.clone()),
                (None, Some(position)) => {
                    let source = &relation.columns[position];
                    let nullable = source.data_type.nullable;
                    Expr::column(source.index, source.data_type.clone())
                        .cast_to(column.data_type.with_nullable(nullable))
                }
                (None, None) if column.data_type.nullable => Expr::literal(Literal::Null, column.data_type.clone()),
                (None, None) => {
                    return Err(SqlError::validation_at(
                        format!("column '{}' has no default value and does not allow NULLs", column.name),
                        insert.table.span,
                    ));
                }
            };
            projections.push(Projection { name: column.name.clone(), expr });
        }
        let not_null = self.not_null_filter(table, &projections)?;
        let node = self.project(relation.node, None, projections)?;
        let schema = self.plan.schema(node);
        let conditions = not_null
            .into_iter()
            .map(|column| {
                let value = vec![Expr::column_of(schema, column)];
                Expr::call("IS NOT NULL", value, LogicalType::Boolean.not_null())
            })
            .collect();
        self.plan.calc(node, conjunction(conditions), None)
    }

    /// The columns whose NULLs are to be dropped instead of failing the job.
    fn not_null_filter(&self, table: &Table, projections: &[Projection]) -> Result<Vec<usize>, SqlError> {
        const KEY: &str = "table.exec.sink.not-null-enforcer";
        let drop = match self.settings.get(KEY).map(str::to_ascii_uppercase).as_deref() {
            None | Some("ERROR") => false,
            Some("DROP") => true,
            Some(other) => return Err(SqlError::Config(format!("{KEY}: '{other}' is neither ERROR nor DROP"))),
        };
        let columns = table.sink_columns();
        let dropped = |i: &usize| !columns[*i].data_type.nullable && projections[*i].expr.data_type.nullable;
        Ok(if drop { (0..columns.len()).filter(dropped).collect() } else { Vec::new() })
    }
}

/// The columns that the query's columns go to, in order.
fn target_columns<'t>(table: &'t Table, insert: &Insert) -> Result<Vec<&'t TableColumn>, SqlError> {
    let span = insert.table.span;
    let columns = table.sink_columns();
    for (name, value) in &insert.partition {
        if !table.partitioned_by.contains(name) {
            let message = format!("'{name}' is not a partition column of table {}", table.id);
            return Err(SqlError::validation_at(message, value.span()));
        }
    }
    let is_static = |name: &str| insert.partition.iter().any(|(n, _)| n == name);
    if insert.columns.is_empty() {
        return Ok(columns.into_iter().filter(|c| !is_static(&c.name)).collect());
    }
    let mut targets: Vec<&TableColumn> = Vec::new();
    for (name, column_span) in &insert.columns {
        let column = columns.iter().copied().find(|c| c.name == *name).ok_or_else(|| {
            let message = match table.index_of(name) {
                Some(_) => format!("column '{name}' is computed or virtual: it cannot be written"),
                None => format!("column '{name}' not found in table {}", table.id),
            };
            SqlError::validation_at(message, *column_span)
        })?;
        if targets.iter().any(|t| t.name == *name) || is_static(name) {
            return Err(SqlError::validation_at(format!("column '{name}' is given twice"), *column_span));
        }
        targets.push(column);
    }
    if targets.is_empty() {
        return Err(SqlError::validation_at("the column list is empty", span));
    }
    Ok(targets)
}

fn check_columns(table: &Table, targets: &[&TableColumn], relation: &Relation, span: Span) -> Result<(), SqlError> {
    let mismatch = |cause: String| {
        let query: Vec<String> = relation.columns.iter().map(|c| format!("{}: {}", c.name, c.data_type)).collect();
        let sink: Vec<String> = targets.iter().map(|c| format!("{}: {}", c.name, c.data_type)).collect();
        let message = format!(
            "column types of query result and sink '{}' do not match: {cause}; query schema: [{}]; sink schema: [{}]",
            table.id,
            query.join(", "),
            sink.join(", ")
        );
        SqlError::validation_at(message, span)
    };
    if relation.columns.len() != targets.len() {
        let cause = format!("the query has {} columns, the sink takes {}", relation.columns.len(), targets.len());
        return Err(mismatch(cause));
    }
    for (i, (column, target)) in relation.columns.iter().zip(targets).enumerate() {
        let (from, to) = (&column.data_type.logical, &target.data_type.logical);
        let fits = from == to || *from == LogicalType::Null || binder::implicit_cast_allowed(from, to);
        if !fits {
            return Err(mismatch(format!("incompatible types for sink column '{}' at position {i}", target.name)));
        }
    }
    Ok(())
}
