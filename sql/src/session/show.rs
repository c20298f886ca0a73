//! SHOW, DESCRIBE and what SET shows.

use hurtig_graph::{LogicalType, TimeAttribute};
use hurtig_proto::v1;
use regex::RegexBuilder;

use super::{Session, SessionSettings, TableResult};
use crate::catalog::{CatalogObject, ColumnKind, DEFAULT_CATALOG, Table, View};
use crate::error::SqlError;
use crate::parser::{Name, Show, ShowFilter, ShowKind};

/// All keys that are set.
pub(super) fn settings(settings: &SessionSettings) -> TableResult {
    let rows = settings.configuration().as_map().iter().map(|(k, v)| vec![Some(k.clone()), Some(v.clone())]);
    TableResult::strings(&["key", "value"], rows.collect())
}

/// The vertices of a graph as JSON.
pub(super) fn graph_json(graph: &v1::JobGraph) -> String {
    let nodes: Vec<serde_json::Value> = graph
        .vertices
        .iter()
        .map(|vertex| {
            let predecessors: Vec<serde_json::Value> = graph
                .edges
                .iter()
                .filter(|edge| edge.to == vertex.id)
                .map(|edge| serde_json::json!({ "id": edge.from, "ordered": edge.ordered }))
                .collect();
            serde_json::json!({
                "id": vertex.id,
                "type": vertex.operator.as_ref().map(|o| o.name.clone()),
                "parallelism": vertex.parallelism,
                "predecessors": predecessors,
            })
        })
        .collect();
    serde_json::to_string_pretty(&serde_json::json!({ "nodes": nodes })).unwrap_or_default()
}

impl Session {
    pub(super) fn show(&self, show: &Show) -> Result<TableResult, SqlError> {
        match show.kind {
            ShowKind::Catalogs => filtered("catalog name", vec![DEFAULT_CATALOG.to_owned()], show.filter.as_ref()),
            ShowKind::CurrentCatalog => {
                Ok(TableResult::one_column("current catalog name", vec![DEFAULT_CATALOG.to_owned()]))
            }
            ShowKind::Databases => filtered("database name", self.catalog.databases(), show.filter.as_ref()),
            ShowKind::CurrentDatabase => {
                let current = self.catalog.current_database().to_owned();
                Ok(TableResult::one_column("current database name", vec![current]))
            }
            ShowKind::Tables => self.show_names("table name", show, false),
            ShowKind::Views => self.show_names("view name", show, true),
            ShowKind::Columns => {
                let name = required(show)?;
                let mut table = self.describe(name)?;
                if let Some(filter) = &show.filter {
                    let matches = matcher(filter)?;
                    table.rows.retain(|row| row[0].as_deref().is_some_and(&matches));
                }
                Ok(table)
            }
            ShowKind::CreateTable => match self.catalog.find(required(show)?)? {
                CatalogObject::Table(table) => Ok(TableResult::one_column("result", vec![table.to_sql()])),
                CatalogObject::View(view) => {
                    Err(SqlError::validation(format!("'{}' is a view: use SHOW CREATE VIEW", view.id)))
                }
            },
            ShowKind::CreateView => match self.catalog.find(required(show)?)? {
                CatalogObject::View(view) => Ok(TableResult::one_column("result", vec![view.to_sql()])),
                CatalogObject::Table(table) => {
                    Err(SqlError::validation(format!("'{}' is a table: use SHOW CREATE TABLE", table.id)))
                }
            },
        }
    }

    fn show_names(&self, title: &str, show: &Show, views: bool) -> Result<TableResult, SqlError> {
        let database = match &show.of {
            Some(name) => self.catalog.database_name(&name.parts)?,
            None => self.catalog.current_database().to_owned(),
        };
        if !self.catalog.databases().contains(&database) {
            return Err(SqlError::validation(format!("database '{database}' does not exist")));
        }
        filtered(title, self.catalog.names(&database, views), show.filter.as_ref())
    }

    pub(super) fn describe(&self, name: &Name) -> Result<TableResult, SqlError> {
        let rows = match self.catalog.find(name)? {
            CatalogObject::Table(table) => describe_table(table),
            CatalogObject::View(view) => describe_view(view),
        };
        let mut titles = vec!["name", "type", "null", "key", "extras", "watermark"];
        let has_comments = rows.iter().any(|row| row[6].is_some());
        if has_comments {
            titles.push("comment");
        }
        let rows = rows.into_iter().map(|mut row| {
            row.truncate(titles.len());
            row
        });
        let rows = rows.collect();
        let mut table = TableResult::strings(&titles, rows);
        table.schema.fields[2].data_type = LogicalType::Boolean.nullable();
        Ok(table)
    }
}

fn required(show: &Show) -> Result<&Name, SqlError> {
    show.of.as_ref().ok_or_else(|| SqlError::Internal("SHOW lacks the name of its object".to_owned()))
}

fn filtered(title: &str, names: Vec<String>, filter: Option<&ShowFilter>) -> Result<TableResult, SqlError> {
    let names = match filter {
        None => names,
        Some(filter) => {
            let matches = matcher(filter)?;
            names.into_iter().filter(|name| matches(name)).collect()
        }
    };
    Ok(TableResult::one_column(title, names))
}

/// `_` is one character, `%` any number.
fn matcher(filter: &ShowFilter) -> Result<impl Fn(&str) -> bool + use<>, SqlError> {
    let mut pattern = String::from("^");
    for c in filter.pattern.chars() {
        match c {
            '_' => pattern.push('.'),
            '%' => pattern.push_str(".*"),
            other => pattern.push_str(&regex::escape(&other.to_string())),
        }
    }
    pattern.push('$');
    let regex = RegexBuilder::new(&pattern)
        .case_insensitive(filter.ignore_case)
        .dot_matches_new_line(true)
        .build()
        .map_err(|e| SqlError::validation(format!("the pattern '{}' is too large: {e}", filter.pattern)))?;
    let negated = filter.negated;
    Ok(move |text: &str| regex.is_match(text) != negated)
}

type Row = Vec<Option<String>>;

/// The type as Flink shows it: with the kind of time attribute, without nullability.
fn shown_type(logical: &LogicalType, time: TimeAttribute) -> String {
    match time {
        TimeAttribute::None => logical.to_string(),
        TimeAttribute::Rowtime => format!("{logical} *ROWTIME*"),
        TimeAttribute::Proctime => format!("{logical} *PROCTIME*"),
    }
}

fn describe_table(table: &Table) -> Vec<Row> {
    let schema = table.schema();
    let key = table.primary_key.as_ref();
    let row = |(i, column): (usize, &crate::catalog::TableColumn)| {
        let field = &schema.fields[i];
        let extras = match &column.kind {
            ColumnKind::Physical => None,
            ColumnKind::Computed { text, .. } => Some(format!("AS {text}")),
            ColumnKind::Metadata { key, is_virtual } => {
                let from = key.as_ref().map(|k| format!(" FROM '{k}'")).unwrap_or_default();
                Some(format!("METADATA{from}{}", if *is_virtual { " VIRTUAL" } else { "" }))
            }
        };
        let in_key = key.filter(|k| k.columns.contains(&column.name));
        vec![
            Some(column.name.clone()),
            Some(shown_type(&field.data_type.logical, field.time)),
            Some(field.data_type.nullable.to_string()),
            in_key.map(|k| format!("PRI({})", k.columns.join(", "))),
            extras,
            table.watermark.as_ref().filter(|w| w.column == i).map(|w| w.text.clone()),
            column.comment.clone(),
        ]
    };
    table.columns.iter().enumerate().map(row).collect()
}

fn describe_view(view: &View) -> Vec<Row> {
    let row = |field: &hurtig_graph::RowField| {
        vec![
            Some(field.name.clone()),
            Some(shown_type(&field.data_type.logical, field.time)),
            Some(field.data_type.nullable.to_string()),
            None,
            None,
            None,
            None,
        ]
    };
    view.schema.fields.iter().map(row).collect()
}
