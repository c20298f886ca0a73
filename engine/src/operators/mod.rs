//! The built-in operators.
//!
//! | module | operators |
//! | --- | --- |
//! | `calc` | filter and projection |
//! | `watermark` | watermarks from rowtimes |
//! | `group_aggregate` | GROUP BY: an updating result |
//! | `window_aggregate`, `window_state` | GROUP BY with a window: one row a key and window |
//! | `local_aggregate` | both, before a shuffle |
//! | `window_function` | window table functions on their own |
//! | [`keys`], [`group_store`] | groups in memory, frozen at checkpoints |
//! | [`memory_tier`] | what they may take of the slot's memory |
//! | [`windows`] | arithmetic of windows |
//!
//! [`build`] makes an operator from its description; sources, sinks and custom operators come from
//! the [`crate::registry`].

mod calc;
mod group_aggregate;
pub mod group_store;
pub mod keys;
mod local_aggregate;
pub mod memory_tier;
#[cfg(test)]
mod state_fixture;
pub mod testing;
mod union;
mod watermark;
mod window_aggregate;
mod window_function;
mod window_state;
pub mod windows;

use arrow::array::UInt8Array;
use hurtig_graph::{Expr, RowSchema};
use hurtig_proto::v1;

use crate::batch::{Batch, RowKind, TARGET_ROWS};
use crate::error::{EngineError, Result};
use crate::expr::{CompiledExpr, ExprContext, compile};
use crate::operator::{Collector, Operator};

/// What building an operator needs beside its description.
#[derive(Debug, Clone, Default)]
pub struct BuildContext {
    /// Functions, time zone and clock of expressions.
    pub expressions: ExprContext,
}

/// Builds a built-in operator over inputs of the given schemas.
///
/// # Errors
/// A description that does not fit its inputs, or a kind that is not built in.
pub fn build(operator: &v1::Operator, inputs: &[RowSchema], context: &BuildContext) -> Result<Box<dyn Operator>> {
    use v1::operator::Kind;
    let input = || {
        inputs.first().ok_or_else(|| {
            EngineError::Validation(format!("operator '{}' needs an input, but no edge leads to it", operator.name))
        })
    };
    Ok(match &operator.kind {
        Some(Kind::Calc(calc)) => Box::new(calc::Calc::new(calc, input()?, context)?),
        Some(Kind::Watermark(watermark)) => Box::new(watermark::WatermarkAssigner::new(watermark, input()?, context)?),
        Some(Kind::GroupAggregate(aggregate)) => match aggregate.phase() {
            v1::AggregatePhase::Local => Box::new(local_aggregate::LocalAggregate::grouped(aggregate, input()?)?),
            _ => Box::new(group_aggregate::GroupAggregate::new(aggregate, input()?)?),
        },
        Some(Kind::WindowAggregate(aggregate)) => match aggregate.phase() {
            v1::AggregatePhase::Local => Box::new(local_aggregate::LocalAggregate::windowed(aggregate, input()?)?),
            _ => Box::new(window_aggregate::WindowAggregate::new(aggregate, input()?)?),
        },
        Some(Kind::WindowTableFunction(function)) => {
            Box::new(window_function::WindowTableFunction::new(function, input()?)?)
        }
        Some(Kind::Union(_)) => Box::new(union::Union::new(inputs)?),
        Some(Kind::Source(_) | Kind::Sink(_) | Kind::Custom(_)) => {
            return Err(EngineError::Internal("sources, sinks and custom operators are built by the registry".into()));
        }
        None => {
            return Err(EngineError::Validation(format!("operator '{}' has no kind", operator.name)));
        }
    })
}

/// Compiles the expression at `path` of an operator's description.
fn compile_at(expr: &v1::Expr, input: &RowSchema, path: &str, context: &BuildContext) -> Result<CompiledExpr> {
    let expr = Expr::from_proto(expr, input, path)?;
    compile(&expr, input, &context.expressions)
}

/// +1 or -1 a row; `None` when all are +1.
fn signs_of(batch: &Batch) -> Option<Vec<i8>> {
    let kinds = batch.kinds()?;
    let taken_back = |k: &u8| *k == RowKind::UpdateBefore as u8 || *k == RowKind::Delete as u8;
    kinds.iter().any(taken_back).then(|| kinds.iter().map(|k| if taken_back(k) { -1 } else { 1 }).collect())
}

/// Emits rows in batches of the target size. `kinds` of all inserts are dropped.
fn emit_sliced(records: arrow::array::RecordBatch, kinds: Option<Vec<u8>>, out: &mut dyn Collector) {
    let kinds = kinds.filter(|k| k.iter().any(|k| *k != RowKind::Insert as u8)).map(UInt8Array::from);
    let batch = Batch::new(records, kinds);
    let rows = batch.num_rows();
    if rows <= TARGET_ROWS {
        if rows > 0 {
            out.emit(batch);
        }
        return;
    }
    for from in (0..rows).step_by(TARGET_ROWS) {
        out.emit(batch.slice(from, TARGET_ROWS.min(rows - from)));
    }
}

/// A record batch that may have no columns.
fn record_batch(
    schema: &arrow::datatypes::SchemaRef,
    columns: Vec<arrow::array::ArrayRef>,
    rows: usize,
) -> Result<arrow::array::RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(arrow::array::RecordBatch::try_new_with_options(std::sync::Arc::clone(schema), columns, &options)?)
}
