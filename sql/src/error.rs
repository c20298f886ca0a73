//! This crate's error: what is wrong with a statement, and where.

use std::fmt;

use hurtig_graph::ErrorKind;
use hurtig_graph::connector::ConnectorError;
use sqlparser::tokenizer::{Location, Span};
use thiserror::Error;

/// The page that lists what SQL is supported; named by every [`SqlError::Unsupported`].
pub const DOCS_PAGE: &str = "docs/sql.md";

/// A place in a statement, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line of the statement.
    pub line: u64,
    /// Column of the line, in characters.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Position {
    /// Of a token's or node's span; `None` when the parser did not keep it.
    pub fn of(span: Span) -> Option<Position> {
        Position::at(span.start)
    }

    /// Of a location; `None` for the empty one.
    pub fn at(location: Location) -> Option<Position> {
        (location.line > 0).then_some(Position { line: location.line, column: location.column })
    }
}

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SqlError {
    /// The text is not SQL.
    #[error("{}{}", At(.position), .message)]
    Parse {
        /// What is wrong.
        message: String,
        /// Where.
        position: Option<Position>,
    },
    /// The text is SQL but makes no sense: unknown names, types that do not fit.
    #[error("{}{}", At(.position), .message)]
    Validation {
        /// What is wrong.
        message: String,
        /// Where.
        position: Option<Position>,
    },
    /// Flink can do it, Hurtig cannot yet.
    #[error("{}{} not supported; see {} for what is", At(.position), .construct, DOCS_PAGE)]
    Unsupported {
        /// The construct with its verb, as "joins are".
        construct: String,
        /// Where.
        position: Option<Position>,
    },
    /// A configuration key or value.
    #[error("{0}")]
    Config(String),
    /// A connector refuses a table.
    #[error("table {table}: {message}")]
    Connector {
        /// The table.
        table: String,
        /// The connector's kind of error.
        kind: ErrorKind,
        /// The connector's message.
        message: String,
    },
    /// A broken invariant of the planner.
    #[error("the planner broke an invariant: {0}; please report the statement")]
    Internal(String),
}

/// Writes "line 1, column 2: ", or nothing.
struct At<'a>(&'a Option<Position>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(position) => write!(f, "{position}: "),
            None => Ok(()),
        }
    }
}

impl SqlError {
    /// Text that is not SQL, at `position`.
    pub fn parse(message: impl Into<String>, position: Option<Position>) -> SqlError {
        SqlError::Parse { message: message.into(), position }
    }

    /// Something that makes no sense, place unknown.
    pub fn validation(message: impl Into<String>) -> SqlError {
        SqlError::Validation { message: message.into(), position: None }
    }

    /// Something that makes no sense, at the start of `span`.
    pub fn validation_at(message: impl Into<String>, span: Span) -> SqlError {
        SqlError::Validation { message: message.into(), position: Position::of(span) }
    }

    /// What Hurtig cannot do yet: `construct` with its verb, as "joins are".
    pub fn unsupported(construct: impl Into<String>, span: Span) -> SqlError {
        SqlError::Unsupported { construct: construct.into(), position: Position::of(span) }
    }

    /// A connector's refusal of `table`.
    pub fn connector(table: impl Into<String>, error: ConnectorError) -> SqlError {
        SqlError::Connector { table: table.into(), kind: error.kind, message: error.message }
    }

    /// What the error means to the one who gets it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SqlError::Parse { .. } => ErrorKind::Parse,
            SqlError::Validation { .. } => ErrorKind::Validation,
            SqlError::Unsupported { .. } => ErrorKind::Unsupported,
            SqlError::Config(_) => ErrorKind::Config,
            SqlError::Connector { kind, .. } => *kind,
            SqlError::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The place, where known.
    pub fn position(&self) -> Option<Position> {
        match self {
            SqlError::Parse { position, .. }
            | SqlError::Validation { position, .. }
            | SqlError::Unsupported { position, .. } => *position,
            SqlError::Config(_) | SqlError::Connector { .. } | SqlError::Internal(_) => None,
        }
    }

    /// The same error at `span`, unless it has a place already.
    pub fn or_at(mut self, span: Span) -> SqlError {
        if let SqlError::Parse { position, .. }
        | SqlError::Validation { position, .. }
        | SqlError::Unsupported { position, .. } = &mut self
            && position.is_none()
        {
            *position = Position::of(span);
        }
        self
    }

    /// The same error with its place given within the script that holds the statement, which begins
    /// at `start`.
    pub fn within_script(mut self, start: Position) -> SqlError {
        if let SqlError::Parse { position: Some(p), .. }
        | SqlError::Validation { position: Some(p), .. }
        | SqlError::Unsupported { position: Some(p), .. } = &mut self
        {
            if p.line == 1 {
                p.column += start.column - 1;
            }
            p.line += start.line - 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_that_errors_point_to_exists() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(root.join(DOCS_PAGE).is_file());
    }

    #[test]
    fn messages_say_where_and_point_to_the_docs() {
        let span = Span::new(Location { line: 2, column: 7 }, Location { line: 2, column: 9 });
        let error = SqlError::unsupported("joins are", span);
        assert_eq!(error.to_string(), "line 2, column 7: joins are not supported; see docs/sql.md for what is");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let moved = error.within_script(Position { line: 10, column: 3 });
        assert_eq!(moved.position(), Some(Position { line: 11, column: 7 }));
    }
}
