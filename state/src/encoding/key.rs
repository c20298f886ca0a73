//! The order-preserving encoding of keys.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::EncodedRows;
use super::builder::ColumnBuilder;
use super::cell::{Column, Format, take};
use super::prefix::put_prefix;
use crate::backend::TableId;
use crate::error::{Result, StateError};
use crate::hash::canonical_f64;

/// Version of the encoding of keys, see the [module](super).
pub const KEY_FORMAT: u8 = 1;

/// Encodes rows of key columns whose types are resolved once.
pub struct KeyEncoder<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> KeyEncoder<'a> {
    /// Of the key columns of a batch.
    pub fn new(columns: &'a [ArrayRef]) -> Result<Self> {
        Ok(KeyEncoder { columns: columns.iter().map(|c| Column::new(c.as_ref())).collect::<Result<_>>()? })
    }

    /// Appends the key of `row`.
    #[inline]
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.columns {
            column.put_marked::<KeyFormat>(row, out);
        }
    }
}

/// Encodes the keys of all `rows` rows into `out`, which is cleared first.
pub fn encode_keys(columns: &[ArrayRef], rows: usize, out: &mut EncodedRows) -> Result<()> {
    let encoder = KeyEncoder::new(columns)?;
    out.clear();
    for row in 0..rows {
        out.push_with(|bytes| encoder.encode(row, bytes));
    }
    Ok(())
}

/// Encodes complete database keys of a point table, `[key group][table][key]`, one for each key
/// group, into `out`, which is cleared first.
pub fn encode_database_keys(
    columns: &[ArrayRef],
    key_groups: &[u32],
    table: TableId,
    out: &mut EncodedRows,
) -> Result<()> {
    let encoder = KeyEncoder::new(columns)?;
    out.clear();
    for (row, &group) in key_groups.iter().enumerate() {
        out.push_with(|bytes| {
            put_prefix(group, table, bytes);
            encoder.encode(row, bytes);
        });
    }
    Ok(())
}

/// Decodes keys (without their database prefix) into columns of the given types.
pub fn decode_keys<'a>(keys: impl IntoIterator<Item = &'a [u8]>, types: &[DataType]) -> Result<Vec<ArrayRef>> {
    let mut builders = types.iter().map(ColumnBuilder::new).collect::<Result<Vec<_>>>()?;
    for key in keys {
        let mut input = key;
        for builder in &mut builders {
            builder.read_marked::<KeyFormat>(&mut input)?;
        }
        if !input.is_empty() {
            return Err(StateError::Corrupt(format!("encoded key has {} bytes too many", input.len())));
        }
    }
    builders.into_iter().map(ColumnBuilder::finish).collect()
}

struct KeyFormat;

const ESCAPE: u8 = 0;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: u8 = 0;
const ITEM: u8 = 1;
const END: u8 = 0;

impl Format for KeyFormat {
    const SORT_MAPS: bool = true;

    #[inline]
    fn put_int<const N: usize>(mut bytes: [u8; N], out: &mut Vec<u8>) {
        bytes.reverse();
        bytes[0] ^= 0x80;
        out.extend_from_slice(&bytes);
    }

    fn put_f32(value: f32, out: &mut Vec<u8>) {
        // A NaN of one bit pattern and no -0.0 survive the way through f64.
        let bits = (canonical_f64(f64::from(value)) as f32).to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        out.extend_from_slice(&ordered.to_be_bytes());
    }

    fn put_f64(value: f64, out: &mut Vec<u8>) {
        let bits = canonical_f64(value).to_bits();
        let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        out.extend_from_slice(&ordered.to_be_bytes());
    }

    #[inline]
    fn put_bytes(mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(zero) = bytes.iter().position(|&b| b == ESCAPE) {
            out.extend_from_slice(&bytes[..zero]);
            out.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
            bytes = &bytes[zero + 1..];
        }
        out.extend_from_slice(bytes);
        out.extend_from_slice(&[ESCAPE, TERMINATOR]);
    }

    fn begin_list(_len: usize, _out: &mut Vec<u8>) {}

    fn begin_item(out: &mut Vec<u8>) {
        out.push(ITEM);
    }

    fn end_list(out: &mut Vec<u8>) {
        out.push(END);
    }

    fn get_int<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
        let mut bytes = take::<N>(input)?;
        bytes[0] ^= 0x80;
        bytes.reverse();
        Ok(bytes)
    }

    fn get_f32(input: &mut &[u8]) -> Result<f32> {
        let ordered = u32::from_be_bytes(take(input)?);
        Ok(f32::from_bits(if ordered >> 31 == 1 { ordered ^ 1 << 31 } else { !ordered }))
    }

    fn get_f64(input: &mut &[u8]) -> Result<f64> {
        let ordered = u64::from_be_bytes(take(input)?);
        Ok(f64::from_bits(if ordered >> 63 == 1 { ordered ^ 1 << 63 } else { !ordered }))
    }

    fn get_bytes(input: &mut &[u8], to: &mut Vec<u8>) -> Result<()> {
        let truncated = || StateError::Corrupt("encoded string has no end".into());
        loop {
            let zero = input.iter().position(|&b| b == ESCAPE).ok_or_else(truncated)?;
            to.extend_from_slice(&input[..zero]);
            let next = *input.get(zero + 1).ok_or_else(truncated)?;
            *input = &input[zero + 2..];
            match next {
                TERMINATOR => return Ok(()),
                ESCAPED_ZERO => to.push(0),
                other => return Err(StateError::Corrupt(format!("encoded string has escape {other:#04x}"))),
            }
        }
    }

    fn get_list(_input: &mut &[u8]) -> Result<Option<usize>> {
        Ok(None)
    }

    fn get_item(input: &mut &[u8]) -> Result<bool> {
        match take::<1>(input)? {
            [ITEM] => Ok(true),
            [END] => Ok(false),
            [other] => Err(StateError::Corrupt(format!("encoded array has marker byte {other:#04x}"))),
        }
    }
}
