//! Watermarks from rowtimes, by the rules of SQL's `WATERMARK FOR column AS expression`.
//!
//! The watermark is the running maximum of the expression. Behind a row it is *due* at once when it
//! has grown by more than `pipeline.auto-watermark-interval` since it was due last, otherwise with
//! the periodic timer. What is due is sent on only where it matters: before a row whose rowtime is
//! at or below it (such a row is late, and must be seen to be), and at the end of the batch. A
//! watermark that arrives behind rows that are not late drops the same rows, so replays of old data
//! stay in full batches.

use std::sync::Arc;

use hurtig_graph::RowSchema;
use hurtig_graph::config::{ConfigOption, ValueType};
use hurtig_proto::v1;

use super::{BuildContext, compile_at};
use crate::aggregates::columns::time_values_ms;
use crate::batch::Batch;
use crate::clock::Clock;
use crate::element::{MAX_WATERMARK, MIN_WATERMARK};
use crate::error::{EngineError, Result};
use crate::expr::CompiledExpr;
use crate::operator::{Collector, Flow, Operator, OperatorContext, OperatorSnapshot};

/// The list with the running maximum and the watermark that was due last, two i64 LE.
const STATE: &str = "watermark";

/// Flink's key, read here by name: the registry documents it.
const INTERVAL: ConfigOption = ConfigOption {
    key: "pipeline.auto-watermark-interval",
    fallback_keys: &[],
    value_type: ValueType::Duration,
    default: Some("200 ms"),
    description: "Interval of periodic watermarks; 0 emits them as they grow.",
};

/// See the [module](self).
pub struct WatermarkAssigner {
    rowtime: usize,
    rowtime_name: String,
    expr: CompiledExpr,
    idle_timeout_ms: i64,
    /// A watermark that is due leaves before the next row, whichever that is.
    every_advance: bool,
    interval_ms: i64,
    clock: Option<Arc<dyn Clock>>,
    maximum: i64,
    due: i64,
    sent: i64,
    next_periodic_ms: i64,
    last_row_ms: i64,
    idle: bool,
}

impl WatermarkAssigner {
    /// Over rows of `input`.
    ///
    /// # Errors
    /// A rowtime column or expression that is not a time.
    pub fn new(
        assigner: &v1::WatermarkAssigner,
        input: &RowSchema,
        context: &BuildContext,
    ) -> Result<WatermarkAssigner> {
        let rowtime = assigner.rowtime_column as usize;
        let field = input.fields.get(rowtime).ok_or_else(|| {
            EngineError::Validation(format!("rowtime column {rowtime} does not exist: the input has {}", input.len()))
        })?;
        let expr = assigner
            .expr
            .as_ref()
            .ok_or_else(|| EngineError::Validation("the watermark expression is missing".into()))?;
        let expr = compile_at(expr, input, "watermark.expr", context)?;
        for (what, ty) in [("rowtime column", &field.data_type), ("watermark expression", expr.data_type())] {
            if !ty.logical.is_timestamp() {
                return Err(EngineError::Validation(format!(
                    "the {what} of '{}' is {ty}: it must be TIMESTAMP(3) or TIMESTAMP_LTZ(3)",
                    field.name
                )));
            }
        }
        Ok(WatermarkAssigner {
            rowtime,
            rowtime_name: field.name.clone(),
            expr,
            idle_timeout_ms: i64::try_from(assigner.idle_timeout_ms).unwrap_or(i64::MAX),
            every_advance: assigner.every_advance,
            interval_ms: 200,
            clock: None,
            maximum: MIN_WATERMARK,
            due: MIN_WATERMARK,
            sent: MIN_WATERMARK,
            next_periodic_ms: 0,
            last_row_ms: 0,
            idle: false,
        })
    }

    fn send(&mut self, out: &mut dyn Collector) {
        if self.due > self.sent {
            self.sent = self.due;
            out.watermark(self.due);
        }
    }

    /// Whether a watermark that has grown to the maximum is due at once.
    #[inline]
    fn jumps(&self) -> bool {
        self.maximum > self.due && self.maximum.saturating_sub(self.due) > self.interval_ms
    }

    fn restore(&mut self, elements: &[Vec<u8>]) -> Result<()> {
        let damaged = || EngineError::Internal("the restored watermark is damaged".into());
        let mut lowest: Option<(i64, i64)> = None;
        for element in elements {
            let mut rest = element.as_slice();
            let maximum = i64::from_le_bytes(crate::aggregates::columns::take_array(&mut rest).map_err(|_| damaged())?);
            let due = i64::from_le_bytes(crate::aggregates::columns::take_array(&mut rest).map_err(|_| damaged())?);
            lowest = Some(match lowest {
                Some((m, d)) => (m.min(maximum), d.min(due)),
                None => (maximum, due),
            });
        }
        if let Some((maximum, due)) = lowest {
            (self.maximum, self.due) = (maximum, due);
        }
        Ok(())
    }

    fn now(&self) -> i64 {
        self.clock.as_ref().map_or(0, |c| c.now_ms())
    }
}

impl Operator for WatermarkAssigner {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        let interval = context.configuration.duration_ms(&INTERVAL)?.unwrap_or(200);
        self.interval_ms = i64::try_from(interval).unwrap_or(i64::MAX);
        self.restore(context.restored.list(STATE))?;
        self.clock = Some(context.clock);
        let now = self.now();
        self.last_row_ms = now;
        self.next_periodic_ms = now.saturating_add(self.interval_ms);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        if batch.is_empty() {
            return Ok(Flow::Done);
        }
        if self.idle_timeout_ms > 0 {
            self.last_row_ms = self.now();
        }
        if self.idle {
            self.idle = false;
            out.idle(false);
        }
        let (rowtimes, nulls) = time_values_ms(batch.column(self.rowtime))?;
        if nulls.is_some_and(|n| n.null_count() > 0) {
            return Err(EngineError::Runtime(format!(
                "the rowtime column '{}' is NULL: a row without a time cannot be placed; filter such rows out or give \
                 them a time before the watermark is assigned",
                self.rowtime_name
            )));
        }
        let (watermarks, nulls) = time_values_ms(&self.expr.evaluate(batch.records())?)?;
        let nulls = nulls.filter(|n| n.null_count() > 0);
        let mut from = 0;
        for (row, (&rowtime, &watermark)) in rowtimes.iter().zip(watermarks.iter()).enumerate() {
            if self.due > self.sent && (self.every_advance || rowtime <= self.due) {
                if row > from {
                    out.emit(batch.slice(from, row - from));
                    from = row;
                }
                self.send(out);
            }
            if watermark > self.maximum && nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                self.maximum = watermark;
                if self.jumps() {
                    self.due = watermark;
                }
            }
        }
        out.emit(if from == 0 { batch } else { batch.slice(from, batch.num_rows() - from) });
        self.send(out);
        Ok(Flow::Done)
    }

    fn watermark(&mut self, watermark_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        // Only the end of event time passes: all else is decided here.
        if watermark_ms == MAX_WATERMARK && self.sent != MAX_WATERMARK {
            if self.idle {
                self.idle = false;
                out.idle(false);
            }
            (self.maximum, self.due) = (MAX_WATERMARK, MAX_WATERMARK);
            self.send(out);
        }
        Ok(Flow::Done)
    }

    fn idle(&mut self, idle: bool, out: &mut dyn Collector) -> Result<()> {
        self.idle = idle;
        out.idle(idle);
        Ok(())
    }

    fn next_timer_ms(&self) -> Option<i64> {
        let grown = self.maximum > self.sent && self.interval_ms > 0;
        let periodic = grown.then_some(self.next_periodic_ms);
        let idle = (self.idle_timeout_ms > 0 && !self.idle)
            .then(|| self.last_row_ms.saturating_add(self.idle_timeout_ms).saturating_add(1));
        match (periodic, idle) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn timers(&mut self, now_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        if self.interval_ms > 0 && now_ms >= self.next_periodic_ms {
            self.next_periodic_ms = now_ms.saturating_add(self.interval_ms);
            self.due = self.due.max(self.maximum);
            self.send(out);
        }
        if self.idle_timeout_ms > 0 && !self.idle && now_ms.saturating_sub(self.last_row_ms) > self.idle_timeout_ms {
            self.idle = true;
            out.idle(true);
        }
        Ok(Flow::Done)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        let mut state = self.maximum.to_le_bytes().to_vec();
        state.extend_from_slice(&self.due.to_le_bytes());
        Ok(OperatorSnapshot {
            lists: vec![(STATE.into(), vec![state])],
            watermark_ms: Some(self.due),
            ..OperatorSnapshot::default()
        })
    }
}

#[cfg(test)]
mod tests;
