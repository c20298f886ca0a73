//! A dataflow in a program of your own: an own source of temperatures, an own function, windows for
//! each sensor, and the rows both in an own sink and as record batches. Run it with
//! `cargo run --manifest-path examples/embed/Cargo.toml`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hurtig::EmbeddedCluster;
use hurtig::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use hurtig::arrow::datatypes::{Float64Type, Int64Type};
use hurtig::dataflow::{Aggregate, Dataflow, Table};
use hurtig::extensions::{FnSink, FnSource};

/// An hour of measurements, one a second from two sensors in turn.
fn measurements() -> Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>> {
    let seconds = 0..3_600_i64;
    let sensor: StringArray = seconds.clone().map(|s| Some(if s % 2 == 0 { "roof" } else { "cellar" })).collect();
    let fahrenheit: Float64Array = seconds.clone().map(|s| Some(50.0 + (s / 600) as f64)).collect();
    let at: TimestampMillisecondArray = seconds.map(|s| Some(s * 1_000)).collect();
    let columns: [(&str, ArrayRef); 3] =
        [("sensor", Arc::new(sensor)), ("fahrenheit", Arc::new(fahrenheit)), ("at", Arc::new(at))];
    Ok(RecordBatch::try_from_iter(columns)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let cluster = EmbeddedCluster::builder()
        .slots(2)
        .source("sensors", FnSource::of_batches(vec![measurements()?]))
        .sink(
            "counter",
            FnSink::new(move |batch| {
                counter.fetch_add(batch.num_rows(), Ordering::Relaxed);
                Ok(())
            }),
        )
        .function("celsius", &["DOUBLE"], "DOUBLE", |arguments| {
            let fahrenheit = arguments[0].as_primitive::<Float64Type>();
            Ok(Arc::new(fahrenheit.unary::<_, Float64Type>(|f| (f - 32.0) / 1.8)))
        })
        .start()
        .await?;

    let table =
        Table::new("sensors").column("sensor", "STRING").column("fahrenheit", "DOUBLE").column("at", "TIMESTAMP(3)");
    let flow = Dataflow::new("mean temperature").parallelism(2);
    let windows = flow
        .source(table)
        .filter("celsius(fahrenheit) > 10.0")
        .map([("sensor", "sensor"), ("celsius", "celsius(fahrenheit)"), ("at", "`at`")])
        .watermark("at", "`at` - INTERVAL '5' SECOND")
        .key_by(["sensor"])
        .tumble("at", Duration::from_secs(20 * 60))
        .aggregate([Aggregate::count().named("n"), Aggregate::avg("celsius").named("mean")]);
    windows.sink(Table::new("counter"));
    windows.collect();

    let job = cluster.execute(&flow).await?;
    let rows: Vec<RecordBatch> =
        job.results().await?.collect().await?.iter().map(|batch| batch.records().clone()).collect();
    for batch in &rows {
        let (sensor, n) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        let mean = batch.column(2).as_primitive::<Float64Type>();
        (0..batch.num_rows()).for_each(|i| println!("{} n={} mean={:.2}", sensor.value(i), n.value(i), mean.value(i)));
    }
    let state = job.wait().await?.state;
    let collected: usize = rows.iter().map(RecordBatch::num_rows).sum();
    println!("job {state}: {collected} rows collected, {} written to the sink", written.load(Ordering::Relaxed));
    assert_eq!((collected, written.load(Ordering::Relaxed)), (6, 6));
    Ok(())
}
