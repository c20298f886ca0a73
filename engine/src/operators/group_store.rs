//! Groups with their accumulators: the memory tier of the aggregations.
//!
//! A [`GroupStore`] is a key table, the accumulators of all calls and what the state needs to know
//! of each group: whether it is *present* (holds rows), *dirty* (differs from the database) and
//! *stored* (has an entry in the database). [`GroupStore::freeze`] takes what is dirty by reference;
//! [`FrozenGroups::entries`] encodes it off the task's thread.
//!
//! A value in the database is `[format u8][flags u8][schema u16 LE]`, with flag 1 the number of rows
//! (i64 LE), with flag 2 the time of the last change (ms, i64 LE), then the accumulators in order.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use hurtig_graph::key_groups::key_group_of_hash;
use hurtig_graph::{RowField, RowSchema};
use hurtig_proto::v1;
use hurtig_state::backend::TableId;
use hurtig_state::encoding::{KeyEncoder, put_prefix, put_time};
use hurtig_state::hash::hash_columns_into;

use super::keys::{BatchKeys, FrozenGroup, FrozenKeys, KeyLayout, KeyTable};
use crate::aggregates::chunks::{ChunkedVec, FrozenChunks, GroupBits, Touched, chunk_of, offset_of};
use crate::aggregates::columns::{int_values, take_array};
use crate::aggregates::{Accumulator, BoundCall, FilterScratch, FrozenAccumulator, Rows, create};
use crate::error::{EngineError, Result};

const VALUE_FORMAT: u8 = 1;
const HAS_ROWS: u8 = 1;
const HAS_TIME: u8 = 2;

/// Version of what accumulators write.
pub const VALUE_SCHEMA: u16 = 1;

/// What an aggregation computes, shared by all its stores.
#[derive(Debug)]
pub struct AggregatePlan {
    /// The group key.
    pub keys: KeyLayout,
    /// The key columns of the output.
    pub key_fields: Vec<RowField>,
    /// The aggregate calls.
    pub calls: Vec<BoundCall>,
    /// Rows may be taken back: groups count their rows.
    pub retracts: bool,
    /// The column with the number of rows that an input row stands for (behind a LOCAL phase).
    pub row_count_column: Option<usize>,
    /// Groups remember when they changed last.
    pub timed: bool,
}

impl AggregatePlan {
    /// Of an operator over rows of `input`. For the GLOBAL phase `aggregate_input` is the schema
    /// before the LOCAL phase.
    ///
    /// # Errors
    /// Keys or calls that do not fit the input.
    pub fn new(
        keys: &[u32],
        calls: &[v1::AggregateCall],
        phase: v1::AggregatePhase,
        input: &RowSchema,
        aggregate_input: Option<&RowSchema>,
        retracts: bool,
    ) -> Result<AggregatePlan> {
        let mut key_fields = Vec::new();
        for &key in keys {
            key_fields.push(input.fields.get(key as usize).cloned().ok_or_else(|| {
                EngineError::Validation(format!("key column {key} does not exist: the input has {}", input.len()))
            })?);
        }
        let types = key_fields.iter().map(|f| f.data_type.logical.to_arrow()).collect();
        let mut bound = Vec::new();
        let mut next = keys.len();
        for call in calls {
            bound.push(if phase == v1::AggregatePhase::Global {
                let before = aggregate_input.ok_or_else(|| {
                    EngineError::Validation("a GLOBAL aggregate needs aggregate_input, the schema before LOCAL".into())
                })?;
                let call = BoundCall::bind(call, before, retracts)?.after_local(next)?;
                next += call.columns.len();
                call
            } else {
                BoundCall::bind(call, input, retracts)?
            });
        }
        if phase == v1::AggregatePhase::Global && input.len() < next + usize::from(retracts) {
            return Err(EngineError::Validation(format!(
                "a GLOBAL aggregate needs {} columns from its LOCAL phase, but its input has {}",
                next + usize::from(retracts),
                input.len()
            )));
        }
        let global_rows = phase == v1::AggregatePhase::Global && retracts;
        Ok(AggregatePlan {
            keys: KeyLayout::new(keys.iter().map(|&k| k as usize).collect(), types)?,
            key_fields,
            calls: bound,
            retracts,
            row_count_column: global_rows.then_some(next),
            timed: false,
        })
    }

    /// The columns of keys and results.
    pub fn output_fields(&self) -> Vec<RowField> {
        self.key_fields.iter().cloned().chain(self.calls.iter().map(|c| c.field.clone())).collect()
    }

    /// The types of the key columns as state declares them.
    pub fn key_schema(&self) -> String {
        self.key_fields.iter().map(|f| f.data_type.logical.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The accumulators as state declares them.
    pub fn value_schema(&self) -> String {
        let calls = self.calls.iter().map(|call| call.declaration.clone());
        calls.chain(self.retracts.then(|| "rows".to_owned())).collect::<Vec<_>>().join(", ")
    }

    /// The rows that each input row stands for; `None`: one each.
    pub fn row_changes(&self, batch: &RecordBatch, signs: Option<&[i8]>) -> Result<Option<Vec<i64>>> {
        if let Some(column) = self.row_count_column {
            return Ok(Some(int_values(batch.column(column))?.0.to_vec()));
        }
        Ok(signs.map(|signs| signs.iter().map(|&s| i64::from(s)).collect()))
    }
}

/// See the [module](self).
pub struct GroupStore {
    keys: KeyTable,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// Additions less retractions, when the input retracts.
    rows: ChunkedVec<i64>,
    /// When the group changed last, when the plan is timed.
    changed: ChunkedVec<i64>,
    present: GroupBits,
    dirty: GroupBits,
    stored: GroupBits,
    touched: Touched,
    scratch: FilterScratch,
}

impl GroupStore {
    /// Without groups.
    pub fn new(plan: &AggregatePlan, capacity: usize) -> Result<GroupStore> {
        Ok(GroupStore {
            keys: plan.keys.table(capacity),
            accumulators: plan.calls.iter().map(|c| create(&c.spec)).collect::<Result<_>>()?,
            rows: ChunkedVec::default(),
            changed: ChunkedVec::default(),
            present: GroupBits::default(),
            dirty: GroupBits::default(),
            stored: GroupBits::default(),
            touched: Touched::default(),
            scratch: FilterScratch::default(),
        })
    }

    /// Number of keys.
    pub fn live(&self) -> usize {
        self.keys.live()
    }

    /// All group numbers are below this.
    pub fn groups_end(&self) -> usize {
        self.keys.groups_end()
    }

    /// See [`KeyTable::intern`]. New groups are not present yet.
    pub fn intern(
        &mut self,
        plan: &AggregatePlan,
        keys: &BatchKeys,
        rows: usize,
        selection: Option<&[u32]>,
        groups: &mut Vec<u32>,
        created: &mut Vec<u32>,
    ) {
        self.keys.intern(keys, rows, selection, groups, created);
        let len = self.keys.groups_end();
        self.accumulators.iter_mut().for_each(|a| a.resize(len));
        if plan.retracts {
            self.rows.resize(len);
        }
        if plan.timed {
            self.changed.resize(len);
        }
    }

    /// Adds rows of `records` to the accumulators of their groups.
    pub fn apply(
        &mut self,
        plan: &AggregatePlan,
        records: &RecordBatch,
        groups: &[u32],
        selection: Option<&[u32]>,
        signs: Option<&[i8]>,
    ) -> Result<()> {
        self.touched.set(groups, self.keys.groups_end());
        let rows = Rows { groups, selection, signs, touched: &self.touched };
        for (call, accumulator) in plan.calls.iter().zip(&mut self.accumulators) {
            call.apply(accumulator.as_mut(), records, &rows, &mut self.scratch)?;
        }
        Ok(())
    }

    /// Adds `changes` (or the signs) to the row counts of the groups.
    pub fn count_rows(&mut self, groups: &[u32], changes: impl Iterator<Item = i64>) {
        self.touched.set(groups, self.keys.groups_end());
        let mut rows = self.rows.writer(&self.touched);
        groups.iter().zip(changes).for_each(|(&g, change)| *rows.at(g) += change);
    }

    /// Number of rows of a group of a retracting plan.
    #[inline]
    pub fn rows_of(&self, group: u32) -> i64 {
        *self.rows.get(group)
    }

    /// Sets the number of rows.
    #[inline]
    pub fn set_rows(&mut self, group: u32, rows: i64) {
        *self.rows.get_mut(group) = rows;
    }

    /// When the group of a timed plan changed last.
    pub fn changed_at(&self, group: u32) -> i64 {
        *self.changed.get(group)
    }

    /// Remembers the time of a change.
    pub fn set_changed(&mut self, group: u32, now_ms: i64) {
        *self.changed.get_mut(group) = now_ms;
    }

    /// Whether the group holds rows.
    #[inline]
    pub fn is_present(&self, group: u32) -> bool {
        self.present.contains(group)
    }

    /// All groups that hold rows, ascending.
    pub fn present(&self) -> Vec<u32> {
        self.present.iter().collect()
    }

    /// Whether the database has an entry of the group.
    pub fn is_stored(&self, group: u32) -> bool {
        self.stored.contains(group)
    }

    /// Whether the database has any entry of this store's groups.
    pub fn any_stored(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Marks a group as present or not, and as changed.
    #[inline]
    pub fn mark(&mut self, group: u32, present: bool) {
        self.dirty.insert(group);
        if present {
            self.present.insert(group);
        } else {
            self.present.remove(group);
        }
    }

    /// Marks groups as present and as changed.
    pub fn mark_present(&mut self, groups: &[u32]) {
        self.dirty.insert_all(groups);
        self.present.insert_all(groups);
    }

    /// Notes that the database has an entry of the group.
    pub fn mark_stored(&mut self, group: u32) {
        self.stored.insert(group);
    }

    /// The results of `groups`, one column a call.
    pub fn evaluate(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter().map(|a| a.evaluate(groups)).collect()
    }

    /// The accumulator columns of `groups`, of all calls.
    pub fn partial(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for accumulator in &self.accumulators {
            columns.extend(accumulator.partial(groups)?);
        }
        Ok(columns)
    }

    /// The key columns of `groups`.
    pub fn key_columns(&self, plan: &AggregatePlan, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.keys.columns(groups, &plan.keys.types)
    }

    /// Empties the accumulators of `groups`, which keep their keys.
    pub fn reset(&mut self, plan: &AggregatePlan, groups: &[u32]) {
        self.accumulators.iter_mut().for_each(|a| a.reset(groups));
        if plan.retracts {
            groups.iter().for_each(|&g| *self.rows.get_mut(g) = 0);
        }
    }

    /// Forgets `groups`: keys, accumulators, marks. What the database has of them is the caller's.
    pub fn remove(&mut self, plan: &AggregatePlan, groups: &[u32]) {
        self.reset(plan, groups);
        for &group in groups {
            self.present.remove(group);
            self.dirty.remove(group);
            self.stored.remove(group);
        }
        self.keys.remove(groups);
    }

    /// Adds all groups of `other` that hold rows to this store.
    pub fn absorb(&mut self, plan: &AggregatePlan, other: &GroupStore) -> Result<()> {
        const STEP: usize = 8192;
        let (mut groups, mut created) = (Vec::new(), Vec::new());
        for theirs in other.present().chunks(STEP) {
            let keys = other.keys.batch_keys(theirs);
            self.intern(plan, &keys, theirs.len(), None, &mut groups, &mut created);
            self.touched.set(&groups, self.keys.groups_end());
            let rows = Rows { groups: &groups, selection: None, signs: None, touched: &self.touched };
            for (mine, theirs_of) in self.accumulators.iter_mut().zip(&other.accumulators) {
                mine.merge(&theirs_of.partial(theirs)?, &rows)?;
            }
            if plan.retracts {
                let changes: Vec<i64> = theirs.iter().map(|&g| other.rows_of(g)).collect();
                self.count_rows(&groups, changes.into_iter());
            }
            self.mark_present(&groups);
        }
        Ok(())
    }

    /// Sets a group to what the database has of it.
    pub fn load(&mut self, plan: &AggregatePlan, group: u32, value: &[u8]) -> Result<()> {
        let mut input = value;
        let [format, flags, s0, s1] = take_array(&mut input)?;
        let schema = u16::from_le_bytes([s0, s1]);
        if format != VALUE_FORMAT || schema != VALUE_SCHEMA {
            return Err(EngineError::Internal(format!(
                "state of an aggregate has format {format} and schema {schema}, which this version cannot read"
            )));
        }
        if flags & HAS_ROWS != 0 {
            let rows = i64::from_le_bytes(take_array(&mut input)?);
            if plan.retracts {
                *self.rows.get_mut(group) = rows;
            }
        }
        if flags & HAS_TIME != 0 {
            let changed = i64::from_le_bytes(take_array(&mut input)?);
            if plan.timed {
                *self.changed.get_mut(group) = changed;
            }
        }
        for accumulator in &mut self.accumulators {
            accumulator.decode(group, &mut input)?;
        }
        self.present.insert(group);
        self.stored.insert(group);
        Ok(())
    }

    /// What differs from the database, by reference; from now on it counts as written. `None`:
    /// nothing.
    pub fn freeze(&mut self, plan: &AggregatePlan) -> Option<FrozenGroups> {
        let (puts, deletes) = self.dirty.take_changes(&self.present, &mut self.stored);
        let chunks = puts.chunks_with(&deletes);
        if chunks.is_empty() {
            return None;
        }
        let optional = |values: &ChunkedVec<i64>, on: bool| on.then(|| values.freeze(&chunks));
        Some(FrozenGroups {
            keys: self.keys.freeze(&chunks),
            accumulators: self.accumulators.iter().map(|a| a.freeze(&chunks)).collect(),
            rows: optional(&self.rows, plan.retracts),
            changed: optional(&self.changed, plan.timed),
            puts,
            deletes,
            chunks,
        })
    }

    /// Approximate memory in bytes.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.accumulators.iter().map(|a| a.bytes()).sum::<usize>() + self.rows.len() * 8
    }
}

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

/// A change of the database: `None` deletes the key.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// The dirty groups of a store as they were at a freeze.
pub struct FrozenGroups {
    keys: FrozenKeys,
    accumulators: Vec<Box<dyn FrozenAccumulator>>,
    rows: Option<FrozenChunks<i64>>,
    changed: Option<FrozenChunks<i64>>,
    puts: GroupBits,
    deletes: GroupBits,
    /// The numbers of the frozen chunks.
    chunks: Vec<usize>,
}

impl FrozenGroups {
    /// Appends the changes, in no particular order.
    pub fn entries(
        &self,
        plan: &Arc<AggregatePlan>,
        address: CellAddress,
        time: Option<i64>,
        out: &mut Vec<Change>,
    ) -> Result<()> {
        const STEP: usize = 8192;
        for groups in self.located(&self.deletes).chunks(STEP) {
            let columns = self.keys.columns(groups, &plan.keys.types)?;
            let keys = address.database_keys(&columns, groups.len(), time)?;
            out.extend(keys.into_iter().map(|key| (key, None)));
        }
        for groups in self.located(&self.puts).chunks(STEP) {
            let columns = self.keys.columns(groups, &plan.keys.types)?;
            let keys = address.database_keys(&columns, groups.len(), time)?;
            out.extend(keys.into_iter().zip(groups).map(|(key, group)| (key, Some(self.value(*group)))));
        }
        Ok(())
    }

    /// Where the groups of `bits` are in the frozen chunks.
    fn located(&self, bits: &GroupBits) -> Vec<FrozenGroup> {
        let mut index = 0;
        let locate = |group: u32| {
            while self.chunks[index] != chunk_of(group) {
                index += 1;
            }
            FrozenGroup { index, offset: offset_of(group), group }
        };
        bits.iter().map(locate).collect()
    }

    fn value(&self, group: FrozenGroup) -> Vec<u8> {
        let flags = u8::from(self.rows.is_some()) * HAS_ROWS + u8::from(self.changed.is_some()) * HAS_TIME;
        let [s0, s1] = VALUE_SCHEMA.to_le_bytes();
        let mut value = vec![VALUE_FORMAT, flags, s0, s1];
        for numbers in [&self.rows, &self.changed].into_iter().flatten() {
            value.extend_from_slice(&numbers.get(group.index, group.offset).to_le_bytes());
        }
        self.accumulators.iter().for_each(|a| a.encode(group.index, group.offset, &mut value));
        value
    }
}
