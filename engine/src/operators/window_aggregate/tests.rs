//! Tests of window aggregation: Flink's verified vectors, and random rows, watermarks, batch cuts and
//! restores against a row-at-a-time oracle.

use std::collections::BTreeMap;

use super::*;
use crate::operators::local_aggregate::LocalAggregate;
use crate::operators::state_fixture::{Random, StateFixture, rows_of_key_groups};
use crate::operators::testing::{Emitted, Harness, HarnessConfig, batch, rows_of, schema};

fn call(function: &str, arguments: &[u32]) -> v1::AggregateCall {
    v1::AggregateCall {
        function: function.into(),
        arguments: arguments.to_vec(),
        name: format!("{function}{arguments:?}"),
        ..Default::default()
    }
}

fn spec(kind: v1::WindowKind, size_ms: i64, slide_ms: i64, offset_ms: i64) -> v1::WindowSpec {
    v1::WindowSpec { kind: kind as i32, time_column: 2, size_ms, slide_ms, offset_ms, ..Default::default() }
}

fn aggregate(window: v1::WindowSpec, keys: &[u32], calls: Vec<v1::AggregateCall>) -> v1::WindowAggregate {
    v1::WindowAggregate { window: Some(window), keys: keys.to_vec(), aggregates: calls, ..Default::default() }
}

fn input() -> RowSchema {
    schema(&["k STRING", "v INT", "ts TIMESTAMP(3) ROWTIME"]).unwrap()
}

fn open(description: &v1::WindowAggregate) -> Harness {
    let operator = Box::new(WindowAggregate::new(description, &input()).unwrap());
    Harness::open(operator, HarnessConfig::fresh(vec![input()])).unwrap()
}

/// `a, 1, ...` with window end in seconds, of rows with key, aggregates, window_start, end, time.
fn short(rows: &[String]) -> Vec<String> {
    rows.iter()
        .map(|row| {
            let cells: Vec<&str> = row[3..row.len() - 1].split(", ").collect();
            let n = cells.len();
            let second = |text: &str| text.rsplit_once(':').unwrap().1.to_owned();
            format!("{} {}-{}", cells[..n - 3].join(","), second(cells[n - 3]), second(cells[n - 2]))
        })
        .collect()
}

/// Runs `k, v, second` row by row, each followed by the watermark `second - delay`.
fn run(description: &v1::WindowAggregate, delay: i64) -> (Vec<String>, u64) {
    let rows = [
        ("a", "10", 1),
        ("b", "20", 2),
        ("a", "30", 12),
        ("a", "5", 3),
        ("b", "7", 25),
        ("a", "10", 13),
        ("c", "null", 26),
    ];
    let mut harness = open(description);
    let mut highest = i64::MIN;
    for (k, v, second) in rows {
        harness.process(batch(&input(), &[format!("{k}, {v}, {}", second * 1000)]).unwrap()).unwrap();
        if second > highest {
            highest = second;
            harness.watermark((second - delay) * 1000).unwrap();
        }
    }
    harness.finish().unwrap();
    let late = harness.counters.late_records_dropped.load(Ordering::Relaxed);
    (short(&harness.take_rows()), late)
}

#[test]
fn tumble_gives_flinks_rows_and_drops_flinks_late_rows() {
    let description =
        aggregate(spec(v1::WindowKind::Tumble, 10_000, 0, 0), &[0], vec![call("COUNT", &[]), call("SUM", &[1])]);
    assert_eq!(
        run(&description, 0),
        (
            vec![
                "a,1,10 00-10".to_owned(),
                "b,1,20 00-10".into(),
                "a,1,30 10-20".into(),
                "b,1,7 20-30".into(),
                "c,1,null 20-30".into()
            ],
            2
        )
    );
    let (rows, late) = run(&description, 10);
    assert_eq!(
        (rows.iter().map(String::as_str).collect::<Vec<_>>(), late),
        (vec!["a,2,15 00-10", "b,1,20 00-10", "a,2,40 10-20", "b,1,7 20-30", "c,1,null 20-30"], 0)
    );
}

#[test]
fn hop_and_cumulate_give_flinks_counts() {
    let hop = aggregate(spec(v1::WindowKind::Hop, 10_000, 5_000, 0), &[], vec![call("COUNT", &[])]);
    assert_eq!(run(&hop, 10).0, ["3 55-05", "3 00-10", "1 05-15", "2 10-20", "2 20-30", "2 25-35"]);
    assert_eq!(run(&hop, 0).0, ["2 55-05", "2 00-10", "1 05-15", "1 10-20", "2 20-30", "2 25-35"]);
    let cumulate = aggregate(spec(v1::WindowKind::Cumulate, 10_000, 5_000, 0), &[], vec![call("COUNT", &[])]);
    assert_eq!(run(&cumulate, 10).0, ["3 00-05", "3 00-10", "1 10-15", "2 10-20", "2 20-30"]);
}

#[test]
fn the_watermark_follows_the_rows_it_fires() {
    let mut harness = open(&aggregate(spec(v1::WindowKind::Tumble, 10, 0, 0), &[0], vec![call("COUNT", &[])]));
    harness.process(batch(&input(), &["a, 1, 5"]).unwrap()).unwrap();
    harness.watermark(8).unwrap();
    assert!(matches!(harness.take().as_slice(), [Emitted::Watermark(8)]));
    harness.watermark(9).unwrap();
    assert!(matches!(harness.take().as_slice(), [Emitted::Batch(_), Emitted::Watermark(9)]));
}

#[test]
fn a_window_with_many_keys_comes_in_several_calls() {
    let description = aggregate(spec(v1::WindowKind::Tumble, 10, 0, 0), &[1], vec![call("COUNT", &[])]);
    let mut operator = WindowAggregate::new(&description, &input()).unwrap();
    operator.window.time_column = 2;
    let mut harness = Harness::open(Box::new(operator), HarnessConfig::fresh(vec![input()])).unwrap();
    for part in 0..13 {
        let rows: Vec<String> = (0..8000).map(|i| format!("a, {}, 1", part * 8000 + i)).collect();
        harness.process(batch(&input(), &rows).unwrap()).unwrap();
    }
    let mut recorder = crate::operators::testing::Recorder::default();
    let mut calls = 1;
    let mut flow = harness.operator.watermark(100, &mut recorder).unwrap();
    while flow == Flow::More {
        calls += 1;
        flow = harness.operator.resume(&mut recorder).unwrap();
    }
    let batches: Vec<usize> = recorder
        .emitted
        .iter()
        .filter_map(|e| if let Emitted::Batch(b) = e { Some(b.num_rows()) } else { None })
        .collect();
    assert_eq!(batches.iter().sum::<usize>(), 104_000);
    assert!(calls >= 3 && batches.iter().all(|b| *b <= TARGET_ROWS), "{calls} calls");
    assert!(matches!(recorder.emitted.last(), Some(Emitted::Watermark(100))));
}

#[test]
fn a_window_whose_rows_are_all_taken_back_emits_nothing() {
    let description = v1::WindowAggregate {
        input_retracts: true,
        ..aggregate(spec(v1::WindowKind::Tumble, 10, 0, 0), &[0], vec![call("MAX", &[1])])
    };
    let mut harness = open(&description);
    harness.process(batch(&input(), &["+I(a, 1, 5)", "+I(b, 1, 5)", "+I(b, 7, 6)"]).unwrap()).unwrap();
    harness.process(batch(&input(), &["-D(a, 1, 5)", "-D(b, 7, 6)"]).unwrap()).unwrap();
    harness.finish().unwrap();
    let rows = harness.take_rows();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].starts_with("+I(b, 1, "), "{rows:?}");
}

#[test]
fn a_null_time_fails() {
    let mut harness = open(&aggregate(spec(v1::WindowKind::Tumble, 10, 0, 0), &[0], vec![call("COUNT", &[])]));
    let error = harness.process(batch(&input(), &["a, 1, null"]).unwrap()).unwrap_err();
    assert!(error.to_string().contains("time column of a window is NULL"), "{error}");
}

#[test]
fn definitions_that_flink_refuses_are_refused() {
    for (window, part) in [
        (spec(v1::WindowKind::Hop, 10, 3, 0), "multiple"),
        (spec(v1::WindowKind::Tumble, 0, 0, 0), "positive"),
        (v1::WindowSpec { time_column: 1, ..spec(v1::WindowKind::Tumble, 10, 0, 0) }, "must be TIMESTAMP"),
        (v1::WindowSpec { time_column: 9, ..spec(v1::WindowKind::Tumble, 10, 0, 0) }, "does not exist"),
    ] {
        let error = WindowAggregate::new(&aggregate(window, &[0], vec![]), &input()).err().unwrap();
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// A row-at-a-time interpreter: the rows of each open window and key.
struct Oracle {
    window: Window,
    watermark: i64,
    rows: BTreeMap<(i64, String), Vec<i64>>,
    late: u64,
}

impl Oracle {
    fn row(&mut self, sign: i64, key: &str, value: i64, time: i64) {
        let mut ends = Vec::new();
        self.window.for_each_window(time, |_, end| ends.push(end));
        ends.retain(|end| end - 1 > self.watermark);
        self.late += u64::from(ends.is_empty());
        for end in ends {
            let rows = self.rows.entry((end, key.to_owned())).or_default();
            if sign > 0 {
                rows.push(value);
            } else {
                let at = rows.iter().position(|v| *v == value).unwrap();
                rows.remove(at);
            }
        }
    }

    fn watermark(&mut self, watermark: i64) -> Vec<String> {
        self.watermark = watermark;
        let mut fired = Vec::new();
        while let Some(entry) = self.rows.first_entry().filter(|e| e.key().0 - 1 <= watermark) {
            let ((end, key), values) = entry.remove_entry();
            if !values.is_empty() {
                let mut distinct = values.clone();
                distinct.sort_unstable();
                distinct.dedup();
                let (sum, max) = (values.iter().sum::<i64>(), values.iter().max().unwrap());
                fired.push(format!("{end} {key} {} {sum} {max} {}", values.len(), distinct.len()));
            }
        }
        fired
    }
}

/// As the oracle writes them, keys sorted within a window; the windows' order is checked.
fn fired(batches: &[Batch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        let ends = int_values(batch.column(6)).unwrap().0;
        for (row, end) in rows_of(batch).iter().zip(ends.iter()) {
            let cells: Vec<&str> = row[3..row.len() - 1].split(", ").collect();
            rows.push((*end, cells[..5].join(" ")));
        }
    }
    assert!(rows.is_sorted_by_key(|(end, _)| *end), "windows fire in order");
    rows.sort();
    rows.into_iter().map(|(end, row)| format!("{end} {row}")).collect()
}

fn shapes() -> Vec<v1::WindowSpec> {
    vec![
        spec(v1::WindowKind::Tumble, 10, 0, 3),
        spec(v1::WindowKind::Hop, 12, 4, 0),
        spec(v1::WindowKind::Hop, 20, 5, -2),
        spec(v1::WindowKind::Cumulate, 15, 5, 0),
        spec(v1::WindowKind::Cumulate, 12, 3, 1),
    ]
}

fn oracle_calls() -> Vec<v1::AggregateCall> {
    vec![
        call("COUNT", &[]),
        call("SUM", &[1]),
        call("MAX", &[1]),
        v1::AggregateCall { distinct: true, ..call("COUNT", &[1]) },
    ]
}

/// Random rows around a growing time, some late.
struct Rows {
    random: Random,
    retracts: bool,
    time: i64,
    live: Vec<(String, i64, i64)>,
}

impl Rows {
    fn next_batch(&mut self, oracle: &mut Oracle) -> Vec<String> {
        let mut rows = Vec::new();
        for _ in 0..=self.random.below(15) {
            let back = self.retracts && !self.live.is_empty() && self.random.below(3) == 0;
            let (kind, (key, value, time)) = if back {
                ("-D", self.live.remove(self.random.below(self.live.len() as u64) as usize))
            } else {
                let key = format!("k{}", self.random.below(4));
                let row = (key, self.random.below(5) as i64, self.time + self.random.below(30) as i64 - 20);
                self.live.push(row.clone());
                ("+I", row)
            };
            oracle.row(if back { -1 } else { 1 }, &key, value, time);
            rows.push(format!("{kind}({key}, {value}, {time})"));
        }
        rows
    }

    /// Moves on; rows whose windows may have fired in part are not taken back.
    fn advance(&mut self) -> i64 {
        self.time += self.random.below(12) as i64;
        let watermark = self.time - 5;
        self.live.retain(|(_, _, time)| *time > watermark);
        watermark
    }
}

#[test]
fn random_rows_give_what_a_row_at_a_time_interpreter_gives() {
    compare_with_oracle(0..6, false, StateFixture::new);
}

#[test]
fn restores_change_nothing() {
    compare_with_oracle(6..8, true, StateFixture::new);
}

#[test]
fn windows_of_any_residence_give_the_same() {
    // Next to nothing stays in memory; some does.
    compare_with_oracle(8..10, true, || StateFixture::with_memory(1));
    compare_with_oracle(12..13, true, || StateFixture::with_memory(20_000));
    compare_with_oracle(13..14, true, || StateFixture::with_inline_state(1 << 20));
}

#[test]
fn a_window_of_ten_times_its_memory_fires_whole() {
    const BUDGET: usize = 128 << 10;
    const KEYS: i64 = 20_000;
    for window in [spec(v1::WindowKind::Tumble, 10, 0, 0), spec(v1::WindowKind::Hop, 20, 10, 0)] {
        let fixture = StateFixture::with_memory(BUDGET);
        let description = aggregate(window.clone(), &[0], vec![call("COUNT", &[]), call("SUM", &[1])]);
        let operator = || Box::new(WindowAggregate::new(&description, &input()).unwrap());
        let (mut harness, mut keyed) = fixture.open(operator(), &input(), None);
        let mut random = Random(5);
        let mut expected: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
        let (mut emitted, mut checkpoints) = (Vec::new(), 0);
        for step in 0..90_i64 {
            let mut rows = Vec::new();
            for _ in 0..1000 {
                // Around the time, so that several slices are open.
                let (key, value, time) =
                    (random.below(KEYS as u64) as i64, random.below(9) as i64, step + random.below(20) as i64);
                rows.push(format!("k{key}, {value}, {time}"));
                let entry = expected.entry((time - time % 10 + 10, key)).or_default();
                *entry = (entry.0 + 1, entry.1 + value);
            }
            harness.process(batch(&input(), &rows).unwrap()).unwrap();
            assert!(fixture.memory().used() <= BUDGET, "step {step}: {} bytes", fixture.memory().used());
            harness.watermark(step - 1).unwrap();
            emitted.extend(with_ends(&harness.take_batches()));
            if step % 11 == 10 {
                checkpoints += 1;
                let checkpoint = fixture.checkpoint(&mut harness, &keyed, checkpoints);
                if step % 3 == 0 {
                    drop((harness, keyed));
                    (harness, keyed) = fixture.open(operator(), &input(), Some(&checkpoint));
                }
            }
        }
        harness.finish().unwrap();
        emitted.extend(with_ends(&harness.take_batches()));
        let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
        for (&(slice, key), &(count, sum)) in &expected {
            let ends = if window.slide_ms == 10 { vec![slice, slice + 10] } else { vec![slice] };
            for end in ends {
                let entry = windows.entry((end, key)).or_default();
                *entry = (entry.0 + count, entry.1 + sum);
            }
        }
        let mut got: Vec<String> = emitted;
        let mut wanted: Vec<String> =
            windows.iter().map(|((end, key), (count, sum))| format!("{end} k{key}, {count}, {sum}")).collect();
        got.sort();
        wanted.sort();
        assert_eq!(got.len(), wanted.len());
        assert_eq!(got, wanted);
    }
}

/// Rows of `k, count, sum` and a window as `end key, count, sum`.
fn with_ends(batches: &[Batch]) -> Vec<String> {
    let of = |batch: &Batch| {
        let ends = int_values(batch.column(4)).unwrap().0;
        let rows = rows_of(batch);
        let texts = rows.iter().zip(ends.iter()).map(|(row, end)| {
            let cells: Vec<&str> = row[3..row.len() - 1].split(", ").collect();
            format!("{end} {}", cells[..3].join(", "))
        });
        texts.collect::<Vec<String>>()
    };
    batches.iter().flat_map(of).collect()
}

fn compare_with_oracle(seeds: std::ops::Range<u64>, restores: bool, fixture: impl Fn() -> StateFixture) {
    for (shape, window) in shapes().into_iter().enumerate() {
        for seed in seeds.clone() {
            let retracts = seed % 2 == 1;
            let description =
                v1::WindowAggregate { input_retracts: retracts, ..aggregate(window.clone(), &[0], oracle_calls()) };
            let operator = || Box::new(WindowAggregate::new(&description, &input()).unwrap());
            let mut oracle = Oracle {
                window: Window::from_spec(&window, &input(), true).unwrap(),
                watermark: i64::MIN,
                rows: BTreeMap::new(),
                late: 0,
            };
            let fixture = fixture();
            let (mut harness, mut keyed) = fixture.open(operator(), &input(), None);
            let mut rows = Rows { random: Random(seed), retracts, time: -40, live: Vec::new() };
            let mut late = 0;
            for step in 0..60 {
                let next = rows.next_batch(&mut oracle);
                harness.process(batch(&input(), &next).unwrap()).unwrap();
                let watermark = if step == 59 { i64::MAX } else { rows.advance() };
                if watermark > oracle.watermark {
                    harness.watermark(watermark).unwrap();
                    let expected = oracle.watermark(watermark);
                    assert_eq!(fired(&harness.take_batches()), expected, "shape {shape} seed {seed} step {step}");
                }
                if restores && rows.random.below(6) == 0 {
                    let checkpoint = fixture.checkpoint(&mut harness, &keyed, step + 1);
                    if rows.random.below(2) == 0 {
                        harness.watermark(watermark.saturating_add(7)).unwrap();
                        late += harness.counters.late_records_dropped.load(Ordering::Relaxed);
                        drop((harness, keyed));
                        (harness, keyed) = fixture.open(operator(), &input(), Some(&checkpoint));
                    }
                }
            }
            late += harness.counters.late_records_dropped.load(Ordering::Relaxed);
            assert_eq!(late, oracle.late, "shape {shape} seed {seed}");
        }
    }
}

#[test]
fn many_open_windows_survive_a_restore_and_a_change_of_parallelism() {
    // More slices than are listed at once.
    let fixture = StateFixture::new();
    let description = aggregate(spec(v1::WindowKind::Tumble, 10, 0, 0), &[0], vec![call("SUM", &[1])]);
    let operator = || Box::new(WindowAggregate::new(&description, &input()).unwrap());
    let (mut harness, keyed) = fixture.open(operator(), &input(), None);
    let rows = |value: i32| -> Vec<String> {
        (0..50 * 40).map(|i| format!("key {}, {value}, {}", i % 50, i / 50 * 10)).collect()
    };
    harness.process(batch(&input(), &rows(1)).unwrap()).unwrap();
    let checkpoint = fixture.checkpoint(&mut harness, &keyed, 1);
    // Every second window gets rows after the restore too.
    let again = batch(&input(), &rows(2).iter().step_by(2).cloned().collect::<Vec<_>>()).unwrap();
    let mut sums = Vec::new();
    for range in [(0, 40), (41, 127)] {
        let (mut part, _keyed) = fixture.open_range(range, operator(), &input(), Some(&checkpoint));
        part.process(rows_of_key_groups(&again, range)).unwrap();
        part.finish().unwrap();
        sums.extend(part.take_rows().iter().map(|row| row.split(", ").nth(1).unwrap().to_owned()));
    }
    assert_eq!(sums.len(), 2000);
    assert_eq!(sums.iter().filter(|s| *s == "3").count(), 1000);
    assert_eq!(sums.iter().filter(|s| *s == "1").count(), 1000);
}

#[test]
fn two_phases_give_what_one_gives() {
    let calls = || vec![call("COUNT", &[]), call("SUM", &[1]), call("COUNT", &[1]), call("AVG", &[1])];
    for (shape, window) in shapes().into_iter().enumerate() {
        for retracts in [false, true] {
            let single = v1::WindowAggregate { input_retracts: retracts, ..aggregate(window.clone(), &[0], calls()) };
            let local = v1::WindowAggregate { phase: v1::AggregatePhase::Local as i32, ..single.clone() };
            let between = hurtig_graph::aggregates::local_output(&[0], &calls(), &input(), retracts, true);
            let between = between.unwrap().unwrap();
            let global = v1::WindowAggregate {
                phase: v1::AggregatePhase::Global as i32,
                aggregate_input: Some(input().to_proto()),
                ..single.clone()
            };
            let local = Box::new(LocalAggregate::windowed(&local, &input()).unwrap());
            let mut local = Harness::open(local, HarnessConfig::fresh(vec![input()])).unwrap();
            let global = Box::new(WindowAggregate::new(&global, &between).unwrap());
            let mut global = Harness::open(global, HarnessConfig::fresh(vec![between])).unwrap();
            let mut single = open(&single);
            let mut oracle = Oracle {
                window: Window::from_spec(&window, &input(), true).unwrap(),
                watermark: i64::MIN,
                rows: BTreeMap::new(),
                late: 0,
            };
            let mut rows = Rows { random: Random(7), retracts, time: 0, live: Vec::new() };
            for step in 0..40 {
                let next = batch(&input(), &rows.next_batch(&mut oracle)).unwrap();
                local.process(next.clone()).unwrap();
                single.process(next).unwrap();
                let watermark = rows.advance();
                oracle.watermark = oracle.watermark.max(watermark);
                local.watermark(watermark).unwrap();
                for element in local.take() {
                    match element {
                        Emitted::Batch(batch) => global.process(batch).unwrap(),
                        Emitted::Watermark(w) => global.watermark(w).unwrap(),
                        Emitted::Idle(_) => {}
                    }
                }
                single.watermark(watermark).unwrap();
                let sorted = |harness: &mut Harness| {
                    let mut rows = harness.take_rows();
                    rows.sort();
                    rows
                };
                assert_eq!(sorted(&mut global), sorted(&mut single), "shape {shape} step {step}");
            }
        }
    }
}
