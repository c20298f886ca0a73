//! The encoding of values.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::EncodedRows;
use super::builder::ColumnBuilder;
use super::cell::{Column, Format, take, take_slice};
use crate::error::{Result, StateError};

/// Version of the encoding of values, the first byte of each; see the [module](super).
pub const VALUE_FORMAT: u8 = 1;

/// Length of `[format u8][schema id u16 LE]`.
pub const VALUE_HEADER_LEN: usize = 3;

/// Encodes rows of value columns whose types are resolved once.
pub struct ValueEncoder<'a> {
    schema_id: u16,
    columns: Vec<Column<'a>>,
}

impl<'a> ValueEncoder<'a> {
    /// Of the value columns of a batch; `schema_id` is the cell's schema version.
    pub fn new(schema_id: u16, columns: &'a [ArrayRef]) -> Result<Self> {
        let columns = columns.iter().map(|c| Column::new(c.as_ref())).collect::<Result<_>>()?;
        Ok(ValueEncoder { schema_id, columns })
    }

    /// Appends the value of `row`.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) {
        out.push(VALUE_FORMAT);
        out.extend_from_slice(&self.schema_id.to_le_bytes());
        let bitmap = out.len();
        out.resize(bitmap + self.columns.len().div_ceil(8), 0);
        for (i, column) in self.columns.iter().enumerate() {
            if column.is_null(row) {
                out[bitmap + i / 8] |= 1 << (i % 8);
            } else {
                column.put::<ValueFormat>(row, out);
            }
        }
    }
}

/// Encodes the values of all `rows` rows into `out`, which is cleared first.
pub fn encode_values(schema_id: u16, columns: &[ArrayRef], rows: usize, out: &mut EncodedRows) -> Result<()> {
    let encoder = ValueEncoder::new(schema_id, columns)?;
    out.clear();
    for row in 0..rows {
        out.push_with(|bytes| encoder.encode(row, bytes));
    }
    Ok(())
}

/// The schema id in an encoded value.
///
/// # Errors
/// [`StateError::Corrupt`] when the value is too short or of a format that this version cannot read.
pub fn value_schema_id(value: &[u8]) -> Result<u16> {
    read_header(&mut { value })
}

fn read_header(input: &mut &[u8]) -> Result<u16> {
    let [format, a, b] = take::<VALUE_HEADER_LEN>(input)?;
    if format != VALUE_FORMAT {
        return Err(StateError::Corrupt(format!(
            "state value has format {format}; this version reads format {VALUE_FORMAT}"
        )));
    }
    Ok(u16::from_le_bytes([a, b]))
}

/// Decodes values, all of one schema, into columns of the given types.
pub fn decode_values<'a>(values: impl IntoIterator<Item = &'a [u8]>, types: &[DataType]) -> Result<Vec<ArrayRef>> {
    let mut builders = types.iter().map(ColumnBuilder::new).collect::<Result<Vec<_>>>()?;
    for value in values {
        let mut input = value;
        read_header(&mut input)?;
        let bitmap = take_slice(&mut input, types.len().div_ceil(8))?;
        for (i, builder) in builders.iter_mut().enumerate() {
            if bitmap[i / 8] >> (i % 8) & 1 == 1 {
                builder.push_null();
            } else {
                builder.read::<ValueFormat>(&mut input)?;
            }
        }
        if !input.is_empty() {
            return Err(StateError::Corrupt(format!("state value has {} bytes too many", input.len())));
        }
    }
    builders.into_iter().map(ColumnBuilder::finish).collect()
}

struct ValueFormat;

impl Format for ValueFormat {
    const SORT_MAPS: bool = false;

    #[inline]
    fn put_int<const N: usize>(bytes: [u8; N], out: &mut Vec<u8>) {
        out.extend_from_slice(&bytes);
    }

    fn put_f32(value: f32, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    fn put_f64(value: f64, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
        put_len(bytes.len(), out);
        out.extend_from_slice(bytes);
    }

    fn begin_list(len: usize, out: &mut Vec<u8>) {
        put_len(len, out);
    }

    fn begin_item(_out: &mut Vec<u8>) {}

    fn end_list(_out: &mut Vec<u8>) {}

    fn get_int<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
        take(input)
    }

    fn get_f32(input: &mut &[u8]) -> Result<f32> {
        Ok(f32::from_bits(u32::from_le_bytes(take(input)?)))
    }

    fn get_f64(input: &mut &[u8]) -> Result<f64> {
        Ok(f64::from_bits(u64::from_le_bytes(take(input)?)))
    }

    fn get_bytes(input: &mut &[u8], to: &mut Vec<u8>) -> Result<()> {
        let len = get_len(input)?;
        to.extend_from_slice(take_slice(input, len)?);
        Ok(())
    }

    fn get_list(input: &mut &[u8]) -> Result<Option<usize>> {
        let len = get_len(input)?;
        // Each element has at least a marker byte: a larger number is not allocated for.
        if len > input.len() {
            return Err(StateError::Corrupt(format!("encoded array claims {len} elements in {} bytes", input.len())));
        }
        Ok(Some(len))
    }

    fn get_item(_input: &mut &[u8]) -> Result<bool> {
        Ok(false)
    }
}

fn put_len(mut len: usize, out: &mut Vec<u8>) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn get_len(input: &mut &[u8]) -> Result<usize> {
    let mut len = 0u64;
    for shift in (0..35).step_by(7) {
        let [byte] = take::<1>(input)?;
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(len as usize);
        }
    }
    Err(StateError::Corrupt("encoded length has more than five bytes".into()))
}
