//! Comparison: `=`, `<`, IS DISTINCT FROM, IN.
//!
//! Floating-point numbers compare as Java's primitives: NaN equals nothing, -0.0 equals 0.0.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, make_comparator};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortOptions, not, or_kleene};
use arrow::datatypes::{Float32Type, Float64Type};
use hurtig_graph::LogicalType as T;

use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::value::{Kernel, Value, argument};

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Distinct,
    NotDistinct,
}

impl Op {
    fn parse(name: &str) -> Option<Op> {
        Some(match name {
            "=" => Op::Eq,
            "<>" => Op::Ne,
            "<" => Op::Lt,
            "<=" => Op::Le,
            ">" => Op::Gt,
            ">=" => Op::Ge,
            "IS DISTINCT FROM" => Op::Distinct,
            "IS NOT DISTINCT FROM" => Op::NotDistinct,
            _ => return None,
        })
    }

    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Op::Eq | Op::NotDistinct => ordering == Some(Ordering::Equal),
            Op::Ne | Op::Distinct => ordering != Some(Ordering::Equal),
            Op::Lt => ordering == Some(Ordering::Less),
            Op::Le => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Op::Gt => ordering == Some(Ordering::Greater),
            Op::Ge => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    if let Some(op) = Op::parse(call.name) {
        let kernel = comparison(op, call.ty(0)?);
        return Ok(Some(Function::pure(kernel)));
    }
    if call.name == "IN" {
        let equal = comparison(Op::Eq, call.ty(0)?);
        return Ok(Some(Function::pure(in_list(equal))));
    }
    Ok(None)
}

/// The kernel of `op` over two arguments of one type.
fn comparison(op: Op, ty: &T) -> Kernel {
    match ty {
        T::Float => Arc::new(move |values, rows| floats::<Float32Type>(op, values, rows)),
        T::Double => Arc::new(move |values, rows| floats::<Float64Type>(op, values, rows)),
        T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_) => {
            Arc::new(move |values, rows| nested(op, argument(values, 0)?, argument(values, 1)?, rows))
        }
        _ => Arc::new(move |values, _| {
            let (a, b) = (argument(values, 0)?, argument(values, 1)?);
            let result = match op {
                Op::Eq => cmp::eq(a, b),
                Op::Ne => cmp::neq(a, b),
                Op::Lt => cmp::lt(a, b),
                Op::Le => cmp::lt_eq(a, b),
                Op::Gt => cmp::gt(a, b),
                Op::Ge => cmp::gt_eq(a, b),
                Op::Distinct => cmp::distinct(a, b),
                Op::NotDistinct => cmp::not_distinct(a, b),
            }?;
            Ok(Arc::new(result) as ArrayRef)
        }),
    }
}

/// Where either side is NULL; a constant NULL makes all rows NULL.
fn null_rows(values: &[&Value], rows: usize) -> Option<NullBuffer> {
    values.iter().fold(None, |nulls: Option<NullBuffer>, value| {
        let own = match (value.constant, value.array.is_null(0)) {
            (true, true) => Some(NullBuffer::new_null(rows)),
            (true, false) => None,
            (false, _) => value.array.nulls().cloned(),
        };
        NullBuffer::union(nulls.as_ref(), own.as_ref())
    })
}

fn floats<P: ArrowPrimitiveType>(op: Op, values: &[Value], rows: usize) -> Result<ArrayRef>
where
    P::Native: PartialOrd,
{
    let (a, b) = (argument(values, 0)?, argument(values, 1)?);
    let (x, y) = (a.view_primitive::<P>()?, b.view_primitive::<P>()?);
    let bits = match op {
        Op::Eq | Op::NotDistinct => primitive_bits(a, b, x, y, rows, |p, q| p == q),
        Op::Ne | Op::Distinct => primitive_bits(a, b, x, y, rows, |p, q| p != q),
        Op::Lt => primitive_bits(a, b, x, y, rows, |p, q| p < q),
        Op::Le => primitive_bits(a, b, x, y, rows, |p, q| p <= q),
        Op::Gt => primitive_bits(a, b, x, y, rows, |p, q| p > q),
        Op::Ge => primitive_bits(a, b, x, y, rows, |p, q| p >= q),
    };
    finish(op, bits, &[a, b], rows)
}

fn primitive_bits<P: ArrowPrimitiveType>(
    a: &Value,
    b: &Value,
    x: &PrimitiveArray<P>,
    y: &PrimitiveArray<P>,
    rows: usize,
    holds: impl Fn(P::Native, P::Native) -> bool,
) -> BooleanBuffer {
    let (xs, ys) = (x.values(), y.values());
    match (a.constant, b.constant) {
        (false, false) => BooleanBuffer::collect_bool(rows, |i| holds(xs[i], ys[i])),
        (true, _) => BooleanBuffer::collect_bool(rows, |i| holds(xs[0], ys[b.index(i)])),
        (_, true) => BooleanBuffer::collect_bool(rows, |i| holds(xs[i], ys[0])),
    }
}

/// Gives comparisons their NULLs, and IS [NOT] DISTINCT FROM its values for them.
fn finish(op: Op, bits: BooleanBuffer, values: &[&Value; 2], rows: usize) -> Result<ArrayRef> {
    let nulls = null_rows(values, rows);
    let array = match (op, nulls) {
        (Op::Distinct | Op::NotDistinct, Some(_)) => {
            let bits = BooleanBuffer::collect_bool(rows, |i| match (values[0].is_null(i), values[1].is_null(i)) {
                (false, false) => bits.value(i),
                (true, true) => op == Op::NotDistinct,
                _ => op == Op::Distinct,
            });
            BooleanArray::new(bits, None)
        }
        (_, nulls) => BooleanArray::new(bits, nulls),
    };
    Ok(Arc::new(array))
}

/// Elements compare with NULL equal to NULL. Maps as sets of entries.
fn nested(op: Op, a: &Value, b: &Value, rows: usize) -> Result<ArrayRef> {
    let (x, y) = (&a.array, &b.array);
    let bits = if x.data_type().is_nested() && matches!(x.data_type(), arrow::datatypes::DataType::Map(..)) {
        let mut bits = Vec::with_capacity(rows);
        for row in 0..rows {
            let equal = maps_equal(x, a.index(row), y, b.index(row))?;
            bits.push(op.holds(Some(if equal { Ordering::Equal } else { Ordering::Less })));
        }
        bits.into_iter().collect()
    } else {
        let comparator = make_comparator(x, y, SortOptions::default())?;
        BooleanBuffer::collect_bool(rows, |row| {
            let (i, j) = (a.index(row), b.index(row));
            x.is_valid(i) && y.is_valid(j) && op.holds(Some(comparator(i, j)))
        })
    };
    finish(op, bits, &[a, b], rows)
}

fn maps_equal(x: &ArrayRef, i: usize, y: &ArrayRef, j: usize) -> Result<bool> {
    let (Some(x), Some(y)) = (x.as_map_opt(), y.as_map_opt()) else {
        return Err(EngineError::Internal("a map is compared with another type".to_owned()));
    };
    if x.is_null(i) || y.is_null(j) {
        return Ok(false);
    }
    let (x, y) = (x.value(i), y.value(j));
    if x.len() != y.len() {
        return Ok(false);
    }
    let entry = make_comparator(&x, &y, SortOptions::default())?;
    Ok((0..x.len()).all(|p| (0..y.len()).any(|q| entry(p, q) == Ordering::Equal)))
}

/// TRUE if any is equal, NULL if none is but one may be.
fn in_list(equal: Kernel) -> Kernel {
    Arc::new(move |values, rows| {
        let (needle, list) = match values {
            [needle, list @ ..] => (needle, list),
            [] => return Err(EngineError::Internal("IN without arguments".to_owned())),
        };
        let mut found: Option<BooleanArray> = None;
        for item in list {
            let constant = needle.constant && item.constant;
            let hits = equal(&[needle.clone(), item.clone()], if constant { 1 } else { rows })?;
            let hits = if constant { Value { array: hits, constant }.expand(rows)? } else { hits };
            let hits = hits.as_boolean();
            found = Some(match found {
                None => hits.clone(),
                Some(before) => or_kleene(&before, hits)?,
            });
        }
        match found {
            Some(found) => Ok(Arc::new(found) as ArrayRef),
            None => Ok(Arc::new(not(&BooleanArray::from(vec![true; rows]))?)),
        }
    })
}
