//! Groups with their accumulators: the memory tier of the aggregations.
//!
//! A [`GroupStore`] is a key table, the accumulators of all calls and what the state needs to know
//! of each group: whether it is *present* (holds rows), *dirty* (differs from the database) and
//! *stored* (has an entry in the database, or will have once what was frozen is written).
//! [`GroupStore::freeze`] takes what is dirty by reference; [`frozen`] encodes it off the task's thread.
//! Until it is written (its *generation*, see [`GroupStore::written`]) its groups stay in memory; later
//! [`GroupStore::victims`] chooses among those that equal the database which to forget, see [`evict`].
//!
//! A value in the database is `[format u8][flags u8][schema u16 LE]`, with flag 1 the number of rows
//! (i64 LE), with flag 2 the time of the last change (ms, i64 LE), then the accumulators in order.

pub mod evict;
pub mod frozen;
pub mod load;
pub mod plan;

use arrow::array::{ArrayRef, RecordBatch};

use self::evict::InFlight;
pub use self::frozen::{CellAddress, FrozenGroups};
pub use self::plan::AggregatePlan;
use super::keys::{BatchKeys, KeyTable};
use crate::aggregates::chunks::{ChunkedVec, GroupBits, Touched};
use crate::aggregates::{Accumulator, AggregateSpec, BoundCall, FilterScratch, Rows, create};
use crate::error::Result;

const VALUE_FORMAT: u8 = 1;
const HAS_ROWS: u8 = 1;
const HAS_TIME: u8 = 2;

/// Version of what accumulators write.
pub const VALUE_SCHEMA: u16 = 1;
/// The same of a group with a large set, whose elements are entries behind its own.
const VALUE_SCHEMA_LARGE: u16 = 2;
/// Calls with more than this number keep no elements: they are told apart by a byte.
const MOST_CALLS: usize = 250;

/// Whether a value of the database that remembers its last change is older than `ttl_ms`.
pub fn has_expired(value: &[u8], now_ms: i64, ttl_ms: i64) -> bool {
    let Some((&[format, flags, _, _], rest)) = value.split_first_chunk() else { return false };
    let rest = if flags & HAS_ROWS != 0 { rest.get(8..).unwrap_or_default() } else { rest };
    match rest.first_chunk() {
        Some(changed) if format == VALUE_FORMAT && flags & HAS_TIME != 0 => {
            now_ms.saturating_sub(i64::from_le_bytes(*changed)) >= ttl_ms
        }
        _ => false,
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
    /// Frozen and not written yet, the oldest first.
    in_flight: Vec<InFlight>,
    /// Used since the last look for victims; kept while memory is short.
    used: GroupBits,
    tracks_use: bool,
    /// Where the last look for victims ended: a word of bits.
    hand: usize,
    /// Where the last partial freeze ended: a chunk.
    frozen_up_to: usize,
    /// Bytes of each group in chunks.
    group_bytes: usize,
    /// Whether accumulators own memory beside their chunks, and how much.
    owns_heap: bool,
    heap_bytes: usize,
}

impl GroupStore {
    /// Without groups.
    pub fn new(plan: &AggregatePlan, capacity: usize) -> Result<GroupStore> {
        let keys = plan.keys.table(capacity);
        // What expires in the database goes by its own entry: elements must not stay behind.
        let keeps_elements = !plan.timed && plan.calls.len() <= MOST_CALLS;
        let spec = |c: &BoundCall| AggregateSpec { keeps_elements, ..c.spec.clone() };
        let accumulators: Vec<_> = plan.calls.iter().map(|c| create(&spec(c))).collect::<Result<_>>()?;
        let states: usize = accumulators.iter().map(|a| a.state_bytes()).sum();
        let numbers = usize::from(plan.retracts) + usize::from(plan.timed);
        Ok(GroupStore {
            group_bytes: keys.group_bytes() + states + numbers * size_of::<i64>() + 1,
            owns_heap: accumulators.iter().any(|a| a.owns_heap()),
            heap_bytes: 0,
            in_flight: Vec::new(),
            used: GroupBits::default(),
            tracks_use: false,
            hand: 0,
            frozen_up_to: 0,
            keys,
            accumulators,
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
        self.touch(groups);
        let owners = self.begin_heap_change(groups);
        let rows = Rows { groups, selection, signs, touched: &self.touched };
        for (call, accumulator) in plan.calls.iter().zip(&mut self.accumulators) {
            call.apply(accumulator.as_mut(), records, &rows, &mut self.scratch)?;
        }
        self.end_heap_change(&owners);
        Ok(())
    }

    fn touch(&mut self, groups: &[u32]) {
        self.touched.set(groups, self.keys.groups_end());
        self.in_flight.iter_mut().for_each(|frozen| frozen.note_copies(&self.touched));
    }

    /// Takes what `groups` own beside their chunks off the account; gives those groups, once each.
    fn begin_heap_change(&mut self, groups: &[u32]) -> Vec<u32> {
        if !self.owns_heap {
            return Vec::new();
        }
        let mut owners = groups.to_vec();
        owners.sort_unstable();
        owners.dedup();
        self.heap_bytes = self.heap_bytes.saturating_sub(self.heap_of(&owners));
        owners
    }

    fn end_heap_change(&mut self, owners: &[u32]) {
        self.heap_bytes += self.heap_of(owners);
    }

    fn heap_of(&self, groups: &[u32]) -> usize {
        if !self.owns_heap || groups.is_empty() {
            return 0;
        }
        self.accumulators.iter().map(|a| a.heap_bytes(groups)).sum()
    }

    /// Adds `changes` (or the signs) to the row counts of the groups.
    pub fn count_rows(&mut self, groups: &[u32], changes: impl Iterator<Item = i64>) {
        self.touch(groups);
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

    /// Whether the database has any entry of this store's groups, or will have.
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
        self.note_use(groups);
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
        self.heap_bytes = self.heap_bytes.saturating_sub(self.heap_of(groups));
        self.accumulators.iter_mut().for_each(|a| a.reset(groups));
        // A state may own memory though it is empty.
        self.heap_bytes += self.heap_of(groups);
        if plan.retracts {
            groups.iter().for_each(|&g| *self.rows.get_mut(g) = 0);
        }
    }

    /// Forgets `groups`: keys, accumulators, marks. What the database has of them is the caller's.
    pub fn remove(&mut self, plan: &AggregatePlan, groups: &[u32]) {
        if groups.is_empty() {
            return;
        }
        self.reset(plan, groups);
        self.heap_bytes = self.heap_bytes.saturating_sub(self.heap_of(groups));
        self.accumulators.iter_mut().for_each(|a| a.forget(groups));
        for &group in groups {
            self.present.remove(group);
            self.dirty.remove(group);
            self.stored.remove(group);
        }
        self.keys.remove(groups);
    }

    /// Adds all groups of `other` that hold rows to this store.
    pub fn absorb(&mut self, plan: &AggregatePlan, other: &GroupStore) -> Result<()> {
        self.absorb_groups(plan, other, &other.present())
    }

    /// Adds the given groups of `other` to this store.
    pub fn absorb_groups(&mut self, plan: &AggregatePlan, other: &GroupStore, theirs: &[u32]) -> Result<()> {
        const STEP: usize = 8192;
        let (mut groups, mut created) = (Vec::new(), Vec::new());
        for theirs in theirs.chunks(STEP) {
            let keys = other.keys.batch_keys(theirs);
            self.intern(plan, &keys, theirs.len(), None, &mut groups, &mut created);
            self.touch(&groups);
            let owners = self.begin_heap_change(&groups);
            let rows = Rows { groups: &groups, selection: None, signs: None, touched: &self.touched };
            for (mine, theirs_of) in self.accumulators.iter_mut().zip(&other.accumulators) {
                mine.merge(&theirs_of.partial(theirs)?, &rows)?;
            }
            self.end_heap_change(&owners);
            if plan.retracts {
                let changes: Vec<i64> = theirs.iter().map(|&g| other.rows_of(g)).collect();
                self.count_rows(&groups, changes.into_iter());
            }
            self.mark_present(&groups);
        }
        Ok(())
    }

    /// The groups of `keys`; `None` where a key is unknown.
    pub fn find(&self, keys: &BatchKeys, rows: usize) -> Vec<Option<u32>> {
        self.keys.find(keys, rows)
    }
}
