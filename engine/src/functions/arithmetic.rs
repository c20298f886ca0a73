//! `+ - * / %` over numbers. Integers wrap, integer and decimal division by zero fails, decimals
//! round half up and overflow to NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, new_null_array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    ArrowNativeTypeOp, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, i256,
};
use hurtig_graph::LogicalType as T;

use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::cast::{POWERS_OF_TEN, fits, rescale};
use crate::expr::value::{Kernel, Value, argument, retype};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let name = call.name;
    if !matches!(name, "+" | "-" | "*" | "/" | "%" | "MOD") || !call.ty(0)?.is_numeric() {
        return Ok(None);
    }
    if call.arguments.len() == 1 {
        return Ok(Some(Function::pure(negate())));
    }
    if let (T::Decimal(p1, s1), T::Decimal(p2, s2), T::Decimal(p, s)) = (call.ty(0)?, call.ty(1)?, &call.result.logical)
    {
        let shape = DecimalShape { p1: *p1, s1: *s1, p2: *p2, s2: *s2, p: *p, s: *s };
        return Ok(Some(decimal(name, shape, call.result.logical.to_arrow())));
    }
    let function = match name {
        "+" => Function::pure(Arc::new(|v, _| Ok(numeric::add_wrapping(argument(v, 0)?, argument(v, 1)?)?))),
        "-" => Function::pure(Arc::new(|v, _| Ok(numeric::sub_wrapping(argument(v, 0)?, argument(v, 1)?)?))),
        "*" => Function::pure(Arc::new(|v, _| Ok(numeric::mul_wrapping(argument(v, 0)?, argument(v, 1)?)?))),
        "/" => divide(&call.result.logical)?,
        _ => remainder(&call.result.logical)?,
    };
    Ok(Some(function))
}

fn negate() -> Kernel {
    Arc::new(|values, _| Ok(numeric::neg_wrapping(argument(values, 0)?.array.as_ref())?))
}

fn by_zero() -> EngineError {
    EngineError::Runtime("division by zero: guard the divisor with NULLIF or CASE".to_owned())
}

/// Combines two columns; NULL where either is.
pub(super) fn binary<A, B, O>(
    values: &[Value],
    rows: usize,
    op: impl Fn(A::Native, B::Native) -> Result<Option<O::Native>>,
) -> Result<ArrayRef>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let (a, b) = (argument(values, 0)?, argument(values, 1)?);
    let (x, y) = (a.view_primitive::<A>()?, b.view_primitive::<B>()?);
    let array = (0..rows)
        .map(|row| {
            let (i, j) = (a.index(row), b.index(row));
            if x.is_null(i) || y.is_null(j) { Ok(None) } else { op(x.value(i), y.value(j)) }
        })
        .collect::<Result<PrimitiveArray<O>>>()?;
    Ok(Arc::new(array))
}

/// As [`binary`] for an operation that is defined for all values: vectorises.
fn binary_total<A: ArrowPrimitiveType>(
    values: &[Value],
    rows: usize,
    op: impl Fn(A::Native, A::Native) -> A::Native,
) -> Result<PrimitiveArray<A>> {
    let (a, b) = (argument(values, 0)?, argument(values, 1)?);
    let (x, y) = (a.view_primitive::<A>()?, b.view_primitive::<A>()?);
    Ok(match (a.constant && rows != 1, b.constant && rows != 1) {
        (false, false) => arrow::compute::binary(x, y, op)?,
        (true, _) if x.is_null(0) => PrimitiveArray::new_null(rows),
        (_, true) if y.is_null(0) => PrimitiveArray::new_null(rows),
        (true, _) => {
            let left = x.value(0);
            y.unary(|right| op(left, right))
        }
        (_, true) => {
            let right = y.value(0);
            x.unary(|left| op(left, right))
        }
    })
}

/// Integer division with a constant divisor other than zero needs no check per row.
fn integer_op<P: ArrowPrimitiveType>(
    op: impl Fn(P::Native, P::Native) -> P::Native + Send + Sync + Copy + 'static,
) -> Function
where
    P::Native: ArrowNativeTypeOp,
{
    Function::fallible(Arc::new(move |values, rows| {
        let divisor = argument(values, 1)?;
        if divisor.constant && divisor.array.is_valid(0) && !divisor.view_primitive::<P>()?.value(0).is_zero() {
            return Ok(Arc::new(binary_total::<P>(values, rows, op)?) as ArrayRef);
        }
        binary::<P, P, P>(values, rows, |x, y| if y.is_zero() { Err(by_zero()) } else { Ok(Some(op(x, y))) })
    }))
}

fn divide(ty: &T) -> Result<Function> {
    Ok(match ty {
        T::TinyInt => integer_op::<Int8Type>(i8::wrapping_div),
        T::SmallInt => integer_op::<Int16Type>(i16::wrapping_div),
        T::Int => integer_op::<Int32Type>(i32::wrapping_div),
        T::BigInt => integer_op::<Int64Type>(i64::wrapping_div),
        T::Float => Function::pure(Arc::new(|v, rows| {
            Ok(Arc::new(binary_total::<Float32Type>(v, rows, |x, y| x / y)?) as ArrayRef)
        })),
        T::Double => Function::pure(Arc::new(|v, rows| {
            Ok(Arc::new(binary_total::<Float64Type>(v, rows, |x, y| x / y)?) as ArrayRef)
        })),
        other => return Err(EngineError::Validation(format!("a division cannot give {other}"))),
    })
}

fn remainder(ty: &T) -> Result<Function> {
    Ok(match ty {
        T::TinyInt => integer_op::<Int8Type>(i8::wrapping_rem),
        T::SmallInt => integer_op::<Int16Type>(i16::wrapping_rem),
        T::Int => integer_op::<Int32Type>(i32::wrapping_rem),
        T::BigInt => integer_op::<Int64Type>(i64::wrapping_rem),
        other => return Err(EngineError::Validation(format!("% cannot give {other}"))),
    })
}

/// Precision and scale of both arguments and the result.
#[derive(Debug, Clone, Copy)]
struct DecimalShape {
    p1: u8,
    s1: u8,
    p2: u8,
    s2: u8,
    p: u8,
    s: u8,
}

fn decimal(name: &str, shape: DecimalShape, arrow: arrow::datatypes::DataType) -> Function {
    let total = |op: fn(i128, i128) -> i128| -> Kernel {
        let arrow = arrow.clone();
        Arc::new(move |values, rows| retype(Arc::new(binary_total::<Decimal128Type>(values, rows, op)?), &arrow))
    };
    let checked = |op: Box<dyn Fn(i128, i128) -> Result<Option<i128>> + Send + Sync>| -> Kernel {
        let arrow = arrow.clone();
        Arc::new(move |values, rows| {
            if values.iter().any(|v| v.constant && v.array.is_null(0)) {
                return Ok(new_null_array(&arrow, rows));
            }
            retype(binary::<Decimal128Type, Decimal128Type, Decimal128Type>(values, rows, &op)?, &arrow)
        })
    };
    let DecimalShape { p1, s1, p2, s2, s, .. } = shape;
    let common = s1.max(s2);
    // The exact result fits, so that neither rounding nor overflow can occur.
    let exact_sum = s == common && (p1 - s1).max(p2 - s2) + common < 38;
    match name {
        "+" if exact_sum && s1 == s2 => Function::pure(total(|x, y| x + y)),
        "-" if exact_sum && s1 == s2 => Function::pure(total(|x, y| x - y)),
        "*" if p1 + p2 <= 38 && s == s1 + s2 => Function::pure(total(|x, y| x * y)),
        "+" => Function::pure(checked(Box::new(move |x, y| Ok(sum(shape, x, y, false))))),
        "-" => Function::pure(checked(Box::new(move |x, y| Ok(sum(shape, x, y, true))))),
        "*" => Function::pure(checked(Box::new(move |x, y| Ok(product(shape, x, y))))),
        "/" => Function::fallible(checked(Box::new(
            move |x, y| {
                if y == 0 { Err(by_zero()) } else { Ok(quotient(shape, x, y)) }
            },
        ))),
        _ => Function::fallible(checked(Box::new(
            move |x, y| {
                if y == 0 { Err(by_zero()) } else { Ok(modulo(shape, x, y)) }
            },
        ))),
    }
}

fn wide_power(exponent: u8) -> i256 {
    let exponent = usize::from(exponent);
    let first = i256::from_i128(POWERS_OF_TEN[exponent.min(38)]);
    if exponent <= 38 { first } else { first.wrapping_mul(i256::from_i128(POWERS_OF_TEN[(exponent - 38).min(38)])) }
}

/// A 256-bit value of scale `from` at the result's scale.
fn narrow(value: i256, from: u8, shape: DecimalShape) -> Option<i128> {
    if from <= shape.s {
        let scaled = value.checked_mul(wide_power(shape.s - from))?.to_i128()?;
        return fits(scaled, shape.p).then_some(scaled);
    }
    let scaled = wide_div_half_up(value, wide_power(from - shape.s))?.to_i128()?;
    fits(scaled, shape.p).then_some(scaled)
}

fn wide_div_half_up(value: i256, divisor: i256) -> Option<i256> {
    let (quotient, rest) = (value.checked_div(divisor)?, value.checked_rem(divisor)?);
    let twice = rest.wrapping_abs().checked_add(rest.wrapping_abs())?;
    if twice < divisor.wrapping_abs() {
        return Some(quotient);
    }
    let one = if value.is_negative() == divisor.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    quotient.checked_add(one)
}

fn sum(shape: DecimalShape, x: i128, y: i128, subtract: bool) -> Option<i128> {
    let common = shape.s1.max(shape.s2);
    let a = i256::from_i128(x).checked_mul(wide_power(common - shape.s1))?;
    let b = i256::from_i128(y).checked_mul(wide_power(common - shape.s2))?;
    narrow(if subtract { a.checked_sub(b)? } else { a.checked_add(b)? }, common, shape)
}

fn product(shape: DecimalShape, x: i128, y: i128) -> Option<i128> {
    match x.checked_mul(y) {
        Some(product) => rescale(product, shape.s1 + shape.s2, shape.p, shape.s),
        None => narrow(i256::from_i128(x).checked_mul(i256::from_i128(y))?, shape.s1 + shape.s2, shape),
    }
}

fn quotient(shape: DecimalShape, x: i128, y: i128) -> Option<i128> {
    // x / 10^s1 divided by y / 10^s2, at scale s: x * 10^(s - s1 + s2) / y.
    let shift = i16::from(shape.s) - i16::from(shape.s1) + i16::from(shape.s2);
    let (mut x, mut y) = (i256::from_i128(x), i256::from_i128(y));
    if shift >= 0 {
        x = x.checked_mul(wide_power(shift as u8))?;
    } else {
        y = y.checked_mul(wide_power(shift.unsigned_abs() as u8))?;
    }
    let value = wide_div_half_up(x, y)?.to_i128()?;
    fits(value, shape.p).then_some(value)
}

fn modulo(shape: DecimalShape, x: i128, y: i128) -> Option<i128> {
    let common = shape.s1.max(shape.s2);
    let a = i256::from_i128(x).checked_mul(wide_power(common - shape.s1))?;
    let b = i256::from_i128(y).checked_mul(wide_power(common - shape.s2))?;
    narrow(a.checked_rem(b)?, common, shape)
}
