//! Reading tables of files: whole tables, restores in the middle, cuts, partitions, bad rows.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use hurtig_engine::clock::VirtualClock;
use hurtig_engine::operator::{OperatorSnapshot, RestoredState};
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::{SourceReader, SourceStatus};
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorCatalog, Options};
use hurtig_graph::coordinator::{CoordinatorAction, CoordinatorEvent, OperatorCoordinator};

use crate::Connectors;
use crate::connector::SourceConnector;
use crate::filesystem::FilesystemConnector;
use crate::testing::{Collected, ContextOptions, Messages, context, json_rows, options, poll, restored, schema};

/// A table, its enumerator and what is needed to make readers.
struct Table {
    options: Options,
    schema: RowSchema,
    projection: Option<Vec<usize>>,
    enumerator: Box<dyn OperatorCoordinator>,
}

impl Table {
    fn new(path: &Path, format: &str, columns: &str, more: &[(&str, &str)]) -> Table {
        let mut pairs = vec![("connector", "filesystem"), ("path", path.to_str().unwrap()), ("format", format)];
        pairs.extend(more);
        let options = options(&pairs);
        let catalog = Connectors::default();
        let mut enumerator = catalog.source_coordinator(&options).unwrap().unwrap();
        assert_eq!(enumerator.handle(CoordinatorEvent::Start { parallelism: 1 }), [CoordinatorAction::Discover]);
        let splits = catalog.discover_splits(&options).map_err(|e| e.message);
        enumerator.handle(CoordinatorEvent::Discovered { splits });
        Table { options, schema: schema(columns), projection: None, enumerator }
    }

    fn output(&self) -> RowSchema {
        self.projection.as_ref().map_or(self.schema.clone(), |p| self.schema.project(p))
    }

    fn reader(&self, options: ContextOptions) -> (Box<dyn SourceReader>, Messages) {
        let spec = SourceSpec {
            options: self.options.clone(),
            schema: self.schema.clone(),
            projection: self.projection.clone(),
        };
        let mut reader = FilesystemConnector.reader(&spec).unwrap();
        let (context, messages) = context(options);
        reader.open(context).unwrap();
        (reader, messages)
    }

    fn restored_reader(&self, state: RestoredState) -> (Box<dyn SourceReader>, Messages) {
        self.reader(ContextOptions { restored: state, ..ContextOptions::default() })
    }

    /// Passes the reader's requests to the enumerator and the answers back.
    fn deliver(&mut self, reader: &mut dyn SourceReader, messages: &Messages) {
        for payload in std::mem::take(&mut *messages.lock().unwrap()) {
            for action in self.enumerator.handle(CoordinatorEvent::Message { subtask: 0, payload }) {
                let CoordinatorAction::Send { payload, .. } = action else { panic!("{action:?}") };
                reader.coordinator_message(&payload).unwrap();
            }
        }
    }

    /// Reads until the end or `batches` batches.
    fn run(
        &mut self,
        reader: &mut dyn SourceReader,
        messages: &Messages,
        batches: usize,
        out: &mut Collected,
    ) -> hurtig_engine::Result<bool> {
        while out.batches.len() < batches {
            match poll(reader, 1, out)? {
                SourceStatus::Finished => return Ok(true),
                SourceStatus::Ready => {}
                SourceStatus::Pending { .. } => {
                    assert!(!messages.lock().unwrap().is_empty(), "waits for nothing");
                    self.deliver(reader, messages);
                }
            }
        }
        Ok(false)
    }

    fn rows(&mut self) -> hurtig_engine::Result<Vec<String>> {
        let (mut reader, messages) = self.reader(ContextOptions::default());
        let mut out = Collected::default();
        self.run(reader.as_mut(), &messages, usize::MAX, &mut out)?;
        Ok(out.rows(&self.output()))
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn parquet(rows: &RecordBatch, rows_per_group: usize) -> Vec<u8> {
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .build();
    let mut out = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    out
}

/// `n` lines of JSON, the ids from `first` on, some of them long.
fn lines(first: usize, n: usize) -> String {
    (first..first + n).map(|i| format!("{{\"id\":{i},\"s\":\"{}\"}}\n", "x".repeat(i % 90))).collect()
}

fn ids(first: usize, n: usize) -> Vec<String> {
    (first..first + n).map(|i| i.to_string()).collect()
}

#[test]
fn files_of_a_folder_are_read_in_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("b.json"), b"{\"id\":3}");
    write(&dir.path().join("a.json"), b"{\"id\":1}\n{\"id\":2}\n");
    write(&dir.path().join("a/z.json.gz"), &gzip(b"{\"id\":0}\n"));
    write(&dir.path().join(".hidden.json"), b"nonsense");
    write(&dir.path().join("_SUCCESS"), b"nonsense");
    write(&dir.path().join(".part/x.json"), b"nonsense");
    write(&dir.path().join("empty.json"), b"");
    let mut table = Table::new(dir.path(), "json", "id INT", &[]);
    assert_eq!(table.rows().unwrap(), ["0", "1", "2", "3"]);
    let uri = format!("file://{}", dir.path().join("a.json").display());
    assert_eq!(Table::new(Path::new(&uri), "json", "id INT", &[]).rows().unwrap(), ["1", "2"]);
}

#[test]
fn a_missing_path_fails_the_job_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    let options = options(&[("connector", "filesystem"), ("path", missing.to_str().unwrap()), ("format", "csv")]);
    let error = Connectors::default().discover_splits(&options).unwrap_err();
    assert!(error.message.contains("nowhere"), "{error:?}");
}

#[test]
fn only_the_asked_for_columns_are_read_in_the_asked_for_order() {
    let dir = tempfile::tempdir().unwrap();
    let text = schema("a INT, b STRING, c INT");
    let rows = json_rows(&text, "{\"a\":1,\"b\":\"x\",\"c\":2}\n{\"a\":3}");
    write(&dir.path().join("t.json"), b"{\"a\":1,\"b\":{\"not\":\"needed\"},\"c\":2}\n{\"a\":3}");
    write(&dir.path().join("t.csv"), b"1,x,2\n3,y,\n");
    write(&dir.path().join("t.parquet"), &parquet(&rows, 100));
    for (format, more) in [("json", vec![]), ("csv", vec![("csv.null-literal", "")]), ("parquet", vec![])] {
        let mut table =
            Table::new(&dir.path().join(format!("t.{format}")), format, "a INT, b STRING, c INT, d DATE", &more);
        if format == "csv" {
            table.schema.fields.pop();
        }
        table.projection = Some(vec![2, 0]);
        assert_eq!(table.rows().unwrap(), ["2,1", "null,3"], "{format}");
        table.restart();
        table.projection = Some(vec![]);
        assert_eq!(table.rows().unwrap(), ["", ""], "{format}");
    }
}

impl Table {
    fn restart(&mut self) {
        self.enumerator.restore(None).unwrap();
        self.enumerator.handle(CoordinatorEvent::Start { parallelism: 1 });
        let splits = FilesystemConnector.discover(&self.options).map_err(|e| e.message);
        self.enumerator.handle(CoordinatorEvent::Discovered { splits });
    }
}

/// Reads a table, but after every batch starts over from a snapshot, in a new reader.
fn read_with_restores(table: &mut Table) -> (Vec<String>, usize) {
    let output = table.output();
    let mut rows = Vec::new();
    let mut batches = 0;
    let mut checkpoint = 0;
    let mut state = RestoredState::default();
    loop {
        let (mut reader, messages) = table.restored_reader(state);
        let mut out = Collected::default();
        let finished = table.run(reader.as_mut(), &messages, 1, &mut out).unwrap();
        rows.extend(out.rows(&output));
        batches += out.batches.len();
        if finished {
            return (rows, batches);
        }
        checkpoint += 1;
        let coordinator = table.enumerator.snapshot(checkpoint);
        let snapshot: OperatorSnapshot = reader.snapshot(checkpoint).unwrap();
        // What happens behind the checkpoint is lost: another batch, another split.
        table.run(reader.as_mut(), &messages, 1, &mut Collected::default()).unwrap();
        table.enumerator.restore(Some(&coordinator)).unwrap();
        state = restored(checkpoint, vec![snapshot]);
    }
}

#[test]
fn a_restore_at_every_batch_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let text = lines(0, 30_000) + "\n" + &lines(30_000, 10_000);
    write(&dir.path().join("json/a.json"), text.as_bytes());
    write(&dir.path().join("json/b.json.gz"), &gzip(lines(40_000, 20_000).as_bytes()));
    let rows = json_rows(&schema("id INT, s STRING"), &lines(0, 60_000));
    write(&dir.path().join("parquet/a.parquet"), &parquet(&rows, 7_000));
    let csv: String = (0..60_000).map(|i| format!("{i},\"a\nb{}\"\n", i % 7)).collect();
    write(&dir.path().join("csv/a.csv"), csv.as_bytes());
    for format in ["json", "parquet", "csv"] {
        let mut table = Table::new(&dir.path().join(format), format, "id INT, s STRING", &[]);
        table.projection = Some(vec![0]);
        let (read, batches) = read_with_restores(&mut table);
        assert!(batches >= 7, "{format}: {batches}");
        assert!(read == ids(0, 60_000), "{format}");
    }
}

#[test]
fn large_files_are_cut_at_lines_and_row_groups() {
    let dir = tempfile::tempdir().unwrap();
    let text = lines(0, 5_000);
    write(&dir.path().join("a.json"), text.as_bytes());
    write(&dir.path().join("a.csv"), ids(0, 5_000).join("\n").as_bytes());
    let rows = json_rows(&schema("id INT"), &text);
    write(&dir.path().join("a.parquet"), &parquet(&rows, 500));
    let unquoted = ("csv.disable-quote-character", "true");
    for (format, more, at_least) in [("json", vec![], 20), ("csv", vec![unquoted], 2), ("parquet", vec![], 3)] {
        let path = dir.path().join(format!("a.{format}"));
        // Every size moves the cuts to other places within lines.
        for size in ["10000 b", "10001 b", "10017 b", "6000 b"] {
            let mut more = more.clone();
            more.push(("scan.split.max-size", size));
            let mut table = Table::new(&path, format, "id INT", &more);
            assert!(FilesystemConnector.discover(&table.options).unwrap().len() >= at_least, "{format}");
            assert!(table.rows().unwrap() == ids(0, 5_000), "{format} {size}");
        }
    }
    let quoted = Table::new(&dir.path().join("a.csv"), "csv", "id INT", &[("scan.split.max-size", "1 kb")]);
    assert_eq!(FilesystemConnector.discover(&quoted.options).unwrap().len(), 1);
}

#[test]
fn a_bad_row_names_file_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let good = lines(0, 20_000);
    let fails = |name: &str, text: &str, format: &str| {
        let path = dir.path().join(name);
        write(&path, text.as_bytes());
        Table::new(&path, format, "id INT, s STRING", &[]).rows().unwrap_err().to_string()
    };
    let message = fails("syntax.json", &format!("{good}{{\"id\":\n"), "json");
    assert!(message.contains("syntax.json', line 20001: malformed JSON"), "{message}");
    let message = fails("value.json", &format!("{good}\n{{\"id\":\"x\"}}\n"), "json");
    assert!(message.contains("line 20002, field 'id': 'x' is not a value of type INT"), "{message}");
    let message = fails("value.csv", "1,\"a\nb\"\nx,c\n", "csv");
    assert!(message.contains("value.csv', line 3, field 'id'"), "{message}");
    let message = fails("none.parquet", "no parquet", "parquet");
    assert!(message.contains("none.parquet"), "{message}");
}

#[test]
fn parquet_types_are_fitted_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let text = r#"{"i":7,"d":1.5,"t":"2024-01-01 00:00:00.123456","r":{"x":1,"y":"k"},"s":"v"}"#;
    let rows = json_rows(&schema("i BIGINT, d DOUBLE, t TIMESTAMP(6), r ROW<x INT, y STRING>, s STRING"), text);
    write(&path, &parquet(&rows, 10));
    let mut table =
        Table::new(&path, "parquet", "s BYTES, t TIMESTAMP(3), i INT, r ROW<y STRING, x BIGINT, z INT>, no INT", &[]);
    assert_eq!(table.rows().unwrap(), [r#""76","2024-01-01 00:00:00.123",7,["k",1,null],null"#]);
    let message = Table::new(&path, "parquet", "s INT", &[]).rows().unwrap_err().to_string();
    assert!(message.contains("t.parquet") && message.contains("'s' as INT"), "{message}");
}

#[test]
fn partition_columns_come_from_folders() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("k=low/d=2024-01-01/part-0"), b"1\n2\n");
    write(&dir.path().join("k=high%2Fer/d=__DEFAULT_PARTITION__/part-0"), b"3\n");
    let mut table = Table::new(dir.path(), "csv", "n INT, k STRING, d DATE", &[]);
    assert_eq!(table.rows().unwrap(), [r#"3,"high/er",null"#, r#"1,"low","2024-01-01""#, r#"2,"low","2024-01-01""#]);
    table.restart();
    table.projection = Some(vec![1, 0]);
    assert_eq!(table.rows().unwrap()[0], r#""high/er",3"#);
}

#[test]
fn a_rate_limit_spreads_rows_over_time() {
    assert_takes_a_second(1);
}

#[test]
fn readers_without_a_split_take_no_share_of_the_rate() {
    assert_takes_a_second(2);
}

/// A thousand rows in one file at a thousand rows a second.
fn assert_takes_a_second(parallelism: u32) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.json"), lines(0, 1000).as_bytes());
    let mut table = Table::new(dir.path(), "json", "id INT", &[("scan.rate-limit.rows-per-second", "1000")]);
    let clock = VirtualClock::at(0);
    let (mut reader, messages) =
        table.reader(ContextOptions { clock: clock.clone(), parallelism, ..ContextOptions::default() });
    let mut out = Collected::default();
    let mut rounds = 0;
    loop {
        match reader.poll(&mut out).unwrap() {
            SourceStatus::Finished => break,
            SourceStatus::Pending { until_ms: Some(until) } => {
                rounds += 1;
                clock.advance(until - hurtig_engine::clock::Clock::now_ms(clock.as_ref()));
            }
            SourceStatus::Pending { until_ms: None } => table.deliver(reader.as_mut(), &messages),
            SourceStatus::Ready => {}
        }
    }
    assert_eq!(out.rows(&table.schema), ids(0, 1000));
    assert!((90..=110).contains(&rounds), "{rounds}");
    let end = hurtig_engine::clock::Clock::now_ms(clock.as_ref());
    assert!((990..=1_100).contains(&end), "{end} ms");
}

/// Runs jobs only when asked to.
#[derive(Default)]
struct LateExecutor(std::sync::Mutex<Vec<hurtig_engine::executor::Job>>);

impl hurtig_engine::executor::BackgroundExecutor for LateExecutor {
    fn spawn(&self, job: hurtig_engine::executor::Job) {
        self.0.lock().unwrap().push(job);
    }
}

#[test]
fn a_reader_waits_for_bytes_without_blocking() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.json"), lines(0, 10).as_bytes());
    let mut table = Table::new(dir.path(), "json", "id INT", &[]);
    let executor = Arc::new(LateExecutor::default());
    let (mut reader, messages) =
        table.reader(ContextOptions { executor: executor.clone(), ..ContextOptions::default() });
    let mut out = Collected::default();
    assert_eq!(reader.poll(&mut out).unwrap(), SourceStatus::Pending { until_ms: None });
    table.deliver(reader.as_mut(), &messages);
    for _ in 0..2 {
        assert_eq!(reader.poll(&mut out).unwrap(), SourceStatus::Pending { until_ms: None });
        assert!(out.batches.is_empty());
    }
    let jobs = std::mem::take(&mut *executor.0.lock().unwrap());
    assert_eq!(jobs.len(), 1);
    jobs.into_iter().for_each(|job| job());
    assert_eq!(reader.poll(&mut out).unwrap(), SourceStatus::Ready);
    assert_eq!(out.rows(&table.schema), ids(0, 10));
}
