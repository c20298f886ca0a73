//! Tests of the watermark assigner.

use hurtig_graph::{DataType, Expr, Literal};

use super::*;
use crate::operators::testing::{Emitted, Harness, HarnessConfig, batch, rows_of, schema};

/// Watermark = ts - `delay_ms`.
fn assigner(delay_ms: i64, idle_timeout_ms: u64) -> (Harness, RowSchema) {
    let input = schema(&["id INT", "ts TIMESTAMP(3) ROWTIME"]).unwrap();
    let config = HarnessConfig::fresh(vec![input.clone()]);
    (open(&input, delay_ms, idle_timeout_ms, false, config), input)
}

fn open(input: &RowSchema, delay_ms: i64, idle_timeout_ms: u64, every_advance: bool, config: HarnessConfig) -> Harness {
    let delay = Expr::literal(Literal::Int(delay_ms), DataType::parse("INTERVAL DAY TO SECOND(3) NOT NULL").unwrap());
    let ty = DataType::parse("TIMESTAMP(3)").unwrap();
    let expr = Expr::call("-", vec![Expr::column_of(input, 1), delay], ty);
    let description = v1::WatermarkAssigner {
        rowtime_column: 1,
        expr: Some(expr.to_proto()),
        idle_timeout_ms,
        every_advance,
        ..Default::default()
    };
    let operator = WatermarkAssigner::new(&description, input, &BuildContext::default()).unwrap();
    Harness::open(Box::new(operator), config).unwrap()
}

/// Rows by their id, watermarks as `w5`.
fn short(emitted: Vec<Emitted>) -> Vec<String> {
    let mut all = Vec::new();
    for element in emitted {
        match element {
            Emitted::Batch(batch) => {
                let ids = rows_of(&batch);
                all.push(ids.iter().map(|r| r[3..r.find(',').unwrap()].to_owned()).collect::<Vec<_>>().join(" "));
            }
            Emitted::Watermark(w) => all.push(format!("w{w}")),
            Emitted::Idle(idle) => all.push(format!("idle {idle}")),
        }
    }
    all
}

#[test]
fn a_batch_is_cut_only_before_a_row_that_is_late() {
    let (mut harness, input) = assigner(1000, 0);
    let rows = ["1, 1000", "2, 5000", "3, 4500", "4, 4000", "5, 3000", "6, 9000"];
    harness.process(batch(&input, &rows).unwrap()).unwrap();
    // Row 4 is at the watermark of row 2; row 5 is late too, but the watermark is out by then.
    assert_eq!(short(harness.take()), ["1 2 3", "w4000", "4 5 6", "w8000"]);
}

#[test]
fn a_batch_is_cut_at_every_advance_where_the_watermark_is_read() {
    let input = schema(&["id INT", "ts TIMESTAMP(3) ROWTIME"]).unwrap();
    let mut harness = open(&input, 1000, 0, true, HarnessConfig::fresh(vec![input.clone()]));
    let rows = ["1, 1000", "2, 5000", "3, 4500", "4, 9000"];
    harness.process(batch(&input, &rows).unwrap()).unwrap();
    assert_eq!(short(harness.take()), ["1", "w0", "2", "w4000", "3 4", "w8000"]);
}

#[test]
fn small_steps_wait_for_the_timer() {
    let (mut harness, input) = assigner(0, 0);
    harness.process(batch(&input, &["1, 1000", "2, 1200", "3, 1100"]).unwrap()).unwrap();
    // 1200 is not more than 200 ms above 1000, so row 3 is above the watermark that is due.
    assert_eq!(short(harness.take()), ["1 2 3", "w1000"]);
    harness.advance_clock(200).unwrap();
    assert_eq!(short(harness.take()), ["w1200"]);
    harness.advance_clock(200).unwrap();
    assert!(harness.take().is_empty());
}

#[test]
fn an_equal_rowtime_is_late_when_there_is_no_delay() {
    let (mut harness, input) = assigner(0, 0);
    harness.process(batch(&input, &["1, 1000", "2, 1000", "3, 2000"]).unwrap()).unwrap();
    assert_eq!(short(harness.take()), ["1", "w1000", "2 3", "w2000"]);
}

#[test]
fn replays_stay_in_full_batches() {
    let (mut harness, input) = assigner(0, 0);
    let (mut sent, minute) = (0_i64, 60_000);
    for _ in 0..20 {
        let ids = Arc::new(arrow::array::Int32Array::from(vec![0; 8192]));
        let times = arrow::array::TimestampMillisecondArray::from_iter_values((sent..sent + 8192).map(|i| i * minute));
        sent += 8192;
        let records = super::super::record_batch(&input.to_arrow(), vec![ids, Arc::new(times)], 8192).unwrap();
        harness.process(Batch::inserts(records)).unwrap();
    }
    let batches = harness.take_batches();
    let rows: usize = batches.iter().map(Batch::num_rows).sum();
    assert!(rows / batches.len() > 4000, "{} rows in {} batches", rows, batches.len());
}

#[test]
fn only_the_end_of_time_passes_from_upstream() {
    let (mut harness, input) = assigner(0, 0);
    harness.process(batch(&input, &["1, 1000"]).unwrap()).unwrap();
    harness.watermark(5000).unwrap();
    harness.watermark(MAX_WATERMARK).unwrap();
    harness.watermark(MAX_WATERMARK).unwrap();
    assert_eq!(short(harness.take()), ["1", "w1000", &format!("w{MAX_WATERMARK}")]);
}

#[test]
fn a_null_rowtime_fails_and_names_the_column() {
    let (mut harness, input) = assigner(0, 0);
    let error = harness.process(batch(&input, &["1, null"]).unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("the rowtime column 'ts' is NULL"), "{error}");
}

#[test]
fn silence_makes_idle_and_a_row_active() {
    let (mut harness, input) = assigner(0, 1000);
    harness.process(batch(&input, &["1, 0"]).unwrap()).unwrap();
    harness.advance_clock(1000).unwrap();
    assert_eq!(short(harness.take()), ["1", "w0"]);
    harness.advance_clock(1).unwrap();
    assert_eq!(short(harness.take()), ["idle true"]);
    harness.process(batch(&input, &["2, 1000"]).unwrap()).unwrap();
    assert_eq!(short(harness.take()), ["idle false", "2", "w1000"]);
}

#[test]
fn rows_late_before_a_restore_are_late_after_it() {
    let (mut harness, input) = assigner(0, 0);
    harness.process(batch(&input, &["1, 5000", "2, 5100"]).unwrap()).unwrap();
    let snapshot = harness.snapshot(1).unwrap();
    let mut config = HarnessConfig::fresh(vec![input.clone()]);
    config.restored.lists = snapshot.lists;
    config.restored.watermark_ms = snapshot.watermark_ms;
    let mut harness = open(&input, 0, 0, false, config);
    harness.process(batch(&input, &["3, 5050", "4, 4000"]).unwrap()).unwrap();
    assert_eq!(short(harness.take()), ["3", "w5000", "4"]);
}
