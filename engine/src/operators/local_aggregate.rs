//! Aggregation before the shuffle: folds rows by key (and window slice) and emits accumulator
//! columns, so that fewer rows travel. Nothing is kept across a barrier or watermark: everything is
//! flushed there, and when enough has gathered or the linger time is over.
//!
//! Output: see `hurtig_graph::aggregates::local_output`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::SchemaRef;
use hurtig_graph::aggregates::local_output;
use hurtig_graph::{GraphError, RowSchema};
use hurtig_proto::v1;

use super::group_store::{AggregatePlan, GroupStore};
use super::keys::BatchKeys;
use super::windows::Window;
use super::{record_batch, signs_of};
use crate::batch::{Batch, TARGET_ROWS};
use crate::clock::Clock;
use crate::error::Result;
use crate::operator::{Collector, Flow, Operator, OperatorContext, OperatorSnapshot};

/// Groups that make a flush.
const MAX_GROUPS: usize = 4 * TARGET_ROWS;
/// Rows that make a flush: enough to gain, few enough to keep consumers busy.
const MAX_ROWS: usize = 16 * TARGET_ROWS;
/// How long rows wait, in ms.
const LINGER_MS: i64 = 5;

/// See the [module](self).
pub struct LocalAggregate {
    plan: AggregatePlan,
    window: Option<Window>,
    schema: SchemaRef,
    /// By slice end; without windows by 0.
    slices: BTreeMap<i64, GroupStore>,
    rows: usize,
    /// Keys of the slice that was flushed last: as many are to be expected again.
    expected_keys: usize,
    first_row_ms: i64,
    flushing: bool,
    /// To pass on once the flush is done.
    watermark: Option<i64>,
    clock: Option<Arc<dyn Clock>>,
    keys: BatchKeys,
    groups: Vec<u32>,
    created: Vec<u32>,
    split: SliceSplit,
}

impl LocalAggregate {
    /// Without windows.
    ///
    /// # Errors
    /// Keys or calls that do not fit the input, or that cannot be split.
    pub fn grouped(aggregate: &v1::GroupAggregate, input: &RowSchema) -> Result<LocalAggregate> {
        Self::new(&aggregate.keys, &aggregate.aggregates, aggregate.input_retracts, None, input)
    }

    /// By window slice.
    ///
    /// # Errors
    /// As [`LocalAggregate::grouped`], and a window that does not fit.
    pub fn windowed(aggregate: &v1::WindowAggregate, input: &RowSchema) -> Result<LocalAggregate> {
        let window = Window::from_spec(&aggregate.window.clone().unwrap_or_default(), input, true)?;
        Self::new(&aggregate.keys, &aggregate.aggregates, aggregate.input_retracts, Some(window), input)
    }

    fn new(
        keys: &[u32],
        calls: &[v1::AggregateCall],
        retracts: bool,
        window: Option<Window>,
        input: &RowSchema,
    ) -> Result<LocalAggregate> {
        let output = local_output(keys, calls, input, retracts, window.is_some())?.ok_or_else(|| {
            GraphError::at("aggregates", "an aggregate cannot be computed in two phases: plan it with phase SINGLE")
        })?;
        Ok(LocalAggregate {
            plan: AggregatePlan::new(keys, calls, v1::AggregatePhase::Local, input, None, retracts)?,
            window,
            schema: output.to_arrow(),
            slices: BTreeMap::new(),
            rows: 0,
            expected_keys: 0,
            first_row_ms: 0,
            flushing: false,
            watermark: None,
            clock: None,
            keys: BatchKeys::Global,
            groups: Vec::new(),
            created: Vec::new(),
            split: SliceSplit::default(),
        })
    }

    fn fold(&mut self, slice: i64, batch: &Batch, selection: Option<&[u32]>, signs: Option<&[i8]>) -> Result<()> {
        let store = match self.slices.entry(slice) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(GroupStore::new(&self.plan, self.expected_keys)?)
            }
        };
        self.created.clear();
        let rows = batch.num_rows();
        store.intern(&self.plan, &self.keys, rows, selection, &mut self.groups, &mut self.created);
        if self.plan.retracts {
            match signs {
                Some(signs) => store.count_rows(&self.groups, signs.iter().map(|&s| i64::from(s))),
                None => store.count_rows(&self.groups, std::iter::repeat(1)),
            }
        }
        store.apply(&self.plan, batch.records(), &self.groups, selection, signs)
    }

    fn gathered(&self) -> usize {
        self.slices.values().map(GroupStore::live).sum()
    }

    /// Emits up to four batches of what has gathered.
    fn flush(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        self.flushing = true;
        let mut budget = 4;
        while let Some((slice, store)) = self.slices.pop_first() {
            self.expected_keys = store.live();
            // Groups of a store that only grows are 0 to its end.
            let mut from = 0;
            while from < store.groups_end() {
                let to = store.groups_end().min(from + TARGET_ROWS);
                let groups: Vec<u32> = (from as u32..to as u32).collect();
                let records = self.partials(slice, &store, &groups)?;
                out.emit(Batch::inserts(records));
                from = to;
            }
            budget -= store.groups_end().div_ceil(TARGET_ROWS).min(budget);
            if budget == 0 && !self.slices.is_empty() {
                return Ok(Flow::More);
            }
        }
        self.flushing = false;
        self.rows = 0;
        if let Some(watermark) = self.watermark.take() {
            out.watermark(watermark);
        }
        Ok(Flow::Done)
    }

    fn partials(&self, slice: i64, store: &GroupStore, groups: &[u32]) -> Result<arrow::array::RecordBatch> {
        let mut columns = store.key_columns(&self.plan, groups)?;
        columns.extend(store.partial(groups)?);
        if self.plan.retracts {
            let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(groups.iter().map(|&g| store.rows_of(g))));
            columns.push(rows);
        }
        if self.window.is_some() {
            columns.push(Arc::new(Int64Array::from(vec![slice; groups.len()])));
        }
        record_batch(&self.schema, columns, groups.len())
    }
}

impl Operator for LocalAggregate {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        self.clock = Some(context.clock);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        if batch.is_empty() {
            return Ok(Flow::Done);
        }
        if self.rows == 0 {
            self.first_row_ms = self.clock.as_ref().map_or(0, |c| c.now_ms());
        }
        self.rows += batch.num_rows();
        let signs = signs_of(&batch);
        self.plan.keys.read(batch.records(), &mut self.keys)?;
        match &self.window {
            None => self.fold(0, &batch, None, signs.as_deref())?,
            Some(window) => {
                let times = window.local_times(batch.column(window.time_column))?;
                let mut split = std::mem::take(&mut self.split);
                split.by_slice(&times, |time| Some(window.slice_end(time)));
                for (slice, rows) in split.slices() {
                    let chosen = signs.as_ref().map(|s| rows.iter().map(|&r| s[r as usize]).collect::<Vec<i8>>());
                    let whole = rows.len() == batch.num_rows();
                    self.fold(slice, &batch, (!whole).then_some(rows), chosen.as_deref())?;
                }
                self.split = split;
            }
        }
        if self.rows >= MAX_ROWS || self.gathered() >= MAX_GROUPS {
            return self.flush(out);
        }
        Ok(Flow::Done)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        if self.flushing { self.flush(out) } else { Ok(Flow::Done) }
    }

    fn watermark(&mut self, watermark_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        self.watermark = Some(watermark_ms);
        self.flush(out)
    }

    fn idle(&mut self, idle: bool, out: &mut dyn Collector) -> Result<()> {
        // Behind the mark of idleness no row may follow.
        while idle && self.flush(out)? == Flow::More {}
        out.idle(idle);
        Ok(())
    }

    fn next_timer_ms(&self) -> Option<i64> {
        (self.rows > 0).then(|| self.first_row_ms.saturating_add(LINGER_MS))
    }

    fn timers(&mut self, now_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        if self.rows > 0 && now_ms >= self.first_row_ms.saturating_add(LINGER_MS) {
            return self.flush(out);
        }
        Ok(Flow::Done)
    }

    fn prepare_barrier(&mut self, _checkpoint: u64, out: &mut dyn Collector) -> Result<()> {
        while self.flush(out)? == Flow::More {}
        Ok(())
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        Ok(OperatorSnapshot::default())
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        self.flush(out)
    }

    fn close(&mut self) {
        self.slices.clear();
    }
}

/// The rows of a batch by window slice. Buffers are reused.
#[derive(Default)]
pub(super) struct SliceSplit {
    /// Slice ends in order of first row, each with its rows; the first `used` count.
    slices: Vec<(i64, Vec<u32>)>,
    used: usize,
    order: BTreeMap<i64, usize>,
}

impl SliceSplit {
    /// Splits rows by the slice that `slice_of` gives for their time; `None` drops a row.
    pub(super) fn by_slice(&mut self, times: &[i64], mut slice_of: impl FnMut(i64) -> Option<i64>) {
        self.used = 0;
        self.order.clear();
        let mut current = usize::MAX;
        for (row, &time) in times.iter().enumerate() {
            let Some(slice) = slice_of(time) else { continue };
            if current >= self.used || self.slices[current].0 != slice {
                current = match self.order.get(&slice) {
                    Some(&known) => known,
                    None => self.add(slice),
                };
            }
            self.slices[current].1.push(row as u32);
        }
    }

    fn add(&mut self, slice: i64) -> usize {
        let at = self.used;
        self.used += 1;
        self.order.insert(slice, at);
        match self.slices.get_mut(at) {
            Some(entry) => {
                entry.0 = slice;
                entry.1.clear();
            }
            None => self.slices.push((slice, Vec::new())),
        }
        at
    }

    /// Slices with their rows, in order of their first rows.
    pub(super) fn slices(&self) -> impl Iterator<Item = (i64, &[u32])> {
        self.slices[..self.used].iter().map(|(slice, rows)| (*slice, rows.as_slice()))
    }
}

#[cfg(test)]
mod tests;
