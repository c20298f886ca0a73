//! Uniform access to columns: integers of every width as i64, floats as f64, decimals as i128, and
//! an encoding of single values as bytes.
//!
//! The encoding is the form of values inside states (distinct sets, lists, MIN and MAX under
//! retraction, keys). For scalars it is ordered as the values are, byte by byte:
//! integers, booleans, dates, times and timestamps: i64 big-endian, sign bit flipped; decimals: i128
//! the same way; floats: the bits, ordered; strings and binaries: their bytes. Nested values are
//! their parts, each `[0]` (NULL) or `[1][length u32 LE][bytes]`, lists and maps behind a count u32 LE.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array,
    Float32Array, Float64Array, ListArray, MapArray, NullArray, PrimitiveArray, StringArray, StringBuilder,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMillisecondType, Field, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};

use crate::error::{EngineError, Result};

/// How values of a type are represented here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// Integers, booleans, dates, times, timestamps, intervals: as i64.
    Int,
    /// FLOAT and DOUBLE: as f64.
    Float,
    /// DECIMAL: the unscaled i128.
    Decimal,
    /// Strings.
    Utf8,
    /// Binaries.
    Binary,
    /// ARRAY, MAP, MULTISET, ROW, and the type of NULL.
    Nested,
}

impl Representation {
    /// That of values of `ty`.
    pub fn of(ty: &DataType) -> Result<Representation> {
        Ok(match ty {
            DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time32(TimeUnit::Millisecond)
            | DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
            | DataType::Interval(IntervalUnit::YearMonth)
            | DataType::Duration(TimeUnit::Millisecond) => Representation::Int,
            DataType::Float32 | DataType::Float64 => Representation::Float,
            DataType::Decimal128(..) => Representation::Decimal,
            DataType::Utf8 => Representation::Utf8,
            DataType::Binary => Representation::Binary,
            DataType::List(_) | DataType::Map(..) | DataType::Struct(_) | DataType::Null => Representation::Nested,
            other => return Err(unexpected(other)),
        })
    }

    /// Bytes of an encoded value, where all have the same number.
    pub fn fixed_width(self) -> Option<usize> {
        match self {
            Representation::Int | Representation::Float => Some(8),
            Representation::Decimal => Some(16),
            _ => None,
        }
    }
}

fn unexpected(ty: &DataType) -> EngineError {
    EngineError::Internal(format!("columns of the Arrow type {ty} must not reach an operator"))
}

fn widen<T: ArrowPrimitiveType>(array: &ArrayRef) -> ScalarBuffer<i64>
where
    T::Native: Into<i64>,
{
    array.as_primitive::<T>().values().iter().map(|&v| v.into()).collect()
}

/// The values of an integer-like column (see [`Representation::Int`]) and its NULLs.
pub fn int_values(array: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>)> {
    let values = match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().values().clone(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().values().clone()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().values().clone()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().values().clone()
        }
        DataType::Duration(TimeUnit::Millisecond) => array.as_primitive::<DurationMillisecondType>().values().clone(),
        DataType::Int8 => widen::<Int8Type>(array),
        DataType::Int16 => widen::<Int16Type>(array),
        DataType::Int32 => widen::<Int32Type>(array),
        DataType::Date32 => widen::<Date32Type>(array),
        DataType::Time32(TimeUnit::Millisecond) => widen::<Time32MillisecondType>(array),
        DataType::Interval(IntervalUnit::YearMonth) => widen::<IntervalYearMonthType>(array),
        DataType::Boolean => array.as_boolean().values().iter().map(i64::from).collect(),
        other => return Err(unexpected(other)),
    };
    Ok((values, array.logical_nulls()))
}

/// The values of a time column in ms, floored.
pub fn time_values_ms(array: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>)> {
    let (values, nulls) = int_values(array)?;
    let divisor = match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
        _ => return Ok((values, nulls)),
    };
    Ok((values.iter().map(|v| v.div_euclid(divisor)).collect(), nulls))
}

/// The values of a FLOAT or DOUBLE column and its NULLs.
pub fn float_values(array: &ArrayRef) -> Result<(ScalarBuffer<f64>, Option<NullBuffer>)> {
    let values = match array.data_type() {
        DataType::Float64 => array.as_primitive::<Float64Type>().values().clone(),
        DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().map(|&v| f64::from(v)).collect(),
        other => return Err(unexpected(other)),
    };
    Ok((values, array.nulls().cloned()))
}

/// The unscaled values of a DECIMAL column and its NULLs.
pub fn decimal_values(array: &ArrayRef) -> Result<(ScalarBuffer<i128>, Option<NullBuffer>)> {
    match array.data_type() {
        DataType::Decimal128(..) => {
            Ok((array.as_primitive::<Decimal128Type>().values().clone(), array.nulls().cloned()))
        }
        other => Err(unexpected(other)),
    }
}

fn narrow<T: ArrowPrimitiveType>(
    values: impl Iterator<Item = Option<i64>>,
    ty: &DataType,
    convert: impl Fn(i64) -> T::Native,
) -> ArrayRef {
    let array: PrimitiveArray<T> = values.map(|v| v.map(&convert)).collect();
    Arc::new(array.with_data_type(ty.clone()))
}

/// A column of type `ty` (see [`Representation::Int`]); values wrap to its width.
pub fn int_array(values: impl Iterator<Item = Option<i64>>, ty: &DataType) -> Result<ArrayRef> {
    Ok(match ty {
        DataType::Int64 => narrow::<Int64Type>(values, ty, |v| v),
        DataType::Timestamp(TimeUnit::Millisecond, _) => narrow::<TimestampMillisecondType>(values, ty, |v| v),
        DataType::Timestamp(TimeUnit::Microsecond, _) => narrow::<TimestampMicrosecondType>(values, ty, |v| v),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => narrow::<TimestampNanosecondType>(values, ty, |v| v),
        DataType::Duration(TimeUnit::Millisecond) => narrow::<DurationMillisecondType>(values, ty, |v| v),
        DataType::Int8 => narrow::<Int8Type>(values, ty, |v| v as i8),
        DataType::Int16 => narrow::<Int16Type>(values, ty, |v| v as i16),
        DataType::Int32 => narrow::<Int32Type>(values, ty, |v| v as i32),
        DataType::Date32 => narrow::<Date32Type>(values, ty, |v| v as i32),
        DataType::Time32(TimeUnit::Millisecond) => narrow::<Time32MillisecondType>(values, ty, |v| v as i32),
        DataType::Interval(IntervalUnit::YearMonth) => narrow::<IntervalYearMonthType>(values, ty, |v| v as i32),
        DataType::Boolean => Arc::new(values.map(|v| v.map(|v| v != 0)).collect::<BooleanArray>()),
        other => return Err(unexpected(other)),
    })
}

/// A FLOAT or DOUBLE column.
pub fn float_array(values: impl Iterator<Item = Option<f64>>, ty: &DataType) -> Result<ArrayRef> {
    Ok(match ty {
        DataType::Float64 => Arc::new(values.collect::<Float64Array>()),
        DataType::Float32 => Arc::new(values.map(|v| v.map(|v| v as f32)).collect::<Float32Array>()),
        other => return Err(unexpected(other)),
    })
}

/// A DECIMAL column. Values of more digits than the type has become NULL, as in Flink.
pub fn decimal_array(values: impl Iterator<Item = Option<i128>>, ty: &DataType) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = *ty else { return Err(unexpected(ty)) };
    let limit = 10_i128.pow(u32::from(precision));
    let array: Decimal128Array = values.map(|v| v.filter(|v| *v > -limit && *v < limit)).collect();
    Ok(Arc::new(array.with_precision_and_scale(precision, scale)?))
}

/// A column to read value by value.
pub struct ColumnReader {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Int(ScalarBuffer<i64>),
    Float(ScalarBuffer<f64>),
    Decimal(ScalarBuffer<i128>),
    Utf8(StringArray),
    Binary(BinaryArray),
    List(OffsetBuffer<i32>, Box<ColumnReader>),
    Struct(Vec<ColumnReader>),
    Null,
}

impl ColumnReader {
    /// Over `array`. With `normalise`, -0.0 reads as 0.0 and every NaN as one, so that equal keys
    /// have equal bytes.
    pub fn new(array: &ArrayRef, normalise: bool) -> Result<ColumnReader> {
        let values = match Representation::of(array.data_type())? {
            Representation::Int => Values::Int(int_values(array)?.0),
            Representation::Float => {
                let values = float_values(array)?.0;
                Values::Float(if normalise {
                    values.iter().map(|&v| hurtig_state::hash::canonical_f64(v)).collect()
                } else {
                    values
                })
            }
            Representation::Decimal => Values::Decimal(decimal_values(array)?.0),
            Representation::Utf8 => Values::Utf8(array.as_string::<i32>().clone()),
            Representation::Binary => Values::Binary(array.as_binary::<i32>().clone()),
            Representation::Nested => nested_reader(array, normalise)?,
        };
        Ok(ColumnReader { nulls: array.logical_nulls(), values })
    }

    /// Whether the value of `row` is NULL.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    /// Appends the encoding of the value of `row`, which must not be NULL.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Int(values) => out.extend_from_slice(&encode_int(values[row])),
            Values::Float(values) => out.extend_from_slice(&encode_int(ordered_bits(values[row]))),
            Values::Decimal(values) => {
                out.extend_from_slice(&((values[row] as u128) ^ (1 << 127)).to_be_bytes());
            }
            Values::Utf8(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Values::Binary(values) => out.extend_from_slice(values.value(row)),
            Values::List(offsets, items) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                out.extend_from_slice(&((to - from) as u32).to_le_bytes());
                (from..to).for_each(|i| items.encode_part(i, out));
            }
            Values::Struct(fields) => fields.iter().for_each(|f| f.encode_part(row, out)),
            Values::Null => {}
        }
    }

    /// Appends `[0]` for NULL, else `[1][length u32 LE][encoding]`.
    fn encode_part(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.push(0);
        }
        out.push(1);
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.encode(row, out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
}

fn nested_reader(array: &ArrayRef, normalise: bool) -> Result<Values> {
    Ok(match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            Values::List(list.offsets().clone(), Box::new(ColumnReader::new(list.values(), normalise)?))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            Values::List(map.offsets().clone(), Box::new(ColumnReader::new(&entries, normalise)?))
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            Values::Struct(columns.map(|c| ColumnReader::new(c, normalise)).collect::<Result<_>>()?)
        }
        _ => Values::Null,
    })
}

#[inline]
fn encode_int(value: i64) -> [u8; 8] {
    ((value as u64) ^ (1 << 63)).to_be_bytes()
}

/// Bits of `value` that order as the values do, as a signed integer.
#[inline]
fn ordered_bits(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn corrupt() -> EngineError {
    EngineError::Internal("a value in the state does not fit its column's type: the state is damaged".into())
}

/// Reads `N` bytes off the front of `input`.
pub fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or_else(corrupt)?;
    *input = rest;
    Ok(*head)
}

/// Reads `length` bytes off the front of `input`.
pub fn take_bytes<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (head, rest) = input.split_at_checked(length).ok_or_else(corrupt)?;
    *input = rest;
    Ok(head)
}

/// Reads what [`put_bytes`] wrote.
pub fn take_sized<'a>(input: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = u32::from_le_bytes(take_array(input)?) as usize;
    take_bytes(input, length)
}

/// Appends `[length u32 LE][bytes]`.
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Builds a column of `ty` from encoded values, `None` being NULL.
pub fn decode_column<'a>(values: impl Iterator<Item = Option<&'a [u8]>>, ty: &DataType) -> Result<ArrayRef> {
    match Representation::of(ty)? {
        Representation::Int => {
            let values: Vec<Option<i64>> = values.map(|v| v.map(decode_int).transpose()).collect::<Result<_>>()?;
            int_array(values.into_iter(), ty)
        }
        Representation::Float => {
            let decode = |v: &[u8]| Ok(f64::from_bits(ordered_bits(f64::from_bits(decode_int(v)? as u64)) as u64));
            let values: Vec<Option<f64>> = values.map(|v| v.map(decode).transpose()).collect::<Result<_>>()?;
            float_array(values.into_iter(), ty)
        }
        Representation::Decimal => {
            let decode = |v: &[u8]| {
                let bytes: [u8; 16] = v.try_into().map_err(|_| corrupt())?;
                Ok((u128::from_be_bytes(bytes) ^ (1 << 127)) as i128)
            };
            let values: Vec<Option<i128>> = values.map(|v| v.map(decode).transpose()).collect::<Result<_>>()?;
            decimal_array(values.into_iter(), ty)
        }
        Representation::Utf8 => {
            let mut builder = StringBuilder::new();
            for value in values {
                builder.append_option(value.map(|v| std::str::from_utf8(v).map_err(|_| corrupt())).transpose()?);
            }
            Ok(Arc::new(builder.finish()))
        }
        Representation::Binary => {
            let mut builder = BinaryBuilder::new();
            values.for_each(|v| builder.append_option(v));
            Ok(Arc::new(builder.finish()))
        }
        Representation::Nested => decode_nested(values.collect(), ty),
    }
}

fn decode_int(bytes: &[u8]) -> Result<i64> {
    let bytes: [u8; 8] = bytes.try_into().map_err(|_| corrupt())?;
    Ok((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
}

fn decode_nested(values: Vec<Option<&[u8]>>, ty: &DataType) -> Result<ArrayRef> {
    let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
    Ok(match ty {
        DataType::List(item) => {
            let (offsets, items) = decode_items(&values, item)?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, Some(nulls))?)
        }
        DataType::Map(entry, ordered) => {
            let (offsets, items) = decode_items(&values, entry)?;
            Arc::new(MapArray::try_new(Arc::clone(entry), offsets, items.as_struct().clone(), Some(nulls), *ordered)?)
        }
        DataType::Struct(fields) => {
            let rows = values.len();
            let mut columns = vec![Vec::with_capacity(rows); fields.len()];
            for value in values {
                let mut rest = value;
                for column in &mut columns {
                    column.push(match &mut rest {
                        Some(bytes) => take_part(bytes)?,
                        None => None,
                    });
                }
            }
            let arrays: Vec<ArrayRef> = columns
                .into_iter()
                .zip(fields)
                .map(|(values, field)| decode_column(values.into_iter(), field.data_type()))
                .collect::<Result<_>>()?;
            let nulls = (nulls.null_count() > 0).then_some(nulls);
            Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?)
        }
        _ => Arc::new(NullArray::new(values.len())),
    })
}

fn decode_items(values: &[Option<&[u8]>], item: &Arc<Field>) -> Result<(OffsetBuffer<i32>, ArrayRef)> {
    let mut lengths = Vec::with_capacity(values.len());
    let mut parts = Vec::new();
    for value in values {
        let mut count = 0;
        if let Some(mut bytes) = *value {
            count = u32::from_le_bytes(take_array(&mut bytes)?) as usize;
            for _ in 0..count {
                parts.push(take_part(&mut bytes)?);
            }
        }
        lengths.push(count);
    }
    let items = decode_column(parts.into_iter(), item.data_type())?;
    Ok((OffsetBuffer::from_lengths(lengths), items))
}

fn take_part<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    match take_array::<1>(input)? {
        [0] => Ok(None),
        _ => take_sized(input).map(Some),
    }
}

/// A scalar column without a value: what keeps a type where no row is.
pub fn null_column(ty: &DataType, rows: usize) -> ArrayRef {
    arrow::array::new_null_array(ty, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, TimestampMicrosecondArray};
    use arrow::datatypes::Int32Type as I32;

    fn round_trip(array: ArrayRef) {
        let reader = ColumnReader::new(&array, false).unwrap();
        let encoded: Vec<Option<Vec<u8>>> = (0..array.len())
            .map(|row| {
                (!reader.is_null(row)).then(|| {
                    let mut bytes = Vec::new();
                    reader.encode(row, &mut bytes);
                    bytes
                })
            })
            .collect();
        let decoded = decode_column(encoded.iter().map(Option::as_deref), array.data_type()).unwrap();
        assert_eq!(&decoded, &array);
    }

    #[test]
    fn every_type_comes_back_from_its_bytes() {
        round_trip(Arc::new(Int32Array::from(vec![Some(-5), None, Some(i32::MAX)])));
        round_trip(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])));
        round_trip(Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC")));
        round_trip(Arc::new(Float32Array::from(vec![Some(-1.5), Some(f32::INFINITY), None])));
        round_trip(Arc::new(Float64Array::from(vec![Some(-0.0), Some(1e300), None, Some(-2.0)])));
        round_trip(Arc::new(
            Decimal128Array::from(vec![Some(-1), None, Some(10_i128.pow(30))]).with_precision_and_scale(38, 2).unwrap(),
        ));
        round_trip(Arc::new(StringArray::from(vec![Some("é"), None, Some("")])));
        round_trip(Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None])));
        let list = ListArray::from_iter_primitive::<I32, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
        round_trip(Arc::new(list.clone()));
        let fields = arrow::datatypes::Fields::from(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", list.data_type().clone(), true),
        ]);
        let a: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(2), Some(3)]));
        let nulls = Some(NullBuffer::from(vec![true, false, true]));
        round_trip(Arc::new(StructArray::new(fields, vec![a, Arc::new(list)], nulls)));
    }

    #[test]
    fn bytes_of_scalars_order_as_the_values() {
        let floats = [f64::NEG_INFINITY, -3.5, -1e-300, 0.0, 1e-300, 2.0, f64::INFINITY, f64::NAN];
        let array: ArrayRef = Arc::new(Float64Array::from(floats.to_vec()));
        let reader = ColumnReader::new(&array, true).unwrap();
        let bytes: Vec<Vec<u8>> = (0..floats.len())
            .map(|i| {
                let mut out = Vec::new();
                reader.encode(i, &mut out);
                out
            })
            .collect();
        assert!(bytes.is_sorted());
        assert!(encode_int(-1) < encode_int(0) && encode_int(i64::MIN) < encode_int(-1));
    }

    #[test]
    fn decimals_beyond_the_precision_become_null() {
        let array = decimal_array([Some(99), Some(100)].into_iter(), &DataType::Decimal128(2, 0)).unwrap();
        assert!(!array.is_null(0) && array.is_null(1));
    }
}
