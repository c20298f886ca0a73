//! GROUP BY without windows: one updating row a key.
//!
//! A batch is a mini-batch: all its rows are folded first, then each key it touched emits at most one
//! net change (+I; -U and +U; -D), in order of the last row that touched the key. A result that did
//! not change is not emitted, except with a time to live, where it keeps consumers' state alive. The
//! retraction of a row of an unknown key is ignored, and a key whose rows have all been taken back
//! starts anew, both decided row by row as Flink does.
//!
//! State: a point cell with one entry a key. Of a *complete* key group memory has all entries, so a
//! miss is an absence; in others the keys that a batch misses are looked up together. All are complete
//! in a task that was not restored; when memory is short, keys that the database has are forgotten
//! ([`super::memory_tier`]); after a restore key groups are loaded in the background while there is room.

mod residence;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{interleave, kernels::cmp, take};
use arrow::datatypes::{DataType, SchemaRef};
use hurtig_graph::RowSchema;
use hurtig_graph::aggregates::AggregateFunction;
use hurtig_proto::v1;
use hurtig_state::backend::{CellDeclaration, CellKind, FrozenCell};

use self::residence::State;
use super::group_store::frozen::write_frozen;
use super::group_store::{AggregatePlan, CellAddress, GroupStore, VALUE_SCHEMA, has_expired};
use super::keys::BatchKeys;
use super::{emit_sliced, record_batch, signs_of};
use crate::batch::{Batch, RowKind};
use crate::clock::Clock;
use crate::error::{EngineError, Result};
use crate::operator::{Collector, Flow, Operator, OperatorContext, OperatorSnapshot};

/// See the [module](self).
pub struct GroupAggregate {
    plan: Arc<AggregatePlan>,
    store: GroupStore,
    schema: SchemaRef,
    emit_update_before: bool,
    ttl_ms: i64,
    next_sweep_ms: i64,
    /// The result of a touched key always differs from the one before.
    always_changes: bool,
    /// Equal keys may come with unequal values (0.0 and -0.0): rows leave under the store's keys.
    normalised_keys: bool,
    state: Option<State>,
    clock: Option<Arc<dyn Clock>>,
    scratch: Scratch,
}

/// Buffers that are reused from batch to batch.
#[derive(Default)]
struct Scratch {
    keys: BatchKeys,
    groups: Vec<u32>,
    created: Vec<u32>,
    /// By group: the last row of this batch.
    last_row: Vec<u32>,
}

/// The keys that a batch touches, in order of their last row.
struct TouchedKeys {
    groups: Vec<u32>,
    rows: Vec<u32>,
    existed: Vec<bool>,
}

impl GroupAggregate {
    /// Over rows of `input`; phases SINGLE and GLOBAL.
    ///
    /// # Errors
    /// Keys or calls that do not fit the input.
    pub fn new(aggregate: &v1::GroupAggregate, input: &RowSchema) -> Result<GroupAggregate> {
        let before = aggregate.aggregate_input.as_ref().map(RowSchema::from_proto).transpose()?;
        let mut plan = AggregatePlan::new(
            &aggregate.keys,
            &aggregate.aggregates,
            aggregate.phase(),
            input,
            before.as_ref(),
            aggregate.input_retracts,
        )?;
        let ttl_ms = i64::try_from(aggregate.state_ttl_ms).unwrap_or(i64::MAX);
        plan.timed = ttl_ms > 0;
        let always_changes = !plan.retracts
            && plan
                .calls
                .iter()
                .any(|c| c.spec.function == AggregateFunction::Count && c.spec.arguments.is_empty() && !c.filtered);
        let normalised_keys = plan.keys.types.iter().any(holds_floats);
        Ok(GroupAggregate {
            store: GroupStore::new(&plan, 0)?,
            schema: RowSchema::new(plan.output_fields()).to_arrow(),
            plan: Arc::new(plan),
            emit_update_before: aggregate.emit_update_before,
            ttl_ms,
            next_sweep_ms: i64::MAX,
            always_changes,
            normalised_keys,
            state: None,
            clock: None,
            scratch: Scratch::default(),
        })
    }

    fn touched_keys(&mut self) -> TouchedKeys {
        let (groups, last_row) = (&self.scratch.groups, &mut self.scratch.last_row);
        if last_row.len() < self.store.groups_end() {
            last_row.resize(self.store.groups_end(), 0);
        }
        for (row, &group) in groups.iter().enumerate() {
            last_row[group as usize] = row as u32;
        }
        // Whether a row is its key's last is a coin toss: no branch on it.
        let mut touched =
            TouchedKeys { groups: vec![0; groups.len()], rows: vec![0; groups.len()], existed: Vec::new() };
        let mut count = 0;
        for (row, &group) in groups.iter().enumerate() {
            (touched.groups[count], touched.rows[count]) = (group, row as u32);
            count += usize::from(last_row[group as usize] == row as u32);
        }
        touched.groups.truncate(count);
        touched.rows.truncate(count);
        touched
    }

    /// Empties touched keys that have outlived their time, and says which keys hold rows.
    fn expire_touched(&mut self, touched: &mut TouchedKeys, now_ms: i64) {
        let mut expired = Vec::new();
        touched.existed.reserve(touched.groups.len());
        for &group in &touched.groups {
            let holds_rows = !self.plan.retracts || self.store.rows_of(group) > 0;
            let present = self.store.is_present(group) && holds_rows;
            let old = present && self.ttl_ms > 0 && now_ms.saturating_sub(self.store.changed_at(group)) >= self.ttl_ms;
            if old {
                expired.push(group);
            }
            touched.existed.push(present && !old);
        }
        self.store.reset(&self.plan, &expired);
    }

    /// Adds the rows of the batch to their groups.
    fn fold(&mut self, batch: &Batch) -> Result<()> {
        let signs = signs_of(batch);
        let records = batch.records();
        let groups = std::mem::take(&mut self.scratch.groups);
        if !self.plan.retracts {
            if signs.is_some() {
                return Err(EngineError::Internal(
                    "a retraction reached an aggregation that was planned for append-only input".into(),
                ));
            }
            self.store.apply(&self.plan, records, &groups, None, None)?;
        } else if self.plan.row_count_column.is_some() {
            let changes = self.plan.row_changes(records, None)?.unwrap_or_default();
            self.store.count_rows(&groups, changes.into_iter());
            self.store.apply(&self.plan, records, &groups, None, None)?;
        } else if let Some(signs) = signs {
            self.fold_retracting(records, &groups, &signs)?;
        } else {
            self.store.count_rows(&groups, std::iter::repeat(1));
            self.store.apply(&self.plan, records, &groups, None, None)?;
        }
        self.scratch.groups = groups;
        Ok(())
    }

    /// Follows the row counts row by row: a retraction without a row to take back is ignored, and
    /// what lies before a key's last fall to zero is void.
    fn fold_retracting(&mut self, records: &RecordBatch, groups: &[u32], signs: &[i8]) -> Result<()> {
        let mut kept = vec![true; groups.len()];
        let mut restarts: Vec<(u32, usize)> = Vec::new();
        for (row, (&group, &sign)) in groups.iter().zip(signs).enumerate() {
            let rows = self.store.rows_of(group) + i64::from(sign);
            if rows < 0 {
                kept[row] = false;
                continue;
            }
            self.store.set_rows(group, rows);
            if rows == 0 {
                restarts.push((group, row));
            }
        }
        if restarts.is_empty() && kept.iter().all(|k| *k) {
            return self.store.apply(&self.plan, records, groups, None, Some(signs));
        }
        // Of several restarts of a key the last one counts; the row counts stay.
        let mut last = hashbrown::HashMap::with_hasher(foldhash::fast::FixedState::default());
        restarts.iter().for_each(|(group, row)| {
            last.insert(*group, *row);
        });
        let mut emptied: Vec<u32> = last.keys().copied().collect();
        emptied.sort_unstable();
        let counts: Vec<i64> = emptied.iter().map(|&g| self.store.rows_of(g)).collect();
        self.store.reset(&self.plan, &emptied);
        emptied.iter().zip(counts).for_each(|(&g, rows)| self.store.set_rows(g, rows));
        let (mut selection, mut chosen, mut chosen_signs) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &group) in groups.iter().enumerate() {
            if kept[row] && last.get(&group).is_none_or(|restart| row > *restart) {
                selection.push(row as u32);
                chosen.push(group);
                chosen_signs.push(signs[row]);
            }
        }
        self.store.apply(&self.plan, records, &chosen, Some(&selection), Some(&chosen_signs))
    }

    /// Marks touched keys, and gives those free that hold no row any more.
    fn settle(&mut self, touched: &TouchedKeys, exist: &[bool], now_ms: i64) {
        if !self.plan.retracts && !self.plan.timed {
            self.store.mark_present(&touched.groups);
            return;
        }
        self.store.note_use(&touched.groups);
        let mut gone = Vec::new();
        for (&group, &exists) in touched.groups.iter().zip(exist) {
            if exists {
                self.store.mark(group, true);
                if self.plan.timed {
                    self.store.set_changed(group, now_ms);
                }
            } else if self.plan.row_count_column.is_some() && self.store.rows_of(group) != 0 {
                // Behind a LOCAL phase the rows of another subtask may still be missing.
                self.store.mark(group, true);
            } else {
                gone.push(group);
            }
        }
        self.forget(&gone);
    }

    /// Drops keys that hold no row. What the database has of a key stays known until it is deleted there.
    fn forget(&mut self, gone: &[u32]) {
        let (known, unknown): (Vec<u32>, Vec<u32>) =
            gone.iter().copied().partition(|&g| self.store.is_known_to_database(g));
        self.store.reset(&self.plan, &known);
        known.iter().for_each(|&g| self.store.mark(g, false));
        self.store.remove(&self.plan, &unknown);
    }

    fn emit_changes(
        &self,
        batch: &Batch,
        touched: &TouchedKeys,
        exist: &[bool],
        old: Option<&[ArrayRef]>,
        new: &[ArrayRef],
        out: &mut dyn Collector,
    ) -> Result<()> {
        let append = !self.plan.retracts && !self.emit_update_before;
        if append && (self.always_changes || self.ttl_ms > 0) {
            // One row a key, whatever it was before.
            let kind = |existed: &bool| if *existed { RowKind::UpdateAfter as u8 } else { RowKind::Insert as u8 };
            let kinds = touched.existed.iter().map(kind).collect();
            return self.emit_rows(batch, touched, 0..touched.rows.len(), new.to_vec(), kinds, out);
        }
        let changed = match old {
            Some(old) if self.ttl_ms == 0 && !self.always_changes => changed_rows(old, new, &touched.existed)?,
            _ => BooleanBuffer::new_set(touched.groups.len()),
        };
        let mut changes = Changes::with_capacity(2 * touched.groups.len());
        for (i, (&existed, &exists)) in touched.existed.iter().zip(exist).enumerate() {
            match (existed, exists) {
                (false, true) => changes.push(RowKind::Insert, 1, i),
                (true, true) if changed.value(i) => {
                    if self.emit_update_before {
                        changes.push(RowKind::UpdateBefore, 0, i);
                    }
                    changes.push(RowKind::UpdateAfter, 1, i);
                }
                (true, false) => changes.push(RowKind::Delete, 0, i),
                _ => {}
            }
        }
        let mut results = Vec::with_capacity(new.len());
        for (i, new) in new.iter().enumerate() {
            // Without old values nothing existed, so no change takes one.
            let old = old.map_or(new, |o| &o[i]);
            results.push(interleave(&[old.as_ref(), new.as_ref()], &changes.sources)?);
        }
        self.emit_rows(batch, touched, changes.sources.iter().map(|(_, i)| *i), results, changes.kinds, out)
    }

    /// Emits results under the given touched keys.
    fn emit_rows(
        &self,
        batch: &Batch,
        touched: &TouchedKeys,
        keys: impl Iterator<Item = usize>,
        results: Vec<ArrayRef>,
        kinds: Vec<u8>,
        out: &mut dyn Collector,
    ) -> Result<()> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        if self.normalised_keys {
            let groups: Vec<u32> = keys.map(|i| touched.groups[i]).collect();
            columns.extend(self.store.key_columns(&self.plan, &groups)?);
        } else {
            let rows = UInt32Array::from_iter_values(keys.map(|i| touched.rows[i]));
            for &key in &self.plan.keys.columns {
                columns.push(take(batch.column(key), &rows, None)?);
            }
        }
        columns.extend(results);
        let rows = kinds.len();
        emit_sliced(record_batch(&self.schema, columns, rows)?, Some(kinds), out);
        Ok(())
    }

    /// Drops all keys that have outlived their time.
    fn sweep(&mut self, now_ms: i64) {
        let old: Vec<u32> = self
            .store
            .present()
            .into_iter()
            .filter(|&g| now_ms.saturating_sub(self.store.changed_at(g)) >= self.ttl_ms)
            .collect();
        self.forget(&old);
    }

    fn now(&self) -> i64 {
        self.clock.as_ref().map_or(0, |c| c.now_ms())
    }
}

fn holds_floats(ty: &DataType) -> bool {
    match ty {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(item) | DataType::Map(item, _) => holds_floats(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| holds_floats(f.data_type())),
        _ => false,
    }
}

/// The rows to emit: their kinds, and for each the source (0: before, 1: after) and touched key.
struct Changes {
    kinds: Vec<u8>,
    sources: Vec<(usize, usize)>,
}

impl Changes {
    fn with_capacity(rows: usize) -> Changes {
        Changes { kinds: Vec::with_capacity(rows), sources: Vec::with_capacity(rows) }
    }

    fn push(&mut self, kind: RowKind, source: usize, key: usize) {
        self.kinds.push(kind as u8);
        self.sources.push((source, key));
    }
}

/// For each row whether any column differs, NULLs being equal. Rows that did not exist count as
/// changed.
fn changed_rows(old: &[ArrayRef], new: &[ArrayRef], existed: &[bool]) -> Result<BooleanBuffer> {
    let mut changed = BooleanBuffer::from_iter(existed.iter().map(|e| !e));
    for (old, new) in old.iter().zip(new) {
        let differs = match old.data_type() {
            DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => {
                let differs = |i: usize| existed[i] && old.slice(i, 1) != new.slice(i, 1);
                BooleanArray::from_iter((0..old.len()).map(|i| Some(differs(i))))
            }
            _ => cmp::distinct(old, new)?,
        };
        changed = &changed | differs.values();
    }
    Ok(changed)
}

impl GroupAggregate {
    fn cell(&self) -> CellDeclaration {
        CellDeclaration {
            name: "groups".into(),
            kind: CellKind::Point,
            key_schema: self.plan.key_schema(),
            value_schema: self.plan.value_schema(),
            schema_version: VALUE_SCHEMA,
        }
    }
}

impl Operator for GroupAggregate {
    fn state_cells(&self) -> Vec<CellDeclaration> {
        vec![self.cell()]
    }

    fn open(&mut self, context: OperatorContext) -> Result<()> {
        let declaration = self.cell();
        let table = context.keyed.register(&context.uid, &declaration)?;
        if self.ttl_ms > 0 {
            let (clock, ttl_ms) = (Arc::clone(&context.clock), self.ttl_ms);
            let expired = move |value: &[u8]| has_expired(value, clock.now_ms(), ttl_ms);
            context.keyed.expire(table, Arc::new(expired));
        }
        let address = CellAddress { table, max_parallelism: context.keyed.max_parallelism() };
        self.state = Some(State::new(&context, address));
        self.clock = Some(context.clock);
        if self.ttl_ms > 0 {
            self.next_sweep_ms = self.now().saturating_add(self.ttl_ms);
        }
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        if batch.is_empty() {
            return Ok(Flow::Done);
        }
        let now = if self.plan.timed { self.now() } else { 0 };
        let Scratch { keys, groups, created, .. } = &mut self.scratch;
        self.plan.keys.read(batch.records(), keys)?;
        created.clear();
        self.store.intern(&self.plan, keys, batch.num_rows(), None, groups, created);
        self.load_created()?;
        let mut touched = self.touched_keys();
        self.expire_touched(&mut touched, now);
        let needs_old = self.plan.retracts || self.emit_update_before || (!self.always_changes && self.ttl_ms == 0);
        let any_existed = touched.existed.iter().any(|e| *e);
        let old = if needs_old && any_existed { Some(self.store.evaluate(&touched.groups)?) } else { None };
        self.fold(&batch)?;
        let exist: Vec<bool> = match self.plan.retracts {
            true => touched.groups.iter().map(|&g| self.store.rows_of(g) > 0).collect(),
            false => vec![true; touched.groups.len()],
        };
        let new = self.store.evaluate(&touched.groups)?;
        self.emit_changes(&batch, &touched, &exist, old.as_deref(), &new, out)?;
        self.settle(&touched, &exist, now);
        self.keep_within_memory()?;
        Ok(Flow::Done)
    }

    fn next_timer_ms(&self) -> Option<i64> {
        let sweep = (self.ttl_ms > 0 && self.store.live() > 0).then_some(self.next_sweep_ms);
        let state = self.state.as_ref().and_then(State::next_timer_ms);
        sweep.into_iter().chain(state).min()
    }

    fn timers(&mut self, now_ms: i64, _out: &mut dyn Collector) -> Result<Flow> {
        if self.ttl_ms > 0 && now_ms >= self.next_sweep_ms {
            self.sweep(now_ms);
            self.next_sweep_ms = now_ms.saturating_add((self.ttl_ms / 4).max(1000));
        }
        self.load_some(now_ms)?;
        self.keep_within_memory()?;
        Ok(Flow::Done)
    }

    fn awaits_write_back(&self) -> bool {
        self.state.as_ref().is_some_and(State::waits)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        let Some(state) = &self.state else { return Ok(OperatorSnapshot::default()) };
        let (address, plan) = (state.address(), Arc::clone(&self.plan));
        let Some(frozen) = self.store.freeze(&self.plan, state.generation()) else {
            return Ok(OperatorSnapshot::default());
        };
        let cell: FrozenCell = Box::new(move |writer| write_frozen(&[(None, frozen)], &plan, address, writer));
        Ok(OperatorSnapshot { keyed: vec![cell], ..OperatorSnapshot::default() })
    }

    fn close(&mut self) {
        // Memory is given back now; the operator object may live until its task is reaped.
        if let Ok(empty) = GroupStore::new(&self.plan, 0) {
            self.store = empty;
        }
        self.scratch = Scratch::default();
        // Gives the slot's memory back.
        self.state = None;
    }
}

#[cfg(test)]
mod tests;
