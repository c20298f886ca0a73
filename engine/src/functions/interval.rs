//! Arithmetic with intervals: dates, times and timestamps plus or minus an interval, sums and
//! multiples of intervals.

use std::sync::Arc;

use arrow::array::Int64Array;
use hurtig_graph::LogicalType as T;

use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::value::{Value, argument, retype};
use crate::expr::zone::{DAY_MS, add_months};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let name = call.name;
    if !matches!(name, "+" | "-" | "*" | "/") {
        return Ok(None);
    }
    let left = call.ty(0)?;
    if call.arguments.len() == 1 {
        return if left.is_interval() {
            longs(call, |values, row| Ok(values[0].get(row).map(i64::wrapping_neg)), false).map(Some)
        } else {
            Ok(None)
        };
    }
    let right = call.ty(1)?;
    let minus = name == "-";
    let signed = move |v: i64| if minus { v.wrapping_neg() } else { v };
    let function = match (left, right) {
        (a, b) if a.is_interval() && b.is_interval() => pair(call, move |x, y| Ok(x.wrapping_add(signed(y))))?,
        (a, b) if a.is_interval() && b.is_integer() && name == "*" => pair(call, |x, y| Ok(x.wrapping_mul(y)))?,
        (a, b) if a.is_integer() && b.is_interval() && name == "*" => pair(call, |x, y| Ok(x.wrapping_mul(y)))?,
        (T::Timestamp(p) | T::TimestampLtz(p), T::IntervalDayTime) => {
            shifted_timestamp(*p, minus, call.result.logical.to_arrow())
        }
        (a, b) if a.is_temporal() && b.is_interval() => {
            let add = shift(a, b)?;
            pair(call, move |x, y| add(x, signed(y)))?
        }
        (a, b) if a.is_interval() && b.is_temporal() => {
            let add = shift(b, a)?;
            pair(call, move |x, y| add(y, x))?
        }
        _ => return Ok(None),
    };
    Ok(Some(function))
}

/// A timestamp plus or minus an interval, mostly a constant one: one addition a row.
fn shifted_timestamp(precision: u8, minus: bool, arrow: arrow::datatypes::DataType) -> Function {
    let unit = units_of_ms(precision);
    let overflow = || EngineError::Runtime("a timestamp is out of range after adding an interval".to_owned());
    let delta_of = move |ms: i64| if minus { ms.checked_neg() } else { Some(ms) }.and_then(|ms| ms.checked_mul(unit));
    Function::fallible(Arc::new(move |values: &[Value], rows: usize| {
        let (times, intervals) = (argument(values, 0)?.longs()?, argument(values, 1)?.longs()?);
        let array = match intervals.constant() {
            Some(ms) => {
                let delta = delta_of(ms).ok_or_else(overflow)?;
                times.try_unary(|value| value.checked_add(delta).ok_or_else(overflow))?
            }
            None => (0..rows)
                .map(|row| match (times.get(row), intervals.get(row)) {
                    (Some(value), Some(ms)) => {
                        delta_of(ms).and_then(|delta| value.checked_add(delta)).ok_or_else(overflow).map(Some)
                    }
                    _ => Ok(None),
                })
                .collect::<Result<Int64Array>>()?,
        };
        retype(Arc::new(array), &arrow)
    }))
}

/// Stored units of a millisecond.
fn units_of_ms(precision: u8) -> i64 {
    match precision {
        0..=3 => 1,
        4..=6 => 1000,
        _ => 1_000_000,
    }
}

type Shift = Box<dyn Fn(i64, i64) -> Result<i64> + Send + Sync>;

/// Adds an interval to a stored date, time or timestamp.
pub(super) fn shift(ty: &T, interval: &T) -> Result<Shift> {
    let months = *interval == T::IntervalYearMonth;
    Ok(match ty {
        T::Date if months => Box::new(|days, n| Ok(add_months(days, n))),
        // A date stays a date: what is less than a day is lost.
        T::Date => Box::new(|days, ms| Ok(days + ms / DAY_MS)),
        T::Time(_) if months => Box::new(|ms, _| Ok(ms)),
        T::Time(p) => {
            let step = 10_i64.pow(3 - u32::from(*p.min(&3)));
            Box::new(move |ms, add| Ok((ms + add).rem_euclid(DAY_MS) / step * step))
        }
        T::Timestamp(p) | T::TimestampLtz(p) => {
            let unit = units_of_ms(*p);
            let overflow = || EngineError::Runtime("a timestamp is out of range after adding an interval".to_owned());
            if months {
                Box::new(move |value, n| {
                    let day = DAY_MS * unit;
                    let days = add_months(value.div_euclid(day), n);
                    days.checked_mul(day).and_then(|v| v.checked_add(value.rem_euclid(day))).ok_or_else(overflow)
                })
            } else {
                Box::new(move |value, ms| ms.checked_mul(unit).and_then(|v| value.checked_add(v)).ok_or_else(overflow))
            }
        }
        other => return Err(EngineError::Validation(format!("an interval cannot be added to {other}"))),
    })
}

fn pair(call: &Call<'_>, op: impl Fn(i64, i64) -> Result<i64> + Send + Sync + 'static) -> Result<Function> {
    longs(
        call,
        move |values, row| match (values[0].get(row), values[1].get(row)) {
            (Some(x), Some(y)) => op(x, y).map(Some),
            _ => Ok(None),
        },
        true,
    )
}

fn longs(
    call: &Call<'_>,
    op: impl Fn(&[crate::expr::value::Longs], usize) -> Result<Option<i64>> + Send + Sync + 'static,
    fallible: bool,
) -> Result<Function> {
    let arrow = call.result.logical.to_arrow();
    let count = call.arguments.len();
    let kernel = Arc::new(move |values: &[Value], rows: usize| {
        let longs = (0..count).map(|i| argument(values, i)?.longs()).collect::<Result<Vec<_>>>()?;
        let array = (0..rows).map(|row| op(&longs, row)).collect::<Result<Int64Array>>()?;
        retype(Arc::new(array), &arrow)
    });
    Ok(Function { kernel, fallible, volatile: false })
}
