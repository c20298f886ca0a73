//! Casts among numbers and BOOLEAN.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use hurtig_graph::LogicalType as T;

use super::decimal::{POWERS_OF_TEN, decimal_to_double, double_to_decimal, rescale};
use super::no_cast;
use crate::error::{EngineError, Result};
use crate::expr::value::{Kernel, Value, argument, retype};

/// Applies `f` to the array of the only argument.
fn whole(f: impl Fn(&ArrayRef) -> Result<ArrayRef> + Send + Sync + 'static) -> Kernel {
    Arc::new(move |values: &[Value], _| f(&argument(values, 0)?.array))
}

macro_rules! convert {
    ($from:ty, $to:ty, $f:expr) => {
        whole(|array| Ok(Arc::new(array.as_primitive::<$from>().unary::<_, $to>($f)) as ArrayRef))
    };
}

/// A number to a number.
pub(super) fn cast(from: &T, to: &T) -> Result<Kernel> {
    Ok(match (from, to) {
        (T::Decimal(_, s1), T::Decimal(p2, s2)) => {
            let (s1, p2, s2) = (*s1, *p2, *s2);
            to_decimal::<Decimal128Type>(to, move |v| rescale(v, s1, p2, s2))
        }
        (T::Decimal(_, s), to) => from_decimal(*s, to)?,
        (from, T::Decimal(p, s)) => {
            let (p, s) = (*p, *s);
            let integer = move |v: i128| rescale(v, 0, p, s);
            match from {
                T::TinyInt => to_decimal::<Int8Type>(to, move |v| integer(v.into())),
                T::SmallInt => to_decimal::<Int16Type>(to, move |v| integer(v.into())),
                T::Int if p >= 10 + s => widen_to_decimal::<Int32Type>(to, s),
                T::Int => to_decimal::<Int32Type>(to, move |v| integer(v.into())),
                T::BigInt if p >= 19 + s => widen_to_decimal::<Int64Type>(to, s),
                T::BigInt => to_decimal::<Int64Type>(to, move |v| integer(v.into())),
                T::Float => float_to_decimal::<Float32Type>(to, p, s),
                T::Double => float_to_decimal::<Float64Type>(to, p, s),
                _ => return Err(no_cast(from, to)),
            }
        }
        (T::TinyInt, T::SmallInt) => convert!(Int8Type, Int16Type, |v| v.into()),
        (T::TinyInt, T::Int) => convert!(Int8Type, Int32Type, |v| v.into()),
        (T::TinyInt, T::BigInt) => convert!(Int8Type, Int64Type, |v| v.into()),
        (T::TinyInt, T::Float) => convert!(Int8Type, Float32Type, |v| v.into()),
        (T::TinyInt, T::Double) => convert!(Int8Type, Float64Type, |v| v.into()),
        (T::SmallInt, T::TinyInt) => convert!(Int16Type, Int8Type, |v| v as i8),
        (T::SmallInt, T::Int) => convert!(Int16Type, Int32Type, |v| v.into()),
        (T::SmallInt, T::BigInt) => convert!(Int16Type, Int64Type, |v| v.into()),
        (T::SmallInt, T::Float) => convert!(Int16Type, Float32Type, |v| v.into()),
        (T::SmallInt, T::Double) => convert!(Int16Type, Float64Type, |v| v.into()),
        (T::Int, T::TinyInt) => convert!(Int32Type, Int8Type, |v| v as i8),
        (T::Int, T::SmallInt) => convert!(Int32Type, Int16Type, |v| v as i16),
        (T::Int, T::BigInt) => convert!(Int32Type, Int64Type, |v| v.into()),
        (T::Int, T::Float) => convert!(Int32Type, Float32Type, |v| v as f32),
        (T::Int, T::Double) => convert!(Int32Type, Float64Type, |v| v.into()),
        (T::BigInt, T::TinyInt) => convert!(Int64Type, Int8Type, |v| v as i8),
        (T::BigInt, T::SmallInt) => convert!(Int64Type, Int16Type, |v| v as i16),
        (T::BigInt, T::Int) => convert!(Int64Type, Int32Type, |v| v as i32),
        (T::BigInt, T::Float) => convert!(Int64Type, Float32Type, |v| v as f32),
        (T::BigInt, T::Double) => convert!(Int64Type, Float64Type, |v| v as f64),
        // To INT the value saturates; the narrower types then wrap.
        (T::Float, T::TinyInt) => convert!(Float32Type, Int8Type, |v| (v as i32) as i8),
        (T::Float, T::SmallInt) => convert!(Float32Type, Int16Type, |v| (v as i32) as i16),
        (T::Float, T::Int) => convert!(Float32Type, Int32Type, |v| v as i32),
        (T::Float, T::BigInt) => convert!(Float32Type, Int64Type, |v| v as i64),
        (T::Float, T::Double) => convert!(Float32Type, Float64Type, |v| v.into()),
        (T::Double, T::TinyInt) => convert!(Float64Type, Int8Type, |v| (v as i32) as i8),
        (T::Double, T::SmallInt) => convert!(Float64Type, Int16Type, |v| (v as i32) as i16),
        (T::Double, T::Int) => convert!(Float64Type, Int32Type, |v| v as i32),
        (T::Double, T::BigInt) => convert!(Float64Type, Int64Type, |v| v as i64),
        (T::Double, T::Float) => convert!(Float64Type, Float32Type, |v| v as f32),
        _ => return Err(no_cast(from, to)),
    })
}

/// NULL where `f` gives none.
fn to_decimal<A: ArrowPrimitiveType>(to: &T, f: impl Fn(A::Native) -> Option<i128> + Send + Sync + 'static) -> Kernel {
    let arrow = to.to_arrow();
    whole(move |array| {
        let array: PrimitiveArray<Decimal128Type> = array.as_primitive::<A>().unary_opt(&f);
        retype(Arc::new(array), &arrow)
    })
}

/// NaN and the infinities have no digits: they fail the job.
fn float_to_decimal<A: ArrowPrimitiveType>(to: &T, precision: u8, scale: u8) -> Kernel
where
    A::Native: Into<f64>,
{
    let arrow = to.to_arrow();
    let name = to.to_string();
    whole(move |array| {
        let floats = array.as_primitive::<A>();
        let decimals = floats
            .iter()
            .map(|v| match v.map(Into::<f64>::into) {
                Some(v) if !v.is_finite() => {
                    Err(EngineError::Runtime(format!("cannot cast {v} to {name}: filter it out before")))
                }
                Some(v) => Ok(double_to_decimal(v, precision, scale)),
                None => Ok(None),
            })
            .collect::<Result<PrimitiveArray<Decimal128Type>>>()?;
        retype(Arc::new(decimals), &arrow)
    })
}

/// Every value of `A` fits: one multiplication a value.
fn widen_to_decimal<A: ArrowPrimitiveType>(to: &T, scale: u8) -> Kernel
where
    A::Native: Into<i128>,
{
    let arrow = to.to_arrow();
    let factor = POWERS_OF_TEN[usize::from(scale)];
    whole(move |array| {
        let array: PrimitiveArray<Decimal128Type> = array.as_primitive::<A>().unary(|v| v.into() * factor);
        retype(Arc::new(array), &arrow)
    })
}

fn from_decimal(scale: u8, to: &T) -> Result<Kernel> {
    macro_rules! truncate {
        ($to:ty, $native:ty) => {{
            let divisor = POWERS_OF_TEN[usize::from(scale)];
            whole(move |array| {
                let array = array.as_primitive::<Decimal128Type>();
                Ok(Arc::new(array.unary::<_, $to>(|v| (v / divisor) as $native)) as ArrayRef)
            })
        }};
    }
    Ok(match to {
        T::TinyInt => truncate!(Int8Type, i8),
        T::SmallInt => truncate!(Int16Type, i16),
        T::Int => truncate!(Int32Type, i32),
        T::BigInt => truncate!(Int64Type, i64),
        T::Float => whole(move |array| {
            let array = array.as_primitive::<Decimal128Type>();
            Ok(Arc::new(array.unary::<_, Float32Type>(|v| decimal_to_double(v, scale) as f32)) as ArrayRef)
        }),
        T::Double => whole(move |array| {
            let array = array.as_primitive::<Decimal128Type>();
            Ok(Arc::new(array.unary::<_, Float64Type>(|v| decimal_to_double(v, scale))) as ArrayRef)
        }),
        other => return Err(no_cast(&T::Decimal(38, scale), other)),
    })
}

/// TRUE is 1.
pub(super) fn from_boolean(to: &T) -> Result<Kernel> {
    let through = match to {
        T::TinyInt => None,
        other => Some(cast(&T::TinyInt, other)?),
    };
    Ok(Arc::new(move |values, rows| {
        let array = argument(values, 0)?;
        let booleans = array.array.as_boolean();
        let tiny: PrimitiveArray<Int8Type> =
            (0..booleans.len()).map(|i| booleans.is_valid(i).then(|| i8::from(booleans.value(i)))).collect();
        let tiny = Value { array: Arc::new(tiny), constant: array.constant };
        match &through {
            Some(kernel) => kernel(&[tiny], rows),
            None => Ok(tiny.array),
        }
    }))
}

/// Zero is FALSE, all else TRUE.
pub(super) fn to_boolean(from: &T) -> Result<Kernel> {
    macro_rules! nonzero {
        ($from:ty, $zero:expr) => {
            whole(|array| {
                let array = array.as_primitive::<$from>();
                let bits = array.values().iter().map(|v| *v != $zero).collect::<arrow::buffer::BooleanBuffer>();
                Ok(Arc::new(BooleanArray::new(bits, array.nulls().cloned())) as ArrayRef)
            })
        };
    }
    Ok(match from {
        T::TinyInt => nonzero!(Int8Type, 0),
        T::SmallInt => nonzero!(Int16Type, 0),
        T::Int => nonzero!(Int32Type, 0),
        T::BigInt => nonzero!(Int64Type, 0),
        T::Float => nonzero!(Float32Type, 0.0),
        T::Double => nonzero!(Float64Type, 0.0),
        T::Decimal(..) => nonzero!(Decimal128Type, 0),
        other => return Err(no_cast(other, &T::Boolean)),
    })
}
