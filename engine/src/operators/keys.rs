//! From key columns to dense group numbers.
//!
//! [`KeyLayout`] reads the keys of a batch once, [`KeyTable`] maps them to groups. A single column of
//! integers, dates or times takes an open-addressing table of 64-bit keys; everything else goes
//! through the state's key encoding, which is normalised (-0.0 is 0.0, one NaN, NULL a key like any
//! other), so that equal keys are equal bytes. Group numbers are given in order of first arrival and
//! reused after [`KeyTable::remove`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use hurtig_state::encoding::{EncodedRows, decode_keys, encode_keys};
use hurtig_state::hash::hash_i64;
use xxhash_rust::xxh3::xxh3_64;

use crate::aggregates::chunks::{ChunkedVec, FrozenChunks};
use crate::aggregates::columns::{Representation, int_array, int_values};
use crate::error::Result;

/// Which columns are the key.
#[derive(Debug, Clone)]
pub struct KeyLayout {
    /// Positions in the input.
    pub columns: Vec<usize>,
    /// Their physical types.
    pub types: Vec<DataType>,
    fixed: bool,
}

/// The keys of a batch.
#[derive(Debug, Default)]
pub enum BatchKeys {
    /// There is no key column: all rows are of one group.
    #[default]
    Global,
    /// One integer-like column.
    Fixed {
        /// One a row.
        values: ScalarBuffer<i64>,
        /// Which are NULL.
        nulls: Option<NullBuffer>,
    },
    /// Encoded keys with their hashes.
    Bytes {
        /// One a row.
        rows: EncodedRows,
        /// One a row.
        hashes: Vec<u64>,
    },
}

impl KeyLayout {
    /// Of the key `columns` with the given types.
    pub fn new(columns: Vec<usize>, types: Vec<DataType>) -> Result<KeyLayout> {
        let fixed = match types.as_slice() {
            [one] => Representation::of(one)? == Representation::Int,
            _ => false,
        };
        Ok(KeyLayout { columns, types, fixed })
    }

    /// Reads the keys of `batch` into `keys`, whose buffers are reused.
    pub fn read(&self, batch: &RecordBatch, keys: &mut BatchKeys) -> Result<()> {
        if self.columns.is_empty() {
            *keys = BatchKeys::Global;
            return Ok(());
        }
        let columns = self.key_columns(batch);
        self.read_columns(&columns, batch.num_rows(), keys)
    }

    /// The key columns of `batch`.
    pub fn key_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.columns.iter().map(|&c| batch.column(c).clone()).collect()
    }

    fn read_columns(&self, columns: &[ArrayRef], rows: usize, keys: &mut BatchKeys) -> Result<()> {
        if self.fixed {
            let (values, nulls) = int_values(&columns[0])?;
            *keys = BatchKeys::Fixed { values, nulls: nulls.filter(|n| n.null_count() > 0) };
            return Ok(());
        }
        if !matches!(keys, BatchKeys::Bytes { .. }) {
            *keys = BatchKeys::Bytes { rows: EncodedRows::default(), hashes: Vec::new() };
        }
        if let BatchKeys::Bytes { rows: encoded, hashes } = keys {
            encode_keys(columns, rows, encoded)?;
            hash_rows(encoded, hashes);
        }
        Ok(())
    }

    /// A table for keys of this layout.
    pub fn table(&self, capacity: usize) -> KeyTable {
        let index = if self.columns.is_empty() {
            Index::Global { taken: false }
        } else if self.fixed {
            Index::Fixed { slots: FixedSlots::with_capacity(capacity), null: None, keys: ChunkedVec::default() }
        } else {
            Index::Bytes { table: HashTable::with_capacity(capacity), keys: ChunkedVec::default() }
        };
        KeyTable { index, key_bytes: 0, len: 0, live: 0, free: Vec::new() }
    }

    /// Keys in the state's encoding, as a batch's keys.
    pub fn from_encoded<'a>(&self, encoded: impl Iterator<Item = &'a [u8]>) -> Result<BatchKeys> {
        let mut keys = BatchKeys::Global;
        if self.columns.is_empty() {
            return Ok(keys);
        }
        if self.fixed {
            let columns = decode_keys(encoded, &self.types)?;
            self.read_columns(&columns, columns[0].len(), &mut keys)?;
            return Ok(keys);
        }
        let (mut rows, mut hashes) = (EncodedRows::default(), Vec::new());
        encoded.for_each(|key| rows.push_with(|out| out.extend_from_slice(key)));
        hash_rows(&rows, &mut hashes);
        Ok(BatchKeys::Bytes { rows, hashes })
    }
}

fn hash_rows(rows: &EncodedRows, hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.extend(rows.iter().map(xxh3_64));
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    key: i64,
    group: u32,
}

const EMPTY: u32 = u32::MAX;

/// What an encoded key takes beside its bytes: two counters and the allocation's own.
const KEY_OVERHEAD: usize = 24;

/// Rows whose slots are brought into the cache together, before any of them is compared.
const AHEAD: usize = 32;
/// Slots that fit the cache anyway.
const CACHED_SLOTS: usize = 1 << 15;

/// Open addressing with linear probing; removal shifts the entries behind back.
#[derive(Debug)]
struct FixedSlots {
    slots: Vec<Slot>,
    used: usize,
}

impl FixedSlots {
    fn with_capacity(capacity: usize) -> FixedSlots {
        let size = (capacity * 8 / 5 + 1).next_power_of_two().max(16);
        FixedSlots { slots: vec![Slot { key: 0, group: EMPTY }; size], used: 0 }
    }

    /// The group of `key`, or else what `make` gives, which is then remembered.
    #[inline]
    fn find_or_insert(&mut self, key: i64, make: impl FnOnce() -> u32) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = hash_i64(key, 0) as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.group == EMPTY {
                let group = make();
                *slot = Slot { key, group };
                self.used += 1;
                if self.used * 8 > self.slots.len() * 5 {
                    self.grow();
                }
                return group;
            }
            if slot.key == key {
                return slot.group;
            }
            at = (at + 1) & mask;
        }
    }

    fn find(&self, key: i64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash_i64(key, 0) as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.group == EMPTY {
                return None;
            }
            if slot.key == key {
                return Some(slot.group);
            }
            at = (at + 1) & mask;
        }
    }

    /// Reads the slots where `keys` begin to be looked for: the loads do not wait for each other.
    #[inline]
    fn touch(&self, keys: impl Iterator<Item = i64>) {
        let mask = self.slots.len() - 1;
        let sum = keys.fold(0_u32, |sum, key| sum ^ self.slots[hash_i64(key, 0) as usize & mask].group);
        std::hint::black_box(sum);
    }

    fn fits_cache(&self) -> bool {
        self.slots.len() <= CACHED_SLOTS
    }

    #[cold]
    fn grow(&mut self) {
        self.resize(self.slots.len());
    }

    fn resize(&mut self, capacity: usize) {
        let old = std::mem::replace(self, FixedSlots::with_capacity(capacity));
        for slot in old.slots.iter().filter(|s| s.group != EMPTY) {
            let mask = self.slots.len() - 1;
            let mut at = hash_i64(slot.key, 0) as usize & mask;
            while self.slots[at].group != EMPTY {
                at = (at + 1) & mask;
            }
            self.slots[at] = *slot;
        }
        self.used = old.used;
    }

    fn remove(&mut self, key: i64) {
        let mask = self.slots.len() - 1;
        let mut at = hash_i64(key, 0) as usize & mask;
        while self.slots[at].key != key || self.slots[at].group == EMPTY {
            if self.slots[at].group == EMPTY {
                return;
            }
            at = (at + 1) & mask;
        }
        self.used -= 1;
        let mut next = (at + 1) & mask;
        while self.slots[next].group != EMPTY {
            let home = hash_i64(self.slots[next].key, 0) as usize & mask;
            // The entry may move to the hole unless its home lies between the hole and itself.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.slots[at] = self.slots[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[at].group = EMPTY;
    }
}

#[derive(Debug)]
enum Index {
    Global { taken: bool },
    Fixed { slots: FixedSlots, null: Option<u32>, keys: ChunkedVec<i64> },
    Bytes { table: HashTable<(u64, u32)>, keys: ChunkedVec<Arc<[u8]>> },
}

/// Keys to groups.
#[derive(Debug)]
pub struct KeyTable {
    index: Index,
    /// Bytes of the keys that lie beside the table.
    key_bytes: usize,
    /// Groups ever given: numbers are below.
    len: usize,
    live: usize,
    free: Vec<u32>,
}

/// Gives out group numbers.
struct Numbers<'a> {
    len: &'a mut usize,
    live: &'a mut usize,
    free: &'a mut Vec<u32>,
    created: &'a mut Vec<u32>,
}

impl Numbers<'_> {
    fn next(&mut self) -> (u32, bool) {
        *self.live += 1;
        let (group, reused) = match self.free.pop() {
            Some(group) => (group, true),
            None => {
                *self.len += 1;
                ((*self.len - 1) as u32, false)
            }
        };
        self.created.push(group);
        (group, reused)
    }
}

fn set_key<T: Clone + Default>(keys: &mut ChunkedVec<T>, group: u32, reused: bool, key: T) {
    if reused {
        *keys.get_mut(group) = key;
    } else {
        keys.push(key);
    }
}

impl KeyTable {
    /// All group numbers are below this.
    pub fn groups_end(&self) -> usize {
        self.len
    }

    /// Number of keys.
    pub fn live(&self) -> usize {
        self.live
    }

    /// The groups of the keys of `selection` (`None`: of all `rows` rows), into `groups`, which is
    /// cleared first. Unknown keys get a group; those are appended to `created`.
    pub fn intern(
        &mut self,
        keys: &BatchKeys,
        rows: usize,
        selection: Option<&[u32]>,
        groups: &mut Vec<u32>,
        created: &mut Vec<u32>,
    ) {
        groups.clear();
        groups.reserve(selection.map_or(rows, <[u32]>::len));
        match selection {
            None => self.intern_rows(keys, 0..rows, groups, created),
            Some(selection) => self.intern_rows(keys, selection.iter().map(|&r| r as usize), groups, created),
        }
    }

    fn intern_rows(
        &mut self,
        batch: &BatchKeys,
        rows: impl ExactSizeIterator<Item = usize> + Clone,
        groups: &mut Vec<u32>,
        created: &mut Vec<u32>,
    ) {
        let key_bytes = &mut self.key_bytes;
        let mut numbers = Numbers { len: &mut self.len, live: &mut self.live, free: &mut self.free, created };
        match (&mut self.index, batch) {
            (Index::Global { taken }, _) => {
                if rows.len() > 0 && !*taken {
                    *taken = true;
                    numbers.next();
                }
                groups.resize(rows.len(), 0);
            }
            (Index::Fixed { slots, null, keys }, BatchKeys::Fixed { values, nulls }) => {
                let mut make = |key: i64| {
                    let (group, reused) = numbers.next();
                    set_key(keys, group, reused, key);
                    group
                };
                if let Some(nulls) = nulls {
                    for row in rows {
                        groups.push(match nulls.is_null(row) {
                            false => slots.find_or_insert(values[row], || make(values[row])),
                            true => *null.get_or_insert_with(|| make(0)),
                        });
                    }
                } else if slots.fits_cache() {
                    groups.extend(rows.map(|row| slots.find_or_insert(values[row], || make(values[row]))));
                } else {
                    let mut ahead = rows.clone();
                    for (i, row) in rows.enumerate() {
                        if i.is_multiple_of(AHEAD) {
                            slots.touch(ahead.by_ref().take(AHEAD).map(|row| values[row]));
                        }
                        groups.push(slots.find_or_insert(values[row], || make(values[row])));
                    }
                }
            }
            (Index::Bytes { table, keys }, BatchKeys::Bytes { rows: encoded, hashes }) => {
                for row in rows {
                    let (key, hash) = (encoded.row(row), hashes[row]);
                    let found = table.find(hash, |(h, g)| *h == hash && keys.get(*g).as_ref() == key).map(|e| e.1);
                    groups.push(found.unwrap_or_else(|| {
                        let (group, reused) = numbers.next();
                        set_key(keys, group, reused, Arc::from(key));
                        *key_bytes += key.len() + KEY_OVERHEAD;
                        table.insert_unique(hash, (hash, group), |(h, _)| *h);
                        group
                    }));
                }
            }
            _ => unreachable!("keys are read by the layout that made the table"),
        }
    }

    /// Forgets the keys of `groups` and gives their numbers free.
    pub fn remove(&mut self, groups: &[u32]) {
        for &group in groups {
            match &mut self.index {
                Index::Global { taken } => {
                    *taken = false;
                    // The only group keeps its number.
                    self.len = 0;
                    self.live = 0;
                    continue;
                }
                Index::Fixed { null, .. } if *null == Some(group) => *null = None,
                Index::Fixed { slots, keys, .. } => slots.remove(*keys.get(group)),
                Index::Bytes { table, keys } => {
                    let hash = xxh3_64(keys.get(group));
                    self.key_bytes -= keys.get(group).len() + KEY_OVERHEAD;
                    if let Ok(entry) = table.find_entry(hash, |(_, g)| *g == group) {
                        entry.remove();
                    }
                    *keys.get_mut(group) = Arc::default();
                }
            }
            self.live -= 1;
            self.free.push(group);
        }
    }

    /// The key columns of `groups`.
    pub fn columns(&self, groups: &[u32], types: &[DataType]) -> Result<Vec<ArrayRef>> {
        match &self.index {
            Index::Global { .. } => Ok(Vec::new()),
            Index::Fixed { null, keys, .. } => {
                let values = groups.iter().map(|&g| (*null != Some(g)).then(|| *keys.get(g)));
                Ok(vec![int_array(values, &types[0])?])
            }
            Index::Bytes { keys, .. } => Ok(decode_keys(groups.iter().map(|&g| keys.get(g).as_ref()), types)?),
        }
    }

    /// The keys of `groups` as those of a batch, to intern them elsewhere.
    pub fn batch_keys(&self, groups: &[u32]) -> BatchKeys {
        match &self.index {
            Index::Global { .. } => BatchKeys::Global,
            Index::Fixed { null, keys, .. } => {
                let nulls = null.map(|null| NullBuffer::from_iter(groups.iter().map(|&g| g != null)));
                BatchKeys::Fixed { values: groups.iter().map(|&g| *keys.get(g)).collect(), nulls }
            }
            Index::Bytes { keys, .. } => {
                let (mut rows, mut hashes) = (EncodedRows::default(), Vec::new());
                groups.iter().for_each(|&g| rows.push_with(|out| out.extend_from_slice(keys.get(g))));
                hash_rows(&rows, &mut hashes);
                BatchKeys::Bytes { rows, hashes }
            }
        }
    }

    /// The keys of the chunks of these numbers, by reference.
    pub fn freeze(&self, chunks: &[usize]) -> FrozenKeys {
        match &self.index {
            Index::Global { .. } => FrozenKeys::Global,
            Index::Fixed { null, keys, .. } => FrozenKeys::Fixed { null: *null, keys: keys.freeze(chunks) },
            Index::Bytes { keys, .. } => FrozenKeys::Bytes(keys.freeze(chunks)),
        }
    }

    /// The groups of the keys of all `rows` rows; `None` where a key is unknown.
    pub fn find(&self, batch: &BatchKeys, rows: usize) -> Vec<Option<u32>> {
        let known = |row: usize| match (&self.index, batch) {
            (Index::Global { taken }, _) => taken.then_some(0),
            (Index::Fixed { slots, null, .. }, BatchKeys::Fixed { values, nulls }) => {
                match nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                    true => *null,
                    false => slots.find(values[row]),
                }
            }
            (Index::Bytes { table, keys }, BatchKeys::Bytes { rows: encoded, hashes }) => {
                let (key, hash) = (encoded.row(row), hashes[row]);
                table.find(hash, |(h, g)| *h == hash && keys.get(*g).as_ref() == key).map(|e| e.1)
            }
            _ => unreachable!("keys are read by the layout that made the table"),
        };
        (0..rows).map(known).collect()
    }

    /// Bytes of each group, without what lies beside. Its part of the table is that of an average load, so
    /// that a table which doubles does not count as so many keys more.
    pub fn group_bytes(&self) -> usize {
        match &self.index {
            Index::Global { .. } => 0,
            Index::Fixed { .. } => size_of::<i64>() + size_of::<Slot>() * 5 / 2,
            Index::Bytes { .. } => size_of::<Arc<[u8]>>() + (size_of::<(u64, u32)>() + 1) * 5 / 3,
        }
    }

    /// Gives back the memory of a table that is nearly empty.
    pub fn shrink_table(&mut self) {
        match &mut self.index {
            Index::Fixed { slots, .. } if slots.used * 6 < slots.slots.len() && !slots.fits_cache() => {
                slots.resize(slots.used * 2);
            }
            Index::Bytes { table, .. } if table.len() * 4 < table.capacity() => {
                table.shrink_to(table.len() * 2, |(h, _)| *h);
            }
            _ => {}
        }
    }

    /// Bytes of the keys beside the table.
    pub fn all_key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Bytes that the key of a group has beside the table.
    pub fn key_bytes(&self, group: u32) -> usize {
        match &self.index {
            Index::Bytes { keys, .. } => keys.get(group).len() + KEY_OVERHEAD,
            _ => 0,
        }
    }
}

/// Keys as they were at a freeze.
#[derive(Debug)]
pub enum FrozenKeys {
    /// The one group without key columns.
    Global,
    /// See [`BatchKeys::Fixed`].
    Fixed {
        /// The group of the NULL key.
        null: Option<u32>,
        /// By frozen chunk.
        keys: FrozenChunks<i64>,
    },
    /// Encoded keys.
    Bytes(FrozenChunks<Arc<[u8]>>),
}

/// A group within frozen chunks.
#[derive(Debug, Clone, Copy)]
pub struct FrozenGroup {
    /// Which frozen chunk.
    pub index: usize,
    /// The place within the chunk.
    pub offset: usize,
    /// The group.
    pub group: u32,
}

impl FrozenKeys {
    /// The key columns of `groups`.
    pub fn columns(&self, groups: &[FrozenGroup], types: &[DataType]) -> Result<Vec<ArrayRef>> {
        match self {
            FrozenKeys::Global => Ok(Vec::new()),
            FrozenKeys::Fixed { null, keys } => {
                let values = groups.iter().map(|g| (*null != Some(g.group)).then(|| *keys.get(g.index, g.offset)));
                Ok(vec![int_array(values, &types[0])?])
            }
            FrozenKeys::Bytes(keys) => {
                Ok(decode_keys(groups.iter().map(|g| keys.get(g.index, g.offset).as_ref()), types)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use std::collections::BTreeMap;

    fn intern(layout: &KeyLayout, table: &mut KeyTable, columns: Vec<ArrayRef>) -> Vec<u32> {
        let fields: Vec<Field> =
            columns.iter().enumerate().map(|(i, c)| Field::new(format!("k{i}"), c.data_type().clone(), true)).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let (mut keys, mut groups, mut created) = (BatchKeys::Global, Vec::new(), Vec::new());
        layout.read(&batch, &mut keys).unwrap();
        table.intern(&keys, batch.num_rows(), None, &mut groups, &mut created);
        groups
    }

    #[test]
    fn groups_are_numbered_by_first_arrival_and_null_is_a_key() {
        let layout = KeyLayout::new(vec![0], vec![DataType::Int32]).unwrap();
        let mut table = layout.table(0);
        let keys: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None, Some(-1), Some(7), None]));
        assert_eq!(intern(&layout, &mut table, vec![keys]), [0, 1, 2, 0, 1]);
        let columns = table.columns(&[1, 2], &layout.types).unwrap();
        assert_eq!(columns[0].as_ref(), &Int32Array::from(vec![None, Some(-1)]) as &dyn Array);
    }

    #[test]
    fn zeros_of_both_signs_and_all_nans_are_one_key() {
        let layout = KeyLayout::new(vec![0, 1], vec![DataType::Float64, DataType::Utf8]).unwrap();
        let mut table = layout.table(0);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 0.0]));
        let strings: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("a"), None, None, Some("")]));
        assert_eq!(intern(&layout, &mut table, vec![floats, strings]), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn any_mix_of_insertions_and_removals_keeps_the_other_keys() {
        let layout = KeyLayout::new(vec![0], vec![DataType::Int64]).unwrap();
        let mut table = layout.table(0);
        let mut expected: BTreeMap<i64, u32> = BTreeMap::new();
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 33) as i64 % 500;
            match expected.remove(&key) {
                Some(group) if random.is_multiple_of(3) => table.remove(&[group]),
                old => {
                    let keys = BatchKeys::Fixed { values: vec![key].into(), nulls: None };
                    let (mut groups, mut created) = (Vec::new(), Vec::new());
                    table.intern(&keys, 1, None, &mut groups, &mut created);
                    assert_eq!(created.is_empty(), old.is_some());
                    assert!(old.is_none_or(|old| old == groups[0]));
                    expected.insert(key, groups[0]);
                }
            }
        }
        assert_eq!(table.live(), expected.len());
        assert!(table.groups_end() <= 500);
    }
}
