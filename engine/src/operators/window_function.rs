//! Window table functions on their own: every row with window_start, window_end and window_time
//! appended, once for each of its windows. No state; late rows get their windows too.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::SchemaRef;
use hurtig_graph::types::arrow_form::time_unit;
use hurtig_graph::{LogicalType, RowField, RowSchema, TimeAttribute};
use hurtig_proto::v1;

use super::record_batch;
use super::windows::{Window, WindowShape};
use crate::aggregates::columns::int_array;
use crate::batch::{Batch, TARGET_ROWS};
use crate::error::Result;
use crate::operator::{Collector, Flow, Operator, OperatorContext};

/// The three columns that windows add, `window_time` being of the time column's type.
pub(super) fn window_fields(window: &Window) -> Vec<RowField> {
    let bound = |name: &str| RowField::new(name, LogicalType::Timestamp(3).not_null());
    let mut time = RowField::new("window_time", window.time_type.clone().not_null());
    time.time = TimeAttribute::Rowtime;
    vec![bound("window_start"), bound("window_end"), time]
}

/// The columns of [`window_fields`] for windows with these starts and ends.
pub(super) fn window_columns(window: &Window, bounds: &[(i64, i64)]) -> Result<Vec<ArrayRef>> {
    let local = LogicalType::Timestamp(3).to_arrow();
    let scale = match &window.time_type {
        LogicalType::Timestamp(p) | LogicalType::TimestampLtz(p) => match time_unit(*p) {
            arrow::datatypes::TimeUnit::Microsecond => 1_000,
            arrow::datatypes::TimeUnit::Nanosecond => 1_000_000,
            _ => 1,
        },
        _ => 1,
    };
    // Windows of neighbouring rows are mostly the same.
    let mut cached = (i64::MIN, 0);
    let times = bounds.iter().map(|&(_, end)| {
        if cached.0 != end {
            cached = (end, window.window_time(end).wrapping_mul(scale));
        }
        Some(cached.1)
    });
    Ok(vec![
        int_array(bounds.iter().map(|b| Some(b.0)), &local)?,
        int_array(bounds.iter().map(|b| Some(b.1)), &local)?,
        int_array(times, &window.time_type.to_arrow())?,
    ])
}

/// See the [module](self).
pub struct WindowTableFunction {
    window: Window,
    schema: SchemaRef,
    pending: Option<Pending>,
}

/// A batch of which not all rows have been emitted.
struct Pending {
    batch: Batch,
    times: arrow::buffer::ScalarBuffer<i64>,
    next: usize,
}

impl WindowTableFunction {
    /// Over rows of `input`.
    ///
    /// # Errors
    /// A window that does not fit the input.
    pub fn new(function: &v1::WindowTableFunction, input: &RowSchema) -> Result<WindowTableFunction> {
        let spec = function.window.clone().unwrap_or_default();
        let window = Window::from_spec(&spec, input, false)?;
        let mut fields = input.fields.clone();
        fields.extend(window_fields(&window));
        Ok(WindowTableFunction { window, schema: RowSchema::new(fields).to_arrow(), pending: None })
    }

    /// Emits the next output batch; false when the input batch is done.
    fn emit_some(&mut self, out: &mut dyn Collector) -> Result<bool> {
        let Some(pending) = &mut self.pending else { return Ok(false) };
        let (mut rows, mut bounds) = (Vec::new(), Vec::new());
        let from_start = pending.next == 0;
        while pending.next < pending.times.len() && rows.len() < TARGET_ROWS {
            let row = pending.next as u32;
            self.window.for_each_window(pending.times[pending.next], |start, end| {
                rows.push(row);
                bounds.push((start, end));
            });
            pending.next += 1;
        }
        let done = pending.next == pending.times.len();
        let whole = self.window.shape == WindowShape::Tumble && from_start && done;
        let input = if whole { pending.batch.clone() } else { pending.batch.take(&UInt32Array::from(rows))? };
        let mut columns = input.records().columns().to_vec();
        columns.extend(window_columns(&self.window, &bounds)?);
        out.emit(input.with_records(record_batch(&self.schema, columns, bounds.len())?));
        if done {
            self.pending = None;
        }
        Ok(!done)
    }
}

impl Operator for WindowTableFunction {
    fn open(&mut self, _context: OperatorContext) -> Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        if batch.is_empty() {
            return Ok(Flow::Done);
        }
        let times = self.window.local_times(batch.column(self.window.time_column))?;
        self.pending = Some(Pending { batch, times, next: 0 });
        self.resume(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        for _ in 0..4 {
            if !self.emit_some(out)? {
                return Ok(Flow::Done);
            }
        }
        Ok(Flow::More)
    }
}

#[cfg(test)]
mod tests;
