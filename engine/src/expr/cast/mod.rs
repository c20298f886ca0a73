//! Casts of every pair of types by Flink's run-time rules.
//!
//! Integers wrap, floats saturate, decimals round half up and become NULL when they do not fit,
//! text is cut or padded to the length of its type. What cannot be read from text fails the job,
//! or gives NULL with TRY_CAST.

mod decimal;
mod nested;
mod numeric;
mod parse;
mod temporal;
mod text;

pub use decimal::{POWERS_OF_TEN, decimal_to_double, double_to_decimal, fits, rescale};
pub use parse::{parse_date, parse_decimal, parse_double, parse_integer, parse_time, parse_timestamp};
pub use text::to_text;

use std::sync::Arc;

use arrow::array::new_null_array;
use hurtig_graph::LogicalType;

use super::value::{Kernel, argument, retype};
use super::zone::Zone;
use crate::error::{EngineError, Result};

/// The kernel of a cast, `None` when the values stay as they are. `safe`: NULL instead of an error.
///
/// # Errors
/// Validation: there is no such cast.
pub fn cast(from: &LogicalType, to: &LogicalType, safe: bool, zone: Zone) -> Result<Option<Kernel>> {
    use LogicalType as T;
    if from == to {
        return Ok(None);
    }
    let kernel = match (from, to) {
        (T::Null, _) => {
            let arrow = to.to_arrow();
            Some(Arc::new(move |_: &[_], rows| Ok(new_null_array(&arrow, rows))) as Kernel)
        }
        (_, to) if to.is_string() => text::cast(from, to, zone)?,
        (from, to) if from.is_string() => Some(parse::cast(from, to, safe, zone)?),
        (from, to) if from.is_binary() && to.is_binary() => text::binary(from, to),
        (T::Boolean, to) if to.is_numeric() => Some(numeric::from_boolean(to)?),
        (from, T::Boolean) if from.is_numeric() => Some(numeric::to_boolean(from)?),
        (from, to) if from.is_numeric() && to.is_numeric() => Some(numeric::cast(from, to)?),
        (from, to) if from.is_interval() && from == to => None,
        (from, to) if from.is_temporal() && to.is_temporal() => temporal::cast(from, to, zone)?,
        // Intervals and exact numbers share their integers; only coercions within expressions use it.
        (from, to) if from.is_interval() && to.is_integer() || from.is_integer() && to.is_interval() => {
            let arrow = to.to_arrow();
            Some(Arc::new(move |values: &[super::value::Value], rows| {
                let longs = argument(values, 0)?.longs()?;
                let array: arrow::array::Int64Array = (0..rows).map(|row| longs.get(row)).collect();
                retype(Arc::new(array), &arrow)
            }) as Kernel)
        }
        (T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_), _) => nested::cast(from, to, safe, zone)?,
        _ => return Err(no_cast(from, to)),
    };
    Ok(kernel)
}

fn no_cast(from: &LogicalType, to: &LogicalType) -> EngineError {
    EngineError::Validation(format!("a value of type {from} cannot be cast to {to}"))
}

/// Whether a cast without TRY can fail for some value.
pub fn can_fail(from: &LogicalType, to: &LogicalType) -> bool {
    use LogicalType as T;
    match (from, to) {
        (from, to) if from.is_string() => !to.is_string() && !to.is_binary(),
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => can_fail(&a.logical, &b.logical),
        (T::Map(..) | T::Row(_), _) => true,
        (T::Float | T::Double, T::Decimal(..)) => true,
        (from, T::Timestamp(p) | T::TimestampLtz(p)) if from.is_temporal() => *p > 3,
        _ => false,
    }
}
