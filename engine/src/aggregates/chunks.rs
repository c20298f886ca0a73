//! States of groups in fixed chunks behind `Arc`: what a checkpoint freezes by reference.
//!
//! A freeze clones the `Arc`s of the chunks that have changed; a later write to such a chunk copies
//! it first. Writes of a batch go through a [`Writer`], which makes the touched chunks writable
//! once, so that a row pays an index and no atomic operation.

use std::sync::Arc;

/// Groups of a chunk.
pub const CHUNK: usize = 1024;

/// The chunk of a group.
#[inline]
pub fn chunk_of(group: u32) -> usize {
    group as usize / CHUNK
}

/// The place of a group within its chunk.
#[inline]
pub fn offset_of(group: u32) -> usize {
    group as usize % CHUNK
}

/// One value a group.
#[derive(Debug, Clone)]
pub struct ChunkedVec<T> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for ChunkedVec<T> {
    fn default() -> Self {
        ChunkedVec { chunks: Vec::new(), len: 0 }
    }
}

impl<T: Clone + Default> ChunkedVec<T> {
    /// Number of groups.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Grows to `len` groups; new ones have the default. Never shrinks.
    pub fn resize(&mut self, len: usize) {
        while self.len < len {
            if self.len.is_multiple_of(CHUNK) {
                self.chunks.push(Arc::new(Vec::new()));
            }
            let last = self.chunks.len() - 1;
            let chunk = Arc::make_mut(&mut self.chunks[last]);
            let target = (len - last * CHUNK).min(CHUNK);
            chunk.resize(target, T::default());
            self.len = last * CHUNK + target;
        }
    }

    /// Appends a group.
    pub fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::new(Vec::new()));
        }
        let last = self.chunks.len() - 1;
        Arc::make_mut(&mut self.chunks[last]).push(value);
        self.len += 1;
    }

    /// The value of `group`.
    #[inline]
    pub fn get(&self, group: u32) -> &T {
        &self.chunks[chunk_of(group)][offset_of(group)]
    }

    /// The value of `group`, to change; copies the chunk when it is frozen. For single groups: many
    /// go through [`ChunkedVec::writer`].
    pub fn get_mut(&mut self, group: u32) -> &mut T {
        &mut Arc::make_mut(&mut self.chunks[chunk_of(group)])[offset_of(group)]
    }

    /// Writes to groups of the `touched` chunks.
    pub fn writer(&mut self, touched: &Touched) -> Writer<'_, T> {
        let slices = self
            .chunks
            .iter_mut()
            .enumerate()
            .map(|(i, chunk)| if touched.contains(i) { Arc::make_mut(chunk).as_mut_slice() } else { &mut [][..] });
        Writer { slices: slices.collect() }
    }

    /// The chunks of the given numbers, as they are now.
    pub fn freeze(&self, chunks: &[usize]) -> FrozenChunks<T> {
        FrozenChunks { chunks: chunks.iter().map(|&c| Arc::clone(&self.chunks[c])).collect() }
    }

    /// All values, in order of groups.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|c| c.iter())
    }
}

/// Frozen chunks, in the order in which they were asked for.
#[derive(Debug, Clone)]
pub struct FrozenChunks<T> {
    chunks: Vec<Arc<Vec<T>>>,
}

impl<T> FrozenChunks<T> {
    /// The value at `offset` of the `index`-th frozen chunk.
    pub fn get(&self, index: usize, offset: usize) -> &T {
        &self.chunks[index][offset]
    }
}

/// See [`ChunkedVec::writer`].
pub struct Writer<'a, T> {
    slices: Vec<&'a mut [T]>,
}

impl<T> Writer<'_, T> {
    /// The value of `group`, whose chunk must have been declared touched.
    #[inline]
    pub fn at(&mut self, group: u32) -> &mut T {
        &mut self.slices[chunk_of(group)][offset_of(group)]
    }
}

/// A set of chunks.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    chunks: Vec<bool>,
}

impl Touched {
    /// The chunks of `groups`, of which there are fewer than `len`.
    pub fn set(&mut self, groups: &[u32], len: usize) {
        self.chunks.clear();
        self.chunks.resize(len.div_ceil(CHUNK), false);
        for &group in groups {
            self.chunks[chunk_of(group)] = true;
        }
    }

    /// Whether the chunk is in the set.
    #[inline]
    pub fn contains(&self, chunk: usize) -> bool {
        self.chunks.get(chunk).copied().unwrap_or(false)
    }
}

const WORDS_A_CHUNK: usize = CHUNK / 64;

/// One bit a group.
#[derive(Debug, Clone, Default)]
pub struct GroupBits {
    words: Vec<u64>,
}

impl GroupBits {
    /// Sets the bits of all `groups`.
    pub fn insert_all(&mut self, groups: &[u32]) {
        let Some(highest) = groups.iter().max() else { return };
        let words = *highest as usize / 64 + 1;
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
        for &group in groups {
            self.words[group as usize / 64] |= 1 << (group % 64);
        }
    }

    /// Sets the bit of `group`.
    #[inline]
    pub fn insert(&mut self, group: u32) {
        let word = group as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (group % 64);
    }

    /// Clears the bit of `group`.
    pub fn remove(&mut self, group: u32) {
        if let Some(word) = self.words.get_mut(group as usize / 64) {
            *word &= !(1 << (group % 64));
        }
    }

    /// Whether the bit of `group` is set.
    #[inline]
    pub fn contains(&self, group: u32) -> bool {
        self.words.get(group as usize / 64).is_some_and(|w| w & (1 << (group % 64)) != 0)
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// Of `self` (what is dirty) what is to be written, being `present`, and what is to be deleted,
    /// being `stored` but not present; `stored` becomes what will then be stored. Word by word, so
    /// that a freeze costs next to nothing a group.
    pub fn take_changes(&mut self, present: &GroupBits, stored: &mut GroupBits) -> (GroupBits, GroupBits) {
        self.take_changes_of(0..usize::MAX, present, stored)
    }

    /// The same of the groups of a range of chunks.
    pub fn take_changes_of(
        &mut self,
        chunks: std::ops::Range<usize>,
        present: &GroupBits,
        stored: &mut GroupBits,
    ) -> (GroupBits, GroupBits) {
        let end = chunks.end.saturating_mul(WORDS_A_CHUNK).min(self.words.len());
        let start = chunks.start.saturating_mul(WORDS_A_CHUNK).min(end);
        if stored.words.len() < end {
            stored.words.resize(end, 0);
        }
        let (mut puts, mut deletes) = (vec![0; end], vec![0; end]);
        for i in start..end {
            let dirty = std::mem::take(&mut self.words[i]);
            let present = present.words.get(i).copied().unwrap_or(0);
            puts[i] = dirty & present;
            deletes[i] = dirty & !present & stored.words[i];
            stored.words[i] = (stored.words[i] | puts[i]) & !deletes[i];
        }
        (GroupBits { words: puts }, GroupBits { words: deletes })
    }

    /// Sets all bits of `other`.
    pub fn unite(&mut self, other: &GroupBits) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words.iter_mut().zip(&other.words).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// Number of bits set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Number of bits set in a chunk.
    pub fn count_in(&self, chunk: usize) -> usize {
        self.words.iter().skip(chunk * WORDS_A_CHUNK).take(WORDS_A_CHUNK).map(|w| w.count_ones() as usize).sum()
    }

    /// The bits of groups `64 * word` and up.
    pub fn word(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }

    /// Clears the given bits of groups `64 * word` and up.
    pub fn clear_in_word(&mut self, word: usize, bits: u64) {
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bits;
        }
    }

    /// The chunks with a bit set here or in `other`, ascending.
    pub fn chunks_with(&self, other: &GroupBits) -> Vec<usize> {
        let any = |bits: &GroupBits, chunk: usize| {
            bits.words.iter().skip(chunk * WORDS_A_CHUNK).take(WORDS_A_CHUNK).any(|w| *w != 0)
        };
        let chunks = self.words.len().max(other.words.len()).div_ceil(WORDS_A_CHUNK);
        (0..chunks).filter(|&chunk| any(self, chunk) || any(other, chunk)).collect()
    }

    /// The groups whose bits are set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros();
                left &= left - 1;
                Some(i as u32 * 64 + bit)
            })
        })
    }

    /// Clears all bits.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_after_a_freeze_do_not_reach_the_frozen_chunks() {
        let mut values = ChunkedVec::<i64>::default();
        values.resize(CHUNK + 10);
        *values.get_mut(3) = 1;
        let frozen = values.freeze(&[0]);
        let mut touched = Touched::default();
        touched.set(&[3, CHUNK as u32], values.len());
        let mut writer = values.writer(&touched);
        *writer.at(3) += 1;
        *writer.at(CHUNK as u32) += 7;
        assert_eq!((*frozen.get(0, 3), *values.get(3), *values.get(CHUNK as u32)), (1, 2, 7));
    }

    #[test]
    fn chunks_grow_as_groups_come() {
        let mut values = ChunkedVec::<u8>::default();
        for i in 0..3000_u32 {
            values.push((i % 251) as u8);
        }
        values.resize(5000);
        assert_eq!((*values.get(2999), *values.get(4999), values.len()), ((2999 % 251) as u8, 0, 5000));
        assert_eq!(values.iter().count(), 5000);
    }

    #[test]
    fn changes_are_what_is_dirty_and_there_or_no_longer_there() {
        let bits = |groups: &[u32]| {
            let mut bits = GroupBits::default();
            bits.insert_all(groups);
            bits
        };
        let (mut dirty, present, mut stored) = (bits(&[1, 2, 3, 5000]), bits(&[1, 4, 5000]), bits(&[2, 4]));
        let (puts, deletes) = dirty.take_changes(&present, &mut stored);
        assert!(dirty.is_empty());
        assert_eq!(puts.iter().collect::<Vec<_>>(), [1, 5000]);
        assert_eq!(deletes.iter().collect::<Vec<_>>(), [2]);
        assert_eq!(stored.iter().collect::<Vec<_>>(), [1, 4, 5000]);
        assert_eq!(puts.chunks_with(&deletes), [0, 4]);
    }

    #[test]
    fn bits_iterate_in_order() {
        let mut bits = GroupBits::default();
        for group in [700, 0, 63, 64] {
            bits.insert(group);
        }
        bits.remove(63);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 64, 700]);
        assert!(bits.contains(64) && !bits.contains(63) && !bits.contains(10_000));
    }
}
