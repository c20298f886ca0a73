//! `hurtig demo`: runs a script on a cluster in this process and shows its last query live.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use hurtig::sql::{QueryResult, SqlResult, split_script};
use hurtig::{EmbeddedCluster, Error, ErrorKind, v1};
use hurtig_connectors::render::table::TableRenderer;
use hurtig_graph::config::keys;
use hurtig_sql::ChangelogMode;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::resources::{bytes_text, peak_memory};
use super::signals::interrupted;
use super::{ConfigurationArgs, configuration, logging};

/// Rows a second at which a year of flights (336,776 rows) takes 30 seconds.
const YEAR_IN_30_S: u64 = 11_226;
/// Practically no limit.
const NO_LIMIT: u64 = 1_000_000_000;
/// How often the figures are renewed.
const REFRESH: Duration = Duration::from_millis(500);
/// Over how long the rate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// Rows that the live view keeps.
const VISIBLE_ROWS: usize = 12;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Script; ${RATE} in it is replaced by the rows a second, ${DIR} by the script's folder
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// 'max', 'year-in-30s' or rows a second
    #[arg(long, default_value = "year-in-30s")]
    speed: String,
    #[command(flatten)]
    configuration: ConfigurationArgs,
}

/// Runs the command.
pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    let script = script(&args)?;
    let configuration = configuration::load(&args.configuration)?;
    let recorder = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot install the metrics recorder: {e}")))?;
    let folder = tempfile::Builder::new().prefix("hurtig-demo-").tempdir().context("cannot make a folder")?;
    let checkpoints = format!("file://{}", folder.path().join("checkpoints").display());
    super::block_on(async {
        let mut builder = EmbeddedCluster::builder()
            .configure(keys::CHECKPOINTING_INTERVAL.key, "2 s")
            .configure(keys::CHECKPOINTING_DIRECTORY.key, checkpoints.clone())
            .configure(keys::PARALLELISM_DEFAULT.key, "2")
            .slots(4)
            .metrics(std::sync::Arc::new(move || recorder.render()));
        builder = builder.configuration(&configuration);
        let cluster = builder.start().await?;
        introduce(&cluster, &args, &checkpoints)?;
        tokio::select! {
            shown = show(&cluster, &script) => shown,
            // Watching is over: nothing has gone wrong.
            name = interrupted() => {
                writeln!(std::io::stdout(), "\nstopped by {}", name?)?;
                Ok(())
            }
        }
    })
}

fn script(args: &DemoArgs) -> anyhow::Result<String> {
    let rate = match args.speed.as_str() {
        "max" => NO_LIMIT,
        "year-in-30s" => YEAR_IN_30_S,
        number => number.parse().ok().filter(|&n| n > 0).ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("--speed {number}: write max, year-in-30s or rows a second"))
        })?,
    };
    let shown = args.file.display();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|e| Error::new(ErrorKind::Config, format!("cannot read the script {shown}: {e}")))?;
    let absolute = args.file.canonicalize().with_context(|| format!("cannot find {shown}"))?;
    let folder = absolute.parent().map(|p| p.display().to_string()).unwrap_or_default();
    Ok(text.replace("${RATE}", &rate.to_string()).replace("${DIR}", &folder))
}

fn introduce(cluster: &EmbeddedCluster, args: &DemoArgs, checkpoints: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let address = cluster.address();
    writeln!(out, "JobManager   {address}")?;
    if let Some(metrics) = cluster.metrics_address() {
        writeln!(out, "metrics      http://{metrics}/metrics")?;
    }
    writeln!(out, "checkpoints  {checkpoints}")?;
    writeln!(out, "script       {}", args.file.display())?;
    writeln!(out, "\nWhile it runs, in another terminal:")?;
    writeln!(out, "  hurtig jobs list --cluster {address}")?;
    writeln!(out, "  hurtig sql --cluster {address} -e \"SELECT 'hello' AS greeting\"")?;
    if let Some(metrics) = cluster.metrics_address() {
        writeln!(out, "  curl -s http://{metrics}/metrics | grep numRecordsOut")?;
    }
    writeln!(out)?;
    Ok(())
}

async fn show(cluster: &EmbeddedCluster, script: &str) -> anyhow::Result<()> {
    let mut session = cluster.sql(hurtig::Configuration::default())?;
    let mut query = None;
    for statement in split_script(script) {
        match session.execute_in_script(&statement).await? {
            SqlResult::Query(q) => query = Some(q),
            SqlResult::Job(job) => drop(job.wait().await?),
            SqlResult::Ok | SqlResult::Table(_) => {}
        }
    }
    let reason = "the script must end with a query";
    let mut query = query.ok_or_else(|| Error::new(ErrorKind::Validation, reason))?;
    let mut view = View::new(&query);
    let mut tick = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            batch = query.rows.next() => match batch {
                Some(batch) => view.rows(&batch?)?,
                None => break,
            },
            _ = tick.tick() => view.figures(query.rows.job()).await?,
        }
    }
    view.figures(query.rows.job()).await?;
    view.summary()
}

/// The live view: on a terminal the newest rows and a line of figures, redrawn; else plain rows.
struct View {
    renderer: TableRenderer,
    live: bool,
    lines: VecDeque<String>,
    header: Vec<String>,
    drawn: usize,
    result_rows: u64,
    figures: Figures,
    started: Instant,
}

#[derive(Default)]
struct Figures {
    rows_read: u64,
    /// Counts of the last seconds, for the rate.
    history: VecDeque<(Instant, u64)>,
    watermark_ms: Option<i64>,
    checkpoints: u64,
    checkpoint_bytes: u64,
}

impl View {
    fn new(query: &QueryResult) -> View {
        View {
            renderer: TableRenderer::new(query.schema.clone(), query.changelog != ChangelogMode::Append),
            live: std::io::stdout().is_terminal(),
            lines: VecDeque::new(),
            header: Vec::new(),
            drawn: 0,
            result_rows: 0,
            figures: Figures::default(),
            started: Instant::now(),
        }
    }

    fn rows(&mut self, batch: &hurtig::Batch) -> anyhow::Result<()> {
        self.result_rows += batch.num_rows() as u64;
        let mut text = String::new();
        self.renderer.rows(batch, &mut text)?;
        if !self.live {
            std::io::stdout().write_all(text.as_bytes())?;
            return Ok(());
        }
        let mut lines = text.lines().map(str::to_owned);
        if self.header.is_empty() {
            self.header = lines.by_ref().take(2).collect();
        }
        self.lines.extend(lines);
        let surplus = self.lines.len().saturating_sub(VISIBLE_ROWS);
        self.lines.drain(..surplus);
        Ok(())
    }

    async fn figures(&mut self, job: &hurtig::client::JobHandle) -> anyhow::Result<()> {
        let details = job.describe().await?;
        let figures = &mut self.figures;
        // A task that starts again counts from 0.
        figures.rows_read = figures.rows_read.max(rows_read(&details));
        figures.history.push_back((Instant::now(), figures.rows_read));
        while figures.history.front().is_some_and(|(at, _)| at.elapsed() > RATE_WINDOW) {
            figures.history.pop_front();
        }
        let marks = details.vertices.iter().flat_map(|v| &v.subtasks).map(|s| s.watermark_ms);
        figures.watermark_ms = marks.filter(|&w| w != i64::MIN && w != i64::MAX).min().or(figures.watermark_ms);
        if let Some(status) = &details.status {
            figures.checkpoints = status.checkpoints_completed;
            figures.checkpoint_bytes = status.last_checkpoint_bytes;
        }
        if self.live { self.draw() } else { Ok(()) }
    }

    fn status_line(&self) -> String {
        let f = &self.figures;
        let rate = match (f.history.front(), f.history.back()) {
            (Some((from, first)), Some((to, last))) if to > from => (last - first) as f64 / (*to - *from).as_secs_f64(),
            _ => 0.0,
        };
        let watermark = f.watermark_ms.and_then(chrono::DateTime::from_timestamp_millis);
        let watermark = watermark.map_or_else(|| "none".to_owned(), |t| t.format("%Y-%m-%d %H:%M").to_string());
        format!(
            "{} rows read, {:.0} rows/s, watermark {watermark}, {} windows, {} checkpoints",
            f.rows_read, rate, self.result_rows, f.checkpoints
        )
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let status = self.status_line();
        let lines: Vec<&str> = self.header.iter().chain(&self.lines).map(String::as_str).chain(["", &status]).collect();
        for line in &lines {
            text.push_str(&format!("\x1b[2K{line}\n"));
        }
        self.drawn = lines.len();
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    fn summary(&self) -> anyhow::Result<()> {
        let (f, seconds) = (&self.figures, self.started.elapsed().as_secs_f64());
        let mut out = std::io::stdout();
        writeln!(out, "\n{} rows in {seconds:.1} s ({:.0} rows/s)", f.rows_read, f.rows_read as f64 / seconds)?;
        writeln!(out, "{} result rows", self.result_rows)?;
        writeln!(out, "{} checkpoints, the last of {}", f.checkpoints, bytes_text(f.checkpoint_bytes))?;
        writeln!(out, "peak memory {}", bytes_text(peak_memory()))?;
        Ok(())
    }
}

/// Rows that the sources have read.
fn rows_read(details: &v1::JobDetails) -> u64 {
    // SQL names them `Source(table=...)`, dataflows and job graphs `Source: ...`.
    let sources = details.vertices.iter().filter(|v| v.name.starts_with("Source"));
    sources.flat_map(|v| &v.subtasks).map(|s| s.records_in).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_sources_are_counted() {
        let vertex = |name: &str, rows: &[u64]| {
            let subtask = |&records_in| v1::SubtaskDetails { records_in, records_out: 5, ..Default::default() };
            let subtasks = rows.iter().map(subtask).collect();
            v1::VertexDetails { name: name.into(), subtasks, ..Default::default() }
        };
        let vertices = vec![
            vertex("Source(table=[flights]) -> LocalWindowAggregate", &[20, 22]),
            vertex("GlobalWindowAggregate", &[5, 5]),
            vertex("Source: filesystem", &[8]),
        ];
        assert_eq!(rows_read(&v1::JobDetails { vertices, ..Default::default() }), 50);
    }
}
