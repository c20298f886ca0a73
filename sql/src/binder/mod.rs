//! Expressions of the parser to typed expressions of [`hurtig_graph`], by Flink's rules.
//!
//! Names are resolved, types (length, precision, nullability) inferred, arguments checked, and every
//! cast is inserted, so that nothing behind the binder knows a coercion rule. Built-in functions
//! stand in `functions`; what has syntax of its own (CASE, EXTRACT, LIKE, operators) is bound here.

mod aggregate;
mod call;
mod collection;
mod expr;
mod json;
mod literal;
mod operators;
mod types;

#[cfg(test)]
mod tests;

use hurtig_graph::{DataType, Expr, TimeAttribute};
use sqlparser::ast::Expr as Ast;

pub use aggregate::{BoundAggregate, is_aggregate};
pub(crate) use types::length;
pub use types::{common_type, implicit_cast_allowed};

use crate::error::SqlError;
use crate::session::SessionSettings;
use expr::{Binder, Mode};

/// A column that expressions can refer to.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeColumn {
    /// The table's name or alias.
    pub qualifier: Option<String>,
    /// The column's name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether it is a time attribute.
    pub time: TimeAttribute,
    /// Its position in the input.
    pub index: usize,
}

/// What expressions can refer to.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    /// The columns. Two of one name are ambiguous without qualifier.
    pub columns: Vec<ScopeColumn>,
    /// Session settings.
    pub session: &'a SessionSettings,
}

/// Binds an expression without aggregates over the columns of `scope`.
///
/// # Errors
/// Validation: unknown names, types that do not fit, an aggregate. Unsupported: what is not built.
pub fn bind_scalar(expr: &Ast, scope: &Scope<'_>) -> Result<Expr, SqlError> {
    finish(Binder { scope, mode: Mode::Scalar }.bind(expr)?)
}

/// Binds an expression over groups. The result refers to the group keys by position, and behind them
/// to `aggregates`, to which the aggregate calls that it needs are added; equal calls share one.
/// `group_keys` are bound over `scope`.
///
/// # Errors
/// As [`bind_scalar`], and a column that is neither grouped by nor aggregated.
pub fn bind_with_aggregates(
    expr: &Ast,
    scope: &Scope<'_>,
    group_keys: &[Expr],
    aggregates: &mut Vec<BoundAggregate>,
) -> Result<Expr, SqlError> {
    finish(Binder { scope, mode: Mode::Grouped { keys: group_keys, aggregates } }.bind(expr)?)
}

fn finish(expr: Expr) -> Result<Expr, SqlError> {
    if expr.data_type.logical == hurtig_graph::LogicalType::Null {
        return Err(bare_null());
    }
    Ok(expr)
}

/// A NULL that nothing gives a type.
fn bare_null() -> SqlError {
    SqlError::validation("a bare NULL has no type here: write CAST(NULL AS type)")
}
