//! From text to syntax trees: scripts to statements, statements to [`Statement`], queries and
//! expressions to `sqlparser`'s trees.

mod calls;
mod cursor;
mod dialect;
mod script;
mod statement;
mod statement_ast;
mod tokens;

pub use dialect::FlinkDialect;
pub use script::{ScriptStatement, split_script};
pub(crate) use statement::parse_statement;
pub(crate) use statement_ast::*;
pub(crate) use tokens::{OPTIONS_HINT, TABLE_ARGUMENT};

pub(crate) use calls::{MINUS, OVERLAPS, SYMMETRIC};
pub(crate) use cursor::{is_reserved, reserved};

use cursor::Cursor;

use crate::error::SqlError;

/// Reads a scalar expression that fills the whole text.
///
/// # Errors
/// [`SqlError::Parse`] with the place.
pub fn parse_expression(text: &str) -> Result<sqlparser::ast::Expr, SqlError> {
    let mut cursor = Cursor::new(text)?;
    let expr = cursor.expression()?;
    cursor.expect_end()?;
    Ok(expr)
}

/// Reads a query that fills the whole text.
///
/// # Errors
/// [`SqlError::Parse`] with the place.
pub fn parse_query(text: &str) -> Result<sqlparser::ast::Query, SqlError> {
    let mut cursor = Cursor::new(text)?;
    let query = cursor.query()?;
    cursor.expect_end()?;
    Ok(query)
}
