//! Building columns of texts.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer};

use crate::error::{Error, Result};
use crate::random::{below, bits, push_letters};

/// A column of `rows` texts; `write` appends the text of each.
pub fn column(rows: usize, bytes_each: usize, mut write: impl FnMut(usize, &mut Vec<u8>)) -> Result<ArrayRef> {
    let mut values = Vec::with_capacity(rows * bytes_each + 16);
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0_i32);
    for row in 0..rows {
        write(row, &mut values);
        offsets.push(values.len() as i32);
    }
    if values.len() > i32::MAX as usize {
        return Err(Error::Validation("average sizes are too large: a batch exceeds 2 GiB".into()));
    }
    Ok(Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), None)?))
}

/// The length of a text of `words`.
#[inline]
pub fn words_length(number: u64, stream: u64, max: u64) -> usize {
    (3 + below(bits(number, stream), max - 3)) as usize
}

/// Appends letters, one of thirteen of which is `special`, [`words_length`] in all.
pub fn push_words(out: &mut Vec<u8>, number: u64, stream: u64, max: u64, special: u8) {
    let start = out.len();
    push_letters(out, number, stream + 1, words_length(number, stream, max));
    let mut word = 0;
    for (i, byte) in out[start..].iter_mut().enumerate() {
        if i % 8 == 0 {
            word = bits(number, stream + 2 + (i as u64 / 8) * 1000);
        }
        if word & 0xff < 20 {
            *byte = special;
        }
        word >>= 8;
    }
}

/// The length of the text that fills an event up to about `wanted` bytes: a fifth more or less.
#[inline]
pub fn extra_length(number: u64, stream: u64, current: usize, wanted: usize) -> usize {
    let Some(missing) = wanted.checked_sub(current) else { return 0 };
    let delta = (missing * 2 + 5) / 10;
    missing - delta + below(bits(number, stream), 2 * delta as u64) as usize
}
