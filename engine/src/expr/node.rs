//! The physical expressions of our own: a kernel call, lazy AND/OR, lazy COALESCE.
//!
//! They are DataFusion physical expressions, so that they mix with its columns, literals and CASE.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_empty_array};
use arrow::compute::{and_kleene, filter_record_batch, is_null, not, or_kleene};
use arrow::datatypes::{DataType as ArrowType, Schema};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

use super::value::{Kernel, Value, retype};
use crate::error::EngineError;

type DfResult<T> = Result<T, DataFusionError>;

/// Carries an engine error through DataFusion's trait; [`unwrap_error`] takes it out again.
pub(crate) fn wrap_error(error: EngineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The engine's error inside a DataFusion error.
pub(crate) fn unwrap_error(error: DataFusionError) -> EngineError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<EngineError>() {
            Ok(engine) => *engine,
            Err(other) => EngineError::Runtime(other.to_string()),
        },
        DataFusionError::Context(_, inner) => unwrap_error(*inner),
        other => EngineError::from(other),
    }
}

/// A call of a kernel.
#[derive(Clone)]
pub(crate) struct KernelExpr {
    pub name: String,
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub kernel: Kernel,
    pub result: ArrowType,
    /// Gives another value each time: never evaluated once for all rows.
    pub volatile: bool,
}

impl fmt::Debug for KernelExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KernelExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (i, argument) in self.arguments.iter().enumerate() {
            write!(f, "{}{argument}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl PartialEq for KernelExpr {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel) && self.name == other.name && self.arguments == other.arguments
    }
}

impl Eq for KernelExpr {}

impl Hash for KernelExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.arguments.hash(state);
    }
}

fn to_value(value: ColumnarValue) -> DfResult<Value> {
    Ok(match value {
        ColumnarValue::Array(array) => Value { array, constant: false },
        ColumnarValue::Scalar(scalar) => Value { array: scalar.to_array()?, constant: true },
    })
}

impl PhysicalExpr for KernelExpr {
    fn data_type(&self, _: &Schema) -> DfResult<ArrowType> {
        Ok(self.result.clone())
    }

    fn nullable(&self, _: &Schema) -> DfResult<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&self.result)));
        }
        let values = self.arguments.iter().map(|a| to_value(a.evaluate(batch)?)).collect::<DfResult<Vec<Value>>>()?;
        let once = !self.volatile && values.iter().all(|v| v.constant);
        let array = (self.kernel)(&values, if once { 1 } else { rows })
            .and_then(|array| retype(array, &self.result))
            .map_err(wrap_error)?;
        if once {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
        } else {
            Ok(ColumnarValue::Array(array))
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.arguments.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(KernelExpr { arguments: children, ..(*self).clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    fn is_volatile_node(&self) -> bool {
        self.volatile
    }
}

/// AND or OR in three-valued logic. With `lazy` the right side is evaluated only for rows that the
/// left side does not decide, so that it cannot fail there.
#[derive(Debug, Clone, Eq)]
pub(crate) struct LogicExpr {
    pub and: bool,
    pub lazy: bool,
    pub left: Arc<dyn PhysicalExpr>,
    pub right: Arc<dyn PhysicalExpr>,
}

impl PartialEq for LogicExpr {
    fn eq(&self, other: &Self) -> bool {
        (self.and, self.lazy) == (other.and, other.lazy) && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Hash for LogicExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.and, self.lazy).hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl fmt::Display for LogicExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, if self.and { "AND" } else { "OR" }, self.right)
    }
}

fn booleans(value: ColumnarValue, rows: usize) -> DfResult<BooleanArray> {
    let array = value.into_array(rows)?;
    match array.as_boolean_opt() {
        Some(booleans) => Ok(booleans.clone()),
        None => Err(wrap_error(EngineError::Internal(format!("a condition of type {}", array.data_type())))),
    }
}

impl PhysicalExpr for LogicExpr {
    fn data_type(&self, _: &Schema) -> DfResult<ArrowType> {
        Ok(ArrowType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> DfResult<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let rows = batch.num_rows();
        let left = booleans(self.left.evaluate(batch)?, rows)?;
        let right = if self.lazy {
            // What the left side leaves open: for AND all but FALSE, for OR all but TRUE.
            let decided = if self.and { not(&left)? } else { left.clone() };
            let open: BooleanArray = match decided.nulls() {
                None => not(&decided)?,
                Some(nulls) => BooleanArray::new(!&(decided.values() & nulls.inner()), None),
            };
            match open.true_count() {
                0 => return Ok(ColumnarValue::Array(Arc::new(left))),
                n if n == rows => booleans(self.right.evaluate(batch)?, rows)?,
                n => {
                    let part = filter_record_batch(batch, &open)?;
                    let part = booleans(self.right.evaluate(&part)?, n)?;
                    // A decided row's right side does not matter; open rows take theirs in order.
                    let mut next = 0;
                    (0..rows)
                        .map(|row| {
                            if !open.value(row) {
                                return Some(!self.and);
                            }
                            next += 1;
                            part.is_valid(next - 1).then(|| part.value(next - 1))
                        })
                        .collect()
                }
            }
        } else {
            booleans(self.right.evaluate(batch)?, rows)?
        };
        let result = if self.and { and_kleene(&left, &right)? } else { or_kleene(&left, &right)? };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        let [left, right] = <[_; 2]>::try_from(children)
            .map_err(|_| DataFusionError::Internal("AND and OR have two children".to_owned()))?;
        Ok(Arc::new(LogicExpr { left, right, ..(*self).clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// COALESCE: a later argument is evaluated only for the rows where all before it are NULL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CoalesceExpr {
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub result: ArrowType,
}

impl fmt::Display for CoalesceExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("COALESCE(")?;
        for (i, argument) in self.arguments.iter().enumerate() {
            write!(f, "{}{argument}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl PhysicalExpr for CoalesceExpr {
    fn data_type(&self, _: &Schema) -> DfResult<ArrowType> {
        Ok(self.result.clone())
    }

    fn nullable(&self, _: &Schema) -> DfResult<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let rows = batch.num_rows();
        let mut result: Option<ArrayRef> = None;
        for argument in &self.arguments {
            let Some(current) = &result else {
                result = Some(argument.evaluate(batch)?.into_array(rows)?);
                continue;
            };
            if current.null_count() == 0 {
                break;
            }
            let missing = is_null(current)?;
            let part = filter_record_batch(batch, &missing)?;
            let values = argument.evaluate(&part)?.into_array(part.num_rows())?;
            let mut next = 0;
            let indices: Vec<(usize, usize)> = (0..rows)
                .map(|row| {
                    if !missing.value(row) {
                        return (0, row);
                    }
                    next += 1;
                    (1, next - 1)
                })
                .collect();
            result = Some(arrow::compute::interleave(&[current.as_ref(), values.as_ref()], &indices)?);
        }
        match result {
            Some(array) => Ok(ColumnarValue::Array(array)),
            None => Err(DataFusionError::Internal("COALESCE without arguments".to_owned())),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.arguments.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(CoalesceExpr { arguments: children, ..(*self).clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
