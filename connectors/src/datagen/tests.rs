//! What datagen's options mean.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use hurtig_engine::clock::{Clock, VirtualClock};
use hurtig_engine::operator::RestoredState;
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::{SourceReader, SourceStatus};

use super::DatagenConnector;
use crate::connector::SourceConnector;
use crate::testing::{Collected, ContextOptions, context, options, restored, schema};

const NOW: i64 = 1_700_000_000_000;

fn spec(columns: &str, more: &[(&str, &str)]) -> SourceSpec {
    let mut pairs = vec![("connector", "datagen"), ("rows-per-second", "1000000")];
    pairs.extend(more.iter().filter(|(k, _)| *k != "rows-per-second"));
    let mut all = options(&pairs);
    all.extend(options(more));
    SourceSpec { options: all, schema: schema(columns), projection: None }
}

fn open(spec: &SourceSpec, context_options: ContextOptions) -> Box<dyn SourceReader> {
    let mut reader = DatagenConnector.reader(spec).unwrap();
    reader.open(context(context_options).0).unwrap();
    reader
}

/// Polls while the clock moves as the reader asks, for `polls` polls at most.
fn run(reader: &mut dyn SourceReader, clock: &VirtualClock, polls: usize, out: &mut Collected) -> SourceStatus {
    for _ in 0..polls {
        match reader.poll(out).unwrap() {
            SourceStatus::Pending { until_ms } => clock.advance(until_ms.unwrap() - clock.now_ms()),
            SourceStatus::Finished => return SourceStatus::Finished,
            SourceStatus::Ready => {}
        }
    }
    SourceStatus::Ready
}

fn rows(spec: &SourceSpec, subtask: u32, parallelism: u32) -> Collected {
    let clock = VirtualClock::at(NOW);
    let mut out = Collected::default();
    let options = ContextOptions { subtask, parallelism, clock: clock.clone(), ..ContextOptions::default() };
    assert_eq!(run(open(spec, options).as_mut(), &clock, 100_000, &mut out), SourceStatus::Finished);
    out
}

fn sequence(end: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![("fields.id.kind", "sequence"), ("fields.id.start", "1"), ("fields.id.end", end)]
}

fn ids(out: &Collected) -> Vec<i64> {
    out.batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn a_sequence_ends_and_is_shared_out() {
    let spec = spec("id BIGINT, name STRING", &sequence("5000"));
    let info = DatagenConnector.info(&spec.options, &spec.schema).unwrap();
    assert!(info.bounded);
    assert!(ids(&rows(&spec, 0, 1)).into_iter().eq(1..=5000));
    let mut shared: Vec<i64> = (0..3).flat_map(|s| ids(&rows(&spec, s, 3))).collect();
    shared.sort_unstable();
    assert!(shared.into_iter().eq(1..=5000));
}

#[test]
fn the_shortest_sequence_or_the_number_of_rows_ends_the_table() {
    let mut more = sequence("100");
    more.push(("number-of-rows", "7"));
    assert_eq!(ids(&rows(&spec("id BIGINT", &more), 0, 1)).len(), 7);
    let unbounded = spec("id BIGINT", &[]);
    assert!(!DatagenConnector.info(&unbounded.options, &unbounded.schema).unwrap().bounded);
}

#[test]
fn a_restart_goes_on_with_the_same_rows() {
    let spec = spec("id BIGINT, x DOUBLE, s STRING", &sequence("3000"));
    let clock = VirtualClock::at(NOW);
    let options =
        |restored: RestoredState| ContextOptions { clock: clock.clone(), restored, ..ContextOptions::default() };
    let mut reader = open(&spec, options(RestoredState::default()));
    let mut before = Collected::default();
    run(reader.as_mut(), &clock, 3, &mut before);
    assert!(!before.batches.is_empty());
    let state = restored(1, vec![reader.snapshot(1).unwrap()]);
    let mut lost = Collected::default();
    run(reader.as_mut(), &clock, 100_000, &mut lost);
    let mut after = Collected::default();
    run(open(&spec, options(state)).as_mut(), &clock, 100_000, &mut after);
    assert!(after.rows(&spec.schema) == lost.rows(&spec.schema));
    let mut all = ids(&before);
    all.extend(ids(&after));
    assert!(all.into_iter().eq(1..=3000));
}

#[test]
fn rows_come_at_the_rate() {
    let spec = spec("id BIGINT", &[("rows-per-second", "1000")]);
    let clock = VirtualClock::at(NOW);
    let options = ContextOptions { clock: clock.clone(), parallelism: 2, ..ContextOptions::default() };
    let mut out = Collected::default();
    let mut reader = open(&spec, options);
    while clock.now_ms() < NOW + 2000 {
        run(reader.as_mut(), &clock, 1, &mut out);
    }
    let rows: usize = out.batches.iter().map(|b| b.num_rows()).sum();
    assert!((990..=1010).contains(&rows), "{rows}");
}

#[test]
fn random_values_keep_to_their_options() {
    let columns = "i INT, t TIMESTAMP(3), s STRING, d DECIMAL(6, 2), n INT, v STRING, f FLOAT, b BIGINT";
    let spec = spec(
        columns,
        &[
            ("number-of-rows", "5000"),
            ("fields.i.min", "-3"),
            ("fields.i.max", "3"),
            ("fields.t.max-past", "10 s"),
            ("fields.s.length", "5"),
            ("fields.d.min", "1.5"),
            ("fields.d.max", "2"),
            ("fields.n.null-rate", "0.5"),
            ("fields.v.length", "10"),
            ("fields.v.var-len", "true"),
            ("fields.f.min", "0"),
            ("fields.f.max", "1"),
        ],
    );
    let out = rows(&spec, 0, 1);
    let (mut seen, mut nulls, mut lengths) = ([0; 7], 0, [0; 11]);
    for batch in &out.batches {
        for row in 0..batch.num_rows() {
            seen[(batch.column(0).as_primitive::<Int32Type>().value(row) + 3) as usize] += 1;
            let t = batch.column(1).as_primitive::<TimestampMillisecondType>().value(row);
            assert!((NOW - 10_000..NOW + 1000).contains(&t));
            let s = batch.column(2).as_string::<i32>().value(row);
            assert!(s.len() == 5 && s.bytes().all(|b| b.is_ascii_hexdigit()), "{s}");
            let d = batch.column(3).as_primitive::<arrow::datatypes::Decimal128Type>().value(row);
            assert!((150..=200).contains(&d));
            nulls += usize::from(batch.column(4).is_null(row));
            lengths[batch.column(5).as_string::<i32>().value(row).len()] += 1;
            let f = batch.column(6).as_primitive::<arrow::datatypes::Float32Type>().value(row);
            assert!((0.0..=1.0).contains(&f));
        }
    }
    assert!(seen.iter().all(|n| *n > 500), "{seen:?}");
    assert!((2200..2800).contains(&nulls), "{nulls}");
    assert!(lengths[0] == 0 && lengths[1..].iter().all(|n| *n > 300), "{lengths:?}");
}

#[test]
fn all_types_are_made() {
    let columns = "a BOOLEAN, b TINYINT, c SMALLINT, d BYTES, e DATE, f TIME(0), g TIMESTAMP_LTZ(6), h DOUBLE, \
        i ARRAY<INT>, j MAP<STRING, BIGINT>, k ROW<x INT, y ARRAY<STRING>>, l MULTISET<STRING>, m CHAR(3), \
        n TIMESTAMP(9), o DECIMAL(38, 18), p INTERVAL YEAR TO MONTH, q INTERVAL DAY TO SECOND";
    let options = [
        ("number-of-rows", "100"),
        ("fields.k.x.min", "7"),
        ("fields.k.x.max", "7"),
        ("fields.i.element.null-rate", "1"),
    ];
    let spec = spec(columns, &options);
    let out = rows(&spec, 0, 1);
    let first = &out.rows(&spec.schema)[0];
    assert!(first.contains("[null,null,null]") && first.contains("[7,["), "{first}");
    assert_eq!(out.batches.iter().map(|b| b.num_rows()).sum::<usize>(), 100);
}

#[test]
fn two_jobs_have_different_rows() {
    let spec = spec("s STRING", &[("number-of-rows", "10")]);
    let all = |out: Collected| out.rows(&spec.schema);
    assert_ne!(all(rows(&spec, 0, 1)), all(rows(&spec, 0, 1)));
}

#[test]
fn wrong_options_name_the_key() {
    let refused = |columns: &str, pairs: &[(&str, &str)]| {
        let spec = spec(columns, pairs);
        DatagenConnector.info(&spec.options, &spec.schema).unwrap_err().message
    };
    assert!(
        refused("id BIGINT", &[("fields.id.kind", "sequence"), ("fields.id.start", "1")]).contains("fields.id.end")
    );
    assert!(refused("id BIGINT", &[("fields.ide.min", "1")]).contains("fields.ide.min"));
    assert!(refused("id BIGINT", &[("fields.id.min", "x")]).contains("fields.id.min: 'x'"));
    assert!(refused("id TINYINT", &[("fields.id.max", "300")]).contains("TINYINT"));
    assert!(refused("id BIGINT", &[("fields.id.kind", "odd")]).contains("random, sequence"));
    assert!(refused("id BIGINT", &[("rows-per-second", "0")]).contains("rows-per-second"));
    assert!(refused("t TIMESTAMP(3)", &[("fields.t.max-past", "long")]).contains("fields.t.max-past"));
}
