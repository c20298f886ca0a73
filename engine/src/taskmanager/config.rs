//! Settings of a TaskManager.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hurtig_graph::config::{Configuration, TlsFiles, keys};
use hurtig_state::ha::HaDirectory;

use super::decommission::DecommissionConfig;
use crate::clock::{Clock, SystemClock};
use crate::error::{EngineError, Result};
use crate::exchange::ExchangeConfig;

/// Called with the reason when the process cannot go on: a task that cannot be cancelled.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Several JobManagers stand in for each other.
#[derive(Debug, Clone)]
pub struct HaConfig {
    /// Where they keep who leads.
    pub directory: HaDirectory,
    /// Between two looks.
    pub poll: Duration,
    /// How long tasks run on without a JobManager.
    pub grace: Duration,
}

impl HaConfig {
    fn read(configuration: &Configuration) -> Result<Option<HaConfig>> {
        let Some(directory) = HaDirectory::of(configuration)? else { return Ok(None) };
        let ms = |option| Ok::<_, EngineError>(configuration.duration_ms(option)?.unwrap_or(0));
        let poll = Duration::from_millis((ms(&keys::HA_LEASE)? / 5).clamp(100, 1_000));
        Ok(Some(HaConfig { directory, poll, grace: Duration::from_millis(ms(&keys::HA_TASK_GRACE)?) }))
    }
}

/// See the module documentation.
#[derive(Clone)]
pub struct TaskManagerConfig {
    /// Identity of the TaskManager; the same after a restart of the process finds its local state.
    pub resource_id: String,
    /// Host by which others reach the data port.
    pub host: String,
    /// Interface of the data port.
    pub bind_host: String,
    /// Ports to try for data, inclusive; 0: any.
    pub data_ports: (u16, u16),
    /// Slots, each a thread.
    pub slots: u32,
    /// Each task gets a thread of its own instead.
    pub thread_per_task: bool,
    /// Address of the JobManager, host:port; several, separated by commas.
    pub jobmanager: String,
    /// Where to find which JobManager leads; `None`: there is one only.
    pub ha: Option<HaConfig>,
    /// How it goes; `None`: at once.
    pub decommission: Option<DecommissionConfig>,
    /// Folder for databases and local copies.
    pub work_dir: PathBuf,
    /// The process's configuration.
    pub configuration: Configuration,
    /// Where metrics are served, for others to know; may be empty.
    pub metrics_address: String,
    /// Version of the program.
    pub version: String,
    /// Sizes of the exchange.
    pub exchange: ExchangeConfig,
    /// How often figures are reported.
    pub report_interval: Duration,
    /// A task that takes longer to cancel is fatal; zero: never.
    pub cancellation_timeout: Duration,
    /// How long registration may take before the TaskManager ends.
    pub registration_timeout: Duration,
    /// Largest message from or to the JobManager.
    pub max_message_bytes: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// See [`OnFatal`]; by default the reason is logged. Where it does not end the process, the
    /// TaskManager leaves the JobManager and returns once the task has ended.
    pub on_fatal: OnFatal,
}

impl TaskManagerConfig {
    /// From `configuration`, for the JobManager at `jobmanager`, with local files in `work_dir`.
    ///
    /// # Errors
    /// A value that cannot be read.
    pub fn from_configuration(
        configuration: &Configuration,
        jobmanager: impl Into<String>,
        work_dir: impl Into<PathBuf>,
    ) -> Result<TaskManagerConfig> {
        let c = configuration;
        let ms = |option| -> Result<Duration> { Ok(Duration::from_millis(c.duration_ms(option)?.unwrap_or(0))) };
        let bind_host = c.text(&keys::TASKMANAGER_BIND_HOST).unwrap_or("127.0.0.1").to_owned();
        let slots = c.int(&keys::TASK_SLOTS)?.unwrap_or(1);
        let slots = u32::try_from(slots).ok().filter(|&s| s > 0).ok_or_else(|| {
            EngineError::Validation(format!("{}: {slots} is not a number of slots", keys::TASK_SLOTS.key))
        })?;
        let mut exchange = ExchangeConfig::default();
        if let Some(linger) = c.duration_ms(&keys::EXCHANGE_LINGER)? {
            exchange.linger_ms = linger;
        }
        if let Some(credit) = c.memory_bytes(&keys::EXCHANGE_CREDIT)? {
            exchange.credit_bytes = usize::try_from(credit).unwrap_or(usize::MAX).max(1);
        }
        exchange.tls = TlsFiles::read(c)?.map(Arc::new);
        exchange.budget_bytes = network_budget(c)?;
        exchange.compress = c.choice(&keys::EXCHANGE_COMPRESSION)? == Some("LZ4");
        let resource_id = match c.text(&keys::TASKMANAGER_RESOURCE_ID) {
            Some(id) => id.to_owned(),
            None => format!("taskmanager-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]),
        };
        Ok(TaskManagerConfig {
            resource_id,
            host: c.text(&keys::TASKMANAGER_HOST).map_or_else(|| bind_host.clone(), str::to_owned),
            bind_host,
            data_ports: c.ports(&keys::TASKMANAGER_DATA_PORT)?.unwrap_or((0, 0)),
            slots,
            thread_per_task: c.choice(&keys::TASK_THREADS)? == Some("TASK"),
            jobmanager: jobmanager.into(),
            ha: HaConfig::read(c)?,
            decommission: match c.bool(&keys::GRACEFUL_DECOMMISSION)?.unwrap_or(true) {
                true => Some(DecommissionConfig {
                    timeout: ms(&keys::DECOMMISSION_TIMEOUT)?,
                    notice_file: c.text(&keys::DECOMMISSION_NOTICE_FILE).map(PathBuf::from),
                    poll: ms(&keys::DECOMMISSION_POLL)?.max(Duration::from_millis(10)),
                }),
                false => None,
            },
            work_dir: work_dir.into(),
            metrics_address: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            exchange,
            report_interval: ms(&keys::METRICS_INTERVAL)?.max(Duration::from_millis(10)),
            cancellation_timeout: ms(&keys::TASK_CANCELLATION_TIMEOUT)?,
            registration_timeout: ms(&keys::TASKMANAGER_REGISTRATION_TIMEOUT)?,
            max_message_bytes: usize::try_from(c.memory_bytes(&keys::RPC_MAX_MESSAGE)?.unwrap_or(64 << 20))
                .unwrap_or(usize::MAX),
            configuration: c.clone(),
            clock: Arc::new(SystemClock::default()),
            on_fatal: Arc::new(|reason| tracing::error!(reason, "the TaskManager cannot go on")),
        })
    }
}

/// Bytes that the exchange may hold; `None` where the process has no memory limit of its own.
pub(super) fn network_budget(c: &Configuration) -> Result<Option<usize>> {
    let process = match c.memory_bytes(&keys::TASKMANAGER_MEMORY_PROCESS)? {
        Some(bytes) => Some(bytes),
        None => c.memory_bytes(&keys::TASKMANAGER_MEMORY_FLINK)?,
    };
    let Some(process) = process else { return Ok(None) };
    let fraction = c.float(&keys::TASKMANAGER_MEMORY_NETWORK_FRACTION)?.unwrap_or(0.1).clamp(0.0, 1.0);
    let least = c.memory_bytes(&keys::TASKMANAGER_MEMORY_NETWORK_MIN)?.unwrap_or(0);
    let most = c.memory_bytes(&keys::TASKMANAGER_MEMORY_NETWORK_MAX)?.unwrap_or(u64::MAX);
    if least > most {
        let (min, max) = (keys::TASKMANAGER_MEMORY_NETWORK_MIN.key, keys::TASKMANAGER_MEMORY_NETWORK_MAX.key);
        return Err(EngineError::Validation(format!("{min} ({least} bytes) must not be above {max} ({most} bytes)")));
    }
    let wanted = (process as f64 * fraction) as u64;
    Ok(Some(usize::try_from(wanted.clamp(least, most)).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(pairs: &[(&str, &str)]) -> Result<Option<usize>> {
        network_budget(&Configuration::from_map(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()))
    }

    #[test]
    fn the_exchange_gets_its_share_of_a_limited_process() {
        assert_eq!(budget(&[]).unwrap(), None);
        assert_eq!(budget(&[("taskmanager.memory.process.size", "1000 mb")]).unwrap(), Some(100 << 20));
        let size = ("taskmanager.memory.flink.size", "1000 mb");
        assert_eq!(budget(&[size, ("taskmanager.memory.network.fraction", "0.5")]).unwrap(), Some(500 << 20));
        assert_eq!(budget(&[size, ("taskmanager.memory.network.min", "200 mb")]).unwrap(), Some(200 << 20));
        assert_eq!(budget(&[size, ("taskmanager.memory.network.max", "80 mb")]).unwrap(), Some(80 << 20));
        let wrong = budget(&[size, ("taskmanager.memory.network.max", "1 mb")]).unwrap_err().to_string();
        assert!(wrong.contains("taskmanager.memory.network.min"), "{wrong}");
    }
}
