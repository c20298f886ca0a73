//! Grouped and windowed aggregates over an int64 key. Budgets: count and sum of 1 M live keys 40 ns a row,
//! of 10 k keys 15 ns; windowed count of 10 k keys 20 ns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use criterion::{BatchSize, Criterion, Throughput};
use hurtig_engine::Batch;
use hurtig_engine::operators::testing::{Harness, HarnessConfig};
use hurtig_engine::operators::{BuildContext, build};
use hurtig_graph::{LogicalType, RowField, RowSchema, TimeAttribute};
use hurtig_proto::v1;

const ROWS: usize = 8192;
/// Batches of one measurement.
const BATCHES: usize = 32;

fn input() -> RowSchema {
    let mut time = RowField::new("ts", LogicalType::Timestamp(3).nullable());
    time.time = TimeAttribute::Rowtime;
    RowSchema::new(vec![
        RowField::new("key", LogicalType::BigInt.nullable()),
        RowField::new("value", LogicalType::BigInt.nullable()),
        time,
    ])
}

/// Uniform keys below `keys`, event time one millisecond for every ten rows.
fn batches(keys: u64, count: usize) -> Vec<Batch> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count)
        .map(|batch| {
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("key", Arc::new((0..ROWS).map(|_| (random() % keys) as i64).collect::<Int64Array>())),
                ("value", Arc::new((0..ROWS as i64).collect::<Int64Array>())),
                (
                    "ts",
                    Arc::new(
                        (0..ROWS)
                            .map(|row| Some(((batch * ROWS + row) / 10) as i64))
                            .collect::<TimestampMillisecondArray>(),
                    ),
                ),
            ];
            let schema = input().to_arrow();
            let columns = columns.into_iter().map(|(_, column)| column).collect();
            Batch::inserts(RecordBatch::try_new(schema, columns).expect("columns of the input schema"))
        })
        .collect()
}

fn call(function: &str, arguments: &[u32]) -> v1::AggregateCall {
    v1::AggregateCall {
        function: function.into(),
        arguments: arguments.to_vec(),
        name: function.into(),
        r#type: "BIGINT".into(),
        ..Default::default()
    }
}

fn harness(kind: v1::operator::Kind) -> Harness {
    let operator = v1::Operator { uid: "bench".into(), name: "bench".into(), kind: Some(kind), ..Default::default() };
    let built = build(&operator, &[input()], &BuildContext::default()).expect("a valid operator");
    Harness::open(built, HarnessConfig::fresh(vec![input()])).expect("the operator opens")
}

fn group_aggregate() -> Harness {
    harness(v1::operator::Kind::GroupAggregate(v1::GroupAggregate {
        keys: vec![0],
        aggregates: vec![call("COUNT", &[]), call("SUM", &[1])],
        ..Default::default()
    }))
}

fn window_aggregate() -> Harness {
    harness(v1::operator::Kind::WindowAggregate(v1::WindowAggregate {
        window: Some(v1::WindowSpec {
            kind: v1::WindowKind::Tumble as i32,
            time_column: 2,
            size_ms: 10_000,
            ..Default::default()
        }),
        keys: vec![0],
        aggregates: vec![call("COUNT", &[])],
        ..Default::default()
    }))
}

fn run(harness: &mut Harness, batches: &[Batch]) {
    for batch in batches {
        harness.process(batch.clone()).expect("the rows are valid");
        harness.take();
    }
}

pub fn aggregates(c: &mut Criterion) {
    let mut group = c.benchmark_group("aggregate");
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    group.sample_size(20);
    for (name, keys) in [("grouped_count_sum_10k_keys", 10_000), ("grouped_count_sum_1m_keys", 1_000_000)] {
        // Steady state: all keys are known before the measurement.
        let mut harness = group_aggregate();
        run(&mut harness, &batches(keys, (keys as usize * 3 / ROWS).max(BATCHES)));
        let measured = batches(keys, BATCHES);
        group.bench_function(name, |b| b.iter(|| run(&mut harness, &measured)));
    }
    let measured = batches(10_000, BATCHES);
    group.bench_function("windowed_count_10k_keys", |b| {
        b.iter_batched_ref(window_aggregate, |harness| run(harness, &measured), BatchSize::LargeInput)
    });
    group.finish();
}
