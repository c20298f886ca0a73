//! Writing tables of files: what is visible when, and what a restore makes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hurtig_engine::Batch;
use hurtig_engine::executor::{BackgroundExecutor, Job};
use hurtig_engine::operator::{Operator, OperatorSnapshot, RestoredState};
use hurtig_engine::registry::SinkSpec;
use hurtig_graph::RowSchema;
use hurtig_graph::config::Configuration;

use crate::connector::SinkConnector;
use crate::filesystem::FilesystemConnector;
use crate::testing::{Collected, ContextOptions, context, json_rows, options, restored, schema};

const COLUMNS: &str = "id INT, k STRING";

struct Sink {
    operator: Box<dyn Operator>,
    schema: RowSchema,
}

impl Sink {
    fn open(path: &Path, format: &str, partition_by: &[usize], context_options: ContextOptions) -> Sink {
        let schema = schema(COLUMNS);
        let pairs = [
            ("connector", "filesystem"),
            ("path", path.to_str().unwrap()),
            ("format", format),
            ("sink.rolling-policy.file-size", "1 mb"),
        ];
        let spec = SinkSpec {
            options: options(&pairs),
            schema: schema.clone(),
            primary_key: Vec::new(),
            partition_by: partition_by.to_vec(),
        };
        let mut operator = FilesystemConnector.writer(&spec).unwrap();
        operator.open(context(context_options).0).unwrap();
        Sink { operator, schema }
    }

    fn write(&mut self, ids: std::ops::Range<usize>) {
        let text: String = ids.map(|i| format!("{{\"id\":{i},\"k\":\"{}\"}}\n", ["a", "b/c", ""][i % 3])).collect();
        let batch = Batch::inserts(json_rows(&self.schema, &text));
        let _ = self.operator.process(0, batch, &mut Collected::default()).unwrap();
    }

    /// All that a task does for a checkpoint.
    fn checkpoint(&mut self, id: u64) -> OperatorSnapshot {
        self.operator.prepare_barrier(id, &mut Collected::default()).unwrap();
        let mut snapshot = self.operator.snapshot(id).unwrap();
        snapshot.deferred.take().unwrap()().unwrap();
        snapshot
    }

    fn finish(&mut self) {
        let _ = self.operator.finish(&mut Collected::default()).unwrap();
    }
}

fn checkpointed() -> ContextOptions {
    let mut configuration = Configuration::default();
    configuration.set("execution.checkpointing.interval", "1 s");
    ContextOptions { configuration, ..ContextOptions::default() }
}

fn again(attempt: u32, state: RestoredState) -> ContextOptions {
    ContextOptions { attempt, restored: state, ..checkpointed() }
}

/// Visible files with their contents.
fn visible(path: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(path).unwrap().to_str().unwrap().to_owned();
                files.insert(name, String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned());
            }
        }
    }
    files
}

/// The ids in all visible files, sorted.
fn ids(path: &Path) -> Vec<usize> {
    let mut ids: Vec<usize> = visible(path)
        .values()
        .flat_map(|text| text.lines().map(|l| l.split(',').next().unwrap().parse().unwrap()).collect::<Vec<_>>())
        .collect();
    ids.sort_unstable();
    ids
}

fn staged(path: &Path) -> Vec<String> {
    let folder = path.join(format!(".staging-{:032x}", 7));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn files_become_visible_when_the_checkpoint_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::open(dir.path(), "csv", &[], checkpointed());
    sink.write(0..3);
    assert!(visible(dir.path()).is_empty());
    sink.checkpoint(1);
    sink.write(3..5);
    assert!(visible(dir.path()).is_empty());
    sink.operator.checkpoint_complete(1).unwrap();
    assert_eq!(ids(dir.path()), [0, 1, 2]);
    let before = visible(dir.path());
    assert!(before.keys().all(|name| name.starts_with("part-") && name.ends_with("-0-0.csv")), "{before:?}");
    // An aborted checkpoint's files belong to the next one.
    sink.checkpoint(2);
    sink.operator.checkpoint_aborted(2).unwrap();
    sink.write(5..6);
    sink.finish();
    sink.checkpoint(3);
    sink.operator.checkpoint_complete(3).unwrap();
    assert_eq!(ids(dir.path()), [0, 1, 2, 3, 4, 5]);
    assert!(before.iter().all(|(name, text)| visible(dir.path()).get(name) == Some(text)));
    assert!(sink.operator.quiescent());
    sink.operator.close();
    assert!(!dir.path().join(format!(".staging-{:032x}", 7)).exists());
}

#[test]
fn without_checkpoints_files_become_visible_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::open(&dir.path().join("new/table"), "json", &[], ContextOptions::default());
    sink.write(0..2);
    assert!(visible(dir.path()).is_empty());
    sink.finish();
    let files = visible(dir.path());
    assert_eq!(files.values().collect::<Vec<_>>(), ["{\"id\":0,\"k\":\"a\"}\n{\"id\":1,\"k\":\"b/c\"}\n"]);
    // No rows, no file, but a table that can be read.
    let mut empty = Sink::open(&dir.path().join("empty"), "json", &[], ContextOptions::default());
    empty.finish();
    assert!(dir.path().join("empty").is_dir() && visible(&dir.path().join("empty")).is_empty());
}

#[test]
fn a_restore_commits_what_the_checkpoint_lists_and_removes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::open(dir.path(), "csv", &[], checkpointed());
    sink.write(0..2);
    let snapshot = sink.checkpoint(1);
    // The checkpoint completes, but the sink dies before it hears of it, with files of checkpoint 2
    // closed and others open.
    sink.write(2..4);
    sink.checkpoint(2);
    sink.write(4..6);
    assert_eq!(staged(dir.path()).len(), 3);
    std::mem::forget(sink);

    let state = restored(1, vec![snapshot]);
    let mut sink = Sink::open(dir.path(), "csv", &[], again(1, state.clone()));
    assert_eq!(ids(dir.path()), [0, 1]);
    assert!(staged(dir.path()).is_empty());
    sink.write(2..4);
    let committed = visible(dir.path());
    std::mem::forget(sink);

    // The same restore once more finds everything committed.
    let mut sink = Sink::open(dir.path(), "csv", &[], again(2, state));
    assert_eq!(visible(dir.path()), committed);
    sink.write(2..6);
    sink.checkpoint(3);
    sink.operator.checkpoint_complete(3).unwrap();
    assert_eq!(ids(dir.path()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_restart_from_the_beginning_leaves_nothing_of_earlier_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::open(dir.path(), "csv", &[], checkpointed());
    sink.write(0..2);
    sink.checkpoint(1);
    sink.write(2..3);
    sink.operator.close();
    assert_eq!(staged(dir.path()).len(), 1);
    Sink::open(dir.path(), "csv", &[], again(1, RestoredState::default()));
    assert!(staged(dir.path()).is_empty() && visible(dir.path()).is_empty());
}

#[test]
fn another_parallelism_commits_each_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut snapshots = Vec::new();
    for subtask in 0..3 {
        let mut sink = Sink::open(dir.path(), "csv", &[], ContextOptions { subtask, parallelism: 3, ..checkpointed() });
        sink.write(subtask as usize * 10..subtask as usize * 10 + 2);
        snapshots.push(sink.checkpoint(1));
        sink.write(100..101);
        std::mem::forget(sink);
    }
    // One subtask takes over everything, among it files of subtasks that no longer exist.
    Sink::open(dir.path(), "csv", &[], again(1, restored(1, snapshots)));
    assert_eq!(ids(dir.path()), [0, 1, 10, 11, 20, 21]);
    assert!(staged(dir.path()).is_empty());
}

#[test]
fn rows_go_to_the_folder_of_their_partition() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::open(dir.path(), "csv", &[1], ContextOptions::default());
    sink.write(0..6);
    sink.finish();
    let files = visible(dir.path());
    let folders: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (name.split('/').next().unwrap(), text.as_str())).collect();
    assert_eq!(folders, [("k=__DEFAULT_PARTITION__", "2\n5\n"), ("k=a", "0\n3\n"), ("k=b%2Fc", "1\n4\n")]);
}

#[test]
fn parquet_files_hold_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::open(dir.path(), "parquet", &[], checkpointed());
    sink.write(0..100);
    sink.write(100..200);
    sink.checkpoint(1);
    sink.operator.checkpoint_complete(1).unwrap();
    let path = dir.path().join(visible(dir.path()).keys().next().unwrap());
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    assert_eq!(reader.map(|b| b.unwrap().num_rows()).sum::<usize>(), 200);
}

#[test]
fn a_file_that_is_large_enough_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::open(dir.path(), "json", &[], checkpointed());
    for i in 0..20 {
        sink.write(i * 5000..(i + 1) * 5000);
    }
    sink.checkpoint(1);
    sink.operator.checkpoint_complete(1).unwrap();
    assert!(visible(dir.path()).len() > 1);
    assert_eq!(visible(dir.path()).values().map(|t| t.lines().count()).sum::<usize>(), 100_000);
}

/// Runs jobs when told to, on the caller's thread.
#[derive(Default)]
struct HeldExecutor(Mutex<Vec<Job>>);

impl BackgroundExecutor for HeldExecutor {
    fn spawn(&self, job: Job) {
        self.0.lock().unwrap().push(job);
    }
}

#[test]
fn the_sink_is_not_quiescent_before_its_files_are_committed() {
    let dir = tempfile::tempdir().unwrap();
    let executor = Arc::new(HeldExecutor::default());
    let options = ContextOptions { executor: executor.clone(), ..ContextOptions::default() };
    let mut sink = Sink::open(dir.path(), "csv", &[], options);
    sink.write(0..2);
    sink.finish();
    assert!(!sink.operator.quiescent() && visible(dir.path()).is_empty());
    let jobs = std::mem::take(&mut *executor.0.lock().unwrap());
    jobs.into_iter().for_each(|job| job());
    assert!(sink.operator.quiescent());
    assert_eq!(ids(dir.path()), [0, 1]);
}

#[test]
fn a_failure_to_commit_fails_the_sink_and_does_not_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let executor = Arc::new(HeldExecutor::default());
    let options = ContextOptions { executor: executor.clone(), ..ContextOptions::default() };
    let mut sink = Sink::open(dir.path(), "csv", &[], options);
    sink.write(0..2);
    sink.finish();
    // Something else is where the table was.
    std::fs::remove_dir_all(dir.path()).unwrap();
    std::fs::write(dir.path(), "x").unwrap();
    let jobs = std::mem::take(&mut *executor.0.lock().unwrap());
    jobs.into_iter().for_each(|job| job());
    assert!(!sink.operator.quiescent(), "a task ends when its operators are quiescent");
    assert!(sink.operator.timers(0, &mut Collected::default()).is_err());
    std::fs::remove_file(dir.path()).unwrap();
}

#[test]
fn without_a_checkpoint_at_the_end_the_last_files_become_visible_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = checkpointed();
    options.configuration.set("execution.checkpointing.checkpoints-after-tasks-finish", "false");
    let mut sink = Sink::open(dir.path(), "csv", &[], options);
    sink.write(0..2);
    sink.checkpoint(1);
    sink.write(2..4);
    assert!(visible(dir.path()).is_empty());
    sink.finish();
    assert_eq!(ids(dir.path()), [0, 1, 2, 3]);
}

#[test]
fn a_failure_to_write_reaches_the_task() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let pairs = [("connector", "filesystem"), ("path", "/proc/nowhere/table"), ("format", "csv")];
    let spec = SinkSpec {
        options: options(&pairs),
        schema: schema(COLUMNS),
        primary_key: Vec::new(),
        partition_by: Vec::new(),
    };
    let mut operator = FilesystemConnector.writer(&spec).unwrap();
    let error = operator.open(context(ContextOptions::default()).0).unwrap_err().to_string();
    assert!(error.contains("/proc/nowhere/table"), "{error}");
}
