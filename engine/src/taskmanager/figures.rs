//! Figures of tasks through the `metrics` facade, under Flink's names.
//!
//! All are gauges, as Flink's Prometheus reporter exports them. Names and labels are part of the
//! public surface: dashboards are built on them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use hurtig_graph::ids::AttemptId;
use hurtig_proto::v1;
use metrics::{Gauge, Label, gauge};

use crate::element::MIN_WATERMARK;
use crate::operator::TaskInfo;
use crate::task::TaskMetrics;
use crate::task::metrics::QueueFigures;

const TASK: &str = "flink_taskmanager_job_task_";
/// The window over which rates are averaged, as in Flink.
const WINDOW_US: u64 = 60_000_000;

/// The window of the rates that the JobManager is told: what a task does now, for a person who looks.
const RECENT_US: u64 = 10_000_000;

/// Counters at some moment, of which rates are made.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at_us: u64,
    values: [u64; 8],
}

/// The gauges of one operator.
struct OperatorGauges {
    records_in: Gauge,
    records_out: Gauge,
    input_watermark: Gauge,
    output_watermark: Gauge,
    late: Gauge,
    watermark_lag: Gauge,
}

/// Gauges of what is queued on one side of a task.
struct QueueGauges {
    usage: Gauge,
    elements: Gauge,
    bytes: Gauge,
}

impl QueueGauges {
    fn set(&self, figures: QueueFigures) {
        self.usage.set(figures.usage());
        self.elements.set(figures.elements as f64);
        self.bytes.set(figures.bytes as f64);
    }
}

/// The gauges of one task.
pub struct TaskFigures {
    metrics: Arc<TaskMetrics>,
    counters: [(Gauge, Gauge); 5],
    times: [(Gauge, Gauge); 3],
    soft_backpressure: Gauge,
    hard_backpressure: Gauge,
    is_backpressured: Gauge,
    input_queues: QueueGauges,
    output_queues: QueueGauges,
    mailbox_size: Gauge,
    mailbox_latency: Gauge,
    input_watermark: Gauge,
    alignment: Gauge,
    start_delay: Gauge,
    operators: Vec<OperatorGauges>,
    samples: std::collections::VecDeque<Sample>,
}

impl TaskFigures {
    /// Registers the gauges of a task whose operators have these (uid, name).
    pub fn new(
        host: &str,
        taskmanager: &str,
        info: &TaskInfo,
        operators: &[(String, String)],
        metrics: Arc<TaskMetrics>,
    ) -> TaskFigures {
        let labels = labels(host, taskmanager, info);
        let task = |name: &str| gauge!(format!("{TASK}{name}"), labels.clone());
        let counter = |name: &str| (task(name), task(&format!("{name}PerSecond")));
        let time = |per_second: &str, total: &str| {
            (task(&format!("{per_second}TimeMsPerSecond")), task(&format!("{total}TimeMs")))
        };
        let operators = operators.iter().map(|(uid, name)| {
            let mut labels = labels.clone();
            labels.push(Label::new("operator_id", uid.clone()));
            labels.push(Label::new("operator_name", name.clone()));
            let operator = |name: &str| gauge!(format!("{TASK}operator_{name}"), labels.clone());
            OperatorGauges {
                records_in: operator("numRecordsIn"),
                records_out: operator("numRecordsOut"),
                input_watermark: operator("currentInputWatermark"),
                output_watermark: operator("currentOutputWatermark"),
                late: operator("numLateRecordsDropped"),
                watermark_lag: operator("watermarkLag"),
            }
        });
        let queues = |usage: &str, queue: &str| QueueGauges {
            usage: task(&format!("Shuffle_Netty_{usage}")),
            elements: task(&format!("Shuffle_Netty_{queue}Length")),
            bytes: task(&format!("Shuffle_Netty_{queue}Size")),
        };
        TaskFigures {
            counters: [
                counter("numRecordsIn"),
                counter("numRecordsOut"),
                counter("numBytesIn"),
                counter("numBytesOut"),
                counter("numBuffersOut"),
            ],
            times: [
                time("busy", "accumulateBusy"),
                time("idle", "accumulateIdle"),
                time("backPressured", "accumulateBackPressured"),
            ],
            soft_backpressure: task("softBackPressuredTimeMsPerSecond"),
            hard_backpressure: task("hardBackPressuredTimeMsPerSecond"),
            input_queues: queues("Input_Buffers_inPoolUsage", "Input_Buffers_inputQueue"),
            output_queues: queues("Output_Buffers_outPoolUsage", "Output_Buffers_outputQueue"),
            mailbox_size: task("mailboxQueueSize"),
            mailbox_latency: task("mailboxLatencyMs"),
            is_backpressured: task("isBackPressured"),
            input_watermark: task("currentInputWatermark"),
            alignment: task("checkpointAlignmentTime"),
            start_delay: task("checkpointStartDelayNanos"),
            operators: operators.collect(),
            samples: std::collections::VecDeque::new(),
            metrics,
        }
    }

    /// Sets all gauges to what the task's figures are at `now_us`, `now_ms` on the wall clock, with
    /// `waiting` messages in its mailbox.
    pub fn publish(&mut self, now_us: u64, now_ms: i64, waiting: usize) {
        let m = &self.metrics;
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let sample = Sample {
            at_us: now_us,
            values: [
                get(&m.records_in),
                get(&m.records_out),
                get(&m.bytes_in),
                get(&m.bytes_out),
                get(&m.batches_out),
                get(&m.busy_us),
                get(&m.idle_us) + get(&m.otherwise_blocked_us),
                get(&m.backpressured_us),
            ],
        };
        while self.samples.front().is_some_and(|s| now_us.saturating_sub(s.at_us) > WINDOW_US) {
            self.samples.pop_front();
        }
        let first = self.samples.front().copied().unwrap_or_default();
        let seconds = now_us.saturating_sub(first.at_us) as f64 / 1e6;
        let rate = |i: usize| {
            if self.samples.is_empty() || seconds <= 0.0 {
                0.0
            } else {
                sample.values[i].saturating_sub(first.values[i]) as f64 / seconds
            }
        };
        for (i, (total, per_second)) in self.counters.iter().enumerate() {
            total.set(sample.values[i] as f64);
            per_second.set(rate(i));
        }
        for (i, (per_second, total)) in self.times.iter().enumerate() {
            per_second.set((rate(5 + i) / 1000.0).clamp(0.0, 1000.0));
            total.set((sample.values[5 + i] / 1000) as f64);
        }
        let backpressured = (rate(7) / 1000.0).clamp(0.0, 1000.0);
        self.soft_backpressure.set(backpressured);
        // A task never blocks while it emits.
        self.hard_backpressure.set(0.0);
        self.input_queues.set(m.input_queues());
        self.output_queues.set(m.output_queues());
        self.mailbox_size.set(waiting as f64);
        self.mailbox_latency.set(get(&m.mailbox_latency_us) as f64 / 1000.0);
        let before = self.samples.back().map_or(0, |s| s.values[7]);
        self.is_backpressured.set(if sample.values[7] > before { 1.0 } else { 0.0 });
        self.input_watermark.set(m.watermark_ms.load(Relaxed) as f64);
        self.alignment.set((get(&m.alignment_us) * 1000) as f64);
        self.start_delay.set((get(&m.start_delay_ms) * 1_000_000) as f64);
        for (gauges, figures) in self.operators.iter().zip(&m.operators) {
            gauges.records_in.set(get(&figures.records_in) as f64);
            gauges.records_out.set(get(&figures.records_out) as f64);
            gauges.input_watermark.set(figures.input_watermark_ms.load(Relaxed) as f64);
            gauges.output_watermark.set(figures.output_watermark_ms.load(Relaxed) as f64);
            gauges.late.set(get(&figures.counters.late_records_dropped) as f64);
            let watermark = figures.output_watermark_ms.load(Relaxed);
            if m.is_source() && watermark != MIN_WATERMARK {
                gauges.watermark_lag.set(now_ms.saturating_sub(watermark) as f64);
            }
        }
        self.samples.push_back(sample);
    }

    /// What the JobManager is told of the task, as of the last [`TaskFigures::publish`].
    pub fn details(&self, now_us: u64, waiting: usize) -> v1::SubtaskDetails {
        let m = &self.metrics;
        let last = self.samples.back().copied().unwrap_or_default();
        let recent = |s: &&Sample| last.at_us.saturating_sub(s.at_us) <= RECENT_US;
        let first = self.samples.iter().find(recent).copied().unwrap_or(last);
        let seconds = last.at_us.saturating_sub(first.at_us) as f64 / 1e6;
        let rate = |i: usize| {
            if seconds <= 0.0 { 0.0 } else { last.values[i].saturating_sub(first.values[i]) as f64 / seconds }
        };
        let ms_per_second = |i: usize| (rate(i) / 1000.0).clamp(0.0, 1000.0) as u32;
        let activity = m.activity.at(now_us);
        let (input, output) = (m.input_queues(), m.output_queues());
        v1::SubtaskDetails {
            blocked_on: activity.blocked_on.map(|reason| reason.name().to_owned()).unwrap_or_default(),
            blocked_ms: activity.blocked_us / 1000,
            step_ms: activity.step_us / 1000,
            records_in_per_second: rate(0),
            records_out_per_second: rate(1),
            busy_ms_per_second: ms_per_second(5),
            idle_ms_per_second: ms_per_second(6),
            backpressured_ms_per_second: ms_per_second(7),
            mailbox_size: waiting as u64,
            mailbox_latency_us: m.mailbox_latency_us.load(Relaxed),
            input_queue_bytes: input.bytes as u64,
            input_queue_limit: input.limit as u64,
            output_queue_bytes: output.bytes as u64,
            output_queue_limit: output.limit as u64,
            ..m.to_proto()
        }
    }
}

/// The gauges of a TaskManager.
pub struct ProcessFigures {
    network_used: Gauge,
    network_available: Gauge,
    network_total: Gauge,
    managed_used: Gauge,
    managed_total: Gauge,
}

impl ProcessFigures {
    /// Registers them.
    pub fn new(host: &str, taskmanager: &str) -> ProcessFigures {
        let labels = vec![Label::new("host", host.to_owned()), Label::new("tm_id", taskmanager.to_owned())];
        let figure = |name: &str| gauge!(format!("flink_taskmanager_Status_{name}"), labels.clone());
        ProcessFigures {
            network_used: figure("Shuffle_Netty_UsedMemory"),
            network_available: figure("Shuffle_Netty_AvailableMemory"),
            network_total: figure("Shuffle_Netty_TotalMemory"),
            managed_used: figure("Flink_Memory_Managed_Used"),
            managed_total: figure("Flink_Memory_Managed_Total"),
        }
    }

    /// Sets them: bytes in channels of so many that they may hold, and bytes of the databases' cache.
    pub fn publish(&self, network: (usize, usize), managed: (usize, usize)) {
        let (used, total) = network;
        self.network_used.set(used as f64);
        self.network_total.set(total as f64);
        self.network_available.set(total.saturating_sub(used) as f64);
        self.managed_used.set(managed.0 as f64);
        self.managed_total.set(managed.1 as f64);
    }
}

fn labels(host: &str, taskmanager: &str, info: &TaskInfo) -> Vec<Label> {
    let AttemptId { job, vertex, subtask, attempt } = &info.attempt;
    vec![
        Label::new("host", host.to_owned()),
        Label::new("tm_id", taskmanager.to_owned()),
        Label::new("job_id", job.as_str().to_owned()),
        Label::new("job_name", info.job_name.clone()),
        Label::new("task_id", vertex.clone()),
        Label::new("task_name", info.vertex_name.clone()),
        Label::new("task_attempt_id", format!("{vertex}_{subtask}_{attempt}")),
        Label::new("task_attempt_num", attempt.to_string()),
        Label::new("subtask_index", subtask.to_string()),
    ]
}
