//! Tests of window table functions.

use super::*;
use crate::operators::testing::{Harness, HarnessConfig, batch, schema};

fn open(spec: v1::WindowSpec, input: &RowSchema) -> Harness {
    let function = v1::WindowTableFunction { window: Some(spec) };
    let operator = Box::new(WindowTableFunction::new(&function, input).unwrap());
    Harness::open(operator, HarnessConfig::fresh(vec![input.clone()])).unwrap()
}

#[test]
fn hop_repeats_a_row_for_each_window_latest_first_and_keeps_kinds() {
    let input = schema(&["id INT", "ts TIMESTAMP(3) ROWTIME"]).unwrap();
    let spec = v1::WindowSpec {
        kind: v1::WindowKind::Hop as i32,
        time_column: 1,
        size_ms: 10_000,
        slide_ms: 5_000,
        ..Default::default()
    };
    let mut harness = open(spec, &input);
    harness.process(batch(&input, &["+I(1, 7000)", "-D(2, -1)"]).unwrap()).unwrap();
    let row = |kind: &str, id: u32, ts: &str, start: &str, end: &str, time: &str| {
        format!("{kind}({id}, {ts}, {start}, {end}, {time})")
    };
    let (at7, before) = ("1970-01-01T00:00:07", "1969-12-31T23:59:59.999");
    assert_eq!(
        harness.take_rows(),
        [
            row("+I", 1, at7, "1970-01-01T00:00:05", "1970-01-01T00:00:15", "1970-01-01T00:00:14.999"),
            row("+I", 1, at7, "1970-01-01T00:00:00", "1970-01-01T00:00:10", "1970-01-01T00:00:09.999"),
            row("-D", 2, before, "1969-12-31T23:59:55", "1970-01-01T00:00:05", "1970-01-01T00:00:04.999"),
            row("-D", 2, before, "1969-12-31T23:59:50", "1970-01-01T00:00:00", before),
        ]
    );
}

#[test]
fn many_windows_a_row_come_in_batches_of_bounded_size() {
    let input = schema(&["ts TIMESTAMP(3) ROWTIME"]).unwrap();
    let spec =
        v1::WindowSpec { kind: v1::WindowKind::Hop as i32, size_ms: 100_000, slide_ms: 1_000, ..Default::default() };
    let mut harness = open(spec, &input);
    let rows: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    harness.process(batch(&input, &rows).unwrap()).unwrap();
    let batches = harness.take_batches();
    assert_eq!(batches.iter().map(Batch::num_rows).sum::<usize>(), 100_000);
    assert!(batches.iter().all(|b| b.num_rows() < 2 * TARGET_ROWS));
}

#[test]
fn local_time_windows_have_local_bounds_and_an_instant_as_window_time() {
    let input = schema(&["ts TIMESTAMP_LTZ(3) ROWTIME"]).unwrap();
    let day = 86_400_000;
    let spec = v1::WindowSpec {
        kind: v1::WindowKind::Tumble as i32,
        size_ms: day,
        time_zone: "Asia/Shanghai".into(),
        ..Default::default()
    };
    let mut harness = open(spec, &input);
    // 20:00 UTC is 04:00 of the next day in Shanghai.
    harness.process(batch(&input, &["72000000"]).unwrap()).unwrap();
    assert_eq!(
        harness.take_rows(),
        ["+I(1970-01-01T20:00:00Z, 1970-01-02T00:00:00, 1970-01-03T00:00:00, 1970-01-02T15:59:59.999Z)"]
    );
}
