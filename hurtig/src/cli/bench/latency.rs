//! `hurtig bench latency`: percentiles of the time from the creation of an event to the sink.
//!
//! An event is created when the clock reaches its event time, whether the job keeps up or not: what a
//! slow job delays counts in full, also for the events that wait behind (no coordinated omission).
//! Event times are whole milliseconds, so figures are up to one millisecond too high, never too low.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, SystemTimeError, UNIX_EPOCH};

use clap::Args;
use hdrhistogram::Histogram;
use hurtig::arrow::array::{Array, AsArray};
use hurtig::arrow::datatypes::TimestampMillisecondType;
use hurtig::extensions::{ExtensionError, FnSink};
use hurtig::sql::SqlResult;
use hurtig::{Batch, EmbeddedCluster, Error, ErrorKind};
use hurtig_graph::config::keys;
use serde::Serialize;

use super::super::signals::interrupted;
use super::super::{ConfigurationArgs, block_on, configuration, exit};

/// Arguments of `bench latency`.
#[derive(Debug, Args)]
pub struct LatencyArgs {
    /// Events a second, of which 92 % are bids
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Seconds that count
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds before that, which do not count
    #[arg(long, default_value_t = 5)]
    warmup: u64,
    /// What happens to bids on the way: 'project' (one chain), 'count' (an updating count for each auction)
    #[arg(long, value_delimiter = ',', default_value = "project,count")]
    queries: Vec<String>,
    /// Parallelism of the job
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    /// Time between checkpoints; without it none are taken
    #[arg(long, value_name = "DURATION")]
    checkpoint_interval: Option<String>,
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    configuration: ConfigurationArgs,
}

/// Name, query: its one column is the time of the newest event that is in the row.
const QUERIES: &[(&str, &str)] = &[
    ("project", "SELECT `dateTime` FROM bid WHERE price > 0"),
    (
        "count",
        "SELECT newest FROM (SELECT auction, COUNT(*) AS n, MAX(`dateTime`) AS newest FROM bid GROUP BY auction)",
    ),
];

/// Between the start of the command and the first event: the job must run by then.
const LEAD: Duration = Duration::from_secs(2);
/// The longest time that is told apart from longer ones.
const LONGEST_US: u64 = 3_600_000_000;

/// The figures of one query, in milliseconds.
#[derive(Debug, Serialize)]
struct Latencies {
    query: String,
    rate: u64,
    seconds: u64,
    /// Rows at the sink that were counted.
    rows: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    max_ms: f64,
    checkpoints: u64,
}

/// Runs the command.
pub fn run(args: &LatencyArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a development build; measure with one made by 'make install'");
    }
    if args.rate == 0 || args.seconds == 0 || args.parallelism == 0 {
        return Err(
            Error::new(ErrorKind::Config, "--rate, --seconds and --parallelism: write a number from 1 on").into()
        );
    }
    let measured = block_on(async {
        tokio::select! {
            measured = measure_all(args) => measured,
            name = interrupted() => Err(exit::Interrupted(name?).into()),
        }
    })?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&measured)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{:<8}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
        "QUERY", "RATE", "ROWS", "P50 MS", "P90 MS", "P99 MS", "P99.9 MS", "MAX MS"
    )?;
    for m in measured {
        writeln!(
            out,
            "{:<8}  {:>9}  {:>10}  {:>9.1}  {:>9.1}  {:>9.1}  {:>9.1}  {:>9.1}",
            m.query, m.rate, m.rows, m.p50_ms, m.p90_ms, m.p99_ms, m.p99_9_ms, m.max_ms
        )?;
    }
    Ok(())
}

async fn measure_all(args: &LatencyArgs) -> anyhow::Result<Vec<Latencies>> {
    let mut measured = Vec::new();
    for name in &args.queries {
        let known = QUERIES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        let (name, query) = known.ok_or_else(|| {
            let names: Vec<&str> = QUERIES.iter().map(|(n, _)| *n).collect();
            Error::new(ErrorKind::Config, format!("there is no query '{name}': choose of {}", names.join(", ")))
        })?;
        measured.push(measure(args, name, query).await?);
    }
    Ok(measured)
}

async fn measure(args: &LatencyArgs, name: &str, query: &str) -> anyhow::Result<Latencies> {
    let folder = tempfile::Builder::new().prefix("hurtig-bench-").tempdir()?;
    // Whole milliseconds, as event times are.
    let base = Duration::from_millis(u64::try_from((now()? + LEAD).as_millis())?);
    let recorder = Arc::new(Recorder::new(base + Duration::from_secs(args.warmup))?);
    let mut builder = EmbeddedCluster::builder()
        .configuration(&configuration::load(&args.configuration)?)
        .configure(keys::PARALLELISM_DEFAULT.key, args.parallelism.to_string())
        .slots(args.parallelism)
        .sink("latency", recorder.clone().sink());
    if let Some(interval) = &args.checkpoint_interval {
        builder = builder
            .configure(keys::CHECKPOINTING_INTERVAL.key, interval.clone())
            .configure(keys::CHECKPOINTING_DIRECTORY.key, format!("file://{}", folder.path().display()));
    }
    let cluster = builder.start().await?;
    let configured = hurtig::Configuration::from_map(
        [(keys::PARALLELISM_DEFAULT.key.to_owned(), args.parallelism.to_string())].into(),
    );
    let mut session = cluster.sql(configured)?;
    let events = args.rate * (args.warmup + args.seconds);
    session
        .execute(&format!(
            "CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3)) WITH (\
             'connector' = 'nexmark', 'table' = 'bid', 'events.num' = '{events}', 'next-event.rate' = '{}', \
             'base-time' = '{}', 'rate.by-event-time' = 'true')",
            args.rate,
            base.as_millis()
        ))
        .await?;
    session.execute("CREATE TABLE newest (`dateTime` TIMESTAMP(3)) WITH ('connector' = 'latency')").await?;
    let SqlResult::Job(job) = session.execute(&format!("INSERT INTO newest {query}")).await? else {
        return Err(Error::new(ErrorKind::Internal, "an INSERT gave no job").into());
    };
    let status = job.wait().await?;
    let histogram = recorder.histogram.lock().unwrap_or_else(PoisonError::into_inner);
    let percentile = |p: f64| histogram.value_at_percentile(p) as f64 / 1000.0;
    Ok(Latencies {
        query: name.to_owned(),
        rate: args.rate,
        seconds: args.seconds,
        rows: histogram.len(),
        p50_ms: percentile(50.0),
        p90_ms: percentile(90.0),
        p99_ms: percentile(99.0),
        p99_9_ms: percentile(99.9),
        max_ms: histogram.max() as f64 / 1000.0,
        checkpoints: status.checkpoints_completed,
    })
}

/// Since 1970.
fn now() -> Result<Duration, SystemTimeError> {
    SystemTime::now().duration_since(UNIX_EPOCH)
}

/// Keeps how long ago the events were created that reach the sink.
struct Recorder {
    /// Events from this time on count; since 1970.
    from: Duration,
    /// Microseconds.
    histogram: Mutex<Histogram<u64>>,
}

impl Recorder {
    fn new(from: Duration) -> anyhow::Result<Recorder> {
        Ok(Recorder { from, histogram: Mutex::new(Histogram::new_with_bounds(1, LONGEST_US, 3)?) })
    }

    fn sink(self: Arc<Recorder>) -> FnSink {
        FnSink::new(move |batch| self.record(batch, now()?))
    }

    /// Rows that are taken back do not count: they were shown before.
    fn record(&self, batch: &Batch, now: Duration) -> Result<(), ExtensionError> {
        let times = batch.records().column(0);
        let times = times
            .as_primitive_opt::<TimestampMillisecondType>()
            .ok_or_else(|| format!("the time of events came as {}", times.data_type()))?;
        let mut histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, created_ms) in times.iter().enumerate() {
            let created = Duration::from_millis(created_ms.unwrap_or_default().try_into()?);
            if batch.kind(row).sign() == 1 && created >= self.from {
                // An event is emitted at its time or after: less than a millisecond is 0.
                let waited = now.saturating_sub(created).as_micros() as u64;
                histogram.saturating_record(waited.max(1));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig::arrow::array::{RecordBatch, TimestampMillisecondArray};

    #[test]
    fn what_waits_behind_a_pause_counts_from_its_intended_time() {
        let recorder = Recorder::new(Duration::from_millis(1000)).unwrap();
        // One event a millisecond; the job stops at 1,000 and takes all of them at 2,000.
        let times = TimestampMillisecondArray::from_iter_values(900..2000);
        let records = RecordBatch::try_from_iter([("t", Arc::new(times) as _)]).unwrap();
        recorder.record(&Batch::inserts(records), Duration::from_millis(2000)).unwrap();
        let histogram = recorder.histogram.lock().unwrap();
        assert_eq!(histogram.len(), 1000, "those of the warm-up do not count");
        let median = histogram.value_at_percentile(50.0);
        assert!((499_000..=502_000).contains(&median), "{median}");
        assert!(histogram.max() >= 1_000_000);
    }
}
