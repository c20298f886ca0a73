//! Figures of the JobManager under Flink's names, through the `metrics` facade.

use hurtig_graph::ids::JobId;
use hurtig_proto::v1;
use metrics::{Gauge, gauge};

use crate::checkpoint::CheckpointCoordinator;
use crate::slots::SlotPool;

/// What a job is doing, as Flink's gauges `runningTime` and so on name it.
const STATES: &[(&str, &str)] = &[
    ("CREATED", "createdTime"),
    ("RUNNING", "runningTime"),
    ("RESTARTING", "restartingTime"),
    ("CANCELLING", "cancellingTime"),
    ("FAILING", "failingTime"),
];

/// The figures of one job.
pub(super) struct JobMetrics {
    restarts: Gauge,
    full_restarts: Gauge,
    completed: Gauge,
    failed: Gauge,
    total: Gauge,
    in_progress: Gauge,
    last_id: Gauge,
    last_size: Gauge,
    last_full_size: Gauge,
    last_duration: Gauge,
    last_completed_time: Gauge,
    last_restore_time: Gauge,
    running: Gauge,
    uptime: Gauge,
    downtime: Gauge,
    in_state: Vec<(&'static str, Gauge)>,
    /// The state and since when it is so.
    state: (String, i64),
    /// Since when the job does not run although it ran before.
    down_since_ms: Option<i64>,
}

impl JobMetrics {
    pub(super) fn new(job: &JobId, name: &str) -> Self {
        let labels = [("job_id", job.as_str().to_owned()), ("job_name", name.to_owned())];
        let job = |name: &str| gauge!(format!("flink_jobmanager_job_{name}"), &labels);
        JobMetrics {
            restarts: job("numRestarts"),
            full_restarts: job("fullRestarts"),
            completed: job("numberOfCompletedCheckpoints"),
            failed: job("numberOfFailedCheckpoints"),
            total: job("totalNumberOfCheckpoints"),
            in_progress: job("numberOfInProgressCheckpoints"),
            last_id: job("lastCompletedCheckpointId"),
            last_size: job("lastCheckpointSize"),
            last_full_size: job("lastCheckpointFullSize"),
            last_duration: job("lastCheckpointDuration"),
            last_completed_time: job("lastCheckpointCompletedTimestamp"),
            last_restore_time: job("lastCheckpointRestoreTimestamp"),
            running: job("runningState"),
            uptime: job("uptime"),
            downtime: job("downtime"),
            in_state: STATES.iter().map(|(state, gauge)| (*state, job(gauge))).collect(),
            state: (String::new(), 0),
            down_since_ms: None,
        }
    }

    pub(super) fn update(&mut self, status: &v1::JobStatus, checkpoints: &CheckpointCoordinator, now: i64) {
        let stats = checkpoints.stats();
        let in_progress = checkpoints.pending_id().is_some();
        let any = stats.completed > 0;
        self.restarts.set(f64::from(status.restarts));
        self.full_restarts.set(f64::from(status.restarts));
        self.completed.set(stats.completed as f64);
        self.failed.set(stats.failed as f64);
        self.total.set((stats.completed + stats.failed + u64::from(in_progress)) as f64);
        self.in_progress.set(f64::from(u8::from(in_progress)));
        self.last_id.set(stats.last_id as f64);
        // -1: there is none, as in Flink.
        self.last_size.set(if any { stats.last_uploaded_bytes as f64 } else { -1.0 });
        self.last_full_size.set(if any { stats.last_bytes as f64 } else { -1.0 });
        self.last_duration.set(if any { stats.last_duration_ms as f64 } else { -1.0 });
        self.last_completed_time.set(if any { stats.last_time_ms as f64 } else { -1.0 });
        self.last_restore_time.set(if status.restored_time_ms > 0 { status.restored_time_ms as f64 } else { -1.0 });
        self.update_times(status, now);
    }

    fn update_times(&mut self, status: &v1::JobStatus, now: i64) {
        if self.state.0 != status.state {
            self.state = (status.state.clone(), now);
        }
        let runs = status.state == "RUNNING" && status.running_since_ms > 0;
        let ended = status.end_time_ms != 0;
        self.running.set(f64::from(u8::from(runs)));
        self.uptime.set(if runs { (now - status.running_since_ms).max(0) as f64 } else { 0.0 });
        if runs || ended {
            self.down_since_ms = None;
        } else if matches!(status.state.as_str(), "RESTARTING" | "FAILING") {
            self.down_since_ms.get_or_insert(now);
        }
        self.downtime.set(self.down_since_ms.map_or(0.0, |since| (now - since).max(0) as f64));
        for (state, gauge) in &self.in_state {
            let here = *state == self.state.0;
            gauge.set(if here { (now - self.state.1).max(0) as f64 } else { 0.0 });
        }
    }
}

/// The figures of the cluster.
pub(super) fn update_cluster(pool: &SlotPool, running_jobs: usize) {
    gauge!("flink_jobmanager_numRegisteredTaskManagers").set(pool.iter().count() as f64);
    gauge!("flink_jobmanager_taskSlotsTotal").set(pool.total() as f64);
    gauge!("flink_jobmanager_taskSlotsAvailable").set(pool.free() as f64);
    gauge!("flink_jobmanager_numRunningJobs").set(running_jobs as f64);
}
