//! The sinks of the benchmarks, which keep nothing but counts: the sum of the hashes of all rows,
//! taken back rows subtracted, depends on the result alone and not on order, batches or parallelism.
//!
//! The hash is one that any engine can compute at the same small cost (benches/flink has it in Java),
//! so that results can be compared across engines. From h = [`START`], for each column
//! `h = (h ^ v) * PRIME; h ^= h >> 32`, where v is an integer or time in ms; the low 64 bits of a
//! decimal's unscaled value; for a text first its length in bytes, then its bytes, eight at a time in
//! little endian, the last of them filled up with zeros; for NULL [`NULL`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hurtig::Batch;
use hurtig::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use hurtig::arrow::datatypes::{DataType, Decimal128Type, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType};
use hurtig::extensions::{ExtensionError, FnSink};

const START: u64 = 0x243f_6a88_85a3_08d3;
const NULL: u64 = 0x9ae1_6a3b_2f90_404f;
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a sink has taken.
#[derive(Debug, Default)]
pub struct Taken {
    rows: AtomicU64,
    net_rows: AtomicI64,
    checksum: AtomicU64,
}

impl Taken {
    /// Changes of all kinds.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::SeqCst)
    }

    /// Rows that the changes leave.
    pub fn net_rows(&self) -> i64 {
        self.net_rows.load(Ordering::SeqCst)
    }

    /// As hex digits.
    pub fn checksum(&self) -> String {
        format!("{:016x}", self.checksum.load(Ordering::SeqCst))
    }

    fn add(&self, batch: &Batch, hashes: Option<&[u64]>) {
        let (mut net, mut sum) = (0_i64, 0_u64);
        for row in 0..batch.num_rows() {
            let hash = hashes.map_or(0, |h| h[row]);
            if batch.kind(row).sign() == 1 {
                (net, sum) = (net + 1, sum.wrapping_add(hash));
            } else {
                (net, sum) = (net - 1, sum.wrapping_sub(hash));
            }
        }
        self.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.net_rows.fetch_add(net, Ordering::Relaxed);
        self.checksum.fetch_add(sum, Ordering::Relaxed);
    }
}

/// A sink with a checksum.
pub fn checksum_sink(taken: Arc<Taken>) -> FnSink {
    FnSink::new(move |batch| {
        let hashes = hashes(batch.records().columns(), batch.num_rows())?;
        taken.add(batch, Some(&hashes));
        Ok(())
    })
}

/// A sink that only counts.
pub fn discard_sink(taken: Arc<Taken>) -> FnSink {
    FnSink::new(move |batch| {
        taken.add(batch, None);
        Ok(())
    })
}

/// The hash of each row.
fn hashes(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>, ExtensionError> {
    let mut hashes = vec![START; rows];
    for column in columns {
        match column.data_type() {
            DataType::Int32 => numbers::<Int32Type>(column, &mut hashes, |v| i64::from(v) as u64),
            DataType::Int64 => numbers::<Int64Type>(column, &mut hashes, |v| v as u64),
            DataType::Decimal128(..) => numbers::<Decimal128Type>(column, &mut hashes, |v| v as u64),
            DataType::Timestamp(TimeUnit::Millisecond, None) => {
                numbers::<TimestampMillisecondType>(column, &mut hashes, |v| v as u64);
            }
            DataType::Utf8 => {
                let texts = column.as_string::<i32>();
                each(column, &mut hashes, |row, h| text(h, texts.value(row).as_bytes()));
            }
            other => return Err(format!("the checksum knows no columns of type {other}").into()),
        }
    }
    Ok(hashes)
}

#[inline]
fn mix(h: u64, value: u64) -> u64 {
    let h = (h ^ value).wrapping_mul(PRIME);
    h ^ (h >> 32)
}

#[inline]
fn text(h: u64, bytes: &[u8]) -> u64 {
    let mut h = mix(h, bytes.len() as u64);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        h = mix(h, u64::from_le_bytes(*word));
    }
    if tail.is_empty() {
        return h;
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    mix(h, u64::from_le_bytes(last))
}

fn numbers<T: ArrowPrimitiveType>(column: &ArrayRef, hashes: &mut [u64], value: impl Fn(T::Native) -> u64) {
    let values = column.as_primitive::<T>().values();
    each(column, hashes, |row, h| mix(h, value(values[row])));
}

/// Folds the values of a column into the hashes of their rows.
fn each(column: &ArrayRef, hashes: &mut [u64], fold: impl Fn(usize, u64) -> u64) {
    match column.nulls().filter(|n| n.null_count() > 0) {
        None => hashes.iter_mut().enumerate().for_each(|(row, h)| *h = fold(row, *h)),
        Some(nulls) => hashes.iter_mut().enumerate().for_each(|(row, h)| {
            *h = if nulls.is_valid(row) { fold(row, *h) } else { mix(*h, NULL) };
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig::arrow::array::{Decimal128Array, Int64Array, StringArray};

    fn one(column: impl Array + 'static) -> Vec<u64> {
        let rows = column.len();
        hashes(&[Arc::new(column) as ArrayRef], rows).unwrap()
    }

    #[test]
    fn hashes_follow_the_rule_that_other_engines_implement() {
        assert_eq!(one(Int64Array::from(vec![Some(7), None])), [mix(START, 7), mix(START, NULL)]);
        let decimals = Decimal128Array::from(vec![Some(-1)]).with_precision_and_scale(23, 3).unwrap();
        assert_eq!(one(decimals), [mix(START, u64::MAX)]);
        let word = u64::from_le_bytes(*b"abcdefgh");
        assert_eq!(
            one(StringArray::from(vec!["", "ab", "abcdefgh", "abcdefghi"])),
            [
                mix(START, 0),
                mix(mix(START, 2), u64::from_le_bytes(*b"ab\0\0\0\0\0\0")),
                mix(mix(START, 8), word),
                mix(mix(mix(START, 9), word), u64::from(b'i'))
            ]
        );
        // A number that any implementation must find.
        assert_eq!(mix(START, 1), 0x59ab_0230_f0f2_730a);
    }

    #[test]
    fn columns_of_other_types_are_refused() {
        let column: ArrayRef = Arc::new(hurtig::arrow::array::Float64Array::from(vec![1.0]));
        assert!(hashes(&[column], 1).unwrap_err().to_string().contains("Float64"));
    }
}
