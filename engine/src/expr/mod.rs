//! Typed expressions compiled to vectorised kernels.
//!
//! [`compile`] turns a [`hurtig_graph::Expr`] into a [`CompiledExpr`]: a tree of DataFusion physical
//! expressions whose functions, operators and casts are our own kernels, because Flink's semantics
//! differ (wrapping integers, DECIMAL rounding and overflow, casts, strings by code points). What is
//! not needed is not evaluated (AND, OR, CASE, COALESCE), and constants are folded by the same
//! kernels that run over columns; a constant that fails is left to fail at run time.
//!
//! | module | what |
//! | --- | --- |
//! | `compile` | expressions to physical expressions |
//! | `node` | our physical expressions |
//! | [`value`] | arguments of kernels |
//! | [`cast`] | casts of every pair of types |
//! | [`format`] | values as text, as Java prints them |
//! | [`zone`] | calendar and time zones |

pub mod cast;
mod compile;
pub mod format;
mod node;
pub mod value;
pub mod zone;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType as ArrowType;
use datafusion_physical_expr::PhysicalExpr;
use hurtig_graph::{DataType, Expr, RowSchema};

use crate::clock::{Clock, SystemClock};
use crate::error::{EngineError, Result};
use zone::Zone;

/// A user-defined scalar function: argument columns and the number of rows, to one column of that
/// length. Constant arguments come expanded.
pub type ScalarFunction = Arc<dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync>;

/// User-defined scalar functions by upper-case name.
#[derive(Clone, Default)]
pub struct ScalarFunctions {
    functions: BTreeMap<String, ScalarFunction>,
}

impl ScalarFunctions {
    /// Registers a function; names are case-insensitive, a later registration replaces an earlier one.
    pub fn register(&mut self, name: &str, function: ScalarFunction) {
        self.functions.insert(name.to_uppercase(), function);
    }

    /// The function of an upper-case name.
    pub fn get(&self, name: &str) -> Option<&ScalarFunction> {
        self.functions.get(name)
    }
}

impl fmt::Debug for ScalarFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.functions.keys()).finish()
    }
}

/// What expressions need beside their input.
#[derive(Clone)]
pub struct ExprContext {
    /// The session's time zone (`table.local-time-zone`).
    pub zone: Zone,
    /// User-defined functions.
    pub functions: ScalarFunctions,
    /// For CURRENT_TIMESTAMP and its like.
    pub clock: Arc<dyn Clock>,
    /// The operator's current watermark in ms, `i64::MIN` before the first, for CURRENT_WATERMARK.
    pub watermark: Arc<AtomicI64>,
}

impl Default for ExprContext {
    fn default() -> Self {
        ExprContext {
            zone: Zone::UTC,
            functions: ScalarFunctions::default(),
            clock: Arc::new(SystemClock::default()),
            watermark: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }
}

impl ExprContext {
    /// A context with the session time zone named as in `table.local-time-zone`.
    ///
    /// # Errors
    /// Validation: there is no such zone.
    pub fn with_zone(name: &str) -> Result<ExprContext> {
        let zone = Zone::parse(name).ok_or_else(|| {
            EngineError::Validation(format!(
                "there is no time zone '{name}': use a name as Europe/Berlin or an offset as GMT+01:00"
            ))
        })?;
        Ok(ExprContext { zone, ..ExprContext::default() })
    }
}

impl fmt::Debug for ExprContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExprContext").field("zone", &self.zone).field("functions", &self.functions).finish()
    }
}

/// An expression ready to run over record batches of the schema it was compiled for. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct CompiledExpr {
    expr: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    arrow: ArrowType,
}

impl CompiledExpr {
    /// The type of the result.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The physical type of the result.
    pub fn arrow_type(&self) -> &ArrowType {
        &self.arrow
    }

    /// One value a row.
    ///
    /// # Errors
    /// Runtime: a value that a function or cast refuses.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let value = self.expr.evaluate(batch).map_err(node::unwrap_error)?;
        let array = value.into_array(batch.num_rows())?;
        value::retype(array, &self.arrow)
    }

    /// For a condition: TRUE where it is TRUE, FALSE where it is FALSE or NULL.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn matches(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let array = self.evaluate(batch)?;
        let Some(booleans) = array.as_boolean_opt() else {
            return Err(EngineError::Validation(format!("a condition must be BOOLEAN, not {}", self.data_type)));
        };
        Ok(match booleans.nulls() {
            Some(nulls) => BooleanArray::new(booleans.values() & nulls.inner(), None),
            None => booleans.clone(),
        })
    }

    /// The physical expression.
    pub fn physical(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }
}

/// Compiles `expr` over batches of `input`.
///
/// # Errors
/// Validation or Unsupported: a function or cast that does not exist, or a column out of range.
pub fn compile(expr: &Expr, input: &RowSchema, context: &ExprContext) -> Result<CompiledExpr> {
    let physical = compile::Compiler { input, context }.compile(expr)?;
    Ok(CompiledExpr {
        expr: physical.expr,
        data_type: expr.data_type.clone(),
        arrow: expr.data_type.logical.to_arrow(),
    })
}
