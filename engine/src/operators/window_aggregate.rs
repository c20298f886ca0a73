//! GROUP BY keys and a window: one row a key and window, when the watermark passes the window's end.
//!
//! Rows are folded into *slices* as wide as the slide (or step), each a [`GroupStore`] of its own.
//! A TUMBLE window is one slice; a HOP window merges its slices when it fires; CUMULATE folds each
//! slice that fires into the first of its window. A row is late when the last window of its slice
//! has fired; if only some have, it counts in the others. Windows without rows emit nothing. Output
//! is ordered by window end, then by the key's first arrival.
//!
//! State: see [`super::window_state`]; what happens when memory is short: `residence`.

mod residence;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::SchemaRef;
use hurtig_graph::RowSchema;
use hurtig_graph::aggregates::SLICE_END_COLUMN;
use hurtig_proto::v1;
use hurtig_state::backend::{CellDeclaration, CellKind, FrozenCell};

use self::residence::Gathering;
use super::group_store::frozen::write_frozen;
use super::group_store::{AggregatePlan, GroupStore, VALUE_SCHEMA};
use super::keys::BatchKeys;
use super::local_aggregate::SliceSplit;
use super::memory_tier::MemoryTier;
use super::window_function::{window_columns, window_fields};
use super::window_state::{DroppedSlices, WindowState};
use super::windows::{Window, WindowShape};
use super::{record_batch, signs_of};
use crate::aggregates::columns::int_values;
use crate::batch::{Batch, TARGET_ROWS};
use crate::element::MIN_WATERMARK;
use crate::error::{EngineError, Result};
use crate::operator::{Collector, Flow, Operator, OperatorContext, OperatorCounters, OperatorSnapshot};

/// Output batches of one call.
const BATCHES_A_CALL: usize = 4;

/// See the [module](self).
pub struct WindowAggregate {
    plan: Arc<AggregatePlan>,
    window: Window,
    /// Behind a LOCAL phase: the column with the slice end.
    slice_column: Option<usize>,
    schema: SchemaRef,
    slices: BTreeMap<i64, GroupStore>,
    /// The watermark that all fired windows are below.
    watermark: i64,
    /// The end of the window that fired last.
    fired: i64,
    firing: Option<Firing>,
    /// To fire for, then to pass on.
    pending: Option<i64>,
    state: Option<WindowState>,
    tier: Option<MemoryTier>,
    dropped: DroppedSlices,
    counters: Option<Arc<OperatorCounters>>,
    keys: BatchKeys,
    groups: Vec<u32>,
    created: Vec<u32>,
    split: SliceSplit,
}

/// A window of which not all rows have been emitted.
struct Firing {
    end: i64,
    source: Source,
    groups: Vec<u32>,
    next: usize,
}

enum Source {
    /// The window's own groups.
    Owned(Box<GroupStore>),
    /// The slice of that end.
    Slice(i64),
    /// A few key groups at a time, since memory does not have all of the window.
    Gathered(Gathering),
}

impl WindowAggregate {
    /// Over rows of `input`; phases SINGLE and GLOBAL.
    ///
    /// # Errors
    /// Keys, calls or a window that do not fit the input.
    pub fn new(aggregate: &v1::WindowAggregate, input: &RowSchema) -> Result<WindowAggregate> {
        let before = aggregate.aggregate_input.as_ref().map(RowSchema::from_proto).transpose()?;
        let global = aggregate.phase() == v1::AggregatePhase::Global;
        let plan = AggregatePlan::new(
            &aggregate.keys,
            &aggregate.aggregates,
            aggregate.phase(),
            input,
            before.as_ref(),
            aggregate.input_retracts,
        )?;
        let time_schema = if global { before.as_ref().unwrap_or(input) } else { input };
        let window = Window::from_spec(&aggregate.window.clone().unwrap_or_default(), time_schema, true)?;
        let slice_column = match global {
            false => None,
            true => Some(input.index_of(SLICE_END_COLUMN).ok_or_else(|| {
                EngineError::Validation(format!(
                    "a GLOBAL window aggregate needs the column {SLICE_END_COLUMN} of its LOCAL phase"
                ))
            })?),
        };
        let mut fields = plan.output_fields();
        fields.extend(window_fields(&window));
        Ok(WindowAggregate {
            plan: Arc::new(plan),
            window,
            slice_column,
            schema: RowSchema::new(fields).to_arrow(),
            slices: BTreeMap::new(),
            watermark: MIN_WATERMARK,
            fired: MIN_WATERMARK,
            firing: None,
            pending: None,
            state: None,
            tier: None,
            dropped: DroppedSlices::default(),
            counters: None,
            keys: BatchKeys::Global,
            groups: Vec::new(),
            created: Vec::new(),
            split: SliceSplit::default(),
        })
    }

    fn has_fired(&self, window_end: i64) -> bool {
        self.window.trigger(window_end) <= self.watermark
    }

    /// The slice that a row of slice `end` goes to: none when it is late.
    fn target(&self, end: i64) -> Option<i64> {
        if !self.has_fired(end) {
            return Some(end);
        }
        if self.window.shape == WindowShape::Tumble || self.has_fired(self.window.last_window(end)) {
            return None;
        }
        Some(match self.window.shape {
            WindowShape::Cumulate => self.first_slice(end),
            _ => end,
        })
    }

    /// End of the first slice of the CUMULATE window that holds the slice.
    fn first_slice(&self, end: i64) -> i64 {
        self.window.window_start(end) + self.window.slide
    }

    fn fold(&mut self, slice: i64, batch: &Batch, selection: Option<&[u32]>, signs: Option<&[i8]>) -> Result<()> {
        let capacity = self.slices.values().next_back().map_or(0, GroupStore::live);
        let store = match self.slices.entry(slice) {
            Entry::Occupied(entry) => entry.into_mut(),
            // The slice before says how many keys to expect.
            Entry::Vacant(entry) => entry.insert(GroupStore::new(&self.plan, capacity)?),
        };
        self.created.clear();
        let (records, rows) = (batch.records(), batch.num_rows());
        store.intern(&self.plan, &self.keys, rows, selection, &mut self.groups, &mut self.created);
        if let Some(state) = self.state.as_ref().filter(|s| s.may_hold(slice)) {
            state.load(&self.plan, store, slice, &self.created)?;
        }
        match self.plan.row_changes(records, None)? {
            Some(changes) => {
                let of = |row: &u32| changes[*row as usize];
                match selection {
                    Some(selection) => store.count_rows(&self.groups, selection.iter().map(of)),
                    None => store.count_rows(&self.groups, changes.iter().copied()),
                }
            }
            None if self.plan.retracts => match signs {
                Some(signs) => store.count_rows(&self.groups, signs.iter().map(|&s| i64::from(s))),
                None => store.count_rows(&self.groups, std::iter::repeat(1)),
            },
            None => {}
        }
        store.apply(&self.plan, records, &self.groups, selection, signs)?;
        store.mark_present(&self.groups);
        Ok(())
    }

    /// Fires windows that are due at `watermark`, up to a few batches.
    fn fire(&mut self, watermark: i64, out: &mut dyn Collector) -> Result<Flow> {
        let mut budget = BATCHES_A_CALL;
        loop {
            if self.firing.is_none() {
                match self.next_window().filter(|end| self.window.trigger(*end) <= watermark) {
                    Some(end) => self.start_firing(end)?,
                    None => break,
                }
            }
            while let Some(firing) = &self.firing {
                if firing.next >= firing.groups.len() {
                    if self.gather_more()? {
                        continue;
                    }
                    self.end_firing();
                    break;
                }
                if budget == 0 {
                    return Ok(Flow::More);
                }
                self.emit_some(out)?;
                budget -= 1;
            }
        }
        self.watermark = watermark;
        self.pending = None;
        out.watermark(watermark);
        Ok(Flow::Done)
    }

    /// The first window that has not fired and may hold rows.
    fn next_window(&self) -> Option<i64> {
        let in_memory = self.slices.keys().next().copied();
        let unread = self.state.as_ref().and_then(WindowState::first_unread);
        let first = match (in_memory, unread) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        // What is not listed begins anywhere.
        let mut end = self.window.slice_end(first.saturating_sub(1));
        while end <= self.fired || self.has_fired(end) {
            end += self.window.slide;
        }
        Some(end)
    }

    fn start_firing(&mut self, end: i64) -> Result<()> {
        if let Some(gathering) = self.prepare_slices(end)? {
            self.firing = Some(Firing { end, source: Source::Gathered(gathering), groups: Vec::new(), next: 0 });
            return Ok(());
        }
        let source = match self.window.shape {
            WindowShape::Tumble => {
                let store = self.slices.remove(&end);
                store.map(|store| {
                    self.dropped.note_through(end, &store);
                    Source::Owned(Box::new(store))
                })
            }
            WindowShape::Hop => self.hop(end)?,
            WindowShape::Cumulate => self.cumulate(end)?,
        };
        let groups = match &source {
            Some(source) => self.groups_to_emit(source),
            None => Vec::new(),
        };
        // Without a source there are no groups either.
        let source = source.unwrap_or(Source::Slice(end));
        self.firing = Some(Firing { end, source, groups, next: 0 });
        Ok(())
    }

    /// The slices of a HOP window, merged.
    fn hop(&self, end: i64) -> Result<Option<Source>> {
        let slices: Vec<(&i64, &GroupStore)> = self.slices.range(end - self.window.size + 1..=end).collect();
        match slices.as_slice() {
            [] => Ok(None),
            [(slice, _)] => Ok(Some(Source::Slice(**slice))),
            several => {
                let capacity = several.iter().map(|(_, s)| s.live()).max().unwrap_or(0);
                let mut merged = GroupStore::new(&self.plan, capacity)?;
                several.iter().try_for_each(|(_, slice)| merged.absorb(&self.plan, slice))?;
                Ok(Some(Source::Owned(Box::new(merged))))
            }
        }
    }

    /// Folds the slice that fires, and others that have fired without, into the first one of its window.
    fn cumulate(&mut self, end: i64) -> Result<Option<Source>> {
        let first = self.first_slice(end);
        let all = self.slices.range(first..=end).map(|(slice, _)| *slice);
        let later: Vec<i64> = all.filter(|slice| *slice > first).collect();
        for later in later {
            let Some(slice) = self.slices.remove(&later) else { continue };
            if slice.any_stored() {
                self.dropped.note_single(later);
            }
            let target = match self.slices.entry(first) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(GroupStore::new(&self.plan, slice.live())?),
            };
            target.absorb(&self.plan, &slice)?;
        }
        Ok(self.slices.contains_key(&first).then_some(Source::Slice(first)))
    }

    fn store_of<'a>(&'a self, source: &'a Source) -> Option<&'a GroupStore> {
        match source {
            Source::Owned(store) => Some(store),
            Source::Slice(slice) => self.slices.get(slice),
            Source::Gathered(gathering) => gathering.store(),
        }
    }

    fn groups_to_emit(&self, source: &Source) -> Vec<u32> {
        let Some(store) = self.store_of(source) else { return Vec::new() };
        let mut groups = store.present();
        if self.plan.retracts {
            groups.retain(|&g| store.rows_of(g) > 0);
        }
        groups
    }

    fn emit_some(&mut self, out: &mut dyn Collector) -> Result<()> {
        let Some(firing) = &self.firing else { return Ok(()) };
        let to = firing.groups.len().min(firing.next + TARGET_ROWS);
        let groups = &firing.groups[firing.next..to];
        let Some(store) = self.store_of(&firing.source) else { return Ok(()) };
        let mut columns = store.key_columns(&self.plan, groups)?;
        columns.extend(store.evaluate(groups)?);
        let bounds = vec![(self.window.window_start(firing.end), firing.end); groups.len()];
        columns.extend(window_columns(&self.window, &bounds)?);
        out.emit(Batch::inserts(record_batch(&self.schema, columns, groups.len())?));
        if let Some(firing) = &mut self.firing {
            firing.next = to;
        }
        Ok(())
    }

    /// Forgets the slices whose last window this was.
    fn end_firing(&mut self) {
        let Some(firing) = self.firing.take() else { return };
        self.fired = firing.end;
        while let Some(entry) = self.slices.first_entry() {
            if self.window.last_window(*entry.key()) > firing.end {
                break;
            }
            let (slice, store) = entry.remove_entry();
            self.dropped.note_through(slice, &store);
        }
        let window = &self.window;
        let in_database = self.state.as_mut().and_then(|s| s.drop_slices(|s| window.last_window(s) <= firing.end));
        if let Some(slice) = in_database {
            self.dropped.note_all_through(slice);
        }
    }
}

impl WindowAggregate {
    fn cell(&self) -> CellDeclaration {
        CellDeclaration {
            name: "windows".into(),
            kind: CellKind::Time,
            key_schema: self.plan.key_schema(),
            value_schema: self.plan.value_schema(),
            schema_version: VALUE_SCHEMA,
        }
    }
}

impl Operator for WindowAggregate {
    fn state_cells(&self) -> Vec<CellDeclaration> {
        vec![self.cell()]
    }

    fn open(&mut self, context: OperatorContext) -> Result<()> {
        let declaration = self.cell();
        self.tier = Some(MemoryTier::new(&context));
        self.state = Some(WindowState::open(context.keyed, &context.uid, &declaration)?);
        self.watermark = context.restored.watermark_ms.unwrap_or(MIN_WATERMARK);
        self.counters = Some(context.counters);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> Result<Flow> {
        if batch.is_empty() {
            return Ok(Flow::Done);
        }
        let signs = signs_of(&batch);
        if signs.is_some() && !self.plan.retracts {
            return Err(EngineError::Internal(
                "a retraction reached a window aggregation that was planned for append-only input".into(),
            ));
        }
        self.plan.keys.read(batch.records(), &mut self.keys)?;
        let mut split = std::mem::take(&mut self.split);
        let mut late = 0;
        // Rows are mostly of the slice of the row before.
        let (mut last_end, mut last_target) = (i64::MIN, None);
        let mut target_of = |end: i64| {
            if end != last_end {
                (last_end, last_target) = (end, self.target(end));
            }
            late += u64::from(last_target.is_none());
            last_target
        };
        match self.slice_column {
            Some(column) => {
                let (ends, _) = int_values(batch.column(column))?;
                split.by_slice(&ends, target_of);
            }
            None => {
                let times = self.window.local_times(batch.column(self.window.time_column))?;
                let (mut from, mut to) = (0, 0);
                split.by_slice(&times, |time| {
                    if time < from || time >= to {
                        to = self.window.slice_end(time);
                        from = to - self.window.slide;
                    }
                    target_of(to)
                });
            }
        }
        for (slice, rows) in split.slices() {
            let whole = rows.len() == batch.num_rows();
            let chosen = signs.as_ref().map(|s| rows.iter().map(|&r| s[r as usize]).collect::<Vec<i8>>());
            self.fold(slice, &batch, (!whole).then_some(rows), chosen.as_deref())?;
        }
        self.split = split;
        if late > 0
            && let Some(counters) = &self.counters
        {
            counters.late_records_dropped.fetch_add(late, Ordering::Relaxed);
        }
        self.keep_within_memory()?;
        Ok(Flow::Done)
    }

    fn next_timer_ms(&self) -> Option<i64> {
        self.tier.as_ref().and_then(MemoryTier::next_timer_ms)
    }

    fn timers(&mut self, now_ms: i64, _out: &mut dyn Collector) -> Result<Flow> {
        if let Some(tier) = &mut self.tier {
            tier.retry(now_ms);
        }
        self.keep_within_memory()?;
        Ok(Flow::Done)
    }

    fn awaits_write_back(&self) -> bool {
        self.tier.as_ref().is_some_and(MemoryTier::waits)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        match self.pending {
            Some(watermark) => self.fire(watermark, out),
            None => Ok(Flow::Done),
        }
    }

    fn watermark(&mut self, watermark_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        if watermark_ms <= self.watermark {
            // After a restore the watermark of the inputs starts anew.
            out.watermark(watermark_ms);
            return Ok(Flow::Done);
        }
        self.pending = Some(watermark_ms);
        self.fire(watermark_ms, out)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        let mut snapshot = OperatorSnapshot {
            watermark_ms: (self.watermark != MIN_WATERMARK).then_some(self.watermark),
            ..OperatorSnapshot::default()
        };
        let Some(state) = &self.state else { return Ok(snapshot) };
        let (address, key_groups, plan) = (state.address(), state.key_groups(), Arc::clone(&self.plan));
        let generation = self.tier.as_ref().map_or(0, MemoryTier::generation);
        let dropped = std::mem::take(&mut self.dropped);
        let frozen = self.freeze_slices(generation, usize::MAX);
        if frozen.is_empty() && dropped.is_empty() {
            return Ok(snapshot);
        }
        let cell: FrozenCell = Box::new(move |writer| {
            for (from, to) in dropped.ranges(address, key_groups) {
                writer.delete_range(&from, &to)?;
            }
            write_frozen(&frozen, &plan, address, writer)
        });
        snapshot.keyed.push(cell);
        Ok(snapshot)
    }

    fn close(&mut self) {
        self.slices.clear();
        self.firing = None;
        // Gives the slot's memory back.
        self.tier = None;
    }
}

#[cfg(test)]
mod tests;
