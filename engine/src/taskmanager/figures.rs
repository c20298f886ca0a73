//! Figures of tasks through the `metrics` facade, under Flink's names.
//!
//! All are gauges, as Flink's Prometheus reporter exports them. Names and labels are part of the
//! public surface: dashboards are built on them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use hurtig_graph::ids::AttemptId;
use metrics::{Gauge, Label, gauge};

use crate::operator::TaskInfo;
use crate::task::TaskMetrics;

const TASK: &str = "flink_taskmanager_job_task_";
/// The window over which rates are averaged, as in Flink.
const WINDOW_US: u64 = 60_000_000;

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
}

/// The gauges of one task.
pub struct TaskFigures {
    metrics: Arc<TaskMetrics>,
    counters: [(Gauge, Gauge); 5],
    times: [(Gauge, Gauge); 3],
    soft_backpressure: Gauge,
    is_backpressured: Gauge,
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
            }
        });
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
            is_backpressured: task("isBackPressured"),
            input_watermark: task("currentInputWatermark"),
            alignment: task("checkpointAlignmentTime"),
            start_delay: task("checkpointStartDelayNanos"),
            operators: operators.collect(),
            samples: std::collections::VecDeque::new(),
            metrics,
        }
    }

    /// Sets all gauges to what the task's figures are at `now_us`.
    pub fn publish(&mut self, now_us: u64) {
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
        }
        self.samples.push_back(sample);
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
