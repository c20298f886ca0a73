//! Figures of the JobManager under Flink's names, through the `metrics` facade.

use hurtig_graph::ids::JobId;
use hurtig_proto::v1;
use metrics::{Gauge, gauge};

use crate::checkpoint::CheckpointCoordinator;
use crate::slots::SlotPool;

/// The figures of one job.
pub(super) struct JobMetrics {
    restarts: Gauge,
    completed: Gauge,
    failed: Gauge,
    total: Gauge,
    in_progress: Gauge,
    last_id: Gauge,
    last_size: Gauge,
    last_full_size: Gauge,
    last_duration: Gauge,
    running_since: Gauge,
}

impl JobMetrics {
    pub(super) fn new(job: &JobId, name: &str) -> Self {
        let labels = [("job_id", job.as_str().to_owned()), ("job_name", name.to_owned())];
        JobMetrics {
            restarts: gauge!("flink_jobmanager_job_numRestarts", &labels),
            completed: gauge!("flink_jobmanager_job_numberOfCompletedCheckpoints", &labels),
            failed: gauge!("flink_jobmanager_job_numberOfFailedCheckpoints", &labels),
            total: gauge!("flink_jobmanager_job_totalNumberOfCheckpoints", &labels),
            in_progress: gauge!("flink_jobmanager_job_numberOfInProgressCheckpoints", &labels),
            last_id: gauge!("flink_jobmanager_job_lastCompletedCheckpointId", &labels),
            last_size: gauge!("flink_jobmanager_job_lastCheckpointSize", &labels),
            last_full_size: gauge!("flink_jobmanager_job_lastCheckpointFullSize", &labels),
            last_duration: gauge!("flink_jobmanager_job_lastCheckpointDuration", &labels),
            running_since: gauge!("flink_jobmanager_job_runningState", &labels),
        }
    }

    pub(super) fn update(&mut self, status: &v1::JobStatus, checkpoints: &CheckpointCoordinator) {
        let stats = checkpoints.stats();
        let in_progress = checkpoints.pending_id().is_some();
        self.restarts.set(f64::from(status.restarts));
        self.completed.set(stats.completed as f64);
        self.failed.set(stats.failed as f64);
        self.total.set((stats.completed + stats.failed + u64::from(in_progress)) as f64);
        self.in_progress.set(f64::from(u8::from(in_progress)));
        self.last_id.set(stats.last_id as f64);
        self.last_size.set(stats.last_uploaded_bytes as f64);
        self.last_full_size.set(stats.last_bytes as f64);
        self.last_duration.set(stats.last_duration_ms as f64);
        self.running_since.set(f64::from(u8::from(status.state == "RUNNING")));
    }
}

/// The figures of the cluster.
pub(super) fn update_cluster(pool: &SlotPool, running_jobs: usize) {
    gauge!("flink_jobmanager_numRegisteredTaskManagers").set(pool.iter().count() as f64);
    gauge!("flink_jobmanager_taskSlotsTotal").set(pool.total() as f64);
    gauge!("flink_jobmanager_taskSlotsAvailable").set(pool.free() as f64);
    gauge!("flink_jobmanager_numRunningJobs").set(running_jobs as f64);
}
