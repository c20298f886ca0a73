//! How keys and values are encoded in the state database. Versioned; never changed in place.
//!
//! **Database key** (version [`KEY_FORMAT`]): `[key group u16 BE][table u16 BE]`, then by the kind of
//! the table
//! - point: the key;
//! - time: the time (i64, big endian with the sign bit flipped), then the key;
//! - list and map: the key, then what the operator chooses (chunk number, user key).
//!
//! **Key**: the key columns one after the other, such that the byte order of keys is the order of
//! the columns (NULL first) and no key is a prefix of another:
//! - a marker byte, 0x00 NULL (nothing follows) or 0x01;
//! - integers, dates, times, timestamps, intervals, decimals: big endian in their physical width (1,
//!   2, 4, 8 or 16 bytes) with the sign bit flipped; booleans one byte;
//! - FLOAT, DOUBLE: big endian bits, all bits flipped if negative, else the sign bit; -0.0 is
//!   written as 0.0 and every NaN as one, which sorts last;
//! - strings and binaries: the bytes with 0x00 written as 0x00 0xFF, then 0x00 0x00;
//! - arrays: for each element 0x01 and the element with its marker, at the end 0x00;
//! - maps: as arrays of key and value, ordered by the encoded entry;
//! - rows: their fields with markers.
//!
//! **Value** (version [`VALUE_FORMAT`]): `[format u8][schema id u16 LE]`, a bitmap of NULL columns
//! (least significant bit first, `ceil(columns / 8)` bytes, 1 = NULL), then the columns that are not
//! NULL, by position:
//! - fixed-width types: little endian in their physical width; booleans one byte;
//! - strings and binaries: length (LEB128), bytes;
//! - arrays and maps: number of elements (LEB128), then the elements with marker bytes (0x00 NULL,
//!   0x01), of a map key and value;
//! - rows: their fields with marker bytes.

mod builder;
mod cell;
mod key;
mod prefix;
mod value;

pub use key::{KEY_FORMAT, KeyEncoder, decode_keys, encode_database_keys, encode_keys};
pub use prefix::{
    PREFIX_LEN, key_group_range_bounds, put_prefix, put_time, read_prefix, read_time, successor, table_bounds,
};
pub use value::{VALUE_FORMAT, VALUE_HEADER_LEN, ValueEncoder, decode_values, encode_values, value_schema_id};

/// Encoded rows, one after the other in one buffer. Reused from batch to batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl EncodedRows {
    /// Forgets all rows, keeps the buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of row `i`.
    #[inline]
    pub fn row(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.row(i))
    }

    /// Bytes of all rows together.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a row that `write` appends to the buffer it is given.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

#[cfg(test)]
mod tests;
