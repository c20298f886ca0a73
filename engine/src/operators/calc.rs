//! Calc: filters, then projects. Row kinds stay with their rows.
//!
//! Of the input only what projections read is filtered: columns, and of ROWs the fields. A field costs
//! nothing to take out of a ROW, but a filter, and each branch of a CASE, copies what it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, BooleanArray};
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

/// What projections read of the input.
struct Inputs {
    /// Columns, and fields of ROWs.
    parts: Vec<Projection>,
    schema: SchemaRef,
}

impl Inputs {
    /// All that `exprs` read; rewrites them to expressions over it.
    fn of(exprs: &mut [Expr], input: &RowSchema, context: &ExprContext) -> Result<(Inputs, RowSchema)> {
        let mut parts: Vec<Expr> = Vec::new();
        // A function of the user's may have that name.
        let fields = context.functions.get(FIELD).is_none();
        for expr in exprs {
            *expr = expr.replace(&mut |part| {
                if part.as_column().is_none() && !(fields && is_field(part)) {
                    return None;
                }
                let index = parts.iter().position(|known| known == part).unwrap_or_else(|| {
                    parts.push(part.clone());
                    parts.len() - 1
                });
                Some(Expr::column(index, part.data_type.clone()))
            });
        }
        let schema = RowSchema::new(
            parts
                .iter()
                .enumerate()
                .map(|(i, part)| match part.as_column().and_then(|column| input.fields.get(column)) {
                    Some(field) => field.clone(),
                    None => RowField::new(format!("part{i}"), part.data_type.clone()),
                })
                .collect(),
        );
        let parts = parts.iter().map(|part| Projection::new(part, input, context)).collect::<Result<Vec<_>>>()?;
        Ok((Inputs { parts, schema: schema.to_arrow() }, schema))
    }
}

const FIELD: &str = "FIELD";

/// A field of a column, or of such a field.
fn is_field(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call { function, arguments } if function == FIELD => {
            arguments.first().is_some_and(|row| row.as_column().is_some() || is_field(row))
        }
        _ => false,
    }
}

impl Projection {
    fn new(expr: &Expr, input: &RowSchema, context: &ExprContext) -> Result<Projection> {
        Ok(match expr.as_column().filter(|column| *column < input.len()) {
            Some(column) => Projection::Column(column),
            None => Projection::Computed(compile(expr, input, context)?),
        })
    }

    /// Of all rows of `batch`.
    fn apply(projections: &[Projection], batch: Batch, schema: &SchemaRef) -> Result<Batch> {
        let columns: Vec<ArrayRef> = projections
            .iter()
            .map(|p| match p {
                Projection::Column(column) => Ok(batch.column(*column).clone()),
                Projection::Computed(expr) => expr.evaluate(batch.records()),
            })
            .collect::<Result<_>>()?;
        let rows = batch.num_rows();
        Ok(batch.with_records(record_batch(schema, columns, rows)?))
    }
}

/// See the [module](self).
pub struct Calc {
    filter: Option<CompiledExpr>,
    /// `None`: all input columns.
    projections: Option<(Inputs, Vec<Projection>)>,
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
            return Ok(Calc { filter, projections: None, schema: input.to_arrow(), watermark });
        }
        let (mut exprs, mut fields) = (Vec::new(), Vec::new());
        for (i, named) in calc.projections.iter().enumerate() {
            let path = format!("calc.projections[{i}]");
            let missing = || hurtig_graph::GraphError::at(path.clone(), "the expression is missing");
            let expr = Expr::from_proto(named.expr.as_ref().ok_or_else(missing)?, input, &path)?;
            fields.push(RowField::new(named.name.clone(), expr.data_type.clone()));
            exprs.push(expr);
        }
        let (inputs, reduced) = Inputs::of(&mut exprs, input, &expressions)?;
        let projections =
            exprs.iter().map(|expr| Projection::new(expr, &reduced, &expressions)).collect::<Result<Vec<_>>>()?;
        let schema = RowSchema::new(fields).to_arrow();
        Ok(Calc { filter, projections: Some((inputs, projections)), schema, watermark })
    }
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
        let passes = mask.as_ref().map_or(batch.num_rows(), BooleanArray::true_count);
        if passes == 0 && mask.is_some() {
            return Ok(Flow::Done);
        }
        let mut batch = batch;
        if let Some((inputs, _)) = &self.projections {
            batch = Projection::apply(&inputs.parts, batch, &inputs.schema)?;
        }
        if let Some(mask) = mask.filter(|mask| passes < mask.len()) {
            batch = batch.filter(&mask)?;
        }
        if let Some((_, projections)) = &self.projections {
            batch = Projection::apply(projections, batch, &self.schema)?;
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
