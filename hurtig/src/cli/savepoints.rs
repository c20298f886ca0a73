//! `hurtig savepoints ...`: taking savepoints, and looking at those that there are. Listing, showing and
//! disposing read the object store directly, with the credentials of this command's configuration; no
//! cluster is needed.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Subcommand;
use hurtig::v1;
use hurtig::{Error, ErrorKind};
use hurtig_graph::config::{Configuration, keys};
use hurtig_state::checkpoint::{dispose_savepoint, list_savepoints, read_savepoint};
use hurtig_state::storage::ObjectStores;
use serde::Serialize;

use super::jobs::connect;
use super::{ConfigurationArgs, RemoteArgs, block_on, configuration, logging};

/// What to do with savepoints.
#[derive(Debug, Subcommand)]
pub enum SavepointsCommand {
    /// Takes a savepoint of a running job, which runs on
    Trigger {
        /// Id of the job
        id: String,
        /// Folder that the savepoint's folder goes into; without it execution.checkpointing.savepoint-dir
        #[arg(long, value_name = "DIR")]
        target: Option<String>,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Lists the savepoints in a folder
    List {
        /// The folder; without it execution.checkpointing.savepoint-dir
        folder: Option<String>,
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        configuration: ConfigurationArgs,
    },
    /// Shows what is in a savepoint or retained checkpoint
    Show {
        /// Its folder or _metadata object
        path: String,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        configuration: ConfigurationArgs,
    },
    /// Deletes a savepoint
    Dispose {
        /// Its folder or _metadata object
        path: String,
        #[command(flatten)]
        configuration: ConfigurationArgs,
    },
}

/// Runs the command.
pub fn run(command: SavepointsCommand) -> anyhow::Result<()> {
    logging::install(logging::QUIET, false);
    block_on(async move {
        match command {
            SavepointsCommand::Trigger { id, target, json, remote } => {
                trigger(&remote, &id, &target.unwrap_or_default(), json).await
            }
            SavepointsCommand::List { folder, json, configuration } => {
                list(&configuration::load(&configuration)?, folder, json).await
            }
            SavepointsCommand::Show { path, json, configuration } => {
                let stores = ObjectStores::new(configuration::load(&configuration)?, None);
                show(&read_savepoint(&stores, &path).await.map_err(Error::from)?, &path, json)
            }
            SavepointsCommand::Dispose { path, configuration } => {
                let stores = ObjectStores::new(configuration::load(&configuration)?, None);
                dispose_savepoint(&stores, &path).await.map_err(Error::from)?;
                writeln!(std::io::stdout(), "deleted {path}")?;
                Ok(())
            }
        }
    })
}

/// Takes a savepoint and prints where it is.
pub async fn trigger(remote: &RemoteArgs, id: &str, target: &str, json: bool) -> anyhow::Result<()> {
    let path = connect(remote).await?.job(id).savepoint(target).await?;
    print_path(id, &path, json)
}

/// Prints where a savepoint of a job is.
pub fn print_path(job: &str, path: &str, json: bool) -> anyhow::Result<()> {
    let text = if json { serde_json::json!({ "job_id": job, "path": path }).to_string() } else { path.to_owned() };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

async fn list(configuration: &Configuration, folder: Option<String>, json: bool) -> anyhow::Result<()> {
    let configured = || configuration.text(&keys::CHECKPOINTING_SAVEPOINT_DIRECTORY).map(str::to_owned);
    let folder = folder.or_else(configured).ok_or_else(|| {
        Error::new(ErrorKind::Config, "which folder? give one, or set execution.checkpointing.savepoint-dir")
    })?;
    let stores = ObjectStores::new(configuration.clone(), None);
    let found = list_savepoints(&stores, &folder).await.map_err(Error::from)?;
    let mut rows: Vec<Row> = found.iter().map(|(path, metadata)| Row::of(path, metadata)).collect();
    rows.sort_by(|a, b| (a.time_ms, &a.path).cmp(&(b.time_ms, &b.path)));
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&rows)?)?;
        return Ok(());
    }
    writeln!(out, "{:<24}  {:>12}  {:<32}  {:<20}  PATH", "TAKEN", "BYTES", "JOB", "NAME")?;
    for row in rows {
        let taken = time(row.time_ms);
        writeln!(out, "{taken:<24}  {:>12}  {:<32}  {:<20}  {}", row.bytes, row.job_id, row.job_name, row.path)?;
    }
    Ok(())
}

fn show(metadata: &v1::CheckpointMetadata, path: &str, json: bool) -> anyhow::Result<()> {
    let view = View::of(path, metadata);
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&view)?)?;
        return Ok(());
    }
    let row = &view.row;
    writeln!(out, "{:<11} {path}", if view.savepoint { "savepoint" } else { "checkpoint" })?;
    writeln!(out, "taken       {}", time(row.time_ms))?;
    writeln!(out, "job         {}  {}", row.job_id, row.job_name)?;
    writeln!(out, "checkpoint  {}", row.checkpoint_id)?;
    writeln!(out, "size        {} bytes", row.bytes)?;
    for vertex in &view.vertices {
        let (name, parallelism, max) = (&vertex.name, vertex.parallelism, vertex.max_parallelism);
        writeln!(out, "\n{name}  (parallelism {parallelism}, max parallelism {max})")?;
        for operator in &vertex.operators {
            writeln!(out, "  {}  {}  {}", operator.uid, operator.kind, operator.name)?;
            for list in &operator.lists {
                writeln!(out, "    list   {}: {} elements, {} bytes", list.name, list.elements, list.bytes)?;
            }
            for cell in &operator.cells {
                let (name, key, value) = (&cell.name, &cell.key_schema, &cell.value_schema);
                writeln!(out, "    keyed  {name}: key ({key}), value ({value}), version {}", cell.schema_version)?;
            }
            if let Some(bytes) = operator.coordinator_bytes {
                writeln!(out, "    coordinator: {bytes} bytes")?;
            }
        }
        for subtask in &vertex.subtasks {
            let (first, last) = (subtask.first_key_group, subtask.last_key_group);
            let groups = match (first, last) {
                (Some(first), Some(last)) => format!(", key groups {first} to {last}"),
                _ => String::new(),
            };
            let finished = if subtask.finished { ", finished" } else { "" };
            writeln!(out, "  subtask {}: {} bytes{groups}{finished}", subtask.subtask, subtask.bytes)?;
        }
    }
    Ok(())
}

fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

/// A savepoint in a list.
#[derive(Debug, Serialize)]
struct Row {
    path: String,
    job_id: String,
    job_name: String,
    checkpoint_id: u64,
    time_ms: i64,
    bytes: u64,
}

impl Row {
    fn of(path: &str, metadata: &v1::CheckpointMetadata) -> Row {
        let subtasks = metadata.vertices.iter().flat_map(|vertex| &vertex.subtasks);
        let coordinators = metadata.coordinators.iter().map(|coordinator| coordinator.state.len() as u64);
        Row {
            path: path.to_owned(),
            job_id: metadata.job_id.clone(),
            job_name: metadata.job_name.clone(),
            checkpoint_id: metadata.checkpoint_id,
            time_ms: metadata.timestamp_ms,
            bytes: subtasks.map(subtask_bytes).sum::<u64>() + coordinators.sum::<u64>(),
        }
    }
}

fn subtask_bytes(subtask: &v1::SubtaskSnapshot) -> u64 {
    let lists = subtask.operators.iter().flat_map(|operator| &operator.lists);
    let listed: usize = lists.flat_map(|list| &list.elements).map(Vec::len).sum();
    listed as u64 + subtask.keyed.as_ref().map_or(0, |keyed| keyed.total_bytes)
}

#[derive(Debug, Serialize)]
struct View {
    #[serde(flatten)]
    row: Row,
    savepoint: bool,
    vertices: Vec<VertexView>,
}

#[derive(Debug, Serialize)]
struct VertexView {
    id: String,
    name: String,
    parallelism: u32,
    max_parallelism: u32,
    operators: Vec<OperatorView>,
    subtasks: Vec<SubtaskView>,
}

#[derive(Debug, Serialize)]
struct OperatorView {
    uid: String,
    name: String,
    kind: String,
    lists: Vec<ListView>,
    cells: Vec<CellView>,
    /// `null`: it has no coordinator.
    coordinator_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ListView {
    name: String,
    elements: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct CellView {
    name: String,
    key_schema: String,
    value_schema: String,
    schema_version: u32,
}

#[derive(Debug, Serialize)]
struct SubtaskView {
    subtask: u32,
    bytes: u64,
    /// `null`: no keyed state.
    first_key_group: Option<u32>,
    last_key_group: Option<u32>,
    finished: bool,
}

impl View {
    fn of(path: &str, metadata: &v1::CheckpointMetadata) -> View {
        View {
            row: Row::of(path, metadata),
            savepoint: metadata.savepoint,
            vertices: metadata.vertices.iter().map(|vertex| VertexView::of(vertex, metadata)).collect(),
        }
    }
}

impl VertexView {
    fn of(vertex: &v1::VertexSnapshot, metadata: &v1::CheckpointMetadata) -> VertexView {
        let mut infos = vertex.operators.clone();
        // Older versions wrote down only operators with state.
        for operator in vertex.subtasks.iter().flat_map(|subtask| &subtask.operators) {
            if infos.iter().all(|info| info.uid != operator.operator_uid) {
                let (uid, kind) = (operator.operator_uid.clone(), operator.operator_kind.clone());
                infos.push(v1::OperatorInfo { uid, kind, name: String::new() });
            }
        }
        VertexView {
            id: vertex.vertex_id.clone(),
            name: if vertex.name.is_empty() { vertex.vertex_id.clone() } else { vertex.name.clone() },
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            operators: infos.iter().map(|info| OperatorView::of(info, vertex, metadata)).collect(),
            subtasks: vertex.subtasks.iter().map(SubtaskView::of).collect(),
        }
    }
}

impl OperatorView {
    fn of(info: &v1::OperatorInfo, vertex: &v1::VertexSnapshot, metadata: &v1::CheckpointMetadata) -> OperatorView {
        let mut lists: BTreeMap<&str, ListView> = BTreeMap::new();
        let of_all = vertex.subtasks.iter().flat_map(|subtask| &subtask.operators);
        for list in of_all.filter(|operator| operator.operator_uid == info.uid).flat_map(|operator| &operator.lists) {
            let empty = || ListView { name: list.name.clone(), elements: 0, bytes: 0 };
            let view = lists.entry(&list.name).or_insert_with(empty);
            view.elements += list.elements.len() as u64;
            view.bytes += list.elements.iter().map(|element| element.len() as u64).sum::<u64>();
        }
        let tables = vertex.subtasks.iter().filter_map(|subtask| subtask.keyed.as_ref()).flat_map(|k| &k.tables);
        let mut cells: BTreeMap<&str, CellView> = BTreeMap::new();
        for table in tables.filter(|table| table.operator_uid == info.uid) {
            cells.entry(&table.cell).or_insert_with(|| CellView {
                name: table.cell.clone(),
                key_schema: table.key_schema.clone(),
                value_schema: table.value_schema.clone(),
                schema_version: table.schema_version,
            });
        }
        let coordinator = metadata.coordinators.iter().find(|coordinator| coordinator.operator_uid == info.uid);
        OperatorView {
            uid: info.uid.clone(),
            name: info.name.clone(),
            kind: info.kind.clone(),
            lists: lists.into_values().collect(),
            cells: cells.into_values().collect(),
            coordinator_bytes: coordinator.map(|coordinator| coordinator.state.len() as u64),
        }
    }
}

impl SubtaskView {
    fn of(subtask: &v1::SubtaskSnapshot) -> SubtaskView {
        let keyed = subtask.keyed.as_ref();
        SubtaskView {
            subtask: subtask.subtask,
            bytes: subtask_bytes(subtask),
            first_key_group: keyed.map(|keyed| keyed.key_group_start),
            last_key_group: keyed.map(|keyed| keyed.key_group_end),
            finished: subtask.finished,
        }
    }
}
