//! `hurtig bench nexmark`: throughput of the Nexmark queries on a cluster in this process.
//!
//! The generator and the query run together, at full speed, into a sink that keeps nothing but a
//! checksum: the sum of the hashes of all rows, taken back rows subtracted, so that it depends on
//! the result alone and not on order, batches or parallelism.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use hurtig::extensions::FnSink;
use hurtig::sql::SqlResult;
use hurtig::{EmbeddedCluster, Error, ErrorKind};
use hurtig_graph::config::keys;
use serde::Serialize;

use super::super::resources::{cpu_time, peak_memory, reset_peak_memory};
use super::super::signals::interrupted;
use super::super::{ConfigurationArgs, block_on, configuration, exit, resources};

/// Arguments of `bench nexmark`.
#[derive(Debug, Args)]
pub struct NexmarkArgs {
    /// Which queries
    #[arg(long, value_delimiter = ',', default_value = "q0,q1,q2,q12,q17")]
    queries: Vec<String>,
    /// Events to generate for each query
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
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

/// The columns of the generator's events.
const EVENTS: &str = "CREATE TABLE events (
  event_type INT,
  person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
    `dateTime` TIMESTAMP(3), extra STRING>,
  auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
    `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING,
    `dateTime` TIMESTAMP(3), extra STRING>,
  `dateTime` AS CASE event_type WHEN 0 THEN person.`dateTime` WHEN 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH ('connector' = 'nexmark', 'events.num' = '${EVENTS}')";

const BID: &str = "CREATE VIEW bid AS SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url,
  `dateTime`, bid.extra FROM events WHERE event_type = 2";

/// Name, columns of the result, query.
const QUERIES: &[(&str, &str, &str)] = &[
    (
        "q0",
        "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING",
        "SELECT auction, bidder, price, `dateTime`, extra FROM bid",
    ),
    (
        "q1",
        "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra STRING",
        "SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra FROM bid",
    ),
    ("q2", "auction BIGINT, price BIGINT", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
    (
        "q12",
        "bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
        "SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
         FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
         GROUP BY bidder, window_start, window_end",
    ),
    (
        "q17",
        "auction BIGINT, `day` STRING, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT,
         min_price BIGINT, max_price BIGINT, avg_price BIGINT, sum_price BIGINT",
        "SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, COUNT(*) AS total_bids,
           COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
           COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           MIN(price) AS min_price, MAX(price) AS max_price, AVG(price) AS avg_price, SUM(price) AS sum_price
         FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    ),
];

/// The figures of one query.
#[derive(Debug, Serialize)]
struct Measurement {
    query: String,
    events: u64,
    seconds: f64,
    events_per_second: f64,
    cpu_seconds: f64,
    peak_memory_bytes: u64,
    checkpoints: u64,
    checkpoint_bytes: u64,
    result_checksum: String,
}

/// Runs the command.
pub fn run(args: &NexmarkArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a development build; measure with one made by 'make install'");
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
        "{:<6}  {:>12}  {:>9}  {:>12}  {:>9}  {:>10}",
        "QUERY", "EVENTS", "SECONDS", "EVENTS/S", "CPU S", "MEMORY"
    )?;
    for m in measured {
        let memory = resources::bytes_text(m.peak_memory_bytes);
        writeln!(
            out,
            "{:<6}  {:>12}  {:>9.2}  {:>12.0}  {:>9.2}  {memory:>10}",
            m.query, m.events, m.seconds, m.events_per_second, m.cpu_seconds
        )?;
    }
    Ok(())
}

async fn measure_all(args: &NexmarkArgs) -> anyhow::Result<Vec<Measurement>> {
    let mut measured = Vec::new();
    for name in &args.queries {
        let known = QUERIES.iter().find(|(n, ..)| n.eq_ignore_ascii_case(name));
        let (name, columns, query) = known.ok_or_else(|| {
            let names: Vec<&str> = QUERIES.iter().map(|(n, ..)| *n).collect();
            Error::new(ErrorKind::Config, format!("there is no query '{name}': choose of {}", names.join(", ")))
        })?;
        measured.push(measure(args, name, columns, query).await?);
    }
    Ok(measured)
}

async fn measure(args: &NexmarkArgs, name: &str, columns: &str, query: &str) -> anyhow::Result<Measurement> {
    let (checksum, sink) = checksum_sink();
    let folder = tempfile::Builder::new().prefix("hurtig-bench-").tempdir()?;
    let mut builder = EmbeddedCluster::builder()
        .configuration(&configuration::load(&args.configuration)?)
        .configure(keys::PARALLELISM_DEFAULT.key, args.parallelism.to_string())
        .slots(args.parallelism)
        .sink("checksum", sink);
    if let Some(interval) = &args.checkpoint_interval {
        let checkpoints = format!("file://{}", folder.path().display());
        builder = builder
            .configure(keys::CHECKPOINTING_INTERVAL.key, interval.clone())
            .configure(keys::CHECKPOINTING_DIRECTORY.key, checkpoints);
    }
    let cluster = builder.start().await?;
    let configured = hurtig::Configuration::from_map(
        [(keys::PARALLELISM_DEFAULT.key.to_owned(), args.parallelism.to_string())].into(),
    );
    let mut session = cluster.sql(configured)?;
    session.execute(&EVENTS.replace("${EVENTS}", &args.events.to_string())).await?;
    session.execute(BID).await?;
    session.execute(&format!("CREATE TABLE checksums ({columns}) WITH ('connector' = 'checksum')")).await?;
    reset_peak_memory();
    let (cpu, start) = (cpu_time(), Instant::now());
    let SqlResult::Job(job) = session.execute(&format!("INSERT INTO checksums {query}")).await? else {
        return Err(Error::new(ErrorKind::Internal, "an INSERT gave no job").into());
    };
    let status = job.wait().await?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Measurement {
        query: name.to_owned(),
        events: args.events,
        seconds,
        events_per_second: args.events as f64 / seconds,
        cpu_seconds: (cpu_time() - cpu).as_secs_f64(),
        peak_memory_bytes: peak_memory(),
        checkpoints: status.checkpoints_completed,
        checkpoint_bytes: status.last_checkpoint_bytes,
        result_checksum: format!("{:016x}", checksum.load(Ordering::SeqCst)),
    })
}

fn checksum_sink() -> (Arc<AtomicU64>, FnSink) {
    let sum = Arc::new(AtomicU64::new(0));
    let shared = sum.clone();
    let sink = FnSink::new(move |batch| {
        let hashes = hurtig_state::hash::hash_columns(batch.records().columns());
        let signed = hashes.iter().enumerate().map(|(row, hash)| match batch.kind(row).sign() {
            1 => *hash,
            _ => hash.wrapping_neg(),
        });
        shared.fetch_add(signed.fold(0, u64::wrapping_add), Ordering::Relaxed);
        Ok(())
    });
    (sum, sink)
}
