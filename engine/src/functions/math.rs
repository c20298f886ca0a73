//! Mathematical functions over numbers.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use hurtig_graph::LogicalType as T;

use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::cast::{POWERS_OF_TEN, double_to_decimal, fits};
use crate::expr::format;
use crate::expr::value::{Kernel, Value, argument, retype, rowwise};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let pure = |kernel: Kernel| Ok(Some(Function::pure(kernel)));
    if let Some(f) = double_function(call.name, call.arguments.len()) {
        return pure(Arc::new(move |values: &[Value], _| {
            let array = argument(values, 0)?;
            Ok(Arc::new(array.view_primitive::<Float64Type>()?.unary::<_, Float64Type>(f)) as ArrayRef)
        }));
    }
    match call.name {
        "POWER" => pure(rowwise!((a: Float64Array, b: Float64Array) -> Float64Array, Ok(Some(java_pow(a, b))))),
        "ATAN2" => pure(rowwise!((a: Float64Array, b: Float64Array) -> Float64Array, Ok(Some(a.atan2(b))))),
        "LOG" => pure(rowwise!((base: Float64Array, x: Float64Array) -> Float64Array, Ok(Some(x.ln() / base.ln())))),
        "ABS" => pure(per_type(call.ty(0)?, Unary::Abs)?),
        "SIGN" => pure(per_type(call.ty(0)?, Unary::Sign)?),
        "FLOOR" | "CEIL" if call.arguments.len() == 1 => floor_ceil(call).map(Some),
        "ROUND" | "TRUNCATE" => round(call).map(Some),
        "PI" => pure(constant(std::f64::consts::PI)),
        "E" => pure(constant(std::f64::consts::E)),
        "RAND" | "RAND_INTEGER" => random(call).map(Some),
        "UUID" => Ok(Some(Function::volatile(Arc::new(|_: &[Value], rows| {
            let array: StringArray = (0..rows).map(|_| Some(uuid::Uuid::new_v4().to_string())).collect();
            Ok(Arc::new(array) as ArrayRef)
        })))),
        "BIN" => pure(rowwise!((n: Int64Array) -> StringArray, Ok(Some(format!("{n:b}"))))),
        "HEX" if call.ty(0)?.is_string() => {
            pure(rowwise!((s: StringArray) -> StringArray, Ok(Some(hex_upper(s.as_bytes())))))
        }
        "HEX" => pure(rowwise!((n: Int64Array) -> StringArray, Ok(Some(format!("{n:X}"))))),
        "UNHEX" => pure(rowwise!((s: StringArray) -> BinaryArray, Ok(unhex(s)))),
        "INET_ATON" => pure(rowwise!((s: StringArray) -> Int64Array, Ok(inet_aton(s)))),
        "INET_NTOA" => pure(rowwise!((n: Int64Array) -> StringArray, Ok(inet_ntoa(n)))),
        _ => Ok(None),
    }
}

fn double_function(name: &str, arguments: usize) -> Option<fn(f64) -> f64> {
    if arguments != 1 {
        return None;
    }
    Some(match name {
        "SQRT" => f64::sqrt,
        "LN" | "LOG" => f64::ln,
        "LOG10" => f64::log10,
        "LOG2" => |x| x.ln() / std::f64::consts::LN_2,
        "EXP" => f64::exp,
        "SIN" => f64::sin,
        "COS" => f64::cos,
        "TAN" => f64::tan,
        "COT" => |x| 1.0 / x.tan(),
        "ASIN" => f64::asin,
        "ACOS" => f64::acos,
        "ATAN" => f64::atan,
        "SINH" => f64::sinh,
        "COSH" => f64::cosh,
        "TANH" => f64::tanh,
        "DEGREES" => |x| x * (180.0 / std::f64::consts::PI),
        "RADIANS" => |x| x * (std::f64::consts::PI / 180.0),
        _ => return None,
    })
}

/// Java's `Math.pow`: NaN where C gives 1 for a base of 1 and an infinite or NaN exponent.
fn java_pow(base: f64, exponent: f64) -> f64 {
    if exponent.is_nan() || (base.abs() == 1.0 && exponent.is_infinite()) { f64::NAN } else { base.powf(exponent) }
}

fn constant(value: f64) -> Kernel {
    Arc::new(move |_, rows| Ok(Arc::new(Float64Array::from_value(value, rows)) as ArrayRef))
}

#[derive(Clone, Copy, PartialEq)]
enum Unary {
    Abs,
    Sign,
}

fn primitive<P: ArrowPrimitiveType>(f: impl Fn(P::Native) -> P::Native + Send + Sync + 'static) -> Kernel {
    Arc::new(move |values, _| {
        let array: PrimitiveArray<P> = argument(values, 0)?.view_primitive::<P>()?.unary(&f);
        Ok(Arc::new(array) as ArrayRef)
    })
}

/// A DECIMAL keeps its precision and scale.
fn decimal(ty: &T, f: impl Fn(i128) -> i128 + Send + Sync + 'static) -> Kernel {
    let arrow = ty.to_arrow();
    Arc::new(move |values, _| {
        let array: PrimitiveArray<Decimal128Type> = argument(values, 0)?.view_primitive::<Decimal128Type>()?.unary(&f);
        retype(Arc::new(array), &arrow)
    })
}

fn float_sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

fn per_type(ty: &T, op: Unary) -> Result<Kernel> {
    Ok(match (op, ty) {
        (Unary::Abs, T::TinyInt) => primitive::<Int8Type>(i8::wrapping_abs),
        (Unary::Abs, T::SmallInt) => primitive::<Int16Type>(i16::wrapping_abs),
        (Unary::Abs, T::Int) => primitive::<Int32Type>(i32::wrapping_abs),
        (Unary::Abs, T::BigInt) => primitive::<Int64Type>(i64::wrapping_abs),
        (Unary::Abs, T::Float) => primitive::<Float32Type>(f32::abs),
        (Unary::Abs, T::Double) => primitive::<Float64Type>(f64::abs),
        (Unary::Abs, T::Decimal(..)) => decimal(ty, i128::wrapping_abs),
        (Unary::Sign, T::TinyInt) => primitive::<Int8Type>(i8::signum),
        (Unary::Sign, T::SmallInt) => primitive::<Int16Type>(i16::signum),
        (Unary::Sign, T::Int) => primitive::<Int32Type>(i32::signum),
        (Unary::Sign, T::BigInt) => primitive::<Int64Type>(i64::signum),
        (Unary::Sign, T::Float) => primitive::<Float32Type>(|x| float_sign(x.into()) as f32),
        (Unary::Sign, T::Double) => primitive::<Float64Type>(float_sign),
        (Unary::Sign, T::Decimal(_, s)) => {
            let one = POWERS_OF_TEN[usize::from(*s)];
            decimal(ty, move |v| v.signum() * one)
        }
        (_, other) => return Err(EngineError::Validation(format!("a number is needed, not {other}"))),
    })
}

fn floor_ceil(call: &Call<'_>) -> Result<Function> {
    let up = call.name == "CEIL";
    let kernel = match call.ty(0)? {
        ty if ty.is_integer() => Arc::new(|values: &[Value], rows| argument(values, 0)?.expand(rows)) as Kernel,
        T::Float => primitive::<Float32Type>(if up { f32::ceil } else { f32::floor }),
        T::Double => primitive::<Float64Type>(if up { f64::ceil } else { f64::floor }),
        T::Decimal(_, s) => {
            let unit = POWERS_OF_TEN[usize::from(*s)];
            decimal(&call.result.logical, move |v| {
                let floor = v.div_euclid(unit);
                if up && v.rem_euclid(unit) != 0 { floor + 1 } else { floor }
            })
        }
        other => return Err(EngineError::Validation(format!("{} of {other}", call.name))),
    };
    Ok(Function::pure(kernel))
}

/// An unscaled value of scale `scale` rounded (half away from zero) or cut to `digits` after the
/// point, still at `scale`.
fn round_decimal(value: i128, scale: u8, digits: i64, truncate: bool) -> Option<i128> {
    let drop = i64::from(scale) - digits;
    if drop <= 0 {
        return Some(value);
    }
    if drop > 38 {
        return Some(0);
    }
    let unit = POWERS_OF_TEN[drop as usize];
    let (whole, rest) = (value / unit, value % unit);
    let away = !truncate && rest.unsigned_abs() >= (unit / 2) as u128;
    (if away { whole + value.signum() } else { whole }).checked_mul(unit)
}

/// ROUND(x [, digits]) and TRUNCATE(x [, digits]).
fn round(call: &Call<'_>) -> Result<Function> {
    let truncate = call.name == "TRUNCATE";
    let ty = call.ty(0)?.clone();
    let result = call.result.logical.clone();
    let arrow = result.to_arrow();
    let kernel = Arc::new(move |values: &[Value], rows: usize| -> Result<ArrayRef> {
        let digits = if values.len() > 1 { Some(argument(values, 1)?.longs()?) } else { None };
        let digits_at = |row: usize| match &digits {
            Some(column) => column.get(row),
            None => Some(0),
        };
        let value = argument(values, 0)?;
        match &ty {
            T::Decimal(_, s) => {
                let T::Decimal(p2, s2) = result else {
                    return Err(EngineError::Internal(format!("ROUND of a DECIMAL gives {result}")));
                };
                let decimals = value.view_primitive::<Decimal128Type>()?;
                let array: PrimitiveArray<Decimal128Type> = (0..rows)
                    .map(|row| {
                        let index = value.index(row);
                        if decimals.is_null(index) {
                            return None;
                        }
                        let rounded = round_decimal(decimals.value(index), *s, digits_at(row)?, truncate)?;
                        // The result's scale is at most the argument's; only zeros are dropped.
                        let rescaled = rounded / POWERS_OF_TEN[usize::from(s.saturating_sub(s2))];
                        fits(rescaled, p2).then_some(rescaled)
                    })
                    .collect();
                retype(Arc::new(array), &arrow)
            }
            T::Float | T::Double => {
                let double = value.array.data_type() == &arrow::datatypes::DataType::Float64;
                let at = |index: usize| {
                    if double {
                        value.array.as_primitive::<Float64Type>().value(index)
                    } else {
                        f64::from(value.array.as_primitive::<Float32Type>().value(index))
                    }
                };
                let text = |index: usize| format::double(at(index));
                let array = (0..rows)
                    .map(|row| {
                        let index = value.index(row);
                        let Some(digits) = digits_at(row) else { return Ok(None) };
                        if value.array.is_null(index) {
                            return Ok(None);
                        }
                        round_double(at(index), &text(index), digits, truncate).map(Some)
                    })
                    .collect::<Result<Float64Array>>()?;
                if double {
                    return Ok(Arc::new(array));
                }
                Ok(Arc::new(array.unary::<_, Float32Type>(|v| v as f32)))
            }
            _ => {
                let longs = value.longs()?;
                let array: Int64Array = (0..rows)
                    .map(|row| {
                        let rounded = round_decimal(longs.get(row)?.into(), 0, digits_at(row)?, truncate)?;
                        Some(rounded as i64)
                    })
                    .collect();
                retype(Arc::new(array), &arrow)
            }
        }
    });
    Ok(Function::fallible(kernel))
}

/// Goes through the decimal digits that the number prints with.
fn round_double(value: f64, text: &str, digits: i64, truncate: bool) -> Result<f64> {
    if !value.is_finite() {
        return Err(EngineError::Runtime(format!("ROUND and TRUNCATE need a finite number, not {text}")));
    }
    if digits > 17 || value == 0.0 {
        return Ok(value);
    }
    let scale = 20_u8;
    match decimal_text(text, scale).and_then(|v| round_decimal(v, scale, digits, truncate)) {
        Some(rounded) => Ok(format::decimal(rounded, scale).parse().unwrap_or(value)),
        // Too large to have digits after the point.
        None if digits >= 0 => Ok(value),
        None => {
            let unit = 10_f64.powi(-digits as i32);
            Ok(if truncate { (value / unit).trunc() * unit } else { (value / unit).round() * unit })
        }
    }
}

fn decimal_text(text: &str, scale: u8) -> Option<i128> {
    match text.parse::<f64>() {
        Ok(v) if v.abs() < 1e17 => double_to_decimal(v, 38, scale),
        _ => None,
    }
}

/// Java's linear congruential generator, one for each call of the function in a task.
fn random(call: &Call<'_>) -> Result<Function> {
    let integer = call.name == "RAND_INTEGER";
    let seeded = call.arguments.len() == if integer { 2 } else { 1 };
    let seed = if seeded { call.int(0) } else { None };
    let state = Arc::new(std::sync::Mutex::new(match seed {
        Some(seed) => Some(scramble(seed)),
        None if seeded => None,
        None => Some(scramble(uuid::Uuid::new_v4().as_u64_pair().0 as i64)),
    }));
    Ok(Function::volatile(Arc::new(move |values: &[Value], rows| {
        let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut current = match *state {
            Some(current) => current,
            None => scramble(argument(values, 0)?.longs()?.get(0).unwrap_or(0)),
        };
        let array: ArrayRef = if integer {
            let bound = argument(values, values.len() - 1)?.longs()?;
            let array = (0..rows)
                .map(|row| match bound.get(row) {
                    Some(bound) if bound > 0 => Ok(Some(i64::from(next_int(&mut current, bound as i32)))),
                    Some(bound) => {
                        Err(EngineError::Runtime(format!("RAND_INTEGER needs a positive bound, not {bound}")))
                    }
                    None => Ok(None),
                })
                .collect::<Result<Int64Array>>()?;
            retype(Arc::new(array), &arrow::datatypes::DataType::Int32)?
        } else {
            let array: Float64Array = (0..rows).map(|_| Some(next_double(&mut current))).collect();
            Arc::new(array)
        };
        *state = Some(current);
        Ok(array)
    })))
}

const MASK: u64 = (1 << 48) - 1;

fn scramble(seed: i64) -> u64 {
    (seed as u64 ^ 0x5_DEEC_E66D) & MASK
}

fn next(state: &mut u64, bits: u32) -> i32 {
    *state = state.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & MASK;
    (*state >> (48 - bits)) as i32
}

fn next_double(state: &mut u64) -> f64 {
    let (high, low) = (next(state, 26), next(state, 27));
    (((high as i64) << 27) + low as i64) as f64 / (1_u64 << 53) as f64
}

fn next_int(state: &mut u64, bound: i32) -> i32 {
    if bound & (bound - 1) == 0 {
        return ((i64::from(bound) * i64::from(next(state, 31))) >> 31) as i32;
    }
    loop {
        let bits = next(state, 31);
        let value = bits % bound;
        if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
            return value;
        }
    }
}

fn hex_upper(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02X}");
    }
    out
}

/// An odd length drops the first digit's value and puts a zero byte in front.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let bytes = text.as_bytes();
    let (mut out, rest) = if bytes.len() % 2 == 1 {
        digit(bytes[0])?;
        (vec![0], &bytes[1..])
    } else {
        (Vec::new(), bytes)
    };
    for pair in rest.chunks(2) {
        out.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(out)
}

/// An IPv4 address; the last part fills the bytes that are not given.
fn inet_aton(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.is_empty() || parts.len() > 4 {
        return None;
    }
    let mut value = 0_i64;
    for (at, part) in parts.iter().enumerate() {
        if part.is_empty() || part.len() > 10 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: i64 = part.parse().ok()?;
        let last = at + 1 == parts.len();
        let bits = if last { 8 * (5 - parts.len() as u32) } else { 8 };
        if number >= 1 << bits {
            return None;
        }
        value = value << bits | number;
    }
    Some(value)
}

fn inet_ntoa(value: i64) -> Option<String> {
    let address = u32::try_from(value).ok()?;
    Some(std::net::Ipv4Addr::from(address).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_through_decimal_digits() {
        let round = |v: f64, d| round_double(v, &format::double(v), d, false).unwrap();
        assert_eq!(round(1.005, 2), 1.01);
        assert_eq!(round(2.675, 2), 2.68);
        assert_eq!(round(-2.5, 0), -3.0);
        assert_eq!(round(15.0, -1), 20.0);
        assert_eq!(round_decimal(-15, 0, -1, false), Some(-20));
        assert_eq!(round_decimal(-15, 0, -1, true), Some(-10));
    }

    #[test]
    fn random_is_java_s_generator() {
        let mut state = scramble(1);
        assert_eq!(next_double(&mut state), 0.730_878_190_703_290_9);
    }

    #[test]
    fn addresses_and_hex() {
        assert_eq!(inet_aton("10.0.5.9"), Some(167_773_449));
        assert_eq!(inet_aton("127.1"), Some(2_130_706_433));
        assert_eq!(inet_aton("256.0.0.1"), None);
        assert_eq!(unhex("F"), Some(vec![0]));
        assert_eq!(unhex("4g"), None);
    }
}
