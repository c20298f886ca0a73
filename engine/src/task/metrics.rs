//! Figures of a task, written by its thread and read by the reporter.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use hurtig_proto::v1;

use super::activity::Activity;
use crate::element::MIN_WATERMARK;
use crate::exchange::Channel;
use crate::operator::OperatorCounters;

/// See the module documentation. Times are in microseconds.
#[derive(Debug)]
pub struct TaskMetrics {
    /// Rows from input channels; of a source, what its reader emitted.
    pub records_in: AtomicU64,
    /// Batches from input channels.
    pub batches_in: AtomicU64,
    /// Bytes from input channels.
    pub bytes_in: AtomicU64,
    /// Rows to output channels (of a task without outputs: collected or written rows are not counted).
    pub records_out: AtomicU64,
    /// Batches to output channels.
    pub batches_out: AtomicU64,
    /// Bytes to output channels.
    pub bytes_out: AtomicU64,
    /// Combined watermark of the inputs; of a source, what it emits.
    pub watermark_ms: AtomicI64,
    /// In steps.
    pub busy_us: AtomicU64,
    /// Waiting for input.
    pub idle_us: AtomicU64,
    /// Waiting for a consumer.
    pub backpressured_us: AtomicU64,
    /// Waiting for anything else, as the write-back of a snapshot.
    pub otherwise_blocked_us: AtomicU64,
    /// How long the barrier of the last checkpoint waited for channels.
    pub alignment_us: AtomicU64,
    /// From the trigger of the last checkpoint until its first barrier was handled here.
    pub start_delay_ms: AtomicU64,
    /// The pause of the last snapshot.
    pub sync_us: AtomicU64,
    /// How long the last message waited until the task looked at it.
    pub mailbox_latency_us: AtomicU64,
    /// What the task is doing right now.
    pub activity: Activity,
    /// Figures of the operators, head first.
    pub operators: Vec<Arc<OperatorFigures>>,
    queues: OnceLock<Queues>,
}

/// The channels in front of a task and behind it.
#[derive(Debug)]
struct Queues {
    inputs: Vec<Arc<Channel>>,
    /// With whether the consumer is in another process.
    outputs: Vec<(Arc<Channel>, bool)>,
}

/// What is queued in some channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Batches and other elements.
    pub elements: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Bytes at which all channels would be full.
    pub limit: usize,
}

impl QueueFigures {
    fn of<'a>(channels: impl Iterator<Item = &'a Arc<Channel>>) -> QueueFigures {
        let mut figures = QueueFigures::default();
        for channel in channels {
            figures.elements += channel.len();
            figures.bytes += channel.queued_bytes();
            figures.limit += channel.limit();
        }
        figures
    }

    /// The part of the limit that is used, from 0 to 1.
    pub fn usage(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { (self.bytes as f64 / self.limit as f64).min(1.0) }
    }
}

/// Figures of one operator of a chain.
#[derive(Debug)]
pub struct OperatorFigures {
    /// Rows given to it.
    pub records_in: AtomicU64,
    /// Rows that it emitted.
    pub records_out: AtomicU64,
    /// The last watermark given to it.
    pub input_watermark_ms: AtomicI64,
    /// The last watermark that it emitted.
    pub output_watermark_ms: AtomicI64,
    /// What the operator counts itself.
    pub counters: Arc<OperatorCounters>,
}

impl OperatorFigures {
    /// All zero.
    pub fn new(counters: Arc<OperatorCounters>) -> OperatorFigures {
        OperatorFigures {
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            input_watermark_ms: AtomicI64::new(MIN_WATERMARK),
            output_watermark_ms: AtomicI64::new(MIN_WATERMARK),
            counters,
        }
    }
}

impl TaskMetrics {
    /// All zero, for a chain whose operators have these counters.
    pub fn new(operators: Vec<Arc<OperatorCounters>>) -> TaskMetrics {
        TaskMetrics {
            records_in: AtomicU64::new(0),
            batches_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            batches_out: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            watermark_ms: AtomicI64::new(MIN_WATERMARK),
            busy_us: AtomicU64::new(0),
            idle_us: AtomicU64::new(0),
            backpressured_us: AtomicU64::new(0),
            otherwise_blocked_us: AtomicU64::new(0),
            alignment_us: AtomicU64::new(0),
            start_delay_ms: AtomicU64::new(0),
            sync_us: AtomicU64::new(0),
            mailbox_latency_us: AtomicU64::new(0),
            activity: Activity::default(),
            queues: OnceLock::new(),
            operators: operators.into_iter().map(|counters| Arc::new(OperatorFigures::new(counters))).collect(),
        }
    }

    /// The channels whose contents are part of the figures. Counts once.
    pub fn watch_queues(&self, inputs: Vec<Arc<Channel>>, outputs: Vec<(Arc<Channel>, bool)>) {
        let _ = self.queues.set(Queues { inputs, outputs });
    }

    /// Whether the task has no input channels: it reads an external system.
    pub fn is_source(&self) -> bool {
        self.queues.get().is_some_and(|q| q.inputs.is_empty())
    }

    /// What waits in front of the task.
    pub fn input_queues(&self) -> QueueFigures {
        self.queues.get().map(|q| QueueFigures::of(q.inputs.iter())).unwrap_or_default()
    }

    /// What waits behind the task.
    pub fn output_queues(&self) -> QueueFigures {
        self.queues.get().map(|q| QueueFigures::of(q.outputs.iter().map(|(c, _)| c))).unwrap_or_default()
    }

    /// Bytes that the task's channels hold in this process, each channel counted at one of its ends.
    pub fn queued_bytes(&self) -> usize {
        let Some(queues) = self.queues.get() else { return 0 };
        let remote = queues.outputs.iter().filter(|(_, remote)| *remote).map(|(c, _)| c);
        QueueFigures::of(queues.inputs.iter().chain(remote)).bytes
    }

    /// Rows dropped as late by all operators.
    pub fn late_records_dropped(&self) -> u64 {
        self.operators.iter().map(|o| o.counters.late_records_dropped.load(Relaxed)).sum()
    }

    /// As reported to the JobManager; what the JobManager knows itself is left empty.
    pub fn to_proto(&self) -> v1::SubtaskDetails {
        v1::SubtaskDetails {
            records_in: self.records_in.load(Relaxed),
            records_out: self.records_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            batches_in: self.batches_in.load(Relaxed),
            watermark_ms: self.watermark_ms.load(Relaxed),
            busy_ms: self.busy_us.load(Relaxed) / 1000,
            idle_ms: self.idle_us.load(Relaxed) / 1000,
            backpressured_ms: self.backpressured_us.load(Relaxed) / 1000,
            late_records_dropped: self.late_records_dropped(),
            ..Default::default()
        }
    }
}
