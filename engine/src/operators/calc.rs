//! Calc: filters, then projects. Row kinds stay with their rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use hurtig_graph::{Expr, ExprKind, RowField, RowSchema};
use hurtig_proto::v1;

use super::{BuildContext, record_batch};
use crate::batch::Batch;
use crate::element::MIN_WATERMARK;
use crate::error::Result;
use crate::expr::{CompiledExpr, ExprContext, compile};
use crate::operator::{Collector, Flow, Operator, OperatorContext};

/// A column of the output.
enum Projection {
    /// A bare column: passed on without a copy.
    Column(usize),
    Computed(CompiledExpr),
}

/// See the [module](self).
pub struct Calc {
    filter: Option<CompiledExpr>,
    /// The columns that projections read, so that no others are filtered.
    used: Vec<usize>,
    /// Over the used columns; `None`: all input columns.
    projections: Option<Vec<Projection>>,
    schema: SchemaRef,
    /// What CURRENT_WATERMARK reads.
    watermark: Arc<AtomicI64>,
}

impl Calc {
    /// Over rows of `input`.
    ///
    /// # Errors
    /// Expressions that do not fit the input.
    pub fn new(calc: &v1::Calc, input: &RowSchema, context: &BuildContext) -> Result<Calc> {
        let watermark = Arc::new(AtomicI64::new(MIN_WATERMARK));
        let expressions = ExprContext { watermark: Arc::clone(&watermark), ..context.expressions.clone() };
        let filter = match &calc.filter {
            Some(filter) => Some(compile(&Expr::from_proto(filter, input, "calc.filter")?, input, &expressions)?),
            None => None,
        };
        if calc.projections.is_empty() {
            return Ok(Calc { filter, used: Vec::new(), projections: None, schema: input.to_arrow(), watermark });
        }
        let (mut exprs, mut fields) = (Vec::new(), Vec::new());
        for (i, named) in calc.projections.iter().enumerate() {
            let path = format!("calc.projections[{i}]");
            let missing = || hurtig_graph::GraphError::at(path.clone(), "the expression is missing");
            let expr = Expr::from_proto(named.expr.as_ref().ok_or_else(missing)?, input, &path)?;
            fields.push(RowField::new(named.name.clone(), expr.data_type.clone()));
            exprs.push(expr);
        }
        let used = used_columns(&exprs);
        let reduced = input.project(&used);
        let position = |column: usize| used.binary_search(&column).unwrap_or_default();
        let mut projections = Vec::new();
        for expr in exprs {
            let expr = expr.map_columns(&position);
            projections.push(match expr.as_column() {
                Some(column) => Projection::Column(column),
                None => Projection::Computed(compile(&expr, &reduced, &expressions)?),
            });
        }
        let schema = RowSchema::new(fields).to_arrow();
        Ok(Calc { filter, used, projections: Some(projections), schema, watermark })
    }
}

/// The columns that `exprs` read, ascending.
fn used_columns(exprs: &[Expr]) -> Vec<usize> {
    let mut used = Vec::new();
    for expr in exprs {
        expr.visit(&mut |e| {
            if let ExprKind::Column(column) = e.kind {
                used.push(column);
            }
        });
    }
    used.sort_unstable();
    used.dedup();
    used
}

impl Operator for Calc {
    fn open(&mut self, _context: OperatorContext) -> Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        let mask = match &self.filter {
            Some(filter) => Some(filter.matches(batch.records())?),
            None => None,
        };
        let mut batch = batch;
        if self.projections.is_some() && self.used.len() < batch.records().num_columns() {
            batch = batch.with_records(batch.records().project(&self.used)?);
        }
        if let Some(mask) = mask {
            match mask.true_count() {
                0 => return Ok(Flow::Done),
                all if all == batch.num_rows() => {}
                _ => batch = batch.filter(&mask)?,
            }
        }
        if let Some(projections) = &self.projections {
            let columns: Vec<ArrayRef> = projections
                .iter()
                .map(|p| match p {
                    Projection::Column(column) => Ok(batch.column(*column).clone()),
                    Projection::Computed(expr) => expr.evaluate(batch.records()),
                })
                .collect::<Result<_>>()?;
            batch = batch.with_records(record_batch(&self.schema, columns, batch.num_rows())?);
        }
        out.emit(batch);
        Ok(Flow::Done)
    }

    fn watermark(&mut self, watermark_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        self.watermark.store(watermark_ms, Ordering::Relaxed);
        out.watermark(watermark_ms);
        Ok(Flow::Done)
    }
}

#[cfg(test)]
mod tests;
