//! Dirty groups as they were at a freeze, and how they are written: in key order, one key group after
//! the other, so that no more than a key group is held in encoded form.

use std::sync::Arc;

use arrow::array::ArrayRef;
use hurtig_graph::key_groups::key_group_of_hash;
use hurtig_state::StateError;
use hurtig_state::backend::{StateWriter, TableId};
use hurtig_state::encoding::{KeyEncoder, put_prefix, put_time};
use hurtig_state::hash::hash_columns_into;

use super::{AggregatePlan, GroupStore, HAS_ROWS, HAS_TIME, VALUE_FORMAT, VALUE_SCHEMA, VALUE_SCHEMA_LARGE};
use crate::aggregates::FrozenAccumulator;
use crate::aggregates::chunks::{ChunkedVec, FrozenChunks, GroupBits, chunk_of, offset_of};
use crate::error::Result;
use crate::operators::keys::{FrozenGroup, FrozenKeys};

/// Where the entries of a cell are in the database.
#[derive(Debug, Clone, Copy)]
pub struct CellAddress {
    /// The cell's table.
    pub table: TableId,
    /// Number of key groups.
    pub max_parallelism: u32,
}

impl CellAddress {
    /// Database keys of rows of key columns; `time` for cells ordered by time.
    pub fn database_keys(&self, columns: &[ArrayRef], rows: usize, time: Option<i64>) -> Result<Vec<Vec<u8>>> {
        let mut hashes = Vec::new();
        hash_columns_into(columns, rows, &mut hashes);
        let encoder = KeyEncoder::new(columns)?;
        let keys = hashes.iter().enumerate().map(|(row, &hash)| {
            let mut key = Vec::with_capacity(32);
            put_prefix(key_group_of_hash(hash, self.max_parallelism), self.table, &mut key);
            if let Some(time) = time {
                put_time(time, &mut key);
            }
            encoder.encode(row, &mut key);
            key
        });
        Ok(keys.collect())
    }
}

/// The dirty groups of a store as they were at a freeze.
pub struct FrozenGroups {
    keys: FrozenKeys,
    accumulators: Vec<Box<dyn FrozenAccumulator>>,
    rows: Option<FrozenChunks<i64>>,
    changed: Option<FrozenChunks<i64>>,
    puts: GroupBits,
    deletes: GroupBits,
    /// By chunk: its place among the frozen ones.
    places: Vec<u32>,
}

impl GroupStore {
    /// What differs from the database, by reference; from now on it counts as written, in
    /// `generation`. `None`: nothing.
    pub fn freeze(&mut self, plan: &AggregatePlan, generation: u64) -> Option<FrozenGroups> {
        let changes = self.dirty.take_changes(&self.present, &mut self.stored);
        self.freeze_changes(plan, generation, changes)
    }

    /// The same of about `groups` dirty groups, those of the chunks behind the last ones.
    pub fn freeze_some(&mut self, plan: &AggregatePlan, generation: u64, groups: usize) -> Option<FrozenGroups> {
        let chunks = self.groups_end().div_ceil(crate::aggregates::chunks::CHUNK);
        let mut start = self.frozen_up_to;
        let dirty_behind = (start..chunks).any(|chunk| self.dirty.count_in(chunk) > 0);
        if !dirty_behind {
            start = 0;
        }
        self.frozen_up_to = start;
        let mut dirty = 0;
        while self.frozen_up_to < chunks && dirty < groups {
            dirty += self.dirty.count_in(self.frozen_up_to);
            self.frozen_up_to += 1;
        }
        let changes = self.dirty.take_changes_of(start..self.frozen_up_to, &self.present, &mut self.stored);
        self.freeze_changes(plan, generation, changes)
    }

    fn freeze_changes(
        &mut self,
        plan: &AggregatePlan,
        generation: u64,
        (puts, deletes): (GroupBits, GroupBits),
    ) -> Option<FrozenGroups> {
        let chunks = puts.chunks_with(&deletes);
        let last = *chunks.last()?;
        let mut places = vec![u32::MAX; last + 1];
        chunks.iter().enumerate().for_each(|(place, &chunk)| places[chunk] = place as u32);
        self.note_frozen(generation, &puts, &deletes, &chunks);
        let optional = |values: &ChunkedVec<i64>, on: bool| on.then(|| values.freeze(&chunks));
        Some(FrozenGroups {
            keys: self.keys.freeze(&chunks),
            accumulators: self.accumulators.iter_mut().map(|a| a.freeze(&chunks, &puts, &deletes)).collect(),
            rows: optional(&self.rows, plan.retracts),
            changed: optional(&self.changed, plan.timed),
            puts,
            deletes,
            places,
        })
    }
}

/// A group to be written: its key group, which of the stores it is in, its number.
type Listed = (u32, u32, u32);

/// Groups whose keys are computed at once.
const STEP: usize = 8192;

/// Writes the frozen groups of several stores in key order. Stores with a time (window slices) come
/// in the order of their times.
///
/// # Errors
/// Of the writer, or of keys and values that cannot be encoded.
pub fn write_frozen(
    stores: &[(Option<i64>, FrozenGroups)],
    plan: &Arc<AggregatePlan>,
    address: CellAddress,
    writer: &mut dyn StateWriter,
) -> hurtig_state::error::Result<()> {
    let encoded = |e: crate::error::EngineError| StateError::Database(format!("cannot encode aggregates: {e}"));
    let mut listed: Vec<Listed> = Vec::new();
    for (store, (_, groups)) in stores.iter().enumerate() {
        groups.list(plan, address, store as u32, &mut listed).map_err(encoded)?;
    }
    // Key groups in order, within each the stores in theirs.
    listed.sort_unstable();
    let mut value = Vec::new();
    for run in listed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (time, groups) = &stores[run[0].1 as usize];
        for (key, group) in groups.sorted_keys(plan, address, *time, run).map_err(encoded)? {
            if groups.deletes.contains(group) {
                writer.delete(&key)?;
            } else {
                value.clear();
                groups.value(groups.locate(group), &mut value);
                writer.put(&key, &value)?;
            }
            groups.write_elements(group, &key, writer)?;
        }
    }
    Ok(())
}

impl FrozenGroups {
    /// Lists all groups with their key groups.
    fn list(&self, plan: &AggregatePlan, address: CellAddress, store: u32, out: &mut Vec<Listed>) -> Result<()> {
        let mut hashes = Vec::new();
        for bits in [&self.puts, &self.deletes] {
            let mut groups = bits.iter().map(|g| self.locate(g)).peekable();
            while groups.peek().is_some() {
                let step: Vec<FrozenGroup> = groups.by_ref().take(STEP).collect();
                let columns = self.keys.columns(&step, &plan.keys.types)?;
                hash_columns_into(&columns, step.len(), &mut hashes);
                let key_groups = hashes.iter().map(|&h| key_group_of_hash(h, address.max_parallelism));
                out.extend(step.iter().zip(key_groups).map(|(g, key_group)| (key_group, store, g.group)));
            }
        }
        Ok(())
    }

    /// The database keys of groups of one key group, in order.
    fn sorted_keys(
        &self,
        plan: &AggregatePlan,
        address: CellAddress,
        time: Option<i64>,
        run: &[Listed],
    ) -> Result<Vec<(Vec<u8>, u32)>> {
        let groups: Vec<FrozenGroup> = run.iter().map(|(_, _, group)| self.locate(*group)).collect();
        let columns = self.keys.columns(&groups, &plan.keys.types)?;
        let encoder = KeyEncoder::new(&columns)?;
        let mut keys: Vec<(Vec<u8>, u32)> = Vec::with_capacity(groups.len());
        for (row, &(key_group, _, group)) in run.iter().enumerate() {
            let mut key = Vec::with_capacity(32);
            put_prefix(key_group, address.table, &mut key);
            if let Some(time) = time {
                put_time(time, &mut key);
            }
            encoder.encode(row, &mut key);
            keys.push((key, group));
        }
        keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(keys)
    }

    /// Writes what has changed of large sets, behind the group's own entry: `[key][call u8][element]`.
    fn write_elements(&self, group: u32, key: &[u8], writer: &mut dyn StateWriter) -> hurtig_state::error::Result<()> {
        let mut element = Vec::new();
        for (call, writes) in self.accumulators.iter().enumerate() {
            let Some(writes) = writes.elements(group) else { continue };
            element.clear();
            element.extend_from_slice(key);
            element.push(call as u8);
            let prefix = element.len();
            if writes.clear {
                let end = [key, &[call as u8 + 1][..]].concat();
                writer.delete_range(&element, &end)?;
            }
            for (value, stored) in &writes.changes {
                element.truncate(prefix);
                element.extend_from_slice(value);
                match stored {
                    Some(stored) => writer.put(&element, stored)?,
                    None => writer.delete(&element)?,
                }
            }
        }
        Ok(())
    }

    /// Where a group is in the frozen chunks.
    fn locate(&self, group: u32) -> FrozenGroup {
        FrozenGroup { index: self.places[chunk_of(group)] as usize, offset: offset_of(group), group }
    }

    fn value(&self, group: FrozenGroup, value: &mut Vec<u8>) {
        let flags = u8::from(self.rows.is_some()) * HAS_ROWS + u8::from(self.changed.is_some()) * HAS_TIME;
        let large = self.accumulators.iter().any(|a| a.is_large(group.index, group.offset));
        let [s0, s1] = if large { VALUE_SCHEMA_LARGE } else { VALUE_SCHEMA }.to_le_bytes();
        value.extend_from_slice(&[VALUE_FORMAT, flags, s0, s1]);
        for numbers in [&self.rows, &self.changed].into_iter().flatten() {
            value.extend_from_slice(&numbers.get(group.index, group.offset).to_le_bytes());
        }
        self.accumulators.iter().for_each(|a| a.encode(group.index, group.offset, value));
    }
}
