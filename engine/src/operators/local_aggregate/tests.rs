//! Tests of when a local phase flushes. What its results add up to is tested with the operators
//! behind it.

use super::*;
use crate::operators::testing::{Emitted, Harness, HarnessConfig, batch, schema};

fn open() -> (Harness, RowSchema) {
    let input = schema(&["k INT", "v INT"]).unwrap();
    let call = |function: &str, arguments: &[u32]| v1::AggregateCall {
        function: function.into(),
        arguments: arguments.to_vec(),
        name: function.into(),
        ..Default::default()
    };
    let description = v1::GroupAggregate {
        keys: vec![0],
        aggregates: vec![call("SUM", &[1]), call("MAX", &[1])],
        phase: v1::AggregatePhase::Local as i32,
        ..Default::default()
    };
    let operator = Box::new(LocalAggregate::grouped(&description, &input).unwrap());
    (Harness::open(operator, HarnessConfig::fresh(vec![input.clone()])).unwrap(), input)
}

#[test]
fn rows_of_several_batches_leave_as_one_before_the_watermark() {
    let (mut harness, input) = open();
    harness.process(batch(&input, &["1, 10", "2, null"]).unwrap()).unwrap();
    harness.process(batch(&input, &["1, 5"]).unwrap()).unwrap();
    assert!(harness.take().is_empty());
    harness.watermark(7).unwrap();
    let emitted = harness.take();
    let [Emitted::Batch(rows), Emitted::Watermark(7)] = emitted.as_slice() else { panic!("{emitted:?}") };
    assert_eq!(crate::operators::testing::rows_of(rows), ["+I(1, 15, 2, 10)", "+I(2, 0, 0, null)"]);
}

#[test]
fn nothing_is_kept_across_a_barrier_or_the_linger_time() {
    let (mut harness, input) = open();
    harness.process(batch(&input, &["1, 10"]).unwrap()).unwrap();
    harness.snapshot(1).unwrap();
    assert_eq!(harness.take_rows(), ["+I(1, 10, 1, 10)"]);
    harness.process(batch(&input, &["1, 1"]).unwrap()).unwrap();
    harness.advance_clock(LINGER_MS).unwrap();
    assert_eq!(harness.take_rows(), ["+I(1, 1, 1, 1)"]);
    harness.process(batch(&input, &["1, 2"]).unwrap()).unwrap();
    harness.finish().unwrap();
    assert_eq!(harness.take_rows(), ["+I(1, 2, 1, 2)"]);
}

#[test]
fn rows_leave_before_the_input_is_idle() {
    let (mut harness, input) = open();
    harness.process(batch(&input, &["1, 10"]).unwrap()).unwrap();
    let mut recorder = crate::operators::testing::Recorder::default();
    harness.operator.idle(true, &mut recorder).unwrap();
    let emitted = recorder.emitted;
    assert!(matches!(emitted.as_slice(), [Emitted::Batch(_), Emitted::Idle(true)]), "{emitted:?}");
}

#[test]
fn many_keys_are_flushed_without_waiting() {
    let (mut harness, input) = open();
    for part in 0..5 {
        let rows: Vec<String> = (0..8000).map(|i| format!("{}, 1", part * 8000 + i)).collect();
        harness.process(batch(&input, &rows).unwrap()).unwrap();
    }
    assert_eq!(harness.take_rows().len(), 40_000);
}
