//! What a task reads: its source, or the elements of its channels.

use std::sync::atomic::Ordering::Relaxed;

use super::{Phase, Task, Turn};
use crate::element::StreamElement;
use crate::error::Result;
use crate::exchange::channel::Payload;
use crate::source::SourceStatus;
use crate::task::BlockReason;
use crate::task::watermarks::TimeEvent;

impl Task {
    pub(super) fn poll_source(&mut self) -> Result<Turn> {
        if let Some(until_ms) = self.source_pending {
            let due = self.chain.source_woken() || until_ms.is_some_and(|t| self.clock.now_ms() >= t);
            if !due {
                return Ok(self.no_input(until_ms));
            }
        }
        self.source_pending = None;
        match self.chain.poll_source(&mut self.outputs)? {
            SourceStatus::Ready => self.outputs.flush_lingering()?,
            SourceStatus::Pending { until_ms } => self.source_pending = Some(until_ms),
            SourceStatus::Finished => self.phase = Phase::Finishing { next: 0, drain: true },
        }
        Ok(Turn::Worked)
    }

    /// The next element of an input that is not blocked. `None`: there is none.
    pub(super) fn take_input(&mut self) -> Result<Option<Turn>> {
        if let Some(turn) = self.take_recovered()? {
            return Ok(Some(turn));
        }
        let channels = self.inputs.len();
        for step in 0..channels {
            let index = (self.next_input + step) % channels;
            let input = &self.inputs[index];
            if input.ended || self.alignment.is_blocked(index) {
                continue;
            }
            if let Some(item) = input.channel.take() {
                self.next_input = (index + 1) % channels;
                self.element(index, item.payload, item.bytes)?;
                return Ok(Some(Turn::Worked));
            }
        }
        Ok(None)
    }

    pub(super) fn no_input(&self, until_ms: Option<i64>) -> Turn {
        let until_ms = until_ms.into_iter().chain(self.chain.next_timer_ms()).min();
        Turn::Blocked(BlockReason::Input, until_ms)
    }

    pub(super) fn element(&mut self, index: usize, payload: Payload, bytes: usize) -> Result<()> {
        self.keep_in_flight(index, &payload);
        let element = match payload {
            Payload::Element(element) => element,
            Payload::Encoded(encoded) => StreamElement::Data(self.inputs[index].decoder.decode(&encoded)?),
        };
        let (port, channel) = (self.inputs[index].port, self.inputs[index].index);
        match element {
            StreamElement::Data(batch) => {
                self.metrics.records_in.fetch_add(batch.num_rows() as u64, Relaxed);
                self.metrics.batches_in.fetch_add(1, Relaxed);
                self.metrics.bytes_in.fetch_add(bytes as u64, Relaxed);
                if !self.finished && self.phase == Phase::Running {
                    self.chain.push_batch(port, batch);
                }
            }
            StreamElement::Watermark(ms) => self.time(port, channel, TimeEvent::Watermark(ms))?,
            StreamElement::Idle => self.time(port, channel, TimeEvent::Idle)?,
            StreamElement::Active => self.time(port, channel, TimeEvent::Active)?,
            StreamElement::Barrier(barrier) if barrier.unaligned || barrier.is_late(self.clock.now_ms()) => {
                self.overtaken(index, barrier.overtaking(), Vec::new())?;
            }
            StreamElement::Barrier(barrier) => {
                let verdict = self.alignment.barrier(index, barrier, self.clock.monotonic_us());
                self.apply(verdict)?;
            }
            StreamElement::CancelBarrier(checkpoint) => {
                let verdict = self.alignment.cancelled_upstream(checkpoint);
                self.apply(verdict)?;
            }
            StreamElement::EndOfData { drain } => self.input_ended(index, drain),
            StreamElement::EndOfPartition => {
                self.inputs[index].ended = true;
                self.input_ended(index, true);
                let verdict = self.alignment.end_of_partition(index, self.clock.monotonic_us());
                self.apply(verdict)?;
            }
        }
        Ok(())
    }

    pub(super) fn time(&mut self, port: usize, channel: usize, event: TimeEvent) -> Result<()> {
        let mut events = std::mem::take(&mut self.time_events);
        events.clear();
        self.watermarks.event(port, channel, event, &mut events);
        if !self.finished && self.phase == Phase::Running {
            for &event in &events {
                self.chain.push_time(event, &mut self.outputs)?;
            }
        }
        self.time_events = events;
        Ok(())
    }

    pub(super) fn input_ended(&mut self, index: usize, drain: bool) {
        self.inputs[index].end_of_data = true;
        if self.phase == Phase::Running && self.inputs.iter().all(|i| i.end_of_data) {
            self.phase = Phase::Finishing { next: 0, drain };
        }
    }
}
