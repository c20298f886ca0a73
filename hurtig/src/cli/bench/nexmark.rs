//! `hurtig bench nexmark`: throughput of the Nexmark queries on a cluster in this process.
//!
//! The generator and the query run together, at full speed, into a sink that keeps nothing but a
//! checksum of the result. Figures are of the whole job, its start included, and of the second half of
//! the events, when the job has warmed up.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use hurtig::sql::SqlResult;
use hurtig::{EmbeddedCluster, Error, ErrorKind, v1};
use hurtig_connectors::nexmark::ObservedNexmark;
use hurtig_connectors::nexmark::progress::Progress;
use hurtig_graph::config::keys;
use serde::Serialize;

use super::super::resources::{cpu_time, peak_memory, reset_peak_memory};
use super::super::signals::interrupted;
use super::super::{ConfigurationArgs, block_on, configuration, exit, resources};
use super::checksum::{Taken, checksum_sink, discard_sink};
use super::queries::{self, Input};

/// Arguments of `bench nexmark`.
#[derive(Debug, Args)]
pub struct NexmarkArgs {
    /// Which queries; 'source' is the generator alone, 'all' every query
    #[arg(long, value_delimiter = ',', default_value = "q0,q1,q2,q12,q17")]
    queries: Vec<String>,
    /// Events to generate for each query
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Events a second of event time
    #[arg(long, default_value_t = 250_000)]
    event_rate: u64,
    /// Parallelism of the job
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    /// Time between checkpoints; without it none are taken
    #[arg(long, value_name = "DURATION")]
    checkpoint_interval: Option<String>,
    /// Generates only the columns that a query reads, instead of whole events
    #[arg(long, conflicts_with = "input")]
    projection: bool,
    /// Reads JSON files that --write-files has written, instead of generating
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// Writes the events as JSON files, one for each subtask, and runs no query
    #[arg(long, value_name = "DIR", conflicts_with_all = ["input", "projection"])]
    write_files: Option<PathBuf>,
    /// Runs this text in place of the query's own
    #[arg(long, value_name = "SELECT")]
    sql: Option<String>,
    /// Prints the statements of the queries, separated by lines with a semicolon, and runs none
    #[arg(long)]
    show: bool,
    /// One JSON array instead of a table; says on standard error when a query starts and has finished
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    configuration: ConfigurationArgs,
}

/// The figures of one query.
#[derive(Debug, Serialize)]
struct Measurement {
    query: String,
    events: u64,
    parallelism: u32,
    /// From the submission of the statement to the end of the job.
    seconds: f64,
    events_per_second: f64,
    /// Of the second half of the events, by when the sources emitted them; not known for files.
    second_half_seconds: Option<f64>,
    steady_events_per_second: Option<f64>,
    cpu_seconds: f64,
    peak_memory_bytes: u64,
    checkpoints: u64,
    /// Over all checkpoints, what was written for them.
    checkpoint_bytes: u64,
    /// Changes that reached the sink, and rows that they leave.
    rows_out: u64,
    net_rows: i64,
    result_checksum: String,
}

/// Runs the command.
pub fn run(args: &NexmarkArgs) -> anyhow::Result<()> {
    let runs = runs(args)?;
    let mut out = std::io::stdout();
    if args.show {
        for (_, statements) in runs {
            let statements: Vec<String> = statements.iter().map(|s| queries::portable(s)).collect();
            writeln!(out, "{}", statements.join("\n;\n"))?;
        }
        return Ok(());
    }
    if cfg!(debug_assertions) {
        eprintln!("note: this is a development build; measure with one made by 'make install'");
    }
    let measured = block_on(async {
        tokio::select! {
            measured = measure_all(args, runs) => measured,
            name = interrupted() => Err(exit::Interrupted(name?).into()),
        }
    })?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&measured)?)?;
        return Ok(());
    }
    write_table(&mut out, &measured)
}

fn write_table(out: &mut impl Write, measured: &[Measurement]) -> anyhow::Result<()> {
    writeln!(
        out,
        "{:<6}  {:>12}  {:>9}  {:>12}  {:>12}  {:>9}  {:>10}  {:>12}  {:>16}",
        "QUERY", "EVENTS", "SECONDS", "EVENTS/S", "STEADY", "CPU S", "MEMORY", "ROWS OUT", "CHECKPOINTS"
    )?;
    for m in measured {
        let steady = m.steady_events_per_second.map_or("-".to_owned(), |s| format!("{s:.0}"));
        let checkpoints = format!("{} ({})", m.checkpoints, resources::bytes_text(m.checkpoint_bytes));
        writeln!(
            out,
            "{:<6}  {:>12}  {:>9.2}  {:>12.0}  {steady:>12}  {:>9.2}  {:>10}  {:>12}  {checkpoints:>16}",
            m.query,
            m.events,
            m.seconds,
            m.events_per_second,
            m.cpu_seconds,
            resources::bytes_text(m.peak_memory_bytes),
            m.rows_out,
        )?;
    }
    Ok(())
}

/// Names and statements of what is to run.
fn runs(args: &NexmarkArgs) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    if args.parallelism == 0 || args.event_rate == 0 || args.events == 0 {
        let reason = "--events, --event-rate and --parallelism: write a number from 1 on";
        return Err(Error::new(ErrorKind::Config, reason).into());
    }
    if let Some(folder) = &args.write_files {
        let statements = queries::write_files(&text(folder)?, args.events, args.event_rate);
        return Ok(vec![("write".to_owned(), statements)]);
    }
    let input = match &args.input {
        Some(folder) => Input::Files(text(folder)?),
        None if args.projection => Input::Bids,
        None => Input::Events,
    };
    let names: Vec<&str> = match args.queries.as_slice() {
        [all] if all == "all" => queries::names().collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    if args.sql.is_some() && names.len() != 1 {
        return Err(Error::new(ErrorKind::Config, "--sql needs exactly one query in --queries").into());
    }
    let run = |name: &str| {
        let statements = queries::statements(name, args.sql.as_deref(), &input, args.events, args.event_rate)?;
        Ok((name.to_owned(), statements))
    };
    names.into_iter().map(run).collect()
}

/// An absolute path, as a string of SQL.
fn text(folder: &std::path::Path) -> anyhow::Result<String> {
    Ok(std::path::absolute(folder)?.display().to_string().replace('\'', "''"))
}

async fn measure_all(args: &NexmarkArgs, runs: Vec<(String, Vec<String>)>) -> anyhow::Result<Vec<Measurement>> {
    let mut measured = Vec::new();
    for (name, statements) in runs {
        measured.push(measure(args, &name, &statements).await?);
    }
    Ok(measured)
}

async fn measure(args: &NexmarkArgs, name: &str, statements: &[String]) -> anyhow::Result<Measurement> {
    let (taken, progress) = (Arc::new(Taken::default()), Arc::new(Progress::new(args.events)));
    let folder = tempfile::Builder::new().prefix("hurtig-bench-").tempdir()?;
    let mut builder = EmbeddedCluster::builder()
        .configuration(&configuration::load(&args.configuration)?)
        .configure(keys::PARALLELISM_DEFAULT.key, args.parallelism.to_string())
        .slots(args.parallelism)
        .source("nexmark", ObservedNexmark::new(progress.clone()))
        .sink("checksum", checksum_sink(taken.clone()))
        .sink("discard", discard_sink(taken.clone()));
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
    let (insert, tables) = statements.split_last().ok_or_else(|| Error::new(ErrorKind::Internal, "no statements"))?;
    for table in tables {
        session.execute(table).await?;
    }
    say(args, "started", name);
    reset_peak_memory();
    let (cpu, start) = (cpu_time(), Instant::now());
    let SqlResult::Job(job) = session.execute(insert).await? else {
        return Err(Error::new(ErrorKind::Internal, "an INSERT gave no job").into());
    };
    let status = job.wait().await?;
    let seconds = start.elapsed().as_secs_f64();
    say(args, "finished", name);
    let second_half = progress.second_half().map(|d| d.as_secs_f64());
    let cpu = (cpu_time() - cpu).as_secs_f64();
    Ok(measurement(args, name, seconds, cpu, second_half, &status, &taken))
}

/// Tells a program that runs this one.
fn say(args: &NexmarkArgs, what: &str, name: &str) {
    if args.json {
        eprintln!("{what} {name}");
    }
}

fn measurement(
    args: &NexmarkArgs,
    name: &str,
    seconds: f64,
    cpu_seconds: f64,
    second_half_seconds: Option<f64>,
    status: &v1::JobStatus,
    taken: &Taken,
) -> Measurement {
    let events = args.events;
    Measurement {
        query: name.to_owned(),
        events,
        parallelism: args.parallelism,
        seconds,
        events_per_second: events as f64 / seconds,
        second_half_seconds,
        steady_events_per_second: second_half_seconds.map(|s| (events - events / 2) as f64 / s.max(1e-6)),
        cpu_seconds,
        peak_memory_bytes: peak_memory(),
        checkpoints: status.checkpoints_completed,
        checkpoint_bytes: status.checkpoint_uploaded_bytes,
        rows_out: taken.rows(),
        net_rows: taken.net_rows(),
        result_checksum: taken.checksum(),
    }
}
