//! Casts among DATE, TIME, TIMESTAMP and TIMESTAMP_LTZ.

use std::sync::Arc;

use hurtig_graph::LogicalType as T;
use hurtig_graph::types::arrow_form::time_unit;

use super::no_cast;
use crate::error::{EngineError, Result};
use crate::expr::format::Moment;
use crate::expr::value::{Kernel, Value, argument, retype};
use crate::expr::zone::{DAY_MS, Zone};

/// `None` when the stored integers stay as they are.
pub(super) fn cast(from: &T, to: &T, zone: Zone) -> Result<Option<Kernel>> {
    let kernel = match (from, to) {
        (T::Timestamp(a), T::Timestamp(b)) | (T::TimestampLtz(a), T::TimestampLtz(b)) => {
            if b >= a && time_unit(*a) == time_unit(*b) {
                return Ok(None);
            }
            timestamps(*a, *b, to, |ms| ms)
        }
        (T::Timestamp(a), T::TimestampLtz(b)) => timestamps(*a, *b, to, move |ms| zone.to_utc(ms)),
        (T::TimestampLtz(a), T::Timestamp(b)) => timestamps(*a, *b, to, move |ms| zone.to_local(ms)),
        // Days and times of the day are cut toward 1970, not toward the past.
        (T::Timestamp(a), T::Date) => simple(*a, to, |at| at.millis / DAY_MS),
        (T::Timestamp(a), T::Time(p)) => {
            let step = step(*p);
            simple(*a, to, move |at| at.millis % DAY_MS / step * step)
        }
        (T::TimestampLtz(a), T::Date) => simple(*a, to, move |at| zone.to_local(at.millis).div_euclid(DAY_MS)),
        (T::TimestampLtz(a), T::Time(p)) => {
            let step = step(*p);
            simple(*a, to, move |at| zone.to_local(at.millis).rem_euclid(DAY_MS) / step * step)
        }
        (T::Date, T::Timestamp(p)) => to_timestamp(*p, to, |days| days * DAY_MS),
        (T::Date, T::TimestampLtz(p)) => to_timestamp(*p, to, move |days| zone.to_utc(days * DAY_MS)),
        (T::Time(_), T::Timestamp(p)) => to_timestamp(*p, to, |ms| ms),
        (T::Time(_), T::TimestampLtz(p)) => to_timestamp(*p, to, move |ms| zone.to_utc(ms)),
        (T::Time(a), T::Time(b)) => {
            if b >= a {
                return Ok(None);
            }
            let step = step(*b);
            simple(3, to, move |at| at.millis / step * step)
        }
        _ => return Err(no_cast(from, to)),
    };
    Ok(Some(kernel))
}

fn step(precision: u8) -> i64 {
    10_i64.pow(3 - u32::from(precision.min(3)))
}

fn out_of_range(precision: u8) -> EngineError {
    EngineError::Runtime(format!(
        "a timestamp is out of the range of TIMESTAMP({precision}): use a precision of at most 6, or 3 for all years"
    ))
}

fn collect(
    values: &[Value],
    to: &arrow::datatypes::DataType,
    f: impl Fn(i64) -> Result<i64>,
) -> Result<arrow::array::ArrayRef> {
    retype(Arc::new(argument(values, 0)?.longs()?.try_unary(f)?), to)
}

fn timestamps(from: u8, precision: u8, to: &T, shift: impl Fn(i64) -> i64 + Send + Sync + 'static) -> Kernel {
    let arrow = to.to_arrow();
    Arc::new(move |values, _| {
        collect(values, &arrow, |v| {
            let at = Moment::from_stored(v, from);
            let at = Moment { millis: shift(at.millis), ..at };
            at.to_stored(precision).ok_or_else(|| out_of_range(precision))
        })
    })
}

fn simple(from: u8, to: &T, f: impl Fn(Moment) -> i64 + Send + Sync + 'static) -> Kernel {
    let arrow = to.to_arrow();
    Arc::new(move |values, _| collect(values, &arrow, |v| Ok(f(Moment::from_stored(v, from)))))
}

fn to_timestamp(precision: u8, to: &T, f: impl Fn(i64) -> i64 + Send + Sync + 'static) -> Kernel {
    let arrow = to.to_arrow();
    Arc::new(move |values, _| {
        collect(values, &arrow, |v| {
            Moment { millis: f(v), nanos: 0 }.to_stored(precision).ok_or_else(|| out_of_range(precision))
        })
    })
}
