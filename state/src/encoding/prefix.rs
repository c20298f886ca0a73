//! The part of a database key before what the operator chose, and ranges of such keys.

use crate::backend::TableId;
use crate::error::{Result, StateError};

/// Length of `[key group u16 BE][table u16 BE]`.
pub const PREFIX_LEN: usize = 4;

const SIGN: u64 = 1 << 63;

/// Appends `[key group u16 BE][table u16 BE]`. Key groups are below 32768.
#[inline]
pub fn put_prefix(key_group: u32, table: TableId, out: &mut Vec<u8>) {
    out.extend_from_slice(&(key_group as u16).to_be_bytes());
    out.extend_from_slice(&table.to_be_bytes());
}

/// Splits a database key into key group, table and the rest.
pub fn read_prefix(key: &[u8]) -> Result<(u32, TableId, &[u8])> {
    let (prefix, rest) = key.split_first_chunk::<PREFIX_LEN>().ok_or_else(|| {
        StateError::Corrupt(format!("state key {key:02x?} is shorter than its prefix of {PREFIX_LEN} bytes"))
    })?;
    let [g0, g1, t0, t1] = *prefix;
    Ok((u32::from(u16::from_be_bytes([g0, g1])), TableId::from_be_bytes([t0, t1]), rest))
}

/// Appends a time such that byte order is time order.
#[inline]
pub fn put_time(time_ms: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(time_ms as u64 ^ SIGN).to_be_bytes());
}

/// Splits a time off the front of `bytes`.
pub fn read_time(bytes: &[u8]) -> Result<(i64, &[u8])> {
    let (time, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| StateError::Corrupt(format!("state key {bytes:02x?} is too short for its time")))?;
    Ok(((u64::from_be_bytes(*time) ^ SIGN) as i64, rest))
}

/// First key of a table in a key group, and the first key behind it.
pub fn table_bounds(key_group: u32, table: TableId) -> (Vec<u8>, Vec<u8>) {
    let from = (key_group << 16) | u32::from(table);
    (from.to_be_bytes().to_vec(), (from + 1).to_be_bytes().to_vec())
}

/// First key of an inclusive range of key groups, and the first key behind it.
pub fn key_group_range_bounds(start: u32, end: u32) -> (Vec<u8>, Vec<u8>) {
    ((start << 16).to_be_bytes().to_vec(), ((end + 1) << 16).to_be_bytes().to_vec())
}

/// The first key that does not begin with `prefix`; `None` when there is none.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
