//! The job from its start over its load to its failures, and what is measured of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hurtig::client::{Client, JobHandle};
use hurtig::sql::split_script;
use hurtig::v1;
use hurtig_connectors::{Connectors, random};
use hurtig_graph::config::{Configuration, keys};
use hurtig_sql::{Session, StatementResult};
use serde::Serialize;

use super::super::super::block_on;
use super::processes::{Line, Processes};
use super::watch::{Watch, now_ms};
use super::workload::{self, Control, Schedule};
use super::{RecoveryArgs, Scenario};

/// Parallelism of the job, but for the rescale.
const PARALLELISM: u32 = 2;
/// What it is rescaled to.
const WIDE: u32 = 4;
/// Anything that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the maximum is measured: over several checkpoints and the merging of files that follows
/// them, so that it is one that the job sustains.
const FULL_SPEED: Duration = Duration::from_secs(24);
/// How long before that the job runs at full speed already.
const WARM_UP: Duration = Duration::from_secs(6);
/// Rows that are no later than this are no lag.
const NO_LAG_MS: i64 = 250;
/// The time after the first row over which the rate is taken.
const RATE_AFTER: (u64, u64) = (1, 5);

/// The figures of one scenario.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub scenario: Scenario,
    /// By `du` of the checkpoint's files.
    pub state_bytes: u64,
    /// Random bytes in the state.
    pub payload_bytes: u64,
    pub keys: u64,
    pub first_batch_p50_ms: u64,
    pub first_batch_max_ms: u64,
    pub lag_zero_p50_ms: u64,
    pub lag_zero_max_ms: u64,
    /// From the time at which the new process was ready, where there is one.
    pub first_batch_after_ready_max_ms: Option<u64>,
    /// Least rate in seconds 1 to 5 after the first row, as a share of the rate before.
    pub rate_after_min: f64,
    pub conditions: Conditions,
    pub runs: Vec<Run>,
}

/// One failure. Times are milliseconds since it was caused; of a rescale, since the last row before.
#[derive(Debug, Serialize)]
pub struct Run {
    /// To the first row that needed restored state.
    pub first_batch_ms: u64,
    /// To the same of the last subtask.
    pub first_batch_all_ms: u64,
    /// From the last row before.
    pub silence_ms: u64,
    /// Of a rescale, which waits for a checkpoint: to the first row, from the request.
    pub after_request_ms: u64,
    pub lag_zero_ms: u64,
    pub process_ready_ms: Option<u64>,
    pub rate_after: f64,
    pub local_bytes: u64,
    pub remote_bytes: u64,
    /// Longest restore of a subtask.
    pub restore_ms: u64,
    /// As the JobManager has it.
    pub restart: Option<Restart>,
}

/// The JobManager's phases of a restart, in milliseconds since it noticed the failure.
#[derive(Debug, Clone, Serialize)]
pub struct Restart {
    /// Since the failure was caused.
    pub noticed_ms: i64,
    pub ended_ms: u64,
    pub waited_ms: u64,
    pub deployed_ms: u64,
    pub running_ms: u64,
    pub checkpoint: u64,
}

/// What the figures hold for.
#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    pub parallelism: u32,
    pub taskmanagers: u32,
    pub maximum_rows_per_second: Option<f64>,
    pub rows_per_second: f64,
    pub checkpoint_interval: String,
    pub checkpoint_directory: String,
    pub heartbeat_interval: String,
    pub heartbeat_timeout: String,
    pub initial_backoff: String,
    pub initial_backoff_default: &'static str,
    pub no_lag_ms: i64,
    pub cores: usize,
    pub development_build: bool,
}

/// The job under measurement.
pub struct Bench {
    folder: PathBuf,
    checkpoints: String,
    processes: Processes,
    watch: Watch,
    client: Client,
    job: JobHandle,
    keys: u64,
    control: (PathBuf, Control),
    schedule: Schedule,
    subtasks: u32,
    conditions: Conditions,
    random: u64,
    replaced: u32,
}

impl Bench {
    /// Starts cluster and job, fills the state, and finds the rate.
    pub fn start(args: &RecoveryArgs, wanted: u64, folder: &Path) -> anyhow::Result<Bench> {
        let checkpoints =
            args.checkpoint_dir.clone().unwrap_or_else(|| format!("file://{}", folder.join("checkpoints").display()));
        let options = options(args, &checkpoints);
        let configuration = hurtig_graph::config::from_dynamic_properties(&options)?;
        let mut processes = Processes::start(folder, options)?;
        for name in ["a-0", "b-0"] {
            processes.start_taskmanager(name)?;
        }
        let client = block_on(async { Ok(Client::connect(processes.address()).await?) })?;
        let keys = wanted.div_ceil(workload::PAYLOAD as u64).max(1);
        let path = folder.join("control.json");
        Control::default().write(&path)?;
        let mut watch = Watch::default();
        let deadline = Instant::now() + PATIENCE;
        while watch.ready.len() < 2 {
            watch.next(&processes, deadline)?.context("the TaskManagers did not start")?;
        }
        let job = submit(&client, &workload::script(&path, keys))?;
        let mut bench = Bench {
            conditions: conditions(args, &checkpoints, &configuration),
            folder: folder.to_owned(),
            checkpoints,
            processes,
            watch,
            client,
            job,
            keys,
            control: (path, Control::default()),
            schedule: Schedule::default(),
            subtasks: PARALLELISM,
            random: u64::from(std::process::id()),
            replaced: 0,
        };
        bench.load()?;
        bench.limit(args.rate)?;
        Ok(bench)
    }

    fn say(&self, what: &str) {
        eprintln!("{what}");
    }

    /// Every key once, then a checkpoint.
    fn load(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.watch.progress() < self.keys {
            self.let_run()?;
            self.give_up(start, "every key had come")?;
        }
        let done = self.status()?.last_checkpoint;
        while self.status()?.last_checkpoint <= done + 1 {
            self.let_run()?;
            self.give_up(start, "a checkpoint was complete")?;
        }
        self.say(&format!(
            "{} keys in {:.1} s; the checkpoint has {}",
            self.keys,
            start.elapsed().as_secs_f64(),
            super::super::super::resources::bytes_text(self.status()?.last_checkpoint_bytes)
        ));
        Ok(())
    }

    /// Runs at full speed for a moment. Readers stay within half of the keys of each other, so that
    /// none is far ahead of the schedule that follows.
    fn let_run(&mut self) -> anyhow::Result<()> {
        let base = self.watch.progress() + self.keys / 2;
        self.schedule = Schedule { base, since_ms: now_ms(), per_second: 0.0 };
        self.write_control()?;
        self.watch.until(&self.processes, Instant::now() + Duration::from_millis(50))
    }

    fn write_control(&mut self) -> anyhow::Result<()> {
        self.control.1.schedule = Some(self.schedule);
        self.control.1.write(&self.control.0)
    }

    fn give_up(&self, since: Instant, what: &str) -> anyhow::Result<()> {
        if since.elapsed() > PATIENCE {
            bail!("gave up waiting until {what}: {:?}", self.status()?);
        }
        Ok(())
    }

    /// Finds half of the maximum, unless `rate` is given, and goes on with that.
    fn limit(&mut self, rate: Option<f64>) -> anyhow::Result<()> {
        let rate = match rate {
            Some(rate) => rate,
            None => {
                let mut start = Instant::now();
                for duration in [WARM_UP, FULL_SPEED] {
                    start = Instant::now();
                    while start.elapsed() < duration {
                        self.let_run()?;
                    }
                }
                let maximum = self.watch.rate(start, Instant::now());
                self.conditions.maximum_rows_per_second = Some(maximum.round());
                maximum / 2.0
            }
        };
        self.conditions.rows_per_second = rate.round();
        self.say(&format!("the job goes on with {rate:.0} rows a second"));
        let base = self.watch.last.values().map(|(_, seen)| seen.numbers.1).max().unwrap_or(0);
        self.schedule = Schedule { base, since_ms: now_ms(), per_second: rate };
        self.write_control()
    }

    fn status(&self) -> anyhow::Result<v1::JobStatus> {
        block_on(async { Ok(self.job.status().await?) })
    }

    fn details(&self) -> anyhow::Result<v1::JobDetails> {
        block_on(async { Ok(self.job.describe().await?) })
    }

    /// Waits until the job runs without lag and has a checkpoint of its own, then for a part of the
    /// interval that differs from run to run.
    fn settle(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let first = self.status()?.last_checkpoint;
        loop {
            self.watch.until(&self.processes, Instant::now() + Duration::from_millis(100))?;
            let status = self.status()?;
            if status.state == "FAILED" {
                bail!("the job has failed: {}", status.root_cause);
            }
            let lag = self.watch.lag_ms(&self.schedule, start, self.subtasks);
            let own = status.last_checkpoint > first.max(status.restored_checkpoint);
            if status.state == "RUNNING" && own && lag.is_some_and(|lag| lag <= NO_LAG_MS) {
                break;
            }
            self.give_up(start, "the job ran without lag")?;
        }
        self.random = random::bits(self.random, 3);
        let pause = Duration::from_secs(4) + Duration::from_millis(self.random % 3_000);
        self.watch.until(&self.processes, Instant::now() + pause)
    }

    /// Lets `scenario` happen `runs` times.
    pub fn measure(&mut self, scenario: Scenario, runs: u32) -> anyhow::Result<Measured> {
        let mut measured = Vec::new();
        // Room for the rescale, and for nothing else.
        let more: &[&str] = if scenario == Scenario::Rescale { &["c-0", "d-0"] } else { &[] };
        for name in more {
            self.processes.start_taskmanager(name)?;
        }
        for run in 1..=runs {
            for &width in if scenario == Scenario::Rescale { &[WIDE, PARALLELISM][..] } else { &[0] } {
                self.settle()?;
                let figures = self.one(scenario, width)?;
                self.say(&format!(
                    "{scenario:?} {run}: first row {} ms, lag zero {} ms, rate {:.0} %",
                    figures.first_batch_ms,
                    figures.lag_zero_ms,
                    figures.rate_after * 100.0
                ));
                measured.push(figures);
            }
        }
        let state_bytes = self.state_bytes();
        for name in more {
            self.processes.kill_taskmanager(name)?;
        }
        let of = |value: fn(&Run) -> u64| {
            let mut values: Vec<u64> = measured.iter().map(value).collect();
            values.sort_unstable();
            values
        };
        let (first, lag) = (of(|run| run.first_batch_ms), of(|run| run.lag_zero_ms));
        let after_ready = measured.iter().filter_map(|r| Some(r.first_batch_ms.saturating_sub(r.process_ready_ms?)));
        Ok(Measured {
            scenario,
            state_bytes,
            payload_bytes: self.keys * workload::PAYLOAD as u64,
            keys: self.keys,
            first_batch_p50_ms: first[first.len() / 2],
            first_batch_max_ms: first[first.len() - 1],
            lag_zero_p50_ms: lag[lag.len() / 2],
            lag_zero_max_ms: lag[lag.len() - 1],
            first_batch_after_ready_max_ms: after_ready.max(),
            rate_after_min: measured.iter().map(|r| r.rate_after).fold(f64::INFINITY, f64::min),
            conditions: self.conditions.clone(),
            runs: measured,
        })
    }

    /// Causes the failure. Gives when, in both clocks, and the number of a new process.
    fn cause(&mut self, scenario: Scenario, width: u32) -> anyhow::Result<(Instant, i64, Option<u32>)> {
        let wall_ms = now_ms();
        let names = self.processes.taskmanagers();
        self.random = random::bits(self.random, 4);
        let victim = names[self.random as usize % names.len()].clone();
        Ok(match scenario {
            Scenario::Local => {
                let at = self.processes.kill_taskmanager(&victim)?;
                (at, wall_ms, Some(self.processes.start_taskmanager(&victim)?))
            }
            Scenario::InPlace => {
                self.control.1.failure += 1;
                let at = Instant::now();
                self.write_control()?;
                (at, wall_ms, None)
            }
            Scenario::Remote | Scenario::Silent => {
                let silent = scenario == Scenario::Silent;
                let at = if silent {
                    self.processes.freeze_taskmanager(&victim)?
                } else {
                    let at = self.processes.kill_taskmanager(&victim)?;
                    std::fs::remove_dir_all(self.processes.working_dir(&victim))?;
                    at
                };
                self.replaced += 1;
                let name = format!("{}-{}", victim.split('-').next().unwrap_or_default(), self.replaced);
                (at, wall_ms, Some(self.processes.start_taskmanager(&name)?))
            }
            Scenario::Rescale => {
                block_on(async { Ok(self.job.rescale(width).await?) })?;
                self.subtasks = width;
                (Instant::now(), wall_ms, None)
            }
        })
    }

    fn one(&mut self, scenario: Scenario, width: u32) -> anyhow::Result<Run> {
        let before = Instant::now();
        let rate_before = self.watch.rate(before - Duration::from_secs(4), before);
        let attempts: BTreeMap<u32, u32> = self.watch.last.values().map(|(_, s)| (s.subtask, s.attempt)).collect();
        let (caused, wall_ms, process) = self.cause(scenario, width)?;
        let mut last_before = before;
        let mut first: BTreeMap<u32, Instant> = BTreeMap::new();
        let deadline = caused + PATIENCE;
        // The first rows.
        while (first.len() as u32) < self.subtasks {
            let Some(heard) = self.watch.next(&self.processes, deadline)? else {
                bail!("no row came within {} s: {:?}", PATIENCE.as_secs(), self.status()?);
            };
            let Line::Rows(seen) = heard.what else { continue };
            let new = attempts.get(&seen.subtask).is_none_or(|attempt| seen.attempt > *attempt);
            if new && seen.with_state > 0 {
                first.entry(seen.subtask).or_insert(heard.at);
            } else if !new && first.is_empty() {
                last_before = heard.at;
            }
        }
        // A rescale waits for a checkpoint: it begins when rows cease.
        let requested = caused;
        let caused = if scenario == Scenario::Rescale { last_before } else { caused };
        let first_row = first.values().min().copied().unwrap_or(caused);
        let all = first.values().max().copied().unwrap_or(caused);
        if scenario == Scenario::Rescale {
            self.watch.last.retain(|subtask, _| *subtask < width);
        }
        while self.watch.lag_ms(&self.schedule, first_row, self.subtasks).is_none_or(|lag| lag > NO_LAG_MS) {
            self.watch.next(&self.processes, deadline)?.context("the lag did not vanish")?;
        }
        let lag_zero = Instant::now();
        let after = (Duration::from_secs(RATE_AFTER.0), Duration::from_secs(RATE_AFTER.1));
        self.watch.until(&self.processes, first_row + after.1)?;
        let rate = self.watch.rate(first_row + after.0, first_row + after.1);
        let since = |at: Instant| at.duration_since(caused).as_millis() as u64;
        let ready = process.and_then(|process| self.watch.ready.get(&process)).copied();
        let details = self.details()?;
        let restores = || details.vertices.iter().flat_map(|v| &v.subtasks).filter_map(|s| s.restore.as_ref());
        Ok(Run {
            first_batch_ms: since(first_row),
            first_batch_all_ms: since(all),
            silence_ms: first_row.duration_since(last_before).as_millis() as u64,
            after_request_ms: first_row.duration_since(requested).as_millis() as u64,
            lag_zero_ms: since(lag_zero),
            process_ready_ms: ready.map(since),
            rate_after: rate / rate_before.max(1.0),
            local_bytes: restores().map(|r| r.local_bytes).sum(),
            remote_bytes: restores().map(|r| r.remote_bytes).sum(),
            restore_ms: restores().map(|r| r.duration_ms).max().unwrap_or(0),
            restart: details.restarts.last().map(|r| Restart {
                noticed_ms: r.time_ms - wall_ms,
                ended_ms: r.ended_ms,
                waited_ms: r.waited_ms,
                deployed_ms: r.deployed_ms,
                running_ms: r.running_ms,
                checkpoint: r.checkpoint_id,
            }),
        })
    }

    /// What the checkpoint's files occupy: those in the checkpoint folder where that is a local one,
    /// else the copies on the TaskManagers' disks.
    fn state_bytes(&self) -> u64 {
        match self.checkpoints.strip_prefix("file://") {
            Some(folder) => occupied(Path::new(folder)),
            None => {
                let names = self.processes.taskmanagers();
                names.iter().map(|name| occupied(&self.processes.working_dir(name).join("localState"))).sum()
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The cluster goes with its processes; the job's objects are in the folder or the bucket.
        let cancelled = block_on(async {
            self.job.cancel().await?;
            Ok(tokio::time::timeout(Duration::from_secs(10), self.job.wait()).await??)
        });
        if let Err(error) = cancelled {
            eprintln!("the job could not be cancelled: {error}");
        }
        let _ = (&self.folder, &self.client);
    }
}

/// Bytes on disk of all files below `folder`, each once.
fn occupied(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => drop(files.insert(metadata.ino(), metadata.blocks() * 512)),
                Err(_) => {}
            }
        }
    }
    files.values().sum()
}

/// `key=value` for all processes; what the user gave comes last and wins.
fn options(args: &RecoveryArgs, checkpoints: &str) -> Vec<String> {
    let mut options = vec![
        format!("{}={PARALLELISM}", keys::PARALLELISM_DEFAULT.key),
        // No room elsewhere: who is killed must come back, or be replaced.
        format!("{}=1", keys::TASK_SLOTS.key),
        format!("{}={}", keys::CHECKPOINTING_INTERVAL.key, args.checkpoint_interval),
        format!("{}={checkpoints}", keys::CHECKPOINTING_DIRECTORY.key),
        format!("{}=true", keys::RECOVERY_FROM_LOCAL.key),
        format!("{}=exponential-delay", keys::RESTART_STRATEGY.key),
        format!("{}=1 ms", keys::RESTART_EXPONENTIAL_INITIAL.key),
        // Failures come one after the other here: the delay is not to grow.
        format!("{}=1 ms", keys::RESTART_EXPONENTIAL_MAX.key),
        format!("{}=0 s", keys::SCALING_COOLDOWN.key),
    ];
    options.extend(args.define.iter().cloned());
    options
}

fn conditions(args: &RecoveryArgs, checkpoints: &str, configuration: &Configuration) -> Conditions {
    let text = |option| configuration.text(option).unwrap_or_default().to_owned();
    Conditions {
        parallelism: PARALLELISM,
        taskmanagers: 2,
        maximum_rows_per_second: None,
        rows_per_second: 0.0,
        checkpoint_interval: args.checkpoint_interval.clone(),
        checkpoint_directory: checkpoints.to_owned(),
        heartbeat_interval: text(&keys::HEARTBEAT_INTERVAL),
        heartbeat_timeout: text(&keys::HEARTBEAT_TIMEOUT),
        initial_backoff: text(&keys::RESTART_EXPONENTIAL_INITIAL),
        initial_backoff_default: keys::RESTART_EXPONENTIAL_INITIAL.default.unwrap_or_default(),
        no_lag_ms: NO_LAG_MS,
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        development_build: cfg!(debug_assertions),
    }
}

fn submit(client: &Client, script: &str) -> anyhow::Result<JobHandle> {
    let connectors = workload::add_to(Connectors::default());
    let mut session = Session::with_configuration(std::sync::Arc::new(connectors), Configuration::default())?;
    for statement in split_script(script) {
        if let StatementResult::Insert { graph } = session.execute(&statement.text)? {
            return block_on(async { Ok(client.submit(graph).await?) });
        }
    }
    bail!("the script of the bench has no INSERT")
}
