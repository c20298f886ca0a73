//! Change messages as JSON lines: what Debezium, Canal, Maxwell and OGG write about a table's changes.
//!
//! A message becomes rows with kinds: an insert +I, an update -U and +U, a delete -D. The rows lie in
//! the message as objects, read as lines of the json format are. Canal and Maxwell give of the old row
//! only the fields that have changed.

use hurtig_engine::batch::RowKind;
use hurtig_graph::config::{ConfigOption, ValueType};
use hurtig_graph::connector::Options;

use super::JsonOptions;
use super::scan::{self, SyntaxError};
use crate::error::{Error, Result};
use crate::formats::decoder::{Span, shorten};
use crate::options::{DOCS_PAGE, TableOptions, option};

/// Who wrote the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Debezium; with the schema, the message is in `payload`.
    Debezium {
        /// Messages carry their schema.
        schema_include: bool,
    },
    /// Canal.
    Canal,
    /// Maxwell.
    Maxwell,
    /// Oracle GoldenGate.
    Ogg,
}

impl Dialect {
    /// The name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Debezium { .. } => "debezium-json",
            Dialect::Canal => "canal-json",
            Dialect::Maxwell => "maxwell-json",
            Dialect::Ogg => "ogg-json",
        }
    }

    /// The names of what is needed of a message: new row, old row, kind of change.
    fn members(self) -> [&'static [u8]; 3] {
        match self {
            Dialect::Debezium { .. } => [b"after", b"before", b"op"],
            Dialect::Canal | Dialect::Maxwell => [b"data", b"old", b"type"],
            Dialect::Ogg => [b"after", b"before", b"op_type"],
        }
    }
}

/// Options of a format of change messages.
#[derive(Debug, Clone)]
pub struct ChangeOptions {
    /// Who wrote the messages.
    pub dialect: Dialect,
    /// How the rows in them are read.
    pub json: JsonOptions,
}

const SCHEMA_INCLUDE: ConfigOption = option(
    "debezium-json.schema-include",
    ValueType::Bool,
    Some("false"),
    "Messages carry their schema beside the payload.",
);

impl ChangeOptions {
    /// Reads the options of a table; `name` is that of the format.
    pub fn read(name: &str, options: &Options) -> Result<Option<ChangeOptions>> {
        let table = TableOptions::new(options);
        let dialect = match name {
            "debezium-json" => Dialect::Debezium { schema_include: table.bool(&SCHEMA_INCLUDE)? },
            "canal-json" => Dialect::Canal,
            "maxwell-json" => Dialect::Maxwell,
            "ogg-json" => Dialect::Ogg,
            _ => return Ok(None),
        };
        for filter in ["canal-json.database.include", "canal-json.table.include"] {
            if options.contains_key(filter) {
                return Err(Error::Unsupported(format!(
                    "option '{filter}' is not supported yet: {DOCS_PAGE} lists what is"
                )));
            }
        }
        // The rows have the options of the json format, under this format's name.
        let prefix = format!("{name}.");
        let json = options.iter().filter_map(|(k, v)| Some((format!("json.{}", k.strip_prefix(&prefix)?), v.clone())));
        let json = JsonOptions::read(&TableOptions::new(&json.collect())).map_err(|e| match e {
            Error::Validation(message) => Error::Validation(message.replace("json.", &prefix)),
            other => other,
        })?;
        Ok(Some(ChangeOptions { dialect, json }))
    }
}

/// A row of a message.
pub(super) struct Change {
    /// The object with its fields.
    pub row: Span,
    /// An object whose fields win over those of `row`.
    pub over: Option<Span>,
    pub kind: RowKind,
}

/// Why a line is no message.
pub(super) enum BadMessage {
    Syntax(SyntaxError),
    Reason(String),
}

impl From<SyntaxError> for BadMessage {
    fn from(error: SyntaxError) -> Self {
        BadMessage::Syntax(error)
    }
}

/// The rows of the message whose object begins at `at` of `line`, and the offset behind it.
pub(super) fn changes(
    dialect: Dialect,
    line: &[u8],
    at: usize,
    out: &mut Vec<Change>,
) -> std::result::Result<usize, BadMessage> {
    let text = |span: Span| &line[span.start as usize..span.end as usize];
    let mut start = at;
    let mut end = None;
    if dialect == (Dialect::Debezium { schema_include: true }) {
        let mut payload = Span::MISSING;
        end = Some(scan::object(line, at, |key, value| {
            if text(key) == b"payload" {
                payload = value;
            }
        })?);
        if payload == Span::MISSING || text(payload) == b"null" {
            return Ok(end.unwrap_or(at));
        }
        start = payload.start as usize;
    }
    let names = dialect.members();
    let mut found = [Span::MISSING; 3];
    let behind = scan::object(line, start, |key, value| {
        if let Some(i) = names.iter().position(|name| *name == text(key)) {
            found[i] = value;
        }
    })?;
    let there = |span: Span| (span != Span::MISSING && text(span) != b"null").then_some(span);
    let [new, old, kind] = found.map(there);
    let Some(kind) = kind else {
        let name = String::from_utf8_lossy(names[2]);
        return Err(BadMessage::Reason(format!("a {} message without '{name}'", dialect.name())));
    };
    message(dialect, line, text(kind), new, old, out)?;
    Ok(end.unwrap_or(behind))
}

fn message(
    dialect: Dialect,
    line: &[u8],
    kind: &[u8],
    new: Option<Span>,
    old: Option<Span>,
    out: &mut Vec<Change>,
) -> std::result::Result<(), BadMessage> {
    let names = dialect.members();
    let needed = |span: Option<Span>, name: &[u8]| {
        span.ok_or_else(|| {
            BadMessage::Reason(format!(
                "a {} message of type {} without '{}': the database must log whole rows (of PostgreSQL: REPLICA \
                 IDENTITY FULL)",
                dialect.name(),
                String::from_utf8_lossy(kind),
                String::from_utf8_lossy(name)
            ))
        })
    };
    let change = |row, kind| Change { row, over: None, kind };
    match (dialect, kind) {
        (Dialect::Debezium { .. }, b"\"c\"" | b"\"r\"")
        | (Dialect::Ogg, b"\"I\"")
        | (Dialect::Maxwell, b"\"insert\"") => {
            out.push(change(needed(new, names[0])?, RowKind::Insert));
        }
        (Dialect::Debezium { .. }, b"\"u\"") | (Dialect::Ogg, b"\"U\"") => {
            out.push(change(needed(old, names[1])?, RowKind::UpdateBefore));
            out.push(change(needed(new, names[0])?, RowKind::UpdateAfter));
        }
        (Dialect::Debezium { .. }, b"\"d\"") | (Dialect::Ogg, b"\"D\"") => {
            out.push(change(needed(old, names[1])?, RowKind::Delete));
        }
        (Dialect::Maxwell, b"\"update\"") => {
            let new = needed(new, names[0])?;
            out.push(Change { row: new, over: Some(needed(old, names[1])?), kind: RowKind::UpdateBefore });
            out.push(change(new, RowKind::UpdateAfter));
        }
        (Dialect::Maxwell, b"\"delete\"") => out.push(change(needed(new, names[0])?, RowKind::Delete)),
        (Dialect::Canal, b"\"INSERT\"" | b"\"UPDATE\"" | b"\"DELETE\"") => {
            let elements = |span: Option<Span>, name: &[u8]| -> std::result::Result<Vec<Span>, BadMessage> {
                let mut elements = Vec::new();
                scan::array(line, needed(span, name)?.start as usize, |element| elements.push(element))?;
                Ok(elements)
            };
            let rows = elements(new, names[0])?;
            match kind {
                b"\"INSERT\"" => out.extend(rows.into_iter().map(|row| change(row, RowKind::Insert))),
                b"\"DELETE\"" => out.extend(rows.into_iter().map(|row| change(row, RowKind::Delete))),
                _ => {
                    for (row, over) in rows.into_iter().zip(elements(old, names[1])?) {
                        out.push(Change { row, over: Some(over), kind: RowKind::UpdateBefore });
                        out.push(change(row, RowKind::UpdateAfter));
                    }
                }
            }
        }
        // A change of the table itself holds no rows.
        (Dialect::Canal, b"\"CREATE\"") => {}
        _ => {
            return Err(BadMessage::Reason(format!(
                "there is no change of type {} in {}",
                shorten(kind),
                dialect.name()
            )));
        }
    }
    Ok(())
}
