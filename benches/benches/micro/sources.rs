//! The Nexmark generator into Arrow (budget: 3 M events/s with all columns, 8 M with a projection), and JSON
//! lines into columns.

use std::sync::Arc;

use arrow::array::RecordBatch;
use criterion::{Criterion, Throughput};
use hurtig_connectors::SourceConnector;
use hurtig_connectors::formats::Format;
use hurtig_connectors::formats::decoder::{RecordDecoder, ScanLimits};
use hurtig_connectors::formats::json::{JsonDecoder, JsonEncoder};
use hurtig_connectors::nexmark::NexmarkConnector;
use hurtig_engine::Batch;
use hurtig_engine::clock::SystemClock;
use hurtig_engine::executor::InlineExecutor;
use hurtig_engine::operator::{Collector, OperatorContext, RestoredState, TaskInfo};
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::SourceStatus;
use hurtig_graph::connector::Options;
use hurtig_graph::{AttemptId, DataType, JobId, LogicalType, RowField, RowSchema};
use hurtig_state::backend::KeyedBackend;

/// Events of one measurement.
const EVENTS: u64 = 200_000;

const BID: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, dateTime TIMESTAMP(3), \
    extra STRING";
const AUCTION: &str = "id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, \
    dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING";
const PERSON: &str = "id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING, \
    dateTime TIMESTAMP(3), extra STRING";

fn schema(columns: &str) -> RowSchema {
    let row = DataType::parse(&format!("ROW<{columns}>")).expect("columns");
    let LogicalType::Row(fields) = row.logical else { unreachable!("a row") };
    RowSchema::new(fields.into_iter().map(|(name, ty)| RowField::new(name, ty)).collect())
}

fn context() -> OperatorContext {
    let attempt = AttemptId { job: JobId::from_u128(1), vertex: "source".into(), subtask: 0, attempt: 0 };
    OperatorContext {
        task: Arc::new(TaskInfo {
            attempt,
            job_name: String::new(),
            vertex_name: String::new(),
            parallelism: 1,
            max_parallelism: 128,
        }),
        uid: "source".into(),
        inputs: Vec::new(),
        output: RowSchema::default(),
        configuration: Arc::default(),
        clock: Arc::new(SystemClock::default()),
        executor: Arc::new(InlineExecutor),
        waker: Arc::new(|| {}),
        keyed: Arc::new(KeyedBackend::detached((0, 127), 128)),
        stores: Arc::default(),
        restored: RestoredState::default(),
        counters: Arc::default(),
        to_coordinator: Arc::new(|_| {}),
        collect: Arc::new(|_| {}),
    }
}

/// Keeps the last batch only.
#[derive(Default)]
struct Last(Option<Batch>);

impl Collector for Last {
    fn emit(&mut self, batch: Batch) {
        self.0 = Some(batch);
    }
    fn watermark(&mut self, _watermark_ms: i64) {}
    fn idle(&mut self, _idle: bool) {}
}

/// Generates all events, returns the last batch.
fn generate(table: &str, columns: &str, projection: Option<&[usize]>) -> RecordBatch {
    let options = [("connector", "nexmark"), ("table", table), ("events.num", &EVENTS.to_string())];
    let options: Options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let spec = SourceSpec { options, schema: schema(columns), projection: projection.map(<[usize]>::to_vec) };
    let mut reader = NexmarkConnector.reader(&spec).expect("a reader");
    reader.open(context()).expect("an open reader");
    let mut last = Last::default();
    while reader.poll(&mut last).expect("rows") != SourceStatus::Finished {}
    last.0.expect("a batch").records().clone()
}

/// Events a second.
pub fn nexmark(c: &mut Criterion) {
    let mut group = c.benchmark_group("nexmark");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(20);
    let events = format!("event_type INT, person ROW<{PERSON}>, auction ROW<{AUCTION}>, bid ROW<{BID}>");
    group.bench_function("all columns of all events", |b| b.iter(|| generate("events", &events, None)));
    group.bench_function("all columns of bids", |b| b.iter(|| generate("bid", BID, None)));
    group.bench_function("auction, price and time of bids", |b| b.iter(|| generate("bid", BID, Some(&[0, 2, 5]))));
    group.finish();
}

/// Bytes of text a second.
pub fn json(c: &mut Criterion) {
    let options: Options = [("format".to_owned(), "json".to_owned())].into();
    let Ok(Format::Json(options)) = Format::from_options(&options) else { unreachable!("the json format") };
    let rows = generate("bid", BID, None);
    let mut text = Vec::new();
    JsonEncoder::new(schema(BID), options.clone()).encode(&rows, &mut text).expect("JSON lines");
    let mut group = c.benchmark_group("json");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for (name, columns) in [("all columns of bids", BID), ("auction of bids", "auction BIGINT")] {
        let mut decoder = JsonDecoder::new(&schema(columns), options.clone());
        group.bench_function(name, |b| {
            b.iter(|| {
                let limits = ScanLimits { at_end: true, until: usize::MAX, rows: usize::MAX };
                decoder.scan(&text, 0, limits).expect("records");
                decoder.finish(&text).expect("columns")
            });
        });
    }
    group.finish();
}
