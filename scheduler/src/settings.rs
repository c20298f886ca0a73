//! What the JobManager reads from the configuration, checked once when a job is submitted.

use hurtig_graph::config::{ConfigOption, Configuration, keys};
use hurtig_graph::error::GraphError;

use crate::job::adaptive::ScalingSettings;
use crate::restart::RestartSettings;

/// Settings of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSettings {
    /// Of its checkpoints.
    pub checkpoints: CheckpointSettings,
    /// What happens after a failure.
    pub restart: RestartSettings,
    /// A failure restarts all regions, not only those that it touches.
    pub full_failover: bool,
    /// How long the job waits for missing slots before it fails.
    pub slot_wait_ms: u64,
    /// The job may run with less parallelism than planned.
    pub adaptive: bool,
    /// The slots alone say how wide the job is.
    pub reactive: bool,
    /// How long fewer slots than wanted are there before an adaptive job starts with them.
    pub stabilization_ms: u64,
    /// When a running job rescales.
    pub scaling: ScalingSettings,
    /// How long a running job that is to leave a TaskManager waits for slots for all that it wants.
    pub leaving_window_ms: u64,
    /// Failures that are remembered.
    pub failure_history: usize,
    /// Bytes of released result rows that may wait for the client.
    pub collect_buffer_bytes: u64,
    /// How long a job with result rows goes on without a reader; `None`: for ever.
    pub reader_timeout_ms: Option<u64>,
}

/// Settings of a job's checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointSettings {
    /// `None`: no periodic checkpoints.
    pub interval_ms: Option<u64>,
    /// From the completion of one to the start of the next periodic one.
    pub min_pause_ms: u64,
    /// From the trigger to completion.
    pub timeout_ms: u64,
    /// Failures in a row that do not fail the job.
    pub tolerable_failures: u32,
    /// Completed checkpoints that are kept.
    pub retained: usize,
    /// What is kept when the job has ended.
    pub retention: Retention,
    /// Checkpoints go on when some tasks have finished, and sinks commit with a last one.
    pub after_tasks_finish: bool,
    /// A latest checkpoint that is damaged is given up for the one before it.
    pub fall_back: bool,
    /// Barriers overtake rows, which become part of the checkpoint.
    pub unaligned: bool,
    /// Unaligned barriers start aligned, and overtake rows so long after the trigger; 0: from the start.
    pub aligned_timeout_ms: u64,
    /// Barriers block no channel: rows may count twice after a failure.
    pub at_least_once: bool,
    /// Where savepoints go by default.
    pub savepoint_folder: Option<String>,
    /// What the job starts from.
    pub start: Option<StartFrom>,
}

/// What a job starts from (`execution.state-recovery.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFrom {
    /// URI of a savepoint's or checkpoint's folder or metadata object.
    pub path: String,
    /// The job takes its files over.
    pub claim: bool,
    /// State that no operator of the job claims is dropped.
    pub ignore_unclaimed: bool,
}

/// `execution.checkpointing.externalized-checkpoint-retention`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Nothing is kept.
    Delete,
    /// Kept when the job failed.
    DeleteOnCancellation,
    /// Kept when the job failed or was cancelled.
    RetainOnCancellation,
}

/// Settings of the JobManager.
#[derive(Debug, Clone, PartialEq)]
pub struct MasterSettings {
    /// Between two heartbeats.
    pub heartbeat_interval_ms: u64,
    /// Silence after which a TaskManager is lost.
    pub heartbeat_timeout_ms: u64,
    /// Jobs leave TaskManagers that are to go.
    pub graceful_decommission: bool,
}

impl MasterSettings {
    /// Reads the cluster's configuration.
    ///
    /// # Errors
    /// A value that cannot be read, or a timeout that is not above the interval.
    pub fn read(configuration: &Configuration) -> Result<Self, GraphError> {
        let settings = MasterSettings {
            heartbeat_interval_ms: duration(configuration, &keys::HEARTBEAT_INTERVAL)?,
            heartbeat_timeout_ms: duration(configuration, &keys::HEARTBEAT_TIMEOUT)?,
            graceful_decommission: configuration.bool(&keys::GRACEFUL_DECOMMISSION)?.unwrap_or(true),
        };
        if settings.heartbeat_interval_ms == 0 || settings.heartbeat_interval_ms >= settings.heartbeat_timeout_ms {
            return Err(GraphError::Config(format!(
                "heartbeat.timeout ({} ms) must be above heartbeat.interval ({} ms), which must be above 0",
                settings.heartbeat_timeout_ms, settings.heartbeat_interval_ms
            )));
        }
        Ok(settings)
    }
}

impl JobSettings {
    /// Reads the job's configuration, on top of the cluster's.
    ///
    /// # Errors
    /// A value that cannot be read or makes no sense.
    pub fn read(configuration: &Configuration) -> Result<Self, GraphError> {
        let checkpoints = CheckpointSettings::read(configuration)?;
        let restart = RestartSettings::read(configuration, checkpoints.interval_ms.is_some())?;
        let reactive = configuration.choice(&keys::SCHEDULER_MODE)?.is_some();
        let set_or = |option: &ConfigOption, default: u64| match configuration.is_set(option) {
            true => duration(configuration, option),
            false => Ok(default),
        };
        let forever = i64::MAX as u64;
        let slot_wait = if reactive { forever } else { duration(configuration, &keys::SLOT_REQUEST_TIMEOUT)? };
        let stabilization = if reactive { 0 } else { duration(configuration, &keys::RESOURCE_STABILIZATION_TIMEOUT)? };
        let failures = whole(configuration, &keys::RESCALE_MAX_CHECKPOINT_FAILURES, 1)?;
        let delay = checkpoints.interval_ms.map_or(0, |ms| ms.saturating_mul(u64::from(failures) + 1));
        let adaptive = reactive || configuration.choice(&keys::JOBMANAGER_SCHEDULER)? == Some("Adaptive");
        let stabilization = set_or(&keys::RESOURCE_STABILIZATION_TIMEOUT, stabilization)?;
        let combined = adaptive && configuration.bool(&keys::COMBINED_RESTART)?.unwrap_or(false);
        let window = combined.then(|| duration(configuration, &keys::COMBINED_RESTART_WINDOW)).transpose()?;
        let executing = duration(configuration, &keys::EXECUTING_STABILIZATION_TIMEOUT)?;
        let scaling = ScalingSettings {
            cooldown_ms: duration(configuration, &keys::SCALING_COOLDOWN)?,
            stabilization_ms: window.unwrap_or(executing),
            max_delay_ms: set_or(&keys::RESCALE_MAX_DELAY, delay)?,
            max_checkpoint_failures: failures,
        };
        Ok(JobSettings {
            restart,
            checkpoints,
            full_failover: configuration.choice(&keys::FAILOVER_STRATEGY)? == Some("full"),
            slot_wait_ms: wait_timeout(configuration, slot_wait)?,
            adaptive,
            reactive,
            stabilization_ms: stabilization,
            scaling,
            leaving_window_ms: window.unwrap_or(stabilization),
            failure_history: whole(configuration, &keys::EXCEPTION_HISTORY_SIZE, 0)? as usize,
            collect_buffer_bytes: configuration.memory_bytes(&keys::COLLECT_BUFFER)?.unwrap_or(64 << 20),
            reader_timeout_ms: configuration.duration_ms(&keys::CLIENT_HEARTBEAT_TIMEOUT)?.filter(|&ms| ms > 0),
        })
    }
}

/// How long a job waits for the slots that it needs; a negative time is for ever, as in Flink.
fn wait_timeout(configuration: &Configuration, default: u64) -> Result<u64, GraphError> {
    let option = &keys::RESOURCE_WAIT_TIMEOUT;
    match configuration.text(option).map(str::trim) {
        _ if !configuration.is_set(option) => Ok(default),
        Some(text) if text.starts_with('-') => Ok(i64::MAX as u64),
        _ => duration(configuration, option),
    }
}

impl CheckpointSettings {
    fn read(configuration: &Configuration) -> Result<Self, GraphError> {
        let interval_ms = configuration.duration_ms(&keys::CHECKPOINTING_INTERVAL)?.filter(|&ms| ms > 0);
        if let Some(ms) = interval_ms.filter(|&ms| ms < 10) {
            return Err(GraphError::Config(format!(
                "execution.checkpointing.interval: {ms} ms is too short, it must be at least 10 ms"
            )));
        }
        let concurrent = whole(configuration, &keys::CHECKPOINTING_MAX_CONCURRENT, 1)?;
        if concurrent > 1 {
            tracing::info!("execution.checkpointing.max-concurrent-checkpoints: one checkpoint is taken at a time");
        }
        let retention = match configuration.choice(&keys::CHECKPOINTING_EXTERNALIZED_RETENTION)? {
            Some("RETAIN_ON_CANCELLATION") => Retention::RetainOnCancellation,
            Some("DELETE_ON_CANCELLATION") => Retention::DeleteOnCancellation,
            _ => Retention::Delete,
        };
        let at_least_once = configuration.choice(&keys::CHECKPOINTING_MODE)? == Some("AT_LEAST_ONCE");
        let unaligned = configuration.bool(&keys::CHECKPOINTING_UNALIGNED)?.unwrap_or(false);
        if unaligned && at_least_once {
            tracing::warn!(
                "{} is ignored: unaligned checkpoints need {} EXACTLY_ONCE",
                keys::CHECKPOINTING_UNALIGNED.key,
                keys::CHECKPOINTING_MODE.key
            );
        }
        Ok(CheckpointSettings {
            interval_ms,
            min_pause_ms: duration(configuration, &keys::CHECKPOINTING_MIN_PAUSE)?,
            timeout_ms: duration(configuration, &keys::CHECKPOINTING_TIMEOUT)?.max(10),
            tolerable_failures: whole(configuration, &keys::CHECKPOINTING_TOLERABLE_FAILED, 0)?,
            retained: whole(configuration, &keys::CHECKPOINTING_NUM_RETAINED, 1)? as usize,
            retention,
            after_tasks_finish: configuration.bool(&keys::CHECKPOINTING_AFTER_TASKS_FINISH)?.unwrap_or(true),
            fall_back: configuration.bool(&keys::FALL_BACK)?.unwrap_or(false),
            unaligned: unaligned && !at_least_once,
            aligned_timeout_ms: duration(configuration, &keys::CHECKPOINTING_ALIGNED_TIMEOUT)?,
            at_least_once,
            savepoint_folder: configuration.text(&keys::CHECKPOINTING_SAVEPOINT_DIRECTORY).map(str::to_owned),
            start: StartFrom::read(configuration)?,
        })
    }
}

impl StartFrom {
    fn read(configuration: &Configuration) -> Result<Option<Self>, GraphError> {
        let Some(path) = configuration.text(&keys::RECOVERY_PATH).map(str::trim).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(StartFrom {
            path: path.to_owned(),
            claim: configuration.choice(&keys::RECOVERY_CLAIM_MODE)? == Some("CLAIM"),
            ignore_unclaimed: configuration.bool(&keys::RECOVERY_IGNORE_UNCLAIMED)?.unwrap_or(false),
        }))
    }
}

/// A duration in milliseconds that has a default.
pub(crate) fn duration(configuration: &Configuration, option: &ConfigOption) -> Result<u64, GraphError> {
    configuration
        .duration_ms(option)?
        .ok_or_else(|| GraphError::Config(format!("{}: a duration is needed, for example '10 s'", option.key)))
}

/// A whole number from `least` to the largest u32.
pub(crate) fn whole(configuration: &Configuration, option: &ConfigOption, least: u32) -> Result<u32, GraphError> {
    let value = configuration.int(option)?.unwrap_or(i64::from(least));
    match u32::try_from(value) {
        Ok(value) if value >= least => Ok(value),
        _ => Err(GraphError::Config(format!("{}: {value} must be at least {least}", option.key))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_once_and_unaligned_exclude_each_other() {
        let mut configuration = Configuration::default();
        configuration.set(keys::CHECKPOINTING_UNALIGNED.key, "true");
        configuration.set(keys::CHECKPOINTING_ALIGNED_TIMEOUT.key, "3 s");
        let read = |configuration: &Configuration| JobSettings::read(configuration).unwrap().checkpoints;
        let settings = read(&configuration);
        assert!(settings.unaligned && !settings.at_least_once);
        assert_eq!(settings.aligned_timeout_ms, 3_000);
        configuration.set(keys::CHECKPOINTING_MODE.key, "AT_LEAST_ONCE");
        let settings = read(&configuration);
        assert!(!settings.unaligned && settings.at_least_once);
    }
}
