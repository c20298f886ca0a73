//! Expressions to physical expressions, with constants folded.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array, RecordBatch,
    RecordBatchOptions, StringArray, new_null_array,
};
use arrow::datatypes::{DataType as ArrowType, Schema};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{self, Column};
use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType, RowSchema};

use super::node::{CoalesceExpr, KernelExpr, LogicExpr, unwrap_error};
use super::value::{Kernel, retype};
use super::{ExprContext, cast};
use crate::error::{EngineError, Result};
use crate::functions::{self, Function};

/// A compiled sub-expression.
pub(super) struct Compiled {
    pub expr: Arc<dyn PhysicalExpr>,
    /// Its evaluation can fail for some input.
    fallible: bool,
    /// The same value for all rows, known now.
    constant: bool,
}

pub(super) struct Compiler<'a> {
    pub input: &'a RowSchema,
    pub context: &'a ExprContext,
}

impl Compiler<'_> {
    pub fn compile(&self, expr: &Expr) -> Result<Compiled> {
        match &expr.kind {
            ExprKind::Column(index) => self.column(*index, expr),
            ExprKind::Literal(literal) => constant(literal_array(literal, &expr.data_type)?),
            ExprKind::Cast { input, safe } => {
                let kernel = cast::cast(&input.data_type.logical, &expr.data_type.logical, *safe, self.context.zone)?;
                let Some(kernel) = kernel else {
                    return self.compile(input);
                };
                let fallible = !*safe && cast::can_fail(&input.data_type.logical, &expr.data_type.logical);
                let name = format!("CAST AS {}", expr.data_type.logical);
                let argument = self.compile(input)?;
                self.kernel(name, vec![argument], Function { kernel, fallible, volatile: false }, expr)
            }
            ExprKind::Case { branches, otherwise } => self.case(branches, otherwise.as_deref(), expr),
            ExprKind::Call { function, arguments } => match (function.as_str(), arguments.as_slice()) {
                ("AND" | "OR", [left, right]) => self.logic(function == "AND", left, right),
                ("COALESCE", [_, ..]) => self.coalesce(arguments, expr),
                _ => self.call(function, arguments, expr),
            },
        }
    }

    fn column(&self, index: usize, expr: &Expr) -> Result<Compiled> {
        let Some(field) = self.input.fields.get(index) else {
            return Err(EngineError::Validation(format!(
                "the expression refers to column {index}, but its input has {} columns",
                self.input.len()
            )));
        };
        if field.data_type.logical.to_arrow() != expr.data_type.logical.to_arrow() {
            return Err(EngineError::Validation(format!(
                "the expression takes column '{}' for {}, but it is {}",
                field.name, expr.data_type, field.data_type
            )));
        }
        let expr = Arc::new(Column::new(&field.name, index)) as Arc<dyn PhysicalExpr>;
        Ok(Compiled { expr, fallible: false, constant: false })
    }

    fn call(&self, name: &str, arguments: &[Expr], expr: &Expr) -> Result<Compiled> {
        let compiled = arguments.iter().map(|a| self.compile(a)).collect::<Result<Vec<_>>>()?;
        let function = match self.context.functions.get(name) {
            Some(user) => {
                let user = Arc::clone(user);
                let kernel: Kernel = Arc::new(move |values, rows| {
                    let columns = values.iter().map(|v| v.expand(rows)).collect::<Result<Vec<_>>>()?;
                    let array = user(&columns, rows)?;
                    if array.len() == rows {
                        return Ok(array);
                    }
                    Err(EngineError::Runtime(format!(
                        "a user-defined function gave {} values for {rows} rows",
                        array.len()
                    )))
                });
                Function { kernel, fallible: true, volatile: true }
            }
            None => functions::lookup(name, arguments, &expr.data_type, self.context)?,
        };
        self.kernel(name.to_owned(), compiled, function, expr)
    }

    fn kernel(&self, name: String, arguments: Vec<Compiled>, function: Function, expr: &Expr) -> Result<Compiled> {
        let constant = !function.volatile && arguments.iter().all(|a| a.constant);
        let fallible = function.fallible || arguments.iter().any(|a| a.fallible);
        let node = KernelExpr {
            name,
            arguments: arguments.into_iter().map(|a| a.expr).collect(),
            kernel: function.kernel,
            result: expr.data_type.logical.to_arrow(),
            volatile: function.volatile,
        };
        Ok(fold(Compiled { expr: Arc::new(node), fallible, constant }))
    }

    fn logic(&self, and: bool, left: &Expr, right: &Expr) -> Result<Compiled> {
        let (left, right) = (self.compile(left)?, self.compile(right)?);
        // What one side decides alone is decided, on whichever side it stands.
        for side in [&left, &right] {
            if constant_boolean(side) == Some(!and) {
                return constant(Arc::new(BooleanArray::from(vec![!and])));
            }
        }
        let is_constant = left.constant && right.constant;
        let fallible = left.fallible || right.fallible;
        let node = LogicExpr { and, lazy: right.fallible, left: left.expr, right: right.expr };
        Ok(fold(Compiled { expr: Arc::new(node), fallible, constant: is_constant }))
    }

    fn coalesce(&self, arguments: &[Expr], expr: &Expr) -> Result<Compiled> {
        let mut compiled = Vec::new();
        for argument in arguments {
            let argument = self.compile(argument)?;
            let decided = argument.constant && constant_is_valid(&argument);
            compiled.push(argument);
            if decided {
                break;
            }
        }
        let is_constant = compiled.iter().all(|a| a.constant);
        let fallible = compiled.iter().any(|a| a.fallible);
        let arguments = compiled.into_iter().map(|a| a.expr).collect();
        let node = CoalesceExpr { arguments, result: expr.data_type.logical.to_arrow() };
        Ok(fold(Compiled { expr: Arc::new(node), fallible, constant: is_constant }))
    }

    fn case(&self, branches: &[(Expr, Expr)], otherwise: Option<&Expr>, expr: &Expr) -> Result<Compiled> {
        let null = Expr::literal(Literal::Null, expr.data_type.with_nullable(true));
        let mut otherwise = otherwise.unwrap_or(&null);
        let mut compiled: Vec<(Compiled, Compiled)> = Vec::new();
        for (condition, result) in branches {
            let condition = self.compile(condition)?;
            match constant_boolean(&condition) {
                Some(true) => {
                    otherwise = result;
                    break;
                }
                Some(false) => continue,
                None if condition.constant && !condition.fallible => continue,
                None => compiled.push((condition, self.compile(result)?)),
            }
        }
        let otherwise = self.compile(otherwise)?;
        if compiled.is_empty() {
            return Ok(otherwise);
        }
        let parts = || compiled.iter().flat_map(|(c, r)| [c, r]).chain([&otherwise]);
        let is_constant = parts().all(|p| p.constant);
        let fallible = parts().any(|p| p.fallible);
        let branches = compiled.iter().map(|(c, r)| (Arc::clone(&c.expr), Arc::clone(&r.expr))).collect();
        let expr = expressions::case(None, branches, Some(otherwise.expr)).map_err(unwrap_error)?;
        Ok(fold(Compiled { expr, fallible, constant: is_constant }))
    }
}

/// Evaluates a constant; one that fails stays as it is and fails when it is needed.
fn fold(compiled: Compiled) -> Compiled {
    if !compiled.constant {
        return compiled;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let folded = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(EngineError::from)
        .and_then(|batch| compiled.expr.evaluate(&batch).map_err(unwrap_error))
        .and_then(|value| Ok(value.into_array(1)?))
        .and_then(constant);
    match folded {
        Ok(folded) => folded,
        Err(_) => Compiled { constant: false, ..compiled },
    }
}

fn constant(array: ArrayRef) -> Result<Compiled> {
    let scalar = ScalarValue::try_from_array(&array, 0)?;
    let expr = Arc::new(expressions::Literal::new(scalar));
    Ok(Compiled { expr, fallible: false, constant: true })
}

fn constant_scalar(compiled: &Compiled) -> Option<&ScalarValue> {
    compiled.expr.downcast_ref::<expressions::Literal>().map(|l| l.value())
}

fn constant_boolean(compiled: &Compiled) -> Option<bool> {
    match constant_scalar(compiled) {
        Some(ScalarValue::Boolean(value)) => *value,
        _ => None,
    }
}

fn constant_is_valid(compiled: &Compiled) -> bool {
    constant_scalar(compiled).is_some_and(|s| !s.is_null())
}

/// One row with the value of a literal.
pub(crate) fn literal_array(literal: &Literal, data_type: &DataType) -> Result<ArrayRef> {
    let arrow = data_type.logical.to_arrow();
    let array: ArrayRef = match (literal, &data_type.logical) {
        (Literal::Null, _) => new_null_array(&arrow, 1),
        (Literal::Boolean(value), LogicalType::Boolean) => Arc::new(BooleanArray::from(vec![*value])),
        (Literal::Int(value), _) => Arc::new(Int64Array::from(vec![*value])),
        (Literal::Double(value), LogicalType::Double) => Arc::new(Float64Array::from(vec![*value])),
        (Literal::Double(value), LogicalType::Float) => Arc::new(Float32Array::from(vec![*value as f32])),
        (Literal::String(value), ty) if ty.is_string() => Arc::new(StringArray::from(vec![value.as_str()])),
        (Literal::Bytes(value), ty) if ty.is_binary() => Arc::new(BinaryArray::from(vec![value.as_slice()])),
        (Literal::Decimal(value), LogicalType::Decimal(..)) => {
            let array = Decimal128Array::from(vec![*value]);
            match &arrow {
                ArrowType::Decimal128(p, s) => Arc::new(array.with_precision_and_scale(*p, *s)?),
                _ => Arc::new(array),
            }
        }
        (other, ty) => {
            return Err(EngineError::Validation(format!("the literal {other:?} does not fit its type {ty}")));
        }
    };
    retype(array, &arrow)
}
