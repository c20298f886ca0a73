//! State that is larger than its memory.

use super::*;
use crate::operators::state_fixture::LaterExecutor;

const BUDGET: usize = 256 << 10;
const KEYS: u64 = 40_000;

/// Random rows of `KEYS` keys, summed up beside.
struct Sums {
    random: Random,
    expected: BTreeMap<i64, (i64, i64)>,
}

impl Sums {
    fn rows(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let (key, value) = (self.random.below(KEYS) as i64, self.random.below(1000) as i64);
                let entry = self.expected.entry(key).or_default();
                *entry = (entry.0 + 1, entry.1 + value);
                format!("{key}, {value}")
            })
            .collect()
    }

    /// Checks the last change of each key of a batch.
    fn check(&self, emitted: &[String]) {
        for row in emitted.iter().filter(|r| r.starts_with("+")) {
            let cells: Vec<i64> = row[3..row.len() - 1].split(", ").map(|c| c.parse().unwrap()).collect();
            assert_eq!(self.expected[&cells[0]], (cells[1], cells[2]), "{row}");
        }
        assert!(!emitted.is_empty());
    }
}

fn counts_and_sums() -> v1::GroupAggregate {
    v1::GroupAggregate {
        emit_update_before: false,
        ..aggregate(&[0], vec![call("COUNT", &[]), call("SUM", &[1])], false)
    }
}

#[test]
fn state_of_ten_times_its_memory_stays_right_and_within_bounds() {
    let input = schema(&["k BIGINT", "v BIGINT"]).unwrap();
    let fixture = StateFixture::with_memory(BUDGET);
    let operator = || Box::new(GroupAggregate::new(&counts_and_sums(), &input).unwrap());
    let (mut harness, mut keyed) = fixture.open(operator(), &input, None);
    let mut sums = Sums { random: Random(7), expected: BTreeMap::new() };
    let mut checkpoint = None;
    for step in 1..=120_u64 {
        let rows = sums.rows(1000);
        harness.process(batch(&input, &rows).unwrap()).unwrap();
        sums.check(&harness.take_rows());
        // Of what a batch brings in, some may have to stay until it is written.
        assert!(fixture.memory().used() <= BUDGET, "step {step}: {} bytes", fixture.memory().used());
        if step % 7 == 0 {
            checkpoint = Some(fixture.checkpoint(&mut harness, &keyed, step));
        }
        if step % 35 == 0 {
            drop((harness, keyed));
            (harness, keyed) = fixture.open(operator(), &input, checkpoint.as_ref());
        }
    }
    let everything = StateFixture::new();
    let (mut roomy, _keyed) = everything.open(operator(), &input, None);
    let all: Vec<String> = sums.expected.keys().map(|k| format!("{k}, 1")).collect();
    roomy.process(batch(&input, &all).unwrap()).unwrap();
    assert!(everything.memory().used() > 10 * BUDGET, "{} bytes", everything.memory().used());
}

#[test]
fn a_task_whose_memory_is_full_of_changes_waits_until_they_are_written() {
    let input = schema(&["k BIGINT", "v BIGINT"]).unwrap();
    let executor = Arc::new(LaterExecutor::default());
    let fixture = StateFixture::with_memory_and_executor(BUDGET, &executor);
    let operator = Box::new(GroupAggregate::new(&counts_and_sums(), &input).unwrap());
    let (mut harness, keyed) = fixture.open(operator, &input, None);
    let mut sums = Sums { random: Random(3), expected: BTreeMap::new() };
    let mut waited = 0;
    for step in 1..=60_u64 {
        let rows = sums.rows(1000);
        harness.process(batch(&input, &rows).unwrap()).unwrap();
        sums.check(&harness.take_rows());
        if step % 20 == 0 {
            // The checkpoint waits to be written: nothing may be written meanwhile, and nothing be forgotten.
            let snapshot = harness.snapshot(step).unwrap();
            harness.process(batch(&input, &sums.rows(3000)).unwrap()).unwrap();
            sums.check(&harness.take_rows());
            let queued = executor.run();
            assert!(queued <= 1, "only what was queued before");
            let target = hurtig_state::backend::SnapshotTarget::checkpoint("memory://c/job", step);
            keyed.snapshot(step, snapshot.keyed, &target).unwrap();
            keyed.confirm(step);
            harness.wake().unwrap();
        }
        while harness.operator.awaits_write_back() {
            waited += 1;
            executor.run();
            harness.wake().unwrap();
            assert!(waited < 10_000, "it waits for nothing");
        }
        assert!(fixture.memory().used() <= BUDGET, "step {step}: {} bytes", fixture.memory().used());
    }
    assert!(waited > 0, "memory was never full of changes");
}

#[test]
fn after_a_restore_everything_is_loaded_in_the_background_and_then_nothing_is_looked_up() {
    let input = schema(&["k BIGINT", "v BIGINT"]).unwrap();
    let fixture = StateFixture::new();
    let operator = || GroupAggregate::new(&counts_and_sums(), &input).unwrap();
    let (mut harness, keyed) = fixture.open(Box::new(operator()), &input, None);
    let rows: Vec<String> = (0..9000).map(|k| format!("{k}, 1")).collect();
    harness.process(batch(&input, &rows).unwrap()).unwrap();
    let checkpoint = fixture.checkpoint(&mut harness, &keyed, 1);
    let (mut harness, keyed) = fixture.open(Box::new(operator()), &input, Some(&checkpoint));
    harness.process(batch(&input, &["5, 1"]).unwrap()).unwrap();
    let mut pages = 0;
    while harness.operator.next_timer_ms().is_some() {
        harness.advance_clock(10).unwrap();
        pages += 1;
        assert!(pages < 1000);
    }
    assert!(pages >= 128, "a key group at a time: {pages}");
    // The database is emptied behind the operator's back: what it says now is from memory.
    let everything: FrozenCell = Box::new(|writer| writer.delete_range(&[0; 4], &[0xff; 4]));
    keyed.queue_write_back(vec![everything]).map_err(drop).unwrap();
    keyed.write_queued().unwrap();
    harness.take_rows();
    harness.process(batch(&input, &["5, 1", "8999, 1", "9000, 1"]).unwrap()).unwrap();
    assert_eq!(harness.take_rows(), ["+U(5, 3, 3)", "+U(8999, 2, 2)", "+I(9000, 1, 1)"]);
}

#[test]
fn what_expired_leaves_memory_and_database() {
    let input = schema(&["k BIGINT", "v BIGINT"]).unwrap();
    let fixture = StateFixture::with_memory(64 << 10);
    let description = v1::GroupAggregate { state_ttl_ms: 10_000, ..counts_and_sums() };
    let operator = || Box::new(GroupAggregate::new(&description, &input).unwrap());
    let (mut harness, keyed) = fixture.open(operator(), &input, None);
    let rows = |from: i64, to: i64| -> Vec<String> { (from..to).map(|k| format!("{k}, 1")).collect() };
    harness.process(batch(&input, &rows(0, 5000)).unwrap()).unwrap();
    harness.advance_clock(6_000).unwrap();
    harness.process(batch(&input, &rows(4000, 6000)).unwrap()).unwrap();
    fixture.checkpoint(&mut harness, &keyed, 1);
    harness.advance_clock(5_000).unwrap();
    harness.take_rows();
    // 0 is eleven seconds old, 4000 five.
    harness.process(batch(&input, &["0, 1", "4000, 1", "3999, 1"]).unwrap()).unwrap();
    assert_eq!(harness.take_rows(), ["+I(0, 1, 1)", "+U(4000, 3, 3)", "+I(3999, 1, 1)"]);
    fixture.checkpoint(&mut harness, &keyed, 2);
    keyed.compact().unwrap();
    let left = keyed.scan(&[0; 4], &[0xff; 4], usize::MAX).unwrap().len();
    assert_eq!(left, 2002, "4000 to 5999, 0 and 3999");
}
