//! Hash partition to 8 targets, five columns with one string. Budget: 25 ns a row.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use criterion::{Criterion, Throughput};
use hurtig_engine::Batch;
use hurtig_engine::exchange::scatter::Scatter;

const ROWS: usize = 8192;

fn rows() -> Batch {
    let n = 0..ROWS as i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(n.clone().map(|i| i.wrapping_mul(0x9E37_79B9)).collect::<Int64Array>())),
        ("a", Arc::new(n.clone().map(|i| i as i32).collect::<Int32Array>())),
        ("b", Arc::new(n.clone().map(|i| i as f64).collect::<Float64Array>())),
        ("c", Arc::new(n.clone().collect::<Int64Array>())),
        ("s", Arc::new(n.map(|i| Some(format!("channel-{}", i % 100))).collect::<StringArray>())),
    ];
    Batch::inserts(RecordBatch::try_from_iter(columns).expect("the columns have equal lengths"))
}

pub fn hash_partition(c: &mut Criterion) {
    let batch = rows();
    let mut scatter = Scatter::new(vec![0], 8, 128);
    let mut group = c.benchmark_group("hash_partition");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("8_targets_5_columns", |b| {
        b.iter(|| {
            scatter
                .scatter(&batch, |target, rows| {
                    black_box((target, rows));
                    Ok(())
                })
                .expect("the key column exists")
        })
    });
    group.finish();
}
