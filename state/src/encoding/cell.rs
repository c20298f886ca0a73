//! Reading cells of Arrow columns and writing them in a [`Format`].

use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};

use crate::error::{Result, StateError};

/// Marks a NULL.
pub(super) const NULL: u8 = 0;
/// Marks a value.
pub(super) const PRESENT: u8 = 1;

/// How values are laid out: [`super::key`] and [`super::value`].
pub(super) trait Format {
    /// Whether the entries of a map are written in the order of their bytes.
    const SORT_MAPS: bool;
    fn put_int<const N: usize>(little_endian: [u8; N], out: &mut Vec<u8>);
    fn put_f32(value: f32, out: &mut Vec<u8>);
    fn put_f64(value: f64, out: &mut Vec<u8>);
    fn put_bytes(bytes: &[u8], out: &mut Vec<u8>);
    fn begin_list(len: usize, out: &mut Vec<u8>);
    fn begin_item(out: &mut Vec<u8>);
    fn end_list(out: &mut Vec<u8>);

    fn get_int<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]>;
    fn get_f32(input: &mut &[u8]) -> Result<f32>;
    fn get_f64(input: &mut &[u8]) -> Result<f64>;
    /// Appends the bytes to `to`.
    fn get_bytes(input: &mut &[u8], to: &mut Vec<u8>) -> Result<()>;
    /// Number of items, where it is known beforehand.
    fn get_list(input: &mut &[u8]) -> Result<Option<usize>>;
    /// Whether an item follows; asked only where the number is not known.
    fn get_item(input: &mut &[u8]) -> Result<bool>;
}

/// A column with its type resolved, so that a cell costs one match.
pub(super) struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Null,
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    I128(&'a [i128]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Utf8(&'a StringArray),
    Binary(&'a BinaryArray),
    List(&'a [i32], Box<Column<'a>>),
    Map(&'a [i32], Box<Column<'a>>, Box<Column<'a>>),
    Struct(Vec<Column<'a>>),
}

impl<'a> Column<'a> {
    pub(super) fn new(array: &'a dyn Array) -> Result<Self> {
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int8 => Values::I8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Values::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Values::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Values::I64(array.as_primitive::<Int64Type>().values()),
            DataType::Date32 => Values::I32(array.as_primitive::<Date32Type>().values()),
            DataType::Time32(TimeUnit::Millisecond) => {
                Values::I32(array.as_primitive::<Time32MillisecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Values::I64(array.as_primitive::<TimestampMillisecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Values::I64(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Values::I64(array.as_primitive::<TimestampNanosecondType>().values())
            }
            DataType::Duration(TimeUnit::Millisecond) => {
                Values::I64(array.as_primitive::<DurationMillisecondType>().values())
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                Values::I32(array.as_primitive::<IntervalYearMonthType>().values())
            }
            DataType::Decimal128(..) => Values::I128(array.as_primitive::<Decimal128Type>().values()),
            DataType::Float32 => Values::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Values::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => Values::Utf8(array.as_string::<i32>()),
            DataType::Binary => Values::Binary(array.as_binary::<i32>()),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(list.value_offsets(), Box::new(Column::new(list.values().as_ref())?))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (key, value) = (Column::new(map.keys().as_ref())?, Column::new(map.values().as_ref())?);
                Values::Map(map.value_offsets(), Box::new(key), Box::new(value))
            }
            DataType::Struct(_) => {
                let fields = array.as_struct().columns();
                Values::Struct(fields.iter().map(|c| Column::new(c.as_ref())).collect::<Result<_>>()?)
            }
            other => return Err(unsupported(other)),
        };
        Ok(Column { nulls: array.nulls(), values })
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.is_some_and(|n| n.is_null(row))
    }

    /// Writes the marker and, unless NULL, the value.
    #[inline]
    pub(super) fn put_marked<F: Format>(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.push(NULL);
        } else {
            out.push(PRESENT);
            self.put::<F>(row, out);
        }
    }

    /// Writes a value that is not NULL.
    pub(super) fn put<F: Format>(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Null => {}
            Values::Bool(a) => out.push(u8::from(a.value(row))),
            Values::I8(v) => F::put_int(v[row].to_le_bytes(), out),
            Values::I16(v) => F::put_int(v[row].to_le_bytes(), out),
            Values::I32(v) => F::put_int(v[row].to_le_bytes(), out),
            Values::I64(v) => F::put_int(v[row].to_le_bytes(), out),
            Values::I128(v) => F::put_int(v[row].to_le_bytes(), out),
            Values::F32(v) => F::put_f32(v[row], out),
            Values::F64(v) => F::put_f64(v[row], out),
            Values::Utf8(a) => F::put_bytes(a.value(row).as_bytes(), out),
            Values::Binary(a) => F::put_bytes(a.value(row), out),
            Values::List(offsets, items) => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                F::begin_list(end - start, out);
                for i in start..end {
                    F::begin_item(out);
                    items.put_marked::<F>(i, out);
                }
                F::end_list(out);
            }
            Values::Map(offsets, keys, values) => {
                put_map::<F>(offsets[row] as usize..offsets[row + 1] as usize, keys, values, out);
            }
            Values::Struct(fields) => fields.iter().for_each(|f| f.put_marked::<F>(row, out)),
        }
    }
}

fn put_map<F: Format>(rows: std::ops::Range<usize>, keys: &Column<'_>, values: &Column<'_>, out: &mut Vec<u8>) {
    F::begin_list(rows.len(), out);
    let mut entries: Vec<Vec<u8>> = Vec::with_capacity(rows.len());
    for i in rows {
        let mut entry = Vec::new();
        keys.put_marked::<F>(i, &mut entry);
        values.put_marked::<F>(i, &mut entry);
        entries.push(entry);
    }
    if F::SORT_MAPS {
        entries.sort_unstable();
    }
    for entry in entries {
        F::begin_item(out);
        out.extend_from_slice(&entry);
    }
    F::end_list(out);
}

pub(super) fn unsupported(ty: &DataType) -> StateError {
    StateError::Incompatible(format!(
        "a column of type {ty} cannot be kept in state: it is none of the types that cross operator boundaries"
    ))
}

/// Takes `N` bytes off the front.
pub(super) fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = input
        .split_first_chunk::<N>()
        .ok_or_else(|| StateError::Corrupt(format!("encoded row ends {} bytes early", N - input.len())))?;
    *input = rest;
    Ok(*head)
}

/// Takes a slice of `len` bytes off the front.
pub(super) fn take_slice<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    if input.len() < len {
        return Err(StateError::Corrupt(format!("encoded row ends {} bytes early", len - input.len())));
    }
    let (head, rest) = input.split_at(len);
    *input = rest;
    Ok(head)
}
