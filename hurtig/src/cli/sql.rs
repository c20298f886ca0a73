//! `hurtig sql`: statements from the command line, a file or standard input.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hurtig::client::JobHandle;
use hurtig::sql::{QueryResult, ScriptStatement, SqlResult, SqlSession, split_script};
use hurtig::{Batch, Cluster, EmbeddedCluster, Error, ErrorKind};
use hurtig_connectors::render::changelog::ChangelogRenderer;
use hurtig_connectors::render::table::TableRenderer;
use hurtig_graph::RowSchema;
use hurtig_graph::config::{Configuration, keys};
use hurtig_sql::{ChangelogMode, TableResult};

use super::signals::interrupted;
use super::{ConfigurationArgs, configuration, exit, logging};

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// Statements to run, separated by ';'
    #[arg(short = 'e', long = "execute", value_name = "SQL", conflicts_with = "file")]
    execute: Vec<String>,
    /// File with statements; '-' for standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Runs on a running cluster instead of one in this process
    #[arg(long, value_name = "HOST:PORT")]
    cluster: Option<String>,
    /// Prints every query as JSON lines: its schema, then one change a line
    #[arg(long)]
    changelog_json: bool,
    /// Goes on with the next statement after one that failed
    #[arg(long)]
    continue_on_error: bool,
    #[command(flatten)]
    configuration: ConfigurationArgs,
}

/// Runs the command.
pub fn run(args: SqlArgs) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    let statements = split_script(&script(&args)?);
    let configuration = configuration::load(&args.configuration)?;
    super::block_on(async {
        let place = Place::open(&args, &configuration).await?;
        let mut runner = Runner {
            session: place.session(&configuration)?,
            json: args.changelog_json,
            wait: matches!(place, Place::Embedded(_)),
            current: None,
            out: std::io::stdout(),
        };
        let ended = tokio::select! {
            ended = runner.run(&statements, args.continue_on_error) => ended,
            name = interrupted() => Err(exit::Interrupted(name?).into()),
        };
        // A query has no reader any more; an embedded cluster ends its jobs by itself.
        if let (Err(_), Some(job)) = (&ended, runner.current.take()) {
            let _ = job.cancel().await;
        }
        ended
    })
}

/// The text to run.
fn script(args: &SqlArgs) -> anyhow::Result<String> {
    if !args.execute.is_empty() {
        return Ok(args.execute.join(";\n"));
    }
    let shown = args.file.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
    let text = match &args.file {
        Some(path) if shown != "-" => std::fs::read_to_string(path),
        _ => {
            let input = std::io::stdin();
            if input.is_terminal() {
                eprintln!("reading SQL from the terminal; end with Ctrl-D, or use -e/-f");
            }
            std::io::read_to_string(input)
        }
    };
    text.map_err(|e| Error::new(ErrorKind::Config, format!("cannot read the script {shown}: {e}")).into())
}

/// Where jobs run.
enum Place {
    Embedded(Box<EmbeddedCluster>),
    Remote(Cluster),
}

impl Place {
    async fn open(args: &SqlArgs, configuration: &Configuration) -> anyhow::Result<Place> {
        if let Some(address) = &args.cluster {
            return Ok(Place::Remote(Cluster::connect_with(address, configuration).await?));
        }
        let mut builder = EmbeddedCluster::builder().configuration(configuration);
        if !configuration.is_set(&keys::TASK_SLOTS) {
            // A script may ask for any parallelism; slots that are not used cost next to nothing.
            let wanted = configuration.int(&keys::PARALLELISM_DEFAULT)?.unwrap_or(1).max(MIN_SLOTS);
            builder = builder.slots(u32::try_from(wanted)?);
        }
        Ok(Place::Embedded(Box::new(builder.start().await?)))
    }

    fn session(&self, configuration: &Configuration) -> anyhow::Result<SqlSession> {
        Ok(match self {
            Place::Embedded(cluster) => cluster.sql(configuration.clone())?,
            Place::Remote(cluster) => cluster.sql(configuration.clone())?,
        })
    }
}

/// Slots of the cluster in this process, unless the configuration says otherwise.
const MIN_SLOTS: i64 = 16;

struct Runner {
    session: SqlSession,
    json: bool,
    /// INSERT always waits for its job: with the process the job would end.
    wait: bool,
    /// The job of the query under way.
    current: Option<JobHandle>,
    out: std::io::Stdout,
}

impl Runner {
    async fn run(&mut self, statements: &[ScriptStatement], go_on: bool) -> anyhow::Result<()> {
        let mut first_error = None;
        for statement in statements {
            if let Err(error) = self.statement(statement).await {
                if !go_on {
                    return Err(error);
                }
                self.show_error(&error)?;
                first_error.get_or_insert(error);
            }
        }
        // Every error has been shown in its place; the exit code is that of the first.
        match first_error {
            Some(error) if !self.json => Err(error),
            _ => Ok(()),
        }
    }

    async fn statement(&mut self, statement: &ScriptStatement) -> anyhow::Result<()> {
        match self.session.execute_in_script(statement).await? {
            SqlResult::Ok => Ok(()),
            SqlResult::Table(table) => self.table(&table),
            SqlResult::Job(job) => {
                if self.wait || self.session.configuration().bool(&keys::DML_SYNC)?.unwrap_or(false) {
                    with_notice(&job, job.wait()).await?;
                    return Ok(());
                }
                self.line(&if self.json {
                    serde_json::json!({ "job_id": job.id() }).to_string()
                } else {
                    format!("job {}", job.id())
                })
            }
            SqlResult::Query(query) => self.query(query).await,
        }
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    async fn query(&mut self, mut query: QueryResult) -> anyhow::Result<()> {
        let mut printer = Printer::of(self.json, &query);
        if let Some(header) = printer.header(&query) {
            self.line(&header)?;
        }
        let job = query.rows.job().clone();
        self.current = Some(job.clone());
        let shown = async {
            while let Some(batch) = query.rows.next().await {
                let text = printer.rows(&batch?)?;
                self.out.write_all(&text)?;
                self.out.flush()?;
            }
            anyhow::Ok(())
        };
        with_notice(&job, shown).await?;
        self.current = None;
        if let Some(end) = printer.end() {
            self.line(&end)?;
        }
        Ok(())
    }

    /// The result of a utility statement.
    fn table(&mut self, table: &TableResult) -> anyhow::Result<()> {
        if self.json {
            for row in &table.rows {
                let row = serde_json::json!({ "row": row });
                self.line(&row.to_string())?;
            }
            return Ok(());
        }
        let text = plain_table(table);
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }

    fn show_error(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        if self.json {
            let kind = exit::kind_of(error).name();
            let line = serde_json::json!({ "error": { "kind": kind, "message": format!("{error:#}") } });
            return self.line(&line.to_string());
        }
        eprintln!("error: {error:#}");
        Ok(())
    }
}

/// How long a job may wait for slots in silence.
const SILENCE: Duration = Duration::from_secs(2);

/// Does `work`, and says on standard error if the job does not start because it lacks something.
async fn with_notice<T>(job: &JobHandle, work: impl Future<Output = T>) -> T {
    let notice = async {
        tokio::time::sleep(SILENCE).await;
        if let Ok(status) = job.status().await
            && !status.waiting_for.is_empty()
        {
            eprintln!("job {} {}", status.job_id, status.waiting_for);
        }
    };
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = notice => {}
    }
    work.await
}

/// Rows of a query as text.
enum Printer {
    Json(ChangelogRenderer),
    Table { renderer: TableRenderer, rows: u64 },
}

impl Printer {
    fn of(json: bool, query: &QueryResult) -> Printer {
        if json {
            return Printer::Json(ChangelogRenderer::new(query.schema.clone()));
        }
        let updating = query.changelog != ChangelogMode::Append;
        Printer::Table { renderer: TableRenderer::new(query.schema.clone(), updating), rows: 0 }
    }

    fn header(&self, query: &QueryResult) -> Option<String> {
        match self {
            Printer::Json(renderer) => Some(renderer.header(query.upsert_key.as_deref())),
            Printer::Table { .. } => None,
        }
    }

    fn rows(&mut self, batch: &Batch) -> anyhow::Result<Vec<u8>> {
        match self {
            Printer::Json(renderer) => {
                let mut out = Vec::new();
                renderer.rows(batch, &mut out)?;
                Ok(out)
            }
            Printer::Table { renderer, rows } => {
                *rows += batch.num_rows() as u64;
                let mut out = String::new();
                renderer.rows(batch, &mut out)?;
                Ok(out.into_bytes())
            }
        }
    }

    fn end(&self) -> Option<String> {
        match self {
            Printer::Json(_) => None,
            Printer::Table { rows: 1, .. } => Some("(1 row)".to_owned()),
            Printer::Table { rows, .. } => Some(format!("({rows} rows)")),
        }
    }
}

/// A table of text. A single column of one row, as EXPLAIN gives, is shown as it is.
fn plain_table(table: &TableResult) -> String {
    let cell = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    if let [row] = table.rows.as_slice()
        && let [only] = row.as_slice()
    {
        return cell(only) + "\n";
    }
    let names: Vec<String> = names(&table.schema);
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let width = |i: usize| rows.iter().chain([&names]).map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let rules: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
    let mut text = String::new();
    for row in [&names, &rules].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn names(schema: &RowSchema) -> Vec<String> {
    schema.fields.iter().map(|f| f.name.clone()).collect()
}
