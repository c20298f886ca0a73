//! Tables and views as the catalog keeps them: validated, with typed columns.

use hurtig_graph::connector::Options;
use hurtig_graph::{DataType, Expr, RowField, RowSchema, TimeAttribute};

use super::{ObjectIdentifier, quote};

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub id: ObjectIdentifier,
    pub columns: Vec<TableColumn>,
    pub watermark: Option<Watermark>,
    pub primary_key: Option<PrimaryKey>,
    pub comment: Option<String>,
    pub partitioned_by: Vec<String>,
    pub options: Options,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableColumn {
    pub name: String,
    pub data_type: DataType,
    pub kind: ColumnKind,
    pub comment: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub(crate) enum ColumnKind {
    Physical,
    /// `expr` over the table's columns, all of them, as in `Table::columns`.
    Computed {
        expr: Expr,
        text: String,
        proctime: bool,
    },
    Metadata {
        key: Option<String>,
        is_virtual: bool,
    },
}

/// `WATERMARK FOR column AS expr`.
#[derive(Debug, Clone)]
pub(crate) struct Watermark {
    /// Position in `Table::columns`.
    pub column: usize,
    /// Over the table's columns.
    pub expr: Expr,
    pub text: String,
}

/// `PRIMARY KEY (...) NOT ENFORCED`.
#[derive(Debug, Clone)]
pub(crate) struct PrimaryKey {
    pub name: String,
    pub columns: Vec<String>,
}

/// A view.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub id: ObjectIdentifier,
    /// The query's text.
    pub text: String,
    pub schema: RowSchema,
    pub comment: Option<String>,
    /// The database in which unqualified names of the query are looked up.
    pub database: String,
}

impl Table {
    /// What a query sees.
    pub(crate) fn schema(&self) -> RowSchema {
        RowSchema::new(self.columns.iter().enumerate().map(|(i, c)| self.field(i, c)).collect())
    }

    fn field(&self, index: usize, column: &TableColumn) -> RowField {
        let time = if self.watermark.as_ref().is_some_and(|w| w.column == index) {
            TimeAttribute::Rowtime
        } else if matches!(column.kind, ColumnKind::Computed { proctime: true, .. }) {
            TimeAttribute::Proctime
        } else {
            TimeAttribute::None
        };
        RowField { name: column.name.clone(), data_type: column.data_type.clone(), time }
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The columns that the connector stores.
    pub(crate) fn physical(&self) -> RowSchema {
        let physical = self.columns.iter().filter(|c| matches!(c.kind, ColumnKind::Physical));
        RowSchema::new(physical.map(|c| RowField::new(&c.name, c.data_type.clone())).collect())
    }

    /// The columns that an INSERT writes: physical and stored metadata ones.
    pub(crate) fn sink_columns(&self) -> Vec<&TableColumn> {
        let written = |c: &&TableColumn| match c.kind {
            ColumnKind::Physical => true,
            ColumnKind::Computed { .. } => false,
            ColumnKind::Metadata { is_virtual, .. } => !is_virtual,
        };
        self.columns.iter().filter(written).collect()
    }

    /// The first metadata column.
    pub(crate) fn metadata_column(&self) -> Option<&TableColumn> {
        self.columns.iter().find(|c| matches!(c.kind, ColumnKind::Metadata { .. }))
    }

    /// The statement that creates this table.
    pub(crate) fn to_sql(&self) -> String {
        let mut lines: Vec<String> = self.columns.iter().map(column_sql).collect();
        if let Some(watermark) = &self.watermark {
            let column = quote(&self.columns[watermark.column].name);
            lines.push(format!("WATERMARK FOR {column} AS {}", watermark.text));
        }
        if let Some(key) = &self.primary_key {
            let name = quote(&key.name);
            lines.push(format!("CONSTRAINT {name} PRIMARY KEY ({}) NOT ENFORCED", quoted_list(&key.columns)));
        }
        let mut sql = format!("CREATE TABLE {} (\n  {}\n)", self.id.quoted(), lines.join(",\n  "));
        if let Some(comment) = &self.comment {
            sql.push_str(&format!("\nCOMMENT {}", string_sql(comment)));
        }
        if !self.partitioned_by.is_empty() {
            sql.push_str(&format!("\nPARTITIONED BY ({})", quoted_list(&self.partitioned_by)));
        }
        if !self.options.is_empty() {
            let options: Vec<String> = self
                .options
                .iter()
                .map(|(k, v)| format!("  {} = {}", string_sql(k), string_sql(&shown(k, v))))
                .collect();
            sql.push_str(&format!("\nWITH (\n{}\n)", options.join(",\n")));
        }
        sql.push('\n');
        sql
    }
}

impl View {
    /// The statement that creates this view.
    pub(crate) fn to_sql(&self) -> String {
        let columns: Vec<String> = self.schema.fields.iter().map(|f| format!("  {}", quote(&f.name))).collect();
        let comment = self.comment.as_ref().map(|c| format!("COMMENT {}\n", string_sql(c))).unwrap_or_default();
        format!("CREATE VIEW {} (\n{}\n)\n{comment}AS {}\n", self.id.quoted(), columns.join(",\n"), self.text)
    }
}

fn quoted_list(names: &[String]) -> String {
    names.iter().map(|n| quote(n)).collect::<Vec<_>>().join(", ")
}

pub(crate) fn string_sql(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Values of options that hold secrets are not shown.
fn shown(key: &str, value: &str) -> String {
    let key = key.to_ascii_lowercase();
    const SECRET: [&str; 5] = ["password", "secret", "token", "apikey", "api-key"];
    if SECRET.iter().any(|word| key.contains(word)) { "******".to_owned() } else { value.to_owned() }
}

fn column_sql(column: &TableColumn) -> String {
    let mut sql = quote(&column.name);
    match &column.kind {
        ColumnKind::Physical => sql.push_str(&format!(" {}", serializable(&column.data_type))),
        ColumnKind::Computed { text, .. } => sql.push_str(&format!(" AS {text}")),
        ColumnKind::Metadata { key, is_virtual } => {
            sql.push_str(&format!(" {} METADATA", serializable(&column.data_type)));
            if let Some(key) = key {
                sql.push_str(&format!(" FROM {}", string_sql(key)));
            }
            if *is_virtual {
                sql.push_str(" VIRTUAL");
            }
        }
    }
    if let Some(comment) = &column.comment {
        sql.push_str(&format!(" COMMENT {}", string_sql(comment)));
    }
    sql
}

/// A type in the long spelling that Flink uses in DDL.
fn serializable(data_type: &DataType) -> String {
    let mut text = data_type.to_string();
    for (short, long) in [("STRING", "VARCHAR(2147483647)"), ("BYTES", "VARBINARY(2147483647)")] {
        text = replace_word(&text, short, long);
    }
    while let Some(at) = text.find("TIMESTAMP_LTZ(") {
        let close = text[at..].find(')').map_or(text.len(), |i| at + i);
        let precision = text[at + "TIMESTAMP_LTZ(".len()..close].to_owned();
        text.replace_range(at..=close.min(text.len() - 1), &format!("TIMESTAMP({precision}) WITH LOCAL TIME ZONE"));
    }
    text
}

/// Replaces `word` outside backticks.
fn replace_word(text: &str, word: &str, by: &str) -> String {
    let mut parts = text.split('`');
    let mut out = String::new();
    let mut quoted = false;
    if let Some(first) = parts.next() {
        out.push_str(&first.replace(word, by));
    }
    for part in parts {
        quoted = !quoted;
        out.push('`');
        if quoted { out.push_str(part) } else { out.push_str(&part.replace(word, by)) }
    }
    out
}
