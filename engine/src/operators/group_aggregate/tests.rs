//! Tests of GROUP BY: Flink's verified changelogs, and random changelogs against a row-at-a-time
//! oracle.

use std::collections::BTreeMap;

mod sets;
mod spill;

use super::*;
use crate::operators::local_aggregate::LocalAggregate;
use crate::operators::state_fixture::{Random, StateFixture, rows_of_key_groups};
use crate::operators::testing::{Harness, HarnessConfig, batch, schema};
use hurtig_state::backend::StateWriter;

fn call(function: &str, arguments: &[u32]) -> v1::AggregateCall {
    v1::AggregateCall {
        function: function.into(),
        arguments: arguments.to_vec(),
        name: format!("{function}{arguments:?}"),
        ..Default::default()
    }
}

fn aggregate(keys: &[u32], calls: Vec<v1::AggregateCall>, retracts: bool) -> v1::GroupAggregate {
    v1::GroupAggregate {
        keys: keys.to_vec(),
        aggregates: calls,
        input_retracts: retracts,
        emit_update_before: true,
        ..Default::default()
    }
}

fn open(aggregate: &v1::GroupAggregate, input: &RowSchema) -> Harness {
    let operator = Box::new(GroupAggregate::new(aggregate, input).unwrap());
    Harness::open(operator, HarnessConfig::fresh(vec![input.clone()])).unwrap()
}

/// Runs each row as a batch of its own.
fn row_by_row(harness: &mut Harness, input: &RowSchema, rows: &[&str]) -> Vec<String> {
    rows.iter().for_each(|row| harness.process(batch(input, &[row]).unwrap()).unwrap());
    harness.take_rows()
}

#[test]
fn every_row_gives_the_changes_that_flink_gives() {
    let input = schema(&["k STRING", "v INT"]).unwrap();
    let calls = vec![call("COUNT", &[]), call("SUM", &[1]), call("MAX", &[1]), call("MIN", &[1]), call("AVG", &[1])];
    let mut harness = open(&aggregate(&[0], calls, false), &input);
    let rows = row_by_row(&mut harness, &input, &["a, 10", "b, 20", "a, 30", "a, 5", "c, null"]);
    assert_eq!(
        rows,
        [
            "+I(a, 1, 10, 10, 10, 10)",
            "+I(b, 1, 20, 20, 20, 20)",
            "-U(a, 1, 10, 10, 10, 10)",
            "+U(a, 2, 40, 30, 10, 20)",
            "-U(a, 2, 40, 30, 10, 20)",
            "+U(a, 3, 45, 30, 5, 15)",
            "+I(c, 1, null, null, null, null)",
        ]
    );
}

#[test]
fn an_update_of_the_only_row_of_a_key_passes_through_a_delete() {
    let input = schema(&["id INT", "k STRING", "v INT"]).unwrap();
    let calls = vec![
        call("COUNT", &[]),
        call("SUM", &[2]),
        call("MAX", &[2]),
        v1::AggregateCall { distinct: true, ..call("COUNT", &[2]) },
    ];
    let mut harness = open(&aggregate(&[1], calls, true), &input);
    let rows = ["+I(1, a, 10)", "+I(2, a, 20)", "-U(2, a, 20)", "+U(2, b, 25)", "-U(1, a, 10)", "+U(1, a, 11)"];
    assert_eq!(
        row_by_row(&mut harness, &input, &rows),
        [
            "+I(a, 1, 10, 10, 1)",
            "-U(a, 1, 10, 10, 1)",
            "+U(a, 2, 30, 20, 2)",
            "-U(a, 2, 30, 20, 2)",
            "+U(a, 1, 10, 10, 1)",
            "+I(b, 1, 25, 25, 1)",
            "-D(a, 1, 10, 10, 1)",
            "+I(a, 1, 11, 11, 1)",
        ]
    );
}

#[test]
fn a_batch_emits_one_net_change_a_key_ordered_by_the_last_row() {
    let input = schema(&["k STRING", "v INT"]).unwrap();
    let mut harness = open(&aggregate(&[0], vec![call("SUM", &[1])], false), &input);
    harness.process(batch(&input, &["a, 1", "b, 2", "a, 3", "c, null"]).unwrap()).unwrap();
    assert_eq!(harness.take_rows(), ["+I(b, 2)", "+I(a, 4)", "+I(c, null)"]);
    // The sum of b does not change, so nothing is emitted for it.
    harness.process(batch(&input, &["b, 0", "a, 1"]).unwrap()).unwrap();
    assert_eq!(harness.take_rows(), ["-U(a, 4)", "+U(a, 5)"]);
}

#[test]
fn retractions_of_unknown_rows_are_ignored_wherever_batches_are_cut() {
    let input = schema(&["v INT"]).unwrap();
    let rows = ["+I(10)", "-D(10)", "-D(10)", "+I(3)"];
    for cut in 0..=rows.len() {
        let mut harness = open(&aggregate(&[], vec![call("COUNT", &[]), call("SUM", &[0])], true), &input);
        for part in [&rows[..cut], &rows[cut..]] {
            harness.process(batch(&input, part).unwrap()).unwrap();
        }
        let changes = harness.take_rows();
        let last = changes.last().map(|c| c[2..].to_owned());
        assert_eq!(last.as_deref(), Some("(1, 3)"), "cut at {cut}: {changes:?}");
    }
}

#[test]
fn a_global_aggregate_has_no_row_before_the_first_input_and_none_when_all_is_taken_back() {
    let input = schema(&["v INT"]).unwrap();
    let mut harness = open(&aggregate(&[], vec![call("COUNT", &[])], true), &input);
    harness.watermark(5).unwrap();
    assert!(harness.take_rows().is_empty());
    let rows = row_by_row(&mut harness, &input, &["+I(1)", "-D(1)", "+I(2)"]);
    assert_eq!(rows, ["+I(1)", "-D(1)", "+I(1)"]);
}

#[test]
fn update_before_is_left_out_where_nobody_needs_it() {
    let input = schema(&["k INT", "v INT"]).unwrap();
    let description =
        v1::GroupAggregate { emit_update_before: false, ..aggregate(&[0], vec![call("COUNT", &[])], false) };
    let mut harness = open(&description, &input);
    assert_eq!(row_by_row(&mut harness, &input, &["1, 0", "1, 0", "null, 0"]), ["+I(1, 1)", "+U(1, 2)", "+I(null, 1)"]);
}

#[test]
fn a_distinct_select_emits_a_row_once() {
    let input = schema(&["a INT", "b STRING"]).unwrap();
    let mut harness = open(&aggregate(&[0, 1], vec![], false), &input);
    assert_eq!(row_by_row(&mut harness, &input, &["1, x", "1, x", "1, y"]), ["+I(1, x)", "+I(1, y)"]);
}

#[test]
fn with_a_time_to_live_unchanged_results_are_emitted_and_old_keys_start_anew() {
    let input = schema(&["k INT", "v INT"]).unwrap();
    let description = v1::GroupAggregate { state_ttl_ms: 1000, ..aggregate(&[0], vec![call("MAX", &[1])], false) };
    let mut harness = open(&description, &input);
    assert_eq!(row_by_row(&mut harness, &input, &["1, 5", "1, 3"]), ["+I(1, 5)", "-U(1, 5)", "+U(1, 5)"]);
    harness.advance_clock(999).unwrap();
    assert_eq!(row_by_row(&mut harness, &input, &["1, 4"]), ["-U(1, 5)", "+U(1, 5)"]);
    harness.advance_clock(1000).unwrap();
    assert_eq!(row_by_row(&mut harness, &input, &["1, 2"]), ["+I(1, 2)"]);
}

/// A row-at-a-time interpreter: the rows of each key in order of arrival.
#[derive(Default)]
struct Oracle {
    rows: BTreeMap<Option<i64>, Vec<Option<i64>>>,
}

impl Oracle {
    fn apply(&mut self, sign: i64, key: Option<i64>, value: Option<i64>) {
        let rows = self.rows.entry(key).or_default();
        if sign > 0 {
            rows.push(value);
        } else if let Some(oldest) = rows.iter().position(|v| *v == value) {
            rows.remove(oldest);
        }
        if rows.is_empty() {
            self.rows.remove(&key);
        }
    }

    /// COUNT(*), COUNT(v), SUM, MIN, MAX, AVG, COUNT(DISTINCT), FIRST_VALUE, LAST_VALUE by key.
    fn result(&self) -> BTreeMap<String, String> {
        let text = |v: Option<i64>| v.map_or("null".to_owned(), |v| v.to_string());
        let of = |values: &[Option<i64>]| {
            let some: Vec<i64> = values.iter().flatten().copied().collect();
            let sum = (!some.is_empty()).then(|| some.iter().sum::<i64>());
            let mut distinct = some.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let columns = [
                Some(values.len() as i64),
                Some(some.len() as i64),
                sum,
                some.iter().min().copied(),
                some.iter().max().copied(),
                sum.map(|s| s / some.len() as i64),
                Some(distinct.len() as i64),
                some.first().copied(),
                some.last().copied(),
            ];
            columns.map(text).join(", ")
        };
        self.rows.iter().map(|(key, values)| (text(*key), of(values))).collect()
    }
}

fn oracle_calls() -> Vec<v1::AggregateCall> {
    vec![
        call("COUNT", &[]),
        call("COUNT", &[1]),
        call("SUM", &[1]),
        call("MIN", &[1]),
        call("MAX", &[1]),
        call("AVG", &[1]),
        v1::AggregateCall { distinct: true, ..call("COUNT", &[1]) },
        call("FIRST_VALUE", &[1]),
        call("LAST_VALUE", &[1]),
    ]
}

/// Applies emitted changes, checking that each fits what is there.
fn materialise(table: &mut BTreeMap<String, String>, changes: &[String]) {
    let mut touched = std::collections::BTreeSet::new();
    let mut awaiting: Option<String> = None;
    for change in changes {
        let (kind, row) = change.split_at(2);
        let row = row.trim_start_matches('(').trim_end_matches(')');
        let (key, result) = row.split_once(", ").unwrap();
        assert!(awaiting.is_none() || awaiting.as_deref() == Some(key), "-U and +U are adjacent: {changes:?}");
        match kind {
            "+I" => assert_eq!(table.insert(key.into(), result.into()), None, "{change}"),
            "-U" => assert_eq!(table.remove(key).as_deref(), Some(result), "{change}"),
            "+U" => assert_eq!(table.insert(key.into(), result.into()), None, "{change}"),
            _ => assert_eq!(table.remove(key).as_deref(), Some(result), "{change}"),
        }
        awaiting = (kind == "-U").then(|| key.to_owned());
        assert!(kind == "+U" || touched.insert(key.to_owned()), "one net change a key: {changes:?}");
    }
}

/// Random rows, of which those taken back are there, or else of keys without rows.
struct Changelog {
    random: Random,
    retracts: bool,
    /// Retractions of keys without rows occur.
    unknown: bool,
    live: Vec<(Option<i64>, Option<i64>)>,
    oracle: Oracle,
}

impl Changelog {
    fn new(seed: u64, retracts: bool) -> Changelog {
        Changelog { random: Random(seed), retracts, unknown: true, live: Vec::new(), oracle: Oracle::default() }
    }

    fn next_batch(&mut self, keys: u64) -> Vec<String> {
        let text = |v: Option<i64>| v.map_or("null".to_owned(), |v| v.to_string());
        let mut rows = Vec::new();
        for _ in 0..=self.random.below(20) {
            let random = &mut self.random;
            let back = self.retracts && random.below(2) == 0;
            let (kind, (key, value)) = if back && !self.live.is_empty() && random.below(8) > 0 {
                ("-D", self.live.remove(random.below(self.live.len() as u64) as usize))
            } else {
                let key = (random.below(6) > 0).then(|| random.below(keys) as i64);
                let value = (random.below(6) > 0).then(|| random.below(9) as i64 - 4);
                let unknown = self.unknown && back && !self.live.iter().any(|(k, _)| *k == key);
                if !unknown {
                    self.live.push((key, value));
                }
                (if unknown { "-D" } else { "+I" }, (key, value))
            };
            self.oracle.apply(if kind == "+I" { 1 } else { -1 }, key, value);
            rows.push(format!("{kind}({}, {})", text(key), text(value)));
        }
        rows
    }
}

#[test]
fn random_changelogs_give_what_a_row_at_a_time_interpreter_gives() {
    let input = schema(&["k BIGINT", "v INT"]).unwrap();
    for seed in 0..40 {
        let mut changelog = Changelog::new(seed, seed % 2 == 0);
        let mut harness = open(&aggregate(&[0], oracle_calls(), changelog.retracts), &input);
        let mut table = BTreeMap::new();
        for _ in 0..30 {
            let rows = changelog.next_batch(5);
            harness.process(batch(&input, &rows).unwrap()).unwrap();
            materialise(&mut table, &harness.take_rows());
            assert_eq!(table, changelog.oracle.result(), "seed {seed} after {rows:?}");
        }
    }
}

#[test]
fn a_restore_at_any_point_changes_nothing() {
    // A fixed-width key and an encoded one.
    for key in ["k BIGINT", "k STRING"] {
        (0..3).for_each(|seed| restores_change_nothing(key, seed, StateFixture::new()));
    }
}

#[test]
fn state_of_any_residence_gives_the_same() {
    for key in ["k BIGINT", "k STRING"] {
        for seed in 10..14 {
            // Next to nothing stays in memory; some does.
            restores_change_nothing(key, seed, StateFixture::with_memory(1));
            restores_change_nothing(key, seed, StateFixture::with_memory(4_000));
            // Carried in the acknowledgement, always or until it is too large.
            restores_change_nothing(key, seed, StateFixture::with_inline_state(1 << 20));
            restores_change_nothing(key, seed, StateFixture::with_inline_state(1_000));
        }
    }
}

fn restores_change_nothing(key: &str, seed: u64, fixture: StateFixture) {
    let input = schema(&[key, "v INT"]).unwrap();
    let mut changelog = Changelog::new(seed, seed.is_multiple_of(2));
    let description = aggregate(&[0], oracle_calls(), changelog.retracts);
    let operator = || Box::new(GroupAggregate::new(&description, &input).unwrap());
    let (mut harness, mut keyed) = fixture.open(operator(), &input, None);
    let mut table = BTreeMap::new();
    for step in 0..40 {
        let rows = changelog.next_batch(12);
        harness.process(batch(&input, &rows).unwrap()).unwrap();
        materialise(&mut table, &harness.take_rows());
        assert_eq!(table, changelog.oracle.result(), "{key} seed {seed} step {step}");
        // Background loading, where a restore left something.
        harness.advance_clock(3).unwrap();
        if changelog.random.below(5) > 0 {
            continue;
        }
        let checkpoint = fixture.checkpoint(&mut harness, &keyed, step + 1);
        if changelog.random.below(2) == 0 {
            // What a lost attempt did after the checkpoint leaves no trace.
            harness.process(batch(&input, &["+I(1, 77)", "+I(3, 78)"]).unwrap()).unwrap();
            drop((harness, keyed));
            (harness, keyed) = fixture.open(operator(), &input, Some(&checkpoint));
        }
    }
}

#[test]
fn the_bytes_of_the_state_are_as_documented() {
    /// Collects what is written.
    #[derive(Default)]
    struct Written(Vec<(String, String)>);
    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
    impl StateWriter for Written {
        fn put(&mut self, key: &[u8], value: &[u8]) -> hurtig_state::error::Result<()> {
            self.0.push((hex(key), hex(value)));
            Ok(())
        }
        fn delete(&mut self, key: &[u8]) -> hurtig_state::error::Result<()> {
            self.0.push((hex(key), "deleted".into()));
            Ok(())
        }
        fn delete_range(&mut self, _: &[u8], _: &[u8]) -> hurtig_state::error::Result<()> {
            unreachable!("groups are deleted one by one")
        }
    }
    let input = schema(&["k BIGINT", "v INT", "s STRING"]).unwrap();
    let calls = vec![
        call("COUNT", &[]),
        call("SUM", &[1]),
        call("MAX", &[1]),
        call("LISTAGG", &[2]),
        v1::AggregateCall { distinct: true, ..call("COUNT", &[1]) },
    ];
    let mut harness = open(&aggregate(&[0], calls, true), &input);
    harness.process(batch(&input, &["+I(7, -2, ab)", "+I(7, 3, null)"]).unwrap()).unwrap();
    let mut written = Written::default();
    harness.snapshot(1).unwrap().keyed.into_iter().for_each(|cell| cell(&mut written).unwrap());
    let (minus_two, three) = ("7ffffffffffffffe", "8000000000000003");
    let value = [
        "01010100".to_owned(),
        "0200000000000000".into(),
        "0200000000000000".into(),
        "01000000000000000200000000000000".into(),
        format!("0200000008000000{minus_two}010000000000000008000000{three}0100000000000000"),
        "0100000001020000006162".into(),
        format!("020000000900000001{minus_two}01000000000000000900000001{three}0100000000000000"),
        "0200000000000000".into(),
    ];
    // Key group and table, then the key.
    assert_eq!(written.0.len(), 1);
    assert_eq!(&written.0[0].0[8..], "018000000000000007");
    assert_eq!(written.0[0].1, value.concat());
}

#[test]
fn keys_are_where_their_rows_go_after_a_change_of_parallelism() {
    let input = schema(&["k STRING", "v INT"]).unwrap();
    let fixture = StateFixture::new();
    let description = aggregate(&[0], vec![call("SUM", &[1])], false);
    let operator = || Box::new(GroupAggregate::new(&description, &input).unwrap());
    let (mut harness, keyed) = fixture.open(operator(), &input, None);
    let rows = |value: i32| -> Vec<String> { (0..200).map(|i| format!("key {i}, {value}")).collect() };
    harness.process(batch(&input, &rows(1)).unwrap()).unwrap();
    let checkpoint = fixture.checkpoint(&mut harness, &keyed, 1);
    let again = batch(&input, &rows(2)).unwrap();
    let mut emitted = Vec::new();
    for range in [(0, 63), (64, 127)] {
        let (mut half, _keyed) = fixture.open_range(range, operator(), &input, Some(&checkpoint));
        half.process(rows_of_key_groups(&again, range)).unwrap();
        emitted.push(half.take_rows());
    }
    assert!(emitted.iter().all(|rows| rows.len() > 100), "both halves have keys");
    let all: Vec<String> = emitted.concat();
    assert_eq!(all.len(), 400);
    assert!(all.iter().all(|row| row.starts_with("-U") && row.ends_with(", 1)") || row.ends_with(", 3)")), "{all:?}");
}

#[test]
fn a_checkpoint_holds_the_state_at_the_barrier_while_rows_go_on() {
    let input = schema(&["k BIGINT", "v INT"]).unwrap();
    let fixture = StateFixture::new();
    let description = aggregate(&[0], vec![call("SUM", &[1])], false);
    let operator = || Box::new(GroupAggregate::new(&description, &input).unwrap());
    let (mut harness, keyed) = fixture.open(operator(), &input, None);
    harness.process(batch(&input, &["1, 10", "2, 20"]).unwrap()).unwrap();
    let snapshot = harness.snapshot(1).unwrap();
    // The write-back runs after these rows.
    harness.process(batch(&input, &["1, 1", "3, 3"]).unwrap()).unwrap();
    let target = hurtig_state::backend::SnapshotTarget::checkpoint("memory://c/job", 1);
    let state = keyed.snapshot(1, snapshot.keyed, &target).unwrap();
    let checkpoint = crate::operators::state_fixture::Checkpoint {
        number: 1,
        keyed: state,
        restored: crate::operator::RestoredState::default(),
    };
    let (mut harness, _keyed) = fixture.open(operator(), &input, Some(&checkpoint));
    harness.process(batch(&input, &["1, 0", "2, 5", "3, 7"]).unwrap()).unwrap();
    assert_eq!(harness.take_rows(), ["-U(2, 20)", "+U(2, 25)", "+I(3, 7)"]);
}

#[test]
fn two_phases_give_what_one_gives() {
    let input = schema(&["k STRING", "v INT"]).unwrap();
    let calls = || vec![call("COUNT", &[]), call("COUNT", &[1]), call("SUM", &[1]), call("AVG", &[1])];
    for seed in 0..10 {
        let mut changelog = Changelog::new(seed, seed % 2 == 0);
        let single = aggregate(&[0], calls(), changelog.retracts);
        let local = v1::GroupAggregate { phase: v1::AggregatePhase::Local as i32, ..single.clone() };
        let between = hurtig_graph::aggregates::local_output(&[0], &calls(), &input, changelog.retracts, false);
        let between = between.unwrap().unwrap();
        let global = v1::GroupAggregate {
            phase: v1::AggregatePhase::Global as i32,
            aggregate_input: Some(input.to_proto()),
            ..single.clone()
        };
        let config = || HarnessConfig::fresh(vec![input.clone()]);
        let mut locals: Vec<Harness> = (0..2)
            .map(|_| Harness::open(Box::new(LocalAggregate::grouped(&local, &input).unwrap()), config()).unwrap())
            .collect();
        let (mut single, mut global) = (open(&single, &input), open(&global, &between));
        let (mut expected, mut table) = (BTreeMap::new(), BTreeMap::new());
        // A retraction of an unknown key counts behind a local phase.
        changelog.unknown = false;
        for step in 0..30_usize {
            let rows = changelog.next_batch(4);
            single.process(batch(&input, &rows).unwrap()).unwrap();
            materialise(&mut expected, &single.take_rows());
            let local = &mut locals[step % 2];
            local.process(batch(&input, &rows).unwrap()).unwrap();
            local.snapshot(1).unwrap();
            local.take_batches().into_iter().for_each(|b| global.process(b).unwrap());
            materialise(&mut table, &global.take_rows());
            assert_eq!(table, expected, "seed {seed} step {step}");
        }
    }
}

#[test]
fn a_filtered_count_that_does_not_change_is_not_emitted_behind_a_local_phase() {
    let input = schema(&["k STRING", "f BOOLEAN"]).unwrap();
    let call = v1::AggregateCall { filter: Some(1), ..call("COUNT", &[]) };
    let between = hurtig_graph::aggregates::local_output(&[0], std::slice::from_ref(&call), &input, false, false);
    let between = between.unwrap().unwrap();
    let global = v1::GroupAggregate {
        phase: v1::AggregatePhase::Global as i32,
        aggregate_input: Some(input.to_proto()),
        ..aggregate(&[0], vec![call], false)
    };
    let mut harness = open(&global, &between);
    let rows = row_by_row(&mut harness, &between, &["a, 1", "b, 0", "a, 0", "b, 1"]);
    assert_eq!(rows, ["+I(a, 1)", "+I(b, 0)", "-U(b, 0)", "+U(b, 1)"]);
}

#[test]
fn zero_and_minus_zero_are_one_key_in_all_batches() {
    let input = schema(&["k DOUBLE"]).unwrap();
    let mut harness = open(&aggregate(&[0], vec![call("COUNT", &[])], false), &input);
    let rows = row_by_row(&mut harness, &input, &["-0.0", "0.0"]);
    assert_eq!(rows, ["+I(0.0, 1)", "-U(0.0, 1)", "+U(0.0, 2)"]);
}
