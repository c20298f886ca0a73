//! The key hash, column-wise over Arrow arrays.
//!
//! Part of the state format: it decides the key group of a key and with it where its state lives,
//! so it never changes within [`KEY_HASH_VERSION`].
//!
//! h = 0; for each key column h = xxh3_64(bytes, seed = h), where bytes are
//! - integers, dates, times, timestamps and intervals: the value as i64 LE (timestamps in the unit
//!   of their physical type);
//! - decimals: the unscaled value as i128 LE;
//! - floats: the bits of the f64, LE, with -0.0 taken as 0.0 and every NaN as one;
//! - booleans: one byte; strings and binaries: their bytes;
//! - NULL of any type: no bytes, seed !h.
//!
//! Nested values fold: h = xxh3_64(number of elements as u64 LE, seed = h), then each element (or
//! field of a row) in order by the rules above. The entries of a map have no order: each entry is
//! folded (key, then value) from the h after the length, and h = xxh3_64(wrapping sum of these as
//! u64 LE, seed = h).

mod fold;

use arrow::array::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Version of the rules in this module, stored in checkpoint metadata.
pub const KEY_HASH_VERSION: u32 = 1;

/// Folds NULL into `h`.
#[inline]
pub fn hash_null(h: u64) -> u64 {
    xxh3_64_with_seed(&[], !h)
}

/// Folds bytes (a string, a binary) into `h`.
#[inline]
pub fn hash_bytes(bytes: &[u8], h: u64) -> u64 {
    xxh3_64_with_seed(bytes, h)
}

/// Folds an integer, date or time into `h`: xxh3_64 of its 8 bytes, written out so that it inlines.
#[inline]
pub fn hash_i64(value: i64, h: u64) -> u64 {
    // Bytes 8..16 xor bytes 16..24 of XXH3's default secret.
    const BITFLIP: u64 = 0x1cad_21f7_2c81_017c ^ 0xdb97_9083_e96d_d4de;
    const PRIME: u64 = 0x9fb2_1c65_1e98_df25;
    let seed = h ^ (u64::from((h as u32).swap_bytes()) << 32);
    let value = value as u64;
    let mut x = value.rotate_left(32) ^ BITFLIP.wrapping_sub(seed);
    x ^= x.rotate_left(49) ^ x.rotate_left(24);
    x = x.wrapping_mul(PRIME);
    x ^= (x >> 35).wrapping_add(8);
    x = x.wrapping_mul(PRIME);
    x ^ (x >> 28)
}

/// Folds a decimal's unscaled value into `h`.
#[inline]
pub fn hash_i128(value: i128, h: u64) -> u64 {
    xxh3_64_with_seed(&value.to_le_bytes(), h)
}

/// Folds a FLOAT or DOUBLE into `h`.
#[inline]
pub fn hash_f64(value: f64, h: u64) -> u64 {
    hash_i64(canonical_f64(value).to_bits() as i64, h)
}

/// `value` with -0.0 as 0.0 and every NaN as one.
#[inline]
pub fn canonical_f64(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// Folds a boolean into `h`.
#[inline]
pub fn hash_bool(value: bool, h: u64) -> u64 {
    xxh3_64_with_seed(&[u8::from(value)], h)
}

/// The hash of each row over all `columns`, which have the same length.
///
/// # Panics
/// On a column of a type that never crosses an operator boundary (see the physical types of the
/// architecture).
pub fn hash_columns(columns: &[ArrayRef]) -> Vec<u64> {
    let mut hashes = Vec::new();
    hash_columns_into(columns, columns.first().map_or(0, |c| c.len()), &mut hashes);
    hashes
}

/// As [`hash_columns`], into a buffer that is cleared first. `rows` counts when there are no columns.
///
/// # Panics
/// As [`hash_columns`].
pub fn hash_columns_into(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.resize(rows, 0);
    for column in columns {
        assert_eq!(column.len(), rows, "key columns of one batch have one length");
        hash_column(column.as_ref(), hashes);
    }
}

/// Key groups of `hashes`, into a buffer that is cleared first.
pub fn key_groups_into(hashes: &[u64], max_parallelism: u32, groups: &mut Vec<u32>) {
    groups.clear();
    groups.extend(hashes.iter().map(|&h| hurtig_graph::key_groups::key_group_of_hash(h, max_parallelism)));
}

/// Folds each value of `column` into the hash of its row.
fn hash_column(column: &dyn Array, hashes: &mut [u64]) {
    match column.data_type() {
        DataType::Boolean => {
            let array = column.as_boolean();
            with_nulls(column, hashes, |i, h| hash_bool(array.value(i), h));
        }
        DataType::Int8 => hash_integers::<Int8Type>(column, hashes),
        DataType::Int16 => hash_integers::<Int16Type>(column, hashes),
        DataType::Int32 => hash_integers::<Int32Type>(column, hashes),
        DataType::Int64 => hash_integers::<Int64Type>(column, hashes),
        DataType::Date32 => hash_integers::<Date32Type>(column, hashes),
        DataType::Date64 => hash_integers::<Date64Type>(column, hashes),
        DataType::Time32(TimeUnit::Second) => hash_integers::<Time32SecondType>(column, hashes),
        DataType::Time32(_) => hash_integers::<Time32MillisecondType>(column, hashes),
        DataType::Time64(TimeUnit::Microsecond) => hash_integers::<Time64MicrosecondType>(column, hashes),
        DataType::Time64(_) => hash_integers::<Time64NanosecondType>(column, hashes),
        DataType::Timestamp(TimeUnit::Second, _) => hash_integers::<TimestampSecondType>(column, hashes),
        DataType::Timestamp(TimeUnit::Millisecond, _) => hash_integers::<TimestampMillisecondType>(column, hashes),
        DataType::Timestamp(TimeUnit::Microsecond, _) => hash_integers::<TimestampMicrosecondType>(column, hashes),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => hash_integers::<TimestampNanosecondType>(column, hashes),
        DataType::Duration(TimeUnit::Second) => hash_integers::<DurationSecondType>(column, hashes),
        DataType::Duration(TimeUnit::Millisecond) => hash_integers::<DurationMillisecondType>(column, hashes),
        DataType::Duration(TimeUnit::Microsecond) => hash_integers::<DurationMicrosecondType>(column, hashes),
        DataType::Duration(TimeUnit::Nanosecond) => hash_integers::<DurationNanosecondType>(column, hashes),
        DataType::Interval(IntervalUnit::YearMonth) => hash_integers::<IntervalYearMonthType>(column, hashes),
        DataType::Float32 => {
            hash_primitives::<Float32Type>(column, hashes, |v, h| hash_f64(f64::from(v), h));
        }
        DataType::Float64 => hash_primitives::<Float64Type>(column, hashes, hash_f64),
        DataType::Decimal128(..) => hash_primitives::<Decimal128Type>(column, hashes, hash_i128),
        DataType::Utf8 => {
            let array = column.as_string::<i32>();
            with_nulls(column, hashes, |i, h| hash_bytes(array.value(i).as_bytes(), h));
        }
        DataType::Binary => {
            let array = column.as_binary::<i32>();
            with_nulls(column, hashes, |i, h| hash_bytes(array.value(i), h));
        }
        _ => fold::hash_nested_column(column, hashes),
    }
}

fn hash_integers<T: ArrowPrimitiveType>(column: &dyn Array, hashes: &mut [u64])
where
    T::Native: Into<i64>,
{
    hash_primitives::<T>(column, hashes, |v, h| hash_i64(v.into(), h));
}

/// Folds the values of a fixed-width column, without a branch a row where it has no NULL.
fn hash_primitives<T: ArrowPrimitiveType>(
    column: &dyn Array,
    hashes: &mut [u64],
    fold: impl Fn(T::Native, u64) -> u64,
) {
    let values = column.as_primitive::<T>().values();
    match column.nulls().filter(|n| n.null_count() > 0) {
        None => hashes.iter_mut().zip(values.iter()).for_each(|(h, &v)| *h = fold(v, *h)),
        Some(nulls) => hashes.iter_mut().zip(values.iter()).zip(nulls.iter()).for_each(|((h, &v), valid)| {
            *h = if valid { fold(v, *h) } else { hash_null(*h) };
        }),
    }
}

fn with_nulls(column: &dyn Array, hashes: &mut [u64], fold: impl Fn(usize, u64) -> u64) {
    match column.nulls().filter(|n| n.null_count() > 0) {
        None => hashes.iter_mut().enumerate().for_each(|(i, h)| *h = fold(i, *h)),
        Some(nulls) => hashes.iter_mut().enumerate().for_each(|(i, h)| {
            *h = if nulls.is_valid(i) { fold(i, *h) } else { hash_null(*h) };
        }),
    }
}

#[cfg(test)]
mod tests;
